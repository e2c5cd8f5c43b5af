import { sha256 } from "@noble/hashes/sha2.js";
import { describe, expect, test } from "vitest";
import vectors from "../../internal/transfer/testdata/vectors.json" with { type: "json" };
import {
	DepotKeys,
	decodeList,
	encodeList,
	Layout,
	listCount,
	ObjectReader,
	SealedError,
	tokenHash,
} from "../src/transfer/depot.js";
import { isPath, localPaths } from "../src/transfer/path.js";
import {
	CodeExchange,
	CPace,
	endForOthers,
	fingerprintOf,
	fromBase64,
	Prover,
	parseCode,
	parseLink,
	sameTag,
	toBase64,
} from "../src/transfer/secret.js";
import { fileRoot, manifestRoot } from "../src/transfer/tree.js";
import { Assembler, decodeBinary, decodeMessage, encodeBlock, encodeHashes, WireError } from "../src/transfer/wire.js";

// The same vectors as those of the Go side: what the two understand differently fails in one of them.

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const hex = (value: Uint8Array) => Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("");
const little = (hexText: string) => BigInt(`0x${hex(bytes(hexText).reverse())}`);

describe("links and codes", () => {
	test.each(vectors.links)("link $link", ({ link, valid, server, id, secret }) => {
		const ticket = parseLink(link);
		expect(ticket !== null).toBe(valid);
		if (!ticket) return;
		expect({ ...ticket, secret: hex(fromBase64(ticket.secret) as Uint8Array) }).toEqual({
			server: `${server}/`,
			id,
			secret,
		});
	});

	test.each(vectors.codes)("code $written", ({ written, code }) => {
		const parsed = parseCode(written);
		expect(parsed ? `${parsed.number}-${parsed.words}` : "").toBe(code);
	});

	test("CPace of the draft", () => {
		const v = vectors.cpaceDraft.values;
		const a = new CPace(bytes(v.PRS), bytes(v.CI), bytes(v.sid), little(v.ya));
		const b = new CPace(bytes(v.PRS), bytes(v.CI), bytes(v.sid), little(v.yb));
		expect(hex(a.share)).toBe(v.Ya);
		expect(hex(b.share)).toBe(v.Yb);
		expect(hex(a.isk(b.share, true, bytes(v.ADa), bytes(v.ADb)))).toBe(v.ISK);
		expect(hex(b.isk(a.share, false, bytes(v.ADa), bytes(v.ADb)))).toBe(v.ISK);
		expect(() => a.isk(bytes(v.identity), true, bytes(v.ADa), bytes(v.ADb))).toThrow();
		expect(() => a.isk(bytes(v.notCanonical), true, bytes(v.ADa), bytes(v.ADb))).toThrow();
	});

	test("a code's exchange", async () => {
		const v = vectors.cpace;
		const code = parseCode(v.code) as NonNullable<ReturnType<typeof parseCode>>;
		const sid = bytes(v.sid);
		const receiver = CodeExchange.redeem(code, sid, little(v.scalarA));
		expect(receiver.message.y).toBe(toBase64(bytes(v.ya)));
		const sender = CodeExchange.answer(code, receiver.message, little(v.scalarB));
		expect(sender?.message.y).toBe(toBase64(bytes(v.yb)));
		const confirm = receiver.exchange.confirm(sender?.message ?? {});
		expect(confirm?.confirm).toBe(v.confirm);
		const ticket = { id: v.id, secret: v.secret };
		expect(sender?.exchange.confirmed(confirm ?? {})).toBe(true);
		const sealed = await sender?.exchange.seal(ticket);
		expect(sealed?.link).toBe(v.link);
		expect(await receiver.exchange.open(sealed ?? {})).toEqual(ticket);
	});

	test("wrong words give nothing", () => {
		const right = { number: "7", words: "maple-otter" };
		const receiver = CodeExchange.redeem({ number: "7", words: "maple-beaver" });
		const sender = CodeExchange.answer(right, receiver.message);
		const confirm = receiver.exchange.confirm(sender?.message ?? {});
		expect(sender?.exchange.confirmed(confirm ?? {})).toBe(false);
	});

	test("a second step 2 gets no answer: each would try other words", () => {
		const code = { number: "7", words: "maple-otter" };
		const receiver = CodeExchange.redeem(code);
		const guess = (words: string) => CodeExchange.answer({ number: "7", words }, receiver.message)?.message ?? {};
		expect(receiver.exchange.confirm(guess("maple-beaver"))).not.toBeNull();
		expect(receiver.exchange.confirm(guess("maple-otter"))).toBeNull();
		const other = CodeExchange.redeem(code);
		expect(other.exchange.confirm({ step: 2, y: "AAAA" })).toBeNull();
		expect(other.exchange.confirm(guess("maple-otter"))).toBeNull();
	});
});

