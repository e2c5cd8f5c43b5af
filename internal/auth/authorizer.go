package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Config says how a node judges.
type Config struct {
	Directory   Directory // required
	Development bool      // the sandbox project works
	// PublicOrigins are the origins of the node's own pages, for keys that list "self": "https://call.example.com", or "*" where
	// any page may pass for ours (development).
	PublicOrigins []string
}

// An Authorizer judges credentials. It is safe for concurrent use.
type Authorizer struct{ c Config }

// New returns an Authorizer, or an error that names the entry of PublicOrigins that cannot be read.
func New(c Config) (*Authorizer, error) {
	if c.Directory == nil {
		return nil, errors.New("auth: Config.Directory is nil")
	}
	own := make([]string, 0, len(c.PublicOrigins))
	for _, o := range c.PublicOrigins {
		canonical, ok := ParseOrigin(o)
		if !ok || canonical == OriginApp || canonical == OriginSelf {
			return nil, refusal.Newf(refusal.InvalidField, "public origin %q is not an origin such as https://call.example.com", o)
		}
		own = append(own, canonical)
	}
	c.PublicOrigins = own
	return &Authorizer{c}, nil
}

// Join says what the bearer of the credentials may do in the channel they ask for, and counts the join. A refusal says why not.
//
// A token is enough by itself, and what it says prevails; a key that comes with it is not looked at. With a key alone, the client's
// wishes are heard, except that nobody becomes a host by wishing.
func (a *Authorizer) Join(ctx context.Context, cr Credentials) (Grant, error) {
	g, err := a.Admit(ctx, cr)
	if err != nil {
		return Grant{}, err
	}
	if err := a.c.Directory.CountJoin(ctx, g.Project); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Admit says what Join would, and counts nothing: for what peers of a channel may do beside it.
func (a *Authorizer) Admit(ctx context.Context, cr Credentials) (Grant, error) {
	if !ValidChannelName(cr.Channel) {
		return Grant{}, refusal.Newf(refusal.InvalidField, "A channel's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -").With("field", "channel")
	}
	var (
		g       Grant
		project Project
		create  bool
		err     error
	)
	switch {
	case cr.Token != "":
		g, project, create, err = a.byToken(ctx, cr)
	default:
		g, project, err = a.byKey(ctx, cr)
	}
	if err != nil {
		return Grant{}, err
	}
	g.Limits = project.Limits
	if g.Definition, err = a.c.Directory.Definition(ctx, project.ID, cr.Channel); err != nil {
		return Grant{}, err
	}
	if g.Definition == nil && !project.OpenChannels && !create {
		return Grant{}, refusal.New(refusal.ChannelNotFound)
	}
	return g, nil
}

func (a *Authorizer) byToken(ctx context.Context, cr Credentials) (g Grant, p Project, create bool, err error) {
	claims, err := parseToken(cr.Token, time.Now(), func(project, kid string) (string, error) {
		value, err := a.c.Directory.Secret(ctx, project, kid)
		if isNotFound(err) {
			return "", refusal.New(refusal.TokenForeign)
		}
		return value, err
	})
	if err != nil {
		return g, p, false, err
	}
	if p, err = a.project(ctx, claims.Project, refusal.TokenForeign); err != nil {
		return g, p, false, err
	}
	if !claims.Allows(cr.Channel) {
		return g, p, false, refusal.New(refusal.TokenChannel)
	}
	g = Grant{
		Project: p.ID, Channel: cr.Channel, UID: claims.UID, Name: claims.Name, Role: claims.Role,
		Authenticated: claims.UID != "", ExpiresAt: claims.ExpiresAt,
	}
	// What the token leaves open the client may fill in, as with a key alone; but it vouches for nothing then.
	if err := fillWishes(&g, cr); err != nil {
		return Grant{}, p, false, err
	}
	return g, p, slices.Contains(claims.Grants, GrantCreate), nil
}

// Look says which project a key speaks for, and what is laid down for cr.Channel, if a channel is named (nil: nothing). It counts nothing: it is for edges whose
// clients look around before they join.
func (a *Authorizer) Look(ctx context.Context, cr Credentials) (p Project, d *Definition, err error) {
	if p, err = a.projectOf(ctx, cr); err != nil || cr.Channel == "" {
		return p, nil, err
	}
	d, err = a.c.Directory.Definition(ctx, p.ID, cr.Channel)
	return p, d, err
}

func (a *Authorizer) byKey(ctx context.Context, cr Credentials) (g Grant, p Project, err error) {
	if p, err = a.projectOf(ctx, cr); err != nil {
		return g, p, err
	}
	g = Grant{Project: p.ID, Channel: cr.Channel}
	return g, p, fillWishes(&g, cr)
}

// projectOf returns the project of a key that may be used here.
func (a *Authorizer) projectOf(ctx context.Context, cr Credentials) (p Project, err error) {
	switch {
	case cr.Key != "":
		return a.ofBrowserKey(ctx, cr)
	case cr.Server != "":
		key, err := a.Server(ctx, cr.Server, cr.Address)
		if err != nil {
			return p, err
		}
		return a.project(ctx, key.Project, refusal.KeyUnknown)
	}
	return p, refusal.New(refusal.CredentialsMissing)
}

func (a *Authorizer) ofBrowserKey(ctx context.Context, cr Credentials) (p Project, err error) {
	// A server key that got into a page must stop being one, but the page's author has to learn why it does not work. Its prefix
	// says enough: nothing is looked up, so nothing can be found out.
	if IsServerKey(cr.Key) || IsAdminToken(cr.Key) {
		return p, refusal.New(refusal.KeyWrongKind)
	}
	if len(cr.Key) > 128 {
		return p, refusal.New(refusal.KeyUnknown)
	}
	key, err := a.c.Directory.Key(ctx, cr.Key)
	switch {
	case isNotFound(err):
		return p, refusal.New(refusal.KeyUnknown)
	case err != nil:
		return p, err
	case key.Kind != BrowserKey:
		return p, refusal.New(refusal.KeyWrongKind)
	}
	if !MatchOrigin(key.Allow, cr.Origin, a.c.PublicOrigins) {
		if cr.Origin == "" {
			return p, refusal.Newf(refusal.OriginForbidden, "The key is for web pages, and this client names no origin. Use an access token, or put %q on the key's list.", OriginApp)
		}
		return p, refusal.New(refusal.OriginForbidden)
	}
	if p, err = a.project(ctx, key.Project, refusal.KeyUnknown); err != nil {
		return p, err
	}
	if p.RequireToken {
		return p, refusal.New(refusal.KeyNeedsToken)
	}
	return p, nil
}

// project looks a project up, and refuses one that must not be used.
func (a *Authorizer) project(ctx context.Context, id string, unknown refusal.Code) (Project, error) {
	p, err := a.c.Directory.Project(ctx, id)
	switch {
	case isNotFound(err): // deleted between two look-ups
		return p, refusal.New(unknown)
	case err != nil:
		return p, err
	case p.DevelopmentOnly && !a.c.Development:
		return p, refusal.New(refusal.KeyDevelopmentOnly)
	case !p.On:
		return p, refusal.New(refusal.ProjectOff)
	}
	return p, nil
}

// fillWishes takes over what the client wishes where nothing better is known.
func fillWishes(g *Grant, cr Credentials) error {
	if cr.Role != "" && !cr.Role.Valid() {
		return refusal.Newf(refusal.InvalidField, "A role is host, speaker or viewer.").With("field", "role")
	}
	if err := errors.Join(checkText("uid", cr.UID), checkText("name", cr.Name)); err != nil {
		return refusal.From(err)
	}
	if g.UID == "" {
		g.UID = cr.UID
	}
	if g.Name == "" {
		g.Name = cr.Name
	}
	// One may wish for less than what the channel would give, not for more: the first peer of a channel is its host anyway.
	if g.Role == "" && cr.Role != RoleHost {
		g.Role = cr.Role
	}
	return nil
}

// Server returns the server key that a REST request shows, or a refusal. Unknown keys and wrong secrets are the same refusal,
// after the same work, and nothing about a key is said to somebody who does not hold it.
func (a *Authorizer) Server(ctx context.Context, full string, address netip.Addr) (Key, error) {
	id, secret, ok := splitServerKey(full)
	if !ok || len(full) > 128 {
		if strings.HasPrefix(full, browserKeyPrefix) || isBrowserKey(ctx, a.c.Directory, full) {
			return Key{}, refusal.New(refusal.KeyWrongKind)
		}
		return Key{}, refusal.New(refusal.KeyUnknown)
	}
	key, err := a.c.Directory.Key(ctx, id)
	if err != nil && !isNotFound(err) {
		return Key{}, err
	}
	// A key that was not found has an empty hash, which nothing equals.
	if !EqualSecret(secret, key.Hash) || key.Kind != ServerKey {
		return Key{}, refusal.New(refusal.KeyUnknown)
	}
	if !MatchNetwork(key.Allow, address) {
		r := refusal.New(refusal.AddressForbidden)
		if address.IsValid() {
			r.With("address", address.Unmap().String())
		}
		return Key{}, r
	}
	if _, err := a.project(ctx, key.Project, refusal.KeyUnknown); err != nil {
		return Key{}, err
	}
	return key, nil
}

// isBrowserKey recognizes browser keys without our prefix: the sandbox's.
func isBrowserKey(ctx context.Context, d Directory, id string) bool {
	if len(id) > 128 {
		return false
	}
	k, err := d.Key(ctx, id)
	return err == nil && k.Kind == BrowserKey
}

func isNotFound(err error) bool { return errors.Is(err, refusal.New(refusal.NotFound)) }
