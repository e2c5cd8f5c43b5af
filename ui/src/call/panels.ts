import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { size } from "../files/format.js";
import { explain } from "../i18n/index.js";
import { icon } from "../icons.js";
import { linkify } from "../links.js";
import type { Peer, Role } from "../sdk.js";
import { avatarColor, initials } from "../tokens.js";
import type { FileCard } from "./files.js";
import type { ChatLine } from "./session.js";
import type { CallView } from "./view.js";

export function panel(call: CallView): TemplateResult | typeof nothing {
	if (call.panel === "chat") return chat(call);
	if (call.panel === "people") return people(call);
	return nothing;
}

const header = (call: CallView, which: "chat" | "people", title: unknown) => html`
	<header>
		<h2 id="panel-title">${title}</h2>
		<button class="iconbutton" data-testid="panel-close" aria-label=${call.t.close} @click=${() => call.openPanel(which)}>${icon("close")}</button>
	</header>
`;

// --- chat -------------------------------------------------------------------------------------------------------------------

function chat(call: CallView): TemplateResult {
	const { session, t } = call;
	followEnd(call);
	const send = (form: HTMLFormElement) => {
		const field = form.elements.namedItem("text") as HTMLTextAreaElement;
		const text = field.value;
		if (!text.trim()) return;
		field.value = "";
		field.focus();
		void session.say(text);
	};
	return html`
		<aside
			class="panel"
			part="panel chat"
			aria-labelledby="panel-title"
			@dragover=${(e: DragEvent) => e.preventDefault()}
			@drop=${(e: DragEvent) => dropped(call, e)}
		>
			${header(call, "chat", t.chat.title)}
			<div class="log" data-testid="chat-log" role="log" aria-label=${t.chat.log} tabindex="0">
				${
					session.chat.length === 0
						? html`<p class="empty">${t.chat.empty}</p>`
						: repeat(
								session.chat,
								(line) => line.id,
								(line, i) => chatLine(call, line, session.chat[i - 1]),
							)
				}
			</div>
			<form
				class="compose"
				@submit=${(e: SubmitEvent) => {
					e.preventDefault();
					send(e.currentTarget as HTMLFormElement);
				}}
			>
				<label class="button attach" title=${t.chat.attach}>
					${icon("attach")}
					<input
						type="file"
						multiple
						data-testid="chat-files"
						aria-label=${t.chat.attach}
						?disabled=${session.peers.length === 0}
						@change=${(e: Event) => {
							const input = e.currentTarget as HTMLInputElement;
							const files = [...(input.files ?? [])];
							input.value = "";
							void session.sendFiles((sdk) => sdk.chosenFiles(files));
						}}
					/>
				</label>
				<textarea
					name="text"
					rows="1"
					maxlength="4000"
					data-testid="chat-input"
					enterkeyhint="send"
					placeholder=${t.chat.placeholder}
					aria-label=${t.chat.placeholder}
					@keydown=${(e: KeyboardEvent) => {
						// Enter that ends a Hangul syllable is not meant for us.
						if (e.key !== "Enter" || e.shiftKey || e.isComposing || e.keyCode === 229) return;
						e.preventDefault();
						const form = (e.currentTarget as HTMLTextAreaElement).form;
						if (form) send(form);
					}}
				></textarea>
				<button class="button primary" type="submit" data-testid="chat-send" aria-label=${t.chat.send} title=${t.chat.send}>${icon("send")}</button>
			</form>
		</aside>
	`;
}

/** Keeps the newest line in sight, unless somebody has scrolled up to read. */
function followEnd(call: CallView): void {
	const log = call.renderRoot.querySelector<HTMLElement>(".log");
	const atEnd = !log || log.scrollHeight - log.scrollTop - log.clientHeight < 80;
	const last = call.session.chat.at(-1);
	if (atEnd || last?.kind === "mine") {
		void call.updateComplete.then(() => {
			const now = call.renderRoot.querySelector<HTMLElement>(".log");
			if (now) now.scrollTop = now.scrollHeight;
		});
	}
}

