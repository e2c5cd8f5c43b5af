import { expect, test } from "vitest";
import { droppedFiles } from "../src/transfer/files.js";

// What a browser says of things that were dropped: a tree of entries, whose folders are read in pieces.

const fileEntry = (name: string) => ({
	name,
	isFile: true,
	file: (resolve: (file: File) => void) => resolve(new File(["x"], name)),
});

const folderEntry = (name: string, children: unknown[]) => ({
	name,
	isFile: false,
	createReader: () => {
		const rest = [...children];
		return { readEntries: (resolve: (some: unknown[]) => void) => resolve(rest.splice(0, 2)) };
	},
});

const dropped = async (entries: (object | null)[], files: File[] = []) => {
	const items = entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry }));
	const chosen = await droppedFiles({ items, files } as unknown as DataTransfer);
	return chosen.map(({ path, file }) => [path, file?.name ?? null]);
};

test("a folder that is dropped comes with all that is in it, also what is empty", async () => {
	const inner = folderEntry("in", ["a", "b", "c", "d", "e"].map(fileEntry));
	expect(
		await dropped([folderEntry("여행", [inner, folderEntry("none", []), fileEntry("z")]), fileEntry("z")]),
	).toEqual([
		["여행/in/a", "a"],
		["여행/in/b", "b"],
		["여행/in/c", "c"],
		["여행/in/d", "d"],
		["여행/in/e", "e"],
		["여행/none", null],
		["여행/z", "z"],
		["z", "z"],
	]);
});

test("two files with one name are told apart, and files that are in no folder are taken as they are", async () => {
	expect(await dropped([fileEntry("a.txt"), fileEntry("a.txt")])).toEqual([
		["a.txt", "a.txt"],
		["a (2).txt", "a.txt"],
	]);
	expect(await dropped([null], [new File(["x"], "b")])).toEqual([["b", "b"]]);
});
