package rfb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"carrel/internal/rfb"
)

var (
	screen = rfb.Size{Width: 640, Height: 480}
	all    = []rfb.Encoding{rfb.Raw, rfb.CopyRect, rfb.Zlib, rfb.Tight, rfb.ZRLE, rfb.PseudoDesktopSize, rfb.PseudoCursor,
		rfb.PseudoExtendedKeys, rfb.PseudoLED, rfb.PseudoExtendedDesktopSize}
	limits = rfb.ServerLimits{Screen: rfb.Size{Width: 4096, Height: 2304}, TextBytes: 1000}
)

// message puts a server message together: integers of their sizes, bytes and strings as they are.
func message(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		default:
			var err error
			if b, err = binary.Append(b, binary.BigEndian, p); err != nil {
				panic(err)
			}
		}
	}
	return b
}

func rectangle(x, y, w, h int, e rfb.Encoding) []byte {
	return rfb.AppendRectangle(nil, image.Pt(x, y), rfb.Size{Width: w, Height: h}, e)
}

func update(rectangles ...[]byte) []byte {
	return append(rfb.AppendUpdate(nil, len(rectangles)), bytes.Join(rectangles, nil)...)
}

func stream(b []byte) *rfb.ServerStream {
	s := rfb.NewServerStream(bytes.NewReader(b), screen, limits, nil)
	s.Expect(all)
	return s
}

func compact(n int) []byte { return rfb.AppendCompactLength(nil, n) }

// jpeg is the head of a JPEG of a size, filled up to n bytes.
func jpeg(w, h uint16, n int) []byte {
	b := message([]byte{0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xdb, 0, 3, 9, 0xff, 0xc0, 0, 11, 8}, h, w, []byte{1, 1, 0x11, 0})
	return append(b, make([]byte, max(0, n-len(b)))...)
}

func TestUpdatesPassThroughByteForByte(t *testing.T) {
	for name, b := range map[string][]byte{
		"no rectangle":             update(),
		"raw":                      update(append(rectangle(0, 0, 640, 480, rfb.Raw), make([]byte, 640*480*4)...)),
		"copyrect":                 update(message(rectangle(600, 440, 40, 40, rfb.CopyRect), uint16(600), uint16(440))),
		"zlib":                     update(message(rectangle(1, 2, 3, 4, rfb.Zlib), uint32(5), "12345")),
		"zrle":                     update(message(rectangle(1, 2, 3, 4, rfb.ZRLE), uint32(5), "12345")),
		"tight fill":               update(message(rectangle(0, 0, 640, 480, rfb.Tight), uint8(0x80), "rgb")),
		"tight jpeg":               update(message(rectangle(0, 0, 64, 48, rfb.Tight), uint8(0x90), compact(9000), jpeg(64, 48, 9000))),
		"tight basic":              update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x00), compact(200), make([]byte, 200))),
		"tight basic, short":       update(message(rectangle(0, 0, 3, 1, rfb.Tight), uint8(0x10), "123456789")),
		"tight gradient":           update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x60), uint8(2), compact(20), make([]byte, 20))),
		"tight two colours":        update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x50), uint8(1), uint8(1), "rgbRGB", compact(512), make([]byte, 512))),
		"tight 256 colours":        update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x4f), uint8(1), uint8(255), make([]byte, 768), compact(3), "123")),
		"tight 2 colours, short":   update(message(rectangle(0, 0, 8, 4, rfb.Tight), uint8(0x40), uint8(1), uint8(1), "rgbRGB", "1234")),
		"cursor":                   update(message(rectangle(3, 4, 17, 16, rfb.PseudoCursor), make([]byte, 17*16*4+3*16))),
		"no cursor":                update(rectangle(0, 0, 0, 0, rfb.PseudoCursor)),
		"led":                      update(message(rectangle(0, 0, 1, 1, rfb.PseudoLED), uint8(2))),
		"extended keys":            update(rectangle(0, 0, 0, 0, rfb.PseudoExtendedKeys)),
		"several":                  update(rectangle(0, 0, 0, 0, rfb.PseudoExtendedKeys), message(rectangle(0, 0, 1, 1, rfb.Raw), "bgrx"), message(rectangle(0, 0, 1, 1, rfb.PseudoLED), uint8(2))),
		"a screen painted 4 times": update(bytes.Split(bytes.Repeat(append(message(rectangle(0, 0, 640, 480, rfb.Tight), uint8(0x80), "rgb"), '|'), 4), []byte("|"))[:4]...),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(append(b, rfb.Bell)), iotest.OneByteReader(bytes.NewReader(append(b, rfb.Bell)))} {
				s := rfb.NewServerStream(r, screen, limits, nil)
				s.Expect(all)
				var out bytes.Buffer
				ev, err := s.Next(&out)
				if err != nil || ev.Type != rfb.FramebufferUpdate || ev.Bytes != int64(len(b)) || !bytes.Equal(out.Bytes(), b) {
					t.Fatalf("%+v, %v, %d of %d bytes passed", ev, err, out.Len(), len(b))
				}
				if ev, err := s.Next(&out); err != nil || ev.Type != rfb.Bell || out.Len() != len(b) {
					t.Errorf("after it: %+v, %v", ev, err)
				}
				if _, err := s.Next(&out); !errors.Is(err, io.EOF) {
					t.Errorf("at the end: %v", err)
				}
			}
		})
	}
}

