package display_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"carrel/internal/display"
	"carrel/internal/ident"
	"carrel/internal/rfb"

	"github.com/coder/websocket"
)

// The figures of P10: what the relay costs beside a plain copy between the same two kinds of socket. Run them together:
//
//	go test -run XXX -bench . ./internal/display

var full = rfb.Size{Width: 1920, Height: 1080}

// pictureOf is an update of the whole screen in rectangles as QEMU's Tight encoder makes them.
func pictureOf(body int) []byte {
	const w, h = 64, 60
	n := (full.Width / w) * (full.Height / h)
	b := rfb.AppendUpdate(nil, n)
	for y := 0; y < full.Height; y += h {
		for x := 0; x < full.Width; x += w {
			b = rfb.AppendRectangle(b, pt(x, y), rfb.Size{Width: w, Height: h}, rfb.Tight)
			b = append(rfb.AppendCompactLength(append(b, 0), body), make([]byte, body)...)
		}
	}
	return b
}

// sockets are a listener whose other ends are given one by one.
type sockets struct{ net.Listener }

func listen(b *testing.B) sockets {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return sockets{l}
}

func (s sockets) Connect(ctx context.Context, _ ident.WorkspaceID) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr().String())
}

// machine answers every request for an update with the same one, and every key with key.
func (s sockets) machine(b *testing.B, update, key []byte) {
	go func() {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := rfb.Accept(conn, rfb.ServerInit{Screen: full}); err != nil {
			b.Error(err)
			return
		}
		in := rfb.NewClientStream(conn, func() rfb.Size { return full }, rfb.ClientLimits{}, nil)
		for {
			ev, err := in.Next()
			if err != nil {
				return
			}
			switch ev.Type {
			case rfb.UpdateRequest:
				_, err = conn.Write(update)
			case rfb.KeyEvent:
				_, err = conn.Write(key)
			}
			if err != nil {
				return
			}
		}
	}()
}

// reader takes what comes and decodes nothing.
type reader struct {
	b   *testing.B
	ws  *websocket.Conn
	ctx context.Context
	buf []byte
}

func (r *reader) take(n int) {
	for n > 0 {
		kind, m, err := r.ws.Reader(r.ctx)
		if err != nil {
			r.b.Fatal(err)
		}
		for {
			got, err := m.Read(r.buf)
			if kind == websocket.MessageBinary {
				n -= got
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				r.b.Fatal(err)
			}
		}
	}
	if n < 0 {
		r.b.Fatalf("%d bytes more than expected", -n)
	}
}

func (r *reader) send(m []byte) {
	if err := r.ws.Write(r.ctx, websocket.MessageBinary, m); err != nil {
		r.b.Fatal(err)
	}
}

func relayed(b *testing.B, update, key []byte) *reader {
	o := newOffice(b, display.Policy{})
	o.Limits.InputRate = 1 << 30
	s := listen(b)
	s.machine(b, update, key)
	o.Screens = s
	p, _, err := o.dial(b, http.Header{"Origin": {origin}}, display.Protocol)
	if err != nil {
		b.Fatal(err)
	}
	p.present(b, o.ticket(b, ada()))
	r := &reader{b, p.ws, context.Background(), make([]byte, 256<<10)}
	if _, err := rfb.Connect(p, true, full); err != nil {
		b.Fatal(err)
	}
	r.send(rfb.AppendSetEncodings(nil, []rfb.Encoding{rfb.Tight, rfb.Raw}))
	return r
}

// copied is the same way without any protocol: two sockets and a copy in each direction.
func copied(b *testing.B, update, key []byte) net.Conn {
	s, front := listen(b), listen(b)
	s.machine(b, update, key)
	go func() {
		near, err := front.Accept()
		if err != nil {
			return
		}
		far, err := s.Connect(context.Background(), "")
		if err != nil {
			b.Error(err)
			return
		}
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
		_, _ = far.Close(), near.Close()
	}()
	conn, err := front.Connect(context.Background(), "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if _, err := rfb.Connect(conn, true, full); err != nil {
		b.Fatal(err)
	}
	return conn
}

func BenchmarkThroughput(b *testing.B) {
	ask := rfb.AppendUpdateRequest(nil, true, full)
	for _, size := range []struct {
		name string
		body int
	}{{"1MiB-pictures", 1900}, {"5MiB-pictures", 9500}} {
		update := pictureOf(size.body)
		b.Run("relay/"+size.name, func(b *testing.B) {
			r := relayed(b, update, nil)
			b.SetBytes(int64(len(update)))
			b.ReportAllocs()
			for b.Loop() {
				r.send(ask)
				r.take(len(update))
			}
		})
		b.Run("copy/"+size.name, func(b *testing.B) {
			conn := copied(b, update, nil)
			buf := make([]byte, 256<<10)
			b.SetBytes(int64(len(update)))
			for b.Loop() {
				if _, err := conn.Write(ask); err != nil {
					b.Fatal(err)
				}
				for left := len(update); left > 0; {
					n, err := conn.Read(buf[:min(left, len(buf))])
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
			}
		})
	}
}

// BenchmarkRoundTrip is a key that is answered with a small picture.
func BenchmarkRoundTrip(b *testing.B) {
	press := rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 'x'})
	answer := append(rfb.AppendRectangle(rfb.AppendUpdate(nil, 1), pt(0, 0), rfb.Size{Width: 8, Height: 16}, rfb.Tight), 0x80, 1, 2, 3)
	b.Run("relay", func(b *testing.B) {
		r := relayed(b, nil, answer)
		b.ReportAllocs()
		for b.Loop() {
			r.send(press)
			r.take(len(answer))
		}
	})
	b.Run("copy", func(b *testing.B) {
		conn := copied(b, nil, answer)
		in := bufio.NewReader(conn)
		for b.Loop() {
			if _, err := conn.Write(press); err != nil {
				b.Fatal(err)
			}
			if _, err := in.Discard(len(answer)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCut is P11: from the call of Cut to the farewell read by the slowest of a thousand browsers.
func BenchmarkCut(b *testing.B) {
	const sessions = 1000
	quiet := script{size: small, fn: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }}
	var slowest time.Duration
	for b.Loop() {
		b.StopTimer()
		o := newOffice(b, display.Policy{Shared: true})
		o.Tickets, o.Screens = manyTickets(b), quiet
		var readers sync.WaitGroup
		var cut time.Time
		took := make([]time.Duration, sessions)
		for i := range sessions {
			p := o.open(b, ada())
			p.connect(b, []rfb.Encoding{rfb.Raw})
			readers.Go(func() {
				p.end(b)
				took[i] = time.Since(cut)
			})
		}
		b.StartTimer()
		cut = time.Now()
		if n := o.Registry.Cut(display.Match{UserSID: ada().UserSID}, display.ReasonRuleChanged); n != sessions {
			b.Fatalf("%d cut", n)
		}
		readers.Wait()
		b.StopTimer()
		slices.Sort(took)
		slowest = max(slowest, took[sessions*99/100])
		b.StartTimer()
	}
	b.ReportMetric(float64(slowest.Microseconds())/1000, "p99-ms")
}
