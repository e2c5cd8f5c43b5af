// A camera that shows a painted person instead of the browser's test picture: for the pictures in docs/images. Evaluated in a page before its own
// scripts, with `look` in scope: { wall, floor, skin, hair, shirt, long, glasses, plant }.
navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
	const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
	const c = canvas.getContext("2d");
	const shape = (color, draw) => {
		c.fillStyle = color;
		c.beginPath();
		draw();
		c.fill();
	};
	const oval = (x, y, rx, ry = rx) => c.ellipse(x, y, rx, ry, 0, 0, 7);
	const paint = () => {
		const t = performance.now() / 1000;
		const sway = Math.sin(t * 0.9) * 5;
		const wall = c.createLinearGradient(0, 0, 1280, 720);
		wall.addColorStop(0, look.wall[0]);
		wall.addColorStop(1, look.wall[1]);
		shape(wall, () => c.rect(0, 0, 1280, 720));
		if (look.plant) {
			// A window with the light of the afternoon, and a plant before it.
			shape("#fff4d6", () => c.roundRect(90, 70, 270, 380, 16));
			shape("#ffe2a6", () => c.roundRect(90, 280, 270, 170, [0, 0, 16, 16]));
			c.fillStyle = "#a97f55";
			for (const [x, y, w, h] of [
				[82, 62, 286, 14],
				[82, 444, 286, 16],
				[218, 70, 12, 380],
				[90, 254, 270, 12],
			])
				c.fillRect(x, y, w, h);
			for (let i = 0; i < 9; i++) {
				c.save();
				c.translate(1110, 480);
				c.rotate(-1.15 + i * 0.29 + Math.sin(t + i) * 0.01);
				shape(i % 2 ? "#4f8a62" : "#69a578", () => oval(0, -130, 26, 130));
				c.restore();
			}
			shape("#c9784f", () => c.roundRect(1035, 470, 150, 260, 18));
		} else {
			// A shelf with books, and a lamp.
			shape("#7b5a41", () => c.rect(760, 250, 520, 16));
			const books = ["#b5533c", "#e2b04a", "#3f6f73", "#efe6d2", "#6b4a7d", "#3a4a63", "#b5533c", "#8fa67a"];
			let x = 800;
			for (const [i, color] of books.entries()) {
				const w = 28 + ((i * 13) % 22);
				const h = 120 + ((i * 37) % 56);
				shape(color, () => c.roundRect(x, 250 - h, w, h, 4));
				x += w + 5;
			}
			const glow = c.createRadialGradient(190, 240, 20, 190, 240, 330);
			glow.addColorStop(0, "#ffe9b8cc");
			glow.addColorStop(1, "#ffe9b800");
			shape(glow, () => c.rect(0, 0, 600, 620));
			shape("#5c5348", () => c.rect(184, 250, 12, 470));
			shape("#f7dfae", () => c.roundRect(100, 130, 180, 140, [70, 70, 14, 14]));
		}
		c.save();
		c.translate(640 + sway, 40 + Math.sin(t * 1.3) * 3);
		if (look.long) shape(look.hair, () => c.roundRect(-178, 150, 356, 430, [178, 178, 70, 70]));
		shape(look.shirt, () => c.roundRect(-310, 510, 620, 400, [190, 190, 0, 0]));
		shape(look.skin[1], () => c.roundRect(-66, 400, 132, 160, 60));
		shape(look.skin[0], () => oval(0, 310, 142, 172));
		shape(look.skin[0], () => oval(-142, 320, 24, 38));
		shape(look.skin[0], () => oval(142, 320, 24, 38));
		// Hair with its parting.
		shape(look.hair, () => {
			c.moveTo(-156, 320);
			c.bezierCurveTo(-190, 60, 190, 50, 156, 320);
			c.bezierCurveTo(150, 230, 90, 200, 40, 180);
			c.bezierCurveTo(-20, 230, -130, 220, -156, 320);
		});
		const blink = t % 4.3 < 0.14 ? 0.15 : 1;
		for (const side of [-1, 1]) {
			shape("#2b2320", () => oval(side * 54, 318, 12, 14 * blink));
			if (blink === 1) shape("#ffffff", () => oval(side * 54 + 4, 313, 4));
			shape("#e88f7855", () => oval(side * 84, 366, 28, 18));
			c.strokeStyle = look.hair;
			c.lineWidth = 8;
			c.lineCap = "round";
			c.beginPath();
			c.moveTo(side * 34, 282);
			c.quadraticCurveTo(side * 56, 270, side * 78, 284);
			c.stroke();
			if (look.glasses) {
				c.strokeStyle = "#35302c";
				c.lineWidth = 6;
				c.beginPath();
				c.roundRect(side * 54 - 42, 288, 84, 62, 26);
				c.stroke();
			}
		}
		c.strokeStyle = look.skin[1];
		c.lineWidth = 7;
		c.beginPath();
		c.moveTo(2, 340);
		c.quadraticCurveTo(16, 372, -4, 374);
		c.stroke();
		// A smile that talks a little.
		const open = 10 + 8 * Math.max(0, Math.sin(t * 5.1) * Math.sin(t * 1.7));
		shape("#8e3b34", () => {
			c.moveTo(-46, 402);
			c.quadraticCurveTo(0, 416, 46, 402);
			c.quadraticCurveTo(0, 416 + open * 3.4, -46, 402);
		});
		c.restore();
	};
	paint();
	setInterval(paint, 33);
	const tracks = [];
	if (video) tracks.push(...canvas.captureStream(30).getVideoTracks());
	if (audio) {
		const context = new AudioContext();
		const out = context.createMediaStreamDestination();
		tracks.push(...out.stream.getAudioTracks());
	}
	return new MediaStream(tracks);
};
