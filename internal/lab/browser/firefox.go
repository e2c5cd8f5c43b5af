//go:build linux

package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// firefoxPrefs make a profile for tests.
var firefoxPrefs = map[string]any{
	// Fake camera and microphone, granted without asking, with plain host candidates, on loopback too.
	"media.navigator.streams.fake":                             true,
	"media.navigator.permission.disabled":                      true,
	"media.autoplay.default":                                   0,
	"media.autoplay.blocking_policy":                           0,
	"media.peerconnection.ice.obfuscate_host_addresses":        false,
	"media.peerconnection.ice.loopback":                        true,
	"media.peerconnection.ice.proxy_only_if_behind_proxy":      false,
	"media.getusermedia.insecure.enabled":                      true,
	"media.devices.unfocused.enabled":                          true, // or enumerateDevices waits for the page to be in front
	"media.devices.insecure.enabled":                           true,
	"full-screen-api.warning.timeout":                          0,
	"dom.min_background_timeout_value":                         4,
	"dom.timeout.enable_budget_timer_throttling":               false,
	"dom.ipc.processPriorityManager.enabled":                   false,
	"widget.windows.window_occlusion_tracking.enabled":         false,
	"network.lna.enabled":                                      false,
	"dom.security.https_first":                                 false,
	"browser.shell.checkDefaultBrowser":                        false,
	"browser.startup.homepage_override.mstone":                 "ignore",
	"browser.startup.page":                                     0,
	"browser.startup.homepage":                                 "about:blank",
	"browser.newtab.preload":                                   false,
	"browser.aboutwelcome.enabled":                             false,
	"browser.tabs.warnOnClose":                                 false,
	"datareporting.policy.dataSubmissionEnabled":               false,
	"datareporting.healthreport.uploadEnabled":                 false,
	"toolkit.telemetry.server":                                 "",
	"toolkit.telemetry.enabled":                                false,
	"app.update.disabledForTesting":                            true,
	"app.normandy.enabled":                                     false,
	"app.shield.optoutstudies.enabled":                         false,
	"extensions.update.enabled":                                false,
	"extensions.getAddons.cache.enabled":                       false,
	"extensions.systemAddon.update.enabled":                    false,
	"media.gmp-manager.updateEnabled":                          false,
	"media.gmp-manager.url":                                    "",
	"network.captive-portal-service.enabled":                   false,
	"network.connectivity-service.enabled":                     false,
	"network.dns.disablePrefetch":                              true,
	"network.prefetch-next":                                    false,
	"network.trr.mode":                                         5,
	"services.settings.server":                                 "data:,",
	"browser.safebrowsing.malware.enabled":                     false,
	"browser.safebrowsing.phishing.enabled":                    false,
	"browser.safebrowsing.downloads.enabled":                   false,
	"browser.safebrowsing.provider.google4.updateURL":          "",
	"browser.safebrowsing.provider.mozilla.updateURL":          "",
	"browser.region.update.enabled":                            false,
	"browser.region.network.url":                               "",
	"browser.newtabpage.activity-stream.feeds.system.topsites": false,
	"browser.topsites.contile.enabled":                         false,
	"browser.search.update":                                    false,
	"dom.push.connection.enabled":                              false,
	"intl.accept_languages":                                    "en-US,en",
}