/** Lines of one person within two minutes are under one name. */
function chatLine(call: CallView, line: ChatLine, before: ChatLine | undefined): TemplateResult {
	const { t, session } = call;
	if (line.kind === "note") {
		const name = line.name || t.prejoin.guest;
		return html`<p class="line note">${line.text === "left" ? t.chat.left(name) : t.chat.joined(name)}</p>`;
	}
	const continues =
		before?.kind === line.kind &&
		before.name === line.name &&
		before.private === line.private &&
		line.atMs - before.atMs < 120_000;
	const name = line.kind === "mine" ? t.chat.you : line.name || t.chat.server;
	return html`
		<div class="line ${line.kind === "mine" ? "mine" : ""}" data-testid="chat-line" data-sending=${line.sending ?? nothing}>
			${
				continues
					? html`<span class="sr">${name}:</span>`
					: html`<p class="by"><b>${name}</b><span>${time(line.atMs, call.language)}${line.private ? ` · ${t.chat.private}` : ""}</span></p>`
			}
			${line.card ? fileCard(call, line.card) : html`<p class="text">${linkify(line.text).map((piece) => (piece.href ? html`<a href=${piece.href} target="_blank" rel="noopener noreferrer nofollow ugc">${piece.text}</a>` : piece.text))}</p>`}
			${
				line.sending === "failed"
					? html`<p class="failed">${t.chat.failed}<button @click=${() => void session.sayAgain(line.id)}>${t.chat.again}</button></p>`
					: nothing
			}
		</div>
	`;
}

/** Files that are dropped on the chat. Folders can be asked for in the event only; here their files alone are taken. */
function dropped(call: CallView, event: DragEvent): void {
	const files = [...(event.dataTransfer?.files ?? [])];
	if (files.length === 0) return;
	event.preventDefault();
	void call.session.sendFiles((sdk) => sdk.chosenFiles(files));
}

function fileCard(call: CallView, card: FileCard): TemplateResult {
	const t = call.t.transfer;
	const { offer, sending, receiving, from } = card;
	const { files } = call.session;
	const bytes = (n: number) => size(n, call.language);
	const accepted = sending?.receivers.filter((receiver) => receiver.accepted) ?? [];
	const had = receiving ? receiving.bytes : Math.min(...accepted.map((receiver) => receiver.bytes));
	const running = card.state === "accepted" || (accepted.length > 0 && card.state !== "done");
	const end = receiving ?? sending;
	const words =
		card.state === "done"
			? from
				? t.done
				: t.sentTitle
			: card.state === "over"
				? explain({ code: card.code }, call.language).title
				: running
					? [
							offer.bytes === null
								? bytes(Number.isFinite(had) ? had : 0)
								: t.of(bytes(Number.isFinite(had) ? had : 0), bytes(offer.bytes)),
							end && end.bytesPerSecond > 0 ? t.rate(bytes(end.bytesPerSecond)) : "",
						]
							.filter((part) => part)
							.join(" · ")
					: offer.bytes === null
						? ""
						: bytes(offer.bytes);
	return html`
		<div class="text filecard" data-testid="file-card" data-state=${card.state}>
			<p class="filename">${icon("file")}<b>${offer.names[0] ?? ""}${offer.count > 1 ? ` +${offer.count - 1}` : ""}</b></p>
			<p>${words}</p>
			${running && offer.bytes !== null ? html`<progress max="100" .value=${(100 * (Number.isFinite(had) ? had : 0)) / Math.max(1, offer.bytes)}></progress>` : nothing}
			<p class="acts">
				${from && card.state === "offered" ? html`<button class="button small primary" data-testid="file-accept" @click=${() => void files?.accept(card)}>${t.receive}</button>` : nothing}
				${
					card.state === "offered" || card.state === "accepted"
						? html`<button class="button small" data-testid="file-cancel" @click=${() => files?.cancel(card)}>${from && card.state === "offered" ? t.decline : t.cancel}</button>`
						: nothing
				}
			</p>
		</div>
	`;
}

const time = (ms: number, language: string) =>
	new Date(ms).toLocaleTimeString(language, { hour: "numeric", minute: "2-digit" });

// --- people -----------------------------------------------------------------------------------------------------------------

