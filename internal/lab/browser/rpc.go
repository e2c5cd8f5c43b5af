//go:build linux

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// rpc is the form that CDP and WebDriver BiDi share: numbered commands, each with one answer, and events between them.
type rpc struct {
	transport transport
	onEvent   func(event)   // on the reading goroutine
	done      chan struct{} // closed when reading has ended

	mu      sync.Mutex
	nextID  int
	pending map[int]chan answer // each has room for one
	ended   error               // why reading has ended
}

// transport carries whole messages. write may be called concurrently; close ends read.
type transport interface {
	read() ([]byte, error)
	write([]byte) error
	close() error
}

type event struct {
	Method    string          `json:"method"`
	SessionID string          `json:"sessionId"` // CDP
	Params    json.RawMessage `json:"params"`
}

type answer struct {
	ID      *int            `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"` // CDP: an object; BiDi: a string
	Message string          `json:"message"`
	event
}

var errClosed = errors.New("the browser has gone")

// newRPC starts reading. The caller must call close.
func newRPC(tr transport, onEvent func(event)) *rpc {
	r := &rpc{transport: tr, onEvent: onEvent, done: make(chan struct{}), pending: map[int]chan answer{}}
	go r.readLoop()
	return r
}

func (r *rpc) readLoop() {
	defer close(r.done)
	for {
		message, err := r.transport.read()
		var a answer
		if err == nil {
			err = json.Unmarshal(message, &a)
		}
		if err != nil {
			r.mu.Lock()
			r.ended = fmt.Errorf("%w: %w", errClosed, err)
			for _, waiting := range r.pending {
				close(waiting)
			}
			clear(r.pending)
			r.mu.Unlock()
			return
		}
		if a.ID == nil {
			if a.Method != "" {
				r.onEvent(a.event)
			}
			continue
		}
		r.mu.Lock()
		waiting := r.pending[*a.ID]
		delete(r.pending, *a.ID)
		r.mu.Unlock()
		if waiting != nil {
			waiting <- a
		}
	}
}

// call sends a command and decodes its result into out, which may be nil.
func (r *rpc) call(ctx context.Context, sessionID, method string, params, out any) error {
	if params == nil {
		params = struct{}{}
	}
	waiting := make(chan answer, 1)
	r.mu.Lock()
	if r.ended != nil {
		defer r.mu.Unlock()
		return r.ended
	}
	r.nextID++
	id := r.nextID
	r.pending[id] = waiting
	r.mu.Unlock()
	message, err := json.Marshal(struct {
		ID        int    `json:"id"`
		SessionID string `json:"sessionId,omitempty"`
		Method    string `json:"method"`
		Params    any    `json:"params"`
	}{id, sessionID, method, params})
	if err == nil {
		err = r.transport.write(message)
	}
	if err != nil {
		r.forget(id)
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-waiting:
		if !ok {
			r.mu.Lock()
			defer r.mu.Unlock()
			return fmt.Errorf("%s: %w", method, r.ended)
		}
		if len(a.Error) > 0 {
			return &commandError{method: method, text: string(a.Error) + " " + a.Message}
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(a.Result, out)
	case <-ctx.Done():
		r.forget(id)
		return fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
}

func (r *rpc) forget(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, id)
}

func (r *rpc) close() error {
	err := r.transport.close()
	<-r.done
	return err
}

// commandError is the browser's refusal of a command.
type commandError struct{ method, text string }

func (e *commandError) Error() string { return e.method + ": " + e.text }
