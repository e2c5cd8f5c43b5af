//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// A visitor uses the program's own pages as a person would: with clicks and keys, and by what is on the screen.
type visitor struct {
	*browser.Page
	t    testing.TB
	name string
}

// newVisitor opens a page.
func newVisitor(t testing.TB, b *browser.Browser, url, name string) *visitor {
	t.Helper()
	return &visitor{b.Open(t, url), t, name}
}

// by finds what the UI names for tests.
func by(id string) string { return fmt.Sprintf(`[data-testid="%s"]`, id) }

func (v *visitor) check(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
}

func (v *visitor) click(id string) { v.t.Helper(); v.check(v.Click(within(v.t, patience), by(id))) }

func (v *visitor) press(keys ...string) {
	v.t.Helper()
	v.check(v.Press(within(v.t, patience), keys...))
}

func (v *visitor) write(id, text string) {
	v.t.Helper()
	v.check(v.Type(within(v.t, patience), by(id), text))
}

func (v *visitor) await(format string, args ...any) {
	v.t.Helper()
	v.check(v.WaitFor(within(v.t, patience), fmt.Sprintf(format, args...)))
}

// shows waits until an element is on the screen.
func (v *visitor) shows(id string) { v.t.Helper(); v.await("visible(deep('%s'))", by(id)) }

// reads waits until an element contains a text.
func (v *visitor) reads(id, text string) {
	v.t.Helper()
	v.await("visible(deep('%s')) && deep('%[1]s').textContent.includes(%s)", by(id), js(text))
}

func (v *visitor) ask(script string, out any) {
	v.t.Helper()
	v.check(v.Eval(within(v.t, patience), script, out))
}

// sees waits until the picture of somebody moves in its tile.
func (v *visitor) sees(name, source string) {
	v.t.Helper()
	v.await(`(async () => {
		const video = () => deep(%s);
		if (!visible(video()) || !video().videoWidth) return false;
		const frame = () => Promise.race([
			new Promise((done) => video().requestVideoFrameCallback((_, { presentedFrames }) => done(presentedFrames))),
			new Promise((_, fail) => setTimeout(() => fail(new Error("no frame")), 1000)),
		]);
		return (await frame()) < (await frame());
	})()`, js(fmt.Sprintf(`[data-testid="tile"][data-name=%q][data-source=%q] video`, name, source)))
}

// tile waits until an expression about somebody's tile is true.
func (v *visitor) tile(name, expression string) {
	v.t.Helper()
	v.await("((tile) => %s)(deep(%s))", expression, js(fmt.Sprintf(`[data-testid="tile"][data-name=%q]`, name)))
}

// enter gives a name on the page before the call, and joins.
func (v *visitor) enter() {
	v.t.Helper()
	v.ask(`deep('[data-testid="name"]').value = ""; deep('[data-testid="name"]').dispatchEvent(new Event("input"));`, nil)
	v.write("name", v.name)
	v.click("join")
}

// calls brings two visitors into a call of their own, each from the link.
func calls(t testing.TB, b *browser.Browser, link string) (mina, jun *visitor) {
	t.Helper()
	mina = newVisitor(t, b, link, "Mina")
	mina.enter()
	mina.shows("alone")
	jun = newVisitor(t, b, link, "Jun")
	jun.enter()
	mina.sees("Jun", "camera")
	jun.sees("Mina", "camera")
	return mina, jun
}

