package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/rfb"
)

// A simulated screen is drawn only while somebody looks. What was typed on it belongs to the machine's memory: it is in a file beside
// it, comes back when a stopped machine is started, and is destroyed with the memory when the machine is scrubbed.

var _ driver.Screens = (*Display)(nil)

// firstSize is the size of a screen that nobody has asked another one of.
var firstSize = rfb.Size{Width: 1280, Height: 800}

// The sizes a viewer may ask for.
var smallest, largest = rfb.Size{Width: 64, Height: 64}, rfb.Size{Width: 3840, Height: 2160}

// screens holds the screens that somebody looks at.
type screens struct {
	mu   sync.Mutex
	open map[ident.WorkspaceID]*screen
}

// screen is one machine's screen while there are viewers.
type screen struct {
	sim    *Sim
	id     ident.WorkspaceID
	viewer int // how many hold it; guarded by screens.mu

	mu      sync.Mutex
	desk    desk
	viewers map[*viewer]struct{}
}

// desk is what is on a screen, apart from the time.
type desk struct {
	Computer, User string
	Size           rfb.Size
	Terminal       terminal
	Pointer        rfb.Pointer `json:"-"`
	// Clipboard is what Ctrl+V would paste.
	Clipboard string
	// Version counts what could be seen to change, apart from the time and a pointer that only moves.
	Version uint64 `json:"-"`
}

// Connect opens a viewer's connection. Closing it waits for all that served it.
func (d *Display) Connect(ctx context.Context, id ident.WorkspaceID) (net.Conn, error) {
	s := d.sim
	if err := errors.Join(ctx.Err(), s.faults.strike("display", "connect")); err != nil {
		return nil, err
	}
	m, err := s.running(id)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	c := &connection{Conn: near, done: make(chan struct{})}
	sc := s.screens.hold(s, m.Spec)
	v := newViewer(sc, far)
	sc.mu.Lock()
	sc.viewers[v] = struct{}{}
	sc.mu.Unlock()
	go func() {
		defer close(c.done)
		v.serve()
		sc.mu.Lock()
		delete(sc.viewers, v)
		sc.mu.Unlock()
		s.screens.let(sc)
	}()
	// The machine may have ended since it was looked up; whoever ended it did not see this viewer.
	if again, err := s.running(id); err != nil || again.Run != m.Run {
		return nil, errors.Join(fmt.Errorf("simulated display connect %s: %w", id, driver.ErrOrder), c.Close())
	}
	return c, nil
}

// running gives a copy of a machine that runs.
func (s *Sim) running(id ident.WorkspaceID) (machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.machines[id]
	switch {
	case !ok:
		return machine{}, fmt.Errorf("simulated display connect %s: %w", id, driver.ErrNotFound)
	case m.State != driver.MachineRunning:
		return machine{}, fmt.Errorf("simulated display connect %s: %w", id, driver.ErrOrder)
	}
	return *m, nil
}

// connection is a viewer's end.
type connection struct {
	net.Conn
	done chan struct{}
}

// Close ends the viewer and waits for it.
func (c *connection) Close() error {
	err := c.Conn.Close()
	<-c.done
	return err
}

func (a *screens) hold(s *Sim, spec driver.MachineSpec) *screen {
	a.mu.Lock()
	defer a.mu.Unlock()
	sc := a.open[spec.WorkspaceID]
	if sc == nil {
		sc = &screen{sim: s, id: spec.WorkspaceID, viewers: map[*viewer]struct{}{}, desk: s.readDesk(spec)}
		if a.open == nil {
			a.open = map[ident.WorkspaceID]*screen{}
		}
		a.open[spec.WorkspaceID] = sc
	}
	sc.viewer++
	return sc
}

func (a *screens) let(sc *screen) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sc.viewer--; sc.viewer == 0 && a.open[sc.id] == sc {
		delete(a.open, sc.id)
	}
}

// unplug ends all viewers of a machine that has stopped running. forget destroys what was on its screen. It does not wait for the
// viewers: they end by themselves, and none of them writes anything after it.
func (s *Sim) unplug(id ident.WorkspaceID, forget bool) error {
	s.screens.mu.Lock()
	sc := s.screens.open[id]
	delete(s.screens.open, id)
	s.screens.mu.Unlock()
	if sc != nil {
		sc.mu.Lock()
		defer sc.mu.Unlock()
		for v := range sc.viewers {
			v.gone = true
			_ = v.conn.Close()
		}
	}
	if forget {
		return destroyFile(s.deskFile(id))
	}
	return nil
}

// clearScreen is what a reboot does to a screen: the viewers stay, what was typed is gone.
func (s *Sim) clearScreen(spec driver.MachineSpec) error {
	s.screens.mu.Lock()
	sc := s.screens.open[spec.WorkspaceID]
	s.screens.mu.Unlock()
	err := destroyFile(s.deskFile(spec.WorkspaceID))
	if sc != nil {
		sc.change(func(d *desk) bool {
			size, version := d.Size, d.Version
			*d = s.readDesk(spec)
			d.Size, d.Version = size, version+1
			return false
		})
	}
	return err
}

func (s *Sim) deskFile(id ident.WorkspaceID) string {
	return filepath.Join(s.dir, "screens", string(id))
}

// readDesk gives what a machine's screen shows. A file that cannot be read is an empty screen: it was cut off by a kill.
func (s *Sim) readDesk(spec driver.MachineSpec) desk {
	var d desk
	if data, err := os.ReadFile(s.deskFile(spec.WorkspaceID)); err != nil || json.Unmarshal(data, &d) != nil || !allowed(d.Size) {
		d = desk{Size: firstSize}
	}
	d.Computer, d.User = spec.ComputerName, spec.UserName
	if d.Computer == "" {
		d.Computer = string(spec.WorkspaceID)
	}
	if d.User == "" {
		d.User = "user"
	}
	return d
}

// change lets fn change the desk and wakes the viewers. fn tells whether it is worth being kept in the file.
func (sc *screen) change(fn func(d *desk) (keep bool)) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if fn(&sc.desk) {
		sc.desk.Version++
		if data, err := json.Marshal(sc.desk); err == nil {
			// Like memory, it need not survive the computer; a failed write loses what was typed last.
			_ = writeInto(sc.sim.deskFile(sc.id), data)
		}
	}
	for v := range sc.viewers {
		v.wake()
	}
}

func writeInto(path string, data []byte) error {
	err := os.WriteFile(path, data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	return err
}

// look gives a copy of what is on the screen.
func (sc *screen) look() desk {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	d := sc.desk
	d.Terminal = d.Terminal.copied()
	return d
}

func allowed(z rfb.Size) bool {
	return z.Width >= smallest.Width && z.Height >= smallest.Height && z.Width <= largest.Width && z.Height <= largest.Height
}
