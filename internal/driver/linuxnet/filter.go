package linuxnet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"carrel/internal/ident"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The rules of a VPC are two tables. "carrel" of family netdev has a chain a tap: it sees every frame of a guest before any other part of
// the kernel does and lets IPv4 and ARP of that guest's own addresses through. "carrel" of family inet decides who may talk to whom.
const tableName = "carrel"

// Names of sets and maps in the inet table.
const (
	setBound    = "bound"    // device . address
	setHeld     = "held"     // the host's own addresses
	mapBegin    = "begin"    // device of the sender -> how much it may begin
	mapLeaving  = "leaving"  // device of the sender -> its groups' rules
	mapEntering = "entering" // device of the receiver -> its groups' rules
)

// The services that every VPC has beside its resolver (VPC User Guide; Instance Metadata Service).
var (
	metadataAddress = netip.MustParseAddr("169.254.169.254")
	resolverAddress = netip.MustParseAddr("169.254.169.253")
	linkLocal       = netip.MustParsePrefix("169.254.0.0/16")
	everybody       = netip.MustParseAddr("255.255.255.255")
)

// routerMAC is the host's end of every tap. It is the same on all: a guest resumed from a template still has the router of its template in
// its ARP cache. No two taps are on one link.
var routerMAC = net.HardwareAddr{0x02, 0xca, 0x44, 0x45, 0x4c, 0x01}

// What one guest may send a second of packets that cost the host more than forwarding.
const (
	arpRate, arpBurst     = 50, 100
	dhcpRate, dhcpBurst   = 20, 40
	beginRate, beginBurst = 1000, 4000
	// maxFlows is how many connections a guest may have at a time. The table of connections is the whole VPC's, and a guest with a friend outside
	// fills it with connections that last for days.
	maxFlows            = 4096
	echoRate, echoBurst = 20, 40
)

// transaction is a set of changes to a VPC's rules that happen at once or not at all.
type transaction struct {
	net    *network
	conn   *nftables.Conn
	inet   *nftables.Table
	netdev *nftables.Table
	ids    uint32
	err    error
}

func (n *network) begin() (*transaction, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.ns.Fd())), nftables.WithSockOptions(roomy))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return &transaction{net: n, conn: conn, inet: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet},
		netdev: &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}}, nil
}

// roomy gives the socket room for a whole table and its acknowledgements: a transaction that does not fit is refused.
func roomy(c *netlink.Conn) error {
	const room = 64 << 20
	if err := c.SetWriteBuffer(room); err != nil {
		return err
	}
	return c.SetReadBuffer(room)
}

// change makes changes to the rules in one transaction. When the kernel refuses them it is not what was thought, and everything is written anew.
func (n *network) change(fn func(*transaction)) error {
	if !n.broken {
		t, err := n.begin()
		if err != nil {
			return err
		}
		fn(t)
		if err := t.commit(); err == nil {
			return nil
		}
	}
	return n.rewrite()
}

// rewrite replaces all rules by what they should be, at once.
func (n *network) rewrite() error {
	n.broken = true
	clear(n.live)
	t, err := n.begin()
	if err != nil {
		return err
	}
	for _, table := range []*nftables.Table{t.inet, t.netdev} {
		t.conn.AddTable(table) // Deleting what is not there is an error.
		t.conn.DelTable(table)
		t.conn.AddTable(table)
	}
	t.frame()
	for _, p := range n.sorted() {
		t.guard(p)
		t.admit(p)
	}
	if err := t.commit(); err != nil {
		clear(n.live)
		return fmt.Errorf("write rules of %s: %w", n.id, err)
	}
	n.broken = false
	return nil
}

func (t *transaction) commit() error {
	if t.err != nil {
		return t.err
	}
	return t.conn.Flush()
}

func (t *transaction) note(err error) {
	if err != nil && t.err == nil {
		t.err = err
	}
}

func (t *transaction) set(name string, key nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Table: t.inet, Name: name, KeyType: key}
}

func (t *transaction) bound() *nftables.Set {
	s := t.set(setBound, nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr))
	s.Concatenation = true
	return s
}

func (t *transaction) verdicts(name string) *nftables.Set {
	s := t.set(name, nftables.TypeIFName)
	s.IsMap, s.DataType = true, nftables.TypeVerdict
	return s
}

