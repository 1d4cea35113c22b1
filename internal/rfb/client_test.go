package rfb_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"carrel/internal/rfb"
)

func client(b []byte) *rfb.ClientStream {
	return rfb.NewClientStream(bytes.NewReader(b), func() rfb.Size { return screen }, rfb.ClientLimits{TextBytes: 1000}, nil)
}

func TestClientMessagesAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		want  rfb.ClientEvent
	}{
		"pixel format": {rfb.AppendSetPixelFormat(nil, rfb.Little), rfb.ClientEvent{Type: rfb.SetPixelFormat, Format: rfb.Little}},
		// As noVNC 1.7 sends it.
		"noVNC's pixel format": {[]byte{0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0},
			rfb.ClientEvent{Type: rfb.SetPixelFormat, Format: rfb.PixelFormat{RedShift: 0, GreenShift: 8, BlueShift: 16}}},
		"encodings":         {rfb.AppendSetEncodings(nil, []rfb.Encoding{7, -26, 99}), rfb.ClientEvent{Type: rfb.SetEncodings, Encodings: []rfb.Encoding{7, -26, 99}}},
		"no encodings":      {rfb.AppendSetEncodings(nil, nil), rfb.ClientEvent{Type: rfb.SetEncodings}},
		"update request":    {rfb.AppendUpdateRequest(nil, true, screen), rfb.ClientEvent{Type: rfb.UpdateRequest, Incremental: true}},
		"request beyond it": {rfb.AppendUpdateRequest(nil, false, rfb.Size{Width: 65535, Height: 65535}), rfb.ClientEvent{Type: rfb.UpdateRequest}},
		"key by meaning":    {rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 0x61}), rfb.ClientEvent{Type: rfb.KeyEvent, Key: rfb.Key{Down: true, Keysym: 0x61}}},
		"key by place":      {rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 0xff53, Scancode: 0xcd}), rfb.ClientEvent{Type: rfb.KeyEvent, Key: rfb.Key{Down: true, Keysym: 0xff53, Scancode: 0xcd}}},
		"pointer":           {rfb.AppendPointer(nil, rfb.Pointer{X: 5, Y: 6, Buttons: 1}), rfb.ClientEvent{Type: rfb.PointerEvent, Pointer: rfb.Pointer{X: 5, Y: 6, Buttons: 1}}},
		"STR-2: pointer beyond the screen": {rfb.AppendPointer(nil, rfb.Pointer{X: 65535, Y: 480, Buttons: 0xff}),
			rfb.ClientEvent{Type: rfb.PointerEvent, Pointer: rfb.Pointer{X: 639, Y: 479, Buttons: 0x7f}}},
		"continuous updates": {rfb.AppendEnableContinuousUpdates(nil, true, screen), rfb.ClientEvent{Type: rfb.EnableContinuousUpdates, Enable: true}},
		"fence":              {rfb.AppendFence(nil, 1, []byte("12345678")), rfb.ClientEvent{Type: rfb.Fence, FenceFlags: 1, Payload: []byte("12345678")}},
		"resize": {rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: rfb.Size{Width: 9, Height: 8}, ID: 7, Flags: 6}),
			rfb.ClientEvent{Type: rfb.SetDesktopSize, Resize: rfb.Resize{Size: rfb.Size{Width: 9, Height: 8}, ID: 7, Flags: 6}}},
		"cut text": {rfb.AppendClientClip(nil, rfb.Clip{HasText: true, Text: []byte("abc")}),
			rfb.ClientEvent{Type: rfb.ClientCutText, Clip: rfb.Clip{HasText: true, Text: []byte("abc")}}},
		"STR-2: cut text over the limit": {rfb.AppendClientClip(nil, rfb.Clip{Text: make([]byte, 1001)}),
			rfb.ClientEvent{Type: rfb.ClientCutText, Clip: rfb.Clip{HasText: true, TooLong: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(c.bytes), iotest.OneByteReader(bytes.NewReader(c.bytes))} {
				s := rfb.NewClientStream(r, func() rfb.Size { return screen }, rfb.ClientLimits{TextBytes: 1000}, nil)
				got, err := s.Next()
				if len(got.Encodings) == 0 {
					got.Encodings = nil
				}
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%+v, %v, want %+v", got, err, c.want)
				}
				if _, err := s.Next(); !errors.Is(err, io.EOF) {
					t.Errorf("at the end: %v", err)
				}
			}
		})
	}
}

