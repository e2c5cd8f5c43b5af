//go:build linux

package test

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// A page puts everything on the server and is closed; another one receives it from there, and so does the command line.
func TestAPageLeavesAndOthersReceiveFromTheServer(t *testing.T) {
	t.Parallel()
	node := serveDepots(t, 1<<30)
	browsers := map[browser.Engine]*browser.Browser{
		browser.Chromium: browser.Start(t, browser.Chromium, browser.Options{}),
		browser.Firefox:  browser.Start(t, browser.Firefox, browser.Options{}),
	}
	leave := func(t *testing.T, engine browser.Engine) (link string, digests [][2]string) {
		a := newEnd(t, browsers[engine], node.HTTP, "sender")
		link = a.send([]sent{{"folder/film.mkv", 9<<20 + 7, 1}, {"folder/바다.jpg", 1 << 20, 2}, {"small", 100, 3}, {"empty", 0, 4}}, map[string]any{"keep": true})
		a.await(2*patience, `end.sending.keeping?.state === "kept" && end.sending.keeping.bytes === end.sending.bytes`)
		a.do(patience, "return end.digests()", &digests)
		if err := a.Close(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		return link, digests
	}
	for _, pair := range [][2]browser.Engine{{browser.Chromium, browser.Firefox}, {browser.Firefox, browser.Chromium}} {
		t.Run(fmt.Sprintf("%s-%s", pair[0], pair[1]), func(t *testing.T) {
			link, want := leave(t, pair[0])
			unreadable(t, node, "film.mkv", "바다", link[len(link)-22:])
			b := newEnd(t, browsers[pair[1]], node.HTTP, "receiver")
			b.receive(link)
			b.do(patience, "await end.receiving.accept()", nil)
			b.arrived()
			var got [][2]string
			b.do(patience, "return end.received()", &got)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("SHA-256 of what arrived %v, of what was sent %v", got, want)
			}
			if n := kept(t, node); n != 0 {
				t.Errorf("%d bytes are kept of what has been taken away", n)
			}
			// Who comes too late is told.
			late := newEnd(t, browsers[pair[1]], node.HTTP, "late")
			late.do(patience, fmt.Sprintf("await end.receive(%s)", js(link)), nil)
			late.await(2*patience, `end.error === "transfer_taken"`)
		})
	}
	t.Run("command line", func(t *testing.T) {
		link, want := leave(t, browser.Chromium)
		out := t.TempDir()
		startEnd(t, t.TempDir(), "receive", link, out).succeeds()
		for _, file := range want {
			if got := hashFile(t, filepath.Join(out, file[0])); hex.EncodeToString(got[:]) != file[1] {
				t.Errorf("%s differs", file[0])
			}
		}
	})
}

// A page receives from the command line, which is killed at half of it; it goes on with what is on the server, and with the sender when that is back.
func TestAPageGoesOnWithTheServerWhenTheSenderIsKilled(t *testing.T) {
	t.Parallel()
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			node := serveDepots(t, 1<<30)
			dir, home := t.TempDir(), t.TempDir()
			const size = 24 << 20
			want := randomFile(t, filepath.Join(dir, "film.mkv"), size, 8)
			args := []string{filepath.Join(dir, "film.mkv"), "--store", "--no-code"}
			s := send(t, home, node.HTTP, append(args, "--limit", "100")...)
			b := newEnd(t, browser.Start(t, engine, browser.Options{}), node.HTTP, "receiver")
			b.receive(s.link())
			s.where("half of it on the server", func(v map[string]any) bool { n, _ := v["stored"].(float64); return n >= size/2 })
			b.do(patience, "await end.receiving.accept()", nil)
			b.await(patience, "end.receiving.arrivedBytes > 0")
			s.kill()
			b.await(2*patience, "end.receiving.bytes >= %d", size/2) // with nobody there but the server
			var state string
			b.do(patience, "return end.receiving.state", &state)
			if state != "connected" {
				t.Errorf("with the server alone its state is %q", state)
			}
			s = send(t, home, node.HTTP, args...)
			b.arrived()
			s.succeeds()
			var got [][2]string
			b.do(patience, "return end.received()", &got)
			if len(got) != 1 || got[0][1] != hex.EncodeToString(want[:]) {
				t.Errorf("got %v, want %x", got, want)
			}
			if n := kept(t, node); n != 0 {
				t.Errorf("%d bytes are kept", n)
			}
		})
	}
}

// The page has the switch where the project allows it, says how it goes, and comes back to what is there when it is loaded again.
func TestThePageKeepsFilesOnTheServer(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	choose := `const data = new DataTransfer();
		data.items.add(new File([new Uint8Array(6 << 20).fill(7)], "바다.mov", { lastModified: 1 }));
		const input = deep('[data-testid="choose-files"]');
		input.files = data.files;
		input.dispatchEvent(new Event("change"));`
	a := &member{chromium.Open(t, node.HTTP+"/f/?lang=ko"), t, "sender"}
	a.await(patience, `deep('[data-testid="choose-files"]')`)
	a.do(patience, choose, nil)
	a.await(patience, `deep('[data-testid="code"]')`) // which comes after the question whether the server keeps anything
	a.await(patience, `!deep('[data-testid="keep"]')`)

	administer(t, node, "PATCH", "/v1/projects/home", message{"settings": message{"depotBytes": 2 << 20}})
	a = &member{chromium.Open(t, node.HTTP+"/f/?lang=ko"), t, "sender"}
	a.await(patience, `deep('[data-testid="choose-files"]')`)
	a.do(patience, choose, nil)
	a.await(patience, `deep('[data-testid="keep"]')?.dataset.state === "off"`)
	shot(t, a, "keep-off")
	if err := a.Click(within(t, patience), `[data-testid="keep-switch"]`); err != nil {
		t.Fatal(err)
	}
	a.await(patience, `deep('[data-testid="keep"]').dataset.state === "waiting" && deep('[data-testid="keep"]').innerText.includes("할당량")`)
	shot(t, a, "keep-full")
	administer(t, node, "PATCH", "/v1/projects/home", message{"settings": message{"depotBytes": 100 << 20}})
	a.await(2*patience, `deep('[data-testid="keep"]').dataset.state === "kept" && deep('[data-testid="keep"]').innerText.includes("닫아도")`)
	shot(t, a, "kept")
	before := kept(t, node)

	// Loaded again, the same files find what is there.
	if err := a.Navigate(within(t, patience), node.HTTP+"/f/"); err != nil {
		t.Fatal(err)
	}
	a.await(patience, `deep('[data-testid="choose-files"]')`)
	a.do(patience, choose, nil)
	a.await(patience, `deep('[data-testid="keep"]')?.dataset.state === "kept"`)
	if after := kept(t, node); after != before {
		t.Errorf("%d bytes are kept after the page was loaded again, want the same %d", after, before)
	}
	var link string
	if err := a.WaitForValue(within(t, patience), `deep('[data-testid="link"]')?.value`, &link); err != nil {
		t.Fatal(err)
	}
	b := &member{chromium.Open(t, link), t, "receiver"}
	b.do(patience, catchDownloads, nil)
	b.await(patience, `deep('[data-testid="accept"]')`)
	if err := b.Click(within(t, patience), `[data-testid="accept"]`); err != nil {
		t.Fatal(err)
	}
	b.await(2*patience, `deep('[data-testid="page"]').dataset.phase === "done"`)
	a.await(patience, `deep('[data-testid="receiver"]').dataset.done === "true"`)
	a.await(patience, `!deep('[data-testid="keep"]')`)
}
