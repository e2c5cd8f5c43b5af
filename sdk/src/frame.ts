// PlayRTC's data framing: how texts and files travel on a data channel between PlayRTC peers (docs/playrtc.md). A message is one master packet and
// its fragments. Integers are signed 32-bit, ids and sizes doubles, texts UTF-16, all big-endian.
//
//   master    0 id · 8 type 0 · [12 sender, 34 bytes, new form only] · totalSize · dataType · [name 256 · MIME 256, binary only] ·
//             fragCount · fragIndex · fragSize · payload
//   fragment  0 id · 8 type 1 · 12 fragIndex · 16 fragSize · 20 payload
//   have      0 id · 8 type 2 · 12 next: between our own peers only, so that a message outlives its data channel

/** Which master packets a receiver reads: those without or with the sender's token. */
export type Form = "old" | "new";

export type DataType = "text" | "binary";

export interface Master {
	kind: "master";
	form: Form;
	id: number;
	/** The sender's token; empty in the old form. */
	sender: string;
	totalSize: number;
	type: DataType;
	/** Of a file. */
	fileName: string;
	mimeType: string;
	fragCount: number;
	payload: Uint8Array<ArrayBuffer>;
}

export interface Fragment {
	kind: "fragment";
	id: number;
	fragIndex: number;
	payload: Uint8Array<ArrayBuffer>;
}

/** The receiver has all fragments of a message before `next`. Id 0 ends a list of these. */
export interface Have {
	kind: "have";
	id: number;
	next: number;
}

export type Packet = Master | Fragment | Have;

/** The payload of a packet for peers that have not said that they take more. */
export const legacyBytes = 8192;
const fragmentHead = 20;
const senderUnits = 17;
const nameUnits = 128;
const nameBytes = nameUnits * 2;

/** Old receivers read 4 bytes at offset 20, 2.2.21 at offset 54, of every packet: a shorter last one is lost with its message. */
const shortestTail: Record<Form, number> = { old: 4, new: 38 };

/** How a message is cut: fragments of one size but the last, and the one before it, which gives to a last one that would be too short. */
export class Cut {
	readonly count: number;
	readonly #total: number;
	readonly #bytes: number;
	readonly #borrowed: number;

	constructor(total: number, bytes: number, form: Form) {
		this.#total = total;
		this.#bytes = bytes;
		this.count = Math.max(1, Math.ceil(total / bytes));
		const tail = total - (this.count - 1) * bytes;
		// Sizes, tails and packets of texts are even, so no unit is cut in two.
		this.#borrowed = this.count > 1 ? Math.max(0, shortestTail[form] - tail) : 0;
	}

	/** Where fragment `index` begins; that of `count` is the end. */
	offset(index: number): number {
		if (index >= this.count) return this.#total;
		return index * this.#bytes - (index > 0 && index === this.count - 1 ? this.#borrowed : 0);
	}

	size(index: number): number {
		return this.offset(index + 1) - this.offset(index);
	}
}

/** A text as UTF-16, big-endian. */
export function encodeText(text: string): Uint8Array<ArrayBuffer> {
	const bytes = new Uint8Array(text.length * 2);
	for (let i = 0; i < text.length; i++) {
		const unit = text.charCodeAt(i);
		bytes[2 * i] = unit >> 8;
		bytes[2 * i + 1] = unit & 0xff;
	}
	return bytes;
}

const decoder = new TextDecoder("utf-16be", { ignoreBOM: true });

/** A lone surrogate becomes U+FFFD. */
export function decodeText(bytes: Uint8Array): string {
	return decoder.decode(bytes);
}

/** A name of at most 128 units; what is cut away is the end of its stem, not the extension. */
export function fitName(name: string): string {
	if (name.length <= nameUnits) return name;
	const dot = name.lastIndexOf(".");
	const extension = dot > 0 && name.length - dot <= 32 ? name.slice(dot) : "";
	return name.slice(0, nameUnits - extension.length) + extension;
}

/** A master packet. Its fragment is the first one; `sender` is left out in the old form. */
export function encodeMaster(master: Omit<Master, "kind">): Uint8Array<ArrayBuffer> {
	const { form, type, payload } = master;
	const at = form === "new" ? 12 + senderUnits * 2 : 12;
	const names = type === "binary" ? 2 * nameBytes : 0;
	const head = at + 12 + names + 12;
	const packet = new Uint8Array(head + payload.length);
	const view = new DataView(packet.buffer);
	view.setFloat64(0, master.id);
	view.setInt32(8, 0);
	if (form === "new") packet.set(encodeText(master.sender.slice(0, senderUnits)), 12);
	view.setFloat64(at, master.totalSize);
	view.setInt32(at + 8, type === "binary" ? 1 : 0);
	if (type === "binary") {
		packet.set(encodeText(fitName(master.fileName)), at + 12);
		packet.set(encodeText(master.mimeType.slice(0, nameUnits)), at + 12 + nameBytes);
	}
	view.setInt32(head - 12, master.fragCount);
	view.setInt32(head - 8, 0);
	view.setInt32(head - 4, payload.length);
	packet.set(payload, head);
	return packet;
}

