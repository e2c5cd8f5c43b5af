import type { CodedError } from "../sdk.js";
import { codeOf } from "../sdk.js";
import { type Dictionary, en } from "./en.js";
import { ko } from "./ko.js";

export type { Dictionary } from "./en.js";

export const languages = { en, ko } as const satisfies Record<string, Dictionary>;
export type Language = keyof typeof languages;

/** The first of the wished languages that we have; English if none. */
export function pickLanguage(wished: readonly string[]): Language {
	for (const tag of wished) {
		const primary = tag.toLowerCase().split("-")[0] ?? "";
		if (Object.hasOwn(languages, primary)) return primary as Language;
	}
	return "en";
}

export const dictionary = (language: Language): Dictionary => languages[language];

export interface Explanation {
	readonly title: string;
	readonly help: string;
}

/** What went wrong in plain words, and what to do next. */
export function explain(error: unknown, language: Language): Explanation {
	const d = dictionary(language);
	const code = codeOf(error);
	for (const table of [d.errors, d.deviceErrors] as Record<string, Explanation>[]) {
		const known = Object.hasOwn(table, code) ? table[code] : undefined;
		if (known) return known;
	}
	const text = (error as Partial<CodedError> | null)?.text;
	let help: string = d.errorHelp;
	if (typeof text === "function") help = (error as CodedError).text(language) || help;
	return { title: d.errorTitle, help };
}
