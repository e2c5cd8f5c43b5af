package transfer

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Pace of a fetcher.
const (
	windowFirst  = 1 << 20                // bytes owed on a new lane; it grows with what arrives
	windowMin    = 1 << 20                // least of a lane that has shown what it can
	windowNear   = 12 << 20               // bytes owed on all lanes, whatever a round trip brings: for disks and cores that are busy now and then
	windowStep   = 2 << 20                // bytes owed on a lane beyond what arrives in a round trip, so that it can show more
	windowShared = 512 << 10              // least of a lane while other receivers may have blocks before the sender gives them
	windowTime   = 500 * time.Millisecond // what may be owed then, at the lane's rate
	windowMax    = 16 << 20               // bytes owed on a lane
	windowSum    = 32 << 20               // bytes owed on all lanes, beyond windowMin for each
	owedBlocks   = 512                    // on a lane; half of what a sender must remember
	laneDead     = 15 * time.Second
	laneEvery    = 2 * time.Second       // between two attempts to be faster with one lane more
	laneGain     = 1.10                  // what a new lane must bring, at least
	laneWorth    = 8 << 20               // bytes that must be left, and those of two seconds
	laneLong     = 20 * time.Millisecond // round trip from which on the first rates say little: what slow start reaches is lost again with the first packet
	laneMisses   = 3                     // lanes in a row that may bring nothing there
	fetchLanes   = 8
	progressEach = time.Second
	haveEach     = 100 * time.Millisecond
	patience     = 3 * time.Second  // without a block from anybody, or longer where they are rare, until the sender is asked for what others were given
	helpAfter    = 5 * time.Second  // in which the sender has owed nothing, until what others pass on is weighed
	helpLeft     = 10 * time.Second // that the rest may take at the rate of the others
	helpGain     = 4                // times faster that the sender has been
	rarestOf     = 64               // blocks that are compared
	rootAttempts = 3
)

// An action is what a fetcher or a server wants done. Exactly one of its kinds is meant.
type action struct {
	kind actionKind
	lane int
	msg  *message
	file uint32
	code refusal.Code
}

type actionKind int

const (
	doSend     actionKind = iota // msg on lane
	doClose                      // lane, since the other side does not keep to the protocol (code), or is dead (empty)
	doOpen                       // one more lane to the sender
	doEntries                    // entries have come: from file on
	doFinish                     // file is complete and verified: give it its final name, then call finished
	doFailed                     // file cannot be had: code
	doComplete                   // all is over
	doOver                       // the other side says bye: code
	doHashes                     // of the server: answer msg, a get-hashes, on lane
)

type block struct{ file, index uint32 }

type fileState int

const (
	fileWaits     fileState = iota // not chosen yet
	fileFetch                      // blocks are missing
	fileRooting                    // waits for its root
	fileCompare                    // the root differs: waits for hashes
	fileFinishing                  // is being given its name
	fileDone
	fileFailed
	fileSkipped
)

type fetchFile struct {
	state   fileState
	size    int64 // -1: not known yet
	have    bitmap
	asked   bitmap          // and not arrived
	hashes  []Hash          // of those that it has
	trusted map[uint32]Hash // said by the sender of blocks that are missing, for those from other receivers
	known   bitmap          // of trusted
	had     uint32          // blocks
	bytes   int64           // of those
	cursor  uint32          // all blocks below are had or asked

	// Among several receivers.
	offered bitmap // another receiver has it, as it says
	away    bitmap // the sender has promised it to another one
	hashing bitmap // asked for the hash, for trusted
	spread  uint32 // where this receiver goes on

	compared uint32 // hashes below were compared
	attempts int
	root     Hash
	rootLane int // where it was asked; 0: nowhere
}

func (f *fetchFile) blocks() uint32 {
	if f.size < 0 {
		return blocks(maxFileSize)
	}
	return blocks(f.size)
}

func (f *fetchFile) length(i uint32) int {
	if f.size < 0 {
		return BlockSize
	}
	return blockLength(f.size, i)
}

func (f *fetchFile) complete() bool { return f.size >= 0 && f.had == blocks(f.size) }

type fetchLane struct {
	id        int
	end       string
	sender    bool
	depot     bool          // and it is not the sender, but what it has left on the server
	owed      map[block]int // length
	owedBytes int
	window    int           // bytes that may be owed
	rate      float64       // bytes a second
	got       int64         // since measured
	asked     time.Time     // when something was wanted of an idle lane; zero: it has come
	rtt       time.Duration // the shortest time to the first block then; 0: not known
	measured  time.Time
	heard     time.Time
	accepted  bool
	unwanting bool      // nothing may be asked until unwanted has come
	hashing   []Range   // get-hashes without an answer, in order
	moved     time.Time // when it has given a block, or was asked for the first
	slow      bool      // it has given nothing for long: it is asked for no more until it does

	// To another receiver, or a depot.
	remote map[uint32]*bitmap // what it has
	early  []Range            // of files that the sender has not told us about yet
	ready  []uint32           // files of which it may have something for us
	queued bitmap             // of ready
}

