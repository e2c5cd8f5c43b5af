// Package auth decides who may join which channel, and who may use the REST API: access tokens, browser keys, server keys,
// origins and addresses. It does no I/O of its own: what it has to look up it asks of a Directory.
package auth

import (
	"net/netip"
	"time"
)

// A Role is what a peer may do in a channel.
type Role string

const (
	RoleHost    Role = "host"    // may also kick, lock, admit, change roles and settings
	RoleSpeaker Role = "speaker" // may send media, data and commands
	RoleViewer  Role = "viewer"  // receives; may send commands
)

// Credentials are what a client shows when it joins a channel.
type Credentials struct {
	Token   string     // access token (JWT); or
	Key     string     // browser key alone
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
}

// Limits are a project's bounds, as far as the channel service needs them. Zero means: the default of the one who applies it.
type Limits struct {
	PeersPerChannel int // capacity of a channel that says nothing else
}
