package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

const (
	depotUploads   = 8 // requests with objects at a time: the server makes safe together what comes together
	depotRetryEach = 5 * time.Second
	depotPatience  = 5 * time.Second  // for what the server is told on the way,
	removePatience = 20 * time.Second // and at the end
)

// ErrStored is what Send returns when it has left and everything waits on the server.
var ErrStored = errors.New("everything waits on the server")

// NewStoreToken makes what only the sender knows of a depot: it is kept with the ticket.
func NewStoreToken() string {
	secret := NewTicket().Secret
	more := NewTicket().Secret
	return b64.EncodeToString(append(secret[:], more[:]...))
}

// An upload brings everything to a depot, beside what the sender serves.
type upload struct {
	s      *sender
	client *depotClient
	keys   *depotKeys
	grown  chan struct{} // capacity 1: there are more entries
	life   context.Context
	stop   context.CancelFunc // ends it
	done   chan struct{}      // closed when it has ended

	// Owned by run.
	state   depotState
	layout  layout
	pages   uint64
	listed  int  // entries in pages
	closed  bool // the last page is there
	buf     []byte
	sealed  []byte
	batch   []byte // objects that are to be uploaded together,
	batched int    // so many,
	bytes   int64  // and so much of files in them

	moving context.Context // the uploads' life
	halt   context.CancelFunc
	flight sync.WaitGroup
	slots  chan struct{} // uploads under way
	fault  chan error    // capacity 1: of one of them
}

// store makes the depot and fills it. It runs until everything is there.
func (s *sender) store(u *upload) {
	defer close(u.done)
	err := u.run()
	if u.life.Err() != nil {
		return
	}
	if errors.Is(err, errTaken) {
		s.end(err)
		return
	}
	if err != nil {
		r := refusal.From(err)
		s.cfg.OnEvent(Event{Code: string(r.Code), Text: r.Message})
		if s.cfg.Leave {
			s.end(r)
		}
		return
	}
	s.mu.Lock()
	s.stored = true
	s.mu.Unlock()
	s.cfg.OnEvent(Event{Code: "stored", Until: u.state.ExpiresAtMs})
	if s.cfg.Leave {
		s.end(ErrStored)
		return
	}
	// A receiver who cannot reach this end may take everything from there.
	ticker := time.NewTicker(depotPollMax)
	defer ticker.Stop()
	for {
		select {
		case <-u.life.Done():
			return
		case <-ticker.C:
		}
		if state, err := u.client.look(u.life); err == nil && state.State == depot.Taken {
			s.end(errTaken)
			return
		}
	}
}

// errTaken: the receiver has said to the server that it has everything.
var errTaken = errors.New("the receiver has everything, from the server")

func (s *sender) newUpload() *upload {
	server := s.meeting.server
	life, stop := context.WithCancel(s.ctx)
	return &upload{
		s: s, life: life, stop: stop, done: make(chan struct{}), keys: s.cfg.Ticket.depotKeys(), grown: make(chan struct{}, 1), buf: make([]byte, BlockSize), slots: make(chan struct{}, depotUploads), fault: make(chan error, 1),
		client: &depotClient{server: server, origin: s.meeting.origin, id: s.cfg.Ticket.ID, token: s.cfg.StoreToken},
	}
}

func (u *upload) stir() {
	select {
	case u.grown <- struct{}{}:
	default:
	}
}

