import { describe, expect, it } from "vitest";
import {
	Cut,
	compareVersions,
	decode,
	encodeFragment,
	encodeHave,
	encodeMaster,
	encodeText,
	fitName,
	formFor,
	legacyBytes,
	tokenOf,
} from "../src/frame.js";

const id = 1469409660000;
const sender = "TKS8a1f0c3e5b7d92";
const payload = encodeText("Hi");
const text = { id, sender, type: "text", totalSize: 4, fileName: "", mimeType: "", fragCount: 1, payload } as const;

const bytes = (hex: string) =>
	new Uint8Array(hex.match(/[0-9a-f]{2}/g)?.map((pair) => Number.parseInt(pair, 16)) ?? []);
const vectors = {
	old: bytes(
		"4275 61fa 40c6 0000 | 0000 0000 | 4010 0000 0000 0000 | 0000 0000 | 0000 0001 | 0000 0000 | 0000 0004 | 0048 0069",
	),
	new: bytes(
		`4275 61fa 40c6 0000 | 0000 0000 | 0054 004b 0053 0038 0061 0031 0066 0030 0063 0033 0065 0035 0062 0037 0064 0039 0032
		| 4010 0000 0000 0000 | 0000 0000 | 0000 0001 | 0000 0000 | 0000 0004 | 0048 0069`,
	),
	fragment: bytes("4275 61fa 40c6 0000 | 0000 0001 | 0000 0001 | 0000 0004 | 0048 0069"),
};

describe("packets", () => {
	it.each(["old", "new"] as const)("writes and reads a text master of the %s form, byte for byte", (form) => {
		expect(encodeMaster({ ...text, form })).toEqual(vectors[form]);
		expect(decode(vectors[form].buffer)).toEqual({
			...text,
			kind: "master",
			form,
			sender: form === "new" ? sender : "",
		});
	});

	it("writes and reads a fragment, byte for byte", () => {
		expect(encodeFragment(id, 1, payload)).toEqual(vectors.fragment);
		expect(decode(vectors.fragment.buffer)).toEqual({ kind: "fragment", id, fragIndex: 1, payload });
	});

	it.each(["old", "new"] as const)("places a file's fields where the %s form has them", (form) => {
		const file = { ...text, form, type: "binary", fileName: "보고서.pdf", mimeType: "application/pdf" } as const;
		const packet = encodeMaster(file);
		const at =
			form === "new"
				? { name: 58, mime: 314, count: 570, payload: 582 }
				: { name: 24, mime: 280, count: 536, payload: 548 };
		expect(packet.length).toBe(at.payload + 4);
		expect(packet.subarray(at.name, at.name + 6)).toEqual(encodeText("보고서"));
		expect(packet.subarray(at.mime, at.mime + 4)).toEqual(encodeText("ap"));
		expect(new DataView(packet.buffer).getInt32(at.count)).toBe(1);
		expect(packet.subarray(at.payload)).toEqual(payload);
		expect(decode(packet.buffer)).toMatchObject({
			form,
			type: "binary",
			fileName: "보고서.pdf",
			mimeType: "application/pdf",
		});
	});

	it("tells an empty message of the old form from the new form", () => {
		const empty = { ...text, totalSize: 0, payload: new Uint8Array(0) };
		expect(decode(encodeMaster({ ...empty, form: "old" }).buffer)).toMatchObject({ form: "old", totalSize: 0 });
		expect(decode(encodeMaster({ ...empty, form: "new" }).buffer)).toMatchObject({ form: "new", totalSize: 0 });
	});

	it("reads what the other side has", () => {
		expect(decode(encodeHave(id, 7).buffer)).toEqual({ kind: "have", id, next: 7 });
	});

	it("refuses what is none, however it is cut or bent", () => {
		const file = encodeMaster({ ...text, form: "new", type: "binary", fileName: "a", mimeType: "b" });
		for (const whole of [vectors.old, vectors.new, vectors.fragment, file]) {
			for (let length = 0; length < whole.length; length++) expect(decode(whole.slice(0, length).buffer)).toBeNull();
		}
		// Marsaglia's xorshift: the same bytes in each run.
		let x = 2463534242;
		const next = () => {
			x ^= x << 13;
			x ^= x >>> 17;
			x ^= x << 5;
			return x >>> 0;
		};
		for (let round = 0; round < 20_000; round++) {
			const packet = [vectors.old, vectors.new, vectors.fragment, file][round % 4]?.slice() as Uint8Array<ArrayBuffer>;
			for (let change = next() % 6; change >= 0; change--) packet[next() % packet.length] = next();
			const read = decode(packet.buffer);
			if (read && read.kind !== "have")
				expect(read.payload.byteOffset + read.payload.length).toBeLessThanOrEqual(packet.length);
		}
	});
});

