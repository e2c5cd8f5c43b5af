// Package depot keeps what waits for receivers of file transfers while the sender is away (docs/transfer.md §15): numbered objects that the ends have sealed. It knows neither names nor content
// nor the tokens that open a depot, of which it has hashes alone.
//
// Objects are files below one folder, and not in the database: they are large, and gone within days. What it promises after a crash: an object that is there is whole, and everything is
// counted exactly. Who may make a depot, and how much it may hold, is the caller's to decide.
package depot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Config of a Service. Dir is required.
type Config struct {
	Dir string // is made with the first depot
	// Keep reports whether a project still exists; depots of others are removed. nil: all do.
	Keep func(ctx context.Context, project string) bool
	Log  *slog.Logger // nil: discard
}

// A Service keeps depots. It is safe for concurrent use.
type Service struct {
	c     Config
	log   *slog.Logger
	stir  chan struct{} // capacity 1: a depot may expire earlier than Run waits for
	slots chan struct{} // uploads that are in memory

	mu     sync.Mutex // taken after a depot's
	depots map[string]*depot
	used   map[string]int64 // by project
	moved  map[string]*traffic
}

type traffic struct{ in, out uint64 }

const (
	uploads = 64 // at once, each of at most MaxUpload in memory
	// tombLife is how long it is remembered that a depot was used up or has expired, so that late-comers are told.
	tombLife = 7 * 24 * time.Hour
	sweepMax = time.Hour
)

// State of a depot.
type State string

const (
	Open    State = "open"
	Taken   State = "taken"   // the one receiver has everything; the objects are gone
	Expired State = "expired" // likewise, of old age
)

