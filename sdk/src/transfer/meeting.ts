import type { Channel } from "../channel.js";
import { Emitter } from "../index.js";
import type { Peer } from "../peer.js";

// Where the two ends of a transfer meet and exchange signals (docs/transfer.md §3): a channel of the transfer's own, or a call that both are in.

export type MeetingEvents = {
	/** An end is there: at the beginning, and when it comes. */
	peer: [peer: string];
	gone: [peer: string];
	signal: [peer: string, data: Record<string, unknown>];
	/** Signals reach the server again. */
	online: [];
	/** It is over, for a reason that no waiting mends. */
	closed: [error: unknown];
};

export interface Meeting extends Emitter<MeetingEvents> {
	iceServers(): RTCIceServer[];
	/** The other ends: receivers for a sender, senders for a receiver. */
	peers(): string[];
	/** For a receiver: other receivers of the same transfer, and whether we make the offers to them. */
	others(): { id: string; offers: boolean }[];
	send(peer: string, data: Record<string, unknown>): void;
	/** A lane stalls: whether the server is still reached is found out at once, since what would repair the lane goes by it. */
	probe(): void;
	close(): void;
}

/** A member of `info` says who is what. */
export const infoOf = (role: "sender" | "receiver") => ({ transfer: { version: 1, role } });

export function roleOf(peer: Peer): unknown {
	return (peer.info as { transfer?: { role?: unknown } } | null)?.transfer?.role;
}

/** In the channel `f.{id}`. */
export class OwnMeeting extends Emitter<MeetingEvents> implements Meeting {
	readonly #channel: Channel;
	readonly #role: "sender" | "receiver";

	/** `role` is ours. */
	constructor(channel: Channel, role: "sender" | "receiver") {
		super();
		this.#channel = channel;
		this.#role = role;
		channel.on("peer-joined", (peer) => this.#add(peer));
		channel.on("peer-left", (peer) => this.emit("gone", peer.id));
		channel.on("state", (state, error) => {
			if (state === "joined") this.emit("online");
			if (state === "left") this.emit("closed", error);
		});
		for (const peer of channel.peers.values()) this.#listen(peer);
	}

	#add(peer: Peer): void {
		this.#listen(peer);
		if (this.#is(peer)) this.emit("peer", peer.id);
	}

	/** Receivers also meet each other. */
	#is(peer: Peer): boolean {
		const role = roleOf(peer);
		return role === "receiver" || (role === "sender" && this.#role === "receiver");
	}

	#listen(peer: Peer): void {
		peer.on("signal", (data) => {
			if (typeof data === "object" && data !== null && this.#is(peer)) {
				this.emit("signal", peer.id, data as Record<string, unknown>);
			}
		});
	}

	iceServers(): RTCIceServer[] {
		return [...this.#channel.iceServers];
	}

	peers(): string[] {
		const role = this.#role === "sender" ? "receiver" : "sender";
		return [...this.#channel.peers.values()].filter((peer) => roleOf(peer) === role).map(({ id }) => id);
	}

	others(): { id: string; offers: boolean }[] {
		if (this.#role === "sender") return [];
		return [...this.#channel.peers.values()]
			.filter((peer) => roleOf(peer) === "receiver")
			.map(({ id, offers }) => ({ id, offers }));
	}

	send(peer: string, data: Record<string, unknown>): void {
		this.#channel.peers.get(peer)?.signal(data);
	}

	probe(): void {
		this.#channel.probe();
	}

	close(): void {
		void this.#channel.leave();
	}
}

/** In a call: signals carry the transfer's id in the member `transfer`. With `only`, that peer alone is the other end. */
export class CallMeeting extends Emitter<MeetingEvents> implements Meeting {
	readonly #channel: Channel;
	readonly #id: string;
	readonly #only: string | undefined;
	readonly #end = new AbortController();

	constructor(channel: Channel, id: string, only?: string) {
		super();
		this.#channel = channel;
		this.#id = id;
		this.#only = only;
		const { signal } = this.#end;
		channel.on("peer-joined", (peer) => this.#add(peer), { signal });
		channel.on("peer-left", (peer) => this.#is(peer.id) && this.emit("gone", peer.id), { signal });
		channel.on(
			"state",
			(state, error) => {
				if (state === "joined") this.emit("online");
				if (state === "left") this.emit("closed", error);
			},
			{ signal },
		);
		for (const peer of channel.peers.values()) this.#listen(peer);
	}

	#is(peer: string): boolean {
		return this.#only === undefined || this.#only === peer;
	}

	#add(peer: Peer): void {
		this.#listen(peer);
		if (this.#is(peer.id)) this.emit("peer", peer.id);
	}

	#listen(peer: Peer): void {
		if (!this.#is(peer.id)) return;
		peer.on(
			"signal",
			(data) => {
				const signal = data as Record<string, unknown> | null;
				if (signal?.transfer === this.#id) this.emit("signal", peer.id, signal);
			},
			{ signal: this.#end.signal },
		);
	}

	iceServers(): RTCIceServer[] {
		return [...this.#channel.iceServers];
	}

	peers(): string[] {
		return [...this.#channel.peers.keys()].filter((peer) => this.#is(peer));
	}

	/** The members of a call do not say who receives. */
	others(): [] {
		return [];
	}

	send(peer: string, data: Record<string, unknown>): void {
		this.#channel.peers.get(peer)?.signal({ transfer: this.#id, ...data });
	}

	/** The call has connections of its own, which do that. */
	probe(): void {}

	close(): void {
		this.#end.abort();
	}
}
