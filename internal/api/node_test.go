package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// options of a node.
type options struct {
	dir     string            // default: a new one
	address func() string     // from where requests seem to come; default: the connection
	meeting *meeting          // live channels; nil: none run
	config  func(*api.Config) // last word
}

// node is a node's REST API, served over real HTTP from a real database.
type node struct {
	url      string
	db       *store.DB
	projects *project.Service
	auth     *auth.Authorizer
	depots   *depot.Service
	api      *api.API
	admin    string
	log      *bytes.Buffer
}

func start(t *testing.T, o options) *node {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	db, err := store.Open(t.Context(), store.Config{Dir: o.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	n := &node{db: db, log: &bytes.Buffer{}}
	if n.projects, err = project.New(t.Context(), project.Config{DB: db}); err != nil {
		t.Fatal(err)
	}
	if n.auth, err = auth.New(auth.Config{Directory: n.projects.Directory(), Development: true}); err != nil {
		t.Fatal(err)
	}
	if n.depots, err = depot.Load(depot.Config{Dir: filepath.Join(o.dir, "depot")}); err != nil {
		t.Fatal(err)
	}
	c := api.Config{DB: db, Projects: n.projects, Authorizer: n.auth, TURN: relay{}, Depots: n.depots, Log: slog.New(slog.NewTextHandler(n.log, nil))}
	if o.meeting != nil {
		c.Channels = o.meeting
	}
	if o.address != nil {
		c.ClientAddress = func(*http.Request) netip.Addr { return netip.MustParseAddr(o.address()) }
	}
	if o.config != nil {
		o.config(&c)
	}
	if n.api, err = api.New(c); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n.api.Handler())
	t.Cleanup(server.Close)
	n.url = server.URL
	if n.admin, err = n.projects.NewAdminToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

const nobody = "-"

// send sends a request as the administrator, as who shows the credentials given, or as nobody. body is a []byte as it is, or made JSON. Each
// answer is held against the document.
func (n *node) send(t *testing.T, method, path string, body any, credentials ...string) (*http.Response, []byte) {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + n.admin}}
	if len(credentials) == 1 {
		header.Set("Authorization", "Bearer "+credentials[0])
		if credentials[0] == nobody {
			header.Del("Authorization")
		}
	}
	return n.sendWith(t, method, path, body, header)
}

func (n *node) sendWith(t *testing.T, method, path string, body any, header http.Header) (*http.Response, []byte) {
	t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		reader = bytes.NewReader(b)
	case io.Reader:
		reader = b
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, n.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	if reader != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, method, req.URL.Path, res, got)
	return res, got
}

// must sends a request that has to succeed, and reads the answer.
func must[T any](t *testing.T, n *node, method, path string, body any, credentials ...string) T {
	t.Helper()
	res, b := n.send(t, method, path, body, credentials...)
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: got %s %s", method, path, res.Status, b)
	}
	var v T
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return v
}

// refused sends a request that has to be refused with the code given.
func (n *node) refused(t *testing.T, code refusal.Code, method, path string, body any, credentials ...string) api.Problem {
	t.Helper()
	res, b := n.send(t, method, path, body, credentials...)
	return wantProblem(t, method+" "+path, res, b, code)
}

func wantProblem(t *testing.T, what string, res *http.Response, body []byte, code refusal.Code) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(body, &p); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: got %s %s (%s), want a problem with the code %s", what, res.Status, body, res.Header.Get("Content-Type"), code)
		return p
	}
	if p.Code != string(code) || p.Status != res.StatusCode || p.Status != refusal.New(code).Status() {
		t.Errorf("%s: got %s %s, want %s %d", what, res.Status, body, code, refusal.New(code).Status())
	}
	return p
}

type object = map[string]any

// newProject makes a project with a server key for this machine.
func (n *node) newProject(t *testing.T, name string, cidrs ...string) (id, serverKey string) {
	t.Helper()
	p := must[api.Project](t, n, "POST", "/v1/projects", object{"name": name})
	if len(cidrs) == 0 {
		cidrs = []string{"127.0.0.0/8", "::1"}
	}
	k := must[api.NewKey](t, n, "POST", "/v1/projects/"+p.ID+"/keys", object{"kind": "server", "name": "backend", "cidrs": cidrs})
	return p.ID, k.Secret
}

