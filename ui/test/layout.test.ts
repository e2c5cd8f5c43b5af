import { describe, expect, test } from "vitest";
import { type Arrangement, arrange, fit, nearestCorner, type TileInfo } from "../src/layout.js";

const self: TileInfo = { id: "self", self: true, screen: false };
const peer = (n: number): TileInfo => ({ id: `p${n}`, self: false, screen: false });
const room = (n: number): TileInfo[] => [...Array.from({ length: n }, (_, i) => peer(i)), self];
const sizes = [
	[1248, 640],
	[390, 690],
	[760, 374],
	[320, 240],
	[140, 100],
] as const;

const overlaps = (a: { x: number; y: number; width: number; height: number }, b: typeof a) =>
	a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

function check(arrangement: Arrangement, tiles: readonly TileInfo[], width: number, height: number) {
	expect(new Set([...arrangement.places.keys(), ...arrangement.hidden])).toEqual(new Set(tiles.map((t) => t.id)));
	const flat = [...arrangement.places.values()].filter((p) => p.kind !== "float");
	for (const place of arrangement.places.values()) {
		expect(place.width).toBeGreaterThan(0);
		expect(place.height).toBeGreaterThan(0);
		expect(place.x).toBeGreaterThanOrEqual(-1);
		expect(place.y).toBeGreaterThanOrEqual(-1);
		expect(place.x + place.width).toBeLessThanOrEqual(width + 1);
		expect(place.y + place.height).toBeLessThanOrEqual(height + 1);
	}
	for (const [i, a] of flat.entries()) for (const b of flat.slice(i + 1)) expect(overlaps(a, b)).toBe(false);
}

describe("arrange", () => {
	test.each(sizes)("keeps every tile inside and apart, %d × %d", (width, height) => {
		for (const count of [0, 1, 2, 3, 4, 6, 8, 12, 24, 49]) {
			for (const mode of ["auto", "grid", "spotlight"] as const) {
				check(arrange(room(count), width, height, { mode }), room(count), width, height);
			}
			const shared = [...room(count), { id: "p0/screen", self: false, screen: true }];
			check(arrange(shared, width, height, { mode: "auto" }), shared, width, height);
		}
	});

	test("alone", () => {
		expect(arrange(room(0), 800, 600, { mode: "auto" }).kind).toBe("alone");
	});

	test("two people: the other fills, oneself floats in the chosen corner", () => {
		const a = arrange(room(1), 1248, 640, { mode: "auto" });
		expect(a.kind).toBe("duo");
		expect(a.places.get("p0")).toMatchObject({ kind: "main", width: 1248, height: 640 });
		expect(a.places.get("self")?.kind).toBe("float");
		const corner = arrange(room(1), 1248, 640, { mode: "auto", corner: "top-left" }).places.get("self");
		expect(corner).toMatchObject({ x: 12, y: 12 });
	});

	test("a wish for the grid holds for two", () => {
		const a = arrange(room(1), 1248, 640, { mode: "grid" });
		expect(a.kind).toBe("grid");
		expect([...a.places.values()].every((p) => p.kind === "grid")).toBe(true);
	});

	test("three and more are equals", () => {
		const a = arrange(room(3), 1248, 640, { mode: "auto" });
		expect(a.kind).toBe("grid");
		expect(new Set([...a.places.values()].map((p) => p.width)).size).toBe(1);
	});

	test("a shared screen is in the spotlight, one's own is not", () => {
		const theirs = [...room(2), { id: "p0/screen", self: false, screen: true }];
		expect(arrange(theirs, 1248, 640, { mode: "auto" }).places.get("p0/screen")?.kind).toBe("main");
		const mine = [...room(2), { id: "self/screen", self: true, screen: true }];
		expect(arrange(mine, 1248, 640, { mode: "auto" }).kind).toBe("grid");
		expect(arrange(theirs, 1248, 640, { mode: "grid" }).kind).toBe("grid");
	});

	test("a pinned tile wins over a shared screen, and one that is gone over nothing", () => {
		const tiles = [...room(3), { id: "p0/screen", self: false, screen: true }];
		expect(arrange(tiles, 1248, 640, { mode: "auto", pinned: "p2" }).places.get("p2")?.kind).toBe("main");
		expect(arrange(room(3), 1248, 640, { mode: "auto", pinned: "gone" }).kind).toBe("grid");
	});

	test("the spotlight follows the speaker", () => {
		expect(arrange(room(3), 1248, 640, { mode: "spotlight", speaker: "p1" }).places.get("p1")?.kind).toBe("main");
		expect(arrange(room(3), 1248, 640, { mode: "spotlight" }).places.get("p0")?.kind).toBe("main");
	});

	test("on an upright phone the strip lies below", () => {
		const a = arrange(room(3), 390, 690, { mode: "spotlight" });
		const main = a.places.get("p0");
		const strip = [...a.places.values()].filter((p) => p.kind === "strip");
		expect(strip.length).toBeGreaterThan(0);
		for (const place of strip) expect(place.y).toBeGreaterThanOrEqual((main?.y ?? 0) + (main?.height ?? 0));
	});

	test("four on an upright phone stand two by two or one above the other, never in one row", () => {
		const a = arrange(room(3), 390, 690, { mode: "grid" });
		expect(new Set([...a.places.values()].map((p) => p.y)).size).toBeGreaterThan(1);
	});

	test("no room: oneself is hidden first, and nobody is lost", () => {
		const a = arrange(room(30), 320, 480, { mode: "grid" });
		expect(a.hidden).toContain("self");
		expect(a.places.size + a.hidden.length).toBe(31);
		expect(arrange(room(2), 0, 0, { mode: "auto" }).hidden).toHaveLength(3);
	});
});

test("a picture is cut only where enough of it stays", () => {
	expect(fit(16 / 9, 16 / 9)).toBe("cover");
	expect(fit(16 / 9, 4 / 3)).toBe("cover");
	expect(fit(16 / 9, 390 / 690)).toBe("contain");
	expect(fit(9 / 16, 1248 / 640)).toBe("contain");
	expect(fit(undefined, 1)).toBe("cover");
	expect(fit(0, 1)).toBe("cover");
	expect(fit(1, 0)).toBe("cover");
});

test("the nearest corner", () => {
	expect(nearestCorner(10, 10, 800, 600)).toBe("top-left");
	expect(nearestCorner(790, 10, 800, 600)).toBe("top-right");
	expect(nearestCorner(10, 590, 800, 600)).toBe("bottom-left");
	expect(nearestCorner(401, 301, 800, 600)).toBe("bottom-right");
});
