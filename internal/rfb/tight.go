package rfb

import "encoding/binary"

// The kinds of a Tight rectangle: the upper half of its first byte (rfbproto, "Tight Encoding").
const (
	tightFill     = 8
	tightJPEG     = 9
	tightFiltered = 4 // set: a filter's number follows; the lower two bits are the zlib stream
)

const (
	filterCopy     = 0
	filterPalette  = 1
	filterGradient = 2
)

// tight passes over a Tight rectangle. Pixels are three bytes long, because the pixel format always has a byte a colour.
func (s *ServerStream) tight(v rect) error {
	b, err := s.r.take(1)
	if err != nil {
		return err
	}
	switch kind := b[0] >> 4; {
	case kind == tightFill:
		return s.r.skip(3)
	case kind == tightJPEG:
		n, err := s.compactLength()
		if err != nil {
			return err
		}
		if n > v.w*v.h*4+4096 { // Tables and headers, and noise at the highest quality.
			return broken(Server, ErrLength, "a JPEG of %d bytes for a rectangle of %dx%d", n, v.w, v.h)
		}
		return s.jpeg(v, n)
	case kind > tightJPEG:
		return broken(Server, ErrEncoding, "tight rectangle of kind %d", kind)
	case kind&tightFiltered != 0:
		return s.tightFiltered(v)
	}
	return s.tightData(v, v.w*v.h*3)
}

func (s *ServerStream) tightFiltered(v rect) error {
	b, err := s.r.take(1)
	if err != nil {
		return err
	}
	switch b[0] {
	case filterCopy, filterGradient:
		return s.tightData(v, v.w*v.h*3)
	case filterPalette:
		b, err := s.r.take(1)
		if err != nil {
			return err
		}
		colours := int(b[0]) + 1
		if colours < 2 {
			return broken(Server, ErrFormat, "a palette of one colour")
		}
		if err := s.r.skip(colours * 3); err != nil {
			return err
		}
		if colours == 2 {
			return s.tightData(v, (v.w+7)/8*v.h)
		}
		return s.tightData(v, v.w*v.h)
	}
	return broken(Server, ErrEncoding, "tight filter %d", b[0])
}

// tightData passes over the data of a basic rectangle, which is plain bytes long before compression.
func (s *ServerStream) tightData(v rect, plain int) error {
	if plain < 12 {
		return s.r.skip(plain)
	}
	n, err := s.compactLength()
	if err != nil {
		return err
	}
	if n > needed(plain) {
		return broken(Server, ErrLength, "%d bytes for a tight rectangle of %dx%d", n, v.w, v.h)
	}
	return s.r.skip(n)
}

// compactLength is a length of one to three bytes, at most 4 MiB - 1.
func (s *ServerStream) compactLength() (int, error) {
	n := 0
	for i := range 3 {
		b, err := s.r.take(1)
		if err != nil {
			return 0, err
		}
		c := int(b[0])
		if i == 2 {
			return n | c<<14, nil
		}
		n |= c & 0x7f << (7 * i)
		if c&0x80 == 0 {
			break
		}
	}
	return n, nil
}

// jpeg passes over a JPEG file (ITU T.81) of n bytes and looks at its head: a picture that says it is larger than its rectangle would
// make the browser decode gigabytes out of a few bytes.
func (s *ServerStream) jpeg(v rect, n int) error {
	b, err := s.part(&n, 2)
	if err != nil {
		return err
	}
	if b[0] != 0xff || b[1] != 0xd8 {
		return broken(Server, ErrFormat, "a JPEG without its beginning")
	}
	for {
		b, err := s.part(&n, 4)
		if err != nil {
			return err
		}
		marker, length := b[1], int(binary.BigEndian.Uint16(b[2:]))
		framed := marker >= 0xc0 && marker <= 0xc2 // baseline, extended, progressive
		table := marker == 0xc4 || marker == 0xdb || marker == 0xdd || marker == 0xfe || marker >= 0xe0 && marker <= 0xef
		if b[0] != 0xff || length < 2 || !framed && !table {
			return broken(Server, ErrFormat, "JPEG marker %#x of %d bytes", marker, length)
		}
		if framed {
			if b, err = s.part(&n, 5); err != nil {
				return err
			}
			if h, w := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:])); w != v.w || h != v.h {
				return broken(Server, ErrBounds, "a JPEG of %dx%d in a rectangle of %dx%d", w, h, v.w, v.h)
			}
			return s.r.skip(n)
		}
		if length -= 2; length > n {
			return broken(Server, ErrLength, "JPEG segment of %d bytes in %d", length, n)
		}
		n -= length
		if err := s.r.skip(length); err != nil {
			return err
		}
	}
}

// part takes size of the n bytes that are left of a JPEG.
func (s *ServerStream) part(n *int, size int) ([]byte, error) {
	if *n -= size; *n < 0 {
		return nil, broken(Server, ErrLength, "a JPEG cut short")
	}
	return s.r.take(size)
}