func (b *Browser) startFirefox(ctx context.Context, path, profile string, options Options) (err error) {
	all := maps.Clone(firefoxPrefs)
	if len(options.Hosts) > 0 {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		b.hosts = newHostProxy(ln, options.Hosts)
		all["network.proxy.type"] = 2 // auto-config
		all["network.proxy.autoconfig_url"] = proxyConfig(options.Hosts, ln.Addr().String())
		all["network.proxy.socks5_remote_dns"] = true
	}
	var prefs strings.Builder
	for name, value := range all {
		encoded, err := json.Marshal(value)
		if err != nil {
			return err
		}
		fmt.Fprintf(&prefs, "user_pref(%q, %s);\n", name, encoded)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs.String()), 0o600); err != nil {
		return err
	}
	args := append([]string{"--headless", "--no-remote", "--new-instance", "--profile", profile, "--remote-debugging-port", "0",
		"--width", "1280", "--height", "800"}, options.Args...)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_DISABLE_CONTENT_SANDBOX=1", "HOME="+profile, "LANG=en_US.UTF-8", "TZ=UTC")
	found := make(chan string, 1)
	cmd.Stderr = io.MultiWriter(b.stderr, &lineFinder{prefix: "WebDriver BiDi listening on ", found: found})
	if b.process, err = options.Namespace.Start(cmd); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.process.Kill()
		}
	}()
	var address string
	select {
	case address = <-found:
	case <-b.process.Done():
		return fmt.Errorf("it ended: %w", b.process.Err())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: options.Namespace.DialContext}}
	conn, _, err := websocket.Dial(ctx, address+"/session", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	conn.SetReadLimit(-1)
	d := &bidi{pages: map[string]*bidiPage{}, shared: options.Profile != ""}
	life, cancel := context.WithCancel(context.Background())
	d.rpc = newRPC(&socket{conn: conn, ctx: life, cancel: cancel}, d.event)
	b.driver = d
	if err := d.rpc.call(ctx, "", "session.new", map[string]any{
		"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}},
	}, nil); err != nil {
		return errors.Join(err, d.close())
	}
	if err := d.rpc.call(ctx, "", "session.subscribe", map[string]any{"events": []string{"log.entryAdded", "browsingContext.navigationCommitted"}}, nil); err != nil {
		return errors.Join(err, d.close())
	}
	return nil
}

// lineFinder sends the rest of the first line that begins with prefix.
type lineFinder struct {
	prefix string
	found  chan<- string
	rest   strings.Builder
	over   bool
}

func (f *lineFinder) Write(p []byte) (int, error) {
	if f.over {
		return len(p), nil
	}
	f.rest.Write(p)
	scanner := bufio.NewScanner(strings.NewReader(f.rest.String()))
	for scanner.Scan() {
		if after, ok := strings.CutPrefix(scanner.Text(), f.prefix); ok && strings.HasSuffix(f.rest.String(), "\n") {
			f.found <- strings.TrimSpace(after)
			f.over = true
			break
		}
	}
	return len(p), nil
}

// socket carries messages as WebSocket text frames.
type socket struct {
	conn   *websocket.Conn
	ctx    context.Context // the connection's lifetime
	cancel context.CancelFunc
}

func (s *socket) read() ([]byte, error) {
	_, message, err := s.conn.Read(s.ctx)
	return message, err
}
func (s *socket) write(message []byte) error {
	return s.conn.Write(s.ctx, websocket.MessageText, message)
}
func (s *socket) close() error { s.cancel(); return s.conn.CloseNow() }

// bidi drives Firefox (https://w3c.github.io/webdriver-bidi/).
type bidi struct {
	rpc    *rpc
	shared bool // all pages are of the browser's own profile

	mu    sync.Mutex
	pages map[string]*bidiPage // by browsing context
}

func (d *bidi) close() error { return d.rpc.close() }

type bidiPage struct {
	d             *bidi
	id, userScope string
	events        pageEvents

	mu   sync.Mutex
	left chan struct{} // closed when the current document is left
}

// leave ends the evaluations of the document that is left: Firefox never answers them.
func (p *bidiPage) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.left)
	p.left = make(chan struct{})
}

func (d *bidi) newPage(ctx context.Context, events pageEvents) (page, error) {
	profile := struct{ UserContext string }{"default"}
	if !d.shared {
		if err := d.rpc.call(ctx, "", "browser.createUserContext", nil, &profile); err != nil {
			return nil, err
		}
	}
	var created struct{ Context string }
	if err := d.rpc.call(ctx, "", "browsingContext.create", map[string]any{"type": "window", "userContext": profile.UserContext}, &created); err != nil {
		return nil, err
	}
	p := &bidiPage{d: d, id: created.Context, userScope: profile.UserContext, events: events, left: make(chan struct{})}
	d.mu.Lock()
	d.pages[p.id] = p
	d.mu.Unlock()
	return p, nil
}

func (d *bidi) event(e event) {
	var params struct {
		Source  struct{ Context string }
		Context string
		Level   string
		Text    string
		Type    string
	}
	if json.Unmarshal(e.Params, &params) != nil {
		return
	}
	d.mu.Lock()
	p := d.pages[params.Source.Context+params.Context] // one of them is empty
	d.mu.Unlock()
	if p == nil {
		return
	}
	if e.Method == "browsingContext.navigationCommitted" {
		p.leave()
		return
	}
	text := params.Type + " " + params.Level + ": " + params.Text
	if params.Level == "error" {
		p.events.problem(text)
	} else {
		p.events.console(text)
	}
}

