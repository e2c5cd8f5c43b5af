package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/api"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

const (
	transferID  = "abcdefghij234567"
	depotURL    = "/v1/depots/" + transferID
	uploadToken = "upload-token"
	readToken   = "read-token"
)

func tokenHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// shop makes a project whose transfers may keep so many bytes, with a browser key for pages of https://shop.example.
func (n *node) shop(t *testing.T, depotBytes int64) (project, key string) {
	t.Helper()
	p := must[api.Project](t, n, "POST", "/v1/projects", object{"name": "Shop", "settings": object{"depotBytes": depotBytes, "depotHours": 3}})
	k := must[api.NewKey](t, n, "POST", "/v1/projects/"+p.ID+"/keys", object{"kind": "browser", "name": "web", "origins": []string{"https://shop.example"}})
	return p.ID, k.ID
}

// fromPage sends what a page of https://shop.example would.
func (n *node) fromPage(t *testing.T, method, path string, body any) (*http.Response, []byte) {
	t.Helper()
	return n.sendWith(t, method, path, body, http.Header{"Origin": {"https://shop.example"}})
}

func (n *node) createDepot(t *testing.T, key string, once bool) api.Depot {
	t.Helper()
	res, b := n.fromPage(t, "PUT", depotURL, object{"key": key, "upload": tokenHash(uploadToken), "read": tokenHash(readToken), "once": once})
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", res.Status, b)
	}
	return must[api.Depot](t, n, "GET", depotURL, nil, uploadToken)
}

func upload(objects ...depot.Object) []byte {
	var b []byte
	for _, o := range objects {
		b = append(depot.AppendHeader(b, o.Number, len(o.Data)), o.Data...)
	}
	return b
}

func (n *node) put(t *testing.T, token string, body []byte) (*http.Response, []byte) {
	t.Helper()
	return n.sendWith(t, "POST", depotURL+"/objects", body, http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/octet-stream"}})
}

func sealed(number uint64, length int) depot.Object {
	return depot.Object{Number: number, Data: bytes.Repeat([]byte{byte(number)}, length)}
}

func TestTheLifeOfADepot(t *testing.T) {
	n := start(t, options{})
	project, key := n.shop(t, 10<<20)
	res, b := n.fromPage(t, "POST", "/v1/depot-terms", object{"key": key})
	if want := fmt.Sprintf(`{"bytes":%d,"freeBytes":%d,"hours":3}`, 10<<20, 10<<20); res.StatusCode != 200 || strings.TrimSpace(string(b)) != want {
		t.Errorf("got %s %s, want %s", res.Status, b, want)
	}
	d := n.createDepot(t, key, true)
	if d.State != depot.Open || !d.Once || d.Bytes != 0 || len(d.Objects) != 0 {
		t.Errorf("got %+v", d)
	}
	body := upload(sealed(0, 100), sealed(1, depot.MaxObject), sealed(1<<40, 28))
	if res, b := n.put(t, uploadToken, body); res.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s", res.Status, b)
	}
	res, got := n.send(t, "GET", depotURL+"/objects?numbers=0-5,1099511627776", nil, readToken)
	if res.StatusCode != 200 || !bytes.Equal(got, body) {
		t.Errorf("got %s with %d bytes, want the %d that were put", res.Status, len(got), len(body))
	}
	if d = must[api.Depot](t, n, "GET", depotURL, nil, readToken); d.Bytes != 128+depot.MaxObject || !slices.Equal(d.Objects, []depot.Range{{0, 2}, {1 << 40, 1}}) {
		t.Errorf("got %+v", d)
	}
	taker := object{"taker": "AAAAAAAAAAAAAAAAAAAAAA"}
	must[struct{}](t, n, "PUT", depotURL+"/taker", taker, readToken)
	n.refused(t, refusal.TransferTaken, "PUT", depotURL+"/taker", object{"taker": "BBBBBBBBBBBBBBBBBBBBBB"}, readToken)
	must[struct{}](t, n, "POST", depotURL+"/receipt", taker, readToken)
	n.refused(t, refusal.TransferTaken, "GET", depotURL+"/objects?numbers=0", nil, readToken)
	if d = must[api.Depot](t, n, "GET", depotURL, nil, uploadToken); d.State != depot.Taken || d.Bytes != 0 {
		t.Errorf("got %+v", d)
	}
	must[struct{}](t, n, "DELETE", depotURL, nil, uploadToken)
	n.refused(t, refusal.DepotUnknown, "GET", depotURL, nil, uploadToken)
	if used := n.depots.Used(project); used != 0 {
		t.Errorf("%d bytes are counted", used)
	}
	n.createDepot(t, key, false)
	must[struct{}](t, n, "DELETE", "/v1/projects/"+project, nil)
	n.refused(t, refusal.DepotUnknown, "GET", depotURL, nil, uploadToken)
}

