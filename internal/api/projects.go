package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
)

// Project is a tenant.
type Project struct {
	ID          string   `json:"id" example:"pk3x5qn7dw2af"`
	Kind        string   `json:"kind" enum:"custom,sandbox,home" doc:"The sandbox works in development mode only. The node's own pages use home."`
	Name        string   `json:"name"`
	On          bool     `json:"on" doc:"A project that is off admits nobody, and its server keys do not work."`
	Settings    Settings `json:"settings"`
	CreatedAtMS int64    `json:"createdAtMs"`
	UpdatedAtMS int64    `json:"updatedAtMs"`
}

// Settings are a project's.
type Settings struct {
	RequireToken        bool    `json:"requireToken" doc:"Peers need an access token; a browser key alone is not enough."`
	OpenChannels        bool    `json:"openChannels" doc:"Peers may join channels of any name. Otherwise only those that are defined, but for tokens with the grant create."`
	PeersPerChannel     int     `json:"peersPerChannel" doc:"Capacity of channels that define none. 0: the node's default."`
	JoinsPerDay         int64   `json:"joinsPerDay" doc:"Quota. A day is one of UTC. 0: none."`
	JoinsPerSecond      float64 `json:"joinsPerSecond" doc:"Rate of joins, with bursts of four seconds' worth. 0: none of the project's own."`
	RelayBytesPerDay    int64   `json:"relayBytesPerDay" doc:"Quota of bytes through TURN, in both directions. 0: none."`
	RelayBytesPerSecond int64   `json:"relayBytesPerSecond" doc:"Bandwidth of each peer through TURN, in both directions together. What is above it is dropped. 0: no limit."`
	RequestsPerSecond   float64 `json:"requestsPerSecond" doc:"Rate of REST requests of each server key. 0: the node's default."`
	PlayRTC             bool    `json:"playrtc" doc:"PlayRTC clients are accepted. The sandbox always accepts them."`
	PlayRTCRoles        bool    `json:"playrtcRoles" doc:"Of PlayRTC clients only hosts may remove other peers and close channels. Otherwise every member may, as in PlayRTC."`
	DepotBytes          int64   `json:"depotBytes" doc:"How much file transfers may keep on the server for receivers who come later, together. 0: nothing."`
	DepotHours          int     `json:"depotHours" doc:"How long it is kept. 0: 24 hours."`
}

// SettingsChange changes some settings.
type SettingsChange struct {
	RequireToken        *bool    `json:"requireToken,omitempty"`
	OpenChannels        *bool    `json:"openChannels,omitempty"`
	PeersPerChannel     *int     `json:"peersPerChannel,omitempty" minimum:"0" maximum:"10000"`
	JoinsPerDay         *int64   `json:"joinsPerDay,omitempty" minimum:"0" maximum:"9007199254740992"`
	JoinsPerSecond      *float64 `json:"joinsPerSecond,omitempty" minimum:"0" maximum:"100000"`
	RelayBytesPerDay    *int64   `json:"relayBytesPerDay,omitempty" minimum:"0" maximum:"9007199254740992"`
	RelayBytesPerSecond *int64   `json:"relayBytesPerSecond,omitempty" minimum:"0" maximum:"9007199254740992"`
	RequestsPerSecond   *float64 `json:"requestsPerSecond,omitempty" minimum:"0" maximum:"100000"`
	PlayRTC             *bool    `json:"playrtc,omitempty"`
	PlayRTCRoles        *bool    `json:"playrtcRoles,omitempty"`
	DepotBytes          *int64   `json:"depotBytes,omitempty" minimum:"0" maximum:"9007199254740992"`
	DepotHours          *int     `json:"depotHours,omitempty" minimum:"0" maximum:"2160"`
}

