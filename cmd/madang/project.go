package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/project"
)

// ProjectCmd administers projects, their keys and their secrets.
type ProjectCmd struct {
	nodeFlags

	List   projectListCmd   `cmd:"" help:"List projects."`
	Create projectCreateCmd `cmd:"" help:"Make a project."`
	Show   projectShowCmd   `cmd:"" help:"Show a project and its settings."`
	Set    projectSetCmd    `cmd:"" help:"Change a project's name, settings and quotas."`
	On     projectOnCmd     `cmd:"" help:"Switch a project on."`
	Off    projectOffCmd    `cmd:"" help:"Switch a project off: it admits nobody, and its channels end."`
	Delete projectDeleteCmd `cmd:"" help:"Delete a project with its keys, secrets and channels."`
	Usage  projectUsageCmd  `cmd:"" help:"Show what a project used, by day."`
	Key    struct {
		Add    keyAddCmd    `cmd:"" help:"Make a browser key (--origin) or a server key (--cidr)."`
		List   keyListCmd   `cmd:"" help:"List keys."`
		Remove keyRemoveCmd `cmd:"" help:"Remove a key."`
	} `cmd:"" help:"Browser keys and server keys."`
	Secret struct {
		Add    secretAddCmd    `cmd:"" help:"Make a secret that signs access tokens."`
		List   secretListCmd   `cmd:"" help:"List secrets."`
		Remove secretRemoveCmd `cmd:"" help:"Remove a secret: its tokens admit nobody any more."`
	} `cmd:"" help:"Secrets that sign access tokens."`
}

// projectArg names the project that a command is about.
type projectArg struct {
	Project string `arg:"" help:"Id of the project."`
}

func (p projectArg) path() string { return "/v1/projects/" + seg(p.Project) }

// settingsFlags change what is given, and leave the rest.
type settingsFlags struct {
	RequireToken        *bool    `name:"require-token" negatable:"" help:"Peers need an access token; a browser key alone is not enough."`
	OpenChannels        *bool    `name:"open-channels" negatable:"" help:"Peers may join channels of any name, not only defined ones."`
	PeersPerChannel     *int     `name:"peers-per-channel" help:"Capacity of channels that define none. 0: the node's default." placeholder:"N"`
	JoinsPerDay         *int64   `name:"joins-per-day" help:"Quota; a day is one of UTC. 0: none." placeholder:"N"`
	JoinsPerSecond      *float64 `name:"joins-per-second" help:"Rate of joins. 0: none." placeholder:"N"`
	RelayBytesPerDay    *int64   `name:"relay-bytes-per-day" help:"Quota of bytes through TURN. 0: none." placeholder:"N"`
	RelayBytesPerSecond *int64   `name:"relay-bytes-per-second" help:"Bandwidth of each peer through TURN. 0: no limit." placeholder:"N"`
	RequestsPerSecond   *float64 `name:"requests-per-second" help:"Rate of REST requests of each server key. 0: the node's default." placeholder:"N"`
	PlayRTC             *bool    `name:"playrtc" negatable:"" help:"PlayRTC clients are accepted."`
	PlayRTCRoles        *bool    `name:"playrtc-roles" negatable:"" help:"Of PlayRTC clients only hosts may remove other peers and close channels."`
	DepotBytes          *int64   `name:"depot-bytes" help:"What file transfers may keep on the server for receivers who come later. 0: nothing." placeholder:"N"`
	DepotHours          *int     `name:"depot-hours" help:"How long it is kept. 0: 24 hours." placeholder:"N"`
}

func (f settingsFlags) change() *api.SettingsChange {
	c := api.SettingsChange(f)
	if c == (api.SettingsChange{}) {
		return nil
	}
	return &c
}

func (c *nodeClient) showProject(p api.Project) error {
	return c.show(p, func(w io.Writer) {
		fmt.Fprintf(w, "id\t%s\nname\t%s\nstate\t%s\nkind\t%s\ncreated\t%s\n", p.ID, clean(p.Name), word(p.On, "on", "off"), p.Kind, date(p.CreatedAtMS))
		limit := func(n float64, unit string) string {
			if n == 0 {
				return "no limit"
			}
			return fmt.Sprintf("%.15g%s", n, unit)
		}
		s := p.Settings
		fmt.Fprintf(w, "joining\t%s\n", word(s.RequireToken, "with an access token only", "with a browser key or an access token"))
		fmt.Fprintf(w, "channels\t%s\n", word(s.OpenChannels, "any name", "defined ones only"))
		peers := "the node's default"
		if s.PeersPerChannel > 0 {
			peers = fmt.Sprint(s.PeersPerChannel)
		}
		fmt.Fprintf(w, "peers per channel\t%s\n", peers)
		fmt.Fprintf(w, "joins\t%s, %s\n", limit(float64(s.JoinsPerDay), " a day"), limit(s.JoinsPerSecond, " a second"))
		fmt.Fprintf(w, "relay\t%s, %s\n", limit(float64(s.RelayBytesPerDay), " bytes a day"), limit(float64(s.RelayBytesPerSecond), " bytes a second for each peer"))
		kept := "nothing"
		if s.DepotBytes > 0 {
			kept = fmt.Sprintf("up to %s bytes, for %d hours", limit(float64(s.DepotBytes), ""), cmp.Or(s.DepotHours, project.DefaultDepotHours))
		}
		fmt.Fprintf(w, "files kept for later\t%s\n", kept)
		requests := "the node's default"
		if s.RequestsPerSecond > 0 {
			requests = fmt.Sprintf("%g a second", s.RequestsPerSecond)
		}
		fmt.Fprintf(w, "REST requests of a key\t%s\n", requests)
		playrtc := "not accepted"
		if s.PlayRTC || p.Kind == project.SandboxID {
			playrtc = "accepted; " + word(s.PlayRTCRoles, "hosts may remove peers", "every member may remove peers")
		}
		fmt.Fprintf(w, "PlayRTC clients\t%s\n", playrtc)
	})
}

