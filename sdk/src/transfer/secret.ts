import { ristretto255, ristretto255_hasher } from "@noble/curves/ed25519.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import words from "../../../internal/transfer/words.txt?raw";
import { MadangError } from "../errors.js";

// Links, codes, and the proof that the DTLS fingerprints are those of the ends: docs/transfer.md §2 and §4. Nothing here needs WebCrypto but
// the sealed link, so that a link also works on a page without https.

const label = "madang-transfer/1";
const utf8 = new TextEncoder();

/** base64url without padding (RFC 4648 §5). */
export function toBase64(bytes: Uint8Array): string {
	return btoa(String.fromCharCode(...bytes))
		.replaceAll("+", "-")
		.replaceAll("/", "_")
		.replaceAll("=", "");
}

/** Strict: only what {@link toBase64} writes is read. */
export function fromBase64(text: unknown): Uint8Array<ArrayBuffer> | null {
	if (typeof text !== "string" || !/^[A-Za-z0-9_-]*$/.test(text)) return null;
	try {
		const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
		return toBase64(bytes) === text ? bytes : null;
	} catch {
		return null;
	}
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
	const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

/** The length in two bytes, then the bytes. */
export function lp(value: string | Uint8Array): Uint8Array {
	const bytes = typeof value === "string" ? utf8.encode(value) : value;
	return concat(Uint8Array.of(bytes.length >> 8, bytes.length & 255), bytes);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	if (a.length !== b.length) return false;
	let difference = 0;
	for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] as number);
	return difference === 0;
}

export const random = (bytes: number): Uint8Array<ArrayBuffer> => crypto.getRandomValues(new Uint8Array(bytes));

// ---- links

/** What a link says: which transfer, and the secret that both ends know and the server does not. */
export interface Ticket {
	readonly id: string;
	readonly secret: string;
}

const idForm = /^[a-z2-7]{16}$/;
const base32 = "abcdefghijklmnopqrstuvwxyz234567";

/** A random one. */
export function newTicket(): Ticket {
	const id = Array.from(random(16), (byte) => base32[byte & 31]).join("");
	return { id, secret: toBase64(random(16)) };
}

/** Reads a link; `null` if it is none. `server` is the base URL of the server that it belongs to. */
export function parseLink(link: string): (Ticket & { readonly server: string }) | null {
	const match = /^(https?:\/\/[^\s?#]+?\/)f\/([a-z2-7]{16})\/?(?:\?[^#]*)?#([A-Za-z0-9_-]{22})$/.exec(link.trim());
	const ticket = match && checkTicket({ id: match[2], secret: match[3] });
	return ticket ? { ...ticket, server: match[1] as string } : null;
}

export function checkTicket(value: unknown): Ticket | null {
	const { id, secret } = (value ?? {}) as { id?: unknown; secret?: unknown };
	if (typeof id !== "string" || typeof secret !== "string" || !idForm.test(id)) return null;
	return fromBase64(secret)?.length === 16 ? { id, secret } : null;
}

// ---- fingerprints

/**
 * The certificate's SHA-256 that an SDP names, as strictly as §4 says, since the WebRTC stack that gets the SDP must not see another one.
 * `null` if there is none, or more than one.
 */
export function fingerprintOf(sdp: unknown): Uint8Array | null {
	if (typeof sdp !== "string") return null;
	let found: string | null = null;
	for (const raw of sdp.split("\n")) {
		const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
		if (line.includes("\r")) return null;
		if (!line.trimStart().toLowerCase().startsWith("a=fingerprint")) continue;
		const match = /^a=fingerprint:sha-256 ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31})$/.exec(line);
		if (!match) return null;
		const value = (match[1] as string).toUpperCase();
		if (found !== null && found !== value) return null;
		found = value;
	}
	return found === null ? null : Uint8Array.from(found.split(":"), (pair) => Number.parseInt(pair, 16));
}

/** Proves and checks fingerprints with the secret of a link. */
export class Prover {
	readonly #key: Uint8Array;
	readonly #id: string;

	constructor({ id, secret }: Ticket) {
		this.#id = id;
		this.#key = hkdf(sha256, fromBase64(secret) as Uint8Array, utf8.encode(label), utf8.encode("fingerprints"), 32);
	}

