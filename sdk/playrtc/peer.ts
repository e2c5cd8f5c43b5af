import { tokenOf } from "../src/frame.js";
import type { FileMessage } from "../src/framed.js";
import type { Peer as NativePeer } from "../src/peer.js";
import { Data } from "./data.js";
import { Events } from "./event.js";
import type { Logger } from "./log.js";
import { Media } from "./media.js";
import { type RatingTables, StatsReader, type StatsReport } from "./stats.js";

const leastReportMs = 2_000;

/** What a peer tells its PlayRTC object. @internal */
export interface PeerHost {
	readonly log: Logger;
	readonly ownId: string;
	readonly data: boolean;
	readonly tables: RatingTables;
	/** `again`: it has stood before. */
	state(peer: Peer, state: string, again?: boolean): void;
	failed(peer: Peer): void;
	stream(peer: Peer, stream: MediaStream): void;
	dataOpen(peer: Peer, data: Data): void;
	fileReceived(file: FileMessage | null, ms: number): void;
}

/**
 * Another member of the channel. Events: `signalingstatechange`, `iceconnectionstatechange`, `removestream`, `close`, with the browser's event.
 */
export class Peer extends Events {
	readonly id: string;
	readonly uid: string;
	readonly #native: NativePeer;
	readonly #host: PeerHost;
	readonly #data: Data | undefined;
	readonly #end = new AbortController();
	#media: Media | null = null;
	#pending = false;
	#succeeded = false;
	#tables: RatingTables;
	#pc: RTCPeerConnection | null = null;
	#timer: ReturnType<typeof setInterval> | undefined;

	/** @internal */
	constructor(native: NativePeer, host: PeerHost) {
		super();
		this.#native = native;
		this.#host = host;
		this.#tables = host.tables;
		this.id = tokenOf(native.id);
		this.uid = native.uid;
		if (host.data) {
			const data = new Data(host.ownId, native, (file, ms) => host.fileReceived(file, ms));
			data.on("open", () => host.dataOpen(this, data));
			this.#data = data;
		}
		const { signal } = this.#end;
		native.live?.on("replaced", () => this.#watch(), { signal });
		native.on("connection", () => this.#stateChanged(), { signal });
		native.on("track", () => this.#tracksChanged(), { signal });
		native.on("track-ended", () => this.#tracksChanged(), { signal });
		this.#watch();
		if (native.connection !== "new") this.#stateChanged();
		this.#tracksChanged();
	}

	/** @internal */
	get native(): NativePeer {
		return this.#native;
	}

	getDataChannel(): Data | undefined {
		return this.#data;
	}

	/** What the peer sends; `null` before its stream is there. */
	getMedia(): Media | null {
		return this.#media;
	}

	/** `null` once closed. */
	getPeerConnection(): RTCPeerConnection | null {
		return this.#native.live?.pc ?? null;
	}

	/** Gives the browser's statistics as a list, or `false` where no media flows. */
	getStats(fn: (stats: unknown[] | false) => void): void {
		const pc = this.getPeerConnection();
		if (!pc) {
			fn(false);
			return;
		}
		pc.getStats().then(
			(report) => {
				const list = [...(report as unknown as ReadonlyMap<string, { type: string }>).values()];
				fn(list.some(({ type }) => type === "inbound-rtp" || type === "outbound-rtp") ? list : false);
			},
			() => fn(false),
		);
	}

	/** Calls `fn` with a report every `interval` milliseconds, 2000 at least. */
	startStatsReport(interval: number, fn: (this: Peer, report: StatsReport) => void): void {
		this.stopStatsReport();
		const reader = new StatsReader(this.#tables);
		const read = async () => {
			const report = await this.getPeerConnection()?.getStats();
			return report && reader.read(report as unknown as ReadonlyMap<string, unknown>);
		};
		read().catch(() => {}); // what was lost until now is not of the first interval
		const timer = setInterval(
			() => {
				read().then(
					(report) => {
						if (report && this.#timer === timer) fn.call(this, report);
					},
					() => {}, // closed meanwhile
				);
			},
			Math.max(leastReportMs, Number(interval) || 0),
		);
		this.#timer = timer;
	}

	stopStatsReport(): void {
		clearInterval(this.#timer);
		this.#timer = undefined;
	}

	/** Ends the connection to this peer. */
	close(): void {
		if (this.#end.signal.aborted) return;
		this.#end.abort();
		this.stopStatsReport();
		this.#data?.link.close();
		this.#native.close();
		this.fire("close", new Event("close"));
	}

	#stateChanged(): void {
		const state = this.#native.connection;
		this.#host.log.trace("Peer", "state", `${this.id} ${state}`);
		switch (state) {
			case "connecting":
				this.#host.state(this, "CHECKING");
				return;
			case "connected":
				if (this.#succeeded) {
					this.#host.state(this, "CONNECTED", true);
					return;
				}
				this.#succeeded = true;
				this.#host.state(this, "SUCCESS");
				this.#host.state(this, "CONNECTED");
				return;
			case "interrupted":
				this.#host.state(this, "DISCONNECTED");
				return;
			case "failed":
				this.#host.failed(this);
				return;
			case "closed":
				this.#host.state(this, "CLOSED");
				this.close();
		}
	}

	/** Passes on what the browser's connection says. */
	#watch(): void {
		const pc = this.#native.live?.pc ?? null;
		if (!pc || pc === this.#pc) return;
		this.#pc = pc;
		for (const name of ["signalingstatechange", "iceconnectionstatechange"]) {
			pc.addEventListener(name, (event) => this.#pc === pc && this.fire(name, event), { signal: this.#end.signal });
		}
	}

	/** One stream for each peer: tracks that come together make one event, later ones come into the same stream. */
	#tracksChanged(): void {
		if (this.#pending) return;
		this.#pending = true;
		queueMicrotask(() => {
			this.#pending = false;
			if (this.#end.signal.aborted) return;
			const tracks = (["microphone", "camera"] as const).flatMap(
				(source) => this.#native.tracks.get(source)?.mediaTrack ?? [],
			);
			const stream = this.#media?.getStream() ?? new MediaStream();
			const former = stream.getTracks();
			for (const track of former) if (!tracks.includes(track)) stream.removeTrack(track);
			for (const track of tracks) stream.addTrack(track);
			if (!this.#media && tracks.length > 0) {
				this.#media = new Media(stream, this.#host.log);
				this.#host.stream(this, stream);
			} else if (former.length > 0 && tracks.length === 0) {
				this.fire("removestream", new Event("removestream"));
			}
		});
	}
}
