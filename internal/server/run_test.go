package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder makes parts that write down what happens to them.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) note(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

func (r *recorder) part(name string, slow time.Duration) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(slow)
		r.note("stopped " + name)
		return nil
	}}
}

func TestPartsStopInReverseOrderOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		ctx, cancel := context.WithCancel(t.Context())
		parts := []part{r.part("ground", 0), r.part("middle", 5*time.Second), r.part("top", time.Second)}
		err := run(ctx, parts, slog.New(slog.DiscardHandler), func() { r.note("up"); cancel() }, func() { r.note("down") })
		want := []string{"up", "down", "stopped top", "stopped middle", "stopped ground"}
		if err != nil || !slices.Equal(r.events, want) {
			t.Errorf("got %v, %v, want %v", r.events, err, want)
		}
	})
}

func TestFailedPartStopsTheOthersAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		broken := errors.New("no more memory")
		parts := []part{r.part("ground", 0), {"relay", func(context.Context) error { return broken }}, r.part("top", 0)}
		err := run(t.Context(), parts, slog.New(slog.DiscardHandler), func() {}, func() {})
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "relay: ") || !slices.Equal(r.events, []string{"stopped top", "stopped ground"}) {
			t.Errorf("got %v, %v", r.events, err)
		}
	})
}

func TestPartThatDoesNotStopIsNamedAndTheOthersStopAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		ctx, cancel := context.WithCancel(t.Context())
		parts := []part{r.part("ground", 0), r.part("stuck", time.Hour), r.part("top", 0)}
		err := run(ctx, parts, slog.New(slog.DiscardHandler), cancel, func() {})
		if err == nil || !strings.Contains(err.Error(), "stuck did not stop") || !slices.Equal(r.events, []string{"stopped top", "stopped ground"}) {
			t.Errorf("got %v, %v", r.events, err)
		}
		time.Sleep(2 * time.Hour) // the bubble's clock: lets the stuck part end
	})
}
