package netns

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Frames as a hostile guest makes them: every field is the test's.

var broadcast = net.HardwareAddr{255, 255, 255, 255, 255, 255}

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

func ethernet(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	b := append(append(append([]byte{}, to...), from...), byte(kind>>8), byte(kind))
	return append(b, payload...)
}

func tagged(kind uint16, vlan uint16, frame []byte) []byte {
	b := append([]byte{}, frame[:12]...)
	b = append(b, byte(kind>>8), byte(kind), byte(vlan>>8), byte(vlan))
	return append(b, frame[12:]...)
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

type packet struct {
	from, to netip.Addr
	protocol byte
	ttl      byte
	// fragment is the offset in bytes; more: it is not the last one.
	fragment int
	more     bool
	id       uint16
	payload  []byte
}

func (p packet) bytes() []byte {
	b := make([]byte, 20, 20+len(p.payload))
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(p.payload)))
	binary.BigEndian.PutUint16(b[4:], p.id)
	f := uint16(p.fragment / 8)
	if p.more {
		f |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], f)
	b[8] = 64
	if p.ttl != 0 {
		b[8] = p.ttl
	}
	b[9] = p.protocol
	copy(b[12:], p.from.AsSlice())
	copy(b[16:], p.to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], sum(b))
	return append(b, p.payload...)
}

func udp(from, to uint16, data []byte) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	return append(b, data...) // Checksum 0: none, which IPv4 allows.
}

// syn begins a TCP connection; the checksum is right, or connection tracking would call it invalid.
func syn(from, to netip.Addr, sport, dport uint16) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[7], b[12], b[13] = 1, 0x50, 0x02
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	pseudo := append(append(append([]byte{}, from.AsSlice()...), to.AsSlice()...), 0, 6, 0, 20)
	binary.BigEndian.PutUint16(b[16:], sum(append(pseudo, b...)))
	return b
}

func echo(id, seq uint16, data []byte) []byte {
	b := make([]byte, 8)
	b[0] = 8
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[2:], sum(b))
	return b
}

type arp struct {
	op                uint16
	senderMAC         net.HardwareAddr
	sender            netip.Addr
	targetMAC         net.HardwareAddr
	target            netip.Addr
	hlen, plen, htype byte
}

func (a arp) bytes() []byte {
	h, p, t := a.hlen, a.plen, a.htype
	if h == 0 {
		h, p, t = 6, 4, 1
	}
	b := []byte{0, t, 8, 0, h, p, byte(a.op >> 8), byte(a.op)}
	b = append(append(b, a.senderMAC...), a.sender.AsSlice()...)
	if a.targetMAC == nil {
		a.targetMAC = make(net.HardwareAddr, 6)
	}
	return append(append(b, a.targetMAC...), a.target.AsSlice()...)
}
