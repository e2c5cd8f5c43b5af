package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

func endOf(letter string) string { return strings.Repeat(letter, 22) }

func fileOf(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, pattern(size), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Whoever opens a link ends nothing for the one whose it is.
func TestAStrangerWhoDeclinesEndsNothing(t *testing.T) {
	node := startNode(t)
	for _, code := range []refusal.Code{refusal.Declined, refusal.Cancelled} {
		for _, accepted := range []bool{true, false} { // somebody has taken the link already
			t.Run(fmt.Sprintf("%s, accepted %t", code, accepted), func(t *testing.T) {
				t.Parallel()
				ticket := NewTicket()
				sender := sends(t, SendConfig{Server: node, Ticket: ticket, Paths: []string{fileOf(t, 3)}, Receivers: 1})
				receiver := joins(t, node, ticket, roleReceiver).dial(roleSender)
				receiver.hello(roleReceiver, endOf("A"))
				if accepted {
					receiver.say(message{Type: typeAccept})
					receiver.hear(typeAccepted)
				}
				other := joins(t, node, ticket, roleReceiver).dial(roleSender)
				other.hello(roleReceiver, endOf("B"))
				other.say(message{Type: typeBye, Code: string(code)})
				other.closed()
				sender.until("word of it", func() bool {
					return slices.ContainsFunc(sender.events, func(e Event) bool { return e.Code == string(code) })
				})
				receiver.say(message{Type: typeAccept})
				if receiver.hear(typeAccepted) == nil {
					t.Fatalf("the transfer has ended: %v", sender.wait())
				}
				receiver.say(message{Type: typeComplete})
				if err := sender.wait(); err != nil {
					t.Errorf("the sender ends with %v", err)
				}
			})
		}
	}
}

// Programs read the sender's events: a stranger must not make up one, least of all that everything has arrived.
func TestAReceiverThatEndsInItsOwnWords(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	sender := sends(t, SendConfig{Server: node, Ticket: ticket, Paths: []string{fileOf(t, 3)}, Receivers: 1})
	for i, code := range []string{"nonsense", "ready", string(refusal.Done)} {
		l := joins(t, node, ticket, roleReceiver).dial(roleSender)
		l.hello(roleReceiver, endOf("A"))
		l.say(message{Type: typeBye, Code: code})
		l.closed()
		sender.until("word of it", func() bool {
			said := 0
			for _, e := range sender.events {
				if e.Code == code {
					t.Errorf("the sender says %v", e)
					return true
				}
				if e.Code == string(refusal.Malformed) {
					said++
				}
			}
			return said == i+1
		})
	}
}

// Who has taken the link may end the transfer.
func TestTheReceiverWhoCancelsEndsTheTransfer(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	sender := sends(t, SendConfig{Server: node, Ticket: ticket, Paths: []string{fileOf(t, 3)}, Receivers: 1})
	receiver := joins(t, node, ticket, roleReceiver).dial(roleSender)
	receiver.hello(roleReceiver, endOf("A"))
	receiver.say(message{Type: typeAccept})
	receiver.hear(typeAccepted)
	receiver.say(message{Type: typeBye, Code: string(refusal.Cancelled)})
	if err := sender.wait(); !errors.Is(err, refusal.New(refusal.Cancelled)) {
		t.Errorf("got %v", err)
	}
}

// A stream's size is known at its end, and its receiver may have come long before.
func TestAStreamThatStillFlowsArrives(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	content, in := io.Pipe()
	sender := sends(t, SendConfig{Server: node, Ticket: ticket, Stream: content, Name: "stream", Receivers: 1})
	dir := t.TempDir()
	receiver := receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: dir})
	want := pattern(3*BlockSize + 17)
	if _, err := in.Write(want[:2*BlockSize]); err != nil {
		t.Fatal(err)
	}
	receiver.until("a block of a stream that flows", func() bool { return receiver.last.Bytes >= BlockSize })
	if _, err := in.Write(want[2*BlockSize:]); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := receiver.wait(); err != nil {
		t.Errorf("receive: %v", err)
	}
	if err := sender.wait(); err != nil {
		t.Errorf("send: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "stream")); err != nil || string(got) != string(want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// A receiver that is stopped when the stream's end is known goes on with what it had before that.
func TestAReceiverOfAStreamGoesOn(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	content, in := io.Pipe()
	sends(t, SendConfig{Server: node, Ticket: ticket, Stream: content, Name: "stream", LimitBps: 32e6})
	dir := t.TempDir()
	first := receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: dir})
	want := pattern(24*BlockSize + 17)
	if _, err := in.Write(want[:4*BlockSize]); err != nil {
		t.Fatal(err)
	}
	first.until("a block of a stream that flows", func() bool { return first.last.Bytes >= BlockSize })
	if _, err := in.Write(want[4*BlockSize:]); err != nil {
		t.Fatal(err)
	}
	in.Close()
	first.until("its size", func() bool { return first.last.Total == int64(len(want)) })
	first.cancel()
	if err := first.wait(); !errors.Is(err, refusal.New(refusal.Cancelled)) {
		t.Fatalf("the first life: %v", err)
	}
	second := receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: dir})
	if err := second.wait(); err != nil {
		t.Errorf("the second life: %v", err)
	}
	if had := int64(len(want)) - second.result.Arrived; first.result.Bytes == 0 || had < first.result.Bytes {
		t.Errorf("%d bytes were there, and %d of them came again", first.result.Bytes, first.result.Bytes-had)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "stream")); err != nil || string(got) != string(want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// What the other side says may be of a version that does not exist yet, or a lie.
func TestASenderThatEndsInItsOwnWords(t *testing.T) {
	node := startNode(t)
	for name, c := range map[string]struct {
		says []message
		want refusal.Code
	}{
		"an unknown code": {[]message{{Type: typeBye, Code: "nonsense"}}, refusal.Malformed},
		"an unknown code for a file": {[]message{
			{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(3))}}, Last: true},
			{Type: typeAccepted}, {Type: typeFailed, File: new(uint32(0)), Code: "nonsense"},
		}, refusal.Malformed},
		"done, before anything has come": {[]message{
			{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(3))}}, Last: true},
			{Type: typeAccepted}, {Type: typeBye, Code: string(refusal.Done)},
		}, refusal.Malformed},
		"done, at once": {[]message{{Type: typeBye, Code: string(refusal.Done)}}, refusal.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ticket := NewTicket()
			sender := joins(t, node, ticket, roleSender)
			receiver := receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: t.TempDir()})
			l := sender.answer()
			l.hello(roleSender, endOf("S"))
			for _, m := range c.says {
				l.say(m)
			}
			if err := receiver.wait(); !errors.Is(err, refusal.New(c.want)) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if slices.ContainsFunc(receiver.events, func(e Event) bool { return e.Code == "nonsense" }) {
				t.Errorf("the receiver says what its sender made up: %v", receiver.events)
			}
		})
	}
}

