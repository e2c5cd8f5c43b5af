import { MadangError, refusal } from "./errors.js";

// A link carries messages between the page and the server (docs/protocol.md §1). It is replaceable and knows nothing of sessions:
// ./session.ts puts those on top of it.

/** How a link reaches the server. */
export type LinkKind = "websocket" | "sse";

/** Which links may be used. */
export type Transport = "auto" | LinkKind;

/** An open link, or one that is being opened. */
export interface Link {
	/** Sends one message. Only valid after the first message of the server. */
	send(text: string): void;
	/** Closes the link without calling `onClose`. With `last`, this message is sent before, as well as the browser can, also while the page goes away. */
	close(last?: string): void;
}

export interface LinkOptions {
	/** Base URL of the server, with a slash at its end. */
	server: string;
	transport: Transport;
	/** What to try first when `transport` is `"auto"`. */
	prefer: LinkKind;
	/** The `join` or `resume` message. */
	first: string;
	onMessage(message: Record<string, unknown>): void;
	/** The server has answered over this kind of link. Called once, before the first `onMessage`. */
	onOpen(kind: LinkKind): void;
	/** Called once, when the link is over or could not be opened. */
	onClose(error: MadangError): void;
}

/** How long a link of one kind may take before the other kind is tried as well. */
export const raceMs = 3_000;
/** How long a link may take until the first message of the server. */
const answerMs = 6_000;
/** How long the server may take to accept a POST of messages. */
const postMs = 10_000;
/** The most that one POST carries, unless a single message is larger. */
const postBytes = 48 * 1024;

interface WireHandlers {
	open(): void;
	message(text: string): void;
	close(error: MadangError): void;
}

interface Wire {
	send(text: string): void;
	close(last?: string): void;
}

/**
 * Opens a link. With `"auto"`, WebSocket goes first; when it fails, or has not answered after 3 s, SSE follows and the first to bring a
 * message of the server wins. At most one of the two is given the first message at a time: a WebSocket that opens while the SSE request is under
 * way stands by, and is used when that request fails.
 */
export function openLink(options: LinkOptions): Link {
	const kinds: LinkKind[] =
		options.transport === "auto"
			? options.prefer === "sse"
				? ["sse", "websocket"]
				: ["websocket", "sse"]
			: [options.transport];
	const wires = new Map<LinkKind, Wire>();
	const ready = new Set<LinkKind>(); // open, could be given the first message
	let speaking: LinkKind | null = null; // has been given the first message
	let winner: Wire | null = null;
	let over = false;
	let timer: ReturnType<typeof setTimeout> | undefined;

	const finish = (error: MadangError | null, last?: string) => {
		if (over) return;
		over = true;
		clearTimeout(timer);
		for (const wire of wires.values()) wire.close(wire === winner ? last : undefined);
		wires.clear();
		if (error) options.onClose(error);
	};

	const drop = (kind: LinkKind, error: MadangError) => {
		const wire = wires.get(kind);
		wires.delete(kind);
		ready.delete(kind);
		wire?.close();
		if (wire === winner && winner) return finish(error);
		if (speaking === kind) speaking = null;
		// A refusal with a code comes from the server itself: the other kind would be told the same.
		if (error.code !== "unreachable") return finish(error);
		proceed(error);
	};

	const speak = (kind: LinkKind) => {
		speaking = kind;
		clearTimeout(timer);
		timer = setTimeout(() => drop(kind, unreachable(`no answer over ${kind}`)), answerMs);
	};

	const proceed = (error: MadangError) => {
		if (over || winner || speaking) return;
		for (const kind of ready) {
			ready.delete(kind);
			speak(kind);
			wires.get(kind)?.send(options.first);
			return;
		}
		const next = kinds.shift();
		if (next) start(next);
		else if (wires.size === 0) finish(error);
		else timer = setTimeout(() => finish(error), answerMs); // one is still opening
	};

	const start = (kind: LinkKind) => {
		const handlers: WireHandlers = {
			open: () => {
				if (over) return;
				ready.add(kind);
				proceed(unreachable(""));
			},
			message: (text) => {
				if (over || (winner && winner !== wires.get(kind))) return;
				let message: unknown;
				try {
					message = JSON.parse(text);
				} catch {
					return drop(kind, unreachable("the answer is not JSON"));
				}
				if (typeof message !== "object" || message === null) return drop(kind, unreachable("the answer is no message"));
				if (!winner) {
					clearTimeout(timer);
					winner = wires.get(kind) ?? null;
					for (const [other, wire] of wires) if (other !== kind) wire.close();
					options.onOpen(kind);
				}
				if (!over) options.onMessage(message as Record<string, unknown>);
			},
			close: (error) => !over && drop(kind, error),
		};
		const url = new URL("v1/signal", options.server);
		if (kind === "sse") {
			// This wire's first request already is the first message.
			speak(kind);
			wires.set(kind, sseWire(url, options.first, handlers));
		} else {
			clearTimeout(timer);
			timer = setTimeout(
				() => {
					const next = kinds.shift();
					if (next) start(next);
					else if (!speaking) drop(kind, unreachable("WebSocket does not open"));
				},
				kinds.length > 0 ? raceMs : answerMs,
			);
			wires.set(kind, webSocketWire(url, handlers));
		}
	};

	start(kinds.shift() as LinkKind);
	return {
		send: (text) => winner?.send(text),
		close: (last) => finish(null, last),
	};
}

