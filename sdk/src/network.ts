/** Why the network may have changed. */
export type NetworkHint = "online" | "visible" | "changed";

/**
 * Calls `listener` whenever the browser says something that may mean another network, until `signal` aborts. Hints can be wrong
 * and can be missing: they make things faster, nothing depends on them.
 */
export function onNetworkHint(listener: (hint: NetworkHint) => void, signal: AbortSignal): void {
	if (typeof window === "undefined") return;
	window.addEventListener("online", () => listener("online"), { signal });
	document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && listener("visible"), {
		signal,
	});
	// Network Information API: Chromium only.
	const connection = (navigator as Navigator & { connection?: EventTarget }).connection;
	connection?.addEventListener?.("change", () => listener("changed"), { signal });
}
