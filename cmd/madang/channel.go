package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/madang-rtc/madang/internal/api"
)

// ChannelCmd administers channels.
type ChannelCmd struct {
	nodeFlags
	ofProject

	List    channelListCmd    `cmd:"" help:"List channels, live and defined."`
	Create  channelCreateCmd  `cmd:"" help:"Define a channel: its settings outlive its peers."`
	Show    channelShowCmd    `cmd:"" help:"Show a channel."`
	Set     channelSetCmd     `cmd:"" help:"Change a channel's settings."`
	Close   channelCloseCmd   `cmd:"" help:"End a channel for all its peers, and remove its definition."`
	Peers   channelPeersCmd   `cmd:"" help:"List the peers of a live channel."`
	Kick    channelKickCmd    `cmd:"" help:"Remove a peer from a channel."`
	Command channelCommandCmd `cmd:"" help:"Send a command to peers, in the name of the application's server."`
}

// query returns the parameters of a request about a channel.
func (p *ChannelCmd) query(c *nodeClient) url.Values {
	q := url.Values{}
	if id := p.id(c); id != "" {
		q.Set("project", id)
	}
	return q
}

// path returns that of a channel, and what is below it.
func (p *ChannelCmd) path(c *nodeClient, channel, below string) string {
	return "/v1/channels/" + seg(channel) + below + "?" + p.query(c).Encode()
}

type channelArg struct {
	Channel string `arg:"" help:"Name of the channel."`
}

func (c *nodeClient) showChannel(ch api.Channel) error {
	return c.show(ch, func(w io.Writer) {
		fmt.Fprintf(w, "name\t%s\nstate\t%s%s\npeers\t%d\nwaiting\t%d\ncapacity\t%s\nwaiting room\t%s\nlocked\t%s\nlive since\t%s\n",
			clean(ch.Name), word(ch.Live, "live", "not live"), word(ch.Defined, ", defined", ""), ch.Peers, ch.Waiting,
			capacity(ch.Capacity), word(ch.WaitingRoom, "yes", "no"), word(ch.Locked, "yes", "no"), date(ch.SinceMS))
	})
}

func capacity(n int) string {
	if n == 0 {
		return "default"
	}
	return fmt.Sprint(n)
}

type channelListCmd struct{}

func (*channelListCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		list, err := all[api.Channel](ctx, c, "/v1/channels?"+p.query(c).Encode())
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) {
			fmt.Fprintln(w, "NAME\tSTATE\tPEERS\tWAITING\tCAPACITY\tLOCKED\tWAITING ROOM\tLIVE SINCE")
			for _, ch := range list {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", clean(ch.Name), word(ch.Live, "live", "defined"), ch.Peers, ch.Waiting,
					capacity(ch.Capacity), word(ch.Locked, "yes", "no"), word(ch.WaitingRoom, "yes", "no"), date(ch.SinceMS))
			}
		})
	})
}

type channelCreateCmd struct {
	channelArg
	Capacity    int  `help:"How many members at most. 0: the default." placeholder:"N"`
	WaitingRoom bool `name:"waiting-room" help:"Peers that are not hosts wait to be admitted."`
	Locked      bool `help:"Nobody new comes in."`
}

func (cmd *channelCreateCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		body := map[string]any{"name": cmd.Channel, "capacity": cmd.Capacity, "waitingRoom": cmd.WaitingRoom, "locked": cmd.Locked}
		if id := p.id(c); id != "" {
			body["project"] = id
		}
		var made api.Channel
		if err := c.do(ctx, http.MethodPost, "/v1/channels", body, &made); err != nil {
			return err
		}
		return c.showChannel(made)
	})
}

type channelShowCmd struct{ channelArg }

func (cmd *channelShowCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var got api.Channel
		if err := c.do(ctx, http.MethodGet, p.path(c, cmd.Channel, ""), nil, &got); err != nil {
			return err
		}
		return c.showChannel(got)
	})
}

type channelSetCmd struct {
	channelArg
	Capacity    *int  `help:"How many members at most. 0: the default." placeholder:"N"`
	WaitingRoom *bool `name:"waiting-room" negatable:"" help:"Peers that are not hosts wait to be admitted."`
	Locked      *bool `negatable:"" help:"Nobody new comes in."`
}

