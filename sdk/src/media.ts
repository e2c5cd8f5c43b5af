import { abortable } from "./abort.js";
import { Emitter } from "./emitter.js";
import { aborted, MadangError, quiet } from "./errors.js";
import { warmUp } from "./warm.js";
import type { MediaState, MediaStates, Source } from "./wire.js";

/** The connected devices. Their labels and ids are empty until the page may use one of their kind. */
export interface Devices {
	readonly microphones: readonly MediaDeviceInfo[];
	readonly cameras: readonly MediaDeviceInfo[];
	/** Empty where the browser has one output only. */
	readonly speakers: readonly MediaDeviceInfo[];
}

/** What {@link Media.open} asks for. */
export interface OpenOptions {
	/** The microphone: default `false`. */
	audio?: boolean | MediaTrackConstraints | undefined;
	/** The camera: default `false`. */
	video?: boolean | MediaTrackConstraints | undefined;
	signal?: AbortSignal | undefined;
}

type DeviceSource = "microphone" | "camera";

/** A device that could not be read in place of a lost one is asked for again after so long. */
const retryDelayMs = 1_000;

/** Camera and microphone of this machine; there is one such object, `media`. */
export class Media extends Emitter<{ "devices-changed": [devices: Devices] }> {
	#watching = false;
	#changing = false;

	/** Asks for camera and microphone. */
	async open(options: OpenOptions = {}): Promise<LocalMedia> {
		warmUp(); // media are opened in order to be sent
		const { audio = false, video = false, signal } = options;
		const local = new LocalMedia();
		if (audio || video) {
			const tracks = await capture(audio, video, signal);
			for (const track of tracks) {
				const source = track.kind === "audio" ? "microphone" : "camera";
				local.adopt(source, track, (source === "microphone" ? audio : video) as true | MediaTrackConstraints);
			}
		}
		return local;
	}

	/** Lists what is connected. */
	async devices(options: { signal?: AbortSignal | undefined } = {}): Promise<Devices> {
		const all = await abortable(mediaDevices()?.enumerateDevices() ?? Promise.resolve([]), options.signal);
		const of = (kind: MediaDeviceKind) => all.filter((device) => device.kind === kind);
		return { microphones: of("audioinput"), cameras: of("videoinput"), speakers: of("audiooutput") };
	}

	/** Whether this browser can share a screen. */
	get canShareScreen(): boolean {
		return typeof mediaDevices()?.getDisplayMedia === "function";
	}

	/** Whether {@link Media.useSpeaker} works here. */
	get canChooseSpeaker(): boolean {
		return typeof HTMLMediaElement !== "undefined" && "setSinkId" in HTMLMediaElement.prototype;
	}

	/** Plays an element's sound on another speaker; an empty id is the default one. */
	async useSpeaker(
		element: HTMLMediaElement,
		deviceId: string,
		options: { signal?: AbortSignal | undefined } = {},
	): Promise<void> {
		if (!this.canChooseSpeaker) throw new MadangError("unsupported");
		if (options.signal?.aborted) throw aborted(options.signal);
		try {
			await abortable(element.setSinkId(deviceId), options.signal);
		} catch (error) {
			throw mediaError(error);
		}
	}

	override on<Name extends "devices-changed">(
		name: Name,
		listener: (devices: Devices) => unknown,
		options?: { signal?: AbortSignal | undefined; once?: boolean },
	): () => void {
		this.#watch();
		return super.on(name, listener, options);
	}

