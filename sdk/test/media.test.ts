import { afterEach, expect, test, vi } from "vitest";
import { media } from "../src/media.js";

afterEach(() => {
	vi.unstubAllGlobals();
});

class Track extends EventTarget {
	readonly kind = "audio";
	enabled = true;
	stop(): void {}
}

test("a microphone that could not be had is as muted as before when one comes", async () => {
	let plugged = false;
	const getUserMedia = async () => {
		if (!plugged) throw new DOMException("", "NotFoundError");
		return { getTracks: () => [new Track()] };
	};
	vi.stubGlobal("navigator", {
		mediaDevices: Object.assign(new EventTarget(), { getUserMedia, enumerateDevices: async () => [] }),
	});
	const local = await media.open();
	local.muteMicrophone();
	await expect(local.unmuteMicrophone()).rejects.toMatchObject({ code: "device_not_found" });
	plugged = true;
	await local.useMicrophone("another");
	expect(local.state.audio).toBe("muted");
	expect(local.microphone?.enabled).toBe(false);
	await local.unmuteMicrophone();
	expect(local.state.audio).toBe("on");
	local.close();
});
