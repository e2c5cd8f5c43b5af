import { blockBytes } from "./blocks.js";

// A browser gives the memory of buffers back when its collector comes by, and the collector lets 64 MiB and more of them gather first: a transfer
// would hold as much garbage at all times, on each of its threads. A buffer that is moved to a port whose other end is closed is gone at once, and so
// is what the browser itself holds on to it by, which ArrayBuffer.prototype.transfer would leave.

/** A channel costs something: buffers share one. */
const gatherBytes = 8 * blockBytes;

let unused: ArrayBuffer[] = [];
let unusedBytes = 0;

/** Gives back the memory of a buffer that nobody uses any more, soon. */
export function free(buffer: ArrayBuffer): void {
	unused.push(buffer);
	unusedBytes += buffer.byteLength;
	if (unusedBytes < gatherBytes) return;
	const { port1, port2 } = new MessageChannel();
	port2.close();
	port1.postMessage(null, unused);
	port1.close();
	unused = [];
	unusedBytes = 0;
}
