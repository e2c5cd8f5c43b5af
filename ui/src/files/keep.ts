import { html, nothing, type TemplateResult } from "lit";
import { type Dictionary, explain, type Language } from "../i18n/index.js";
import { size } from "./format.js";
import type { Sending } from "./sdk.js";

/** The switch with which a sender keeps everything on the server too, where the server allows it, and how that is doing. */
export function keepView(
	sending: Sending,
	t: Dictionary["transfer"],
	language: Language,
	keep: (on: boolean) => void,
): TemplateResult | typeof nothing {
	const { terms, keeping } = sending;
	if (!terms) return nothing;
	const until = new Date(keeping?.untilMs ?? Date.now() + terms.hours * 3_600_000);
	const time = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(until);
	const code = keeping?.code;
	const all = sending.bytes ?? 0;
	return html`
		<section class="keep" data-testid="keep" data-state=${keeping?.state ?? "off"}>
			<label><input type="checkbox" data-testid="keep-switch" .checked=${keeping !== null} @change=${(e: Event) => keep((e.target as HTMLInputElement).checked)} /><span>${t.keep(time)}</span></label>
			<p class="facts" role="status">${
				keeping === null
					? t.keepLead
					: keeping.state === "kept"
						? t.kept
						: code
							? `${explain({ code }, language).title}. ${explain({ code }, language).help}`
							: t.keeping(size(keeping.bytes, language), size(all, language))
			}</p>
			${
				keeping?.state === "keeping"
					? html`<progress max="100" .value=${(100 * keeping.bytes) / Math.max(1, all)}></progress>`
					: nothing
			}
		</section>
	`;
}
