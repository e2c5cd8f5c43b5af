//go:build linux

package test

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

//go:embed pages/transfer.js
var transferScript string

// newEnd opens a page of the node and loads the transfer module into it.
func newEnd(t testing.TB, b *browser.Browser, server, name string) *member {
	t.Helper()
	m := &member{b.Open(t, server+"/f/"), t, name}
	m.loadEnd(server)
	return m
}

func (m *member) loadEnd(server string) {
	m.t.Helper()
	m.do(patience, fmt.Sprintf("const server = %s;\n%s", js(server), transferScript), nil)
}

// sent is a file of a test's sender.
type sent struct {
	Path string `json:"path"`
	Size int    `json:"size"`
	Seed int    `json:"seed"`
}

func (m *member) send(files []sent, options map[string]any) (link string) {
	m.t.Helper()
	m.do(patience, fmt.Sprintf("return end.send(%s, %s)", js(files), js(options)), &link)
	return link
}

// receive opens a link or a code and waits for the names.
func (m *member) receive(from string) {
	m.t.Helper()
	m.do(patience, fmt.Sprintf("await end.receive(%s)", js(from)), nil)
	m.await(patience, "end.receiving.entries !== null")
}

// arrived waits until everything is there; what ended otherwise fails at once.
func (m *member) arrived() {
	m.t.Helper()
	var how any
	if err := m.WaitForValue(within(m.t, 2*patience), "end.error || end.arrived()", &how); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	if how != true {
		m.t.Fatalf("%s: it ended with %v", m.name, how)
	}
}

// sameDigests compares what arrived with what was sent.
func sameDigests(t testing.TB, from, to *member) {
	t.Helper()
	var want, got [][2]string
	from.do(patience, "return end.digests()", &want)
	to.do(patience, "return end.received()", &got)
	if !slices.Equal(got, want) {
		t.Errorf("SHA-256 of what arrived %v, of what was sent %v", got, want)
	}
}

// TestFilesBetweenBrowsers sends files between all pairs of browsers, and reads them back from where they are kept.
func TestFilesBetweenBrowsers(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	browsers := map[browser.Engine]*browser.Browser{
		browser.Chromium: browser.Start(t, browser.Chromium, browser.Options{}),
		browser.Firefox:  browser.Start(t, browser.Firefox, browser.Options{}),
	}
	for _, pair := range []struct {
		from, to browser.Engine
		mib      int
	}{
		{browser.Chromium, browser.Chromium, 64}, {browser.Chromium, browser.Firefox, 8}, {browser.Firefox, browser.Chromium, 8},
	} {
		t.Run(fmt.Sprintf("%s-%s", pair.from, pair.to), func(t *testing.T) {
			a := newEnd(t, browsers[pair.from], node.HTTP, "sender")
			b := newEnd(t, browsers[pair.to], node.HTTP, "receiver")
			files := []sent{{"film.mkv", pair.mib<<20 + 7, 1}, {"사진/바다.jpg", 1 << 20, 2}, {"사진/empty", 0, 3}}
			link := a.send(files, nil)
			b.receive(link)
			b.do(patience, "await end.receiving.accept()", nil)
			b.arrived()
			a.await(patience, "end.error === null")
			sameDigests(t, a, b)
		})
	}
}

// TestFilesBetweenBrowsersGoOnAfterReload loads the receiver's page again at half of the file: what was kept does not come again.
func TestFilesBetweenBrowsersGoOnAfterReload(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	a := newEnd(t, chromium, node.HTTP, "sender")
	b := newEnd(t, chromium, node.HTTP, "receiver")
	const size = 48 << 20
	link := a.send([]sent{{"film.mkv", size, 1}}, nil)
	b.receive(link)
	b.do(patience, "await end.receiving.accept()", nil)
	b.await(4*patience, "end.error || end.receiving.bytes >= %d", size/2)
	if err := b.Navigate(within(t, patience), node.HTTP+"/f/"); err != nil {
		t.Fatal(err)
	}
	b.loadEnd(node.HTTP)
	b.finishResumed(link, size)
	sameDigests(t, a, b)
}

// finishResumed goes on with a transfer, and holds it to what it may send again: 50 MiB, and not the half that was there.
func (m *member) finishResumed(link string, size int) {
	m.t.Helper()
	m.receive(link)
	m.do(patience, "await end.receiving.accept()", nil)
	m.arrived()
	var arrived, resumed int
	m.do(patience, "return end.receiving.arrivedBytes", &arrived)
	m.do(patience, "return end.receiving.resumedBytes", &resumed)
	m.t.Logf("of %d bytes %d were there and %d came after the restart", size, resumed, arrived)
	// At most what one flush had not reached yet had come before and comes again.
	if resumed < size/2-(16<<20) || arrived > size-resumed {
		m.t.Errorf("%d bytes were there and %d came, of %d", resumed, arrived, size)
	}
}

