// PlayRTC's log: a line goes to the console, to a panel if the page has one (./debug-view.ts), and into a database of ten days. The network's part of it
// is in ./rest.ts. No line has a token, a key, or a description of a session in it.

export type Level = "TRACE" | "WARN" | "ERROR";

/** Where lines go. Pages may put their own functions in place. */
export interface Appender {
	trace(line: string): void;
	warn(line: string): void;
	error(line: string): void;
}

/** A panel that shows the log. */
export interface LogView extends Appender {
	show?(): void;
	hide?(): void;
}

export interface Loggers {
	console: Appender;
	monitor: Appender & { view: LogView | null };
	db: Appender;
	/** Set by the page to see what is reported to the server; the report itself is a request. */
	network: Appender;
}

const order: Record<string, number> = { TRACE: 0, WARN: 1, ERROR: 2, NONE: 3 };
const keptMs = 10 * 86_400_000;

const monitor: Loggers["monitor"] = {
	view: null,
	trace: (line) => monitor.view?.trace(line),
	warn: (line) => monitor.view?.warn(line),
	error: (line) => monitor.view?.error(line),
};
const silent: Appender = { trace() {}, warn() {}, error() {} };

export const loggers: Loggers = {
	// console.error would make a page's own failure of what is only told.
	console: {
		trace: (line) => console.log(line),
		warn: (line) => console.warn(line),
		error: (line) => console.warn(line),
	},
	monitor,
	db: { trace: keep, warn: keep, error: keep },
	network: { ...silent },
};

export class Logger {
	readonly #least: number;
	/** The channel that lines are about. */
	channel = "";

	/** An unknown level is TRACE. */
	constructor(level: unknown) {
		this.#least = order[String(level).toUpperCase()] ?? 0;
	}

	lets(level: Level): boolean {
		return (order[level] as number) >= this.#least;
	}

	trace(place: string, method: string, message: string): void {
		this.#write("TRACE", place, method, message);
	}

	warn(place: string, method: string, message: string): void {
		this.#write("WARN", place, method, message);
	}

	error(place: string, method: string, message: string): void {
		this.#write("ERROR", place, method, message);
	}

	#write(level: Level, place: string, method: string, message: string): void {
		if (!this.lets(level)) return;
		const line = `${stamp(new Date())} [${level}] [${this.channel}] [${place}] [${method}] ${message}`;
		const name = level.toLowerCase() as keyof Appender;
		for (const appender of [loggers.console, loggers.monitor, loggers.db]) {
			try {
				appender[name](line);
			} catch {
				// A page's own appender must not end a call.
			}
		}
	}
}

/** `yyyy/MM/dd hh:mm:ss.mmm`, local time. */
export function stamp(time: Date): string {
	const two = (value: number, length = 2) => String(value).padStart(length, "0");
	const date = `${time.getFullYear()}/${two(time.getMonth() + 1)}/${two(time.getDate())}`;
	return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${two(time.getMilliseconds(), 3)}`;
}

let waiting: { at: number; line: string }[] = [];
let database: Promise<IDBDatabase> | undefined;

function open(): Promise<IDBDatabase> {
	database ??= new Promise((resolve, reject) => {
		const request = indexedDB.open("PlayRTC", 1);
		request.onupgradeneeded = () =>
			request.result.createObjectStore("log", { autoIncrement: true }).createIndex("at", "at");
		request.onerror = () => reject(request.error);
		request.onsuccess = () => {
			resolve(request.result);
			const old = IDBKeyRange.upperBound(Date.now() - keptMs);
			const cursor = request.result.transaction("log", "readwrite").objectStore("log").index("at").openCursor(old);
			cursor.onsuccess = () => {
				cursor.result?.delete();
				cursor.result?.continue();
			};
		};
	});
	return database;
}

/** Lines of one task share a transaction. */
function keep(line: string): void {
	if (typeof indexedDB === "undefined") return;
	waiting.push({ at: Date.now(), line });
	if (waiting.length > 1) return;
	setTimeout(async () => {
		const lines = waiting;
		waiting = [];
		try {
			const store = (await open()).transaction("log", "readwrite").objectStore("log");
			for (const entry of lines) store.add(entry);
		} catch {
			// No storage here, or not allowed: the console has them.
		}
	}, 500);
}

/** Saves what the database has as a file. */
export async function exportLog(download: (blob: Blob, name: string) => void): Promise<void> {
	const entries = await open()
		.then(
			(db) =>
				new Promise<{ line: string }[]>((resolve, reject) => {
					const request = db.transaction("log").objectStore("log").getAll();
					request.onsuccess = () => resolve(request.result);
					request.onerror = () => reject(request.error);
				}),
		)
		.catch(() => []);
	const text = [...entries, ...waiting].map(({ line }) => `${line}\n`).join("");
	download(new Blob([text], { type: "text/plain" }), `${stamp(new Date()).slice(0, 10).replaceAll("/", "-")}_log.txt`);
}
