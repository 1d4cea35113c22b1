package linuxnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"carrel/internal/driver"
	"carrel/internal/ident"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// network is a VPC on this host.
type network struct {
	id         ident.VPCID
	recordPath string

	mu     sync.Mutex
	ns     *os.File
	handle *netlink.Handle
	rec    networkRecord
	ports  map[ident.InterfaceID]*port
	// routers are the router addresses of the subnets seen.
	routers map[netip.Addr]bool
	// live are the member sets the kernel has.
	live map[string]bool
	// broken: the rules in the kernel are not known to be what they should; the next change writes all of them.
	broken bool
	// gone: the network was removed or let go of; its handle would mean another namespace.
	gone bool
}

// take locks the network for a change. ErrUnavailable: it was removed meanwhile; nothing is locked.
func (n *network) take() error {
	n.mu.Lock()
	if n.gone {
		n.mu.Unlock()
		return fmt.Errorf("%s was removed: %w", n.id, driver.ErrUnavailable)
	}
	return nil
}

// unusable are ranges that no VPC can have: what is in them means something else inside one.
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), linkLocal, netip.MustParsePrefix("224.0.0.0/3"),
}

// network gives a VPC, made when there is none.
func (f *Fabric) network(ctx context.Context, want driver.Network) (*network, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := ident.ParseVPCID(string(want.VPC)); err != nil {
		return nil, driver.Permanent("InvalidNetwork", err)
	}
	// VPCs are /16 to /28 (VPC User Guide, "VPC CIDR blocks").
	if !want.CIDR.Addr().Is4() || want.CIDR != want.CIDR.Masked() || want.CIDR.Bits() < 16 || want.CIDR.Bits() > 28 {
		return nil, driver.Permanent("InvalidNetwork", fmt.Errorf("%s: %s is not an IPv4 range of /16 to /28", want.VPC, want.CIDR))
	}
	for _, p := range unusable {
		if p.Overlaps(want.CIDR) {
			return nil, driver.Permanent("InvalidNetwork", fmt.Errorf("%s: %s is part of %s", want.VPC, want.CIDR, p))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nets[want.VPC]
	if n == nil {
		var err error
		if n, err = f.makeNetwork(want); err != nil {
			return nil, fmt.Errorf("make %s: %w", want.VPC, err)
		}
		f.nets[want.VPC] = n
	}
	if n.rec.CIDR != want.CIDR {
		return nil, driver.Permanent("InvalidNetwork", fmt.Errorf("%s exists with %s, not %s", want.VPC, n.rec.CIDR, want.CIDR))
	}
	return n, nil
}

// makeNetwork makes a VPC's namespace. The caller holds mu. A namespace that could not be finished is found by the next Open, or by the next call.
func (f *Fabric) makeNetwork(want driver.Network) (*network, error) {
	if err := save(f.recordPath(want.VPC), networkRecord{CIDR: want.CIDR}); err != nil {
		return nil, err
	}
	if live, err := isNamespace(f.path(want.VPC)); err != nil {
		return nil, err
	} else if !live {
		if err := makeNamespace(f.path(want.VPC)); err != nil {
			return nil, err
		}
	}
	n, err := f.openNetwork(want.VPC)
	if err != nil {
		return nil, err
	}
	if err := n.restore(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	if err := f.wire(n); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// openNetwork opens a namespace that exists, completes it, and reads which interfaces are in it.
func (f *Fabric) openNetwork(id ident.VPCID) (*network, error) {
	n := &network{id: id, recordPath: f.recordPath(id), ports: map[ident.InterfaceID]*port{}, routers: map[netip.Addr]bool{}, live: map[string]bool{}}
	if err := load(n.recordPath, &n.rec); err != nil {
		return nil, err
	}
	if !n.rec.CIDR.IsValid() {
		return nil, fmt.Errorf("%s says nothing about its range", n.recordPath)
	}
	var err error
	if n.ns, err = os.Open(f.path(id)); err != nil {
		return nil, err
	}
	n.handle, err = netlink.NewHandleAt(netns.NsHandle(n.ns.Fd()), unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), n.ns.Close())
	}
	if err := f.complete(n); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// complete brings a namespace to what every VPC has and reads its ports.
func (f *Fabric) complete(n *network) error {
	if err := enter(n.ns, func() error { return apply(vpcSettings) }); err != nil {
		return err
	}
	lo, err := n.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := n.handle.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range append([]netip.Addr{metadataAddress, resolverAddress, resolver(n.rec.CIDR)}, n.rec.Held...) {
		if err := n.own(a); err != nil {
			return err
		}
	}
	// What is in the VPC and nobody's must not look for a way out. It is not answered either: a desktop has no business knowing which
	// addresses are somebody's and only closed to it.
	for _, p := range []netip.Prefix{n.rec.CIDR, linkLocal} {
		if err := n.handle.RouteReplace(&netlink.Route{Dst: network4(p), Type: unix.RTN_BLACKHOLE, Priority: 1 << 20}); err != nil {
			return fmt.Errorf("route of %s: %w", p, err)
		}
	}
	return f.readPorts(n)
}

func network4(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// readPorts takes the interfaces from the kernel and removes taps that were not finished.
func (f *Fabric) readPorts(n *network) error {
	links, err := n.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, l := range links {
		if l.Type() != "tuntap" && l.Type() != "tun" {
			continue
		}
		p, ok := parseAlias(l.Attrs().Name, l.Attrs().Alias)
		if ok && p.vpc == n.id {
			err = load(f.portPath(p.id), &p.rec)
			ok = err == nil && p.rec.Subnet.IsValid() && p.rec.Subnet.Contains(p.address)
			if !ok {
				// The interface is there, but which subnet and groups it has is lost: it is attached anew, in none until then.
				p.rec = portRecord{Subnet: n.rec.CIDR}
			}
			n.ports[p.id] = p
			if err := n.route(p); err != nil {
				return err
			}
			continue
		}
		if err := n.handle.LinkDel(l); err != nil {
			return fmt.Errorf("remove the unfinished %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// restore puts the rules in force and then brings up what is there.
func (n *network) restore() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.rewrite(); err != nil {
		return err
	}
	if err := enter(n.ns, func() error { return apply(conntrackSettings) }); err != nil {
		return err
	}
	for _, p := range n.sorted() {
		if err := n.raise(p); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) sorted() []*port {
	all := make([]*port, 0, len(n.ports))
	for _, p := range n.ports {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *port) int { return strings.Compare(string(a.id), string(b.id)) })
	return all
}

// own gives the namespace an address. They are on lo: it is there in every kernel, and which device has an address means nothing in Linux.
func (n *network) own(a netip.Addr) error {
	lo, err := n.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := n.handle.AddrReplace(lo, &netlink.Addr{IPNet: host(a)}); err != nil {
		return fmt.Errorf("take address %s: %w", a, err)
	}
	return nil
}

// route makes the router of a port's subnet.
func (n *network) route(p *port) error {
	a := router(p.rec.Subnet)
	if n.routers[a] {
		return nil
	}
	if err := n.own(a); err != nil {
		return err
	}
	n.routers[a] = true
	return nil
}

// close lets go of the namespace. The caller holds mu, or is the only one who knows the network.
func (n *network) close() error {
	n.gone = true
	n.handle.Close()
	return n.ns.Close()
}

// Namespace opens the VPC's network namespace.
func (f *Fabric) Namespace(ctx context.Context, want driver.Network) (*os.File, error) {
	if _, err := f.network(ctx, want); err != nil {
		return nil, err
	}
	return os.Open(f.path(want.VPC))
}

// Hold puts an address of the host's own into the VPC.
func (f *Fabric) Hold(ctx context.Context, want driver.Network, a netip.Addr) error {
	n, err := f.network(ctx, want)
	if err != nil {
		return err
	}
	if err := n.take(); err != nil {
		return err
	}
	defer n.mu.Unlock()
	switch p := n.at(a); {
	case !n.rec.CIDR.Contains(a) || a == resolver(n.rec.CIDR) || n.routers[a]:
		return driver.Permanent("InvalidAddress", fmt.Errorf("hold %s: it is not an address of %s that can be given away", a, n.rec.CIDR))
	case p != nil:
		return driver.Permanent("AddressInUse", fmt.Errorf("hold %s: %s has it", a, p.id))
	}
	old := n.rec.Held
	if !slices.Contains(old, a) {
		n.rec.Held = append(slices.Clone(old), a)
		if err := save(n.recordPath, n.rec); err != nil {
			n.rec.Held = old
			return fmt.Errorf("hold %s: %w", a, err)
		}
	}
	if err := errors.Join(n.own(a), n.change(func(t *transaction) { t.hold(a) })); err != nil {
		return fmt.Errorf("hold %s: %w", a, err)
	}
	return nil
}

// Drop takes a held address back and cuts its flows.
func (f *Fabric) Drop(ctx context.Context, vpc ident.VPCID, a netip.Addr) error {
	f.mu.Lock()
	n := f.nets[vpc]
	f.mu.Unlock()
	if err := ctx.Err(); err != nil || n == nil {
		return err
	}
	if err := n.take(); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if !slices.Contains(n.rec.Held, a) {
		return nil
	}
	lo, err := n.handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("drop %s: %w", a, err)
	}
	if err := n.handle.AddrDel(lo, &netlink.Addr{IPNet: host(a)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("drop %s: %w", a, err)
	}
	// The record changes last of what can fail before the rules: until then Drop is repeated whole.
	old := n.rec.Held
	n.rec.Held = slices.DeleteFunc(slices.Clone(old), func(h netip.Addr) bool { return h == a })
	if err := save(n.recordPath, n.rec); err != nil {
		n.rec.Held = old
		return fmt.Errorf("drop %s: %w", a, err)
	}
	err = errors.Join(n.change(func(t *transaction) { t.unhold(a) }), n.cut(func(fl flow) bool { return fl.from == a || fl.to == a }))
	if err != nil {
		n.broken = true
		return fmt.Errorf("drop %s: %w", a, err)
	}
	return nil
}

// Dial connects to an IP address and port inside the VPC.
func (f *Fabric) Dial(ctx context.Context, vpc ident.VPCID, network, address string) (net.Conn, error) {
	// A name would be looked up by other threads, in the host's own network.
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, driver.Permanent("InvalidAddress", fmt.Errorf("dial %s in %s: %w", address, vpc, err))
	}
	var conn net.Conn
	err := f.Enter(ctx, vpc, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ListNetworks gives the VPCs that this host has, in order of id.
func (f *Fabric) ListNetworks(ctx context.Context) ([]ident.VPCID, error) {
	var all []ident.VPCID
	for _, n := range f.networks() {
		all = append(all, n.id)
	}
	return all, ctx.Err()
}

// RemoveNetwork ends a VPC on this host. Gone already: success. ErrOrder: it has interfaces or held addresses.
func (f *Fabric) RemoveNetwork(ctx context.Context, vpc ident.VPCID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nets[vpc]
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ports) > 0 || len(n.rec.Held) > 0 {
		return driver.ErrOrder
	}
	if err := n.disconnect(); err != nil {
		return fmt.Errorf("remove %s: %w", vpc, err)
	}
	if err := errors.Join(dropNamespace(f.path(vpc)), remove(n.recordPath)); err != nil {
		return fmt.Errorf("remove %s: %w", vpc, err)
	}
	delete(f.nets, vpc)
	return n.close()
}
