import { blockCount, blockLength } from "./blocks.js";
import { isPath } from "./path.js";
import { concat, fromBase64 } from "./secret.js";

// The messages of a lane: docs/transfer.md §6 and §7.

/** A file or an empty folder of a manifest. */
export interface Entry {
	readonly path: string;
	/** In bytes; `null` for a stream whose end the sender has not seen yet. */
	readonly size: number | null;
	/** Milliseconds since 1970. */
	readonly mtimeMs?: number | undefined;
	/** Permission bits. */
	readonly mode?: number | undefined;
	/** An empty folder. */
	readonly dir?: boolean | undefined;
}

/** `[file, first, count]`. */
export type Range = readonly [file: number, first: number, count: number];

export type Message =
	| { type: "hello"; version: number; role: "sender" | "receiver"; end: string; name?: string | undefined }
	| { type: "get-manifest"; from: number }
	| { type: "manifest"; from: number; entries: Entry[]; last?: boolean | undefined; bytes?: number | undefined }
	| { type: "accept"; gives?: boolean | undefined }
	| { type: "accepted"; alone?: boolean | undefined }
	| { type: "unwant" | "unwanted" | "wait" | "complete" }
	| { type: "want"; blocks: Range[]; fresh?: boolean | undefined }
	| { type: "elsewhere"; blocks: Range[] }
	| { type: "have"; blocks: Range[]; clear?: boolean | undefined }
	| { type: "size"; file: number; size: number }
	| { type: "get-root"; file?: number | undefined }
	| { type: "root"; file?: number | undefined; root: string }
	| { type: "get-hashes"; file: number; first: number; count: number }
	| { type: "failed"; file: number; code: string }
	| { type: "progress"; bytes: number; done?: boolean | undefined }
	| { type: "pause"; on: boolean }
	| { type: "bye"; code: string; message?: string | undefined };

export const version = 1;
export const jsonBytes = 65_536;
export const entryLimit = 1_000_000;
export const rangeLimit = 1_024;
/** Blocks that may be wanted and not sent, on one lane. */
export const wantLimit = 1_024;
const sizeLimit = 2 ** 44;
/** Of all files, and of all their paths together. */
export const totalLimit = 2 ** 46;
export const pathsLimit = 64 << 20;
const maxIndex = 0xffffffff;

const isIndex = (value: unknown): value is number =>
	Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxIndex;
const isSize = (value: unknown, limit = sizeLimit): value is number =>
	Number.isInteger(value) && (value as number) >= 0 && (value as number) <= limit;

function isRanges(value: unknown): value is Range[] {
	return (
		Array.isArray(value) &&
		value.length <= rangeLimit &&
		value.every(
			(range) =>
				Array.isArray(range) &&
				range.length === 3 &&
				range.every(isIndex) &&
				(range[2] as number) > 0 &&
				(range[1] as number) + (range[2] as number) <= maxIndex + 1,
		)
	);
}

/** What is wrong with a message: a code of §13. */
export class WireError extends Error {
	readonly code: "malformed" | "path_unsafe" | "version_unsupported" | "credit_exceeded";

	constructor(code: WireError["code"], message: string) {
		super(message);
		this.code = code;
	}
}

function readEntry(value: unknown): Entry {
	const { path, size, mtimeMs, mode, dir } = (value ?? {}) as Record<string, unknown>;
	if (typeof path !== "string") throw new WireError("malformed", "an entry has no path");
	if (!isPath(path)) throw new WireError("path_unsafe", "a path that must not be written");
	if (mode !== undefined && (!isIndex(mode) || mode > 0o777)) throw new WireError("malformed", "not permission bits");
	const rest = {
		...(Number.isSafeInteger(mtimeMs) ? { mtimeMs: mtimeMs as number } : {}),
		...(mode === undefined ? {} : { mode }),
	};
	if (dir === true) return { path, size: 0, dir: true, ...rest };
	if (size !== null && !isSize(size)) throw new WireError("malformed", "an entry has no size");
	return { path, size, ...rest };
}

