package signalserver_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
	"github.com/madang-rtc/madang/internal/signalserver"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the random sessions from this seed alone")
	runsFlag = flag.Int("runs", 24, "how many random sessions")
)

// TestRandomSessionsOverRealSockets: five peers send to each other, leave and come back, while their links break at random moments, over both
// kinds of link. What a peer that stays was sent has come once and in order. channel has the same test without sockets, some
// thousand times.
func TestRandomSessionsOverRealSockets(t *testing.T) {
	s := start(t, channel.Config{}, signalserver.Config{JoinsPerSecond: 1e6, JoinBurst: 1e6, MessagesPerSecond: 1e6, MessageBurst: 1e6})
	runs, first := *runsFlag, uint64(1)
	if *seedFlag != 0 {
		runs, first = 1, *seedFlag
	}
	links := 0
	for seed := first; seed < first+uint64(runs); seed++ {
		links += randomSession(t, s, seed)
	}
	if links < runs*10 {
		t.Errorf("%d links in %d sessions: too few have broken", links, runs)
	}
}

type parcel struct {
	From string `json:"from"` // name and incarnation of the sender
	N    int    `json:"n"`
}

func randomSession(t *testing.T, s *server, seed uint64) (links int) {
	ch := fmt.Sprint("random-", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	transport := func() option {
		if r.IntN(3) == 0 {
			return over(signalclient.SSE)
		}
		return over(signalclient.WebSocket)
	}
	var mu sync.Mutex // of heard
	heard := map[string][]parcel{}
	listen := func(name string) option {
		return func(c *signalclient.Config) {
			keep := c.OnMessage
			c.OnMessage = func(m signal.ServerMessage) {
				keep(m)
				var data json.RawMessage
				switch m := m.(type) {
				case *signal.FromCommand:
					data = m.Data
				case *signal.FromSignal:
					data = m.Data
				default:
					return
				}
				var p parcel
				if err := json.Unmarshal(data, &p); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				mu.Lock()
				heard[name] = append(heard[name], p)
				mu.Unlock()
			}
		}
	}
	// Three stay, two come and go.
	stay := []string{"A", "B", "C"}
	clients := map[string]*client{}
	for _, name := range stay {
		clients[name] = s.join(t, ch, as(name), transport(), listen(name))
	}
	sent := map[string][]parcel{} // to each who stays, by sender: in the order of sending
	var wg sync.WaitGroup
	var sentMu sync.Mutex
	say := func(c *client, who string, n int) {
		data, _ := json.Marshal(parcel{who, n})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		send := c.Send
		if n%3 == 2 { // wait for the answer now and then, so that there is a link to be broken
			send = c.Call
		}
		if err := send(ctx, &signal.Command{Name: "x", Data: data}); err != nil {
			t.Errorf("seed %d: %s: %v", seed, who, err)
			return
		}
		sentMu.Lock()
		defer sentMu.Unlock()
		for _, to := range stay {
			if to != who {
				sent[to+"<"+who] = append(sent[to+"<"+who], parcel{who, n})
			}
		}
	}
	for _, name := range stay {
		c, mine := clients[name], rand.New(rand.NewPCG(seed, uint64(name[0])))
		wg.Go(func() {
			for n := range 40 {
				say(c, name, n)
				if mine.IntN(5) == 0 {
					c.Drop()
				}
			}
		})
	}
	for _, name := range []string{"D", "E"} {
		mine := rand.New(rand.NewPCG(seed, uint64(name[0])))
		trs := []option{transport(), transport(), transport()}
		wg.Go(func() {
			for life := range 3 {
				who := fmt.Sprint(name, life)
				c := s.join(t, ch, as(who), trs[life])
				for n := range 10 {
					say(c, who, n)
					if mine.IntN(4) == 0 {
						c.Drop()
					}
				}
				// Leaving is not numbered: what was said must have arrived before it.
				c.must(&signal.Update{Name: &who})
				c.leave()
			}
		})
	}
	wg.Wait()
	for _, name := range stay {
		clients[name].must(&signal.Command{Name: "x", Data: json.RawMessage(fmt.Sprintf(`{"from":%q,"n":-1}`, name))})
	}
	for _, name := range stay {
		c := clients[name]
		for _, other := range stay {
			if other != name {
				expect(c, func(m *signal.FromCommand) bool {
					var p parcel
					json.Unmarshal(m.Data, &p)
					return p == parcel{other, -1}
				})
				c.mu.Lock()
				c.next = 0
				c.mu.Unlock()
			}
		}
		mu.Lock()
		by := map[string][]parcel{}
		for _, p := range heard[name] {
			if p.N >= 0 {
				by[p.From] = append(by[p.From], p)
			}
		}
		mu.Unlock()
		for _, from := range []string{"A", "B", "C", "D0", "D1", "D2", "E0", "E1", "E2"} {
			if got, want := fmt.Sprint(by[from]), fmt.Sprint(sent[name+"<"+from]); got != want {
				t.Errorf("seed %d: %s got from %s\n%s\nwant\n%s", seed, name, from, got, want)
			}
		}
		never(c, func(m *signal.PeerLeft) bool { return m.Reason != "left" })
		links += c.Links()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := c.Leave(ctx); err != nil {
			t.Errorf("seed %d: %s: %v", seed, name, err)
		}
		cancel()
	}
	return links
}
