package depot

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/madang-rtc/madang/internal/refusal"
)

// Bounds of docs/transfer.md §15.
const (
	MaxObject  = 256<<10 + 28 // a block, its nonce and its tag
	MinObject  = 28
	MaxBatch   = 64 // objects in one upload
	MaxFetch   = 256
	MaxNumber  = 1<<43 - 1 // kinds and numbers of docs/transfer.md §15 fit, and so does JSON
	maxRanges  = 1024
	maxObjects = 4 << 20 // of one depot

	frameHeader = 12
)

// MaxUpload is the size of the largest upload.
const MaxUpload = 4 * (MaxObject + frameHeader)

// An Object is sealed bytes under a number.
type Object struct {
	Number uint64
	Data   []byte
}

// A Range is numbers, as [first,count] in JSON.
type Range [2]uint64

func (r Range) First() uint64 { return r[0] }
func (r Range) End() uint64   { return r[0] + r[1] }

var errFrame = errors.New("not an object")

// AppendHeader writes what stands before an object in uploads and downloads: its number in 8 bytes and its length in 4, big-endian.
func AppendHeader(b []byte, number uint64, length int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, number), uint32(length))
}

// ReadObject reads an object into buf, or into a larger one. The error is io.EOF at the end of the last one.
func ReadObject(r io.Reader, buf []byte) (Object, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Object{}, err
	}
	number, length, ok := parseHeader(header[:])
	if !ok {
		return Object{}, errFrame
	}
	if length > cap(buf) {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Object{}, err
	}
	return Object{number, buf}, nil
}

func parseHeader(b []byte) (number uint64, length int, ok bool) {
	number, n := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
	return number, int(n), number <= MaxNumber && n >= MinObject && n <= MaxObject
}

// ParseObjects reads the body of an upload, of which the objects are pieces.
func ParseObjects(body []byte) ([]Object, error) {
	var list []Object
	for len(body) > 0 {
		var number uint64
		var length int
		ok := len(body) > frameHeader && len(list) < MaxBatch
		if ok {
			number, length, ok = parseHeader(body)
		}
		if !ok || len(body) < frameHeader+length {
			return nil, refusal.Newf(refusal.Malformed, "The body is not 1 to %d objects, each behind its number and length.", MaxBatch)
		}
		list = append(list, Object{number, body[frameHeader : frameHeader+length]})
		body = body[frameHeader+length:]
	}
	if len(list) == 0 {
		return nil, refusal.Newf(refusal.Malformed, "The body has no object.")
	}
	return list, nil
}

// ParseNumbers reads a list such as "0-3,17": each first and last number, at most MaxFetch in all.
func ParseNumbers(s string) ([]Range, bool) {
	var list []Range
	n := uint64(0)
	for item := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(item, "-")
		first, ok1 := parseNumber(from)
		last, ok2 := first, true
		if isRange {
			last, ok2 = parseNumber(to)
		}
		if !ok1 || !ok2 || last < first || last-first >= MaxFetch {
			return nil, false
		}
		if n += last - first + 1; n > MaxFetch {
			return nil, false
		}
		list = append(list, Range{first, last - first + 1})
	}
	return list, true
}

// parseNumber takes the one spelling that a number has.
func parseNumber(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= MaxNumber && strconv.FormatUint(n, 10) == s
}

// FormatNumbers is the list that ParseNumbers reads. The numbers are in order.
func FormatNumbers(numbers []uint64) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		k := i + 1
		for k < len(numbers) && numbers[k] == numbers[k-1]+1 {
			k++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(numbers[i], 10))
		if k > i+1 {
			b.WriteString("-" + strconv.FormatUint(numbers[k-1], 10))
		}
		i = k
	}
	return b.String()
}
