//go:build linux

// Package browser drives real browsers in tests: Chromium by the Chrome DevTools Protocol over a pipe, Firefox by WebDriver BiDi over its
// WebSocket. Both need nothing but the browser itself, and work inside a [lab.Namespace] as well as outside.
//
// Cameras and microphones are the browsers' own fakes (a moving picture, a beep), permissions are granted without asking, and nothing of
// a browser's own traffic (updates, telemetry, captive portals) leaves it.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
)

// Engine is a make of browser.
type Engine string

const (
	// Chromium is Debian's /usr/bin/chromium, or what MADANG_LAB_CHROMIUM names.
	Chromium Engine = "chromium"
	// Firefox is Debian's /usr/bin/firefox-esr, or what MADANG_LAB_FIREFOX names.
	Firefox Engine = "firefox"
)

// path finds the program.
func (e Engine) path() (string, error) {
	if named := os.Getenv("MADANG_LAB_" + strings.ToUpper(string(e))); named != "" {
		return named, nil
	}
	names := map[Engine][]string{Chromium: {"chromium", "chromium-browser", "google-chrome"}, Firefox: {"firefox-esr", "firefox"}}[e]
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no browser %q found (looked for %s)", e, strings.Join(names, ", "))
}

// Options say how a browser is started. The zero value is good.
type Options struct {
	// Namespace is where the browser runs.
	Namespace *lab.Namespace
	// TrustedSPKI are SHA-256 hashes, in base64, of the public keys of certificates that are accepted although nobody vouches for them
	// (Chromium; Firefox accepts every certificate).
	TrustedSPKI []string
	// SecureOrigins are plain-HTTP origins that count as secure, like "http://11.90.0.10:8080", so that camera and microphone work there.
	SecureOrigins []string
	// Profile is a folder with the browser's own data that outlives it: what a user finds again after a crash. All pages share it. Default: a fresh
	// one for each page.
	Profile string
	// Hosts are names that lead to an address of the test's, whatever the port, like "www.example.com": "127.0.0.1:8080". Outside of namespaces only.
	Hosts map[string]string
	// Args are more command line arguments.
	Args []string
}

// A Browser is a running browser. Its methods may be called concurrently.
type Browser struct {
	Engine  Engine
	driver  driver
	process *lab.Process
	stderr  *lab.Tail
	hosts   *hostProxy // nil if nobody needs it

	mu    sync.Mutex
	pages []*Page
}

// driver is what an engine's protocol must do. Contexts end waits.
type driver interface {
	// newPage opens a blank page in a profile of its own.
	newPage(ctx context.Context, events pageEvents) (page, error)
	// close ends the connection to the browser.
	close() error
}

// pageEvents are called on the driver's reading goroutine and must not block.
type pageEvents struct {
	problem func(text string) // an uncaught exception, console.error, or a failed request
	console func(text string) // everything else on the console
}

// page is one page of a driver.
type page interface {
	navigate(ctx context.Context, url string) error
	// evaluate runs an expression that gives a promise of a string.
	evaluate(ctx context.Context, expression string) (string, error)
	click(ctx context.Context, x, y float64) error
	typeText(ctx context.Context, text string) error
	// press presses a key and lets go of it.
	press(ctx context.Context, k key) error
	screenshot(ctx context.Context) ([]byte, error)
	view(ctx context.Context, v View) error
	// preload runs a script in each document from now on, before the page's own.
	preload(ctx context.Context, script string) error
	close(ctx context.Context) error
}

// errNavigated: the page went elsewhere during an evaluation.
var errNavigated = errors.New("the page was left")

// Start starts a browser with a fresh profile that is closed at the end of the test. A browser that is not installed is [lab.Missing].
func Start(t testing.TB, engine Engine, options Options) *Browser {
	t.Helper()
	path, err := engine.path()
	if err != nil {
		lab.Missing(t, "%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := &Browser{Engine: engine, stderr: &lab.Tail{}}
	// Not t.TempDir: a browser's helpers may write for a moment after it was killed, and its removal would fail the test.
	profile := options.Profile
	if profile == "" {
		if profile, err = os.MkdirTemp("", "madang-lab-"+string(engine)+"-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(profile); err != nil {
				t.Logf("remove the profile: %v", err)
			}
		})
	}
	switch engine {
	case Chromium:
		err = b.startChromium(path, profile, options)
	case Firefox:
		err = b.startFirefox(ctx, path, profile, options)
	default:
		err = fmt.Errorf("unknown engine %q", engine)
	}
	if err != nil {
		t.Fatalf("start %s: %v\n%s", engine, err, b.stderr)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("MADANG_LAB_VERBOSE") != "" {
			t.Logf("%s wrote:\n%s", engine, b.stderr)
		}
		b.Close()
	})
	return b
}

// Close kills the browser and all of its processes. Calling it again is harmless.
func (b *Browser) Close() {
	_ = b.driver.close() // it is going to be killed
	b.process.Kill()
	if b.hosts != nil {
		b.hosts.close()
	}
}

// Sleep stops all of the browser's processes, as when a lid is closed, until Wake.
func (b *Browser) Sleep() error { return b.process.Sleep() }

// Wake lets them go on.
func (b *Browser) Wake() error { return b.process.Wake() }

// MemoryBytes is what all processes of the browser use together (see [lab.Process.MemoryBytes]).
func (b *Browser) MemoryBytes() (int64, error) { return b.process.MemoryBytes() }

// A Page is one page in a profile of its own: nothing is shared with other pages. Its methods may be called concurrently.
type Page struct {
	Engine Engine
	page   page

	mu       sync.Mutex
	closed   bool
	problems []string
	console  []string
	ignored  []*regexp.Regexp
}

// NewPage opens a page and waits until it has loaded; an empty url leaves it blank.
func (b *Browser) NewPage(ctx context.Context, url string) (*Page, error) {
	p := &Page{Engine: b.Engine}
	inner, err := b.driver.newPage(ctx, pageEvents{problem: p.addProblem, console: p.addConsole})
	if err != nil {
		return nil, fmt.Errorf("new page: %w", err)
	}
	p.page = inner
	b.mu.Lock()
	b.pages = append(b.pages, p)
	b.mu.Unlock()
	if url == "" {
		return p, nil
	}
	return p, p.Navigate(ctx, url)
}

// Open is NewPage for tests: it fails the test on an error, and at the test's end if the page had a problem (see Problems), and then says
// what the page wrote on its console. The page is closed at the test's end.
func (b *Browser) Open(t testing.TB, url string) *Page {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := b.NewPage(ctx, url)
	if p != nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := p.Close(ctx); err != nil {
				t.Logf("close the page: %v", err) // its browser may have been closed
			}
		})
		t.Cleanup(func() {
			for _, problem := range p.Problems() {
				t.Errorf("%s page %s: %s", b.Engine, url, problem)
			}
			if t.Failed() {
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, line := range p.console {
					t.Logf("%s page %s: console: %s", b.Engine, url, line)
				}
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const maxConsole = 200

func (p *Page) addProblem(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.problems) < maxConsole {
		p.problems = append(p.problems, text)
	}
}

func (p *Page) addConsole(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.console) < maxConsole {
		p.console = append(p.console, text)
	}
}

// Problems returns the uncaught exceptions, console errors and failed requests so far, without those that are ignored.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []string
next:
	for _, problem := range p.problems {
		for _, expression := range p.ignored {
			if expression.MatchString(problem) {
				continue next
			}
		}
		left = append(left, problem)
	}
	return left
}

// Ignore makes Problems leave out those that match: what a test provokes.
func (p *Page) Ignore(expression string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ignored = append(p.ignored, regexp.MustCompile(expression))
}

// Navigate goes to a URL and waits for its load event.
func (p *Page) Navigate(ctx context.Context, url string) error {
	if err := p.page.navigate(ctx, url); err != nil {
		return fmt.Errorf("open %s: %w", url, err)
	}
	return nil
}

// prelude is in scope of all scripts. deep and deepAll find elements by CSS selector, inside open shadow roots too.
const prelude = `
const deepAll = (selector, root = document) => {
  const found = [...root.querySelectorAll(selector)];
  for (const element of root.querySelectorAll("*")) if (element.shadowRoot) found.push(...deepAll(selector, element.shadowRoot));
  return found;
};
const deep = (selector) => deepAll(selector)[0] ?? null;
const visible = (element) => { const r = element?.getBoundingClientRect(); return !!r && r.width > 0 && r.height > 0 && getComputedStyle(element).visibility !== "hidden"; };
`

