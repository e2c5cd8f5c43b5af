import { css } from "lit";

export const styles = css`
	:host {
		display: block; position: relative; width: 100%; height: 560px; min-height: 320px; overflow: hidden;
		container: call / size; background: var(--m-paper); border-radius: var(--m-radius); isolation: isolate;
	}
	:host([full-page]) { height: 100vh; height: 100dvh; min-height: 0; border-radius: 0; }
	:host(:fullscreen) { height: 100%; border-radius: 0; }
	:host([hidden]) { display: none; }
	.root { position: absolute; inset: 0; display: flex; flex-direction: column; }

	/* --- before the call --- */
	.center { flex: 1; min-height: 0; overflow: auto; display: grid; place-items: center; padding: max(20px, env(safe-area-inset-top)) 20px max(20px, env(safe-area-inset-bottom)); }
	.prejoin { width: 100%; max-width: 1040px; display: grid; grid-template-columns: minmax(0, 1.35fr) minmax(280px, 1fr); gap: 20px 56px; align-items: center; }
	.brand { display: inline-flex; align-items: center; gap: 10px; font-weight: 700; letter-spacing: -0.01em; text-decoration: none; color: var(--m-ink); }
	.brand .mark { width: 28px; height: 28px; }
	.prejoin .brand { grid-column: 1 / -1; justify-self: start; }
	.prejoin .tool:has(.meter) { display: flex; align-items: center; gap: 8px; padding: 0 16px 0 14px; color: var(--m-accent); }
	.prejoin h1 { font-size: 32px; line-height: 1.2; letter-spacing: -0.025em; font-weight: 700; text-wrap: balance; }
	.prejoin .lead { margin: 8px 0 24px; color: var(--m-ink-2); }
	.prejoin form { display: grid; gap: 14px; }
	.prejoin .join { min-height: 56px; font-size: 18px; border-radius: 16px; }
	.prejoin .fine { display: flex; gap: 10px; align-items: flex-start; font-size: 14px; color: var(--m-ink-2); }
	.prejoin .fine .icon { width: 18px; height: 18px; margin-top: 2px; }
	.check { display: flex; gap: 10px; align-items: center; font-size: 15px; color: var(--m-ink-2); cursor: pointer; min-height: 32px; }
	.check input { width: 20px; height: 20px; margin: 0; accent-color: var(--m-accent); flex: none; }
	.preview { position: relative; aspect-ratio: 16 / 10; border-radius: 28px; overflow: hidden; background: var(--m-sunk); box-shadow: var(--m-shadow); }
	.preview video { width: 100%; height: 100%; object-fit: cover; transform: scaleX(-1); display: block; }
	.preview .nopic { position: absolute; inset: 0; display: grid; place-items: center; align-content: center; gap: 14px; padding: 24px 28px 92px; text-align: center; color: var(--m-ink-2); }
	.preview .nopic strong { color: var(--m-ink); font-size: 18px; line-height: 1.35; }
	.preview .nopic p { font-size: 15px; max-width: 46ch; }
	.preview .tools { position: absolute; left: 0; right: 0; bottom: 18px; display: flex; justify-content: center; gap: 12px; }
	.lattice { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0.5; }
	.lattice path { fill: none; stroke: var(--m-line); stroke-width: 1; vector-effect: non-scaling-stroke; }
	.meter { display: inline-flex; align-items: center; gap: 3px; height: 18px; }
	.meter i { width: 4px; height: 100%; border-radius: 2px; background: currentColor; opacity: 0.28; transform: scaleY(0.35); transition: transform 0.08s linear, opacity 0.08s linear; }
	.meter i[data-on] { opacity: 1; transform: none; }
	details.devices > summary { display: inline-flex; align-items: center; gap: 8px; min-height: 36px; padding: 4px 10px 4px 0; border-radius: 10px; font-size: 15px; font-weight: 600; color: var(--m-accent); cursor: pointer; list-style: none; }
	details.devices > summary::-webkit-details-marker { display: none; }
	details.devices > summary .icon { width: 20px; height: 20px; }
	.selects { display: grid; gap: 12px; padding-top: 8px; }
	select.field { appearance: none; padding-right: 40px; text-overflow: ellipsis; background-image: linear-gradient(45deg, transparent 50%, var(--m-ink-2) 50%), linear-gradient(-45deg, transparent 50%, var(--m-ink-2) 50%); background-size: 6px 6px; background-position: right 21px center, right 15px center; background-repeat: no-repeat; }

	/* --- waiting, and after the call --- */
	.card { width: 100%; max-width: 460px; text-align: center; display: grid; gap: 14px; justify-items: center; padding: 12px 4px; }
	.card h1 { font-size: 28px; line-height: 1.25; letter-spacing: -0.02em; text-wrap: balance; }
	.card p { color: var(--m-ink-2); max-width: 42ch; text-wrap: pretty; }
	.card .code { font: 13px/1.4 ui-monospace, monospace; color: var(--m-ink-2); }
	.card .actions { display: flex; flex-wrap: wrap; gap: 10px; justify-content: center; margin-top: 8px; }
	.emblem { position: relative; width: 88px; height: 88px; display: grid; place-items: center; border-radius: 28px; background: var(--m-accent-soft); color: var(--m-accent-ink); margin-bottom: 6px; }
	.emblem .icon { width: 38px; height: 38px; }
	.emblem.bad { background: var(--m-danger-soft); color: var(--m-danger-ink); }
	.emblem.waves::before, .emblem.waves::after { content: ""; position: absolute; inset: 0; border-radius: inherit; border: 2px solid var(--m-accent); animation: wave 2.4s cubic-bezier(0.2, 0.6, 0.4, 1) infinite; }
	.emblem.waves::after { animation-delay: 1.2s; }
	@keyframes wave { from { opacity: 0.6; transform: scale(1); } to { opacity: 0; transform: scale(1.6); } }

	/* --- the call --- */
	.top { display: flex; align-items: center; gap: 12px; padding: 12px 16px 0; padding-top: max(12px, env(safe-area-inset-top)); min-height: 56px; flex: none; }
	.top .brand span { font-size: 15px; }
	.top .where { display: inline-flex; align-items: center; gap: 8px; min-width: 0; border: 0; background: none; padding: 6px 10px; border-radius: 10px; color: var(--m-ink-2); font-size: 15px; cursor: pointer; }
	.top .where:hover { background: var(--m-sunk); color: var(--m-ink); }
	.top .where b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; word-break: normal; }
	.top .where .icon { width: 18px; height: 18px; }
	.top .space { flex: 1; }
	.chip { display: inline-flex; align-items: center; gap: 6px; min-height: 32px; padding: 4px 12px; border-radius: 10px; font-size: 14px; color: var(--m-ink-2); font-variant-numeric: tabular-nums; white-space: nowrap; }
	.chip .icon { width: 18px; height: 18px; }
	.chip.rec { background: var(--m-danger-soft); color: var(--m-danger-ink); font-weight: 600; }
	.chip.rec::before { content: ""; width: 9px; height: 9px; border-radius: 50%; background: currentColor; animation: blink 1.6s ease-in-out infinite; }
	@keyframes blink { 50% { opacity: 0.25; } }
	.body { flex: 1; min-height: 0; display: flex; gap: 12px; padding: 12px 16px; position: relative; }
	.stage { position: relative; flex: 1; min-width: 0; min-height: 0; }

	.tile { position: absolute; left: 0; top: 0; transition: left 0.32s cubic-bezier(0.2, 0.8, 0.2, 1), top 0.32s cubic-bezier(0.2, 0.8, 0.2, 1), width 0.32s cubic-bezier(0.2, 0.8, 0.2, 1), height 0.32s cubic-bezier(0.2, 0.8, 0.2, 1); }
	.tile[data-fresh] { transition: none; animation: arrive 0.35s cubic-bezier(0.2, 0.8, 0.2, 1); }
	@keyframes arrive { from { opacity: 0; transform: scale(0.94); } }
	.tile[data-dragging] { transition: none; cursor: grabbing; }
	.tile[data-kind="float"] { z-index: 3; cursor: grab; touch-action: none; }
	.tile[data-kind="float"] .frame { box-shadow: 0 6px 24px rgb(0 0 0 / 28%); border: 2px solid var(--m-surface); }
	.frame { position: absolute; inset: 0; overflow: hidden; border-radius: var(--m-radius); background: var(--m-sunk); }
	.tile[data-kind="strip"] .frame, .tile[data-kind="float"] .frame { border-radius: 16px; }
	.frame video { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; display: block; background: var(--m-sunk); }
	
	.tile[data-fit="contain"] .frame video { object-fit: contain; }
	.tile[data-mirror] .frame video { transform: scaleX(-1); }
	.tile[data-dim] .frame video { filter: grayscale(0.8); }
	.ringline { position: absolute; inset: 0; border-radius: inherit; pointer-events: none; box-shadow: inset 0 0 0 0 transparent; transition: box-shadow 0.2s; z-index: 1; border-radius: var(--m-radius); }
	.tile[data-kind="strip"] .ringline, .tile[data-kind="float"] .ringline { border-radius: 16px; }
	.tile[data-speaking] .ringline { box-shadow: inset 0 0 0 3px var(--m-accent), inset 0 0 0 4px var(--m-surface); }
	.avatar { position: absolute; inset: 0; display: grid; place-items: center; container-type: size; }
	.avatar span { display: grid; place-items: center; width: min(38cqmin, 132px); aspect-ratio: 1; border-radius: 30%; color: #fff; font-weight: 600; font-size: min(14cqmin, 48px); letter-spacing: -0.02em; word-break: normal; white-space: nowrap; }
	.caption { position: absolute; left: 10px; bottom: 10px; max-width: calc(100% - 20px); display: flex; align-items: center; gap: 2px; border-radius: 11px; background: rgb(16 20 18 / 76%); color: #fff; font-size: 14px; line-height: 1.3; z-index: 2; overflow: hidden; }
	.caption .who { display: flex; align-items: center; gap: 6px; min-width: 0; padding: 6px 10px; }
	.caption .who b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; word-break: normal; }
	.caption .icon { width: 17px; height: 17px; }
	.caption .muted { display: inline-flex; color: #ffb3a8; }
	.caption button { display: grid; place-items: center; align-self: stretch; min-width: 34px; min-height: 30px; margin-left: -6px; border: 0; border-radius: 9px; background: none; color: inherit; cursor: pointer; }
	.caption button:hover { background: rgb(255 255 255 / 16%); }
	.caption button:focus-visible, .corner button:focus-visible { outline-color: #fff; outline-offset: -3px; }
	.signal { width: 16px; height: 16px; fill: rgb(255 255 255 / 32%); }
	.signal[data-filled="1"] rect:nth-child(-n + 1) { fill: #ff8d80; }
	.signal[data-filled="2"] rect:nth-child(-n + 2) { fill: #f0c060; }
	.signal[data-filled="3"] rect { fill: #8fdcbf; }
	.tile[data-kind="float"] .caption { left: 6px; bottom: 6px; max-width: calc(100% - 12px); font-size: 13px; }
	.tile[data-kind="float"] .caption .who, .tile[data-kind="strip"] .caption .who { padding: 4px 8px; }
	.corner { position: absolute; right: 10px; top: 10px; display: flex; gap: 6px; z-index: 2; opacity: 0; transition: opacity 0.15s; }
	.tile:hover .corner, .tile:focus-within .corner, .tile[data-pinned] .corner { opacity: 1; }
	.corner button { display: grid; place-items: center; width: 36px; height: 36px; border: 0; border-radius: 11px; background: rgb(16 20 18 / 72%); color: #fff; cursor: pointer; }
	.corner button:hover { background: rgb(16 20 18 / 92%); }
	.corner .icon { width: 19px; height: 19px; }
	@media (hover: none) { .corner { opacity: 1; } .tile[data-kind="strip"] .corner { display: none; } }
	.trouble { position: absolute; inset: 0; display: grid; place-items: center; align-content: center; gap: 10px; padding: 16px 16px 44px; text-align: center; color: #fff; background: rgb(14 18 16 / 58%); z-index: 1; font-size: 15px; }
	.trouble.soft { display: flex; align-items: flex-end; justify-content: center; background: none; color: var(--m-ink-2); padding-bottom: 14px; gap: 8px; }
	.trouble.soft .spinner { width: 18px; height: 18px; border-width: 2px; margin-bottom: 2px; }
	.tile[data-kind="strip"] .trouble, .tile[data-kind="float"] .trouble { font-size: 12px; padding: 6px 8px 34px; }
	.spinner { width: 26px; height: 26px; border-radius: 50%; border: 3px solid currentColor; border-right-color: transparent; animation: turn 0.9s linear infinite; opacity: 0.85; }
	@keyframes turn { to { transform: rotate(360deg); } }
	.overflow { position: absolute; right: 10px; top: 10px; z-index: 4; padding: 6px 12px; border-radius: 11px; background: var(--m-surface); border: 1px solid var(--m-line); font-size: 14px; font-weight: 600; }

	.alone { position: absolute; z-index: 3; left: 50%; top: 50%; translate: -50% -50%; width: min(400px, calc(100% - 32px)); max-height: calc(100% - 24px); overflow: auto; padding: 26px; border-radius: 24px; background: var(--m-surface); box-shadow: var(--m-shadow); text-align: center; display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px; justify-items: center; animation: arrive 0.4s cubic-bezier(0.2, 0.8, 0.2, 1); }
	.alone h2 { font-size: 21px; letter-spacing: -0.02em; }
	.alone p { color: var(--m-ink-2); font-size: 15px; }
	.linkbox { display: flex; width: 100%; align-items: center; gap: 6px; padding: 5px 5px 5px 14px; border-radius: 14px; background: var(--m-sunk); text-align: left; }
	.linkbox code { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font: 500 14px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; word-break: normal; }
	.qr { display: block; width: 148px; height: 148px; border-radius: 16px; background: #fff; padding: 6px; }
	.qr path { fill: #16201b; }
	.alone .row { display: flex; width: 100%; gap: 8px; flex-wrap: wrap; justify-content: center; }

	/* --- bar --- */
	.bar { position: relative; flex: none; display: flex; justify-content: center; align-items: center; gap: 10px; padding: 2px 16px 16px; padding-bottom: max(16px, env(safe-area-inset-bottom)); z-index: 6; }
	.group { position: relative; display: flex; }
	.tool { position: relative; display: grid; place-items: center; min-width: 52px; height: 52px; padding: 0; border: 1px solid var(--m-line); border-radius: 17px; background: var(--m-surface); color: var(--m-ink); cursor: pointer; transition: background-color 0.15s, color 0.15s, transform 0.12s; }
	.tool:hover { background: var(--m-sunk); }
	.tool:active { transform: scale(0.95); }
	.tool[aria-expanded="true"], .tool[aria-pressed="true"].view { background: var(--m-accent-soft); color: var(--m-accent-ink); border-color: transparent; }
	.tool.off { background: var(--m-danger-soft); color: var(--m-danger-ink); border-color: transparent; }
	.tool.active { background: var(--m-accent); color: var(--m-on-accent); border-color: transparent; }
	.group .tool:first-child:not(:last-child) { border-top-right-radius: 6px; border-bottom-right-radius: 6px; }
	.group .tool.arrow { min-width: 30px; margin-left: 2px; border-top-left-radius: 6px; border-bottom-left-radius: 6px; }
	.tool.arrow .icon { width: 18px; height: 18px; }
	.tool.leave { background: var(--m-danger); color: var(--m-on-danger); border-color: transparent; min-width: 68px; }
	.tool.leave .icon { width: 28px; height: 28px; }
	.tool.leave:hover { background: color-mix(in oklab, var(--m-danger) 86%, var(--m-ink)); }
	.bar .gap { width: 10px; }
	.badge { position: absolute; right: -6px; top: -6px; min-width: 22px; height: 22px; padding: 0 6px; border-radius: 11px; border: 2px solid var(--m-paper); background: var(--m-danger); color: var(--m-on-danger); font-size: 12px; font-weight: 700; line-height: 18px; text-align: center; font-variant-numeric: tabular-nums; }
	.tool .vol { position: absolute; left: 10px; right: 10px; bottom: 6px; height: 3px; border-radius: 2px; background: var(--m-accent); transform-origin: left; transform: scaleX(var(--level, 0)); transition: transform 0.09s linear; }
	.tool .tip { position: absolute; bottom: calc(100% + 8px); left: 50%; translate: -50% 4px; padding: 5px 10px; border-radius: 9px; background: var(--m-ink); color: var(--m-paper); font-size: 13px; line-height: 1.3; white-space: nowrap; opacity: 0; pointer-events: none; transition: opacity 0.12s 0.25s, translate 0.12s 0.25s; }
	@media (hover: hover) { .tool:hover .tip { opacity: 1; translate: -50% 0; } }
	.tool:focus-visible .tip { opacity: 1; translate: -50% 0; }
	.tool[aria-expanded="true"] .tip { opacity: 0 !important; }

	.pop { position: absolute; bottom: calc(100% + 10px); left: 0; width: 300px; max-width: calc(100cqw - 24px); max-height: min(70cqh, 520px); overflow: auto; padding: 10px; border: 1px solid var(--m-line); border-radius: 20px; background: var(--m-surface); box-shadow: var(--m-shadow); z-index: 8; animation: pop 0.16s cubic-bezier(0.2, 0.8, 0.2, 1); }
	.pop.end { left: auto; right: 0; }
	@keyframes pop { from { opacity: 0; transform: translateY(6px); } }
	.pop h3 { padding: 8px 10px 4px; font-size: 13px; font-weight: 600; color: var(--m-ink-2); }
	.item { display: flex; width: 100%; align-items: center; gap: 12px; min-height: 44px; padding: 8px 10px; border: 0; border-radius: 12px; background: none; text-align: left; cursor: pointer; font-size: 15px; color: var(--m-ink); }
	.item:hover, .item:focus-visible { background: var(--m-sunk); }
	.item .icon { width: 20px; height: 20px; color: var(--m-ink-2); }
	.item .end { margin-left: auto; display: inline-flex; }
	.item kbd { margin-left: auto; }
	@media (pointer: coarse) { .item kbd { display: none; } }
	.item input { accent-color: var(--m-accent); width: 18px; height: 18px; margin: 0; flex: none; }
	.item span { min-width: 0; }
	.sep { height: 1px; margin: 6px 10px; background: var(--m-line); }
	kbd { display: inline-block; min-width: 26px; padding: 1px 7px; border: 1px solid var(--m-line); border-radius: 7px; background: var(--m-paper); font: 600 13px/1.5 var(--m-font); text-align: center; color: var(--m-ink-2); word-break: normal; }
	.segments { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 4px; padding: 4px; margin: 2px 6px 6px; border-radius: 14px; background: var(--m-sunk); }
	.segments button { display: grid; justify-items: center; gap: 2px; min-height: 56px; padding: 6px 4px; border: 0; border-radius: 11px; background: none; font-size: 12.5px; cursor: pointer; color: var(--m-ink-2); }
	.segments button[aria-checked="true"] { background: var(--m-surface); color: var(--m-accent); font-weight: 600; box-shadow: 0 1px 3px rgb(0 0 0 / 12%); }

	.qcard { position: absolute; z-index: 5; width: 292px; max-width: calc(100% - 16px); padding: 16px 18px; border: 1px solid var(--m-line); border-radius: 18px; background: var(--m-surface); box-shadow: var(--m-shadow); font-size: 14px; animation: pop 0.16s; }
	.qcard header { display: flex; align-items: center; gap: 8px; font-weight: 700; font-size: 15px; margin-bottom: 4px; padding-right: 28px; }
	.qcard header i { width: 10px; height: 10px; border-radius: 4px; background: var(--m-ink-2); flex: none; }
	.qcard[data-grade="good"] header i { background: var(--m-good); }
	.qcard[data-grade="fair"] header i { background: var(--m-fair); }
	.qcard[data-grade="poor"] header i, .qcard[data-grade="lost"] header i { background: var(--m-poor); }
	.qcard p { color: var(--m-ink-2); }
	.qcard dl { display: grid; grid-template-columns: auto 1fr; gap: 4px 16px; margin-top: 10px; padding-top: 10px; border-top: 1px solid var(--m-line); }
	.qcard dt { color: var(--m-ink-2); }
	.qcard dd { text-align: right; font-variant-numeric: tabular-nums; }
	.qcard dd small { display: block; color: var(--m-ink-2); font-size: 13px; }
	.iconbutton { display: grid; place-items: center; width: 40px; height: 40px; border: 0; border-radius: 12px; background: none; color: var(--m-ink-2); cursor: pointer; flex: none; }
	.iconbutton:hover { background: var(--m-sunk); color: var(--m-ink); }
	.qcard .iconbutton { position: absolute; right: 8px; top: 8px; width: 32px; height: 32px; }
	.qcard .iconbutton .icon { width: 18px; height: 18px; }

	/* --- panel --- */
	.panel { width: 348px; flex: none; display: flex; flex-direction: column; min-height: 0; border: 1px solid var(--m-line); border-radius: var(--m-radius); background: var(--m-surface); overflow: hidden; animation: slide 0.25s cubic-bezier(0.2, 0.8, 0.2, 1); z-index: 5; }
	@keyframes slide { from { opacity: 0; transform: translateX(16px); } }
	.panel > header { display: flex; align-items: center; justify-content: space-between; padding: 12px 12px 8px 20px; flex: none; }
	.panel h2 { font-size: 18px; letter-spacing: -0.01em; }
	.panel h2 small { font-weight: 400; font-size: 15px; color: var(--m-ink-2); margin-left: 6px; }
	.log { flex: 1; min-height: 0; overflow-y: auto; padding: 8px 16px; display: flex; flex-direction: column; gap: 3px; overscroll-behavior: contain; }
	.log .empty { margin: auto; text-align: center; color: var(--m-ink-2); font-size: 15px; padding: 20px; max-width: 30ch; }
	.line { max-width: 86%; align-self: flex-start; }
	.line .by { display: flex; gap: 8px; align-items: baseline; font-size: 13px; color: var(--m-ink-2); margin: 10px 4px 3px; }
	.line .by b { font-weight: 600; color: var(--m-ink); }
	.line .text { padding: 8px 13px; border-radius: 5px 16px 16px 16px; background: var(--m-sunk); font-size: 15px; white-space: pre-wrap; }
	.filecard { display: grid; gap: 6px; min-width: 200px; white-space: normal; font-variant-numeric: tabular-nums; }
	.filecard .filename { display: flex; gap: 8px; align-items: flex-start; }
	.filecard .filename .icon { width: 20px; height: 20px; margin-top: 1px; }
	.filecard progress { appearance: none; width: 100%; height: 8px; border: 0; border-radius: 4px; overflow: hidden; background: var(--m-line); }
	.filecard progress::-webkit-progress-bar { background: var(--m-line); }
	.filecard progress::-webkit-progress-value { background: var(--m-accent); }
	.filecard progress::-moz-progress-bar { background: var(--m-accent); }
	.filecard .acts { display: flex; flex-wrap: wrap; gap: 6px; }
	.filecard .acts:empty { display: none; }
	.line.mine { align-self: flex-end; }
	.line.mine .by { justify-content: flex-end; }
	.line.mine .text { background: var(--m-accent-soft); color: var(--m-accent-ink); border-radius: 16px 5px 16px 16px; }
	.line.mine[data-sending="pending"] .text { opacity: 0.8; }
	.line .text a { color: inherit; font-weight: 500; }
	.line .failed { display: flex; gap: 8px; justify-content: flex-end; align-items: center; font-size: 13px; color: var(--m-danger-ink); margin-top: 2px; }
	.line .failed button { border: 0; background: none; padding: 4px 2px; font-weight: 600; text-decoration: underline; text-underline-offset: 0.2em; cursor: pointer; color: inherit; }
	.line.note { align-self: center; max-width: 100%; margin: 10px 0 4px; font-size: 13px; color: var(--m-ink-2); text-align: center; }
	.compose { display: flex; align-items: flex-end; gap: 8px; padding: 12px; flex: none; border-top: 1px solid var(--m-line); }
	.compose textarea { flex: 1; min-width: 0; resize: none; min-height: 46px; max-height: 132px; padding: 10px 14px; border: 1px solid var(--m-line); border-radius: 15px; background: var(--m-paper); line-height: 1.5; field-sizing: content; }
	.compose textarea::placeholder { color: var(--m-ink-2); opacity: 1; }
	.compose .attach { position: relative; color: var(--m-ink-2); background: none; border-color: transparent; }
	.compose .attach input { position: absolute; inset: 0; opacity: 0; font-size: 0; cursor: pointer; }
	.compose .attach:has(input:disabled) { opacity: 0.5; }
	.compose .attach:focus-within { outline: 3px solid var(--m-accent); outline-offset: 2px; }
	.compose .button { min-height: 46px; width: 46px; padding: 0; border-radius: 15px; }
	.scroll { flex: 1; min-height: 0; overflow-y: auto; padding: 4px 10px 14px; }
	.scroll h3 { padding: 14px 10px 6px; font-size: 13px; font-weight: 600; color: var(--m-ink-2); }
	.person { display: flex; align-items: center; gap: 12px; padding: 8px 6px 8px 10px; border-radius: 14px; min-height: 56px; }
	.person .face { display: grid; place-items: center; width: 38px; height: 38px; border-radius: 12px; color: #fff; font-size: 14px; font-weight: 600; flex: none; white-space: nowrap; }
	.person .id { flex: 1; min-width: 0; display: grid; line-height: 1.35; }
	.person .id b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
	.person .id small { color: var(--m-ink-2); font-size: 13px; }
	.person > .icon { width: 20px; height: 20px; color: var(--m-ink-2); }
	.person > .icon.warn { color: var(--m-danger); }
	.person .acts { display: flex; gap: 6px; flex-wrap: wrap; justify-content: flex-end; }
	.acts-row { display: flex; flex-wrap: wrap; gap: 6px; padding: 0 10px 10px 60px; }
	.switch { display: flex; align-items: center; gap: 12px; padding: 10px; border-radius: 14px; cursor: pointer; }
	dialog .switch { margin-inline: -10px; }
	.switch:hover { background: var(--m-sunk); }
	.switch > span { flex: 1; display: grid; line-height: 1.35; }
	.switch small { color: var(--m-ink-2); font-size: 13px; }
	.switch input { appearance: none; position: relative; width: 46px; height: 28px; margin: 0; border-radius: 14px; background: var(--m-ink-2); flex: none; cursor: pointer; transition: background-color 0.15s; }
	.switch input::after { content: ""; position: absolute; left: 3px; top: 3px; width: 22px; height: 22px; border-radius: 50%; background: var(--m-surface); transition: left 0.15s; }
	.switch input:checked { background: var(--m-accent); }
	.switch input:checked::after { left: 21px; }

	/* --- messages over the call --- */
	.banners { position: absolute; left: 0; right: 0; top: 24px; display: grid; justify-items: center; gap: 8px; padding: 0 12px; z-index: 4; pointer-events: none; }
	.banners[data-panel] { right: 360px; }
	.banners > :not(.toasts) { pointer-events: auto; animation: drop 0.25s cubic-bezier(0.2, 0.8, 0.2, 1); }
	@keyframes drop { from { opacity: 0; transform: translateY(-10px); } }
	.banner { display: flex; align-items: center; gap: 12px; max-width: min(560px, 100%); padding: 8px 10px 8px 16px; border-radius: 16px; border: 1px solid var(--m-line); background: var(--m-surface); box-shadow: var(--m-shadow); font-size: 15px; line-height: 1.4; }
	.banner.plain { padding: 10px 18px; }
	.banner .icon, .banner .spinner { flex: none; }
	.banner .icon { width: 20px; height: 20px; color: var(--m-ink-2); }
	.banner .spinner { width: 18px; height: 18px; border-width: 2.5px; color: var(--m-warm); }
	.banner.warn .icon { color: var(--m-danger); }
	.banner .iconbutton { width: 34px; height: 34px; }
	.banner small { display: block; color: var(--m-ink-2); font-size: 14px; }
	.asking { width: min(400px, 100%); padding: 18px; border-radius: 22px; border: 1px solid var(--m-line); background: var(--m-surface); box-shadow: var(--m-shadow); display: grid; gap: 14px; }
	.asking .head { display: flex; align-items: center; gap: 14px; font-weight: 600; font-size: 17px; line-height: 1.35; }
	.asking .face { display: grid; place-items: center; width: 46px; height: 46px; border-radius: 15px; color: #fff; flex: none; white-space: nowrap; }
	.asking .row { display: flex; gap: 8px; flex-wrap: wrap; }
	.asking .row .button { flex: 1; min-height: 44px; padding: 8px 12px; white-space: nowrap; }
	.toasts { display: grid; justify-items: center; gap: 8px; pointer-events: none; max-width: 100%; }
	.root > .toasts { position: absolute; left: 12px; right: 12px; bottom: 24px; z-index: 7; }
	.toast { display: flex; align-items: center; gap: 10px; max-width: min(440px, 100%); padding: 10px 16px; border: 0; border-radius: 14px; background: var(--m-ink); color: var(--m-paper); font-size: 15px; line-height: 1.4; text-align: left; animation: pop 0.2s; box-shadow: var(--m-shadow); }
	.toast span { overflow: hidden; display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; }
	button.toast { pointer-events: auto; cursor: pointer; }
	.toast .icon { width: 20px; height: 20px; }

	/* --- dialogs --- */
	dialog { width: min(440px, calc(100vw - 32px)); max-height: calc(100dvh - 32px); overflow: auto; padding: 24px; border: 0; border-radius: 26px; background: var(--m-surface); color: var(--m-ink); box-shadow: 0 20px 70px rgb(0 0 0 / 35%); }
	dialog[open] { animation: arrive 0.2s cubic-bezier(0.2, 0.8, 0.2, 1); }
	dialog::backdrop { background: rgb(12 16 14 / 52%); }
	dialog > header { display: flex; justify-content: space-between; align-items: center; gap: 12px; margin: -8px -8px 8px 0; }
	dialog h2 { font-size: 21px; letter-spacing: -0.02em; }
	dialog p { color: var(--m-ink-2); }
	dialog .stack { display: grid; grid-template-columns: minmax(0, 1fr); gap: 14px; }
	dialog .qr { width: min(220px, 60vw); height: auto; aspect-ratio: 1; margin: 0 auto; border: 1px solid var(--m-line); }
	dialog .row { display: flex; gap: 10px; justify-content: flex-end; flex-wrap: wrap; }
	.keys { display: grid; grid-template-columns: 1fr auto; gap: 8px 20px; align-items: center; margin: 12px 0 16px; }
	.keys dd { text-align: right; }

	/* --- sizes --- */
	@container call (max-width: 760px) {
		.prejoin { grid-template-columns: minmax(0, 1fr); max-width: 480px; gap: 22px; }
		.prejoin .brand { margin-bottom: -8px; }
		.prejoin h1 { font-size: 26px; }
		.prejoin .lead { margin: 4px 0 16px; font-size: 15px; }
		.preview { aspect-ratio: 4 / 3.4; border-radius: 24px; }
		.top { padding: 8px 8px 0 14px; min-height: 48px; gap: 4px; }
		.top .brand span, .top .chip.count, .bar .wide { display: none; }
		.body { padding: 6px 8px 8px; }
		.panel { position: absolute; inset: 0 8px 8px; width: auto; }
		.banners, .banners[data-panel] { right: 0; z-index: 6; }
		.bar { justify-content: space-evenly; gap: 4px; padding: 2px 8px 12px; padding-bottom: max(12px, env(safe-area-inset-bottom)); }
		.bar .gap { display: none; }
		.bar .group { position: static; }
		.pop, .pop.end { left: 8px; right: 8px; width: auto; max-width: none; }
		.tool .tip { display: none; }
		.alone { padding: 20px; }
	}
	@container call (max-width: 420px) {
		.group .tool.arrow { min-width: 26px; }
		.tool { min-width: 48px; }
		.tool.leave { min-width: 56px; }
	}
	@container call (min-width: 421px) and (max-height: 480px) {
		.prejoin { grid-template-columns: minmax(0, 1fr) minmax(260px, 1fr); gap: 24px; max-width: 900px; }
		.prejoin .brand, .prejoin .fine.secret { display: none; }
		.prejoin h1 { font-size: 22px; }
		.prejoin .lead { margin: 2px 0 10px; font-size: 14px; }
		.prejoin form { gap: 10px; }
		.prejoin .join { min-height: 48px; }
		.preview { aspect-ratio: auto; height: min(300px, 84cqh); }
		.center { padding-top: 12px; padding-bottom: 12px; }
		.emblem { width: 60px; height: 60px; border-radius: 20px; }
		.card { gap: 8px; }
		.card h1 { font-size: 22px; }
	}
	/* A phone on its side: height is dear, so the bar stands at the right. */
	@container call (min-width: 560px) and (max-height: 480px) {
		.root[data-phase="call"] { display: grid; grid-template-columns: minmax(0, 1fr) auto; grid-template-rows: minmax(0, 1fr); }
		.top { display: none; }
		.body { padding: 8px 4px 8px 8px; padding-left: max(8px, env(safe-area-inset-left)); }
		.bar { flex-direction: column; justify-content: space-evenly; gap: 4px; padding: 8px; padding-right: max(8px, env(safe-area-inset-right)); }
		.bar .group { position: static; }
		.bar .wide, .bar .gap, .tool.arrow, .tool .tip { display: none; }
		.group .tool:first-child:not(:last-child) { border-radius: 15px; }
		.tool, .tool.leave { min-width: 48px; width: 48px; height: 46px; border-radius: 15px; }
		.pop, .pop.end { left: auto; right: calc(100% + 4px); bottom: 8px; width: 300px; max-height: calc(100cqh - 16px); }
		.panel { position: relative; inset: auto; width: min(320px, 46cqw); }
		.banners[data-panel] { right: min(332px, 48cqw); }
		.alone { display: flex; flex-wrap: wrap; justify-content: center; align-items: center; width: min(520px, calc(100% - 24px)); padding: 16px; }
		.alone h2 { width: 100%; }
		.alone .qr { width: 104px; height: 104px; }
		.alone .row { flex: 1; min-width: 180px; }
	}
	@media (forced-colors: active) {
		.tool, .tile .frame, .pop, .panel, .banner { border: 1px solid CanvasText; }
		.tile[data-speaking] .ringline { outline: 3px solid Highlight; outline-offset: -3px; }
	}
`;
