package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder is a link that keeps what it gets.
type recorder struct {
	mu     sync.Mutex
	events []Event
	last   uint64
	gap    bool
	bye    *refusal.Refusal
}

func (r *recorder) Deliver(seq uint64, e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq > 0 {
		r.gap = r.gap || r.last != 0 && seq != r.last+1
		r.last = seq
	}
	r.events = append(r.events, e)
}

func (r *recorder) End(bye *refusal.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bye != nil {
		panic("End after End")
	}
	r.bye = bye
}

// code waits until nothing moves and returns why the link ended; empty: it did not.
func (r *recorder) code() refusal.Code {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bye == nil {
		return ""
	}
	return r.bye.Code
}

// all waits until nothing moves and returns the events of a type.
func all[E Event](r *recorder) []E {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// only returns the one event of a type.
func only[E Event](t *testing.T, r *recorder) E {
	t.Helper()
	found := all[E](r)
	if len(found) != 1 {
		var zero E
		t.Fatalf("got %d of %T, want 1", len(found), zero)
	}
	return found[0]
}

// A member is a peer of a test.
type member struct {
	*Membership
	*recorder
	t   *testing.T
	seq uint64
}

func (m *member) do(op Operation) {
	m.t.Helper()
	m.seq++
	if err := m.Do(m.t.Context(), m.seq, false, op); err != nil {
		m.t.Fatal(err)
	}
}

// fails does op and checks the code with which it fails; empty: it does not.
func (m *member) fails(op Operation, code refusal.Code) {
	m.t.Helper()
	m.do(op)
	var got refusal.Code
	for _, f := range all[*Failed](m.recorder) {
		if f.Re == m.seq {
			got = f.Refusal.Code
		}
	}
	if got != code {
		m.t.Errorf("%T: got %q, want %q", op, got, code)
	}
}

type house struct {
	t *testing.T
	*Service
	stop func()
}

// inBubble runs f with a service, where time is what the test says.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, h *house)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		h := &house{t: t, Service: s, stop: func() { cancel(); <-done }}
		defer h.stop()
		f(t, h)
	})
}

func anonymous(name string) JoinRequest {
	return JoinRequest{Grant: auth.Grant{Project: "p", Channel: "c", Name: name}, Instance: "instance-of-" + name, Address: netip.MustParseAddr("192.0.2.1")}
}

func vouched(uid string, role auth.Role) JoinRequest {
	r := anonymous(uid)
	r.Grant.UID, r.Grant.Role, r.Grant.Authenticated = uid, role, true
	return r
}

func (h *house) try(r JoinRequest) (*member, error) {
	rec := &recorder{}
	r.Link = rec
	ms, err := h.Join(h.t.Context(), r)
	return &member{Membership: ms, recorder: rec, t: h.t}, err
}

func (h *house) enter(r JoinRequest) *member {
	h.t.Helper()
	m, err := h.try(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *house) resume(m *member, secret string) (*member, error) {
	rec := &recorder{}
	n := &member{recorder: rec, t: h.t, seq: m.seq}
	var err error
	n.Membership, err = h.Resume(h.t.Context(), ResumeRequest{Peer: m.Peer, Secret: secret, Received: m.last, Link: rec})
	return n, err
}

func wants(t *testing.T, err error, code refusal.Code) {
	t.Helper()
	if !errors.Is(err, refusal.New(code)) {
		t.Errorf("got %v, want %s", err, code)
	}
}

var key = Key{Project: "p", Channel: "c"}

func TestMembershipOutlivesItsLinkForTheWindowAndNoLonger(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		secret := only[*Joined](t, b.recorder).Secret
		b.LinkLost()
		a.do(SendSignal{To: b.Peer, Data: json.RawMessage(`1`)})
		time.Sleep(59 * time.Second)
		b2, err := h.resume(b, secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := all[*Signal](b2.recorder); len(got) != 1 {
			t.Errorf("got %d signals after the resume, want 1", len(got))
		}
		if n := len(all[*PeerLeft](a.recorder)); n != 0 {
			t.Errorf("a saw %d departures", n)
		}
		b2.LinkLost()
		time.Sleep(59*time.Second + 999*time.Millisecond)
		if n := len(all[*PeerLeft](a.recorder)); n != 0 {
			t.Errorf("a saw %d departures before the window had passed", n)
		}
		time.Sleep(time.Millisecond)
		if left := only[*PeerLeft](t, a.recorder); left.ID != b.Peer || left.Reason != "lost" {
			t.Errorf("got %+v", left)
		}
		_, err = h.resume(b2, only[*Resumed](t, b2.recorder).Secret)
		wants(t, err, refusal.ResumeUnknown)
	})
}

