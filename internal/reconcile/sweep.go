package reconcile

import (
	"context"
	"log/slog"
	"time"

	"carrel/internal/clock"
)

const defaultSweep = 5 * time.Minute

// Sweeper compares what the drivers have with the records, at once and then again and again: what the records no longer tell
// nobody would otherwise look for.
type Sweeper struct {
	// Sweep compares once. Its error is logged; the next round tries again.
	Sweep func(context.Context) error
	Clock clock.Clock
	Log   *slog.Logger
	// Every is the pause between two rounds; 5 minutes when 0.
	Every time.Duration
	// Now begins a round before its time when it receives; may be nil.
	Now <-chan struct{}
}

// Run sweeps until ctx ends, and returns nil then.
func (s *Sweeper) Run(ctx context.Context) error {
	every := s.Every
	if every <= 0 {
		every = defaultSweep
	}
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "sweep not complete; it will be tried again", "error", err)
		}
		fired, stop := s.Clock.After(every)
		select {
		case <-fired:
		case <-s.Now:
			stop()
		case <-ctx.Done():
			stop()
			return nil
		}
	}
}
