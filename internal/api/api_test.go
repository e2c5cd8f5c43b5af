package api_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

func TestTheLifeOfAProject(t *testing.T) {
	m := &meeting{}
	n := start(t, options{meeting: m})
	p := must[api.Project](t, n, "POST", "/v1/projects", object{"name": "Shop 가게", "settings": object{"joinsPerDay": 100}})
	if !p.On || p.Kind != "custom" || p.Settings.JoinsPerDay != 100 || !p.Settings.OpenChannels {
		t.Errorf("got %+v", p)
	}
	path := "/v1/projects/" + p.ID
	if got := must[api.Project](t, n, "GET", path, nil); got != p {
		t.Errorf("got %+v, want %+v", got, p)
	}
	m.open(p.ID, "demo", "p1")
	changed := must[api.Project](t, n, "PATCH", path, object{"on": false, "settings": object{"requireToken": true}})
	if changed.On || !changed.Settings.RequireToken || changed.Settings.JoinsPerDay != 100 || changed.Name != p.Name {
		t.Errorf("got %+v, want the rest as it was", changed)
	}
	if live, _ := m.List(t.Context(), p.ID); len(live) != 0 {
		t.Error("the channels of a project that is off are live")
	}
	must[struct{}](t, n, "DELETE", path, nil)
	n.refused(t, refusal.NotFound, "GET", path, nil)
	n.refused(t, refusal.NotFound, "DELETE", path, nil)
	n.refused(t, refusal.Forbidden, "DELETE", "/v1/projects/home", nil)
	all := must[api.Page[api.Project]](t, n, "GET", "/v1/projects", nil)
	if len(all.Items) != 2 || all.Items[0].Kind != "home" || all.Items[1].Kind != "sandbox" {
		t.Errorf("got %+v", all)
	}
}

func TestKeysAndSecrets(t *testing.T) {
	n := start(t, options{})
	id, serverKey := n.newProject(t, "shop")
	path := "/v1/projects/" + id
	browser := must[api.NewKey](t, n, "POST", path+"/keys", object{"kind": "browser", "name": "web", "origins": []string{"https://Shop.example:443", "app"}})
	if browser.ID != browser.Secret || !slices.Equal(browser.Origins, []string{"https://shop.example", "app"}) {
		t.Errorf("got %+v", browser)
	}
	res, b := n.send(t, "GET", path+"/keys", nil)
	if strings.Contains(string(b), serverKey[len(serverKey)-26:]) {
		t.Errorf("the list shows a server key: %s %s", res.Status, b)
	}
	keys := must[api.Page[api.Key]](t, n, "GET", path+"/keys", nil)
	if len(keys.Items) != 2 {
		t.Errorf("got %+v", keys)
	}
	one := must[api.Key](t, n, "PATCH", path+"/keys/"+browser.ID, object{"origins": []string{"*"}})
	if one.Name != "web" || !slices.Equal(one.Origins, []string{"*"}) {
		t.Errorf("got %+v", one)
	}
	if got := must[api.Key](t, n, "GET", path+"/keys/"+browser.ID, nil); got.Origins[0] != "*" {
		t.Errorf("got %+v", got)
	}
	n.refused(t, refusal.InvalidField, "PATCH", path+"/keys/"+browser.ID, object{"cidrs": []string{"10.0.0.1"}})
	n.refused(t, refusal.InvalidField, "POST", path+"/keys", object{"kind": "server", "name": "x", "origins": []string{"*"}})
	n.refused(t, refusal.InvalidField, "POST", path+"/keys", object{"kind": "server", "name": "x", "cidrs": []string{"*"}})
	n.refused(t, refusal.NotFound, "GET", "/v1/projects/home/keys/"+browser.ID, nil) // another project's
	must[struct{}](t, n, "DELETE", path+"/keys/"+browser.ID, nil)
	n.refused(t, refusal.NotFound, "DELETE", path+"/keys/"+browser.ID, nil)

	secret := must[api.NewSecret](t, n, "POST", path+"/secrets", object{"name": "2026"})
	if len(secret.Value) < 43 {
		t.Errorf("a secret of %d characters", len(secret.Value))
	}
	if _, b := n.send(t, "GET", path+"/secrets", nil); strings.Contains(string(b), secret.Value) || !strings.Contains(string(b), secret.KID) {
		t.Errorf("got %s", b)
	}
	must[struct{}](t, n, "DELETE", path+"/secrets/"+secret.KID, nil)
	n.refused(t, refusal.NotFound, "DELETE", path+"/secrets/"+secret.KID, nil)
}

