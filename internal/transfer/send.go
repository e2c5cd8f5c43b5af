package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

const (
	tickEach     = 200 * time.Millisecond
	codeAttempts = 5
	codePeers    = 1000 // that are in the middle of an exchange
)

// SendConfig says what to send. Server and Paths (or Stream) are required.
type SendConfig struct {
	Server    Server
	Paths     []string  // files and folders
	Stream    io.Reader // instead of Paths
	Name      string    // of the stream
	Ticket    Ticket    // zero: a new one
	End       string    // our name towards receivers, kept with the ticket; empty: a new one
	Own       string    // what the receiver's user sees of us
	Receivers int       // for how many the link is; 0: any number, until ctx ends
	NoCode    bool
	To        string  // a channel whose members are told
	LimitBps  float64 // bits a second over all lanes; 0: none

	// Store brings everything to the server too, sealed, for receivers who come when this end has left. Leave ends Send then, with ErrStored; without it, Send returns ErrStored when
	// ctx ends after that. StoreToken is from NewStoreToken, kept with the ticket; empty: a new one.
	Store      bool
	Leave      bool
	StoreToken string

	// Pauses holds blocks back with true, and goes on with false. nil: never.
	Pauses <-chan bool

	// OnReady is called once, when a receiver can come. OnProgress is called several times a second, OnEvent when something is worth saying.
	OnReady    func(link string, code string)
	OnProgress func(Progress)
	OnEvent    func(Event)
}

// Progress is how far a transfer has come.
type Progress struct {
	Files     int    `json:"files"`
	FilesDone int    `json:"filesDone"`
	Bytes     int64  `json:"bytes"` // arrived and verified
	Total     int64  `json:"total"` // -1: not known yet
	Sent      int64  `json:"sent"`  // over lanes, in this life
	Resent    int64  `json:"resent,omitempty"`
	Shared    int64  `json:"shared,omitempty"`    // given to other receivers
	Receivers int    `json:"receivers,omitempty"` // that have accepted
	Lanes     int    `json:"lanes"`
	Path      string `json:"path,omitempty"`
	Stored    int64  `json:"stored,omitempty"` // on the server
}

// An Event is something worth saying: its Code is one of docs/transfer.md §13 or §16.
type Event struct {
	Code  string `json:"code"`
	Path  string `json:"path,omitempty"` // a file, the kind of lane, or the name of who was told
	Text  string `json:"text,omitempty"`
	Until int64  `json:"untilMs,omitempty"` // of stored: how long it is kept
}

// pauseEvent says that the other side has paused, or goes on.
func pauseEvent(on bool) Event {
	if on {
		return Event{Code: "paused"}
	}
	return Event{Code: "resumed"}
}

// A sender runs Send.
type sender struct {
	cfg     SendConfig
	ctx     context.Context
	source  *source
	meeting *meeting
	limit   *rate.Limiter // bytes
	wg      sync.WaitGroup
	gone    chan struct{} // capacity 1: a port has ended
	rooting chan struct{} // capacity 1: there are roots to make
	ended   chan error    // capacity 1

	order    sync.Mutex // held while a change is made and done; taken before mu and a port's lock
	mu       sync.Mutex
	server   *server
	ports    map[int]*port
	lastPort int
	draining bool // nobody new is served
	sent     int64
	failed   map[uint32]refusal.Code
	depot    *depotClient // nil: there is none
	stored   bool         // everything is there
	kept     int64        // bytes of files there
	upload   *upload      // nil: nothing is to be there
}

