import { beforeEach, describe, expect, test, vi } from "vitest";
import { CallSession, type Note } from "../src/call/session.js";
import { loadPrefs, savePrefs } from "../src/prefs.js";
import { ActiveSpeaker } from "../src/speaker.js";
import { FakeError, FakePeer, FakeSdk, fakeTrack } from "./fake-sdk.js";

class MemoryStorage {
	readonly map = new Map<string, string>();
	getItem = (key: string) => this.map.get(key) ?? null;
	setItem = (key: string, value: string) => void this.map.set(key, value);
}

const wish = { channel: "demo", key: "k", name: "Dana", ring: false };

async function inCall() {
	const sdk = new FakeSdk();
	const session = new CallSession(sdk);
	const notes: Note[] = [];
	session.addEventListener("note", (e) => notes.push((e as CustomEvent<Note>).detail));
	await session.openMedia();
	await session.join(wish);
	const channel = sdk.channel;
	if (!channel) throw new Error("not joined");
	return { sdk, session, channel, notes };
}

beforeEach(() => {
	vi.stubGlobal("localStorage", new MemoryStorage());
});

describe("devices", () => {
	test("both", async () => {
		const sdk = new FakeSdk();
		const session = new CallSession(sdk);
		await session.openMedia();
		expect(session.mediaState).toBe("ready");
		expect(session.media?.state).toEqual({ audio: "on", video: "on", screen: "off" });
	});

	test("no camera: the microphone alone", async () => {
		const sdk = new FakeSdk();
		sdk.openings = ["device_not_found", null];
		const session = new CallSession(sdk);
		await session.openMedia();
		expect(session.media?.state).toMatchObject({ audio: "on", video: "off" });
		expect(session.cameraError).toBe("device_not_found");
		expect(session.microphoneError).toBeNull();
	});

	test("no microphone: the camera alone", async () => {
		const sdk = new FakeSdk();
		sdk.openings = ["device_not_found", "device_not_found", null];
		const session = new CallSession(sdk);
		await session.openMedia();
		expect(session.media?.state).toMatchObject({ audio: "off", video: "on" });
		expect(session.cameraError).toBeNull();
		expect(session.microphoneError).toBe("device_not_found");
	});

	test("refused: not asked again, and joining works without", async () => {
		const sdk = new FakeSdk();
		sdk.openings = ["permission_denied"];
		const session = new CallSession(sdk);
		await session.openMedia();
		expect(sdk.openings).toHaveLength(0);
		expect(sdk.opened).toHaveLength(0);
		expect(session.mediaState).toBe("none");
		expect(session.cameraError).toBe("permission_denied");
		await session.join(wish);
		expect(session.phase).toBe("call");
		expect(sdk.options?.media?.state).toEqual({ audio: "off", video: "off", screen: "off" });
	});

	test("a camera that starts slowly does not hold the join back, and is published when it is there", async () => {
		const sdk = new FakeSdk();
		const open = sdk.media.open;
		let started = () => {};
		(sdk.media as { open: typeof open }).open = async (o) => {
			await new Promise<void>((done) => {
				started = done;
			});
			return open(o);
		};
		const session = new CallSession(sdk);
		const opening = session.openMedia();
		await session.join(wish);
		expect(session.phase).toBe("call");
		expect(sdk.channel?.published).toBeNull();
		started();
		await opening;
		expect(sdk.channel?.published).toBe(session.media);
		expect(session.media?.state.video).toBe("on");
	});

	test("closing the screen picker is no error, a failing one is", async () => {
		const { session, sdk, notes } = await inCall();
		const media = sdk.opened.at(-1);
		if (!media) throw new Error("no media");
		media.shareScreen = async () => {
			throw new FakeError("permission_denied");
		};
		await session.toggleScreen();
		expect(notes).toEqual([]);
		media.shareScreen = async () => {
			throw new FakeError("unsupported");
		};
		await session.toggleScreen();
		expect(notes.map((n) => n.kind)).toEqual(["error"]);
	});

	test("the microphone is muted and unmuted, and the choice of the camera is remembered", async () => {
		const { session } = await inCall();
		await session.toggleMicrophone();
		expect(session.media?.state.audio).toBe("muted");
		await session.toggleMicrophone();
		expect(session.media?.state.audio).toBe("on");
		await session.toggleCamera();
		expect(session.media?.state.video).toBe("muted");
		expect(loadPrefs().cameraOff).toBe(true);
	});
});

