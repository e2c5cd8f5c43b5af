// Package api is the REST edge at /v1: projects, keys, secrets, usage, tokens, TURN credentials, channels, peers. What the console and the
// administration commands do, they do here.
//
// Each operation says who may use it: the node's administrator, or also a project's server key. The OpenAPI document at /v1/openapi.json is
// generated from the types of this package, and stands in docs/openapi.json.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// Channels are the live channels. Methods return refusals: channel_not_found, peer_not_found and what the channel says. They are safe for
// concurrent use and end when ctx does.
type Channels interface {
	// List returns the project's live channels, in no particular order.
	List(ctx context.Context, project string) ([]Channel, error)
	// Get returns a live channel, or channel_not_found.
	Get(ctx context.Context, project, name string) (Channel, error)
	// Define tells that the channel has a definition from now on. It applies to a live channel at once.
	Define(ctx context.Context, project, name string, d auth.Definition) error
	// Configure changes a live channel; nil members stay. channel_not_found if it is not live.
	Configure(ctx context.Context, project, name string, c ChannelChange) error
	// Close ends a channel for all its peers, and forgets its definition. channel_not_found if there was neither.
	Close(ctx context.Context, project, name string) error
	// CloseAll ends all channels of a project that was switched off or deleted; peers are told why.
	CloseAll(ctx context.Context, project string, why refusal.Code) error
	// Peers returns the members and those who wait, in no particular order.
	Peers(ctx context.Context, project, name string) ([]Peer, error)
	// Kick removes a peer in the application's name, and keeps it out for ban.
	Kick(ctx context.Context, project, name, peer, reason string, ban time.Duration) error
	// Command sends an application's message in the name of its server to the peers in to, or to all (nil).
	Command(ctx context.Context, project, name string, to []string, command string, data json.RawMessage) error
}

// TURN makes credentials for the relay.
type TURN interface {
	MintTURN(project, name string, lifetime time.Duration) (username, credential string, uris []string, expires time.Time, err error)
}

// Config of an API. DB, Projects and Authorizer are required.
type Config struct {
	DB         *store.DB        // for idempotency keys
	Projects   *project.Service // projects and all that is theirs
	Authorizer *auth.Authorizer // judges server keys
	Channels   Channels         // nil: no server runs here, and operations on live channels answer not_running
	TURN       TURN             // nil: there is no relay, and its operation answers not_running
	Depots     *depot.Service   // nil: no server runs here, and operations on depots answer not_running
	// ClientAddress says from where a request comes, if proxies stand in front; nil: from the connection's other end.
	ClientAddress func(*http.Request) netip.Addr
	// RequestsPerSecond bounds a server key whose project says nothing; default 50, with bursts of four seconds' worth. The administrator is not
	// bounded. FailuresPerSecond bounds wrong credentials from one address; default 5, likewise.
	RequestsPerSecond float64
	FailuresPerSecond float64
	Log               *slog.Logger // nil: discard
}

// An API answers REST requests. It owns no goroutine.
type API struct {
	c        Config
	log      *slog.Logger
	mux      *http.ServeMux
	huma     huma.API
	requests *limiter // by server key
	failures *limiter // by address
	depots   *limiter // requests about depots, by address
}

// MaxBodyBytes is the size of the largest request body, as of the largest message of the signaling protocol.
const MaxBodyBytes = 64 << 10

