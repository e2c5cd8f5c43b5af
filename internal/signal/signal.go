// Package signal holds the messages of the native signaling protocol (docs/protocol.md) as Go types: their decoding, with every
// check that needs no knowledge of the channel, and their encoding. The server, the Go client and the tests share it.
//
// It knows no sockets and no channels. Numbers (seq) and the wish for an answer (reply) travel beside a message, since a mailbox
// gives them, not the message's author.
//
// Decoding what clients send is strict where leniency would let two readers understand the same bytes differently (duplicate
// members, invalid UTF-8, deep nesting) and lenient where the protocol wants it (unknown members). All errors of ParseClient are
// *refusal.Refusal.
package signal

import "encoding/json"

// Version is the version of the protocol that this package speaks.
const Version = 1

// Subprotocol is the WebSocket subprotocol of Version.
const Subprotocol = "madang.v1"

// Bounds of docs/protocol.md §4, §5 and §7, in bytes where nothing else is said.
const (
	MaxMessage     = 64 << 10
	MaxInfo        = 4 << 10
	MaxIdentifier  = 128
	MaxName        = 256
	MaxToken       = 8 << 10
	MaxReason      = 256
	MaxCommandName = 64                  // characters
	MaxBanMs       = 24 * 60 * 60 * 1000 // milliseconds
	MaxCapacity    = 1000                // peers
)

// A ClientMessage is what a client says: one of Join, Resume, Ping, Ack, Leave, Signal, Command, Update, Accept, Reject, Kick,
// SetRole, Configure and ICERequest.
type ClientMessage interface {
	// ClientType returns the `type` member, and whether the message carries a seq.
	ClientType() (name string, numbered bool)
}

// Join asks for membership of a channel (§4).
type Join struct {
	Version  int             `json:"version"`
	Channel  string          `json:"channel"`
	Token    string          `json:"token,omitempty"`
	Key      string          `json:"key,omitempty"`
	Instance string          `json:"instance,omitempty"`
	UID      string          `json:"uid,omitempty"`
	Name     string          `json:"name,omitempty"`
	Role     string          `json:"role,omitempty"`
	Info     json.RawMessage `json:"info,omitempty"`
	Media    *Media          `json:"media,omitempty"`
	Ring     bool            `json:"ring,omitempty"`
}

// Resume goes on with a signaling session on a new link (§2).
type Resume struct {
	Peer     string `json:"peer"`
	Secret   string `json:"secret"`
	Received uint64 `json:"received"`
}

// Ping measures the link and acknowledges (§3). T is a JSON number of the client's own, and comes back unchanged.
type Ping struct {
	T   json.RawMessage `json:"t,omitempty"`
	Ack uint64          `json:"ack"`
}

// Ack acknowledges the other side's messages up to Seq, in both directions.
type Ack struct {
	Seq uint64 `json:"seq"`
}

// Leave ends the signaling session.
type Leave struct{}

// Signal is for one peer. Data is any JSON value.
type Signal struct {
	To   string          `json:"to"`
	Data json.RawMessage `json:"data"`
}

// Command is an application's message. A nil To means all others, an empty one the server itself.
type Command struct {
	To   []string        `json:"to,omitzero"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Update changes what the others see of the sender; nil members stay as they are.
type Update struct {
	Name  *string         `json:"name,omitempty"`
	Info  json.RawMessage `json:"info,omitempty"`
	Media *Media          `json:"media,omitempty"` // members that are empty stay as they are
}

// Accept admits a peer that rings or waits.
type Accept struct {
	Peer string `json:"peer"`
}

// Reject turns away a peer that rings or waits. Reason is "rejected" or "busy".
type Reject struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason,omitempty"`
}

// Kick removes a peer. A nil BanMs means the default.
type Kick struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason,omitempty"`
	BanMs  *int64 `json:"banMs,omitempty"`
}

// SetRole changes a peer's role.
type SetRole struct {
	Peer string `json:"peer"`
	Role string `json:"role"`
}