// A fetcher decides what to ask for next, and of whom. It has no I/O: its methods take what has happened and the time, and leave actions.
//
// One goroutine at a time.
type fetcher struct {
	entries  []Entry
	paths    map[string]bool // of entries
	load     load            // of entries
	files    []*fetchFile
	last     bool // entries are complete
	chosen   bool // the user has accepted
	choose   func(i uint32, e Entry) bool
	resume   func(i uint32, e Entry) []Hash // zero hash: not had
	lanes    map[int]*fetchLane
	first    int  // files below need no more asking
	covered  bool // nothing is missing that no depot has
	asked    int  // how many entries the sender was asked for beyond, when a page was missing
	paused   bool
	over     bool
	all      bool // everything was chosen and nothing failed
	root     rootState
	rootLane int
	actions  []action

	// Among several receivers.
	told    bool          // a sender has said accepted
	alone   bool          // and that the link is for this receiver alone
	place   float64       // 0 to 1: where to begin
	company bool          // there are others, with a lane or without
	turn    int           // the file to look at next
	dry     bool          // nothing is left that nobody else has
	gained  time.Time     // when the last block came that was of use
	between time.Duration // such blocks come about this long after each other
	asking  int           // after so much patience: 1: once more for what others were given; 2: for anything
	needy   time.Time     // since when for anything
	liars   map[string]bool
	given   int64         // bytes from the sender
	owing   time.Duration // in which it has owed something
	ticked  time.Time
	weighed time.Time // since when the sender has owed nothing, or what others pass on was weighed last
	passed  int64     // bytes from others since then
	helped  bool      // they are too slow: asking is 2, also while something comes from them

	bytes, arrived, resent int64 // verified and kept; arrived in this life; of those, had already
	news                   []Range
	nextProgress, nextHave time.Time

	// Lanes are added while that makes it faster.
	nextLane    time.Time
	rateBytes   int64
	rateSince   time.Time
	lastRate    float64
	misses      int
	maxLanes    int
	lanesWanted int
	opening     int
}

type rootState int

const (
	rootNone rootState = iota
	rootAsked
	rootKnown
)

// newFetcher: resume gives the hashes of blocks that are there already; nil: none.
func newFetcher(resume func(i uint32, e Entry) []Hash) *fetcher {
	return &fetcher{paths: map[string]bool{}, lanes: map[int]*fetchLane{}, resume: resume, all: true, maxLanes: fetchLanes, lanesWanted: 1, asked: -1, liars: map[string]bool{}}
}

func (f *fetcher) take() []action {
	a := f.actions
	f.actions = nil
	return a
}

func (f *fetcher) send(lane int, m message) {
	f.actions = append(f.actions, action{kind: doSend, lane: lane, msg: &m})
}

// addLane: hello has been said on both sides.
func (f *fetcher) addLane(now time.Time, id int, end string, sender bool) {
	l := &fetchLane{id: id, end: end, sender: sender, owed: map[block]int{}, window: windowFirst, measured: now, heard: now, remote: map[uint32]*bitmap{}}
	if !sender && (f.alone || f.liars[end]) {
		f.actions = append(f.actions, action{kind: doClose, lane: id})
		return
	}
	f.lanes[id] = l
	if sender {
		f.opening = 0
		from := uint32(len(f.entries))
		if len(f.senders()) == 1 {
			from = 0 // it may be a sender that was started again: its list must be the same
		}
		if from == 0 || !f.last {
			f.send(id, message{Type: typeGetManifest, From: &from})
		}
		if f.chosen {
			f.send(id, message{Type: typeAccept})
		}
		f.askSenderInstead()
		f.askRoots(id)
		f.askHashesOfOthers()
	} else {
		l.accepted, f.company = true, true
		if f.told {
			f.sayAll(id)
		}
	}
	f.rateSince, f.rateBytes = now, f.arrived
	f.nextLane = now.Add(laneEvery)
	f.request(now)
}

// gives reports whether other receivers may have something from here.
func (f *fetcher) gives() bool { return f.told && !f.alone }

func (f *fetcher) sayAll(lane int) {
	var ranges []Range
	for i, file := range f.files {
		ranges = append(ranges, file.have.ranges(uint32(i))...)
	}
	f.sayHave(lane, ranges)
}

// accepted: a sender gives blocks, to us and to others, or to us alone.
func (f *fetcher) accepted(l *fetchLane, alone bool) {
	l.accepted = true
	first := !f.told
	f.told, f.alone = true, f.alone || alone
	for _, id := range slices.Sorted(maps.Keys(f.lanes)) {
		switch {
		case f.lanes[id].sender:
		case f.alone:
			f.actions = append(f.actions, action{kind: doClose, lane: id})
		case first:
			f.sayAll(id)
		}
	}
	if first {
		f.news = nil
	}
}

func (f *fetcher) sayHave(lane int, ranges []Range) {
	for len(ranges) > 0 {
		n := min(len(ranges), maxRanges)
		f.send(lane, message{Type: typeHave, Blocks: ranges[:n]})
		ranges = ranges[n:]
	}
}

// removeLane gives back what was asked there.
func (f *fetcher) removeLane(now time.Time, id int) {
	l := f.lanes[id]
	if l == nil {
		return
	}
	delete(f.lanes, id)
	f.giveBack(l)
	f.forgetRemote(l)
	for _, r := range l.hashing {
		file := f.files[r.File]
		for i := r.First; i < r.First+r.Count; i++ {
			file.hashing.clear(i)
		}
	}
	for _, file := range f.files {
		if file.rootLane == id {
			file.rootLane = 0
		}
	}
	if f.rootLane == id {
		f.root, f.rootLane = rootNone, 0
	}
	f.covered = f.covered && !l.depot
	f.dry = f.dry && !l.depot
	if s := f.sources(); len(s) > 0 {
		f.askRoots(s[0].id)
		f.askHashesOfOthers()
		if !f.last {
			from := uint32(len(f.entries))
			f.send(s[0].id, message{Type: typeGetManifest, From: &from})
		}
	}
	f.request(now)
}

func (f *fetcher) giveBack(l *fetchLane) {
	for b := range l.owed {
		f.release(b)
	}
	clear(l.owed)
	l.owedBytes = 0
}

