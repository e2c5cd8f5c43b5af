import { describe, expect, it } from "vitest";
import { Events } from "../playrtc/event.js";
import { Logger, loggers, stamp } from "../playrtc/log.js";
import { audioConstraints, mediaError, number, videoConstraints } from "../playrtc/media.js";
import { PlayRTC } from "../playrtc/playrtc.js";
import { restBase } from "../playrtc/rest.js";
import { rate, rateRTT, ratingTables, StatsReader } from "../playrtc/stats.js";
import { findBrowser, findPlatform } from "../playrtc/utils.js";

const config = { projectKey: "key", server: "https://rtc.example.com", logLevel: "none" };

describe("events", () => {
	it("give the only listener's value, and this object otherwise", () => {
		const events = new Events();
		expect(events.fire("e")).toBe(events);
		events.on("e", () => false);
		expect(events.fire("e")).toBe(false);
		events.on("e", () => false);
		expect(events.fire("e")).toBe(events);
	});

	it("call listeners in order with their context and all arguments", () => {
		const events = new Events();
		const seen: unknown[] = [];
		const context = {};
		events
			.on("e", function (...args: unknown[]) {
				seen.push(this, ...args);
			})
			.on(
				"e",
				function (...args: unknown[]) {
					seen.push(this, ...args);
				},
				context,
			);
		events.fire("e", 1, 2);
		expect(seen).toEqual([events, 1, 2, context, 1, 2]);
		expect(seen[3]).toBe(context);
	});

	it("forget the listeners that match", () => {
		const events = new Events();
		const [a, b] = [() => {}, () => {}];
		events.on("x", a).on("x", b).on("y", a);
		events.off("x", a);
		expect([events.hasEvent("x"), events.hasEvent("y")]).toEqual([true, true]);
		events.off(null, b);
		expect([events.hasEvent("x"), events.hasEvent("y")]).toEqual([false, true]);
		events.off();
		expect(events.hasEvent("y")).toBe(false);
		events.on("x", a);
		events.clear();
		expect(events.hasEvent("x")).toBe(false);
	});
});

describe("the constructor", () => {
	it("merges the page's configuration deeply into the defaults", () => {
		const app = new PlayRTC({ ...config, bandwidth: { video: "800" }, ring: "true" });
		expect(app.getConfig()).toMatchObject({
			projectKey: "key",
			ring: "true",
			audio: true,
			video: true,
			data: true,
			bandwidth: { audio: 32, video: "800", data: 1_638_400 },
			preferCodec: { audio: "opus", video: "VP8" },
		});
	});

	it("takes userMedia only where audio and video are not given", () => {
		const userMedia = { audio: false, video: false };
		expect(new PlayRTC({ ...config, userMedia }).getConfig()).toMatchObject({ audio: false, video: false });
		expect(new PlayRTC({ ...config, userMedia, audio: true }).getConfig()).toMatchObject({ audio: true, video: true });
	});

	it("does not share what it merges", () => {
		const iceServers = [{ url: "turn:example.com", username: "u", credential: "c" }];
		const [a, b] = [new PlayRTC({ ...config, iceServers }), new PlayRTC(config)];
		expect(a.getConfig()).toMatchObject({ iceServers });
		expect(b.getConfig()).toMatchObject({ iceServers: null });
		expect((a.getConfig() as { bandwidth: object }).bandwidth).not.toBe(
			(b.getConfig() as { bandwidth: object }).bandwidth,
		);
	});

	it("gives a half-built object without a key, as ever", () => {
		const app = new PlayRTC({ logLevel: "none" } as never);
		app.createChannel();
		expect(app.getChannelId()).toBeNull();
	});

	it("needs new", () => {
		expect(() => (PlayRTC as unknown as (c: object) => void)(config)).toThrow(TypeError);
	});
});

it("answers as the old SDK does while it is in no channel", () => {
	const app = new PlayRTC(config);
	expect([app.getAllPeer(), app.getPeerByPeerId("x"), app.getPeerByUserId("x"), app.getMedia()]).toEqual([
		null,
		null,
		null,
		null,
	]);
	expect([app.getPeerId(), app.getChannelId(), app.calling]).toEqual([null, null, null]);
	expect([app.sendText("x"), app.sendFile(new Blob()), app.dataSend("x"), app.userCommand("x")]).toEqual([
		false,
		false,
		false,
		false,
	]);
	expect([app.startStatsReport("x", 1, () => {}), app.stopStatsReport("x")]).toEqual([false, false]);
	app.connectChannel(undefined as unknown as string);
	app.disconnectChannel();
	app.deleteChannel();
	app.accept("x");
	app.reject("x");
	app.close();
	app.destroy();
});

