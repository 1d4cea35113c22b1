package netns

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"carrel/internal/driver/linuxnet"
	"carrel/internal/ident"

	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// pair gives two desktops of one VPC whose group lets them talk to each other.
func pair(t *testing.T) (f *linuxnet.Fabric, a, b *guest) {
	t.Helper()
	f = open(t, config(t))
	one, two := attach(t, f, nic(vpcA, 10, sg1)), attach(t, f, nic(vpcA, 20, sg1))
	allow(t, f, vpcA, sg1)
	return f, boot(t, f, one), boot(t, f, two)
}

func allow(t *testing.T, f *linuxnet.Fabric, vpc ident.VPCID, id ident.SecurityGroupID) {
	t.Helper()
	if err := f.SetGroup(t.Context(), vpc, id, together(id)); err != nil {
		t.Fatal(err)
	}
}

// only checks that nothing has come but packets with the mark.
func only(t *testing.T, frames [][]byte, mark string) {
	t.Helper()
	for _, f := range frames {
		if !bytes.Contains(f, []byte(mark)) {
			t.Errorf("a packet came that must not: %x", f)
		}
	}
}

func TestTwoVPCsWithTheSameAddressesNeverSeeEachOther(t *testing.T) {
	f := open(t, config(t))
	var guests []*guest
	for _, vpc := range []ident.VPCID{vpcA, vpcB} {
		for _, n := range []int{10, 20} {
			attach(t, f, nic(vpc, n, sg1))
		}
		allow(t, f, vpc, sg1)
		guests = append(guests, boot(t, f, nic(vpc, 10, sg1)), boot(t, f, nic(vpc, 20, sg1)))
	}
	a10, a20, b10, b20 := guests[0], guests[1], guests[2], guests[3]
	const rounds = 50
	for range rounds {
		a10.ping(a20.ip, "from VPC A")
		b10.ping(b20.ip, "from VPC B")
		// Each with the other's MAC, too, as one who knows it would try.
		a10.send(ethernet(b20.mac, a10.mac, typeIPv4, packet{from: a10.ip, to: b20.ip, protocol: 17, payload: udp(9, 9, []byte("stray A"))}.bytes()))
		b10.send(ethernet(a20.mac, b10.mac, typeIPv4, packet{from: b10.ip, to: a20.ip, protocol: 17, payload: udp(9, 9, []byte("stray B"))}.bytes()))
	}
	a10.ping(a20.ip, "from VPC A, last")
	b10.ping(b20.ip, "from VPC B, last")
	inA, inB := a20.await("from VPC A, last"), b20.await("from VPC B, last")
	only(t, inA, "from VPC A")
	only(t, inB, "from VPC B")
	if len(inA) != rounds+1 || len(inB) != rounds+1 {
		t.Errorf("%d and %d packets came, %d were sent in each VPC", len(inA), len(inB), rounds+1)
	}
	for _, g := range []*guest{a10, b10} {
		if got := g.received(); len(got) > 0 {
			t.Errorf("a sender got %d packets:%s", len(got), describe(got))
		}
	}
}