func TestResumeSecretRotates(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a := h.enter(anonymous("a"))
		s0 := only[*Joined](t, a.recorder).Secret
		_, err := h.resume(a, "wrong")
		wants(t, err, refusal.ResumeUnknown)
		_, err = h.resume(a, "")
		wants(t, err, refusal.ResumeUnknown)

		a1, err := h.resume(a, s0)
		if err != nil {
			t.Fatal(err)
		}
		if a.code() != refusal.Replaced {
			t.Errorf("the older link ended with %q, want replaced", a.code())
		}
		// `resumed` was lost: the old secret is still good, also twice.
		a2, err := h.resume(a, s0)
		if err != nil {
			t.Fatalf("the old secret before the client was heard: %v", err)
		}
		_, err = h.resume(a, only[*Resumed](t, a1.recorder).Secret)
		wants(t, err, refusal.ResumeUnknown) // nobody can hold that one and have used the older after it
		a2.Ping(t.Context(), nil, 0)
		synctest.Wait()
		_, err = h.resume(a, s0)
		wants(t, err, refusal.ResumeUnknown)
		if a2.code() != "" {
			t.Errorf("the good link ended with %q", a2.code())
		}
		if _, err = h.resume(a2, only[*Resumed](t, a2.recorder).Secret); err != nil {
			t.Errorf("the new secret: %v", err)
		}
	})
}

func TestSecretOfAnotherPeerIsWorthless(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		_, err := h.resume(a, only[*Joined](t, b.recorder).Secret)
		wants(t, err, refusal.ResumeUnknown)
		if a.code() != "" {
			t.Error("the attempt ended a's link")
		}
	})
}

func TestResumeWithImpossibleNumbers(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		for range 3 {
			a.do(SendSignal{To: b.Peer, Data: json.RawMessage(`1`)})
		}
		b.Ack(t.Context(), 2)
		synctest.Wait()
		secret := only[*Joined](t, b.recorder).Secret
		for _, received := range []uint64{1, 4, 1 << 60} { // acknowledged more; never sent
			_, err := h.Resume(t.Context(), ResumeRequest{Peer: b.Peer, Secret: secret, Received: received, Link: &recorder{}})
			wants(t, err, refusal.ResumeUnknown)
		}
		b.Ack(t.Context(), 4)
		if b.code() != refusal.Malformed {
			t.Errorf("acknowledging what was never sent: %q", b.code())
		}
		if left := only[*PeerLeft](t, a.recorder); left.Reason != "malformed" {
			t.Errorf("got %+v", left)
		}
	})
}

func TestGapEndsTheLinkAndResumeMendsIt(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		a.do(SendSignal{To: b.Peer})
		a.Do(t.Context(), 1, false, SendSignal{To: b.Peer}) // again: ignored
		a.Do(t.Context(), 3, false, SendSignal{To: b.Peer})
		if a.code() != refusal.OutOfOrder {
			t.Errorf("got %q, want out_of_order", a.code())
		}
		a2, err := h.resume(a, only[*Joined](t, a.recorder).Secret)
		if err != nil {
			t.Fatal(err)
		}
		if r := only[*Resumed](t, a2.recorder); r.Received != 1 {
			t.Errorf("the server has %d, want 1", r.Received)
		}
		a2.do(SendSignal{To: b.Peer})
		if n := len(all[*Signal](b.recorder)); n != 2 {
			t.Errorf("b got %d signals, want 2", n)
		}
	})
}

func TestFullMailboxEndsThePeerAndDelaysNobody(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  Config
		data json.RawMessage
	}{
		"by number": {Config{MailboxMessages: 100}, json.RawMessage(`1`)},
		"by bytes":  {Config{MailboxBytes: 1 << 20}, json.RawMessage(`"` + strings.Repeat("x", 50<<10) + `"`)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, test.cfg, func(t *testing.T, h *house) {
				a, slow, good := h.enter(anonymous("a")), h.enter(anonymous("slow")), h.enter(anonymous("good"))
				begin := time.Now()
				for range 150 {
					a.do(SendCommand{Name: "x", Data: test.data})
					synctest.Wait()
					good.Ack(t.Context(), good.last)
					a.Ack(t.Context(), a.last)
				}
				if slow.code() != refusal.MailboxFull {
					t.Errorf("slow: %q, want mailbox_full", slow.code())
				}
				if good.code() != "" || a.code() != "" || len(all[*Command](good.recorder)) != 150 {
					t.Errorf("good: %q with %d messages; a: %q", good.code(), len(all[*Command](good.recorder)), a.code())
				}
				if left := only[*PeerLeft](t, good.recorder); left.ID != slow.Peer || left.Reason != "mailbox_full" {
					t.Errorf("got %+v", left)
				}
				if d := time.Since(begin); d != 0 {
					t.Errorf("it took %v of waiting", d)
				}
				if got := h.Stats().Overflowed; got != 1 {
					t.Errorf("counted %d overflows", got)
				}
				_, err := h.resume(slow, only[*Joined](t, slow.recorder).Secret)
				wants(t, err, refusal.MailboxFull)
			})
		})
	}
}

