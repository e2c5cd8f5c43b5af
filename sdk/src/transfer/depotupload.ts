import { blockCount } from "./blocks.js";
import {
	type DepotKeys,
	encodeList,
	endNumber,
	hashesPerList,
	Layout,
	listCount,
	objectBytes,
	objectHeader,
	objectHeaderBytes,
	SealedError,
} from "./depot.js";
import {
	again,
	type DepotClient,
	DepotError,
	type DepotState,
	hasNumber,
	type JoinCredentials,
	pause,
} from "./depotclient.js";
import { free } from "./free.js";
import { toBase64 } from "./secret.js";
import { type Source, SourceError } from "./source.js";
import { decodeMessage, type Entry, manifestPages } from "./wire.js";

/** How an upload is doing. */
export interface Keeping {
	/** `waiting`: for room; `failed`: with the code that says why. */
	readonly state: "keeping" | "waiting" | "kept" | "taken" | "failed";
	readonly code: string | null;
	/** Of files, on the server. */
	readonly bytes: number;
	readonly untilMs: number | null;
}

const uploadsAtOnce = 3;
const uploadBytes = 4 * (objectBytes + objectHeaderBytes);
const uploadObjects = 64;
const roomMs = 5_000;
const lookMs = 5_000;

/** Brings everything to the server, sealed, beside what is sent to receivers: docs/transfer.md §15. */
export class DepotUpload {
	readonly #client: DepotClient;
	readonly #keys: DepotKeys;
	readonly #source: Source;
	readonly #entries: readonly Entry[];
	readonly #once: boolean;
	readonly #who: JoinCredentials;
	readonly #signal: AbortSignal;
	readonly #fail: (error: SourceError) => void;
	readonly #failed: () => ReadonlyMap<number, string>;
	readonly #show: (keeping: Keeping) => void;
	readonly #layout = new Layout();
	#state: DepotState | null = null;
	#keeping: Keeping = { state: "keeping", code: null, bytes: 0, untilMs: null };
	#batch: Uint8Array<ArrayBuffer>[] = [];
	#batchBytes = 0;
	#batchFileBytes = 0;
	readonly #flight = new Set<Promise<void>>();

	constructor(options: {
		client: DepotClient;
		keys: DepotKeys;
		source: Source;
		entries: readonly Entry[];
		/** The link is for one receiver. */
		once: boolean;
		who: JoinCredentials;
		signal: AbortSignal;
		/** A file cannot be had any more. */
		fail: (error: SourceError) => void;
		/** Those that cannot be had. */
		failed: () => ReadonlyMap<number, string>;
		show: (keeping: Keeping) => void;
	}) {
		this.#client = options.client;
		this.#keys = options.keys;
		this.#source = options.source;
		this.#entries = options.entries;
		this.#once = options.once;
		this.#who = options.who;
		this.#signal = options.signal;
		this.#fail = options.fail;
		this.#failed = options.failed;
		this.#show = options.show;
		for (const entry of options.entries) this.#layout.add(entry);
	}

