package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/display"
	"carrel/internal/driver"
	"carrel/internal/durable"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/ticket"
)

// portal is the gateway with a desktop's screen behind it.
func (h *house) portal(l *listeners) (*gateway.Gateway, error) {
	g := &gateway.Gateway{Ready: h.ready, CRL: h.authority.CRL, Pages: h.pages, Clock: clock.System{}}
	tickets, err := ticket.NewOffice(ticket.Config{Now: clock.System{}.Now, Random: random})
	if err != nil {
		return nil, err
	}
	screens := &display.Handler{
		Tickets: tickets, Screens: lookedAfter{h.desks.Screens, h.workspaces.Look}, Sessions: h.desks.Sessions, Registry: &h.sessions, Policy: h.policyOf(g), Origins: l.origins(),
		Clock: clock.System{}, Random: random, Log: h.log, Connected: h.presence.connected, Disconnected: h.disconnected,
	}
	g.Directories, g.Auth, g.Passwords, g.Desktops = h.admits, h.desks.Auth, h.desks.Passwords, people{h}
	g.Tickets, g.Random, g.Log = tickets, random, h.log
	g.Record, g.Recordable = h.recordDecision, h.recordable
	g.Screen = screens.Serve
	g.Cut = func(session [sha256.Size]byte) {
		h.sessions.Cut(display.Match{Session: session}, display.ReasonSignedOut)
	}
	g.Live = func(session [sha256.Size]byte) bool { return len(h.sessions.List(display.Match{Session: session})) > 0 }
	g.People, g.Recheck, g.Grace = h.desks.Users, h.conf.Portal.Recheck, h.conf.Portal.DirectoryGrace
	h.watch.people.Store(g)
	return g, nil
}

// origins are those of the portal's pages, by every name that its certificate has.
func (l *listeners) origins() []string {
	url := l.portalURL()
	port := url[strings.LastIndex(url, ":")+1:]
	var out []string
	for _, name := range l.names() {
		if strings.Contains(name, "*") {
			continue
		}
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		out = append(out, "https://"+name+":"+port)
		if port == "443" {
			out = append(out, "https://"+name)
		}
	}
	return out
}

// admits finds the registered directory with a registration code.
func (h *house) admits(code string) (ident.DirectoryID, bool) {
	for d := range state.All(h.db.Snapshot(), state.Directories) {
		if r := d.Registration; r != nil && r.State == "REGISTERED" && r.Code != "" && strings.EqualFold(r.Code, code) {
			return d.ID, true
		}
	}
	return "", false
}

// people are the desktops of the people who have logged in.
type people struct{ h *house }

var _ gateway.Desktops = people{}

// of says whether a WorkSpace is the session's user's. A user deleted and made again has another SID and owns nothing.
func of(s *gateway.Session, w *state.Workspace) bool {
	return w.Spec.DirectoryID == s.Directory && w.Spec.UserSID == s.User.SID && w.Spec.UserSID != "" && w.Status.State != "TERMINATED"
}

// List gives the person's desktops in order of name.
func (p people) List(_ context.Context, s *gateway.Session) ([]gateway.Desktop, error) {
	snap := p.h.db.Snapshot()
	var all []gateway.Desktop
	for w := range state.AllBy(snap, state.Workspaces, state.WorkspacesByUser, state.UserKey(s.Directory, s.User.Name)) {
		if of(s, w) {
			all = append(all, shown(snap, w))
		}
	}
	slices.SortFunc(all, func(a, b gateway.Desktop) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.ID), string(b.ID)))
	})
	return all, nil
}

// Get gives one of the person's desktops.
func (p people) Get(_ context.Context, s *gateway.Session, id ident.WorkspaceID) (gateway.Desktop, error) {
	snap := p.h.db.Snapshot()
	w, ok := state.Get(snap, state.Workspaces, string(id))
	if !ok || !of(s, w) {
		return gateway.Desktop{}, gateway.ErrNoDesktop
	}
	return shown(snap, w), nil
}

// shown is a WorkSpace as the portal shows it.
func shown(r state.Reader, w *state.Workspace) gateway.Desktop {
	st := w.Status.State
	d := gateway.Desktop{ID: w.ID, Name: cmp.Or(w.Spec.Name, w.Tags["Name"], w.Status.ComputerName, string(w.ID)), ComputerName: w.Status.ComputerName, State: st}
	if b, ok := state.Get(r, state.Bundles, string(w.Spec.BundleID)); ok {
		d.Bundle = b.Name
	}
	d.CanConnect = st == "AVAILABLE"
	d.CanStart = st == "STOPPED" && w.Spec.Power == state.PowerStopped
	d.CanRestart = (st == "AVAILABLE" || st == "UNHEALTHY") && mayRestart(r, w)
	if st == "ERROR" || st == "UNHEALTHY" || w.Status.ErrorCode != "" {
		d.Detail = "Your administrator can see what is wrong."
	}
	return d
}

// mayRestart is the directory's self-service permission.
func mayRestart(r state.Reader, w *state.Workspace) bool {
	d, ok := state.Get(r, state.Directories, string(w.Spec.DirectoryID))
	return ok && d.Registration != nil && d.Registration.SelfService["RestartWorkspace"] == "ENABLED"
}

