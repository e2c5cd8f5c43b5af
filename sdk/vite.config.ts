import { defineConfig } from "vite";

// Two builds of one source: an ES module, and (--mode global) a classic script that defines `Madang`.
export default defineConfig(({ mode }) => {
	const global = mode === "global";
	return {
		// A classic script learns its address from document.currentScript instead.
		define: global ? { "import.meta.url": "undefined" } : {},
		build: {
			target: "es2022",
			sourcemap: true,
			emptyOutDir: !global,
			lib: {
				entry: "src/index.ts",
				name: "Madang",
				formats: [global ? "iife" : "es"],
				fileName: () => (global ? "madang.global.js" : "madang.js"),
			},
			rolldownOptions: { output: { minify: true, chunkFileNames: "[name].js" } },
		},
	};
});
