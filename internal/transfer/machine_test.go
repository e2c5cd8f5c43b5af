package transfer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// A world is one fetcher and one server with lanes between them that reorder, stall and die, driven by a seed. There is no I/O: files are arithmetic.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	server  *server
	fetcher *fetcher
	content [][]byte
	disk    map[block]Hash // what survives the receiver's death
	final   map[uint32]bool
	lanes   map[int]*wire
	lastID  int
	over    bool
	end     string
	sent    map[block]int
	changed map[uint32]bool
}

// A wire holds what is on its way, in order, in each direction.
type wire struct {
	toServer, toFetcher []any // *message, sentBlock, *hashList
}

type sentBlock struct {
	block
	hash   Hash
	length int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), disk: map[block]Hash{}, final: map[uint32]bool{}, lanes: map[int]*wire{}, end: "AAAAAAAAAAAAAAAAAAAAAA", sent: map[block]int{}, changed: map[uint32]bool{}}
	for range 1 + w.rng.IntN(12) {
		size := w.rng.IntN(3 * BlockSize / 4)
		if w.rng.IntN(3) == 0 {
			size = w.rng.IntN(12 * BlockSize)
		}
		if w.rng.IntN(5) == 0 {
			size = w.rng.IntN(4) * BlockSize
		}
		content := make([]byte, size)
		for i := 0; i < len(content); i += 97 {
			content[i] = byte(w.rng.Uint32())
		}
		w.content = append(w.content, content)
	}
	w.startServer()
	w.startFetcher()
	return w
}

func (w *world) hash(b block) Hash {
	c := w.content[b.file]
	from := int(b.index) * BlockSize
	return sha256.Sum256(c[from:min(from+BlockSize, len(c))])
}

func (w *world) startServer() {
	w.killLanes()
	w.server = newServer(1)
	var entries []Entry
	for i, c := range w.content {
		size := int64(len(c))
		entries = append(entries, Entry{Path: fmt.Sprintf("f%d", i), Size: &size})
	}
	cut := w.rng.IntN(len(entries) + 1)
	w.server.add(entries[:cut], false)
	w.server.add(entries[cut:], true)
	w.server.take()
}

func (w *world) startFetcher() {
	w.killLanes()
	w.fetcher = newFetcher(func(i uint32, e Entry) []Hash {
		hashes := make([]Hash, blocks(*e.Size))
		for b, h := range w.disk {
			if b.file == i {
				hashes[b.index] = h
			}
		}
		return hashes
	})
}

func (w *world) killLanes() {
	for _, id := range slices.Sorted(maps.Keys(w.lanes)) {
		w.killLane(id)
	}
}

func (w *world) killLane(id int) {
	delete(w.lanes, id)
	if w.fetcher != nil {
		w.fetcher.removeLane(w.now, id)
		w.doFetcher()
	}
	if w.server != nil {
		w.server.removeLane(id)
	}
}

func (w *world) openLane() {
	w.lastID++
	w.lanes[w.lastID] = &wire{}
	w.server.addLane(w.now, w.lastID, w.end)
	w.fetcher.addLane(w.now, w.lastID, "BBBBBBBBBBBBBBBBBBBBBB", true)
	w.doFetcher()
}

func (w *world) doFetcher() {
	for _, a := range w.fetcher.take() {
		switch a.kind {
		case doSend:
			if l := w.lanes[a.lane]; l != nil {
				w.count(a.msg)
				l.toServer = append(l.toServer, a.msg)
			}
		case doEntries:
			w.fetcher.accept(w.now, nil)
			w.doFetcher()
		case doFinish:
			if !w.fetcher.entries[a.file].Dir {
				for i := range blocks(int64(len(w.content[a.file]))) {
					if w.disk[block{a.file, i}] != w.hash(block{a.file, i}) {
						w.t.Fatalf("file %d gets its name with a wrong block %d", a.file, i)
					}
				}
			}
			w.final[a.file] = true
			w.fetcher.finished(w.now, a.file, nil)
			w.doFetcher()
		case doClose:
			w.killLane(a.lane)
		case doFailed:
			w.t.Fatalf("file %d failed: %s", a.file, a.code)
		case doOver:
			if a.code != "done" {
				w.t.Fatalf("over: %s", a.code)
			}
			w.over = true
		}
	}
}

// count holds the fetcher to what it promises about wants.
func (w *world) count(m *message) {
	if m.Type != typeWant {
		return
	}
	if len(m.Blocks) > maxRanges {
		w.t.Fatalf("%d ranges in one want", len(m.Blocks))
	}
}

func (w *world) doServer() {
	for _, a := range w.server.take() {
		if l := w.lanes[a.lane]; a.kind == doSend && l != nil {
			l.toFetcher = append(l.toFetcher, a.msg)
		}
	}
}