// Start asks for a stopped desktop to run.
func (p people) Start(ctx context.Context, s *gateway.Session, id ident.WorkspaceID) error {
	return p.change(ctx, s, id, func(tx *state.Tx, w *state.Workspace) error {
		if !shown(tx, w).CanStart {
			return gateway.ErrNotNow
		}
		w.Spec.Power, w.Status.State, w.Status.Since = state.PowerRunning, "STARTING", tx.Now()
		return nil
	})
}

// Restart asks for a reboot.
func (p people) Restart(ctx context.Context, s *gateway.Session, id ident.WorkspaceID) error {
	return p.change(ctx, s, id, func(tx *state.Tx, w *state.Workspace) error {
		if !mayRestart(tx, w) {
			return gateway.ErrNotAllowed
		}
		if !shown(tx, w).CanRestart {
			return gateway.ErrNotNow
		}
		w.Spec.Reboots++
		w.Status.State, w.Status.Since = "REBOOTING", tx.Now()
		return nil
	})
}

func (p people) change(ctx context.Context, s *gateway.Session, id ident.WorkspaceID, fn func(*state.Tx, *state.Workspace) error) error {
	_, err := p.h.db.Update(ctx, func(tx *state.Tx) error {
		w, ok := state.Get(tx, state.Workspaces, string(id))
		if !ok || !of(s, w) {
			return gateway.ErrNoDesktop
		}
		next := state.Clone(w)
		if err := fn(tx, next); err != nil {
			return err
		}
		state.Put(tx, state.Workspaces, next)
		return nil
	})
	return err
}

// errNotTheirs: the desktop has changed hands or state since its ticket was issued.
var errNotTheirs = errors.New("app: the desktop is not this person's, or not available")

// errSignedOut: the portal session has ended since its ticket was spent.
var errSignedOut = errors.New("app: signed out")

// policyOf lets a screen open for a portal session that goes on, as screenPolicy says.
func (h *house) policyOf(g *gateway.Gateway) func(context.Context, ticket.Claims) (display.Policy, error) {
	return func(ctx context.Context, c ticket.Claims) (display.Policy, error) {
		if !g.Holds(c.Binding.Session) {
			return display.Policy{}, errSignedOut
		}
		return h.screenPolicy(ctx, c)
	}
}

// screenPolicy looks at the records of now, whatever was so when the ticket was issued.
func (h *house) screenPolicy(_ context.Context, c ticket.Claims) (display.Policy, error) {
	snap := h.db.Snapshot()
	w, ok := state.Get(snap, state.Workspaces, string(c.WorkspaceID))
	if !ok || w.Spec.DirectoryID != c.Directory || w.Spec.UserSID != c.UserSID || w.Status.State != "AVAILABLE" {
		return display.Policy{}, errNotTheirs
	}
	return display.Policy{Title: shown(snap, w).Name, Clipboard: display.ClipboardBoth}, nil
}

// passwordsDir holds the first passwords of users that Carrel itself has made, a file each, until their administrator removes them.
const passwordsDir = "passwords"

// firstPasswords gives each user of a simulated directory a password, once.
func (h *house) firstPasswords(ctx context.Context, id ident.DirectoryID) error {
	users, _, err := h.desks.Users.ListUsers(ctx, id, "", 100)
	if err != nil {
		return err
	}
	for _, u := range users {
		if _, err := h.firstPassword(ctx, id, u.Name); err != nil {
			return fmt.Errorf("first password of %s in %s: %w", u.Name, id, err)
		}
	}
	return nil
}

// firstPassword sets a random password and writes it to a file that only the owner of the state reads. A file that is there stays: its
// user may have been given another password since.
func (h *house) firstPassword(ctx context.Context, id ident.DirectoryID, name string) (path string, err error) {
	state, err := filepath.Abs(h.conf.State.Dir)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(state, passwordsDir, string(id))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// The directory has checked the name as one of a user; as one of a file it may have no path in it.
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%q cannot be the name of a file", name)
	}
	path = filepath.Join(dir, strings.ToLower(name))
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	text, err := directory.GeneratePassword(random)
	if err != nil {
		return "", err
	}
	// Written before it is set: a password that nobody knows would be the worse half.
	if err := durable.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := h.desks.Users.SetPassword(ctx, id, name, directory.NewPassword(text)); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// disconnected notes the end of a session. One that ended by itself is a sign that its desktop is no longer what its record says.
func (h *house) disconnected(i display.Info, why display.Reason) {
	h.presence.disconnected(i)
	if why == display.ReasonDesktopEnded || why == display.ReasonUnreachable {
		h.workspaces.Look()
	}
}

// lookedAfter are screens whose failures are looked into: whoever waits for a desktop that is not there finds it started again soon, not at the
// next sweep.
type lookedAfter struct {
	driver.Screens
	look func()
}

// Connect as in driver.Screens.
func (l lookedAfter) Connect(ctx context.Context, id ident.WorkspaceID) (net.Conn, error) {
	conn, err := l.Screens.Connect(ctx, id)
	if err != nil {
		l.look()
	}
	return conn, err
}

// desks is what desktops are made of and reached by, simulated or on a host.
type desks struct {
	Hypervisor driver.Hypervisor
	Volumes    driver.Volumes
	Fabric     driver.Fabric
	Display    driver.Display
	Domain     driver.Domain
	Screens    driver.Screens
	// Sessions is nil when desktops are simulated: their screens have a clipboard.
	Sessions driver.Sessions
	// VPCs is nil when desktops are simulated.
	VPCs  driver.VPCs
	Users directory.Manager
	Auth  directory.Authenticator
	// Passwords may be nil.
	Passwords gateway.PasswordChanger
}
