/**
 * PlayRTC's JavaScript API on Madang: pages written for the PlayRTC SDK 2.x run as they are. See docs/playrtc.md.
 *
 * @packageDocumentation
 */

export type { FileFailure, FileMessage, Progress, Sending, TextMessage } from "../src/framed.js";
export type { Data, Message, SendError, SendSuccess } from "./data.js";
export type { Events, Listener } from "./event.js";
export type { Appender, Loggers, LogView } from "./log.js";
export type { Media } from "./media.js";
export type { Peer } from "./peer.js";
export { PlayRTC, PlayRTC as default, type PlayRTCConfig } from "./playrtc.js";
export type { StatsReport } from "./stats.js";
