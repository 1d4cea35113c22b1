package display

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"carrel/internal/ident"
)

// Registry knows the live sessions. The zero value is ready to use.
type Registry struct {
	mu     sync.Mutex
	live   map[*session]struct{}
	closed bool
	serial uint64
	// serving counts calls of Handler.Serve, which outlive their sessions by the farewell.
	serving sync.WaitGroup
}

// errClosed: the process is ending.
var errClosed = errors.New("display: shutting down")

// Match says which sessions are meant: those that fit every field that is set.
type Match struct {
	ID          string
	UserSID     string
	Directory   ident.DirectoryID
	WorkspaceID ident.WorkspaceID
	// Session is the hash of a portal session.
	Session [32]byte
	// Only, when set, must say yes to what else is known (an address that a rule no longer allows).
	Only func(Info) bool
}

func (m Match) fits(s *session) bool {
	i := &s.info
	return (m.ID == "" || m.ID == i.ID) && (m.UserSID == "" || m.UserSID == i.UserSID) && (m.Directory == "" || m.Directory == i.Directory) &&
		(m.WorkspaceID == "" || m.WorkspaceID == i.WorkspaceID) && (m.Session == [32]byte{} || m.Session == i.Session) &&
		(m.Only == nil || m.Only(s.snapshot()))
}

// List gives the sessions that match, in order of their beginning.
func (r *Registry) List(m Match) []Info {
	var out []Info
	for _, s := range r.find(m) {
		out = append(out, s.snapshot())
	}
	slices.SortFunc(out, func(a, b Info) int {
		if c := a.Began.Compare(b.Began); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Cut ends the sessions that match, those still opening included, and tells their persons why. When it returns nothing of theirs passes
// any more in either direction; it gives how many there were. To make sure that nobody slips through, change what Handler.Policy looks at
// before cutting, and revoke tickets.
func (r *Registry) Cut(m Match, why Reason) int {
	found := r.find(m)
	for _, s := range found {
		s.cut(why)
	}
	return len(found)
}

// Shutdown lets no new session begin, cuts all and waits for the farewells, or for ctx.
func (r *Registry) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Cut(Match{}, ReasonShuttingDown)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serving.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Registry) find(m Match) []*session {
	r.mu.Lock()
	all := make([]*session, 0, len(r.live))
	for s := range r.live {
		all = append(all, s)
	}
	r.mu.Unlock()
	return slices.DeleteFunc(all, func(s *session) bool { return !m.fits(s) })
}

// enter counts a call of Serve.
func (r *Registry) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	r.serving.Add(1)
	return nil
}

func (r *Registry) add(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if r.live == nil {
		r.live = map[*session]struct{}{}
	}
	r.serial++
	s.serial = r.serial
	r.live[s] = struct{}{}
	return nil
}

func (r *Registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, s)
}

// takeOver cuts the sessions on the same desktop that came before s, unless they are shared with it, and waits until they have let go of
// the screen. Of two that come at once the later one stays.
func (r *Registry) takeOver(ctx context.Context, s *session) error {
	for _, other := range r.find(Match{WorkspaceID: s.info.WorkspaceID}) {
		if other.serial >= s.serial || s.policy.Shared && other.shared.Load() {
			continue
		}
		other.cut(ReasonTakenOver)
		select {
		case <-other.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