func TestEmptyChannelIsForgotten(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a := h.enter(anonymous("a"))
		a.do(Configure{Change{Locked: new(true)}})
		synctest.Wait()
		a.Leave(t.Context())
		if a.code() != refusal.Left {
			t.Fatalf("got %q", a.code())
		}
		_, err := h.try(anonymous("b"))
		wants(t, err, refusal.ChannelLocked)
		time.Sleep(59 * time.Second)
		if st := h.Stats(); st.Channels != 1 || st.Peers != 0 {
			t.Errorf("before the expiry: %+v", st)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := h.Stats(); st.Channels != 0 || len(st.Projects) != 0 {
			t.Errorf("after the expiry: %+v", st)
		}
		h.mu.Lock()
		if len(h.peers) != 0 || len(h.channels) != 0 {
			t.Errorf("still there: %v %v", h.peers, h.channels)
		}
		h.mu.Unlock()
		h.enter(anonymous("b")) // unlocked again
	})
}

func TestThousandChannelsLeaveNothingBehind(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		before := runtime.NumGoroutine()
		for i := range 1000 {
			r := anonymous("a")
			r.Grant.Channel = fmt.Sprint("c", i)
			m := h.enter(r)
			if i%2 == 0 {
				m.Leave(t.Context())
			} else {
				m.LinkLost()
			}
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if st := h.Stats(); st.Channels != 0 || st.Peers != 0 {
			t.Errorf("%+v", st)
		}
		h.mu.Lock()
		if len(h.peers) != 0 {
			t.Errorf("%d peers are still in the table", len(h.peers))
		}
		h.mu.Unlock()
		for tries := 0; runtime.NumGoroutine() > before; tries++ { // one that has returned is counted for a moment more
			if tries == 1_000_000 {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
			runtime.Gosched()
		}
	})
}