// Send offers files, and returns when all receivers have everything, or when ctx ends. Errors are refusals where the other side or a file is the cause.
func Send(ctx context.Context, cfg SendConfig) error {
	if cfg.Ticket.ID == "" {
		cfg.Ticket = NewTicket()
	}
	if cfg.End == "" {
		cfg.End = newEnd()
	}
	if cfg.Store && cfg.StoreToken == "" {
		cfg.StoreToken = NewStoreToken()
	}
	if cfg.OnReady == nil {
		cfg.OnReady = func(string, string) {}
	}
	if cfg.OnProgress == nil {
		cfg.OnProgress = func(Progress) {}
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	var named load
	for _, p := range cfg.Paths {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if size := info.Size(); info.Mode().IsRegular() && !named.add(Entry{Path: filepath.Base(p), Size: &size}) {
			return tooLarge().With("path", filepath.Base(p)) // before anybody has a link
		}
	}
	s := &sender{cfg: cfg, server: newServer(cfg.Receivers), source: &source{}, ports: map[int]*port{}, failed: map[uint32]refusal.Code{}, gone: make(chan struct{}, 1), rooting: make(chan struct{}, 1), ended: make(chan error, 1),
		limit: rate.NewLimiter(rate.Inf, BlockSize)}
	if cfg.LimitBps > 0 {
		s.limit.SetLimit(rate.Limit(cfg.LimitBps / 8))
	}
	if cfg.Stream != nil {
		if checkPath(cfg.Name) != nil {
			return refusal.Newf(refusal.InvalidField, "%q cannot be the name of a file.", cfg.Name).Advise("Choose another one with --as, of at most 255 bytes.")
		}
		var err error
		if s.source, err = newStream(cfg.Name); err != nil {
			return err
		}
	}
	return s.run(ctx)
}

func newEnd() string {
	t := NewTicket()
	return t.secret()
}

func (s *sender) run(ctx context.Context) (err error) {
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	s.ctx = ctx
	defer func() {
		cancel()
		s.closePorts(nil)
		s.wg.Wait()
		s.source.close()
	}()
	gathered := make(chan struct{})
	s.wg.Go(func() {
		defer close(gathered)
		s.gather()
	})
	m, err := meet(ctx, s.cfg.Server, s.cfg.Ticket, roleSender, handlers{
		members: func() {},
		lane:    func(_ string, l lane) { s.adopt(l) },
		lie:     func() { s.cfg.OnEvent(Event{Code: string(refusal.NotAuthentic)}) },
	})
	if err != nil {
		return err
	}
	s.meeting = m
	defer m.close()

	var code string
	if !s.cfg.NoCode {
		if c, err := s.offerCode(ctx); err == nil {
			code = c.code.String()
			s.wg.Go(func() { c.run(ctx) })
		} else if ctx.Err() == nil {
			s.cfg.OnEvent(Event{Code: "no_code", Text: err.Error()}) // the link is what matters
		}
	}
	select {
	case err := <-s.ended: // what cannot be sent needs no link
		return err
	default:
	}
	s.cfg.OnReady(s.cfg.Ticket.Link(m.server.URL), code)
	if s.cfg.Store {
		u := s.newUpload()
		s.mu.Lock()
		s.upload = u
		s.mu.Unlock()
		s.wg.Go(func() { s.store(u) })
	}
	if s.cfg.To != "" {
		s.wg.Go(func() {
			select {
			case <-gathered:
				s.tell()
			case <-ctx.Done():
			}
		})
	}
	s.wg.Go(s.makeRoots)
	ticker := time.NewTicker(tickEach)
	defer ticker.Stop()
	for {
		select {
		case <-parent.Done():
			s.mu.Lock()
			waits, stored := s.depot != nil, s.stored
			s.mu.Unlock()
			if !waits {
				s.farewell(refusal.Cancelled)
			} else {
				s.drain() // whoever is receiving goes on with what is on the server
			}
			if stored {
				return ErrStored
			}
			return refusal.New(refusal.Cancelled)
		case err := <-s.ended:
			if errors.Is(err, ErrStored) {
				s.drain()
				s.report()
				return err
			}
			if errors.Is(err, errTaken) {
				s.cfg.OnEvent(Event{Code: string(refusal.Done)})
				s.drain()
				s.report()
				return nil // and the server remembers it, for those who come too late
			}
			if err != nil {
				s.farewell(refusal.From(err).Code)
			}
			s.drain()
			s.clear()
			s.report()
			return err
		case <-m.session.Done():
			// Lanes go on; but nobody new can come.
			s.mu.Lock()
			n := len(s.ports)
			s.mu.Unlock()
			if n == 0 {
				return m.session.Err()
			}
		case on := <-s.cfg.Pauses:
			s.pause(on)
		case <-ticker.C:
		}
		var progress Progress
		s.change(func() {
			s.server.tick(time.Now())
			progress = s.progressLocked()
		})
		s.cfg.OnProgress(progress)
	}
}

func (s *sender) report() {
	s.mu.Lock()
	progress := s.progressLocked()
	s.mu.Unlock()
	s.cfg.OnProgress(progress)
}

func (s *sender) pause(on bool) {
	s.change(func() { s.server.pause(on) })
	s.mu.Lock()
	ports := slices.Collect(maps.Values(s.ports))
	s.mu.Unlock()
	for _, p := range ports {
		p.stir()
	}
}

// farewell tells everybody that it is over.
func (s *sender) farewell(code refusal.Code) {
	s.mu.Lock()
	ports := slices.Collect(maps.Values(s.ports))
	s.mu.Unlock()
	for _, p := range ports {
		p.post(&message{Type: typeBye, Code: string(code)})
	}
	s.drain()
}

// drain closes the lanes after what is queued, and takes no new ones.
func (s *sender) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.closePorts(nil)
	timer := time.NewTimer(flushPatience)
	defer timer.Stop()
	for {
		s.mu.Lock()
		n := len(s.ports)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-s.gone:
		case <-timer.C:
			s.closePorts(errLaneDead) // run waits for them
			return
		}
	}
}