// release makes a block that was asked for one that is missing.
func (f *fetcher) release(b block) {
	file := f.files[b.file]
	file.asked.clear(b.index)
	file.cursor = min(file.cursor, b.index)
	f.stock(b.file)
}

// accept: the user agrees to those that choose says; nil: to all.
func (f *fetcher) accept(now time.Time, choose func(i uint32, e Entry) bool) {
	if f.chosen {
		return
	}
	f.chosen, f.choose = true, choose
	f.turn = int(f.place * float64(len(f.files)))
	for _, l := range f.sources() {
		f.send(l.id, message{Type: typeAccept})
	}
	for i := range f.entries {
		f.begin(uint32(i))
	}
	f.askHashesOfOthers()
	f.settle(now)
}

// skip deselects a file in mid-transfer.
func (f *fetcher) skip(now time.Time, i uint32) {
	file := f.files[i]
	if file.state != fileFetch && file.state != fileWaits {
		return
	}
	f.all = false
	file.state = fileSkipped
	for _, l := range f.sources() {
		if len(l.owed) > 0 && !l.unwanting {
			l.unwanting = true // and ask for the rest again once what is on its way has come
			f.send(l.id, message{Type: typeUnwant})
		}
	}
	f.settle(now)
}

func (f *fetcher) giveBackFile(l *fetchLane, file uint32) {
	for b, n := range l.owed {
		if b.file == file {
			delete(l.owed, b)
			l.owedBytes -= n
			f.release(b)
		}
	}
}

// pause stops asking; what was asked still comes.
func (f *fetcher) pause(now time.Time, on bool) {
	f.paused = on
	for _, l := range f.sources() {
		f.send(l.id, message{Type: typePause, On: on})
	}
	f.request(now)
}

// begin makes a file wanted, with what is there already.
func (f *fetcher) begin(i uint32) {
	e, file := f.entries[i], f.files[i]
	if file.state != fileWaits { // its sender has said already that it cannot be had
		return
	}
	if f.choose != nil && !f.choose(i, e) {
		file.state, f.all = fileSkipped, false
		return
	}
	file.state = fileFetch
	f.stock(i)
	if f.resume != nil {
		for index, h := range f.resume(i, e) {
			if h != (Hash{}) {
				f.keep(file, uint32(index), h)
			}
		}
		f.news = append(f.news, file.have.ranges(i)...)
	}
	f.check(i)
}

func (f *fetcher) keep(file *fetchFile, index uint32, h Hash) {
	if !file.have.set(index) {
		return
	}
	for int(index) >= len(file.hashes) {
		file.hashes = append(file.hashes, Hash{})
	}
	file.hashes[index] = h
	delete(file.trusted, index)
	file.known.clear(index)
	n := int64(file.length(index))
	file.had++
	file.bytes += n
	f.bytes += n
}

// check moves a file on when its last block is there.
func (f *fetcher) check(i uint32) {
	file := f.files[i]
	if file.state != fileFetch || !file.complete() {
		return
	}
	if f.entries[i].Dir {
		file.state = fileFinishing
		f.actions = append(f.actions, action{kind: doFinish, file: i})
		return
	}
	file.state = fileRooting
	if s := f.sources(); len(s) > 0 {
		f.askRoot(s[0].id, i)
	}
}

func (f *fetcher) askRoot(lane int, i uint32) {
	f.files[i].rootLane = lane
	f.send(lane, message{Type: typeGetRoot, File: &i})
}

func (f *fetcher) askRoots(lane int) {
	for i, file := range f.files {
		switch {
		case file.state == fileRooting && file.rootLane == 0:
			f.askRoot(lane, uint32(i))
		case file.state == fileCompare && file.rootLane == 0:
			f.askHashes(lane, uint32(i))
		}
	}
	f.askManifestRoot(lane)
}

func (f *fetcher) askHashes(lane int, i uint32) {
	file := f.files[i]
	file.rootLane = lane
	f.getHashes(f.lanes[lane], Range{i, file.compared, min(maxHashes, file.blocks()-file.compared)})
}

func (f *fetcher) getHashes(l *fetchLane, r Range) {
	l.hashing = append(l.hashing, r)
	f.send(l.id, message{Type: typeGetHashes, File: &r.File, First: &r.First, Count: r.Count})
}

// settled reports whether nothing is left to fetch.
func (f *fetcher) settled() bool {
	if !f.last || !f.chosen {
		return false
	}
	for f.first < len(f.files) {
		switch f.files[f.first].state {
		case fileDone, fileFailed, fileSkipped:
			f.first++
			continue
		}
		return false
	}
	return true
}

func (f *fetcher) askManifestRoot(lane int) {
	if f.root == rootNone && f.settled() && f.all && len(f.entries) > 0 {
		f.root, f.rootLane = rootAsked, lane
		f.send(lane, message{Type: typeGetRoot})
	}
}

// settle ends the transfer if it is done, and asks for more if not.
func (f *fetcher) settle(now time.Time) {
	if f.over {
		return
	}
	if f.settled() {
		if f.all && f.root != rootKnown && len(f.entries) > 0 {
			if s := f.sources(); len(s) > 0 {
				f.askManifestRoot(s[0].id)
			}
			return
		}
		f.over = true
		f.sayNews(now)
		for _, l := range f.sources() {
			f.send(l.id, message{Type: typeProgress, Bytes: new(f.bytes), Done: true})
			f.send(l.id, message{Type: typeComplete})
		}
		f.actions = append(f.actions, action{kind: doComplete})
		return
	}
	f.request(now)
}

