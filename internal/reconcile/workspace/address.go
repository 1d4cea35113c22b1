package workspace

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/reconcile/network"
	"carrel/internal/state"
)

// address takes an address in one of the directory's subnets. All of it is one transaction: an address is never taken for
// a WorkSpace whose record does not say so.
func (p *planner) address() step {
	return step{
		Name:   "address",
		Needed: func(rec *record) bool { return rec.Status.Interface == "" },
		Do: func(context.Context, *record) (effect, error) {
			id := ident.NewInterfaceID(p.random)
			return func(tx *state.Tx, rec *record) error {
				reg, err := registration(tx, rec)
				if err != nil {
					return err
				}
				iface := &state.Interface{ID: id, WorkspaceID: rec.ID}
				err = network.Take(tx, spread(rec.ID, reg.SubnetIDs), iface)
				if errors.Is(err, network.ErrFull) {
					return driver.Permanent("InsufficientFreeAddressesInSubnet", err)
				}
				if err != nil {
					return fmt.Errorf("take address for %s: %w", rec.ID, err)
				}
				rec.Status.Interface, rec.Status.SubnetID, rec.Status.IPAddress = id, iface.SubnetID, iface.Address
				return nil
			}, nil
		},
	}
}

// registration is the one that the WorkSpace is made under.
func registration(r state.Reader, rec *record) (*state.Registration, error) {
	dir, ok := state.Get(r, state.Directories, string(rec.Spec.DirectoryID))
	if !ok || dir.Registration == nil {
		return nil, driver.Permanent("DirectoryNotRegistered", fmt.Errorf("directory %s is not registered", rec.Spec.DirectoryID))
	}
	return dir.Registration, nil
}

// spread turns the list of subnets so that desktops are divided between them.
func spread(id ident.WorkspaceID, subnets []ident.SubnetID) []ident.SubnetID {
	if len(subnets) == 0 {
		return nil
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	at := int(h.Sum32() % uint32(len(subnets)))
	return append(append([]ident.SubnetID{}, subnets[at:]...), subnets[:at]...)
}
