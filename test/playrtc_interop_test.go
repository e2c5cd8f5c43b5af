//go:build linux

package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/lab/browser"
)

// TestPlayRTCOldClients lets pages of ours meet a client of the old kind, each as the newcomer, with a data channel that both browsers of 2016 would
// have put on one stream, and with one that current browsers put on another.
func TestPlayRTCOldClients(t *testing.T) {
	t.Parallel()
	inPlayRTCBrowsers(t, func(t *testing.T, l *playrtcLab) {
		for _, newcomer := range []string{"old", "new"} {
			for _, shim := range []bool{true, false} {
				if l.browser.Engine == browser.Firefox && !shim {
					continue // an old client there waits for an acknowledgement of its channel, which does not come on a stream that is taken
				}
				t.Run(fmt.Sprintf("%s joins, shim %v", newcomer, shim), func(t *testing.T) {
					p := l.open(t, "interop.html")
					p.meet(newcomer, shim)
					p.oldAndNewExchange()
				})
			}
		}
		t.Run("rings", func(t *testing.T) { oldAndNewRing(t, l) })
	})
}

// meet makes `app`, ours, and `old` in the page, and connects them with sound and picture.
func (p *playrtcPage) meet(newcomer string, shim bool) {
	p.t.Helper()
	p.do(patience, fmt.Sprintf(`
		window.events = [];
		window.received = [];
		window.app = new PlayRTC({ projectKey: %[1]s, localMediaTarget: "localVideo", remoteMediaTarget: "remoteVideo" });
		for (const name of ["connectChannel", "disconnectChannel", "otherDisconnectChannel", "addRemoteStream", "addDataStream", "userCommand", "stateChange", "error"]) {
			app.on(name, (...args) => { events.push({ name, args }); });
		}
		app.on("addRemoteStream", () => false); // there are two listeners: the page shows it
		app.on("addRemoteStream", (pid, uid, stream) => { remoteVideo.srcObject = stream; remoteVideo.play().catch(() => {}); });
		app.on("addDataStream", (pid, uid, data) => data.on("message", (message) => received.push(message)));
		const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
		window.old = new Legacy({ key: %[1]s, uid: "old", shim: %[2]v, stream });
		window.saw = (name) => events.filter((event) => event.name === name);
	`, js(sandboxKey), shim), nil)
	if newcomer == "new" {
		p.do(patience, "app.connectChannel(await old.create(), { peer: { uid: 'new' } })", nil)
	} else {
		p.do(patience, "app.createChannel({ peer: { uid: 'new' } })", nil)
		p.await(patience, "saw('connectChannel').length === 1")
		p.do(patience, "await old.connect(app.getChannelId())", nil)
	}
}

