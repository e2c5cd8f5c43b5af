import { type Channel, type Face, type JoinOptions, join } from "../src/channel.js";
import type { MadangError } from "../src/errors.js";
import type { Peer as NativePeer } from "../src/peer.js";
import { Events } from "./event.js";

/** The names of the commands in which PlayRTC's own messages travel. */
const names = {
	ready: "playrtc.ready",
	onReady: "playrtc.on_ready",
	user: "playrtc.user",
	peerClose: "playrtc.peer_close",
	channelClose: "playrtc.channel_close",
};

/**
 * The membership of a channel. It joins natively, so that lost sockets are resumed, and says PlayRTC's own things in commands. Events: `joined`, `peer` (peer),
 * `left` (peer), `ready` (peer), `answer` (peer, yes), `user` (peer, data), `closed` (error).
 */
export class Channeling extends Events {
	#channel: Channel | null = null;
	readonly #end = new AbortController();
	/** What was said before the channel was joined. */
	#waiting: ((channel: Channel) => void)[] = [];

	/** @internal */
	open(options: JoinOptions, face: Face): void {
		const { signal } = this.#end;
		join({ ...options, face, signal }).then(
			(channel) => {
				this.#channel = channel;
				channel.on("peer-joined", (peer) => this.fire("peer", peer), { signal });
				channel.on("peer-left", (peer) => this.fire("left", peer), { signal });
				channel.on("command", ({ from, name, data }) => this.#command(from, name, data), { signal });
				channel.on("state", (state, error) => state === "left" && this.fire("closed", error), { signal });
				this.fire("joined", [...channel.peers.values()]);
				for (const say of this.#waiting.splice(0)) say(channel);
			},
			(error: MadangError) => !signal.aborted && this.fire("failed", error),
		);
	}

	#command(from: NativePeer | null, name: string, data: unknown): void {
		if (!from) return;
		switch (name) {
			case names.ready:
				this.fire("ready", from);
				return;
			case names.onReady:
				this.fire("answer", from, (data as { status?: unknown } | null)?.status === "yes");
				return;
			case names.user:
				this.fire("user", from, data);
		}
	}

	/** Asks a peer whether it takes the call. */
	ready(peer: NativePeer): void {
		this.#say(names.ready, {}, [peer]);
	}

	answer(peer: NativePeer, yes: boolean): void {
		this.#say(names.onReady, { status: yes ? "yes" : "no" }, [peer]);
	}

	/** To all, or to one. */
	user(data: unknown, to?: NativePeer): void {
		this.#say(names.user, data, to && [to]);
	}

	/** Puts another member out. */
	remove(token: string): void {
		this.#say(names.peerClose, { id: token }, []);
	}

	/** Ends the channel for everybody. */
	deleteChannel(): void {
		this.#say(names.channelClose, {}, []);
	}

	#say(name: string, data: unknown, to?: NativePeer[]): void {
		const say = (channel: Channel) => {
			channel
				.sendCommand(name, data, { to })
				.catch((error) => !this.#end.signal.aborted && this.fire("refused", error));
		};
		if (this.#channel) say(this.#channel);
		else if (!this.#end.signal.aborted) this.#waiting.push(say);
	}

	/** Leaves. No event follows. */
	close(): void {
		this.#end.abort();
		this.#waiting = [];
		void this.#channel?.leave();
	}
}
