import { afterEach, expect, test, vi } from "vitest";
import { Emitter } from "../src/emitter.js";

afterEach(() => vi.unstubAllGlobals());

class Source extends Emitter<{ tick: [n: number] }> {}

test("a throwing or rejecting listener does not stop the others, and is reported", async () => {
	const reported: unknown[] = [];
	vi.stubGlobal("reportError", (error: unknown) => reported.push(error));
	const source = new Source();
	const heard: number[] = [];
	source.on("tick", () => {
		throw new Error("one");
	});
	source.on("tick", async () => {
		throw new Error("two");
	});
	source.on("tick", (n) => heard.push(n));
	source.emit("tick", 7);
	await Promise.resolve();
	await Promise.resolve();
	expect(heard).toEqual([7]);
	expect(reported.map((error) => (error as Error).message)).toEqual(["one", "two"]);
});

test("a listener that was removed while the event is delivered is not called", () => {
	const source = new Source();
	const heard: string[] = [];
	const stops: (() => void)[] = [];
	stops.push(
		source.on("tick", () => {
			heard.push("first");
			for (const stop of stops) stop();
		}),
	);
	stops.push(source.on("tick", () => heard.push("second")));
	source.on("tick", () => heard.push("third"));
	source.emit("tick", 1);
	source.emit("tick", 2);
	expect(heard).toEqual(["first", "third", "third"]);
});

test("a listener that was added while the event is delivered hears the next one", () => {
	const source = new Source();
	const heard: number[] = [];
	source.once("tick", () => source.on("tick", (n) => heard.push(n)));
	source.emit("tick", 1);
	source.emit("tick", 2);
	expect(heard).toEqual([2]);
});

test("once and an abort signal end a listener", () => {
	const source = new Source();
	const heard: string[] = [];
	const abort = new AbortController();
	source.once("tick", (n) => heard.push(`once ${n}`));
	source.on("tick", (n) => heard.push(`until ${n}`), { signal: abort.signal });
	source.emit("tick", 1);
	abort.abort();
	source.emit("tick", 2);
	source.on("tick", () => heard.push("never"), { signal: abort.signal });
	source.emit("tick", 3);
	expect(heard).toEqual(["once 1", "until 1"]);
});
