package transfer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

// depotStall is how long the server may be silent in the middle of an answer.
const depotStall = 15 * time.Second

// bulkClient is for objects, where the caller has not brought a client: over HTTP/2 all requests of an end would share one connection, and what goes up one window of 1 MiB, which on a long path is
// soon used up.
var bulkClient = &http.Client{Transport: bulkTransport()}

func bulkTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConnsPerHost = 2 * depotUploads
	return t
}

// A depotClient asks the server about one depot. It is safe for concurrent use.
type depotClient struct {
	server Server
	origin string
	id     string
	token  string
}

// depotState is what the server says (api.md).
type depotState struct {
	State       depot.State   `json:"state"`
	Once        bool          `json:"once"`
	Taker       string        `json:"taker"`
	ExpiresAtMs int64         `json:"expiresAtMs"`
	Objects     []depot.Range `json:"objects"`
}

func (d *depotState) has(number uint64) bool {
	return slices.ContainsFunc(d.Objects, func(r depot.Range) bool { return r.First() <= number && number < r.End() })
}

// ask sends a request, and refuses what the server refuses. A body that is not JSON is objects.
func (c *depotClient) ask(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var reader io.Reader
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		reader, contentType = bytes.NewReader(b), "application/octet-stream"
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server.URL+path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.origin != "" {
		req.Header.Set("Origin", c.origin)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	client := c.server.HTTPClient
	if client == http.DefaultClient {
		client = bulkClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var problem struct {
		Code         string `json:"code"`
		Title        string `json:"title"`
		Detail       string `json:"detail"`
		RetryAfterMs int64  `json:"retryAfterMs"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&problem)
	if _, known := refusal.Look(refusal.Code(problem.Code)); err != nil || !known {
		if resp.StatusCode == http.StatusNotFound {
			return nil, refusal.Newf(refusal.DepotOff, "This server is of a version that keeps no files.")
		}
		return nil, errors.New("the server answered " + resp.Status)
	}
	return nil, refusal.Newf(refusal.Code(problem.Code), "%s", cmp.Or(problem.Detail, problem.Title)).After(time.Duration(problem.RetryAfterMs) * time.Millisecond)
}

// do is ask for answers that are JSON or nothing.
func (c *depotClient) do(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	resp, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(out)
}

func (c *depotClient) path(more string) string { return "/v1/depots/" + c.id + more }

// create makes the depot, or finds the one of an earlier life.
func (c *depotClient) create(ctx context.Context, read string, once bool) (s depotState, err error) {
	return s, c.do(ctx, http.MethodPut, c.path(""), map[string]any{
		"key": c.server.Key, "token": c.server.Token, "upload": tokenHash(c.token), "read": tokenHash(read), "once": once,
	}, &s)
}

func (c *depotClient) look(ctx context.Context) (s depotState, err error) {
	return s, c.do(ctx, http.MethodGet, c.path(""), nil, &s)
}

func (c *depotClient) put(ctx context.Context, objects []byte) error {
	return c.do(ctx, http.MethodPost, c.path("/objects"), objects, nil)
}

func (c *depotClient) remove(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, c.path(""), nil, nil)
}

func (c *depotClient) claim(ctx context.Context, taker string) error {
	return c.do(ctx, http.MethodPut, c.path("/taker"), map[string]string{"taker": taker}, nil)
}

func (c *depotClient) receipt(ctx context.Context, taker string) error {
	return c.do(ctx, http.MethodPost, c.path("/receipt"), map[string]string{"taker": taker}, nil)
}

// fetch hands over the objects of these numbers, in order. The bytes are give's until it returns.
func (c *depotClient) fetch(ctx context.Context, numbers []uint64, give func(depot.Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(depotStall, cancel)
	defer stalled.Stop()
	resp, err := c.ask(ctx, http.MethodGet, c.path("/objects?numbers="+depot.FormatNumbers(numbers)), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf := make([]byte, depot.MaxObject)
	for _, n := range numbers {
		o, err := depot.ReadObject(resp.Body, buf)
		if err != nil {
			return err
		}
		if o.Number != n {
			return refusal.Newf(refusal.DepotUnknown, "The server does not have all that it said.")
		}
		stalled.Stop() // give may take its time
		if err := give(o); err != nil {
			return err
		}
		stalled.Reset(depotStall)
	}
	return nil
}

// passing reports whether the same request may succeed by itself.
func passing(err error) bool {
	var r *refusal.Refusal
	return !errors.As(err, &r) || r.Code == refusal.RateLimited || r.Code == refusal.ServerDraining || r.Code == refusal.Storage || r.Code == refusal.Internal || r.Code == refusal.HandshakeTimeout
}
