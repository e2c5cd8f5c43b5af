import type { MadangError } from "./errors.js";

/** Decides when a lost link to the server is opened again. */
export interface ReconnectPolicy {
	/**
	 * How long to wait before attempt number `attempt` (0 is the first after the loss), in milliseconds, or `null` to give up and
	 * leave the channel. A hint of a working network (`online`, the page being shown again) cuts the wait short.
	 */
	nextDelayMs(attempt: number, error: MadangError): number | null;
}

/**
 * The default policy: up to 0.4 s, then 0.5, 1, 2, 4 and 5 s, after twelve attempts up to 30 s, each shortened at random by up to a half so
 * that the clients of a restarted server do not all come at once. It never gives up: a call may go on without the server.
 */
export const defaultReconnect: ReconnectPolicy = {
	nextDelayMs(attempt) {
		if (attempt === 0) return Math.random() * 400;
		const capMs = attempt > 12 ? 30_000 : 5_000;
		return Math.min(capMs, 500 * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
	},
};