describe("a call", () => {
	test("joins with what is wished, and remembers the name", async () => {
		const { sdk, session } = await inCall();
		expect(sdk.options).toMatchObject({ channel: "demo", key: "k", name: "Dana" });
		expect(session.phase).toBe("call");
		expect(loadPrefs().name).toBe("Dana");
	});

	test("a token prevails over a key", async () => {
		const sdk = new FakeSdk();
		await new CallSession(sdk).join({ ...wish, token: "t" });
		expect(sdk.options?.token).toBe("t");
		expect(sdk.options?.key).toBeUndefined();
	});

	test("asking, and being refused", async () => {
		const sdk = new FakeSdk();
		const session = new CallSession(sdk);
		const phases: string[] = [];
		session.addEventListener("change", () => phases.at(-1) !== session.phase && phases.push(session.phase));
		sdk.onJoin = async (options) => {
			options.onPending?.("ring");
			throw new FakeError("rejected");
		};
		await session.join({ ...wish, ring: true });
		expect(sdk.options?.ring).toBe(true);
		expect(phases).toEqual(["joining", "pending", "ended"]);
		expect((session.endedBy as FakeError).code).toBe("rejected");
	});

	test("cancelled while asking: back at the start, and a late answer is left at once", async () => {
		const sdk = new FakeSdk();
		const session = new CallSession(sdk);
		let answer = () => {};
		sdk.onJoin = (options) => {
			options.onPending?.("waiting_room");
			return new Promise((done) => {
				answer = done;
			});
		};
		const joining = session.join(wish);
		await vi.waitFor(() => expect(session.phase).toBe("pending"));
		session.cancel();
		expect(session.phase).toBe("prejoin");
		expect(sdk.options?.signal?.aborted).toBe(true);
		answer();
		await joining;
		expect(session.phase).toBe("prejoin");
	});

	test("a second press on the button joins once", async () => {
		const sdk = new FakeSdk();
		const session = new CallSession(sdk);
		let joins = 0;
		sdk.onJoin = async () => void joins++;
		await Promise.all([session.join(wish), session.join(wish)]);
		expect(joins).toBe(1);
	});

	test("who comes and goes is said, and stands in the chat", async () => {
		const { session, channel, notes } = await inCall();
		channel.add(new FakePeer("p1", "Jun"));
		channel.remove("p1");
		channel.add(new FakePeer("p2", "Mina"));
		channel.remove("p2", "kicked");
		expect(notes).toEqual([
			{ kind: "joined", name: "Jun" },
			{ kind: "left", name: "Jun" },
			{ kind: "joined", name: "Mina" },
			{ kind: "kicked", name: "Mina" },
		]);
		expect(session.chat.map((l) => `${l.name} ${l.text}`)).toEqual([
			"Jun joined",
			"Jun left",
			"Mina joined",
			"Mina left",
		]);
	});

	test("reconnecting is said once, and ends", async () => {
		const { session, channel, notes } = await inCall();
		channel.emit("state", "reconnecting");
		channel.emit("state", "reconnecting");
		expect(session.reconnecting).toBe(true);
		channel.emit("state", "joined");
		expect(session.reconnecting).toBe(false);
		expect(notes.map((n) => n.kind)).toEqual(["reconnecting", "reconnected"]);
	});

	test("kicked: the call ends with its reason, and the camera is off", async () => {
		const { session, channel, sdk } = await inCall();
		channel.emit("state", "left", new FakeError("kicked"));
		expect(session.phase).toBe("ended");
		expect((session.endedBy as FakeError).code).toBe("kicked");
		expect(sdk.opened.every((m) => m.closed)).toBe(true);
	});

	test("leaving: no error, and joining again works", async () => {
		const { session, channel } = await inCall();
		session.leave();
		session.leave();
		expect(channel.done.filter(([what]) => what === "leave")).toHaveLength(1);
		expect(session.phase).toBe("ended");
		expect(session.endedBy).toBeNull();
		await session.join(wish);
		expect(session.phase).toBe("call");
	});

	test("answers, roles, kicks and settings go to the channel", async () => {
		const { session, channel } = await inCall();
		channel.emit("ring", { id: "r1", name: "Hana" }, "ring");
		channel.emit("ring", { id: "r2", name: "Joon" }, "waiting_room");
		channel.emit("ring", { id: "r3", name: "Bora" }, "ring");
		expect(session.asking.size).toBe(3);
		await session.answer("r1", true);
		await session.answer("r2", false, "busy");
		channel.emit("ring-ended", { id: "r3", name: "Bora" }, "cancelled");
		expect(session.asking.size).toBe(0);
		await session.kick("p1");
		await session.setRole("p1", "viewer");
		await session.configure({ locked: true });
		expect(channel.done).toEqual([
			["accept", "r1"],
			["reject", "r2", "busy"],
			["kick", "p1"],
			["role", "p1", "viewer"],
		]);
		expect(channel.settings.locked).toBe(true);
	});

	test("a refused action is said and breaks nothing", async () => {
		const { session, channel, notes } = await inCall();
		channel.kick = async () => {
			throw new FakeError("forbidden");
		};
		await session.kick("p1");
		expect(notes).toMatchObject([{ kind: "error", error: { code: "forbidden" } }]);
		expect(session.phase).toBe("call");
	});
});

