//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
	"github.com/madang-rtc/madang/internal/project"
)

// TestTokensMadeAsTheGuideSaysAdmit runs the examples of docs/api.md as they stand, and joins with what they make.
func TestTokensMadeAsTheGuideSaysAdmit(t *testing.T) {
	guide, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
	madang := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(within(t, patience), path, append(args, "--data", node.Data)...).Output()
		if err != nil {
			t.Fatalf("madang %v: %v", args, err)
		}
		return out
	}
	madang("project", "create", "shop", "--require-token")
	var secret struct{ Kid, Secret string }
	if err := json.Unmarshal(madang("project", "secret", "add", "shop", "--json"), &secret); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ language, program, file string }{{"js", "node", "token.mjs"}, {"python", "python3", "token.py"}} {
		t.Run(c.language, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil {
				lab.Missing(t, "the example needs the program %q", c.program)
			}
			code := regexp.MustCompile("(?s)```" + c.language + "\n(.*?)```").FindSubmatch(guide)
			if code == nil {
				t.Fatalf("docs/api.md has no example in %s", c.language)
			}
			file := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(file, code[1], 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(within(t, patience), c.program, file)
			cmd.Env = append(os.Environ(), "MADANG_PROJECT=shop", "MADANG_KID="+secret.Kid, "MADANG_SECRET="+secret.Secret)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			token := strings.TrimSpace(string(out))
			d := visit{secrets: []string{token}}.doctor(t, node.HTTP, "--token", token, "--channel", "desk")
			d.wrong()
			d.fine("signal.websocket", "signal.sse")
			d = visit{}.doctor(t, node.HTTP, "--token", token, "--channel", "other")
			d.says("signal.websocket", "token_channel")
		})
	}
}

// TestTheOperationsGuideNamesEveryMetric compares docs/operations.md with a node that somebody has used.
func TestTheOperationsGuideNamesEveryMetric(t *testing.T) {
	guide, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
	visit{}.doctor(t, node.HTTP).wrong() // joins and relays, so that there is something to count
	administer(t, node, "PATCH", "/v1/projects/sandbox", message{"settings": message{"depotBytes": 1 << 20}})
	hash := strings.Repeat("A", 43)
	if status, got := request(t, http.DefaultClient, "PUT", node.HTTP+"/v1/depots/abcdefghij234567", message{"key": project.SandboxKey, "upload": hash, "read": hash}, nil); status != http.StatusOK {
		t.Fatalf("make a depot: %d %v", status, got)
	}
	status, metrics := get(t, node.HTTP+"/metrics", nil)
	if status != http.StatusOK {
		t.Fatalf("got %d %s", status, metrics)
	}
	names := func(pattern string, in []byte) []string {
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(in, -1) {
			found[string(m[1])] = true
		}
		return slices.Sorted(maps.Keys(found))
	}
	got, want := names("(?m)^\\| `(madang_[a-z_]+)` ", guide), names("(?m)^(madang_[a-z_]+)", []byte(metrics))
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("docs/operations.md names the metrics\n%v, want\n%v", got, want)
	}
}

// TestWhoReadsMetrics: the administrator does, and in development what runs on the same machine.
func TestWhoReadsMetrics(t *testing.T) {
	t.Parallel()
	development := serve(t, lab.NodeConfig{Args: []string{listenMetrics}})
	production := serve(t, lab.NodeConfig{Args: []string{"--public-url", "https://call.example.com"}})
	bearer := func(token any) http.Header { return http.Header{"Authorization": {"Bearer " + token.(string)}} }
	admin := bearer(administer(t, production, "POST", "/v1/admin-token", nil)["token"])
	administer(t, production, "POST", "/v1/projects", message{"id": "shop", "name": "Shop"})
	key := bearer(administer(t, production, "POST", "/v1/projects/shop/keys", message{"kind": "server", "name": "x", "cidrs": []string{"127.0.0.0/8"}})["key"])
	for name, test := range map[string]struct {
		url    string
		header http.Header
		status int
		want   string
	}{
		"this machine, in development":  {development.HTTP + "/metrics", nil, 200, "madang_build_info"},
		"through a proxy on it":         {development.HTTP + "/metrics", http.Header{"X-Forwarded-For": {"203.0.113.7"}}, 401, `"credentials_missing"`},
		"through another kind of proxy": {development.HTTP + "/metrics", http.Header{"Forwarded": {"for=203.0.113.7"}}, 401, `"credentials_missing"`},
		"a port of its own":             {development.Metrics, http.Header{"X-Forwarded-For": {"203.0.113.7"}}, 200, "madang_build_info"},
		"which answers nothing else":    {strings.TrimSuffix(development.Metrics, "/metrics") + "/v1/node", nil, 404, ""},
		"this machine, in production":   {production.HTTP + "/metrics", nil, 401, `"credentials_missing"`},
		"the administrator":             {production.HTTP + "/metrics", admin, 200, "madang_build_info"},
		"another token":                 {production.HTTP + "/metrics", bearer("mad_" + strings.Repeat("x", 52)), 401, `"key_unknown"`},
		"a server key":                  {production.HTTP + "/metrics", key, 403, `"forbidden"`},
	} {
		if status, body := get(t, test.url, test.header); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %.300s, want %d and %s", name, status, body, test.status, test.want)
		}
	}
}

// TestTheReadmesExamplesWork runs the two pages of README.md and README.ko.md as they stand there, at this node, with two people each.
func TestTheReadmesExamplesWork(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	for _, name := range []string{"README.md", "README.ko.md"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		examples := regexp.MustCompile("(?s)```html\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(examples) != 2 {
			t.Fatalf("%s has %d examples, want 2", name, len(examples))
		}
		for i, example := range examples {
			page := strings.ReplaceAll(example[1], "https://call.example.com", node.HTTP)
			page = regexp.MustCompile(`YOUR-BROWSER-KEY|브라우저-키`).ReplaceAllString(page, sandboxKey)
			page = strings.ReplaceAll(page, `"demo"`, fmt.Sprintf(`"demo-%d-%d"`, len(name), i))
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				io.WriteString(w, "<!doctype html><body>"+page)
			}))
			t.Cleanup(site.Close)
			people := []*visitor{newVisitor(t, chromium, site.URL, name+", first"), newVisitor(t, chromium, site.URL, name+", second")}
			for _, v := range people {
				if i == 0 {
					v.click("join")
				}
			}
			for _, v := range people {
				if i == 0 { // oneself and the other
					v.await(`deepAll('[data-testid="tile"] video').filter((video) => video.videoWidth > 0).length === 2`)
				} else {
					v.await(`document.querySelector("video")?.videoWidth > 0 && document.querySelector("audio")?.readyState > 2`)
				}
			}
			for _, v := range people { // cameras of four calls at once would keep the next one waiting
				if err := v.Close(within(t, patience)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestClassicScript uses the SDK's build for pages without modules, and with it the module that it loads for a peer with PlayRTC's framing.
func TestClassicScript(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, map[string]string{"/classic": fmt.Sprintf(`<!doctype html><html lang="en"><meta charset="utf-8"><title>classic</title>
<script src="%s/sdk/madang.global.js"></script>
<script>
var heard = [];
var listen = function (peer) { peer.on("message", function (data) { heard.push(data); }); };
Madang.join({ channel: "classic", key: "%s", info: { playrtc: {} } }).then(function (channel) {
	window.channel = channel;
	channel.peers.forEach(listen);
	channel.on("peer-joined", listen);
});
</script></html>`, node.HTTP, sandboxKey)})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	people := []*visitor{newVisitor(t, chromium, site+"/classic", "first"), newVisitor(t, chromium, site+"/classic", "second")}
	for _, v := range people {
		v.await(`window.channel.server === %s && [...channel.peers.values()][0]?.connection === "connected"`, js(node.HTTP+"/"))
	}
	for i, v := range people {
		v.ask(fmt.Sprintf(`await [...channel.peers.values()][0].send("from %d")`, i), nil)
		people[1-i].await(`heard.join() === "from %d"`, i)
	}
}
