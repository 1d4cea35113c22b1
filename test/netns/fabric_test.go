package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/driver/drivertest"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/ident"

	"github.com/vishvananda/netlink"
)

const (
	vpcA = ident.VPCID("vpc-0000000000000000a")
	vpcB = ident.VPCID("vpc-0000000000000000b")
	sg1  = ident.SecurityGroupID("sg-00000000000000001")
	sg2  = ident.SecurityGroupID("sg-00000000000000002")
)

var network = driver.Network{VPC: vpcA, CIDR: netip.MustParsePrefix("10.0.0.0/16")}

// together is the rules of a group whose members may talk to each other, as a VPC's default group has them.
func together(id ident.SecurityGroupID) linuxnet.Group {
	return linuxnet.Group{In: []linuxnet.Rule{{Group: id}}, Out: []linuxnet.Rule{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}}
}

// nic is the n-th interface of a VPC: address 10.0.1.n.
func nic(vpc ident.VPCID, n int, groups ...ident.SecurityGroupID) driver.NICSpec {
	tail := string(vpc[len(vpc)-1:])
	return driver.NICSpec{
		InterfaceID: ident.InterfaceID(fmt.Sprintf("eni-%016x%s", n, tail)), WorkspaceID: ident.WorkspaceID(fmt.Sprintf("ws-%08d%s", n, tail)), VPC: vpc,
		Subnet: "subnet-0000000000000000a", Address: fmt.Sprintf("10.0.1.%d", n), MAC: net.HardwareAddr{2, 0, 0, 0, vpc[len(vpc)-1], byte(n)}.String(),
		SecurityGroups: groups, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24",
	}
}

func config(t *testing.T) linuxnet.Config {
	return linuxnet.Config{Dir: t.TempDir() + "/net", TunDevice: os.Getenv(tunVariable)}
}

// open opens a fabric that is closed at the end of the test, with everything in it removed.
func open(t *testing.T, cfg linuxnet.Config) *linuxnet.Fabric {
	t.Helper()
	f, err := linuxnet.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tidy(t, f, cfg) })
	return f
}

