import { blockCount } from "./blocks.js";
import {
	blockKind,
	type DepotKeys,
	decodeEnding,
	decodeList,
	endNumber,
	hashesPerList,
	kind,
	Layout,
	listCount,
	SealedError,
} from "./depot.js";
import { again, type DepotClient, DepotError, type DepotState, hasNumber, pause } from "./depotclient.js";
import { free } from "./free.js";
import { digest } from "./hash.js";
import type { Wire } from "./lane.js";
import { random, toBase64 } from "./secret.js";
import { fileRoot } from "./tree.js";
import {
	decodeMessage,
	encodeBlock,
	encodeHashes,
	hashesLimit,
	type Message,
	type Range,
	rangeLimit,
	WireError,
} from "./wire.js";

/** Requests for blocks at a time, and blocks in one. */
const fetchers = 3;
const requestBlocks = 16;
const pollLeastMs = 1_000;
const pollMostMs = 5_000;
const attempts = 3;

/**
 * A lane whose other side is the server: it answers what a receiver asks of a sender, as far as the sender has put it there, and says with
 * `have` what that is. So one protocol stands above all lanes.
 */
export class DepotWire implements Wire {
	readonly bufferedAmount = 0;
	onopen: (() => void) | null = null;
	onmessage: ((data: unknown) => void) | null = null;
	onlow: (() => void) | null = null;
	onclose: (() => void) | null = null;
	readonly #client: DepotClient;
	readonly #keys: DepotKeys;
	/** Names the receiver to the server. */
	readonly #taker: string;
	/** Objects that cannot be opened, over all lanes: they are not offered again. */
	readonly #bad: Set<number>;
	readonly #end = new AbortController();
	/** Resolves at the end. */
	readonly closed = new Promise<void>((resolve) => this.#end.signal.addEventListener("abort", () => resolve()));
	readonly #layout = new Layout();
	#state: DepotState;
	#pages = 0;
	/** It is one stream, whose end is known by now. */
	#stream = false;
	#ended = false;
	#wants: [file: number, block: number][] = [];
	#busy = 0;
	#idle: (() => void)[] = [];
	#wishes: (number | undefined)[] = [];
	/** One command after the other. */
	#queue: Promise<void> = Promise.resolve();

	/** `state` is what was seen of the depot last. `client` makes one that a signal ends. */
	constructor(
		client: (signal: AbortSignal) => DepotClient,
		keys: DepotKeys,
		end: string,
		state: DepotState,
		bad: Set<number>,
	) {
		this.#client = client(this.#end.signal);
		this.#keys = keys;
		this.#taker = keys.takerOf(end);
		this.#state = state;
		this.#bad = bad;
		queueMicrotask(() => this.onopen?.());
	}

	close(): void {
		this.#stop();
	}

	#stop(): void {
		if (this.#end.signal.aborted) return;
		this.#end.abort();
		const { onclose } = this;
		this.onclose = null;
		onclose?.();
	}

	#say(message: Message): void {
		if (!this.#end.signal.aborted) this.onmessage?.(JSON.stringify(message));
	}

	/** Runs it when what was begun before is done. What goes wrong ends the lane. */
	#enqueue(work: () => Promise<void>): Promise<void> {
		this.#queue = this.#queue.then(() => (this.#end.signal.aborted ? undefined : work())).catch(() => this.#stop());
		return this.#queue;
	}

	#again<T>(work: () => Promise<T>): Promise<T> {
		return again(attempts, this.#end.signal, work);
	}

