import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const at = (path: string) => decodeURIComponent(new URL(path, import.meta.url).pathname);

// What the server does for the pages, done for the gallery: `/c/…` is the call page, and the comment becomes what the page has to know.
const gallery: Plugin = {
	name: "gallery",
	configureServer(server) {
		server.middlewares.use((request, _response, next) => {
			const asked = request as { url?: string };
			if (asked.url?.startsWith("/c/")) asked.url = `/call.html${/\?.*/.exec(asked.url)?.[0] ?? ""}`;
			next();
		});
	},
	transformIndexHtml: (html) =>
		html.replace(
			"<!-- madang-node -->",
			'<script type="application/json" id="madang-node">{"key":"gallery","development":true}</script>',
		),
};

// Two builds into one folder: the pages (`vite build`), and then the element for other people's pages
// (`vite build --mode element`), which must be a single file without imports. Mode `gallery` serves the UI with a
// hand-written channel in place of the SDK, for looking at it without a server.
export default defineConfig(({ mode }) => ({
	root: at("."),
	base: "/",
	plugins: mode === "gallery" ? [gallery] : [],
	resolve: {
		alias: { madang: at(mode === "gallery" ? "test/fake-sdk.ts" : "../sdk/src/index.ts") },
	},
	build:
		mode === "element"
			? {
					outDir: at("dist"),
					emptyOutDir: false,
					target: "es2022",
					copyPublicDir: false,
					lib: { entry: at("src/element.ts"), formats: ["es"], fileName: () => "sdk/madang-call.js" },
					rolldownOptions: { output: { codeSplitting: false } },
				}
			: {
					outDir: at("dist"),
					emptyOutDir: true,
					target: "es2022",
					// Icons and style sheets stay files: a strict Content-Security-Policy needs no `data:`.
					assetsInlineLimit: 0,
					rolldownOptions: {
						input: { index: at("index.html"), call: at("call.html"), files: at("files.html") },
					},
				},
	server: { fs: { allow: [at("..")] } },
	test: { include: ["test/**/*.test.ts"], environment: "node", testTimeout: 120_000, hookTimeout: 120_000 },
}));
