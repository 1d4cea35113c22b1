package qemu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/driver/guest"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
)

const (
	// makeTimeout is how long a guest may take until its screen is up; it runs with what nobody else wants of the processors.
	makeTimeout = 20 * time.Minute
	// settleTime is left to a guest after its screen has come up, and firmwareTime to one that cannot tell.
	settleTime   = time.Second
	firmwareTime = 3 * time.Second
	// rehearseTimeout is for a session that comes up and goes.
	rehearseTimeout = 5 * time.Minute
	// leastPriority is nice(2)'s.
	leastPriority = 19
)

// Run makes the templates that starts would have been quicker with, one at a time, and retires those of images that have changed. It returns when ctx
// ends. Without it desktops start from their disks.
func (d *Driver) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case w := <-d.templates.wishes:
			if err := d.MakeTemplate(ctx, w.image, w.compute); err != nil && ctx.Err() == nil {
				d.cfg.Log.WarnContext(ctx, "no memory template could be made; desktops start from their disks", "image", w.image, "compute", w.compute, "error", err)
			}
		}
	}
}

// MakeTemplate makes the memory template of an image and a compute type, unless there is one, and retires those that the image has outgrown.
// ErrNotFound: no such image. ErrUnavailable: there is no memory for it; or the guest does not come up. PermanentError: such machines cannot be.
func (d *Driver) MakeTemplate(ctx context.Context, id ident.ImageID, compute string) error {
	if d.layers == nil {
		return driver.Permanent("TemplatesUnsupported", errors.New("qemu: this host's volumes cannot lie on layers"))
	}
	if d.cfg.NoTemplates {
		return driver.Permanent("TemplatesUnsupported", errors.New("qemu: this host is set to have no memory templates"))
	}
	d.templates.one.Lock()
	defer d.templates.one.Unlock()
	ctx, over := d.templates.begin(ctx)
	defer over()
	size, ok := d.cfg.Size(compute)
	if !ok {
		return driver.Permanent("ComputeUnsupported", fmt.Errorf("qemu: this host has no compute type %s", compute))
	}
	image, err := d.cfg.Images.OpenImage(ctx, id)
	if err != nil {
		return fmt.Errorf("template of %s: %w", id, err)
	}
	defer image.Close()
	have := false
	for _, t := range d.templates.list() {
		r, broken := d.templates.of(t)
		stale := r.Image == id && r.Digest != image.Digest || broken || r.Hardware != hardwareVersion || r.Accel != d.cfg.Accel
		switch {
		case r.State == templateReady && stale, r.State == templateRetired:
			if err := d.retire(ctx, t); err != nil {
				d.cfg.Log.WarnContext(ctx, "a memory template cannot be retired", "template", t.ID, "error", err)
			}
		case r.fits(image.Digest, size, d.cfg.Accel):
			have = true
		}
	}
	if have {
		return nil
	}
	begin := d.cfg.Clock.Now()
	t, err := d.makeTemplate(ctx, image, size)
	if err != nil {
		return fmt.Errorf("template of %s for %s: %w", id, compute, err)
	}
	d.cfg.Log.InfoContext(ctx, "memory template made", "template", t.ID, "image", id, "compute", compute, "bytes", t.Bytes, "took", d.cfg.Clock.Now().Sub(begin))
	return nil
}