// Eval runs the body of an async function in the page and decodes what it returns, by way of JSON, into out, which may be nil. The
// functions deep(selector), deepAll(selector) and visible(element) are in its scope; the former two look into open shadow roots.
func (p *Page) Eval(ctx context.Context, body string, out any) error {
	text, err := p.page.evaluate(ctx, "(async () => {"+prelude+body+"\n})().then((v) => JSON.stringify(v === undefined ? null : v))")
	if err != nil {
		return fmt.Errorf("evaluate %s: %w", abridge(body), err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		return fmt.Errorf("evaluate %s: %w", abridge(body), err)
	}
	return nil
}

// WaitFor waits until an expression, which may be a promise, is truthy. An exception counts as not yet; if time runs out it is in the error.
// It survives navigation of the page.
func (p *Page) WaitFor(ctx context.Context, expression string) error {
	return p.WaitForValue(ctx, expression, nil)
}

// WaitForValue is WaitFor that decodes the truthy value into out.
func (p *Page) WaitForValue(ctx context.Context, expression string, out any) error {
	// Each look is bounded so that no page keeps on looking for a test that has given up.
	body := `
let last = "";
const until = performance.now() + 2000;
for (;;) {
  try { const value = await (` + expression + `); if (value) return { value }; last = ""; } catch (error) { last = String(error); }
  if (performance.now() > until) return { last };
  await new Promise((resolve) => setTimeout(resolve, 20));
}`
	last := ""
	for {
		var result struct {
			Value json.RawMessage `json:"value"`
			Last  string          `json:"last"`
		}
		err := p.Eval(ctx, body, &result)
		switch {
		case ctx.Err() != nil:
			state := ""
			if last != "" {
				state = " (it threw " + last + ")"
			}
			return fmt.Errorf("waiting for %s%s: %w; %s", abridge(expression), state, context.Cause(ctx), p.describe())
		case errors.Is(err, errNavigated):
			continue
		case err != nil:
			return err
		case result.Value == nil:
			last = result.Last
			continue
		case out == nil:
			return nil
		}
		return json.Unmarshal(result.Value, out)
	}
}

// describe says what the page shows, for error messages.
func (p *Page) describe() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var text string
	if err := p.Eval(ctx, `
const texts = [];
const walk = (root) => { for (const e of root.children ?? []) { if (/^(STYLE|SCRIPT|SVG)$/i.test(e.tagName)) continue;
  for (const n of e.childNodes) if (n.nodeType === 3 && n.data.trim() && visible(e)) texts.push(n.data.trim());
  if (e.shadowRoot) walk(e.shadowRoot); walk(e); } };
walk(document.body ?? document);
return location.href + " shows: " + texts.join(" | ").slice(0, 600);`, &text); err != nil {
		text = err.Error()
	}
	return text
}

type point struct{ X, Y float64 }

// middle waits until the element that a selector finds is visible, enabled and at rest.
func (p *Page) middle(ctx context.Context, selector string) (at point, err error) {
	quoted, _ := json.Marshal(selector)
	err = p.WaitForValue(ctx, `(async () => {
  const element = deep(`+string(quoted)+`);
  if (!visible(element) || element.disabled) return null;
  element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
  const first = element.getBoundingClientRect();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const r = element.getBoundingClientRect();
  if (r.x !== first.x || r.y !== first.y || r.width !== first.width) return null;
  let hit = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
  while (hit?.shadowRoot) { const inner = hit.shadowRoot.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2); if (!inner || inner === hit) break; hit = inner; }
  for (let e = hit; e; e = e.parentNode ?? e.host) if (e === element) return { X: r.x + r.width / 2, Y: r.y + r.height / 2 };
  throw new Error("covered by " + hit?.outerHTML?.slice(0, 80));
})()`, &at)
	return at, err
}

// Click clicks, by real input, on the middle of the element that a selector finds, once it is visible, enabled and at rest.
func (p *Page) Click(ctx context.Context, selector string) error {
	at, err := p.middle(ctx, selector)
	if err != nil {
		return fmt.Errorf("click on %s: %w", selector, err)
	}
	if err := p.page.click(ctx, at.X, at.Y); err != nil {
		return fmt.Errorf("click on %s: %w", selector, err)
	}
	return nil
}

// Type types text by real input into the element that a selector finds. A newline is the Enter key.
func (p *Page) Type(ctx context.Context, selector, text string) error {
	if err := p.Click(ctx, selector); err != nil {
		return err
	}
	if err := p.page.typeText(ctx, text); err != nil {
		return fmt.Errorf("type into %s: %w", selector, err)
	}
	return nil
}

// A key as the three standards name it.
type key struct {
	name    string // W3C uievents-key: what KeyboardEvent.key says
	code    string // W3C uievents-code: its place on the keyboard
	windows int    // windowsVirtualKeyCode of CDP
	driver  string // WebDriver §17.4.2
	text    string // what it writes
	paste   bool   // with Control
}

