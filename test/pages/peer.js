// One peer of a channel, through the SDK's public API alone, for tests that drive a browser: evaluated in a page, with `server` in scope,
// it makes window.lab. What is received is counted by the test's own use of getStats, so that the SDK does not vouch for itself.
const connections = [];
const changes = [];
const Native = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
	constructor(...args) {
		super(...args);
		connections.push(this);
		this.addEventListener("signalingstatechange", () => {
			lab.negotiations++;
		});
		this.addEventListener("datachannel", ({ channel }) => {
			const { label, ordered, maxRetransmits, maxPacketLifeTime } = channel;
			lab.opened[label] = { ordered, maxRetransmits, maxPacketLifeTime };
		});
		this.addEventListener("connectionstatechange", () =>
			changes.push({ at: performance.now(), state: this.connectionState }),
		);
	}
};
// Firefox hands a track's listeners the events of a script only if they ask for them, by a fourth argument of its own: unplug() in call_test.go needs it.
const listen = MediaStreamTrack.prototype.addEventListener;
MediaStreamTrack.prototype.addEventListener = function (type, listener, options) {
	listen.call(this, type, listener, options, true);
};
const sdk = await import(`${server}/sdk/madang.js`);
const lab = {
	server,
	sdk,
	connections,
	changes,
	channel: null,
	local: null,
	chats: [],
	commands: [],
	states: [],
	errors: [],
	ringing: [],
	left: [],
	ended: [],
	blobs: {},
	opened: {},
	negotiations: 0,
};
window.lab = lab;

const attach = (peer, track) => {
	const element = document.createElement(track.kind);
	element.autoplay = true;
	element.playsInline = true;
	element.dataset.peer = peer.name;
	element.dataset.source = track.source;
	element.srcObject = new MediaStream([track.mediaTrack]);
	document.body.append(element);
};
const find = (peer, source) => document.querySelector(`[data-peer="${peer.name}"][data-source="${source}"]`);

const show = (peer) => {
	for (const track of peer.tracks.values()) attach(peer, track);
	peer.on("track", (track) => attach(peer, track));
	peer.on("track-ended", (track) => {
		lab.ended.push(track.source);
		find(peer, track.source)?.remove();
	});
	peer.on("data", receive);
};

lab.openMedia = async () => {
	lab.local = await sdk.media.open({ audio: true, video: { width: 640, height: 360 } });
};

lab.join = async ({ withMedia = true, ...options }) => {
	if (withMedia && !lab.local) await lab.openMedia();
	const channel = await sdk.join({ server, media: withMedia ? lab.local : undefined, ...options });
	lab.channel = channel;
	channel.on("peer-joined", show);
	channel.on("peer-left", (peer, reason) => lab.left.push({ name: peer.name, reason }));
	channel.on("chat", (message) => lab.chats.push({ from: message.from?.name, text: message.text }));
	channel.on("command", (command) =>
		lab.commands.push({ from: command.from?.name, name: command.name, data: command.data }),
	);
	channel.on("state", (state, error) => lab.states.push({ at: performance.now(), state, code: error?.code }));
	channel.on("error", (error) => lab.errors.push(error.code));
	channel.on("ring", (peer) => lab.ringing.push(peer.name));
	for (const peer of channel.peers.values()) show(peer);
	return channel.me.id;
};

lab.peer = (name) => {
	const peer = [...lab.channel.peers.values()].find((p) => p.name === name);
	if (!peer) throw new Error(`no peer ${name} among ${[...lab.channel.peers.values()].map((p) => p.name)}`);
	return peer;
};

// What all connections have received so far. A section that has no track any more keeps its figures.
lab.received = async () => {
	const sum = { frames: 0, energy: 0, streams: 0 };
	for (const connection of connections) {
		if (connection.connectionState === "closed") continue;
		for (const s of (await connection.getStats()).values()) {
			if (s.type !== "inbound-rtp") continue;
			sum.frames += s.framesDecoded ?? 0;
			sum.energy += s.totalAudioEnergy ?? 0;
			sum.streams += (s.framesDecoded ?? 0) > 0 || (s.totalAudioEnergy ?? 0) > 0 ? 1 : 0;
		}
	}
	return sum;
};

