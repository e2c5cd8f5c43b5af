package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

const (
	dialFailures = 5 // in a row, with the sender in sight
	redialEach   = time.Second
	swarmPeers   = 10 // other receivers with whom one that dials has lanes
	swarmRedial  = 5 * time.Second
	lingerIdle   = 4 * time.Second // a receiver that has everything stays so long after another one has asked it for something
	lingerMax    = time.Minute
	lonelyAfter  = time.Minute // without a sender: the link may be used up
)

// ReceiveConfig says what to receive, and where to. Server, Ticket and Dir (or Stream) are required.
type ReceiveConfig struct {
	Server Server
	Ticket Ticket
	Dir    string
	Stream io.Writer // instead of Dir: the one file of the transfer, in order
	Own    string    // what the sender's user sees of us
	Lanes  int       // at most; 0: as many as help

	// Confirm is called with the manifest as far as it is known, and asks the user; nil: yes to all.
	Confirm    func(entries []Entry, last bool) bool
	Choose     func(e Entry) bool // nil: all
	Pauses     <-chan bool        // true: ask for nothing more; false: go on. nil: never
	OnProgress func(Progress)
	OnEvent    func(Event)

	lonely time.Duration // of tests; 0: lonelyAfter
}

// ErrNobodyWaits is the cause when a code's number has no sender.
var ErrNobodyWaits = errors.New("nobody waits at this code")

// Result is what has arrived.
type Result struct {
	Files   int
	Bytes   int64
	Arrived int64    // bytes of blocks that came in this life
	Resent  int64    // of those, had already
	Shared  int64    // bytes given to other receivers
	Names   []string // below Dir, in the order of the manifest
	Failed  []Event
}

// A receiver runs Receive.
type receiver struct {
	cfg     ReceiveConfig
	ctx     context.Context
	disk    *disk
	meeting *meeting
	wg      sync.WaitGroup
	stirred chan struct{} // capacity 1: members have changed, or a lane has ended
	ended   chan error    // capacity 1
	finishQ chan struct{} // capacity 1
	arrived chan struct{} // capacity 1: there may be more to pour
	poured  chan struct{} // closed when the stream has everything

	order    sync.Mutex // held while a change is made and done; taken before mu and a port's lock
	mu       sync.Mutex
	fetcher  *fetcher
	server   *server              // for other receivers
	met      map[string]time.Time // other receivers, and when they may be dialled (again)
	shared   int64
	asked    time.Time // when another receiver was given something last
	ports    map[int]*port
	lastPort int
	dialing  bool
	failures int
	path     string
	noNative map[string]bool // peers with whom a native lane did not come about
	finishes []finish
	failed   []Event
	held     bool // the sender has paused
	offered  bool // to the user
	complete bool
}

