import { html, nothing, type TemplateResult } from "lit";
import { type IconName, icon } from "../icons.js";
import type { LayoutMode } from "../layout.js";
import { choices, chosen, type DeviceKind } from "./prejoin.js";
import type { CallView } from "./view.js";

/** The controls of a call. */
export function bar(call: CallView): TemplateResult {
	const { session, t } = call;
	const { media } = session;
	const micOn = media?.state.audio === "on";
	const cameraOn = media?.state.video === "on";
	const sharing = media?.screen != null;
	const viewer = session.channel?.me.role === "viewer";
	const requests = session.asking.size;
	return html`
		<nav class="bar" part="bar" aria-label=${t.controls.bar}>
			${
				viewer
					? nothing
					: html`
							<div class="group">
								<button
									class="tool ${micOn ? "" : "off"}"
									part="button"
									data-testid="mic"
									aria-pressed=${micOn ? "true" : "false"}
									aria-label=${micOn ? t.controls.micOn : t.controls.micOff}
									aria-keyshortcuts="m"
									@click=${() => void session.toggleMicrophone()}
								>
									${icon(micOn ? "mic" : "micOff")}${micOn ? html`<span class="vol"></span>` : nothing}
									${tip(micOn ? t.controls.micOn : t.controls.micOff, "M")}
								</button>
								${menuButton(call, "mic", t.controls.micDevices)} ${call.menu === "mic" ? deviceMenu(call, ["microphone", "speaker"], t.controls.micDevices) : nothing}
							</div>
							<div class="group">
								<button
									class="tool ${cameraOn ? "" : "off"}"
									part="button"
									data-testid="camera"
									aria-pressed=${cameraOn ? "true" : "false"}
									aria-label=${cameraOn ? t.controls.cameraOn : t.controls.cameraOff}
									aria-keyshortcuts="v"
									@click=${() => void session.toggleCamera()}
								>
									${icon(cameraOn ? "camera" : "cameraOff")} ${tip(cameraOn ? t.controls.cameraOn : t.controls.cameraOff, "V")}
								</button>
								${menuButton(call, "camera", t.controls.cameraDevices)} ${call.menu === "camera" ? deviceMenu(call, ["camera"], t.controls.cameraDevices) : nothing}
							</div>
							${
								call.sdk.media.canShareScreen
									? html`<div class="group">
											<button
												class="tool ${sharing ? "active" : ""}"
												part="button"
												data-testid="screen"
												aria-pressed=${sharing ? "true" : "false"}
												aria-label=${sharing ? t.controls.screenStop : t.controls.screenStart}
												aria-keyshortcuts="s"
												@click=${() => void session.toggleScreen()}
											>
												${icon(sharing ? "screenStop" : "screen")} ${tip(sharing ? t.controls.screenStop : t.controls.screenStart, "S")}
											</button>
										</div>`
									: nothing
							}
							<span class="gap"></span>
						`
			}
			<div class="group">
				<button
					class="tool"
					part="button"
					data-testid="chat-toggle"
					aria-expanded=${call.panel === "chat" ? "true" : "false"}
					aria-label=${call.unread ? `${t.controls.chat}: ${t.controls.unread(call.unread)}` : t.controls.chat}
					aria-keyshortcuts="c"
					@click=${() => call.openPanel("chat")}
				>
					${icon("chat")}
					${call.unread ? html`<span class="badge" data-testid="unread">${call.unread > 99 ? "99+" : call.unread}</span>` : nothing}
					${tip(t.controls.chat, "C")}
				</button>
			</div>
			<div class="group wide">
				<button
					class="tool"
					part="button"
					data-testid="people-toggle"
					aria-expanded=${call.panel === "people" ? "true" : "false"}
					aria-label=${requests ? `${t.controls.people}: ${t.controls.requests(requests)}` : t.controls.people}
					aria-keyshortcuts="p"
					@click=${() => call.openPanel("people")}
				>
					${icon("people")}${requests ? html`<span class="badge">${requests}</span>` : nothing} ${tip(t.controls.people, "P")}
				</button>
			</div>
			<div class="group">
				<button
					class="tool"
					part="button"
					data-testid="more"
					data-menu
					aria-haspopup="menu"
					aria-expanded=${call.menu === "more" ? "true" : "false"}
					aria-label=${t.controls.more}
					@click=${(e: Event) => call.openMenu("more", e.currentTarget)}
				>
					${icon("more")} ${tip(t.controls.more)}
				</button>
				${call.menu === "more" ? moreMenu(call) : nothing}
			</div>
			<span class="gap"></span>
			<div class="group">
				<button class="tool leave" part="button leave" data-testid="leave" aria-label=${t.controls.leaveLong} @click=${() => call.leave()}>
					${icon("leave")} ${tip(t.controls.leaveLong)}
				</button>
			</div>
		</nav>
	`;
}

