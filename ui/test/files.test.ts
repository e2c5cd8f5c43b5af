import { expect, test } from "vitest";
import { parseOffer } from "../src/call/files.js";
import { size, timeLeft } from "../src/files/format.js";
import { dictionary } from "../src/i18n/index.js";

test.each([
	[0, "0 B"],
	[999, "999 B"],
	[1_000, "1 KB"],
	[1_234_567, "1.23 MB"],
	[12_345_678, "12.3 MB"],
	[999_999_999, "1 GB"],
	[53_687_091_200, "53.7 GB"],
])("%d bytes are %s", (bytes, words) => {
	expect(size(bytes, "en")).toBe(words);
});

test.each([
	[400, "1 s", "1초"],
	[59_000, "59 s", "59초"],
	[61_000, "1 min 10 s", "1분 10초"],
	[3_700_000, "1 h 2 min", "1시간 2분"],
])("%d ms are left", (ms, english, korean) => {
	expect(timeLeft(ms, dictionary("en"))).toBe(english);
	expect(timeLeft(ms, dictionary("ko"))).toBe(korean);
});

test("an offer of a peer is taken for no more than it is", () => {
	const offer = { id: "abcdefghijklmnop", secret: "AAECAwQFBgcICQoLDA0ODw", names: ["바다.mov"], count: 1, bytes: 7 };
	expect(parseOffer(JSON.stringify(offer))).toEqual(offer);
	const apart = { ...offer, bytes: null, apart: true };
	expect(parseOffer(JSON.stringify(apart))).toEqual(apart);
	expect(parseOffer(JSON.stringify({ ...offer, names: [1, "x".repeat(999), "a", "b", "c"] }))?.names).toEqual([
		"x".repeat(255),
		"a",
		"b",
	]);
	for (const wrong of [
		"",
		"null",
		"7",
		"[]",
		"{}",
		JSON.stringify({ ...offer, bytes: -1 }),
		JSON.stringify({ ...offer, id: 7 }),
	]) {
		expect(parseOffer(wrong)).toBeNull();
	}
});
