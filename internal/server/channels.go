package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
)

// channelDirectory shows the live channels to the REST API, in its words.
type channelDirectory struct{ service *channel.Service }

var _ api.Channels = channelDirectory{}

func (d channelDirectory) List(_ context.Context, project string) ([]api.Channel, error) {
	all := []api.Channel{}
	for _, c := range d.service.List(project) {
		all = append(all, apiChannel(c))
	}
	return all, nil
}

func (d channelDirectory) Get(ctx context.Context, project, name string) (api.Channel, error) {
	snapshot, err := d.service.Inspect(ctx, channel.Key{Project: project, Channel: name})
	if err != nil {
		return api.Channel{}, err
	}
	return apiChannel(snapshot.Summary), nil
}

func apiChannel(c channel.Summary) api.Channel {
	return api.Channel{
		Name: c.Key.Channel, Live: true, Peers: c.Peers, Waiting: c.Pending, SinceMS: c.Since.UnixMilli(),
		Capacity: c.Settings.Capacity, WaitingRoom: c.Settings.WaitingRoom, Locked: c.Settings.Locked,
	}
}

// Define changes the channel if it is live; a later one finds the definition in the grant of its first peer.
func (d channelDirectory) Define(ctx context.Context, project, name string, def auth.Definition) error {
	change := channel.Change{Locked: &def.Locked, WaitingRoom: &def.WaitingRoom}
	if def.Capacity > 0 {
		change.Capacity = &def.Capacity
	}
	err := d.service.Configure(ctx, channel.Key{Project: project, Channel: name}, change)
	if errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
		return nil
	}
	return err
}

func (d channelDirectory) Configure(ctx context.Context, project, name string, c api.ChannelChange) error {
	change := channel.Change{Locked: c.Locked, WaitingRoom: c.WaitingRoom}
	if c.Capacity != nil && *c.Capacity > 0 {
		change.Capacity = c.Capacity
	}
	return d.service.Configure(ctx, channel.Key{Project: project, Channel: name}, change)
}

func (d channelDirectory) Close(ctx context.Context, project, name string) error {
	return d.service.Close(ctx, channel.Key{Project: project, Channel: name}, refusal.ChannelClosed)
}

func (d channelDirectory) CloseAll(ctx context.Context, project string, why refusal.Code) error {
	var all error
	for _, c := range d.service.List(project) {
		if err := d.service.Close(ctx, c.Key, why); err != nil && !errors.Is(err, refusal.New(refusal.ChannelNotFound)) {
			all = errors.Join(all, err)
		}
	}
	return all
}

func (d channelDirectory) Peers(ctx context.Context, project, name string) ([]api.Peer, error) {
	snapshot, err := d.service.Inspect(ctx, channel.Key{Project: project, Channel: name})
	if err != nil {
		return nil, err
	}
	peers := make([]api.Peer, 0, len(snapshot.Members)+len(snapshot.Waiting))
	for _, p := range snapshot.Members {
		peers = append(peers, apiPeer(p, false))
	}
	for _, p := range snapshot.Waiting {
		peers = append(peers, apiPeer(p, true))
	}
	return peers, nil
}

func apiPeer(p channel.PeerState, waiting bool) api.Peer {
	return api.Peer{
		ID: p.Peer.ID, UID: p.Peer.UID, Name: p.Peer.Name, Role: string(p.Peer.Role), Authenticated: p.Peer.Authenticated,
		Waiting: waiting, Connected: p.Linked, Info: p.Peer.Info,
		Media: api.PeerMedia{Audio: string(p.Peer.Media.Audio), Video: string(p.Peer.Media.Video), Screen: string(p.Peer.Media.Screen)},
	}
}

func (d channelDirectory) Kick(ctx context.Context, project, name, peer, reason string, ban time.Duration) error {
	return d.service.Kick(ctx, channel.Key{Project: project, Channel: name}, channel.Kick{Peer: peer, Reason: reason, Ban: &ban})
}

func (d channelDirectory) Command(ctx context.Context, project, name string, to []string, command string, data json.RawMessage) error {
	return d.service.Command(ctx, channel.Key{Project: project, Channel: name}, channel.SendCommand{To: to, Name: command, Data: data})
}
