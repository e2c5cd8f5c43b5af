//go:build linux

package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// TestCalls makes calls between all pairs of browsers, on a foreign site's page, and tries everything that the SDK offers in them.
func TestCalls(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	browsers := map[browser.Engine]*browser.Browser{
		browser.Chromium: browser.Start(t, browser.Chromium, browser.Options{}),
		browser.Firefox:  browser.Start(t, browser.Firefox, browser.Options{}),
	}
	bulk := 100 << 20
	if testing.Short() {
		bulk = 4 << 20
	}
	for _, pair := range [][2]browser.Engine{
		{browser.Chromium, browser.Chromium}, {browser.Chromium, browser.Firefox}, {browser.Firefox, browser.Chromium}, {browser.Firefox, browser.Firefox},
	} {
		t.Run(fmt.Sprintf("%s-%s", pair[0], pair[1]), func(t *testing.T) {
			a := newMember(t, browsers[pair[0]], site, node.HTTP, "Mina")
			b := newMember(t, browsers[pair[1]], site, node.HTTP, "Jun")
			channel := channelName(t)
			// a is there first, so b makes the offer, with its preferences.
			a.join(channel, map[string]any{"maxBitrateBps": map[string]any{"video": 250_000}})
			b.join(channel, map[string]any{"codecs": map[string]any{"video": []string{"VP9", "VP8"}, "audio": []string{"opus"}}})
			for _, m := range []*member{a, b} {
				m.awaitMedia(2)
				m.await(patience, `[...document.querySelectorAll("video")].some((v) => v.videoWidth === 640 && v.currentTime > 0)`)
			}

			chat(a, "안녕하세요", b)
			chat(b, "hello, <b>Mina</b>", a)

			// Mute: the other side is told, and no sound comes; then it does again.
			a.do(patience, "await lab.local.muteMicrophone()", nil)
			b.await(patience, `lab.peer("Mina").media.audio === "muted"`)
			a.do(patience, "await lab.local.unmuteMicrophone()", nil)
			b.await(patience, `lab.peer("Mina").media.audio === "on"`)
			b.awaitMore()

			wantCodecsAndLimit(a, b)
			wantFigures(t, a, b)

			if pair[0] == browser.Chromium { // Firefox has no screen to share when headless
				before := b.received()
				a.do(patience, "await lab.local.shareScreen({ audio: false })", nil)
				// In full size, even at the beginning, when little is known of the bandwidth.
				var size struct{ Width, Height int }
				a.do(patience, "return lab.local.screen.getSettings()", &size)
				if size.Width < 1280 {
					t.Errorf("the browser shares a screen of %dx%d, want one that is larger than the camera's picture", size.Width, size.Height)
				}
				shown := fmt.Sprintf(`(() => { const v = document.querySelector('video[data-source="screen"]'); return v && v.videoWidth === %d && v.videoHeight === %d && v.currentTime > 0; })()`, size.Width, size.Height)
				if err := b.WaitFor(within(t, patience), shown); err != nil {
					t.Fatalf("%s does not see the screen: %v\n%s\nMina: %s", b.name, err, b.figures(), a.figures())
				}
				b.await(patience, `lab.received().then((r) => r.streams >= 3 && r.frames > %d)`, before.Frames)
				b.await(patience, `lab.peer("Mina").media.screen === "on"`)
				a.do(patience, "await lab.local.stopScreen()", nil)
				b.await(patience, `lab.ended.includes("screen") && lab.peer("Mina").media.screen === "off"`)
				b.awaitMore()
			}

			// a sends so that each make sends to each once. The camera's own traffic goes on meanwhile.
			sendBulk(t, a, b, bulk)
			a.awaitMore()

			b.do(patience, "await lab.channel.leave()", nil)
			a.await(patience, `lab.left.some((l) => l.name === "Jun" && l.reason === "left") && lab.channel.peers.size === 0`)
			a.await(patience, `document.querySelectorAll("[data-peer]").length === 0 || lab.connections.every((c) => c.connectionState === "closed")`)
			a.do(patience, "await lab.channel.leave(); await lab.channel.leave();", nil)
		})
	}
}

// wantCodecsAndLimit checks what b prefers and a was told to keep to: by what the browsers say themselves.
func wantCodecsAndLimit(a, b *member) {
	a.t.Helper()
	for _, m := range []*member{a, b} {
		m.await(patience, `Promise.all([lab.codecs("video"), lab.codecs("audio")]).then((c) => c.join() === "VP9,opus")`)
	}
	// A bucket of some hundred milliseconds evens the rate out, and key frames are large.
	a.await(patience, "lab.sends(3000).then((bps) => bps > 10_000 && bps < 350_000)")
}

