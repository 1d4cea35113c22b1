package app

import (
	"context"
	"log/slog"
	"time"

	"carrel/internal/clock"
	"carrel/internal/display"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// beat is how often the live sessions are noted: after a crash the last known time of a person is wrong by no more than that.
const beat = 5 * time.Minute

// presence keeps what DescribeWorkspacesConnectionStatus tells, and what auto-stop goes by.
type presence struct {
	db *state.DB
	// sessions are the live ones: a *display.Registry.
	sessions interface {
		List(display.Match) []display.Info
	}
	clock clock.Clock
	log   *slog.Logger
	// patience bounds one write.
	patience time.Duration
}

func (p *presence) connected(i display.Info) { p.note(i.WorkspaceID, "CONNECTED") }

func (p *presence) disconnected(i display.Info) {
	if p.live(i.WorkspaceID) {
		return // Taken over by another window.
	}
	p.note(i.WorkspaceID, "DISCONNECTED")
}

func (p *presence) live(id ident.WorkspaceID) bool {
	return len(p.sessions.List(display.Match{WorkspaceID: id})) > 0
}

// note says that a person was seen just now.
func (p *presence) note(id ident.WorkspaceID, connection string) {
	p.change(id, connection, func(w *state.Workspace, now time.Time) bool {
		w.Status.LastUserSeen = now
		return true
	})
}

// change writes a WorkSpace's connection, unless fn says that there is nothing to write.
func (p *presence) change(id ident.WorkspaceID, connection string, fn func(*state.Workspace, time.Time) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	_, err := p.db.Update(ctx, func(tx *state.Tx) error {
		w, ok := state.Get(tx, state.Workspaces, string(id))
		if !ok {
			return nil
		}
		next := state.Clone(w)
		if !fn(next, tx.Now()) {
			return nil
		}
		next.Status.Connection, next.Status.CheckedAt = connection, tx.Now()
		state.Put(tx, state.Workspaces, next)
		return nil
	})
	if err != nil {
		p.log.Warn("connection not noted", "desktop", id, "connection", connection, "error", err)
	}
}

// Run corrects what a process that ended with people connected has left, and then notes the live sessions now and again, until ctx ends.
func (p *presence) Run(ctx context.Context) error {
	p.correct(ctx, p.clock.Now())
	for {
		fired, stop := p.clock.After(beat)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return nil
		}
		seen := map[ident.WorkspaceID]bool{}
		for _, s := range p.sessions.List(display.Match{}) {
			if ctx.Err() == nil && !seen[s.WorkspaceID] {
				seen[s.WorkspaceID] = true
				p.note(s.WorkspaceID, "CONNECTED")
			}
		}
		// Whose end could not be written when it came, or was another process's to write and it is gone.
		p.correct(ctx, p.clock.Now().Add(-2*beat))
	}
}

// correct says DISCONNECTED of WorkSpaces that nobody has confirmed to be connected since, and that have no session here. When their persons were
// last seen stays as it was known: nobody has seen them later.
func (p *presence) correct(ctx context.Context, since time.Time) {
	for w := range state.AllBy(p.db.Snapshot(), state.Workspaces, state.WorkspacesConnected, "CONNECTED") {
		if ctx.Err() != nil {
			return
		}
		p.change(w.ID, "DISCONNECTED", func(now *state.Workspace, _ time.Time) bool {
			// A session of this process may have begun meanwhile.
			return now.Status.Connection == "CONNECTED" && now.Status.CheckedAt.Before(since) && !p.live(w.ID)
		})
	}
}
