// What is being sent from this browser, kept until it has arrived: after a reload, a kill or a reboot the same files go on under the same link. In a
// database, which is on the disk when it says so; what is put into localStorage a kill loses for some seconds.

export interface Remembered {
	readonly ticket: { readonly id: string; readonly secret: string };
	readonly many: boolean;
	/** Opens what the server keeps of it. */
	readonly keep?: string | undefined;
	/** Of the first file, for people. */
	readonly path: string;
	readonly atMs: number;
}

const weekMs = 7 * 24 * 3_600_000;
const table = "sending";

const done = <T>(request: IDBRequest<T>): Promise<T> =>
	new Promise((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});

async function change<T>(work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
	const opening = indexedDB.open("madang-files", 1);
	opening.onupgradeneeded = () => opening.result.createObjectStore(table);
	const database = await done(opening);
	try {
		const transaction = database.transaction(table, "readwrite", { durability: "strict" });
		const result = await done(work(transaction.objectStore(table)));
		await new Promise<void>((resolve, reject) => {
			transaction.oncomplete = () => resolve();
			transaction.onabort = () => reject(transaction.error);
		});
		return result;
	} finally {
		database.close();
	}
}

/** `files` names what was chosen. A browser that keeps nothing forgets it with the page. */
export const remember = (files: string, value: Remembered): Promise<void> =>
	change((store) => store.put(value, files)).then(
		() => {},
		() => {},
	);

export const forget = (files: string): Promise<void> =>
	change((store) => store.delete(files)).then(
		() => {},
		() => {},
	);

/** Whether something that began with this file was sent: else its whole list need not be looked at. */
export async function mayRecall(path: string): Promise<boolean> {
	const all: Remembered[] = await change((store) => store.getAll()).catch(() => []);
	return all.some((former) => former.path === path);
}

/** What was sent with these files, less than a week ago and by no other page that is open. Until this page is left no other one gets it. */
export async function recall(files: string): Promise<Remembered | null> {
	const former: Remembered | undefined = await change((store) => store.get(files)).catch(() => undefined);
	return former && Date.now() - former.atMs < weekMs && (await claim(former)) ? former : null;
}

/** A page that is left lets go of its lock a little later, and the next one may be this page, loaded again. */
const leaveMs = 2_000;

/** A page that sends has a lock on it. */
export function claim({ ticket }: Pick<Remembered, "ticket">): Promise<boolean> {
	if (!navigator.locks) return Promise.resolve(true); // a page without https
	return new Promise((resolve) => {
		const held = () => {
			resolve(true);
			return new Promise(() => {}); // until the page is left
		};
		navigator.locks
			.request(`madang-sending-${ticket.id}`, { signal: AbortSignal.timeout(leaveMs) }, held)
			.catch(() => resolve(false));
	});
}

/** The latest that no open page is at. What is too old is removed. */
export async function unfinished(): Promise<Remembered | null> {
	const all: Remembered[] = await change((store) => store.getAll()).catch(() => []);
	const keys = await change((store) => store.getAllKeys()).catch(() => []);
	const held = new Set((await navigator.locks?.query())?.held?.map(({ name }) => name));
	for (const [index, { atMs }] of all.entries()) {
		if (Date.now() - atMs >= weekMs) await forget(keys[index] as string);
	}
	return (
		all
			.filter(({ ticket, atMs }) => Date.now() - atMs < weekMs && !held.has(`madang-sending-${ticket.id}`))
			.sort((a, b) => b.atMs - a.atMs)[0] ?? null
	);
}