// message takes what came on a lane. An error is the other side's fault, and ends the lane.
func (f *fetcher) message(now time.Time, lane int, m *message) error {
	l := f.lanes[lane]
	if l == nil {
		return nil
	}
	l.heard = now
	if !l.sender {
		switch m.Type {
		case typeHave:
			if m.Clear {
				f.forgetRemote(l)
			}
			f.remoteHas(l, m.Blocks)
			f.request(now)
		case typeBye:
			f.actions = append(f.actions, action{kind: doClose, lane: lane})
		}
		return nil
	}
	switch m.Type {
	case typeManifest:
		return f.manifest(now, l, m)
	case typeHave:
		if l.depot {
			f.depotHas(l, m.Blocks)
			f.request(now)
		}
	case typeAccepted:
		f.accepted(l, m.Alone)
		f.request(now)
	case typeUnwanted:
		l.unwanting = false
		f.giveBack(l)
		f.request(now)
	case typeElsewhere:
		return f.elsewhere(now, l, m.Blocks)
	case typeSize:
		return f.size(now, *m.File, *m.Size)
	case typeRoot:
		return f.rootCame(now, l, m)
	case typeFailed:
		if int(*m.File) >= len(f.files) {
			return malformed("failed: file")
		}
		f.fail(*m.File, theirs(refusal.Code(m.Code)).Code)
		f.settle(now)
	case typeBye:
		f.over = true
		f.actions = append(f.actions, action{kind: doOver, lane: lane, code: refusal.Code(m.Code)})
	}
	return nil
}

func (f *fetcher) fail(i uint32, code refusal.Code) {
	file := f.files[i]
	if file.state == fileDone || file.state == fileFailed || file.state == fileSkipped || file.state == fileFinishing {
		return
	}
	file.state, f.all = fileFailed, false
	for _, l := range f.lanes {
		f.giveBackFile(l, i)
	}
	f.actions = append(f.actions, action{kind: doFailed, file: i, code: code})
}

func (f *fetcher) manifest(now time.Time, l *fetchLane, m *message) error {
	from, have := int(*m.From), len(f.entries)
	if from > have {
		// A page is missing. It is asked for once, however many follow it.
		if f.asked != have {
			f.asked = have
			f.send(l.id, message{Type: typeGetManifest, From: new(uint32(have))})
		}
		return nil
	}
	for i, e := range m.Entries[:min(len(m.Entries), have-from)] {
		known := f.entries[from+i]
		if known.Size == nil && e.Size != nil {
			if err := f.size(now, uint32(from+i), *e.Size); err != nil {
				return err
			}
			e.Size = nil
		}
		if known.Path != e.Path || known.Dir != e.Dir || known.MtimeMs != e.MtimeMs || e.Size != nil && *e.Size != *known.Size {
			return refusal.New(refusal.SourceChanged).With("path", known.Path)
		}
	}
	if f.last {
		return nil
	}
	if len(m.Entries) > have-from {
		for _, e := range m.Entries[have-from:] {
			switch {
			case !f.load.add(e):
				return malformed("too many entries, or too large ones")
			case f.paths[e.Path]:
				return refusal.New(refusal.PathUnsafe).With("path", e.Path)
			}
			f.paths[e.Path] = true
			f.entries = append(f.entries, e)
			f.files = append(f.files, &fetchFile{size: e.size(), spread: uint32(f.place * float64(blocks(max(0, e.size()))))})
		}
		f.actions = append(f.actions, action{kind: doEntries, file: uint32(have)})
		f.dry, f.covered = false, false
		for _, l := range f.lanes {
			early := l.early
			l.early = nil
			f.remoteHas(l, early)
		}
	}
	if m.Last && from+len(m.Entries) == len(f.entries) {
		f.last = true
	}
	if f.chosen {
		for i := have; i < len(f.entries); i++ {
			f.begin(uint32(i))
		}
	}
	f.settle(now)
	return nil
}

func (f *fetcher) size(now time.Time, i uint32, size int64) error {
	if int(i) >= len(f.files) || f.files[i].size >= 0 && f.files[i].size != size {
		return malformed("size")
	}
	file := f.files[i]
	if file.size >= 0 {
		return nil
	}
	if f.load.sizes += size; f.load.sizes > maxFileSizes {
		return malformed("size")
	}
	file.size, f.entries[i].Size = size, &size // the manifest's root is over it
	n := blocks(size)
	file.bytes, f.bytes = 0, f.bytes-file.bytes
	for index := range uint32(len(file.have) * 64) {
		if !file.have.has(index) {
			continue
		}
		if index >= n {
			return malformed("size: smaller than what was sent")
		}
		file.bytes += int64(blockLength(size, index))
	}
	f.bytes += file.bytes
	for _, l := range f.lanes {
		for b, length := range l.owed {
			if b.file != i {
				continue
			}
			l.owedBytes -= length
			if b.index >= n {
				delete(l.owed, b)
				file.asked.clear(b.index)
				continue
			}
			l.owed[b] = blockLength(size, b.index)
			l.owedBytes += l.owed[b]
		}
	}
	f.check(i)
	f.settle(now)
	return nil
}

