import { type FileMessage, type FramedLink, linkTo, type Progress, packetBytes } from "../src/framed.js";
import type { Peer as NativePeer } from "../src/peer.js";
import { Events } from "./event.js";

/** What is sent: a file, or anything else as text. */
export type Message = unknown;
export type SendSuccess = (message: Message) => void;
export type SendError = (message: Message) => void;

/**
 * The data channel to one peer. Events: `open`, `close`, `error`, `sending`, `progress`, `message` (docs/playrtc.md).
 */
export class Data extends Events {
	/** @internal */
	readonly link: FramedLink;
	/** @internal Opens another channel in place of one that has closed. */
	reopen: (() => void) | null = null;

	/** @internal */
	constructor(ownId: string, peer: NativePeer, received: (file: FileMessage | null, ms: number) => void) {
		super();
		const started = new Map<number, number>();
		const since = (id: number) => {
			const at = started.get(id) ?? performance.now();
			started.delete(id);
			return performance.now() - at;
		};
		this.link = linkTo(
			ownId,
			peer,
			() => this.reopen?.(),
			{
				open: (event) => this.fire("open", event),
				close: (event) => this.fire("close", event),
				error: (error) => {
					const { type, id } = error as { type?: unknown; id?: number };
					if (type === "binary" && id !== undefined) received(null, since(id));
					this.fire("error", error);
				},
				sending: (packet) => this.fire("sending", packet),
				progress: (packet: Progress) => {
					if (packet.fragIndex === 0 && packet.type === "binary") started.set(packet.id, performance.now());
					this.fire("progress", packet);
				},
				message: (message) => {
					if (message.type === "binary") received(message, since(message.id));
					this.fire("message", message);
				},
			},
			packetBytes,
		);
	}

	/** The browser's data channel in use. */
	get channel(): RTCDataChannel | null {
		return this.link.channel;
	}

	/**
	 * Sends a file, or anything else as text; it waits for the channel to open. `success` is called when the last packet has been handed to the
	 * channel, `error` when that will never be, each with the message.
	 */
	send(message: Message, success?: SendSuccess, error?: SendError): void {
		const done = typeof success === "function" ? () => success(message) : undefined;
		const failed = typeof error === "function" ? () => error(message) : undefined;
		if (message instanceof Blob && "name" in message) this.link.sendFile(message as File, done, failed);
		else this.link.sendText(String(message), done, failed);
	}
}
