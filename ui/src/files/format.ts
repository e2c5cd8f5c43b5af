import type { Dictionary } from "../i18n/index.js";

const units = ["B", "KB", "MB", "GB", "TB", "PB"] as const;

/** A size as people say it: 1,000 bytes are a kilobyte. */
export function size(bytes: number, language: string): string {
	let value = bytes;
	let unit = 0;
	while (value >= 999.5 && unit < units.length - 1) {
		value /= 1_000;
		unit++;
	}
	const digits = unit > 0 && value < 99.5 ? (value < 9.95 ? 2 : 1) : 0;
	return `${value.toLocaleString(language, { maximumFractionDigits: digits })} ${units[unit]}`;
}

/** A time that is left, no finer than it can be known. */
export function timeLeft(ms: number, t: Dictionary): string {
	const seconds = Math.ceil(ms / 1_000);
	const rounded = seconds > 600 ? Math.ceil(seconds / 60) * 60 : seconds > 60 ? Math.ceil(seconds / 10) * 10 : seconds;
	return t.duration(Math.floor(rounded / 3_600), Math.floor(rounded / 60) % 60, rounded % 60);
}
