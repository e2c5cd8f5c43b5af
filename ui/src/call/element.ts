import { html, LitElement, nothing, type PropertyValues } from "lit";
import { property, state } from "lit/decorators.js";
import { copyText } from "../clipboard.js";
import { type Dictionary, dictionary, explain, type Language, pickLanguage } from "../i18n/index.js";
import { type Arrangement, arrange, type Corner, fit, type LayoutMode, nearestCorner } from "../layout.js";
import { isChannelName } from "../names.js";
import { fetchNodeInfo, inlineNodeInfo, type NodeInfo } from "../node.js";
import type { Channel, Sdk } from "../sdk.js";
import { theme } from "../theme.js";
import { bar } from "./bar.js";
import { chime } from "./chime.js";
import { dialogs } from "./dialogs.js";
import { ended, pending } from "./ended.js";
import { banners, toasts } from "./notices.js";
import { panel } from "./panels.js";
import { prejoin } from "./prejoin.js";
import { CallRecording } from "./recording.js";
import { CallSession, type Note, soundOf } from "./session.js";
import { sound, stage, tilesOf, topBar } from "./stage.js";
import { styles } from "./styles.js";
import type { CallView, Dialog, Menu, Toast } from "./view.js";

/** Raised with the details of `docs/sdk.md`'s objects; each bubbles and crosses shadow roots. */
export interface MadangCallEvents {
	"madang-joined": CustomEvent<{ channel: Channel }>;
	"madang-left": CustomEvent<{ error: unknown }>;
	"madang-error": CustomEvent<{ error: unknown; title: string; help: string }>;
	"madang-peer-joined": CustomEvent<{ name: string }>;
	"madang-peer-left": CustomEvent<{ name: string }>;
	"madang-chat": CustomEvent<{ name: string; text: string }>;
	"madang-state": CustomEvent<{ state: string }>;
}

/**
 * `<madang-call channel="demo">`: a whole call in one element, for any page. ui/README.md lists its attributes, events, CSS parts and
 * custom properties.
 */
export class MadangCall extends LitElement implements CallView {
	static override styles = [theme, styles];

	/** Name of the channel. */
	@property() channel = "";
	/** Base URL of the server; default: where this script came from. */
	@property() server = "";
	/** Browser key; default: what the server says in `/v1/node`. */
	@property() key = "";
	/** Access token. */
	@property() token = "";
	/** The user's name; default: the one used last in this browser. */
	@property() name = "";
	/** Ask the members before joining. */
	@property({ type: Boolean }) ring = false;
	/** `auto`, `grid` or `spotlight`. */
	@property() layout: LayoutMode = "auto";
	/** `en` or `ko`; default: the page's language, then the browser's. */
	@property() override lang = "";
	/** Join at once. */
	@property({ type: Boolean }) autojoin = false;
	/** Fills the window, and is the page: opens the camera before joining, sets the title. */
	@property({ type: Boolean, attribute: "full-page", reflect: true }) fullPage = false;
	/** Link that others open to come here; default: `{server}/c/{channel}`. */
	@property({ attribute: "invite-link" }) inviteLink = "";

	@state() panel: "chat" | "people" | null = null;
	@state() menu: Menu = null;
	@state() dialog: Dialog = null;
	@state() quality: string | null = null;
	@state() pinned: string | null = null;
	@state() corner: Corner = "bottom-right";
	@state() unread = 0;
	@state() soundBlocked = false;
	@state() toastList: readonly Toast[] = [];
	@state() announcement = "";
	@state() nowMs = Date.now();
	@state() recording: CallRecording | null = null;
	@state() expandedPerson: string | null = null;
	@state() isFullscreen = false;

	/** The SDK; set before the element is connected to drive it with another one. */
	sdk!: Sdk;
	session!: CallSession;
	/** Where this script came from. */
	static scriptOrigin = "";

