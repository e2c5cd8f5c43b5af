package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
	"github.com/madang-rtc/madang/internal/store/storetest"
)

func open(t *testing.T, dir string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestSQLite(t *testing.T) {
	var (
		mu   sync.Mutex
		dirs = map[string]string{}
	)
	storetest.Run(t, func(t *testing.T) *store.DB {
		mu.Lock()
		dir, ok := dirs[t.Name()]
		if !ok {
			dir = t.TempDir()
			dirs[t.Name()] = dir
		}
		mu.Unlock()
		return open(t, dir)
	})
}

// The driver is generated against one version of its C library's translation; another one corrupts data silently.
func TestLibcIsTheVersionThatTheDriverWasMadeFor(t *testing.T) {
	list := func(format, module string) string {
		out, err := exec.Command("go", "list", "-m", "-f", format, module).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	linked := list("{{.Version}}", "modernc.org/libc")
	mod, err := os.ReadFile(list("{{.GoMod}}", "modernc.org/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(f) >= 2 && f[0] == "modernc.org/libc" {
			if linked != f[1] {
				t.Errorf("modernc.org/libc is %s, but modernc.org/sqlite wants exactly %s", linked, f[1])
			}
			return
		}
	}
	t.Error("modernc.org/sqlite names no modernc.org/libc")
}

func TestOnlyTheOwnerCanReadTheDatabase(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "data")
	db := open(t, dir)
	if err := db.Probe(t.Context()); err != nil { // makes the write-ahead log
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: got %v, %v, want 0700", info.Mode(), err)
	}
	if len(files) < 3 {
		t.Errorf("got %v, want the database, its log and its index", files)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v, want 0600", f.Name(), info.Mode(), err)
		}
	}
}

func TestManyProcessesMayMakeTheDatabaseAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), store.Config{Dir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Probe(t.Context()); err != nil {
				t.Error(err)
			}
			db.Close()
		})
	}
	wg.Wait()
}

func TestASecondServerIsRefusedUntilTheFirstIsGone(t *testing.T) {
	dir := t.TempDir()
	// A process of its own: a lock that only kept goroutines apart would pass otherwise.
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldServerLock$")
	cmd.Env = append(os.Environ(), "MADANG_TEST_LOCK="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, err = store.LockServer(dir)
	if !errors.Is(err, store.ErrServerRuns) || refusal.From(err).Code != refusal.Storage {
		t.Errorf("got %v, want ErrServerRuns", err)
	}
	if err != nil && !strings.Contains(err.Error(), "process ") {
		t.Errorf("%q does not name the process", err)
	}
	if err := open(t, dir).Probe(t.Context()); err != nil { // the administration commands go on
		t.Error(err)
	}
	if err := cmd.Process.Kill(); err != nil { // it does not get to unlock
		t.Fatal(err)
	}
	cmd.Wait()
	in.Close()
	l, err := store.LockServer(dir)
	if err != nil {
		t.Fatalf("got %v after the first server's end, want the lock", err)
	}
	if err := errors.Join(l.Unlock(), l.Unlock()); err != nil {
		t.Error(err)
	}
}

// TestHoldServerLock is the other process of TestASecondServerIsRefusedUntilTheFirstIsGone.
func TestHoldServerLock(t *testing.T) {
	dir := os.Getenv("MADANG_TEST_LOCK")
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	l, err := store.LockServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	os.Stdout.WriteString("locked\n")
	io.Copy(io.Discard, os.Stdin)
}

func TestADatabaseOfANewerVersionIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	raw, err := sql.Open("sqlite", filepath.Join(dir, store.DatabaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Dir: dir}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

func TestADamagedDatabaseIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, store.DatabaseFile), []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantStorage(t, openError(dir), "damaged or is not a database")
}

func TestADirectoryThatIsAFileIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantStorage(t, openError(file), "is not a directory")
	wantStorage(t, openError(filepath.Join(file, "below")), "is not a directory")
}

func openError(dir string) error {
	db, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err == nil {
		db.Close()
	}
	return err
}

func wantStorage(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || refusal.From(err).Code != refusal.Storage || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a refusal with the code storage that says %q", err, text)
	}
}
