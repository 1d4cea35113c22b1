package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
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
	if err := d.room(size.Memory); err != nil {
		return err
	}
	uid, err := d.uid()
	if err != nil {
		return err
	}
	next := &machine{record: m.record}
	next.Spec, next.Run, next.MemoryBytes, next.UID, next.Started = spec, "run-"+ident.Hex(d.cfg.Random, 16), size.Memory, uid, d.cfg.Clock.Now().UTC()
	// On disk before anything exists, so that a crash leaves nothing that nobody knows of.
	next.State, next.Before, next.Process = "", next.State, jail.Identity{}
	if err := d.save(next); err != nil {
		return err
	}
	d.at("recorded")
	if err := d.run(ctx, next, size); err != nil {
		return d.undo(ctx, next, err)
	}
	now := d.cfg.Clock.Now().UTC()
	next.State, next.Before, next.Since, next.Reboots, next.Renewed, next.Report, next.Lost = driver.MachineRunning, "", now, spec.Reboots, false, nil, ""
	if err := d.save(next); err != nil {
		return err
	}
	d.at("running noted")
	if err := d.dropFile(next, savedFile); err != nil {
		return err
	}
	d.at("saved memory removed")
	return nil
}

// undo takes a start that failed back: its memory was never a person's, but it is scrubbed like any other.
func (d *Driver) undo(ctx context.Context, m *machine, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	// When that fails it stays recorded, with its memory counted: the next start or scrub goes on here.
	return errors.Join(fmt.Errorf("start %s: %w", m.Spec.WorkspaceID, cause), d.bury(ctx, m))
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
	d.at("allocated")
	// All of it is taken from the kernel while the process starts, and before the guest runs: a host without memory refuses a start instead of
	// killing a desktop later.
	filled := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { filled <- block.Populate(ctx) }()
	wait := sync.OnceValue(func() error { return <-filled })
	err = d.launch(ctx, m, &parts{hardware: hardware{size: size, ram: block.File()}}, wait)
	cancel()
	_ = wait() // When the start has gone well it was asked already.
	return err
}

// launch starts the process; filled waits for its memory.
func (d *Driver) launch(ctx context.Context, m *machine, p *parts, filled func() error) error {
	defer p.close()
	if err := d.gather(ctx, m, p); err != nil {
		return err
	}
	d.at("opened")
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
	d.at("started")
	if err := d.cfg.Keeper.SetProcess(ctx, m.Run, process.PID()); err != nil {
		return errors.Join(err, process.Kill())
	}
	d.at("process noted")
	if err := d.greet(ctx, m, p, filled); err != nil {
		return errors.Join(fmt.Errorf("%w; it said %s", err, console.end(600)), process.Kill())
	}
	return nil
}

// greet connects to the machine's monitor and lets the guest run.
func (d *Driver) greet(ctx context.Context, m *machine, p *parts, filled func() error) error {
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
	// Held by the keeper too, so that the next host role can go on with them.
	if err := errors.Join(d.hold(ctx, m.Run, monitorFile, p.monitor), d.hold(ctx, m.Run, agentFile, p.agent)); err != nil {
		return err
	}
	d.at("held")
	monitor, _, err := qmp.Connect(ctx, p.take(&p.monitor), monitorOptions)
	if err != nil {
		return err
	}
	l.monitor, l.agent = monitor, qmp.NewAgent(p.take(&p.agent), agentTimeout)
	d.at("connected")
	if err := filled(); err != nil {
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	if m.Saved != nil {
		if err := d.resume(ctx, m); err != nil {
			return err
		}
	}
	if err := l.monitor.Execute(ctx, "cont", nil, nil); err != nil {
		return err
	}
	d.at("runs")
	return nil
}

// resume loads saved memory and notes that it is spent.
func (d *Driver) resume(ctx context.Context, m *machine) error {
	if err := d.load(ctx, m); err != nil {
		return err
	}
	d.at("loaded")
	saved := m.Saved
	m.Saved = nil
	if err := d.save(m); err != nil {
		m.Saved = saved
		return err
	}
	d.at("saved memory spent")
	return nil
}

var monitorOptions = qmp.Options{Events: []string{"SHUTDOWN", "GUEST_PANICKED", "BLOCK_IO_ERROR"}}

// hold has the keeper hold a connection as well.
func (d *Driver) hold(ctx context.Context, run, name string, conn net.Conn) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%s: a %T cannot be held", name, conn)
	}
	f, err := unix.File()
	if err != nil {
		return err
	}
	return errors.Join(d.cfg.Keeper.PutFile(ctx, run, name, f), f.Close())
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
func (d *Driver) gather(ctx context.Context, m *machine, p *parts) error {
	size := p.size
	p.id, p.accel, p.incoming, p.generation = m.Spec.WorkspaceID, d.cfg.Accel, m.Saved != nil, ident.UUID(d.cfg.Random)
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
