package depot

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/refusal"
)

// A disk that is full refuses what has no room and keeps what it has; with room again, all goes on.
func TestAFullDiskKeepsWhatItHas(t *testing.T) {
	if !lab.InMountNamespace(t) {
		return
	}
	disk := lab.Tmpfs(t, "1m")
	dir := filepath.Join(disk, "depots")
	s := open(t, dir)
	var kept []Object
	full := false
	for n := uint64(0); !full && n < 100; n++ {
		pair := []Object{object(2*n, 30_000), object(2*n+1, 50_000)}
		err := s.Put(id, upload, pair, plenty)
		if full = err != nil; full {
			wantCode(t, "put on a full disk", err, refusal.DepotDiskFull)
			wantCode(t, "once more", s.Put(id, upload, pair, plenty), refusal.DepotDiskFull)
			break
		}
		kept = append(kept, pair...)
	}
	if !full || len(kept) == 0 {
		t.Fatalf("%d objects have room on 1 MiB", len(kept))
	}
	// The last byte, too: no record of a new depot, nor of a claim.
	filler := filepath.Join(disk, "filler")
	fd, err := syscall.Open(filler, syscall.O_CREAT|syscall.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); err == nil; {
		_, err = syscall.Write(fd, buf)
	}
	syscall.Close(fd)
	_, err = s.Create(newDepot("234567abcdefghij", "shop"), plenty)
	wantCode(t, "a new depot", err, refusal.DepotDiskFull)
	wantCode(t, "a claim", s.Claim(id, read, "A"), refusal.DepotDiskFull)
	used := s.Used("shop")
	for _, s := range []*Service{s, load(t, dir)} { // after a restart on the full disk, too
		holds(t, s, id, kept...)
		if got := s.Used("shop"); got != used {
			t.Errorf("%d bytes are counted, want %d", got, used)
		}
	}

	if err := syscall.Unlink(filler); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	more := object(1000, 200_000)
	if err := s.Put(id, upload, []Object{more}, plenty); err != nil {
		t.Errorf("put with room again: %v", err)
	}
	if _, err := s.Create(newDepot("234567abcdefghij", "shop"), plenty); err != nil {
		t.Errorf("a new depot with room again: %v", err)
	}
	if err := s.Claim(id, read, "A"); err != nil {
		t.Errorf("a claim with room again: %v", err)
	}
	for _, s := range []*Service{s, load(t, dir)} {
		holds(t, s, id, append(kept, more)...)
	}
}
