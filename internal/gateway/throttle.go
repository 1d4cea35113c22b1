package gateway

import (
	"sync"
	"time"
)

// throttle counts failures by key and refuses a key that has failed too often, for a while. What it knows is bounded: when it is full,
// the failures that are oldest go first, which lets an attacker with very many addresses forget those of others, but never lets one key
// try faster than its own allowance between two sweeps.
type throttle struct {
	// limit failures within window make a key wait until the first of them is older than window.
	limit  int
	window time.Duration
	keys   int

	mu    sync.Mutex
	known map[string]*failures
}

type failures struct {
	count int
	since time.Time
}

// refused says whether key has to wait, and how long.
func (t *throttle) refused(key string, now time.Time) (wait time.Duration, yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.known[key]
	if f == nil || f.count < t.limit {
		return 0, false
	}
	if wait = f.since.Add(t.window).Sub(now); wait <= 0 {
		delete(t.known, key)
		return 0, false
	}
	return wait, true
}

// failed counts a failure.
func (t *throttle) failed(key string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[string]*failures{}
	}
	f := t.known[key]
	if f == nil || now.Sub(f.since) > t.window {
		if f == nil && len(t.known) >= t.keys {
			t.sweep(now)
		}
		f = &failures{since: now}
		t.known[key] = f
	}
	f.count++
}

// sweep makes room: everything over, or else the older half.
func (t *throttle) sweep(now time.Time) {
	for limit := t.window; len(t.known) >= t.keys && limit > time.Second; limit /= 2 {
		for key, f := range t.known {
			if now.Sub(f.since) >= limit {
				delete(t.known, key)
			}
		}
	}
	if len(t.known) >= t.keys {
		clear(t.known)
	}
}

// succeeded forgets a key's failures.
func (t *throttle) succeeded(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, key)
}
