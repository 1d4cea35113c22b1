package netsvc

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"carrel/internal/driver"
)

var desktop = Port{
	NIC: driver.NIC{InterfaceID: "eni-0a1b2c3d4e5f60718", WorkspaceID: "ws-f9abcdefg", VPC: "vpc-0a1b2c3d4e5f60718", Subnet: "subnet-0a1b2c3d4e5f60718",
		Address: "10.0.1.10", MAC: "02:00:00:00:00:0a", SecurityGroups: nil},
	Device: "tap", Index: 7, VPCCIDR: netip.MustParsePrefix("10.0.0.0/16"), Subnet: netip.MustParsePrefix("10.0.1.0/24"),
	Router: netip.MustParseAddr("10.0.1.1"), Resolver: netip.MustParseAddr("10.0.0.2"), MTU: 1500,
}

// message makes a client's message; options are code, value pairs.
func message(kind byte, options ...[]byte) []byte {
	b := make([]byte, dhcpHeader)
	b[0], b[1], b[2] = 1, 1, 6
	copy(b[4:], "XIDX")
	copy(b[28:], []byte{2, 0, 0, 0, 0, 0x0a})
	copy(b[236:], dhcpCookie)
	b = append(b, optType, 1, kind)
	for _, o := range options {
		b = append(append(b, o[0], byte(len(o)-1)), o[1:]...)
	}
	return append(b, optEnd)
}

// optionsOf reads an answer's options.
func optionsOf(t *testing.T, b []byte) map[byte][]byte {
	t.Helper()
	if len(b) < minDHCP || !bytes.Equal(b[236:240], dhcpCookie) {
		t.Fatalf("not an answer: %x", b)
	}
	all := map[byte][]byte{}
	for rest := b[dhcpHeader:]; rest[0] != optEnd; rest = rest[2+rest[1]:] {
		all[rest[0]] = rest[2 : 2+rest[1]]
	}
	return all
}

func server(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Ports: func() ([]Port, <-chan struct{}) { return nil, nil }, Enter: nobody, Region: "eu-central-1"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.services([]Port{desktop})
	return s
}

func TestDHCPTellsADesktopWhatItsInterfaceHas(t *testing.T) {
	s := server(t, func(c *Config) {
		c.Describe = func(Port) Guest { return Guest{Hostname: "WSAMZN-1", Domain: "corp.example.com"} }
		c.Lease = 2 * time.Hour
	})
	for kind, answer := range map[byte]byte{dhcpDiscover: dhcpOffer, dhcpRequest: dhcpACK} {
		q, err := parseDHCP(message(kind, []byte{optRequested, 10, 0, 1, 10}))
		if err != nil {
			t.Fatal(err)
		}
		b := s.answerDHCP(desktop, q)
		o := optionsOf(t, b)
		for code, want := range map[byte][]byte{optType: {answer}, optServer: {10, 0, 1, 1}, optMask: {255, 255, 255, 0}, optRouter: {10, 0, 1, 1}, optDNS: {10, 0, 0, 2},
			optMTU: {5, 220}, optDomain: []byte("corp.example.com"), optHostname: []byte("WSAMZN-1"), optLease: binary.BigEndian.AppendUint32(nil, 7200)} {
			if !bytes.Equal(o[code], want) {
				t.Errorf("message %d: option %d is %v, want %v", kind, code, o[code], want)
			}
		}
		if !bytes.Equal(b[16:20], []byte{10, 0, 1, 10}) || string(b[4:8]) != "XIDX" || b[0] != 2 {
			t.Errorf("header %x", b[:44])
		}
	}
}

func TestDHCPAnswersNothingElse(t *testing.T) {
	s := server(t, nil)
	other := message(dhcpDiscover)
	other[33] = 0x0b
	for name, b := range map[string][]byte{
		"another client's MAC": other, "a client of another server": message(dhcpRequest, []byte{optServer, 10, 0, 9, 9}),
		"a release": message(7), "a decline": message(4), "an offer": message(dhcpOffer), "an inform by nobody": message(dhcpInform),
	} {
		q, err := parseDHCP(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if r := s.answerDHCP(desktop, q); r != nil {
			t.Errorf("%s: answered with %x", name, r)
		}
	}
	q, err := parseDHCP(message(dhcpRequest, []byte{optRequested, 10, 0, 1, 99}))
	if err != nil {
		t.Fatal(err)
	}
	if o := optionsOf(t, s.answerDHCP(desktop, q)); o[optType][0] != dhcpNAK || o[optRouter] != nil {
		t.Errorf("a request for another's address: %v", o)
	}
}

func TestDHCPRefusesMessagesThatAreNone(t *testing.T) {
	good := message(dhcpDiscover)
	spoil := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:239], "long": append(bytes.Clone(good), make([]byte, maxDHCP)...), "a reply": spoil(0, 2), "not Ethernet": spoil(1, 6), "a long address": spoil(2, 16),
		"a bad cookie": spoil(236, 0), "from a relay": spoil(24, 10), "no type": append(bytes.Clone(good[:dhcpHeader]), optEnd), "a cut option": append(bytes.Clone(good[:dhcpHeader]), optType, 9),
		"two types": append(bytes.Clone(good[:len(good)-1]), optType, 1, 3, optEnd), "overload": message(1, []byte{optOverload, 3}), "a long server": message(1, []byte{optServer, 1, 2, 3, 4, 5}),
	} {
		if _, err := parseDHCP(b); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzDHCP(f *testing.F) {
	f.Add(message(dhcpDiscover))
	f.Add(message(dhcpRequest, []byte{optRequested, 10, 0, 1, 10}, []byte{optServer, 10, 0, 1, 1}))
	f.Add([]byte{})
	cfg := Config{Ports: func() ([]Port, <-chan struct{}) { return nil, nil }, Enter: nobody, Region: "eu-central-1"}
	s, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseDHCP(b)
		if err != nil {
			return
		}
		if reply := s.answerDHCP(desktop, q); reply != nil && (len(reply) > 576 || reply[0] != 2 || !bytes.Equal(reply[28:34], []byte{2, 0, 0, 0, 0, 0x0a})) {
			t.Errorf("answer %x", reply)
		}
	})
}
