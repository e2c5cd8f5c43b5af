package signal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/signal"
)

const instance = "0123456789abcdefghijkl"

// clientMessages are all that a client can say, as bytes and as Go.
var clientMessages = []struct {
	text  string
	seq   uint64
	reply bool
	want  signal.ClientMessage
}{
	{`{"type":"join","version":1,"channel":"demo","key":"60ba608a","instance":"` + instance + `","name":"Mina","info":{"a":"<&>"},"media":{"audio":"on"},"ring":true}`, 0, false,
		&signal.Join{Version: 1, Channel: "demo", Key: "60ba608a", Instance: instance, Name: "Mina", Info: raw(`{"a":"<&>"}`), Media: &signal.Media{Audio: "on"}, Ring: true}},
	{`{"type":"join","version":1,"channel":"demo","token":"a.b.c","uid":"u1","role":"viewer"}`, 0, false,
		&signal.Join{Version: 1, Channel: "demo", Token: "a.b.c", UID: "u1", Role: "viewer"}},
	{`{"type":"resume","peer":"p3k","secret":"s","received":17}`, 0, false, &signal.Resume{Peer: "p3k", Secret: "s", Received: 17}},
	{`{"type":"ping","t":1.5e3,"ack":17}`, 0, false, &signal.Ping{T: raw(`1.5e3`), Ack: 17}},
	{`{"type":"ack","seq":32}`, 0, false, &signal.Ack{Seq: 32}},
	{`{"type":"leave"}`, 0, false, &signal.Leave{}},
	{`{"type":"signal","seq":1,"to":"p9","data":{"x":[1, 2]}}`, 1, false, &signal.Signal{To: "p9", Data: raw(`{"x":[1, 2]}`)}},
	{`{"type":"signal","seq":2,"to":"p9","data":null}`, 2, false, &signal.Signal{To: "p9", Data: raw(`null`)}},
	{`{"type":"command","seq":3,"reply":true,"name":"madang.chat","data":{"text":"안녕"}}`, 3, true, &signal.Command{Name: "madang.chat", Data: raw(`{"text":"안녕"}`)}},
	{`{"type":"command","seq":4,"to":["p1","p2"],"name":"x"}`, 4, false, &signal.Command{To: []string{"p1", "p2"}, Name: "x"}},
	{`{"type":"command","seq":4,"to":[],"name":"x"}`, 4, false, &signal.Command{To: []string{}, Name: "x"}},
	{`{"type":"update","seq":5,"name":"","info":null,"media":{"video":"muted"}}`, 5, false, &signal.Update{Name: new(""), Info: raw(`null`), Media: &signal.Media{Video: "muted"}}},
	{`{"type":"update","seq":6}`, 6, false, &signal.Update{}},
	{`{"type":"accept","seq":7,"peer":"p1"}`, 7, false, &signal.Accept{Peer: "p1"}},
	{`{"type":"reject","seq":8,"peer":"p1","reason":"busy"}`, 8, false, &signal.Reject{Peer: "p1", Reason: "busy"}},
	{`{"type":"kick","seq":9,"peer":"p1","reason":"why","banMs":0}`, 9, false, &signal.Kick{Peer: "p1", Reason: "why", BanMs: new(int64(0))}},
	{`{"type":"set-role","seq":10,"peer":"p1","role":"host"}`, 10, false, &signal.SetRole{Peer: "p1", Role: "host"}},
	{`{"type":"configure","seq":11,"locked":false,"waitingRoom":true,"capacity":2}`, 11, false, &signal.Configure{Locked: new(false), WaitingRoom: new(true), Capacity: new(2)}},
	{`{"type":"ice","seq":12}`, 12, false, &signal.ICERequest{}},
}

var (
	peer     = signal.Peer{ID: "p9d", UID: "u2", Name: "Jun", Role: "host", Media: signal.Media{Audio: "on", Video: "on", Screen: "off"}, Polite: true}
	peerText = `{"id":"p9d","uid":"u2","name":"Jun","role":"host","info":null,"media":{"audio":"on","video":"on","screen":"off"},"polite":true,"offer":false}`
	settings = signal.Settings{ID: "demo", Capacity: 50}
	ice      = signal.ICE{Servers: []signal.ICEServer{{URLs: []string{"turn:h:1"}, Username: "u", Credential: "c"}}, ExpiresAtMs: 1}
	iceText  = `{"servers":[{"urls":["turn:h:1"],"username":"u","credential":"c"}],"expiresAtMs":1}`
	no       = signal.Reason{Code: "kicked", Message: "Why.", Retry: "later", RetryAfterMs: 5, Detail: map[string]any{"reason": "<b>"}}
	noText   = `"code":"kicked","message":"Why.","retry":"later","retryAfterMs":5,"detail":{"reason":"<b>"}`
)