	/** Listens to the browser from the first listener on; loading the module touches nothing. */
	#watch(): void {
		if (this.#watching) return;
		this.#watching = true;
		mediaDevices()?.addEventListener("devicechange", () => {
			// One plug makes several events.
			if (this.#changing) return;
			this.#changing = true;
			setTimeout(async () => {
				this.#changing = false;
				try {
					this.emit("devices-changed", await this.devices());
				} catch {
					// The page is going away.
				}
			}, 100);
		});
	}
}

export const media = new Media();

export type LocalMediaEvents = {
	/** What is sent has changed. */
	changed: [state: MediaStates];
	/** Another track has come in place, or none. */
	track: [source: Source, mediaTrack: MediaStreamTrack | null];
	/** A track ended by itself: unplugged, or stopped by the browser's own button. */
	ended: [source: Source];
};

interface Slot {
	track: MediaStreamTrack | null;
	/** The track was captured here, so it is stopped here. */
	owned: boolean;
	/** Switched off by the user, to be had again. */
	muted: boolean;
	/** How it was asked for. */
	constraints: true | MediaTrackConstraints;
	/** Ended because its device is gone: the next one of its kind takes over. */
	orphaned: boolean;
	/** Grows with each change, so that an answer to an older wish is recognized. */
	version: number;
}

/** What this page sends: up to one track of each source. It may be shown before a call, and published in one or several. */
export class LocalMedia extends Emitter<LocalMediaEvents> {
	readonly #slots: Record<Source, Slot> = {
		microphone: emptySlot(),
		camera: emptySlot(),
		screen: emptySlot(),
		"screen-audio": emptySlot(),
	};
	readonly #end = new AbortController();
	#state: MediaStates = { audio: "off", video: "off", screen: "off" };

