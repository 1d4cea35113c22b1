package linuxnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flowFilter picks connections by how they were begun.
type flowFilter func(flow) bool

// MatchConntrackFlow is asked by netlink for every tracked connection. The first direction has the addresses before translation.
func (m flowFilter) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	from, okFrom := netip.AddrFromSlice(c.Forward.SrcIP)
	to, okTo := netip.AddrFromSlice(c.Forward.DstIP)
	return okFrom && okTo && m(flow{from.Unmap(), to.Unmap(), c.Forward.Protocol, c.Forward.DstPort})
}

// cut ends the connections that a filter picks. Rules decide about beginnings only, so without this a connection would go on after the
// rule that allowed it. It is called after the rules are in force, and nf_conntrack_tcp_loose=0 keeps the next packet from making the flow anew.
func (n *network) cut(pick func(flow) bool) error {
	const tries = 5
	var err error
	for range tries {
		_, err = n.handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, flowFilter(pick))
		// The dump may be disturbed by a flow that ends meanwhile, and a flow may be gone before it is deleted.
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("cut flows: %w", err)
	}
	return nil
}
