import { crc32 } from "./crc32.js";

// The journal of a transfer that is being received: what has been written, in a form that a crash can only cut short.
//
//   header    "MDGJ" | length u32 | CRC-32 of the JSON u32 | JSON
//   record    CRC-32 of the rest u32 | file u32 | block u32 | 0 u32 | SHA-256 of the block, 32 bytes
//
// A record is written only after its block has been flushed, so a record that can be read is true. Reading stops at the first that cannot:
// what follows a torn record is not in the journal.

export const recordBytes = 48;
const prefixBytes = 12;
const magic = 0x4d44474a;

export interface Entry {
	readonly file: number;
	readonly block: number;
	readonly hash: Uint8Array;
}

/** The start of a journal, with what is needed to go on with it. */
export function encodeHeader(meta: unknown): Uint8Array<ArrayBuffer> {
	const json = new TextEncoder().encode(JSON.stringify(meta));
	const bytes = new Uint8Array(prefixBytes + json.length);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, magic);
	view.setUint32(4, json.length);
	view.setUint32(8, crc32(json));
	bytes.set(json, prefixBytes);
	return bytes;
}

export function encodeRecords(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
	const bytes = new Uint8Array(entries.length * recordBytes);
	const view = new DataView(bytes.buffer);
	entries.forEach(({ file, block, hash }, index) => {
		const at = index * recordBytes;
		view.setUint32(at + 4, file);
		view.setUint32(at + 8, block);
		bytes.set(hash, at + 16);
		view.setUint32(at, crc32(bytes.subarray(at + 4, at + recordBytes)));
	});
	return bytes;
}

/** What a journal says, and how many of its bytes are whole; `null` if not even its header is. */
export function decodeJournal(bytes: Uint8Array): { meta: unknown; entries: Entry[]; wholeBytes: number } | null {
	if (bytes.length < prefixBytes) return null;
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const length = view.getUint32(4);
	if (view.getUint32(0) !== magic || prefixBytes + length > bytes.length) return null;
	const json = bytes.subarray(prefixBytes, prefixBytes + length);
	if (crc32(json) !== view.getUint32(8)) return null;
	let meta: unknown;
	try {
		meta = JSON.parse(new TextDecoder().decode(json));
	} catch {
		return null;
	}
	const entries: Entry[] = [];
	let at = prefixBytes + length;
	for (; at + recordBytes <= bytes.length; at += recordBytes) {
		if (crc32(bytes.subarray(at + 4, at + recordBytes)) !== view.getUint32(at)) break;
		entries.push({
			file: view.getUint32(at + 4),
			block: view.getUint32(at + 8),
			hash: bytes.slice(at + 16, at + recordBytes),
		});
	}
	return { meta, entries, wholeBytes: at };
}
