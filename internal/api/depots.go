package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
)

// Depots are asked by the ends of transfers, pages of any origin among them, and not by administrators: they have credentials, limits and CORS of their own.
const (
	depotPrefix = "/v1/depot"
	// depotRequests is what one address may ask: a thousand objects of 256 KiB a second in each direction.
	depotRequests = 250
	depotUpload   = time.Minute      // for the body of an upload, which is 1 MiB at most
	depotStall    = 30 * time.Second // how long a receiver may take for one object
	maxDepotBody  = depot.MaxUpload
)

// Depot is what of a transfer waits on the server.
type Depot struct {
	State       depot.State   `json:"state" enum:"open,taken,expired" doc:"taken: the one receiver has everything, and the objects are gone; expired: likewise, of old age."`
	Once        bool          `json:"once" doc:"It is for one receiver."`
	Taker       string        `json:"taker,omitempty" doc:"Who that is, once it is known: a name that only the ends can read."`
	ExpiresAtMS int64         `json:"expiresAtMs"`
	Bytes       int64         `json:"bytes" doc:"Of all objects."`
	Objects     []depot.Range `json:"objects" doc:"Numbers of the objects that are there, as [first,count], in order."`
}

// DepotTerms is what may wait on the server.
type DepotTerms struct {
	Bytes     int64 `json:"bytes" doc:"For all transfers of the project together. 0: nothing may wait."`
	FreeBytes int64 `json:"freeBytes" doc:"Of these, not used now."`
	Hours     int   `json:"hours" doc:"How long it waits."`
}

// DepotPath names a transfer. (Exported, as all that inputs embed.)
type DepotPath struct {
	ID string `path:"id" pattern:"^[a-z2-7]{16}$" patternDescription:"16 of a-z 2-7" doc:"The transfer's id."`
}

// DepotToken opens a depot.
type DepotToken struct {
	Authorization string `header:"Authorization" maxLength:"256" doc:"Bearer, and one of the depot's two tokens."`
}

// JoinCredentials are those of the message join.
type JoinCredentials struct {
	Key   string `json:"key,omitempty" maxLength:"128" doc:"A browser key; the page's origin must be on its list."`
	Token string `json:"token,omitempty" maxLength:"8192" doc:"An access token for the transfer's channel, instead."`
}

// Taker says who takes a depot for one receiver.
type Taker struct {
	Taker string `json:"taker" minLength:"16" maxLength:"64" pattern:"^[A-Za-z0-9_-]+$" patternDescription:"A-Z a-z 0-9 _ -" doc:"A name of the receiver's end that only the ends can read."`
}

type takerInput struct {
	DepotPath
	DepotToken
	Body Taker
}

// serveDepot is serve for depots.
func (a *API) serveDepot(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // the credentials are in a header or in the body, and no browser adds those by itself
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if wait := a.depots.wait(prefixOf(a.c.ClientAddress(r)), depotRequests, true); wait > 0 {
		a.write(w, r, refusal.Newf(refusal.RateLimited, "One address may ask %d times a second.", depotRequests).After(wait))
		return
	}
	most := int64(MaxBodyBytes)
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/objects") {
		most = maxDepotBody
		if a.c.Depots != nil {
			release, err := a.c.Depots.Acquire(r.Context())
			if err != nil {
				return // the client has gone
			}
			defer release()
		}
	}
	if r.Method == http.MethodGet {
		// What is sent may take longer than a request's body should. Not every writer can; those set no deadline either.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	r = r.WithContext(context.WithValue(r.Context(), principalKey{}, authentication{}))
	a.mux.ServeHTTP(w, r)
}

// atDepot holds those who show wrong credentials to the rate that authenticate holds them to.
func (a *API) atDepot(ctx context.Context, do func() error) error {
	if a.c.Depots == nil {
		return refusal.New(refusal.NotRunning)
	}
	from, _ := ctx.Value(depotAddressKey{}).(string)
	if wait := a.failures.wait(from, a.c.FailuresPerSecond, false); wait > 0 {
		return refusal.Newf(refusal.RateLimited, "Too many wrong credentials came from this address.").After(wait)
	}
	err := do()
	if err != nil {
		switch refusal.From(err).Code {
		case refusal.DepotToken, refusal.KeyUnknown, refusal.TokenSignature, refusal.TokenForeign, refusal.TokenMalformed:
			a.failures.wait(from, a.c.FailuresPerSecond, true)
		}
	}
	return err
}

