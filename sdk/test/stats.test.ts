import { expect, it } from "vitest";
import { StatsReader } from "../src/stats.js";

const mids = { sent: new Map(), received: new Map([["0", "camera" as const]]) };

/** A reading of a camera that arrives with 8,000 bits a second. */
const at = (ms: number) => [
	{
		id: "v",
		type: "inbound-rtp",
		kind: "video",
		mid: "0",
		timestamp: ms,
		bytesReceived: ms,
		packetsReceived: ms,
		packetsLost: 0,
	},
];

it("rates are over half a second or more, however closely readings follow each other", () => {
	const reader = new StatsReader();
	const rate = (ms: number) => reader.read(at(ms), mids).received.camera?.bitrateBps;
	expect(rate(1000)).toBeNull();
	expect(rate(2000)).toBe(8000);
	// The browser gives the same figures again for a while, or has received nothing in between.
	expect(rate(2000)).toBe(8000);
	expect(
		reader.read(
			at(2000).map((r) => ({ ...r, timestamp: 2040 })),
			mids,
		).received.camera?.bitrateBps,
	).toBeCloseTo(8000 / 1.04);
	for (let ms = 2100; ms < 4000; ms += 20) expect(rate(ms)).toBeCloseTo(8000);
	expect(rate(60_000)).toBeCloseTo(8000);
});
