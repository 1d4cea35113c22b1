package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/guest"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
)

// Ready waits until somebody could work with the desktop: its guest has been told who it is, and its session is up. A guest without
// Carrel's agent is ready when its machine runs.
func (d *Driver) Ready(ctx context.Context, id ident.WorkspaceID) error {
	m, err := d.running(id)
	if err != nil {
		return fmt.Errorf("display of %s: %w", id, err)
	}
	if !m.Agent {
		return nil
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 300*time.Millisecond) {
		ready, err := d.ready(ctx, m)
		if ready {
			return nil
		}
		if !m.live.alive() {
			return fmt.Errorf("display of %s: the machine has ended (%s): %w; it said %s", id, m.live.exit, driver.ErrOrder, m.live.console.end(300))
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("display of %s: %w: %w", id, driver.ErrUnavailable, errors.Join(context.Cause(ctx), err))
		}
	}
}

// running finds a machine that runs.
func (d *Driver) running(id ident.WorkspaceID) (*machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.machines[id]
	switch {
	case m == nil || m.State == "":
		return nil, driver.ErrNotFound
	case m.State != driver.MachineRunning || !m.live.alive():
		return nil, driver.ErrOrder
	}
	return m, nil
}

// ready asks the guest, and tells it who it is as soon as it listens.
func (d *Driver) ready(ctx context.Context, m *machine) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	r := runner{m.live.agent}
	if now, err := d.running(m.Spec.WorkspaceID); err != nil || now.Run != m.Run {
		return false, driver.ErrOrder
	} else if !now.Renewed {
		if err := m.live.agent.Ping(ctx); err != nil {
			return false, err
		}
		if err := d.renew(ctx, m, r); err != nil {
			d.cfg.Log.WarnContext(ctx, "the guest could not be told who it is", "desktop", m.Spec.WorkspaceID, "error", err)
			return false, err
		}
	}
	s, err := guest.Inspect(ctx, r)
	return err == nil && s.X && s.Session == guest.SessionUp, err
}

// renew tells the guest who it is.
func (d *Driver) renew(ctx context.Context, m *machine, r guest.Runner) error {
	set := d.cfg.Guest
	doc := guest.Document{
		Version: guest.Version, Hostname: m.Spec.ComputerName, MachineID: m.MachineID,
		User:   guest.User{Name: guest.UnixName(m.Spec.UserName), FullName: guest.FullName(m.Spec.UserName), UID: guest.UserID, Administrator: set.Administrator},
		Home:   guest.Home{Serial: guest.HomeSerial},
		Locale: set.Locale, Keyboard: guest.Keyboard{Layout: set.Layout, Variant: set.Variant}, TimeZone: set.TimeZone,
		Network: guest.Network{MAC: m.MAC},
	}
	digest := doc.Digest()
	if m.Told == digest {
		// It was resumed with all that it was told; only time has gone on without it. That there is one of it only is what saved memory is spent for.
		if err := guest.SetTime(ctx, r, d.cfg.Clock.Now()); err != nil {
			return err
		}
	} else {
		if err := doc.Fresh(d.cfg.Random, d.cfg.Clock.Now()); err != nil {
			return err
		}
		if _, err := guest.Renew(ctx, r, doc); err != nil {
			return err
		}
	}
	return d.exclusively(m.Spec.WorkspaceID, func(now *machine) error {
		if now == nil || now.Run != m.Run || now.State != driver.MachineRunning {
			return driver.ErrOrder
		}
		now.Renewed, now.Told = true, digest
		return d.save(now)
	})
}

// runner is the agent as driver/guest wants it.
type runner struct{ *qmp.Agent }

func (r runner) Run(ctx context.Context, c guest.Command) (guest.Outcome, error) {
	out, err := r.Agent.Run(ctx, qmp.Command{Path: c.Path, Args: c.Args, Input: c.Input})
	return guest.Outcome{Code: out.Code, Stdout: out.Stdout, Stderr: out.Stderr}, err
}

// Connect opens a viewer's connection: one end of a socket pair goes to QEMU's RFB server, which listens nowhere.
func (d *Driver) Connect(ctx context.Context, id ident.WorkspaceID) (net.Conn, error) {
	m, err := d.running(id)
	if err != nil {
		return nil, fmt.Errorf("screen of %s: %w", id, err)
	}
	conn, theirs, err := pair("screen")
	if err != nil {
		return nil, err
	}
	m.live.mu.Lock()
	m.live.screens++
	name := fmt.Sprintf("screen%d", m.live.screens)
	m.live.mu.Unlock()
	err = m.live.monitor.GetFD(ctx, name, theirs)
	if err == nil {
		err = m.live.monitor.Execute(ctx, "add_client", map[string]any{"protocol": "vnc", "fdname": name, "skipauth": true}, nil)
	}
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("screen of %s: %w: %w", id, driver.ErrUnavailable, err), conn.Close())
	}
	return conn, nil
}
