import { blockBytes } from "./blocks.js";
import { free } from "./free.js";
import { decodeJournal, type Entry, encodeHeader, encodeRecords } from "./journal.js";

// Where received blocks go. Three places, from the best to the least (docs/transfer.md, "Where a browser puts it"):
//
//   staging   a folder of the origin's private file system, with a journal: survives reload, crash and restart
//   direct    where the user has chosen (direct.ts): no second copy, but lost with the page
//   memory    where the browser offers nothing else, for little
//
// A store is used by one worker; only verified blocks are given to it.

export interface Store {
	readonly kind: "staging" | "direct" | "memory";
	/** What was there when it was opened. */
	readonly found: readonly Entry[];
	/** Takes a block, and the buffer of its bytes for good. */
	write(file: number, block: number, bytes: Uint8Array<ArrayBuffer>, hash: Uint8Array): Promise<void>;
	/** Reads a block that was written, into a buffer of its own; `null` where that is not possible. */
	read(file: number, block: number, bytes: number): Promise<Uint8Array<ArrayBuffer> | null>;
	/** Makes durable what was written. */
	flush(): Promise<void>;
	/** Nothing more is written of a file: it is whole, or cannot be had. */
	settle(file: number, whole: boolean): void;
	/** The files of these numbers, which are whole, readable; `null` for those that the user has already, with these empty folders. */
	finish(files: readonly number[], folders: readonly number[]): Promise<(Blob | null)[]>;
	/** Lets go of everything that is open. What was written stays. */
	close(): Promise<void>;
	/** Removes everything. */
	discard(): Promise<void>;
}

/** After so many bytes, or so many milliseconds, what was written is made durable. It is what a crash can cost. */
export const flushBytes = 16 << 20;
export const flushMs = 1_000;
/** The most that is received into memory, where there is no other place. */
export const memoryBytes = 256 << 20;
/** Many small files would otherwise need as many open handles. */
const openFiles = 16;

/** Of the File System standard; the library of types for pages leaves it out, since only workers have it. */
interface FileSystemSyncAccessHandle {
	read(buffer: Uint8Array, options: { at: number }): number;
	write(buffer: Uint8Array, options: { at: number }): number;
	truncate(size: number): void;
	getSize(): number;
	flush(): void;
	close(): void;
}

const openSync = (handle: FileSystemFileHandle) =>
	(handle as unknown as { createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle> }).createSyncAccessHandle();

const folderName = "madang-transfers";

async function folder(create: boolean): Promise<FileSystemDirectoryHandle> {
	const root = await navigator.storage.getDirectory();
	return root.getDirectoryHandle(folderName, { create });
}

const endFile = "end";

/**
 * The random name of this end for a transfer, the same after a crash: the sender knows by it whom the link is for. On the disk at once, which
 * browsers do not promise of what is put into localStorage.
 */
export async function keptEnd(id: string, make: () => string): Promise<string> {
	try {
		const directory = await (await folder(true)).getDirectoryHandle(id, { create: true });
		const access = await openSync(await directory.getFileHandle(endFile, { create: true }));
		try {
			const bytes = new Uint8Array(access.getSize());
			access.read(bytes, { at: 0 });
			const kept = new TextDecoder().decode(bytes);
			if (/^[A-Za-z0-9_-]{22}$/.test(kept)) return kept;
			const made = make();
			access.truncate(0);
			access.write(new TextEncoder().encode(made), { at: 0 });
			access.flush();
			return made;
		} finally {
			access.close();
		}
	} catch {
		return make(); // nowhere to keep anything: a page that is loaded again is somebody else
	}
}

/** A folder of the origin's private file system: one file for each of the transfer's, named by its number, and the journal. */
export class StagingStore implements Store {
	readonly kind = "staging";
	readonly #id: string;
	readonly #folder: FileSystemDirectoryHandle;
	readonly found: readonly Entry[];
	readonly #journal: FileSystemSyncAccessHandle;
	#journalBytes: number;
	/** In the order of their last use. */
	readonly #open = new Map<number, FileSystemSyncAccessHandle>();
	readonly #dirty = new Set<number>();
	#pending: Entry[] = [];
	#pendingBytes = 0;
	#writing: Promise<void> = Promise.resolve();
	#flushing: Promise<void> = Promise.resolve();
	#timer: ReturnType<typeof setTimeout> | undefined;
	#failure: unknown;
	/** What is asked for now comes too late: it would open files behind those who close them. */
	#closed = false;
	/** Whole files, by their numbers. */
	readonly #finished = new Map<number, Blob>();

