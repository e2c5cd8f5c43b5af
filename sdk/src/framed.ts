import { type FileSink, receiveFile } from "./filestore.js";
import {
	Cut,
	type DataType,
	decode,
	decodeText,
	encodeFragment,
	encodeHave,
	encodeMaster,
	encodeText,
	type Form,
	type Fragment,
	fitName,
	formFor,
	legacyBytes,
	type Master,
	tokenOf,
} from "./frame.js";

// Texts and files to one PlayRTC peer (./frame.ts has the packets). A link outlives its data channels: what was under way goes on when another
// one comes, and between our own peers from the fragment that the receiver names. Texts overtake files; files go one after the other.

/** A packet is about to be sent. */
export interface Sending {
	id: number;
	type: DataType;
	totalSize: number;
	fragSize: number;
	fragCount: number;
	fragIndex: number;
	/** Of files. */
	fileName?: string;
	mimeType?: string;
}

/** A packet has arrived. */
export interface Progress extends Sending {
	peerId: string;
}

export interface TextMessage {
	type: "text";
	id: number;
	peerId: string;
	/** In bytes: two for each UTF-16 unit. */
	totalSize: number;
	data: string;
}

export interface FileMessage {
	type: "binary";
	id: number;
	peerId: string;
	fileName: string;
	mimeType: string;
	totalSize: number;
	blob: File;
}

/** A file that could not be received. */
export interface FileFailure {
	type: "binary";
	id: number;
	peerId: string;
	fileName: string;
	mimeType: string;
	totalSize: number;
}

/** What a link tells. */
export interface FramedListener {
	open?(event: Event): void;
	close?(event: Event): void;
	/** A DOM event, an exception, or the file that could not be received. */
	error?(error: unknown): void;
	sending?(packet: Sending): void;
	progress?(packet: Progress): void;
	message?(message: TextMessage | FileMessage): void;
}

export interface FramedOptions {
	/** Own token, for the new header. */
	own: string;
	/** The other side's token. */
	peer: string;
	/** Which header the other side reads. */
	form: Form;
	/** The payload of a packet. More than {@link legacyBytes} only for peers that have said so; those also tell what they have. */
	packetBytes?: number;
	/** A legacy peer: it may open a channel of its own, which is then the one to use. */
	wire: boolean;
	/** The channel has closed although the connection stands: opens another one, or does nothing where the other side does. */
	reopen?: () => void;
}

/** More than this is not given to the browser, which keeps it in memory; sending goes on below the lower mark. */
const highBytes = 4 << 20;
const lowBytes = 1 << 20;
/** What is read of a file at once. */
const blockBytes = 1 << 20;
/** An old SDK in a new browser opens its own channel right after ours has opened; what is sent before is lost. */
const wireChannelMs = 300;
/** Messages whose arrival the other side has not confirmed. Beyond that, the oldest are not sent again. */
const unconfirmedMessages = 4096;
const unconfirmedBytes = 16 << 20;
/** Messages that have arrived, known so that a repeated one is not delivered twice. */
const rememberedMessages = 4096;
/** What waits for the channel to open. */
const waitingMessages = 4096;
const waitingBytes = 64 << 20;
/** Unfinished messages of one peer, and the most text of one message that is gathered. */
const incomingMessages = 256;
const incomingTextBytes = 256 << 20;

interface Outgoing {
	id: number;
	type: DataType;
	fileName: string;
	mimeType: string;
	totalSize: number;
	cut: Cut;
	/** The next fragment to send. */
	next: number;
	/** A file is read in blocks; a text is one block. */
	source: Blob | null;
	block: Uint8Array;
	blockAt: number;
	reading: boolean;
	settled: boolean;
	success: (() => void) | undefined;
	error: ((error: unknown) => void) | undefined;
}

interface Incoming {
	master: Master;
	/** The next fragment that is to arrive. */
	next: number;
	bytes: number;
	texts: Uint8Array[];
	sink: FileSink | null;
}

let lastId = 0;

/** Milliseconds, as old receivers expect, but never the same twice: they keep one table for a page. */
function nextId(): number {
	lastId = Math.max(Date.now(), lastId + 1);
	return lastId;
}