func (s *sender) closePorts(err error) {
	s.mu.Lock()
	ports := slices.Collect(maps.Values(s.ports))
	s.mu.Unlock()
	for _, p := range ports {
		p.close(err)
		if err != nil {
			p.lane.Close()
		}
	}
}

func (s *sender) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

func (s *sender) progressLocked() Progress {
	p := Progress{Files: len(s.server.entries), Total: -1, Sent: s.sent, Lanes: len(s.ports), Stored: s.kept}
	if sum, known := s.server.sum(); known && s.server.last {
		p.Total = sum
	}
	for _, t := range s.server.takers {
		p.Bytes += t.bytes
		p.Receivers++
		if t.complete {
			p.FilesDone = len(s.server.entries)
		}
	}
	for _, port := range s.ports {
		p.Path = port.lane.String()
	}
	return p
}

// gather finds the files.
func (s *sender) gather() {
	add := func(entries []Entry, last bool) {
		var u *upload
		s.change(func() {
			s.server.add(entries, last)
			u = s.upload
		})
		if u != nil {
			u.stir()
		}
	}
	if s.cfg.Stream != nil {
		add([]Entry{{Path: s.cfg.Name}}, true)
		// A read of standard input cannot be interrupted: this goroutine may outlive Send, and owns nothing but the stream.
		go func() {
			err := s.source.stream.pump(s.cfg.Stream, func(size int64) {
				s.source.mu.Lock()
				s.source.files[0].entry.Size = &size
				s.source.mu.Unlock()
				s.change(func() { s.server.size(0, size) })
			})
			var no *refusal.Refusal
			switch {
			case errors.As(err, &no):
				s.end(no)
			case err != nil && !errors.Is(err, os.ErrClosed):
				s.end(refusal.New(refusal.SourceUnreadable).Because(err))
			}
		}()
		return
	}
	err := s.source.walk(s.ctx, s.cfg.Paths, func(e []Entry) error { add(e, false); return nil }, func(path, why string) {
		s.cfg.OnEvent(Event{Code: "skipped", Path: path, Text: why})
	})
	if err != nil {
		s.end(err)
		return
	}
	add(nil, true)
}

// adopt runs a new lane until it ends.
func (s *sender) adopt(l lane) {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		l.Close()
		return
	}
	s.lastPort++
	p := newPort(s.lastPort, l)
	s.ports[p.id] = p
	s.mu.Unlock()
	s.wg.Go(func() {
		defer func() {
			l.Close()
			s.mu.Lock()
			delete(s.ports, p.id)
			s.server.removeLane(p.id)
			s.mu.Unlock()
			select {
			case s.gone <- struct{}{}:
			default:
			}
		}()
		if p.hello(s.ctx, roleSender, s.cfg.End, s.cfg.Own, roleReceiver) != nil {
			return
		}
		s.cfg.OnEvent(Event{Code: "connected", Path: l.String()})
		s.mu.Lock()
		s.server.addLane(time.Now(), p.id, p.end)
		s.mu.Unlock()
		p.most = maxAnswers
		buf := make([]byte, BlockSize)
		written := make(chan struct{})
		go func() {
			defer close(written)
			p.close(p.write(s.ctx, func(ctx context.Context) (*outBlock, error) { return s.next(ctx, p, buf) }))
		}()
		err := p.read(s)
		var r *refusal.Refusal
		if errors.As(err, &r) { // their fault: tell them
			p.post(&message{Type: typeBye, Code: string(r.Code)})
			p.close(nil)
		} else {
			p.close(io.ErrClosedPipe)
		}
		<-written
	})
}

// next reads the next block that is owed on a lane.
func (s *sender) next(ctx context.Context, p *port, buf []byte) (*outBlock, error) {
	for {
		var b block
		var ok bool
		s.change(func() { b, ok = s.server.next(p.id) })
		if !ok {
			return nil, nil
		}
		data, hash, err := s.source.read(ctx, b.file, b.index, buf)
		if err != nil {
			var r *refusal.Refusal
			if !errors.As(err, &r) {
				return nil, err
			}
			s.fail(b.file, r)
			continue
		}
		if data == nil {
			continue
		}
		if err := s.limit.WaitN(ctx, len(data)); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.sent += int64(len(data))
		s.server.spoke(time.Now(), p.id)
		s.mu.Unlock()
		return &outBlock{b, hash, data}, nil
	}
}

