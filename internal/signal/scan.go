package signal

import (
	"encoding/json"
	"errors"
	"sync"
	"unicode/utf8"
)

// Bounds that a well-meant message never meets. They keep the work per byte constant.
const (
	maxMembers = 32 // of a message itself; values inside are bounded by its size
	maxDepth   = 32 // of nested arrays and objects in a message
	// batchDepth lets a message of a POST nest as deeply as one alone: it stands in a list in an object.
	batchDepth = maxDepth + 2
)

var (
	errSyntax    = errors.New("not valid JSON (RFC 8259)")
	errNotObject = errors.New("not a JSON object")
	errDepth     = errors.New("nested too deeply")
	errMembers   = errors.New("too many members")
	errDuplicate = errors.New("a member stands twice")
	errUTF8      = errors.New("not valid UTF-8")
)

// A member is one name of an object and its value's bytes, which are valid JSON. Both alias the message.
type member struct {
	name  []byte // decoded
	value []byte
}

// An object is a message split into its members, in the order in which they stand.
type object struct {
	members [maxMembers]member
	n       int
}

// objects are for messages while they are read: one has 1.6 KB, which would double the stack of each reading goroutine.
var objects = sync.Pool{New: func() any { return new(object) }}

// release gives o back, without what it aliases.
func (o *object) release() {
	clear(o.members[:o.n])
	o.n = 0
	objects.Put(o)
}

// get returns the value of a member, or nil if there is none. null counts as absent.
func (o *object) get(name string) []byte {
	for i := range o.members[:o.n] {
		if string(o.members[i].name) == name {
			if string(o.members[i].value) == "null" {
				return nil
			}
			return o.members[i].value
		}
	}
	return nil
}

// parse splits data, one JSON object and white space around it, and checks the syntax of everything inside it in one pass. A second pass of
// encoding/json over the same bytes would cost as much as the rest of a message's way through the server. depth bounds the nesting, the object
// itself included.
func (o *object) parse(data []byte, depth int) error {
	o.n = 0
	if !utf8.Valid(data) {
		return errUTF8
	}
	s := scanner{b: data, depth: depth}
	s.space()
	if s.peek() != '{' {
		if err := s.value(0); err != nil {
			return err
		}
		if s.space(); s.i != len(data) {
			return errSyntax
		}
		return errNotObject
	}
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
	} else {
		for {
			s.space()
			raw, err := s.text()
			if err != nil {
				return err
			}
			name, err := unquoteBytes(raw)
			if err != nil {
				return err
			}
			s.space()
			if s.next() != ':' {
				return errSyntax
			}
			s.space()
			start := s.i
			if err := s.value(1); err != nil {
				return err
			}
			for i := range o.members[:o.n] {
				if string(o.members[i].name) == string(name) {
					return errDuplicate
				}
			}
			if o.n == maxMembers {
				return errMembers
			}
			o.members[o.n] = member{name: name, value: data[start:s.i]}
			o.n++
			s.space()
			switch s.next() {
			case ',':
				continue
			case '}':
			default:
				return errSyntax
			}
			break
		}
	}
	s.space()
	if s.i != len(data) {
		return errSyntax
	}
	return nil
}

// ValidValue reports whether data can be the data or info of a message, whoever sends it: one JSON value in UTF-8 that nests no deeper than a client's may.
// A receiver would lose its link over anything else, and again with each resume.
func ValidValue(data []byte) bool {
	s := scanner{b: data, depth: maxDepth}
	return utf8.Valid(data) && s.value(1) == nil && s.i == len(data)
}

// A scanner checks JSON text (RFC 8259). Its methods leave i behind what they accepted.
type scanner struct {
	b     []byte
	i     int
	depth int // at which arrays and objects are refused
}

// peek returns the next byte, or 0 at the end. A 0 byte itself is never valid JSON outside of a string.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) next() byte {
	c := s.peek()
	if s.i < len(s.b) {
		s.i++
	}
	return c
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) value(depth int) error {
	switch c := s.peek(); c {
	case '{', '[':
		if depth >= s.depth {
			return errDepth
		}
		return s.composite(depth, c)
	case '"':
		_, err := s.text()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) composite(depth int, open byte) error {
	closing := byte(']')
	if open == '{' {
		closing = '}'
	}
	s.i++
	s.space()
	if s.peek() == closing {
		s.i++
		return nil
	}
	for {
		s.space()
		if open == '{' {
			if _, err := s.text(); err != nil {
				return err
			}
			s.space()
			if s.next() != ':' {
				return errSyntax
			}
			s.space()
		}
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		switch s.next() {
		case ',':
		case closing:
			return nil
		default:
			return errSyntax
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return errSyntax
	}
	s.i += len(w)
	return nil
}

// text accepts a string and returns it with its quotes (RFC 8259 §7).
func (s *scanner) text() ([]byte, error) {
	start := s.i
	if s.next() != '"' {
		return nil, errSyntax
	}
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return s.b[start:s.i], nil
		case c < 0x20:
			return nil, errSyntax
		case c == '\\':
			switch s.next() {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if h := s.next(); !('0' <= h && h <= '9' || 'a' <= h && h <= 'f' || 'A' <= h && h <= 'F') {
						return nil, errSyntax
					}
				}
			default:
				return nil, errSyntax
			}
		}
	}
	return nil, errSyntax
}

// number accepts a number (RFC 8259 §6).
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.next(); {
	case c == '0':
	case '1' <= c && c <= '9':
		s.digits()
	default:
		return errSyntax
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// unquoteBytes returns what a checked string with quotes says. The result aliases raw unless it has escapes.
func unquoteBytes(raw []byte) ([]byte, error) {
	for _, c := range raw {
		if c == '\\' {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return nil, errSyntax
			}
			return []byte(s), nil
		}
	}
	return raw[1 : len(raw)-1], nil
}
