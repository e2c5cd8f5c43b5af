import { describe, expect, test } from "vitest";
import { codes } from "../../sdk/src/codes.js";
import { en } from "../src/i18n/en.js";
import { explain, languages, pickLanguage } from "../src/i18n/index.js";
import { josa } from "../src/i18n/josa.js";
import { ko } from "../src/i18n/ko.js";
import { linkify, safeHref } from "../src/links.js";
import { isChannelName, newChannelName, parseInvitation } from "../src/names.js";
import { FakeError } from "./fake-sdk.js";

type Tree = { readonly [key: string]: unknown };

function leaves(tree: Tree, prefix = ""): Map<string, unknown> {
	const found = new Map<string, unknown>();
	for (const [key, value] of Object.entries(tree)) {
		if (value && typeof value === "object")
			for (const [k, v] of leaves(value as Tree, `${prefix}${key}.`)) found.set(k, v);
		else found.set(prefix + key, value);
	}
	return found;
}

describe("dictionaries", () => {
	const english = leaves(en);

	test.each(Object.entries(languages))("%s has exactly the texts of English, and none is empty", (_, dictionary) => {
		const other = leaves(dictionary as unknown as Tree);
		expect([...other.keys()].sort()).toEqual([...english.keys()].sort());
		for (const [key, value] of other) {
			expect(typeof value, key).toBe(typeof english.get(key));
			if (typeof value === "string") expect(value.trim(), key).not.toBe("");
		}
	});

	test("Korean is Korean, and speaks politely", () => {
		for (const [key, value] of leaves(ko as unknown as Tree)) {
			const text = typeof value === "function" ? (value as (...a: unknown[]) => string)("민아", 2, 3) : String(value);
			if (/[.?!…]$/.test(text)) expect(text, key).toMatch(/(요|Apache 2\.0)[.?!…]$/);
			if (/[A-Za-z]{3,}/.test(text)) continue; // Apache, TypeScript, https
			expect(text, key).toMatch(/[가-힣]|^Esc$/);
		}
	});

	test("picks the first wished language that we have", () => {
		expect(pickLanguage(["fr-FR", "ko-KR", "en"])).toBe("ko");
		expect(pickLanguage(["EN-us"])).toBe("en");
		expect(pickLanguage(["fr"])).toBe("en");
		expect(pickLanguage(["constructor", "ko"])).toBe("ko");
		expect(pickLanguage([])).toBe("en");
	});

	test("every code of the server that ends or prevents a call says what to do next", () => {
		for (const code of Object.keys(codes)) {
			for (const language of ["en", "ko"] as const) {
				const { title, help } = explain(new FakeError(code), language);
				expect(title, code).not.toBe("");
				expect(help, code).not.toBe("");
			}
		}
		for (const code of [
			"channel_full",
			"channel_locked",
			"kicked",
			"rejected",
			"busy",
			"ring_timeout",
			"key_unknown",
			"origin_forbidden",
			"unreachable",
		]) {
			expect(explain(new FakeError(code), "en").title, code).not.toBe(en.errorTitle);
		}
	});

	test("an error that is not ours has words, too", () => {
		expect(explain(new TypeError("x is undefined"), "en").title).toBe(en.errors.internal.title);
		expect(explain(null, "ko").title).toBe(ko.errors.internal.title);
		expect(explain(new FakeError("never_heard"), "ko")).toEqual({ title: ko.errorTitle, help: "never_heard (ko)" });
		expect(explain(new FakeError("toString"), "en").help).toBe("toString (en)");
	});
});

test("a particle fits the last sound", () => {
	expect(josa("민아", "을", "를")).toBe("민아를");
	expect(josa("박준", "을", "를")).toBe("박준을");
	expect(josa("Jun", "을", "를")).toBe("Jun을(를)");
	expect(josa("", "을", "를")).toBe("을(를)");
});

