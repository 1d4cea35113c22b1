// Package metrics holds Carrel's Prometheus metrics and the listener they are read from.
//
// It refuses to be reachable from elsewhere unless told: names of operations and error codes are nobody else's business.
package metrics

import (
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is the set of one process.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	steps    *prometheus.CounterVec

	mu sync.RWMutex
	// calls are the members of requests and seconds that there are; to look one up by its labels takes Prometheus several times what counting does.
	calls map[call]counted
}

// call is what is counted together; its members are labels.
type call struct{ service, operation, code string }

type counted struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// New makes the set with Go's and the process's own metrics in it.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "carrel_api_requests_total", Help: "API requests by service, operation and error code (empty: success)."}, []string{"service", "operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "carrel_api_request_seconds", Help: "Time from a request's first byte read to its answer, in seconds.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 2.5, 14)}, []string{"service", "operation"}),
		calls: map[call]counted{},
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "carrel_reconcile_steps_total", Help: "Reconciler steps by plan, step and outcome (ok, error)."}, []string{"plan", "step", "outcome"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "carrel_build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.steps, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gauge adds a number that is asked for when metrics are read ("carrel_workspaces").
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Request counts one API request. Labels come from the model's operations only, never from what a client sent.
func (m *Metrics) Request(service, operation, code string, took time.Duration) {
	c := call{service, operation, code}
	m.mu.RLock()
	have, ok := m.calls[c]
	m.mu.RUnlock()
	if !ok {
		have = counted{m.requests.WithLabelValues(service, operation, code), m.seconds.WithLabelValues(service, operation)}
		m.mu.Lock()
		m.calls[c] = have
		m.mu.Unlock()
	}
	have.requests.Inc()
	have.seconds.Observe(took.Seconds())
}

// Step counts one reconciler step.
func (m *Metrics) Step(plan, step string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.steps.WithLabelValues(plan, step, outcome).Inc()
}

// Handler serves /metrics and, when withPprof, /debug/pprof/.
func (m *Metrics) Handler(withPprof bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	if withPprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
