/**
 * Files of any size from one end to another: verified, resumable, and seen by nobody in between. docs/transfer.md is the protocol.
 * A module of its own (`madang/transfer`, `/sdk/madang-transfer.js`), so that calls do not load it.
 *
 * @module madang/transfer
 */

import { type Channel, Emitter, MadangError } from "../index.js";
import { baseURL } from "../server.js";
import type { Path } from "../stats.js";
import { type Access, CodeDesk, type CodeEnd, enter, redeem } from "./code.js";
import { type DepotTerms, depotTerms, type JoinCredentials } from "./depotclient.js";
import type { Keeping } from "./depotupload.js";
import type { Target } from "./direct.js";
import { type Chosen, toNames } from "./files.js";
import { handOver, Lanes } from "./lanes.js";
import { CallMeeting, type Meeting, OwnMeeting } from "./meeting.js";
import type { FileState, FromWorker, Place, ToWorker } from "./protocol.js";
import { LanePolicy, Rate } from "./rate.js";
import { type ReceivedFile, type Room, room } from "./save.js";
import { checkTicket, newTicket, Prover, parseCode, parseLink, random, type Ticket, toBase64 } from "./secret.js";
import type { ReceiverState } from "./server.js";
import type { Entry } from "./wire.js";

export type { CodeEnd } from "./code.js";
export type { DepotTerms } from "./depotclient.js";
export type { Keeping } from "./depotupload.js";
export type { Target } from "./direct.js";
export { type Chosen, chosenFiles, droppedFiles } from "./files.js";
export type { FileState } from "./protocol.js";
export {
	cleanUp,
	offerDownload,
	pickTarget,
	type ReceivedFile,
	type Room,
	type Saved,
	save,
} from "./save.js";
export { type Code, parseCode, parseLink, type Ticket } from "./secret.js";
export type { ReceiverState } from "./server.js";
export type { Entry } from "./wire.js";

/** What sending and receiving have in common. */
export interface TransferOptions {
	/** Base URL of the server. Default: where this module was loaded from. */
	server?: string | URL | undefined;
	/** A browser key. Default: that of the server's own pages. */
	key?: string | undefined;
	/** An access token for the transfer's channel, or a function that fetches one for a channel of this name. */
	token?: string | ((channel: string) => string | Promise<string>) | undefined;
	/** For the other side's eyes. */
	name?: string | undefined;
	/** A call that both ends are in: the transfer needs no channel of its own then. */
	channel?: Channel | undefined;
	/** Where the worker's script is. Default: beside this module. */
	worker?: string | URL | undefined;
	signal?: AbortSignal | undefined;
}

/** How an end is doing: `waiting` for the other one, connected, `ended` by success, a user or an error. */
export type TransferState = "waiting" | "connected" | "ended";

export interface PathState {
	readonly path: Path;
	readonly rttMs: number | null;
}

const pathMs = 2_000;

async function accessOf(options: TransferOptions): Promise<Access> {
	const server = baseURL(options.server);
	const { key, token, signal } = options;
	if (key !== undefined || token !== undefined) return { server, key, token };
	let response: Response;
	try {
		response = await fetch(new URL("v1/node", server), { credentials: "omit", signal: signal ?? null });
	} catch (cause) {
		throw new MadangError("unreachable", { cause });
	}
	const node = (await response.json()) as { key?: string };
	return { server, key: node.key };
}

function startWorker(options: TransferOptions): Worker {
	const beside = import.meta.url.replace(/[^/]*$/, "madang-transfer-worker.js");
	const url = new URL(options.worker ?? beside, location.href);
	if (url.origin === location.origin) return new Worker(url, { type: "module", name: "madang-transfer" });
	// A page may start workers of its own origin only; such a one may load a module from elsewhere.
	const script = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
	const local = URL.createObjectURL(script);
	const worker = new Worker(local, { type: "module", name: "madang-transfer" });
	setTimeout(() => URL.revokeObjectURL(local), 60_000);
	return worker;
}

/** What sending and receiving say. */
export type EndEvents = {
	/** Something that is shown has changed; at most four times a second. */
	changed: [];
	/** It is over: with `null` after success, else with the reason. Called once. */
	ended: [error: MadangError | null];
};

