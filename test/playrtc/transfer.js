// One end of a file transfer between two pages, and the same way without the SDK, to compare.
window.transfer = { events: [], files: [], commands: [] };
const sockets = [];
window.WebSocket = class extends window.WebSocket {
	constructor(...args) {
		super(...args);
		sockets.push(this);
	}
};

// The server may be at another address than the page.
transfer.load = (server) =>
	new Promise((resolve, reject) => {
		const script = document.createElement("script");
		script.src = `${server}/sdk/js/playrtc.min.js`;
		script.onload = resolve;
		script.onerror = reject;
		document.head.append(script);
	});

transfer.make = (projectKey) => {
	const app = new PlayRTC({ projectKey, audio: false, video: false, logLevel: "warn" });
	window.app = app;
	for (const name of ["connectChannel", "otherDisconnectChannel", "stateChange", "error"]) {
		app.on(name, (...args) => transfer.events.push({ name, args }));
	}
	app.on("userCommand", (_pid, _uid, data) => transfer.commands.push(data));
	app.on("addDataStream", (_pid, _uid, data) => {
		transfer.data = data;
		data.on("progress", (packet) => {
			transfer.progress = packet;
		});
		data.on("message", (message) => {
			if (message.type === "text") {
				transfer.text = message.data;
				return;
			}
			transfer.files.push(message);
			data.send("got it");
		});
		data.on("error", (error) => transfer.events.push({ name: "data error", args: [String(error)] }));
	});
};

const block = 1 << 20;

// A file that is on disk, so that the sender's memory does not count: pseudo-random blocks (Marsaglia's xorshift).
transfer.file = async (size) => {
	const root = await navigator.storage.getDirectory();
	const handle = await root.getFileHandle("source", { create: true });
	const writable = await handle.createWritable();
	const words = new Uint32Array(block / 4);
	let x = 2463534242;
	for (let at = 0; at < size; at += block) {
		for (let i = 0; i < words.length; i++) {
			x ^= x << 13;
			x ^= x >>> 17;
			x ^= x << 5;
			words[i] = x;
		}
		await writable.write(new Uint8Array(words.buffer, 0, Math.min(block, size - at)));
	}
	await writable.close();
	transfer.source = await handle.getFile();
};

// SHA-256 of the blocks' digests: the browser has no digest of a stream.
transfer.digest = async (blob) => {
	const digests = [];
	for (let at = 0; at < blob.size; at += block) {
		digests.push(await crypto.subtle.digest("SHA-256", await blob.slice(at, at + block).arrayBuffer()));
	}
	const all = new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(digests).arrayBuffer()));
	return [...all].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

transfer.dropSocket = () => sockets.at(-1).close();

const answered = (channel) =>
	new Promise((resolve) => {
		channel.addEventListener("message", resolve, { once: true });
	});

// The receiving end of `bare`.
transfer.count = () => {
	app
		.getAllPeer()[0]
		.getPeerConnection()
		.addEventListener("datachannel", ({ channel }) => {
			let left = Number(channel.label.split(":")[1]);
			channel.addEventListener("message", ({ data }) => {
				left -= data.byteLength;
				if (left <= 0) channel.send("got it");
			});
		});
};

const opened = async (size) => {
	const channel = app.getAllPeer()[0].getPeerConnection().createDataChannel(`bare:${size}`);
	channel.binaryType = "arraybuffer";
	await new Promise((resolve) => {
		channel.onopen = resolve;
	});
	return channel;
};

// MiB/s of a way to send.
const timed = async (size, send) => {
	const started = performance.now();
	await send();
	return (size / block / (performance.now() - started)) * 1000;
};

// What a data channel gives by itself: 64 KiB messages from the same file, up to 4 MiB under way, on again at 1 MiB.
transfer.bare = async (size) => {
	const channel = await opened(size);
	channel.bufferedAmountLowThreshold = 1 << 20;
	const rate = await timed(size, async () => {
		const done = answered(channel);
		for (let at = 0; at < size; at += block) {
			const bytes = await transfer.source.slice(at, Math.min(size, at + block)).arrayBuffer();
			for (let from = 0; from < bytes.byteLength; from += 65_536) {
				if (channel.bufferedAmount >= 4 << 20) {
					await new Promise((resolve) => {
						channel.onbufferedamountlow = resolve;
					});
				}
				channel.send(bytes.slice(from, from + 65_536));
			}
		}
		await done;
	});
	channel.close();
	return rate;
};

// The old SDK's way: 8 KiB with a header of 20, each read and sent when nothing is under way any more, looked at by a timer.
transfer.original = async (size) => {
	const channel = await opened(size + Math.ceil(size / 8192) * 20);
	const rate = await timed(size, async () => {
		const done = answered(channel);
		for (let at = 0; at < size; at += 8192) {
			const reader = new FileReader();
			const loaded = new Promise((resolve) => {
				reader.onload = resolve;
			});
			reader.readAsArrayBuffer(transfer.source.slice(at, Math.min(size, at + 8192)));
			await loaded;
			const packet = new Uint8Array(20 + reader.result.byteLength);
			packet.set(new Uint8Array(reader.result), 20);
			await new Promise((resolve) => {
				const timer = setInterval(() => {
					if (channel.bufferedAmount > 0) return;
					clearInterval(timer);
					resolve();
				}, 0);
			});
			channel.send(packet);
		}
		await done;
	});
	channel.close();
	return rate;
};

transfer.sdk = async (size) => {
	const file = new File([transfer.source.slice(0, size)], "file.bin");
	transfer.text = "";
	return timed(size, async () => {
		const done = new Promise((resolve) => {
			transfer.data.on("message", resolve);
		});
		app.sendFile(file);
		await done;
		transfer.data.off("message");
		transfer.data.on("message", (message) => {
			transfer.text = message.data;
		});
	});
};