const tip = (text: string, key?: string) =>
	html`<span class="tip" aria-hidden="true">${text}${key ? ` (${key})` : nothing}</span>`;

const menuButton = (call: CallView, menu: "mic" | "camera", label: string) => html`
	<button
		class="tool arrow"
		part="button"
		data-testid=${`${menu}-menu`}
		data-menu
		aria-haspopup="dialog"
		aria-expanded=${call.menu === menu ? "true" : "false"}
		aria-label=${label}
		@click=${(e: Event) => call.openMenu(menu, e.currentTarget)}
	>
		${icon("up")}
	</button>
`;

function deviceMenu(call: CallView, kinds: readonly DeviceKind[], label: string): TemplateResult {
	const { session, t } = call;
	return html`
		<div class="pop" role="dialog" aria-label=${label}>
			${kinds.map((kind) => {
				const list = choices(call, kind);
				const current = chosen(call, kind);
				if (kind === "speaker" && list.length === 0) return nothing;
				return html`
					<h3 id=${`h-${kind}`}>${t.devices[kind]}</h3>
					<div role="radiogroup" aria-labelledby=${`h-${kind}`}>
						${
							list.length === 0
								? html`<p class="item">${t.devices.none}</p>`
								: list.map(
										(d, i) =>
											html`<label class="item"
												><input
													type="radio"
													name=${kind}
													data-testid=${`device-${kind}`}
													.value=${d.deviceId}
													.checked=${d.deviceId === current}
													@change=${() => void session.choose(kind, d.deviceId)}
												/><span>${d.label || t.devices.unnamed(t.devices[kind], i + 1)}</span></label
											>`,
									)
						}
					</div>
				`;
			})}
		</div>
	`;
}

function moreMenu(call: CallView): TemplateResult {
	const { t, session } = call;
	const item = (name: IconName, text: string, testid: string, act: () => void, key?: string) =>
		html`<button class="item" role="menuitem" data-testid=${testid} @click=${act}>${icon(name)}<span>${text}</span>${key ? html`<kbd aria-hidden="true">${key}</kbd>` : nothing}</button>`;
	const layouts: [LayoutMode, IconName, string][] = [
		["auto", "auto", t.more.layoutAuto],
		["grid", "grid", t.more.layoutGrid],
		["spotlight", "spotlight", t.more.layoutSpotlight],
	];
	return html`
		<div class="pop end" role="menu" aria-label=${t.controls.more} @keydown=${call.onMenuKey}>
			<div class="segments" role="group" aria-label=${t.more.layout}>
				${layouts.map(
					([mode, name, text]) =>
						html`<button
							role="menuitemradio"
							data-testid=${`layout-${mode}`}
							aria-checked=${call.layout === mode ? "true" : "false"}
							@click=${() => {
								call.layout = mode;
								if (mode !== "spotlight") call.pinned = null;
							}}
						>
							${icon(name)}${text}
						</button>`,
				)}
			</div>
			${item("invite", t.more.invite, "invite", () => call.openDialog({ kind: "invite" }), "I")}
			${item(
				"people",
				`${t.controls.people} · ${t.people.count(session.peers.length + 1)}`,
				"people-item",
				() => {
					call.menu = null;
					call.openPanel("people");
				},
				"P",
			)}
			<div class="sep" role="separator"></div>
			${document.fullscreenEnabled ? item("fullscreen", call.isFullscreen ? t.more.fullscreenExit : t.more.fullscreen, "fullscreen", () => void call.toggleFullscreen(), "F") : nothing}
			${document.pictureInPictureEnabled ? item("pip", t.more.pip, "pip", () => void call.togglePictureInPicture()) : nothing}
			${item("snapshot", t.more.snapshot, "snapshot", () => void call.saveSnapshot())}
			${"MediaRecorder" in globalThis ? item(call.recording ? "stop" : "record", call.recording ? t.more.recordStop : t.more.record, "record", () => void call.toggleRecording()) : nothing}
			<div class="sep" role="separator"></div>
			${item("keyboard", t.more.help, "help", () => call.openDialog({ kind: "help" }), "?")}
		</div>
	`;
}
