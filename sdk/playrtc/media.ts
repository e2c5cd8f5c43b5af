import { Events } from "./event.js";
import type { Logger } from "./log.js";

/** Slices of a recording, as the old SDK makes them. */
const sliceMs = 3_000;

/** Tracks of this page or of a peer, for muting and recording. */
export class Media extends Events {
	readonly #stream: MediaStream;
	readonly #log: Logger;
	#recorder: MediaRecorder | null = null;
	#pieces: Blob[] = [];

	constructor(stream: MediaStream, log: Logger) {
		super();
		this.#stream = stream;
		this.#log = log;
	}

	getStream(): MediaStream {
		return this.#stream;
	}

	getVideoTrack(): MediaStreamTrack | null {
		return this.#stream.getVideoTracks()[0] ?? null;
	}

	getAudioTrack(): MediaStreamTrack | null {
		return this.#stream.getAudioTracks()[0] ?? null;
	}

	/** `true`: audible. Says whether there is a track. */
	audioMute(enabled: boolean): boolean {
		return enable(this.getAudioTrack(), enabled);
	}

	/** `true`: visible. Says whether there is a track. */
	videoMute(enabled: boolean): boolean {
		return enable(this.getVideoTrack(), enabled);
	}

	mute(enabled: boolean): boolean {
		const audio = this.audioMute(enabled);
		return this.videoMute(enabled) || audio;
	}

	/** Ends all tracks. */
	stop(): void {
		for (const track of this.#stream.getTracks()) track.stop();
	}

	/** Records until {@link Media.recordStop}; `onSlice` gets each slice of three seconds. A text, as in 1.x, is ignored. */
	record(onSlice?: ((piece: Blob) => void) | string): void {
		if (this.#recorder) {
			this.#log.warn("Media", "record", "a recording is under way");
			return;
		}
		if (typeof MediaRecorder === "undefined") {
			this.#log.error("Media", "record", "this browser cannot record");
			return;
		}
		const pieces: Blob[] = [];
		const recorder = new MediaRecorder(this.#stream);
		recorder.ondataavailable = ({ data }) => {
			if (data.size === 0) return;
			pieces.push(data);
			if (typeof onSlice === "function") onSlice(new Blob([data], { type: this.#type() }));
		};
		recorder.start(sliceMs);
		this.#recorder = recorder;
		this.#pieces = pieces;
	}

	/** Ends the recording; `onDone` gets all of it. */
	recordStop(onDone?: (recording: Blob) => void): void {
		const recorder = this.#recorder;
		const pieces = this.#pieces;
		if (!recorder) {
			this.#log.warn("Media", "recordStop", "no recording is under way");
			return;
		}
		this.#recorder = null;
		const type = this.#type();
		const done = () => onDone?.(new Blob(pieces, { type }));
		if (recorder.state === "inactive") {
			done(); // its tracks have ended
			return;
		}
		recorder.onstop = done;
		recorder.stop();
	}

	/** The label that old pages expect, whatever the container. */
	#type(): string {
		return this.getVideoTrack() ? "video/webm" : "audio/ogg; codecs=opus";
	}
}

function enable(track: MediaStreamTrack | null, enabled: boolean): boolean {
	if (!track) return false;
	track.enabled = enabled;
	return true;
}

type VideoWish = Partial<
	Record<"minWidth" | "maxWidth" | "minHeight" | "maxHeight" | "minFrameRate" | "maxFrameRate", number | string>
>;
type AudioWish = Partial<
	Record<"echoCancellation" | "autoGainControl" | "noiseReduction" | "noiseSuppression" | "highpassFilter", boolean>
>;

/** The microphone's constraints for PlayRTC's option `audio`. */
export function audioConstraints(wish: unknown): boolean | MediaTrackConstraints {
	if (typeof wish !== "object" || wish === null) return Boolean(wish);
	const { echoCancellation, autoGainControl, noiseReduction, noiseSuppression } = wish as AudioWish;
	return {
		echoCancellation: echoCancellation ?? true,
		autoGainControl: autoGainControl ?? true,
		noiseSuppression: noiseSuppression ?? noiseReduction ?? true,
	};
}

/** The camera's constraints for PlayRTC's option `video`, best first: those that follow are for cameras that cannot. */
export function videoConstraints(wish: unknown): (boolean | MediaTrackConstraints)[] {
	if (typeof wish !== "object" || wish === null) return [Boolean(wish)];
	const { minWidth, maxWidth, minHeight, maxHeight, minFrameRate, maxFrameRate } = wish as VideoWish;
	const range = (min: unknown, max: unknown): ConstrainULongRange => {
		const [least, most] = [number(min), number(max)];
		return { ...(least === undefined ? {} : { min: least }), ...(most === undefined ? {} : { max: most }) };
	};
	const ideal = ({ min, max }: ConstrainULongRange): ConstrainULongRange => {
		const value = min ?? max;
		return value === undefined ? {} : { ideal: value };
	};
	const width = range(minWidth, maxWidth);
	const height = range(minHeight, maxHeight);
	const frameRate = range(minFrameRate, maxFrameRate);
	// A camera of more than what is asked for at least would give its own default, which may be more than the page wants.
	const near = (wanted: ConstrainULongRange) => ({ ...wanted, ...ideal(wanted) });
	return [
		{ width: near(width), height: near(height), frameRate: near(frameRate) },
		{ width: ideal(width), height: ideal(height), frameRate: ideal(frameRate) },
		true,
	];
}

/** Pages give numbers as texts too. */
export function number(value: unknown): number | undefined {
	const read = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
	return typeof read === "number" && Number.isFinite(read) ? read : undefined;
}

/** Asks for microphone and camera as PlayRTC's options say. */
export async function capture(audio: unknown, video: unknown): Promise<MediaStream> {
	const wishes = videoConstraints(video);
	for (const [index, wish] of wishes.entries()) {
		try {
			return await navigator.mediaDevices.getUserMedia({ audio: audioConstraints(audio), video: wish });
		} catch (error) {
			if ((error as DOMException).name !== "OverconstrainedError" || index === wishes.length - 1) throw error;
		}
	}
	throw new TypeError("nothing to capture");
}

/** PlayRTC's code for an exception of the browser's. */
export function mediaError(error: unknown): [code: string, description: string] {
	switch ((error as DOMException | null)?.name) {
		case "NotAllowedError":
		case "SecurityError":
		case "PermissionDeniedError":
			return ["M4002", "Permission denied"];
		case "NotFoundError":
		case "DevicesNotFoundError":
			return ["M4003", "Devices not found"];
		default:
			return ["M4004", "Unknown media error"];
	}
}

/** Shows a stream in the element with this id, if there is one. */
export function attach(target: unknown, stream: MediaStream, local: boolean): void {
	const element = find(target);
	if (!element) return;
	if (!element.hasAttribute("autoplay")) element.setAttribute("autoPlay", "");
	if (local) element.setAttribute("muted", "");
	if (local) element.muted = true; // the attribute does not mute what exists
	(element as HTMLVideoElement).playsInline = true;
	element.srcObject = stream;
	element.play().catch(() => {}); // a page without a click yet: the controls are there
}

/** Shows nothing in it any more. */
export function detach(target: unknown): void {
	const element = find(target);
	if (element?.srcObject) element.srcObject = null;
}

function find(target: unknown): HTMLMediaElement | null {
	const element = typeof target === "string" ? document.getElementById(target) : null;
	return element instanceof HTMLMediaElement ? element : null;
}