// serverMessages are all that a server can say.
var serverMessages = []struct {
	text string
	seq  uint64
	want signal.ServerMessage
}{
	{`{"type":"link","link":"l1"}`, 0, &signal.Link{Link: "l1"}},
	{`{"type":"joined","peer":"p3k","uid":"u1","role":"speaker","channel":{"id":"demo","locked":false,"waitingRoom":false,"capacity":50},"peers":[` + peerText +
		`],"ice":` + iceText + `,"resume":{"secret":"s","windowMs":60000},"pingMs":15000}`, 0,
		&signal.Joined{Peer: "p3k", UID: "u1", Role: "speaker", Channel: settings, Peers: []signal.Peer{peer}, ICE: ice, Resume: signal.ResumeInfo{Secret: "s", WindowMs: 60000}, PingMs: 15000}},
	{`{"type":"pending","reason":"ring","peer":"p3k","uid":"","resume":{"secret":"s","windowMs":1},"pingMs":2}`, 0,
		&signal.Pending{Reason: "ring", Peer: "p3k", Resume: signal.ResumeInfo{Secret: "s", WindowMs: 1}, PingMs: 2}},
	{`{"type":"resumed","secret":"s2","received":5}`, 0, &signal.Resumed{Secret: "s2", Received: 5}},
	{`{"type":"pong","t":123,"ack":5}`, 0, &signal.Pong{T: raw(`123`), Ack: 5}},
	{`{"type":"pong","ack":5}`, 0, &signal.Pong{Ack: 5}},
	{`{"type":"ack","seq":32}`, 0, &signal.Ack{Seq: 32}},
	{`{"type":"bye",` + noText + `}`, 0, &signal.Bye{Reason: no}},
	{`{"type":"admitted","seq":1,"role":"viewer","channel":{"id":"demo","locked":false,"waitingRoom":false,"capacity":50},"peers":[],"ice":` + iceText + `}`, 1,
		&signal.Admitted{Role: "viewer", Channel: settings, Peers: []signal.Peer{}, ICE: ice}},
	{`{"type":"peer-joined","seq":2,"peer":` + peerText + `}`, 2, &signal.PeerJoined{Peer: peer}},
	{`{"type":"peer-left","seq":3,"peer":"p9d","reason":"lost"}`, 3, &signal.PeerLeft{Peer: "p9d", Reason: "lost"}},
	{`{"type":"peer-updated","seq":4,"peer":{"id":"p9d","name":"J","role":"host","info":{"a":"<"},"media":{"audio":"off"}}}`, 4,
		&signal.PeerUpdated{Peer: signal.PeerChange{ID: "p9d", Name: new("J"), Role: new("host"), Info: raw(`{"a":"<"}`), Media: &signal.Media{Audio: "off"}}}},
	{`{"type":"signal","seq":5,"from":"p9d","data":{"a": 1}}`, 5, &signal.FromSignal{From: "p9d", Data: raw(`{"a": 1}`)}},
	{`{"type":"command","seq":6,"from":"p9d","name":"x","data":null,"to":["p1","p2"]}`, 6, &signal.FromCommand{From: "p9d", Name: "x", Data: raw(`null`), To: []string{"p1", "p2"}}},
	{`{"type":"command","seq":7,"name":"x","data":1}`, 7, &signal.FromCommand{Name: "x", Data: raw(`1`)}},
	{`{"type":"ring","seq":8,"peer":` + peerText + `,"reason":"waiting_room"}`, 8, &signal.Ring{Peer: peer, Reason: "waiting_room"}},
	{`{"type":"ring-ended","seq":9,"peer":"p9d","reason":"busy"}`, 9, &signal.RingEnded{Peer: "p9d", Reason: "busy"}},
	{`{"type":"channel","seq":10,"channel":{"id":"demo","locked":false,"waitingRoom":false,"capacity":50}}`, 10, &signal.ChannelSettings{Channel: settings}},
	{`{"type":"ice","seq":11,"ice":` + iceText + `}`, 11, &signal.ICEServers{ICE: ice}},
	{`{"type":"ok","seq":12,"re":5}`, 12, &signal.OK{Re: 5}},
	{`{"type":"error","seq":13,"re":5,` + noText + `}`, 13, &signal.Error{Re: 5, Reason: no}},
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestClientMessagesBothWays(t *testing.T) {
	for _, c := range clientMessages {
		e, err := signal.ParseClient([]byte(c.text))
		if err != nil || e.Seq != c.seq || e.Reply != c.reply || !reflect.DeepEqual(e.Message, c.want) {
			t.Errorf("%s: got %+v (%+v), %v", c.text, e, e.Message, err)
		}
		if out, err := signal.AppendClient([]byte("before"), c.want, c.seq, c.reply); err != nil || string(out) != "before"+c.text {
			t.Errorf("got  %s (%v)\nwant %s", out, err, c.text)
		}
	}
}

func TestServerMessagesBothWays(t *testing.T) {
	for _, c := range serverMessages {
		want := c.want
		m, seq, err := signal.ParseServer([]byte(c.text))
		if err != nil || seq != c.seq || !equalJSON(m, want) || reflect.TypeOf(m) != reflect.TypeOf(want) {
			t.Errorf("%s: got %+v, %d, %v", c.text, m, seq, err)
		}
		if out, err := signal.AppendServer([]byte("before"), want, c.seq); err != nil || string(out) != "before"+c.text {
			t.Errorf("got  %s (%v)\nwant %s", out, err, c.text)
		}
	}
}

// equalJSON: nil raw JSON and null are the same.
func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

const protocolFile = "../../docs/protocol.md"

// The document and this package name the same messages, and number the same ones.
func TestEveryMessageOfTheDocumentIsKnown(t *testing.T) {
	doc, err := os.ReadFile(protocolFile)
	if err != nil {
		t.Fatal(err)
	}
	section := func(from, to string) string {
		_, rest, ok1 := strings.Cut(string(doc), from)
		part, _, ok2 := strings.Cut(rest, to)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no part %q to %q", protocolFile, from, to)
		}
		return part
	}
	row := regexp.MustCompile("(?m)^\\| (`[a-z-]+`(?:, `[a-z-]+`)*) \\| (yes|no) \\|")
	documented := func(part string) map[string]bool {
		types := map[string]bool{}
		for _, m := range row.FindAllStringSubmatch(part, -1) {
			for name := range strings.SplitSeq(m[1], ", ") {
				types[strings.Trim(name, "`")] = m[2] == "yes"
			}
		}
		return types
	}
	client, server := map[string]bool{}, map[string]bool{}
	for _, c := range clientMessages {
		name, numbered := c.want.ClientType()
		client[name] = numbered
	}
	for _, s := range serverMessages {
		name, numbered := s.want.ServerType()
		server[name] = numbered
	}
	if got := documented(section("### From the client", "### From the server")); !reflect.DeepEqual(got, client) {
		t.Errorf("the document has %v\nthe package has  %v", got, client)
	}
	if got := documented(section("### From the server", "## 6.")); !reflect.DeepEqual(got, server) {
		t.Errorf("the document has %v\nthe package has  %v", got, server)
	}
}