// step lets something happen.
func (w *world) step(hostile bool) {
	w.now = w.now.Add(time.Duration(w.rng.IntN(50)) * time.Millisecond)
	w.fetcher.tick(w.now)
	w.server.tick(w.now)
	w.doFetcher()
	w.doServer()
	if len(w.lanes) == 0 || len(w.lanes) < 4 && w.rng.IntN(200) == 0 {
		w.openLane()
	}
	if hostile {
		switch w.rng.IntN(400) {
		case 0:
			w.startServer()
		case 1:
			w.startFetcher()
		case 2, 3:
			ids := slices.Sorted(maps.Keys(w.lanes))
			if len(ids) > 0 {
				w.killLane(ids[w.rng.IntN(len(ids))])
			}
		case 5:
			w.fetcher.pause(w.now, true)
			w.doFetcher()
		case 4: // a file is changed on the receiver's disk, behind its back
			for b := range w.disk {
				if !w.final[b.file] && w.fetcher.files != nil && int(b.file) < len(w.fetcher.files) && !w.fetcher.files[b.file].have.has(b.index) {
					delete(w.disk, b)
				}
				break
			}
		}
	}
	if w.fetcher.paused && w.rng.IntN(20) == 0 {
		w.fetcher.pause(w.now, false)
		w.doFetcher()
	}
	ids := slices.Sorted(maps.Keys(w.lanes))
	if len(ids) == 0 {
		return
	}
	id := ids[w.rng.IntN(len(ids))]
	l := w.lanes[id]
	switch w.rng.IntN(4) {
	case 0:
		w.deliverToServer(id, l)
	case 1:
		if b, ok := w.server.next(id); ok {
			w.sent[b]++
			length := min(BlockSize, len(w.content[b.file])-int(b.index)*BlockSize)
			l.toFetcher = append(l.toFetcher, sentBlock{b, w.hash(b), length})
		}
		w.doServer()
	default:
		w.deliverToFetcher(id, l)
	}
}

func (w *world) deliverToServer(id int, l *wire) {
	if len(l.toServer) == 0 {
		return
	}
	m := l.toServer[0].(*message)
	l.toServer = l.toServer[1:]
	if m, err := parseMessage(m.encode()); err != nil {
		w.t.Fatalf("the fetcher sends what cannot be read: %v", err)
	} else if err := w.server.message(w.now, id, m); err != nil {
		w.t.Fatalf("the server refuses %s: %v", m.Type, err)
	}
	if m.Type == typeGetHashes {
		list := &hashList{File: *m.File, First: *m.First}
		for i := range m.Count {
			list.Hashes = append(list.Hashes, w.hash(block{*m.File, *m.First + i}))
		}
		l.toFetcher = append(l.toFetcher, list)
	}
	for _, wish := range w.server.roots {
		answer := message{Type: typeRoot}
		var root Hash
		if wish.file >= 0 {
			root = w.root(uint32(wish.file))
			answer.File = new(uint32(wish.file))
		} else {
			var roots []Hash
			for i := range w.content {
				roots = append(roots, w.root(uint32(i)))
			}
			root = manifestRoot(w.server.entries, roots)
		}
		answer.Root = b64.EncodeToString(root[:])
		if to := w.lanes[wish.lane]; to != nil {
			to.toFetcher = append(to.toFetcher, &answer)
		}
	}
	w.server.roots = nil
	w.doServer()
}

func (w *world) root(i uint32) Hash {
	return fileRoot(int64(len(w.content[i])), hashesOf(w.content[i]))
}

func (w *world) deliverToFetcher(id int, l *wire) {
	if len(l.toFetcher) == 0 {
		return
	}
	next := l.toFetcher[0]
	l.toFetcher = l.toFetcher[1:]
	var err error
	switch m := next.(type) {
	case *message:
		var parsed *message
		if parsed, err = parseMessage(m.encode()); err == nil {
			err = w.fetcher.message(w.now, id, parsed)
		}
	case *hashList:
		err = w.fetcher.hashList(w.now, id, m)
	case sentBlock:
		var want bool
		want, err = w.fetcher.blockArrived(w.now, id, m.block, m.length, m.hash)
		if want {
			w.disk[m.block] = m.hash
			w.fetcher.kept(w.now, m.block, m.hash)
		}
	}
	if err != nil {
		w.t.Fatalf("the fetcher refuses %T: %v", next, err)
	}
	w.doFetcher()
}

