package signalserver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/carrier"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/signal"
)

// BenchmarkMessage takes a signal of 1 KiB through everything but the sockets: parsed, through the channel, into the mailbox, encoded.
func BenchmarkMessage(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	channels, err := channel.New(channel.Config{})
	if err != nil {
		b.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); channels.Run(ctx) }()
	defer func() { cancel(); <-stopped }()
	s, err := New(Config{
		Channels: channels, MessagesPerSecond: 1e9, MessageBurst: 1e9,
		Authorize: func(_ context.Context, c auth.Credentials) (auth.Grant, error) {
			return auth.Grant{Project: "p1", Channel: c.Channel}, nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	join := func(name string) (*link, chan struct{}) {
		l := s.newLink(netip.MustParseAddr("127.0.0.1"), "")
		wake := make(chan struct{}, 1)
		l.Pump(func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		l.open = true // not one of the server's own
		if r := l.receive(ctx, fmt.Appendf(nil, `{"type":"join","version":1,"channel":"c","instance":"%s","key":"k"}`, strings.Repeat(name, 22))); r != nil {
			b.Fatal(r)
		}
		return l, wake
	}
	from, _ := join("a")
	to, wake := join("b")
	<-wake
	to.Take(nil) // joined
	data := `{"pad":"` + strings.Repeat(".", 1014) + `"}`
	var message, out []byte
	var batch []carrier.Item
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	seq := uint64(0)
	for b.Loop() {
		seq++
		message = fmt.Appendf(message[:0], `{"type":"signal","seq":%d,"to":"%s","data":%s}`, seq, to.member.Load().Peer, data)
		if r := from.receive(ctx, message); r != nil {
			b.Fatal(r)
		}
		<-wake
		batch, _ = to.Take(batch)
		for _, it := range batch {
			if out, err = to.encode(out[:0], it); err != nil {
				b.Fatal(err)
			}
			to.member.Load().Ack(ctx, it.Seq)
		}
		from.Take(nil) // acknowledgements
	}
	var m *signal.FromSignal
	if parsed, _, err := signal.ParseServer(out); err != nil {
		b.Fatal(err)
	} else if m, _ = parsed.(*signal.FromSignal); m == nil || string(m.Data) != data {
		b.Fatalf("got %s", out)
	}
}
