import {
	Bitmap,
	blockBytes,
	blockCount,
	blockLength,
	firstFree,
	HashList,
	lowestBit,
	runs,
	unknownCount,
} from "./blocks.js";
import { sameHash } from "./hash.js";
import { endForOthers, fromBase64 } from "./secret.js";
import { fileRoot } from "./tree.js";
import {
	type Entry,
	entryLimit,
	type Message,
	pathsLimit,
	type Range,
	rangeLimit,
	totalLimit,
	WireError,
	wantLimit,
} from "./wire.js";

// What a receiver asks for next, and on which lane, of the sender or of other receivers: docs/transfer.md §8 and §10. It knows no data channel, no disk and no clock: it is fed with what
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
	/** The link is for this receiver alone: nobody else gets anything from here. */
	alone(): void;
	/** Something that is shown has changed. */
	changed(): void;
}

/** Whom a lane leads to: the sender, another receiver, or what the sender has left on the server (§15). */
export type LaneKind = "sender" | "receiver" | "depot";

const utf8 = new TextEncoder();

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
/** Among several receivers, less may be asked for on each lane: half a second's worth, and not less than this. What is promised to one the others wait for. */
const sharedWindowBytes = 512 << 10;
const sharedWindowMs = 500;
const haveMs = 100;
/** So long without a block from anybody, or longer where they are rare; then the sender is asked for what others were given. */
const patienceMs = 3_000;
/** When the sender has owed nothing for so long, what others pass on is weighed: it helps if it has been so many times faster and the rest would take longer than this. */
const helpAfterMs = 5_000;
const helpGain = 4;
const helpLeftMs = 10_000;
/** So many blocks are compared to find one that few have. */
const rarestOf = 64;
/** Of files that the sender has not told us about yet. */
const earlyRanges = 16 * rangeLimit;

/** What is known of a file among several receivers. Many files of a transfer for one need no such thing. */
class Crowd {
	/** Another receiver has it, as it says. */
	readonly offered: Bitmap;
	/** The sender has promised it to another one. */
	readonly away: Bitmap;
	/** Asked for, for `trusted`. */
	readonly hashing: Bitmap;
	/** Said by the sender; only with these are blocks taken from others. */
	readonly trusted = new HashList();

	constructor(count: number) {
		this.offered = new Bitmap(count);
		this.away = new Bitmap(count);
		this.hashing = new Bitmap(count);
	}
}

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
	/** Its root is another one: blocks before `compared` have been compared with the sender's hashes. */
	comparing = false;
	compared = 0;

	/** What is known of it among several receivers. */
	#crowd: Crowd | null = null;
	/** Where we go on among several receivers. */
	spread = 0;

	constructor(entry: Entry) {
		this.entry = entry;
		this.size = entry.size;
		const count = entry.size === null ? unknownCount : blockCount(entry.size);
		this.have = new Bitmap(count);
		this.asked = new Bitmap(count);
	}

	get crowd(): Crowd {
		this.#crowd ??= new Crowd(this.have.length);
		return this.#crowd;
	}

	/** The same, where nothing is looked for that was not put there. */
	get known(): Crowd | null {
		return this.#crowd;
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
	/** To the sender, or to another receiver. */
	readonly sender: boolean;
	/** Not quite the sender. It is asked for what it says that it has. */
	readonly depot: boolean;
	/** What was said on it, and answered. */
	accept: "unsaid" | "said" | "accepted";
	end: string;
	/** Blocks that were asked for on it and are not kept yet: `file:block`. */
	readonly owed: Map<string, { file: number; block: number; bytes: number; arrived: boolean }>;
	owedBytes: number;
	/** `unwant` was sent and not answered. */
	unwanting: boolean;
	heardAtMs: number;
	/** When it gave a block, or was asked for the first. */
	movedAtMs: number;
	/** It has given nothing for long: it is asked for no more until it does. */
	slow: boolean;
	/** What arrived since the rate was taken, and what may be owed for it among several receivers. */
	recentBytes: number;
	windowBytes: number;
	/** `get-hashes` without an answer, in order. */
	readonly hashing: Range[];
	/** What another receiver has, or a depot, by file. */
	readonly remote: Map<number, Bitmap>;
	early: Range[];
	/** Files of which it may have something for us. */
	readonly stock: Set<number>;
}

export class Fetcher {
	readonly #host: FetcherHost;
	readonly #end: string;
	/** Towards other receivers: who knew the name that the sender knows us by could take a link for one in our place. */
	readonly #endForOthers: string;
	readonly #name: string | undefined;
	readonly files: Incoming[] = [];
	/** All entries are there. */
	manifestWhole = false;
	/** The lanes on which these were said; `null`: not said. What was said on a lane that is lost is said again on another. */
	#manifestLane: number | null = null;
	#completeLane: number | null = null;
	#saidComplete = false;
	readonly #lanes = new Map<number, Lane>();
	#accepting = false;
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
	/** Of all entries. */
	#pathBytes = 0;
	#allBytes = 0;
	/** Every file before this one is done, or not wanted. */
	#settled = 0;
	/** No file before this one has anything to ask for. */
	#firstFile = 0;
	#nowMs = 0;
	/** A page of the manifest was missing after so many entries, and asked for. */
	#missingPage = -1;

