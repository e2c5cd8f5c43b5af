// Package transfer measures madang send and madang receive on this machine: a file from end to end over each kind of lane, verified and on the disk, beside what a
// bare data channel carries. For loads of signaling and of the relay see its neighbours.
package transfer

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/transfer"
)

// Config says what to measure.
type Config struct {
	Server string
	Key    string   // empty: of the node's own pages
	Lanes  []string // kinds of transfer.Server; default: all
	Bytes  int64    // of the file
	Rounds int
	Dir    string // for the files; empty: a temporary one
}

// Result is all rounds of each kind.
type Result struct {
	Bytes int64  `json:"bytes"`
	Raw   Kind   `json:"raw"` // a bare data channel: zeros, neither hashed nor written
	Kinds []Kind `json:"kinds"`
}

// A Kind is one way to carry bytes.
type Kind struct {
	Lanes  string    `json:"lanes"`
	Path   string    `json:"path,omitempty"`
	Rounds []float64 `json:"mibPerSecond"`
	Median float64   `json:"medianMiBPerSecond"`
	Ratio  float64   `json:"ratio,omitempty"` // to the bare data channel
}

func (k *Kind) add(bytes int64, took time.Duration) {
	k.Rounds = append(k.Rounds, float64(bytes)/(1<<20)/took.Seconds())
	sorted := slices.Sorted(slices.Values(k.Rounds))
	k.Median = sorted[len(sorted)/2]
}

// source makes a folder, which the caller removes, with the file that is sent.
func source(c Config) (dir, file string, err error) {
	if dir, err = os.MkdirTemp(c.Dir, "madang-bench-"); err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "file")
	if err = write(file, c.Bytes); err != nil {
		return "", "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, file, nil
}

// Run measures.
func Run(ctx context.Context, c Config) (*Result, error) {
	if len(c.Lanes) == 0 {
		c.Lanes = []string{transfer.LanesAuto, transfer.LanesQUIC, transfer.LanesWebRTC}
	}
	dir, file, err := source(c)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &Result{Bytes: c.Bytes, Raw: Kind{Lanes: "data channel"}}
	for _, lanes := range c.Lanes {
		r.Kinds = append(r.Kinds, Kind{Lanes: lanes})
	}
	// The kinds take turns, so that what else the machine does hits all alike.
	for round := range cmp.Or(c.Rounds, 1) {
		took, err := transfer.RawDataChannel(ctx, min(c.Bytes, 256<<20))
		if err != nil {
			return nil, fmt.Errorf("bare data channel: %w", err)
		}
		r.Raw.add(min(c.Bytes, 256<<20), took)
		for i := range r.Kinds {
			k := &r.Kinds[i]
			out := filepath.Join(dir, fmt.Sprint(k.Lanes, round))
			took, err := k.once(ctx, c, file, out)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.Lanes, err)
			}
			k.add(c.Bytes, took)
			k.Ratio = k.Median / r.Raw.Median
			if err := os.RemoveAll(out); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func write(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return cmp.Or(err, f.Close())
}

// once sends the file, and times from the start of the receiver to the verified file.
func (k *Kind) once(ctx context.Context, c Config, file, out string) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := transfer.Server{URL: c.Server, Key: c.Key, Lanes: k.Lanes}
	ticket := transfer.NewTicket()
	ready, sent := make(chan struct{}), make(chan error, 1)
	go func() { // ends with ctx at the latest, and is waited for
		sent <- transfer.Send(ctx, transfer.SendConfig{Server: server, Paths: []string{file}, Ticket: ticket, Receivers: 1, NoCode: true,
			OnReady: func(string, string) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-sent:
		return 0, err
	}
	started := time.Now()
	_, err := transfer.Receive(ctx, transfer.ReceiveConfig{Server: server, Ticket: ticket, Dir: out, OnEvent: func(e transfer.Event) {
		if e.Code == "connected" && k.Path == "" {
			k.Path = e.Path
		}
	}})
	took := time.Since(started)
	if err != nil {
		cancel()
		<-sent
		return 0, err
	}
	return took, <-sent
}
