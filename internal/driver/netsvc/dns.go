package netsvc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"carrel/internal/ident"

	"github.com/miekg/dns"
)

// What one desktop, and all of them, may ask for. AWS's resolver takes 1024 packets a second from an interface (VPC User Guide, "DNS quotas").
const (
	dnsPerSecond      = 1024
	dnsAtOnce         = 64
	dnsAtOnceAll      = 1024
	dnsConnections    = 16
	dnsConnectionsAll = 512
	dnsPerConnection  = 128
	dnsIdle           = 10 * time.Second
	dnsPatience       = 5 * time.Second
	maxQuery          = 1232 // A question fits into the smallest answer everybody takes (DNS flag day 2020).
	maxAnswer         = 16 << 10
	ownTTL            = 60
	plainUDP          = dns.MinMsgSize
	otherResolver     = "169.254.169.253"
)

// serveDNS answers at a VPC's resolver address and at the one that is the same everywhere.
func (s *Server) serveDNS(ctx context.Context, vpc ident.VPCID, cidr netip.Prefix, resolver netip.Addr) error {
	d := &resolving{server: s, vpc: vpc, cidr: cidr, limit: &rate{perSecond: dnsPerSecond, burst: dnsPerSecond, now: time.Now},
		slots: &slots{each: dnsAtOnce, all: dnsAtOnceAll}}
	connections := &slots{each: dnsConnections, all: dnsConnectionsAll}
	var closers []io.Closer
	var work []func(context.Context) error
	for _, host := range []string{resolver.String(), otherResolver} {
		address := net.JoinHostPort(host, "53")
		packets, err := s.listenPacket(ctx, vpc, address, "")
		if err != nil {
			return errors.Join(err, closeAll(closers))
		}
		closers = append(closers, packets)
		stream, err := s.listen(ctx, vpc, address, 0)
		if err != nil {
			return errors.Join(err, closeAll(closers))
		}
		stream = &boundedListener{stream, connections}
		closers = append(closers, stream)
		work = append(work, func(ctx context.Context) error { return d.packets(ctx, packets) }, func(ctx context.Context) error { return d.streams(ctx, stream) })
	}
	return together(ctx, closers, work)
}

func closeAll(all []io.Closer) error {
	var err error
	for _, c := range all {
		err = errors.Join(err, c.Close())
	}
	return err
}

// together runs parts until the first ends or ctx does, closes what they read from, and waits for all of them.
func together(ctx context.Context, closers []io.Closer, parts []func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() { stop(part(ctx)) })
	}
	<-ctx.Done()
	_ = closeAll(closers)
	all.Wait()
	return context.Cause(ctx)
}

// resolving is the resolver of one VPC.
type resolving struct {
	server *Server
	vpc    ident.VPCID
	cidr   netip.Prefix
	limit  *rate
	slots  *slots
}

// packets answers datagrams.
func (d *resolving) packets(ctx context.Context, conn *net.UDPConn) error {
	var pending sync.WaitGroup
	defer pending.Wait()
	b := make([]byte, maxQuery+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		source := from.Addr().Unmap()
		if n > maxQuery || !d.limit.allow(source) || !d.slots.take(source) {
			continue
		}
		message := append([]byte(nil), b[:n]...)
		pending.Go(func() {
			defer d.slots.give(source)
			if reply := d.answer(ctx, message, false); reply != nil {
				_, _ = conn.WriteToUDPAddrPort(reply, from) // Lost like any datagram.
			}
		})
	}
}

// streams answers connections.
func (d *resolving) streams(ctx context.Context, l net.Listener) error {
	var pending sync.WaitGroup
	defer pending.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		pending.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			d.stream(ctx, c)
		})
	}
}

