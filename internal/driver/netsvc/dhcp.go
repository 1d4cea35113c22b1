package netsvc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The parts of DHCP (RFC 2131, 2132) that a desktop needs. The parser is our own because it reads what a hostile guest writes and needs a
// dozen fields: it allocates nothing by what the packet says and looks at each byte once.

// Message types (RFC 2132, 9.6).
const (
	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpACK      = 5
	dhcpNAK      = 6
	dhcpInform   = 8
)

// Options (RFC 2132; 119: RFC 3397).
const (
	optMask      = 1
	optRouter    = 3
	optDNS       = 6
	optHostname  = 12
	optDomain    = 15
	optMTU       = 26
	optRequested = 50
	optLease     = 51
	optOverload  = 52
	optType      = 53
	optServer    = 54
	optRenewal   = 58
	optRebinding = 59
	optEnd       = 255
)

const (
	dhcpHeader = 240 // up to and with the magic cookie
	// maxDHCP is the largest message read: more than an Ethernet frame never comes in one piece.
	maxDHCP = 1500
	// minDHCP is what old clients expect an answer to have at least (RFC 1542, 2.1).
	minDHCP     = 300
	serverPort  = 67
	clientPort  = 68
	dhcpsPerSec = 20
)

var dhcpCookie = []byte{99, 130, 83, 99}

// question is a client's message.
type question struct {
	kind      byte
	xid       [4]byte
	broadcast bool
	client    netip.Addr // ciaddr
	mac       [6]byte
	requested netip.Addr
	server    netip.Addr
}

// parseDHCP reads a client's message. An error: it is none that may be answered.
func parseDHCP(b []byte) (question, error) {
	var q question
	switch {
	case len(b) < dhcpHeader || len(b) > maxDHCP:
		return q, fmt.Errorf("a message of %d bytes", len(b))
	case b[0] != 1 || b[1] != 1 || b[2] != 6:
		return q, errors.New("not a request of an Ethernet client")
	case !bytes.Equal(b[236:240], dhcpCookie):
		return q, errors.New("no DHCP cookie")
	case !bytes.Equal(b[24:28], make([]byte, 4)):
		return q, errors.New("sent by a relay") // There is none between a tap and us.
	}
	copy(q.xid[:], b[4:8])
	q.broadcast = b[10]&0x80 != 0
	q.client = netip.AddrFrom4([4]byte(b[12:16]))
	copy(q.mac[:], b[28:34])
	for rest := b[dhcpHeader:]; len(rest) > 0; {
		code := rest[0]
		if code == 0 {
			rest = rest[1:]
			continue
		}
		if code == optEnd {
			break
		}
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return q, fmt.Errorf("option %d is cut off", code)
		}
		value := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(value):]
		switch code {
		case optType:
			if len(value) != 1 || q.kind != 0 {
				return q, errors.New("more or less than one message type")
			}
			q.kind = value[0]
		case optRequested, optServer:
			if len(value) != 4 {
				return q, fmt.Errorf("option %d of %d bytes", code, len(value))
			}
			if a := netip.AddrFrom4([4]byte(value)); code == optServer {
				q.server = a
			} else {
				q.requested = a
			}
		case optOverload:
			return q, errors.New("options in other fields") // No client needs them to ask.
		}
	}
	if q.kind == 0 {
		return q, errors.New("no message type")
	}
	return q, nil
}

// decide tells what a message is answered with; 0: nothing. There is one address for a client, its interface's, so nothing is remembered.
func decide(q question, address, server netip.Addr) byte {
	if q.server.IsValid() && q.server != server {
		return 0 // It has chosen another server.
	}
	switch q.kind {
	case dhcpDiscover:
		return dhcpOffer
	case dhcpRequest:
		wanted := q.requested
		if !wanted.IsValid() {
			wanted = q.client
		}
		if wanted != address {
			return dhcpNAK // So that a client which was somewhere else begins anew at once.
		}
		return dhcpACK
	case dhcpInform:
		if q.client == address {
			return dhcpACK
		}
	}
	return 0
}

// answerDHCP makes the answer to a message; nil: none.
func (s *Server) answerDHCP(p Port, q question) []byte {
	address, err := netip.ParseAddr(p.NIC.Address)
	mac, macErr := net.ParseMAC(p.NIC.MAC)
	// The tap has said already who asks; a message about another client is not from an honest one.
	if err != nil || macErr != nil || !bytes.Equal(mac, q.mac[:]) {
		return nil
	}
	kind := decide(q, address, p.Router)
	if kind == 0 {
		return nil
	}
	b := make([]byte, dhcpHeader, 512)
	b[0], b[1], b[2] = 2, 1, 6
	copy(b[4:], q.xid[:])
	if q.broadcast || kind == dhcpNAK {
		b[10] = 0x80
	}
	copy(b[28:], q.mac[:])
	copy(b[236:], dhcpCookie)
	option := func(code byte, value []byte) {
		if len(value) > 0 && len(value) <= 255 {
			b = append(append(b, code, byte(len(value))), value...)
		}
	}
	option(optType, []byte{kind})
	option(optServer, p.Router.AsSlice())
	if kind != dhcpNAK {
		if q.kind == dhcpInform {
			copy(b[12:], q.client.AsSlice())
		} else {
			copy(b[16:], address.AsSlice())
			seconds := func(d time.Duration) []byte { return binary.BigEndian.AppendUint32(nil, uint32(d.Seconds())) }
			option(optLease, seconds(s.cfg.Lease))
			option(optRenewal, seconds(s.cfg.Lease/2))
			option(optRebinding, seconds(s.cfg.Lease*7/8))
		}
		g := s.describe(p)
		option(optMask, net.CIDRMask(p.Subnet.Bits(), 32))
		option(optRouter, p.Router.AsSlice())
		option(optDNS, p.Resolver.AsSlice())
		option(optDomain, []byte(g.Domain))
		option(optHostname, []byte(g.Hostname))
		option(optMTU, binary.BigEndian.AppendUint16(nil, uint16(p.MTU)))
	}
	b = append(b, optEnd)
	for len(b) < minDHCP {
		b = append(b, 0)
	}
	return b
}

// serveDHCP answers one desktop, on a socket that hears nothing but its tap.
func (s *Server) serveDHCP(ctx context.Context, p Port) error {
	conn, err := s.listenPacket(ctx, p.NIC.VPC, "0.0.0.0:67", p.Device)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	address, err := netip.ParseAddr(p.NIC.Address)
	if err != nil {
		return err
	}
	limit := &rate{perSecond: dhcpsPerSec, burst: 2 * dhcpsPerSec, now: time.Now}
	b := make([]byte, maxDHCP+1)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		if !limit.allow(address) {
			continue
		}
		// Who has the interface is fixed; its groups and name may have changed since the socket was opened.
		now, ok := s.who(p.NIC.VPC, address)
		q, err := parseDHCP(b[:n])
		if err != nil || !ok || now.NIC.InterfaceID != p.NIC.InterfaceID {
			continue
		}
		reply := s.answerDHCP(now, q)
		if reply == nil {
			continue
		}
		// A unicast answer finds a client without an address, because the fabric's neighbour entry is permanent.
		to := netip.AddrPortFrom(address, clientPort)
		if reply[10] != 0 {
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort)
		}
		if _, _, err := conn.WriteMsgUDPAddrPort(reply, fromAddress(p.Router), to); errors.Is(err, unix.ENODEV) {
			return err
		}
	}
}
