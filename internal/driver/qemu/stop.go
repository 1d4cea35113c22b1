package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
)

// Stop saves the machine's memory encrypted and scrubs it.
func (d *Driver) Stop(ctx context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	var out driver.Machine
	err := d.exclusively(id, func(m *machine) error {
		switch {
		case m == nil:
			return fmt.Errorf("stop %s: %w", id, driver.ErrNotFound)
		case m.State == driver.MachineScrubbed:
			return fmt.Errorf("stop %s: %w", id, driver.ErrOrder)
		case m.State == driver.MachineRunning:
			if err := d.stop(ctx, m); err != nil {
				return fmt.Errorf("stop %s: %w", id, err)
			}
		case m.State != driver.MachineStopped:
			// What has failed has nothing to be saved; it is stopped by being clean, and boots from its disk.
			if err := d.bury(ctx, m); err != nil {
				return fmt.Errorf("stop %s: %w", id, err)
			}
			if m.State == "" {
				return fmt.Errorf("stop %s: %w", id, driver.ErrNotFound) // Its first start had failed.
			}
			m.State, m.Since = driver.MachineStopped, d.cfg.Clock.Now().UTC()
			if err := d.save(m); err != nil {
				return err
			}
		}
		var err error
		out, err = d.Inspect(ctx, id)
		return err
	})
	return out, err
}

func (d *Driver) stop(ctx context.Context, m *machine) error {
	if m.Saved == nil && m.live.alive() {
		if err := d.keep(ctx, m); err != nil {
			// The guest goes on: a stop that fails, or whose caller has gone away in the middle of it, must not cost anybody their work.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adoptTimeout)
			defer cancel()
			return errors.Join(err, d.settle(ctx, m))
		}
	}
	report, err := d.scrubRun(ctx, m)
	if err != nil {
		return err
	}
	run := m.Run
	m.Report, m.State, m.MemoryBytes, m.Process, m.UID, m.live = &report, driver.MachineStopped, 0, jail.Identity{}, 0, nil
	m.Since = d.cfg.Clock.Now().UTC()
	if err := d.save(m); err != nil {
		return err
	}
	d.at("stopped noted")
	return d.cfg.Keeper.Forget(ctx, run)
}

// keep writes the machine's memory and device state, encrypted under a fresh key, and notes it in the record when all of it is on disk.
func (d *Driver) keep(ctx context.Context, m *machine) error {
	key, err := memory.NewKey(d.cfg.Random)
	if err != nil {
		return err
	}
	defer key.Destroy()
	s := &saved{KeyID: key.ID(), Bytes: m.MemoryBytes}
	if err := key.Expose(func(b []byte) error {
		s.Wrapped, err = d.cfg.Keys.Wrap("", savedBinding(m, s), b)
		return err
	}); err != nil {
		return fmt.Errorf("wrap the key of saved memory: %w", err)
	}
	path := d.path(m, savedFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = d.saveMachine(ctx, m, f, key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("save memory: %w", err), os.Remove(path))
	}
	d.at("saved")
	m.Saved = s
	if err := d.save(m); err != nil {
		// The guest goes on, so that what was saved fits its disks no longer: should the record be on disk all the same, its file must not be.
		m.Saved = nil
		return errors.Join(err, os.Remove(path))
	}
	d.at("saved noted")
	return nil
}

func savedBinding(m *machine, s *saved) string {
	return string(m.Spec.WorkspaceID) + " memory " + s.KeyID
}

// devicesOnly tells the monitor that a machine's state is its devices': its memory is in its block, where this process reads and writes it.
func devicesOnly(ctx context.Context, l *live) error {
	return l.monitor.Execute(ctx, "migrate-set-capabilities", map[string]any{"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}}}, nil)
}

// moveOut stops the guest and has QEMU write the state of its devices into a pipe, that take reads to its end.
func (d *Driver) moveOut(ctx context.Context, l *live, take func(io.Reader) error) error {
	if err := devicesOnly(ctx, l); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = l.monitor.Execute(ctx, "stop", nil, nil)
	d.at("paused")
	if err == nil {
		// Its default is a network's; and zero pages go as one byte.
		err = l.monitor.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 40}, nil)
	}
	if err == nil {
		err = l.monitor.GetFD(ctx, "save", w)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return take(r) })
	g.Go(func() error {
		err := l.monitor.Execute(ctx, "migrate", map[string]any{"uri": "fd:save"}, nil)
		if err == nil {
			err = migrated(ctx, l.monitor)
		}
		if err != nil {
			// The reader waits for the end of a stream that does not come.
			_ = r.SetReadDeadline(time.Unix(1, 0))
			_ = r.Close()
		}
		return err
	})
	return g.Wait()
}

// migrated waits for the end of a migration.
func migrated(ctx context.Context, monitor *qmp.Client) error {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var s struct {
			Status string `json:"status"`
			Desc   string `json:"error-desc"`
		}
		if err := monitor.Execute(ctx, "query-migrate", nil, &s); err != nil {
			return err
		}
		switch s.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("the machine's state could not be moved: %s %q", s.Status, s.Desc)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// moveIn gives a machine that waits for it the state of devices that src holds.
func (d *Driver) moveIn(ctx context.Context, l *live, src io.Reader) error {
	if err := devicesOnly(ctx, l); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	monitor := l.monitor
	err = monitor.GetFD(ctx, "load", r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if err := monitor.Execute(ctx, "migrate-incoming", map[string]any{"uri": "fd:load"}, nil); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := io.Copy(w, src)
		return errors.Join(err, w.Close())
	})
	g.Go(func() error {
		err := migrated(ctx, monitor)
		if err != nil {
			_ = w.SetWriteDeadline(time.Unix(1, 0))
		}
		return err
	})
	return g.Wait()
}
