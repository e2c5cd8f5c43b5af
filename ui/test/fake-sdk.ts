/**
 * A hand-written other side of `src/sdk.ts`: a channel whose peers are played by a script. `npm run gallery` serves the UI with it, so that every
 * state can be looked at without a server: `/call.html?scene=duo`, and the other names in `scenes`. The unit tests drive it in Node.
 */
import type {
	Channel,
	ChannelSettings,
	Devices,
	JoinOptions,
	LocalMedia,
	Peer,
	PublishedMedia,
	Quality,
	RemoteTrack,
	Role,
	Sdk,
	Source,
} from "../src/sdk.js";

type Listener = (...args: never[]) => void;

class Emitter {
	readonly #listeners = new Map<string, Set<Listener>>();
	readonly on = (event: string, listener: Listener): (() => void) => {
		const set = this.#listeners.get(event) ?? new Set();
		this.#listeners.set(event, set.add(listener));
		return () => set.delete(listener);
	};
	emit(event: string, ...args: unknown[]): void {
		for (const listener of [...(this.#listeners.get(event) ?? [])]) (listener as (...a: unknown[]) => void)(...args);
	}
}

export class FakeError extends Error {
	constructor(
		readonly code: string,
		readonly retryAfterMs?: number,
	) {
		super(code);
	}
	text(language: string): string {
		return `${this.code} (${language})`;
	}
}

export class FakePeer extends Emitter implements Peer {
	name: string;
	role: Role = "speaker";
	media: PublishedMedia = { audio: "on", video: "on", screen: "off" };
	connection: Peer["connection"] = "connected";
	readonly tracks = new Map<Source, RemoteTrack>();
	quality: Quality | null = null;
	restarts = 0;
	constructor(
		readonly id: string,
		name: string,
	) {
		super();
		this.name = name;
	}
	restartIce(): void {
		this.restarts++;
	}
	openData(): Promise<never> {
		return Promise.reject(new FakeError("closed"));
	}
	give(source: Source, mediaTrack: MediaStreamTrack): this {
		this.tracks.set(source, { source, kind: mediaTrack.kind, mediaTrack, muted: false });
		this.emit("track");
		return this;
	}
}

export class FakeMedia extends Emitter implements LocalMedia {
	camera: MediaStreamTrack | null = null;
	microphone: MediaStreamTrack | null = null;
	screen: MediaStreamTrack | null = null;
	state: PublishedMedia = { audio: "off", video: "off", screen: "off" };
	closed = false;
	set(change: Partial<PublishedMedia>): void {
		this.state = { ...this.state, ...change };
		this.emit("changed");
	}
	muteMicrophone = () => this.set({ audio: "muted" });
	unmuteMicrophone = () => this.set({ audio: "on" });
	muteCamera = () => this.set({ video: "muted" });
	unmuteCamera = () => this.set({ video: "on" });
	useCamera = async () => {
		this.camera ??= fakeTrack("video", "me");
		this.set({ video: "on" });
	};
	useMicrophone = async () => {
		this.microphone ??= fakeTrack("audio", "me");
		this.set({ audio: "on" });
	};
	shareScreen = async () => {
		this.screen = fakeTrack("video", "screen");
		this.set({ screen: "on" });
	};
	stopScreen = () => {
		this.screen = null;
		this.set({ screen: "off" });
	};
	close = () => {
		this.closed = true;
	};
}

export class FakeChannel extends Emitter {
	settings: ChannelSettings = { locked: false, waitingRoom: false, capacity: 50 };
	state: Channel["state"] = "joined";
	me: { id: string; name: string; role: Role };
	readonly peers = new Map<string, FakePeer>();
	readonly done: unknown[][] = [];
	/** Lets the next `sendChat` fail. */
	refuseChat = false;
	published: LocalMedia | null;
	constructor(
		readonly id: string,
		options: JoinOptions,
	) {
		super();
		this.me = { id: "me", name: options.name ?? "", role: "host" };
		this.published = options.media ?? null;
	}
	publish = (media: LocalMedia) => {
		this.published = media;
	};
	sendChat = async (text: string) => {
		if (this.refuseChat) throw new FakeError("rate_limited");
		this.done.push(["chat", text]);
	};
	accept = async (peer: string) => void this.done.push(["accept", peer]);
	reject = async (peer: string, reason?: string) => void this.done.push(["reject", peer, reason]);
	kick = async (peer: string) => void this.done.push(["kick", peer]);
	setRole = async (peer: string, role: Role) => {
		this.done.push(["role", peer, role]);
		const found = this.peers.get(peer);
		if (found) found.role = role;
		found?.emit("updated");
	};
	configure = async (settings: Partial<ChannelSettings>) => {
		this.settings = { ...this.settings, ...settings };
		this.emit("settings", this.settings);
	};
	leave = () => {
		this.done.push(["leave"]);
		this.state = "left";
	};
	add(peer: FakePeer): FakePeer {
		this.peers.set(peer.id, peer);
		this.emit("peer-joined", peer);
		return peer;
	}
	remove(id: string, reason = "left"): void {
		const peer = this.peers.get(id);
		this.peers.delete(id);
		if (peer) this.emit("peer-left", peer, reason);
	}
}

/** An SDK whose answers a test decides. */
export class FakeSdk implements Sdk {
	channel: FakeChannel | null = null;
	opened: FakeMedia[] = [];
	/** Codes with which the next openings are refused, `null` for a success. */
	openings: (string | null)[] = [];
	joinError: FakeError | null = null;
	/** Called instead of joining at once. */
	onJoin: ((options: JoinOptions) => Promise<void>) | null = null;
	options: JoinOptions | null = null;
	devices: Devices = { microphones: [], cameras: [], speakers: [] };
	readonly #events = new Emitter();

	readonly media: Sdk["media"] = {
		canShareScreen: true,
		open: async ({ audio, video }) => {
			const refusal = audio || video ? this.openings.shift() : null;
			if (refusal) throw new FakeError(refusal);
			const media = new FakeMedia();
			if (audio) {
				media.microphone = fakeTrack("audio", "me");
				media.state = { ...media.state, audio: "on" };
			}
			if (video) {
				media.camera = fakeTrack("video", "me");
				media.state = { ...media.state, video: "on" };
			}
			this.opened.push(media);
			return media;
		},
		devices: async () => this.devices,
		on: (event, listener) => this.#events.on(event, listener as Listener),
	};

	join = async (options: JoinOptions): Promise<Channel> => {
		this.options = options;
		await this.onJoin?.(options);
		if (options.signal?.aborted) throw new FakeError("aborted");
		if (this.joinError) throw this.joinError;
		this.channel = new FakeChannel(options.channel, options);
		return this.channel as unknown as Channel;
	};
	readonly meters: ((level: number) => void)[] = [];
	levelMeter = (_track: MediaStreamTrack, listener: (level: number) => void): void => void this.meters.push(listener);
	record = () => ({ stop: async () => new Blob(["x"], { type: "video/webm" }) });
	snapshot = async () => new Blob(["x"], { type: "image/png" });
}

/** A drawn picture in a browser; in Node an object that only says what it is. */
export function fakeTrack(kind: "audio" | "video", who: string): MediaStreamTrack {
	if (typeof document === "undefined")
		return { kind, id: `${kind}-${who}`, readyState: "live", getSettings: () => ({}) } as unknown as MediaStreamTrack;
	if (kind === "audio")
		return new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0] as MediaStreamTrack;
	const canvas = document.createElement("canvas");
	canvas.width = 1280;
	canvas.height = 720;
	const c = canvas.getContext("2d") as CanvasRenderingContext2D;
	const hue = [...who].reduce((h, x) => h * 31 + x.charCodeAt(0), 7) % 360;
	const draw = () => (who === "screen" ? drawScreen(c) : drawPerson(c, hue, performance.now()));
	draw();
	setInterval(draw, 100);
	return canvas.captureStream(10).getVideoTracks()[0] as MediaStreamTrack;
}

function drawPerson(c: CanvasRenderingContext2D, hue: number, now: number): void {
	const wall = c.createLinearGradient(0, 0, 1280, 720);
	wall.addColorStop(0, `hsl(${hue} 22% 74%)`);
	wall.addColorStop(1, `hsl(${hue + 30} 26% 52%)`);
	c.fillStyle = wall;
	c.fillRect(0, 0, 1280, 720);
	c.fillStyle = `hsl(${hue + 60} 30% 84% / 70%)`;
	c.fillRect(120, 80, 260, 300);
	c.fillStyle = `hsl(${hue + 100} 25% 38%)`;
	c.fillRect(990, 300, 190, 420);
	const bob = Math.sin(now / 700) * 8;
	c.fillStyle = `hsl(${(hue * 3) % 360} 38% 36%)`;
	c.beginPath();
	c.ellipse(640, 790 + bob, 330, 310, 0, Math.PI, 0);
	c.fill();
	c.fillStyle = "#e7b993";
	c.fillRect(590, 420 + bob, 100, 110);
	c.beginPath();
	c.ellipse(640, 330 + bob, 128, 155, 0, 0, 7);
	c.fill();
	c.fillStyle = `hsl(${hue % 40} 35% ${14 + (hue % 22)}%)`;
	c.beginPath();
	c.ellipse(640, 270 + bob, 146, 125, 0, Math.PI * 0.98, Math.PI * 0.02);
	c.fill();
	c.fillStyle = "#2a211c";
	for (const x of [594, 686]) {
		c.beginPath();
		c.arc(x, 330 + bob, 9, 0, 7);
		c.fill();
	}
	c.strokeStyle = "#9a5a45";
	c.lineWidth = 8;
	c.lineCap = "round";
	c.beginPath();
	c.arc(640, 380 + bob, 42, 0.3, Math.PI - 0.3);
	c.stroke();
}

function drawScreen(c: CanvasRenderingContext2D): void {
	c.fillStyle = "#fbfaf7";
	c.fillRect(0, 0, 1280, 720);
	c.fillStyle = "#23302a";
	c.font = "700 44px sans-serif";
	c.fillText("Spring menu, third draft", 80, 120);
	for (let i = 0; i < 9; i++) {
		c.fillStyle = i % 4 === 0 ? "#8fa79c" : "#d7d3c8";
		c.fillRect(80, 180 + i * 52, 480 + ((i * 97) % 260), 20);
	}
	c.fillStyle = "#2f6f5e";
	[180, 260, 220, 330, 300].forEach((h, i) => {
		c.fillRect(880 + i * 66, 620 - h, 44, h);
	});
}

// --- the gallery ---------------------------------------------------------------------------------------------------------------

const gallery = new FakeSdk();
const query = typeof location === "undefined" ? new URLSearchParams() : new URLSearchParams(location.search);
const scene = query.get("scene") ?? "";
const korean = typeof navigator !== "undefined" && (query.get("lang") ?? navigator.language).startsWith("ko");
const names = korean
	? ["김민아", "박준", "이서연", "최도현", "정하늘", "한지우", "오세훈", "윤슬", "강다온", "서리나", "문가온"]
	: [
			"Mina Kim",
			"Jun Park",
			"Seoyeon",
			"Amara Okafor",
			"Liam",
			"Sofia Rossi",
			"Noah",
			"Yuki Tanaka",
			"Omar",
			"Elena",
			"Tom",
		];

const good: Quality = {
	grade: "good",
	reason: "none",
	path: { local: "host", remote: "srflx", protocol: "udp", relayed: false },
	rttMs: 24,
	jitterMs: 3,
	lossRatio: 0.001,
	inBitrateBps: 1_430_000,
	outBitrateBps: 1_210_000,
};
const poor: Quality = {
	...good,
	grade: "poor",
	reason: "loss",
	path: { local: "relay", remote: "srflx", protocol: "udp", relayProtocol: "tls", relayed: true },
	rttMs: 182,
	lossRatio: 0.087,
	inBitrateBps: 214_000,
};

function populate(channel: FakeChannel, count: number): void {
	for (let i = 0; i < count; i++) {
		const peer = new FakePeer(`p${i}`, names[i % names.length] as string);
		peer.quality = i === 1 ? poor : i === 2 ? { ...good, grade: "fair", reason: "bandwidth" } : good;
		peer.give("camera", fakeTrack("video", `p${i}`));
		if (i === 3) peer.media = { audio: "muted", video: "off", screen: "off" };
		channel.add(peer);
	}
}

const code = /^error-(.+)$/.exec(scene)?.[1];
if (code) gallery.joinError = new FakeError(code);
const device = /^device-(.+)$/.exec(scene)?.[1];
if (device) gallery.openings = [device, device, device];
gallery.devices = {
	cameras: [
		{ deviceId: "c1", label: "FaceTime HD Camera" },
		{ deviceId: "c2", label: "Logitech BRIO" },
	] as MediaDeviceInfo[],
	microphones: [
		{ deviceId: "m1", label: "MacBook Pro Microphone" },
		{ deviceId: "m2", label: "AirPods" },
	] as MediaDeviceInfo[],
	speakers: [{ deviceId: "s1", label: "MacBook Pro Speakers" }] as MediaDeviceInfo[],
};
if (scene === "pending" || scene === "ring") {
	gallery.onJoin = (options) => {
		options.onPending?.(scene === "ring" ? "ring" : "waiting_room");
		return new Promise(() => {});
	};
}

export async function join(options: JoinOptions): Promise<Channel> {
	const channel = (await gallery.join(options)) as unknown as FakeChannel;
	const size =
		{
			alone: 0,
			duo: 1,
			trio: 2,
			quad: 3,
			nine: 8,
			twelve: 11,
			screen: 3,
			chat: 1,
			people: 3,
			asking: 1,
			calling: 1,
			trouble: 3,
			reconnecting: 1,
			sharing: 1,
			duomuted: 1,
		}[scene] ?? 1;
	setTimeout(() => {
		populate(channel, size);
		const first = channel.peers.get("p0");
		if (scene === "screen") first?.give("screen", fakeTrack("video", "screen"));
		if (scene === "screen" && first) first.media = { ...first.media, screen: "on" };
		if (scene === "duomuted" && first) {
			first.media = { audio: "muted", video: "off", screen: "off" };
			first.emit("updated");
		}
		if (scene === "chat") {
			const say = (text: string, ago: number) =>
				channel.emit("chat", { from: first, text, at: Date.now() - ago, private: false });
			say(korean ? "잘 들려요?" : "Can you hear me?", 180_000);
			say(
				korean
					? "메뉴 초안 여기 있어요: https://example.com/menu"
					: "Here is the draft of the menu: https://example.com/menu.",
				20_000,
			);
			say(korean ? "두 번째 쪽만 봐 주세요 🙂" : "Only page two, please 🙂", 15_000);
		}
		if (scene === "asking" || scene === "calling")
			channel.emit(
				"ring",
				{ id: "r1", name: korean ? "이하나" : "Hana Lee" },
				scene === "calling" ? "ring" : "waiting_room",
			);
		if (scene === "people") channel.emit("ring", { id: "r1", name: korean ? "이하나" : "Hana Lee" }, "waiting_room");
		if (scene === "trouble") {
			const [a, b, c] = [...channel.peers.values()];
			if (a) a.connection = "interrupted";
			if (b) b.connection = "failed";
			if (c) {
				c.connection = "connecting";
				c.tracks.clear();
			}
			a?.emit("connection");
		}
		if (scene === "reconnecting") channel.emit("state", "reconnecting");
		gallery.meters.at(-1)?.(0);
		setInterval(() => {
			for (const [i, meter] of gallery.meters.entries()) meter(i === gallery.meters.length - 1 || i === 0 ? 0.25 : 0);
		}, 66);
	}, 50);
	return channel as unknown as Channel;
}
export const media = gallery.media;
export const levelMeter = gallery.levelMeter;
export const record = gallery.record;
export const snapshot = gallery.snapshot;