// TestFilesBetweenBrowsersGoOnAfterKill kills the receiver's browser, and starts it again with the same profile.
func TestFilesBetweenBrowsersGoOnAfterKill(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	sender := browser.Start(t, browser.Chromium, browser.Options{})
	a := newEnd(t, sender, node.HTTP, "sender")
	const size = 48 << 20
	link := a.send([]sent{{"film.mkv", size, 1}}, nil)
	profile := t.TempDir()
	doomed := browser.Start(t, browser.Chromium, browser.Options{Profile: profile})
	first, err := doomed.NewPage(within(t, patience), node.HTTP+"/f/")
	if err != nil {
		t.Fatal(err)
	}
	killed := &member{first, t, "receiver"}
	killed.loadEnd(node.HTTP)
	killed.receive(link)
	killed.do(patience, "await end.receiving.accept()", nil)
	killed.await(4*patience, "end.error || end.receiving.bytes >= %d", size*5/8)
	doomed.Close()
	b := newEnd(t, browser.Start(t, browser.Chromium, browser.Options{Profile: profile}), node.HTTP, "receiver again")
	b.finishResumed(link, size)
	sameDigests(t, a, b)
}

// TestFilesBetweenBrowsersGoOnAfterTheSendersKill kills the browser of a sending page. Started again with the same profile it says what it was sending, and the same
// file goes on under the same link.
func TestFilesBetweenBrowsersGoOnAfterTheSendersKill(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	const size = 48 << 20
	profile := t.TempDir()
	choose := func(b *browser.Browser) (page *browser.Page, link string) {
		page, err := b.NewPage(within(t, patience), node.HTTP+"/f/")
		if err != nil {
			t.Fatal(err)
		}
		m := &member{page, t, "sender"}
		m.await(patience, `deep('[data-testid="choose-files"]')`)
		m.do(patience, fmt.Sprintf(`const data = new DataTransfer();
			data.items.add(new File([new Uint8Array(%d).fill(7)], "바다.mov", { lastModified: 1_790_000_000_000 }));
			const input = deep('[data-testid="choose-files"]');
			input.files = data.files;
			input.dispatchEvent(new Event("change"));`, size), nil)
		if err := page.WaitForValue(within(t, patience), `deep('[data-testid="link"]')?.value`, &link); err != nil {
			t.Fatal(err)
		}
		return page, link
	}
	doomed := browser.Start(t, browser.Chromium, browser.Options{Profile: profile})
	_, link := choose(doomed)
	b := newEnd(t, browser.Start(t, browser.Chromium, browser.Options{}), node.HTTP, "receiver")
	b.receive(link)
	b.do(patience, "await end.receiving.accept()", nil)
	b.await(2*patience, "end.error || end.receiving.bytes >= %d", size/4)
	b.do(patience, "end.receiving.pause()", nil)
	doomed.Close()
	b.await(patience, `end.receiving.state === "waiting"`)
	b.do(patience, "end.receiving.resume()", nil)
	again := browser.Start(t, browser.Chromium, browser.Options{Profile: profile})
	m := &member{again.Open(t, node.HTTP+"/f/"), t, "sender"}
	m.await(patience, `deep("main").textContent.includes("바다.mov")`)
	if _, other := choose(again); other != link {
		t.Errorf("the link is %s, and was %s", other, link)
	}
	b.arrived()
	var arrived int
	b.do(patience, "return end.receiving.arrivedBytes", &arrived)
	t.Logf("of %d bytes %d came", size, arrived)
	if arrived > size+(16<<20) {
		t.Errorf("%d bytes came, of %d", arrived, size)
	}
}