// Validate is called by kong.
func (cmd *channelSetCmd) Validate() error {
	if cmd.Capacity == nil && cmd.WaitingRoom == nil && cmd.Locked == nil {
		return bilingual{en: "nothing to change: give a setting", ko: "바꿀 것이 없습니다. 설정을 하나 이상 주세요"}
	}
	return nil
}

func (cmd *channelSetCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		var got api.Channel
		change := api.ChannelChange{Capacity: cmd.Capacity, WaitingRoom: cmd.WaitingRoom, Locked: cmd.Locked}
		if err := c.do(ctx, http.MethodPatch, p.path(c, cmd.Channel, ""), change, &got); err != nil {
			return err
		}
		return c.showChannel(got)
	})
}

type channelCloseCmd struct{ channelArg }

func (cmd *channelCloseCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		if err := c.do(ctx, http.MethodDelete, p.path(c, cmd.Channel, ""), nil, nil); err != nil {
			return err
		}
		return c.done("closed %s", "%s 채널을 닫았습니다", cmd.Channel)
	})
}

type channelPeersCmd struct{ channelArg }

func (cmd *channelPeersCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		list, err := all[api.Peer](ctx, c, p.path(c, cmd.Channel, "/peers"))
		if err != nil {
			return err
		}
		return c.show(list, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tROLE\tUID\tNAME\tSTATE\tAUDIO\tVIDEO\tSCREEN")
			for _, p := range list {
				state := word(p.Connected, "connected", "reconnecting")
				if p.Waiting {
					state = "waiting"
				}
				uid := p.UID
				if uid != "" && !p.Authenticated {
					uid += " (not verified)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Role, clean(uid), clean(p.Name), state, p.Media.Audio, p.Media.Video, p.Media.Screen)
			}
		})
	})
}

type channelKickCmd struct {
	channelArg
	Peer   string        `arg:"" help:"Id of the peer."`
	Reason string        `help:"Shown to the peer." placeholder:"TEXT"`
	Ban    time.Duration `help:"How long it cannot come back; at most 24h." default:"10m" placeholder:"TIME"`
}

func (cmd *channelKickCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		q := p.query(c)
		q.Set("banSeconds", fmt.Sprint(int64(cmd.Ban/time.Second)))
		if cmd.Reason != "" {
			q.Set("reason", cmd.Reason)
		}
		if err := c.do(ctx, http.MethodDelete, "/v1/channels/"+seg(cmd.Channel)+"/peers/"+seg(cmd.Peer)+"?"+q.Encode(), nil, nil); err != nil {
			return err
		}
		return c.done("removed %s from %s", "%s 피어를 %s 채널에서 내보냈습니다", cmd.Peer, cmd.Channel)
	})
}

type channelCommandCmd struct {
	channelArg
	Name string   `arg:"" help:"The command's name; madang.chat is text chat, with --data-json '{\"text\":\"…\"}'."`
	JSON string   `name:"data-json" help:"What goes with it: any JSON value." placeholder:"JSON"`
	To   []string `help:"Id of a peer; default: all. May be repeated." placeholder:"PEER"`
}

// Validate is called by kong.
func (cmd *channelCommandCmd) Validate() error {
	if cmd.JSON != "" && !json.Valid([]byte(cmd.JSON)) {
		return bilingual{en: "--data-json is not valid JSON", ko: "--data-json이 올바른 JSON이 아닙니다"}
	}
	return nil
}

func (cmd *channelCommandCmd) Run(ctx context.Context, s streams, p *ChannelCmd) error {
	return p.with(ctx, s, func(c *nodeClient) error {
		body := map[string]any{"name": cmd.Name}
		if cmd.JSON != "" {
			body["data"] = json.RawMessage(cmd.JSON)
		}
		if len(cmd.To) > 0 {
			body["to"] = cmd.To
		}
		if err := c.do(ctx, http.MethodPost, p.path(c, cmd.Channel, "/commands"), body, nil); err != nil {
			return err
		}
		return c.done("sent %s to %s", "%s 명령을 %s 채널에 보냈습니다", cmd.Name, cmd.Channel)
	})
}
