package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

const (
	depotFetchers = 3  // requests for blocks at a time
	depotRequest  = 16 // blocks in one
	depotPollMin  = time.Second
	depotPollMax  = 5 * time.Second
	depotRetries  = 3
)

// A depotLane is a lane whose other side is the server: it answers what a receiver asks of a sender, as far as the sender has put it there, and says with have what that is.
// So one protocol stands above all lanes, and a receiver may use the sender and the server at once.
type depotLane struct {
	client *depotClient
	keys   *depotKeys
	own    string // the receiver's end
	bad    *badObjects

	ctx    context.Context // the lane's life
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	out    chan depotMessage
	cmds   chan *message

	mu     sync.Mutex
	wake   *sync.Cond // wants, busy, pending or ended have changed
	wants  []block
	busy   int // fetchers at work
	queued int // commands that wait or are being done
	layout layout
	state  depotState
	files  []Entry
	read   uint64 // pages of the manifest
	wishes []rootWish
	ended  bool // the depot's end has been read
}

type depotMessage struct {
	text bool
	data []byte
}

// badObjects are remembered over lanes: what cannot be opened is not asked for again.
type badObjects struct {
	mu  sync.Mutex
	set map[uint64]bool
}

func (b *badObjects) add(n uint64) { b.mu.Lock(); defer b.mu.Unlock(); b.set[n] = true }
func (b *badObjects) has(n uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set[n]
}

// newDepotLane runs until Close. state is what was seen of the depot last.
func newDepotLane(ctx context.Context, client *depotClient, keys *depotKeys, own string, state depotState, bad *badObjects) *depotLane {
	l := &depotLane{client: client, keys: keys, own: own, bad: bad, state: state, out: make(chan depotMessage, 8), cmds: make(chan *message, 64)}
	l.wake = sync.NewCond(&l.mu)
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	// Whoever waits for a change is woken by the end too.
	l.wg.Go(func() { <-l.ctx.Done(); l.change(func() {}) })
	l.wg.Go(l.run)
	for range depotFetchers {
		l.wg.Go(l.fetcher)
	}
	return l
}

func (l *depotLane) String() string { return "server" }
func (l *depotLane) Limit() int     { return maxMessage }

// Close may be called by anybody but the lane's own goroutines, which it waits for.
func (l *depotLane) Close() error {
	l.cancel(io.ErrClosedPipe)
	l.wg.Wait()
	return nil
}

// Flush waits until the server has been told what there is to tell: that everything has arrived, above all.
func (l *depotLane) Flush() {
	ctx, cancel := context.WithTimeout(l.ctx, flushPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.change(func() {}) })
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.queued > 0 && ctx.Err() == nil {
		l.wake.Wait()
	}
}

func (l *depotLane) change(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	l.wake.Broadcast()
}

func (l *depotLane) Recv() (text bool, data []byte, err error) {
	select {
	case m := <-l.out:
		return m.text, m.data, nil
	case <-l.ctx.Done():
		return false, nil, context.Cause(l.ctx)
	}
}

func (l *depotLane) say(m message) { l.emit(depotMessage{true, m.encode()}) }

func (l *depotLane) emit(m depotMessage) {
	select {
	case l.out <- m:
	case <-l.ctx.Done():
	}
}

