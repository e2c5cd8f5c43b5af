package signalserver

import (
	"fmt"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

// operation turns a client's message into an operation. The second result is false for messages that are none.
func operation(m signal.ClientMessage) (channel.Operation, bool) {
	switch m := m.(type) {
	case *signal.Signal:
		return channel.SendSignal{To: m.To, Data: m.Data}, true
	case *signal.Command:
		return channel.SendCommand{To: m.To, Name: m.Name, Data: m.Data}, true
	case *signal.Update:
		op := channel.Update{Name: m.Name, Info: m.Info}
		if m.Media != nil {
			media := fromMedia(m.Media)
			op.Media = &media
		}
		return op, true
	case *signal.Accept:
		return channel.Accept{Peer: m.Peer}, true
	case *signal.Reject:
		return channel.Reject{Peer: m.Peer, Busy: m.Reason == "busy"}, true
	case *signal.Kick:
		op := channel.Kick{Peer: m.Peer, Reason: m.Reason}
		if m.BanMs != nil {
			ban := time.Duration(*m.BanMs) * time.Millisecond
			op.Ban = &ban
		}
		return op, true
	case *signal.SetRole:
		return channel.SetRole{Peer: m.Peer, Role: auth.Role(m.Role)}, true
	case *signal.Configure:
		return channel.Configure{Change: channel.Change{Locked: m.Locked, WaitingRoom: m.WaitingRoom, Capacity: m.Capacity}}, true
	}
	return nil, false
}

// message turns an event into the server's message.
func (l *link) message(e channel.Event) (signal.ServerMessage, error) {
	switch e := e.(type) {
	case *channel.Signal:
		return &signal.FromSignal{From: e.From, Data: e.Data}, nil
	case *channel.Command:
		return &signal.FromCommand{From: e.From, To: e.To, Name: e.Name, Data: e.Data}, nil
	case *channel.Pong:
		return &signal.Pong{T: e.T, Ack: e.Received}, nil
	case *channel.Acked:
		return &signal.Ack{Seq: e.Received}, nil
	case *channel.Done:
		return &signal.OK{Re: e.Re}, nil
	case *channel.Failed:
		return &signal.Error{Re: e.Re, Reason: reason(e.Refusal)}, nil
	case *channel.Joined:
		return &signal.Joined{Peer: e.Peer.ID, UID: e.Peer.UID, Role: string(e.Peer.Role), Channel: settings(e.Settings), Peers: peers(e.Peers),
			ICE: l.ice(e.Project, e.Peer.ID), Resume: resumeInfo(e.Secret, e.ResumeWindow), PingMs: l.server.cfg.PingInterval.Milliseconds()}, nil
	case *channel.Pending:
		return &signal.Pending{Reason: string(e.Reason), Peer: e.Peer.ID, UID: e.Peer.UID,
			Resume: resumeInfo(e.Secret, e.ResumeWindow), PingMs: l.server.cfg.PingInterval.Milliseconds()}, nil
	case *channel.Resumed:
		return &signal.Resumed{Secret: e.Secret, Received: e.Received}, nil
	case *channel.Admitted:
		return &signal.Admitted{Role: string(e.Peer.Role), Channel: settings(e.Settings), Peers: peers(e.Peers), ICE: l.ice(e.Project, e.Peer.ID)}, nil
	case *channel.PeerJoined:
		return &signal.PeerJoined{Peer: peer(e.Peer)}, nil
	case *channel.PeerLeft:
		return &signal.PeerLeft{Peer: e.ID, Reason: e.Reason}, nil
	case *channel.PeerUpdated:
		change := signal.PeerChange{ID: e.ID, Name: e.Name, Info: e.Info}
		if e.Role != nil {
			role := string(*e.Role)
			change.Role = &role
		}
		if e.Media != nil {
			m := toMedia(*e.Media)
			change.Media = &m
		}
		return &signal.PeerUpdated{Peer: change}, nil
	case *channel.Ring:
		return &signal.Ring{Peer: peer(e.Peer), Reason: string(e.Reason)}, nil
	case *channel.RingEnded:
		return &signal.RingEnded{Peer: e.ID, Reason: e.Reason}, nil
	case *channel.SettingsChanged:
		return &signal.ChannelSettings{Channel: settings(e.Settings)}, nil
	case *channel.Note:
		if ice, ok := e.Value.(signal.ICE); ok {
			return &signal.ICEServers{ICE: ice}, nil
		}
	}
	return nil, fmt.Errorf("no message for the event %T", e)
}

func settings(s channel.Settings) signal.Settings {
	return signal.Settings{ID: s.Channel, Locked: s.Locked, WaitingRoom: s.WaitingRoom, Capacity: s.Capacity}
}

func peers(views []channel.PeerView) []signal.Peer {
	list := make([]signal.Peer, 0, len(views)) // an empty list, not null
	for _, v := range views {
		list = append(list, peer(v))
	}
	return list
}

func peer(v channel.PeerView) signal.Peer {
	return signal.Peer{ID: v.ID, UID: v.UID, Name: v.Name, Role: string(v.Role), Info: v.Info, Media: toMedia(v.Media), Polite: v.Polite, Offer: v.Offer}
}

func toMedia(m channel.Media) signal.Media {
	return signal.Media{Audio: string(m.Audio), Video: string(m.Video), Screen: string(m.Screen)}
}

func fromMedia(m *signal.Media) channel.Media {
	if m == nil {
		return channel.Media{}
	}
	return channel.Media{Audio: channel.MediaState(m.Audio), Video: channel.MediaState(m.Video), Screen: channel.MediaState(m.Screen)}
}

func resumeInfo(secret string, window time.Duration) signal.ResumeInfo {
	return signal.ResumeInfo{Secret: secret, WindowMs: window.Milliseconds()}
}

func reason(r *refusal.Refusal) signal.Reason {
	return signal.Reason{Code: string(r.Code), Message: r.Message, Retry: string(r.Retry()), RetryAfterMs: r.RetryAfter.Milliseconds(), Detail: r.Detail}
}

// iceNote wraps ICE servers for the mailbox.
func iceNote(ice signal.ICE) *channel.Note {
	size := 0
	for _, s := range ice.Servers {
		size += len(s.Username) + len(s.Credential)
		for _, u := range s.URLs {
			size += len(u)
		}
	}
	return &channel.Note{Value: ice, Size: size}
}