type depotAddressKey struct{}

// addressed puts the client's address where atDepot finds it.
func (a *API) addressed(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	next(huma.WithValue(ctx, depotAddressKey{}, prefixOf(a.c.ClientAddress(r))))
}

// opened looks at a depot with the token that a request shows, and at its project.
func (a *API) opened(ctx context.Context, id, authorization string, do func(token string, i depot.Info, p project.Project) error) error {
	return a.atDepot(ctx, func() error {
		scheme, token, _ := strings.Cut(authorization, " ")
		if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
			return refusal.Newf(refusal.CredentialsMissing, "The header Authorization: Bearer with a token of the depot is needed.")
		}
		info, err := a.c.Depots.Look(id, token)
		if err != nil {
			return err
		}
		p, err := a.c.Projects.Get(ctx, info.Project)
		switch {
		case errors.Is(err, refusal.New(refusal.NotFound)):
			return refusal.New(refusal.DepotUnknown)
		case err != nil:
			return err
		case !p.On:
			return refusal.New(refusal.ProjectOff)
		}
		return do(token, info, p)
	})
}

// project says for which project somebody may make a depot: one in whose channels they may join.
func (a *API) depotProject(ctx context.Context, c JoinCredentials, id, origin string) (project.Project, error) {
	cr := auth.Credentials{Key: c.Key, Token: c.Token, Origin: origin}
	var owner string
	if id == "" && c.Token == "" {
		p, _, err := a.c.Authorizer.Look(ctx, cr)
		if err != nil {
			return project.Project{}, err
		}
		owner = p.ID
	} else if id == "" {
		return project.Project{}, invalid("id", "is needed with an access token, which is for channels")
	} else {
		cr.Channel = "f." + id // docs/transfer.md §3
		g, err := a.c.Authorizer.Admit(ctx, cr)
		if err != nil {
			return project.Project{}, err
		}
		owner = g.Project
	}
	return a.c.Projects.Get(ctx, owner)
}

func depotBody(i depot.Info) Depot {
	d := Depot{State: i.State, Once: i.Once, Taker: i.Taker, ExpiresAtMS: i.Expires.UnixMilli(), Bytes: i.Bytes, Objects: i.Objects}
	if d.Objects == nil {
		d.Objects = []depot.Range{}
	}
	return d
}

