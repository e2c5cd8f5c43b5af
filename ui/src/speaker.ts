/**
 * Who is speaking. Levels come in about 15 times a second per peer; a peer is the active speaker when it is louder than the others for
 * a moment, and stays so through short pauses, so that the picture does not jump at each cough.
 */
export class ActiveSpeaker {
	#levels = new Map<string, { smooth: number; spokeAtMs: number }>();
	#active: string | null = null;
	/** Who is louder than the active one, and since when. */
	#rival: string | null = null;
	#rivalSinceMs = 0;

	/** The peer that is (or was last) speaking, or `null`. */
	get active(): string | null {
		return this.#active;
	}

	/** Whether this peer's voice is heard now, or was less than `holdMs` ago. */
	isSpeaking(id: string, nowMs: number): boolean {
		const level = this.#levels.get(id);
		return level !== undefined && level.spokeAtMs > 0 && nowMs - level.spokeAtMs < holdMs;
	}

	/** Takes a level from 0 to 1. Returns whether anything that is shown may have changed. */
	hear(id: string, level: number, nowMs: number): boolean {
		const before = this.isSpeaking(id, nowMs - 1);
		const known = this.#levels.get(id) ?? { smooth: 0, spokeAtMs: 0 };
		known.smooth += (level - known.smooth) * (level > known.smooth ? 0.5 : 0.15);
		if (known.smooth > threshold) known.spokeAtMs = nowMs;
		this.#levels.set(id, known);
		const active = this.#active;
		this.#choose(nowMs);
		return before !== this.isSpeaking(id, nowMs) || active !== this.#active;
	}

	forget(id: string): void {
		this.#levels.delete(id);
		if (this.#active === id) this.#active = null;
	}

	#choose(nowMs: number): void {
		let loudest: string | null = null;
		for (const [id, level] of this.#levels) {
			if (level.smooth > threshold && (loudest === null || level.smooth > (this.#levels.get(loudest)?.smooth ?? 0)))
				loudest = id;
		}
		if (loudest === null || loudest === this.#active) {
			this.#rival = null;
			return;
		}
		if (loudest !== this.#rival) {
			this.#rival = loudest;
			this.#rivalSinceMs = nowMs;
		}
		const current = this.#active === null ? undefined : this.#levels.get(this.#active);
		const silent = current === undefined || nowMs - current.spokeAtMs > holdMs;
		if (silent || nowMs - this.#rivalSinceMs >= takeOverMs) {
			this.#active = loudest;
			this.#rival = null;
		}
	}
}

/** About -40 dBFS on the SDK's scale: above a quiet room, below a voice. */
const threshold = 0.04;
/** A pause within a sentence. */
const holdMs = 900;
/** How long somebody has to be the loudest to take over from one who speaks: longer than a cough. */
const takeOverMs = 1200;
