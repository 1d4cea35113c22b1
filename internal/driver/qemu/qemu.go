// Package qemu runs desktops as QEMU machines: one jailed process each, that is given everything as open descriptors, whose memory Carrel
// allocates, holds and scrubs, and whose screen, monitor and agent are sockets without a name.
//
// It refuses to let a machine's memory go in any other way than by a scrub, to start anything while memory of an earlier run is not clean, and to
// believe what a machine or its guest says beyond what it was asked.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/memory"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

// Accelerator is how guest instructions are carried out.
type Accelerator string

// The accelerators. KVM only where a probe guest has run: /dev/kvm alone proves nothing.
const (
	TCG Accelerator = "tcg"
	KVM Accelerator = "kvm"
)

// Size is what a compute type means on this host.
type Size struct {
	Processors int
	// Memory is guest memory in bytes, a multiple of 2 MiB.
	Memory int64
}

// Wrapper wraps the keys of saved memory: a volume.Wrapper.
type Wrapper interface {
	Wrap(name, binding string, key []byte) ([]byte, error)
	Unwrap(name, binding string, wrapped []byte) ([]byte, error)
}

// Config is what a Driver is made of; all fields but the last group are needed.
type Config struct {
	// Dir is where records and saved memory are; made with mode 0700.
	Dir string
	// Host is this host's name.
	Host string
	// Keeper holds the machines' memory.
	Keeper  *memory.Keeper
	Volumes driver.VolumeOpener
	Images  driver.ImageOpener
	Taps    driver.TapOpener
	Keys    Wrapper
	Clock   clock.Clock
	Random  io.Reader
	Log     *slog.Logger
	Accel   Accelerator
	// Size turns a ComputeTypeName into processors and memory.
	Size func(compute string) (Size, bool)
	// Memory is how much guest memory this host gives out, in bytes.
	Memory int64
	// FirstUID is the first of the user ids that machines run as, UIDs how many there are: each machine has one that no other has.
	FirstUID, UIDs int

	// Program is the path of QEMU; /usr/bin/qemu-system-x86_64 when empty.
	Program string
	// NoTemplates: no memory templates are made, none is used, and those that there are go. Volumes that lie on a template's disk go on doing so.
	NoTemplates bool
	// Guest is what guests are set to.
	Guest Settings
	// Observe is for tests: it is told each point that a Start, Stop or Scrub comes to (Points). Whatever it does there, ending this process included,
	// the next host role goes on from what exists.
	Observe func(point string)
}

// Points are the points that Observe is told, in order; those of a scrub have the names of memory.Points.
var Points = struct{ Start, Resume, Stop, Scrub []string }{
	Start:  []string{"recorded", "opened", "allocated", "started", "process noted", "held", "connected", "runs", "running noted"},
	Resume: []string{"recorded", "opened", "allocated", "started", "process noted", "held", "connected", "loaded", "saved memory spent", "runs", "running noted", "saved memory removed"},
	Stop:   append(append([]string{"paused", "saved", "saved noted"}, memory.Points[:]...), "stopped noted"),
	Scrub:  append(memory.Points[:len(memory.Points):len(memory.Points)], "scrubbed noted"),
}

func (d *Driver) at(point string) {
	if d.cfg.Observe != nil {
		d.cfg.Observe(point)
	}
}

// Settings of all guests of a host; what is empty stays as the image has it.
type Settings struct {
	// Locale ("en_US.UTF-8"), Layout and Variant (XKB) and TimeZone ("Europe/Paris").
	Locale, Layout, Variant, TimeZone string
	// Administrator: people may become root in their own guest.
	Administrator bool
}

// Driver is driver.Hypervisor, driver.Display and driver.Screens on this host.
type Driver struct {
	cfg Config
	// layers is the volumes' ability to lie on templates' disks; nil when they have none: then there are no templates.
	layers    driver.VolumeLayers
	templates templates

	mu       sync.Mutex
	busy     map[ident.WorkspaceID]bool
	machines map[ident.WorkspaceID]*machine
	// reserved is memory of earlier host roles that no record knows and that could not be scrubbed, in bytes.
	reserved int64
}