export class FramedLink {
	readonly #options: FramedOptions;
	readonly #listener: FramedListener;
	readonly #packetBytes: number;
	/** The other side confirms, and goes on where it was. */
	readonly #confirms: boolean;
	#channel: RTCDataChannel | null = null;
	/** The channel in use has been chosen: the other side was told what is here. A browser may give us its first packets before it tells that the channel is open. */
	#chosen = false;
	/** Both sides know where to go on. */
	#ready = false;
	#opened = false;
	#closed = false;
	#choosing: ReturnType<typeof setTimeout> | undefined;
	readonly #texts: Outgoing[] = [];
	readonly #files: Outgoing[] = [];
	/** Sent, and not confirmed yet. */
	readonly #unconfirmed = new Map<number, Outgoing>();
	#unconfirmedBytes = 0;
	#waitingBytes = 0;
	/** What the other side says it has, until its list ends. */
	readonly #has = new Map<number, number>();
	readonly #incoming = new Map<number, Incoming>();
	readonly #arrived = new Map<number, number>();

	constructor(options: FramedOptions, listener: FramedListener) {
		this.#options = options;
		this.#listener = listener;
		this.#packetBytes = options.packetBytes ?? legacyBytes;
		this.#confirms = this.#packetBytes > legacyBytes;
	}

	/** The data channel in use. */
	get channel(): RTCDataChannel | null {
		return this.#channel;
	}

	get open(): boolean {
		return this.#opened && !this.#closed;
	}

	// ---- channels