func (p *playrtcPage) oldAndNewExchange() {
	p.t.Helper()
	// Media: both see the other's stream, once, and a picture in it.
	p.await(patience, "saw('addRemoteStream').length === 1 && old.saw('addRemoteStream').length === 1")
	p.do(patience, "oldVideo.srcObject = Object.values(old.peers)[0].stream; await oldVideo.play().catch(() => {})", nil)
	p.plays("remoteVideo", "oldVideo")
	p.await(patience, "saw('addRemoteStream')[0].args[0] === old.token && saw('addRemoteStream')[0].args[1] === 'old' && Object.keys(old.peers)[0] === app.getPeerId()")
	p.await(patience, "['CHECKING', 'SUCCESS', 'CONNECTED'].every((state) => saw('stateChange').some(({ args }) => args[0] === state))")

	// Texts, both ways.
	p.await(patience, "saw('addDataStream').length === 1")
	p.await(patience, "old.saw('addDataStream').length === 1")
	long := strings.Repeat("마당 ", 5000)
	for i, text := range []string{"한글, わご, 中文 😀", "", long} {
		p.do(patience, fmt.Sprintf("app.sendText(%s)", js(text)), nil)
		p.await(patience, "old.texts.length === %d && old.texts[%d] === %s", i+1, i, js(text))
		if text == "" {
			continue // the old side throws on those before it sends
		}
		p.do(patience, fmt.Sprintf("received.length = 0; old.sendText(%s)", js(text)), nil)
		p.await(patience, "received.length === 1 && received[0].type === 'text' && received[0].data === %s && received[0].peerId === old.token", js(text))
	}

	// Files of the sizes at which packets are cut, both ways.
	for _, size := range []int{0, 1, 2, 8191, 8192, 8193, 16386, 5_000_000} {
		p.do(patience, fmt.Sprintf("old.files.length = 0; app.sendFile(new File([bytes(%d)], '파일.bin'))", size), nil)
		p.await(patience, "old.files.length === 1 && old.files[0].fileName === '파일.bin' && same(old.files[0].blob, %d)", size)
		p.do(patience, fmt.Sprintf("received.length = 0; old.sendFile(bytes(%d), '파일.bin')", size), nil)
		p.await(patience, "received.length === 1 && received[0].type === 'binary' && received[0].fileName === '파일.bin' && received[0].totalSize === %d && same(received[0].blob, %d)", size, size)
	}

	// Commands, by way of the server.
	p.do(patience, "app.userCommand({ hand: true }); old.userCommand('raise-hand')", nil)
	p.await(patience, "old.saw('userCommand').some(({ args }) => args[0] === app.getPeerId() && args[1].hand === true)")
	p.await(patience, "saw('userCommand').some(({ args }) => args[0] === old.token && args[1] === 'old' && args[2] === 'raise-hand')")

	// Nothing that its protocol does not know came to the old side.
	p.await(patience, "old.saw('offer').length + old.saw('answer').length === 1 && old.saw('error').length === 0 && old.saw('failed').length === 0")

	// Either removes the other, and the channel is deleted for both.
	p.do(patience, "window.channel = app.getChannelId(); window.token = old.token; app.disconnectChannel(old.token)", nil)
	p.await(patience, "old.saw('disconnectChannel').length === 1 && saw('otherDisconnectChannel').length === 1 && saw('otherDisconnectChannel')[0].args[0] === token")
	p.do(patience, "await old.connect(channel)", nil)
	p.await(patience, "saw('addDataStream').length === 2 && old.saw('joined').at(-1).args[0] === 1")
	p.do(patience, "window.own = app.getPeerId(); old.remove(own)", nil)
	p.await(patience, "saw('disconnectChannel').length === 1 && saw('disconnectChannel')[0].args[1] === own && app.getChannelId() === null")
	p.await(patience, "old.saw('otherDisconnectChannel').some(({ args }) => args[0] === own)")
	p.do(patience, "app.connectChannel(channel)", nil)
	p.await(patience, "saw('addDataStream').length === 3")
	p.do(patience, "old.deleteChannel()", nil)
	p.await(patience, "saw('disconnectChannel').length === 2 && old.saw('disconnectChannel').length === 2")
	p.await(patience, "saw('error').length === 0")
}

