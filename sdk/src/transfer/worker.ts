import { canSeal, DepotKeys } from "./depot.js";
import { DepotClient, pause } from "./depotclient.js";
import { DepotUpload } from "./depotupload.js";
import { DepotWire } from "./depotwire.js";
import { DirectStore } from "./direct.js";
import { Fetcher, type FetcherHost } from "./fetcher.js";
import { measure } from "./files.js";
import { free } from "./free.js";
import { digest, sameHash } from "./hash.js";
import { ChannelWire, LaneWriter, PortWire, type Wire } from "./lane.js";
import type { FileState, FromWorker, Place, ToWorker } from "./protocol.js";
import { Pump, type PumpHost } from "./pump.js";
import type { Next } from "./queue.js";
import { random, type Ticket, toBase64 } from "./secret.js";
import { Server, type ServerHost } from "./server.js";
import { Sharer, type SharerHost } from "./share.js";
import { type Block, Source, SourceError } from "./source.js";
import { keptEnd, MemoryStore, StagingStore, type Store } from "./store.js";
import type { Entry, Message } from "./wire.js";
import { Assembler, decodeBinary, decodeMessage, encodeHashes, hashesLimit, WireError } from "./wire.js";

// The worker of one transfer: hashing, disk, and all that goes over its lanes, so that neither a busy page disturbs the transfer nor the
// transfer the page. The machines (fetcher.ts, server.ts) decide; this carries out.

const tickMs = 250;
const farewellMs = 2_000;

type Post = (message: FromWorker) => void;

/** What both sides do with lanes. */
abstract class End {
	protected readonly post: Post;
	protected readonly writers = new Map<number, LaneWriter>();
	readonly #wires = new Map<number, Wire>();
	readonly #timer: ReturnType<typeof setInterval>;
	#shown = false;

	constructor(post: Post) {
		this.post = post;
		this.#timer = setInterval(() => {
			this.tick(performance.now());
			if (this.#shown) return;
			this.#shown = true;
			this.show();
		}, tickMs);
	}

	/** Something that is shown has changed: it is told with the next tick. */
	protected changed(): void {
		this.#shown = false;
	}

	protected abstract tick(nowMs: number): void;
	protected abstract show(): void;
	protected abstract laneOpened(lane: number, wire: Wire): void;
	protected abstract laneClosed(lane: number): void;
	protected abstract text(lane: number, message: Message): void;
	protected abstract binary(lane: number, data: ArrayBuffer): void;

	addLane(lane: number, wire: Wire): void {
		const writer = new LaneWriter(wire, () => this.endLane(lane, "closed"));
		this.writers.set(lane, writer);
		this.#wires.set(lane, wire);
		wire.onopen = () => {
			this.laneOpened(lane, wire);
			if (this.writers.has(lane)) this.post({ type: "lane-ready", lane });
		};
		wire.onmessage = (data) => {
			if (!this.writers.has(lane)) return;
			try {
				if (typeof data === "string") {
					const message = decodeMessage(data);
					if (message) this.text(lane, message);
				} else if (data instanceof ArrayBuffer) {
					this.binary(lane, data); // it copies what it keeps
					free(data);
				}
			} catch (error) {
				if (!(error instanceof WireError)) throw error;
				writer.say({ type: "bye", code: error.code, message: error.message });
				this.endLane(lane, error.code);
			}
		};
		wire.onclose = () => this.endLane(lane, "closed");
		this.post({ type: "lane-taken", lane });
	}

	setMessageBytes(lane: number, bytes: number): void {
		const writer = this.writers.get(lane);
		if (writer) writer.messageBytes = bytes;
	}

	/** Ends a lane, and tells the page, which closes its connection after what was said last. */
	endLane(lane: number, code: string): void {
		const writer = this.writers.get(lane);
		if (!writer) return;
		this.writers.delete(lane);
		this.#wires.get(lane)?.close();
		this.#wires.delete(lane);
		writer.end();
		this.laneClosed(lane);
		this.post({ type: "lane-ended", lane, code });
	}

	/** No more lanes, no more time. */
	protected stop(): void {
		clearInterval(this.#timer);
		this.show();
	}
}

/** A receiver that has everything goes on giving to others until none has asked for so long, and not for longer than this. */
const lingerMs = 4_000;
const lingerMostMs = 60_000;

/** How often a receiver looks whether something waits on the server. */
const depotLookMs = 5_000;