/** Reads a text message; `null` for a type that we do not know. Throws a {@link WireError}. */
export function decodeMessage(text: string): Message | null {
	const malformed = (why: string) => new WireError("malformed", why);
	if (text.length > jsonBytes) throw malformed("the message is too long");
	let value: Record<string, unknown>;
	try {
		value = JSON.parse(text) as Record<string, unknown>;
	} catch {
		throw malformed("not JSON");
	}
	if (typeof value !== "object" || value === null || typeof value.type !== "string") throw malformed("not a message");
	const { type } = value;
	const need = (ok: boolean) => {
		if (!ok) throw malformed(`a member of ${type} is not as it should be`);
	};
	switch (type) {
		case "hello":
			if (value.version !== version) throw new WireError("version_unsupported", "another version");
			need(typeof value.end === "string" && /^[A-Za-z0-9_-]{22}$/.test(value.end));
			need(value.role === "sender" || value.role === "receiver");
			if (typeof value.name !== "string") delete value.name;
			else value.name = [...value.name].slice(0, 64).join("");
			return value as Message;
		case "get-manifest":
			need(isIndex(value.from));
			return value as Message;
		case "manifest":
			value.entries ??= [];
			need(isIndex(value.from) && Array.isArray(value.entries));
			return { ...value, entries: (value.entries as unknown[]).map(readEntry) } as Message;
		case "accept":
			return value.gives === false ? { type, gives: false } : { type };
		case "accepted":
			return value.alone === true ? { type, alone: true } : { type };
		case "unwant":
		case "unwanted":
		case "wait":
		case "complete":
			return { type };
		case "want":
		case "have":
		case "elsewhere":
			need(isRanges(value.blocks));
			return value as Message;
		case "size":
			need(isIndex(value.file) && isSize(value.size));
			return value as Message;
		case "get-root":
			need(value.file === undefined || isIndex(value.file));
			return value as Message;
		case "root":
			need((value.file === undefined || isIndex(value.file)) && fromBase64(value.root)?.length === 32);
			return value as Message;
		case "get-hashes":
			need(isRanges([[value.file, value.first, value.count]]));
			return value as Message;
		case "failed":
			need(isIndex(value.file) && typeof value.code === "string");
			return value as Message;
		case "progress":
			need(isSize(value.bytes, totalLimit));
			return value as Message;
		case "pause":
			need(typeof value.on === "boolean");
			return value as Message;
		case "bye":
			need(typeof value.code === "string");
			return value as Message;
	}
	return null;
}

/** Splits a manifest into pages that are small enough for one message each. */
export function manifestPages(entries: readonly Entry[], from: number): Message[] {
	const pages: Message[] = [];
	const bytes = entries.reduce((sum, { size }) => sum + (size ?? 0), 0);
	let page: Entry[] = [];
	let first = from;
	let room = jsonBytes - 256;
	for (let index = from; index < entries.length; index++) {
		const { path, size, mtimeMs, mode, dir } = entries[index] as Entry;
		const entry = (dir ? { path, dir, mtimeMs, mode } : { path, size, mtimeMs, mode }) as Entry;
		const length = new TextEncoder().encode(JSON.stringify(entry)).length + 1;
		if (length > room) {
			pages.push({ type: "manifest", from: first, entries: page });
			page = [];
			first = index;
			room = jsonBytes - 256;
		}
		page.push(entry);
		room -= length;
	}
	pages.push({ type: "manifest", from: first, entries: page, last: true, bytes });
	return pages;
}

// ---- binary

export const partHeaderBytes = 52;
const partType = 1;
const hashesType = 2;
export const hashesLimit = 2_000;

