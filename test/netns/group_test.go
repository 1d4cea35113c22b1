package netns

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/ident"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// soon is how long a connection may take that is refused by silence: the answer does not depend on it, a slow machine only waits longer.
const soon = 300 * time.Millisecond

// cut checks that an established connection carries nothing any more. What is sent may be sent again by TCP for a while: nothing may come back.
func cut(c interface {
	SetDeadline(time.Time) error
	Write([]byte) (int, error)
	Read([]byte) (int, error)
}) bool {
	_ = c.SetDeadline(time.Now().Add(soon))
	_, _ = c.Write([]byte("still there?"))
	n, err := c.Read(make([]byte, 64))
	return n == 0 && err != nil
}

func TestGroupMembersOnlyAreLetIn(t *testing.T) {
	f := open(t, config(t))
	a, b, c := attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg1)), attach(t, f, nic(vpcA, 30, sg2))
	ga, gb, gc := boot(t, f, a), boot(t, f, b), boot(t, f, c)
	// Nobody has told rules: a new group lets nothing in, its own members not excepted.
	ga.ping(gb.ip, "from a stranger")
	allow(t, f, vpcA, sg1)
	gc.ping(gb.ip, "from a stranger")
	ga.ping(gb.ip, "from a member")
	only(t, gb.await("from a member"), "from a member")

	// By joining the group the third is let in, by leaving it no more.
	c.SecurityGroups = append(c.SecurityGroups, sg1)
	attach(t, f, c)
	gc.ping(gb.ip, "from a new member")
	gb.await("from a new member")
	c.SecurityGroups = nil
	attach(t, f, c)
	gc.ping(gb.ip, "from one in no group")
	ga.ping(gb.ip, "from a member")
	only(t, gb.await("from a member"), "from a member")
}

func TestGroupRulesNameProtocolsPortsAndRanges(t *testing.T) {
	f := open(t, config(t))
	attach(t, f, nic(vpcA, 10, sg1))
	attach(t, f, nic(vpcA, 11, sg1))
	attach(t, f, nic(vpcA, 20, sg2))
	err := f.SetGroup(t.Context(), vpcA, sg2, linuxnet.Group{In: []linuxnet.Rule{
		{Protocol: 17, From: 5000, To: 5010, Prefix: netip.MustParsePrefix("10.0.1.10/32")}, {Protocol: 6, From: 22, To: 22, Group: sg1}}})
	if err != nil {
		t.Fatal(err)
	}
	a, other, b := boot(t, f, nic(vpcA, 10)), boot(t, f, nic(vpcA, 11)), boot(t, f, nic(vpcA, 20))
	datagram := func(g *guest, port uint16, mark string) {
		g.ip4(packet{to: b.ip, protocol: 17, payload: udp(1000, port, []byte(mark))})
	}
	for _, port := range []uint16{0, 53, 4999, 5011, 65535} {
		datagram(a, port, "not allowed")
	}
	datagram(other, 5000, "not allowed")
	a.ip4(packet{to: b.ip, protocol: 6, payload: syn(a.ip, b.ip, 1000, 23)})
	a.ping(b.ip, "not allowed")
	datagram(a, 5000, "allowed")
	datagram(a, 5010, "allowed, last")
	if got := b.await("allowed, last"); len(got) != 2 {
		t.Errorf("%d packets came, 2 were allowed:%s", len(got), describe(got))
	}
	for _, g := range []*guest{a, other} {
		p := packet{to: b.ip, protocol: 6, payload: syn(g.ip, b.ip, 1001, 22)}
		g.ip4(p)
		b.await(string(p.payload[:4]))
	}
	b.ping(a.ip, "it may send nothing")
	a.ping(addr("10.0.1.1"), "end")
	only(t, a.await("end"), "end")

	for name, bad := range map[string]linuxnet.Rule{"neither range nor group": {}, "ports of a protocol without": {Protocol: 1, From: 1, To: 2, Group: sg1},
		"ports the wrong way round": {Protocol: 6, From: 2, To: 1, Group: sg1}, "IPv6": {Prefix: netip.MustParsePrefix("::/0")}, "no group's id": {Group: "sg-x"}} {
		if err := f.SetGroup(t.Context(), vpcA, sg2, linuxnet.Group{In: []linuxnet.Rule{bad}}); driver.AsPermanent(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.SetGroup(t.Context(), vpcB, sg2, linuxnet.Group{}); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a VPC that is not there: %v", err)
	}
}

func TestGroupChangesCutTheConnectionsTheyNoLongerAllow(t *testing.T) {
	f := open(t, config(t))
	specs := []driver.NICSpec{attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg1, sg2)), attach(t, f, nic(vpcA, 30, sg1))}
	allow(t, f, vpcA, sg1)
	var m []*machine
	for _, s := range specs {
		m = append(m, start(t, f, s).configure())
	}
	m[1].listen(80)
	first, err := m[0].dial("10.0.1.20:80", patience)
	if err != nil {
		t.Fatal(err)
	}
	second, err := m[2].dial("10.0.1.20:80", patience)
	if err != nil {
		t.Fatal(err)
	}
	if !says(first, "hello", patience) || !says(second, "hello", patience) {
		t.Fatal("connections that are allowed carry nothing")
	}
	// One leaves the group: its connection ends, the other's does not.
	specs[0].SecurityGroups = nil
	attach(t, f, specs[0])
	if !cut(first) {
		t.Error("a connection goes on after its machine has left the group that allowed it")
	}
	if !says(second, "hello again", patience) {
		t.Error("a connection was cut that is still allowed")
	}
	if _, err := m[0].dial("10.0.1.20:80", soon); err == nil {
		t.Error("a machine outside the group connected")
	}
	// The group loses its rule.
	if err := f.SetGroup(t.Context(), vpcA, sg1, linuxnet.Group{}); err != nil {
		t.Fatal(err)
	}
	if !cut(second) {
		t.Error("a connection goes on after its rule is gone")
	}
}

