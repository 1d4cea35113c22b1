package sim

import (
	"context"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Display is the simulated driver.Display.
type Display struct{ sim *Sim }

var _ driver.Display = (*Display)(nil)

// Ready returns once the simulated screen has come up.
func (d *Display) Ready(ctx context.Context, id ident.WorkspaceID) error {
	s := d.sim
	return s.do(ctx, call{"display", "ready", string(id), s.times.Display}, func() error {
		m, ok := s.machines[id]
		if !ok {
			return driver.ErrNotFound
		}
		if m.State != driver.MachineRunning {
			return driver.ErrOrder
		}
		return nil
	})
}