	/** Takes what the receiver says to a sender. */
	send(data: string | Uint8Array<ArrayBuffer>): void {
		const message = typeof data === "string" ? decodeMessage(data) : null;
		switch (message?.type) {
			case "hello":
				this.#say({ type: "hello", version: 1, role: "sender", end: toBase64(random(16)) });
				void this.#enqueue(() => this.#news()).then(() => this.#poll());
				break;
			case "accept":
				void this.#enqueue(() => this.#claim());
				break;
			case "want":
				for (const [file, first, count] of message.blocks) {
					for (let block = first; block < first + count; block++) this.#wants.push([file, block]);
				}
				while (this.#busy < fetchers && this.#wants.length > this.#busy * requestBlocks) void this.#fetch();
				break;
			case "unwant":
				this.#wants = [];
				void this.#enqueue(async () => {
					if (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
					this.#say({ type: "unwanted" });
				});
				break;
			case "get-root":
				void this.#enqueue(async () => {
					this.#wishes.push(message.file);
					await this.#grant();
				});
				break;
			case "get-hashes":
				void this.#enqueue(() => this.#hashes(message.file, message.first, message.count));
				break;
			case "complete":
				void this.#enqueue(async () => {
					// Whatever the server answers, the receiver has everything.
					await this.#again(() => this.#client.receipt(this.#taker)).catch(() => {});
					this.#say({ type: "bye", code: "done" });
				});
				break;
		}
	}

	async #claim(): Promise<void> {
		try {
			await this.#again(() => this.#client.claim(this.#taker));
		} catch (error) {
			if (!(error instanceof DepotError) || error.code !== "transfer_taken") throw error;
			this.#say({ type: "bye", code: "transfer_taken" });
			return;
		}
		this.#say(this.#state.once ? { type: "accepted", alone: true } : { type: "accepted" });
	}

	/** Looks now and then what has come. */
	async #poll(): Promise<void> {
		const { signal } = this.#end;
		for (let waitMs = pollLeastMs; !signal.aborted; ) {
			await pause(waitMs, signal).catch(() => {});
			if (this.#wishes.length > 0) this.#say({ type: "wait" });
			if (this.#ended && this.#wishes.length === 0) continue;
			await this.#enqueue(async () => {
				const state = await this.#again(() => this.#client.look());
				if (state.state !== "open") throw new DepotError("depot_expired");
				const changed = JSON.stringify(state.objects) !== JSON.stringify(this.#state.objects);
				this.#state = state;
				waitMs = changed ? pollLeastMs : Math.min(2 * waitMs, pollMostMs);
				if (!changed) return;
				await this.#news();
				await this.#grant();
			});
		}
	}

	#has(number: number): boolean {
		return hasNumber(this.#state, number);
	}

	/** Tells what is there. What was said before is said again: the ranges are few. */
	async #news(): Promise<void> {
		await this.#manifest();
		let have: Range[] = [];
		const flush = () => {
			if (have.length > 0) this.#say({ type: "have", blocks: have });
			have = [];
		};
		for (const [first, count] of this.#state.objects) {
			let from = Math.max(first, blockKind * kind);
			const end = Math.min(first + count, (blockKind + 1) * kind);
			const holes = [...this.#bad].filter((number) => number >= from && number < end).sort((a, b) => a - b);
			for (const until of [...holes, end]) {
				if (until > from) {
					for (const range of this.#layout.ranges(from, until - from)) {
						have.push(range);
						if (have.length === rangeLimit) flush();
					}
				}
				from = until + 1;
			}
		}
		flush();
		if (this.#layout.sizes[0] === null) await this.#streamSize();
		if (!this.#ended && this.#has(endNumber)) {
			const { failed = [] } = decodeEnding(await this.#object(endNumber));
			for (const { file, code } of failed) this.#say({ type: "failed", file, code });
			this.#ended = true;
		}
	}

	/** Passes on the pages that are there. They go in order. */
	async #manifest(): Promise<void> {
		while (this.#has(this.#pages)) {
			const text = new TextDecoder().decode(await this.#object(this.#pages));
			const page = decodeMessage(text);
			if (page?.type !== "manifest" || page.from !== this.#layout.files) {
				throw new WireError("malformed", "a page of the manifest is missing");
			}
			for (const entry of page.entries) this.#layout.add(entry);
			this.#pages++;
			if (!this.#end.signal.aborted) this.onmessage?.(text);
		}
	}

	async #object(number: number): Promise<Uint8Array<ArrayBuffer>> {
		let content: Uint8Array<ArrayBuffer> | undefined;
		await this.#again(() =>
			this.#client.fetch([number], async (_, object) => {
				content = await this.#open(number, object);
			}),
		);
		return content as Uint8Array<ArrayBuffer>;
	}

	async #open(number: number, object: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
		try {
			return await this.#keys.open(number, object);
		} catch (error) {
			if (error instanceof SealedError) this.#bad.add(number);
			throw error;
		}
	}

	/** How long a stream was, once its last list of hashes is there. */
	async #streamSize(): Promise<void> {
		let last = 0;
		while (this.#has(this.#layout.list(0, last + 1))) last++;
		if (!this.#has(this.#layout.list(0, last))) return;
		const { size } = decodeList(await this.#object(this.#layout.list(0, last)));
		if (size === null) return;
		this.#layout.sizes[0] = size;
		this.#stream = true;
		this.#say({ type: "size", file: 0, size });
	}

	/** Answers the roots that can be told by now. */
	async #grant(): Promise<void> {
		for (const wish of this.#wishes.splice(0)) {
			const root = await this.#root(wish);
			if (root) this.#say({ type: "root", root, ...(wish === undefined ? {} : { file: wish }) });
			else this.#wishes.push(wish);
		}
	}

	async #root(file: number | undefined): Promise<string | null> {
		if (file === undefined) {
			return this.#has(endNumber) ? (decodeEnding(await this.#object(endNumber)).root ?? null) : null;
		}
		const size = this.#layout.sizes[file];
		if (size === undefined || size === null) return null;
		const hashes = await this.#hashesOf(file, size, 0, blockCount(size));
		return hashes && toBase64(fileRoot(size, hashes));
	}

	/** The hashes of blocks, if they are all there. */
	async #hashesOf(file: number, size: number, first: number, count: number): Promise<Uint8Array[] | null> {
		if (listCount(size) === 0 && !this.#stream) {
			const number = this.#layout.block(file, 0);
			if (count === 0) return [];
			return this.#has(number) ? [await digest(await this.#object(number))] : null;
		}
		const hashes: Uint8Array[] = [];
		for (let index = Math.floor(first / hashesPerList); hashes.length < count; index++) {
			const number = this.#layout.list(file, index);
			if (!this.#has(number)) return null;
			const list = decodeList(await this.#object(number)).hashes;
			const from = hashes.length === 0 ? first % hashesPerList : 0;
			if (list.length <= from) throw new WireError("malformed", "a list has too few hashes");
			hashes.push(...list.slice(from));
		}
		return hashes.slice(0, count);
	}

	async #hashes(file: number, first: number, count: number): Promise<void> {
		const size = this.#layout.sizes[file];
		if (size === undefined || size === null || first + count > blockCount(size)) {
			throw new WireError("malformed", "there are no such blocks");
		}
		const hashes = (await this.#hashesOf(file, size, first, Math.min(count, hashesLimit))) ?? [];
		if (!this.#end.signal.aborted) this.onmessage?.(encodeHashes({ file, first, hashes }).buffer);
	}

	async #fetch(): Promise<void> {
		this.#busy++;
		try {
			while (this.#wants.length > 0 && !this.#end.signal.aborted) {
				let blocks = this.#wants.splice(0, requestBlocks);
				await this.#again(async () => {
					const numbers = blocks.map(([file, block]) => this.#layout.block(file, block));
					if (numbers.some(Number.isNaN)) throw new WireError("malformed", "there is no such file");
					if (numbers.length === 0) return;
					await this.#client.fetch(numbers, async (number, object) => {
						const bytes = await this.#open(number, object);
						const hash = await digest(bytes);
						const [[file, block]] = blocks as [[number, number]];
						blocks = blocks.slice(1); // what is tried again begins behind it
						// Whole: nothing comes between its parts.
						for (const part of encodeBlock(file, block, bytes, hash, Number.POSITIVE_INFINITY)) {
							if (!this.#end.signal.aborted) this.onmessage?.(part.buffer);
						}
						free(bytes.buffer);
					});
				});
			}
		} catch {
			this.#stop();
		} finally {
			this.#busy--;
			if (this.#busy === 0) for (const resolve of this.#idle.splice(0)) resolve();
		}
	}
}
