import { html, type TemplateResult } from "lit";
import { encode } from "uqr";

/** A QR code as one SVG path; dark modules on the light ground that scanners expect, in every colour scheme. */
export function qrCode(text: string, label: string): TemplateResult {
	const { data, size } = encode(text, { ecc: "M", border: 2 });
	return html`<svg class="qr" viewBox="0 0 ${size} ${size}" role="img" aria-label=${label} shape-rendering="crispEdges" data-testid="qr"><path d=${path(data)}/></svg>`;
}

/** One rectangle per run of dark modules. */
export function path(data: readonly (readonly boolean[])[]): string {
	let d = "";
	data.forEach((row, y) => {
		for (let x = 0; x < row.length; x++) {
			if (!row[x]) continue;
			let end = x;
			while (row[end + 1]) end++;
			d += `M${x} ${y}h${end - x + 1}v1h-${end - x + 1}z`;
			x = end;
		}
	});
	return d;
}
