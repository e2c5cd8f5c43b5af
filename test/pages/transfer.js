// One end of a transfer, through the SDK's public API alone: evaluated in a page, with `server` in scope, it makes window.end.
const sdk = await import(`${server}/sdk/madang-transfer.js`);
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
const digest = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));

const end = { sdk, sending: null, receiving: null, error: undefined, saved: null, warned: 0, complete: null };
window.end = end;

// A file of pseudo-random bytes (xorshift), the same for the same seed.
end.makeFile = (name, size, seed = 1) => {
	const words = new Uint32Array(Math.ceil(size / 4));
	let x = 2463534242 ^ seed;
	for (let i = 0; i < words.length; i++) {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		words[i] = x;
	}
	return new File([new Uint8Array(words.buffer, 0, size)], name, { lastModified: 1_790_000_000_000 });
};

end.send = async (files, options = {}) => {
	const chosen = files.map(({ path, size, seed }) => ({
		path,
		file: end.makeFile(path.split("/").at(-1), size, seed),
	}));
	end.chosen = chosen;
	end.sending = await sdk.sendFiles(chosen, { server, ...options });
	end.sending.on("ended", (error) => {
		end.error = error ? error.code : null;
	});
	return end.sending.link;
};

end.digests = () =>
	Promise.all(end.chosen.map(async ({ path, file }) => [path, await digest(await file.arrayBuffer())]));

end.receive = async (from, options = {}) => {
	end.complete = null;
	end.error = undefined;
	end.receiving = await sdk.receiveFiles(from, { server, ...options });
	end.receiving.on("ended", (error) => {
		end.error = error ? error.code : null;
	});
	end.receiving.on("not-authentic", () => {
		end.warned++;
	});
	end.receiving.on("complete", (received) => {
		end.complete = received;
	});
};

end.arrived = () => end.complete !== null && end.error === null;

// What was received, read back from where it is kept.
end.received = () =>
	Promise.all(end.complete.map(async ({ entry, content }) => [entry.path, await digest(await content.arrayBuffer())]));

// A bare data channel of a connection without a server, with plain flow control by the low-water mark: what the browser itself can do.
end.raw = {
	// The description with all of its candidates.
	async described() {
		const { pc } = end.raw;
		await pc.setLocalDescription();
		if (pc.iceGatheringState !== "complete") {
			await new Promise((resolve) => {
				pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && resolve();
			});
		}
		return pc.localDescription.sdp;
	},
	make() {
		end.raw.pc?.close();
		end.raw.pc = new RTCPeerConnection();
		const channel = end.raw.pc.createDataChannel("bare", { negotiated: true, id: 1 });
		channel.binaryType = "arraybuffer";
		channel.bufferedAmountLowThreshold = 1 << 20;
		end.raw.bytes = 0;
		channel.onmessage = ({ data }) => {
			end.raw.bytes += data.byteLength;
		};
		end.raw.channel = channel;
	},
	async offer() {
		end.raw.make();
		return end.raw.described();
	},
	async answer(sdp) {
		end.raw.make();
		await end.raw.pc.setRemoteDescription({ type: "offer", sdp });
		return end.raw.described();
	},
	accept: (sdp) => end.raw.pc.setRemoteDescription({ type: "answer", sdp }),
	async flood(ms) {
		const { channel } = end.raw;
		const zeros = new Uint8Array(65_536);
		const until = performance.now() + ms;
		while (performance.now() < until) {
			if (channel.bufferedAmount < 2 << 20) channel.send(zeros);
			else {
				await new Promise((resolve) => {
					channel.onbufferedamountlow = resolve;
				});
			}
		}
	},
};
