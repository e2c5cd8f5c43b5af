import type { JoinCredentials } from "./depotclient.js";
import type { Keeping } from "./depotupload.js";
import type { Target } from "./direct.js";
import type { Ticket } from "./secret.js";
import type { ReceiverState } from "./server.js";
import type { Entry } from "./wire.js";

// What the page and the worker of a transfer say to each other.

/** Where received files go. */
export type Place =
	| { readonly kind: "staging" }
	| { readonly kind: "memory" }
	| { readonly kind: "direct"; readonly target: Target };

export type ToWorker =
	/** Some of what is to be sent, in order. */
	| { type: "files"; files: (File | null)[] }
	/** All files were given. The entries are without sizes. */
	| { type: "send"; names: Entry[]; end: string; name: string | undefined; receivers: number }
	/** `server`: where something may wait; `null`: the ends meet elsewhere. */
	| { type: "receive"; ticket: Ticket; server: string | null; name: string | undefined }
	/** What is sent is to wait on the server too, or not any more. `upload` is the sender's token. */
	| { type: "keep"; on: false }
	| { type: "keep"; on: true; ticket: Ticket; server: string; upload: string; who: JoinCredentials }
	/** `other`: to another receiver. */
	| { type: "lane"; lane: number; channel: RTCDataChannel | MessagePort; other: boolean }
	/** Other receivers are there, or not any more. */
	| { type: "company"; others: boolean }
	| { type: "lane-bytes"; lane: number; bytes: number }
	| { type: "lane-end"; lane: number }
	| { type: "accept"; chosen: number[] | null; place: Place }
	| { type: "choose"; file: number; chosen: boolean }
	| { type: "pause"; on: boolean }
	| { type: "cancel"; code: "cancelled" | "declined" }
	/** Removes what was received from the browser's own storage. */
	| { type: "discard" };

/** How a file of the manifest is doing, at the receiver. */
export interface FileState {
	readonly file: number;
	readonly bytes: number;
	readonly size: number | null;
	readonly done: boolean;
	readonly failed: string | null;
}

export type FromWorker =
	/** A receiver may have lanes now. */
	| { type: "ready" }
	/** The lane's channel has arrived. */
	| { type: "lane-taken"; lane: number }
	/** The lane is of no use any more. */
	| { type: "lane-ended"; lane: number; code: string }
	| { type: "lane-ready"; lane: number }
	/** The link is for this receiver alone: it has nothing to do with others. */
	| { type: "alone" }
	/** What is sent, with sizes. */
	| { type: "listed"; entries: Entry[] }
	| { type: "manifest"; entries: Entry[]; senderName: string | null }
	| {
			type: "receiving";
			bytes: number;
			total: number;
			arrived: number;
			shared: number;
			accepted: boolean;
			senderPaused: boolean;
			files: FileState[];
	  }
	| { type: "sending"; receivers: ReceiverState[]; sentBytes: number; failed: [file: number, code: string][] }
	/** The receiver has everything: the files and empty folders of these numbers; without content what the user has already, and folders. */
	| { type: "complete"; files: number[]; contents: (Blob | null)[] }
	/** The sender is done. */
	| { type: "sent" }
	| { type: "keeping"; keeping: Keeping | null }
	/** What waited on the server is not there any more: others have taken it, or its time is over. */
	| { type: "depot-over"; state: "taken" | "expired" }
	| { type: "resumed"; bytes: number }
	| { type: "ended"; code: string };
