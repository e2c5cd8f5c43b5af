import { MadangError } from "../index.js";
import type { Target } from "./direct.js";
import { localPaths } from "./path.js";
import { cleanStaging, memoryBytes, removeStaging } from "./store.js";
import type { Entry } from "./wire.js";
import { zip } from "./zip.js";

// Where received files may go in this browser, and how they come to the user: docs/sdk.md, "Where received files go".

/** What the browser's storage takes beside the files: journals, and what it needs itself. */
const slackBytes = 16 << 20;

/** A file that has arrived. */
export interface ReceivedFile {
	/** Its number in the manifest. */
	readonly file: number;
	readonly entry: Entry;
	/** `null`: it is where the user wanted it, or an empty folder. */
	readonly content: Blob | null;
}

export interface Room {
	readonly kind: "staging" | "memory";
	/** Bytes that fit. */
	readonly bytes: number;
	/** Why it does not fit. */
	readonly error: MadangError | null;
	/** The user can choose a place on the disk instead, where there is perhaps more room. */
	readonly direct: boolean;
}

const canPick = () => typeof (globalThis as { showSaveFilePicker?: unknown }).showSaveFilePicker === "function";

/** Whether a transfer of so many bytes fits, and where. What is there of the same transfer already counts as room. */
export async function room(id: string, bytes: number): Promise<Room> {
	const direct = canPick();
	let free: number;
	try {
		if (!(await navigator.storage?.getDirectory?.())) throw new Error("no private file system");
		const staged = await stagedBytes(id);
		const wanted = Math.max(0, bytes + slackBytes - staged);
		free = (await freeBytes(wanted)) + staged;
		if (free < bytes + slackBytes && (await navigator.storage.persist())) {
			// Browsers give more to sites that they keep.
			free = (await freeBytes(wanted)) + staged;
		}
	} catch {
		// A page without https, or a private window.
		const fits = bytes <= memoryBytes;
		const error = fits ? null : new MadangError("no_storage", { detail: { bytes, limit: memoryBytes } });
		return { kind: "memory", bytes: memoryBytes, error, direct };
	}
	const fits = bytes + slackBytes <= free;
	const limit = Math.max(0, free - slackBytes);
	return {
		kind: "staging",
		bytes: limit,
		error: fits ? null : new MadangError("disk_full", { detail: { bytes, limit } }),
		direct,
	};
}

/**
 * Chromium tells every page that it may have so much more, if the disk has it, whatever it grants: a page must not learn how large the disk is, and
 * whether its window is a private one, which has far less ("Predictable reported storage quota", chromestatus.com/feature/4977371751645184).
 */
const mostTold = 10 * 2 ** 30;

/** How much of what is wanted the browser surely takes. */
async function freeBytes(wanted: number): Promise<number> {
	const { quota = 0, usage = 0 } = await navigator.storage.estimate();
	const told = quota - usage;
	if (told < Math.min(wanted, mostTold)) return told;
	for (let bytes = wanted; bytes > slackBytes; bytes = Math.floor(bytes / 2)) if (await fits(bytes)) return bytes;
	return Math.min(wanted, slackBytes);
}

/** Makes a file of that size, which takes no room on a disk as long as nothing is written, and drops it. */
async function fits(bytes: number): Promise<boolean> {
	const root = await navigator.storage.getDirectory();
	const name = `madang-room-${crypto.randomUUID()}`;
	const file = await root.getFileHandle(name, { create: true });
	try {
		const writable = await file.createWritable();
		try {
			await writable.truncate(bytes);
			return true;
		} catch (error) {
			if ((error as DOMException).name === "QuotaExceededError") return false;
			throw error;
		} finally {
			await writable.abort();
		}
	} finally {
		await root.removeEntry(name);
	}
}

async function stagedBytes(id: string): Promise<number> {
	let sum = 0;
	try {
		const root = await navigator.storage.getDirectory();
		const folder = await (await root.getDirectoryHandle("madang-transfers")).getDirectoryHandle(id);
		for await (const handle of folder.values()) {
			if (handle.kind === "file") sum += (await (handle as FileSystemFileHandle).getFile()).size;
		}
	} catch {
		// Nothing, or in use.
	}
	return sum;
}

interface Pickers {
	showSaveFilePicker(options: { suggestedName: string }): Promise<FileSystemFileHandle>;
	showDirectoryPicker(options: { mode: "readwrite" }): Promise<FileSystemDirectoryHandle>;
}

/**
 * Asks the user for a place: a file if the transfer has one, else a folder. To be called in the event of a click. `null` if the user closes the question, or
 * the browser has none.
 */
export async function pickTarget(entries: readonly Entry[]): Promise<Target | null> {
	if (!canPick()) return null;
	const pickers = globalThis as unknown as Pickers;
	try {
		if (entries.length !== 1 || entries[0]?.dir) return await pickers.showDirectoryPicker({ mode: "readwrite" });
		const [path] = localPaths(entries) as [string];
		return await pickers.showSaveFilePicker({ suggestedName: path.split("/").at(-1) as string });
	} catch (error) {
		if ((error as DOMException).name === "AbortError") return null;
		throw error;
	}
}

/** What there is to save: a name, and a content that is on the disk and not in memory. */
export interface Saved {
	readonly name: string;
	readonly content: Blob;
}

/** One file as it is; several as one ZIP file with their folders. `null` if the user has them already. */
export async function save(
	received: readonly ReceivedFile[],
	entries: readonly Entry[],
	name: string,
	progress?: (bytes: number) => void,
): Promise<Saved | null> {
	const names = localPaths(entries);
	const there = received.filter(({ content, entry }) => content || entry.dir);
	const [only] = there;
	if (!only) return null;
	if (received.length === 1 && only.content) {
		return { name: (names[only.file] as string).split("/").at(-1) as string, content: only.content };
	}
	const parts = there.map(({ file, entry, content }) => ({
		path: entry.dir ? `${names[file]}/` : (names[file] as string),
		content: content ?? new Blob(),
		modifiedMs: entry.mtimeMs ?? Date.now(),
	}));
	return { name: `${name}.zip`, content: await zip(parts, progress) };
}

/** Lets the browser copy it to where it keeps downloads. The copy is made by the browser, from disk to disk. */
export function offerDownload({ name, content }: Saved): void {
	const url = URL.createObjectURL(content);
	const link = document.createElement("a");
	link.href = url;
	link.download = name;
	link.click();
	// The browser reads it until the copy is made; that it holds on to it longer costs no memory.
	setTimeout(() => URL.revokeObjectURL(url), 24 * 3_600_000);
}

/** Removes what is left in the browser's storage of transfers that nobody has touched for a week, or of this one. */
export async function cleanUp(id?: string): Promise<void> {
	if (!globalThis.navigator?.storage?.getDirectory) return;
	if (id) await removeStaging(id);
	else await cleanStaging(Date.now() - 7 * 24 * 3_600_000);
}
