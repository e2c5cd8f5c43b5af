package depot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

const (
	id     = "abcdefghij234567"
	upload = "the sender's"
	read   = "the receivers'"
	plenty = 1 << 40
)

func load(t testing.TB, dir string) *Service {
	t.Helper()
	s, err := Load(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newDepot(id, project string) New {
	return New{ID: id, Project: project, Upload: sha256.Sum256([]byte(upload)), Read: sha256.Sum256([]byte(read)), Once: true, Lifetime: time.Hour}
}

// open loads a folder with one depot.
func open(t testing.TB, dir string) *Service {
	t.Helper()
	s := load(t, dir)
	if _, err := s.Create(newDepot(id, "shop"), plenty); err != nil {
		t.Fatal(err)
	}
	return s
}

// object has content that its number says.
func object(number uint64, length int) Object {
	b := make([]byte, length)
	rng := rand.NewChaCha8([32]byte{byte(number), byte(number >> 8), byte(length)})
	rng.Read(b)
	return Object{number, b}
}

func wantCode(t testing.TB, what string, err error, code refusal.Code) {
	t.Helper()
	if err == nil || refusal.From(err).Code != code {
		t.Errorf("%s: got %v, want %s", what, err, code)
	}
}

// holds compares what can be read with what there should be.
func holds(t testing.TB, s *Service, id string, want ...Object) {
	t.Helper()
	info, err := s.Look(id, read)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	var size int64
	for _, r := range info.Objects {
		for n := r.First(); n < r.End(); n++ {
			got = append(got, n)
		}
	}
	slices.SortFunc(want, func(a, b Object) int { return int(int64(a.Number) - int64(b.Number)) })
	if len(got) != len(want) {
		t.Fatalf("it says that it has %v, want %d objects", info.Objects, len(want))
	}
	k := 0
	err = s.Read(id, read, info.Objects, func(o Object) error {
		if o.Number != want[k].Number || o.Number != got[k] || !bytes.Equal(o.Data, want[k].Data) {
			t.Errorf("object %d is not what was put", o.Number)
		}
		size += int64(len(o.Data))
		k++
		return nil
	})
	if err != nil || k != len(want) || info.Bytes != size {
		t.Errorf("read %d objects of %d bytes, want %d of %d: %v", k, size, len(want), info.Bytes, err)
	}
}

func TestWhatWasPutIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var all []Object
	for _, n := range []uint64{3, 4, 0, 1, 1 << 40, 2, 9} {
		all = append(all, object(n, 100+int(n%1000)))
	}
	if err := s.Put(id, upload, all[:4], plenty); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(id, upload, all[2:], plenty); err != nil {
		t.Fatal(err)
	}
	// An upload whose answer was lost changes nothing, not even what is stored.
	other := object(3, 500)
	if err := s.Put(id, upload, []Object{other}, plenty); err != nil {
		t.Fatal(err)
	}
	holds(t, s, id, slices.Clone(all)...)
	if info, _ := s.Look(id, read); !slices.Equal(info.Objects, []Range{{0, 5}, {9, 1}, {1 << 40, 1}}) {
		t.Errorf("got %v", info.Objects)
	}
	used := s.Used("shop")
	s = load(t, dir)
	holds(t, s, id, all...)
	if got := s.Used("shop"); got != used {
		t.Errorf("after a restart %d bytes are counted, before %d", got, used)
	}
	if info, err := s.Create(newDepot(id, "shop"), plenty); err != nil || !info.Sender || info.Bytes == 0 {
		t.Errorf("the sender that comes back gets %+v, %v", info, err)
	}
}

func TestTokensAreTold(t *testing.T) {
	s := open(t, t.TempDir())
	list := []Object{object(0, 100)}
	wantCode(t, "put with the token for reading", s.Put(id, read, list, plenty), refusal.DepotToken)
	wantCode(t, "put with another token", s.Put(id, "x", list, plenty), refusal.DepotToken)
	wantCode(t, "remove with the token for reading", s.Remove(id, read), refusal.DepotToken)
	wantCode(t, "read with another token", s.Read(id, "", []Range{{0, 1}}, nil), refusal.DepotToken)
	wantCode(t, "another depot", s.Put("aaaaaaaaaaaaaaaa", upload, list, plenty), refusal.DepotUnknown)
	n := newDepot(id, "shop")
	n.Upload = sha256.Sum256([]byte("somebody else's"))
	_, err := s.Create(n, plenty)
	wantCode(t, "create what another sender has", err, refusal.Conflict)
	files, err := filepath.Glob(filepath.Join(s.c.Dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, []byte(upload)) || bytes.Contains(b, []byte(read)) {
			t.Errorf("%s holds a token", f)
		}
	}
}

// The quota is for all depots of a project, to the byte, and a restart counts the same.
func TestTheQuotaIsExact(t *testing.T) {
	dir := t.TempDir()
	s := load(t, dir)
	_, err := s.Create(newDepot(id, "shop"), depotCharge-1)
	wantCode(t, "no room for a depot", err, refusal.DepotFull)
	if got := s.Used("shop"); got != 0 {
		t.Errorf("%d bytes are counted for what was refused", got)
	}
	quota := 2*depotCharge + charge(1000) + charge(2000)
	for _, id := range []string{id, "bbbbbbbbbbbbbbbb"} {
		if _, err := s.Create(newDepot(id, "shop"), quota); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(id, upload, []Object{object(1, 1000)}, quota); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a byte too many", s.Put("bbbbbbbbbbbbbbbb", upload, []Object{object(1, 2001)}, quota), refusal.DepotFull)
	if err := s.Put("bbbbbbbbbbbbbbbb", upload, []Object{object(1, 2000)}, quota); err != nil {
		t.Error(err)
	}
	if got := s.Used("shop"); got != quota {
		t.Errorf("%d bytes are counted, want %d", got, quota)
	}
	s = load(t, dir)
	if got := s.Used("shop"); got != quota {
		t.Errorf("after a restart %d bytes are counted, want %d", got, quota)
	}
	if err := s.Remove(id, upload); err != nil {
		t.Fatal(err)
	}
	if got := s.Used("shop"); got != depotCharge+charge(2000) {
		t.Errorf("after a removal %d bytes are counted", got)
	}
	if err := s.RemoveProject("shop"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); s.Used("shop") != 0 || len(left) != 0 {
		t.Errorf("%d bytes are counted, and %v is left of a project that is gone", s.Used("shop"), left)
	}
}

// Many at once, the same objects several times, more than there is room for: what was accepted is there, and is what is counted.
func TestConcurrentUploadsAreCountedExactly(t *testing.T) {
	dir := t.TempDir()
	s := load(t, dir)
	ids := []string{id, "bbbbbbbbbbbbbbbb", "cccccccccccccccc"}
	for _, id := range ids {
		if _, err := s.Create(newDepot(id, "shop"), plenty); err != nil {
			t.Fatal(err)
		}
	}
	quota := 3*depotCharge + 100*charge(3000)
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		put = map[string]map[uint64]Object{}
	)
	for k := range 12 {
		wg.Go(func() {
			id := ids[k%3]
			for n := range uint64(60) {
				o := object(n, 3000)
				err := s.Put(id, upload, []Object{o}, quota)
				if err != nil {
					wantCode(t, "put", err, refusal.DepotFull)
					continue
				}
				mu.Lock()
				if put[id] == nil {
					put[id] = map[uint64]Object{}
				}
				put[id][n] = o
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := s.Used("shop"); got != quota {
		t.Errorf("%d bytes are counted, want all %d", got, quota)
	}
	for _, s := range []*Service{s, load(t, dir)} {
		sum := 0
		for _, id := range ids {
			var want []Object
			for _, o := range put[id] {
				want = append(want, o)
			}
			holds(t, s, id, want...)
			sum += len(want)
		}
		if sum != 100 || s.Used("shop") != quota {
			t.Errorf("%d objects, %d bytes; want 100, %d", sum, s.Used("shop"), quota)
		}
	}
}

// Whatever a crash has left of an upload: objects that are there are whole, and the rest is neither there nor counted.
func TestACrashInMidWriteLeavesWholeObjects(t *testing.T) {
	first, second := object(0, 5000), object(1, 7000)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		dir := t.TempDir()
		s := open(t, dir)
		if err := s.Put(id, upload, []Object{first}, plenty); err != nil {
			t.Fatal(err)
		}
		before := s.Used("shop")
		if err := s.Put(id, upload, []Object{second}, plenty); err != nil {
			t.Fatal(err)
		}
		// The content is flushed before the record is written: of both any part may be missing, but a whole record means whole content.
		cut := rng.IntN(recordSize + 1)
		if err := os.Truncate(s.path(id, indexFile), int64(recordSize+cut)); err != nil {
			t.Fatal(err)
		}
		size := int64(len(first.Data) + len(second.Data))
		if cut == 0 {
			size = int64(len(first.Data)) + rng.Int64N(7001)
		}
		if err := os.Truncate(s.path(id, objectsFile), size); err != nil {
			t.Fatal(err)
		}
		s = load(t, dir)
		if cut == recordSize {
			holds(t, s, id, first, second)
			continue
		}
		holds(t, s, id, first)
		if got := s.Used("shop"); got != before {
			t.Errorf("%d bytes are counted, want %d", got, before)
		}
		if err := s.Put(id, upload, []Object{second, object(2, 30)}, plenty); err != nil {
			t.Fatal(err)
		}
		holds(t, load(t, dir), id, first, second, object(2, 30))
	}
}

func TestHalfMadeAndHalfRemovedDepotsAreNone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, name := range []string{".new-bbbbbbbbbbbbbbbb", ".gone-cccccccccccccccc"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(s.path(id))); err != nil {
			t.Fatal(err)
		}
	}
	s = load(t, dir)
	if got := s.Used("shop"); got != depotCharge {
		t.Errorf("%d bytes are counted, want those of one depot", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
}

func TestADepotForOneReceiver(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Put(id, upload, []Object{object(0, 100)}, plenty); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once more after a lost answer
		if err := s.Claim(id, read, "A"); err != nil {
			t.Fatal(err)
		}
	}
	s = load(t, dir)
	wantCode(t, "claim what another has claimed", s.Claim(id, read, "B"), refusal.TransferTaken)
	wantCode(t, "receipt for what another has claimed", s.Receipt(id, read, "B"), refusal.TransferTaken)
	for range 2 {
		if err := s.Receipt(id, read, "A"); err != nil {
			t.Fatal(err)
		}
	}
	// The sender, back meanwhile, claims for its receiver, who has taken the rest from here.
	if err := s.Claim(id, read, "A"); err != nil {
		t.Errorf("claim of the taker after its receipt: %v", err)
	}
	wantCode(t, "claim of another one after the receipt", s.Claim(id, read, "B"), refusal.TransferTaken)
	for _, s := range []*Service{s, load(t, dir)} {
		wantCode(t, "read after the receipt", s.Read(id, read, []Range{{0, 1}}, nil), refusal.TransferTaken)
		wantCode(t, "put after the receipt", s.Put(id, upload, []Object{object(1, 100)}, plenty), refusal.TransferTaken)
		if info, err := s.Look(id, upload); err != nil || info.State != Taken || len(info.Objects) != 0 {
			t.Errorf("the sender sees %+v, %v", info, err)
		}
		if got := s.Used("shop"); got != depotCharge {
			t.Errorf("%d bytes are counted after the receipt", got)
		}
	}
	if left, _ := os.ReadDir(s.path(id)); len(left) != 1 {
		t.Errorf("%v is left after the receipt", left)
	}
}

func TestADepotForManyReceiversStays(t *testing.T) {
	s := load(t, t.TempDir())
	n := newDepot(id, "shop")
	n.Once = false
	if _, err := s.Create(n, plenty); err != nil {
		t.Fatal(err)
	}
	for _, taker := range []string{"A", "B"} {
		if err := errors.Join(s.Claim(id, read, taker), s.Receipt(id, read, taker)); err != nil {
			t.Error(err)
		}
	}
	if info, err := s.Look(id, read); err != nil || info.State != Open {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestDepotsExpire(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir)
		if err := s.Put(id, upload, []Object{object(0, 100)}, plenty); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		n := newDepot("bbbbbbbbbbbbbbbb", "shop")
		n.Lifetime = 2 * time.Minute
		if _, err := s.Create(n, plenty); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		wantCode(t, "the short-lived one", s.Read(n.ID, read, nil, nil), refusal.DepotExpired)
		holds(t, s, id, object(0, 100))
		time.Sleep(27*time.Minute - time.Second)
		synctest.Wait()
		holds(t, s, id, object(0, 100))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantCode(t, "read", s.Read(id, read, []Range{{0, 1}}, nil), refusal.DepotExpired)
		wantCode(t, "put", s.Put(id, upload, []Object{object(1, 100)}, plenty), refusal.DepotExpired)
		if _, err := os.Stat(s.path(id, objectsFile)); !errors.Is(err, os.ErrNotExist) || s.Used("shop") != 2*depotCharge {
			t.Errorf("%d bytes are counted: %v", s.Used("shop"), err)
		}
		time.Sleep(tombLife + time.Hour)
		synctest.Wait()
		_, err := s.Look(id, read)
		wantCode(t, "when all is forgotten", err, refusal.DepotUnknown)
		if s.Used("shop") != 0 {
			t.Errorf("%d bytes are counted", s.Used("shop"))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Whoever is not swept yet is refused all the same.
func TestTimeCountsWithoutASweep(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir)
		time.Sleep(time.Hour)
		wantCode(t, "claim", s.Claim(id, read, "A"), refusal.DepotExpired)
		if info, err := s.Look(id, read); err != nil || info.State != Expired {
			t.Errorf("got %+v, %v", info, err)
		}
	})
}

func TestDepotsOfProjectsThatAreGoneGoToo(t *testing.T) {
	s, err := Load(Config{Dir: t.TempDir(), Keep: func(_ context.Context, project string) bool { return project == "shop" }})
	if err != nil {
		t.Fatal(err)
	}
	for id, project := range map[string]string{id: "shop", "bbbbbbbbbbbbbbbb": "deleted"} {
		if _, err := s.Create(newDepot(id, project), plenty); err != nil {
			t.Fatal(err)
		}
	}
	s.sweep(t.Context(), time.Now())
	if s.Used("shop") != depotCharge || s.Used("deleted") != 0 {
		t.Errorf("got %d and %d bytes", s.Used("shop"), s.Used("deleted"))
	}
}

func TestScatteredNumbersAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	n, err := uint64(0), error(nil)
	for ; err == nil && n < 2*maxRanges; n += MaxBatch {
		var list []Object
		for k := range uint64(MaxBatch) {
			list = append(list, object(2*(n+k), MinObject))
		}
		err = s.Put(id, upload, list, plenty)
	}
	wantCode(t, "too many ranges", err, refusal.InvalidField)
	// Those that fill a gap are welcome.
	if err := s.Put(id, upload, []Object{object(1, MinObject), object(2*maxRanges-1, MinObject)}, plenty); err != nil {
		t.Error(err)
	}
	a, _ := s.Look(id, read)
	b, _ := load(t, dir).Look(id, read)
	if len(a.Objects) != maxRanges-1 || !slices.Equal(a.Objects, b.Objects) {
		t.Errorf("%d ranges, after a restart %d", len(a.Objects), len(b.Objects))
	}
}

// Ranges say the same as a plain set, whatever the order.
func TestRangesAreTheSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		o := objects{at: map[uint64]place{}}
		for range 60 {
			if n := rng.Uint64N(80); !o.has(n) {
				o.add(n, MinObject)
			}
		}
		covered := map[uint64]bool{}
		for i, r := range o.ranges {
			if r[1] == 0 || i > 0 && o.ranges[i-1].End() >= r.First() {
				t.Fatalf("%v", o.ranges)
			}
			for n := r.First(); n < r.End(); n++ {
				covered[n] = true
			}
		}
		for n := range uint64(80) {
			if covered[n] != o.has(n) {
				t.Fatalf("%v has %d: %v", o.ranges, n, o.has(n))
			}
		}
	}
}

