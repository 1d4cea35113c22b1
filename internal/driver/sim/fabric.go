package sim

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Fabric is the simulated driver.Fabric.
type Fabric struct{ sim *Sim }

var _ driver.Fabric = (*Fabric)(nil)

func copyNIC(n *driver.NIC) driver.NIC {
	c := *n
	c.SecurityGroups = slices.Clone(n.SecurityGroups)
	return c
}

// Attach connects an interface, or gives an existing one its new groups.
func (d *Fabric) Attach(ctx context.Context, spec driver.NICSpec) (driver.NIC, error) {
	s := d.sim
	var out driver.NIC
	err := s.do(ctx, call{"fabric", "attach", string(spec.InterfaceID), s.times.Attach}, func() error {
		next := driver.NIC{InterfaceID: spec.InterfaceID, WorkspaceID: spec.WorkspaceID, VPC: spec.VPC, Subnet: spec.Subnet,
			Address: spec.Address, MAC: spec.MAC, SecurityGroups: slices.Clone(spec.SecurityGroups), Names: spec.Names}
		if err := s.attachable(&next); err != nil {
			return driver.Permanent("InvalidInterface", err)
		}
		if err := s.save("nic", string(spec.InterfaceID), &next); err != nil {
			return err
		}
		s.nics[spec.InterfaceID] = &next
		s.addresses[place(&next)] = spec.InterfaceID
		out = copyNIC(&next)
		return nil
	})
	return out, err
}

// attachable checks a connection against those that exist. The caller holds mu.
func (s *Sim) attachable(next *driver.NIC) error {
	if _, err := netip.ParseAddr(next.Address); err != nil {
		return err
	}
	if _, err := net.ParseMAC(next.MAC); err != nil {
		return err
	}
	n := s.nics[next.InterfaceID]
	if n != nil && (n.Address != next.Address || n.VPC != next.VPC || n.MAC != next.MAC || n.WorkspaceID != next.WorkspaceID) {
		return fmt.Errorf("interface %s exists with %s %s", n.InterfaceID, n.Address, n.MAC)
	}
	if id, taken := s.addresses[place(next)]; taken && id != next.InterfaceID {
		return fmt.Errorf("%s is taken by %s", next.Address, id)
	}
	return nil
}

// place is where a connection is: an address means something within its VPC only.
func place(n *driver.NIC) string { return string(n.VPC) + "/" + n.Address }

// Detach removes a connection.
func (d *Fabric) Detach(ctx context.Context, id ident.InterfaceID) error {
	s := d.sim
	return s.do(ctx, call{"fabric", "detach", string(id), s.times.Detach}, func() error {
		n, ok := s.nics[id]
		if !ok {
			return nil
		}
		if m := s.machines[n.WorkspaceID]; m != nil && m.State == driver.MachineRunning && m.Spec.Interface == id {
			return driver.ErrOrder
		}
		if err := s.save("nic", string(id), nil); err != nil {
			return err
		}
		delete(s.nics, id)
		delete(s.addresses, place(n))
		return nil
	})
}

// List gives all connections.
func (d *Fabric) List(context.Context) ([]driver.NIC, error) {
	if err := d.sim.faults.strike("fabric", "list"); err != nil {
		return nil, err
	}
	return list(d.sim, d.sim.nics, copyNIC)
}
