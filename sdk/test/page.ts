import { vi } from "vitest";
import { Server } from "./server.js";
import { install, Network, on } from "./webrtc.js";

/** A page in virtual time, with a network and a signaling server that are made for it; `window` hears the events of its window. */
export function openPage(): { server: Server; window: EventTarget } {
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
	install();
	on(new Network());
	const server = new Server();
	server.install();
	const window = new EventTarget();
	vi.stubGlobal("window", window);
	vi.stubGlobal("navigator", {});
	vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
	return { server, window };
}

export function closePage(): void {
	vi.useRealTimers();
	vi.unstubAllGlobals();
}
