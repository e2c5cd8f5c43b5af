import type { Recording, Sdk } from "../sdk.js";

export interface RecordingInput {
	readonly videos: readonly {
		readonly video: HTMLVideoElement | null;
		readonly name: string;
		readonly screen: boolean;
		readonly mirror: boolean;
	}[];
	readonly sounds: readonly MediaStreamTrack[];
}

const width = 1280;
const height = 720;
const framesPerSecond = 25;

/**
 * Records the whole call on this device: all pictures drawn into one, all voices mixed into one. Who comes and goes meanwhile is in the file
 * from that moment on. `input` is asked for every frame what there is to see and hear.
 */
export class CallRecording {
	readonly startedAtMs = Date.now();
	readonly #input: () => RecordingInput;
	readonly #canvas = document.createElement("canvas");
	readonly #audio = new AudioContext();
	readonly #mix: MediaStreamAudioDestinationNode;
	readonly #sources = new Map<MediaStreamTrack, MediaStreamAudioSourceNode>();
	#timer: ReturnType<typeof setInterval> | undefined;
	readonly #recording: Recording;
	readonly #tracks: MediaStreamTrack[];

	constructor(sdk: Sdk, input: () => RecordingInput) {
		this.#input = input;
		this.#canvas.width = width;
		this.#canvas.height = height;
		this.#mix = this.#audio.createMediaStreamDestination();
		this.#draw();
		this.#tracks = [
			...this.#canvas.captureStream(framesPerSecond).getVideoTracks(),
			...this.#mix.stream.getAudioTracks(),
		];
		try {
			this.#recording = sdk.record(this.#tracks);
		} catch (error) {
			void this.#release();
			throw error;
		}
		// Not requestAnimationFrame, which stands still while the tab is in the background.
		this.#timer = setInterval(() => this.#draw(), 1000 / framesPerSecond);
	}

	async stop(): Promise<Blob> {
		try {
			return await this.#recording.stop();
		} finally {
			await this.#release();
		}
	}

	async #release(): Promise<void> {
		clearInterval(this.#timer);
		for (const track of this.#tracks) track.stop();
		await this.#audio.close().catch(() => {});
	}

	#draw(): void {
		const { videos, sounds } = this.#input();
		this.#hear(sounds);
		const context = this.#canvas.getContext("2d");
		if (!context) return;
		context.fillStyle = "#0f1412";
		context.fillRect(0, 0, width, height);
		const columns = Math.max(1, Math.ceil(Math.sqrt(videos.length)));
		const rows = Math.max(1, Math.ceil(videos.length / columns));
		const tileWidth = width / columns;
		const tileHeight = height / rows;
		videos.forEach(({ video, name, screen, mirror }, i) => {
			const x = (i % columns) * tileWidth;
			const y = Math.floor(i / columns) * tileHeight;
			context.save();
			context.beginPath();
			context.rect(x + 2, y + 2, tileWidth - 4, tileHeight - 4);
			context.clip();
			context.fillStyle = "#232c28";
			context.fillRect(x, y, tileWidth, tileHeight);
			if (video && video.videoWidth > 0 && !video.paused) {
				const pick = screen ? Math.min : Math.max;
				const scale = pick(tileWidth / video.videoWidth, tileHeight / video.videoHeight);
				const w = video.videoWidth * scale;
				const h = video.videoHeight * scale;
				context.translate(x + tileWidth / 2, y + tileHeight / 2);
				if (mirror) context.scale(-1, 1);
				context.drawImage(video, -w / 2, -h / 2, w, h);
			}
			context.restore();
			context.font = "600 18px system-ui, sans-serif";
			context.fillStyle = "rgb(16 20 18 / 76%)";
			const text = name.slice(0, 40);
			context.fillRect(x + 12, y + tileHeight - 42, context.measureText(text).width + 20, 30);
			context.fillStyle = "#fff";
			context.fillText(text, x + 22, y + tileHeight - 21);
		});
	}

	#hear(sounds: readonly MediaStreamTrack[]): void {
		for (const [track, source] of this.#sources) {
			if (!sounds.includes(track)) {
				source.disconnect();
				this.#sources.delete(track);
			}
		}
		for (const track of sounds) {
			if (this.#sources.has(track) || track.readyState !== "live") continue;
			const source = this.#audio.createMediaStreamSource(new MediaStream([track]));
			source.connect(this.#mix);
			this.#sources.set(track, source);
		}
	}
}