func TestRingAnswers(t *testing.T) {
	ring := func(name string) JoinRequest { r := anonymous(name); r.Ring = true; return r }
	t.Run("in an empty channel joins", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			only[*Joined](t, h.enter(ring("a")).recorder)
		})
	})
	t.Run("among viewers joins", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			h.enter(vouched("v", auth.RoleViewer))
			only[*Joined](t, h.enter(ring("a")).recorder)
		})
	})
	t.Run("accept", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			a, b, v := h.enter(anonymous("a")), h.enter(anonymous("b")), h.enter(vouched("v", auth.RoleViewer))
			c := h.enter(ring("c"))
			if p := only[*Pending](t, c.recorder); p.Reason != ReasonRing {
				t.Errorf("got %+v", p)
			}
			for _, m := range []*member{a, b} {
				if r := only[*Ring](t, m.recorder); r.Peer.ID != c.Peer || r.Peer.Name != "c" || r.Reason != ReasonRing {
					t.Errorf("got %+v", r)
				}
			}
			if n := len(all[*Ring](v.recorder)); n != 0 {
				t.Error("a viewer was asked")
			}
			v.fails(Accept{Peer: c.Peer}, refusal.Forbidden)
			c.fails(SendCommand{Name: "x"}, refusal.NotAdmitted)
			c.fails(SendSignal{To: a.Peer}, refusal.NotAdmitted)
			c.fails(Accept{Peer: c.Peer}, refusal.NotAdmitted)
			c.fails(PostNote{&Note{}}, refusal.NotAdmitted)
			a.fails(SendSignal{To: c.Peer}, refusal.PeerNotFound)
			a.fails(SendCommand{To: []string{c.Peer}, Name: "x"}, refusal.PeerNotFound)
			a.do(SendCommand{Name: "x"})
			if n := len(all[*Command](c.recorder)); n != 0 {
				t.Error("who waits heard a command")
			}
			b.do(Accept{Peer: c.Peer})
			adm := only[*Admitted](t, c.recorder)
			if len(adm.Peers) != 3 || !adm.Peers[0].Offer || adm.Peer.Role != auth.RoleSpeaker {
				t.Errorf("got %+v", adm)
			}
			for _, m := range []*member{a, b} {
				if e := only[*RingEnded](t, m.recorder); e.Reason != "accepted" || e.ID != c.Peer {
					t.Errorf("got %+v", e)
				}
			}
			if n := len(all[*PeerJoined](v.recorder)); n != 1 {
				t.Errorf("the viewer saw %d joins", n)
			}
			a.fails(Accept{Peer: c.Peer}, refusal.PeerNotFound)
			time.Sleep(time.Minute)
			if c.code() != "" {
				t.Errorf("the timeout struck after the answer: %q", c.code())
			}
		})
	})
	for reason, busy := range map[refusal.Code]bool{refusal.Rejected: false, refusal.Busy: true} {
		t.Run(string(reason), func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, h *house) {
				a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
				c := h.enter(ring("c"))
				a.do(Reject{Peer: c.Peer, Busy: busy})
				if c.code() != reason {
					t.Errorf("got %q", c.code())
				}
				if e := only[*RingEnded](t, b.recorder); e.Reason != string(reason) {
					t.Errorf("got %+v", e)
				}
				if n := len(all[*PeerLeft](a.recorder)); n != 0 {
					t.Error("who never came has left")
				}
				_, err := h.resume(c, only[*Pending](t, c.recorder).Secret) // bye was lost on the way
				wants(t, err, reason)
			})
		})
	}
	t.Run("cancel", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			a := h.enter(anonymous("a"))
			c := h.enter(ring("c"))
			c.Leave(t.Context())
			if e := only[*RingEnded](t, a.recorder); e.Reason != "cancelled" || c.code() != refusal.Left {
				t.Errorf("got %+v and %q", e, c.code())
			}
		})
	})
	t.Run("timeout", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			a := h.enter(anonymous("a"))
			c := h.enter(ring("c"))
			time.Sleep(44 * time.Second)
			if c.code() != "" {
				t.Fatalf("got %q too early", c.code())
			}
			time.Sleep(time.Second)
			if e := only[*RingEnded](t, a.recorder); e.Reason != "timeout" || c.code() != refusal.RingTimeout {
				t.Errorf("got %+v and %q", e, c.code())
			}
		})
	})
	t.Run("lost", func(t *testing.T) {
		inBubble(t, Config{RingTimeout: time.Hour}, func(t *testing.T, h *house) {
			a := h.enter(anonymous("a"))
			c := h.enter(ring("c"))
			c.LinkLost()
			time.Sleep(time.Minute)
			if e := only[*RingEnded](t, a.recorder); e.Reason != "lost" {
				t.Errorf("got %+v", e)
			}
		})
	})
	t.Run("answered while the link is lost", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			a := h.enter(anonymous("a"))
			c := h.enter(ring("c"))
			c.LinkLost()
			a.do(Accept{Peer: c.Peer})
			synctest.Wait()
			c2, err := h.resume(c, only[*Pending](t, c.recorder).Secret)
			if err != nil {
				t.Fatal(err)
			}
			only[*Admitted](t, c2.recorder)
		})
	})
	t.Run("who comes later is asked too", func(t *testing.T) {
		inBubble(t, Config{}, func(t *testing.T, h *house) {
			h.enter(anonymous("a"))
			c := h.enter(ring("c"))
			b := h.enter(anonymous("b"))
			only[*Ring](t, b.recorder)
			b.do(Accept{Peer: c.Peer})
			only[*Admitted](t, c.recorder)
		})
	})
}

func TestWaitingRoom(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		if err := h.Create(t.Context(), key, Settings{WaitingRoom: true}); err != nil {
			t.Fatal(err)
		}
		b := h.enter(vouched("b", auth.RoleSpeaker))
		c := h.enter(vouched("c", auth.RoleSpeaker))
		if p := only[*Pending](t, b.recorder); p.Reason != ReasonWaitingRoom {
			t.Errorf("got %+v", p)
		}
		time.Sleep(10 * time.Minute) // no timeout
		a := h.enter(vouched("a", auth.RoleHost))
		if j := only[*Joined](t, a.recorder); len(j.Peers) != 0 || !j.Settings.WaitingRoom {
			t.Errorf("got %+v", j)
		}
		if n := len(all[*Ring](a.recorder)); n != 2 {
			t.Fatalf("the host was asked %d times, want 2", n)
		}
		a.do(Accept{Peer: b.Peer})
		only[*Admitted](t, b.recorder)
		b.fails(Accept{Peer: c.Peer}, refusal.Forbidden)
		a.do(SetRole{Peer: b.Peer, Role: auth.RoleHost})
		only[*Ring](t, b.recorder)
		b.do(Reject{Peer: c.Peer})
		if c.code() != refusal.Rejected {
			t.Errorf("got %q", c.code())
		}
		d := h.enter(vouched("d", auth.RoleViewer))
		a.do(Configure{Change{WaitingRoom: new(false)}})
		if adm := only[*Admitted](t, d.recorder); len(adm.Peers) != 2 {
			t.Errorf("got %+v", adm)
		}
	})
}