// A token of the REST API, and one that an application makes with nothing but HMAC, open the same door.
func TestTokensAdmit(t *testing.T) {
	n := start(t, options{})
	id, key := n.newProject(t, "shop")
	tok := must[api.Token](t, n, "POST", "/v1/tokens", object{"channels": []string{"desk"}, "uid": "u1", "name": "Mina", "role": "viewer", "ttlSeconds": 60}, key)
	if left := time.Until(time.UnixMilli(tok.ExpiresAtMS)); left < 55*time.Second || left > 60*time.Second {
		t.Errorf("expires in %v, want 60s", left)
	}
	g, err := n.auth.Join(t.Context(), auth.Credentials{Token: tok.Token, Channel: "desk", UID: "someone else", Role: auth.RoleHost})
	if err != nil || g.Project != id || g.UID != "u1" || g.Name != "Mina" || g.Role != auth.RoleViewer || !g.Authenticated {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := n.auth.Join(t.Context(), auth.Credentials{Token: tok.Token, Channel: "other"}); refusal.From(err).Code != refusal.TokenChannel {
		t.Errorf("got %v, want token_channel", err)
	}

	secret := must[api.NewSecret](t, n, "POST", "/v1/projects/"+id+"/secrets", object{"name": "app"})
	b64 := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iss":%q,"aud":"madang","sub":"u2","channel":"*","exp":%d}`, id, time.Now().Add(time.Minute).Unix())
	signed := b64([]byte(`{"alg":"HS256","typ":"JWT","kid":"`+secret.KID+`"}`)) + "." + b64([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret.Value))
	mac.Write([]byte(signed))
	if g, err := n.auth.Join(t.Context(), auth.Credentials{Token: signed + "." + b64(mac.Sum(nil)), Channel: "any"}); err != nil || g.UID != "u2" {
		t.Errorf("got %+v, %v", g, err)
	}

	n.refused(t, refusal.InvalidField, "POST", "/v1/tokens", object{"channels": []string{"desk"}, "ttlSeconds": 86401}, key)
	n.refused(t, refusal.InvalidField, "POST", "/v1/tokens", object{"channels": []string{"a/b"}}, key)
	n.refused(t, refusal.InvalidField, "POST", "/v1/tokens", object{"channels": []string{}}, key)
	n.refused(t, refusal.InvalidField, "POST", "/v1/tokens", object{"channels": []string{"desk"}})                     // whose?
	n.refused(t, refusal.NotFound, "POST", "/v1/tokens", object{"channels": []string{"desk"}, "project": "home"}, key) // not this key's
	n.refused(t, refusal.NotFound, "POST", "/v1/tokens", object{"channels": []string{"desk"}, "project": "nobody"})
}

func TestTURNCredentials(t *testing.T) {
	n := start(t, options{})
	id, key := n.newProject(t, "shop")
	c := must[api.TURNCredentials](t, n, "POST", "/v1/turn-credentials", object{"ttlSeconds": 600}, key)
	if c.Username != "1:"+id+":rest" || c.Credential == "" || len(c.URIs) != 1 || time.Until(time.UnixMilli(c.ExpiresAtMS)) > 10*time.Minute {
		t.Errorf("got %+v", c)
	}
	n.refused(t, refusal.NotFound, "POST", "/v1/turn-credentials", object{"project": "nobody"})
	must[api.Project](t, n, "PATCH", "/v1/projects/"+id, object{"on": false})
	n.refused(t, refusal.ProjectOff, "POST", "/v1/turn-credentials", object{"project": id})
	n = start(t, options{config: func(c *api.Config) { c.TURN = nil }})
	n.refused(t, refusal.NotRunning, "POST", "/v1/turn-credentials", object{"project": "home"})
}

func TestWhoMayDoWhat(t *testing.T) {
	address := "127.0.0.1"
	n := start(t, options{address: func() string { return address }})
	id, key := n.newProject(t, "shop", "127.0.0.0/8", "10.0.0.0/8")
	other, _ := n.newProject(t, "other")
	browser := must[api.NewKey](t, n, "POST", "/v1/projects/"+id+"/keys", object{"kind": "browser", "name": "web", "origins": []string{"*"}})

	if own := must[api.Page[api.Project]](t, n, "GET", "/v1/projects", nil, key); len(own.Items) != 1 || own.Items[0].ID != id {
		t.Errorf("got %+v, want the key's own project", own)
	}
	must[api.Project](t, n, "GET", "/v1/projects/"+id, nil, key)
	n.refused(t, refusal.NotFound, "GET", "/v1/projects/"+other, nil, key)
	n.refused(t, refusal.NotFound, "GET", "/v1/channels?project="+other, nil, key)
	for _, op := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/v1/projects", object{"name": "x"}},
		{"PATCH", "/v1/projects/" + id, object{"on": false}},
		{"DELETE", "/v1/projects/" + id, nil},
		{"GET", "/v1/projects/" + id + "/keys", nil},
		{"POST", "/v1/projects/" + id + "/keys", object{"kind": "server", "name": "x", "cidrs": []string{"0.0.0.0/0"}}},
		{"POST", "/v1/projects/" + id + "/secrets", object{"name": "x"}},
		{"POST", "/v1/admin-token", nil},
	} {
		n.refused(t, refusal.Forbidden, op.method, op.path, op.body, key)
	}

	almost := key[:len(key)-1] + "1" // not a character of keys, so never the right one
	n.refused(t, refusal.CredentialsMissing, "GET", "/v1/projects", nil, nobody)
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, almost)
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, "msk_aaaaaaaaaaaa_"+key[len(key)-26:])
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, "mad_aaaaaaaaaaaaaaaaaaaaaaaaaa")
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, "anything")
	n.refused(t, refusal.KeyWrongKind, "GET", "/v1/projects", nil, browser.Secret)
	n.refused(t, refusal.KeyWrongKind, "GET", "/v1/projects", nil, "60ba608a-e228-4530-8711-fa38004719c1")

	address = "203.0.113.9"
	p := n.refused(t, refusal.AddressForbidden, "GET", "/v1/projects", nil, key)
	if p.Facts["address"] != address {
		t.Errorf("got facts %v, want the address, so that one sees what to allow", p.Facts)
	}
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, almost) // nothing about addresses to who has no key
	address = "::ffff:10.9.9.9"
	must[api.Page[api.Project]](t, n, "GET", "/v1/projects", nil, key)

	must[api.Project](t, n, "PATCH", "/v1/projects/"+id, object{"on": false})
	n.refused(t, refusal.ProjectOff, "GET", "/v1/projects", nil, key)

	next := must[struct{ Token string }](t, n, "POST", "/v1/admin-token", nil)
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, n.admin)
	must[api.Page[api.Project]](t, n, "GET", "/v1/projects", nil, next.Token)
}