	/** Uses a data channel from now on. `early` is what has arrived on it already. */
	use(channel: RTCDataChannel, early: readonly ArrayBuffer[] = []): void {
		if (this.#closed) return;
		this.#chosen = false;
		this.#ready = false;
		this.#channel = channel;
		clearTimeout(this.#choosing);
		channel.binaryType = "arraybuffer";
		channel.bufferedAmountLowThreshold = lowBytes;
		channel.onbufferedamountlow = () => this.#channel === channel && this.#pump();
		channel.onmessage = ({ data }) => {
			if (this.#closed || !(data instanceof ArrayBuffer)) return;
			// A legacy peer that sends here has no other channel.
			if (this.#channel === channel && this.#choosing !== undefined) this.#choose(channel, new Event("open"));
			this.#take(data);
		};
		channel.onerror = (event) => {
			// Between our own peers another channel follows.
			if (this.#channel === channel && !this.#closed && !this.#options.reopen) this.#listener.error?.(event);
		};
		channel.onclose = (event) => this.#channelClosed(channel, event);
		channel.onopen = (event) => this.#channelOpened(channel, event);
		for (const data of early) this.#take(data);
		if (channel.readyState === "open") this.#channelOpened(channel, new Event("open"));
		else if (channel.readyState === "closed") this.#channelClosed(channel, new Event("close"));
	}

	#channelOpened(channel: RTCDataChannel, event: Event): void {
		if (this.#channel !== channel || this.#closed || this.#chosen) return;
		if (this.#options.wire && channel.negotiated) {
			clearTimeout(this.#choosing);
			this.#choosing = setTimeout(() => this.#choose(channel, event), wireChannelMs);
		} else {
			this.#choose(channel, event);
		}
	}

	#choose(channel: RTCDataChannel, event: Event): void {
		clearTimeout(this.#choosing);
		this.#choosing = undefined;
		if (this.#channel !== channel || this.#closed) return;
		this.#chosen = true;
		if (this.#confirms) {
			this.#sayWhatIsHere(channel);
			// Where nothing was under way there is nothing to wait for.
			this.#ready ||= this.#unconfirmed.size === 0 && ![...this.#texts, ...this.#files].some(({ next }) => next > 0);
		} else {
			for (const message of [...this.#texts, ...this.#files]) message.next = 0;
			this.#ready = true;
		}
		const first = !this.#opened;
		this.#opened = true;
		if (first) this.#listener.open?.(event);
		this.#pump();
	}

	#channelClosed(channel: RTCDataChannel, event: Event): void {
		if (this.#channel !== channel || this.#closed) return;
		this.#ready = false;
		clearTimeout(this.#choosing);
		this.#choosing = undefined;
		if (this.#options.reopen) this.#options.reopen();
		else this.close(event);
	}

	/** The connection is gone for good. What was not sent fails. */
	close(event: Event = new Event("close")): void {
		if (this.#closed) return;
		this.#closed = true;
		clearTimeout(this.#choosing);
		const waiting = [...this.#texts, ...this.#files];
		this.#texts.length = this.#files.length = 0;
		this.#unconfirmed.clear();
		for (const { master, sink } of this.#incoming.values()) {
			sink?.drop();
			if (sink) this.#listener.error?.(this.#failure(master));
		}
		this.#incoming.clear();
		const channel = this.#channel;
		if (channel) {
			channel.onopen = channel.onmessage = channel.onclose = channel.onerror = channel.onbufferedamountlow = null;
			channel.close();
		}
		for (const { error, settled } of waiting) if (!settled) error?.(event);
		if (this.#opened) this.#listener.close?.(event);
	}

	// ---- sending

	/** Sends a text. `success` is called when its last packet was handed to the channel, `error` if that will never be. */
	sendText(text: string, success?: () => void, error?: (error: unknown) => void): void {
		const bytes = encodeText(text);
		this.#send(this.#texts, { type: "text", fileName: "", mimeType: "", totalSize: bytes.length }, null, bytes, {
			success,
			error,
		});
	}

	/** Sends a file, after those before it. */
	sendFile(file: Blob & { readonly name: string }, success?: () => void, error?: (error: unknown) => void): void {
		const head = { type: "binary", fileName: fitName(file.name), mimeType: file.type, totalSize: file.size } as const;
		this.#send(this.#files, head, file, new Uint8Array(0), { success, error });
	}

	#send(
		queue: Outgoing[],
		head: Pick<Outgoing, "type" | "fileName" | "mimeType" | "totalSize">,
		source: Blob | null,
		block: Uint8Array,
		callbacks: Pick<Outgoing, "success" | "error">,
	): void {
		const full = queue.length >= waitingMessages || this.#waitingBytes + block.length > waitingBytes;
		if (this.#closed || (full && queue.length > 0)) {
			const { error } = callbacks;
			if (error) queueMicrotask(() => error(new Event("error")));
			return;
		}
		this.#waitingBytes += block.length;
		queue.push({
			...head,
			...callbacks,
			id: nextId(),
			cut: new Cut(head.totalSize, this.#packetBytes, this.#options.form),
			next: 0,
			source,
			block,
			blockAt: 0,
			reading: false,
			settled: false,
		});
		this.#pump();
	}

	/** Gives the channel what it may have now. */
	#pump(): void {
		const channel = this.#channel;
		while (channel && this.#ready && channel.readyState === "open" && channel.bufferedAmount < highBytes) {
			const queue = this.#texts.length > 0 ? this.#texts : this.#files;
			const message = queue[0];
			if (!message) return;
			const { cut, next } = message;
			const start = cut.offset(next) - message.blockAt;
			const payload = message.block.subarray(start, start + cut.size(next));
			if (start < 0 || payload.length < cut.size(next)) {
				this.#read(message);
				return;
			}
			const { id, type, totalSize, fileName, mimeType } = message;
			if (this.#listener.sending) {
				this.#listener.sending({
					id,
					type,
					totalSize,
					fragSize: payload.length,
					fragCount: cut.count,
					fragIndex: next,
					...(type === "binary" ? { fileName, mimeType } : {}),
				});
				if (this.#channel !== channel || queue[0] !== message) continue; // a listener has closed it
			}
			try {
				channel.send(next === 0 ? this.#master(message, payload) : encodeFragment(id, next, payload));
			} catch {
				return; // closing, or full: the event that follows goes on
			}
			if (++message.next === cut.count) this.#sent(queue, message);
		}
	}

	#master(message: Outgoing, payload: Uint8Array): Uint8Array<ArrayBuffer> {
		return encodeMaster({
			...message,
			form: this.#options.form,
			sender: this.#options.own,
			fragCount: message.cut.count,
			payload: payload as Uint8Array<ArrayBuffer>,
		});
	}

	#sent(queue: Outgoing[], message: Outgoing): void {
		queue.shift();
		if (message.source) message.block = new Uint8Array(0);
		else this.#waitingBytes -= message.settled ? 0 : message.block.length;
		if (this.#confirms) {
			this.#unconfirmed.set(message.id, message);
			this.#unconfirmedBytes += message.block.length;
			for (const old of this.#unconfirmed.values()) {
				if (this.#unconfirmed.size <= unconfirmedMessages && this.#unconfirmedBytes <= unconfirmedBytes) break;
				this.#confirmed(old.id);
			}
		}
		if (message.settled) return;
		message.settled = true;
		message.success?.();
	}

	#confirmed(id: number): void {
		const message = this.#unconfirmed.get(id);
		if (!message) return;
		this.#unconfirmed.delete(id);
		this.#unconfirmedBytes -= message.block.length;
	}

	/** Reads the part of a file that the next packets need. */
	#read(message: Outgoing): void {
		const { source, cut, next } = message;
		if (!source || message.reading) return;
		message.reading = true;
		const at = cut.offset(next);
		source
			.slice(at, at + Math.max(blockBytes, cut.size(next)))
			.arrayBuffer()
			.then(
				(bytes) => {
					message.reading = false;
					if (bytes.byteLength < cut.size(message.next)) throw new Error("the file has become shorter");
					message.block = new Uint8Array(bytes);
					message.blockAt = at;
					this.#pump();
				},
				(error) => {
					throw error;
				},
			)
			.catch((error) => {
				// It has changed or gone. The receiver never gets its end.
				message.reading = false;
				const index = this.#files.indexOf(message);
				if (index >= 0) this.#files.splice(index, 1);
				if (!message.settled) message.error?.(error);
				message.settled = true;
				if (!this.#closed) this.#listener.error?.(error);
				this.#pump();
			});
	}

	/** Over a new channel: what has arrived of each message. An end follows, so that the other side knows what has not. */
	#sayWhatIsHere(channel: RTCDataChannel): void {
		try {
			for (const [id, { next }] of this.#incoming) channel.send(encodeHave(id, next));
			for (const [id, count] of this.#arrived) channel.send(encodeHave(id, count));
			channel.send(encodeHave(0, 0));
		} catch {
			// Closed again.
		}
	}

	/** The other side's list is complete: the rest is sent from where it says. */
	#resume(): void {
		const again = [...this.#unconfirmed.values()].filter(({ id, cut }) => (this.#has.get(id) ?? 0) < cut.count);
		this.#unconfirmed.clear();
		this.#unconfirmedBytes = 0;
		this.#texts.unshift(...again.filter(({ source }) => !source));
		this.#files.unshift(...again.filter(({ source }) => source));
		for (const message of [...this.#texts, ...this.#files])
			message.next = Math.min(this.#has.get(message.id) ?? 0, message.cut.count - 1);
		this.#has.clear();
		this.#ready = true;
		this.#pump();
	}

	// ---- receiving

	#take(data: ArrayBuffer): void {
		const packet = decode(data);
		switch (packet?.kind) {
			case "master":
				this.#begin(packet);
				return;
			case "fragment":
				this.#goOn(packet);
				return;
			case "have":
				if (!this.#confirms) return;
				if (packet.id === 0) {
					if (!this.#ready && this.#opened) this.#resume();
				} else if (this.#ready) {
					this.#confirmed(packet.id);
				} else {
					this.#has.set(packet.id, packet.next);
				}
				return;
		}
	}

	#begin(master: Master): void {
		const { id, type, payload } = master;
		if (this.#arrived.has(id)) {
			this.#confirm(id, master.fragCount);
			return;
		}
		this.#incoming.get(id)?.sink?.drop();
		this.#incoming.delete(id);
		if (this.#incoming.size >= incomingMessages || (type === "text" && master.totalSize > incomingTextBytes)) return;
		const sink = type === "binary" ? receiveFile(master.totalSize) : null;
		const message: Incoming = { master, next: 0, bytes: 0, texts: [], sink };
		this.#incoming.set(id, message);
		this.#gather(message, 0, payload);
		master.payload = new Uint8Array(0);
	}

	#goOn(fragment: Fragment): void {
		const message = this.#incoming.get(fragment.id);
		if (!message || fragment.fragIndex < message.next) return;
		if (fragment.fragIndex > message.next) {
			// A legacy channel that gives up on packets: the message cannot be completed.
			this.#fail(message);
			return;
		}
		this.#gather(message, fragment.fragIndex, fragment.payload);
	}

	#gather(message: Incoming, fragIndex: number, payload: Uint8Array<ArrayBuffer>): void {
		const { master, sink } = message;
		const { id, type, totalSize, fragCount, fileName, mimeType } = master;
		message.next = fragIndex + 1;
		message.bytes += payload.length;
		if (message.bytes > totalSize) {
			this.#fail(message);
			return;
		}
		if (sink) sink.write(payload);
		else message.texts.push(payload);
		this.#listener.progress?.({
			peerId: this.#options.peer,
			type,
			id,
			totalSize,
			fragCount,
			fragIndex,
			fragSize: payload.length,
			...(type === "binary" ? { fileName, mimeType } : {}),
		});
		if (this.#closed) return;
		// Android may count one packet too many, which is empty.
		if (fragIndex === fragCount - 1 || (message.bytes === totalSize && totalSize > 0)) this.#complete(message);
	}

	#complete({ master, bytes, texts, sink }: Incoming): void {
		const { id, totalSize, fileName, mimeType, fragCount } = master;
		this.#incoming.delete(id);
		const head = { id, peerId: this.#options.peer, totalSize };
		if (!sink) {
			this.#confirm(id, fragCount);
			this.#listener.message?.({ type: "text", ...head, data: decodeText(joined(texts, bytes)) });
			return;
		}
		if (bytes !== totalSize) {
			sink.drop();
			this.#listener.error?.(this.#failure(master));
			return;
		}
		this.#confirm(id, fragCount);
		sink.finish(fileName, mimeType).then(
			(blob) => !this.#closed && this.#listener.message?.({ type: "binary", ...head, fileName, mimeType, blob }),
			() => !this.#closed && this.#listener.error?.(this.#failure(master)),
		);
	}

	#fail(message: Incoming): void {
		this.#incoming.delete(message.master.id);
		message.sink?.drop();
		if (message.sink) this.#listener.error?.(this.#failure(message.master));
	}

	#failure({ id, fileName, mimeType, totalSize }: Master): FileFailure {
		return { type: "binary", id, peerId: this.#options.peer, fileName, mimeType, totalSize };
	}

	#confirm(id: number, count: number): void {
		this.#arrived.set(id, count);
		for (const old of this.#arrived.keys()) {
			if (this.#arrived.size <= rememberedMessages) break;
			this.#arrived.delete(old);
		}
		if (!this.#confirms || this.#channel?.readyState !== "open") return;
		try {
			this.#channel.send(encodeHave(id, count));
		} catch {
			// Closing: it is said again on the next channel.
		}
	}
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
	if (parts.length === 1 && parts[0]) return parts[0];
	const all = new Uint8Array(bytes);
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

/** What PlayRTC's clients say in `info.playrtc`. */
export interface PlayRTCInfo {
	/** `"v3"`: an old client, on its own wire. */
	wire?: unknown;
	env?: unknown;
	/** The payload of packets that it takes, beyond the old 8 KiB; then it also confirms and resumes. */
	packet?: unknown;
	data?: unknown;
}

/** The payload of packets between our own PlayRTC pages. With its header it is what every browser takes as one message. */
export const packetBytes = 65_000;

/** A link to a peer, as its `info` asks for. `own` is the id of this page's peer. */
export function linkTo(
	own: string,
	peer: { id: string; info: unknown },
	reopen: () => void,
	listener: FramedListener,
	packet = legacyBytes,
): FramedLink {
	const info = ((peer.info as { playrtc?: PlayRTCInfo } | null)?.playrtc ?? {}) as PlayRTCInfo;
	const agreed = typeof info.packet === "number" ? Math.min(info.packet & ~1, packet) : legacyBytes;
	const wire = info.wire === "v3";
	return new FramedLink(
		{
			own: tokenOf(own),
			peer: tokenOf(peer.id),
			form: formFor(info.env),
			packetBytes: Math.max(legacyBytes, agreed),
			wire,
			...(wire ? {} : { reopen }),
		},
		listener,
	);
}
