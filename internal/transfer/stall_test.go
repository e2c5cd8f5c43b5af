package transfer

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// A sender that has nothing to give yet says so before its lane counts as dead: of a stream that pauses, and at a user's limit. And such a lane ends when the other side does.
func TestASenderThatGivesNothingIsHeard(t *testing.T) {
	for name, c := range map[string]struct {
		bytes int        // that the stream has before it pauses
		limit rate.Limit // bytes a second
	}{
		"a stream that pauses": {0, rate.Inf},
		"at 2 KB/s":            {4 * BlockSize, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				source, err := newStream("stream")
				if err != nil {
					t.Fatal(err)
				}
				s := &sender{ctx: ctx, server: newServer(1), source: source, ports: map[int]*port{}, limit: rate.NewLimiter(c.limit, BlockSize), cfg: SendConfig{End: endOf("S"), OnEvent: func(Event) {}}}
				s.limit.AllowN(time.Now(), BlockSize) // what a limit lets pass at once
				s.server.add([]Entry{{Path: "stream"}}, true)
				flow, in := io.Pipe()
				go source.stream.pump(flow, func(int64) {})
				if _, err := in.Write(make([]byte, c.bytes)); err != nil {
					t.Fatal(err)
				}
				go func() { // as run does
					for sleep(ctx, tickEach) {
						s.change(func() { s.server.tick(time.Now()) })
					}
				}()
				near, far := net.Pipe()
				s.adopt(newStreamLane(near, "pipe"))
				l := newStreamLane(far, "pipe")
				if _, _, err := l.Recv(); err != nil { // hello
					t.Fatal(err)
				}
				for _, m := range []message{{Type: typeHello, Version: Version, Role: roleReceiver, End: endOf("R")}, {Type: typeAccept}, {Type: typeWant, Blocks: []Range{{0, 0, 4}}}} {
					if err := l.Send(true, nil, m.encode()); err != nil {
						t.Fatal(err)
					}
				}
				for since := time.Now(); time.Since(since) < 8*time.Minute; { // four blocks take longer
					before := time.Now()
					if _, _, err := l.Recv(); err != nil {
						t.Fatal(err)
					}
					if quiet := time.Since(before); quiet > laneDead/2 {
						t.Errorf("nothing was heard for %v", quiet)
						break
					}
				}
				l.Close()
				synctest.Wait()
				if n := len(s.ports); n > 0 {
					t.Errorf("%d lanes are left", n)
				}
				cancel()
				source.close()
				in.Close()
				s.wg.Wait()
			})
		})
	}
}
