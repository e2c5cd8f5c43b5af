import { html, LitElement, nothing } from "lit";
import { state } from "lit/decorators.js";
import { copyText } from "../clipboard.js";
import { dictionary, type Language, pickLanguage } from "../i18n/index.js";
import { icon, mark } from "../icons.js";
import { newChannelName, parseInvitation } from "../names.js";
import { inlineNodeInfo } from "../node.js";
import { theme } from "../theme.js";
import { door } from "./door.js";
import { styles } from "./styles.js";

/** The first page: one button that starts a call, and what a newcomer wants to know. */
export class MadangHome extends LitElement {
	static override styles = [theme, styles];

	@state() private invalid = false;
	@state() private copied = false;

	readonly #language: Language = pickLanguage([
		new URLSearchParams(location.search).get("lang") ?? "",
		...navigator.languages,
	]);
	readonly #node = inlineNodeInfo(document);

	override connectedCallback(): void {
		super.connectedCallback();
		document.documentElement.lang = this.#language;
		document.title = dictionary(this.#language).home.title;
	}

	#start(): void {
		location.assign(this.#withLanguage(`/c/${newChannelName()}`));
	}

	#join(event: SubmitEvent): void {
		event.preventDefault();
		const field = (event.currentTarget as HTMLFormElement).elements.namedItem("invitation") as HTMLInputElement;
		const invitation = parseInvitation(field.value, location.origin);
		this.invalid = invitation === null;
		if (!invitation) {
			field.focus();
			return;
		}
		location.assign(this.#withLanguage(`${invitation.server ?? ""}/c/${invitation.channel}`));
	}

	/** A language that was asked for in the address goes along. */
	#withLanguage(path: string): string {
		const lang = new URLSearchParams(location.search).get("lang");
		return lang ? `${path}?lang=${encodeURIComponent(lang)}` : path;
	}

	get #snippet(): string {
		const origin = this.#node?.origin ?? location.origin;
		return `<script type="module" src="${origin}/sdk/madang-call.js"></script>\n<madang-call channel="support"></madang-call>`;
	}

	async #copy(): Promise<void> {
		this.copied = await copyText(this.#snippet);
		setTimeout(() => {
			this.copied = false;
		}, 2500);
	}

	protected override render() {
		const t = dictionary(this.#language);
		const points = [
			[t.home.why1Title, t.home.why1, "link"],
			[t.home.why2Title, t.home.why2, "lock"],
			[t.home.why3Title, t.home.why3, "pin"],
		] as const;
		return html`
			<div class="page" lang=${this.#language}>
				<header>
					<span class="brand">${mark()}<span>${t.product}</span></span>
					<nav>
						<a href=${this.#withLanguage("/f/")} data-testid="send-files">${t.home.files}</a>
						<a href="/docs">${t.home.docs}</a>
					</nav>
				</header>
				<main>
					<section class="hero">
						<div class="words">
							<h1>${t.tagline}</h1>
							<p class="lead">${t.home.lead}</p>
							<button class="button primary start" data-testid="start-call" @click=${() => this.#start()}>${icon("camera")}${t.home.start}</button>
							<p class="hint">${t.home.startHint}</p>
							<form class="join" novalidate @submit=${(e: SubmitEvent) => this.#join(e)}>
								<label class="label" for="invitation">${t.home.joinLabel}</label>
								<div class="row">
									<input
										class="field"
										id="invitation"
										name="invitation"
										data-testid="join-input"
										autocomplete="off"
										autocapitalize="off"
										spellcheck="false"
										placeholder=${t.home.joinPlaceholder}
										aria-invalid=${this.invalid ? "true" : "false"}
										aria-describedby=${this.invalid ? "join-error" : nothing}
									/>
									<button class="button" data-testid="join-go" type="submit" aria-label=${t.home.joinTitle}>${icon("arrow")}</button>
								</div>
								${this.invalid ? html`<p class="error" id="join-error" role="alert">${t.home.joinInvalid}</p>` : nothing}
							</form>
						</div>
						<div class="picture" role="img" aria-label=${t.home.illustration}>${door()}</div>
					</section>
					<section class="points">
						${points.map(([title, text]) => html`<div><h2>${title}</h2><p>${text}</p></div>`)}
					</section>
					<section class="embed">
						<div>
							<h2>${t.home.embedTitle}</h2>
							<p>${t.home.embedLead}</p>
						</div>
						<div class="code">
							<pre tabindex="0"><code data-testid="snippet">${this.#snippet}</code></pre>
							<button class="button small" data-testid="copy-snippet" @click=${() => void this.#copy()}>
								${icon(this.copied ? "check" : "copy")}<span aria-live="polite">${this.copied ? t.home.copied : t.home.copy}</span>
							</button>
						</div>
					</section>
				</main>
				<footer>
					<nav aria-label=${t.home.docs}>
						<a href="/docs/sdk/">${t.home.docsSdk}</a>
						<a href="/docs/protocol">${t.home.docsProtocol}</a>
						<a href="/v1/openapi.json">${t.home.docsApi}</a>
					</nav>
					<p>${t.home.source}</p>
					${this.#node?.development ? html`<p class="dev">${t.home.development}</p>` : nothing}
				</footer>
			</div>
		`;
	}
}
