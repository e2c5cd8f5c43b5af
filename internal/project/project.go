// Package project keeps tenants: projects with their settings and quotas, browser keys, server keys, secrets, channel definitions
// and daily usage, all in the node's store. It implements what [auth.Authorizer] looks up ([Service.Directory]), and what the REST API
// administers.
//
// Nothing but counters is cached: a change that another process makes in the same data directory holds from the next request on.
// It knows no live channel; who is in one is the channel package's.
package project

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// Projects that a node makes by itself.
const (
	SandboxID = "sandbox" // for the first five minutes; works in development mode only
	HomeID    = "home"    // for the node's own pages; cannot be deleted
)

// SandboxKey is the sandbox project's browser key. PlayRTC published it, so its sample applications work unchanged.
const SandboxKey = "60ba608a-e228-4530-8711-fa38004719c1"

// sandboxKeys are all that PlayRTC published: of the samples, of a development page, of the tutorial.
var sandboxKeys = map[string]string{SandboxKey: "sandbox", "1000007916": "PlayRTC development sample", "aee5f87e-c376-4f7e-b470-5c4ba725186d": "PlayRTC tutorial"}

// A Project is a tenant.
type Project struct {
	ID        string
	Kind      string // "", "sandbox" or "home"
	Name      string
	On        bool
	Settings  Settings
	Version   int64 // grows with each change
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Settings are what an administrator may set for a project. A number that is 0 is no limit, unless its comment says otherwise.
type Settings struct {
	RequireToken        bool    `json:"requireToken"`        // a browser key alone is not enough
	OpenChannels        bool    `json:"openChannels"`        // any channel name may be used; otherwise only defined ones
	PeersPerChannel     int     `json:"peersPerChannel"`     // capacity of channels that define none; 0: the node's default
	JoinsPerDay         int64   `json:"joinsPerDay"`         // a day is one of UTC
	JoinsPerSecond      float64 `json:"joinsPerSecond"`      // with bursts of four seconds' worth
	RelayBytesPerDay    int64   `json:"relayBytesPerDay"`    // both directions
	RelayBytesPerSecond int64   `json:"relayBytesPerSecond"` // of each peer, both directions
	RequestsPerSecond   float64 `json:"requestsPerSecond"`   // REST, for each server key; 0: the node's default
	PlayRTC             bool    `json:"playrtc"`             // PlayRTC clients are accepted; in the sandbox they always are
	PlayRTCRoles        bool    `json:"playrtcRoles"`        // of them, only hosts may remove others and close channels
	DepotBytes          int64   `json:"depotBytes"`          // that transfers may keep on the server, together; 0: none may
	DepotHours          int     `json:"depotHours"`          // how long they are kept; 0: DefaultDepotHours
}

// DefaultDepotHours is how long files wait on the server for receivers where the project says nothing.
const DefaultDepotHours = 24

// DepotLifetime is how long files wait on the server for receivers.
func (s *Settings) DepotLifetime() time.Duration {
	return time.Duration(cmp.Or(s.DepotHours, DefaultDepotHours)) * time.Hour
}

// DefaultSettings are those of a new project.
func DefaultSettings() Settings { return Settings{OpenChannels: true} }

const (
	maxPeersPerChannel = 10_000
	maxRate            = 100_000
	maxDepotHours      = 90 * 24
	maxQuota           = int64(1) << 53 // what JSON numbers carry exactly (RFC 8259 §6)
)

// Check names the first setting that makes no sense.
func (s *Settings) Check() error {
	switch {
	case s.PeersPerChannel < 0 || s.PeersPerChannel > maxPeersPerChannel:
		return invalid("peersPerChannel", "is between 0 and %d", maxPeersPerChannel)
	case s.JoinsPerDay < 0 || s.JoinsPerDay > maxQuota:
		return invalid("joinsPerDay", "is between 0 and 2^53")
	case s.RelayBytesPerDay < 0 || s.RelayBytesPerDay > maxQuota:
		return invalid("relayBytesPerDay", "is between 0 and 2^53")
	case s.RelayBytesPerSecond < 0 || s.RelayBytesPerSecond > maxQuota:
		return invalid("relayBytesPerSecond", "is between 0 and 2^53")
	case s.DepotBytes < 0 || s.DepotBytes > maxQuota:
		return invalid("depotBytes", "is between 0 and 2^53")
	case s.DepotHours < 0 || s.DepotHours > maxDepotHours:
		return invalid("depotHours", "is between 0 and %d", maxDepotHours)
	case !(s.JoinsPerSecond >= 0 && s.JoinsPerSecond <= maxRate): // NaN too
		return invalid("joinsPerSecond", "is between 0 and %d", maxRate)
	case !(s.RequestsPerSecond >= 0 && s.RequestsPerSecond <= maxRate):
		return invalid("requestsPerSecond", "is between 0 and %d", maxRate)
	}
	return nil
}

// Config of a Service. Only DB is required.
type Config struct {
	DB  *store.DB
	Log *slog.Logger // nil: discard
}

// A Service keeps projects. It is safe for concurrent use.
type Service struct {
	db      *store.DB
	log     *slog.Logger
	secret  []byte
	homeKey string
	meter   meter
}

// New makes what every node has, on the first start: the node's secret, the sandbox project with its published key, and the home project.
// Someone has to call Run, unless the process joins nobody and relays nothing.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.DB == nil {
		return nil, errors.New("project: Config.DB is nil")
	}
	s := &Service{db: c.DB, log: c.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.meter.init()
	if err := s.found(ctx); err != nil {
		return nil, fmt.Errorf("make the node's own projects: %w", err)
	}
	return s, nil
}