func TestTheControlHandlerNeedsNoCredentials(t *testing.T) {
	n := start(t, options{})
	server := httptest.NewServer(n.api.ControlHandler())
	defer server.Close()
	n.url = server.URL
	must[api.Project](t, n, "POST", "/v1/projects", object{"name": "x"}, nobody)
}

func TestCredentialsAreReadStrictly(t *testing.T) {
	n := start(t, options{})
	for _, h := range []http.Header{
		{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+n.admin))}},
		{"Authorization": {n.admin}},
		{"Authorization": {"Bearer"}},
		{"Authorization": {"Bearer "}},
		{"Authorization": {"Bearer " + n.admin, "Bearer x"}},
		{"Cookie": {"token=" + n.admin}},
	} {
		res, b := n.sendWith(t, "GET", "/v1/projects", nil, h)
		wantProblem(t, fmt.Sprint(h), res, b, refusal.CredentialsMissing)
		if res.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
	}
	n.refused(t, refusal.InvalidField, "GET", "/v1/projects?access_token="+n.admin, nil)
	res, b := n.sendWith(t, "GET", "/v1/projects", nil, http.Header{"Authorization": {"bearer " + n.admin}}) // RFC 9110 §11.1: the scheme's case does not matter
	if res.StatusCode != 200 {
		t.Errorf("got %s %s", res.Status, b)
	}
}