func (p *bidiPage) navigate(ctx context.Context, url string) error {
	return p.d.rpc.call(ctx, "", "browsingContext.navigate", map[string]any{"context": p.id, "url": url, "wait": "complete"}, nil)
}

func (p *bidiPage) evaluate(ctx context.Context, expression string) (string, error) {
	var result struct {
		Type   string
		Result struct {
			Type  string
			Value json.RawMessage
		}
		ExceptionDetails struct{ Text string }
	}
	p.mu.Lock()
	left := p.left
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-left:
			cancel(errNavigated)
		case <-ctx.Done():
		}
	}()
	err := p.d.rpc.call(ctx, "", "script.evaluate", map[string]any{
		"expression": expression, "target": map[string]any{"context": p.id}, "awaitPromise": true, "resultOwnership": "none",
	}, &result)
	var refused *commandError
	if errors.As(err, &refused) && (strings.Contains(refused.text, "no such frame") || strings.Contains(refused.text, "realm") ||
		strings.Contains(refused.text, "destroyed") || strings.Contains(refused.text, "navigat") || strings.Contains(refused.text, "AbortError")) {
		return "", fmt.Errorf("%w: %w", errNavigated, err)
	}
	if err != nil {
		return "", err
	}
	if result.Type == "exception" {
		return "", errors.New(result.ExceptionDetails.Text)
	}
	var text string
	err = json.Unmarshal(result.Result.Value, &text)
	return text, err
}

func (p *bidiPage) perform(ctx context.Context, source map[string]any) error {
	return p.d.rpc.call(ctx, "", "input.performActions", map[string]any{"context": p.id, "actions": []any{source}}, nil)
}

func (p *bidiPage) click(ctx context.Context, x, y float64) error {
	return p.perform(ctx, map[string]any{"type": "pointer", "id": "mouse", "actions": []any{
		map[string]any{"type": "pointerMove", "x": int(x), "y": int(y)},
		map[string]any{"type": "pointerDown", "button": 0},
		map[string]any{"type": "pointerUp", "button": 0},
	}})
}

func (p *bidiPage) typeText(ctx context.Context, text string) error {
	var actions []any
	for _, r := range text {
		name := string(r)
		if r == '\n' {
			name = keys["Enter"].driver
		}
		actions = append(actions, map[string]any{"type": "keyDown", "value": name}, map[string]any{"type": "keyUp", "value": name})
	}
	return p.perform(ctx, map[string]any{"type": "key", "id": "keyboard", "actions": actions})
}

func (p *bidiPage) press(ctx context.Context, k key) error {
	actions := []any{map[string]any{"type": "keyDown", "value": k.driver}, map[string]any{"type": "keyUp", "value": k.driver}}
	if k.paste {
		const control = "\uE009"
		actions = append([]any{map[string]any{"type": "keyDown", "value": control}}, append(actions, map[string]any{"type": "keyUp", "value": control})...)
	}
	return p.perform(ctx, map[string]any{"type": "key", "id": "keyboard", "actions": actions})
}

func (p *bidiPage) view(ctx context.Context, v View) error {
	return p.d.rpc.call(ctx, "", "browsingContext.setViewport", map[string]any{
		"context": p.id, "viewport": map[string]any{"width": v.Width, "height": v.Height},
	}, nil)
}

func (p *bidiPage) screenshot(ctx context.Context) ([]byte, error) {
	var result struct{ Data []byte }
	err := p.d.rpc.call(ctx, "", "browsingContext.captureScreenshot", map[string]any{"context": p.id}, &result)
	return result.Data, err
}

func (p *bidiPage) preload(ctx context.Context, script string) error {
	return p.d.rpc.call(ctx, "", "script.addPreloadScript", map[string]any{
		"functionDeclaration": "() => {" + script + "\n}", "contexts": []string{p.id},
	}, nil)
}

func (p *bidiPage) close(ctx context.Context) error {
	p.d.mu.Lock()
	delete(p.d.pages, p.id)
	p.d.mu.Unlock()
	if p.d.shared {
		return p.d.rpc.call(ctx, "", "browsingContext.close", map[string]any{"context": p.id}, nil)
	}
	return p.d.rpc.call(ctx, "", "browser.removeUserContext", map[string]any{"userContext": p.userScope}, nil)
}
