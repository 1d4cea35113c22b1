package linuxnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Group is the rules of a security group. What no rule allows is refused; connections that were allowed may answer.
type Group struct {
	// In are who may begin a connection to a member, Out whom a member may begin one to.
	In  []Rule `json:",omitempty"`
	Out []Rule `json:",omitempty"`
}

// Rule allows connections with a peer: with an address in Prefix, or with a member of Group.
type Rule struct {
	// Protocol is IP's number (6: TCP); 0: all.
	Protocol uint8 `json:",omitempty"`
	// From and To bound the destination port of TCP and UDP; both 0: all.
	From   uint16                `json:",omitempty"`
	To     uint16                `json:",omitempty"`
	Prefix netip.Prefix          `json:",omitzero"`
	Group  ident.SecurityGroupID `json:",omitempty"`
}

const (
	protocolICMP = 1
	protocolTCP  = 6
	protocolUDP  = 17
)

// maxRules of a group in one direction: AWS's default quota is 60.
const maxRules = 1000

// New is the rules of a security group nobody has told rules of: everything out, nothing in, as AWS makes a new group.
func newGroup() Group {
	return Group{Out: []Rule{{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}}
}

func (g Group) check() error {
	if len(g.In) > maxRules || len(g.Out) > maxRules {
		return fmt.Errorf("more than %d rules in one direction", maxRules)
	}
	for _, r := range slices.Concat(g.In, g.Out) {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r Rule) check() error {
	switch ports := r.From != 0 || r.To != 0; {
	case r.Prefix.IsValid() == (r.Group != ""):
		return errors.New("a rule names either a range of addresses or a group")
	case r.Group == "" && !r.Prefix.Addr().Is4():
		return fmt.Errorf("%s is not a range of IPv4 addresses", r.Prefix)
	case ports && r.Protocol != protocolTCP && r.Protocol != protocolUDP:
		return fmt.Errorf("protocol %d has no ports", r.Protocol)
	case r.To < r.From:
		return fmt.Errorf("ports %d to %d", r.From, r.To)
	}
	if r.Group != "" {
		if _, err := ident.ParseSecurityGroupID(string(r.Group)); err != nil {
			return err
		}
	}
	return nil
}

// SetGroup gives a security group of a VPC its rules, for its members now and later. Connections that the new rules do not allow are
// cut. ErrNotFound: the host has no such VPC. PermanentError: a rule that cannot be.
func (f *Fabric) SetGroup(ctx context.Context, vpc ident.VPCID, id ident.SecurityGroupID, g Group) error {
	if _, err := ident.ParseSecurityGroupID(string(id)); err != nil {
		return driver.Permanent("InvalidGroup", err)
	}
	if err := g.check(); err != nil {
		return driver.Permanent("InvalidGroup", fmt.Errorf("%s: %w", id, err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	n := f.nets[vpc]
	f.mu.Unlock()
	if n == nil {
		return driver.ErrNotFound
	}
	if err := n.take(); err != nil {
		return err
	}
	defer n.mu.Unlock()
	old := n.rec
	n.rec.Groups = maps.Clone(n.rec.Groups)
	if n.rec.Groups == nil {
		n.rec.Groups = map[ident.SecurityGroupID]Group{}
	}
	n.rec.Groups[id] = g
	if err := save(n.recordPath, n.rec); err != nil {
		n.rec = old
		return fmt.Errorf("set group %s: %w", id, err)
	}
	err := n.change(func(t *transaction) {
		t.declare(g)
		t.group(id)
	})
	if err != nil {
		return fmt.Errorf("set group %s: %w", id, err)
	}
	return n.cut(func(fl flow) bool { return n.concerns(id, fl) && !n.allows(fl) })
}

// rules gives a group's.
func (n *network) rules(id ident.SecurityGroupID) Group {
	if g, ok := n.rec.Groups[id]; ok {
		return g
	}
	return newGroup()
}

// flow is a connection as it was begun.
type flow struct {
	from, to netip.Addr
	protocol uint8
	port     uint16
}

// at gives the port that has an address, nil when none has.
func (n *network) at(a netip.Addr) *port {
	for _, p := range n.ports {
		if p.address == a {
			return p
		}
	}
	return nil
}

// concerns tells whether one end of a flow is in a group.
func (n *network) concerns(id ident.SecurityGroupID, fl flow) bool {
	for _, a := range []netip.Addr{fl.from, fl.to} {
		if p := n.at(a); p != nil && slices.Contains(p.rec.Groups, id) {
			return true
		}
	}
	return false
}

// allows tells what the rules in the kernel say to a flow that begins now: it is how flows are found that must end.
func (n *network) allows(fl flow) bool {
	if from := n.at(fl.from); from != nil && !n.service(fl) && !n.passes(from, fl, false) {
		return false
	}
	if to := n.at(fl.to); to != nil && !n.passes(to, fl, true) {
		return false
	}
	return true
}

// service tells whether a flow is one to the services that every desktop has; no group governs those, as in AWS.
func (n *network) service(fl flow) bool {
	return fl.to == metadataAddress || fl.to == resolverAddress || fl.to == resolver(n.rec.CIDR) || n.routers[fl.to]
}

// passes tells whether a port's groups let a flow in or out.
func (n *network) passes(p *port, fl flow, in bool) bool {
	for _, id := range p.rec.Groups {
		g, peer := n.rules(id), fl.to
		rules := g.Out
		if in {
			rules, peer = g.In, fl.from
		}
		for _, r := range rules {
			if n.matches(r, fl, peer) {
				return true
			}
		}
	}
	return false
}

func (n *network) matches(r Rule, fl flow, peer netip.Addr) bool {
	if r.Protocol != 0 && r.Protocol != fl.protocol {
		return false
	}
	if (r.From != 0 || r.To != 0) && (fl.port < r.From || fl.port > r.To) {
		return false
	}
	if r.Group == "" {
		return r.Prefix.Contains(peer)
	}
	p := n.at(peer)
	return p != nil && slices.Contains(p.rec.Groups, r.Group)
}