export interface Part {
	readonly file: number;
	readonly block: number;
	/** Of the whole block. */
	readonly length: number;
	readonly offset: number;
	readonly hash: Uint8Array;
	readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface Hashes {
	readonly file: number;
	readonly first: number;
	readonly hashes: readonly Uint8Array[];
}

/** The messages of a block. */
export function* encodeBlock(
	file: number,
	block: number,
	bytes: Uint8Array,
	hash: Uint8Array,
	messageBytes: number,
): Generator<Uint8Array<ArrayBuffer>> {
	const most = messageBytes - partHeaderBytes;
	for (let offset = 0; offset < bytes.length; offset += most) {
		const part = bytes.subarray(offset, offset + most);
		const message = new Uint8Array(partHeaderBytes + part.length);
		const view = new DataView(message.buffer);
		message[0] = partType;
		view.setUint32(4, file);
		view.setUint32(8, block);
		view.setUint32(12, bytes.length);
		view.setUint32(16, offset);
		message.set(hash, 20);
		message.set(part, partHeaderBytes);
		yield message;
	}
}

export function encodeHashes({ file, first, hashes }: Hashes): Uint8Array<ArrayBuffer> {
	const head = new Uint8Array(12);
	const view = new DataView(head.buffer);
	head[0] = hashesType;
	view.setUint32(4, file);
	view.setUint32(8, first);
	return concat(head, ...hashes);
}

/** Reads a binary message. Throws a {@link WireError}. */
export function decodeBinary(buffer: ArrayBuffer): { part: Part; hashes?: never } | { hashes: Hashes; part?: never } {
	const bytes = new Uint8Array(buffer);
	const view = new DataView(buffer);
	const malformed = () => new WireError("malformed", "a binary message is not as it should be");
	if (bytes.length < 12 || bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) throw malformed();
	const file = view.getUint32(4);
	const second = view.getUint32(8);
	if (bytes[0] === partType) {
		if (bytes.length <= partHeaderBytes) throw malformed();
		const length = view.getUint32(12);
		const offset = view.getUint32(16);
		const part = bytes.subarray(partHeaderBytes);
		if (offset + part.length > length) throw malformed();
		return { part: { file, block: second, length, offset, hash: bytes.slice(20, partHeaderBytes), bytes: part } };
	}
	if (bytes[0] !== hashesType) throw malformed();
	const count = (bytes.length - 12) / 32;
	if (!Number.isInteger(count) || count > hashesLimit) throw malformed();
	const hashes = Array.from({ length: count }, (_, index) => bytes.slice(12 + index * 32, 44 + index * 32));
	return { hashes: { file, first: second, hashes } };
}

/** A block of which all parts have arrived. */
export interface WholeBlock {
	readonly file: number;
	readonly block: number;
	readonly hash: Uint8Array;
	readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Puts the blocks of one lane together. `sizeOf` gives the size of a file, or `undefined` if there is none of this number. */
export class Assembler {
	readonly #sizeOf: (file: number) => number | null | undefined;
	/** The hash is a copy: a view would keep the part's memory for as long as somebody has the hash. */
	#current: { part: Part; hash: Uint8Array; bytes: Uint8Array<ArrayBuffer>; got: number } | null = null;

	constructor(sizeOf: (file: number) => number | null | undefined) {
		this.#sizeOf = sizeOf;
	}

	/** Takes a part; gives the block when it is whole. Throws a {@link WireError}. */
	add(part: Part): WholeBlock | null {
		const malformed = () => new WireError("malformed", "a part does not belong where it came");
		let current = this.#current;
		if (!current) {
			const size = this.#sizeOf(part.file);
			if (size === undefined || part.offset !== 0) throw malformed();
			if (size === null ? part.length > blockLength(sizeLimit, 0) : part.length !== blockLength(size, part.block))
				throw malformed();
			if (size !== null && part.block >= blockCount(size)) throw malformed();
			current = { part, hash: part.hash.slice(), bytes: new Uint8Array(part.length), got: 0 };
		}
		const { part: first } = current;
		if (
			part.file !== first.file ||
			part.block !== first.block ||
			part.length !== first.length ||
			part.offset !== current.got ||
			!part.hash.every((byte, index) => byte === first.hash[index])
		)
			throw malformed();
		current.bytes.set(part.bytes, part.offset);
		current.got += part.bytes.length;
		if (current.got < part.length) {
			this.#current = current;
			return null;
		}
		this.#current = null;
		return { file: part.file, block: part.block, hash: current.hash, bytes: current.bytes };
	}
}
