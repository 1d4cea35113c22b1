package rfb

import (
	"encoding/binary"
	"io"
)

// ClientLimits bound what a client may send.
type ClientLimits struct {
	// TextBytes is the longest clipboard text handed on. A longer one is read away and reported as such.
	TextBytes int
}

const (
	// encodingsMax bounds a SetEncodings. noVNC lists about thirty.
	encodingsMax = 256
	// fenceBytes bounds a fence's payload (rfbproto).
	fenceBytes = 64
)

// ClientEvent is a message of a client that has been read.
type ClientEvent struct {
	// Type is one of the client's message types; both kinds of key are a KeyEvent.
	Type byte
	// Format is that of a SetPixelFormat.
	Format PixelFormat
	// Encodings is the list of a SetEncodings, in the client's order. Valid until the next call of Next.
	Encodings []Encoding
	// Incremental is that of an UpdateRequest. Its rectangle is not told: a gateway always follows the whole screen.
	Incremental bool
	// Key is that of a KeyEvent.
	Key Key
	// Pointer is that of a PointerEvent, inside the screen.
	Pointer Pointer
	// Enable is that of an EnableContinuousUpdates.
	Enable bool
	// Resize is the size a SetDesktopSize asks for.
	Resize Resize
	// FenceFlags and Payload are those of a Fence. Payload is valid until the next call.
	FenceFlags uint32
	Payload    []byte
	// Clip is the clipboard message of a ClientCutText.
	Clip Clip
}

// Key is a key pressed or let go.
type Key struct {
	Down bool
	// Keysym is X11's number of what the key means on the client's keyboard, 0 when it has none.
	Keysym uint32
	// Scancode is where the key is: XT scancode set 1 with 0x80 for the extended ones, 0 when it is not known. With it the guest's own
	// keyboard layout decides what the key means.
	Scancode uint32
}

// Pointer is the mouse's place and its pressed buttons (1 left, 2 middle, 4 right, 8 to 64 the wheels).
type Pointer struct {
	X, Y    int
	Buttons byte
}

// Resize is the screen a client wants: one screen, known by the id and flags that the server gave it.
type Resize struct {
	Size      Size
	ID, Flags uint32
}

// Fence flags (rfbproto, "Fence").
const (
	FenceBlockBefore = 1
	FenceRequest     = 1 << 31
)

// ClientStream reads what a client sends after the handshake.
type ClientStream struct {
	r         *reader
	limits    ClientLimits
	screen    func() Size
	encodings []Encoding
}

// NewClientStream reads from r. screen gives the screen's size at the moment, for pointers. before as in NewServerStream.
func NewClientStream(r io.Reader, screen func() Size, limits ClientLimits, before func(mid bool)) *ClientStream {
	return &ClientStream{r: newReader(r, before), limits: limits, screen: screen}
}

// Next reads one message. *Error: the client broke the protocol. io.EOF: the stream ended between two messages. Else the reader's error.
func (s *ClientStream) Next() (ClientEvent, error) {
	if err := s.r.await(); err != nil {
		return ClientEvent{}, err
	}
	b, err := s.r.take(1)
	if err != nil {
		return ClientEvent{}, err
	}
	ev := ClientEvent{Type: b[0]}
	switch ev.Type {
	case SetPixelFormat:
		if b, err = s.r.take(3 + pixelFormatBytes); err == nil {
			ev.Format, err = parsePixelFormat(b[3:])
		}
	case SetEncodings:
		ev.Encodings, err = s.setEncodings()
	case UpdateRequest:
		if b, err = s.r.take(9); err == nil {
			ev.Incremental = b[0] != 0
		}
	case KeyEvent:
		if b, err = s.r.take(7); err == nil {
			ev.Key = Key{Down: b[0] != 0, Keysym: binary.BigEndian.Uint32(b[3:])}
		}
	case PointerEvent:
		if b, err = s.r.take(5); err == nil {
			ev.Pointer = s.pointer(b)
		}
	case ClientCutText:
		if b, err = s.r.take(7); err == nil {
			ev.Clip, err = readClip(s.r, Client, int32(binary.BigEndian.Uint32(b[3:])), s.limits.TextBytes)
		}
	case EnableContinuousUpdates:
		if b, err = s.r.take(9); err == nil {
			ev.Enable = b[0] != 0
		}
	case Fence:
		err = s.fence(&ev)
	case SetDesktopSize:
		ev.Resize, err = s.resize()
	case qemuClient:
		ev.Type = KeyEvent
		ev.Key, err = s.extendedKey()
	default:
		err = broken(Client, ErrMessage, "type %d", ev.Type)
	}
	return ev, err
}

func (s *ClientStream) setEncodings() ([]Encoding, error) {
	b, err := s.r.take(3)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	if n > encodingsMax {
		return nil, broken(Client, ErrLength, "%d encodings, more than %d", n, encodingsMax)
	}
	if b, err = s.r.take(4 * n); err != nil {
		return nil, err
	}
	s.encodings = s.encodings[:0]
	for ; len(b) > 0; b = b[4:] {
		s.encodings = append(s.encodings, Encoding(binary.BigEndian.Uint32(b)))
	}
	return s.encodings, nil
}

// pointer puts a place beyond the screen on its edge: a pointer on its way while the screen shrinks is nobody's fault.
func (s *ClientStream) pointer(b []byte) Pointer {
	screen := s.screen()
	x, y := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	// The highest bit means an extension that is not offered.
	return Pointer{min(x, screen.Width-1), min(y, screen.Height-1), b[0] & 0x7f}
}

func (s *ClientStream) fence(ev *ClientEvent) error {
	b, err := s.r.take(8)
	if err != nil {
		return err
	}
	ev.FenceFlags = binary.BigEndian.Uint32(b[3:])
	n := int(b[7])
	if n > fenceBytes {
		return broken(Client, ErrLength, "a fence of %d bytes", n)
	}
	ev.Payload, err = s.r.take(n)
	return err
}

func (s *ClientStream) resize() (Resize, error) {
	b, err := s.r.take(7)
	if err != nil {
		return Resize{}, err
	}
	want := Resize{Size: Size{int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))}}
	screens := int(b[5])
	if screens > screensMax {
		return Resize{}, broken(Client, ErrLength, "%d screens", screens)
	}
	if b, err = s.r.take(16 * screens); err != nil {
		return Resize{}, err
	}
	if screens > 0 {
		want.ID, want.Flags = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[12:])
	}
	return want, nil
}

func (s *ClientStream) extendedKey() (Key, error) {
	b, err := s.r.take(1)
	if err != nil {
		return Key{}, err
	}
	if b[0] != 0 { // 1 is audio, which is not offered.
		return Key{}, broken(Client, ErrMessage, "QEMU message %d", b[0])
	}
	if b, err = s.r.take(10); err != nil {
		return Key{}, err
	}
	k := Key{Down: binary.BigEndian.Uint16(b) != 0, Keysym: binary.BigEndian.Uint32(b[2:]), Scancode: binary.BigEndian.Uint32(b[6:])}
	if k.Scancode > 0xff {
		return Key{}, broken(Client, ErrBounds, "scancode %#x", k.Scancode)
	}
	return k, nil
}