/** What sending and receiving have in common. */
abstract class End<Events extends EndEvents> extends Emitter<Events> {
	readonly ticket: Ticket;
	protected readonly meeting: Meeting;
	protected readonly lanes: Lanes;
	protected readonly worker: Worker;
	readonly #release: (() => void)[] = [];
	readonly #rate = new Rate();
	#state: TransferState = "waiting";
	#path: PathState | null = null;
	#error: MadangError | null = null;
	#ready = new Set<number>();

	protected constructor(ticket: Ticket, meeting: Meeting, options: TransferOptions) {
		super();
		this.ticket = ticket;
		this.meeting = meeting;
		this.worker = startWorker(options);
		this.lanes = new Lanes(meeting, new Prover(ticket), (peer) => this.answers(peer));
		this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#take(data);
		this.worker.onerror = () => this.finish(new MadangError("unsupported"));
		this.lanes.on("lane", (lane, channel, peer) => {
			const other = this.meeting.others().some(({ id }) => id === peer);
			handOver(this.worker, channel, (moved) => ({ type: "lane", lane, channel: moved, other }) satisfies ToWorker);
		});
		this.lanes.on("bytes", (lane, bytes) => this.tell({ type: "lane-bytes", lane, bytes }));
		this.lanes.on("gone", (lane) => {
			this.#ready.delete(lane);
			this.tell({ type: "lane-end", lane });
			this.#restate();
		});
		this.meeting.on("closed", (error) => {
			// Lanes go on without the server; a new one cannot be made.
			if (this.#ready.size === 0) this.finish(error instanceof MadangError ? error : new MadangError("closed"));
		});
		const timer = setInterval(async () => {
			this.#path = await this.lanes.path();
			this.show();
		}, pathMs);
		this.#release.push(() => clearInterval(timer));
		if (typeof window !== "undefined") {
			// A page that is left says so at once; the other side need not find out.
			const leave = () => this.#close();
			window.addEventListener("pagehide", leave);
			this.#release.push(() => window.removeEventListener("pagehide", leave));
		}
	}

	get state(): TransferState {
		return this.#state;
	}

	/** Why it ended; `null` before, and after success. */
	get error(): MadangError | null {
		return this.#error;
	}

	/** The path of the connection, as soon as there is one. */
	get path(): PathState | null {
		return this.#path;
	}

	/** Of what comes or goes over the network, over the last seconds. */
	get bytesPerSecond(): number {
		return this.#state === "connected" ? this.#rate.bytesPerSecond : 0;
	}

	protected tell(message: ToWorker): void {
		this.worker.postMessage(message);
	}

	protected show(): void {
		(this as unknown as Emitter<EndEvents>).emit("changed");
	}

	protected flow(bytes: number): void {
		this.#rate.add(bytes, performance.now());
	}

	/** Whether offers of a peer are answered. */
	protected abstract answers(peer: string): boolean;

	/** A lane has its hello. */
	protected laneReady(_lane: number): void {}

	#take(message: FromWorker): void {
		if (message.type === "lane-ended") {
			// What was said last, such as why, has to leave the browser first.
			if (message.lane < 0) {
				// To the server: the page has no part in it.
				this.#ready.delete(message.lane);
				this.#restate();
			} else if (message.code === "closed") this.lanes.drop(message.lane);
			else setTimeout(() => this.lanes.drop(message.lane), farewellMs);
		} else if (message.type === "lane-taken") {
			this.lanes.taken(message.lane);
		} else if (message.type === "lane-ready") {
			this.#ready.add(message.lane);
			this.#restate();
			this.laneReady(message.lane);
		} else if (message.type === "ended") {
			this.finish(new MadangError(message.code));
		} else {
			this.take(message);
		}
	}

	protected abstract take(message: FromWorker): void;

	#restate(): void {
		if (this.#state === "ended") return;
		this.#state = this.#ready.size > 0 ? "connected" : "waiting";
		this.show();
	}