func TestDepotsAreOffByDefault(t *testing.T) {
	n := start(t, options{})
	p := must[api.Project](t, n, "POST", "/v1/projects", object{"name": "Shop"})
	k := must[api.NewKey](t, n, "POST", "/v1/projects/"+p.ID+"/keys", object{"kind": "browser", "name": "web", "origins": []string{"https://shop.example"}})
	create := object{"key": k.ID, "upload": tokenHash(uploadToken), "read": tokenHash(readToken)}
	res, b := n.fromPage(t, "PUT", depotURL, create)
	wantProblem(t, "create", res, b, refusal.DepotOff)
	if res, b := n.fromPage(t, "POST", "/v1/depot-terms", object{"key": k.ID}); strings.TrimSpace(string(b)) != `{"bytes":0,"freeBytes":0,"hours":24}` {
		t.Errorf("got %s %s", res.Status, b)
	}
	// Switched off again, what is there can be read, and nothing comes to it.
	path := "/v1/projects/" + p.ID
	must[api.Project](t, n, "PATCH", path, object{"settings": object{"depotBytes": 1 << 20}})
	n.createDepot(t, k.ID, false)
	if res, b := n.put(t, uploadToken, upload(sealed(0, 100))); res.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s", res.Status, b)
	}
	must[api.Project](t, n, "PATCH", path, object{"settings": object{"depotBytes": 0}})
	res, b = n.put(t, uploadToken, upload(sealed(1, 100)))
	wantProblem(t, "put", res, b, refusal.DepotOff)
	if _, b := n.send(t, "GET", depotURL+"/objects?numbers=0-9", nil, readToken); !bytes.Equal(b, upload(sealed(0, 100))) {
		t.Errorf("got %q", b)
	}
	must[api.Project](t, n, "PATCH", path, object{"on": false})
	n.refused(t, refusal.ProjectOff, "GET", depotURL+"/objects?numbers=0-9", nil, readToken)
}

func TestWhoMayMakeADepot(t *testing.T) {
	n := start(t, options{})
	project, key := n.shop(t, 1<<20)
	create := func(credentials object) object {
		o := object{"upload": tokenHash(uploadToken), "read": tokenHash(readToken)}
		for k, v := range credentials {
			o[k] = v
		}
		return o
	}
	token := func(channel string) string {
		return must[api.Token](t, n, "POST", "/v1/tokens", object{"project": project, "channels": []string{channel}}).Token
	}
	for _, c := range []struct {
		what, origin string
		credentials  object
		code         refusal.Code
	}{
		{"a page of another origin", "https://other.example", object{"key": key}, refusal.OriginForbidden},
		{"no page", "", object{"key": key}, refusal.OriginForbidden},
		{"nobody", "https://shop.example", object{}, refusal.CredentialsMissing},
		{"an unknown key", "https://shop.example", object{"key": "mbk_unknown"}, refusal.KeyUnknown},
		{"a token for another channel", "", object{"token": token("f.aaaaaaaaaaaaaaaa")}, refusal.TokenChannel},
		{"a token", "", object{"token": token("f." + transferID)}, ""},
		{"a page", "https://shop.example", object{"key": key}, ""},
	} {
		res, b := n.sendWith(t, "PUT", depotURL, create(c.credentials), http.Header{"Origin": {c.origin}})
		if c.code != "" {
			wantProblem(t, c.what, res, b, c.code)
		} else if res.StatusCode != 200 {
			t.Errorf("%s: got %s %s", c.what, res.Status, b)
		}
	}
	other := create(object{"key": key})
	other["upload"] = tokenHash("another sender's")
	res, b := n.fromPage(t, "PUT", depotURL, other)
	wantProblem(t, "another sender", res, b, refusal.Conflict)
	res, b = n.sendWith(t, "POST", "/v1/depot-terms", object{"token": token("*")}, http.Header{})
	wantProblem(t, "terms with a token, without an id", res, b, refusal.InvalidField)
}

