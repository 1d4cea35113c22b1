package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/driver/netsvc"
	"carrel/internal/ident"

	"github.com/miekg/dns"
)

// serve runs the services of a fabric until the test ends.
func serve(t *testing.T, f *linuxnet.Fabric, change func(*netsvc.Config)) {
	t.Helper()
	cfg := netsvc.Config{Enter: f.Enter, Region: "eu-central-1", Ports: func() ([]netsvc.Port, <-chan struct{}) {
		ports, changed := f.Ports()
		out := make([]netsvc.Port, len(ports))
		for i, p := range ports {
			out[i] = netsvc.Port(p)
		}
		return out, changed
	}}
	if change != nil {
		change(&cfg)
	}
	s, err := netsvc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lease asks for an address with busybox's or Debian's udhcpc and gives what it was told.
func (m *machine) lease() map[string]string {
	m.t.Helper()
	client, args := "udhcpc", []string{}
	if _, err := exec.LookPath("udhcpc"); err != nil {
		if _, err := exec.LookPath("busybox"); err != nil {
			m.t.Fatal("udhcpc is missing: install udhcpc (or busybox)")
		}
		client, args = "busybox", []string{"udhcpc"}
	}
	dir := m.t.TempDir()
	script, out := filepath.Join(dir, "script"), filepath.Join(dir, "lease")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && env > "+out+"\nexit 0\n"), 0o700); err != nil {
		m.t.Fatal(err)
	}
	args = append(args, "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T", "1", "-s", script, "-O", "mtu", "-O", "hostname")
	if log, err := run(m.t, m.ns, client, args...); err != nil {
		m.t.Fatalf("udhcpc: %v\n%s", err, log)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		m.t.Fatal(err)
	}
	told := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			told[k] = v
		}
	}
	return told
}

// ask asks a DNS server from inside the machine.
func (m *machine) ask(network, server, name string, kind uint16) string {
	m.t.Helper()
	var c net.Conn
	on(m.t, m.ns, func() (err error) {
		c, err = net.DialTimeout(network, net.JoinHostPort(server, "53"), patience)
		return err
	})
	defer c.Close()
	reply, _, err := (&dns.Client{Net: network, Timeout: patience}).ExchangeWithConn(new(dns.Msg).SetQuestion(name, kind), &dns.Conn{Conn: c})
	if err != nil {
		m.t.Fatalf("%s %s at %s: %v", network, name, server, err)
	}
	words := []string{dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

// get asks the metadata service from inside the machine.
func (m *machine) get(method, path string, headers ...string) (int, string) {
	m.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, to string) (net.Conn, error) {
		return m.dial(to, patience)
	}}}
	r, err := http.NewRequest(method, "http://169.254.169.254"+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := client.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return w.StatusCode, string(b)
}

