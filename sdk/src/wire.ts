// The messages of docs/protocol.md, as far as the SDK reads and writes them. What comes from the server is checked where it is used.

/** What a peer is allowed to do: hosts also kick, lock, admit and set roles; viewers send no media. */
export type Role = "host" | "speaker" | "viewer";

/** What a peer sends of one medium: `off` means not at all, `muted` that it will go on. */
export type MediaState = "on" | "muted" | "off";

/** What a peer sends, as shown to the others. */
export interface MediaStates {
	readonly audio: MediaState;
	readonly video: MediaState;
	readonly screen: MediaState;
}

/** Where a track comes from. */
export type Source = "microphone" | "camera" | "screen" | "screen-audio";

export const sources: readonly Source[] = ["microphone", "camera", "screen", "screen-audio"];

/** The settings of a channel. */
export interface ChannelSettings {
	readonly locked: boolean;
	readonly waitingRoom: boolean;
	/** The most peers that it takes. */
	readonly capacity: number;
}

export interface WirePeer {
	id: string;
	uid?: string;
	name?: string;
	role?: Role;
	info?: unknown;
	media?: Partial<MediaStates>;
	polite?: boolean;
	offer?: boolean;
}

export interface WireIce {
	servers?: RTCIceServer[];
	expiresAtMs?: number;
}

export interface Admission {
	role?: Role;
	channel?: { id?: string } & Partial<ChannelSettings>;
	peers?: WirePeer[];
	ice?: WireIce;
}

export interface JoinMessage {
	type: "join";
	version: 1;
	channel: string;
	token?: string | undefined;
	key?: string | undefined;
	instance: string;
	uid?: string | undefined;
	name?: string | undefined;
	role?: Role | undefined;
	info?: unknown;
	media?: MediaStates;
	ring?: boolean | undefined;
}

export type ServerMessage = { type: string; seq?: number } & Record<string, unknown>;

/** `data` of a `signal` message, docs/protocol.md §6. */
export interface SignalData {
	pc?: string;
	description?: RTCSessionDescriptionInit;
	candidates?: RTCIceCandidateInit[];
	sources?: Record<string, string>;
	restart?: boolean;
	close?: boolean;
}

/** A new name of `bytes` random bytes, in characters of base64url. */
export function randomName(bytes: number): string {
	const values = crypto.getRandomValues(new Uint8Array(bytes));
	return btoa(String.fromCharCode(...values))
		.replaceAll("+", "-")
		.replaceAll("/", "_")
		.replaceAll("=", "");
}