func (d *Driver) makeTemplate(ctx context.Context, image *driver.OpenImage, size Size) (*template, error) {
	if int64(image.MinMemoryMiB)<<20 > size.Memory {
		return nil, driver.Permanent("ComputeTooSmall", fmt.Errorf("image %s needs %d MiB of memory", image.ID, image.MinMemoryMiB))
	}
	uid, err := d.claimTemplate(size.Memory)
	if err != nil {
		return nil, err
	}
	defer d.reserve(0, 0)
	t := &template{templateRecord: templateRecord{ID: templatePrefix + ident.Hex(d.cfg.Random, 16), State: templateMaking, Image: image.ID, Digest: image.Digest, Size: size,
		Accel: d.cfg.Accel, Hardware: hardwareVersion, Created: d.cfg.Clock.Now().UTC()}}
	t.dir = filepath.Join(d.cfg.Dir, templatesDir, t.ID)
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	err = t.write()
	if err == nil {
		err = d.fill(ctx, t, image, uid)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if _, e := d.cfg.Keeper.Scrub(ctx, t.ID, scrubOptions(nil)); e == nil {
			err = errors.Join(err, d.cfg.Keeper.Forget(ctx, t.ID))
		} else if !errors.Is(e, driver.ErrNotFound) {
			err = errors.Join(err, e)
		}
		return nil, errors.Join(err, os.RemoveAll(t.dir))
	}
	d.templates.mu.Lock()
	defer d.templates.mu.Unlock()
	d.templates.all[t.ID] = t
	return t, nil
}

// claimTemplate is claim for the one template that is being made.
func (d *Driver) claimTemplate(bytes int64) (uid int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.left(bytes); err != nil {
		return 0, err
	}
	if uid, err = d.uid(); err == nil {
		d.reserve(bytes, uid)
	}
	return uid, err
}

func (d *Driver) reserve(bytes int64, uid int) {
	d.templates.mu.Lock()
	defer d.templates.mu.Unlock()
	d.templates.making, d.templates.uid = bytes, uid
}

// fill starts the template's machine, stops it when it is up, and keeps what it was.
func (d *Driver) fill(ctx context.Context, t *template, image *driver.OpenImage, uid int) error {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	layer, err := newLayer(filepath.Join(t.dir, layerFile), image.VirtualBytes)
	if err != nil {
		return err
	}
	defer layer.Close()
	block, err := memory.Allocate(t.Size.Memory, memory.PagesSmall)
	if err != nil {
		return err
	}
	if err := d.cfg.Keeper.Put(ctx, t.ID, block, memory.Meta{Run: t.ID, Host: d.cfg.Host, Created: t.Created}); err != nil {
		return errors.Join(err, block.Close())
	}
	p := &parts{hardware: hardware{id: t.ID, size: t.Size, accel: t.Accel, ram: block.File(), image: image, generation: ident.UUID(d.cfg.Random),
		root: &driver.OpenVolume{File: layer, Backing: []*os.File{image.Disk}}}}
	defer p.close()
	if err := p.connect(t.Hardware); err != nil {
		return err
	}
	console := &tail{}
	process, err := jail.Start(ctx, d.jail(t.ID, uid, p, console))
	p.release()
	if err != nil {
		return err
	}
	l := &live{process: process, console: console, over: make(chan struct{})}
	go l.watch() // Ends with the process, which this function ends.
	// Nobody waits for a template. By user, because that is all threads of the process; not being allowed changes nothing but the time.
	_ = unix.Setpriority(unix.PRIO_USER, uid, leastPriority)
	err = d.cfg.Keeper.SetProcess(ctx, t.ID, process.PID())
	if err == nil {
		err = d.freeze(ctx, t, l, p)
	}
	if err != nil {
		err = fmt.Errorf("%w; it said %s", err, console.end(600))
	}
	if err = errors.Join(err, process.Kill(), l.close()); err != nil {
		return err
	}
	if err := layer.Sync(); err != nil {
		return err
	}
	if t.memory, err = d.cfg.Keeper.Template(ctx, t.ID); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(block.File().Fd()), &st); err != nil {
		return err
	}
	t.State, t.Memory, t.Bytes = templateReady, t.memory.Digest(), st.Blocks*512
	return t.write()
}

