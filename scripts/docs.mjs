// Turns docs/*.md into the pages that a node serves at /docs/. Run by `make web`: node scripts/docs.mjs OUTPUT_DIR
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import MarkdownIt from "markdown-it";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = process.argv[2];
if (!out) throw new Error("usage: node scripts/docs.mjs OUTPUT_DIR");

const titles = {
	sdk: "SDK",
	protocol: "Protocol",
	transfer: "Transfer protocol",
	api: "REST API",
	operations: "Operations",
	benchmarks: "Benchmarks",
	playrtc: "PlayRTC applications",
};
const sources = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
const pages = sources.map((name) => basename(name, ".md"));

const slug = (text) =>
	text
		.toLowerCase()
		.replace(/[^\p{L}\p{N}\s-]/gu, "")
		.trim()
		.replace(/\s/g, "-");

const markdown = new MarkdownIt({ html: false, linkify: false });
markdown.core.ruler.push("anchors", (state) => {
	state.tokens.forEach((token, i) => {
		if (token.type === "heading_open") token.attrSet("id", slug(state.tokens[i + 1].content));
	});
});
markdown.core.ruler.push("links", (state) => {
	for (const token of state.tokens) {
		for (const child of token.children ?? []) {
			if (child.type !== "link_open") continue;
			const href = child.attrGet("href");
			const [path, hash] = href.split("#");
			const page = basename(path, ".md");
			// A page of this folder becomes its HTML; what only the repository has stays text.
			if (path.endsWith(".md") && !path.includes("/") && pages.includes(page))
				child.attrSet("href", `${page}.html${hash ? `#${hash}` : ""}`);
			else if (!/^(https?:|\/|#)/.test(href)) child.attrs = child.attrs.filter(([name]) => name !== "href");
		}
	}
});

const navigation = (current) =>
	pages
		.toSorted((a, b) => Object.keys(titles).indexOf(a) - Object.keys(titles).indexOf(b))
		.map((page) => {
			const here = page === current ? ' aria-current="page"' : "";
			return `<a href="${page}.html"${here}>${titles[page] ?? page}</a>`;
		})
		.join("\n");

const document = (title, current, body) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · Madang</title>
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="docs.css">
</head>
<body>
<header>
<a class="home" href="/">마당 Madang</a>
<nav aria-label="Documents">
${navigation(current)}
<a href="sdk/">SDK reference</a>
<a href="/v1/openapi.json">OpenAPI</a>
</nav>
</header>
<main>
${body}
</main>
</body>
</html>
`;

mkdirSync(out, { recursive: true });
for (const page of pages) {
	// Comments mark generated parts; they are for editors of the source.
	const source = readFileSync(join(root, "docs", `${page}.md`), "utf8").replace(/<!--.*?-->\n?/gs, "");
	writeFileSync(join(out, `${page}.html`), document(titles[page] ?? page, page, markdown.render(source)));
}
const start = `<h1>Documents</h1>
<ul>
<li><a href="sdk.html">SDK</a>: calls and data in a page of your own, and the <a href="sdk/">reference of every class</a></li>
<li><a href="api.html">REST API</a>: projects, keys, tokens, channels; <a href="/v1/openapi.json">OpenAPI 3.1</a></li>
<li><a href="protocol.html">Protocol</a>: for authors of other clients</li>
<li><a href="transfer.html">Transfer protocol</a>: files, for authors of other clients</li>
<li><a href="operations.html">Operations</a>: ports, certificates, relay, limits, <code>madang doctor</code></li>
</ul>`;
writeFileSync(join(out, "index.html"), document("Documents", "", start));
writeFileSync(join(out, "docs.css"), readFileSync(join(root, "scripts", "docs.css")));