func TestSTR2AHostileClientIsRefused(t *testing.T) {
	format := func(change func(b []byte)) []byte {
		b := rfb.AppendSetPixelFormat(nil, rfb.Little)
		change(b[4:])
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"257 encodings":             {rfb.AppendSetEncodings(nil, make([]rfb.Encoding, 257)), rfb.ErrLength},
		"65535 encodings":           {[]byte{2, 0, 0xff, 0xff}, rfb.ErrLength},
		"cut text of 2 GiB":         {message([]byte{6, 0, 0, 0}, uint32(0x7fffffff)), rfb.ErrLength},
		"cut text of -2 GiB":        {message([]byte{6, 0, 0, 0}, uint32(0x80000000)), rfb.ErrLength},
		"extended clipboard flags":  {message([]byte{6, 0, 0, 0}, int32(-4), uint32(0x60000000)), rfb.ErrMessage},
		"a fence of 65 bytes":       {message([]byte{248, 0, 0, 0}, uint32(0), uint8(65)), rfb.ErrLength},
		"17 screens":                {[]byte{251, 0, 0, 9, 0, 9, 17, 0}, rfb.ErrLength},
		"audio":                     {[]byte{255, 1, 0, 0}, rfb.ErrMessage},
		"a scancode of 32 bits":     {rfb.AppendKey(nil, rfb.Key{Scancode: 0xe01d}), rfb.ErrBounds},
		"power control":             {[]byte{250, 0, 1, 2}, rfb.ErrMessage},
		"colour map (RFB 3.3)":      {[]byte{1}, rfb.ErrMessage},
		"message 77":                {[]byte{77}, rfb.ErrMessage},
		"8-bit pixels":              {format(func(b []byte) { b[0] = 8 }), rfb.ErrFormat},
		"depth 32":                  {format(func(b []byte) { b[1] = 32 }), rfb.ErrFormat},
		"a colour map":              {format(func(b []byte) { b[3] = 0 }), rfb.ErrFormat},
		"ten bits a colour":         {format(func(b []byte) { b[4] = 3 }), rfb.ErrFormat},
		"a colour shifted by 5":     {format(func(b []byte) { b[10] = 5 }), rfb.ErrFormat},
		"a colour shifted by 200":   {format(func(b []byte) { b[10] = 200 }), rfb.ErrFormat},
		"two colours in one place":  {format(func(b []byte) { b[10] = 0 }), rfb.ErrFormat},
		"text that is not UTF-8":    {rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte{0xff}}), rfb.ErrFormat},
		"text with a zero byte":     {rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte("a\x00b")}), rfb.ErrFormat},
		"a zlib stream cut short":   {message([]byte{6, 0, 0, 0}, int32(-6), uint32(1<<28|1), []byte{0x78, 1}), rfb.ErrFormat},
		"text shorter than it says": {message([]byte{6, 0, 0, 0}, int32(-19), uint32(1<<28|1), []byte{0x78, 1, 1, 4, 0, 0xfb, 0xff, 0, 0, 0, 9, 0, 0, 0, 0}), rfb.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client(c.bytes).Next()
			var e *rfb.Error
			if !errors.As(err, &e) || e.From != rfb.Client || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func FuzzClientStream(f *testing.F) {
	f.Add(rfb.AppendSetEncodings(rfb.AppendSetPixelFormat(nil, rfb.Little), []rfb.Encoding{7, -26, 99}))
	f.Add(rfb.AppendKey(rfb.AppendPointer(rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 0x61}), rfb.Pointer{X: 65535, Buttons: 1}), rfb.Key{Scancode: 0x1d}))
	f.Add(rfb.AppendFence(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: screen}), 1, []byte("12345678")))
	f.Add(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte("grüße")}))
	f.Add(rfb.AppendUpdateRequest(rfb.AppendEnableContinuousUpdates(nil, true, screen), false, screen))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := client(b)
		for range 1000 {
			ev, err := s.Next()
			if err != nil {
				return
			}
			if p := ev.Pointer; p.X < 0 || p.Y < 0 || p.X >= screen.Width || p.Y >= screen.Height || len(ev.Clip.Text) > 1000 || len(ev.Encodings) > 256 || len(ev.Payload) > 64 || ev.Key.Scancode > 0xff {
				t.Fatalf("%+v", ev)
			}
		}
	})
}
