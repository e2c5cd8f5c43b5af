package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/madang-rtc/madang/internal/refusal"
)

// DatabaseFile is the name of the SQLite database in the data directory. SQLite puts -wal and -shm files with the same mode beside it.
const DatabaseFile = "madang.db"

type sqliteEngine struct{ dir string }

var _ engine = (*sqliteEngine)(nil)

func (e *sqliteEngine) dialect() goose.Dialect { return goose.DialectSQLite3 }

// open gives one connection to writes, since SQLite has one writer anyway: they queue in Go, and not in SQLite's busy loop.
func (e *sqliteEngine) open(ctx context.Context, c Config) (write, read *sql.DB, err error) {
	path := filepath.Join(c.Dir, DatabaseFile)
	// SQLite would make it with the umask's mode; it holds the secrets that sign tokens.
	if err := createPrivate(path); err != nil {
		return nil, nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, explainFile(c.Dir, err)
	}
	dsn := func(txlock string, pragmas ...string) string {
		// The timeout comes first, so that it holds for the others.
		pragmas = append([]string{fmt.Sprintf("busy_timeout(%d)", c.Busy.Milliseconds()), "foreign_keys(1)"}, pragmas...)
		params := url.Values{"_txlock": {txlock}, "_pragma": pragmas}
		return (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: params.Encode()}).String()
	}
	// FULL, and not NORMAL: a key is shown once, so one that was shown must survive a power failure. It costs about 0.2 ms for
	// each write, and writes are rare.
	write, err = sql.Open("sqlite", dsn("immediate", "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	// Connect the writer first: it switches the file to WAL, which needs a moment without readers.
	if err := write.PingContext(ctx); err != nil {
		write.Close()
		return nil, nil, err
	}
	read, err = sql.Open("sqlite", dsn("deferred", "query_only(1)"))
	if err != nil {
		write.Close()
		return nil, nil, err
	}
	read.SetMaxOpenConns(c.Readers)
	read.SetMaxIdleConns(c.Readers)
	return write, read, nil
}

// lockOpening keeps the switch to the write-ahead log to one process at a time, too: it is the one operation for which SQLite does not
// wait, but fails as busy.
func (e *sqliteEngine) lockOpening(ctx context.Context) (func(), error) {
	if err := prepareDir(e.dir); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(e.dir, "open.lock"))
}

// explain reads SQLite's result code (https://www.sqlite.org/rescode.html). The low byte is the primary code.
func (e *sqliteEngine) explain(err error) error {
	var (
		s *sqlite.Error
		r *refusal.Refusal
	)
	if err == nil || errors.As(err, &r) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &s) {
		return err
	}
	switch s.Code() {
	case sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY, sqlitelib.SQLITE_CONSTRAINT_UNIQUE:
		return ErrExists
	}
	switch s.Code() & 0xff {
	case sqlitelib.SQLITE_INTERRUPT:
		return context.Canceled // SQLite was interrupted because the context ended
	case sqlitelib.SQLITE_READONLY:
		r = refusal.Newf(refusal.Storage, "the database in %s is read-only", e.dir).Advise("mount its file system writable, or change the owner of its files")
	case sqlitelib.SQLITE_FULL:
		r = refusal.Newf(refusal.Storage, "no space is left in the data directory %s", e.dir).Advise("free some, or choose another with --data")
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
		r = refusal.Newf(refusal.Storage, "the database in %s is busy: another process writes for a long time", e.dir).Advise("look for a backup or another program that has the database open")
	case sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_PERM:
		r = refusal.Newf(refusal.Storage, "the database in %s cannot be opened", e.dir).Advise("look at the permissions of the directory and of " + DatabaseFile + "*, and at the space left")
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
		r = refusal.Newf(refusal.Storage, "the file %s in %s is damaged or is not a database", DatabaseFile, e.dir).Advise("restore a backup, or choose another data directory")
	case sqlitelib.SQLITE_IOERR:
		r = refusal.Newf(refusal.Storage, "the disk of the data directory %s does not read or write", e.dir).Advise("it is full or failing: look at it before anything else")
	default:
		return err
	}
	return r.Because(err)
}
