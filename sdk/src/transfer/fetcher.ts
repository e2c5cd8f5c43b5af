import { Bitmap, blockCount, blockLength, HashList, unknownCount } from "./blocks.js";
import { sameHash } from "./hash.js";
import { fromBase64 } from "./secret.js";
import { fileRoot } from "./tree.js";
import { type Entry, entryLimit, type Message, type Range, rangeLimit, WireError, wantLimit } from "./wire.js";

// What a receiver asks for next, and on which lane: docs/transfer.md §8. It knows no data channel, no disk and no clock: it is fed with what
// has happened and the time, and says what to send.
//
//   hello ──► manifest ──► (the user accepts) ──► accepted ──► fetching ◄──► paused
//                                                                 │
//                                                                 ▼
//                                                     each file: whole ──► root equal ──► done        all done ──► complete

/** What the fetcher wants done. */
export interface FetcherHost {
	send(lane: number, message: Message): void;
	/** This lane is of no use any more. */
	endLane(lane: number, code: string): void;
	/** The sender has ended the transfer, with a code of docs/transfer.md §13, or is making mistakes. */
	ended(code: string): void;
	/** A file is whole and has the sender's root, or cannot be had. */
	fileDone(file: number): void;
	/** All that was chosen is done. */
	complete(): void;
	/** Something that is shown has changed. */
	changed(): void;
}

/** How much may be asked for before it has arrived and is kept. */
const leastWindowBytes = 4 << 20;
const mostWindowBytes = 32 << 20;
/** A lane where something is owed and nothing arrives for so long is dead. */
export const silenceMs = 15_000;
const progressMs = 1_000;
/** After so many rounds a file whose root is not the sender's is given up. */
const rootRounds = 3;
/** A range is not asked for in smaller pieces, unless there is nothing else. */
const pieceBlocks = 4;
const hashesAtOnce = 2_000;

/** One file of the manifest, as it stands. */
export class Incoming {
	readonly entry: Entry;
	size: number | null;
	chosen = true;
	/** Its root is the sender's. */
	done = false;
	/** A code of docs/transfer.md §13. */
	failed: string | null = null;
	readonly have: Bitmap;
	/** Asked for, and not kept yet. */
	readonly asked: Bitmap;
	readonly hashes = new HashList();
	haveBytes = 0;
	/** No block before this one is missing. */
	cursor = 0;
	/** The lane on which the root was asked for. */
	rootLane: number | null = null;
	rootRounds = 0;
	/** Blocks before this one have been compared with the sender's hashes. */
	compared = 0;

	constructor(entry: Entry) {
		this.entry = entry;
		this.size = entry.size;
		const count = entry.size === null ? unknownCount : blockCount(entry.size);
		this.have = new Bitmap(count);
		this.asked = new Bitmap(count);
	}

	get open(): boolean {
		return this.chosen && !this.done && this.failed === null && !this.entry.dir;
	}

	lengthOf(block: number): number {
		return blockLength(this.size ?? Number.MAX_SAFE_INTEGER, block);
	}
}

interface Lane {
	readonly id: number;
	hello: boolean;
	/** Blocks that were asked for on it and are not kept yet: `file:block`. */
	readonly owed: Map<string, { file: number; block: number; bytes: number; arrived: boolean }>;
	owedBytes: number;
	/** `unwant` was sent and not answered. */
	unwanting: boolean;
	heardAtMs: number;
}

export class Fetcher {
	readonly #host: FetcherHost;
	readonly #end: string;
	readonly #name: string | undefined;
	readonly files: Incoming[] = [];
	/** All entries are there. */
	manifestWhole = false;
	/** The lanes on which these were said; `null`: not said. What was said on a lane that is lost is said again on another. */
	#manifestLane: number | null = null;
	#acceptLane: number | null = null;
	#completeLane: number | null = null;
	readonly #lanes = new Map<number, Lane>();
	#accepting = false;
	#accepted = false;
	#paused = false;
	senderPaused = false;
	senderName: string | null = null;
	#over = false;
	/** The host is busy with the last of it. */
	#completing = false;
	#windowBytes = leastWindowBytes;
	#recentBytes = 0;
	#rateAtMs = 0;
	#progressAtMs = 0;
	/** Verified and kept, of what was chosen. */
	receivedBytes = 0;
	/** What has come over the lanes, again counted again. */
	arrivedBytes = 0;
	readonly #paths = new Set<string>();
	/** No file before this one has anything to ask for. */
	#firstFile = 0;

