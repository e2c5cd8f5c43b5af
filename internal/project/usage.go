package project

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/store"
)

// A Metric is something that is counted for each project and day.
type Metric string

const (
	Joins      Metric = "joins"
	RelayBytes Metric = "relayBytes" // both directions
)

// Metrics are all of them.
var Metrics = []Metric{Joins, RelayBytes}

const (
	flushEvery = time.Second          // what a crash may cost of the counters
	keepUsage  = 400 * 24 * time.Hour // a year, and a month to look back on it
	dayLayout  = "2006-01-02"
)

// A Day is what a project used on one day of UTC.
type Day struct {
	Day    string // 2006-01-02
	Values map[Metric]int64
}

// meter counts in memory, so that a join waits for no disk, and hands its counts to the store each second. One process counts: the
// one that holds the server's lock.
type meter struct {
	flushing sync.Mutex // held by the one who stores counts; taken before mu

	mu       sync.Mutex
	counts   map[countKey]*count
	limiters map[string]*rate.Limiter // by project
}

type countKey struct {
	project string
	day     string
	metric  Metric
}

// A count is valid when known: stored was read once.
type count struct {
	known  bool
	stored int64 // in the database
	added  int64 // not there yet
}

func (m *meter) init() {
	m.counts = map[countKey]*count{}
	m.limiters = map[string]*rate.Limiter{}
}

func (m *meter) at(k countKey) *count {
	c := m.counts[k]
	if c == nil {
		c = &count{}
		m.counts[k] = c
	}
	return c
}

// forget drops the limiter of a deleted project; its counts go with the day.
func (m *meter) forget(project string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.limiters, project)
}

// countJoin counts a join, or says which of the project's bounds it passes.
func (s *Service) countJoin(ctx context.Context, p Project) error {
	now := time.Now()
	if wait := s.meter.limit(p, now); wait > 0 {
		return refusal.Newf(refusal.RateLimited, "The project admits %g joins a second.", p.Settings.JoinsPerSecond).After(wait).With("limit", "joinsPerSecond")
	}
	return s.take(ctx, p.ID, Joins, 1, p.Settings.JoinsPerDay, now)
}

// limit applies the project's rate of joins, and returns how long to wait; 0: go on.
func (m *meter) limit(p Project, now time.Time) time.Duration {
	perSecond := rate.Limit(p.Settings.JoinsPerSecond)
	if perSecond <= 0 {
		return 0
	}
	burst := max(1, int(4*perSecond))
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.limiters[p.ID]
	if l == nil || l.Burst() != burst || l.Limit() != perSecond {
		l = rate.NewLimiter(perSecond, burst)
		m.limiters[p.ID] = l
	}
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// Count adds to a metric without asking, for what has happened already. It never blocks on the disk. Unknown projects are dropped when
// the counts are stored.
func (s *Service) Count(project string, metric Metric, n int64) {
	if n <= 0 {
		return
	}
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	s.meter.at(countKey{project, time.Now().UTC().Format(dayLayout), metric}).added += n
}

// CheckQuota refuses when the day's quota of a metric is used up: quota_exceeded.
func (s *Service) CheckQuota(ctx context.Context, project string, metric Metric) error {
	p, err := s.Get(ctx, project)
	if err != nil {
		return err
	}
	var quota int64
	switch metric {
	case Joins:
		quota = p.Settings.JoinsPerDay
	case RelayBytes:
		quota = p.Settings.RelayBytesPerDay
	}
	return s.take(ctx, project, metric, 0, quota, time.Now())
}

// take adds n if the quota is not used up; a quota of 0 is none.
func (s *Service) take(ctx context.Context, project string, metric Metric, n, quota int64, now time.Time) error {
	k := countKey{project, now.UTC().Format(dayLayout), metric}
	if quota > 0 {
		if err := s.know(ctx, k); err != nil {
			return err
		}
	}
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	c := s.meter.at(k)
	if quota > 0 && c.stored+c.added >= quota {
		day := now.UTC().Truncate(24 * time.Hour)
		return refusal.Newf(refusal.QuotaExceeded, "The project's quota of %s for today (UTC) is used up.", metric).
			After(day.Add(24*time.Hour).Sub(now)).With("quota", string(metric)).With("limit", quota)
	}
	c.added += n
	return nil
}

// know reads what earlier runs counted today, once.
func (s *Service) know(ctx context.Context, k countKey) error {
	s.meter.mu.Lock()
	known := s.meter.at(k).known
	s.meter.mu.Unlock()
	if known {
		return nil
	}
	var stored int64
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) {
		stored, err = store.One(tx, store.Int, `SELECT value FROM usage WHERE project = $1 AND day = $2 AND metric = $3`, k.project, k.day, string(k.metric))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNone) {
		return err
	}
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	if c := s.meter.at(k); !c.known {
		c.known, c.stored = true, stored
	}
	return nil
}