func (f *fetcher) rootCame(now time.Time, l *fetchLane, m *message) error {
	root, err := m.root()
	if err != nil {
		return err
	}
	if m.File == nil {
		if f.root != rootAsked {
			return nil
		}
		roots := make([]Hash, len(f.files))
		for i, file := range f.files {
			roots[i] = file.root
		}
		if manifestRoot(f.entries, roots) != root {
			return refusal.New(refusal.Corrupt)
		}
		f.root = rootKnown
		f.settle(now)
		return nil
	}
	if int(*m.File) >= len(f.files) {
		return malformed("root: file")
	}
	i := *m.File
	file := f.files[i]
	if file.state != fileRooting {
		return nil
	}
	file.root = fileRoot(file.size, file.hashes[:file.blocks()])
	if file.root == root {
		file.state = fileFinishing
		f.actions = append(f.actions, action{kind: doFinish, file: i})
		return nil
	}
	file.attempts++
	if file.attempts > rootAttempts || file.size == 0 {
		f.fail(i, refusal.Corrupt)
		f.settle(now)
		return nil
	}
	file.state, file.compared = fileCompare, 0
	f.askHashes(l.id, i)
	return nil
}

// hashes takes the sender's list: to find what differs, or to trust what other receivers send.
func (f *fetcher) hashList(now time.Time, lane int, list *hashList) error {
	l := f.lanes[lane]
	if l == nil || !l.sender {
		return nil
	}
	l.heard = now
	if int(list.File) >= len(f.files) || uint64(list.First)+uint64(len(list.Hashes)) > uint64(f.files[list.File].blocks()) {
		return malformed("hashes")
	}
	file := f.files[list.File]
	// Answers come in the order of the questions; what is not in one the sender does not know yet.
	if len(l.hashing) == 0 || l.hashing[0].File != list.File || l.hashing[0].First != list.First || len(list.Hashes) > int(l.hashing[0].Count) {
		return malformed("hashes that were not asked for")
	}
	asked := l.hashing[0]
	l.hashing = l.hashing[1:]
	for i := asked.First; i < asked.First+asked.Count; i++ {
		file.hashing.clear(i)
	}
	compares := file.state == fileCompare && list.First == file.compared
	for n, h := range list.Hashes {
		i := list.First + uint32(n)
		if file.have.has(i) {
			if !compares || file.hashes[i] == h {
				continue
			}
			f.forget(file, i)
			f.release(block{list.File, i})
		}
		if file.trusted == nil {
			file.trusted = map[uint32]Hash{}
		}
		file.trusted[i] = h
		file.known.set(i)
	}
	f.stock(list.File)
	if compares {
		file.compared += uint32(len(list.Hashes))
		switch {
		case len(list.Hashes) == 0:
			f.fail(list.File, refusal.Corrupt) // the sender gave a root without having the hashes
		case file.compared < file.blocks():
			f.askHashes(lane, list.File)
		default:
			file.state, file.rootLane = fileFetch, 0
			f.check(list.File)
		}
	}
	f.settle(now)
	return nil
}

func (f *fetcher) forget(file *fetchFile, i uint32) {
	file.have.clear(i)
	n := int64(file.length(i))
	file.had--
	file.bytes -= n
	f.bytes -= n
}

// heard notes that a lane lives, though nothing of it is whole yet.
func (f *fetcher) heard(now time.Time, lane int) {
	if l := f.lanes[lane]; l != nil {
		l.heard = now
	}
}

// blockArrived says what to do with a block whose bytes have its hash: want means write it, and then call kept. An error ends the lane.
func (f *fetcher) blockArrived(now time.Time, lane int, b block, length int, h Hash) (want bool, err error) {
	l := f.lanes[lane]
	if l == nil || int(b.file) >= len(f.files) {
		return false, nil
	}
	l.heard, l.moved, l.slow = now, now, false
	f.arrived += int64(length)
	owed, was := l.owed[b]
	if !was {
		f.resent += int64(length) // given back, skipped, or never asked
		return false, nil
	}
	delete(l.owed, b)
	l.owedBytes -= owed
	l.got += int64(length)
	l.window = min(windowMax, l.window+length)
	if !l.asked.IsZero() {
		if took := now.Sub(l.asked); l.rtt == 0 || took < l.rtt {
			l.rtt = took
		}
		l.asked = time.Time{}
	}
	file := f.files[b.file]
	file.asked.clear(b.index)
	if length != owed && (file.size >= 0 || length > BlockSize) {
		return false, malformed("length of a block")
	}
	if file.have.has(b.index) || file.state != fileFetch {
		f.resent += int64(length)
		return false, nil
	}
	if !l.sender && (!file.known.has(b.index) || file.trusted[b.index] != h) {
		f.release(b)
		f.corrupt(lane)
		return false, refusal.New(refusal.Corrupt)
	}
	f.between = (4*f.between + now.Sub(f.gained)) / 5
	f.gained = now
	if !l.sender {
		f.passed += int64(length)
	} else if !l.depot {
		f.given += int64(length)
	}
	if !l.sender && !f.helped || f.asking == 1 {
		f.asking = 0
	}
	file.asked.set(b.index) // until it is kept
	return true, nil
}

// corrupt: what came on a lane was not what it said, or not what the sender has. Another receiver is not asked again then.
func (f *fetcher) corrupt(lane int) {
	if l := f.lanes[lane]; l != nil && !l.sender {
		f.liars[l.end] = true
	}
}

// kept: the block is on the disk.
func (f *fetcher) kept(now time.Time, b block, h Hash) {
	file := f.files[b.file]
	file.asked.clear(b.index)
	if file.state != fileFetch {
		return
	}
	f.keep(file, b.index, h)
	if n := len(f.news); n > 0 && f.news[n-1].File == b.file && f.news[n-1].First+f.news[n-1].Count == b.index {
		f.news[n-1].Count++
	} else {
		f.news = append(f.news, Range{b.file, b.index, 1})
	}
	f.sayNews(now)
	f.check(b.file)
	f.settle(now)
}

// lost: the block could not be written, or its bytes were not what its hash says.
func (f *fetcher) lostBlock(b block) {
	f.release(b)
}

