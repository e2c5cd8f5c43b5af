// The log panel: a page that loads this script after PlayRTC's sees the log at its bottom.
import type { LogView } from "./log.js";

type Kind = "trace" | "warn" | "error";

const colors: Record<Kind, string> = { trace: "#ddd", warn: "#fc6", error: "#f77" };
/** More than this is not shown; the database has ten days. */
const shownLines = 5_000;

class View implements LogView {
	readonly #panel = document.createElement("div");
	readonly #lines = document.createElement("div");
	#filter: Kind | "all" = "all";

	constructor(exportLog: () => void, download: (blob: Blob, name: string) => void) {
		const { style } = this.#panel;
		Object.assign(style, {
			position: "fixed",
			zIndex: "2147483647",
			left: "0",
			right: "0",
			bottom: "0",
			height: "400px",
			display: "none",
			flexDirection: "column",
			background: "#222",
			color: "#ddd",
			font: "12px/1.4 monospace",
		});
		Object.assign(this.#lines.style, { flex: "1", overflow: "auto", padding: "4px 8px", whiteSpace: "pre-wrap" });
		const bar = document.createElement("div");
		const title = document.createElement("span");
		title.textContent = "LOG VIEW 1.0.0 ";
		bar.append(title);
		const button = (label: string, action: () => void) => {
			const element = document.createElement("button");
			element.type = "button";
			element.textContent = label;
			element.onclick = action;
			bar.append(element);
		};
		for (const kind of ["all", "trace", "warn", "error"] as const) {
			button(kind.charAt(0).toUpperCase() + kind.slice(1), () => this.#show(kind));
		}
		button("Download(10 Day)", exportLog);
		button("Download", () => {
			const text = [...this.#lines.children].map((line) => `${line.textContent}\n`).join("");
			download(new Blob([text], { type: "text/plain" }), "PlayRTC_log.txt");
		});
		button("Close", () => this.hide());
		this.#panel.append(bar, this.#lines);
		const place = () => document.body.append(this.#panel);
		if (document.body) place();
		else addEventListener("DOMContentLoaded", place);
	}

	trace(line: string): void {
		this.#add("trace", line);
	}

	warn(line: string): void {
		this.#add("warn", line);
	}

	error(line: string): void {
		this.#add("error", line);
	}

	show(): void {
		this.#panel.style.display = "flex";
	}

	hide(): void {
		this.#panel.style.display = "none";
	}

	#add(kind: Kind, line: string): void {
		const element = document.createElement("div");
		element.dataset.kind = kind;
		element.textContent = line;
		element.style.color = colors[kind];
		element.hidden = this.#filter !== "all" && this.#filter !== kind;
		this.#lines.append(element);
		if (this.#lines.childElementCount > shownLines) this.#lines.firstElementChild?.remove();
		this.#lines.scrollTop = this.#lines.scrollHeight;
	}

	#show(filter: Kind | "all"): void {
		this.#filter = filter;
		for (const line of this.#lines.children as HTMLCollectionOf<HTMLElement>) {
			line.hidden = filter !== "all" && line.dataset.kind !== filter;
		}
	}
}

const playrtc = (globalThis as { PlayRTC?: typeof import("./playrtc.js").PlayRTC }).PlayRTC;
if (playrtc) {
	const { exportLog, fileDownload } = playrtc.utils;
	const view = new View(() => void exportLog(), fileDownload);
	playrtc.loggers.monitor.view = view;
	view.show();
}
