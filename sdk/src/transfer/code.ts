import { type Channel, join, MadangError } from "../index.js";
import type { Peer } from "../peer.js";
import { infoOf, roleOf } from "./meeting.js";
import { type Code, CodeExchange, type CodeMessage, newCode, type Ticket } from "./secret.js";

// Codes that people say to each other: docs/transfer.md §2. The sender waits in the channel that the code's number names; a receiver who knows
// the words gets the link there, and the server learns nothing.

/** What is needed to join a channel of the server. */
export interface Access {
	readonly server: string;
	readonly key?: string | undefined;
	readonly token?: string | ((channel: string) => string | Promise<string>) | undefined;
}

export function enter(
	access: Access,
	channel: string,
	role: "sender" | "receiver",
	signal?: AbortSignal,
): Promise<Channel> {
	const { server, key, token } = access;
	return join({
		channel,
		server,
		key,
		token: typeof token === "function" ? () => token(channel) : token,
		info: infoOf(role),
		connect: false,
		signal,
	});
}

const codeOf = (data: unknown) => (data as { code?: CodeMessage } | null)?.code;

/** The fifth time that the words are wrong ends the code. */
const attempts = 5;
/** Numbers that are tried, when others have them already. */
const numbers = 8;

/** Why a code does not work any more: it has bought the link, or the words were wrong five times. */
export type CodeEnd = "redeemed" | "wrong";

/** The sender's side of a code. */
export class CodeDesk {
	readonly code: string;
	readonly #channel: Channel;
	readonly #ticket: Ticket;
	readonly #words: Code;
	readonly #once: boolean;
	readonly #ended: (end: CodeEnd) => void;
	#left = attempts;
	#spent = false;

	private constructor(channel: Channel, words: Code, ticket: Ticket, once: boolean, ended: (end: CodeEnd) => void) {
		this.#channel = channel;
		this.#words = words;
		this.#ticket = ticket;
		this.#once = once;
		this.#ended = ended;
		this.code = `${words.number}-${words.words}`;
		for (const peer of channel.peers.values()) this.#listen(peer);
		channel.on("peer-joined", (peer) => this.#listen(peer));
	}

	/** Takes a number that nobody uses. `once`: the code ends when it has been redeemed. `ended` is called when it ends by itself. */
	static async open(
		access: Access,
		ticket: Ticket,
		once: boolean,
		ended: (end: CodeEnd) => void,
		signal?: AbortSignal,
	): Promise<CodeDesk> {
		for (let attempt = 0; ; attempt++) {
			const words = newCode();
			const channel = await enter(access, `fc.${words.number}`, "sender", signal);
			// Who is there already keeps it.
			const taken = [...channel.peers.values()].some((peer) => roleOf(peer) === "sender");
			if (!taken) return new CodeDesk(channel, words, ticket, once, ended);
			void channel.leave();
			if (attempt >= numbers) throw new MadangError("busy");
		}
	}

	#listen(peer: Peer): void {
		let exchange: CodeExchange | null = null;
		const say = (code: CodeMessage) => peer.signal({ code });
		peer.on("signal", async (data) => {
			const message = codeOf(data);
			if (!message || roleOf(peer) !== "receiver") return;
			if (this.#spent) return say({ error: "code_spent" });
			if (message.step === 1) {
				const answer = CodeExchange.answer(this.#words, message);
				exchange = answer?.exchange ?? null;
				if (answer) say(answer.message);
			} else if (message.step === 3 && exchange) {
				const present: CodeExchange = exchange;
				exchange = null;
				if (present.confirmed(message)) {
					this.#spent = this.#once;
					say(await present.seal(this.#ticket));
					if (this.#once) this.#ended("redeemed");
				} else if (--this.#left > 0) {
					say({ error: "code_wrong", left: this.#left });
				} else {
					this.#spent = true;
					say({ error: "code_spent" });
					this.#ended("wrong");
				}
			}
		});
	}

	close(): void {
		void this.#channel.leave();
	}
}

/** How long the sender's answer is waited for. */
const answerMs = 20_000;

/** Buys the link for a code. Rejects with `code_wrong`, `code_spent`, or `not_found` if nobody waits there. */
export async function redeem(access: Access, code: Code, signal?: AbortSignal): Promise<Ticket> {
	if (!globalThis.crypto.subtle) throw new MadangError("insecure_context");
	const channel = await enter(access, `fc.${code.number}`, "receiver", signal);
	try {
		const sender = [...channel.peers.values()].find((peer) => roleOf(peer) === "sender");
		if (!sender) throw new MadangError("not_found");
		return await new Promise<Ticket>((resolve, reject) => {
			const { exchange, message } = CodeExchange.redeem(code);
			setTimeout(() => reject(new MadangError("unreachable")), answerMs);
			signal?.addEventListener("abort", () => reject(new MadangError("aborted")));
			channel.on("peer-left", (peer) => peer === sender && reject(new MadangError("not_found")));
			sender.on("signal", async (data) => {
				const answer = codeOf(data);
				if (answer?.error) {
					const known = answer.error === "code_wrong" || answer.error === "code_spent";
					reject(new MadangError(known ? answer.error : "malformed", { detail: { left: answer.left } }));
				} else if (answer?.step === 2) {
					const confirm = exchange.confirm(answer);
					if (confirm) sender.signal({ code: confirm });
					else reject(new MadangError("malformed"));
				} else if (answer?.step === 4) {
					const ticket = await exchange.open(answer);
					if (ticket) resolve(ticket);
					else reject(new MadangError("code_wrong"));
				}
			});
			sender.signal({ code: message });
		});
	} finally {
		void channel.leave();
	}
}