// record is depot.json.
type record struct {
	ID      string    `json:"id"`
	Project string    `json:"project"`
	Upload  string    `json:"upload"` // SHA-256 of the token, hex
	Read    string    `json:"read"`
	Once    bool      `json:"once"`  // for one receiver
	Taker   string    `json:"taker"` // who that is
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

type depot struct {
	commit sync.Mutex   // held while objects are written, and when all goes; taken before mu
	mu     sync.RWMutex // of what follows
	record
	objects
	gone   bool
	next   *group            // what the next commit writes; nil: nothing
	coming map[uint64]*group // objects of that, and of the present commit
	starts int               // of ranges, at most, in coming
}

// A group is uploads that are made safe together, since that takes a while whatever their number.
type group struct {
	list   []Object
	cost   int64
	starts int
	done   chan struct{}
	err    error // once done
}

// New says what a depot is to be.
type New struct {
	ID           string
	Project      string
	Upload, Read [sha256.Size]byte // hashes of the tokens
	Once         bool              // for one receiver: their receipt removes it
	Lifetime     time.Duration
}

// Info is what a token's bearer may know of a depot.
type Info struct {
	Project string
	State   State
	Once    bool
	Taker   string
	Expires time.Time
	Bytes   int64 // of the objects
	Objects []Range
	Sender  bool // the token was the one for uploads
}

const (
	recordFile  = "depot.json"
	objectsFile = "objects"
	indexFile   = "index"
)

var idForm = regexp.MustCompile(`^[a-z2-7]{16}$`)

// ValidID reports whether this can be a transfer's id.
func ValidID(id string) bool { return idForm.MatchString(id) }

// Load reads what is there, and cuts off what a crash has left. Run must be called.
func Load(c Config) (*Service, error) {
	s := &Service{c: c, log: c.Log, stir: make(chan struct{}, 1), slots: make(chan struct{}, uploads), depots: map[string]*depot{}, used: map[string]int64{}, moved: map[string]*traffic{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.c.Keep == nil {
		s.c.Keep = func(context.Context, string) bool { return true }
	}
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, s.disk("read the depots", err)
	}
	for _, e := range entries {
		dir := filepath.Join(c.Dir, e.Name())
		if !ValidID(e.Name()) {
			// Ours are .new… and .gone…; nothing else belongs here.
			if strings.HasPrefix(e.Name(), ".") {
				if err := os.RemoveAll(dir); err != nil {
					return nil, s.disk("remove what a crash has left", err)
				}
			}
			continue
		}
		d, err := s.load(e.Name())
		if err != nil {
			// One depot is no reason for none: its transfer begins anew, or waits for the operator.
			s.log.Error("a depot is left out", "folder", s.setAside(e.Name(), err), "err", err)
			continue
		}
		s.depots[d.ID] = d
		s.used[d.Project] += d.charge()
	}
	return s, nil
}

// errDamaged: what a depot is cannot be read from its record, and never will be.
var errDamaged = errors.New(recordFile + " is damaged")

// setAside makes room for a new depot of the same transfer where the record of the old one is damaged, and says where the folder is then.
func (s *Service) setAside(id string, why error) string {
	from, to := s.path(id), s.path("damaged-"+id)
	if !errors.Is(why, errDamaged) || errors.Join(os.RemoveAll(to), os.Rename(from, to)) != nil {
		return from
	}
	return to
}

func (s *Service) load(id string) (*depot, error) {
	d := &depot{}
	b, err := os.ReadFile(s.path(id, recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errDamaged
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &d.record); err != nil || d.ID != id || d.State != Open && d.State != Taken && d.State != Expired {
		return nil, errDamaged
	}
	if d.State != Open {
		return d, s.dropObjects(d)
	}
	var size int64
	if info, err := os.Stat(s.path(id, objectsFile)); err == nil {
		size = info.Size()
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	index, err := os.ReadFile(s.path(id, indexFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	read := 0
	d.objects, read = readIndex(index, size)
	if read < len(index) {
		if err := os.Truncate(s.path(id, indexFile), int64(read)); err != nil {
			return nil, err
		}
	}
	if d.size < size {
		if err := os.Truncate(s.path(id, objectsFile), d.size); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (s *Service) path(id string, name ...string) string {
	return filepath.Join(append([]string{s.c.Dir, id}, name...)...)
}

// disk explains what the file system says.
func (s *Service) disk(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refusal.New(refusal.DepotDiskFull).Because(err)
	}
	return refusal.New(refusal.Storage).Because(fmt.Errorf("%s: %w", what, err))
}

// Create makes a depot, or finds the one that the same sender has made before. A quota is bytes of the project's depots together.
func (s *Service) Create(n New, quota int64) (Info, error) {
	now := time.Now()
	d := &depot{record: record{
		ID: n.ID, Project: n.Project, Upload: hex.EncodeToString(n.Upload[:]), Read: hex.EncodeToString(n.Read[:]), Once: n.Once, State: Open, Created: now, Expires: now.Add(n.Lifetime),
	}, objects: objects{at: map[uint64]place{}}}
	d.mu.Lock()
	s.mu.Lock()
	if old := s.depots[n.ID]; old != nil {
		s.mu.Unlock()
		d.mu.Unlock()
		old.mu.RLock()
		defer old.mu.RUnlock()
		if old.gone || old.Upload != d.Upload || old.Read != d.Read || old.Project != d.Project {
			return Info{}, refusal.Newf(refusal.Conflict, "Something of this transfer waits here already, from another sender.")
		}
		return s.infoLocked(old, true, now), nil
	}
	defer d.mu.Unlock()
	if err := s.reserveLocked(n.Project, depotCharge, quota); err != nil {
		s.mu.Unlock()
		return Info{}, err
	}
	s.depots[n.ID] = d // others of the same id wait for its lock
	s.mu.Unlock()
	if err := s.make(d); err != nil {
		s.forget(d)
		return Info{}, s.disk("make a depot", err)
	}
	select {
	case s.stir <- struct{}{}:
	default:
	}
	return s.infoLocked(d, true, now), nil
}

// make writes a folder under another name, and gives it its name when all of it is there.
func (s *Service) make(d *depot) error {
	if err := os.MkdirAll(s.c.Dir, 0o700); err != nil {
		return err
	}
	fresh := s.path(".new-" + d.ID)
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := writeRecord(filepath.Join(fresh, recordFile), &d.record); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, s.path(d.ID)); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return syncDir(s.c.Dir)
}

// save replaces a depot's record. A crash leaves the old one or the new one.
func (s *Service) save(d *depot) error {
	temporary := s.path(d.ID, recordFile+".new")
	if err := writeRecord(temporary, &d.record); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, s.path(d.ID, recordFile)); err != nil {
		return err
	}
	return syncDir(s.path(d.ID))
}

func writeRecord(path string, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeSynced(path, os.O_TRUNC, 0, b)
}

// writeSynced writes at an offset, and returns when it is on the disk.
func writeSynced(path string, flag int, offset int64, pieces ...[]byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	for _, b := range pieces {
		if _, err := f.WriteAt(b, offset); err != nil {
			return errors.Join(err, f.Close())
		}
		offset += int64(len(b))
	}
	return errors.Join(f.Sync(), f.Close())
}

// reserveLocked charges a project before anything is written.
func (s *Service) reserveLocked(project string, n, quota int64) error {
	if s.used[project]+n > quota {
		return refusal.New(refusal.DepotFull).With("quotaBytes", quota).With("usedBytes", s.used[project])
	}
	s.used[project] += n
	return nil
}

func (s *Service) release(project string, n int64) {
	s.mu.Lock()
	s.releaseLocked(project, n)
	s.mu.Unlock()
}

func (s *Service) releaseLocked(project string, n int64) {
	if s.used[project] -= n; s.used[project] == 0 {
		delete(s.used, project)
	}
}

// forget takes a depot out of the table. Its lock is held.
func (s *Service) forget(d *depot) {
	d.gone = true
	s.mu.Lock()
	delete(s.depots, d.ID)
	s.releaseLocked(d.Project, d.charge())
	s.mu.Unlock()
}

func equalToken(token, hash string) bool {
	h := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(h[:])), []byte(hash)) == 1
}

// find returns a depot and whether the token is the sender's. A refusal says that there is none, or that the token is wrong.
func (s *Service) find(id, token string) (d *depot, sender bool, err error) {
	s.mu.Lock()
	d = s.depots[id]
	s.mu.Unlock()
	if d == nil {
		return nil, false, refusal.New(refusal.DepotUnknown)
	}
	// The hashes never change.
	sender = equalToken(token, d.Upload)
	if !sender && !equalToken(token, d.Read) {
		return nil, false, refusal.New(refusal.DepotToken)
	}
	return d, sender, nil
}

// usableLocked refuses what is over. The depot's lock is held.
func (d *depot) usableLocked(now time.Time) error {
	switch {
	case d.gone:
		return refusal.New(refusal.DepotUnknown)
	case d.State == Taken:
		return refusal.New(refusal.TransferTaken)
	case d.State == Expired || !now.Before(d.Expires):
		return refusal.New(refusal.DepotExpired)
	}
	return nil
}

func (s *Service) infoLocked(d *depot, sender bool, now time.Time) Info {
	i := Info{Project: d.Project, State: d.State, Once: d.Once, Taker: d.Taker, Expires: d.Expires, Bytes: d.size, Objects: slices.Clone(d.ranges), Sender: sender}
	if i.State == Open && !now.Before(d.Expires) {
		i.State = Expired
	}
	return i
}

// Look says what is there. That all is over is no error.
func (s *Service) Look(id, token string) (Info, error) {
	d, sender, err := s.find(id, token)
	if err != nil {
		return Info{}, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.gone {
		return Info{}, refusal.New(refusal.DepotUnknown)
	}
	return s.infoLocked(d, sender, time.Now()), nil
}

// Acquire waits for room in memory for an upload; release gives it back.
func (s *Service) Acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Put keeps objects; their bytes are its own until it returns. When it returns without an error they are all on the disk; with one, none of them is there that was not before. An object whose number is there already stays as it was:
// it is an upload whose answer was lost.
func (s *Service) Put(id, token string, list []Object, quota int64) error {
	d, sender, err := s.find(id, token)
	if err != nil {
		return err
	}
	if !sender {
		return refusal.Newf(refusal.DepotToken, "This token is for reading.")
	}
	wait, lead, err := s.enter(d, list, quota)
	if lead {
		s.commit(d)
	}
	for _, g := range wait {
		<-g.done
		err = errors.Join(err, g.err)
	}
	return err
}

// enter adds to the next commit what is not there, and says for which groups the caller has to wait. The first to enter leads: it commits.
func (s *Service) enter(d *depot, list []Object, quota int64) (wait []*group, lead bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(time.Now()); err != nil {
		return nil, false, err
	}
	var (
		fresh  []Object
		cost   int64
		starts int // of ranges, at most
		seen   = map[uint64]bool{}
	)
	there := func(n uint64) bool { return d.has(n) || seen[n] || d.coming[n] != nil }
	for _, o := range list {
		if len(o.Data) < MinObject || len(o.Data) > MaxObject || o.Number > MaxNumber {
			return nil, false, refusal.Newf(refusal.InvalidField, "An object has a number or a size that is not allowed.")
		}
		if g := d.coming[o.Number]; g != nil && !slices.Contains(wait, g) {
			wait = append(wait, g) // the same upload once more
		}
		if there(o.Number) {
			continue
		}
		if seen[o.Number] = true; !there(o.Number-1) && !there(o.Number+1) {
			starts++
		}
		fresh = append(fresh, o)
		cost += charge(len(o.Data))
	}
	if len(fresh) == 0 {
		return wait, false, nil
	}
	if len(d.at)+len(d.coming)+len(fresh) > maxObjects || len(d.ranges)+d.starts+starts > maxRanges {
		return nil, false, refusal.Newf(refusal.InvalidField, "The depot has too many objects, or their numbers are too scattered.")
	}
	s.mu.Lock()
	err = s.reserveLocked(d.Project, cost, quota)
	s.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	if lead = d.next == nil; lead {
		d.next = &group{done: make(chan struct{})}
	}
	if d.coming == nil {
		d.coming = map[uint64]*group{}
	}
	g := d.next
	for _, o := range fresh {
		d.coming[o.Number] = g
	}
	g.list = append(g.list, fresh...)
	g.cost, g.starts, d.starts = g.cost+cost, g.starts+starts, d.starts+starts
	return append(wait, g), lead, nil
}

// commit writes the group that waits, once the one before is on the disk: more may enter meanwhile.
func (s *Service) commit(d *depot) {
	d.commit.Lock()
	defer d.commit.Unlock()
	d.mu.Lock()
	g := d.next
	d.next = nil
	err := d.usableLocked(time.Now())
	size, entries := d.size, int64(len(d.at))*recordSize
	d.mu.Unlock()
	if err == nil {
		var content [][]byte
		var index []byte
		for _, o := range g.list {
			content, index = append(content, o.Data), appendRecord(index, o.Number, len(o.Data))
		}
		if err = writeSynced(s.path(d.ID, objectsFile), 0, size, content...); err == nil {
			err = writeSynced(s.path(d.ID, indexFile), 0, entries, index)
		}
		if err != nil {
			// The index first: a record must not outlive its object.
			err = s.disk("keep an object", errors.Join(err, truncate(s.path(d.ID, indexFile), entries), truncate(s.path(d.ID, objectsFile), size)))
		}
	}
	var bytes uint64
	d.mu.Lock()
	for _, o := range g.list {
		delete(d.coming, o.Number)
		if err == nil {
			d.add(o.Number, len(o.Data))
			bytes += uint64(len(o.Data))
		}
	}
	d.starts -= g.starts
	d.mu.Unlock()
	if err != nil {
		s.release(d.Project, g.cost)
	} else {
		s.count(d.Project, bytes, 0)
	}
	g.err = err
	close(g.done)
}

func truncate(path string, size int64) error {
	if err := os.Truncate(path, size); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Read hands over the objects of these numbers, in this order; those that are not there are left out. The bytes are give's until it returns.
func (s *Service) Read(id, token string, numbers []Range, give func(Object) error) error {
	d, _, err := s.find(id, token)
	if err != nil {
		return err
	}
	type item struct {
		number uint64
		place
	}
	var items []item
	d.mu.RLock()
	if err := d.usableLocked(time.Now()); err != nil {
		d.mu.RUnlock()
		return err
	}
	for _, r := range numbers {
		for n := r.First(); n < r.End(); n++ {
			if p, ok := d.at[n]; ok {
				items = append(items, item{n, p})
			}
		}
	}
	if len(items) == 0 {
		d.mu.RUnlock()
		return nil
	}
	f, err := os.Open(s.path(id, objectsFile)) // it can be read even if the depot goes meanwhile
	d.mu.RUnlock()
	if err != nil {
		return s.disk("read an object", err)
	}
	defer f.Close()
	buf := make([]byte, MaxObject)
	for _, i := range items {
		if _, err := f.ReadAt(buf[:i.length], i.offset); err != nil {
			return s.disk("read an object", err)
		}
		if err := give(Object{i.number, buf[:i.length]}); err != nil {
			return err
		}
		s.count(d.Project, 0, uint64(i.length))
	}
	return nil
}

// Claim gives a depot for one receiver to a taker: a name that only the ends can read. Another one's is refused with transfer_taken.
func (s *Service) Claim(id, token, taker string) error {
	d, _, err := s.find(id, token)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.takenLocked(taker) {
		return nil // the sender may hear of its receiver only when that has everything
	}
	if err := d.usableLocked(time.Now()); err != nil {
		return err
	}
	return s.claimLocked(d, taker)
}

// takenLocked reports whether this taker has said that it has everything.
func (d *depot) takenLocked(taker string) bool {
	return !d.gone && d.State == Taken && d.Taker == taker
}

func (s *Service) claimLocked(d *depot, taker string) error {
	if !d.Once || d.Taker == taker {
		return nil
	}
	if d.Taker != "" {
		return refusal.New(refusal.TransferTaken)
	}
	d.Taker = taker
	if err := s.save(d); err != nil {
		d.Taker = ""
		return s.disk("note the receiver", err)
	}
	return nil
}

// Receipt says that a taker has everything. A depot for one receiver is used up then.
func (s *Service) Receipt(id, token, taker string) error {
	d, _, err := s.find(id, token)
	if err != nil {
		return err
	}
	d.commit.Lock()
	defer d.commit.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.takenLocked(taker) {
		return nil // an answer that was lost
	}
	if err := d.usableLocked(time.Now()); err != nil {
		return err
	}
	if err := s.claimLocked(d, taker); err != nil || !d.Once {
		return err
	}
	return s.retire(d, Taken)
}

// retire removes the objects of a depot and remembers why. Both of the depot's locks are held.
func (s *Service) retire(d *depot, why State) error {
	d.State = why
	if err := s.save(d); err != nil {
		d.State = Open
		return s.disk("end a depot", err)
	}
	before := d.charge()
	if err := s.dropObjects(d); err != nil {
		s.log.Warn("the objects of a depot that is over cannot be removed", "id", d.ID, "err", err) // the next start tries again
	}
	d.objects = objects{}
	s.release(d.Project, before-d.charge())
	return nil
}

func (s *Service) dropObjects(d *depot) error {
	var all error
	for _, name := range []string{indexFile, objectsFile} {
		if err := os.Remove(s.path(d.ID, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// Remove ends a depot without a trace. The token is the sender's.
func (s *Service) Remove(id, token string) error {
	d, sender, err := s.find(id, token)
	if err != nil {
		return err
	}
	if !sender {
		return refusal.Newf(refusal.DepotToken, "This token is for reading.")
	}
	return s.remove(d)
}

func (s *Service) remove(d *depot) error {
	d.commit.Lock()
	defer d.commit.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return nil
	}
	// Renamed, it is no depot any more, wherever a crash interrupts the rest.
	gone := s.path(".gone-" + d.ID)
	if err := os.Rename(s.path(d.ID), gone); err != nil {
		return s.disk("remove a depot", err)
	}
	s.forget(d)
	if err := os.RemoveAll(gone); err != nil {
		s.log.Warn("a depot's folder cannot be removed", "id", d.ID, "err", err) // the next start tries again
	}
	return nil
}

// RemoveProject ends all depots of a project.
func (s *Service) RemoveProject(project string) error {
	var all error
	for _, d := range s.list() {
		if d.Project == project {
			all = errors.Join(all, s.remove(d))
		}
	}
	return all
}

func (s *Service) list() []*depot {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*depot, 0, len(s.depots))
	for _, d := range s.depots {
		list = append(list, d)
	}
	return list
}

// Used returns how many bytes of its quota a project uses.
func (s *Service) Used(project string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[project]
}

// Run ends depots whose time has come, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stir:
		case <-timer.C:
		}
		timer.Reset(s.sweep(ctx, time.Now()))
	}
}

// sweep returns when to come again.
func (s *Service) sweep(ctx context.Context, now time.Time) time.Duration {
	next := sweepMax
	list := s.list()
	slices.SortFunc(list, func(a, b *depot) int { return cmp.Compare(a.ID, b.ID) })
	for _, d := range list {
		if ctx.Err() != nil {
			return next
		}
		keep := s.c.Keep(ctx, d.Project)
		d.commit.Lock()
		d.mu.Lock()
		due := d.Expires
		if d.State == Open && !now.Before(due) && !d.gone {
			if err := s.retire(d, Expired); err != nil {
				s.log.Error("an expired depot is still there", "id", d.ID, "err", err)
			}
		}
		if d.State != Open {
			due = due.Add(tombLife)
		}
		over := !keep || d.State != Open && !now.Before(due)
		d.mu.Unlock()
		d.commit.Unlock()
		if over {
			if err := s.remove(d); err != nil {
				s.log.Error("a depot cannot be removed", "id", d.ID, "err", err)
			}
			continue
		}
		next = min(next, max(time.Second, due.Sub(now)))
	}
	return next
}

func (s *Service) count(project string, in, out uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.moved[project]
	if t == nil {
		t = &traffic{}
		s.moved[project] = t
	}
	t.in += in
	t.out += out
}

// Stats of a project.
type Stats struct {
	Depots  int // that are open
	Used    int64
	In, Out uint64 // bytes of objects since the start
}

// Stats returns those of all projects that have or had something here.
func (s *Service) Stats() map[string]Stats {
	open := map[string]int{}
	for _, d := range s.list() {
		d.mu.RLock()
		if d.State == Open && !d.gone {
			open[d.Project]++
		}
		d.mu.RUnlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]Stats{}
	for project, t := range s.moved {
		all[project] = Stats{In: t.in, Out: t.out}
	}
	for project, n := range s.used {
		st := all[project]
		st.Used, st.Depots = n, open[project]
		all[project] = st
	}
	return all
}
