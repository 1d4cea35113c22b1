package qmp

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Event is something QEMU says unasked. The guest can cause many of them, at any rate, and their content.
type Event struct {
	Name string
	Data json.RawMessage
	// Time is by QEMU's clock, in UTC.
	Time time.Time
}

// Bounds of what waits to be read: a flood of one event, which a guest can cause, must not push out another (SHUTDOWN).
const (
	maxEvents    = 64
	maxOfOneName = 8
	maxEventSize = 64 << 10
)

// queue holds events that nobody has read yet.
type queue struct {
	wanted  []string
	ready   chan struct{}
	mu      sync.Mutex
	list    []Event
	dropped uint64
}

func (q *queue) init(wanted []string) {
	q.wanted, q.ready = slices.Clone(wanted), make(chan struct{}, 1)
}

func (q *queue) add(m message, size int) {
	if q.wanted != nil && !slices.Contains(q.wanted, m.Event) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	same := 0
	for _, e := range q.list {
		if e.Name == m.Event {
			same++
		}
	}
	if size > maxEventSize || same >= maxOfOneName || len(q.list) >= maxEvents {
		q.dropped++
		return
	}
	q.list = append(q.list, Event{Name: m.Event, Data: m.Data, Time: m.Time.time()})
	q.signal()
}

// signal wakes one reader; to be called with mu held.
func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return Event{}, false
	}
	e := q.list[0]
	q.list = slices.Delete(q.list, 0, 1)
	if len(q.list) > 0 {
		q.signal() // For another reader: one wake-up may stand for several events.
	}
	return e, true
}

// Event gives the next event, in order. ErrClosed: there will be none any more, and all that came have been read. When ctx ends: its error.
func (c *Client) Event(ctx context.Context) (Event, error) {
	for {
		if e, ok := c.events.pop(); ok {
			return e, nil
		}
		select {
		case <-c.events.ready:
		case <-c.done:
			if e, ok := c.events.pop(); ok {
				return e, nil
			}
			return Event{}, c.broken()
		case <-ctx.Done():
			return Event{}, fmt.Errorf("qmp: wait for an event: %w", ctx.Err())
		}
	}
}

// Dropped counts the events thrown away because too many waited or one was too large.
func (c *Client) Dropped() uint64 {
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	return c.events.dropped
}
