package linuxnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"carrel/internal/ident"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Uplink is the way out of the VPCs. Each has a link of its own to the host; packets are translated twice, to that link's address inside the VPC
// and to the host's address where they leave, so that VPCs may have the same ranges.
type Uplink struct {
	// Interface is the host's way out ("eth0"); "": none.
	Interface string
	// Namespace is the path of the network namespace that has it; "": that of the process.
	Namespace string
	// Transit is where the links' addresses come from, two each; zero: 169.254.64.0/18, for 8191 VPCs.
	Transit netip.Prefix
	// Deny are destinations that no desktop reaches by it, beside the host itself and the networks its uplink is in. nil: every range that is not
	// public (RFC 6890).
	Deny []netip.Prefix
	// Allow are exceptions from Deny, such as an organisation's own network.
	Allow []netip.Prefix
}

const (
	// uplinkName is a VPC's end of its link, linkPrefix the host's.
	uplinkName = "up0"
	linkPrefix = "carrel"
)

var defaultTransit = netip.MustParsePrefix("169.254.64.0/18")

// notPublic are the special-purpose ranges (RFC 6890, IANA registry) and multicast.
var notPublic = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")

// NotPublic gives the ranges that are Uplink.Deny when it is nil.
func NotPublic() []netip.Prefix { return slices.Clone(notPublic) }

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, s := range all {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// DefaultUplink gives the interface that this process's network leaves by, "" when it has no default route.
func DefaultUplink() (string, error) {
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return "", fmt.Errorf("linuxnet: list routes: %w", err)
	}
	for _, r := range routes {
		if ones, _ := maskSize(r.Dst); ones != 0 || r.LinkIndex == 0 || r.Type != unix.RTN_UNICAST {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return "", fmt.Errorf("linuxnet: %w", err)
		}
		return link.Attrs().Name, nil
	}
	return "", nil
}

func maskSize(n *net.IPNet) (ones, bits int) {
	if n == nil {
		return 0, 32
	}
	return n.Mask.Size()
}

// uplink is the host's side of the way out.
type uplink struct {
	cfg    Uplink
	mtu    int
	record string
	ns     *os.File
	handle *netlink.Handle
}

// openUplink puts the host's rules in force; nil without an uplink.
func openUplink(cfg Config) (*uplink, error) {
	if err := undoUplink(cfg); err != nil {
		return nil, fmt.Errorf("linuxnet: take back the former uplink: %w", err)
	}
	u := &uplink{cfg: cfg.Uplink, mtu: cfg.MTU, record: cfg.uplinkPath()}
	if u.cfg.Interface == "" {
		return nil, nil
	}
	if !u.cfg.Transit.IsValid() {
		u.cfg.Transit = defaultTransit
	}
	if u.cfg.Deny == nil {
		u.cfg.Deny = notPublic
	}
	if t := u.cfg.Transit; !t.Addr().Is4() || t.Bits() > 29 || t.Bits() < 8 || t != t.Masked() {
		return nil, fmt.Errorf("linuxnet: transit range %s is not an IPv4 range of /8 to /29", t)
	}
	for _, p := range append(u.cfg.Deny, u.cfg.Allow...) {
		if !p.Addr().Is4() {
			return nil, fmt.Errorf("linuxnet: %s is not a range of IPv4 addresses", p)
		}
	}
	var err error
	if u.ns, err = openNamespaceOf(u.cfg.Namespace); err != nil {
		return nil, fmt.Errorf("linuxnet: uplink: %w", err)
	}
	if u.handle, err = netlink.NewHandleAt(netns.NsHandle(u.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("linuxnet: uplink: %w", err), u.ns.Close())
	}
	if err := u.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("linuxnet: uplink %s: %w", u.cfg.Interface, err), u.close())
	}
	return u, nil
}

func (u *uplink) close() error {
	if u == nil {
		return nil
	}
	u.handle.Close()
	return u.ns.Close()
}