func TestNoOtherOriginReadsAnswers(t *testing.T) {
	n := start(t, options{})
	h := http.Header{"Authorization": {"Bearer " + n.admin}, "Origin": {"https://evil.example"}}
	for _, method := range []string{"GET", "OPTIONS"} {
		res, _ := n.sendWith(t, method, "/v1/projects", nil, h)
		for name := range res.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s has %s", method, name)
			}
		}
		if res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", method)
		}
	}
}

// Nothing that a client sends wrong comes back to it: it may be a secret in the wrong field.
func TestBadRequestsAreNamedAndNotEchoed(t *testing.T) {
	n := start(t, options{})
	const s = "Secret-In-The-Wrong-Place"
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	for _, c := range []struct {
		method, path string
		body         any
		code         refusal.Code
		location     string
	}{
		{"POST", "/v1/projects", object{"name": "x", "colour": s}, refusal.InvalidField, "body.colour"},
		{"POST", "/v1/projects", object{"name": "x", "settings": object{"joinsPerDay": s}}, refusal.InvalidField, "body.settings.joinsPerDay"},
		{"POST", "/v1/projects", object{"name": "x", "settings": object{"joinsPerDay": -1}}, refusal.InvalidField, "body.settings.joinsPerDay"},
		{"POST", "/v1/projects", object{"name": "x", "settings": object{"joinsPerDay": 1e300}}, refusal.InvalidField, "body.settings.joinsPerDay"},
		{"POST", "/v1/projects", object{"name": "x", "settings": object{"joinsPerDay": 1.5}}, refusal.InvalidField, "body.settings.joinsPerDay"},
		{"POST", "/v1/projects", object{"NAME": s}, refusal.InvalidField, "body"},
		{"POST", "/v1/projects", object{"name": strings.Repeat(s, 9)}, refusal.InvalidField, "body.name"},
		{"POST", "/v1/projects", object{"name": s + "\n"}, refusal.InvalidField, ""},
		{"POST", "/v1/projects", object{"name": nil}, refusal.InvalidField, "body.name"},
		{"POST", "/v1/projects", []byte(`{"name":"` + s), refusal.Malformed, "body"},
		{"POST", "/v1/projects", []byte(s), refusal.Malformed, "body"},
		{"POST", "/v1/projects", []byte(`["` + s + `"]`), refusal.InvalidField, "body"},
		{"POST", "/v1/projects", []byte(`{"name":"x"} ` + s), refusal.Malformed, "body"},
		{"POST", "/v1/projects", []byte(`{"name":` + deep + `}`), refusal.InvalidField, "body.name"},
		{"POST", "/v1/projects", []byte{}, refusal.Malformed, ""},
		{"POST", "/v1/projects", []byte(`{"name":"` + strings.Repeat("x", api.MaxBodyBytes) + `"}`), refusal.MessageTooBig, ""},
		{"GET", "/v1/projects?limit=" + s, nil, refusal.InvalidField, "query.limit"},
		{"GET", "/v1/projects?limit=101", nil, refusal.InvalidField, "query.limit"},
		{"GET", "/v1/projects?limit=99999999999999999999", nil, refusal.InvalidField, "query.limit"},
		{"GET", "/v1/projects?cursor=" + s + "!", nil, refusal.InvalidField, ""},
		{"GET", "/v1/projects?" + s + "=1", nil, refusal.InvalidField, "query." + s}, // a name, not a value
		{"GET", "/v1/projects/home/usage?from=" + s, nil, refusal.InvalidField, "query.from"},
		{"GET", "/v1/projects/home/usage?from=1999-01-01", nil, refusal.InvalidField, ""},
		{"GET", "/v1/projects/home/usage?from=2026-02-01&to=2026-01-01", nil, refusal.InvalidField, ""},
		{"GET", "/v1/projects/home/usage?from=2026-02-30&to=2026-02-31", nil, refusal.InvalidField, ""},
		{"GET", "/v1/projects/" + s, nil, refusal.NotFound, ""},
		{"GET", "/v1/projects/%00", nil, refusal.NotFound, ""},
		{"GET", "/v1/projects/" + strings.Repeat("x", 100), nil, refusal.InvalidField, "path.project"},
		{"POST", "/v1/channels", object{"project": "home", "name": s + "/"}, refusal.InvalidField, "body.name"},
		{"POST", "/v1/channels", object{"project": "home", "name": "x", "capacity": 10001}, refusal.InvalidField, "body.capacity"},
		{"GET", "/v1/nothing/" + s, nil, refusal.NotFound, ""},
		{"PUT", "/v1/projects", nil, refusal.MethodNotAllowed, ""},
		{"POST", "/v1/projects/home", object{}, refusal.MethodNotAllowed, ""},
	} {
		res, b := n.send(t, c.method, c.path, c.body)
		what := c.method + " " + c.path
		p := wantProblem(t, what, res, b, c.code)
		if c.location != "" && !slices.ContainsFunc(p.Errors, func(e api.FieldProblem) bool { return e.Location == c.location }) {
			t.Errorf("%s: got errors %+v, want one at %s", what, p.Errors, c.location)
		}
		if strings.Contains(string(b), s) && !strings.HasSuffix(c.location, s) {
			t.Errorf("%s: the answer repeats what was sent: %s", what, b)
		}
	}
	res, b := n.sendWith(t, "POST", "/v1/projects", []byte("name: x"), http.Header{"Authorization": {"Bearer " + n.admin}, "Content-Type": {"application/yaml"}})
	wantProblem(t, "YAML", res, b, refusal.Malformed)
	if res, _ := n.send(t, "PUT", "/v1/projects", nil); res.Header.Get("Allow") != "GET, POST, HEAD" {
		t.Errorf("got Allow %q", res.Header.Get("Allow"))
	}
	if n.log.Len() > 0 {
		t.Errorf("the clients' faults are in the log: %s", n.log)
	}
}