// finished: the file has its final name, or err says why it cannot have it.
func (f *fetcher) finished(now time.Time, i uint32, err error) {
	file := f.files[i]
	file.state = fileDone
	if err != nil {
		file.state = fileRooting // fail refuses those that are being finished
		f.fail(i, refusal.From(err).Code)
	}
	f.settle(now)
}

// remoteHas: another receiver has these.
func (f *fetcher) remoteHas(l *fetchLane, ranges []Range) {
	if l.sender {
		return
	}
	for _, r := range ranges {
		if int(r.File) >= len(f.files) {
			if len(l.early) < 16*maxRanges { // enough for all but the strangest; the sender has the rest
				l.early = append(l.early, r)
			}
			continue
		}
		file := f.files[r.File]
		if file.size < 0 || uint64(r.First)+uint64(r.Count) > uint64(file.blocks()) {
			continue
		}
		l.noteRemote(r)
		file.offered.fill(r.First, r.Count)
		f.stockLane(l, r.File)
		f.askHashesOf(r)
	}
}

// noteRemote: the other side of the lane has these.
func (l *fetchLane) noteRemote(r Range) {
	b := l.remote[r.File]
	if b == nil {
		b = new(bitmap)
		l.remote[r.File] = b
	}
	b.fill(r.First, r.Count)
}

// forgetRemote: another receiver is gone, or begins anew. What only it had may be asked of the sender again, also if it was away: it may have been promised to this one.
func (f *fetcher) forgetRemote(l *fetchLane) {
	if l.sender {
		return
	}
	remote := l.remote
	l.remote = map[uint32]*bitmap{}
	for n := range remote {
		file := f.files[n]
		clear(file.offered)
		for _, o := range f.lanes {
			if b := o.remote[n]; b != nil && !o.sender {
				file.offered.add(*b)
			}
		}
	}
	f.forgetAway()
}

func (f *fetcher) forgetAway() {
	f.dry = false
	for _, file := range f.files[f.first:] {
		clear(file.away)
	}
}

// stock: there may be something of a file that other receivers can give.
func (f *fetcher) stock(n uint32) {
	f.dry, f.covered = false, false
	for _, l := range f.lanes {
		f.stockLane(l, n)
	}
}

func (f *fetcher) stockLane(l *fetchLane, n uint32) {
	if l.remote[n] != nil && l.queued.set(n) {
		l.ready = append(l.ready, n)
	}
}

// askHashesOf asks the sender for the hashes of what another receiver has and we have not: only with them can it be taken from there.
func (f *fetcher) askHashesOf(r Range) {
	s := f.senders()
	if len(s) == 0 || !f.chosen {
		return
	}
	file := f.files[r.File]
	for i, end := r.First, r.First+r.Count; i < end; {
		if !file.offered.has(i) {
			i++
			continue
		}
		var ok bool
		if i, ok = free(i, end, file.have, file.known, file.hashing); !ok {
			return
		}
		n := uint32(0)
		for i+n < end && n < maxHashes && file.offered.has(i+n) && !file.have.has(i+n) && !file.known.has(i+n) && file.hashing.set(i+n) {
			n++
		}
		if n > 0 {
			f.getHashes(s[0], Range{r.File, i, n})
		}
		i += n
	}
}

func (f *fetcher) askHashesOfOthers() {
	for i, file := range f.files {
		if n := uint32(len(file.offered) * 64); n > 0 && i >= f.first {
			f.askHashesOf(Range{uint32(i), 0, min(n, file.blocks())})
		}
	}
}

// elsewhere: the sender has promised these to other receivers, who will have them soon.
func (f *fetcher) elsewhere(now time.Time, l *fetchLane, ranges []Range) error {
	for _, r := range ranges {
		if int(r.File) >= len(f.files) || f.files[r.File].size < 0 || uint64(r.First)+uint64(r.Count) > uint64(f.files[r.File].blocks()) {
			return malformed("elsewhere")
		}
		file := f.files[r.File]
		file.away.fill(r.First, r.Count)
		for b, n := range l.owed {
			if b.file == r.File && b.index >= r.First && b.index-r.First < r.Count {
				delete(l.owed, b)
				l.owedBytes -= n
				f.release(b)
			}
		}
		// Somebody else is at work here. The golden ratio spreads any number of attempts over the whole.
		f.place = math.Mod(f.place+math.Phi-1, 1)
		file.spread = uint32(f.place * float64(file.blocks()))
	}
	f.request(now)
	return nil
}

// fresh reports whether the sender is to be asked only for what no other receiver has been given.
func (f *fetcher) fresh() bool { return f.company && f.asking < 2 }

// request asks for more on every lane that has room.
func (f *fetcher) request(now time.Time) {
	if !f.chosen || f.paused || f.over {
		return
	}
	n := 0
	for _, l := range f.lanes {
		if l.accepted {
			n++
		}
	}
	if n == 0 {
		return
	}
	near, most := windowNear/n, max(windowMin, min(windowMax, windowSum/n))
	fresh := f.fresh()
	for _, id := range slices.Sorted(maps.Keys(f.lanes)) {
		l := f.lanes[id]
		// What is owed comes twice if this process dies: no more than the way takes.
		window := min(l.window, most, max(near, int(1.25*l.rate*l.rtt.Seconds())+windowStep))
		if f.company {
			window = min(window, max(windowShared, int(l.rate*windowTime.Seconds())))
		}
		if f.asking == 2 && l.sender {
			window = min(window, windowShared<<min(5, int(now.Sub(f.needy).Seconds()))) // a little at first: others may be at it too
		}
		if !l.accepted || l.unwanting || l.slow || l.owedBytes > window*3/4 || len(l.owed) > owedBlocks*3/4 {
			continue
		}
		var ranges []Range
		idle := len(l.owed) == 0
		for l.owedBytes < window && len(l.owed) < owedBlocks && len(ranges) < maxRanges {
			b, ok := f.next(l)
			if !ok {
				break
			}
			file := f.files[b.file]
			file.asked.set(b.index)
			length := file.length(b.index)
			l.owed[b] = length
			l.owedBytes += length
			if k := len(ranges); k > 0 && ranges[k-1].File == b.file && ranges[k-1].First+ranges[k-1].Count == b.index {
				ranges[k-1].Count++
			} else {
				ranges = append(ranges, Range{b.file, b.index, 1})
			}
		}
		if len(ranges) > 0 {
			if idle {
				l.heard, l.asked, l.moved = now, now, now // it owed nothing until now
			}
			f.send(id, message{Type: typeWant, Blocks: ranges, Fresh: fresh && l.sender})
		}
	}
}

