/** A listener of whatever arguments its event has. */
export type Listener = (this: unknown, ...args: never[]) => unknown;

interface Entry {
	fn: Listener;
	context: unknown;
}

/** PlayRTC's events: any name, any arguments, and a context for `this`. */
export class Events {
	#entries = new Map<string, Entry[]>();

	/** Calls `fn` at each event of this name, with `context`, or this object, as `this`. */
	on(name: string, fn: Listener, context?: unknown): this {
		if (typeof fn === "function") this.#entries.set(name, [...(this.#entries.get(name) ?? []), { fn, context }]);
		return this;
	}

	/** Removes listeners: those that match every argument that is given. */
	off(name?: string | null, fn?: Listener | null, context?: unknown): this {
		for (const [key, entries] of this.#entries) {
			if (name && key !== name) continue;
			const left = entries.filter((entry) => (fn && entry.fn !== fn) || (context && entry.context !== context));
			if (left.length > 0) this.#entries.set(key, left);
			else this.#entries.delete(key);
		}
		return this;
	}

	/**
	 * Calls the listeners in order. Gives the value of the listener when there is exactly one, and otherwise this object. What a listener throws is
	 * reported as an error of the page, and keeps neither the others nor the SDK from going on.
	 */
	fire(name: string, ...args: unknown[]): unknown {
		const entries = this.#entries.get(name) ?? [];
		let value: unknown;
		for (const { fn, context } of entries) {
			try {
				value = fn.apply(context ?? this, args as never[]);
			} catch (error) {
				value = undefined;
				if (typeof reportError === "function") reportError(error);
				else console.error(error);
			}
		}
		return entries.length === 1 ? value : this;
	}

	clear(): void {
		this.#entries.clear();
	}

	hasEvent(name: string): boolean {
		return this.#entries.has(name);
	}
}