func TestADepotThatCannotBeWrittenSaysSo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	used := s.Used("shop")
	if err := os.Mkdir(s.path(id, indexFile), 0o700); err != nil { // a file cannot be made there
		t.Fatal(err)
	}
	wantCode(t, "put", s.Put(id, upload, []Object{object(0, 100)}, plenty), refusal.Storage)
	if err := os.Remove(s.path(id, indexFile)); err != nil {
		t.Fatal(err)
	}
	if got := s.Used("shop"); got != used {
		t.Errorf("%d bytes are counted, want %d", got, used)
	}
	holds(t, s, id)
	if err := s.Put(id, upload, []Object{object(1, 200)}, plenty); err != nil {
		t.Fatal(err)
	}
	holds(t, load(t, dir), id, object(1, 200))
}

func FuzzReadObject(f *testing.F) {
	f.Add(append(AppendHeader(nil, 7, 30), make([]byte, 30)...))
	f.Add(AppendHeader(nil, MaxNumber+1, 30))
	f.Add(AppendHeader(nil, 0, MaxObject+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			before := r.Len()
			o, err := ReadObject(r, nil)
			if err != nil {
				return
			}
			at := len(data) - before
			if again := append(AppendHeader(nil, o.Number, len(o.Data)), o.Data...); !bytes.Equal(again, data[at:at+len(again)]) || len(o.Data) > MaxObject || o.Number > MaxNumber {
				t.Errorf("%x was read as %d %x", data[at:], o.Number, o.Data)
			}
		}
	})
}

