// Package network holds what the plans have in common about subnets: taking an address in one and giving it back.
//
// It refuses to touch the fabric; an address taken is a record in the caller's transaction. The address is the record's id, so that of two
// transactions that take one address only one is applied.
package network

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"carrel/internal/ident"
	"carrel/internal/state"
)

// The addresses of a subnet that nobody gets: AWS keeps the first four (network, router, DNS, future use) and the last (VPC User Guide,
// "Subnet CIDR blocks"), and Carrel one more for the services inside a VPC.
const (
	reservedFirst = 5
	reservedLast  = 1
)

// ErrFull: no address is free in any of the subnets.
var ErrFull = errors.New("network: no free address")

// Take takes a free address for iface in the first of its candidate subnets that has one: it completes iface and puts it. Where the search begins depends on iface's id, so that transactions that run at the same time seldom want the same address.
// ErrFull; another error when a subnet does not exist.
func Take(tx *state.Tx, subnets []ident.SubnetID, iface *state.Interface) error {
	for _, id := range subnets {
		subnet, ok := state.Get(tx, state.Subnets, string(id))
		if !ok {
			return fmt.Errorf("network: there is no subnet %s", id)
		}
		address, err := free(tx, subnet, iface.ID)
		if errors.Is(err, ErrFull) {
			continue
		}
		if err != nil {
			return err
		}
		iface.SubnetID, iface.Address = id, address
		iface.Created = tx.Now()
		state.Put(tx, state.Interfaces, iface)
		return nil
	}
	return fmt.Errorf("%w in %v", ErrFull, subnets)
}

// Free gives an interface's address back by deleting its record. None there, or the address has become another's: nothing to do.
func Free(tx *state.Tx, subnet ident.SubnetID, address string, holder ident.InterfaceID) {
	if iface, ok := state.Get(tx, state.Interfaces, state.InterfaceKey(subnet, address)); ok && iface.ID == holder {
		state.Delete(tx, state.Interfaces, state.InterfaceKey(subnet, address))
	}
}

// free searches a subnet once around. What is taken is looked up in the snapshot: only the address that is free is checked at commit.
func free(tx *state.Tx, subnet *state.Subnet, id ident.InterfaceID) (string, error) {
	prefix, err := netip.ParsePrefix(subnet.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "", fmt.Errorf("network: subnet %s has no IPv4 range: %q", subnet.ID, subnet.CIDR)
	}
	size := uint64(1)<<(32-prefix.Bits()) - min(uint64(1)<<(32-prefix.Bits()), reservedFirst+reservedLast)
	if size == 0 {
		return "", ErrFull
	}
	first := binary.BigEndian.Uint32(prefix.Masked().Addr().AsSlice()) + reservedFirst
	h := sha256.Sum256([]byte(id))
	start := binary.BigEndian.Uint64(h[:]) % size
	for i := range size {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], first+uint32((start+i)%size))
		address := netip.AddrFrom4(b).String()
		if state.Has(tx.Snapshot(), state.Interfaces, state.InterfaceKey(subnet.ID, address)) {
			continue
		}
		if !state.Has(tx, state.Interfaces, state.InterfaceKey(subnet.ID, address)) {
			return address, nil
		}
	}
	return "", ErrFull
}

// MAC is the hardware address of an interface: locally administered (IEEE 802), the same for ever.
func MAC(id ident.InterfaceID) string {
	h := sha256.Sum256([]byte("mac " + string(id)))
	return net.HardwareAddr{0x02, h[0], h[1], h[2], h[3], h[4]}.String()
}
