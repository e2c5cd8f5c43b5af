package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/config"
)

// A connection that nobody has said anything on does not hold up the end; a request in hand is finished.
func TestStopDoesNotWaitForConnectionsThatAreSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, goOn := make(chan struct{}), make(chan struct{})
	s := &Server{cfg: Config{Config: config.Config{DrainTimeout: time.Minute}}, log: slog.New(slog.DiscardHandler)}
	run := s.serveHTTP(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-goOn
		io.WriteString(w, "finished")
	}))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- run(ctx) }()

	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-asked // the silent one was accepted before
	stop()
	silent.SetReadDeadline(time.Now().Add(4 * time.Second)) // net/http would give it five
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the silent connection: got %v, want the end", err)
	}
	close(goOn)
	if got := <-answer; got != "finished" {
		t.Errorf("the request in hand: got %q", got)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
