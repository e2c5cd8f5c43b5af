import { type ReceivedFile, type Receiving, type Sending, type TransferSdk, transferSdk } from "../files/sdk.js";
import type { Channel, DataLink, Peer } from "../sdk.js";
import { codeOf } from "../sdk.js";

// Files in a call: the offer goes to each peer on a data channel of the call, so that the server does not see the secret; the files then come
// over lanes of their own, signaled in the call's channel (docs/transfer.md §3, "In a call").

/** The data channel of offers. */
export const offerLabel = "madang.files";
/** Names that an offer shows; the whole list comes with the transfer. */
const shownNames = 3;
const nameLength = 255;

interface Offer {
	readonly id: string;
	readonly secret: string;
	readonly names: readonly string[];
	readonly count: number;
	/** `null`: not known. */
	readonly bytes: number | null;
	/** The ends meet in the transfer's own channel: who offers does not stay in the call. */
	readonly apart?: boolean;
}

/** As whom one is in the call. */
interface Access {
	readonly server?: string;
	readonly key?: string;
	readonly name: string;
}

/** An offer in the chat: one's own, or somebody's. */
export interface FileCard {
	readonly offer: Offer;
	/** `null`: one's own. */
	readonly from: { readonly id: string; readonly name: string } | null;
	state: "offered" | "accepted" | "done" | "over";
	/** A code, when it is over for another reason than success. */
	code: string | null;
	sending: Sending | null;
	receiving: Receiving | null;
	saved: { name: string; content: Blob } | null;
}

/** Reads what a peer's page says; `null` if it is no offer. */
export function parseOffer(data: unknown): Offer | null {
	let value: Record<string, unknown>;
	try {
		value = JSON.parse(String(data)) as Record<string, unknown>;
	} catch {
		return null;
	}
	const { id, secret, names, count, bytes, apart } = value ?? {};
	if (typeof id !== "string" || typeof secret !== "string" || !Array.isArray(names)) return null;
	if (!Number.isSafeInteger(count) || (count as number) < 1) return null;
	if (bytes !== null && (!Number.isSafeInteger(bytes) || (bytes as number) < 0)) return null;
	const shown = names.filter((name) => typeof name === "string").map((name: string) => name.slice(0, nameLength));
	return {
		id,
		secret,
		names: shown.slice(0, shownNames),
		count: count as number,
		bytes: bytes as number | null,
		...(apart === true ? { apart } : {}),
	};
}

export class CallFiles {
	readonly #channel: Channel;
	readonly #access: Access;
	readonly #changed: () => void;
	readonly #came: (card: FileCard) => void;
	readonly #cards = new Set<FileCard>();

	/** `came` shows a card, `changed` draws again. */
	constructor(channel: Channel, access: Access, changed: () => void, came: (card: FileCard) => void) {
		this.#channel = channel;
		this.#access = access;
		this.#changed = changed;
		this.#came = came;
	}

	/** Hears offers of a peer. */
	watch(peer: Peer): unknown {
		return peer.on("data", (link?: DataLink) => {
			if (link?.label !== offerLabel) return;
			link.on("message", (data) => {
				const offer = parseOffer(data);
				if (offer) this.#show({ offer, from: { id: peer.id, name: peer.name } });
				link.close(); // read: who does not stay in the call waits for it
			});
		});
	}

	#show(start: Pick<FileCard, "offer" | "from">): FileCard {
		const card: FileCard = { ...start, state: "offered", code: null, sending: null, receiving: null, saved: null };
		this.#cards.add(card);
		this.#came(card);
		return card;
	}

	/** Offers files to all who are there now. */
	async offer(choose: (sdk: TransferSdk) => Awaited<ReturnType<TransferSdk["droppedFiles"]>>): Promise<void> {
		const sdk = await transferSdk(this.#access.server ?? "");
		const chosen = choose(sdk);
		const peers = [...this.#channel.peers.values()];
		if (chosen.length === 0 || peers.length === 0) return;
		const sending = await sdk.sendFiles(chosen, {
			channel: this.#channel as unknown as NonNullable<Parameters<TransferSdk["sendFiles"]>[1]>["channel"],
			receivers: peers.length,
			name: this.#access.name,
		});
		await sending.listed;
		const offer: Offer = {
			...sending.ticket,
			names: chosen.slice(0, shownNames).map(({ path }) => path.slice(0, nameLength)),
			count: chosen.length,
			bytes: sending.bytes,
		};
		const card = this.#show({ offer, from: null });
		card.sending = sending;
		sending.on("changed", this.#changed);
		sending.on("ended", (error) => {
			card.state = error ? "over" : "done";
			card.code = error ? error.code : null;
			this.#changed();
		});
		await Promise.allSettled(
			peers.map(async (peer) => {
				const link = await peer.openData(offerLabel);
				await link.send(JSON.stringify(offer));
			}),
		);
	}

	async accept(card: FileCard): Promise<void> {
		const { offer, from } = card;
		if (!from || card.state !== "offered") return;
		card.state = "accepted";
		this.#changed();
		try {
			const sdk = await transferSdk(this.#access.server ?? "");
			const receiving = await sdk.receiveFiles(
				{ id: offer.id, secret: offer.secret },
				offer.apart
					? this.#access
					: {
							channel: this.#channel as unknown as NonNullable<Parameters<TransferSdk["receiveFiles"]>[1]>["channel"],
							peer: from.id,
							name: this.#access.name,
						},
			);
			card.receiving = receiving;
			receiving.on("changed", this.#changed);
			receiving.on("manifest", () => receiving.accept().catch((error: unknown) => this.#over(card, error)));
			receiving.on("complete", (received) => void this.#complete(sdk, card, received));
			receiving.on("ended", (error) => error && this.#over(card, error));
		} catch (error) {
			this.#over(card, error);
		}
	}

	async #complete(sdk: TransferSdk, card: FileCard, received: readonly ReceivedFile[]): Promise<void> {
		const entries = card.receiving?.entries ?? [];
		card.saved = await sdk.save(received, entries, "madang-files");
		if (card.saved) sdk.offerDownload(card.saved);
		card.state = "done";
		this.#changed();
	}

	#over(card: FileCard, error: unknown): void {
		card.state = "over";
		card.code = codeOf(error);
		card.receiving?.cancel();
		this.#changed();
	}

	/** Ends a transfer, or says no to an offer. */
	cancel(card: FileCard): void {
		if (card.state === "offered" && card.from) {
			card.state = "over";
			card.code = "declined";
		}
		card.sending?.cancel();
		card.receiving?.cancel();
		this.#changed();
	}

	/** The call is over: what has not arrived does not. */
	close(): void {
		for (const card of this.#cards) if (card.state === "accepted" || card.sending) this.cancel(card);
		this.#cards.clear();
	}
}
