import { free } from "./free.js";
import { encodeBlock, type Message } from "./wire.js";

// A lane as the worker sees it: a data channel that was moved here, or, in browsers that cannot move one, a port through which the page
// passes everything on.

/** The part of a data channel that a lane needs. */
export interface Wire {
	readonly bufferedAmount: number;
	/** Takes the buffer of bytes for good. */
	send(data: string | Uint8Array<ArrayBuffer>): void;
	close(): void;
	onopen: (() => void) | null;
	onmessage: ((data: unknown) => void) | null;
	/** There is room again. */
	onlow: (() => void) | null;
	/** Called once. */
	onclose: (() => void) | null;
}

/** The most that waits in the browser for the network. */
const highBytes = 2 << 20;
const lowBytes = 1 << 20;
/** The most that waits for the browser: a list of files as long as one may be, and something. */
const waitingBytes = 160 << 20;
/** Parts of a block: half of it, or less for those who take less. */
const partBytes = 128 * 1024 + 52;

export class ChannelWire implements Wire {
	readonly #channel: RTCDataChannel;
	onopen: (() => void) | null = null;
	onmessage: ((data: unknown) => void) | null = null;
	onlow: (() => void) | null = null;
	onclose: (() => void) | null = null;

	constructor(channel: RTCDataChannel) {
		this.#channel = channel;
		channel.binaryType = "arraybuffer";
		channel.bufferedAmountLowThreshold = lowBytes;
		let opened = false;
		const open = () => {
			// A moved channel may be open already, and say so once more.
			if (opened) return;
			opened = true;
			this.onopen?.();
		};
		channel.onopen = open;
		channel.onmessage = ({ data }) => {
			open();
			this.onmessage?.(data);
		};
		channel.onbufferedamountlow = () => this.onlow?.();
		channel.onclose = () => this.#end();
		if (channel.readyState === "open") queueMicrotask(open);
		if (channel.readyState === "closed") queueMicrotask(() => this.#end());
	}

	#end(): void {
		const { onclose } = this;
		this.onclose = null;
		onclose?.();
	}

	get bufferedAmount(): number {
		return this.#channel.bufferedAmount;
	}

	send(data: string | Uint8Array<ArrayBuffer>): void {
		this.#channel.send(data as string);
		if (typeof data !== "string") free(data.buffer);
	}

	close(): void {
		this.#channel.close();
	}
}

type FromPage = { open: true } | { data: unknown } | { sent: number } | { closed: true };
type FromWorker = { send: string | ArrayBuffer } | { close: true };

/** The worker's end of a bridged data channel. */
export class PortWire implements Wire {
	readonly #port: MessagePort;
	#buffered = 0;
	onopen: (() => void) | null = null;
	onmessage: ((data: unknown) => void) | null = null;
	onlow: (() => void) | null = null;
	onclose: (() => void) | null = null;

