import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { repeat } from "lit/directives/repeat.js";
import { icon, mark, signalIcon } from "../icons.js";
import type { TileInfo } from "../layout.js";
import type { Grade, Peer, Quality } from "../sdk.js";
import { avatarColor, initials } from "../tokens.js";
import { inviteCard } from "./dialogs.js";
import { soundOf } from "./session.js";
import type { CallView } from "./view.js";

const streams = new WeakMap<MediaStreamTrack, MediaStream>();

/**
 * What shows or plays a track. It is always the same stream, and an element that has it already is left alone: one that is given its source again begins
 * anew, and Lit sets objects at each drawing.
 */
export const sourceOf = (track: MediaStreamTrack) => live(streamOf(track));

function streamOf(track: MediaStreamTrack): MediaStream {
	let stream = streams.get(track);
	if (!stream) {
		stream = new MediaStream([track]);
		streams.set(track, stream);
	}
	return stream;
}

export interface Tile extends TileInfo {
	readonly peer: Peer | null;
	readonly name: string;
	readonly track: MediaStreamTrack | null;
	readonly muted: boolean;
}

/** Everybody and every screen, oneself last. */
export function tilesOf(call: CallView): Tile[] {
	const { session, t } = call;
	const tiles: Tile[] = [];
	for (const peer of session.peers) {
		const name = peer.name || t.prejoin.guest;
		const camera = peer.tracks.get("camera");
		const screen = peer.tracks.get("screen");
		const shows = camera && !camera.muted && peer.media.video === "on";
		// A viewer who sends nothing takes no place on the stage; the list of people has them.
		if (peer.role !== "viewer" || camera) {
			tiles.push({
				id: peer.id,
				self: false,
				screen: false,
				peer,
				name,
				track: shows ? camera.mediaTrack : null,
				muted: peer.media.audio !== "on",
			});
		}
		if (screen && peer.media.screen !== "off") {
			tiles.push({
				id: `${peer.id}/screen`,
				self: false,
				screen: true,
				peer,
				name,
				track: screen.mediaTrack,
				muted: true,
			});
		}
	}
	const { media } = session;
	tiles.push({
		id: "self",
		self: true,
		screen: false,
		peer: null,
		name: call.name || t.tile.you,
		track: media?.state.video === "on" ? media.camera : null,
		muted: media?.state.audio !== "on",
	});
	return tiles;
}

/** The room with everybody in it. Where the tiles are is decided after the drawing, by `arrange`. */
export function stage(call: CallView): TemplateResult {
	const tiles = tilesOf(call);
	return html`
		<div class="stage" part="stage">
			${repeat(
				tiles,
				(tile) => tile.id,
				(tile) => tileView(call, tile),
			)}
			${tiles.length === 1 && call.session.peers.length === 0 ? inviteCard(call) : nothing} ${qualityCard(call, tiles)}
			<span class="overflow" hidden></span>
		</div>
	`;
}

