package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/project"
)

// Key is a browser key or a server key.
type Key struct {
	ID          string   `json:"id" doc:"Of a browser key: the key itself. It is public."`
	Kind        string   `json:"kind" enum:"browser,server"`
	Name        string   `json:"name"`
	Origins     []string `json:"origins,omitempty" doc:"Of a browser key: from where it may be used."`
	CIDRs       []string `json:"cidrs,omitempty" doc:"Of a server key: from where it may be used."`
	CreatedAtMS int64    `json:"createdAtMs"`
}

// NewKey is a key that was just made.
type NewKey struct {
	Key
	Secret string `json:"key" doc:"The key, as it is used. A server key is shown this once."`
}

func keyBody(k project.Key) Key {
	b := Key{ID: k.ID, Kind: string(k.Kind), Name: k.Name, CreatedAtMS: k.CreatedAt.UnixMilli()}
	if k.Kind == auth.ServerKey {
		b.CIDRs = k.Allow
	} else {
		b.Origins = k.Allow
	}
	return b
}

// KeyPath names a key.
type KeyPath struct {
	ProjectPath
	Key string `path:"key" maxLength:"128" doc:"The key's id."`
}

type keyAnswer struct {
	ETag string `header:"ETag"`
	Body Key
}

// Secret signs access tokens.
type Secret struct {
	KID         string `json:"kid" doc:"Names the secret in the header of a token."`
	Name        string `json:"name"`
	CreatedAtMS int64  `json:"createdAtMs"`
}

// NewSecret is a secret that was just made.
type NewSecret struct {
	Secret
	Value string `json:"secret" doc:"Sign with the bytes of this text, as they are. It is shown this once."`
}

func secretBody(s project.Secret) Secret {
	return Secret{KID: s.KID, Name: s.Name, CreatedAtMS: s.CreatedAt.UnixMilli()}
}