// The examples of the document are messages of this package, and come out as they went in.
func TestExamplesOfTheDocument(t *testing.T) {
	doc, err := os.ReadFile(protocolFile)
	if err != nil {
		t.Fatal(err)
	}
	fromClient := []string{"join", "resume", "ping"}
	seen := 0
	for _, at := range regexp.MustCompile(`\{"type":"`).FindAllIndex(doc, -1) {
		d := json.NewDecoder(bytes.NewReader(doc[at[0]:]))
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			if strings.HasPrefix(string(doc[at[0]:]), `{"type":"offer"|`) {
				continue // a description of an object, not a message
			}
			t.Errorf("%.40q: %v", doc[at[0]:], err)
			continue
		}
		seen++
		text = bytes.Replace(text, []byte("kX0…"), []byte(instance), 1)
		var out []byte
		var head struct{ Type string }
		if err := json.Unmarshal(text, &head); err != nil {
			t.Error(err)
		}
		if slices.Contains(fromClient, head.Type) {
			e, err := signal.ParseClient(text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			out, err = signal.AppendClient(nil, e.Message, e.Seq, e.Reply)
			if err != nil {
				t.Error(err)
			}
		} else {
			m, seq, err := signal.ParseServer(text)
			if err != nil || m == nil {
				t.Errorf("%s: %v, %v", text, m, err)
				continue
			}
			if out, err = signal.AppendServer(nil, m, seq); err != nil {
				t.Error(err)
			}
		}
		var got, want map[string]any
		if json.Unmarshal(out, &got) != nil || json.Unmarshal(text, &want) != nil {
			t.Errorf("%s becomes %s", text, out)
		}
		for k, v := range want { // what an example leaves out may be written
			if !reflect.DeepEqual(got[k], v) {
				t.Errorf("%s of %s becomes %s", k, text, out)
			}
		}
	}
	if seen < 8 {
		t.Errorf("found %d examples", seen)
	}
}