func (u *upload) run() error {
	ctx, cancel := context.WithCancel(u.life)
	u.moving, u.halt = ctx, cancel
	defer u.flight.Wait()
	defer cancel()
	if err := u.begin(ctx); err != nil {
		return err
	}
	file := uint32(0)
	var entries []Entry
	var last bool
	for {
		if int(file) == len(entries) { // a copy for each file would be one too many
			entries, last = u.entries()
			if err := u.manifest(entries, last); err != nil {
				return err
			}
		}
		switch {
		case int(file) < len(entries):
			if err := u.file(ctx, file, entries[file]); err != nil {
				return err
			}
			file++
		case last:
			return u.finish(ctx, entries)
		default:
			if err := u.flush(); err != nil {
				return err
			}
			select {
			case <-u.grown:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (u *upload) entries() ([]Entry, bool) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	return slices.Clone(u.s.server.entries), u.s.server.last
}

// begin makes the depot, or goes on with that of an earlier life if it is of the same files.
func (u *upload) begin(ctx context.Context) error {
	create := func() error {
		return u.persist(ctx, func() (err error) {
			u.state, err = u.client.create(ctx, u.keys.read, u.s.cfg.Receivers == 1)
			return err
		})
	}
	if err := create(); err != nil {
		return err
	}
	if u.state.State == depot.Taken {
		return errTaken
	}
	u.s.mu.Lock()
	u.s.depot = u.client
	u.s.mu.Unlock()
	same, err := u.resume(ctx)
	if err != nil || same {
		return err
	}
	if err := u.persist(ctx, func() error { return u.client.remove(ctx) }); err != nil {
		return err
	}
	u.pages, u.listed, u.closed = 0, 0, false
	return create()
}

// resume compares the manifest that is there with what is sent now.
func (u *upload) resume(ctx context.Context) (same bool, err error) {
	if u.state.State != depot.Open {
		return false, nil
	}
	for u.state.has(u.pages) {
		var plain []byte
		err := u.persist(ctx, func() error {
			return u.client.fetch(ctx, []uint64{u.pages}, func(o depot.Object) (err error) {
				plain, err = u.keys.open(o.Number, o.Data)
				return err
			})
		})
		if errors.Is(err, errSealed) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		m, err := parseMessage(plain)
		if err != nil || m.Type != typeManifest || int(*m.From) != u.listed {
			return false, nil
		}
		entries, last := u.entries()
		for len(entries) < u.listed+len(m.Entries) || m.Last && !last {
			if last {
				return false, nil
			}
			select {
			case <-u.grown:
			case <-ctx.Done():
				return false, ctx.Err()
			}
			entries, last = u.entries()
		}
		for i, e := range m.Entries {
			if own := entries[u.listed+i]; own.Path != e.Path || own.Dir != e.Dir || own.size() != e.size() || own.MtimeMs != e.MtimeMs || own.Mode != e.Mode {
				return false, nil
			}
		}
		u.listed += len(m.Entries)
		u.pages++
		if u.closed = m.Last; u.closed && u.listed < len(entries) {
			return false, nil
		}
	}
	return true, nil
}

// persist repeats what may succeed later, until ctx ends. What waits for room says so once.
func (u *upload) persist(ctx context.Context, do func() error) error {
	said := false
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, depotRetryEach) {
		err := do()
		if err == nil || errors.Is(err, errSealed) || ctx.Err() != nil {
			return err
		}
		r := refusal.From(err)
		full := r.Code == refusal.DepotFull || r.Code == refusal.DepotDiskFull
		if !passing(err) && !(full && !u.s.cfg.Leave) {
			return err
		}
		if full {
			pause = depotRetryEach
			if !said {
				said = true
				u.s.cfg.OnEvent(Event{Code: string(r.Code), Text: r.Message})
			}
		}
		select {
		case <-time.After(max(pause, r.RetryAfter)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// manifest puts the pages that are not there.
func (u *upload) manifest(entries []Entry, last bool) error {
	for _, e := range entries[len(u.layout.sizes):] {
		if err := u.layout.add(e); err != nil {
			return err
		}
	}
	for u.listed < len(entries) || last && !u.closed {
		m := manifestPage(entries, u.listed, last)
		if err := u.put(u.pages, m.encode()); err != nil {
			return err
		}
		u.listed += len(m.Entries)
		u.pages++
		u.closed = m.Last
	}
	return nil
}

// put adds an object to the batch.
func (u *upload) put(number uint64, plain []byte) error {
	if u.state.has(number) {
		return nil
	}
	u.sealed = u.keys.seal(u.sealed[:0], number, plain)
	next := depot.AppendHeader(nil, number, len(u.sealed))
	if len(u.batch)+len(next)+len(u.sealed) > depot.MaxUpload || u.batched == depot.MaxBatch {
		if err := u.flush(); err != nil {
			return err
		}
	}
	u.batch = append(append(u.batch, next...), u.sealed...)
	u.batched++
	return nil
}

// putBlock adds a block, at the pace of the user's limit.
func (u *upload) putBlock(ctx context.Context, number uint64, data []byte) error {
	if err := u.s.limit.WaitN(ctx, len(data)); err != nil {
		return err
	}
	if err := u.put(number, data); err != nil {
		return err
	}
	u.bytes += int64(len(data))
	return nil
}

// flush hands the batch over to be uploaded, and waits for room if too much is under way.
func (u *upload) flush() error {
	if u.batched == 0 {
		return u.check()
	}
	select {
	case u.slots <- struct{}{}:
	case <-u.moving.Done():
		return u.check()
	}
	batch, bytes := u.batch, u.bytes
	u.batch, u.batched, u.bytes = nil, 0, 0
	u.flight.Go(func() {
		defer func() { <-u.slots }()
		if err := u.persist(u.moving, func() error { return u.client.put(u.moving, batch) }); err != nil {
			select {
			case u.fault <- err:
			default:
			}
			u.halt()
			return
		}
		u.count(bytes)
	})
	return u.check()
}

// check returns what has gone wrong in an upload.
func (u *upload) check() error {
	select {
	case err := <-u.fault:
		return err
	default:
		return u.moving.Err()
	}
}

// count adds bytes of files that are on the server.
func (u *upload) count(bytes int64) {
	u.s.mu.Lock()
	u.s.kept += bytes
	u.s.mu.Unlock()
}

// file puts the blocks of a file that are not there, and the hashes that its root is made of.
func (u *upload) file(ctx context.Context, n uint32, e Entry) error {
	if e.Dir {
		return nil
	}
	err := u.blocks(ctx, n)
	if err == nil {
		err = u.hashes(ctx, n)
	}
	var r *refusal.Refusal
	if errors.As(err, &r) && (r.Code == refusal.SourceChanged || r.Code == refusal.SourceUnreadable) {
		u.s.fail(n, r)
		return nil
	}
	return err
}

func (u *upload) blocks(ctx context.Context, n uint32) error {
	size := u.layout.sizes[n]
	for i := uint32(0); size < 0 || i < blocks(size); i++ {
		number := u.layout.block(block{n, i})
		if u.state.has(number) {
			u.count(int64(blockLength(size, i)))
			continue
		}
		data, _, err := u.s.source.read(ctx, n, i, u.buf)
		if err != nil {
			return err
		}
		if data == nil {
			return nil // the end of a stream
		}
		if err := u.putBlock(ctx, number, data); err != nil {
			return err
		}
		if size < 0 && (i+1)%hashesPerList == 0 {
			if err := u.hashList(n, -1, uint64(i)/hashesPerList, hashesPerList); err != nil {
				return err
			}
		}
	}
	return nil
}

// hashes puts the lists of a file. What has not been read in this life is read for it.
func (u *upload) hashes(ctx context.Context, n uint32) error {
	size := u.layout.sizes[n]
	if lists(size) == 0 {
		return nil
	}
	missing := false
	for k := range lists(max(size, 0)) {
		missing = missing || !u.state.has(u.layout.list(n, k))
	}
	if !missing && size >= 0 {
		return nil
	}
	if _, err := u.s.source.root(ctx, n); err != nil {
		return err
	}
	f := u.s.source.file(n)
	u.s.source.mu.Lock()
	size = *f.entry.Size
	u.s.source.mu.Unlock()
	for k := range uint64(blocks(size))/hashesPerList + 1 {
		if err := u.hashList(n, size, k, min(hashesPerList, uint64(blocks(size))-k*hashesPerList)); err != nil {
			return err
		}
	}
	return nil
}

func (u *upload) hashList(n uint32, size int64, k, count uint64) error {
	var list []Hash
	for uint64(len(list)) < count {
		more := u.s.source.known(n, uint32(k*hashesPerList)+uint32(len(list)), uint32(count)-uint32(len(list)))
		if len(more) == 0 {
			return errors.New("hashes of blocks that were read are not known")
		}
		list = append(list, more...)
	}
	return u.put(u.layout.list(n, k), encodeHashes(size, list))
}

// finish says that nothing will be added, once everything else is on the server.
func (u *upload) finish(ctx context.Context, entries []Entry) error {
	var e depotEnding
	u.s.mu.Lock()
	for _, n := range slices.Sorted(maps.Keys(u.s.failed)) {
		e.Failed = append(e.Failed, depotFailed{n, u.s.failed[n]})
	}
	u.s.mu.Unlock()
	if len(e.Failed) == 0 {
		root, err := u.s.manifestRoot()
		if err != nil {
			return err
		}
		e.Root = b64.EncodeToString(root[:])
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(b) > BlockSize {
		return refusal.Newf(refusal.SourceUnreadable, "Too many files cannot be read.")
	}
	for _, step := range []func() error{u.flush, func() error { return u.put(depotEnd*depotKind, b) }, u.flush} {
		if err := step(); err != nil {
			return err
		}
		u.flight.Wait()
	}
	return u.check()
}

// claim makes a receiver that accepts the one whom the depot is for, so that nobody else takes the same link there; or says that it is another one.
func (s *sender) claim(p *port) refusal.Code {
	s.mu.Lock()
	client := s.depot
	s.mu.Unlock()
	if client == nil || s.cfg.Receivers != 1 {
		return ""
	}
	ctx, cancel := context.WithTimeout(s.ctx, depotPatience)
	defer cancel()
	if err := client.claim(ctx, s.cfg.Ticket.depotKeys().takerOf(p.end)); errors.Is(err, refusal.New(refusal.TransferTaken)) {
		return refusal.TransferTaken
	}
	return "" // a server that cannot be reached serves nobody else either
}

// clear removes the depot, when nobody needs it any more.
func (s *sender) clear() {
	if s.upload == nil {
		return
	}
	s.upload.stop()
	<-s.upload.done // it may be making the depot right now
	client := s.upload.client
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), removePatience)
	defer cancel()
	if err := client.remove(ctx); err != nil {
		s.cfg.Server.log().Debug("remove a depot", "err", err) // its receiver may have done so; else it expires
	}
}