func TestDetachCutsConnectionsAndTheAddressGoesToSomebodyElseWithoutThem(t *testing.T) {
	f := open(t, config(t))
	a, b := attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg1))
	allow(t, f, vpcA, sg1)
	server := start(t, f, b).configure()
	server.listen(80)
	var conn interface {
		SetDeadline(time.Time) error
		Write([]byte) (int, error)
		Read([]byte) (int, error)
	}
	t.Run("while it is used it stays", func(t *testing.T) {
		client := start(t, f, a).configure()
		c, err := client.dial("10.0.1.20:80", patience)
		if err != nil {
			t.Fatal(err)
		}
		if !says(c, "hello", patience) {
			t.Fatal("the connection carries nothing")
		}
		conn = c
		if err := f.Detach(t.Context(), a.InterfaceID); !errors.Is(err, driver.ErrOrder) {
			t.Errorf("detach: %v", err)
		}
		if _, err := f.OpenTap(t.Context(), a.InterfaceID); !errors.Is(err, driver.ErrBusy) {
			t.Errorf("open the tap a second time: %v", err)
		}
		if !says(c, "hello", patience) {
			t.Error("asking disturbed the connection")
		}
	})
	if err := f.Detach(t.Context(), a.InterfaceID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.OpenTap(t.Context(), a.InterfaceID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("open the tap of a detached interface: %v", err)
	}
	if conn == nil || !cut(conn) {
		t.Error("a connection goes on")
	}
	// The next desktop with the address gets nothing that was meant for the first.
	next := nic(vpcA, 10, sg1)
	next.InterfaceID, next.WorkspaceID, next.MAC = "eni-00000000000000fff", "ws-0000000ff", "02:00:00:00:00:ff"
	attach(t, f, next)
	g := boot(t, f, next)
	quiet := boot(t, f, attach(t, f, nic(vpcA, 40, sg1)))
	quiet.ping(g.ip, "new")
	only(t, g.await("new"), "new")
}