// A link for one receiver stays that, towards whoever has it too: the receiver gives them nothing, and does not say how the sender knows it.
func TestTheReceiverOfALinkForOneGivesNothingAway(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	sender := joins(t, node, ticket, roleSender)
	asked, agreed := make(chan struct{}), make(chan struct{})
	receiver := receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: t.TempDir(), Confirm: func([]Entry, bool) bool {
		close(asked)
		<-agreed
		return true
	}})
	l := sender.answer()
	l.hello(roleSender, endOf("S"))
	known := l.hear(typeHello).End
	content := pattern(2 * BlockSize)
	l.say(message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(len(content)))}}, Last: true})
	<-asked

	other := joins(t, node, ticket, roleReceiver)
	early := other.dial(roleReceiver) // there is only one
	early.hello(roleReceiver, endOf("C"))
	if end := early.hear(typeHello).End; end != endForOthers(known) {
		t.Errorf("another receiver is told the end %q, and the sender %q", end, known)
	}
	early.say(message{Type: typeWant, Blocks: []Range{{0, 0, 2}}})
	close(agreed)
	l.hear(typeAccept)
	l.say(message{Type: typeAccepted, Alone: true})
	if early.hear("block") != nil {
		t.Error("another receiver has got a block")
	}
	l.hear(typeWant)
	l.block(block{0, 0}, content[:BlockSize])
	l.block(block{0, 1}, content[BlockSize:])
	l.hear(typeGetRoot)
	root := fileRoot(int64(len(content)), hashesOf(content))
	l.say(message{Type: typeRoot, File: new(uint32(0)), Root: b64.EncodeToString(root[:])})
	l.hear(typeGetRoot)
	entries := []Entry{{Path: "a", Size: new(int64(len(content)))}}
	root = manifestRoot(entries, []Hash{root})
	l.say(message{Type: typeRoot, Root: b64.EncodeToString(root[:])})
	l.hear(typeComplete)
	l.say(message{Type: typeBye, Code: string(refusal.Done)})
	if err := receiver.wait(); err != nil {
		t.Error(err)
	}
	if receiver.result.Shared > 0 {
		t.Errorf("%d bytes were given to others", receiver.result.Shared)
	}
}

