package auth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// A tenant is a project of a real database, with all that clients show.
type tenant struct {
	*project.Service
	id, kid, secret    string
	browser            project.Key
	server, serverFull string
}

func newTenants(t testing.TB) (s *project.Service, a *auth.Authorizer, shop, other tenant) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if s, err = project.New(t.Context(), project.Config{DB: db}); err != nil {
		t.Fatal(err)
	}
	if a, err = auth.New(auth.Config{Directory: s.Directory()}); err != nil {
		t.Fatal(err)
	}
	make := func(name string) tenant {
		p, err := s.Create(t.Context(), name, name, project.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		sec, value, err := s.AddSecret(t.Context(), p.ID, "first")
		if err != nil {
			t.Fatal(err)
		}
		browser, _, err := s.AddKey(t.Context(), p.ID, auth.BrowserKey, "web", []string{"https://" + name + ".example"})
		if err != nil {
			t.Fatal(err)
		}
		server, full, err := s.AddKey(t.Context(), p.ID, auth.ServerKey, "app", []string{"198.51.100.0/24"})
		if err != nil {
			t.Fatal(err)
		}
		return tenant{s, p.ID, sec.KID, value, browser, server.ID, full}
	}
	return s, a, make("shop"), make("other")
}

type object = map[string]any

// sign makes a JWT with nothing but HMAC, as an application in any language would, or an attacker.
func sign(header, claims any, key string, h func() hash.Hash) string {
	part := func(v any) string {
		b, ok := v.([]byte)
		if !ok {
			b, _ = json.Marshal(v) // maps of plain values
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	if h == nil {
		return text + "."
	}
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestTokensThatAdmitNobody(t *testing.T) {
	s, a, shop, other := newTenants(t)
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	header := func(change object) object {
		h := object{"alg": "HS256", "typ": "JWT", "kid": shop.kid}
		for k, v := range change {
			h[k] = v
		}
		return h
	}
	claims := func(change object) object {
		c := object{"iss": shop.id, "aud": "madang", "channel": "desk", "sub": "u1", "iat": in(0), "exp": in(time.Minute)}
		for k, v := range change {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		return c
	}
	good := sign(header(nil), claims(nil), shop.secret, sha256.New)
	if g, err := a.Join(t.Context(), auth.Credentials{Token: good, Channel: "desk"}); err != nil || g.UID != "u1" || !g.Authenticated {
		t.Fatalf("the good token: got %+v, %v", g, err)
	}
	parts := strings.Split(good, ".")
	removed, removedValue, err := s.AddSecret(t.Context(), shop.id, "old")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSecret(t.Context(), shop.id, removed.KID); err != nil {
		t.Fatal(err)
	}
	with := func(change object) string { return sign(header(nil), claims(change), shop.secret, sha256.New) }
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	for name, c := range map[string]struct {
		token string
		code  refusal.Code
	}{
		"nothing like a token":               {"x", refusal.TokenMalformed},
		"two parts":                          {parts[0] + "." + parts[1], refusal.TokenMalformed},
		"four parts":                         {good + "." + parts[2], refusal.TokenMalformed},
		"encrypted (RFC 7516)":               {good + "." + parts[2] + "." + parts[2], refusal.TokenMalformed},
		"not base64url":                      {parts[0] + "." + parts[1] + ".+/==", refusal.TokenMalformed},
		"spaces around it":                   {" " + good + "\n", refusal.TokenMalformed},
		"too long":                           {with(object{"name": strings.Repeat("x", auth.MaxTokenBytes)}), refusal.TokenMalformed},
		"no signature":                       {parts[0] + "." + parts[1] + ".", refusal.TokenSignature},
		"half a signature":                   {parts[0] + "." + parts[1] + "." + parts[2][:20], refusal.TokenSignature},
		"algorithm none":                     {sign(header(object{"alg": "none"}), claims(nil), "", nil), refusal.TokenSignature},
		"algorithm None, signed":             {sign(header(object{"alg": "None"}), claims(nil), shop.secret, sha256.New), refusal.TokenSignature},
		"no algorithm":                       {sign(header(object{"alg": ""}), claims(nil), shop.secret, sha256.New), refusal.TokenSignature},
		"another HMAC":                       {sign(header(object{"alg": "HS512"}), claims(nil), shop.secret, sha512.New), refusal.TokenSignature},
		"HMAC that calls itself RSA":         {sign(header(object{"alg": "RS256"}), claims(nil), shop.secret, sha256.New), refusal.TokenSignature},
		"signed with the empty secret":       {sign(header(nil), claims(nil), "", sha256.New), refusal.TokenSignature},
		"signed with the secret's own name":  {sign(header(nil), claims(nil), shop.kid, sha256.New), refusal.TokenSignature},
		"signed with a public key":           {sign(header(nil), claims(nil), shop.browser.ID, sha256.New), refusal.TokenSignature},
		"other claims under the signature":   {parts[0] + "." + strings.Split(with(object{"sub": "u2"}), ".")[1] + "." + parts[2], refusal.TokenSignature},
		"a key in its header (RFC 7515 jwk)": {sign(header(object{"jwk": object{"kty": "oct", "k": "eA"}}), claims(nil), "x", sha256.New), refusal.TokenSignature},
		"critical extension":                 {sign(header(object{"crit": []string{"b64"}, "b64": false}), claims(nil), shop.secret, sha256.New), refusal.TokenMalformed},
		"no kid":                             {sign(header(object{"kid": ""}), claims(nil), shop.secret, sha256.New), refusal.TokenMalformed},
		"kid is a number":                    {sign(header(object{"kid": 7}), claims(nil), shop.secret, sha256.New), refusal.TokenMalformed},
		"kid is a path":                      {sign(header(object{"kid": "../../dev/null"}), claims(nil), "", sha256.New), refusal.TokenForeign},
		"kid is SQL":                         {sign(header(object{"kid": "x' OR '1'='1"}), claims(nil), shop.secret, sha256.New), refusal.TokenForeign},
		"kid is endless":                     {sign(header(object{"kid": strings.Repeat("k", 4000)}), claims(nil), shop.secret, sha256.New), refusal.TokenForeign},
		"secret that was removed":            {sign(header(object{"kid": removed.KID}), claims(nil), removedValue, sha256.New), refusal.TokenForeign},
		"secret of another project":          {sign(header(object{"kid": other.kid}), claims(nil), other.secret, sha256.New), refusal.TokenForeign},
		"own secret, another project":        {with(object{"iss": other.id}), refusal.TokenForeign},
		"unknown project":                    {with(object{"iss": "nobody"}), refusal.TokenForeign},
		"no project":                         {with(object{"iss": nil}), refusal.TokenMalformed},
		"no audience":                        {with(object{"aud": nil}), refusal.TokenForeign},
		"for something else":                 {with(object{"aud": []string{"billing"}}), refusal.TokenForeign},
		"expired":                            {with(object{"exp": in(-31 * time.Second)}), refusal.TokenExpired},
		"expired long ago":                   {with(object{"exp": 1, "iat": 1}), refusal.TokenExpired},
		"not valid yet":                      {with(object{"nbf": in(time.Minute)}), refusal.TokenNotYetValid},
		"issued in the future":               {with(object{"iat": in(time.Minute), "exp": in(time.Hour)}), refusal.TokenNotYetValid},
		"no expiry":                          {with(object{"exp": nil}), refusal.TokenMalformed},
		"expiry is a text":                   {with(object{"exp": "soon"}), refusal.TokenMalformed},
		"no channel":                         {with(object{"channel": nil}), refusal.TokenMalformed},
		"empty channel":                      {with(object{"channel": ""}), refusal.TokenMalformed},
		"channel is a number":                {with(object{"channel": 7}), refusal.TokenMalformed},
		"channel is no name":                 {with(object{"channel": "a/../desk"}), refusal.TokenMalformed},
		"part of a channel's name is a star": {with(object{"channel": "des*"}), refusal.TokenMalformed},
		"33 channels":                        {with(object{"channel": many}), refusal.TokenMalformed},
		"unknown role":                       {with(object{"role": "god"}), refusal.TokenMalformed},
		"name with control characters":       {with(object{"name": "a\u202e\u0007"}), refusal.TokenMalformed},
		"claims are a list":                  {sign(header(nil), []byte(`[]`), shop.secret, sha256.New), refusal.TokenMalformed},
		"another channel":                    {with(object{"channel": "other"}), refusal.TokenChannel},
		"channel's name in another case":     {with(object{"channel": "Desk"}), refusal.TokenChannel},
	} {
		g, err := a.Join(t.Context(), auth.Credentials{Token: c.token, Channel: "desk"})
		r := refusal.From(err)
		if err == nil || r.Code != c.code || g.Project != "" {
			t.Errorf("%s: got %+v, %v, want %s", name, g, err, c.code)
			continue
		}
		if text := fmt.Sprint(r, r.Detail); strings.Contains(text, shop.secret) || len(c.token) > 20 && strings.Contains(text, c.token) {
			t.Errorf("%s: the refusal shows a secret: %s", name, text)
		}
	}
	// What the clocks of two honest machines may differ by.
	for _, change := range []object{{"exp": in(-20 * time.Second)}, {"nbf": in(20 * time.Second)}, {"iat": in(20 * time.Second), "exp": in(time.Minute)}} {
		if _, err := a.Join(t.Context(), auth.Credentials{Token: with(change), Channel: "desk"}); err != nil {
			t.Errorf("%v: %v", change, err)
		}
	}
	off := false
	if _, err := s.Update(t.Context(), shop.id, 0, project.Change{On: &off}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Join(t.Context(), auth.Credentials{Token: good, Channel: "desk"}); !errors.Is(err, refusal.New(refusal.ProjectOff)) {
		t.Errorf("a project that is off: got %v", err)
	}
}

// With a clock that is two hours off, the one who looks at the refusal sees which one it is.
func TestClockTwoHoursOff(t *testing.T) {
	_, a, shop, _ := newTenants(t)
	for _, c := range []struct {
		off  time.Duration // of the machine that makes the token
		code refusal.Code
		fact string
	}{{-2 * time.Hour, refusal.TokenExpired, "expiresAtMs"}, {2 * time.Hour, refusal.TokenNotYetValid, "issuedAtMs"}} {
		theirs := time.Now().Add(c.off)
		token, err := auth.Mint(auth.Claims{Project: shop.id, Channels: []string{"desk"}, IssuedAt: theirs, ExpiresAt: theirs.Add(time.Hour)}, shop.kid, shop.secret)
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		_, err = a.Join(t.Context(), auth.Credentials{Token: token, Channel: "desk"})
		r := refusal.From(err)
		if err == nil || r.Code != c.code || !strings.Contains(r.Message, "clock") {
			t.Errorf("%v: got %v, want %s that speaks of the clock", c.off, err, c.code)
			continue
		}
		server, ok := r.Detail["serverTimeMs"].(int64)
		if !ok || server < before.UnixMilli() || server > time.Now().UnixMilli() {
			t.Errorf("%v: got facts %v, want the server's time", c.off, r.Detail)
		}
		if _, ok := r.Detail[c.fact].(int64); !ok {
			t.Errorf("%v: got facts %v, want %s", c.off, r.Detail, c.fact)
		}
		// A client that waits is admitted when the server's clock has caught up; one whose token is over has to get another.
		wait := r.RetryAfter
		if c.code == refusal.TokenNotYetValid && (wait < 2*time.Hour-time.Minute || wait > 2*time.Hour) || c.code == refusal.TokenExpired && wait != 0 {
			t.Errorf("%v: retry after %v", c.off, wait)
		}
	}
}

func TestKeysThatAdmitNobody(t *testing.T) {
	s, a, shop, other := newTenants(t)
	const page = "https://shop.example"
	join := func(key, origin string) (auth.Grant, error) {
		return a.Join(t.Context(), auth.Credentials{Key: key, Channel: "desk", Origin: origin, Role: auth.RoleHost, UID: "boss"})
	}
	g, err := join(shop.browser.ID, page)
	if err != nil || g.Project != shop.id || g.Role == auth.RoleHost || g.Authenticated {
		t.Errorf("got %+v, %v: a wish makes neither a host nor a known user", g, err)
	}
	for _, c := range []struct {
		key, origin string
		code        refusal.Code
	}{
		{"", page, refusal.CredentialsMissing},
		{shop.browser.ID, "", refusal.OriginForbidden},
		{shop.browser.ID, "null", refusal.OriginForbidden},
		{shop.browser.ID, "http://shop.example", refusal.OriginForbidden},
		{shop.browser.ID, "https://shop.example:8443", refusal.OriginForbidden},
		{shop.browser.ID, "https://shop.example.evil.example", refusal.OriginForbidden},
		{shop.browser.ID, "https://evil-shop.example", refusal.OriginForbidden},
		{shop.browser.ID, "https://shop.example, https://evil.example", refusal.OriginForbidden},
		{other.browser.ID, page, refusal.OriginForbidden},
		{shop.serverFull, page, refusal.KeyWrongKind},
		{shop.server, page, refusal.KeyWrongKind},
		{"mad_" + strings.Repeat("a", 26), page, refusal.KeyWrongKind},
		{strings.ToUpper(shop.browser.ID), page, refusal.KeyUnknown},
		{shop.browser.ID + "\x00", page, refusal.KeyUnknown},
		{" " + shop.browser.ID, page, refusal.KeyUnknown},
		{"' OR 1=1 --", page, refusal.KeyUnknown},
		{strings.Repeat("x", 1<<16), page, refusal.KeyUnknown},
		{project.SandboxKey, page, refusal.KeyDevelopmentOnly}, // this node has a public name
	} {
		if g, err := join(c.key, c.origin); err == nil || refusal.From(err).Code != c.code || g.Project != "" {
			t.Errorf("%.40q from %q: got %+v, %v, want %s", c.key, c.origin, g, err, c.code)
		}
	}
	address := netip.MustParseAddr("198.51.100.7")
	if k, err := a.Server(t.Context(), shop.serverFull, address); err != nil || k.Project != shop.id {
		t.Errorf("got %+v, %v", k, err)
	}
	_, secret, _ := strings.Cut(strings.TrimPrefix(shop.serverFull, "msk_"), "_")
	for _, c := range []struct {
		key, address string
		code         refusal.Code
	}{
		{shop.serverFull, "198.51.101.7", refusal.AddressForbidden},
		{shop.serverFull, "::1", refusal.AddressForbidden},
		{shop.server, "198.51.100.7", refusal.KeyUnknown},
		{shop.server + "_", "198.51.100.7", refusal.KeyUnknown},
		{other.server + "_" + secret, "198.51.100.7", refusal.KeyUnknown},
		{shop.serverFull[:len(shop.serverFull)-1], "198.51.100.7", refusal.KeyUnknown},
		{shop.serverFull + "x", "198.51.100.7", refusal.KeyUnknown},
		{shop.browser.ID, "198.51.100.7", refusal.KeyWrongKind},
		{shop.browser.ID + "_" + secret, "198.51.100.7", refusal.KeyWrongKind},
		{"", "198.51.100.7", refusal.KeyUnknown},
		{"msk__", "198.51.100.7", refusal.KeyUnknown},
	} {
		if k, err := a.Server(t.Context(), c.key, netip.MustParseAddr(c.address)); err == nil || refusal.From(err).Code != c.code || k.Project != "" {
			t.Errorf("%.30q from %s: got %+v, %v, want %s", c.key, c.address, k, err, c.code)
		}
	}
	require := project.DefaultSettings()
	require.RequireToken = true
	if _, err := s.Update(t.Context(), shop.id, 0, project.Change{Settings: func(s *project.Settings) { *s = require }}); err != nil {
		t.Fatal(err)
	}
	if _, err := join(shop.browser.ID, page); !errors.Is(err, refusal.New(refusal.KeyNeedsToken)) {
		t.Errorf("got %v", err)
	}
}

// FuzzToken: whatever the header and the claims, a token is refused with a code of a token, or it is signed by the project and says no more than it may.
func FuzzToken(f *testing.F) {
	_, a, shop, _ := newTenants(f)
	exp := time.Now().Add(24 * time.Hour).Unix()
	head := fmt.Sprintf(`{"alg":"HS256","kid":%q}`, shop.kid)
	for _, c := range []string{
		`{"iss":"shop","aud":"madang","channel":"desk","exp":%d}`, `{"iss":"shop","aud":["madang","x"],"channel":["desk","*"],"sub":"u","role":"host","grants":["create"],"exp":%d.5}`,
		`{"iss":"shop","aud":"madang","channel":"*","exp":1e400,"x":%d}`, `{"iss":"shop","aud":"madang","channel":"*","iat":-1e18,"nbf":-1,"exp":9e18,"x":%d}`,
		`{"iss":"shop","iss":"other","aud":null,"channel":null,"exp":%d}`, `{"ISS":"shop","Aud":"madang","Channel":"desk","EXP":%d}`,
	} {
		f.Add([]byte(head), fmt.Appendf(nil, c, exp), true)
	}
	f.Add([]byte(`{"alg":"none","kid":"`+shop.kid+`"}`), fmt.Appendf(nil, `{"iss":"shop","aud":"madang","channel":"desk","exp":%d}`, exp), false)
	f.Add([]byte(`{"alg":"HS256","kid":["`+shop.kid+`"],"crit":1}`), []byte(`{}`), true)
	f.Fuzz(func(t *testing.T, header, claims []byte, signed bool) {
		key := "not the secret"
		if signed {
			key = shop.secret
		}
		g, err := a.Join(t.Context(), auth.Credentials{Token: sign(header, claims, key, sha256.New), Channel: "desk", Role: auth.RoleHost})
		if err != nil {
			r := &refusal.Refusal{}
			if !errors.As(err, &r) || !strings.HasPrefix(string(r.Code), "token_") {
				t.Errorf("%q %q: %v", header, claims, err)
			}
			return
		}
		if !signed || g.Project != shop.id || g.Channel != "desk" || g.Role != "" && !g.Role.Valid() || g.Authenticated != (g.UID != "") ||
			len(g.UID) > 128 || len(g.Name) > 128 || time.Until(g.ExpiresAt) < -auth.Leeway {
			t.Errorf("%q %q (signed: %v) give %+v", header, claims, signed, g)
		}
	})
}

// FuzzTokenText: bytes that are no token of anybody's admit nobody.
func FuzzTokenText(f *testing.F) {
	_, a, shop, _ := newTenants(f)
	good, err := auth.Mint(auth.Claims{Project: shop.id, Channels: []string{"*"}, ExpiresAt: time.Now().Add(24 * time.Hour)}, shop.kid, shop.secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-2])
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(strings.Repeat(".", 5000))
	f.Fuzz(func(t *testing.T, token string) {
		if token == "" {
			return
		}
		_, err := a.Join(t.Context(), auth.Credentials{Token: token, Channel: "desk"})
		r := &refusal.Refusal{}
		if !errors.As(err, &r) || !strings.HasPrefix(string(r.Code), "token_") {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// FuzzKey: nothing but the keys themselves opens either door.
func FuzzKey(f *testing.F) {
	_, a, shop, other := newTenants(f)
	for _, s := range []string{shop.browser.ID, shop.serverFull, shop.server, other.serverFull, "msk_", "msk_a_b_c", "mbk_x", "mad_x", "'", project.SandboxKey, "\x00\xff"} {
		f.Add(s)
	}
	address := netip.MustParseAddr("198.51.100.7")
	f.Fuzz(func(t *testing.T, key string) {
		k, err := a.Server(t.Context(), key, address)
		if err == nil && !(key == shop.serverFull && k.ID == shop.server || key == other.serverFull && k.ID == other.server) {
			t.Errorf("%q opens the REST API of %s", key, k.Project)
		}
		g, err2 := a.Join(t.Context(), auth.Credentials{Key: key, Channel: "desk", Origin: "https://shop.example"})
		if err2 == nil && (key != shop.browser.ID || g.Project != shop.id) {
			t.Errorf("%q opens a channel of %s", key, g.Project)
		}
		for _, err := range []error{err, err2} {
			r := &refusal.Refusal{}
			if err != nil && (!errors.As(err, &r) || r.Status() >= 500) {
				t.Errorf("%q: %v", key, err)
			}
		}
	})
}
