package refusal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestEveryCodeIsCompleteAndUnique(t *testing.T) {
	seen := map[Code]bool{}
	for _, e := range Table() {
		if seen[e.Code] {
			t.Errorf("code %q stands twice", e.Code)
		}
		seen[e.Code] = true
		if e.Status < 200 || e.Status > 599 || e.En == "" || e.Ko == "" {
			t.Errorf("code %q is incomplete: %+v", e.Code, e)
		}
		switch e.Retry {
		case RetryNever, RetryLater, RetryResume, RetryJoin:
		default:
			t.Errorf("code %q: retry %q", e.Code, e.Retry)
		}
	}
}

func TestDerivedFilesAreUpToDate(t *testing.T) {
	files := []string{"code.go", "../../docs/protocol.md", "../../sdk/src/codes.ts"}
	before := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		before[f] = string(b)
	}
	if out, err := exec.Command("go", "run", "./gen").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != before[f] {
			t.Errorf("%s differs from codes.json: run go generate ./internal/refusal and commit", f)
		}
	}
}

func TestFromFindsTheRefusalAndKeepsTheCause(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("save: %w", New(Storage).Because(cause))
	if got := From(err); got.Code != Storage || !errors.Is(got, cause) {
		t.Errorf("got %v", got)
	}
	if got := From(cause); got.Code != Internal || !errors.Is(got, cause) {
		t.Errorf("got %v, want internal with its cause", got)
	}
	if !errors.Is(err, New(Storage)) {
		t.Error("errors.Is does not compare codes")
	}
}
