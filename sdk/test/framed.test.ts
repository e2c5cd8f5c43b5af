import { describe, expect, it } from "vitest";
import { decode, encodeFragment, encodeMaster, encodeText } from "../src/frame.js";
import { type FileMessage, FramedLink, type Progress, packetBytes, type TextMessage } from "../src/framed.js";

/** One end of a data channel in memory, which can be cut with what is under way. */
class Wire {
	readyState: RTCDataChannelState = "connecting";
	negotiated = true;
	binaryType = "";
	bufferedAmount = 0;
	bufferedAmountLowThreshold = 0;
	onopen: ((event: Event) => void) | null = null;
	onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
	onclose: ((event: Event) => void) | null = null;
	onerror: ((event: Event) => void) | null = null;
	onbufferedamountlow: ((event: Event) => void) | null = null;
	other!: Wire;
	sent = 0;
	/** Ends of lists of what is there that were sent. */
	lists = 0;
	/** Packets that still get through. */
	passes = Number.POSITIVE_INFINITY;

	send(data: Uint8Array): void {
		if (this.readyState !== "open") throw new DOMException("closed", "InvalidStateError");
		const copy = data.slice().buffer as ArrayBuffer;
		this.sent++;
		const packet = decode(copy);
		if (packet?.kind === "have" && packet.id === 0) this.lists++;
		if (this.passes-- <= 0) return;
		this.bufferedAmount += copy.byteLength;
		setTimeout(() => {
			const before = this.bufferedAmount;
			this.bufferedAmount -= copy.byteLength;
			if (this.other.readyState === "open") this.other.onmessage?.({ data: copy });
			const { bufferedAmountLowThreshold: low } = this;
			if (before > low && this.bufferedAmount <= low) this.onbufferedamountlow?.(new Event("bufferedamountlow"));
		});
	}

	open(): void {
		this.readyState = "open";
		this.onopen?.(new Event("open"));
	}

	close(): void {
		for (const end of [this, this.other]) {
			if (end.readyState === "closed") continue;
			end.readyState = "closed";
			setTimeout(() => end.onclose?.(new Event("close")));
		}
	}
}

function wires(): [Wire, Wire] {
	const [a, b] = [new Wire(), new Wire()];
	a.other = b;
	b.other = a;
	return [a, b];
}

const tokens = ["TKSaaaaaaaaaaaaaa", "TKSbbbbbbbbbbbbbb"] as const;

interface Side {
	link: FramedLink;
	texts: TextMessage[];
	files: FileMessage[];
	progress: Progress[];
	log: unknown[];
	reopened: number;
}

function side(own: 0 | 1, options: { packetBytes?: number; form?: "old" | "new"; wire?: boolean } = {}): Side {
	const { wire = false, form = "new" } = options;
	const made: Omit<Side, "link"> = { texts: [], files: [], progress: [], log: [], reopened: 0 };
	const link = new FramedLink(
		{
			own: tokens[own],
			peer: tokens[own === 0 ? 1 : 0],
			form,
			wire,
			...(options.packetBytes ? { packetBytes: options.packetBytes } : {}),
			...(wire
				? {}
				: {
						reopen: () => {
							made.reopened++;
						},
					}),
		},
		{
			open: () => made.log.push("open"),
			close: () => made.log.push("close"),
			error: (error) => made.log.push(error),
			progress: (packet) => made.progress.push(packet),
			message: (message) => {
				if (message.type === "text") made.texts.push(message);
				else made.files.push(message);
			},
		},
	);
	return Object.assign(made, { link });
}

const use = (of: Side, wire: Wire) => of.link.use(wire as unknown as RTCDataChannel);
const until = async (condition: () => boolean) => {
	const deadline = performance.now() + 10_000;
	while (!condition()) {
		if (performance.now() > deadline) throw new Error(`waited in vain for ${condition}`);
		await new Promise((resolve) => setTimeout(resolve, 1));
	}
};
const fileOf = (size: number, name = "a.bin") =>
	new File([Uint8Array.from({ length: size }, (_, i) => (i * 31) >> 3)], name);
/** Compared at once: matchers look at each byte. */
const bytesOf = async (blob: Blob | undefined) => decodeLatin(await (blob as Blob).arrayBuffer());
const decodeLatin = (buffer: ArrayBuffer) => new TextDecoder("latin1").decode(buffer);

function pair(options: Parameters<typeof side>[1] = {}): { a: Side; b: Side; wire: Wire } {
	const [a, b] = [side(0, options), side(1, options)];
	const [left, right] = wires();
	use(a, left);
	use(b, right);
	left.open();
	right.open();
	return { a, b, wire: left };
}

describe.each([undefined, packetBytes])("with packets of %s bytes", (size) => {
	it("texts and files arrive, also empty ones, and files in the order given", async () => {
		const { a, b } = pair(size ? { packetBytes: size } : {});
		const sizes = [0, 1, 8193, 16386, 100_000];
		const done: unknown[] = [];
		for (const n of sizes) a.link.sendFile(fileOf(n, `${n}.bin`), () => done.push(n));
		a.link.sendText("", () => done.push("text"));
		a.link.sendText("한글 😀");
		await until(() => b.files.length === sizes.length && b.texts.length === 2);
		expect(b.texts.map(({ data }) => data)).toEqual(["", "한글 😀"]);
		expect(b.texts[1]).toMatchObject({ peerId: tokens[0], totalSize: 10 });
		expect(b.files.map(({ fileName }) => fileName)).toEqual(sizes.map((n) => `${n}.bin`));
		for (const [i, n] of sizes.entries()) expect(await bytesOf(b.files[i]?.blob)).toEqual(await bytesOf(fileOf(n)));
		expect(done.filter((d) => d !== "text")).toEqual(sizes);
		const last = b.progress.at(-1);
		expect(last).toMatchObject({
			type: "binary",
			fileName: "100000.bin",
			totalSize: 100_000,
			fragIndex: (last?.fragCount ?? 0) - 1,
		});
	});
});

