package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/ident"
)

// Scrub ends the machine and proves that its memory, in use or saved, is gone.
func (d *Driver) Scrub(ctx context.Context, id ident.WorkspaceID) (driver.ScrubReport, error) {
	var out driver.ScrubReport
	err := d.exclusively(id, func(m *machine) error {
		if m == nil {
			return fmt.Errorf("scrub %s: %w", id, driver.ErrNotFound)
		}
		if m.State != driver.MachineScrubbed {
			if err := d.scrub(ctx, m); err != nil {
				return fmt.Errorf("scrub %s: %w", id, err)
			}
		}
		out = *m.Report
		return nil
	})
	return out, err
}

func (d *Driver) scrub(ctx context.Context, m *machine) error {
	run := ""
	if m.State == driver.MachineRunning || m.State == "" {
		report, err := d.scrubRun(ctx, m)
		if err != nil {
			return err
		}
		m.Report, run = &report, m.Run
	}
	if m.Lost != "" && run == "" {
		return fmt.Errorf("%w: %s", driver.ErrUnclean, m.Lost)
	}
	if m.Report == nil && len(m.Earlier) > 0 {
		// It ended by itself and was scrubbed then.
		last := m.Earlier[len(m.Earlier)-1]
		m.Report = &last
	}
	if m.Report == nil {
		return fmt.Errorf("%w: nothing says that its memory was scrubbed", driver.ErrUnclean)
	}
	if m.Saved != nil {
		m.Report.Keys = append(m.Report.Keys, m.Saved.KeyID)
		// The wrapped key is in the record, which is replaced below; what is left in the file opens to nobody.
		if err := os.Remove(d.path(m, savedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("saved memory: %w", err)
		}
		m.Saved = nil
	}
	m.State, m.MemoryBytes, m.UID, m.Process, m.live = driver.MachineScrubbed, 0, 0, jail.Identity{}, nil
	m.Since = d.cfg.Clock.Now().UTC()
	if err := d.save(m); err != nil {
		return err
	}
	d.at("scrubbed noted")
	return d.forget(ctx, run)
}

// scrubOptions: overwritten processes are looked at again, because input and output that is under way may write after the first pass.
func scrubOptions(observe func(string)) memory.ScrubOptions {
	return memory.ScrubOptions{Rescan: true, Observe: observe}
}

// scrubRun scrubs the memory of the machine's present run. driver.ErrNotFound: none was allocated.
func (d *Driver) scrubRun(ctx context.Context, m *machine) (driver.ScrubReport, error) {
	report, err := d.cfg.Keeper.Scrub(ctx, m.Run, scrubOptions(d.cfg.Observe))
	if err != nil {
		return report, err
	}
	if m.live != nil {
		// The scrub has ended the process.
		if err := m.live.close(); err != nil {
			d.cfg.Log.DebugContext(ctx, "closing the ways to a machine", "desktop", m.Spec.WorkspaceID, "error", err)
		}
		m.live = nil
	}
	report.WorkspaceID, report.Host, report.Run = m.Spec.WorkspaceID, d.cfg.Host, m.Run
	report.RunStarted = m.Started
	if report.RunEnded.IsZero() {
		report.RunEnded = report.Started
	}
	return report, nil
}

// Release forgets a scrubbed machine.
func (d *Driver) Release(_ context.Context, id ident.WorkspaceID) error {
	return d.exclusively(id, func(m *machine) error {
		switch {
		case m == nil:
			return nil
		case m.State != driver.MachineScrubbed:
			return fmt.Errorf("release %s: it is %s: %w", id, m.State, driver.ErrOrder)
		}
		return d.drop(m)
	})
}
