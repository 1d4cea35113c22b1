package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"carrel/internal/directory"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
	"carrel/internal/operator"
	"carrel/internal/state"
)

// backupTimeout bounds how long a backup may take to be read from the store.
const backupTimeout = 10 * time.Minute

func (h *house) backup(w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), backupTimeout)
	defer cancel()
	_, err := state.Backup(ctx, h.store, w)
	return err
}

func (h *house) status(l *listeners, p Process) operator.Status {
	snap := h.db.Snapshot()
	s := operator.Status{
		Version: p.Version, PID: os.Getpid(), AccountID: h.installation.AccountID, Region: h.installation.Region,
		API: l.apiURL(), Portal: l.portalURL(), Simulated: h.installation.Simulated, Workspaces: state.Count(snap, state.Workspaces), Directories: []string{},
	}
	if l.metrics != nil {
		s.Metrics = "http://" + l.metrics.Addr().String() + "/metrics"
	}
	if s.Simulated {
		s.ClockOffset = h.clock.Offset().String()
	}
	for d := range state.All(snap, state.Directories) {
		text := string(d.ID) + " " + d.Spec.Name
		if d.Registration != nil {
			text += " " + d.Registration.State + " registration code " + d.Registration.Code
		}
		s.Directories = append(s.Directories, text)
	}
	return s
}

// simulation is what the operator may do to simulated drivers.
type simulation struct{ h *house }

var _ operator.Simulation = simulation{}

// simulation is what can be done to simulated drivers, nil with real ones.
func (h *house) simulation() operator.Simulation {
	if h.sim == nil {
		return nil
	}
	return simulation{h}
}

func (s simulation) Advance(by time.Duration) error {
	s.h.clock.Advance(by)
	return nil
}

func (s simulation) Fail(f operator.Fault) error {
	return s.h.sim.Faults().Fail(f.Driver, f.Step, f.Times)
}

func (s simulation) Clear() { s.h.sim.Faults().Clear() }

func (s simulation) Faults() []operator.Fault {
	all := []operator.Fault{}
	for _, f := range s.h.sim.Faults().Active() {
		all = append(all, fault(f))
	}
	return all
}

func fault(f sim.Fault) operator.Fault {
	return operator.Fault{Driver: f.Driver, Step: f.Step, Times: f.Left}
}

func (s simulation) AddUser(id, name string) error {
	of, err := s.h.directoryOf(id)
	if err != nil {
		return err
	}
	_, err = s.h.sim.Domain().AddUser(of, name)
	return err
}

// addUser makes a user with a random first password, which only a file tells. A user that exists keeps what it has: asked again after a password
// could not be set, the password is set.
func (h *house) addUser(ctx context.Context, u operator.NewUser) (operator.MadeUser, error) {
	id, err := h.directoryOf(u.Directory)
	if err != nil {
		return operator.MadeUser{}, err
	}
	made, err := h.desks.Users.CreateUser(ctx, id, directory.NewUser{Name: u.Name, GivenName: u.GivenName, Surname: u.Surname, Email: u.Email})
	if errors.Is(err, directory.ErrExists) {
		if made, err = h.desks.Users.Lookup(ctx, id, u.Name); err == nil && made.Enabled {
			err = fmt.Errorf("%s has a user %s already", id, made.Name)
		}
	}
	if err != nil {
		return operator.MadeUser{}, err
	}
	path, err := h.firstPassword(ctx, id, made.Name)
	if err != nil {
		return operator.MadeUser{}, fmt.Errorf("user %s was made without a password (ask again to give it one): %w", made.Name, err)
	}
	return operator.MadeUser{Directory: string(id), Name: made.Name, SID: made.SID, PasswordFile: path}, nil
}

// directoryOf reads an operator's directory id; "" is the only directory there is.
func (h *house) directoryOf(id string) (ident.DirectoryID, error) {
	if id != "" {
		return ident.ParseDirectoryID(id)
	}
	var found []ident.DirectoryID
	for d := range state.All(h.db.Snapshot(), state.Directories) {
		found = append(found, d.ID)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("there are %d directories: name one with --directory", len(found))
	}
	return found[0], nil
}