// TestTwoPeopleMeet is what the product is for: one starts a call, sends the link, the other opens it, and they are face to face.
func TestTwoPeopleMeet(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	t.Run("chromium-chromium", func(t *testing.T) {
		mina := newVisitor(t, chromium, node.HTTP+"/", "Mina")
		mina.click("start-call")
		mina.await(`location.pathname.startsWith("/c/") && deep('[data-testid="preview"]')?.videoWidth > 0`)
		mina.enter()
		mina.shows("alone")
		mina.click("copy-invite")
		mina.reads("toasts", "Link copied")

		// The link goes by the clipboard, as it would into a messenger.
		jun := newVisitor(t, chromium, node.HTTP+"/", "Jun")
		jun.check(jun.Click(within(t, patience), by("join-input")))
		jun.press("Control+v", "Enter")
		jun.await(`location.pathname.startsWith("/c/")`)
		jun.click("join") // one click; nobody needs a name
		mina.sees("Guest", "camera")
		jun.sees("Mina", "camera")
		mina.await(`!deep('[data-testid="alone"]')`)
		jun.await(`deepAll("audio").length === 1 && !deepAll("audio")[0].paused`)

		// Chat, beginning with its shortcut.
		mina.press("c")
		mina.write("chat-input", "안녕하세요, Jun?\n")
		jun.reads("unread", "1")
		jun.click("chat-toggle")
		jun.reads("chat-log", "안녕하세요, Jun?")
		jun.write("chat-input", "<b>hello</b>\n")
		mina.reads("chat-log", "<b>hello</b>")
		mina.await(`deepAll('[data-testid="chat-line"][data-sending]').length === 0`)

		// The shortcut for the microphone is a letter while one writes, and a shortcut otherwise.
		mina.press("m")
		mina.await(`deep('[data-testid="chat-input"]').value === "m"`)
		mina.press("Escape")
		mina.await(`!deep('[data-testid="chat-input"]')`)
		jun.tile("Mina", `!tile.ariaLabel.includes("microphone off")`)
		mina.press("m")
		jun.tile("Mina", `tile.ariaLabel.includes("microphone off")`)
		mina.press("m")
		jun.tile("Mina", `!tile.ariaLabel.includes("microphone off")`)
		mina.click("camera")
		jun.tile("Mina", `!tile.querySelector("video")`)
		mina.click("camera")
		jun.sees("Mina", "camera")

		// A screen, with its sound.
		mina.press("s")
		mina.shows("sharing")
		jun.sees("Mina's screen", "screen")
		jun.await(`deepAll("audio").length === 2`)
		mina.click("screen")
		jun.await(`!deep('[data-source="screen"]') && deepAll("audio").length === 1`)

		// How the connection is, in words.
		jun.tile("Mina", `["good", "fair", "poor"].includes(tile.querySelector('[data-testid="quality"]').dataset.grade)`)
		jun.click("quality")
		jun.reads("path", "Direct · UDP")
		jun.press("Escape")
		jun.await(`!deep('[data-testid="path"]')`)

		// Away and back.
		mina.click("leave")
		mina.shows("ended")
		jun.shows("alone")
		mina.click("rejoin")
		mina.sees("Guest", "camera")
		jun.sees("Mina", "camera")
		jun.click("leave")
		mina.shows("alone")
	})
	t.Run("chromium-firefox", func(t *testing.T) {
		link := node.HTTP + "/c/" + channelName(t)
		firefox := browser.Start(t, browser.Firefox, browser.Options{})
		mina := newVisitor(t, chromium, link, "Mina")
		mina.enter()
		jun := newVisitor(t, firefox, link, "Jun")
		jun.enter()
		mina.sees("Jun", "camera")
		jun.sees("Mina", "camera")
		jun.press("c")
		jun.write("chat-input", "from Firefox\n")
		mina.reads("unread", "1")
		jun.press("Escape")
		jun.await(`!deep('[data-testid="chat-input"]')`)
		jun.press("m")
		mina.tile("Jun", `tile.ariaLabel.includes("microphone off")`)
		jun.click("leave")
		jun.shows("ended")
		mina.shows("alone")
	})
}