function tileView(call: CallView, tile: Tile): TemplateResult {
	const { session, t } = call;
	const { peer } = tile;
	const color = avatarColor(peer?.id ?? session.channel?.me.id ?? "self");
	const speaking = tile.self
		? session.level > 0.06 && !tile.muted
		: !tile.screen && session.speaker.isSpeaking(tile.id, call.nowMs > 0 ? Date.now() : 0);
	const trouble = peer && !tile.screen ? peer.connection : "connected";
	const pinned = call.pinned === tile.id;
	const label = tile.screen ? t.tile.screenOf(tile.name) : tile.name;
	const described = [
		label,
		...(tile.self ? [t.tile.move] : []),
		...(tile.screen ? [] : tile.muted ? [t.tile.muted] : []),
		...(tile.track ? [] : [t.tile.cameraOff]),
	].join(", ");
	return html`
		<div
			class="tile"
			part="tile"
			data-testid="tile"
			data-id=${tile.id}
			data-peer=${peer?.id ?? session.channel?.me.id ?? ""}
			data-self=${tile.self ? "true" : "false"}
			data-source=${tile.screen ? "screen" : "camera"}
			data-connection=${trouble}
			data-name=${label}
			data-fresh
			?data-mirror=${tile.self}
			?data-speaking=${speaking}
			?data-pinned=${pinned}
			?data-dim=${trouble === "interrupted" || trouble === "failed"}
			role="group"
			aria-label=${described}
			@pointerdown=${tile.self ? call.onTilePointer : nothing}
			@keydown=${tile.self ? call.onTileKey : nothing}
			@dblclick=${() => (tile.self ? undefined : call.pin(tile.id))}
		>
			<div class="frame">
				${
					tile.track
						? html`<video
								autoplay
								playsinline
								muted
								.muted=${true}
								.srcObject=${sourceOf(tile.track)}
								@resize=${call.onVideoSize}
								@loadedmetadata=${call.onVideoSize}
							></video>`
						: html`<div class="avatar" aria-hidden="true"><span data-color=${color}>${initials(tile.name)}</span></div>`
				}
				${trouble === "connected" || trouble === "closed" ? nothing : troubleView(call, tile, trouble)}
				<div class="ringline"></div>
			</div>
			<div class="caption">
				<span class="who">
					${tile.screen ? icon("screen") : tile.muted ? html`<span class="muted">${icon("micOff")}</span>` : nothing}
					<b>${tile.self ? `${call.name ? `${call.name} · ` : ""}${t.tile.you}` : label}</b>
				</span>
				${
					peer && !tile.screen
						? html`<button
								data-quality
								data-testid="quality"
								data-grade=${peer.quality?.grade ?? "unknown"}
								aria-label=${`${t.tile.quality(tile.name)}: ${gradeText(call, peer.quality)}`}
								aria-expanded=${call.quality === tile.id ? "true" : "false"}
								@click=${() => {
									call.quality = call.quality === tile.id ? null : tile.id;
								}}
							>
								${signalIcon(bars(peer.quality?.grade))}
							</button>`
						: nothing
				}
			</div>
			${
				tile.self
					? nothing
					: html`<div class="corner">
							<button
								data-testid="pin"
								aria-pressed=${pinned ? "true" : "false"}
								aria-label=${pinned ? t.tile.unpin(label) : t.tile.pin(label)}
								title=${pinned ? t.tile.unpin(label) : t.tile.pin(label)}
								@click=${() => call.pin(tile.id)}
							>
								${icon(pinned ? "unpin" : "pin")}
							</button>
						</div>`
			}
		</div>
	`;
}

function troubleView(call: CallView, tile: Tile, state: string): TemplateResult {
	const { t } = call;
	if (state === "failed") {
		return html`<div class="trouble" data-testid="peer-trouble">
			<span>${t.tile.failed}</span>
			<button class="button small" @click=${() => void tile.peer?.restartIce()}>${t.tile.retry}</button>
		</div>`;
	}
	const interrupted = state === "interrupted";
	return html`<div class="trouble ${interrupted || tile.track ? "" : "soft"}" data-testid="peer-trouble">
		<span class="spinner"></span><span>${interrupted ? t.tile.interrupted : t.tile.connecting}</span>
	</div>`;
}

const bars = (grade: Grade | undefined): 0 | 1 | 2 | 3 =>
	grade === "good" ? 3 : grade === "fair" ? 2 : grade === "poor" ? 1 : 0;

const gradeText = (call: CallView, quality: Quality | null | undefined) => call.t.quality[quality?.grade ?? "unknown"];