// New builds the handlers.
func New(c Config) (*API, error) {
	if c.DB == nil || c.Projects == nil || c.Authorizer == nil {
		return nil, errors.New("api: Config.DB, Projects and Authorizer are required")
	}
	if c.RequestsPerSecond <= 0 {
		c.RequestsPerSecond = 50
	}
	if c.FailuresPerSecond <= 0 {
		c.FailuresPerSecond = 5
	}
	if c.ClientAddress == nil {
		c.ClientAddress = connectionAddress
	}
	a := &API{c: c, log: c.Log, mux: http.NewServeMux(), requests: newLimiter(), failures: newLimiter(), depots: newLimiter()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.huma = humago.New(a.mux, describe())
	a.huma.UseMiddleware(a.admit)
	a.registerProjects()
	a.registerKeys()
	a.registerTokens()
	a.registerChannels()
	a.registerDepots()
	a.mux.HandleFunc("/", a.nowhere)
	return a, nil
}

// describe is the document's frame.
func describe() huma.Config {
	c := huma.DefaultConfig("Madang REST API", "1")
	c.OpenAPIPath = "/v1/openapi"
	c.DocsPath, c.SchemasPath = "", "" // the node's /docs/ shows the document
	c.CreateHooks = nil                // no "$schema" members and links
	c.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Administers a Madang node and its channels. See api.md. Errors are RFC 9457 problems whose `code` is one of protocol.md, section 8."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Servers = []*huma.Server{{URL: "/", Description: "This node."}}
	c.Tags = []*huma.Tag{
		{Name: "projects", Description: "Tenants: settings, quotas, the on/off switch, usage."},
		{Name: "keys", Description: "Browser keys, server keys, and the secrets that sign access tokens."},
		{Name: "tokens", Description: "Access tokens, TURN credentials, the administrator's token."},
		{Name: "channels", Description: "Definitions, live channels, peers, commands."},
		{Name: "depots", Description: "What file transfers keep on the server while their sender is away: sealed objects that only the ends can read. See transfer.md, section 15."},
	}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeAdmin:  {Type: "http", Scheme: "bearer", Description: "The administrator's token. `madang token admin` on the node's machine makes one; the former one does not work any more."},
		schemeServer: {Type: "http", Scheme: "bearer", Description: "A project's server key, used from an address on its list."},
		schemeDepot:  {Type: "http", Scheme: "bearer", Description: "One of the two tokens of a depot: the sender's, or the one that a transfer's link gives."},
	}
	return c
}

// Handler serves /v1 to the network. CORS is off, but for depots: no page of another origin can read an answer.
func (a *API) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, principal{}) })
}

// ControlHandler serves the same to the administrator, without credentials. It belongs behind something that only the administrator can
// reach: a socket in the data directory, or a function call.
func (a *API) ControlHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, principal{admin: true, id: "control"}) })
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, p principal) {
	w.Header().Set("Cache-Control", "no-store") // answers hold keys and tokens
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if strings.HasPrefix(r.URL.Path, depotPrefix) {
		a.serveDepot(w, r)
		return
	}
	var err error
	if !p.admin {
		p, err = a.authenticate(r)
	}
	r = r.WithContext(context.WithValue(r.Context(), principalKey{}, authentication{p, err}))
	r.Body = http.MaxBytesReader(w, r.Body, MaxBodyBytes)
	if key := r.Header.Values("Idempotency-Key"); r.Method == http.MethodPost && len(key) > 0 && err == nil {
		a.once(w, r, p, key)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// OpenAPI returns the document, as it is served.
func (a *API) OpenAPI() ([]byte, error) { return json.Marshal(a.huma.OpenAPI()) }

// nowhere answers what no operation takes.
func (a *API) nowhere(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		a.write(w, r, refusal.New(refusal.NotFound))
		return
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", ")) // RFC 9110 §15.5.6
	a.write(w, r, refusal.New(refusal.MethodNotAllowed))
}

// register adds an operation. Its handler's errors become problems.
func register[I, O any](a *API, op huma.Operation, who access, handler func(context.Context, *I) (*O, error)) {
	op.MaxBodyBytes = maxDepotBody + 1 // the readers' own limits come first
	op.Metadata = map[string]any{metadataAccess: who}
	op.Security = who.security()
	op.Errors = append(op.Errors, 401, 403, 404, 429, 503)
	if op.Method == http.MethodPost || op.Method == http.MethodPatch || op.Method == http.MethodPut {
		op.Errors = append(op.Errors, 400, 409, 413)
	}
	if op.Method == http.MethodPost && who.idempotent() {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)},
			Description: "A text of the client's own for this request. The same request with the same text within 24 hours gets the first one's answer, and does nothing a second time.",
		})
	}
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.fail(ctx, err)
		}
		return out, nil
	})
}
