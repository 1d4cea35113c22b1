package rfb

import (
	"encoding/binary"
	"image"
)

// The messages a client sends, appended to b.

// AppendSetPixelFormat asks for pixels of a format.
func AppendSetPixelFormat(b []byte, f PixelFormat) []byte {
	return AppendPixelFormat(append(b, SetPixelFormat, 0, 0, 0), f)
}

// AppendSetEncodings offers encodings, the preferred first.
func AppendSetEncodings(b []byte, list []Encoding) []byte {
	b = binary.BigEndian.AppendUint16(append(b, SetEncodings, 0), uint16(len(list)))
	for _, e := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(e))
	}
	return b
}

// AppendUpdateRequest asks for the whole screen, or with incremental for what will have changed on it.
func AppendUpdateRequest(b []byte, incremental bool, screen Size) []byte {
	b = append(b, UpdateRequest, flag(incremental), 0, 0, 0, 0)
	return appendSize(b, screen)
}

// AppendKey presses a key or lets it go: by its place (QEMU's message) when Scancode is set, else by its meaning.
func AppendKey(b []byte, k Key) []byte {
	if k.Scancode == 0 {
		return binary.BigEndian.AppendUint32(append(b, KeyEvent, flag(k.Down), 0, 0), k.Keysym)
	}
	b = binary.BigEndian.AppendUint32(append(b, qemuClient, 0, 0, flag(k.Down)), k.Keysym)
	return binary.BigEndian.AppendUint32(b, k.Scancode)
}

// AppendPointer moves the mouse.
func AppendPointer(b []byte, p Pointer) []byte {
	return appendSize(append(b, PointerEvent, p.Buttons), Size{p.X, p.Y})
}

// AppendEnableContinuousUpdates turns continuous updates of the whole screen on or off.
func AppendEnableContinuousUpdates(b []byte, enable bool, screen Size) []byte {
	return appendSize(append(b, EnableContinuousUpdates, flag(enable), 0, 0, 0, 0), screen)
}

// AppendSetDesktopSize asks for another size of the screen.
func AppendSetDesktopSize(b []byte, r Resize) []byte {
	b = appendSize(append(b, SetDesktopSize, 0), r.Size)
	return appendScreen(append(b, 1, 0), r)
}

// AppendFence is a fence in either direction. payload is at most 64 bytes long.
func AppendFence(b []byte, flags uint32, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, Fence, 0, 0, 0), flags)
	return append(append(b, byte(len(payload))), payload...)
}

// The messages a server sends.

// AppendUpdate begins an update of n rectangles.
func AppendUpdate(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(append(b, FramebufferUpdate, 0), uint16(n))
}

// AppendRectangle writes a rectangle's header.
func AppendRectangle(b []byte, at image.Point, size Size, e Encoding) []byte {
	b = appendSize(appendSize(b, Size{at.X, at.Y}), size)
	return binary.BigEndian.AppendUint32(b, uint32(e))
}

// Why an ExtendedDesktopSize is sent, and how a request went (rfbproto, "ExtendedDesktopSize Pseudo-encoding").
const (
	ResizeByServer   = 0
	ResizeByClient   = 1
	ResizeDone       = 0
	ResizeProhibited = 1
	ResizeInvalid    = 3
	// ResizeForwarded: the guest was told; whether it follows is up to it.
	ResizeForwarded = 4
)

// AppendExtendedDesktopSize writes the rectangle that tells a screen's size: why it is sent and how the request went.
func AppendExtendedDesktopSize(b []byte, why, status int, r Resize) []byte {
	b = AppendRectangle(b, image.Pt(why, status), r.Size, PseudoExtendedDesktopSize)
	return appendScreen(append(b, 1, 0, 0, 0), r)
}

// AppendEndOfContinuousUpdates tells a client that continuous updates are understood here (or have ended).
func AppendEndOfContinuousUpdates(b []byte) []byte { return append(b, endOfContinuousUpdates) }

// AppendCompactLength writes a Tight length, at most 4 MiB - 1.
func AppendCompactLength(b []byte, n int) []byte {
	switch {
	case n < 1<<7:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, byte(n)|0x80, byte(n>>7))
	}
	return append(b, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14))
}

func appendScreen(b []byte, r Resize) []byte {
	b = binary.BigEndian.AppendUint32(b, r.ID)
	b = appendSize(append(b, 0, 0, 0, 0), r.Size)
	return binary.BigEndian.AppendUint32(b, r.Flags)
}

func appendSize(b []byte, s Size) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(s.Width))
	return binary.BigEndian.AppendUint16(b, uint16(s.Height))
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