func (c *SettingsChange) apply(s *project.Settings) {
	set(&s.RequireToken, c.RequireToken)
	set(&s.OpenChannels, c.OpenChannels)
	set(&s.PeersPerChannel, c.PeersPerChannel)
	set(&s.JoinsPerDay, c.JoinsPerDay)
	set(&s.JoinsPerSecond, c.JoinsPerSecond)
	set(&s.RelayBytesPerDay, c.RelayBytesPerDay)
	set(&s.RelayBytesPerSecond, c.RelayBytesPerSecond)
	set(&s.RequestsPerSecond, c.RequestsPerSecond)
	set(&s.PlayRTC, c.PlayRTC)
	set(&s.PlayRTCRoles, c.PlayRTCRoles)
	set(&s.DepotBytes, c.DepotBytes)
	set(&s.DepotHours, c.DepotHours)
}

// set changes what is there if there is something new.
func set[T any](there *T, new *T) {
	if new != nil {
		*there = *new
	}
}

func projectBody(p project.Project) Project {
	kind := p.Kind
	if kind == "" {
		kind = "custom"
	}
	return Project{
		ID: p.ID, Kind: kind, Name: p.Name, On: p.On, Settings: Settings(p.Settings),
		CreatedAtMS: p.CreatedAt.UnixMilli(), UpdatedAtMS: p.UpdatedAt.UnixMilli(),
	}
}

// ProjectPath names the project that an operation is about. (Exported, as all that inputs embed: huma does not see into others.)
type ProjectPath struct {
	Project string `path:"project" maxLength:"64" doc:"The project's id."`
}

type projectAnswer struct {
	ETag string `header:"ETag"`
	Body Project
}

func answerProject(p project.Project) *projectAnswer {
	return &projectAnswer{ETag: etag(p.Version), Body: projectBody(p)}
}

type nothing struct{}

// Day is what a project used on one day.
type Day struct {
	Day        string `json:"day" format:"date" doc:"Of UTC."`
	Joins      int64  `json:"joins"`
	RelayBytes int64  `json:"relayBytes" doc:"Through TURN, in both directions."`
}

