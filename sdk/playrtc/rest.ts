import { type Logger, loggers } from "./log.js";
import { browser, nation, platform } from "./utils.js";

// PlayRTC's REST interface, version 3 (docs/playrtc.md).

export type Success = (body: never) => void;
export type Failure = (xhr: XMLHttpRequest, body?: unknown) => void;

/** What the server answers to create and connect. */
export interface Allocation {
	channelId: string;
	token: { tokenId: string };
	configuration?: { fractionLost?: unknown };
	/** How to join natively; absent for keys that a page cannot use. */
	madang?: { channel: string; instance: string; key: string; signal: string };
}

/** Version of the wire that we speak, told to others; those before 2.2.17 have another header on the data channel. */
export const wireVersion = "2.2.21";

/** The `env` of the channel's socket, shown to the other peers. */
export const socketEnv = {
	platformType: platform ?? "",
	browser: { name: browser?.name ?? "", version: browser?.version ?? "" },
	sdk: { type: "web", version: wireVersion },
	networkType: "wired",
};

/** The address of this script; it is known only while the script runs for the first time. */
const script: string | undefined =
	import.meta.url ??
	(typeof document === "undefined" ? undefined : (document.currentScript as HTMLScriptElement | null)?.src);

/** Where REST is: on the server that the script came from, unless the page names another. */
export function restBase(server: unknown, from: string | undefined = script): string {
	if (typeof server === "string" && server !== "") return `${server.replace(/\/+$/, "")}/v3/playrtc`;
	const page = typeof location === "undefined" ? "" : location.href;
	const own = new URL(from && /^https?:/.test(from) ? from : page);
	// Our servers have it at /sdk/js/ or /sdk/js/<version>/, perhaps below a path of a proxy.
	const prefix = own.pathname.match(/^(.*)\/sdk\/js\/(?:[^/]+\/)?[^/]+$/)?.[1] ?? "";
	return `${own.origin}${prefix}/v3/playrtc`;
}

export class Rest {
	readonly #base: string;
	readonly #key: string;
	readonly #log: Logger;

	constructor(base: string, key: string, log: Logger) {
		this.#base = base;
		this.#key = key;
		this.#log = log;
	}

	/** `options` is the application's own object; it is completed and sent whole, as the old SDK does. */
	create(options: Record<string, unknown>, success: Success, failure: Failure): void {
		this.#send("POST", "/channels/channel", complete(options), success, failure);
	}

	connect(channel: string, options: Record<string, unknown>, success: Success, failure: Failure): void {
		this.#send("PUT", `/channels/channel/${encodeURIComponent(channel)}`, complete(options), success, failure);
	}

	list(success: Success, failure?: Failure): void {
		this.#send("GET", "/channels", null, success, failure);
	}

	channel(id: string, success: Success, failure?: Failure): void {
		this.#send("GET", `/channels/channel/${encodeURIComponent(id)}`, null, success, failure);
	}

	peers(id: string, success: Success, failure?: Failure): void {
		this.#send("GET", `/channels/channel/${encodeURIComponent(id)}/peers`, null, success, failure);
	}

	peer(id: string, peer: string, success: Success, failure?: Failure): void {
		const path = `/channels/channel/${encodeURIComponent(id)}/peers/peer/${encodeURIComponent(peer)}`;
		this.#send("GET", path, null, success, failure);
	}

	search(field: string, text: string, success: Success, failure?: Failure): void {
		const query = `f=${encodeURIComponent(field)}&q=${encodeURIComponent(text)}`;
		this.#send("GET", `/channels/search?${query}`, null, success, failure);
	}

	/** Reports a figure; nobody waits for it. */
	stat(record: { type: string; resultCode: string } & Record<string, unknown>): void {
		const level = record.resultCode === "400" || record.resultCode === "601" ? "ERROR" : "TRACE";
		if (!this.#log.lets(level)) return;
		loggers.network[level === "ERROR" ? "error" : "trace"](JSON.stringify(record));
		this.#send("PUT", "/stat", record, () => {});
	}

	#send(method: string, path: string, body: object | null, success?: Success, failure?: Failure): void {
		const xhr = new XMLHttpRequest();
		xhr.open(method, this.#base + path);
		xhr.setRequestHeader("Content-Type", "application/json; charset=UTF-8");
		xhr.setRequestHeader("TDCProjectKey", this.#key);
		xhr.onloadend = () => {
			let answer: unknown;
			try {
				answer = JSON.parse(xhr.responseText);
			} catch {
				// Not JSON: the status says enough.
			}
			const failed = xhr.status !== 200 || !answer || (answer as { error?: unknown }).error;
			this.#log.trace("Rest", method, `${path} ${xhr.status}`);
			if (failed) failure?.(xhr, answer);
			else success?.(answer as never);
		};
		xhr.send(body ? JSON.stringify(body) : null);
	}
}

function complete(options: Record<string, unknown>): Record<string, unknown> {
	options.env = {
		os: platform,
		device: browser?.name ?? "",
		version: "",
		carrier: "",
		country: nation,
		networkType: "wired",
	};
	options.nag = { userExpires: "86000" };
	return options;
}