func TestADepotsQuotaIsTheProjects(t *testing.T) {
	n := start(t, options{})
	project, key := n.shop(t, 10_000)
	n.createDepot(t, key, false)
	res, b := n.put(t, uploadToken, upload(sealed(0, 100), sealed(1, 9000)))
	p := wantProblem(t, "put", res, b, refusal.DepotFull)
	if p.Retry != string(refusal.RetryLater) || p.Facts["quotaBytes"] != 10_000.0 {
		t.Errorf("got %+v", p)
	}
	if d := must[api.Depot](t, n, "GET", depotURL, nil, readToken); d.Bytes != 0 {
		t.Errorf("%d bytes of what was refused are there", d.Bytes)
	}
	if res, b := n.put(t, uploadToken, upload(sealed(0, 100))); res.StatusCode != http.StatusNoContent {
		t.Errorf("%s %s", res.Status, b)
	}
	must[api.Project](t, n, "PATCH", "/v1/projects/"+project, object{"settings": object{"depotBytes": 4000}})
	res, b = n.fromPage(t, "PUT", "/v1/depots/bbbbbbbbbbbbbbbb", object{"key": key, "upload": tokenHash("x"), "read": tokenHash("y")})
	wantProblem(t, "another depot", res, b, refusal.DepotFull)
}

func TestHostileRequestsToDepots(t *testing.T) {
	n := start(t, options{config: func(c *api.Config) { c.FailuresPerSecond = 1e6 }})
	_, key := n.shop(t, 1<<30)
	n.createDepot(t, key, true)
	whole := upload(sealed(0, 100))
	many := []byte{}
	for k := range uint64(depot.MaxBatch + 1) {
		many = append(many, upload(sealed(k, 28))...)
	}
	for what, c := range map[string]struct {
		body []byte
		code refusal.Code
	}{
		"nothing":             {nil, refusal.Malformed},
		"half an object":      {whole[:50], refusal.Malformed},
		"more than one":       {append(slices.Clone(whole), 1), refusal.Malformed},
		"too small an object": {upload(sealed(0, 27)), refusal.Malformed},
		"too big an object":   {upload(sealed(0, depot.MaxObject+1)), refusal.Malformed},
		"too big a number":    {upload(sealed(depot.MaxNumber+1, 100)), refusal.Malformed},
		"too many":            {many, refusal.Malformed},
		"too much":            {make([]byte, depot.MaxUpload+1), refusal.MessageTooBig},
	} {
		res, b := n.put(t, uploadToken, c.body)
		wantProblem(t, what, res, b, c.code)
	}
	for _, numbers := range []string{"", "x", "5-4", "0-256", "-1", "0,,1", strings.Repeat("1,", 5000) + "1"} {
		res, b := n.send(t, "GET", depotURL+"/objects?numbers="+numbers, nil, readToken)
		wantProblem(t, "numbers "+numbers[:min(len(numbers), 9)], res, b, refusal.InvalidField)
	}
	n.refused(t, refusal.DepotToken, "GET", depotURL, nil, "x")
	n.refused(t, refusal.DepotToken, "GET", depotURL, nil, n.admin)
	n.refused(t, refusal.CredentialsMissing, "GET", depotURL, nil, nobody)
	n.refused(t, refusal.DepotToken, "DELETE", depotURL, nil, readToken)
	res, b := n.put(t, readToken, whole)
	wantProblem(t, "put with the token for reading", res, b, refusal.DepotToken)
	n.refused(t, refusal.InvalidField, "GET", "/v1/depots/ABC", nil, readToken)
	n.refused(t, refusal.InvalidField, "PUT", depotURL+"/taker", object{"taker": "<script>alert(1)</script>"}, readToken)
	n.refused(t, refusal.MethodNotAllowed, "PATCH", depotURL, nil, readToken)
	// A page of any origin may read an answer: nothing in it comes from a cookie.
	req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", n.url+depotURL+"/objects", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 204 || len(b) > 0 || res.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("got %s %v %v", res.Status, res.Header, err)
	}
}

func TestWhoGuessesTokensHasToWait(t *testing.T) {
	n := start(t, options{})
	_, key := n.shop(t, 1<<20)
	n.createDepot(t, key, true)
	for range 20 {
		n.refused(t, refusal.DepotToken, "GET", depotURL, nil, "guess")
	}
	n.refused(t, refusal.RateLimited, "GET", depotURL, nil, readToken)
}

func TestDepotsNeedARunningServer(t *testing.T) {
	n := start(t, options{config: func(c *api.Config) { c.Depots = nil }})
	n.refused(t, refusal.NotRunning, "GET", depotURL, nil, readToken)
}
