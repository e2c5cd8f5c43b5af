/**
 * What the UI uses of the SDK, declared here because this is where it is used. `real-sdk.ts` hands the SDK in, so the compiler
 * checks that the two agree; `test/fake-sdk.ts` is a hand-written other side for looking at and testing the UI alone.
 */

export type Role = "host" | "speaker" | "viewer";
export type Source = "microphone" | "camera" | "screen" | "screen-audio";
export type MediaState = "on" | "muted" | "off";
export type PublishedMedia = { readonly audio: MediaState; readonly video: MediaState; readonly screen: MediaState };
export type ConnectionState = "new" | "connecting" | "connected" | "interrupted" | "failed" | "closed";
export type Grade = "good" | "fair" | "poor" | "lost";
export type QualityReason = "none" | "loss" | "delay" | "jitter" | "bandwidth" | "cpu" | "no-media" | "disconnected";

/** Stops listening. */
export type Off = () => void;

/** An error with a stable code, as `MadangError` of the SDK. */
export interface CodedError extends Error {
	readonly code: string;
	readonly retryAfterMs?: number;
	text(language: string): string;
}

export interface Path {
	readonly local: string;
	readonly remote: string;
	readonly protocol: string;
	readonly relayProtocol?: string;
	readonly relayed: boolean;
}

export interface SourceStats {
	readonly codec?: string;
	readonly width?: number;
	readonly height?: number;
	readonly framesPerSecond?: number;
}

export interface Quality {
	readonly grade: Grade;
	readonly reason: QualityReason;
	readonly path?: Path | null;
	readonly rttMs?: number | null;
	readonly jitterMs?: number | null;
	readonly lossRatio?: number | null;
	readonly inBitrateBps?: number | null;
	readonly outBitrateBps?: number | null;
}

export interface RemoteTrack {
	readonly source: Source;
	readonly kind: string;
	readonly mediaTrack: MediaStreamTrack;
	readonly muted: boolean;
}

/** A data channel to a peer. */
export interface DataLink {
	readonly label: string;
	send(data: string): Promise<unknown>;
	on(event: "message", listener: (data: string | ArrayBuffer) => void): Off | unknown;
	close(): void;
}

export interface Peer {
	readonly id: string;
	readonly name: string;
	readonly role: Role;
	readonly media: PublishedMedia;
	readonly connection: ConnectionState;
	readonly tracks: ReadonlyMap<Source, RemoteTrack>;
	readonly quality: Quality | null | undefined;
	restartIce(): unknown;
	openData(label: string): Promise<DataLink>;
	on(event: "data", listener: (link: DataLink) => void): Off | unknown;
	on(event: "track" | "track-ended" | "updated" | "connection" | "quality", listener: () => void): Off | unknown;
}

export interface ChannelSettings {
	readonly locked: boolean;
	readonly waitingRoom: boolean;
	readonly capacity: number;
}

export interface ChatMessage {
	readonly from?: { readonly id: string; readonly name: string } | null;
	readonly text: string;
	readonly at: number | Date;
	readonly private: boolean;
}

/** Somebody who asks to come in. */
export interface Caller {
	readonly id: string;
	readonly name: string;
}

export interface ChannelEvents {
	state: [state: "joined" | "reconnecting" | "left", error?: CodedError];
	"peer-joined": [peer: Peer];
	"peer-left": [peer: Peer, reason: string];
	chat: [message: ChatMessage];
	ring: [peer: Caller, reason: string];
	"ring-ended": [peer: Caller, reason: string];
	settings: [settings: ChannelSettings];
	me: [me: unknown];
	error: [error: CodedError];
}

export interface Channel {
	readonly id: string;
	readonly settings: ChannelSettings;
	readonly state: "joined" | "reconnecting" | "left";
	readonly me: { readonly id: string; readonly name: string; readonly role: Role };
	readonly peers: ReadonlyMap<string, Peer>;
	publish(media: LocalMedia): unknown;
	sendChat(text: string): Promise<unknown>;
	accept(peer: string): Promise<unknown>;
	reject(peer: string, reason?: "rejected" | "busy"): Promise<unknown>;
	kick(peer: string): Promise<unknown>;
	setRole(peer: string, role: Role): Promise<unknown>;
	configure(settings: { locked?: boolean; waitingRoom?: boolean }): Promise<unknown>;
	leave(): unknown;
	on<E extends keyof ChannelEvents>(event: E, listener: (...args: ChannelEvents[E]) => void): Off | unknown;
}

export interface LocalMedia {
	readonly camera: MediaStreamTrack | null;
	readonly microphone: MediaStreamTrack | null;
	readonly screen: MediaStreamTrack | null;
	readonly state: PublishedMedia;
	muteMicrophone(): unknown;
	unmuteMicrophone(): unknown;
	muteCamera(): unknown;
	unmuteCamera(): unknown;
	useCamera(device: string): Promise<unknown>;
	useMicrophone(device: string): Promise<unknown>;
	shareScreen(options?: { audio?: boolean; signal?: AbortSignal }): Promise<unknown>;
	stopScreen(): unknown;
	close(): unknown;
	on(event: "changed" | "track" | "ended", listener: () => void): Off | unknown;
}

export interface Devices {
	readonly microphones: readonly MediaDeviceInfo[];
	readonly cameras: readonly MediaDeviceInfo[];
	readonly speakers: readonly MediaDeviceInfo[];
}

export interface JoinOptions {
	channel: string;
	server?: string;
	key?: string;
	token?: string;
	name?: string;
	media?: LocalMedia;
	ring?: boolean;
	signal?: AbortSignal;
	onPending?: (reason: "ring" | "waiting_room") => void;
}

export interface Recording {
	stop(): Promise<Blob>;
}

export interface Sdk {
	join(options: JoinOptions): Promise<Channel>;
	readonly media: {
		open(options: {
			audio: boolean | MediaTrackConstraints;
			video: boolean | MediaTrackConstraints;
			signal?: AbortSignal;
		}): Promise<LocalMedia>;
		devices(): Promise<Devices>;
		readonly canShareScreen: boolean;
		on(event: "devices-changed", listener: (devices: Devices) => void): Off | unknown;
	};
	levelMeter(track: MediaStreamTrack, listener: (level: number) => void, options: { signal: AbortSignal }): unknown;
	record(tracks: MediaStreamTrack[]): Recording;
	snapshot(video: HTMLVideoElement): Promise<Blob>;
}

/** The code of an error; `internal` for one that is not the SDK's. */
export function codeOf(error: unknown): string {
	const code = (error as { code?: unknown } | null)?.code;
	return typeof code === "string" ? code : "internal";
}
