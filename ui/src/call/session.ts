import { loadPrefs, type Prefs, savePrefs } from "../prefs.js";
import type { Caller, Channel, CodedError, Devices, LocalMedia, Peer, Role, Sdk, Source } from "../sdk.js";
import { codeOf } from "../sdk.js";
import { ActiveSpeaker } from "../speaker.js";
import { CallFiles, type FileCard } from "./files.js";

/**
 * A call as the UI sees it, without any drawing: which screen is shown, what is published, who is there, what was said. The element renders
 * it again at each `change`.
 *
 *     prejoin ──join──▶ joining ──▶ call ──leave, bye──▶ ended
 *        ▲                 │ ▲        (reconnecting is a flag of call)
 *        │                 ▼ │                              │
 *        └──cancel───── pending            join again ──────┘
 *
 * A refused join goes from joining or pending to ended, with the error.
 */
export type Phase = "prejoin" | "joining" | "pending" | "call" | "ended";

export interface JoinWish {
	readonly channel: string;
	readonly server?: string;
	readonly key?: string;
	readonly token?: string;
	readonly name: string;
	readonly ring: boolean;
}

export interface ChatLine {
	readonly id: number;
	readonly kind: "theirs" | "mine" | "note";
	readonly name: string;
	readonly text: string;
	readonly atMs: number;
	readonly private: boolean;
	/** Files that are offered; `text` is empty then. */
	readonly card?: FileCard;
	/** Of one's own lines. */
	readonly sending?: "pending" | "failed";
}

export type Note =
	| { readonly kind: "joined" | "left" | "kicked"; readonly name: string }
	| { readonly kind: "files"; readonly name: string; readonly card: FileCard }
	| { readonly kind: "chat"; readonly name: string; readonly text: string }
	| { readonly kind: "role"; readonly role: Role }
	| { readonly kind: "locked" | "unlocked" | "reconnected" | "reconnecting" | "device-lost" }
	| { readonly kind: "error"; readonly error: unknown };

export interface Asking {
	readonly caller: Caller;
	readonly reason: string;
}

/** The most chat lines that are kept: a call of days does not fill the memory. */
const maxChatLines = 500;

export class CallSession extends EventTarget {
	readonly sdk: Sdk;
	phase: Phase = "prejoin";
	pendingReason: "ring" | "waiting_room" | null = null;
	/** Why the call ended; `null` when one left. */
	endedBy: unknown = null;

	media: LocalMedia | null = null;
	mediaState: "none" | "opening" | "ready" = "none";
	/** Why camera or microphone are missing. */
	cameraError: string | null = null;
	microphoneError: string | null = null;
	devices: Devices = { microphones: [], cameras: [], speakers: [] };

	channel: Channel | null = null;
	/** Files that are sent and received in this call. */
	files: CallFiles | null = null;
	reconnecting = false;
	joinedAtMs = 0;
	/** Of the call that ended last. */
	lastedMs = 0;
	readonly chat: ChatLine[] = [];
	readonly asking = new Map<string, Asking>();
	readonly speaker = new ActiveSpeaker();
	/** One's own voice, 0 to 1. */
	level = 0;
	prefs: Prefs = loadPrefs();

	#joining: AbortController | null = null;
	#life = new AbortController();
	#opening: Promise<void> | null = null;
	#meters = new Map<string, { track: MediaStreamTrack; stop: AbortController }>();
	#peerOffs = new Map<string, (() => void)[]>();
	#lineId = 0;