func TestFirstWithoutRoleIsHostAndTheOldestInherits(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b, c := h.enter(anonymous("a")), h.enter(anonymous("b")), h.enter(anonymous("c"))
		for m, want := range map[*member]auth.Role{a: auth.RoleHost, b: auth.RoleSpeaker, c: auth.RoleSpeaker} {
			if got := only[*Joined](t, m.recorder).Peer.Role; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		a.Leave(t.Context())
		for _, m := range []*member{b, c} {
			if u := only[*PeerUpdated](t, m.recorder); u.ID != b.Peer || *u.Role != auth.RoleHost {
				t.Errorf("got %+v", u)
			}
		}
		b.do(SetRole{Peer: b.Peer, Role: auth.RoleViewer}) // gives it up: c is host
		c.fails(Kick{Peer: b.Peer}, "")
		if b.code() != refusal.Kicked {
			t.Errorf("got %q", b.code())
		}
	})
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(vouched("a", auth.RoleHost)), h.enter(vouched("b", auth.RoleSpeaker))
		c := h.enter(anonymous("c"))
		a.Leave(t.Context())
		synctest.Wait()
		b.fails(Configure{Change{Locked: new(true)}}, refusal.Forbidden) // whom a token made a speaker stays one
		c.fails(Configure{Change{Locked: new(true)}}, refusal.Forbidden)
	})
}

func TestKickedPeerStaysAway(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		elsewhere := func(name, address string) JoinRequest {
			r := anonymous(name)
			r.Address = netip.MustParseAddr(address)
			return r
		}
		a := h.enter(elsewhere("a", "192.0.2.1"))
		b := h.enter(elsewhere("b", "198.51.100.7"))
		c := h.enter(elsewhere("c", "203.0.113.9"))
		b.fails(Kick{Peer: c.Peer}, refusal.Forbidden)
		a.fails(Kick{Peer: a.Peer}, refusal.InvalidField)
		a.do(Kick{Peer: b.Peer, Reason: "noise"})
		if b.code() != refusal.Kicked || b.bye.Detail["reason"] != "noise" || b.bye.RetryAfter != 10*time.Minute {
			t.Errorf("got %+v", b.bye)
		}
		if l := only[*PeerLeft](t, c.recorder); l.ID != b.Peer || l.Reason != "kicked" {
			t.Errorf("got %+v", l)
		}
		_, err := h.try(elsewhere("b", "198.51.100.7"))
		wants(t, err, refusal.Kicked)
		_, err = h.try(elsewhere("b", "198.51.100.8")) // the instance is known
		wants(t, err, refusal.Kicked)
		_, err = h.try(elsewhere("new", "198.51.100.7")) // and so is the address
		wants(t, err, refusal.Kicked)
		if r := refusal.From(err); r.RetryAfter != 10*time.Minute {
			t.Errorf("retry after %v", r.RetryAfter)
		}
		friend := vouched("friend", auth.RoleSpeaker) // has a token: the address says nothing about them
		friend.Address = netip.MustParseAddr("198.51.100.7")
		h.enter(friend)
		other := elsewhere("b", "198.51.100.7")
		other.Grant.Channel = "other"
		h.enter(other)
		time.Sleep(10 * time.Minute)
		h.enter(elsewhere("b", "198.51.100.7"))

		a.do(Kick{Peer: c.Peer, Ban: new(time.Duration)})
		synctest.Wait()
		h.enter(elsewhere("c", "203.0.113.9")) // a ban of 0 is none
	})
}

func TestKickSparesTheNeighboursAddress(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b")) // behind one NAT
		a.do(Kick{Peer: b.Peer})
		synctest.Wait()
		_, err := h.try(anonymous("b"))
		wants(t, err, refusal.Kicked)
		h.enter(anonymous("c"))
	})
}

