// One end of a bare data channel with libdatachannel: takes an offer on standard input, answers it, and sends back as much as comes, with SHA-256
// of both ways. Usage: node libdatachannel_end.mjs BYTES

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import nodeDataChannel from "node-datachannel";

const messageBytes = 64 * 1024;
const size = Number(process.argv[2]);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const pc = new nodeDataChannel.PeerConnection("madang", { iceServers: [], maxMessageSize: 256 * 1024 });
const gathered = new Promise((resolve) => {
	pc.onGatheringStateChange((state) => state === "complete" && resolve());
});
const { sdp } = JSON.parse((await lines.next()).value);
pc.setRemoteDescription(sdp, "offer");
const channel = pc.createDataChannel("madang.transfer", { negotiated: true, id: 1 });
channel.setBufferedAmountLowThreshold(1 << 20);

const got = createHash("sha256");
let received = 0;
const whole = new Promise((resolve) => {
	channel.onMessage((data) => {
		got.update(data);
		received += data.length;
		if (received >= size) resolve();
	});
});
await gathered;
say({ sdp: pc.localDescription().sdp });
await whole;
say({ received, sha256: got.digest("hex") });

const sent = createHash("sha256");
for (let at = 0; at < size; at += messageBytes) {
	const seed = createHash("sha256").update(String(at)).digest();
	const data = Buffer.alloc(Math.min(messageBytes, size - at), seed);
	sent.update(data);
	while (channel.bufferedAmount() > 2 << 20) {
		await new Promise((resolve) => channel.onBufferedAmountLow(resolve));
	}
	channel.sendMessageBinary(data);
}
say({ sent: size, sha256: sent.digest("hex") });
await lines.next(); // until the other side has it all
pc.close();
nodeDataChannel.cleanup();
