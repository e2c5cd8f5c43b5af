package transfer

import (
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

const waitEach = 5 * time.Second

// A server answers what receivers ask: it decides whom to serve, and in which order. It has no I/O. What it knows of a file's hashes comes from whoever reads the blocks.
//
// One goroutine at a time.
type server struct {
	entries []Entry
	streams map[uint32]bool // entries whose size was not known at first: who asks may not have heard of it
	last    bool
	limit   int // receivers; 0: any number
	takers  map[string]*taker
	lanes   map[int]*serveLane
	actions []action
	paused  bool
	roots   []rootWish

	// Whom each block was promised to, by file and block, where there may be several receivers: the place of the taker in numbers plus one.
	given   [][]uint32
	numbers []*taker
}

// A rootWish is a root that somebody waits for; file -1 is the manifest.
type rootWish struct {
	lane int
	file int64
}

type taker struct {
	paused   bool // says its user
	number   uint32
	lanes    int  // that have accepted and stand
	keeps    bool // gives nothing to other receivers
	complete bool
	bytes    int64
}

type serveLane struct {
	id       int
	end      string
	receiver bool // another receiver asks: there is no manifest, and no accepting
	manifest int  // next entry to send; -1: was not asked
	accepted bool
	owed     []Range
	count    int  // blocks in owed
	giving   bool // one more is being read, or sent
	unwant   bool
	spoke    time.Time
	ended    bool
}

func newServer(limit int) *server {
	return &server{limit: limit, streams: map[uint32]bool{}, takers: map[string]*taker{}, lanes: map[int]*serveLane{}}
}

func (s *server) take() []action {
	a := s.actions
	s.actions = nil
	return a
}

func (s *server) send(lane int, m message) {
	s.actions = append(s.actions, action{kind: doSend, lane: lane, msg: &m})
}

func (s *server) addLane(now time.Time, id int, end string) {
	l := &serveLane{id: id, end: end, manifest: -1, spoke: now}
	s.lanes[id] = l
	if s.takers[end] != nil {
		s.accept(l) // on another lane, or in an earlier life
	}
}

func (s *server) accept(l *serveLane) {
	if !l.accepted {
		l.accepted = true
		s.takers[l.end].lanes++
	}
}

// addReceiver is a lane to another receiver: there is no manifest, and no accepting; whoever reads the blocks knows which there are.
func (s *server) addReceiver(now time.Time, id int, end string) {
	s.lanes[id] = &serveLane{id: id, end: end, manifest: -1, spoke: now, receiver: true}
}

func (s *server) removeLane(id int) {
	if l := s.lanes[id]; l != nil {
		s.takeBack(l)
		if t := s.takers[l.end]; t != nil && l.accepted {
			t.lanes--
		}
	}
	delete(s.lanes, id)
	s.roots = slices.DeleteFunc(s.roots, func(r rootWish) bool { return r.lane == id })
}

// add brings new entries; last: there are no more.
func (s *server) add(entries []Entry, last bool) {
	s.entries = append(s.entries, entries...)
	s.last = s.last || last
	for _, id := range slices.Sorted(laneIDs(s.lanes)) {
		s.page(s.lanes[id])
	}
}

func laneIDs[L any](lanes map[int]L) func(func(int) bool) {
	return func(yield func(int) bool) {
		for id := range lanes {
			if !yield(id) {
				return
			}
		}
	}
}

// page sends what a lane has not seen of the manifest.
func (s *server) page(l *serveLane) {
	if l.manifest < 0 {
		return
	}
	for {
		m := manifestPage(s.entries, l.manifest, s.last)
		if len(m.Entries) == 0 && !m.Last {
			return
		}
		s.send(l.id, m)
		l.manifest += len(m.Entries)
		if m.Last {
			l.manifest = -1
			return
		}
	}
}

func (s *server) sum() (sum int64, known bool) { return sumOf(s.entries) }

func sumOf(entries []Entry) (sum int64, known bool) {
	for _, e := range entries {
		if e.Size == nil {
			return 0, false
		}
		sum += *e.Size
	}
	return sum, true
}

// manifestPage is as many entries from one on as fit into a message; last says whether the list has an end.
func manifestPage(entries []Entry, from int, last bool) message {
	n, size := 0, 0
	for from+n < len(entries) {
		// A path may need six bytes for each of its own in JSON.
		size += 6*len(entries[from+n].Path) + 100
		if n > 0 && size > maxJSON-1024 {
			break
		}
		n++
	}
	m := message{Type: typeManifest, From: new(uint32(from)), Entries: entries[from : from+n], Last: last && from+n == len(entries)}
	if m.Last {
		if sum, known := sumOf(entries); known {
			m.Bytes = &sum
		}
	}
	return m
}

// message takes what came on a lane. An error is the other side's fault, and ends the lane.
func (s *server) message(now time.Time, lane int, m *message) error {
	l := s.lanes[lane]
	if l == nil || l.ended {
		return nil
	}
	switch m.Type {
	case typeGetManifest:
		if int(*m.From) > len(s.entries) {
			return malformed("get-manifest: from")
		}
		l.manifest = int(*m.From)
		s.page(l)
	case typeGetHashes, typeGetRoot, typeComplete:
		if !l.accepted {
			s.bye(l, refusal.NotAccepted)
			return nil
		}
		return s.acceptedMessage(l, m)
	case typeAccept:
		if code := s.redeem(l.end); code != "" {
			s.bye(l, code)
			return nil
		}
		s.takers[l.end].keeps = m.Gives != nil && !*m.Gives
		for _, o := range s.lanes {
			if o.end == l.end {
				s.accept(o)
			}
		}
		s.send(lane, message{Type: typeAccepted, Alone: s.limit == 1})
		if s.paused {
			s.send(lane, message{Type: typePause, On: true})
		}
	case typeWant:
		return s.want(now, l, m.Blocks, m.Fresh)
	case typeUnwant:
		s.takeBack(l)
		l.owed, l.count, l.unwant = nil, 0, true
	case typeProgress:
		if t := s.takers[l.end]; t != nil {
			t.bytes = *m.Bytes
		}
	case typeBye:
		l.ended = true
		code := theirs(refusal.Code(m.Code)).Code
		if code == refusal.Done { // which only a sender can say
			code = refusal.Malformed
		}
		s.actions = append(s.actions, action{kind: doOver, lane: lane, code: code})
	}
	return nil
}

// acceptedMessage takes what only an end that has accepted may say: who only looks learns nothing of the content.
func (s *server) acceptedMessage(l *serveLane, m *message) error {
	switch m.Type {
	case typeGetRoot:
		if m.File != nil && int(*m.File) >= len(s.entries) {
			return malformed("get-root: file")
		}
		w := rootWish{l.id, -1}
		if m.File != nil {
			w.file = int64(*m.File)
		}
		if !slices.Contains(s.roots, w) {
			s.roots = append(s.roots, w)
		}
	case typeGetHashes:
		if int(*m.File) >= len(s.entries) {
			return malformed("get-hashes: file")
		}
		s.actions = append(s.actions, action{kind: doHashes, lane: l.id, msg: m})
	case typeComplete:
		s.bye(l, refusal.Done)
		s.takers[l.end].complete = true
		s.actions = append(s.actions, action{kind: doComplete, lane: l.id})
	}
	return nil
}

// pause holds blocks back; lanes on which some are owed hear wait meanwhile.
func (s *server) pause(on bool) {
	s.paused = on
	for _, id := range slices.Sorted(laneIDs(s.lanes)) {
		if l := s.lanes[id]; l.accepted && !l.ended {
			s.send(id, message{Type: typePause, On: on})
		}
	}
}

// redeem gives the link to an end, or says why not.
func (s *server) redeem(end string) refusal.Code {
	if s.takers[end] != nil {
		return ""
	}
	if s.limit > 0 && len(s.takers) >= s.limit {
		return refusal.TransferTaken
	}
	t := &taker{number: uint32(len(s.numbers) + 1)}
	s.takers[end], s.numbers = t, append(s.numbers, t)
	return ""
}

func (s *server) bye(l *serveLane, code refusal.Code) {
	s.takeBack(l)
	l.ended, l.owed, l.count = true, nil, 0
	s.send(l.id, message{Type: typeBye, Code: string(code)})
}

func (s *server) want(now time.Time, l *serveLane, ranges []Range, fresh bool) error {
	if !l.accepted && !l.receiver {
		s.bye(l, refusal.NotAccepted)
		return nil
	}
	if l.count == 0 {
		l.spoke = now
	}
	var elsewhere []Range
	for _, r := range ranges {
		if l.receiver {
			l.owe(r)
			continue
		}
		if int(r.File) >= len(s.entries) {
			return malformed("want: file")
		}
		e := s.entries[r.File]
		if e.Size != nil && s.streams[r.File] {
			n := blocks(*e.Size)
			if r.First >= n {
				continue
			}
			r.Count = min(r.Count, n-r.First)
		}
		switch {
		case e.Size != nil && uint64(r.First)+uint64(r.Count) > uint64(blocks(*e.Size)):
			return malformed("want: block")
		case l.count+int(r.Count) > maxOwed:
			return refusal.New(refusal.CreditExceeded)
		case e.Size == nil || s.limit == 1:
			l.owe(r)
		default:
			elsewhere = s.promise(l, r, fresh, elsewhere)
		}
	}
	for len(elsewhere) > 0 {
		n := min(len(elsewhere), maxRanges)
		s.send(l.id, message{Type: typeElsewhere, Blocks: elsewhere[:n]})
		elsewhere = elsewhere[n:]
	}
	if l.count > maxOwed {
		return refusal.New(refusal.CreditExceeded)
	}
	return nil
}

func (l *serveLane) owe(r Range) {
	l.count += int(r.Count)
	l.owed = append(l.owed, r)
}

// promise owes a lane what it wants. With fresh, what other receivers who are here have been promised is not owed but added to the list, with
// all that was promised around it: the next want is to begin elsewhere too.
func (s *server) promise(l *serveLane, r Range, fresh bool, elsewhere []Range) []Range {
	for int(r.File) >= len(s.given) {
		s.given = append(s.given, nil)
	}
	given, n := s.given[r.File], blocks(*s.entries[r.File].Size)
	if given == nil {
		given = make([]uint32, n)
		s.given[r.File] = given
	}
	me := s.takers[l.end].number
	others := func(i uint32) bool {
		t := given[i]
		return t != 0 && t != me && s.numbers[t-1].lanes > 0
	}
	for i, end := r.First, r.First+r.Count; i < end; {
		first, away := i, fresh && others(i)
		for i < end && (fresh && others(i)) == away {
			if !away && !others(i) && !s.takers[l.end].keeps {
				given[i] = me
			}
			i++
		}
		if !away {
			l.owe(Range{r.File, first, i - first})
			continue
		}
		for first > 0 && others(first-1) {
			first--
		}
		last := i
		for last < n && others(last) {
			last++
		}
		if k := len(elsewhere); k == 0 || elsewhere[k-1].File != r.File || elsewhere[k-1].First > first || elsewhere[k-1].First+elsewhere[k-1].Count < last {
			elsewhere = append(elsewhere, Range{r.File, first, last - first})
		}
	}
	return elsewhere
}

// takeBack forgets the promises that were not kept yet.
func (s *server) takeBack(l *serveLane) {
	t := s.takers[l.end]
	if t == nil {
		return
	}
	for _, r := range l.owed {
		if int(r.File) >= len(s.given) || s.given[r.File] == nil {
			continue
		}
		for i := r.First; i < r.First+r.Count; i++ {
			if s.given[r.File][i] == t.number {
				s.given[r.File][i] = 0
			}
		}
	}
}

// next is what to send next on a lane; ok is false if nothing is owed.
func (s *server) next(lane int) (b block, ok bool) {
	l := s.lanes[lane]
	if l == nil {
		return b, false
	}
	l.giving = false
	if s.paused {
		return b, false
	}
	if l.unwant {
		// What is being sent has been handed over by now: this comes after the last block.
		l.unwant = false
		s.send(lane, message{Type: typeUnwanted})
	}
	if len(l.owed) == 0 {
		return b, false
	}
	l.giving = true
	r := &l.owed[0]
	b = block{r.File, r.First}
	r.First++
	r.Count--
	l.count--
	if r.Count == 0 {
		l.owed = l.owed[1:]
	}
	return b, true
}

// size says how long a stream was.
func (s *server) size(i uint32, size int64) {
	s.entries[i].Size, s.streams[i] = &size, true
	for _, l := range s.lanes {
		l.owed = slices.DeleteFunc(l.owed, func(r Range) bool {
			void := r.File == i && r.First >= blocks(size)
			if void {
				l.count -= int(r.Count)
			}
			return void
		})
		for k := range l.owed {
			if r := &l.owed[k]; r.File == i && r.First+r.Count > blocks(size) {
				l.count -= int(r.First + r.Count - blocks(size))
				r.Count = blocks(size) - r.First
			}
		}
		if l.accepted {
			s.send(l.id, message{Type: typeSize, File: &i, Size: &size})
		}
	}
}

// fail tells everybody that a file cannot be had.
func (s *server) fail(i uint32, code refusal.Code) {
	for _, l := range s.lanes {
		l.owed = slices.DeleteFunc(l.owed, func(r Range) bool {
			if r.File == i {
				l.count -= int(r.Count)
			}
			return r.File == i
		})
		if l.accepted {
			s.send(l.id, message{Type: typeFailed, File: &i, Code: string(code)})
		}
	}
	s.roots = slices.DeleteFunc(s.roots, func(r rootWish) bool { return r.file == int64(i) })
}

// done reports whether all for whom the link is have everything.
func (s *server) done() bool {
	complete := 0
	for _, t := range s.takers {
		if t.complete {
			complete++
		}
	}
	return s.limit > 0 && complete >= s.limit
}

// tick says wait on lanes where something is owed and nothing was said for a while.
func (s *server) tick(now time.Time) {
	for _, l := range s.lanes {
		owes := l.count > 0 || l.giving || slices.ContainsFunc(s.roots, func(r rootWish) bool { return r.lane == l.id })
		if owes && now.Sub(l.spoke) >= waitEach {
			l.spoke = now
			s.send(l.id, message{Type: typeWait})
		}
	}
}

// spoke: something was sent on a lane.
func (s *server) spoke(now time.Time, lane int) {
	if l := s.lanes[lane]; l != nil {
		l.spoke = now
	}
}