// relay makes credentials that say what they were made of.
type relay struct{}

func (relay) MintTURN(project, name string, lifetime time.Duration) (string, string, []string, time.Time, error) {
	expires := time.Now().Add(lifetime)
	return "1:" + project + ":" + name, "credential", []string{"turn:relay.example:3478"}, expires, nil
}

// meeting is a remote side of the API: live channels whose state the test lays out.
type meeting struct {
	mu       sync.Mutex
	channels map[string]*liveChannel // by project/name
	sent     []sentCommand
}

type liveChannel struct {
	api.Channel
	peers []api.Peer
}

type sentCommand struct {
	at      string
	to      []string
	command string
	data    string
}

func (m *meeting) open(project, name string, peers ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channels == nil {
		m.channels = map[string]*liveChannel{}
	}
	c := &liveChannel{Channel: api.Channel{Name: name, Peers: len(peers), Capacity: 50, SinceMS: 1}}
	for _, p := range peers {
		c.peers = append(c.peers, api.Peer{ID: p, Role: "speaker", Media: api.PeerMedia{Audio: "on", Video: "off", Screen: "off"}, Info: json.RawMessage(`{"seat":1}`)})
	}
	m.channels[project+"/"+name] = c
}

func (m *meeting) at(project, name string, f func(c *liveChannel) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.channels[project+"/"+name]
	if c == nil {
		return refusal.New(refusal.ChannelNotFound)
	}
	return f(c)
}

func (m *meeting) List(_ context.Context, project string) (list []api.Channel, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, c := range m.channels {
		if strings.HasPrefix(at, project+"/") {
			list = append(list, c.Channel)
		}
	}
	return list, nil
}

func (m *meeting) Get(_ context.Context, project, name string) (ch api.Channel, err error) {
	err = m.at(project, name, func(c *liveChannel) error { ch = c.Channel; return nil })
	return ch, err
}

func (m *meeting) Define(ctx context.Context, project, name string, d auth.Definition) error {
	err := m.Configure(ctx, project, name, api.ChannelChange{Capacity: &d.Capacity, WaitingRoom: &d.WaitingRoom, Locked: &d.Locked})
	if err != nil && refusal.From(err).Code == refusal.ChannelNotFound {
		return nil
	}
	return err
}

func (m *meeting) Configure(_ context.Context, project, name string, ch api.ChannelChange) error {
	return m.at(project, name, func(c *liveChannel) error {
		if ch.Capacity != nil {
			c.Capacity = *ch.Capacity
		}
		if ch.Locked != nil {
			c.Locked = *ch.Locked
		}
		if ch.WaitingRoom != nil {
			c.WaitingRoom = *ch.WaitingRoom
		}
		return nil
	})
}

func (m *meeting) Close(_ context.Context, project, name string) error {
	return m.at(project, name, func(*liveChannel) error { delete(m.channels, project+"/"+name); return nil })
}

func (m *meeting) CloseAll(_ context.Context, project string, _ refusal.Code) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := range m.channels {
		if strings.HasPrefix(at, project+"/") {
			delete(m.channels, at)
		}
	}
	return nil
}

func (m *meeting) Peers(_ context.Context, project, name string) (peers []api.Peer, err error) {
	err = m.at(project, name, func(c *liveChannel) error { peers = slices.Clone(c.peers); return nil })
	return peers, err
}

func (m *meeting) Kick(_ context.Context, project, name, peer, _ string, _ time.Duration) error {
	return m.at(project, name, func(c *liveChannel) error {
		before := len(c.peers)
		c.peers = slices.DeleteFunc(c.peers, func(p api.Peer) bool { return p.ID == peer })
		if len(c.peers) == before {
			return refusal.New(refusal.PeerNotFound)
		}
		return nil
	})
}

func (m *meeting) Command(_ context.Context, project, name string, to []string, command string, data json.RawMessage) error {
	return m.at(project, name, func(c *liveChannel) error {
		m.sent = append(m.sent, sentCommand{project + "/" + name, to, command, string(data)})
		return nil
	})
}
