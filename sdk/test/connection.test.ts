import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connection, type ConnectionHost } from "../src/connection.js";
import type { SignalData } from "../src/wire.js";
import { install, Network, on } from "./webrtc.js";

beforeEach(() => {
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
	install();
});

afterEach(() => {
	vi.useRealTimers();
	vi.unstubAllGlobals();
});

const latencyMs = 20;

/** One of two peers, and its session: signals that are said while it is away wait here, those that are for it wait at the server, as with ../src/session.ts. */
class Side {
	readonly network = new Network();
	readonly connection: Connection;
	far!: Side;
	readonly #said: SignalData[] = [];
	readonly #mailbox: SignalData[] = [];

	constructor(polite: boolean) {
		const host: ConnectionHost = {
			iceTransportPolicy: "all",
			codecs: {},
			maxBitrateBps: {},
			framed: false,
			wire: false,
			iceServers: () => {
				on(this.network); // this side makes a connection
				return [];
			},
			signal: (data) => {
				this.#said.push(data);
				this.#flush();
			},
			track: () => null,
			maySend: () => true,
			uses: () => true,
			online: () => this.network.up,
			refreshIce: () => {},
			stalled: () => {},
			problem: () => {},
		};
		this.connection = new Connection(host, polite);
	}

	#flush(): void {
		if (this.network.up) for (const data of this.#said.splice(0)) this.far.#take(data);
	}

	/** At the server, which passes it on. */
	#take(data: SignalData): void {
		this.#mailbox.push(structuredClone(data));
		setTimeout(() => this.#read(), latencyMs);
	}

	#read(): void {
		if (!this.network.up) return;
		for (const data of this.#mailbox.splice(0)) this.connection.receive(data);
	}

	leave(): void {
		this.network.up = false;
	}

	/** The network is back, and the session resumed: what waited here is said before what waits at the server is read. */
	comeBack(): void {
		this.network.up = true;
		this.connection.wake();
		this.#flush();
		setTimeout(() => this.#read(), latencyMs);
	}
}

function call(): { polite: Side; impolite: Side } {
	const [polite, impolite] = [new Side(true), new Side(false)];
	polite.far = impolite;
	impolite.far = polite;
	polite.connection.expect();
	impolite.connection.start();
	return { polite, impolite };
}

for (const away of ["polite", "impolite"] as const) {
	test(`the ${away} side was away for any time up to a minute: both are soon in the same connection again`, async () => {
		for (let awayMs = 400; awayMs < 60_000; awayMs += 1_300) {
			install();
			const sides = call();
			const both = [sides.polite, sides.impolite];
			await vi.advanceTimersByTimeAsync(2_000);
			const states = () => both.map((side) => side.connection.state);
			expect(states()).toEqual(["connected", "connected"]);
			sides[away].leave();
			await vi.advanceTimersByTimeAsync(awayMs);
			sides[away].comeBack();
			await vi.advanceTimersByTimeAsync(1_500);
			expect(states(), `after ${awayMs} ms`).toEqual(["connected", "connected"]);
			for (const side of both) {
				const open = side.network.connections.filter((pc) => pc.connectionState !== "closed");
				expect(open, `after ${awayMs} ms`).toHaveLength(1);
				side.connection.close();
			}
		}
	});
}
