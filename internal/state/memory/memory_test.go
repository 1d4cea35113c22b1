package memory_test

import (
	"errors"
	"testing"

	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

func TestStore(t *testing.T) {
	statetest.Run(t, func(*testing.T) state.Store { return memory.New() })
}

func TestWatchFromBeforeTheCompactionSaysSo(t *testing.T) {
	s := memory.New()
	for range 3 {
		w := state.Write{Key: state.Key{Table: "a", ID: "1"}, Value: []byte("x")}
		if _, err := s.Transact(t.Context(), state.Txn{Puts: []state.Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	s.Compact(2)
	if err := s.Watch(t.Context(), 1, func(state.Event) {}); !errors.Is(err, state.ErrCompacted) {
		t.Errorf("Watch: %v, want ErrCompacted", err)
	}
	stop := errors.New("seen")
	func() {
		defer func() {
			if p := recover(); p != stop {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = s.Watch(t.Context(), 2, func(e state.Event) { panic(stop) }) // ended by the panic
	}()
}
