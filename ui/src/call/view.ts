import type { Dictionary, Language } from "../i18n/index.js";
import type { LayoutMode } from "../layout.js";
import type { Sdk } from "../sdk.js";
import type { CallRecording } from "./recording.js";
import type { CallSession } from "./session.js";

export type Menu = "mic" | "camera" | "more" | null;
export type Dialog =
	| { readonly kind: "invite" }
	| { readonly kind: "help" }
	| { readonly kind: "kick"; readonly peer: string; readonly name: string }
	| null;

export interface Toast {
	readonly id: number;
	readonly text: string;
	readonly icon?: "chat" | "warning" | "check";
	readonly action?: () => void;
}

/** What the views see of the element that they draw: the element knows its views, and they know this. */
export interface CallView {
	readonly sdk: Sdk;
	readonly session: CallSession;
	readonly language: Language;
	readonly t: Dictionary;
	readonly channel: string;
	readonly link: string;
	readonly ring: boolean;
	readonly fullPage: boolean;
	readonly isFullscreen: boolean;
	readonly renderRoot: ParentNode;
	readonly updateComplete: Promise<boolean>;
	readonly nowMs: number;
	readonly panel: "chat" | "people" | null;
	readonly unread: number;
	readonly soundBlocked: boolean;
	readonly toastList: readonly Toast[];
	readonly recording: CallRecording | null;
	name: string;
	layout: LayoutMode;
	menu: Menu;
	dialog: Dialog;
	pinned: string | null;
	quality: string | null;
	expandedPerson: string | null;

	join(): Promise<void>;
	leave(): void;
	pin(tile: string): void;
	openMenu(menu: Menu, button?: EventTarget | null): void;
	openPanel(panel: "chat" | "people"): void;
	openDialog(dialog: Dialog): void;
	dropToast(id: number): void;
	copyLink(): Promise<void>;
	shareLink(): Promise<void>;
	toggleFullscreen(): Promise<void>;
	togglePictureInPicture(): Promise<void>;
	toggleRecording(): Promise<void>;
	saveSnapshot(): Promise<void>;
	allowSound(): Promise<void>;
	onMenuKey(event: KeyboardEvent): void;
	onTileKey(event: KeyboardEvent): void;
	onTilePointer(event: PointerEvent): void;
	onVideoSize(event: Event): void;
}