/** How the connection with somebody is, why, and by which way it goes. */
function qualityCard(call: CallView, tiles: readonly Tile[]): TemplateResult | typeof nothing {
	const tile = tiles.find((x) => x.id === call.quality);
	if (!tile?.peer) return nothing;
	const { t } = call;
	const q = tile.peer.quality;
	const path = q?.path;
	const rate = (bps: number | null | undefined) =>
		bps == null
			? null
			: bps >= 1_000_000
				? t.quality.mbps((bps / 1e6).toFixed(1))
				: t.quality.kbps(String(Math.round(bps / 1000)));
	const rows: [string, string | null][] = [
		[t.quality.delay, q?.rttMs == null ? null : t.quality.ms(Math.round(q.rttMs))],
		[t.quality.loss, q?.lossRatio == null ? null : t.quality.percent((q.lossRatio * 100).toFixed(1))],
		[t.quality.rate, rate(q?.inBitrateBps)],
		[t.quality.sendRate, rate(q?.outBitrateBps)],
	];
	return html`
		<section class="qcard" data-testid="quality-card" data-grade=${q?.grade ?? "unknown"} aria-label=${t.tile.quality(tile.name)}>
			<header><i></i>${gradeText(call, q)}</header>
			<button
				class="iconbutton"
				aria-label=${t.close}
				@click=${() => {
					call.quality = null;
				}}
			>
				${icon("close")}
			</button>
			<p>${t.quality.reason[q?.reason ?? "none"] ?? ""}</p>
			<dl>
				${
					path
						? html`<dt>${t.quality.path}</dt>
								<dd data-testid="path" data-relayed=${path.relayed ? "true" : "false"}>
									${path.relayed ? t.quality.relayed : t.quality.direct} · ${(path.relayed ? (path.relayProtocol ?? path.protocol) : path.protocol).toUpperCase()}
									<small>${path.relayed ? t.quality.relayedHelp : t.quality.directHelp}</small>
								</dd>`
						: nothing
				}
				${rows.map(([name, value]) => (value === null ? nothing : html`<dt>${name}</dt><dd>${value}</dd>`))}
			</dl>
		</section>
	`;
}

/** Sound is apart from the pictures, so that nothing on the stage can interrupt it. */
export function sound(call: CallView): TemplateResult {
	const tracks = call.session.peers.flatMap((peer) => soundOf(peer).map((track) => ({ peer, track })));
	return html`<div hidden>
		${repeat(
			tracks,
			({ track }) => track.id,
			({ peer, track }) => html`<audio data-peer=${peer.id} autoplay .srcObject=${sourceOf(track)}></audio>`,
		)}
	</div>`;
}

/** Where one is, for how long, and with how many. */
export function topBar(call: CallView): TemplateResult {
	const { session, t } = call;
	const people = session.peers.length + 1;
	return html`
		<header class="top" part="top">
			${call.fullPage ? html`<h1 class="sr">${call.channel}</h1>` : nothing}
			${call.fullPage ? html`<span class="brand">${mark()}<span>${t.product}</span></span>` : nothing}
			<button class="where" data-testid="copy-link" title=${t.invite.copy} aria-label=${`${call.channel}: ${t.invite.copy}`} @click=${() => void call.copyLink()}>
				<b>${call.channel}</b>${icon("copy")}
			</button>
			${session.channel?.settings.locked ? html`<span class="chip" title=${t.state.locked}>${icon("lock")}<span class="sr">${t.state.locked}</span></span>` : nothing}
			<span class="space"></span>
			${call.recording ? html`<span class="chip rec" data-testid="recording">${t.state.recording} ${clock(call.nowMs - call.recording.startedAtMs)}</span>` : nothing}
			<span class="chip count">${icon("people")}${t.people.count(people)}</span>
			<span class="chip" title=${t.state.elapsed} role="timer" aria-label=${t.state.elapsed}>${clock(call.nowMs - session.joinedAtMs)}</span>
		</header>
	`;
}

export function clock(ms: number): string {
	const seconds = Math.max(0, Math.floor(ms / 1000));
	const two = (n: number) => String(n).padStart(2, "0");
	const hours = Math.floor(seconds / 3600);
	const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
	return hours > 0 ? `${hours}:${rest}` : rest;
}
