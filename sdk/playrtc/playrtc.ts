import type { Face } from "../src/channel.js";
import type { MadangError } from "../src/errors.js";
import { tokenOf } from "../src/frame.js";
import { packetBytes } from "../src/framed.js";
import { media as devices, type LocalMedia } from "../src/media.js";
import type { Peer as NativePeer } from "../src/peer.js";
import { Channeling } from "./channeling.js";
import type { Message, SendError, SendSuccess } from "./data.js";
import { Events } from "./event.js";
import { Logger, loggers } from "./log.js";
import { attach, capture, detach, Media, mediaError, number } from "./media.js";
import { Peer, type PeerHost } from "./peer.js";
import { type Allocation, type Failure, Rest, restBase, type Success, socketEnv } from "./rest.js";
import { type RatingTables, ratingTables, type StatsReport } from "./stats.js";
import { apply, Extend, initializes, utils } from "./utils.js";

/** What `new PlayRTC` takes (docs/playrtc.md). */
export interface PlayRTCConfig {
	projectKey: string;
	/** Base URL of the server; default: where the script came from. */
	server?: string;
	ring?: boolean | string;
	iceServers?: (RTCIceServer | { url: string; username?: string; credential?: string })[] | null;
	localMediaTarget?: string | null;
	remoteMediaTarget?: string | null;
	localVideoTarget?: string | null;
	remoteVideoTarget?: string | null;
	audio?: boolean | object;
	video?: boolean | object;
	data?: boolean;
	userMedia?: { audio?: boolean | object; video?: boolean | object };
	dataChannelEnabled?: boolean;
	bandwidth?: { audio?: number | string; video?: number | string; data?: number | string };
	preferCodec?: { audio?: string; video?: string };
	onlyTurn?: boolean;
	logLevel?: string;
}

const defaults = {
	projectKey: null,
	ring: false,
	iceServers: null,
	localMediaTarget: null,
	remoteMediaTarget: null,
	localVideoTarget: null,
	remoteVideoTarget: null,
	audio: true,
	video: true,
	data: true,
	userMedia: { audio: true, video: true },
	dataChannelEnabled: true,
	bandwidth: { audio: 32, video: 1500, data: 1_638_400 },
	preferCodec: { audio: "opus", video: "VP8" },
	onlyTurn: false,
	logLevel: "TRACE",
};

type Config = Omit<typeof defaults, "projectKey" | "iceServers" | "audio" | "video"> & {
	projectKey: string | null;
	server?: string;
	iceServers: PlayRTCConfig["iceServers"];
	audio: boolean | object;
	video: boolean | object;
};

/** One member of the channel. Who rings has no connection yet, and so no peer. */
interface Member {
	/** Forgotten when its call was rejected. */
	uid?: string;
	peer?: Peer;
}

/** The channel that this object is in. Pages look into `peers`. */
interface Calling {
	channelId: string;
	peerId: string;
	peers: Record<string, Member>;
}

/** An attempt to get into a channel, or the stay there. What comes late is about another one, and is dropped. */
interface Stay {
	channeling: Channeling | null;
	natives: Map<string, NativePeer>;
	tables: RatingTables;
}

/** How long the server may take to confirm the end of a channel. */
const deletionMs = 2_000;

/** A PlayRTC application: one local stream, and one channel at a time. */
export class PlayRTC extends Events {
	static readonly version: string = "2.2.15";
	static readonly activeXversion: string = "1,0,0,60";
	static readonly utils: typeof utils = utils;
	static readonly loggers: typeof loggers = loggers;
	static readonly Channeling: typeof Channeling = Channeling;
	static readonly base: Events = Events.prototype;
	/** A subclass, with `initialize(config)` as its constructor. */
	static Extend(members: object): ReturnType<typeof Extend> {
		return Extend(PlayRTC, members);
	}

	/** The channel, from the server's answer on; `null` outside of one. */
	calling: Calling | null = null;
	#config: Config = structuredClone(defaults);
	#log = new Logger("NONE");
	#rest: Rest | null = null;
	#stay: Stay | null = null;
	#media: Media | null = null;
	#local: LocalMedia | null = null;

	constructor(config: PlayRTCConfig) {
		super();
		this.initialize(config);
	}

