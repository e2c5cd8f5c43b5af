package store_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

func TestAReadOnlyDataDirectoryIsNamed(t *testing.T) {
	if !lab.InMountNamespace(t) {
		return
	}
	dir := lab.Tmpfs(t, "4m")
	open(t, dir).Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wantStorage(t, openError(dir), "read-only file system")
	wantStorage(t, openError(filepath.Join(dir, "below")), "read-only file system")
	_, err := store.LockServer(dir)
	wantStorage(t, err, "read-only file system")
}

func TestADirectoryOfSomebodyElseIsNamed(t *testing.T) {
	if os.Getuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(dir, 0o700) })
		wantStorage(t, openError(dir), "may not be read or written by this user")
		return
	}
	// Root may do everything, so become nobody.
	dir := t.TempDir()
	if d := os.Getenv("MADANG_TEST_DIR"); d != "" {
		wantStorage(t, openError(d), "may not be read or written by this user")
		return
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// The parents must be open to nobody, and the program too.
	exe := filepath.Join(dir, "..", "store.test")
	copyFile(t, os.Args[0], exe)
	for d := filepath.Dir(dir); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"MADANG_TEST_DIR=" + dir, "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskRefusesWritesAndServesReads(t *testing.T) {
	if !lab.InMountNamespace(t) {
		return
	}
	dir := lab.Tmpfs(t, "1m")
	db := open(t, dir)
	ctx := context.Background()
	if err := db.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	// Fill the disk through the store itself, as a busy node would.
	var err error
	for i := 0; i < 10_000 && err == nil; i++ {
		err = db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, $2)`, i, strings.Repeat("x", 4096))
			return err
		})
	}
	if refusal.From(err).Code != refusal.Storage {
		t.Fatalf("got %v, want a refusal with the code storage", err)
	}
	if err := db.Read(ctx, func(tx *store.Tx) error {
		v, err := store.One(tx, store.Text, `SELECT value FROM settings WHERE name = '0'`)
		if err == nil && len(v) != 4096 {
			t.Errorf("got %d bytes, want 4096", len(v))
		}
		return err
	}); err != nil {
		t.Errorf("read on a full disk: %v", err)
	}
	// Room again: writing works again, in the same process.
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if err := db.Probe(ctx); err != nil {
		t.Errorf("write after the disk has room again: %v", err)
	}
}

func TestAFullDiskAtTheStartIsNamed(t *testing.T) {
	if !lab.InMountNamespace(t) {
		return
	}
	dir := lab.Tmpfs(t, "64k")
	if err := os.WriteFile(filepath.Join(dir, "film.mkv"), make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	err := openError(filepath.Join(dir, "data"))
	if err == nil || refusal.From(err).Code != refusal.Storage {
		t.Errorf("got %v, want a refusal with the code storage", err)
	}
}
