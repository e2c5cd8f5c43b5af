import { html, nothing, type TemplateResult } from "lit";
import { explain } from "../i18n/index.js";
import { icon } from "../icons.js";
import { codeOf } from "../sdk.js";
import type { CallView } from "./view.js";

/** While the server or the members decide. */
export function pending(call: CallView): TemplateResult {
	const { session, t } = call;
	const reason = session.pendingReason;
	const title =
		reason === "ring" ? t.pending.ringTitle : reason === "waiting_room" ? t.pending.waitingTitle : t.pending.joining;
	const text = reason === "ring" ? t.pending.ring : reason === "waiting_room" ? t.pending.waiting : null;
	return html`
		<div class="center" part="pending">
			<div class="card" data-testid="pending" data-reason=${reason ?? "joining"} role="status">
				<div class="emblem ${reason ? "waves" : ""}">
					${reason === "ring" ? icon("phone") : reason ? icon("wait") : html`<span class="spinner"></span>`}
				</div>
				<h1>${title}</h1>
				${text ? html`<p>${text}</p>` : nothing}
				<div class="actions">
					<button class="button" data-testid="cancel" @click=${() => session.cancel()}>${t.pending.cancel}</button>
				</div>
			</div>
		</div>
	`;
}

/** What cannot be mended by trying again from here. */
const final = new Set([
	"key_unknown",
	"key_development_only",
	"key_needs_token",
	"key_wrong_kind",
	"credentials_missing",
	"origin_forbidden",
	"project_off",
	"token_expired",
	"token_channel",
	"token_signature",
	"token_malformed",
	"token_foreign",
	"not_channel",
	"unsupported",
	"channel_closed",
	"version_unsupported",
]);

/** After the call: because one left, or because something went wrong, said in plain words. */
export function ended(call: CallView): TemplateResult {
	const { session, t } = call;
	const error = session.endedBy;
	if (!error) {
		return html`
			<div class="center" part="ended">
				<div class="card" data-testid="ended">
					<div class="emblem">${icon("check")}</div>
					<h1 tabindex="-1">${t.ended.title}</h1>
					${session.lastedMs > 0 ? html`<p>${t.ended.lasted(duration(call, session.lastedMs))}</p>` : nothing}
					<div class="actions">
						<button class="button primary" data-testid="rejoin" @click=${() => rejoin(call)}>${t.ended.rejoin}</button>
						${home(call)}
					</div>
				</div>
			</div>
		`;
	}
	const code = codeOf(error);
	const { title, help } = explain(error, call.language);
	return html`
		<div class="center" part="ended error">
			<div class="card" data-testid="error" data-code=${code} role="alert">
				<div class="emblem bad">${icon(code === "channel_locked" ? "lock" : code === "ring_timeout" || code === "rejected" || code === "busy" ? "phone" : "warning")}</div>
				<h1 tabindex="-1">${title}</h1>
				<p>${help}</p>
				<p class="code">${code}</p>
				<div class="actions">
					${
						final.has(code)
							? nothing
							: html`<button class="button primary" data-testid="retry" @click=${() => rejoin(call)}>${t.ended.retry}</button>
									<button class="button" data-testid="back" @click=${() => back(call)}>${t.ended.back}</button>`
					}
					${home(call)}
				</div>
			</div>
		</div>
	`;
}

const home = (call: CallView) =>
	call.fullPage ? html`<a class="button quiet" href="/">${call.t.ended.home}</a>` : nothing;

function rejoin(call: CallView): void {
	if (!call.session.media) void call.session.openMedia();
	void call.join();
}

function back(call: CallView): void {
	call.session.back();
	if (call.fullPage && !call.session.media) void call.session.openMedia();
}

export function duration(call: CallView, ms: number): string {
	const seconds = Math.round(ms / 1000);
	return call.t.duration(Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60);
}
