/**
 * A soft two-note bell, `times` times (every 2.5 s), or until the returned function is called. It is made of two sine tones: no file has to be loaded.
 */
export function chime(times: number): () => void {
	let context: AudioContext | null = null;
	try {
		context = new AudioContext();
	} catch {
		return () => {};
	}
	const audio = context;
	const start = audio.currentTime + 0.05;
	for (let i = 0; i < times; i++) {
		tone(audio, 587.33, start + i * 2.5);
		tone(audio, 880, start + i * 2.5 + 0.22);
	}
	const close = () => {
		clearTimeout(timer);
		if (audio.state !== "closed") void audio.close().catch(() => {});
	};
	const timer = setTimeout(close, times * 2500 + 500);
	return close;
}

function tone(audio: AudioContext, frequencyHz: number, at: number): void {
	const oscillator = audio.createOscillator();
	const gain = audio.createGain();
	oscillator.frequency.value = frequencyHz;
	gain.gain.setValueAtTime(0, at);
	gain.gain.linearRampToValueAtTime(0.12, at + 0.02);
	gain.gain.exponentialRampToValueAtTime(0.0005, at + 1.1);
	oscillator.connect(gain).connect(audio.destination);
	oscillator.start(at);
	oscillator.stop(at + 1.2);
}