describe("chat", () => {
	test("mine is in the log at once, is marked when it could not be sent, and can be sent again", async () => {
		const { session, channel } = await inCall();
		channel.refuseChat = true;
		await session.say("  hello ");
		expect(session.chat.at(-1)).toMatchObject({ kind: "mine", text: "hello", sending: "failed" });
		channel.refuseChat = false;
		await session.sayAgain(session.chat.at(-1)?.id ?? 0);
		expect(session.chat.at(-1)?.sending).toBeUndefined();
		expect(channel.done).toEqual([["chat", "hello"]]);
		expect(session.chat).toHaveLength(1);
	});

	test("empty lines are not sent", async () => {
		const { session, channel } = await inCall();
		await session.say("  \n ");
		expect(channel.done).toEqual([]);
		expect(session.chat).toHaveLength(0);
	});

	test("theirs is noted; an echo of mine is not shown twice; a service has no name", async () => {
		const { session, channel, notes } = await inCall();
		channel.emit("chat", { from: { id: "p1", name: "Jun" }, text: "hi", at: 5, private: true });
		channel.emit("chat", { from: { id: "me", name: "Dana" }, text: "echo", at: 6, private: false });
		channel.emit("chat", { from: null, text: "closing soon", at: 7, private: false });
		expect(session.chat.map((l) => [l.name, l.text, l.private])).toEqual([
			["Jun", "hi", true],
			["", "closing soon", false],
		]);
		expect(notes).toHaveLength(2);
	});

	test("is bounded", async () => {
		const { session, channel } = await inCall();
		for (let i = 0; i < 700; i++)
			channel.emit("chat", { from: { id: "p1", name: "Jun" }, text: `${i}`, at: i, private: false });
		expect(session.chat).toHaveLength(500);
		expect(session.chat.at(-1)?.text).toBe("699");
	});
});

