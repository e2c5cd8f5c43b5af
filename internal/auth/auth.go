// Package auth decides who may join which channel, and who may use the REST API: access tokens, browser keys, server keys,
// origins and addresses. It does no I/O of its own: what it has to look up it asks of a Directory.
//
// An [Authorizer] answers for running clients. [Mint] makes the tokens it reads. The rules for origins and networks are
// pure functions: [ParseOrigin], [MatchOrigin], [ParseNetwork], [MatchNetwork].
package auth

import (
	"context"
	"net/netip"
	"regexp"
	"time"
)

// A Role is what a peer may do in a channel.
type Role string

const (
	RoleHost    Role = "host"    // may also kick, lock, admit, change roles and settings
	RoleSpeaker Role = "speaker" // may send media, data and commands
	RoleViewer  Role = "viewer"  // receives; may send commands
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r == RoleHost || r == RoleSpeaker || r == RoleViewer }

// Credentials are what a client shows when it joins a channel.
type Credentials struct {
	Token   string     // access token (JWT); or
	Key     string     // browser key alone; or
	Server  string     // server key, of a client that is a server. Edges take it on wires that browsers do not need
	Channel string     // the channel that is to be joined
	UID     string     // wish; what a token says prevails
	Name    string     // wish; what a token says prevails
	Role    Role       // wish; what a token says prevails
	Origin  string     // Origin header of the page; empty outside of browsers
	Address netip.Addr // where the client comes from
}

// A Grant is what a client may do in one channel.
type Grant struct {
	Project       string    // id of the project
	Channel       string    // name of the channel
	UID           string    // the application's name for the user; may be empty
	Name          string    // for display; may be empty
	Role          Role      // empty: the channel decides (its first peer becomes the host, later ones speakers)
	Authenticated bool      // a token vouches for UID
	ExpiresAt     time.Time // of the token; zero without one. It limits joining, not staying
	Limits        Limits
	Definition    *Definition // what the REST API has laid down for this channel; nil: nothing
}

// Limits are a project's bounds, as far as the channel service needs them. Zero means: the default of the one who applies it.
type Limits struct {
	PeersPerChannel int // capacity of a channel that says nothing else
}

// A Definition is what the REST API has laid down for a channel. The first peer finds the channel so; hosts may change it while
// it lives.
type Definition struct {
	Capacity    int  // 0: Limits.PeersPerChannel
	WaitingRoom bool // peers that are not hosts wait to be admitted
	Locked      bool // nobody new comes in
}

// A Directory is what an Authorizer looks up. Each method is asked once or twice in a join, never cached by the Authorizer, and
// returns a refusal with the code not_found for what it does not know. Every other error ends the join as it is.
type Directory interface {
	Project(ctx context.Context, id string) (Project, error)
	Key(ctx context.Context, id string) (Key, error)
	// Secret returns the value of the project's secret that is named kid.
	Secret(ctx context.Context, project, kid string) (string, error)
	// Definition returns nil, nil if nothing is laid down for the channel.
	Definition(ctx context.Context, project, channel string) (*Definition, error)
	// CountJoin counts one join, or refuses it: quota_exceeded, rate_limited. It is the last thing asked.
	CountJoin(ctx context.Context, project string) error
}

// A Project is what an Authorizer has to know of a project.
type Project struct {
	ID              string
	On              bool
	DevelopmentOnly bool // the sandbox
	RequireToken    bool // a browser key alone is not enough
	OpenChannels    bool // any channel name may be used; otherwise only defined ones, but for tokens with the grant "create"
	PlayRTC         bool // PlayRTC clients are accepted
	PlayRTCRoles    bool // of them, only hosts may remove others and close channels
	Limits          Limits
}

// A KeyKind says where a key may be used.
type KeyKind string

const (
	BrowserKey KeyKind = "browser" // public; joins, from listed origins
	ServerKey  KeyKind = "server"  // secret; REST API, from listed addresses
)

// A Key is what an Authorizer has to know of a key.
type Key struct {
	ID      string
	Project string
	Kind    KeyKind
	Hash    string   // of a server key: HashSecret of its secret part
	Allow   []string // origins as of ParseOrigin, or networks as of ParseNetwork
}

var channelName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

// ValidChannelName reports whether a channel may have this name.
func ValidChannelName(name string) bool { return channelName.MatchString(name) }
