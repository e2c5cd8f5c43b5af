package project_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/project"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// node is one process with the data directory open.
type node struct {
	*project.Service
	db *store.DB
}

func start(t *testing.T, dir string) node {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := project.New(t.Context(), project.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return node{s, db}
}

func wantCode(t *testing.T, err error, code refusal.Code) *refusal.Refusal {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want %s", code)
		return refusal.New(code)
	}
	r := refusal.From(err)
	if r.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
	return r
}

func TestTheFirstStartMakesWhatANodeNeeds(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	// Two processes at the same time.
	var wg sync.WaitGroup
	nodes := make([]node, 4)
	for i := range nodes {
		wg.Go(func() { nodes[i] = start(t, dir) })
	}
	wg.Wait()
	for _, n := range nodes {
		if string(n.NodeSecret()) != string(nodes[0].NodeSecret()) || len(n.NodeSecret()) != 32 {
			t.Error("the processes have different secrets")
		}
		if n.HomeKey() != nodes[0].HomeKey() || n.HomeKey() == "" {
			t.Error("the processes have different keys for the node's own pages")
		}
	}
	all, err := nodes[0].List(ctx, "", 10)
	if err != nil || len(all) != 2 || all[0].ID != "home" || all[1].ID != "sandbox" {
		t.Errorf("got %v, %v, want home and sandbox", all, err)
	}
	k, err := nodes[0].Key(ctx, "sandbox", project.SandboxKey)
	if err != nil || k.Kind != auth.BrowserKey {
		t.Errorf("sandbox key: %+v, %v", k, err)
	}
}

func TestADeletedSandboxStaysAwayAndHomeCannotBeDeleted(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	n := start(t, dir)
	if err := n.Delete(ctx, "sandbox"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.Delete(ctx, "sandbox"), refusal.NotFound)
	wantCode(t, n.Delete(ctx, "home"), refusal.Forbidden)
	wantCode(t, n.RemoveKey(ctx, "home", n.HomeKey()), refusal.Forbidden)
	again := start(t, dir)
	_, err := again.Get(ctx, "sandbox")
	wantCode(t, err, refusal.NotFound)
	if again.HomeKey() != n.HomeKey() {
		t.Error("the home key changed with a restart")
	}
}

