import { sha256 } from "@noble/hashes/sha2.js";
import { describe, expect, test } from "vitest";
import { blockBytes, blockCount, blockLength } from "../src/transfer/blocks.js";
import { Fetcher } from "../src/transfer/fetcher.js";
import { endForOthers, toBase64 } from "../src/transfer/secret.js";
import { Server } from "../src/transfer/server.js";
import { fileRoot } from "../src/transfer/tree.js";
import { decodeMessage, type Entry, type Message, WireError } from "../src/transfer/wire.js";

// The two machines against each other, over lanes that are lost at random. Contents are stood for by their hashes: what a block is made of does
// not matter here.

/** Mulberry32: the same seed, the same history. */
function random(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
}

const hashOf = (file: number, block: number, edition: number) =>
	sha256(Uint8Array.of(file, block & 255, block >> 8, edition));

type Crossing = { to: "sender" | "receiver"; lane: number; deliver: () => void };

/** One sender and one receiver. */
class World {
	readonly entries: Entry[];
	readonly rnd: () => number;
	nowMs = 0;
	/** Which edition of each file the sender has: it changes when the file does. */
	readonly editions: number[];
	readonly server: Server;
	fetcher: Fetcher;
	readonly disk = new Map<string, Uint8Array>();
	readonly lanes = new Set<number>();
	crossing: Crossing[] = [];
	laneNumbers = 0;
	served = 0;
	ended: string | null = null;
	completed = 0;
	senderComplete = false;
	readonly doneFiles: number[] = [];
	roots = 0;

	constructor(seed: number, sizes: readonly (number | null)[], receivers = 1) {
		this.rnd = random(seed);
		this.entries = sizes.map((size, i) =>
			size === null ? { path: `d${i}`, size: 0, dir: true } : { path: `f${i}`, size },
		);
		this.editions = sizes.map(() => 0);
		this.server = new Server(
			{
				send: (lane, message) => this.#toReceiver(lane, message),
				sendHashes: (lane, file, first, count) => {
					const most = Math.min(count, blockCount(this.#size(file)) - first);
					const hashes = Array.from({ length: Math.max(0, most) }, (_, i) =>
						hashOf(file, first + i, this.editions[file] as number),
					);
					this.#cross("receiver", lane, () => this.fetcher.hashes(lane, file, first, hashes, this.nowMs));
				},
				endLane: (lane) => this.lose(lane),
				wake: () => {},
				sendRoot: (lane, file) => {
					if (file === undefined) return;
					this.roots++;
					const count = blockCount(this.#size(file));
					const hashes = Array.from({ length: count }, (_, i) => hashOf(file, i, this.editions[file] as number));
					this.#toReceiver(lane, { type: "root", file, root: toBase64(fileRoot(this.#size(file), hashes)) });
				},
				complete: () => {
					this.senderComplete = true;
				},
				changed: () => {},
			},
			this.entries,
			"s".repeat(22),
			receivers,
		);
		this.fetcher = this.newFetcher();
	}

	#size(file: number): number {
		return this.entries[file]?.size ?? 0;
	}

	newFetcher(): Fetcher {
		return new Fetcher(
			{
				send: (lane, message) => {
					// What is sent has to be what the other side reads.
					const read = decodeMessage(JSON.stringify(message)) as Message;
					this.#cross("sender", lane, () => this.server.message(lane, read));
				},
				endLane: (lane) => this.lose(lane),
				ended: (code) => {
					this.ended = code;
				},
				fileDone: (file) => this.doneFiles.push(file),
				complete: () => {
					this.completed++;
					this.fetcher.sayComplete();
				},
				alone: () => {},
				changed: () => {},
			},
			"r".repeat(22),
		);
	}

	#toReceiver(lane: number, message: Message): void {
		const read = decodeMessage(JSON.stringify(message)) as Message;
		this.#cross("receiver", lane, () => this.fetcher.message(lane, read, this.nowMs));
	}

	#cross(to: "sender" | "receiver", lane: number, deliver: () => void): void {
		if (this.lanes.has(lane)) this.crossing.push({ to, lane, deliver });
	}

	open(): number {
		const lane = ++this.laneNumbers;
		this.lanes.add(lane);
		this.server.laneOpened(lane, this.nowMs);
		this.fetcher.laneOpened(lane, this.nowMs, "sender");
		return lane;
	}