var (
	_ driver.Hypervisor = (*Driver)(nil)
	_ driver.Display    = (*Driver)(nil)
	_ driver.Screens    = (*Driver)(nil)
	_ driver.Sessions   = (*Driver)(nil)
)

// machine is a record and, while its process can be reached, the ways to it.
type machine struct {
	record
	// live is nil when this process has no connection to the machine.
	live *live
}

// clone is a copy that may be changed; machines in the map are not.
func (m *machine) clone() *machine {
	if m == nil {
		return nil
	}
	c := *m
	c.Earlier = slices.Clip(c.Earlier)
	if c.Report != nil {
		report := *c.Report
		report.Keys = slices.Clone(report.Keys)
		c.Report = &report
	}
	if c.Saved != nil {
		saved := *c.Saved
		c.Saved = &saved
	}
	return &c
}

// Open finds the machines of an earlier host role. Those that run are taken over as they are; a stop or scrub that was cut off is completed. Those whose
// process is gone, or can no longer be reached, count as failed: their memory is scrubbed here, before anything is allocated, and the next Start
// boots them anew.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Program == "" {
		cfg.Program = "/usr/bin/qemu-system-x86_64"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	d := &Driver{cfg: cfg, busy: map[ident.WorkspaceID]bool{}, machines: map[ident.WorkspaceID]*machine{}}
	d.templates.all, d.templates.wishes = map[string]*template{}, make(chan wish, 8)
	d.layers, _ = cfg.Volumes.(driver.VolumeLayers)
	half, err := filepath.Glob(filepath.Join(cfg.Dir, "ws-*", durable.Prefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range half {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("qemu: what a call that was cut off left: %w", err)
		}
	}
	paths, err := filepath.Glob(filepath.Join(cfg.Dir, "ws-*", recordFile))
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		r, err := readRecord(p)
		if err != nil {
			return nil, err
		}
		d.machines[r.Spec.WorkspaceID] = &machine{record: *r}
	}
	if err := d.recover(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Close lets go of all machines: they go on, and the next host role finds them. The driver must not be used any more.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, m := range d.machines {
		if m.live.alive() {
			err = errors.Join(err, m.live.monitor.Close(), m.live.agent.Close())
			if m.live.session != nil {
				err = errors.Join(err, m.live.session.close())
			}
		}
	}
	return err
}

func (c *Config) check() error {
	var missing []string
	for name, is := range map[string]bool{"Dir": c.Dir != "", "Host": c.Host != "", "Keeper": c.Keeper != nil, "Volumes": c.Volumes != nil, "Images": c.Images != nil,
		"Taps": c.Taps != nil, "Keys": c.Keys != nil, "Clock": c.Clock != nil, "Random": c.Random != nil, "Log": c.Log != nil, "Accel": c.Accel == TCG || c.Accel == KVM,
		"Size": c.Size != nil, "Memory": c.Memory > 0, "FirstUID": c.FirstUID > 0, "UIDs": c.UIDs > 0} {
		if !is {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("qemu: the configuration lacks %s", strings.Join(missing, ", "))
	}
	// A machine that ran as the keeper's user could end it.
	if c.FirstUID <= memory.KeeperUser && memory.KeeperUser < c.FirstUID+c.UIDs {
		return fmt.Errorf("qemu: the user ids %d to %d for machines include %d, the memory keeper's", c.FirstUID, c.FirstUID+c.UIDs-1, memory.KeeperUser)
	}
	return nil
}

// exclusively runs fn unless another call works on the same machine. fn gets a copy, nil when there is none: what it changes is seen by
// others once it is saved.
func (d *Driver) exclusively(id ident.WorkspaceID, fn func(m *machine) error) error {
	if _, err := ident.ParseWorkspaceID(string(id)); err != nil {
		return driver.Permanent("InvalidMachine", err)
	}
	d.mu.Lock()
	taken := d.busy[id]
	d.busy[id] = true
	m := d.machines[id].clone()
	d.mu.Unlock()
	if taken {
		return driver.ErrBusy
	}
	defer func() {
		d.mu.Lock()
		delete(d.busy, id)
		d.mu.Unlock()
	}()
	return fn(m)
}

// Place answers with this host when it could run the machine.
func (d *Driver) Place(_ context.Context, spec driver.MachineSpec) (string, error) {
	size, ok := d.cfg.Size(spec.Compute)
	switch {
	case !ok:
		return "", driver.Permanent("ComputeUnsupported", fmt.Errorf("qemu: this host has no compute type %s", spec.Compute))
	case size.Memory > d.cfg.Memory:
		return "", driver.Permanent("ComputeTooLarge", fmt.Errorf("qemu: compute type %s needs %d MiB of memory, this host gives out %d", spec.Compute, size.Memory>>20, d.cfg.Memory>>20))
	}
	return d.cfg.Host, nil
}

// room says whether size more memory may be given out.
func (d *Driver) room(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left(size)
}

// left is room with mu held.
func (d *Driver) left(size int64) error {
	used := d.reserved + d.templates.held()
	for _, m := range d.machines {
		used += m.held()
	}
	if used+size > d.cfg.Memory {
		return fmt.Errorf("qemu: %w: %d MiB of %d MiB of memory are in use", driver.ErrUnavailable, used>>20, d.cfg.Memory>>20)
	}
	return nil
}

// claim gives a machine that is about to start its memory and a user id that nobody else has: from here on they are counted as its own.
func (d *Driver) claim(m *machine) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.left(m.MemoryBytes); err != nil {
		return err
	}
	var err error
	if m.UID, err = d.uid(); err == nil {
		d.machines[m.Spec.WorkspaceID] = m.clone()
	}
	return err
}