type projectListCmd struct{}

func (*projectListCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		list, err := all[api.Project](ctx, c, "/v1/projects")
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tSTATE\tNAME\tCREATED")
			for _, p := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.ID, word(p.On, "on", "off"), clean(p.Name), date(p.CreatedAtMS))
			}
		})
	})
}

type projectCreateCmd struct {
	Name string `arg:"" help:"Name, for people. One like 'shop' or 'my-shop' is also the project's id."`
	ID   string `name:"id" help:"Id. Default: the name, if it can be one, otherwise a random one." placeholder:"ID"`
	settingsFlags
}

func (cmd *projectCreateCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var made api.Project
		body := struct {
			ID       string              `json:"id,omitempty"`
			Name     string              `json:"name"`
			Settings *api.SettingsChange `json:"settings,omitempty"`
		}{cmd.ID, cmd.Name, cmd.change()}
		if body.ID == "" && project.ValidID(cmd.Name) {
			body.ID = cmd.Name
		}
		if err := c.do(ctx, http.MethodPost, "/v1/projects", body, &made); err != nil {
			return err
		}
		if err := c.showProject(made); err != nil {
			return err
		}
		c.note("next: madang project key add %s --origin https://your.page", "다음: madang project key add %s --origin https://your.page", made.ID)
		return nil
	})
}

type projectShowCmd struct{ projectArg }

func (cmd *projectShowCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var got api.Project
		if err := c.do(ctx, http.MethodGet, cmd.path(), nil, &got); err != nil {
			return err
		}
		return c.showProject(got)
	})
}

// patch changes a project and shows it.
func (c *nodeClient) patchProject(ctx context.Context, path string, body any) error {
	var got api.Project
	if err := c.do(ctx, http.MethodPatch, path, body, &got); err != nil {
		return err
	}
	return c.showProject(got)
}

type projectSetCmd struct {
	projectArg
	Name *string `help:"New name." placeholder:"NAME"`
	settingsFlags
}

// Validate is called by kong.
func (cmd *projectSetCmd) Validate() error {
	if cmd.Name == nil && cmd.change() == nil {
		return bilingual{en: "nothing to change: give a name or a setting", ko: "바꿀 것이 없습니다. 이름이나 설정을 하나 이상 주세요"}
	}
	return nil
}

func (cmd *projectSetCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		return c.patchProject(ctx, cmd.path(), struct {
			Name     *string             `json:"name,omitempty"`
			Settings *api.SettingsChange `json:"settings,omitempty"`
		}{cmd.Name, cmd.change()})
	})
}

type projectOnCmd struct{ projectArg }

func (cmd *projectOnCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		return c.patchProject(ctx, cmd.path(), map[string]bool{"on": true})
	})
}

type projectOffCmd struct{ projectArg }

func (cmd *projectOffCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		return c.patchProject(ctx, cmd.path(), map[string]bool{"on": false})
	})
}

type projectDeleteCmd struct{ projectArg }

func (cmd *projectDeleteCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		if err := c.do(ctx, http.MethodDelete, cmd.path(), nil, nil); err != nil {
			return err
		}
		return c.done("deleted %s", "%s 프로젝트를 지웠습니다", cmd.Project)
	})
}

type projectUsageCmd struct {
	projectArg
	From string `help:"First day, of UTC. Default: 30 days ago." placeholder:"2026-01-31"`
	To   string `help:"Last day, of UTC. Default: today." placeholder:"2026-01-31"`
}