// wantFigures compares the SDK's figures with the browser's own.
func wantFigures(t *testing.T, a, b *member) {
	t.Helper()
	// A busy machine makes jitter: then the grade says so.
	a.await(patience, `["good", "fair", "poor"].includes(lab.peer("Jun").quality.grade) && (lab.peer("Jun").quality.grade === "good") === (lab.peer("Jun").quality.reason === "none")`)
	var path path
	a.do(patience, "return lab.path()", &path)
	var figures struct {
		Path                  struct{ Local, Remote, Protocol string }
		Relayed               bool
		RTT                   *float64
		Codec, Sent           string
		Width, Height         int
		Frames, Before, After int
		In, RawIn             float64
	}
	// The second reading has rates over the time between the two; the browser's own counters around it must agree.
	a.do(patience, `const peer = lab.peer("Jun");
		const raw = async () => { for (const s of (await lab.connections.at(-1).getStats()).values()) if (s.type === "inbound-rtp" && s.kind === "video") return s; };
		await peer.stats();
		const from = await raw();
		await new Promise((done) => setTimeout(done, 1500));
		const before = await raw();
		const s = await peer.stats();
		const after = await raw();
		return { Path: s.path, Relayed: s.path.relayed, RTT: s.rttMs, In: s.received.camera.bitrateBps, Codec: s.received.camera.codec, Width: s.received.camera.width,
			Height: s.received.camera.height, Frames: s.received.camera.framesDecoded, Before: before.framesDecoded, After: after.framesDecoded,
			RawIn: (after.bytesReceived - from.bytesReceived) * 8000 / (after.timestamp - from.timestamp), Sent: s.sent.camera.codec }`, &figures)
	if figures.Path.Local != path.Local || figures.Path.Remote != path.Remote || figures.Path.Protocol != path.Protocol || figures.Relayed != path.relayed() {
		t.Errorf("the SDK says that the path is %+v, the browser %v", figures.Path, path)
	}
	if figures.Codec != "VP9" || figures.Sent != "VP9" || figures.Width != 640 || figures.Height != 360 {
		t.Errorf("got codecs %s and %s at %dx%d, want VP9 at 640x360", figures.Codec, figures.Sent, figures.Width, figures.Height)
	}
	if figures.Frames < figures.Before || figures.Frames > figures.After {
		t.Errorf("the SDK counts %v frames, the browser %v before and %v after", figures.Frames, figures.Before, figures.After)
	}
	if figures.RTT == nil || *figures.RTT < 0 || *figures.RTT > 1000 {
		t.Errorf("a round trip of %s ms on loopback", js(figures.RTT))
	}
	// Readings of the SDK's own, once a second, may lie between ours.
	if figures.In < figures.RawIn/3 || figures.In > figures.RawIn*3 {
		t.Errorf("the SDK says %.0f bit/s of video, the browser %.0f", figures.In, figures.RawIn)
	}
}

func sendBulk(t *testing.T, from, to *member, size int) {
	t.Helper()
	var result struct {
		Sent, Received string
		Most           int
		MS             float64
	}
	from.do(4*time.Minute, fmt.Sprintf("return lab.sendBulk(%s, %d, 65536)", js(to.name), size), &result)
	if result.Sent != result.Received || len(result.Sent) != 64 {
		t.Errorf("SHA-256 of what was sent %s, of what was received %s", result.Sent, result.Received)
	}
	// Back-pressure: the browser never holds more than a few messages' worth.
	if limit := 16 << 20; result.Most > limit {
		t.Errorf("%d bytes were buffered at once, want at most %d", result.Most, limit)
	}
	t.Logf("%d MiB in %.1f s (%.1f MiB/s), at most %d KiB buffered", size>>20, result.MS/1000, float64(size)/(1<<20)/(result.MS/1000), result.Most>>10)
}

// TestMeshOfThree: everybody sees and hears everybody, one of them in another make of browser.
func TestMeshOfThree(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	firefox := browser.Start(t, browser.Firefox, browser.Options{})
	members := []*member{
		newMember(t, chromium, site, node.HTTP, "one"),
		newMember(t, chromium, site, node.HTTP, "two"),
		newMember(t, firefox, site, node.HTTP, "three"),
	}
	channel := channelName(t)
	for _, m := range members {
		m.join(channel, nil)
	}
	for _, m := range members {
		m.awaitMedia(4)
	}
	chat(members[0], "to all", members[1], members[2])
	// One leaves; the call of the others goes on.
	members[1].do(patience, "await lab.channel.leave()", nil)
	for _, m := range []*member{members[0], members[2]} {
		m.await(patience, "lab.channel.peers.size === 1")
		m.awaitMore()
	}
}

// TestRing: the members are asked first.
func TestRing(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	host := newMember(t, chromium, site, node.HTTP, "host")
	guest := newMember(t, chromium, site, node.HTTP, "guest")
	channel := channelName(t)
	host.join(channel, nil)
	ring := fmt.Sprintf(`window.rung = lab.join({ channel: %s, key: %s, name: "guest", ring: true }).then(() => "joined", (e) => e.code);`, js(channel), js(sandboxKey))
	const ringer = `(await (async () => { for (;;) { if (lab.waiting?.length) return lab.waiting.shift(); await new Promise((r) => setTimeout(r, 20)); } })())`
	host.do(patience, `lab.waiting = []; lab.channel.on("ring", (peer) => lab.waiting.push(peer));`, nil)
	for _, answer := range []struct{ script, want string }{
		{`await lab.channel.reject(` + ringer + `)`, "rejected"},
		{`await lab.channel.reject(` + ringer + `, "busy")`, "busy"},
		{`await lab.channel.accept(` + ringer + `)`, "joined"},
	} {
		guest.do(patience, ring, nil)
		host.do(patience, answer.script, nil)
		var got string
		guest.do(patience, "return window.rung", &got)
		if got != answer.want {
			t.Errorf("got %q, want %q", got, answer.want)
		}
	}
	host.awaitMedia(2)
	guest.awaitMedia(2)
}