// Configure changes the channel's settings; nil members stay as they are.
type Configure struct {
	Locked      *bool `json:"locked,omitempty"`
	WaitingRoom *bool `json:"waitingRoom,omitempty"`
	Capacity    *int  `json:"capacity,omitempty"`
}

// ICERequest asks for fresh ICE servers.
type ICERequest struct{}

func (*Join) ClientType() (string, bool)       { return "join", false }
func (*Resume) ClientType() (string, bool)     { return "resume", false }
func (*Ping) ClientType() (string, bool)       { return "ping", false }
func (*Ack) ClientType() (string, bool)        { return "ack", false }
func (*Leave) ClientType() (string, bool)      { return "leave", false }
func (*Signal) ClientType() (string, bool)     { return "signal", true }
func (*Command) ClientType() (string, bool)    { return "command", true }
func (*Update) ClientType() (string, bool)     { return "update", true }
func (*Accept) ClientType() (string, bool)     { return "accept", true }
func (*Reject) ClientType() (string, bool)     { return "reject", true }
func (*Kick) ClientType() (string, bool)       { return "kick", true }
func (*SetRole) ClientType() (string, bool)    { return "set-role", true }
func (*Configure) ClientType() (string, bool)  { return "configure", true }
func (*ICERequest) ClientType() (string, bool) { return "ice", true }

// Media says what a peer sends: each member is "on", "muted" or "off".
type Media struct {
	Audio  string `json:"audio,omitempty"`
	Video  string `json:"video,omitempty"`
	Screen string `json:"screen,omitempty"`
}

// A Peer is a member as another member sees it.
type Peer struct {
	ID     string          `json:"id"`
	UID    string          `json:"uid"`
	Name   string          `json:"name"`
	Role   string          `json:"role"`
	Info   json.RawMessage `json:"info"` // nil is null
	Media  Media           `json:"media"`
	Polite bool            `json:"polite"` // the reader is the polite side towards this peer
	Offer  bool            `json:"offer"`  // the reader makes the first offer
}

// Settings are a channel's.
type Settings struct {
	ID          string `json:"id"`
	Locked      bool   `json:"locked"`
	WaitingRoom bool   `json:"waitingRoom"`
	Capacity    int    `json:"capacity"`
}

// ICE is a list of STUN and TURN servers with credentials for one peer.
type ICE struct {
	Servers     []ICEServer `json:"servers"`
	ExpiresAtMs int64       `json:"expiresAtMs,omitempty"` // Unix time in milliseconds; 0: never
}

// An ICEServer is a W3C RTCIceServer.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// ResumeInfo is what a client needs to resume.
type ResumeInfo struct {
	Secret   string `json:"secret"`
	WindowMs int64  `json:"windowMs"`
}

// A ServerMessage is what the server says: one of Link, Joined, Pending, Resumed, Pong, Ack, Bye, Admitted, PeerJoined, PeerLeft,
// PeerUpdated, FromSignal, FromCommand, Ring, RingEnded, ChannelSettings, ICEServers, OK and Error.
type ServerMessage interface {
	// ServerType returns the `type` member, and whether the message carries a seq.
	ServerType() (name string, numbered bool)
}

// Link names an SSE link (§1).
type Link struct {
	Link string `json:"link"`
}

// Joined answers a Join (§4).
type Joined struct {
	Peer    string     `json:"peer"`
	UID     string     `json:"uid"`
	Role    string     `json:"role"`
	Channel Settings   `json:"channel"`
	Peers   []Peer     `json:"peers"`
	ICE     ICE        `json:"ice"`
	Resume  ResumeInfo `json:"resume"`
	PingMs  int64      `json:"pingMs"`
}

// Pending answers a Join when the members are asked first. Reason is "ring" or "waiting_room".
type Pending struct {
	Reason string     `json:"reason"`
	Peer   string     `json:"peer"`
	UID    string     `json:"uid"`
	Resume ResumeInfo `json:"resume"`
	PingMs int64      `json:"pingMs"`
}

// Resumed answers a Resume.
type Resumed struct {
	Secret   string `json:"secret"`
	Received uint64 `json:"received"`
}