// Receive fetches files and returns when they are all there, or when ctx ends: what has arrived is then kept for another attempt.
func Receive(ctx context.Context, cfg ReceiveConfig) (Result, error) {
	if cfg.OnProgress == nil {
		cfg.OnProgress = func(Progress) {}
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	r := &receiver{cfg: cfg, server: newServer(0), met: map[string]time.Time{}, ports: map[int]*port{}, stirred: make(chan struct{}, 1), ended: make(chan error, 1), finishQ: make(chan struct{}, 1),
		arrived: make(chan struct{}, 1), poured: make(chan struct{}), noNative: map[string]bool{}}
	return r.run(ctx)
}

func (r *receiver) run(ctx context.Context) (result Result, err error) {
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	r.ctx = ctx
	if r.disk, err = openDisk(r.cfg.Dir, r.cfg.Ticket.ID, newEnd()); err != nil {
		cancel()
		return result, diskError(err)
	}
	r.fetcher = newFetcher(nil)
	r.fetcher.place = mrand.Float64()
	if r.cfg.Lanes > 0 {
		r.fetcher.maxLanes = r.cfg.Lanes
	}
	defer func() {
		cancel()
		r.closePorts(io.ErrClosedPipe)
		r.wg.Wait()
		if r.complete && err == nil {
			err = r.disk.complete()
		}
		err = errors.Join(err, r.disk.close())
	}()
	met := make(chan struct{}) // closed when r.meeting is there
	m, err := meet(ctx, r.cfg.Server, r.cfg.Ticket, roleReceiver, handlers{
		members: r.stir,
		lane: func(peer string, l lane) { // senders make none
			r.wg.Go(func() {
				select {
				case <-met:
					_ = r.adopt(l, peer, roleReceiver) // one that ends at once is none
				case <-ctx.Done():
					l.Close()
				}
			})
		},
		lie: r.lie,
	})
	if err != nil {
		return result, err
	}
	r.meeting = m
	close(met)
	defer m.close()
	r.wg.Go(r.finisher)
	r.wg.Go(r.watchDepot)
	if r.cfg.Stream != nil {
		r.wg.Go(r.pour)
	}
	r.stir()
	waiting := false
	var since time.Time // it waits; zero: that was said
	ticker := time.NewTicker(tickEach)
	defer ticker.Stop()
	sessionDone := m.session.Done()
	var redial time.Time
	for {
		select {
		case <-parent.Done():
			r.farewell(refusal.Cancelled)
			return r.result(), refusal.New(refusal.Cancelled)
		case err := <-r.ended:
			if err == nil {
				r.linger(parent)
				r.drain()
				if r.cfg.Stream != nil {
					select {
					case <-r.poured:
					case err = <-r.ended:
					case <-parent.Done():
						err = refusal.New(refusal.Cancelled)
					}
				}
			} else {
				r.farewell(refusal.From(err).Code)
			}
			return r.result(), err
		case <-sessionDone:
			sessionDone = nil
		case on := <-r.cfg.Pauses:
			r.change(func() { r.fetcher.pause(time.Now(), on) })
		case <-r.stirred:
		case <-ticker.C:
		}
		now := time.Now()
		others := len(r.meeting.with(roleReceiver)) > 0
		var dial, kept bool
		var failures int
		var progress Progress
		r.change(func() {
			r.fetcher.accompany(now, others)
			r.fetcher.tick(now)
			r.server.tick(now)
			dial = len(r.fetcher.senders()) == 0 && !r.dialing && !r.complete && now.After(redial)
			progress, failures, kept = r.progressLocked(), r.failures, r.fromDepotLocked()
		})
		r.cfg.OnProgress(progress)
		r.swarm()
		if !dial {
			continue
		}
		if sessionDone == nil {
			if kept {
				continue
			}
			return r.result(), m.session.Err()
		}
		senders := m.with(roleSender)
		if len(senders) == 0 {
			if !waiting && !kept {
				waiting, since = true, now
				r.mu.Lock()
				// It comes back as another peer, perhaps from another place.
				r.failures = 0
				clear(r.noNative)
				r.mu.Unlock()
				r.cfg.OnEvent(Event{Code: "waiting"})
			}
			if waiting && !since.IsZero() && now.Sub(since) >= cmp.Or(r.cfg.lonely, lonelyAfter) {
				since = time.Time{}
				r.cfg.OnEvent(Event{Code: "waiting_long"})
			}
			continue
		}
		waiting = false
		if failures >= dialFailures*len(senders) && !kept {
			return r.result(), refusal.New(refusal.NoPath).Advise("Look at the network between both machines and the server: madang doctor URL names what is blocked.")
		}
		redial = now.Add(redialEach)
		r.dial(senders[failures%len(senders)])
	}
}

func (r *receiver) stir() {
	select {
	case r.stirred <- struct{}{}:
	default:
	}
}

func (r *receiver) end(err error) {
	select {
	case r.ended <- err:
	default:
	}
}

func (r *receiver) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.fetcher
	res := Result{Bytes: f.bytes, Arrived: f.arrived, Resent: f.resent, Shared: r.shared, Failed: r.failed}
	for i, file := range f.files {
		if file.state == fileDone {
			res.Files++
			res.Names = append(res.Names, r.disk.path(uint32(i)))
		}
	}
	return res
}

func (r *receiver) progressLocked() Progress {
	f := r.fetcher
	p := Progress{Files: len(f.entries), Bytes: f.bytes, Sent: f.arrived, Resent: f.resent, Shared: r.shared, Lanes: len(r.ports), Path: r.path}
	for i, file := range f.files {
		if file.state == fileSkipped {
			continue
		}
		if file.state == fileDone {
			p.FilesDone++
		}
		if p.Total < 0 {
			continue
		}
		if file.size < 0 {
			p.Total = -1
			continue
		}
		p.Total += f.files[i].size
	}
	if !f.last {
		p.Total = -1
	}
	return p
}

