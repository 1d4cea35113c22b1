package app

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/clock"
	"carrel/internal/display"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

// screens are live sessions by hand.
type screens struct {
	mu  sync.Mutex
	ids map[ident.WorkspaceID]bool
}

func (s *screens) List(m display.Match) (out []display.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ids {
		if m.WorkspaceID == "" || m.WorkspaceID == id {
			out = append(out, display.Info{WorkspaceID: id})
		}
	}
	return out
}

func (s *screens) set(id ident.WorkspaceID, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.ids, id); is {
		s.ids[id] = true
	}
}

// present is a presence over WorkSpaces that an earlier process has left; run begins its Run and gives what ends it.
func present(t *testing.T, left ...*state.Workspace) (p *presence, live *screens, run func() (stop func())) {
	t.Helper()
	live = &screens{ids: map[ident.WorkspaceID]bool{}}
	p = &presence{db: statetest.OpenDB(t, memory.New(), clock.System{}), sessions: live, clock: clock.System{}, log: slog.New(slog.DiscardHandler), patience: time.Minute}
	if _, err := p.db.Update(t.Context(), func(tx *state.Tx) error {
		for _, w := range left {
			state.Put(tx, state.Workspaces, w)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return p, live, func() func() {
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		return func() { cancel(); wait.Wait() }
	}
}

func connection(id ident.WorkspaceID, is string, seen time.Time) *state.Workspace {
	return &state.Workspace{ID: id, Spec: state.WorkspaceSpec{DirectoryID: "d-90670a1b2c", UserName: "ada"},
		Status: state.WorkspaceStatus{State: "AVAILABLE", Connection: is, CheckedAt: seen, LastUserSeen: seen}}
}

func (p *presence) of(t *testing.T, id ident.WorkspaceID) state.WorkspaceStatus {
	t.Helper()
	w, ok := state.Get(p.db.Snapshot(), state.Workspaces, string(id))
	if !ok {
		t.Fatalf("no %s", id)
	}
	return w.Status
}

func TestWhoWasConnectedWhenAnEarlierProcessEndedWasLastSeenThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := time.Now().UTC()
		time.Sleep(3 * time.Hour)
		p, live, run := present(t, connection("ws-000000001", "CONNECTED", seen), connection("ws-000000002", "DISCONNECTED", seen), connection("ws-000000003", "", time.Time{}),
			connection("ws-000000004", "CONNECTED", seen))
		live.set("ws-000000004", true)
		began := time.Now()
		defer run()()
		if s := p.of(t, "ws-000000001"); s.Connection != "DISCONNECTED" || !s.LastUserSeen.Equal(seen) || !s.CheckedAt.Equal(began) {
			t.Errorf("connected then: %+v", s)
		}
		if s := p.of(t, "ws-000000002"); s.Connection != "DISCONNECTED" || !s.LastUserSeen.Equal(seen) || !s.CheckedAt.Equal(seen) {
			t.Errorf("not connected then: %+v", s)
		}
		if s := p.of(t, "ws-000000003"); s.Connection != "" || !s.LastUserSeen.IsZero() {
			t.Errorf("never connected: %+v", s)
		}
		if s := p.of(t, "ws-000000004"); s.Connection != "CONNECTED" {
			t.Errorf("connected again already: %+v", s)
		}
	})
}

func TestALiveSessionIsNotedNowAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, live, run := present(t, connection("ws-000000001", "", time.Time{}))
		defer run()()
		live.set("ws-000000001", true)
		p.connected(display.Info{WorkspaceID: "ws-000000001"})
		began := time.Now()
		if s := p.of(t, "ws-000000001"); s.Connection != "CONNECTED" || !s.LastUserSeen.Equal(began) {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		if s := p.of(t, "ws-000000001"); s.Connection != "CONNECTED" || time.Since(s.LastUserSeen) > beat {
			t.Errorf("an hour later: %+v, now %s", s, time.Now())
		}
		// Another window has taken the screen over: the end of the first is none.
		p.disconnected(display.Info{WorkspaceID: "ws-000000001"})
		if s := p.of(t, "ws-000000001"); s.Connection != "CONNECTED" {
			t.Errorf("taken over: %+v", s)
		}
		live.set("ws-000000001", false)
		p.disconnected(display.Info{WorkspaceID: "ws-000000001"})
		ended := time.Now()
		time.Sleep(time.Hour)
		if s := p.of(t, "ws-000000001"); s.Connection != "DISCONNECTED" || !s.LastUserSeen.Equal(ended) {
			t.Errorf("ended: %+v", s)
		}
	})
}

func TestAnEndThatCouldNotBeWrittenIsCorrectedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, live, run := present(t, connection("ws-000000001", "", time.Time{}))
		defer run()()
		live.set("ws-000000001", true)
		p.connected(display.Info{WorkspaceID: "ws-000000001"})
		time.Sleep(time.Hour)
		synctest.Wait()
		last := p.of(t, "ws-000000001").LastUserSeen
		live.set("ws-000000001", false)
		time.Sleep(time.Hour)
		if s := p.of(t, "ws-000000001"); s.Connection != "DISCONNECTED" || s.LastUserSeen.Sub(last) > beat {
			t.Errorf("%+v, was last seen %s", s, last)
		}
	})
}