// Names in the table of settings.
const (
	settingNodeSecret = "node_secret" // 32 random bytes, base64url
	settingFounded    = "founded"     // the sandbox was made once: when it is deleted it stays away
	settingAdminToken = "admin_token" // hash
	settingHomeKey    = "home_key"
	settingRelayURIs  = "relay_uris" // JSON list
)

// found makes the node's own things where they are missing. Two processes may do so at the same time.
func (s *Service) found(ctx context.Context) error {
	complete := false
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) {
		complete, err = s.readOwn(tx)
		return err
	})
	if err != nil || complete {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if complete, err := s.readOwn(tx); err != nil || complete {
			return err
		}
		now := time.Now()
		secret := make([]byte, 32)
		rand.Read(secret)
		if err := setOnce(tx, settingNodeSecret, base64.RawURLEncoding.EncodeToString(secret)); err != nil {
			return err
		}
		if _, err := getSetting(tx, settingFounded); errors.Is(err, store.ErrNone) {
			if err := insertProject(tx, Project{ID: SandboxID, Kind: SandboxID, Name: "Sandbox", On: true, Settings: DefaultSettings(), CreatedAt: now}); err != nil {
				return err
			}
			for id, name := range sandboxKeys {
				if err := insertKey(tx, Key{ID: id, Project: SandboxID, Kind: auth.BrowserKey, Name: name,
					Allow: []string{auth.OriginAny, auth.OriginApp}, CreatedAt: now}, ""); err != nil {
					return err
				}
			}
			if err := setOnce(tx, settingFounded, now.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		key := auth.NewBrowserKey()
		if err := insertProject(tx, Project{ID: HomeID, Kind: HomeID, Name: "Home", On: true, Settings: DefaultSettings(), CreatedAt: now}); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
		if err := insertKey(tx, Key{ID: key, Project: HomeID, Kind: auth.BrowserKey, Name: "own pages",
			Allow: []string{auth.OriginSelf}, CreatedAt: now}, ""); err != nil {
			return err
		}
		if err := putSetting(tx, settingHomeKey, key); err != nil {
			return err
		}
		complete, err := s.readOwn(tx)
		if err == nil && !complete {
			err = errors.New("they are still incomplete")
		}
		return err
	})
}

// readOwn reads what every node has, and reports whether all of it is there.
func (s *Service) readOwn(tx *store.Tx) (bool, error) {
	secret, err := getSetting(tx, settingNodeSecret)
	if errors.Is(err, store.ErrNone) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if s.secret, err = base64.RawURLEncoding.DecodeString(secret); err != nil || len(s.secret) < 32 {
		return false, errors.New("the node's secret in the database is damaged")
	}
	if s.homeKey, err = getSetting(tx, settingHomeKey); errors.Is(err, store.ErrNone) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	n, err := store.One(tx, store.Int, `SELECT COUNT(*) FROM keys WHERE id = $1 AND project = $2`, s.homeKey, HomeID)
	return n == 1, err
}

