package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// Channel is a meeting of peers, live or only defined.
type Channel struct {
	Name        string `json:"name"`
	Live        bool   `json:"live" doc:"Somebody is in it, or was a moment ago."`
	Defined     bool   `json:"defined" doc:"It has settings of its own that outlive its peers."`
	Peers       int    `json:"peers" doc:"Members."`
	Waiting     int    `json:"waiting" doc:"Who ring or wait to be admitted."`
	Capacity    int    `json:"capacity" doc:"0: the project's or the node's default."`
	WaitingRoom bool   `json:"waitingRoom"`
	Locked      bool   `json:"locked"`
	SinceMS     int64  `json:"sinceMs,omitempty" doc:"Since when it is live."`
}

// ChannelChange changes some settings; nil members stay.
type ChannelChange struct {
	Capacity    *int  `json:"capacity,omitempty" minimum:"0" maximum:"10000"`
	WaitingRoom *bool `json:"waitingRoom,omitempty"`
	Locked      *bool `json:"locked,omitempty"`
}

// Peer is a member of a channel, or somebody who waits to become one.
type Peer struct {
	ID            string          `json:"id"`
	UID           string          `json:"uid,omitempty" doc:"The application's name for the user."`
	Name          string          `json:"name,omitempty"`
	Role          string          `json:"role" enum:"host,speaker,viewer"`
	Authenticated bool            `json:"authenticated" doc:"An access token vouches for uid."`
	Waiting       bool            `json:"waiting" doc:"Rings, or waits to be admitted."`
	Connected     bool            `json:"connected" doc:"Has a link to the server now. Without one it is about to resume, or gone."`
	Media         PeerMedia       `json:"media"`
	Info          json.RawMessage `json:"info,omitempty" doc:"Of the application."`
}

// PeerMedia is what a peer says that it sends.
type PeerMedia struct {
	Audio  string `json:"audio" enum:"on,muted,off"`
	Video  string `json:"video" enum:"on,muted,off"`
	Screen string `json:"screen" enum:"on,muted,off"`
}

// OfProject says whose channels are meant.
type OfProject struct {
	Project string `query:"project" maxLength:"64" doc:"Needed with the administrator's token."`
}

// ChannelPath names a channel.
type ChannelPath struct {
	OfProject
	Channel string `path:"channel" maxLength:"64" doc:"The channel's name."`
}

type channelAnswer struct {
	ETag string `header:"ETag" doc:"Of the definition, if there is one."`
	Body Channel
}

