import { defineConfig } from "vitest/config";

// Four builds: an ES module, a classic script that defines `Madang` (--mode global), and for file transfer a module that imports the first one
// (--mode transfer) and the script of its worker (--mode worker).
export default defineConfig(({ mode }) => {
	const builds: Record<string, { entry: string; format: "es" | "iife"; file: string }> = {
		global: { entry: "src/index.ts", format: "iife", file: "madang.global.js" },
		transfer: { entry: "src/transfer/index.ts", format: "es", file: "madang-transfer.js" },
		worker: { entry: "src/transfer/worker.ts", format: "es", file: "madang-transfer-worker.js" },
	};
	const build = builds[mode] ?? { entry: "src/index.ts", format: "es", file: "madang.js" };
	return {
		// A classic script learns its address from document.currentScript instead.
		define: mode === "global" ? { "import.meta.url": "undefined" } : {},
		build: {
			target: "es2022",
			sourcemap: true,
			emptyOutDir: !(mode in builds),
			lib: { entry: build.entry, name: "Madang", formats: [build.format], fileName: () => build.file },
			rolldownOptions: {
				// What calls and transfers have in common is loaded once.
				external: mode === "transfer" ? (id) => id.endsWith("/index.js") && !id.includes("node_modules") : [],
				output: { minify: true, chunkFileNames: "[name].js", paths: mode === "transfer" ? () => "./madang.js" : {} },
			},
		},
		// What hangs ends, but nothing ends for a machine that is busy.
		test: { testTimeout: 120_000, hookTimeout: 120_000 },
	};
});
