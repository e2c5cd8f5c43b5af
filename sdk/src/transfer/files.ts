import type { Entry } from "./wire.js";

/** A file to send, with its place in the folder that was chosen. */
export interface Chosen {
	readonly path: string;
	/** `null` for an empty folder. */
	readonly file: File | null;
}

/** The files of an `<input type="file">`, with `webkitdirectory` or without. */
export function chosenFiles(list: Iterable<File>): Chosen[] {
	return unique(Array.from(list, (file) => ({ path: file.webkitRelativePath || file.name, file })));
}

/**
 * What was dropped: files, and folders with all that is in them. To be called in the `drop` event itself; what is dropped can be asked for only
 * there.
 */
export function droppedFiles(data: DataTransfer): Promise<Chosen[]> {
	const entries = Array.from(data.items, (item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
	const plain = Array.from(data.files);
	const found = entries.filter((entry) => entry !== null);
	if (found.length === 0) return Promise.resolve(chosenFiles(plain));
	return Promise.all(found.map((entry) => walk(entry, ""))).then((lists) => unique(lists.flat()));
}

async function walk(entry: FileSystemEntry, parent: string): Promise<Chosen[]> {
	const path = parent ? `${parent}/${entry.name}` : entry.name;
	if (entry.isFile) {
		const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
		return [{ path, file }];
	}
	const reader = (entry as FileSystemDirectoryEntry).createReader();
	const children: FileSystemEntry[] = [];
	for (;;) {
		// In pieces; an empty one is the end.
		const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
		if (some.length === 0) break;
		children.push(...some);
	}
	if (children.length === 0) return [{ path, file: null }];
	const lists = await Promise.all(children.map((child) => walk(child, path)));
	return lists.flat();
}

/** Two files of the same path: the second is called `name (2)`. */
function unique(all: readonly Chosen[]): Chosen[] {
	const taken = new Set<string>();
	return all.map(({ path, file }) => {
		const slash = path.lastIndexOf("/") + 1;
		const dot = path.lastIndexOf(".");
		const stem = dot > slash ? path.slice(0, dot) : path;
		const extension = path.slice(stem.length);
		let name = path;
		for (let n = 2; taken.has(name); n++) name = `${stem} (${n})${extension}`;
		taken.add(name);
		return { path: name, file };
	});
}

/** Names alone: for sizes and times a browser may have to look at the disk, which takes seconds for thousands of files. */
export function toNames(chosen: readonly Chosen[]): Entry[] {
	return chosen.map(({ path, file }) => {
		const name = path.toWellFormed();
		return file ? { path: name, size: null } : { path: name, size: 0, dir: true };
	});
}

/** The same with sizes and times. */
export function measure(names: readonly Entry[], files: readonly (File | null)[]): Entry[] {
	return names.map((entry, index) => {
		const file = files[index];
		return file ? { path: entry.path, size: file.size, mtimeMs: file.lastModified } : entry;
	});
}
