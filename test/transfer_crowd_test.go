//go:build linux

package test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// TestFilesToACrowd: a link for several receivers, two pages of Chromium, one of Firefox and a command line. The sender's way carries hardly more
// than one copy, and another page that leaves while the others take from it holds nobody up.
func TestFilesToACrowd(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	firefox := browser.Start(t, browser.Firefox, browser.Options{})
	const size = 16 << 20 // 64 blocks
	a := newEnd(t, chromium, node.HTTP, "sender")
	link := a.send([]sent{{"film.mkv", size, 1}}, map[string]any{"receivers": 5})
	var pages []*member
	for i, b := range []*browser.Browser{chromium, chromium, firefox} {
		m := newEnd(t, b, node.HTTP, fmt.Sprintf("receiver %d", i))
		m.receive(link)
		pages = append(pages, m)
	}
	leaving := newEnd(t, chromium, node.HTTP, "who leaves")
	leaving.receive(link)
	// Paused until all have agreed: a browser would have everything before the next one is there.
	a.do(patience, "end.sending.pause()", nil)
	for _, m := range append(pages, leaving) {
		m.do(patience, "await end.receiving.accept()", nil)
	}
	a.await(patience, "end.sending.receivers.filter((r) => r.accepted).length === 4")
	a.do(patience, "end.sending.resume()", nil)
	leaving.await(patience, "end.error || end.receiving.sharedBytes > 0")
	leaving.do(patience, `end.receiving.cancel()`, nil)
	out := t.TempDir()
	startEnd(t, t.TempDir(), "receive", link, out).succeeds()
	var want [][2]string
	a.do(patience, "return end.digests()", &want)
	if got := hashFile(t, filepath.Join(out, "film.mkv")); hex.EncodeToString(got[:]) != want[0][1] {
		t.Errorf("the command line got %x, want %v", got, want)
	}
	shared := 0
	for _, m := range pages {
		m.arrived()
		sameDigests(t, a, m)
		var bytes int
		m.do(patience, "return end.receiving.sharedBytes", &bytes)
		t.Logf("%s gave %d bytes to others", m.name, bytes)
		shared += bytes
	}
	var upload int
	a.do(patience, "return end.sending.sentBytes", &upload)
	t.Logf("the sender sent %.2f copies", float64(upload)/size)
	if float64(upload) > 1.3*size || shared < size {
		t.Errorf("the sender sent %.2f copies, and pages gave %.2f, want at most 1.3 and at least 1", float64(upload)/size, float64(shared)/size)
	}
}

// TestFilesPausedAndChosenOnThePages: the buttons of a page hold a transfer and let it go on, and leave files out before and during it.
func TestFilesPausedAndChosenOnThePages(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			dir := t.TempDir()
			for i, name := range []string{"a.mov", "b.mov", "c.mov", "d.mov"} {
				randomFile(t, filepath.Join(dir, "files", name), 6<<20, uint64(i))
			}
			sender := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "files"), "--limit", "40")
			b := &member{browser.Start(t, engine, browser.Options{}).Open(t, sender.link()), t, "receiver"}
			b.do(patience, catchDownloads, nil)
			box := func(file int) string { return fmt.Sprintf(`deepAll('[data-testid="files"] input')[%d]`, file) }
			b.await(patience, `deep('[data-testid="page"]').dataset.phase === "offer" && deepAll('[data-testid="files"] input').length === 4`)
			b.do(patience, box(1)+".click()", nil) // b.mov is not wanted from the beginning
			press := func(button string) {
				t.Helper()
				if err := b.Click(within(t, patience), fmt.Sprintf(`[data-testid=%q]`, button)); err != nil {
					t.Fatal(err)
				}
			}
			press("accept")
			b.await(patience, `deep('[data-testid="progress"]')?.value > 5`)
			press("pause")
			// What was on its way may still come; then nothing does.
			b.do(2*patience, `for (let before = -1, same = 0; same < 4; ) {
				const { value } = deep('[data-testid="progress"]');
				same = value === before ? same + 1 : 0;
				before = value;
				await new Promise((resolve) => setTimeout(resolve, 250));
			}`, nil)
			b.await(patience, `deep('[data-testid="page"]').dataset.phase === "receiving" && deep('[data-testid="progress"]').value < 70`)
			b.do(patience, box(3)+".click()", nil) // and d.mov during it
			press("pause")
			b.await(2*patience, `deep('[data-testid="page"]').dataset.phase === "done"`)
			var saved struct {
				Size  int
				Names []string
			}
			// The directory at the end of the archive.
			b.do(patience, `const { content } = downloads[0];
				const text = new TextDecoder("latin1").decode(await content.slice(-1000).arrayBuffer());
				return { Size: content.size, Names: text.match(/files\/.\.mov/g) };`, &saved)
			if fmt.Sprint(saved.Names) != "[files/a.mov files/c.mov]" || saved.Size < 12<<20 || saved.Size > 13<<20 {
				t.Errorf("saved %+v", saved)
			}
			if sent := sender.succeeds()["sent"].(float64); sent > 15<<20 {
				t.Errorf("%.0f bytes were sent for two files of %d", sent, 6<<20)
			}
		})
	}
}