// reopen opens what another has closed, as the next process does.
func reopen(t *testing.T, cfg linuxnet.Config) *linuxnet.Fabric {
	t.Helper()
	f, err := linuxnet.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// tidy removes everything.
func tidy(t *testing.T, f *linuxnet.Fabric, cfg linuxnet.Config) {
	_ = f.Close() // The test may have done so.
	f, err := linuxnet.Open(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	ctx := context.Background() // The test's own has ended.
	all, err := f.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, n := range all {
		if err := f.Detach(ctx, n.InterfaceID); err != nil {
			t.Error(err)
		}
	}
	for _, vpc := range []ident.VPCID{vpcA, vpcB, "vpc-0a1b2c3d4e5f60718", "vpc-0a1b2c3d4e5f60719"} {
		for _, a := range held {
			if err := f.Drop(ctx, vpc, a); err != nil {
				t.Error(err)
			}
		}
		if err := f.RemoveNetwork(ctx, vpc); err != nil {
			t.Error(err)
		}
	}
}

var held = []netip.Addr{netip.MustParseAddr("10.0.2.10")}

func attach(t *testing.T, f *linuxnet.Fabric, spec driver.NICSpec) driver.NICSpec {
	t.Helper()
	if _, err := f.Attach(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestTheFabricConforms(t *testing.T) {
	drivertest.Fabric(t, func(t *testing.T) drivertest.Set {
		cfg := config(t)
		f := open(t, cfg)
		var set func(f *linuxnet.Fabric) drivertest.Set
		set = func(f *linuxnet.Fabric) drivertest.Set {
			return drivertest.Set{Fabric: f,
				Busy: func(t *testing.T, _ []driver.VolumeID, nic ident.InterfaceID) func() {
					tap, err := f.OpenTap(t.Context(), nic)
					if err != nil {
						t.Fatal(err)
					}
					return func() { tap.File.Close() }
				},
				Reopen: func(t *testing.T) drivertest.Set {
					if err := f.Close(); err != nil {
						t.Fatal(err)
					}
					return set(reopen(t, cfg))
				}}
		}
		return set(f)
	})
}

func TestManyCallsAtOnceLeaveWhatWasAskedFor(t *testing.T) {
	f := open(t, config(t))
	var all sync.WaitGroup
	for _, vpc := range []ident.VPCID{vpcA, vpcB} {
		for n := 10; n < 22; n++ {
			all.Go(func() {
				spec := nic(vpc, n, sg1)
				for round := range 3 {
					spec.SecurityGroups = []ident.SecurityGroupID{sg1, sg2}[:1+round%2]
					if _, err := f.Attach(t.Context(), spec); err != nil {
						t.Error(err)
					}
					if n%2 == 1 {
						if err := f.Detach(t.Context(), spec.InterfaceID); err != nil {
							t.Error(err)
						}
					}
				}
			})
			// Two calls on one interface: the second is told that it is one too many, or comes after the first.
			all.Go(func() {
				if _, err := f.Attach(t.Context(), nic(vpc, 200, sg1)); err != nil && !errors.Is(err, driver.ErrBusy) {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	list, err := f.List(t.Context())
	if err != nil || len(list) != 2*(6+1) {
		t.Errorf("%d interfaces, want 14: %v", len(list), err)
	}
	for _, n := range list {
		if n.Address != "10.0.1.200" && (len(n.SecurityGroups) != 1 || n.SecurityGroups[0] != sg1) {
			t.Errorf("%+v", n)
		}
	}
}

func TestANetworkThatIsRemovedLeavesNothing(t *testing.T) {
	host, world := namespace(t), namespace(t)
	cable(t, host, "eth0", "198.51.100.2/24", world, "isp0", "198.51.100.1/24")
	cfg := config(t)
	cfg.Uplink = linuxnet.Uplink{Interface: "eth0", Namespace: fmt.Sprintf("/proc/self/fd/%d", host.Fd())}
	f := open(t, cfg)
	serve(t, f, nil)
	g := boot(t, f, attach(t, f, nic(vpcA, 10, sg1)))
	if err := f.Hold(t.Context(), network, held[0]); err != nil {
		t.Fatal(err)
	}
	links := func() (names []string) {
		on(t, host, func() error {
			all, err := netlink.LinkList()
			for _, l := range all {
				names = append(names, l.Attrs().Name)
			}
			return err
		})
		return names
	}
	if all, err := f.ListNetworks(t.Context()); err != nil || !slices.Equal(all, []ident.VPCID{vpcA}) || !slices.Contains(links(), "carrel1") {
		t.Fatalf("%v, %v, links %v", all, err, links())
	}
	refused := func(why string) {
		t.Helper()
		if err := f.RemoveNetwork(t.Context(), vpcA); !errors.Is(err, driver.ErrOrder) {
			t.Errorf("removed with %s: %v", why, err)
		}
	}
	refused("a desktop and an address of the host's")
	g.off()
	if err := f.Detach(t.Context(), nic(vpcA, 10).InterfaceID); err != nil {
		t.Fatal(err)
	}
	refused("an address of the host's")
	if err := f.Drop(t.Context(), vpcA, held[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 { // Gone already: success.
		if err := f.RemoveNetwork(t.Context(), vpcA); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := f.ListNetworks(t.Context()); err != nil || len(all) != 0 || slices.Contains(links(), "carrel1") {
		t.Errorf("%v, %v, links %v", all, err, links())
	}
	for _, dir := range []string{"netns", "vpc", "eni"} {
		if left, err := os.ReadDir(filepath.Join(cfg.Dir, dir)); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), cfg.Dir) {
		t.Errorf("something is mounted in %s still, or %v", cfg.Dir, err)
	}
	// And it can be made again.
	attach(t, f, nic(vpcA, 10, sg1))
}
