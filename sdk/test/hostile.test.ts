import { expect, test } from "vitest";
import { decodeJournal } from "../src/transfer/journal.js";
import { fingerprintOf, parseCode, parseLink } from "../src/transfer/secret.js";
import { Assembler, decodeBinary, decodeMessage, WireError } from "../src/transfer/wire.js";

// Bytes from outside: whatever they are, they are read or refused, and nothing else happens.

let state = 20_261_128;
const random = (limit: number) => {
	state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
	return state % limit;
};

const messages = [
	'{"type":"hello","version":1,"role":"sender","end":"AAECAwQFBgcICQoLDA0ODw"}',
	'{"type":"manifest","from":0,"entries":[{"path":"a/b","size":7,"mtimeMs":1,"mode":420}],"last":true}',
	'{"type":"want","blocks":[[0,0,64],[1,0,1]]}',
	'{"type":"root","file":0,"root":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}',
];

function mutate(text: string): string {
	const characters = [...text];
	for (let i = random(4); i >= 0; i--) {
		const at = random(characters.length);
		if (random(3) === 0) characters.splice(at, random(9));
		else characters[at] = '{}[]",:0129-.e\\u\0é'[random(18)] ?? "";
	}
	return characters.join("");
}

const refusedOrRead = (read: () => unknown) => {
	try {
		read();
	} catch (error) {
		expect(error).toBeInstanceOf(WireError);
	}
};

test("text messages", () => {
	for (let i = 0; i < 20_000; i++)
		refusedOrRead(() => decodeMessage(mutate(messages[random(messages.length)] as string)));
});

test("binary messages, and blocks made of them", () => {
	const assembler = new Assembler((file) => (file < 2 ? 300_000 : undefined));
	for (let i = 0; i < 20_000; i++) {
		const bytes = new Uint8Array(random(90));
		for (let at = 0; at < bytes.length; at++) bytes[at] = random(4) === 0 ? random(256) : 0;
		if (bytes.length > 0) bytes[0] = random(4);
		refusedOrRead(() => {
			const { part } = decodeBinary(bytes.buffer);
			if (part) assembler.add(part);
		});
	}
});

test("links, codes, descriptions and journals", () => {
	for (let i = 0; i < 5_000; i++) {
		const text = mutate("https://a.example/f/abcdefghijklmnop#AAECAwQFBgcICQoLDA0ODw a=fingerprint:sha-256 AA:BB\r\n");
		parseLink(text);
		parseCode(text);
		fingerprintOf(text);
		decodeJournal(new TextEncoder().encode(text));
	}
});
