package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
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
		m.Renewed = false
	}
	if err == nil {
		err = m.live.monitor.Execute(ctx, "cont", nil, nil)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w: %w", m.Spec.WorkspaceID, driver.ErrUnavailable, err)
	}
	return d.save(m)
}

// bury scrubs the memory of a run that ended by itself.
func (d *Driver) bury(ctx context.Context, m *machine) error {
	if m.Run != "" {
		report, err := d.scrubRun(ctx, m)
		if err != nil && !errors.Is(err, driver.ErrNotFound) {
			return err
		}
		if err == nil {
			return d.ended(ctx, m, report)
		}
	}
	m.State, m.MemoryBytes, m.Process, m.live = driver.MachineFailed, 0, jail.Identity{}, nil
	return d.save(m)
}

// ended notes that a run's memory was scrubbed although nobody asked for the machine's end.
func (d *Driver) ended(ctx context.Context, m *machine, report driver.ScrubReport) error {
	next := *m
	next.Earlier = append(next.Earlier[:len(next.Earlier):len(next.Earlier)], report)
	next.State, next.MemoryBytes, next.Process, next.live = driver.MachineFailed, 0, jail.Identity{}, nil
	run := next.Run
	next.Run = ""
	if err := d.save(&next); err != nil {
		return err
	}
	*m = next
	return d.cfg.Keeper.Forget(ctx, run)
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
	if err := d.room(size.Memory); err != nil {
		return err
	}
	uid, err := d.uid()
	if err != nil {
		return err
	}
	next := &machine{record: m.record}
	next.Spec, next.Run, next.MemoryBytes, next.UID, next.Started = spec, "run-"+ident.Hex(d.cfg.Random, 16), size.Memory, uid, d.cfg.Clock.Now().UTC()
	was := next.State
	// On disk before anything exists, so that a crash leaves nothing that nobody knows of.
	next.State = ""
	if err := d.save(next); err != nil {
		return err
	}
	if err := d.run(ctx, next, size); err != nil {
		return d.undo(ctx, next, was, err)
	}
	now := d.cfg.Clock.Now().UTC()
	next.State, next.Since, next.Reboots, next.Renewed, next.Report = driver.MachineRunning, now, spec.Reboots, false, nil
	if err := d.save(next); err != nil {
		return err
	}
	return d.dropSaved(next)
}

// undo takes a start that failed back: its memory was never a person's, but it is scrubbed like any other.
func (d *Driver) undo(ctx context.Context, m *machine, was driver.MachineState, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	cause = fmt.Errorf("start %s: %w", m.Spec.WorkspaceID, cause)
	if _, err := d.scrubRun(ctx, m); err == nil {
		cause = errors.Join(cause, d.cfg.Keeper.Forget(ctx, m.Run))
	} else if !errors.Is(err, driver.ErrNotFound) {
		// It stays recorded, with its memory counted: the next start or scrub goes on here.
		return errors.Join(cause, err)
	}
	m.Run, m.UID, m.Process, m.live = "", 0, jail.Identity{}, nil
	if was == driver.MachineStopped || was == driver.MachineFailed {
		m.State = was
		return errors.Join(cause, d.save(m))
	}
	return errors.Join(cause, d.drop(m))
}

// run starts the process on new memory and lets it go on.
func (d *Driver) run(ctx context.Context, m *machine, size Size) error {
	block, err := memory.Allocate(size.Memory, memory.PagesSmall)
	if err != nil {
		return err
	}
	if err := d.cfg.Keeper.Put(ctx, m.Run, block, memory.Meta{WorkspaceID: m.Spec.WorkspaceID, Run: m.Run, Host: d.cfg.Host, Created: d.cfg.Clock.Now().UTC()}); err != nil {
		return errors.Join(err, block.Close())
	}
	p := &parts{}
	defer p.close()
	if err := d.gather(ctx, m, size, p); err != nil {
		return err
	}
	p.hardware.ram = block.File()
	console := &tail{}
	process, err := jail.Start(ctx, d.jail(m, &p.hardware, console))
	// The machine has its own descriptors now; with ours open, its end would not be seen on the sockets.
	p.release()
	if err != nil {
		return err
	}
	l := &live{process: process, console: console, over: make(chan struct{})}
	m.live, m.Process = l, process.Identity()
	go l.watch() // Ends with the process, which every way out of here ends or keeps.
	if err := d.cfg.Keeper.SetProcess(ctx, m.Run, process.PID()); err != nil {
		return errors.Join(err, process.Kill())
	}
	if err := d.greet(ctx, m, p); err != nil {
		return errors.Join(fmt.Errorf("%w; it said %s", err, console.end(600)), process.Kill())
	}
	return nil
}