	// Among several receivers.
	/** Where to begin, from 0 to 1. */
	#place: number;
	#company = false;
	#gives = true;
	/** The sender has said that we may have it, and whether others may, too. */
	#may: "nothing" | "share" | "alone" = "nothing";
	/** The file to look at next. */
	#turn = 0;
	/** Nothing is left that nobody else has. */
	#dry = false;
	/** Nothing is left that no depot has. */
	#covered = false;
	/** When the last block came that was of use, and how long after each other they come. */
	#gainedAtMs = 0;
	#betweenMs = 0;
	/** After so much patience: 1: once more for what others were given; 2: for anything. */
	#asking: 0 | 1 | 2 = 0;
	/** Since when for anything. */
	#needyAtMs = 0;
	/** From the sender, and how long it has owed something. */
	#givenBytes = 0;
	#owingMs = 0;
	#tickedAtMs = 0;
	/** Since when the sender has owed nothing, or what others pass on was weighed last; from others since then. */
	#weighedAtMs = 0;
	#passedBytes = 0;
	/** They are too slow: we ask the sender for anything, also while something comes from them. */
	#helped = false;
	readonly #liars = new Set<string>();
	#news: [file: number, first: number, count: number][] = [];
	#newsAtMs = 0;

	/** `place`, from 0 to 1, is where to begin among several receivers. */
	constructor(host: FetcherHost, end: string, name?: string, place = 0) {
		this.#host = host;
		this.#end = end;
		this.#endForOthers = endForOthers(end);
		this.#name = name;
		this.#place = place;
	}

	get lanes(): number {
		return this.#lanes.size;
	}

	get accepted(): boolean {
		return this.#serving().length > 0;
	}

	get paused(): boolean {
		return this.#paused;
	}

	// ---- lanes