// next is the next block to ask of a lane.
func (f *fetcher) next(l *fetchLane) (block, bool) {
	switch {
	case !l.sender:
		return f.nextOf(l)
	case l.depot:
		return f.nextInDepot(l)
	}
	if f.company {
		// Also those who ask for what others were given ask for different blocks first.
		if b, ok := f.nextFresh(); ok || f.fresh() {
			return b, ok
		}
	}
	if b, ok := f.nextBeyondDepots(); ok {
		return b, ok
	}
	for n := f.first; n < len(f.files); n++ {
		file := f.files[n]
		if n == f.first && (file.state == fileDone || file.state == fileFailed || file.state == fileSkipped) {
			f.first++
			continue
		}
		if file.state != fileFetch {
			continue
		}
		end := file.blocks()
		i, ok := free(file.cursor, end, file.have, file.asked)
		if !ok {
			file.cursor = end
			continue
		}
		file.cursor = i
		return block{uint32(n), i}, true
	}
	return block{}, false
}

// nextFresh is a block that nobody else has or gets, as far as we know. Each of several receivers begins elsewhere, so that they have something for each other.
func (f *fetcher) nextFresh() (block, bool) {
	if f.dry {
		return block{}, false
	}
	files := len(f.files) - f.first
	for range files {
		if f.turn < f.first || f.turn >= len(f.files) {
			f.turn = f.first
		}
		file := f.files[f.turn]
		if file.state == fileFetch {
			end := file.blocks()
			for _, from := range [...]uint32{max(file.cursor, file.spread), file.cursor} {
				if i, ok := free(from, end, file.have, file.asked, file.offered, file.away, f.inDepots(uint32(f.turn))); ok {
					file.spread = i
					return block{uint32(f.turn), i}, true
				}
			}
		}
		f.turn++
	}
	f.dry = true
	return block{}, false
}

// nextOf is a block that another receiver has, of the rarest that we know of.
func (f *fetcher) nextOf(l *fetchLane) (block, bool) {
	for len(l.ready) > 0 {
		n := l.ready[0]
		if f.files[n].state == fileFetch {
			if i, ok := f.rarest(l, n); ok {
				return block{n, i}, true
			}
		}
		l.ready = l.ready[1:]
		l.queued.clear(n)
	}
	return block{}, false
}

// rarest looks at some of a file's blocks that this receiver can give, beginning where we are, and takes one that few have.
func (f *fetcher) rarest(l *fetchLane, n uint32) (best uint32, found bool) {
	file, remote := f.files[n], *l.remote[n]
	least, seen := 0, 0
	word := func(b bitmap, w int) uint64 {
		if w < len(b) {
			return b[w]
		}
		return 0
	}
	start := int(f.place * float64(len(remote)))
	for k := range remote {
		w := (start + k) % len(remote)
		for candidates := remote[w] & word(file.known, w) &^ word(file.have, w) &^ word(file.asked, w); candidates != 0; candidates &= candidates - 1 {
			i := uint32(w*64 + bits.TrailingZeros64(candidates))
			copies := 0
			for _, o := range f.lanes {
				if b := o.remote[n]; b != nil && b.has(i) {
					copies++
				}
			}
			if !found || copies < least {
				best, least, found = i, copies, true
			}
			seen++
		}
		if seen >= rarestOf {
			break
		}
	}
	return best, found
}

// accompany: other receivers are there, or not any more.
func (f *fetcher) accompany(now time.Time, others bool) {
	others = !f.alone && (others || len(f.lanes) > len(f.sources()))
	if others != f.company {
		f.company, f.gained, f.asking, f.helped = others, now, 0, false
		f.request(now)
	}
}

// losePatience: when nothing comes, those who were given what is missing may be gone, or out of our reach.
func (f *fetcher) losePatience(now time.Time) {
	if !f.company || !f.chosen || f.paused || f.settled() || !slices.ContainsFunc(f.senders(), func(l *fetchLane) bool { return l.accepted && len(l.owed) == 0 }) {
		f.gained = now
		return
	}
	limit := max(patience, 4*f.between)
	switch idle := now.Sub(f.gained); {
	case f.asking == 0 && idle >= limit:
		f.asking = 1
		f.forgetAway()
		f.askHashesOfOthers()
		f.request(now)
	case f.asking == 1 && idle >= 2*limit:
		f.askAnything(now) // until another receiver gives something
	}
}

// askAnything asks the sender for what others were given, each receiver beginning somewhere else.
func (f *fetcher) askAnything(now time.Time) {
	f.asking, f.needy = 2, now
	f.forgetAway()
	for _, file := range f.files[f.first:] {
		if file.state == fileFetch && file.size >= 0 {
			file.spread = file.missing(f.place)
		}
	}
	f.request(now)
}

