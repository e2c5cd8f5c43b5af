package relay

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// A dropReason says why a message or packet was dropped unanswered.
type dropReason int

const (
	dropMalformed    dropReason = iota // not STUN, not ChannelData
	dropUnsupported                    // responses, indications and methods that we do not offer
	dropNoAllocation                   // ChannelData or Send without an allocation
	dropFlood                          // flood gate
	dropTooBig                         // larger than inboundMTU
	dropDenied                         // policy, on the data path
	dropBandwidth                      // the user's bandwidth
	dropStreams                        // connection refused: Limits.Streams, StreamsPerAddress
	dropReasons
)

var dropNames = [dropReasons]string{"malformed", "unsupported", "no_allocation", "flood", "too_big", "denied", "bandwidth", "streams"}

// An authFailure says what was wrong with a request's credentials.
type authFailure int

const (
	authOK        authFailure = iota
	authMissing               // none; the normal first request of every client, not counted
	authRealm                 // another realm
	authUsername              // not a name that we make
	authExpired               //
	authIntegrity             // the password is wrong
	authRevoked               //
	authReplayed              // an Allocate request that another client sent before
	authFailures
)

var authNames = [authFailures]string{"", "", "realm", "username", "expired", "integrity", "revoked", "replayed"}

// counters of a Server that belong to no project.
type counters struct {
	bindings     atomic.Uint64
	dropped      [dropReasons]atomic.Uint64
	authFailures [authFailures]atomic.Uint64
}

// A Snapshot is the state of a Server at one moment.
type Snapshot struct {
	Allocations  int               // running
	Streams      int               // TCP and TLS connections
	Bindings     uint64            // STUN binding requests answered
	Dropped      map[string]uint64 // messages and packets dropped, by reason
	AuthFailures map[string]uint64 // by reason
	Projects     map[string]ProjectSnapshot
}

// A ProjectSnapshot is what one project has used since the Server's start.
type ProjectSnapshot struct {
	Allocations      int    // running
	AllocationsTotal uint64 // ever made
	Denied           uint64 // requests refused with 403, 486 or 508
	Usage                   // of all its peers; Project, Peer and Allocations are not set
}

// Snapshot returns the present state. It is meant for a console or a scrape, not for each packet.
func (s *Server) Snapshot() Snapshot {
	out := Snapshot{
		Bindings: s.counters.bindings.Load(),
		Dropped:  map[string]uint64{}, AuthFailures: map[string]uint64{}, Projects: map[string]ProjectSnapshot{},
	}
	for i := range s.counters.dropped {
		out.Dropped[dropNames[i]] = s.counters.dropped[i].Load()
	}
	for i := authRealm; i < authFailures; i++ {
		out.AuthFailures[authNames[i]] = s.counters.authFailures[i].Load()
	}
	for _, e := range s.streams {
		e.mu.Lock()
		out.Streams += len(e.streams)
		e.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.projects {
		out.Allocations += p.allocations
		out.Projects[id] = ProjectSnapshot{Allocations: p.allocations, AllocationsTotal: p.total, Denied: uint64(p.denied.Load()), Usage: p.gone}
	}
	for k, u := range s.users {
		p := out.Projects[k.project]
		p.Usage.add(u.usage())
		out.Projects[k.project] = p
	}
	return out
}

var (
	descAllocations = prometheus.NewDesc("madang_relay_allocations", "Running TURN allocations.", []string{"project"}, nil)
	descTotal       = prometheus.NewDesc("madang_relay_allocations_total", "TURN allocations made.", []string{"project"}, nil)
	descBytes       = prometheus.NewDesc("madang_relay_bytes_total", "Payload bytes relayed; up is from the client to its peers.", []string{"project", "direction"}, nil)
	descPackets     = prometheus.NewDesc("madang_relay_packets_total", "Datagrams relayed; up is from the client to its peers.", []string{"project", "direction"}, nil)
	descDenied      = prometheus.NewDesc("madang_relay_denied_total", "TURN requests refused with 403, 486 or 508.", []string{"project"}, nil)
	descAuth        = prometheus.NewDesc("madang_relay_auth_failures_total", "TURN requests with wrong credentials.", []string{"reason"}, nil)
	descDropped     = prometheus.NewDesc("madang_relay_dropped_total", "Messages and packets dropped unanswered.", []string{"reason"}, nil)
	descBindings    = prometheus.NewDesc("madang_relay_stun_bindings_total", "STUN binding requests answered.", nil, nil)
	descStreams     = prometheus.NewDesc("madang_relay_streams", "TCP and TLS connections of TURN clients.", nil, nil)
)

var _ prometheus.Collector = (*Server)(nil)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAllocations, descTotal, descBytes, descPackets, descDenied, descAuth, descDropped, descBindings, descStreams} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	snap := s.Snapshot()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for id, p := range snap.Projects {
		gauge(descAllocations, p.Allocations, id)
		counter(descTotal, p.AllocationsTotal, id)
		counter(descBytes, p.UpBytes, id, "up")
		counter(descBytes, p.DownBytes, id, "down")
		counter(descPackets, p.UpPackets, id, "up")
		counter(descPackets, p.DownPackets, id, "down")
		counter(descDenied, p.Denied, id)
	}
	for reason, n := range snap.AuthFailures {
		counter(descAuth, n, reason)
	}
	for reason, n := range snap.Dropped {
		counter(descDropped, n, reason)
	}
	counter(descBindings, snap.Bindings)
	gauge(descStreams, snap.Streams)
}
