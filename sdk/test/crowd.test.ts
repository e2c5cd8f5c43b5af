import { sha256 } from "@noble/hashes/sha2.js";
import { describe, expect, test } from "vitest";
import { blockBytes, blockCount, blockLength } from "../src/transfer/blocks.js";
import { Fetcher } from "../src/transfer/fetcher.js";
import type { Next } from "../src/transfer/queue.js";
import { toBase64 } from "../src/transfer/secret.js";
import { Server } from "../src/transfer/server.js";
import { Sharer } from "../src/transfer/share.js";
import { fileRoot } from "../src/transfer/tree.js";
import { decodeMessage, type Entry, type Message } from "../src/transfer/wire.js";

// One sender and several receivers whose messages take time and whose ways up carry so much and not more: docs/transfer.md §10. No chance is in it:
// the same crowd does the same each time.

const hashOf = (file: number, block: number) => sha256(Uint8Array.of(file, block & 255, block >> 8));
const latencyMs = 20;
const stepMs = 10;

type OnTheWay = { atMs: number; deliver: () => void };

/** One direction of a lane: whoever is at `to` gets what is sent, in order. */
interface Way {
	readonly queue: OnTheWay[];
	readonly take: () => Next | null;
	/** A block arrives on the other side. */
	readonly block: (file: number, block: number) => void;
}

/** A way up, shared by the lanes in turn. */
interface Up {
	budget: number;
	turn: number;
	readonly upBytesPerMs?: number | undefined;
}

class End implements Up {
	readonly fetcher: Fetcher;
	readonly sharer: Sharer;
	readonly ways = new Map<number, Way>();
	/** By lane: what the other side does with a text. */
	readonly says = new Map<number, (message: Message) => void>();
	readonly joinsMs: number;
	leavesMs = Number.POSITIVE_INFINITY;
	joined = false;
	gone = false;
	doneMs: number | null = null;
	budget = 0;
	turn = 0;
	/** Of its way up; default: as all. */
	upBytesPerMs: number | undefined;

	constructor(n: number, of: number, now: () => number) {
		this.joinsMs = n * 30;
		const say = (lane: number, message: Message) => this.says.get(lane)?.(message);
		this.sharer = new Sharer({ send: say, wake: () => {} });
		this.fetcher = new Fetcher(
			{
				send: say,
				endLane: (_lane, code) => {
					throw new Error(`a lane was ended: ${code}`);
				},
				ended: () => {
					this.doneMs = now();
				},
				fileDone: () => {},
				complete: () => this.fetcher.sayComplete(),
				alone: () => {},
				changed: () => {},
			},
			String(n).padStart(22, "r"),
			undefined,
			((n * 7) % of) / of,
		);
	}
}

class Crowd {
	nowMs = 0;
	sent = 0;
	readonly entries: Entry[];
	readonly server: Server;
	readonly ends: End[];
	readonly upBytesPerMs = 10_000;
	reach: (a: number, b: number) => boolean = () => true;
	#lanes = 0;
	readonly #ways = new Map<number, Way>();
	readonly #says = new Map<number, (message: Message) => void>();
	readonly #up: Up = { budget: 0, turn: 0 };

	constructor(receivers: number, sizes: readonly number[]) {
		this.entries = sizes.map((size, i) => ({ path: `f${i}`, size }));
		this.ends = Array.from({ length: receivers }, (_, n) => new End(n, receivers, () => this.nowMs));
		const say = (lane: number, message: Message) => this.#says.get(lane)?.(message);
		this.server = new Server(
			{
				send: say,
				sendHashes: (lane, file, first, count) => {
					const hashes = Array.from({ length: count }, (_, i) => hashOf(file, first + i));
					this.#hashes.get(lane)?.(file, first, hashes);
				},
				endLane: () => {},
				wake: () => {},
				sendRoot: (lane, file) => {
					const size = this.entries[file as number]?.size as number;
					const hashes = Array.from({ length: blockCount(size) }, (_, i) => hashOf(file as number, i));
					say(lane, { type: "root", file, root: toBase64(fileRoot(size, hashes)) });
				},
				complete: () => {},
				changed: () => {},
			},
			this.entries,
			"s".repeat(22),
			receivers,
		);
	}

	readonly #hashes = new Map<number, (file: number, first: number, hashes: Uint8Array[]) => void>();

