import { css, unsafeCSS } from "lit";
import { dark, light } from "./tokens.js";

const kebab = (name: string) => name.replace(/[A-Z0-9]/g, (c) => `-${c.toLowerCase()}`);

/** `--m-*` for our own use; the public ones (`--madang-accent` and so on) win where a page sets them. */
const publicNames: Partial<Record<keyof typeof light, string>> = {
	paper: "background",
	surface: "surface",
	ink: "text",
	accent: "accent",
	onAccent: "on-accent",
	danger: "danger",
};

const declare = (palette: Record<keyof typeof light, string>) =>
	unsafeCSS(
		(Object.entries(palette) as [keyof typeof light, string][])
			.map(([name, value]) => {
				const open = publicNames[name];
				return `--m-${kebab(name)}:${open ? `var(--madang-${open},${value})` : value};`;
			})
			.join(""),
	);

export const theme = css`
	:host {
		${declare(light)}
		--m-shadow: 0 1px 2px rgb(40 34 20 / 8%), 0 10px 30px rgb(40 34 20 / 10%);
		--m-radius: var(--madang-radius, 20px);
		--m-font: var(--madang-font, system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans CJK KR", "Malgun Gothic", sans-serif);
		color-scheme: light;
		color: var(--m-ink);
		font: 400 16px/1.5 var(--m-font);
		word-break: keep-all;
		overflow-wrap: anywhere;
		-webkit-tap-highlight-color: transparent;
	}
	:host([theme="dark"]) {
		${declare(dark)}
		--m-shadow: 0 1px 2px rgb(0 0 0 / 40%), 0 12px 32px rgb(0 0 0 / 45%);
		color-scheme: dark;
	}
	@media (prefers-color-scheme: dark) {
		:host(:not([theme="light"])) {
			${declare(dark)}
			--m-shadow: 0 1px 2px rgb(0 0 0 / 40%), 0 12px 32px rgb(0 0 0 / 45%);
			color-scheme: dark;
		}
	}
	*, *::before, *::after { box-sizing: border-box; }
	[hidden] { display: none !important; }
	h1, h2, h3, p, ul, ol, dl, dd, figure { margin: 0; padding: 0; }
	h1, h2 { text-wrap: balance; }
	p { text-wrap: pretty; }
	ul, ol { list-style: none; }
	button, input, select, textarea { font: inherit; color: inherit; }
	a { color: var(--m-accent); text-underline-offset: 0.2em; }
	:focus { outline: none; }
	:focus-visible { outline: 3px solid var(--m-accent); outline-offset: 2px; }
	.sr {
		position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden;
		clip-path: inset(50%); white-space: nowrap; border: 0; padding: 0;
	}
	.icon { width: 24px; height: 24px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round; stroke-linejoin: round; }
	.icon .dots { stroke-width: 2.6; }
	.icon .solid { fill: currentColor; stroke: none; }
	.mark { width: 32px; height: 32px; flex: none; }
	.mark .house { fill: none; stroke: var(--m-accent); stroke-width: 3.6; stroke-linecap: round; }
	.mark .one { fill: var(--m-accent); }
	.mark .two { fill: var(--m-warm); }

	.button {
		display: inline-flex; align-items: center; justify-content: center; gap: 10px;
		min-height: 48px; padding: 10px 20px; border: 1px solid var(--m-line); border-radius: 14px;
		background: var(--m-surface); color: var(--m-ink); font-weight: 600; text-decoration: none; cursor: pointer;
		transition: background-color 0.15s, border-color 0.15s, transform 0.15s;
	}
	.button:hover { background: var(--m-sunk); }
	.button:active { transform: scale(0.98); }
	.button.primary { background: var(--m-accent); border-color: transparent; color: var(--m-on-accent); }
	.button.primary:hover { background: color-mix(in oklab, var(--m-accent) 88%, var(--m-ink)); }
	.button.danger { background: var(--m-danger); border-color: transparent; color: var(--m-on-danger); }
	.button.danger:hover { background: color-mix(in oklab, var(--m-danger) 88%, var(--m-ink)); }
	.button.quiet { background: none; border-color: transparent; color: var(--m-accent); }
	.button.quiet:hover { background: var(--m-accent-soft); color: var(--m-accent-ink); }
	.button.small { min-height: 36px; padding: 4px 12px; border-radius: 11px; font-size: 14px; }
	.button.small .icon { width: 18px; height: 18px; }
	.button:disabled { opacity: 0.55; cursor: default; }
	.field {
		width: 100%; min-height: 48px; padding: 10px 16px; border: 1px solid var(--m-line); border-radius: 14px;
		background: var(--m-surface); color: var(--m-ink);
	}
	.field::placeholder { color: var(--m-ink-2); opacity: 1; }
	.field:focus-visible { outline-offset: 0; border-color: transparent; }
	.label { display: block; margin-bottom: 6px; font-size: 14px; font-weight: 600; color: var(--m-ink-2); }

	@media (prefers-reduced-motion: reduce) {
		*, *::before, *::after { animation: none !important; transition: none !important; scroll-behavior: auto !important; }
	}
	@media (forced-colors: active) {
		.button, .field { border: 1px solid ButtonText; }
	}
`;
