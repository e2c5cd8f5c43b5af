import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { icon } from "../icons.js";
import { face } from "./panels.js";
import type { CallView } from "./view.js";

/** What one has to know or answer now, over the stage. */
export function banners(call: CallView): TemplateResult {
	const { session, t } = call;
	const asking = [...session.asking.values()];
	// The list of people has the same question, with everybody who waits.
	const first = call.panel === "people" ? asking.find((a) => a.reason === "ring") : asking[0];
	return html`
		<div class="banners" ?data-panel=${call.panel !== null}>
			${
				session.reconnecting
					? html`<div class="banner plain" data-testid="state" data-state="reconnecting" role="status"><span class="spinner"></span><span>${t.state.reconnecting}</span></div>`
					: nothing
			}
			${
				call.soundBlocked
					? html`<div class="banner" data-testid="sound-blocked" role="alert">
							${icon("speaker")}<span>${t.state.soundBlocked}</span>
							<button class="button small primary" @click=${() => void call.allowSound()}>${t.state.soundAllow}</button>
						</div>`
					: nothing
			}
			${
				session.media?.screen
					? html`<div class="banner" data-testid="sharing">
							${icon("screen")}<span>${t.state.sharing}</span>
							<button class="button small danger" @click=${() => void session.toggleScreen()}>${t.state.stop}</button>
						</div>`
					: nothing
			}
			${first ? question(call, first.caller.id, first.caller.name || t.prejoin.guest, first.reason, asking.length) : nothing}
			${toasts(call)}
		</div>
	`;
}

function question(call: CallView, id: string, name: string, reason: string, count: number): TemplateResult {
	const { session, t } = call;
	const ring = reason === "ring";
	return html`
		<section class="asking" data-testid="asking" data-peer=${id} data-reason=${reason} role="alertdialog" aria-labelledby="asking-title">
			<div class="head">
				${face(id, name)}
				<span id="asking-title">${ring ? t.ring.title(name) : t.ring.waitingTitle(name)}</span>
			</div>
			<div class="row">
				<button class="button" data-testid="decline" @click=${() => void session.answer(id, false)}>${t.ring.decline}</button>
				${ring ? html`<button class="button" data-testid="busy" @click=${() => void session.answer(id, false, "busy")}>${t.ring.busy}</button>` : nothing}
				<button class="button primary" data-testid="accept" @click=${() => void session.answer(id, true)}>${ring ? t.ring.accept : t.people.admit}</button>
			</div>
			${count > 1 ? html`<button class="button quiet small" @click=${() => call.panel !== "people" && call.openPanel("people")}>${t.controls.requests(count)}</button>` : nothing}
		</section>
	`;
}

/** What one may like to know; gone after a few seconds. The live region says the same. */
export function toasts(call: CallView): TemplateResult {
	return html`
		<div class="toasts" data-testid="toasts">
			${repeat(
				call.toastList,
				(toast) => toast.id,
				(toast) =>
					toast.action
						? html`<button
								class="toast"
								@click=${() => {
									call.dropToast(toast.id);
									toast.action?.();
								}}
							>
								${toast.icon ? icon(toast.icon) : nothing}<span>${toast.text}</span>
							</button>`
						: html`<div class="toast">${toast.icon ? icon(toast.icon) : nothing}<span>${toast.text}</span></div>`,
			)}
		</div>
	`;
}