// NodeSecret returns the node's secret: 32 random bytes, from which others derive their keys (TURN credentials, sealed answers). The
// caller must not change them.
func (s *Service) NodeSecret() []byte { return s.secret }

// HomeKey returns the browser key of the node's own pages.
func (s *Service) HomeKey() string { return s.homeKey }

// SaveRelayURIs keeps where the node's relay is reached, for commands that make credentials while no server runs.
func (s *Service) SaveRelayURIs(ctx context.Context, uris []string) error {
	b, err := json.Marshal(uris)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error { return putSetting(tx, settingRelayURIs, string(b)) })
}

// RelayURIs returns what SaveRelayURIs kept; nothing if no server has run yet.
func (s *Service) RelayURIs(ctx context.Context) (uris []string, err error) {
	var text string
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		text, err = getSetting(tx, settingRelayURIs)
		return err
	})
	if errors.Is(err, store.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return uris, json.Unmarshal([]byte(text), &uris)
}

// NewAdminToken makes a new token for the administrator; the former one is worth nothing from now on.
func (s *Service) NewAdminToken(ctx context.Context) (string, error) {
	token, hash := auth.NewAdminToken()
	return token, s.db.Write(ctx, func(tx *store.Tx) error { return putSetting(tx, settingAdminToken, hash) })
}

// FirstAdminToken makes the administrator's token if there has never been one; otherwise it returns "".
func (s *Service) FirstAdminToken(ctx context.Context) (string, error) {
	token, hash := auth.NewAdminToken()
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, settingAdminToken, hash)
		if err == nil && n == 0 {
			token = ""
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// IsAdmin reports whether the token is the administrator's.
func (s *Service) IsAdmin(ctx context.Context, token string) (bool, error) {
	var hash string
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) {
		hash, err = getSetting(tx, settingAdminToken)
		return err
	})
	if errors.Is(err, store.ErrNone) {
		return false, nil
	}
	return err == nil && auth.EqualSecret(token, hash), err
}

// idForm is what an id of one's own looks like: it stands in URLs, tokens and TURN usernames.
var idForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}[a-z0-9]$`)

// ValidID reports whether a project may be given this id.
func ValidID(id string) bool { return idForm.MatchString(id) && id != SandboxID && id != HomeID }

// Create makes a project with an id of one's own (conflict if it is taken), or, if id is empty, with a random one.
func (s *Service) Create(ctx context.Context, id, name string, settings Settings) (Project, error) {
	if id == "" {
		id = newID("p")
	} else if !ValidID(id) {
		return Project{}, invalid("id", "is 2 to 32 of a-z 0-9 -, begins with a letter, and is not home or sandbox")
	}
	if err := errors.Join(checkName(name), settings.Check()); err != nil {
		return Project{}, refusal.From(err)
	}
	p := Project{ID: id, Name: name, On: true, Settings: settings, CreatedAt: time.Now()}
	err := s.db.Write(ctx, func(tx *store.Tx) (err error) {
		if err := insertProject(tx, p); err != nil {
			return err
		}
		p, err = getProject(tx, p.ID)
		return err
	})
	return p, outside(err)
}

// Get returns a project.
func (s *Service) Get(ctx context.Context, id string) (p Project, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		p, err = getProject(tx, id)
		return err
	})
	return p, outside(err)
}

// List returns at most limit projects whose ids come after the given one, ordered by id.
func (s *Service) List(ctx context.Context, after string, limit int) (all []Project, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		all, err = store.All(tx, scanProject, `SELECT `+projectColumns+` FROM projects WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
		return err
	})
	return all, outside(err)
}

// A Change is what shall become of a project. Fields that are nil stay.
type Change struct {
	Name     *string
	On       *bool
	Settings func(*Settings) // changes the settings that it is given
}