func TestSTR1AHostileServerIsRefused(t *testing.T) {
	raw := func(x, y, w, h int) []byte { return update(rectangle(x, y, w, h, rfb.Raw)) }
	tight := func(parts ...any) []byte {
		return update(append(rectangle(0, 0, 64, 64, rfb.Tight), message(parts...)...))
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"rectangle beyond the right edge":         {raw(600, 0, 41, 1), rfb.ErrBounds},
		"rectangle beyond the bottom":             {raw(0, 480, 1, 1), rfb.ErrBounds},
		"rectangle of 65535x65535":                {raw(0, 0, 65535, 65535), rfb.ErrBounds},
		"rectangle at 65535,65535":                {raw(65535, 65535, 65535, 65535), rfb.ErrBounds},
		"rectangle without area":                  {raw(5, 5, 0, 7), rfb.ErrBounds},
		"copy from beyond the screen":             {update(message(rectangle(0, 0, 40, 40, rfb.CopyRect), uint16(601), uint16(0))), rfb.ErrBounds},
		"copy from 65535":                         {update(message(rectangle(0, 0, 40, 40, rfb.CopyRect), uint16(65535), uint16(65535))), rfb.ErrBounds},
		"a screen painted over and over":          {update(bytes.Split(bytes.Repeat(append(message(rectangle(0, 0, 640, 480, rfb.Tight), uint8(0x80), "rgb"), '|'), 5), []byte("|"))[:5]...), rfb.ErrBounds},
		"zlib of 4 GiB":                           {update(message(rectangle(0, 0, 64, 64, rfb.Zlib), uint32(0xffffffff))), rfb.ErrLength},
		"zlib longer than its rectangle can need": {update(message(rectangle(0, 0, 64, 64, rfb.Zlib), uint32(64*64*5))), rfb.ErrLength},
		"zrle of 2 GiB":                           {update(message(rectangle(0, 0, 64, 64, rfb.ZRLE), uint32(0x80000000))), rfb.ErrLength},
		"zrle longer than its rectangle can need": {update(message(rectangle(0, 0, 8, 8, rfb.ZRLE), uint32(2000))), rfb.ErrLength},
		"tight data longer than needed":           {tight(uint8(0), compact(64*64*4)), rfb.ErrLength},
		"tight palette data longer than needed":   {tight(uint8(0x40), uint8(1), uint8(1), "rgbRGB", compact(1000)), rfb.ErrLength},
		"tight palette of one colour":             {tight(uint8(0x40), uint8(1), uint8(0)), rfb.ErrFormat},
		"tight filter 3":                          {tight(uint8(0x40), uint8(3)), rfb.ErrEncoding},
		"tight kind png":                          {tight(uint8(0xa0)), rfb.ErrEncoding},
		"tight kind 15":                           {tight(uint8(0xf0)), rfb.ErrEncoding},
		"jpeg longer than needed":                 {tight(uint8(0x90), compact(4<<20-1)), rfb.ErrLength},
		"jpeg that is none":                       {tight(uint8(0x90), compact(4), "abcd"), rfb.ErrFormat},
		"jpeg of 65535x65535":                     {tight(uint8(0x90), compact(100), jpeg(65535, 65535, 100)), rfb.ErrBounds},
		"jpeg one row taller":                     {tight(uint8(0x90), compact(100), jpeg(64, 65, 100)), rfb.ErrBounds},
		"jpeg cut before its size":                {tight(uint8(0x90), compact(10), jpeg(64, 64, 100)), rfb.ErrLength},
		"jpeg segment beyond its end":             {tight(uint8(0x90), compact(20), []byte{0xff, 0xd8, 0xff, 0xdb, 0xff, 0xff}), rfb.ErrLength},
		"jpeg segment of length 0":                {tight(uint8(0x90), compact(20), []byte{0xff, 0xd8, 0xff, 0xdb, 0, 0}), rfb.ErrFormat},
		"jpeg lossless":                           {tight(uint8(0x90), compact(20), []byte{0xff, 0xd8, 0xff, 0xc3, 0, 9}), rfb.ErrFormat},
		"empty jpeg":                              {tight(uint8(0x90), compact(0)), rfb.ErrLength},
		"encoding hextile, which nobody asked":    {update(rectangle(0, 0, 1, 1, 5)), rfb.ErrEncoding},
		"encoding last rectangle, not asked":      {update(rectangle(0, 0, 0, 0, -224)), rfb.ErrEncoding},
		"encoding desktop name, not asked":        {update(rectangle(0, 0, 0, 0, -307)), rfb.ErrEncoding},
		"screen of 65535x65535":                   {update(rectangle(0, 0, 65535, 65535, rfb.PseudoDesktopSize)), rfb.ErrBounds},
		"screen of 0x0":                           {update(rectangle(0, 0, 0, 0, rfb.PseudoDesktopSize)), rfb.ErrBounds},
		"extended screen too large":               {update(message(rectangle(0, 0, 4097, 10, rfb.PseudoExtendedDesktopSize), uint32(0))), rfb.ErrBounds},
		"255 screens":                             {update(message(rectangle(0, 0, 10, 10, rfb.PseudoExtendedDesktopSize), uint8(255), "123")), rfb.ErrLength},
		"cursor of 65535x65535":                   {update(rectangle(0, 0, 65535, 65535, rfb.PseudoCursor)), rfb.ErrBounds},
		"cursor that is hot outside itself":       {update(rectangle(17, 0, 16, 16, rfb.PseudoCursor)), rfb.ErrBounds},
		"rectangle that fitted the old screen":    {update(rectangle(0, 0, 320, 200, rfb.PseudoDesktopSize), rectangle(0, 0, 640, 480, rfb.Raw)), rfb.ErrBounds},
		"cut text of 2 GiB":                       {message([]byte{3, 0, 0, 0}, uint32(0x7fffffff)), rfb.ErrLength},
		"cut text of -2 GiB":                      {message([]byte{3, 0, 0, 0}, uint32(0x80000000)), rfb.ErrLength},
		"cut text of -1":                          {message([]byte{3, 0, 0, 0}, uint32(0xffffffff)), rfb.ErrLength},
		"extended clipboard with two actions":     {message([]byte{3, 0, 0, 0}, int32(-4), uint32(3<<25)), rfb.ErrMessage},
		"extended clipboard without zlib":         {message([]byte{3, 0, 0, 0}, int32(-8), uint32(1<<28|1), "nope"), rfb.ErrFormat},
		"colour map":                              {[]byte{1, 0, 0, 0, 0, 1}, rfb.ErrMessage},
		"fence, not asked":                        {[]byte{248, 0, 0, 0}, rfb.ErrMessage},
		"end of continuous updates, not asked":    {[]byte{150}, rfb.ErrMessage},
		"audio":                                   {[]byte{255, 1}, rfb.ErrMessage},
		"message 77":                              {[]byte{77}, rfb.ErrMessage},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			_, err := stream(c.bytes).Next(&out)
			var e *rfb.Error
			if !errors.As(err, &e) || e.From != rfb.Server || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if out.Len() != 0 {
				t.Errorf("%d bytes were passed on", out.Len())
			}
		})
	}
}

