// Builds the PlayRTC SDK beside the native one: classic scripts under the names that pages know, and a module for npm.
import { fileURLToPath } from "node:url";
import { build } from "vite";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

const outputs = [
	{ entry: "script.ts", file: "js/playrtc.js", minify: false },
	{ entry: "script.ts", file: "js/playrtc.min.js", minify: true },
	{ entry: "script.ts", file: "js/playrtc_test.js", minify: false, sourcemap: "inline" },
	{ entry: "debug-view.ts", file: "js/playrtc-debug-view.js", minify: true },
	{ entry: "index.ts", file: "playrtc.js", minify: true, module: true },
];

// A page gets window.PlayRTC, a CommonJS module its exports.
const exported = "if (typeof module === 'object' && module.exports) module.exports = PlayRTC;";

for (const { entry, file, minify, sourcemap = true, module = false } of outputs) {
	await build({
		configFile: false,
		root: path(".."),
		logLevel: "warn",
		// A classic script learns its address from document.currentScript instead.
		define: module ? {} : { "import.meta.url": "undefined" },
		build: {
			target: "es2022",
			outDir: "dist",
			emptyOutDir: false,
			sourcemap,
			minify,
			lib: { entry: path(entry), formats: [module ? "es" : "iife"], name: "PlayRTC", fileName: () => file },
			rolldownOptions: {
				output: {
					minify,
					codeSplitting: false,
					...(entry === "script.ts" ? { exports: "default", footer: exported } : {}),
				},
			},
		},
	});
}
