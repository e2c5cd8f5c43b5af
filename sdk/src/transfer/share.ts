import { type Next, WantQueue } from "./queue.js";
import type { Message } from "./wire.js";

// What a receiver gives to other receivers: docs/transfer.md §10. It knows no data channel, no disk and no clock.

export interface SharerHost {
	send(lane: number, message: Message): void;
	/** There is something to take for this lane. */
	wake(lane: number): void;
}

export class Sharer {
	readonly #host: SharerHost;
	readonly #lanes = new Map<number, WantQueue>();
	/** When something was asked for last. */
	#askedAtMs = Number.NEGATIVE_INFINITY;

	constructor(host: SharerHost) {
		this.#host = host;
	}

	get askedAtMs(): number {
		return this.#askedAtMs;
	}

	laneClosed(id: number): void {
		this.#lanes.delete(id);
	}

	/** Takes a message of another receiver; whether it was for us. Throws a `WireError`. */
	message(id: number, message: Message, nowMs: number): boolean {
		if (message.type !== "want" && message.type !== "unwant") return false;
		const queue = this.#lanes.get(id) ?? new WantQueue(nowMs);
		this.#lanes.set(id, queue);
		if (message.type === "want") {
			for (const range of message.blocks) queue.add(range);
			this.#askedAtMs = nowMs;
		} else {
			queue.unwant();
		}
		this.#host.wake(id);
		return true;
	}

	/** What is to be sent next on this lane, or `null`. */
	take(id: number, nowMs: number): Next | null {
		return this.#lanes.get(id)?.take(nowMs, false, () => false) ?? null;
	}

	/** To be called about four times a second. */
	tick(nowMs: number): void {
		for (const [id, queue] of this.#lanes) if (queue.waits(nowMs)) this.#host.send(id, { type: "wait" });
	}
}