func FuzzReadIndex(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, 0, 100), 1, 28), int64(128))
	f.Add(appendRecord(appendRecord(nil, 5, 100), 5, 100), int64(1000))
	f.Add([]byte(strings.Repeat("x", 40)), int64(1000))
	f.Fuzz(func(t *testing.T, index []byte, size int64) {
		o, read := readIndex(index, size)
		if read > len(index) || o.size > max(size, 0) || len(o.ranges) > maxRanges || len(o.at)*recordSize != read {
			t.Errorf("%d of %d bytes read: %+v", read, len(index), o)
		}
		for n, p := range o.at {
			if p.offset < 0 || p.offset+int64(p.length) > o.size || n > MaxNumber {
				t.Errorf("object %d lies at %+v of %d", n, p, o.size)
			}
		}
	})
}

func FuzzParseNumbers(f *testing.F) {
	for _, s := range []string{"0", "0-3,17", "5-4", "01", "-", "1,,2", "0-255", "0-256", fmt.Sprint(uint64(MaxNumber) + 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, ok := ParseNumbers(s)
		if !ok {
			return
		}
		var numbers []uint64
		for _, r := range list {
			for n := r.First(); n < r.End(); n++ {
				numbers = append(numbers, n)
			}
		}
		if len(numbers) == 0 || len(numbers) > MaxFetch {
			t.Fatalf("%q is %d numbers", s, len(numbers))
		}
		if again, ok := ParseNumbers(FormatNumbers(numbers)); slices.IsSorted(numbers) && (!ok || len(again) == 0) {
			t.Errorf("%q is written as %q", s, FormatNumbers(numbers))
		}
	})
}

