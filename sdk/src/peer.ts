import { abortable } from "./abort.js";
import { Connection, type ConnectionHost, type ConnectionState } from "./connection.js";
import { type Data, DataLink, type DataOptions } from "./data.js";
import { Emitter } from "./emitter.js";
import { aborted, MadangError, quiet } from "./errors.js";
import type { FramedLink } from "./framed.js";
import { Judge, noStats, type PeerStats, type Quality, StatsReader } from "./stats.js";
import {
	type MediaState,
	type MediaStates,
	type Role,
	type SignalData,
	type Source,
	sources,
	type WirePeer,
} from "./wire.js";

/** A track that a peer sends. */
export class RemoteTrack {
	readonly source: Source;
	readonly kind: "audio" | "video";
	readonly mediaTrack: MediaStreamTrack;
	/** A stream with this track alone, ready for `srcObject`. The browser keeps sound and picture of a peer in time all the same. */
	readonly stream: MediaStream;
	readonly #muted: () => boolean;

	/** @internal */
	constructor(source: Source, mediaTrack: MediaStreamTrack, muted: () => boolean) {
		this.source = source;
		this.kind = mediaTrack.kind as "audio" | "video";
		this.mediaTrack = mediaTrack;
		this.stream = new MediaStream([mediaTrack]);
		this.#muted = muted;
	}

	/** The peer has muted it; the peer's `updated` event tells of changes. */
	get muted(): boolean {
		return this.#muted();
	}
}

export type PeerEvents = {
	track: [track: RemoteTrack];
	"track-ended": [track: RemoteTrack];
	/** Name, role, info or media state have changed. */
	updated: [peer: Peer];
	connection: [state: ConnectionState];
	/** The peer has opened a data channel. Add listeners to the link at once, so that its first message is not missed. */
	data: [link: DataLink];
	/** What the peer has sent with {@link Peer.send}. */
	message: [data: string | ArrayBuffer];
	/** A file from a PlayRTC page or app. */
	file: [file: File];
	/** What the peer has sent with {@link Peer.signal}. */
	signal: [data: unknown];
	/** A new judgement, about once a second. */
	quality: [quality: Quality];
};

/** What a peer needs from the channel. */
export interface PeerHost extends ConnectionHost {
	/** Whether the connection waits until {@link Peer.begin}, or until the other side offers. */
	holds(peer: Peer, offers: boolean): boolean;
	/** Makes the link to a peer with PlayRTC's framing. */
	link(peer: Peer, reopen: () => void): Promise<FramedLink>;
}

/** The data channel of {@link Peer.send}. */
const plainLabel = "madang.message";

/**
 * The peer itself tells what it sends, on the data channel, before the server does. For so long after that, the server's word may be about an earlier
 * change; what it says last counts.
 */
const slowMs = 1_000;

/** Another member of the channel. */
export class Peer extends Emitter<PeerEvents> {
	readonly id: string;
	readonly #host: PeerHost;
	#uid = "";
	#name = "";
	#role: Role = "speaker";
	#info: unknown = null;
	#media: MediaStates = { audio: "off", video: "off", screen: "off" };
	#tellsMedia = false;
	#hintAtMs = Number.NEGATIVE_INFINITY;
	#slowTimer: ReturnType<typeof setTimeout> | undefined;
	#connection: Connection | null = null;
	#closed = false;
	#offers = false;
	readonly #tracks = new Map<Source, RemoteTrack>();
	readonly #links = new Set<DataLink>();
	#plain: Promise<DataLink> | null = null;
	#framed: Promise<FramedLink> | null = null;
	#reader = new StatsReader();
	#judge = new Judge();
	#quality: Quality = { ...noStats, grade: "lost", reason: "disconnected" };
	#latest: PeerStats = noStats;
	#reading: Promise<PeerStats> | null = null;

	/** @internal */
	constructor(host: PeerHost, wire: WirePeer) {
		super();
		this.id = wire.id;
		this.#host = host;
		this.#read(wire);
	}

	/** The application's name for the user; empty where it gave none. */
	get uid(): string {
		return this.#uid;
	}

