package signal

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/madang-rtc/madang/internal/refusal"
)

// maxSafeInteger is the largest integer that every JSON reader keeps exactly (RFC 8259 §6).
const maxSafeInteger = 1<<53 - 1

// An Envelope is a client's message with its number.
type Envelope struct {
	Message ClientMessage // nil if ParseClient failed
	Seq     uint64        // 0: not numbered
	Reply   bool          // the client wants an OK
}

// ParseClient reads one message of a client. The result keeps no reference to data.
//
// Every error is a *refusal.Refusal. With the codes invalid_field and unknown_type, the Envelope's Seq is what the message said
// (0: it is of a type without number), so that the error can name it and the message's number counts as used; all other errors mean
// that the number is not known and the link cannot go on.
func ParseClient(data []byte) (Envelope, error) {
	if len(data) > MaxMessage {
		return Envelope{}, refusal.New(refusal.MessageTooBig)
	}
	o := objects.Get().(*object)
	defer o.release()
	if err := o.parse(data, maxDepth); err != nil {
		return Envelope{}, refusal.Newf(refusal.Malformed, "The message is %s.", err)
	}
	d := decoder{o: o}
	typ := d.text("type", MaxIdentifier, required)
	if d.err != nil {
		return Envelope{}, refusal.Newf(refusal.Malformed, "The message has no type.").With("field", "type")
	}
	var e Envelope
	var m ClientMessage
	switch typ {
	case "join":
		m = d.join()
	case "resume":
		m = &Resume{Peer: d.text("peer", MaxIdentifier, required), Secret: d.text("secret", MaxIdentifier, required),
			Received: d.count("received")}
	case "ping":
		m = &Ping{T: d.numberText("t"), Ack: d.count("ack")}
	case "ack":
		m = &Ack{Seq: d.count("seq")}
	case "leave":
		m = &Leave{}
	default:
		// A numbered message, or a type that we do not know: if that one has a number, it is used up.
		e.Seq = d.count("seq")
		e.Reply = d.flag("reply")
		if d.err != nil {
			return Envelope{}, refusal.Newf(refusal.Malformed, "The message's seq or reply is not valid.").With("field", d.field)
		}
		m = d.numbered(typ)
		if m == nil {
			return e, refusal.New(refusal.UnknownType).With("type", typ)
		}
		if e.Seq == 0 {
			return Envelope{}, refusal.Newf(refusal.Malformed, "A message of the type %s carries seq, counted from 1.", typ).With("field", "seq")
		}
	}
	if d.err != nil {
		return e, d.err
	}
	e.Message = m
	return e, nil
}

func (d *decoder) join() ClientMessage {
	m := &Join{Version: int(d.count("version"))}
	if d.err == nil && m.Version != Version {
		d.err = refusal.New(refusal.VersionUnsupported).With("supported", []int{Version})
	}
	m.Channel = d.text("channel", MaxIdentifier, required)
	if d.err == nil && !ValidChannel(m.Channel) {
		d.fail("channel", "A channel's name has 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -")
	}
	m.Token = d.text("token", MaxToken, optional)
	m.Key = d.text("key", MaxIdentifier, optional)
	m.Instance = d.text("instance", MaxIdentifier, optional)
	if d.err == nil && m.Instance != "" && !validInstance(m.Instance) {
		d.fail("instance", "An instance has 22 or more of the characters A-Z a-z 0-9 _ -")
	}
	m.UID = d.text("uid", MaxIdentifier, optional)
	m.Name = d.name()
	m.Role = d.role(optional)
	m.Info = d.info()
	m.Media = d.media()
	m.Ring = d.flag("ring")
	return m
}

// numbered returns nil for a type that it does not know.
func (d *decoder) numbered(typ string) ClientMessage {
	switch typ {
	case "signal":
		m := &Signal{To: d.text("to", MaxIdentifier, required), Data: d.raw("data")}
		if m.Data == nil {
			m.Data = json.RawMessage("null")
		}
		return m
	case "command":
		m := &Command{To: d.list("to"), Name: d.text("name", MaxName, required), Data: d.raw("data")}
		if d.err == nil && utf8.RuneCountInString(m.Name) > MaxCommandName {
			d.fail("name", "A command's name has 1 to 64 characters.")
		}
		return m
	case "update":
		m := &Update{Media: d.media()}
		if d.o.get("name") != nil {
			name := d.name()
			m.Name = &name
		}
		if v, ok := d.o.lookup("info"); ok { // here null has a meaning: no info any more
			if m.Info = d.info(); m.Info == nil && string(v) == "null" {
				m.Info = json.RawMessage("null")
			}
		}
		return m
	case "accept":
		return &Accept{Peer: d.text("peer", MaxIdentifier, required)}
	case "reject":
		m := &Reject{Peer: d.text("peer", MaxIdentifier, required), Reason: d.text("reason", MaxReason, optional)}
		switch m.Reason {
		case "":
			m.Reason = "rejected"
		case "rejected", "busy":
		default:
			d.fail("reason", `The reason of a reject is "rejected" or "busy".`)
		}
		return m
	case "kick":
		m := &Kick{Peer: d.text("peer", MaxIdentifier, required), Reason: d.text("reason", MaxReason, optional)}
		if d.o.get("banMs") != nil {
			ban := int64(d.count("banMs"))
			if d.err == nil && ban > MaxBanMs {
				d.fail("banMs", "A ban lasts a day at most.")
			}
			m.BanMs = &ban
		}
		return m
	case "set-role":
		return &SetRole{Peer: d.text("peer", MaxIdentifier, required), Role: d.role(required)}
	case "configure":
		m := &Configure{Locked: d.flagPointer("locked"), WaitingRoom: d.flagPointer("waitingRoom")}
		if d.o.get("capacity") != nil {
			c := int(d.count("capacity"))
			if d.err == nil && (c < 1 || c > MaxCapacity) {
				d.fail("capacity", "A channel's capacity is 1 to 1000.")
			}
			m.Capacity = &c
		}
		return m
	case "ice":
		return &ICERequest{}
	}
	return nil
}

