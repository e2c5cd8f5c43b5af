/** A map from the names of events to the arguments of their listeners. */
export type EventMap = Record<string, unknown[]>;

/**
 * Typed events. A listener that throws, or returns a promise that rejects, is reported as an error of the page and does not keep
 * the others from being called. A listener may be added or removed while an event is being delivered: a removed one is not called
 * any more, an added one hears the next event.
 */
export class Emitter<Events extends EventMap> {
	readonly #listeners = new Map<keyof Events, Set<{ readonly call: (...args: never[]) => unknown }>>();

	/**
	 * Calls `listener` at each event of this name, until the returned function is called or `signal` aborts. The same function
	 * may be added twice, and is then called twice.
	 */
	on<Name extends keyof Events>(
		name: Name,
		listener: (...args: Events[Name]) => unknown,
		options: { signal?: AbortSignal | undefined; once?: boolean } = {},
	): () => void {
		const { signal, once } = options;
		if (signal?.aborted) return () => {};
		let set = this.#listeners.get(name);
		if (!set) {
			set = new Set();
			this.#listeners.set(name, set);
		}
		const entry = {
			call: (...args: never[]) => {
				if (once) off();
				return listener(...(args as unknown as Events[Name]));
			},
		};
		const off = () => {
			set.delete(entry);
			signal?.removeEventListener("abort", off);
		};
		set.add(entry);
		signal?.addEventListener("abort", off);
		return off;
	}

	/** Calls `listener` at the next event of this name only. */
	once<Name extends keyof Events>(
		name: Name,
		listener: (...args: Events[Name]) => unknown,
		options: { signal?: AbortSignal | undefined } = {},
	): () => void {
		return this.on(name, listener, { ...options, once: true });
	}

	/** @internal */
	emit<Name extends keyof Events>(name: Name, ...args: Events[Name]): void {
		const set = this.#listeners.get(name);
		if (!set) return;
		for (const entry of [...set]) {
			if (!set.has(entry)) continue;
			try {
				const result = entry.call(...(args as unknown as never[]));
				if (result instanceof Promise) result.catch(report);
			} catch (error) {
				report(error);
			}
		}
	}

	/** @internal */
	hears(name: keyof Events): boolean {
		return (this.#listeners.get(name)?.size ?? 0) > 0;
	}
}

/** Shows an error of the application's code where its author looks for it: window.onerror, or the console. */
function report(error: unknown): void {
	if (typeof reportError === "function") reportError(error);
	else console.error(error);
}