	lose(lane: number): void {
		if (!this.lanes.delete(lane)) return;
		this.crossing = this.crossing.filter((crossing) => crossing.lane !== lane);
		this.server.laneClosed(lane);
		this.fetcher.laneClosed(lane);
	}

	/** The receiver is killed and comes back with what its journal has. */
	crash(): void {
		for (const lane of [...this.lanes]) this.lose(lane);
		this.fetcher = this.newFetcher();
	}

	found(): { file: number; block: number; hash: Uint8Array }[] {
		return [...this.disk].map(([key, hash]) => {
			const [file, block] = key.split(":").map(Number) as [number, number];
			return { file, block, hash };
		});
	}

	/** One thing happens: a message arrives, in the order of its lane and direction; or the sender sends a block. */
	step(): void {
		this.nowMs += 5;
		const lanes = [...this.lanes];
		const lane = lanes[Math.floor(this.rnd() * lanes.length)];
		if (lane === undefined) return;
		const direction = this.rnd() < 0.5 ? "sender" : "receiver";
		const index = this.crossing.findIndex((crossing) => crossing.lane === lane && crossing.to === direction);
		if (index >= 0) {
			const [next] = this.crossing.splice(index, 1);
			try {
				next?.deliver();
			} catch (error) {
				if (!(error instanceof WireError)) throw error;
				this.ended = error.code;
			}
		}
		const next = this.server.take(lane, this.nowMs);
		if (!next) return;
		if ("message" in next) {
			this.#toReceiver(lane, next.message);
			return;
		}
		const [file, block] = next.block;
		if (block >= blockCount(this.#size(file))) return;
		this.served++;
		const hash = hashOf(file, block, this.editions[file] as number);
		const bytes = blockLength(this.#size(file), block);
		this.#cross("receiver", lane, () => {
			if (!this.fetcher.arrived(lane, file, block, bytes, hash, this.nowMs)) return;
			this.disk.set(`${file}:${block}`, hash);
			this.fetcher.kept(lane, file, block, hash);
		});
	}

	run(until: () => boolean, between?: () => void): void {
		for (let steps = 0; !until(); steps++) {
			if (steps > 200_000)
				throw new Error(`it does not end: ${this.fetcher.receivedBytes} of ${this.fetcher.totalBytes}`);
			between?.();
			if (steps % 50 === 0) {
				this.fetcher.tick(this.nowMs);
				this.server.tick(this.nowMs);
			}
			this.step();
		}
	}

	get blocks(): number {
		return this.entries.reduce((sum, { size }) => sum + blockCount(size ?? 0), 0);
	}

	/** Every block is there, in the sender's edition. */
	check(): void {
		for (const [file, { size }] of this.entries.entries()) {
			for (let block = 0; block < blockCount(size ?? 0); block++) {
				expect(this.disk.get(`${file}:${block}`)).toEqual(hashOf(file, block, this.editions[file] as number));
			}
		}
	}
}

const all = () => true;
const sizes = [0, 1, blockBytes, blockBytes + 1, null, 40 * blockBytes + 7, 3, 7 * blockBytes];

describe("fetcher and server", () => {
	test("everything arrives once, and both know it", () => {
		const world = new World(1, sizes);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		expect(world.served).toBe(0);
		world.fetcher.accept(all, []);
		world.run(() => world.ended !== null);
		world.check();
		expect([world.ended, world.served, world.senderComplete, world.completed]).toEqual(["done", world.blocks, true, 1]);
		expect(world.doneFiles.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 5, 6, 7]);
	});

	test.each(Array.from({ length: 25 }, (_, i) => i))("lanes that come and go, seed %i", (seed) => {
		const world = new World(seed, sizes);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, []);
		world.run(
			() => world.ended !== null,
			() => {
				const chance = world.rnd();
				if (chance < 0.02) for (const lane of [...world.lanes].slice(0, 1)) world.lose(lane);
				if (world.lanes.size < 1 || (chance > 0.98 && world.lanes.size < 8)) world.open();
			},
		);
		expect(world.ended).toBe("done");
		world.check();
	});

