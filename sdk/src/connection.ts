import { Emitter } from "./emitter.js";
import { MadangError } from "./errors.js";
import { type MediaStates, randomName, type SignalData, type Source } from "./wire.js";

// The connection to one peer (docs/protocol.md §6): an RTCPeerConnection, or several one after the other, with perfect negotiation
// (W3C webrtc-pc §10.7), its repair, and the SDK's own data channel.
//
//   new ──► connecting ──► connected ◄──► interrupted
//               │ ▲             │              │
//               ▼ │             │              ▼
//             failed ◄──────────┼───────── (30 s)          closed: from everywhere, by close() or the other side's word
//
// `failed` is not the end: attempts go on, with growing pauses, until the peer leaves.

/** How the connection to a peer is doing. */
export type ConnectionState = "new" | "connecting" | "connected" | "interrupted" | "failed" | "closed";

/** The most that is sent of each medium, in bits per second. */
export interface BitrateLimits {
	readonly audio?: number | undefined;
	readonly video?: number | undefined;
	readonly screen?: number | undefined;
}

/** Codec names in order of preference, such as `VP9`. The others stay available behind them. */
export interface CodecPreferences {
	readonly audio?: readonly string[] | undefined;
	readonly video?: readonly string[] | undefined;
}

/** What a connection needs from the channel. */
export interface ConnectionHost {
	readonly iceTransportPolicy: RTCIceTransportPolicy;
	readonly codecs: CodecPreferences;
	readonly maxBitrateBps: BitrateLimits;
	iceServers(): RTCIceServer[];
	/** Sends to the peer through the server. */
	signal(data: SignalData): void;
	/** What is to be sent of a source now. */
	track(source: Source): MediaStreamTrack | null;
	/** Whether this peer may send media at all. */
	maySend(): boolean;
	/** Whether this source is in use, though it may be muted now. */
	uses(source: Source): boolean;
	/** The peer speaks PlayRTC's framing on a data channel of its own (./framed.ts). */
	readonly framed: boolean;
	/**
	 * The peer is an old PlayRTC client, on its own wire: one offer by the newcomer and one answer, candidates one by one, and nothing else ever,
	 * neither another offer nor a restart; no data channel but PlayRTC's, since its own could get our id.
	 */
	readonly wire: boolean;
	/** Whether signals reach the server now. */
	online(): boolean;
	/** Asks the server for fresh ICE servers. */
	refreshIce(): void;
	/** Nothing arrives any more: perhaps the network has changed, and the link to the server is dead too. */
	stalled(): void;
	/** Something is wrong that the application should know. */
	problem(error: MadangError): void;
}

/** What the two SDKs tell each other on the data channel `madang`. */
interface Hint {
	beat?: boolean;
	hidden?: boolean;
	closing?: boolean;
	media?: Partial<MediaStates>;
}

export type ConnectionEvents = {
	state: [state: ConnectionState];
	/** The set of received tracks, or the connection itself, has changed. */
	tracks: [];
	data: [channel: RTCDataChannel];
	hint: [media: Partial<MediaStates>];
	/** The data channel for PlayRTC's framing. */
	framed: [channel: RTCDataChannel];
	/** There is another RTCPeerConnection. */
	replaced: [];
};

/** Interval of the beats on the data channel. */
const beatMs = 250;
/** Without a beat for so long, and without other packets, the path is taken for broken. Hidden pages beat once a second at best. */
const silenceMs = 600;
const silenceHiddenMs = 3_500;
/** ICE says "disconnected" for short disturbances too; a restart follows when it lasts. */
const disconnectedMs = 2_000;
/** How long a repair may take before the next one begins: the first, and then longer. */
const repairMs = [3_000, 4_000, 6_000, 10_000, 15_000, 30_000];
/** The polite side leaves the restart to the other for so long, so that the two do not collide. */
const politeMs = 1_200;
/** After so many repairs by ICE restart the whole connection is made anew. */
const restartsBeforeRenewal = 2;
/** After so long without a connection it is called failed. */
const failedMs = 30_000;
/** The first candidate goes at once; those that follow within this time share a message. */
const candidateMs = 25;
/** The most candidates that are taken from one message. */
const candidateLimit = 128;
/** The most often that the other side can make us restart. */
const restartMs = 1_000;
/** A peer that announces an offer but sends none within this time is asked. */
const offerMs = 10_000;
/** So many replaced connections are remembered by name, which is more than are replaced while a peer can be away and come back. */
const formerNames = 16;

