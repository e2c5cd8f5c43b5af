// Code generated from codes.json by gen; DO NOT EDIT.

package refusal

const (
	Malformed           Code = "malformed"            // The message is not valid JSON of the expected form.
	UnknownType         Code = "unknown_type"         // The server does not know this type of message.
	InvalidField        Code = "invalid_field"        // A field has a value that is not allowed.
	MessageTooBig       Code = "message_too_big"      // The message is larger than 64 KiB.
	OutOfOrder          Code = "out_of_order"         // A numbered message is missing.
	JoinFirst           Code = "join_first"           // The first message must be join or resume.
	AlreadyJoined       Code = "already_joined"       // This link has joined a channel already.
	HandshakeTimeout    Code = "handshake_timeout"    // No join or resume came in time.
	VersionUnsupported  Code = "version_unsupported"  // The server does not speak this version of the protocol.
	CredentialsMissing  Code = "credentials_missing"  // A token or a key is needed.
	TokenMalformed      Code = "token_malformed"      // The access token cannot be read.
	TokenSignature      Code = "token_signature"      // The access token's signature is wrong.
	TokenExpired        Code = "token_expired"        // The access token has expired. Get a new one, and check the clock of the machine that made it.
	TokenNotYetValid    Code = "token_not_yet_valid"  // The access token is not valid yet. Check the clock of the machine that made it.
	TokenForeign        Code = "token_foreign"        // The access token belongs to a project or secret that this server does not know.
	TokenChannel        Code = "token_channel"        // The access token is for another channel.
	KeyUnknown          Code = "key_unknown"          // The key is not known.
	KeyWrongKind        Code = "key_wrong_kind"       // A server key must not be used in a browser, nor a browser key on the REST API.
	KeyDevelopmentOnly  Code = "key_development_only" // The sandbox key works in development mode only. Make a project and a key of its own.
	KeyNeedsToken       Code = "key_needs_token"      // This project admits peers with an access token only.
	OriginForbidden     Code = "origin_forbidden"     // The page's origin is not on the key's list.
	AddressForbidden    Code = "address_forbidden"    // The address is not on the key's list.
	ProjectOff          Code = "project_off"          // The project is switched off.
	Forbidden           Code = "forbidden"            // The role or the token does not allow this.
	NotFound            Code = "not_found"            // There is no such thing here.
	Conflict            Code = "conflict"             // It exists already, or has changed meanwhile.
	MethodNotAllowed    Code = "method_not_allowed"   // This address does not take this method.
	IdempotencyConflict Code = "idempotency_conflict" // The idempotency key was used for another request.
	ChannelNotFound     Code = "channel_not_found"    // There is no such channel.
	ChannelFull         Code = "channel_full"         // The channel is full.
	ChannelLocked       Code = "channel_locked"       // The channel is locked.
	ChannelClosed       Code = "channel_closed"       // The channel was closed.
	PeerNotFound        Code = "peer_not_found"       // There is no such peer in the channel.
	NotAdmitted         Code = "not_admitted"         // The members have not answered yet.
	Kicked              Code = "kicked"               // A host has removed this peer from the channel.
	Rejected            Code = "rejected"             // The members have declined.
	Busy                Code = "busy"                 // The members are busy.
	RingTimeout         Code = "ring_timeout"         // Nobody answered.
	Left                Code = "left"                 // The peer has left.
	RateLimited         Code = "rate_limited"         // Too many requests.
	QuotaExceeded       Code = "quota_exceeded"       // The project's quota is used up.
	MailboxFull         Code = "mailbox_full"         // Too many messages were not acknowledged.
	SlowClient          Code = "slow_client"          // The client reads too slowly.
	Replaced            Code = "replaced"             // A newer link of the same session has taken over.
	ResumeUnknown       Code = "resume_unknown"       // The session is not known (any more).
	LinkUnknown         Code = "link_unknown"         // The link is not known (any more).
	ServerDraining      Code = "server_draining"      // The server is about to stop.
	NotRunning          Code = "not_running"          // No server is running on this data directory.
	Storage             Code = "storage"              // The server cannot write its data. Look at its disk.
	Internal            Code = "internal"             // Something went wrong in the server. Its log says more.
)
