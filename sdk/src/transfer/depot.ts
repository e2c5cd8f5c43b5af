import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { blockCount } from "./blocks.js";
import { free } from "./free.js";
import { concat, fromBase64, lp, random, type Ticket, toBase64 } from "./secret.js";
import { type Entry, type Range, WireError } from "./wire.js";

// What waits on the server: docs/transfer.md §15. Keys, numbers and contents of a depot's objects; how they travel is in depotclient.ts.

const utf8 = new TextEncoder();
const nonceBytes = 12;
const tagBytes = 16;

/** An object's number is its kind × 2⁴⁰ + n. */
export const kind = 2 ** 40;
export const manifestKind = 0;
export const blockKind = 1;
export const hashesKind = 2;
export const endNumber = 3 * kind;
export const hashesPerList = 4_096;

export const objectBytes = 262_144 + nonceBytes + tagBytes;
export const objectHeaderBytes = 12;

/** What is on the server was damaged, or was not put there by the sender. */
export class SealedError extends Error {}

/** WebCrypto is there on pages with https, and nowhere else. */
export const canSeal = (): boolean => globalThis.crypto.subtle !== undefined;

export class DepotKeys {
	readonly id: string;
	/** The receivers' token. */
	readonly read: string;
	readonly #taker: Uint8Array;
	readonly #key: Promise<CryptoKey>;

