import { expect, test } from "vitest";
import { blockBytes } from "../src/transfer/blocks.js";
import { free } from "../src/transfer/free.js";

test("buffers that are given back are gone, without a collector", () => {
	const buffers = Array.from({ length: 64 }, () => new ArrayBuffer(blockBytes));
	for (const buffer of buffers) free(buffer);
	expect(buffers.map((buffer) => buffer.byteLength)).toEqual(buffers.map(() => 0));
});