	#node: NodeInfo | null = null;
	#nodeRequest: Promise<NodeInfo> | null = null;
	#life = new AbortController();
	#resize: ResizeObserver | null = null;
	#stageSize = { width: 0, height: 0 };
	#aspects = new Map<string, number>();
	#toastId = 0;
	#clock: ReturnType<typeof setInterval> | null = null;
	#returnFocus: HTMLElement | null = null;
	#wakeLock: { release(): Promise<void> } | null = null;
	#stopChime: (() => void) | null = null;
	#title = document.title;
	#talking = false;

	// --- life --------------------------------------------------------------------------------------------------------

	override connectedCallback(): void {
		super.connectedCallback();
		if (this.session) return; // moved within the page: the call goes on
		this.#life = new AbortController();
		const signal = this.#life.signal;
		const session = new CallSession(this.sdk);
		this.session = session;
		if (!this.name) this.name = session.prefs.name;
		session.addEventListener("change", () => this.requestUpdate(), { signal });
		session.addEventListener("level", () => this.#showLevel(), { signal });
		session.addEventListener("note", (e) => this.#note((e as CustomEvent<Note>).detail), { signal });
		session.addEventListener("ring", () => this.#onRing(), { signal });
		session.addEventListener("joined", (e) => this.#onJoined((e as CustomEvent<Channel>).detail), { signal });
		session.addEventListener("left", (e) => this.#onLeft((e as CustomEvent<unknown>).detail), { signal });
		session.addEventListener("failed", (e) => this.#onFailed((e as CustomEvent<unknown>).detail), { signal });
		document.addEventListener("keydown", (e) => this.#onKey(e), { signal });
		document.addEventListener("keyup", (e) => this.#onKeyUp(e), { signal });
		document.addEventListener("fullscreenchange", () => (this.isFullscreen = document.fullscreenElement === this), {
			signal,
		});
		document.addEventListener("visibilitychange", () => void this.#keepAwake(), { signal });
		this.addEventListener("pointerdown", (e) => this.#onPointerDown(e), { signal });
		// A page that is put into the back-forward cache may come back; one that is not is a departure.
		addEventListener("pagehide", (e) => e.persisted || session.leave(), { signal });
		if (this.fullPage) void session.openMedia();
		else void session.refreshDevices();
		if (this.autojoin || (this.fullPage && session.prefs.skipPrejoin && session.prefs.name)) void this.join();
	}

	override disconnectedCallback(): void {
		super.disconnectedCallback();
		queueMicrotask(() => {
			if (this.isConnected) return;
			this.session.close();
			this.#life.abort();
			this.#tidy();
			this.#resize?.disconnect();
			this.#resize = null;
			(this as { session: CallSession | undefined }).session = undefined;
		});
	}

	// --- what a page can call ------------------------------------------------------------------------------------------

	/** Joins, as the button does. */
	async join(): Promise<void> {
		const { session } = this;
		if (session.phase !== "prejoin" && session.phase !== "ended") return;
		performance.mark("madang-join");
		if (!isChannelName(this.channel)) {
			session.phase = "ended";
			session.endedBy = { code: "not_channel" };
			this.requestUpdate();
			return;
		}
		if (!session.media && session.mediaState === "none" && !session.cameraError) void session.openMedia();
		let key = this.key;
		if (!key && !this.token) {
			try {
				key = (await this.node()).key ?? "";
			} catch {
				session.phase = "ended";
				session.endedBy = { code: "unreachable" };
				this.requestUpdate();
				return;
			}
		}
		await session.join({
			channel: this.channel,
			server: this.serverURL,
			key,
			token: this.token,
			name: this.name.trim() || this.t.prejoin.guest,
			ring: this.ring,
		});
	}

	/** Leaves; harmless when there is no call. */
	leave(): void {
		this.session?.leave();
	}

	/** The running call of the SDK, or `null`. */
	get call(): Channel | null {
		return this.session?.channel ?? null;
	}

	// --- what the views ask ---------------------------------------------------------------------------------------------

	get language(): Language {
		const page = document.documentElement.lang;
		// A page of ours has its language from the browser; on another's the page's own is what its visitors read.
		return pickLanguage([this.lang, ...(this.fullPage ? [] : [page]), ...navigator.languages].filter((l) => l));
	}

	get t(): Dictionary {
		return dictionary(this.language);
	}

	get serverURL(): string {
		return this.server || MadangCall.scriptOrigin || location.origin;
	}

	get link(): string {
		return this.inviteLink || new URL(`/c/${encodeURIComponent(this.channel)}`, this.serverURL).href;
	}

	node(): Promise<NodeInfo> {
		if (this.#node) return Promise.resolve(this.#node);
		const inline = new URL(this.serverURL).origin === location.origin ? inlineNodeInfo(document) : null;
		if (inline?.key) {
			this.#node = inline;
			return Promise.resolve(inline);
		}
		this.#nodeRequest ??= fetchNodeInfo(this.serverURL, this.#life.signal).then(
			(node) => {
				this.#node = node;
				return node;
			},
			(error: unknown) => {
				this.#nodeRequest = null;
				throw error;
			},
		);
		return this.#nodeRequest;
	}

	nextLayout(): void {
		const modes: LayoutMode[] = ["auto", "grid", "spotlight"];
		this.layout = modes[(modes.indexOf(this.layout) + 1) % modes.length] as LayoutMode;
		this.toast(
			`${this.t.more.layout}: ${{ auto: this.t.more.layoutAuto, grid: this.t.more.layoutGrid, spotlight: this.t.more.layoutSpotlight }[this.layout]}`,
		);
	}

	pin(tile: string): void {
		this.pinned = this.pinned === tile ? null : tile;
	}

	openMenu(menu: Menu, button?: EventTarget | null): void {
		this.menu = this.menu === menu ? null : menu;
		this.quality = null;
		if (this.menu) {
			this.#returnFocus = button as HTMLElement | null;
			void this.session.refreshDevices();
			void this.updateComplete.then(() =>
				this.renderRoot.querySelector<HTMLElement>(".pop input:checked, .pop button, .pop input")?.focus(),
			);
		}
	}

	closeMenu(): void {
		if (!this.menu) return;
		this.menu = null;
		this.#returnFocus?.focus();
		this.#returnFocus = null;
	}

	openPanel(panel: "chat" | "people"): void {
		this.panel = this.panel === panel ? null : panel;
		if (this.panel === "chat") {
			this.unread = 0;
			this.toastList = this.toastList.filter((t) => t.icon !== "chat");
			void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(".compose textarea")?.focus());
		} else if (this.panel) {
			void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(".panel .iconbutton")?.focus());
		} else {
			this.renderRoot.querySelector<HTMLElement>(`[data-testid="${panel}-toggle"]`)?.focus();
		}
	}

	openDialog(dialog: Dialog): void {
		this.menu = null;
		this.dialog = dialog;
	}

	async copyLink(): Promise<void> {
		if (await copyText(this.link)) {
			this.toast(this.t.invite.copied, "check");
		} else this.openDialog({ kind: "invite" });
	}

	async shareLink(): Promise<void> {
		try {
			await navigator.share({ title: this.t.product, text: this.t.invite.shareText(this.channel), url: this.link });
		} catch {
			// Closed without choosing.
		}
	}

	async toggleFullscreen(): Promise<void> {
		this.menu = null;
		try {
			if (document.fullscreenElement) await document.exitFullscreen();
			else await this.requestFullscreen();
		} catch {
			// An iPhone has none, and a frame may not be allowed.
		}
	}

	/** The video that is shown largest, or `null`. */
	get mainVideo(): HTMLVideoElement | null {
		const videos = [...this.renderRoot.querySelectorAll<HTMLVideoElement>(".tile:not([data-kind=float]) video")];
		const area = (v: HTMLVideoElement) => v.clientWidth * v.clientHeight;
		// One that has no picture yet is nothing to look at, and browsers refuse to take it out of the page.
		return videos.filter((v) => v.videoWidth > 0).sort((a, b) => area(b) - area(a))[0] ?? null;
	}

	async togglePictureInPicture(): Promise<void> {
		this.menu = null;
		try {
			if (document.pictureInPictureElement) await document.exitPictureInPicture();
			else await this.mainVideo?.requestPictureInPicture();
		} catch (error) {
			this.#cannot(error);
		}
	}

	async saveSnapshot(): Promise<void> {
		this.menu = null;
		const video = this.mainVideo;
		if (!video) return;
		try {
			save(await this.sdk.snapshot(video), `${this.channel}-${stamp()}.png`);
			this.toast(this.t.state.saved, "check");
		} catch (error) {
			this.#cannot(error);
		}
	}

	async toggleRecording(): Promise<void> {
		this.menu = null;
		if (this.recording) return this.#finishRecording();
		try {
			this.recording = new CallRecording(this.sdk, () => ({
				videos: [...this.renderRoot.querySelectorAll<HTMLElement>(".tile")].map((tile) => ({
					video: tile.querySelector("video"),
					name: tile.dataset.name ?? "",
					screen: tile.dataset.source === "screen",
					mirror: tile.dataset.mirror !== undefined,
				})),
				sounds: [
					...(this.session.media?.microphone ? [this.session.media.microphone] : []),
					...this.session.peers.flatMap(soundOf),
				],
			}));
		} catch (error) {
			this.#cannot(error);
		}
	}

	async #finishRecording(): Promise<void> {
		const recording = this.recording;
		this.recording = null;
		if (!recording) return;
		try {
			const blob = await recording.stop();
			save(blob, `${this.channel}-${stamp()}.${blob.type.includes("mp4") ? "mp4" : "webm"}`);
			this.toast(this.t.state.saved, "check");
		} catch (error) {
			this.#cannot(error);
		}
	}

	/** What not every browser does, or does everywhere, has failed; the call has not. */
	#cannot(cause: unknown): void {
		this.#note({ kind: "error", error: { code: "not_here", cause } });
	}

	/** Sound that the browser held back plays after a gesture. */
	async allowSound(): Promise<void> {
		const sounds = [...this.renderRoot.querySelectorAll<HTMLAudioElement>("audio")];
		const results = await Promise.allSettled(sounds.map((a) => a.play()));
		this.soundBlocked = results.some((r) => r.status === "rejected");
	}

	toast(text: string, icon?: Toast["icon"], action?: () => void): void {
		const toast: Toast = { id: ++this.#toastId, text, ...(icon ? { icon } : {}), ...(action ? { action } : {}) };
		this.toastList = [...this.toastList.slice(-1), toast];
		this.announcement = text;
		setTimeout(() => this.dropToast(toast.id), action ? 6000 : 3800);
	}

	/** Says what an open panel shows anyway. */
	#mention(text: string): void {
		if (this.panel) this.announcement = text;
		else this.toast(text);
	}

	dropToast(id: number): void {
		this.toastList = this.toastList.filter((t) => t.id !== id);
	}

	// --- events of the session -------------------------------------------------------------------------------------------

	#emit<E extends keyof MadangCallEvents>(type: E, detail: MadangCallEvents[E]["detail"]): void {
		this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
	}

	/** Tells the page, and then the user. */
	#note(note: Note): void {
		const { t } = this;
		const name = ("name" in note ? note.name : "") || t.prejoin.guest;
		switch (note.kind) {
			case "joined":
				this.#emit("madang-peer-joined", { name });
				this.#mention(t.chat.joined(name));
				break;
			case "left":
			case "kicked":
				this.#emit("madang-peer-left", { name });
				this.#mention(note.kind === "left" ? t.chat.left(name) : t.state.kickedPeer(name));
				break;
			case "chat":
				this.#onChat(note.name || t.chat.server, note.text);
				break;
			case "role":
				this.toast(note.role === "host" ? t.state.nowHost : t.state.nowRole(t.people[note.role]));
				break;
			case "locked":
			case "unlocked":
				this.toast(t.state[note.kind]);
				break;
			case "reconnecting":
				this.announcement = t.state.reconnecting;
				this.#emit("madang-state", { state: "reconnecting" });
				break;
			case "reconnected":
				this.#emit("madang-state", { state: "joined" });
				this.toast(t.state.reconnected, "check");
				break;
			case "files": {
				const text = t.transfer.offerTitle(name);
				if (this.panel === "chat") this.announcement = text;
				else {
					this.unread++;
					this.toast(text, "chat", () => this.panel !== "chat" && this.openPanel("chat"));
				}
				break;
			}
			case "device-lost":
				this.toast(t.state.deviceLost, "warning");
				break;
			case "error": {
				const { title, help } = explain(note.error, this.language);
				this.#emit("madang-error", { error: note.error, title, help });
				this.toast(`${title}. ${help}`, "warning");
			}
		}
	}

	#onChat(name: string, text: string): void {
		this.#emit("madang-chat", { name, text });
		if (this.panel === "chat") {
			this.announcement = `${name}: ${text}`;
			return;
		}
		this.unread++;
		this.toast(`${name}: ${text}`, "chat", () => {
			if (this.panel !== "chat") this.openPanel("chat");
		});
	}

	#onRing(): void {
		const first = [...this.session.asking.values()].at(-1);
		if (!first) return;
		const { t } = this;
		const name = first.caller.name || t.prejoin.guest;
		this.announcement = first.reason === "ring" ? t.ring.title(name) : t.ring.waitingTitle(name);
		this.#stopChime ??= chime(first.reason === "ring" ? 8 : 1);
	}

	#onJoined(channel: Channel): void {
		performance.mark("madang-joined");
		this.unread = 0;
		this.pinned = null;
		this.#clock ??= setInterval(() => (this.nowMs = Date.now()), 1000);
		this.nowMs = Date.now();
		void this.#keepAwake();
		this.#emit("madang-joined", { channel });
		this.#emit("madang-state", { state: "joined" });
	}

	#onLeft(error: unknown): void {
		void this.#finishRecording();
		this.#tidy();
		this.panel = this.menu = this.dialog = this.quality = null;
		this.toastList = [];
		if (document.fullscreenElement === this) void document.exitFullscreen().catch(() => {});
		this.#emit("madang-left", { error });
		this.#emit("madang-state", { state: "left" });
		if (error) this.#onFailed(error);
	}