func TestServicesAnswerEveryVPCWithItsOwn(t *testing.T) {
	f := open(t, config(t))
	world := resolverOfTheWorld(t)
	serve(t, f, func(c *netsvc.Config) {
		c.Resolvers = []netip.AddrPort{world}
		c.Describe = func(p netsvc.Port) netsvc.Guest {
			return netsvc.Guest{Hostname: "host-" + string(p.NIC.WorkspaceID), Domain: "corp.example.com", Zone: "eu-central-1a"}
		}
	})
	machines := map[ident.VPCID]*machine{}
	for _, vpc := range []ident.VPCID{vpcA, vpcB} {
		m := start(t, f, attach(t, f, nic(vpc, 10, sg1)))
		machines[vpc] = m
		told := m.lease()
		want := map[string]string{"ip": "10.0.1.10", "subnet": "255.255.255.0", "router": "10.0.1.1", "dns": "10.0.0.2", "domain": "corp.example.com", "lease": "3600", "mtu": "1500",
			"serverid": "10.0.1.1", "hostname": "host-" + string(m.spec.WorkspaceID)}
		for k, v := range want {
			if told[k] != v {
				t.Errorf("%s: DHCP told %s=%q, want %q", vpc, k, told[k], v)
			}
		}
		m.configure()
	}
	attach(t, f, nic(vpcB, 77, sg1)) // Only B has this one.
	for vpc, m := range machines {
		for _, network := range []string{"udp4", "tcp4"} {
			for _, server := range []string{"10.0.0.2", "169.254.169.253"} {
				if got := m.ask(network, server, "www.example.org.", dns.TypeA); got != "NOERROR 192.0.2.80" {
					t.Errorf("%s by %s at %s: %s", vpc, network, server, got)
				}
			}
		}
		want := map[ident.VPCID]string{vpcA: "NXDOMAIN", vpcB: "NOERROR 10.0.1.77"}[vpc]
		if got := m.ask("udp4", "10.0.0.2", "ip-10-0-1-77.eu-central-1.compute.internal.", dns.TypeA); got != want {
			t.Errorf("%s: a name of VPC B's is %s, want %s", vpc, got, want)
		}
		if got := m.ask("udp4", "10.0.0.2", "10.1.0.10.in-addr.arpa.", dns.TypePTR); got != "NOERROR ip-10-0-1-10.eu-central-1.compute.internal." {
			t.Errorf("%s: reverse name %s", vpc, got)
		}
		if code, _ := m.get("GET", "/latest/meta-data/instance-id"); code != http.StatusUnauthorized {
			t.Errorf("%s: metadata without a token: %d", vpc, code)
		}
		code, token := m.get("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		if code != http.StatusOK {
			t.Fatalf("%s: token: %d", vpc, code)
		}
		for path, want := range map[string]string{"instance-id": string(m.spec.WorkspaceID), "local-ipv4": "10.0.1.10", "mac": m.spec.MAC,
			"network/interfaces/macs/" + m.spec.MAC + "/vpc-id": string(vpc)} {
			if code, got := m.get("GET", "/latest/meta-data/"+path, "X-aws-ec2-metadata-token", token); code != http.StatusOK || got != want {
				t.Errorf("%s: %s is %d %q, want %q", vpc, path, code, got, want)
			}
		}
		if vpc == vpcA {
			// Carried to the other VPC's desktop of the same address, the token is worth nothing.
			if code, _ := machines[vpcB].get("GET", "/latest/meta-data/mac", "X-aws-ec2-metadata-token", token); code != http.StatusUnauthorized {
				t.Errorf("a token of another VPC: %d", code)
			}
		}
	}
}

func TestADesktopIsToldAndFoundByTheNameItWasAttachedWith(t *testing.T) {
	cfg := config(t)
	f := open(t, cfg)
	spec, other := nic(vpcA, 10, sg1), nic(vpcA, 20, sg1)
	spec.Names = driver.Names{Hostname: "WSAMZ-F9ABCDEFG", Zone: "eu-central-1a", ZoneID: "euc1-az1"}
	attach(t, f, spec)
	// What a host was told outlives its process.
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = reopen(t, cfg)
	serve(t, f, nil)
	allow(t, f, vpcA, sg1)
	m, n := start(t, f, spec), start(t, f, attach(t, f, other))
	n.lease()
	n.configure()
	check := func(name string) {
		t.Helper()
		if told := m.lease(); told["hostname"] != name || told["domain"] != "eu-central-1.compute.internal" {
			t.Errorf("DHCP told %v", told)
		}
		m.configure()
		host := name + ".eu-central-1.compute.internal"
		if got := n.ask("udp4", "10.0.0.2", host+".", dns.TypeA); got != "NOERROR 10.0.1.10" {
			t.Errorf("%s is %s", host, got)
		}
		if got := n.ask("udp4", "10.0.0.2", "ip-10-0-1-10.eu-central-1.compute.internal.", dns.TypeA); got != "NOERROR 10.0.1.10" {
			t.Errorf("by address: %s", got)
		}
		_, token := m.get("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		for path, want := range map[string]string{"instance-id": string(spec.WorkspaceID), "hostname": host, "local-hostname": host,
			"placement/availability-zone": "eu-central-1a", "placement/availability-zone-id": "euc1-az1"} {
			if code, got := m.get("GET", "/latest/meta-data/"+path, "X-aws-ec2-metadata-token", token); code != http.StatusOK || got != want {
				t.Errorf("%s is %d %q, want %q", path, code, got, want)
			}
		}
	}
	check("WSAMZ-F9ABCDEFG")
	// Attached again with another name it is called that, while its services run.
	spec.Names.Hostname = "WSAMZ-ANOTHER"
	attach(t, f, spec)
	deadline := time.Now().Add(10 * time.Second)
	for n.ask("udp4", "10.0.0.2", "wsamz-another.eu-central-1.compute.internal.", dns.TypeA) != "NOERROR 10.0.1.10" && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond) // Fewer questions than one source may ask.
	}
	check("WSAMZ-ANOTHER")
	if got := n.ask("udp4", "10.0.0.2", "wsamz-f9abcdefg.eu-central-1.compute.internal.", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("the former name: %s", got)
	}
}

