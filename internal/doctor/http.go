package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// nodeInfo is what a node says of itself at /v1/node, and how it was reached.
type nodeInfo struct {
	Key         string `json:"key"`
	Origin      string `json:"origin"`
	Development bool   `json:"development"`
	UDP         int    `json:"udp"`
	Version     string `json:"version"`

	at netip.AddrPort
	// What the answer's Date says, and how far the middle of the request was from it: positive if the other clock is ahead. The header has whole
	// seconds (RFC 9110 §5.6.7), so the middle of that second is taken.
	dated bool
	skew  time.Duration
}

type answer struct {
	status int
	header http.Header
	body   string
	sent   time.Time
	took   time.Duration
}

func (e *examination) get(ctx context.Context, at netip.AddrPort, path string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	client, closeIdle := e.client(at)
	defer closeIdle()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+path, nil)
	if err != nil {
		return answer{}, err
	}
	sent := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	took := time.Since(sent)
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return answer{res.StatusCode, res.Header, strings.TrimSpace(string(body)), sent, took}, err
}

// checkHTTP asks whether a node answers (on each address), whether it takes new work, and what it is.
func (e *examination) checkHTTP(ctx context.Context) []Result {
	var node *nodeInfo
	defer func() { e.node.keep(node) }()
	reached := e.reached.wait()
	if len(reached) == 0 {
		return []Result{subject{id: "http"}.skip("not looked at: no connection", "접속할 수 없어 검사하지 않았습니다")}
	}
	type found struct {
		Result
		ok bool
	}
	var results []Result
	var at netip.AddrPort
	for i, f := range each(reached, func(at netip.AddrPort) found {
		r, ok := e.healthz(ctx, subject{"http", at.String()}, at)
		return found{r, ok}
	}) {
		results = append(results, f.Result)
		if f.ok && !at.IsValid() {
			at = reached[i]
		}
	}
	if !at.IsValid() {
		return results
	}
	ready, about := subject{id: "ready"}, subject{id: "node"}
	if a, err := e.get(ctx, at, "/readyz"); err != nil {
		results = append(results, ready.fail("/readyz does not answer: %s", "/readyz가 응답하지 않습니다: %s", reason(err)).hint("", "see the node's log", "노드의 로그를 보십시오"))
	} else if a.status == http.StatusOK {
		results = append(results, ready.ok("the node takes new work", "노드가 새 요청을 받고 있습니다"))
	} else if a.body == "draining" {
		results = append(results, ready.fail("the node is about to stop", "노드가 곧 종료됩니다").hint("drain-timeout", "wait for its restart", "다시 시작될 때까지 기다리십시오"))
	} else {
		results = append(results, ready.fail("the node is not ready: %s", "노드가 준비되지 않았습니다: %s", clip(a.body)).
			hint("data", "look at the disk of its data directory: full, or not writable for its user; its log says more", "데이터 디렉터리의 디스크가 가득 찼거나 쓰기 권한이 없는지 확인하십시오. 자세한 내용은 노드의 로그에 있습니다"))
	}
	var info nodeInfo
	a, err := e.get(ctx, at, "/v1/node")
	if err != nil || a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &info) != nil || info.Key == "" {
		return append(results, about.fail("/v1/node does not say what this node is", "/v1/node에서 노드 정보를 읽을 수 없습니다").
			hint("", "a proxy in front must pass all paths to the node", "앞단 프록시가 모든 경로를 노드로 넘겨야 합니다"))
	}
	info.at = at
	if date, err := http.ParseTime(a.header.Get("Date")); err == nil {
		info.dated = true
		info.skew = date.Add(500 * time.Millisecond).Sub(a.sent.Add(a.took / 2))
	}
	node = &info
	r := about.ok("Madang %s, for the public", "Madang %s, 공개 서비스 모드", clip(info.Version))
	if info.Development {
		r = about.ok("Madang %s, in development mode", "Madang %s, 개발 모드", clip(info.Version))
		if !private(at.Addr()) {
			r = about.warn("the node is reached at a public address, but runs in development mode: the sandbox key works for everybody", "공인 주소로 접속되지만 개발 모드입니다. 누구나 샌드박스 키를 쓸 수 있습니다").
				hint("domain", "set domain to the node's name; behind a proxy set public-url to the https address that people use", "domain을 노드의 이름으로 설정하십시오. 프록시 뒤에서는 public-url을 사용자가 쓰는 https 주소로 설정하십시오")
		}
	}
	results = append(results, r.fact("version", clip(info.Version)).fact("development", info.Development))
	if o := info.Origin; o != "" && o != e.base {
		results = append(results, subject{id: "origin"}.warn("the node's pages are meant to be reached at %s, not at %s", "노드의 페이지 주소는 %s(으)로 설정되어 있으며 %s이(가) 아닙니다", clip(o), e.base).
			hint("public-url", "set public-url to the address that people use, or look at that one: madang doctor %s", "public-url을 사용자가 쓰는 주소로 설정하거나, 그 주소를 검사하십시오: madang doctor %s", clip(o)))
	}
	return results
}

