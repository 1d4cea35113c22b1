package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

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

// signedOut answers who has no session.
var signedOut = problem{Code: "signed-out", Message: "You are signed out. Sign in again."}

// signedIn runs fn for the request's session, or answers that there is none.
func (g *Gateway) signedIn(fn func(w http.ResponseWriter, r *http.Request, s *Session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := g.sessions.find(r, g.Clock.Now())
		if s == nil {
			failed(w, http.StatusUnauthorized, signedOut)
			return
		}
		fn(w, r, s)
	}
}

// request is what somebody who is signed in asks for one desktop.
type request struct {
	*http.Request
	session  *Session
	decision *Decision
}

// deciding runs fn for the request's session and the desktop that its path names; fn decides. Without a session, or without such a desktop, it is
// decided before.
func (g *Gateway) deciding(name string, fn func(w http.ResponseWriter, r request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d := g.decide(r, name)
		id, err := ident.ParseWorkspaceID(r.PathValue("id"))
		if err == nil {
			d.about(id)
		}
		s := g.sessions.find(r, d.At)
		if s == nil {
			g.refuse(w, r, d, refusal{CheckSession, "because nobody is signed in there", http.StatusUnauthorized, signedOut, nil})
			return
		}
		d.of(s.Directory, s.User)
		switch {
		case err != nil:
			g.refuse(w, r, d, trouble(ErrNoDesktop))
		case g.recordable(w, r, d):
			fn(w, request{r, s, d})
		}
	}
}

func (g *Gateway) list(w http.ResponseWriter, r *http.Request, s *Session) {
	all, err := g.Desktops.List(r.Context(), s)
	if err != nil {
		g.Log.Error("list desktops", "error", err)
		fail(w, http.StatusServiceUnavailable, "unavailable", unavailable)
		return
	}
	if all == nil {
		all = []Desktop{}
	}
	reply(w, http.StatusOK, struct {
		Desktops []Desktop `json:"desktops"`
	}{all})
}

// start has a stopped desktop run.
func (g *Gateway) start(w http.ResponseWriter, r request) {
	g.act(w, r, g.Desktops.Start, end{CheckState, "the desktop is the person's and was stopped"})
}

// restart has a desktop reboot.
func (g *Gateway) restart(w http.ResponseWriter, r request) {
	g.act(w, r, g.Desktops.Restart, end{CheckSelfService, "the desktop is the person's and runs, and the directory lets people restart theirs"})
}

// act does something with the desktop, and says why it was allowed.
func (g *Gateway) act(w http.ResponseWriter, r request, do func(context.Context, *Session, ident.WorkspaceID) error, why end) {
	s, d := r.session, r.decision
	if err := do(r.Context(), s, d.WorkSpace); err != nil {
		g.refuse(w, r.Request, d, trouble(err))
		return
	}
	d.Check, d.Reason = why.check, why.reason
	if !g.admit(w, r.Request, d) {
		return
	}
	g.Log.Info(d.Name, "id", d.ID, "desktop", d.WorkSpace, "directory", s.Directory, "user", s.User.Name, "from", d.Address)
	reply(w, http.StatusAccepted, struct{}{})
}

// connect gives a ticket for a desktop that can be connected to.
func (g *Gateway) connect(w http.ResponseWriter, r request) {
	s, d := r.session, r.decision
	desktop, err := g.Desktops.Get(r.Context(), s, d.WorkSpace)
	if err == nil {
		d.key("carrel:desktopstate", desktop.State)
		if !desktop.CanConnect {
			err = ErrNotNow
		}
	}
	var token string
	var ends time.Time
	if err == nil {
		token, ends, err = g.Tickets.Issue(ticket.Claims{UserSID: s.User.SID, UserName: s.User.Name, Directory: s.Directory, WorkspaceID: d.WorkSpace, Binding: binding(r.Request, s)})
	}
	if err != nil {
		g.refuse(w, r.Request, d, trouble(err))
		return
	}
	d.Check, d.Reason = CheckState, "the desktop is the person's and runs"
	// A ticket that nobody is given opens nothing, and ends by itself.
	if !g.admit(w, r.Request, d) {
		return
	}
	g.Log.Info("ticket", "id", d.ID, "desktop", d.WorkSpace, "directory", s.Directory, "user", s.User.Name, "session", hexShort(s.ID), "from", d.Address)
	reply(w, http.StatusOK, struct {
		Ticket string `json:"ticket"`
		Ends   string `json:"ends"`
	}{token, ends.UTC().Format("2006-01-02T15:04:05Z")})
}

// binding is what a ticket is good for: this session, from this address.
func binding(r *http.Request, s *Session) ticket.Binding {
	return ticket.Binding{Session: s.ID, Address: peer(r)}
}

// unavailable is what people are told of what is wrong inside.
const unavailable = "That did not work. Try again in a moment."

// trouble is the refusal that an error of Desktops makes.
func trouble(err error) refusal {
	switch {
	case errors.Is(err, ErrNoDesktop):
		return refusal{CheckOwner, "because there is no such desktop, or it is somebody else's", http.StatusNotFound, problem{Code: "no-desktop", Message: "You have no such desktop."}, nil}
	case errors.Is(err, ErrNotNow):
		return refusal{CheckState, "because its state does not allow it", http.StatusConflict,
			problem{Code: "not-now", Message: "The desktop cannot do that in the state it is in. Look again in a moment."}, nil}
	case errors.Is(err, ErrNotAllowed):
		return refusal{CheckSelfService, "because the directory does not let people do it themselves", http.StatusForbidden,
			problem{Code: "not-allowed", Message: "Your administrator does not allow that."}, nil}
	}
	return refusal{CheckService, "because it could not be done; the log of the process has the error", http.StatusServiceUnavailable, problem{Code: "unavailable", Message: unavailable}, err}
}
