// Package rfbtest holds a viewer for tests: it looks at a screen through RFB, decodes what it is sent and answers fences, as a browser
// would. It is written apart from package rfb's parsers, so that each finds the other's mistakes.
//
// It refuses to be used outside tests: it trusts its server.
package rfbtest

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"io"

	"carrel/internal/rfb"
)

// Viewer is one viewer. Its fields tell what it has seen; they change only in Connect and Next.
type Viewer struct {
	// Picture is what the screen shows.
	Picture *image.RGBA
	Name    string
	// Updates counts the updates that painted something, Rectangles what was in them by encoding.
	Updates    int
	Rectangles map[rfb.Encoding]int
	// Kinds counts the kinds of Tight rectangles: fill, jpeg, basic, palette.
	Kinds map[string]int
	// ExtendedKeys, Continuous: the server understands them.
	ExtendedKeys, Continuous bool
	// Resize is the last ExtendedDesktopSize: why, status, screen id.
	Why, Status int
	ScreenID    uint32
	Bells       int
	// Clips are the bodies of clipboard messages.
	Clips []rfb.Clip
	// Fences counts the fences answered. HoldFences: they are not.
	Fences     int
	HoldFences bool

	rw  io.ReadWriter
	in  *bufio.Reader
	z   [4]io.Reader
	raw [4]*bytes.Buffer
}

// Encodings is what noVNC 1.7 says it can do, in its order.
var Encodings = []rfb.Encoding{rfb.CopyRect, 50, rfb.Tight, -260, rfb.ZRLE, 21, 5, 2, rfb.Zlib, rfb.Raw, rfb.PseudoQuality0 + 6, rfb.PseudoCompress0 + 2,
	rfb.PseudoDesktopSize, -224, rfb.PseudoExtendedKeys, rfb.PseudoLED, rfb.PseudoExtendedDesktopSize, -309, rfb.PseudoFence,
	rfb.PseudoContinuousUpdates, -307, rfb.PseudoExtendedClipboard, -316, 0x574d5664, rfb.PseudoCursor}

// Connect shakes hands, says what it can do and asks for the whole screen.
func Connect(rw io.ReadWriter, encodings []rfb.Encoding) (*Viewer, error) {
	in := bufio.NewReaderSize(rw, 64<<10)
	init, err := rfb.Connect(struct {
		io.Reader
		io.Writer
	}{in, rw}, true, rfb.Size{Width: 8192, Height: 8192})
	if err != nil {
		return nil, err
	}
	v := &Viewer{Name: init.Name, rw: rw, in: in, Rectangles: map[rfb.Encoding]int{}, Kinds: map[string]int{}}
	v.resize(init.Screen)
	b := rfb.AppendSetPixelFormat(nil, rfb.Little)
	b = rfb.AppendSetEncodings(b, encodings)
	return v, v.Send(rfb.AppendUpdateRequest(b, false, init.Screen))
}

// Size is the screen's.
func (v *Viewer) Size() rfb.Size {
	return rfb.Size{Width: v.Picture.Rect.Dx(), Height: v.Picture.Rect.Dy()}
}

// Send writes a client's message.
func (v *Viewer) Send(b []byte) error {
	_, err := v.rw.Write(b)
	return err
}

// Type presses and lets go the keys of a text.
func (v *Viewer) Type(text string) error {
	var b []byte
	for _, c := range text {
		k := rfb.Key{Down: true, Keysym: uint32(c)}
		if c == '\n' {
			k.Keysym = 0xff0d
		}
		b = rfb.AppendKey(b, k)
		k.Down = false
		b = rfb.AppendKey(b, k)
	}
	return v.Send(b)
}

func (v *Viewer) resize(z rfb.Size) {
	next := image.NewRGBA(image.Rect(0, 0, z.Width, z.Height))
	if v.Picture != nil {
		draw.Draw(next, next.Rect, v.Picture, image.Point{}, draw.Src)
	}
	v.Picture = next
}

func (v *Viewer) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(v.in, b)
	return b, err
}

