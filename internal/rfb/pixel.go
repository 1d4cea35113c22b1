package rfb

import (
	"encoding/binary"
	"math/bits"
)

// PixelFormat is RFC 6143 section 7.4 cut down to what Carrel speaks: 32 bits a pixel, true colour, a byte a colour.
type PixelFormat struct {
	BigEndian                       bool
	RedShift, GreenShift, BlueShift uint8
}

// Little is the format of a little-endian xRGB screen, which costs QEMU and browsers the least.
var Little = PixelFormat{RedShift: 16, GreenShift: 8, BlueShift: 0}

const pixelFormatBytes = 16

// AppendPixelFormat writes f as its 16 bytes.
func AppendPixelFormat(b []byte, f PixelFormat) []byte {
	big := byte(0)
	if f.BigEndian {
		big = 1
	}
	return append(b, 32, 24, big, 1, 0, 255, 0, 255, 0, 255, f.RedShift, f.GreenShift, f.BlueShift, 0, 0, 0)
}

// parsePixelFormat reads a client's 16 bytes. Others than 32-bit true colour are refused: with one size of pixel the lengths of
// everything a server sends can be known without remembering when it changed.
func parsePixelFormat(b []byte) (PixelFormat, error) {
	f := PixelFormat{BigEndian: b[2] != 0, RedShift: b[10], GreenShift: b[11], BlueShift: b[12]}
	maxima := [3]uint16{binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[8:])}
	if b[0] != 32 || b[1] != 24 || b[3] == 0 || maxima != [3]uint16{255, 255, 255} {
		return f, broken(Client, ErrFormat, "pixels of %d bits, depth %d, maxima %v: only 32-bit true colour is spoken", b[0], b[1], maxima)
	}
	seen := 0
	for _, shift := range []uint8{f.RedShift, f.GreenShift, f.BlueShift} {
		if shift%8 != 0 || shift > 24 {
			return f, broken(Client, ErrFormat, "a colour shifted by %d", shift)
		}
		seen |= 1 << (shift / 8)
	}
	if bits.OnesCount(uint(seen)) != 3 {
		return f, broken(Client, ErrFormat, "two colours share a byte")
	}
	return f, nil
}
