import { expect, test } from "vitest";
import { blockBytes } from "../src/transfer/blocks.js";
import { DirectStore } from "../src/transfer/direct.js";
import { save } from "../src/transfer/save.js";

// A place that a user has chosen, and that does not do all that is asked of it. In a browser: test/transfer_web_test.go.

const problem = (name: string) => new DOMException(name, name);

/** What all folders of a test share. */
class Disk {
	open = 0;
	mostOpen = 0;
	/** A name that cannot be closed. */
	bad = "";
	readOnly = false;
}

class Folder {
	readonly kind = "directory";
	readonly has = new Map<string, Folder | string>();
	readonly #disk: Disk;

	constructor(disk: Disk, has: Record<string, Folder | string> = {}) {
		this.#disk = disk;
		this.has = new Map(Object.entries(has));
	}

	#find(name: string, create: boolean | undefined, make: Folder | string): Folder | string {
		if (/^ |[ .]$|\.(?:lnk|url|scf)$/.test(name)) throw new TypeError("Name is not allowed.");
		const found = this.has.get(name);
		if (found !== undefined && typeof found !== typeof make) throw problem("TypeMismatchError");
		if (found !== undefined) return found;
		if (!create) throw problem("NotFoundError");
		if (this.#disk.readOnly) throw problem("NotAllowedError");
		this.has.set(name, make);
		return make;
	}

	async getDirectoryHandle(name: string, { create }: { create?: boolean } = {}) {
		return this.#find(name, create, new Folder(this.#disk));
	}

	async getFileHandle(name: string, { create }: { create?: boolean } = {}) {
		this.#find(name, create, "");
		return { kind: "file", createWritable: async () => this.#writable(name) };
	}

	#writable(name: string) {
		const disk = this.#disk;
		disk.mostOpen = Math.max(disk.mostOpen, ++disk.open);
		let content = "";
		let open = true;
		const end = () => {
			if (open) disk.open--;
			open = false;
		};
		return {
			write: async (data: Uint8Array | { data: Uint8Array }) => {
				const { length } = data instanceof Uint8Array ? data : data.data;
				content += `${length} `;
			},
			close: async () => {
				end();
				if (name === disk.bad) throw problem("QuotaExceededError");
				this.has.set(name, content);
			},
			abort: async () => end(),
		};
	}

	async removeEntry(name: string) {
		if (!this.has.delete(name)) throw problem("NotFoundError");
	}

	list(): unknown {
		return Object.fromEntries(
			[...this.has].map(([name, what]) => [name, what instanceof Folder ? what.list() : what.trim()]),
		);
	}
}

const file = (path: string, size = 1) => ({ path, size });

function store(folder: Folder, entries: { path: string; size: number; dir?: boolean }[]) {
	const direct = new DirectStore(folder as unknown as FileSystemDirectoryHandle, entries);
	const put = async (n: number) => {
		const { size } = entries[n] as { size: number };
		for (let at = 0; at < size; at += blockBytes) {
			await direct.write(n, at / blockBytes, new Uint8Array(Math.min(blockBytes, size - at)));
		}
	};
	return { direct, put };
}

test("nothing of the user's is replaced, and no name is tried for ever", async () => {
	const disk = new Disk();
	const folder = new Folder(disk, {
		"a.txt": "mine",
		"b.txt": new Folder(disk),
		photos: "mine",
		"c.txt.madang-part": "",
	});
	const entries = ["a.txt", "b.txt", "c.txt", "x.lnk", " y", "photos/sea.jpg", "links.url/z"].map((path) => file(path));
	const { direct, put } = store(folder, entries);
	for (const n of entries.keys()) {
		await put(n);
		direct.settle(n, true);
	}
	await direct.finish([...entries.keys()], []);
	expect(folder.list()).toEqual({
		"a.txt": "mine",
		"a (2).txt": "1",
		"b.txt": {},
		"b (2).txt": "1",
		"c.txt.madang-part": "",
		"c (2).txt": "1",
		"_x.lnk_": "1",
		"_ y_": "1",
		photos: "mine",
		"photos (2)": { "sea.jpg": "1" },
		"_links.url_": { z: "1" },
	});
});

test("a file has its name when it is whole, and not before", async () => {
	const folder = new Folder(new Disk());
	const size = 3 * blockBytes;
	const { direct, put } = store(folder, [
		file("whole", size),
		file("changed", size),
		file("begun", size),
		file("small"),
		file("empty", 0),
	]);
	for (const n of [0, 1, 2, 3]) await put(n);
	expect(folder.list()).toEqual({ "whole.madang-part": "", "changed.madang-part": "", "begun.madang-part": "" });
	direct.settle(0, true);
	direct.settle(1, false);
	direct.settle(4, true);
	await direct.close();
	expect(folder.list()).toEqual({ whole: "262144 262144 262144", empty: "" });
});

test("many files need few streams at a time", async () => {
	const disk = new Disk();
	const folder = new Folder(disk);
	const entries = Array.from({ length: 2_000 }, (_, n) => file(`d${n % 7}/${n}`, n * 100));
	const { direct, put } = store(folder, entries);
	for (const n of entries.keys()) {
		await put(n);
		direct.settle(n, true);
	}
	await direct.finish([...entries.keys()], []);
	expect([disk.open, [...folder.has.values()].reduce((sum, d) => sum + (d as Folder).has.size, 0)]).toEqual([0, 2_000]);
	expect(disk.mostOpen).toBeLessThan(5);
});

test("empty folders are made", async () => {
	const folder = new Folder(new Disk());
	const { direct } = store(folder, [
		{ path: "a/b", size: 0, dir: true },
		{ path: "not wanted", size: 0, dir: true },
	]);
	await direct.finish([], [0]);
	expect(folder.list()).toEqual({ a: { b: {} } });
});

test("a file that cannot be closed takes no others with it", async () => {
	const disk = new Disk();
	const folder = new Folder(disk);
	disk.bad = "b";
	const { direct, put } = store(folder, [file("a"), file("b"), file("c")]);
	for (const n of [0, 1, 2]) {
		await put(n);
		direct.settle(n, true);
	}
	await expect(direct.finish([0, 1, 2], [])).rejects.toThrow("QuotaExceededError");
	await direct.close();
	expect([folder.list(), disk.open]).toEqual([{ a: "1", c: "1" }, 0]);
});

test("a permission that was withdrawn ends it", async () => {
	const disk = new Disk();
	const { put } = store(new Folder(disk), [file("a", 2 * blockBytes)]);
	disk.readOnly = true;
	await expect(put(0)).rejects.toThrow("NotAllowedError");
});

test("an archive has the empty folders, too", async () => {
	const entries = [file("a/b.txt", 5), { path: "a/none", size: 0, dir: true }];
	const received = entries.map((entry, n) => ({ file: n, entry, content: n === 0 ? new Blob(["hello"]) : null }));
	const saved = await save(received, entries, "all");
	const text = new TextDecoder("latin1").decode(await saved?.content.arrayBuffer());
	expect([saved?.name, text.match(/a\/none\//g)?.length, text.match(/a\/b\.txt/g)?.length]).toEqual(["all.zip", 2, 2]);
});
