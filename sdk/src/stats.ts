import type { ConnectionState } from "./connection.js";
import type { MediaStates, Source } from "./wire.js";

// Figures of a connection, taken from RTCPeerConnection.getStats (W3C webrtc-stats) and nothing else, so that they are those of
// chrome://webrtc-internals.

/** Kinds of ICE candidates, RFC 8445. */
export type CandidateType = "host" | "srflx" | "prflx" | "relay";

/** The way that packets take: the selected candidate pair. */
export interface Path {
	readonly local: CandidateType;
	readonly remote: CandidateType;
	/** Between this machine and the other end, or the relay's relayed address. */
	readonly protocol: "udp" | "tcp";
	/** Between this machine and its relay; absent where it uses none. */
	readonly relayProtocol?: "udp" | "tcp" | "tls" | undefined;
	/** Either end uses a relay. */
	readonly relayed: boolean;
}

/** Figures of one medium in one direction. What the browser does not tell is `null`. */
export interface SourceStats {
	/** Without the kind before it, such as `VP8`. */
	readonly codec: string | null;
	readonly bitrateBps: number | null;
	readonly width: number | null;
	readonly height: number | null;
	readonly framesPerSecond: number | null;
	/** Pictures decoded (received) or encoded (sent), since the beginning. */
	readonly framesDecoded: number | null;
	readonly framesEncoded: number | null;
	/** 0 to 1. */
	readonly audioLevel: number | null;
	/** Why less is sent than could be: `"none"`, `"cpu"`, `"bandwidth"`, `"other"`. */
	readonly limitedBy: string | null;
	/** Packets lost of those sent in the last second, 0 to 1. */
	readonly lossRatio: number | null;
	readonly jitterMs: number | null;
}

/** Figures of the connection to one peer, over the last second where they are rates. What is not known (yet) is `null`. */
export interface PeerStats {
	/** When they were taken: milliseconds since 1970. */
	readonly at: number;
	readonly path: Path | null;
	readonly rttMs: number | null;
	/** The worst of the received media. */
	readonly jitterMs: number | null;
	/** Of the received packets, 0 to 1. */
	readonly lossRatio: number | null;
	/** Of the sent packets, as the other side reports it, 0 to 1. */
	readonly outLossRatio: number | null;
	readonly inBitrateBps: number | null;
	readonly outBitrateBps: number | null;
	/** What the congestion control believes can be sent. */
	readonly availableOutBitrateBps: number | null;
	readonly received: Readonly<Partial<Record<Source, SourceStats>>>;
	readonly sent: Readonly<Partial<Record<Source, SourceStats>>>;
}

export type Grade = "good" | "fair" | "poor" | "lost";
export type QualityReason = "none" | "loss" | "delay" | "jitter" | "bandwidth" | "cpu" | "no-media" | "disconnected";

/** How the connection to a peer is, in one word, why, and the figures. */
export interface Quality extends PeerStats {
	readonly grade: Grade;
	/** The worst thing about it; `"none"` when it is good. */
	readonly reason: QualityReason;
}

export const noStats: PeerStats = Object.freeze({
	at: 0,
	path: null,
	rttMs: null,
	jitterMs: null,
	lossRatio: null,
	outLossRatio: null,
	inBitrateBps: null,
	outBitrateBps: null,
	availableOutBitrateBps: null,
	received: {},
	sent: {},
});

type Report = { id: string; type: string; timestamp: number } & Record<string, unknown>;

/** Rates are over at least so long, where there is an older reading: between two that follow each other closely there may be no packet. */
const rateMs = 500;
/** Readings that come sooner after each other are not kept to compare with. */
const apartMs = 100;

/** Turns the counters of one RTCPeerConnection into rates. */
export class StatsReader {
	/** The oldest one is what the next reading is compared with. */
	#readings: { readonly atMs: number; readonly byId: ReadonlyMap<string, Report> }[] = [];

