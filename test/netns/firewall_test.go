package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"carrel/internal/driver/linuxnet"
	"carrel/internal/firewall"
)

// hostWithFirewall is a host whose uplink leads to a world with a server at 8.8.4.4:80, and a firewall as Docker makes it: the chain FORWARD of the
// table filter with a policy of drop and rules about its own bridge.
func hostWithFirewall(t *testing.T) (host *os.File, conn *nftables.Conn, table *nftables.Table, forward *nftables.Chain) {
	t.Helper()
	host, world := namespace(t), namespace(t)
	cable(t, host, "wan0", "198.51.100.2/24", world, "isp0", "198.51.100.1/24")
	on(t, world, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr("8.8.4.4/32")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, a)
	})
	route(t, host, "0.0.0.0/0", "198.51.100.1")
	listenIn(t, world, 80)
	conn, err := nftables.New(nftables.WithNetNSFd(int(host.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	drop := nftables.ChainPolicyDrop
	table = conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	forward = conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop})
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: device(expr.MetaKeyIIFNAME, "docker0\x00", expr.VerdictAccept)})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return host, conn, table, forward
}

// device is a rule about a device's name, as iptables -i NAME -j VERDICT makes it; a name without NUL is the beginning of one (carrel+).
func device(key expr.MetaKey, name string, kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(name)}, &expr.Counter{}, &expr.Verdict{Kind: kind}}
}

func TestAFirewallThatDropsWhatDesktopsSendOutIsFoundAndTheRemedyHelps(t *testing.T) {
	host, conn, table, forward := hostWithFirewall(t)
	cfg := config(t)
	cfg.Uplink = linuxnet.Uplink{Interface: "wan0", Namespace: fmt.Sprintf("/proc/self/fd/%d", host.Fd())}
	f := open(t, cfg)
	m := start(t, f, attach(t, f, nic(vpcA, 10, sg1))).configure()
	// What is found is what happens.
	check := func(when string, reaches bool, wait time.Duration) {
		t.Helper()
		found, err := firewall.Forwarding(host)
		if err != nil {
			t.Fatal(err)
		}
		if reaches != (len(found) == 0) {
			t.Errorf("%s: found %v", when, found)
		}
		for _, o := range found {
			if o.String() != "ip filter FORWARD: its policy is to drop" && o.String() != "ip filter FORWARD: its last rule drops" {
				t.Errorf("%s: found %v", when, o)
			}
		}
		if _, err := m.dial("8.8.4.4:80", wait); (err == nil) != reaches {
			t.Errorf("%s: a desktop's connection to the outside: %v", when, err)
		}
	}
	check("with Docker's policy", false, soon)
	add := func(exprs []expr.Any) {
		t.Helper()
		conn.InsertRule(&nftables.Rule{Table: table, Chain: forward, Exprs: exprs})
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	add(device(expr.MetaKeyIIFNAME, firewall.Devices, expr.VerdictAccept))
	check("with half of the remedy", false, soon)
	// iptables -I ... -o carrel+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	answers := device(expr.MetaKeyOIFNAME, firewall.Devices, expr.VerdictAccept)
	answers = append(answers[:2:2], append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}, answers[2:]...)...)
	add(answers)
	check("with the remedy", true, patience)
	accept := nftables.ChainPolicyAccept
	conn.FlushChain(forward)
	conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept})
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	check("with a last rule that drops", false, soon)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	check("without a firewall", true, patience)
	if !strings.Contains(firewall.Remedy, "DOCKER-USER -i "+firewall.Devices+"+ ") {
		t.Error("the remedy does not name the devices")
	}
}
