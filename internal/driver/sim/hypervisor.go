package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// machine is what the journal keeps of a machine.
type machine struct {
	Spec       driver.MachineSpec
	State      driver.MachineState
	Run        string
	RunStarted time.Time
	Since      time.Time
	Memory     int64
	Reboots    int
	SavedKey   string              `json:",omitempty"`
	Report     *driver.ScrubReport `json:",omitempty"`
}

func (m *machine) info() driver.Machine {
	return driver.Machine{WorkspaceID: m.Spec.WorkspaceID, State: m.State, Host: m.Spec.Host, MemoryBytes: m.Memory, Run: m.Run,
		Reboots: m.Reboots, Since: m.Since}
}

// Hypervisor is the simulated driver.Hypervisor.
type Hypervisor struct{ sim *Sim }

var _ driver.Hypervisor = (*Hypervisor)(nil)

// Place chooses the simulation's only host.
func (h *Hypervisor) Place(_ context.Context, spec driver.MachineSpec) (string, error) {
	if err := h.sim.faults.strike("hypervisor", "place"); err != nil {
		return "", err
	}
	if spec.WorkspaceID == "" {
		return "", driver.Permanent("InvalidMachine", fmt.Errorf("a machine without an id"))
	}
	return h.sim.host, nil
}

// Start boots, or resumes a stopped machine.
func (h *Hypervisor) Start(ctx context.Context, spec driver.MachineSpec) (driver.Machine, error) {
	s, id := h.sim, spec.WorkspaceID
	takes := s.times.Start
	switch m, err := h.peek(id); {
	case err == nil && m.State == driver.MachineStopped:
		takes = s.times.Resume
	case err == nil:
		takes = 0
	}
	var out driver.Machine
	err := s.do(ctx, call{"hypervisor", "start", string(id), takes}, func() error {
		m, there := s.machines[id]
		if there && m.State == driver.MachineRunning {
			out = m.info()
			return nil
		}
		if there && m.State == driver.MachineScrubbed {
			return driver.ErrOrder
		}
		if err := s.usable(spec); err != nil {
			return err
		}
		now := s.now()
		next := &machine{Spec: spec, State: driver.MachineRunning, Run: string(id) + "-" + ident.Hex(s.random, 8), RunStarted: now, Since: now,
			Memory: int64(s.memory), Reboots: spec.Reboots}
		if err := s.save("machine", string(id), next); err != nil {
			return err
		}
		s.machines[id] = next
		out = next.info()
		return s.fillMemory(id)
	})
	return out, err
}

// usable checks what a machine is made of. The caller holds mu.
func (s *Sim) usable(spec driver.MachineSpec) error {
	for _, id := range []driver.VolumeID{spec.Root, spec.User} {
		v, ok := s.volumes[id]
		if !ok {
			return fmt.Errorf("volume %s: %w", id, driver.ErrNotFound)
		}
		if v.Erased {
			return fmt.Errorf("volume %s is erased: %w", id, driver.ErrOrder)
		}
	}
	if _, ok := s.nics[spec.Interface]; !ok {
		return fmt.Errorf("interface %s: %w", spec.Interface, driver.ErrNotFound)
	}
	return nil
}

// Stop saves the guest's memory under a new key and scrubs it.
func (h *Hypervisor) Stop(ctx context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	s := h.sim
	var out driver.Machine
	err := s.do(ctx, call{"hypervisor", "stop", string(id), s.times.Stop}, func() error {
		m, ok := s.machines[id]
		switch {
		case !ok:
			return driver.ErrNotFound
		case m.State == driver.MachineScrubbed:
			return driver.ErrOrder
		case m.State == driver.MachineStopped:
			out = m.info()
			return nil
		}
		report := s.report(m)
		if err := s.zeroMemory(id, report); err != nil {
			return err
		}
		next := *m
		next.State, next.Since, next.Memory, next.Report, next.SavedKey = driver.MachineStopped, s.now(), 0, report, "sim-saved-"+ident.Hex(s.random, 12)
		if err := s.become(id, &next); err != nil {
			return err
		}
		out = next.info()
		return nil
	})
	return out, err
}

