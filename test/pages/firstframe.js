// Runs in the page of a visitor before anything of the page's own: notes when what happens, in milliseconds since the navigation began, and
// presses the button to join as soon as it is there.
{
	const marks = {};
	const mark = (name) => {
		marks[name] ??= performance.now();
	};
	window.firstFrame = { marks, shown: false, clicks: 0 };
	addEventListener("click", () => window.firstFrame.clicks++, true);

	const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
	navigator.mediaDevices.getUserMedia = async (wish) => {
		mark("devicesAsked");
		const stream = await open(wish);
		mark("devices");
		return stream;
	};

	window.WebSocket = class extends WebSocket {
		constructor(...args) {
			super(...args);
			mark("socketAsked");
			this.addEventListener("open", () => mark("socket"));
			this.addEventListener("message", ({ data }) => {
				if (data.includes('"type":"joined"')) mark("joined");
				if (data.includes('"type":"answer"')) mark("answer");
			});
		}
		send(data) {
			if (data.includes('"type":"offer"')) mark("offer");
			super.send(data);
		}
	};

	window.RTCPeerConnection = class extends RTCPeerConnection {
		constructor(...args) {
			super(...args);
			this.addEventListener("iceconnectionstatechange", () => {
				if (this.iceConnectionState === "connected" || this.iceConnectionState === "completed") mark("ice");
			});
			this.addEventListener("connectionstatechange", () => {
				if (this.connectionState === "connected") mark("dtls");
			});
		}
	};

	// A page that has no frames to draw calls nothing back: both ways of looking are needed.
	const soon = (look) => {
		let over = false;
		const step = () => {
			if (over) return;
			over = look();
			if (!over) setTimeout(step, 4);
		};
		new MutationObserver(step).observe(document, { childList: true, subtree: true });
		step();
	};
	const call = () => document.querySelector("madang-call")?.shadowRoot;
	soon(() => {
		const button = call()?.querySelector('[data-testid="join"]');
		if (!button) return false;
		mark("button");
		button.click();
		return true;
	});
	soon(() => {
		const video = call()?.querySelector('.tile[data-self="false"] video');
		if (!video) return false;
		mark("tile");
		video.requestVideoFrameCallback(() => {
			mark("frame");
			window.firstFrame.shown = true;
		});
		return true;
	});
}
