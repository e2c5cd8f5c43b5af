import { sha256 } from "@noble/hashes/sha2.js";
import { concat } from "./secret.js";

// Roots of files and of the manifest: docs/transfer.md §7. Blocks are hashed by WebCrypto; these few thousand small hashes are made here.

function u64(value: number): Uint8Array {
	const bytes = new Uint8Array(8);
	new DataView(bytes.buffer).setBigInt64(0, BigInt(value));
	return bytes;
}

function u32(value: number): Uint8Array {
	const bytes = new Uint8Array(4);
	new DataView(bytes.buffer).setUint32(0, value);
	return bytes;
}

/**
 * The head of a Merkle tree in the shape of RFC 9162 §2.1. Complete subtrees are joined as soon as there are two of the same height, so that
 * it takes one pass and little memory.
 */
function tree(leaves: Iterable<Uint8Array>): Uint8Array {
	const join = (left: Uint8Array, right: Uint8Array) => sha256(concat(Uint8Array.of(1), left, right));
	const stack: { hash: Uint8Array; height: number }[] = [];
	for (const leaf of leaves) {
		let node = { hash: leaf, height: 0 };
		while (stack.at(-1)?.height === node.height) {
			const left = stack.pop() as { hash: Uint8Array };
			node = { hash: join(left.hash, node.hash), height: node.height + 1 };
		}
		stack.push(node);
	}
	const last = stack.pop();
	if (!last) return sha256(new Uint8Array());
	return stack.reduceRight((right, { hash }) => join(hash, right), last.hash);
}

/** The root of a file, from the hashes of all of its blocks in order. */
export function fileRoot(size: number, hashes: Iterable<Uint8Array>): Uint8Array {
	return sha256(concat(Uint8Array.of(2), u64(size), tree(hashes)));
}

/** What of an entry is in the manifest's root. */
export interface RootedEntry {
	readonly path: string;
	readonly size?: number | null | undefined;
	readonly mtimeMs?: number | undefined;
	readonly mode?: number | undefined;
	readonly dir?: boolean | undefined;
	/** Of the file; absent for a folder. */
	readonly root?: Uint8Array | undefined;
}

const folderMode = 2 ** 31;

export function manifestRoot(entries: readonly RootedEntry[]): Uint8Array {
	const leaves = entries.map(({ path, size, mtimeMs, mode, dir, root }) => {
		const name = new TextEncoder().encode(path);
		return sha256(
			concat(
				u32(name.length),
				name,
				u64(size ?? 0),
				u64(mtimeMs ?? 0),
				u32(dir ? folderMode : (mode ?? 0)),
				root ?? new Uint8Array(32),
			),
		);
	});
	return sha256(concat(Uint8Array.of(3), u64(entries.length), tree(leaves)));
}