func TestRefusedClientMessages(t *testing.T) {
	join := func(more string) string { return `{"type":"join","version":1,"channel":"demo"` + more + `}` }
	for _, c := range []struct {
		text string
		code refusal.Code
		seq  uint64 // that the refusal is about
	}{
		{``, refusal.Malformed, 0},
		{`[]`, refusal.Malformed, 0},
		{`{}`, refusal.Malformed, 0},
		{`{"type":1}`, refusal.Malformed, 0},
		{`{"type":null}`, refusal.Malformed, 0},
		{`{"Type":"leave"}`, refusal.Malformed, 0},
		{`{"type":"leave","type":"leave"}`, refusal.Malformed, 0},
		{"{\"type\":\"leave\",\"x\":\"\xff\"}", refusal.Malformed, 0},
		{`{"type":"` + strings.Repeat("x", 129) + `"}`, refusal.Malformed, 0},
		{`{"type":"leave","x":"` + strings.Repeat("x", signal.MaxMessage) + `"}`, refusal.MessageTooBig, 0},
		{`{"type":"dance","seq":3}`, refusal.UnknownType, 3},
		{`{"type":"dance"}`, refusal.UnknownType, 0},
		{`{"type":"joined"}`, refusal.UnknownType, 0},
		{`{"type":"dance","seq":-3}`, refusal.Malformed, 0},
		{`{"type":"ice"}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":0}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":1.0}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":1e3}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":9007199254740992}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":18446744073709551617}`, refusal.Malformed, 0},
		{`{"type":"ice","seq":1,"reply":1}`, refusal.Malformed, 0},
		{`{"type":"join","version":2,"channel":"demo"}`, refusal.VersionUnsupported, 0},
		{`{"type":"join","channel":"demo"}`, refusal.VersionUnsupported, 0},
		{`{"type":"join","version":"1","channel":"demo"}`, refusal.InvalidField, 0},
		{`{"type":"join","version":1}`, refusal.InvalidField, 0},
		{`{"type":"join","version":1,"channel":"a/b"}`, refusal.InvalidField, 0},
		{`{"type":"join","version":1,"channel":"` + strings.Repeat("x", 65) + `"}`, refusal.InvalidField, 0},
		{`{"type":"join","version":1,"channel":"마당"}`, refusal.InvalidField, 0},
		{join(`,"instance":"short"`), refusal.InvalidField, 0},
		{join(`,"instance":"` + instance + `="`), refusal.InvalidField, 0},
		{join(`,"role":"god"`), refusal.InvalidField, 0},
		{join(`,"name":"a\u0007"`), refusal.InvalidField, 0},
		{join(`,"name":["x"]`), refusal.InvalidField, 0},
		{join(`,"uid":"` + strings.Repeat("x", 129) + `"`), refusal.InvalidField, 0},
		{join(`,"token":"` + strings.Repeat("x", signal.MaxToken+1) + `"`), refusal.InvalidField, 0},
		{join(`,"info":"` + strings.Repeat("x", signal.MaxInfo) + `"`), refusal.InvalidField, 0},
		{join(`,"media":{"audio":"loud"}`), refusal.InvalidField, 0},
		{join(`,"media":{"audio":true}`), refusal.InvalidField, 0},
		{join(`,"media":{"audio":"on","audio":"off"}`), refusal.InvalidField, 0},
		{join(`,"media":["on"]`), refusal.InvalidField, 0},
		{join(`,"ring":"true"`), refusal.InvalidField, 0},
		{`{"type":"resume","secret":"s"}`, refusal.InvalidField, 0},
		{`{"type":"resume","peer":"p","secret":"s","received":-1}`, refusal.InvalidField, 0},
		{`{"type":"ping","t":"1"}`, refusal.InvalidField, 0},
		{`{"type":"ping","t":` + strings.Repeat("1", 33) + `}`, refusal.InvalidField, 0},
		{`{"type":"ack","seq":true}`, refusal.InvalidField, 0},
		{`{"type":"signal","seq":5,"data":1}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5,"name":"` + strings.Repeat("마", 65) + `"}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5,"name":"x","to":[null]}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5,"name":"x","to":[1]}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5,"name":"x","to":{"0":"p"}}`, refusal.InvalidField, 5},
		{`{"type":"command","seq":5,"name":"x","to":[` + strings.Repeat(`"a",`, signal.MaxCapacity) + `"a"]}`, refusal.InvalidField, 5},
		{`{"type":"reject","seq":5,"peer":"p","reason":"tired"}`, refusal.InvalidField, 5},
		{`{"type":"kick","seq":5,"peer":"p","banMs":86400001}`, refusal.InvalidField, 5},
		{`{"type":"set-role","seq":5,"peer":"p"}`, refusal.InvalidField, 5},
		{`{"type":"configure","seq":5,"capacity":1001}`, refusal.InvalidField, 5},
		{`{"type":"configure","seq":5,"locked":null,"capacity":0}`, refusal.InvalidField, 5},
	} {
		e, err := signal.ParseClient([]byte(c.text))
		if !errors.Is(err, refusal.New(c.code)) || e.Seq != c.seq || e.Message != nil {
			t.Errorf("%.100s: got %+v, %v, want %s about %d", c.text, e, err, c.code, c.seq)
		}
	}
}

