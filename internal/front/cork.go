package front

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// net/http hands an answer larger than its buffer of 4 KiB to the connection in two pieces. Each would be a system call, a packet and,
// on the other side, somebody woken up, which together cost as much as making the answer. So the door holds the connection's writes
// while it hands over such an answer, and lets all of it out in one.

const (
	// fitsBuffer is a body that net/http's buffers take whole, headers included, and write in one anyway.
	fitsBuffer = 2 << 10
	// maxHeld bounds what one connection holds; what is more goes out at once.
	maxHeld = 64 << 10
)

var heldBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 20<<10); return &b }}

// corked is the part of a connection that can hold its writes.
type corked struct {
	mu sync.Mutex
	// held is what waits to go out; nil: writes are not held.
	held *[]byte
}

// Write writes p, or holds it. What is held goes out under the deadline that is set by then: a client that does not read is cut off
// when it always was.
func (c *limitedConn) Write(p []byte) (int, error) {
	c.cork.mu.Lock()
	defer c.cork.mu.Unlock()
	held := c.cork.held
	if held == nil {
		return c.Conn.Write(p)
	}
	if len(*held)+len(p) <= maxHeld {
		*held = append(*held, p...)
		return len(p), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// flush writes what is held, whole. Whoever wrote it has been told that it is written: when it is not, the connection ends, for
// nothing may follow half a TLS record.
func (c *limitedConn) flush() error {
	held := c.cork.held
	if len(*held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(*held)
	*held = (*held)[:0]
	if err != nil {
		_ = c.Close()
	}
	return err
}

// hold makes writes wait until the function it gives is called.
func (c *limitedConn) hold() (letGo func()) {
	c.cork.mu.Lock()
	defer c.cork.mu.Unlock()
	c.cork.held = heldBuffers.Get().(*[]byte)
	return func() {
		c.cork.mu.Lock()
		defer c.cork.mu.Unlock()
		_ = c.flush() // it has closed the connection, and the next use tells
		if cap(*c.cork.held) <= maxHeld {
			heldBuffers.Put(c.cork.held)
		}
		c.cork.held = nil
	}
}

type connKey struct{}

// withConn lets a handler find the connection under TLS.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if under, ok := c.(*limitedConn); ok {
		return context.WithValue(ctx, connKey{}, under)
	}
	return ctx
}

// writeWhole writes the body of an answer so that it leaves in one piece with its headers. A connection of HTTP/2 belongs to many
// requests at a time and is left alone.
func writeWhole(w http.ResponseWriter, r *http.Request, body []byte) {
	if len(body) > fitsBuffer && r.ProtoMajor == 1 {
		if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
			defer c.hold()()
			_, _ = w.Write(body)
			// What of it stands in net/http's buffer would be the second piece.
			_ = http.NewResponseController(w).Flush()
			return
		}
	}
	_, _ = w.Write(body) // a client that is gone gets no answer
}