// TestRandomHistories: lanes die, both ends are killed and come back, whatever the order of events; everything arrives, and hardly anything twice.
func TestRandomHistories(t *testing.T) {
	seeds := 60
	if n, err := strconv.Atoi(os.Getenv("MADANG_TRANSFER_SEEDS")); err == nil {
		seeds = n
	}
	first := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("MADANG_TRANSFER_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		w := newWorld(t, seed)
		steps := 0
		for ; !w.over && steps < 200_000; steps++ {
			w.step(steps < 3000)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		if !w.over {
			t.Fatalf("seed %d: not over after %d steps", seed, steps)
		}
		for i := range w.content {
			if !w.final[uint32(i)] {
				t.Fatalf("seed %d: file %d has no name", seed, i)
			}
		}
	}
}

func TestNothingIsSentTwiceOnGoodLanes(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := newWorld(t, seed)
		for steps := 0; !w.over; steps++ {
			w.step(false)
			if steps > 200_000 {
				t.Fatalf("seed %d: not over", seed)
			}
		}
		for b, n := range w.sent {
			if n != 1 {
				t.Errorf("seed %d: block %v was sent %d times", seed, b, n)
			}
		}
		if w.fetcher.resent != 0 {
			t.Errorf("seed %d: %d bytes came for nothing", seed, w.fetcher.resent)
		}
	}
}

// TestADeselectedFileFreesTheWay: what is on its way still counts, nothing else is sent of it, and the others are complete.
func TestADeselectedFileFreesTheWay(t *testing.T) {
	w := newWorld(t, 1)
	w.content = [][]byte{make([]byte, 40*BlockSize), make([]byte, 10*BlockSize)}
	w.startServer()
	w.startFetcher()
	for steps := 0; !w.over; steps++ {
		if steps == 60 {
			w.fetcher.skip(w.now, 0)
			w.doFetcher()
		}
		w.step(false)
		if steps > 100_000 {
			t.Fatal("not over")
		}
	}
	sent := 0
	for b, n := range w.sent {
		if b.file == 0 {
			sent++
		} else if n != 1 {
			t.Errorf("block %v was sent %d times", b, n)
		}
	}
	if sent == 0 || sent == 40 || w.final[0] || !w.final[1] {
		t.Errorf("%d blocks of the deselected file were sent; names: %v", sent, w.final)
	}
}

// TestASenderThatComesBackWithOtherFilesIsRefused: indices would mean other files.
func TestASenderThatComesBackWithOtherFilesIsRefused(t *testing.T) {
	f := newFetcher(nil)
	now := time.Unix(1e9, 0)
	page := func(path string) *message {
		return &message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: path, Size: new(int64(5))}}, Last: true}
	}
	f.addLane(now, 1, "A", true)
	if err := f.message(now, 1, page("a")); err != nil {
		t.Fatal(err)
	}
	f.removeLane(now, 1)
	f.addLane(now, 2, "A", true)
	if err := f.message(now, 2, page("a")); err != nil {
		t.Errorf("the same list: %v", err)
	}
	if err := f.message(now, 2, page("b")); !errors.Is(err, refusal.New(refusal.SourceChanged)) {
		t.Errorf("another list: got %v", err)
	}
}

// TestAMissingPageIsAskedForAgain: once, however many come after it.
func TestAMissingPageIsAskedForAgain(t *testing.T) {
	f := newFetcher(nil)
	now := time.Unix(1e9, 0)
	page := func(from int, last bool) {
		t.Helper()
		m := &message{Type: typeManifest, From: new(uint32(from)), Entries: []Entry{{Path: fmt.Sprint(from), Size: new(int64(5))}}, Last: last}
		if err := f.message(now, 1, m); err != nil {
			t.Fatal(err)
		}
	}
	asked := func() (from []uint32) {
		for _, a := range f.take() {
			if a.kind == doSend && a.msg.Type == typeGetManifest {
				from = append(from, *a.msg.From)
			}
		}
		return from
	}
	f.addLane(now, 1, "A", true)
	page(0, false)
	asked()
	page(2, false)
	page(3, true)
	if got := asked(); !slices.Equal(got, []uint32{1}) {
		t.Errorf("asked for pages from %v, want [1]", got)
	}
	for i := range 4 {
		page(i, i == 3)
	}
	if len(f.entries) != 4 || !f.last || asked() != nil {
		t.Errorf("%d entries, last %t, want 4 and true", len(f.entries), f.last)
	}
}