	/** Ends it, with what was said last having time to arrive. */
	protected finish(error: MadangError | null): void {
		if (this.#state === "ended") return;
		this.#state = "ended";
		this.#error = error;
		this.show();
		(this as unknown as Emitter<EndEvents>).emit("ended", error);
		setTimeout(() => this.#close(), farewellMs);
	}

	#close(): void {
		for (const release of this.#release.splice(0)) release();
		this.lanes.close();
		this.meeting.close();
	}

	protected onRelease(release: () => void): void {
		this.#release.push(release);
	}
}

/** A last message is given so long to leave the browser. */
const farewellMs = 1_000;

// ---- sending

export interface SendOptions extends TransferOptions {
	/** For how many receivers the link is. Default: one. */
	receivers?: number | undefined;
	/** Also make a code that can be said: `417-maple-otter`. Default: as for the link, unless in a call. */
	code?: boolean | undefined;
	/** Goes on with a transfer of before: the files must be the same. */
	ticket?: Ticket | undefined;
	/** Keeps everything on the server from the start: `true`, or the {@link Sending.keepToken} of before. */
	keep?: boolean | string | undefined;
}

export type SendingEvents = EndEvents & {
	/** Somebody who does not know the secret has tried to take part, and was refused: a lying server, or a damaged link. */
	"not-authentic": [];
};

/** So many files are given to the worker in one go: some 0.05 s where each has to be looked at. */
const filesAtOnce = 200;

/** Files that are being sent. Made by {@link sendFiles}. */
export class Sending extends End<SendingEvents> {
	/** Resolves with the entries when their sizes are known, for which a browser may have to look at each file. */
	readonly listed: Promise<readonly Entry[]>;
	/** What to give to the receiver: `https://…/f/{id}#{secret}`. */
	readonly link: string;
	#entries: readonly Entry[];
	#list: (entries: readonly Entry[]) => void = () => {};
	#desk: CodeDesk | null = null;
	#codeEnd: CodeEnd | null = null;
	#openCode: (() => Promise<void>) | null = null;
	#receivers: readonly ReceiverState[] = [];
	#failed: ReadonlyMap<number, string> = new Map();
	#sent = 0;
	#paused = false;
	#terms: DepotTerms | null = null;
	#keeping: Keeping | null = null;
	readonly #keepToken: string;
	readonly #server: string;
	#who: JoinCredentials = {};

	/** @internal */
	constructor(chosen: readonly Chosen[], ticket: Ticket, meeting: Meeting, server: string, options: SendOptions) {
		super(ticket, meeting, options);
		const names = toNames(chosen);
		this.#entries = names;
		this.listed = new Promise((resolve) => {
			this.#list = resolve;
		});
		this.lanes.on("not-authentic", () => this.emit("not-authentic"));
		this.onRelease(() => {
			this.#desk?.close();
			this.#list(this.#entries); // nobody waits for it any more
		});
		this.#server = server;
		this.#keepToken = typeof options.keep === "string" ? options.keep : toBase64(random(32));
		this.link = `${new URL(`f/${ticket.id}`, server).href}#${ticket.secret}`;
		void this.#give(names, chosen, options);
	}

	/** A browser may look at each file's size on the disk before it gives it to the worker. Meanwhile the page does other things, too. */
	async #give(names: Entry[], chosen: readonly Chosen[], { name, receivers = 1 }: SendOptions): Promise<void> {
		for (let at = 0; at < chosen.length; at += filesAtOnce) {
			if (at > 0) await new Promise((resolve) => setTimeout(resolve));
			this.tell({ type: "files", files: chosen.slice(at, at + filesAtOnce).map(({ file }) => file) });
		}
		this.tell({ type: "send", names, end: toBase64(random(16)), name, receivers });
	}

	/** What is sent; sizes are `null` until they are {@link listed}. */
	get entries(): readonly Entry[] {
		return this.#entries;
	}

	/** Of everything; `null` until it is {@link listed}. */
	get bytes(): number | null {
		return this.#entries.reduce(
			(sum: number | null, { size }) => (sum === null || size === null ? null : sum + size),
			0,
		);
	}

	/** A code that buys the link; `null` while there is none that works. */
	get code(): string | null {
		return this.#codeEnd === null ? (this.#desk?.code ?? null) : null;
	}

	/** Why the code that there was does not work any more. The link still does, and {@link renewCode} makes another code. */
	get codeEnd(): CodeEnd | null {
		return this.#codeEnd;
	}

	/** Makes another code, in the place of the one before. */
	async renewCode(): Promise<void> {
		if (this.state !== "ended") await this.#openCode?.();
	}