func TestKickByUserID(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(vouched("a", auth.RoleHost)), h.enter(vouched("b", auth.RoleSpeaker))
		a.do(Kick{Peer: b.Peer})
		synctest.Wait()
		again := vouched("b", auth.RoleSpeaker)
		again.Instance, again.Address = "another-instance-of-b", netip.MustParseAddr("2001:db8::1")
		_, err := h.try(again)
		wants(t, err, refusal.Kicked)
		h.enter(vouched("c", auth.RoleSpeaker))
	})
}

func TestIPv6BanCoversTheSubscriber(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a := h.enter(anonymous("a"))
		r := anonymous("b")
		r.Address = netip.MustParseAddr("2001:db8:1:2::5")
		b := h.enter(r)
		a.do(Kick{Peer: b.Peer})
		synctest.Wait()
		r = anonymous("c")
		r.Address = netip.MustParseAddr("2001:db8:1:2:ffff::1")
		_, err := h.try(r)
		wants(t, err, refusal.Kicked)
		r.Address = netip.MustParseAddr("2001:db8:1:3::1")
		h.enter(r)
	})
}

func TestBanOutlivesAnEmptiedChannel(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		a.do(Kick{Peer: b.Peer, Ban: new(time.Hour)})
		synctest.Wait()
		a.Leave(t.Context())
		time.Sleep(9 * time.Minute)
		_, err := h.try(anonymous("b"))
		wants(t, err, refusal.Kicked)
		time.Sleep(2 * time.Minute) // but nobody can keep a channel in memory for long
		synctest.Wait()
		if st := h.Stats(); st.Channels != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestLockAndCapacity(t *testing.T) {
	inBubble(t, Config{PeersPerChannel: 3}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		b.fails(Configure{Change{Locked: new(true)}}, refusal.Forbidden)
		a.do(Configure{Change{Locked: new(true)}})
		if s := only[*SettingsChanged](t, b.recorder).Settings; !s.Locked || s.Capacity != 3 || s.Channel != "c" {
			t.Errorf("got %+v", s)
		}
		_, err := h.try(anonymous("c"))
		wants(t, err, refusal.ChannelLocked)
		h.enter(anonymous("b")) // is a member: takes over
		a.do(Configure{Change{Locked: new(false)}})
		synctest.Wait()
		c := h.enter(anonymous("c"))
		_, err = h.try(anonymous("d"))
		wants(t, err, refusal.ChannelFull)
		a.fails(Configure{Change{Capacity: new(4)}}, refusal.InvalidField)
		a.fails(Configure{Change{Capacity: new(2)}}, "")
		if c.code() != "" {
			t.Error("a smaller capacity throws somebody out")
		}
		c.Leave(t.Context())
		synctest.Wait()
		_, err = h.try(anonymous("d"))
		wants(t, err, refusal.ChannelFull)
	})
}

func TestGrantLimitsTheCapacity(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		for i := range 3 {
			r := anonymous(fmt.Sprint(i))
			r.Grant.Limits.PeersPerChannel = 2
			_, err := h.try(r)
			if want := i == 2; (err != nil) != want {
				t.Errorf("join %d: %v", i, err)
			}
		}
	})
}

func TestSameInstanceTakesTheMembershipOver(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		b.do(SendCommand{Name: "x"})
		a.do(SendSignal{To: b.Peer})
		synctest.Wait()
		before := len(a.events)
		b2 := h.enter(anonymous("b"))
		if b2.Peer != b.Peer || b.code() != refusal.Replaced {
			t.Errorf("got %s and %q", b2.Peer, b.code())
		}
		if j := only[*Joined](t, b2.recorder); len(j.Peers) != 1 || !j.Peers[0].Offer {
			t.Errorf("got %+v", j)
		}
		if len(a.events) != before {
			t.Errorf("a saw something: %T", a.events[len(a.events)-1])
		}
		b2.do(SendCommand{Name: "y"}) // numbers start anew
		if n := len(all[*Command](a.recorder)); n != 2 {
			t.Errorf("a got %d commands", n)
		}
		_, err := h.resume(b, only[*Joined](t, b.recorder).Secret)
		wants(t, err, refusal.ResumeUnknown)

		r := anonymous("b")
		r.Grant.Name = "B!"
		h.enter(r)
		if u := only[*PeerUpdated](t, a.recorder); *u.Name != "B!" || u.Media != nil || u.Info != nil {
			t.Errorf("got %+v", u)
		}
	})
}

