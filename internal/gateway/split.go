package gateway

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// tlsHandshake is the first byte of every TLS connection (RFC 8446 section 5.1, ContentType handshake); no HTTP request begins with it.
const tlsHandshake = 0x16

// maxUndecided is how many connections may be waiting for their first byte.
const maxUndecided = 1024

// Split divides the connections of one listener by their first byte into those that speak TLS and those that do not.
type Split struct {
	inner      net.Listener
	tls, plain *half
	// firstByte is how long a client may take to send anything.
	firstByte time.Duration
	undecided chan struct{}
	wg        sync.WaitGroup
}

// NewSplit begins with no connection; Run does the work. A client that has sent nothing for firstByte loses its connection.
func NewSplit(l net.Listener, firstByte time.Duration) *Split {
	s := &Split{inner: l, firstByte: firstByte, undecided: make(chan struct{}, maxUndecided)}
	s.tls, s.plain = newHalf(l.Addr()), newHalf(l.Addr())
	return s
}

// TLS and Plain are the two listeners.
func (s *Split) TLS() net.Listener { return s.tls }

// Plain is the listener of connections that do not begin with a TLS handshake.
func (s *Split) Plain() net.Listener { return s.plain }

// Run accepts until ctx ends or the listener fails, and waits for what it started. Connections that are still undecided when ctx ends
// are closed: a client that says nothing must not hold up the stop.
func (s *Split) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.inner.Close() })
	defer stop()
	defer s.wg.Wait()
	defer s.tls.Close()
	defer s.plain.Close()
	for {
		select {
		case s.undecided <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := s.inner.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			<-s.undecided
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				// Out of descriptors for a moment: the next Accept waits for one.
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		s.wg.Go(func() {
			defer func() { <-s.undecided }()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			p, to := s.decide(c)
			// Once ctx has ended c is closed, or will be; then nobody gets it.
			if p != nil && stop() {
				to.give(p)
			}
		})
	}
}

// decide waits for the first byte and says whose the connection is; nil when the client sent none in time.
func (s *Split) decide(c net.Conn) (*peeked, *half) {
	p := &peeked{Conn: c, r: bufio.NewReaderSize(c, 512)}
	_ = c.SetReadDeadline(time.Now().Add(s.firstByte))
	b, err := p.r.Peek(1)
	if err != nil {
		c.Close()
		return nil, nil
	}
	_ = c.SetReadDeadline(time.Time{})
	if b[0] == tlsHandshake {
		return p, s.tls
	}
	return p, s.plain
}

type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

type half struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHalf(a net.Addr) *half {
	return &half{addr: a, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *half) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

// Accept gives the next connection of this half.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and closes whatever is still to be given.
func (h *half) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is the shared listener's address.
func (h *half) Addr() net.Addr { return h.addr }