// A damaged record costs its own depot, and nothing else: not the node's start, and not its transfer's next attempt.
func TestADamagedDepotIsLeftOut(t *testing.T) {
	const other = "234567abcdefghij"
	for name, damage := range map[string]func(path string) error{
		"garbage":   func(p string) error { return os.WriteFile(p, []byte("{\x00"), 0o600) },
		"empty":     func(p string) error { return os.Truncate(p, 0) },
		"another's": func(p string) error { return os.WriteFile(p, []byte(`{"id":"`+other+`","state":"open"}`), 0o600) },
		"no state":  func(p string) error { return os.WriteFile(p, []byte(`{"id":"`+id+`"}`), 0o600) },
		"none":      os.Remove,
		"a folder":  func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if _, err := s.Create(newDepot(other, "shop"), plenty); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Put(id, upload, []Object{object(0, 100)}, plenty), s.Put(other, upload, []Object{object(1, 200)}, plenty)); err != nil {
				t.Fatal(err)
			}
			if err := damage(s.path(id, recordFile)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s, err := Load(Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatalf("the node does not start: %v", err)
			}
			holds(t, s, other, object(1, 200))
			if _, err := s.Look(id, upload); !errors.Is(err, refusal.New(refusal.DepotUnknown)) {
				t.Errorf("look for the damaged one: %v", err)
			}
			if got := s.Stats()["shop"]; got.Depots != 1 {
				t.Errorf("counted: %+v", got)
			}
			if !strings.Contains(log.String(), id) {
				t.Errorf("nobody is told: %s", log.String())
			}
			if name == "a folder" {
				return // the disk's trouble, and not the record's: it is left as it is
			}
			if _, err := s.Create(newDepot(id, "shop"), plenty); err != nil {
				t.Errorf("make it anew: %v", err)
			}
			if s = load(t, dir); len(s.list()) != 2 {
				t.Errorf("%d depots after the next start", len(s.list()))
			}
		})
	}
}

