// CRC-32 as ZIP uses it (ISO 3309; APPNOTE.TXT §4.4.7), eight bytes a step. The journal uses it too, to know a torn record.

const tables: readonly Uint32Array[] = (() => {
	const first = new Uint32Array(256);
	for (let i = 0; i < 256; i++) {
		let value = i;
		for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
		first[i] = value;
	}
	const all = [first];
	for (let n = 1; n < 8; n++) {
		const former = all[n - 1] as Uint32Array;
		all.push(former.map((value) => (value >>> 8) ^ (first[value & 255] as number)));
	}
	return all;
})();

/** The checksum of what `crc` is the checksum of, followed by `bytes`. */
export function crc32(bytes: Uint8Array, crc = 0): number {
	const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
		Uint32Array,
		Uint32Array,
		Uint32Array,
		Uint32Array,
		Uint32Array,
		Uint32Array,
		Uint32Array,
		Uint32Array,
	];
	let c = ~crc;
	let at = 0;
	const table = (t: Uint32Array, index: number) => t[index & 255] as number;
	for (; at + 8 <= bytes.length; at += 8) {
		const b = (n: number) => bytes[at + n] as number;
		c ^= b(0) | (b(1) << 8) | (b(2) << 16) | (b(3) << 24);
		c =
			table(t7, c) ^
			table(t6, c >>> 8) ^
			table(t5, c >>> 16) ^
			table(t4, c >>> 24) ^
			table(t3, b(4)) ^
			table(t2, b(5)) ^
			table(t1, b(6)) ^
			table(t0, b(7));
	}
	for (; at < bytes.length; at++) c = (c >>> 8) ^ table(t0, c ^ (bytes[at] as number));
	return ~c >>> 0;
}