func TestUserReplacesTheirOwnGhost(t *testing.T) {
	inBubble(t, Config{PeersPerChannel: 2}, func(t *testing.T, h *house) {
		a := h.enter(vouched("a", auth.RoleHost))
		b := h.enter(vouched("b", ""))
		again := vouched("b", "")
		again.Instance = "after-a-reload"
		_, err := h.try(again) // linked: two devices, and no room
		wants(t, err, refusal.ChannelFull)
		b.LinkLost()
		a.do(Configure{Change{Locked: new(true)}})
		synctest.Wait()
		b2 := h.enter(again)
		if l := only[*PeerLeft](t, a.recorder); l.ID != b.Peer || l.Reason != "replaced" {
			t.Errorf("got %+v", l)
		}
		if b2.Peer == b.Peer {
			t.Error("another instance has the same id")
		}
		_, err = h.resume(b, only[*Joined](t, b.recorder).Secret)
		wants(t, err, refusal.Replaced)
		nobody := anonymous("x")
		nobody.Grant.UID = "a" // claims to be a, without a token
		a.LinkLost()
		_, err = h.try(nobody)
		wants(t, err, refusal.ChannelLocked)
		if n := len(all[*PeerLeft](b2.recorder)); n != 0 {
			t.Error("somebody without a token threw a out")
		}
	})
}

func TestCommandsToOneSomeAll(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b, c := h.enter(anonymous("a")), h.enter(anonymous("b")), h.enter(anonymous("c"))
		a.do(SendCommand{Name: "all"})
		a.do(SendCommand{Name: "one", To: []string{b.Peer}})
		a.do(SendCommand{Name: "some", To: []string{b.Peer, c.Peer}})
		a.fails(SendCommand{Name: "none", To: []string{b.Peer, "pnobody"}}, refusal.PeerNotFound)
		if err := h.Command(t.Context(), key, SendCommand{Name: "server"}); err != nil {
			t.Fatal(err)
		}
		wants(t, h.Command(t.Context(), key, SendCommand{To: []string{"pnobody"}}), refusal.PeerNotFound)
		wants(t, h.Command(t.Context(), Key{"p", "none"}, SendCommand{}), refusal.ChannelNotFound)
		names := func(m *member) string {
			var n []string
			for _, e := range all[*Command](m.recorder) {
				n = append(n, e.Name)
			}
			return strings.Join(n, " ")
		}
		for m, want := range map[*member]string{a: "server", b: "all one some server", c: "all some server"} {
			if got := names(m); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if e := all[*Command](a.recorder)[0]; e.From != "" {
			t.Errorf("the server's command is from %q", e.From)
		}
	})
}

func TestUpdateTellsWhatChanged(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		b.do(Update{Name: new("b"), Media: &Media{Audio: MediaOff}}) // nothing new
		b.do(Update{Info: json.RawMessage(`{"hand":true}`), Media: &Media{Audio: MediaOn}})
		b.do(Update{Info: json.RawMessage(`null`)})
		u := all[*PeerUpdated](a.recorder)
		if len(u) != 2 {
			t.Fatalf("got %d updates, want 2", len(u))
		}
		if u[0].Name != nil || string(u[0].Info) != `{"hand":true}` || *u[0].Media != (Media{MediaOn, MediaOff, MediaOff}) {
			t.Errorf("got %+v", u[0])
		}
		if string(u[1].Info) != "null" {
			t.Errorf("got %+v", u[1])
		}
		snap, err := h.Inspect(t.Context(), key)
		if err != nil || snap.Members[1].Peer.Info != nil || snap.Members[1].Peer.Media.Audio != MediaOn {
			t.Errorf("got %+v, %v", snap, err)
		}
	})
}

