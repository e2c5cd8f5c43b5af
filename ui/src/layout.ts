/**
 * Where each tile goes. Pure: sizes in, rectangles out (CSS pixels, relative to the stage). All tiles live in one container and are only
 * moved, so that no video element is ever made anew when the layout changes.
 */

export type LayoutMode = "auto" | "grid" | "spotlight";

/** What a tile shows, as far as its place depends on it. */
export interface TileInfo {
	readonly id: string;
	readonly self: boolean;
	readonly screen: boolean;
	/** Width by height of its picture, once known. */
	readonly aspect?: number;
}

export interface Rect {
	readonly x: number;
	readonly y: number;
	readonly width: number;
	readonly height: number;
}

export interface Placement extends Rect {
	/** `main` fills, `grid` is one of equals, `strip` is in the row beside a main one, `float` lies on top and can be moved. */
	readonly kind: "main" | "grid" | "strip" | "float";
}

export interface Arrangement {
	readonly kind: "alone" | "duo" | "grid" | "spotlight";
	readonly places: ReadonlyMap<string, Placement>;
	/** Tiles for which there is no room. */
	readonly hidden: readonly string[];
}

export interface Wish {
	readonly mode: LayoutMode;
	readonly pinned?: string | null;
	/** The tile of the active speaker. */
	readonly speaker?: string | null;
	/** Corner of the floating tile. */
	readonly corner?: Corner;
	readonly gap?: number;
}

export type Corner = "top-left" | "top-right" | "bottom-left" | "bottom-right";

/** Smallest width of a tile in which a face can be recognised. */
const minTileWidth = 132;

export function arrange(tiles: readonly TileInfo[], width: number, height: number, wish: Wish): Arrangement {
	const gap = wish.gap ?? 12;
	if (tiles.length === 0 || width <= 0 || height <= 0)
		return { kind: "grid", places: new Map(), hidden: tiles.map((t) => t.id) };
	const others = tiles.filter((t) => !t.self);
	const main = featured(tiles, wish);
	if (main) return spotlight(tiles, main, width, height, gap);
	if (wish.mode === "auto" && others.length === 1 && tiles.length === 2)
		return duo(tiles, width, height, gap, wish.corner ?? "bottom-right");
	const [only] = tiles;
	if (only && tiles.length === 1) {
		return {
			kind: "alone",
			places: new Map([[only.id, { kind: "main", ...shape(only, 0, 0, width, height) }]]),
			hidden: [],
		};
	}
	return grid(tiles, width, height, gap);
}

/** How much narrower or wider than its tile a picture may be and still fill it: somewhat more than half of it is then cut. */
const maxCrop = 2.4;

/**
 * The part of an area that a large tile takes. A screen is shown whole, so its tile has its form. A face may be cut, but not to a slit: a
 * landscape picture on an upright phone gets a tile that is less high than the phone.
 */
function shape(tile: TileInfo, x: number, y: number, width: number, height: number): Rect {
	const aspect = tile.aspect;
	let w = width;
	let h = height;
	if (aspect && Number.isFinite(aspect)) {
		const crop = tile.screen ? 1 : maxCrop * 0.9;
		w = Math.min(width, height * aspect * crop);
		h = Math.min(height, (width / aspect) * crop);
	}
	return {
		x: Math.round(x + (width - w) / 2),
		y: Math.round(y + (height - h) / 2),
		width: Math.floor(w),
		height: Math.floor(h),
	};
}

/** The tile that is shown large, or `null` when all are equal. */
export function featured(tiles: readonly TileInfo[], wish: Wish): TileInfo | null {
	if (tiles.length < 2) return null;
	const pinned = tiles.find((t) => t.id === wish.pinned);
	if (pinned) return pinned;
	if (wish.mode === "grid") return null;
	const screen = tiles.find((t) => t.screen && !t.self);
	if (screen) return screen;
	if (wish.mode !== "spotlight") return null;
	return tiles.find((t) => t.id === wish.speaker) ?? tiles.find((t) => !t.self) ?? (tiles[0] as TileInfo);
}

function duo(tiles: readonly TileInfo[], width: number, height: number, gap: number, corner: Corner): Arrangement {
	const places = new Map<string, Placement>();
	const portrait = height > width;
	const floatWidth = Math.round(
		portrait ? Math.max(96, width * 0.28) : Math.min(260, Math.max(112, width * 0.2, height * 0.3)),
	);
	const floatHeight = Math.round(portrait ? (floatWidth * 4) / 3 : (floatWidth * 9) / 16);
	const inset = Math.max(gap, 12);
	for (const tile of tiles) {
		places.set(
			tile.id,
			tile.self
				? {
						kind: "float",
						x: corner.endsWith("left") ? inset : width - floatWidth - inset,
						y: corner.startsWith("top") ? inset : height - floatHeight - inset,
						width: floatWidth,
						height: floatHeight,
					}
				: { kind: "main", ...shape(tile, 0, 0, width, height) },
		);
	}
	return { kind: "duo", places, hidden: [] };
}