	/** Everybody who has come with the link so far. */
	get receivers(): readonly ReceiverState[] {
		return this.#receivers;
	}

	/** Files that cannot be sent any more, with the code that says why. */
	get failed(): ReadonlyMap<number, string> {
		return this.#failed;
	}

	/** What went over the network in this life, to all receivers together. */
	get sentBytes(): number {
		return this.#sent;
	}

	get paused(): boolean {
		return this.#paused;
	}

	pause(): void {
		this.#pause(true);
	}

	resume(): void {
		this.#pause(false);
	}

	#pause(on: boolean): void {
		if (this.state === "ended") return;
		this.#paused = on;
		this.tell({ type: "pause", on });
		this.show();
	}

	/** What the server would keep for receivers who come later; `null` if it is not known, or nothing may be kept. */
	get terms(): DepotTerms | null {
		return this.#terms;
	}

	/** How it is doing on the server; `null` if it is not kept there. */
	get keeping(): Keeping | null {
		return this.#keeping;
	}

	/** With it, this transfer goes on with what is on the server already: see {@link SendOptions.keep}. A secret. */
	get keepToken(): string {
		return this.#keepToken;
	}

	/** Keeps everything on the server too, sealed, so that this page may be left; or takes it away from there. */
	keep(on: boolean): void {
		if (this.state === "ended" || on === (this.#keeping !== null) || (on && !this.#terms)) return;
		this.#keeping = on ? { state: "keeping", code: null, bytes: 0, untilMs: null } : null;
		if (on) {
			this.tell({
				type: "keep",
				on,
				ticket: this.ticket,
				server: this.#server,
				upload: this.#keepToken,
				who: this.#who,
			});
		} else this.tell({ type: "keep", on });
		this.show();
	}

	/** @internal */
	async askTerms(access: Access, keep: boolean): Promise<void> {
		const { key, token } = access;
		this.#who = { key, token: typeof token === "function" ? await token(`f.${this.ticket.id}`) : token };
		const terms = await depotTerms(this.#server, this.ticket.id, this.#who);
		this.#terms = terms.bytes > 0 ? terms : null;
		if (keep) this.keep(true);
		this.show();
	}

	/** Ends it for all receivers. After success it has no effect. */
	cancel(): void {
		this.tell({ type: "cancel", code: "cancelled" });
	}

	/** @internal */
	async openCode(access: Access, once: boolean): Promise<void> {
		this.#openCode = () => this.openCode(access, once);
		const desk = await CodeDesk.open(access, this.ticket, once, (end) => {
			if (this.#desk !== desk) return;
			this.#codeEnd = end;
			this.show();
		});
		if (this.state === "ended") {
			desk.close();
			return;
		}
		this.#desk?.close();
		this.#desk = desk;
		this.#codeEnd = null;
		this.show();
	}

	protected override answers(): boolean {
		return true;
	}

	protected take(message: FromWorker): void {
		if (message.type === "listed") {
			this.#entries = message.entries;
			this.#list(message.entries);
			this.show();
		} else if (message.type === "sending") {
			this.#receivers = message.receivers;
			this.#failed = new Map(message.failed);
			this.#sent = message.sentBytes;
			this.flow(message.sentBytes);
			this.show();
		} else if (message.type === "sent") {
			this.finish(null);
		} else if (message.type === "keeping") {
			if (this.#keeping) this.#keeping = message.keeping;
			this.show();
		}
	}
}

/** Offers files. The promise is there as soon as a link can be given away; nothing is read before a receiver asks. */
export async function sendFiles(chosen: readonly Chosen[], options: SendOptions = {}): Promise<Sending> {
	const ticket = options.ticket ?? newTicket();
	if (!checkTicket(ticket)) throw new MadangError("invalid_field", { detail: { field: "ticket" } });
	const { channel } = options;
	if (channel) return new Sending(chosen, ticket, new CallMeeting(channel, ticket.id), channel.server, options);
	const access = await accessOf(options);
	const own = await enter(access, `f.${ticket.id}`, "sender", options.signal);
	const sending = new Sending(chosen, ticket, new OwnMeeting(own, "sender"), access.server, options);
	// Kept is what is sealed, which browsers do on pages with https.
	if (globalThis.crypto.subtle)
		sending.askTerms(access, options.keep !== undefined && options.keep !== false).catch(() => {});
	if (options.code !== false && globalThis.crypto.subtle) {
		// The link works without it.
		sending.openCode(access, (options.receivers ?? 1) === 1).catch(() => {});
	}
	return sending;
}

// ---- receiving

export interface ReceiveOptions extends TransferOptions {
	/** With `channel`: the peer that sends. */
	peer?: string | undefined;
}

export type ReceivingEvents = EndEvents & {
	/** Names and sizes are there: time to ask the user. */
	manifest: [entries: readonly Entry[]];
	/** Everything has arrived and is verified. */
	complete: [received: readonly ReceivedFile[]];
	/** A peer does not know the secret: somebody between the ends is lying, or the link was damaged. It was refused. */
	"not-authentic": [];
};

export interface AcceptOptions {
	/** Numbers of the files that are wanted. Default: all. */
	files?: readonly number[] | undefined;
	/** Writes there directly, without a copy in the browser's storage: see {@link pickTarget}. It cannot go on after the page was left. */
	target?: Target | undefined;
}

/** A try that failed is followed by the next after so long, the last one again and again. */
const retryMs = [300, 1_000, 2_000, 4_000, 8_000];

/** With so many other receivers one that offers has lanes; others may offer more. */
const mostOthers = 10;
/** After so long another receiver is tried again. */
const otherRetryMs = 5_000;

/** A sender whose page is loaded again, or who finds the network again, is back before this. */
const lonelyMs = 5_000;

/** Files that are being received. Made by {@link receiveFiles}. */
export class Receiving extends End<ReceivingEvents> {
	#entries: readonly Entry[] | null = null;
	#files: FileState[] = [];
	#senderName: string | null = null;
	#bytes = 0;
	#total = 0;
	#arrived = 0;
	#resumedBytes = 0;
	#accepted = false;
	#senderPaused = false;
	#expired = false;
	/** The worker is ready for lanes. */
	#started = false;
	#paused = false;
	#complete = false;
	#authentic = false;
	readonly #policy = new LanePolicy();
	readonly #refused = new Set<string>();
	#failures = 0;
	#retry: ReturnType<typeof setTimeout> | undefined;
	#shared = 0;
	#company = false;
	/** The link is for us alone. */
	#alone = false;
	/** The user has agreed. */
	#agreed = false;
	readonly #otherRetries = new Map<string, ReturnType<typeof setTimeout>>();
	#lonely = false;
	#lonelyTimer: ReturnType<typeof setTimeout> | undefined;

	/** Where something may wait for this receiver; `null`: nowhere. @internal */
	constructor(ticket: Ticket, meeting: Meeting, server: string | null, options: ReceiveOptions) {
		super(ticket, meeting, options);
		this.tell({ type: "receive", ticket, server, name: options.name });
		this.lanes.on("gone", (_lane, peer) => this.#lost(peer));
		this.lanes.on("not-authentic", (peer) => {
			this.#refused.add(peer);
			// Another receiver without the secret is nobody.
			if (!this.#authentic && meeting.peers().includes(peer)) this.emit("not-authentic");
		});
		for (const event of ["peer", "gone"] as const) {
			meeting.on(event, () => {
				this.#lookForSender();
				this.#connect();
			});
		}
		this.#lookForSender();
		this.onRelease(() => {
			for (const retry of this.#otherRetries.values()) clearTimeout(retry);
		});
		meeting.on("online", () => this.#connect());
		this.onRelease(() => {
			clearTimeout(this.#retry);
			clearTimeout(this.#lonelyTimer);
		});
		if (typeof document !== "undefined") {
			const look = () => document.visibilityState === "visible" && this.#connect();
			document.addEventListener("visibilitychange", look);
			this.onRelease(() => document.removeEventListener("visibilitychange", look));
		}
	}

	/** What is offered; `null` until the sender has said it. */
	get entries(): readonly Entry[] | null {
		return this.#entries;
	}

	/** How each file is doing, by its number. */
	get files(): readonly FileState[] {
		return this.#files;
	}

	get senderName(): string | null {
		return this.#senderName;
	}

	/** Verified and kept, of what was chosen. */
	get bytes(): number {
		return this.#bytes;
	}

	/** Of what was chosen. */
	get total(): number {
		return this.#total;
	}

	/** What was there from an earlier attempt. */
	get resumedBytes(): number {
		return this.#resumedBytes;
	}

	/** What has come over the network in this life. */
	get arrivedBytes(): number {
		return this.#arrived;
	}

	/** What was given to other receivers. */
	get sharedBytes(): number {
		return this.#shared;
	}

	get accepted(): boolean {
		return this.#accepted;
	}

	get senderPaused(): boolean {
		return this.#senderPaused;
	}

	/** The server has kept the files as long as it may, and the sender is not there. */
	get expired(): boolean {
		return this.#expired && this.meeting.peers().length === 0;
	}

	/**
	 * Nobody has been sending for a while, and nothing waits on the server: the sender's page or program is not open, or the link was used up, which nobody is there
	 * to say. It goes on by itself when the sender comes.
	 */
	get lonely(): boolean {
		return this.#lonely && this.state === "waiting";
	}

	get paused(): boolean {
		return this.#paused;
	}

	/** Time that is left at the present rate, in milliseconds; `null` if it cannot be said. */
	get remainingMs(): number | null {
		const rate = this.bytesPerSecond;
		return rate > 0 && this.#total > 0 ? ((this.#total - this.#bytes) * 1_000) / rate : null;
	}

	/** What this browser can do with so many bytes, and how. */
	room(bytes: number): Promise<Room> {
		return room(this.ticket.id, bytes);
	}

	/**
	 * Takes the files: to be called when the user has agreed, and not before, since a link for one receiver is used up by it. Rejects with
	 * `disk_full` or `no_storage` if there is no place for them; nothing has been sent then.
	 */
	async accept(options: AcceptOptions = {}): Promise<void> {
		const entries = this.#entries;
		if (!entries) throw new MadangError("not_accepted");
		const { files, target } = options;
		let place: Place;
		if (target) {
			place = { kind: "direct", target };
		} else {
			const wanted = files ? files.map((file) => entries[file]) : entries;
			const bytes = wanted.reduce((sum, entry) => sum + (entry?.size ?? 0), 0);
			const { kind, error } = await this.room(bytes);
			if (error) throw error;
			place = { kind };
		}
		this.tell({ type: "accept", chosen: files ? [...files] : null, place });
		this.#agreed = true;
		this.#connect();
	}

	/** Changes which files are wanted, also while others are coming. */
	choose(file: number, chosen: boolean): void {
		this.tell({ type: "choose", file, chosen });
	}

	pause(): void {
		this.#pause(true);
	}

	resume(): void {
		this.#pause(false);
	}

	#pause(on: boolean): void {
		if (this.state === "ended") return;
		this.#paused = on;
		this.tell({ type: "pause", on });
		this.show();
	}

	/** Ends it, and removes what has arrived. After success it has no effect on the files. */
	cancel(): void {
		this.tell({ type: "cancel", code: this.#accepted ? "cancelled" : "declined" });
	}

	/** Removes the received files from the browser's storage, when they have been saved. */
	discard(): void {
		this.tell({ type: "discard" });
	}

	protected override laneReady(lane: number): void {
		if (lane < 0) return; // to the server
		this.#authentic = true;
		this.#failures = 0;
	}

	protected take(message: FromWorker): void {
		switch (message.type) {
			case "ready":
				this.#started = true;
				this.#connect();
				break;
			case "manifest":
				this.#entries = message.entries;
				this.#senderName = message.senderName;
				this.#files = message.entries.map(({ size }, file) => ({ file, bytes: 0, size, done: false, failed: null }));
				this.emit("manifest", message.entries);
				break;
			case "receiving":
				this.#bytes = message.bytes;
				this.#total = message.total;
				this.#arrived = message.arrived;
				this.#shared = message.shared;
				this.#accepted = message.accepted;
				this.#senderPaused = message.senderPaused;
				for (const state of message.files) this.#files[state.file] = state;
				this.flow(message.arrived);
				// Among several receivers more lanes would take the sender's way from others.
				if (!this.#company) {
					this.#policy.observe(message.arrived, performance.now(), this.path?.rttMs ?? null);
				}
				this.#connect();
				break;
			case "depot-over":
				if (message.state === "expired") this.#expired = true;
				else if (this.meeting.peers().length === 0) this.finish(new MadangError("transfer_taken"));
				this.show();
				break;
			case "alone":
				this.#alone = true;
				this.#connect();
				break;
			case "resumed":
				this.#resumedBytes = message.bytes;
				break;
			case "complete":
				this.#complete = true;
				this.emit(
					"complete",
					message.files.map((file, index) => ({
						file,
						entry: (this.#entries as Entry[])[file] as Entry,
						content: message.contents[index] ?? null,
					})),
				);
				break;
		}
		this.show();
	}

	protected override finish(error: MadangError | null): void {
		// The sender's farewell is the last word of a success.
		super.finish(this.#complete ? null : error);
	}

	#lookForSender(): void {
		if (this.meeting.peers().length === 0) {
			this.#lonelyTimer ??= setTimeout(() => {
				this.#lonely = true;
				this.show();
			}, lonelyMs);
			return;
		}
		clearTimeout(this.#lonelyTimer);
		this.#lonelyTimer = undefined;
		if (!this.#lonely) return;
		this.#lonely = false;
		this.show();
	}

	/** Offers as many lanes as are wanted to the senders that are there. */
	#connect(): void {
		if (this.state === "ended" || !this.#started) return;
		this.#connectOthers();
		if (this.#retry !== undefined) return;
		for (const peer of this.meeting.peers()) {
			if (this.#refused.has(peer)) continue;
			for (let have = this.lanes.count(peer); have < this.#policy.wanted; have++) this.lanes.offer(peer);
		}
	}

	/** Other receivers, if we have to do with them. */
	#others(): { id: string; offers: boolean }[] {
		return this.#alone ? [] : this.meeting.others();
	}

	protected override answers(peer: string): boolean {
		return this.#others().some(({ id }) => id === peer);
	}

	/** Offers a lane to other receivers, where that is on us. */
	#connectOthers(): void {
		const others = this.#others();
		if (this.#company !== others.length > 0) {
			this.#company = others.length > 0;
			this.tell({ type: "company", others: this.#company });
		}
		if (!this.#agreed || this.#complete) return;
		let have = others.filter(({ id }) => this.lanes.count(id) > 0).length;
		for (const { id, offers } of others) {
			if (!offers || have >= mostOthers || this.#refused.has(id) || this.#otherRetries.has(id)) continue;
			if (this.lanes.count(id) > 0) continue;
			have++;
			this.lanes.offer(id);
		}
	}

	#lost(peer: string): void {
		if (this.state === "ended" || this.lanes.count(peer) > 0) return;
		if (this.meeting.others().some(({ id }) => id === peer)) {
			const again = () => {
				this.#otherRetries.delete(peer);
				this.#connect();
			};
			clearTimeout(this.#otherRetries.get(peer));
			this.#otherRetries.set(peer, setTimeout(again, otherRetryMs));
			return;
		}
		clearTimeout(this.#retry);
		this.#retry = setTimeout(
			() => {
				this.#retry = undefined;
				this.#connect();
			},
			retryMs[Math.min(this.#failures++, retryMs.length - 1)],
		);
	}
}

/**
 * Opens a link (`https://…/f/{id}#{secret}`), a ticket, or a code such as `417-maple-otter`. Nothing is used up by it, and nothing comes before
 * {@link Receiving.accept}.
 */
export async function receiveFiles(from: string | Ticket, options: ReceiveOptions = {}): Promise<Receiving> {
	const link = typeof from === "string" ? parseLink(from) : null;
	let ticket: Ticket | null = link ?? checkTicket(from);
	const { channel, peer, signal } = options;
	if (ticket && channel) return new Receiving(ticket, new CallMeeting(channel, ticket.id, peer), null, options);
	const access = await accessOf({ ...options, server: options.server ?? link?.server });
	if (!ticket) {
		const code = typeof from === "string" ? parseCode(from) : null;
		if (!code) throw new MadangError("invalid_field", { detail: { field: "link" } });
		ticket = await redeem(access, code, signal);
	}
	const own = await enter(access, `f.${ticket.id}`, "receiver", signal);
	return new Receiving(ticket, new OwnMeeting(own, "receiver"), access.server, options);
}