	/** What an end's side of a lane delivers to it, after a while. */
	#way(to: End, lane: number, take: () => Next | null): Way {
		const way: Way = {
			queue: [],
			take,
			block: (file, block) =>
				this.#later(way, () => {
					const bytes = blockLength(this.entries[file]?.size as number, block);
					const hash = hashOf(file, block);
					if (to.fetcher.arrived(lane, file, block, bytes, hash, this.nowMs)) to.fetcher.kept(lane, file, block, hash);
				}),
		};
		return way;
	}

	#later(way: Way, deliver: () => void): void {
		way.queue.push({ atMs: this.nowMs + latencyMs, deliver });
	}

	#texts(way: Way, read: (message: Message) => void): (message: Message) => void {
		return (message) => {
			const text = JSON.stringify(message);
			this.#later(way, () => read(decodeMessage(text) as Message));
		};
	}

	#join(end: End): void {
		const lane = ++this.#lanes;
		const down = this.#way(end, lane, () => this.server.take(lane, this.nowMs));
		this.#ways.set(lane, down);
		this.#says.set(
			lane,
			this.#texts(down, (message) => end.fetcher.message(lane, message, this.nowMs)),
		);
		this.#hashes.set(lane, (file, first, hashes) =>
			this.#later(down, () => end.fetcher.hashes(lane, file, first, hashes, this.nowMs)),
		);
		const up = this.#way(end, lane, () => null);
		end.ways.set(lane, up);
		end.says.set(
			lane,
			this.#texts(up, (message) => this.server.message(lane, message)),
		);
		const others = this.ends.filter((other) => other.joined && !other.gone && other !== end);
		end.fetcher.accompany(others.length > 0, this.nowMs);
		this.server.laneOpened(lane, this.nowMs);
		end.fetcher.laneOpened(lane, this.nowMs, "sender");
		for (const other of others) {
			other.fetcher.accompany(true, this.nowMs);
			if (this.reach(this.ends.indexOf(end), this.ends.indexOf(other))) this.#meet(end, other);
		}
		end.joined = true;
	}

	#meet(a: End, b: End): void {
		const lane = ++this.#lanes;
		for (const [from, to] of [
			[a, b],
			[b, a],
		] as const) {
			const way = this.#way(to, lane, () => from.sharer.take(lane, this.nowMs));
			from.ways.set(lane, way);
			from.says.set(
				lane,
				this.#texts(way, (message) => {
					if (to.fetcher.isOther(lane) && to.sharer.message(lane, message, this.nowMs)) return;
					to.fetcher.message(lane, message, this.nowMs);
				}),
			);
		}
		a.fetcher.laneOpened(lane, this.nowMs, "receiver");
		b.fetcher.laneOpened(lane, this.nowMs, "receiver");
	}

	#leave(end: End): void {
		end.gone = true;
		for (const lane of end.ways.keys()) {
			for (const other of [...this.ends, null]) {
				const ways = other ? other.ways : this.#ways;
				if (other === end || !ways.delete(lane)) continue;
				if (other) {
					other.says.delete(lane);
					other.sharer.laneClosed(lane);
					other.fetcher.laneClosed(lane);
				} else {
					this.#says.delete(lane);
					this.server.laneClosed(lane);
				}
			}
		}
		end.ways.clear();
	}

	#give(state: Up, ways: Map<number, Way>): number {
		let given = 0;
		state.budget = Math.min(state.budget + (state.upBytesPerMs ?? this.upBytesPerMs) * stepMs, blockBytes);
		const lanes = [...ways.keys()];
		for (let idle = 0; state.budget > 0 && idle < lanes.length; ) {
			state.turn = (state.turn + 1) % lanes.length;
			const way = ways.get(lanes[state.turn] as number) as Way;
			const next = way.take();
			if (!next || "message" in next) {
				idle++;
				continue;
			}
			idle = 0;
			way.block(...next.block);
			state.budget -= blockLength(this.entries[next.block[0]]?.size as number, next.block[1]);
			given++;
		}
		return given;
	}

	step(): void {
		this.nowMs += stepMs;
		const ticks = this.nowMs % 250 === 0;
		if (ticks) this.server.tick(this.nowMs);
		for (const end of this.ends) {
			if (!end.joined && this.nowMs >= end.joinsMs) this.#join(end);
			if (end.joined && !end.gone && this.nowMs >= end.leavesMs) this.#leave(end);
			if (end.gone) continue;
			if (ticks) {
				end.fetcher.tick(this.nowMs);
				end.sharer.tick(this.nowMs);
			}
			if (end.fetcher.manifestWhole && !end.fetcher.accepted) end.fetcher.accept(() => true, []);
		}
		for (const ways of [this.#ways, ...this.ends.map((end) => end.ways)]) {
			for (const { queue } of [...ways.values()]) {
				while (queue[0] && queue[0].atMs <= this.nowMs) queue.shift()?.deliver();
			}
		}
		this.sent += this.#give(this.#up, this.#ways);
		for (const end of this.ends) if (!end.gone) this.#give(end, end.ways);
	}

	/** How many copies the sender has sent when everybody has everything. */
	run(): number {
		while (this.ends.some(({ doneMs, gone }) => doneMs === null && !gone)) {
			if (this.nowMs > 300_000) throw new Error(`it does not end; ${this.sent} blocks were sent`);
			this.step();
		}
		return this.sent / this.entries.reduce((sum, { size }) => sum + blockCount(size ?? 0), 0);
	}
}

test("the sender sends about one copy to ten receivers", () => {
	const crowd = new Crowd(10, [200 * blockBytes]);
	expect(crowd.run()).toBeLessThan(1.02);
});

test("so it does with many small files", () => {
	const crowd = new Crowd(
		5,
		Array.from({ length: 300 }, (_, i) => i * 501),
	);
	expect(crowd.run()).toBeLessThan(1.02);
});

test("and when some leave", () => {
	const crowd = new Crowd(6, [200 * blockBytes]);
	for (const n of [1, 4]) (crowd.ends[n] as End).leavesMs = 2_500;
	expect(crowd.run()).toBeLessThan(1.3);
	expect(crowd.ends.filter(({ gone }) => gone)).toHaveLength(2);
});

test("receivers that do not reach each other have it from the sender", () => {
	const crowd = new Crowd(3, [20 * blockBytes]);
	crowd.reach = () => false;
	expect(crowd.run()).toBe(3);
});

describe("the sender, which has time, helps where others pass on slowly what they were promised", () => {
	for (const [which, ups] of [
		["all of them", [20, 20, 20, 20]],
		["one of them", [undefined, undefined, undefined, 2]],
	] as const) {
		test(which, () => {
			const crowd = new Crowd(ups.length, [128 * blockBytes]);
			for (const [n, end] of crowd.ends.entries()) end.upBytesPerMs = ups[n];
			crowd.run();
			const last = Math.max(...crowd.ends.map(({ doneMs }) => doneMs ?? 0));
			const alone = (ups.length * 128 * blockBytes) / crowd.upBytesPerMs;
			expect(last).toBeLessThan(3 * alone);
		});
	}
});