	offer(pc: string, fingerprint: Uint8Array): string {
		return toBase64(hmac(sha256, this.#key, concat(lp("offer"), lp(this.#id), lp(pc), fingerprint)));
	}

	answer(pc: string, offered: Uint8Array, answered: Uint8Array): string {
		return toBase64(hmac(sha256, this.#key, concat(lp("answer"), lp(this.#id), lp(pc), offered, answered)));
	}
}

/** What a receiver whose end the sender knows calls itself towards other receivers (§5). */
export function endForOthers(end: string): string {
	return toBase64(hmac(sha256, utf8.encode(end), utf8.encode("others")).subarray(0, 16));
}

/** Compares tags in constant time. */
export function sameTag(tag: unknown, expected: string): boolean {
	return typeof tag === "string" && equal(utf8.encode(tag), utf8.encode(expected));
}

// ---- codes

/** A number that names a channel, and words that only the two ends know. */
export interface Code {
	readonly number: string;
	readonly words: string;
}

/** A random one. */
export function newCode(): Code {
	const list = words.trim().split(/\s+/);
	// 256 words: a byte names one without bias.
	const [first, second] = random(2);
	const word = (index: number | undefined) => list[(index as number) % list.length] as string;
	return { number: String(1 + below(999)), words: `${word(first)}-${word(second)}` };
}

/** A random number from 0 to `limit` - 1, each as likely as the others. */
function below(limit: number): number {
	const most = 65_536 - (65_536 % limit);
	for (;;) {
		const [high, low] = random(2) as unknown as [number, number];
		const value = high * 256 + low;
		if (value < most) return value % limit;
	}
}

/** Reads a code as people write it; `null` if it is none. */
export function parseCode(text: string): Code | null {
	const plain = text
		.trim()
		.toLowerCase()
		.replace(/[\s_.-]+/g, "-");
	const match = /^([1-9][0-9]{0,5})-([a-z]{1,32}(?:-[a-z]{1,32}){0,7})$/.exec(plain);
	return match ? { number: match[1] as string, words: match[2] as string } : null;
}

/** What the two ends say to each other in the code's channel. */
export interface CodeMessage {
	step?: number;
	sid?: string;
	y?: string;
	confirm?: string;
	link?: string;
	error?: string;
	left?: number;
}

/** LEB128 length, then the bytes (draft-irtf-cfrg-cpace-21, appendix A). */
function prependLength(bytes: Uint8Array): Uint8Array {
	const length: number[] = [];
	let rest = bytes.length;
	for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
	length.push(rest);
	return concat(Uint8Array.from(length), bytes);
}

const lvCat = (...parts: readonly (string | Uint8Array)[]) =>
	concat(...parts.map((part) => prependLength(typeof part === "string" ? utf8.encode(part) : part)));

const dsi = utf8.encode("CPaceRistretto255");

/** CPACE-RISTR255-SHA512. @internal */
export class CPace {
	readonly #sid: Uint8Array;
	readonly #scalar: bigint;
	readonly share: Uint8Array;

	constructor(prs: Uint8Array, ci: Uint8Array, sid: Uint8Array, scalar: bigint) {
		const zeros = Math.max(0, 128 - 1 - prependLength(prs).length - prependLength(dsi).length);
		const hash = sha512(lvCat(dsi, prs, new Uint8Array(zeros), ci, sid));
		const generator = ristretto255_hasher.deriveToCurve?.(hash) as InstanceType<typeof ristretto255.Point>;
		this.#sid = sid;
		this.#scalar = scalar;
		this.share = generator.multiply(scalar).toBytes();
	}

	/** Finishes the exchange; throws if the other side's share is none. */
	isk(other: Uint8Array, initiator: boolean, ada: Uint8Array, adb: Uint8Array): Uint8Array {
		const point = ristretto255.Point.fromBytes(other).multiply(this.#scalar);
		if (point.equals(ristretto255.Point.ZERO)) throw new Error("the share is the identity");
		const [a, b] = initiator ? [this.share, other] : [other, this.share];
		const transcript = concat(lvCat("CPaceRistretto255_ISK", this.#sid, point.toBytes()), lvCat(a, ada), lvCat(b, adb));
		return sha512(transcript);
	}
}

function randomScalar(): bigint {
	const { Fn } = ristretto255.Point;
	for (;;) {
		const scalar = Fn.create(random(64).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n));
		if (scalar !== 0n) return scalar;
	}
}

const receiverAD = utf8.encode("receiver");
const senderAD = utf8.encode("sender");

/** One attempt to redeem a code, on either side. */
export class CodeExchange {
	readonly #cpace: CPace;
	readonly #initiator: boolean;
	readonly #sid: Uint8Array;
	#isk: Uint8Array | null = null;
	#ya: Uint8Array | null = null;
	#yb: Uint8Array | null = null;
	#answered = false;

	private constructor(code: Code, sid: Uint8Array, initiator: boolean, scalar: bigint) {
		const ci = lvCat(label, `fc.${code.number}`);
		this.#cpace = new CPace(utf8.encode(code.words), ci, sid, scalar);
		this.#initiator = initiator;
		this.#sid = sid;
	}

	/** Begins on the receiver's side: step 1. Tests name what is random. */
	static redeem(
		code: Code,
		sid: Uint8Array = random(16),
		scalar = randomScalar(),
	): { exchange: CodeExchange; message: CodeMessage } {
		const exchange = new CodeExchange(code, sid, true, scalar);
		return {
			exchange,
			message: { step: 1, sid: toBase64(exchange.#sid), y: toBase64(exchange.#cpace.share) },
		};
	}

	/** Takes step 1 and gives step 2, on the sender's side. */
	static answer(
		code: Code,
		message: CodeMessage,
		scalar = randomScalar(),
	): { exchange: CodeExchange; message: CodeMessage } | null {
		const sid = fromBase64(message.sid);
		if (sid?.length !== 16) return null;
		const exchange = new CodeExchange(code, sid, false, scalar);
		return exchange.#finish(message.y) ? { exchange, message: { step: 2, y: toBase64(exchange.#cpace.share) } } : null;
	}

	#finish(y: unknown): boolean {
		const other = fromBase64(y);
		if (!other) return false;
		try {
			this.#isk = this.#cpace.isk(other, this.#initiator, receiverAD, senderAD);
		} catch {
			return false;
		}
		[this.#ya, this.#yb] = this.#initiator ? [this.#cpace.share, other] : [other, this.#cpace.share];
		return true;
	}

	#derive(purpose: string): Uint8Array<ArrayBuffer> {
		return new Uint8Array(hkdf(sha256, this.#isk as Uint8Array, undefined, utf8.encode(`${label} ${purpose}`), 32));
	}

	#tag(): string {
		return toBase64(
			hmac(sha256, this.#derive("confirm"), concat(lp(this.#ya as Uint8Array), lp(this.#yb as Uint8Array))),
		);
	}

	/**
	 * Takes step 2 and gives step 3, on the receiver's side; `null` if the share is none, or not the first: each step 2 that is answered tells the other side whether
	 * one guess of the words was right.
	 */
	confirm(message: CodeMessage): CodeMessage | null {
		if (this.#answered) return null;
		this.#answered = true;
		return this.#finish(message.y) ? { step: 3, confirm: this.#tag() } : null;
	}

	#key(): Promise<CryptoKey> {
		if (!globalThis.crypto.subtle) throw new MadangError("insecure_context");
		return crypto.subtle.importKey("raw", this.#derive("link"), "AES-GCM", false, ["encrypt", "decrypt"]);
	}

	/** Takes step 3, on the sender's side: whether the words were right. */
	confirmed(message: CodeMessage): boolean {
		return sameTag(message.confirm, this.#tag());
	}

	/** Gives step 4, on the sender's side, to who has {@link confirmed}. */
	async seal(ticket: Ticket): Promise<CodeMessage> {
		const plain = utf8.encode(JSON.stringify({ id: ticket.id, secret: ticket.secret }));
		const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv: new Uint8Array(12) }, await this.#key(), plain);
		return { step: 4, link: toBase64(new Uint8Array(sealed)) };
	}

	/** Takes step 4, on the receiver's side; `null` if it is not for us. */
	async open(message: CodeMessage): Promise<Ticket | null> {
		const sealed = fromBase64(message.link);
		if (!sealed) return null;
		try {
			const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv: new Uint8Array(12) }, await this.#key(), sealed);
			return checkTicket(JSON.parse(new TextDecoder().decode(plain)));
		} catch {
			return null;
		}
	}
}
