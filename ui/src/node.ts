/** What the page has to know about its server: the key to join with. */
export interface NodeInfo {
	readonly key?: string;
	readonly origin?: string;
	readonly development?: boolean;
}

function parse(value: unknown): NodeInfo {
	if (!value || typeof value !== "object") return {};
	const { key, origin, development } = value as Record<string, unknown>;
	return {
		...(typeof key === "string" && key !== "" ? { key } : {}),
		...(typeof origin === "string" && origin !== "" ? { origin } : {}),
		development: development === true,
	};
}

/** What the server wrote into its own pages: no request is needed before joining. */
export function inlineNodeInfo(document: Document): NodeInfo | null {
	const text = document.getElementById("madang-node")?.textContent;
	if (!text) return null;
	try {
		return parse(JSON.parse(text));
	} catch {
		return null;
	}
}

/** The same, asked of a server: for the element on other people's pages. */
export async function fetchNodeInfo(server: string, signal: AbortSignal): Promise<NodeInfo> {
	const response = await fetch(new URL("/v1/node", server), { signal, credentials: "omit" });
	if (!response.ok) throw new Error(`GET /v1/node: ${response.status}`);
	return parse(await response.json());
}