func TestAnotherProcessSeesAChangeAtOnce(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	server, command := start(t, dir), start(t, dir)
	authorizer, err := auth.New(auth.Config{Directory: server.Directory()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := command.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	k, full, err := command.AddKey(ctx, p.ID, auth.BrowserKey, "web", []string{"https://shop.example"})
	if err != nil || full != k.ID {
		t.Fatal(k, full, err)
	}
	join := func() error {
		_, err := authorizer.Join(ctx, auth.Credentials{Key: full, Channel: "c", Origin: "https://shop.example"})
		return err
	}
	if err := join(); err != nil {
		t.Fatal(err)
	}
	off := false
	if _, err := command.Update(ctx, p.ID, 0, project.Change{On: &off}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, join(), refusal.ProjectOff)
	if err := command.RemoveKey(ctx, p.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, join(), refusal.KeyUnknown)
}

func TestAProjectMayHaveAnIDOfOnesOwn(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	if p, err := n.Create(ctx, "shop-2", "Shop", project.DefaultSettings()); err != nil || p.ID != "shop-2" {
		t.Error(p, err)
	}
	_, err := n.Create(ctx, "shop-2", "Shop", project.DefaultSettings())
	wantCode(t, err, refusal.Conflict)
	for _, bad := range []string{"x", "Shop", "2shop", "shop-", "-shop", "a b", "a:b", "a/b", "home", "sandbox", "가게", strings.Repeat("x", 33)} {
		_, err := n.Create(ctx, bad, "Shop", project.DefaultSettings())
		wantCode(t, err, refusal.InvalidField)
	}
}

func TestAServerKeyIsNotKept(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	p, err := n.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	k, full, err := n.AddKey(ctx, p.ID, auth.ServerKey, "backend", []string{"10.0.0.7", "::ffff:10.1.0.0/112"})
	if err != nil {
		t.Fatal(err)
	}
	if k.Allow[0] != "10.0.0.7/32" || k.Allow[1] != "10.1.0.0/16" {
		t.Errorf("got %v, want canonical networks", k.Allow)
	}
	secret := full[len(k.ID)+1:]
	for _, query := range []string{`SELECT COUNT(*) FROM keys WHERE instr(id || hash || name || allow, $1) > 0`, `SELECT COUNT(*) FROM settings WHERE instr(value, $1) > 0`} {
		var found int64
		if err := n.db.Read(ctx, func(tx *store.Tx) (err error) {
			found, err = store.One(tx, store.Int, query, secret)
			return err
		}); err != nil || found != 0 {
			t.Errorf("the secret stands in the database: %d rows, %v", found, err)
		}
	}
}

func TestBadSettingsAndListsAreNamed(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	p, err := n.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	for field, err := range map[string]error{
		"id":   func() error { _, err := n.Create(ctx, "home", "x", project.DefaultSettings()); return err }(),
		"name": func() error { _, err := n.Create(ctx, "", " ", project.DefaultSettings()); return err }(),
		"joinsPerDay": func() error {
			_, err := n.Update(ctx, p.ID, 0, project.Change{Settings: func(s *project.Settings) { s.JoinsPerDay = -1 }})
			return err
		}(),
		"origins[1]": func() error {
			_, _, err := n.AddKey(ctx, p.ID, auth.BrowserKey, "k", []string{"*", "https://a.example/x"})
			return err
		}(),
		"origins": func() error { _, _, err := n.AddKey(ctx, p.ID, auth.BrowserKey, "k", nil); return err }(),
		"cidrs[0]": func() error {
			_, _, err := n.AddKey(ctx, p.ID, auth.ServerKey, "k", []string{"https://a.example"})
			return err
		}(),
		"kind":     func() error { _, _, err := n.AddKey(ctx, p.ID, "door", "k", []string{"*"}); return err }(),
		"capacity": func() error { _, err := n.DefineChannel(ctx, p.ID, "c", auth.Definition{Capacity: -1}); return err }(),
	} {
		if r := wantCode(t, err, refusal.InvalidField); r.Detail["field"] != field {
			t.Errorf("got field %v, want %s", r.Detail["field"], field)
		}
	}
	if after, _ := n.Get(ctx, p.ID); after.Version != p.Version {
		t.Error("a refused change changed the project")
	}
}

func TestAChangeOfAnOldVersionIsAConflict(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	p, err := n.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	name := "store"
	after, err := n.Update(ctx, p.ID, p.Version, project.Change{Name: &name})
	if err != nil || after.Name != "store" || after.Version == p.Version {
		t.Fatal(after, err)
	}
	_, err = n.Update(ctx, p.ID, p.Version, project.Change{Name: &name})
	wantCode(t, err, refusal.Conflict)
}

func TestQuotaOfJoinsHoldsAcrossARestartAndEndsWithTheDay(t *testing.T) {
	dir := t.TempDir()
	// synctest's clock begins at midnight UTC of 2000-01-01.
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		serve := func() (n node, stop func()) {
			n = start(t, dir)
			run, cancel := context.WithCancel(ctx)
			done := make(chan error)
			go func() { done <- n.Run(run) }()
			return n, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				n.db.Close()
			}
		}
		n, stop := serve()
		p, err := n.Create(ctx, "", "shop", project.Settings{OpenChannels: true, JoinsPerDay: 5})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := n.Directory().CountJoin(ctx, p.ID); err != nil {
				t.Fatal(err)
			}
		}
		stop() // stores the counts
		n, stop = serve()
		defer func() { stop() }()
		time.Sleep(6 * time.Hour)
		for i := range 4 {
			err := n.Directory().CountJoin(ctx, p.ID)
			if i < 2 {
				if err != nil {
					t.Errorf("join %d: %v", 3+i, err)
				}
			} else if r := wantCode(t, err, refusal.QuotaExceeded); r.RetryAfter != 18*time.Hour {
				t.Errorf("got RetryAfter %v, want 18h: until midnight UTC", r.RetryAfter)
			}
		}
		wantCode(t, n.CheckQuota(ctx, p.ID, project.Joins), refusal.QuotaExceeded)
		time.Sleep(18 * time.Hour)
		if err := n.Directory().CountJoin(ctx, p.ID); err != nil {
			t.Errorf("on the next day: %v", err)
		}
		days, err := n.Usage(ctx, p.ID, time.Now().Add(-48*time.Hour), time.Now())
		if err != nil || len(days) != 2 || days[0].Day != "2000-01-01" || days[0].Values[project.Joins] != 5 || days[1].Values[project.Joins] != 1 {
			t.Errorf("got %v, %v, want 5 joins on the first day, 1 on the second", days, err)
		}
		wantCode(t, n.Directory().CountJoin(ctx, "nobody"), refusal.NotFound)
	})
}

