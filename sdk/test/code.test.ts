import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CodeDesk, type CodeEnd } from "../src/transfer/code.js";
import { type Code, CodeExchange, type CodeMessage, parseCode } from "../src/transfer/secret.js";
import { closePage, openPage } from "./page.js";
import type { Server } from "./server.js";

// The sender's side of a code, in a channel of the signaling server: docs/transfer.md §2.

let server: Server;
const ticket = { id: "a".repeat(16), secret: "AAAAAAAAAAAAAAAAAAAAAA" };
const ends: CodeEnd[] = [];

beforeEach(() => {
	({ server } = openPage());
	ends.length = 0;
});

afterEach(closePage);

async function open(once: boolean): Promise<Code> {
	const opening = CodeDesk.open({ server: "http://test.invalid/" }, ticket, once, (end) => ends.push(end));
	await vi.advanceTimersByTimeAsync(100);
	return parseCode((await opening).code) as Code;
}

let peers = 0;

/** Somebody comes who wants to try a code. */
function arrive(): string {
	const id = `r${++peers}`;
	const peer = { id, info: { transfer: { version: 1, role: "receiver" } }, polite: true, offer: false };
	server.member?.say({ type: "peer-joined", peer });
	return id;
}

/** Somebody new tries a code; what the desk says at last. */
async function attempt(code: Code): Promise<{ answer: CodeMessage; exchange: CodeExchange }> {
	const from = arrive();
	const said = () =>
		(server.member?.taken ?? []).flatMap(({ type, to, data }) =>
			type === "signal" && to === from ? [(data as { code: CodeMessage }).code] : [],
		);
	const ask = async (code: CodeMessage) => {
		const before = said().length;
		server.member?.say({ type: "signal", from, data: { code } });
		return vi.waitFor(() => {
			const answer = said()[before];
			if (!answer) throw new Error("no answer");
			return answer;
		}, 20_000);
	};
	const { exchange, message } = CodeExchange.redeem(code);
	const answer = await ask(message);
	const confirm = answer.step === 2 ? exchange.confirm(answer) : null;
	return { answer: confirm ? await ask(confirm) : answer, exchange };
}

test("the fifth time that the words are wrong ends a code, whoever says them and whatever was right in between", async () => {
	const code = await open(false);
	const wrong = { ...code, words: "wrong-words" };
	for (const left of [4, 3]) expect((await attempt(wrong)).answer).toEqual({ error: "code_wrong", left });
	const { answer, exchange } = await attempt(code);
	expect(await exchange.open(answer)).toEqual(ticket);
	for (const left of [2, 1]) expect((await attempt(wrong)).answer).toEqual({ error: "code_wrong", left });
	expect(ends).toEqual([]);
	expect((await attempt(wrong)).answer).toEqual({ error: "code_spent" });
	expect(ends).toEqual(["wrong"]);
	for (const late of [code, wrong]) expect((await attempt(late)).answer).toEqual({ error: "code_spent" });
	expect(ends).toEqual(["wrong"]);
});

test("who breaks off before the confirmation uses nothing up", async () => {
	const code = await open(true);
	for (let n = 0; n < 10; n++) {
		server.member?.say({ type: "signal", from: arrive(), data: { code: CodeExchange.redeem(code).message } });
	}
	const { answer, exchange } = await attempt(code);
	expect(await exchange.open(answer)).toEqual(ticket);
});

test("a code for one receiver ends when it has bought the link", async () => {
	const code = await open(true);
	const { answer, exchange } = await attempt(code);
	expect(await exchange.open(answer)).toEqual(ticket);
	expect(ends).toEqual(["redeemed"]);
	expect((await attempt(code)).answer).toEqual({ error: "code_spent" });
});
