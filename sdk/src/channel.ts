import { abortable } from "./abort.js";
import type { BitrateLimits, CodecPreferences } from "./connection.js";
import { Emitter } from "./emitter.js";
import { aborted, MadangError, quiet } from "./errors.js";
import type { FramedLink } from "./framed.js";
import type { Transport } from "./link.js";
import type { LocalMedia } from "./media.js";
import { onNetworkHint } from "./network.js";
import { Peer, type PeerHost } from "./peer.js";
import { defaultReconnect, type ReconnectPolicy } from "./reconnect.js";
import { baseURL, loadedFrom } from "./server.js";
import { Session, type Welcome } from "./session.js";
import type { PeerStats } from "./stats.js";
import { warmUp } from "./warm.js";
import {
	type Admission,
	type ChannelSettings,
	type JoinMessage,
	type MediaStates,
	type Role,
	randomName,
	type ServerMessage,
	type SignalData,
	type Source,
	type WirePeer,
} from "./wire.js";

/** What {@link join} takes. */
export interface JoinOptions {
	/** The channel's name: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`. */
	channel: string;
	/** Base URL of the server. Default: where the SDK was loaded from. */
	server?: string | URL | undefined;
	/** A browser key. */
	key?: string | undefined;
	/** An access token, or a function that fetches one; it is called before each fresh join. */
	token?: string | (() => string | Promise<string>) | undefined;
	name?: string | undefined;
	uid?: string | undefined;
	role?: Role | undefined;
	/** Any JSON value of at most 4 KiB, shown to the others. */
	info?: unknown;
	/** What to publish at once. A promise is not waited for: joining and connecting go on meanwhile. */
	media?: LocalMedia | Promise<LocalMedia> | null | undefined;
	/**
	 * Whether to make connections to the other peers. With `false` there is no media, and what peers want to say to each other goes through
	 * {@link Peer.signal}. Default `true`.
	 */
	connect?: boolean | undefined;
	/** Ask the members first. */
	ring?: boolean | undefined;
	/** Ends the joining. It has no effect once joined. */
	signal?: AbortSignal | undefined;
	transport?: Transport | undefined;
	/** Instead of the ICE servers that the server names. */
	iceServers?: RTCIceServer[] | undefined;
	/**
	 * The secret that the peer's id is made from, of 22 or more characters of base64url. Default: a new one. For applications whose server made it, and so
	 * knows the id before.
	 */
	instance?: string | undefined;
	/** `"relay"` hides this machine's addresses from the others. */
	iceTransportPolicy?: RTCIceTransportPolicy | undefined;
	/** Codecs by preference, such as `{ video: ["VP9", "VP8"] }`: reorders, never drops. */
	codecs?: CodecPreferences | undefined;
	/** The most that is sent to each peer, in bits per second. */
	maxBitrateBps?: BitrateLimits | undefined;
	reconnect?: ReconnectPolicy | undefined;
	/** The members (`"ring"`) or the hosts (`"waiting_room"`) are being asked. */
	onPending?: ((reason: string) => void) | undefined;
	/** @internal */
	face?: Face | undefined;
}

/**
 * What the PlayRTC SDK decides for itself.
 * @internal
 */
export interface Face {
	/** Whether there is a data channel with a peer of this `info`. */
	data(info: unknown): boolean;
	/** Whether the connection waits: for {@link Peer.begin}, where this side would offer, or for the other side's offer. */
	holds(peer: Peer, offers: boolean): boolean;
	link(peer: Peer, reopen: () => void): FramedLink;
}

/** This page's own membership. */
export interface Me {
	readonly id: string;
	readonly uid: string;
	readonly name: string;
	readonly role: Role;
	readonly info: unknown;
	readonly media: MediaStates;
}

/** A line of text chat. */
export interface ChatMessage {
	/** `null`: from the application's server. */
	readonly from: Peer | null;
	readonly text: string;
	/** When it arrived: milliseconds since 1970. */
	readonly at: number;
	/** It was not for everybody. */
	readonly private: boolean;
}

/** A message of the application's own. */
export interface Command {
	/** `null`: from the application's server. */
	readonly from: Peer | null;
	readonly name: string;
	readonly data: unknown;
	readonly private: boolean;
}

export type ChannelState = "joined" | "reconnecting" | "left";