// TestPagesKeepTheirOrder: a change that comes while another one is being done does not overtake it.
func TestPagesKeepTheirOrder(t *testing.T) {
	var s *sender
	var wg sync.WaitGroup
	add := func(path string) {
		s.change(func() { s.server.add([]Entry{{Path: path, Size: new(int64(1))}}, false) })
	}
	s = &sender{server: newServer(1), ports: map[int]*port{}, cfg: SendConfig{OnEvent: func(Event) {
		// In the midst of the first change. Only who may overtake it does so here and now.
		if s.order.TryLock() {
			s.order.Unlock()
			add("second")
			return
		}
		wg.Go(func() { add("second") })
	}}}
	p := newPort(1, nil)
	s.ports[1] = p
	s.server.addLane(time.Unix(1e9, 0), 1, "A")
	s.server.lanes[1].manifest = 0
	s.change(func() {
		s.server.actions = append(s.server.actions, action{kind: doOver, lane: 2}) // tells OnEvent
		s.server.add([]Entry{{Path: "first", Size: new(int64(1))}}, false)
	})
	wg.Wait()
	var paths []string
	for i, m := range p.outbox {
		if int(*m.From) != i {
			t.Errorf("page %d begins at %d", i, *m.From)
		}
		paths = append(paths, m.Entries[0].Path)
	}
	if !slices.Equal(paths, []string{"first", "second"}) {
		t.Errorf("got pages %v", paths)
	}
}

// TestQuestionsKeepTheirOrder: answers to get-hashes come in the order in which they were asked, and any other is a mistake of the sender's. So the questions go out in the order in which they are
// remembered, whoever else asks meanwhile.
func TestQuestionsKeepTheirOrder(t *testing.T) {
	f := offered(t, Entry{Path: "a", Size: new(int64(9 * BlockSize))}, Entry{Path: "b", Size: new(int64(1))})
	f.take()
	p := newPort(1, nil)
	var r *receiver
	var wg sync.WaitGroup
	ask := func(first uint32) { f.getHashes(f.lanes[1], Range{0, first, 1}) }
	r = &receiver{fetcher: f, server: newServer(0), disk: diskIn(t, t.TempDir(), "aaaaaaaaaaaaaaaa"), ports: map[int]*port{1: p}, cfg: ReceiveConfig{OnEvent: func(Event) {
		if r.order.TryLock() { // in the midst of the first change: only who may overtake it does so here and now
			r.order.Unlock()
			r.change(func() { ask(2) })
			return
		}
		wg.Go(func() { r.change(func() { ask(2) }) })
	}}}
	r.change(func() {
		f.fail(1, refusal.SourceChanged) // tells OnEvent
		ask(1)
	})
	wg.Wait()
	for i, asked := range f.lanes[1].hashing {
		if i >= len(p.outbox) || *p.outbox[i].First != asked.First {
			t.Fatalf("question %d is not that for block %d", i, asked.First)
		}
	}
}

// TestWhatIsOwedFollowsTheWay: a fast near lane owes little, and a long one as much as it carries.
func TestWhatIsOwedFollowsTheWay(t *testing.T) {
	for _, test := range []struct {
		rtt         time.Duration
		least, most int
	}{{2 * time.Millisecond, 1 << 20, windowNear}, {300 * time.Millisecond, 14 << 20, windowMax}} {
		now := time.Unix(1e9, 0)
		f := newFetcher(nil)
		f.addLane(now, 1, "AAAAAAAAAAAAAAAAAAAAAA", true)
		size := int64(1 << 40)
		if err := f.message(now, 1, &message{Type: typeManifest, From: new(uint32(0)), Entries: []Entry{{Path: "a", Size: &size}}, Last: true}); err != nil {
			t.Fatal(err)
		}
		f.accept(now, nil)
		if err := f.message(now, 1, &message{Type: typeAccepted}); err != nil {
			t.Fatal(err)
		}
		// Each want is answered after a round trip, at 100 MB/s.
		type owed struct {
			block
			at time.Time
		}
		var way []owed
		free, most := now, 0
		for end := now.Add(10 * time.Second); now.Before(end); {
			for _, a := range f.take() {
				if a.kind != doSend || a.msg.Type != typeWant {
					continue
				}
				for _, r := range a.msg.Blocks {
					for i := r.First; i < r.First+r.Count; i++ {
						if at := now.Add(test.rtt); at.After(free) {
							free = at
						}
						free = free.Add(BlockSize * 10 * time.Nanosecond)
						way = append(way, owed{block{r.File, i}, free})
					}
				}
			}
			most = max(most, f.lanes[1].owedBytes)
			if len(way) == 0 {
				t.Fatal("nothing is owed")
			}
			now = way[0].at
			if want, err := f.blockArrived(now, 1, way[0].block, BlockSize, Hash{1}); err != nil || !want {
				t.Fatal(want, err)
			}
			f.kept(now, way[0].block, Hash{1})
			way = way[1:]
			f.tick(now)
		}
		t.Logf("%v: at most %.1f MiB", test.rtt, float64(most)/(1<<20))
		if most < test.least || most > test.most+BlockSize {
			t.Errorf("%v: %d bytes were owed, want %d to %d", test.rtt, most, test.least, test.most)
		}
	}
}
