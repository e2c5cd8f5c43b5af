import { blockBytes, blockCount, blockLength, HashList } from "./blocks.js";
import { free } from "./free.js";
import { digest } from "./hash.js";
import { fileRoot, manifestRoot } from "./tree.js";
import type { Entry } from "./wire.js";

// The sender's files, read and hashed as they are asked for.

/** Files are read in pieces of this size: one read for 16 blocks. */
const slabBytes = 4 << 20;
/** Receivers at different places of the files share these. */
const slabsKept = 4;

/** A file cannot be had any more, with the code that says why. */
export class SourceError extends Error {
	readonly file: number;
	readonly code: "source_changed" | "source_unreadable";

	constructor(file: number, code: SourceError["code"], cause?: unknown) {
		super(code, { cause });
		this.file = file;
		this.code = code;
	}
}

export interface Block {
	/** They are the reader's: nobody else has their buffer. */
	readonly bytes: Uint8Array<ArrayBuffer>;
	readonly hash: Uint8Array;
}

export class Source {
	readonly #entries: readonly Entry[];
	/** By the number of the entry; folders have none. */
	readonly #files: readonly (Blob | null)[];
	readonly #hashes: HashList[];
	readonly #slabs = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
	readonly #roots = new Map<number, Promise<Uint8Array>>();

	constructor(entries: readonly Entry[], files: readonly (Blob | null)[]) {
		this.#entries = entries;
		this.#files = files;
		this.#hashes = entries.map(() => new HashList());
	}

	/** Reads and hashes a block; `null` if there is none of this number. */
	async block(file: number, block: number): Promise<Block | null> {
		const size = this.#entries[file]?.size ?? 0;
		if (!this.#files[file] || block >= blockCount(size)) return null;
		const at = block * blockBytes;
		const slab = await this.#slab(file, Math.floor(at / slabBytes));
		const from = at % slabBytes;
		const bytes = slab.slice(from, from + blockLength(size, block));
		const hash = await digest(bytes);
		const known = this.#hashes[file]?.get(block);
		if (known?.some((byte, index) => byte !== hash[index])) throw new SourceError(file, "source_changed");
		this.#hashes[file]?.set(block, hash);
		return { bytes, hash };
	}

	#slab(file: number, index: number): Promise<Uint8Array<ArrayBuffer>> {
		const key = `${file}:${index}`;
		const kept = this.#slabs.get(key);
		if (kept) {
			this.#slabs.delete(key);
			this.#slabs.set(key, kept);
			return kept;
		}
		const slab = this.#read(file, index);
		slab.catch(() => this.#slabs.delete(key));
		this.#slabs.set(key, slab);
		if (this.#slabs.size > slabsKept) {
			const [oldest, unused] = this.#slabs.entries().next().value as [string, Promise<Uint8Array<ArrayBuffer>>];
			this.#slabs.delete(oldest);
			// Those who asked for it before have copied from it before this is called.
			unused.then(
				({ buffer }) => free(buffer),
				() => {},
			);
		}
		return slab;
	}

	async #read(file: number, index: number): Promise<Uint8Array<ArrayBuffer>> {
		const from = index * slabBytes;
		const size = this.#entries[file]?.size ?? 0;
		const expected = Math.min(slabBytes, size - from);
		let bytes: Uint8Array<ArrayBuffer>;
		try {
			bytes = new Uint8Array(await (this.#files[file] as Blob).slice(from, from + slabBytes).arrayBuffer());
		} catch (error) {
			// What a browser says when the file is not any more what it was when it was chosen; NotFoundError: it is gone.
			const changed = (error as DOMException).name === "NotReadableError";
			throw new SourceError(file, changed ? "source_changed" : "source_unreadable", error);
		}
		if (bytes.length !== expected) throw new SourceError(file, "source_changed");
		return bytes;
	}

	/** Hashes that are known, from `first` on without a gap. */
	known(file: number, first: number, count: number): Uint8Array[] {
		const hashes: Uint8Array[] = [];
		for (let block = first; block < first + count; block++) {
			const hash = this.#hashes[file]?.get(block);
			if (!hash) break;
			hashes.push(hash);
		}
		return hashes;
	}

	/** The root of a file. Reads what was not read in this life. */
	root(file: number): Promise<Uint8Array> {
		let root = this.#roots.get(file);
		if (!root) {
			root = this.#root(file);
			root.catch(() => this.#roots.delete(file));
			this.#roots.set(file, root);
		}
		return root;
	}

	async #root(file: number): Promise<Uint8Array> {
		const size = this.#entries[file]?.size ?? 0;
		const hashes = this.#hashes[file] as HashList;
		for (let block = 0; block < blockCount(size); block++) {
			if (hashes.get(block)) continue;
			const content = await this.block(file, block);
			if (content) free(content.bytes.buffer);
		}
		return fileRoot(size, hashes.first(blockCount(size)));
	}

	async manifestRoot(): Promise<Uint8Array> {
		const rooted = [];
		for (const [file, entry] of this.#entries.entries()) {
			rooted.push({ ...entry, root: entry.dir ? undefined : await this.root(file) });
		}
		return manifestRoot(rooted);
	}
}