/** One RTCPeerConnection and what belongs to it alone. */
class Attempt {
	readonly pc: RTCPeerConnection;
	readonly id: string;
	/** The SDK's own data channel. */
	hints: RTCDataChannel | null = null;
	framed: RTCDataChannel | null = null;
	/** Legacy peers know one stream for each peer. */
	readonly stream = new MediaStream();
	/** What we send on, by source. */
	readonly sending = new Map<Source, RTCRtpTransceiver>();
	/** What the other side sends on, by source. */
	readonly receiving = new Map<Source, RTCRtpTransceiver>();
	/** Everything that concerns descriptions happens one after the other. */
	queue: Promise<void> = Promise.resolve();
	/** Both sides have agreed at least once. */
	agreed = false;
	ignoring = false;
	/** Our candidates wait until the description they belong to has been sent. */
	describing = false;
	candidates: RTCIceCandidateInit[] = [];
	candidateTimer: ReturnType<typeof setTimeout> | undefined;
	everConnected = false;
	readonly startedAtMs = performance.now();

	constructor(id: string, pc: RTCPeerConnection) {
		this.id = id;
		this.pc = pc;
	}

	close(): void {
		clearTimeout(this.candidateTimer);
		const { pc } = this;
		pc.onnegotiationneeded = null;
		pc.onicecandidate = null;
		pc.onconnectionstatechange = null;
		pc.oniceconnectionstatechange = null;
		pc.ondatachannel = null;
		pc.ontrack = null;
		pc.close();
	}
}

export class Connection extends Emitter<ConnectionEvents> {
	/** The server names one side of each pair polite: it gives way when both offer at once. */
	polite: boolean;
	readonly #host: ConnectionHost;
	#attempt: Attempt | null = null;
	/** Names of connections that were replaced: what a peer says about them when it comes back is too late. */
	readonly #former = new Set<string>();
	#state: ConnectionState = "new";
	#closed = false;

	// Repair.
	#repairs = 0;
	#brokenAtMs: number | null = null;
	#askedAtMs = Number.NEGATIVE_INFINITY;
	#restartedAtMs = Number.NEGATIVE_INFINITY; // ICE, by either side, until a path was found
	#repairTimer: ReturnType<typeof setTimeout> | undefined;
	#disconnectedTimer: ReturnType<typeof setTimeout> | undefined;
	#politeTimer: ReturnType<typeof setTimeout> | undefined;
	#offerTimer: ReturnType<typeof setTimeout> | undefined;

	// Beats.
	#beatTimer: ReturnType<typeof setInterval> | undefined;
	#heardAtMs: number | null = null; // null: this peer does not beat
	#peerHidden = false;
	#silent = false; // nothing arrived when we looked, whatever ICE says
	#silentBytes = 0;
	#checking = false;
	#media: Partial<MediaStates> | null = null;

	constructor(host: ConnectionHost, polite: boolean) {
		super();
		this.#host = host;
		this.polite = polite;
	}

	get state(): ConnectionState {
		return this.#state;
	}

	get pc(): RTCPeerConnection | null {
		return this.#attempt?.pc ?? null;
	}

	/** What is received now. */
	received(): Map<Source, MediaStreamTrack> {
		const tracks = new Map<Source, MediaStreamTrack>();
		for (const [source, transceiver] of this.#attempt?.receiving ?? []) {
			const direction = transceiver.currentDirection;
			if (direction === "sendrecv" || direction === "recvonly") tracks.set(source, transceiver.receiver.track);
		}
		return tracks;
	}

