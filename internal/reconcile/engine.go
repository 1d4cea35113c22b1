package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"carrel/internal/clock"
	"carrel/internal/state"
)

const (
	defaultWorkers = 16
	defaultResync  = 5 * time.Minute
	defaultTimeout = 10 * time.Minute
	// The pauses after a step's first failure and at most; each failure doubles the pause.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 2 * time.Minute
	// storePause is how long an id rests when its outcome could not be written.
	storePause = time.Second
)

// Config says what an engine reconciles and with what. Name, DB, Clock, Log, Table and Choose are needed.
type Config[T any] struct {
	// Name appears in logs and events ("workspace").
	Name  string
	DB    *state.DB
	Clock clock.Clock
	Log   *slog.Logger
	Table *state.Definition[T]
	// Choose decides from the record alone, at the time now. It must be quick and without effects.
	Choose func(rec *T, now time.Time) Choice[T]
	// Workers is how many ids are worked on at once; 16 when 0.
	Workers int
	// Resync is how often every record is looked at without being told; 5 minutes when 0.
	Resync time.Duration
	// StepTimeout bounds one Do or Verify; 10 minutes when 0. It runs on the machine's clock: it is there for drivers that hang.
	StepTimeout time.Duration
	// Observe is told of every step, on the worker's goroutine. May be nil.
	Observe func(Event)
	// Jitter spreads a pause; a random one between 3/4 and 5/4 of it when nil.
	Jitter func(time.Duration) time.Duration
}

// Engine carries out plans for the records of one table.
type Engine[T any] struct {
	cfg   Config[T]
	queue *queue
}

// New makes an engine and subscribes it to its table. Every error is one of the caller's code.
func New[T any](cfg Config[T]) (*Engine[T], error) {
	if cfg.Name == "" || cfg.DB == nil || cfg.Clock == nil || cfg.Log == nil || cfg.Table == nil || cfg.Choose == nil {
		return nil, errors.New("reconcile: an engine needs Name, DB, Clock, Log, Table and Choose")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.Resync <= 0 {
		cfg.Resync = defaultResync
	}
	if cfg.StepTimeout <= 0 {
		cfg.StepTimeout = defaultTimeout
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	if cfg.Jitter == nil {
		cfg.Jitter = func(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }
	}
	e := &Engine[T]{cfg: cfg, queue: newQueue(cfg.Clock)}
	cfg.DB.Subscribe(cfg.Table.Table, func(id string, deleted bool) {
		if !deleted {
			e.queue.add(id)
		}
	})
	return e, nil
}

// Depth is how many records are ready to be worked on, being worked on, and waiting for their time.
func (e *Engine[T]) Depth() (ready, working, waiting int) { return e.queue.depth() }

// Run reconciles until ctx ends and returns nil then, once every worker has come back.
func (e *Engine[T]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { e.queue.run(ctx) })
	wg.Go(func() { e.resync(ctx) })
	for range e.cfg.Workers {
		wg.Go(func() {
			for {
				id, ok := e.queue.take()
				if !ok {
					return
				}
				e.queue.done(id, e.work(ctx, id))
			}
		})
	}
	wg.Wait()
	return nil
}

// resync looks at every record now and again, and adds those that something is to be done about: of a hundred thousand at a start those are
// few, and the first requests wait for the same processors.
func (e *Engine[T]) resync(ctx context.Context) {
	for {
		for rec := range state.All(e.cfg.DB.Snapshot(), e.cfg.Table) {
			if choice := e.cfg.Choose(rec, e.cfg.Clock.Now()); choice.Plan != nil || !choice.Wake.IsZero() {
				e.queue.add(e.cfg.Table.ID(rec))
			}
		}
		fired, stop := e.cfg.Clock.After(e.cfg.Resync)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return
		}
	}
}

// work brings one record as far as it goes now, and says when to look again.
func (e *Engine[T]) work(ctx context.Context, id string) (again time.Time) {
	for ctx.Err() == nil {
		rec, ok := state.Get(e.cfg.DB.Snapshot(), e.cfg.Table, id)
		if !ok {
			return time.Time{}
		}
		now := e.cfg.Clock.Now()
		choice := e.cfg.Choose(rec, now)
		if choice.Plan == nil {
			return choice.Wake
		}
		if b := choice.Plan.Backoff(rec); b.Next.After(now) && e.concerns(choice.Plan, b) {
			return b.Next
		}
		step, err := e.pass(ctx, choice.Plan, id)
		switch {
		case err == nil || errors.Is(err, errStale):
		case ctx.Err() != nil:
			return time.Time{}
		default:
			if again := e.fail(ctx, choice.Plan, step, id, err); !again.IsZero() {
				return again
			}
		}
	}
	return time.Time{}
}

