// Paths of files, and their names on a receiver's disk: docs/transfer.md §11.

const utf8 = new TextEncoder();

/** Whether a path may be in a manifest. */
export function isPath(path: unknown): path is string {
	// A lone surrogate is no UTF-8.
	if (typeof path !== "string" || !path.isWellFormed() || utf8.encode(path).length > 4_096) return false;
	return path
		.split("/")
		.every(
			(part) => part !== "" && part !== "." && part !== ".." && !part.includes("\0") && utf8.encode(part).length <= 255,
		);
}

const reserved = /^(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])$/i;

/** A name that Windows can hold as well; other systems can hold it too. */
export function windowsName(name: string): string {
	let safe = Array.from(name, (c) => (c < " " || '<>:"\\|?*'.includes(c) ? "_" : c)).join("");
	if (safe.endsWith(".") || safe.endsWith(" ")) safe = `${safe.slice(0, -1)}_`;
	const stem = (safe.split(".")[0] as string).replace(/ +$/, "");
	return reserved.test(stem) ? `_${safe}` : safe;
}

/**
 * Local paths for the files of a manifest, in its order. A browser does not say on what kind of disk it saves, so names are made for the most
 * particular one: characters that Windows forbids are replaced, and case makes no difference.
 */
export function localPaths(
	entries: readonly { readonly path: string; readonly dir?: boolean | undefined }[],
): string[] {
	const taken = new Set<string>();
	const folders = new Map<string, string>([["", ""]]);
	const fold = (name: string) => name.normalize("NFC").toLowerCase().normalize("NFC");
	const unique = (parent: string, base: string): string => {
		const name = windowsName(base);
		const dot = name.lastIndexOf(".");
		const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
		const at = (n: number) => `${parent ? `${parent}/` : ""}${n === 1 ? name : `${stem} (${n})${extension}`}`;
		let n = 1;
		while (taken.has(fold(at(n)))) n++;
		taken.add(fold(at(n)));
		return at(n);
	};
	const split = (path: string) => {
		const slash = path.lastIndexOf("/");
		return [path.slice(0, Math.max(slash, 0)), path.slice(slash + 1)] as const;
	};
	const folder = (path: string): string => {
		const known = folders.get(path);
		if (known !== undefined) return known;
		const [parent, base] = split(path);
		const name = unique(folder(parent), base);
		folders.set(path, name);
		return name;
	};
	return entries.map(({ path, dir }) => {
		if (dir) return folder(path);
		const [parent, base] = split(path);
		return unique(folder(parent), base);
	});
}