	read(
		reports: Iterable<Report>,
		mids: { sent: ReadonlyMap<string, Source>; received: ReadonlyMap<string, Source> },
	): PeerStats {
		const byId = new Map<string, Report>();
		let atMs = 0;
		for (const report of reports) {
			byId.set(report.id, report);
			atMs = Math.max(atMs, report.timestamp);
		}
		const readings = this.#readings;
		while (readings[1] && atMs - readings[1].atMs >= rateMs) readings.shift();
		const former = readings[0]?.byId ?? new Map<string, Report>();
		const latest = readings.at(-1);
		if (!latest || atMs - latest.atMs >= apartMs) readings.push({ atMs, byId });

		/** How much a counter has grown since the reading that this one is compared with; `null` without one, or when it began anew. */
		const growth = (report: Report, key: string): number | null => {
			const before = number(former.get(report.id)?.[key]);
			const after = number(report[key]);
			return before === null || after === null || after < before ? null : after - before;
		};
		const seconds = (report: Report): number | null => {
			const ms = report.timestamp - (former.get(report.id)?.timestamp ?? Number.NaN);
			return ms > 0 ? ms / 1000 : null;
		};
		const rateBps = (report: Report, key: string): number | null => {
			const bytes = growth(report, key);
			const over = seconds(report);
			return bytes === null || over === null ? null : (bytes * 8) / over;
		};

		const pair = selectedPair(byId);
		const received: Partial<Record<Source, SourceStats>> = {};
		const sent: Partial<Record<Source, SourceStats>> = {};
		let jitterMs: number | null = null;
		let lost = 0;
		let arrived = 0;
		let outLossRatio: number | null = null;

		for (const report of byId.values()) {
			if (report.type === "inbound-rtp") {
				const source = mids.received.get(String(report.mid));
				const jitter = number(report.jitter);
				const newlyLost = growth(report, "packetsLost");
				const newlyArrived = growth(report, "packetsReceived");
				if (jitter !== null && newlyArrived) jitterMs = Math.max(jitterMs ?? 0, jitter * 1000);
				lost += newlyLost ?? 0;
				arrived += newlyArrived ?? 0;
				if (!source) continue;
				received[source] = {
					codec: codec(byId, report),
					bitrateBps: rateBps(report, "bytesReceived"),
					width: number(report.frameWidth),
					height: number(report.frameHeight),
					framesPerSecond: number(report.framesPerSecond),
					framesDecoded: number(report.framesDecoded),
					framesEncoded: null,
					audioLevel: number(report.audioLevel),
					limitedBy: null,
					lossRatio: ratio(newlyLost, newlyArrived),
					jitterMs: jitter === null ? null : jitter * 1000,
				};
			} else if (report.type === "outbound-rtp") {
				const source = mids.sent.get(String(report.mid));
				const remote = byId.get(String(report.remoteId));
				const fraction = number(remote?.fractionLost);
				if (fraction !== null && growth(report, "packetsSent")) outLossRatio = Math.max(outLossRatio ?? 0, fraction);
				if (!source) continue;
				const from = byId.get(String(report.mediaSourceId));
				sent[source] = {
					codec: codec(byId, report),
					bitrateBps: rateBps(report, "bytesSent"),
					width: number(report.frameWidth),
					height: number(report.frameHeight),
					framesPerSecond: number(report.framesPerSecond),
					framesDecoded: null,
					framesEncoded: number(report.framesEncoded),
					audioLevel: number(from?.audioLevel),
					limitedBy: typeof report.qualityLimitationReason === "string" ? report.qualityLimitationReason : null,
					lossRatio: fraction,
					jitterMs: number(remote?.jitter) === null ? null : (remote?.jitter as number) * 1000,
				};
			}
		}

		const rtt = number(pair?.currentRoundTripTime);
		return {
			at: Date.now(),
			path: pair ? path(byId, pair) : null,
			rttMs: rtt === null ? null : rtt * 1000,
			jitterMs,
			lossRatio: ratio(lost, arrived),
			outLossRatio,
			inBitrateBps: pair ? rateBps(pair, "bytesReceived") : null,
			outBitrateBps: pair ? rateBps(pair, "bytesSent") : null,
			availableOutBitrateBps: number(pair?.availableOutgoingBitrate),
			received,
			sent,
		};
	}
}