// TestTheRestOfTheControls presses what the other tests leave: everything of the menu, the devices, and the shortcuts.
func TestTheRestOfTheControls(t *testing.T) {
	t.Parallel()
	programs := map[string]string{"ffprobe": "", "zbarimg": ""}
	for name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			lab.Missing(t, "%v", err)
		}
		programs[name] = path
	}
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{Args: []string{"--use-fake-device-for-media-stream=fps=30,device-count=3"}})
	link := node.HTTP + "/c/" + channelName(t)
	mina, jun := calls(t, chromium, link)
	item := func(id string) {
		t.Helper()
		mina.click("more")
		for tries := 0; tries < 10 && mina.WaitFor(within(t, 3*time.Second), `visible(deep('[role="menu"]'))`) != nil; tries++ {
			mina.click("more") // the window has changed its size under the finger
		}
		mina.click(id)
	}

	// Shortcuts.
	mina.press("v")
	jun.tile("Mina", `!tile.querySelector("video")`)
	mina.press("v")
	jun.sees("Mina", "camera")
	mina.press("l")
	mina.await(`deep(".stage").dataset.layout === "grid"`)
	mina.press("l")
	mina.await(`deep("madang-call").layout === "spotlight"`)
	mina.press("?")
	mina.shows("dialog-help")
	mina.press("Escape")
	mina.await(`!deep("dialog")`)
	mina.await(`Number(deep(".vol").style.getPropertyValue("--level")) > 0`) // the microphone is heard
	mina.press("m")
	jun.tile("Mina", `tile.ariaLabel.includes("microphone off")`)
	mina.ask(`window.said = []; deep("madang-call").session.media.on("changed", ({ audio }) => said.push(audio));`, nil)
	mina.press("Space") // held, one talks
	mina.await(`said.join() === "on,muted"`)
	mina.press("m")

	// However often the page is drawn again, what plays goes on.
	mina.ask(`window.emptied = []; for (const m of deepAll("video, audio")) m.addEventListener("emptied", () => emptied.push(m.localName));`, nil)

	// The whole screen, and a picture beside it.
	mina.ask("window.height = innerHeight", nil)
	mina.press("f")
	mina.await(`document.fullscreenElement === deep("madang-call")`)
	item("fullscreen")
	mina.await(`document.fullscreenElement === null && innerHeight === height`)
	// A browser without a screen has no other window to show it in: what is asked for is looked at.
	mina.ask(`HTMLVideoElement.prototype.requestPictureInPicture = async function () { window.beside = this.closest(".tile").dataset.name; };`, nil)
	item("pip")
	mina.await(`window.beside === "Jun"`)

	// What is saved.
	mina.ask(`const blobs = new Map();
		const make = URL.createObjectURL;
		URL.createObjectURL = (blob) => { const url = make(blob); blobs.set(url, blob); return url; };
		window.files = [];
		HTMLAnchorElement.prototype.click = async function () {
			const bytes = new Uint8Array(await blobs.get(this.href).arrayBuffer());
			files.push({ name: this.download, data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) });
		};`, nil)
	saved := func(kind string) string {
		t.Helper()
		var file struct {
			Name string
			Data []byte
		}
		mina.check(mina.WaitForValue(within(t, patience), "window.files.shift()", &file))
		if ok, _ := filepath.Match(channelName(t)+"-20??-??-??-??-??-??."+kind, file.Name); !ok {
			t.Errorf("saved as %q", file.Name)
		}
		path := filepath.Join(t.TempDir(), file.Name)
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	probe := func(path string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), programs["ffprobe"], "-v", "error", "-count_packets", "-of", "csv=p=0",
			"-show_entries", "stream=codec_name,width,height,nb_read_packets", path).Output()
		if err != nil {
			t.Fatalf("ffprobe: %v", err)
		}
		return string(out)
	}
	item("snapshot")
	if got := probe(saved("png")); !strings.HasPrefix(got, "png,") || strings.HasPrefix(got, "png,0,") {
		t.Errorf("the snapshot is %q", got)
	}
	item("record")
	mina.reads("recording", "0:03")
	item("record")
	mina.await(`!deep('[data-testid="recording"]')`)
	var emptied []string
	if mina.ask("return emptied", &emptied); len(emptied) > 0 {
		t.Errorf("what plays began anew: %v", emptied)
	}
	got := map[string]int{} // packets of each stream
	for stream := range strings.FieldsSeq(probe(saved("webm"))) {
		if at := strings.LastIndex(stream, ","); at >= 0 {
			got[stream[:at]], _ = strconv.Atoi(stream[at+1:])
		}
	}
	if got["vp9,1280,720"] < 5 || got["opus"] < 30 { // a busy machine draws few pictures
		t.Errorf("of three seconds recorded there is %v", got)
	}

	// Another camera, and another speaker.
	for _, kind := range []string{"camera", "speaker"} {
		mina.click(map[string]string{"camera": "camera-menu", "speaker": "mic-menu"}[kind])
		var id string
		mina.check(mina.WaitForValue(within(t, patience), fmt.Sprintf(`deepAll('[data-testid="device-%s"]:not(:checked)').at(-1)?.value`, kind), &id))
		mina.check(mina.Click(within(t, patience), fmt.Sprintf(`[data-testid="device-%s"][value=%s]`, kind, js(id))))
		if kind == "camera" {
			mina.await(`deep("madang-call").session.media.camera.getSettings().deviceId === %s`, js(id))
			jun.sees("Mina", "camera")
		} else {
			mina.await(`deep("audio").sinkId === %s`, js(id))
		}
		mina.press("Escape")
		mina.await(`!deep(".pop")`)
	}

	// The invitation, as another phone reads it.
	mina.press("i")
	mina.shows("dialog-invite")
	picture, err := mina.Screenshot(within(t, patience))
	mina.check(err)
	file := filepath.Join(t.TempDir(), "invitation.png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := exec.CommandContext(t.Context(), programs["zbarimg"], "-q", "--raw", file).Output()
	if err != nil || strings.TrimSpace(string(read)) != link {
		t.Errorf("the code says %q (%v), want %s", read, err, link)
	}
}