func TestSTR1AnUpdateThatPaintsAtOnceAndResizesAllTheTimeEnds(t *testing.T) {
	var list [][]byte
	for range 20 {
		list = append(list, message(rectangle(0, 0, 640, 480, rfb.Tight), uint8(0x80), "rgb"), rectangle(0, 0, 640, 480, rfb.PseudoDesktopSize))
	}
	if _, err := stream(update(list...)).Next(io.Discard); !errors.Is(err, rfb.ErrBounds) {
		t.Error(err)
	}
}

func TestEncodingsAreRefusedUntilTheyAreExpected(t *testing.T) {
	b := update(message(rectangle(0, 0, 640, 480, rfb.Tight), uint8(0x80), "rgb"))
	s := rfb.NewServerStream(bytes.NewReader(b), screen, limits, nil)
	if _, err := s.Next(io.Discard); !errors.Is(err, rfb.ErrEncoding) {
		t.Error(err)
	}
}

func TestScreenSizeFollowsTheServer(t *testing.T) {
	grown := rfb.Resize{Size: rfb.Size{Width: 1920, Height: 1080}, ID: 7}
	s := stream(bytes.Join([][]byte{
		update(rfb.AppendExtendedDesktopSize(nil, rfb.ResizeByServer, rfb.ResizeDone, rfb.Resize{Size: screen})),
		update(rfb.AppendExtendedDesktopSize(nil, rfb.ResizeByClient, rfb.ResizeForwarded, grown)),
		update(rfb.AppendExtendedDesktopSize(nil, rfb.ResizeByServer, rfb.ResizeDone, grown)),
		update(message(rectangle(1919, 1079, 1, 1, rfb.Raw), "bgrx")),
	}, nil))
	for i, want := range []struct {
		resized, pixels bool
		size            rfb.Size
	}{{false, false, screen}, {false, false, screen}, {true, false, grown.Size}, {false, true, grown.Size}} {
		ev, err := s.Next(io.Discard)
		if err != nil || ev.Resized != want.resized || ev.Pixels != want.pixels || s.Screen() != want.size {
			t.Errorf("%d: %+v, %v, screen %v", i, ev, err, s.Screen())
		}
	}
}

