import "./page.css";
import { MadangCall } from "./call/element.js";
import { sdk } from "./real-sdk.js";

MadangCall.prototype.sdk = sdk;
MadangCall.scriptOrigin = location.origin;

const element = document.querySelector("madang-call");
if (element) {
	const query = new URLSearchParams(location.search);
	const set = (attribute: string, value: string | null) => value && element.setAttribute(attribute, value);
	let channel = "";
	try {
		channel = decodeURIComponent(/^\/c\/([^/]+)/.exec(location.pathname)?.[1] ?? "");
	} catch {
		// A broken escape is not a channel's name; the element says so.
	}
	set("channel", channel);
	set("name", query.get("name"));
	set("lang", query.get("lang"));
	set("layout", query.get("layout"));
	if (query.get("join") === "1") element.setAttribute("autojoin", "");
	if (query.get("ring") === "1") element.setAttribute("ring", "");
	// A token is a secret for this visit: out of the address, so that it is neither copied nor kept in the history. A fragment is not even sent.
	const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? query.get("token");
	if (token) {
		set("token", token);
		query.delete("token");
		const rest = query.toString();
		history.replaceState(null, "", location.pathname + (rest ? `?${rest}` : ""));
	}
	if (!customElements.get("madang-call")) customElements.define("madang-call", MadangCall);
}
