import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MadangError } from "../src/errors.js";
import type { Transport } from "../src/link.js";
import { defaultReconnect, type ReconnectPolicy } from "../src/reconnect.js";
import { Session } from "../src/session.js";
import { Server } from "./server.js";

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => unhandled.push(reason);

beforeEach(() => {
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
	unhandled.length = 0;
	process.on("unhandledRejection", onUnhandled);
});

afterEach(async () => {
	await vi.advanceTimersByTimeAsync(1);
	process.off("unhandledRejection", onUnhandled);
	vi.useRealTimers();
	vi.unstubAllGlobals();
	expect(unhandled).toEqual([]);
});

interface Client {
	session: Session;
	received: unknown[];
	events: string[];
	done: boolean;
}

function connect(server: Server, options: { transport?: Transport; reconnect?: ReconnectPolicy } = {}): Client {
	server.install();
	let joins = 0;
	const session = new Session({
		server: "http://test.invalid/",
		transport: options.transport ?? "auto",
		reconnect: options.reconnect ?? { nextDelayMs: () => server.random() * 500 },
		join: async () => ({ type: "join", version: 1, channel: "demo", instance: `instance-${++joins}` }),
	});
	const client: Client = { session, received: [], events: [], done: false };
	session.on("message", (message) => client.received.push(message.n));
	session.on("state", (state, error) => client.events.push(error ? `${state} ${error.code}` : state));
	session.on("joined", (_admission, _welcome, again) => client.events.push(again ? "again" : "first"));
	session.on("resumed", () => client.events.push("resumed"));
	session.start();
	return client;
}

/** Lets fake time pass until something holds. */
async function until(holds: () => boolean, limitMs = 120_000): Promise<void> {
	for (let ms = 0; !holds(); ms += 50) {
		if (ms > limitMs) throw new Error("it did not happen");
		await vi.advanceTimersByTimeAsync(50);
	}
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

for (const transport of ["websocket", "sse", "auto"] as const) {
	test(`random drops over ${transport}: nothing is lost, repeated or out of order`, async () => {
		const seeds = Number(process.env.MADANG_SEEDS ?? 100);
		for (let seed = 1; seed <= seeds; seed++) {
			const server = new Server(seed);
			const client = connect(server, { transport });
			await until(() => client.events.includes("first"));
			server.faults = { lose: 0.01 + 0.07 * server.random(), delayMs: 60 };
			const joins = server.joins.length;
			const count = 40;
			const answered: number[] = [];
			for (const n of numbers(count)) {
				setTimeout(() => server.member?.say({ type: "command", n }), server.random() * 10_000);
			}
			const ups: Promise<unknown>[] = [];
			for (const n of numbers(count)) {
				setTimeout(
					() => ups.push(client.session.request({ type: "command", n }).then(() => answered.push(n))),
					n * 250,
				);
			}
			await until(() => answered.length === count && client.received.length === count);
			const context = `seed ${seed} over ${transport}`;
			const said = server.member?.taken.map((message) => message.n);
			expect(said, context).toEqual(numbers(count));
			expect(answered, context).toEqual(numbers(count));
			expect(new Set(client.received).size, context).toBe(count);
			expect(server.violations, context).toEqual([]);
			expect(server.joins.length, context).toBe(joins); // resumed every time
			client.session.leave();
			await vi.advanceTimersByTimeAsync(100);
		}
	});
}

test("messages of the server arrive in the order said", async () => {
	const server = new Server(7);
	server.faults = { lose: 0.05, delayMs: 40 };
	const client = connect(server);
	await until(() => client.events.includes("first"));
	for (const n of numbers(200)) setTimeout(() => server.member?.say({ type: "command", n }), n * 100);
	await until(() => client.received.length >= 200);
	expect(client.received).toEqual(numbers(200));
	client.session.leave();
});

test("a lost link is resumed, with the answer of the server lost too", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.losing = { type: "resumed", times: 3 };
	server.cut();
	await until(() => client.events.at(-1) === "resumed");
	expect(server.resumes.length).toBeGreaterThan(3);
	expect(client.events).toEqual(["joined", "first", "reconnecting unreachable", "joined", "resumed"]);
	expect(server.joins).toHaveLength(1);
	client.session.leave();
});

test("a restarted server is joined anew, and what was never sent is said there", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.online = false;
	server.restart();
	await until(() => client.events.includes("reconnecting unreachable"));
	const later = client.session.request({ type: "command", n: 1 });
	client.session.post({ type: "signal", to: "p2", data: {} });
	await vi.advanceTimersByTimeAsync(30_000);
	expect(client.session.state).toBe("reconnecting");
	server.online = true;
	await until(() => client.events.includes("again"));
	await later;
	expect(server.member?.taken.map((message) => message.type)).toEqual(["command"]);
	expect(server.violations).toEqual([]);
	client.session.leave();
});

