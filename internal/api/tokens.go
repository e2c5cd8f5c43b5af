package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
)

// Token is an access token that was just made.
type Token struct {
	Token       string `json:"token" doc:"JWT, for the join message of a client."`
	ExpiresAtMS int64  `json:"expiresAtMs"`
}

// TURNCredentials open the relay for a while.
type TURNCredentials struct {
	Username    string   `json:"username"`
	Credential  string   `json:"credential"`
	URIs        []string `json:"uris" doc:"For the member urls of an RTCIceServer."`
	ExpiresAtMS int64    `json:"expiresAtMs"`
}

func (a *API) registerTokens() {
	register(a, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/v1/tokens", Tags: []string{"tokens"}, Summary: "Make an access token",
		Description: "Any JWT library can make the same with one of the project's secrets: see api.md.", DefaultStatus: http.StatusCreated,
	}, withServer, func(ctx context.Context, in *struct {
		Body struct {
			Project    string   `json:"project,omitempty" maxLength:"64" doc:"Needed with the administrator's token."`
			Channels   []string `json:"channels" minItems:"1" maxItems:"32" doc:"Names of channels, or * for all of the project."`
			UID        string   `json:"uid,omitempty" maxLength:"128" doc:"The application's name for the user."`
			Name       string   `json:"name,omitempty" maxLength:"128" doc:"For display."`
			Role       string   `json:"role,omitempty" enum:"host,speaker,viewer" doc:"Left out: the channel decides. Its first peer becomes the host, later ones speakers."`
			Grants     []string `json:"grants,omitempty" maxItems:"16" enum:"create" doc:"create: may join channels that nobody defined, where the project's channels are not open."`
			TTLSeconds int64    `json:"ttlSeconds,omitempty" minimum:"10" maximum:"86400" default:"3600" doc:"It limits joining, not staying."`
		}
	}) (*struct{ Body Token }, error) {
		id, err := scope(ctx, in.Body.Project)
		if err != nil {
			return nil, err
		}
		claims := auth.Claims{
			Project: id, UID: in.Body.UID, Channels: in.Body.Channels, Role: auth.Role(in.Body.Role), Name: in.Body.Name,
			Grants: in.Body.Grants, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(seconds(in.Body.TTLSeconds)).Truncate(time.Second),
		}
		if err := claims.Check(); err != nil {
			return nil, err
		}
		kid, secret, err := a.c.Projects.SigningSecret(ctx, id)
		if err != nil {
			return nil, err
		}
		token, err := auth.Mint(claims, kid, secret)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Token }{Token{token, claims.ExpiresAt.UnixMilli()}}, nil
	})

	register(a, huma.Operation{
		OperationID: "create-turn-credentials", Method: http.MethodPost, Path: "/v1/turn-credentials", Tags: []string{"tokens"}, Summary: "Make credentials for TURN",
		Description: "For programs that use the relay without joining a channel. Clients that join get theirs by themselves.", DefaultStatus: http.StatusCreated,
	}, withServer, func(ctx context.Context, in *struct {
		Body struct {
			Project    string `json:"project,omitempty" maxLength:"64" doc:"Needed with the administrator's token."`
			Name       string `json:"name,omitempty" maxLength:"64" default:"rest" doc:"Whom the use is counted to."`
			TTLSeconds int64  `json:"ttlSeconds,omitempty" minimum:"10" maximum:"86400" default:"3600"`
		}
	}) (*struct{ Body TURNCredentials }, error) {
		id, err := scope(ctx, in.Body.Project)
		if err != nil {
			return nil, err
		}
		p, err := a.c.Projects.Get(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case !p.On:
			return nil, refusal.New(refusal.ProjectOff)
		case a.c.TURN == nil:
			return nil, refusal.Newf(refusal.NotRunning, "There is no relay here.")
		}
		username, credential, uris, expires, err := a.c.TURN.MintTURN(id, in.Body.Name, seconds(in.Body.TTLSeconds))
		if err != nil {
			return nil, err
		}
		if uris == nil {
			uris = []string{}
		}
		return &struct{ Body TURNCredentials }{TURNCredentials{username, credential, uris, expires.UnixMilli()}}, nil
	})

	register(a, huma.Operation{
		OperationID: "create-admin-token", Method: http.MethodPost, Path: "/v1/admin-token", Tags: []string{"tokens"}, Summary: "Make a new administrator's token",
		Description: "The former one does not work any more.", DefaultStatus: http.StatusCreated,
	}, adminOnly, func(ctx context.Context, _ *nothing) (*struct {
		Body struct {
			Token string `json:"token" doc:"It is shown this once."`
		}
	}, error) {
		out := &struct {
			Body struct {
				Token string `json:"token" doc:"It is shown this once."`
			}
		}{}
		var err error
		out.Body.Token, err = a.c.Projects.NewAdminToken(ctx)
		return out, err
	})
}
