import { MadangError } from "./errors.js";

/** Where this module came from; the build for classic scripts has no `import.meta`. */
export const loadedFrom: string | undefined =
	import.meta.url ??
	(typeof document === "undefined" ? undefined : (document.currentScript as HTMLScriptElement | null)?.src);

/** The server's base URL, with a slash at its end. */
export function baseURL(server: string | URL | undefined): string {
	if (server !== undefined) {
		const url = new URL(server, typeof location === "undefined" ? undefined : location.href);
		if (!url.pathname.endsWith("/")) url.pathname += "/";
		url.search = url.hash = "";
		return url.href;
	}
	const own = loadedFrom && /^https?:/.test(loadedFrom) ? new URL(loadedFrom) : undefined;
	// Our servers have it at /sdk/, perhaps below a path of a proxy. A bundle of the application's is anywhere on its origin.
	const prefix = own?.pathname.match(/^(.*\/)sdk\/madang(\.global|-transfer)?\.js$/)?.[1];
	if (own) return new URL(prefix ?? "/", own).href;
	if (typeof location === "undefined" || !/^https?:/.test(location.href)) {
		throw new MadangError("invalid_field", {
			message: "The option server is needed here.",
			detail: { field: "server" },
		});
	}
	return new URL("/", location.href).href;
}
