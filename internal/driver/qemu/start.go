package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/ident"
)

// Start makes the machine run.
func (d *Driver) Start(ctx context.Context, spec driver.MachineSpec) (driver.Machine, error) {
	var out driver.Machine
	err := d.exclusively(spec.WorkspaceID, func(m *machine) error {
		if err := d.start(ctx, spec, m); err != nil {
			return err
		}
		var err error
		out, err = d.Inspect(ctx, spec.WorkspaceID)
		return err
	})
	return out, err
}

func (d *Driver) start(ctx context.Context, spec driver.MachineSpec, m *machine) error {
	if m == nil {
		return d.boot(ctx, &machine{record: record{Spec: spec, MachineID: ident.Hex(d.cfg.Random, 32)}}, spec)
	}
	switch m.State {
	case driver.MachineScrubbed:
		return driver.ErrOrder
	case driver.MachineStopped:
		return d.boot(ctx, m, spec)
	case driver.MachineRunning:
		if m.live.alive() {
			return d.wake(ctx, m)
		}
		fallthrough
	default:
		// It ended by itself, or an earlier start was cut off: nothing new before the old memory is gone.
		if err := d.bury(ctx, m); err != nil {
			return err
		}
		return d.boot(ctx, m, spec)
	}
}

// wake lets a machine go on that waits: its guest has powered itself off or crashed.
func (d *Driver) wake(ctx context.Context, m *machine) error {
	status, err := m.live.status(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w: %w", m.Spec.WorkspaceID, driver.ErrUnavailable, err)
	}
	switch status {
	case "running":
		return nil
	case "shutdown", "guest-panicked", "internal-error":
		err = m.live.monitor.Execute(ctx, "system_reset", nil, nil)
		m.Renewed, m.Told = false, ""
	}
	if err == nil {
		err = m.live.monitor.Execute(ctx, "cont", nil, nil)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w: %w", m.Spec.WorkspaceID, driver.ErrUnavailable, err)
	}
	return d.save(m)
}

// bury scrubs the memory of a run that ended by itself. The machine has no state when its first start had not come to a run.
func (d *Driver) bury(ctx context.Context, m *machine) error {
	if m.State != driver.MachineRunning && m.State != "" {
		return nil
	}
	var report *driver.ScrubReport
	r, err := d.scrubRun(ctx, m)
	switch {
	case err == nil:
		report = &r
	case errors.Is(err, memory.ErrLost):
		m.Lost = err.Error()
	case !errors.Is(err, driver.ErrNotFound):
		return err
	}
	return d.cleared(ctx, m, report)
}

// boot starts a new run: from saved memory when there is some, else from the disk.
func (d *Driver) boot(ctx context.Context, m *machine, spec driver.MachineSpec) error {
	size, ok := d.cfg.Size(spec.Compute)
	if !ok {
		return driver.Permanent("ComputeUnsupported", fmt.Errorf("qemu: this host has no compute type %s", spec.Compute))
	}
	if m.Saved != nil && m.Saved.Bytes != size.Memory {
		return driver.Permanent("ComputeChanged", fmt.Errorf("qemu: %s was saved with %d MiB of memory and cannot go on with %d", spec.WorkspaceID, m.Saved.Bytes>>20, size.Memory>>20))
	}
	next := &machine{record: m.record}
	next.Spec, next.Run, next.MemoryBytes, next.Started = spec, d.newRun(), size.Memory, d.cfg.Clock.Now().UTC()
	next.State, next.Before, next.Process = "", next.State, jail.Identity{}
	if next.Saved == nil {
		next.Told = ""
	}
	if d.room(size.Memory) != nil {
		d.evict(ctx, size.Memory)
	}
	if err := d.claim(next); err != nil {
		return err
	}
	// On disk before anything exists, so that a crash leaves nothing that nobody knows of.
	if err := d.save(next); err != nil {
		d.unclaim(m)
		return err
	}
	d.at("recorded")
	from, err := d.attempt(ctx, next, size)
	if err != nil {
		return d.undo(ctx, next, err)
	}
	now := d.cfg.Clock.Now().UTC()
	next.State, next.Before, next.Since, next.Reboots, next.Renewed, next.Report, next.Lost = driver.MachineRunning, "", now, spec.Reboots, false, nil, ""
	if err := d.save(next); err != nil {
		return err
	}
	d.at("running noted")
	d.cfg.Log.InfoContext(ctx, "desktop started", "desktop", spec.WorkspaceID, "run", next.Run, "from", from, "took", d.cfg.Clock.Now().Sub(next.Started))
	if err := d.dropFile(next, savedFile); err != nil {
		return err
	}
	d.at("saved memory removed")
	return nil
}

func (d *Driver) newRun() string { return "run-" + ident.Hex(d.cfg.Random, 16) }

// attempt starts the machine, and once more from its disk when that failed with a template. It says what the machine started from.
func (d *Driver) attempt(ctx context.Context, m *machine, size Size) (from string, err error) {
	from, err = d.run(ctx, m, size)
	var failed *templateError
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return from, err
	}
	d.cfg.Log.WarnContext(ctx, "a start from a memory template failed; the desktop starts from its disk", "desktop", m.Spec.WorkspaceID, "template", failed.id, "error", err)
	if _, e := d.scrubRun(ctx, m); e == nil {
		e = d.cfg.Keeper.Forget(ctx, m.Run)
		err = errors.Join(err, e)
	} else if !errors.Is(e, driver.ErrNotFound) {
		return "", errors.Join(err, e)
	}
	m.Run, m.Process = d.newRun(), jail.Identity{}
	if e := d.save(m); e != nil {
		return "", errors.Join(err, e)
	}
	return d.run(ctx, m, size)
}

// templateError is why a start from a template failed: not a reason for the desktop not to start.
type templateError struct {
	id  string
	err error
}

func (e *templateError) Error() string { return "from template " + e.id + ": " + e.err.Error() }
func (e *templateError) Unwrap() error { return e.err }

// undo takes a start that failed back: its memory was never a person's, but it is scrubbed like any other.
func (d *Driver) undo(ctx context.Context, m *machine, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	// When that fails it stays recorded, with its memory counted: the next start or scrub goes on here.
	return errors.Join(fmt.Errorf("start %s: %w", m.Spec.WorkspaceID, cause), d.bury(ctx, m))
}

// Reboot restarts the guest unless it has been done already.
func (d *Driver) Reboot(ctx context.Context, id ident.WorkspaceID, count int) (driver.Machine, error) {
	var out driver.Machine
	err := d.exclusively(id, func(m *machine) error {
		switch {
		case m == nil || m.State == "":
			return fmt.Errorf("reboot %s: %w", id, driver.ErrNotFound)
		case m.State != driver.MachineRunning:
			return fmt.Errorf("reboot %s: it is %s: %w", id, m.State, driver.ErrOrder)
		case !m.live.alive():
			return fmt.Errorf("reboot %s: it has ended by itself: %w", id, driver.ErrOrder)
		}
		if m.Reboots < count {
			if err := m.live.monitor.Execute(ctx, "system_reset", nil, nil); err != nil {
				return fmt.Errorf("reboot %s: %w: %w", id, driver.ErrUnavailable, err)
			}
			m.Reboots, m.Renewed, m.Told = count, false, ""
			if err := d.save(m); err != nil {
				return err
			}
		}
		if err := d.wake(ctx, m); err != nil {
			return err
		}
		var err error
		out, err = d.Inspect(ctx, id)
		return err
	})
	return out, err
}

func (d *Driver) path(m *machine, name string) string {
	return filepath.Join(d.cfg.Dir, string(m.Spec.WorkspaceID), name)
}
