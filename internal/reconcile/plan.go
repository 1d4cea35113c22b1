// Package reconcile makes what is equal to what should be: a queue of record ids, workers that take one plan step at a time,
// a periodic look at everything, and backoff that is kept in the records.
//
// It refuses to know any plan (reconcile/workspace, reconcile/directory) and any driver. Nothing here remembers what it was doing:
// every decision is taken anew from the record, so a process that is killed between any two instructions goes on where it was.
package reconcile

import (
	"context"
	"time"

	"carrel/internal/state"
)

// Effect changes the record, and others with it, in one transaction; rec is a copy that is put back afterwards. It runs again
// after a conflict, so it has no effects of its own. Its error makes the step fail.
type Effect[T any] func(tx *state.Tx, rec *T) error

// Step is a named part of a plan. It may be cut off anywhere and is then taken again from its beginning: Do must be safe to run twice.
type Step[T any] struct {
	Name string
	// Needed tells from the record whether the step is still to do; nil: whenever the plan is carried out.
	Needed func(rec *T) bool
	// Do makes the step's effect in the world and gives the one on the record (nil: none).
	Do func(ctx context.Context, rec *T) (Effect[T], error)
	// Verify proves, before anything is recorded, that the world is as the record is going to say. May be nil.
	Verify func(ctx context.Context, rec *T) error
	// Undo takes back what Do made when this or a later step of the plan has failed for good. May be nil.
	Undo func(ctx context.Context, rec *T) error
	// Ends: the record is deleted in the transaction of the step's Effect.
	Ends bool
}

// Plan is the steps that lead a record from one state to another. Once all have been taken, Choose must give another plan or none.
type Plan[T any] struct {
	Name  string
	Steps []Step[T]
	// Backoff is where the record keeps this plan's account.
	Backoff func(rec *T) *state.Backoff
	// Failed tells whether err is final for this plan and if so makes rec say it. nil: nothing is final, all is tried again.
	// It runs in a transaction and may run again. The plan must not be chosen for the record any more afterwards.
	Failed func(rec *T, now time.Time, err error) bool
	// Delayed makes rec say why the plan has to wait, when err is something that somebody should know of. It runs in the transaction that records
	// when the step is tried again, and may run again. May be nil.
	Delayed func(rec *T, err error)
}

// Choice is what to do about a record.
type Choice[T any] struct {
	// Plan is nil when there is nothing to do now.
	Plan *Plan[T]
	// Wake is when to look again without being told (zero: never). Only when Plan is nil.
	Wake time.Time
}

// Phase is how far a step has come.
type Phase string

// The phases of a step that an observer sees.
const (
	// Began: Do is about to run.
	Began Phase = "began"
	// Done: Do and Verify have succeeded, nothing is recorded yet.
	Done Phase = "done"
	// Recorded: the record says so.
	Recorded Phase = "recorded"
	// Failed: the step failed; Err says how.
	Failed Phase = "failed"
)

// Event is what an observer is told.
type Event struct {
	// Engine is the engine's name ("workspace").
	Engine     string
	Plan, Step string
	ID         string
	Phase      Phase
	// Took is the step's time so far on the engine's clock.
	Took time.Duration
	Err  error
}