// Media is read as the rest of a message is: members by their exact names, unknown ones ignored.
func TestMediaMembersHaveExactNames(t *testing.T) {
	e, err := signal.ParseClient([]byte(`{"type":"update","seq":1,"media":{"AUDIO":"loud","audio":"on","screen":null,"smell":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := *e.Message.(*signal.Update).Media; got != (signal.Media{Audio: "on"}) {
		t.Errorf("got %+v", got)
	}
}

func TestInfoAtItsLimitPassesTheGoClient(t *testing.T) {
	info := raw(`"` + strings.Repeat("<", signal.MaxInfo-2) + `"`)
	text, err := signal.AppendClient(nil, &signal.Join{Version: 1, Channel: "demo", Info: info}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	e, err := signal.ParseClient(text)
	if err != nil || !bytes.Equal(e.Message.(*signal.Join).Info, info) {
		t.Errorf("got %v", err)
	}
}

func TestServerMessagesThatNobodyShouldSend(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"type":1}`, `{"type":"ok","re":1}`, `{"type":"link","seq":1,"link":"x"}`, `{"type":"ok","seq":-1}`, `{"type":"joined","peers":{}}`} {
		if m, _, err := signal.ParseServer([]byte(text)); err == nil {
			t.Errorf("%s: got %+v", text, m)
		}
	}
	for text, want := range map[string]uint64{`{"type":"dance"}`: 0, `{"type":"dance","seq":7,"x":{}}`: 7, `{}`: 0} {
		if m, seq, err := signal.ParseServer([]byte(text)); m != nil || seq != want || err != nil {
			t.Errorf("%s: got %+v, %d, %v: unknown types are ignored, but counted", text, m, seq, err)
		}
	}
}

func TestBatches(t *testing.T) {
	for _, c := range []struct {
		text, link string
		messages   []string
	}{
		{`{"messages":[]}`, "", nil},
		{`{"messages":[{"type":"leave"}]}`, "", []string{`{"type":"leave"}`}},
		{` {"link":"l1","messages":[ {"a":[1,2]} , 3,"x" ],"more":1} `, "l1", []string{`{"a":[1,2]}`, `3`, `"x"`}},
	} {
		b, err := signal.ParseBatch([]byte(c.text))
		if err != nil || b.Link != c.link || len(b.Messages) != len(c.messages) {
			t.Errorf("%s: got %+v, %v", c.text, b, err)
			continue
		}
		for i, m := range b.Messages {
			if string(m) != c.messages[i] {
				t.Errorf("%s: got %s, want %s", c.text, m, c.messages[i])
			}
		}
	}
	for _, text := range []string{``, `[]`, `{}`, `{"messages":{}}`, `{"messages":null}`, `{"link":1,"messages":[]}`, `{"messages":[1,]}`, `{"messages":[1 2]}`,
		`{"messages":[]}x`, `{"messages":[],"messages":[]}`, `{"link":"` + strings.Repeat("x", 129) + `","messages":[]}`, `{"messages":[` + strings.Repeat("0,", 400) + `0]}`} {
		if b, err := signal.ParseBatch([]byte(text)); !errors.Is(err, refusal.New(refusal.Malformed)) {
			t.Errorf("%.60s: got %+v, %v", text, b, err)
		}
	}
}

// A message that a WebSocket link takes, a POST takes as well.
func TestDeepestMessageFitsIntoABatch(t *testing.T) {
	for depth := 28; depth < 36; depth++ {
		m := []byte(`{"type":"command","seq":1,"name":"x","data":` + strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth) + `}`)
		_, alone := signal.ParseClient(m)
		b, err := signal.ParseBatch(signal.AppendBatch(nil, "l", m))
		if err == nil {
			_, err = signal.ParseClient(b.Messages[0])
		}
		if (alone == nil) != (err == nil) {
			t.Errorf("depth %d: alone %v, in a batch %v", depth, alone, err)
		}
	}
}