// Next reads one message and, unless updates are continuous, asks for the next one after an update. It gives the message's type.
func (v *Viewer) Next() (byte, error) {
	kind, err := v.in.ReadByte()
	if err != nil {
		return 0, err
	}
	switch kind {
	case rfb.FramebufferUpdate:
		err = v.update()
	case rfb.Bell:
		v.Bells++
	case rfb.ServerCutText:
		err = v.cutText()
	case 150:
		if !v.Continuous {
			v.Continuous = true
			err = v.Send(rfb.AppendEnableContinuousUpdates(nil, true, v.Size()))
		}
	case rfb.Fence:
		err = v.fence()
	default:
		err = fmt.Errorf("message %d", kind)
	}
	return kind, err
}

func (v *Viewer) fence() error {
	b, err := v.take(8)
	if err != nil {
		return err
	}
	payload, err := v.take(int(b[7]))
	if err != nil || v.HoldFences {
		return err
	}
	v.Fences++
	return v.Send(rfb.AppendFence(nil, binary.BigEndian.Uint32(b[3:])&3, payload))
}

func (v *Viewer) cutText() error {
	b, err := v.take(7)
	if err != nil {
		return err
	}
	n := int32(binary.BigEndian.Uint32(b[3:]))
	if b, err = v.take(int(max(n, -n))); err != nil {
		return err
	}
	c := rfb.Clip{HasText: true, Text: b}
	if n < 0 {
		flags := binary.BigEndian.Uint32(b)
		c = rfb.Clip{Action: rfb.ClipAction(flags & 0xff000000), HasText: flags&1 != 0}
		if c.Action == rfb.ClipProvide {
			z, err := zlib.NewReader(bytes.NewReader(b[4:]))
			if err != nil {
				return err
			}
			if c.Text, err = io.ReadAll(z); err != nil {
				return err
			}
			c.Text = bytes.TrimSuffix(c.Text[4:], []byte{0})
		}
	}
	v.Clips = append(v.Clips, c)
	return nil
}

func (v *Viewer) update() error {
	b, err := v.take(3)
	if err != nil {
		return err
	}
	painted := false
	for n := binary.BigEndian.Uint16(b[1:]); n > 0; n-- {
		paints, err := v.rectangle()
		if err != nil {
			return err
		}
		painted = painted || paints
	}
	if painted {
		v.Updates++
	}
	if v.Continuous {
		return nil
	}
	return v.Send(rfb.AppendUpdateRequest(nil, true, v.Size()))
}

func (v *Viewer) rectangle() (paints bool, err error) {
	b, err := v.take(12)
	if err != nil {
		return false, err
	}
	x, y := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	w, h := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
	e, r := rfb.Encoding(binary.BigEndian.Uint32(b[8:])), image.Rect(x, y, x+w, y+h)
	v.Rectangles[e]++
	switch e {
	case rfb.PseudoDesktopSize:
		v.resize(rfb.Size{Width: w, Height: h})
		return false, nil
	case rfb.PseudoExtendedDesktopSize:
		if b, err = v.take(4); err != nil {
			return false, err
		}
		if b, err = v.take(16 * int(b[0])); err != nil {
			return false, err
		}
		v.Why, v.Status, v.ScreenID = x, y, binary.BigEndian.Uint32(b)
		if y == 0 {
			v.resize(rfb.Size{Width: w, Height: h})
		}
		return false, nil
	case rfb.PseudoExtendedKeys:
		v.ExtendedKeys = true
		return false, nil
	case rfb.PseudoLED:
		_, err = v.take(1)
		return false, err
	case rfb.PseudoCursor:
		_, err = v.take(w*h*4 + (w+7)/8*h)
		return false, err
	}
	if !r.In(v.Picture.Rect) {
		return false, fmt.Errorf("rectangle %v on %v", r, v.Picture.Rect)
	}
	switch e {
	case rfb.Raw:
		b, err = v.take(w * h * 4)
		if err == nil {
			v.paint(r, 4, b)
		}
	case rfb.CopyRect:
		if b, err = v.take(4); err == nil {
			draw.Draw(v.Picture, r, v.Picture, image.Pt(int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))), draw.Src)
		}
	case rfb.Tight:
		err = v.tight(r)
	default:
		err = fmt.Errorf("encoding %d", e)
	}
	return true, err
}

// paint sets pixels: of 4 bytes, blue first, or of 3, red first.
func (v *Viewer) paint(r image.Rectangle, size int, b []byte) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.RGBA{b[0], b[1], b[2], 255}
			if size == 4 {
				c.R, c.B = c.B, c.R
			}
			v.Picture.SetRGBA(x, y, c)
			b = b[size:]
		}
	}
}

