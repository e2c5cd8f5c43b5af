package relay

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// nonceLifetime is how long pion takes a nonce. It binds it to no client: within that time whoever has seen an Allocate request on its way could make an allocation of
// its own by sending the same bytes from elsewhere (RFC 8656 §21.1.2), and keep and use it with what else it has seen.
const nonceLifetime = time.Hour

// maxReplays bounds each of the two generations that are remembered: about 4 MiB. Only requests with right credentials come in here.
const maxReplays = 1 << 16

// replays remember which 5-tuple sent an Allocate request first. What is sent anew has a transaction ID of its own, and with it another MESSAGE-INTEGRITY: the same one
// from elsewhere is a replay. Safe for concurrent use; the zero value is ready.
type replays struct {
	mu         sync.Mutex
	seed       maphash.Seed // nobody can choose what falls together
	young, old map[uint64]netip.AddrPort
	turned     time.Time // when old was young
}

// isFirst reports whether a request with this MESSAGE-INTEGRITY has come from no other client before.
func (r *replays) isFirst(integrity []byte, from netip.AddrPort, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil {
		r.seed, r.young, r.turned = maphash.MakeSeed(), map[uint64]netip.AddrPort{}, now
	}
	if age := now.Sub(r.turned); age > nonceLifetime || len(r.young) >= maxReplays {
		r.old, r.young, r.turned = r.young, map[uint64]netip.AddrPort{}, now
		if age > 2*nonceLifetime {
			r.old = nil
		}
	}
	key := maphash.Bytes(r.seed, integrity)
	first, seen := r.young[key]
	if !seen {
		first, seen = r.old[key]
	}
	if !seen {
		r.young[key] = from
		return true
	}
	return first == from
}
