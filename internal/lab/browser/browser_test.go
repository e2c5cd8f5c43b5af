//go:build linux

package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// callPage makes a bare call: no signaling but the test itself, no candidates but those in the descriptions.
const callPage = `<!doctype html><meta charset="utf-8"><title>call</title><video id="far" autoplay playsinline></video><script type="module">
const pc = new RTCPeerConnection();
window.pc = pc;
const gathered = new Promise((resolve) => pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && resolve()));
pc.ontrack = (e) => { document.querySelector("#far").srcObject = e.streams[0]; };
const media = async () => { const s = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } }); for (const t of s.getTracks()) pc.addTrack(t, s); };
window.offer = async () => { await media(); await pc.setLocalDescription(); await gathered; return pc.localDescription; };
window.answer = async (d) => { await media(); await pc.setRemoteDescription(d); await pc.setLocalDescription(); await gathered; return pc.localDescription; };
window.accept = (d) => pc.setRemoteDescription(d);
window.received = async () => { const r = { frames: 0, energy: 0 };
  for (const s of (await pc.getStats()).values()) if (s.type === "inbound-rtp") { r.frames += s.framesDecoded ?? 0; r.energy += s.totalAudioEnergy ?? 0; }
  return r; };
window.ready = true;
</script>`

func serve(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	ln, err := ns.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/call":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, callPage)
		case "/shadow":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<!doctype html><title>shadow</title><body><x-box></x-box><script>
const root = document.querySelector("x-box").attachShadow({ mode: "open" });
root.innerHTML = "<button disabled>Go</button><input>";
root.querySelector("button").onclick = (e) => { window.trusted = e.isTrusted && navigator.userActivation.isActive; };
root.querySelector("input").onkeydown = (e) => { if (e.key === "Enter") window.entered = root.querySelector("input").value; };
setTimeout(() => { root.querySelector("button").disabled = false; }, 100);
</script>`)
		case "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
		default:
			http.NotFound(w, r)
		}
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// Browsers take seconds to start: the fast inner loop goes without them.
func skipShort(t *testing.T) {
	if testing.Short() {
		t.Skip("starts browsers")
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestBareCall(t *testing.T) {
	skipShort(t)
	base := serve(t, nil)
	for _, pair := range [][2]browser.Engine{{browser.Chromium, browser.Chromium}, {browser.Chromium, browser.Firefox}, {browser.Firefox, browser.Firefox}} {
		t.Run(fmt.Sprintf("%s-%s", pair[0], pair[1]), func(t *testing.T) {
			a := browser.Start(t, pair[0], browser.Options{})
			b := a
			if pair[1] != pair[0] {
				b = browser.Start(t, pair[1], browser.Options{})
			}
			call(t, a.Open(t, base+"/call"), b.Open(t, base+"/call"))
		})
	}
}

func call(t *testing.T, a, b *browser.Page) {
	t.Helper()
	ctx := deadline(t)
	started := time.Now()
	for _, p := range []*browser.Page{a, b} {
		if err := p.WaitFor(ctx, "window.ready"); err != nil {
			t.Fatal(err)
		}
	}
	var offer, answer map[string]any
	if err := a.Eval(ctx, "return window.offer()", &offer); err != nil {
		t.Fatal(err)
	}
	if err := b.Eval(ctx, fmt.Sprintf("return window.answer(%s)", js(offer)), &answer); err != nil {
		t.Fatal(err)
	}
	if err := a.Eval(ctx, fmt.Sprintf("return window.accept(%s)", js(answer)), nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*browser.Page{a, b} {
		if err := p.WaitFor(ctx, "window.received().then((r) => r.frames >= 30 && r.energy > 0)"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("30 frames and sound on both sides after %v", time.Since(started).Round(time.Millisecond))
}

func TestCallAcrossNamespaces(t *testing.T) {
	skipShort(t)
	l := lab.New(t)
	var pages []*browser.Page
	for _, name := range []string{"a", "b"} {
		host := l.Host(name, lab.HostConfig{Kind: lab.Open})
		engine := map[string]browser.Engine{"a": browser.Chromium, "b": browser.Firefox}[name]
		pages = append(pages, browser.Start(t, engine, browser.Options{Namespace: host.Namespace}).Open(t, serve(t, host.Namespace)+"/call"))
	}
	call(t, pages[0], pages[1])
}

func TestInputProblemsAndScreenshot(t *testing.T) {
	skipShort(t)
	base := serve(t, nil)
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			b := browser.Start(t, engine, browser.Options{})
			ctx := deadline(t)
			p, err := b.NewPage(ctx, base+"/shadow")
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Click(ctx, "button"); err != nil {
				t.Fatal(err)
			}
			if err := p.WaitFor(ctx, "window.trusted"); err != nil {
				t.Error(err)
			}
			if err := p.Type(ctx, "input", "안녕 a\n"); err != nil {
				t.Fatal(err)
			}
			if err := p.WaitFor(ctx, `window.entered === "안녕 a"`); err != nil {
				t.Error(err)
			}
			shot, err := p.Screenshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if img, err := png.Decode(bytes.NewReader(shot)); err != nil || img.Bounds().Dx() < 600 {
				t.Errorf("screenshot: %v", err)
			}
			if got := p.Problems(); len(got) != 0 {
				t.Errorf("got problems %q, want none", got)
			}
			if err := p.Eval(ctx, `throw new Error("thrown on purpose")`, nil); err == nil || !strings.Contains(err.Error(), "on purpose") {
				t.Errorf("got %v, want the exception", err)
			}
			if err := p.Eval(ctx, `setTimeout(() => { throw new Error("later on purpose"); }); console.error("said on purpose");`, nil); err != nil {
				t.Error(err)
			}
			if err := p.Eval(ctx, `await fetch("/nothing-here")`, nil); err != nil {
				t.Error(err)
			}
			waitProblems(t, p, "later on purpose", "said on purpose")
			p.Ignore("on purpose|404")
			if got := p.Problems(); len(got) != 0 {
				t.Errorf("got problems %q, want none", got)
			}
			if err := p.Preload(ctx, "window.early = document.title;"); err != nil {
				t.Error(err)
			}
			// A wait survives that the page is left, and ends with its context.
			waited := make(chan error, 1)
			go func() { waited <- p.WaitFor(ctx, `document.title === "call"`) }()
			if err := p.Navigate(ctx, base+"/call"); err != nil {
				t.Error(err)
			}
			if err := <-waited; err != nil {
				t.Error(err)
			}
			var early any
			if err := p.Eval(ctx, "return window.early", &early); err != nil || early != "" {
				t.Errorf("got %v, %v, want the title before the document was read", early, err)
			}
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			if err := p.WaitFor(short, "false"); err == nil {
				t.Error("a wait for false ended without error")
			}
			// Profiles are separate.
			if err := p.Eval(ctx, `localStorage.setItem("x", "1")`, nil); err != nil {
				t.Error(err)
			}
			other := b.Open(t, base+"/call")
			var stored any
			if err := other.Eval(ctx, `return localStorage.getItem("x")`, &stored); err != nil || stored != nil {
				t.Errorf("got %v, %v, want nothing of another page's storage", stored, err)
			}
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := p.Navigate(ctx, base+"/nowhere:1"); err == nil {
				t.Error("a closed page was navigated")
			}
			b.Close()
			b.Close() // harmless
			if err := other.Eval(ctx, "return 1", nil); err == nil {
				t.Error("a closed browser answered")
			}
		})
	}
}

// waitProblems waits until the page has reported problems with all the texts.
func waitProblems(t *testing.T, p *browser.Page, texts ...string) {
	t.Helper()
	for range 500 {
		all := strings.Join(p.Problems(), "\n")
		missing := 0
		for _, text := range texts {
			if !strings.Contains(all, text) {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		// A round trip to the page: its events come before the answer.
		if err := p.Eval(t.Context(), "await new Promise((resolve) => setTimeout(resolve, 10))", nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("got problems %q, want %q", p.Problems(), texts)
}

// js is a value as a JavaScript literal.
func js(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
