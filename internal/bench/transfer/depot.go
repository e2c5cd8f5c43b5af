package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/bench/measure"
	"github.com/madang-rtc/madang/internal/transfer"
)

// Depot is a file that waits on the server between its sender and its receiver.
type Depot struct {
	Bytes         int64   `json:"bytes"`
	Upload        Way     `json:"upload"` // sealed, and on the server's disk
	Download      Way     `json:"download"`
	PlainUpload   float64 `json:"plainUploadMiBPerSecond"` // the same bytes in one HTTPS request
	PlainDownload float64 `json:"plainDownloadMiBPerSecond"`
}

// A Way is one of the two, with what it costs the server; zero where that is not known.
type Way struct {
	PerSecond float64 `json:"mibPerSecond"`
	CPU       float64 `json:"serverCPUSecondsPerGiB"`
	RSS       float64 `json:"serverMiB"` // at most
}

// RunDepot sends the file to the server, which must keep as much, and then receives it from there. server may be one that cannot be looked at: 0.
func RunDepot(ctx context.Context, c Config, server measure.Process) (*Depot, error) {
	dir, file, err := source(c)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &Depot{Bytes: c.Bytes}
	// A node of ours has a certificate of its own making.
	at := transfer.Server{URL: c.Server, Key: c.Key, HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8}}}
	ticket := transfer.NewTicket()
	if r.Upload, err = way(c.Bytes, server, func() error {
		var refused error // an event, and not the end
		err := transfer.Send(ctx, transfer.SendConfig{Server: at, Paths: []string{file}, Ticket: ticket, Receivers: 1, NoCode: true, Store: true, Leave: true, OnEvent: func(e transfer.Event) {
			if e.Text != "" {
				refused = fmt.Errorf("%s: %s", e.Code, e.Text)
			}
		}})
		if errors.Is(err, transfer.ErrStored) {
			return nil
		}
		return errors.Join(err, refused)
	}); err != nil {
		return nil, fmt.Errorf("upload: %w", err)
	}
	out := filepath.Join(dir, "out")
	if r.Download, err = way(c.Bytes, server, func() error {
		_, err := transfer.Receive(ctx, transfer.ReceiveConfig{Server: at, Ticket: ticket, Dir: out})
		return err
	}); err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	if err := os.RemoveAll(out); err != nil { // room for the next
		return nil, err
	}
	up, down, err := plainHTTPS(ctx, file, dir)
	if err != nil {
		return nil, fmt.Errorf("plain HTTPS: %w", err)
	}
	r.PlainUpload, r.PlainDownload = perSecond(c.Bytes, up), perSecond(c.Bytes, down)
	return r, nil
}

func perSecond(bytes int64, took time.Duration) float64 { return measure.MiB(bytes) / took.Seconds() }

// way times what do does, and watches the server meanwhile.
func way(bytes int64, server measure.Process, do func() error) (w Way, err error) {
	before, err := server.Usage()
	if err != nil {
		return w, err
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			if u, err := server.Usage(); err == nil {
				w.RSS = max(w.RSS, measure.MiB(u.RSS))
			}
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	started := time.Now()
	err = do()
	took := time.Since(started)
	close(done)
	watching.Wait()
	if err != nil {
		return w, err
	}
	after, err := server.Usage()
	w.PerSecond = perSecond(bytes, took)
	w.CPU = (after.CPU - before.CPU).Seconds() / (float64(bytes) / (1 << 30))
	return w, err
}
