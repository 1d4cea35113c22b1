package display_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/display"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"
)

// script is a screen made for one test: fn speaks as the machine, after the handshake.
type script struct {
	size rfb.Size
	fn   func(conn net.Conn)
	// raw, when set, is all the machine says instead of a handshake.
	raw []byte
}

func (s script) Connect(context.Context, ident.WorkspaceID) (net.Conn, error) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = far.Close() }()
		if s.raw != nil {
			go func() { _, _ = io.Copy(io.Discard, far) }()
			_, _ = far.Write(s.raw)
			return
		}
		if _, err := rfb.Accept(far, rfb.ServerInit{Screen: s.size, Name: "${jndi:ldap://evil}"}); err != nil {
			return
		}
		s.fn(far)
	}()
	return waiting{near, done}, nil
}

type waiting struct {
	net.Conn
	done chan struct{}
}

func (w waiting) Close() error {
	err := w.Conn.Close()
	<-w.done
	return err
}

var small = rfb.Size{Width: 64, Height: 48}

func TestSTR1AHostileDesktopEndsItsOwnSessionOnly(t *testing.T) {
	// says sends b and listens to whatever comes.
	says := func(b []byte) script {
		return script{size: small, fn: func(conn net.Conn) {
			go func() { _, _ = conn.Write(b) }()
			_, _ = io.Copy(io.Discard, conn)
		}}
	}
	header := func(x, y, w, h int, e rfb.Encoding) []byte {
		return rfb.AppendRectangle(rfb.AppendUpdate(nil, 1), pt(x, y), rfb.Size{Width: w, Height: h}, e)
	}
	for name, c := range map[string]struct {
		screen script
		want   display.Reason
	}{
		"a rectangle beyond the screen": {says(header(60, 0, 5, 1, rfb.Raw)), display.ReasonProtocol},
		"a rectangle of 65535x65535":    {says(header(0, 0, 65535, 65535, rfb.Tight)), display.ReasonProtocol},
		"an encoding nobody asked for":  {says(header(0, 0, 1, 1, 5)), display.ReasonProtocol},
		"a clipboard of 2 GiB":          {says([]byte{3, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff}), display.ReasonProtocol},
		"a message nobody knows":        {says([]byte{99}), display.ReasonProtocol},
		"a screen of 65535x65535":       {script{size: rfb.Size{Width: 65535, Height: 65535}, fn: func(net.Conn) {}}, display.ReasonProtocol},
		"an endless name":               {script{raw: slices.Concat([]byte("RFB 003.008\n\x01\x01\x00\x00\x00\x00\x00\x40\x00\x30"), make([]byte, 16), []byte{0xff, 0xff, 0xff, 0xff})}, display.ReasonProtocol},
		"a password wanted":             {script{raw: []byte("RFB 003.008\n\x01\x02")}, display.ReasonProtocol},
		"not a screen at all":           {script{raw: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, display.ReasonProtocol},
		"nothing":                       {script{raw: []byte{}}, display.ReasonDesktopEnded},
		"half a message": {script{size: small, fn: func(c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			_, _ = c.Write(header(0, 0, 64, 48, rfb.Raw))
		}}, display.ReasonDesktopEnded},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, display.Policy{Title: "desktop"})
			o.Screens = c.screen
			p := o.open(t, ada())
			if len(c.screen.raw) == 0 && c.screen.fn != nil && c.screen.size == small {
				p.connect(t, rfbtest.Encodings)
			}
			if why := p.end(t); why != c.want {
				t.Errorf("%q, want %q", why, c.want)
			}
			if strings.Contains(o.log.String(), "jndi") {
				t.Error("STR-4: the log holds what a guest calls itself")
			}
		})
	}
}

func TestADesktopThatStopsWithinAMessageIsUnreachable(t *testing.T) {
	o := newOffice(t, display.Policy{})
	o.Limits.ScreenStall = 50 * time.Millisecond
	o.Screens = script{size: small, fn: func(c net.Conn) {
		go func() { _, _ = c.Write([]byte{0, 0, 0, 1, 0}) }()
		_, _ = io.Copy(io.Discard, c)
	}}
	if why := o.look(t, rfbtest.Encodings).end(t); why != display.ReasonUnreachable {
		t.Errorf("%q", why)
	}
}

func TestADesktopThatTakesNoKeysIsUnreachable(t *testing.T) {
	o := newOffice(t, display.Policy{})
	o.Limits.ScreenStall = 50 * time.Millisecond
	// It says something that nobody waits for yet, and listens to nothing.
	o.Screens = script{size: small, fn: func(c net.Conn) { _, _ = c.Write([]byte{rfb.Bell}) }}
	if why := o.open(t, ada()).end(t); why != display.ReasonUnreachable {
		t.Errorf("%q", why)
	}
}