func (s *sender) fail(file uint32, r *refusal.Refusal) {
	var known bool
	var path string
	s.change(func() {
		_, known = s.failed[file]
		s.failed[file] = r.Code
		s.server.fail(file, r.Code)
		path = s.server.entries[file].Path
	})
	if !known {
		s.cfg.OnEvent(Event{Code: string(r.Code), Path: path})
	}
}

// change changes the server, and does what it wants done. What two changes want is done in the order of the changes: pages of the manifest
// must not overtake each other on the way to a lane.
func (s *sender) change(f func()) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	f()
	actions := s.server.take()
	s.mu.Unlock()
	s.do(actions)
}

// do executes what the server wants.
func (s *sender) do(actions []action) {
	for _, a := range actions {
		s.mu.Lock()
		p := s.ports[a.lane]
		s.mu.Unlock()
		switch a.kind {
		case doSend:
			if p != nil {
				p.post(a.msg)
				if a.msg.Type == typeBye {
					p.close(nil)
				}
			}
		case doHashes:
			if p != nil {
				p.postBinary((&hashList{File: *a.msg.File, First: *a.msg.First, Hashes: s.source.known(*a.msg.File, *a.msg.First, a.msg.Count)}).encode())
			}
		case doComplete:
			s.mu.Lock()
			done, failed := s.server.done(), len(s.failed)
			s.mu.Unlock()
			if done {
				var err error
				if failed > 0 {
					err = s.firstFailure()
				}
				s.end(err)
			}
		case doOver:
			s.cfg.OnEvent(Event{Code: string(a.code)})
			if p != nil {
				p.close(nil)
			}
			s.mu.Lock()
			theirs := p != nil && s.server.takers[p.end] != nil // and not somebody's who has only looked
			s.mu.Unlock()
			if theirs && s.cfg.Receivers == 1 && (a.code == refusal.Declined || a.code == refusal.Cancelled) {
				s.end(refusal.New(a.code))
			}
		}
	}
}

func (s *sender) firstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range slices.Sorted(maps.Keys(s.failed)) {
		return refusal.New(s.failed[i]).With("path", s.server.entries[i].Path)
	}
	return nil
}

// The inbox of the ports.

func (s *sender) onMessage(p *port, m *message) error {
	if m.Type == typeAccept {
		if code := s.claim(p); code != "" {
			p.post(&message{Type: typeBye, Code: string(code)})
			p.close(nil)
			return nil
		}
	}
	now := time.Now()
	var err error
	var roots bool
	s.change(func() {
		err = s.server.message(now, p.id, m)
		roots = len(s.server.roots) > 0
	})
	if err != nil {
		return err
	}
	switch m.Type {
	case typeWant, typeUnwant:
		p.stir()
	case typePause: // it is said on each lane
		s.mu.Lock()
		t := s.server.takers[p.end]
		changed := t != nil && t.paused != m.On
		if changed {
			t.paused = m.On
		}
		s.mu.Unlock()
		if changed {
			s.cfg.OnEvent(pauseEvent(m.On))
		}
	}
	if roots {
		select {
		case s.rooting <- struct{}{}:
		default:
		}
	}
	return nil
}

func (s *sender) onHashes(*port, *hashList) error          { return malformed("hashes to a sender") }
func (s *sender) onBlock(*port, block, Hash, []byte) error { return malformed("a block to a sender") }
func (s *sender) onCorrupt(*port, block) error             { return malformed("a block to a sender") }
func (s *sender) onPart(*port)                             {}

// makeRoots makes one root after the other: it may have to read much.
func (s *sender) makeRoots() {
	for {
		select {
		case <-s.rooting:
		case <-s.ctx.Done():
			return
		}
		for {
			s.mu.Lock()
			if len(s.server.roots) == 0 {
				s.mu.Unlock()
				break
			}
			w := s.server.roots[0]
			s.mu.Unlock()
			m := message{Type: typeRoot}
			var root Hash
			var err error
			if w.file >= 0 {
				i := uint32(w.file)
				m.File = &i
				root, err = s.source.root(s.ctx, i)
				var r *refusal.Refusal
				if errors.As(err, &r) {
					s.fail(i, r)
				}
			} else {
				root, err = s.manifestRoot()
			}
			s.mu.Lock()
			s.server.roots = slices.DeleteFunc(s.server.roots, func(o rootWish) bool { return o == w })
			p := s.ports[w.lane]
			s.mu.Unlock()
			if s.ctx.Err() != nil {
				return
			}
			if err == nil && p != nil {
				m.Root = b64.EncodeToString(root[:])
				p.post(&m)
			}
		}
	}
}

