/** The transfer module of the SDK, as far as the page uses it. It is loaded when it is needed, from the server that serves it. */
export type TransferSdk = typeof import("madang/transfer");
export type { Entry, ReceivedFile, Receiving, Sending, Target } from "madang/transfer";

let loading: Promise<TransferSdk> | null = null;

/** `server` is its base URL; default: that of the page. */
export function transferSdk(server = ""): Promise<TransferSdk> {
	loading ??= import(
		/* @vite-ignore */ new URL("/sdk/madang-transfer.js", server || location.origin).href
	) as Promise<TransferSdk>;
	return loading;
}
