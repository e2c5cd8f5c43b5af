import { type Message, type Range, WireError, wantLimit } from "./wire.js";

/** What is to be sent next on a lane. */
export type Next = { readonly block: readonly [file: number, block: number] } | { readonly message: Message };

/** While blocks are owed and cannot be given, the other side hears so often that we are still here. */
const waitMs = 5_000;

/** What is owed on a lane, in the order in which it was asked: docs/transfer.md §6, `want` and `unwant`. */
export class WantQueue {
	/** `null` answers an `unwant`. */
	#queue: (Range | null)[] = [];
	#blocks = 0;
	#saidAtMs: number;

	constructor(nowMs: number) {
		this.#saidAtMs = nowMs;
	}

	/** Throws a {@link WireError} if so many more are more than we keep in mind. */
	check(count: number): void {
		if (this.#blocks + count > wantLimit) throw new WireError("credit_exceeded", "more is wanted than we keep in mind");
	}

	add(range: Range): void {
		this.check(range[2]);
		this.#blocks += range[2];
		this.#queue.push(range);
	}

	unwant(): void {
		this.#queue = [null];
		this.#blocks = 0;
	}

	/** What has not been taken. */
	owed(): Range[] {
		return this.#queue.filter((range) => range !== null);
	}

	/** Takes what is next; nothing of files that are void, and no blocks while it is paused. */
	take(nowMs: number, paused: boolean, isVoid: (file: number) => boolean): Next | null {
		for (;;) {
			const [next] = this.#queue;
			if (next === undefined) return null;
			if (next === null) {
				this.#queue.shift();
				return { message: { type: "unwanted" } };
			}
			if (paused) return null;
			const [file, first, count] = next;
			if (count === 0 || isVoid(file)) {
				this.#queue.shift();
				this.#blocks -= count;
				continue;
			}
			this.#queue[0] = [file, first + 1, count - 1];
			this.#blocks--;
			this.#saidAtMs = nowMs;
			return { block: [file, first] };
		}
	}

	/** Whether it is time to say `wait`. */
	waits(nowMs: number): boolean {
		if (this.#blocks === 0 || nowMs - this.#saidAtMs < waitMs) return false;
		this.#saidAtMs = nowMs;
		return true;
	}
}