func (a *API) registerKeys() {
	register(a, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: "/v1/projects/{project}/keys", Tags: []string{"keys"}, Summary: "List keys",
	}, adminOnly, func(ctx context.Context, in *struct {
		ProjectPath
		Paging
	}) (*struct{ Body Page[Key] }, error) {
		after, err := in.after()
		if err != nil {
			return nil, err
		}
		all, err := a.c.Projects.Keys(ctx, in.Project, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		items := make([]Key, len(all))
		for i, k := range all {
			items[i] = keyBody(k)
		}
		return &struct{ Body Page[Key] }{cut(items, in.Limit, func(k Key) string { return k.ID })}, nil
	})

	register(a, huma.Operation{
		OperationID: "create-key", Method: http.MethodPost, Path: "/v1/projects/{project}/keys", Tags: []string{"keys"}, Summary: "Make a key",
		Description: "The answer has the key itself. A server key is not shown again.", DefaultStatus: http.StatusCreated,
	}, adminOnly, func(ctx context.Context, in *struct {
		ProjectPath
		Body struct {
			Kind    string   `json:"kind" enum:"browser,server"`
			Name    string   `json:"name" minLength:"1" maxLength:"64"`
			Origins []string `json:"origins,omitempty" maxItems:"64" doc:"Of a browser key. "`
			CIDRs   []string `json:"cidrs,omitempty" maxItems:"64" doc:"Of a server key."`
		}
	}) (*struct {
		ETag string `header:"ETag"`
		Body NewKey
	}, error) {
		allow, wrong, field := in.Body.Origins, in.Body.CIDRs, "body.cidrs"
		if in.Body.Kind == string(auth.ServerKey) {
			allow, wrong, field = in.Body.CIDRs, in.Body.Origins, "body.origins"
		}
		if len(wrong) > 0 {
			return nil, invalid(field, "is not for a %s key", in.Body.Kind)
		}
		k, full, err := a.c.Projects.AddKey(ctx, in.Project, auth.KeyKind(in.Body.Kind), in.Body.Name, allow)
		if err != nil {
			return nil, err
		}
		return &struct {
			ETag string `header:"ETag"`
			Body NewKey
		}{etag(k.Version), NewKey{keyBody(k), full}}, nil
	})

	register(a, huma.Operation{
		OperationID: "get-key", Method: http.MethodGet, Path: "/v1/projects/{project}/keys/{key}", Tags: []string{"keys"}, Summary: "Show a key",
	}, adminOnly, func(ctx context.Context, in *KeyPath) (*keyAnswer, error) {
		k, err := a.c.Projects.Key(ctx, in.Project, in.Key)
		if err != nil {
			return nil, err
		}
		return &keyAnswer{etag(k.Version), keyBody(k)}, nil
	})

	register(a, huma.Operation{
		OperationID: "update-key", Method: http.MethodPatch, Path: "/v1/projects/{project}/keys/{key}", Tags: []string{"keys"}, Summary: "Change a key's name or list",
		Description: "What is left out stays. A list is replaced as a whole.",
	}, adminOnly, func(ctx context.Context, in *struct {
		KeyPath
		IfMatch
		Body struct {
			Name    *string  `json:"name,omitempty" minLength:"1" maxLength:"64"`
			Origins []string `json:"origins,omitempty" maxItems:"64"`
			CIDRs   []string `json:"cidrs,omitempty" maxItems:"64"`
		}
	}) (*keyAnswer, error) {
		version, err := in.version()
		if err != nil {
			return nil, err
		}
		k, err := a.c.Projects.Key(ctx, in.Project, in.Key)
		if err != nil {
			return nil, err
		}
		allow, wrong, field := in.Body.Origins, in.Body.CIDRs, "body.cidrs"
		if k.Kind == auth.ServerKey {
			allow, wrong, field = in.Body.CIDRs, in.Body.Origins, "body.origins"
		}
		if wrong != nil {
			return nil, invalid(field, "is not for a %s key", k.Kind)
		}
		if k, err = a.c.Projects.UpdateKey(ctx, in.Project, in.Key, version, in.Body.Name, allow); err != nil {
			return nil, err
		}
		return &keyAnswer{etag(k.Version), keyBody(k)}, nil
	})

	register(a, huma.Operation{
		OperationID: "delete-key", Method: http.MethodDelete, Path: "/v1/projects/{project}/keys/{key}", Tags: []string{"keys"}, Summary: "Remove a key",
		Description: "It does not work from the next request or join on. Who has joined with it stays.", DefaultStatus: http.StatusNoContent,
	}, adminOnly, func(ctx context.Context, in *KeyPath) (*nothing, error) {
		return nil, a.c.Projects.RemoveKey(ctx, in.Project, in.Key)
	})

	register(a, huma.Operation{
		OperationID: "list-secrets", Method: http.MethodGet, Path: "/v1/projects/{project}/secrets", Tags: []string{"keys"}, Summary: "List secrets",
		Description: "The newest first, without their values. A project has at most ten.",
	}, adminOnly, func(ctx context.Context, in *ProjectPath) (*struct{ Body Page[Secret] }, error) {
		all, err := a.c.Projects.Secrets(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		items := make([]Secret, len(all))
		for i, s := range all {
			items[i] = secretBody(s)
		}
		return &struct{ Body Page[Secret] }{Page[Secret]{Items: items}}, nil
	})

	register(a, huma.Operation{
		OperationID: "create-secret", Method: http.MethodPost, Path: "/v1/projects/{project}/secrets", Tags: []string{"keys"}, Summary: "Make a secret",
		Description: "Several work at once: bring a new one into use, then remove the old one. The value is not shown again.", DefaultStatus: http.StatusCreated,
	}, adminOnly, func(ctx context.Context, in *struct {
		ProjectPath
		Body struct {
			Name string `json:"name" minLength:"1" maxLength:"64"`
		}
	}) (*struct{ Body NewSecret }, error) {
		s, value, err := a.c.Projects.AddSecret(ctx, in.Project, in.Body.Name)
		if err != nil {
			return nil, err
		}
		return &struct{ Body NewSecret }{NewSecret{secretBody(s), value}}, nil
	})

	register(a, huma.Operation{
		OperationID: "delete-secret", Method: http.MethodDelete, Path: "/v1/projects/{project}/secrets/{kid}", Tags: []string{"keys"}, Summary: "Remove a secret",
		Description: "Tokens that it signed admit nobody from now on. Who has joined with one stays.", DefaultStatus: http.StatusNoContent,
	}, adminOnly, func(ctx context.Context, in *struct {
		ProjectPath
		KID string `path:"kid" maxLength:"128" doc:"The secret's name."`
	}) (*nothing, error) {
		return nil, a.c.Projects.RemoveSecret(ctx, in.Project, in.KID)
	})
}