function people(call: CallView): TemplateResult {
	const { session, t } = call;
	const { channel } = session;
	const asking = [...session.asking.values()];
	return html`
		<aside class="panel" part="panel people" aria-labelledby="panel-title" data-testid="people">
			${header(call, "people", html`${t.people.title}<small>${t.people.count(session.peers.length + 1)}</small>`)}
			<div class="scroll">
				${
					asking.length > 0
						? html`<h3>${t.people.waiting}</h3>
								<ul>
									${asking.map(
										({ caller }) =>
											html`<li class="person">
												${face(caller.id, caller.name || t.prejoin.guest)}
												<span class="id"><b>${caller.name || t.prejoin.guest}</b></span>
												<span class="acts">
													<button class="button small" data-testid="decline" @click=${() => void session.answer(caller.id, false)}>${t.people.decline}</button>
													<button class="button small primary" data-testid="admit" @click=${() => void session.answer(caller.id, true)}>${t.people.admit}</button>
												</span>
											</li>`,
									)}
								</ul>`
						: nothing
				}
				<ul>
					<li class="person">
						${face(channel?.me.id ?? "self", call.name || t.tile.you)}
						<span class="id"><b>${call.name || t.prejoin.guest}</b><small>${t.people.you} · ${t.people[channel?.me.role ?? "speaker"]}</small></span>
						${session.media?.state.audio === "on" ? icon("mic") : icon("micOff")}
					</li>
					${repeat(
						session.peers,
						(peer) => peer.id,
						(peer) => person(call, peer),
					)}
				</ul>
				<p class="acts-row"></p>
				<button class="item" @click=${() => call.openDialog({ kind: "invite" })}>${icon("invite")}<span>${t.more.invite}</span></button>
				${
					session.isHost
						? html`<h3>${t.people.hostTools}</h3>
								${toggle("lock", t.people.lock, t.people.lockHint, channel?.settings.locked === true, (locked) => void session.configure({ locked }))}
								${toggle("waiting-room", t.people.waitingRoom, t.people.waitingRoomHint, channel?.settings.waitingRoom === true, (waitingRoom) => void session.configure({ waitingRoom }))}`
						: nothing
				}
			</div>
		</aside>
	`;
}

const toggle = (testid: string, label: string, hint: string, on: boolean, set: (on: boolean) => void) => html`
	<label class="switch">
		<span>${label}<small>${hint}</small></span>
		<input type="checkbox" role="switch" data-testid=${testid} .checked=${on} @change=${(e: Event) => set((e.target as HTMLInputElement).checked)} />
	</label>
`;

export const face = (id: string, name: string) =>
	html`<span class="face" aria-hidden="true" data-color=${avatarColor(id)}>${initials(name)}</span>`;

function person(call: CallView, peer: Peer): TemplateResult {
	const { session, t } = call;
	const name = peer.name || t.prejoin.guest;
	const open = call.expandedPerson === peer.id;
	const roles: [Role, string][] = [
		["host", t.people.makeHost],
		["speaker", t.people.makeSpeaker],
		["viewer", t.people.makeViewer],
	];
	return html`
		<li data-testid="person" data-peer=${peer.id} data-role=${peer.role}>
			<div class="person">
				${face(peer.id, name)}
				<span class="id"><b>${name}</b><small>${t.people[peer.role]}</small></span>
				${peer.media.audio === "on" ? icon("mic") : icon("micOff")} ${peer.media.video === "on" ? nothing : icon("cameraOff")}
				${
					session.isHost
						? html`<button
								class="iconbutton"
								data-testid="person-actions"
								aria-expanded=${open ? "true" : "false"}
								aria-label=${t.people.actions(name)}
								@click=${() => {
									call.expandedPerson = open ? null : peer.id;
								}}
							>
								${icon("more")}
							</button>`
						: nothing
				}
			</div>
			${
				open && session.isHost
					? html`<div class="acts-row">
							${roles
								.filter(([role]) => role !== peer.role)
								.map(
									([role, text]) =>
										html`<button class="button small" data-testid=${`make-${role}`} @click=${() => void session.setRole(peer.id, role)}>${text}</button>`,
								)}
							<button class="button small danger" data-testid="kick" @click=${() => call.openDialog({ kind: "kick", peer: peer.id, name })}>${t.people.remove}</button>
						</div>`
					: nothing
			}
		</li>
	`;
}
