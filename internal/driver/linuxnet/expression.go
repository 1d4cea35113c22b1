package linuxnet

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// match is a part of a rule; parts are joined by rule. Every match leaves nothing behind that a later one reads.
type match []expr.Any

// rule joins parts.
func rule(parts ...match) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

const register = 1

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

// field matches bytes of a packet.
func field(base expr.PayloadBase, offset uint32, data []byte) match {
	return match{&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: uint32(len(data))}, compare(expr.CmpOpEq, data)}
}

func frame(offset uint32, data []byte) match {
	return field(expr.PayloadBaseLLHeader, offset, data)
}
func header(offset uint32, data []byte) match {
	return field(expr.PayloadBaseNetworkHeader, offset, data)
}
func transport(offset uint32, data []byte) match {
	return field(expr.PayloadBaseTransportHeader, offset, data)
}

// Offsets of fields in their headers (IEEE 802.3; RFC 791, 826, 768).
const (
	atSource      = 12
	atDestination = 16
	atFragment    = 6
	atProtocol    = 9
	atARPSender   = 8
)

// inPrefix matches an IPv4 address at offset of the IP header.
func inPrefix(offset uint32, p netip.Prefix) match {
	if p.Bits() == 0 {
		return nil
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return match{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		compare(expr.CmpOpEq, p.Masked().Addr().AsSlice()),
	}
}

func source(a netip.Addr) match      { return header(atSource, a.AsSlice()) }
func destination(a netip.Addr) match { return header(atDestination, a.AsSlice()) }

// whole matches packets that are not fragments: neither offset nor "more fragments".
func whole() match {
	return match{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: atFragment, Len: 2},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: make([]byte, 2)},
		compare(expr.CmpOpEq, []byte{0, 0}),
	}
}

// protocol matches IP's protocol number by what the kernel parsed, not by a byte that may be behind options.
func protocol(p uint8) match {
	return match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(expr.CmpOpEq, []byte{p})}
}

// ports matches the destination port of TCP and UDP.
func ports(from, to uint16) match {
	m := match{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
	low, high := binary.BigEndian.AppendUint16(nil, from), binary.BigEndian.AppendUint16(nil, to)
	if from == to {
		return append(m, compare(expr.CmpOpEq, low))
	}
	return append(m, &expr.Range{Op: expr.CmpOpEq, Register: register, FromData: low, ToData: high})
}

// deviceName is a name as the kernel compares it.
func deviceName(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func arrivedBy(device string) match {
	return match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, compare(expr.CmpOpEq, deviceName(device))}
}
func leavesBy(device string) match {
	return match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, compare(expr.CmpOpEq, deviceName(device))}
}
func notLeavesBy(device string) match {
	return match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, compare(expr.CmpOpNeq, deviceName(device))}
}

// arrivedByPrefix and leavesByPrefix match every device whose name begins so.
func arrivedByPrefix(s string) match {
	return match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, compare(expr.CmpOpEq, []byte(s))}
}
func leavesByPrefix(s string) match {
	return match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, compare(expr.CmpOpEq, []byte(s))}
}

// notIPv4 matches everything else that an inet chain sees.
func notIPv4() match {
	return match{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(expr.CmpOpNeq, []byte{unix.NFPROTO_IPV4})}
}

// byUser matches packets of sockets that uid opened, as the namespace's owner counts uids.
func byUser(uid uint32) match {
	return match{&expr.Meta{Key: expr.MetaKeySKUID, Register: register}, compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(uid))}
}

// state matches packets in any of the conntrack states.
func state(bits uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		compare(expr.CmpOpNeq, make([]byte, 4)),
	}
}

const (
	stateNew         = expr.CtStateBitNEW
	stateEstablished = expr.CtStateBitESTABLISHED
	stateRelated     = expr.CtStateBitRELATED
	stateInvalid     = expr.CtStateBitINVALID
)

// addressIn matches when the address at offset of the IP header is in a set.
func addressIn(offset uint32, set string) match {
	return match{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Lookup{SourceRegister: register, SetName: set}}
}

// notBoundIn matches when device and source address are not a pair in a set.
func notBoundIn(set string) match {
	return match{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG32_00},
		&expr.Payload{DestRegister: unix.NFT_REG32_04, Base: expr.PayloadBaseNetworkHeader, Offset: atSource, Len: 4},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set, Invert: true},
	}
}

// byDevice goes where a map says for the device.
func byDevice(key expr.MetaKey, set string) match {
	return match{&expr.Meta{Key: key, Register: register}, &expr.Lookup{SourceRegister: register, SetName: set, IsDestRegSet: true}}
}

// atMost and moreThan match by how many packets a second the rule has seen.
func atMost(perSecond uint64, burst uint32) match {
	return match{&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: burst}}
}
func moreThan(perSecond uint64, burst uint32) match {
	return match{&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: burst, Over: true}}
}

// moreFlowsThan matches the beginning of a connection when that many which the rule has seen still last.
func moreFlowsThan(n uint32) match {
	return match{&expr.Connlimit{Count: n, Flags: expr.NFT_CONNLIMIT_F_INV}}
}

func accept() match { return match{&expr.Verdict{Kind: expr.VerdictAccept}} }

// drop counts what it drops, for whoever reads the rules with nft.
func drop() match { return match{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

func jump(chain string) match { return match{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }

func masquerade() match { return match{&expr.Masq{}} }

// element is an IPv4 address in a set.
func element(a netip.Addr) []nftables.SetElement {
	return []nftables.SetElement{{Key: a.AsSlice()}}
}
