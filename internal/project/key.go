package project

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

const (
	maxKeys    = 100 // of one project
	maxAllow   = 64  // entries of a key's list
	maxSecrets = 10
)

// A Key is a browser key, which is its own id, or a server key, of which only the id is kept in clear.
type Key struct {
	ID        string
	Project   string
	Kind      auth.KeyKind
	Name      string
	Allow     []string // origins or networks, in canonical form
	Version   int64
	CreatedAt time.Time
}

// AddKey makes a key. full is what its user needs: of a server key it is not kept, and cannot be shown again.
func (s *Service) AddKey(ctx context.Context, project string, kind auth.KeyKind, name string, allow []string) (k Key, full string, err error) {
	if err := checkName(name); err != nil {
		return k, "", err
	}
	if allow, err = canonicalList(kind, allow); err != nil {
		return k, "", err
	}
	k = Key{Project: project, Kind: kind, Name: name, Allow: allow, CreatedAt: time.Now()}
	hash := ""
	if kind == auth.ServerKey {
		k.ID, full, hash = auth.NewServerKey()
	} else {
		k.ID = auth.NewBrowserKey()
		full = k.ID
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if err := checkRoom(tx, "keys", project, maxKeys); err != nil {
			return err
		}
		if err := insertKey(tx, k, hash); err != nil {
			return err
		}
		k, _, err = getKey(tx, k.ID)
		return err
	})
	if err != nil {
		return Key{}, "", outside(err)
	}
	return k, full, nil
}

// Keys returns at most limit keys of a project whose ids come after the given one, ordered by id.
func (s *Service) Keys(ctx context.Context, project, after string, limit int) (all []Key, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := getProject(tx, project); err != nil {
			return err
		}
		rows, err := store.All(tx, scanKey, `SELECT `+keyColumns+` FROM keys WHERE project = $1 AND id > $2 ORDER BY id LIMIT $3`, project, after, limit)
		for _, r := range rows {
			all = append(all, r.Key)
		}
		return err
	})
	return all, outside(err)
}

// Key returns a key of a project.
func (s *Service) Key(ctx context.Context, project, id string) (k Key, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		k, _, err = getKey(tx, id)
		if err == nil && k.Project != project {
			err = store.ErrNone
		}
		return err
	})
	return k, outside(err)
}

// UpdateKey changes a key's name or list; nil stays. If version is not 0 the key must still have it.
func (s *Service) UpdateKey(ctx context.Context, project, id string, version int64, name *string, allow []string) (k Key, err error) {
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if k, _, err = getKey(tx, id); err != nil {
			return err
		}
		if k.Project != project {
			return store.ErrNone
		}
		if version != 0 && version != k.Version {
			return refusal.Newf(refusal.Conflict, "The key has changed meanwhile.")
		}
		if name != nil {
			if err := checkName(*name); err != nil {
				return err
			}
			k.Name = *name
		}
		if allow != nil {
			if k.Allow, err = canonicalList(k.Kind, allow); err != nil {
				return err
			}
		}
		list, err := json.Marshal(k.Allow)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE keys SET name = $2, allow = $3, version = version + 1 WHERE id = $1`, id, k.Name, string(list)); err != nil {
			return err
		}
		k, _, err = getKey(tx, id)
		return err
	})
	return k, outside(err)
}

// RemoveKey removes a key. The key of the node's own pages cannot be removed.
func (s *Service) RemoveKey(ctx context.Context, project, id string) error {
	if id == s.homeKey {
		return refusal.Newf(refusal.Forbidden, "The node's own pages need this key. The project %q can be switched off.", HomeID)
	}
	return outside(s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM keys WHERE id = $1 AND project = $2`, id, project)
		if err == nil && n == 0 {
			err = store.ErrNone
		}
		return err
	}))
}

// canonicalList checks a key's list and brings its entries to their canonical form.
func canonicalList(kind auth.KeyKind, entries []string) ([]string, error) {
	field, what := "origins", `"https://example.com", "https://*.example.com", "*", "app" or "self"`
	if kind == auth.ServerKey {
		field, what = "cidrs", `"203.0.113.7", "10.0.0.0/8" or "2001:db8::/32"`
	} else if kind != auth.BrowserKey {
		return nil, invalid("kind", "is browser or server")
	}
	if len(entries) == 0 {
		return nil, invalid(field, "must have at least one entry, such as %s", what)
	}
	if len(entries) > maxAllow {
		return nil, invalid(field, "has at most %d entries", maxAllow)
	}
	list := make([]string, 0, len(entries))
	for i, e := range entries {
		canonical, ok := auth.ParseOrigin(e)
		if kind == auth.ServerKey {
			p, valid := auth.ParseNetwork(e)
			canonical, ok = p.String(), valid
		}
		if !ok {
			return nil, refusal.Newf(refusal.InvalidField, "entry %d of %s is not like %s", i+1, field, what).With("field", fmt.Sprintf("%s[%d]", field, i))
		}
		if !slices.Contains(list, canonical) {
			list = append(list, canonical)
		}
	}
	return list, nil
}