	#onFailed(error: unknown): void {
		const { title, help } = explain(error, this.language);
		this.announcement = `${title}. ${help}`;
		this.#emit("madang-error", { error, title, help });
	}

	#tidy(): void {
		if (this.#clock) clearInterval(this.#clock);
		this.#clock = null;
		this.#stopChime?.();
		this.#stopChime = null;
		void this.#wakeLock?.release().catch(() => {});
		this.#wakeLock = null;
		this.#aspects.clear();
	}

	/** A phone that lies on the table during a call must not go dark. */
	async #keepAwake(): Promise<void> {
		if (this.session?.phase !== "call" || document.visibilityState !== "visible") return;
		try {
			this.#wakeLock = (await navigator.wakeLock?.request("screen")) ?? null;
		} catch {
			// Low battery, or not allowed in this frame.
		}
	}

	// --- keyboard and pointer ------------------------------------------------------------------------------------------------

	#ours(event: Event): boolean {
		return this.fullPage || event.composedPath().includes(this);
	}

	#typing(event: Event): boolean {
		const target = event.composedPath()[0];
		return (
			target instanceof HTMLElement &&
			(target.isContentEditable ||
				/^(TEXTAREA|SELECT)$/.test(target.tagName) ||
				(target.tagName === "INPUT" && !/^(checkbox|radio|button)$/.test((target as HTMLInputElement).type)))
		);
	}

	#onKey(event: KeyboardEvent): void {
		if (!this.session || !this.#ours(event) || event.defaultPrevented || event.isComposing) return;
		if (event.key === "Escape") {
			if (this.dialog) return; // the dialog element does it
			if (this.menu) this.closeMenu();
			else if (this.quality) this.quality = null;
			else if (this.panel) this.openPanel(this.panel);
			else return;
			event.preventDefault();
			return;
		}
		if (
			event.ctrlKey ||
			event.metaKey ||
			event.altKey ||
			this.dialog ||
			this.#typing(event) ||
			!this.session.prefs.shortcuts
		)
			return;
		const inCall = this.session.phase === "call";
		if (!inCall && this.session.phase !== "prejoin") return;
		// By the place of the key and not by its letter: they work while Hangul is typed, too.
		const done = () => event.preventDefault();
		if (event.code === "Space" && inCall) {
			if ((event.composedPath()[0] as HTMLElement | undefined)?.closest?.("button, a, input, summary, [role=button]"))
				return;
			done();
			if (!event.repeat && !this.#talking && this.session.media?.state.audio === "muted") {
				this.#talking = true;
				void this.session.toggleMicrophone(true);
			}
			return;
		}
		if (event.repeat) return;
		if (event.code === "KeyM") {
			done();
			const on = this.session.media?.state.audio !== "on";
			void this.session
				.toggleMicrophone(on)
				.then(
					() =>
						this.session.media?.microphone &&
						this.toast(on ? this.t.state.shortcutUnmuted : this.t.state.shortcutMuted),
				);
		} else if (event.code === "KeyV") {
			done();
			void this.session.toggleCamera();
		} else if (!inCall) {
			return;
		} else if (event.key === "?" || (event.code === "Slash" && event.shiftKey)) {
			done();
			this.openDialog({ kind: "help" });
		} else if (event.shiftKey) {
			return;
		} else if (event.code === "KeyC") {
			done();
			this.openPanel("chat");
		} else if (event.code === "KeyP") {
			done();
			this.openPanel("people");
		} else if (event.code === "KeyS" && this.sdk.media.canShareScreen) {
			done();
			void this.session.toggleScreen();
		} else if (event.code === "KeyI") {
			done();
			this.openDialog({ kind: "invite" });
		} else if (event.code === "KeyL") {
			done();
			this.nextLayout();
		} else if (event.code === "KeyF") {
			done();
			void this.toggleFullscreen();
		}
	}

	#onKeyUp(event: KeyboardEvent): void {
		if (event.code !== "Space" || !this.#talking) return;
		this.#talking = false;
		void this.session?.toggleMicrophone(false);
	}

	#onPointerDown(event: PointerEvent): void {
		const path = event.composedPath();
		const within = (selector: string) => path.some((e) => e instanceof Element && e.matches(selector));
		if (this.menu && !within(".pop, [data-menu]")) this.menu = null;
		if (this.quality && !within(".qcard, [data-quality]")) this.quality = null;
	}

	/** Moves through a menu with the arrow keys (WAI-ARIA Authoring Practices, menu pattern). */
	readonly onMenuKey = (event: KeyboardEvent): void => {
		const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		if (event.key === "Tab") {
			this.menu = null;
			return;
		}
		if (!step && event.key !== "Home" && event.key !== "End") return;
		const items = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("button:not([disabled])")];
		const at = items.indexOf(this.shadowRoot?.activeElement as HTMLElement);
		if (at < 0) return;
		event.preventDefault();
		const next =
			event.key === "Home"
				? 0
				: event.key === "End"
					? items.length - 1
					: (at + (step ?? 0) + items.length) % items.length;
		items[next]?.focus();
	};

	/** One's own picture follows the finger and comes to rest in the nearest corner. */
	readonly onTilePointer = (event: PointerEvent): void => {
		const tile = event.currentTarget as HTMLElement;
		if (tile.dataset.kind !== "float" || event.button !== 0) return;
		if (event.composedPath().some((e) => e instanceof HTMLButtonElement)) return;
		const startX = event.clientX;
		const startY = event.clientY;
		const stop = new AbortController();
		const { signal } = stop;
		tile.setPointerCapture(event.pointerId);
		tile.addEventListener(
			"pointermove",
			(move) => {
				tile.toggleAttribute("data-dragging", true);
				tile.style.translate = `${move.clientX - startX}px ${move.clientY - startY}px`;
			},
			{ signal },
		);
		const end = (up: PointerEvent) => {
			stop.abort();
			const box = tile.getBoundingClientRect();
			const area = this.renderRoot.querySelector(".stage")?.getBoundingClientRect();
			tile.toggleAttribute("data-dragging", false);
			tile.style.translate = "";
			if (area && up.type === "pointerup") {
				this.corner = nearestCorner(
					box.x + box.width / 2 - area.x,
					box.y + box.height / 2 - area.y,
					area.width,
					area.height,
				);
			}
		};
		tile.addEventListener("pointerup", end, { signal });
		tile.addEventListener("pointercancel", end, { signal });
	};

	readonly onTileKey = (event: KeyboardEvent): void => {
		if ((event.currentTarget as HTMLElement).dataset.kind !== "float") return;
		const [vertical, horizontal] = this.corner.split("-") as ["top" | "bottom", "left" | "right"];
		const next = {
			ArrowUp: `top-${horizontal}`,
			ArrowDown: `bottom-${horizontal}`,
			ArrowLeft: `${vertical}-left`,
			ArrowRight: `${vertical}-right`,
		}[event.key];
		if (!next) return;
		event.preventDefault();
		this.corner = next as Corner;
	};

	readonly onVideoSize = (event: Event): void => {
		const video = event.currentTarget as HTMLVideoElement;
		const id = video.closest<HTMLElement>(".tile")?.dataset.id;
		if (!id || !video.videoWidth) return;
		if (id !== "self") performance.mark("madang-first-frame");
		this.#aspects.set(id, video.videoWidth / video.videoHeight);
		this.#place();
	};

	// --- drawing --------------------------------------------------------------------------------------------------------------

	protected override render() {
		const { session } = this;
		if (!session) return nothing;
		const body =
			session.phase === "prejoin"
				? prejoin(this)
				: session.phase === "joining" || session.phase === "pending"
					? pending(this)
					: session.phase === "ended"
						? ended(this)
						: html`
							${topBar(this)}
							<div class="body" part="body">
								${stage(this)} ${panel(this)} ${banners(this)}
							</div>
							${bar(this)} ${sound(this)}
						`;
		const all = html`
			${body} ${session.phase === "call" ? nothing : toasts(this)} ${dialogs(this)}
			<div class="sr" role="status" aria-live="polite" data-testid="announcement">${this.announcement}</div>
		`;
		// The page's content where it is the page, and a part of somebody else's otherwise.
		return this.fullPage
			? html`<main class="root" data-phase=${session.phase} lang=${this.language}>${all}</main>`
			: html`<section class="root" data-phase=${session.phase} lang=${this.language} aria-label=${this.t.product}>${all}</section>`;
	}

	protected override updated(_changed: PropertyValues): void {
		const { session } = this;
		if (!session) return;
		this.#observeStage();
		this.#place();
		this.#showLevel();
		this.#playSound();
		if (session.asking.size === 0) {
			this.#stopChime?.();
			this.#stopChime = null;
		}
		if (this.fullPage) {
			const { t } = this;
			const name = this.channel ? `${this.channel} · ${t.product}` : t.product;
			const asking = session.asking.size > 0 ? `(!) ` : "";
			const title = `${asking}${this.unread ? `(${this.unread}) ` : ""}${name}`;
			if (title !== this.#title) document.title = this.#title = title;
			if (document.documentElement.lang !== this.language) document.documentElement.lang = this.language;
		}
		const dialog = this.renderRoot.querySelector("dialog");
		if (dialog && !dialog.open) dialog.showModal();
	}

	#observeStage(): void {
		const stage = this.renderRoot.querySelector<HTMLElement>(".stage");
		if (!stage) {
			this.#resize?.disconnect();
			this.#resize = null;
			return;
		}
		if (this.#resize) return;
		this.#resize = new ResizeObserver(([entry]) => {
			if (!entry) return;
			this.#stageSize = { width: entry.contentRect.width, height: entry.contentRect.height };
			this.#place();
		});
		this.#resize.observe(stage);
		this.#stageSize = { width: stage.clientWidth, height: stage.clientHeight };
	}

	/** Puts the tiles where the layout wants them. Through the CSSOM, since a strict policy forbids style attributes. */
	#place(): void {
		const stage = this.renderRoot.querySelector<HTMLElement>(".stage");
		if (!stage) return;
		const tiles = tilesOf(this).map((tile) => ({
			...tile,
			aspect: tile.track ? this.#aspects.get(tile.id) : undefined,
		}));
		const { width, height } = this.#stageSize;
		const arrangement: Arrangement = arrange(tiles, width, height, {
			mode: this.layout,
			pinned: this.pinned,
			speaker: this.session.speaker.active,
			corner: this.corner,
			gap: width < 600 ? 8 : 12,
		});
		stage.dataset.layout = arrangement.kind;
		for (const element of stage.querySelectorAll<HTMLElement>(".tile")) {
			const id = element.dataset.id ?? "";
			const place = arrangement.places.get(id);
			element.hidden = !place;
			if (!place) continue;
			element.style.left = `${place.x}px`;
			element.style.top = `${place.y}px`;
			element.style.width = `${place.width}px`;
			element.style.height = `${place.height}px`;
			element.dataset.kind = place.kind;
			element.tabIndex = place.kind === "float" ? 0 : -1;
			element.dataset.fit =
				element.dataset.source === "screen" ? "contain" : fit(this.#aspects.get(id), place.width / place.height);
			if (element.dataset.fresh !== undefined)
				requestAnimationFrame(() => setTimeout(() => element.removeAttribute("data-fresh"), 360));
		}
		const overflow = stage.querySelector<HTMLElement>(".overflow");
		if (overflow) {
			overflow.hidden = arrangement.hidden.length === 0;
			overflow.textContent = this.t.tile.hidden(arrangement.hidden.length);
		}
		const card = stage.querySelector<HTMLElement>(".qcard");
		const place = this.quality ? arrangement.places.get(this.quality) : undefined;
		if (card && place) {
			const box = { width: card.offsetWidth, height: card.offsetHeight };
			card.style.left = `${Math.max(8, Math.min(place.x + 10, width - box.width - 8))}px`;
			card.style.top = `${Math.max(8, Math.min(place.y + place.height - box.height - 52, height - box.height - 8))}px`;
		}
		for (const colored of this.renderRoot.querySelectorAll<HTMLElement>("[data-color]"))
			colored.style.backgroundColor = colored.dataset.color ?? "";
	}

	#showLevel(): void {
		const level = this.session?.level ?? 0;
		for (const element of this.renderRoot.querySelectorAll<HTMLElement>(".vol"))
			element.style.setProperty("--level", String(Math.min(1, level * 2.2)));
		for (const meter of this.renderRoot.querySelectorAll<HTMLElement>(".meter")) {
			const bars = [...meter.children];
			bars.forEach((bar, i) => {
				bar.toggleAttribute("data-on", level * 2.2 > (i + 0.5) / bars.length);
			});
			meter.setAttribute("aria-valuenow", String(Math.round(Math.min(1, level * 2.2) * 100)));
		}
	}

	#playSound(): void {
		const speaker = this.session.prefs.speaker;
		for (const audio of this.renderRoot.querySelectorAll<HTMLAudioElement>("audio")) {
			if (speaker && "setSinkId" in audio && audio.sinkId !== speaker) void audio.setSinkId(speaker).catch(() => {});
			if (audio.paused && !this.soundBlocked && audio.dataset.tried !== "true") {
				audio.dataset.tried = "true";
				void audio.play().catch((error: unknown) => {
					if ((error as { name?: string }).name === "NotAllowedError") this.soundBlocked = true;
				});
			}
		}
	}
}

declare global {
	interface HTMLElementTagNameMap {
		"madang-call": MadangCall;
	}
	interface HTMLElementEventMap extends MadangCallEvents {}
}

const stamp = () => new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");

function save(blob: Blob, name: string): void {
	const url = URL.createObjectURL(blob);
	const link = document.createElement("a");
	link.href = url;
	link.download = name;
	link.click();
	setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
