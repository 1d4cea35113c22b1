package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	contract "carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/reconcile/network"
	"carrel/internal/state"
)

// begin shows that work on the directory has begun.
func (*planner) begin() step {
	return step{
		Name:   "begin",
		Needed: func(rec *record) bool { return rec.Status.Stage == StageRequested },
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enterStage(rec, StageCreating, tx.Now())
				return nil
			}, nil
		},
	}
}

// addresses takes an address for a controller in each of the directory's subnets, and makes the security group of its controllers.
func (p *planner) addresses() step {
	return step{
		Name:   "addresses",
		Needed: func(rec *record) bool { return len(rec.Status.DNSAddresses) == 0 },
		Do: func(_ context.Context, rec *record) (effect, error) {
			var ids []ident.InterfaceID
			for range rec.Spec.SubnetIDs {
				ids = append(ids, ident.NewInterfaceID(p.random))
			}
			group := ident.NewSecurityGroupID(p.random)
			return func(tx *state.Tx, rec *record) error {
				if len(ids) != len(rec.Spec.SubnetIDs) || len(ids) == 0 {
					return driver.Permanent("InvalidSubnets", fmt.Errorf("directory %s has no subnets", rec.ID))
				}
				for i, subnet := range rec.Spec.SubnetIDs {
					iface := &state.Interface{ID: ids[i], DirectoryID: rec.ID}
					err := network.Take(tx, []ident.SubnetID{subnet}, iface)
					if errors.Is(err, network.ErrFull) {
						return driver.Permanent("InsufficientFreeAddressesInSubnet", err)
					}
					if err != nil {
						return fmt.Errorf("take address for a controller of %s: %w", rec.ID, err)
					}
					rec.Status.DNSAddresses = append(rec.Status.DNSAddresses, iface.Address)
				}
				putGroup(tx, &state.SecurityGroup{ID: group, VPCID: rec.Spec.VPCID, Name: string(rec.ID) + "_controllers",
					Description: "AWS created security group for " + string(rec.ID) + " directory controllers"})
				rec.Status.SecurityGroupID = group
				return nil
			}, nil
		},
	}
}

func putGroup(tx *state.Tx, g *state.SecurityGroup) {
	g.Created = tx.Now()
	state.Put(tx, state.SecurityGroups, g)
}

// provision makes the domain and waits until it answers.
func (p *planner) provision() step {
	return step{
		Name:   "provision",
		Needed: func(rec *record) bool { return rec.Status.Stage == StageCreating },
		Do: func(ctx context.Context, rec *record) (effect, error) {
			password, err := p.password(rec)
			if err != nil {
				return nil, err
			}
			spec := driver.DomainSpec{DirectoryID: rec.ID, Type: rec.Spec.Type, Name: rec.Spec.Name, ShortName: rec.Spec.ShortName, VPC: rec.Spec.VPCID, AdminPassword: password}
			if vpc, ok := state.Get(p.db.Snapshot(), state.VPCs, string(rec.Spec.VPCID)); ok {
				spec.VPCCIDR = vpc.CIDR
			}
			// addresses made one for each subnet; a directory that came with its own name servers (AD Connector) has no controllers to make.
			for i, subnet := range rec.Spec.SubnetIDs {
				if i < len(rec.Status.DNSAddresses) {
					spec.Controllers = append(spec.Controllers, driver.DomainController{Subnet: subnet, Address: rec.Status.DNSAddresses[i]})
				}
			}
			info, err := p.domain.Provision(ctx, spec)
			if err != nil {
				return nil, fmt.Errorf("provision %s: %w", rec.ID, err)
			}
			return func(tx *state.Tx, rec *record) error {
				enterStage(rec, StageCreated, tx.Now())
				// The domain has it now; nobody needs it here any more.
				rec.Spec.AdminPassword = ""
				rec.Status.DNSAddresses = slices.Clone(info.DNSAddresses)
				return nil
			}, nil
		},
		Verify: p.serves,
	}
}

// password opens the administrator's first password. One that cannot be opened is lost: the records have come from a backup, or another node's key
// has sealed it.
func (p *planner) password(rec *record) (contract.Password, error) {
	if rec.Spec.AdminPassword == "" {
		return contract.Password{}, nil
	}
	text, err := p.seal.Unseal(rec.Spec.AdminPassword.Reveal(), string(rec.ID))
	if err != nil {
		return contract.Password{}, driver.Permanent("PasswordLost", fmt.Errorf("the administrator's first password: %w; delete the directory and create it again", err))
	}
	return contract.NewPassword(text), nil
}

// serves is nil when the directory's domain answers.
func (p *planner) serves(ctx context.Context, rec *record) error {
	info, err := p.domain.Inspect(ctx, rec.ID)
	if err != nil {
		return err
	}
	if info.Stage != driver.DomainActive || len(info.DNSAddresses) == 0 {
		return fmt.Errorf("domain of %s is %s with %d name servers: %w", rec.ID, info.Stage, len(info.DNSAddresses), driver.ErrUnavailable)
	}
	return nil
}

// activate says Active.
func (p *planner) activate() step {
	return step{
		Name: "activate",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enterStage(rec, StageActive, tx.Now())
				return nil
			}, nil
		},
		Verify: p.serves,
	}
}