	constructor({ id, secret }: Ticket) {
		const derive = (info: string) =>
			hkdf(sha256, fromBase64(secret) as Uint8Array, utf8.encode("madang-transfer/1"), utf8.encode(info), 32);
		this.id = id;
		this.read = toBase64(derive("depot read"));
		this.#taker = derive("depot taker");
		this.#key = crypto.subtle.importKey("raw", derive("depot content") as Uint8Array<ArrayBuffer>, "AES-GCM", false, [
			"encrypt",
			"decrypt",
		]);
	}

	/** Names an end to the server, which cannot know it again elsewhere. */
	takerOf(end: string): string {
		return toBase64(hmac(sha256, this.#taker, utf8.encode(end)));
	}

	#parameters(number: number, iv: Uint8Array<ArrayBuffer>): AesGcmParams {
		const bytes = new Uint8Array(8);
		new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
		return { name: "AES-GCM", iv, additionalData: concat(lp("depot"), lp(this.id), bytes) };
	}

	/** Each object has a random nonce of its own: what is sealed a second time uses none again. */
	async seal(
		number: number,
		content: Uint8Array<ArrayBuffer>,
		nonce: Uint8Array<ArrayBuffer> = random(nonceBytes),
	): Promise<Uint8Array<ArrayBuffer>> {
		const sealed = await crypto.subtle.encrypt(this.#parameters(number, nonce), await this.#key, content);
		const object = concat(nonce, new Uint8Array(sealed));
		free(sealed);
		return object;
	}

	/** Throws a {@link SealedError}. */
	async open(number: number, object: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
		const key = await this.#key;
		try {
			const iv = object.slice(0, nonceBytes);
			return new Uint8Array(
				await crypto.subtle.decrypt(this.#parameters(number, iv), key, object.subarray(nonceBytes)),
			);
		} catch (cause) {
			throw new SealedError("an object cannot be opened", { cause });
		}
	}
}

/** What the server keeps of a token. */
export const tokenHash = (token: string): string => toBase64(sha256(utf8.encode(token)));

// ---- numbers

/** How many lists of hashes a file has. The last one is never full, so that it is known as the last; a single block is its own list. */
export function listCount(size: number | null): number {
	const count = blockCount(size ?? 0);
	return size !== null && count <= 1 ? 0 : Math.floor(count / hashesPerList) + 1;
}

/** Under which numbers the blocks and hashes of files stand. */
export class Layout {
	readonly #blocks: number[] = [];
	readonly #lists: number[] = [];
	readonly sizes: (number | null)[] = [];
	#nextBlock = 0;
	#nextList = 0;

	get files(): number {
		return this.sizes.length;
	}

	/** Throws a {@link WireError} for a file of unknown size that is not alone: nobody could say where the next one begins. */
	add({ size }: Pick<Entry, "size">): void {
		if (this.files > 0 && (size === null || this.sizes[0] === null)) {
			throw new WireError("malformed", "a stream among other files");
		}
		this.#blocks.push(this.#nextBlock);
		this.#lists.push(this.#nextList);
		this.sizes.push(size);
		if (size === null) return;
		this.#nextBlock += blockCount(size);
		this.#nextList += listCount(size);
	}

	block(file: number, index: number): number {
		return blockKind * kind + (this.#blocks[file] as number) + index;
	}

	list(file: number, index: number): number {
		return hashesKind * kind + (this.#lists[file] as number) + index;
	}

	/** Which blocks the numbers from `number` on are, as far as files are known. */
	*ranges(number: number, count: number): Generator<Range> {
		let first = number - blockKind * kind;
		let left = count;
		if (this.sizes[0] === null) {
			yield [0, first, left];
			return;
		}
		for (let file = this.#fileAt(first); left > 0 && file < this.files; file++) {
			const start = this.#blocks[file] as number;
			const most = Math.min(left, start + blockCount(this.sizes[file] as number) - first);
			if (first < start || most <= 0) continue;
			yield [file, first - start, most];
			first += most;
			left -= most;
		}
	}

	/** The last file that begins there or before. */
	#fileAt(first: number): number {
		let low = 0;
		let high = this.files;
		while (low + 1 < high) {
			const middle = (low + high) >> 1;
			if ((this.#blocks[middle] as number) <= first) low = middle;
			else high = middle;
		}
		return low;
	}
}

// ---- contents

/** The content of a list of hashes; a size that is not known yet is written as all ones. */
export function encodeList(size: number | null, hashes: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
	const head = new Uint8Array(8);
	new DataView(head.buffer).setBigInt64(0, BigInt(size ?? -1));
	return concat(head, ...hashes);
}

/** Throws a {@link WireError}. */
export function decodeList(bytes: Uint8Array<ArrayBuffer>): { size: number | null; hashes: Uint8Array[] } {
	const count = (bytes.length - 8) / 32;
	if (!Number.isInteger(count) || count < 0 || count > hashesPerList) {
		throw new WireError("malformed", "a list of hashes is not as it should be");
	}
	const size = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigInt64(0));
	if (size < -1 || size > 2 ** 50) throw new WireError("malformed", "a list of hashes says an impossible size");
	const hashes = Array.from({ length: count }, (_, index) => bytes.slice(8 + index * 32, 40 + index * 32));
	return { size: size === -1 ? null : size, hashes };
}

/** What stands before an object in uploads and downloads. */
export function objectHeader(number: number, length: number): Uint8Array<ArrayBuffer> {
	const header = new Uint8Array(objectHeaderBytes);
	const view = new DataView(header.buffer);
	view.setBigUint64(0, BigInt(number));
	view.setUint32(8, length);
	return header;
}

/** Cuts objects out of what arrives in pieces of any size. */
export class ObjectReader {
	#pieces: Uint8Array<ArrayBuffer>[] = [];
	#bytes = 0;

	/** Gives the objects that are whole by now. Throws a {@link WireError}. */
	*add(piece: Uint8Array<ArrayBuffer>): Generator<{ number: number; object: Uint8Array<ArrayBuffer> }> {
		this.#pieces.push(piece);
		this.#bytes += piece.length;
		for (;;) {
			if (this.#bytes < objectHeaderBytes) return;
			const head = this.#peek(objectHeaderBytes);
			const view = new DataView(head.buffer);
			const number = Number(view.getBigUint64(0));
			const length = view.getUint32(8);
			if (number >= 8 * kind || length < nonceBytes + tagBytes || length > objectBytes) {
				throw new WireError("malformed", "not an object");
			}
			if (this.#bytes < objectHeaderBytes + length) return;
			const whole = this.#peek(objectHeaderBytes + length);
			this.#drop(whole.length);
			yield { number, object: whole.subarray(objectHeaderBytes) };
		}
	}

	/** Nothing is left over. */
	get empty(): boolean {
		return this.#bytes === 0;
	}

	#peek(count: number): Uint8Array<ArrayBuffer> {
		const found = new Uint8Array(count);
		let at = 0;
		for (const piece of this.#pieces) {
			const part = piece.subarray(0, count - at);
			found.set(part, at);
			at += part.length;
			if (at === count) break;
		}
		return found;
	}

	#drop(count: number): void {
		this.#bytes -= count;
		let left = count;
		while (left > 0) {
			const piece = this.#pieces[0] as Uint8Array<ArrayBuffer>;
			if (piece.length > left) {
				this.#pieces[0] = piece.subarray(left);
				return;
			}
			left -= piece.length;
			this.#pieces.shift();
		}
	}
}

/** What the last object says: nothing will be added. */
export interface Ending {
	readonly root?: string | undefined;
	readonly failed?: readonly { readonly file: number; readonly code: string }[] | undefined;
}

/** Throws a {@link WireError}. */
export function decodeEnding(bytes: Uint8Array): Ending {
	let value: Record<string, unknown> | null;
	try {
		value = JSON.parse(new TextDecoder().decode(bytes));
	} catch {
		value = null;
	}
	const { root, failed = [] } = value ?? {};
	const fine =
		typeof value === "object" &&
		value !== null &&
		(root === undefined || fromBase64(root)?.length === 32) &&
		Array.isArray(failed) &&
		failed.every((item) => Number.isInteger(item?.file) && item.file >= 0 && typeof item.code === "string");
	if (!fine) throw new WireError("malformed", "the end of a depot is not as it should be");
	return { root: root as string | undefined, failed: failed as Ending["failed"] };
}