	laneOpened(id: number, nowMs: number, kind: LaneKind): void {
		if (kind === "receiver" && this.#may === "alone") {
			this.#host.endLane(id, "closed");
			return;
		}
		this.#lanes.set(id, {
			id,
			hello: false,
			sender: kind !== "receiver",
			depot: kind === "depot",
			accept: "unsaid",
			end: "",
			owed: new Map(),
			owedBytes: 0,
			unwanting: false,
			heardAtMs: nowMs,
			movedAtMs: nowMs,
			slow: false,
			recentBytes: 0,
			windowBytes: sharedWindowBytes,
			hashing: [],
			remote: new Map(),
			early: [],
			stock: new Set(),
		});
		const end = kind === "receiver" ? this.#endForOthers : this.#end;
		this.#host.send(id, { type: "hello", version: 1, role: "receiver", end, name: this.#name });
	}

	/** What it owed is asked for again elsewhere, but for blocks that have arrived and are being kept. */
	laneClosed(id: number): void {
		const lane = this.#lanes.get(id);
		if (!lane) return;
		this.#lanes.delete(id);
		for (const owed of lane.owed.values()) if (!owed.arrived) this.#release(owed.file, owed.block);
		for (const file of this.files) if (file.rootLane === id) file.rootLane = null;
		for (const range of lane.hashing) this.#answered(range);
		if (!lane.sender) {
			this.#forgetRemote(lane);
			this.#fill();
			return;
		}
		if (this.#manifestLane === id) this.#manifestLane = null;
		if (this.#completeLane === id) this.#completeLane = null;
		const other = this.#ready()[0];
		this.#dry = this.#covered = false;
		if (other) this.#greeted(other);
		else this.#host.changed();
	}

	/** Lanes to the sender, and then to what it has left on the server. */
	#ready(): Lane[] {
		const lanes = [...this.#lanes.values()].filter((lane) => lane.hello && lane.sender);
		return [...lanes.filter(({ depot }) => !depot), ...lanes.filter(({ depot }) => depot)];
	}

	/** Those that give blocks. */
	#serving(): Lane[] {
		return this.#ready().filter(({ accept }) => accept === "accepted");
	}

	/** Lanes to other receivers. */
	#others(): Lane[] {
		return [...this.#lanes.values()].filter((lane) => lane.hello && !lane.sender);
	}

	#release(file: number, block: number): void {
		const incoming = this.files[file];
		if (!incoming?.asked.delete(block)) return;
		incoming.cursor = Math.min(incoming.cursor, block);
		this.#firstFile = Math.min(this.#firstFile, file);
		this.#stock(file);
	}

	#isOurs(end: string): boolean {
		return end === this.#end || end === this.#endForOthers;
	}

	/** Whether a lane is to another receiver. */
	isOther(id: number): boolean {
		const lane = this.#lanes.get(id);
		return lane?.hello === true && !lane.sender;
	}

	/** Takes a text message. Throws a {@link WireError}. */
	message(id: number, message: Message, nowMs: number): void {
		const lane = this.#lanes.get(id);
		if (!lane) return;
		lane.heardAtMs = this.#nowMs = nowMs;
		if (!lane.hello) {
			// Who is what was settled by how the lane was made: another receiver does not become a sender by saying so.
			if (message.type !== "hello" || (message.role === "sender") !== lane.sender || this.#isOurs(message.end)) {
				this.#host.endLane(id, "malformed");
				return;
			}
			lane.hello = true;
			lane.end = message.end;
			if (lane.sender && this.#over) {
				this.#host.endLane(id, "closed");
			} else if (lane.sender) {
				this.senderName = message.name ?? null;
				// It may be one that was started again: its list must be the same.
				const again = !lane.depot && this.#ready().filter(({ depot }) => !depot).length === 1;
				if (again) this.#askManifest(lane, 0);
				this.#greeted(lane);
			} else {
				this.#met(lane);
			}
			return;
		}
		if (!lane.sender) {
			if (message.type === "have") {
				if (message.clear) this.#forgetRemote(lane);
				this.#remoteHas(lane, message.blocks);
				this.#fill();
			} else if (message.type === "bye") {
				this.#host.endLane(id, "closed");
			}
			return;
		}
		if (this.#over) return;
		switch (message.type) {
			case "manifest":
				this.#manifest(lane, message.from, message.entries, message.last === true);
				break;
			case "have":
				if (lane.depot) this.#depotHas(lane, message.blocks);
				break;
			case "accepted":
				lane.accept = "accepted";
				this.#dry = false;
				this.#mayHave(message.alone === true);
				this.#askHashesOfOthers();
				this.#seek();
				break;
			case "unwanted":
				lane.unwanting = false;
				for (const [key, owed] of lane.owed) if (!owed.arrived) this.#forget(lane, key);
				break;
			case "elsewhere":
				this.#elsewhere(lane, message.blocks);
				break;
			case "size":
				this.#size(message.file, message.size);
				break;
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
				this.#endWith(message.code === "done" && !this.#saidComplete ? "malformed" : message.code);
				return;
		}
		this.#fill();
		this.#host.changed();
	}

	#greeted(lane: Lane): void {
		const asked = this.#manifestLane === null ? undefined : this.#lanes.get(this.#manifestLane);
		if (!this.manifestWhole && (!asked || (asked.depot && !lane.depot))) this.#askManifest(lane, this.files.length);
		// What only the sender can answer soon it is asked instead of a depot.
		for (const file of lane.depot ? [] : this.files) {
			if (file.rootLane !== null && this.#lanes.get(file.rootLane)?.depot) file.rootLane = null;
		}
		this.#sayAccept(lane);
		if (this.#paused) this.#host.send(lane.id, { type: "pause", on: true });
		this.#seek();
		this.#fill();
		this.#host.changed();
	}

	/** The sender has said so. What was found on the disk, too, others get only now. */
	#mayHave(alone: boolean): void {
		if (this.#may === "alone") return;
		if (alone) {
			this.#may = "alone";
			this.#news = [];
			for (const { id } of [...this.#lanes.values()].filter(({ sender }) => !sender)) this.#host.endLane(id, "closed");
			this.#host.alone();
		} else if (this.#may === "nothing") {
			this.#may = "share";
			for (const lane of this.#others()) this.#sayAll(lane);
		}
	}

	#askManifest(lane: Lane, from: number): void {
		this.#manifestLane = lane.id;
		this.#host.send(lane.id, { type: "get-manifest", from });
	}

	#manifest(lane: Lane, from: number, entries: readonly Entry[], last: boolean): void {
		if (!this.#isSameList(from, entries, last)) {
			// What the sender has left on the server it may replace by what it has now.
			if (lane.depot) this.#host.endLane(lane.id, "source_changed");
			else this.#endWith("source_changed");
			return;
		}
		if (this.manifestWhole) return; // another lane's answer
		if (from > this.files.length) {
			// A page is missing. It is asked for once, however many follow it.
			if (this.#missingPage === this.files.length) return;
			this.#missingPage = this.files.length;
			this.#host.send(lane.id, { type: "get-manifest", from: this.files.length });
			return;
		}
		for (const [index, entry] of entries.entries()) {
			if (from + index < this.files.length) continue;
			if (this.files.length >= entryLimit) throw new WireError("malformed", "too many entries");
			if (this.#paths.has(entry.path)) throw new WireError("path_unsafe", "two entries with the same path");
			this.#paths.add(entry.path);
			this.#pathBytes += utf8.encode(entry.path).length;
			this.#allBytes += entry.size ?? 0;
			if (this.#pathBytes > pathsLimit || this.#allBytes > totalLimit) throw new WireError("malformed", "too much");
			const incoming = new Incoming(entry);
			incoming.spread = Math.floor(this.#place * blockCount(entry.size ?? 0));
			this.files.push(incoming);
		}
		this.manifestWhole = last;
		this.#dry = this.#covered = false;
		for (const other of this.#others()) {
			const { early } = other;
			other.early = [];
			this.#remoteHas(other, early);
		}
	}

	/** Whether a page says of the entries that are known what was said before: their numbers would mean other files. */
	#isSameList(from: number, entries: readonly Entry[], last: boolean): boolean {
		for (const [index, { path, size, dir, mtimeMs }] of entries.entries()) {
			const file = from + index;
			const incoming = this.files[file];
			if (!incoming) {
				if (this.manifestWhole) return false;
				break;
			}
			const { entry } = incoming;
			if (entry.path !== path || entry.dir !== dir || entry.mtimeMs !== mtimeMs) return false;
			if (entry.size === null && size !== null) this.#size(file, size); // a stream that has ended since
			if (size !== entry.size && size !== incoming.size) return false;
		}
		return !last || from + entries.length >= this.files.length;
	}

	/** The sender has ended it, or can be no help any more. */
	#endWith(code: string): void {
		this.#over = true;
		this.#host.ended(code);
	}

	/** How long a stream was. */
	#size(file: number, size: number): void {
		const incoming = this.files[file];
		if (!incoming || incoming.size !== null) return;
		incoming.size = size;
		incoming.have.length = incoming.asked.length = blockCount(size);
		for (const lane of this.#lanes.values()) {
			for (const [key, owed] of lane.owed) {
				if (owed.file === file && !owed.arrived && owed.block >= incoming.have.length) this.#forget(lane, key);
			}
		}
		this.#seek();
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

	/** The user agrees. What was found on the disk counts as had. `gives`: what is kept can be read for others. */
	accept(
		chosen: (file: number) => boolean,
		found: Iterable<{ file: number; block: number; hash: Uint8Array }>,
		gives = true,
	): void {
		this.#gives = gives;
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
		this.#turn = Math.floor(this.#place * this.files.length);
		for (const file of this.files.keys()) this.#stock(file);
		this.#count();
		for (const lane of this.#ready()) this.#sayAccept(lane);
		this.#host.changed();
	}

	#sayAccept(lane: Lane): void {
		if (!this.#accepting || lane.accept !== "unsaid") return;
		lane.accept = "said";
		this.#host.send(lane.id, this.#gives ? { type: "accept" } : { type: "accept", gives: false });
	}

	/** Changes which files are wanted. */
	choose(file: number, chosen: boolean): void {
		const incoming = this.files[file];
		if (!incoming || incoming.chosen === chosen || incoming.done) return;
		incoming.chosen = chosen;
		this.#firstFile = this.#settled = 0;
		this.#stock(file);
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

	/** A block of this lane is whole, and says that it has this hash; whether it is of use. It is owed until {@link kept} or {@link refused} is called. */
	arrived(id: number, file: number, block: number, bytes: number, hash: Uint8Array, nowMs: number): boolean {
		const lane = this.#lanes.get(id);
		if (!lane) return false;
		lane.heardAtMs = lane.movedAtMs = this.#nowMs = nowMs;
		lane.slow = false;
		lane.recentBytes += bytes;
		this.arrivedBytes += bytes;
		this.#recentBytes += bytes;
		const owed = lane.owed.get(`${file}:${block}`);
		if (!owed || owed.arrived) return false;
		if (!lane.sender) {
			const trusted = this.files[file]?.known?.trusted.get(block);
			if (!trusted || !sameHash(trusted, hash)) {
				this.refused(id, file, block);
				return false;
			}
		}
		owed.arrived = true;
		this.#betweenMs = (4 * this.#betweenMs + nowMs - this.#gainedAtMs) / 5;
		this.#gainedAtMs = nowMs;
		if (!lane.sender) this.#passedBytes += bytes;
		else if (!lane.depot) this.#givenBytes += bytes;
		if ((!lane.sender && !this.#helped) || this.#asking === 1) this.#asking = 0;
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
			const last = this.#news.at(-1);
			if (!this.shares) {
				// nobody is told
			} else if (last?.[0] === file && last[1] + last[2] === block) last[2]++;
			else this.#news.push([file, block, 1]);
			this.#sayNews(this.#nowMs);
		}
		if (incoming.have.full) this.#askRoot(file);
		this.#fill();
		this.#host.changed();
	}

	/** The block does not have its hash: a fault of a machine, since the lane protects what it carries (§8, 4), or another receiver lies. */
	refused(id: number, file: number, block: number): void {
		const lane = this.#lanes.get(id);
		if (lane && !lane.sender) this.#liars.add(lane.end);
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
		if (!this.accepted) return;
		this.files.forEach((incoming, file) => {
			if (incoming.open && incoming.have.full) this.#askRoot(file);
		});
		this.#finish();
	}

	#askRoot(file: number): void {
		const incoming = this.files[file] as Incoming;
		const lane = this.#serving()[0];
		if (!lane || !incoming.open || incoming.rootLane !== null) return;
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
		incoming.comparing = true;
		incoming.compared = 0;
		this.#compare(lane, file);
	}

	#compare(lane: Lane, file: number): void {
		const { compared, have } = this.files[file] as Incoming;
		const count = Math.min(hashesAtOnce, have.length - compared);
		if (count > 0) this.#getHashes(lane, [file, compared, count]);
	}

	#getHashes(lane: Lane, range: Range): void {
		lane.hashing.push(range);
		this.#host.send(lane.id, { type: "get-hashes", file: range[0], first: range[1], count: range[2] });
	}

	/** What is not in the answer, the sender does not know yet. */
	#answered([file, first, count]: Range): void {
		for (let block = first; block < first + count; block++) this.files[file]?.known?.hashing.delete(block);
	}

	/** The sender's hashes of blocks. */
	hashes(id: number, file: number, first: number, hashes: readonly Uint8Array[], nowMs: number): void {
		const lane = this.#lanes.get(id);
		const incoming = this.files[file];
		if (!lane?.sender || !incoming || first + hashes.length > incoming.have.length) return;
		lane.heardAtMs = this.#nowMs = nowMs;
		// Answers come in the order of the questions.
		const at = lane.hashing.findIndex((range) => range[0] === file && range[1] === first && range[2] >= hashes.length);
		if (at < 0) throw new WireError("malformed", "nobody asked for these hashes");
		for (const range of lane.hashing.splice(0, at + 1)) this.#answered(range);
		for (const [index, hash] of hashes.entries()) incoming.crowd.trusted.set(first + index, hash);
		this.#stock(file);
		if (incoming.open && incoming.comparing && first === incoming.compared) this.#compared(lane, file, first, hashes);
		this.#fill();
		this.#host.changed();
	}

	#compared(lane: Lane, file: number, first: number, hashes: readonly Uint8Array[]): void {
		const incoming = this.files[file] as Incoming;
		for (const [index, hash] of hashes.entries()) {
			const block = first + index;
			const own = incoming.hashes.get(block);
			if (!own || sameHash(own, hash) || !incoming.have.delete(block)) continue;
			incoming.haveBytes -= incoming.lengthOf(block);
			if (incoming.chosen) this.receivedBytes -= incoming.lengthOf(block);
			incoming.cursor = Math.min(incoming.cursor, block);
			this.#firstFile = Math.min(this.#firstFile, file);
			this.#stock(file);
		}
		incoming.compared = first + hashes.length;
		if (hashes.length > 0 && incoming.compared < incoming.have.length) {
			this.#compare(lane, file);
			return;
		}
		incoming.comparing = false;
		if (incoming.have.full) this.#askRoot(file);
	}

	#finish(): void {
		if (!this.accepted || !this.manifestWhole || this.#completing || this.#completeLane !== null) return;
		while (this.files[this.#settled]?.open === false) this.#settled++;
		if (this.#settled < this.files.length) return;
		this.#completing = true;
		this.#host.complete();
	}

	/** Everything has its final name: tells the sender. */
	sayComplete(): void {
		this.#completing = false;
		const lane = this.#serving()[0];
		if (!lane) return; // when there is one again
		this.#completeLane = lane.id;
		this.#saidComplete = true;
		this.#host.send(lane.id, { type: "progress", bytes: this.receivedBytes, done: true });
		this.#host.send(lane.id, { type: "complete" });
	}

	// ---- asking

	/** Looks after time: dead lanes, the window, reports to the sender. To be called about four times a second. */
	tick(nowMs: number): void {
		this.#nowMs = nowMs;
		this.#sayNews(nowMs);
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
			for (const lane of this.#lanes.values()) {
				const worth = (lane.recentBytes * sharedWindowMs) / (nowMs - this.#rateAtMs);
				lane.windowBytes = Math.max(sharedWindowBytes, Math.min(worth, mostWindowBytes));
				lane.recentBytes = 0;
			}
			this.#rateAtMs = nowMs;
		}
		if (this.accepted && nowMs - this.#progressAtMs >= progressMs) {
			const lane = this.#ready()[0];
			if (lane) this.#host.send(lane.id, { type: "progress", bytes: this.receivedBytes });
			this.#progressAtMs = nowMs;
		}
		this.#losePatience(nowMs);
		this.#weigh(nowMs);
		this.#fill();
	}

	#fill(): void {
		if (!this.#accepting || this.#paused || this.#over) return;
		if (this.#company) {
			this.#fillShared();
			return;
		}
		let lanes = this.#serving().filter((lane) => !lane.unwanting);
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
			const range = lane.depot ? this.#takeOfDepot(pieceBlocks, lane) : this.#take(pieceBlocks);
			if (!range) {
				lanes = lanes.filter((other) => other !== lane);
				continue;
			}
			const [file, first, count] = range;
			for (let block = first; block < first + count; block++) room -= this.#owe(lane, file, block);
			const list = wants.get(lane) ?? [];
			addRange(list, range);
			wants.set(lane, list);
		}
		for (const [lane, blocks] of wants) this.#want(lane, blocks, false);
	}

	#owe(lane: Lane, file: number, block: number): number {
		const bytes = (this.files[file] as Incoming).lengthOf(block);
		if (lane.owed.size === 0) lane.heardAtMs = lane.movedAtMs = this.#nowMs; // it owed nothing until now
		lane.owed.set(`${file}:${block}`, { file, block, bytes, arrived: false });
		lane.owedBytes += bytes;
		return bytes;
	}

	#want(lane: Lane, blocks: readonly Range[], fresh: boolean): void {
		for (let at = 0; at < blocks.length; at += rangeLimit) {
			const some = blocks.slice(at, at + rangeLimit);
			this.#host.send(lane.id, fresh ? { type: "want", blocks: some, fresh } : { type: "want", blocks: some });
		}
	}

	// ---- several receivers

	/** Other receivers are there, or not any more. */
	accompany(others: boolean, nowMs: number): void {
		const company = others || this.#others().length > 0;
		if (company === this.#company) return;
		this.#company = company;
		this.#gainedAtMs = nowMs;
		this.#asking = 0;
		this.#helped = false;
		this.#fill();
	}

	/** Whether others may get something from here. */
	get shares(): boolean {
		return this.#gives && this.#may === "share";
	}

	/** Whether another receiver lacks something that we have. */
	get needed(): boolean {
		if (!this.shares) return false;
		return this.#others().some(({ remote }) =>
			this.files.some(({ have }, file) => {
				const has = remote.get(file);
				if (have.count === 0 || has?.count === have.length) return false;
				for (let at = 0; at < have.bytes; at++) if (have.byte(at) & ~(has?.byte(at) ?? 0)) return true;
				return false;
			}),
		);
	}

	/** A lane to another receiver stands. */
	#met(lane: Lane): void {
		if (this.#liars.has(lane.end)) {
			this.#host.endLane(lane.id, "corrupt");
			return;
		}
		this.#company = true;
		this.#sayAll(lane);
	}

	#sayAll(lane: Lane): void {
		const had = this.files.flatMap(({ have }, file) =>
			[...runs(have)].map(([first, count]): Range => [file, first, count]),
		);
		this.#sayHave(lane, had);
	}

	#sayHave(lane: Lane, blocks: readonly Range[]): void {
		if (!this.shares) return;
		for (let at = 0; at < blocks.length; at += rangeLimit) {
			this.#host.send(lane.id, { type: "have", blocks: blocks.slice(at, at + rangeLimit) });
		}
	}

	/** Tells other receivers what is new, at once and then again after a little while. */
	#sayNews(nowMs: number): void {
		if (this.#news.length === 0 || (nowMs - this.#newsAtMs < haveMs && !this.#over)) return;
		this.#newsAtMs = nowMs;
		for (const lane of this.#others()) this.#sayHave(lane, this.#news);
		this.#news = [];
	}

	#remoteHas(lane: Lane, blocks: readonly Range[]): void {
		for (const range of blocks) {
			const [file, first, count] = range;
			const incoming = this.files[file];
			if (!incoming) {
				if (lane.early.length < earlyRanges) lane.early.push(range);
				continue;
			}
			if (incoming.size === null || first + count > incoming.have.length) continue;
			const has = lane.remote.get(file) ?? new Bitmap(incoming.have.length);
			lane.remote.set(file, has);
			for (let block = first; block < first + count; block++) {
				has.add(block);
				incoming.crowd.offered.add(block);
			}
			lane.stock.add(file);
			this.#askHashesOf(range);
		}
	}

	/** Another receiver is gone, or begins anew. What the sender had promised it may be asked for again. */
	#forgetRemote(lane: Lane): void {
		const files = [...lane.remote.keys()];
		lane.remote.clear();
		for (const file of files) {
			const { offered } = (this.files[file] as Incoming).crowd;
			offered.clear();
			for (const { sender, remote } of this.#lanes.values()) {
				const has = sender ? undefined : remote.get(file);
				if (!has) continue;
				for (const [first, count] of runs(has))
					for (let block = first; block < first + count; block++) offered.add(block);
			}
		}
		this.#forgetAway();
	}

	#forgetAway(): void {
		this.#dry = false;
		for (const { known } of this.files) known?.away.clear();
	}

	/** There may be something of a file that other receivers or a depot can give. */
	#stock(file: number): void {
		this.#dry = this.#covered = false;
		for (const lane of this.#lanes.values()) if (lane.remote.has(file)) lane.stock.add(file);
	}

	/** Asks the sender for the hashes of what others have and we have not: only with them can it be taken from there. */
	#askHashesOf([file, first, count]: Range): void {
		const lane = this.#serving()[0];
		const { have, crowd } = this.files[file] as Incoming;
		const { trusted, hashing, offered } = crowd;
		if (!lane || lane.depot) return;
		const unknown = (block: number) =>
			offered.has(block) && !have.has(block) && !trusted.get(block) && !hashing.has(block);
		for (let block = first; block < first + count; ) {
			let n = 0;
			while (block + n < first + count && n < hashesAtOnce && unknown(block + n)) {
				hashing.add(block + n);
				n++;
			}
			if (n > 0) this.#getHashes(lane, [file, block, n]);
			block += Math.max(1, n);
		}
	}

	#askHashesOfOthers(): void {
		for (const [file, { known, have }] of this.files.entries()) {
			if (known && known.offered.count > 0) this.#askHashesOf([file, 0, have.length]);
		}
	}

	/** The sender has promised these to other receivers, who will have them soon. */
	#elsewhere(lane: Lane, blocks: readonly Range[]): void {
		for (const [file, first, count] of blocks) {
			const incoming = this.files[file];
			if (!incoming || incoming.size === null || first + count > incoming.have.length) {
				throw new WireError("malformed", "there are no such blocks elsewhere");
			}
			for (let block = first; block < first + count; block++) {
				incoming.crowd.away.add(block);
				this.#forget(lane, `${file}:${block}`);
			}
			// Somebody else is at work here. The golden ratio spreads any number of attempts over the whole.
			this.#place = (this.#place + 0.618034) % 1;
			incoming.spread = Math.floor(this.#place * incoming.have.length);
		}
	}

	/** Whether the sender is to be asked only for what no other receiver has been given. */
	get #fresh(): boolean {
		return this.#asking < 2;
	}

	/** Asks on each lane for what it is best for. */
	#fillShared(): void {
		for (const lane of this.#lanes.values()) {
			if (!lane.hello || lane.unwanting || lane.slow || (lane.sender && lane.accept !== "accepted")) continue;
			// What others were given is asked for a little at a time at first: they may be at it too.
			const ofSender = lane.sender && !lane.depot;
			const needy = ofSender && this.#asking === 2;
			const some = sharedWindowBytes * 2 ** Math.floor((this.#nowMs - this.#needyAtMs) / 1_000);
			const window = needy ? Math.min(lane.windowBytes, some) : lane.windowBytes;
			if (lane.owedBytes > (window * 3) / 4 || lane.owed.size >= (wantLimit * 3) / 4) continue;
			const blocks: Range[] = [];
			while (lane.owedBytes < window && lane.owed.size < wantLimit) {
				const next = ofSender ? this.#nextOfSender() : lane.depot ? this.#nextOfDepot(lane) : this.#nextOfOther(lane);
				if (!next) break;
				this.files[next[0]]?.asked.add(next[1]);
				this.#owe(lane, next[0], next[1]);
				addRange(blocks, [next[0], next[1], 1]);
			}
			if (blocks.length > 0) this.#want(lane, blocks, ofSender && this.#fresh);
		}
	}

	#nextOfSender(): readonly [file: number, block: number] | null {
		// Also those who ask for what others were given ask for different blocks first.
		const fresh = this.#nextFresh();
		if (fresh || this.#fresh) return fresh;
		const range = this.#take(1);
		return range && [range[0], range[1]];
	}

	/** A block that nobody else has or gets, as far as we know. Each of several receivers begins elsewhere, so that they have something for each other. */
	#nextFresh(): readonly [file: number, block: number] | null {
		if (this.#dry) return null;
		for (let looked = 0; looked < this.files.length; looked++) {
			if (this.#turn >= this.files.length) this.#turn = 0;
			const incoming = this.files[this.#turn] as Incoming;
			if (incoming.open) {
				const { have, asked, known } = incoming;
				const taken = [have, asked, ...this.#depots(this.#turn)];
				if (known) taken.push(known.offered, known.away);
				for (const from of [incoming.spread, 0]) {
					const block = firstFree(from, have.length, ...taken);
					if (block === null) continue;
					incoming.spread = block;
					return [this.#turn, block];
				}
			}
			this.#turn++;
		}
		this.#dry = true;
		return null;
	}

	/** A block that another receiver has, of the rarest that we know of. */
	#nextOfOther(lane: Lane): readonly [file: number, block: number] | null {
		for (const file of lane.stock) {
			const incoming = this.files[file] as Incoming;
			const block = incoming.open ? this.#rarest(lane, file, incoming) : null;
			if (block !== null) return [file, block];
			lane.stock.delete(file);
		}
		return null;
	}

	#rarest(lane: Lane, file: number, { have, asked, crowd }: Incoming): number | null {
		const has = lane.remote.get(file);
		if (!has) return null;
		const others = this.#others();
		let best: number | null = null;
		let least = 0;
		let seen = 0;
		const start = Math.floor(this.#place * has.bytes);
		for (let k = 0; k < has.bytes && seen < rarestOf; k++) {
			const at = (start + k) % has.bytes;
			for (let bits = has.byte(at) & ~have.byte(at) & ~asked.byte(at); bits !== 0; bits &= bits - 1) {
				const block = at * 8 + lowestBit(bits);
				if (!crowd.trusted.get(block)) continue;
				const copies = others.filter(({ remote }) => remote.get(file)?.has(block)).length;
				if (best === null || copies < least) {
					best = block;
					least = copies;
				}
				seen++;
			}
		}
		return best;
	}

	/** When nothing comes, those who were given what is missing may be gone, or out of our reach. */
	#losePatience(nowMs: number): void {
		const idle = this.#serving().some((lane) => !lane.depot && lane.owed.size === 0);
		if (!this.#company || this.#paused || !idle || !this.files.some((file) => file.open)) {
			this.#gainedAtMs = nowMs;
			return;
		}
		const limit = Math.max(patienceMs, 4 * this.#betweenMs);
		const waitedMs = nowMs - this.#gainedAtMs;
		if (this.#asking === 0 && waitedMs >= limit) {
			this.#asking = 1;
			this.#forgetAway();
			this.#askHashesOfOthers();
		} else if (this.#asking === 1 && waitedMs >= 2 * limit) {
			this.#askAnything(nowMs); // until another receiver gives something
		}
	}

	/** Asks the sender for what others were given, each receiver beginning somewhere else. */
	#askAnything(nowMs: number): void {
		this.#asking = 2;
		this.#needyAtMs = nowMs;
		this.#forgetAway();
		for (const incoming of this.files) {
			if (incoming.open && incoming.size !== null) incoming.spread = this.#missing(incoming);
		}
	}

	/**
	 * Lets the sender help where others pass on what they were given, but far slower than it could: it must not carry each block to each receiver, nor leave us to
	 * somebody's thin way up.
	 */
	#weigh(nowMs: number): void {
		const senders = this.#serving().filter(({ depot }) => !depot);
		if (senders.some(({ owed }) => owed.size > 0)) this.#owingMs += Math.min(1_000, nowMs - this.#tickedAtMs); // the machine may have slept
		this.#tickedAtMs = nowMs;
		const idle = senders.some(({ owed }) => this.#helped || owed.size === 0);
		if (!this.#company || this.#paused || !idle || !this.files.some(({ open }) => open)) {
			this.#weighedAtMs = nowMs;
			this.#passedBytes = 0;
			return;
		}
		const could = this.#givenBytes / Math.max(1_000, this.#owingMs); // bytes a millisecond
		let stalled = false;
		for (const lane of this.#others()) {
			const waitedMs = nowMs - lane.movedAtMs;
			if (lane.owed.size === 0 || waitedMs < helpAfterMs || (helpGain * blockBytes) / waitedMs >= could) continue;
			lane.slow = stalled = true; // should it come after all, then for nothing
			for (const [key, owed] of lane.owed) if (!owed.arrived) this.#forget(lane, key);
		}
		const elapsedMs = nowMs - this.#weighedAtMs;
		if (!stalled && elapsedMs < helpAfterMs) return;
		const rate = this.#passedBytes / elapsedMs;
		const left = this.files.reduce(
			(sum, { open, size, haveBytes }) => sum + (open ? (size ?? haveBytes) - haveBytes : 0),
			0,
		);
		const slow = stalled || (helpGain * rate < could && left > rate * helpLeftMs);
		this.#weighedAtMs = nowMs;
		this.#passedBytes = 0;
		if (slow && !this.#helped) {
			this.#helped = true;
			this.#askAnything(nowMs);
		} else if (!slow && this.#helped) {
			this.#helped = false;
			this.#asking = 0;
		}
	}

	// ---- depots

	#depotHas(lane: Lane, blocks: readonly Range[]): void {
		for (const [file, first, count] of blocks) {
			const incoming = this.files[file];
			if (!incoming || first + count > incoming.have.length) continue;
			const has = lane.remote.get(file) ?? new Bitmap(incoming.have.length);
			lane.remote.set(file, has);
			for (let block = first; block < first + count; block++) has.add(block);
			lane.stock.add(file);
		}
		this.#covered = false;
	}

	/** What depots have of a file. */
	#depots(file: number): Bitmap[] {
		return this.#serving().flatMap(({ depot, remote }) => (depot && remote.get(file)) || []);
	}

	#nextOfDepot(lane: Lane): readonly [file: number, block: number] | null {
		for (const file of lane.stock) {
			const { open, have, asked } = this.files[file] as Incoming;
			const has = lane.remote.get(file);
			for (let at = 0; open && has && at < has.bytes; at++) {
				const bits = has.byte(at) & ~have.byte(at) & ~asked.byte(at);
				if (bits !== 0) return [file, at * 8 + lowestBit(bits)];
			}
			lane.stock.delete(file);
		}
		return null;
	}

	#takeOfDepot(most: number, lane: Lane): Range | null {
		const next = this.#nextOfDepot(lane);
		if (!next) return null;
		const [file, first] = next;
		const { have, asked } = this.files[file] as Incoming;
		let count = 0;
		for (; count < most && lane.remote.get(file)?.has(first + count) && !have.has(first + count); count++) {
			if (!asked.add(first + count)) break;
		}
		return [file, first, count];
	}

	/** The next blocks that are missing and that no depot has, if there is a depot; marks them as asked. */
	#takeBeyondDepots(most: number): Range | null {
		if (this.#covered || !this.#serving().some(({ depot }) => depot)) return null;
		for (let file = this.#firstFile; file < this.files.length; file++) {
			const { open, have, asked, cursor } = this.files[file] as Incoming;
			if (!open) continue;
			const taken = [have, asked, ...this.#depots(file)];
			const first = firstFree(cursor, have.length, ...taken);
			if (first === null) continue;
			let count = 0;
			for (; count < most && first + count < have.length; count++) {
				if (taken.some((bitmap) => bitmap.has(first + count))) break;
				asked.add(first + count);
			}
			return [file, first, count];
		}
		this.#covered = true;
		return null;
	}

	/** The next blocks that nobody was asked for; marks them as asked. */
	#take(most: number): Range | null {
		const beyond = this.#takeBeyondDepots(most);
		if (beyond) return beyond;
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

	/** The block at our place among those that are missing. */
	#missing({ have, asked }: Incoming): number {
		let nth = Math.floor(this.#place * (have.length - have.count));
		let at = firstFree(0, have.length, have, asked);
		for (; at !== null && nth > 0; nth--) at = firstFree(at + 1, have.length, have, asked);
		return at ?? 0;
	}
}

/** Adds a range to a list, to its last one if it goes on there. */
function addRange(list: Range[], range: Range): void {
	const [file, first, count] = range;
	const last = list.at(-1);
	if (last?.[0] === file && last[1] + last[2] === first) list[list.length - 1] = [file, last[1], last[2] + count];
	else list.push(range);
}
