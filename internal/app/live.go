package app

import (
	"context"
	"sync"
	"sync/atomic"

	"carrel/internal/directory"
	"carrel/internal/display"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// watch cuts live screens and sessions as soon as the records they rest on change: a desktop that stops or changes hands, a directory that is no
// longer registered. It is told of changes and looks at the records of now.
type watch struct {
	db       *state.DB
	sessions *display.Registry
	// people is set when the doors are built.
	people atomic.Pointer[gateway.Gateway]

	mu          sync.Mutex
	workspaces  map[ident.WorkspaceID]bool
	directories map[ident.DirectoryID]bool
	news        chan struct{}
}

// newWatch subscribes; to be called before the DB's Run.
func newWatch(db *state.DB, sessions *display.Registry) *watch {
	w := &watch{db: db, sessions: sessions, workspaces: map[ident.WorkspaceID]bool{}, directories: map[ident.DirectoryID]bool{}, news: make(chan struct{}, 1)}
	// Told on the goroutine that follows the store: only noted here.
	db.Subscribe(state.WorkspaceTable, func(id string, _ bool) {
		w.note(func() { w.workspaces[ident.WorkspaceID(id)] = true })
	})
	db.Subscribe(state.DirectoryTable, func(id string, _ bool) {
		w.note(func() { w.directories[ident.DirectoryID(id)] = true })
	})
	return w
}

func (w *watch) note(add func()) {
	w.mu.Lock()
	add()
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends.
func (w *watch) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.news:
		}
		w.mu.Lock()
		workspaces, directories := w.workspaces, w.directories
		w.workspaces, w.directories = map[ident.WorkspaceID]bool{}, map[ident.DirectoryID]bool{}
		w.mu.Unlock()
		w.look(workspaces, directories)
	}
}

func (w *watch) look(workspaces map[ident.WorkspaceID]bool, directories map[ident.DirectoryID]bool) {
	snap := w.db.Snapshot()
	for _, s := range w.sessions.List(display.Match{Only: func(i display.Info) bool { return workspaces[i.WorkspaceID] }}) {
		rec, ok := state.Get(snap, state.Workspaces, string(s.WorkspaceID))
		switch {
		case !ok || rec.Status.State != "AVAILABLE" || rec.Spec.Power != state.PowerRunning || rec.Status.Reboots < rec.Spec.Reboots:
			w.sessions.Cut(display.Match{ID: s.ID}, display.ReasonStopping)
		case rec.Spec.UserSID != s.UserSID || rec.Spec.DirectoryID != s.Directory:
			w.sessions.Cut(display.Match{ID: s.ID}, display.ReasonRuleChanged)
		}
	}
	for id := range directories {
		rec, ok := state.Get(snap, state.Directories, string(id))
		if ok && rec.Registration != nil && rec.Registration.State == "REGISTERED" {
			continue
		}
		if people := w.people.Load(); people != nil {
			people.EndSessions(id, "")
		}
		w.sessions.Cut(display.Match{Directory: id}, display.ReasonRuleChanged)
	}
}

// telling is a directory.Manager that ends the portal sessions, and with them the screens, of people whom it disables, deletes or gives another
// password. What is changed in a directory by other ways is found by asking it (gateway's recheck), as is a change whose answer was lost.
type telling struct {
	directory.Manager
	end func(id ident.DirectoryID, userName string)
}

// endSessionsOf ends a person's sessions, once there are doors.
func (w *watch) endSessionsOf(id ident.DirectoryID, userName string) {
	if people := w.people.Load(); people != nil {
		people.EndSessionsOf(id, userName)
	}
}

func (t telling) tell(err error, id ident.DirectoryID, userName string) error {
	if err == nil {
		t.end(id, userName)
	}
	return err
}

// SetPassword replaces a password.
func (t telling) SetPassword(ctx context.Context, id ident.DirectoryID, userName string, p directory.Password) error {
	return t.tell(t.Manager.SetPassword(ctx, id, userName, p), id, userName)
}

// DisableUser disables a user.
func (t telling) DisableUser(ctx context.Context, id ident.DirectoryID, userName string) error {
	return t.tell(t.Manager.DisableUser(ctx, id, userName), id, userName)
}

// DeleteUser deletes a user.
func (t telling) DeleteUser(ctx context.Context, id ident.DirectoryID, userName string) error {
	return t.tell(t.Manager.DeleteUser(ctx, id, userName), id, userName)
}
