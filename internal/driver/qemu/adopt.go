package qemu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
)

// The names under which the keeper holds our ends of the connections to a machine, and what may be waited for when they are taken over.
const (
	monitorFile  = "monitor"
	agentFile    = "agent"
	sessionFile  = "session"
	adoptTimeout = 10 * time.Second
	// adoptions is how many machines are taken over at once: it is waiting for answers, not work.
	adoptions = 32
)

// recover takes over the machines that run, and scrubs everything else that an earlier host role left.
func (d *Driver) recover(ctx context.Context) error {
	entries, err := d.cfg.Keeper.List(ctx)
	if err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	runs := map[string]memory.Entry{}
	for _, e := range entries {
		runs[e.ID] = e
	}
	if d.layers != nil {
		if err := d.openTemplates(ctx, runs); err != nil {
			return err
		}
	}
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(adoptions)
	for _, m := range slices.Collect(maps.Values(d.machines)) {
		e, held := runs[m.Run]
		if m.State != driver.MachineRunning || m.Saved != nil || !held || !e.Alive || e.Scrubbing || e.Meta.PID != m.Process.PID {
			continue
		}
		g.Go(func() error {
			next := m.clone()
			if err := d.adopt(ctx, next); err != nil {
				d.cfg.Log.ErrorContext(ctx, "a machine that runs could not be taken over; it is scrubbed", "desktop", m.Spec.WorkspaceID, "run", m.Run, "error", err)
				return nil
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.machines[m.Spec.WorkspaceID] = next
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Collect(maps.Values(d.machines)) {
		e, held := runs[m.Run]
		if m.Run != "" {
			delete(runs, m.Run)
		}
		if m.live == nil {
			errs = append(errs, d.clear(ctx, m.clone(), e, held))
		}
	}
	for _, e := range runs {
		errs = append(errs, d.orphan(ctx, e))
	}
	return errors.Join(errs...)
}

// adopt connects to a machine of an earlier host role. On an error nothing of this process speaks to it any more.
func (d *Driver) adopt(ctx context.Context, m *machine) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	monitor, err := d.fetch(ctx, m.Run, monitorFile)
	if err != nil {
		return err
	}
	agent, err := d.fetch(ctx, m.Run, agentFile)
	if err != nil {
		return errors.Join(err, monitor.Close())
	}
	process, err := jail.Adopt(m.Process)
	if err != nil {
		return errors.Join(err, monitor.Close(), agent.Close())
	}
	l := &live{process: process, console: &tail{}, over: make(chan struct{}), agent: qmp.NewAgent(agent, agentTimeout)}
	go l.watch() // Ends with the process: that of a machine that cannot be adopted is scrubbed next.
	if l.monitor, _, err = qmp.Resume(ctx, monitor, monitorOptions); err != nil {
		return errors.Join(err, l.agent.Close())
	}
	m.live = l
	if err := d.settle(ctx, m); err != nil {
		return errors.Join(err, l.monitor.Close(), l.agent.Close())
	}
	if m.Hardware >= sessionHardware {
		session, err := d.fetch(ctx, m.Run, sessionFile)
		if err != nil {
			return errors.Join(err, l.monitor.Close(), l.agent.Close())
		}
		l.session = newPort(session)
	}
	go l.attend(d.attended(m)) // Ends with the connection.
	return nil
}

// fetch gives a connection that the keeper holds.
func (d *Driver) fetch(ctx context.Context, run, name string) (net.Conn, error) {
	f, err := d.cfg.Keeper.GetFile(ctx, run, name)
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}

// settle lets a guest go on whose stop was cut off before its memory was saved: nothing of it was noted, so nobody may count on it.
func (d *Driver) settle(ctx context.Context, m *machine) error {
	if err := d.dropFile(m, savedFile); err != nil {
		return err
	}
	for cancelled := false; ; {
		var s struct {
			Status string `json:"status"`
		}
		if err := m.live.monitor.Execute(ctx, "query-migrate", nil, &s); err != nil {
			return err
		}
		if s.Status == "" || s.Status == "none" || s.Status == "completed" || s.Status == "failed" || s.Status == "cancelled" {
			break
		}
		if !cancelled {
			if err := m.live.monitor.Execute(ctx, "migrate_cancel", nil, nil); err != nil {
				return err
			}
			cancelled = true
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	status, err := m.live.status(ctx)
	if err != nil {
		return err
	}
	switch status {
	case "paused", "postmigrate", "finish-migrate", "io-error":
		return m.live.monitor.Execute(ctx, "cont", nil, nil)
	}
	return nil
}

// sleep waits, or gives the error of a ctx that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clear brings a machine that was not taken over to a state that it can go on from: no memory of its is left that was not scrubbed.
func (d *Driver) clear(ctx context.Context, m *machine, e memory.Entry, held bool) error {
	id := m.Spec.WorkspaceID
	if m.Saved != nil {
		if _, err := os.Stat(d.path(m, savedFile)); errors.Is(err, os.ErrNotExist) {
			d.cfg.Log.ErrorContext(ctx, "saved memory is gone; the desktop will start from its disk", "desktop", id)
			m.Saved = nil
		}
	} else if err := d.dropFile(m, savedFile); err != nil {
		return err
	}
	began := m.State == driver.MachineRunning || m.State == ""
	if !held && !began {
		return nil
	}
	var report *driver.ScrubReport
	if held {
		if e.Report == nil {
			d.cfg.Log.WarnContext(ctx, "memory of an earlier host role is being scrubbed", "desktop", id, "run", e.ID, "alive", e.Alive)
		}
		r, err := d.scrubRun(ctx, m)
		switch {
		case err == nil:
			report = &r
			if _, err := jail.Adopt(m.Process); m.Process.PID != 0 && !errors.Is(err, jail.ErrGone) { // That it has ended removes its control groups.
				d.cfg.Log.WarnContext(ctx, "control groups of a scrubbed machine", "desktop", id, "error", err)
			}
		case errors.Is(err, memory.ErrLost):
			m.Lost = err.Error()
		default:
			// It stays what it is, with its memory counted; the next start or scrub of it tries again and says why it cannot.
			d.cfg.Log.ErrorContext(ctx, "memory of an earlier host role cannot be scrubbed", "desktop", id, "run", e.ID, "error", err)
			return nil
		}
	} else if m.State == driver.MachineRunning {
		m.Lost = "nothing is known of the memory of run " + m.Run + ": the host was restarted"
	}
	if !began {
		// Its record was complete; only the keeper had not been told yet.
		return d.cfg.Keeper.Forget(ctx, e.ID)
	}
	return d.cleared(ctx, m, report)
}

// cleared notes what has become of a machine whose start, run or stop was cut off, and has the keeper forget the run.
func (d *Driver) cleared(ctx context.Context, m *machine, report *driver.ScrubReport) error {
	if m.Lost != "" {
		d.cfg.Log.ErrorContext(ctx, "memory was lost before it could be scrubbed", "desktop", m.Spec.WorkspaceID, "reason", m.Lost)
	}
	run, started := m.Run, m.State == driver.MachineRunning
	m.Run, m.MemoryBytes, m.UID, m.Process, m.live = "", 0, 0, jail.Identity{}, nil
	m.Since = d.cfg.Clock.Now().UTC()
	switch {
	case m.Saved != nil || !started && m.Before == driver.MachineStopped:
		// A stop had saved its memory and this was the rest of it; or a resume was cut off, and it is what it was.
		m.State = driver.MachineStopped
		if report != nil {
			m.earlier(m.Report)
			m.Report = report
		}
	case !started && m.Before == "" && m.Lost == "" && len(m.Earlier) == 0:
		// Its first start: a machine that never was.
		if err := d.forget(ctx, run); err != nil {
			return err
		}
		return d.drop(m)
	default:
		m.State = driver.MachineFailed
		m.earlier(report)
	}
	if err := d.save(m); err != nil {
		return err
	}
	return d.forget(ctx, run)
}

// earlier keeps a report of memory that was not the last.
func (m *machine) earlier(r *driver.ScrubReport) {
	if r != nil {
		m.Earlier = append(m.Earlier[:len(m.Earlier):len(m.Earlier)], *r)
	}
}

func (d *Driver) forget(ctx context.Context, run string) error {
	if run == "" {
		return nil
	}
	return d.cfg.Keeper.Forget(ctx, run)
}

// orphan scrubs memory that no record knows.
func (d *Driver) orphan(ctx context.Context, e memory.Entry) error {
	if e.Report == nil {
		d.cfg.Log.WarnContext(ctx, "memory that no record knows is being scrubbed", "desktop", e.Meta.WorkspaceID, "run", e.ID, "alive", e.Alive)
		if _, err := d.cfg.Keeper.Scrub(ctx, e.ID, scrubOptions(nil)); err != nil && !errors.Is(err, memory.ErrLost) {
			// It stays held and counted until a later host role can.
			d.cfg.Log.ErrorContext(ctx, "memory that no record knows cannot be scrubbed", "desktop", e.Meta.WorkspaceID, "run", e.ID, "error", err)
			d.reserved += e.Meta.Bytes
			return nil
		}
	}
	return d.cfg.Keeper.Forget(ctx, e.ID)
}

// dropFile removes one of a machine's files. Gone already: success.
func (d *Driver) dropFile(m *machine, name string) error {
	if err := os.Remove(d.path(m, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}
