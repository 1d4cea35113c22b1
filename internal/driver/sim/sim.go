// Package sim holds simulated drivers: machines, volumes, networks, displays and directories that behave like real ones
// (states, wrong orders refused, time taken, keys and memory that must really be destroyed) without a hypervisor.
// They can be told to fail (Faults), and what they hold outlives the process like a real host's machines do.
//
// It refuses to prove anything: every report it gives says that it is simulated.
package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Config is what a simulation is made of.
type Config struct {
	// Dir is where the simulated host keeps what exists; it is made with mode 0700. Needed.
	Dir string
	// Clock is the time that simulated work takes. Needed.
	Clock clock.Clock
	// Random gives ids, keys and memory contents; crypto/rand.Reader outside tests. Needed.
	Random io.Reader
	// Times says how long work takes; the zero value is DefaultTimes.
	Times Times
	// Host is the simulated host's name; "sim-host-1" when empty.
	Host string
	// MemoryBytes is the simulated guests' memory; 64 KiB when 0.
	MemoryBytes int
}

// Times says how long each piece of simulated work takes on the simulation's clock.
type Times struct {
	Start, Resume, Stop, Reboot, Scrub time.Duration
	Volume, Erase                      time.Duration
	Attach, Detach                     time.Duration
	Display                            time.Duration
	Provision, Remove                  time.Duration
}

// DefaultTimes make a desktop AVAILABLE in about a quarter of a second.
func DefaultTimes() Times {
	const ms = time.Millisecond
	return Times{Start: 120 * ms, Resume: 60 * ms, Stop: 40 * ms, Reboot: 80 * ms, Scrub: 30 * ms, Volume: 10 * ms, Erase: 10 * ms,
		Attach: 10 * ms, Detach: 5 * ms, Display: 40 * ms, Provision: 80 * ms, Remove: 20 * ms}
}

// Sim is one simulated host with all its drivers. All methods may be called concurrently.
type Sim struct {
	clock  clock.Clock
	random io.Reader
	times  Times
	host   string
	memory int
	dir    string
	faults *Faults

	mu       sync.Mutex
	journal  *journal
	busy     map[string]bool
	machines map[ident.WorkspaceID]*machine
	volumes  map[driver.VolumeID]*volume
	nics     map[ident.InterfaceID]*driver.NIC
	domains  map[ident.DirectoryID]*domain
	// addresses finds the interface at a place (see place).
	addresses map[string]ident.InterfaceID
	screens   screens
}

// Open finds what an earlier simulation in cfg.Dir left, or begins a new one. A journal line cut off by a crash is dropped: its
// call was never answered. Anything else unreadable is an error and nothing is changed.
func Open(cfg Config) (*Sim, error) {
	if cfg.Dir == "" || cfg.Clock == nil || cfg.Random == nil {
		return nil, errors.New("open simulation: Dir, Clock and Random are needed")
	}
	if cfg.Times == (Times{}) {
		cfg.Times = DefaultTimes()
	}
	if cfg.MemoryBytes <= 0 {
		cfg.MemoryBytes = 64 << 10
	}
	s := &Sim{
		clock: cfg.Clock, random: cfg.Random, times: cfg.Times, host: cmp.Or(cfg.Host, "sim-host-1"), memory: cfg.MemoryBytes, dir: cfg.Dir,
		faults: newFaults(), busy: map[string]bool{},
		machines: map[ident.WorkspaceID]*machine{}, volumes: map[driver.VolumeID]*volume{},
		nics: map[ident.InterfaceID]*driver.NIC{}, domains: map[ident.DirectoryID]*domain{}, addresses: map[string]ident.InterfaceID{},
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open simulation in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// Close ends the simulation's use of its directory. What exists stays there.
func (s *Sim) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.close()
}

// Faults is how the simulation is told to fail.
func (s *Sim) Faults() *Faults { return s.faults }

// Hypervisor is the simulated driver.Hypervisor.
func (s *Sim) Hypervisor() *Hypervisor { return &Hypervisor{s} }

// Volumes is the simulated driver.Volumes.
func (s *Sim) Volumes() *Volumes { return &Volumes{s} }

// Fabric is the simulated driver.Fabric.
func (s *Sim) Fabric() *Fabric { return &Fabric{s} }

// Display is the simulated driver.Display.
func (s *Sim) Display() *Display { return &Display{s} }

// Domain is the simulated driver.Domain and directory.Lister.
func (s *Sim) Domain() *Domain { return &Domain{s} }

// call is one piece of simulated work on one object.
type call struct {
	driver, step string
	object       string
	takes        time.Duration
}

// do carries out c: fn runs under the lock once the time is over. A fault of the step strikes before anything happened; one of
// "<step>-answer" after fn, whose effect stays.
func (s *Sim) do(ctx context.Context, c call, fn func() error) error {
	if err := s.faults.strike(c.driver, c.step); err != nil {
		return err
	}
	key := c.driver + "/" + c.object
	s.mu.Lock()
	if s.busy[key] {
		s.mu.Unlock()
		return fmt.Errorf("simulated %s %s %s: %w", c.driver, c.step, c.object, driver.ErrBusy)
	}
	s.busy[key] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.busy, key)
		s.mu.Unlock()
	}()
	if err := s.pause(ctx, c.takes); err != nil {
		return fmt.Errorf("simulated %s %s %s: %w", c.driver, c.step, c.object, err)
	}
	s.mu.Lock()
	err := fn()
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("simulated %s %s %s: %w", c.driver, c.step, c.object, err)
	}
	return s.faults.strike(c.driver, c.step+"-answer")
}

// pause lets d pass on the simulation's clock. What is given up half way has had no effect.
func (s *Sim) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	fired, stop := s.clock.After(d)
	defer stop()
	select {
	case <-fired:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// now is the simulation's time as reports carry it.
func (s *Sim) now() time.Time { return s.clock.Now().UTC().Round(0) }

// list gives copies of a map's values in the order of their keys.
func list[K cmp.Ordered, V, R any](s *Sim, m map[K]V, copied func(V) R) ([]R, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]R, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, copied(m[k]))
	}
	return out, nil
}