// TestFilesBetweenBrowsersRefusals is what must not work, and what the user is told.
func TestFilesBetweenBrowsersRefusals(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	one := []sent{{"a.txt", 300_000, 1}}
	t.Run("wrong secret", func(t *testing.T) {
		a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, node.HTTP, "receiver")
		link := a.send(one, nil)
		wrong := link[:len(link)-22] + "AAAAAAAAAAAAAAAAAAAAAA"
		b.do(patience, fmt.Sprintf("await end.receive(%s)", js(wrong)), nil)
		b.await(patience, "end.warned > 0 && end.receiving.entries === null")
	})
	t.Run("link used twice", func(t *testing.T) {
		a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, node.HTTP, "first")
		link := a.send(one, nil)
		// Looking uses nothing up.
		c := &member{chromium.Open(t, link), t, "second"}
		c.await(patience, `deep('[data-testid="accept"]')`)
		b.receive(link)
		a.do(patience, "end.sending.pause()", nil)
		b.do(patience, "await end.receiving.accept()", nil)
		b.await(patience, "end.receiving.accepted")
		click := func(button string) {
			t.Helper()
			if err := c.Click(within(t, patience), button); err != nil {
				t.Fatal(err)
			}
		}
		click(`[data-testid="accept"]`)
		c.await(patience, `deep('[data-testid="error"]')?.dataset.code === "transfer_taken"`)
		a.do(patience, "end.sending.resume()", nil)
		b.arrived()
		sameDigests(t, a, b)
		// The sender is gone, and nobody is there who knows that the link was used. Should one come, the page goes on.
		if err := a.Navigate(within(t, patience), node.HTTP+"/f/"); err != nil {
			t.Fatal(err)
		}
		a.loadEnd(node.HTTP)
		click(`[data-testid="retry"]`)
		c.await(patience, `deep('[data-testid="other"]')`)
		c.await(patience, `deep("main").textContent.includes("used already") && deep('[role="status"]').textContent === "Nobody is sending at the moment"`)
		shot(t, c, "lonely")
		a.send(one, map[string]any{"ticket": map[string]string{"id": link[len(link)-39 : len(link)-23], "secret": link[len(link)-22:]}})
		c.await(patience, `deep('[data-testid="accept"]')`)
	})
	t.Run("no room", func(t *testing.T) {
		a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, node.HTTP, "receiver")
		var link string
		// More than the browser gives to an origin, made of one piece many times: it is never read.
		a.do(patience, `const piece = new Blob([new Uint8Array(1 << 20)]); const film = new File(Array.from({ length: 20_000 }, () => piece), "film.mkv");
			end.sending = await end.sdk.sendFiles([{ path: "film.mkv", file: film }], { server: location.origin }); return end.sending.link;`, &link)
		b.receive(link)
		var code string
		b.do(patience, "return end.receiving.accept().then(() => 'accepted', (e) => e.code)", &code)
		if code != "disk_full" {
			t.Errorf("got %q, want disk_full", code)
		}
		b.await(patience, "!end.receiving.accepted && end.receiving.arrivedBytes === 0")
	})
	t.Run("source changed", func(t *testing.T) {
		a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, node.HTTP, "receiver")
		var link string
		a.do(patience, `const root = await navigator.storage.getDirectory();
			window.write = async (byte) => { const handle = await root.getFileHandle("changing", { create: true }); const w = await handle.createWritable(); await w.write(new Uint8Array(16 << 20).fill(byte)); await w.close(); return handle.getFile(); };
			const changing = await write(1);
			end.sending = await end.sdk.sendFiles([{ path: "changing", file: changing }, { path: "b.txt", file: end.makeFile("b.txt", 300_000) }], { server: location.origin }); return end.sending.link;`, &link)
		b.receive(link)
		b.do(patience, "await end.receiving.accept()", nil)
		b.await(patience, "end.receiving.bytes > 0")
		a.do(patience, "await write(2)", nil)
		b.await(patience, `end.receiving.files[0].failed === "source_changed" && end.complete?.length === 1 && end.complete[0].entry.path === "b.txt"`)
	})
}

// TestFilesBetweenBrowsersByCode: a code buys the link; many small files in folders arrive, and soon; wrong words are counted.
func TestFilesBetweenBrowsersByCode(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, node.HTTP, "receiver")
	var files []sent
	for i := range 1_000 {
		files = append(files, sent{fmt.Sprintf("상자/%d/파일 %d.bin", i%7, i), i % 300 * 101, i})
	}
	a.send(files, map[string]any{"receivers": 2})
	var code string
	if err := a.WaitForValue(within(t, patience), "end.sending.code", &code); err != nil {
		t.Fatal(err)
	}
	try := func(code, want string) {
		t.Helper()
		var refused string
		b.do(patience, fmt.Sprintf("return end.receive(%s).then(() => 'opened', (e) => e.code)", js(code)), &refused)
		if refused != want {
			t.Errorf("%s: got %q, want %s", code, refused, want)
		}
	}
	wrong := strings.Split(code, "-")[0] + "-wrong-words"
	try(wrong, "code_wrong")
	b.receive(code)
	began := time.Now()
	b.do(patience, "await end.receiving.accept()", nil)
	b.arrived()
	rate := float64(len(files)) / time.Since(began).Seconds()
	t.Logf("%.0f files a second", rate)
	if rate < 30 { // with other tests beside it on two cores
		t.Errorf("%.0f files a second, want 30", rate)
	}
	sameDigests(t, a, b)
	// The link is for one more; the right words do not give back what the wrong ones have used.
	for range 3 {
		try(wrong, "code_wrong")
	}
	try(wrong, "code_spent")
	try(code, "code_spent")
	a.await(patience, `end.sending.code === null && end.sending.codeEnd === "wrong"`)
	a.do(patience, "await end.sending.renewCode()", nil)
	a.do(patience, "return end.sending.code", &code)
	b.receive(code)
}

