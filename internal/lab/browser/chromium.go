//go:build linux

package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// chromiumArgs: why each is there is said in groups.
var chromiumArgs = []string{
	"--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--window-size=1280,800",
	// Headless has a screen of 800x600 otherwise, and what is shared of it is no larger.
	"--screen-info={1920x1080}",
	// No GPU here; root has no sandbox; small /dev/shm in containers.
	"--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage",
	// No traffic of its own.
	"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-domain-reliability",
	"--no-pings", "--disable-breakpad", "--disable-crash-reporter", "--disable-extensions", "--password-store=basic", "--metrics-recording-only",
	// Fake camera and microphone, granted without asking, as is the screen; sound plays without a gesture, and nowhere.
	"--use-fake-device-for-media-stream=fps=30", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required", "--mute-audio",
	// Several pages at full speed.
	"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
	"--disable-hang-monitor", "--disable-popup-blocking", "--disable-ipc-flooding-protection",
	// Plain host candidates, and no permission prompt for pages of one address space that use another (Chromium 142 and later). No pages for what
	// the address bar would show: each start made two, for half a second of CPU time. The last --disable-features on a command line wins, so there is one.
	"--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets," +
		"LocalNetworkAccessChecksWebRTC,LocalNetworkAccessChecksWebTransport,Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,HttpsUpgrades," +
		"WebUIOmniboxPopup,WebUIOmniboxAimPopup",
}

func (b *Browser) startChromium(path, profile string, options Options) error {
	args := append([]string{"--user-data-dir=" + profile}, chromiumArgs...)
	if len(options.TrustedSPKI) > 0 {
		args = append(args, "--ignore-certificate-errors-spki-list="+strings.Join(options.TrustedSPKI, ","))
	}
	if len(options.SecureOrigins) > 0 {
		args = append(args, "--unsafely-treat-insecure-origin-as-secure="+strings.Join(options.SecureOrigins, ","))
	}
	if len(options.Hosts) > 0 {
		args = append(args, resolverRules(options.Hosts))
	}
	args = append(append(args, options.Args...), "about:blank")
	// The browser reads commands from descriptor 3 and writes to 4.
	commandsR, commandsW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer commandsR.Close()
	answersR, answersW, err := os.Pipe()
	if err != nil {
		commandsW.Close()
		return err
	}
	defer answersW.Close()
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{commandsR, answersW}
	cmd.Stderr = b.stderr
	// Time zone and language are the test's, not the machine's.
	cmd.Env = append(os.Environ(), "LANGUAGE=en_US", "LC_ALL=C.UTF-8", "TZ=UTC") // names of files are UTF-8, on machines without that language, too
	if b.process, err = options.Namespace.Start(cmd); err != nil {
		commandsW.Close()
		answersR.Close()
		return err
	}
	d := &cdp{pages: map[string]*cdpPage{}, shared: options.Profile != ""}
	d.rpc = newRPC(&pipe{in: answersR, out: commandsW, reader: bufio.NewReaderSize(answersR, 1<<16)}, d.event)
	b.driver = d
	return nil
}

// pipe carries messages that end with a NUL.
type pipe struct {
	in, out *os.File
	reader  *bufio.Reader
	mu      sync.Mutex // for whole writes
}

func (p *pipe) read() ([]byte, error) {
	message, err := p.reader.ReadBytes(0)
	if err != nil {
		return nil, err
	}
	return message[:len(message)-1], nil
}

func (p *pipe) write(message []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.out.Write(append(message, 0))
	return err
}

func (p *pipe) close() error { return errors.Join(p.in.Close(), p.out.Close()) }

// cdp drives Chromium (https://chromedevtools.github.io/devtools-protocol/), in "flat" mode: sessions are told apart by sessionId.
type cdp struct {
	rpc    *rpc
	shared bool // all pages are of the browser's own profile

	mu    sync.Mutex
	pages map[string]*cdpPage // by session
}

func (d *cdp) close() error { return d.rpc.close() }

