import { html, nothing, type TemplateResult } from "lit";
import { explain } from "../i18n/index.js";
import { icon, mark } from "../icons.js";
import { sourceOf } from "./stage.js";
import type { CallView } from "./view.js";

export const meter = (call: CallView): TemplateResult =>
	html`<span class="meter" role="meter" aria-valuemin="0" aria-valuemax="100" aria-valuenow="0" aria-label=${call.t.prejoin.microphoneLevel}><i></i><i></i><i></i><i></i><i></i></span>`;

/** The lattice of a paper door: what is there while there is no picture. */
export const lattice = (): TemplateResult =>
	html`<svg class="lattice" viewBox="0 0 16 10" preserveAspectRatio="none" aria-hidden="true">
		<path d="M2 0v10M4 0v10M6 0v10M10 0v10M12 0v10M14 0v10M0 1.6h16M0 3.2h16M0 6.8h16M0 8.4h16"/>
	</svg>`;

/** Name, camera and microphone, and one button. */
export function prejoin(call: CallView): TemplateResult {
	const { session, t } = call;
	const { media } = session;
	const trouble = session.microphoneError ?? session.cameraError;
	const cannotAny = session.mediaState === "none" && trouble !== null;
	return html`
		<div class="center" part="prejoin">
			<div class="prejoin">
				${call.fullPage ? html`<a class="brand" href="/">${mark()}<span>${t.product}</span></a>` : nothing}
				<div class="preview">${preview(call)}</div>
				<div class="form">
					<h1>${t.prejoin.heading}</h1>
					<p class="lead">${t.prejoin.joining(call.channel)}</p>
					<form
						@submit=${(e: SubmitEvent) => {
							e.preventDefault();
							void call.join();
						}}
					>
						<div>
							<label class="label" for="name">${t.prejoin.name}</label>
							<input
								class="field"
								id="name"
								data-testid="name"
								autocomplete="nickname"
								maxlength="60"
								placeholder=${t.prejoin.namePlaceholder}
								.value=${call.name}
								@input=${(e: InputEvent) => {
									call.name = (e.target as HTMLInputElement).value;
								}}
							/>
						</div>
						<button class="button primary join" part="join" data-testid="join" type="submit">
							${call.ring ? icon("phone") : nothing}
							${call.ring ? t.prejoin.ring : cannotAny ? t.prejoin.joinWithout : t.prejoin.join}
						</button>
						${
							call.fullPage
								? html`<label class="check"
										><input
											type="checkbox"
											data-testid="skip-prejoin"
											.checked=${session.prefs.skipPrejoin}
											@change=${(e: Event) => session.remember({ skipPrejoin: (e.target as HTMLInputElement).checked })}
										/>${t.prejoin.skip}</label
									>`
								: nothing
						}
					</form>
					${
						media
							? html`<details class="devices">
									<summary data-testid="devices">${icon("settings")}${t.prejoin.devices}</summary>
									<div class="selects">
										${deviceSelect(call, "camera")} ${deviceSelect(call, "microphone")}
										${session.devices.speakers.length > 0 ? deviceSelect(call, "speaker") : nothing}
									</div>
								</details>`
							: nothing
					}
					<p class="fine secret">${icon("lock")}<span>${t.prejoin.encrypted}</span></p>
				</div>
			</div>
		</div>
	`;
}

function preview(call: CallView): TemplateResult {
	const { session, t } = call;
	const { media } = session;
	const micOn = media?.state.audio === "on";
	const cameraOn = media?.state.video === "on";
	const trouble = session.cameraError ?? session.microphoneError;
	const explained = trouble ? explain({ code: trouble }, call.language) : null;
	return html`
		${
			cameraOn && media?.camera
				? html`<video data-testid="preview" aria-hidden="true" autoplay playsinline muted .muted=${true} .srcObject=${sourceOf(media.camera)}></video>`
				: html`
						${lattice()}
						<div class="nopic" data-testid="device-state" data-code=${trouble ?? nothing}>
							${
								explained
									? html`<strong>${explained.title}</strong>
											<p>${explained.help}</p>
											${
												trouble === "insecure_context"
													? nothing
													: html`<button class="button small" type="button" data-testid="retry-devices" @click=${() => void session.openMedia()}>${t.tile.retry}</button>`
											}`
									: session.mediaState === "opening"
										? html`<span class="spinner"></span><strong>${t.prejoin.cameraStarting}</strong>
												<p>${t.prejoin.cameraAllow}</p>`
										: html`<strong>${t.prejoin.cameraOff}</strong>`
							}
						</div>
					`
		}
		<div class="tools">
			<button
				class="tool ${micOn ? "" : "off"}"
				type="button"
				data-testid="mic"
				aria-pressed=${micOn ? "true" : "false"}
				aria-label=${micOn ? t.controls.micOn : t.controls.micOff}
				title=${micOn ? t.controls.micOn : t.controls.micOff}
				?disabled=${session.mediaState === "opening"}
				@click=${() => void session.toggleMicrophone()}
			>
				${icon(micOn ? "mic" : "micOff")}${micOn ? meter(call) : nothing}
			</button>
			<button
				class="tool ${cameraOn ? "" : "off"}"
				type="button"
				data-testid="camera"
				aria-pressed=${cameraOn ? "true" : "false"}
				aria-label=${cameraOn ? t.controls.cameraOn : t.controls.cameraOff}
				title=${cameraOn ? t.controls.cameraOn : t.controls.cameraOff}
				?disabled=${session.mediaState === "opening"}
				@click=${() => void session.toggleCamera()}
			>
				${icon(cameraOn ? "camera" : "cameraOff")}
			</button>
		</div>
	`;
}

const plural = { microphone: "microphones", camera: "cameras", speaker: "speakers" } as const;
export type DeviceKind = keyof typeof plural;

/** What can be chosen. Before a permission is given a browser lists devices without names or ids: those cannot. */
export const choices = (call: CallView, kind: DeviceKind): MediaDeviceInfo[] =>
	call.session.devices[plural[kind]].filter((d) => d.deviceId !== "");

/** The device in use, or the one that was chosen last. */
export function chosen(call: CallView, kind: DeviceKind): string {
	const { media, prefs } = call.session;
	const track = kind === "camera" ? media?.camera : kind === "microphone" ? media?.microphone : null;
	const list = choices(call, kind);
	const id = track?.getSettings?.().deviceId || prefs[kind];
	return list.some((d) => d.deviceId === id) ? id : (list[0]?.deviceId ?? "");
}

function deviceSelect(call: CallView, kind: DeviceKind): TemplateResult {
	const { session, t } = call;
	const list = choices(call, kind);
	const current = chosen(call, kind);
	return html`
		<div>
			<label class="label" for=${`device-${kind}`}>${t.devices[kind]}</label>
			<select
				class="field"
				id=${`device-${kind}`}
				data-testid=${`select-${kind}`}
				?disabled=${list.length === 0}
				@change=${(e: Event) => void session.choose(kind, (e.target as HTMLSelectElement).value)}
			>
				${
					list.length === 0
						? html`<option>${t.devices.none}</option>`
						: list.map(
								(d, i) =>
									html`<option value=${d.deviceId} .selected=${d.deviceId === current}>${d.label || t.devices.unnamed(t.devices[kind], i + 1)}</option>`,
							)
				}
			</select>
		</div>
	`;
}
