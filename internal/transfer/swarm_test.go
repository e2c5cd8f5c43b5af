package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// A crowd is one sender and several receivers whose messages take time and whose ways up carry so much and not more. There is no I/O and no chance:
// the same crowd does the same each time.
type crowd struct {
	t       *testing.T
	now     time.Time
	entries []Entry
	server  *server
	lanes   map[int]*link // of the sender
	ends    []*crowdEnd
	mesh    func(a, b int) bool // whether two receivers reach each other
	up      float64             // bytes a second of each end
	latency time.Duration
	tick    time.Duration
	lastID  int
	sent    int // blocks, by the sender
	budget  float64
	turn    int
}

// A link is one direction of a lane for blocks and both for messages.
type link struct {
	id     int
	from   *crowdEnd // nil: the sender
	to     *crowdEnd
	toEnd  []onTheWay // to the receiver that asks
	toGive []onTheWay // to who is asked
}

type onTheWay struct {
	at time.Time
	m  any
}

type crowdEnd struct {
	n       int
	joins   time.Duration
	leaves  time.Duration // 0: stays
	mute    bool          // never says what it has
	up      float64       // bytes a second; 0: those of the crowd
	fetcher *fetcher
	server  *server
	links   map[int]*link // on which it asks
	gives   map[int]*link // on which it is asked
	budget  float64
	turn    int
	left    bool
	over    bool
	took    time.Duration
}

func newCrowd(t *testing.T, receivers int, sizes ...int64) *crowd {
	c := &crowd{t: t, now: time.Unix(1e9, 0), lanes: map[int]*link{}, mesh: func(int, int) bool { return true }, up: 10 << 20, latency: 20 * time.Millisecond, tick: 5 * time.Millisecond}
	for i, size := range sizes {
		c.entries = append(c.entries, Entry{Path: fmt.Sprint(i), Size: &size})
	}
	c.server = newServer(receivers)
	c.server.add(c.entries, true)
	for n := range receivers {
		e := &crowdEnd{n: n, fetcher: newFetcher(nil), server: newServer(0), links: map[int]*link{}, gives: map[int]*link{}}
		e.fetcher.place = float64(n*7%receivers) / float64(receivers)
		e.joins = time.Duration(n*30) * time.Millisecond
		c.ends = append(c.ends, e)
	}
	return c
}

func (e *crowdEnd) name() string { return fmt.Sprintf("%022d", e.n) }

func (c *crowd) hash(b block) Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(b.file)<<32|uint64(b.index)))
}

func (c *crowd) root(i uint32) Hash {
	var hashes []Hash
	for k := range blocks(*c.entries[i].Size) {
		hashes = append(hashes, c.hash(block{i, k}))
	}
	return fileRoot(*c.entries[i].Size, hashes)
}

func (c *crowd) join(e *crowdEnd) {
	here := 0
	for _, o := range c.ends {
		if o != e && !o.left && len(o.links) > 0 {
			here++
		}
	}
	e.fetcher.accompany(c.now, here > 0)
	l := &link{id: c.id(), to: e}
	c.lanes[l.id], e.links[l.id] = l, l
	c.server.addLane(c.now, l.id, e.name())
	e.fetcher.addLane(c.now, l.id, "SSSSSSSSSSSSSSSSSSSSSS", true)
	c.do(e)
	for _, o := range c.ends {
		if o != e && !o.left && len(o.links) > 0 {
			o.fetcher.accompany(c.now, true)
			if c.mesh(e.n, o.n) {
				c.meet(e, o)
				c.meet(o, e)
			}
			c.do(o)
		}
	}
}

// meet lets a ask b.
func (c *crowd) meet(a, b *crowdEnd) {
	l := &link{id: c.id(), from: b, to: a}
	a.links[l.id], b.gives[l.id] = l, l
	b.server.addReceiver(c.now, l.id, a.name())
	a.fetcher.addLane(c.now, l.id, b.name(), false)
	if !b.mute { // in the real thing both directions are one lane
		l.toEnd = append(l.toEnd, onTheWay{c.now.Add(c.latency), &message{Type: typeHave, Blocks: b.all()}})
	}
	c.do(a)
}

func (e *crowdEnd) all() (ranges []Range) {
	for i, file := range e.fetcher.files {
		ranges = append(ranges, file.have.ranges(uint32(i))...)
	}
	return ranges
}

func (c *crowd) id() int { c.lastID++; return c.lastID }

func (c *crowd) leave(e *crowdEnd) {
	e.left = true
	for id, l := range e.links {
		if l.from == nil {
			c.server.removeLane(id)
			delete(c.lanes, id)
		} else {
			l.from.server.removeLane(id)
			delete(l.from.gives, id)
		}
	}
	for id, l := range e.gives {
		delete(l.to.links, id)
		l.to.fetcher.removeLane(c.now, id)
		c.do(l.to)
	}
}