// stream answers one connection's questions, one after the other (RFC 7766).
func (d *resolving) stream(ctx context.Context, c net.Conn) {
	source := remote(c.RemoteAddr())
	for range dnsPerConnection {
		_ = c.SetDeadline(time.Now().Add(dnsIdle))
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint16(size[:])
		if n == 0 || n > maxQuery {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(c, message); err != nil || !d.limit.allow(source) || !d.slots.take(source) {
			return
		}
		reply := d.answer(ctx, message, true)
		d.slots.give(source)
		if reply == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// answer makes the answer to a message; nil: none.
func (d *resolving) answer(ctx context.Context, message []byte, stream bool) []byte {
	q, code := parseQuestion(message)
	if q == nil {
		return nil
	}
	reply := new(dns.Msg)
	if code != dns.RcodeSuccess {
		reply.SetRcode(q, code)
	} else {
		ctx, stop := context.WithTimeout(ctx, dnsPatience)
		defer stop()
		reply = d.resolve(ctx, q)
	}
	reply.RecursionAvailable = true
	size := plainUDP
	if o := q.IsEdns0(); o != nil {
		size = max(plainUDP, min(int(o.UDPSize()), maxQuery))
		reply.SetEdns0(maxQuery, false)
	}
	if stream {
		size = maxAnswer
	}
	reply.Compress = true
	reply.Truncate(size)
	b, err := reply.Pack()
	if err != nil || len(b) > maxAnswer {
		failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		if b, err = failed.Pack(); err != nil {
			return nil
		}
	}
	return b
}

// parseQuestion reads a client's message. nil: nothing that is answered; a code other than success is the answer.
func parseQuestion(message []byte) (*dns.Msg, int) {
	q := new(dns.Msg)
	if err := q.Unpack(message); err != nil || q.Response {
		return nil, 0
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return q, dns.RcodeNotImplemented
	case len(q.Question) != 1 || len(q.Answer) > 0 || len(q.Ns) > 0:
		q.Question = q.Question[:min(len(q.Question), 1)]
		return q, dns.RcodeFormatError
	case q.Question[0].Qclass != dns.ClassINET:
		return q, dns.RcodeRefused
	}
	switch q.Question[0].Qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return q, dns.RcodeRefused // Answers much larger than questions, or whole zones.
	}
	return q, dns.RcodeSuccess
}

// resolve answers a question that is well formed.
func (d *resolving) resolve(ctx context.Context, q *dns.Msg) *dns.Msg {
	name := strings.ToLower(q.Question[0].Name)
	zones := d.server.cfg.Zones(d.vpc)
	for _, z := range zones {
		if within(name, z.Name) {
			return d.fromZone(ctx, q, z)
		}
	}
	if a, ok := reverse(name); ok {
		return d.reversed(ctx, q, a, zones)
	}
	if within(name, d.server.internalDomain()) {
		return d.internal(q, name)
	}
	// Names that mean something on one network only are never asked for elsewhere (RFC 6761, 6762, 7686, 8375, 9476; "internal": ICANN).
	for _, special := range []string{"localhost", "local", "invalid", "onion", "home.arpa", "alt", "internal", "ip6.arpa"} {
		if within(name, special) {
			return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		}
	}
	if name != "." && dns.CountLabel(name) < 2 && q.Question[0].Qtype != dns.TypeNS && q.Question[0].Qtype != dns.TypeDS && q.Question[0].Qtype != dns.TypeSOA && q.Question[0].Qtype != dns.TypeDNSKEY {
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	}
	return d.fromWorld(ctx, q)
}

// within tells whether a name with its last dot is a zone's (without) or under it.
func within(name, zone string) bool {
	zone = strings.ToLower(dns.Fqdn(zone))
	return name == zone || strings.HasSuffix(name, "."+zone)
}

// reverse gives the address that a reverse name stands for; invalid for a part of a range. false: it is no IPv4 reverse name.
func reverse(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, name == "in-addr.arpa."
	}
	parts := strings.Split(digits, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	if err != nil || !a.Is4() {
		return netip.Addr{}, true
	}
	return a, true
}

// reversed answers who has an address.
func (d *resolving) reversed(ctx context.Context, q *dns.Msg, a netip.Addr, zones []Zone) *dns.Msg {
	host := ""
	for _, z := range zones {
		if h := z.Hosts[a]; h != "" {
			host = h
		}
	}
	if _, ok := d.server.who(d.vpc, a); ok && host == "" {
		host = internalName(a) + "." + d.server.internalDomain()
	}
	if host != "" {
		if q.Question[0].Qtype != dns.TypePTR {
			return new(dns.Msg).SetReply(q)
		}
		return own(q, &dns.PTR{Hdr: header(q), Ptr: dns.Fqdn(host)})
	}
	// What is private, in this VPC or elsewhere, is nobody else's business.
	if !a.IsValid() || d.cidr.Contains(a) || a.IsPrivate() || !a.IsGlobalUnicast() {
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	}
	return d.fromWorld(ctx, q)
}

// internal answers names of the region's internal domain: those of desktops in this VPC, by address and by what they are called, and no others.
func (d *resolving) internal(q *dns.Msg, name string) *dns.Msg {
	label, rest, _ := strings.Cut(name, ".")
	digits, ok := strings.CutPrefix(label, "ip-")
	a, err := netip.ParseAddr(strings.ReplaceAll(digits, "-", "."))
	here := ok && err == nil && a.Is4()
	if here {
		_, here = d.server.who(d.vpc, a)
	}
	if !here {
		a, here = d.server.named(d.vpc, label)
	}
	if here && rest == dns.Fqdn(d.server.internalDomain()) {
		if q.Question[0].Qtype != dns.TypeA {
			return new(dns.Msg).SetReply(q)
		}
		return own(q, &dns.A{Hdr: header(q), A: a.AsSlice()})
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
}

func header(q *dns.Msg) dns.RR_Header {
	return dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: ownTTL}
}

func own(q *dns.Msg, rr dns.RR) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	m.Answer = []dns.RR{rr}
	return m
}
