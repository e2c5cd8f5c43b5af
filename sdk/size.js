// Fails when a module that pages load has outgrown its budget.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const budgetBytes = {
	"madang.js": 25 * 1024,
	"madang.global.js": 25 * 1024,
	// Loaded by those alone who send or receive files. Two thirds of it is the elliptic curve of the short codes.
	"madang-transfer.js": 34 * 1024,
	// It also gives to other receivers what it has, knows what waits on the server, and writes to places that users choose.
	"madang-transfer-worker.js": 26 * 1024,
};
for (const [name, budget] of Object.entries(budgetBytes)) {
	const bytes = gzipSync(readFileSync(new URL(`dist/${name}`, import.meta.url)), { level: 9 }).length;
	console.log(`${name}: ${bytes} bytes with gzip, budget ${budget}`);
	if (bytes > budget) {
		console.error(`${name} is ${bytes - budget} bytes over its budget`);
		process.exitCode = 1;
	}
}