// Update changes a project. If version is not 0 the project must still have it; otherwise the refusal is conflict.
func (s *Service) Update(ctx context.Context, id string, version int64, c Change) (p Project, err error) {
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if p, err = getProject(tx, id); err != nil {
			return err
		}
		if version != 0 && version != p.Version {
			return refusal.Newf(refusal.Conflict, "The project has changed meanwhile.")
		}
		if c.Name != nil {
			p.Name = *c.Name
		}
		if c.On != nil {
			p.On = *c.On
		}
		if c.Settings != nil {
			c.Settings(&p.Settings)
		}
		if err := errors.Join(checkName(p.Name), p.Settings.Check()); err != nil {
			return refusal.From(err)
		}
		settings, err := json.Marshal(p.Settings)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE projects SET name = $2, enabled = $3, settings = $4, version = version + 1, updated_ms = $5 WHERE id = $1`,
			id, p.Name, flag(p.On), string(settings), time.Now().UnixMilli()); err != nil {
			return err
		}
		p, err = getProject(tx, id)
		return err
	})
	return p, outside(err)
}

// Delete removes a project with its keys, secrets, channel definitions and usage. The home project cannot be deleted.
func (s *Service) Delete(ctx context.Context, id string) error {
	if id == HomeID {
		return refusal.Newf(refusal.Forbidden, "The node's own pages need the project %q. It can be switched off.", HomeID)
	}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM projects WHERE id = $1`, id)
		if err == nil && n == 0 {
			err = store.ErrNone
		}
		return err
	})
	if err == nil {
		s.meter.forget(id)
	}
	return outside(err)
}

const projectColumns = `id, kind, name, enabled, settings, version, created_ms, updated_ms`

func scanProject(row store.Scanner) (p Project, err error) {
	var (
		on               int
		settings         string
		created, updated int64
	)
	if err := row.Scan(&p.ID, &p.Kind, &p.Name, &on, &settings, &p.Version, &created, &updated); err != nil {
		return p, err
	}
	p.On, p.CreatedAt, p.UpdatedAt = on != 0, time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	p.Settings = DefaultSettings() // for settings that were added after the row was written
	if err := json.Unmarshal([]byte(settings), &p.Settings); err != nil {
		return p, fmt.Errorf("settings of project %s: %w", p.ID, err)
	}
	return p, nil
}

func getProject(tx *store.Tx, id string) (Project, error) {
	return store.One(tx, scanProject, `SELECT `+projectColumns+` FROM projects WHERE id = $1`, id)
}

func insertProject(tx *store.Tx, p Project) error {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return err
	}
	n, err := tx.Exec(`INSERT INTO projects (`+projectColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT DO NOTHING`,
		p.ID, p.Kind, p.Name, flag(p.On), string(settings), p.CreatedAt.UnixMilli())
	if err == nil && n == 0 {
		err = store.ErrExists
	}
	return err
}

func getSetting(tx *store.Tx, name string) (string, error) {
	return store.One(tx, store.Text, `SELECT value FROM settings WHERE name = $1`, name)
}

func putSetting(tx *store.Tx, name, value string) error {
	_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

func setOnce(tx *store.Tx, name, value string) error {
	_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, value)
	return err
}

// outside turns the store's errors into refusals.
func outside(err error) error {
	switch {
	case errors.Is(err, store.ErrNone):
		return refusal.New(refusal.NotFound)
	case errors.Is(err, store.ErrExists):
		return refusal.New(refusal.Conflict)
	}
	return err
}

func invalid(field, format string, args ...any) error {
	return refusal.Newf(refusal.InvalidField, "%s %s", field, fmt.Sprintf(format, args...)).With("field", field)
}

// checkName holds names of projects, keys and secrets to one line of 1 to 64 characters.
func checkName(name string) error {
	if !utf8.ValidString(name) || strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > 64 || strings.ContainsFunc(name, unicode.IsControl) {
		return invalid("name", "is 1 to 64 characters on one line")
	}
	return nil
}

// newID makes an identifier of 60 random bits: unique, not secret.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:12]) }

// randomSecret makes a text of 260 random bits.
func randomSecret() string { return strings.ToLower(rand.Text() + rand.Text()) }

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
