package transfer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Version of docs/transfer.md.
const Version = 1

// Bounds of docs/transfer.md §12.
const (
	maxJSON      = 64 << 10
	maxRanges    = 1024
	maxOwed      = 1024 // blocks wanted and not sent, per lane
	maxLanes     = 16
	maxEntries   = 1_000_000
	maxFileSize  = 1 << 44
	maxFileSizes = 1 << 46 // of all files together
	maxPaths     = 64 << 20
	maxAnswers   = 64   // that wait for a receiver who does not read
	maxHashes    = 2000 // in one message
	maxMessage   = 256 << 10
	partHeader   = 52
	hashesHeader = 12
)

// An Entry is one file or empty folder of a manifest (§7).
type Entry struct {
	Path    string `json:"path"`
	Size    *int64 `json:"size"` // nil: not known yet
	MtimeMs int64  `json:"mtimeMs,omitempty"`
	Mode    uint32 `json:"mode,omitempty"`
	Dir     bool   `json:"dir,omitempty"`
}

// A load is what entries add up to.
type load struct {
	entries int
	sizes   int64 // those that are known
	paths   int   // their length
}

// add counts an entry, and reports whether a transfer may have it too (§12). No sum can overflow: what is refused is the end of a transfer.
func (l *load) add(e Entry) bool {
	l.entries, l.sizes, l.paths = l.entries+1, l.sizes+max(0, e.size()), l.paths+len(e.Path)
	return l.entries <= maxEntries && e.size() <= maxFileSize && l.sizes <= maxFileSizes && l.paths <= maxPaths
}

// tooLarge is what a sender says of what no receiver takes.
func tooLarge() *refusal.Refusal {
	return refusal.New(refusal.TooLarge).Advise("Send it in parts, with a link each; many small files fit as one archive: tar c FOLDER | madang send -")
}

// MarshalJSON leaves the size of folders away.
func (e Entry) MarshalJSON() ([]byte, error) {
	if e.Dir {
		return json.Marshal(struct {
			Path string `json:"path"`
			Dir  bool   `json:"dir"`
		}{e.Path, true})
	}
	type plain Entry
	return json.Marshal(plain(e))
}

// size is -1 if it is not known.
func (e Entry) size() int64 {
	if e.Size == nil {
		return -1
	}
	return *e.Size
}

// A Range is blocks of a file: [file, first, count].
type Range struct{ File, First, Count uint32 }

func (r Range) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d,%d]", r.File, r.First, r.Count), nil
}

func (r *Range) UnmarshalJSON(b []byte) error {
	var n []uint32
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	if len(n) != 3 || n[2] == 0 || uint64(n[1])+uint64(n[2]) > 1<<32 {
		return fmt.Errorf("%s is not a range of blocks", b)
	}
	*r = Range{n[0], n[1], n[2]}
	return nil
}

// Types of messages (§6).
const (
	typeHello       = "hello"
	typeGetManifest = "get-manifest"
	typeManifest    = "manifest"
	typeAccept      = "accept"
	typeAccepted    = "accepted"
	typeWant        = "want"
	typeUnwant      = "unwant"
	typeUnwanted    = "unwanted"
	typeWait        = "wait"
	typeElsewhere   = "elsewhere"
	typeSize        = "size"
	typeGetRoot     = "get-root"
	typeRoot        = "root"
	typeGetHashes   = "get-hashes"
	typeFailed      = "failed"
	typeHave        = "have"
	typeProgress    = "progress"
	typePause       = "pause"
	typeComplete    = "complete"
	typeBye         = "bye"
)

// Roles.
const (
	roleSender   = "sender"
	roleReceiver = "receiver"
)

// A message is any JSON message; which members count depends on the type.
type message struct {
	Type    string  `json:"type"`
	Version int     `json:"version,omitempty"`
	Role    string  `json:"role,omitempty"`
	End     string  `json:"end,omitempty"`
	Name    string  `json:"name,omitempty"`
	From    *uint32 `json:"from,omitempty"`
	Entries []Entry `json:"entries,omitempty"`
	Last    bool    `json:"last,omitempty"`
	Bytes   *int64  `json:"bytes,omitempty"`
	Blocks  []Range `json:"blocks,omitempty"`
	Clear   bool    `json:"clear,omitempty"`
	Fresh   bool    `json:"fresh,omitempty"`
	Gives   *bool   `json:"gives,omitempty"`
	Alone   bool    `json:"alone,omitempty"`
	File    *uint32 `json:"file,omitempty"`
	First   *uint32 `json:"first,omitempty"`
	Count   uint32  `json:"count,omitempty"`
	Size    *int64  `json:"size,omitempty"`
	Root    string  `json:"root,omitempty"`
	Done    bool    `json:"done,omitempty"`
	On      bool    `json:"on,omitempty"`
	Code    string  `json:"code,omitempty"`
	Text    string  `json:"message,omitempty"`
}

func (m *message) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return b
}

func (m *message) root() (h Hash, err error) {
	b, err := b64.DecodeString(m.Root)
	if err != nil || len(b) != len(h) {
		return h, malformed("root")
	}
	copy(h[:], b)
	return h, nil
}

