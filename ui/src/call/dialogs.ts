import { html, nothing, type TemplateResult } from "lit";
import { icon } from "../icons.js";
import { qrCode } from "../qr.js";
import type { CallView } from "./view.js";

export function dialogs(call: CallView): TemplateResult | typeof nothing {
	const { dialog } = call;
	if (!dialog) return nothing;
	const close = () => {
		call.dialog = null;
	};
	const { t } = call;
	const title = dialog.kind === "invite" ? t.invite.title : dialog.kind === "help" ? t.help.title : t.people.remove;
	return html`
		<dialog
			aria-labelledby="dialog-title"
			data-testid=${`dialog-${dialog.kind}`}
			@close=${close}
			@click=${(e: MouseEvent) => e.target === e.currentTarget && (e.currentTarget as HTMLDialogElement).close()}
		>
			<header>
				<h2 id="dialog-title">${title}</h2>
				<button class="iconbutton" aria-label=${t.close} @click=${close}>${icon("close")}</button>
			</header>
			${dialog.kind === "kick" ? kick(call, dialog.peer, dialog.name, close) : dialog.kind === "invite" ? invite(call) : help(call, close)}
		</dialog>
	`;
}

const linkBox = (call: CallView) => html`
	<div class="linkbox">
		<code data-testid="link">${call.link.replace(/^https?:\/\//, "")}</code>
		<button class="button small primary" data-testid="copy-invite" @click=${() => void call.copyLink()}>${icon("copy")}${call.t.invite.copy}</button>
	</div>
`;

const canShare = () => typeof navigator.share === "function" && matchMedia("(pointer: coarse)").matches;

const shareButton = (call: CallView) =>
	canShare()
		? html`<button class="button small" data-testid="share" @click=${() => void call.shareLink()}>${icon("share")}${call.t.invite.share}</button>`
		: nothing;

const invite = (call: CallView) => html`
	<div class="stack">
		<p>${call.t.invite.lead}</p>
		${linkBox(call)} ${shareButton(call)}
		${qrCode(call.link, call.t.invite.qr)}
	</div>
`;

/** What stands in an empty call: how to get somebody else into it. */
export const inviteCard = (call: CallView): TemplateResult => html`
	<section class="alone" data-testid="alone">
		<h2>${call.t.invite.alone}</h2>
		<p>${call.t.invite.aloneLead}</p>
		<div class="row">${linkBox(call)} ${shareButton(call)}</div>
		${qrCode(call.link, call.t.invite.qr)}
	</section>
`;

function help(call: CallView, close: () => void): TemplateResult {
	const { t, session } = call;
	const keys: [string, string][] = [
		["M", t.help.mic],
		[t.help.space, t.help.talk],
		["V", t.help.camera],
		["S", t.help.screen],
		["C", t.help.chat],
		["P", t.help.people],
		["I", t.help.invite],
		["L", t.help.layout],
		["F", t.help.fullscreen],
		["?", t.help.this],
		["Esc", t.help.close],
	];
	return html`
		<p>${t.help.lead}</p>
		<dl class="keys">${keys.map(([key, what]) => html`<dt>${what}</dt><dd><kbd>${key}</kbd></dd>`)}</dl>
		<label class="switch">
			<span>${t.help.enabled}</span>
			<input
				type="checkbox"
				role="switch"
				.checked=${session.prefs.shortcuts}
				@change=${(e: Event) => session.remember({ shortcuts: (e.target as HTMLInputElement).checked })}
			/>
		</label>
		<div class="row"><button class="button" @click=${close}>${t.help.done}</button></div>
	`;
}

function kick(call: CallView, peer: string, name: string, close: () => void): TemplateResult {
	const { t, session } = call;
	return html`
		<div class="stack">
			<p>${t.people.removeAsk(name)}</p>
			<div class="row">
				<button class="button" @click=${close}>${t.pending.cancel}</button>
				<button
					class="button danger"
					data-testid="kick-confirm"
					@click=${() => {
						close();
						void session.kick(peer);
					}}
				>
					${t.people.remove}
				</button>
			</div>
		</div>
	`;
}