func FuzzParseClient(f *testing.F) {
	for _, c := range clientMessages {
		f.Add([]byte(c.text))
	}
	f.Add([]byte(`{"type":"command","seq":9007199254740991,"name":"\ud800","to":["b","a","a"],"reply":true}`))
	f.Add([]byte(`{"type":"dance","seq":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := signal.ParseClient(data)
		if err != nil {
			r := &refusal.Refusal{}
			if !errors.As(err, &r) || e.Message != nil {
				t.Fatalf("%q: got %+v, %v", data, e, err)
			}
			if e.Seq > 0 && r.Code != refusal.InvalidField && r.Code != refusal.UnknownType {
				t.Errorf("%q: %s names the message %d", data, r.Code, e.Seq)
			}
			return
		}
		_, numbered := e.Message.ClientType()
		if !json.Valid(data) || !utf8.Valid(data) || numbered != (e.Seq > 0) {
			t.Fatalf("%q is taken for %+v", data, e)
		}
		// What is read can be written, and is read the same again.
		out, err := signal.AppendClient(nil, e.Message, e.Seq, e.Reply)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > signal.MaxMessage {
			return // other escapes than the sender's
		}
		again, err := signal.ParseClient(out)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", data, out, err)
		}
		twice, err := signal.AppendClient(nil, again.Message, again.Seq, again.Reply)
		if err != nil || !bytes.Equal(out, twice) {
			t.Errorf("%q becomes %q, and then %q (%v)", data, out, twice, err)
		}
		if b, err := signal.ParseBatch(signal.AppendBatch(nil, "", data)); err != nil || len(b.Messages) != 1 || !bytes.Equal(b.Messages[0], bytes.Trim(data, " \t\r\n")) {
			t.Errorf("%q does not pass a POST: %q, %v", data, b.Messages, err)
		}
	})
}

func FuzzParseServer(f *testing.F) {
	for _, c := range serverMessages {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, seq, err := signal.ParseServer(data)
		if err != nil || m == nil {
			return
		}
		out, err := signal.AppendServer(nil, m, seq)
		if err != nil {
			t.Fatal(err)
		}
		again, seq2, err := signal.ParseServer(out)
		if err != nil || seq2 != seq || reflect.TypeOf(again) != reflect.TypeOf(m) {
			t.Fatalf("%q becomes %q: %+v, %d, %v", data, out, again, seq2, err)
		}
		if twice, err := signal.AppendServer(nil, again, seq); err != nil || !bytes.Equal(out, twice) {
			t.Errorf("%q becomes %q, and then %q (%v)", data, out, twice, err)
		}
	})
}

func FuzzParseBatch(f *testing.F) {
	for _, s := range []string{`{"messages":[]}`, `{"link":"l","messages":[{"type":"leave"},1,"x",[]]}`, `{"messages":[1,]}`, ` { "messages" : [ {} , {} ] } `, `{"link":null,"messages":[null]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := signal.ParseBatch(data)
		if err != nil {
			if !errors.Is(err, refusal.New(refusal.Malformed)) {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		var want struct {
			Messages []json.RawMessage `json:"messages"`
		}
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is taken for a batch: %v", data, err)
		}
		for i, m := range b.Messages {
			if !json.Valid(m) {
				t.Errorf("%q: message %s is %q", data, strconv.Itoa(i), m)
			}
		}
		again, err := signal.ParseBatch(signal.AppendBatch(nil, b.Link, b.Messages...))
		if err != nil || again.Link != b.Link || len(again.Messages) != len(b.Messages) {
			t.Fatalf("%q: %+v becomes %+v, %v", data, b, again, err)
		}
		for i, m := range again.Messages {
			if !bytes.Equal(m, b.Messages[i]) {
				t.Errorf("%q: message %d is %q, and then %q", data, i, b.Messages[i], m)
			}
		}
	})
}
