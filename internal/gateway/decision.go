package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// The names of decisions. Stream is the permission that AWS asks for when a person connects (workspaces:Stream).
const (
	SignIn         = "SignIn"
	SignOut        = "SignOut"
	SessionEnded   = "SessionEnded"
	StartDesktop   = "StartDesktop"
	RestartDesktop = "RestartDesktop"
	Stream         = "Stream"
)

// Check is what decided, in words for people.
type Check string

// The checks, in the order in which they are made.
const (
	CheckAttempts    Check = "the allowance of attempts"
	CheckAudit       Check = "the audit log"
	CheckCode        Check = "the registration code"
	CheckDirectory   Check = "the directory"
	CheckSession     Check = "the portal session"
	CheckOwner       Check = "the desktop's owner"
	CheckSelfService Check = "the self-service permission"
	CheckState       Check = "the desktop's state"
	// CheckService: nothing was decided, because a part of Carrel did not answer.
	CheckService Check = "the service"
	// CheckPerson: they wanted it themselves.
	CheckPerson Check = "the person"
)

// Decision is what the gateway has decided about one request of a person, or about a session that goes on. No text in it is what somebody typed who
// is not known: a password may be typed where a name belongs.
type Decision struct {
	// ID is a UUID; the answer to a refused request has it, too.
	ID   string
	Name string
	At   time.Time

	Allowed bool
	// Check decided. Reason says why: of what is allowed a sentence, of what is refused one that begins with "because".
	Check  Check
	Reason string
	// Code and Message are what the person was told; empty when allowed, or when nobody has asked.
	Code, Message string

	// Directory is empty while no registration code has named one. User and SID are empty until the directory has vouched for them; of the owner of
	// a right password that has to be changed first, the user name alone is known.
	Directory ident.DirectoryID
	User, SID string
	WorkSpace ident.WorkspaceID
	// Address is the peer's, invalid when no request was there; UserAgent is the client's word.
	Address   netip.Addr
	UserAgent string
	// Keys are the values that were looked at, by names like those of condition keys, in lower case.
	Keys map[string][]string
}

// recordTimeout is how long an answer waits for its record.
const recordTimeout = 5 * time.Second

// requestIDHeader has the decision's id.
const requestIDHeader = "X-Carrel-Request-Id"

// decide begins the decision about a request.
func (g *Gateway) decide(r *http.Request, name string) *Decision {
	d := g.decisionNow(name)
	d.Address, d.UserAgent = peer(r), r.UserAgent()
	if d.Address.IsValid() {
		d.key("aws:sourceip", d.Address.String())
	}
	return d
}

func (g *Gateway) decisionNow(name string) *Decision {
	at := g.Clock.Now()
	d := &Decision{ID: ident.UUID(g.Random), Name: name, At: at}
	d.key("aws:currenttime", at.UTC().Format(time.RFC3339))
	return d
}

// key keeps a value that was looked at.
func (d *Decision) key(name, value string) {
	if d.Keys == nil {
		d.Keys = map[string][]string{}
	}
	d.Keys[name] = []string{value}
}

// in says which directory it is about.
func (d *Decision) in(id ident.DirectoryID) {
	d.Directory = id
	d.key("carrel:directoryid", string(id))
}

// of says whom it is about. The directory has vouched for them.
func (d *Decision) of(id ident.DirectoryID, u directory.User) {
	d.in(id)
	d.User, d.SID = u.Name, u.SID
	d.key("workspaces:userid", u.Name)
}

// about says which desktop it is about.
func (d *Decision) about(id ident.WorkspaceID) {
	d.WorkSpace = id
	d.key("carrel:workspaceid", string(id))
}

// refusal is why a request is refused, and what the person is told.
type refusal struct {
	check  Check
	reason string
	status int
	problem
	// err is for the log of the process; it may be nil.
	err error
}

// record has a decision kept.
func (g *Gateway) record(ctx context.Context, d *Decision) error {
	if g.Record == nil {
		return nil
	}
	return g.Record(ctx, *d)
}

// recording bounds how long a request waits for its record. It does not end with the request: whoever hangs up is recorded like anybody else.
func recording(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), recordTimeout)
}

// recordable refuses what could not be recorded afterwards; true: go on.
func (g *Gateway) recordable(w http.ResponseWriter, r *http.Request, d *Decision) bool {
	if g.Recordable == nil {
		return true
	}
	err := g.Recordable()
	if err != nil {
		g.refuse(w, r, d, unrecorded(err))
	}
	return err == nil
}

func unrecorded(err error) refusal {
	return refusal{CheckAudit, "because it could not be recorded", http.StatusServiceUnavailable, problem{Code: "unavailable", Message: unavailable}, err}
}

// admit keeps that a request is allowed, before it is answered; when that cannot be kept it answers that it is not. true: answer.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, d *Decision) bool {
	d.Allowed = true
	ctx, cancel := recording(r)
	defer cancel()
	if err := g.record(ctx, d); err != nil {
		g.Log.Error("decision not recorded", "id", d.ID, "decision", d.Name, "error", err)
		answer(w, d, unrecorded(err))
		return false
	}
	w.Header().Set(requestIDHeader, d.ID)
	return true
}

// refuse keeps that a request is refused, and answers it.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, d *Decision, no refusal) {
	g.keep(r, d, no)
	answer(w, d, no)
}

// keep keeps that a request is refused. It is refused also when that cannot be kept.
func (g *Gateway) keep(r *http.Request, d *Decision, no refusal) {
	ctx, cancel := recording(r)
	defer cancel()
	d.Allowed, d.Check, d.Reason, d.Code, d.Message = false, no.check, no.reason, no.Code, no.Message
	if no.err != nil {
		g.Log.Error("not done", "id", d.ID, "decision", d.Name, "reason", d.Reason, "error", no.err)
	}
	if err := g.record(ctx, d); err != nil {
		g.Log.Error("decision not recorded", "id", d.ID, "decision", d.Name, "error", err)
	}
}

// answer tells the person no.
func answer(w http.ResponseWriter, d *Decision, no refusal) {
	no.problem.ID = d.ID
	w.Header().Set(requestIDHeader, d.ID)
	failed(w, no.status, no.problem)
}

// ended keeps that a session has ended, and why.
func (g *Gateway) ended(ctx context.Context, s *Session) {
	d := g.decisionNow(SessionEnded)
	d.of(s.Directory, s.User)
	d.key("carrel:signedin", s.Began.UTC().Format(time.RFC3339))
	d.Check, d.Reason = s.end.check, s.end.reason
	if s.end.check == CheckPerson {
		d.Name, d.Allowed = SignOut, true
	}
	if err := g.record(ctx, d); err != nil {
		g.Log.Error("decision not recorded", "id", d.ID, "decision", d.Name, "error", err)
	}
}

// end is why a session ends.
type end struct {
	check  Check
	reason string
}
