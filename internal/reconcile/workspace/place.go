package workspace

import (
	"context"
	"fmt"
	"strings"

	"carrel/internal/driver"
	"carrel/internal/ident"
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
			name := newComputerName(p.random)
			return func(tx *state.Tx, rec *record) error {
				rec.Status.Host = host
				if rec.Status.ComputerName != "" {
					return nil
				}
				rec.Status.ComputerName = name
				return tx.Claim(computerClaim(rec.Spec.DirectoryID, name), string(rec.ID))
			}, nil
		},
	}
}

// computerClaim keeps computer names unique within a directory: two computers of one name would share an account in it.
func computerClaim(d ident.DirectoryID, name string) string {
	return "computer-name/" + string(d) + "/" + strings.ToUpper(name)
}

// machineSpec is the machine that the record asks for.
func machineSpec(rec *record) driver.MachineSpec {
	return driver.MachineSpec{
		WorkspaceID: rec.ID, Host: rec.Status.Host, ComputerName: rec.Status.ComputerName, Compute: rec.Spec.Compute,
		Root: driver.VolumeOf(rec.ID, driver.RootVolume), User: driver.VolumeOf(rec.ID, driver.UserVolume),
		Interface: rec.Status.Interface, Reboots: rec.Spec.Reboots,
	}
}
