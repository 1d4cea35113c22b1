package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// answerGrid is what the time of every refused login is rounded up to: unknown registration code, unknown user, wrong password and
// locked account are answered alike and at the same moments (ENU-1), although only some of them ask a directory.
const answerGrid = 500 * time.Millisecond

// The allowances of logins. A person who mistypes has enough of them; a directory's own lockout is usually stricter.
const (
	failureWindow   = 10 * time.Minute
	failuresOfUser  = 8
	failuresOfPlace = 60
	throttleKeys    = 50_000
)

// loginTimeout is how long a directory may take.
const loginTimeout = 20 * time.Second

type loginRequest struct {
	Code     string `json:"code"`
	UserName string `json:"userName"`
	Password string `json:"password"`
	// NewPassword replaces a password that is right but expired or to be changed.
	NewPassword string `json:"newPassword,omitempty"`
}

// login opens a session: admission by registration code, then the directory's word on the password.
func (g *Gateway) login(w http.ResponseWriter, r *http.Request) {
	began := g.Clock.Now()
	in, ok := read[loginRequest](w, r)
	if !ok {
		return
	}
	name := strings.TrimSpace(in.UserName)
	if in.Code == "" || name == "" || in.Password == "" || len(name) > 256 || len(in.Password) > 1024 || len(in.NewPassword) > 1024 {
		fail(w, http.StatusBadRequest, "incomplete", "Enter the registration code, your user name and your password.")
		return
	}
	d := g.decide(r, SignIn)
	code := strings.ToUpper(strings.TrimSpace(in.Code))
	// Counted by what was typed, not by what exists.
	keys := []string{"user " + code + " " + strings.ToLower(name), "place " + network(d.Address)}
	if wait, yes := g.throttled(keys, began); yes {
		w.Header().Set("Retry-After", seconds(wait))
		g.refuse(w, r, d, refusal{CheckAttempts, "because too many attempts have failed", http.StatusTooManyRequests,
			problem{Code: "too-many-attempts", Message: "Too many attempts. Wait a few minutes and try again."}, nil})
		return
	}
	// Before the directory is asked: nobody tries passwords unseen.
	if !g.recordable(w, r, d) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), loginTimeout)
	defer cancel()
	dir, user, err := g.check(ctx, d, code, name, in)
	if err != nil {
		g.refuseLogin(w, r, d, attempt{began: began, keys: keys, name: name, err: err})
		return
	}
	g.users.succeeded(keys[0])
	d.of(dir, user)
	g.letIn(w, r, d, user)
}

// letIn opens a session for whom the directory has vouched, once that is recorded.
func (g *Gateway) letIn(w http.ResponseWriter, r *http.Request, d *Decision, user directory.User) {
	g.expire()
	value, session, evicted, err := g.sessions.begin(g.Random, g.Clock.Now(), d.Directory, user)
	g.drop(evicted)
	if err != nil {
		g.refuse(w, r, d, refusal{CheckService, "because no session could be opened; the log of the process has the error", http.StatusServiceUnavailable,
			problem{Code: "busy", Message: "The portal is busy. Try again in a moment."}, err})
		return
	}
	d.Check, d.Reason = CheckDirectory, "the directory has vouched for the user name and the password"
	if !g.admit(w, r, d) {
		// Nobody has been given its cookie.
		g.sessions.end(func(other *Session) bool { return other.ID == session.ID })
		return
	}
	g.Log.Info("login", "id", d.ID, "directory", d.Directory, "user", user.Name, "sid", user.SID, "from", d.Address)
	setCookie(w, value, ageLimit)
	reply(w, http.StatusOK, g.whoami(session))
}

func (g *Gateway) throttled(keys []string, now time.Time) (time.Duration, bool) {
	if wait, yes := g.users.refused(keys[0], now); yes {
		return wait, true
	}
	return g.places.refused(keys[1], now)
}

// errNotRegistered: no directory has the code. It is answered like a wrong password.
var errNotRegistered = errors.New("gateway: no directory with this registration code")

// check asks the directory; d keeps which one, and that the password was changed on the way.
func (g *Gateway) check(ctx context.Context, d *Decision, code, name string, in loginRequest) (ident.DirectoryID, directory.User, error) {
	id, ok := g.Directories(code)
	if !ok {
		return "", directory.User{}, errNotRegistered
	}
	d.in(id)
	user, err := g.Auth.Authenticate(ctx, id, name, directory.NewPassword(in.Password))
	var refused *directory.LoginError
	if errors.As(err, &refused) && (refused.Reason == directory.ReasonMustChange || refused.Reason == directory.ReasonExpired) && in.NewPassword != "" && g.Passwords != nil {
		if err := g.Passwords.ChangePassword(ctx, id, name, directory.NewPassword(in.Password), directory.NewPassword(in.NewPassword)); err != nil {
			return id, directory.User{}, err
		}
		d.key("carrel:passwordchanged", "true")
		user, err = g.Auth.Authenticate(ctx, id, name, directory.NewPassword(in.NewPassword))
	}
	if err == nil && (!user.Enabled || user.SID == "") {
		// A directory's yes without saying to whom is none.
		err = &directory.LoginError{Reason: directory.ReasonDisabled}
	}
	return id, user, err
}