	/**
	 * Of the two, this side makes the first offer.
	 * @internal
	 */
	get offers(): boolean {
		return this.#offers;
	}

	get name(): string {
		return this.#name;
	}

	get role(): Role {
		return this.#role;
	}

	/** What the peer's application has said about it; `null` if nothing. */
	get info(): unknown {
		return this.#info;
	}

	get media(): MediaStates {
		return this.#media;
	}

	get connection(): ConnectionState {
		return this.#closed ? "closed" : (this.#connection?.state ?? "new");
	}

	get tracks(): ReadonlyMap<Source, RemoteTrack> {
		return this.#tracks;
	}

	/** The last judgement; before the first one it is `lost`, `disconnected`. */
	get quality(): Quality {
		return this.#quality;
	}

	/** Takes the figures now. Rates are over the time since the last taking, which the SDK does once a second. */
	stats(options: { signal?: AbortSignal | undefined } = {}): Promise<PeerStats> {
		this.#reading ??= this.#takeStats().finally(() => {
			this.#reading = null;
		});
		return quiet(abortable(this.#reading, options.signal));
	}

	/** Opens a data channel; resolves when it is open. It lives as long as the connection: when that has to be made anew, the link closes. */
	openData(label: string, options: DataOptions = {}): Promise<DataLink> {
		return quiet(this.#openData(label, options));
	}

	/**
	 * Sends a message on a data channel that all such messages share, ordered and reliable. It arrives as the event `message`. Peers with PlayRTC pages
	 * and apps take texts of any length, and everything else as a file.
	 */
	send(data: Data | File, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		if (this.#host.framed) return quiet(this.#sendFramed(data, options.signal));
		if (data instanceof Blob) return quiet(Promise.reject(new MadangError("unsupported")));
		const link = this.#plain ?? this.#openPlain();
		return quiet(abortable(link, options.signal).then((open) => open.send(data, options)));
	}

	/**
	 * Sends any JSON value to the peer through the server, which does not look at it; it arrives as the event `signal`. In a channel that makes
	 * connections (see `connect` of `JoinOptions`), `data` must be an object with the member `transfer`: all else is about the connection.
	 */
	signal(data: unknown): void {
		this.#host.signal(data as SignalData);
	}

	/** Lets ICE look for a path again. The SDK does so by itself when it is needed. */
	restartIce(): void {
		this.#connection?.restartIce();
	}

	// ---- for the channel

	/** @internal */
	get live(): Connection | null {
		return this.#connection;
	}

	/**
	 * Takes what the server says about the peer.
	 * @internal
	 */
	update(wire: WirePeer): void {
		const { media, ...rest } = wire;
		clearTimeout(this.#slowTimer);
		const waitMs = this.#hintAtMs + slowMs - performance.now();
		if (!media || waitMs <= 0) {
			this.#apply(wire);
			return;
		}
		this.#apply(rest);
		this.#slowTimer = setTimeout(() => this.#apply({ id: this.id, media }), waitMs);
	}

	#apply(wire: WirePeer): void {
		if (this.#read(wire)) this.emit("updated", this);
		this.#syncTracks();
	}

	/**
	 * Begins, or goes on with, the connection.
	 * @internal
	 */
	connect(polite: boolean, offer: boolean, media: MediaStates): void {
		if (this.#closed) return;
		let connection = this.#connection;
		if (connection && connection.state !== "closed") {
			// The server was restarted, or the peer came back: the connection has not noticed.
			connection.polite = polite;
			connection.resend();
			return;
		}
		connection = new Connection(this.#host, polite);
		this.#connection = connection;
		const mine = connection;
		mine.on("state", (state) => {
			if (this.#connection !== mine) return;
			this.emit("connection", state);
			if (state === "interrupted" || state === "failed") this.#regrade();
		});
		mine.on("tracks", () => this.#connection === mine && this.#syncTracks());
		mine.on("data", (channel) => this.#connection === mine && this.#accept(channel));
		mine.on("framed", (channel) => this.#connection === mine && this.#frame(channel));
		mine.on("hint", (hint) => {
			if (this.#connection !== mine) return;
			this.#hintAtMs = performance.now();
			clearTimeout(this.#slowTimer);
			this.#apply({ id: this.id, media: hint });
		});
		mine.on("replaced", () => {
			this.#reader = new StatsReader();
			this.#dropLinks();
		});
		mine.tell(media);
		if (this.#host.holds(this, offer)) return;
		if (offer) mine.start();
		else mine.expect();
	}

	/**
	 * Makes the first offer to a peer that was held.
	 * @internal
	 */
	begin(): void {
		this.#connection?.start();
	}

	/** @internal */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		clearTimeout(this.#slowTimer);
		const connection = this.#connection;
		connection?.close();
		this.#connection = null;
		this.#syncTracks();
		this.#dropLinks();
		void this.#framed?.then((link) => link.close());
		if (connection) this.emit("connection", "closed");
	}

	/**
	 * Takes and judges the figures.
	 * @internal
	 */
	async tick(): Promise<void> {
		if (this.#closed || !this.#connection?.pc || this.#connection.state === "connecting") return;
		await this.stats();
		this.#regrade();
	}

	#regrade(): void {
		if (this.#closed) return;
		this.#quality = this.#judge.judge(this.#latest, this.connection, this.#media);
		this.emit("quality", this.#quality);
	}

	async #takeStats(): Promise<PeerStats> {
		const connection = this.#connection;
		const pc = connection?.pc;
		if (!pc || !connection) return noStats;
		const reader = this.#reader;
		try {
			const reports = await pc.getStats();
			if (connection.pc === pc) this.#latest = reader.read(reports.values(), connection.mids());
		} catch {
			// Closed meanwhile.
		}
		return this.#latest;
	}

	#read(wire: WirePeer): boolean {
		const before = [this.#uid, this.#name, this.#role, this.#info, ...Object.values(this.#media)];
		if (wire.offer !== undefined) this.#offers = wire.offer;
		if (typeof wire.uid === "string") this.#uid = wire.uid;
		if (typeof wire.name === "string") this.#name = wire.name;
		if (wire.role === "host" || wire.role === "speaker" || wire.role === "viewer") this.#role = wire.role;
		if (wire.info !== undefined) this.#info = wire.info;
		if (wire.media && !this.#host.wire) {
			this.#tellsMedia = true;
			const { audio, video, screen } = wire.media;
			const former = this.#media;
			this.#media = Object.freeze({
				audio: isState(audio) ? audio : former.audio,
				video: isState(video) ? video : former.video,
				screen: isState(screen) ? screen : former.screen,
			});
		}
		const after = [this.#uid, this.#name, this.#role, this.#info, ...Object.values(this.#media)];
		return after.some((value, index) => value !== before[index]);
	}

	/** What the peer says about a source. */
	#stateOf(source: Source): MediaState {
		if (!this.#tellsMedia) return "on"; // a client that does not tell
		if (source === "microphone") return this.#media.audio;
		return source === "camera" ? this.#media.video : this.#media.screen;
	}

	/** A track is there when the connection receives its medium and the peer says that it sends it. */
	#syncTracks(): void {
		const received = this.#connection?.received() ?? new Map<Source, MediaStreamTrack>();
		for (const source of sources) {
			const former = this.#tracks.get(source);
			const mediaTrack = this.#stateOf(source) === "off" ? undefined : received.get(source);
			if (former?.mediaTrack === mediaTrack) continue;
			if (former) {
				this.#tracks.delete(source);
				this.emit("track-ended", former);
			}
			if (mediaTrack && !this.#closed) {
				const track = new RemoteTrack(source, mediaTrack, () => this.#stateOf(source) === "muted");
				this.#tracks.set(source, track);
				this.emit("track", track);
			}
		}
	}

	// ---- data channels

	#accept(channel: RTCDataChannel): void {
		// One that the other side has opened is the one to use: an old SDK does not hear ours.
		if (this.#host.framed && (channel.label === "channel" || channel.label === "datachannel")) {
			this.#frame(channel);
			return;
		}
		const link = this.#own(new DataLink(channel));
		if (channel.label === plainLabel) link.on("message", (data) => this.emit("message", data));
		else this.emit("data", link);
	}

	/** Gives a channel to the framing, which may have to be loaded first. */
	#frame(channel: RTCDataChannel): void {
		const early: ArrayBuffer[] = [];
		channel.binaryType = "arraybuffer";
		channel.onmessage = ({ data }) => early.push(data as ArrayBuffer);
		void this.#framing().then((link) => link.use(channel, early));
	}

	#framing(): Promise<FramedLink> {
		this.#framed ??= quiet(
			this.#host.link(this, () => {
				const connection = this.#connection;
				if (!connection || connection.polite || this.#host.wire) return; // one of the two opens it
				const channel = connection.createDataChannel("channel", {});
				if (channel) this.#frame(channel);
			}),
		);
		return this.#framed;
	}

	async #sendFramed(data: Data | File, signal: AbortSignal | undefined): Promise<void> {
		const link = await abortable(this.#framing(), signal);
		const sent = new Promise<void>((resolve, reject) => {
			const failed = (cause: unknown) => reject(new MadangError("closed", { cause }));
			if (typeof data === "string") link.sendText(data, resolve, failed);
			else link.sendFile(data instanceof File ? data : new File([data], "data"), resolve, failed);
		});
		await abortable(sent, signal); // it is on its way all the same: only the waiting ends
	}

	#own(link: DataLink): DataLink {
		this.#links.add(link);
		link.on("close", () => this.#links.delete(link));
		return link;
	}

	#dropLinks(): void {
		this.#plain = null;
		for (const link of [...this.#links]) link.gone();
	}

	#openPlain(): Promise<DataLink> {
		const opening = quiet(this.#openData(plainLabel, {}));
		this.#plain = opening;
		const forget = () => {
			if (this.#plain === opening) this.#plain = null;
		};
		opening.then((link) => {
			link.on("message", (data) => this.emit("message", data));
			link.on("close", forget);
		}, forget);
		return opening;
	}

	async #openData(label: string, options: DataOptions): Promise<DataLink> {
		const { signal, ordered, maxRetransmits, maxPacketLifeTime, protocol } = options;
		if (signal?.aborted) throw aborted(signal);
		if (label === "madang") throw new MadangError("invalid_field", { message: "The label madang is the SDK's own." });
		const connection = await this.#connected(signal);
		const init: RTCDataChannelInit = {};
		if (ordered !== undefined) init.ordered = ordered;
		if (maxRetransmits !== undefined) init.maxRetransmits = maxRetransmits;
		if (maxPacketLifeTime !== undefined) init.maxPacketLifeTime = maxPacketLifeTime;
		if (protocol !== undefined) init.protocol = protocol;
		let channel: RTCDataChannel | null;
		try {
			channel = connection.createDataChannel(label, init);
		} catch (error) {
			throw new MadangError("invalid_field", { cause: error });
		}
		if (!channel) throw new MadangError("closed");
		const link = this.#own(new DataLink(channel));
		if (channel.readyState === "open") return link;
		const open = new Promise<DataLink>((resolve, reject) => {
			channel.addEventListener("open", () => resolve(link), { once: true });
			link.on("close", () => reject(new MadangError("closed")));
		});
		try {
			return await abortable(open, signal);
		} catch (error) {
			link.gone();
			throw error;
		}
	}

	/** Waits until the connection stands. */
	#connected(signal: AbortSignal | undefined): Promise<Connection> {
		return new Promise((resolve, reject) => {
			const done = new AbortController();
			const look = () => {
				if (this.#closed) {
					done.abort();
					reject(new MadangError("closed"));
				} else if (this.#connection?.state === "connected") {
					done.abort();
					resolve(this.#connection);
				}
			};
			this.on("connection", look, { signal: done.signal });
			signal?.addEventListener(
				"abort",
				() => {
					done.abort();
					reject(aborted(signal));
				},
				{ signal: done.signal },
			);
			look();
		});
	}
}

function isState(value: unknown): value is MediaState {
	return value === "on" || value === "muted" || value === "off";
}