func (e *examination) healthz(ctx context.Context, s subject, at netip.AddrPort) (Result, bool) {
	a, err := e.get(ctx, at, "/healthz")
	switch {
	case err != nil && timedOut(err):
		return s.fail("%s accepts connections but does not answer", "%s: 접속은 되지만 응답이 없습니다", at).
			hint("", "the node hangs, or a proxy cannot reach it: see their logs", "노드가 멈췄거나 프록시가 노드에 접속하지 못합니다. 로그를 보십시오"), false
	case err != nil:
		return s.fail("%s does not speak HTTP: %s", "%s: HTTP로 통신할 수 없습니다: %s", at, reason(err)).
			hint("listen", "does another program have this port? The node's key listen says which is its own; https needs an https URL", "다른 프로그램이 이 포트를 쓰고 있습니까? 노드의 포트는 listen 설정에 있습니다. https 포트라면 https 주소를 쓰십시오"), false
	case a.status == http.StatusOK && a.body == "ok":
		return s.ok("/healthz answers in %.1f ms", "/healthz가 %.1f ms 만에 응답합니다", milliseconds(a.took)).fact("ms", milliseconds(a.took)), true
	case a.status >= 300 && a.status < 400:
		to := e.base
		if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
			to = u.Scheme + "://" + u.Host
		}
		return s.fail("%s sends browsers on to %s", "%s: 브라우저를 %s(으)로 보냅니다", at, clip(to)).
			hint("", "look at that address: madang doctor %s", "그 주소를 검사하십시오: madang doctor %s", clip(to)), false
	case a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout || a.status == http.StatusServiceUnavailable:
		return s.fail("a proxy answers with HTTP %d: it does not reach the node", "프록시가 HTTP %d(으)로 답합니다. 노드에 접속하지 못하고 있습니다", a.status).
			hint("listen", "is the node running, and does the proxy pass to the address of its key listen?", "노드가 실행 중인지, 프록시가 listen 설정의 주소로 넘기는지 확인하십시오").fact("status", a.status), false
	default:
		return s.fail("HTTP %d at /healthz: this is not a Madang node", "/healthz가 HTTP %d: Madang 노드가 아닙니다", a.status).
			hint("listen", "another program answers here, or a proxy does not pass this path; the node's key listen says at which port it is", "다른 프로그램이 응답하고 있거나 프록시가 이 경로를 넘기지 않습니다. 노드의 포트는 listen 설정에 있습니다").fact("status", a.status), false
	}
}

// clip keeps what others say to a line's length, without control characters.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > 200 {
		return string(runes[:200]) + "…"
	}
	return s
}

// Above these the clocks of two machines are said to differ: tokens are accepted 30 seconds around their times, and TURN credentials live for an hour.
const (
	skewWarn = 5 * time.Second
	skewFail = 60 * time.Second
)

// checkClock compares clocks. A node that has refused a token for its times has said exactly what its clock is; else the Date of an answer must do, which
// is a proxy's where one stands in front.
func (e *examination) checkClock(context.Context) []Result {
	s := subject{id: "clock"}
	node := e.node.wait()
	if node == nil {
		return []Result{s.skip("not looked at: no answer", "응답이 없어 검사하지 않았습니다")}
	}
	source, skew, known := text("the Date of its answers", "응답의 Date 헤더"), node.skew, node.dated
	for _, a := range []attempt{e.websocket.wait(), e.sse.wait()} {
		if ms, ok := a.serverTimeMs(); ok {
			source, skew, known = text("the node itself", "노드가 알려 준 시각"), time.UnixMilli(ms).Sub(a.refusedAt), true
		}
		// Credentials that have ended already by this clock, or end later than any can, show a wrong clock behind a proxy with a right one.
		if a.ice != nil && a.ice.ExpiresAtMs > 0 {
			left := time.UnixMilli(a.ice.ExpiresAtMs).Sub(a.joinedAt)
			if left < 0 || left > longestCredentials {
				return []Result{s.fail("the node's clock differs from this machine's by an hour or more: its TURN credentials, just made, end in %s", "노드와 이 컴퓨터의 시계가 한 시간 이상 다릅니다. 방금 만든 TURN 자격 증명의 남은 시간이 %s입니다", left.Round(time.Second)).
					hint("", "set the clock of the machine that is wrong, and keep it so: NTP (systemd-timesyncd, chrony)", "틀린 쪽의 시계를 맞추고 NTP(systemd-timesyncd, chrony)를 켜십시오")}
			}
		}
	}
	if !known {
		return []Result{s.skip("the answers have no Date", "응답에 Date 헤더가 없습니다")}
	}
	seconds := skew.Round(100 * time.Millisecond).Seconds()
	r := s.ok("the clocks agree within %.0f s", "시계 차이가 %.0f초 이내입니다", max(1, skew.Abs().Seconds()))
	if skew.Abs() > skewWarn {
		status := Warn
		if skew.Abs() > skewFail {
			status = Fail
		}
		where := text("ahead of", "빠릅니다")
		if skew < 0 {
			where = text("behind", "늦습니다")
		}
		r = Result{ID: s.id, Status: status, Message: Text{
			fmt.Sprintf("the node's clock is %s %s this machine's, says %s", skew.Abs().Round(time.Second), where.En, source.En),
			fmt.Sprintf("노드의 시계가 이 컴퓨터보다 %s %s (%s 기준)", skew.Abs().Round(time.Second), where.Ko, source.Ko),
		}}.hint("", "set the clock of the machine that is wrong, and keep it so: NTP (systemd-timesyncd, chrony). Tokens and TURN credentials are refused otherwise",
			"틀린 쪽의 시계를 맞추고 NTP(systemd-timesyncd, chrony)를 켜십시오. 그러지 않으면 토큰과 TURN 자격 증명이 거절됩니다")
	}
	return []Result{r.fact("skewSeconds", seconds)}
}

// longestCredentials is the longest time for which a relay makes credentials.
const longestCredentials = 48 * time.Hour