describe("fingerprints", () => {
	test.each(vectors.fingerprints)("%#", ({ sdp, valid, f }) => {
		const found = fingerprintOf(sdp);
		expect(found ? hex(found) : undefined).toBe(valid ? f : undefined);
	});

	test("tags", () => {
		const v = vectors.mac;
		const prover = new Prover({ id: v.id, secret: toBase64(bytes(v.secret)) });
		expect(prover.offer(v.pc, bytes(v.fOffer))).toBe(v.offer);
		expect(prover.answer(v.pc, bytes(v.fOffer), bytes(v.fAnswer))).toBe(v.answer);
		expect(sameTag(v.offer, v.offer)).toBe(true);
		for (const wrong of [v.answer, v.offer.slice(1), "", null, 7]) expect(sameTag(wrong, v.offer)).toBe(false);
	});
});

test.each(vectors.ends)("the name of $end towards other receivers", ({ end, others }) => {
	expect(endForOthers(end)).toBe(others);
});

describe("messages", () => {
	test.each(vectors.messages)("%j", ({ message, valid }) => {
		const text = JSON.stringify(message);
		const { type } = message as { type?: unknown };
		if (type === "of-the-future") expect(decodeMessage(text)).toBeNull();
		else if (valid) expect(decodeMessage(text)).toMatchObject({ type });
		else expect(() => decodeMessage(text)).toThrow();
	});

	test.each(vectors.parts)("part %#", ({ bytes: text, valid, file, block, length, offset, hash, data }) => {
		const read = () => {
			const { part } = decodeBinary(bytes(text).buffer);
			// What is wrong with a part by itself is found when it is put together, too.
			const size = (block as number) * 262_144 + (length as number);
			if (part && !valid) new Assembler(() => size).add(part);
			return part;
		};
		if (!valid) {
			expect(read).toThrow();
			return;
		}
		const part = read();
		expect({ ...part, hash: hex(part?.hash as Uint8Array), bytes: hex(part?.bytes as Uint8Array) }).toEqual({
			file,
			block,
			length,
			offset,
			hash,
			bytes: data,
		});
	});

	test("hashes", () => {
		const { bytes: text, file, first, hashes } = vectors.hashes;
		const read = decodeBinary(bytes(text).buffer).hashes;
		expect(read && { ...read, hashes: read.hashes.map(hex) }).toEqual({ file, first, hashes });
		expect(hex(encodeHashes({ file, first, hashes: hashes.map(bytes) }))).toBe(text);
	});

	test.each([1, 53, 65_536, 131_124, 262_144])("a block in messages of at most %d bytes", (messageBytes) => {
		const content = Uint8Array.from({ length: 5_000 }, (_, i) => i);
		const hash = sha256(content);
		const assembler = new Assembler(() => 262_144 + 5_000);
		const messages = [...encodeBlock(3, 1, content, hash, Math.max(messageBytes, 53))];
		for (const [index, message] of messages.entries()) {
			const { part } = decodeBinary(message.buffer);
			const whole = assembler.add(part as NonNullable<typeof part>);
			if (index < messages.length - 1) expect(whole).toBeNull();
			else expect(whole).toEqual({ file: 3, block: 1, hash, bytes: content });
		}
	});
});

describe("roots", () => {
	test.each(vectors.roots)("of a file of $size bytes", ({ size, hashes, root }) => {
		expect(hex(fileRoot(size, hashes.map(bytes)))).toBe(root);
		const content = Uint8Array.from({ length: size }, (_, i) => i % 251);
		const own = hashes.map((_, i) => sha256(content.subarray(i * 262_144, (i + 1) * 262_144)));
		expect(own.map(hex)).toEqual(hashes);
	});

	test.each(vectors.manifestRoots)("of manifest %#", ({ entries, roots, root }) => {
		const rooted = entries.map((entry, i) => ({ ...entry, root: bytes(roots[i] as string) }));
		expect(hex(manifestRoot(rooted as Parameters<typeof manifestRoot>[0]))).toBe(root);
	});
});

