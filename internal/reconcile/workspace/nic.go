package workspace

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/reconcile/network"
	"carrel/internal/state"
)

// nic attaches the desktop to its subnet, with the directory's security group in force before the machine exists.
func (p *planner) nic() step {
	return step{
		Name: "nic",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			snap := p.db.Snapshot()
			subnet, ok := state.Get(snap, state.Subnets, string(rec.Status.SubnetID))
			if !ok {
				return nil, driver.Permanent("SubnetNotFound", fmt.Errorf("subnet %s does not exist", rec.Status.SubnetID))
			}
			vpc, ok := state.Get(snap, state.VPCs, string(subnet.VPCID))
			if !ok {
				return nil, driver.Permanent("VPCNotFound", fmt.Errorf("VPC %s does not exist", subnet.VPCID))
			}
			reg, err := registration(snap, rec)
			if err != nil {
				return nil, err
			}
			_, err = p.drivers.Fabric.Attach(ctx, driver.NICSpec{
				InterfaceID: rec.Status.Interface, WorkspaceID: rec.ID, VPC: subnet.VPCID, Subnet: subnet.ID,
				Address: rec.Status.IPAddress, MAC: network.MAC(rec.Status.Interface), SecurityGroups: groups(reg),
				VPCCIDR: vpc.CIDR, SubnetCIDR: subnet.CIDR,
				Names: driver.Names{Hostname: computerName(rec.ID), Zone: subnet.Zone, ZoneID: subnet.ZoneID},
			})
			if err != nil {
				return nil, fmt.Errorf("attach %s of %s: %w", rec.Status.Interface, rec.ID, err)
			}
			return nil, nil
		},
		Undo: func(ctx context.Context, rec *record) error {
			if rec.Status.Interface == "" {
				return nil
			}
			// A start that fails for good may leave a machine behind that uses it: then it stays, for as long as the machine.
			if _, err := p.drivers.Hypervisor.Inspect(ctx, rec.ID); !errors.Is(err, driver.ErrNotFound) {
				return err
			}
			return p.drivers.Fabric.Detach(ctx, rec.Status.Interface)
		},
	}
}

func groups(reg *state.Registration) []ident.SecurityGroupID {
	if reg.MembersGroupID == "" {
		return nil
	}
	return []ident.SecurityGroupID{reg.MembersGroupID}
}
