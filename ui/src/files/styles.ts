import { css } from "lit";

export const styles = css`
	:host { display: block; background: var(--m-paper); min-height: 100vh; min-height: 100dvh; }
	.page { max-width: 760px; margin: 0 auto; padding: 0 24px max(32px, env(safe-area-inset-bottom)); display: flex; flex-direction: column; min-height: 100vh; min-height: 100dvh; }
	header { padding: 22px 0; }
	.brand { display: inline-flex; align-items: center; gap: 12px; font-weight: 700; font-size: 20px; letter-spacing: -0.02em; text-decoration: none; color: var(--m-ink); }
	main { flex: 1; padding-top: 20px; }
	main.opening, main.preparing, main.failed, main.done { display: grid; align-content: center; justify-items: center; text-align: center; padding-bottom: 16vh; }
	h1 { font-size: clamp(28px, 4.4vw, 40px); line-height: 1.2; letter-spacing: -0.03em; font-weight: 750; text-wrap: balance; }
	.lead { margin: 10px 0 24px; font-size: 17px; color: var(--m-ink-2); max-width: 52ch; text-wrap: pretty; font-variant-numeric: tabular-nums; }
	.actions { display: flex; flex-wrap: wrap; gap: 10px; }
	main.failed .actions, main.done .actions, main.opening .actions { justify-content: center; }
	.row { display: flex; gap: 8px; }
	.row .button { flex: none; }
	.error { margin-top: 8px; font-size: 15px; color: var(--m-danger-ink); }
	.field[aria-invalid="true"] { border-color: var(--m-danger); }
	label.button { position: relative; }
	label.button input { position: absolute; inset: 0; opacity: 0; cursor: pointer; font-size: 0; }
	label.button:focus-within { outline: 3px solid var(--m-accent); outline-offset: 2px; }

	.drop { display: grid; justify-items: center; gap: 14px; padding: 48px 20px; border: 2px dashed var(--m-line); border-radius: 28px; background: var(--m-surface); text-align: center; color: var(--m-ink-2); }
	.drop > .icon { width: 44px; height: 44px; color: var(--m-accent); }
	.drop .actions { justify-content: center; }
	@media (hover: none) and (pointer: coarse) { .drop > p { display: none; } /* a finger drags nothing here */ }
	.drop .button { color: var(--m-ink); }
	.drop .button.primary { color: var(--m-on-accent); }
	.for { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 18px; margin: 18px 2px 34px; padding: 0; border: 0; color: var(--m-ink-2); }
	.for legend { float: left; padding: 0; margin-right: 18px; font-weight: 600; font-size: 15px; }
	.for label { display: inline-flex; align-items: center; gap: 8px; min-height: 36px; cursor: pointer; color: var(--m-ink); }
	.for input, .files input { width: 20px; height: 20px; margin: 0; accent-color: var(--m-accent); flex: none; }
	.have { max-width: 460px; padding-top: 26px; border-top: 1px solid var(--m-line); }

	.emblem { position: relative; width: 88px; height: 88px; display: grid; place-items: center; border-radius: 28px; background: var(--m-accent-soft); color: var(--m-accent-ink); margin-bottom: 20px; }
	.emblem .icon { width: 38px; height: 38px; }
	.emblem.bad { background: var(--m-danger-soft); color: var(--m-danger-ink); }
	.emblem.waves::before, .emblem.waves::after { content: ""; position: absolute; inset: 0; border-radius: inherit; border: 2px solid var(--m-accent); animation: wave 2.4s cubic-bezier(0.2, 0.6, 0.4, 1) infinite; }
	.emblem.waves::after { animation-delay: 1.2s; }
	@keyframes wave { from { opacity: 0.6; transform: scale(1); } to { opacity: 0; transform: scale(1.6); } }

	.invite { display: grid; grid-template-columns: 190px minmax(0, 1fr); gap: 26px; align-items: center; padding: 24px; margin-bottom: 24px; border-radius: 28px; background: var(--m-surface); border: 1px solid var(--m-line); }
	.qrbox { padding: 8px; border-radius: 16px; background: #fff; }
	.qr { display: block; width: 100%; height: auto; }
	.qr path { fill: #14201b; }
	.ways .actions { margin-top: 10px; }
	.codelabel { margin: 18px 0 2px; }
	.code { font: 600 24px/1.3 ui-monospace, "SF Mono", Menlo, Consolas, monospace; letter-spacing: -0.01em; word-break: normal; }

	.keep { padding: 16px 20px; margin-bottom: 24px; border-radius: 20px; background: var(--m-surface); border: 1px solid var(--m-line); }
	.keep label { display: flex; gap: 12px; align-items: center; cursor: pointer; }
	.keep input { width: 20px; height: 20px; flex: none; accent-color: var(--m-accent); }
	.keep progress { margin-top: 8px; }
	.receiver { padding: 16px 0 12px; }
	.who { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 16px; margin-bottom: 8px; font-variant-numeric: tabular-nums; }
	.who span { color: var(--m-ink-2); }
	progress { appearance: none; display: block; width: 100%; height: 12px; border: 0; border-radius: 6px; overflow: hidden; background: var(--m-sunk); }
	progress::-webkit-progress-bar { background: var(--m-sunk); }
	progress::-webkit-progress-value { background: var(--m-accent); border-radius: 6px; }
	progress::-moz-progress-bar { background: var(--m-accent); border-radius: 6px; }
	.facts { margin: 10px 0 0; min-height: 24px; color: var(--m-ink-2); font-size: 15px; font-variant-numeric: tabular-nums; }
	.warning { display: flex; gap: 12px; align-items: flex-start; margin: 16px 0; padding: 14px 16px; border-radius: 16px; background: var(--m-danger-soft); color: var(--m-danger-ink); font-size: 15px; text-align: left; }
	.files { margin: 20px 0 24px; border-radius: 20px; background: var(--m-surface); border: 1px solid var(--m-line); max-height: 46vh; overflow: auto; }
	.files li + li { border-top: 1px solid var(--m-line); }
	.files li, .files label { display: flex; align-items: center; gap: 12px; }
	.files label { flex: 1; min-width: 0; padding: 12px 16px; cursor: pointer; }
	.files li > .icon { margin-left: 16px; width: 22px; height: 22px; color: var(--m-accent); }
	.files li > .name { padding: 12px 0; }
	.files li > .size { padding-right: 16px; }
	.name { flex: 1; min-width: 0; word-break: break-word; }
	.size { color: var(--m-ink-2); font-size: 15px; white-space: nowrap; font-variant-numeric: tabular-nums; }

	@media (hover: none) { .folder { display: none; } }
	@media (max-width: 600px) {
		.page { padding: 0 18px max(24px, env(safe-area-inset-bottom)); }
		header { padding: 14px 0; }
		main { padding-top: 8px; }
		.drop { padding: 34px 16px; }
		.invite { grid-template-columns: minmax(0, 1fr); justify-items: center; gap: 18px; padding: 20px; }
		.qrbox { width: 170px; }
		.ways { width: 100%; }
		main.offer .actions .button, main.receiving .actions .button, main.sending .actions .button { flex: 1 1 auto; }
	}
`;
