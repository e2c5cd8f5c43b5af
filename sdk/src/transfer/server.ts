import { blockCount } from "./blocks.js";
import { type Next, WantQueue } from "./queue.js";
import { type Entry, type Message, manifestPages, type Range, rangeLimit, WireError } from "./wire.js";

// What a sender answers, and whom it serves: docs/transfer.md §9. It knows no data channel, no file and no clock; what it does with them is
// what its host does.

/** How a receiver is doing. */
export interface ReceiverState {
	/** Its random name, the same over all of its lanes and restarts. */
	readonly end: string;
	name: string | null;
	accepted: boolean;
	/** What it says that it has verified and kept. */
	bytes: number;
	paused: boolean;
	done: boolean;
	/** A code of docs/transfer.md §13, when it has ended the transfer for itself. */
	ended: string | null;
	lanes: number;
}

export interface ServerHost {
	/** Sends between two blocks. */
	send(lane: number, message: Message): void;
	sendHashes(lane: number, file: number, first: number, count: number): void;
	endLane(lane: number, code: string): void;
	/** There is something to take for this lane. */
	wake(lane: number): void;
	/** Sends the root of a file, or of the manifest, when it is known. */
	sendRoot(lane: number, file: number | undefined): void;
	/** As many receivers as the link is for have everything. */
	complete(): void;
	changed(): void;
}

interface Lane {
	readonly id: number;
	receiver: ReceiverState | null;
	readonly queue: WantQueue;
}

export class Server {
	readonly #host: ServerHost;
	readonly #end: string;
	readonly #name: string | undefined;
	readonly #entries: readonly Entry[];
	readonly #most: number;
	readonly #lanes = new Map<number, Lane>();
	readonly receivers = new Map<string, ReceiverState>();
	readonly #failed = new Map<number, string>();
	/** Whom each block was promised to, by file and block, where there may be several receivers. */
	readonly #promised = new Map<number, (ReceiverState | undefined)[]>();
	/** Those who give nothing to others: nobody is to wait for them. */
	readonly #keepers = new Set<ReceiverState>();
	#paused = false;
	#over = false;
	#cancelled = false;

	/** `most` is for how many receivers the link is. */
	constructor(host: ServerHost, entries: readonly Entry[], end: string, most: number, name?: string) {
		this.#host = host;
		this.#entries = entries;
		this.#end = end;
		this.#most = most;
		this.#name = name;
	}

	get paused(): boolean {
		return this.#paused;
	}

	get failed(): ReadonlyMap<number, string> {
		return this.#failed;
	}

	laneOpened(id: number, nowMs: number): void {
		this.#lanes.set(id, { id, receiver: null, queue: new WantQueue(nowMs) });
		this.#host.send(id, { type: "hello", version: 1, role: "sender", end: this.#end, name: this.#name });
	}

	laneClosed(id: number): void {
		const lane = this.#lanes.get(id);
		if (!lane) return;
		this.#lanes.delete(id);
		this.#takeBack(lane);
		const { receiver } = lane;
		if (receiver && --receiver.lanes === 0 && !receiver.accepted) this.receivers.delete(receiver.end); // it has looked
		this.#host.changed();
	}

