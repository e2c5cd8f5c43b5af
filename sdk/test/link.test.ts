import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { MadangError } from "../src/errors.js";
import { EventStreamParser, type Link, type LinkKind, openLink, raceMs, type Transport } from "../src/link.js";
import { mulberry32, Server } from "./server.js";

beforeEach(() => {
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
});

afterEach(() => {
	vi.useRealTimers();
	vi.unstubAllGlobals();
});

interface Opened {
	link: Link;
	kind: LinkKind | null;
	messages: string[];
	error: MadangError | null;
	openMs: number;
}

function open(server: Server, transport: Transport = "auto", prefer: LinkKind = "websocket"): Opened {
	server.install();
	const startMs = performance.now();
	const opened: Opened = { link: undefined as unknown as Link, kind: null, messages: [], error: null, openMs: -1 };
	opened.link = openLink({
		server: "https://test.invalid/below/",
		transport,
		prefer,
		first: JSON.stringify({ type: "join", instance: "i" }),
		onOpen: (kind) => {
			opened.kind = kind;
			opened.openMs = performance.now() - startMs;
		},
		onMessage: (message) => opened.messages.push(String(message.type)),
		onClose: (error) => {
			opened.error = error;
		},
	});
	return opened;
}

test("WebSocket goes first and alone", async () => {
	const server = new Server();
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(50);
	expect(opened.kind).toBe("websocket");
	expect(opened.messages).toEqual(["joined"]);
	expect(server.joins).toHaveLength(1);
	expect(server.links.size).toBe(0);
	opened.link.close();
	expect(vi.getTimerCount()).toBe(0);
});

test("a refused WebSocket is followed by SSE at once", async () => {
	const server = new Server();
	server.webSocket = "refused";
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(50);
	expect(opened.kind).toBe("sse");
	expect(opened.messages).toEqual(["joined"]);
	opened.link.send(JSON.stringify({ type: "command", seq: 1, n: 1 }));
	opened.link.send(JSON.stringify({ type: "command", seq: 2, n: 2 }));
	opened.link.send(JSON.stringify({ type: "command", seq: 3, n: 3 }));
	await vi.advanceTimersByTimeAsync(50);
	expect(server.member?.taken.map((message) => message.n)).toEqual([1, 2, 3]);
	expect(server.posts).toBe(2); // the first alone, the others while it was under way
	opened.link.close();
});

test("a WebSocket that hangs is overtaken by SSE", async () => {
	const server = new Server();
	server.webSocket = "hanging";
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(raceMs - 1);
	expect(opened.kind).toBe(null);
	await vi.advanceTimersByTimeAsync(100);
	expect(opened.kind).toBe("sse");
	expect(server.joins).toHaveLength(1);
	opened.link.close();
	expect(vi.getTimerCount()).toBe(0);
});

test("a WebSocket that is killed after its upgrade is followed by SSE", async () => {
	const server = new Server();
	server.webSocket = "killed";
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(100);
	expect(opened.kind).toBe("sse");
	opened.link.close();
});

test("where neither works, it says so once", async () => {
	for (const sse of ["refused", "html"] as const) {
		const server = new Server();
		server.webSocket = "refused";
		server.sse = sse;
		const opened = open(server);
		await vi.advanceTimersByTimeAsync(10_000);
		expect(opened.error?.code).toBe("unreachable");
		expect(vi.getTimerCount()).toBe(0);
	}
});

test("where both hang, it gives up", async () => {
	const server = new Server();
	server.mute = true;
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(20_000);
	expect(opened.error?.code).toBe("unreachable");
	expect(vi.getTimerCount()).toBe(0);
});

test("a refusal over SSE keeps its code and its wait", async () => {
	const server = new Server();
	server.webSocket = "refused";
	server.sse = "problem";
	const opened = open(server);
	await vi.advanceTimersByTimeAsync(100);
	expect(opened.error).toMatchObject({ code: "rate_limited", retry: "later", retryAfterMs: 7_000 });
});

test("only the wished transport is tried", async () => {
	const server = new Server();
	server.webSocket = "refused";
	const socket = open(server, "websocket");
	await vi.advanceTimersByTimeAsync(10_000);
	expect(socket.error?.code).toBe("unreachable");
	expect(server.joins).toHaveLength(0);
	const sse = open(server, "sse");
	const sockets = server.sockets;
	await vi.advanceTimersByTimeAsync(100);
	expect(sse.kind).toBe("sse");
	expect(server.sockets).toBe(sockets);
	sse.link.close();
});

test("a preferred SSE that fails is followed by WebSocket", async () => {
	const server = new Server();
	server.sse = "refused";
	const opened = open(server, "auto", "sse");
	await vi.advanceTimersByTimeAsync(100);
	expect(opened.kind).toBe("websocket");
	opened.link.close();
});

test("the first message is never given to two links", async () => {
	// WebSocket opens just when SSE is being tried, for every relation of their delays.
	for (let seed = 1; seed <= 200; seed++) {
		const server = new Server(seed);
		server.webSocket = "hanging";
		server.faults = { lose: 0, delayMs: 4_000 };
		const opened = open(server);
		setTimeout(() => {
			server.webSocket = "open";
		}, server.random() * 6_000);
		await vi.advanceTimersByTimeAsync(30_000);
		expect(opened.kind, `seed ${seed}`).not.toBe(null);
		expect(server.joins, `seed ${seed}`).toHaveLength(1);
		opened.link.close();
	}
});

test("an event stream is read the same however it is cut", () => {
	const stream =
		'data: {"a":1}\n\n: pad\r\n\r\nevent: x\ndata:{"b":2}\r\ndata: 3\r\n\r\ndata\n\nid: 4\rdata: é\r\rdata: last';
	const expected = ['{"a":1}', '{"b":2}\n3', "", "é"];
	const random = mulberry32(5);
	for (let round = 0; round < 500; round++) {
		const got: string[] = [];
		const parser = new EventStreamParser((data) => got.push(data));
		let rest = stream;
		while (rest.length > 0) {
			const length = 1 + Math.floor(random() * (round % 20));
			parser.push(rest.slice(0, length));
			rest = rest.slice(length);
		}
		expect(got).toEqual(expected);
	}
});

test("an endless event does not fill the memory", () => {
	const parser = new EventStreamParser(() => {});
	expect(() => {
		for (let n = 0; n < 200; n++) parser.push(`data: ${"x".repeat(10_000)}\n`);
	}).toThrow();
	const line = new EventStreamParser(() => {});
	expect(() => {
		for (let n = 0; n < 200; n++) line.push("x".repeat(10_000));
	}).toThrow();
});
