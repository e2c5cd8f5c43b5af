import { expect, test } from "vitest";
import { blockBytes } from "../src/transfer/blocks.js";
import { LaneWriter, type Wire } from "../src/transfer/lane.js";
import { Server } from "../src/transfer/server.js";
import { decodeBinary, decodeMessage, type Entry, encodeHashes } from "../src/transfer/wire.js";

/** A data channel as Chromium's: it takes 16 MiB and no more, until some of it has left. */
class Channel implements Wire {
	readonly sent: (string | Uint8Array)[] = [];
	bufferedAmount = 0;
	open = true;
	onopen = null;
	onmessage = null;
	onlow: (() => void) | null = null;
	onclose = null;

	send(data: string | Uint8Array<ArrayBuffer>): void {
		const bytes = typeof data === "string" ? data.length : data.byteLength;
		if (!this.open || this.bufferedAmount + bytes > 16 << 20) throw new DOMException("full", "OperationError");
		this.bufferedAmount += bytes;
		this.sent.push(data);
	}

	/** The network takes it. */
	drain(): void {
		this.bufferedAmount = 0;
		this.onlow?.();
	}

	close(): void {
		this.open = false;
	}
}

const tick = () => new Promise((resolve) => setTimeout(resolve));

test("a list of 200,000 files arrives whole, through a buffer that takes a part of it", async () => {
	const entries: Entry[] = Array.from({ length: 200_000 }, (_, n) => ({
		path: `a folder with a long name/${"x".repeat(80)}/${n}`,
		size: n,
	}));
	const channel = new Channel();
	const writer = new LaneWriter(channel, () => {
		throw new Error("the lane ended");
	});
	const nothing = () => {};
	const host = { sendHashes: nothing, endLane: nothing, wake: nothing, sendRoot: nothing, complete: nothing };
	const server = new Server(
		{ ...host, changed: nothing, send: (_lane, message) => writer.say(message) },
		entries,
		"s".repeat(22),
		1,
	);
	server.laneOpened(1, 0);
	server.message(1, { type: "hello", version: 1, role: "receiver", end: "r".repeat(22) });
	server.message(1, { type: "get-manifest", from: 0 });
	let known = 0;
	let most = 0;
	for (let last = false; !last; channel.drain()) {
		most = Math.max(most, channel.bufferedAmount);
		expect(channel.sent.length).toBeGreaterThan(0);
		for (const text of channel.sent.splice(0)) {
			const page = decodeMessage(text as string);
			if (page?.type !== "manifest") continue;
			expect(page.from).toBe(known);
			known += page.entries.length;
			last = page.last === true;
		}
	}
	expect(known).toBe(200_000);
	expect(most).toBeLessThan(3 << 20);
});

test("nothing comes between the parts of a block, and a block does not overtake what was said before", async () => {
	const channel = new Channel();
	const writer = new LaneWriter(channel, () => {});
	const block = new Uint8Array(blockBytes);
	const hash = new Uint8Array(32);
	channel.bufferedAmount = 2 << 20;
	writer.say({ type: "unwanted" });
	const first = writer.block(0, 0, block, hash);
	await tick();
	expect(channel.sent).toEqual([]);
	channel.drain();
	await tick(); // the block has begun
	channel.bufferedAmount = 2 << 20;
	const second = first.then(() => writer.block(0, 1, block, hash));
	writer.say({ type: "wait" });
	writer.sayBytes(encodeHashes({ file: 0, first: 0, hashes: [hash] }));
	for (let i = 0; i < 20; i++) {
		channel.drain();
		await tick();
	}
	await second;
	const order = channel.sent.map((data) => {
		if (typeof data === "string") return decodeMessage(data)?.type;
		const { part } = decodeBinary(data.slice().buffer);
		return part ? part.block : "hashes";
	});
	expect(order.filter((what, n) => what !== order[n - 1])).toEqual(["unwanted", 0, "wait", "hashes", 1]);
});

test("a lane that takes no more, or whose other side does not read, ends", async () => {
	const ends: string[] = [];
	const broken = new Channel();
	const first = new LaneWriter(broken, () => ends.push("broken"));
	broken.open = false;
	first.say({ type: "wait" });
	const full = new Channel();
	const second = new LaneWriter(full, () => ends.push("full"));
	const hashes = encodeHashes({ file: 0, first: 0, hashes: Array.from({ length: 2_000 }, () => new Uint8Array(32)) });
	for (let i = 0; i < 3_000; i++) second.sayBytes(hashes); // 192 MB
	await tick();
	expect(ends).toEqual(["broken", "full"]);
});
