// Package throttle counts calls in token buckets: one for each principal and operation, as AWS does it.
//
// It refuses to know what a call is or how a refusal is worded, and it shares nothing between processes: each control node has buckets
// of its own.
package throttle

import (
	"sync"
	"time"

	"carrel/internal/clock"
)

// Rate is a token bucket: Burst calls at once, and PerSecond more each second until it is full again.
type Rate struct {
	PerSecond float64
	Burst     int
}

// full is how long an empty bucket takes to be full again.
func (r Rate) full() time.Duration {
	return time.Duration(float64(r.Burst) / r.PerSecond * float64(time.Second))
}

// Call is what has one bucket. Principal is whoever must not get a second bucket by calling itself otherwise: a role's id, not the
// name of one of its sessions, which its holder chooses.
type Call struct {
	Principal, Service, Operation string
	// ReadOnly goes with the operation.
	ReadOnly bool
}

// Rates say which bucket a call takes from.
type Rates func(Call) Rate

// Limiter holds the buckets. All methods may be called concurrently.
type Limiter struct {
	clock clock.Clock
	rates Rates

	mu sync.Mutex
	// young are the buckets touched since turned, old those of the period before it. A bucket in neither was left alone for a whole
	// period, so it is full and need not be remembered: memory follows who called lately, not who ever called.
	young, old map[Call]bucket
	turned     time.Time
	period     time.Duration
}

// most is how many buckets one period has; whoever comes later in it shares one an operation with all others who do.
const most = 100_000

type bucket struct {
	tokens float64
	at     time.Time
}

// New makes a Limiter without any bucket yet.
func New(c clock.Clock, rates Rates) *Limiter {
	return &Limiter{clock: c, rates: rates, young: map[Call]bucket{}, turned: c.Now(), period: time.Minute}
}

// Allow takes a token for c. False: there is none, and nothing was taken. A Rate without burst or refill allows nothing.
func (l *Limiter) Allow(c Call) bool {
	r := l.rates(c)
	if r.PerSecond <= 0 || r.Burst < 1 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	l.turn(now, r.full())
	b, known := l.find(c)
	if !known && len(l.young) >= most {
		c.Principal = ""
		b, known = l.find(c)
	}
	if !known {
		b = bucket{float64(r.Burst), now}
	}
	// A clock that was set back gives nothing and takes nothing.
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(float64(r.Burst), b.tokens+passed.Seconds()*r.PerSecond)
	}
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.young[c] = b
	return allowed
}

// find looks for the bucket of c. The caller holds mu.
func (l *Limiter) find(c Call) (bucket, bool) {
	b, known := l.young[c]
	if !known {
		b, known = l.old[c]
	}
	return b, known
}

// turn makes the young buckets the old ones once a period has passed, and forgets the old ones. A period is at least as long as the
// slowest bucket takes to be full.
func (l *Limiter) turn(now time.Time, full time.Duration) {
	l.period = max(l.period, full)
	passed := now.Sub(l.turned)
	if passed < 0 {
		l.turned = now
	}
	if passed < l.period {
		return
	}
	l.old = l.young
	if passed >= 2*l.period {
		l.old = nil
	}
	l.young, l.turned = map[Call]bucket{}, now
}
