import { html, type SVGTemplateResult, svg, type TemplateResult } from "lit";

const leafWidth = 96;
const leafTop = 168;

/** One leaf of the door: above a lit pane with somebody in it, below the lattice. */
function leaf(x: number, light: string, color: string, hair: string): SVGTemplateResult {
	const inner = leafWidth - 16;
	const cx = x + leafWidth / 2;
	const lines: SVGTemplateResult[] = [];
	for (let i = 1; i < 4; i++)
		lines.push(svg`<path class="d-lat" d="M${x + 8 + (inner / 4) * i} ${leafTop + 116}v96"/>`);
	for (let i = 1; i < 5; i++)
		lines.push(svg`<path class="d-lat" d="M${x + 8} ${leafTop + 116 + (96 / 5) * i}h${inner}"/>`);
	return svg`
		<rect class="d-wood2" x=${x} y=${leafTop} width=${leafWidth} height="222" rx="4"/>
		<rect class="d-paper" x=${x + 8} y=${leafTop + 8} width=${inner} height="100" rx="3"/>
		<rect class="d-lit ${light}" x=${x + 8} y=${leafTop + 8} width=${inner} height="100" rx="3"/>
		<path d="M${cx - 30} ${leafTop + 108}c0-25 12-36 30-36s30 11 30 36z" fill=${color}/>
		<circle cx=${cx} cy=${leafTop + 50} r="19" fill="#f0c7a0"/>
		<path d="M${cx - 20} ${leafTop + 50}a20 20 0 0 1 40 0c-6-9-14-12-22-11-8 1-13 5-18 11z" fill=${hair}/>
		<rect class="d-paper" x=${x + 8} y=${leafTop + 116} width=${inner} height="96" rx="3"/>
		${lines}
	`;
}

/** A house at the edge of its yard. Its door is a call: four panes, four people. */
export function door(): TemplateResult {
	const eaves: SVGTemplateResult[] = [];
	for (let i = 0; i <= 20; i++) {
		const x = 62 + i * 21.8;
		const t = (x - 280) / 260;
		const y = 128 - 24 * t * t;
		const topX = 280 + (x - 280) * 0.74;
		const topY = 66 - 16 * t * t;
		eaves.push(svg`<path class="d-tiles" d="M${topX.toFixed(1)} ${topY.toFixed(1)}L${x.toFixed(1)} ${y.toFixed(1)}"/>`);
	}
	return html`
		<svg viewBox="0 0 560 470" aria-hidden="true" focusable="false">
			<rect class="d-sky" width="560" height="470" rx="36"/>
			<circle class="d-sun" cx="497" cy="52" r="27"/>
			<path class="d-yard" d="M0 418h560v16a36 36 0 0 1-36 36H36a36 36 0 0 1-36-36z"/>
			<rect class="d-wood" x="62" y="146" width="436" height="18"/>
			<rect class="d-wood" x="66" y="146" width="16" height="258"/>
			<rect class="d-wood" x="478" y="146" width="16" height="258"/>
			<path class="d-roof" d="M14 96C110 138 450 138 546 96c2 10-2 18-10 22C440 156 120 156 24 118c-8-4-12-12-10-22Z"/>
			<path class="d-roof" d="M14 98C60 92 88 72 104 44c110 24 242 24 352 0 16 28 44 48 90 54C450 138 110 138 14 98Z"/>
			<path class="d-roof" d="M96 38c4-8 12-10 20-8 106 20 222 20 328 0 8-2 16 0 20 8 2 6-2 10-8 12-112 24-240 24-352 0-6-2-10-6-8-12Z"/>
			${eaves}
			${leaf(88, "", "#2f6f5e", "#2a211c")}${leaf(184, "b", "#b5532f", "#4a352a")}${leaf(280, "c", "#3d5f8a", "#211d1b")}${leaf(376, "d", "#8a6a1f", "#6d6a66")}
			<path class="d-lat" d="M184 168v222M280 168v222M376 168v222"/>
			<rect class="d-wood" x="56" y="388" width="448" height="16" rx="3"/>
			<rect class="d-stone" x="176" y="404" width="208" height="16" rx="6"/>
			<rect class="d-stone" x="204" y="420" width="152" height="14" rx="6"/>
			<g>
				<path class="d-bubble" d="M318 118h74a16 16 0 0 1 16 16v14a16 16 0 0 1-16 16h-44l-20 14 4-14h-14a16 16 0 0 1-16-16v-14a16 16 0 0 1 16-16Z"/>
				<circle class="d-dot" cx="334" cy="141" r="5"/><circle class="d-dot" cx="355" cy="141" r="5"/><circle class="d-dot" cx="376" cy="141" r="5"/>
			</g>
			<path class="d-branch" d="M560 214c-22 4-40 14-54 32M532 224c-2 14 0 24 6 34"/>
			<circle class="d-fruit" cx="504" cy="258" r="13"/><circle class="d-fruit" cx="540" cy="270" r="13"/>
			<path class="d-leaf" d="M526 222c-4-14-16-20-30-18 4 14 16 20 30 18ZM500 247c2-4 6-5 9-2-1 4-6 5-9 2ZM536 258c2-4 6-5 9-2-1 4-6 5-9 2Z"/>
		</svg>
	`;
}
