import { blockBytes } from "./blocks.js";
import { free } from "./free.js";
import type { LaneWriter } from "./lane.js";
import type { Next } from "./queue.js";
import type { Block } from "./source.js";

/** So many blocks are read and hashed before they can be sent. */
const readAhead = (2 << 20) / blockBytes;

export interface PumpHost {
	/** `undefined`: the lane is gone. */
	writer(lane: number): LaneWriter | undefined;
	/** What is to be sent next. */
	take(lane: number): Next | null;
	/** Reads a block; `null`: there is none. */
	read(file: number, block: number): Promise<Block | null>;
	sent(lane: number, bytes: number): void;
	/** A block could not be read. */
	failed(lane: number, error: unknown): void;
}

/** Sends blocks on lanes. While one is being sent, the next ones are read and hashed. */
export class Pump {
	readonly #host: PumpHost;
	readonly #pumping = new Set<number>();
	readonly #again = new Set<number>();

	constructor(host: PumpHost) {
		this.#host = host;
	}

	/** There may be something to take for this lane. */
	wake(lane: number): void {
		if (this.#pumping.has(lane)) {
			this.#again.add(lane);
			return;
		}
		this.#pumping.add(lane);
		void this.#pump(lane).finally(() => {
			this.#pumping.delete(lane);
			if (this.#again.delete(lane)) this.wake(lane);
		});
	}

	async #pump(lane: number): Promise<void> {
		const host = this.#host;
		const ahead: { file: number; block: number; content: Promise<Block | null> }[] = [];
		for (;;) {
			const writer = host.writer(lane);
			if (!writer) return;
			while (ahead.length < readAhead) {
				const next = host.take(lane);
				if (!next) break;
				if ("message" in next) {
					// It answers an `unwant`: what was read ahead is not wanted any more, but for what is on its way.
					ahead.length = 0;
					writer.say(next.message);
					continue;
				}
				const [file, block] = next.block;
				const content = host.read(file, block);
				content.catch(() => {}); // looked at in its turn
				ahead.push({ file, block, content });
			}
			const now = ahead.shift();
			if (!now) return;
			let content: Block | null;
			try {
				content = await now.content;
			} catch (error) {
				host.failed(lane, error);
				continue;
			}
			if (!content) continue;
			await writer.block(now.file, now.block, content.bytes, content.hash);
			const { length, buffer } = content.bytes;
			free(buffer);
			host.sent(lane, length);
		}
	}
}
