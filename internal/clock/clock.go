// Package clock is the time that Carrel's parts are given: the machine's, or one that a simulation moves.
//
// It refuses to be ambient: nobody reads a package-level clock, everybody is handed one.
package clock

import (
	"sync"
	"time"
)

// Clock tells time and wakes sleepers.
type Clock interface {
	// Now is the current time.
	Now() time.Time
	// After gives a channel that receives once d has passed on this clock, and a function that gives up waiting.
	// stop may be called any number of times.
	After(d time.Duration) (fired <-chan time.Time, stop func())
}

// System is the machine's clock.
type System struct{}

// Now is time.Now.
func (System) Now() time.Time { return time.Now() }

// After is a time.Timer.
func (System) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Movable runs with the machine's clock plus an offset that Advance makes larger. It never goes back.
// The zero value is ready to use.
type Movable struct {
	mu      sync.Mutex
	offset  time.Duration
	sleeper map[*sleeper]struct{}
}

type sleeper struct {
	at    time.Time
	c     chan time.Time
	timer *time.Timer
}

// Now is the machine's time plus what has been advanced.
func (m *Movable) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.offset)
}

// Offset is how far the clock has been moved.
func (m *Movable) Offset() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offset
}

// After fires when d has passed, by waiting or by Advance.
func (m *Movable) After(d time.Duration) (<-chan time.Time, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &sleeper{at: time.Now().Add(m.offset + d), c: make(chan time.Time, 1)}
	if m.sleeper == nil {
		m.sleeper = map[*sleeper]struct{}{}
	}
	m.sleeper[s] = struct{}{}
	s.timer = time.AfterFunc(d, func() { m.wake(s) })
	return s.c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sleeper, s)
		s.timer.Stop()
	}
}

func (m *Movable) wake(s *sleeper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, waiting := m.sleeper[s]; !waiting {
		return
	}
	delete(m.sleeper, s)
	s.c <- time.Now().Add(m.offset)
}

// Advance moves the clock forward by d (a negative d does nothing) and wakes everybody whose time has come.
func (m *Movable) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	m.mu.Lock()
	m.offset += d
	now := time.Now().Add(m.offset)
	var due []*sleeper
	for s := range m.sleeper {
		if !s.at.After(now) {
			due = append(due, s)
			continue
		}
		s.timer.Reset(s.at.Sub(now))
	}
	m.mu.Unlock()
	for _, s := range due {
		s.timer.Stop()
		m.wake(s)
	}
}
