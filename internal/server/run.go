package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A part of a node works until its context ends, and returns when all of it has stopped.
type part struct {
	name string
	run  func(context.Context) error
}

// stopTimeout is how long one part may take to stop. Each bounds itself; this finds the one that does not.
const stopTimeout = 30 * time.Second

// run starts the parts in order, calls up, and waits for ctx or for the first part that ends by itself. Then it calls down and stops the parts in reverse order,
// one after the other: a part never outlives one that it stands on. The error is that of the part which failed.
func run(ctx context.Context, parts []part, log *slog.Logger, up, down func()) error {
	type ended struct {
		part part
		err  error
	}
	ends := make(chan ended, len(parts))
	type handle struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	handles := make([]handle, len(parts))
	for i, p := range parts {
		// Not derived from ctx: its end must not stop all parts at once.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		done := make(chan struct{})
		handles[i] = handle{cancel, done}
		go func() {
			defer close(done)
			ends <- ended{p, p.run(partCtx)}
		}()
	}
	up()

	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case e := <-ends:
		if e.err == nil {
			e.err = errors.New("ended by itself")
		}
		failure = fmt.Errorf("%s: %w", e.part.name, e.err)
		log.Error("a part has failed; stopping", "part", e.part.name, "err", e.err)
	}
	down()
	for i := len(parts) - 1; i >= 0; i-- {
		handles[i].cancel()
		timer := time.NewTimer(stopTimeout)
		select {
		case <-handles[i].done:
		case <-timer.C:
			log.Error("a part does not stop", "part", parts[i].name, "after", stopTimeout)
			failure = errors.Join(failure, fmt.Errorf("%s did not stop within %s", parts[i].name, stopTimeout))
		}
		timer.Stop()
	}
	for {
		select {
		case e := <-ends:
			if e.err != nil && failure == nil {
				failure = fmt.Errorf("stop %s: %w", e.part.name, e.err)
			}
		default:
			return failure
		}
	}
}