// Reboot restarts the guest: its memory is filled anew.
func (h *Hypervisor) Reboot(ctx context.Context, id ident.WorkspaceID, count int) (driver.Machine, error) {
	s := h.sim
	var out driver.Machine
	err := s.do(ctx, call{"hypervisor", "reboot", string(id), s.times.Reboot}, func() error {
		m, ok := s.machines[id]
		switch {
		case !ok:
			return driver.ErrNotFound
		case m.State != driver.MachineRunning:
			return driver.ErrOrder
		case m.Reboots >= count:
			out = m.info()
			return nil
		}
		next := *m
		next.Reboots, next.Since = count, s.now()
		if err := s.save("machine", string(id), &next); err != nil {
			return err
		}
		s.machines[id] = &next
		out = next.info()
		return errors.Join(s.clearScreen(next.Spec), s.fillMemory(id))
	})
	return out, err
}

// Inspect tells what exists.
func (h *Hypervisor) Inspect(_ context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	if err := h.sim.faults.strike("hypervisor", "inspect"); err != nil {
		return driver.Machine{}, err
	}
	return h.peek(id)
}

func (h *Hypervisor) peek(id ident.WorkspaceID) (driver.Machine, error) {
	h.sim.mu.Lock()
	defer h.sim.mu.Unlock()
	if m, ok := h.sim.machines[id]; ok {
		return m.info(), nil
	}
	return driver.Machine{}, fmt.Errorf("simulated machine %s: %w", id, driver.ErrNotFound)
}

// Scrub zeroes and reads back for real what simulated memory there is.
func (h *Hypervisor) Scrub(ctx context.Context, id ident.WorkspaceID) (driver.ScrubReport, error) {
	s := h.sim
	var out driver.ScrubReport
	err := s.do(ctx, call{"hypervisor", "scrub", string(id), s.times.Scrub}, func() error {
		m, ok := s.machines[id]
		if !ok {
			return driver.ErrNotFound
		}
		if m.State == driver.MachineScrubbed {
			out = *m.Report
			return nil
		}
		next := *m
		if m.State == driver.MachineStopped {
			report := *m.Report
			report.Keys, report.Finished = []string{m.SavedKey}, s.now()
			next.Report, next.SavedKey = &report, ""
		} else {
			next.Report = s.report(m)
			if err := s.zeroMemory(id, next.Report); err != nil {
				return err
			}
		}
		next.State, next.Since, next.Memory = driver.MachineScrubbed, s.now(), 0
		if err := s.become(id, &next); err != nil {
			return err
		}
		out = *next.Report
		return nil
	})
	return out, err
}

// report begins a scrub report of a running machine.
func (s *Sim) report(m *machine) *driver.ScrubReport {
	now := s.now()
	return &driver.ScrubReport{WorkspaceID: m.Spec.WorkspaceID, Host: m.Spec.Host, Method: "simulated", Simulated: true,
		Run: m.Run, RunStarted: m.RunStarted, RunEnded: now, Started: now, Facts: driver.HostFacts{Kernel: "simulated"}}
}

// become records a machine whose memory is zeroed and only then lets the memory go.
func (s *Sim) become(id ident.WorkspaceID, next *machine) error {
	if err := s.save("machine", string(id), next); err != nil {
		return err
	}
	s.machines[id] = next
	return errors.Join(s.unplug(id, next.State == driver.MachineScrubbed), s.dropMemory(id))
}

// Release forgets a scrubbed machine.
func (h *Hypervisor) Release(ctx context.Context, id ident.WorkspaceID) error {
	s := h.sim
	return s.do(ctx, call{"hypervisor", "release", string(id), 0}, func() error {
		m, ok := s.machines[id]
		if !ok {
			return nil
		}
		if m.State != driver.MachineScrubbed {
			return driver.ErrOrder
		}
		if err := s.save("machine", string(id), nil); err != nil {
			return err
		}
		delete(s.machines, id)
		return nil
	})
}

// List gives all machines.
func (h *Hypervisor) List(context.Context) ([]driver.Machine, error) {
	if err := h.sim.faults.strike("hypervisor", "list"); err != nil {
		return nil, err
	}
	return list(h.sim, h.sim.machines, (*machine).info)
}

// Lose makes a machine vanish with its memory, as when a host loses power. It tells whether there was one.
func (h *Hypervisor) Lose(id ident.WorkspaceID) (bool, error) {
	s := h.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.machines[id]; !ok {
		return false, nil
	}
	if err := s.save("machine", string(id), nil); err != nil {
		return false, err
	}
	delete(s.machines, id)
	return true, errors.Join(s.unplug(id, true), s.dropMemory(id))
}
