// Fails when the module that every page loads has outgrown its budget.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const budgetBytes = 25 * 1024;
for (const name of ["madang.js", "madang.global.js"]) {
	const bytes = gzipSync(readFileSync(new URL(`dist/${name}`, import.meta.url)), { level: 9 }).length;
	console.log(`${name}: ${bytes} bytes with gzip, budget ${budgetBytes}`);
	if (bytes > budgetBytes) {
		console.error(`${name} is ${bytes - budgetBytes} bytes over its budget`);
		process.exitCode = 1;
	}
}
