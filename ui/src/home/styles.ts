import { css } from "lit";

export const styles = css`
	:host { display: block; background: var(--m-paper); min-height: 100vh; min-height: 100dvh; }
	.page { max-width: 1160px; margin: 0 auto; padding: 0 32px; display: flex; flex-direction: column; min-height: 100vh; min-height: 100dvh; }
	header { display: flex; justify-content: space-between; align-items: center; gap: 12px; padding: 22px 0; white-space: nowrap; }
	header nav { display: flex; gap: 26px; }
	header a { color: var(--m-ink-2); font-weight: 600; text-decoration: none; padding: 10px 0; }
	header a:hover { color: var(--m-ink); text-decoration: underline; }
	.brand { display: inline-flex; align-items: center; gap: 12px; font-weight: 700; font-size: 20px; letter-spacing: -0.02em; }
	main { flex: 1; }
	.hero { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.02fr); gap: 56px; align-items: center; padding: 28px 0 64px; }
	h1 { font-size: clamp(38px, 4.7vw, 60px); line-height: 1.1; letter-spacing: -0.035em; font-weight: 750; text-wrap: balance; }
	:lang(ko) h1 { line-height: 1.2; letter-spacing: -0.04em; font-size: clamp(36px, 4.2vw, 54px); }
	.lead { margin: 18px 0 30px; font-size: 19px; line-height: 1.55; color: var(--m-ink-2); max-width: 44ch; text-wrap: pretty; }
	.start { min-height: 64px; padding: 14px 30px; font-size: 20px; border-radius: 20px; box-shadow: 0 10px 26px color-mix(in oklab, var(--m-accent) 26%, transparent); }
	.hint { margin: 12px 2px 30px; color: var(--m-ink-2); font-size: 15px; }
	.join { max-width: 430px; }
	.join .row { display: flex; gap: 8px; }
	.join .button { width: 56px; padding: 0; flex: none; }
	.error { margin-top: 8px; font-size: 15px; color: var(--m-danger-ink); }
	.field[aria-invalid="true"] { border-color: var(--m-danger); }
	.picture svg { display: block; width: 100%; height: auto; }
	.points { display: grid; grid-template-columns: repeat(3, 1fr); gap: 40px; padding: 40px 0 56px; border-top: 1px solid var(--m-line); }
	h2 { font-size: 20px; letter-spacing: -0.02em; margin-bottom: 8px; }
	.points p, .embed p { color: var(--m-ink-2); text-wrap: pretty; }
	.embed { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.7fr); gap: 32px; align-items: center; padding: 32px; border-radius: 28px; background: var(--m-surface); border: 1px solid var(--m-line); }
	.code { position: relative; min-width: 0; }
	pre { margin: 0; padding: 20px 20px 62px; border-radius: 18px; background: var(--m-sunk); overflow-x: auto; font: 14px/1.7 ui-monospace, "SF Mono", Menlo, Consolas, monospace; word-break: normal; overflow-wrap: normal; }
	.code .button { position: absolute; right: 12px; bottom: 12px; }
	footer { display: flex; flex-wrap: wrap; gap: 8px 28px; justify-content: space-between; align-items: center; padding: 36px 0 40px; font-size: 15px; color: var(--m-ink-2); }
	footer nav { display: flex; flex-wrap: wrap; gap: 6px 22px; }
	footer a { color: inherit; padding: 6px 0; }
	.dev { flex-basis: 100%; font-size: 14px; }

	.d-sky { fill: var(--m-accent-soft); }
	.d-sun { fill: var(--m-warm); opacity: 0.9; }
	.d-roof { fill: color-mix(in oklab, var(--m-ink) 88%, var(--m-accent)); }
	.d-tiles { fill: none; stroke: var(--m-paper); stroke-opacity: 0.28; stroke-width: 2; stroke-linecap: round; }
	.d-wood { fill: #6d4a30; }
	.d-wood2 { fill: #8b6241; }
	.d-paper { fill: #fdf6e4; }
	.d-lat { fill: none; stroke: #8b6241; stroke-width: 2; }
	.d-stone { fill: var(--m-sunk); stroke: var(--m-line); stroke-width: 1.5; }
	.d-yard { fill: color-mix(in oklab, var(--m-sunk) 70%, var(--m-paper)); }
	.d-bubble { fill: var(--m-surface); }
	.d-dot { fill: var(--m-accent); }
	.d-lit { fill: #ffd9a0; animation: lit 7s ease-in-out infinite; }
	.d-lit.b { animation-delay: -2.2s; } .d-lit.c { animation-delay: -4.1s; } .d-lit.d { animation-delay: -5.6s; }
	@keyframes lit { 0%, 100% { opacity: 0.55; } 40%, 60% { opacity: 1; } }
	.d-branch { fill: none; stroke: #5d4633; stroke-width: 4; stroke-linecap: round; }
	.d-fruit { fill: var(--m-warm); }
	.d-leaf { fill: var(--m-accent); }
	@media (prefers-color-scheme: dark) {
		.d-roof { fill: #35423c; }
		.d-paper { fill: #e8d9b8; }
		.d-sun { fill: #f2e6c9; }
		.d-wood { fill: #4e3623; } .d-wood2 { fill: #6e4e35; } .d-lat { stroke: #6e4e35; }
		.d-branch { stroke: #84684f; }
	}

	@media (max-width: 900px) {
		.page { padding: 0 20px; }
		header { padding: 14px 0; }
		header nav { gap: 18px; }
		.hero { grid-template-columns: minmax(0, 1fr); gap: 28px; padding: 12px 0 44px; }
		.picture { order: -1; max-width: 520px; width: 100%; margin: 0 auto; }
		.lead { margin: 12px 0 22px; font-size: 17px; }
		.start { width: 100%; }
		.hint { margin-bottom: 24px; text-align: center; }
		.join { max-width: none; }
		.points { grid-template-columns: minmax(0, 1fr); gap: 26px; padding: 34px 0 40px; }
		.embed { grid-template-columns: minmax(0, 1fr); padding: 22px; gap: 18px; }
	}
	@media (max-width: 560px) {
		.picture { margin: 0 -4px; width: calc(100% + 8px); max-width: none; }
		h1 { font-size: 36px; }
		:lang(ko) h1 { font-size: 33px; }
	}
`;