	/** Takes a text message. Throws a {@link WireError}. */
	message(id: number, message: Message): void {
		const lane = this.#lanes.get(id);
		if (!lane) return;
		let { receiver } = lane;
		if (!receiver) {
			if (message.type !== "hello" || message.role !== "receiver") {
				this.#host.endLane(id, "malformed"); // the lane alone: no word of it is known to be a receiver's
				return;
			}
			receiver = this.receivers.get(message.end) ?? {
				end: message.end,
				name: null,
				accepted: false,
				bytes: 0,
				paused: false,
				done: false,
				ended: null,
				lanes: 0,
			};
			receiver.name = message.name ?? receiver.name;
			receiver.lanes++;
			receiver.ended = null;
			lane.receiver = receiver;
			this.receivers.set(message.end, receiver);
			if (this.#paused) this.#host.send(id, { type: "pause", on: true });
			if (this.#over) this.#farewell(id, receiver);
			this.#host.changed();
			return;
		}
		if (this.#over) {
			// Our farewell was lost with its lane, or the link was used up while somebody else looked.
			if (message.type === "complete" || message.type === "accept") this.#farewell(id, receiver);
			return;
		}
		switch (message.type) {
			case "get-manifest":
				for (const page of manifestPages(this.#entries, Math.min(message.from, this.#entries.length))) {
					this.#host.send(id, page);
				}
				for (const [file, code] of this.#failed) this.#host.send(id, { type: "failed", file, code });
				break;
			case "accept":
				if (message.gives === false) this.#keepers.add(receiver);
				else this.#keepers.delete(receiver);
				this.#accept(lane, receiver);
				break;
			case "want":
				this.#want(lane, receiver, message.blocks, message.fresh === true);
				break;
			case "unwant":
				this.#takeBack(lane);
				lane.queue.unwant();
				this.#host.wake(id);
				break;
			case "get-root":
				if (!this.#isTaker(lane, receiver)) break;
				if (message.file === undefined || message.file < this.#entries.length) this.#host.sendRoot(id, message.file);
				break;
			case "get-hashes":
				if (!this.#isTaker(lane, receiver)) break;
				if (message.file < this.#entries.length) {
					this.#host.sendHashes(id, message.file, message.first, message.count);
				}
				break;
			case "progress":
				receiver.bytes = message.bytes;
				break;
			case "pause":
				receiver.paused = message.on;
				break;
			case "complete":
				if (!this.#isTaker(lane, receiver)) break;
				receiver.done = true;
				this.#farewell(id, receiver);
				if ([...this.receivers.values()].filter(({ done }) => done).length >= this.#most) {
					this.#over = true;
					this.#host.complete();
				}
				break;
			case "bye":
				receiver.ended = message.code;
				// The link is for somebody else then.
				if (message.code === "declined" && !receiver.done) receiver.accepted = false;
				break;
		}
		this.#host.changed();
	}

	#farewell(lane: number, { done }: ReceiverState): void {
		this.#host.send(lane, { type: "bye", code: done ? "done" : this.#cancelled ? "cancelled" : "transfer_taken" });
	}

	#accept(lane: Lane, receiver: ReceiverState): void {
		const others = [...this.receivers.values()].filter((other) => other.accepted && other !== receiver).length;
		if (!receiver.accepted && others >= this.#most) {
			this.#host.send(lane.id, { type: "bye", code: "transfer_taken" });
			receiver.ended = "transfer_taken";
			this.#host.endLane(lane.id, "transfer_taken");
			return;
		}
		receiver.accepted = true;
		this.#host.send(lane.id, this.#most === 1 ? { type: "accepted", alone: true } : { type: "accepted" });
	}

	/** Whether a receiver has accepted; a lane on which it asks for contents before ends. */
	#isTaker(lane: Lane, { accepted }: ReceiverState): boolean {
		if (accepted) return true;
		this.#host.send(lane.id, { type: "bye", code: "not_accepted" });
		this.#host.endLane(lane.id, "not_accepted");
		return false;
	}

	#want(lane: Lane, receiver: ReceiverState, blocks: readonly Range[], fresh: boolean): void {
		if (!this.#isTaker(lane, receiver)) return;
		const elsewhere: Range[] = [];
		for (const range of blocks) {
			const entry = this.#entries[range[0]];
			if (!entry) throw new WireError("malformed", "there is no such file");
			// A page has no streams: every size is known.
			if (range[1] + range[2] > blockCount(entry.size ?? 0)) throw new WireError("malformed", "there is no such block");
			lane.queue.check(range[2]);
			if (this.#most === 1) lane.queue.add(range);
			else this.#promise(lane, receiver, range, fresh, elsewhere);
		}
		for (let at = 0; at < elsewhere.length; at += rangeLimit) {
			this.#host.send(lane.id, { type: "elsewhere", blocks: elsewhere.slice(at, at + rangeLimit) });
		}
		this.#host.wake(lane.id);
	}

	/**
	 * Owes a lane what it wants. Of a fresh want, what others who are here have been promised is not owed but goes to the list, with all that was
	 * promised around it: the next want is to begin somewhere else.
	 */
	#promise(lane: Lane, me: ReceiverState, [file, from, count]: Range, fresh: boolean, elsewhere: Range[]): void {
		const promised = this.#promised.get(file) ?? [];
		this.#promised.set(file, promised);
		const others = (block: number) => {
			const receiver = promised[block];
			return receiver !== undefined && receiver !== me && receiver.lanes > 0;
		};
		const end = from + count;
		for (let block = from; block < end; ) {
			let first = block;
			const away = fresh && others(block);
			while (block < end && (fresh && others(block)) === away) {
				if (!away && !others(block) && !this.#keepers.has(me)) promised[block] = me;
				block++;
			}
			if (!away) {
				lane.queue.add([file, first, block - first]);
				continue;
			}
			while (first > 0 && others(first - 1)) first--;
			let last = block;
			while (others(last)) last++;
			const said = elsewhere.at(-1);
			if (said?.[0] !== file || said[1] > first || said[1] + said[2] < last) {
				elsewhere.push([file, first, last - first]);
			}
		}
	}

	/** Forgets the promises that were not kept yet. */
	#takeBack(lane: Lane): void {
		for (const [file, first, count] of lane.queue.owed()) {
			const promised = this.#promised.get(file);
			if (!promised) continue;
			for (let block = first; block < first + count; block++) {
				if (promised[block] === lane.receiver) promised[block] = undefined;
			}
		}
	}

	/** What is to be sent next on this lane, or `null`. */
	take(id: number, nowMs: number): Next | null {
		const lane = this.#lanes.get(id);
		return lane ? lane.queue.take(nowMs, this.#paused, (file) => this.#failed.has(file)) : null;
	}

	/** A file cannot be had any more. */
	fail(file: number, code: "source_changed" | "source_unreadable"): void {
		if (this.#failed.has(file)) return;
		this.#failed.set(file, code);
		for (const lane of this.#lanes.values())
			if (lane.receiver) this.#host.send(lane.id, { type: "failed", file, code });
		this.#host.changed();
	}

	pause(on: boolean): void {
		if (this.#paused === on || this.#over) return;
		this.#paused = on;
		for (const lane of this.#lanes.values()) {
			if (!lane.receiver) continue;
			this.#host.send(lane.id, { type: "pause", on });
			this.#host.wake(lane.id);
		}
		this.#host.changed();
	}

	cancel(): void {
		if (this.#over) return;
		this.#over = this.#cancelled = true;
		for (const { id, receiver } of this.#lanes.values()) if (receiver) this.#farewell(id, receiver);
	}

	/** To be called about four times a second. */
	tick(nowMs: number): void {
		for (const lane of this.#lanes.values()) {
			if (lane.queue.waits(nowMs)) this.#host.send(lane.id, { type: "wait" });
		}
	}
}