	/** @internal */
	constructor() {
		super();
		media.on("devices-changed", () => this.#devicesChanged(), { signal: this.#end.signal });
	}

	get microphone(): MediaStreamTrack | null {
		return this.#slots.microphone.track;
	}

	get camera(): MediaStreamTrack | null {
		return this.#slots.camera.track;
	}

	get screen(): MediaStreamTrack | null {
		return this.#slots.screen.track;
	}

	get screenAudio(): MediaStreamTrack | null {
		return this.#slots["screen-audio"].track;
	}

	/** What the others see of it. */
	get state(): MediaStates {
		return this.#state;
	}

	get closed(): boolean {
		return this.#end.signal.aborted;
	}

	/** The present track of a source. */
	track(source: Source): MediaStreamTrack | null {
		return this.#slots[source].track;
	}

	muteMicrophone(): void {
		const slot = this.#slots.microphone;
		slot.muted = true;
		if (slot.track) slot.track.enabled = false;
		this.#changed();
	}

	/** Where there is no microphone yet, it is asked for. */
	unmuteMicrophone(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		const slot = this.#slots.microphone;
		const former = slot.muted;
		slot.muted = false;
		if (slot.track) {
			slot.track.enabled = true;
			this.#changed();
			return Promise.resolve();
		}
		return quiet(
			this.#capture("microphone", slot.constraints, options.signal).catch((error) => {
				slot.muted ||= former; // one that comes later is as muted as it was
				throw error;
			}),
		);
	}

	/** Switches the camera off, its light too. */
	muteCamera(): void {
		const slot = this.#slots.camera;
		if (slot.track && !slot.owned) {
			// Not ours to stop: it sends black until then.
			slot.muted = true;
			slot.track.enabled = false;
			this.#changed();
			return;
		}
		const had = slot.track !== null || slot.muted;
		this.#put("camera", null, true);
		slot.muted = had;
		this.#changed();
	}

	/** Switches the camera on again, or on for the first time. */
	unmuteCamera(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		const slot = this.#slots.camera;
		if (slot.track) {
			slot.muted = false;
			slot.track.enabled = true;
			this.#changed();
			return Promise.resolve();
		}
		return quiet(this.#capture("camera", slot.constraints, options.signal));
	}

	/** Takes another camera, or the first one. In running calls it replaces the former one without negotiation. */
	useCamera(device: string | MediaTrackConstraints, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
		return quiet(this.#capture("camera", wanted(device, this.#slots.camera.constraints), options.signal));
	}

	/** Takes another microphone, or the first one. It stays muted if the former one was. */
	useMicrophone(
		device: string | MediaTrackConstraints,
		options: { signal?: AbortSignal | undefined } = {},
	): Promise<void> {
		return quiet(this.#capture("microphone", wanted(device, this.#slots.microphone.constraints), options.signal));
	}

	/**
	 * Shares a screen, window or tab that the user picks, with its sound where `audio` is not `false` and the browser can. Call it from a click.
	 */
	shareScreen(
		options: {
			audio?: boolean | undefined;
			video?: MediaTrackConstraints | undefined;
			signal?: AbortSignal | undefined;
		} = {},
	): Promise<void> {
		return quiet(this.#shareScreen(options));
	}

	stopScreen(): void {
		this.#put("screen", null, true);
		this.#put("screen-audio", null, true);
		this.#changed();
	}

	/** Sends a track of your own (a canvas, a file). It is not stopped by this object. `null` takes the source away. */
	setTrack(source: Source, track: MediaStreamTrack | null): void {
		this.#open();
		const kind = source === "microphone" || source === "screen-audio" ? "audio" : "video";
		if (track && track.kind !== kind)
			throw new MadangError("invalid_field", { message: `The source ${source} takes ${kind}.` });
		this.#slots[source].muted = false;
		this.#put(source, track, false);
		this.#changed();
	}

	/** Stops all devices. */
	close(): void {
		if (this.closed) return;
		this.#end.abort();
		for (const source of Object.keys(this.#slots) as Source[]) {
			this.#slots[source].muted = false;
			this.#put(source, null, true);
		}
		this.#changed();
	}

	/** @internal */
	adopt(source: Source, track: MediaStreamTrack, constraints: true | MediaTrackConstraints): void {
		const slot = this.#slots[source];
		slot.constraints = constraints;
		if (source === "microphone") track.enabled = !slot.muted;
		else slot.muted = false;
		this.#put(source, track, true);
		this.#changed();
	}

	#open(): void {
		if (this.closed) throw new MadangError("closed");
	}

	async #capture(source: DeviceSource, constraints: true | MediaTrackConstraints, signal?: AbortSignal): Promise<void> {
		this.#open();
		const slot = this.#slots[source];
		const version = ++slot.version;
		// Some phones open one camera at a time: the former one is let go first where it has to be.
		let tracks: MediaStreamTrack[];
		const ask = () =>
			source === "microphone" ? capture(constraints, false, signal) : capture(false, constraints, signal);
		try {
			tracks = await ask();
		} catch (error) {
			if (!(error instanceof MadangError) || error.code !== "device_busy" || !slot.track || !slot.owned) throw error;
			this.#put(source, null, true);
			slot.version = version;
			tracks = await ask();
		}
		const track = tracks[0];
		if (this.closed || slot.version !== version || !track) {
			for (const late of tracks) late.stop();
			// A later wish counts, and the caller of this one need not know.
			if (this.closed) throw new MadangError("closed");
			return;
		}
		this.adopt(source, track, constraints);
	}

	async #shareScreen(options: {
		audio?: boolean | undefined;
		video?: MediaTrackConstraints | undefined;
		signal?: AbortSignal | undefined;
	}): Promise<void> {
		this.#open();
		const { audio = true, video = true, signal } = options;
		if (signal?.aborted) throw aborted(signal);
		if (!media.canShareScreen)
			throw new MadangError(globalThis.isSecureContext === false ? "insecure_context" : "unsupported");
		const version = ++this.#slots.screen.version;
		let stream: MediaStream;
		const stop = (late: MediaStream) => {
			for (const track of late.getTracks()) track.stop();
		};
		try {
			stream = await abortable(navigator.mediaDevices.getDisplayMedia({ audio, video }), signal, stop);
		} catch (error) {
			throw mediaError(error);
		}
		if (this.closed || this.#slots.screen.version !== version) {
			stop(stream);
			throw new MadangError(this.closed ? "closed" : "aborted");
		}
		const picture = stream.getVideoTracks()[0] ?? null;
		// Text has to stay readable when the bandwidth is short; a slide may come a little later.
		if (picture && "contentHint" in picture && picture.contentHint === "") picture.contentHint = "detail";
		this.#put("screen", picture, true);
		this.#put("screen-audio", stream.getAudioTracks()[0] ?? null, true);
		this.#changed();
	}

	/** Puts a track in place of the former one, which is stopped if it was captured here. */
	#put(source: Source, track: MediaStreamTrack | null, owned: boolean): void {
		const slot = this.#slots[source];
		const former = slot.track;
		slot.version++;
		slot.orphaned = false;
		if (former === track) return;
		const stopFormer = slot.owned;
		slot.track = track;
		slot.owned = owned;
		track?.addEventListener("ended", () => this.#trackEnded(source, track), { signal: this.#end.signal });
		this.emit("track", source, track);
		if (stopFormer) former?.stop();
	}

	#trackEnded(source: Source, track: MediaStreamTrack): void {
		const slot = this.#slots[source];
		if (slot.track !== track || this.closed) return;
		const owned = slot.owned;
		this.#put(source, null, true);
		if (source === "screen") this.#put("screen-audio", null, true);
		if (owned && (source === "microphone" || source === "camera")) {
			slot.orphaned = true;
			void this.#takeAnother(source);
		}
		this.#changed();
		this.emit("ended", source);
	}

	#devicesChanged(): void {
		for (const source of ["microphone", "camera"] as const) {
			if (this.#slots[source].orphaned) void this.#takeAnother(source);
		}
	}

	/** The device in use is gone: any other of its kind takes over, now or when one is plugged in. */
	async #takeAnother(source: DeviceSource, retry = false): Promise<void> {
		const slot = this.#slots[source];
		try {
			// Without a look at the list: Firefox does not tell it to a page in the background, and the others wait for a picture.
			const constraints = slot.constraints === true ? true : { ...slot.constraints };
			if (constraints !== true) delete constraints.deviceId;
			await this.#capture(source, constraints);
		} catch (error) {
			// It stays without until a device is plugged in; "ended" has said so. One that another is just letting go is asked for once more.
			if (retry || !(error instanceof MadangError) || error.code !== "device_busy") return;
			setTimeout(() => slot.orphaned && !this.closed && void this.#takeAnother(source, true), retryDelayMs);
		}
	}

	#changed(): void {
		const of = (source: Source): MediaState => {
			const { track, muted } = this.#slots[source];
			return muted ? (track || source === "camera" ? "muted" : "off") : track ? "on" : "off";
		};
		const state = { audio: of("microphone"), video: of("camera"), screen: of("screen") };
		const former = this.#state;
		if (state.audio === former.audio && state.video === former.video && state.screen === former.screen) return;
		this.#state = Object.freeze(state);
		this.emit("changed", this.#state);
	}
}