func (a *API) registerProjects() {
	register(a, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/v1/projects", Tags: []string{"projects"}, Summary: "List projects",
		Description: "With a server key: its own.",
	}, withServer, func(ctx context.Context, in *struct{ Paging }) (*struct{ Body Page[Project] }, error) {
		out := &struct{ Body Page[Project] }{}
		if p := who(ctx); !p.admin {
			own, err := a.c.Projects.Get(ctx, p.project)
			out.Body.Items = []Project{projectBody(own)}
			return out, err
		}
		after, err := in.after()
		if err != nil {
			return nil, err
		}
		all, err := a.c.Projects.List(ctx, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		items := make([]Project, len(all))
		for i, p := range all {
			items[i] = projectBody(p)
		}
		out.Body = cut(items, in.Limit, func(p Project) string { return p.ID })
		return out, nil
	})

	register(a, huma.Operation{
		OperationID: "create-project", Method: http.MethodPost, Path: "/v1/projects", Tags: []string{"projects"}, Summary: "Make a project",
		DefaultStatus: http.StatusCreated,
	}, adminOnly, func(ctx context.Context, in *struct {
		Body struct {
			ID       string          `json:"id,omitempty" pattern:"^[a-z][a-z0-9-]{0,30}[a-z0-9]$" patternDescription:"2 to 32 of a-z 0-9 -" doc:"An id of your own. Left out: a random one."`
			Name     string          `json:"name" minLength:"1" maxLength:"64"`
			Settings *SettingsChange `json:"settings,omitempty"`
		}
	}) (*projectAnswer, error) {
		s := project.DefaultSettings()
		if in.Body.Settings != nil {
			in.Body.Settings.apply(&s)
		}
		p, err := a.c.Projects.Create(ctx, in.Body.ID, in.Body.Name, s)
		if err != nil {
			return nil, err
		}
		return answerProject(p), nil
	})

	register(a, huma.Operation{
		OperationID: "get-project", Method: http.MethodGet, Path: "/v1/projects/{project}", Tags: []string{"projects"}, Summary: "Show a project",
	}, withServer, func(ctx context.Context, in *ProjectPath) (*projectAnswer, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		p, err := a.c.Projects.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		return answerProject(p), nil
	})

	register(a, huma.Operation{
		OperationID: "update-project", Method: http.MethodPatch, Path: "/v1/projects/{project}", Tags: []string{"projects"}, Summary: "Change a project, or switch it on or off",
		Description: "What is left out stays. Switching a project off ends its channels at once.",
	}, adminOnly, func(ctx context.Context, in *struct {
		ProjectPath
		IfMatch
		Body struct {
			Name     *string         `json:"name,omitempty" minLength:"1" maxLength:"64"`
			On       *bool           `json:"on,omitempty"`
			Settings *SettingsChange `json:"settings,omitempty"`
		}
	}) (*projectAnswer, error) {
		version, err := in.version()
		if err != nil {
			return nil, err
		}
		change := project.Change{Name: in.Body.Name, On: in.Body.On}
		if in.Body.Settings != nil {
			change.Settings = in.Body.Settings.apply
		}
		p, err := a.c.Projects.Update(ctx, in.Project, version, change)
		if err != nil {
			return nil, err
		}
		if !p.On {
			if err := a.closeAll(ctx, p.ID, refusal.ProjectOff); err != nil {
				return nil, err
			}
		}
		return answerProject(p), nil
	})

	register(a, huma.Operation{
		OperationID: "delete-project", Method: http.MethodDelete, Path: "/v1/projects/{project}", Tags: []string{"projects"}, Summary: "Delete a project",
		Description: "Its keys, secrets, channel definitions, usage and kept files go with it, and its channels end. The project home cannot be deleted.", DefaultStatus: http.StatusNoContent,
	}, adminOnly, func(ctx context.Context, in *ProjectPath) (*nothing, error) {
		if err := a.c.Projects.Delete(ctx, in.Project); err != nil {
			return nil, err
		}
		if a.c.Depots != nil {
			if err := a.c.Depots.RemoveProject(in.Project); err != nil {
				return nil, err
			}
		}
		return nil, a.closeAll(ctx, in.Project, refusal.ChannelClosed)
	})

	register(a, huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: "/v1/projects/{project}/usage", Tags: []string{"projects"}, Summary: "Usage by day",
		Description: "Days on which nothing was used are left out.",
	}, withServer, func(ctx context.Context, in *struct {
		ProjectPath
		From string `query:"from" format:"date" doc:"First day, of UTC. Default: 30 days ago." example:"2026-01-01"`
		To   string `query:"to" format:"date" doc:"Last day, of UTC. Default: today." example:"2026-01-31"`
	}) (*struct {
		Body struct {
			Days []Day `json:"days"`
		}
	}, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		to := time.Now().UTC()
		from := to.AddDate(0, 0, -30)
		for _, d := range []struct {
			name, text string
			at         *time.Time
		}{{"query.from", in.From, &from}, {"query.to", in.To, &to}} {
			if d.text != "" {
				if *d.at, err = time.Parse(time.DateOnly, d.text); err != nil {
					return nil, invalid(d.name, "is a day such as 2026-01-31")
				}
			}
		}
		if to.Sub(from) > 400*24*time.Hour {
			return nil, invalid("query.from", "is at most 400 days before to")
		}
		days, err := a.c.Projects.Usage(ctx, id, from, to)
		if err != nil {
			return nil, err
		}
		out := &struct {
			Body struct {
				Days []Day `json:"days"`
			}
		}{}
		out.Body.Days = make([]Day, len(days))
		for i, d := range days {
			out.Body.Days[i] = Day{Day: d.Day, Joins: d.Values[project.Joins], RelayBytes: d.Values[project.RelayBytes]}
		}
		return out, nil
	})
}

// closeAll ends a project's channels, where there are any.
func (a *API) closeAll(ctx context.Context, project string, why refusal.Code) error {
	if a.c.Channels == nil {
		return nil
	}
	return a.c.Channels.CloseAll(ctx, project, why)
}
