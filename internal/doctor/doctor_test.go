package doctor

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// What the doctor says about nodes is tested in test/doctor_test.go, from outside, with the program.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunNamesWhatIsNoURLOfANode(t *testing.T) {
	for _, u := range []string{"", "call.example.com", "ws://call.example.com", "https://", "https://a:b@call.example.com", "https://call.example.com/c/x", "https://call.example.com?x", "http://call.example.com:0", "http://call.example.com:70000"} {
		var wrong *ConfigError
		if err := Run(t.Context(), Config{URL: u}, func(Result) { t.Errorf("%q was looked at", u) }); !errors.As(err, &wrong) || wrong.Message.Ko == "" {
			t.Errorf("%q: got %v, want a ConfigError", u, err)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hanging := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel() // somebody presses Ctrl-C while the server says nothing
		select {
		case <-r.Context().Done():
		case <-hanging:
		}
	}))
	defer s.Close()
	defer close(hanging)
	var seen []string
	if err := Run(ctx, Config{URL: s.URL}, func(r Result) { seen = append(seen, r.ID) }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if slices.Contains(seen, "http") {
		t.Errorf("got %v: what was cut short says nothing about the node", seen)
	}
}

func TestResultsHideSecrets(t *testing.T) {
	e, err := examine(Config{URL: "https://call.example.com", Token: "a.secret.token"})
	if err != nil {
		t.Fatal(err)
	}
	e.hide("credential-of-turn", "x")
	r := subject{id: "x"}.fail("says a.secret.token", "a.secret.token").hint("", "credential-of-turn", "x").fact("f", "credential-of-turn!")
	r = e.withoutSecrets(r)
	if all := r.Message.En + r.Message.Ko + r.Hint.En + r.Facts["f"].(string); strings.Contains(all, "secret") || strings.Contains(all, "credential") {
		t.Errorf("got %q", all)
	}
}

func TestOthersTextStaysOnOneLine(t *testing.T) {
	if got := clip("a\x1b[2Jb\nc\u0085d"); got != "a\uFFFD[2Jb\uFFFDc\uFFFDd" {
		t.Errorf("got %q", got)
	}
	if got := []rune(clip(strings.Repeat("가", 1000))); len(got) != 201 {
		t.Errorf("got %d characters", len(got))
	}
}

// write makes a folder like /proc/sys/net/core.
func write(t *testing.T, values map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, v := range values {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