function unreachable(message: string, cause?: unknown): MadangError {
	return new MadangError("unreachable", { message: message && `The server cannot be reached: ${message}.`, cause });
}

function webSocketWire(url: URL, handlers: WireHandlers): Wire {
	const target = new URL(url);
	target.protocol = url.protocol === "https:" ? "wss:" : "ws:";
	let over = false;
	const end = (error: MadangError) => {
		if (over) return;
		over = true;
		handlers.close(error);
	};
	let socket: WebSocket;
	try {
		socket = new WebSocket(target, "madang.v1");
	} catch (error) {
		queueMicrotask(() => end(unreachable("WebSocket is not allowed", error)));
		return { send() {}, close() {} };
	}
	socket.onopen = () => !over && handlers.open();
	socket.onmessage = (event) => {
		if (over) return;
		if (typeof event.data === "string") handlers.message(event.data);
		else end(unreachable("a binary frame"));
	};
	socket.onerror = () => end(unreachable("WebSocket failed"));
	socket.onclose = (event) => end(unreachable(`WebSocket closed with ${event.code}`));
	return {
		send(text) {
			// In every other state the close event follows, and what was not acknowledged is sent again on the next link.
			if (socket.readyState === WebSocket.OPEN) socket.send(text);
		},
		close(last) {
			over = true;
			socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
			if (last !== undefined && socket.readyState === WebSocket.OPEN) socket.send(last);
			socket.close(1000);
		},
	};
}

