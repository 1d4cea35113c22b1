package workspace

import (
	"context"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/state"
)

// place chooses a host, and the name by which the guest will be known in its directory.
func (p *planner) place() step {
	return step{
		Name:   "place",
		Needed: func(rec *record) bool { return rec.Status.Host == "" || rec.Status.ComputerName == "" },
		Do: func(ctx context.Context, rec *record) (effect, error) {
			host, err := p.drivers.Hypervisor.Place(ctx, machineSpec(rec))
			if err != nil {
				return nil, fmt.Errorf("place %s: %w", rec.ID, err)
			}
			return func(_ *state.Tx, rec *record) error {
				rec.Status.Host = host
				if rec.Status.ComputerName == "" {
					rec.Status.ComputerName = computerName(rec.ID)
				}
				return nil
			}, nil
		},
	}
}

// machineSpec is the machine that the record asks for.
func machineSpec(rec *record) driver.MachineSpec {
	return driver.MachineSpec{
		WorkspaceID: rec.ID, Host: rec.Status.Host, ComputerName: rec.Status.ComputerName, UserName: rec.Spec.UserName, Compute: rec.Spec.Compute,
		Root: driver.VolumeOf(rec.ID, driver.RootVolume), User: driver.VolumeOf(rec.ID, driver.UserVolume),
		Interface: rec.Status.Interface, Reboots: rec.Spec.Reboots,
	}
}