function emptySlot(): Slot {
	return { track: null, owned: false, muted: false, constraints: true, orphaned: false, version: 0 };
}

function wanted(device: string | MediaTrackConstraints, former: true | MediaTrackConstraints): MediaTrackConstraints {
	if (typeof device !== "string") return device;
	return { ...(former === true ? {} : former), deviceId: { exact: device } };
}

function mediaDevices(): MediaDevices | undefined {
	return typeof navigator === "undefined" ? undefined : navigator.mediaDevices;
}

async function capture(
	audio: boolean | MediaTrackConstraints,
	video: boolean | MediaTrackConstraints,
	signal?: AbortSignal,
): Promise<MediaStreamTrack[]> {
	if (signal?.aborted) throw aborted(signal);
	const devices = mediaDevices();
	if (!devices?.getUserMedia) {
		throw new MadangError(globalThis.isSecureContext === false ? "insecure_context" : "unsupported");
	}
	try {
		const stream = await abortable(devices.getUserMedia({ audio, video }), signal, (late) => {
			for (const track of late.getTracks()) track.stop();
		});
		return stream.getTracks();
	} catch (error) {
		const reason = mediaError(error);
		if (reason.code !== "device_not_found") throw reason;
		// Browsers do not say which of the two is missing.
		const { microphones, cameras } = await media.devices().catch(() => ({ microphones: [], cameras: [] }));
		throw new MadangError("device_not_found", {
			cause: error,
			detail: { audio: Boolean(audio) && microphones.length === 0, video: Boolean(video) && cameras.length === 0 },
		});
	}
}

/** W3C mediacapture-main §10.3.5 and screen-capture §5.1: the names of what getUserMedia and getDisplayMedia reject with. */
function mediaError(error: unknown): MadangError {
	if (error instanceof MadangError) return error;
	const name = error instanceof Error || error instanceof DOMException ? error.name : "";
	switch (name) {
		case "NotAllowedError":
		case "SecurityError":
			return new MadangError("permission_denied", { cause: error });
		case "NotFoundError":
		case "OverconstrainedError":
			return new MadangError("device_not_found", { cause: error });
		case "NotReadableError":
		case "AbortError":
			return new MadangError("device_busy", { cause: error });
	}
	return new MadangError("unsupported", { cause: error });
}