export function encodeFragment(id: number, fragIndex: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
	const packet = new Uint8Array(fragmentHead + payload.length);
	const view = new DataView(packet.buffer);
	view.setFloat64(0, id);
	view.setInt32(8, 1);
	view.setInt32(12, fragIndex);
	view.setInt32(16, payload.length);
	packet.set(payload, fragmentHead);
	return packet;
}

export function encodeHave(id: number, next: number): Uint8Array<ArrayBuffer> {
	const packet = new Uint8Array(fragmentHead);
	const view = new DataView(packet.buffer);
	view.setFloat64(0, id);
	view.setInt32(8, 2);
	view.setInt32(12, next);
	return packet;
}

/** Reads a packet; `null` if it is none. The payload is a view of `buffer`. */
export function decode(buffer: ArrayBuffer): Packet | null {
	if (buffer.byteLength < fragmentHead) return null;
	const view = new DataView(buffer);
	const id = view.getFloat64(0);
	if (!Number.isFinite(id)) return null;
	switch (view.getInt32(8)) {
		case 0:
			return decodeMaster(buffer, view, id);
		case 1: {
			const payload = sized(buffer, fragmentHead, view.getInt32(16));
			const fragIndex = view.getInt32(12);
			return payload && fragIndex > 0 ? { kind: "fragment", id, fragIndex, payload } : null;
		}
		case 2: {
			const next = view.getInt32(12);
			return next >= 0 ? { kind: "have", id, next } : null;
		}
		default:
			return null;
	}
}

function decodeMaster(buffer: ArrayBuffer, view: DataView, id: number): Master | null {
	// A token begins with an ASCII letter (00 xx); a positive size with 3F or more; a size of zero with 00 00.
	const isNew = view.getUint8(12) === 0 && view.getUint8(13) !== 0;
	const at = isNew ? 12 + senderUnits * 2 : 12;
	if (buffer.byteLength < at + 24) return null;
	const dataType = view.getInt32(at + 8);
	if (dataType !== 0 && dataType !== 1) return null;
	const head = at + 12 + (dataType === 1 ? 2 * nameBytes : 0) + 12;
	if (buffer.byteLength < head) return null;
	const totalSize = view.getFloat64(at);
	const fragCount = view.getInt32(head - 12);
	const payload = sized(buffer, head, view.getInt32(head - 4));
	if (!payload || fragCount < 1 || !Number.isSafeInteger(totalSize) || totalSize < payload.length) return null;
	return {
		kind: "master",
		form: isNew ? "new" : "old",
		id,
		sender: isNew ? padded(buffer, 12, senderUnits * 2) : "",
		totalSize,
		type: dataType === 1 ? "binary" : "text",
		fileName: dataType === 1 ? padded(buffer, at + 12, nameBytes) : "",
		mimeType: dataType === 1 ? padded(buffer, at + 12 + nameBytes, nameBytes) : "",
		fragCount,
		payload,
	};
}

function sized(buffer: ArrayBuffer, offset: number, size: number): Uint8Array<ArrayBuffer> | null {
	return size >= 0 && offset + size <= buffer.byteLength ? new Uint8Array(buffer, offset, size) : null;
}

function padded(buffer: ArrayBuffer, offset: number, bytes: number): string {
	const text = decodeText(new Uint8Array(buffer, offset, bytes));
	const end = text.indexOf("\0");
	return end < 0 ? text : text.slice(0, end);
}

/** What the `env` of a peer says about its software. */
export interface Env {
	platformType?: unknown;
	sdk?: { type?: unknown; version?: unknown } | null;
}

/** Which form of master packets a peer reads. Its senders are told apart by the packets themselves. */
export function formFor(env: unknown): Form {
	const { platformType, sdk } = (typeof env === "object" && env !== null ? env : {}) as Env;
	const version = sdk?.version;
	if (typeof platformType !== "string" || typeof sdk?.type !== "string" || typeof version !== "string") return "old";
	if (platformType === "android") return compareVersions(version, "2.2.9") >= 0 ? "new" : "old";
	if (platformType === "ios") return compareVersions(version, "2.2.8") >= 0 ? "new" : "old";
	return sdk.type === "web" && compareVersions(version, "2.2.17") >= 0 ? "new" : "old";
}

/** −1, 0 or 1, by numeric parts; a missing or unreadable part is 0. */
export function compareVersions(a: string, b: string): number {
	const parts = (version: string) => version.split(".").map((part) => Number.parseInt(part, 10) || 0);
	const [left, right] = [parts(a), parts(b)];
	for (let i = 0; i < Math.max(left.length, right.length); i++) {
		const difference = (left[i] ?? 0) - (right[i] ?? 0);
		if (difference !== 0) return Math.sign(difference);
	}
	return 0;
}

/** The PlayRTC token of any peer: a pure function of its id, so that everybody says the same. */
export function tokenOf(peer: string): string {
	return `TKS${peer.slice(1, 15)}`;
}
