import { Emitter } from "./emitter.js";
import { aborted, MadangError, quiet, refusal } from "./errors.js";
import { type Link, type LinkKind, openLink, type Transport } from "./link.js";
import type { ReconnectPolicy } from "./reconnect.js";
import type { Admission, JoinMessage, ServerMessage } from "./wire.js";

// The signaling session (docs/protocol.md §2 and §3): numbers, acknowledgements, resume, and joining anew when the server has forgotten us.
//
//            first link                   members said yes
//   opening ────────────► pending ───────────────────────► joined
//      │  └──────────────────────────────────────────────►  │ ▲
//      │                     │              link lost       ▼ │ resumed, or joined anew
//      │                     │                          reconnecting
//      ▼                     ▼                              │
//    ended ◄────────────────────────────────────────────────┘ leave(), a final refusal, or the policy gives up

/** Where a session stands. */
export type SessionState = "opening" | "pending" | "joined" | "reconnecting" | "ended";

/** The server's first answer: who we are. */
export interface Welcome {
	peer: string;
	uid: string;
	/** How long the server waits for somebody who was lost, in milliseconds. */
	windowMs: number;
}

export type SessionEvents = {
	state: [state: SessionState, error?: MadangError];
	/** The server has made us a member who waits for an answer. */
	pending: [reason: string];
	/** We are in. With `again`, the server had forgotten us (it was restarted, perhaps) and nothing that we said before counts. */
	joined: [admission: Admission, welcome: Welcome, again: boolean];
	/** A link stands again and nothing was lost. */
	resumed: [];
	/** A numbered message of the server, in order and once. */
	message: [message: ServerMessage];
	/** The server refused a message that nobody waits for. */
	refused: [message: object, error: MadangError];
	rtt: [rttMs: number];
};

export interface SessionOptions {
	/** Base URL of the server, with a slash at its end. */
	server: string;
	transport: Transport;
	reconnect: ReconnectPolicy;
	/** Makes the join message; called before each joining. */
	join(): Promise<JoinMessage>;
}

interface Outgoing {
	seq: number;
	/** The message without its number. */
	message: object;
	text: string;
	/** Has been given to some link at least once, so the server may have it. */
	sent: boolean;
}

interface Waiting {
	resolve(): void;
	reject(error: MadangError): void;
}

/** What the server would refuse (docs/protocol.md §7). */
const messageBytes = 64 * 1024;
/** What is kept for a resume. The application gets half of it, so that signals between peers always find room. */
const keptMessages = 1024;
const keptBytes = 4 << 20;
/** Below the server's limits of 100 a second and 400 in a burst, so that its clock may differ from ours. */
const sendsPerSecond = 80;
const sendBurst = 300;
/** Acknowledge at the latest after so many numbered messages; the protocol says 32. */
const ackEvery = 16;
/** A first joining that finds no server gives up after so many attempts. */
const firstAttempts = 3;
/** WebSockets that die so often in a row, each soon or each after about the same time, are being killed by something in between. */
const killedLinks = 3;
const killedWithinMs = 20_000;
const killedAlike = 0.1;

/** Refusals of a joining which may end by themselves, so that a session which was joined before tries again. */
const passing: ReadonlySet<string> = new Set([
	"unreachable",
	"rate_limited",
	"internal",
	"storage",
	"server_draining",
	"handshake_timeout",
	"token_not_yet_valid",
]);

export class Session extends Emitter<SessionEvents> {
	readonly #options: SessionOptions;
	readonly #encoder = new TextEncoder();
	#state: SessionState = "opening";
	#rttMs: number | null = null;

	// The link, of which there is at most one.
	#link: Link | null = null;
	#established = false; // the server has answered join or resume on #link
	#kind: LinkKind | null = null;
	#openedAtMs = 0;
	#livesMs: readonly number[] = []; // how long the last WebSockets lived
	#prefer: LinkKind = remembered();
	#attempt = 0;
	#retryTimer: ReturnType<typeof setTimeout> | undefined;

	// The session as the server knows it; null before the first join and after it was forgotten.
	#resume: { peer: string; secrets: string[]; fresh: boolean } | null = null;
	#welcome: Welcome = { peer: "", uid: "", windowMs: 60_000 };
	#everJoined = false;
	#received = 0; // highest seq of the server
	#unacknowledged = 0; // numbered messages since the last ack

