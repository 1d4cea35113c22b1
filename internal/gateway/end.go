package gateway

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// Run ends sessions at the moment they are over, and asks directories about those who are signed in, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	if g.Auth == nil {
		<-ctx.Done()
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.recheck(ctx)
	}()
	for g.sleep(ctx, g.expire()) {
	}
	<-done
	return nil
}

// sleep waits; false: ctx has ended.
func (g *Gateway) sleep(ctx context.Context, d time.Duration) bool {
	fired, stop := g.Clock.After(d)
	defer stop()
	select {
	case <-fired:
		return true
	case <-ctx.Done():
		return false
	}
}

// expire ends the sessions that are over, and gives how long nothing else is.
func (g *Gateway) expire() time.Duration {
	ended, next := g.sessions.expire(g.Clock.Now())
	for _, s := range ended {
		g.Log.Info("session over", "directory", s.Directory, "user", s.User.Name, "session", hexShort(s.ID), "began", s.Began)
	}
	g.drop(ended)
	return next
}

// drop ends what hangs on sessions that have ended: their tickets first, so that none opens a screen after the cut, and their live screens. Only then
// their ends are recorded: nobody stays because a record has to wait.
func (g *Gateway) drop(ended []Session) {
	for _, s := range ended {
		g.Tickets.Revoke(ticket.Match{Session: s.ID})
		g.Cut(s.ID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	for i := range ended {
		g.ended(ctx, &ended[i])
	}
}

// EndSessions ends every session of a user in a directory, with its tickets and live desktops; an empty sid: of all its users.
func (g *Gateway) EndSessions(id ident.DirectoryID, sid string) int {
	return g.end(func(s *Session) *end {
		if s.Directory != id || sid != "" && s.User.SID != sid {
			return nil
		}
		return &end{CheckDirectory, "because the directory or the user in it was changed or taken away"}
	})
}

// EndSessionsOf does it for a user by name.
func (g *Gateway) EndSessionsOf(id ident.DirectoryID, userName string) int {
	return g.end(func(s *Session) *end {
		if s.Directory != id || !strings.EqualFold(s.User.Name, userName) {
			return nil
		}
		return &end{CheckDirectory, "because the user was disabled, deleted or given another password"}
	})
}

// end ends the sessions for which why gives a reason.
func (g *Gateway) end(why func(*Session) *end) int {
	ended := g.sessions.end(func(s *Session) bool {
		because := why(s)
		if because != nil {
			s.end = *because
		}
		return because != nil
	})
	g.drop(ended)
	return len(ended)
}

// Holds says whether a session goes on. Whoever opens a screen asks it once the screen can be cut: a session that ends later cuts it.
func (g *Gateway) Holds(session [sha256.Size]byte) bool {
	return g.sessions.holds(session, g.Clock.Now())
}
