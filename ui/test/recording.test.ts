import { afterEach, expect, test, vi } from "vitest";
import { CallRecording } from "../src/call/recording.js";
import { FakeError, FakeSdk } from "./fake-sdk.js";

afterEach(() => {
	vi.useRealTimers();
	vi.unstubAllGlobals();
});

/** The little of canvas and Web Audio that a recording begins with. */
function stubs() {
	const open = { tracks: 0, contexts: 0 };
	const track = () => {
		open.tracks++;
		return { stop: () => open.tracks-- };
	};
	vi.stubGlobal("document", {
		createElement: () => ({
			getContext: () => null,
			captureStream: () => ({ getVideoTracks: () => [track()] }),
		}),
	});
	vi.stubGlobal(
		"AudioContext",
		class {
			constructor() {
				open.contexts++;
			}
			createMediaStreamDestination = () => ({ stream: { getAudioTracks: () => [track()] } });
			close = async () => {
				open.contexts--;
			};
		},
	);
	return open;
}

test("a recording that this browser cannot make leaves nothing running", () => {
	vi.useFakeTimers();
	const open = stubs();
	const sdk = new FakeSdk();
	sdk.record = () => {
		throw new FakeError("unsupported");
	};
	expect(() => new CallRecording(sdk, () => ({ videos: [], sounds: [] }))).toThrow();
	expect([vi.getTimerCount(), open]).toEqual([0, { tracks: 0, contexts: 0 }]);
});

test("a recording that was stopped leaves nothing running", async () => {
	vi.useFakeTimers();
	const open = stubs();
	const recording = new CallRecording(new FakeSdk(), () => ({ videos: [], sounds: [] }));
	expect([vi.getTimerCount(), open]).toEqual([1, { tracks: 2, contexts: 1 }]);
	await recording.stop();
	expect([vi.getTimerCount(), open]).toEqual([0, { tracks: 0, contexts: 0 }]);
});