func TestPages(t *testing.T) {
	m := &meeting{}
	n := start(t, options{meeting: m})
	id, key := n.newProject(t, "shop")
	var want []string
	for i := range 9 {
		name := fmt.Sprintf("c%d", i)
		want = append(want, name)
		switch i % 3 {
		case 0:
			must[api.Channel](t, n, "POST", "/v1/channels", object{"name": name}, key)
		case 1:
			m.open(id, name, "p1")
		case 2:
			m.open(id, name, "p1")
			must[api.Channel](t, n, "POST", "/v1/channels", object{"name": name, "locked": true}, key)
		}
	}
	for limit := 1; limit <= 10; limit++ {
		var got []string
		cursor := ""
		for {
			page := must[api.Page[api.Channel]](t, n, "GET", fmt.Sprintf("/v1/channels?limit=%d&cursor=%s", limit, cursor), nil, key)
			if len(page.Items) > limit {
				t.Errorf("got %d items, want %d at most", len(page.Items), limit)
			}
			for _, c := range page.Items {
				i, _ := strconv.Atoi(c.Name[1:])
				if c.Live != (i%3 > 0) || c.Defined != (i%3 != 1) || c.Locked != (i%3 == 2) {
					t.Errorf("got %+v", c)
				}
				got = append(got, c.Name)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
}

func TestChannelsPeersAndCommands(t *testing.T) {
	m := &meeting{}
	n := start(t, options{meeting: m})
	id, key := n.newProject(t, "shop")
	c := must[api.Channel](t, n, "POST", "/v1/channels", object{"name": "desk", "capacity": 2, "waitingRoom": true}, key)
	if c.Live || !c.Defined || c.Capacity != 2 || !c.WaitingRoom {
		t.Errorf("got %+v", c)
	}
	n.refused(t, refusal.Conflict, "POST", "/v1/channels", object{"name": "desk"}, key)
	m.open(id, "desk", "pb", "pa", "pc")
	c = must[api.Channel](t, n, "PATCH", "/v1/channels/desk", object{"locked": true}, key)
	if !c.Live || !c.Locked {
		t.Errorf("got %+v", c)
	}
	if d, _ := n.projects.Channel(t.Context(), id, "desk"); !d.Locked || d.Capacity != 2 {
		t.Errorf("the definition is %+v", d)
	}
	page := must[api.Page[api.Peer]](t, n, "GET", "/v1/channels/desk/peers?limit=2", nil, key)
	if len(page.Items) != 2 || page.Items[0].ID != "pa" || page.Items[1].ID != "pb" || string(page.Items[0].Info) != `{"seat":1}` {
		t.Errorf("got %+v", page)
	}
	page = must[api.Page[api.Peer]](t, n, "GET", "/v1/channels/desk/peers?limit=2&cursor="+page.Next, nil, key)
	if len(page.Items) != 1 || page.Items[0].ID != "pc" || page.Next != "" {
		t.Errorf("got %+v", page)
	}
	must[struct{}](t, n, "DELETE", "/v1/channels/desk/peers/pb?reason=bye&banSeconds=0", nil, key)
	n.refused(t, refusal.PeerNotFound, "DELETE", "/v1/channels/desk/peers/pb", nil, key)
	must[struct{}](t, n, "POST", "/v1/channels/desk/commands", []byte(`{"to":["pa"],"name":"go","data":{"big":12345678901234567890,"x":[1,"가"]}}`), key)
	must[struct{}](t, n, "POST", "/v1/channels/desk/commands", object{"name": "all"}, key)
	if len(m.sent) != 2 || m.sent[0].data != `{"big":12345678901234567890,"x":[1,"가"]}` || m.sent[0].to[0] != "pa" || m.sent[1].to != nil || m.sent[1].data != "" {
		t.Errorf("got %+v, want what was sent, unchanged", m.sent)
	}
	n.refused(t, refusal.ChannelNotFound, "POST", "/v1/channels/other/commands", object{"name": "x"}, key)
	must[struct{}](t, n, "DELETE", "/v1/channels/desk", nil, key)
	for _, method := range []string{"GET", "DELETE"} {
		n.refused(t, refusal.ChannelNotFound, method, "/v1/channels/desk", nil, key)
	}
	n.refused(t, refusal.ChannelNotFound, "PATCH", "/v1/channels/desk", object{"locked": true}, key)
	m.open(id, "hall", "pa") // live only
	if c = must[api.Channel](t, n, "PATCH", "/v1/channels/hall", object{"capacity": 9}, key); c.Capacity != 9 || c.Defined {
		t.Errorf("got %+v", c)
	}
	if c = must[api.Channel](t, n, "GET", "/v1/channels/hall", nil, key); c.Capacity != 9 {
		t.Errorf("got %+v", c)
	}
}

func TestWithoutAServerOnlyDefinitionsAreThere(t *testing.T) {
	n := start(t, options{})
	_, key := n.newProject(t, "shop")
	must[api.Channel](t, n, "POST", "/v1/channels", object{"name": "desk"}, key)
	must[api.Channel](t, n, "GET", "/v1/channels/desk", nil, key)
	if all := must[api.Page[api.Channel]](t, n, "GET", "/v1/channels", nil, key); len(all.Items) != 1 {
		t.Errorf("got %+v", all)
	}
	n.refused(t, refusal.NotRunning, "GET", "/v1/channels/desk/peers", nil, key)
	n.refused(t, refusal.NotRunning, "DELETE", "/v1/channels/desk/peers/p", nil, key)
	n.refused(t, refusal.NotRunning, "POST", "/v1/channels/desk/commands", object{"name": "x"}, key)
	must[struct{}](t, n, "DELETE", "/v1/channels/desk", nil, key)
}

func TestETags(t *testing.T) {
	n := start(t, options{})
	id, _ := n.newProject(t, "shop")
	path := "/v1/projects/" + id
	res, _ := n.send(t, "GET", path, nil)
	tag := res.Header.Get("ETag")
	patch := func(tag string) (*http.Response, []byte) {
		return n.sendWith(t, "PATCH", path, object{"name": "x" + tag}, http.Header{"Authorization": {"Bearer " + n.admin}, "If-Match": {tag}})
	}
	if res, b := patch(tag); res.StatusCode != 200 || res.Header.Get("ETag") == tag {
		t.Errorf("got %s %s with the ETag %s", res.Status, b, res.Header.Get("ETag"))
	}
	res, b := patch(tag)
	wantProblem(t, "an old ETag", res, b, refusal.Conflict)
	res, b = patch(`"forged`)
	wantProblem(t, "a forged ETag", res, b, refusal.Conflict)
	if res, b := patch("*"); res.StatusCode != 200 {
		t.Errorf("got %s %s", res.Status, b)
	}
}

func TestUsage(t *testing.T) {
	n := start(t, options{})
	id, key := n.newProject(t, "shop")
	for range 3 {
		if err := n.projects.Directory().CountJoin(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	u := must[struct{ Days []api.Day }](t, n, "GET", "/v1/projects/"+id+"/usage", nil, key)
	if len(u.Days) != 1 || u.Days[0].Joins != 3 || u.Days[0].RelayBytes != 0 {
		t.Errorf("got %+v", u)
	}
	u = must[struct{ Days []api.Day }](t, n, "GET", "/v1/projects/"+id+"/usage?from=2020-01-01&to=2020-02-01", nil, key)
	if u.Days == nil || len(u.Days) != 0 {
		t.Errorf("got %+v, want an empty list", u)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options{dir: dir})
	id, key := n.newProject(t, "shop")
	_, key2 := n.newProject(t, "other")
	send := func(idempotencyKey, credentials, path string, body any) (*http.Response, []byte) {
		return n.sendWith(t, "POST", path, body, http.Header{"Authorization": {"Bearer " + credentials}, "Idempotency-Key": {idempotencyKey}})
	}
	keys := "/v1/projects/" + id + "/keys"
	body := object{"kind": "server", "name": "second", "cidrs": []string{"127.0.0.1"}}
	res, first := send("k1", n.admin, keys, body)
	if res.StatusCode != 201 || res.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("got %s %s", res.Status, first)
	}
	tag := res.Header.Get("ETag")
	res, again := send("k1", n.admin, keys, body)
	if res.StatusCode != 201 || string(again) != string(first) || res.Header.Get("Idempotency-Replayed") != "true" || res.Header.Get("ETag") != tag {
		t.Errorf("got %s %s, want %s again", res.Status, again, first)
	}
	if all := must[api.Page[api.Key]](t, n, "GET", keys, nil); len(all.Items) != 2 {
		t.Errorf("got %d keys, want 2: the second request made another", len(all.Items))
	}
	res, b := send("k1", n.admin, keys, object{"kind": "server", "name": "third", "cidrs": []string{"127.0.0.1"}})
	wantProblem(t, "another body", res, b, refusal.IdempotencyConflict)
	res, b = send("k1", n.admin, "/v1/projects", object{"name": "x"})
	wantProblem(t, "another path", res, b, refusal.IdempotencyConflict)

	// The same text of somebody else is another key.
	var a1, a2 api.Token
	_, b1 := send("t1", key, "/v1/tokens", object{"channels": []string{"c"}, "uid": "one"})
	_, b2 := send("t1", key2, "/v1/tokens", object{"channels": []string{"c"}, "uid": "two"})
	if json.Unmarshal(b1, &a1) != nil || json.Unmarshal(b2, &a2) != nil || a1.Token == "" || a2.Token == "" || a1.Token == a2.Token {
		t.Errorf("got %s and %s", b1, b2)
	}

	// What was refused may be tried again.
	res, b = send("r1", n.admin, keys, object{"kind": "server", "name": "bad", "cidrs": []string{"nowhere"}})
	wantProblem(t, "a bad list", res, b, refusal.InvalidField)
	if res, b = send("r1", n.admin, keys, object{"kind": "server", "name": "good", "cidrs": []string{"::1"}}); res.StatusCode != 201 {
		t.Errorf("got %s %s", res.Status, b)
	}
	res, b = send("r2", nobody, keys, body)
	wantProblem(t, "no credentials", res, b, refusal.KeyUnknown)
	for _, bad := range []string{strings.Repeat("x", 256), "caf\u00e9", ""} {
		res, b = send(bad, n.admin, keys, body)
		wantProblem(t, "a bad idempotency key", res, b, refusal.InvalidField)
	}

	// A kept answer holds a key that is shown once: the database must not show it.
	var made api.NewKey
	if err := json.Unmarshal(first, &made); err != nil {
		t.Fatal(err)
	}
	var found int64
	if err := n.db.Read(t.Context(), func(tx *store.Tx) (err error) {
		found, err = store.One(tx, store.Int, `SELECT COUNT(*) FROM idempotency WHERE instr(response, $1) > 0`, made.Secret)
		return err
	}); err != nil || found != 0 {
		t.Errorf("a kept answer stands in clear: %d, %v", found, err)
	}

	// Another process of the node, or the same after a restart, knows the answer too.
	n2 := start(t, options{dir: dir, config: func(*api.Config) {}})
	res, again = n2.sendWith(t, "POST", "/v1/tokens", object{"channels": []string{"c"}, "uid": "one"}, http.Header{"Authorization": {"Bearer " + key}, "Idempotency-Key": {"t1"}})
	if string(again) != string(b1) {
		t.Errorf("after a restart: got %s %s, want %s", res.Status, again, b1)
	}
}

func TestManyRequestsWithOneIdempotencyKeyDoOneThing(t *testing.T) {
	n := start(t, options{})
	id, _ := n.newProject(t, "shop")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		made = map[string]bool{}
	)
	for range 16 {
		wg.Go(func() {
			res, b := n.sendWith(t, "POST", "/v1/projects/"+id+"/secrets", object{"name": "x"}, http.Header{"Authorization": {"Bearer " + n.admin}, "Idempotency-Key": {"same"}})
			mu.Lock()
			defer mu.Unlock()
			switch res.StatusCode {
			case 201:
				made[string(b)] = true
			case 409: // the first one was still at work
			default:
				t.Errorf("got %s %s", res.Status, b)
			}
		})
	}
	wg.Wait()
	all := must[api.Page[api.Secret]](t, n, "GET", "/v1/projects/"+id+"/secrets", nil)
	if len(made) != 1 || len(all.Items) != 1 {
		t.Errorf("got %d different answers and %d secrets, want one", len(made), len(all.Items))
	}
}

func TestRateLimits(t *testing.T) {
	n := start(t, options{})
	id, key := n.newProject(t, "shop")
	must[api.Project](t, n, "PATCH", "/v1/projects/"+id, object{"settings": object{"requestsPerSecond": 0.5}})
	limited := 0
	for range 8 {
		if res, b := n.send(t, "GET", "/v1/projects/"+id, nil, key); res.StatusCode == 429 {
			limited++
			if p := wantProblem(t, "too fast", res, b, refusal.RateLimited); p.RetryAfterMS <= 0 || p.Retry != "later" || res.Header.Get("Retry-After") == "" {
				t.Errorf("got %+v", p)
			}
		}
	}
	if limited < 5 {
		t.Errorf("%d of 8 requests were limited, want 6", limited)
	}
	must[api.Project](t, n, "GET", "/v1/projects/"+id, nil) // not the administrator

	// Guessing: after a while even the right token does not pass from that address.
	n = start(t, options{config: func(c *api.Config) { c.FailuresPerSecond = 0.001 }})
	n.refused(t, refusal.KeyUnknown, "GET", "/v1/projects", nil, "mad_guess")
	n.refused(t, refusal.RateLimited, "GET", "/v1/projects", nil, "mad_guess")
	n.refused(t, refusal.RateLimited, "GET", "/v1/projects", nil)
}

func TestAFaultOfOursIsLoggedAndNotTold(t *testing.T) {
	n := start(t, options{config: func(c *api.Config) { c.TURN = broken{} }})
	p := n.refused(t, refusal.Internal, "POST", "/v1/turn-credentials", object{"project": "home"})
	if strings.Contains(fmt.Sprint(p), "the reason") || !strings.Contains(n.log.String(), "the reason") {
		t.Errorf("the client is told %+v, the log says %q", p, n.log)
	}
	n.db.Close()
	res, b := n.send(t, "GET", "/v1/projects", nil)
	if res.StatusCode < 500 {
		t.Errorf("without a database: got %s %s", res.Status, b)
	}
}

type broken struct{}

func (broken) MintTURN(string, string, time.Duration) (string, string, []string, time.Time, error) {
	return "", "", nil, time.Time{}, fmt.Errorf("the reason")
}

func TestAClientThatSendsSlowlyHoldsNothing(t *testing.T) {
	n := start(t, options{})
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, "POST", n.url+"/v1/projects", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + n.admin}, "Content-Type": {"application/json"}, "Idempotency-Key": {"slow"}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	if _, err := w.Write([]byte(`{"name":`)); err != nil {
		t.Fatal(err)
	}
	// While it hangs others write: no transaction is open.
	must[api.Project](t, n, "POST", "/v1/projects", object{"name": "meanwhile"})
	cancel()
	w.CloseWithError(io.ErrUnexpectedEOF)
	<-done
}
