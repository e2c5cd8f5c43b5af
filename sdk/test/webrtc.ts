import { vi } from "vitest";

// As much of a browser's WebRTC as ./connection.test.ts needs, in fake time: offers, answers, ICE credentials, and packets that pass while the
// network of both sides works. Two of them find each other by those credentials, and by nothing else.

let names = 0;
const ufragOf = (description: RTCSessionDescriptionInit | null) =>
	/^a=ice-ufrag:(\w+)/m.exec(description?.sdp ?? "")?.[1];

/** How often a connection looks whether packets arrive, and after how long without any ICE gives it up (RFC 7675 §5.1: 30 s). */
const tickMs = 100;
const consentMs = 30_000;
const doubtMs = 5_000;

/** A machine's own network: what all of its connections send and receive passes here, or does not. */
export class Network {
	up = true;
	/** All that were ever made here. */
	readonly connections: PeerConnection[] = [];
}

/** Where the next connection is made. */
let present: Network;
export const on = (network: Network): void => {
	present = network;
};
const living = new Set<PeerConnection>();

class Channel {
	readyState = "connecting";
	bufferedAmount = 0;
	onopen: (() => void) | null = null;
	onmessage: ((event: { data: unknown }) => void) | null = null;
	readonly pc: PeerConnection;

	constructor(pc: PeerConnection) {
		this.pc = pc;
	}

	send(data: unknown): void {
		const far = this.pc.far();
		if (far) setTimeout(() => far.channels[0]?.onmessage?.({ data }), tickMs);
	}
}

export class PeerConnection {
	signalingState = "stable";
	connectionState = "new";
	iceConnectionState = "new";
	pendingLocalDescription: RTCSessionDescriptionInit | null = null;
	currentLocalDescription: RTCSessionDescriptionInit | null = null;
	pendingRemoteDescription: RTCSessionDescriptionInit | null = null;
	currentRemoteDescription: RTCSessionDescriptionInit | null = null;
	onnegotiationneeded: (() => void) | null = null;
	onicecandidate: ((event: { candidate: RTCIceCandidate | null }) => void) | null = null;
	onconnectionstatechange: (() => void) | null = null;
	oniceconnectionstatechange: (() => void) | null = null;
	readonly channels: Channel[] = [];
	readonly #network = present;
	#ufrag = "";
	#restarts = false;
	#asked = false;
	#heardAtMs = 0;
	#bytes = 0;
	#timer = setInterval(() => this.#look(), tickMs);

	constructor() {
		living.add(this);
		this.#network.connections.push(this);
	}

	get localDescription() {
		return this.pendingLocalDescription ?? this.currentLocalDescription;
	}

	get remoteDescription() {
		return this.pendingRemoteDescription ?? this.currentRemoteDescription;
	}

	/** The other end, if both have each other's credentials and packets pass. */
	far(): PeerConnection | null {
		const [local, remote] = [ufragOf(this.localDescription), ufragOf(this.remoteDescription)];
		for (const other of living) {
			if (other === this || ufragOf(other.localDescription) !== remote || ufragOf(other.remoteDescription) !== local)
				continue;
			return this.#network.up && other.#network.up ? other : null;
		}
		return null;
	}

	#look(): void {
		const nowMs = performance.now();
		if (this.far()) {
			this.#heardAtMs = nowMs;
			this.#bytes += 100;
			this.#become("connected");
			const [hints] = this.channels;
			if (hints?.readyState === "connecting") {
				hints.readyState = "open";
				hints.onopen?.();
			}
		} else if (this.connectionState !== "new" && nowMs - this.#heardAtMs > consentMs) {
			this.#become("failed");
		} else if (this.connectionState === "connected" && nowMs - this.#heardAtMs > doubtMs) {
			this.#become("disconnected");
		}
	}

	#become(state: string): void {
		if (this.connectionState === state) return;
		this.connectionState = this.iceConnectionState = state;
		this.onconnectionstatechange?.();
	}

	#need(): void {
		this.#asked = true;
		setTimeout(() => {
			if (!this.#asked || this.signalingState !== "stable") return;
			this.#asked = false;
			this.onnegotiationneeded?.();
		});
	}

	createDataChannel(): Channel {
		const channel = new Channel(this);
		this.channels.push(channel);
		if (!this.remoteDescription) this.#need(); // the other side's offer has them, too
		return channel;
	}

	addTransceiver(kind: string, { direction = "sendrecv" } = {}) {
		const sender = {
			track: null,
			replaceTrack: async () => {},
			getParameters: () => ({}),
			setParameters: async () => {},
		};
		return { mid: null, direction, currentDirection: null, sender, receiver: { track: { kind } } };
	}

	getTransceivers() {
		return [];
	}

	restartIce(): void {
		this.#restarts = true;
		this.#need();
	}

	async createOffer(): Promise<void> {}

	async setLocalDescription(): Promise<void> {
		const answers = this.signalingState === "have-remote-offer";
		const asked = answers && ufragOf(this.pendingRemoteDescription) !== ufragOf(this.currentRemoteDescription);
		if (this.#ufrag === "" || this.#restarts || asked) this.#ufrag = `u${++names}`;
		this.#restarts = false;
		const sdp = `v=0\r\na=ice-ufrag:${this.#ufrag}\r\na=setup:${answers ? "active" : "actpass"}\r\n`;
		if (answers) {
			this.currentRemoteDescription = this.pendingRemoteDescription;
			this.currentLocalDescription = { type: "answer", sdp };
			this.#stable();
		} else {
			this.pendingLocalDescription = { type: "offer", sdp };
			this.signalingState = "have-local-offer";
		}
		setTimeout(() => this.onicecandidate?.({ candidate: null }));
	}

	async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
		if (description.type === "answer") {
			if (this.signalingState !== "have-local-offer") throw new Error("no offer waits for an answer");
			this.currentLocalDescription = this.pendingLocalDescription;
			this.currentRemoteDescription = description;
			this.#stable();
			return;
		}
		if (this.signalingState === "have-local-offer") {
			// Rolled back; a restart is asked for again afterwards.
			const current = this.currentLocalDescription;
			this.#restarts = current !== null && ufragOf(this.pendingLocalDescription) !== ufragOf(current);
			this.pendingLocalDescription = null;
			this.#asked = this.#restarts;
		}
		this.pendingRemoteDescription = description;
		this.signalingState = "have-remote-offer";
	}

	#stable(): void {
		this.pendingLocalDescription = this.pendingRemoteDescription = null;
		this.signalingState = "stable";
		if (this.#asked) this.#need();
	}

	async addIceCandidate(): Promise<void> {}

	getConfiguration() {
		return {};
	}

	setConfiguration(): void {}

	async getStats() {
		return new Map([["pair", { type: "candidate-pair", bytesReceived: this.#bytes, responsesReceived: 0 }]]);
	}

	close(): void {
		clearInterval(this.#timer);
		living.delete(this);
		this.signalingState = this.connectionState = this.iceConnectionState = "closed";
	}
}

/** Puts it in place of the browser's. */
export function install(): void {
	names = 0;
	living.clear();
	vi.stubGlobal("RTCPeerConnection", PeerConnection);
	vi.stubGlobal("RTCRtpReceiver", {});
	vi.stubGlobal("MediaStream", class {});
}