// TestFilesBetweenBrowsersWithLyingServer: a server that puts other fingerprints into the signaling is found out, and gets nothing.
func TestFilesBetweenBrowsersWithLyingServer(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	fingerprint := regexp.MustCompile(`a=fingerprint:sha-256 [0-9A-F:]+`)
	lie := "a=fingerprint:sha-256 " + strings.Repeat("AA:", 31) + "AA"
	between := lyingServer(t, node.HTTP, func(s string) string { return fingerprint.ReplaceAllString(s, lie) }).URL
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	a, b := newEnd(t, chromium, node.HTTP, "sender"), newEnd(t, chromium, between, "receiver")
	link := a.send([]sent{{"a.txt", 300_000, 1}}, nil)
	b.do(patience, fmt.Sprintf("await end.receive(%s)", js(link)), nil)
	b.await(patience, "end.warned > 0 && end.receiving.entries === null")
}

// watchPage counts what a page asks of its browser beside the files, and hides the page from itself when the test says so.
const watchPage = `
	window.watched = { asked: 0, told: [], awake: 0, hidden: false };
	Object.defineProperty(navigator, "wakeLock", { value: { request: async () => { watched.awake++; return { release: async () => { watched.awake--; } }; } } });
	Object.defineProperty(document, "visibilityState", { get: () => (watched.hidden ? "hidden" : "visible") });
	window.Notification = class {
		static permission = "default";
		static async requestPermission() { watched.asked += navigator.userActivation.isActive ? 1 : 100; return (Notification.permission = "granted"); }
		constructor(text) { watched.told.push(text); }
	};`