func TestAStreamCutAnywhereSaysSo(t *testing.T) {
	whole := update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x4f), uint8(1), uint8(255), make([]byte, 768), compact(300), make([]byte, 300)),
		message(rectangle(0, 0, 64, 48, rfb.Tight), uint8(0x90), compact(100), jpeg(64, 48, 100)))
	for n := 1; n < len(whole); n++ {
		if _, err := stream(whole[:n]).Next(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("browser gone") }

func TestASinkThatFailsEndsTheUpdate(t *testing.T) {
	b := update(append(rectangle(0, 0, 640, 480, rfb.Raw), make([]byte, 640*480*4)...))
	if _, err := stream(b).Next(failing{}); err == nil || err.Error() != "browser gone" {
		t.Error(err)
	}
}

func TestDeadlinesCanTellWaitingFromStalling(t *testing.T) {
	var mids []bool
	b := update(message(rectangle(0, 0, 1, 1, rfb.Raw), "bgrx"))
	s := rfb.NewServerStream(iotest.OneByteReader(bytes.NewReader(b)), screen, limits, func(mid bool) { mids = append(mids, mid) })
	if _, err := s.Next(io.Discard); err != nil {
		t.Fatal(err)
	}
	for i, mid := range mids {
		if mid != (i > 0) {
			t.Fatalf("read %d: mid %v", i, mid)
		}
	}
	if len(mids) != len(b) {
		t.Errorf("%d reads", len(mids))
	}
}

func TestErrorsHoldNoBytesOfThePeer(t *testing.T) {
	secret := "${jndi:ldap://x}"
	for _, b := range [][]byte{message([]byte{3, 0, 0, 0}, int32(-20), uint32(1<<28|1), secret), update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x90), compact(16), secret))} {
		if _, err := stream(b).Next(io.Discard); err == nil || strings.Contains(err.Error(), "jndi") {
			t.Errorf("STR-4: %v", err)
		}
	}
}

func FuzzServerStream(f *testing.F) {
	f.Add(update(message(rectangle(0, 0, 64, 64, rfb.Tight), uint8(0x4f), uint8(1), uint8(255), make([]byte, 768), compact(3), "123")))
	f.Add(update(message(rectangle(0, 0, 64, 48, rfb.Tight), uint8(0x90), compact(100), jpeg(64, 48, 100))))
	f.Add(update(message(rectangle(1, 2, 3, 4, rfb.ZRLE), uint32(5), "12345"), message(rectangle(0, 0, 1, 1, rfb.PseudoLED), uint8(2))))
	f.Add(update(rfb.AppendExtendedDesktopSize(nil, 0, 0, rfb.Resize{Size: screen})))
	f.Add(rfb.AppendServerClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte("grüße")}))
	f.Add([]byte{2, 2, 3, 0, 0, 0, 0, 0, 0, 1, 65})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := stream(b)
		var out bytes.Buffer
		for range 1000 {
			out.Reset()
			ev, err := s.Next(&out)
			if z := s.Screen(); z.Width < 1 || z.Height < 1 || z.Width > limits.Screen.Width || z.Height > limits.Screen.Height {
				t.Fatalf("screen %v", z)
			}
			if len(ev.Clip.Text) > limits.TextBytes {
				t.Fatalf("%d bytes of text", len(ev.Clip.Text))
			}
			if err != nil {
				return
			}
			if ev.Type == rfb.FramebufferUpdate && int64(out.Len()) != ev.Bytes || ev.Type != rfb.FramebufferUpdate && out.Len() != 0 {
				t.Fatalf("type %d: %d bytes passed on, %d read", ev.Type, out.Len(), ev.Bytes)
			}
		}
	})
}