// Pong answers a Ping.
type Pong struct {
	T   json.RawMessage `json:"t,omitempty"`
	Ack uint64          `json:"ack"`
}

// Bye is the last message on a link.
type Bye struct {
	Reason
}

// A Reason is a refusal on the wire (§8).
type Reason struct {
	Code         string         `json:"code"`
	Message      string         `json:"message"`
	Retry        string         `json:"retry"`
	RetryAfterMs int64          `json:"retryAfterMs,omitempty"`
	Detail       map[string]any `json:"detail,omitempty"`
}

// Admitted ends the waiting that Pending began.
type Admitted struct {
	Role    string   `json:"role"`
	Channel Settings `json:"channel"`
	Peers   []Peer   `json:"peers"`
	ICE     ICE      `json:"ice"`
}

// PeerJoined tells of a new member.
type PeerJoined struct {
	Peer Peer `json:"peer"`
}

// PeerLeft tells that a member is gone.
type PeerLeft struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason"`
}

// PeerUpdated tells what changed about a member; nil members did not change.
type PeerUpdated struct {
	Peer PeerChange `json:"peer"`
}

// A PeerChange holds what changed. Info is the JSON value null when it was removed.
type PeerChange struct {
	ID    string          `json:"id"`
	Name  *string         `json:"name,omitempty"`
	Role  *string         `json:"role,omitempty"`
	Info  json.RawMessage `json:"info,omitempty"`
	Media *Media          `json:"media,omitempty"`
}

// FromSignal is a Signal as its receiver sees it.
type FromSignal struct {
	From string          `json:"from"`
	Data json.RawMessage `json:"data"`
}

// FromCommand is a Command as its receivers see it. An empty From means the application's server.
type FromCommand struct {
	From string          `json:"from,omitempty"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data"`
	To   []string        `json:"to,omitempty"`
}

// Ring asks whether a peer may come in. Reason is "ring" or "waiting_room".
type Ring struct {
	Peer   Peer   `json:"peer"`
	Reason string `json:"reason"`
}

// RingEnded ends a Ring: "accepted", "rejected", "busy", "cancelled", "timeout" or "lost".
type RingEnded struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason"`
}

// ChannelSettings tells of changed settings.
type ChannelSettings struct {
	Channel Settings `json:"channel"`
}

// ICEServers brings fresh ICE servers.
type ICEServers struct {
	ICE ICE `json:"ice"`
}

// OK says that the client's message Re succeeded.
type OK struct {
	Re uint64 `json:"re"`
}

// Error says that the client's message Re failed. Re is 0 when that message had no number.
type Error struct {
	Re uint64 `json:"re,omitempty"`
	Reason
}

func (*Link) ServerType() (string, bool)            { return "link", false }
func (*Joined) ServerType() (string, bool)          { return "joined", false }
func (*Pending) ServerType() (string, bool)         { return "pending", false }
func (*Resumed) ServerType() (string, bool)         { return "resumed", false }
func (*Pong) ServerType() (string, bool)            { return "pong", false }
func (*Ack) ServerType() (string, bool)             { return "ack", false }
func (*Bye) ServerType() (string, bool)             { return "bye", false }
func (*Admitted) ServerType() (string, bool)        { return "admitted", true }
func (*PeerJoined) ServerType() (string, bool)      { return "peer-joined", true }
func (*PeerLeft) ServerType() (string, bool)        { return "peer-left", true }
func (*PeerUpdated) ServerType() (string, bool)     { return "peer-updated", true }
func (*FromSignal) ServerType() (string, bool)      { return "signal", true }
func (*FromCommand) ServerType() (string, bool)     { return "command", true }
func (*Ring) ServerType() (string, bool)            { return "ring", true }
func (*RingEnded) ServerType() (string, bool)       { return "ring-ended", true }
func (*ChannelSettings) ServerType() (string, bool) { return "channel", true }
func (*ICEServers) ServerType() (string, bool)      { return "ice", true }
func (*OK) ServerType() (string, bool)              { return "ok", true }
func (*Error) ServerType() (string, bool)           { return "error", true }
