/** What {@link Peer.startStatsReport} gives (docs/playrtc.md). */
export interface StatsReport {
	localCandidate: string;
	remoteCandidate: string;
	localFrameWidth: number | "";
	localFrameHeight: number | "";
	localFrameRate: number | "";
	remoteFrameWidth: number | "";
	remoteFrameHeight: number | "";
	remoteFrameRate: number | "";
	/** Bits per second. */
	availableSendBandwidth: number;
	availableReceiveBandwidth: number;
	/** Milliseconds. */
	rtt: number;
	/** Ratings are 1 (best) to 5. */
	rttRating: number;
	localAudioFractionLost: number;
	localVideoFractionLost: number;
	remoteAudioFractionLost: number;
	remoteVideoFractionLost: number;
	localAudioFractionRating: number;
	localVideoFractionRating: number;
	remoteAudioFractionRating: number;
	remoteVideoFractionRating: number;
	fractionRating: number;
}

/** One row of a rating table, as the server gives it. */
export interface RatingRow {
	rating: number;
	fromFractionLost: number;
	toFractionLost: number;
}

export interface RatingTables {
	audio: readonly RatingRow[];
	video: readonly RatingRow[];
}

/** Adjacent ranges touch, since losses are no integers. */
function table(...bounds: number[]): RatingRow[] {
	return bounds.map((from, index) => ({
		rating: index + 1,
		fromFractionLost: from,
		toFractionLost: bounds[index + 1] ?? Number.MAX_SAFE_INTEGER,
	}));
}

const defaultTables: RatingTables = { audio: table(0, 51, 151, 251, 351), video: table(0, 41, 56, 71, 91) };

/** The server's tables, or the default ones for what it has not. */
export function ratingTables(value: unknown): RatingTables {
	const { audio, video } = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
	const rows = (list: unknown, otherwise: readonly RatingRow[]) =>
		Array.isArray(list) && list.length > 0 ? (list as RatingRow[]) : otherwise;
	return { audio: rows(audio, defaultTables.audio), video: rows(video, defaultTables.video) };
}

export function rate(rows: readonly RatingRow[], lost: number): number {
	const row = rows.find(({ fromFractionLost, toFractionLost }) => lost >= fromFractionLost && lost <= toFractionLost);
	return row?.rating ?? rows.at(-1)?.rating ?? 5;
}

/** One way counts, so half of the round trip. */
export function rateRTT(rttMs: number): number {
	const oneWayMs = rttMs / 2;
	if (oneWayMs >= 500) return 5;
	if (oneWayMs >= 400) return 4;
	if (oneWayMs >= 300) return 3;
	return oneWayMs >= 200 ? 2 : 1;
}

/** Any dictionary of W3C webrtc-stats; browsers differ in what they fill. */
type Stats = Record<string, number | string | boolean | undefined> & { id: string; type: string };

interface Counters {
	lost: number;
	packets: number;
}

/** Makes reports from the browser's statistics; losses are those since the report before. */
export class StatsReader {
	readonly #tables: RatingTables;
	readonly #former = new Map<string, Counters>();

	constructor(tables: RatingTables) {
		this.#tables = tables;
	}

	read(all: ReadonlyMap<string, unknown>): StatsReport {
		const stats = [...all.values()] as Stats[];
		const of = (type: string, kind: string) => stats.find((s) => s.type === type && s.kind === kind);
		const pair = selectedPair(stats);
		const candidate = (id: unknown) => String((all.get(String(id)) as Stats | undefined)?.candidateType ?? "");
		const [outVideo, inVideo] = [of("outbound-rtp", "video"), of("inbound-rtp", "video")];
		const size = (value: unknown): number | "" => (typeof value === "number" ? Math.round(value) : "");
		const rtt = Math.round(Number(pair?.currentRoundTripTime ?? 0) * 1000);
		const sent = (kind: "audio" | "video") =>
			this.#fraction(
				`sent ${kind}`,
				of("remote-inbound-rtp", kind)?.packetsLost,
				of("outbound-rtp", kind)?.packetsSent,
			);
		const received = (kind: "audio" | "video") => {
			const inbound = of("inbound-rtp", kind);
			return this.#fraction(`received ${kind}`, inbound?.packetsLost, inbound?.packetsReceived);
		};
		const lost = {
			localAudioFractionLost: sent("audio"),
			localVideoFractionLost: sent("video"),
			remoteAudioFractionLost: received("audio"),
			remoteVideoFractionLost: received("video"),
		};
		const { audio, video } = this.#tables;
		const remoteVideoFractionRating = rate(video, lost.remoteVideoFractionLost);
		return {
			localCandidate: candidate(pair?.localCandidateId),
			remoteCandidate: candidate(pair?.remoteCandidateId),
			localFrameWidth: size(outVideo?.frameWidth),
			localFrameHeight: size(outVideo?.frameHeight),
			localFrameRate: size(outVideo?.framesPerSecond),
			remoteFrameWidth: size(inVideo?.frameWidth),
			remoteFrameHeight: size(inVideo?.frameHeight),
			remoteFrameRate: size(inVideo?.framesPerSecond),
			availableSendBandwidth: Math.round(Number(pair?.availableOutgoingBitrate ?? 0)),
			availableReceiveBandwidth: Math.round(Number(pair?.availableIncomingBitrate ?? 0)),
			rtt,
			rttRating: rateRTT(rtt),
			...lost,
			localAudioFractionRating: rate(audio, lost.localAudioFractionLost),
			localVideoFractionRating: rate(video, lost.localVideoFractionLost),
			remoteAudioFractionRating: rate(audio, lost.remoteAudioFractionLost),
			remoteVideoFractionRating,
			fractionRating: remoteVideoFractionRating,
		};
	}

	/** The share of packets lost since the last time, of 255, as RTCP counts it (RFC 3550 §6.4.1). */
	#fraction(name: string, lostNow: unknown, packetsNow: unknown): number {
		const lost = Number(lostNow ?? 0);
		const packets = Number(packetsNow ?? 0);
		const former = this.#former.get(name) ?? { lost: 0, packets: 0 };
		this.#former.set(name, { lost, packets });
		const share = (Math.max(0, lost - former.lost) / (packets - former.packets)) * 255;
		return Number.isFinite(share) && share > 0 ? Math.round(share * 10_000) / 10_000 : 0;
	}
}

function selectedPair(stats: readonly Stats[]): Stats | undefined {
	const transport = stats.find((s) => s.type === "transport" && s.selectedCandidatePairId);
	const pairs = stats.filter((s) => s.type === "candidate-pair");
	if (transport) return pairs.find((s) => s.id === transport.selectedCandidatePairId);
	// Firefox has no transport statistics.
	return pairs.find((s) => s.selected) ?? pairs.find((s) => s.nominated && s.state === "succeeded");
}
