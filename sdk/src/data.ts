import { Emitter } from "./emitter.js";
import { aborted, MadangError, quiet } from "./errors.js";

/** How a data channel delivers; the names are those of RTCDataChannelInit. */
export interface DataOptions {
	/** Whether messages arrive in the order sent. Default `true`. */
	ordered?: boolean | undefined;
	/** How often a lost message is sent again; absent: until it arrives. Not together with `maxPacketLifeTime`. */
	maxRetransmits?: number | undefined;
	/** For how long a lost message is sent again, in milliseconds. */
	maxPacketLifeTime?: number | undefined;
	/** A name for what is spoken on it. */
	protocol?: string | undefined;
	signal?: AbortSignal | undefined;
}

/** What can be sent. */
export type Data = string | ArrayBuffer | ArrayBufferView<ArrayBuffer>;

export type DataEvents = {
	message: [data: string | ArrayBuffer];
	/** It is closed, by either side or because the connection is gone. Called once. */
	close: [];
};

/** More than this is not given to the browser: its own limit is 16 MiB, and everything in it is memory. */
const highBytes = 4 << 20;
const lowBytes = 1 << 20;
/** The largest message that all browsers take. */
const messageBytes = 256 * 1024;
/** The most that senders who do not wait can leave here. */
const waitingBytes = 16 << 20;
const waitingMessages = 4096;

interface Waiting {
	data: Data;
	bytes: number;
	resolve(): void;
	reject(error: MadangError): void;
	signal: AbortSignal | undefined;
	abort(): void;
}

/** A data channel to one peer, with back-pressure: {@link DataLink.send} waits while too much is under way. */
export class DataLink extends Emitter<DataEvents> {
	readonly #channel: RTCDataChannel;
	readonly #encoder = new TextEncoder();
	#waiting: Waiting[] = [];
	#waitingBytes = 0;
	#closed = false;

	/** @internal */
	constructor(channel: RTCDataChannel) {
		super();
		this.#channel = channel;
		channel.binaryType = "arraybuffer";
		channel.bufferedAmountLowThreshold = lowBytes;
		channel.addEventListener("bufferedamountlow", () => this.#drain());
		channel.addEventListener("open", () => this.#drain());
		channel.addEventListener("message", ({ data }) => this.emit("message", data as string | ArrayBuffer));
		channel.addEventListener("close", () => this.#end());
	}

	get label(): string {
		return this.#channel.label;
	}

	/** What is spoken on it, as named by the side that opened it. */
	get protocol(): string {
		return this.#channel.protocol;
	}

	get state(): RTCDataChannelState {
		return this.#closed ? "closed" : this.#channel.readyState;
	}

	/** What has been given to {@link DataLink.send} and not to the network yet. */
	get bufferedBytes(): number {
		return this.#channel.bufferedAmount + this.#waitingBytes;
	}

	/**
	 * Sends one message of at most 256 KiB. Resolves when there is room for the next one, so a sender that awaits it uses little memory however much it
	 * sends. Messages keep their order even when nobody awaits; then up to 16 MiB may wait before `buffer_full`. With an aborted `signal`, a message
	 * that still waits is not sent. The data must not be changed before the promise resolves.
	 */
	send(data: Data, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		return quiet(
			new Promise<void>((resolve, reject) => {
				const { signal } = options;
				if (signal?.aborted) return reject(aborted(signal));
				if (this.#closed || this.#channel.readyState === "closing" || this.#channel.readyState === "closed") {
					return reject(new MadangError("closed"));
				}
				const bytes = typeof data === "string" ? this.#encoder.encode(data).length : data.byteLength;
				if (bytes > messageBytes)
					return reject(new MadangError("message_too_big", { detail: { bytes, limit: messageBytes } }));
				if (
					this.#waiting.length >= waitingMessages ||
					(this.#waitingBytes + bytes > waitingBytes && this.#waiting.length > 0)
				) {
					return reject(new MadangError("buffer_full"));
				}
				const waiting: Waiting = {
					data,
					bytes,
					resolve,
					reject,
					signal,
					abort: () => {
						this.#waiting = this.#waiting.filter((other) => other !== waiting);
						this.#waitingBytes -= bytes;
						reject(aborted(signal as AbortSignal));
					},
				};
				this.#waiting.push(waiting);
				this.#waitingBytes += bytes;
				signal?.addEventListener("abort", waiting.abort, { once: true });
				if (this.#waiting.length === 1) this.#drain();
			}),
		);
	}

	/** Closes it after what was sent has arrived. What still waits for room is rejected with `closed`. */
	close(): void {
		this.#channel.close();
		this.#rejectAll();
	}

	#drain(): void {
		if (this.#channel.readyState !== "open") return;
		while (this.#waiting.length > 0 && this.#channel.bufferedAmount < highBytes) {
			const { data, bytes, resolve, reject, signal, abort } = this.#waiting.shift() as Waiting;
			this.#waitingBytes -= bytes;
			signal?.removeEventListener("abort", abort);
			try {
				this.#channel.send(data as string);
				resolve();
			} catch (error) {
				reject(new MadangError("closed", { cause: error }));
			}
		}
	}

	#rejectAll(): void {
		const waiting = this.#waiting;
		this.#waiting = [];
		this.#waitingBytes = 0;
		for (const { reject, signal, abort } of waiting) {
			signal?.removeEventListener("abort", abort);
			reject(new MadangError("closed"));
		}
	}

	#end(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#rejectAll();
		this.emit("close");
	}

	/**
	 * The connection is gone, and with it the channel, whether or not the browser says so.
	 * @internal
	 */
	gone(): void {
		this.#channel.close();
		this.#end();
	}
}
