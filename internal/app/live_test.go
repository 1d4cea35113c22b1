package app

import (
	"context"
	"errors"
	"testing"

	"carrel/internal/directory"
	"carrel/internal/display"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
	"carrel/internal/ticket"
)

const adaSID = "S-1-5-21-1-2-3-1103"

// records is a directory with one desktop, ada's.
func records(t *testing.T, change func(*state.Workspace, *state.Directory)) *house {
	t.Helper()
	h := &house{db: statetest.NewDB(t)}
	w := &state.Workspace{ID: "ws-000000001", Spec: state.WorkspaceSpec{DirectoryID: "d-90670a1b2c", UserName: "ada", UserSID: adaSID, Power: state.PowerRunning, BundleID: "wsb-000000001"},
		Status: state.WorkspaceStatus{State: "AVAILABLE", ComputerName: "WSAMZ-000000001"}}
	d := &state.Directory{ID: "d-90670a1b2c", Spec: state.DirectorySpec{Type: "SimpleAD", Name: "corp.example.com"},
		Registration: &state.Registration{State: "REGISTERED", Code: "WSiad+ABC123", SelfService: map[string]string{"RestartWorkspace": "ENABLED"}}}
	change(w, d)
	if _, err := h.db.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.Workspaces, w)
		state.Put(tx, state.Directories, d)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

func session(sid string) *gateway.Session {
	s := &gateway.Session{Directory: "d-90670a1b2c"}
	s.User.Name, s.User.SID = "Ada", sid
	return s
}

func TestAPersonSeesAndStartsTheirOwnDesktopsOnly(t *testing.T) {
	h := records(t, func(w *state.Workspace, _ *state.Directory) {
		w.Spec.Power, w.Status.State = state.PowerStopped, "STOPPED"
	})
	p := people{h}
	ada, again := session(adaSID), session("S-1-5-21-1-2-3-9999")
	if all, err := p.List(t.Context(), ada); err != nil || len(all) != 1 || !all[0].CanStart || all[0].CanConnect {
		t.Errorf("%+v, %v", all, err)
	}
	// A user of the same name made anew owns nothing.
	if all, err := p.List(t.Context(), again); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := p.Start(t.Context(), again, "ws-000000001"); err != gateway.ErrNoDesktop {
		t.Errorf("%v", err)
	}
	if err := p.Restart(t.Context(), ada, "ws-000000001"); err != gateway.ErrNotNow {
		t.Errorf("%v", err)
	}
	if err := p.Start(t.Context(), ada, "ws-000000001"); err != nil {
		t.Error(err)
	}
	w, _ := state.Get(h.db.Snapshot(), state.Workspaces, "ws-000000001")
	if w.Spec.Power != state.PowerRunning || w.Status.State != "STARTING" {
		t.Errorf("%+v", w)
	}
	if err := p.Start(t.Context(), ada, "ws-000000001"); err != gateway.ErrNotNow {
		t.Errorf("twice: %v", err)
	}
}

func TestRestartIsTheAdministratorsToAllow(t *testing.T) {
	h := records(t, func(_ *state.Workspace, d *state.Directory) {
		d.Registration.SelfService["RestartWorkspace"] = "DISABLED"
	})
	if err := (people{h}).Restart(t.Context(), session(adaSID), "ws-000000001"); err != gateway.ErrNotAllowed {
		t.Errorf("%v", err)
	}
	h = records(t, func(*state.Workspace, *state.Directory) {})
	if err := (people{h}).Restart(t.Context(), session(adaSID), "ws-000000001"); err != nil {
		t.Errorf("%v", err)
	}
}

func TestTheScreenIsForWhoOwnsTheDesktopNow(t *testing.T) {
	claims := ticket.Claims{UserSID: adaSID, Directory: "d-90670a1b2c", WorkspaceID: "ws-000000001"}
	for name, c := range map[string]struct {
		change func(*state.Workspace, *state.Directory)
		ok     bool
	}{
		"hers and running": {func(*state.Workspace, *state.Directory) {}, true},
		"stopping":         {func(w *state.Workspace, _ *state.Directory) { w.Status.State = "STOPPING" }, false},
		"another's now":    {func(w *state.Workspace, _ *state.Directory) { w.Spec.UserSID = "S-1-5-21-1-2-3-1104" }, false},
		"elsewhere":        {func(w *state.Workspace, _ *state.Directory) { w.Spec.DirectoryID = "d-0000000000" }, false},
	} {
		if _, err := records(t, c.change).screenPolicy(t.Context(), claims); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyARegisteredDirectoryAdmits(t *testing.T) {
	h := records(t, func(*state.Workspace, *state.Directory) {})
	if id, ok := h.admits("WSIAD+ABC123"); !ok || id != "d-90670a1b2c" {
		t.Errorf("%s, %v", id, ok)
	}
	for _, code := range []string{"", "WSIAD+ABC124"} {
		if _, ok := h.admits(code); ok {
			t.Errorf("%q admits", code)
		}
	}
	h = records(t, func(_ *state.Workspace, d *state.Directory) { d.Registration.State = "DEREGISTERING" })
	if _, ok := h.admits("WSIAD+ABC123"); ok {
		t.Error("a directory that is being deregistered admits")
	}
}

func TestAWatchOfNothingCutsNothing(t *testing.T) {
	h := records(t, func(*state.Workspace, *state.Directory) {})
	w := newWatch(h.db, &display.Registry{})
	w.look(map[ident.WorkspaceID]bool{"ws-000000001": true}, map[ident.DirectoryID]bool{"d-90670a1b2c": true, "d-gone": true})
}

// manager is a directory whose changes fail with err.
type manager struct {
	directory.Manager
	err error
}

func (m manager) SetPassword(context.Context, ident.DirectoryID, string, directory.Password) error {
	return m.err
}
func (m manager) DisableUser(context.Context, ident.DirectoryID, string) error { return m.err }
func (m manager) DeleteUser(context.Context, ident.DirectoryID, string) error  { return m.err }

func TestAChangeByTheAPIEndsThePersonsSessionsAtOnce(t *testing.T) {
	for name, change := range map[string]func(directory.Manager) error{
		"another password": func(m directory.Manager) error {
			return m.SetPassword(t.Context(), "d-90670a1b2c", "Ada", directory.NewPassword("Another-Horse-8"))
		},
		"disabled": func(m directory.Manager) error { return m.DisableUser(t.Context(), "d-90670a1b2c", "Ada") },
		"deleted":  func(m directory.Manager) error { return m.DeleteUser(t.Context(), "d-90670a1b2c", "Ada") },
	} {
		for _, err := range []error{nil, directory.ErrUnavailable} {
			var ended []string
			m := telling{manager{err: err}, func(id ident.DirectoryID, name string) { ended = append(ended, string(id)+" "+name) }}
			if got := change(m); !errors.Is(got, err) {
				t.Errorf("%s: %v", name, got)
			}
			if err == nil && (len(ended) != 1 || ended[0] != "d-90670a1b2c Ada") || err != nil && len(ended) != 0 {
				t.Errorf("%s with %v: ended %v", name, err, ended)
			}
		}
	}
}