var keys = map[string]key{
	"Tab":       {name: "Tab", code: "Tab", windows: 9, driver: "\uE004"},
	"Enter":     {name: "Enter", code: "Enter", windows: 13, driver: "\uE007", text: "\r"},
	"Escape":    {name: "Escape", code: "Escape", windows: 27, driver: "\uE00C"},
	"Space":     {name: " ", code: "Space", windows: 32, driver: " ", text: " "},
	"ArrowDown": {name: "ArrowDown", code: "ArrowDown", windows: 40, driver: "\uE015"},
	"?":         {name: "?", code: "Slash", windows: 191, driver: "?", text: "?"},
	"Control+v": {name: "v", code: "KeyV", windows: 'V', driver: "v", paste: true},
}

// Press presses keys one after the other, by real input: letters, and ?, Tab, Enter, Escape, Space, ArrowDown and Control+v, which pastes.
func (p *Page) Press(ctx context.Context, names ...string) error {
	for _, name := range names {
		k, known := keys[name]
		if !known {
			if len(name) != 1 || name[0] < 'a' || name[0] > 'z' {
				return fmt.Errorf("press %q: no such key here", name)
			}
			k = key{name: name, code: "Key" + strings.ToUpper(name), windows: int(name[0]) - 'a' + 'A', driver: name, text: name}
		}
		if err := p.page.press(ctx, k); err != nil {
			return fmt.Errorf("press %s: %w", name, err)
		}
	}
	return nil
}

// A View is how a page is looked at.
type View struct {
	Width, Height int // CSS pixels
	// Phone makes it a phone's: a finger for a pointer, two device pixels for one (Chromium).
	Phone bool
	// Dark is the preferred color scheme (Chromium).
	Dark bool
}

// View changes how the page is looked at.
func (p *Page) View(ctx context.Context, v View) error {
	if err := p.page.view(ctx, v); err != nil {
		return fmt.Errorf("view of %dx%d: %w", v.Width, v.Height, err)
	}
	return nil
}

// Preload runs a script in every document that the page opens from now on, before any of the document's own.
func (p *Page) Preload(ctx context.Context, script string) error {
	if err := p.page.preload(ctx, script); err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	return nil
}

// LimitStorage leaves the page's origin so many bytes of storage, those in use included (Chromium).
func (p *Page) LimitStorage(ctx context.Context, bytes int64) error {
	limited, ok := p.page.(interface {
		limitStorage(ctx context.Context, bytes int64) error
	})
	if !ok {
		return errors.New("this browser's driver cannot limit storage")
	}
	return limited.limitStorage(ctx, bytes)
}

// filer is a driver that gives files and folders of the disk to its pages.
type filer interface {
	drop(ctx context.Context, at point, paths []string) error
	choose(ctx context.Context, element string, paths []string) error
}

// Drop drags files and folders of the disk, by their absolute paths, onto the middle of the element that a selector finds, and lets go of them there (Chromium).
func (p *Page) Drop(ctx context.Context, selector string, paths ...string) error {
	f, ok := p.page.(filer)
	if !ok {
		return errors.New("this browser's driver cannot drop files")
	}
	at, err := p.middle(ctx, selector)
	if err == nil {
		err = f.drop(ctx, at, paths)
	}
	if err != nil {
		return fmt.Errorf("drop on %s: %w", selector, err)
	}
	return nil
}

// Choose gives files of the disk to a file input, or a folder to one for folders, by their absolute paths, as if a person had chosen them (Chromium).
func (p *Page) Choose(ctx context.Context, selector string, paths ...string) error {
	f, ok := p.page.(filer)
	if !ok {
		return errors.New("this browser's driver cannot choose files")
	}
	quoted, _ := json.Marshal(selector)
	if err := f.choose(ctx, "(() => {"+prelude+"return deep("+string(quoted)+"); })()", paths); err != nil {
		return fmt.Errorf("choose for %s: %w", selector, err)
	}
	return nil
}

// Screenshot returns a PNG of what the page shows.
func (p *Page) Screenshot(ctx context.Context) ([]byte, error) { return p.page.screenshot(ctx) }

// Close closes the page and forgets its profile. A second time it does nothing.
func (p *Page) Close(ctx context.Context) error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	return p.page.close(ctx)
}

func abridge(script string) string {
	script = strings.Join(strings.Fields(script), " ")
	if len(script) > 160 {
		script = script[:160] + "…"
	}
	return "`" + script + "`"
}
