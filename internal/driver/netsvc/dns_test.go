package netsvc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/ident"

	"github.com/miekg/dns"
)

// nobody stands for a host without VPCs.
func nobody(context.Context, ident.VPCID, func() error) error { return fmt.Errorf("no such VPC") }

// upstream is a resolver on loopback that answers by what a function says and keeps what it was asked.
func upstream(t *testing.T, answer func(q *dns.Msg) *dns.Msg) (netip.AddrPort, chan *dns.Msg) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan *dns.Msg, 100)
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
			if q.Unpack(b[:n]) != nil {
				continue
			}
			asked <- q
			if r := answer(q); r != nil {
				if out, err := r.Pack(); err == nil {
					_, _ = conn.WriteTo(out, from)
				}
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

func addresses(all ...string) func(*dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Compress = true
		for _, a := range all {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(a)})
		}
		return m
	}
}

func resolver(s *Server) *resolving {
	return &resolving{server: s, vpc: desktop.NIC.VPC, cidr: desktop.VPCCIDR, limit: &rate{perSecond: 1, burst: 1, now: time.Now}, slots: &slots{each: 1, all: 1}}
}

// ask asks and gives the answer as "CODE data data".
func ask(t *testing.T, d *resolving, name string, kind uint16) string {
	t.Helper()
	q, err := new(dns.Msg).SetQuestion(name, kind).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return read(t, d.answer(t.Context(), q, false))
}

func read(t *testing.T, b []byte) string {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(out, " ")
}

func TestDNSAnswersNamesOfTheVPCAndForwardsTheRest(t *testing.T) {
	world, _ := upstream(t, addresses("192.0.2.1"))
	s := server(t, func(c *Config) {
		c.Resolvers = []netip.AddrPort{world}
		c.Zones = func(ident.VPCID) []Zone {
			return []Zone{{Name: "corp.example.com", Hosts: map[netip.Addr]string{netip.MustParseAddr("10.0.1.5"): "dc1.corp.example.com"}}}
		}
	})
	other := desktop
	other.NIC.InterfaceID, other.NIC.VPC, other.NIC.Address, other.NIC.Names.Hostname = "eni-0a1b2c3d4e5f60719", "vpc-0a1b2c3d4e5f60719", "10.0.1.20", "WSAMZ-ELSEWHERE"
	named := desktop
	named.NIC.Names.Hostname = "WSAMZ-F9ABCDEFG"
	s.services([]Port{named, other})
	d := resolver(s)
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"ip-10-0-1-10.eu-central-1.compute.internal.", dns.TypeA, "NOERROR 10.0.1.10"},
		{"IP-10-0-1-10.EU-Central-1.compute.internal.", dns.TypeA, "NOERROR 10.0.1.10"},
		{"ip-10-0-1-10.eu-central-1.compute.internal.", dns.TypeAAAA, "NOERROR"},
		{"ip-10-0-1-11.eu-central-1.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"ip-10-0-1-10.us-west-2.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"wsamz-f9abcdefg.eu-central-1.compute.internal.", dns.TypeA, "NOERROR 10.0.1.10"},
		{"WSAMZ-F9ABCDEFG.eu-central-1.compute.internal.", dns.TypeAAAA, "NOERROR"},
		{"wsamz-f9abcdefg.us-west-2.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"x.wsamz-f9abcdefg.eu-central-1.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"wsamz-elsewhere.eu-central-1.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"x.ip-10-0-1-10.eu-central-1.compute.internal.", dns.TypeA, "NXDOMAIN"},
		{"10.1.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR ip-10-0-1-10.eu-central-1.compute.internal."},
		{"5.1.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR dc1.corp.example.com."},
		{"99.1.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"1.1.168.192.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"254.169.254.169.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"10.in-addr.arpa.", dns.TypeNS, "NXDOMAIN"},
		{"www.example.org.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"localhost.", dns.TypeA, "NXDOMAIN"}, {"printer.local.", dns.TypeA, "NXDOMAIN"}, {"wpad.", dns.TypeA, "NXDOMAIN"}, {"x.internal.", dns.TypeA, "NXDOMAIN"},
		// Its servers are inside a VPC that this host does not have: not the world's to answer.
		{"dc1.corp.example.com.", dns.TypeA, "SERVFAIL"}, {"corp.example.com.", dns.TypeSOA, "SERVFAIL"},
		{"www.example.org.", dns.TypeANY, "REFUSED"}, {"example.org.", dns.TypeAXFR, "REFUSED"},
	} {
		if got := ask(t, d, c.name, c.kind); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
}

func TestDNSSendsOnNothingOfAGuestsMessageButItsQuestion(t *testing.T) {
	world, asked := upstream(t, addresses("192.0.2.1"))
	d := resolver(server(t, func(c *Config) { c.Resolvers = []netip.AddrPort{world} }))
	q := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	q.Id = 4711
	q.SetEdns0(4096, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("smuggled")})
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, d.answer(t.Context(), b, false)); got != "NOERROR 192.0.2.1" {
		t.Errorf("answer %q", got)
	}
	sent := <-asked
	if o := sent.IsEdns0(); o == nil || len(o.Option) > 0 || len(sent.Extra) != 1 || len(sent.Question) != 1 {
		t.Errorf("sent on: %v", sent)
	}
}