describe("static members", () => {
	it("are those of 2.2.15", () => {
		expect([PlayRTC.version, PlayRTC.activeXversion]).toEqual(["2.2.15", "1,0,0,60"]);
		expect(PlayRTC.Channeling).toBeTypeOf("function");
		expect(Object.keys(PlayRTC.loggers)).toEqual(["console", "monitor", "db", "network"]);
	});

	it("make subclasses that initialize", () => {
		const Mine = PlayRTC.Extend({
			initialize(this: PlayRTC, given: typeof config) {
				PlayRTC.prototype.initialize.call(this, { ...given, ring: true });
			},
		});
		const mine = new Mine(config) as PlayRTC;
		expect(mine).toBeInstanceOf(PlayRTC);
		expect(mine.getConfig()).toMatchObject({ ring: true });
		expect(Mine.base).toBe(PlayRTC.prototype);

		const Base = PlayRTC.utils.Extend(PlayRTC.utils.Event, {
			initialize(this: { names: string[] }, name: string) {
				this.names = [...(this.names ?? []), name];
			},
		});
		const Derived = Base.Extend({ more: 1 });
		expect(new Derived("a")).toMatchObject({ names: ["a"], more: 1 });
		expect(new Derived("a")).toBeInstanceOf(Events);
	});

	it("have the helpers", () => {
		const { utils } = PlayRTC;
		expect(utils.apply({ a: { b: 1 }, c: [1, 2] }, { a: { d: 2 }, c: [3] })).toEqual({ a: { b: 1, d: 2 }, c: [3] });
		expect(() => utils.apply(null as never, {})).toThrow();
		expect(utils.apply({}, JSON.parse('{"__proto__":{"polluted":1}}'))).not.toHaveProperty("polluted");
		expect(utils.strFormat("{0} and {1}, {2}", "a", 1)).toBe("a and 1, {2}");
		expect(utils.versionCompare("2.2.9", "2.2.21")).toBe(-1);
		const bound = utils.bind(
			function (this: { x: number }, add: number) {
				this.x += add;
				return this.x;
			} as never,
			{ x: 1 },
		);
		expect((bound as (n: number) => unknown)(2)).toBeUndefined();
	});
});