func TestAfterARestartTheFabricFindsWhatIsThereAndTheRulesHold(t *testing.T) {
	cfg := config(t)
	f := open(t, cfg)
	a, b, c := attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg1)), attach(t, f, nic(vpcA, 30, sg2))
	attach(t, f, nic(vpcB, 10, sg1))
	allow(t, f, vpcA, sg1)
	if err := f.Hold(t.Context(), network, held[0]); err != nil {
		t.Fatal(err)
	}
	before, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ga, gb, gc := boot(t, f, a), boot(t, f, b), boot(t, f, c)
	if _, err := linuxnet.Open(cfg); err == nil {
		t.Error("two drivers have one directory")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// Without the process the network goes on.
	ga.ping(gb.ip, "nobody watches")
	gb.await("nobody watches")

	f = reopen(t, cfg)
	after, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 4 || len(after) != 4 {
		t.Fatalf("listed %+v, then %+v", before, after)
	}
	for i := range before {
		if before[i].InterfaceID != after[i].InterfaceID || before[i].Address != after[i].Address || len(after[i].SecurityGroups) != 1 || before[i].SecurityGroups[0] != after[i].SecurityGroups[0] {
			t.Errorf("%+v became %+v", before[i], after[i])
		}
	}
	ga.ping(gb.ip, "still allowed")
	gb.await("still allowed")
	gc.ping(gb.ip, "still refused")
	ga.ping(gb.ip, "end")
	only(t, gb.await("end"), "end")
	if err := f.Detach(t.Context(), a.InterfaceID); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("detach what an earlier process opened: %v", err)
	}
	stolen := nic(vpcA, 50)
	stolen.Address = held[0].String()
	stolen.SubnetCIDR = "10.0.2.0/24"
	if _, err := f.Attach(t.Context(), stolen); driver.AsPermanent(err) == nil {
		t.Errorf("attach with a held address: %v", err)
	}
}

