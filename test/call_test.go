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
			// a is there first, so b makes the offer.
			a.join(channel, nil)
			b.join(channel, nil)
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

			// The SDK's own figures are there too.
			a.await(patience, `lab.peer("Jun").stats().then((s) => s && lab.peer("Jun").connection === "connected")`)

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