func TestSTR2AHostileBrowserIsCut(t *testing.T) {
	for name, b := range map[string][]byte{
		"65535 encodings":               {2, 0, 0xff, 0xff},
		"a clipboard of 2 GiB":          {6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
		"8-bit colours":                 append([]byte{0, 0, 0, 0, 8, 8, 0, 0}, make([]byte, 12)...),
		"power control":                 {250, 0, 1, 2},
		"audio":                         {255, 1, 0, 0},
		"a message nobody knows":        {99},
		"another pixel format later on": rfb.AppendSetPixelFormat(nil, rfb.PixelFormat{RedShift: 8, GreenShift: 16, BlueShift: 24}),
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, display.Policy{})
			p := o.look(t, rfbtest.Encodings)
			p.until(t, func() bool { return p.Updates > 0 })
			if err := p.Send(b); err != nil {
				t.Fatal(err)
			}
			if why := p.end(t); why != display.ReasonProtocol {
				t.Errorf("%q", why)
			}
		})
	}
	t.Run("text where RFB belongs", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, rfbtest.Encodings)
		if err := p.ws.Write(p.ctx, 1, []byte(`{"type":"keys"}`)); err != nil {
			t.Fatal(err)
		}
		if why := p.end(t); why != display.ReasonProtocol {
			t.Errorf("%q", why)
		}
	})
	t.Run("continuous updates that were not offered", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, []rfb.Encoding{rfb.Raw})
		if err := p.Send(rfb.AppendEnableContinuousUpdates(nil, true, small)); err != nil {
			t.Fatal(err)
		}
		if why := p.end(t); why != display.ReasonProtocol {
			t.Errorf("%q", why)
		}
	})
}

func TestSTR2AFloodOfKeysWaits(t *testing.T) {
	o := newOffice(t, display.Policy{})
	o.Limits.InputRate = 10 // A hundred at once, then ten a second.
	o.Clock = frozen{}      // No second ever passes.
	p := o.look(t, rfbtest.Encodings)
	if err := p.Type(strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(t, func() bool { return len(o.acted(display.ActKey)) >= 90 }); err != nil {
		t.Fatal(err)
	}
	if n := len(o.acted(display.ActKey)); n > 100 {
		t.Errorf("%d keys came through", n)
	}
	if n := o.Registry.Cut(display.Match{}, display.ReasonSignedOut); n != 1 {
		t.Errorf("%d cut", n)
	}
}

// painter is a screen that changes all the time: each picture is one colour, counted up, and is made when it is asked for.
type painter struct {
	mu     sync.Mutex
	size   rfb.Size
	now    uint32 // what the screen shows
	asked  int
	served []uint32
}

func (p *painter) serve(conn net.Conn) {
	in := rfb.NewClientStream(conn, func() rfb.Size { return p.size }, rfb.ClientLimits{}, nil)
	for {
		ev, err := in.Next()
		if err != nil {
			return
		}
		if ev.Type != rfb.UpdateRequest {
			continue
		}
		p.mu.Lock()
		p.asked++
		p.now++
		colour := p.now
		p.served = append(p.served, colour)
		p.mu.Unlock()
		b := rfb.AppendRectangle(rfb.AppendUpdate(nil, 1), pt(0, 0), p.size, rfb.Raw)
		b = append(b, bytes.Repeat([]byte{byte(colour), byte(colour >> 8), byte(colour >> 16), 0}, p.size.Width*p.size.Height)...)
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// shows gives the colour a page shows.
func shows(p *page) uint32 {
	c := p.Picture.RGBAAt(0, 0)
	return uint32(c.B) | uint32(c.G)<<8 | uint32(c.R)<<16
}

func (p *painter) state() (now uint32, asked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.asked
}

func TestSTR3ASlowReaderHasFewOldPicturesAheadOfIt(t *testing.T) {
	for name, encodings := range map[string][]rfb.Encoding{"with fences": rfbtest.Encodings, "asking for each": {rfb.Raw}} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, display.Policy{})
			screen := &painter{size: rfb.Size{Width: 1024, Height: 768}} // 3 MiB a picture
			o.Screens = script{size: screen.size, fn: screen.serve}
			p := o.look(t, encodings)
			p.until(t, func() bool { return p.Updates >= 3 && (p.Continuous || len(encodings) == 1) })
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			// The page stops reading while the screen goes on for a thousand pictures.
			_, asked := screen.state()
			if err := waitFor(t, func() bool {
				_, first := screen.state()
				time.Sleep(20 * time.Millisecond)
				_, second := screen.state()
				return first == second
			}); err != nil {
				t.Fatal("the screen is asked all the time")
			}
			screen.mu.Lock()
			if more := screen.asked - asked; more > 8 {
				t.Errorf("%d pictures were asked for while nobody took them", more)
			}
			screen.now += 1000
			current := screen.now
			screen.mu.Unlock()
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
				t.Errorf("memory grew by %d bytes", grown)
			}
			// What was on its way comes first, and then the newest.
			old := 0
			for shows(p) < current {
				if _, err := p.Next(); err != nil {
					t.Fatal(err)
				}
				old++
			}
			if old > 20 { // Pictures, fences and pseudo-rectangles together.
				t.Errorf("%d messages before the newest picture", old)
			}
		})
	}
}