func (a *API) registerDepots() {
	ends := huma.Middlewares{a.addressed}
	register(a, huma.Operation{
		OperationID: "look-up-depot-terms", Method: http.MethodPost, Path: "/v1/depot-terms", Tags: []string{"depots"}, Summary: "Ask what may wait on the server",
		Description: "With what a peer joins with, in the body, and the header Origin.", Middlewares: ends,
	}, everybody, func(ctx context.Context, in *struct {
		Origin string `header:"Origin" maxLength:"512"`
		Body   struct {
			JoinCredentials
			ID string `json:"id,omitempty" pattern:"^[a-z2-7]{16}$" patternDescription:"16 of a-z 2-7" doc:"The transfer's id; needed with an access token."`
		}
	}) (*struct{ Body DepotTerms }, error) {
		out := &struct{ Body DepotTerms }{}
		return out, a.atDepot(ctx, func() error {
			p, err := a.depotProject(ctx, in.Body.JoinCredentials, in.Body.ID, in.Origin)
			out.Body = DepotTerms{p.Settings.DepotBytes, max(0, p.Settings.DepotBytes-a.c.Depots.Used(p.ID)), int(p.Settings.DepotLifetime().Hours())}
			return err
		})
	})

	register(a, huma.Operation{
		OperationID: "create-depot", Method: http.MethodPut, Path: "/v1/depots/{id}", Tags: []string{"depots"}, Summary: "Let a transfer wait on the server",
		Description: "With what a peer joins with, in the body, and the header Origin. The same request again finds what is there.", Middlewares: ends, Errors: []int{409, 507},
	}, everybody, func(ctx context.Context, in *struct {
		DepotPath
		Origin string `header:"Origin" maxLength:"512"`
		Body   struct {
			JoinCredentials
			Upload string `json:"upload" pattern:"^[A-Za-z0-9_-]{43}$" patternDescription:"32 bytes in base64url" doc:"SHA-256 of the sender's token."`
			Read   string `json:"read" pattern:"^[A-Za-z0-9_-]{43}$" patternDescription:"32 bytes in base64url" doc:"SHA-256 of the receivers' token."`
			Once   bool   `json:"once,omitempty" doc:"It is for one receiver, whose receipt removes it."`
		}
	}) (*struct{ Body Depot }, error) {
		out := &struct{ Body Depot }{}
		return out, a.atDepot(ctx, func() error {
			p, err := a.depotProject(ctx, in.Body.JoinCredentials, in.ID, in.Origin)
			if err != nil {
				return err
			}
			if p.Settings.DepotBytes == 0 {
				return refusal.New(refusal.DepotOff)
			}
			n := depot.New{ID: in.ID, Project: p.ID, Once: in.Body.Once, Lifetime: p.Settings.DepotLifetime()}
			for _, h := range []struct {
				text, name string
				hash       *[sha256.Size]byte
			}{{in.Body.Upload, "body.upload", &n.Upload}, {in.Body.Read, "body.read", &n.Read}} {
				b, err := base64.RawURLEncoding.Strict().DecodeString(h.text)
				if err != nil || len(b) != sha256.Size {
					return invalid(h.name, "is 32 bytes in base64url")
				}
				copy(h.hash[:], b)
			}
			info, err := a.c.Depots.Create(n, p.Settings.DepotBytes)
			out.Body = depotBody(info)
			return err
		})
	})

	register(a, huma.Operation{
		OperationID: "get-depot", Method: http.MethodGet, Path: "/v1/depots/{id}", Tags: []string{"depots"}, Summary: "Show what is there", Middlewares: ends,
	}, withDepot, func(ctx context.Context, in *struct {
		DepotPath
		DepotToken
	}) (*struct{ Body Depot }, error) {
		out := &struct{ Body Depot }{}
		return out, a.opened(ctx, in.ID, in.Authorization, func(_ string, i depot.Info, _ project.Project) error {
			out.Body = depotBody(i)
			return nil
		})
	})

	register(a, huma.Operation{
		OperationID: "delete-depot", Method: http.MethodDelete, Path: "/v1/depots/{id}", Tags: []string{"depots"}, Summary: "Remove it", Description: "With the sender's token.",
		DefaultStatus: http.StatusNoContent, Middlewares: ends,
	}, withDepot, func(ctx context.Context, in *struct {
		DepotPath
		DepotToken
	}) (*nothing, error) {
		return nil, a.opened(ctx, in.ID, in.Authorization, func(token string, _ depot.Info, _ project.Project) error { return a.c.Depots.Remove(in.ID, token) })
	})

	register(a, huma.Operation{
		OperationID: "put-depot-objects", Method: http.MethodPost, Path: "/v1/depots/{id}/objects", Tags: []string{"depots"}, Summary: "Keep objects",
		Description:   "With the sender's token. The body has at most 64 objects, each behind its number (8 bytes) and its length (4 bytes), big-endian. After the answer all of them are on the disk; after a problem, none. An object whose number is there stays as it was.",
		DefaultStatus: http.StatusNoContent, Middlewares: ends, BodyReadTimeout: depotUpload, Errors: []int{409, 410, 507},
	}, withDepot, func(ctx context.Context, in *struct {
		DepotPath
		DepotToken
		RawBody []byte `contentType:"application/octet-stream"`
	}) (*nothing, error) {
		return nil, a.opened(ctx, in.ID, in.Authorization, func(token string, i depot.Info, p project.Project) error {
			if !i.Sender {
				return refusal.Newf(refusal.DepotToken, "This token is for reading.")
			}
			if p.Settings.DepotBytes == 0 {
				return refusal.New(refusal.DepotOff)
			}
			objects, err := depot.ParseObjects(in.RawBody)
			if err != nil {
				return err
			}
			return a.c.Depots.Put(in.ID, token, objects, p.Settings.DepotBytes)
		})
	})

	register(a, huma.Operation{
		OperationID: "get-depot-objects", Method: http.MethodGet, Path: "/v1/depots/{id}/objects", Tags: []string{"depots"}, Summary: "Fetch objects",
		Description: "Each behind its number (8 bytes) and its length (4 bytes), big-endian, in the order asked. Those that are not there are left out.", Middlewares: ends, Errors: []int{409, 410},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}, withDepot, func(ctx context.Context, in *struct {
		DepotPath
		DepotToken
		Numbers string `query:"numbers" required:"true" maxLength:"8192" doc:"Such as 0-3,17: at most 256 numbers." example:"0-3,17"`
	}) (*huma.StreamResponse, error) {
		numbers, ok := depot.ParseNumbers(in.Numbers)
		if !ok {
			return nil, invalid("query.numbers", "is a list such as 0-3,17, of at most %d numbers", depot.MaxFetch)
		}
		var token string
		err := a.opened(ctx, in.ID, in.Authorization, func(t string, _ depot.Info, _ project.Project) error {
			token = t
			return a.c.Depots.Read(in.ID, t, nil, nil) // refuses what is over
		})
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			a.stream(w, r, in.ID, token, numbers)
		}}, nil
	})

	register(a, huma.Operation{
		OperationID: "claim-depot", Method: http.MethodPut, Path: "/v1/depots/{id}/taker", Tags: []string{"depots"}, Summary: "Accept a transfer that waits",
		Description: "If it is for one receiver, the first taker is the one.", DefaultStatus: http.StatusNoContent, Middlewares: ends, Errors: []int{409, 410},
	}, withDepot, func(ctx context.Context, in *takerInput) (*nothing, error) {
		return nil, a.opened(ctx, in.ID, in.Authorization, func(token string, _ depot.Info, _ project.Project) error {
			return a.c.Depots.Claim(in.ID, token, in.Body.Taker)
		})
	})

	register(a, huma.Operation{
		OperationID: "complete-depot", Method: http.MethodPost, Path: "/v1/depots/{id}/receipt", Tags: []string{"depots"}, Summary: "Say that everything has arrived",
		Description: "If it is for one receiver, its objects are removed.", DefaultStatus: http.StatusNoContent, Middlewares: ends, Errors: []int{410},
	}, withDepot, func(ctx context.Context, in *takerInput) (*nothing, error) {
		return nil, a.opened(ctx, in.ID, in.Authorization, func(token string, _ depot.Info, _ project.Project) error {
			return a.c.Depots.Receipt(in.ID, token, in.Body.Taker)
		})
	})
}

// stream sends objects one by one, to a receiver that takes them.
func (a *API) stream(w http.ResponseWriter, r *http.Request, id, token string, numbers []depot.Range) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	begun := false
	var header []byte
	err := a.c.Depots.Read(id, token, numbers, func(o depot.Object) error {
		_ = control.SetWriteDeadline(time.Now().Add(depotStall)) // not every writer can: those of HTTP/2 have flow control and idle time
		begun = true
		header = depot.AppendHeader(header[:0], o.Number, len(o.Data))
		if _, err := w.Write(header); err != nil {
			return io.ErrClosedPipe
		}
		if _, err := w.Write(o.Data); err != nil {
			return io.ErrClosedPipe
		}
		return nil
	})
	_ = control.SetWriteDeadline(time.Time{})
	switch {
	case err == nil:
	case begun:
		if !errors.Is(err, io.ErrClosedPipe) {
			a.logFault(r.Context(), refusal.From(err))
		}
		panic(http.ErrAbortHandler) // the answer must not look complete
	default:
		a.write(w, r, err)
	}
}
