import { vi } from "vitest";

// A signaling server that misbehaves on purpose, for the tests of the session. It lives in this process and in fake time: its links are
// a WebSocket and a fetch that the tests put in place of the browser's.

type Message = Record<string, unknown> & { type: string; seq?: number };

interface Wire {
	/** To the client. */
	send(message: object): void;
	end(): void;
}

/** One member, as the server knows it. */
export class Member {
	secret = "secret-0";
	formerSecret: string | null = null;
	received = 0;
	sent = 0;
	box: Message[] = [];
	wire: Wire | null = null;
	/** Numbered messages in the order in which the server took them. */
	readonly taken: Message[] = [];
	joins = 0;

	/** Says something numbered. */
	say(message: Message): void {
		const numbered = { ...message, seq: ++this.sent };
		this.box.push(numbered);
		this.wire?.send(numbered);
	}
}

export interface Faults {
	/** Chance that a message, in either direction, is lost together with its link. */
	lose: number;
	/** Longest delay of a message, in milliseconds. */
	delayMs: number;
}

export class Server {
	readonly random: () => number;
	faults: Faults = { lose: 0, delayMs: 5 };
	member: Member | null = null;
	/** What a correct client never does. */
	readonly violations: string[] = [];
	/** Answers joins with this instead. */
	refuse: object | null = null;
	/** Accepts sockets but answers nothing. */
	mute = false;
	webSocket: "open" | "refused" | "hanging" | "killed" = "open";
	/** Something in between ends each WebSocket after so long. */
	webSocketLifeMs = Number.POSITIVE_INFINITY;
	sse: "open" | "refused" | "problem" | "html" = "open";
	online = true;
	/** The next messages of this type are lost, and their links with them. */
	losing = { type: "", times: 0 };
	readonly joins: Message[] = [];
	readonly resumes: Message[] = [];
	readonly wires = new Set<Wire>();
	readonly links = new Map<string, (messages: Message[]) => void>();
	sockets = 0;
	posts = 0;
	parallelPosts = 0;
	#secrets = 0;
	#members = 0;

	constructor(seed = 1) {
		this.random = mulberry32(seed);
	}

