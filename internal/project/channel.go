package project

import (
	"context"
	"time"

	"github.com/madang-rtc/madang/internal/auth"
	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

const maxChannels = 10_000 // definitions of one project

// A Channel is a channel's definition: what it is before the first peer comes.
type Channel struct {
	Project   string
	Name      string
	Version   int64
	CreatedAt time.Time
	auth.Definition
}

// checkDefinition names the field that makes no sense.
func checkDefinition(name string, d auth.Definition) error {
	switch {
	case !auth.ValidChannelName(name):
		return refusal.Newf(refusal.InvalidField, "A channel's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -").With("field", "name")
	case d.Capacity < 0 || d.Capacity > maxPeersPerChannel:
		return invalid("capacity", "is between 0 and %d", maxPeersPerChannel)
	}
	return nil
}

// DefineChannel makes a definition; conflict if there is one.
func (s *Service) DefineChannel(ctx context.Context, project, name string, d auth.Definition) (c Channel, err error) {
	if err := checkDefinition(name, d); err != nil {
		return c, err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if err := checkRoom(tx, "channels", project, maxChannels); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO channels (`+channelColumns+`) VALUES ($1, $2, $3, $4, $5, 1, $6)`,
			project, name, d.Capacity, flag(d.WaitingRoom), flag(d.Locked), time.Now().UnixMilli()); err != nil {
			return err
		}
		c, err = getChannel(tx, project, name)
		return err
	})
	return c, outside(err)
}

// RedefineChannel changes a definition with the function given. If version is not 0 the definition must still have it.
func (s *Service) RedefineChannel(ctx context.Context, project, name string, version int64, change func(*auth.Definition)) (c Channel, err error) {
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if c, err = getChannel(tx, project, name); err != nil {
			return err
		}
		if version != 0 && version != c.Version {
			return refusal.Newf(refusal.Conflict, "The channel has changed meanwhile.")
		}
		change(&c.Definition)
		if err := checkDefinition(name, c.Definition); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE channels SET capacity = $3, waiting_room = $4, locked = $5, version = version + 1 WHERE project = $1 AND name = $2`,
			project, name, c.Capacity, flag(c.WaitingRoom), flag(c.Locked)); err != nil {
			return err
		}
		c, err = getChannel(tx, project, name)
		return err
	})
	return c, outside(err)
}

// Channel returns a definition; not_found if there is none.
func (s *Service) Channel(ctx context.Context, project, name string) (c Channel, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		c, err = getChannel(tx, project, name)
		return err
	})
	return c, outside(err)
}

// Channels returns at most limit definitions of a project whose names come after the given one, ordered by name.
func (s *Service) Channels(ctx context.Context, project, after string, limit int) (all []Channel, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := getProject(tx, project); err != nil {
			return err
		}
		all, err = store.All(tx, scanChannel, `SELECT `+channelColumns+` FROM channels WHERE project = $1 AND name > $2 ORDER BY name LIMIT $3`, project, after, limit)
		return err
	})
	return all, outside(err)
}

// ForgetChannel removes a definition; not_found if there is none.
func (s *Service) ForgetChannel(ctx context.Context, project, name string) error {
	return outside(s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM channels WHERE project = $1 AND name = $2`, project, name)
		if err == nil && n == 0 {
			err = store.ErrNone
		}
		return err
	}))
}

const channelColumns = `project, name, capacity, waiting_room, locked, version, created_ms`

func scanChannel(row store.Scanner) (c Channel, err error) {
	var (
		waiting, locked int
		created         int64
	)
	err = row.Scan(&c.Project, &c.Name, &c.Capacity, &waiting, &locked, &c.Version, &created)
	c.WaitingRoom, c.Locked, c.CreatedAt = waiting != 0, locked != 0, time.UnixMilli(created).UTC()
	return c, err
}

func getChannel(tx *store.Tx, project, name string) (Channel, error) {
	return store.One(tx, scanChannel, `SELECT `+channelColumns+` FROM channels WHERE project = $1 AND name = $2`, project, name)
}
