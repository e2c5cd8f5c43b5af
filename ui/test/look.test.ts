import { encode } from "uqr";
import { describe, expect, test } from "vitest";
import { path } from "../src/qr.js";
import { avatarColor, avatarColors, dark, initials, light } from "../src/tokens.js";

/** WCAG 2.2, relative luminance and contrast ratio. */
function luminance(hex: string): number {
	const [r, g, b] = [1, 3, 5].map((i) => {
		const c = Number.parseInt(hex.slice(i, i + 2), 16) / 255;
		return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
	}) as [number, number, number];
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(a: string, b: string): number {
	const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
	return (hi + 0.05) / (lo + 0.05);
}

type Name = keyof typeof light;
const pairs: [text: Name, ground: Name][] = [
	["ink", "paper"],
	["ink", "surface"],
	["ink", "sunk"],
	["ink2", "paper"],
	["ink2", "surface"],
	["ink2", "sunk"],
	["accent", "paper"],
	["accent", "surface"],
	["onAccent", "accent"],
	["accentInk", "accentSoft"],
	["onDanger", "danger"],
	["dangerInk", "dangerSoft"],
	["dangerInk", "surface"],
	["dangerInk", "paper"],
	["paper", "ink"],
];
const graphics: [shape: Name, ground: Name][] = [
	["good", "surface"],
	["fair", "surface"],
	["poor", "surface"],
	["warm", "paper"],
	["danger", "surface"],
];

describe.each([
	["light", light],
	["dark", dark],
] as const)("%s", (_, palette) => {
	test.each(pairs)("text %s on %s can be read (4.5 : 1)", (text, ground) => {
		expect(contrast(palette[text], palette[ground])).toBeGreaterThanOrEqual(4.5);
	});
	test.each(graphics)("%s stands out from %s (3 : 1)", (shape, ground) => {
		expect(contrast(palette[shape], palette[ground])).toBeGreaterThanOrEqual(3);
	});
});

test("initials can be read on every avatar", () => {
	for (const color of avatarColors) expect(contrast(color, "#ffffff"), color).toBeGreaterThanOrEqual(4.5);
	expect(avatarColor("p1")).toBe(avatarColor("p1"));
	expect(new Set(Array.from({ length: 200 }, (_, i) => avatarColor(`peer-${i}`))).size).toBe(avatarColors.length);
});

test("initials", () => {
	expect(initials("Mina Kim")).toBe("MK");
	expect(initials("  jun ")).toBe("J");
	expect(initials("김민아")).toBe("민아");
	expect(initials("")).toBe("·");
	expect(initials("😀 Cat")).toBe("😀C");
});

test("the QR path has exactly the dark modules", () => {
	const { data, size } = encode("https://call.example.com/c/demo", { ecc: "M", border: 2 });
	const drawn = Array.from({ length: size }, () => new Array<boolean>(size).fill(false));
	for (const [, x, y, width] of path(data).matchAll(/M(\d+) (\d+)h(\d+)v1h-\d+z/g)) {
		for (let i = 0; i < Number(width); i++) (drawn[Number(y)] as boolean[])[Number(x) + i] = true;
	}
	expect(drawn).toEqual(data.map((row) => [...row]));
});