func oldAndNewRing(t *testing.T, l *playrtcLab) {
	p := l.open(t, "interop.html")
	p.do(patience, fmt.Sprintf(`
		window.make = (answer) => {
			const app = new PlayRTC({ projectKey: %[1]s, audio: false, video: false, ring: true });
			app.events = [];
			for (const name of ["ring", "accept", "reject", "addDataStream", "error"]) app.on(name, (...args) => { app.events.push({ name, args }); });
			app.on("ring", (pid) => (answer ? app.accept(pid) : app.reject(pid)));
			app.saw = (name) => app.events.filter((event) => event.name === name);
			return app;
		};
		window.makeOld = () => new Legacy({ key: %[1]s, uid: "old", ring: true });
		window.until = async (condition) => { while (!condition()) await new Promise((r) => setTimeout(r, 20)); };
	`, js(sandboxKey)), nil)
	for _, yes := range []bool{true, false} {
		word := map[bool]string{true: "accept", false: "reject"}[yes]
		p.do(patience, fmt.Sprintf(`
			const app = make(%[1]v), old = makeOld();
			app.createChannel();
			await until(() => app.getChannelId());
			await old.connect(app.getChannelId());
			await until(() => old.saw(%[2]s).length === 1 && app.saw("ring").length === 1);
			if (app.saw("ring")[0].args.join() !== [old.token, "old"].join()) throw new Error("ring " + app.saw("ring")[0].args);
			if (%[1]v) await until(() => app.saw("addDataStream").length === 1 && old.saw("addDataStream").length === 1);
			app.close();
			old.close();
		`, yes, js(word)), nil)
		p.do(patience, fmt.Sprintf(`
			const app = make(true), old = makeOld();
			app.connectChannel(await old.create(), { peer: { uid: "new" } });
			await until(() => old.saw("ring").length === 1);
			old.answer(old.saw("ring")[0].args[0], %[1]v);
			await until(() => app.saw(%[2]s).length === 1);
			if (app.saw(%[2]s)[0].args.join() !== [old.token, "old"].join()) throw new Error("answer " + app.saw(%[2]s)[0].args);
			if (%[1]v) await until(() => app.saw("addDataStream").length === 1 && old.saw("addDataStream").length === 1);
			else if (app.getChannelId() === null || app.getAllPeer().length > 0) throw new Error("a rejected newcomer stays, without a peer");
			app.close();
			old.close();
		`, yes, js(word)), nil)
	}
}

// TestPlayRTCAndNativePages lets a page of the native SDK meet an old client: it sees its tracks, and they exchange texts and files.
func TestPlayRTCAndNativePages(t *testing.T) {
	t.Parallel()
	inPlayRTCBrowsers(t, func(t *testing.T, l *playrtcLab) {
		for _, newcomer := range []string{"old", "native"} {
			t.Run(newcomer+" joins", func(t *testing.T) {
				p := l.open(t, "interop.html")
				p.do(patience, fmt.Sprintf(`
					const { join, media } = await import("http://www.playrtc.com/sdk/madang.js");
					const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
					window.old = new Legacy({ key: %[1]s, uid: "old", ring: true, stream });
					window.received = [];
					const local = await media.open({ audio: true, video: true });
					const listen = (peer) => {
						window.peer = peer;
						peer.on("message", (text) => received.push(text));
						peer.on("file", (file) => received.push(file));
						peer.on("track", (track) => { if (track.source === "camera") { remoteVideo.srcObject = track.stream; remoteVideo.play().catch(() => {}); } });
					};
					window.enter = async (channel) => {
						window.channel = await join({ server: "http://www.playrtc.com", channel, key: %[1]s, media: local });
						window.channel.on("peer-joined", listen);
						for (const peer of window.channel.peers.values()) listen(peer);
					};
				`, js(sandboxKey)), nil)
				if newcomer == "native" {
					p.do(patience, "old.ring = false; await enter(await old.create())", nil)
				} else {
					// A channel that the old client knows is made by its REST call; the native page joins first.
					p.do(patience, `const id = (await old.rest("POST", "/channels/channel", old.request)).channelId; await enter(id); await old.connect(id)`, nil)
				}
				p.plays("remoteVideo")
				p.await(patience, "old.saw('addRemoteStream').length === 1 && old.saw('addDataStream').length === 1")
				p.do(patience, "await peer.send('안녕'); await peer.send(new File([bytes(100_000)], 'a.bin')); await old.sendText('hi'); await old.sendFile(bytes(20_000), 'b.bin')", nil)
				p.await(patience, "old.texts[0] === '안녕' && old.files.length === 1 && old.files[0].fileName === 'a.bin' && same(old.files[0].blob, 100_000)")
				p.await(patience, "received[0] === 'hi' && received[1]?.name === 'b.bin' && same(received[1], 20_000)")
				p.do(patience, "window.channel.leave(); old.close()", nil)
			})
		}
	})
}