func TestNET1NothingButAGuestsOwnPacketsPasses(t *testing.T) {
	_, a, b := pair(t)
	third := addr("10.0.1.30")
	mark := []byte("hostile")
	ping := func(from, to netip.Addr) []byte {
		return packet{from: from, to: to, protocol: 1, payload: echo(1, 1, mark)}.bytes()
	}
	good := ethernet(routerMAC, a.mac, typeIPv4, ping(a.ip, b.ip))
	router := addr("10.0.1.1")
	ipv6 := func(next byte, to string, payload []byte) []byte {
		p := make([]byte, 40)
		p[0], p[6], p[7] = 0x60, next, 255
		binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
		copy(p[8:], net.ParseIP("fe80::1"))
		copy(p[24:], net.ParseIP(to))
		return append(p, payload...)
	}
	dhcpOffer := make([]byte, 300)
	copy(dhcpOffer, []byte{2, 1, 6, 0})
	copy(dhcpOffer[236:], mark)
	longPing := echo(1, 1, bytes.Repeat(mark, 300))
	attacks := []struct {
		name   string
		frames [][]byte
	}{
		{"another MAC", [][]byte{ethernet(routerMAC, b.mac, typeIPv4, ping(a.ip, b.ip)), ethernet(routerMAC, net.HardwareAddr{2, 9, 9, 9, 9, 9}, typeIPv4, ping(a.ip, b.ip)),
			ethernet(routerMAC, routerMAC, typeIPv4, ping(a.ip, b.ip))}},
		{"another address", [][]byte{ethernet(routerMAC, a.mac, typeIPv4, ping(third, b.ip)), ethernet(routerMAC, a.mac, typeIPv4, ping(b.ip, b.ip)),
			ethernet(routerMAC, a.mac, typeIPv4, ping(router, b.ip)), ethernet(routerMAC, a.mac, typeIPv4, ping(addr("169.254.169.254"), b.ip)),
			ethernet(routerMAC, a.mac, typeIPv4, ping(addr("127.0.0.1"), b.ip)), ethernet(routerMAC, a.mac, typeIPv4, ping(addr("0.0.0.0"), b.ip)),
			ethernet(routerMAC, a.mac, typeIPv4, ping(addr("255.255.255.255"), b.ip))}},
		{"a frame to the other desktop's MAC", [][]byte{ethernet(b.mac, a.mac, typeIPv4, ping(a.ip, b.ip))}},
		{"broadcast and multicast", slices.Repeat([][]byte{ethernet(broadcast, a.mac, typeIPv4, ping(a.ip, b.ip)), ethernet(broadcast, a.mac, typeIPv4, ping(a.ip, addr("255.255.255.255"))),
			ethernet(broadcast, a.mac, typeIPv4, ping(a.ip, addr("10.0.1.255"))), ethernet(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, a.mac, typeIPv4, ping(a.ip, addr("224.0.0.1"))),
			ethernet(routerMAC, a.mac, typeIPv4, ping(a.ip, addr("10.0.1.255"))), ethernet(routerMAC, a.mac, typeIPv4, ping(a.ip, addr("239.1.2.3")))}, 500)},
		{"VLAN tags", [][]byte{tagged(typeVLAN, 0, good), tagged(typeVLAN, 7, good), tagged(typeQinQ, 7, good), tagged(typeVLAN, 5, tagged(typeVLAN, 6, good)), tagged(typeQinQ, 0, tagged(typeVLAN, 0, good))}},
		{"IPv6, neighbour and router advertisements", [][]byte{
			ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, a.mac, typeIPv6, ipv6(58, "ff02::1", append([]byte{134, 0, 0, 0}, mark...))),
			ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, a.mac, typeIPv6, ipv6(58, "ff02::1", append([]byte{136, 0, 0, 0}, mark...))),
			ethernet(routerMAC, a.mac, typeIPv6, ipv6(58, "fe80::2", echo(1, 1, mark))), ethernet(routerMAC, a.mac, typeIPv6, ipv6(17, "ff02::1:2", udp(546, 547, mark)))}},
		{"other protocols than IPv4 and ARP", [][]byte{ethernet(broadcast, a.mac, 0x88cc, mark), ethernet(broadcast, a.mac, 0x8863, mark), ethernet(b.mac, a.mac, 0x88e5, mark), ethernet(routerMAC, a.mac, 40, append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, good[14:]...))}},
		{"a DHCP server", [][]byte{ethernet(broadcast, a.mac, typeIPv4, packet{from: a.ip, to: addr("255.255.255.255"), protocol: 17, payload: udp(67, 68, dhcpOffer)}.bytes()),
			ethernet(b.mac, a.mac, typeIPv4, packet{from: a.ip, to: b.ip, protocol: 17, payload: udp(67, 68, dhcpOffer)}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: a.ip, to: b.ip, protocol: 17, payload: udp(67, 68, dhcpOffer)}.bytes()),
			ethernet(broadcast, a.mac, typeIPv4, packet{from: addr("0.0.0.0"), to: addr("255.255.255.255"), protocol: 17, payload: udp(67, 68, dhcpOffer)}.bytes())}},
		{"DHCP's way for other things", [][]byte{ethernet(broadcast, a.mac, typeIPv4, packet{from: addr("0.0.0.0"), to: addr("255.255.255.255"), protocol: 17, payload: udp(68, 53, mark)}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: addr("0.0.0.0"), to: b.ip, protocol: 17, payload: udp(68, 67, mark)}.bytes())}},
		{"fragments of another's packet", [][]byte{
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: third, to: b.ip, protocol: 1, id: 9, more: true, payload: longPing[:800]}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: third, to: b.ip, protocol: 1, id: 9, fragment: 800, payload: longPing[800:]}.bytes())}},
		{"a fragment alone, and overlapping ones", [][]byte{
			ethernet(routerMAC, a.mac, typeIPv4, packet{to: b.ip, from: a.ip, protocol: 1, id: 10, fragment: 800, payload: longPing[800:]}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{to: b.ip, from: a.ip, protocol: 6, id: 11, more: true, payload: syn(a.ip, b.ip, 1, 2)[:8]}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{to: b.ip, from: a.ip, protocol: 6, id: 11, more: true, payload: mark}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{to: b.ip, from: a.ip, protocol: 6, id: 11, fragment: 8, payload: append(syn(a.ip, b.ip, 1, 2)[8:], mark...)}.bytes())}},
		{"ARP that says something about others", [][]byte{
			ethernet(broadcast, a.mac, typeARP, arp{op: 2, senderMAC: a.mac, sender: router, targetMAC: b.mac, target: b.ip}.bytes()),
			ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: a.mac, sender: router, target: router}.bytes()),
			ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: a.mac, sender: b.ip, target: b.ip}.bytes()),
			ethernet(b.mac, a.mac, typeARP, arp{op: 2, senderMAC: a.mac, sender: b.ip, targetMAC: b.mac, target: b.ip}.bytes()),
			ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: b.mac, sender: a.ip, target: router}.bytes()),
			ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: a.mac, sender: a.ip, target: router, hlen: 8, plen: 4, htype: 1}.bytes()),
			ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: a.mac, sender: third, target: router}.bytes()[:20])}},
		{"addresses of the link and of the host", [][]byte{
			ethernet(routerMAC, a.mac, typeIPv4, ping(a.ip, addr("127.0.0.1"))), ethernet(routerMAC, a.mac, typeIPv4, ping(a.ip, addr("169.254.1.1"))),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: a.ip, to: addr("169.254.169.254"), protocol: 6, payload: syn(a.ip, addr("169.254.169.254"), 1, 22)}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: a.ip, to: router, protocol: 6, payload: syn(a.ip, router, 1, 22)}.bytes()),
			ethernet(routerMAC, a.mac, typeIPv4, packet{from: third, to: addr("169.254.169.254"), protocol: 6, payload: syn(third, addr("169.254.169.254"), 1, 80)}.bytes())}},
		{"garbage", [][]byte{ethernet(routerMAC, a.mac, typeIPv4, []byte{0x45}), ethernet(routerMAC, a.mac, typeIPv4, bytes.Repeat([]byte{0x4f}, 30)), make([]byte, 14), good[:33]}},
	}
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			a.t, b.t = t, t
			for _, frame := range attack.frames {
				a.send(frame)
			}
			a.ping(b.ip, "may pass")
			only(t, b.await("may pass"), "may pass")
			// The router itself answers nothing of it either. Its answer to the ping after it is what shows that it has had its turn.
			a.ping(router, "and answer")
			only(t, a.await("and answer"), "and answer")
		})
	}
	a.t, b.t = t, t
	t.Run("and a whole packet in honest fragments passes", func(t *testing.T) {
		a.ip4(packet{to: b.ip, protocol: 1, id: 12, more: true, payload: longPing[:1000]})
		a.ip4(packet{to: b.ip, protocol: 1, id: 12, fragment: 1000, payload: longPing[1000:]})
		b.await("hostile")
	})
	t.Run("and the router answers for everybody in the subnet, at once", func(t *testing.T) {
		for _, target := range []netip.Addr{router, b.ip} {
			a.send(ethernet(broadcast, a.mac, typeARP, arp{op: 1, senderMAC: a.mac, sender: a.ip, target: target}.bytes()))
			reply := slices.Concat([]byte{0, 2}, routerMAC, target.AsSlice(), a.mac, a.ip.AsSlice())
			a.await(string(reply))
		}
	})
}

