/** Bytes per second over the last few seconds, and from it the time that is left. */
export class Rate {
	readonly #points: { atMs: number; bytes: number }[] = [];
	readonly #overMs: number;

	constructor(overMs = 5_000) {
		this.#overMs = overMs;
	}

	add(bytes: number, atMs: number): void {
		this.#points.push({ atMs, bytes });
		while (this.#points.length > 2 && atMs - (this.#points[1]?.atMs ?? atMs) > this.#overMs) this.#points.shift();
	}

	get bytesPerSecond(): number {
		const first = this.#points[0];
		const last = this.#points.at(-1);
		if (!first || !last || last.atMs <= first.atMs) return 0;
		return Math.max(0, ((last.bytes - first.bytes) * 1_000) / (last.atMs - first.atMs));
	}
}

/** With so many lanes no path was seen to gain by another one. */
const mostLanes = 8;
const stepMs = 2_000;
const growth = 1.1;
/** On a long path the first rates say little: what slow start reaches is lost again with the first packet. */
const longMs = 20;
const longMisses = 3;

/**
 * How many lanes a receiver has: one more each two seconds, as long as it makes the transfer faster. Lanes that gain nothing would take
 * from other connections.
 */
export class LanePolicy {
	#wanted = 1;
	#settled = false;
	#last = 0;
	/** Lanes in a row that brought nothing. */
	#misses = 0;
	#sinceMs: number | null = null;
	#sinceBytes = 0;

	get wanted(): number {
		return this.#wanted;
	}

	/** What has arrived in all, while blocks are being fetched, and the round trip, if it is known. */
	observe(bytes: number, nowMs: number, rttMs: number | null): void {
		if (this.#settled) return;
		if (this.#sinceMs === null || bytes === this.#sinceBytes) {
			this.#sinceMs = nowMs;
			this.#sinceBytes = bytes;
			return;
		}
		if (nowMs - this.#sinceMs < stepMs) return;
		const rate = (bytes - this.#sinceBytes) / (nowMs - this.#sinceMs);
		this.#sinceMs = nowMs;
		this.#sinceBytes = bytes;
		this.#misses = rate < this.#last * growth ? this.#misses + 1 : 0;
		if (this.#misses >= ((rttMs ?? 0) < longMs ? 1 : longMisses) || this.#wanted >= mostLanes) {
			this.#settled = true;
			return;
		}
		this.#last = rate;
		this.#wanted++;
	}
}