// TestFilesBetweenBrowsersOnThePages uses the pages as people do: drop files, copy the link, accept, and find them among the downloads. Meanwhile the screens stay on, and
// who looks elsewhere is told of the end.
func TestFilesBetweenBrowsersOnThePages(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	open := func(name, url string) *member {
		m := &member{chromium.Open(t, ""), t, name}
		if err := m.Preload(within(t, patience), watchPage); err != nil {
			t.Fatal(err)
		}
		if err := m.Navigate(within(t, patience), url); err != nil {
			t.Fatal(err)
		}
		return m
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a := open("sender", node.HTTP+"/f/")
	ok(a.Click(within(t, patience), `[data-testid="drop"] p`)) // a person has been here
	dir := t.TempDir()
	for _, folder := range []string{"trip/첫째 날", "trip/빈 폴더"} {
		ok(os.MkdirAll(filepath.Join(dir, folder), 0o700))
	}
	randomFile(t, filepath.Join(dir, "trip/첫째 날/바다.mov"), 20<<20, 1)
	randomFile(t, filepath.Join(dir, "trip/산.jpg"), 3000, 2)
	randomFile(t, filepath.Join(dir, "a.txt"), 5, 3)
	listed := func(m *member) (paths []string) {
		t.Helper()
		m.do(patience, `return deepAll('.files .name').map((name) => name.textContent).sort()`, &paths)
		return paths
	}
	ok(a.Drop(within(t, patience), `[data-testid="drop"]`, filepath.Join(dir, "trip"), filepath.Join(dir, "a.txt")))
	var link string
	ok(a.WaitForValue(within(t, patience), `deep('[data-testid="link"]')?.value`, &link))
	a.await(patience, `deep('[data-testid="code"]') && watched.asked === 1 && watched.awake === 1`)
	a.await(patience, `deep('.lead').textContent.startsWith("3 files, ")`) // a folder is none
	// Somebody guesses at the code until it ends: the page says so, and makes another one.
	var code string
	a.do(patience, `return deep('[data-testid="code"]').textContent`, &code)
	guesser := newEnd(t, chromium, node.HTTP, "guesser")
	for range 5 {
		guesser.do(patience, fmt.Sprintf("await end.receive(%s).catch(() => {})", js(strings.Split(code, "-")[0]+"-wrong-words")), nil)
	}
	a.await(patience, `!deep('[data-testid="code"]') && deep('[data-testid="code-end"]').textContent.includes("five times")`)
	shot(t, a, "code-spent")
	ok(a.Click(within(t, patience), `[data-testid="new-code"]`))
	a.await(patience, `deep('[data-testid="code"]') && deep('[data-testid="code"]').textContent !== %s`, js(code))
	b := open("receiver", link)
	b.do(patience, catchDownloads, nil)
	b.await(patience, `deep('[data-testid="accept"]') && watched.asked === 0 && deep('.lead').textContent.startsWith("3 files, ")`)
	if got, want := listed(b), []string{"a.txt", "trip/빈 폴더", "trip/산.jpg", "trip/첫째 날/바다.mov"}; !slices.Equal(got, want) {
		t.Errorf("offered %q, want %q", got, want)
	}
	ok(b.Click(within(t, patience), `[data-testid="accept"]`))
	b.await(patience, `deep('[data-testid="page"]').dataset.phase !== "offer" && watched.asked === 1`)
	b.await(patience, `watched.awake === 1 || watched.told.length === 1`)
	for _, m := range []*member{a, b} {
		m.do(patience, "watched.hidden = true", nil)
	}
	b.await(4*patience, `deep('[data-testid="page"]').dataset.phase === "done"`)
	a.await(patience, `deep('[data-testid="receiver"]').dataset.done === "true"`)
	for _, m := range []*member{a, b} {
		m.await(patience, `watched.awake === 0 && watched.asked === 1`)
	}
	a.await(patience, `watched.told.join() === "Everything has arrived"`)
	b.await(patience, `watched.told.join() === "All files have arrived"`)
	var saved struct {
		Name string
		Size int
	}
	b.do(patience, `return { Name: downloads[0].name, Size: downloads[0].content.size };`, &saved)
	if saved.Name != "madang-files.zip" || saved.Size < 20<<20 {
		t.Errorf("saved %+v", saved)
	}

	// A chosen folder, of which browsers say nothing but the files.
	ok(a.Navigate(within(t, patience), node.HTTP+"/f/"))
	a.await(patience, `deep('[data-testid="choose-folder"]')`)
	ok(a.Choose(within(t, patience), `[data-testid="choose-folder"]`, filepath.Join(dir, "trip")))
	a.await(patience, `deep('[data-testid="link"]')?.value`)
	if got, want := listed(a), []string{"trip/산.jpg", "trip/첫째 날/바다.mov"}; !slices.Equal(got, want) {
		t.Errorf("chosen %q, want %q", got, want)
	}
}

// TestFirstByteOfLargeTransfers: nothing is hashed, counted or packed before the first byte goes, be it one large file or many small ones. The limit is below what reading 4 GiB
// takes, and far above what it takes here, for machines that are busy. With MADANG_TEST_LONG there are 10,000 small files; the figures are in docs/benchmarks.md.
func TestFirstByteOfLargeTransfers(t *testing.T) {
	t.Parallel()
	const limit = 5 * time.Second
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{Profile: t.TempDir()}) // private windows have no room for it
	dir := t.TempDir()
	film := filepath.Join(dir, "film.mkv")
	if err := errors.Join(os.WriteFile(film, nil, 0o600), os.Truncate(film, 4<<30+7)); err != nil { // a hole, which takes no room
		t.Fatal(err)
	}
	photos := filepath.Join(dir, "photos")
	many := 1_000
	if os.Getenv("MADANG_TEST_LONG") != "" {
		many = 10_000
	}
	for i := range many {
		folder := filepath.Join(photos, fmt.Sprint(i%100))
		if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.jpg", i)), []byte{byte(i), byte(i >> 8)}, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, button, path string }{
		{"a file of 4 GiB", "choose-files", film},
		{"many files", "choose-folder", photos},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &member{chromium.Open(t, node.HTTP+"/f/"), t, "sender"}
			b := newEnd(t, chromium, node.HTTP, "receiver")
			a.await(patience, `deep('[data-testid="%s"]')`, test.button)
			a.do(patience, fmt.Sprintf(`window.took = new Promise((resolve) => {
				const size = Object.getOwnPropertyDescriptor(Blob.prototype, "size").get;
				window.looked = 0;
				Object.defineProperty(Blob.prototype, "size", { get() { if (this instanceof File) looked++; return size.call(this); } });
				deep('[data-testid="%s"]').addEventListener("change", () => {
					const began = performance.now();
					const look = () => (deep('[data-testid="link"]')?.value ? resolve(performance.now() - began) : setTimeout(look, 5));
					look();
				}, { capture: true });
			});`, test.button), nil)
			if err := a.Choose(within(t, patience), `[data-testid="`+test.button+`"]`, test.path); err != nil {
				t.Fatal(err)
			}
			var link string
			var shown, named, came float64
			a.do(patience, "return took", &shown)
			a.await(patience, "looked === 0") // for which Chromium would stop at each file
			a.do(patience, `return deep('[data-testid="link"]').value`, &link)
			b.do(patience, fmt.Sprintf(`const began = performance.now();
				await end.receive(%s);
				while (!end.receiving.entries) await new Promise((resolve) => setTimeout(resolve, 5));
				return performance.now() - began;`, js(link)), &named)
			b.do(patience, `const began = performance.now();
				await end.receiving.accept();
				while (end.receiving.bytes === 0) await new Promise((resolve) => setTimeout(resolve, 5));
				return performance.now() - began;`, &came)
			ms := func(f float64) time.Duration { return time.Duration(f) * time.Millisecond }
			t.Logf("from choosing to the link %v, from opening it to all names %v, from accepting to the first block on the disk %v", ms(shown), ms(named), ms(came))
			for _, took := range []float64{shown, named, came} {
				if test.path == film && ms(took) > limit {
					t.Errorf("it took %v", ms(took))
				}
			}
			b.do(patience, "end.receiving.cancel()", nil)
		})
	}
}