// TestFilesAfterAChangeOfAddress: the receiver gets another address in mid-transfer, as when a phone leaves the Wi-Fi. The transfer goes on by itself, and
// what has arrived does not come again.
func TestFilesAfterAChangeOfAddress(t *testing.T) {
	t.Parallel()
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			moving := n.Host("moving", lab.HostConfig{Kind: lab.PortRestricted})
			staying := n.Host("staying", lab.HostConfig{Kind: lab.PortRestricted})
			dir := t.TempDir()
			const size = 24 << 20
			want := randomFile(t, filepath.Join(dir, "film.mkv"), size, 3)
			env := []string{"SSL_CERT_FILE=" + n.certificate.CertFile}
			s := startEndOn(t, staying.Namespace, env, t.TempDir(), "send", filepath.Join(dir, "film.mkv"), "--server", n.site(staying), "--limit", "40")
			s.ready = s.until("ready")
			b := newEnd(t, n.browser(t, engine, moving), n.site(moving), "receiver")
			b.Ignore("ERR_|WebSocket|Failed to fetch|can’t establish a connection|was interrupted|NetworkError|five or more STUN/TURN servers")
			b.receive(s.link())
			b.do(patience, "await end.receiving.accept()", nil)
			b.await(patience, "end.error || end.receiving.bytes > %d", size/4)
			if err := moving.Move(); err != nil {
				t.Fatal(err)
			}
			moved := time.Now()
			var there int
			b.do(patience, "return end.receiving.bytes", &there)
			b.await(2*patience, "end.error || end.receiving.bytes > %d", there+(4<<20)) // more than can have been on its way
			back := time.Since(moved)
			b.arrived()
			var got [][2]string
			b.do(patience, "return end.received()", &got)
			if len(got) != 1 || got[0][1] != hex.EncodeToString(want[:]) {
				t.Errorf("got %v, want %x", got, want)
			}
			sent := s.succeeds()["sent"].(float64)
			t.Logf("blocks come again %v after the move; %.0f bytes were sent twice", back.Round(time.Millisecond), sent-size)
			if sent > size+(8<<20) {
				t.Errorf("%.0f bytes were sent twice", sent-size)
			}
		})
	}
}

// TestFilesWhileBothEndsSleep: both machines sleep in mid-transfer, for longer than any timer of theirs bears, and the server has forgotten them. When
// they wake the transfer goes on by itself. With MADANG_TEST_LONG they sleep for ten minutes.
func TestFilesWhileBothEndsSleep(t *testing.T) {
	t.Parallel()
	nap := 16 * time.Second // a lane is dead after 15 s
	if os.Getenv("MADANG_TEST_LONG") != "" {
		nap = 10 * time.Minute
	}
	for name, test := range map[string]struct {
		from, to lab.Kind
		lanes    string
		browser  bool
	}{
		"native":            {lab.Open, lab.PortRestricted, "auto", false},
		"through the relay": {lab.Symmetric, lab.Symmetric, "webrtc", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			from, to := n.Host("from", lab.HostConfig{Kind: test.from}), n.Host("to", lab.HostConfig{Kind: test.to})
			dir, out := t.TempDir(), t.TempDir()
			const size = 24 << 20
			want := randomFile(t, filepath.Join(dir, "film.mkv"), size, 4)
			env := []string{"SSL_CERT_FILE=" + n.certificate.CertFile}
			s := startEndOn(t, from.Namespace, env, t.TempDir(), "send", filepath.Join(dir, "film.mkv"), "--server", n.site(from), "--limit", "40", "--lanes", test.lanes)
			s.ready = s.until("ready")
			type sleeper interface {
				Sleep() error
				Wake() error
			}
			var r *end
			var b *member
			var receiver sleeper
			if test.browser {
				// With a profile on the disk: in a context that keeps its files in memory, Chromium has no room for them any more after ten minutes of sleep.
				chromium := browser.Start(t, browser.Chromium, browser.Options{Namespace: to.Namespace, TrustedSPKI: []string{n.certificate.SPKI}, Profile: t.TempDir()})
				b = newEnd(t, chromium, n.site(to), "receiver")
				b.Ignore("ERR_|WebSocket|Failed to fetch")
				b.receive(s.link())
				b.do(patience, "await end.receiving.accept()", nil)
				b.await(patience, "end.error || end.receiving.bytes > %d", size/4)
				receiver = chromium
			} else {
				r = startEndOn(t, to.Namespace, env, t.TempDir(), "receive", s.link(), out, "--lanes", test.lanes)
				r.at(0.25)
				receiver = r.process
			}
			for _, e := range []sleeper{s.process, receiver} {
				if err := e.Sleep(); err != nil {
					t.Fatal(err)
				}
			}
			if nap < time.Minute {
				// A long sleep outlives the sessions, which last a minute, and the relay's allocations; here the server forgets them.
				n.node.Kill()
				if err := n.node.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(nap) // the sleep itself is what is tested
			for _, e := range []sleeper{s.process, receiver} {
				if err := e.Wake(); err != nil {
					t.Fatal(err)
				}
			}
			woken := time.Now()
			if test.browser {
				b.arrived()
				var got [][2]string
				b.do(patience, "return end.received()", &got)
				if len(got) != 1 || got[0][1] != hex.EncodeToString(want[:]) {
					t.Errorf("got %v, want %x", got, want)
				}
			} else {
				r.succeeds()
				if hashFile(t, filepath.Join(out, "film.mkv")) != want {
					t.Error("another file has arrived")
				}
			}
			t.Logf("everything is there %v after waking", time.Since(woken).Round(time.Millisecond))
			s.succeeds()
		})
	}
}
