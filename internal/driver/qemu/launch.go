package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
)

// run starts the process on new memory and lets it go on. It says what from.
func (d *Driver) run(ctx context.Context, m *machine, size Size) (from string, err error) {
	p := &parts{hardware: hardware{size: size}}
	defer p.close()
	if err := d.gather(ctx, m, p); err != nil {
		return "", err
	}
	switch {
	case m.Saved != nil:
		from, p.model = "saved memory", m.Model
	case p.template != nil:
		from, p.model = "template "+p.template.ID, p.template.Model
	default:
		from = "disk"
	}
	if t := p.template; t != nil {
		defer func() {
			d.release(t, err)
			if err != nil {
				err = &templateError{t.ID, err}
			}
		}()
	}
	d.at("opened")
	block, err := memory.Allocate(size.Memory, memory.PagesSmall)
	if err != nil {
		return from, err
	}
	if err := d.cfg.Keeper.Put(ctx, m.Run, block, memory.Meta{WorkspaceID: m.Spec.WorkspaceID, Run: m.Run, Host: d.cfg.Host, Created: d.cfg.Clock.Now().UTC()}); err != nil {
		return from, errors.Join(err, block.Close())
	}
	d.at("allocated")
	p.ram = block.File()
	filling, cancel := context.WithCancel(ctx)
	filled := make(chan error, 1)
	go func() { filled <- d.prepare(filling, m, p, block) }()
	wait := sync.OnceValue(func() error { return <-filled })
	err = d.launch(ctx, m, p, wait)
	cancel()
	_ = wait() // When the start has gone well it was asked already.
	p.state.wipe()
	return from, err
}

// prepare does what has to be done before the guest's first instruction, and may be while the process starts.
func (d *Driver) prepare(ctx context.Context, m *machine, p *parts, block *memory.Block) error {
	g, ctx := errgroup.WithContext(ctx)
	if d.layers != nil && p.root.Fresh {
		g.Go(func() error {
			if err := d.layers.BeginVolume(ctx, p.root.ID, p.layer); err != nil {
				return fmt.Errorf("root volume: %w", err)
			}
			return nil
		})
	}
	g.Go(func() error { return d.fillMemory(ctx, m, p, block) })
	return g.Wait()
}

// fillMemory brings what was saved, or copies the template, if there is one, and takes all of the memory from the kernel while the process starts, and before
// the guest runs: a host without memory refuses a start instead of killing a desktop later.
func (d *Driver) fillMemory(ctx context.Context, m *machine, p *parts, block *memory.Block) (err error) {
	switch {
	case m.Saved != nil:
		p.state, err = d.restore(ctx, m, block)
	case p.template != nil:
		err = p.template.memory.CopyTo(ctx, block)
	}
	if err != nil {
		return err
	}
	return block.Populate(ctx)
}

