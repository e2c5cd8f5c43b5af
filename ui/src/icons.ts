import { html, type SVGTemplateResult, svg, type TemplateResult } from "lit";

/**
 * Our own icons: 24 units square, drawn with one rounded line of 1.7 units. Decorative always: the control around an icon has the name.
 */
const shapes = {
	mic: svg`<rect x="9" y="3" width="6" height="11" rx="3"/><path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3"/>`,
	micOff: svg`<path d="M9 9.5V11a3 3 0 0 0 4.6 2.5M15 10.5V6a3 3 0 0 0-5.7-1.3M5.5 11.5a6.5 6.5 0 0 0 10.3 5.3M18.5 11.5c0 .9-.2 1.8-.5 2.6M12 18v3M4 4l16 16"/>`,
	camera: svg`<rect x="3" y="6.5" width="12.5" height="11" rx="2.6"/><path d="m15.5 10.6 4-2.4a1 1 0 0 1 1.5.9v5.8a1 1 0 0 1-1.5.9l-4-2.4"/>`,
	cameraOff: svg`<path d="M6 6.5h-.4A2.6 2.6 0 0 0 3 9.1v5.8a2.6 2.6 0 0 0 2.6 2.6h7.3c.9 0 1.7-.5 2.2-1.2M10 6.5h2.9a2.6 2.6 0 0 1 2.6 2.6v2.4l4-3.3a1 1 0 0 1 1.5.9v5.8c0 .4-.2.7-.5.9M4 4l16 16"/>`,
	screen: svg`<rect x="3" y="4.5" width="18" height="12" rx="2.4"/><path d="M8.5 20h7M12 13.5v-5m-2.3 2.1L12 8.3l2.3 2.3"/>`,
	screenStop: svg`<rect x="3" y="4.5" width="18" height="12" rx="2.4"/><path d="M8.5 20h7m-5.3-7.7 3.6-3.6m0 3.6-3.6-3.6"/>`,
	chat: svg`<path d="M20.5 11.3c0 3.9-3.8 7-8.5 7-.9 0-1.8-.1-2.6-.3L5 20.3l.9-3.7a6.5 6.5 0 0 1-2.4-5.3c0-3.9 3.8-7 8.5-7s8.5 3.1 8.5 7Z"/><path d="M8.5 11.4h.01M12 11.4h.01M15.5 11.4h.01" class="dots"/>`,
	people: svg`<circle cx="9" cy="8.5" r="3.3"/><path d="M3 19c.4-3.3 2.8-5.2 6-5.2s5.6 1.9 6 5.2M15.5 5.5a3.3 3.3 0 0 1 0 6M17.5 14.2c2 .7 3.3 2.3 3.5 4.8"/>`,
	more: svg`<path d="M5.5 12h.01M12 12h.01M18.5 12h.01" class="dots"/>`,
	leave: svg`<path d="M3.4 13.2c-.5 1.5.2 3 1.3 3.2l2.3.4c.8.1 1.4-.5 1.5-1.2l.3-1.7a9.4 9.4 0 0 1 6.4 0l.3 1.7c.1.7.7 1.3 1.5 1.2l2.3-.4c1.1-.2 1.8-1.7 1.3-3.2-1.1-2.9-4.5-4.7-8.6-4.7s-7.5 1.8-8.6 4.7Z"/>`,
	up: svg`<path d="m7 14.5 5-5 5 5"/>`,
	close: svg`<path d="m6 6 12 12M18 6 6 18"/>`,
	copy: svg`<rect x="8.5" y="8.5" width="11.5" height="11.5" rx="2.5"/><path d="M5.5 15.5A1.5 1.5 0 0 1 4 14V6.5A2.5 2.5 0 0 1 6.5 4H14a1.5 1.5 0 0 1 1.5 1.5"/>`,
	check: svg`<path d="m5 12.5 4.5 4.5L19 7.5"/>`,
	link: svg`<path d="M10 13.8a4 4 0 0 0 5.9.2l2.7-2.7a4 4 0 0 0-5.7-5.7l-1.3 1.3M14 10.2a4 4 0 0 0-5.9-.2l-2.7 2.7a4 4 0 0 0 5.7 5.7l1.3-1.3"/>`,
	share: svg`<path d="M12 14.5V3.5M8 7l4-3.8L16 7M7 11H6a2 2 0 0 0-2 2v5.5a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2V13a2 2 0 0 0-2-2h-1"/>`,
	invite: svg`<circle cx="10" cy="8.5" r="3.5"/><path d="M3.5 19.5c.4-3.5 3-5.5 6.5-5.5 1.3 0 2.5.3 3.5.8M18 13.5v6M15 16.5h6"/>`,
	send: svg`<path d="m4.7 11.2 14-6.6a.6.6 0 0 1 .8.8l-6.6 14a.6.6 0 0 1-1.1-.1l-1.9-5.3-5.2-1.7a.6.6 0 0 1 0-1.1Zm5.3 2.9 4-4"/>`,
	grid: svg`<rect x="4" y="4" width="7" height="7" rx="1.6"/><rect x="13" y="4" width="7" height="7" rx="1.6"/><rect x="4" y="13" width="7" height="7" rx="1.6"/><rect x="13" y="13" width="7" height="7" rx="1.6"/>`,
	spotlight: svg`<rect x="3.5" y="5" width="12" height="14" rx="2.2"/><rect x="17.8" y="5" width="3" height="4" rx="1"/><rect x="17.8" y="11" width="3" height="4" rx="1"/>`,
	auto: svg`<rect x="3.5" y="5" width="17" height="14" rx="2.4"/><rect x="13" y="12.5" width="5" height="4" rx="1"/>`,
	fullscreen: svg`<path d="M4 9V6a2 2 0 0 1 2-2h3M15 4h3a2 2 0 0 1 2 2v3M20 15v3a2 2 0 0 1-2 2h-3M9 20H6a2 2 0 0 1-2-2v-3"/>`,
	pip: svg`<path d="M20.5 10V7a2 2 0 0 0-2-2h-13a2 2 0 0 0-2 2v10a2 2 0 0 0 2 2H10"/><rect x="12.5" y="13" width="8" height="6" rx="1.5"/>`,
	record: svg`<circle cx="12" cy="12" r="8.3"/><circle cx="12" cy="12" r="3.5" class="solid"/>`,
	stop: svg`<rect x="6.5" y="6.5" width="11" height="11" rx="2"/>`,
	snapshot: svg`<path d="M4 9.5A2.5 2.5 0 0 1 6.5 7h1.2l1.5-2.3h5.6L16.3 7h1.2A2.5 2.5 0 0 1 20 9.5v7a2.5 2.5 0 0 1-2.5 2.5h-11A2.5 2.5 0 0 1 4 16.5Z"/><circle cx="12" cy="12.8" r="3.3"/>`,
	keyboard: svg`<rect x="2.8" y="6" width="18.4" height="12" rx="2.4"/><path d="M6.5 10h.01M10 10h.01M14 10h.01M17.5 10h.01" class="dots"/><path d="M8 14.3h8"/>`,
	speaker: svg`<path d="M4 9.7v4.6a.7.7 0 0 0 .7.7h2.8l4 3.6a.6.6 0 0 0 1-.5V5.9a.6.6 0 0 0-1-.5l-4 3.6H4.7a.7.7 0 0 0-.7.7Z"/><path d="M15.5 9.3a4 4 0 0 1 0 5.4M18 6.8a7.5 7.5 0 0 1 0 10.4"/>`,
	pin: svg`<path d="M9 4h6l-.7 5.2 3.2 3v1.6h-11v-1.6l3.2-3ZM12 13.8V20"/>`,
	unpin: svg`<path d="M9 4h6l-.7 5.2 3.2 3v1.6h-11v-1.6l3.2-3ZM12 13.8V20M4 4l16 16"/>`,
	lock: svg`<rect x="5" y="10.5" width="14" height="9.5" rx="2.4"/><path d="M8 10.5V8a4 4 0 0 1 8 0v2.5"/>`,
	warning: svg`<path d="M10.5 4.8a1.7 1.7 0 0 1 3 0l6.8 12a1.7 1.7 0 0 1-1.5 2.5H5.2a1.7 1.7 0 0 1-1.5-2.5ZM12 9.5v4M12 16.4h.01"/>`,
	phone: svg`<path d="M6.5 3.8h2l1.6 4-2 1.6a11 11 0 0 0 5.5 5.5l1.6-2 4 1.6v2a2.5 2.5 0 0 1-2.8 2.5A15.5 15.5 0 0 1 4 6.6a2.5 2.5 0 0 1 2.5-2.8Z"/>`,
	arrow: svg`<path d="M5 12h14M13 6l6 6-6 6"/>`,
	settings: svg`<path d="M4 7h9M17.5 7H20M4 17h2.5M11 17h9"/><circle cx="15.2" cy="7" r="2.3"/><circle cx="8.7" cy="17" r="2.3"/>`,
	file: svg`<path d="M13.5 3.5H7.6A2.6 2.6 0 0 0 5 6.1v11.8a2.6 2.6 0 0 0 2.6 2.6h8.8a2.6 2.6 0 0 0 2.6-2.6V9Z"/><path d="M13.5 3.5V7A2 2 0 0 0 15.5 9H19"/>`,
	folder: svg`<path d="M3.5 7.3A2.3 2.3 0 0 1 5.8 5h3.3l2.2 2.4h6.9a2.3 2.3 0 0 1 2.3 2.3v7A2.3 2.3 0 0 1 18.2 19H5.8a2.3 2.3 0 0 1-2.3-2.3Z"/>`,
	attach: svg`<path d="m19.5 11.5-7.7 7.3a4.6 4.6 0 0 1-6.5-6.5l8.1-7.8a3.1 3.1 0 0 1 4.4 4.4l-7.9 7.6a1.6 1.6 0 0 1-2.2-2.2l7-6.8"/>`,
	pause: svg`<path d="M9 6v12M15 6v12"/>`,
	wait: svg`<circle cx="12" cy="12" r="8.3"/><path d="M12 7.5V12l3 2"/>`,
} as const satisfies Record<string, SVGTemplateResult>;

export type IconName = keyof typeof shapes;

export const icon = (name: IconName): TemplateResult =>
	html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${shapes[name]}</svg>`;

/** Three bars, as many filled as the grade has. */
export const signalIcon = (filled: 0 | 1 | 2 | 3): TemplateResult =>
	html`<svg class="signal" viewBox="0 0 16 16" aria-hidden="true" focusable="false" data-filled=${filled}>
		<rect x="1.5" y="9.5" width="3.4" height="5" rx="1"/><rect x="6.3" y="6" width="3.4" height="8.5" rx="1"/><rect x="11.1" y="2" width="3.4" height="12.5" rx="1"/>
	</svg>`;

/**
 * The mark: a house seen from above, closed on all sides but for a gate, and two people in its yard. It is also the letter ㅁ, with which
 * 마당 begins.
 */
export const mark = (): TemplateResult =>
	html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
		<path class="house" d="M20.5 27.5H9a4.5 4.5 0 0 1-4.5-4.5V9A4.5 4.5 0 0 1 9 4.5h14A4.5 4.5 0 0 1 27.5 9v14.5"/>
		<circle class="one" cx="12" cy="16" r="4"/><circle class="two" cx="20.2" cy="16" r="4"/>
	</svg>`;