// prepare makes the host forward between its uplink and the VPCs' links, and nothing else that it did not forward before.
func (u *uplink) prepare() error {
	link, err := u.handle.LinkByName(u.cfg.Interface)
	if err != nil {
		return err
	}
	addresses, err := u.handle.AddrList(link, unix.AF_INET)
	if err != nil {
		return err
	}
	deny := u.cfg.Deny
	for _, a := range addresses {
		// The neighbours on the uplink, the host's own router above all, are the host's, not the desktops'.
		if p, err := netip.ParsePrefix(a.IPNet.String()); err == nil {
			deny = append(deny[:len(deny):len(deny)], p.Masked())
		}
	}
	opened, err := u.opened()
	if err != nil {
		return err
	}
	if err := u.rules(deny, opened); err != nil {
		return err
	}
	return enter(u.ns, func() error {
		// Of one interface, not of the whole host: net.ipv4.ip_forward would make a router of every interface it has.
		return apply([]setting{{"ipv4/conf/" + u.cfg.Interface + "/forwarding", "1"}})
	})
}

// uplinkRecord is what must be known to undo what was done to the host. It means nothing after a start of the machine.
type uplinkRecord struct {
	Boot, Interface, Namespace string
	// Opened: it was Carrel that made the interface forward.
	Opened bool
}

func (cfg Config) uplinkPath() string { return filepath.Join(cfg.Dir, "uplink.json") }

// boot names this start of the machine.
func boot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// opened tells whether it is Carrel that makes the uplink forward; then what else comes in there is dropped as it was before. Which it
// was is kept, because after a restart of this process the setting no longer says so.
func (u *uplink) opened() (bool, error) {
	var rec uplinkRecord
	if err := load(u.record, &rec); err != nil {
		return false, err
	}
	now := uplinkRecord{Interface: u.cfg.Interface, Namespace: u.cfg.Namespace}
	var err error
	if now.Boot, err = boot(); err != nil {
		return false, err
	}
	if rec.Boot == now.Boot && rec.Interface == now.Interface {
		return rec.Opened, nil
	}
	err = enter(u.ns, func() error {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + u.cfg.Interface + "/forwarding")
		now.Opened = strings.TrimSpace(string(b)) == "0"
		return err
	})
	if err != nil {
		return false, err
	}
	return now.Opened, save(u.record, now)
}

// undoUplink takes back what an earlier process did to the host for an uplink that is no longer the one.
func undoUplink(cfg Config) error {
	var rec uplinkRecord
	if err := load(cfg.uplinkPath(), &rec); err != nil {
		return err
	}
	now, err := boot()
	if err != nil {
		return err
	}
	if rec.Interface == "" || rec.Interface == cfg.Uplink.Interface {
		return nil
	}
	if rec.Boot == now {
		ns, err := openNamespaceOf(rec.Namespace)
		if err != nil {
			return err
		}
		defer ns.Close()
		conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
		if err != nil {
			return err
		}
		if rec.Opened {
			err := enter(ns, func() error { return apply([]setting{{"ipv4/conf/" + rec.Interface + "/forwarding", "0"}}) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
		conn.AddTable(table)
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			return err
		}
	}
	return remove(cfg.uplinkPath())
}

// openNamespaceOf opens the namespace at a path; "": the process's own.
func openNamespaceOf(path string) (*os.File, error) {
	if path == "" {
		path = "/proc/thread-self/ns/net" // Not self: the main thread may be one that has gone elsewhere.
	}
	return os.Open(path)
}

// rules writes the host's table. It says nothing about packets that are not the desktops'.
func (u *uplink) rules(deny []netip.Prefix, opened bool) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(u.ns.Fd())), nftables.WithSockOptions(roomy))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := &transaction{conn: conn, inet: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
	conn.AddTable(t.inet)
	conn.DelTable(t.inet)
	conn.AddTable(t.inet)
	// Before the usual priority, so that no earlier accept of the host's own firewall is in question; each base chain decides anew anyway.
	c := t.base("input", nftables.ChainHookInput, *nftables.ChainPriorityFilter-5, nftables.ChainPolicyAccept)
	// The host itself, by whatever address.
	t.rules(c, rule(arrivedByPrefix(linkPrefix), drop()))

	c = t.base("forward", nftables.ChainHookForward, *nftables.ChainPriorityFilter-5, nftables.ChainPolicyAccept)
	from, to := arrivedByPrefix(linkPrefix), leavesByPrefix(linkPrefix)
	t.rules(c, rule(from, notIPv4(), drop()),
		// Not to another VPC, not to what else the host may run.
		rule(from, notLeavesBy(u.cfg.Interface), drop()))
	for _, p := range u.cfg.Allow {
		t.rules(c, rule(from, inPrefix(atSource, u.cfg.Transit), inPrefix(atDestination, p), accept()))
	}
	for _, p := range deny {
		t.rules(c, rule(from, inPrefix(atDestination, p), drop()))
	}
	t.rules(c, rule(from, inPrefix(atSource, u.cfg.Transit), accept()), rule(from, drop()),
		rule(arrivedBy(u.cfg.Interface), to, state(stateEstablished|stateRelated), accept()), rule(to, drop()))
	if opened {
		t.rules(c, rule(arrivedBy(u.cfg.Interface), drop()))
	}
	c = &nftables.Chain{Table: t.inet, Name: "translate", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource}
	conn.AddChain(c)
	t.rules(c, rule(leavesBy(u.cfg.Interface), inPrefix(atSource, u.cfg.Transit), masquerade()))
	return t.commit()
}

