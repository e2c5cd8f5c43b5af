package api

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Paging is how lists are asked for.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"How many at most."`
	Cursor string `query:"cursor" maxLength:"200" doc:"The next of the page before. Leave it out for the first page."`
}

// after returns the id after which the page begins.
func (p Paging) after() (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || !isPrintable(string(b)) || base64.RawURLEncoding.EncodeToString(b) != p.Cursor { // ids are ASCII, and each has one spelling
		return "", invalid("cursor", "is not one that this server gave")
	}
	return string(b), nil
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"The cursor of the page that follows. Absent on the last page."`
}

// cut makes a page of limit items of the limit+1 that were asked for.
func cut[T any](items []T, limit int, id func(T) string) Page[T] {
	if items == nil {
		items = []T{}
	}
	if len(items) <= limit {
		return Page[T]{Items: items}
	}
	items = items[:limit]
	return Page[T]{Items: items, Next: base64.RawURLEncoding.EncodeToString([]byte(id(items[limit-1])))}
}

// IfMatch makes a change depend on the version that the client has seen (RFC 9110 §13.1.1).
type IfMatch struct {
	IfMatch string `header:"If-Match" maxLength:"64" doc:"The ETag that was seen. If the thing has changed since, the answer is conflict."`
}

// version returns the version that is asked for; 0: any.
func (m IfMatch) version() (int64, error) {
	if m.IfMatch == "" || m.IfMatch == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(m.IfMatch, `"`), 10, 64)
	if err != nil || n < 1 || etag(n) != m.IfMatch {
		return 0, refusal.Newf(refusal.Conflict, "This was never the ETag of anything here.")
	}
	return n, nil
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }
