package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/relay"
	"github.com/madang-rtc/madang/internal/store"
)

// nodeFlags say which node an administration command is about.
type nodeFlags struct {
	Data   string `help:"Data directory of a node on this machine. It may be running." default:"./madang-data" env:"MADANG_DATA" placeholder:"DIR"`
	Server string `help:"Base URL of a node on another machine; goes with --token." env:"MADANG_SERVER" placeholder:"URL"`
	Token  string `help:"The administrator's token, or a server key." env:"MADANG_TOKEN" placeholder:"TOKEN"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// A nodeClient speaks a node's REST API, whichever way it is reached: HTTPS with a token, the control socket of a server that runs on the
// data directory, or the API's own handler over the opened store if none runs.
type nodeClient struct {
	base  string
	http  *http.Client
	token string // empty: the transport is the administrator's own
	local bool   // a data directory of this machine
	json  bool
	streams
	close func() error
}

// with connects, runs f, and disconnects.
func (f *nodeFlags) with(ctx context.Context, s streams, run func(c *nodeClient) error) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	c.json, c.streams = f.JSON, s
	return errors.Join(run(c), c.close())
}

func (f *nodeFlags) connect(ctx context.Context) (*nodeClient, error) {
	if f.Server != "" {
		return f.connectURL()
	}
	if _, err := os.Stat(f.Data); errors.Is(err, os.ErrNotExist) {
		return nil, bilingual{en: "there is no data directory " + f.Data, ko: "데이터 폴더가 없습니다: " + f.Data,
			hintEn: "name the node's with --data DIR, or a node on another machine with --server URL and --token TOKEN",
			hintKo: "--data DIR로 서버의 데이터 폴더를 알려 주세요. 다른 컴퓨터의 서버라면 --server URL과 --token TOKEN을 쓰세요"}
	}
	socket := filepath.Join(f.Data, "control.sock")
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	if err == nil {
		conn.Close()
		t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
		return &nodeClient{base: "http://node", http: &http.Client{Transport: t, Timeout: time.Minute}, local: true, close: func() error { t.CloseIdleConnections(); return nil }}, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, bilingual{en: fmt.Sprintf("the node on %s is another user's", f.Data), ko: fmt.Sprintf("%s의 서버는 다른 사용자의 것입니다", f.Data),
			hintEn: "run this as the user whom the node runs as", hintKo: "서버를 실행한 사용자로 실행하세요"}
	}
	// A server that runs but cannot be asked must not be gone around: it would not learn of what is done to its channels.
	if runs, err := store.ServerRuns(f.Data); err != nil {
		return nil, err
	} else if runs {
		return nil, bilingual{en: fmt.Sprintf("a server runs on %s, but does not answer at %s", f.Data, socket), ko: fmt.Sprintf("%s에서 서버가 돌고 있지만 %s에서 답하지 않습니다", f.Data, socket),
			hintEn: "it may be starting or stopping: try again, or use --server URL with --token", hintKo: "켜지거나 꺼지는 중일 수 있습니다. 다시 해 보거나 --server URL과 --token을 쓰세요"}
	}
	return connectStore(ctx, f.Data)
}

func (f *nodeFlags) connectURL() (*nodeClient, error) {
	u, err := url.Parse(f.Server)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, bilingual{en: fmt.Sprintf("--server %q is not a URL such as https://call.example.com", f.Server), ko: fmt.Sprintf("--server %q: https://call.example.com 같은 URL이 아닙니다", f.Server)}
	}
	if f.Token == "" {
		return nil, bilingual{en: "--server needs --token", ko: "--server에는 --token이 필요합니다",
			hintEn: "set MADANG_TOKEN to the administrator's token (`madang token admin --data DIR` on the node's machine makes one) or to a server key",
			hintKo: "MADANG_TOKEN에 관리자 토큰이나 서버 키를 넣으세요. 관리자 토큰은 서버 컴퓨터에서 `madang token admin --data DIR`로 만듭니다"}
	}
	return &nodeClient{
		base: u.Scheme + "://" + u.Host, token: f.Token, close: func() error { return nil },
		http: &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the token is for this server alone
		}},
	}, nil
}

// connectStore opens the data directory itself.
func connectStore(ctx context.Context, dir string) (*nodeClient, error) {
	db, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	handler, err := func() (http.Handler, error) {
		projects, err := project.New(ctx, project.Config{DB: db})
		if err != nil {
			return nil, err
		}
		authorizer, err := auth.New(auth.Config{Directory: projects.Directory()})
		if err != nil {
			return nil, err
		}
		a, err := api.New(api.Config{DB: db, Projects: projects, Authorizer: authorizer, TURN: restingRelay{projects}})
		if err != nil {
			return nil, err
		}
		return a.ControlHandler(), nil
	}()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &nodeClient{base: "http://node", http: &http.Client{Transport: inProcess{handler}}, local: true, close: db.Close}, nil
}

// restingRelay makes credentials for a relay that will run again: with the same secret, and the addresses it had last.
type restingRelay struct{ projects *project.Service }

var _ api.TURN = restingRelay{}

func (r restingRelay) MintTURN(projectID, name string, lifetime time.Duration) (username, credential string, uris []string, expires time.Time, err error) {
	if uris, err = r.projects.RelayURIs(context.Background()); err != nil {
		return "", "", nil, time.Time{}, err
	}
	if len(uris) == 0 {
		return "", "", nil, time.Time{}, refusal.Newf(refusal.NotRunning, "No server has run on this data directory yet: where its relay will be is not known.")
	}
	c := relay.Mint(r.projects.NodeSecret(), projectID, name, time.Now(), lifetime)
	return c.Username, c.Credential, uris, c.ExpiresAt, nil
}

// inProcess calls a handler without a network.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &inProcessWriter{status: http.StatusOK, header: http.Header{}}
	t.handler.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.header, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
	}, nil
}

type inProcessWriter struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *inProcessWriter) Header() http.Header         { return w.header }
func (w *inProcessWriter) WriteHeader(status int)      { w.status = status }
func (w *inProcessWriter) Write(b []byte) (int, error) { return w.body.Write(b) }

// do sends a request and reads the answer into out, which may be nil.
func (c *nodeClient) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which says nothing new
		}
		return bilingual{en: fmt.Sprintf("the node at %s does not answer", c.base), ko: fmt.Sprintf("%s의 서버가 답하지 않습니다", c.base), cause: err,
			hintEn: "is it running, and is the URL right? madang doctor looks closer", hintKo: "서버가 켜져 있고 URL이 맞는지 확인하세요. madang doctor가 자세히 살펴봅니다"}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		var p api.Problem
		if json.Unmarshal(b, &p) != nil || p.Code == "" {
			return bilingual{en: fmt.Sprintf("%s answers %d, and not like a node", c.base, res.StatusCode), ko: fmt.Sprintf("%s의 응답이 %d이고, Madang 서버의 응답이 아닙니다", c.base, res.StatusCode),
				hintEn: "is this the URL of a Madang node, without a path?", hintKo: "경로 없이 Madang 서버의 URL을 적었는지 확인하세요"}
		}
		return refused{p, c.local}
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// all reads all pages of a list.
func all[T any](ctx context.Context, c *nodeClient, path string) ([]T, error) {
	items := []T{}
	cursor := ""
	for {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		var page api.Page[T]
		if err := c.do(ctx, http.MethodGet, path+join+"limit=100&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if cursor = page.Next; cursor == "" {
			return items, nil
		}
	}
}

// seg makes one segment of a path.
func seg(s string) string { return url.PathEscape(s) }

// show prints v as JSON, or text for people.
func (c *nodeClient) show(v any, text func(w io.Writer)) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	t := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	text(t)
	return t.Flush()
}

// done prints that something without an answer was done: people read a line, programs an object.
func (c *nodeClient) done(en, ko string, args ...any) error {
	return c.show(struct{}{}, func(w io.Writer) { fmt.Fprintf(w, c.language.pick(en, ko)+"\n", args...) })
}

// note tells people something beside the result.
func (c *nodeClient) note(en, ko string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.err, c.language.pick(en, ko)+"\n", args...)
	}
}

// clean keeps what others have named from moving the terminal's cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

func date(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).Local().Format("2006-01-02 15:04")
}

func word(yes bool, ifYes, ifNo string) string {
	if yes {
		return ifYes
	}
	return ifNo
}

// refused is a node's refusal.
type refused struct {
	api.Problem
	local bool
}

func (r refused) Error() string { return r.In("") }

func (r refused) In(l string) string {
	if l == "ko" {
		return clean(sentence(refusal.Code(r.Code), cmp.Or(r.Detail, r.Title)))
	}
	return clean(fmt.Sprintf("%s (%s)", strings.TrimSuffix(cmp.Or(r.Detail, r.Title), "."), r.Code))
}

// HintIn says what helps on the command line.
func (r refused) HintIn(lang string) string {
	l := language(lang)
	switch refusal.Code(r.Code) {
	case refusal.NotRunning:
		return l.pick("start it with `madang serve`, with the same --data", "같은 --data로 `madang serve`를 실행하세요")
	case refusal.KeyUnknown, refusal.CredentialsMissing, refusal.KeyWrongKind:
		return l.pick("`madang token admin --data DIR` on the node's machine makes a new administrator's token", "서버 컴퓨터에서 `madang token admin --data DIR`로 새 관리자 토큰을 만드세요")
	case refusal.Forbidden:
		if !r.local {
			return l.pick("use the administrator's token instead of a server key", "서버 키 대신 관리자 토큰을 쓰세요")
		}
	case refusal.NotFound:
		return l.pick("`madang project list` shows the projects, `madang channel list --project ID` the channels", "`madang project list`는 프로젝트를, `madang channel list --project ID`는 채널을 보여 줍니다")
	case refusal.ChannelNotFound:
		return l.pick("`madang channel list --project ID` shows the channels of a project; the default is home, whose channels the node's own pages use",
			"`madang channel list --project ID`는 프로젝트의 채널을 보여 줍니다. 기본값은 서버의 페이지가 쓰는 home입니다")
	case refusal.AddressForbidden:
		return l.pick("the key's list has to name this machine's address: `madang project key add PROJECT --cidr …`", "키의 목록에 이 컴퓨터의 주소가 있어야 합니다: `madang project key add PROJECT --cidr …`")
	case refusal.InvalidField:
		if r.Facts["field"] == "project" {
			return l.pick("name it with --project ID", "--project ID로 알려 주세요")
		}
	case refusal.RateLimited:
		return fmt.Sprintf(l.pick("wait %s", "%s 기다리세요"), (time.Duration(r.RetryAfterMS) * time.Millisecond).Round(time.Second))
	}
	return ""
}