it("waits for the channel to open, and fails what waits when it will never", async () => {
	const a = side(0);
	const failed: unknown[] = [];
	a.link.sendText("x", undefined, () => failed.push("text"));
	a.link.sendFile(fileOf(3), undefined, () => failed.push("file"));
	a.link.close();
	a.link.sendText("later", undefined, () => failed.push("later"));
	await until(() => failed.length === 3);
	expect(failed).toEqual(["text", "file", "later"]);
	expect(a.log).toEqual([]);
});

it("goes on over another channel from where the receiver is, and delivers once", async () => {
	const { a, b, wire } = pair({ packetBytes });
	await until(() => a.log.length === 1 && b.log.length === 1);
	wire.passes = 7;
	const file = fileOf(1_400_000);
	let successes = 0;
	a.link.sendFile(file, () => successes++);
	for (const text of ["one", "two"]) a.link.sendText(text);
	await until(() => wire.sent > 20);
	wire.close();
	await until(() => a.reopened === 1 && b.reopened === 1);
	const had = b.progress.filter(({ type }) => type === "binary").at(-1)?.fragIndex ?? -1;
	const [left, right] = wires();
	use(a, left);
	use(b, right);
	left.open();
	right.open();
	await until(() => b.files.length === 1 && b.texts.length === 2);
	expect(await bytesOf(b.files[0]?.blob)).toEqual(await bytesOf(file));
	const after = b.progress.filter(({ type, fragIndex }) => type === "binary" && fragIndex <= had);
	expect(after).toHaveLength(had + 1); // none of them twice
	expect(successes).toBe(1);
	// A third channel finds nothing to say again.
	const [again, far] = wires();
	use(a, again);
	use(b, far);
	again.open();
	far.open();
	a.link.sendText("three");
	await until(() => b.texts.length === 3);
	expect([b.files.length, b.texts.length]).toEqual([1, 3]);
	expect([...a.log, ...b.log]).toEqual(["open", "open"]);
});

it.each([0, 1])(
	"goes on over another channel on which the other side speaks before side %s was told that it is open",
	async (late) => {
		const { a, b, wire } = pair({ packetBytes });
		await until(() => a.log.length === 1 && b.log.length === 1);
		wire.passes = 7;
		const file = fileOf(1_400_000);
		a.link.sendFile(file);
		await until(() => wire.sent > 20);
		wire.close();
		await until(() => a.reopened === 1 && b.reopened === 1);
		const ends = wires();
		use(a, ends[0]);
		use(b, ends[1]);
		const slow = ends[late] as Wire;
		slow.readyState = "open"; // the event comes later
		slow.other.open();
		await until(() => slow.other.sent > 0 && slow.other.bufferedAmount === 0);
		slow.open();
		await until(() => b.files.length === 1);
		expect(await bytesOf(b.files[0]?.blob)).toEqual(await bytesOf(file));
		for (const end of ends) expect(end.lists).toBe(1);
	},
);

it("sends again what was handed to a channel that lost it", async () => {
	const { a, b, wire } = pair({ packetBytes });
	await until(() => a.log.length === 1 && b.log.length === 1);
	wire.passes = 0;
	a.link.sendText("lost");
	a.link.sendFile(fileOf(100));
	await until(() => wire.sent >= 3);
	const [left, right] = wires();
	use(b, right);
	use(a, left);
	right.open();
	left.open();
	await until(() => b.texts.length === 1 && b.files.length === 1);
});

it("uses the channel that a legacy peer opens, and sends nothing before it can have come", async () => {
	const a = side(0, { wire: true, form: "old" });
	const [left, right] = wires();
	const [incoming, far] = wires();
	incoming.negotiated = false;
	const heard: ArrayBuffer[] = [];
	far.onmessage = ({ data }) => heard.push(data);
	a.link.sendText("x");
	use(a, left);
	left.open();
	right.open();
	far.open();
	incoming.open();
	use(a, incoming);
	await until(() => heard.length === 1);
	expect(left.sent).toBe(0);
	// What comes on the first one is heard all the same.
	left.onmessage?.({
		data: encodeMaster({
			id: 1,
			form: "old",
			sender: "",
			type: "text",
			totalSize: 2,
			fileName: "",
			mimeType: "",
			fragCount: 1,
			payload: encodeText("y"),
		}).buffer,
	});
	expect(a.texts[0]?.data).toBe("y");
});

it("tells of files that cannot be completed, and forgets nonsense", async () => {
	const { a, b, wire } = pair();
	await until(() => b.log.length === 1);
	const master = {
		id: 7,
		form: "old",
		sender: "",
		type: "binary",
		totalSize: 9,
		fileName: "f",
		mimeType: "",
		fragCount: 3,
		payload: new Uint8Array(3),
	} as const;
	wire.send(new Uint8Array(3));
	wire.send(encodeFragment(99, 1, new Uint8Array(3)));
	wire.send(encodeMaster(master));
	wire.send(encodeFragment(7, 2, new Uint8Array(3))); // one is missing
	await until(() => b.log.length === 2);
	expect(b.log[1]).toEqual({ type: "binary", id: 7, peerId: tokens[0], fileName: "f", mimeType: "", totalSize: 9 });
	wire.send(encodeMaster({ ...master, id: 8 }));
	await until(() => b.progress.length === 2);
	b.link.close();
	expect(b.log.slice(2)).toEqual([expect.objectContaining({ id: 8 }), "close"]);
	a.link.close();
});
