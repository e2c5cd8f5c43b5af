/**
 * Calls, data and files for any page, with a Madang server of your own. Importing it touches nothing: no socket, no device, no global.
 *
 * @module madang
 */

export {
	Channel,
	type ChannelEvents,
	type ChannelState,
	type ChatMessage,
	type Command,
	type JoinOptions,
	join,
	type Me,
	type SendOptions,
} from "./channel.js";
export { codes, type Retry, type ServerCode } from "./codes.js";
export type { BitrateLimits, CodecPreferences, ConnectionState } from "./connection.js";
export { type Data, type DataEvents, DataLink, type DataOptions } from "./data.js";
export { Emitter, type EventMap } from "./emitter.js";
export { type ErrorCode, type ErrorDetails, MadangError, type SdkCode } from "./errors.js";
export type { LinkKind, Transport } from "./link.js";
export { type Devices, LocalMedia, type LocalMediaEvents, type Media, media, type OpenOptions } from "./media.js";
export { Peer, type PeerEvents, RemoteTrack } from "./peer.js";
export { defaultReconnect, type ReconnectPolicy } from "./reconnect.js";
export { type AnyTrack, levelMeter, Recording, type RecordOptions, record, snapshot } from "./record.js";
export type { CandidateType, Grade, Path, PeerStats, Quality, QualityReason, SourceStats } from "./stats.js";
export type { ChannelSettings, MediaState, MediaStates, Role, Source } from "./wire.js";
