package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

// offered is a fetcher with a lane to a sender that has offered these.
func offered(t *testing.T, entries ...Entry) *fetcher {
	t.Helper()
	f := newFetcher(nil)
	f.addLane(time.Unix(1e9, 0), 1, "S", true)
	if err := f.message(time.Unix(1e9, 0), 1, &message{Type: typeManifest, From: new(uint32(0)), Entries: entries, Last: true}); err != nil {
		t.Fatal(err)
	}
	return f
}

// What nobody has asked for is not kept: one message could make room for billions of hashes.
func TestHashesThatNobodyAskedForAreRefused(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, size := range []*int64{new(int64(maxFileSize)), nil} {
		f := offered(t, Entry{Path: "a", Size: size})
		far := &hashList{File: 0, First: blocks(maxFileSize) - 1, Hashes: make([]Hash, 1)}
		if err := f.hashList(now, 1, far); !errors.Is(err, refusal.New(refusal.Malformed)) {
			t.Errorf("got %v", err)
		}
		if len(f.files[0].trusted) > 0 || len(f.files[0].known) > 0 {
			t.Error("they were kept")
		}
	}
	// What was asked for is taken, once, and no more than that.
	f := offered(t, Entry{Path: "a", Size: new(int64(9 * BlockSize))})
	f.accept(now, nil)
	f.addLane(now, 2, "B", false)
	if err := f.message(now, 2, &message{Type: typeHave, Blocks: []Range{{0, 7, 2}}}); err != nil {
		t.Fatal(err)
	}
	for n, want := range []bool{false, true, false} {
		list := &hashList{File: 0, First: 7, Hashes: make([]Hash, 2)}
		if n == 0 {
			list.Hashes, list.First = make([]Hash, 3), 6
		}
		if err := f.hashList(now, 1, list); (err == nil) != want {
			t.Errorf("list %d: got %v", n, err)
		}
	}
}

// A list of files may be as long as §12 says.
func TestManifestsHaveLimits(t *testing.T) {
	if blocks(maxFileSize) != 1<<26 {
		t.Errorf("the largest file has %d blocks", blocks(maxFileSize))
	}
	long := strings.Repeat(strings.Repeat("x", 255)+"/", 15)
	for name, c := range map[string]struct {
		entry func(i int) Entry
		most  int
		code  refusal.Code
	}{
		"sizes": {func(i int) Entry { return Entry{Path: fmt.Sprint(i), Size: new(int64(maxFileSize))} }, maxFileSizes / maxFileSize, refusal.Malformed},
		"paths": {func(i int) Entry { return Entry{Path: fmt.Sprintf("%s%08d", long, i), Size: new(int64)} }, maxPaths / (len(long) + 8), refusal.Malformed},
		"twice": {func(i int) Entry { return Entry{Path: fmt.Sprint(i % 3), Size: new(int64)} }, 3, refusal.PathUnsafe},
	} {
		f := offered(t)
		f.last = false
		for i := 0; ; i++ {
			err := f.message(time.Unix(1e9, 0), 1, &message{Type: typeManifest, From: new(uint32(i)), Entries: []Entry{c.entry(i)}})
			if i < c.most && err != nil || i == c.most && !errors.Is(err, refusal.New(c.code)) {
				t.Errorf("%s: entry %d: got %v", name, i, err)
			}
			if i == c.most || err != nil {
				break
			}
		}
	}
}

// What a receiver would refuse is not sent, and where it is known at once nobody gets a link: no server is asked here.
func TestWhatNoReceiverTakesIsNotSent(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i := range 5 { // of 15 TiB, with holes
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 15<<40)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	nowhere := Server{URL: "http://127.0.0.1:1"}
	refused := func(err error) {
		t.Helper()
		if r := refusal.From(err); r.Code != refusal.TooLarge || r.Advice == "" {
			t.Errorf("got %v, advice %q", err, r.Advice)
		}
	}
	refused(Send(within(t), SendConfig{Server: nowhere, Paths: paths}))
	refused((&source{}).walk(within(t), []string{dir}, func([]Entry) error { return nil }, nil))

	stream := &streamFile{n: maxFileSize}
	stream.cond = sync.NewCond(&stream.mu)
	refused(stream.pump(strings.NewReader("x"), func(int64) { t.Error("it has an end") }))
	if err := Send(within(t), SendConfig{Server: nowhere, Stream: strings.NewReader("x"), Name: "../x"}); !errors.Is(err, refusal.New(refusal.InvalidField)) {
		t.Errorf("a name that leads out: got %v", err)
	}

	var sum load
	for range maxEntries {
		if !sum.add(Entry{Path: "a", Size: new(int64)}) {
			t.Fatalf("%d entries are too many", sum.entries)
		}
	}
	if sum.add(Entry{Path: "a", Size: new(int64)}) {
		t.Errorf("%d entries are sent", sum.entries)
	}
}