// declareSet adds a set. The id only has to differ within the transaction; the library's own counter is not safe for concurrent use.
func (t *transaction) declareSet(s *nftables.Set) {
	t.ids++
	s.ID = t.ids
	t.note(t.conn.AddSet(s, nil))
}

func (t *transaction) chain(name string) *nftables.Chain {
	return &nftables.Chain{Table: t.inet, Name: name}
}

func (t *transaction) rules(c *nftables.Chain, rules ...[]expr.Any) {
	for _, r := range rules {
		t.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: r})
	}
}

// base makes a chain that the kernel calls; what its rules do not accept is dropped unless the policy says otherwise.
func (t *transaction) base(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	c := t.chain(name)
	c.Type, c.Hooknum, c.Priority, c.Policy = nftables.ChainTypeFilter, hook, &priority, &policy
	t.conn.AddChain(c)
	return c
}

// frame writes the sets and chains that do not depend on who is there.
func (t *transaction) frame() {
	for _, s := range []*nftables.Set{t.bound(), t.set(setHeld, nftables.TypeIPAddr), t.verdicts(mapBegin), t.verdicts(mapLeaving), t.verdicts(mapEntering)} {
		t.declareSet(s)
	}
	for _, a := range t.net.rec.Held {
		t.hold(a)
	}
	policyDrop := nftables.ChainPolicyDrop

	// A second look at who sends, for the case that the first (guard) is taken away by somebody's hand.
	c := t.base("source", nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, policyDrop)
	t.rules(c, rule(notIPv4(), drop()), rule(arrivedBy("lo"), accept()), rule(arrivedBy(uplinkName), accept()),
		rule(source(netip.IPv4Unspecified()), destination(everybody), accept()),
		rule(notBoundIn(setBound), drop()), rule(accept()))

	// How much a guest may begin, whatever it is and wherever to. A connection is kept only once its first packet has passed all chains, so what is
	// dropped here takes no room.
	c = t.base("begin", nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle, nftables.ChainPolicyAccept)
	t.rules(c, rule(state(stateNew), byDevice(expr.MetaKeyIIFNAME, mapBegin)))

	// What a guest begins must be allowed by the sender's groups and by the receiver's: accept in one base chain does not end the next.
	// Related packets (ICMP errors) are accepted by themselves only from the way out: a guest could send errors about flows of others.
	c = t.base("leave", nftables.ChainHookForward, *nftables.ChainPriorityFilter-10, policyDrop)
	t.rules(c, rule(notIPv4(), drop()), rule(state(stateInvalid), drop()), rule(state(stateEstablished), accept()),
		rule(arrivedBy(uplinkName), state(stateRelated), accept()), rule(byDevice(expr.MetaKeyIIFNAME, mapLeaving)))
	c = t.base("enter", nftables.ChainHookForward, *nftables.ChainPriorityFilter, policyDrop)
	t.rules(c, rule(state(stateEstablished), accept()), rule(arrivedBy(uplinkName), state(stateRelated), accept()),
		rule(leavesBy(uplinkName), accept()), rule(byDevice(expr.MetaKeyOIFNAME, mapEntering)))

	// The host's own sockets in the VPC. No group governs a desktop's way to DHCP, DNS and metadata, as in AWS.
	c = t.base("local", nftables.ChainHookInput, *nftables.ChainPriorityFilter, policyDrop)
	t.rules(c, rule(notIPv4(), drop()), rule(arrivedBy("lo"), accept()), rule(state(stateInvalid), drop()),
		rule(state(stateEstablished), accept()), rule(arrivedBy(uplinkName), drop()),
		rule(protocol(protocolUDP), ports(67, 67), accept()),
		rule(destination(metadataAddress), protocol(protocolTCP), ports(80, 80), accept()))
	for _, a := range []netip.Addr{resolverAddress, resolver(t.net.rec.CIDR)} {
		t.rules(c, rule(destination(a), protocol(protocolUDP), ports(53, 53), accept()),
			rule(destination(a), protocol(protocolTCP), ports(53, 53), accept()))
	}
	t.rules(c, rule(protocol(protocolICMP), transport(0, []byte{8}), accept()),
		rule(addressIn(atDestination, setHeld), byDevice(expr.MetaKeyIIFNAME, mapLeaving)))

	c = t.base("answer", nftables.ChainHookOutput, *nftables.ChainPriorityFilter, policyDrop)
	t.rules(c, rule(notIPv4(), drop()), rule(leavesBy("lo"), accept()), rule(state(stateInvalid), drop()),
		rule(state(stateEstablished|stateRelated), accept()), rule(leavesBy(uplinkName), drop()),
		// DHCP's answers belong to no flow: the client had no address. Only the host role sends them, no helper process.
		rule(protocol(protocolUDP), transport(0, []byte{0, 67, 0, 68}), byUser(0), accept()),
		rule(byDevice(expr.MetaKeyOIFNAME, mapEntering)))

	c = &nftables.Chain{Table: t.inet, Name: "translate", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource}
	t.conn.AddChain(c)
	// The interface is named: a rule without one would rewrite what stays in the VPC, too.
	t.rules(c, rule(leavesBy(uplinkName), masquerade()))
}

