package natprobe

import (
	"context"
	"net"
	"testing"
	"time"
)

// Two addresses of the loopback network stand for the server's two; they exist on Linux without set-up.
func TestWithoutNAT(t *testing.T) {
	var conns [4]net.PacketConn
	for i := range conns {
		c, err := net.ListenPacket("udp4", []string{"127.0.0.1:0", "127.0.0.2:0"}[i/2])
		if err != nil {
			t.Skipf("no second loopback address: %v", err)
		}
		conns[i] = c
	}
	s, err := NewServer(conns)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	open := func() (net.PacketConn, error) { return net.ListenPacket("udp4", "127.0.0.1:0") }
	got, err := Discover(t.Context(), open, s.Addrs)
	if err != nil || got.Mapping != EndpointIndependent || got.Filtering != EndpointIndependent || got.Translated {
		t.Errorf("got %+v, %v, want endpoint-independent and not translated", got, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Nobody answers any more.
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Discover(short, open, s.Addrs); err != ErrBlocked {
		t.Errorf("got %v, want ErrBlocked", err)
	}
}