	test.each(Array.from({ length: 10 }, (_, i) => i))("a crash costs only what was not kept, seed %i", (seed) => {
		const world = new World(seed, [200 * blockBytes]);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, []);
		world.run(() => world.disk.size >= 100);
		world.crash();
		const before = world.served;
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, world.found());
		world.run(() => world.ended !== null);
		world.check();
		expect(world.served - before).toBe(200 - 100);
	});

	test("a pause is answered, and what was asked for comes later", () => {
		const world = new World(3, [60 * blockBytes]);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, []);
		world.run(() => world.disk.size >= 10);
		world.fetcher.pause(true);
		for (let i = 0; i < 2_000; i++) world.step();
		const had = world.disk.size;
		expect(had).toBeLessThan(60);
		for (let i = 0; i < 500; i++) world.step();
		expect(world.disk.size).toBe(had);
		world.fetcher.pause(false);
		world.run(() => world.ended !== null);
		world.check();
	});

	test("what is left out does not come, and can be taken in again", () => {
		const world = new World(4, [20 * blockBytes, 20 * blockBytes, 20 * blockBytes]);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept((file) => file !== 0, []);
		world.run(() => world.disk.size >= 5);
		world.fetcher.choose(1, false);
		world.fetcher.choose(0, true);
		world.run(() => world.ended !== null);
		expect(world.ended).toBe("done");
		expect(world.doneFiles.sort()).toEqual([0, 2]);
		expect(world.disk.has("1:19")).toBe(false);
	});

	test("a file that changed between two attempts is mended block by block", () => {
		const world = new World(5, [30 * blockBytes]);
		const kept = Array.from({ length: 10 }, (_, block) => ({ file: 0, block, hash: hashOf(0, block, 9) }));
		for (const { file, block, hash } of kept) world.disk.set(`${file}:${block}`, hash);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, kept);
		world.run(() => world.ended !== null);
		world.check();
		expect([world.ended, world.served, world.roots]).toEqual(["done", 30, 2]);
	});

	test("a file that cannot be had does not stop the others", () => {
		const world = new World(6, [20 * blockBytes, 20 * blockBytes]);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, []);
		world.run(() => world.disk.size >= 5);
		world.server.fail(0, "source_changed");
		world.run(() => world.ended !== null);
		expect(world.ended).toBe("done");
		expect(world.fetcher.files.map(({ done, failed }) => [done, failed])).toEqual([
			[false, "source_changed"],
			[true, null],
		]);
	});

	test("a link for one is used up by accepting, and not by looking", () => {
		const world = new World(7, [blockBytes]);
		world.open();
		world.run(() => world.fetcher.manifestWhole);
		const said: Message[] = [];
		const ended: number[] = [];
		const other = new Server(
			{
				send: (_lane, message) => said.push(message),
				sendHashes: () => said.push({ type: "wait" }),
				endLane: (lane) => ended.push(lane),
				wake: () => {},
				sendRoot: () => said.push({ type: "wait" }),
				complete: () => said.push({ type: "wait" }),
				changed: () => {},
			},
			world.entries,
			"s".repeat(22),
			1,
		);
		const hello = (lane: number, end: string) => {
			other.laneOpened(lane, 0);
			other.message(lane, { type: "hello", version: 1, role: "receiver", end: end.repeat(22) });
		};
		const last = () => said.at(-1);
		hello(1, "a");
		// Who only looks gets nothing that the content could be known by.
		for (const message of [
			{ type: "want", blocks: [[0, 0, 1]] },
			{ type: "get-root", file: 0 },
			{ type: "get-root" },
			{ type: "get-hashes", file: 0, first: 0, count: 1 },
			{ type: "complete" },
		] as Message[]) {
			hello(9, "c");
			other.message(9, message);
			expect([last(), ended]).toEqual([{ type: "bye", code: "not_accepted" }, [9]]);
			other.laneClosed(9);
			ended.length = 0;
		}
		expect([...other.receivers.keys()]).toEqual(["a".repeat(22)]);
		hello(2, "b");
		other.message(1, { type: "accept" });
		expect(last()).toEqual({ type: "accepted", alone: true });
		other.message(2, { type: "accept" });
		expect(last()).toEqual({ type: "bye", code: "transfer_taken" });
		// The one who has it comes back after a crash.
		hello(3, "a");
		other.message(3, { type: "accept" });
		expect(last()).toEqual({ type: "accepted", alone: true });
		// Blocks that there are none of it may not want, as they would never come.
		for (const [first, count] of [
			[0, 2],
			[1, 1],
		] as const) {
			expect(() => other.message(3, { type: "want", blocks: [[0, first, count]] })).toThrow(WireError);
		}
		expect(other.take(3, 0)).toBeNull();
		// A lane whose hello was lost ends alone: nobody hears bye.
		ended.length = said.length = 0;
		other.laneOpened(4, 0);
		other.message(4, { type: "accept" });
		expect(ended).toEqual([4]);
		expect(said.map(({ type }) => type)).toEqual(["hello"]);
	});

	test("a silent lane is given up, and one that says wait is not", () => {
		const world = new World(8, [50 * blockBytes]);
		const lane = world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.fetcher.accept(all, []);
		world.run(() => world.fetcher.accepted);
		world.fetcher.tick(world.nowMs);
		for (let i = 0; i < 4; i++) {
			world.nowMs += 10_000;
			world.fetcher.message(lane, { type: "wait" }, world.nowMs);
			world.fetcher.tick(world.nowMs);
		}
		expect(world.lanes.has(lane)).toBe(true);
		world.nowMs += 16_000;
		world.fetcher.tick(world.nowMs);
		expect(world.lanes.has(lane)).toBe(false);
	});

	test("more than the sender keeps in mind is a mistake", () => {
		const world = new World(9, [2_000 * blockBytes]);
		const lane = world.open();
		world.run(() => world.fetcher.manifestWhole);
		world.server.message(lane, { type: "accept" });
		world.server.message(lane, { type: "want", blocks: [[0, 0, 1_024]] });
		expect(() => world.server.message(lane, { type: "want", blocks: [[0, 1_024, 1]] })).toThrow(WireError);
	});

	const listed = (path: string, size: number | null, mtimeMs = 1) => ({ path, size, mtimeMs });
	const list = [listed("a", 5), listed("b", 5), listed("c", null)];
	test.each<[string, Entry[], string | null]>([
		["the same", list, null],
		["a stream that has ended", [...list.slice(0, 2), listed("c", 7)], null],
		["another name", [listed("a", 5), listed("B", 5), listed("c", null)], "source_changed"],
		["another size", [listed("a", 5), listed("b", 6), listed("c", null)], "source_changed"],
		["another time", [listed("a", 5), listed("b", 5, 2), listed("c", null)], "source_changed"],
		["a folder instead", [listed("a", 5), { path: "b", size: 0, dir: true }, listed("c", null)], "source_changed"],
		["one more", [...list, listed("d", 5)], "source_changed"],
		["one less", list.slice(0, 2), "source_changed"],
		["none", [], "source_changed"],
	])("a sender that comes back with a list: %s", (_, entries, code) => {
		const { fetcher, said, ended, greet } = alone();
		greet(1);
		fetcher.message(1, { type: "manifest", from: 0, entries: list, last: true }, 0);
		greet(2); // one more lane of the same life
		fetcher.laneClosed(1);
		fetcher.laneClosed(2);
		greet(3);
		expect(said.filter(([, { type }]) => type === "get-manifest")).toEqual([
			[1, { type: "get-manifest", from: 0 }],
			[3, { type: "get-manifest", from: 0 }],
		]);
		fetcher.message(3, { type: "manifest", from: 0, entries, last: true }, 0);
		expect(ended).toEqual(code ? [code] : []);
	});

	test("hashes that nobody asked for are a mistake, wherever they would go", () => {
		const { fetcher, greet } = alone();
		greet(1);
		const sizes = [5, 2 ** 44, null];
		const entries = sizes.map((size, n) => ({ path: String(n), size }));
		fetcher.message(1, { type: "manifest", from: 0, entries, last: true }, 0);
		for (const [file, first] of [
			[0, 0],
			[1, 2 ** 26 - 1],
			[2, 2 ** 31],
		] as const)
			expect(() => fetcher.hashes(1, file, first, [new Uint8Array(32)], 0)).toThrow(WireError);
	});

	test.each([
		["a file", [2 ** 44 + 1]],
		["all together", [2 ** 44, 2 ** 44, 2 ** 44, 2 ** 44, 1]],
	])("there is a limit to the size of %s", (_, sizes) => {
		const { fetcher, greet } = alone();
		greet(1);
		const page = JSON.stringify({
			type: "manifest",
			from: 0,
			entries: sizes.map((size, n) => ({ path: String(n), size })),
		});
		expect(() => fetcher.message(1, decodeMessage(page) as Message, 0)).toThrow(WireError);
	});

	test("and of all paths together", () => {
		const { fetcher, greet } = alone();
		greet(1);
		const long = "가".repeat(80);
		const pages = () => {
			for (let from = 0; ; from += 1_000) {
				const entries = Array.from({ length: 1_000 }, (_, n) => ({
					path: `${long}/${long}/${long}/${from + n}`,
					size: 0,
				}));
				fetcher.message(1, { type: "manifest", from, entries }, 0);
				expect(from).toBeLessThan(100_000); // 70 MB
			}
		};
		expect(pages).toThrow(WireError);
	});

	test("a sender that is done before anything has arrived is mistaken", () => {
		const { fetcher, ended, greet } = alone();
		greet(1);
		fetcher.message(1, { type: "bye", code: "done" }, 0);
		expect(ended).toEqual(["malformed"]);
	});

	test("another receiver does not become the sender by saying so", () => {
		const { closed, greet } = alone();
		greet(1, "receiver", "sender");
		greet(2, "sender", "receiver");
		expect(closed).toEqual([
			[1, "malformed"],
			[2, "malformed"],
		]);
	});

	/** A receiver that has a block of the only file, and another one with a lane to it. */
	const having = () => {
		const end = alone();
		const { fetcher, said, greet } = end;
		greet(1);
		fetcher.message(1, { type: "manifest", from: 0, entries: [listed("a", 2 * blockBytes)], last: true }, 0);
		fetcher.accept(all, [{ file: 0, block: 0, hash: new Uint8Array(32) }]);
		greet(2, "receiver");
		const have = () => said.filter(([, { type }]) => type === "have");
		expect([have(), fetcher.shares]).toEqual([[], false]);
		expect(said.flatMap(([lane, message]) => (message.type === "hello" ? [[lane, message.end]] : []))).toEqual([
			[1, "r".repeat(22)],
			[2, endForOthers("r".repeat(22))],
		]);
		return { ...end, have };
	};

	test("whom a link is for alone gives nothing to others", () => {
		const { fetcher, have, closed, greet } = having();
		fetcher.message(1, { type: "accepted", alone: true }, 0);
		greet(3, "receiver");
		fetcher.kept(1, 0, 1, new Uint8Array(32));
		fetcher.message(1, { type: "accepted" }, 0); // of a depot, say
		fetcher.tick(10_000);
		expect([have(), fetcher.shares, fetcher.needed]).toEqual([[], false, false]);
		expect(closed).toEqual([
			[2, "closed"],
			[3, "closed"],
		]);
	});

	test("others hear what is there when the sender has accepted", () => {
		const { fetcher, have, closed } = having();
		fetcher.message(1, { type: "accepted" }, 0);
		expect([have(), fetcher.shares]).toEqual([[[2, { type: "have", blocks: [[0, 0, 1]] }]], true]);
		expect(closed).toEqual([]);
	});
});

/** A receiver alone, whose other sides are in the test's hands. */
function alone(): {
	fetcher: Fetcher;
	said: [lane: number, message: Message][];
	ended: string[];
	closed: [lane: number, code: string][];
	greet: (lane: number, kind?: "sender" | "receiver", role?: "sender" | "receiver") => void;
} {
	const said: [number, Message][] = [];
	const ended: string[] = [];
	const closed: [number, string][] = [];
	const fetcher = new Fetcher(
		{
			send: (lane, message) => said.push([lane, message]),
			endLane: (lane, code) => {
				closed.push([lane, code]);
				fetcher.laneClosed(lane);
			},
			ended: (code) => ended.push(code),
			fileDone: () => {},
			complete: () => {},
			alone: () => {},
			changed: () => {},
		},
		"r".repeat(22),
	);
	const greet = (lane: number, kind: "sender" | "receiver" = "sender", role = kind) => {
		fetcher.laneOpened(lane, 0, kind);
		fetcher.message(lane, { type: "hello", version: 1, role, end: "s".repeat(22) }, 0);
	};
	return { fetcher, said, ended, closed, greet };
}
