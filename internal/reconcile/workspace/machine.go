package workspace

import (
	"context"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/state"
)

// machine starts the virtual machine, or resumes it. It has no Undo: what has held memory goes only by way of the scrub.
func (p *planner) machine() step {
	return step{
		Name: "machine",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			m, err := p.drivers.Hypervisor.Start(ctx, machineSpec(rec))
			if err != nil {
				return nil, fmt.Errorf("start %s: %w", rec.ID, err)
			}
			return func(tx *state.Tx, rec *record) error {
				if rec.Status.Booted.IsZero() {
					rec.Status.Booted = tx.Now()
				}
				// A machine that ran already has done fewer reboots than the record asks for; the rest is the reboot plan's.
				rec.Status.Host, rec.Status.Reboots = m.Host, m.Reboots
				return nil
			}, nil
		},
		Verify: func(ctx context.Context, rec *record) error {
			m, err := p.drivers.Hypervisor.Inspect(ctx, rec.ID)
			if err != nil {
				return err
			}
			if m.State != driver.MachineRunning {
				return fmt.Errorf("machine %s is %s: %w", rec.ID, m.State, driver.ErrOrder)
			}
			return nil
		},
	}
}
