import { sha256 } from "@noble/hashes/sha2.js";

/** SHA-256 of a block, by the browser where it does that: on pages with https. */
export async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
	const { subtle } = globalThis.crypto;
	return subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : sha256(bytes);
}

export const sameHash = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, i) => byte === b[i]);
