// Where a file goes while it arrives: into memory while it is small, and otherwise to disk where the browser lets us (the origin private file
// system, which exists on secure pages only), so that its size is bounded by the disk.

/** Files up to this size stay in memory. */
const memoryBytes = 16 << 20;
/** What is written at once. */
const blockBytes = 1 << 20;
/** Without a disk, pieces are handed to the browser's Blob store in this size; browsers swap it out. */
const pieceBytes = 8 << 20;
const root = "madang-received";

/** Takes the bytes of one file in order. */
export interface FileSink {
	write(bytes: Uint8Array<ArrayBuffer>): void;
	/** The whole file. Rejects if it could not be kept. */
	finish(name: string, type: string): Promise<File>;
	/** It will not be finished. */
	drop(): void;
}

export function receiveFile(size: number): FileSink {
	return size > memoryBytes && typeof navigator !== "undefined" && "getDirectory" in (navigator.storage ?? {})
		? new DiskSink()
		: new MemorySink();
}

class MemorySink implements FileSink {
	readonly #pieces: Blob[] = [];
	#parts: Uint8Array<ArrayBuffer>[] = [];
	#bytes = 0;

	write(bytes: Uint8Array<ArrayBuffer>): void {
		this.#parts.push(bytes);
		this.#bytes += bytes.length;
		if (this.#bytes < pieceBytes) return;
		this.#pieces.push(new Blob(this.#parts));
		this.#parts = [];
		this.#bytes = 0;
	}

	finish(name: string, type: string): Promise<File> {
		return Promise.resolve(new File([...this.#pieces, ...this.#parts], name, { type }));
	}

	drop(): void {
		this.#pieces.length = this.#parts.length = 0;
	}
}

class DiskSink implements FileSink {
	readonly #opened = openFile();
	#block = new Uint8Array(blockBytes);
	#used = 0;
	/** Writes follow one another; the first failure ends them all. */
	#writing: Promise<void>;

	constructor() {
		this.#writing = this.#opened.then(() => {});
		this.#writing.catch(() => {}); // finish tells
	}

	write(bytes: Uint8Array<ArrayBuffer>): void {
		for (let at = 0; at < bytes.length; ) {
			const piece = bytes.subarray(at, at + blockBytes - this.#used);
			this.#block.set(piece, this.#used);
			this.#used += piece.length;
			at += piece.length;
			if (this.#used === blockBytes) this.#flush();
		}
	}

	#flush(): void {
		const block = this.#block.subarray(0, this.#used);
		this.#block = new Uint8Array(blockBytes);
		this.#used = 0;
		this.#writing = this.#writing.then(async () => (await this.#opened).writable.write(block));
		this.#writing.catch(() => {});
	}

	async finish(name: string, type: string): Promise<File> {
		if (this.#used > 0) this.#flush();
		await this.#writing;
		const { handle, writable } = await this.#opened;
		await writable.close();
		return new File([await handle.getFile()], name, { type });
	}

	drop(): void {
		this.#opened
			.then(async ({ folder, handle, writable }) => {
				await writable.abort();
				await folder.removeEntry(handle.name);
			})
			.catch(() => {}); // swept by the next page
	}
}

let folder: Promise<FileSystemDirectoryHandle> | undefined;
let count = 0;

async function openFile() {
	folder ??= openFolder();
	const place = await folder;
	const handle = await place.getFileHandle(String(++count), { create: true });
	return { folder: place, handle, writable: await handle.createWritable() };
}

/**
 * A folder of this page's own. A received file is on disk for as long as its page may read it; what closed pages have left is swept away,
 * known by the lock that a living page holds on its folder's name.
 */
async function openFolder(): Promise<FileSystemDirectoryHandle> {
	const parent = await (await navigator.storage.getDirectory()).getDirectoryHandle(root, { create: true });
	const name = crypto.randomUUID();
	await new Promise<void>((resolve) => {
		void navigator.locks.request(`${root}/${name}`, () => {
			resolve();
			return new Promise(() => {}); // until the page is gone
		});
	});
	const held = new Set((await navigator.locks.query()).held?.map((lock) => lock.name));
	for await (const other of parent.keys()) {
		if (other !== name && !held.has(`${root}/${other}`))
			await parent.removeEntry(other, { recursive: true }).catch(() => {});
	}
	return parent.getDirectoryHandle(name, { create: true });
}
