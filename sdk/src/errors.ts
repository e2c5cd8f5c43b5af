import { codes, type Retry, type ServerCode } from "./codes.js";

/** Codes of the SDK's own; those of the server are in docs/protocol.md §8. */
const own = {
	permission_denied: {
		retry: "never",
		en: "The browser was not allowed to use the camera, microphone or screen.",
		ko: "카메라, 마이크 또는 화면 사용이 허용되지 않았어요.",
	},
	device_not_found: {
		retry: "never",
		en: "No such camera or microphone is connected.",
		ko: "연결된 카메라나 마이크를 찾을 수 없어요.",
	},
	device_busy: {
		retry: "later",
		en: "The camera or microphone is in use by another program.",
		ko: "다른 프로그램이 카메라나 마이크를 사용하고 있어요.",
	},
	insecure_context: {
		retry: "never",
		en: "Browsers allow camera and microphone on pages with https only.",
		ko: "카메라와 마이크는 https 페이지에서만 사용할 수 있어요.",
	},
	unreachable: {
		retry: "later",
		en: "The server cannot be reached. Check the network.",
		ko: "서버에 연결할 수 없어요. 네트워크를 확인해 주세요.",
	},
	aborted: { retry: "never", en: "Cancelled.", ko: "취소했어요." },
	closed: { retry: "never", en: "It is closed already.", ko: "이미 종료되었어요." },
	buffer_full: {
		retry: "later",
		en: "Too much is waiting to be sent.",
		ko: "보내기를 기다리는 데이터가 너무 많아요.",
	},
	no_storage: {
		retry: "never",
		en: "This page has no storage for files of this size: it has no https, or the window is private.",
		ko: "이 페이지에는 이만한 크기의 파일을 저장할 공간이 없어요. https가 아니거나 비공개 창이에요.",
	},
	storage_lost: {
		retry: "later",
		en: "The browser could not keep what arrived, or may not write where it should.",
		ko: "브라우저가 받은 내용을 저장하지 못했어요.",
	},
	in_use: {
		retry: "later",
		en: "Another tab of this browser is receiving the same files.",
		ko: "이 브라우저의 다른 탭에서 같은 파일을 받고 있어요.",
	},
	unsupported: {
		retry: "never",
		en: "This browser cannot do that.",
		ko: "이 브라우저에서는 지원하지 않아요.",
	},
} as const satisfies Record<string, { retry: Retry; en: string; ko: string }>;

/** A code that the SDK itself gives. */
export type SdkCode = keyof typeof own;

/** A stable word for what went wrong: the SDK's own, the server's (docs/protocol.md §8), or one of a newer server. */
export type ErrorCode = SdkCode | ServerCode | (string & {});

/** What a {@link MadangError} is made of. */
export interface ErrorDetails {
	message?: string | undefined;
	retry?: Retry | undefined;
	/** How long to wait before trying again. */
	retryAfterMs?: number | undefined;
	/** Facts about the case, for programs. */
	detail?: Readonly<Record<string, unknown>> | undefined;
	cause?: unknown;
}

/** Everything that the SDK throws or rejects with. */
export class MadangError extends Error {
	override readonly name = "MadangError";
	readonly code: ErrorCode;
	/** What helps: `never` (something must be changed first), `later`, `resume` or `join`. */
	readonly retry: Retry;
	/** How long to wait before trying again, in milliseconds, where the server said so. */
	readonly retryAfterMs: number | undefined;
	readonly detail: Readonly<Record<string, unknown>> | undefined;

	constructor(code: ErrorCode, details: ErrorDetails = {}) {
		super(
			details.message ?? entry(code)?.en ?? code,
			details.cause === undefined ? undefined : { cause: details.cause },
		);
		this.code = code;
		this.retry = details.retry ?? entry(code)?.retry ?? "never";
		this.retryAfterMs = details.retryAfterMs;
		this.detail = details.detail;
	}

	/** A sentence for people, in Korean for `"ko…"` and in English for every other language. */
	text(language: string = globalThis.navigator?.language ?? "en"): string {
		const row = entry(this.code);
		if (!row) return this.message;
		return language.toLowerCase().startsWith("ko") ? row.ko : row.en;
	}
}

function entry(code: string): { retry: Retry; en: string; ko: string } | undefined {
	if (Object.hasOwn(own, code)) return own[code as SdkCode];
	if (Object.hasOwn(codes, code)) return codes[code as ServerCode];
	return undefined;
}

const retries: readonly unknown[] = ["never", "later", "resume", "join"] satisfies Retry[];

/**
 * Reads a refusal from outside: a `bye` or `error` message, or an RFC 9457 problem document.
 * @internal
 */
export function refusal(value: unknown): MadangError | null {
	if (typeof value !== "object" || value === null) return null;
	const { code, message, title, detail, retry, retryAfterMs } = value as Record<string, unknown>;
	if (typeof code !== "string" || code === "") return null;
	const text = [message, detail, title].find((part) => typeof part === "string") as string | undefined;
	return new MadangError(code, {
		message: text,
		retry: retries.includes(retry) ? (retry as Retry) : undefined,
		retryAfterMs: typeof retryAfterMs === "number" && retryAfterMs >= 0 ? retryAfterMs : undefined,
		detail: typeof detail === "object" && detail !== null ? (detail as Record<string, unknown>) : undefined,
	});
}

/** @internal */
export function aborted(signal: AbortSignal): MadangError {
	return new MadangError("aborted", { cause: signal.reason });
}

/**
 * What came out of a promise that nobody may be waiting for: its rejection reaches those who await it, and is no "unhandled
 * rejection" for those who do not.
 * @internal
 */
export function quiet<T>(promise: Promise<T>): Promise<T> {
	promise.catch(() => {});
	return promise;
}