func (a *API) registerChannels() {
	register(a, huma.Operation{
		OperationID: "list-channels", Method: http.MethodGet, Path: "/v1/channels", Tags: []string{"channels"}, Summary: "List channels, live and defined",
	}, withServer, func(ctx context.Context, in *struct {
		OfProject
		Paging
	}) (*struct{ Body Page[Channel] }, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		after, err := in.after()
		if err != nil {
			return nil, err
		}
		defined, err := a.c.Projects.Channels(ctx, id, after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		byName := map[string]Channel{}
		for _, d := range defined {
			byName[d.Name] = definedChannel(d)
		}
		if a.c.Channels != nil {
			live, err := a.c.Channels.List(ctx, id)
			if err != nil {
				return nil, err
			}
			for _, l := range live {
				if l.Name > after {
					_, l.Defined = byName[l.Name]
					l.Live = true
					byName[l.Name] = l
				}
			}
		}
		items := slices.SortedFunc(maps.Values(byName), func(x, y Channel) int { return strings.Compare(x.Name, y.Name) })
		// The first limit+1 of what is defined and all that is live hold the first limit+1 of both together.
		if len(items) > in.Limit+1 {
			items = items[:in.Limit+1]
		}
		return &struct{ Body Page[Channel] }{cut(items, in.Limit, func(c Channel) string { return c.Name })}, nil
	})

	register(a, huma.Operation{
		OperationID: "create-channel", Method: http.MethodPost, Path: "/v1/channels", Tags: []string{"channels"}, Summary: "Define a channel",
		Description: "Its settings outlive its peers. If the channel is live they hold at once.", DefaultStatus: http.StatusCreated,
	}, withServer, func(ctx context.Context, in *struct {
		Body struct {
			Project     string `json:"project,omitempty" maxLength:"64" doc:"Needed with the administrator's token."`
			Name        string `json:"name" pattern:"^[A-Za-z0-9._~-]{1,64}$" patternDescription:"1 to 64 of A-Z a-z 0-9 . _ ~ -"`
			Capacity    int    `json:"capacity,omitempty" minimum:"0" maximum:"10000" doc:"0: the project's or the node's default."`
			WaitingRoom bool   `json:"waitingRoom,omitempty" doc:"Peers that are not hosts wait to be admitted."`
			Locked      bool   `json:"locked,omitempty" doc:"Nobody new comes in."`
		}
	}) (*channelAnswer, error) {
		id, err := scope(ctx, in.Body.Project)
		if err != nil {
			return nil, err
		}
		d := auth.Definition{Capacity: in.Body.Capacity, WaitingRoom: in.Body.WaitingRoom, Locked: in.Body.Locked}
		c, err := a.c.Projects.DefineChannel(ctx, id, in.Body.Name, d)
		if err != nil {
			return nil, err
		}
		if a.c.Channels != nil {
			if err := a.c.Channels.Define(ctx, id, c.Name, d); err != nil {
				return nil, err
			}
		}
		return a.channel(ctx, id, c.Name)
	})

	register(a, huma.Operation{
		OperationID: "get-channel", Method: http.MethodGet, Path: "/v1/channels/{channel}", Tags: []string{"channels"}, Summary: "Show a channel",
	}, withServer, func(ctx context.Context, in *ChannelPath) (*channelAnswer, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		return a.channel(ctx, id, in.Channel)
	})

	register(a, huma.Operation{
		OperationID: "update-channel", Method: http.MethodPatch, Path: "/v1/channels/{channel}", Tags: []string{"channels"}, Summary: "Change a channel's settings",
		Description: "What is left out stays. The definition and the live channel change, whichever there is.",
	}, withServer, func(ctx context.Context, in *struct {
		ChannelPath
		IfMatch
		Body ChannelChange
	}) (*channelAnswer, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		version, err := in.version()
		if err != nil {
			return nil, err
		}
		_, err = a.c.Projects.RedefineChannel(ctx, id, in.Channel, version, func(d *auth.Definition) {
			set(&d.Capacity, in.Body.Capacity)
			set(&d.WaitingRoom, in.Body.WaitingRoom)
			set(&d.Locked, in.Body.Locked)
		})
		undefined := isCode(err, refusal.NotFound)
		if err != nil && !undefined {
			return nil, err
		}
		if a.c.Channels != nil {
			if err := a.c.Channels.Configure(ctx, id, in.Channel, in.Body); err != nil && !isCode(err, refusal.ChannelNotFound) {
				return nil, err
			}
		}
		return a.channel(ctx, id, in.Channel)
	})

	register(a, huma.Operation{
		OperationID: "close-channel", Method: http.MethodDelete, Path: "/v1/channels/{channel}", Tags: []string{"channels"}, Summary: "Close a channel",
		Description: "Ends it for all its peers, and removes its definition.", DefaultStatus: http.StatusNoContent,
	}, withServer, func(ctx context.Context, in *ChannelPath) (*nothing, error) {
		id, err := scope(ctx, in.Project)
		if err != nil {
			return nil, err
		}
		found := true
		if err := a.c.Projects.ForgetChannel(ctx, id, in.Channel); isCode(err, refusal.NotFound) {
			found = false
		} else if err != nil {
			return nil, err
		}
		if a.c.Channels != nil {
			if err := a.c.Channels.Close(ctx, id, in.Channel); err == nil {
				found = true
			} else if !isCode(err, refusal.ChannelNotFound) {
				return nil, err
			}
		}
		if !found {
			return nil, refusal.New(refusal.ChannelNotFound)
		}
		return nil, nil
	})

	register(a, huma.Operation{
		OperationID: "list-peers", Method: http.MethodGet, Path: "/v1/channels/{channel}/peers", Tags: []string{"channels"}, Summary: "List a channel's peers",
		Description: "Ordered by id. Also those who wait to be admitted.",
	}, withServer, func(ctx context.Context, in *struct {
		ChannelPath
		Paging
	}) (*struct{ Body Page[Peer] }, error) {
		id, live, err := a.live(ctx, in.ChannelPath)
		if err != nil {
			return nil, err
		}
		after, err := in.after()
		if err != nil {
			return nil, err
		}
		all, err := live.Peers(ctx, id, in.Channel)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(all, func(x, y Peer) int { return strings.Compare(x.ID, y.ID) })
		from, _ := slices.BinarySearchFunc(all, after, func(p Peer, after string) int {
			if p.ID <= after {
				return -1
			}
			return 1
		})
		return &struct{ Body Page[Peer] }{cut(all[from:], in.Limit, func(p Peer) string { return p.ID })}, nil
	})

	register(a, huma.Operation{
		OperationID: "kick-peer", Method: http.MethodDelete, Path: "/v1/channels/{channel}/peers/{peer}", Tags: []string{"channels"}, Summary: "Remove a peer",
		DefaultStatus: http.StatusNoContent,
	}, withServer, func(ctx context.Context, in *struct {
		ChannelPath
		Peer       string `path:"peer" maxLength:"128" doc:"The peer's id."`
		Reason     string `query:"reason" maxLength:"200" doc:"Shown to the peer."`
		BanSeconds int64  `query:"banSeconds" minimum:"0" maximum:"86400" default:"600" doc:"How long it cannot come back."`
	}) (*nothing, error) {
		id, live, err := a.live(ctx, in.ChannelPath)
		if err != nil {
			return nil, err
		}
		return nil, live.Kick(ctx, id, in.Channel, in.Peer, in.Reason, seconds(in.BanSeconds))
	})

	register(a, huma.Operation{
		OperationID: "send-command", Method: http.MethodPost, Path: "/v1/channels/{channel}/commands", Tags: []string{"channels"}, Summary: "Send a command to peers",
		Description: "An application's message in the name of its server. If one of the peers is missing, nobody gets it.", DefaultStatus: http.StatusNoContent,
	}, withServer, func(ctx context.Context, in *struct {
		ChannelPath
		Body struct {
			To   []string        `json:"to,omitempty" minItems:"1" maxItems:"1000" doc:"Ids of peers. Left out: all."`
			Name string          `json:"name" minLength:"1" maxLength:"64" doc:"The command's name. madang.chat is text chat."`
			Data json.RawMessage `json:"data,omitempty" doc:"Any JSON value."`
		}
	}) (*nothing, error) {
		id, live, err := a.live(ctx, in.ChannelPath)
		if err != nil {
			return nil, err
		}
		if in.Body.Data != nil && !signal.ValidValue(in.Body.Data) {
			return nil, invalid("body.data", "is JSON in UTF-8 that nests at most 31 levels deep")
		}
		return nil, live.Command(ctx, id, in.Channel, in.Body.To, in.Body.Name, in.Body.Data)
	})
}

// live returns what an operation on a live channel works on.
func (a *API) live(ctx context.Context, in ChannelPath) (project string, channels Channels, err error) {
	if project, err = scope(ctx, in.Project); err != nil {
		return "", nil, err
	}
	if a.c.Channels == nil {
		return "", nil, refusal.New(refusal.NotRunning)
	}
	return project, a.c.Channels, nil
}

// channel puts together what is known of a channel, or returns channel_not_found.
func (a *API) channel(ctx context.Context, project, name string) (*channelAnswer, error) {
	out := &channelAnswer{}
	found := false
	d, err := a.c.Projects.Channel(ctx, project, name)
	switch {
	case err == nil:
		found = true
		out.Body, out.ETag = definedChannel(d), etag(d.Version)
	case !isCode(err, refusal.NotFound):
		return nil, err
	}
	if a.c.Channels != nil {
		l, err := a.c.Channels.Get(ctx, project, name)
		if err == nil {
			l.Live, l.Defined = true, found
			out.Body = l
			return out, nil
		}
		if !isCode(err, refusal.ChannelNotFound) {
			return nil, err
		}
	}
	if !found {
		return nil, refusal.New(refusal.ChannelNotFound)
	}
	return out, nil
}

func definedChannel(c project.Channel) Channel {
	return Channel{Name: c.Name, Defined: true, Capacity: c.Capacity, WaitingRoom: c.WaitingRoom, Locked: c.Locked}
}

func isCode(err error, c refusal.Code) bool { return errors.Is(err, refusal.New(c)) }
