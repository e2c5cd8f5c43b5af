package project

import (
	"context"
	"errors"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// Directory returns what an auth.Authorizer looks up.
func (s *Service) Directory() auth.Directory { return directory{s} }

type directory struct{ s *Service }

func (d directory) Project(ctx context.Context, id string) (auth.Project, error) {
	p, err := d.s.Get(ctx, id)
	return auth.Project{
		ID: p.ID, On: p.On, DevelopmentOnly: p.Kind == SandboxID,
		RequireToken: p.Settings.RequireToken, OpenChannels: p.Settings.OpenChannels,
		// The sandbox is where the published samples run; it exists in development alone.
		PlayRTC: p.Settings.PlayRTC || p.Kind == SandboxID, PlayRTCRoles: p.Settings.PlayRTCRoles,
		Limits: auth.Limits{PeersPerChannel: p.Settings.PeersPerChannel},
	}, err
}

func (d directory) Key(ctx context.Context, id string) (auth.Key, error) {
	var k auth.Key
	err := d.s.db.Read(ctx, func(tx *store.Tx) error {
		key, hash, err := getKey(tx, id)
		k = auth.Key{ID: key.ID, Project: key.Project, Kind: key.Kind, Hash: hash, Allow: key.Allow}
		return err
	})
	return k, outside(err)
}

func (d directory) Secret(ctx context.Context, project, kid string) (value string, err error) {
	err = d.s.db.Read(ctx, func(tx *store.Tx) error {
		value, err = store.One(tx, store.Text, `SELECT value FROM secrets WHERE kid = $1 AND project = $2`, kid, project)
		return err
	})
	return value, outside(err)
}

func (d directory) Definition(ctx context.Context, project, channel string) (*auth.Definition, error) {
	c, err := d.s.Channel(ctx, project, channel)
	if errors.Is(err, refusal.New(refusal.NotFound)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c.Definition, nil
}

func (d directory) CountJoin(ctx context.Context, project string) error {
	p, err := d.s.Get(ctx, project)
	if err != nil {
		return err
	}
	return d.s.countJoin(ctx, p)
}
