// Package statetest holds what tests of durable state share: the conformance suite that every state.Store passes, and a
// running DB for the tests of whoever reads and writes records.
//
// It refuses to be imported outside tests.
package statetest

import (
	"context"
	"sync"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

// NewDB is a running DB on an empty store in memory. When the test ends it checks that nobody has changed a shared record,
// and stops.
func NewDB(t testing.TB) *state.DB {
	t.Helper()
	return OpenDB(t, memory.New(), clock.System{})
}

// OpenDB is NewDB on a store and a clock of the caller's. It closes the store at the end of the test.
func OpenDB(t testing.TB, store state.Store, clk clock.Clock) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), store, clk)
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context ends before its cleanups run.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := db.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := db.CheckShared(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
