package rfb

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
)

// ServerLimits bound what a server may send.
type ServerLimits struct {
	// Screen is the largest screen.
	Screen Size
	// TextBytes is the longest clipboard text handed on. A longer one is read away and reported as such.
	TextBytes int
}

const (
	// cursorSide bounds a cursor's width and height.
	cursorSide = 256
	// screensMax bounds the list of an ExtendedDesktopSize.
	screensMax = 16
	// textDropBytes is how much clipboard text over the limit is read away before the session ends.
	textDropBytes = 16 << 20
	// updateScreens is how many times the screen's area one update may paint. QEMU's rectangles do not overlap; the rest is leeway.
	updateScreens = 4
)

// ServerEvent is a message of a server that has been read, and passed on if it was an update.
type ServerEvent struct {
	// Type is FramebufferUpdate, Bell or ServerCutText.
	Type byte
	// Pixels: the update painted something: it is the answer to an UpdateRequest.
	Pixels bool
	// Bytes is the length of the whole message.
	Bytes int64
	// Resized: the update changed the screen's size, to what Screen now tells.
	Resized bool
	// Clip is the clipboard message of a ServerCutText.
	Clip Clip
}

// ServerStream reads what a server sends after the handshake.
type ServerStream struct {
	r        *reader
	limits   ServerLimits
	expected atomic.Uint32
	screen   atomic.Uint64
	budget   int64 // pixels that the current update may still paint
}

// NewServerStream reads from r. before, which may be nil, is called before every read with whether a message is half read (so that
// deadlines can be set). Raw and CopyRect may come at once, other encodings once Expect has been told.
func NewServerStream(r io.Reader, screen Size, limits ServerLimits, before func(mid bool)) *ServerStream {
	s := &ServerStream{r: newReader(r, before), limits: limits}
	s.setScreen(screen)
	s.Expect([]Encoding{Raw, CopyRect})
	return s
}

// Expect tells which encodings the server has been offered. They are added to earlier ones: what is on its way cannot be called back.
// It may be called while Next runs, and must be before the offer is sent.
func (s *ServerStream) Expect(offered []Encoding) {
	bits := uint32(0)
	for _, e := range offered {
		bits |= bit(e)
	}
	s.expected.Or(bits)
}

// Screen is the screen's size as last told. It may be called while Next runs.
func (s *ServerStream) Screen() Size {
	v := s.screen.Load()
	return Size{int(v >> 32), int(v & 0xffffffff)}
}

func (s *ServerStream) setScreen(z Size) { s.screen.Store(uint64(z.Width)<<32 | uint64(z.Height)) }

// Next reads one message. An update is written to sink, byte for byte, in pieces of up to 64 KiB as it is checked; nothing of it that
// breaks a bound is. Other messages are only returned.
// *Error: the server broke the protocol. io.EOF: the stream ended between two messages. Else sink's or the reader's error.
func (s *ServerStream) Next(sink io.Writer) (ServerEvent, error) {
	r := s.r
	if err := r.await(); err != nil {
		return ServerEvent{}, err
	}
	r.sink, r.passed = nil, 0
	if r.buf[r.pos] == FramebufferUpdate {
		r.sink = sink
	}
	ev, err := s.message()
	if err == nil {
		err = r.emit()
	} else if e := (*Error)(nil); errors.As(err, &e) {
		r.start = r.pos // What broke a bound goes nowhere.
	}
	ev.Bytes = r.passed
	return ev, err
}

func (s *ServerStream) message() (ServerEvent, error) {
	b, err := s.r.take(1)
	if err != nil {
		return ServerEvent{}, err
	}
	ev := ServerEvent{Type: b[0]}
	switch ev.Type {
	case FramebufferUpdate:
		err = s.update(&ev)
	case Bell:
	case ServerCutText:
		ev.Clip, err = s.cutText()
	case setColourMapEntries:
		// Only sent for colour maps, which are never asked for.
		err = broken(Server, ErrMessage, "a colour map")
	default:
		// Fences, continuous updates, audio and power control are not offered to the server.
		err = broken(Server, ErrMessage, "type %d", ev.Type)
	}
	return ev, err
}

func (s *ServerStream) update(ev *ServerEvent) error {
	b, err := s.r.take(3)
	if err != nil {
		return err
	}
	screen := s.Screen()
	s.budget = updateScreens * int64(screen.Width) * int64(screen.Height)
	for n := binary.BigEndian.Uint16(b[1:]); n > 0; n-- {
		if err := s.rectangle(ev); err != nil {
			return err
		}
	}
	return nil
}

// rect is a rectangle's header.
type rect struct {
	x, y, w, h int
	encoding   Encoding
}