	// What we said and the server has not acknowledged, in order of seq.
	#lastSeq = 0;
	#kept: Outgoing[] = [];
	#keptBytes = 0;
	#next = 0; // index into #kept of the first that this link was not given
	readonly #waiting = new Map<number, Waiting>();
	readonly #inFlight = new Map<number, object>(); // messages that nobody waits for, until acknowledged
	#tokens = sendBurst;
	#tokensAtMs = now();
	#paceTimer: ReturnType<typeof setTimeout> | undefined;

	// Heartbeat.
	#pingMs = 15_000;
	#pingTimer: ReturnType<typeof setTimeout> | undefined;
	#deadTimer: ReturnType<typeof setTimeout> | undefined;
	#deadAtMs = 0;

	constructor(options: SessionOptions) {
		super();
		this.#options = options;
	}

	get state(): SessionState {
		return this.#state;
	}

	/** The last measured round trip to the server, in milliseconds. */
	get rttMs(): number | null {
		return this.#rttMs;
	}

	get kind(): LinkKind | null {
		return this.#kind;
	}

	/** Opens the first link. What happens then comes as events. */
	start(): void {
		void this.#open();
	}

	/** Says something that nobody waits for, such as a signal to a peer. */
	post(message: object): void {
		if (this.#state === "ended") return;
		if (!this.#keep(message, false, 1)) this.#startOver();
	}

	/** Says something and resolves when the server has taken it. */
	request(message: object, signal?: AbortSignal): Promise<void> {
		return quiet(
			new Promise<void>((resolve, reject) => {
				if (signal?.aborted) return reject(aborted(signal));
				if (this.#state === "ended") return reject(new MadangError("closed"));
				const text = JSON.stringify(message);
				if (text.length > messageBytes - 64 || this.#encoder.encode(text).length > messageBytes - 64) {
					return reject(new MadangError("message_too_big"));
				}
				const abort = () => {
					// The message is on its way all the same: only the waiting ends.
					done();
					reject(aborted(signal as AbortSignal));
				};
				const done = () => signal?.removeEventListener("abort", abort);
				const waiting: Waiting = {
					resolve: () => {
						done();
						resolve();
					},
					reject: (error) => {
						done();
						reject(error);
					},
				};
				if (!this.#keep(message, waiting, 0.5)) return reject(new MadangError("buffer_full"));
				signal?.addEventListener("abort", abort, { once: true });
			}),
		);
	}

	/**
	 * Finds out at once whether the link still works, because something suggests that the network has changed: a waiting session connects
	 * now, an open one must answer a ping within `deadlineMs`.
	 */
	probe(deadlineMs: number): void {
		if (this.#state === "ended") return;
		if (this.#retryTimer !== undefined) {
			this.#attempt = 0;
			clearTimeout(this.#retryTimer);
			this.#retryTimer = undefined;
			void this.#open();
		} else if (this.#established) {
			this.#ping(deadlineMs);
		}
	}

	/** Ends the session. Safe in every state, any number of times. */
	leave(): void {
		this.#end(new MadangError("left"), true);
	}

	// ---- links

	async #open(): Promise<void> {
		if (this.#state === "ended" || this.#link) return;
		let first: object;
		if (this.#resume) {
			first = {
				type: "resume",
				peer: this.#resume.peer,
				secret: this.#resume.secrets[0],
				received: this.#received,
			};
		} else {
			try {
				first = await this.#options.join();
			} catch (error) {
				// The application's own token function. It may work later, unless it gives a final reason.
				const reason =
					error instanceof MadangError
						? error
						: new MadangError("unreachable", { message: "No access token.", cause: error });
				this.#lost(reason);
				return;
			}
			if (this.ended || this.#link) return;
		}
		let text: string;
		try {
			text = JSON.stringify(first);
		} catch (error) {
			this.#end(new MadangError("invalid_field", { cause: error }), false);
			return;
		}
		this.#established = false;
		this.#next = 0;
		const link: Link = openLink({
			server: this.#options.server,
			transport: this.#options.transport,
			prefer: this.#prefer,
			first: text,
			onOpen: (kind) => {
				this.#kind = kind;
				this.#openedAtMs = now();
			},
			onMessage: (message) => this.#link === link && this.#read(message as ServerMessage),
			onClose: (error) => this.#link === link && this.#linkClosed(error),
		});
		this.#link = link;
	}

	/** For the compiler: the state may have changed during an await. */
	get ended(): boolean {
		return this.#state === "ended";
	}

	/** Drops the link without a word; the session goes on. */
	#dropLink(): void {
		const link = this.#link;
		this.#link = null;
		this.#established = false;
		clearTimeout(this.#pingTimer);
		clearTimeout(this.#deadTimer);
		clearTimeout(this.#paceTimer);
		this.#deadTimer = undefined;
		this.#paceTimer = undefined;
		link?.close();
	}

	#linkClosed(error: MadangError): void {
		if (this.#established && this.#kind === "websocket" && error.code === "unreachable") {
			this.#livesMs = [...this.#livesMs.slice(1 - killedLinks), now() - this.#openedAtMs];
			if (killed(this.#livesMs)) this.#preferLink("sse");
		}
		this.#lost(error);
	}

	#preferLink(kind: LinkKind): void {
		this.#prefer = kind;
		this.#livesMs = [];
		remember(kind);
	}

	/** The link is gone, or could not be opened. Decides what comes next. */
	#lost(error: MadangError): void {
		this.#dropLink();
		if (this.#state === "ended") return;
		// A resume that the server does not know: the secret before the last one may still count, since `resumed` can be lost.
		if (error.code === "resume_unknown" && this.#resume) {
			this.#resume.secrets.shift();
			if (this.#resume.secrets.length === 0) this.#forget();
			this.#retry(0, error);
			return;
		}
		switch (error.retry) {
			case "never":
				this.#end(error, false);
				return;
			case "join":
				this.#forget();
				if (!this.#everJoined && error.code !== "resume_unknown") {
					this.#end(error, false);
					return;
				}
				break;
			case "later":
				if (!passing.has(error.code)) {
					this.#end(error, false);
					return;
				}
				// What the server refused with a code has ended the session there.
				if (error.code !== "unreachable") {
					if (!this.#welcomed) {
						this.#end(error, false);
						return;
					}
					this.#forget();
				}
				break;
			case "resume":
				break;
		}
		if (!this.#welcomed && this.#attempt + 1 >= firstAttempts) {
			this.#end(error, false);
			return;
		}
		const delayMs = this.#options.reconnect.nextDelayMs(this.#attempt, error);
		if (delayMs === null) {
			this.#end(error, false);
			return;
		}
		this.#attempt++;
		this.#retry(Math.max(delayMs, error.retryAfterMs ?? 0), error);
	}

	/** The server has answered at least once. */
	get #welcomed(): boolean {
		return this.#welcome.peer !== "";
	}

	#retry(delayMs: number, error: MadangError): void {
		if (this.#state === "joined") this.#setState("reconnecting", error);
		if (this.ended) return;
		clearTimeout(this.#retryTimer);
		this.#retryTimer = setTimeout(() => {
			this.#retryTimer = undefined;
			void this.#open();
		}, delayMs);
	}

	/** Joins anew instead of resuming: what waits for an acknowledgement has outgrown its bounds. */
	#startOver(): void {
		this.#forget();
		this.#lost(new MadangError("mailbox_full"));
	}

	/**
	 * The server does not know this session any more. What it may have had already is given up, since saying it again could repeat it;
	 * what never left this page is said in the next session.
	 */
	#forget(): void {
		this.#resume = null;
		this.#received = 0;
		this.#unacknowledged = 0;
		this.#lastSeq = 0;
		const kept = this.#kept;
		const waiting = new Map(this.#waiting);
		this.#kept = [];
		this.#keptBytes = 0;
		this.#next = 0;
		this.#waiting.clear();
		this.#inFlight.clear();
		for (const { seq, message, sent } of kept) {
			const waits = waiting.get(seq);
			// Signals name connections and offers that ./connection.ts says again by itself.
			if (sent || !waits) continue;
			waiting.delete(seq);
			this.#keep(message, waits, 1);
		}
		for (const waits of waiting.values()) waits.reject(new MadangError("resume_unknown"));
	}

	#end(error: MadangError, leaving: boolean): void {
		if (this.#state === "ended") return;
		const link = this.#link;
		this.#link = null;
		this.#dropLink();
		clearTimeout(this.#retryTimer);
		this.#retryTimer = undefined;
		link?.close(leaving ? '{"type":"leave"}' : undefined);
		this.#kept = [];
		this.#keptBytes = 0;
		this.#inFlight.clear();
		const waiting = [...this.#waiting.values()];
		this.#waiting.clear();
		this.#setState("ended", error);
		for (const waits of waiting) waits.reject(leaving ? new MadangError("closed") : error);
	}

	#setState(state: SessionState, error?: MadangError): void {
		if (this.#state === state) return;
		this.#state = state;
		this.emit("state", state, error);
	}

	// ---- reading

	#read(message: ServerMessage): void {
		// The server has heard from us on this link, or will have: after this only the newest secret counts.
		if (this.#resume?.fresh && message.type !== "resumed") {
			this.#resume.secrets.length = 1;
			this.#resume.fresh = false;
		}
		switch (message.type) {
			case "joined":
			case "pending":
				this.#readJoined(message);
				return;
			case "resumed":
				this.#readResumed(message);
				return;
			case "bye":
				this.#lost(refusal(message) ?? new MadangError("internal"));
				return;
			case "pong":
				if (typeof message.t === "number") {
					this.#rttMs = Math.max(0, now() - message.t);
					this.emit("rtt", this.#rttMs);
				}
				clearTimeout(this.#deadTimer);
				this.#deadTimer = undefined;
				this.#acknowledged(message.ack);
				return;
			case "ack":
				this.#acknowledged(message.seq);
				return;
		}
		const { seq } = message;
		if (typeof seq !== "number") return;
		if (seq <= this.#received) return;
		if (seq !== this.#received + 1 || !this.#established) {
			this.#lost(new MadangError("out_of_order"));
			return;
		}
		this.#received = seq;
		if (++this.#unacknowledged >= ackEvery) {
			this.#unacknowledged = 0;
			this.#link?.send(JSON.stringify({ type: "ack", seq }));
		}
		switch (message.type) {
			case "admitted":
				this.#admit(message as Admission);
				return;
			case "ok":
				this.#answered(message.re)?.resolve();
				return;
			case "error": {
				const error = refusal(message) ?? new MadangError("internal");
				const about = typeof message.re === "number" ? this.#inFlight.get(message.re) : undefined;
				const waits = this.#answered(message.re);
				if (waits) waits.reject(error);
				else if (about) this.emit("refused", about, error);
				return;
			}
		}
		this.emit("message", message);
	}

	#readJoined(message: ServerMessage): void {
		const { peer, uid, resume, pingMs } = message as {
			peer?: unknown;
			uid?: unknown;
			resume?: { secret?: unknown; windowMs?: unknown };
			pingMs?: unknown;
		};
		if (typeof peer !== "string" || typeof resume?.secret !== "string") {
			this.#lost(new MadangError("internal", { message: "The server's answer to join is incomplete." }));
			return;
		}
		if (this.#established) return;
		this.#welcome = {
			peer,
			uid: typeof uid === "string" ? uid : "",
			windowMs: typeof resume.windowMs === "number" ? resume.windowMs : 60_000,
		};
		if (typeof pingMs === "number" && pingMs >= 1_000) this.#pingMs = pingMs;
		this.#resume = { peer, secrets: [resume.secret], fresh: false };
		this.#received = 0;
		this.#established = true;
		this.#attempt = 0;
		if (this.#prefer !== this.#kind && this.#kind) this.#preferLink(this.#kind);
		this.#ping();
		if (message.type === "joined") {
			this.#admit(message as Admission);
		} else {
			this.#setState("pending");
			this.emit("pending", typeof message.reason === "string" ? message.reason : "ring");
		}
		this.#flush();
	}

	#admit(admission: Admission): void {
		const again = this.#everJoined;
		this.#everJoined = true;
		this.#setState("joined");
		if (!this.ended) this.emit("joined", admission, this.#welcome, again);
	}

	#readResumed(message: ServerMessage): void {
		const { secret, received } = message;
		if (!this.#resume || this.#established) return;
		if (typeof secret === "string") {
			this.#resume.secrets = [secret, this.#resume.secrets[0] ?? secret];
			this.#resume.fresh = true;
		}
		if (typeof received !== "number" || received > this.#lastSeq) {
			this.#startOver();
			return;
		}
		this.#acknowledged(received);
		this.#next = 0;
		this.#established = true;
		this.#attempt = 0;
		this.#ping();
		if (this.#everJoined) this.#setState("joined");
		this.emit("resumed");
		this.#flush();
	}

	#answered(re: unknown): Waiting | undefined {
		if (typeof re !== "number") return undefined;
		const waits = this.#waiting.get(re);
		this.#waiting.delete(re);
		this.#inFlight.delete(re);
		return waits;
	}

	#acknowledged(seq: unknown): void {
		if (typeof seq !== "number") return;
		while (this.#kept[0] && this.#kept[0].seq <= seq) {
			const done = this.#kept.shift() as Outgoing;
			this.#keptBytes -= done.text.length;
			if (this.#next > 0) this.#next--;
		}
		// What was taken without an answer cannot be refused any more once a later answer is here; a bound is enough.
		if (this.#inFlight.size > keptMessages) {
			for (const old of this.#inFlight.keys()) {
				if (this.#inFlight.size <= keptMessages / 2) break;
				this.#inFlight.delete(old);
			}
		}
	}

	// ---- writing

	/** Numbers a message and keeps it until it is acknowledged. False when more than `share` of the bounds would be used. */
	#keep(message: object, waits: Waiting | false, share: number): boolean {
		const text = JSON.stringify(waits ? { ...message, reply: true } : message);
		if (this.#kept.length + 1 > keptMessages * share || this.#keptBytes + text.length > keptBytes * share) return false;
		const seq = ++this.#lastSeq;
		this.#kept.push({ seq, message, text, sent: false });
		this.#keptBytes += text.length;
		if (waits) this.#waiting.set(seq, waits);
		else this.#inFlight.set(seq, message);
		this.#flush();
		return true;
	}

	/** Gives the link what it may have now. */
	#flush(): void {
		if (!this.#established || this.#paceTimer !== undefined) return;
		while (this.#next < this.#kept.length) {
			const atMs = now();
			this.#tokens = Math.min(sendBurst, this.#tokens + ((atMs - this.#tokensAtMs) * sendsPerSecond) / 1000);
			this.#tokensAtMs = atMs;
			if (this.#tokens < 1) {
				this.#paceTimer = setTimeout(() => {
					this.#paceTimer = undefined;
					this.#flush();
				}, 100);
				return;
			}
			this.#tokens--;
			const entry = this.#kept[this.#next++] as Outgoing;
			entry.sent = true;
			this.#link?.send(`{"seq":${entry.seq},${entry.text.slice(1)}`);
		}
	}

	/** Sends a ping, expects its pong, and plans the next. */
	#ping(deadlineMs = 2 * this.#pingMs): void {
		clearTimeout(this.#pingTimer);
		this.#unacknowledged = 0;
		this.#link?.send(JSON.stringify({ type: "ping", t: now(), ack: this.#received }));
		const deadAtMs = now() + deadlineMs;
		if (this.#deadTimer === undefined || deadAtMs < this.#deadAtMs) {
			clearTimeout(this.#deadTimer);
			this.#deadAtMs = deadAtMs;
			this.#deadTimer = setTimeout(() => {
				this.#deadTimer = undefined;
				this.#lost(new MadangError("unreachable", { message: "The server does not answer any more." }));
				// It is our own way to the server that has changed: there is no crowd that should not come all at once.
				if (deadlineMs < this.#pingMs) this.probe(deadlineMs);
			}, deadlineMs);
		}
		this.#pingTimer = setTimeout(() => this.#ping(), this.#pingMs);
	}
}

function killed(livesMs: readonly number[]): boolean {
	const longest = Math.max(...livesMs);
	const alike = longest - Math.min(...livesMs) <= killedAlike * longest;
	return livesMs.length === killedLinks && (longest < killedWithinMs || alike);
}

function now(): number {
	return Math.round(performance.now());
}

// Which kind of link worked last, for the other joins and reloads of this tab. A network that blocks WebSocket is met again by the next page;
// one hour later WebSocket gets another chance.
const memoryKey = "madang.link";
const memoryMs = 3_600_000;

function remembered(): LinkKind {
	try {
		const since = Number(sessionStorage.getItem(memoryKey));
		return since > 0 && Date.now() - since < memoryMs ? "sse" : "websocket";
	} catch {
		return "websocket"; // no storage here, or not allowed
	}
}

function remember(kind: LinkKind): void {
	try {
		if (kind === "sse") sessionStorage.setItem(memoryKey, String(Date.now()));
		else sessionStorage.removeItem(memoryKey);
	} catch {
		// As above.
	}
}