// free gives a number for a new VPC's link.
func (u *uplink) free(nets map[ident.VPCID]*network) (int, error) {
	used := map[int]bool{}
	for _, n := range nets {
		used[n.rec.Transit] = true
	}
	for i := 1; i < 1<<(31-u.cfg.Transit.Bits()); i++ {
		if used[i] {
			continue
		}
		// Another installation on this host may use the same names.
		if _, err := u.handle.LinkByName(linkPrefix + strconv.Itoa(i)); errors.As(err, new(netlink.LinkNotFoundError)) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no address for a link to the uplink is left in %s", u.cfg.Transit)
}

// connect gives a VPC its link.
func (u *uplink) connect(n *network) error {
	name := linkPrefix + strconv.Itoa(n.rec.Transit)
	outside, err := u.handle.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		err = u.handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: u.mtu}, PeerName: uplinkName, PeerMTU: uint32(u.mtu),
			PeerNamespace: netlink.NsFd(n.ns.Fd())})
		if err == nil {
			outside, err = u.handle.LinkByName(name)
		}
	}
	if err != nil {
		return fmt.Errorf("link to the uplink: %w", err)
	}
	inside, err := n.handle.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("link to the uplink: %w", err)
	}
	if err := u.handle.LinkSetAlias(outside, aliasWord+" "+string(n.id)); err != nil {
		return err
	}
	here, there := offset(u.cfg.Transit, uint32(2*n.rec.Transit)), offset(u.cfg.Transit, uint32(2*n.rec.Transit+1))
	conf := "ipv4/conf/" + name
	err = enter(u.ns, func() error {
		return apply([]setting{{conf + "/forwarding", "1"}, {conf + "/rp_filter", "1"}, {conf + "/accept_redirects", "0"}, {conf + "/send_redirects", "0"},
			{conf + "/proxy_arp", "0"}, {"ipv6/conf/" + name + "/disable_ipv6", "1"}})
	})
	if err != nil {
		return err
	}
	pair := func(a netip.Addr) *netlink.Addr {
		return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(31, 32)}}
	}
	return errors.Join(
		u.handle.AddrReplace(outside, pair(there)), n.handle.AddrReplace(inside, pair(here)),
		u.handle.LinkSetUp(outside), n.handle.LinkSetUp(inside),
		n.handle.RouteReplace(&netlink.Route{LinkIndex: inside.Attrs().Index, Gw: there.AsSlice()}))
}

// disconnect removes a VPC's link, by the end that is inside: with it the other goes.
func (n *network) disconnect() error {
	link, err := n.handle.LinkByName(uplinkName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.handle.LinkDel(link)
}

// wire makes a VPC's link be there exactly when there is an uplink. The caller holds f.mu, or nobody else knows f.
func (f *Fabric) wire(n *network) error {
	if f.uplink == nil {
		if n.rec.Transit == 0 {
			return nil
		}
		if err := n.disconnect(); err != nil {
			return fmt.Errorf("remove the link to an uplink that is no more: %w", err)
		}
		n.rec.Transit = 0
		return save(n.recordPath, n.rec)
	}
	if n.rec.Transit == 0 {
		number, err := f.uplink.free(f.nets)
		if err != nil {
			return err
		}
		n.rec.Transit = number
		if err := save(n.recordPath, n.rec); err != nil {
			return err
		}
	}
	return f.uplink.connect(n)
}
