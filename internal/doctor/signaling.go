package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
	"github.com/madang-rtc/madang/internal/signalclient"
)

// An attempt is what came of joining once.
type attempt struct {
	ice       *signal.ICE // nil: not joined
	joinedAt  time.Time
	refused   *signalclient.Refused // the node's no
	refusedAt time.Time
}

// serverTimeMs is the node's clock, if the node has said it.
func (a attempt) serverTimeMs() (int64, bool) {
	if a.refused == nil {
		return 0, false
	}
	ms, ok := a.refused.Detail["serverTimeMs"].(float64)
	return int64(ms), ok
}

func (e *examination) checkWebSocket(ctx context.Context) []Result {
	var a attempt
	defer func() { e.websocket.keep(a) }()
	s := subject{id: "signal.websocket"}
	if r, ok := e.mayJoin(s); !ok {
		return []Result{r}
	}
	a, took, err := e.join(ctx, signalclient.WebSocket)
	if err == nil {
		return []Result{s.ok("joined and left over WebSocket; round trip %.1f ms", "WebSocket으로 참가하고 나왔습니다. 왕복 %.1f ms", milliseconds(took.round)).fact("roundTripMs", milliseconds(took.round))}
	}
	if a.refused != nil {
		return []Result{e.explainRefusal(s, a.refused)}
	}
	return []Result{s.fail("WebSocket does not get through: %s", "WebSocket이 통과하지 못합니다: %s", clip(why(err))).
		hint("", "a proxy in front must pass on Upgrade and Connection (nginx: proxy_http_version 1.1 and two proxy_set_header lines; docs/operations.md shows them). Clients fall back to SSE, if that works",
			"앞단 프록시가 Upgrade와 Connection 헤더를 넘겨야 합니다(nginx: proxy_http_version 1.1과 proxy_set_header 두 줄, docs/operations.md 참고). SSE가 되면 클라이언트는 그쪽을 씁니다")}
}

func (e *examination) checkSSE(ctx context.Context) []Result {
	var a attempt
	defer func() { e.sse.keep(a) }()
	s := subject{id: "signal.sse"}
	if r, ok := e.mayJoin(s); !ok {
		return []Result{r}
	}
	a, took, err := e.join(ctx, signalclient.SSE)
	const buffering = "turn buffering off for /v1/signal in the proxy in front (nginx: proxy_buffering off; the node's header X-Accel-Buffering: no says so too, if it is not ignored)"
	const bufferingKo = "앞단 프록시에서 /v1/signal의 버퍼링을 끄십시오(nginx: proxy_buffering off. 노드가 X-Accel-Buffering: no 헤더도 보내므로 무시하지 않게 하십시오)"
	switch {
	case err == nil && took.join > 2*time.Second:
		return []Result{s.warn("the event stream arrives late: joining took %.1f s", "이벤트 스트림이 늦게 도착합니다. 참가에 %.1f초가 걸렸습니다", took.join.Seconds()).hint("", buffering, bufferingKo)}
	case err == nil:
		return []Result{s.ok("joined and left over SSE and POST; round trip %.1f ms", "SSE와 POST로 참가하고 나왔습니다. 왕복 %.1f ms", milliseconds(took.round)).fact("roundTripMs", milliseconds(took.round))}
	case a.refused != nil:
		return []Result{e.explainRefusal(s, a.refused)}
	case timedOut(err):
		return []Result{s.fail("the event stream does not arrive within %.0f s: a proxy keeps it back", "이벤트 스트림이 %.0f초 안에 도착하지 않습니다. 프록시가 붙잡고 있습니다", signalTimeout.Seconds()).hint("", buffering, bufferingKo)}
	}
	return []Result{s.fail("signaling over SSE and POST does not get through: %s", "SSE와 POST 시그널링이 통과하지 못합니다: %s", clip(why(err))).
		hint("", "a proxy in front must pass POST /v1/signal on and keep its answer open", "앞단 프록시가 POST /v1/signal을 넘기고 응답을 열어 두어야 합니다")}
}

// mayJoin waits for what joining needs. The result is that of a check that cannot be made.
func (e *examination) mayJoin(s subject) (Result, bool) {
	if e.node.wait() == nil {
		return s.skip("not looked at: no node answers", "노드가 응답하지 않아 검사하지 않았습니다"), false
	}
	if e.cfg.Token != "" && !e.proven.wait() {
		return s.skip("not looked at: the token is not sent to a server that does not prove its name", "서버의 이름이 증명되지 않아 토큰을 보내지 않았습니다"), false
	}
	return Result{}, true
}

type times struct{ join, round time.Duration }

// join joins, measures a round trip, and leaves.
func (e *examination) join(ctx context.Context, transport string) (attempt, times, error) {
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	node := e.node.wait()
	client, closeIdle := e.client(node.at)
	defer closeIdle()
	j := signal.Join{Channel: cmp.Or(e.cfg.Channel, "doctor-"+rand.Text()), Name: "madang doctor", Token: e.cfg.Token}
	if j.Token == "" {
		j.Key = cmp.Or(e.cfg.Key, node.Key)
	}
	var a attempt
	var t times
	began := time.Now()
	first := make(chan signal.ServerMessage, 1)
	s, err := signalclient.Join(ctx, signalclient.Config{
		URL: e.base + "/v1/signal", Join: j, Transport: transport, HTTPClient: client,
		Header: http.Header{"Origin": {cmp.Or(e.cfg.Origin, node.Origin, e.base)}},
		OnMessage: func(m signal.ServerMessage) {
			select {
			case first <- m:
			default:
			}
		},
	})
	t.join = time.Since(began)
	if err != nil {
		if errors.As(err, &a.refused) {
			a.refusedAt = time.Now()
		}
		return a, t, err
	}
	defer s.Close()
	a.joinedAt = time.Now()
	a.ice = &signal.ICE{}
	if m, ok := (<-first).(*signal.Joined); ok { // Join calls OnMessage before it returns
		a.ice = &m.ICE
		for _, server := range m.ICE.Servers {
			e.hide(server.Username, server.Credential)
		}
		began = time.Now()
		if err := s.Call(ctx, &signal.ICERequest{}); err != nil {
			return a, t, err
		}
		t.round = time.Since(began)
	}
	return a, t, s.Leave(ctx)
}

