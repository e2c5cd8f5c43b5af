package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/transfer"
)

// Crowd is several receivers of one link.
type Crowd struct {
	Receivers int     `json:"receivers"`
	Bytes     int64   `json:"bytes"` // of the file
	Lanes     string  `json:"lanes"`
	Copies    float64 `json:"copies"`       // what the sender sent, as a part of the file
	Seconds   float64 `json:"seconds"`      // until the last one had everything
	PerSecond float64 `json:"mibPerSecond"` // that arrived at all of them together
}

// RunCrowd sends the file to so many receivers at once, over the first of the kinds of lanes.
func RunCrowd(ctx context.Context, c Config, receivers int) (*Crowd, error) {
	dir, file, err := source(c)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &Crowd{Receivers: receivers, Bytes: c.Bytes, Lanes: transfer.LanesAuto}
	if len(c.Lanes) > 0 {
		r.Lanes = c.Lanes[0]
	}
	server := transfer.Server{URL: c.Server, Key: c.Key, Lanes: r.Lanes}
	ticket := transfer.NewTicket()
	ready, sent := make(chan struct{}), make(chan error, 1)
	var copied int64 // written before sent
	go func() {      // ends with ctx at the latest, and is waited for
		sent <- transfer.Send(ctx, transfer.SendConfig{Server: server, Paths: []string{file}, Ticket: ticket, Receivers: receivers, NoCode: true,
			OnReady: func(string, string) { close(ready) }, OnProgress: func(p transfer.Progress) { copied = p.Sent }})
	}()
	select {
	case <-ready:
	case err := <-sent:
		return nil, err
	}
	started := time.Now()
	errs := make([]error, receivers)
	var wg sync.WaitGroup
	var once sync.Once
	var last time.Duration
	var mu sync.Mutex
	for n := range receivers {
		wg.Go(func() {
			// The last block counts, not how long a receiver goes on giving to others.
			_, errs[n] = transfer.Receive(ctx, transfer.ReceiveConfig{Server: server, Ticket: ticket, Dir: filepath.Join(dir, fmt.Sprint(n)), OnProgress: func(p transfer.Progress) {
				if p.Bytes < c.Bytes {
					mu.Lock()
					last = time.Since(started)
					mu.Unlock()
				}
			}})
			if errs[n] != nil {
				once.Do(cancel)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		cancel()
		<-sent
		return nil, err
	}
	if err := <-sent; err != nil {
		return nil, err
	}
	r.Copies = float64(copied) / float64(max(1, c.Bytes))
	r.Seconds = cmp.Or(last, time.Since(started)).Seconds()
	r.PerSecond = float64(c.Bytes) * float64(receivers) / (1 << 20) / r.Seconds
	return r, nil
}