const keyColumns = `id, project, kind, name, allow, version, created_ms, hash`

type keyRow struct {
	Key
	hash string
}

func scanKey(row store.Scanner) (k keyRow, err error) {
	var (
		allow   string
		created int64
	)
	if err := row.Scan(&k.ID, &k.Project, &k.Kind, &k.Name, &allow, &k.Version, &created, &k.hash); err != nil {
		return k, err
	}
	k.CreatedAt = time.UnixMilli(created).UTC()
	if err := json.Unmarshal([]byte(allow), &k.Allow); err != nil {
		return k, fmt.Errorf("list of key %s: %w", k.ID, err)
	}
	return k, nil
}

func getKey(tx *store.Tx, id string) (k Key, hash string, err error) {
	row, err := store.One(tx, scanKey, `SELECT `+keyColumns+` FROM keys WHERE id = $1`, id)
	return row.Key, row.hash, err
}

func insertKey(tx *store.Tx, k Key, hash string) error {
	allow, err := json.Marshal(k.Allow)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO keys (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6, $7)`,
		k.ID, k.Project, k.Kind, k.Name, string(allow), k.CreatedAt.UnixMilli(), hash)
	return err
}

// A Secret signs access tokens. A project may have several, so that a new one can be brought into use before the old one goes.
type Secret struct {
	KID       string // its name in a token's header
	Project   string
	Name      string
	CreatedAt time.Time
}

// AddSecret makes a secret. Its value is what an application signs with: the bytes of this text, as they are. It is not shown again.
func (s *Service) AddSecret(ctx context.Context, project, name string) (sec Secret, value string, err error) {
	if err := checkName(name); err != nil {
		return sec, "", err
	}
	sec = Secret{KID: newID("k"), Project: project, Name: name, CreatedAt: time.UnixMilli(time.Now().UnixMilli()).UTC()}
	// 260 random bits: RFC 7518 §3.2 wants at least the 256 of the hash.
	value = randomSecret()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if err := checkRoom(tx, "secrets", project, maxSecrets); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO secrets (kid, project, name, value, created_ms) VALUES ($1, $2, $3, $4, $5)`,
			sec.KID, sec.Project, sec.Name, value, sec.CreatedAt.UnixMilli())
		return err
	})
	if err != nil {
		return Secret{}, "", outside(err)
	}
	return sec, value, nil
}

// Secrets returns the secrets of a project, the newest first, without their values.
func (s *Service) Secrets(ctx context.Context, project string) (all []Secret, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := getProject(tx, project); err != nil {
			return err
		}
		all, err = store.All(tx, func(row store.Scanner) (sec Secret, err error) {
			var created int64
			err = row.Scan(&sec.KID, &sec.Project, &sec.Name, &created)
			sec.CreatedAt = time.UnixMilli(created).UTC()
			return sec, err
		}, `SELECT kid, project, name, created_ms FROM secrets WHERE project = $1 ORDER BY created_ms DESC, kid`, project)
		return err
	})
	return all, outside(err)
}

// RemoveSecret removes a secret: tokens that it signed are refused from now on.
func (s *Service) RemoveSecret(ctx context.Context, project, kid string) error {
	return outside(s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM secrets WHERE kid = $1 AND project = $2`, kid, project)
		if err == nil && n == 0 {
			err = store.ErrNone
		}
		return err
	}))
}

// SigningSecret returns the project's newest secret. If it has none, one is made: minting a token by REST or on the command line needs no
// preparation.
func (s *Service) SigningSecret(ctx context.Context, project string) (kid, value string, err error) {
	type pair struct{ kid, value string }
	newest := func(tx *store.Tx) (pair, error) {
		return store.One(tx, func(row store.Scanner) (p pair, err error) { return p, row.Scan(&p.kid, &p.value) },
			`SELECT kid, value FROM secrets WHERE project = $1 ORDER BY created_ms DESC, kid LIMIT 1`, project)
	}
	var p pair
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		p, err = newest(tx)
		return err
	})
	if err == nil {
		return p.kid, p.value, nil
	}
	if err != store.ErrNone {
		return "", "", outside(err)
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if p, err = newest(tx); err != store.ErrNone {
			return err
		}
		if _, err := getProject(tx, project); err != nil {
			return err
		}
		p = pair{newID("k"), randomSecret()}
		_, err := tx.Exec(`INSERT INTO secrets (kid, project, name, value, created_ms) VALUES ($1, $2, $3, $4, $5)`,
			p.kid, project, "made for the first token", p.value, time.Now().UnixMilli())
		return err
	})
	return p.kid, p.value, outside(err)
}

// checkRoom refuses an unknown project, and one that has max rows in the table already.
func checkRoom(tx *store.Tx, table, project string, max int64) error {
	if _, err := getProject(tx, project); err != nil {
		return err
	}
	n, err := store.One(tx, store.Int, `SELECT COUNT(*) FROM `+table+` WHERE project = $1`, project)
	if err == nil && n >= max {
		err = refusal.Newf(refusal.Conflict, "A project has at most %d %s. Remove one that is not used any more.", max, table)
	}
	return err
}
