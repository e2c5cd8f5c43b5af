import { ObjectReader, tokenHash } from "./depot.js";
import { WireError } from "./wire.js";

// The operations on a depot: docs/api.md.

/** Numbers of objects. */
export type Numbers = readonly [first: number, count: number];

/** What the server says of a depot. */
export interface DepotState {
	readonly state: "open" | "taken" | "expired";
	/** It is for one receiver. */
	readonly once: boolean;
	readonly taker?: string | undefined;
	readonly expiresAtMs: number;
	readonly objects: readonly Numbers[];
}

/** What may wait on the server. */
export interface DepotTerms {
	/** For all transfers of the project together; 0: nothing may. */
	readonly bytes: number;
	readonly freeBytes: number;
	readonly hours: number;
}

/** What a peer joins with. */
export interface JoinCredentials {
	readonly key?: string | undefined;
	readonly token?: string | undefined;
}

/** What the server says of a request that it refuses, by its code, or `unreachable`. (A class with the texts of all codes would double the worker.) */
export class DepotError extends Error {
	readonly code: string;

	constructor(code: string, options?: ErrorOptions) {
		super(code, options);
		this.code = code;
	}
}

/** The server may be silent for so long in the middle of an answer. */
const stallMs = 15_000;

async function ask(url: URL, init: RequestInit): Promise<Response> {
	let response: Response;
	try {
		response = await fetch(url, { ...init, credentials: "omit", cache: "no-store" });
	} catch (cause) {
		throw new DepotError("unreachable", { cause });
	}
	if (response.ok) return response;
	const problem = (await response.json().catch(() => null)) as { code?: unknown; retryAfterMs?: number } | null;
	if (typeof problem?.code !== "string") throw new DepotError(response.status === 404 ? "depot_off" : "unreachable");
	throw new DepotError(problem.code);
}

const json = (body: unknown): RequestInit => ({
	body: JSON.stringify(body),
	headers: { "Content-Type": "application/json" },
});

/** What may wait on the server, for peers with these credentials. */
export async function depotTerms(server: string, id: string, who: JoinCredentials): Promise<DepotTerms> {
	const url = new URL("v1/depot-terms", server);
	return (await ask(url, { method: "POST", ...json({ id, ...who }) })).json() as Promise<DepotTerms>;
}

/** Whether the same may succeed by itself. */
export function passing(error: unknown): boolean {
	return (
		error instanceof DepotError &&
		["unreachable", "rate_limited", "server_draining", "storage", "internal", "handshake_timeout"].includes(error.code)
	);
}

export const hasNumber = ({ objects }: DepotState, number: number): boolean =>
	objects.some(([first, count]) => first <= number && number < first + count);

/** A list such as `0-3,17`, of numbers in order. */
function listed(numbers: readonly number[]): string {
	const runs: [first: number, last: number][] = [];
	for (const number of numbers) {
		const run = runs.at(-1);
		if (run?.[1] === number - 1) run[1] = number;
		else runs.push([number, number]);
	}
	return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** Asks about one depot, with one of its tokens. */
export class DepotClient {
	readonly #base: URL;
	readonly #token: string;
	readonly #signal: AbortSignal;

	constructor(server: string, id: string, token: string, signal: AbortSignal) {
		this.#base = new URL(`v1/depots/${id}`, server);
		this.#token = token;
		this.#signal = signal;
	}

	#ask(method: string, path: string, init: RequestInit = {}, signal = this.#signal): Promise<Response> {
		const headers = { ...init.headers, Authorization: `Bearer ${this.#token}` };
		return ask(new URL(this.#base.href + path), { ...init, method, headers, signal });
	}

	/** Makes the depot, or finds the one of an earlier life. */
	async create(read: string, once: boolean, who: JoinCredentials): Promise<DepotState> {
		const body = { upload: tokenHash(this.#token), read: tokenHash(read), once, ...who };
		return (await this.#ask("PUT", "", json(body))).json() as Promise<DepotState>;
	}

	async look(): Promise<DepotState> {
		return (await this.#ask("GET", "")).json() as Promise<DepotState>;
	}

	async put(objects: Blob): Promise<void> {
		await this.#ask("POST", "/objects", { body: objects, headers: { "Content-Type": "application/octet-stream" } });
	}

	async claim(taker: string): Promise<void> {
		await this.#ask("PUT", "/taker", json({ taker }));
	}

	async receipt(taker: string): Promise<void> {
		await this.#ask("POST", "/receipt", json({ taker }));
	}

	/** Also when the rest of this end is over. */
	async remove(): Promise<void> {
		await this.#ask("DELETE", "", { keepalive: true }, AbortSignal.timeout(stallMs));
	}

	/** Hands over the objects of these numbers, which are in order. */
	async fetch(
		numbers: readonly number[],
		give: (number: number, object: Uint8Array<ArrayBuffer>) => Promise<void>,
	): Promise<void> {
		const stalled = new AbortController();
		let timer = setTimeout(() => stalled.abort(), stallMs);
		const signal = AbortSignal.any([this.#signal, stalled.signal]);
		try {
			const { body } = await this.#ask("GET", `/objects?numbers=${listed(numbers)}`, {}, signal);
			const stream = body?.getReader();
			const reader = new ObjectReader();
			let next = 0;
			for (;;) {
				const piece = await stream?.read();
				clearTimeout(timer);
				if (!piece || piece.done) break;
				for (const { number, object } of reader.add(piece.value as Uint8Array<ArrayBuffer>)) {
					if (number !== numbers[next++]) throw new WireError("malformed", "another object than was asked for");
					await give(number, object);
				}
				timer = setTimeout(() => stalled.abort(), stallMs);
			}
			if (next < numbers.length || !reader.empty) throw new DepotError("depot_unknown");
		} catch (error) {
			if (error instanceof DepotError || error instanceof WireError || this.#signal.aborted) throw error;
			if ((error as DOMException).name === "AbortError" || error instanceof TypeError) {
				throw new DepotError("unreachable", { cause: error });
			}
			throw error;
		} finally {
			clearTimeout(timer);
		}
	}
}

/** Repeats what may succeed the next time. */
export async function again<T>(attempts: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
	for (let attempt = 1; ; attempt++) {
		try {
			return await work();
		} catch (error) {
			if (signal.aborted || !passing(error) || attempt >= attempts) throw error;
		}
		await pause(Math.min(10_000, attempt * 500), signal);
	}
}

export function pause(ms: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve, reject) => {
		const stop = () => {
			clearTimeout(timer);
			reject(signal.reason);
		};
		const timer = setTimeout(() => {
			signal.removeEventListener("abort", stop);
			resolve();
		}, ms);
		if (signal.aborted) stop();
		else signal.addEventListener("abort", stop, { once: true });
	});
}