	/** Which source a media section carries, by `mid`, in each direction. */
	mids(): { sent: Map<string, Source>; received: Map<string, Source> } {
		const named = (map: ReadonlyMap<Source, RTCRtpTransceiver> = new Map()) =>
			new Map([...map].filter(([, t]) => t.mid !== null).map(([source, t]) => [t.mid as string, source]));
		return { sent: named(this.#attempt?.sending), received: named(this.#attempt?.receiving) };
	}

	// ---- beginning and end

	/** Makes the first offer. */
	start(): void {
		if (this.#closed || this.#attempt) return;
		this.#renew();
	}

	/** Waits for the other side's first offer. */
	expect(): void {
		if (this.#closed || this.#attempt) return;
		this.#setState("connecting");
		clearTimeout(this.#offerTimer);
		if (this.#host.wire) return;
		this.#offerTimer = setTimeout(() => {
			if (!this.#attempt && !this.#closed) this.#renew();
		}, offerMs);
	}

	/** Closes for good. */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#say({ closing: true });
		this.#clearTimers();
		this.#attempt?.close();
		this.#attempt = null;
		this.#setState("closed");
		this.emit("tracks");
	}

	/** Opens a data channel on the present RTCPeerConnection. */
	createDataChannel(label: string, options: RTCDataChannelInit): RTCDataChannel | null {
		return this.#attempt?.pc.createDataChannel(label, options) ?? null;
	}

	#clearTimers(): void {
		clearTimeout(this.#repairTimer);
		clearTimeout(this.#disconnectedTimer);
		clearTimeout(this.#politeTimer);
		clearTimeout(this.#offerTimer);
		clearInterval(this.#beatTimer);
		this.#repairTimer = this.#disconnectedTimer = this.#politeTimer = this.#offerTimer = this.#beatTimer = undefined;
	}

	#setState(state: ConnectionState): void {
		if (this.#state === state) return;
		this.#state = state;
		this.emit("state", state);
	}

	// ---- one RTCPeerConnection

	#open(id: string): Attempt {
		clearTimeout(this.#offerTimer);
		if (this.#attempt) this.#forget(this.#attempt);
		this.#heardAtMs = null;
		this.#silent = false;
		this.#restartedAtMs = Number.NEGATIVE_INFINITY;
		const pc = this.#create(this.#host.iceServers());
		const attempt = new Attempt(id, pc);
		this.#attempt = attempt;
		const current = () => this.#attempt === attempt;
		pc.onnegotiationneeded = () => current() && this.#offer(attempt);
		pc.onicecandidate = ({ candidate }) => current() && this.#candidate(attempt, candidate);
		pc.onconnectionstatechange = () => current() && this.#observe(attempt);
		pc.oniceconnectionstatechange = () => current() && this.#observe(attempt);
		pc.ondatachannel = ({ channel }) => current() && this.emit("data", channel);
		this.#brokenAtMs ??= performance.now();
		if (this.#state === "new" || this.#state === "failed") this.#setState("connecting");
		this.#planRepair();
		this.emit("replaced");
		return attempt;
	}

	#forget(attempt: Attempt): void {
		attempt.close();
		this.#former.add(attempt.id);
		const [oldest] = this.#former;
		if (this.#former.size > formerNames && oldest !== undefined) this.#former.delete(oldest);
	}

	#create(iceServers: RTCIceServer[]): RTCPeerConnection {
		const { iceTransportPolicy } = this.#host;
		try {
			return new RTCPeerConnection({ iceServers, iceTransportPolicy, bundlePolicy: "max-bundle" });
		} catch (cause) {
			// One server that the browser cannot read must not keep two peers of the same network apart.
			this.#host.problem(new MadangError("invalid_field", { message: "The browser refuses the ICE servers.", cause }));
			return new RTCPeerConnection({ iceTransportPolicy, bundlePolicy: "max-bundle" });
		}
	}

	/** Starts a new RTCPeerConnection with an offer of ours. */
	#renew(): void {
		const attempt = this.#open(randomName(9));
		this.#openChannels(attempt);
		this.#arrange(attempt);
		this.#attach(attempt);
	}

	/** The channels that both sides know beforehand: negotiated, so that they also make data channels part of the first offer. */
	#openChannels(attempt: Attempt): void {
		if (this.#host.framed && !attempt.framed) {
			attempt.framed = attempt.pc.createDataChannel("channel", { negotiated: true, id: 1 });
			this.emit("framed", attempt.framed);
		}
		if (!this.#host.wire) this.#openHints(attempt);
	}

	/** For the SDK's own use. */
	#openHints(attempt: Attempt): void {
		if (attempt.hints) return;
		const hints = attempt.pc.createDataChannel("madang", { negotiated: true, id: 0 });
		attempt.hints = hints;
		hints.onopen = () => {
			if (this.#attempt !== attempt) return;
			this.#beat();
			if (this.#media) this.#say({ media: this.#media });
		};
		hints.onmessage = ({ data }) => this.#attempt === attempt && typeof data === "string" && this.#hear(data);
	}

	/** Puts microphone and camera, both ways, into the first offer: later they come and go without negotiation. */
	#arrange(attempt: Attempt): void {
		for (const source of ["microphone", "camera"] as const) {
			if (attempt.sending.has(source)) continue;
			const kind = source === "microphone" ? "audio" : "video";
			const direction = this.#direction(source);
			const transceiver = attempt.pc.addTransceiver(kind, { direction, streams: [attempt.stream] });
			attempt.sending.set(source, transceiver);
			attempt.receiving.set(source, transceiver);
			this.#preferCodecs(transceiver, kind);
		}
	}

	/** What is announced to a legacy peer shows up there at once, and stays as it is; to others, it may come later. */
	#direction(source: Source): RTCRtpTransceiverDirection {
		const sends = this.#host.maySend() && (!this.#host.wire || this.#host.uses(source));
		return sends ? "sendrecv" : "recvonly";
	}

	/** Reorders, and never drops: Firefox leaves feedback lines of dropped codecs in its offer, which Chromium refuses. */
	#preferCodecs(transceiver: RTCRtpTransceiver, kind: "audio" | "video"): void {
		const wanted = this.#host.codecs[kind]?.map((name) => `${kind}/${name}`.toLowerCase());
		const codecs = RTCRtpReceiver.getCapabilities?.(kind)?.codecs;
		if (!wanted?.length || !codecs || !transceiver.setCodecPreferences) return;
		const rank = (codec: { mimeType: string }) => {
			const index = wanted.indexOf(codec.mimeType.toLowerCase());
			return index < 0 ? wanted.length : index;
		};
		try {
			transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
		} catch {
			// A preference that the browser does not take is none.
		}
	}

	// ---- what is sent

	/** The local tracks, or the right to send, have changed. */
	sync(): void {
		const attempt = this.#attempt;
		if (attempt) this.#attach(attempt);
	}

	#attach(attempt: Attempt): void {
		const { pc } = attempt;
		const maySend = this.#host.maySend();
		for (const source of ["microphone", "camera"] as const) {
			const transceiver = attempt.sending.get(source);
			if (!transceiver) continue;
			const direction = this.#direction(source);
			// Setting it again would be without effect; setting another one negotiates.
			if (
				transceiver.direction !== direction &&
				transceiver.direction !== "stopped" &&
				!(this.#host.wire && attempt.agreed)
			) {
				transceiver.direction = direction;
			}
			this.#replaceTrack(attempt, transceiver, maySend ? this.#host.track(source) : null);
			if (this.#host.wire) transceiver.sender.setStreams?.(attempt.stream);
		}
		if (this.#host.wire) return; // a screen would need another offer
		for (const source of ["screen", "screen-audio"] as const) {
			const track = maySend ? this.#host.track(source) : null;
			let transceiver = attempt.sending.get(source);
			if (!transceiver) {
				// Before the first agreement it would have to be guessed which side's offer stands.
				if (!track || !attempt.agreed) continue;
				transceiver = pc.addTransceiver(track, { direction: "sendonly", streams: [new MediaStream([track])] });
				attempt.sending.set(source, transceiver);
				this.#preferCodecs(transceiver, track.kind as "audio" | "video");
				continue;
			}
			const direction = track ? "sendonly" : "inactive";
			if (transceiver.direction !== direction && transceiver.direction !== "stopped") transceiver.direction = direction;
			this.#replaceTrack(attempt, transceiver, track);
		}
	}

	#replaceTrack(attempt: Attempt, { sender }: RTCRtpTransceiver, track: MediaStreamTrack | null): void {
		if (sender.track === track) return;
		sender.replaceTrack(track).catch(() => {
			// The browser wants a negotiation for this track (other codec needs), or the connection has closed meanwhile.
			if (this.#attempt === attempt && attempt.pc.signalingState === "stable") this.#offer(attempt);
		});
	}

	/** Bounds what each sender sends, and lets a screen give up frames before it gives up sharpness: a text has to stay readable. */
	#tune(attempt: Attempt): void {
		for (const [source, { sender }] of attempt.sending) {
			const { audio, video, screen } = this.#host.maxBitrateBps;
			const maxBitrate = source === "screen" ? screen : source === "camera" ? video : audio;
			const parameters = sender.getParameters();
			const encoding = parameters.encodings?.[0];
			const sharp = source !== "screen" || parameters.degradationPreference === "maintain-resolution";
			if (!encoding || (encoding.maxBitrate === maxBitrate && sharp)) continue;
			if (maxBitrate === undefined) delete encoding.maxBitrate;
			else encoding.maxBitrate = maxBitrate;
			if (source === "screen") parameters.degradationPreference = "maintain-resolution";
			sender.setParameters(parameters).catch(() => {}); // closed, or negotiated anew meanwhile: it comes again then
		}
	}

	/** The limits have changed. */
	limit(): void {
		if (this.#attempt?.agreed) this.#tune(this.#attempt);
	}

	// ---- negotiation

	/** Runs `work` after everything before it; nothing runs for a connection that was replaced. */
	#enqueue(attempt: Attempt, work: () => Promise<void>): void {
		attempt.queue = attempt.queue.then(async () => {
			if (this.#attempt !== attempt) return;
			try {
				await work();
			} catch {
				if (this.#attempt !== attempt) return;
				// The two sides' ideas of the connection do not fit together any more. An answer that was refused leaves the offer pending for good.
				const stuck = attempt.pc.signalingState !== "stable";
				if (stuck) this.#broken();
				this.#mend(stuck);
			}
		});
	}

	#offer(attempt: Attempt): void {
		this.#enqueue(attempt, async () => {
			// The browser asks again as soon as it is stable.
			if (attempt.pc.signalingState !== "stable") return;
			if (this.#host.wire && attempt.pc.remoteDescription) return;
			attempt.describing = true;
			await attempt.pc.setLocalDescription();
			this.#describe(attempt);
		});
	}

	/** Sends the local description, and the candidates that came before it. */
	#describe(attempt: Attempt): void {
		const description = attempt.pc.localDescription;
		if (this.#attempt !== attempt || !description) return;
		const sources: Record<string, string> = {};
		for (const [source, { mid }] of [...attempt.receiving, ...attempt.sending]) if (mid !== null) sources[mid] = source;
		const { type } = description;
		const sdp = type === "offer" ? keepRole(attempt.pc, description.sdp) : description.sdp;
		this.#host.signal({ pc: attempt.id, description: { type, sdp }, ...(this.#host.wire ? {} : { sources }) });
		attempt.describing = false;
		this.#sendCandidates(attempt);
	}

	#candidate(attempt: Attempt, candidate: RTCIceCandidate | null): void {
		if (this.#host.wire && !candidate?.candidate) return; // legacy peers know no end of them
		attempt.candidates.push(candidate ? candidate.toJSON() : { candidate: "", sdpMid: "0" });
		if (attempt.describing || attempt.candidateTimer !== undefined) return;
		this.#sendCandidates(attempt);
		attempt.candidateTimer = setTimeout(() => {
			attempt.candidateTimer = undefined;
			if (!attempt.describing) this.#sendCandidates(attempt);
		}, candidateMs);
	}

	#sendCandidates(attempt: Attempt): void {
		if (attempt.candidates.length === 0 || this.#attempt !== attempt) return;
		this.#host.signal({ pc: attempt.id, candidates: attempt.candidates });
		attempt.candidates = [];
	}

	/** Takes a signal of the other side. */
	receive(data: SignalData): void {
		if (this.#closed || typeof data?.pc !== "string") return;
		let attempt = this.#attempt;
		const { description } = data;
		// A legacy peer has one connection, whatever its name.
		if (attempt?.id !== data.pc && !(attempt && this.#host.wire)) {
			// About a connection that is no more. A restart of it can have waited at a peer that was away while this side began anew.
			if (description?.type !== "offer" || this.#former.has(data.pc)) return;
			// Both have made a first offer: the impolite side's stands.
			if (attempt && !attempt.agreed && !this.polite && attempt.pc.signalingState === "have-local-offer") return;
			attempt = this.#open(data.pc);
		}
		const present = attempt as Attempt;
		if (data.close) {
			// Over until somebody begins anew; the peer stays.
			this.#clearTimers();
			present.close();
			this.#attempt = null;
			this.#setState("closed");
			this.emit("tracks");
			return;
		}
		if (typeof description?.sdp === "string" && (description.type === "offer" || description.type === "answer")) {
			this.#enqueue(present, () => this.#describeRemote(present, description, data.sources));
		}
		if (Array.isArray(data.candidates)) {
			for (const candidate of data.candidates.slice(0, candidateLimit))
				this.#enqueue(present, () => this.#addCandidate(present, candidate));
		}
		if (data.restart) this.#restart(present);
	}

	async #describeRemote(
		attempt: Attempt,
		description: RTCSessionDescriptionInit,
		sources: Record<string, string> | undefined,
	): Promise<void> {
		const { pc } = attempt;
		if (description.type === "answer") {
			// An answer to an offer that was given up, or the same answer again.
			if (pc.signalingState !== "have-local-offer") return;
			await pc.setRemoteDescription(description);
		} else {
			attempt.ignoring = !this.polite && pc.signalingState !== "stable";
			if (attempt.ignoring) return;
			const former = pc.currentRemoteDescription;
			await pc.setRemoteDescription(description); // rolls back an offer of ours
			if (this.#attempt !== attempt) return;
			if (former && ufrag(former) !== ufrag(description)) {
				this.#restartedAtMs = performance.now();
				clearTimeout(this.#politeTimer);
				this.#politeTimer = undefined;
			}
			this.#adopt(attempt, sources);
			this.#openChannels(attempt);
			this.#attach(attempt);
			attempt.describing = true;
			await pc.setLocalDescription();
			this.#describe(attempt);
		}
		if (this.#attempt !== attempt) return;
		if (description.type === "answer") this.#adopt(attempt, sources);
		attempt.agreed = true;
		if (this.#repairTimer !== undefined && attempt.everConnected) this.#planRepair(); // the path is looked for from now on
		this.#tune(attempt);
		this.#attach(attempt); // a screen that has waited for the first agreement
		this.emit("tracks");
	}

	/** Finds out what each media section of the other side carries. */
	#adopt(attempt: Attempt, sources: Record<string, string> | undefined): void {
		const own = new Set([...attempt.sending].filter(([source]) => source.startsWith("screen")).map(([, t]) => t));
		const seen = { audio: 0, video: 0 };
		for (const transceiver of attempt.pc.getTransceivers()) {
			if (transceiver.mid === null || own.has(transceiver)) continue;
			const kind = transceiver.receiver.track.kind as "audio" | "video";
			const order = kind === "audio" ? (["microphone", "screen-audio"] as const) : (["camera", "screen"] as const);
			const named = sources?.[transceiver.mid];
			// Clients that do not name their sources: the first of each kind is microphone or camera.
			const source = order.find((name) => name === named) ?? (sources ? undefined : order[seen[kind]]);
			seen[kind]++;
			if (!source) continue;
			attempt.receiving.set(source, transceiver);
			if ((source === "microphone" || source === "camera") && attempt.sending.get(source) !== transceiver) {
				attempt.sending.set(source, transceiver);
				this.#preferCodecs(transceiver, kind);
			}
		}
	}

	async #addCandidate(attempt: Attempt, candidate: RTCIceCandidateInit): Promise<void> {
		if (!attempt.pc.remoteDescription) return;
		try {
			await attempt.pc.addIceCandidate(candidate);
		} catch {
			// Of an offer that we ignored, of former ICE credentials, or of a kind that this browser does not know: other candidates are there.
		}
	}

	// ---- repair

	/** The present state of the RTCPeerConnection, made ours. */
	#observe(attempt: Attempt): void {
		const { connectionState, iceConnectionState } = attempt.pc;
		if (connectionState === "connected") {
			clearTimeout(this.#disconnectedTimer);
			this.#disconnectedTimer = undefined;
			this.#restartedAtMs = Number.NEGATIVE_INFINITY;
			attempt.everConnected = true;
			if (!this.#silent) this.#mended();
			this.#beatTimer ??= setInterval(() => this.#beat(), beatMs);
		} else if (connectionState === "failed" || iceConnectionState === "failed") {
			this.#broken();
			if (this.#host.wire) this.#setState("failed");
			this.#mend(attempt.everConnected && undecipherable(attempt.pc));
		} else if (connectionState === "disconnected" || iceConnectionState === "disconnected") {
			this.#broken();
			this.#disconnectedTimer ??= setTimeout(() => {
				this.#disconnectedTimer = undefined;
				if (this.#attempt === attempt && attempt.pc.connectionState !== "connected") this.#mend();
			}, disconnectedMs);
			this.#host.stalled();
		}
	}

	#mended(): void {
		this.#repairs = 0;
		this.#brokenAtMs = null;
		clearTimeout(this.#repairTimer);
		clearTimeout(this.#politeTimer);
		this.#repairTimer = this.#politeTimer = undefined;
		this.#setState("connected");
	}

	#broken(): void {
		this.#brokenAtMs ??= performance.now();
		if (this.#state === "connected") this.#setState("interrupted");
	}

	/** If it is not well by then, the next repair follows. */
	#planRepair(): void {
		clearTimeout(this.#repairTimer);
		// A first connection may have to wait for a permission prompt nowhere, but for slow relays: it gets more time.
		const waitMs = this.#attempt?.everConnected
			? (repairMs[Math.min(this.#repairs, repairMs.length - 1)] as number)
			: Math.max(8_000, repairMs[Math.min(this.#repairs, repairMs.length - 1)] as number);
		this.#repairTimer = setTimeout(() => {
			this.#repairTimer = undefined;
			if (this.#state === "connected" || this.#closed) return;
			if (this.#brokenAtMs !== null && performance.now() - this.#brokenAtMs >= failedMs) this.#setState("failed");
			// Without the server nothing can be agreed; what is pending then suffices.
			if (this.#host.online() && !this.#host.wire) this.#mend();
			else this.#planRepair();
		}, waitMs);
	}

	/** Repairs, unless a repair is under way and has time left: first by ICE restarts, then, or where `anew` says so, with a new RTCPeerConnection. */
	#mend(anew = false): void {
		const attempt = this.#attempt;
		if (this.#closed || !attempt || this.#host.wire) return;
		if (this.#repairTimer !== undefined && this.#repairs > 0 && !anew) return;
		if (!attempt.everConnected && this.#repairTimer !== undefined && attempt.pc.connectionState !== "failed") return;
		if (this.#repairs === 0 && this.#restartUnderWay() && !anew) {
			// It counts as the first.
			this.#repairs = 1;
			this.#planRepair();
			return;
		}
		this.#repairs++;
		this.#planRepair();
		if (this.#repairs > 1) this.#host.refreshIce();
		const over = anew || attempt.pc.signalingState === "closed" || undecipherable(attempt.pc);
		// A restart that nobody has answered yet is still the first.
		const restarts = takesOneRestart(attempt.pc) && !restarting(attempt.pc) ? 1 : restartsBeforeRenewal;
		const renew = over || !attempt.agreed || this.#repairs > restarts;
		const repair = () => {
			if (this.#attempt !== attempt || this.#closed) return;
			if (renew) this.#renew();
			else this.#restartNow(attempt);
		};
		if (this.polite && attempt.agreed && !over) {
			this.#host.signal({ pc: attempt.id, restart: true });
			clearTimeout(this.#politeTimer);
			this.#politeTimer = setTimeout(() => {
				this.#politeTimer = undefined;
				if (this.#state !== "connected") repair();
			}, politeMs);
		} else {
			repair();
		}
	}

	/** The other side asks for a restart. Where both have noticed, ours is on its way. */
	#restart(attempt: Attempt): void {
		const nowMs = performance.now();
		if (this.#closed || this.#host.wire || nowMs - this.#askedAtMs < restartMs || this.#restartUnderWay()) return;
		this.#askedAtMs = nowMs;
		const { pc } = attempt;
		if (undecipherable(pc) || (pc.connectionState === "failed" && this.#repairs >= restartsBeforeRenewal))
			this.#renew();
		else this.#restartNow(attempt);
	}

	/** Either side has restarted ICE, and has had little time since to find a path. */
	#restartUnderWay(): boolean {
		return performance.now() - this.#restartedAtMs < (repairMs[0] as number);
	}

	#restartNow(attempt: Attempt): void {
		if (attempt.pc.signalingState === "closed" || restarting(attempt.pc)) return;
		this.#restartedAtMs = performance.now();
		this.#applyIceServers(attempt.pc);
		attempt.pc.restartIce();
		// Where an offer is pending already, its answer comes first, or never: then the connection is made anew.
	}

	/** Asks for an ICE restart now, whatever the state. */
	restartIce(): void {
		const attempt = this.#attempt;
		if (this.#closed || this.#host.wire) return;
		if (attempt) this.#restartNow(attempt);
		else this.#renew();
	}

	/** There are fresh ICE servers; they count from the next gathering on. */
	updateIceServers(): void {
		if (this.#attempt) this.#applyIceServers(this.#attempt.pc);
	}

	#applyIceServers(pc: RTCPeerConnection): void {
		try {
			const former = pc.getConfiguration();
			pc.setConfiguration({ ...former, iceServers: this.#host.iceServers() });
		} catch {
			// A browser that cannot change them keeps the former ones, which may still do.
		}
	}

	/**
	 * The server has forgotten us, and offers and answers may be lost: says the pending offer again, and repairs what is broken.
	 */
	resend(): void {
		const attempt = this.#attempt;
		if (!attempt || this.#host.wire) return;
		if (attempt.pc.signalingState === "have-local-offer") this.#describe(attempt);
		this.wake();
	}

	/** The server has refused a signal, since there were too many at once: says it again where it still counts. */
	repeat(data: SignalData): void {
		const attempt = this.#attempt;
		if (!attempt || attempt.id !== data.pc) return;
		if (data.description?.type !== "offer") this.#host.signal(data);
		else if (attempt.pc.signalingState === "have-local-offer") this.#describe(attempt);
	}

	/** Signals reach the server again, or the network may have changed: looks whether the path still works. */
	wake(): void {
		const attempt = this.#attempt;
		if (!attempt || this.#closed || this.#host.wire) return;
		if (this.#state === "connected") void this.#check(attempt, 700);
		else if (this.#state === "interrupted" || this.#state === "failed") this.#mend();
	}

	// ---- beats

	/** Tells the other side's SDK without delay what also goes through the server. */
	tell(media: MediaStates): void {
		this.#media = media;
		this.#say({ media });
	}

	#say(hint: Hint): void {
		const hints = this.#attempt?.hints;
		if (hints?.readyState !== "open" || hints.bufferedAmount > 65_536) return;
		try {
			hints.send(JSON.stringify(hint));
		} catch {
			// Closing.
		}
	}

	#beat(): void {
		const attempt = this.#attempt;
		if (!attempt) return;
		this.#say({ beat: true, hidden: typeof document !== "undefined" && document.visibilityState === "hidden" });
		if (this.#silent) {
			if (attempt.pc.connectionState === "connected") void this.#listen(attempt);
			return;
		}
		if (this.#heardAtMs === null) return;
		const limitMs = this.#peerHidden ? silenceHiddenMs : silenceMs;
		if (performance.now() - this.#heardAtMs <= limitMs || this.#checking) return;
		// The repair will need the server, so whether that can be reached is found out meanwhile.
		this.#host.stalled();
		void this.#check(attempt, 300);
	}

	#hear(text: string): void {
		this.#heardAtMs = performance.now();
		let hint: Hint;
		try {
			hint = JSON.parse(text) as Hint;
		} catch {
			return;
		}
		if (typeof hint !== "object" || hint === null) return;
		if (typeof hint.hidden === "boolean") this.#peerHidden = hint.hidden;
		if (typeof hint.media === "object" && hint.media !== null) this.emit("hint", hint.media);
		this.#heard();
		if (hint.closing) {
			// The peer goes; its farewell through the server follows. No repair meanwhile.
			this.#clearTimers();
			this.#setState("interrupted");
			this.#planRepair();
		}
	}

	/** Something has arrived after all, or again. */
	#heard(): void {
		if (!this.#silent) return;
		this.#silent = false;
		if (this.#attempt?.pc.connectionState === "connected") this.#mended();
	}

	async #listen(attempt: Attempt): Promise<void> {
		try {
			const bytes = await receivedBytes(attempt.pc);
			if (this.#attempt === attempt && bytes > this.#silentBytes) this.#heard();
		} catch {
			// Closed meanwhile.
		}
	}

	/** Looks whether anything at all arrives within `forMs`, and repairs if not. */
	async #check(attempt: Attempt, forMs: number): Promise<void> {
		if (this.#checking) return;
		this.#checking = true;
		try {
			const before = await receivedBytes(attempt.pc);
			const heardAtMs = this.#heardAtMs;
			this.#say({ beat: true });
			await new Promise((resolve) => setTimeout(resolve, forMs));
			const after = await receivedBytes(attempt.pc);
			if (this.#attempt !== attempt || this.#closed || this.#state !== "connected") return;
			if (after > before || this.#heardAtMs !== heardAtMs) return;
			this.#silent = true;
			this.#silentBytes = after;
			this.#broken();
			this.#host.stalled();
			this.#mend();
		} catch {
			// Closed meanwhile.
		} finally {
			this.#checking = false;
		}
	}
}

/**
 * Names our present DTLS role in an offer: RFC 5763 §6.6 keeps the association over an ICE restart as long as the roles stay. To `actpass`, Firefox
 * answers a restart with `active` even if it has been passive so far, and other browsers refuse that.
 */
function keepRole(pc: RTCPeerConnection, sdp: string): string {
	const { currentLocalDescription: local, currentRemoteDescription: remote } = pc;
	const answer = local?.type === "answer" ? local : remote;
	const setup = /^a=setup:(active|passive)/m.exec(answer?.sdp ?? "")?.[1];
	if (!setup) return sdp;
	const role = (setup === "active") === (answer === local) ? "active" : "passive";
	return sdp.replace(/^a=setup:actpass/gm, `a=setup:${role}`);
}

function ufrag(description: RTCSessionDescriptionInit | null): string | undefined {
	return /^a=ice-ufrag:(.+?)\r?$/m.exec(description?.sdp ?? "")?.[1];
}

/** An offer of ours that restarts ICE waits for its answer. */
function restarting({
	pendingLocalDescription: pending,
	currentLocalDescription: current,
}: RTCPeerConnection): boolean {
	return pending?.type === "offer" && current !== null && ufrag(pending) !== ufrag(current);
}

/**
 * Firefox is on either side. While it looks for a path it sends on the former one; at another restart before it has found one, it drops that, too
 * (`NrIceMediaStream::SetIceCredentials`): what it sends then finds no path at all, which its DTLS takes for an error, for good.
 */
function takesOneRestart({
	currentLocalDescription: local,
	currentRemoteDescription: remote,
}: RTCPeerConnection): boolean {
	return [local, remote].some((description) => /^o=mozilla/m.test(description?.sdp ?? ""));
}

/** DTLS has failed, not ICE, so another path would not help. */
function undecipherable({ connectionState, iceConnectionState }: RTCPeerConnection): boolean {
	return connectionState === "failed" && iceConnectionState !== "failed";
}

/** Everything that has arrived on the selected path, in bytes. */
async function receivedBytes(pc: RTCPeerConnection): Promise<number> {
	let bytes = 0;
	for (const report of (await pc.getStats()).values()) {
		if (report.type === "candidate-pair") bytes += (report.bytesReceived ?? 0) + (report.responsesReceived ?? 0);
	}
	return bytes;
}
