package server

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/store"
)

// A node that stops, or whose database takes no writes, takes no new work; it lives all the same.
func TestReadiness(t *testing.T) {
	ask := func(s *Server, path string) (int, string) {
		t.Helper()
		routes := http.NewServeMux()
		s.registerOperations(routes)
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &Server{log: slog.New(slog.DiscardHandler), database: db}
	if code, text := ask(s, "/readyz"); code != http.StatusOK {
		t.Errorf("got %d %q, want 200", code, text)
	}
	s.draining.Store(true)
	if code, text := ask(s, "/readyz"); code != http.StatusServiceUnavailable || text != "draining" {
		t.Errorf("draining: got %d %q, want 503", code, text)
	}
	s.draining.Store(false)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if code, text := ask(s, "/readyz"); code != http.StatusServiceUnavailable || text != "the database does not take writes" {
		t.Errorf("without a database: got %d %q, want 503", code, text)
	}
	if code, _ := ask(s, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz: got %d, want 200: a restart would help nobody", code)
	}
}

// Whoever asks whether the node is ready, and however often, makes it write once a second at most.
func TestReadinessIsAskedOnceASecond(t *testing.T) {
	var asked atomic.Int64
	broken := errors.New("the disk is full")
	p := &probe{ask: func() error { asked.Add(1); return broken }}
	started := time.Now()
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			if err := p.look(); err != broken {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if n, most := asked.Load(), 1+int64(time.Since(started)/time.Second); n < 1 || n > most {
		t.Errorf("asked %d times, want at most %d", n, most)
	}
	p.at = p.at.Add(-time.Second)
	before := asked.Load()
	p.look()
	if asked.Load() == before {
		t.Error("an answer is kept for longer than a second")
	}
}