// attempt is a login that is refused.
type attempt struct {
	began time.Time
	keys  []string
	name  string
	err   error
}

// wrongLogin is what whoever is refused is told, whatever was wrong (ENU-1).
var wrongLogin = problem{Code: "refused", Message: "The registration code, user name or password is not right, or the account cannot be used."}

// refuseLogin records and answers a refused login. Its record is written within the time that all refusals take.
func (g *Gateway) refuseLogin(w http.ResponseWriter, r *http.Request, d *Decision, a attempt) {
	no, known := loginRefusal(a.err)
	if known {
		d.User = a.name
		d.key("workspaces:userid", a.name)
	}
	if no.status == http.StatusUnauthorized {
		now := g.Clock.Now()
		g.users.failed(a.keys[0], now)
		g.places.failed(a.keys[1], now)
	}
	// The name as typed may be a password typed into the wrong field: it is not logged.
	g.Log.Warn("login refused", "id", d.ID, "reason", no.reason, "from", d.Address, "error", unlessLogin(a.err))
	g.keep(r, d, no)
	g.wait(r.Context(), a.began)
	answer(w, d, no)
}

// loginRefusal is why a login is refused. known: the directory has found the password right, so the name is no password. Only the owner of the
// right password is told that it has to be changed.
func loginRefusal(err error) (no refusal, known bool) {
	var login *directory.LoginError
	switch {
	case errors.Is(err, errNotRegistered):
		return refusal{CheckCode, "because no directory is registered with the code", http.StatusUnauthorized, wrongLogin, nil}, false
	case errors.As(err, &login) && (login.Reason == directory.ReasonMustChange || login.Reason == directory.ReasonExpired):
		return refusal{CheckDirectory, "because of the directory's word: " + string(login.Reason), http.StatusForbidden,
			problem{Code: "password-change", Message: "Your password has to be changed before you can go on."}, nil}, true
	case errors.As(err, &login):
		return refusal{CheckDirectory, "because of the directory's word: " + string(login.Reason), http.StatusUnauthorized, wrongLogin, nil}, false
	case errors.Is(err, directory.ErrWeakPassword):
		return refusal{CheckDirectory, "because the directory does not allow the new password", http.StatusForbidden,
			problem{Code: "password-weak", Message: "Your organisation's rules do not allow this new password. Choose a longer or more varied one, and none you have used before."}, nil}, true
	}
	// Fail closed, and say that it is not the person's fault (R18).
	return refusal{CheckDirectory, "because the directory does not answer", http.StatusServiceUnavailable,
		problem{Code: "directory-unavailable", Message: "Your organisation's directory does not answer. Try again in a few minutes."}, nil}, false
}

// unlessLogin keeps the reason, which is logged anyway, from standing there twice.
func unlessLogin(err error) string {
	var login *directory.LoginError
	if errors.As(err, &login) || errors.Is(err, errNotRegistered) {
		return ""
	}
	return err.Error()
}

// wait waits for the next point of the grid of times at which refusals are answered.
func (g *Gateway) wait(ctx context.Context, began time.Time) {
	spent := g.Clock.Now().Sub(began)
	left := answerGrid - spent%answerGrid
	fired, stop := g.Clock.After(left)
	defer stop()
	select {
	case <-fired:
	case <-ctx.Done():
	}
}

// logout ends the session, its tickets and its desktops' connections.
func (g *Gateway) logout(w http.ResponseWriter, r *http.Request) {
	if s := g.sessions.find(r, g.Clock.Now()); s != nil {
		g.end(func(other *Session) *end {
			if other.ID != s.ID {
				return nil
			}
			return &end{CheckPerson, "the person has signed out"}
		})
	}
	setCookie(w, "", -time.Second)
	reply(w, http.StatusOK, struct{}{})
}

// who is the answer to "who am I".
type who struct {
	UserName    string            `json:"userName"`
	DisplayName string            `json:"displayName"`
	Directory   ident.DirectoryID `json:"directory"`
	Ends        time.Time         `json:"ends"`
}

func (g *Gateway) whoami(s *Session) who {
	return who{UserName: s.User.Name, DisplayName: s.User.DisplayName, Directory: s.Directory, Ends: s.Began.Add(ageLimit).UTC()}
}

// peer is the address at the other end of the connection. Headers that claim another one are nobody's word (IPG-3).
func peer(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// network is what attempts are counted by: an IPv4 address, or the IPv6 network that one customer usually has.
func network(a netip.Addr) string {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.String()
	}
	return a.String()
}