// While the disk is busy with one upload others enter: the next turn makes all of them safe at once, and the same object that comes twice is kept once. What ends the depot meanwhile ends them, too.
func TestUploadsAreMadeSafeTogether(t *testing.T) {
	for name, ends := range map[string]bool{"kept": false, "removed meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			d := s.depots[id]
			d.commit.Lock() // the disk is busy
			const uploads = 32
			errs := make([]error, uploads)
			var wg sync.WaitGroup
			var want []Object
			for n := range uint64(uploads) {
				o := object(n/2, 1000) // each twice
				if n%2 == 0 {
					want = append(want, o)
				}
				wg.Go(func() { errs[n] = s.Put(id, upload, []Object{o}, plenty) })
			}
			for deadline := time.Now().Add(time.Minute); ; {
				d.mu.RLock()
				n := 0
				if d.next != nil {
					n = len(d.next.list)
				}
				d.mu.RUnlock()
				if n == len(want) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d objects wait", n)
				}
				time.Sleep(time.Millisecond)
			}
			if _, err := os.Stat(filepath.Join(dir, id, objectsFile)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is written: %v", err)
			}
			if ends {
				d.mu.Lock()
				if err := s.retire(d, Expired); err != nil {
					t.Error(err)
				}
				d.mu.Unlock()
			}
			d.commit.Unlock()
			wg.Wait()
			for _, err := range errs {
				if ends {
					wantCode(t, "an upload", err, refusal.DepotExpired)
				} else if err != nil {
					t.Error(err)
				}
			}
			if ends {
				if got := s.Used("shop"); got != depotCharge {
					t.Errorf("%d bytes are counted, want %d", got, depotCharge)
				}
				return
			}
			if len(d.coming) > 0 || d.starts != 0 {
				t.Errorf("%d objects are still coming, in %d ranges", len(d.coming), d.starts)
			}
			for _, s := range []*Service{s, load(t, dir)} {
				holds(t, s, id, want...)
			}
		})
	}
}