func TestOperators(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		ctx := t.Context()
		wants(t, h.Configure(ctx, key, Change{}), refusal.ChannelNotFound)
		wants(t, h.Close(ctx, key, refusal.ChannelClosed), refusal.ChannelNotFound)
		_, err := h.Inspect(ctx, key)
		wants(t, err, refusal.ChannelNotFound)
		if err := h.Create(ctx, key, Settings{Capacity: 2}); err != nil {
			t.Fatal(err)
		}
		wants(t, h.Create(ctx, key, Settings{}), refusal.Conflict)
		time.Sleep(time.Hour)
		if err := h.Configure(ctx, key, Change{Locked: new(true)}); err != nil {
			t.Fatal(err)
		}
		_, err = h.try(anonymous("a"))
		wants(t, err, refusal.ChannelLocked)
		if l := h.List("p"); len(l) != 1 || !l[0].Kept || l[0].Settings.Capacity != 2 || !l[0].Settings.Locked {
			t.Errorf("got %+v", l)
		}
		if l := h.List("other"); len(l) != 0 {
			t.Errorf("got %+v", l)
		}
		h.Configure(ctx, key, Change{Locked: new(false)})
		a, b := h.enter(anonymous("a")), h.enter(anonymous("b"))
		wants(t, h.Create(ctx, key, Settings{}), refusal.Conflict)
		snap, err := h.Inspect(ctx, key)
		if err != nil || snap.Peers != 2 || len(snap.Members) != 2 || !snap.Members[0].Linked {
			t.Errorf("got %+v, %v", snap, err)
		}
		wants(t, h.Kick(ctx, key, Kick{Peer: "pnobody"}), refusal.PeerNotFound)
		if err := h.Kick(ctx, key, Kick{Peer: b.Peer}); err != nil || b.code() != refusal.Kicked {
			t.Errorf("%v, %q", err, b.code())
		}
		if st := h.Stats(); st.Projects["p"] != (ProjectStats{Channels: 1, Peers: 1}) || st.Kicked != 1 {
			t.Errorf("got %+v", st)
		}
		if err := h.Close(ctx, key, refusal.ChannelClosed); err != nil || a.code() != refusal.ChannelClosed {
			t.Errorf("%v, %q", err, a.code())
		}
		c := h.enter(anonymous("c")) // a new channel with that name, without the settings
		if s := only[*Joined](t, c.recorder).Settings; s.Capacity != 50 {
			t.Errorf("got %+v", s)
		}
		_, err = h.resume(a, only[*Joined](t, a.recorder).Secret)
		wants(t, err, refusal.ChannelClosed)
	})
}

func TestDrainAndStop(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, h *house) {
		a := h.enter(anonymous("a"))
		h.Drain()
		if a.code() != refusal.ServerDraining {
			t.Errorf("got %q", a.code())
		}
		_, err := h.try(anonymous("b"))
		wants(t, err, refusal.ServerDraining)
		_, err = h.resume(a, "x")
		wants(t, err, refusal.ServerDraining)
		h.stop()
		if err := a.Ack(t.Context(), 0); err == nil {
			t.Error("an owner takes input after the end")
		}
	})
}

func TestTooManyChannels(t *testing.T) {
	inBubble(t, Config{MaxChannels: 2}, func(t *testing.T, h *house) {
		for i, want := range []bool{false, false, true} {
			r := anonymous("a")
			r.Grant.Channel = fmt.Sprint(i)
			if _, err := h.try(r); (err != nil) != want {
				t.Errorf("channel %d: %v", i, err)
			}
		}
	})
}

func TestPeerIDs(t *testing.T) {
	id := PeerID(Key{"p", "c"}, "instance")
	if len(id) != 17 || id[0] != 'p' || strings.ToLower(id) != id || id != PeerID(Key{"p", "c"}, "instance") {
		t.Errorf("got %q", id)
	}
	others := []string{PeerID(Key{"pc", ""}, "instance"), PeerID(Key{"p", "ci"}, "nstance"), PeerID(Key{"", "pc"}, "instance"), PeerID(Key{"p", "c"}, "Instance")}
	if slices.Contains(others, id) {
		t.Errorf("%q also stands for something else", id)
	}
	if polite(id, others[0]) == polite(others[0], id) {
		t.Error("both sides are polite, or none")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{ResumeWindow: -1}, {RingTimeout: -1}, {PeersPerChannel: -1}, {MailboxBytes: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// BenchmarkSignal is the way of a signal through an owner: in by one peer's link, out to the other's, acknowledged now and then.
func BenchmarkSignal(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	delivered := make(chan uint64, 64)
	to := anonymous("b")
	to.Link = counting(func(seq uint64, e Event) {
		if _, ok := e.(*Signal); ok {
			delivered <- seq
		}
	})
	from := anonymous("a")
	from.Link = counting(func(uint64, Event) {})
	receiver, err := s.Join(ctx, to)
	if err != nil {
		b.Fatal(err)
	}
	sender, err := s.Join(ctx, from)
	if err != nil {
		b.Fatal(err)
	}
	data := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		sender.Do(ctx, n, false, SendSignal{To: receiver.Peer, Data: data})
		if seq := <-delivered; seq%32 == 0 {
			receiver.Ack(ctx, seq)
		}
	}
}

type counting func(uint64, Event)

func (c counting) Deliver(seq uint64, e Event) { c(seq, e) }
func (c counting) End(*refusal.Refusal)        {}
