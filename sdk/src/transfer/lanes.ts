import { Emitter } from "../index.js";
import { type Path, StatsReader } from "../stats.js";
import { randomName } from "../wire.js";
import { bridge } from "./lane.js";
import type { Meeting } from "./meeting.js";
import { fingerprintOf, type Prover, sameTag } from "./secret.js";

// The RTCPeerConnections of a transfer, one for each lane (docs/transfer.md §3 to §5). They live on the page, since no worker can have them;
// their data channels go to the worker at once. Descriptions whose fingerprints are not proven with the secret reach no RTCPeerConnection.

export type LanesEvents = {
	/** The lane's channel, to be given to the worker in this very task: later it cannot be moved any more. */
	lane: [lane: number, channel: RTCDataChannel, peer: string];
	/** The largest message that the other side of the lane takes. */
	bytes: [lane: number, bytes: number];
	gone: [lane: number, peer: string];
	/** Somebody between the ends is lying, or the link was damaged. */
	"not-authentic": [peer: string];
};

/** So many lanes of one peer are answered. */
const laneLimit = 16;
/** For slow relays; after that the lane is given up. */
const connectMs = 15_000;
/** ICE says "disconnected" for short disturbances too. */
const disconnectedMs = 2_500;
/** Candidates that come within this time share a message. */
const candidateMs = 25;
const candidateLimit = 128;

interface Lane {
	readonly number: number;
	/** Its name on the wire. */
	readonly name: string;
	readonly peer: string;
	readonly pc: RTCPeerConnection;
	/** Of our offer. */
	offered: Uint8Array | null;
	describing: boolean;
	/** The worker has the channel. Nothing is said before: what comes on a channel that is being moved is lost, in Chromium without a trace. */
	readonly taken: Promise<void>;
	readonly take: () => void;
	candidates: RTCIceCandidateInit[];
	candidateTimer: ReturnType<typeof setTimeout> | undefined;
	/** Descriptions and candidates are taken one after the other. */
	queue: Promise<void>;
	timer: ReturnType<typeof setTimeout> | undefined;
}

export class Lanes extends Emitter<LanesEvents> {
	readonly #meeting: Meeting;
	readonly #prover: Prover;
	readonly #answers: (peer: string) => boolean;
	readonly #lanes = new Map<number, Lane>();
	readonly #end = new AbortController();
	#numbers = 0;

	/** `answers`: whether offers of a peer are answered. */
	constructor(meeting: Meeting, prover: Prover, answers: (peer: string) => boolean) {
		super();
		this.#meeting = meeting;
		this.#prover = prover;
		this.#answers = answers;
		meeting.on("signal", (peer, data) => void this.#signal(peer, data), { signal: this.#end.signal });
	}

	/** How many there are with a peer, or with all. */
	count(peer?: string): number {
		return [...this.#lanes.values()].filter((lane) => peer === undefined || lane.peer === peer).length;
	}

	peerOf(number: number): string | undefined {
		return this.#lanes.get(number)?.peer;
	}

	/** Offers a lane. */
	offer(peer: string): void {
		const lane = this.#create(randomName(9), peer);
		this.#enqueue(lane, async () => {
			await lane.taken;
			await lane.pc.setLocalDescription();
			const description = lane.pc.localDescription as RTCSessionDescription;
			lane.offered = fingerprintOf(description.sdp);
			if (!lane.offered) throw new Error("the browser's own offer has no SHA-256 fingerprint");
			const mac = this.#prover.offer(lane.name, lane.offered);
			this.#meeting.send(peer, { pc: lane.name, description: { type: "offer", sdp: description.sdp }, mac });
			this.#described(lane);
		});
	}

	#create(name: string, peer: string): Lane {
		const pc = this.#connection();
		let take = () => {};
		const taken = new Promise<void>((resolve) => {
			take = resolve;
		});
		const lane: Lane = {
			number: ++this.#numbers,
			name,
			peer,
			pc,
			offered: null,
			describing: true,
			taken,
			take,
			candidates: [],
			candidateTimer: undefined,
			queue: Promise.resolve(),
			timer: setTimeout(() => this.#drop(lane), connectMs),
		};
		this.#lanes.set(lane.number, lane);
		pc.onicecandidate = ({ candidate }) => this.#candidate(lane, candidate);
		pc.onconnectionstatechange = () => this.#observe(lane);
		this.emit("lane", lane.number, pc.createDataChannel("madang.transfer", { negotiated: true, id: 1 }), peer);
		return lane;
	}

	#connection(): RTCPeerConnection {
		try {
			return new RTCPeerConnection({ iceServers: this.#meeting.iceServers() });
		} catch {
			// One server that the browser cannot read must not keep two ends of the same network apart.
			return new RTCPeerConnection();
		}
	}

	#observe(lane: Lane): void {
		const { connectionState } = lane.pc;
		clearTimeout(lane.timer);
		lane.timer = undefined;
		if (connectionState === "connected") {
			this.emit("bytes", lane.number, Math.min(lane.pc.sctp?.maxMessageSize ?? 65_536, 262_144));
		} else if (connectionState === "failed" || connectionState === "closed") {
			this.#drop(lane);
		} else {
			if (connectionState === "disconnected") this.#meeting.probe();
			lane.timer = setTimeout(() => this.#drop(lane), connectionState === "disconnected" ? disconnectedMs : connectMs);
		}
	}

	#described(lane: Lane): void {
		lane.describing = false;
		this.#sendCandidates(lane);
	}

	#candidate(lane: Lane, candidate: RTCIceCandidate | null): void {
		lane.candidates.push(candidate ? candidate.toJSON() : { candidate: "", sdpMid: "0" });
		if (lane.describing) return;
		lane.candidateTimer ??= setTimeout(() => this.#sendCandidates(lane), candidateMs);
	}