// why is an error's text without the names of our packages.
func why(err error) string {
	text := err.Error()
	if timedOut(err) || strings.HasPrefix(text, "all retransmissions failed") { // pion/turn
		return "no answer in time"
	}
	if at := strings.LastIndex(text, "failed to WebSocket dial: "); at >= 0 {
		text = text[at+len("failed to WebSocket dial: "):]
	}
	return strings.TrimPrefix(text, "signalclient: ")
}

// explainRefusal says what helps against the node's no.
func (e *examination) explainRefusal(s subject, no *signalclient.Refused) Result {
	sentence := Text{En: strings.TrimSuffix(clip(no.Message), ".")}
	for _, entry := range refusal.Table() {
		if string(entry.Code) == no.Code {
			sentence.Ko = strings.TrimSuffix(entry.Ko, ".")
		}
	}
	r := s.fail("", "").fact("code", clip(no.Code))
	r.Message = Text{"the node refuses: " + sentence.En + " (" + clip(no.Code) + ")", "노드가 거절했습니다: " + cmp.Or(sentence.Ko, sentence.En) + " (" + clip(no.Code) + ")"}
	switch refusal.Code(no.Code) {
	case refusal.KeyUnknown:
		return r.hint("", "`madang project key list PROJECT` shows the keys of a project; give a browser key with --key", "`madang project key list PROJECT`로 프로젝트의 키를 확인하고 브라우저 키를 --key로 지정하십시오")
	case refusal.KeyWrongKind:
		return r.hint("", "give a browser key (mbk_…) with --key; server keys are for the REST API", "--key에는 브라우저 키(mbk_…)를 지정하십시오. 서버 키는 REST API용입니다")
	case refusal.KeyDevelopmentOnly:
		return r.hint("domain", "make a project and a key of its own: `madang project create NAME`, `madang project key add NAME --browser --origin URL`", "프로젝트와 키를 새로 만드십시오: `madang project create NAME`, `madang project key add NAME --browser --origin URL`")
	case refusal.KeyNeedsToken:
		return r.hint("", "give an access token: --token \"$(madang token create --channel NAME --project ID)\" --channel NAME", "액세스 토큰을 지정하십시오: --token \"$(madang token create --channel NAME --project ID)\" --channel NAME")
	case refusal.OriginForbidden:
		return r.hint("public-url", "for a key of your own pages say on which page it is used: --origin https://…; for the node's own pages, public-url (or domain) must be the address that people use", "직접 만든 페이지의 키라면 --origin https://…로 페이지 주소를 지정하십시오. 노드의 페이지라면 public-url(또는 domain)이 사용자가 쓰는 주소여야 합니다")
	case refusal.ProjectOff:
		return r.hint("", "`madang project on PROJECT` switches it on", "`madang project on PROJECT`로 켤 수 있습니다")
	case refusal.TokenExpired, refusal.TokenNotYetValid:
		return r.hint("", "make a new token; if it was just made, the clock of the machine that made it, or the node's, is wrong", "토큰을 새로 만드십시오. 방금 만든 토큰이라면 토큰을 만든 컴퓨터나 노드의 시계가 틀린 것입니다")
	case refusal.TokenForeign, refusal.TokenSignature:
		return r.hint("", "its iss must be the project's id, its kid one of `madang project secret list PROJECT`, and it must be signed with that secret", "iss는 프로젝트 id, kid는 `madang project secret list PROJECT`에 있는 것이어야 하고, 그 비밀로 서명해야 합니다")
	case refusal.TokenChannel, refusal.ChannelNotFound:
		return r.hint("", "name a channel that may be joined with --channel", "참가할 수 있는 채널을 --channel로 지정하십시오")
	case refusal.QuotaExceeded:
		return r.hint("", "`madang project show PROJECT` shows the project's quotas", "`madang project show PROJECT`로 프로젝트의 할당량을 확인하십시오")
	case refusal.RateLimited:
		return r.hint("trusted-proxies", "try again in a moment; behind a proxy, name it in trusted-proxies, or all clients count as one address", "잠시 뒤에 다시 해 보십시오. 프록시 뒤라면 trusted-proxies에 프록시를 적으십시오. 그러지 않으면 모든 클라이언트가 한 주소로 계산됩니다")
	case refusal.Storage:
		return r.hint("data", "look at the disk of the node's data directory", "노드의 데이터 디렉터리가 있는 디스크를 확인하십시오")
	}
	return r.hint("", "docs/protocol.md §8 explains the codes", "코드의 뜻은 docs/protocol.md §8에 있습니다")
}

// handedOut returns the ICE servers that the node has given at a join; nil if none was possible.
func (e *examination) handedOut() []signal.ICEServer {
	for _, a := range []attempt{e.websocket.wait(), e.sse.wait()} {
		if a.ice != nil && len(a.ice.Servers) > 0 {
			return a.ice.Servers
		}
	}
	return nil
}
