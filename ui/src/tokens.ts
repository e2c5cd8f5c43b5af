/**
 * The colours of a yard: paper of the doors, pine, ink, and persimmon for what is warm. Every pair of text and ground that is used has
 * at least 4.5 to 1 (WCAG 2.2, 1.4.3); test/tokens.test.ts holds it.
 */
export const light = {
	paper: "#f5f1e8",
	surface: "#fffdf8",
	sunk: "#e9e3d5",
	ink: "#1b221e",
	ink2: "#525d56",
	line: "#dcd4c3",
	accent: "#1c6250",
	onAccent: "#fffdf8",
	accentSoft: "#d7e7dd",
	accentInk: "#124638",
	warm: "#a8421d",
	danger: "#b0302a",
	onDanger: "#ffffff",
	dangerSoft: "#f6dcd5",
	dangerInk: "#8e211c",
	good: "#22785f",
	fair: "#94600a",
	poor: "#b0302a",
} as const;

export const dark: Record<keyof typeof light, string> = {
	paper: "#0f1412",
	surface: "#181f1c",
	sunk: "#232c28",
	ink: "#ecf0ea",
	ink2: "#a8b5ad",
	line: "#2d3833",
	accent: "#7fd0b2",
	onAccent: "#05251b",
	accentSoft: "#1d3a30",
	accentInk: "#a9e4cd",
	warm: "#ff9d6e",
	danger: "#e8685d",
	onDanger: "#260402",
	dangerSoft: "#43211c",
	dangerInk: "#ffb3a8",
	good: "#7fd0b2",
	fair: "#f0c060",
	poor: "#ff8d80",
};

/** Grounds of initials: dancheong, calmed down. The text on them is white. */
export const avatarColors = [
	"#2f6f5e",
	"#8a4b2f",
	"#3d5f8a",
	"#7a4a78",
	"#6b6422",
	"#9a3f4c",
	"#2b6a78",
	"#5b5590",
] as const;

/** The colour that belongs to a peer, the same for everybody who sees it. */
export function avatarColor(id: string): string {
	let hash = 0;
	for (const character of id) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
	return avatarColors[hash % avatarColors.length] as string;
}

/** One or two letters for a name: the first of the first and last word, or the last two syllables of a Korean name. */
export function initials(name: string): string {
	const trimmed = name.trim();
	if (!trimmed) return "·";
	if (/^[\uac00-\ud7a3]{2,4}$/.test(trimmed)) return trimmed.slice(-2);
	const words = trimmed.split(/\s+/);
	const first = [...(words[0] ?? "")][0] ?? "";
	const last = words.length > 1 ? ([...(words.at(-1) ?? "")][0] ?? "") : "";
	return (first + last).toLocaleUpperCase();
}