func TestSTR3AReaderThatTakesNothingIsCutWithoutAFarewell(t *testing.T) {
	o := newOffice(t, display.Policy{})
	screen := &painter{size: rfb.Size{Width: 4096, Height: 2160}}
	o.Screens = script{size: screen.size, fn: screen.serve}
	p := o.look(t, []rfb.Encoding{rfb.Raw})
	_ = p
	if err := waitFor(t, func() bool { _, asked := screen.state(); return asked > 0 }); err != nil {
		t.Fatal(err)
	}
	if n := o.Registry.Cut(display.Match{}, display.ReasonSignedOut); n != 1 {
		t.Fatalf("%d cut", n)
	}
	if err := waitFor(t, func() bool { return slices.Contains(o.changed(), "disconnected ada signed-out") }); err != nil {
		t.Fatal(err)
	}
}

func TestSTR3AnIdleSessionCostsLittle(t *testing.T) {
	const sessions = 100
	o := newOffice(t, display.Policy{Shared: true})
	o.Tickets = manyTickets(t)
	o.Screens = script{size: small, fn: func(c net.Conn) {
		in := rfb.NewClientStream(c, func() rfb.Size { return small }, rfb.ClientLimits{}, nil)
		for sent := false; ; {
			ev, err := in.Next()
			if err != nil {
				return
			}
			if ev.Type == rfb.UpdateRequest && !sent {
				sent = true
				b := rfb.AppendRectangle(rfb.AppendUpdate(nil, 1), pt(0, 0), small, rfb.Raw)
				if _, err := c.Write(append(b, make([]byte, 64*48*4)...)); err != nil {
					return
				}
			}
		}
	}}
	use := func() int64 {
		var m runtime.MemStats
		for range 3 { // The second empties pools.
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	warm := o.look(t, rfbtest.Encodings)
	warm.until(t, func() bool { return warm.Updates == 1 })
	before := use()
	for range sessions {
		p := o.look(t, rfbtest.Encodings)
		p.until(t, func() bool { return p.Updates == 1 && p.Continuous })
		// Of the browser's half, what is large is given back.
		p.Viewer, p.rest = nil, nil
	}
	each := (use() - before) / sessions
	t.Logf("%d bytes a session, the fake screen's and browser's halves included", each)
	if each > 128<<10 {
		t.Errorf("an idle session costs %d bytes", each)
	}
}

func TestABrowserThatAnswersNoPingIsLost(t *testing.T) {
	o := newOffice(t, display.Policy{})
	o.Limits.Beat, o.Limits.Ping, o.Limits.BrowserStall = 5*time.Millisecond, time.Millisecond, 50*time.Millisecond
	p := o.look(t, rfbtest.Encodings)
	p.until(t, func() bool { return p.Updates > 0 })
	// It neither reads (the library answers pings while it reads) nor says anything any more.
	if err := waitFor(t, func() bool { return slices.Contains(o.changed(), "disconnected ada lost") }); err != nil {
		t.Fatal(o.changed())
	}
}

func TestABrowserThatAnswersPingsStays(t *testing.T) {
	o := newOffice(t, display.Policy{})
	o.Limits.Beat, o.Limits.Ping = 5*time.Millisecond, time.Millisecond
	p := o.look(t, rfbtest.Encodings)
	// Measuring fences are beats of the session: there have been pings in between.
	p.until(t, func() bool { return p.Fences >= 10 })
	if live := o.Registry.List(display.Match{}); len(live) != 1 {
		t.Errorf("%+v", o.changed())
	}
}