	constructor(host: FetcherHost, end: string, name?: string) {
		this.#host = host;
		this.#end = end;
		this.#name = name;
	}

	get lanes(): number {
		return this.#lanes.size;
	}

	get accepted(): boolean {
		return this.#accepted;
	}

	get paused(): boolean {
		return this.#paused;
	}

	// ---- lanes

	laneOpened(id: number, nowMs: number): void {
		this.#lanes.set(id, { id, hello: false, owed: new Map(), owedBytes: 0, unwanting: false, heardAtMs: nowMs });
		this.#host.send(id, { type: "hello", version: 1, role: "receiver", end: this.#end, name: this.#name });
	}

	/** What it owed is asked for again elsewhere, but for blocks that have arrived and are being kept. */
	laneClosed(id: number): void {
		const lane = this.#lanes.get(id);
		if (!lane) return;
		this.#lanes.delete(id);
		for (const owed of lane.owed.values()) if (!owed.arrived) this.#release(owed.file, owed.block);
		for (const file of this.files) if (file.rootLane === id) file.rootLane = null;
		if (this.#manifestLane === id) this.#manifestLane = null;
		if (this.#acceptLane === id && !this.#accepted) this.#acceptLane = null;
		if (this.#completeLane === id) this.#completeLane = null;
		const other = this.#ready()[0];
		if (other) this.#greeted(other);
		else {
			// The sender may be another one, which knows nothing of us.
			this.#acceptLane = null;
			this.#accepted = false;
			this.#host.changed();
		}
	}

	#ready(): Lane[] {
		return [...this.#lanes.values()].filter((lane) => lane.hello);
	}

	#release(file: number, block: number): void {
		const incoming = this.files[file];
		if (!incoming?.asked.delete(block)) return;
		incoming.cursor = Math.min(incoming.cursor, block);
		this.#firstFile = Math.min(this.#firstFile, file);
	}

	/** Takes a text message. Throws a {@link WireError}. */
	message(id: number, message: Message, nowMs: number): void {
		const lane = this.#lanes.get(id);
		if (!lane || this.#over) return;
		lane.heardAtMs = nowMs;
		if (!lane.hello) {
			if (message.type !== "hello" || message.role !== "sender") {
				this.#host.endLane(id, "malformed");
				return;
			}
			lane.hello = true;
			this.senderName = message.name ?? null;
			this.#greeted(lane);
			return;
		}
		switch (message.type) {
			case "manifest":
				this.#manifest(message.from, message.entries, message.last === true);
				break;
			case "accepted":
				this.#accepted = true;
				this.#seek();
				break;
			case "unwanted":
				lane.unwanting = false;
				for (const [key, owed] of lane.owed) if (!owed.arrived) this.#forget(lane, key);
				break;
			case "size": {
				const incoming = this.files[message.file];
				if (!incoming || incoming.size !== null) break;
				incoming.size = message.size;
				incoming.have.length = incoming.asked.length = blockCount(message.size);
				for (const any of this.#lanes.values()) {
					for (const [key, owed] of any.owed) {
						if (owed.file === message.file && !owed.arrived && owed.block >= incoming.have.length)
							this.#forget(any, key);
					}
				}
				this.#seek();
				break;
			}
			case "root":
				if (message.file !== undefined) this.#root(lane, message.file, message.root);
				break;
			case "failed":
				this.#failed(message.file, message.code);
				break;
			case "pause":
				this.senderPaused = message.on;
				break;
			case "bye":
				this.#over = true;
				this.#host.ended(message.code);
				return;
		}
		this.#fill();
		this.#host.changed();
	}

	#greeted(lane: Lane): void {
		if (!this.manifestWhole && this.#manifestLane === null) {
			this.#manifestLane = lane.id;
			this.#host.send(lane.id, { type: "get-manifest", from: this.files.length });
		}
		this.#sayAccept(lane);
		if (this.#paused) this.#host.send(lane.id, { type: "pause", on: true });
		this.#seek();
		this.#fill();
		this.#host.changed();
	}

	#manifest(from: number, entries: readonly Entry[], last: boolean): void {
		if (this.manifestWhole) return; // another lane's answer
		if (from > this.files.length) throw new WireError("malformed", "a page of the manifest is missing");
		for (const [index, entry] of entries.entries()) {
			if (from + index < this.files.length) continue;
			if (this.files.length >= entryLimit) throw new WireError("malformed", "too many entries");
			if (this.#paths.has(entry.path)) throw new WireError("path_unsafe", "two entries with the same path");
			this.#paths.add(entry.path);
			this.files.push(new Incoming(entry));
		}
		this.manifestWhole = last;
	}

	#failed(file: number, code: string): void {
		const incoming = this.files[file];
		if (!incoming || incoming.done || incoming.failed !== null) return;
		incoming.failed = code;
		for (const lane of this.#lanes.values()) {
			for (const [key, owed] of lane.owed) if (owed.file === file && !owed.arrived) this.#forget(lane, key);
		}
		this.#host.fileDone(file);
		this.#finish();
	}

	// ---- what the user decides

	/** The user agrees. What was found on the disk counts as had. */
	accept(chosen: (file: number) => boolean, found: Iterable<{ file: number; block: number; hash: Uint8Array }>): void {
		for (const { file, block, hash } of found) {
			const incoming = this.files[file];
			if (!incoming?.have.add(block)) continue;
			incoming.hashes.set(block, hash);
			incoming.haveBytes += incoming.lengthOf(block);
		}
		this.#accepting = true;
		this.files.forEach((incoming, file) => {
			incoming.chosen = chosen(file);
		});
		this.#count();
		const lane = this.#ready()[0];
		if (lane) this.#sayAccept(lane);
		this.#host.changed();
	}

	#sayAccept(lane: Lane): void {
		if (!this.#accepting || this.#acceptLane !== null) return;
		this.#acceptLane = lane.id;
		this.#host.send(lane.id, { type: "accept" });
	}

	/** Changes which files are wanted. */
	choose(file: number, chosen: boolean): void {
		const incoming = this.files[file];
		if (!incoming || incoming.chosen === chosen || incoming.done) return;
		incoming.chosen = chosen;
		this.#firstFile = 0;
		this.#count();
		if (!chosen && this.#owes((owed) => owed.file === file)) this.#unwant();
		this.#seek();
		this.#fill();
		this.#finish();
		this.#host.changed();
	}

	pause(on: boolean): void {
		if (this.#paused === on) return;
		this.#paused = on;
		for (const lane of this.#ready()) this.#host.send(lane.id, { type: "pause", on });
		if (on) this.#unwant();
		this.#fill();
		this.#host.changed();
	}

	/** Ends the transfer for good. */
	cancel(code: "cancelled" | "declined" | "disk_full"): void {
		if (this.#over) return;
		this.#over = true;
		const lane = this.#ready()[0];
		if (lane) this.#host.send(lane.id, { type: "bye", code });
	}

	#owes(match: (owed: { file: number }) => boolean): boolean {
		return [...this.#lanes.values()].some((lane) =>
			[...lane.owed.values()].some((owed) => !owed.arrived && match(owed)),
		);
	}

	#unwant(): void {
		for (const lane of this.#ready()) {
			if (lane.unwanting || lane.owed.size === 0) continue;
			lane.unwanting = true;
			this.#host.send(lane.id, { type: "unwant" });
		}
	}

	#count(): void {
		this.receivedBytes = this.files.reduce((sum, file) => sum + (file.chosen ? file.haveBytes : 0), 0);
	}

	/** Of everything that was chosen; streams without an end yet count as what has arrived. */
	get totalBytes(): number {
		return this.files.reduce((sum, file) => sum + (file.chosen ? (file.size ?? file.haveBytes) : 0), 0);
	}

	// ---- blocks

	/** A block of this lane is whole; whether it is of use. It is owed until {@link kept} or {@link refused} is called. */
	arrived(id: number, file: number, block: number, bytes: number, nowMs: number): boolean {
		const lane = this.#lanes.get(id);
		if (!lane) return false;
		lane.heardAtMs = nowMs;
		this.arrivedBytes += bytes;
		this.#recentBytes += bytes;
		const owed = lane.owed.get(`${file}:${block}`);
		if (!owed || owed.arrived) return false;
		owed.arrived = true;
		return true;
	}

	/** Something of a block has arrived. */
	heard(id: number, nowMs: number): void {
		const lane = this.#lanes.get(id);
		if (lane) lane.heardAtMs = nowMs;
	}

	/** The block is verified and written. */
	kept(id: number, file: number, block: number, hash: Uint8Array): void {
		const incoming = this.files[file] as Incoming;
		this.#settle(id, file, block);
		incoming.asked.delete(block);
		incoming.hashes.set(block, hash);
		if (incoming.have.add(block)) {
			incoming.haveBytes += incoming.lengthOf(block);
			if (incoming.chosen) this.receivedBytes += incoming.lengthOf(block);
		}
		if (incoming.have.full) this.#askRoot(file);
		this.#fill();
		this.#host.changed();
	}

	/** The block does not have its hash: a fault of a machine, since the lane protects what it carries (§8, 4). */
	refused(id: number, file: number, block: number): void {
		this.#settle(id, file, block);
		this.#release(file, block);
		this.#host.endLane(id, "corrupt");
	}

	#settle(id: number, file: number, block: number): void {
		const lane = this.#lanes.get(id);
		const key = `${file}:${block}`;
		const owed = lane?.owed.get(key);
		if (!lane || !owed) return;
		lane.owed.delete(key);
		lane.owedBytes -= owed.bytes;
	}

	#forget(lane: Lane, key: string): void {
		const owed = lane.owed.get(key);
		if (!owed) return;
		lane.owed.delete(key);
		lane.owedBytes -= owed.bytes;
		this.#release(owed.file, owed.block);
	}

	// ---- roots

	/** Asks for the roots of whole files, and finds out whether anything is left to do. */
	#seek(): void {
		if (!this.#accepted) return;
		this.files.forEach((incoming, file) => {
			if (incoming.open && incoming.have.full) this.#askRoot(file);
		});
		this.#finish();
	}

	#askRoot(file: number): void {
		const incoming = this.files[file] as Incoming;
		const lane = this.#ready()[0];
		if (!lane || !this.#accepted || !incoming.open || incoming.rootLane !== null) return;
		incoming.rootLane = lane.id;
		this.#host.send(lane.id, { type: "get-root", file });
	}

	#root(lane: Lane, file: number, text: string): void {
		const incoming = this.files[file];
		const root = fromBase64(text);
		if (!incoming?.open || !incoming.have.full || root?.length !== 32) return;
		incoming.rootLane = null;
		const size = incoming.size as number;
		if (sameHash(root, fileRoot(size, incoming.hashes.first(incoming.have.length)))) {
			incoming.done = true;
			this.#host.fileDone(file);
			this.#finish();
			return;
		}
		// The file has changed between two attempts: what differs comes again.
		if (++incoming.rootRounds > rootRounds) {
			this.#failed(file, "corrupt");
			return;
		}
		incoming.compared = 0;
		this.#compare(lane, file);
	}

