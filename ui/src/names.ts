// Short Korean words of landscape, house and season, in Latin letters: easy to read out in any language.
// biome-ignore format: eight in a row, so that one can count them
const words = [
	"baram", "bada", "byeol", "bom", "bam", "bit", "chorok", "daram",
	"dalbit", "dol", "dongne", "garam", "gaeul", "gireum", "gireumi", "gureum",
	"haneul", "haru", "hanok", "hodu", "ieum", "iseul", "jari", "jangdok",
	"jeonja", "jogak", "kkot", "kong", "madang", "maru", "mari", "mal",
	"mul", "namu", "nabi", "nallae", "noeul", "norae", "nuri", "ongi",
	"oreum", "pado", "param", "pul", "saebyeok", "sai", "sanso", "sori",
	"solbat", "somi", "ssal", "teo", "tobak", "ttang", "uri", "uju",
	"ullim", "yeoreum", "yeoul", "yeon", "yeonkkot", "yun", "yeo", "ijeong",
] as const;

// Crockford's base 32: no letter can be taken for another when it is read from paper.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/**
 * A name for a new channel, such as `maru-haneul-7k3m9-x2q8w`: two words to recognise it by, and 50 random bits that nobody guesses
 * (62 with the words; a server admits 20 joins a second from one address).
 */
export function newChannelName(
	random: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array = (bytes) => crypto.getRandomValues(bytes),
): string {
	const bytes = random(new Uint8Array(12));
	const word = (i: number) => words[(bytes[i] as number) & 63];
	const code = (from: number) => Array.from(bytes.subarray(from, from + 5), (b) => alphabet[b & 31]).join("");
	return `${word(0)}-${word(1)}-${code(2)}-${code(7)}`;
}

/** Channel names that the server takes (docs/protocol.md §4). */
export const isChannelName = (name: string) => /^[A-Za-z0-9._~-]{1,64}$/.test(name) && name !== "." && name !== "..";

/**
 * What somebody typed or pasted to join: a channel's name, or a link to one on any server. `server` is absent for this one.
 * Spaces in a name become hyphens. `null` when it can be neither.
 */
export function parseInvitation(text: string, here: string): { channel: string; server?: string } | null {
	const trimmed = text.trim();
	if (/^https?:\/\//i.test(trimmed)) {
		let url: URL;
		try {
			url = new URL(trimmed);
		} catch {
			return null;
		}
		const name = /^\/c\/([^/]+)\/?$/.exec(url.pathname)?.[1];
		if (!name) return null;
		let channel: string;
		try {
			channel = decodeURIComponent(name);
		} catch {
			return null;
		}
		if (!isChannelName(channel)) return null;
		return url.origin === here ? { channel } : { channel, server: url.origin };
	}
	const path = /^(?:[\w.-]+(?::\d+)?)?\/c\/([A-Za-z0-9._~-]+)\/?$/.exec(trimmed)?.[1];
	const channel = path ?? trimmed.replace(/\s+/g, "-");
	return isChannelName(channel) ? { channel } : null;
}
