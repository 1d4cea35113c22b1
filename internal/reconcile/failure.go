package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carrel/internal/state"
)

// fail deals with a step that did not succeed: for good, or to be tried again later. It says when to look again; zero: at once.
func (e *Engine[T]) fail(ctx context.Context, p *Plan[T], s *Step[T], id string, cause error) time.Time {
	log := e.cfg.Log.With("engine", e.cfg.Name, "id", id, "plan", p.Name, "step", s.Name)
	rec, ok := state.Get(e.cfg.DB.Snapshot(), e.cfg.Table, id)
	if !ok {
		return time.Time{}
	}
	if p.Failed != nil && p.Failed(state.Clone(rec), e.cfg.Clock.Now(), cause) {
		err := e.undo(ctx, p, s, rec)
		if err == nil {
			err = e.giveUp(ctx, p, id, cause)
		}
		switch {
		case err == nil:
			log.ErrorContext(ctx, "plan failed for good", "error", cause)
			return time.Time{}
		case errors.Is(err, errStale):
			return time.Time{}
		}
		cause = errors.Join(cause, err)
	}
	next, attempts, err := e.backOff(ctx, p, s, id, cause)
	switch {
	case errors.Is(err, errStale):
		return time.Time{}
	case err != nil:
		log.WarnContext(ctx, "step failed, and that could not be recorded", "error", cause, "store", err)
		return e.cfg.Clock.Now().Add(e.cfg.Jitter(storePause))
	}
	log.WarnContext(ctx, "step failed", "error", cause, "attempts", attempts, "next", next)
	return next
}

// undo takes back the plan's steps up to and including s, last first.
func (e *Engine[T]) undo(ctx context.Context, p *Plan[T], s *Step[T], rec *T) error {
	last := 0
	for last < len(p.Steps)-1 && &p.Steps[last] != s {
		last++
	}
	for i := last; i >= 0; i-- {
		undo := p.Steps[i].Undo
		if undo == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, e.cfg.StepTimeout)
		err := undo(ctx, rec)
		cancel()
		if err != nil {
			return fmt.Errorf("undo %s: %w", p.Steps[i].Name, err)
		}
	}
	return nil
}

// giveUp records that the plan cannot succeed.
func (e *Engine[T]) giveUp(ctx context.Context, p *Plan[T], id string, cause error) error {
	_, err := e.cfg.DB.Update(ctx, func(tx *state.Tx) error {
		next, err := e.current(tx, p, id)
		if err != nil {
			return err
		}
		*p.Backoff(next) = state.Backoff{}
		if !p.Failed(next, tx.Now(), cause) {
			return errStale
		}
		state.Put(tx, e.cfg.Table, next)
		return nil
	})
	return err
}

// backOff records the failure and when to try again, so that a restart neither forgets nor hurries.
func (e *Engine[T]) backOff(ctx context.Context, p *Plan[T], s *Step[T], id string, cause error) (next time.Time, attempts int, err error) {
	name := p.Name + "/" + s.Name
	spread := e.cfg.Jitter(time.Second)
	_, err = e.cfg.DB.Update(ctx, func(tx *state.Tx) error {
		rec, err := e.current(tx, p, id)
		if err != nil {
			return err
		}
		b := p.Backoff(rec)
		if b.Step != name {
			b.Attempts = 0
		}
		pause := lastBackoff
		if b.Attempts < 16 {
			pause = min(firstBackoff<<b.Attempts, lastBackoff)
		}
		// spread is a second's jitter, drawn once: the transaction may run again.
		pause = time.Duration(float64(pause) * spread.Seconds())
		next, attempts = tx.Now().Add(pause), b.Attempts+1
		*b = state.Backoff{Step: name, Attempts: attempts, Next: next, Error: shortened(cause.Error())}
		if p.Delayed != nil {
			p.Delayed(rec, cause)
		}
		state.Put(tx, e.cfg.Table, rec)
		return nil
	})
	return next, attempts, err
}

// current is a copy of the record if the plan is still the one to carry out.
func (e *Engine[T]) current(tx *state.Tx, p *Plan[T], id string) (*T, error) {
	rec, ok := state.Get(tx, e.cfg.Table, id)
	if !ok || e.cfg.Choose(rec, tx.Now()).Plan != p {
		return nil, errStale
	}
	return state.Clone(rec), nil
}

// shortened bounds an error's text: it is written into a record.
func shortened(s string) string {
	if len(s) > 500 {
		return s[:497] + "..."
	}
	return s
}
