package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver/linuxnet"
	"carrel/internal/ident"

	"github.com/vishvananda/netlink"
)

// cable connects two namespaces and gives each end an address.
func cable(t *testing.T, a *os.File, nameA, addressA string, b *os.File, nameB, addressB string) {
	t.Helper()
	on(t, a, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.Fd())})
	})
	end := func(name, address string) func() error {
		return func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			p, err := netlink.ParseAddr(address)
			if err != nil {
				return err
			}
			return errors.Join(netlink.AddrAdd(link, p), netlink.LinkSetUp(link))
		}
	}
	on(t, a, end(nameA, addressA))
	on(t, b, end(nameB, addressB))
}

func route(t *testing.T, ns *os.File, to, via string) {
	t.Helper()
	on(t, ns, func() error {
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
	})
}

// listenIn listens in a namespace and tells who has connected.
func listenIn(t *testing.T, ns *os.File, port int) chan string {
	t.Helper()
	var l net.Listener
	on(t, ns, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	t.Cleanup(func() { l.Close() })
	from := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from <- c.RemoteAddr().String()
			_, _ = c.Write([]byte("hello"))
			t.Cleanup(func() { c.Close() })
		}
	}()
	return from
}

func TestUplinkLeadsOutAndNowhereElse(t *testing.T) {
	host, world, lan := namespace(t), namespace(t), namespace(t)
	cable(t, host, "wan0", "198.51.100.2/24", world, "isp0", "198.51.100.1/24")
	cable(t, host, "lan0", "192.168.5.1/24", lan, "eth0", "192.168.5.5/24")
	route(t, host, "0.0.0.0/0", "198.51.100.1")
	route(t, lan, "0.0.0.0/0", "192.168.5.1")
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
	atWorld, atHost, atLAN := listenIn(t, world, 80), listenIn(t, host, 80), listenIn(t, lan, 80)

	cfg := config(t)
	cfg.Uplink = linuxnet.Uplink{Interface: "wan0", Namespace: fmt.Sprintf("/proc/self/fd/%d", host.Fd())}
	f := open(t, cfg)
	if facts := f.Facts(); facts.Uplink != "wan0" {
		t.Errorf("facts %+v", facts)
	}
	machines := map[ident.VPCID]*machine{}
	for _, vpc := range []ident.VPCID{vpcA, vpcB} {
		m := start(t, f, attach(t, f, nic(vpc, 10, sg1))).configure()
		m.listen(80)
		machines[vpc] = m
	}
	for vpc, m := range machines {
		c, err := m.dial("8.8.4.4:80", patience)
		if err != nil {
			t.Fatalf("%s: way out: %v", vpc, err)
		}
		b := make([]byte, 5)
		if _, err := c.Read(b); err != nil || string(b) != "hello" {
			t.Errorf("%s: read %q, %v", vpc, b, err)
		}
		if from := <-atWorld; !strings.HasPrefix(from, "198.51.100.2:") {
			t.Errorf("%s: outside it is %s", vpc, from)
		}
		// NET-1: the host by all its addresses, its neighbours, other networks of the host, the VPCs' own links.
		for _, to := range []string{"198.51.100.2", "198.51.100.1", "192.168.5.1", "192.168.5.5", "169.254.64.2", "169.254.64.3", "169.254.64.4", "169.254.64.5", "10.0.1.1", "127.0.0.1"} {
			if c, err := m.dial(to+":80", soon); err == nil && to != "127.0.0.1" {
				t.Errorf("%s: reached %s (%s)", vpc, to, c.RemoteAddr())
			}
		}
	}
	// Nobody comes in by it, not even one who knows the way, and the host has become no router for others.
	for _, to := range []string{"10.0.0.0/16", "169.254.64.0/18", "192.168.5.0/24"} {
		route(t, world, to, "198.51.100.2")
	}
	for _, to := range []string{"10.0.1.10", "169.254.64.2", "192.168.5.5"} {
		on(t, world, func() error {
			if c, err := net.DialTimeout("tcp4", to+":80", soon); err == nil {
				t.Errorf("from outside: reached %s", c.RemoteAddr())
				c.Close()
			}
			return nil
		})
	}
	on(t, lan, func() error {
		if c, err := net.DialTimeout("tcp4", "169.254.64.2:80", soon); err == nil {
			t.Errorf("from the host's network: reached %s", c.RemoteAddr())
		}
		return nil
	})
	if len(atHost)+len(atLAN)+len(atWorld) > 0 {
		t.Errorf("connections that must not be: %d at the host, %d at its network, %d outside", len(atHost), len(atLAN), len(atWorld))
	}

	t.Run("large packets find a way out that takes small ones only", func(t *testing.T) {
		on(t, host, func() error {
			link, err := netlink.LinkByName("wan0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(link, 1300)
		})
		var l net.Listener
		on(t, world, func() (err error) {
			l, err = net.Listen("tcp4", "0.0.0.0:81")
			return err
		})
		serveEcho(t, l)
		c, err := machines[vpcA].dial("8.8.4.4:81", patience)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		sent := bytes.Repeat([]byte("much"), 50000)
		go func() { _, _ = c.Write(sent) }()
		if got, err := io.ReadAll(io.LimitReader(c, int64(len(sent)))); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came back: %v", len(got), len(sent), err)
		}
	})

	t.Run("after a restart it still does", func(t *testing.T) {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f = reopen(t, cfg)
		if _, err := machines[vpcA].dial("8.8.4.4:80", patience); err != nil {
			t.Errorf("way out: %v", err)
		}
		on(t, world, func() error {
			if c, err := net.DialTimeout("tcp4", "192.168.5.5:80", soon); err == nil {
				t.Errorf("from outside: reached %s", c.RemoteAddr())
			}
			return nil
		})
	})
}

func TestUplinkComesAndGoesWithTheConfiguration(t *testing.T) {
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
	forwards := func() string {
		var b []byte
		on(t, host, func() (err error) {
			b, err = os.ReadFile("/proc/sys/net/ipv4/conf/wan0/forwarding")
			return err
		})
		return strings.TrimSpace(string(b))
	}
	if forwards() != "0" {
		t.Skip("the kernel makes new namespaces forward")
	}
	cfg := config(t)
	f := open(t, cfg)
	m := start(t, f, attach(t, f, nic(vpcA, 10, sg1))).configure()
	reaches := func(want bool, when string) {
		t.Helper()
		wait := soon
		if want {
			wait = patience
		}
		if _, err := m.dial("8.8.4.4:80", wait); (err == nil) != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	reaches(false, "without an uplink")
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		cfg.Uplink = linuxnet.Uplink{Interface: "wan0", Namespace: fmt.Sprintf("/proc/self/fd/%d", host.Fd())}
		f = reopen(t, cfg)
		reaches(true, "with an uplink")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		cfg.Uplink = linuxnet.Uplink{}
		f = reopen(t, cfg)
		reaches(false, "without an uplink again")
		if forwards() != "0" {
			t.Error("the host's interface still forwards")
		}
	}
}

func TestUplinkThatDoesNotExistIsAnError(t *testing.T) {
	cfg := config(t)
	cfg.Uplink.Interface = "nothere0"
	if _, err := linuxnet.Open(cfg); err == nil || !strings.Contains(err.Error(), "nothere0") {
		t.Errorf("%v", err)
	}
	cfg.Uplink.Interface = ""
	if facts := open(t, cfg).Facts(); facts.Uplink != "" || facts.NoUplink == "" {
		t.Errorf("facts %+v", facts)
	}
}