func (s *ServerStream) rectangle(ev *ServerEvent) error {
	b, err := s.r.take(12)
	if err != nil {
		return err
	}
	v := rect{int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])), int(binary.BigEndian.Uint16(b[4:])),
		int(binary.BigEndian.Uint16(b[6:])), Encoding(binary.BigEndian.Uint32(b[8:]))}
	if s.expected.Load()&bit(v.encoding) == 0 {
		return broken(Server, ErrEncoding, "rectangle in encoding %d, which was not asked for", v.encoding)
	}
	if v.encoding < 0 {
		return s.pseudo(v, ev)
	}
	if err := s.paints(v); err != nil {
		return err
	}
	ev.Pixels = true
	switch v.encoding {
	case Raw:
		return s.r.skip(v.w * v.h * 4)
	case CopyRect:
		return s.copyRect(v)
	case Tight:
		return s.tight(v)
	case Zlib:
		return s.compressed(v, v.w*v.h*4)
	case ZRLE:
		// Every tile of 64 x 64 has a byte for its kind and at most a palette of 127 colours.
		tiles := ((v.w + 63) / 64) * ((v.h + 63) / 64)
		return s.compressed(v, v.w*v.h*4+tiles*(1+127*3))
	}
	return broken(Server, ErrEncoding, "%d", v.encoding)
}

// paints checks a rectangle against the screen and what the update has painted already.
func (s *ServerStream) paints(v rect) error {
	screen := s.Screen()
	if v.w < 1 || v.h < 1 || v.x+v.w > screen.Width || v.y+v.h > screen.Height {
		return broken(Server, ErrBounds, "rectangle %dx%d at %d,%d on a screen of %v", v.w, v.h, v.x, v.y, screen)
	}
	if s.budget -= int64(v.w) * int64(v.h); s.budget < 0 {
		return broken(Server, ErrBounds, "one update paints more than %d times the screen", updateScreens)
	}
	return nil
}

func (s *ServerStream) copyRect(v rect) error {
	b, err := s.r.take(4)
	if err != nil {
		return err
	}
	x, y := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	if screen := s.Screen(); x+v.w > screen.Width || y+v.h > screen.Height {
		return broken(Server, ErrBounds, "copy of %dx%d from %d,%d on a screen of %v", v.w, v.h, x, y, screen)
	}
	return nil
}

// needed is what data of n bytes can grow to in zlib (RFC 1950), whatever its settings.
func needed(n int) int { return n + n/8 + 128 }

func (s *ServerStream) compressed(v rect, plain int) error {
	b, err := s.r.take(4)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(b)
	if int64(n) > int64(needed(plain)) {
		return broken(Server, ErrLength, "%d bytes for a rectangle of %dx%d", n, v.w, v.h)
	}
	return s.r.skip(int(n))
}

func (s *ServerStream) pseudo(v rect, ev *ServerEvent) error {
	switch v.encoding {
	case PseudoDesktopSize:
		return s.resize(v, ev)
	case PseudoExtendedDesktopSize:
		b, err := s.r.take(4)
		if err != nil {
			return err
		}
		screens := int(b[0])
		if screens > screensMax {
			return broken(Server, ErrLength, "%d screens", screens)
		}
		if err := s.r.skip(16 * screens); err != nil {
			return err
		}
		if v.y != 0 { // A refused request: the size is not a new one.
			return nil
		}
		return s.resize(v, ev)
	case PseudoCursor:
		if v.w > cursorSide || v.h > cursorSide || v.x > v.w || v.y > v.h {
			return broken(Server, ErrBounds, "cursor of %dx%d, hot at %d,%d", v.w, v.h, v.x, v.y)
		}
		return s.r.skip(v.w*v.h*4 + (v.w+7)/8*v.h)
	case PseudoLED:
		return s.r.skip(1)
	}
	return nil // PseudoExtendedKeys has no body.
}

// resize takes the screen's new size. Painting counts anew, but no more than once round in an update: a server that resizes all the time
// must not make one update endless.
func (s *ServerStream) resize(v rect, ev *ServerEvent) error {
	next := Size{v.w, v.h}
	if err := next.within(s.limits.Screen); err != nil {
		return err
	}
	ev.Resized = ev.Resized || next != s.Screen()
	s.setScreen(next)
	s.budget = min(s.budget, updateScreens*int64(v.w)*int64(v.h))
	return nil
}

func (s *ServerStream) cutText() (Clip, error) {
	b, err := s.r.take(7)
	if err != nil {
		return Clip{}, err
	}
	return readClip(s.r, Server, int32(binary.BigEndian.Uint32(b[3:])), s.limits.TextBytes)
}