test("what a restarted server may have had is not said twice", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.mute = true;
	const sent = client.session.request({ type: "command", n: 1 });
	const outcome = sent.catch((error: MadangError) => error.code);
	await vi.advanceTimersByTimeAsync(100);
	server.mute = false;
	server.restart();
	await until(() => client.events.includes("again"));
	expect(await outcome).toBe("resume_unknown");
	expect(server.member?.taken).toEqual([]);
	client.session.leave();
});

test("a refusal ends the joining and leaves nothing behind", async () => {
	for (const [code, retry] of [
		["channel_full", "later"],
		["token_expired", "never"],
		["rate_limited", "later"],
		["kicked", "later"],
	] as const) {
		const server = new Server();
		server.refuse = { code, retry, retryAfterMs: 5000 };
		const client = connect(server);
		await until(() => client.session.state === "ended");
		expect(client.events).toEqual([`ended ${code}`]);
		await vi.advanceTimersByTimeAsync(60_000);
		expect(server.wires.size).toBe(0);
		expect(vi.getTimerCount()).toBe(0);
	}
});

test("a peer that was kicked does not come back by itself", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.member?.wire?.send({ type: "bye", code: "kicked", message: "", retry: "later", retryAfterMs: 600_000 });
	await until(() => client.session.state === "ended");
	expect(client.events.at(-1)).toBe("ended kicked");
	await vi.advanceTimersByTimeAsync(700_000);
	expect(server.joins).toHaveLength(1);
});

test("a draining server is resumed elsewhere", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.member?.wire?.send({ type: "bye", code: "server_draining", message: "", retry: "resume" });
	await until(() => client.events.includes("resumed"));
	client.session.leave();
});

test("an overflowing mailbox is joined anew", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.member?.wire?.send({ type: "bye", code: "mailbox_full", message: "", retry: "join" });
	await until(() => client.events.includes("again"));
	expect(server.joins).toHaveLength(2);
	client.session.leave();
});

test("nobody there: the joining gives up", async () => {
	const server = new Server();
	server.online = false;
	const client = connect(server, { reconnect: defaultReconnect });
	await until(() => client.session.state === "ended");
	expect(client.events).toEqual(["ended unreachable"]);
	expect(vi.getTimerCount()).toBe(0);
});

test("a policy that gives up ends the session", async () => {
	const server = new Server();
	const client = connect(server, { reconnect: { nextDelayMs: (attempt) => (attempt < 2 ? 10 : null) } });
	await until(() => client.events.includes("first"));
	server.online = false;
	server.cut();
	await until(() => client.session.state === "ended");
	expect(client.events.at(-1)).toBe("ended unreachable");
});

test("a server that falls silent is noticed by its missing pong", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.mute = true;
	await until(() => client.events.includes("reconnecting unreachable"), 60_000);
	server.mute = false;
	await until(() => client.events.includes("resumed"));
	client.session.leave();
});

for (const lifeMs of [100, 5_000, 30_000, 20 * 60_000]) {
	test(`WebSockets that are killed after ${lifeMs} ms each are given up for SSE, and nothing is lost`, async () => {
		const server = new Server();
		server.webSocketLifeMs = lifeMs;
		const client = connect(server);
		await until(() => client.events.includes("first"));
		let said = 0;
		const answers: Promise<void>[] = [];
		const talking = setInterval(() => {
			answers.push(client.session.request({ type: "command", n: said }));
			server.member?.say({ type: "command", n: said++ });
		}, lifeMs / 7);
		await until(() => client.session.kind === "sse", 4 * lifeMs + 10_000);
		expect(server.sockets).toBe(3);
		await vi.advanceTimersByTimeAsync(5 * lifeMs);
		clearInterval(talking);
		await until(() => client.received.length === said);
		await Promise.all(answers);
		expect(client.received).toEqual(numbers(said));
		expect(server.member?.taken.map((message) => message.n)).toEqual(numbers(said));
		expect(server.joins).toHaveLength(1);
		expect(server.sockets).toBe(3);
		expect(server.violations).toEqual([]);
		client.session.leave();
	});
}

test("WebSockets that a bad network ends now and then are opened again", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	for (const lifeMs of [5_000, 60_000, 25_000, 90_000, 40_000, 8_000]) {
		await vi.advanceTimersByTimeAsync(lifeMs);
		server.cut();
		await until(() => client.session.state === "reconnecting");
		await until(() => client.session.state === "joined");
		expect(client.session.kind).toBe("websocket");
	}
	client.session.leave();
});