describe("paths", () => {
	test.each(vectors.paths)("$path", ({ path, safe }) => {
		expect(isPath(path)).toBe(safe);
	});

	test("names for the most particular disk", () => {
		// The browser does not know the disk, so that there is one form only.
		for (const { windows, folds, paths, names } of vectors.localNames) {
			if (windows && folds) expect(localPaths(paths.map((path) => ({ path })))).toEqual(names);
		}
	});
});

describe("depots", () => {
	const v = vectors.depot;
	const keys = new DepotKeys({ id: v.id, secret: toBase64(bytes(v.secret)) });

	test("tokens", () => {
		expect(keys.read).toBe(v.read);
		expect(tokenHash(keys.read)).toBe(v.hash);
		expect(keys.takerOf(v.end)).toBe(v.taker);
	});

	test.each(v.objects)("object $number", async ({ number, nonce, plain, sealed }) => {
		expect(hex(await keys.seal(number, bytes(plain), bytes(nonce)))).toBe(sealed);
		expect(hex(await keys.open(number, bytes(sealed)))).toBe(plain);
		await expect(keys.open(number + 1, bytes(sealed))).rejects.toThrow(SealedError);
		const damaged = bytes(sealed);
		damaged[damaged.length - 1] = (damaged.at(-1) as number) ^ 1;
		await expect(keys.open(number, damaged)).rejects.toThrow(SealedError);
	});

	test.each([1, 7, 100, 1_000])("objects that arrive in pieces of %d bytes", (piece) => {
		const reader = new ObjectReader();
		const frames = bytes(v.frames);
		const found = [];
		for (let at = 0; at < frames.length; at += piece) found.push(...reader.add(frames.slice(at, at + piece)));
		expect(found.map(({ number, object }) => [number, hex(object)])).toEqual(
			v.objects.map(({ number, sealed }) => [number, sealed]),
		);
		expect(reader.empty).toBe(true);
		expect(() => [...new ObjectReader().add(new Uint8Array(12).fill(255))]).toThrow(WireError);
	});

	test.each(v.layouts)("layout of $sizes", ({ sizes, valid, blocks, lists, counts }) => {
		const layout = new Layout();
		const add = () => {
			for (const size of sizes) layout.add({ size });
		};
		if (!valid) {
			expect(add).toThrow(WireError);
			return;
		}
		add();
		expect(sizes.map((_, file) => layout.block(file, 0))).toEqual(blocks);
		expect(sizes.map((_, file) => layout.list(file, 0))).toEqual(lists);
		expect(sizes.map(listCount)).toEqual(counts);
		if (sizes[0] === null) return;
		// Each number is the block that it is said to be.
		const all = sizes.flatMap((size, file) =>
			Array.from({ length: Math.min(5, Math.ceil((size as number) / 262_144)) }, (_, block) => [file, block, 1]),
		);
		for (const [file, block] of all) {
			expect([...layout.ranges(layout.block(file as number, block as number), 1)]).toEqual([[file, block, 1]]);
		}
	});

	test.each(v.lists)("list %#", ({ bytes: text, valid, size, hashes }) => {
		if (!valid) {
			expect(() => decodeList(bytes(text))).toThrow(WireError);
			return;
		}
		const list = decodeList(bytes(text));
		expect([list.size ?? -1, list.hashes.map(hex)]).toEqual([size, hashes]);
		expect(hex(encodeList(list.size, list.hashes))).toBe(text);
	});

	test("ranges over several files", () => {
		const layout = new Layout();
		for (const size of [0, 300_000, 0, 5, 0, 1_000_000]) layout.add({ size });
		expect([...layout.ranges(layout.block(1, 1), 4)]).toEqual([
			[1, 1, 1],
			[3, 0, 1],
			[5, 0, 2],
		]);
		expect([...layout.ranges(layout.block(5, 3), 9)]).toEqual([[5, 3, 1]]);
	});
});