func TestRelayBytesAreCountedEvenWhenAProjectIsDeletedMeanwhile(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	a, err := n.Create(ctx, "", "a", project.Settings{RelayBytesPerDay: 1000})
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Create(ctx, "", "b", project.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	n.Count(a.ID, project.RelayBytes, 999)
	n.Count(b.ID, project.RelayBytes, 5)
	if err := n.CheckQuota(ctx, a.ID, project.RelayBytes); err != nil {
		t.Error(err)
	}
	if err := n.Delete(ctx, b.ID); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if days, err := n.Usage(ctx, a.ID, now, now); err != nil || len(days) != 1 || days[0].Values[project.RelayBytes] != 999 {
		t.Errorf("got %v, %v, want 999 bytes", days, err)
	}
	n.Count(a.ID, project.RelayBytes, 1)
	wantCode(t, n.CheckQuota(ctx, a.ID, project.RelayBytes), refusal.QuotaExceeded)
}

func TestRateOfJoins(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		n := start(t, dir)
		defer n.db.Close()
		p, err := n.Create(ctx, "", "shop", project.Settings{JoinsPerSecond: 2})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			if err := n.Directory().CountJoin(ctx, p.ID); err != nil {
				t.Fatal(err)
			}
		}
		r := wantCode(t, n.Directory().CountJoin(ctx, p.ID), refusal.RateLimited)
		if r.RetryAfter != 500*time.Millisecond {
			t.Errorf("got RetryAfter %v, want 500ms", r.RetryAfter)
		}
		time.Sleep(r.RetryAfter)
		if err := n.Directory().CountJoin(ctx, p.ID); err != nil {
			t.Errorf("after RetryAfter: %v", err)
		}
	})
}

func TestTheAdminTokenIsShownOnceAndReplaced(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	if ok, err := n.IsAdmin(ctx, ""); ok || err != nil {
		t.Error("nobody has a token yet", ok, err)
	}
	first, err := n.FirstAdminToken(ctx)
	if err != nil || first == "" {
		t.Fatal(first, err)
	}
	if again, err := n.FirstAdminToken(ctx); again != "" || err != nil {
		t.Errorf("got %q, %v, want none", again, err)
	}
	if ok, _ := n.IsAdmin(ctx, first); !ok {
		t.Error("the token is not accepted")
	}
	second, err := n.NewAdminToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := n.IsAdmin(ctx, first); ok {
		t.Error("the former token is still accepted")
	}
	if ok, _ := n.IsAdmin(ctx, second); !ok {
		t.Error("the new token is not accepted")
	}
}

func TestSecretsRotate(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	p, err := n.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	kid, value, err := n.SigningSecret(ctx, p.ID) // makes the first one
	if err != nil || kid == "" || len(value) < 43 {
		t.Fatal(kid, len(value), err)
	}
	if again, same, err := n.SigningSecret(ctx, p.ID); again != kid || same != value || err != nil {
		t.Error("a second secret was made")
	}
	sec, value2, err := n.AddSecret(ctx, p.ID, "new")
	if err != nil || value2 == value {
		t.Fatal(err)
	}
	for _, c := range []struct{ kid, want string }{{kid, value}, {sec.KID, value2}} {
		if got, err := n.Directory().Secret(ctx, p.ID, c.kid); got != c.want || err != nil {
			t.Errorf("secret %s: %v", c.kid, err)
		}
	}
	if _, err := n.Directory().Secret(ctx, "sandbox", kid); !errors.Is(err, refusal.New(refusal.NotFound)) {
		t.Errorf("another project's secret: got %v, want not_found", err)
	}
	if err := n.RemoveSecret(ctx, p.ID, kid); err != nil {
		t.Fatal(err)
	}
	_, err = n.Directory().Secret(ctx, p.ID, kid)
	wantCode(t, err, refusal.NotFound)
	if all, err := n.Secrets(ctx, p.ID); err != nil || len(all) != 1 || all[0].KID != sec.KID {
		t.Errorf("got %v, %v", all, err)
	}
	_, _, err = n.SigningSecret(ctx, "nobody")
	wantCode(t, err, refusal.NotFound)
}

func TestChannelDefinitions(t *testing.T) {
	n, ctx := start(t, t.TempDir()), t.Context()
	p, err := n.Create(ctx, "", "shop", project.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	want := auth.Definition{Capacity: 3, WaitingRoom: true}
	c, err := n.DefineChannel(ctx, p.ID, "desk", want)
	if err != nil || c.Definition != want {
		t.Fatal(c, err)
	}
	_, err = n.DefineChannel(ctx, p.ID, "desk", want)
	wantCode(t, err, refusal.Conflict)
	_, err = n.DefineChannel(ctx, "nobody", "desk", want)
	wantCode(t, err, refusal.NotFound)
	_, err = n.DefineChannel(ctx, p.ID, "a/b", want)
	wantCode(t, err, refusal.InvalidField)
	if c, err = n.RedefineChannel(ctx, p.ID, "desk", c.Version, func(d *auth.Definition) { d.Locked = true }); err != nil || !c.Locked || c.Capacity != 3 {
		t.Error(c, err)
	}
	if d, err := n.Directory().Definition(ctx, p.ID, "desk"); err != nil || d == nil || *d != c.Definition {
		t.Error(d, err)
	}
	if d, err := n.Directory().Definition(ctx, p.ID, "elsewhere"); err != nil || d != nil {
		t.Error(d, err)
	}
	if err := n.ForgetChannel(ctx, p.ID, "desk"); err != nil {
		t.Error(err)
	}
	wantCode(t, n.ForgetChannel(ctx, p.ID, "desk"), refusal.NotFound)
}