// launch starts the process; filled waits for its memory.
func (d *Driver) launch(ctx context.Context, m *machine, p *parts, filled func() error) error {
	console := &tail{}
	process, err := jail.Start(ctx, d.jail(string(m.Spec.WorkspaceID), m.UID, p, console))
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
	ctx, cancel := l.during(ctx)
	defer cancel()
	// Held by the keeper too, so that the next host role can go on with them.
	if err := errors.Join(d.hold(ctx, m.Run, monitorFile, p.monitor), d.hold(ctx, m.Run, agentFile, p.agent)); err != nil {
		return err
	}
	if p.session != nil {
		if err := d.hold(ctx, m.Run, sessionFile, p.session); err != nil {
			return err
		}
		l.session = newPort(p.take(&p.session))
	}
	d.at("held")
	monitor, _, err := qmp.Connect(ctx, p.take(&p.monitor), monitorOptions)
	if err != nil {
		return err
	}
	l.monitor, l.agent = monitor, qmp.NewAgent(p.take(&p.agent), agentTimeout)
	d.at("connected")
	if err := filled(); driver.AsPermanent(err) != nil {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	switch {
	case m.Saved != nil:
		if err := d.resume(ctx, m, p.state); err != nil {
			return err
		}
	case p.template != nil:
		if err := d.awake(ctx, l, p); err != nil {
			return err
		}
	}
	if m.Model = p.model; m.Model == "" {
		if m.Model, err = l.model(ctx); err != nil {
			return err
		}
	}
	if err := l.monitor.Execute(ctx, "cont", nil, nil); err != nil {
		return err
	}
	go l.attend(d.attended(m)) // Ends with the connection, which Close, a scrub or the machine's end closes.
	d.at("runs")
	return nil
}

// attended logs what a machine meets while nobody asks for anything.
func (d *Driver) attended(m *machine) func(string) {
	id := m.Spec.WorkspaceID
	return func(text string) { d.cfg.Log.Warn(text, "desktop", id) }
}

// awake gives a machine the state of its template, and then what is its own: network card, user volume, and a root disk of its size.
func (d *Driver) awake(ctx context.Context, l *live, p *parts) error {
	f, err := os.Open(filepath.Join(p.template.dir, deviceFile))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.moveIn(ctx, l, f); err != nil {
		return err
	}
	for _, c := range p.calls {
		if err := l.monitor.Execute(ctx, c.name, c.arguments, nil); err != nil {
			return err
		}
	}
	// The disk has this size already; saying so tells the guest, which knows the template's.
	return l.monitor.Execute(ctx, "block_resize", map[string]any{"node-name": "root", "size": int64(p.root.GiB) << 30}, nil)
}

// resume gives the machine the state of its devices and notes that what was saved is spent.
func (d *Driver) resume(ctx context.Context, m *machine, state pieces) error {
	if err := d.moveIn(ctx, m.live, state.reader()); err != nil {
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
	monitor, agent, session net.Conn
	// template is what the machine starts from; calls are what its monitor is told then.
	template *template
	calls    []call
	// layer is what the root volume lies on.
	layer string
	// state is that of the devices of a machine that is resumed, once its memory is filled.
	state   pieces
	closers []io.Closer
}

// take gives a connection away.
func (p *parts) take(c *net.Conn) net.Conn {
	out := *c
	*c = nil
	return out
}

// connect makes the connections to the machine's monitor and agent, and to the person's session if the hardware has a port for it.
func (p *parts) connect(version int) (err error) {
	if p.monitor, p.hardware.monitor, err = pair("monitor"); err != nil {
		return err
	}
	p.later(p.hardware.monitor)
	if p.agent, p.hardware.agent, err = pair("agent"); err != nil {
		return err
	}
	p.later(p.hardware.agent)
	if version < sessionHardware {
		return nil
	}
	if p.session, p.hardware.session, err = pair("session"); err != nil {
		return err
	}
	p.later(p.hardware.session)
	return nil
}

// close closes what was not given away: the machine has its own descriptors by then.
func (p *parts) close() {
	for _, c := range []net.Conn{p.monitor, p.agent, p.session} {
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
	p.id, p.accel, p.incoming, p.generation = string(m.Spec.WorkspaceID), d.cfg.Accel, m.Saved != nil, ident.UUID(d.cfg.Random)
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
	if m.Saved == nil {
		m.Hardware = hardwareVersion
	}
	if err := p.connect(m.Hardware); err != nil {
		return err
	}
	return d.base(ctx, m, p)
}

// base decides what a root volume lies on: one that nothing was written to yet can be a template's copy; any other is what it was.
func (d *Driver) base(ctx context.Context, m *machine, p *parts) error {
	if d.layers == nil {
		return nil
	}
	layer := p.root.Layer
	if p.root.Fresh && !d.cfg.NoTemplates {
		if m.Saved == nil {
			p.template = d.pick(ctx, p.image.Digest, p.size)
		}
		if p.template != nil {
			layer, p.incoming, p.late = p.template.ID, true, true
		} else {
			d.wanted(p.image.ID, m.Spec.Compute)
		}
	}
	err := d.lay(p, layer)
	if err != nil && p.template != nil {
		d.release(p.template, err)
		p.template = nil
	}
	return err
}

// lay puts the root volume onto a layer. That of a fresh one is noted while the process starts (prepare).
func (d *Driver) lay(p *parts, layer string) error {
	p.layer = layer
	if layer == "" {
		return nil
	}
	f, err := d.openLayer(layer)
	if err == nil {
		p.root.Backing = append([]*os.File{f}, p.root.Backing...)
	}
	return err
}

// jail says what the machine's process is given besides its files.
func (d *Driver) jail(name string, uid int, p *parts, console io.Writer) jail.Spec {
	c, h := p.build(), &p.hardware
	p.calls = c.calls
	spec := jail.Spec{
		Name: name, Program: d.cfg.Program, Args: c.args, Files: c.files, UID: uid, GID: uid,
		ReadOnly: jail.SystemLibraries(), Proc: true, Stdout: console, Stderr: console,
		Limits: jail.Limits{Processes: 64 + 8*h.size.Processors, OpenFiles: 256, Output: 256 << 10, OutputPerSecond: 16 << 10},
	}
	if h.accel == KVM {
		spec.Devices = []string{kvmDevice}
		// Looked at each time: whoever loads the module again may have made the node anew. Without a group that opens it QEMU says so.
		if gid, err := KVMGroup(); err == nil && gid != 0 {
			spec.GID = gid
		}
	}
	return spec
}