export type ChannelEvents = {
	state: [state: ChannelState, error?: MadangError];
	"peer-joined": [peer: Peer];
	"peer-left": [peer: Peer, reason: string];
	chat: [message: ChatMessage];
	command: [command: Command];
	/** Somebody asks to be let in: answer with {@link Channel.accept} or {@link Channel.reject}. */
	ring: [peer: Peer, reason: string];
	"ring-ended": [peer: Peer, reason: string];
	settings: [settings: ChannelSettings];
	me: [me: Me];
	/** Something that was asked for without anybody waiting was refused. */
	error: [error: MadangError];
};

export interface SendOptions {
	/** For these peers only. */
	to?: Peer | string | readonly (Peer | string)[] | undefined;
	signal?: AbortSignal | undefined;
}

const chatName = "madang.chat";
/** Figures are taken so often; half as often while nobody looks. */
const statsMs = 1_000;
const statsHiddenMs = 2_000;
/** A peer that was lost, and is back within this time, goes on with its connection. */
const lingerMs = 5_000;
/** How long the link has to answer when the network may have changed. */
const probeMs = 1_500;
const stalledProbeMs = 500;
const nothing: MediaStates = Object.freeze({ audio: "off", video: "off", screen: "off" });

/** Joins a channel. */
export function join(options: JoinOptions): Promise<Channel> {
	return quiet(
		new Promise<Channel>((resolve, reject) => {
			const { signal } = options;
			if (signal?.aborted) return reject(aborted(signal));
			if (typeof RTCPeerConnection === "undefined") return reject(new MadangError("unsupported"));
			if (typeof options.channel !== "string" || !/^[A-Za-z0-9._~-]{1,64}$/.test(options.channel)) {
				return reject(
					new MadangError("invalid_field", {
						message: "A channel's name has 1 to 64 of A-Z a-z 0-9 . _ ~ -",
						detail: { field: "channel" },
					}),
				);
			}
			warmUp();
			let channel: Channel;
			try {
				channel = new Channel(options, {
					joined: () => {
						signal?.removeEventListener("abort", abort);
						resolve(channel);
					},
					failed: (error) => {
						signal?.removeEventListener("abort", abort);
						reject(error);
					},
				});
			} catch (error) {
				return reject(error instanceof MadangError ? error : new MadangError("invalid_field", { cause: error }));
			}
			const abort = () => {
				reject(aborted(signal as AbortSignal));
				void channel.leave();
			};
			signal?.addEventListener("abort", abort, { once: true });
		}),
	);
}

/** A channel that this page is a member of. Made by {@link join}. */
export class Channel extends Emitter<ChannelEvents> {
	readonly #options: JoinOptions;
	readonly #first: { joined(): void; failed(error: MadangError): void };
	readonly #session: Session;
	readonly #server: string;
	readonly #end = new AbortController();
	/** Made once: the server gives the same instance the same peer id. */
	readonly #instance: string;
	#state: ChannelState | "joining" = "joining";
	#settings: ChannelSettings = Object.freeze({ locked: false, waitingRoom: false, capacity: 0 });
	#me: Me;
	#media: LocalMedia | null = null;
	#mediaEnd = new AbortController();
	#windowMs = 60_000;
	#ice: RTCIceServer[] = [];
	readonly #peers = new Map<string, Peer>();
	readonly #ringing = new Map<string, Peer>();
	/** Peers that the restarted server does not know yet, and when to give them up. */
	readonly #awaited = new Map<string, ReturnType<typeof setTimeout>>();
	/** Peers that were lost a moment ago. */
	readonly #lingering = new Map<string, { peer: Peer; timer: ReturnType<typeof setTimeout> }>();
	#statsTimer: ReturnType<typeof setTimeout> | undefined;