describe("the active speaker", () => {
	/** Everybody's level about 15 times a second, as the SDK's meters tell it. */
	class Room {
		readonly speaker = new ActiveSpeaker();
		nowMs = 1000;
		hear(levels: Record<string, number>, forMs: number): void {
			for (const end = this.nowMs + forMs; this.nowMs < end; ) {
				this.nowMs += 66;
				for (const [id, level] of Object.entries(levels)) this.speaker.hear(id, level, this.nowMs);
			}
		}
	}

	test("is the one who speaks, and stays so through a pause", () => {
		const room = new Room();
		room.hear({ a: 0.3, b: 0 }, 400);
		expect(room.speaker.active).toBe("a");
		expect(room.speaker.isSpeaking("a", room.nowMs)).toBe(true);
		expect(room.speaker.isSpeaking("b", room.nowMs)).toBe(false);
		room.hear({ a: 0, b: 0 }, 5000);
		expect(room.speaker.active).toBe("a");
		expect(room.speaker.isSpeaking("a", room.nowMs)).toBe(false);
	});

	test("changes at once when the former one is silent", () => {
		const room = new Room();
		room.hear({ a: 0.3, b: 0 }, 1000);
		room.hear({ a: 0, b: 0 }, 3000);
		room.hear({ a: 0, b: 0.2 }, 200);
		expect(room.speaker.active).toBe("b");
	});

	test("does not jump at a cough, but follows somebody who goes on", () => {
		const room = new Room();
		room.hear({ a: 0.2, b: 0 }, 4000);
		room.hear({ a: 0.2, b: 1 }, 400);
		expect(room.speaker.active).toBe("a");
		room.hear({ a: 0.2, b: 0 }, 1000);
		expect(room.speaker.active).toBe("a");
		room.hear({ a: 0.2, b: 1 }, 1500);
		expect(room.speaker.active).toBe("b");
	});

	test("is nobody while it is quiet, and nobody who is gone", () => {
		const room = new Room();
		room.hear({ a: 0.01, b: 0.02 }, 3000);
		expect(room.speaker.active).toBeNull();
		room.hear({ a: 0.4 }, 500);
		room.speaker.forget("a");
		expect(room.speaker.active).toBeNull();
		expect(room.speaker.isSpeaking("a", room.nowMs)).toBe(false);
	});

	test("tells when something that is shown changes, and else not", () => {
		const room = new Room();
		let changes = 0;
		for (let i = 0; i < 60; i++) if (room.speaker.hear("a", 0.3, 1000 + i * 66)) changes++;
		expect(changes).toBe(1);
	});
});

describe("what is remembered", () => {
	test("survives, and rubbish does not harm", () => {
		const storage = new MemoryStorage();
		savePrefs({ name: "Dana", skipPrejoin: true }, storage);
		expect(loadPrefs(storage)).toMatchObject({ name: "Dana", skipPrejoin: true, shortcuts: true });
		storage.setItem("madang.prefs.1", "{not json");
		expect(loadPrefs(storage).name).toBe("");
		storage.setItem("madang.prefs.1", '{"name":5,"skipPrejoin":"yes","shortcuts":false,"__proto__":{"x":1}}');
		expect(loadPrefs(storage)).toMatchObject({ name: "", skipPrejoin: false, shortcuts: false });
		storage.setItem("madang.prefs.1", "null");
		expect(loadPrefs(storage).shortcuts).toBe(true);
	});

	test("a full or forbidden storage is no error", () => {
		const broken = {
			getItem: () => {
				throw new Error("denied");
			},
			setItem: () => {
				throw new Error("quota");
			},
		};
		expect(savePrefs({ name: "Dana" }, broken).name).toBe("Dana");
		expect(loadPrefs(null).name).toBe("");
	});
});

test("a peer's voice is measured on its own microphone, and no longer when it left", async () => {
	const { session, channel, sdk } = await inCall();
	const peer = new FakePeer("p1", "Jun");
	peer.give("microphone", fakeTrack("audio", "p1"));
	channel.add(peer);
	const meter = sdk.meters.at(-1);
	for (let i = 0; i < 5; i++) meter?.(0.4);
	expect(session.speaker.active).toBe("p1");
	channel.remove("p1");
	expect(session.speaker.active).toBeNull();
});