func (s *sender) manifestRoot() (Hash, error) {
	s.mu.Lock()
	entries := slices.Clone(s.server.entries)
	s.mu.Unlock()
	roots := make([]Hash, len(entries))
	for i := range entries {
		var err error
		if roots[i], err = s.source.root(s.ctx, uint32(i)); err != nil {
			return Hash{}, err
		}
	}
	return manifestRoot(entries, roots), nil
}

// A codeOffer waits in the channel of a code, and sells the link for the right words.
type codeOffer struct {
	s       *sender
	code    Code
	session *signalclient.Session
	inbox   chan codeNews // bounded; what does not fit is lost
}

// codeNews is what somebody in a code's channel says, or that they are gone.
type codeNews struct {
	from string
	data json.RawMessage
	left bool
}

func (s *sender) offerCode(ctx context.Context) (*codeOffer, error) {
	server := s.meeting.server
	origin := ""
	if server.Token == "" {
		server.Key = ""
		var err error
		if origin, err = server.complete(ctx); err != nil {
			return nil, err
		}
	}
	for attempt := 0; ; attempt++ {
		c := &codeOffer{s: s, code: NewCode(), inbox: make(chan codeNews, 64)}
		joined := make(chan []signal.Peer, 1)
		hear := func(n codeNews) {
			select {
			case c.inbox <- n:
			default:
			}
		}
		var err error
		c.session, err = server.join(ctx, origin, c.code.Channel(), roleSender, func(m signal.ServerMessage) {
			switch m := m.(type) {
			case *signal.Joined:
				select {
				case joined <- m.Peers:
				default:
				}
			case *signal.FromSignal:
				hear(codeNews{from: m.From, data: m.Data})
			case *signal.PeerLeft:
				hear(codeNews{from: m.Peer, left: true})
			}
		})
		if err != nil {
			return nil, err
		}
		taken := slices.ContainsFunc(<-joined, func(p signal.Peer) bool {
			var info peerInfo
			return json.Unmarshal(p.Info, &info) == nil && info.Transfer != nil && info.Transfer.Role == roleSender
		})
		if !taken {
			return c, nil
		}
		c.leave()
		if attempt == 20 {
			return nil, errors.New("no free code")
		}
	}
}

func (c *codeOffer) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.session.Leave(ctx) // the server may be gone
	c.session.Close()
}

func (c *codeOffer) run(ctx context.Context) {
	defer c.leave()
	left := codeAttempts
	attempts := map[string]*codeExchange{} // by peer
	for {
		var in codeNews
		select {
		case in = <-c.inbox:
		case <-ctx.Done():
			return
		case <-c.session.Done():
			return
		}
		if in.left {
			delete(attempts, in.from)
			continue
		}
		m, ok := readCodeMessage(in.data)
		if !ok {
			continue
		}
		var reply codeMessage
		var spent bool
		switch x := attempts[in.from]; {
		case m.Step == 1 && len(attempts) < codePeers:
			fresh, answer, err := c.code.answer(m)
			if err != nil {
				continue
			}
			attempts[in.from], reply = fresh, answer
		case m.Step == 3 && x != nil:
			delete(attempts, in.from)
			sealed, err := x.seal(m, c.s.cfg.Ticket)
			if err == nil {
				reply, spent = sealed, c.s.cfg.Receivers == 1
				break
			}
			left--
			reply = codeMessage{Error: string(refusal.CodeWrong), Left: left}
			if left == 0 {
				reply, spent = codeMessage{Error: string(refusal.CodeSpent)}, true
				c.s.cfg.OnEvent(Event{Code: string(refusal.CodeSpent)})
			} else {
				c.s.cfg.OnEvent(Event{Code: string(refusal.CodeWrong)})
			}
		default:
			continue
		}
		_ = sendCode(ctx, c.session, in.from, reply) // the peer may have left
		if spent {
			return
		}
	}
}

func readCodeMessage(data []byte) (codeMessage, bool) {
	var d struct {
		Code *codeMessage `json:"code"`
	}
	if json.Unmarshal(data, &d) != nil || d.Code == nil {
		return codeMessage{}, false
	}
	return *d.Code, true
}

func sendCode(ctx context.Context, session *signalclient.Session, to string, m codeMessage) error {
	data, err := json.Marshal(map[string]any{"code": m})
	if err != nil {
		return err
	}
	return session.Call(ctx, &signal.Signal{To: to, Data: data})
}
