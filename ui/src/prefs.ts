/** What this browser remembers. Everything works without it: storage may be switched off, full, or partitioned away. */
export interface Prefs {
	name: string;
	microphone: string;
	camera: string;
	speaker: string;
	cameraOff: boolean;
	/** Join at once, without the page that shows the camera first. */
	skipPrejoin: boolean;
	/** Single letters as shortcuts. */
	shortcuts: boolean;
}

export const defaults: Readonly<Prefs> = {
	name: "",
	microphone: "",
	camera: "",
	speaker: "",
	cameraOff: false,
	skipPrejoin: false,
	shortcuts: true,
};

const storageKey = "madang.prefs.1";

/** The part of `Storage` that is used. */
export type PrefsStorage = Pick<Storage, "getItem" | "setItem">;

function browserStorage(): PrefsStorage | null {
	try {
		return globalThis.localStorage ?? null;
	} catch {
		return null; // a sandboxed frame throws
	}
}

export function loadPrefs(storage: PrefsStorage | null = browserStorage()): Prefs {
	const prefs: Prefs = { ...defaults };
	try {
		const stored: unknown = JSON.parse(storage?.getItem(storageKey) ?? "{}");
		if (stored && typeof stored === "object") {
			for (const key of Object.keys(defaults) as (keyof Prefs)[]) {
				const value = (stored as Record<string, unknown>)[key];
				if (typeof value === typeof defaults[key]) Object.assign(prefs, { [key]: value });
			}
		}
	} catch {
		// Unreadable: the defaults.
	}
	return prefs;
}

export function savePrefs(change: Partial<Prefs>, storage: PrefsStorage | null = browserStorage()): Prefs {
	const prefs = { ...loadPrefs(storage), ...change };
	try {
		storage?.setItem(storageKey, JSON.stringify(prefs));
	} catch {
		// Full or forbidden: it lasts as long as the page.
	}
	return prefs;
}
