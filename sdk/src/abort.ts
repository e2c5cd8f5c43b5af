import { aborted } from "./errors.js";

/** Waits for `promise`, but no longer than until `signal` aborts; what the promise gives after that goes to `late`. */
export function abortable<T>(promise: Promise<T>, signal?: AbortSignal, late?: (value: T) => void): Promise<T> {
	if (!signal) return promise;
	return new Promise<T>((resolve, reject) => {
		let done = false;
		const abort = () => {
			done = true;
			reject(aborted(signal));
		};
		if (signal.aborted) abort();
		else signal.addEventListener("abort", abort, { once: true });
		promise.then(
			(value) => {
				signal.removeEventListener("abort", abort);
				if (done) late?.(value);
				else resolve(value);
			},
			(error) => {
				signal.removeEventListener("abort", abort);
				reject(error);
			},
		);
	});
}
