import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Channel, join } from "../src/channel.js";
import type { FramedLink } from "../src/framed.js";
import { Peer, type PeerHost } from "../src/peer.js";
import type { SignalData } from "../src/wire.js";
import { closePage, openPage } from "./page.js";
import type { Server } from "./server.js";

let server: Server;
let page: EventTarget;

beforeEach(() => {
	({ server, window: page } = openPage());
});

afterEach(closePage);

async function joined(): Promise<Channel> {
	const joining = join({ channel: "demo", server: "http://test.invalid/" });
	await vi.advanceTimersByTimeAsync(100);
	return joining;
}

function hide(persisted: boolean): void {
	page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted }));
}

test("a page that goes leaves; one that may come back from the back-forward cache does not", async () => {
	const channel = await joined();
	hide(true);
	await vi.advanceTimersByTimeAsync(100);
	expect(channel.state).toBe("joined");
	server.cut(); // as browsers do while a page is kept
	await vi.advanceTimersByTimeAsync(5_000);
	expect(channel.state).toBe("joined");
	expect(server.resumes).toHaveLength(1);
	hide(false);
	expect(channel.state).toBe("left");
});

/** What was said to a peer, as the server took it. */
const signals = () =>
	(server.member?.taken ?? []).filter(({ type }) => type === "signal").map(({ data }) => data as SignalData);

/** The server refuses the last `count` messages. */
function refuse(count: number): void {
	const { taken } = server.member ?? { taken: [] };
	for (const { seq } of taken.slice(-count))
		server.member?.say({
			type: "error",
			re: seq,
			code: "rate_limited",
			message: "",
			retry: "later",
			retryAfterMs: 700,
		});
}

test("answers and candidates that came too fast for the server are said again, and so is what else peers say", async () => {
	const channel = await joined();
	server.member?.say({ type: "peer-joined", peer: { id: "p2", name: "Jun", polite: true, offer: false } });
	const offer = { type: "offer", sdp: "v=0\r\na=ice-ufrag:far\r\na=setup:actpass\r\n" };
	server.member?.say({ type: "signal", from: "p2", data: { pc: "their-name", description: offer } });
	await vi.advanceTimersByTimeAsync(100);
	const said = signals();
	expect(said.map(({ description, candidates }) => description?.type ?? candidates?.length)).toEqual(["answer", 1]);
	refuse(2);
	await vi.advanceTimersByTimeAsync(800);
	expect(signals().slice(2)).toEqual(said);
	channel.peers.get("p2")?.signal({ transfer: 1 });
	await vi.advanceTimersByTimeAsync(50);
	refuse(1);
	await vi.advanceTimersByTimeAsync(800);
	expect(signals().slice(4)).toEqual([{ transfer: 1 }, { transfer: 1 }]);
	await channel.leave();
});

test("an offer that came too fast for the server is said again while it waits for its answer", async () => {
	const channel = await joined();
	server.member?.say({ type: "peer-joined", peer: { id: "p2", name: "Jun", polite: true, offer: true } });
	await vi.advanceTimersByTimeAsync(50);
	const [offer] = signals();
	expect(offer?.description?.type).toBe("offer");
	refuse(2);
	await vi.advanceTimersByTimeAsync(800);
	expect(signals()[2]).toEqual(offer);
	refuse(1); // the peer's own offer, which counts more, comes first
	const far = { type: "offer", sdp: "v=0\r\na=ice-ufrag:far\r\na=setup:actpass\r\n" };
	server.member?.say({ type: "signal", from: "p2", data: { pc: offer?.pc, description: far } });
	await vi.advanceTimersByTimeAsync(800);
	expect(signals().filter(({ description }) => description?.type === "offer").length).toBe(2);
	await channel.leave();
});

test("waiting for a text to a PlayRTC peer can be called off while it is on its way", async () => {
	const sent: string[] = [];
	const host = {
		framed: true,
		link: async () => ({ sendText: (text: string) => sent.push(text) }) as unknown as FramedLink,
	};
	const peer = new Peer(host as unknown as PeerHost, { id: "p2" });
	const controller = new AbortController();
	const waiting = peer.send("hello", { signal: controller.signal });
	await vi.advanceTimersByTimeAsync(1);
	expect(sent).toEqual(["hello"]);
	controller.abort();
	await expect(waiting).rejects.toMatchObject({ code: "aborted" });
});