func (d *cdp) newPage(ctx context.Context, events pageEvents) (page, error) {
	var profile struct {
		BrowserContextID string `json:"browserContextId"`
	}
	if !d.shared {
		if err := d.rpc.call(ctx, "", "Target.createBrowserContext", nil, &profile); err != nil {
			return nil, err
		}
	}
	var target struct {
		TargetID string `json:"targetId"`
	}
	window := map[string]any{"url": "about:blank", "newWindow": true, "width": 1280, "height": 800}
	if !d.shared {
		window["browserContextId"] = profile.BrowserContextID
	}
	if err := d.rpc.call(ctx, "", "Target.createTarget", window, &target); err != nil {
		return nil, err
	}
	var session struct {
		SessionID string `json:"sessionId"`
	}
	if err := d.rpc.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		return nil, err
	}
	p := &cdpPage{d: d, target: target.TargetID, session: session.SessionID, context: profile.BrowserContextID, events: events, loaded: make(chan string, 16)}
	d.mu.Lock()
	d.pages[p.session] = p
	d.mu.Unlock()
	for _, method := range []string{"Page.enable", "Runtime.enable", "Log.enable"} {
		if err := p.call(ctx, method, nil, nil); err != nil {
			return nil, err
		}
	}
	return p, p.call(ctx, "Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
}

type cdpPage struct {
	d                        *cdp
	target, session, context string
	events                   pageEvents
	loaded                   chan string // loader ids of documents whose load event has come; bounded, the newest are dropped
}

func (p *cdpPage) call(ctx context.Context, method string, params, out any) error {
	return p.d.rpc.call(ctx, p.session, method, params, out)
}

type remoteObject struct {
	Type        string          `json:"type"`
	Value       json.RawMessage `json:"value"`
	Description string          `json:"description"`
}

func (o remoteObject) String() string {
	if o.Description != "" {
		return o.Description
	}
	return string(o.Value)
}

type exceptionDetails struct {
	Text      string       `json:"text"`
	Exception remoteObject `json:"exception"`
}

func (e exceptionDetails) String() string { return e.Text + " " + e.Exception.String() }

func (d *cdp) event(e event) {
	d.mu.Lock()
	p := d.pages[e.SessionID]
	d.mu.Unlock()
	if p == nil {
		return
	}
	switch e.Method {
	case "Page.lifecycleEvent":
		var params struct{ Name, LoaderID string }
		if json.Unmarshal(e.Params, &params) == nil && params.Name == "load" {
			select {
			case p.loaded <- params.LoaderID:
			default:
			}
		}
	case "Runtime.exceptionThrown":
		var params struct{ ExceptionDetails exceptionDetails }
		if json.Unmarshal(e.Params, &params) == nil {
			p.events.problem("uncaught: " + params.ExceptionDetails.String())
		}
	case "Runtime.consoleAPICalled":
		var params struct {
			Type string
			Args []remoteObject
		}
		if json.Unmarshal(e.Params, &params) != nil {
			return
		}
		var words []string
		for _, arg := range params.Args {
			words = append(words, arg.String())
		}
		text := params.Type + ": " + strings.Join(words, " ")
		if params.Type == "error" || params.Type == "assert" {
			p.events.problem("console." + text)
		} else {
			p.events.console(text)
		}
	case "Log.entryAdded":
		var params struct {
			Entry struct{ Level, Text, URL string }
		}
		if json.Unmarshal(e.Params, &params) != nil {
			return
		}
		text := fmt.Sprintf("%s: %s (%s)", params.Entry.Level, params.Entry.Text, params.Entry.URL)
		if params.Entry.Level == "error" {
			p.events.problem(text)
		} else {
			p.events.console(text)
		}
	}
}

func (p *cdpPage) navigate(ctx context.Context, url string) error {
	for len(p.loaded) > 0 {
		<-p.loaded
	}
	var result struct{ LoaderID, ErrorText string }
	if err := p.call(ctx, "Page.navigate", map[string]any{"url": url}, &result); err != nil {
		return err
	}
	if result.ErrorText != "" {
		return errors.New(result.ErrorText)
	}
	if result.LoaderID == "" {
		return nil // within the same document
	}
	for {
		select {
		case id := <-p.loaded:
			if id == result.LoaderID {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.d.rpc.done:
			return errClosed
		}
	}
}

func (p *cdpPage) evaluate(ctx context.Context, expression string) (string, error) {
	var result struct {
		Result           remoteObject
		ExceptionDetails *exceptionDetails
	}
	err := p.call(ctx, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &result)
	var refused *commandError
	if errors.As(err, &refused) && (strings.Contains(refused.text, "context") || strings.Contains(refused.text, "navigated") || strings.Contains(refused.text, "Promise was collected")) {
		return "", fmt.Errorf("%w: %w", errNavigated, err)
	}
	if err != nil {
		return "", err
	}
	if result.ExceptionDetails != nil {
		return "", errors.New(result.ExceptionDetails.String())
	}
	var text string
	err = json.Unmarshal(result.Result.Value, &text)
	return text, err
}

func (p *cdpPage) click(ctx context.Context, x, y float64) error {
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		params := map[string]any{"type": kind, "x": x, "y": y}
		if kind != "mouseMoved" {
			params["button"], params["clickCount"] = "left", 1
		}
		if err := p.call(ctx, "Input.dispatchMouseEvent", params, nil); err != nil {
			return err
		}
	}
	return nil
}

