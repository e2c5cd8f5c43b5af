package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// ErrServerRuns says that another server works on the data directory.
var ErrServerRuns = errors.New("another server runs on this data directory")

const serverLock = "server.lock"

// A ServerLock makes its holder the only server of a data directory. The operating system frees it when the process ends, however
// it ends; the file itself stays, since removing it would let two servers lock two files of the same name.
type ServerLock struct{ f *os.File }

// LockServer takes the lock, or returns ErrServerRuns (in the chain of a refusal with the code storage) soon. The directory is made if it is missing.
// The administration commands do not take it.
func LockServer(dir string) (*ServerLock, error) {
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, serverLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explainFile(dir, err)
	}
	// ServerRuns holds the lock for an instant when it looks: ask a few times.
	ok := false
	for range 20 {
		if ok, err = tryLock(f); err != nil {
			f.Close()
			return nil, explainFile(dir, err)
		}
		if ok {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !ok {
		who := ""
		if b, err := io.ReadAll(io.LimitReader(f, 32)); err == nil && len(b) > 0 {
			who = fmt.Sprintf(" (process %s)", strings.TrimSpace(string(b)))
		}
		f.Close()
		return nil, refusal.Newf(refusal.Storage, "another server%s runs on the data directory %s", who, dir).Advise("stop it, or choose another with --data").Because(ErrServerRuns)
	}
	// The number is for people only; a full disk must not keep the server from starting.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return &ServerLock{f}, nil
}

// Unlock frees the lock. Unlocking twice is harmless.
func (l *ServerLock) Unlock() error {
	err := l.f.Close() // closing the last descriptor frees the lock
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// lockFile waits for an exclusive lock on a file.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explainFile(filepath.Dir(path), err)
	}
	// A blocking lock would not heed ctx, so ask again and again. 5 ms is short for people, and long for a processor.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, explainFile(filepath.Dir(path), err)
		}
		if ok {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// ServerRuns reports whether a server works on the data directory.
func ServerRuns(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, serverLock), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, explainFile(dir, err)
	}
	defer f.Close() // frees the lock
	ok, err := tryLock(f)
	return !ok, explainFile(dir, err)
}
