package signalclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEventsAreRead(t *testing.T) {
	stream := ":" + strings.Repeat(" ", 9000) + "\n\n: comment\r\n\r\ndata: {\"a\":1}\n\nevent: x\nid: 7\ndata:{\ndata:  }\n\n\n\ndata: cut off\n"
	r := bufio.NewReader(strings.NewReader(stream))
	for _, want := range []string{`{"a":1}`, "{\n }"} {
		if got, err := readEvent(r); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := readEvent(r); err != io.EOF {
		t.Errorf("got %q, %v, want EOF: an event ends with a blank line", got, err)
	}
}

// A server that never ends a line, or an event, costs a bounded amount of memory.
func TestEndlessEventsAreGivenUp(t *testing.T) {
	for name, part := range map[string]string{"a line": "x", "an event": "data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"} {
		read := 0
		endless := readerFunc(func(p []byte) (int, error) {
			n := 0
			for n+len(part) <= len(p) {
				n += copy(p[n:], part)
			}
			read += n
			return n, nil
		})
		if _, err := readEvent(bufio.NewReader(endless)); !errors.Is(err, errTooLong) {
			t.Errorf("%s: got %v", name, err)
		}
		if read > 2*maxServerMessage {
			t.Errorf("%s: read %d bytes", name, read)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzReadEvent(f *testing.F) {
	for _, s := range []string{"data: {}\n\n", ": x\n\ndata:1\r\ndata: 2\r\n\r\ndata: 3", "\n\n\n", "data:", "data\n\n", "data: \n\n", "DATA: x\n\n", "data: x\rdata: y\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, bytewise := bufio.NewReader(bytes.NewReader(stream)), bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), 16)
		for {
			a, err1 := readEvent(whole)
			b, err2 := readEvent(bytewise)
			if !bytes.Equal(a, b) || (err1 == nil) != (err2 == nil) {
				t.Fatalf("%q: at once %q, %v; byte by byte %q, %v", stream, a, err1, b, err2)
			}
			if err1 != nil {
				return
			}
			if len(a) == 0 || bytes.HasSuffix(a, []byte("\r")) {
				t.Fatalf("%q: event %q", stream, a)
			}
		}
	})
}

func FuzzReadHTTPError(f *testing.F) {
	f.Add(429, "2", []byte(`{"code":"rate_limited","detail":"Slowly."}`))
	f.Add(503, "99999999999999", []byte(`{"code":7}`))
	f.Add(500, "-1", []byte(`<html>`))
	f.Add(503, "Fri, 31 Dec 1999 23:59:59 GMT", []byte(``))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		err := readHTTPError(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(bytes.NewReader(body))})
		var e *httpError
		if !errors.As(err, &e) || e.status != status || e.retryAfter < 0 || e.retryAfter > 24*time.Hour || e.Error() == "" {
			t.Errorf("got %+v", err)
		}
	})
}

// What a server says about time is never taken so literally that the client panics or never comes back.
func TestPausesAreBounded(t *testing.T) {
	for n, want := range map[int64]time.Duration{-1: 0, 0: 0, 1500: 1500 * time.Millisecond, math.MaxInt64: 24 * time.Hour, math.MinInt64: 0} {
		if got := pause(n, time.Millisecond); got != want {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
	if got := pause(math.MaxInt64, time.Second); got != 24*time.Hour {
		t.Errorf("got %v", got)
	}
}

func TestBackoffGrowsToItsLimitWithFullJitter(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for attempt, limit := range map[int]time.Duration{0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 3: 800 * time.Millisecond, 4: time.Second, 100: time.Second, math.MaxInt: time.Second} {
		var longest, shortest time.Duration = 0, limit
		for range 2000 {
			d := b.delay(attempt)
			longest, shortest = max(longest, d), min(shortest, d)
		}
		if longest > limit || longest < limit*9/10 || shortest > limit/10 {
			t.Errorf("attempt %d: between %v and %v, want all between 0 and %v", attempt, shortest, longest, limit)
		}
	}
	for _, b := range []Backoff{{Min: 200 * time.Hour, Max: math.MaxInt64}, {Min: time.Second, Max: time.Millisecond}, {Min: -1, Max: -1}} {
		for attempt := range 80 {
			if d := b.delay(attempt); d < 0 || b.Max >= 0 && d > b.Max {
				t.Errorf("%+v, attempt %d: %v", b, attempt, d)
			}
		}
	}
}
