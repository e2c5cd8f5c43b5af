package web

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	long := strings.Repeat("export const yard = 1;\n", 100)
	h, err := New(Config{
		Node: Node{Key: "k</script><b>", Development: true},
		Files: fstest.MapFS{
			"index.html":        {Data: []byte("<html>landing <!-- madang-node --></html>")},
			"call.html":         {Data: []byte("<html>call <!-- madang-node --></html>")},
			"files.html":        {Data: []byte("<html>files <!-- madang-node --></html>")},
			"assets/app-h4.js":  {Data: []byte(long)},
			"sdk/madang.js":     {Data: []byte(long)},
			"sdk/js/playrtc.js": {Data: []byte(long)},
			"docs/index.html":   {Data: []byte("docs")},
			".secret":           {Data: []byte("no")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPagesCarryTheNodeAndCannotBreakOutOfTheirScript(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]string{"/": "landing", "/c/demo": "call", "/c/%EB%A7%88%EB%8B%B9": "call", "/f/": "files", "/f/abcdefghijklmnop": "files"} {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %q", path, resp.StatusCode, body)
		}
		if strings.Count(body, "</script>") != 1 || !strings.Contains(body, `id="madang-node"`) {
			t.Errorf("%s: the node's data is not in one closed script: %q", path, body)
		}
		if resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
	}
	resp, body := get(t, s.URL+"/v1/node")
	var n Node
	if err := json.Unmarshal([]byte(body), &n); err != nil || n.Key != "k</script><b>" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("node: %v %q %v", err, body, resp.Header)
	}
}

func TestOtherSitesMayLoadTheSDKOnly(t *testing.T) {
	s := serve(t)
	if resp, _ := get(t, s.URL+"/sdk/madang.js"); resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("sdk: %v", resp.Header)
	}
	resp, _ := get(t, s.URL+"/assets/app-h4.js")
	if resp.Header.Get("Access-Control-Allow-Origin") != "" || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("asset: %v", resp.Header)
	}
}

func TestUnchangedFilesAreNotSentAgain(t *testing.T) {
	s := serve(t)
	first, _ := get(t, s.URL+"/sdk/madang.js")
	again, body := get(t, s.URL+"/sdk/madang.js", "If-None-Match", first.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("got %d with %d bytes, want 304", again.StatusCode, len(body))
	}
}

func TestGzipOnlyForThoseWhoAcceptIt(t *testing.T) {
	s := serve(t)
	for header, want := range map[string]string{"gzip": "gzip", "br, gzip;q=0.5": "gzip", "*": "gzip", "identity": "", "gzip;q=0": "", "br": ""} {
		resp, body := get(t, s.URL+"/sdk/madang.js", "Accept-Encoding", header)
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: got %q, want %q", header, got, want)
		}
		if want == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			body = string(plain)
		}
		if !strings.HasPrefix(body, "export const yard") {
			t.Errorf("Accept-Encoding %q: body %.20q", header, body)
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/.secret", "/nothing", "/assets/", "/c/", "/c/a/b", "/f/a/b", "/..%2f..%2fetc/passwd"} {
		if resp, body := get(t, s.URL+path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d %q", path, resp.StatusCode, body)
		}
	}
	if resp, _ := get(t, s.URL+"/docs"); resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != "/docs/" {
		t.Errorf("/docs: got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

func TestProgramWithoutPagesSaysSo(t *testing.T) {
	h, err := New(Config{Files: fstest.MapFS{}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "make build") {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("gzip;q=0.5, br")
	f.Fuzz(func(t *testing.T, header string) { acceptsGzip(header) })
}

func TestEveryVersionOfThePlayRTCSDKIsOurs(t *testing.T) {
	s := serve(t)
	for path, status := range map[string]int{"/sdk/js/playrtc.js": 200, "/sdk/js/2.2.15/playrtc.js": 200, "/sdk/js/1.0.4/playrtc.js": 200, "/sdk/js/2.2.15/playrtc.min.js": 404,
		"/sdk/js/x/playrtc.js": 404, "/sdk/js/2.2.15/madang.js": 404, "/sdk/js/2.2.15/": 404, "/sdk/js/..%2f2/playrtc.js": 404} {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != status || status == 200 && (!strings.Contains(body, "yard") || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin") {
			t.Errorf("%s: got %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}

// Nobody lays a page of theirs over our join button; those whom the operator names may show our pages, and those may use the camera there.
func TestPagesAreFramedByWhomTheOperatorNames(t *testing.T) {
	for want, ancestors := range map[string][]string{
		"frame-ancestors 'self'": nil,
		"frame-ancestors 'self' https://www.example.com https://*.example.org": {"https://www.example.com", "https://*.example.org"},
	} {
		h, err := New(Config{FrameAncestors: ancestors, Files: fstest.MapFS{"call.html": {Data: []byte("<html></html>")}}})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		h.Register(mux)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/c/demo", nil))
		policy := w.Header().Get("Content-Security-Policy")
		if _, got, _ := strings.Cut(policy, "form-action 'self'; "); got != want {
			t.Errorf("got %q, want it to end with %q", policy, want)
		}
		if p := w.Header().Get("Permissions-Policy") + w.Header().Get("Feature-Policy"); p != "" {
			t.Errorf("got a policy for camera and microphone: %q", p)
		}
	}
}