it.each([
	[
		"Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/52.0.2743.82 Safari/537.36",
		"windows",
		"chrome",
		"52.0.2743.82",
	],
	["Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "linux", "firefox", "128.0"],
	[
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile/15E148 Safari/604.1",
		"ios",
		"safari",
		"17.0",
	],
	[
		"Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36 OPR/80.1",
		"android",
		"opera",
		"80.1",
	],
	["Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", "windows", "ie", "11.0"],
])("reads the user agent %s", (agent, platform, name, version) => {
	expect([findPlatform(agent), findBrowser(agent)]).toEqual([platform, { name, version }]);
});

it.each([
	["http://www.playrtc.com/sdk/js/playrtc.js", "http://www.playrtc.com/v3/playrtc"],
	["https://rtc.example.com/madang/sdk/js/2.2.15/playrtc.min.js?x", "https://rtc.example.com/madang/v3/playrtc"],
	["https://pages.example.com/itsquare/playrtc.js", "https://pages.example.com/v3/playrtc"],
])("finds the server of the script %s", (script, base) => {
	expect(restBase(undefined, script)).toBe(base);
	expect(restBase("https://other.example.com/", script)).toBe("https://other.example.com/v3/playrtc");
});

describe("capture", () => {
	it("turns the old numbers, also as texts, into ranges, and falls back", () => {
		const wishes = videoConstraints({ minWidth: "320", maxWidth: "640", minHeight: 240, minFrameRate: "15" });
		expect(wishes).toEqual([
			{
				width: { min: 320, max: 640, ideal: 320 },
				height: { min: 240, ideal: 240 },
				frameRate: { min: 15, ideal: 15 },
			},
			{ width: { ideal: 320 }, height: { ideal: 240 }, frameRate: { ideal: 15 } },
			true,
		]);
		expect(videoConstraints(false)).toEqual([false]);
		expect(number("x")).toBeUndefined();
	});

	it("knows both names of noise suppression", () => {
		expect(audioConstraints({ noiseReduction: false })).toEqual({
			echoCancellation: true,
			autoGainControl: true,
			noiseSuppression: false,
		});
		expect(audioConstraints(true)).toBe(true);
	});

	it.each([
		["NotAllowedError", "M4002"],
		["SecurityError", "M4002"],
		["NotFoundError", "M4003"],
		["NotReadableError", "M4004"],
	])("gives %s the code %s", (name, code) => {
		expect(mediaError(new DOMException("", name))[0]).toBe(code);
	});
});

describe("statistics", () => {
	it("rate losses between the bounds of the tables, and every value has a rating", () => {
		const { audio, video } = ratingTables(undefined);
		expect([0, 50.5, 51.5, 200, 300, 400].map((lost) => rate(audio, lost))).toEqual([1, 1, 2, 3, 4, 5]);
		expect([0, 40.9, 55, 60, 90, 255].map((lost) => rate(video, lost))).toEqual([1, 1, 2, 3, 4, 5]);
		const own = [{ rating: 4, fromFractionLost: 0, toFractionLost: 999 }];
		expect(rate(ratingTables({ audio: own, video: [] }).audio, 7)).toBe(4);
		expect(ratingTables({ audio: own, video: [] }).video).toBe(video);
	});

	it("rate half of the round trip", () => {
		expect([0, 399, 400, 600, 800, 1000].map(rateRTT)).toEqual([1, 1, 2, 3, 4, 5]);
	});

	const report = (lost: number, sent: number) =>
		new Map<string, object>(
			[
				{ id: "T", type: "transport", selectedCandidatePairId: "P" },
				{
					id: "P",
					type: "candidate-pair",
					localCandidateId: "L",
					remoteCandidateId: "R",
					currentRoundTripTime: 0.042,
					availableOutgoingBitrate: 1_500_000.4,
				},
				{ id: "L", type: "local-candidate", candidateType: "host" },
				{ id: "R", type: "remote-candidate", candidateType: "srflx" },
				{
					id: "O",
					type: "outbound-rtp",
					kind: "video",
					packetsSent: sent,
					frameWidth: 640,
					frameHeight: 480,
					framesPerSecond: 29.9,
				},
				{ id: "RI", type: "remote-inbound-rtp", kind: "video", packetsLost: lost },
				{
					id: "I",
					type: "inbound-rtp",
					kind: "video",
					packetsLost: lost,
					packetsReceived: sent - lost,
					frameWidth: 320,
					frameHeight: 240,
				},
			].map((s) => [s.id, s]),
		);

	it("count what was lost since the report before", () => {
		const reader = new StatsReader(ratingTables(undefined));
		reader.read(report(100, 1000));
		expect(reader.read(report(110, 1100))).toMatchObject({
			localCandidate: "host",
			remoteCandidate: "srflx",
			localFrameWidth: 640,
			localFrameRate: 30,
			remoteFrameHeight: 240,
			remoteFrameRate: "",
			availableSendBandwidth: 1_500_000,
			rtt: 42,
			rttRating: 1,
			localVideoFractionLost: 25.5,
			remoteVideoFractionLost: 28.3333,
			localAudioFractionLost: 0,
			remoteVideoFractionRating: 1,
			fractionRating: 1,
		});
	});

	it("are of use without media", () => {
		expect(new StatsReader(ratingTables(undefined)).read(new Map())).toMatchObject({
			localCandidate: "",
			rtt: 0,
			fractionRating: 1,
		});
	});
});

describe("the log", () => {
	it("writes lines of the old form, from the level on", () => {
		const lines: string[] = [];
		loggers.monitor.view = { trace: (l) => lines.push(l), warn: (l) => lines.push(l), error: (l) => lines.push(l) };
		const { console: former } = loggers;
		loggers.console = { trace() {}, warn() {}, error() {} };
		const log = new Logger("warn");
		log.channel = "CHS1";
		log.trace("Peer", "state", "x");
		log.error("Peer", "state", "broken");
		loggers.monitor.view = null;
		loggers.console = former;
		expect(lines).toHaveLength(1);
		expect(lines[0]).toMatch(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\.\d{3} \[ERROR\] \[CHS1\] \[Peer\] \[state\] broken$/);
		expect(stamp(new Date(2016, 6, 25, 9, 8, 7, 6))).toBe("2016/07/25 09:08:07.006");
	});

	it("takes an unknown level for TRACE, and none for nothing", () => {
		expect([new Logger("x").lets("TRACE"), new Logger("NONE").lets("ERROR"), new Logger("Error").lets("WARN")]).toEqual(
			[true, false, false],
		);
	});
});