describe("cutting", () => {
	const sizes = (total: number, form: "old" | "new", packet = legacyBytes) => {
		const cut = new Cut(total, packet, form);
		return Array.from({ length: cut.count }, (_, index) => cut.size(index));
	};

	it("sends an empty message as one empty fragment", () => {
		expect(sizes(0, "old")).toEqual([0]);
	});

	it.each([
		[1, "old", [1]],
		[8191, "old", [8191]],
		[8192, "old", [8192]],
		[8193, "old", [8189, 4]],
		[8193, "new", [8155, 38]],
		[8194, "old", [8190, 4]],
		[16386, "old", [8192, 8190, 4]],
		[16386, "new", [8192, 8156, 38]],
		[16384 + 38, "new", [8192, 8192, 38]],
	] as const)("keeps the last of %d bytes readable for %s receivers", (total, form, expected) => {
		expect(sizes(total, form)).toEqual(expected);
	});

	it("covers everything once", () => {
		for (let total = 0; total < 3 * legacyBytes; total += 37) {
			for (const form of ["old", "new"] as const) {
				const cut = new Cut(total, legacyBytes, form);
				let at = 0;
				for (let index = 0; index < cut.count; index++) {
					expect(cut.offset(index)).toBe(at);
					at += cut.size(index);
					expect(cut.size(index)).toBeLessThanOrEqual(legacyBytes);
				}
				expect(at).toBe(total);
				if (cut.count > 1) expect(cut.size(cut.count - 1)).toBeGreaterThanOrEqual(form === "old" ? 4 : 38);
			}
		}
	});
});

describe("the choice of the form", () => {
	const env = (platformType: string, type: string, version: string) => ({ platformType, sdk: { type, version } });

	it.each([
		[env("mac", "web", "2.2.15"), "old"],
		[env("mac", "web", "2.2.17"), "new"],
		[env("windows", "web", "2.2.9"), "old"],
		[env("android", "native", "2.2.8"), "old"],
		[env("android", "native", "2.2.12"), "new"],
		[env("ios", "native", "2.2.8"), "new"],
		[env("linux", "native", "2.2.21"), "old"],
		[env("", "", ""), "old"],
		[{ platformType: "mac" }, "old"],
		[null, "old"],
		["mac", "old"],
	])("follows the peer's env %j", (value, form) => {
		expect(formFor(value)).toBe(form);
	});

	it("compares versions by their parts", () => {
		expect(compareVersions("2.2.9", "2.2.17")).toBe(-1);
		expect(compareVersions("2.10", "2.9.9")).toBe(1);
		expect(compareVersions("2.2", "2.2.0")).toBe(0);
	});
});

it("keeps the extension of a long name", () => {
	expect(fitName(`${"가".repeat(200)}.jpeg`)).toBe(`${"가".repeat(123)}.jpeg`);
	expect(fitName("short")).toBe("short");
});

it("derives a token of 17 units from a peer's id", () => {
	expect(tokenOf("pabcdefghijklmnop")).toBe("TKSabcdefghijklmn");
});
