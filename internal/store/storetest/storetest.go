// Package storetest is the suite that every engine of the store has to pass. An engine's own test opens it in its way.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/madang-rtc/madang/internal/store"
)

// Run runs the suite. open returns a handle of the test's own database, the same database for each call with the same t: the second
// handle stands for a second process.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	ctx := context.Background()
	set := func(db *store.DB, name, value string) error {
		return db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, $2)`, name, value)
			return err
		})
	}
	get := func(db *store.DB, name string) (v string, err error) {
		err = db.Read(ctx, func(tx *store.Tx) error {
			v, err = store.One(tx, store.Text, `SELECT value FROM settings WHERE name = $1`, name)
			return err
		})
		return v, err
	}

	t.Run("a committed write is read by another process at once", func(t *testing.T) {
		a, b := open(t), open(t)
		if err := set(a, "k", "v"); err != nil {
			t.Fatal(err)
		}
		if v, err := get(b, "k"); v != "v" || err != nil {
			t.Errorf("got %q, %v, want v", v, err)
		}
	})
	t.Run("a failed write leaves nothing", func(t *testing.T) {
		db, boom := open(t), errors.New("boom")
		err := db.Write(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ('half', '')`); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Errorf("got %v, want boom", err)
		}
		if _, err := get(db, "half"); !errors.Is(err, store.ErrNone) {
			t.Errorf("got %v, want ErrNone", err)
		}
	})
	t.Run("a taken key is ErrExists", func(t *testing.T) {
		db := open(t)
		if err := set(db, "k", "1"); err != nil {
			t.Fatal(err)
		}
		if err := set(db, "k", "2"); !errors.Is(err, store.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
		if v, _ := get(db, "k"); v != "1" {
			t.Errorf("got %q, want 1", v)
		}
	})
	t.Run("a read sees one state", func(t *testing.T) {
		a, b := open(t), open(t)
		if err := set(a, "k", "1"); err != nil {
			t.Fatal(err)
		}
		err := b.Read(ctx, func(tx *store.Tx) error {
			count := func() int64 {
				n, err := store.One(tx, store.Int, `SELECT COUNT(*) FROM settings`)
				if err != nil {
					t.Error(err)
				}
				return n
			}
			before := count()
			if err := set(a, "k2", "2"); err != nil {
				return err
			}
			if after := count(); after != before {
				t.Errorf("got %d rows, want %d as before", after, before)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("a read cannot write", func(t *testing.T) {
		db := open(t)
		err := db.Read(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ('k', 'v')`)
			return err
		})
		if err == nil {
			t.Error("got no error")
		}
	})
	t.Run("a project's rows go with it", func(t *testing.T) {
		db := open(t)
		var left int64
		err := db.Write(ctx, func(tx *store.Tx) error {
			for _, q := range []string{
				`INSERT INTO projects (id, kind, name, enabled, settings, version, created_ms, updated_ms) VALUES ('p', '', '', 1, '{}', 1, 0, 0)`,
				`INSERT INTO keys (id, project, kind, name, hash, allow, version, created_ms) VALUES ('k', 'p', '', '', '', '[]', 1, 0)`,
				`DELETE FROM projects WHERE id = 'p'`,
			} {
				if _, err := tx.Exec(q); err != nil {
					return err
				}
			}
			var err error
			left, err = store.One(tx, store.Int, `SELECT COUNT(*) FROM keys`)
			return err
		})
		if err != nil || left != 0 {
			t.Errorf("got %d keys, %v, want none", left, err)
		}
	})
	t.Run("a key of no project is refused", func(t *testing.T) {
		db := open(t)
		err := db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO keys (id, project, kind, name, hash, allow, version, created_ms) VALUES ('k', 'nobody', '', '', '', '[]', 1, 0)`)
			return err
		})
		if err == nil {
			t.Error("got no error")
		}
	})
	t.Run("writers of two processes do not lose each other's writes", func(t *testing.T) {
		dbs := []*store.DB{open(t), open(t)}
		if err := set(dbs[0], "sum", "0"); err != nil {
			t.Fatal(err)
		}
		const each = 50
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range each {
					err := dbs[i%2].Write(ctx, func(tx *store.Tx) error {
						v, err := store.One(tx, store.Text, `SELECT value FROM settings WHERE name = 'sum'`)
						if err != nil {
							return err
						}
						var n int
						fmt.Sscan(v, &n)
						_, err = tx.Exec(`UPDATE settings SET value = $1 WHERE name = 'sum'`, fmt.Sprint(n+1))
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if v, err := get(dbs[1], "sum"); v != fmt.Sprint(4*each) || err != nil {
			t.Errorf("got %s, %v, want %d", v, err, 4*each)
		}
	})
	t.Run("a context that ends is not the disk's fault", func(t *testing.T) {
		db := open(t)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := db.Write(gone, func(*store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("a probe succeeds", func(t *testing.T) {
		db := open(t)
		for range 2 {
			if err := db.Probe(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}