// do puts on the way what an end wants to say. What it has it says to those who ask it.
func (c *crowd) do(e *crowdEnd) {
	for again := true; again; {
		again = false
		for _, a := range e.fetcher.take() {
			again = true
			switch a.kind {
			case doSend:
				if a.msg.Type == typeHave {
					if g := c.back(e, a.lane); g != nil && !e.mute {
						g.toEnd = append(g.toEnd, onTheWay{c.now.Add(c.latency), a.msg})
					}
				} else if l := e.links[a.lane]; l != nil {
					l.toGive = append(l.toGive, onTheWay{c.now.Add(c.latency), a.msg})
				}
			case doEntries:
				e.fetcher.accept(c.now, nil)
			case doFinish:
				e.fetcher.finished(c.now, a.file, nil)
			case doComplete:
				e.over, e.took = true, c.now.Sub(time.Unix(1e9, 0))
			case doClose, doFailed:
				c.t.Fatalf("receiver %d: lane %d, file %d: %s", e.n, a.lane, a.file, a.code)
			}
		}
	}
}

// back is the link on which the other end of a link asks.
func (c *crowd) back(e *crowdEnd, lane int) *link {
	l := e.links[lane]
	if l == nil || l.from == nil {
		return nil
	}
	for _, g := range e.gives {
		if g.to == l.from {
			return g
		}
	}
	return nil
}

func (c *crowd) step(d time.Duration) {
	c.now = c.now.Add(d)
	at := c.now.Sub(time.Unix(1e9, 0))
	for _, e := range c.ends {
		if e.left {
			continue
		}
		switch {
		case len(e.links) == 0 && at >= e.joins:
			c.join(e)
		case e.leaves > 0 && at >= e.leaves:
			c.leave(e)
			continue
		}
		if at.Milliseconds()%200 == 0 {
			e.fetcher.tick(c.now)
			c.do(e)
			e.server.tick(c.now)
			c.say(e.server, e.gives)
			c.server.tick(c.now)
			c.say(c.server, c.lanes)
		}
		for id := range c.lastID + 1 {
			if l := e.links[id]; l != nil {
				c.deliver(e, l)
			}
		}
	}
	c.give(nil, c.server, c.lanes, d)
	for _, e := range c.ends {
		if !e.left {
			c.give(e, e.server, e.gives, d)
		}
	}
}

// say puts on the way what a server wants to say.
func (c *crowd) say(s *server, lanes map[int]*link) {
	for _, a := range s.take() {
		if to := lanes[a.lane]; a.kind == doSend && to != nil {
			to.toEnd = append(to.toEnd, onTheWay{c.now.Add(c.latency), a.msg})
		}
	}
}

func due(list *[]onTheWay, now time.Time) (all []any) {
	for len(*list) > 0 && !(*list)[0].at.After(now) {
		all = append(all, (*list)[0].m)
		*list = (*list)[1:]
	}
	return all
}

func (c *crowd) deliver(e *crowdEnd, l *link) {
	for _, m := range due(&l.toGive, c.now) {
		m := m.(*message)
		s := c.server
		if l.from != nil {
			s = l.from.server
		}
		if err := s.message(c.now, l.id, m); err != nil {
			c.t.Fatalf("receiver %d: %s: %v", e.n, m.Type, err)
		}
		switch m.Type {
		case typeGetHashes:
			list := &hashList{File: *m.File, First: *m.First}
			for i := range m.Count {
				list.Hashes = append(list.Hashes, c.hash(block{*m.File, *m.First + i}))
			}
			l.toEnd = append(l.toEnd, onTheWay{c.now.Add(c.latency), list})
		case typeGetRoot:
			answer := &message{Type: typeRoot, File: m.File}
			var root Hash
			if m.File != nil {
				root = c.root(*m.File)
			} else {
				var roots []Hash
				for i := range c.entries {
					roots = append(roots, c.root(uint32(i)))
				}
				root = manifestRoot(c.entries, roots)
			}
			answer.Root = b64.EncodeToString(root[:])
			l.toEnd = append(l.toEnd, onTheWay{c.now.Add(c.latency), answer})
		}
		if l.from == nil {
			c.say(s, c.lanes)
		} else {
			c.say(s, l.from.gives)
		}
	}
	for _, m := range due(&l.toEnd, c.now) {
		var err error
		switch m := m.(type) {
		case *message:
			err = e.fetcher.message(c.now, l.id, m)
		case *hashList:
			err = e.fetcher.hashList(c.now, l.id, m)
		case sentBlock:
			var want bool
			if want, err = e.fetcher.blockArrived(c.now, l.id, m.block, m.length, m.hash); want {
				e.fetcher.kept(c.now, m.block, m.hash)
			}
		}
		if err != nil {
			c.t.Fatalf("receiver %d: %v", e.n, err)
		}
		c.do(e)
	}
}

