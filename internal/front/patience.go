package front

import (
	"context"
	"sync"
	"time"
)

// patience is the context of one request: net/http's, with the deadline of carrying it out. It is context.WithDeadline but for its
// timer, which is set only when somebody waits for Done: most requests are reads out of memory and never do.
type patience struct {
	context.Context
	until time.Time

	mu     sync.Mutex
	timed  context.Context // nil: nobody has asked for Done
	cancel context.CancelFunc
	ended  bool
}

func newPatience(parent context.Context, d time.Duration) *patience {
	return &patience{Context: parent, until: time.Now().Add(d)}
}

// Deadline is when the request's time is up.
func (p *patience) Deadline() (time.Time, bool) {
	if t, ok := p.Context.Deadline(); ok && t.Before(p.until) {
		return t, true
	}
	return p.until, true
}

// Done is closed when the client is gone, when time is up, and when the request has been answered.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed == nil {
		p.timed, p.cancel = context.WithDeadline(p.Context, p.until)
		if p.ended {
			p.cancel()
		}
	}
	return p.timed.Done()
}

// Err tells why Done is, or would be, closed.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed != nil {
		return p.timed.Err()
	}
	if err := p.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(p.until) {
		return context.DeadlineExceeded
	}
	if p.ended {
		return context.Canceled
	}
	return nil
}

// Value is the request's. Package context asks it for the timer's context too, and can then do without a goroutine for each child.
func (p *patience) Value(key any) any {
	p.mu.Lock()
	timed := p.timed
	p.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return p.Context.Value(key)
}

// end ends the context; a timer that was set is no more.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.cancel != nil {
		p.cancel()
	}
}