// guard writes the chain that sees every frame of a port's guest.
func (t *transaction) guard(p *port) {
	c := &nftables.Chain{Table: t.netdev, Name: p.device, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityRef(0), Device: p.device, Policy: new(nftables.ChainPolicy)}
	*c.Policy = nftables.ChainPolicyDrop
	t.conn.AddTable(t.netdev)
	t.conn.AddChain(c)
	t.conn.FlushChain(c)
	self := p.address.AsSlice()
	// The type is read from the frame, where a VLAN tag is in its place; the kernel's own idea of it is what is behind the tag.
	ipv4 := []byte{0x08, 0x00}
	toRouter := frame(0, slices.Concat(routerMAC, p.mac, ipv4))
	toAll := frame(0, slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, p.mac, ipv4))
	dhcp := rule(whole(), protocol(protocolUDP), transport(0, []byte{0, 68, 0, 67}), atMost(dhcpRate, dhcpBurst), accept())
	t.rules(c,
		rule(toAll, header(atSource, []byte{0, 0, 0, 0, 255, 255, 255, 255}), dhcp),
		rule(toAll, header(atSource, slices.Concat(self, []byte{255, 255, 255, 255})), dhcp),
		// An ARP request about anybody, by itself: Ethernet and IPv4, operation 1, own MAC, own address.
		rule(frame(6, slices.Concat(p.mac, []byte{0x08, 0x06})), header(0, []byte{0, 1, 8, 0, 6, 4, 0, 1}),
			header(atARPSender, slices.Concat(p.mac, self)), atMost(arpRate, arpBurst), accept()),
		// A desktop is never a DHCP server.
		rule(protocol(protocolUDP), transport(0, []byte{0, 67}), drop()))
	for _, p := range []string{"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"} { // this host, loopback, multicast and broadcast
		t.rules(c, rule(inPrefix(atDestination, netip.MustParsePrefix(p)), drop()))
	}
	t.rules(c, rule(toRouter, header(atSource, self), accept()), rule(drop()))
}

// unguard removes a port's chain.
func (t *transaction) unguard(p *port) {
	t.conn.DelChain(&nftables.Chain{Table: t.netdev, Name: p.device})
}

func (p *port) binding() []nftables.SetElement {
	return []nftables.SetElement{{Key: slices.Concat(deviceName(p.device), p.address.AsSlice())}}
}

func (p *port) verdict(prefix string) []nftables.SetElement {
	return []nftables.SetElement{{Key: deviceName(p.device), VerdictData: &expr.Verdict{Kind: unix.NFT_GOTO, Chain: prefix + p.device}}}
}