	/** Ends when all is there and the receiver has taken it, when it fails, or with its signal. */
	async run(): Promise<void> {
		try {
			await this.#begin();
			if (this.#state?.state === "taken") {
				this.#set({ state: "taken" });
				return;
			}
			for (const [index, page] of manifestPages(this.#entries, 0).entries()) {
				await this.#put(index, new TextEncoder().encode(JSON.stringify(page)));
			}
			for (const file of this.#entries.keys()) await this.#file(file);
			await this.#flush();
			await Promise.all(this.#flight);
			await this.#finish();
			this.#set({ state: "kept" });
			for (;;) {
				// A receiver who cannot reach this page may take everything from there.
				await pause(lookMs, this.#signal);
				const state = await this.#client.look().catch(() => null);
				if (state?.state !== "taken") continue;
				this.#set({ state: "taken" });
				return;
			}
		} catch (error) {
			if (this.#signal.aborted) return;
			this.#set({ state: "failed", code: error instanceof DepotError ? error.code : "internal" });
		}
	}

	/** Says that an end accepts, so that nobody else takes the same link from the server. Another one's is refused. */
	async claim(end: string): Promise<boolean> {
		if (!this.#state || !this.#once) return true;
		try {
			await this.#client.claim(this.#keys.takerOf(end));
			return true;
		} catch (error) {
			return !(error instanceof DepotError && error.code === "transfer_taken");
		}
	}

	#set(change: Partial<Keeping>): void {
		if (this.#signal.aborted) return;
		this.#keeping = { ...this.#keeping, ...change };
		this.#show(this.#keeping);
	}

	/** Repeats what may succeed later. Waits for room as long as there is none. */
	async #persist<T>(work: () => Promise<T>): Promise<T> {
		for (;;) {
			try {
				const result = await again(Number.POSITIVE_INFINITY, this.#signal, work);
				if (this.#keeping.state === "waiting") this.#set({ state: "keeping", code: null });
				return result;
			} catch (error) {
				if (!(error instanceof DepotError) || !["depot_full", "depot_disk_full"].includes(error.code)) throw error;
				this.#set({ state: "waiting", code: error.code });
			}
			await pause(roomMs, this.#signal);
		}
	}

	/** Makes the depot, or goes on with that of an earlier life if it is of the same files. */
	async #begin(): Promise<void> {
		const create = async () => {
			this.#state = await this.#persist(() => this.#client.create(this.#keys.read, this.#once, this.#who));
			this.#set({ untilMs: this.#state.expiresAtMs });
		};
		await create();
		if (this.#state?.state === "taken" || (await this.#same())) return;
		await this.#persist(() => this.#client.remove());
		await create();
	}

	/** Compares the pages that are there with the files. Pages are made of the same list in the same way. */
	async #same(): Promise<boolean> {
		const state = this.#state as DepotState;
		if (state.state !== "open") return false;
		let entry = 0;
		for (let page = 0; hasNumber(state, page); page++) {
			let text = "";
			try {
				await this.#persist(() =>
					this.#client.fetch([page], async (number, object) => {
						text = new TextDecoder().decode(await this.#keys.open(number, object));
					}),
				);
			} catch (error) {
				if (error instanceof SealedError) return false;
				throw error;
			}
			const there = decodeMessage(text);
			if (there?.type !== "manifest" || there.from !== entry) return false;
			for (const { path, size, mtimeMs, dir } of there.entries) {
				const own = this.#entries[entry++];
				if (own?.path !== path || own.size !== size || own.mtimeMs !== mtimeMs || own.dir !== dir) return false;
			}
		}
		return true;
	}

	async #put(number: number, content: Uint8Array<ArrayBuffer>, fileBytes = 0): Promise<void> {
		if (hasNumber(this.#state as DepotState, number)) return;
		const object = await this.#keys.seal(number, content);
		const bytes = objectHeaderBytes + object.length;
		if (this.#batchBytes + bytes > uploadBytes || this.#batch.length >= 2 * uploadObjects) await this.#flush();
		this.#batch.push(objectHeader(number, object.length), object);
		this.#batchBytes += bytes;
		this.#batchFileBytes += fileBytes;
	}

	/** Hands the batch over to be uploaded, and waits for room if too much is under way. */
	async #flush(): Promise<void> {
		if (this.#batch.length === 0) return;
		const objects = new Blob(this.#batch);
		for (const { buffer } of this.#batch) free(buffer);
		const bytes = this.#batchFileBytes;
		this.#batch = [];
		this.#batchBytes = this.#batchFileBytes = 0;
		while (this.#flight.size >= uploadsAtOnce) await Promise.race(this.#flight);
		const upload = this.#persist(() => this.#client.put(objects)).then(() => {
			this.#flight.delete(upload);
			this.#count(bytes);
		});
		upload.catch(() => {}); // looked at by those who wait for it
		this.#flight.add(upload);
	}

	#count(bytes: number): void {
		this.#set({ bytes: this.#keeping.bytes + bytes });
	}

	async #file(file: number): Promise<void> {
		const size = this.#layout.sizes[file] ?? 0;
		try {
			for (let block = 0; block < blockCount(size); block++) {
				this.#signal.throwIfAborted();
				const number = this.#layout.block(file, block);
				if (hasNumber(this.#state as DepotState, number)) {
					this.#count(Math.min(262_144, size - block * 262_144));
					continue;
				}
				const content = await this.#source.block(file, block);
				if (!content) continue;
				await this.#put(number, content.bytes, content.bytes.length);
				free(content.bytes.buffer);
			}
			await this.#lists(file, size);
		} catch (error) {
			if (!(error instanceof SourceError)) throw error;
			this.#fail(error);
		}
	}

	/** Puts the lists of hashes that a file's root is made of. What has not been read in this life is read for it. */
	async #lists(file: number, size: number): Promise<void> {
		const lists = Array.from({ length: listCount(size) }, (_, index) => this.#layout.list(file, index));
		if (lists.every((number) => hasNumber(this.#state as DepotState, number))) return;
		await this.#source.root(file);
		for (const [index, number] of lists.entries()) {
			const first = index * hashesPerList;
			const count = Math.min(hashesPerList, blockCount(size) - first);
			await this.#put(number, encodeList(size, this.#source.known(file, first, count)));
		}
	}

	/** Says that nothing will be added. */
	async #finish(): Promise<void> {
		const failed = [...this.#failed()].map(([file, code]) => ({ file, code }));
		const ending = failed.length > 0 ? { failed } : { root: toBase64(await this.#source.manifestRoot()) };
		await this.#put(endNumber, new TextEncoder().encode(JSON.stringify(ending)));
		await this.#flush();
		await Promise.all(this.#flight);
	}
}