var endForm = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)

func malformed(what string) error {
	return refusal.Newf(refusal.Malformed, "The other side's message is not valid: %s.", what)
}

// theirs is an end of the other side's, which may have a code that this version does not know.
func theirs(code refusal.Code) *refusal.Refusal {
	if _, known := refusal.Look(code); !known {
		return refusal.Newf(refusal.Malformed, "The other side says %q.", code)
	}
	return refusal.New(code)
}

// parseMessage decodes and checks what needs no knowledge of the transfer. A message of an unknown type is returned as it is.
func parseMessage(data []byte) (*message, error) {
	if len(data) > maxJSON {
		return nil, malformed("too long")
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil || !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return nil, malformed("not JSON of the expected form")
	}
	need := func(ok bool, what string) error {
		if !ok {
			return malformed(m.Type + ": " + what)
		}
		return nil
	}
	var err error
	switch m.Type {
	case "":
		err = malformed("no type")
	case typeHello:
		err = need((m.Role == roleSender || m.Role == roleReceiver) && endForm.MatchString(m.End) && len(m.Name) <= 4*64, "role, end or name")
	case typeGetManifest:
		err = need(m.From != nil, "from")
	case typeManifest:
		if err = need(m.From != nil && (m.Bytes == nil || *m.Bytes >= 0), "from or bytes"); err != nil {
			break
		}
		for i := range m.Entries {
			e := &m.Entries[i]
			if err = need(e.Mode <= 0o777 && (e.Size == nil || *e.Size >= 0 && *e.Size <= maxFileSize), "size or mode of an entry"); err != nil {
				break
			}
			if err = checkPath(e.Path); err != nil {
				break
			}
			if e.Dir {
				e.Size = new(int64)
			}
		}
	case typeWant, typeHave, typeElsewhere:
		err = need(len(m.Blocks) <= maxRanges, "too many ranges")
	case typeSize:
		err = need(m.File != nil && m.Size != nil && *m.Size >= 0 && *m.Size <= maxFileSize, "file or size")
	case typeRoot:
		_, err = m.root()
	case typeGetHashes:
		err = need(m.File != nil && m.First != nil && m.Count > 0, "file, first or count")
	case typeFailed:
		err = need(m.File != nil && m.Code != "", "file or code")
	case typeProgress:
		err = need(m.Bytes != nil && *m.Bytes >= 0, "bytes")
	case typeBye:
		err = need(m.Code != "", "code")
	}
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Kinds of binary messages (§7).
const (
	kindPart   = 1
	kindHashes = 2
)

// A part is a piece of a block. Data belongs to whoever gave the message.
type part struct {
	File, Block uint32
	Length      int // of the block
	Offset      int
	Hash        Hash
	Data        []byte
}

// appendPart encodes the header; the data follow.
func (p *part) appendHeader(b []byte) []byte {
	b = append(b, kindPart, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, p.File)
	b = binary.BigEndian.AppendUint32(b, p.Block)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Length))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Offset))
	return append(b, p.Hash[:]...)
}

// hashList answers get-hashes.
type hashList struct {
	File, First uint32
	Hashes      []Hash
}

func (l *hashList) encode() []byte {
	b := append(make([]byte, 0, hashesHeader+len(l.Hashes)*len(Hash{})), kindHashes, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, l.File)
	b = binary.BigEndian.AppendUint32(b, l.First)
	for _, h := range l.Hashes {
		b = append(b, h[:]...)
	}
	return b
}

// parseBinary gives a part or a hashList; the other one is nil.
func parseBinary(data []byte) (*part, *hashList, error) {
	if len(data) < 4 || len(data) > maxMessage+partHeader || data[1] != 0 || data[2] != 0 || data[3] != 0 {
		return nil, nil, malformed("binary")
	}
	switch {
	case data[0] == kindPart && len(data) > partHeader:
		p := &part{File: binary.BigEndian.Uint32(data[4:]), Block: binary.BigEndian.Uint32(data[8:]), Data: data[partHeader:]}
		length, offset := binary.BigEndian.Uint32(data[12:]), binary.BigEndian.Uint32(data[16:])
		if length == 0 || length > BlockSize || offset >= length || uint32(len(p.Data)) > length-offset {
			return nil, nil, malformed("part of a block")
		}
		p.Length, p.Offset = int(length), int(offset)
		copy(p.Hash[:], data[20:])
		return p, nil, nil
	case data[0] == kindHashes && len(data) >= hashesHeader && (len(data)-hashesHeader)%len(Hash{}) == 0 && (len(data)-hashesHeader)/len(Hash{}) <= maxHashes:
		l := &hashList{File: binary.BigEndian.Uint32(data[4:]), First: binary.BigEndian.Uint32(data[8:])}
		for b := data[hashesHeader:]; len(b) > 0; b = b[len(Hash{}):] {
			l.Hashes = append(l.Hashes, Hash(b[:len(Hash{})]))
		}
		return nil, l, nil
	}
	return nil, nil, malformed("binary")
}