// TestPagesOfFilesAreAccessible looks at every state of the pages for files, in both languages, light and dark, on a desk and on a phone.
func TestPagesOfFilesAreAccessible(t *testing.T) {
	t.Parallel()
	axe := axeScript(t)
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	for _, look := range looks {
		t.Run(look.name, func(t *testing.T) {
			v := newVisitor(t, chromium, "", "page")
			m := &member{v.Page, t, "page"}
			v.check(v.View(within(t, patience), look.view))
			v.check(v.Preload(within(t, patience), axe+catchDownloads))
			examine := func(state string) {
				t.Helper()
				examine(v, state)
				shot(t, m, look.name+"-"+strings.ReplaceAll(state, " ", "-"))
			}
			lang := func(url string) string { return strings.Replace(url, "#", "?lang="+look.lang+"#", 1) }
			v.check(v.Navigate(within(t, patience), node.HTTP+"/f/?lang="+look.lang))
			v.write("code-input", "not a code\n")
			v.shows("code-error")
			examine("start")
			m.do(patience, `const data = new DataTransfer();
				for (const name of ["바다.mov", "a file with a name that is longer than any telephone is wide.txt"]) data.items.add(new File([new Uint8Array(3 << 20)], name));
				const input = deep('[data-testid="choose-files"]');
				input.files = data.files;
				input.dispatchEvent(new Event("change"));`, nil)
			v.shows("code")
			examine("link")
			var link string
			m.do(patience, `return deep('[data-testid="link"]').value`, &link)
			end := newEnd(t, chromium, node.HTTP, "end")
			end.receive(link)
			end.do(patience, "end.receiving.pause(); await end.receiving.accept()", nil)
			v.shows("pause")
			examine("sending")
			end.do(patience, "end.receiving.resume()", nil)
			end.arrived()
			v.await(`deep('[data-testid="receiver"]').dataset.done === "true"`)
			examine("sent")

			// The largest one is one piece many times, and never read.
			end.do(patience, `const piece = new Blob([new Uint8Array(1 << 20)]);
				end.sending = await end.sdk.sendFiles([{ path: "사진/바다.jpg", file: end.makeFile("바다.jpg", 300_000) }, { path: "film.mkv", file: new File(Array.from({ length: 20_000 }, () => piece), "film.mkv") }],
					{ server: location.origin, name: "Mina" });
				end.sending.pause(); return end.sending.link;`, &link)
			v.check(v.Navigate(within(t, patience), lang(link)))
			v.shows("too-big")
			examine("too big")
			m.do(patience, `deepAll('[data-testid="files"] input')[1].click()`, nil)
			v.await(`!deep('[data-testid="too-big"]')`)
			examine("offer")
			v.click("accept")
			v.shows("pause")
			v.await(`deep('[data-testid="facts"]')`)
			examine("receiving")
			end.do(patience, "end.sending.resume()", nil)
			v.await(`deep('[data-testid="page"]').dataset.phase === "done"`)
			examine("done")

			v.check(v.Navigate(within(t, patience), node.HTTP+"/f/aaaaaaaaaaaaaaaa?lang="+look.lang+"#AAAAAAAAAAAAAAAAAAAAAA"))
			v.await(`deep('[data-testid="page"]').dataset.phase === "opening"`)
			examine("opening")
			v.shows("other")
			examine("nobody sends")
			v.check(v.Navigate(within(t, patience), node.HTTP+"/f/bbbbbbbbbbbbbbbb?lang="+look.lang))
			v.shows("error")
			examine("failed")
		})
	}
}