// What is under way now, in one line for each medium: for the messages of tests that fail.
lab.figures = async () => {
	const lines = [...document.querySelectorAll("video")].map(
		(v) =>
			`element ${v.dataset.peer}/${v.dataset.source} ${v.videoWidth}x${v.videoHeight} at ${v.currentTime.toFixed(1)} s`,
	);
	for (const connection of connections) {
		if (connection.connectionState !== "connected") lines.push(`connection ${connection.connectionState}`);
		if (connection.connectionState === "closed") continue;
		for (const s of (await connection.getStats()).values()) {
			const size = `${s.frameWidth}x${s.frameHeight}@${s.framesPerSecond} mid ${s.mid}`;
			if (s.type === "inbound-rtp" && s.kind === "video")
				lines.push(
					`in ${size} ${s.bytesReceived} bytes ${s.framesReceived} received ${s.framesDecoded} decoded ${s.keyFramesDecoded} key ${s.packetsLost} lost ${s.pliCount} PLI`,
				);
			if (s.type === "outbound-rtp" && s.kind === "video")
				lines.push(
					`out ${size} ${s.bytesSent} bytes ${s.framesEncoded} encoded ${s.framesSent} sent limited by ${s.qualityLimitationReason} target ${s.targetBitrate} ${s.pliCount} PLI active ${s.active}`,
				);
			if (s.type === "media-source" && s.kind === "video")
				lines.push(`source ${s.width}x${s.height}@${s.framesPerSecond} ${s.frames} frames`);
			if (s.type === "candidate-pair" && s.nominated)
				lines.push(`pair ${s.state} out ${s.availableOutgoingBitrate} bit/s rtt ${s.currentRoundTripTime}`);
		}
	}
	return lines.join("; ");
};

// The selected candidate pair of the only connection, in the words of W3C webrtc-stats.
lab.path = async () => {
	const connection = connections.findLast((c) => c.connectionState === "connected");
	const stats = await connection.getStats();
	for (const s of stats.values()) {
		if (s.type !== "transport" || !s.selectedCandidatePairId) continue;
		const pair = stats.get(s.selectedCandidatePairId);
		const local = stats.get(pair.localCandidateId);
		const remote = stats.get(pair.remoteCandidateId);
		return {
			local: local.candidateType,
			remote: remote.candidateType,
			protocol: local.protocol,
			relayProtocol: local.relayProtocol ?? "",
		};
	}
	for (const pair of stats.values()) {
		// Firefox has no transport statistics.
		if (pair.type !== "candidate-pair" || !pair.selected) continue;
		const local = stats.get(pair.localCandidateId);
		const remote = stats.get(pair.remoteCandidateId);
		return {
			local: local.candidateType,
			remote: remote.candidateType,
			protocol: local.protocol,
			relayProtocol: local.relayProtocol ?? "",
		};
	}
	return null;
};

// The codecs with which a kind of medium arrives.
lab.codecs = async (kind) => {
	const found = new Set();
	for (const connection of connections) {
		if (connection.connectionState === "closed") continue;
		const stats = await connection.getStats();
		for (const s of stats.values())
			if (s.type === "inbound-rtp" && s.kind === kind && s.packetsReceived > 0)
				found.add(stats.get(s.codecId)?.mimeType.split("/")[1]);
	}
	return [...found].join();
};

// What the camera sends, in bits per second over the next `ms`.
lab.sends = async (ms) => {
	const connection = connections.findLast((c) => c.connectionState === "connected");
	const sender = connection.getSenders().find((s) => s.track && s.track === lab.local.camera);
	const read = async () => {
		for (const s of (await sender.getStats()).values()) if (s.type === "outbound-rtp") return s;
	};
	const before = await read();
	for (;;) {
		await new Promise((resolve) => setTimeout(resolve, 100));
		const after = await read();
		if (after.timestamp - before.timestamp >= ms)
			return ((after.bytesSent - before.bytesSent) * 8000) / (after.timestamp - before.timestamp);
	}
};

