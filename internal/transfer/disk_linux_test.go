package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The sender's file is read-only, and a crash comes when the partial file is so already, but has not got its name.
func TestAReadOnlyFileIsFinishedAfterACrash(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() == 0 { // whom permissions do not hold up: let this thread be somebody else
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chmod(dir, 0o777)); err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	open := func() *disk {
		d, err := openDisk(dir, "aaaaaaaaaaaaaaaa", newEnd())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	e := Entry{Path: "a", Size: new(int64(4)), Mode: 0o444}
	d := open()
	if _, err := d.claim(0, e); err != nil {
		t.Fatal(err)
	}
	d.puts(t, 0, []byte("ours"))
	if err := d.prepare(finish{0, e, 4}); err != nil {
		t.Fatal(err)
	}
	d.finals = nil // the crash
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	d = open()
	defer d.close()
	if had, err := d.claim(0, e); err != nil || len(had) != 1 {
		t.Fatalf("%d blocks are known, %v", len(had), err)
	}
	if errs := d.finish([]finish{{0, e, 4}}); errs[0] != nil {
		t.Error(errs[0])
	}
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("got %v, %v", info, err)
	}
}