test("a hint that the network has changed finds a dead link at once", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.mute = true;
	client.session.probe(700);
	await vi.advanceTimersByTimeAsync(750);
	expect(client.events.at(-1)).toBe("reconnecting unreachable");
	server.mute = false;
	await until(() => client.events.includes("resumed"));
	client.session.leave();
});

test("a hint cuts the wait for the next attempt short", async () => {
	const server = new Server();
	const client = connect(server, { reconnect: { nextDelayMs: () => 60_000 } });
	await until(() => client.events.includes("first"));
	server.cut();
	await vi.advanceTimersByTimeAsync(1_000);
	expect(client.session.state).toBe("reconnecting");
	client.session.probe(1_500);
	await vi.advanceTimersByTimeAsync(100);
	expect(client.events.at(-1)).toBe("resumed");
	client.session.leave();
});

test("what cannot be sent is refused here, and the link survives", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	const big = client.session.request({ type: "command", data: "x".repeat(70_000) });
	await expect(big).rejects.toMatchObject({ code: "message_too_big" });
	server.online = false;
	server.cut();
	await until(() => client.session.state === "reconnecting");
	const outcomes: Promise<string>[] = [];
	for (const n of numbers(600)) {
		outcomes.push(
			client.session.request({ type: "command", n }).then(
				() => "ok",
				(error: MadangError) => error.code,
			),
		);
	}
	server.online = true;
	await until(() => client.events.includes("resumed"));
	await until(() => (server.member?.taken.length ?? 0) === 512);
	const codes = await Promise.all(outcomes);
	expect(codes.filter((code) => code === "ok")).toHaveLength(512);
	expect(codes.filter((code) => code === "buffer_full")).toHaveLength(88);
	client.session.leave();
});

test("signals that outgrow the bound start a new session instead of growing for ever", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.online = false;
	server.cut();
	await until(() => client.session.state === "reconnecting");
	for (const n of numbers(1_100)) client.session.post({ type: "signal", to: "p2", data: { n } });
	server.online = true;
	await until(() => client.events.includes("again"));
	expect(server.violations).toEqual([]);
	client.session.leave();
});

test("a burst keeps below the server's rate", async () => {
	const server = new Server();
	server.faults.delayMs = 0;
	const client = connect(server);
	await until(() => client.events.includes("first"));
	for (const n of numbers(450)) client.session.post({ type: "signal", n });
	await vi.advanceTimersByTimeAsync(20);
	expect(server.member?.taken.length).toBeLessThanOrEqual(310);
	await vi.advanceTimersByTimeAsync(1_000);
	expect(server.member?.taken.length).toBeLessThanOrEqual(400);
	await vi.advanceTimersByTimeAsync(2_000);
	expect(server.member?.taken.map((message) => message.n)).toEqual(numbers(450));
	client.session.leave();
});

test("an aborted wait ends, and the number is not missing", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	const abort = new AbortController();
	const first = client.session.request({ type: "command", n: 0 }, abort.signal);
	abort.abort();
	await expect(first).rejects.toMatchObject({ code: "aborted" });
	void client.session.request({ type: "command", n: 1 });
	await until(() => server.member?.taken.length === 2);
	expect(server.violations).toEqual([]);
	client.session.leave();
});

test("leave works in every state, twice, and rejects what waits", async () => {
	const server = new Server();
	const opening = connect(server);
	opening.session.leave();
	opening.session.leave();
	expect(opening.events).toEqual(["ended left"]);

	const joined = connect(server);
	await until(() => joined.events.includes("first"));
	server.mute = true;
	const waiting = joined.session.request({ type: "command", n: 1 });
	server.mute = false;
	joined.session.leave();
	joined.session.leave();
	await expect(waiting).rejects.toMatchObject({ code: "closed" });
	await expect(joined.session.request({ type: "command", n: 2 })).rejects.toBeInstanceOf(MadangError);
	await vi.advanceTimersByTimeAsync(100);
	expect(server.wires.size).toBe(0);
	expect(vi.getTimerCount()).toBe(0);
});

test("a gap in the server's numbers is mended by a resume", async () => {
	const server = new Server();
	const client = connect(server);
	await until(() => client.events.includes("first"));
	server.member?.say({ type: "command", n: 0 });
	const member = server.member;
	const wire = member?.wire;
	if (member) member.wire = null;
	member?.say({ type: "command", n: 1 }); // kept, not sent
	if (member) member.wire = wire ?? null;
	member?.say({ type: "command", n: 2 });
	await until(() => client.received.length === 3);
	expect(client.received).toEqual([0, 1, 2]);
	expect(client.events).toContain("reconnecting out_of_order");
	client.session.leave();
});