class Receiver extends End implements FetcherHost, SharerHost, PumpHost {
	readonly #id: string;
	/** Our name towards others. */
	readonly #own: string;
	readonly #life = new AbortController();
	readonly #fetcher: Fetcher;
	readonly #sharer = new Sharer(this);
	readonly #pump = new Pump(this);
	#sharedBytes = 0;
	/** Everything has arrived, the sender knows it, and others lack something. */
	#lingerSinceMs: number | null = null;
	readonly #assemblers = new Map<number, Assembler>();
	/** Lanes to other receivers. */
	readonly #others = new Set<number>();
	#store: Store | null = null;
	#saidManifest = false;
	#completed = false;
	#over = false;
	/** What was said of each file: bytes, and whether it is done. */
	readonly #said: string[] = [];

	constructor(post: Post, id: string, end: string, name: string | undefined) {
		super(post);
		this.#id = id;
		this.#own = end;
		this.#fetcher = new Fetcher(this, end, name, Math.random());
	}

	protected tick(nowMs: number): void {
		this.#fetcher.tick(nowMs);
		this.#sharer.tick(nowMs);
		if (this.#lingerSinceMs !== null && !this.#isNeeded(nowMs)) this.#end("done");
	}

	/** A lane is to be to another receiver. */
	expectOther(lane: number): void {
		this.#others.add(lane);
	}

	alone(): void {
		this.post({ type: "alone" });
	}

	/** Other receivers are there, or not. */
	accompany(others: boolean): void {
		this.#fetcher.accompany(others, performance.now());
	}

	protected show(): void {
		const { files, manifestWhole, senderName } = this.#fetcher;
		if (manifestWhole && !this.#saidManifest) {
			this.#saidManifest = true;
			this.post({ type: "manifest", entries: files.map(({ entry }) => entry), senderName });
		}
		const changed: FileState[] = [];
		files.forEach(({ haveBytes, size, done, failed }, file) => {
			const now = `${haveBytes} ${size} ${done} ${failed}`;
			if (this.#said[file] === now) return;
			this.#said[file] = now;
			changed.push({ file, bytes: haveBytes, size, done, failed });
		});
		this.post({
			type: "receiving",
			bytes: this.#fetcher.receivedBytes,
			total: this.#fetcher.totalBytes,
			arrived: this.#fetcher.arrivedBytes,
			shared: this.#sharedBytes,
			accepted: this.#fetcher.accepted,
			senderPaused: this.#fetcher.senderPaused,
			files: changed,
		});
	}

	protected laneOpened(lane: number, wire: Wire): void {
		this.#assemblers.set(lane, new Assembler((file) => this.#fetcher.files[file]?.size));
		const others = this.#others.has(lane) ? "receiver" : "sender";
		this.#fetcher.laneOpened(lane, performance.now(), wire instanceof DepotWire ? "depot" : others);
	}

	/** Uses what waits on the server, as long as there is something: beside the sender, and when the sender is not there. */
	async watch(server: string, ticket: Ticket): Promise<void> {
		if (!canSeal()) return;
		const { signal } = this.#life;
		const keys = new DepotKeys(ticket);
		const client = (life: AbortSignal) => new DepotClient(server, ticket.id, keys.read, life);
		const bad = new Set<number>();
		for (let lane = -1; !signal.aborted; lane--) {
			const state = await client(signal)
				.look()
				.catch(() => null); // nothing waits, or the server cannot be reached
			if (state?.state === "open" && state.objects.length > 0) {
				const wire = new DepotWire(client, keys, this.#own, state, bad);
				signal.addEventListener("abort", () => wire.close(), { once: true });
				this.addLane(lane, wire);
				await wire.closed;
			} else if (state?.state === "expired" || (state?.state === "taken" && state.taker !== keys.takerOf(this.#own))) {
				this.post({ type: "depot-over", state: state.state });
			}
			await pause(depotLookMs, signal).catch(() => {});
		}
	}

	protected override stop(): void {
		super.stop();
		// What was said last, such as that everything has arrived, has to leave first.
		setTimeout(() => this.#life.abort(), farewellMs);
	}

	protected laneClosed(lane: number): void {
		this.#assemblers.delete(lane);
		this.#others.delete(lane);
		this.#sharer.laneClosed(lane);
		this.#fetcher.laneClosed(lane);
	}

	protected text(lane: number, message: Message): void {
		const nowMs = performance.now();
		if (this.#fetcher.isOther(lane) && this.#fetcher.shares && this.#sharer.message(lane, message, nowMs)) return;
		this.#fetcher.message(lane, message, nowMs);
	}

	protected binary(lane: number, data: ArrayBuffer): void {
		const nowMs = performance.now();
		const { part, hashes } = decodeBinary(data);
		if (hashes) {
			this.#fetcher.hashes(lane, hashes.file, hashes.first, hashes.hashes, nowMs);
			return;
		}
		const whole = this.#assemblers.get(lane)?.add(part);
		if (!whole) {
			this.#fetcher.heard(lane, nowMs);
			return;
		}
		if (this.#fetcher.arrived(lane, whole.file, whole.block, whole.bytes.length, whole.hash, nowMs)) {
			void this.#keep(lane, whole.file, whole.block, whole.bytes, whole.hash);
		}
	}

	async #keep(
		lane: number,
		file: number,
		block: number,
		bytes: Uint8Array<ArrayBuffer>,
		hash: Uint8Array,
	): Promise<void> {
		if (!sameHash(await digest(bytes), hash)) {
			this.#fetcher.refused(lane, file, block);
			return;
		}
		if (this.#over || !this.#store) return;
		try {
			await this.#store.write(file, block, bytes, hash);
		} catch (error) {
			this.#diskFailed(error);
			return;
		}
		this.#fetcher.kept(lane, file, block, hash);
	}

	/** The disk does not take any more. What it has is kept. */
	#diskFailed(error: unknown): void {
		if (this.#over) return;
		const full = (error as DOMException).name === "QuotaExceededError";
		const code = full ? "disk_full" : "storage_lost";
		this.#fetcher.cancel("disk_full");
		this.ended(code);
	}

	async accept(chosen: number[] | null, place: Place): Promise<void> {
		if (this.#store) return;
		try {
			this.#store = await this.#open(place);
		} catch (error) {
			const busy = (error as DOMException).name === "NoModificationAllowedError";
			this.ended(busy ? "in_use" : "storage_lost");
			return;
		}
		const wanted = chosen && new Set(chosen);
		this.#fetcher.accept((file) => !wanted || wanted.has(file), this.#store.found, place.kind !== "direct");
		this.show(); // what was chosen is less than all
		if (this.#store.found.length > 0) this.post({ type: "resumed", bytes: this.#fetcher.receivedBytes });
	}

	#open(place: Place): Promise<Store> | Store {
		const entries = this.#fetcher.files.map(({ entry }) => entry);
		switch (place.kind) {
			case "staging":
				return StagingStore.open(this.#id, { version: 1, entries });
			case "direct":
				return new DirectStore(place.target, entries);
			case "memory":
				return new MemoryStore();
		}
	}

	choose(file: number, chosen: boolean): void {
		this.#fetcher.choose(file, chosen);
	}

	pause(on: boolean): void {
		this.#fetcher.pause(on);
	}

	async cancel(code: "cancelled" | "declined"): Promise<void> {
		this.#fetcher.cancel(code);
		this.#over = true;
		this.stop();
		await this.#store?.discard();
		this.post({ type: "ended", code });
	}

	async discard(): Promise<void> {
		await this.#store?.discard();
		if (this.#lingerSinceMs !== null) this.#end("done"); // there is nothing left to give
	}

	// ---- what the fetcher wants

	send(lane: number, message: Message): void {
		this.writers.get(lane)?.say(message);
	}

	ended(code: string): void {
		if (this.#over) return;
		const nowMs = performance.now();
		this.#lingerSinceMs = nowMs;
		if (code === "done" && this.#completed && this.#isNeeded(nowMs)) return;
		this.#end(code);
	}

	#isNeeded(nowMs: number): boolean {
		const sinceMs = this.#lingerSinceMs ?? nowMs;
		const lastMs = Math.max(sinceMs, this.#sharer.askedAtMs);
		return this.#fetcher.needed && nowMs - sinceMs < lingerMostMs && nowMs - lastMs < lingerMs;
	}

	#end(code: string): void {
		if (this.#over) return;
		this.#over = true;
		this.stop();
		void this.#store?.close().catch(() => {}); // what it could not write is asked for again
		this.post({ type: "ended", code });
	}

	override changed(): void {
		super.changed();
	}

	// ---- what others want

	wake(lane: number): void {
		this.#pump.wake(lane);
	}

	writer(lane: number): LaneWriter | undefined {
		return this.writers.get(lane);
	}

	take(lane: number): Next | null {
		return this.#sharer.take(lane, performance.now());
	}

	/** What it never said that it has is not given. */
	async read(file: number, block: number): Promise<Block | null> {
		const incoming = this.#fetcher.files[file];
		const hash = incoming?.have.has(block) ? incoming.hashes.get(block)?.slice() : undefined;
		if (!incoming || !hash || !this.#store) return null;
		const bytes = await this.#store.read(file, block, incoming.lengthOf(block));
		return bytes && { bytes, hash };
	}

	sent(_lane: number, bytes: number): void {
		this.#sharedBytes += bytes;
		this.changed();
	}

	/** It was removed, or the disk has a fault: nobody is to wait for it. */
	failed(lane: number): void {
		this.endLane(lane, "closed");
	}

	fileDone(file: number): void {
		this.#store?.settle(file, this.#fetcher.files[file]?.done === true);
		this.changed();
	}

	complete(): void {
		void this.#complete();
	}

	async #complete(): Promise<void> {
		if (this.#completed) {
			// The sender has not heard it: its lane was lost.
			this.#fetcher.sayComplete();
			return;
		}
		const all = [...this.#fetcher.files.entries()];
		const files = all.filter(([, { done }]) => done).map(([file]) => file);
		const folders = all.filter(([, { entry, chosen }]) => entry.dir && chosen).map(([file]) => file);
		let contents: (Blob | null)[];
		try {
			contents = (await this.#store?.finish(files, folders)) ?? [];
		} catch (error) {
			this.#diskFailed(error);
			return;
		}
		this.#completed = true;
		this.#fetcher.sayComplete();
		this.show();
		this.post({ type: "complete", files: [...files, ...folders], contents });
	}
}

class Sender extends End implements ServerHost, PumpHost {
	readonly #server: Server;
	readonly #source: Source;
	readonly #pump = new Pump(this);
	readonly #entries: readonly Entry[];
	readonly #once: boolean;
	readonly #ends = new Map<number, string>();
	#upload: { work: DepotUpload; stop: AbortController; client: DepotClient } | null = null;
	#sentBytes = 0;

	constructor(post: Post, files: readonly (File | null)[], message: Extract<ToWorker, { type: "send" }>) {
		super(post);
		const { names, end, receivers, name } = message;
		const entries = measure(names, files);
		post({ type: "listed", entries });
		this.#source = new Source(entries, files);
		this.#entries = entries;
		this.#once = receivers === 1;
		this.#server = new Server(this, entries, end, receivers, name);
	}

	protected tick(nowMs: number): void {
		this.#server.tick(nowMs);
	}

	protected show(): void {
		this.post({
			type: "sending",
			receivers: [...this.#server.receivers.values()].map((receiver) => ({ ...receiver })),
			sentBytes: this.#sentBytes,
			failed: [...this.#server.failed],
		});
	}

	protected laneOpened(lane: number): void {
		this.#server.laneOpened(lane, performance.now());
	}

	protected laneClosed(lane: number): void {
		this.#ends.delete(lane);
		this.#server.laneClosed(lane);
	}

	protected text(lane: number, message: Message): void {
		if (message.type === "hello") this.#ends.set(lane, message.end);
		if (message.type === "accept" && this.#upload) void this.#accept(lane, message);
		else this.#server.message(lane, message);
	}

	/** A link for one is the first one's, here and on the server. */
	async #accept(lane: number, message: Message): Promise<void> {
		const mine = await this.#upload?.work.claim(this.#ends.get(lane) ?? "");
		const writer = this.writers.get(lane);
		if (!writer) return;
		if (mine !== false) {
			this.#server.message(lane, message);
			return;
		}
		writer.say({ type: "bye", code: "transfer_taken" });
		this.endLane(lane, "transfer_taken");
	}

	/** Brings everything to the server too, or takes it away from there. */
	keep(order: Extract<ToWorker, { type: "keep" }>): void {
		this.#upload?.stop.abort();
		if (!order.on) {
			this.#clear();
			this.post({ type: "keeping", keeping: null });
			return;
		}
		const { ticket, server, upload, who } = order;
		const stop = new AbortController();
		const client = new DepotClient(server, ticket.id, upload, stop.signal);
		const work = new DepotUpload({
			client,
			keys: new DepotKeys(ticket),
			source: this.#source,
			entries: this.#entries,
			once: this.#once,
			who,
			signal: stop.signal,
			fail: (error) => this.failed(undefined, error),
			failed: () => this.#server.failed,
			show: (keeping) => {
				this.post({ type: "keeping", keeping });
				if (keeping.state === "taken") this.#sent();
			},
		});
		this.#upload = { work, stop, client };
		void work.run();
	}

	/** Nobody needs what is on the server any more. */
	#clear(): void {
		const upload = this.#upload;
		this.#upload = null;
		upload?.stop.abort();
		upload?.client.remove().catch(() => {}); // its receiver may have done so; else it expires
	}

	#sent(): void {
		this.show();
		this.post({ type: "sent" });
	}

	protected binary(): void {
		throw new WireError("malformed", "a sender takes no blocks");
	}

	pause(on: boolean): void {
		this.#server.pause(on);
	}

	cancel(): void {
		this.#server.cancel();
		this.#clear();
		this.stop();
		this.post({ type: "ended", code: "cancelled" });
	}

	// ---- what the server wants

	send(lane: number, message: Message): void {
		this.writers.get(lane)?.say(message);
	}

	sendHashes(lane: number, file: number, first: number, count: number): void {
		const hashes = this.#source.known(file, first, Math.min(count, hashesLimit));
		this.writers.get(lane)?.sayBytes(encodeHashes({ file, first, hashes }));
	}

	sendRoot(lane: number, file: number | undefined): void {
		const root = file === undefined ? this.#source.manifestRoot() : this.#source.root(file);
		root.then(
			(bytes) => this.send(lane, { type: "root", root: toBase64(bytes), ...(file === undefined ? {} : { file }) }),
			(error: unknown) => this.failed(undefined, error),
		);
	}

	failed(_lane: unknown, error: unknown): void {
		if (!(error instanceof SourceError)) throw error;
		this.#server.fail(error.file, error.code);
	}

	wake(lane: number): void {
		this.#pump.wake(lane);
	}

	writer(lane: number): LaneWriter | undefined {
		return this.writers.get(lane);
	}

	take(lane: number): Next | null {
		return this.#server.take(lane, performance.now());
	}

	read(file: number, block: number): Promise<Block | null> {
		return this.#source.block(file, block);
	}

	sent(_lane: number, bytes: number): void {
		this.#sentBytes += bytes;
		this.changed();
	}

	override changed(): void {
		super.changed();
	}

	complete(): void {
		this.#clear();
		this.#sent();
	}
}

/** The part of a worker's global scope that is used. */
interface WorkerScope {
	onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
	postMessage(message: FromWorker): void;
}

function start(scope: WorkerScope): void {
	const post: Post = (message) => scope.postMessage(message);
	let receiver: Receiver | null = null;
	let sender: Sender | null = null;
	const files: (File | null)[] = [];
	/** What came before all files had been given. */
	const early: ToWorker[] = [];
	const take = (data: ToWorker): void => {
		const end = receiver ?? sender;
		if (!end && files.length > 0 && data.type !== "files" && data.type !== "send") {
			early.push(data);
			return;
		}
		switch (data.type) {
			case "files":
				files.push(...data.files);
				break;
			case "send":
				sender = new Sender(post, files, data);
				for (const message of early.splice(0)) take(message);
				break;
			case "receive":
				void keptEnd(data.ticket.id, () => toBase64(random(16))).then((end) => {
					receiver = new Receiver(post, data.ticket.id, end, data.name);
					post({ type: "ready" });
					if (data.server !== null) void receiver.watch(data.server, data.ticket);
				});
				break;
			case "lane":
				if (data.other) receiver?.expectOther(data.lane);
				end?.addLane(
					data.lane,
					data.channel instanceof MessagePort ? new PortWire(data.channel) : new ChannelWire(data.channel),
				);
				break;
			case "company":
				receiver?.accompany(data.others);
				break;
			case "lane-bytes":
				end?.setMessageBytes(data.lane, data.bytes);
				break;
			case "lane-end":
				end?.endLane(data.lane, "closed");
				break;
			case "accept":
				void receiver?.accept(data.chosen, data.place);
				break;
			case "keep":
				sender?.keep(data);
				break;
			case "choose":
				receiver?.choose(data.file, data.chosen);
				break;
			case "pause":
				end?.pause(data.on);
				break;
			case "cancel":
				void (receiver ? receiver.cancel(data.code) : sender?.cancel());
				break;
			case "discard":
				void receiver?.discard();
				break;
		}
	};
	scope.onmessage = ({ data }) => take(data);
}

start(globalThis as unknown as WorkerScope);
