package gateway

import (
	"context"
	"errors"
	"net/http"

	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// Desktop is one of a person's WorkSpaces as the portal shows it.
type Desktop struct {
	ID           ident.WorkspaceID `json:"id"`
	Name         string            `json:"name"`
	ComputerName string            `json:"computerName,omitempty"`
	Bundle       string            `json:"bundle,omitempty"`
	// State is the API's WorkspaceState.
	State string `json:"state"`
	// Detail says more when the state does not speak for itself ("" otherwise).
	Detail string `json:"detail,omitempty"`
	// CanConnect, CanStart, CanRestart say what may be asked for now.
	CanConnect bool `json:"canConnect"`
	CanStart   bool `json:"canStart"`
	CanRestart bool `json:"canRestart"`
}

// The errors of Desktops.
var (
	// ErrNoDesktop: there is none of that id, or it is not this person's.
	ErrNoDesktop = errors.New("gateway: no such desktop")
	// ErrNotNow: the desktop's state does not allow it.
	ErrNotNow = errors.New("gateway: not in this state")
	// ErrNotAllowed: the administrator does not let people do it themselves.
	ErrNotAllowed = errors.New("gateway: not allowed")
)

// Desktops are people's WorkSpaces. Every method looks first whether the desktop is the session's user's: by the directory and the SID,
// which is never given twice.
type Desktops interface {
	// List gives a person's desktops in order of name.
	List(ctx context.Context, s *Session) ([]Desktop, error)
	// Start asks for a stopped desktop to run. ErrNoDesktop, ErrNotNow.
	Start(ctx context.Context, s *Session, id ident.WorkspaceID) error
	// Restart asks for a reboot. ErrNoDesktop, ErrNotNow, ErrNotAllowed.
	Restart(ctx context.Context, s *Session, id ident.WorkspaceID) error
	// Get gives one. ErrNoDesktop.
	Get(ctx context.Context, s *Session, id ident.WorkspaceID) (Desktop, error)
}

// signedIn runs fn for the request's session, or answers that there is none.
func (g *Gateway) signedIn(fn func(w http.ResponseWriter, r *http.Request, s *Session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := g.sessions.find(r, g.Clock.Now())
		if s == nil {
			fail(w, http.StatusUnauthorized, "signed-out", "You are signed out. Sign in again.")
			return
		}
		fn(w, r, s)
	}
}

func (g *Gateway) list(w http.ResponseWriter, r *http.Request, s *Session) {
	all, err := g.Desktops.List(r.Context(), s)
	if err != nil {
		g.trouble(w, "list desktops", err)
		return
	}
	if all == nil {
		all = []Desktop{}
	}
	reply(w, http.StatusOK, struct {
		Desktops []Desktop `json:"desktops"`
	}{all})
}

// act does something with the desktop that the request's path names.
func (g *Gateway) act(what string, do func(context.Context, *Session, ident.WorkspaceID) error) func(http.ResponseWriter, *http.Request, *Session) {
	return func(w http.ResponseWriter, r *http.Request, s *Session) {
		id, err := ident.ParseWorkspaceID(r.PathValue("id"))
		if err != nil {
			err = ErrNoDesktop
		} else {
			err = do(r.Context(), s, id)
		}
		if err != nil {
			g.trouble(w, what, err)
			return
		}
		g.Log.Info(what, "desktop", id, "directory", s.Directory, "user", s.User.Name, "from", peer(r))
		reply(w, http.StatusAccepted, struct{}{})
	}
}

// connect gives a ticket for a desktop that can be connected to.
func (g *Gateway) connect(w http.ResponseWriter, r *http.Request, s *Session) {
	id, err := ident.ParseWorkspaceID(r.PathValue("id"))
	var d Desktop
	if err != nil {
		err = ErrNoDesktop
	} else {
		d, err = g.Desktops.Get(r.Context(), s, id)
	}
	if err == nil && !d.CanConnect {
		err = ErrNotNow
	}
	if err != nil {
		g.trouble(w, "connect", err)
		return
	}
	token, ends, err := g.Tickets.Issue(ticket.Claims{UserSID: s.User.SID, UserName: s.User.Name, Directory: s.Directory, WorkspaceID: id, Binding: binding(r, s)})
	if err != nil {
		g.trouble(w, "connect", err)
		return
	}
	g.Log.Info("ticket", "desktop", id, "directory", s.Directory, "user", s.User.Name, "session", hexShort(s.ID), "from", peer(r))
	reply(w, http.StatusOK, struct {
		Ticket string `json:"ticket"`
		Ends   string `json:"ends"`
	}{token, ends.UTC().Format("2006-01-02T15:04:05Z")})
}

// binding is what a ticket is good for: this session, from this address.
func binding(r *http.Request, s *Session) ticket.Binding {
	return ticket.Binding{Session: s.ID, Address: peer(r)}
}

func (g *Gateway) trouble(w http.ResponseWriter, what string, err error) {
	switch {
	case errors.Is(err, ErrNoDesktop):
		fail(w, http.StatusNotFound, "no-desktop", "You have no such desktop.")
	case errors.Is(err, ErrNotNow):
		fail(w, http.StatusConflict, "not-now", "The desktop cannot do that in the state it is in. Look again in a moment.")
	case errors.Is(err, ErrNotAllowed):
		fail(w, http.StatusForbidden, "not-allowed", "Your administrator does not allow that.")
	default:
		g.Log.Error(what, "error", err)
		fail(w, http.StatusServiceUnavailable, "unavailable", "That did not work. Try again in a moment.")
	}
}
