//go:build linux

package test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	"github.com/madang-rtc/madang/internal/lab"
)

// What an old client can expect is tested in internal/playrtc, with scripted ones. Here the program is asked whether all of it is connected: keys, switch, relay, script.

type playrtcToken struct {
	ChannelID string
	Token     struct{ TokenID string }
	Config    struct{ ChannelURL, NagRestURL string } `json:"configuration"`
	TURN      struct {
		Server struct{ TurnIP, TurnPort, TurnID, TurnPw string } `json:"turnserver"`
	}
	Nag   struct{ Data struct{ AuthToken string } }
	Error struct{ Code, Reason string }
}

// playrtcCall sends what a page sends.
func playrtcCall(t *testing.T, method, url, key, origin string) (token playrtcToken, h http.Header, status int) {
	t.Helper()
	res, answer := roundTrip(t, http.DefaultTransport.RoundTrip, method, url, strings.NewReader(`{"channel":{"channelName":"yard"},"env":{},"nag":{"userExpires":"86000"}}`),
		http.Header{"Tdcprojectkey": {key}, "Origin": {origin}, "Content-Type": {"application/json; charset=UTF-8"}})
	_ = json.Unmarshal(answer, &token) // the script is none
	if res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s %s: %d without Access-Control-Allow-Origin", method, url, res.StatusCode)
	}
	return token, res.Header, res.StatusCode
}

func TestPlayRTCClientsUseTheProgram(t *testing.T) {
	t.Parallel()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback, listenMetrics}})
	madang := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(within(t, patience), path, append(args, "--data", node.Data)...).Output()
		if err != nil {
			t.Fatalf("madang %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	base := node.HTTP + "/v3/playrtc"
	const shop = "https://shop.example.com"
	madang("project", "create", "shop")
	key := madang("project", "key", "add", "shop", "--browser", "--origin", shop)

	// The switch.
	if made, _, status := playrtcCall(t, "POST", base+"/channels/channel", key, shop); status != http.StatusForbidden || made.Error.Code != "40101" || made.Error.Reason != "playrtc_off" {
		t.Errorf("a project that does not accept PlayRTC answers %d %+v", status, made.Error)
	}
	if shown := madang("project", "set", "shop", "--playrtc"); !strings.Contains(shown, "every member may remove peers") {
		t.Errorf("madang project set --playrtc shows %s", shown)
	}
	if made, _, status := playrtcCall(t, "POST", base+"/channels/channel", key, "https://evil.example.com"); status != http.StatusForbidden || made.Error.Reason != "origin_forbidden" {
		t.Errorf("another page's origin: %d %+v", status, made.Error)
	}
	first, _, status := playrtcCall(t, "POST", base+"/channels/channel", key, shop)
	if status != http.StatusOK {
		t.Fatalf("create: %d %+v", status, first.Error)
	}
	second, _, status := playrtcCall(t, "PUT", base+"/channels/channel/"+first.ChannelID, key, shop)
	if status != http.StatusOK {
		t.Fatalf("connect: %d %+v", status, second.Error)
	}

	// The socket.
	connect := func(p playrtcToken) *websocket.Conn {
		conn, _, err := websocket.Dial(within(t, patience), p.Config.ChannelURL, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {shop}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		m, _ := json.Marshal(map[string]any{
			"header": map[string]any{"command": "connect", "commandType": "req", "token": p.Token.TokenID, "sender": map[string]any{"type": "peer", "id": "none"}},
			"body":   map[string]any{"data": map[string]any{"uid": "none", "channelId": p.ChannelID}},
		})
		if err := conn.Write(within(t, patience), websocket.MessageText, m); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	read := func(conn *websocket.Conn) string {
		_, b, err := conn.Read(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	a := connect(first)
	if m := read(a); !strings.Contains(m, `"code":"20001"`) || !strings.Contains(m, `"others":[]`) {
		t.Errorf("connect: %s", m)
	}
	b := connect(second)
	if m := read(b); !strings.Contains(m, first.Token.TokenID) {
		t.Errorf("connect: %s", m)
	}
	if m := read(a); !strings.Contains(m, `"on_connect"`) || !strings.Contains(m, second.Token.TokenID) {
		t.Errorf("on_connect: %s", m)
	}

	metrics, err := http.Get(node.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	numbers, err := io.ReadAll(metrics.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`madang_playrtc{what="sockets"} 2`, `madang_playrtc{what="channels"} 1`, `madang_playrtc{what="tokens"} 2`, `madang_peers{project="shop"} 2`} {
		if !strings.Contains(string(numbers), line+"\n") {
			t.Errorf("/metrics has no line %s", line)
		}
	}

	// The relay takes what R1 and nag give.
	res, err := http.Get(first.Config.NagRestURL + "/webrtcsignaling/v1/" + first.Token.TokenID + "/turnserver?authToken=" + first.Nag.Data.AuthToken)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var fresh struct{ Data json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&fresh); err != nil {
		t.Fatal(err)
	}
	nag := first
	if err := json.Unmarshal(fresh.Data, &nag.TURN); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]playrtcToken{"R1": first, "R2": second, "nag": nag} {
		s := p.TURN.Server
		if !relayed(within(t, patience), t, webrtc.ICEServer{URLs: []string{"turn:" + s.TurnIP + ":" + s.TurnPort}, Username: s.TurnID, Credential: s.TurnPw}) {
			t.Errorf("the credentials of %s get no relay", name)
		}
	}

	// A stopping node closes the sockets, and the next start knows the setting.
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if _, _, status := playrtcCall(t, "POST", node.HTTP+"/v3/playrtc/channels/channel", key, shop); status != http.StatusOK {
		t.Errorf("after a restart: %d", status)
	}
}

// relayed reports whether the server gives a relay candidate.
func relayed(ctx context.Context, t *testing.T, server webrtc.ICEServer) bool {
	t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{
		ICEServers: []webrtc.ICEServer{server}, ICETransportPolicy: webrtc.ICETransportPolicyRelay})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	found := make(chan bool, 1)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		select {
		case found <- c != nil && c.Typ == webrtc.ICECandidateTypeRelay:
		default:
		}
	})
	if _, err := pc.CreateDataChannel("x", nil); err != nil {
		t.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err == nil {
		err = pc.SetLocalDescription(offer)
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case ok := <-found:
		return ok
	case <-ctx.Done():
		return false
	}
}