func (cmd *projectUsageCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		q := url.Values{}
		if cmd.From != "" {
			q.Set("from", cmd.From)
		}
		if cmd.To != "" {
			q.Set("to", cmd.To)
		}
		var got struct {
			Days []api.Day `json:"days"`
		}
		if err := c.do(ctx, http.MethodGet, cmd.path()+"/usage?"+q.Encode(), nil, &got); err != nil {
			return err
		}
		return c.show(got.Days, func(w io.Writer) {
			fmt.Fprintln(w, "DAY (UTC)\tJOINS\tRELAYED BYTES")
			for _, d := range got.Days {
				fmt.Fprintf(w, "%s\t%d\t%d\n", d.Day, d.Joins, d.RelayBytes)
			}
		})
	})
}

type keyAddCmd struct {
	projectArg
	Origin  []string `help:"From where a browser key may be used: https://example.com, https://*.example.com, '*', app (no web page), self (the node's own pages). May be repeated." placeholder:"ORIGIN"`
	CIDR    []string `name:"cidr" help:"From where a server key may be used: an address or a network. May be repeated." placeholder:"CIDR"`
	Browser bool     `help:"A browser key; --origin says so, too."`
	Name    string   `help:"Name, for people." default:"key"`
}

// Validate is called by kong.
func (cmd *keyAddCmd) Validate() error {
	if (len(cmd.Origin) == 0) == (len(cmd.CIDR) == 0) || cmd.Browser && len(cmd.Origin) == 0 {
		return bilingual{en: "a browser key needs --origin, a server key needs --cidr: give one of them", ko: "브라우저 키에는 --origin이, 서버 키에는 --cidr이 필요합니다. 둘 중 하나를 주세요"}
	}
	return nil
}

func (cmd *keyAddCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		body := map[string]any{"kind": "browser", "name": cmd.Name, "origins": cmd.Origin}
		if len(cmd.CIDR) > 0 {
			body = map[string]any{"kind": "server", "name": cmd.Name, "cidrs": cmd.CIDR}
		}
		var made api.NewKey
		if err := c.do(ctx, http.MethodPost, cmd.path()+"/keys", body, &made); err != nil {
			return err
		}
		if made.Kind == "server" {
			c.note("This server key is shown once. Keep it secret.", "이 서버 키는 한 번만 보입니다. 비밀로 보관하세요.")
		}
		return c.show(made, func(w io.Writer) { fmt.Fprintln(w, made.Secret) })
	})
}

type keyListCmd struct{ projectArg }

func (cmd *keyListCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		list, err := all[api.Key](ctx, c, cmd.path()+"/keys")
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tKIND\tNAME\tFROM\tCREATED")
			for _, k := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Kind, clean(k.Name), clean(strings.Join(append(k.Origins, k.CIDRs...), " ")), date(k.CreatedAtMS))
			}
		})
	})
}

type keyRemoveCmd struct {
	projectArg
	Key string `arg:"" help:"Id of the key."`
}

func (cmd *keyRemoveCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		if err := c.do(ctx, http.MethodDelete, cmd.path()+"/keys/"+seg(cmd.Key), nil, nil); err != nil {
			return err
		}
		return c.done("removed %s", "%s 키를 지웠습니다", cmd.Key)
	})
}

type secretAddCmd struct {
	projectArg
	Name string `help:"Name, for people." default:"secret"`
}

func (cmd *secretAddCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var made api.NewSecret
		if err := c.do(ctx, http.MethodPost, cmd.path()+"/secrets", map[string]string{"name": cmd.Name}, &made); err != nil {
			return err
		}
		c.note("This secret is shown once. Sign access tokens (HS256) with the bytes of its text, and name it in their header as \"kid\".",
			"이 비밀은 한 번만 보입니다. 이 글자의 바이트로 액세스 토큰에 서명(HS256)하고, 헤더의 \"kid\"에 이름을 적으세요.")
		return c.show(made, func(w io.Writer) { fmt.Fprintf(w, "kid\t%s\nsecret\t%s\n", made.KID, made.Value) })
	})
}

type secretListCmd struct{ projectArg }

func (cmd *secretListCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var page api.Page[api.Secret]
		if err := c.do(ctx, http.MethodGet, cmd.path()+"/secrets", nil, &page); err != nil {
			return err
		}
		return c.show(page.Items, func(w io.Writer) {
			fmt.Fprintln(w, "KID\tNAME\tCREATED")
			for _, sec := range page.Items {
				fmt.Fprintf(w, "%s\t%s\t%s\n", sec.KID, clean(sec.Name), date(sec.CreatedAtMS))
			}
		})
	})
}

type secretRemoveCmd struct {
	projectArg
	KID string `arg:"" name:"kid" help:"The secret's name."`
}

func (cmd *secretRemoveCmd) Run(ctx context.Context, s streams, p *ProjectCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		if err := c.do(ctx, http.MethodDelete, cmd.path()+"/secrets/"+seg(cmd.KID), nil, nil); err != nil {
			return err
		}
		return c.done("removed %s", "%s 비밀을 지웠습니다", cmd.KID)
	})
}