// Send takes what the receiver says to a sender.
func (l *depotLane) Send(text bool, header, data []byte) error {
	if !text {
		return malformed("a block to the server")
	}
	m, err := parseMessage(append(slices.Clone(header), data...))
	if err != nil {
		return err
	}
	switch m.Type {
	case typeWant:
		l.change(func() {
			for _, r := range m.Blocks {
				for i := range r.Count {
					l.wants = append(l.wants, block{r.File, r.First + i})
				}
			}
		})
		return l.ctx.Err()
	case typeHello, typeAccept, typeUnwant, typeGetRoot, typeGetHashes, typeComplete, typeBye:
	default:
		return nil // the manifest comes by itself, and nobody looks at progress
	}
	l.change(func() { l.queued++ })
	select {
	case l.cmds <- m:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// run does one command after the other, and looks now and then what has come to the depot.
func (l *depotLane) run() {
	pause := depotPollMin
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-l.ctx.Done():
			return
		case m := <-l.cmds:
			err = l.command(m)
			l.change(func() { l.queued-- })
			if err == nil && m.Type == typeHello {
				err = l.news()
			}
		case <-timer.C:
			var changed bool
			if changed, err = l.poll(); changed {
				pause = depotPollMin
			} else {
				pause = min(2*pause, depotPollMax)
			}
			timer.Reset(pause)
		}
		if err != nil {
			l.cancel(err)
			return
		}
	}
}

func (l *depotLane) command(m *message) error {
	switch m.Type {
	case typeHello:
		l.say(message{Type: typeHello, Version: Version, Role: roleSender, End: newEnd()})
	case typeAccept:
		err := l.again(func() error { return l.client.claim(l.ctx, l.keys.takerOf(l.own)) })
		if errors.Is(err, refusal.New(refusal.TransferTaken)) {
			l.say(message{Type: typeBye, Code: string(refusal.TransferTaken)})
			return nil
		}
		if err != nil {
			return err
		}
		l.say(message{Type: typeAccepted, Alone: l.state.Once})
	case typeUnwant:
		l.mu.Lock()
		l.wants = nil
		for l.busy > 0 && l.ctx.Err() == nil {
			l.wake.Wait()
		}
		l.mu.Unlock()
		l.say(message{Type: typeUnwanted})
	case typeGetRoot:
		w := rootWish{file: -1}
		if m.File != nil {
			w.file = int64(*m.File)
		}
		l.wishes = append(l.wishes, w)
		return l.grant()
	case typeGetHashes:
		return l.hashes(m)
	case typeComplete:
		// Whatever the server answers, the receiver has everything.
		if err := l.again(func() error { return l.client.receipt(l.ctx, l.keys.takerOf(l.own)) }); err != nil && l.ctx.Err() == nil {
			l.client.server.log().Debug("receipt", "err", err)
		}
		l.say(message{Type: typeBye, Code: string(refusal.Done)})
	}
	return nil
}