	constructor(port: MessagePort) {
		this.#port = port;
		port.onmessage = ({ data }: MessageEvent<FromPage>) => {
			if ("open" in data) this.onopen?.();
			else if ("data" in data) this.onmessage?.(data.data);
			else if ("sent" in data) {
				this.#buffered -= data.sent;
				if (this.#buffered <= lowBytes) this.onlow?.();
			} else {
				const { onclose } = this;
				this.onclose = null;
				onclose?.();
			}
		};
	}

	get bufferedAmount(): number {
		return this.#buffered;
	}

	send(data: string | Uint8Array<ArrayBuffer>): void {
		const send = typeof data === "string" ? data : data.buffer;
		this.#buffered += typeof send === "string" ? send.length : send.byteLength;
		this.#port.postMessage({ send } satisfies FromWorker, typeof send === "string" ? [] : [send]);
	}

	close(): void {
		this.#port.postMessage({ close: true } satisfies FromWorker);
	}
}

/** The page's end: passes on what the channel and the worker say. */
export function bridge(channel: RTCDataChannel, port: MessagePort): void {
	const tell = (message: FromPage, transfer: Transferable[] = []) => port.postMessage(message, transfer);
	channel.binaryType = "arraybuffer";
	channel.bufferedAmountLowThreshold = lowBytes;
	let unsaid = 0;
	const say = () => {
		if (unsaid === 0) return;
		tell({ sent: unsaid });
		unsaid = 0;
	};
	channel.onopen = () => tell({ open: true });
	channel.onmessage = ({ data }) => tell({ data }, data instanceof ArrayBuffer ? [data] : []);
	channel.onbufferedamountlow = say;
	channel.onclose = () => tell({ closed: true });
	port.onmessage = ({ data }: MessageEvent<FromWorker>) => {
		if ("close" in data) {
			channel.close();
			return;
		}
		if (channel.readyState !== "open") return;
		unsaid += typeof data.send === "string" ? data.send.length : data.send.byteLength;
		channel.send(data.send as string);
		if (typeof data.send !== "string") free(data.send);
		if (channel.bufferedAmount <= lowBytes) say();
	};
}

/** The sending side of a lane: blocks and messages in order, with back-pressure. No message comes between the parts of a block. */
export class LaneWriter {
	readonly #wire: Wire;
	readonly #broken: () => void;
	#waiting: (string | Uint8Array<ArrayBuffer>)[] = [];
	#waitingBytes = 0;
	#inBlock = false;
	#closed = false;
	#wake: (() => void) | null = null;
	/** The largest message that the other side takes. */
	messageBytes = 65_536;

	/** `broken` is called when the lane takes no more, or the other side does not read what it asks for. */
	constructor(wire: Wire, broken: () => void) {
		this.#wire = wire;
		this.#broken = broken;
		wire.onlow = () => {
			this.#drain();
			this.#wake?.();
		};
	}

	say(message: Message): void {
		this.#queue(JSON.stringify(message));
	}

	sayBytes(bytes: Uint8Array<ArrayBuffer>): void {
		this.#queue(bytes);
	}

	#queue(data: string | Uint8Array<ArrayBuffer>): void {
		if (this.#closed) return;
		this.#waiting.push(data);
		this.#waitingBytes += data.length;
		if (this.#waitingBytes > waitingBytes) this.#break();
		else this.#drain();
	}

	#drain(): void {
		while (!this.#inBlock && this.#waiting.length > 0 && this.#hasRoom) {
			const data = this.#waiting.shift() as string | Uint8Array<ArrayBuffer>;
			this.#waitingBytes -= data.length;
			this.#send(data);
		}
	}

	/** A lane that has ended has room for everything. */
	get #hasRoom(): boolean {
		return this.#closed || this.#wire.bufferedAmount < highBytes;
	}

	#low(): Promise<void> {
		return new Promise((resolve) => {
			this.#wake = resolve;
		});
	}

	/** Resolves when the block is with the browser; the wait is for room. */
	async block(file: number, block: number, bytes: Uint8Array, hash: Uint8Array): Promise<void> {
		while (this.#waiting.length > 0) await this.#low();
		this.#inBlock = true;
		for (const part of encodeBlock(file, block, bytes, hash, Math.min(partBytes, this.messageBytes))) {
			while (!this.#hasRoom) await this.#low();
			this.#send(part);
		}
		this.#inBlock = false;
		this.#drain();
	}

	#send(data: string | Uint8Array<ArrayBuffer>): void {
		if (this.#closed) return;
		try {
			this.#wire.send(data);
		} catch {
			this.#break(); // closing, or the browser does not take it: what is lost is asked for on another lane
		}
	}

	#break(): void {
		if (this.#closed) return;
		this.end();
		queueMicrotask(this.#broken); // not in the middle of what is being said
	}

	/** The lane is gone: nothing waits any more. */
	end(): void {
		this.#closed = true;
		this.#waiting = [];
		this.#wake?.();
	}
}