// What another receiver says it has is ranges, of any length and as often as it likes.
func TestLongRangesAreNoWork(t *testing.T) {
	var want, got bitmap
	for _, r := range [][2]uint32{{0, 1}, {63, 1}, {64, 64}, {130, 5}, {190, 4}, {250, 200}, {0, 0}} {
		for i := r[0]; i < r[0]+r[1]; i++ {
			want.set(i)
		}
		got.fill(r[0], r[1])
		if !slices.Equal(want, got) {
			t.Fatalf("with %d bits from %d on: got %x, want %x", r[1], r[0], got, want)
		}
	}
	now := time.Unix(1e9, 0)
	f := offered(t, Entry{Path: "a", Size: new(int64(1 << 40))})
	f.accept(now, nil)
	f.addLane(now, 2, "B", false)
	f.take()
	all := slices.Repeat([]Range{{0, 0, blocks(1 << 40)}}, maxRanges)
	began := time.Now()
	if err := f.message(now, 2, &message{Type: typeHave, Blocks: all}); err != nil {
		t.Fatal(err)
	}
	if err := f.message(now, 1, &message{Type: typeElsewhere, Blocks: all}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("two messages took %v", took)
	}
}

// A named pipe that takes a file's place holds nobody up.
func TestAPipeInTheSourceIsAChange(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no named pipes")
	}
	name := fileOf(t, 3)
	s := &source{}
	if err := s.walk(within(t), []string{name}, func([]Entry) error { return nil }, nil); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `rm "$0" && mkfifo "$0"`, name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, _, err := s.read(within(t), 0, 0, make([]byte, BlockSize)); !errors.Is(err, refusal.New(refusal.SourceChanged)) {
		t.Errorf("got %v", err)
	}
}

// Objects for a depot do not share one connection, although the server would let them.
func TestObjectsHaveConnectionsOfTheirOwn(t *testing.T) {
	versions := make(chan int, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { versions <- r.ProtoMajor }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := bulkTransport()
	defer transport.CloseIdleConnections()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // the server is a line above
	resp, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if v := <-versions; v != 1 {
		t.Errorf("they go over HTTP/%d", v)
	}
}

// Who only looks learns nothing of the content, and has not received it.
func TestNothingIsToldBeforeAccept(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, m := range []*message{{Type: typeGetHashes, File: new(uint32(0)), First: new(uint32(0)), Count: 1}, {Type: typeGetRoot, File: new(uint32(0))}, {Type: typeGetRoot}, {Type: typeComplete}} {
		s := newServer(1)
		s.add([]Entry{{Path: "a", Size: new(int64(3))}}, true)
		s.addLane(now, 1, "A")
		if err := s.message(now, 1, m); err != nil {
			t.Fatal(err)
		}
		if actions := s.take(); len(actions) != 1 || actions[0].msg.Code != string(refusal.NotAccepted) || s.done() {
			t.Errorf("%s: got %+v", m.Type, actions)
		}
	}
}

// A deafLane is one whose other side asks without end, and reads nothing.
type deafLane struct {
	lane
	question []byte
	asked    int
	closed   chan struct{}
}

func (d *deafLane) Recv() (bool, []byte, error) {
	select {
	case <-d.closed:
		return false, nil, errLaneDead
	default:
		d.asked++
		return true, d.question, nil
	}
}
func (d *deafLane) Send(bool, []byte, []byte) error { <-d.closed; return errLaneDead }
func (d *deafLane) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}

// An echo answers each message.
type echo struct{ earshot }

func (*echo) onMessage(p *port, m *message) error { p.post(m); return nil }

func TestAnswersForThoseWhoDoNotReadAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &deafLane{question: (&message{Type: typeGetManifest, From: new(uint32(0))}).encode(), closed: make(chan struct{})}
		p := newPort(1, l)
		p.most = maxAnswers
		done := make(chan struct{}, 2)
		go func() { p.close(p.write(context.Background(), nil)); done <- struct{}{} }()
		go func() { p.close(p.read(&echo{})); done <- struct{}{} }()
		synctest.Wait()
		if l.asked > 2*maxAnswers {
			t.Errorf("%d questions were read", l.asked)
		}
		p.close(errLaneDead)
		<-done
		<-done
	})
}

// Lanes count while they stand, and not only while they are made.
func TestLanesOfOnePeerAreCounted(t *testing.T) {
	node, ticket := startNode(t), NewTicket()
	sender, other := joins(t, node, ticket, roleSender), joins(t, node, ticket, roleReceiver)
	standing := func() int {
		sender.m.mu.Lock()
		defer sender.m.mu.Unlock()
		return sender.m.stand[other.m.session.Peer()]
	}
	go other.m.dial(within(t), other.met(roleSender), true) // ends when hello has come
	l := sender.answer()
	l.hello(roleSender, endOf("S"))
	if n := standing(); n != 1 {
		t.Errorf("%d lanes stand", n)
	}
	sender.m.mu.Lock()
	sender.m.stand["stranger"] = maxLanes
	sender.m.mu.Unlock()
	sender.m.signalled("stranger", signalData{PC: "one more", Native: "{}"})
	sender.m.mu.Lock()
	if len(sender.m.conns) > 0 {
		t.Errorf("lane %d of a peer is answered", maxLanes+1)
	}
	sender.m.mu.Unlock()
	l.l.Close()
	l.l.Close()
	if n := standing(); n != 0 {
		t.Errorf("%d lanes stand after the end", n)
	}
}