// admit writes what a port's groups say of it, and its membership.
func (t *transaction) admit(p *port) {
	for _, id := range p.rec.Groups {
		t.group(id)
		t.note(t.conn.SetAddElements(t.set(members(id), nftables.TypeIPAddr), element(p.address)))
	}
	begin, out, in := t.chain("begin-"+p.device), t.chain("out-"+p.device), t.chain("in-"+p.device)
	for _, c := range []*nftables.Chain{begin, out, in} {
		t.conn.AddChain(c)
		t.conn.FlushChain(c)
	}
	t.rules(begin, rule(moreThan(beginRate, beginBurst), drop()), rule(moreFlowsThan(maxFlows), drop()))
	t.rules(out, rule(inPrefix(atDestination, linkLocal), drop()))
	for _, id := range p.rec.Groups {
		t.rules(out, rule(jump("out-"+string(id))))
		t.rules(in, rule(jump("in-"+string(id))))
	}
	t.rules(out, rule(drop()))
	t.rules(in, rule(drop()))
	t.note(t.conn.SetAddElements(t.bound(), p.binding()))
	t.note(t.conn.SetAddElements(t.verdicts(mapBegin), p.verdict("begin-")))
	t.note(t.conn.SetAddElements(t.verdicts(mapLeaving), p.verdict("out-")))
	t.note(t.conn.SetAddElements(t.verdicts(mapEntering), p.verdict("in-")))
}

// leaveGroups takes a port's address out of groups.
func (t *transaction) leaveGroups(p *port, ids []ident.SecurityGroupID) {
	for _, id := range ids {
		t.note(t.conn.SetDeleteElements(t.set(members(id), nftables.TypeIPAddr), element(p.address)))
	}
}

// expel removes all that admit wrote.
func (t *transaction) expel(p *port) {
	t.note(t.conn.SetDeleteElements(t.verdicts(mapBegin), p.verdict("begin-")))
	t.note(t.conn.SetDeleteElements(t.verdicts(mapLeaving), p.verdict("out-")))
	t.note(t.conn.SetDeleteElements(t.verdicts(mapEntering), p.verdict("in-")))
	t.note(t.conn.SetDeleteElements(t.bound(), p.binding()))
	t.leaveGroups(p, p.rec.Groups)
	t.conn.DelChain(t.chain("begin-" + p.device))
	t.conn.DelChain(t.chain("out-" + p.device))
	t.conn.DelChain(t.chain("in-" + p.device))
}

func members(id ident.SecurityGroupID) string { return "members-" + string(id) }

func (t *transaction) hold(a netip.Addr) {
	t.note(t.conn.SetAddElements(t.set(setHeld, nftables.TypeIPAddr), element(a)))
}

func (t *transaction) unhold(a netip.Addr) {
	t.note(t.conn.SetDeleteElements(t.set(setHeld, nftables.TypeIPAddr), element(a)))
}

// declare makes the sets that a group's rules look into.
func (t *transaction) declare(g Group) {
	for _, r := range slices.Concat(g.In, g.Out) {
		if r.Group != "" {
			t.memberSet(r.Group)
		}
	}
}

func (t *transaction) memberSet(id ident.SecurityGroupID) {
	if !t.net.live[members(id)] {
		t.net.live[members(id)] = true
		t.declareSet(t.set(members(id), nftables.TypeIPAddr))
	}
}

// group writes a group's rules.
func (t *transaction) group(id ident.SecurityGroupID) {
	g := t.net.rules(id)
	t.declare(g)
	t.memberSet(id)
	for prefix, rules := range map[string][]Rule{"in-": g.In, "out-": g.Out} {
		c := t.chain(prefix + string(id))
		t.conn.AddChain(c)
		t.conn.FlushChain(c)
		at := uint32(atSource)
		if prefix == "out-" {
			at = atDestination
		}
		for _, r := range rules {
			t.rules(c, rule(r.match(at), accept()))
		}
	}
}

// match is a rule as the kernel has it; the peer's address is at offset of the IP header.
func (r Rule) match(offset uint32) match {
	var m match
	if r.Group != "" {
		m = addressIn(offset, members(r.Group))
	} else {
		m = inPrefix(offset, r.Prefix)
	}
	if r.Protocol != 0 {
		m = append(m, protocol(r.Protocol)...)
	}
	if r.From != 0 || r.To != 0 {
		m = append(m, ports(r.From, r.To)...)
	}
	return m
}

// resolver is where a VPC's DNS is: its base address plus two (VPC User Guide, "Amazon DNS server").
func resolver(cidr netip.Prefix) netip.Addr { return offset(cidr, 2) }

// router is a subnet's first address (VPC User Guide, "Subnet sizing").
func router(subnet netip.Prefix) netip.Addr { return offset(subnet, 1) }

func offset(p netip.Prefix, n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(p.Masked().Addr().AsSlice())+n)
	return netip.AddrFrom4(b)
}
