package signalclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/madang-rtc/madang/internal/signal"
)

// A transport is one link. send and recv may run at the same time, but each only once at a time.
type transport interface {
	// send sends messages in order. The first call carries join or resume alone.
	send(ctx context.Context, messages [][]byte) error
	// recv returns the next message. It is the caller's until the next call.
	recv(ctx context.Context) ([]byte, error)
	// close ends the link at once, without goodbye, and makes recv return.
	close()
}

// An httpError is a refusal of the server on HTTP's level.
type httpError struct {
	status     int
	code       string // of the problem document; may be empty
	message    string
	retryAfter time.Duration
}

func (e *httpError) Error() string {
	return fmt.Sprintf("the server answers with HTTP %d %s: %s", e.status, e.code, e.message)
}

func readHTTPError(r *http.Response) error {
	e := &httpError{status: r.StatusCode}
	var doc struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	if b, err := io.ReadAll(io.LimitReader(r.Body, 16<<10)); err == nil && json.Unmarshal(b, &doc) == nil {
		e.code, e.message = doc.Code, doc.Detail
	}
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil {
		e.retryAfter = pause(int64(s), time.Second)
	}
	return e
}

type wsTransport struct {
	conn *websocket.Conn
	buf  bytes.Buffer
}

func dialWebSocket(ctx context.Context, cfg *Config) (transport, error) {
	u := "ws" + strings.TrimPrefix(cfg.URL, "http")
	conn, resp, err := websocket.Dial(ctx, u, &websocket.DialOptions{
		HTTPClient: cfg.HTTPClient, HTTPHeader: cfg.Header, Subprotocols: []string{signal.Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != nil {
			return nil, readHTTPError(resp)
		}
		return nil, err
	}
	conn.SetReadLimit(maxServerMessage)
	return &wsTransport{conn: conn}, nil
}

// maxServerMessage: `joined` of a full channel is the longest message, with up to 4 KiB of info for each peer.
const maxServerMessage = 8 << 20

func (t *wsTransport) send(ctx context.Context, messages [][]byte) error {
	for _, m := range messages {
		if err := t.conn.Write(ctx, websocket.MessageText, m); err != nil {
			return err
		}
	}
	return nil
}

func (t *wsTransport) recv(ctx context.Context) ([]byte, error) {
	_, r, err := t.conn.Reader(ctx)
	if err != nil {
		return nil, err
	}
	t.buf.Reset()
	_, err = t.buf.ReadFrom(r)
	return t.buf.Bytes(), err
}

func (t *wsTransport) close() { t.conn.CloseNow() }

type sseTransport struct {
	cfg    *Config
	ctx    context.Context // of the stream; ended by close
	cancel context.CancelFunc
	body   io.ReadCloser
	events *bufio.Reader
	link   string
}

// dialSSE makes the transport; the first send opens the stream.
func dialSSE(_ context.Context, cfg *Config) (transport, error) {
	t := &sseTransport{cfg: cfg}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

func (t *sseTransport) send(ctx context.Context, messages [][]byte) error {
	if len(messages) == 0 {
		return nil
	}
	opening := t.body == nil
	rctx := t.ctx
	if !opening {
		var cancel context.CancelFunc
		rctx, cancel = context.WithTimeout(t.ctx, sendTimeout)
		defer cancel()
	} else {
		// The stream outlives ctx, but its opening does not.
		stop := context.AfterFunc(ctx, t.cancel)
		defer stop()
	}
	req, err := http.NewRequestWithContext(rctx, http.MethodPost, t.cfg.URL, bytes.NewReader(signal.AppendBatch(nil, t.link, messages...)))
	if err != nil {
		return err
	}
	for k, v := range t.cfg.Header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "text/plain")
	if opening {
		req.Header.Set("Accept", "text/event-stream")
	}
	resp, err := t.cfg.HTTPClient.Do(req)
	if err != nil {
		return err
	}
	if !opening {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return readHTTPError(resp)
		}
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return readHTTPError(resp)
	}
	t.body = resp.Body
	t.events = bufio.NewReader(resp.Body)
	first, err := t.recv(ctx)
	if err != nil {
		return err
	}
	m, _, err := signal.ParseServer(first)
	if err != nil {
		return err
	}
	link, ok := m.(*signal.Link)
	if !ok {
		return errors.New("the stream does not begin with the name of the link")
	}
	t.link = link.Link
	return nil
}

func (t *sseTransport) recv(context.Context) ([]byte, error) { return readEvent(t.events) }

var errTooLong = errors.New("the server's message is too long")

// readEvent reads the data of one event. Of the event stream format (WHATWG HTML §9.2.6) it needs data lines, comments and blank lines.
func readEvent(r *bufio.Reader) ([]byte, error) {
	var data []byte
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		switch {
		case len(line) == 0 && len(data) > 0:
			return data, nil
		case bytes.HasPrefix(line, []byte("data:")):
			if len(data)+len(line) > maxServerMessage {
				return nil, errTooLong
			}
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(line[len("data:"):], []byte(" "))...)
		}
	}
}

// readLine reads a line without its end. It is the reader's until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		switch {
		case len(line)+len(part) > maxServerMessage:
			return nil, errTooLong
		case err == bufio.ErrBufferFull:
			line = append(line, part...)
			continue
		case err != nil:
			return nil, err
		case line != nil:
			part = append(line, part...)
		}
		return bytes.TrimRight(part, "\r\n"), nil
	}
}

func (t *sseTransport) close() {
	t.cancel()
	if t.body != nil {
		t.body.Close()
	}
}