// give sends what an end's way up carries, one block of each lane in turn.
func (c *crowd) give(e *crowdEnd, s *server, lanes map[int]*link, d time.Duration) {
	budget, turn, up := &c.budget, &c.turn, c.up
	if e != nil {
		budget, turn = &e.budget, &e.turn
		if e.up > 0 {
			up = e.up
		}
	}
	*budget = min(*budget+up*d.Seconds(), BlockSize)
	for *budget >= 0 {
		sent := false
		for k := range c.lastID + 1 {
			id := (*turn + 1 + k) % (c.lastID + 1)
			l := lanes[id]
			if l == nil {
				continue
			}
			b, ok := s.next(id)
			if !ok {
				continue
			}
			*turn, sent = id, true
			length := blockLength(*c.entries[b.file].Size, b.index)
			l.toEnd = append(l.toEnd, onTheWay{c.now.Add(c.latency), sentBlock{b, c.hash(b), length}})
			*budget -= float64(length)
			if s == c.server {
				c.sent++
			}
			break
		}
		if !sent {
			break
		}
	}
}

// run returns how many copies the sender has sent, when everybody has everything.
func (c *crowd) run() float64 {
	total := uint32(0)
	for _, e := range c.entries {
		total += blocks(*e.Size)
	}
	for steps := 0; ; steps++ {
		c.step(c.tick)
		missing := 0
		for _, e := range c.ends {
			if !e.over && !e.left {
				missing++
			}
		}
		if missing == 0 {
			return float64(c.sent) / float64(total)
		}
		if steps > 100_000 {
			c.t.Fatalf("%d receivers are not over; %d blocks of %d sent", missing, c.sent, total)
		}
	}
}

