// A client of the old kind, as far as others can tell: the channel's socket, the newcomer's single offer, one stream, candidates as they come, and data
// in the old header by 8 KiB with the habits of SDK 2.2.15: the data type is read at offset 20 of every packet outside of any error handling, receive
// tables have ids of the page, files are paced by an empty buffer. With `shim` its data channel is negotiated, as when old browsers honoured its id.
// Everything it sees is in `seen`.
window.Legacy = class Legacy {
	constructor({ key, shim = true, stream = null, ring = false, uid = "", base = "http://www.playrtc.com/v3/playrtc" }) {
		Object.assign(this, { key, shim, stream, ring, uid, base });
		this.peers = {};
		this.seen = [];
		this.texts = [];
		this.files = [];
		this.table = {};
	}

	see(name, ...args) {
		this.seen.push({ name, args });
	}

	saw(name) {
		return this.seen.filter((event) => event.name === name);
	}

	// ---- REST and socket

	async rest(method, path, body) {
		const response = await fetch(this.base + path, {
			method,
			headers: { "Content-Type": "application/json; charset=UTF-8", TDCProjectKey: this.key },
			body: JSON.stringify(body),
		});
		const answer = await response.json();
		if (response.status !== 200) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
		return answer;
	}

	get request() {
		const env = { os: "mac", device: "chrome", version: "", carrier: "", country: "KR", networkType: "wired" };
		return { peer: { uid: this.uid }, env, nag: { userExpires: "86000" } };
	}

	async create() {
		this.enter(await this.rest("POST", "/channels/channel", this.request));
		return this.channelId;
	}

	async connect(id) {
		this.enter(await this.rest("PUT", `/channels/channel/${id}`, this.request));
	}

	enter({ channelId, token, configuration, turn }) {
		this.channelId = channelId;
		this.token = token.tokenId;
		const { turnIp, turnPort, turnId, turnPw } = turn.turnserver;
		this.ice = [{ urls: `turn:${turnIp}:${turnPort}`, username: turnId, credential: turnPw }];
		this.socket = new WebSocket(configuration.channelUrl);
		this.socket.onopen = () => {
			const message = this.message("connect", { uid: this.uid || "none", channelId });
			message.header.sender = { type: "peer", id: "none" };
			message.header.sender.env = {
				platformType: "mac",
				browser: { name: "chrome", version: "52.0.2743.82" },
				sdk: { type: "web", version: "2.2.15" },
				networkType: "wired",
			};
			this.socket.send(JSON.stringify(message));
		};
		this.socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
	}

	message(command, data, receiver = { type: "server", id: "none" }) {
		const header = { command, commandType: "req", token: this.token, expireTime: "none", broadcast: "none" };
		return { header: { ...header, sender: { type: "peer", id: this.token }, receiver }, body: { data } };
	}

	say(...args) {
		this.socket.send(JSON.stringify(this.message(...args)));
	}

	hear({ header, body }) {
		const { data } = body;
		const command = header.command.toUpperCase();
		if (header.commandType === "res" && body.header.code !== "20001") {
			this.see("error", body.header.code);
			return;
		}
		switch (command) {
			case "CONNECT":
				this.see("joined", data.others.length);
				this.say("health", {});
				for (const { id, uid, env } of data.others) {
					this.peers[id] = { uid, env };
					if (this.ring) this.say("ready", { channelId: this.channelId, targetId: id });
					else this.call(id);
				}
				return;
			case "ON_CONNECT": {
				const { id, uid, env } = data.others[0];
				this.see("on_connect", id);
				this.peers[id] = { uid, env };
				return;
			}
			case "ON_READY":
				this.see("ring", data.targetId);
				return;
			case "READY":
				this.see(data.status === "yes" ? "accept" : "reject", data.targetId);
				if (data.status === "yes") this.call(data.targetId);
				return;
			case "SDP":
				this.describe(header.sender.id, data);
				return;
			case "CANDIDATE":
				this.make(header.sender.id)
					.pc.addIceCandidate(JSON.parse(data.candidate))
					.catch((error) => this.see("lost candidate", String(error)));
				return;
			case "ON_USERDEFINED":
				if (this.peers[data.targetId]?.pc) this.see("userCommand", data.targetId, data.userData);
				return;
			case "CLOSE":
				this.see("disconnectChannel", data.channelId);
				this.close();
				return;
			case "ON_CLOSE":
				this.see("otherDisconnectChannel", data.targetId, data.reason);
				this.peers[data.targetId]?.pc?.close();
				delete this.peers[data.targetId];
		}
	}

	answer(id, yes) {
		const message = this.message("on_ready", { status: yes ? "yes" : "no", channelId: this.channelId, targetId: id });
		message.header.commandType = "res";
		message.body.header = { code: "20001", desc: "SUCCESS" };
		this.socket.send(JSON.stringify(message));
	}

	userCommand(userData) {
		const message = this.message("userdefined", { channelId: this.channelId, userData });
		message.header.broadcast = "yes";
		message.header.receiver.targets = [];
		this.socket.send(JSON.stringify(message));
	}

	remove(id) {
		const message = this.message("peer_close", { channelId: this.channelId });
		message.header.sender.id = id;
		this.socket.send(JSON.stringify(message));
	}

	deleteChannel() {
		this.say("channel_close", { channelId: this.channelId });
	}

	close() {
		this.socket.close();
		for (const { pc } of Object.values(this.peers)) pc?.close();
		this.peers = {};
	}

	// ---- connections

	make(id) {
		this.peers[id] ??= {};
		const peer = this.peers[id];
		if (peer.pc) return peer;
		const pc = new RTCPeerConnection({ iceServers: this.ice });
		peer.pc = pc;
		if (this.stream) for (const track of this.stream.getTracks()) pc.addTrack(track, this.stream);
		peer.channel = pc.createDataChannel("channel", this.shim ? { id: 1, negotiated: true } : { id: 1 });
		peer.channel.binaryType = "arraybuffer";
		peer.channel.onopen = () => this.see("addDataStream", id);
		peer.channel.onmessage = ({ data }) => this.take(id, data);
		pc.onicecandidate = ({ candidate }) => {
			if (candidate?.candidate) this.say("candidate", { candidate: JSON.stringify(candidate) }, { type: "peer", id });
		};
		// As the event addstream: once for a stream, and not at all without one.
		pc.ontrack = ({ streams: [stream] }) => {
			if (!stream || peer.stream === stream) return;
			peer.stream = stream;
			this.see("addRemoteStream", id);
		};
		pc.oniceconnectionstatechange = () => this.see("ice", pc.iceConnectionState);
		return peer;
	}

	async call(id) {
		const { pc } = this.make(id);
		const offer = await pc.createOffer();
		await pc.setLocalDescription(offer);
		this.say("sdp", { type: "offer", sdp: JSON.stringify(offer) }, { type: "peer", id });
	}

	async describe(id, { type, sdp }) {
		const { pc } = this.make(id);
		this.see(type, id);
		pc.setRemoteDescription(JSON.parse(sdp)).catch((error) => this.see("failed", String(error)));
		if (type !== "offer") return;
		const answer = await pc.createAnswer();
		await pc.setLocalDescription(answer);
		this.say("sdp", { type: "answer", sdp: JSON.stringify(answer) }, { type: "peer", id });
	}

	// ---- data, old header

	async send(type, bytes, { fileName = "", mimeType = "" } = {}) {
		for (const { channel } of Object.values(this.peers)) {
			if (channel?.readyState !== "open") continue;
			const id = Date.now();
			const count = Math.max(1, Math.ceil(bytes.length / 8192));
			for (let index = 0; index < count; index++) {
				const part = bytes.subarray(index * 8192, (index + 1) * 8192);
				const head = index > 0 ? 20 : type === "text" ? 36 : 548;
				const packet = new Uint8Array(head + part.length);
				const view = new DataView(packet.buffer);
				view.setFloat64(0, id);
				view.setInt32(8, index > 0 ? 1 : 0);
				if (index > 0) {
					view.setInt32(12, index);
				} else {
					view.setFloat64(12, bytes.length);
					view.setInt32(20, type === "text" ? 0 : 1);
					if (type !== "text") {
						packet.set(Legacy.utf16(fileName), 24);
						packet.set(Legacy.utf16(mimeType), 280);
					}
					view.setInt32(head - 12, count);
				}
				view.setInt32(head - 4, part.length);
				packet.set(part, head);
				while (type !== "text" && channel.bufferedAmount > 0) await new Promise((r) => setTimeout(r, 0));
				channel.send(packet);
				if (type === "text" && index < count - 1) await new Promise((r) => setTimeout(r, 100));
			}
			while (Date.now() === id) await new Promise((r) => setTimeout(r, 1)); // ids of one millisecond collide
		}
	}

	sendText(text) {
		return this.send("text", Legacy.utf16(text));
	}

	sendFile(bytes, fileName) {
		return this.send("binary", bytes, { fileName, mimeType: "application/octet-stream" });
	}

	static utf16(text) {
		const bytes = new Uint8Array(text.length * 2);
		for (let i = 0; i < text.length; i++) new DataView(bytes.buffer).setUint16(2 * i, text.charCodeAt(i));
		return bytes;
	}

	static text(bytes) {
		return new TextDecoder("utf-16be", { ignoreBOM: true }).decode(bytes).replace(/\0+$/, "");
	}

	take(peer, data) {
		const view = new DataView(data);
		const type = view.getInt32(20); // throws when the packet is shorter than that
		const id = view.getFloat64(0);
		const master = view.getInt32(8) === 0;
		const head = !master ? 20 : type === 0 ? 36 : 548;
		if (master) {
			this.table[id] = {
				type,
				count: view.getInt32(head - 12),
				fileName: type === 1 ? Legacy.text(new Uint8Array(data, 24, 256)) : "",
				parts: [],
			};
		}
		const message = this.table[id];
		message.parts.push(new Uint8Array(data, head));
		const index = master ? 0 : view.getInt32(12);
		if (index !== message.count - 1) return;
		const blob = new Blob(message.parts);
		if (message.type === 1) this.files.push({ peer, fileName: message.fileName, blob });
		else blob.arrayBuffer().then((all) => this.texts.push(Legacy.text(new Uint8Array(all))));
		delete this.table[id];
	}
};