func TestDNSTakesNoAnswerThatPointsInsideOrIsToAnotherQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*dns.Msg) *dns.Msg
		want   string
	}{
		"metadata's address is left out": {addresses("169.254.169.254", "192.0.2.7", "127.0.0.1", "0.0.0.0"), "NOERROR 192.0.2.7"},
		"another name": {func(q *dns.Msg) *dns.Msg {
			m := addresses("192.0.2.7")(q)
			m.Question[0].Name = "other.example.org."
			return m
		}, "SERVFAIL"},
		"refused": {func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }, "SERVFAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			world, _ := upstream(t, c.answer)
			d := resolver(server(t, func(cfg *Config) { cfg.Resolvers = []netip.AddrPort{world} }))
			if got := ask(t, d, "www.example.org.", dns.TypeA); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestDNSAnswersFitWhatTheClientTakes(t *testing.T) {
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("192.0.2.%d", i)
	}
	world, _ := upstream(t, addresses(many...))
	d := resolver(server(t, func(c *Config) { c.Resolvers = []netip.AddrPort{world} }))
	q := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	for size, limit := range map[uint16]int{0: 512, 600: 600, 65535: maxQuery} {
		m := q.Copy()
		if size > 0 {
			m.SetEdns0(size, false)
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := d.answer(t.Context(), b, false); len(got) > limit {
			t.Errorf("%d bytes for a client that takes %d", len(got), limit)
		}
		if got := read(t, d.answer(t.Context(), b, true)); len(strings.Fields(got)) != 61 {
			t.Errorf("by a connection: %d words", len(strings.Fields(got)))
		}
	}
}

func TestASourceGetsItsShareAndNoMore(t *testing.T) {
	now := time.Unix(0, 0)
	r := &rate{perSecond: 2, burst: 3, now: func() time.Time { return now }}
	a, b := netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.1.11")
	count := func(who netip.Addr) (n int) {
		for range 10 {
			if r.allow(who) {
				n++
			}
		}
		return n
	}
	if got := count(a); got != 3 {
		t.Errorf("%d at once", got)
	}
	if got := count(b); got != 3 {
		t.Errorf("another: %d", got)
	}
	now = now.Add(time.Second)
	if got := count(a); got != 2 {
		t.Errorf("%d a second later", got)
	}
	s := &slots{each: 2, all: 3}
	var got []bool
	for _, who := range []netip.Addr{a, a, a, b, b} {
		got = append(got, s.take(who))
	}
	if !slices.Equal(got, []bool{true, true, false, true, false}) {
		t.Errorf("slots are not counted by source and in all: %v", got)
	}
	s.give(a)
	if !s.take(b) || s.take(a) {
		t.Error("a slot given back is not there again")
	}
}

func FuzzDNS(f *testing.F) {
	for _, name := range []string{"ip-10-0-1-10.eu-central-1.compute.internal.", "10.1.0.10.in-addr.arpa.", "a.b.", "."} {
		b, err := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(1232, true).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	s, err := New(Config{Ports: func() ([]Port, <-chan struct{}) { return nil, nil }, Enter: nobody, Region: "eu-central-1"})
	if err != nil {
		f.Fatal(err)
	}
	s.services([]Port{desktop})
	d := resolver(s)
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		if len(b) > maxQuery {
			return
		}
		reply := d.answer(t.Context(), b, stream)
		if reply == nil {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil || !m.Response || m.Id != uint16(b[0])<<8|uint16(b[1]) {
			t.Errorf("answer %x to %x: %v", reply, b, err)
		}
		if !stream && len(reply) > maxQuery {
			t.Errorf("an answer of %d bytes", len(reply))
		}
	})
}
