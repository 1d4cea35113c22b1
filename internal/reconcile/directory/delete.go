package directory

import (
	"context"
	"fmt"

	"carrel/internal/reconcile/network"
	"carrel/internal/state"
)

// removeDomain ends the domain and its data, once no registration uses it.
func (p *planner) removeDomain() step {
	return step{
		Name: "remove-domain",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			if rec.Registration != nil {
				return nil, fmt.Errorf("directory %s is still registered with WorkSpaces", rec.ID)
			}
			if err := p.domain.Remove(ctx, rec.ID); err != nil {
				return nil, fmt.Errorf("remove the domain of %s: %w", rec.ID, err)
			}
			return nil, nil
		},
	}
}

// forget deletes the record with its security group and addresses.
func (p *planner) forget() step {
	return step{
		Name: "forget",
		Ends: true,
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				for _, subnet := range rec.Spec.SubnetIDs {
					for iface := range state.AllBy(tx, state.Interfaces, state.InterfacesBySubnet, string(subnet)) {
						if iface.DirectoryID == rec.ID {
							network.Free(tx, iface.SubnetID, iface.Address, iface.ID)
						}
					}
				}
				if rec.Status.SecurityGroupID != "" {
					state.Delete(tx, state.SecurityGroups, string(rec.Status.SecurityGroupID))
				}
				return nil
			}, nil
		},
	}
}