/** The corner nearest to a point: where a floating tile that is let go comes to rest. */
export function nearestCorner(x: number, y: number, width: number, height: number): Corner {
	return `${y < height / 2 ? "top" : "bottom"}-${x < width / 2 ? "left" : "right"}`;
}

function spotlight(
	tiles: readonly TileInfo[],
	main: TileInfo,
	width: number,
	height: number,
	gap: number,
): Arrangement {
	const places = new Map<string, Placement>();
	const rest = tiles.filter((t) => t !== main);
	const hidden: string[] = [];
	if (width >= height * 1.2) {
		const stripWidth = Math.round(Math.min(240, Math.max(112, width * 0.18)));
		const tileHeight = Math.round((stripWidth * 9) / 16);
		const room = Math.max(1, Math.floor((height + gap) / (tileHeight + gap)));
		const shown = rest.slice(0, room);
		hidden.push(...rest.slice(room).map((t) => t.id));
		const used = shown.length * (tileHeight + gap) - gap;
		let y = Math.max(0, Math.round((height - used) / 2));
		places.set(main.id, { kind: "main", ...shape(main, 0, 0, width - stripWidth - gap, height) });
		for (const tile of shown) {
			places.set(tile.id, {
				kind: "strip",
				x: width - stripWidth,
				y,
				width: stripWidth,
				height: Math.min(tileHeight, height),
			});
			y += tileHeight + gap;
		}
	} else {
		const stripHeight = Math.round(Math.min(160, Math.max(84, height * 0.18)));
		const tileWidth = Math.round((stripHeight * 4) / 3);
		const room = Math.max(1, Math.floor((width + gap) / (tileWidth + gap)));
		const shown = rest.slice(0, room);
		hidden.push(...rest.slice(room).map((t) => t.id));
		const used = shown.length * (tileWidth + gap) - gap;
		let x = Math.max(0, Math.round((width - used) / 2));
		places.set(main.id, { kind: "main", ...shape(main, 0, 0, width, height - stripHeight - gap) });
		for (const tile of shown) {
			places.set(tile.id, {
				kind: "strip",
				x,
				y: height - stripHeight,
				width: Math.min(tileWidth, width),
				height: stripHeight,
			});
			x += tileWidth + gap;
		}
	}
	return { kind: "spotlight", places, hidden };
}

/**
 * Equal tiles: the number of columns that gives the largest tiles. A tile may be anything between 3:4 (a phone held upright) and 16:9; the
 * last row is centred.
 */
function grid(tiles: readonly TileInfo[], width: number, height: number, gap: number): Arrangement {
	let shown = [...tiles];
	const hidden: string[] = [];
	let best = bestGrid(shown.length, width, height, gap);
	while (best.width < Math.min(minTileWidth, width) && shown.length > 1) {
		// One's own tile is the first to go: it is the least news.
		const drop = shown.findIndex((t) => t.self && !t.screen);
		hidden.unshift(...shown.splice(drop >= 0 ? drop : shown.length - 1, 1).map((t) => t.id));
		best = bestGrid(shown.length, width, height, gap);
	}
	shown = [...shown];
	const places = new Map<string, Placement>();
	const rows = Math.ceil(shown.length / best.columns);
	const top = (height - rows * best.height - (rows - 1) * gap) / 2;
	shown.forEach((tile, i) => {
		const row = Math.floor(i / best.columns);
		const inRow = row === rows - 1 ? shown.length - row * best.columns : best.columns;
		const left = (width - inRow * best.width - (inRow - 1) * gap) / 2;
		places.set(tile.id, {
			kind: "grid",
			x: Math.round(left + (i % best.columns) * (best.width + gap)),
			y: Math.round(top + row * (best.height + gap)),
			width: Math.floor(best.width),
			height: Math.floor(best.height),
		});
	});
	return { kind: "grid", places, hidden };
}

function bestGrid(count: number, width: number, height: number, gap: number) {
	let best = { columns: 1, width: 0, height: 0, score: -1 };
	for (let columns = 1; columns <= count; columns++) {
		const rows = Math.ceil(count / columns);
		let tileWidth = (width - gap * (columns - 1)) / columns;
		let tileHeight = (height - gap * (rows - 1)) / rows;
		if (tileWidth <= 0 || tileHeight <= 0) continue;
		tileWidth = Math.min(tileWidth, (tileHeight * 16) / 9);
		tileHeight = Math.min(tileHeight, (tileWidth * 4) / 3);
		// Faces are cut to the tile: what counts is the larger 4:3 picture that fits, with a small say for the whole area.
		const face = Math.min(tileWidth, (tileHeight * 4) / 3);
		const score = face * face + tileWidth * tileHeight * 0.2;
		if (score > best.score) best = { columns, width: tileWidth, height: tileHeight, score };
	}
	return best;
}

/** Whether a picture fills its tile, cut at the edges, or is shown whole. */
export function fit(videoAspect: number | undefined, tileAspect: number): "cover" | "contain" {
	if (!videoAspect || !Number.isFinite(videoAspect) || tileAspect <= 0) return "cover";
	const ratio = videoAspect / tileAspect;
	return Math.max(ratio, 1 / ratio) > maxCrop ? "contain" : "cover";
}