// unclaim takes that back: was is the machine as it was, without a state when there was none.
func (d *Driver) unclaim(was *machine) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if was.State == "" {
		delete(d.machines, was.Spec.WorkspaceID)
	} else {
		d.machines[was.Spec.WorkspaceID] = was.clone()
	}
}

// uid finds a user id that nobody has. The caller holds mu.
func (d *Driver) uid() (int, error) {
	taken := d.templates.users()
	for _, m := range d.machines {
		taken[m.UID] = true
	}
	for i := range d.cfg.UIDs {
		if uid := d.cfg.FirstUID + i; !taken[uid] {
			return uid, nil
		}
	}
	return 0, fmt.Errorf("qemu: %w: all %d user ids for machines are taken", driver.ErrUnavailable, d.cfg.UIDs)
}

// Inspect tells what exists.
func (d *Driver) Inspect(_ context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.machines[id]
	if m == nil || m.State == "" {
		return driver.Machine{}, fmt.Errorf("qemu: machine %s: %w", id, driver.ErrNotFound)
	}
	return d.told(m), nil
}

// List gives all machines.
func (d *Driver) List(context.Context) ([]driver.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []driver.Machine
	for _, m := range d.machines {
		if m.State != "" {
			all = append(all, d.told(m))
		}
	}
	slices.SortFunc(all, func(a, b driver.Machine) int { return strings.Compare(string(a.WorkspaceID), string(b.WorkspaceID)) })
	return all, nil
}

// told is what callers are told of a machine. The caller holds mu.
func (d *Driver) told(m *machine) driver.Machine {
	out := driver.Machine{WorkspaceID: m.Spec.WorkspaceID, State: m.State, Host: d.cfg.Host, Run: m.Run, Reboots: m.Reboots, Since: m.Since}
	if m.State == driver.MachineRunning {
		out.MemoryBytes = m.MemoryBytes
		if !m.live.alive() {
			out.State = driver.MachineFailed
		}
	}
	return out
}

// save keeps a machine's record, on disk first.
func (d *Driver) save(m *machine) error {
	if err := m.write(d.cfg.Dir); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.machines[m.Spec.WorkspaceID] = m.clone()
	return nil
}

// drop forgets a machine and its files.
func (d *Driver) drop(m *machine) error {
	if err := os.RemoveAll(filepath.Join(d.cfg.Dir, string(m.Spec.WorkspaceID))); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.machines, m.Spec.WorkspaceID)
	return nil
}
