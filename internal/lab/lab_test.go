//go:build linux

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/linkem"
	"github.com/madang-rtc/madang/internal/lab/natprobe"
)

func TestNATsBehaveAsTheirNamesSay(t *testing.T) {
	l := lab.New(t)
	server := l.Server()
	probe := serveProbe(t, server)
	listen443 := serveTCP(t, server, 443)
	listen80 := serveTCP(t, server, 80)

	const (
		ei  = natprobe.EndpointIndependent
		ad  = natprobe.AddressDependent
		apd = natprobe.AddressAndPortDependent
	)
	for _, test := range []struct {
		kind               lab.Kind
		mapping, filtering natprobe.Behaviour // 0: no UDP
		tcp80              bool
	}{
		{lab.Open, ei, ei, true},
		{lab.FullCone, ei, ei, true},
		{lab.AddressRestricted, ei, ad, true},
		{lab.PortRestricted, ei, apd, true},
		{lab.Symmetric, apd, apd, true},
		{lab.DoubleNAT, ei, apd, true},
		{lab.UDPBlocked, 0, 0, true},
		{lab.TCP443Only, 0, 0, false},
	} {
		t.Run(test.kind.String(), func(t *testing.T) {
			host := l.Host(test.kind.String(), lab.HostConfig{Kind: test.kind})
			open := func() (net.PacketConn, error) {
				return host.ListenPacket("udp4", netip.AddrPortFrom(host.Addr4, 0).String())
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience(test.mapping != 0))
			defer cancel()
			got, err := natprobe.Discover(ctx, open, probe)
			switch {
			case test.mapping == 0:
				if !errors.Is(err, natprobe.ErrBlocked) {
					t.Errorf("got %+v, %v, want ErrBlocked", got, err)
				}
			case err != nil:
				t.Error(err)
			default:
				if got.Mapping != test.mapping || got.Filtering != test.filtering {
					t.Errorf("mapping %v, filtering %v, want %v, %v", got.Mapping, got.Filtering, test.mapping, test.filtering)
				}
				if want := test.kind != lab.Open; got.Translated != want || got.Mapped.Addr() != host.Public4 {
					t.Errorf("translated %v to %v, want %v, %v", got.Translated, got.Mapped, want, host.Public4)
				}
			}
			if err := dialTCP(host, listen443, true); err != nil {
				t.Errorf("TCP to port 443: %v", err)
			}
			if err := dialTCP(host, listen80, test.tcp80); (err == nil) != test.tcp80 {
				t.Errorf("TCP to port 80: got %v, want it to pass: %v", err, test.tcp80)
			}
		})
	}

	t.Run("tcp443 looks inside", func(t *testing.T) {
		host := l.Host("https", lab.HostConfig{Kind: lab.TCP443Only})
		for first, passes := range map[string]bool{"\x16\x03\x01 hello": true, "\x00\x03 allocate": false, "GET / HTTP/1.1\r\n": false} {
			ctx, cancel := context.WithTimeout(t.Context(), patience(true))
			conn, err := host.DialContext(ctx, "tcp", listen443.String())
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience(passes)))
			got := make([]byte, len(first))
			_, _ = conn.Write([]byte(first))
			if _, err := io.ReadFull(conn, got); (err == nil) != passes || passes && string(got) != first {
				t.Errorf("%q: got %v, want it to pass: %v", first, err, passes)
			}
			conn.Close()
		}
	})

	t.Run("v6", func(t *testing.T) {
		host := l.Host("v6", lab.HostConfig{Kind: lab.IPv6Only})
		if err := dialTCP(host, netip.AddrPortFrom(server.Addr6, 443), true); err != nil {
			t.Errorf("TCP over IPv6: %v", err)
		}
		if err := dialTCP(host, listen443, false); err == nil {
			t.Error("a host without an address of IPv4 reached one")
		}
	})

	t.Run("nothing leaves", func(t *testing.T) {
		if err := dialTCP(server, netip.MustParseAddrPort("1.1.1.1:443"), false); err == nil {
			t.Error("the lab reached the outside")
		}
	})
}

