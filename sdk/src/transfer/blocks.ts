/** The unit of hashing and of resuming: 256 KiB. */
export const blockBytes = 256 * 1024;

/** How many blocks a file of this size has; an empty file has none. */
export const blockCount = (size: number) => Math.ceil(size / blockBytes);

/** How long a block of a file of this size is: the last one may be shorter. */
export const blockLength = (size: number, block: number) => Math.min(blockBytes, size - block * blockBytes);

/** How many blocks a file has whose size is not known yet. */
export const unknownCount = Number.POSITIVE_INFINITY;

/** Which blocks of a file are there. Bit `n & 7`, counted from the lowest, of byte `n >> 3`. It may be made before the number of blocks is known. */
export class Bitmap {
	#bytes: Uint8Array;
	#length: number;
	#count = 0;

	constructor(length: number) {
		this.#length = length;
		this.#bytes = new Uint8Array(Math.min(Math.ceil(length / 8), 64)); // it grows with what is put into it
	}

	/** The number of blocks, perhaps {@link unknownCount}. */
	get length(): number {
		return this.#length;
	}

	/** Forgets what is beyond the new length. */
	set length(length: number) {
		for (let index = this.#bytes.length * 8 - 1; index >= length; index--) this.delete(index);
		this.#length = length;
	}

	get count(): number {
		return this.#count;
	}

	get full(): boolean {
		return this.#count === this.#length;
	}

	/** The eight blocks from `8 * index` on. */
	byte(index: number): number {
		return this.#bytes[index] ?? 0;
	}

	/** How many bytes may have a bit. */
	get bytes(): number {
		return this.#bytes.length;
	}

	clear(): void {
		this.#bytes.fill(0);
		this.#count = 0;
	}

	has(index: number): boolean {
		return (((this.#bytes[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
	}

	/** Whether it was not there before. */
	add(index: number): boolean {
		if (index < 0 || index >= this.#length || this.has(index)) return false;
		if (index >> 3 >= this.#bytes.length) {
			const most = Math.ceil(this.#length / 8);
			const bytes = new Uint8Array(Math.min(Math.max(this.#bytes.length * 2, (index >> 3) + 1), most));
			bytes.set(this.#bytes);
			this.#bytes = bytes;
		}
		this.#bytes[index >> 3] = (this.#bytes[index >> 3] as number) | (1 << (index & 7));
		this.#count++;
		return true;
	}

	delete(index: number): boolean {
		if (!this.has(index)) return false;
		this.#bytes[index >> 3] = (this.#bytes[index >> 3] as number) & ~(1 << (index & 7));
		this.#count--;
		return true;
	}
}

/** The first block from one on and before the end that is in none of these; `null`: there is none. */
export function firstFree(from: number, end: number, ...taken: readonly Bitmap[]): number | null {
	for (let at = from; at < end; at = ((at >> 3) + 1) << 3) {
		let busy = (1 << (at & 7)) - 1;
		for (const bitmap of taken) busy |= bitmap.byte(at >> 3);
		if (busy === 0xff) continue;
		const first = ((at >> 3) << 3) + lowestBit(~busy);
		return first < end ? first : null;
	}
	return null;
}

/** Its place; of a number that is not zero. */
export const lowestBit = (bits: number) => 31 - Math.clz32(bits & -bits);

/** Ranges of a bitmap's blocks. */
export function* runs(bitmap: Bitmap): Generator<[first: number, count: number]> {
	for (let at = 0; at < bitmap.bytes * 8; at++) {
		if (!bitmap.has(at)) continue;
		const first = at;
		while (bitmap.has(at)) at++;
		yield [first, at - first];
	}
}

/** Hashes are kept in pieces of so many. */
const pieceHashes = 16;

/** The hashes of a file's blocks, as far as they are known. */
export class HashList {
	readonly #pieces = new Map<number, { bytes: Uint8Array; known: number }>();
	#count = 0;

	get count(): number {
		return this.#count;
	}

	get(block: number): Uint8Array | undefined {
		const at = block % pieceHashes;
		const piece = this.#pieces.get((block - at) / pieceHashes);
		return piece && (piece.known >> at) & 1 ? piece.bytes.subarray(at * 32, at * 32 + 32) : undefined;
	}

	set(block: number, hash: Uint8Array): void {
		const at = block % pieceHashes;
		const index = (block - at) / pieceHashes;
		const piece = this.#pieces.get(index) ?? { bytes: new Uint8Array(32 * pieceHashes), known: 0 };
		this.#pieces.set(index, piece);
		piece.bytes.set(hash, at * 32);
		if (((piece.known >> at) & 1) === 0) this.#count++;
		piece.known |= 1 << at;
	}

	/** Those of the first `count` blocks; all of them must be known. */
	*first(count: number): Generator<Uint8Array> {
		for (let block = 0; block < count; block++) yield this.get(block) as Uint8Array;
	}
}