	private constructor(
		id: string,
		directory: FileSystemDirectoryHandle,
		journal: FileSystemSyncAccessHandle,
		journalBytes: number,
		entries: readonly Entry[],
	) {
		this.#id = id;
		this.#folder = directory;
		this.#journal = journal;
		this.#journalBytes = journalBytes;
		this.found = entries;
	}

	/**
	 * Opens, or goes on with, the staging of a transfer. `meta` must equal what the journal began with; otherwise the former staging is of something
	 * else, and is removed. Fails with a NoModificationAllowedError while another page has it open.
	 */
	static async open(id: string, meta: unknown): Promise<StagingStore> {
		const directory = await (await folder(true)).getDirectoryHandle(id, { create: true });
		let journal = await openSync(await directory.getFileHandle("journal", { create: true }));
		if (!Number.isSafeInteger(journal.getSize())) {
			journal.close(); // lost: see #write
			await directory.removeEntry("journal");
			journal = await openSync(await directory.getFileHandle("journal", { create: true }));
		}
		try {
			const bytes = new Uint8Array(journal.getSize());
			journal.read(bytes, { at: 0 });
			const former = decodeJournal(bytes);
			if (former && JSON.stringify(former.meta) === JSON.stringify(meta)) {
				journal.truncate(former.wholeBytes);
				return new StagingStore(id, directory, journal, former.wholeBytes, former.entries);
			}
			for await (const name of directory.keys()) {
				if (name !== "journal" && name !== endFile) await directory.removeEntry(name);
			}
			const header = encodeHeader(meta);
			journal.truncate(0);
			journal.write(header, { at: 0 });
			journal.flush();
			return new StagingStore(id, directory, journal, header.length, []);
		} catch (error) {
			journal.close();
			throw error;
		}
	}