const base64 = async (blob) => {
	let text = "";
	for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
	return btoa(text);
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A recording of some tracks.
lab.record = async (tracks, seconds) => {
	const from = performance.now();
	const recording = sdk.record(tracks);
	await pause(seconds * 1000);
	const blob = await recording.stop();
	return { type: blob.type, data: await base64(blob), seconds: (performance.now() - from) / 1000 };
};

// In pieces, with a pause after the first one, and `seconds` from then on: where sounds are mixed, it comes when the browser's sound system runs.
lab.recordPieces = async (tracks, seconds) => {
	const pieces = [];
	const from = performance.now();
	const recording = await new Promise((resolve) => {
		const made = sdk.record(tracks, {
			onData: (piece) => {
				pieces.push(piece);
				resolve(made);
			},
		});
	});
	const paused = performance.now();
	recording.pause();
	await pause(2_000);
	if (recording.state !== "paused") throw new Error(`a paused recording is ${recording.state}`);
	recording.resume();
	const pausedMs = performance.now() - paused;
	await pause((seconds - 1) * 1000);
	await recording.stop();
	const recordedMs = performance.now() - from - pausedMs;
	return { type: recording.mimeType, data: await base64(new Blob(pieces)), seconds: recordedMs / 1000 };
};

lab.snapshot = async (track) => base64(await sdk.snapshot(track));

// A picture of the application's own.
lab.canvas = (width, height) => {
	const canvas = Object.assign(document.createElement("canvas"), { width, height });
	const context = canvas.getContext("2d");
	let hue = 0;
	setInterval(() => {
		hue += 7;
		context.fillStyle = `hsl(${hue} 80% 50%)`;
		context.fillRect(0, 0, width, height);
	}, 33);
	return canvas.captureStream(30).getVideoTracks()[0];
};

// watch measures the longest time without a new decoded frame from now on; its result is read with gap().
lab.watch = async () => {
	let frames = (await lab.received()).frames;
	let since = performance.now();
	let longest = 0;
	const timer = setInterval(async () => {
		const now = (await lab.received()).frames;
		const at = performance.now();
		longest = Math.max(longest, at - since);
		if (now > frames) since = at;
		frames = now;
	}, 40);
	lab.gap = () => Math.max(longest, performance.now() - since);
	lab.unwatch = () => {
		clearInterval(timer);
		return longest;
	};
};

const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
const digest = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));

const receive = (link) => {
	const [kind, size] = link.label.split(":");
	if (kind !== "bulk") {
		link.on("message", (data) => {
			lab.blobs[link.label] = [...(lab.blobs[link.label] ?? []), data];
		});
		return;
	}
	const all = new Uint8Array(Number(size));
	let at = 0;
	link.on("message", (data) => {
		all.set(new Uint8Array(data), at);
		at += data.byteLength;
		if (at === all.length) digest(all).then((hash) => link.send(hash));
	});
};

// sendBulk sends pseudo-random bytes over a data channel and resolves with both hashes when the other side has told its own.
lab.sendBulk = async (name, size, chunk) => {
	const words = new Uint32Array(size / 4);
	let x = 2463534242;
	for (let i = 0; i < words.length; i++) {
		// Marsaglia's xorshift: not compressible, and the same every time.
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		words[i] = x;
	}
	const bytes = new Uint8Array(words.buffer);
	const sent = await digest(bytes);
	const link = await lab.peer(name).openData(`bulk:${size}`, { ordered: true });
	const answered = new Promise((resolve, reject) => {
		link.on("message", resolve);
		link.on("close", () => reject(new Error("closed")));
	});
	let most = 0;
	const started = performance.now();
	for (let at = 0; at < size; at += chunk) {
		await link.send(bytes.subarray(at, at + chunk));
		most = Math.max(most, link.bufferedBytes);
	}
	const received = await answered;
	const ms = performance.now() - started;
	link.close();
	return { sent, received, most, ms };
};