// drop needs the operations that the source of the drag allows: 1 is to copy.
func (p *cdpPage) drop(ctx context.Context, at point, paths []string) error {
	data := map[string]any{"items": []any{}, "files": paths, "dragOperationsMask": 1}
	for _, kind := range []string{"dragEnter", "dragOver", "drop"} {
		if err := p.call(ctx, "Input.dispatchDragEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "data": data}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *cdpPage) choose(ctx context.Context, element string, paths []string) error {
	var result struct{ Result struct{ ObjectID string } }
	if err := p.call(ctx, "Runtime.evaluate", map[string]any{"expression": element}, &result); err != nil {
		return err
	}
	return p.call(ctx, "DOM.setFileInputFiles", map[string]any{"objectId": result.Result.ObjectID, "files": paths}, nil)
}

func (p *cdpPage) typeText(ctx context.Context, text string) error {
	for _, r := range text {
		if r == '\n' {
			if err := p.press(ctx, keys["Enter"]); err != nil {
				return err
			}
			continue
		}
		if err := p.call(ctx, "Input.insertText", map[string]any{"text": string(r)}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *cdpPage) press(ctx context.Context, k key) error {
	for _, kind := range []string{"keyDown", "keyUp"} {
		params := map[string]any{"type": kind, "key": k.name, "code": k.code, "windowsVirtualKeyCode": k.windows}
		if k.paste {
			params["modifiers"], params["commands"] = 2, []string{"paste"} // without the command the browser's own shortcuts do not work here
		} else if kind == "keyDown" && k.text != "" {
			params["text"] = k.text
		}
		if err := p.call(ctx, "Input.dispatchKeyEvent", params, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *cdpPage) view(ctx context.Context, v View) error {
	scale, scheme := 1, "light"
	if v.Phone {
		scale = 2
	}
	if v.Dark {
		scheme = "dark"
	}
	if err := p.call(ctx, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": v.Width, "height": v.Height, "deviceScaleFactor": scale, "mobile": v.Phone,
	}, nil); err != nil {
		return err
	}
	if err := p.call(ctx, "Emulation.setTouchEmulationEnabled", map[string]any{"enabled": v.Phone}, nil); err != nil {
		return err
	}
	return p.call(ctx, "Emulation.setEmulatedMedia", map[string]any{
		"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}},
	}, nil)
}

func (p *cdpPage) screenshot(ctx context.Context) ([]byte, error) {
	var result struct{ Data []byte }
	err := p.call(ctx, "Page.captureScreenshot", map[string]any{"format": "png"}, &result)
	return result.Data, err
}

func (p *cdpPage) preload(ctx context.Context, script string) error {
	return p.call(ctx, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}, nil)
}

func (p *cdpPage) limitStorage(ctx context.Context, bytes int64) error {
	origin, err := p.evaluate(ctx, "Promise.resolve(location.origin)")
	if err != nil {
		return err
	}
	return p.call(ctx, "Storage.overrideQuotaForOrigin", map[string]any{"origin": origin, "quotaSize": bytes}, nil)
}

func (p *cdpPage) close(ctx context.Context) error {
	p.d.mu.Lock()
	delete(p.d.pages, p.session)
	p.d.mu.Unlock()
	if p.d.shared {
		return p.d.rpc.call(ctx, "", "Target.closeTarget", map[string]any{"targetId": p.target}, nil)
	}
	return p.d.rpc.call(ctx, "", "Target.disposeBrowserContext", map[string]any{"browserContextId": p.context}, nil)
}