// concerns tells whether a backoff account is this plan's: another plan does not wait for it.
func (*Engine[T]) concerns(p *Plan[T], b *state.Backoff) bool {
	for _, s := range p.Steps {
		if b.Step == p.Name+"/"+s.Name {
			return true
		}
	}
	return false
}

// errStale: the record has changed so that the plan, or the step, is no longer the thing to do.
var errStale = errors.New("reconcile: no longer to be done")

// errIdle: all of a plan's steps were taken, none changed the record, and the plan is still chosen.
var errIdle = errors.New("plan leads nowhere")

// pass takes the plan's steps that are needed, in order, and gives the step it stopped at.
func (e *Engine[T]) pass(ctx context.Context, p *Plan[T], id string) (*Step[T], error) {
	changed := false
	for i := range p.Steps {
		s := &p.Steps[i]
		rec, ok := state.Get(e.cfg.DB.Snapshot(), e.cfg.Table, id)
		if !ok || e.cfg.Choose(rec, e.cfg.Clock.Now()).Plan != p {
			return s, errStale
		}
		if s.Needed != nil && !s.Needed(rec) {
			continue
		}
		recorded, err := e.take(ctx, p, s, rec)
		if err != nil {
			return s, err
		}
		changed = changed || recorded
	}
	if !changed {
		return &p.Steps[len(p.Steps)-1], errIdle
	}
	return nil, nil
}

// take does one step and records it. An observer may end ctx: then nothing more happens, as if the process had been killed.
func (e *Engine[T]) take(ctx context.Context, p *Plan[T], s *Step[T], rec *T) (recorded bool, err error) {
	id := e.cfg.Table.ID(rec)
	began := e.cfg.Clock.Now()
	tell := func(phase Phase, err error) {
		e.cfg.Observe(Event{Engine: e.cfg.Name, Plan: p.Name, Step: s.Name, ID: id, Phase: phase, Took: e.cfg.Clock.Now().Sub(began), Err: err})
	}
	defer func() {
		if err != nil && !errors.Is(err, errStale) && ctx.Err() == nil {
			tell(Failed, err)
		}
	}()
	tell(Began, nil)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	effect, err := e.do(ctx, s, rec)
	if err != nil {
		return false, err
	}
	tell(Done, nil)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if effect != nil || s.Ends {
		if err := e.record(ctx, p, s, id, effect); err != nil {
			return false, err
		}
		recorded = true
	}
	e.cfg.Log.InfoContext(ctx, "step taken", "engine", e.cfg.Name, "id", id, "plan", p.Name, "step", s.Name, "took", e.cfg.Clock.Now().Sub(began))
	tell(Recorded, nil)
	return recorded, ctx.Err()
}

func (e *Engine[T]) do(ctx context.Context, s *Step[T], rec *T) (Effect[T], error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.StepTimeout)
	defer cancel()
	effect, err := s.Do(ctx, rec)
	if err == nil && s.Verify != nil {
		if err = s.Verify(ctx, rec); err != nil {
			err = fmt.Errorf("verify: %w", err)
		}
	}
	return effect, err
}

// record applies the step's effect unless the record has meanwhile been asked for something else: then what was done stays in the
// world, where the plan that is chosen next finds it by its id.
func (e *Engine[T]) record(ctx context.Context, p *Plan[T], s *Step[T], id string, effect Effect[T]) error {
	_, err := e.cfg.DB.Update(ctx, func(tx *state.Tx) error {
		rec, ok := state.Get(tx, e.cfg.Table, id)
		if !ok || e.cfg.Choose(rec, tx.Now()).Plan != p || s.Needed != nil && !s.Needed(rec) {
			return errStale
		}
		next := state.Clone(rec)
		*p.Backoff(next) = state.Backoff{}
		if effect != nil {
			if err := effect(tx, next); err != nil {
				return err
			}
		}
		if s.Ends {
			state.Delete(tx, e.cfg.Table, id)
			return nil
		}
		state.Put(tx, e.cfg.Table, next)
		return nil
	})
	return err
}