// again tries a few times what may succeed the next time.
func (l *depotLane) again(do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		if err == nil || !passing(err) || attempt == depotRetries {
			return err
		}
		select {
		case <-time.After(time.Duration(attempt) * 500 * time.Millisecond):
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}

// poll looks what has come.
func (l *depotLane) poll() (changed bool, err error) {
	if len(l.wishes) > 0 {
		l.say(message{Type: typeWait})
	}
	if l.ended && len(l.wishes) == 0 {
		return false, nil
	}
	var state depotState
	if err := l.again(func() (err error) { state, err = l.client.look(l.ctx); return err }); err != nil {
		return false, err
	}
	if state.State != depot.Open {
		return false, refusal.New(refusal.DepotExpired)
	}
	changed = !slices.Equal(state.Objects, l.state.Objects)
	l.change(func() { l.state = state })
	if !changed {
		return false, nil
	}
	return true, errors.Join(l.news(), l.grant())
}

// news tells the receiver what has come. What it has heard before it hears again: the ranges are few.
func (l *depotLane) news() error {
	if err := l.manifest(); err != nil {
		return err
	}
	var have []Range
	for _, r := range l.state.Objects {
		first, end := max(r.First(), depotBlock*depotKind), min(r.End(), depotBlock*depotKind+l.layout.most()) // the server may say anything
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		for n := first; n < end; {
			count := uint64(0)
			for n+count < end && !l.bad.has(n+count) {
				count++
			}
			have = append(have, l.layout.ranges(n-depotBlock*depotKind, count)...)
			n += count + 1
		}
	}
	for len(have) > 0 {
		n := min(len(have), maxRanges)
		l.say(message{Type: typeHave, Blocks: have[:n]})
		have = have[n:]
	}
	if len(l.layout.sizes) == 1 && l.layout.sizes[0] < 0 {
		if err := l.streamSize(); err != nil {
			return err
		}
	}
	if !l.ended && l.state.has(depotEnd*depotKind) {
		return l.ending()
	}
	return nil
}

// manifest passes on the pages that are there. They go in order.
func (l *depotLane) manifest() error {
	for l.state.has(l.read) {
		plain, err := l.object(l.read)
		if err != nil {
			return err
		}
		m, err := parseMessage(plain)
		if err != nil {
			return err
		}
		if m.Type != typeManifest || int(*m.From) != len(l.files) || len(l.files)+len(m.Entries) > maxEntries {
			return malformed("manifest of a depot")
		}
		l.mu.Lock() // the fetchers read both
		for _, e := range m.Entries {
			err = errors.Join(err, l.layout.add(e))
		}
		l.files = append(l.files, m.Entries...)
		l.mu.Unlock()
		if err != nil {
			return err
		}
		l.emit(depotMessage{true, plain})
		l.read++
	}
	return nil
}

// object fetches one object and opens it.
func (l *depotLane) object(number uint64) (plain []byte, err error) {
	return plain, l.again(func() error {
		return l.client.fetch(l.ctx, []uint64{number}, func(o depot.Object) (err error) {
			plain, err = l.openObject(o)
			return err
		})
	})
}

func (l *depotLane) openObject(o depot.Object) ([]byte, error) {
	plain, err := l.keys.open(o.Number, o.Data)
	if err != nil {
		l.bad.add(o.Number)
		return nil, refusal.New(refusal.Corrupt).Because(err)
	}
	return plain, nil
}

func (l *depotLane) ending() error {
	plain, err := l.object(depotEnd * depotKind)
	if err != nil {
		return err
	}
	e, err := parseEnding(plain)
	if err != nil {
		return err
	}
	for _, f := range e.Failed {
		if int(f.File) >= len(l.files) {
			return malformed("end of a depot: file")
		}
		l.say(message{Type: typeFailed, File: &f.File, Code: string(f.Code)})
	}
	l.ended = true
	return nil
}

// streamSize tells how long a stream was, once its last list of hashes is there.
func (l *depotLane) streamSize() error {
	last := uint64(0)
	for last < lists(maxFileSize) && l.state.has(l.layout.list(0, last+1)) {
		last++
	}
	if !l.state.has(l.layout.list(0, last)) {
		return nil
	}
	size, _, err := l.list(0, last)
	if err != nil || size < 0 {
		return err
	}
	l.mu.Lock()
	l.layout.sizes[0] = size
	l.mu.Unlock()
	l.say(message{Type: typeSize, File: new(uint32(0)), Size: &size})
	return nil
}

func (l *depotLane) list(file uint32, n uint64) (size int64, hashes []Hash, err error) {
	plain, err := l.object(l.layout.list(file, n))
	if err != nil {
		return 0, nil, err
	}
	return parseHashes(plain)
}

// grant answers the roots that can be told by now.
func (l *depotLane) grant() error {
	var rest []rootWish
	for _, w := range l.wishes {
		root, known, err := l.root(w.file)
		if err != nil {
			return err
		}
		if !known {
			rest = append(rest, w)
			continue
		}
		m := message{Type: typeRoot, Root: b64.EncodeToString(root[:])}
		if w.file >= 0 {
			m.File = new(uint32(w.file))
		}
		l.say(m)
	}
	l.wishes = rest
	return nil
}

// root makes a file's root of the hashes that the sender has put there.
func (l *depotLane) root(file int64) (root Hash, known bool, err error) {
	if file < 0 {
		if !l.state.has(depotEnd * depotKind) {
			return root, false, nil
		}
		plain, err := l.object(depotEnd * depotKind)
		if err != nil {
			return root, false, err
		}
		e, err := parseEnding(plain)
		if err != nil || e.Root == "" {
			return root, false, err
		}
		root, err = (&message{Root: e.Root}).root()
		return root, err == nil, err
	}
	if int(file) >= len(l.files) || l.layout.sizes[file] < 0 {
		return root, false, nil
	}
	size := l.layout.sizes[file]
	hashes, known, err := l.fileHashes(uint32(file), size, 0, blocks(size))
	if err != nil || !known {
		return root, false, err
	}
	return fileRoot(size, hashes), true, nil
}

// fileHashes gives the hashes of blocks, if they are all there.
func (l *depotLane) fileHashes(file uint32, size int64, first, count uint32) (hashes []Hash, known bool, err error) {
	if lists(size) == 0 && l.files[file].Size != nil {
		if count == 0 {
			return nil, true, nil
		}
		number := l.layout.block(block{file, 0})
		if !l.state.has(number) {
			return nil, false, nil
		}
		plain, err := l.object(number)
		if err != nil {
			return nil, false, err
		}
		return []Hash{sha256.Sum256(plain)}, true, nil
	}
	for n := uint64(first) / hashesPerList; uint32(len(hashes)) < count; n++ {
		if !l.state.has(l.layout.list(file, n)) {
			return nil, false, nil
		}
		_, list, err := l.list(file, n)
		if err != nil {
			return nil, false, err
		}
		if skip := uint64(first) % hashesPerList; len(hashes) == 0 {
			list = list[min(uint64(len(list)), skip):]
		}
		if len(list) == 0 {
			return nil, false, malformed("hashes of a depot: too few")
		}
		hashes = append(hashes, list...)
	}
	return hashes[:count], true, nil
}

func (l *depotLane) hashes(m *message) error {
	file, count := *m.File, min(m.Count, maxHashes)
	if int(file) >= len(l.files) || l.layout.sizes[file] < 0 || uint64(*m.First)+uint64(count) > uint64(blocks(l.layout.sizes[file])) {
		return malformed("get-hashes")
	}
	list, _, err := l.fileHashes(file, l.layout.sizes[file], *m.First, count)
	if err != nil {
		return err
	}
	l.emit(depotMessage{false, (&hashList{File: file, First: *m.First, Hashes: list}).encode()})
	return nil
}

// fetcher fetches what is wanted.
func (l *depotLane) fetcher() {
	for {
		l.mu.Lock()
		for len(l.wants) == 0 && l.ctx.Err() == nil {
			l.wake.Wait()
		}
		if l.ctx.Err() != nil {
			l.mu.Unlock()
			return
		}
		n := min(depotRequest, len(l.wants))
		wanted := slices.Clone(l.wants[:n])
		l.wants = l.wants[n:]
		numbers := make([]uint64, n)
		for i, b := range wanted {
			if int(b.file) >= len(l.files) {
				l.mu.Unlock()
				l.cancel(malformed("want: file"))
				return
			}
			numbers[i] = l.layout.block(b)
		}
		l.busy++
		l.mu.Unlock()
		err := l.again(func() error {
			return l.client.fetch(l.ctx, numbers, func(o depot.Object) error {
				plain, err := l.openObject(o)
				if err != nil {
					return err
				}
				if len(plain) == 0 || len(plain) > BlockSize {
					return malformed("block of a depot")
				}
				p := part{File: wanted[0].file, Block: wanted[0].index, Length: len(plain), Hash: sha256.Sum256(plain)}
				numbers, wanted = numbers[1:], wanted[1:]                                                             // what is tried again begins here
				l.emit(depotMessage{false, append(p.appendHeader(make([]byte, 0, partHeader+len(plain))), plain...)}) // whole: no other may come between its parts
				return nil
			})
		})
		l.change(func() { l.busy-- })
		if err != nil {
			l.cancel(err)
			return
		}
	}
}