// TestAcceptCountsForAllLanes: it is an end that accepts, and not each of its lanes.
func TestAcceptCountsForAllLanes(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newServer(1)
	s.add([]Entry{{Path: "a", Size: new(int64(3 * BlockSize))}}, true)
	s.addLane(now, 1, "A")
	s.addLane(now, 2, "A")
	if err := s.message(now, 1, &message{Type: typeAccept}); err != nil {
		t.Fatal(err)
	}
	s.addLane(now, 3, "A")
	for _, lane := range []int{1, 2, 3} {
		if err := s.message(now, lane, &message{Type: typeWant, Blocks: []Range{{0, uint32(lane - 1), 1}}}); err != nil {
			t.Fatal(err)
		}
		if b, ok := s.next(lane); !ok || b.index != uint32(lane-1) {
			t.Errorf("lane %d owes %v, %t", lane, b, ok)
		}
	}
	s.addLane(now, 4, "B")
	if err := s.message(now, 4, &message{Type: typeWant, Blocks: []Range{{0, 0, 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.next(4); ok {
		t.Error("a block is owed to an end that has not accepted")
	}
}

// TestWhoGivesNothingIsPromisedNothing: others need not wait for what it has.
func TestWhoGivesNothingIsPromisedNothing(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newServer(0)
	s.add([]Entry{{Path: "a", Size: new(int64(4 * BlockSize))}}, true)
	want := func(lane int, ranges ...Range) (elsewhere []Range) {
		t.Helper()
		s.take()
		if err := s.message(now, lane, &message{Type: typeWant, Blocks: ranges, Fresh: true}); err != nil {
			t.Fatal(err)
		}
		for _, a := range s.take() {
			elsewhere = append(elsewhere, a.msg.Blocks...)
		}
		return elsewhere
	}
	for lane, gives := range []*bool{new(false), nil, new(true)} {
		s.addLane(now, lane, fmt.Sprint(lane))
		if err := s.message(now, lane, &message{Type: typeAccept, Gives: gives}); err != nil {
			t.Fatal(err)
		}
	}
	if got := want(0, Range{0, 0, 2}); got != nil {
		t.Errorf("the first is sent elsewhere for %v", got)
	}
	if got := want(1, Range{0, 1, 2}); got != nil {
		t.Errorf("the second is sent elsewhere for %v", got)
	}
	if got := want(2, Range{0, 0, 1}, Range{0, 2, 2}); fmt.Sprint(got) != "[{0 1 2}]" {
		t.Errorf("the third is sent elsewhere for %v, want blocks 1 and 2", got)
	}
}

// TestOthersAreHeardBeforeTheUserAgrees: the sender is asked for no hashes before, and for all of them then; others hear what is there from before.
func TestOthersAreHeardBeforeTheUserAgrees(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := newFetcher(func(uint32, Entry) []Hash { return []Hash{{1}} }) // of an earlier life
	f.addLane(now, 1, "S", true)
	f.addLane(now, 2, "B", false)
	have := &message{Type: typeHave, Blocks: []Range{{0, 1, 2}}}
	if err := f.message(now, 2, have); err != nil { // before the manifest, even
		t.Fatal(err)
	}
	page := &message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: new(int64(9 * BlockSize))}}, Last: true}
	if err := f.message(now, 1, page); err != nil {
		t.Fatal(err)
	}
	asked := func() (list []string) {
		for _, a := range f.take() {
			if a.kind != doSend {
				continue
			}
			switch a.msg.Type {
			case typeAccept, typeGetHashes:
				list = append(list, fmt.Sprint(a.msg.Type, " ", a.msg.Count))
			case typeHave:
				list = append(list, fmt.Sprint(a.msg.Type, " ", a.msg.Blocks))
			}
		}
		return list
	}
	if got := asked(); got != nil {
		t.Errorf("asked for %v before the user has agreed", got)
	}
	f.accept(now, nil)
	if err := f.message(now, 1, &message{Type: typeAccepted}); err != nil {
		t.Fatal(err)
	}
	f.tick(now)
	if got := asked(); fmt.Sprint(got) != "[accept 0 get-hashes 2 have [{0 0 1}]]" {
		t.Errorf("asked for %v", got)
	}
}

// TestTheSenderSendsAboutOnce: however many receivers there are, and whatever they do, the sender's way carries each block about once.
func TestTheSenderSendsAboutOnce(t *testing.T) {
	ten := func(t *testing.T) *crowd { return newCrowd(t, 10, 64<<20) }
	small := make([]int64, 600)
	for i := range small {
		small[i] = int64(i * 500)
	}
	for name, test := range map[string]struct {
		crowd func(t *testing.T) *crowd
		most  float64
	}{
		"ten at once":      {ten, 1.01},
		"two":              {func(t *testing.T) *crowd { return newCrowd(t, 2, 64<<20) }, 1.01},
		"many small files": {func(t *testing.T) *crowd { return newCrowd(t, 10, small...) }, 1.01},
		"one after the other": {func(t *testing.T) *crowd {
			c := ten(t)
			for n, e := range c.ends {
				e.joins = time.Duration(n) * time.Second
			}
			return c
		}, 1.01},
		"a slow way up": {func(t *testing.T) *crowd {
			c := newCrowd(t, 10, 64<<20)
			c.up, c.tick = 60_000, 50*time.Millisecond // half a megabit a second
			return c
		}, 1.05},
		"each reaches its neighbours only": {func(t *testing.T) *crowd {
			c := ten(t)
			c.mesh = func(a, b int) bool { return a-b == 1 || b-a == 1 }
			return c
		}, 1.3},
		"some leave": {func(t *testing.T) *crowd {
			c := ten(t)
			c.ends[3].leaves, c.ends[7].leaves = 4*time.Second, 5*time.Second
			return c
		}, 1.3},
		"one takes and gives nothing": {func(t *testing.T) *crowd {
			c := ten(t)
			c.ends[4].mute = true
			return c
		}, 1.5},
		"no two reach each other": {func(t *testing.T) *crowd {
			c := newCrowd(t, 3, 16<<20)
			c.mesh = func(int, int) bool { return false }
			return c
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.crowd(t)
			copies := c.run()
			var last time.Duration
			for _, e := range c.ends {
				last = max(last, e.took)
			}
			t.Logf("%.2f copies; the last has everything after %v", copies, last)
			if copies > test.most {
				t.Errorf("the sender sent %.2f copies, want at most %.2f", copies, test.most)
			}
		})
	}
}

// TestTheSenderHelpsWhereOthersAreSlow: who was promised a block may have a thin way up. The sender, which has time, gives it then.
func TestTheSenderHelpsWhereOthersAreSlow(t *testing.T) {
	for name, ups := range map[string][]float64{
		"all others":  {20_000, 20_000, 20_000, 20_000},
		"one of them": {0, 0, 0, 2_000},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, len(ups), 32<<20)
			for n, up := range ups {
				c.ends[n].up = up
			}
			copies := c.run()
			var last time.Duration
			for _, e := range c.ends {
				last = max(last, e.took)
			}
			t.Logf("%.2f copies; the last has everything after %v", copies, last)
			if alone := time.Duration(float64(len(ups)*32<<20) / c.up * float64(time.Second)); last > 3*alone {
				t.Errorf("the last has everything after %v; the sender alone would have taken %v", last, alone)
			}
		})
	}
}
