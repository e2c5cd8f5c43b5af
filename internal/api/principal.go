package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

// access says who may use an operation.
type access int

const (
	adminOnly  access = iota // the node's administrator
	withServer               // and a project's server key, for its own project
	everybody                // nobody is asked
	withDepot                // who shows a token of the depot; the operation itself looks at it
)

const (
	schemeAdmin    = "adminToken"
	schemeServer   = "serverKey"
	schemeDepot    = "depotToken"
	metadataAccess = "access"
)

func (w access) security() []map[string][]string {
	switch w {
	case adminOnly:
		return []map[string][]string{{schemeAdmin: {}}}
	case withServer:
		return []map[string][]string{{schemeAdmin: {}}, {schemeServer: {}}}
	case withDepot:
		return []map[string][]string{{schemeDepot: {}}}
	default:
		return nil
	}
}

// idempotent reports whether answers are kept: of those who are somebody.
func (w access) idempotent() bool { return w == adminOnly || w == withServer }

// A principal is who asks.
type principal struct {
	admin   bool
	project string // of the server key; empty for the administrator
	id      string // names the principal; empty: nobody
	secret  string // what it showed; seals its stored answers
}

type principalKey struct{}

// authentication is what came of a request's credentials. The error is kept until it is known that the operation wants credentials.
type authentication struct {
	principal
	err error
}

func who(ctx context.Context) principal {
	return ctx.Value(principalKey{}).(authentication).principal
}

// authenticate reads the header Authorization (RFC 6750 §2.1). Credentials in the URL are not taken: URLs are logged.
func (a *API) authenticate(r *http.Request) (principal, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return principal{}, refusal.Newf(refusal.CredentialsMissing, "The header Authorization: Bearer with a server key or the administrator's token is needed.")
	}
	scheme, credentials, _ := strings.Cut(values[0], " ")
	credentials = strings.TrimSpace(credentials)
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || credentials == "" {
		return principal{}, refusal.Newf(refusal.CredentialsMissing, "The header Authorization is not one Bearer with a server key or the administrator's token.")
	}
	address := a.c.ClientAddress(r)
	// Who has failed too often has to wait, whatever is shown now: otherwise the answer would tell which guess is right.
	if wait := a.failures.wait(prefixOf(address), a.c.FailuresPerSecond, false); wait > 0 {
		return principal{}, refusal.Newf(refusal.RateLimited, "Too many wrong credentials came from this address.").After(wait)
	}
	p, err := a.identify(r.Context(), credentials, address)
	if err != nil {
		if refusal.From(err).Status() < 500 {
			a.failures.wait(prefixOf(address), a.c.FailuresPerSecond, true)
		}
		return principal{}, err
	}
	return p, nil
}

func (a *API) identify(ctx context.Context, credentials string, address netip.Addr) (principal, error) {
	if auth.IsAdminToken(credentials) {
		ok, err := a.c.Projects.IsAdmin(ctx, credentials)
		if err != nil {
			return principal{}, err
		}
		if !ok {
			return principal{}, refusal.Newf(refusal.KeyUnknown, "The administrator's token is not this one. `madang token admin` makes a new one.")
		}
		return principal{admin: true, id: "admin", secret: credentials}, nil
	}
	key, err := a.c.Authorizer.Server(ctx, credentials, address)
	if err != nil {
		return principal{}, err
	}
	p, err := a.c.Projects.Get(ctx, key.Project)
	if err != nil {
		return principal{}, err
	}
	perSecond := p.Settings.RequestsPerSecond
	if perSecond == 0 {
		perSecond = a.c.RequestsPerSecond
	}
	if wait := a.requests.wait(key.ID, perSecond, true); wait > 0 {
		return principal{}, refusal.Newf(refusal.RateLimited, "This key may ask %g times a second.", perSecond).After(wait)
	}
	return principal{project: key.Project, id: key.ID, secret: credentials}, nil
}

// errNotAdmin refuses those who are somebody else.
var errNotAdmin = refusal.Newf(refusal.Forbidden, "Only the node's administrator may do this.")

// AdminOnly lets those through to h who show the administrator's token.
func (a *API) AdminOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.authenticate(r)
		if err == nil && !p.admin {
			err = errNotAdmin
		}
		if err != nil {
			a.write(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// admit is huma's middleware: it holds requests to what their operation allows.
func (a *API) admit(ctx huma.Context, next func(huma.Context)) {
	access, known := ctx.Operation().Metadata[metadataAccess].(access)
	if !known { // the document
		next(ctx)
		return
	}
	got, _ := ctx.Context().Value(principalKey{}).(authentication)
	err := got.err
	switch {
	case access == everybody, access == withDepot:
		err = nil
	case err != nil:
	case got.id == "":
		err = refusal.New(refusal.CredentialsMissing)
	case access == adminOnly && !got.admin:
		err = errNotAdmin
	}
	if err != nil {
		r, w := humago.Unwrap(ctx)
		a.write(w, r, err)
		return
	}
	next(ctx)
}

// scope returns the project that an operation is about: the server key's own, or the one that the administrator names.
func scope(ctx context.Context, asked string) (string, error) {
	p := who(ctx)
	switch {
	case p.admin && asked == "":
		return "", invalid("project", "is needed: the administrator has to say whose")
	case p.admin:
		return asked, nil
	case asked == "" || asked == p.project:
		return p.project, nil
	default:
		return "", refusal.New(refusal.NotFound) // whether there is such a project is not this key's business
	}
}

// connectionAddress is who is at the connection's other end; a zero Addr if that is no IP address.
func connectionAddress(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// prefixOf is what failures are counted by: an IPv4 address, or the /64 that one IPv6 host has to choose from.
func prefixOf(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.Unmap().String()
}