	#sendCandidates(lane: Lane): void {
		clearTimeout(lane.candidateTimer);
		lane.candidateTimer = undefined;
		if (lane.candidates.length === 0 || !this.#lanes.has(lane.number)) return;
		this.#meeting.send(lane.peer, { pc: lane.name, candidates: lane.candidates });
		lane.candidates = [];
	}

	#enqueue(lane: Lane, work: () => Promise<void>): void {
		lane.queue = lane.queue.then(async () => {
			if (!this.#lanes.has(lane.number)) return;
			try {
				await work();
			} catch {
				// Closed meanwhile, or an SDP that the browser does not take.
				this.#drop(lane);
			}
		});
	}

	#signal(peer: string, { pc, description, candidates, mac, close, code }: Record<string, unknown>): void {
		if (typeof pc !== "string" || pc === "" || pc.length > 64) return;
		let lane = [...this.#lanes.values()].find((other) => other.name === pc && other.peer === peer);
		if (close === true) {
			if (lane) this.#drop(lane, false);
			if (lane && code === "not_authentic") this.emit("not-authentic", peer);
			return;
		}
		const { type, sdp } = (description ?? {}) as { type?: unknown; sdp?: unknown };
		if (type === "offer" && typeof sdp === "string" && !lane) {
			if (!this.#answers(peer) || this.count(peer) >= laneLimit) return;
			const offered = fingerprintOf(sdp);
			if (!offered || !sameTag(mac, this.#prover.offer(pc, offered))) {
				// Said for the user of a damaged link: the refusal itself needs no word.
				this.#meeting.send(peer, { pc, close: true, code: "not_authentic" });
				this.emit("not-authentic", peer);
				return;
			}
			lane = this.#create(pc, peer);
			this.#answer(lane, sdp, offered);
		} else if (type === "answer" && typeof sdp === "string" && lane) {
			this.#takeAnswer(lane, sdp, mac);
		}
		if (!lane || !Array.isArray(candidates)) return;
		for (const candidate of candidates.slice(0, candidateLimit) as RTCIceCandidateInit[]) {
			const { pc: connection } = lane;
			this.#enqueue(lane, async () => {
				if (connection.remoteDescription) await connection.addIceCandidate(candidate).catch(() => {});
			});
		}
	}

	#answer(lane: Lane, sdp: string, offered: Uint8Array): void {
		this.#enqueue(lane, async () => {
			await lane.taken;
			await lane.pc.setRemoteDescription({ type: "offer", sdp });
			await lane.pc.setLocalDescription();
			const answer = (lane.pc.localDescription as RTCSessionDescription).sdp;
			const answered = fingerprintOf(answer);
			// Our own words, sent back to us.
			if (!answered || answered.every((byte, index) => byte === offered[index])) throw new Error("not an answer");
			const mac = this.#prover.answer(lane.name, offered, answered);
			this.#meeting.send(lane.peer, { pc: lane.name, description: { type: "answer", sdp: answer }, mac });
			this.#described(lane);
		});
	}

	#takeAnswer(lane: Lane, sdp: string, mac: unknown): void {
		this.#enqueue(lane, async () => {
			const { offered, pc } = lane;
			if (!offered || pc.signalingState !== "have-local-offer") return;
			const answered = fingerprintOf(sdp);
			const own = answered?.every((byte, index) => byte === offered[index]);
			if (!answered || own || !sameTag(mac, this.#prover.answer(lane.name, offered, answered))) {
				this.#drop(lane);
				this.emit("not-authentic", lane.peer);
				return;
			}
			await pc.setRemoteDescription({ type: "answer", sdp });
		});
	}

	/** The worker has a lane's channel. */
	taken(number: number): void {
		this.#lanes.get(number)?.take();
	}

	/** Ends a lane; the other side is told. */
	drop(number: number): void {
		const lane = this.#lanes.get(number);
		if (lane) this.#drop(lane);
	}

	#drop(lane: Lane, tell = true): void {
		if (!this.#lanes.delete(lane.number)) return;
		lane.take();
		clearTimeout(lane.timer);
		clearTimeout(lane.candidateTimer);
		lane.pc.onconnectionstatechange = null;
		lane.pc.onicecandidate = null;
		lane.pc.close();
		if (tell) this.#meeting.send(lane.peer, { pc: lane.name, close: true });
		this.emit("gone", lane.number, lane.peer);
	}

	/** The path of a lane that stands, and its round trip. */
	async path(): Promise<{ path: Path; rttMs: number | null } | null> {
		for (const { pc } of this.#lanes.values()) {
			if (pc.connectionState !== "connected") continue;
			try {
				const nothing = { sent: new Map(), received: new Map() };
				const { path, rttMs } = new StatsReader().read((await pc.getStats()).values(), nothing);
				if (path) return { path, rttMs };
			} catch {
				// Closed meanwhile.
			}
		}
		return null;
	}

	close(): void {
		this.#end.abort();
		for (const lane of [...this.#lanes.values()]) this.#drop(lane);
	}
}

/** Moves a lane's channel to the worker, or a port to it where the browser cannot move channels. */
export function handOver(
	worker: Worker,
	channel: RTCDataChannel,
	say: (channel: RTCDataChannel | MessagePort) => unknown,
): void {
	try {
		worker.postMessage(say(channel), [channel as unknown as Transferable]);
	} catch (error) {
		if ((error as DOMException).name !== "DataCloneError" && !(error instanceof TypeError)) throw error;
		const { port1, port2 } = new MessageChannel();
		bridge(channel, port1);
		worker.postMessage(say(port2), [port2]);
	}
}