	#compare(lane: Lane, file: number): void {
		const { compared, have } = this.files[file] as Incoming;
		const count = Math.min(hashesAtOnce, have.length - compared);
		if (count > 0) this.#host.send(lane.id, { type: "get-hashes", file, first: compared, count });
	}

	/** The sender's hashes of blocks. */
	hashes(id: number, file: number, first: number, hashes: readonly Uint8Array[], nowMs: number): void {
		const lane = this.#lanes.get(id);
		const incoming = this.files[file];
		if (!lane || !incoming?.open || first !== incoming.compared) return;
		lane.heardAtMs = nowMs;
		for (const [index, hash] of hashes.entries()) {
			const block = first + index;
			const own = incoming.hashes.get(block);
			if (!own || sameHash(own, hash) || !incoming.have.delete(block)) continue;
			incoming.haveBytes -= incoming.lengthOf(block);
			if (incoming.chosen) this.receivedBytes -= incoming.lengthOf(block);
			incoming.cursor = Math.min(incoming.cursor, block);
			this.#firstFile = Math.min(this.#firstFile, file);
		}
		incoming.compared = first + hashes.length;
		if (hashes.length > 0 && incoming.compared < incoming.have.length) this.#compare(lane, file);
		this.#fill();
		this.#host.changed();
	}

	#finish(): void {
		if (!this.#accepted || !this.manifestWhole || this.#completing || this.#completeLane !== null) return;
		if (this.files.some((file) => file.open)) return;
		this.#completing = true;
		this.#host.complete();
	}

	/** Everything has its final name: tells the sender. */
	sayComplete(): void {
		this.#completing = false;
		const lane = this.#ready()[0];
		if (!lane) return; // when there is one again
		this.#completeLane = lane.id;
		this.#host.send(lane.id, { type: "progress", bytes: this.receivedBytes, done: true });
		this.#host.send(lane.id, { type: "complete" });
	}

	// ---- asking

	/** Looks after time: dead lanes, the window, reports to the sender. To be called about four times a second. */
	tick(nowMs: number): void {
		if (this.#over) return;
		for (const lane of [...this.#lanes.values()]) {
			const owes = [...lane.owed.values()].some((owed) => !owed.arrived) || !lane.hello;
			if (!owes) lane.heardAtMs = nowMs;
			else if (nowMs - lane.heardAtMs > silenceMs) this.#host.endLane(lane.id, "silent");
		}
		if (nowMs - this.#rateAtMs >= 1_000) {
			// As much as arrives in a second: more than twice what a round trip brings on all but the longest ways.
			this.#windowBytes = Math.min(mostWindowBytes, Math.max(leastWindowBytes, this.#recentBytes));
			this.#recentBytes = 0;
			this.#rateAtMs = nowMs;
		}
		if (this.#accepted && nowMs - this.#progressAtMs >= progressMs) {
			const lane = this.#ready()[0];
			if (lane) this.#host.send(lane.id, { type: "progress", bytes: this.receivedBytes });
			this.#progressAtMs = nowMs;
		}
		this.#fill();
	}

	#fill(): void {
		if (!this.#accepted || this.#paused || this.#over) return;
		const lanes = this.#ready().filter((lane) => !lane.unwanting);
		if (lanes.length === 0) return;
		const owed = [...this.#lanes.values()].reduce((sum, lane) => sum + lane.owedBytes, 0);
		let room = this.#windowBytes - owed;
		const share = this.#windowBytes / lanes.length;
		const wants = new Map<Lane, Range[]>();
		while (room > 0) {
			const lane = lanes
				.filter(({ owedBytes, owed }) => owedBytes < share && owed.size + pieceBlocks <= wantLimit)
				.sort((a, b) => a.owedBytes - b.owedBytes)[0];
			if (!lane) break;
			const range = this.#take(pieceBlocks);
			if (!range) break;
			const [file, first, count] = range;
			const incoming = this.files[file] as Incoming;
			for (let block = first; block < first + count; block++) {
				const bytes = incoming.lengthOf(block);
				lane.owed.set(`${file}:${block}`, { file, block, bytes, arrived: false });
				lane.owedBytes += bytes;
				room -= bytes;
			}
			const list = wants.get(lane) ?? [];
			const last = list.at(-1);
			if (last?.[0] === file && last[1] + last[2] === first) list[list.length - 1] = [file, last[1], last[2] + count];
			else list.push(range);
			wants.set(lane, list);
		}
		for (const [lane, blocks] of wants) {
			for (let at = 0; at < blocks.length; at += rangeLimit) {
				this.#host.send(lane.id, { type: "want", blocks: blocks.slice(at, at + rangeLimit) });
			}
		}
	}

	/** The next blocks that nobody was asked for; marks them as asked. */
	#take(most: number): Range | null {
		for (; this.#firstFile < this.files.length; this.#firstFile++) {
			const file = this.#firstFile;
			const incoming = this.files[file] as Incoming;
			if (!incoming.open) continue;
			const { have, asked } = incoming;
			let first = incoming.cursor;
			while (first < have.length && (have.has(first) || asked.has(first))) first++;
			incoming.cursor = first;
			if (first >= have.length) continue;
			let count = 0;
			while (count < most && first + count < have.length && !have.has(first + count) && !asked.has(first + count)) {
				asked.add(first + count);
				count++;
			}
			return [file, first, count];
		}
		return null;
	}
}
