package linuxnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"carrel/internal/driver"
	"carrel/internal/ident"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is a connection as this host has it.
type port struct {
	id      ident.InterfaceID
	desktop ident.WorkspaceID
	vpc     ident.VPCID
	subnet  ident.SubnetID
	address netip.Addr
	mac     net.HardwareAddr
	device  string
	index   int // of the device, once it is up
	rec     portRecord
}

func (p *port) nic() driver.NIC {
	return driver.NIC{InterfaceID: p.id, WorkspaceID: p.desktop, VPC: p.vpc, Subnet: p.subnet, Address: p.address.String(), MAC: p.mac.String(),
		SecurityGroups: slices.Clone(p.rec.Groups), Names: p.rec.Names}
}

// hostname is a label of a DNS name, or nothing.
var hostname = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$`)

// maxGroups an interface can be in, AWS's highest quota.
const maxGroups = 16

// check turns a spec into a port and its VPC's range. The error says what was wrong.
func check(spec driver.NICSpec) (*port, netip.Prefix, error) {
	p := &port{id: spec.InterfaceID, desktop: spec.WorkspaceID, vpc: spec.VPC, subnet: spec.Subnet, device: deviceOf(spec.InterfaceID)}
	var errs [8]error
	_, errs[0] = ident.ParseInterfaceID(string(spec.InterfaceID))
	_, errs[1] = ident.ParseWorkspaceID(string(spec.WorkspaceID))
	_, errs[2] = ident.ParseVPCID(string(spec.VPC))
	_, errs[3] = ident.ParseSubnetID(string(spec.Subnet))
	p.address, errs[4] = netip.ParseAddr(spec.Address)
	p.mac, errs[5] = net.ParseMAC(spec.MAC)
	cidr, err := netip.ParsePrefix(spec.VPCCIDR)
	errs[6] = err
	p.rec.Subnet, errs[7] = netip.ParsePrefix(spec.SubnetCIDR)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, cidr, err
	}
	for _, id := range spec.SecurityGroups {
		if _, err := ident.ParseSecurityGroupID(string(id)); err != nil {
			return nil, cidr, err
		}
		if !slices.Contains(p.rec.Groups, id) {
			p.rec.Groups = append(p.rec.Groups, id)
		}
	}
	p.rec.Names = spec.Names
	subnet := p.rec.Subnet
	switch {
	case !hostname.MatchString(spec.Names.Hostname):
		return nil, cidr, fmt.Errorf("%q is not the name of a computer", spec.Names.Hostname)
	case len(p.rec.Groups) > maxGroups:
		return nil, cidr, fmt.Errorf("%d security groups, more than %d", len(p.rec.Groups), maxGroups)
	case len(p.mac) != 6 || p.mac[0]&1 != 0 || bytes.Equal(p.mac, routerMAC) || bytes.Equal(p.mac, make([]byte, 6)):
		return nil, cidr, fmt.Errorf("%s is not the MAC address of one desktop", p.mac)
	case !p.address.Is4() || !subnet.Addr().Is4() || subnet != subnet.Masked() || subnet.Bits() > 28:
		return nil, cidr, fmt.Errorf("%s in %s is not an IPv4 address in a subnet of /28 or larger", p.address, subnet)
	case !subnet.Contains(p.address) || !cidr.Overlaps(subnet) || subnet.Bits() < cidr.Bits():
		return nil, cidr, fmt.Errorf("%s is not in subnet %s of VPC %s", p.address, subnet, cidr)
	case p.address == subnet.Addr() || p.address == router(subnet) || p.address == resolver(cidr) || p.address == last(subnet):
		return nil, cidr, fmt.Errorf("%s is one of the addresses of %s that no desktop can have", p.address, subnet)
	}
	return p, cidr, nil
}

// last is a range's broadcast address.
func last(p netip.Prefix) netip.Addr { return offset(p, ^uint32(0)>>p.Bits()) }

// Attach makes the connection, or gives an existing one its new groups.
func (f *Fabric) Attach(ctx context.Context, spec driver.NICSpec) (driver.NIC, error) {
	p, cidr, err := check(spec)
	if err != nil {
		return driver.NIC{}, driver.Permanent("InvalidInterface", fmt.Errorf("attach %s: %w", spec.InterfaceID, err))
	}
	release, err := f.claim(p.id)
	if err != nil {
		return driver.NIC{}, err
	}
	defer release()
	if n := f.find(p.id); n != nil && n.id != p.vpc {
		return driver.NIC{}, driver.Permanent("InvalidInterface", fmt.Errorf("attach %s: it is in %s", p.id, n.id))
	}
	n, err := f.network(ctx, driver.Network{VPC: p.vpc, CIDR: cidr})
	if err != nil {
		return driver.NIC{}, err
	}
	if err := n.take(); err != nil {
		return driver.NIC{}, err
	}
	err = f.attach(n, p)
	_, exists := n.ports[p.id]
	n.mu.Unlock()
	if exists {
		f.settle(p.id, p.vpc)
	}
	if err != nil {
		return driver.NIC{}, fmt.Errorf("attach %s: %w", p.id, err)
	}
	return p.nic(), nil
}

// attach does the work under the network's lock. What it leaves when it fails, the next call completes.
func (f *Fabric) attach(n *network, p *port) error {
	old := n.ports[p.id]
	if old != nil && (old.alias() != p.alias() || old.rec.Subnet != p.rec.Subnet) {
		return driver.Permanent("InvalidInterface", fmt.Errorf("it exists as %s", old.alias()))
	}
	if at := n.at(p.address); at != nil && at.id != p.id {
		return driver.Permanent("AddressInUse", fmt.Errorf("%s is taken by %s", p.address, at.id))
	}
	if slices.Contains(n.rec.Held, p.address) || n.routers[p.address] {
		return driver.Permanent("AddressInUse", fmt.Errorf("%s is the host's own", p.address))
	}
	if r := router(p.rec.Subnet); n.at(r) != nil || slices.Contains(n.rec.Held, r) {
		return driver.Permanent("InvalidInterface", fmt.Errorf("%s, the router of %s, is taken: the subnet lies over another", r, p.rec.Subnet))
	}
	if err := save(f.portPath(p.id), p.rec); err != nil {
		return err
	}
	link, err := n.link(p)
	if err != nil {
		return err
	}
	if link == nil {
		if old != nil {
			n.broken = true // The guard went with the device.
		}
		if err := f.makeTap(n, p); err != nil {
			return err
		}
	}
	// From here on the interface exists, however far the call comes.
	n.ports[p.id] = p
	if err := n.route(p); err != nil {
		return err
	}
	err = n.change(func(t *transaction) {
		t.guard(p)
		t.admit(p)
		if old != nil {
			t.leaveGroups(p, without(old.rec.Groups, p.rec.Groups))
		}
	})
	if err != nil {
		return err
	}
	if err := n.raise(p); err != nil {
		return err
	}
	if old == nil || slices.Equal(old.rec.Groups, p.rec.Groups) {
		return nil
	}
	// Its flows are looked at from both ends: others may have let it in for a group it has left.
	return n.cut(func(fl flow) bool { return (fl.from == p.address || fl.to == p.address) && !n.allows(fl) })
}

// without gives what is in a and not in b.
func without(a, b []ident.SecurityGroupID) []ident.SecurityGroupID {
	return slices.DeleteFunc(slices.Clone(a), func(id ident.SecurityGroupID) bool { return slices.Contains(b, id) })
}

// raise brings a port's device up, with its rules in force already, and makes it the way to the port's address.
func (n *network) raise(p *port) error {
	link, err := n.handle.LinkByName(p.device)
	if err != nil {
		return err
	}
	p.index = link.Attrs().Index
	conf := "ipv4/conf/" + p.device
	err = enter(n.ns, func() error {
		return apply([]setting{
			// Everybody in the subnet is behind the router, so the router answers for everybody, at once.
			{conf + "/proxy_arp", "1"}, {"ipv4/neigh/" + p.device + "/proxy_delay", "0"},
			{conf + "/rp_filter", "1"}, {conf + "/accept_redirects", "0"}, {conf + "/send_redirects", "0"},
			{"ipv6/conf/" + p.device + "/disable_ipv6", "1"},
		})
	})
	if err != nil {
		return err
	}
	if err := n.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", p.device, err)
	}
	if err := n.neighbour(p, link); err != nil {
		return err
	}
	err = n.handle.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(p.address), Src: router(p.rec.Subnet).AsSlice()})
	if err != nil {
		return fmt.Errorf("route to %s: %w", p.address, err)
	}
	return nil
}

// neighbour says which MAC has the port's address. Permanent: nothing a guest says changes it.
func (n *network) neighbour(p *port, link netlink.Link) error {
	err := n.handle.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: p.address.AsSlice(), HardwareAddr: p.mac})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", p.address, err)
	}
	return nil
}

// host is an address as the only one of its range.
func host(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }

// Detach removes the connection and cuts its flows.
func (f *Fabric) Detach(ctx context.Context, id ident.InterfaceID) error {
	release, err := f.claim(id)
	if err != nil {
		return err
	}
	defer release()
	if err := ctx.Err(); err != nil {
		return err
	}
	n := f.find(id)
	if n == nil {
		return nil
	}
	if err := n.take(); err != nil {
		return err
	}
	if p := n.ports[id]; p != nil {
		err = f.detach(n, p)
	}
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	// Last: until here the interface is listed, and Detach is asked again.
	f.settle(id, "")
	return nil
}

func (f *Fabric) detach(n *network, p *port) error {
	link, err := n.link(p)
	if err != nil {
		return err
	}
	if link != nil {
		// Holding the only queue is the proof that no machine has it, and keeps one from taking it now.
		fd, err := f.queue(n, p.device)
		if errors.Is(err, unix.EBUSY) {
			return driver.ErrOrder
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := n.handle.LinkSetDown(link); err != nil {
			return err
		}
	} else {
		n.broken = true
	}
	// The rules go before the device: newer kernels keep a chain whose device is gone. A refusal is mended below.
	if !n.broken {
		t, err := n.begin()
		if err != nil {
			return err
		}
		t.unguard(p)
		t.expel(p)
		n.broken = t.commit() != nil
	}
	if link != nil {
		if err := n.handle.LinkDel(link); err != nil {
			return fmt.Errorf("remove %s: %w", p.device, err)
		}
	}
	delete(n.ports, p.id)
	if n.broken {
		err = n.rewrite()
	}
	cut := n.cut(func(fl flow) bool { return fl.from == p.address || fl.to == p.address })
	if err := errors.Join(err, cut, remove(f.portPath(p.id))); err != nil {
		n.ports[p.id] = p
		return err
	}
	return nil
}

// List gives all connections that the kernel has, in order of id.
func (f *Fabric) List(ctx context.Context) ([]driver.NIC, error) {
	all := []driver.NIC{}
	for _, n := range f.networks() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n.take() != nil {
			continue // Removed meanwhile: it had no interfaces.
		}
		links, err := n.handle.LinkList()
		for _, l := range links {
			if p, ok := parseAlias(l.Attrs().Name, l.Attrs().Alias); ok {
				if known := n.ports[p.id]; known != nil {
					p = known
				}
				all = append(all, p.nic())
			}
		}
		n.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("list interfaces of %s: %w", n.id, err)
		}
	}
	slices.SortFunc(all, func(a, b driver.NIC) int { return strings.Compare(string(a.InterfaceID), string(b.InterfaceID)) })
	return all, nil
}