	async #handle(file: number): Promise<FileSystemSyncAccessHandle> {
		const open = this.#open.get(file);
		if (open) {
			this.#open.delete(file);
			this.#open.set(file, open);
			return open;
		}
		const handle = await this.#folder.getFileHandle(String(file), { create: true });
		const access = await openSync(handle);
		this.#open.set(file, access);
		if (this.#open.size > openFiles) {
			const [oldest, least] = this.#open.entries().next().value as [number, FileSystemSyncAccessHandle];
			least.flush();
			least.close();
			this.#open.delete(oldest);
			this.#dirty.delete(oldest);
		}
		return access;
	}

	/** One after the other: a file can be opened only once. */
	write(file: number, block: number, bytes: Uint8Array<ArrayBuffer>, hash: Uint8Array): Promise<void> {
		if (this.#closed) return Promise.reject(new DOMException("the store is closed", "InvalidStateError"));
		const written = this.#writing.then(() => this.#write(file, block, bytes, hash));
		this.#writing = written.catch(() => {});
		return written;
	}

	async #write(file: number, block: number, bytes: Uint8Array<ArrayBuffer>, hash: Uint8Array): Promise<void> {
		if (this.#failure) throw this.#failure;
		const access = await this.#handle(file);
		const { length } = bytes;
		const written = access.write(bytes, { at: block * blockBytes });
		free(bytes.buffer);
		// For an error in a private window Chromium gives 2^32 - 4 bytes. It may have lost the file, as in a sleep of ten minutes: the size is 2^64 - 4 then.
		if (written > length && !Number.isSafeInteger(access.getSize()))
			throw new DOMException("the browser has lost the file", "InvalidStateError");
		if (written !== length) throw new DOMException("the disk took only a part", "QuotaExceededError");
		this.#dirty.add(file);
		this.#pending.push({ file, block, hash });
		this.#pendingBytes += length;
		if (this.#pendingBytes >= flushBytes) await this.flush();
		else
			this.#timer ??= setTimeout(() => {
				this.flush().catch((error: unknown) => {
					this.#failure = error;
				});
			}, flushMs);
	}

	read(file: number, block: number, bytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
		if (this.#closed) return Promise.resolve(null);
		const read = this.#writing.then(async () => {
			const finished = this.#finished.get(file);
			const at = block * blockBytes;
			if (finished) return new Uint8Array(await finished.slice(at, at + bytes).arrayBuffer());
			const content = new Uint8Array(bytes);
			return (await this.#handle(file)).read(content, { at }) === bytes ? content : null;
		});
		this.#writing = read.then(
			() => {},
			() => {},
		);
		return read;
	}

	flush(): Promise<void> {
		this.#flushing = this.#flushing.catch(() => {}).then(() => this.#flush());
		return this.#flushing;
	}

	#flush(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		if (this.#pending.length === 0) return;
		for (const file of this.#dirty) this.#open.get(file)?.flush();
		this.#dirty.clear();
		const records = encodeRecords(this.#pending);
		this.#journal.write(records, { at: this.#journalBytes });
		this.#journal.flush();
		this.#journalBytes += records.length;
		this.#pending = [];
		this.#pendingBytes = 0;
	}

	settle(): void {}

	finish(files: readonly number[]): Promise<Blob[]> {
		const finished = this.#writing.then(() => this.#finish(files));
		this.#writing = finished.then(
			() => {},
			() => {},
		);
		return finished;
	}

	async #finish(files: readonly number[]): Promise<Blob[]> {
		await this.flush();
		this.#closeFiles();
		return Promise.all(
			files.map(async (file) => {
				// An empty file has no block that would have made it.
				const content = await (await this.#folder.getFileHandle(String(file), { create: true })).getFile();
				this.#finished.set(file, content);
				return content;
			}),
		);
	}

	#closeFiles(): void {
		for (const access of this.#open.values()) access.close();
		this.#open.clear();
	}

	async close(): Promise<void> {
		this.#closed = true;
		await this.#writing;
		try {
			await this.flush();
		} finally {
			clearTimeout(this.#timer);
			this.#closeFiles();
			this.#journal.close();
		}
	}

	async discard(): Promise<void> {
		this.#closed = true;
		await this.#writing;
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#pending = [];
		this.#closeFiles();
		this.#journal.close();
		await removeStaging(this.#id);
	}
}

/** Removes the staging of a transfer, if there is one. */
export async function removeStaging(id: string): Promise<void> {
	try {
		await (await folder(false)).removeEntry(id, { recursive: true });
	} catch (error) {
		if ((error as DOMException).name !== "NotFoundError") throw error;
	}
}

/** Removes what was begun before `beforeMs` and not touched since; what another page uses stays. */
export async function cleanStaging(beforeMs: number): Promise<void> {
	let directory: FileSystemDirectoryHandle;
	try {
		directory = await folder(false);
	} catch {
		return; // nothing was ever received here
	}
	for await (const [id, handle] of directory.entries()) {
		try {
			const files = handle as FileSystemDirectoryHandle;
			const last = await files.getFileHandle("journal").catch(() => files.getFileHandle(endFile));
			if ((await last.getFile()).lastModified < beforeMs) await directory.removeEntry(id, { recursive: true });
		} catch {
			// In use, or gone meanwhile.
		}
	}
}

/** Keeps everything in memory. */
export class MemoryStore implements Store {
	readonly kind = "memory";
	readonly found = [];
	readonly #blocks = new Map<number, Uint8Array<ArrayBuffer>[]>();

	async write(file: number, block: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
		const blocks = this.#blocks.get(file) ?? [];
		blocks[block] = bytes;
		this.#blocks.set(file, blocks);
	}

	async read(file: number, block: number): Promise<Uint8Array<ArrayBuffer> | null> {
		return this.#blocks.get(file)?.[block]?.slice() ?? null;
	}

	async flush(): Promise<void> {}

	settle(): void {}

	async finish(files: readonly number[]): Promise<Blob[]> {
		return files.map((file) => new Blob(this.#blocks.get(file) ?? []));
	}

	async close(): Promise<void> {}

	async discard(): Promise<void> {
		this.#blocks.clear();
	}
}