// TestNET1AFloodOfBeginningsLeavesRoomForOthers: connections are kept in a table that the whole VPC shares.
func TestNET1AFloodOfBeginningsLeavesRoomForOthers(t *testing.T) {
	f, a, b := pair(t)
	const flood = 30000
	for i := range flood {
		// To where nobody is, to the resolver and to its neighbour: forwarded or not, each would be a connection of its own.
		to := []netip.Addr{b.ip, addr("10.0.0.2"), addr("8.8.8.8")}[i%3]
		a.ip4(packet{to: to, protocol: 17, payload: udp(uint16(1024+i/3), 53, []byte("flood"))})
	}
	kept := 0
	err := f.Enter(t.Context(), vpcA, func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err == nil {
			kept, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d are kept", kept, flood)
	if kept > 4200 {
		t.Errorf("%d of %d connections are kept, a desktop may have 4096", kept, flood)
	}
	b.ping(addr("10.0.1.1"), "others go on")
	b.await("others go on")
}

// TestVMM5WhoHasATapsDescriptorHasThatTapOnly does what a hostile machine process can do with the one descriptor it was given.
func TestVMM5WhoHasATapsDescriptorHasThatTapOnly(t *testing.T) {
	f := open(t, config(t))
	attach(t, f, nic(vpcA, 10, sg1))
	attach(t, f, nic(vpcA, 20, sg1))
	attach(t, f, nic(vpcB, 10, sg1))
	allow(t, f, vpcA, sg1)
	b := boot(t, f, nic(vpcA, 20))
	a := boot(t, f, nic(vpcA, 10))
	raw, err := a.tap.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	control := func(fn func(fd int)) {
		if err := raw.Control(func(fd uintptr) { fn(int(fd)) }); err != nil {
			t.Fatal(err)
		}
	}
	control(func(fd int) {
		for _, device := range []string{portOf(f, nic(vpcA, 20).InterfaceID).Device, portOf(f, nic(vpcB, 10).InterfaceID).Device, "new0", "lo"} {
			req, err := unix.NewIfreq(device)
			if err != nil {
				t.Fatal(err)
			}
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err == nil {
				t.Errorf("the descriptor was moved to %s", device)
			}
		}
		// It may give the host's end another MAC and another header size; that changes what it gets itself and nobody else.
		req := [40]byte{16: 1}
		copy(req[18:], b.mac)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req[0]))); errno != 0 {
			t.Logf("the kernel lets it not change the MAC: %v", errno)
		}
		_ = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12)
		_ = unix.IoctlSetInt(fd, unix.TUNSETOWNER, nobody)
	})
	b.ping(addr("10.0.1.1"), "nothing came")
	only(t, b.await("nothing came"), "nothing came")
	a.off()
	a.stopped()
	// The next machine of the desktop finds the tap as it should be.
	a = boot(t, f, nic(vpcA, 10))
	a.ping(b.ip, "as before")
	only(t, b.await("as before"), "as before")
	b.ping(a.ip, "and back")
	only(t, a.await("and back"), "and back")
}
