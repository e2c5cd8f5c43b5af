package throttle_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/throttle"
)

func TestBucketGoesIntoDebtAndSaysWhenItBreaks(t *testing.T) {
	b := throttle.Bucket{Tokens: 2}
	for i, want := range []struct {
		wait  time.Duration
		broke bool
	}{{0, false}, {0, false}, {200 * time.Millisecond, false}, {300 * time.Millisecond, false}, {300 * time.Millisecond, true}} {
		if wait, broke := b.Take(0, 10, 2, 2); wait != want.wait || broke != want.broke {
			t.Errorf("%d: got %v, %v, want %v, %v", i, wait, broke, want.wait, want.broke)
		}
	}
	if wait, _ := b.Take(300*time.Millisecond, 10, 2, 2); wait != 0 {
		t.Errorf("after the wait that it said: got %v", wait)
	}
}

func TestBudgetsAreOfEachNetworkAndAreForgottenWhenFull(t *testing.T) {
	b := throttle.NewBudgets(1, 2)
	one := throttle.Network(netip.MustParseAddr("2001:db8::1"))
	same := throttle.Network(netip.MustParseAddr("2001:db8::ffff:1"))
	other := throttle.Network(netip.MustParseAddr("2001:db8:0:1::1"))
	for i, network := range []netip.Prefix{one, same} {
		if wait := b.Take(network, 0); wait != 0 {
			t.Errorf("%d: got %v", i, wait)
		}
	}
	if wait := b.Take(one, 0); wait != time.Second {
		t.Errorf("over the budget: got %v, want 1s", wait)
	}
	if wait := b.Take(other, 0); wait != 0 {
		t.Errorf("another network: got %v", wait)
	}
	b.Forget(time.Second)
	if wait := b.Take(one, time.Second); wait != 0 {
		t.Errorf("a second later: got %v", wait)
	}
	if wait := b.Take(one, time.Second); wait == 0 {
		t.Error("was forgotten while it was not full")
	}
	b.Forget(time.Minute)
	for range 2 {
		if wait := b.Take(one, time.Minute); wait != 0 {
			t.Errorf("full again: got %v", wait)
		}
	}
}

func TestSlotsAreOfEachNetwork(t *testing.T) {
	s := throttle.NewSlots(2)
	one, other := throttle.Network(netip.MustParseAddr("192.0.2.1")), throttle.Network(netip.MustParseAddr("192.0.2.2"))
	for i, want := range []bool{true, true, false} {
		if got := s.Take(one); got != want {
			t.Errorf("%d: got %v, want %v", i, got, want)
		}
	}
	if !s.Take(other) {
		t.Error("another network pays for the first one")
	}
	if s.Taken() != 3 {
		t.Errorf("got %d, want 3: one that was refused does not count", s.Taken())
	}
	s.Give(one)
	if !s.Take(one) {
		t.Error("none free after one was given back")
	}
	for _, network := range []netip.Prefix{one, one, other} {
		s.Give(network)
	}
	if s.Taken() != 0 {
		t.Errorf("got %d at the end", s.Taken())
	}
}
