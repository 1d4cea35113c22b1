// Package firewall looks at the host's own firewall: whether it would drop what desktops send out, which no rule of Carrel's can undo, because
// every chain that a packet passes decides anew (Docker sets the policy of FORWARD to DROP, firewalld and ufw end it with a refusal).
//
// It refuses to change anything, and to judge more than it can see: a chain that drops by default is an obstacle unless its table has rules
// that accept the desktops' devices by name.
package firewall

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Devices begins the names of the devices by which desktops' packets reach the host (linuxnet's links to the VPCs).
const Devices = "carrel"

// own is the name of Carrel's tables.
const own = "carrel"

// Remedy is what an administrator does about an obstacle.
const Remedy = "let desktops through: with Docker, iptables -I DOCKER-USER -i " + Devices + "+ -j ACCEPT and " +
	"iptables -I DOCKER-USER -o " + Devices + "+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; with ufw or plain iptables the same in FORWARD; " +
	"and keep the rules over a restart. Carrel's own table goes on deciding what desktops reach"

// Obstacle is a chain of the host's firewall that drops desktops' packets.
type Obstacle struct {
	// Chain is "ip filter FORWARD".
	Chain string
	// Why says what it does.
	Why string
}

func (o Obstacle) String() string { return o.Chain + ": " + o.Why }

// Forwarding gives the obstacles in the network namespace of the calling thread, or in ns when it is not nil. An error: the firewall cannot be
// read (it takes CAP_NET_ADMIN).
func Forwarding(ns *os.File) ([]Obstacle, error) {
	var options []nftables.ConnOption
	if ns != nil {
		options = append(options, nftables.WithNetNSFd(int(ns.Fd())))
	}
	conn, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	var found []Obstacle
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || !concerns(c.Table) {
			continue
		}
		why, err := drops(conn, c)
		if err != nil {
			return nil, err
		}
		if why == "" {
			continue
		}
		admits, err := admitted(conn, c.Table, chains)
		if err != nil {
			return nil, err
		}
		if !admits {
			found = append(found, Obstacle{family(c.Table.Family) + " " + c.Table.Name + " " + c.Name, why})
		}
	}
	if ns == nil {
		found = append(found, legacy("/proc/thread-self/net/ip_tables_names")...)
	}
	return found, nil
}

// concerns tells whether a table sees desktops' packets, which are IPv4, and is not Carrel's.
func concerns(t *nftables.Table) bool {
	return t.Name != own && (t.Family == nftables.TableFamilyIPv4 || t.Family == nftables.TableFamilyINet)
}

func family(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

// drops says how a chain ends for what no rule of it accepts; "": it lets it pass.
func drops(conn *nftables.Conn, c *nftables.Chain) (string, error) {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return "its policy is to drop", nil
	}
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return "", fmt.Errorf("firewall: rules of %s: %w", c.Name, err)
	}
	if len(rules) == 0 {
		return "", nil
	}
	// A rule at the end that asks nothing.
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			if e.Kind == expr.VerdictDrop {
				return "its last rule drops", nil
			}
			return "", nil
		case *expr.Reject:
			return "its last rule rejects", nil
		case *expr.Target:
			if e.Name == "REJECT" || e.Name == "DROP" {
				return "its last rule rejects", nil
			}
			return "", nil
		default:
			return "", nil
		}
	}
	return "", nil
}

// admitted tells whether rules of a table accept what comes from the desktops' devices and what goes to them.
func admitted(conn *nftables.Conn, table *nftables.Table, chains []*nftables.Chain) (bool, error) {
	from, to := false, false
	for _, c := range chains {
		if c.Table.Name != table.Name || c.Table.Family != table.Family {
			continue
		}
		rules, err := conn.GetRules(table, c)
		if err != nil {
			return false, fmt.Errorf("firewall: rules of %s: %w", c.Name, err)
		}
		for _, r := range rules {
			from = from || accepts(r, expr.MetaKeyIIFNAME)
			to = to || accepts(r, expr.MetaKeyOIFNAME)
		}
	}
	return from && to, nil
}

// accepts tells whether a rule compares a device's name with the desktops' and accepts.
func accepts(r *nftables.Rule, key expr.MetaKey) bool {
	register, names := uint32(0), false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			if e.Key == key && !e.SourceRegister {
				register = e.Register
			}
		case *expr.Cmp:
			if register != 0 && e.Register == register {
				names = names || e.Op == expr.CmpOpEq && bytes.HasPrefix(e.Data, []byte(Devices))
			}
		case *expr.Verdict:
			return names && e.Kind == expr.VerdictAccept
		}
	}
	return false
}

// legacy is a filter table of the older iptables, which is not read: that it is there is all that is known.
func legacy(path string) []Obstacle {
	b, err := os.ReadFile(path)
	if err != nil || !slices.Contains(strings.Fields(string(b)), "filter") {
		return nil
	}
	return []Obstacle{{"iptables-legacy filter FORWARD", "it is in use and cannot be read here: see iptables-legacy -S FORWARD"}}
}
