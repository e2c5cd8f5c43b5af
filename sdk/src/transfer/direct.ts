import { blockBytes } from "./blocks.js";
import { free } from "./free.js";
import { localPaths } from "./path.js";
import type { Store } from "./store.js";
import type { Entry } from "./wire.js";

// Files that go where the user has chosen, without a second copy. A browser writes into a swap file, which gets the file's name when it is closed:
// that is done for each file as soon as its root is right, and not before, so that whatever has its name is whole. Until then the name is kept by an
// empty `NAME.madang-part`.

/** A file that the user has named, for a transfer of one, or a folder in which the files of a transfer are made. */
export type Target = FileSystemFileHandle | FileSystemDirectoryHandle;

const partSuffix = ".madang-part";
/** Files of one block are written when they are whole; so many wait for it in memory, and so many are written at a time. */
const smallBytes = 32 << 20;
const smallAtOnce = 4;

/** A file on its way. */
interface Writing {
	readonly stream: FileSystemWritableFileStream;
	/** After its end: nothing else is left of it. */
	release(whole: boolean): Promise<void>;
}

export class DirectStore implements Store {
	readonly kind = "direct";
	readonly found = [];
	readonly #target: Target;
	readonly #entries: readonly Entry[];
	readonly #paths: readonly string[];
	readonly #writing = new Map<number, Promise<Writing>>();
	/** Their only block. */
	readonly #small = new Map<number, Uint8Array<ArrayBuffer>>();
	#smallSum = 0;
	#smallBusy = 0;
	#room: (() => void)[] = [];
	readonly #settling = new Set<Promise<void>>();
	#failure: unknown;
	#over = false;
	/** Names are chosen one after the other. */
	#naming: Promise<unknown> = Promise.resolve();
	/** By the path of the transfer. */
	readonly #folders = new Map<string, Promise<FileSystemDirectoryHandle>>();

	constructor(target: Target, entries: readonly Entry[]) {
		this.#target = target;
		this.#entries = entries;
		this.#paths = localPaths(entries);
	}

