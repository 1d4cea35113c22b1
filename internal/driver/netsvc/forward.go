package netsvc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// tryFor is how long one server is waited for before the next is asked.
const tryFor = 1500 * time.Millisecond

// dialer connects to a server that answers for us.
type dialer func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)

// fromZone asks a zone's own servers, which are inside the VPC.
func (d *resolving) fromZone(ctx context.Context, q *dns.Msg, z Zone) *dns.Msg {
	servers := make([]netip.AddrPort, len(z.Servers))
	for i, a := range z.Servers {
		servers[i] = netip.AddrPortFrom(a, 53)
	}
	return forward(ctx, q, servers, func(ctx context.Context, network string, server netip.AddrPort) (c net.Conn, err error) {
		err = d.server.cfg.Enter(ctx, d.vpc, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, server.String())
			return err
		})
		return c, err
	})
}

// fromWorld asks the configured resolvers from the host's own network.
func (d *resolving) fromWorld(ctx context.Context, q *dns.Msg) *dns.Msg {
	m := forward(ctx, q, d.server.cfg.Resolvers, func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.String())
	})
	// A name of the outside that points inside lets a web page in a desktop's browser talk to what is there (DNS rebinding): to the metadata
	// service, whose answers are for the desktop and not for its visitors, above all.
	m.Answer = dropRebinding(m.Answer)
	return m
}

func dropRebinding(all []dns.RR) []dns.RR {
	kept := all[:0:0]
	for _, rr := range all {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		default:
			kept = append(kept, rr)
			continue
		}
		if a = a.Unmap(); a.IsValid() && !a.IsLinkLocalUnicast() && !a.IsLoopback() && !a.IsUnspecified() {
			kept = append(kept, rr)
		}
	}
	return kept
}

// forward asks servers in order until one answers. Nothing of the client's message but its question is sent on: no bytes of a guest's reach
// a server outside as they are.
func forward(ctx context.Context, q *dns.Msg, servers []netip.AddrPort, dial dialer) *dns.Msg {
	for _, server := range servers {
		reply, err := exchange(ctx, "udp", server, q, dial)
		if err == nil && reply.Truncated {
			reply, err = exchange(ctx, "tcp", server, q, dial)
		}
		if err != nil || reply.Rcode == dns.RcodeServerFailure || reply.Rcode == dns.RcodeRefused {
			continue
		}
		m := new(dns.Msg).SetReply(q)
		m.Rcode, m.Authoritative = reply.Rcode, false
		m.Answer, m.Ns = reply.Answer, reply.Ns
		return m
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

var errOtherQuestion = errors.New("the answer is to another question")

// exchange asks one server.
func exchange(ctx context.Context, network string, server netip.AddrPort, q *dns.Msg, dial dialer) (*dns.Msg, error) {
	ctx, stop := context.WithTimeout(ctx, tryFor)
	defer stop()
	c, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	asked := q.Question[0]
	m := new(dns.Msg)
	m.SetQuestion(asked.Name, asked.Qtype) // With an id of its own.
	m.SetEdns0(maxQuery, false)
	client := &dns.Client{Net: network, Timeout: tryFor, UDPSize: maxQuery}
	reply, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: c, UDPSize: maxQuery})
	if err != nil {
		return nil, err
	}
	if len(reply.Question) != 1 || !strings.EqualFold(reply.Question[0].Name, asked.Name) || reply.Question[0].Qtype != asked.Qtype || reply.Question[0].Qclass != asked.Qclass {
		return nil, errOtherQuestion
	}
	return reply, nil
}
