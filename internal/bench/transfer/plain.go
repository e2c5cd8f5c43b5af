package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/madang-rtc/madang/internal/transfer"
)

// plainHTTPS carries a file to a folder and back as any web server would: one request each way, TLS, and on the disk at the end. For judging what depots do with the same bytes.
func plainHTTPS(ctx context.Context, file, dir string) (up, down time.Duration, err error) {
	cert, err := transfer.NewCertificate()
	if err != nil {
		return 0, 0, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	kept := filepath.Join(dir, "kept")
	server := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				http.ServeFile(w, r, kept)
				return
			}
			if err := writeWhole(kept, r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}),
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.ServeTLS(listener, "", "") }) // until Close
	defer running.Wait()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // it is our own, a line above
	defer client.CloseIdleConnections()
	do := func(method string, body io.Reader, take func(io.Reader) error) (time.Duration, error) {
		started := time.Now()
		req, err := http.NewRequestWithContext(ctx, method, "https://"+listener.Addr().String()+"/", body)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0, errors.New(resp.Status)
		}
		err = take(resp.Body)
		return time.Since(started), err
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if up, err = do(http.MethodPut, f, func(io.Reader) error { return nil }); err != nil {
		return up, 0, err
	}
	down, err = do(http.MethodGet, nil, func(r io.Reader) error { return writeWhole(filepath.Join(dir, "back"), r) })
	return up, down, err
}

func writeWhole(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}
