// Package rfb holds the words of the remote framebuffer protocol: RFC 6143 (version 3.8) and the extensions that QEMU's server and noVNC
// share (https://github.com/rfbproto/rfbproto): extended key events, LED state, ExtendedDesktopSize, fences, continuous updates, the
// extended clipboard. It reads both directions of a session with hard bounds and passes picture data through without decoding it.
//
// It refuses to open connections, to keep a picture, and to believe a length: what a server sends is the guest's word (STR-1), what a
// client sends is a stranger's (STR-2). Everything it does not know ends the session with an *Error.
package rfb

import (
	"errors"
	"fmt"
)

// version is the only protocol version spoken, on both sides (RFC 6143 section 7.1.1).
const version = "RFB 003.008\n"

// Message types from server to client.
const (
	FramebufferUpdate      = 0
	setColourMapEntries    = 1
	Bell                   = 2
	ServerCutText          = 3
	endOfContinuousUpdates = 150
)

// Message types from client to server. Fence is 248 in both directions.
const (
	SetPixelFormat          = 0
	SetEncodings            = 2
	UpdateRequest           = 3
	KeyEvent                = 4
	PointerEvent            = 5
	ClientCutText           = 6
	EnableContinuousUpdates = 150
	Fence                   = 248
	SetDesktopSize          = 251
	qemuClient              = 255
)

// Encoding is the number of an encoding or pseudo-encoding.
type Encoding int32

// The encodings this package can pass on.
const (
	Raw      Encoding = 0
	CopyRect Encoding = 1
	Zlib     Encoding = 6
	Tight    Encoding = 7
	ZRLE     Encoding = 16

	PseudoQuality0            Encoding = -32 // to -23: JPEG quality 0 to 9
	PseudoCompress0           Encoding = -256
	PseudoDesktopSize         Encoding = -223
	PseudoCursor              Encoding = -239
	PseudoExtendedKeys        Encoding = -258
	PseudoLED                 Encoding = -261
	PseudoExtendedDesktopSize Encoding = -308
	PseudoFence               Encoding = -312
	PseudoContinuousUpdates   Encoding = -313
	// PseudoExtendedClipboard is 0xC0A1E5CE as a signed number.
	PseudoExtendedClipboard Encoding = -0x3f5e1a32
)

// Quality gives the JPEG quality level (0 to 9) that an encoding number asks for.
func (e Encoding) Quality() (int, bool) {
	level := int(e - PseudoQuality0)
	return level, level >= 0 && level <= 9
}

// Compression gives the compression level (0 to 9) that an encoding number asks for.
func (e Encoding) Compression() (int, bool) {
	level := int(e - PseudoCompress0)
	return level, level >= 0 && level <= 9
}

// rectangles lists the encodings that may stand in a rectangle's header. Its order gives each a bit (see ServerStream.Expect).
var rectangles = [...]Encoding{Raw, CopyRect, Zlib, Tight, ZRLE, PseudoDesktopSize, PseudoCursor, PseudoExtendedKeys, PseudoLED, PseudoExtendedDesktopSize}

func bit(e Encoding) uint32 {
	for i, known := range rectangles {
		if known == e {
			return 1 << i
		}
	}
	return 0
}

// Size is a screen's or a rectangle's size in pixels.
type Size struct{ Width, Height int }

// String is "1280x800".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// Side says who broke the protocol.
type Side string

// The two sides of a session.
const (
	Server Side = "server"
	Client Side = "client"
)

// What an Error is about, for errors.Is.
var (
	ErrVersion  = errors.New("protocol version")
	ErrSecurity = errors.New("security")
	ErrMessage  = errors.New("unknown message")
	ErrEncoding = errors.New("encoding")
	ErrBounds   = errors.New("bounds")
	ErrLength   = errors.New("length")
	ErrFormat   = errors.New("format")
)

// Error is a broken protocol: the session must end. Its text holds numbers only, never bytes of the peer: it goes into logs (STR-4).
type Error struct {
	From Side
	// Kind is one of the Err values above.
	Kind   error
	Detail string
}

// Error gives the whole in one line.
func (e *Error) Error() string { return fmt.Sprintf("rfb %s: %v: %s", e.From, e.Kind, e.Detail) }

// Unwrap gives the kind.
func (e *Error) Unwrap() error { return e.Kind }

func broken(from Side, kind error, format string, args ...any) error {
	return &Error{From: from, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