func TestMovedHostKeepsReachingTheServer(t *testing.T) {
	l := lab.New(t)
	server := l.Server()
	to := serveTCP(t, server, 80)
	for _, kind := range []lab.Kind{lab.Open, lab.PortRestricted} {
		host := l.Host(kind.String(), lab.HostConfig{Kind: kind})
		before := host.Addr4
		if err := host.Move(); err != nil {
			t.Fatal(err)
		}
		if host.Addr4 == before {
			t.Fatal("the address is the same")
		}
		if err := dialTCP(host, to, true); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if c, err := host.Listen("tcp4", netip.AddrPortFrom(before, 0).String()); err == nil {
			c.Close()
			t.Errorf("%v: the old address is still there", kind)
		}
	}
}

func TestLinkEmulatorBetweenHosts(t *testing.T) {
	l := lab.New(t)
	server := l.Server()
	probe := serveProbe(t, server)
	const delay = 30 * time.Millisecond
	host := l.Host("far", lab.HostConfig{Kind: lab.PortRestricted, Link: &linkem.Config{Delay: delay}})
	conn, err := host.ListenPacket("udp4", netip.AddrPortFrom(host.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	roundTrips := func(n int, patience time.Duration) (answered int, fastest time.Duration) {
		fastest = time.Hour
		buf := make([]byte, 1500)
		for i := range n {
			start := time.Now()
			if _, err := conn.WriteTo(fmt.Appendf(nil, `{"id":%d}`, i), net.UDPAddrFromAddrPort(probe[0])); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(start.Add(patience))
			if _, _, err := conn.ReadFrom(buf); err == nil {
				answered++
				fastest = min(fastest, time.Since(start))
			}
		}
		return answered, fastest
	}
	answered, fastest := roundTrips(20, time.Second)
	// Both directions delay; the machine may be slow but never early. Timers wake about a millisecond late.
	if answered != 20 || fastest < 2*delay || fastest > 2*delay+15*time.Millisecond {
		t.Errorf("%d of 20 answers, the fastest after %v, want all, just above %v", answered, fastest, 2*delay)
	}
	t.Logf("delay 2×%v: fastest round trip %v", delay, fastest)

	if err := host.Link.Set(linkem.Config{Loss: 0.3, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	before, _ := host.Link.Counters()
	if answered, _ = roundTrips(40, 50*time.Millisecond); answered == 40 || answered == 0 {
		t.Errorf("%d of 40 answers at 30 %% loss each way", answered)
	}
	after, _ := host.Link.Counters()
	if after.Lost == before.Lost {
		t.Error("the link counted no loss")
	}
	host.Link.Cut(true)
	if answered, _ = roundTrips(2, 50*time.Millisecond); answered != 0 {
		t.Error("an answer came over a cut link")
	}
	host.Link.Cut(false)
	if err := host.Link.Set(linkem.Config{}); err != nil {
		t.Fatal(err)
	}
	if answered, _ = roundTrips(3, time.Second); answered == 0 {
		t.Error("no answer after the link was mended")
	}
}

func TestProcessEndsWithItsGroup(t *testing.T) {
	lab.Require(t)
	var ns *lab.Namespace
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = in
	p, err := ns.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	// The pipe's other end is held by the child too: it ends when both are dead, or never.
	if _, err := io.ReadAll(out); err != nil {
		t.Errorf("read: %v", err)
	}
	p.Kill() // again: harmless
	if p.Err() == nil {
		t.Error("got no error of a killed process")
	}
}

// serveProbe runs a natprobe server on a host until the test ends.
func serveProbe(t *testing.T, h *lab.Host) [4]netip.AddrPort {
	t.Helper()
	var conns [4]net.PacketConn
	for i := range conns {
		addr := []netip.Addr{h.Addr4, h.Second4}[i/2]
		c, err := h.ListenPacket("udp4", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	s, err := natprobe.NewServer(conns)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("probe: %v", err)
		}
	})
	return s.Addrs
}

// serveTCP echoes until the test ends, on all addresses.
func serveTCP(t *testing.T, h *lab.Host, port int) netip.AddrPort {
	t.Helper()
	ln, err := h.Listen("tcp", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				// A client that is gone behind a firewall never says so.
				_ = c.SetDeadline(time.Now().Add(2 * time.Second))
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return netip.AddrPortFrom(h.Addr4, uint16(port))
}

// patience is how long something is waited for: short if it must not come, and long if it must, since the machine may be busy.
func patience(comes bool) time.Duration {
	if comes {
		return 15 * time.Second
	}
	return time.Second
}

func dialTCP(h *lab.Host, to netip.AddrPort, passes bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience(passes))
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}