// dial makes a lane to the sender, on a goroutine.
func (r *receiver) dial(p member) {
	r.mu.Lock()
	r.dialing = true
	native := r.meeting.native != nil && p.native && !r.noNative[p.id]
	r.mu.Unlock()
	r.wg.Go(func() {
		l, err := r.meeting.dial(r.ctx, p, native)
		if err == nil {
			err = r.adopt(l, p.id, roleSender)
		}
		r.mu.Lock()
		r.dialing = false
		if err != nil {
			r.fetcher.opening = 0
			if native && !errors.Is(err, errNotAuthentic) {
				r.noNative[p.id] = true // WebRTC next
			} else if r.meeting.session.Linked() {
				r.failures++ // else it is this end that has no network: it may come back
			}
		} else {
			r.failures = 0
		}
		r.mu.Unlock()
		if errors.Is(err, errNotAuthentic) {
			r.end(err)
		}
		if err != nil {
			r.cfg.Server.log().Debug("dial", "err", err)
		}
		r.stir()
	})
}

// swarm connects to other receivers: those towards whom we make the offer.
func (r *receiver) swarm() {
	for _, p := range r.meeting.with(roleReceiver) {
		now := time.Now()
		r.mu.Lock()
		wanted := p.offer && r.fetcher.gives() && !r.complete && now.After(r.met[p.id]) && len(r.ports)-len(r.fetcher.senders()) < swarmPeers
		native := r.meeting.native != nil && p.native && !r.noNative[p.id]
		if wanted {
			r.met[p.id] = now.Add(24 * time.Hour) // while there is a lane, or one is being made
		}
		r.mu.Unlock()
		if !wanted {
			continue
		}
		r.wg.Go(func() {
			l, err := r.meeting.dial(r.ctx, p, native)
			if err == nil {
				err = r.adopt(l, p.id, roleReceiver)
			}
			if err == nil {
				return
			}
			if errors.Is(err, errNotAuthentic) {
				r.lie()
				return // and is not dialled again
			}
			r.cfg.Server.log().Debug("dial another receiver", "err", err) // the sender has everything
			r.mu.Lock()
			r.met[p.id] = time.Now().Add(swarmRedial)
			if native {
				r.noNative[p.id] = true
				r.met[p.id] = time.Now()
			}
			r.mu.Unlock()
		})
	}
}