// greet connects to the machine's monitor and lets the guest run.
func (d *Driver) greet(ctx context.Context, m *machine, p *parts) error {
	l := m.live
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // Ends with this call or the machine.
		select {
		case <-l.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	monitor, _, err := qmp.Connect(ctx, p.take(&p.monitor), qmp.Options{Events: []string{"SHUTDOWN", "GUEST_PANICKED", "BLOCK_IO_ERROR"}})
	if err != nil {
		return err
	}
	l.monitor, l.agent = monitor, qmp.NewAgent(p.take(&p.agent), agentTimeout)
	if m.Saved != nil {
		if err := d.load(ctx, m); err != nil {
			return err
		}
	}
	return l.monitor.Execute(ctx, "cont", nil, nil)
}

// parts are what a machine is started with, until it has them.
type parts struct {
	hardware
	monitor, agent net.Conn
	closers        []io.Closer
}

// take gives a connection away.
func (p *parts) take(c *net.Conn) net.Conn {
	out := *c
	*c = nil
	return out
}

// close closes what was not given away: the machine has its own descriptors by then.
func (p *parts) close() {
	for _, c := range []net.Conn{p.monitor, p.agent} {
		if c != nil {
			_ = c.Close()
		}
	}
	p.release()
}

// release closes the files that the machine was given.
func (p *parts) release() {
	for _, c := range p.closers {
		_ = c.Close()
	}
	p.closers = nil
}

func (p *parts) later(c io.Closer) { p.closers = append(p.closers, c) }

// gather opens everything that the machine is given.
func (d *Driver) gather(ctx context.Context, m *machine, size Size, p *parts) error {
	p.hardware = hardware{id: m.Spec.WorkspaceID, size: size, accel: d.cfg.Accel, incoming: m.Saved != nil, generation: ident.UUID(d.cfg.Random)}
	var err error
	if p.root, err = d.cfg.Volumes.OpenVolume(ctx, m.Spec.Root); err != nil {
		return fmt.Errorf("root volume: %w", err)
	}
	p.later(p.root)
	if p.user, err = d.cfg.Volumes.OpenVolume(ctx, m.Spec.User); err != nil {
		return fmt.Errorf("user volume: %w", err)
	}
	p.later(p.user)
	if p.image, err = d.cfg.Images.OpenImage(ctx, p.root.ImageID); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	p.later(p.image)
	if int64(p.image.MinMemoryMiB)<<20 > size.Memory {
		return driver.Permanent("ComputeTooSmall", fmt.Errorf("image %s needs %d MiB of memory, compute type %s has %d here", p.image.ID, p.image.MinMemoryMiB, m.Spec.Compute, size.Memory>>20))
	}
	if p.tap, err = d.cfg.Taps.OpenTap(ctx, m.Spec.Interface); err != nil {
		return fmt.Errorf("network interface: %w", err)
	}
	p.later(p.tap.File)
	m.MAC, m.Agent = p.tap.NIC.MAC, p.image.Agent
	if p.rootKey, err = keyPipe(p.root.Passphrase, m.UID); err != nil {
		return err
	}
	p.later(p.rootKey)
	if p.userKey, err = keyPipe(p.user.Passphrase, m.UID); err != nil {
		return err
	}
	p.later(p.userKey)
	if p.monitor, p.hardware.monitor, err = pair("monitor"); err != nil {
		return err
	}
	p.later(p.hardware.monitor)
	if p.agent, p.hardware.agent, err = pair("agent"); err != nil {
		return err
	}
	p.later(p.hardware.agent)
	return nil
}

// jail says what the machine's process is given besides its files.
func (d *Driver) jail(m *machine, h *hardware, console io.Writer) jail.Spec {
	c := h.build()
	spec := jail.Spec{
		Name: string(m.Spec.WorkspaceID), Program: d.cfg.Program, Args: c.args, Files: c.files, UID: m.UID, GID: m.UID,
		ReadOnly: jail.SystemLibraries(), Proc: true, Stdout: console, Stderr: console,
		Limits: jail.Limits{Processes: 64 + 8*h.size.Processors, OpenFiles: 256, Output: 256 << 10, OutputPerSecond: 16 << 10},
	}
	if h.accel == KVM {
		spec.Devices = []string{"/dev/kvm"}
	}
	return spec
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
			m.Reboots, m.Renewed = count, false
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

// dropSaved removes saved memory that was taken over into a running machine, key first.
func (d *Driver) dropSaved(m *machine) error {
	if m.Saved == nil {
		return nil
	}
	m.Saved = nil
	if err := d.save(m); err != nil {
		return err
	}
	if err := os.Remove(d.path(m, savedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the saved memory of %s: %w", m.Spec.WorkspaceID, err)
	}
	return nil
}
