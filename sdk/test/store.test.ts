import { describe, expect, test } from "vitest";
import { Bitmap, HashList, unknownCount } from "../src/transfer/blocks.js";
import { crc32 } from "../src/transfer/crc32.js";
import { decodeJournal, encodeHeader, encodeRecords, recordBytes } from "../src/transfer/journal.js";
import { LanePolicy, Rate } from "../src/transfer/rate.js";
import { zip } from "../src/transfer/zip.js";

const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));
const entry = (block: number) => ({ file: 1, block, hash: new Uint8Array(32).fill(block) });

describe("journal", () => {
	const header = encodeHeader({ id: "x", entries: ["바다"] });
	const records = encodeRecords([entry(1), entry(2), entry(3)]);
	const whole = join(header, records);

	test("says what was written", () => {
		const read = decodeJournal(whole);
		expect(read?.meta).toEqual({ id: "x", entries: ["바다"] });
		expect(read?.entries).toEqual([entry(1), entry(2), entry(3)]);
		expect(read?.wholeBytes).toBe(whole.length);
	});

	test("a crash can cut it short anywhere, and no record is invented", () => {
		for (let length = 0; length < whole.length; length++) {
			const read = decodeJournal(whole.subarray(0, length));
			if (length < header.length) {
				expect(read).toBeNull();
				continue;
			}
			const records = Math.floor((length - header.length) / recordBytes);
			expect(read?.entries.length).toBe(records);
			expect(read?.wholeBytes).toBe(header.length + records * recordBytes);
		}
	});

	test("reading stops at a record that was not written whole", () => {
		for (let at = header.length + recordBytes; at < header.length + 2 * recordBytes; at++) {
			const torn = whole.slice();
			torn[at] = (torn[at] as number) ^ 0x40;
			expect(decodeJournal(torn)?.entries).toEqual([entry(1)]);
		}
	});
});

test("CRC-32 of the standard's check value, however it is cut", () => {
	const bytes = new TextEncoder().encode("123456789");
	expect(crc32(bytes)).toBe(0xcbf43926);
	for (let at = 0; at <= 9; at++) expect(crc32(bytes.subarray(at), crc32(bytes.subarray(0, at)))).toBe(0xcbf43926);
});

test("a ZIP file has its files, their names and their checksums", async () => {
	const content = new TextEncoder().encode("123456789");
	const made = await zip([
		{ path: "사진/바다.txt", content: new Blob([content]), modifiedMs: Date.UTC(2026, 10, 28) },
		{ path: "empty", content: new Blob([]), modifiedMs: 0 },
	]);
	const bytes = new Uint8Array(await made.arrayBuffer());
	const view = new DataView(bytes.buffer);
	expect(view.getUint32(0, true)).toBe(0x04034b50);
	expect(view.getUint32(14, true)).toBe(0xcbf43926);
	const end = bytes.length - 22;
	expect(view.getUint32(end, true)).toBe(0x06054b50);
	const locator = end - 20;
	expect(view.getUint32(locator, true)).toBe(0x07064b50);
	const record = Number(view.getBigUint64(locator + 8, true));
	expect(view.getUint32(record, true)).toBe(0x06064b50);
	expect(Number(view.getBigUint64(record + 32, true))).toBe(2);
	const directory = Number(view.getBigUint64(record + 48, true));
	expect(view.getUint32(directory, true)).toBe(0x02014b50);
	const nameLength = view.getUint16(directory + 28, true);
	expect(new TextDecoder().decode(bytes.subarray(directory + 46, directory + 46 + nameLength))).toBe("사진/바다.txt");
});

test("a bitmap of a size that is not known yet", () => {
	const map = new Bitmap(unknownCount);
	for (const index of [0, 5, 70_000]) expect(map.add(index)).toBe(true);
	expect(map.add(5)).toBe(false);
	map.length = 6;
	expect([map.count, map.full, map.has(70_000)]).toEqual([2, false, false]);
	for (const index of [1, 2, 3, 4]) map.add(index);
	expect([map.full, map.add(6)]).toEqual([true, false]);
});

test("what is far away costs nothing on the way there", () => {
	const map = new Bitmap(2 ** 32);
	expect([map.bytes, map.add(5), map.bytes]).toEqual([64, true, 64]);
	const list = new HashList();
	list.set(2 ** 32 - 1, new Uint8Array(32).fill(7)); // 128 GiB, if it were one piece
	expect([list.get(2 ** 32 - 1)?.[31], list.count]).toEqual([7, 1]);
});

test("a list of hashes grows", () => {
	const list = new HashList();
	list.set(1_000, new Uint8Array(32).fill(7));
	expect(list.get(1_000)?.[31]).toBe(7);
	expect([list.get(999), list.count]).toEqual([undefined, 1]);
});

describe("rate and lanes", () => {
	test("the rate is that of the last seconds", () => {
		const rate = new Rate(5_000);
		for (let second = 0; second <= 20; second++)
			rate.add(second < 10 ? second * 100 : 1_000 + (second - 10) * 300, second * 1_000);
		expect(rate.bytesPerSecond).toBe(300);
	});

	test("lanes are added while they help", () => {
		const policy = new LanePolicy();
		let bytes = 0;
		for (let ms = 0; ms <= 60_000; ms += 250) {
			bytes += 1_000 * Math.min(policy.wanted, 4);
			policy.observe(bytes, ms, 1);
		}
		// The fifth gained nothing, and was the last.
		expect(policy.wanted).toBe(5);
	});

	test("on a long path they are, although the first lost what slow start had reached", () => {
		const policy = new LanePolicy();
		let bytes = 0;
		for (let ms = 0; ms <= 60_000; ms += 250) {
			bytes += ms <= 2_000 ? 5_000 : 1_000 * policy.wanted;
			policy.observe(bytes, ms, 100);
		}
		expect(policy.wanted).toBe(8);
	});
});
