package netsvc

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketOptions sets what must be set before a socket is bound. With a device the socket hears that device only and may send broadcasts; the
// address is shared with those of other devices.
func socketOptions(ttl int, device string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			if ttl > 0 {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl)
			}
			if device != "" {
				failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), device))
			}
		})
		return errors.Join(err, failed)
	}
}

// fromAddress is the control message that gives a datagram its source address; the device has none of its own to choose.
func fromAddress(a netip.Addr) []byte {
	info := unix.Inet4Pktinfo{Spec_dst: a.As4()}
	return unix.PktInfo4(&info)
}

// rate bounds how many questions a source may ask: tokens a second, with a burst. Sources are few: a VPC's desktops.
type rate struct {
	perSecond, burst float64
	now              func() time.Time

	mu      sync.Mutex
	sources map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxSources bounds the table; the fabric lets nobody forge addresses, so it only fills with former desktops.
const maxSources = 4096

// allow takes a token of a source's.
func (r *rate) allow(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.sources[a]
	if b == nil {
		if r.sources == nil || len(r.sources) >= maxSources {
			r.sources = map[netip.Addr]*bucket{}
		}
		b = &bucket{tokens: r.burst, at: now}
		r.sources[a] = b
	}
	b.tokens = min(r.burst, b.tokens+now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// slots bounds how many things of a source, and of all, go on at once.
type slots struct {
	each, all int

	mu    sync.Mutex
	used  map[netip.Addr]int
	total int
}

// take reserves a slot. The caller calls give exactly once when it is true.
func (s *slots) take(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.all || s.used[a] >= s.each {
		return false
	}
	if s.used == nil {
		s.used = map[netip.Addr]int{}
	}
	s.used[a]++
	s.total++
	return true
}

func (s *slots) give(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.used[a]--; s.used[a] == 0 {
		delete(s.used, a)
	}
}

// boundedListener closes connections that are more than a source may have.
type boundedListener struct {
	net.Listener
	slots *slots
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := remote(c.RemoteAddr())
		if l.slots.take(a) {
			return &boundedConn{Conn: c, give: sync.OnceFunc(func() { l.slots.give(a) })}, nil
		}
		_ = c.Close()
	}
}

type boundedConn struct {
	net.Conn
	give func()
}

func (c *boundedConn) Close() error {
	defer c.give()
	return c.Conn.Close()
}

// remote is the IP address of a peer.
func remote(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
