package state

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// attempts of one Update before it gives ErrConflict back.
	attempts = 20
	// patient attempts go alongside other Updates; later ones have the DB to themselves, so that only another process can
	// still get in between.
	patient = 4
	// conflictPause is how long a conflict waits at most, times the attempt, for the view to show what it lost against.
	conflictPause = 2 * time.Millisecond
)

// Update runs fn on a transaction and commits what it collected: all of it, if everything fn read or wrote through the Tx
// is still as it was, or nothing. After a conflict fn runs again on newer state, so it must not have effects of its own.
// When Update returns without error the write is durable and every later Snapshot of this DB shows it.
//
// An error of fn is returned unchanged and nothing is written. ErrConflict: conflicted in every attempt; ErrFull: nothing
// was written. ErrUnavailable (also when ctx ends while committing): it may or may not have been written. Run must be
// running. fn must not call Update.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) (Revision, error) {
	for attempt := range attempts {
		rev, err := db.attempt(ctx, fn, attempt)
		if !errors.Is(err, errRetry) {
			return rev, err
		}
	}
	return 0, fmt.Errorf("%w, in %d attempts", ErrConflict, attempts)
}

var errRetry = errors.New("conflict")

// attempt is one run of fn and its commit; errRetry asks for another.
func (db *DB) attempt(ctx context.Context, fn func(*Tx) error, attempt int) (Revision, error) {
	turns := int64(1)
	if attempt >= patient {
		turns = allTurns
	}
	if err := db.turns.Acquire(ctx, turns); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer db.turns.Release(turns) // deferred, because fn may panic
	snap := db.Snapshot()
	tx := newTx(snap, db.clock.Now())
	if err := fn(tx); err != nil {
		return 0, err
	}
	if tx.err != nil {
		return 0, tx.err
	}
	t := tx.txn()
	if len(t.Checks) == 0 {
		return snap.rev, nil
	}
	rev, err := db.store.Transact(ctx, t)
	switch {
	case errors.Is(err, ErrConflict):
		db.pause(ctx, snap.rev+1, attempt+1)
		return 0, errRetry
	case err != nil:
		return 0, err
	case len(t.Puts)+len(t.Deletes) == 0:
		return snap.rev, nil
	}
	return rev, db.Wait(ctx, rev)
}

// pause waits until the DB has seen rev, or for a jittered while that grows with the attempts. The DB may be behind by
// more than one transaction, so seeing rev is no promise that the next attempt sees what this one lost against.
func (db *DB) pause(ctx context.Context, rev Revision, attempt int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fired, stop := db.clock.After(db.jitter(time.Duration(attempt*attempt) * conflictPause))
	defer stop()
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		_ = db.Wait(ctx, rev) // its only error is that the pause is over
	}()
	select {
	case <-seen:
	case <-fired:
		cancel()
		<-seen
	}
}