function number(value: unknown): number | null {
	return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Late packets can make a loss negative (RFC 3550 §6.4.1). */
function ratio(lost: number | null, arrived: number | null): number | null {
	if (lost === null || arrived === null || lost + arrived <= 0) return null;
	return Math.min(1, Math.max(0, lost / (lost + arrived)));
}

function codec(byId: ReadonlyMap<string, Report>, report: Report): string | null {
	const type = byId.get(String(report.codecId))?.mimeType;
	return typeof type === "string" ? type.slice(type.indexOf("/") + 1) : null;
}

function selectedPair(byId: ReadonlyMap<string, Report>): Report | null {
	let nominated: Report | null = null;
	for (const report of byId.values()) {
		if (report.type === "transport") {
			const selected = byId.get(String(report.selectedCandidatePairId));
			if (selected) return selected;
		}
		if (report.type === "candidate-pair") {
			if (report.selected === true) return report; // Firefox
			if (report.nominated === true && report.state === "succeeded") nominated = report;
		}
	}
	return nominated;
}

function path(byId: ReadonlyMap<string, Report>, pair: Report): Path | null {
	const local = byId.get(String(pair.localCandidateId));
	const remote = byId.get(String(pair.remoteCandidateId));
	if (!local || !remote) return null;
	const localType = local.candidateType as CandidateType;
	const remoteType = remote.candidateType as CandidateType;
	return {
		local: localType,
		remote: remoteType,
		protocol: local.protocol === "tcp" ? "tcp" : "udp",
		relayProtocol: localType === "relay" ? ((local.relayProtocol as Path["relayProtocol"]) ?? undefined) : undefined,
		relayed: localType === "relay" || remoteType === "relay",
	};
}

// The limits of the grades. ITU-T G.114: one-way delay below 150 ms does not disturb a conversation, above 400 ms it is not acceptable; a round trip is
// both ways, and the browsers' own buffers add to it. Opus and the browsers' video repair hide some 2 % of loss; from 8 % on it is seen and heard.
const fairLoss = 0.02;
const poorLoss = 0.08;
const fairRttMs = 250;
const poorRttMs = 600;
const fairJitterMs = 30;
const poorJitterMs = 80;
const poorBitrateBps = 150_000;
/** So many readings must say worse, or better, before the grade changes. */
const worseAfter = 2;
const betterAfter = 3;
/** No media for so many readings although there should be some. */
const silentAfter = 3;

const order: readonly Grade[] = ["good", "fair", "poor", "lost"];

/** Judges readings; one for each peer. */
export class Judge {
	#grade: Grade = "good";
	#reason: QualityReason = "none";
	#other = 0;
	#lossRatio = 0;
	#silent = 0;

	judge(stats: PeerStats, connection: ConnectionState, peer: MediaStates): Quality {
		const [grade, reason] = this.#assess(stats, connection, peer);
		const change = order.indexOf(grade) - order.indexOf(this.#grade);
		if (reason === "disconnected" || this.#reason === "disconnected" || change === 0) {
			this.#other = 0;
			this.#grade = grade;
			this.#reason = reason;
		} else if (++this.#other >= (change > 0 ? worseAfter : betterAfter)) {
			this.#other = 0;
			this.#grade = grade;
			this.#reason = reason;
		}
		return { ...stats, grade: this.#grade, reason: this.#reason };
	}

	#assess(stats: PeerStats, connection: ConnectionState, peer: MediaStates): [Grade, QualityReason] {
		if (connection !== "connected") {
			this.#silent = 0;
			return ["lost", "disconnected"];
		}
		const expected = peer.audio === "on" || peer.video === "on" || peer.screen === "on";
		const flowing = Object.values(stats.received).some((source) => (source.bitrateBps ?? 0) > 0);
		this.#silent = expected && !flowing ? this.#silent + 1 : 0;
		if (this.#silent >= silentAfter) return ["poor", "no-media"];

		const lossRatio = Math.max(stats.lossRatio ?? 0, stats.outLossRatio ?? 0);
		this.#lossRatio = (this.#lossRatio + lossRatio) / 2;
		const rttMs = stats.rttMs ?? 0;
		const jitterMs = stats.jitterMs ?? 0;
		const limits = Object.values(stats.sent).map((source) => source.limitedBy);
		const short = limits.includes("bandwidth");
		if (this.#lossRatio >= poorLoss) return ["poor", "loss"];
		if (rttMs >= poorRttMs) return ["poor", "delay"];
		if (jitterMs >= poorJitterMs) return ["poor", "jitter"];
		if (short && (stats.availableOutBitrateBps ?? Number.POSITIVE_INFINITY) < poorBitrateBps)
			return ["poor", "bandwidth"];
		if (this.#lossRatio >= fairLoss) return ["fair", "loss"];
		if (rttMs >= fairRttMs) return ["fair", "delay"];
		if (jitterMs >= fairJitterMs) return ["fair", "jitter"];
		if (short) return ["fair", "bandwidth"];
		if (limits.includes("cpu")) return ["fair", "cpu"];
		return ["good", "none"];
	}
}