// Run stores the counters each second, and removes what is too old each hour, until ctx ends; then it stores them a last time.
// When the disk does not take them they are kept, and the log says so once.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var (
		failing bool
		swept   time.Time
	)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := s.flush(last); err != nil {
				s.log.Error("the last counts of usage are lost", "err", err)
			}
			return nil
		case now := <-tick.C:
			err := s.flush(ctx)
			if err == nil && now.Sub(swept) >= time.Hour {
				if err = s.sweep(ctx, now); err == nil {
					swept = now
				}
			}
			switch {
			case err != nil && ctx.Err() == nil && !failing:
				failing = true
				s.log.Error("usage cannot be stored: it is kept in memory until it can", "err", err)
			case err == nil && failing:
				failing = false
				s.log.Info("usage is stored again")
			}
		}
	}
}

// flush stores what was added.
func (s *Service) flush(ctx context.Context) error {
	s.meter.flushing.Lock()
	defer s.meter.flushing.Unlock()
	type addition struct {
		countKey
		n, now int64
	}
	today := time.Now().UTC().Format(dayLayout)
	var todo []addition
	s.meter.mu.Lock()
	for k, c := range s.meter.counts {
		if c.added > 0 {
			todo = append(todo, addition{countKey: k, n: c.added})
		} else if k.day != today {
			delete(s.meter.counts, k)
		}
	}
	s.meter.mu.Unlock()
	if len(todo) == 0 {
		return nil
	}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		for i := range todo {
			a := &todo[i]
			// The project may have been deleted meanwhile.
			if _, err := tx.Exec(`INSERT INTO usage (project, day, metric, value)
				SELECT id, $2, $3, $4 FROM projects WHERE id = $1
				ON CONFLICT (project, day, metric) DO UPDATE SET value = usage.value + excluded.value`,
				a.project, a.day, string(a.metric), a.n); err != nil {
				return err
			}
			var err error
			a.now, err = store.One(tx, store.Int, `SELECT value FROM usage WHERE project = $1 AND day = $2 AND metric = $3`, a.project, a.day, string(a.metric))
			if err != nil && !errors.Is(err, store.ErrNone) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	for _, a := range todo {
		c := s.meter.at(a.countKey)
		c.added -= a.n
		c.stored, c.known = a.now, true
	}
	return nil
}

// sweep removes what is kept no longer.
func (s *Service) sweep(ctx context.Context, now time.Time) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM usage WHERE day < $1`, now.Add(-keepUsage).UTC().Format(dayLayout))
		return err
	})
}

// Usage returns the days from and to, both included, on which the project used something, in order. It includes what is not stored yet.
func (s *Service) Usage(ctx context.Context, project string, from, to time.Time) ([]Day, error) {
	if to.Before(from) {
		return nil, invalid("to", "is not before from")
	}
	first, last := from.UTC().Format(dayLayout), to.UTC().Format(dayLayout)
	// Store what is pending, so that the sum is right without holding a lock during the query. A process that does not count has
	// nothing pending.
	if err := s.flush(ctx); err != nil {
		s.log.Warn("usage is shown without the last counts", "err", err)
	}
	type row struct {
		day    string
		metric Metric
		value  int64
	}
	var rows []row
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) {
		if _, err := getProject(tx, project); err != nil {
			return err
		}
		rows, err = store.All(tx, func(r store.Scanner) (v row, err error) { return v, r.Scan(&v.day, &v.metric, &v.value) },
			`SELECT day, metric, value FROM usage WHERE project = $1 AND day >= $2 AND day <= $3 ORDER BY day, metric`, project, first, last)
		return err
	})
	if err != nil {
		return nil, outside(err)
	}
	var days []Day
	for _, r := range rows {
		if len(days) == 0 || days[len(days)-1].Day != r.day {
			days = append(days, Day{Day: r.day, Values: map[Metric]int64{}})
		}
		days[len(days)-1].Values[r.metric] = r.value
	}
	return days, nil
}