func (v *Viewer) tight(r image.Rectangle) error {
	control, err := v.in.ReadByte()
	if err != nil {
		return err
	}
	for i := range 4 {
		if control>>i&1 == 1 {
			v.z[i] = nil
		}
	}
	switch kind := control >> 4; {
	case kind == 8:
		v.Kinds["fill"]++
		b, err := v.take(3)
		if err != nil {
			return err
		}
		draw.Draw(v.Picture, r, image.NewUniform(color.RGBA{b[0], b[1], b[2], 255}), image.Point{}, draw.Src)
		return nil
	case kind == 9:
		v.Kinds["jpeg"]++
		b, err := v.lengthed()
		if err != nil {
			return err
		}
		m, err := jpeg.Decode(bytes.NewReader(b))
		if err != nil || m.Bounds().Size() != r.Size() {
			return errors.Join(err, fmt.Errorf("jpeg of another size than %v", r))
		}
		draw.Draw(v.Picture, r, m, image.Point{}, draw.Src)
		return nil
	case kind > 9:
		return fmt.Errorf("tight kind %d", kind)
	default:
		return v.tightBasic(r, kind)
	}
}

func (v *Viewer) tightBasic(r image.Rectangle, kind byte) error {
	filter := byte(0)
	if kind&4 != 0 {
		var err error
		if filter, err = v.in.ReadByte(); err != nil {
			return err
		}
	}
	switch filter {
	case 0:
		v.Kinds["basic"]++
		b, err := v.inflate(kind&3, r.Dx()*r.Dy()*3)
		if err == nil {
			v.paint(r, 3, b)
		}
		return err
	case 1:
		v.Kinds["palette"]++
		n, err := v.in.ReadByte()
		if err != nil {
			return err
		}
		palette, err := v.take(3 * (int(n) + 1))
		if err != nil {
			return err
		}
		return v.tightPalette(r, kind&3, palette)
	case 2:
		v.Kinds["gradient"]++
		b, err := v.inflate(kind&3, r.Dx()*r.Dy()*3)
		if err == nil {
			v.paint(r, 3, ungradient(b, r.Dx()*3))
		}
		return err
	}
	return fmt.Errorf("tight filter %d", filter)
}

// ungradient undoes the gradient filter in place: each byte is the difference to what its left, upper and upper left neighbours suggest.
func ungradient(b []byte, row int) []byte {
	at := func(i, back int, has bool) int {
		if !has {
			return 0
		}
		return int(b[i-back])
	}
	for i := range b {
		left, up := i%row >= 3, i >= row
		guess := at(i, 3, left) + at(i, row, up) - at(i, row+3, left && up)
		b[i] += byte(min(max(guess, 0), 255))
	}
	return b
}

func (v *Viewer) tightPalette(r image.Rectangle, stream byte, palette []byte) error {
	bits, row := 8, r.Dx()
	if len(palette) == 6 {
		bits, row = 1, (r.Dx()+7)/8
	}
	b, err := v.inflate(stream, row*r.Dy())
	if err != nil {
		return err
	}
	for y := range r.Dy() {
		for x := range r.Dx() {
			i := int(b[y*row+x*bits/8])
			if bits == 1 {
				i = i >> (7 - x%8) & 1
			}
			v.Picture.SetRGBA(r.Min.X+x, r.Min.Y+y, color.RGBA{palette[3*i], palette[3*i+1], palette[3*i+2], 255})
		}
	}
	return nil
}

// inflate gives n bytes of one of the streams, which go on from rectangle to rectangle.
func (v *Viewer) inflate(stream byte, n int) ([]byte, error) {
	if n < 12 {
		return v.take(n)
	}
	b, err := v.lengthed()
	if err != nil {
		return nil, err
	}
	if v.z[stream] == nil {
		v.raw[stream] = bytes.NewBuffer(b)
		if v.z[stream], err = zlib.NewReader(v.raw[stream]); err != nil {
			return nil, err
		}
	} else {
		v.raw[stream].Write(b)
	}
	out := make([]byte, n)
	_, err = io.ReadFull(v.z[stream], out)
	return out, err
}

func (v *Viewer) lengthed() ([]byte, error) {
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := v.in.ReadByte()
		if err != nil {
			return nil, err
		}
		if shift == 14 {
			n |= int(b) << 14
			break
		}
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	return v.take(n)
}