func TestServicesAnswerOnlyWhoAsksAsItself(t *testing.T) {
	f := open(t, config(t))
	serve(t, f, nil)
	a, b := boot(t, f, attach(t, f, nic(vpcA, 10, sg1))), boot(t, f, attach(t, f, nic(vpcA, 20, sg1)))
	discover := func(mac net.HardwareAddr, mark string) []byte {
		m := make([]byte, 240, 300)
		copy(m, []byte{1, 1, 6, 0})
		copy(m[4:], mark)
		copy(m[28:], mac)
		copy(m[236:], []byte{99, 130, 83, 99})
		return append(m, 53, 1, 1, 255)
	}
	ask := func(frame net.HardwareAddr, chaddr net.HardwareAddr, mark string) {
		a.send(ethernet(broadcast, frame, typeIPv4, packet{from: addr("0.0.0.0"), to: addr("255.255.255.255"), protocol: 17, payload: udp(68, 67, discover(chaddr, mark))}.bytes()))
	}
	// Until the service has opened its socket nobody answers: a client asks again, and so do we.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			ask(a.mac, a.mac, "OKAY")
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	offer := a.await("OKAY")
	close(stop)
	<-done
	if last := offer[len(offer)-1]; !slices.Equal(last[:6], a.mac) || last[14+20+8] != 2 {
		t.Errorf("offer %x", last)
	}
	ask(b.mac, b.mac, "EVIL") // Another's MAC in the frame,
	ask(a.mac, b.mac, "EVIL") // and in the message.
	ask(a.mac, a.mac, "LAST")
	for _, frame := range a.await("LAST") {
		if strings.Contains(string(frame), "EVIL") {
			t.Errorf("answered: %x", frame)
		}
	}
	// Metadata and DNS asked with another's address: neither it nor the one who asks hears anything.
	for _, to := range []string{"169.254.169.254", "169.254.169.253", "10.0.0.2"} {
		a.ip4(packet{from: b.ip, to: addr(to), protocol: 6, payload: syn(b.ip, addr(to), 999, map[bool]uint16{true: 80, false: 53}[to == "169.254.169.254"])})
	}
	b.ping(addr("10.0.1.1"), "nothing came")
	only(t, b.await("nothing came"), "nothing came")
	// The metadata service's packets do not survive another router.
	a.ip4(packet{to: addr("169.254.169.254"), protocol: 6, payload: syn(a.ip, addr("169.254.169.254"), 998, 80)})
	answer := a.await(string([]byte{0, 80, 998 >> 8, 998 & 0xff}))
	if last := answer[len(answer)-1]; last[14+8] != 1 {
		t.Errorf("time to live %d, want 1", last[14+8])
	}
}