	async write(file: number, block: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
		while (this.#smallSum >= smallBytes && !this.#over && !this.#failure) {
			await new Promise<void>((resolve) => this.#room.push(resolve));
		}
		if (this.#failure) throw this.#failure;
		const size = this.#entries[file]?.size ?? null;
		if (size !== null && size <= blockBytes) {
			this.#smallSum += bytes.length - (this.#small.get(file)?.length ?? 0);
			this.#small.set(file, bytes);
			return;
		}
		const { stream } = await this.#begun(file);
		await stream.write({ type: "write", position: block * blockBytes, data: bytes });
		free(bytes.buffer);
	}

	/** What is being written into such a file cannot be read before it is closed. */
	async read(): Promise<null> {
		return null;
	}

	async flush(): Promise<void> {}

	settle(file: number, whole: boolean): void {
		const settling = this.#settle(file, whole)
			.catch((error: unknown) => {
				this.#failure ??= error;
				this.#wake();
			})
			.finally(() => this.#settling.delete(settling));
		this.#settling.add(settling);
	}

	async #settle(file: number, whole: boolean): Promise<void> {
		if (!whole) {
			const writing = this.#writing.get(file);
			this.#writing.delete(file);
			this.#forgetSmall(file);
			if (writing) await undo(writing);
			return;
		}
		while (this.#smallBusy >= smallAtOnce && !this.#over) {
			await new Promise<void>((resolve) => this.#room.push(resolve));
		}
		if (this.#over) return;
		this.#smallBusy++;
		try {
			const { stream, release } = await this.#begun(file);
			const small = this.#small.get(file);
			if (small) await stream.write(small);
			await stream.close();
			this.#writing.delete(file);
			await release(true);
		} finally {
			this.#smallBusy--;
			this.#forgetSmall(file);
			this.#wake();
		}
	}

	#forgetSmall(file: number): void {
		this.#smallSum -= this.#small.get(file)?.length ?? 0;
		this.#small.delete(file);
	}

	#wake(): void {
		for (const resolve of this.#room.splice(0)) resolve();
	}

	async finish(files: readonly number[], folders: readonly number[]): Promise<null[]> {
		await Promise.all(this.#settling);
		if (this.#failure) throw this.#failure;
		for (const folder of folders) await this.#folder(this.#paths[folder] as string);
		await this.#undo(); // what was not wanted any more
		return files.map(() => null);
	}

	/** What has its name stays; nothing is left of the others. */
	async close(): Promise<void> {
		this.#over = true;
		this.#wake();
		await Promise.all(this.#settling);
		this.#small.clear();
		await this.#undo();
	}

	async #undo(): Promise<void> {
		const writing = [...this.#writing.values()];
		this.#writing.clear();
		await Promise.allSettled(writing.map(undo));
	}

	discard(): Promise<void> {
		return this.close();
	}

	#begun(file: number): Promise<Writing> {
		let writing = this.#writing.get(file);
		if (!writing) {
			if (isFile(this.#target) && this.#entries.length > 1) throw new TypeError("one file for several");
			writing = this.#begin(this.#paths[file] as string);
			this.#writing.set(file, writing);
		}
		return writing;
	}

	async #begin(path: string): Promise<Writing> {
		const target = this.#target;
		if (isFile(target)) {
			const stream = await target.createWritable();
			return { stream, release: async (whole) => (whole ? undefined : removeEmpty(target)) };
		}
		const slash = path.lastIndexOf("/");
		const parent = await this.#folder(path.slice(0, Math.max(slash, 0)));
		const name = await this.#keepName(parent, path.slice(slash + 1));
		const release = () => parent.removeEntry(name + partSuffix);
		try {
			// A handle is had of a file that is there only; the stream needs none.
			const handle = await parent.getFileHandle(name, { create: true });
			await parent.removeEntry(name);
			return { stream: await handle.createWritable(), release };
		} catch (error) {
			await release().catch(() => {});
			throw error;
		}
	}

	/** Keeps a name that nobody has: nothing of the user's is replaced. */
	#keepName(parent: FileSystemDirectoryHandle, name: string): Promise<string> {
		const kept = this.#naming.then(async () => {
			const free = await firstAllowed(name, async (candidate) =>
				(await isTaken(parent, candidate)) || (await isTaken(parent, candidate + partSuffix)) ? null : candidate,
			);
			await parent.getFileHandle(free + partSuffix, { create: true });
			return free;
		});
		this.#naming = kept.catch(() => {});
		return kept;
	}

	#folder(path: string): Promise<FileSystemDirectoryHandle> {
		if (path === "") return Promise.resolve(this.#target as FileSystemDirectoryHandle);
		let folder = this.#folders.get(path);
		if (!folder) {
			const slash = path.lastIndexOf("/");
			folder = this.#folder(path.slice(0, Math.max(slash, 0))).then((parent) =>
				firstAllowed(path.slice(slash + 1), (name) =>
					parent.getDirectoryHandle(name, { create: true }).catch((error: DOMException) => {
						if (error.name === "TypeMismatchError") return null; // a file has this name
						throw error;
					}),
				),
			);
			this.#folders.set(path, folder);
		}
		return folder;
	}
}

const isFile = (target: Target): target is FileSystemFileHandle => target.kind === "file";

/** Ends a file that is not whole. */
async function undo(writing: Promise<Writing>): Promise<void> {
	const { stream, release } = await writing;
	await stream.abort();
	await release(false);
}

/** A file that the user has named is made by the browser at once. Empty, it is not what the user wanted. */
async function removeEmpty(handle: FileSystemFileHandle & { remove?(): Promise<void> }): Promise<void> {
	if ((await handle.getFile()).size === 0) await handle.remove?.();
}

async function isTaken(parent: FileSystemDirectoryHandle, name: string): Promise<boolean> {
	try {
		await parent.getFileHandle(name);
		return true;
	} catch (error) {
		const { name: kind } = error as DOMException;
		if (kind === "NotFoundError") return false;
		if (kind === "TypeMismatchError") return true; // a folder has it
		throw error;
	}
}

/**
 * Tries `name`, `name (2)` and so on until one is taken. Names that the browser does not allow anywhere, such as those of shortcuts, get a `_` on both
 * ends; any other error is not one of names.
 */
async function firstAllowed<T>(name: string, take: (name: string) => Promise<T | null>): Promise<T> {
	let allowed = name;
	for (let n = 1; ; n++) {
		const dot = allowed.lastIndexOf(".");
		const [stem, extension] = dot > 0 ? [allowed.slice(0, dot), allowed.slice(dot)] : [allowed, ""];
		try {
			const taken = await take(n === 1 ? allowed : `${stem} (${n})${extension}`);
			if (taken !== null) return taken;
		} catch (error) {
			if (!(error instanceof TypeError) || allowed !== name) throw error;
			allowed = `_${name}_`;
			n = 0;
		}
	}
}