// ValidChannel reports whether name can name a channel: 1 to 64 of [A-Za-z0-9._~-] (the unreserved characters of RFC 3986 §2.3).
func ValidChannel(name string) bool {
	if len(name) < 1 || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '~' && c != '-' {
			return false
		}
	}
	return true
}

// validInstance: 22 characters of 6 bits hold the 128 bits that §4 asks for.
func validInstance(s string) bool {
	if len(s) < 22 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ValidRole reports whether role is host, speaker or viewer.
func ValidRole(role string) bool { return role == "host" || role == "speaker" || role == "viewer" }

// ValidName reports whether name can be shown: at most MaxName bytes of UTF-8 without control characters.
func ValidName(name string) bool {
	if len(name) > MaxName || !utf8.ValidString(name) {
		return false
	}
	for _, c := range name {
		if c < 0x20 || 0x7f <= c && c < 0xa0 {
			return false
		}
	}
	return true
}

const (
	required = true
	optional = false
)

// A decoder takes typed members out of an object. The first error stays; after it all methods return zero values.
type decoder struct {
	o     *object
	field string // that failed
	err   error
}

func (o *object) lookup(name string) ([]byte, bool) {
	for i := range o.members[:o.n] {
		if string(o.members[i].name) == name {
			return o.members[i].value, true
		}
	}
	return nil, false
}

func (d *decoder) fail(field, message string) {
	if d.err == nil {
		d.field = field
		d.err = refusal.Newf(refusal.InvalidField, "%s", message).With("field", field)
	}
}

func (d *decoder) text(field string, limit int, must bool) string {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		if must {
			d.fail(field, "The member "+field+" is missing.")
		}
		return ""
	}
	if v[0] != '"' {
		d.fail(field, "The member "+field+" is not a string.")
		return ""
	}
	b, err := unquoteBytes(v)
	if err != nil || len(b) > limit {
		d.fail(field, "The member "+field+" is too long.")
		return ""
	}
	if must && len(b) == 0 {
		d.fail(field, "The member "+field+" is empty.")
		return ""
	}
	return string(b)
}

func (d *decoder) name() string {
	name := d.text("name", MaxName, optional)
	if d.err == nil && !ValidName(name) {
		d.fail("name", "A name has no control characters.")
	}
	return name
}

func (d *decoder) role(must bool) string {
	role := d.text("role", MaxIdentifier, must)
	if d.err == nil && (must || role != "") && !ValidRole(role) {
		d.fail("role", "A role is host, speaker or viewer.")
	}
	return role
}

func (d *decoder) list(field string) []string {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		return nil
	}
	var list []string
	if err := json.Unmarshal(v, &list); err != nil || list == nil || len(list) > MaxCapacity {
		d.fail(field, "The member "+field+" is not a list of peer ids.")
		return nil
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > 0 && list[0] == "" || slices.ContainsFunc(list, func(s string) bool { return len(s) > MaxIdentifier }) {
		d.fail(field, "The member "+field+" holds something that is not a peer id.")
		return nil
	}
	return list
}

// count reads an integer from 0 to maxSafeInteger; an absent one is 0.
func (d *decoder) count(field string) uint64 {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		return 0
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' || n > maxSafeInteger/10 {
			d.fail(field, "The member "+field+" is not a counting number.")
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	if n > maxSafeInteger {
		d.fail(field, "The member "+field+" is too large.")
		return 0
	}
	return n
}

func (d *decoder) numberText(field string) json.RawMessage {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		return nil
	}
	if c := v[0]; c != '-' && (c < '0' || c > '9') || len(v) > 32 {
		d.fail(field, "The member "+field+" is not a number.")
		return nil
	}
	return bytes.Clone(v)
}

func (d *decoder) flag(field string) bool {
	p := d.flagPointer(field)
	return p != nil && *p
}

func (d *decoder) flagPointer(field string) *bool {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		return nil
	}
	b := v[0] == 't'
	if !b && v[0] != 'f' {
		d.fail(field, "The member "+field+" is neither true nor false.")
		return nil
	}
	return &b
}

func (d *decoder) raw(field string) json.RawMessage {
	v := d.o.get(field)
	if v == nil || d.err != nil {
		return nil
	}
	return bytes.Clone(v)
}

func (d *decoder) info() json.RawMessage {
	v := d.raw("info")
	if len(v) > MaxInfo {
		d.fail("info", "The member info is larger than 4 KiB.")
		return nil
	}
	return v
}

func (d *decoder) media() *Media {
	v := d.o.get("media")
	if v == nil || d.err != nil {
		return nil
	}
	// Not encoding/json's reading, which takes "Audio" for audio, and the last of two.
	inner := decoder{o: &object{}}
	err := inner.o.parse(v, maxDepth)
	m := &Media{Audio: inner.text("audio", MaxIdentifier, optional), Video: inner.text("video", MaxIdentifier, optional), Screen: inner.text("screen", MaxIdentifier, optional)}
	if err != nil || inner.err != nil || !validMedium(m.Audio) || !validMedium(m.Video) || !validMedium(m.Screen) {
		d.fail("media", `The member media is an object of audio, video and screen, each "on", "muted" or "off".`)
		return nil
	}
	return m
}

func validMedium(s string) bool { return s == "" || s == "on" || s == "muted" || s == "off" }
