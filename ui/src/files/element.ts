import { html, LitElement, nothing, type TemplateResult } from "lit";
import { state } from "lit/decorators.js";
import { copyText } from "../clipboard.js";
import { dictionary, explain, type Language, pickLanguage } from "../i18n/index.js";
import { icon, mark } from "../icons.js";
import { inlineNodeInfo } from "../node.js";
import { qrCode } from "../qr.js";
import { theme } from "../theme.js";
import { size, timeLeft } from "./format.js";
import { keepView } from "./keep.js";
import { claim, forget, mayRecall, type Remembered, recall, remember, unfinished } from "./memory.js";
import { type ReceivedFile, type Receiving, type Sending, type Target, type TransferSdk, transferSdk } from "./sdk.js";
import { styles } from "./styles.js";

type Phase = "start" | "preparing" | "sending" | "opening" | "offer" | "receiving" | "done" | "failed";

/** More rows than this help nobody. */
const rows = 200;
const link = /^\/f\/([a-z2-7]{16})\/?$/;

/** Names a list of files, so that it is not taken for another one. */
async function nameOf(list: unknown): Promise<string> {
	const text = JSON.stringify(list);
	if (!crypto.subtle) return text; // a page without https
	const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
	return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The page of a transfer: `/f/` sends, `/f/{id}#{secret}` receives. */
export class MadangFiles extends LitElement {
	static override styles = [theme, styles];

	@state() private phase: Phase = "start";
	@state() private error: unknown = null;
	@state() private over = false;
	@state() private invalid = false;
	@state() private many = false;
	@state() private copied = false;
	@state() private warned = false;
	@state() private packing = false;
	@state() private removed = false;
	/** What this browser was sending before. */
	@state() private restored: Remembered | null = null;
	@state() private announcement = "";
	/** Files of the offer that the user does not want. */
	@state() private unwanted: ReadonlySet<number> = new Set();
	@state() private tooBig: { need: number; room: number; direct: boolean } | null = null;

	readonly #language: Language = pickLanguage([
		new URLSearchParams(location.search).get("lang") ?? "",
		...navigator.languages,
	]);
	#sdk: TransferSdk | null = null;
	#sending: Sending | null = null;
	#receiving: Receiving | null = null;
	#received: readonly ReceivedFile[] | null = null;
	#saved: { name: string; content: Blob } | null = null;
	#direct = false;
	#leaving = false;
	/** Remembers what is being sent, for a page that is loaded again; with `keep`, also what opens it on the server. */
	#remembering: (keep: boolean) => Promise<void> = async () => {};
	#wakeLock: { release(): Promise<void> } | null = null;
	readonly #life = new AbortController();

	get #t() {
		return dictionary(this.#language);
	}

	override connectedCallback(): void {
		super.connectedCallback();
		document.documentElement.lang = this.#language;
		document.title = this.#t.transfer.title;
		const { signal } = this.#life;
		addEventListener("beforeunload", (event) => this.#active && event.preventDefault(), { signal });
		// A page that is left ends what it was doing. Loaded again, it goes on.
		addEventListener("pagehide", () => (this.#leaving = true), { signal, capture: true });
		addEventListener("hashchange", () => location.reload(), { signal });
		document.addEventListener("visibilitychange", () => void this.#keepAwake(), { signal });
		// Whatever is dropped anywhere must not take the place of this page.
		addEventListener("dragover", (event) => event.preventDefault(), { signal });
		addEventListener("drop", (event) => this.#drop(event), { signal });
		if (link.test(location.pathname)) void this.#open(location.href);
		else void unfinished().then((former) => (this.restored = former));
	}

	override disconnectedCallback(): void {
		super.disconnectedCallback();
		this.#life.abort();
	}

	get #active(): boolean {
		const kept = this.#sending?.keeping?.state === "kept";
		return this.phase === "receiving" || (this.phase === "sending" && !this.over && !kept);
	}

	async #load(): Promise<TransferSdk> {
		this.#sdk = await transferSdk();
		return this.#sdk;
	}

	get #access() {
		const key = inlineNodeInfo(document)?.key;
		return { server: location.origin, ...(key ? { key } : {}) };
	}

	#fail(error: unknown): void {
		this.error = error;
		this.phase = "failed";
		const { title, help } = explain(error, this.#language);
		this.announcement = `${title}. ${help}`;
		void this.#keepAwake();
	}

	/** A phone that lies on the table during a transfer must not go dark. */
	async #keepAwake(): Promise<void> {
		if (!this.#active) {
			void this.#wakeLock?.release().catch(() => {});
			this.#wakeLock = null;
			return;
		}
		if (document.visibilityState !== "visible") return;
		try {
			this.#wakeLock = (await navigator.wakeLock?.request("screen")) ?? null;
		} catch {
			// Low battery.
		}
	}

	// ---- sending

	#drop(event: DragEvent): void {
		event.preventDefault();
		if (this.phase !== "start" || !event.dataTransfer) return;
		// What was dropped can be asked for in this event only, and the module may not be here yet.
		const { items, files } = event.dataTransfer;
		const entries = Array.from(items, ({ kind }, n) => (kind === "file" ? items[n]?.webkitGetAsEntry() : null));
		const dropped = {
			items: entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry })),
			files: [...files],
		} as unknown as DataTransfer;
		this.#askToNotify();
		void this.#load()
			.then((sdk) => sdk.droppedFiles(dropped))
			.then(
				(chosen) => this.#send(chosen),
				() => this.#fail({ code: "source_unreadable" }),
			);
	}

	#chosen(event: Event): void {
		const input = event.currentTarget as HTMLInputElement;
		const files = [...(input.files ?? [])];
		input.value = "";
		this.#askToNotify();
		void this.#load().then((sdk) => this.#send(sdk.chosenFiles(files)));
	}

	async #send(chosen: Awaited<ReturnType<TransferSdk["droppedFiles"]>>): Promise<void> {
		if (chosen.length === 0 || this.phase !== "start") return;
		this.phase = "preparing";
		try {
			const sdk = await this.#load();
			const path = chosen[0]?.path ?? "";
			// For the size of each file the browser looks at the disk. The link need not wait for that, unless these files may have one.
			const former = (await mayRecall(path))
				? await recall(await nameOf(chosen.map(({ path, file }) => [path, file?.size ?? 0, file?.lastModified])))
				: null;
			const many = former?.many ?? this.many;
			const sending = await sdk.sendFiles(chosen, {
				...this.#access,
				receivers: many ? 1_000 : 1,
				...(former ? { ticket: former.ticket, keep: former.keep } : {}),
			});
			const { ticket } = sending;
			if (!former) void claim({ ticket });
			const files = sending.listed.then((entries) =>
				nameOf(entries.map(({ path, size, mtimeMs }) => [path, size, mtimeMs])),
			);
			this.#remembering = async (kept) =>
				remember(await files, { ticket, many, path, atMs: Date.now(), ...(kept ? { keep: sending.keepToken } : {}) });
			void this.#remembering(former?.keep !== undefined);
			this.#sending = sending;
			this.phase = "sending";
			sending.on("changed", () => this.requestUpdate());
			sending.on("not-authentic", () => {
				this.warned = true;
			});
			sending.on("ended", (error) => {
				if (!this.#leaving && (!error || error.code === "cancelled")) void files.then(forget);
				this.over = true;
				if (error) this.#fail(error);
				else this.#arrived(this.#t.transfer.sentTitle);
			});
			void this.#keepAwake();
		} catch (error) {
			this.#fail(error);
		}
	}

	// ---- receiving

	async #open(from: string): Promise<void> {
		this.phase = "opening";
		try {
			const sdk = await this.#load();
			if (from === location.href && !sdk.parseLink(from)) {
				this.#fail({ code: "not_link" });
				return;
			}
			await sdk.cleanUp().catch(() => {});
			const receiving = await sdk.receiveFiles(from, this.#access);
			this.#receiving = receiving;
			// The address is the link from now on: a page that is loaded again goes on.
			const { id, secret } = receiving.ticket;
			history.replaceState(null, "", `/f/${id}${location.search}#${secret}`);
			receiving.on("changed", () => {
				if (receiving.lonely && this.phase === "opening") this.announcement = this.#t.transfer.lonely;
				this.requestUpdate();
			});
			receiving.on("not-authentic", () => {
				if (this.phase === "opening") this.#fail({ code: "not_authentic" });
				else this.warned = true;
			});
			receiving.on("manifest", () => void this.#offered(receiving));
			receiving.on("complete", (received) => void this.#complete(sdk, received));
			receiving.on("ended", (error) => {
				if (error) this.#fail(error);
			});
			if (receiving.entries) void this.#offered(receiving);
		} catch (error) {
			this.#fail(error);
		}
	}

	#acceptedKey(): string {
		return `madang-accepted-${this.#receiving?.ticket.id}`;
	}

	async #offered(receiving: Receiving): Promise<void> {
		if (this.phase !== "opening") return;
		this.phase = "offer";
		const former = await this.#agreed(receiving);
		if (former) {
			// The user has agreed before this page was loaded again.
			const wanted = new Set(former);
			this.unwanted = new Set([...(receiving.entries ?? []).keys()].filter((file) => !wanted.has(file)));
			await this.#accept(null);
		} else {
			await this.#look();
		}
	}

	/** Which files of this very list the user has agreed to. */
	async #agreed({ entries }: Receiving): Promise<number[] | null> {
		try {
			const { list, files } = JSON.parse(localStorage.getItem(this.#acceptedKey()) ?? "");
			return list === (await nameOf(entries)) ? files : null;
		} catch {
			return null; // asked again
		}
	}

	get #wanted(): number[] {
		return [...(this.#receiving?.entries ?? []).keys()].filter((file) => !this.unwanted.has(file));
	}

	/** Says before anything is sent whether there is room for it. */
	async #look(): Promise<void> {
		const receiving = this.#receiving;
		const entries = receiving?.entries;
		if (!receiving || !entries) return;
		const wanted = this.#wanted;
		const need = wanted.reduce((sum, file) => sum + (entries[file]?.size ?? 0), 0);
		const { error, bytes, direct } = await receiving.room(need);
		if (String(wanted) !== String(this.#wanted)) return; // chosen anew meanwhile, and looked at anew
		this.tooBig = error ? { need, room: bytes, direct } : null;
	}

	#toggle(file: number, wanted: boolean): void {
		const unwanted = new Set(this.unwanted);
		if (wanted) unwanted.delete(file);
		else unwanted.add(file);
		this.unwanted = unwanted;
		if (this.phase === "receiving") this.#receiving?.choose(file, wanted);
		else void this.#look();
	}

	async #pick(): Promise<void> {
		try {
			const target = await this.#sdk?.pickTarget(this.#receiving?.entries ?? []);
			if (!target) return;
			this.#askToNotify();
			await this.#accept(target);
		} catch {
			this.#fail({ code: "storage_lost" }); // a place that the browser does not let us write to
		}
	}

	#take(): void {
		this.#askToNotify();
		void this.#accept(null);
	}

	/** So that the end is heard of in another tab. Browsers allow the question when the user has just done something. */
	#askToNotify(): void {
		if (globalThis.Notification?.permission === "default") void Notification.requestPermission().catch(() => {});
	}

	async #accept(target: Target | null): Promise<void> {
		const receiving = this.#receiving;
		if (!receiving) return;
		const files = this.#wanted;
		try {
			await receiving.accept({ files, ...(target ? { target } : {}) });
		} catch (error) {
			await this.#look();
			if (!this.tooBig) this.#fail(error);
			return;
		}
		this.#direct = target !== null;
		if (!target) void this.#remember(files);
		this.phase = "receiving";
		void this.#keepAwake();
	}

	async #remember(files: readonly number[] | null): Promise<void> {
		try {
			const key = this.#acceptedKey();
			if (!files) localStorage.removeItem(key);
			else localStorage.setItem(key, JSON.stringify({ list: await nameOf(this.#receiving?.entries), files }));
		} catch {
			// It will be asked again.
		}
	}

	async #complete(sdk: TransferSdk, received: readonly ReceivedFile[]): Promise<void> {
		this.#received = received;
		if (!this.#direct) {
			this.packing = received.length > 1;
			try {
				this.#saved = await sdk.save(received, this.#receiving?.entries ?? [], this.#t.transfer.filename);
				if (this.#saved) sdk.offerDownload(this.#saved);
			} catch (error) {
				this.#fail(error);
				return;
			} finally {
				this.packing = false;
			}
		}
		void this.#remember(null);
		// Loaded again, this page would wait for a sender who is done.
		history.replaceState(null, "", `/f/${location.search}`);
		this.phase = "done";
		this.#arrived(this.#t.transfer.notify);
	}

	#arrived(text: string): void {
		this.announcement = text;
		void this.#keepAwake();
		if (document.visibilityState === "visible" || globalThis.Notification?.permission !== "granted") return;
		try {
			new Notification(text, { tag: "madang-files" });
		} catch {
			// Some phones allow it to service workers only.
		}
	}

	async #remove(): Promise<void> {
		this.#receiving?.discard();
		this.#saved = null;
		this.removed = true;
	}

	#decline(): void {
		void this.#remember(null);
		this.#receiving?.cancel();
	}

	#codeGiven(event: SubmitEvent): void {
		event.preventDefault();
		const field = (event.currentTarget as HTMLFormElement).elements.namedItem("code") as HTMLInputElement;
		const text = field.value.trim();
		void this.#load().then((sdk) => {
			this.invalid = !sdk.parseLink(text) && !sdk.parseCode(text);
			if (this.invalid) field.focus();
			else void this.#open(text);
		});
	}

	async #copy(text: string): Promise<void> {
		this.copied = await copyText(text);
		setTimeout(() => {
			this.copied = false;
		}, 2_500);
	}

	async #share(url: string): Promise<void> {
		try {
			await navigator.share({ title: this.#t.product, url });
		} catch {
			// Closed without choosing.
		}
	}

	#restart(): void {
		location.assign(`/f/${location.search}`);
	}

	// ---- drawing

	#size(bytes: number): string {
		return size(bytes, this.#language);
	}

	#start(): TemplateResult {
		const t = this.#t.transfer;
		void this.#load();
		return html`
			<h1>${t.heading}</h1>
			<p class="lead">${this.restored ? t.restored(this.restored.path) : t.lead}</p>
			<div class="drop" data-testid="drop">
				${icon("file")}
				<p>${t.drop}</p>
				<div class="actions">
					<label class="button primary">${t.choose}<input type="file" multiple data-testid="choose-files" @change=${(e: Event) => this.#chosen(e)} /></label>
					<label class="button folder">${t.chooseFolder}<input type="file" webkitdirectory data-testid="choose-folder" @change=${(e: Event) => this.#chosen(e)} /></label>
				</div>
			</div>
			<fieldset class="for">
				<legend>${t.for}</legend>
				${[false, true].map(
					(many) => html`
						<label><input type="radio" name="for" .checked=${this.many === many} @change=${() => (this.many = many)} /><span>${many ? t.forMany : t.forOne}</span></label>
					`,
				)}
			</fieldset>
			<form class="have" novalidate @submit=${(e: SubmitEvent) => this.#codeGiven(e)}>
				<label class="label" for="code">${t.haveCode}</label>
				<div class="row">
					<input class="field" id="code" name="code" data-testid="code-input" autocomplete="off" autocapitalize="off" spellcheck="false" placeholder=${t.codePlaceholder}
						aria-invalid=${this.invalid ? "true" : "false"} aria-describedby=${this.invalid ? "code-error" : nothing} />
					<button class="button" type="submit" data-testid="code-open">${t.open}</button>
				</div>
				${this.invalid ? html`<p class="error" id="code-error" data-testid="code-error" role="alert">${t.codeInvalid}</p>` : nothing}
			</form>
		`;
	}

	#wait(title: string, lead = ""): TemplateResult {
		return html`
			<div class="emblem waves">${icon("wait")}</div>
			<h1 data-testid="title">${title}</h1>
			${lead ? html`<p class="lead">${lead}</p>` : nothing}
			${this.#warning()}
		`;
	}

	#openingView(): TemplateResult {
		const t = this.#t.transfer;
		const { expired, lonely } = this.#receiving ?? { expired: false, lonely: false };
		if (!lonely) return this.#wait(t.connecting, expired ? t.expired : t.connectingLead);
		return html`
			${this.#wait(t.lonely, expired ? t.expired : t.lonelyLead)}
			<div class="actions"><button class="button" data-testid="other" @click=${() => this.#restart()}>${t.other}</button></div>
		`;
	}

	#codeView(sending: Sending): TemplateResult | typeof nothing {
		const t = this.#t.transfer;
		const { code, codeEnd } = sending;
		if (code) return html`<p class="label codelabel">${t.code}</p><p class="code" data-testid="code">${code}</p>`;
		if (!codeEnd) return nothing;
		return html`
			<p class="label codelabel" role="status" data-testid="code-end">${codeEnd === "wrong" ? t.codeWrong : t.codeUsed}</p>
			<div class="actions"><button class="button small" data-testid="new-code" @click=${() => void sending.renewCode().catch(() => {})}>${t.newCode}</button></div>
		`;
	}

	#warning(): TemplateResult | typeof nothing {
		return this.warned
			? html`<p class="warning" role="alert" data-testid="not-authentic">${icon("warning")}${this.#t.transfer.notAuthentic}</p>`
			: nothing;
	}

	#sendingView(sending: Sending): TemplateResult {
		const t = this.#t.transfer;
		const came = sending.receivers.filter(({ ended }) => ended === null || ended === "cancelled");
		const begun = came.some(({ accepted }) => accepted);
		const all = sending.bytes ?? 0;
		const title = this.over ? t.sentTitle : sending.paused ? t.paused : begun ? t.sendingTitle : t.waitingTitle;
		return html`
			<h1 data-testid="title">${title}</h1>
			<p class="lead">${this.over ? t.sent : `${t.count(sending.entries.filter(({ dir }) => !dir).length, sending.bytes === null ? "…" : this.#size(sending.bytes))}${begun || sending.keeping?.state === "kept" ? "" : ` · ${t.waiting}`}`}</p>
			${
				this.over || (begun && !this.many)
					? nothing
					: html`
						<div class="invite">
							<div class="qrbox">${qrCode(sending.link, t.qr)}</div>
							<div class="ways">
								<label class="label" for="link">${t.link}</label>
								<div class="row">
									<input class="field" id="link" readonly data-testid="link" .value=${sending.link} @focus=${(e: Event) => (e.target as HTMLInputElement).select()} />
								</div>
								<div class="actions">
									<button class="button primary small" data-testid="copy" @click=${() => void this.#copy(sending.link)}>
										${icon(this.copied ? "check" : "copy")}<span aria-live="polite">${this.copied ? t.copied : t.copy}</span>
									</button>
									${"share" in navigator ? html`<button class="button small" @click=${() => void this.#share(sending.link)}>${icon("share")}${this.#t.invite.share}</button>` : nothing}
								</div>
								${this.#codeView(sending)}
							</div>
						</div>
					`
			}
			${this.over ? nothing : keepView(sending, t, this.#language, (on) => this.#keep(sending, on))}
			${this.#warning()}
			${came.map(
				(receiver) => html`
					<section class="receiver" data-testid="receiver" data-done=${receiver.done ? "true" : "false"}>
						<p class="who"><b>${receiver.name ?? t.receiver}</b><span>${
							receiver.done
								? t.received
								: !receiver.accepted
									? t.looking
									: receiver.lanes === 0
										? t.gone
										: receiver.paused
											? t.paused
											: t.of(this.#size(receiver.bytes), this.#size(all))
						}</span></p>
						${receiver.accepted ? this.#bar(receiver.done ? 1 : receiver.bytes / Math.max(1, all)) : nothing}
					</section>
				`,
			)}
			${begun && !this.over ? this.#facts(sending) : nothing}
			<ul class="files">
				${sending.entries.slice(0, rows).map(
					({ path, size: bytes, dir }, file) => html`
						<li>${icon(dir ? "folder" : "file")}<span class="name">${path}</span><span class="size">${sending.failed.has(file) ? explain({ code: sending.failed.get(file) }, this.#language).title : dir || bytes === null ? "" : this.#size(bytes)}</span></li>
					`,
				)}
			</ul>
			<div class="actions">
				${
					this.over
						? html`<button class="button primary" @click=${() => this.#restart()}>${t.again}</button>`
						: html`
							${begun ? html`<button class="button" data-testid="pause" @click=${() => (sending.paused ? sending.resume() : sending.pause())}>${sending.paused ? t.resume : t.pause}</button>` : nothing}
							<button class="button" data-testid="cancel" @click=${() => sending.cancel()}>${t.cancel}</button>
						`
				}
			</div>
		`;
	}

	#keep(sending: Sending, on: boolean): void {
		sending.keep(on);
		void this.#remembering(on);
	}

	#bar(part: number): TemplateResult {
		const percent = Math.min(100, Math.max(0, part * 100));
		return html`<progress max="100" .value=${percent} data-testid="progress"></progress>`;
	}

	/** Rate, time left, path. */
	#facts(end: Sending | Receiving): TemplateResult {
		const t = this.#t.transfer;
		const facts: string[] = [];
		if (end.state === "waiting") {
			const lonely = "lonely" in end && end.lonely;
			facts.push(!lonely ? t.interrupted : end.bytes > 0 ? t.away : t.lonelyLead);
		}
		if (end.bytesPerSecond > 0) facts.push(t.rate(this.#size(end.bytesPerSecond)));
		if ("remainingMs" in end && end.remainingMs !== null) facts.push(t.left(timeLeft(end.remainingMs, this.#t)));
		if (end.path && end.state === "connected") facts.push(end.path.path.relayed ? t.relayed : t.direct);
		return html`<p class="facts" data-testid="facts">${facts.join(" · ")}</p>`;
	}

	#offerView(receiving: Receiving): TemplateResult {
		const t = this.#t.transfer;
		const entries = receiving.entries ?? [];
		const wanted = this.#wanted;
		const bytes = wanted.reduce((sum, file) => sum + (entries[file]?.size ?? 0), 0);
		const big = this.tooBig;
		return html`
			<h1 data-testid="title">${receiving.senderName ? t.offerTitle(receiving.senderName) : t.offerTitleNobody}</h1>
			<p class="lead">${t.count(wanted.filter((file) => !entries[file]?.dir).length, this.#size(bytes))}</p>
			${this.#warning()}
			${this.#list(receiving, true)}
			${
				big
					? html`<p class="warning" role="alert" data-testid="too-big">${icon("warning")}<span>${t.tooBig(this.#size(big.need), this.#size(big.room))} ${big.direct ? t.canChoose : ""}</span></p>`
					: nothing
			}
			<div class="actions">
				<button class=${big?.direct ? "button" : "button primary"} data-testid="accept" ?disabled=${wanted.length === 0 || big !== null} @click=${() => this.#take()}>${t.receive}</button>
				${"showSaveFilePicker" in globalThis ? html`<button class=${big ? "button primary" : "button"} data-testid="pick" ?disabled=${wanted.length === 0} @click=${() => void this.#pick()}>${t.receiveTo}</button>` : nothing}
				<button class="button quiet" data-testid="decline" @click=${() => this.#decline()}>${t.decline}</button>
			</div>
		`;
	}

	#list(receiving: Receiving, choosing: boolean): TemplateResult {
		const t = this.#t.transfer;
		const entries = receiving.entries ?? [];
		return html`
			<ul class="files" data-testid="files">
				${entries.slice(0, rows).map(({ path, size: bytes, dir }, file) => {
					const now = receiving.files[file];
					const words = now?.failed
						? explain({ code: now.failed }, this.#language).title
						: now?.done
							? t.fileDone
							: !choosing && now && now.bytes > 0
								? t.of(this.#size(now.bytes), this.#size(now.size ?? now.bytes))
								: dir || bytes === null
									? ""
									: this.#size(bytes);
					return html`
						<li>
							<label>
								<input type="checkbox" .checked=${!this.unwanted.has(file)} ?disabled=${now?.done || now?.failed !== null || entries.length === 1}
									@change=${(e: Event) => this.#toggle(file, (e.target as HTMLInputElement).checked)} />
								<span class="name">${path}</span><span class="size">${words}</span>
							</label>
						</li>
					`;
				})}
			</ul>
		`;
	}

	#receivingView(receiving: Receiving): TemplateResult {
		const t = this.#t.transfer;
		return html`
			<h1 data-testid="title">${receiving.paused ? t.paused : t.receivingTitle}</h1>
			<p class="lead">${t.of(this.#size(receiving.bytes), this.#size(receiving.total))}</p>
			${this.#bar(receiving.bytes / Math.max(1, receiving.total))}
			${this.packing ? html`<p class="facts">${t.packing}</p>` : this.#facts(receiving)}
			${receiving.senderPaused ? html`<p class="facts">${t.senderPaused}</p>` : nothing}
			${receiving.resumedBytes > 0 ? html`<p class="facts" data-testid="resumed">${t.resumed(this.#size(receiving.resumedBytes))}</p>` : nothing}
			${this.#warning()} ${this.#list(receiving, false)}
			<div class="actions">
				<button class="button" data-testid="pause" @click=${() => (receiving.paused ? receiving.resume() : receiving.pause())}>${receiving.paused ? t.resume : t.pause}</button>
				<button class="button" data-testid="cancel" @click=${() => this.#decline()}>${t.cancel}</button>
			</div>
		`;
	}

	#doneView(): TemplateResult {
		const t = this.#t.transfer;
		const saved = this.#saved;
		const failed = this.#receiving?.files.filter(({ failed: code }) => code !== null) ?? [];
		return html`
			<div class="emblem">${icon("check")}</div>
			<h1 data-testid="title">${t.doneTitle}</h1>
			<p class="lead">${this.removed ? t.removed : this.#direct ? t.doneDirect : t.done}</p>
			${failed.map(({ file, failed: code }) => html`<p class="warning">${icon("warning")}<span>${this.#receiving?.entries?.[file]?.path}: ${explain({ code }, this.#language).title}</span></p>`)}
			<div class="actions">
				${saved ? html`<button class="button primary" data-testid="save" @click=${() => this.#sdk?.offerDownload(saved)}>${t.saveAgain}</button>` : nothing}
				${this.#received && !this.#direct && !this.removed ? html`<button class="button" data-testid="remove" @click=${() => void this.#remove()}>${t.remove}</button>` : nothing}
				<button class="button quiet" @click=${() => this.#restart()}>${t.again}</button>
			</div>
		`;
	}

	#failedView(): TemplateResult {
		const { title, help } = explain(this.error, this.#language);
		const ended = this.#t.ended;
		return html`
			<div class="emblem bad">${icon("warning")}</div>
			<h1 data-testid="title">${title}</h1>
			<p class="lead" data-testid="error" data-code=${(this.error as { code?: string } | null)?.code ?? nothing}>${help}</p>
			<div class="actions">
				<button class="button primary" data-testid="retry" @click=${() => location.reload()}>${ended.retry}</button>
				<a class="button" href="/">${ended.home}</a>
			</div>
		`;
	}

	protected override render() {
		const { transfer, product } = this.#t;
		const { phase } = this;
		const view = (): TemplateResult => {
			if (phase === "failed") return this.#failedView();
			if (phase === "preparing") return this.#wait(transfer.preparing);
			if (phase === "sending" && this.#sending) return this.#sendingView(this.#sending);
			if (phase === "done") return this.#doneView();
			if (phase === "opening") return this.#openingView();
			if (phase === "offer" && this.#receiving) return this.#offerView(this.#receiving);
			if (phase === "receiving" && this.#receiving) return this.#receivingView(this.#receiving);
			return this.#start();
		};
		return html`
			<div class="page" lang=${this.#language} data-phase=${phase} data-testid="page">
				<header><a class="brand" href="/">${mark()}<span>${product}</span></a></header>
				<main class=${phase}>${view()}</main>
				<div class="sr" role="status" aria-live="polite">${this.announcement}</div>
			</div>
		`;
	}
}
