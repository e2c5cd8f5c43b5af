package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/madang-rtc/madang/internal/api"
)

// TokenCmd makes what opens doors for a while.
type TokenCmd struct {
	nodeFlags

	Create tokenCreateCmd `cmd:"" help:"Make an access token, with which a client joins a channel."`
	Admin  tokenAdminCmd  `cmd:"" help:"Make a new administrator's token. The former one does not work any more."`
	TURN   tokenTURNCmd   `cmd:"" name:"turn" help:"Make credentials for the TURN relay, for other programs."`
}

// ofProject says whose something is. The home project is the one of the node's own pages.
type ofProject struct {
	Project string `help:"Id of the project. Default: home, with --server the server key's own." placeholder:"ID"`
}

func (p ofProject) id(c *nodeClient) string {
	if p.Project == "" && c.local {
		return "home"
	}
	return p.Project
}

type tokenCreateCmd struct {
	ofProject
	Channel []string      `required:"" help:"Channel that it is for, or '*' for all of the project. May be repeated." placeholder:"NAME"`
	UID     string        `name:"uid" help:"Your application's name for the user." placeholder:"UID"`
	Name    string        `help:"Name to show to others." placeholder:"NAME"`
	Role    string        `help:"host, speaker or viewer. Default: the channel decides." enum:",host,speaker,viewer" default:""`
	Grant   []string      `help:"create: may join channels that nobody defined." enum:"create" placeholder:"GRANT"`
	TTL     time.Duration `name:"ttl" help:"How long it admits; at most 24h." default:"1h" placeholder:"TIME"`
}

// Validate is called by kong.
func (cmd *tokenCreateCmd) Validate() error { return checkTTL(cmd.TTL) }

func checkTTL(d time.Duration) error {
	if d < 10*time.Second || d > 24*time.Hour {
		return bilingual{en: "--ttl is between 10s and 24h", ko: "--ttl은 10s부터 24h까지입니다"}
	}
	return nil
}

func (cmd *tokenCreateCmd) Run(ctx context.Context, s streams, t *TokenCmd) error {
	return t.with(ctx, s, func(c *nodeClient) error {
		body := map[string]any{"channels": cmd.Channel, "ttlSeconds": int64(cmd.TTL / time.Second)}
		for name, v := range map[string]string{"project": cmd.id(c), "uid": cmd.UID, "name": cmd.Name, "role": cmd.Role} {
			if v != "" {
				body[name] = v
			}
		}
		if len(cmd.Grant) > 0 {
			body["grants"] = cmd.Grant
		}
		var made api.Token
		if err := c.do(ctx, http.MethodPost, "/v1/tokens", body, &made); err != nil {
			return err
		}
		return c.show(made, func(w io.Writer) { fmt.Fprintln(w, made.Token) })
	})
}

type tokenAdminCmd struct{}

func (*tokenAdminCmd) Run(ctx context.Context, s streams, t *TokenCmd) error {
	return t.with(ctx, s, func(c *nodeClient) error {
		var made struct {
			Token string `json:"token"`
		}
		if err := c.do(ctx, http.MethodPost, "/v1/admin-token", nil, &made); err != nil {
			return err
		}
		c.note("This token is shown once, and may do everything on this node.", "이 토큰은 한 번만 보이고, 이 서버의 모든 일을 할 수 있습니다.")
		return c.show(made, func(w io.Writer) { fmt.Fprintln(w, made.Token) })
	})
}

type tokenTURNCmd struct {
	ofProject
	Name string        `help:"Whom the use is counted to." default:"cli"`
	TTL  time.Duration `name:"ttl" help:"How long they work; at most 24h." default:"1h" placeholder:"TIME"`
}

// Validate is called by kong.
func (cmd *tokenTURNCmd) Validate() error { return checkTTL(cmd.TTL) }

func (cmd *tokenTURNCmd) Run(ctx context.Context, s streams, t *TokenCmd) error {
	return t.with(ctx, s, func(c *nodeClient) error {
		body := map[string]any{"name": cmd.Name, "ttlSeconds": int64(cmd.TTL / time.Second)}
		if id := cmd.id(c); id != "" {
			body["project"] = id
		}
		var made api.TURNCredentials
		if err := c.do(ctx, http.MethodPost, "/v1/turn-credentials", body, &made); err != nil {
			return err
		}
		// The names that other programs' configurations use.
		out := struct {
			Username   string    `json:"username"`
			Credential string    `json:"credential"`
			URIs       []string  `json:"uris"`
			Expires    time.Time `json:"expires"` // RFC 3339, UTC
		}{made.Username, made.Credential, made.URIs, time.UnixMilli(made.ExpiresAtMS).UTC()}
		return c.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "username\t%s\ncredential\t%s\nexpires\t%s\n", out.Username, out.Credential, date(made.ExpiresAtMS))
			for _, u := range out.URIs {
				fmt.Fprintf(w, "uri\t%s\n", u)
			}
		})
	})
}