// Before a sender has said for whom the link is, other receivers get nothing; then they hear what there is, or their lanes end.
func TestOthersWaitUntilASenderHasSaidForWhomTheLinkIs(t *testing.T) {
	for _, alone := range []bool{false, true} {
		now := time.Unix(1e9, 0)
		f := newFetcher(func(uint32, Entry) []Hash { return []Hash{{1}} }) // of an earlier life
		f.addLane(now, 1, "S", true)
		f.addLane(now, 2, "B", false)
		if err := f.message(now, 1, &message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(9 * BlockSize))}}, Last: true}); err != nil {
			t.Fatal(err)
		}
		f.accept(now, nil)
		f.tick(now.Add(time.Second))
		said := func() (list []string) {
			for _, a := range f.take() {
				switch {
				case a.kind == doClose:
					list = append(list, fmt.Sprint("close ", a.lane))
				case a.kind == doSend && a.msg.Type == typeHave:
					list = append(list, fmt.Sprint("have ", a.lane, " ", a.msg.Blocks))
				}
			}
			return list
		}
		if got := said(); f.gives() || got != nil {
			t.Errorf("before accepted: %v", got)
		}
		if err := f.message(now, 1, &message{Type: typeAccepted, Alone: alone}); err != nil {
			t.Fatal(err)
		}
		f.tick(now.Add(2 * time.Second))
		want := "[have 2 [{0 0 1}]]"
		if alone {
			want = "[close 2]"
		}
		if got := fmt.Sprint(said()); got != want || f.gives() == alone {
			t.Errorf("alone %t: got %s, want %s", alone, got, want)
		}
		f.addLane(now, 3, "C", false)
		want = "[have 3 [{0 0 1}]]"
		if alone {
			want = "[close 3]"
		}
		if got := fmt.Sprint(said()); got != want {
			t.Errorf("alone %t, a lane later: got %s, want %s", alone, got, want)
		}
	}
}

// What is believed of senders is not believed of whoever says that it is one: senders make no lanes.
func TestAReceiverThatCallsItselfSenderIsRefused(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	receives(t, ReceiveConfig{Server: node, Ticket: ticket, Dir: t.TempDir()})
	l := joins(t, node, ticket, roleReceiver).dial(roleReceiver)
	l.hello(roleSender, endOf("C"))
	if bye := l.hear(typeBye); bye == nil || bye.Code != string(refusal.Malformed) {
		t.Errorf("got %+v", bye)
	}
}

// A link that was used up looks like one whose sender is not there yet; after a while that is said.
func TestWaitingLongIsSaid(t *testing.T) {
	node := startNode(t)
	receiver := receives(t, ReceiveConfig{Server: node, Ticket: NewTicket(), Dir: t.TempDir(), lonely: time.Millisecond})
	receiver.until("waiting_long", func() bool {
		return slices.ContainsFunc(receiver.events, func(e Event) bool { return e.Code == "waiting_long" })
	})
	if receiver.events[0].Code != "waiting" {
		t.Errorf("got %v first", receiver.events[0])
	}
}