// TestCallWithKeysAlone: nothing needs a mouse, the focus goes through everything in a sensible order, and each stop says what it is.
func TestCallWithKeysAlone(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	mina := newVisitor(t, chromium, node.HTTP+"/", "Mina")
	// focus presses Tab until an element has it, and returns the stops on the way.
	focus := func(id string) (stops []string) {
		t.Helper()
		for range 40 {
			mina.press("Tab")
			var at struct{ ID, Label string }
			mina.ask(`let e = document.activeElement;
				while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
				return { ID: e?.dataset?.testid ?? "", Label: e?.ariaLabel || e?.labels?.[0]?.textContent || e?.textContent || e?.placeholder || "" };`, &at)
			if strings.TrimSpace(at.Label) == "" {
				t.Errorf("the focus stands on something without a name (%q) after %v", at.ID, stops)
			}
			stops = append(stops, at.ID)
			if at.ID == id {
				return stops
			}
		}
		t.Fatalf("%q cannot be reached with Tab: %v", id, stops)
		return nil
	}
	focus("start-call")
	mina.press("Enter")
	mina.await(`deep('[data-testid="preview"]')?.videoWidth > 0`)
	focus("name")
	mina.check(mina.Type(within(t, patience), by("name"), "Mina\n")) // Enter in the field joins
	mina.shows("alone")
	var order []string
	for _, stop := range focus("leave") {
		if stop != "" {
			order = append(order, stop)
		}
	}
	if got, want := strings.Join(order, " "), "mic mic-menu camera camera-menu screen chat-toggle people-toggle more leave"; !strings.HasSuffix(got, want) {
		t.Errorf("the focus went through %q, want %q at the end", got, want)
	}
	// A menu takes the focus and gives it back.
	mina.press("Escape", "i")
	mina.shows("dialog-invite")
	mina.press("Escape")
	mina.await(`!deep("dialog")`)
	focus("more")
	mina.press("Enter")
	mina.await(`deep('[role="menu"]')?.contains(deep("madang-call").shadowRoot.activeElement)`)
	mina.press("ArrowDown", "Escape")
	mina.await(`!deep('[role="menu"]') && deep("madang-call").shadowRoot.activeElement?.dataset.testid === "more"`)
	focus("leave")
	mina.press("Enter")
	mina.shows("ended")
	focus("rejoin")
	mina.press("Space")
	mina.shows("alone")
}

