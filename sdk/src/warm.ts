let done = false;

/**
 * The first connection of a page is slow: the browser starts threads, looks for codecs and makes a certificate. It does so here, once, while the page
 * still waits for the user, for devices and for the server. Nothing is sent.
 */
export function warmUp(): void {
	if (done || typeof RTCPeerConnection === "undefined") return;
	done = true;
	const pc = new RTCPeerConnection();
	pc.addTransceiver("audio");
	pc.addTransceiver("video");
	pc.createOffer()
		.catch(() => {}) // whatever it is, the real one will tell
		.finally(() => pc.close());
}