	/** Takes the configuration; for subclasses made with {@link PlayRTC.Extend}. */
	initialize(config: PlayRTCConfig): void {
		const given = config ?? {};
		this.#config = apply(structuredClone(defaults), given) as unknown as Config;
		// userMedia never had an effect beside audio and video; where those are not given, it is what the page means.
		if (given.userMedia && given.audio === undefined && given.video === undefined) {
			this.#config.audio = given.userMedia.audio ?? true;
			this.#config.video = given.userMedia.video ?? true;
		}
		this.#log = new Logger(this.#config.logLevel);
		const { projectKey, audio, video, data } = this.#config;
		if (!projectKey) {
			this.#log.error("PlayRTC", "initialize", "projectKey is missing");
			return;
		}
		if (!audio && !video && !data) {
			this.#log.error("PlayRTC", "initialize", "one of audio, video and data is needed");
			return;
		}
		this.#rest = new Rest(restBase(this.#config.server), projectKey, this.#log);
	}

	// ---- channels

	/** Makes a channel and enters it. */
	createChannel(options: Record<string, unknown> = {}): void {
		this.#enter("createChannel", "create", options, (rest, success, failure) => rest.create(options, success, failure));
	}

	/** Enters a channel that exists. */
	connectChannel(channelId: string, options: Record<string, unknown> = {}): void {
		if (!channelId) {
			this.#log.warn("PlayRTC", "connectChannel", "no channel id");
			return;
		}
		this.#enter("connectChannel", "connect", options, (rest, success, failure) =>
			rest.connect(channelId, options, success, failure),
		);
	}

	#enter(
		method: string,
		reason: "create" | "connect",
		options: Record<string, unknown>,
		ask: (rest: Rest, success: Success, failure: Failure) => void,
	): void {
		const rest = this.#rest;
		if (!rest || this.#stay) {
			this.#log.warn("PlayRTC", method, rest ? "connected already" : "not configured");
			return;
		}
		const stay: Stay = { channeling: null, natives: new Map(), tables: ratingTables(null) };
		this.#stay = stay;
		const go = () =>
			ask(
				rest,
				(answer: Allocation) => this.#stay === stay && this.#allocated(stay, answer, reason, options),
				(_, body) => {
					if (this.#stay !== stay) return;
					this.close();
					const callType = reason === "create" ? "caller" : "callee";
					const { audioYn, videoYn } = this.#sends();
					const record = { callType, connectTime: Date.now(), networkType: "wired", candidate: "", audioYn, videoYn };
					rest.stat({ type: "p2p", resultCode: "300", ...record });
					this.#fail("C4001", "Failed allocate channel", body);
				},
			);
		const { audio, video } = this.#config;
		if (!audio && !video) {
			go();
			return;
		}
		if (!utils.userMediaSupport) {
			this.close();
			this.#fail("M4001", "Unsupported media");
			return;
		}
		capture(audio, video).then(
			(stream) => {
				if (this.#stay !== stay) {
					for (const track of stream.getTracks()) track.stop();
					return;
				}
				this.#media = new Media(stream, this.#log);
				this.#show("addLocalStream", [stream], stream, true);
				go();
			},
			(error) => {
				if (this.#stay !== stay) return;
				this.close();
				this.#fail(...mediaError(error), error);
			},
		);
	}

	/** The server has given a channel and a token. */
	#allocated(stay: Stay, answer: Allocation, reason: string, options: Record<string, unknown>): void {
		const { channelId, token, configuration, madang } = answer;
		this.calling = { channelId, peerId: token.tokenId, peers: {} };
		this.#log.channel = channelId;
		stay.tables = ratingTables(configuration?.fractionLost);
		const channeling = new Channeling();
		stay.channeling = channeling;
		this.#listen(channeling);
		this.fire("connectChannel", channelId, reason);
		if (this.#stay !== stay) return; // the listener has left
		if (!madang) {
			this.close();
			this.#fail("C4002", "Failed to connect channel's server");
			return;
		}
		const { uid, userName } = (options.peer ?? {}) as { uid?: unknown; userName?: unknown };
		const { bandwidth, preferCodec, iceServers, onlyTurn, data } = this.#config;
		void this.#publication().then((media) => {
			if (this.#stay !== stay) return;
			channeling.open(
				{
					server: madang.signal,
					channel: madang.channel,
					key: madang.key,
					instance: madang.instance,
					uid: typeof uid === "string" && uid !== "" ? uid : undefined,
					name: typeof userName === "string" && userName !== "" ? userName : undefined,
					info: { playrtc: { env: socketEnv, userName, packet: packetBytes, data: Boolean(data) } },
					media,
					iceServers: Array.isArray(iceServers) && iceServers.length > 0 ? iceServers.map(modernServer) : undefined,
					iceTransportPolicy: onlyTurn ? "relay" : "all",
					codecs: { audio: [preferCodec.audio], video: [preferCodec.video] },
					maxBitrateBps: { audio: bitrate(bandwidth.audio), video: bitrate(bandwidth.video) },
				},
				this.#face(),
			);
		});
	}

	/** The captured tracks, as the native SDK sends them. */
	async #publication(): Promise<LocalMedia | undefined> {
		if (!this.#media) return undefined;
		const local = await devices.open();
		const [audio, video] = [this.#media.getAudioTrack(), this.#media.getVideoTrack()];
		if (audio) local.setTrack("microphone", audio);
		if (video) local.setTrack("camera", video);
		this.#local = local;
		return local;
	}

	/** The newcomer offers, or rings first; who is there waits for it. */
	#face(): Face {
		return {
			data: (info) => Boolean(this.#config.data) && playrtcOf(info)?.data !== false,
			holds: (native, offers) => playrtcOf(native.info) !== null && (Boolean(this.#config.ring) || !offers),
			link: (native, reopen) => {
				const data = (this.#adopt(native) as Peer).getDataChannel();
				if (!data) throw new TypeError("no data channel was agreed");
				data.reopen = reopen;
				return data.link;
			},
		};
	}

	#listen(channeling: Channeling): void {
		const current =
			(listener: (...args: never[]) => void) =>
			(...args: never[]) => {
				if (this.#stay?.channeling === channeling) listener(...args);
			};
		const on = (name: string, listener: (...args: never[]) => unknown) => channeling.on(name, current(listener));
		const ring = Boolean(this.#config.ring);
		on("joined", (natives: NativePeer[]) => {
			for (const native of natives) {
				this.#know(native);
				// A page of the native SDK knows no ring: it has been called already.
				if (ring && playrtcOf(native.info)) channeling.ready(native);
				else this.#adopt(native);
			}
		});
		on("peer", (native: NativePeer) => {
			this.#know(native);
			if (!ring || !playrtcOf(native.info)) this.#adopt(native);
			// A newcomer without ring offers at once.
			else native.once("connection", () => current(() => native.connection !== "closed" && this.#adopt(native))());
		});
		on("left", (native: NativePeer) => this.#left(native));
		on("ready", (native: NativePeer) => {
			const pid = tokenOf(native.id);
			if (this.hasEvent("ring")) this.fire("ring", pid, this.calling?.peers[pid]?.uid);
			else this.accept(pid);
		});
		on("answer", (native: NativePeer, yes: boolean) => {
			const pid = tokenOf(native.id);
			const uid = this.calling?.peers[pid]?.uid;
			if (yes) {
				this.#adopt(native);
				native.begin();
			}
			this.fire(yes ? "accept" : "reject", pid, uid);
		});
		on("user", (native: NativePeer, data: unknown) => {
			const pid = tokenOf(native.id);
			const member = this.calling?.peers[pid];
			if (member?.peer) this.fire("userCommand", pid, member.uid, data);
		});
		on("refused", (error: MadangError) => {
			// Gone meanwhile: another event says so.
			if (error.code !== "peer_not_found") this.#fail("C4006", "Channel error", error);
		});
		on("failed", (error: MadangError) => this.#ended(error, true));
		on("closed", (error?: MadangError) => this.#ended(error, false));
	}

	#know(native: NativePeer): void {
		if (!this.calling || !this.#stay) return;
		const pid = tokenOf(native.id);
		this.#stay.natives.set(pid, native);
		this.calling.peers[pid] ??= { uid: native.uid };
		// Who was lost for a moment comes back with its connection.
		const peer = this.#lost.get(native);
		this.#lost.delete(native);
		if (!peer) return;
		this.calling.peers[pid] = { uid: native.uid, peer };
		const stream = peer.getMedia()?.getStream();
		if (stream) this.#show("addRemoteStream", [pid, peer.uid, stream], stream, false);
	}

	readonly #lost = new Map<NativePeer, Peer>();

	/** Makes the peer of a connection that is about to be. */
	#adopt(native: NativePeer): Peer | undefined {
		const { calling } = this;
		const stay = this.#stay;
		if (!calling || !stay) return undefined;
		this.#know(native);
		const member = calling.peers[tokenOf(native.id)] as Member;
		if (member.peer) return member.peer;
		const current = (tell: () => void) => this.#stay === stay && tell();
		const host: PeerHost = {
			log: this.#log,
			ownId: ownId(calling.peerId),
			data: Boolean(this.#config.data) && playrtcOf(native.info)?.data !== false,
			tables: stay.tables,
			state: (peer, state, again) =>
				current(() => {
					if (state !== "CONNECTED" || again) this.#report(peer, state);
					this.fire("stateChange", state, peer.id, peer.uid);
				}),
			failed: (peer) =>
				current(() => {
					this.#report(peer, "FAILED");
					this.#fail("P4001", "Failed P2P", { pid: peer.id, uid: peer.uid });
				}),
			stream: (peer, stream) =>
				current(() => this.#show("addRemoteStream", [peer.id, peer.uid, stream], stream, false)),
			dataOpen: (peer, data) => current(() => this.fire("addDataStream", peer.id, peer.uid, data)),
			fileReceived: (file, ms) =>
				current(() =>
					this.#rest?.stat({
						type: "data",
						resultCode: file ? "200" : "601",
						channelId: calling.channelId,
						tokenId: calling.peerId,
						fileRcvSize: file?.totalSize ?? 0,
						fileRcvTime: file ? Math.round(ms) : 0,
					}),
				),
		};
		member.peer = new Peer(native, host);
		return member.peer;
	}

	#left(native: NativePeer): void {
		const { calling } = this;
		const pid = tokenOf(native.id);
		if (!calling) return;
		const member = calling.peers[pid];
		delete calling.peers[pid];
		this.#stay?.natives.delete(pid);
		if (member?.peer && native.connection !== "closed") this.#lost.set(native, member.peer);
		detach(this.#target("remote"));
		this.fire("otherDisconnectChannel", pid, member?.uid);
	}

	/** The membership is over, and not by this page's will. */
	#ended(error: MadangError | undefined, early: boolean): void {
		const { calling } = this;
		this.close();
		const code = error?.code ?? "internal";
		if (code === "kicked" || code === "channel_closed" || code === "left") {
			this.fire("disconnectChannel", calling?.channelId, calling?.peerId);
		} else if (code === "unreachable") {
			if (early) this.#fail("C4002", "Failed to connect channel's server", error);
			else this.#fail("C4007", "Channel's socket error", error);
		} else if (/^(token|key|credentials|origin|address)_/.test(code)) {
			this.#fail("C4004", "Invalid authentication of channel", error);
		} else if (code === "channel_not_found") {
			this.#fail("C4005", "Invalid channel id", error);
		} else {
			this.#fail("C4006", "Channel error", error);
		}
	}

	/** Leaves the channel, or puts another peer out. */
	disconnectChannel(pid?: string): void {
		const { calling } = this;
		if (!calling) return;
		if (pid && pid !== calling.peerId) {
			this.#stay?.channeling?.remove(pid);
			return;
		}
		const { channelId, peerId } = calling;
		this.close();
		setTimeout(() => this.fire("disconnectChannel", channelId, peerId));
	}

	/** Ends the channel for everybody in it. */
	deleteChannel(): void {
		const stay = this.#stay;
		if (!this.calling || !stay) return;
		stay.channeling?.deleteChannel();
		setTimeout(() => {
			if (this.#stay === stay) this.disconnectChannel();
		}, deletionMs);
	}

	/** Ends everything here, without an event. */
	close(): void {
		const { calling } = this;
		const stay = this.#stay;
		this.#stay = null;
		this.calling = null;
		for (const member of Object.values(calling?.peers ?? {})) member.peer?.close();
		for (const peer of this.#lost.values()) peer.close();
		this.#lost.clear();
		stay?.channeling?.close();
		this.#local?.close();
		this.#local = null;
		this.#media?.stop();
		this.#media = null;
		if (stay) {
			detach(this.#target("local"));
			detach(this.#target("remote"));
		}
	}

	destroy(): void {
		this.close();
	}

	// ---- questions to the server

	getChannelList(success: (list: { channels: unknown[] }) => void, error?: Failure): void {
		this.#rest?.list(success as Success, error);
	}

	getChannel(channelId: string, success: (channel: unknown) => void, error?: Failure): void {
		if (channelId) this.#rest?.channel(channelId, success as Success, error);
		else this.#log.warn("PlayRTC", "getChannel", "no channel id");
	}

	getPeerList(channelId: string, success: (list: { peers: unknown[] }) => void, error?: Failure): void {
		if (channelId) this.#rest?.peers(channelId, success as Success, error);
		else this.#log.warn("PlayRTC", "getPeerList", "no channel id");
	}

	getPeer(channelId: string, pid: string, success: (peer: unknown) => void, error?: Failure): void {
		if (channelId && pid) this.#rest?.peer(channelId, pid, success as Success, error);
		else this.#log.warn("PlayRTC", "getPeer", "no channel id or peer id");
	}

	searchChannel(field: string, text: string, success: (found: unknown) => void, error?: Failure): void {
		this.#rest?.search(field, text, success as Success, error);
	}

	// ---- what is here

	getPeerByPeerId(pid: string): Peer | null {
		return this.calling?.peers[pid]?.peer ?? null;
	}

	/** The first one of this user. */
	getPeerByUserId(uid: string): Peer | null {
		return this.getAllPeer()?.find((peer) => peer.uid === uid) ?? null;
	}

	/** `null` outside of a channel. */
	getAllPeer(): Peer[] | null {
		return this.calling && Object.values(this.calling.peers).flatMap(({ peer }) => peer ?? []);
	}

	getPeerId(): string | null {
		return this.calling?.peerId ?? null;
	}

	getChannelId(): string | null {
		return this.calling?.channelId ?? null;
	}

	getMedia(): Media | null {
		return this.#media;
	}

	getConfig(): object {
		return this.#config;
	}

	// ---- data

	/** Sends a text to all, or to the peer or user `id`. `success` and `error` are called for each peer. */
	sendText(
		text: unknown,
		id?: string | SendSuccess,
		success?: SendSuccess | SendError,
		error?: SendError,
	): false | undefined {
		return this.#send(text, id, success, error);
	}

	sendFile(
		file: unknown,
		id?: string | SendSuccess,
		success?: SendSuccess | SendError,
		error?: SendError,
	): false | undefined {
		return this.#send(file, id, success, error);
	}

	/** @deprecated Use {@link PlayRTC.sendText} or {@link PlayRTC.sendFile}. */
	dataSend(
		message: unknown,
		id?: string | SendSuccess,
		success?: SendSuccess | SendError,
		error?: SendError,
	): false | undefined {
		this.#log.warn("PlayRTC", "dataSend", "deprecated: use sendText or sendFile");
		return this.#send(message, id, success, error);
	}

	#send(
		message: Message,
		id: string | SendSuccess | undefined,
		success: SendSuccess | SendError | undefined,
		error: SendError | undefined,
	): false | undefined {
		if (!this.calling || message === undefined || message === null) return false;
		const [done, failed] = typeof id === "function" ? [id, success] : [success, error];
		const one = typeof id === "string" && id !== "" ? this.#find(id) : undefined;
		const peers = one === undefined ? (this.getAllPeer() ?? []) : one ? [one] : [];
		for (const peer of peers) peer.getDataChannel()?.send(message, done, failed);
		return undefined;
	}

	/** By peer id, or else by user id. */
	#find(id: string): Peer | null {
		return this.getPeerByPeerId(id) ?? this.getPeerByUserId(id);
	}

	/** Sends any JSON value through the server, to all or to the peer or user `id`. */
	userCommand(data: unknown, id?: string): false | undefined {
		const channeling = this.#stay?.channeling;
		if (!this.calling || !channeling) return false;
		if (!id) channeling.user(data);
		else {
			const peer = this.#find(id);
			if (peer) channeling.user(data, peer.native);
		}
		return undefined;
	}

	// ---- ring

	/** Takes the call of who rings. */
	accept(pid: string): void {
		this.#answer(pid, true);
	}

	reject(pid: string): void {
		this.#answer(pid, false);
	}

	#answer(pid: string, yes: boolean): void {
		const native = this.#stay?.natives.get(pid);
		if (!native) return;
		if (yes) this.#adopt(native);
		else if (this.calling) this.calling.peers[pid] = {};
		this.#stay?.channeling?.answer(native, yes);
	}

	// ---- statistics

	/** Calls `fn` with a report every `interval` milliseconds. Says whether there is such a peer. */
	startStatsReport(pid: string, interval: number, fn: (this: Peer, report: StatsReport) => void): boolean {
		const peer = this.getPeerByPeerId(pid);
		peer?.startStatsReport(interval, fn);
		return peer !== null;
	}

	stopStatsReport(pid: string): boolean {
		const peer = this.getPeerByPeerId(pid);
		peer?.stopStatsReport();
		return peer !== null;
	}

	/** Layouts belong to channels with a mixer, which this server has not. */
	changeLayoutType(type: string): void {
		this.#log.warn("PlayRTC", "changeLayoutType", `no mixer here to arrange as ${type}`);
	}

	// ---- inside

	#target(side: "local" | "remote"): string | null {
		const { localVideoTarget, localMediaTarget, remoteVideoTarget, remoteMediaTarget } = this.#config;
		return side === "local" ? (localVideoTarget ?? localMediaTarget) : (remoteVideoTarget ?? remoteMediaTarget);
	}

	/** Tells of a stream, and shows it, unless the page does: without a listener, or when the only one says `false`. */
	#show(event: string, args: unknown[], stream: MediaStream, local: boolean): void {
		const shown = !this.hasEvent(event) || this.fire(event, ...args) === false;
		if (shown) attach(this.#target(local ? "local" : "remote"), stream, local);
	}

	#fail(code: string, description: string, ...payload: unknown[]): void {
		this.#log.error("PlayRTC", "error", `${code} ${description}`);
		this.fire("error", code, description, ...payload);
	}

	#sends(): { audioYn: string; videoYn: string } {
		const yes = (wish: unknown) => (wish ? "Y" : "N");
		return { audioYn: yes(this.#config.audio), videoYn: yes(this.#config.video) };
	}

	/** Tells the server's statistics how a connection is doing. */
	#report(peer: Peer, state: string): void {
		const rest = this.#rest;
		const { calling } = this;
		if (!rest || !calling) return;
		const { channelId, peerId: tokenId } = calling;
		const connectTime = Date.now();
		const full = { channelId, tokenId, connectTime, networkType: "wired", ...this.#sends() };
		switch (state) {
			case "SUCCESS":
				peer.native.stats().then(
					({ path }) => rest.stat({ type: "p2p", resultCode: "200", ...full, candidate: path?.local ?? "" }),
					() => {}, // closed meanwhile
				);
				return;
			case "CONNECTED":
				rest.stat({ type: "p2p", resultCode: "202", channelId, tokenId, connectTime });
				return;
			case "DISCONNECTED":
				rest.stat({ type: "p2p", resultCode: "401", channelId, tokenId });
				return;
			case "FAILED":
				rest.stat({ type: "p2p", resultCode: "400", ...full, candidate: "" });
		}
	}
}
initializes(PlayRTC);

function playrtcOf(info: unknown): { data?: unknown } | null {
	const playrtc = (info as { playrtc?: unknown } | null | undefined)?.playrtc;
	return typeof playrtc === "object" ? (playrtc as { data?: unknown } | null) : null;
}

/** A native id of which {@link tokenOf} makes this token. */
function ownId(token: string): string {
	return `p${token.slice(3)}`;
}

/** Kilobits, perhaps as text, in bits. */
function bitrate(kbps: unknown): number | undefined {
	const value = number(kbps);
	return value && value > 0 ? value * 1000 : undefined;
}

/** Old pages say `url`. */
function modernServer(server: RTCIceServer | { url: string; username?: string; credential?: string }): RTCIceServer {
	if (!("url" in server)) return server;
	const { url, ...rest } = server;
	return { urls: url, ...rest };
}
