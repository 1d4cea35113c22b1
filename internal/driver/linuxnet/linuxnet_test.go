package linuxnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

func TestEveryInterfaceHasADeviceNameOfItsOwnThatTheKernelTakes(t *testing.T) {
	seen := map[string]ident.InterfaceID{}
	for digits := 8; digits <= 17; digits++ {
		for _, tail := range []string{"0", "1", "f"} {
			for _, head := range []string{"0", "f"} {
				id := ident.InterfaceID("eni-" + head + strings.Repeat("0", digits-2) + tail)
				if _, err := ident.ParseInterfaceID(string(id)); err != nil {
					t.Fatal(err)
				}
				name := deviceOf(id)
				if other, taken := seen[name]; taken || len(name) > 15 || len(name) < 5 || strings.ContainsAny(name, "/: %") {
					t.Errorf("%s is %q, as is %q", id, name, other)
				}
				if strings.HasPrefix(name, linkPrefix) || name == uplinkName || name == "lo" {
					t.Errorf("%s is %q, a name with another meaning", id, name)
				}
				seen[name] = id
			}
		}
	}
}

func TestWhatADeviceSaysOfItselfIsReadBackAndNothingElseIs(t *testing.T) {
	p, _, err := check(spec())
	if err != nil {
		t.Fatal(err)
	}
	got, ok := parseAlias(p.device, p.alias())
	if !ok || got.alias() != p.alias() || got.nic().Address != "10.0.1.10" || got.nic().WorkspaceID != "ws-f9abcdefg" {
		t.Errorf("%q became %+v, %v", p.alias(), got, ok)
	}
	if len(p.alias()) > 255 {
		t.Errorf("an alias of %d bytes", len(p.alias()))
	}
	for _, bad := range []string{"", "carrel", "other " + strings.TrimPrefix(p.alias(), "carrel "), p.alias() + " more", strings.Replace(p.alias(), "10.0.1.10", "::1", 1),
		strings.Replace(p.alias(), "eni-0", "eni-1", 1), strings.Replace(p.alias(), "02:00:00:00:00:0a", "02:00", 1)} {
		if _, ok := parseAlias(p.device, bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func spec() driver.NICSpec {
	return driver.NICSpec{InterfaceID: "eni-0a1b2c3d4e5f60718", WorkspaceID: "ws-f9abcdefg", VPC: "vpc-0a1b2c3d4e5f60718", Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1.10",
		MAC: "02:00:00:00:00:0a", SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718", "sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}
}

func TestAnInterfaceThatCannotBeIsRefusedWithTheReason(t *testing.T) {
	if p, _, err := check(spec()); err != nil || len(p.rec.Groups) != 1 {
		t.Fatalf("a good one: %+v, %v", p, err)
	}
	for name, spoil := range map[string]func(*driver.NICSpec){
		"no address": func(s *driver.NICSpec) { s.Address = "" }, "IPv6": func(s *driver.NICSpec) { s.Address = "fd00::1" },
		"outside its subnet":                  func(s *driver.NICSpec) { s.Address = "10.0.2.10" },
		"a subnet outside its VPC":            func(s *driver.NICSpec) { s.VPCCIDR = "10.1.0.0/16" },
		"a subnet larger than its VPC":        func(s *driver.NICSpec) { s.VPCCIDR = "10.0.1.0/28" },
		"the network's address":               func(s *driver.NICSpec) { s.Address = "10.0.1.0" },
		"the router's":                        func(s *driver.NICSpec) { s.Address = "10.0.1.1" },
		"the broadcast address":               func(s *driver.NICSpec) { s.Address = "10.0.1.255" },
		"the resolver's":                      func(s *driver.NICSpec) { s.Address, s.SubnetCIDR = "10.0.0.2", "10.0.0.0/24" },
		"a group's MAC":                       func(s *driver.NICSpec) { s.MAC = "03:00:00:00:00:0a" },
		"the router's MAC":                    func(s *driver.NICSpec) { s.MAC = routerMAC.String() },
		"a long MAC":                          func(s *driver.NICSpec) { s.MAC = "02:00:00:00:00:0a:0b:0c" },
		"no MAC":                              func(s *driver.NICSpec) { s.MAC = "00:00:00:00:00:00" },
		"no VPC":                              func(s *driver.NICSpec) { s.VPC = "" },
		"a path for a VPC":                    func(s *driver.NICSpec) { s.VPC = "../../etc" },
		"a path for an interface":             func(s *driver.NICSpec) { s.InterfaceID = "eni-/../../x" },
		"a name for a group":                  func(s *driver.NICSpec) { s.SecurityGroups = []ident.SecurityGroupID{"default"} },
		"a name with a dot":                   func(s *driver.NICSpec) { s.Names.Hostname = "a.b" },
		"a name of 64":                        func(s *driver.NICSpec) { s.Names.Hostname = strings.Repeat("a", 64) },
		"a name that ends in a hyphen":        func(s *driver.NICSpec) { s.Names.Hostname = "a-" },
		"a subnet with bits after its length": func(s *driver.NICSpec) { s.SubnetCIDR = "10.0.1.5/24" },
		"more groups than there may be": func(s *driver.NICSpec) {
			for i := range maxGroups + 1 {
				s.SecurityGroups = append(s.SecurityGroups, ident.SecurityGroupID(fmt.Sprintf("sg-%017x", i)))
			}
		},
	} {
		s := spec()
		spoil(&s)
		if _, _, err := check(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAVPCsRangeIsOneThatCanBe(t *testing.T) {
	f := &Fabric{}
	for _, bad := range []string{"10.0.0.0/8", "10.0.0.0/29", "10.0.0.1/16", "169.254.0.0/16", "127.0.0.0/16", "224.0.0.0/16", "fd00::/16"} {
		_, err := f.network(t.Context(), driver.Network{VPC: "vpc-0a1b2c3d4e5f60718", CIDR: netip.MustParsePrefix(bad)})
		if driver.AsPermanent(err) == nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := f.network(t.Context(), driver.Network{VPC: "vpc", CIDR: netip.MustParsePrefix("10.0.0.0/16")}); driver.AsPermanent(err) == nil {
		t.Errorf("no VPC's id: %v", err)
	}
}

func TestFlowsAreAllowedAsTheRulesSay(t *testing.T) {
	const web, db, idle = ident.SecurityGroupID("sg-00000001"), ident.SecurityGroupID("sg-00000002"), ident.SecurityGroupID("sg-00000003")
	at := func(n string, groups ...ident.SecurityGroupID) *port {
		a := netip.MustParseAddr(n)
		return &port{id: ident.InterfaceID("eni-" + n), address: a, rec: portRecord{Groups: groups}}
	}
	n := &network{rec: networkRecord{CIDR: netip.MustParsePrefix("10.0.0.0/16"), Groups: map[ident.SecurityGroupID]Group{
		web: {Out: newGroup().Out, In: []Rule{{Group: web, Protocol: protocolICMP}}},
		db:  {In: []Rule{{Group: web, Protocol: protocolTCP, From: 5432, To: 5433}, {Prefix: netip.MustParsePrefix("10.0.9.0/24"), Protocol: protocolUDP}}},
	}}, ports: map[ident.InterfaceID]*port{}, routers: map[netip.Addr]bool{netip.MustParseAddr("10.0.1.1"): true}}
	for _, p := range []*port{at("10.0.1.10", web), at("10.0.1.11", web), at("10.0.1.20", db), at("10.0.1.30", idle), at("10.0.9.40", idle), at("10.0.1.50")} {
		n.ports[p.id] = p
	}
	for _, c := range []struct {
		from, to string
		protocol uint8
		port     uint16
		want     bool
	}{
		{"10.0.1.10", "10.0.1.20", 6, 5432, true}, {"10.0.1.10", "10.0.1.20", 6, 5433, true}, {"10.0.1.10", "10.0.1.20", 6, 5434, false}, {"10.0.1.10", "10.0.1.20", 17, 5432, false},
		{"10.0.1.20", "10.0.1.10", 6, 5432, false}, {"10.0.1.10", "10.0.1.11", 1, 0, true}, {"10.0.1.10", "10.0.1.11", 6, 80, false},
		{"10.0.1.30", "10.0.1.20", 6, 5432, false}, {"10.0.9.40", "10.0.1.20", 17, 1, true}, {"10.0.9.40", "10.0.1.20", 6, 5432, false},
		{"10.0.1.10", "8.8.8.8", 6, 443, true}, {"10.0.1.20", "8.8.8.8", 6, 443, false}, {"10.0.1.50", "8.8.8.8", 6, 443, false},
		{"10.0.1.50", "169.254.169.254", 6, 80, true}, {"10.0.1.50", "10.0.0.2", 17, 53, true}, {"10.0.1.50", "10.0.1.1", 1, 0, true},
		{"10.0.1.30", "10.0.1.30", 6, 80, false},
	} {
		fl := flow{netip.MustParseAddr(c.from), netip.MustParseAddr(c.to), c.protocol, c.port}
		if got := n.allows(fl); got != c.want {
			t.Errorf("%+v: %v", fl, got)
		}
	}
}

func TestRecordsAreWrittenWholeAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vpc.json")
	want := networkRecord{CIDR: netip.MustParsePrefix("10.0.0.0/16"), Transit: 3, Held: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Groups: map[ident.SecurityGroupID]Group{"sg-00000001": {In: []Rule{{Group: "sg-00000001"}, {Prefix: netip.MustParsePrefix("10.0.0.0/8"), Protocol: 6, From: 1, To: 2}}}}}
	var got networkRecord
	if err := load(path, &got); err != nil || got.CIDR.IsValid() {
		t.Errorf("none there: %+v, %v", got, err)
	}
	for range 2 {
		if err := save(path, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := load(path, &got); err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v became %+v, %v", want, got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte(`{"CIDR": 5`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(path, &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken one: %v", err)
	}
}

func TestOpenRefusesWhatItCannotBeSafeWith(t *testing.T) {
	dir := t.TempDir()
	tun := filepath.Join(dir, "tun")
	if err := os.WriteFile(tun, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no directory":                 {TunDevice: tun},
		"a relative directory":         {Dir: "net", TunDevice: tun},
		"a directory others may enter": {Dir: open, TunDevice: tun},
		"no tun device":                {Dir: filepath.Join(dir, "net"), TunDevice: filepath.Join(dir, "none")},
		"an MTU nobody can use":        {Dir: filepath.Join(dir, "net"), TunDevice: tun, MTU: 100},
		"IPv6 transit":                 {Dir: filepath.Join(dir, "net"), TunDevice: tun, Uplink: Uplink{Interface: "lo", Transit: netip.MustParsePrefix("fd00::/64")}},
	} {
		if f, err := Open(cfg); err == nil {
			t.Errorf("%s: opened", name)
			f.Close()
		}
	}
}
