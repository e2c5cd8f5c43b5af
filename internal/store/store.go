// Package store keeps what must survive the process: it opens the database in the data directory, brings its schema up to date,
// runs transactions, and says in plain words what is wrong when the disk is.
//
// It knows no project and no key: each product package has its own queries and runs them in [DB.Read] and [DB.Write]. Queries are
// written once for every engine: placeholders are $1, $2, …; times are BIGINT milliseconds; booleans are INTEGER 0 and 1;
// binary values are text. What differs between engines stands behind the unexported engine interface; storetest holds
// the suite that an engine has to pass.
//
// Several processes of one machine may open the same data directory at once, a server and the administration commands. Only one
// may be the server: see [LockServer].
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/madang-rtc/madang/internal/refusal"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors that callers branch on.
var (
	ErrNone   = errors.New("no such row")        // a query for one row found none
	ErrExists = errors.New("row exists already") // a key or a unique column is taken
	ErrNewer  = errors.New("the database was made by a newer version of this program")
)

// Config says where the data is. The zero value of everything but Dir is usable.
type Config struct {
	Dir     string        // data directory; made with mode 0700 if it is missing
	Readers int           // connections for reading; default 4
	Busy    time.Duration // how long a write waits for another process's; default 5 s
	Log     *slog.Logger  // nil: discard
}

// An engine is what differs between databases.
type engine interface {
	// open returns the pool for writes and the pool for reads; they may be the same one.
	open(ctx context.Context, c Config) (write, read *sql.DB, err error)
	dialect() goose.Dialect
	// lockOpening keeps other processes from opening and migrating the database until unlock is called.
	lockOpening(ctx context.Context) (unlock func(), err error)
	// explain turns the driver's error into ErrExists or into a *refusal.Refusal with the code storage. Errors of the context
	// and those that the engine does not know come back as they are.
	explain(err error) error
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine engine
	write  *sql.DB
	read   *sql.DB
	log    *slog.Logger
}

// Open opens the SQLite database in c.Dir, makes it if there is none, and migrates it. The error is a *refusal.Refusal with the
// code storage when the directory or the disk is at fault; its text says what to do.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Dir == "" {
		return nil, errors.New("store: Config.Dir is empty")
	}
	if c.Readers <= 0 {
		c.Readers = 4
	}
	if c.Busy <= 0 {
		c.Busy = 5 * time.Second
	}
	return openEngine(ctx, &sqliteEngine{dir: c.Dir}, c)
}

func openEngine(ctx context.Context, e engine, c Config) (*DB, error) {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	unlock, err := e.lockOpening(ctx)
	if err != nil {
		return nil, e.explain(err)
	}
	defer unlock()
	write, read, err := e.open(ctx, c)
	if err != nil {
		return nil, e.explain(err)
	}
	db := &DB{engine: e, write: write, read: read, log: log}
	if err := db.migrate(ctx); err != nil {
		db.Close()
		return nil, e.explain(err)
	}
	return db, nil
}

// migrate brings the schema up to date. The opening lock is held.
func (db *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(db.engine.dialect(), db.write, files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the version of the database: %w", err)
	}
	if current > target {
		return refusal.Newf(refusal.Storage, "%s (its version is %d, this program knows %d)",
			ErrNewer, current, target).Advise("use that version of the program, or choose another data directory with --data").Because(ErrNewer)
	}
	if current == target {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database from version %d: %w", current, err)
	}
	db.log.Info("database migrated", "from", current, "to", target)
	return nil
}

// Close waits for running transactions and closes the database. Closing twice is harmless.
func (db *DB) Close() error {
	err := db.read.Close()
	if db.write != db.read {
		err = errors.Join(err, db.write.Close())
	}
	return err
}

// Read runs fn in a transaction that sees one state of the database and changes nothing. fn must not keep tx.
func (db *DB) Read(ctx context.Context, fn func(tx *Tx) error) error {
	return db.run(ctx, db.read, &sql.TxOptions{ReadOnly: true}, fn)
}

// Write runs fn in a transaction that is committed when fn returns nil, and undone otherwise. Writes of all processes run one
// after the other: fn does nothing slow, and never calls Write itself. fn must not keep tx.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	return db.run(ctx, db.write, nil, fn)
}

func (db *DB) run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, fn func(tx *Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return db.engine.explain(err)
	}
	defer tx.Rollback() // does nothing after a commit
	if err := fn(&Tx{ctx: ctx, tx: tx, engine: db.engine}); err != nil {
		return err
	}
	return db.engine.explain(tx.Commit())
}

// Probe reports whether the database can be written, by writing. Use it for readiness; the error is a refusal with the code
// storage.
func (db *DB) Probe(ctx context.Context) error {
	return db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ('probe', $1)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, fmt.Sprint(time.Now().UnixMilli()))
		return err
	})
}

// A Tx is a running transaction. It belongs to the goroutine that runs the function it was given to.
type Tx struct {
	ctx    context.Context // of the Read or Write that made it
	tx     *sql.Tx
	engine engine
}

// Exec changes rows and returns how many.
func (t *Tx) Exec(query string, args ...any) (rows int64, err error) {
	res, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, t.engine.explain(err)
	}
	return res.RowsAffected()
}

// A Scanner is a row whose columns can be read.
type Scanner interface{ Scan(dest ...any) error }

// One returns the row that the query finds, or ErrNone.
func One[T any](t *Tx, scan func(Scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(t.tx.QueryRowContext(t.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, ErrNone
	}
	return v, t.engine.explain(err)
}

// All returns the rows that the query finds, in its order.
func All[T any](t *Tx, scan func(Scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, t.engine.explain(err)
	}
	defer rows.Close() // an open Rows would pin the write-ahead log
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, t.engine.explain(err)
		}
		all = append(all, v)
	}
	return all, t.engine.explain(rows.Err())
}

// Text scans a row of one text column.
func Text(s Scanner) (v string, err error) { return v, s.Scan(&v) }

// Int scans a row of one integer column.
func Int(s Scanner) (v int64, err error) { return v, s.Scan(&v) }

// prepareDir makes the data directory if it is missing, and says what is wrong with it otherwise.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return explainFile(dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return explainFile(dir, err)
	}
	if !info.IsDir() {
		return refusal.Newf(refusal.Storage, "the data directory %s is not a directory", dir).Advise("choose another with --data")
	}
	return nil
}

// createPrivate makes a file that only its owner can read, if it is missing.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return explainFile(filepath.Dir(path), err)
	}
	return f.Close()
}
