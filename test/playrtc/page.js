// In each page before its own scripts: what a person would do at a dialog, and where a download would go.
window.dialogs = [];
window.answer = true;
window.alert = (text) => {
	dialogs.push(String(text));
};
window.confirm = (text) => {
	dialogs.push(String(text));
	return answer;
};
window.downloads = [];
const click = HTMLAnchorElement.prototype.click;
HTMLAnchorElement.prototype.click = function () {
	if (!this.download) return click.call(this);
	const { download: name, href } = this;
	fetch(href)
		.then((response) => response.blob())
		.then((blob) => downloads.push({ name, blob }));
};
// The same bytes every time (Marsaglia's xorshift), for files that a person would choose.
window.bytes = (size) => {
	const all = new Uint8Array(size);
	let x = 2463534242;
	for (let i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		all[i] = x;
	}
	return all;
};
window.choose = (id, name, size) => {
	const chosen = new DataTransfer();
	chosen.items.add(new File([bytes(size)], name, { type: "application/octet-stream" }));
	document.getElementById(id).files = chosen.files;
};
// Whether a blob has exactly those bytes.
window.same = async (blob, size) => {
	const [got, want] = [new Uint8Array(await blob.arrayBuffer()), bytes(size)];
	return got.length === want.length && got.every((byte, index) => byte === want[index]);
};
// Whether a media element shows and sounds: a time that goes on.
window.plays = (id) => {
	const element = document.getElementById(id);
	return element.readyState === 4 && !element.paused && element.currentTime > 0;
};