describe("channel names", () => {
	test("are valid, readable, and differ", () => {
		const names = new Set(Array.from({ length: 2000 }, () => newChannelName()));
		expect(names.size).toBe(2000);
		for (const name of names) {
			expect(name).toMatch(/^[a-z]+-[a-z]+-[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}$/);
			expect(isChannelName(name)).toBe(true);
		}
	});

	test("use all of the random bits: each of the 12 bytes matters", () => {
		const of = (change: number) => newChannelName((b) => b.map((_, i) => (i === change ? 1 : 0)));
		expect(new Set([newChannelName((b) => b.fill(0)), ...Array.from({ length: 12 }, (_, i) => of(i))]).size).toBe(13);
	});

	test("the 64 words differ", () => {
		const words = new Set(Array.from({ length: 64 }, (_, i) => newChannelName((b) => b.fill(i)).split("-")[0]));
		expect(words.size).toBe(64);
	});

	test.each(["", ".", "..", "a b", "a/b", "ㅁㅏ", "x".repeat(65), "<b>"])("%j is none", (name) => {
		expect(isChannelName(name)).toBe(false);
	});
});

describe("an invitation", () => {
	const here = "https://call.example.com";
	test.each([
		["demo", { channel: "demo" }],
		["  my team  ", { channel: "my-team" }],
		["https://call.example.com/c/demo", { channel: "demo" }],
		["https://call.example.com/c/demo/?join=1#x", { channel: "demo" }],
		["call.example.com/c/demo", { channel: "demo" }],
		["localhost:8080/c/demo", { channel: "demo" }],
		["/c/demo", { channel: "demo" }],
		["http://other.example/c/demo", { channel: "demo", server: "http://other.example" }],
	])("%s", (text, expected) => {
		expect(parseInvitation(text, here)).toEqual(expected);
	});

	test.each([
		"",
		"   ",
		"https://call.example.com/",
		"https://call.example.com/c/%2e%2e",
		"https://call.example.com/c/%",
		"javascript:alert(1)",
		"//evil.example/c/x/y",
		"a/b",
		"https://",
	])("%j is refused", (text) => {
		expect(parseInvitation(text, here)).toBeNull();
	});
});

describe("links in the chat", () => {
	const shown = (text: string) =>
		linkify(text)
			.map((p) => (p.href ? `[${p.text}]` : p.text))
			.join("");

	test.each([
		["plain text", "plain text"],
		["see https://example.com/a?b=c#d now", "see [https://example.com/a?b=c#d] now"],
		["https://example.com.", "[https://example.com]."],
		["(https://example.com/a)", "([https://example.com/a])"],
		["https://en.wikipedia.org/wiki/Yard_(land)", "[https://en.wikipedia.org/wiki/Yard_(land)]"],
		["여기예요 https://example.com/메뉴。", "여기예요 [https://example.com/메뉴]。"],
		["HTTPS://EXAMPLE.COM", "[HTTPS://EXAMPLE.COM]"],
		["https://a.example https://b.example", "[https://a.example] [https://b.example]"],
		['<a href="https://example.com">x</a>', '<a href="[https://example.com]">x</a>'],
		["javascript:alert(1)", "javascript:alert(1)"],
		["data:text/html,<script>alert(1)</script>", "data:text/html,<script>alert(1)</script>"],
		["https://paypal.com@evil.example/", "https://paypal.com@evil.example/"],
		["https://", "https://"],
		["", ""],
	])("%s", (text, expected) => {
		expect(shown(text)).toBe(expected);
	});

	test("loses nothing of what was written", () => {
		for (const text of [
			"a https://x.example, b https://y.example!",
			"https://x.example\nhttps://y.example",
			"((https://x.example))",
		]) {
			expect(
				linkify(text)
					.map((p) => p.text)
					.join(""),
			).toBe(text);
		}
	});

	test("only http and https are followed", () => {
		for (const link of [
			"javascript:alert(1)",
			"JavaScript:alert(1)",
			"data:text/html,x",
			"file:///etc/passwd",
			"blob:https://x/y",
			"https://user:pw@x.example/",
			"not a link",
		]) {
			expect(safeHref(link), link).toBeNull();
		}
		expect(safeHref("https://example.com")).toBe("https://example.com/");
	});
});
