import { compareVersions } from "../src/frame.js";
import { Events } from "./event.js";
import { exportLog, loggers } from "./log.js";

// `PlayRTC.utils`: what pages have come to use of the old SDK's helpers.

type Constructor = new (...args: never[]) => object;

/** A class as {@link Extend} makes it. */
export interface ExtendedClass {
	new (...args: unknown[]): object;
	base: object;
	Extend(members: object): ExtendedClass;
}

/** Classes whose own constructor calls `initialize`. */
const initializing = new WeakSet<object>();

/** Says that a class calls `initialize` itself. */
export function initializes(parent: object): void {
	initializing.add(parent);
}

/** A subclass whose constructor calls `initialize(...)`. */
export function Extend(parent: object, members: object = {}): ExtendedClass {
	function Child(this: unknown, ...args: never[]): object {
		const self: object = Reflect.construct(parent as Constructor, args, new.target ?? Child);
		if (!initializing.has(parent)) (self as { initialize?: (...args: never[]) => void }).initialize?.(...args);
		return self;
	}
	Child.prototype = Object.assign(Object.create((parent as Constructor).prototype), members);
	Object.defineProperty(Child.prototype, "constructor", { value: Child, writable: true, configurable: true });
	Child.base = (parent as Constructor).prototype;
	Child.Extend = (more: object) => Extend(Child, more);
	initializing.add(Child);
	return Child as unknown as ExtendedClass;
}

function isPlain(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && [Object.prototype, null].includes(Object.getPrototypeOf(value));
}

/** Merges `copy` deeply into `target`. Arrays are replaced. */
export function apply<T extends object>(target: T, copy: object): T {
	if (!target || !copy) throw new TypeError("apply needs two objects");
	const into = target as Record<string, unknown>;
	for (const [key, value] of Object.entries(copy)) {
		if (key === "__proto__") continue;
		const former = into[key];
		if (!isPlain(value)) into[key] = value;
		else into[key] = apply(isPlain(former) ? former : {}, value);
	}
	return target;
}

const agent = typeof navigator === "undefined" ? "" : navigator.userAgent;

/** Names are what old pages and servers know; anything with "chrome" in it is chrome. */
export const browser: { name: string; version: string } | null = findBrowser(agent);

export function findBrowser(agent: string): { name: string; version: string } | null {
	const patterns: [string, RegExp][] = [
		["opera", /(?:OPR|Opera)\/([\d.]+)/],
		["chrome", /(?:Chrome|CriOS)\/([\d.]+)/],
		["firefox", /(?:Firefox|FxiOS)\/([\d.]+)/],
		["ie", /(?:MSIE |Trident\/.*rv:)([\d.]+)/],
		["safari", /Version\/([\d.]+).*Safari/],
	];
	for (const [name, pattern] of patterns) {
		const version = agent.match(pattern)?.[1];
		if (version) return { name, version };
	}
	return null;
}

export const platform: string | undefined = findPlatform(agent);

export function findPlatform(agent: string): string | undefined {
	if (/Windows/.test(agent)) return "windows";
	if (/iPhone|iPad|iPod/.test(agent)) return "ios";
	if (/Android/.test(agent)) return "android";
	if (/Mac/.test(agent)) return "mac";
	return /Linux|X11/.test(agent) ? "linux" : undefined;
}

export const language: string = typeof navigator === "undefined" ? "en" : navigator.language;
export const nation: string | undefined = language.split("-")[1];

function bind(fn: (...args: never[]) => unknown, context: unknown): (...args: never[]) => void {
	return (...args) => {
		fn.apply(context, args);
	};
}

/** Makes the browser save a Blob as a file. */
export function fileDownload(blob: Blob, name: string): void {
	const link = document.createElement("a");
	link.href = URL.createObjectURL(blob);
	link.download = name;
	document.body.append(link);
	link.click();
	link.remove();
	setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser has opened it by then
}

interface ElementOptions {
	autoPlay?: boolean;
	controls?: boolean;
	width?: string;
	height?: string;
}

function createVideo(stream: MediaStream, options: ElementOptions = {}): HTMLVideoElement {
	const video = document.createElement("video");
	const { width = "100%", height = "100%" } = options;
	video.setAttribute("width", width);
	video.setAttribute("height", height);
	video.playsInline = true;
	return play(video, stream, options);
}

function createAudio(stream: MediaStream, options: ElementOptions = {}): HTMLAudioElement {
	return play(document.createElement("audio"), stream, options);
}

function play<T extends HTMLMediaElement>(element: T, stream: MediaStream, options: ElementOptions): T {
	element.autoplay = options.autoPlay ?? true;
	element.controls = options.controls ?? true;
	element.srcObject = stream;
	return element;
}

const streams = new Map<string, WeakRef<MediaStream>>();

/**
 * An address for the `src` of a media element. Browsers have taken that away for streams; from the first such address on, this page's media
 * elements know ours.
 */
function createObjectURL(source: Blob | MediaSource | MediaStream): string {
	if (!(source instanceof MediaStream)) return URL.createObjectURL(source);
	if (streams.size === 0) {
		const src = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "src") as PropertyDescriptor;
		Object.defineProperty(HTMLMediaElement.prototype, "src", {
			...src,
			set(this: HTMLMediaElement, address: string) {
				const stream = streams.get(address)?.deref();
				if (stream || this.srcObject) this.srcObject = stream ?? null;
				if (!stream) src.set?.call(this, address);
			},
		});
	}
	const address = `mediastream:${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
	streams.set(address, new WeakRef(source));
	return address;
}

/** `{0}`, `{1}` … are replaced by the arguments. */
function strFormat(format: string, ...values: unknown[]): string {
	return format.replace(/\{(\d+)\}/g, (all, index) => (Number(index) < values.length ? String(values[index]) : all));
}

const supported = typeof RTCPeerConnection !== "undefined";

export const utils = {
	browser,
	platform,
	language,
	nation,
	Extend,
	Event: Events,
	apply,
	bind,
	fileDownload,
	createVideo,
	createAudio,
	createObjectURL,
	strFormat,
	versionCompare: compareVersions,
	exportLog: (): Promise<void> => exportLog(fileDownload),
	debugViewShow: (): void => loggers.monitor.view?.show?.(),
	debugViewHide: (): void => loggers.monitor.view?.hide?.(),
	userMediaSupport: typeof navigator !== "undefined" && typeof navigator.mediaDevices?.getUserMedia === "function",
	webRtcSupport: supported,
	dataChannelSupport: supported && "createDataChannel" in RTCPeerConnection.prototype,
	blobWorkerSupport: typeof Worker !== "undefined" && typeof Blob !== "undefined",
	mediaRecorderSupport: typeof MediaRecorder !== "undefined",
};