	install(): void {
		const server = this;
		class FakeWebSocket {
			static readonly OPEN = 1;
			readyState = 0;
			onopen: (() => void) | null = null;
			onmessage: ((event: { data: unknown }) => void) | null = null;
			onerror: (() => void) | null = null;
			onclose: ((event: { code: number }) => void) | null = null;
			#up: ((message: Message) => void) | null = null;
			#wire: Wire | null = null;
			constructor() {
				server.sockets++;
				setTimeout(() => {
					if (server.webSocket === "hanging") return;
					if (server.webSocket === "refused" || !server.online) {
						this.#die(1006);
						return;
					}
					if (this.readyState !== 0) return;
					this.readyState = 1;
					const down = server.pipe(
						(message) => this.readyState === 1 && this.onmessage?.({ data: JSON.stringify(message) }),
						() => this.#die(1006),
					);
					this.#wire = {
						send: down,
						end: () => setTimeout(() => this.#die(1000), server.faults.delayMs + 1),
					};
					server.wires.add(this.#wire);
					const up = server.connect(this.#wire);
					this.#up = server.pipe(up, () => this.#die(1006));
					this.onopen?.();
					const lifeMs = server.webSocket === "killed" ? 1 : server.webSocketLifeMs;
					if (Number.isFinite(lifeMs)) setTimeout(() => this.#die(1006), lifeMs);
				}, 1);
			}
			send(text: string): void {
				if (this.readyState === 1) this.#up?.(JSON.parse(text));
			}
			close(): void {
				this.#die(1000, true);
			}
			#die(code: number, quiet = false): void {
				if (this.readyState >= 2) return;
				this.readyState = 3;
				if (this.#wire) {
					server.wires.delete(this.#wire);
					server.lost(this.#wire);
				}
				if (!quiet) this.onclose?.({ code });
			}
		}
		vi.stubGlobal("WebSocket", FakeWebSocket);
		vi.stubGlobal("fetch", (_url: URL, init: RequestInit) => server.#fetch(init));
	}

	/** Delivers in order, each message with a delay of its own, until one is lost; then `die` is called. */
	pipe(deliver: (message: Message) => void, die: () => void): (message: object) => void {
		let dead = false;
		let lastMs = 0;
		return (message) => {
			if (dead) return;
			const atMs = Math.max(lastMs, performance.now() + this.random() * this.faults.delayMs);
			lastMs = atMs;
			let lost = this.random() < this.faults.lose;
			if ((message as Message).type === this.losing.type && this.losing.times > 0) {
				this.losing.times--;
				lost = true;
			}
			if (lost) dead = true;
			setTimeout(() => (lost ? die() : deliver(structuredClone(message) as Message)), atMs - performance.now());
		};
	}

	#fetch(init: RequestInit): Promise<Response> {
		const body = JSON.parse(String(init.body)) as { link?: string; messages: Message[] };
		return new Promise((resolve, reject) => {
			const abort = () => reject(new DOMException("aborted", "AbortError"));
			init.signal?.addEventListener("abort", abort);
			setTimeout(() => {
				init.signal?.removeEventListener("abort", abort);
				if (this.sse === "refused" || !this.online) {
					reject(new TypeError("fetch failed"));
				} else if (this.sse === "html") {
					resolve(new Response("<p>Sign in to this hotel", { headers: { "content-type": "text/html" } }));
				} else if (this.sse === "problem") {
					const problem = JSON.stringify({ code: "rate_limited", title: "Too many requests", retry: "later" });
					resolve(new Response(problem, { status: 429, headers: { "retry-after": "7" } }));
				} else if (body.link !== undefined) {
					this.posts++;
					const take = this.links.get(body.link);
					if (!take) {
						resolve(new Response('{"code":"link_unknown","retry":"resume"}', { status: 410 }));
						return;
					}
					take(body.messages);
					resolve(new Response(null, { status: 204 }));
				} else {
					resolve(this.#stream(body.messages, init.signal ?? null));
				}
			}, 1);
		});
	}

	#stream(first: Message[], signal: AbortSignal | null): Response {
		const encoder = new TextEncoder();
		let over = false;
		const name = `link-${this.links.size}-${this.random()}`;
		const stream = new ReadableStream<Uint8Array>({
			start: (controller) => {
				const end = () => {
					if (over) return;
					over = true;
					this.links.delete(name);
					this.wires.delete(wire);
					this.lost(wire);
					try {
						controller.close();
					} catch {
						// Cancelled by the client.
					}
				};
				const down = this.pipe(
					(message) => !over && controller.enqueue(encoder.encode(`: pad\ndata: ${JSON.stringify(message)}\n\n`)),
					end,
				);
				const wire: Wire = { send: down, end: () => setTimeout(end, this.faults.delayMs + 1) };
				this.wires.add(wire);
				const take = this.connect(wire);
				this.links.set(name, (messages) => messages.forEach(take));
				signal?.addEventListener("abort", end);
				down({ type: "link", link: name });
				first.forEach(take);
			},
		});
		return new Response(stream, { headers: { "content-type": "text/event-stream" } });
	}

	/** A new link; the returned function takes the client's messages. */
	connect(wire: Wire): (message: Message) => void {
		let joined: Member | null = null;
		return (message) => {
			if (this.mute) return;
			if (message.type === "join") {
				this.joins.push(message);
				if (this.refuse) {
					wire.send({ type: "bye", message: "", ...this.refuse });
					wire.end();
					return;
				}
				const member = new Member();
				member.secret = `secret-${++this.#secrets}`;
				member.wire = wire;
				member.joins = ++this.#members;
				this.member = joined = member;
				wire.send({
					type: "joined",
					peer: "p1",
					uid: "u1",
					role: "host",
					channel: { id: "demo", locked: false, waitingRoom: false, capacity: 50 },
					peers: [],
					ice: { servers: [] },
					resume: { secret: member.secret, windowMs: 60_000 },
					pingMs: 15_000,
				});
				return;
			}
			if (message.type === "resume") {
				this.resumes.push(message);
				const member = this.member;
				if (!member || (message.secret !== member.secret && message.secret !== member.formerSecret)) {
					wire.send({ type: "bye", code: "resume_unknown", message: "", retry: "join" });
					wire.end();
					return;
				}
				joined = member;
				member.formerSecret = message.secret as string; // the one that this client surely has
				member.secret = `secret-${++this.#secrets}`;
				const former = member.wire;
				member.wire = wire;
				if (former && former !== wire) {
					former.send({ type: "bye", code: "replaced", message: "", retry: "never" });
					former.end();
				}
				const received = message.received as number;
				if (received > member.sent) this.violations.push(`resume claims ${received} of ${member.sent}`);
				member.box = member.box.filter((kept) => (kept.seq as number) > received);
				wire.send({ type: "resumed", secret: member.secret, received: member.received });
				for (const kept of member.box) wire.send(kept);
				return;
			}
			const member = joined;
			if (!member || member !== this.member || member.wire !== wire) return;
			member.formerSecret = null; // it has heard from the client on this link
			const ack = message.type === "ack" ? message.seq : message.ack;
			if (typeof ack === "number") member.box = member.box.filter((kept) => (kept.seq as number) > ack);
			if (message.type === "ack") return;
			if (message.type === "ping") {
				wire.send({ type: "pong", t: message.t, ack: member.received });
				return;
			}
			if (message.type === "leave") {
				wire.send({ type: "bye", code: "left", message: "", retry: "never" });
				wire.end();
				this.member = null;
				return;
			}
			const seq = message.seq ?? 0;
			if (seq <= member.received) return;
			if (seq !== member.received + 1) {
				this.violations.push(`got ${seq} after ${member.received}`);
				wire.end();
				return;
			}
			member.received = seq;
			member.taken.push(message);
			if (member.box.length > 1024) this.violations.push("never acknowledges");
			if (message.reply) member.say({ type: "ok", re: seq });
		};
	}

	lost(wire: Wire): void {
		if (this.member?.wire === wire) this.member.wire = null;
	}

	/** Ends all links, as a broken network does. */
	cut(): void {
		for (const wire of [...this.wires]) wire.end();
	}

	/** Forgets everything, as kill -9 does. */
	restart(): void {
		this.member = null;
		this.cut();
	}
}

/** A small seeded generator: the same seed, the same faults. */
export function mulberry32(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let t = state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	};
}