// weigh lets the sender help where others pass on what they were given, but far slower than it could: it must not carry each block to each receiver, nor leave us to somebody's thin way up.
func (f *fetcher) weigh(now time.Time) {
	if slices.ContainsFunc(f.senders(), func(l *fetchLane) bool { return len(l.owed) > 0 }) {
		f.owing += min(time.Second, now.Sub(f.ticked)) // the machine may have slept
	}
	f.ticked = now
	could := float64(f.given) / max(1, f.owing.Seconds()) // bytes a second
	waits := func(l *fetchLane) bool { return l.accepted && (f.helped || len(l.owed) == 0) }
	if !f.company || !f.chosen || f.paused || f.settled() || !slices.ContainsFunc(f.senders(), waits) {
		f.weighed, f.passed = now, 0
		return
	}
	stalled := false
	for _, l := range f.lanes {
		if wait := now.Sub(l.moved); !l.sender && len(l.owed) > 0 && wait >= helpAfter && helpGain*BlockSize/wait.Seconds() < could {
			l.slow, stalled = true, true // should it come after all, then for nothing
			f.giveBack(l)
		}
	}
	elapsed := now.Sub(f.weighed)
	if !stalled && elapsed < helpAfter {
		return
	}
	rate := float64(f.passed) / elapsed.Seconds()
	slow := stalled || helpGain*rate < could && float64(f.left()) > rate*helpLeft.Seconds()
	f.weighed, f.passed = now, 0
	switch {
	case slow && !f.helped:
		f.helped = true
		f.askAnything(now)
	case !slow && f.helped:
		f.helped, f.asking = false, 0
	}
	f.request(now) // what was given back
}

// missing is the block at this place, from 0 to 1, among those that are missing.
func (f *fetchFile) missing(place float64) uint32 {
	end := f.blocks()
	nth := uint32(place * float64(end-f.had))
	at, ok := free(0, end, f.have, f.asked)
	for ; ok && nth > 0; nth-- {
		at, ok = free(at+1, end, f.have, f.asked)
	}
	return at
}

// tick does what time brings: dead lanes, progress, more lanes. Call it several times a second.
func (f *fetcher) tick(now time.Time) {
	f.sayNews(now)
	if f.over {
		return
	}
	f.losePatience(now)
	f.weigh(now)
	for _, l := range f.lanes {
		if elapsed := now.Sub(l.measured); elapsed >= windowTime {
			l.rate = float64(l.got) / elapsed.Seconds()
			l.got, l.measured = 0, now
		}
		waits := len(l.owed) > 0
		for _, file := range f.files[f.first:] {
			waits = waits || file.rootLane == l.id && (file.state == fileRooting || file.state == fileCompare)
		}
		waits = waits || f.root == rootAsked && f.rootLane == l.id || l.sender && f.chosen && !l.accepted
		if !waits || f.paused {
			l.heard = now
		} else if now.Sub(l.heard) > laneDead {
			f.actions = append(f.actions, action{kind: doClose, lane: l.id})
			l.heard = now
		}
	}
	if !now.Before(f.nextProgress) {
		f.nextProgress = now.Add(progressEach)
		if s := f.senders(); len(s) > 0 && f.chosen {
			f.send(s[0].id, message{Type: typeProgress, Bytes: new(f.bytes)})
		}
	}
	f.grow(now)
}

// sayNews tells other receivers what is new, at once and then again after a little while.
func (f *fetcher) sayNews(now time.Time) {
	if len(f.news) == 0 || !f.told || now.Before(f.nextHave) && !f.over {
		return
	}
	f.nextHave = now.Add(haveEach)
	for _, id := range slices.Sorted(maps.Keys(f.lanes)) {
		if !f.lanes[id].sender {
			f.sayHave(id, f.news)
		}
	}
	f.news = nil
}

// lacks reports whether another receiver on a lane of ours has not all that we have.
func (f *fetcher) lacks() bool {
	for _, l := range f.lanes {
		if l.sender {
			continue
		}
		for n, file := range f.files {
			remote := l.remote[uint32(n)]
			for w, word := range file.have {
				if word != 0 && (remote == nil || w >= len(*remote) || word&^(*remote)[w] != 0) {
					return true
				}
			}
		}
	}
	return false
}

// left is how many chosen bytes are missing; of streams nothing is known.
func (f *fetcher) left() (n int64) {
	for _, file := range f.files[f.first:] {
		if file.state == fileFetch && file.size > 0 {
			n += file.size - file.bytes
		}
	}
	return n
}

// grow opens one lane more while the last one has made it faster.
func (f *fetcher) grow(now time.Time) {
	n := len(f.senders())
	if n == 0 || f.opening > 0 || n < f.lanesWanted || now.Before(f.nextLane) || f.company || f.paused || !f.chosen {
		return
	}
	elapsed := now.Sub(f.rateSince).Seconds()
	if elapsed <= 0 {
		return
	}
	rate := float64(f.arrived-f.rateBytes) / elapsed
	f.nextLane = now.Add(laneEvery)
	f.rateSince, f.rateBytes = now, f.arrived
	if n >= f.maxLanes || f.left() < max(laneWorth, int64(2*rate)) {
		return
	}
	if f.misses++; rate >= laneGain*f.lastRate {
		f.misses = 0
	}
	if f.misses > 0 && (f.misses >= laneMisses || f.senders()[0].rtt < laneLong) {
		f.maxLanes = n // the last ones brought nothing
		return
	}
	f.lastRate = rate
	f.lanesWanted, f.opening = n+1, 1
	f.actions = append(f.actions, action{kind: doOpen})
}