// admin runs the program as an administrator of a node on this machine would, and returns what it prints.
func admin(t testing.TB, node *lab.Node, args ...string) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, append(args, "--data", node.Data)...).CombinedOutput()
	if err != nil {
		t.Fatalf("madang %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// fails waits for the page that says why there is no call, and checks that it says so in words and offers what helps.
func (v *visitor) fails(code, title string) {
	v.t.Helper()
	v.await(`visible(deep('[data-testid="error"][data-code="%s"]'))`, code)
	v.reads("error", title)
}

// TestWhatCanGoWrong: each thing that keeps people from a call is said in plain words, in both languages.
func TestWhatCanGoWrong(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	link := func(t *testing.T) string { return node.HTTP + "/c/" + channelName(t) }
	hostOf := func(t *testing.T) *visitor {
		host := newVisitor(t, chromium, link(t), "Mina")
		host.enter()
		host.shows("alone")
		return host
	}

	t.Run("full", func(t *testing.T) {
		host := hostOf(t)
		host.ask(`await deep("madang-call").call.configure({ capacity: 1 })`, nil)
		guest := newVisitor(t, chromium, link(t)+"?lang=ko", "준")
		guest.enter()
		guest.fails("channel_full", "자리가 다 찼어요")
		host.ask(`await deep("madang-call").call.configure({ capacity: 2 })`, nil)
		guest.click("retry")
		guest.sees("Mina", "camera")
	})
	t.Run("locked, waiting, kicked", func(t *testing.T) {
		host := hostOf(t)
		host.click("people-toggle")
		host.click("lock")
		guest := newVisitor(t, chromium, link(t), "Jun")
		guest.enter()
		guest.fails("channel_locked", "locked")
		host.click("lock")
		host.click("waiting-room")
		host.await(`deep("madang-call").call.settings.waitingRoom && !deep("madang-call").call.settings.locked`)
		guest.click("retry")
		guest.await(`deep('[data-testid="pending"]')?.dataset.reason === "waiting_room"`)
		host.click("admit")
		host.sees("Jun", "camera")
		guest.sees("Mina", "camera")
		host.click("person-actions")
		host.click("kick")
		host.click("kick-confirm")
		guest.fails("kicked", "removed")
		host.await(`deep("madang-call").call.peers.size === 0`)
	})
	t.Run("declined", func(t *testing.T) {
		host := hostOf(t)
		guest := newVisitor(t, chromium, link(t)+"?ring=1", "Jun")
		for _, answer := range []struct{ button, code, title string }{{"decline", "rejected", "let in"}, {"busy", "busy", "busy"}} {
			if answer.button == "decline" {
				guest.enter()
			} else {
				guest.click("retry")
			}
			host.click(answer.button)
			guest.await(`visible(deep('[data-testid="error"][data-code="%s"]'))`, answer.code)
		}
		// One gives up before anybody has answered.
		guest.click("retry")
		host.shows("asking")
		guest.click("cancel")
		host.await(`!deep('[data-testid="asking"]')`)
		guest.click("join")
		host.click("accept")
		host.sees("Jun", "camera")
	})
	t.Run("not a channel", func(t *testing.T) {
		newVisitor(t, chromium, node.HTTP+"/c/"+strings.Repeat("x", 65)+"?join=1", "Jun").shows("error")
	})
	t.Run("server gone and back", func(t *testing.T) {
		node := serve(t, lab.NodeConfig{})
		mina, jun := calls(t, chromium, node.HTTP+"/c/outage")
		for _, v := range []*visitor{mina, jun} {
			v.Ignore(`ERR_|WebSocket|Failed to fetch`)
		}
		node.Kill()
		for _, v := range []*visitor{mina, jun} {
			v.await(`deep('[data-testid="state"]')?.dataset.state === "reconnecting"`)
		}
		mina.sees("Jun", "camera")
		jun.sees("Mina", "camera")
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, v := range []*visitor{mina, jun} {
			v.await(`!deep('[data-testid="state"]')`)
		}
		mina.press("c")
		mina.write("chat-input", "still there?\n")
		jun.reads("unread", "1")
	})
	t.Run("no camera allowed", func(t *testing.T) {
		denied := browser.Start(t, browser.Chromium, browser.Options{Args: []string{"--use-fake-ui-for-media-stream=deny"}})
		guest := newVisitor(t, denied, link(t), "Jun")
		guest.await(`deep('[data-testid="device-state"]')?.dataset.code === "permission_denied"`)
		guest.reads("device-state", "may not")
		guest.enter() // one can still see, hear and write
		guest.shows("alone")
	})
	t.Run("no camera there", func(t *testing.T) {
		bare := browser.Start(t, browser.Chromium, browser.Options{Args: []string{"--use-fake-device-for-media-stream=device-count=0"}})
		guest := newVisitor(t, bare, link(t)+"?lang=ko", "준")
		guest.await(`deep('[data-testid="device-state"]')?.dataset.code === "device_not_found"`)
		guest.reads("device-state", "찾지 못했어요")
		guest.enter()
		guest.shows("alone")
	})
}

// TestElementOnAnotherSite: a page of another origin has a call with one script and one tag, if the key's list has that origin.
func TestElementOnAnotherSite(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	pages := map[string]string{}
	site, stranger := blankPages(t, nil, pages), blankPages(t, nil, pages)
	admin(t, node, "project", "create", "shop")
	admin(t, node, "project", "key", "add", "shop", "--origin", site)
	fields := strings.Fields(admin(t, node, "project", "key", "list", "shop"))
	key := ""
	for _, field := range fields {
		if strings.HasPrefix(field, "mbk_") {
			key = field
		}
	}
	pages["/support"] = fmt.Sprintf(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<style>madang-call { display: block; height: 600px; --madang-accent: #8a2be2 }</style><h1>Help</h1>
<script type="module" src="%s/sdk/madang-call.js"></script>
<madang-call channel="support" key="%s"></madang-call></html>`, node.HTTP, key)

	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	t.Run("listed", func(t *testing.T) {
		mina, jun := calls(t, chromium, site+"/support")
		mina.await(`getComputedStyle(deep('[data-testid="leave"]')).display !== "none"`)
		// The element tells its page.
		mina.ask(`deep("madang-call").addEventListener("madang-peer-left", (e) => { window.gone = e.detail.name; })`, nil)
		jun.click("leave")
		mina.await(`window.gone === "Jun"`)
		// Taken out of its page, it leaves.
		jun.click("rejoin")
		mina.sees("Jun", "camera")
		jun.ask(`deep("madang-call").remove()`, nil)
		mina.shows("alone")
	})
	t.Run("not listed", func(t *testing.T) {
		guest := newVisitor(t, chromium, stranger+"/support", "Jun")
		guest.enter()
		guest.fails("origin_forbidden", "page")
	})
	t.Run("wrong key", func(t *testing.T) {
		pages["/wrong"] = strings.ReplaceAll(pages["/support"], key, "mbk_nobody")
		guest := newVisitor(t, chromium, site+"/wrong", "Jun")
		guest.enter()
		guest.fails("key_unknown", "key")
	})
}

// looks are how the pages are looked at.
var looks = []struct {
	name, lang string
	view       browser.View
}{
	{"desk", "en", browser.View{Width: 1280, Height: 800}},
	{"phone", "ko", browser.View{Width: 390, Height: 844, Phone: true, Dark: true}},
}

// axeScript is axe-core, to be preloaded into a page that is examined.
func axeScript(t *testing.T) string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	axe, err := os.ReadFile(filepath.Join(filepath.Dir(strings.TrimSpace(string(root))), "node_modules/axe-core/axe.min.js"))
	if err != nil {
		lab.Missing(t, "%v (npm install brings it)", err)
	}
	return string(axe)
}

// examine looks at what a page shows with axe-core, and for controls that are cut off.
func examine(v *visitor, state string) {
	v.t.Helper()
	var faults []string
	// What slides in has arrived.
	v.await(`deepAll("*").flatMap((e) => e.getAnimations()).every((a) => a.playState === "finished" || a.effect.getComputedTiming().endTime === Infinity)`)
	v.ask(`const result = await axe.run(document, { resultTypes: ["violations"] });
		const faults = result.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.flat(9).join(" ") + ": " + n.failureSummary));
		for (const e of deepAll("button, a, input, select, textarea")) {
			const r = e.getBoundingClientRect();
			if (!visible(e) || e.closest(".sr")) continue;
			if (r.left < -1 || r.right > innerWidth + 1) faults.push("cut off: " + e.outerHTML.slice(0, 100));
		}
		if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is wider than the screen");
		return faults;`, &faults)
	for _, fault := range faults {
		v.t.Errorf("%s: %s", state, fault)
	}
}

// TestPagesAreAccessible looks at every state of the pages for calls, in both languages, light and dark, on a desk and on a phone.
func TestPagesAreAccessible(t *testing.T) {
	t.Parallel()
	axe := axeScript(t)
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	jun := newVisitor(t, chromium, node.HTTP+"/c/look", "Jun")
	jun.enter()
	jun.shows("alone")
	for _, look := range looks {
		t.Run(look.name, func(t *testing.T) {
			v := newVisitor(t, chromium, "", "Mina")
			v.check(v.View(within(t, patience), look.view))
			v.check(v.Preload(within(t, patience), axe))
			examine := func(state string) { t.Helper(); examine(v, state) }
			v.check(v.Navigate(within(t, patience), node.HTTP+"/?lang="+look.lang))
			v.shows("start-call")
			examine("landing page")
			v.check(v.Navigate(within(t, patience), node.HTTP+"/c/look?lang="+look.lang))
			v.shows("preview")
			examine("before the call")
			v.enter()
			v.sees("Jun", "camera")
			examine("call of two")
			v.click("more")
			v.shows("invite")
			examine("menu")
			v.click("invite")
			v.shows("dialog-invite")
			examine("invitation")
			v.press("Escape")
			v.await(`!deep("dialog")`)
			v.click("chat-toggle")
			v.write("chat-input", "hello\n")
			v.reads("chat-log", "hello")
			v.await(`deepAll('[data-testid="chat-line"][data-sending]').length === 0`)
			examine("chat")
			v.ask(`deep(".line.mine").dataset.sending = "pending"`, nil) // as it is for as long as the server has not answered
			examine("chat, on its way")
			v.press("Escape")
			v.press("p")
			v.shows("people")
			examine("people")
			v.press("Escape")
			v.click("leave")
			v.shows("ended")
			examine("after the call")
			v.check(v.Navigate(within(t, patience), node.HTTP+"/c/"+strings.Repeat("x", 65)+"?join=1&lang="+look.lang))
			v.shows("error")
			examine("error")
		})
	}
}
