import { abortable } from "./abort.js";
import { aborted, MadangError, quiet } from "./errors.js";
import { RemoteTrack } from "./peer.js";

/** Tracks to record or measure: the SDK's own, or the browser's. */
export type AnyTrack = RemoteTrack | MediaStreamTrack;

export interface RecordOptions {
	/** Container and codecs, such as `video/mp4`. Default: the best that this browser can write. */
	mimeType?: string | undefined;
	videoBitsPerSecond?: number | undefined;
	audioBitsPerSecond?: number | undefined;
	/** Called with each piece of the file about once a second; then {@link Recording.stop} gives an empty rest. For long recordings. */
	onData?: ((piece: Blob) => void) | undefined;
	/** Stops the recording. */
	signal?: AbortSignal | undefined;
}

const audioTypes = ["audio/webm;codecs=opus", "audio/mp4;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const videoTypes = ["video/webm;codecs=vp9,opus", "video/webm;codecs=vp8,opus", "video/mp4", "video/webm"];

function mediaTracks(tracks: AnyTrack | Iterable<AnyTrack>): MediaStreamTrack[] {
	const list = Symbol.iterator in tracks ? [...tracks] : [tracks];
	return list.map((track) => (track instanceof RemoteTrack ? track.mediaTrack : track));
}

/** Records tracks, local or remote: one picture, and all sounds mixed. */
export function record(tracks: AnyTrack | Iterable<AnyTrack>, options: RecordOptions = {}): Recording {
	return new Recording(mediaTracks(tracks), options);
}

/** A recording under way. Made by {@link record}. */
export class Recording {
	readonly #recorder: MediaRecorder;
	readonly #pieces: Blob[] = [];
	readonly #done: Promise<Blob>;
	#mix: AudioMix | null = null;

	/** @internal */
	constructor(tracks: readonly MediaStreamTrack[], options: RecordOptions) {
		if (typeof MediaRecorder === "undefined") throw new MadangError("unsupported");
		const { signal, onData } = options;
		if (signal?.aborted) throw aborted(signal);
		const audio = tracks.filter((track) => track.kind === "audio");
		const video = tracks.filter((track) => track.kind === "video");
		if (tracks.length === 0 || video.length > 1) {
			throw new MadangError("invalid_field", {
				message: "A recording has one picture at most, and at least one track.",
			});
		}
		const stream = new MediaStream(video);
		if (audio.length > 1) {
			this.#mix = new AudioMix(audio);
			stream.addTrack(this.#mix.track);
		} else if (audio[0]) {
			stream.addTrack(audio[0]);
		}
		const wanted = options.mimeType ? [options.mimeType] : video.length > 0 ? videoTypes : audioTypes;
		const mimeType = wanted.find((type) => MediaRecorder.isTypeSupported(type));
		if (!mimeType) {
			this.#mix?.close();
			throw new MadangError("unsupported", { message: "This browser cannot record in this format." });
		}
		const { videoBitsPerSecond, audioBitsPerSecond } = options;
		const recorder = new MediaRecorder(stream, {
			mimeType,
			...(videoBitsPerSecond ? { videoBitsPerSecond } : {}),
			...(audioBitsPerSecond ? { audioBitsPerSecond } : {}),
		});
		this.#recorder = recorder;
		recorder.ondataavailable = ({ data }) => {
			if (data.size === 0) return;
			if (onData) onData(data);
			else this.#pieces.push(data);
		};
		this.#done = new Promise((resolve, reject) => {
			const abort = () => void this.stop();
			recorder.onstop = () => {
				signal?.removeEventListener("abort", abort);
				this.#mix?.close();
				resolve(new Blob(this.#pieces, { type: recorder.mimeType || mimeType }));
			};
			recorder.onerror = (event) => {
				this.#mix?.close();
				reject(new MadangError("unsupported", { cause: (event as ErrorEvent).error }));
			};
			signal?.addEventListener("abort", abort, { once: true });
		});
		this.#done.catch(() => {});
		recorder.start(1_000);
	}

	get state(): RecordingState {
		return this.#recorder.state;
	}

	get mimeType(): string {
		return this.#recorder.mimeType;
	}

	pause(): void {
		if (this.#recorder.state === "recording") this.#recorder.pause();
	}

	resume(): void {
		if (this.#recorder.state === "paused") this.#recorder.resume();
	}

	/** Ends it and gives the file. It also ends by itself when all tracks have ended; the file waits here then. */
	stop(options: { signal?: AbortSignal | undefined } = {}): Promise<Blob> {
		if (this.#recorder.state !== "inactive") this.#recorder.stop();
		return quiet(abortable(this.#done, options.signal));
	}
}

/** Several sounds in one track. */
class AudioMix {
	readonly track: MediaStreamTrack;
	readonly #context = new AudioContext();
	readonly #players: HTMLAudioElement[];

	constructor(tracks: readonly MediaStreamTrack[]) {
		const out = this.#context.createMediaStreamDestination();
		for (const track of tracks) this.#context.createMediaStreamSource(new MediaStream([track])).connect(out);
		this.#players = tracks.map(pump);
		this.track = out.stream.getAudioTracks()[0] as MediaStreamTrack;
		this.#context.resume().catch(() => {});
	}

	close(): void {
		for (const player of this.#players) player.srcObject = null;
		this.#context.close().catch(() => {});
	}
}

/**
 * Chromium gives Web Audio the sound of a remote track only while some element plays it (https://crbug.com/40094084). This one does, without sound.
 */
function pump(track: MediaStreamTrack): HTMLAudioElement {
	const player = new Audio();
	player.muted = true;
	player.srcObject = new MediaStream([track]);
	player.play().catch(() => {});
	return player;
}

/** Calls `listener` with the loudness of a track, 0 (silence) to 1 (full scale), about 15 times a second, until the returned function is called or `signal` aborts. */
export function levelMeter(
	track: AnyTrack,
	listener: (level: number) => void,
	options: { signal?: AbortSignal | undefined } = {},
): () => void {
	const { signal } = options;
	if (signal?.aborted) return () => {};
	const [mediaTrack] = mediaTracks(track) as [MediaStreamTrack];
	if (mediaTrack.kind !== "audio") throw new MadangError("invalid_field", { message: "Only sound has a level." });
	if (typeof AudioContext === "undefined") throw new MadangError("unsupported");
	const context = new AudioContext();
	const analyser = context.createAnalyser();
	analyser.fftSize = 2048; // 43 ms at 48 kHz
	context.createMediaStreamSource(new MediaStream([mediaTrack])).connect(analyser);
	const player = track instanceof RemoteTrack ? pump(mediaTrack) : null;
	const samples = new Float32Array(analyser.fftSize);
	const timer = setInterval(() => {
		// Browsers hold sound back until the first click.
		if (context.state === "suspended") context.resume().catch(() => {});
		analyser.getFloatTimeDomainData(samples);
		let sum = 0;
		for (const sample of samples) sum += sample * sample;
		listener(Math.min(1, Math.sqrt(sum / samples.length) * Math.SQRT2)); // a full sine is 1
	}, 66);
	const stop = () => {
		clearInterval(timer);
		signal?.removeEventListener("abort", stop);
		if (player) player.srcObject = null;
		if (context.state !== "closed") context.close().catch(() => {});
	};
	signal?.addEventListener("abort", stop, { once: true });
	return stop;
}

/** A still picture of a video track, or of a video element, in its full size. `type` is a MIME type; default `image/png`. */
export async function snapshot(
	picture: AnyTrack | HTMLVideoElement,
	options: { type?: string | undefined; quality?: number | undefined; signal?: AbortSignal | undefined } = {},
): Promise<Blob> {
	const { type = "image/png", quality, signal } = options;
	if (signal?.aborted) throw aborted(signal);
	let video: HTMLVideoElement;
	let own = false;
	if (picture instanceof HTMLVideoElement) {
		video = picture;
	} else {
		const [track] = mediaTracks(picture) as [MediaStreamTrack];
		if (track.kind !== "video") throw new MadangError("invalid_field", { message: "Only video has pictures." });
		own = true;
		video = document.createElement("video");
		video.muted = true;
		video.playsInline = true;
		video.srcObject = new MediaStream([track]);
	}
	try {
		if (own) video.play().catch(() => {});
		if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await firstFrame(video, signal);
		const canvas = document.createElement("canvas");
		canvas.width = video.videoWidth;
		canvas.height = video.videoHeight;
		canvas.getContext("2d")?.drawImage(video, 0, 0);
		const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, type, quality));
		if (signal?.aborted) throw aborted(signal);
		if (!blob) throw new MadangError("unsupported");
		return blob;
	} finally {
		if (own) video.srcObject = null;
	}
}

function firstFrame(video: HTMLVideoElement, signal: AbortSignal | undefined): Promise<void> {
	return new Promise((resolve, reject) => {
		const done = new AbortController();
		video.addEventListener(
			"loadeddata",
			() => {
				done.abort();
				resolve();
			},
			{ signal: done.signal },
		);
		signal?.addEventListener(
			"abort",
			() => {
				done.abort();
				reject(aborted(signal));
			},
			{ signal: done.signal },
		);
	});
}