// TestFilesIntoAChosenPlace is offered more than the browser's own storage takes: the page says so before anything is sent. Without the largest file it
// would fit, and goes into a folder of the user's instead, where nothing is replaced.
//
// Pickers do not open without a screen; a folder of the private file system stands for what one gives.
func TestFilesIntoAChosenPlace(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	a := newEnd(t, chromium, node.HTTP, "sender")
	var link string
	// The largest one is one piece many times, and never read.
	a.do(patience, `const piece = new Blob([new Uint8Array(1 << 20)]);
		const huge = new File(Array.from({ length: 20_000 }, () => piece), "huge.mkv");
		end.chosen = [{ path: "film.mkv", file: end.makeFile("film.mkv", (24 << 20) + 7, 1) }, { path: "사진/바다.jpg", file: end.makeFile("바다.jpg", 300_000, 2) }];
		end.sending = await end.sdk.sendFiles([...end.chosen, { path: "huge.mkv", file: huge }], { server: location.origin }); return end.sending.link;`, &link)
	b := &member{chromium.Open(t, link), t, "receiver"}
	b.do(patience, `window.chosen = await (await navigator.storage.getDirectory()).getDirectoryHandle("chosen", { create: true });
		const theirs = await (await chosen.getFileHandle("film.mkv", { create: true })).createWritable();
		await theirs.write("mine"); await theirs.close();
		window.showDirectoryPicker = async () => chosen;`, nil)
	b.await(patience, `deep('[data-testid="too-big"]')`)
	b.await(patience, `deep('[data-testid="accept"]').disabled && !deep('[data-testid="pick"]').disabled`)
	shot(t, b, "too-big")
	if err := b.Click(within(t, patience), `[data-testid="files"] li:nth-child(3) input`); err != nil {
		t.Fatal(err)
	}
	b.await(patience, `!deep('[data-testid="too-big"]') && !deep('[data-testid="accept"]').disabled`)
	if err := b.Click(within(t, patience), `[data-testid="pick"]`); err != nil {
		t.Fatal(err)
	}
	b.await(4*patience, `deep('[data-testid="page"]').dataset.phase === "done"`)
	shot(t, b, "done-direct")
	var got, want [][2]string
	b.do(patience, `const files = [];
		const walk = async (folder, path) => { for await (const [name, handle] of folder.entries()) {
			if (handle.kind === "directory") { await walk(handle, path + name + "/"); continue; }
			const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await (await handle.getFile()).arrayBuffer()));
			files.push([path + name, [...digest].map((b) => b.toString(16).padStart(2, "0")).join("")]);
		} };
		await walk(chosen, "");
		return files.sort(([a], [b]) => (a < b ? -1 : 1));`, &got)
	a.do(patience, "return end.digests()", &want)
	mine := sha256.Sum256([]byte("mine"))
	want[0][0] = "film (2).mkv"
	want = slices.Insert(want, 1, [2]string{"film.mkv", hex.EncodeToString(mine[:])})
	if !slices.Equal(got, want) {
		t.Errorf("in the folder there is %v, want %v", got, want)
	}
}

// TestFilesWhenTheStorageEnds: others may fill the storage after a transfer has begun. The user is told, nothing looks complete, and what came is kept for another attempt.
func TestFilesWhenTheStorageEnds(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	a := newEnd(t, chromium, node.HTTP, "sender")
	link := a.send([]sent{{"film.mkv", 24<<20 + 7, 1}}, nil)
	b := &member{chromium.Open(t, node.HTTP+"/f/"), t, "receiver"}
	if err := b.LimitStorage(within(t, patience), 60<<20); err != nil {
		t.Fatal(err)
	}
	if err := b.Navigate(within(t, patience), link); err != nil {
		t.Fatal(err)
	}
	b.do(patience, catchDownloads, nil)
	a.do(patience, "end.sending.pause()", nil)
	if err := b.Click(within(t, patience), `[data-testid="accept"]`); err != nil {
		t.Fatal(err)
	}
	a.await(patience, "end.sending.receivers.some(({ accepted }) => accepted)")
	b.do(patience, `const filler = await (await (await navigator.storage.getDirectory()).getFileHandle("filler", { create: true })).createWritable();
		await filler.write(new Uint8Array(45 << 20)); await filler.close();`, nil)
	a.do(patience, "end.sending.resume()", nil)
	b.await(2*patience, `deep('[data-testid="error"]')?.dataset.code === "disk_full"`)
	shot(t, b, "storage-ended")
	b.await(patience, `downloads.length === 0`)
	b.do(patience, `await (await navigator.storage.getDirectory()).removeEntry("filler")`, nil)
	if err := b.Click(within(t, patience), `[data-testid="retry"]`); err != nil {
		t.Fatal(err)
	}
	b.await(patience, `deep('[data-testid="resumed"]')`)
	b.await(2*patience, `deep('[data-testid="page"]').dataset.phase === "done"`)
}

// catchDownloads keeps what the page gives to the browser for saving, instead of a file chooser's folder.
const catchDownloads = `
	window.downloads = [];
	const contents = new Map();
	const make = URL.createObjectURL;
	URL.createObjectURL = (content) => { const url = make(content); contents.set(url, content); return url; };
	HTMLAnchorElement.prototype.click = function () { downloads.push({ name: this.download, content: contents.get(this.href) }); };`