// freeze lets the machine come up and writes its device state, which is all but its memory.
func (d *Driver) freeze(ctx context.Context, t *template, l *live, p *parts) error {
	ctx, cancel := l.during(ctx)
	defer cancel()
	var err error
	if l.monitor, _, err = qmp.Connect(ctx, p.take(&p.monitor), monitorOptions); err != nil {
		return err
	}
	l.agent = qmp.NewAgent(p.take(&p.agent), agentTimeout)
	if t.Model, err = l.model(ctx); err != nil {
		return err
	}
	if err := l.monitor.Execute(ctx, "cont", nil, nil); err != nil {
		return err
	}
	if err := d.up(ctx, l, p.image.Agent); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(t.dir, deviceFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = d.moveOut(ctx, l, func(r io.Reader) error {
		_, err := io.Copy(f, r)
		return err
	})
	return errors.Join(err, f.Sync(), f.Close())
}

// up waits until the guest's screen is up and has everything that it wrote on disk.
func (d *Driver) up(ctx context.Context, l *live, agent bool) error {
	if !agent {
		return sleep(ctx, firmwareTime)
	}
	r := runner{l.agent}
	var s guest.State
	for {
		var err error
		s, err = guest.Inspect(ctx, r)
		if err == nil && s.X {
			if s.Session != guest.NoSession {
				return fmt.Errorf("a guest that was told nothing has a session: %q", s.Session)
			}
			break
		}
		if !l.alive() {
			return errors.Join(err, errors.New("the machine has ended"))
		}
		if e := sleep(ctx, 200*time.Millisecond); e != nil {
			return fmt.Errorf("%w: the guest's screen does not come up: %w", driver.ErrUnavailable, errors.Join(e, err))
		}
	}
	if s.Rehearses {
		if err := d.rehearse(ctx, r); err != nil {
			return err
		}
	}
	if err := sleep(ctx, settleTime); err != nil {
		return err
	}
	out, err := r.Run(ctx, guest.Command{Path: "/bin/sync"})
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("sync in the guest: exit status %d", out.Code)
	}
	return err
}

// rehearse has the guest run a session for nobody and end it, so that the first person's finds in memory what it needs. A guest in which none comes up
// still makes a template; one that may have something left of it does not.
func (d *Driver) rehearse(ctx context.Context, r guest.Runner) error {
	limited, cancel := context.WithTimeout(ctx, rehearseTimeout)
	defer cancel()
	err := guest.Rehearse(limited, r)
	if errors.Is(err, guest.ErrNoSession) {
		d.cfg.Log.WarnContext(ctx, "no session was rehearsed in a memory template; first sessions will take longer", "error", err)
		err = nil
	}
	if err != nil {
		return err
	}
	s, err := guest.Inspect(ctx, r)
	if err == nil && (!s.X || s.Session != guest.NoSession) {
		err = fmt.Errorf("%w: after the rehearsal its screen is %t, its session %q", driver.ErrUnavailable, s.X, s.Session)
	}
	return err
}

// newLayer makes an empty qcow2 file (QEMU, docs/interop/qcow2.txt, version 3): header, refcount table, one refcount block and the L1 table, in a
// cluster each. What lies under it is said when it is opened.
func newLayer(path string, bytes int64) (*os.File, error) {
	const (
		bits    = 16
		cluster = 1 << bits
		// An L2 table of one cluster maps this much.
		perL1 = cluster / 8 * cluster
	)
	entries := (bytes + perL1 - 1) / perL1
	if bytes <= 0 || bytes%512 != 0 || entries*8 > cluster {
		return nil, fmt.Errorf("a layer of %d bytes cannot be", bytes)
	}
	b := make([]byte, 4*cluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], bits)
	be.PutUint64(b[24:], uint64(bytes))
	be.PutUint32(b[36:], uint32(entries))
	be.PutUint64(b[40:], 3*cluster) // L1 table
	be.PutUint64(b[48:], cluster)   // refcount table
	be.PutUint32(b[56:], 1)         // its clusters
	be.PutUint32(b[96:], 4)         // refcounts of 2^4 bits
	be.PutUint32(b[100:], 104)      // header length; what follows says that there are no extensions
	be.PutUint64(b[cluster:], 2*cluster)
	for i := range 4 {
		be.PutUint16(b[2*cluster+2*i:], 1)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