	constructor(sdk: Sdk) {
		super();
		this.sdk = sdk;
		this.#listen(
			sdk.media.on("devices-changed", (devices) => {
				this.devices = devices;
				this.#changed();
			}),
		);
	}

	#listen(off: unknown): void {
		if (typeof off === "function")
			this.#life.signal.addEventListener("abort", () => (off as () => void)(), { once: true });
	}

	#changed(): void {
		this.dispatchEvent(new Event("change"));
	}

	#note(detail: Note): void {
		this.dispatchEvent(new CustomEvent<Note>("note", { detail }));
	}

	remember(change: Partial<Prefs>): void {
		this.prefs = savePrefs(change);
		this.#changed();
	}

	// --- camera and microphone -------------------------------------------------------------------------------------

	/** Opens what there is: with a camera missing or busy the microphone alone, and the other way round. */
	openMedia(): Promise<void> {
		this.#opening ??= this.#open().finally(() => {
			this.#opening = null;
		});
		return this.#opening;
	}

	async #open(): Promise<void> {
		this.mediaState = "opening";
		this.cameraError = this.microphoneError = null;
		this.#changed();
		const audio = { ...(this.prefs.microphone ? { deviceId: { ideal: this.prefs.microphone } } : {}) };
		const video = {
			width: { ideal: 1280 },
			height: { ideal: 720 },
			frameRate: { ideal: 30 },
			...(this.prefs.camera ? { deviceId: { ideal: this.prefs.camera } } : { facingMode: "user" }),
		};
		const signal = this.#life.signal;
		const attempt = (a: typeof audio | false, v: typeof video | false) =>
			this.sdk.media.open({ audio: a, video: v, signal });
		let media: LocalMedia | null = null;
		try {
			media = await attempt(audio, this.prefs.cameraOff ? false : video);
			if (this.prefs.cameraOff) this.cameraError = null;
		} catch (error) {
			const code = codeOf(error);
			this.cameraError = this.microphoneError = code;
			// After a refusal the browser would only ask again, or refuse again without asking.
			if (code !== "permission_denied" && code !== "insecure_context" && code !== "aborted") {
				try {
					media = await attempt(audio, false);
					this.microphoneError = null;
				} catch (again) {
					this.microphoneError = codeOf(again);
					try {
						media = await attempt(false, video);
						this.cameraError = null;
					} catch (last) {
						this.cameraError = codeOf(last);
					}
				}
			}
		}
		if (signal.aborted) {
			media?.close();
			return;
		}
		this.mediaState = media ? "ready" : "none";
		if (media) this.#useMedia(media);
		this.#changed();
		await this.refreshDevices();
	}

	#useMedia(media: LocalMedia): void {
		this.media?.close();
		this.media = media;
		const update = () => {
			if (this.media !== media) return;
			this.#meter("self", media.state.audio === "on" ? media.microphone : null, (level) => {
				this.level = level;
				this.dispatchEvent(new Event("level"));
			});
			this.#changed();
		};
		this.#listen(media.on("changed", update));
		this.#listen(media.on("track", update));
		this.#listen(
			media.on("ended", () => {
				this.#note({ kind: "device-lost" });
				update();
			}),
		);
		if (this.channel && this.channel.state !== "left") this.channel.publish(media);
		update();
	}

	async refreshDevices(): Promise<void> {
		try {
			this.devices = await this.sdk.media.devices();
		} catch {
			// An insecure page has no devices to list.
		}
		this.#changed();
	}

	async toggleMicrophone(on = this.media?.state.audio !== "on"): Promise<void> {
		await this.#try(async () => {
			if (this.media?.microphone || this.media?.state.audio === "muted") {
				await (on ? this.media.unmuteMicrophone() : this.media.muteMicrophone());
			} else if (on) {
				if (this.media) {
					await this.media.useMicrophone(this.prefs.microphone);
					this.microphoneError = null;
				} else await this.openMedia();
			}
		});
		this.#changed();
	}

	async toggleCamera(on = this.media?.state.video !== "on"): Promise<void> {
		this.prefs = savePrefs({ cameraOff: !on });
		await this.#try(async () => {
			if (this.media?.camera || this.media?.state.video === "muted") {
				await (on ? this.media.unmuteCamera() : this.media.muteCamera());
			} else if (on) {
				if (this.media) {
					await this.media.useCamera(this.prefs.camera);
					this.cameraError = null;
				} else await this.openMedia();
			}
		});
		this.#changed();
	}

	async choose(kind: "microphone" | "camera" | "speaker", deviceId: string): Promise<void> {
		this.remember({ [kind]: deviceId });
		if (kind === "speaker") return;
		await this.#try(async () => {
			if (!this.media) return void (await this.openMedia());
			if (kind === "microphone") {
				await this.media.useMicrophone(deviceId);
				this.microphoneError = null;
			} else {
				await this.media.useCamera(deviceId);
				this.cameraError = null;
			}
		});
		this.#changed();
	}

	async toggleScreen(): Promise<void> {
		await this.#try(async () => {
			if (this.media?.screen) return void this.media.stopScreen();
			if (!this.media) this.#useMedia(await this.sdk.media.open({ audio: false, video: false }));
			try {
				await this.media?.shareScreen({ audio: true, signal: this.#life.signal });
			} catch (error) {
				// Closing the browser's picker is a decision, not a fault.
				if (!["permission_denied", "aborted"].includes(codeOf(error))) throw error;
			}
		});
		this.#changed();
	}

	async #try(work: () => Promise<void>): Promise<void> {
		try {
			await work();
		} catch (error) {
			if (codeOf(error) !== "aborted") this.#note({ kind: "error", error });
		}
	}

	#meter(id: string, track: MediaStreamTrack | null, listener: (level: number) => void): void {
		const running = this.#meters.get(id);
		if (running?.track === track) return;
		running?.stop.abort();
		this.#meters.delete(id);
		if (!track) return;
		const stop = new AbortController();
		this.#meters.set(id, { track, stop });
		try {
			this.sdk.levelMeter(track, listener, { signal: stop.signal });
		} catch {
			// Without an audio context there is no meter, and nothing else is lost.
		}
	}

	// --- the call ----------------------------------------------------------------------------------------------------

	/**
	 * Joins with what is there. Devices that are still starting hold nothing up, since those who are there can be seen and heard meanwhile:
	 * they are published as soon as they are ready, which needs no negotiation.
	 */
	async join(wish: JoinWish): Promise<void> {
		if (this.phase === "joining" || this.phase === "pending" || this.phase === "call") return;
		if (wish.name) this.prefs = savePrefs({ name: wish.name });
		const stop = new AbortController();
		this.#joining = stop;
		this.phase = "joining";
		this.endedBy = null;
		this.pendingReason = null;
		this.#changed();
		try {
			// Without devices something empty is published, so that a screen or a device can be added later.
			if (!this.media && !this.#opening) this.#useMedia(await this.sdk.media.open({ audio: false, video: false }));
			const published = this.media;
			const channel = await this.sdk.join({
				channel: wish.channel,
				...(wish.server ? { server: wish.server } : {}),
				...(wish.token ? { token: wish.token } : wish.key ? { key: wish.key } : {}),
				...(wish.name ? { name: wish.name } : {}),
				...(published ? { media: published } : {}),
				...(wish.ring ? { ring: true } : {}),
				signal: stop.signal,
				onPending: (reason) => {
					if (this.#joining !== stop) return;
					this.phase = "pending";
					this.pendingReason = reason;
					this.#changed();
				},
			});
			if (this.#joining !== stop) return void channel.leave();
			this.#enter(channel, wish);
			if (this.media && this.media !== published) channel.publish(this.media);
		} catch (error) {
			if (this.#joining !== stop) return;
			this.#joining = null;
			if (codeOf(error) === "aborted") this.phase = "prejoin";
			else {
				this.phase = "ended";
				this.endedBy = error;
				this.lastedMs = 0;
				this.dispatchEvent(new CustomEvent("failed", { detail: error }));
			}
			this.#changed();
		}
	}

	cancel(): void {
		if (this.phase !== "joining" && this.phase !== "pending") return;
		const stop = this.#joining;
		this.#joining = null;
		this.phase = "prejoin";
		stop?.abort();
		this.#changed();
	}

	#enter(channel: Channel, wish: JoinWish): void {
		this.channel = channel;
		this.files = new CallFiles(
			channel,
			{ name: wish.name, ...(wish.server ? { server: wish.server } : {}), ...(wish.key ? { key: wish.key } : {}) },
			() => this.#changed(),
			(card) => this.#card(card),
		);
		this.#joining = null;
		this.phase = "call";
		this.reconnecting = false;
		this.joinedAtMs = Date.now();
		this.chat.length = 0;
		this.asking.clear();
		let locked = channel.settings.locked;
		let role = channel.me.role;
		channel.on("state", (state, error) => {
			if (this.channel !== channel) return;
			if (state === "left") return this.#left(error ?? null);
			const reconnecting = state === "reconnecting";
			if (reconnecting !== this.reconnecting) this.#note({ kind: reconnecting ? "reconnecting" : "reconnected" });
			this.reconnecting = reconnecting;
			this.#changed();
		});
		channel.on("peer-joined", (peer) => {
			this.#watch(peer);
			this.#line({ kind: "note", name: peer.name, text: "joined", atMs: Date.now(), private: false });
			this.#note({ kind: "joined", name: peer.name });
			this.#changed();
		});
		channel.on("peer-left", (peer, reason) => {
			this.#unwatch(peer.id);
			this.#line({ kind: "note", name: peer.name, text: "left", atMs: Date.now(), private: false });
			this.#note({ kind: reason === "kicked" ? "kicked" : "left", name: peer.name });
			this.#changed();
		});
		channel.on("chat", (message) => {
			// What one says oneself is in the log already.
			if (message.from?.id === channel.me.id) return;
			const name = message.from?.name ?? "";
			this.#line({
				kind: "theirs",
				name,
				text: message.text,
				atMs: Number(message.at) || Date.now(),
				private: message.private,
			});
			this.#note({ kind: "chat", name, text: message.text });
			this.#changed();
		});
		channel.on("ring", (caller, reason) => {
			this.asking.set(caller.id, { caller, reason });
			this.#changed();
			this.dispatchEvent(new Event("ring"));
		});
		channel.on("ring-ended", (caller) => {
			this.asking.delete(caller.id);
			this.#changed();
		});
		channel.on("settings", (settings) => {
			if (settings.locked !== locked) this.#note({ kind: settings.locked ? "locked" : "unlocked" });
			locked = settings.locked;
			this.#changed();
		});
		channel.on("me", () => {
			if (channel.me.role !== role) this.#note({ kind: "role", role: channel.me.role });
			role = channel.me.role;
			this.#changed();
		});
		channel.on("error", (error: CodedError) => this.#note({ kind: "error", error }));
		for (const peer of channel.peers.values()) this.#watch(peer);
		this.dispatchEvent(new CustomEvent("joined", { detail: channel }));
		this.#changed();
	}

	#watch(peer: Peer): void {
		this.#unwatch(peer.id);
		const update = () => {
			const microphone = peer.tracks.get("microphone");
			this.#meter(peer.id, microphone?.mediaTrack ?? null, (level) => {
				if (this.speaker.hear(peer.id, level, Date.now())) this.#changed();
			});
			this.#changed();
		};
		const offs: (() => void)[] = [];
		for (const event of ["track", "track-ended", "updated", "connection", "quality"] as const) {
			const off = peer.on(event, update);
			if (typeof off === "function") offs.push(off as () => void);
		}
		const off = this.files?.watch(peer);
		if (typeof off === "function") offs.push(off as () => void);
		this.#peerOffs.set(peer.id, offs);
		update();
	}

	#unwatch(id: string): void {
		for (const off of this.#peerOffs.get(id) ?? []) off();
		this.#peerOffs.delete(id);
		this.#meter(id, null, () => {});
		this.speaker.forget(id);
	}

	/** Ends the call; harmless when there is none. */
	leave(): void {
		this.cancel();
		if (this.phase !== "call") return;
		const channel = this.channel;
		this.#left(null);
		void channel?.leave();
	}

	#left(error: unknown): void {
		for (const id of [...this.#peerOffs.keys()]) this.#unwatch(id);
		this.lastedMs = Date.now() - this.joinedAtMs;
		this.channel = null;
		this.files?.close();
		this.files = null;
		this.phase = "ended";
		this.endedBy = codeOf(error) === "left" ? null : error;
		this.reconnecting = false;
		this.asking.clear();
		this.closeMedia();
		this.dispatchEvent(new CustomEvent("left", { detail: this.endedBy }));
		this.#changed();
	}

	/** Back to the screen before the call. */
	back(): void {
		if (this.phase !== "ended") return;
		this.phase = "prejoin";
		this.endedBy = null;
		this.#changed();
	}

	closeMedia(): void {
		this.#meter("self", null, () => {});
		this.level = 0;
		this.media?.close();
		this.media = null;
		this.mediaState = "none";
	}

	// --- what one does in it --------------------------------------------------------------------------------------------

	async say(text: string): Promise<void> {
		const trimmed = text.trim();
		if (!trimmed || !this.channel) return;
		const line = this.#line({
			kind: "mine",
			name: "",
			text: trimmed,
			atMs: Date.now(),
			private: false,
			sending: "pending",
		});
		this.#changed();
		await this.#send(line);
	}

	#card(card: FileCard): void {
		const kind = card.from ? "theirs" : "mine";
		const name = card.from?.name ?? "";
		this.#line({ kind, name, text: "", card, atMs: Date.now(), private: false });
		if (card.from) this.#note({ kind: "files", name, card });
		this.#changed();
	}

	/** Offers files to everybody who is in the call now. */
	sendFiles(choose: Parameters<CallFiles["offer"]>[0]): Promise<void> {
		return this.#try(async () => this.files?.offer(choose));
	}

	async sayAgain(id: number): Promise<void> {
		const line = this.chat.find((l) => l.id === id);
		if (line?.sending === "failed") await this.#send(this.#replace(line, { sending: "pending" }));
	}

	async #send(line: ChatLine): Promise<void> {
		try {
			if (!this.channel) throw new Error("no channel");
			await this.channel.sendChat(line.text);
			this.#replace(line, { sending: undefined });
		} catch {
			this.#replace(line, { sending: "failed" });
		}
	}

	#line(line: Omit<ChatLine, "id">): ChatLine {
		const added = { ...line, id: ++this.#lineId };
		this.chat.push(added);
		if (this.chat.length > maxChatLines) this.chat.splice(0, this.chat.length - maxChatLines);
		return added;
	}

	#replace(line: ChatLine, change: Partial<ChatLine>): ChatLine {
		const next = { ...line, ...change };
		const i = this.chat.findIndex((l) => l.id === line.id);
		if (i >= 0) this.chat[i] = next;
		this.#changed();
		return next;
	}

	answer(id: string, yes: boolean, reason?: "rejected" | "busy"): Promise<void> {
		this.asking.delete(id);
		this.#changed();
		return this.#host((c) => (yes ? c.accept(id) : c.reject(id, reason)));
	}

	kick = (id: string) => this.#host((c) => c.kick(id));
	setRole = (id: string, role: Role) => this.#host((c) => c.setRole(id, role));
	configure = (settings: { locked?: boolean; waitingRoom?: boolean }) => this.#host((c) => c.configure(settings));

	#host(work: (channel: Channel) => Promise<unknown>): Promise<void> {
		return this.#try(async () => {
			if (this.channel) await work(this.channel);
		});
	}

	get peers(): Peer[] {
		return this.channel ? [...this.channel.peers.values()] : [];
	}

	get isHost(): boolean {
		return this.channel?.me.role === "host";
	}

	/** Ends everything for good. */
	close(): void {
		this.cancel();
		this.leave();
		this.closeMedia();
		this.#life.abort();
	}
}

/** The tracks of a peer that carry sound. */
export const soundOf = (peer: Peer): MediaStreamTrack[] =>
	(["microphone", "screen-audio"] satisfies Source[])
		.map((source) => peer.tracks.get(source)?.mediaTrack)
		.filter((track) => track !== undefined);
