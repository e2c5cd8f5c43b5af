import { crc32 } from "./crc32.js";

// A ZIP file (APPNOTE.TXT 6.3.10) of files that are there already, stored and not compressed, with ZIP64 fields throughout: one form
// for all sizes. It is a Blob made of parts, so that nothing but the headers is in memory.

export interface ZipEntry {
	/** With `/` between its parts; that of an empty folder ends with one (§4.4.17.1). */
	readonly path: string;
	readonly content: Blob;
	/** Milliseconds since 1970. */
	readonly modifiedMs: number;
}

const sliceBytes = 4 << 20;

/** General purpose flag, bit 11: names are UTF-8 (§4.4.4). */
const utf8Names = 0x0800;
/** Version 4.5: ZIP64 (§4.4.3.2). */
const version = 45;

/** Makes the ZIP file. All contents are read once for their checksums. */
export async function zip(entries: readonly ZipEntry[], progress?: (bytes: number) => void): Promise<Blob> {
	const parts: BlobPart[] = [];
	const directory: Uint8Array<ArrayBuffer>[] = [];
	let offset = 0;
	let directoryBytes = 0;
	for (const { path, content, modifiedMs } of entries) {
		let crc = 0;
		for (let at = 0; at < content.size; at += sliceBytes) {
			const bytes = new Uint8Array(await content.slice(at, at + sliceBytes).arrayBuffer());
			crc = crc32(bytes, crc);
			progress?.(bytes.length);
		}
		const name = new TextEncoder().encode(path);
		const local = localHeader(name, crc, content.size, dosTime(modifiedMs));
		parts.push(local, content);
		const central = centralHeader(name, crc, content.size, dosTime(modifiedMs), offset);
		directory.push(central);
		directoryBytes += central.length;
		offset += local.length + content.size;
	}
	return new Blob([...parts, ...directory, end(entries.length, directoryBytes, offset)], { type: "application/zip" });
}

class Fields {
	readonly bytes: Uint8Array<ArrayBuffer>;
	readonly #view: DataView;
	#at = 0;

	constructor(length: number) {
		this.bytes = new Uint8Array(length);
		this.#view = new DataView(this.bytes.buffer);
	}

	u16(...values: number[]): this {
		for (const value of values) {
			this.#view.setUint16(this.#at, value, true);
			this.#at += 2;
		}
		return this;
	}

	u32(...values: number[]): this {
		for (const value of values) {
			this.#view.setUint32(this.#at, value, true);
			this.#at += 4;
		}
		return this;
	}

	u64(...values: number[]): this {
		for (const value of values) {
			this.#view.setBigUint64(this.#at, BigInt(value), true);
			this.#at += 8;
		}
		return this;
	}

	raw(bytes: Uint8Array): this {
		this.bytes.set(bytes, this.#at);
		this.#at += bytes.length;
		return this;
	}
}

/** §4.3.7; sizes are in the ZIP64 extra field (§4.5.3). */
function localHeader(name: Uint8Array, crc: number, size: number, time: number): Uint8Array<ArrayBuffer> {
	return new Fields(30 + name.length + 20)
		.u32(0x04034b50)
		.u16(version, utf8Names, 0)
		.u32(time, crc, 0xffffffff, 0xffffffff)
		.u16(name.length, 20)
		.raw(name)
		.u16(1, 16)
		.u64(size, size).bytes;
}

/** §4.3.12. */
function centralHeader(
	name: Uint8Array,
	crc: number,
	size: number,
	time: number,
	offset: number,
): Uint8Array<ArrayBuffer> {
	return new Fields(46 + name.length + 28)
		.u32(0x02014b50)
		.u16(version, version, utf8Names, 0)
		.u32(time, crc, 0xffffffff, 0xffffffff)
		.u16(name.length, 28, 0, 0, 0)
		.u32(0, 0xffffffff)
		.raw(name)
		.u16(1, 24)
		.u64(size, size, offset).bytes;
}

/** §4.3.14 to §4.3.16. */
function end(entries: number, directoryBytes: number, offset: number): Uint8Array<ArrayBuffer> {
	return new Fields(56 + 20 + 22)
		.u32(0x06064b50)
		.u64(44)
		.u16(version, version)
		.u32(0, 0)
		.u64(entries, entries, directoryBytes, offset)
		.u32(0x07064b50, 0)
		.u64(offset + directoryBytes)
		.u32(1)
		.u32(0x06054b50)
		.u16(0, 0, 0xffff, 0xffff)
		.u32(0xffffffff, 0xffffffff)
		.u16(0).bytes;
}

/** Date and time of MS-DOS (§4.4.6): two seconds fine, from 1980 on. */
function dosTime(ms: number): number {
	const date = new Date(ms);
	const year = Math.min(Math.max(date.getFullYear(), 1980), 2107);
	const day = ((year - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
	const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
	return ((day << 16) | time) >>> 0;
}