// shot keeps a picture of a page, for looking at it, where MADANG_SHOTS names a folder.
func shot(t testing.TB, m *member, name string) {
	t.Helper()
	folder := os.Getenv("MADANG_SHOTS")
	if folder == "" {
		return
	}
	picture, err := m.Screenshot(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFilesBetweenBrowsersInACall offers a file in the chat of a call; the other one accepts, and has it.
func TestFilesBetweenBrowsersInACall(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	join := func(name string) *member {
		m := &member{chromium.Open(t, node.HTTP+"/c/files-in-a-call?join=1&name="+name), t, name}
		m.await(patience, `document.querySelector("madang-call")?.call?.peers.size >= 0`)
		return m
	}
	a, b := join("Mina"), join("Jun")
	for _, m := range []*member{a, b} {
		m.await(patience, `[...document.querySelector("madang-call").call.peers.values()].some((p) => p.connection === "connected")`)
		if err := m.Click(within(t, patience), `[data-testid="chat-toggle"]`); err != nil {
			t.Fatal(err)
		}
	}
	b.do(patience, catchDownloads, nil)
	a.await(patience, `deep('[data-testid="chat-files"]')`)
	a.do(patience, `const data = new DataTransfer();
		data.items.add(new File([new Uint8Array(3 << 20).fill(7)], "바다.mov"));
		const input = deep('[data-testid="chat-files"]');
		input.files = data.files;
		input.dispatchEvent(new Event("change"));`, nil)
	if err := b.Click(within(t, patience), `[data-testid="file-accept"]`); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		m.await(2*patience, `deep('[data-testid="file-card"]').dataset.state === "done"`)
	}
	shot(t, b, "call")
	var saved struct {
		Name string
		Size int
		Sum  int
	}
	b.do(patience, `const bytes = new Uint8Array(await downloads[0].content.arrayBuffer());
		return { Name: downloads[0].name, Size: bytes.length, Sum: bytes.reduce((sum, byte) => sum + byte, 0) };`, &saved)
	if saved.Name != "바다.mov" || saved.Size != 3<<20 || saved.Sum != 7*3<<20 {
		t.Errorf("saved %+v", saved)
	}

	// Somebody at a command line offers one to both, and does not stay.
	const text = "은하수는 마당을 지나간다"
	film := filepath.Join(t.TempDir(), "은하수.txt")
	if err := os.WriteFile(film, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sender := startEnd(t, t.TempDir(), "send", film, "--server", node.HTTP, "--to", "files-in-a-call", "--receivers", "2", "--name", "Sora", "--no-code")
	for range 2 {
		if told := sender.until("told"); told["path"] != "Mina" && told["path"] != "Jun" {
			t.Errorf("told %v", told)
		}
	}
	for _, m := range []*member{a, b} {
		m.await(patience, `[...document.querySelector("madang-call").call.peers.values()].length === 1`)
		m.await(patience, `deepAll('[data-testid="file-accept"]').length === 1`)
		if m == a { // b does already
			m.do(patience, catchDownloads, nil)
		}
		m.do(patience, `deep('[data-testid="file-accept"]').click()`, nil)
		var got string
		m.await(2*patience, `window.downloads.some(({ name }) => name === "은하수.txt")`)
		m.do(patience, `return downloads.find(({ name }) => name === "은하수.txt").content.text()`, &got)
		if got != text {
			t.Errorf("%s got %q", m.name, got)
		}
	}
	sender.succeeds()
}

// TestFilesBetweenBrowserAndCommandLine: `madang send` to a browser, and a browser to `madang receive`. The browser is connected to another program meanwhile.
func TestFilesBetweenBrowserAndCommandLine(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			b := browser.Start(t, engine, browser.Options{})
			dir := t.TempDir()
			want := randomFile(t, filepath.Join(dir, "film.mkv"), 5<<20+7, 1)
			sender := send(t, t.TempDir(), node.HTTP, filepath.Join(dir, "film.mkv"))
			to := newEnd(t, b, node.HTTP, "receiver")
			connectBare(&bareGo{t: t}, barePage{to}) // another program, with a certificate of its own
			to.receive(sender.link())
			to.do(patience, "await end.receiving.accept()", nil)
			to.arrived()
			var got [][2]string
			to.do(patience, "return end.received()", &got)
			if len(got) != 1 || got[0] != [2]string{"film.mkv", hex.EncodeToString(want[:])} {
				t.Errorf("got %v, want %x", got, want)
			}
			sender.succeeds()

			from := newEnd(t, b, node.HTTP, "sender")
			link := from.send([]sent{{"film.mkv", 5<<20 + 7, 1}}, nil)
			out := t.TempDir()
			startEnd(t, t.TempDir(), "receive", link, out).succeeds()
			from.await(patience, "end.error === null")
			var sums [][2]string
			from.do(patience, "return end.digests()", &sums)
			if got := hashFile(t, filepath.Join(out, "film.mkv")); hex.EncodeToString(got[:]) != sums[0][1] {
				t.Errorf("got %x, want %v", got, sums)
			}
		})
	}
}