func TestAfterARestartNothingHalfMadeIsLeft(t *testing.T) {
	cfg := config(t)
	f := open(t, cfg)
	a := attach(t, f, nic(vpcA, 10, sg1))
	attach(t, f, nic(vpcB, 10, sg1))
	// A tap without an alias is one whose Attach was killed.
	err := f.Enter(t.Context(), vpcA, func() error {
		link, err := netlink.LinkByName(portOf(f, a.InterfaceID).Device)
		return errors.Join(err, makeTap("k0000000000000f"), netlink.LinkDel(link))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// VPC B's namespace is gone, as after a start of the machine.
	if err := unix.Unmount(filepath.Join(cfg.Dir, "netns", string(vpcB)), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	f = reopen(t, cfg)
	if list, err := f.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
	err = f.Enter(t.Context(), vpcA, func() error {
		if _, err := netlink.LinkByName("k0000000000000f"); err == nil {
			t.Error("a half-made tap is left")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(cfg.Dir, "eni")); err != nil || len(left) != 0 {
		t.Errorf("records %v, %v", left, err)
	}
	if err := f.Enter(t.Context(), vpcB, func() error { return nil }); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a VPC that is gone: %v", err)
	}
	// Everything can be made again.
	for _, spec := range []driver.NICSpec{a, nic(vpcB, 10, sg1)} {
		attach(t, f, spec)
		g := boot(t, f, spec)
		g.ping(addr("10.0.1.1"), "back")
		g.await("back")
	}
}

// makeTap makes a tap that stays, as the fabric begins one.
func makeTap(name string) error {
	fd, err := unix.Open(tun(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	return errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, req), unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
}

// portOf gives what the services are told of an interface.
func portOf(f *linuxnet.Fabric, id ident.InterfaceID) linuxnet.Port {
	ports, _ := f.Ports()
	for _, p := range ports {
		if p.NIC.InterfaceID == id {
			return p
		}
	}
	return linuxnet.Port{}
}

func TestATapThatWasTakenAwayIsMadeAnewAndCanBeDetached(t *testing.T) {
	f := open(t, config(t))
	for _, detach := range []bool{false, true} {
		a := attach(t, f, nic(vpcA, 10, sg1))
		before := portOf(f, a.InterfaceID)
		// Whoever has the queue can do this: clear "persistent" and close it.
		err := f.Enter(t.Context(), vpcA, func() error {
			link, err := netlink.LinkByName(before.Device)
			if err != nil {
				return err
			}
			return netlink.LinkDel(link)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.OpenTap(t.Context(), a.InterfaceID); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("open: %v", err)
		}
		if detach {
			if err := f.Detach(t.Context(), a.InterfaceID); err != nil {
				t.Errorf("detach: %v", err)
			}
		}
		attach(t, f, a)
		if after := portOf(f, a.InterfaceID); after.Index == before.Index {
			t.Errorf("the services are not told of the new device: %+v", after)
		}
		g := boot(t, f, a)
		g.send(ethernet(routerMAC, broadcast, typeIPv4, packet{from: g.ip, to: addr("10.0.1.1"), protocol: 1, payload: echo(1, 1, []byte("forged"))}.bytes()))
		g.ping(addr("10.0.1.1"), "honest")
		only(t, g.await("honest"), "honest")
		g.off()
		if err := f.Detach(t.Context(), a.InterfaceID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNET1ReplacingRulesUnderLoadLeaksNothing floods what is refused while the rules are written over and over, by every way there is.
func TestNET1ReplacingRulesUnderLoadLeaksNothing(t *testing.T) {
	cfg := config(t)
	f := open(t, cfg)
	a, b := attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg2))
	ga, gb := boot(t, f, a), boot(t, f, b)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	sent := 0
	flood.Add(1)
	go func() {
		defer flood.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			ga.ip4(packet{to: gb.ip, protocol: 17, payload: udp(uint16(i), 9, []byte("leak"))})
			ga.send(ethernet(routerMAC, ga.mac, typeIPv4, packet{from: addr("10.0.1.99"), to: gb.ip, protocol: 1, payload: echo(1, 1, []byte("leak"))}.bytes()))
			sent += 2
			if i%64 == 0 {
				time.Sleep(time.Millisecond) // Leave the processor to the one who changes the rules.
			}
		}
	}()
	for i := range 15 {
		a.SecurityGroups = append(a.SecurityGroups[:1:1], "sg-0000000000000000f")
		if i%2 == 0 {
			a.SecurityGroups = a.SecurityGroups[:1]
		}
		attach(t, f, a)
		attach(t, f, nic(vpcA, 40, sg2))
		allow(t, f, vpcA, sg1)
		allow(t, f, vpcA, sg2)
		if err := f.Detach(t.Context(), nic(vpcA, 40).InterfaceID); err != nil {
			t.Error(err)
		}
		if i%5 == 4 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			f = reopen(t, cfg)
		}
	}
	close(stop)
	flood.Wait()
	if t.Failed() {
		return
	}
	b.SecurityGroups = append(b.SecurityGroups, sg1)
	attach(t, f, b)
	ga.ping(gb.ip, "end")
	got := gb.await("end")
	only(t, got, "end")
	if sent < 1000 {
		t.Errorf("only %d packets were sent", sent)
	}
	t.Logf("%d packets sent, %d came", sent, len(got)-1)
}

// TestNET1TheSecondLookHoldsWhenTheFirstIsGone removes the chain that sees every frame: addresses are still checked.
func TestNET1TheSecondLookHoldsWhenTheFirstIsGone(t *testing.T) {
	f, a, b := pair(t)
	ns, err := f.Namespace(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	conn.DelTable(&nftables.Table{Name: "carrel", Family: nftables.TableFamilyNetdev})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	a.ip4(packet{from: addr("10.0.1.99"), to: b.ip, protocol: 1, payload: echo(1, 1, []byte("forged"))})
	a.ip4(packet{from: addr("10.0.1.20"), to: b.ip, protocol: 1, payload: echo(1, 1, []byte("forged"))})
	a.ping(b.ip, "honest")
	only(t, b.await("honest"), "honest")
	// Attaching again mends it.
	attach(t, f, a.spec)
	a.send(ethernet(routerMAC, b.mac, typeIPv4, packet{from: a.ip, to: b.ip, protocol: 1, payload: echo(1, 1, []byte("another MAC"))}.bytes()))
	a.ping(b.ip, "honest")
	only(t, b.await("honest"), "honest")
}