// Whatever comes on lanes, from whomever, the machines neither panic nor grow without bound.
func TestMachinesSurviveAnything(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 9))
		now := time.Unix(1e9, 0)
		number := func() uint32 {
			return []uint32{0, 1, uint32(rng.IntN(12)), uint32(rng.IntN(70)), 1<<26 - 1, 1 << 26, 1<<32 - 1}[rng.IntN(7)]
		}
		size := func() *int64 {
			return []*int64{new(int64), nil, new(rng.Int64N(20 * BlockSize)), new(int64(maxFileSize)), new(int64(BlockSize))}[rng.IntN(5)]
		}
		anything := func() *message {
			kinds := []string{typeGetManifest, typeManifest, typeAccept, typeAccepted, typeWant, typeUnwant, typeUnwanted, typeWait, typeElsewhere, typeSize, typeGetRoot, typeRoot, typeGetHashes, typeFailed, typeHave, typeProgress, typePause, typeComplete, typeBye, "else"}
			m := &message{Type: kinds[rng.IntN(len(kinds))], From: new(number()), File: new(number()), First: new(number()), Count: 1 + number()>>6, Size: size(), Root: b64.EncodeToString(make([]byte, 32)), Code: "done", Bytes: new(int64), Last: rng.IntN(3) == 0, Clear: rng.IntN(9) == 0, Fresh: rng.IntN(2) == 0, Alone: rng.IntN(9) == 0}
			if rng.IntN(2) == 0 {
				*m.From = uint32(rng.IntN(4))
			}
			for range rng.IntN(4) {
				m.Entries = append(m.Entries, Entry{Path: fmt.Sprint("f", rng.IntN(1000)), Size: size()})
				r := Range{number(), number(), 1 + uint32(rng.IntN(100))}
				if uint64(r.First)+uint64(r.Count) <= 1<<32 {
					m.Blocks = append(m.Blocks, r)
				}
			}
			if parsed, err := parseMessage(m.encode()); err == nil {
				return parsed
			}
			return &message{Type: typeWait}
		}
		f, s := newFetcher(nil), newServer(rng.IntN(3))
		for lane := range 5 {
			f.addLane(now, lane, fmt.Sprint(lane), lane < 2)
			s.addLane(now, lane, fmt.Sprint(lane))
		}
		f.addDepot(now, 5, "D")
		s.add([]Entry{{Path: "a", Size: new(int64(20 * BlockSize))}, {Path: "b"}}, true)
		for range 400 {
			now = now.Add(time.Duration(rng.IntN(2000)) * time.Millisecond)
			switch rng.IntN(8) {
			case 0:
				f.accept(now, nil)
			case 1:
				list := &hashList{File: number(), First: number(), Hashes: make([]Hash, rng.IntN(3))}
				if f.hashList(now, rng.IntN(6), list) != nil && rng.IntN(4) == 0 {
					lane := rng.IntN(6)
					f.removeLane(now, lane)
					f.addLane(now, lane, fmt.Sprint(lane), lane < 2)
				}
			case 2:
				b := block{number(), number()}
				if want, err := f.blockArrived(now, rng.IntN(6), b, 1+rng.IntN(BlockSize), Hash{}); err == nil && want {
					f.kept(now, b, Hash{})
				}
			case 3:
				f.tick(now)
				s.tick(now)
			default:
				_ = f.message(now, rng.IntN(6), anything())
				_ = s.message(now, rng.IntN(5), anything())
				s.next(rng.IntN(5))
			}
			if rng.IntN(100) == 0 && s.entries[1].Size == nil {
				s.size(1, 3)
			}
			f.take()
			s.take()
		}
	}
}

// A server may say that everything is there.
func TestALyingServersObjectsAreClipped(t *testing.T) {
	for _, size := range []*int64{new(int64(2*BlockSize - 1)), nil} {
		l := &depotLane{ctx: t.Context(), out: make(chan depotMessage, 1), bad: &badObjects{set: map[uint64]bool{}}, state: depotState{Objects: []depot.Range{{depotBlock * depotKind, depotKind}}}}
		l.wake = sync.NewCond(&l.mu)
		if err := l.layout.add(Entry{Path: "a", Size: size}); err != nil {
			t.Fatal(err)
		}
		if err := l.news(); err != nil {
			t.Fatal(err)
		}
		want := "[{0 0 2}]"
		if size == nil {
			want = fmt.Sprint("[{0 0 ", blocks(maxFileSize), "}]")
		}
		m, err := parseMessage((<-l.out).data)
		if err != nil || fmt.Sprint(m.Blocks) != want {
			t.Errorf("got %+v, %v, want %s", m, err, want)
		}
	}
}
