package server

import (
	"context"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/madang-rtc/madang/internal/channel"
	"github.com/madang-rtc/madang/internal/depot"
	"github.com/madang-rtc/madang/internal/playrtc"
	"github.com/madang-rtc/madang/internal/portmux"
	"github.com/madang-rtc/madang/internal/signalserver"
)

// registerOperations adds what operators and their machines ask for.
func (s *Server) registerOperations(routes *http.ServeMux) {
	answer := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		w.Write([]byte(text + "\n"))
	}
	probe := &probe{ask: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return s.database.Probe(ctx)
	}}
	// healthz: the process answers. readyz: it takes new work.
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch err := probe.look(); {
		case s.draining.Load():
			answer(w, http.StatusServiceUnavailable, "draining")
		case err != nil:
			s.log.Error("readyz: the database does not take writes", "err", err)
			answer(w, http.StatusServiceUnavailable, "the database does not take writes")
		default:
			answer(w, http.StatusOK, "ready")
		}
	})
}

// metricsOn returns a mux with /metrics alone, for a port of its own.
func metricsOn(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return mux
}

// forThisMachine serves open to programs on this machine that show no credentials, and guarded to all others. Behind a proxy everybody comes from this machine: that a
// request was passed on shows in its headers, of which a proxy that is honest sets one.
func forThisMachine(open, guarded http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		local := err == nil && peer.Addr().Unmap().IsLoopback()
		for _, h := range []string{"Authorization", "Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
			local = local && len(r.Header[h]) == 0
		}
		if local {
			open.ServeHTTP(w, r)
		} else {
			guarded.ServeHTTP(w, r)
		}
	})
}

// A probe keeps an answer for a second: to ask is to write to the disk, and everybody may.
type probe struct {
	ask func() error

	mu  sync.Mutex
	at  time.Time
	err error
}

func (p *probe) look() error {
	p.mu.Lock() // those who come meanwhile wait for this answer
	defer p.mu.Unlock()
	if p.at.IsZero() || time.Since(p.at) >= time.Second {
		p.err = p.ask()
		p.at = time.Now()
	}
	return p.err
}

func registerProcess(registry *prometheus.Registry) {
	// What is live at the end of a collection, beside what is allocated: whether memory grows can be told from it.
	live := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}
	registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(live)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "madang_build_info", Help: "Always 1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": Version()},
	}, func() float64 { return 1 })
}

// counts shows the counters of parts that know no Prometheus.
type counts struct {
	channels *channel.Service
	signals  *signalserver.Server
	playrtcs *playrtc.Server
	port     *portmux.Mux
	depots   *depot.Service
}

var (
	descChannels   = prometheus.NewDesc("madang_channels", "Channels with an owner.", []string{"project"}, nil)
	descPeers      = prometheus.NewDesc("madang_peers", "Members of channels.", []string{"project"}, nil)
	descPending    = prometheus.NewDesc("madang_pending_peers", "Peers that ring or wait to be admitted.", []string{"project"}, nil)
	descJoined     = prometheus.NewDesc("madang_joins_total", "Joins that made or took over a membership.", nil, nil)
	descResumed    = prometheus.NewDesc("madang_resumes_total", "Sessions that went on over a new link.", nil, nil)
	descMessages   = prometheus.NewDesc("madang_messages_total", "Numbered messages from clients and applications.", nil, nil)
	descDelivered  = prometheus.NewDesc("madang_events_total", "Numbered events to clients.", nil, nil)
	descEnded      = prometheus.NewDesc("madang_sessions_ended_total", "Sessions that the server ended.", []string{"reason"}, nil)
	descLinks      = prometheus.NewDesc("madang_links_total", "Links of clients, by what became of them.", []string{"outcome"}, nil)
	descPlayRTC    = prometheus.NewDesc("madang_playrtc", "What is held for PlayRTC clients.", []string{"what"}, nil)
	descUndecided  = prometheus.NewDesc("madang_undecided_connections", "TCP connections that have not said yet what they are.", nil, nil)
	descEvicted    = prometheus.NewDesc("madang_evicted_connections_total", "TCP connections closed because too many had said nothing.", nil, nil)
	descDepots     = prometheus.NewDesc("madang_depots", "Transfers that wait on this node for a receiver.", []string{"project"}, nil)
	descDepotBytes = prometheus.NewDesc("madang_depot_used_bytes", "What they use of the project's quota.", []string{"project"}, nil)
	descDepotMoved = prometheus.NewDesc("madang_depot_bytes_total", "Sealed bytes that went into depots and out of them.", []string{"project", "direction"}, nil)
	allDescription = []*prometheus.Desc{descDepots, descDepotBytes, descDepotMoved, descChannels, descPeers, descPending, descJoined, descResumed, descMessages, descDelivered, descEnded, descLinks, descPlayRTC, descUndecided, descEvicted}
)

func (c counts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allDescription {
		ch <- d
	}
}

func (c counts) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	channels, links, port := c.channels.Stats(), c.signals.Stats(), c.port.Stats()
	for id, p := range channels.Projects {
		gauge(descChannels, p.Channels, id)
		gauge(descPeers, p.Peers, id)
		gauge(descPending, p.Pending, id)
	}
	counter(descJoined, channels.Joined)
	counter(descResumed, channels.Resumed)
	counter(descMessages, channels.Messages)
	counter(descDelivered, channels.Delivered)
	counter(descEnded, channels.Overflowed, "mailbox_full")
	counter(descEnded, channels.Lost, "lost")
	counter(descEnded, channels.Kicked, "kicked")
	counter(descLinks, links.Accepted, "accepted")
	counter(descLinks, links.Refused, "refused")
	counter(descLinks, links.TimedOut, "timed_out")
	counter(descLinks, links.Slow, "slow")
	counter(descLinks, links.Limited, "limited")
	for id, d := range c.depots.Stats() {
		gauge(descDepots, d.Depots, id)
		gauge(descDepotBytes, int(d.Used), id)
		counter(descDepotMoved, d.In, id, "in")
		counter(descDepotMoved, d.Out, id, "out")
	}
	old := c.playrtcs.Stats()
	gauge(descPlayRTC, old.Sockets, "sockets")
	gauge(descPlayRTC, old.Channels, "channels")
	gauge(descPlayRTC, old.Tokens, "tokens")
	gauge(descUndecided, port.Undecided)
	counter(descEvicted, port.Evicted)
}
