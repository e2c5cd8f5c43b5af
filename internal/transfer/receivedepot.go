package transfer

import (
	"errors"
	"time"

	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/refusal"
)

// depotLookEach is how often a receiver looks whether something waits on the server.
const depotLookEach = 5 * time.Second

// watchDepot uses what waits on the server, as long as there is something: beside the sender, and when the sender is not there.
func (r *receiver) watchDepot() {
	keys := r.cfg.Ticket.depotKeys()
	client := &depotClient{server: r.meeting.server, id: r.cfg.Ticket.ID, token: keys.read}
	bad := &badObjects{set: map[uint64]bool{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	told := false
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-timer.C:
		}
		state, err := client.look(r.ctx)
		switch {
		case err != nil:
			if !errors.Is(err, refusal.New(refusal.DepotUnknown)) && r.ctx.Err() == nil {
				r.cfg.Server.log().Debug("look for a depot", "err", err)
			}
		case state.State == depot.Open && len(state.Objects) > 0:
			l := newDepotLane(r.ctx, client, keys, r.disk.end, state, bad)
			if err := r.adopt(l, "", roleSender); err != nil {
				r.cfg.Server.log().Debug("use a depot", "err", err)
			} else {
				select {
				case <-l.ctx.Done(): // adopt closes it with its port
				case <-r.ctx.Done():
				}
			}
		case len(r.meeting.with(roleSender)) > 0:
		case state.State == depot.Taken && state.Taker != keys.takerOf(r.disk.end):
			r.end(refusal.New(refusal.TransferTaken))
			return
		case state.State == depot.Expired && !told:
			told = true
			r.cfg.OnEvent(Event{Code: string(refusal.DepotExpired)})
		}
		timer.Reset(depotLookEach)
	}
}

// fromDepotLocked reports whether a depot is in use.
func (r *receiver) fromDepotLocked() bool {
	return len(r.fetcher.sources()) > len(r.fetcher.senders())
}