	/** @internal */
	constructor(options: JoinOptions, first: { joined(): void; failed(error: MadangError): void }) {
		super();
		this.#options = options;
		this.#first = first;
		this.#instance = options.instance ?? randomName(18);
		this.#ice = options.iceServers ?? [];
		this.#me = Object.freeze({
			id: "",
			uid: options.uid ?? "",
			name: options.name ?? "",
			role: options.role ?? "speaker",
			info: options.info ?? null,
			media: nothing,
		});
		this.#server = baseURL(options.server);
		const session = new Session({
			server: this.#server,
			transport: options.transport ?? "auto",
			reconnect: options.reconnect ?? defaultReconnect,
			join: () => this.#joinMessage(),
		});
		this.#session = session;
		session.on("state", (state, error) => this.#sessionState(state, error));
		session.on("pending", (reason) => options.onPending?.(reason));
		session.on("joined", (admission, welcome, again) => this.#joined(admission, welcome, again));
		session.on("resumed", () => this.#wake());
		session.on("message", (message) => this.#message(message));
		session.on("refused", (message, error) => this.#refused(message, error));
		onNetworkHint((hint) => {
			session.probe(probeMs);
			if (hint !== "visible") this.#wake();
		}, this.#end.signal);
		if (typeof window !== "undefined") {
			// A page that goes into the back-forward cache may come back, and resumes then.
			window.addEventListener("pagehide", (event) => event.persisted || void this.leave(), {
				signal: this.#end.signal,
			});
		}
		if (options.media instanceof Promise) {
			options.media.then(
				(media) => this.#state !== "left" && !this.#media && !media.closed && this.publish(media),
				() => {}, // its own promise tells
			);
		} else if (options.media) {
			this.publish(options.media);
		}
		session.start();
	}

	/** The channel's name. */
	get id(): string {
		return this.#options.channel;
	}

	get settings(): ChannelSettings {
		return this.#settings;
	}

	get state(): ChannelState {
		return this.#state === "joining" ? "reconnecting" : this.#state;
	}

	get me(): Me {
		return this.#me;
	}

	get peers(): ReadonlyMap<string, Peer> {
		return this.#peers;
	}

	/** What is published, or `null`. */
	get media(): LocalMedia | null {
		return this.#media;
	}

	/** The last round trip to the server, in milliseconds; `null` before the first. */
	get rttMs(): number | null {
		return this.#session.rttMs;
	}

	/** The server's base URL, with a slash at its end. */
	get server(): string {
		return this.#server;
	}

	/**
	 * Finds out now, and not at the next heartbeat, whether the server is still reached; if not, another link is opened. For an application whose own
	 * connection stalls, which suggests that the network has changed.
	 */
	probe(): void {
		this.#session.probe(stalledProbeMs);
	}

	/** STUN and TURN servers, with credentials that are valid now. */
	get iceServers(): readonly RTCIceServer[] {
		return this.#ice;
	}

	/** How the server is reached now. */
	get transport(): "websocket" | "sse" | null {
		return this.#session.kind;
	}

	// ---- what is sent

	/** Sends this media to all peers, in place of what was published before. It may be published in several channels. */
	publish(media: LocalMedia): void {
		if (this.#state === "left") throw new MadangError("closed");
		if (this.#media === media) return;
		this.#mediaEnd.abort();
		this.#mediaEnd = new AbortController();
		const { signal } = this.#mediaEnd;
		this.#media = media;
		media.on("track", () => this.#syncMedia(), { signal });
		media.on("changed", () => this.#mediaChanged(), { signal });
		this.#syncMedia();
		this.#mediaChanged();
	}

	/** Sends no media any more. Devices stay as they are: {@link LocalMedia.close} stops them. */
	unpublish(): void {
		if (!this.#media) return;
		this.#mediaEnd.abort();
		this.#media = null;
		this.#syncMedia();
		this.#mediaChanged();
	}

	/** Changes the most that is sent to each peer. */
	setMaxBitrate(limits: BitrateLimits): void {
		this.#options.maxBitrateBps = limits;
		for (const peer of this.#peers.values()) peer.live?.limit();
	}

	// ---- messages

	/** Sends text chat to all, or to some; resolves when the server has taken it. */
	sendChat(text: string, options: SendOptions = {}): Promise<void> {
		return this.sendCommand(chatName, { text }, options);
	}

	/** Sends a message of the application's own, with a name of 1 to 64 characters and any JSON value. */
	sendCommand(name: string, data: unknown = null, options: SendOptions = {}): Promise<void> {
		const { to, signal } = options;
		const list = to === undefined ? undefined : (Array.isArray(to) ? to : [to]).map(idOf);
		return this.#session.request({ type: "command", name, data, ...(list ? { to: list } : {}) }, signal);
	}

	/** Changes what the others see of this peer. */
	update(
		changes: { name?: string | undefined; info?: unknown },
		options: { signal?: AbortSignal | undefined } = {},
	): Promise<void> {
		const sent = this.#session.request({ type: "update", ...changes }, options.signal);
		return quiet(sent.then(() => this.#setMe(changes)));
	}

	/** Lets somebody in who rings or waits. */
	accept(peer: Peer | string, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		return this.#session.request({ type: "accept", peer: idOf(peer) }, options.signal);
	}

	reject(
		peer: Peer | string,
		reason: "rejected" | "busy" = "rejected",
		options: { signal?: AbortSignal | undefined } = {},
	): Promise<void> {
		return this.#session.request({ type: "reject", peer: idOf(peer), reason }, options.signal);
	}

	/** Hosts only: removes a peer, which cannot come back for `banMs` (default: ten minutes). */
	kick(
		peer: Peer | string,
		options: { reason?: string | undefined; banMs?: number | undefined; signal?: AbortSignal | undefined } = {},
	): Promise<void> {
		const { signal, ...rest } = options;
		return this.#session.request({ type: "kick", peer: idOf(peer), ...rest }, signal);
	}

	/** Hosts only. */
	setRole(peer: Peer | string, role: Role, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		return this.#session.request({ type: "set-role", peer: idOf(peer), role }, options.signal);
	}

	/** Hosts only: changes the channel's settings. */
	configure(settings: Partial<ChannelSettings>, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		return this.#session.request({ type: "configure", ...settings }, options.signal);
	}

	/** The figures of all connections, by peer id. */
	async stats(options: { signal?: AbortSignal | undefined } = {}): Promise<ReadonlyMap<string, PeerStats>> {
		const peers = [...this.#peers.values()];
		const all = await abortable(Promise.all(peers.map((peer) => peer.stats())), options.signal);
		return new Map(peers.map((peer, index) => [peer.id, all[index] as PeerStats]));
	}

	/**
	 * Leaves: tells the server, closes all connections, ends all events. Local media goes on, since it is the application's. Works in every state,
	 * any number of times.
	 */
	leave(): Promise<void> {
		this.#session.leave();
		return Promise.resolve();
	}

	// ---- the session

	async #joinMessage(): Promise<JoinMessage> {
		const { channel, key, token, uid, role, ring } = this.#options;
		return {
			type: "join",
			version: 1,
			channel,
			key,
			token: typeof token === "function" ? await token() : token,
			instance: this.#instance,
			uid,
			role,
			ring: this.#state === "joining" ? ring : undefined, // once let in, a restart of the server does not ask again
			name: this.#me.name || undefined,
			info: this.#me.info ?? undefined,
			media: this.#me.media,
		};
	}

	#sessionState(state: Session["state"], error?: MadangError): void {
		if (state === "ended") {
			const first = this.#state === "joining";
			this.#finish();
			if (first) this.#first.failed(error ?? new MadangError("closed"));
			else this.emit("state", "left", error);
		} else if (state === "reconnecting") {
			this.#state = "reconnecting";
			this.emit("state", "reconnecting", error);
		} else if (state === "joined" && this.#state === "reconnecting") {
			this.#state = "joined";
			this.emit("state", "joined");
		}
	}

	#finish(): void {
		this.#state = "left";
		this.#end.abort();
		this.#mediaEnd.abort();
		this.#media = null;
		clearTimeout(this.#statsTimer);
		for (const timer of this.#awaited.values()) clearTimeout(timer);
		this.#awaited.clear();
		for (const { peer, timer } of this.#lingering.values()) {
			clearTimeout(timer);
			peer.close();
		}
		this.#lingering.clear();
		for (const peer of this.#peers.values()) peer.close();
		this.#peers.clear();
		this.#ringing.clear();
	}

	#joined(admission: Admission, welcome: Welcome, again: boolean): void {
		this.#windowMs = welcome.windowMs;
		this.#setSettings(admission.channel);
		this.#setIce(admission.ice);
		this.#setMe({ id: welcome.peer, uid: welcome.uid, ...(admission.role ? { role: admission.role } : {}) });
		const listed = new Set<string>();
		if (again) {
			// The server may have been restarted: whoever is missing is perhaps on the way back, like us.
			for (const wire of admission.peers ?? []) listed.add(wire.id);
			for (const id of this.#peers.keys()) {
				if (listed.has(id) || this.#awaited.has(id)) continue;
				this.#awaited.set(
					id,
					setTimeout(() => this.#peerLeft(id, "lost"), this.#windowMs),
				);
			}
		}
		for (const wire of admission.peers ?? []) this.#peerJoined(wire);
		if (this.#ended) return;
		if (!again) {
			this.#state = "joined";
			this.#planStats();
			this.#first.joined();
		}
	}

	/** For the compiler: a listener may have left meanwhile. */
	get #ended(): boolean {
		return this.#state === "left";
	}

	#message(message: ServerMessage): void {
		switch (message.type) {
			case "peer-joined":
				this.#peerJoined(message.peer as WirePeer);
				return;
			case "peer-left":
				this.#peerLeft(String(message.peer), String(message.reason));
				return;
			case "peer-updated": {
				const wire = message.peer as WirePeer;
				if (wire?.id === this.#me.id) {
					const { name, role, info } = wire;
					this.#setMe({
						...(name !== undefined ? { name } : {}),
						...(role !== undefined ? { role } : {}),
						...(info !== undefined ? { info } : {}),
					});
				} else {
					this.#peers.get(wire?.id)?.update(wire);
				}
				return;
			}
			case "signal":
				this.#signal(this.#peers.get(String(message.from)), message.data);
				return;
			case "command":
				this.#command(message);
				return;
			case "ring": {
				const wire = message.peer as WirePeer;
				if (typeof wire?.id !== "string") return;
				const peer = this.#newPeer(wire);
				this.#ringing.set(wire.id, peer);
				this.emit("ring", peer, String(message.reason));
				return;
			}
			case "ring-ended": {
				const id = String(message.peer);
				const peer = this.#ringing.get(id) ?? this.#peers.get(id);
				if (message.reason !== "accepted") this.#ringing.delete(id);
				if (peer) this.emit("ring-ended", peer, String(message.reason));
				return;
			}
			case "channel":
				this.#setSettings(message.channel as Admission["channel"]);
				return;
			case "ice":
				this.#setIce(message.ice as Admission["ice"]);
				for (const peer of this.#peers.values()) peer.live?.updateIceServers();
				return;
		}
	}

	#signal(peer: Peer | undefined, data: unknown): void {
		if (this.#foreign(data)) peer?.emit("signal", data);
		else peer?.live?.receive(data as SignalData);
	}

	/** Whether a signal is not about the connection to the peer, but about something else that the two have with each other. */
	#foreign(data: unknown): boolean {
		const transfer = typeof data === "object" && data !== null && "transfer" in data;
		return transfer || this.#options.connect === false;
	}

	#command(message: ServerMessage): void {
		const from = this.#peers.get(String(message.from)) ?? null;
		const { name, data } = message;
		if (typeof name !== "string") return;
		const isPrivate = Array.isArray(message.to);
		const text = (data as { text?: unknown } | null | undefined)?.text;
		if (name === "playrtc.ready" && from && !this.#options.face) {
			// An old client with ring waits for a word before it offers. This application knows no ring of members.
			void quiet(this.sendCommand("playrtc.on_ready", { status: "yes" }, { to: from }));
		} else if (name === chatName) {
			if (typeof text === "string") this.emit("chat", { from, text, at: Date.now(), private: isPrivate });
		} else {
			this.emit("command", { from, name, data: data ?? null, private: isPrivate });
		}
	}

	#refused(message: object, error: MadangError): void {
		const { type, to, data } = message as { type?: string; to?: unknown; data?: unknown };
		if (type === "signal") {
			if (error.code === "peer_not_found") return; // gone meanwhile, which another message says
			if (error.code === "rate_limited") {
				const peer = this.#peers.get(String(to));
				setTimeout(() => {
					if (!peer || this.#peers.get(peer.id) !== peer) return;
					if (this.#foreign(data)) peer.signal(data);
					else peer.live?.repeat(data as SignalData);
				}, error.retryAfterMs ?? 1_000);
				return;
			}
		}
		this.emit("error", error);
	}

	// ---- peers

	#newPeer(wire: WirePeer): Peer {
		const channel = this;
		const { face } = this.#options;
		const playrtc = playrtcInfo(wire.info);
		const host: PeerHost = {
			wire: playrtc?.wire === "v3",
			framed: face ? face.data(wire.info) : playrtc !== null && playrtc.data !== false,
			holds: (peer, offers) => face?.holds(peer, offers) ?? false,
			link: async (peer, reopen) => {
				if (face) return face.link(peer, reopen);
				const { linkTo } = await loadFramed();
				return linkTo(this.#me.id, peer, reopen, {
					message: (message) => {
						if (message.type === "text") peer.emit("message", message.data);
						else peer.emit("file", message.blob);
					},
				});
			},
			uses: (source) => {
				const { audio, video } = this.#me.media;
				return (source === "microphone" ? audio : video) !== "off";
			},
			iceTransportPolicy: this.#options.iceTransportPolicy ?? "all",
			codecs: this.#options.codecs ?? {},
			get maxBitrateBps() {
				return channel.#options.maxBitrateBps ?? {};
			},
			iceServers: () => this.#ice,
			signal: (data) => this.#session.post({ type: "signal", to: wire.id, data }),
			track: (source: Source) => this.#media?.track(source) ?? null,
			maySend: () => this.#me.role !== "viewer",
			online: () => this.#session.state === "joined",
			refreshIce: () => this.#session.post({ type: "ice" }),
			stalled: () => this.probe(),
			problem: (error) => this.emit("error", error),
		};
		return new Peer(host, wire);
	}

	#peerJoined(wire: WirePeer): void {
		if (typeof wire?.id !== "string" || wire.id === this.#me.id || this.#ended) return;
		const { id } = wire;
		clearTimeout(this.#awaited.get(id));
		this.#awaited.delete(id);
		const lingering = this.#lingering.get(id);
		if (lingering) {
			clearTimeout(lingering.timer);
			this.#lingering.delete(id);
		}
		const known = this.#peers.get(id);
		const peer = known ?? lingering?.peer ?? this.#ringing.get(id) ?? this.#newPeer(wire);
		this.#ringing.delete(id);
		this.#peers.set(id, peer);
		peer.update(wire);
		if (this.#options.connect !== false) peer.connect(wire.polite !== false, wire.offer === true, this.#me.media);
		if (!known) this.emit("peer-joined", peer);
	}

	#peerLeft(id: string, reason: string): void {
		clearTimeout(this.#awaited.get(id));
		this.#awaited.delete(id);
		const peer = this.#peers.get(id);
		if (!peer) return;
		this.#peers.delete(id);
		if (reason === "left" || reason === "kicked" || reason === "closed") {
			peer.close();
		} else {
			const timer = setTimeout(() => {
				this.#lingering.delete(id);
				peer.close();
			}, lingerMs);
			this.#lingering.set(id, { peer, timer });
		}
		this.emit("peer-left", peer, reason);
	}

	#wake(): void {
		for (const peer of this.#peers.values()) peer.live?.wake();
	}

	// ---- what is known

	#setIce(ice: Admission["ice"]): void {
		if (Array.isArray(ice?.servers) && !this.#options.iceServers) this.#ice = ice.servers;
	}

	#setSettings(channel: Admission["channel"]): void {
		if (!channel) return;
		const former = this.#settings;
		const { locked = former.locked, waitingRoom = former.waitingRoom, capacity = former.capacity } = channel;
		if (locked === former.locked && waitingRoom === former.waitingRoom && capacity === former.capacity) return;
		this.#settings = Object.freeze({ locked, waitingRoom, capacity });
		this.emit("settings", this.#settings);
	}

	#setMe(changes: { [Member in keyof Me]?: Me[Member] | undefined }): void {
		const me = { ...this.#me };
		for (const [member, value] of Object.entries(changes)) {
			if (value !== undefined) (me as Record<string, unknown>)[member] = value;
		}
		const role = this.#me.role;
		this.#me = Object.freeze(me);
		if (me.role !== role) this.#syncMedia();
		this.emit("me", this.#me);
	}

	#syncMedia(): void {
		for (const peer of this.#peers.values()) peer.live?.sync();
	}

	#mediaChanged(): void {
		const state = this.#media?.state ?? nothing;
		const former = this.#me.media;
		if (state.audio === former.audio && state.video === former.video && state.screen === former.screen) return;
		this.#setMe({ media: state });
		for (const peer of this.#peers.values()) peer.live?.tell(state);
		if (this.#state !== "joining") this.#session.post({ type: "update", media: state });
	}

	#planStats(): void {
		const hidden = typeof document !== "undefined" && document.visibilityState === "hidden";
		this.#statsTimer = setTimeout(
			async () => {
				await Promise.all([...this.#peers.values()].map((peer) => peer.tick()));
				if (!this.#ended) this.#planStats();
			},
			hidden ? statsHiddenMs : statsMs,
		);
	}
}

/** What PlayRTC's clients say of themselves; `null` for others. */
function playrtcInfo(info: unknown): { wire?: unknown; data?: unknown } | null {
	const playrtc = (info as { playrtc?: unknown } | null | undefined)?.playrtc;
	return typeof playrtc === "object" ? playrtc : null;
}

function idOf(peer: Peer | string): string {
	return typeof peer === "string" ? peer : peer.id;
}

/** Comes with the first PlayRTC peer, which most pages never meet. The build for classic scripts is one file, and finds the module beside it. */
const loadFramed = (): Promise<typeof import("./framed.js")> =>
	import.meta.url ? import("./framed.js") : import(/* @vite-ignore */ new URL("framed.js", loadedFrom).href);