func TestServicesForwardADirectorysNamesToItsControllerInTheVPC(t *testing.T) {
	f := open(t, config(t))
	if err := f.Hold(t.Context(), network, held[0]); err != nil {
		t.Fatal(err)
	}
	if err := f.Hold(t.Context(), network, held[0]); err != nil {
		t.Errorf("hold again: %v", err)
	}
	// A controller: a program inside the VPC that listens at the held address.
	var packets net.PacketConn
	var ldap net.Listener
	err := f.Enter(t.Context(), vpcA, func() (err error) {
		if packets, err = net.ListenPacket("udp4", held[0].String()+":53"); err != nil {
			return err
		}
		ldap, err = net.Listen("tcp4", held[0].String()+":389")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ldap)
	answerDNS(t, packets, "10.0.2.10")
	serve(t, f, func(c *netsvc.Config) {
		c.Zones = func(vpc ident.VPCID) []netsvc.Zone {
			if vpc != vpcA {
				return nil
			}
			return []netsvc.Zone{{Name: "corp.example.com", Servers: held, Hosts: map[netip.Addr]string{held[0]: "dc1.corp.example.com"}}}
		}
	})
	a, b := start(t, f, attach(t, f, nic(vpcA, 10, sg1))), start(t, f, attach(t, f, nic(vpcB, 10, sg1)))
	a.lease()
	a.configure()
	b.lease()
	b.configure()
	if got := a.ask("udp4", "10.0.0.2", "dc1.corp.example.com.", dns.TypeA); got != "NOERROR 10.0.2.10" {
		t.Errorf("in its VPC: %s", got)
	}
	if got := a.ask("udp4", "10.0.0.2", "10.2.0.10.in-addr.arpa.", dns.TypePTR); got != "NOERROR dc1.corp.example.com." {
		t.Errorf("its reverse name: %s", got)
	}
	if got := b.ask("udp4", "10.0.0.2", "dc1.corp.example.com.", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("in another VPC: %s", got)
	}
	// Desktops of the VPC reach the controller, desktops of others do not, the host does.
	c, err := a.dial(held[0].String()+":389", patience)
	if err != nil || !says(c, "bind", patience) {
		t.Fatalf("from a desktop: %v", err)
	}
	if _, err := b.dial(held[0].String()+":389", soon); err == nil {
		t.Error("a desktop of another VPC reached it")
	}
	h, err := f.Dial(t.Context(), vpcA, "tcp", held[0].String()+":389")
	if err != nil || !says(h, "bind", patience) {
		t.Fatalf("from the host: %v", err)
	}
	h.Close()
	if _, err := f.Dial(t.Context(), vpcA, "tcp", "dc1.corp.example.com:389"); err == nil {
		t.Error("the host looked a name up")
	}
	if err := f.Drop(t.Context(), vpcA, held[0]); err != nil {
		t.Fatal(err)
	}
	if !cut(c) {
		t.Error("a connection goes on after the address was dropped")
	}
	if err := f.Drop(t.Context(), vpcA, held[0]); err != nil {
		t.Errorf("drop again: %v", err)
	}
}

// resolverOfTheWorld is a DNS server on the host's loopback.
func resolverOfTheWorld(t *testing.T) netip.AddrPort {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net") // Not self: the main thread may have been lent to a guest.
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	on(t, ns, func() error { return up("lo") })
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answerDNS(t, conn, "192.0.2.80")
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// answerDNS answers every question for an address with one.
func answerDNS(t *testing.T, conn net.PacketConn, address string) {
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) != nil || len(q.Question) != 1 {
				continue
			}
			m := new(dns.Msg).SetReply(q)
			rr, err := dns.NewRR(fmt.Sprintf("%s 5 IN A %s", q.Question[0].Name, address))
			if err != nil {
				continue
			}
			m.Answer = []dns.RR{rr}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
}
