/** A piece of a chat message: text, or a link whose `href` is http or https and nothing else. */
export type Piece = { readonly text: string; readonly href?: string };

const candidate = /\bhttps?:\/\/[^\s<>"'`\p{Cc}]+/giu;

/**
 * Splits a message into text and links. Nothing is ever interpreted as HTML: the pieces are rendered as text nodes. Punctuation that
 * ends a sentence is not part of the link, nor is a bracket that was opened before it.
 */
export function linkify(message: string): Piece[] {
	const pieces: Piece[] = [];
	let done = 0;
	const push = (text: string, href?: string) => {
		if (text) pieces.push(href ? { text, href } : { text });
	};
	for (const match of message.matchAll(candidate)) {
		const text = trimEnd(match[0]);
		const href = safeHref(text);
		if (!href) continue;
		push(message.slice(done, match.index));
		push(text, href);
		done = match.index + text.length;
	}
	push(message.slice(done));
	return pieces;
}

function trimEnd(link: string): string {
	for (;;) {
		const last = link.at(-1) ?? "";
		if (".,;:!?…。、".includes(last)) {
			link = link.slice(0, -1);
			continue;
		}
		const open = { ")": "(", "]": "[", "}": "{" }[last];
		if (open && count(link, open) < count(link, last)) {
			link = link.slice(0, -1);
			continue;
		}
		return link;
	}
}

const count = (text: string, character: string) => text.split(character).length - 1;

/** The address when it is safe to follow from a chat message, else `null`. A user name in front of the host is a disguise. */
export function safeHref(link: string): string | null {
	try {
		const url = new URL(link);
		if (url.protocol !== "http:" && url.protocol !== "https:") return null;
		if (url.username || url.password) return null;
		return url.href;
	} catch {
		return null;
	}
}