// linger serves other receivers on, when we have everything: until they have it too, or ask for nothing any more.
func (r *receiver) linger(ctx context.Context) {
	ticker := time.NewTicker(tickEach)
	defer ticker.Stop()
	started := time.Now()
	for said := false; ; {
		now := time.Now()
		var needed bool
		var progress Progress
		r.change(func() {
			r.fetcher.tick(now)
			r.server.tick(now)
			needed = r.fetcher.lacks() && now.Sub(started) < lingerMax && now.Sub(later(started, r.asked)) < lingerIdle
			progress = r.progressLocked()
		})
		if !needed {
			return
		}
		if !said {
			said = true
			r.cfg.OnEvent(Event{Code: "sharing"})
		}
		r.cfg.OnProgress(progress)
		select {
		case <-ctx.Done():
			return
		case <-r.stirred:
		case <-ticker.C:
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// next reads the next block that another receiver wants.
func (r *receiver) next(p *port, buf []byte) (*outBlock, error) {
	for {
		var b block
		var ok, have bool
		var hash Hash
		var length int
		r.change(func() {
			b, ok = r.server.next(p.id)
			have = ok && r.fetcher.gives() && int(b.file) < len(r.fetcher.files) && r.fetcher.files[b.file].have.has(b.index)
			if have {
				hash = r.fetcher.files[b.file].hashes[b.index]
				length = r.fetcher.files[b.file].length(b.index)
				r.shared += int64(length)
				r.asked = time.Now()
				r.server.spoke(r.asked, p.id)
			}
		})
		if !ok {
			return nil, nil
		}
		if !have {
			continue // it never said so
		}
		n, err := r.disk.read(b, buf[:length])
		if err != nil {
			return nil, err
		}
		if n < length {
			return nil, io.ErrUnexpectedEOF // somebody has cut the file off
		}
		return &outBlock{b, hash, buf[:n]}, nil
	}
}

// lie: somebody who does not know the secret has knocked, or the server is lying.
func (r *receiver) lie() { r.cfg.OnEvent(Event{Code: string(refusal.NotAuthentic)}) }

// adopt says hello on a lane to somebody of that role, and runs it.
func (r *receiver) adopt(l lane, peer, role string) error {
	end := r.disk.end
	if role == roleReceiver {
		end = endForOthers(end)
	}
	r.mu.Lock()
	r.lastPort++
	p := newPort(r.lastPort, l)
	r.ports[p.id] = p
	r.mu.Unlock()
	if err := p.hello(r.ctx, roleReceiver, end, r.cfg.Own, role); err != nil {
		l.Close()
		r.mu.Lock()
		delete(r.ports, p.id)
		r.mu.Unlock()
		return err
	}
	others := len(r.meeting.with(roleReceiver)) > 0
	r.change(func() {
		if p.role == roleSender {
			r.path = l.String()
		} else {
			r.server.addReceiver(time.Now(), p.id, p.end)
		}
		r.fetcher.accompany(time.Now(), others)
		if _, kept := l.(*depotLane); kept {
			r.fetcher.addDepot(time.Now(), p.id, p.end)
		} else {
			r.fetcher.addLane(time.Now(), p.id, p.end, p.role == roleSender)
		}
	})
	r.cfg.OnEvent(Event{Code: "connected", Path: l.String()})
	r.wg.Go(func() {
		written := make(chan struct{})
		go func() {
			defer close(written)
			if p.role == roleSender {
				p.close(p.write(r.ctx, nil))
				return
			}
			buf := make([]byte, BlockSize)
			p.close(p.write(r.ctx, func(context.Context) (*outBlock, error) { return r.next(p, buf) }))
		}()
		err := p.read(r)
		var no *refusal.Refusal
		if errors.As(err, &no) {
			r.cfg.OnEvent(Event{Code: string(no.Code), Text: no.Message})
			p.post(&message{Type: typeBye, Code: string(no.Code)})
			p.close(nil)
		} else {
			p.close(io.ErrClosedPipe)
		}
		<-written
		var complete bool
		r.change(func() {
			delete(r.ports, p.id)
			r.server.removeLane(p.id)
			r.fetcher.removeLane(time.Now(), p.id)
			if p.role == roleReceiver {
				r.met[peer] = time.Now().Add(swarmRedial)
			}
			complete = r.complete && len(r.failed) == 0 && p.role == roleSender
		})
		r.stir()
		if complete {
			r.end(nil) // the sender's bye was lost
		}
		if no != nil && p.role == roleSender && (no.Code == refusal.PathUnsafe || no.Code == refusal.DiskFull || no.Code == refusal.VersionUnsupported || no.Code == refusal.Corrupt || no.Code == refusal.SourceChanged) {
			r.end(no)
		}
	})
	return nil
}

func (r *receiver) closePorts(err error) {
	r.mu.Lock()
	ports := slices.Collect(maps.Values(r.ports))
	r.mu.Unlock()
	for _, p := range ports {
		p.close(err)
		if err != nil {
			p.lane.Close()
		}
	}
}

func (r *receiver) farewell(code refusal.Code) {
	r.mu.Lock()
	ports := slices.Collect(maps.Values(r.ports))
	r.mu.Unlock()
	for _, p := range ports {
		p.post(&message{Type: typeBye, Code: string(code)})
	}
	r.drain()
}

// drain closes the lanes after what is queued.
func (r *receiver) drain() {
	r.closePorts(nil)
	timer := time.NewTimer(flushPatience)
	defer timer.Stop()
	for {
		r.mu.Lock()
		n := len(r.ports)
		r.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-r.stirred:
		case <-timer.C:
			return
		}
	}
}

// change changes the machines, and does what they want done. What two changes want is done in the order of the changes: the answers to get-hashes come in the order of the questions as the
// fetcher remembers it.
func (r *receiver) change(f func()) {
	r.order.Lock()
	defer r.order.Unlock()
	r.mu.Lock()
	f()
	actions := append(r.fetcher.take(), r.server.take()...)
	r.mu.Unlock()
	r.do(actions)
}

// do executes what the fetcher wants.
func (r *receiver) do(actions []action) {
	for _, a := range actions {
		r.mu.Lock()
		p := r.ports[a.lane]
		r.mu.Unlock()
		switch a.kind {
		case doSend:
			if p != nil {
				p.post(a.msg)
			}
		case doClose:
			if p != nil {
				p.close(errLaneDead)
			}
		case doOpen:
			if s := r.meeting.with(roleSender); len(s) > 0 {
				r.dial(s[0])
			} else {
				r.mu.Lock()
				r.fetcher.opening = 0
				r.mu.Unlock()
			}
		case doEntries:
			r.confirm()
		case doFinish:
			r.mu.Lock()
			r.finishes = append(r.finishes, finish{a.file, r.fetcher.entries[a.file], r.fetcher.files[a.file].size})
			r.mu.Unlock()
			select {
			case r.finishQ <- struct{}{}:
			default:
			}
		case doFailed:
			r.mu.Lock()
			e := Event{Code: string(a.code), Path: r.fetcher.entries[a.file].Path}
			r.failed = append(r.failed, e)
			r.mu.Unlock()
			r.disk.discard(a.file)
			r.cfg.OnEvent(e)
		case doComplete:
			r.mu.Lock()
			r.complete = true
			var err error
			if len(r.failed) > 0 {
				err = refusal.New(refusal.Code(r.failed[0].Code)).With("path", r.failed[0].Path)
			}
			r.mu.Unlock()
			if err != nil {
				r.end(err)
			}
			// Else the sender answers with bye: done.
		case doOver:
			r.mu.Lock()
			complete := r.complete
			r.mu.Unlock()
			switch {
			case a.code != refusal.Done:
				r.end(theirs(a.code))
			case complete:
				r.end(nil)
			default:
				r.end(refusal.Newf(refusal.Malformed, "The other side says that everything has arrived, and it has not."))
			}
		}
	}
}

// confirm asks the user, once there is something to ask.
func (r *receiver) confirm() {
	r.mu.Lock()
	if r.offered {
		r.mu.Unlock()
		return
	}
	r.offered = true
	entries, last := slices.Clone(r.fetcher.entries), r.fetcher.last
	r.mu.Unlock()
	r.wg.Go(func() {
		if r.cfg.Confirm != nil && !r.cfg.Confirm(entries, last) {
			r.end(refusal.New(refusal.Declined))
			return
		}
		r.mu.Lock()
		for proven := 0; proven < len(r.fetcher.entries) && r.ctx.Err() == nil; { // pages may come meanwhile
			from, more := proven, slices.Clone(r.fetcher.entries[proven:])
			r.mu.Unlock()
			r.disk.prove(r.ctx, uint32(from), more)
			proven += len(more)
			r.mu.Lock()
		}
		r.mu.Unlock()
		if r.ctx.Err() != nil {
			return
		}
		r.change(func() {
			r.fetcher.resume = func(i uint32, e Entry) []Hash {
				hashes, err := r.disk.claim(i, e)
				if err != nil {
					r.end(err)
				}
				return hashes
			}
			r.fetcher.accept(time.Now(), func(_ uint32, e Entry) bool { return r.cfg.Choose == nil || r.cfg.Choose(e) })
		})
	})
}

// finisher gives files their names, many at once.
func (r *receiver) finisher() {
	ticker := time.NewTicker(flushEach)
	defer ticker.Stop()
	for {
		select {
		case <-r.finishQ:
		case <-ticker.C:
			if err := r.disk.flush(); err != nil {
				r.end(err)
			}
		case <-r.ctx.Done():
			return
		}
		r.mu.Lock()
		list := r.finishes
		r.finishes = nil
		r.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		errs := r.disk.finish(list)
		for k, err := range errs {
			if err != nil {
				r.cfg.Server.log().Warn("finish a file", "path", list[k].entry.Path, "err", err)
				r.end(err)
				return
			}
		}
		now := time.Now()
		r.change(func() {
			for _, fin := range list {
				r.fetcher.finished(now, fin.file, nil)
			}
		})
	}
}

// pour writes the first file to the stream while it comes, in order.
func (r *receiver) pour() {
	buf := make([]byte, BlockSize)
	for i := uint32(0); ; i++ {
		for {
			r.mu.Lock()
			have, end := false, false
			if len(r.fetcher.files) > 0 {
				f := r.fetcher.files[0]
				have, end = f.have.has(i), f.size >= 0 && i >= f.blocks()
			}
			r.mu.Unlock()
			if end {
				close(r.poured)
				return
			}
			if have {
				break
			}
			select {
			case <-r.arrived:
			case <-r.ctx.Done():
				return
			}
		}
		n, err := r.disk.read(block{0, i}, buf)
		if err == nil {
			_, err = r.cfg.Stream.Write(buf[:n])
		}
		if err != nil {
			r.end(fmt.Errorf("write the stream: %w", err))
			return
		}
	}
}

// The inbox of the ports.

func (r *receiver) onMessage(p *port, m *message) error {
	r.mu.Lock()
	prove := m.Type == typeManifest && r.fetcher.chosen
	r.mu.Unlock()
	if prove {
		r.disk.prove(r.ctx, *m.From, m.Entries)
	}
	var err error
	var changed bool
	asked := p.role == roleReceiver && (m.Type == typeWant || m.Type == typeUnwant)
	r.change(func() {
		if changed = m.Type == typePause && p.role == roleSender && r.held != m.On; changed {
			r.held = m.On
		}
		if asked {
			err = r.server.message(time.Now(), p.id, m)
		} else {
			err = r.fetcher.message(time.Now(), p.id, m)
		}
		if r.fetcher.alone {
			r.meeting.deafen()
		}
	})
	if changed { // it is said on each lane
		r.cfg.OnEvent(pauseEvent(m.On))
	}
	if asked {
		p.stir()
	}
	r.more()
	return err
}

// more wakes pour.
func (r *receiver) more() {
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

func (r *receiver) onHashes(p *port, l *hashList) error {
	var err error
	r.change(func() { err = r.fetcher.hashList(time.Now(), p.id, l) })
	return err
}

func (r *receiver) onPart(p *port) {
	r.mu.Lock()
	r.fetcher.heard(time.Now(), p.id)
	r.mu.Unlock()
}

func (r *receiver) onBlock(p *port, b block, h Hash, data []byte) error {
	r.mu.Lock()
	want, err := r.fetcher.blockArrived(time.Now(), p.id, b, len(data), h)
	r.mu.Unlock()
	if err != nil || !want {
		return err
	}
	werr := r.disk.write(b, h, data)
	r.change(func() {
		if werr != nil {
			r.fetcher.lostBlock(b)
		} else {
			r.fetcher.kept(time.Now(), b, h)
		}
	})
	r.more()
	if werr != nil {
		r.end(werr)
		return werr
	}
	return nil
}

func (r *receiver) onCorrupt(p *port, b block) error {
	r.mu.Lock()
	r.fetcher.corrupt(p.id)
	r.mu.Unlock()
	return refusal.New(refusal.Corrupt)
}

// Redeem buys the ticket of a code.
func Redeem(ctx context.Context, server Server, code Code) (Ticket, error) {
	origin, err := server.complete(ctx)
	if err != nil {
		return Ticket{}, err
	}
	type arrival struct {
		from string
		m    codeMessage
	}
	var (
		peers   = make(chan string, 16)
		answers = make(chan arrival, 16)
	)
	hasSender := func(p signal.Peer) {
		var info peerInfo
		if json.Unmarshal(p.Info, &info) == nil && info.Transfer != nil && info.Transfer.Role == roleSender {
			select {
			case peers <- p.ID:
			default:
			}
		}
	}
	session, err := server.join(ctx, origin, code.Channel(), roleReceiver, func(m signal.ServerMessage) {
		switch m := m.(type) {
		case *signal.Joined:
			for _, p := range m.Peers {
				hasSender(p)
			}
		case *signal.PeerJoined:
			hasSender(m.Peer)
		case *signal.FromSignal:
			if c, ok := readCodeMessage(m.Data); ok {
				select {
				case answers <- arrival{m.From, c}:
				default:
				}
			}
		}
	})
	if err != nil {
		return Ticket{}, err
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = session.Leave(leaving) // the server may be gone
		session.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nobody := func() error { return refusal.New(refusal.CodeSpent).Because(ErrNobodyWaits) }
	var sender string
	select {
	case sender = <-peers:
	case <-time.After(5 * time.Second):
		return Ticket{}, nobody()
	case <-ctx.Done():
		return Ticket{}, ctx.Err()
	}
	x, first := code.redeem()
	if err := sendCode(ctx, session, sender, first); err != nil {
		return Ticket{}, nobody()
	}
	for {
		var in arrival
		select {
		case in = <-answers:
		case <-ctx.Done():
			return Ticket{}, refusal.New(refusal.NoPath).Because(ctx.Err())
		case <-session.Done():
			return Ticket{}, session.Err()
		}
		switch {
		case in.from != sender:
		case in.m.Error == string(refusal.CodeSpent):
			return Ticket{}, refusal.New(refusal.CodeSpent)
		case in.m.Error != "":
			return Ticket{}, refusal.New(refusal.CodeWrong).With("left", in.m.Left)
		case in.m.Step == 2:
			third, err := x.confirm(in.m)
			if err != nil {
				return Ticket{}, err
			}
			if err := sendCode(ctx, session, sender, third); err != nil {
				return Ticket{}, nobody()
			}
		case in.m.Step == 4 && x.isk != nil:
			return x.open(in.m)
		}
	}
}