function sseWire(url: URL, first: string, handlers: WireHandlers): Wire {
	const abort = new AbortController();
	let name: string | null = null;
	let queue: string[] = [];
	let posting = false;
	let over = false;

	const end = (error: MadangError) => {
		if (over) return;
		over = true;
		abort.abort();
		handlers.close(error);
	};
	const body = (messages: readonly string[]) =>
		`{${name === null ? "" : `"link":${JSON.stringify(name)},`}"messages":[${messages.join(",")}]}`;
	// Sent as text/plain, which needs no CORS preflight.
	const post = (messages: readonly string[], init: RequestInit = {}) =>
		fetch(url, { method: "POST", body: body(messages), credentials: "omit", cache: "no-store", ...init });

	const stream = async () => {
		const response = await post([first], { headers: { Accept: "text/event-stream" }, signal: abort.signal });
		if (!response.ok) throw await problem(response);
		if (!response.headers.get("content-type")?.startsWith("text/event-stream") || !response.body) {
			throw unreachable("no event stream");
		}
		const parser = new EventStreamParser((data) => {
			if (over) return;
			if (name === null) {
				const message = JSON.parse(data) as { type?: unknown; link?: unknown };
				if (message.type === "link" && typeof message.link === "string") {
					name = message.link;
					void flush();
					return;
				}
				// A refusal may come before any link is made.
			}
			handlers.message(data);
		});
		const reader = response.body.getReader();
		const decoder = new TextDecoder();
		for (;;) {
			const { done, value } = await reader.read();
			if (over) return;
			if (done) throw unreachable("the event stream ended");
			parser.push(decoder.decode(value, { stream: true }));
		}
	};
	stream().catch((error) => end(error instanceof MadangError ? error : unreachable("the request failed", error)));

	const flush = async () => {
		if (posting || over || name === null) return;
		posting = true;
		try {
			while (queue.length > 0 && !over) {
				let bytes = 0;
				let count = 0;
				while (count < queue.length && (count === 0 || bytes + (queue[count]?.length ?? 0) <= postBytes)) {
					bytes += queue[count++]?.length ?? 0;
				}
				const batch = queue.slice(0, count);
				queue = queue.slice(count);
				const late = setTimeout(() => end(unreachable("a request takes too long")), postMs);
				try {
					const response = await post(batch, { signal: abort.signal });
					if (!response.ok) throw await problem(response);
				} finally {
					clearTimeout(late);
				}
			}
		} catch (error) {
			end(error instanceof MadangError ? error : unreachable("a request failed", error));
		} finally {
			posting = false;
		}
	};

	return {
		send(text) {
			queue.push(text);
			void flush();
		},
		close(last) {
			if (over) return;
			over = true;
			if (last !== undefined && name !== null) {
				post([...queue, last], { keepalive: true }).catch(() => {});
			}
			abort.abort();
		},
	};
}

/** Reads why the server refused a request. */
async function problem(response: Response): Promise<MadangError> {
	let document: unknown = null;
	try {
		document = await response.json();
	} catch {
		// Not ours: a proxy's page, for example.
	}
	const error = refusal(document);
	if (!error) return unreachable(`HTTP status ${response.status}`);
	const seconds = Number(response.headers.get("retry-after"));
	if (error.retryAfterMs !== undefined || !(seconds > 0)) return error;
	const { message, retry, detail } = error;
	return new MadangError(error.code, { message, retry, detail, retryAfterMs: seconds * 1000 });
}

/** The largest event that is accepted, so that a stream without line ends does not fill the memory. */
const eventLimit = 1 << 20;

/**
 * Reads an event stream (HTML Standard §9.2.6) in pieces, as far as the protocol uses it: the data of each event. Throws when an event is larger
 * than 1 MiB.
 */
export class EventStreamParser {
	readonly #deliver: (data: string) => void;
	#rest = "";
	#data: string[] = [];
	#size = 0;

	constructor(deliver: (data: string) => void) {
		this.#deliver = deliver;
	}

	push(text: string): void {
		this.#rest += text;
		for (;;) {
			const match = /\r\n|\n|\r/.exec(this.#rest);
			// A "\r" at the very end may be half of "\r\n".
			if (!match || (match[0] === "\r" && match.index === this.#rest.length - 1)) break;
			const line = this.#rest.slice(0, match.index);
			this.#rest = this.#rest.slice(match.index + match[0].length);
			this.#line(line);
		}
		if (this.#rest.length + this.#size > eventLimit) throw unreachable("an event is too large");
	}

	#line(line: string): void {
		if (line === "") {
			const data = this.#data.join("\n");
			const any = this.#data.length > 0;
			this.#data = [];
			this.#size = 0;
			if (any) this.#deliver(data);
			return;
		}
		if (line === "data") {
			this.#data.push("");
		} else if (line.startsWith("data:")) {
			const value = line.slice(line[5] === " " ? 6 : 5);
			this.#data.push(value);
			this.#size += value.length + 1;
			if (this.#size > eventLimit) throw unreachable("an event is too large");
		}
	}
}
