package rfb_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"

	"carrel/internal/rfb"
)

// deflated is a cut text message in which text is offered the way noVNC and QEMU do it: compressed, with a zero at its end.
func deflated(size uint32, text string) []byte {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(message(size, text))
	_ = w.Close()
	return message([]byte{6, 0, 0, 0}, int32(-4-z.Len()), uint32(1<<28|1), z.Bytes())
}

func TestClipboardMessages(t *testing.T) {
	long := strings.Repeat("ä", 500)
	for name, c := range map[string]struct {
		bytes []byte
		want  rfb.Clip
	}{
		"provide, compressed": {deflated(7, "grüße\x00"[:7]), rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte("grüße")}},
		"provide, 1000 bytes": {deflated(1001, long+"\x00"), rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte(long)}},
		// STR-1 and STR-2: a bomb is told from its announced length, and no more than the limit is inflated.
		"provide, 1001 bytes":       {deflated(1002, long+"x\x00"), rfb.Clip{Action: rfb.ClipProvide, HasText: true, TooLong: true}},
		"provide, a bomb of 50 MB":  {deflated(50<<20, strings.Repeat("a", 50<<10)), rfb.Clip{Action: rfb.ClipProvide, HasText: true, TooLong: true}},
		"provide, no text":          {message([]byte{6, 0, 0, 0}, int32(-4), uint32(1<<28|2)), rfb.Clip{Action: rfb.ClipProvide}},
		"provide, long before zlib": {message([]byte{6, 0, 0, 0}, int32(-5000), make([]byte, 5000)), rfb.Clip{Action: rfb.ClipProvide, HasText: true, TooLong: true}},
		"notify":                    {message([]byte{6, 0, 0, 0}, int32(-4), uint32(1<<27|7)), rfb.Clip{Action: rfb.ClipNotify, HasText: true}},
		"notify of nothing":         {message([]byte{6, 0, 0, 0}, int32(-4), uint32(1<<27)), rfb.Clip{Action: rfb.ClipNotify}},
		"request":                   {message([]byte{6, 0, 0, 0}, int32(-4), uint32(1<<25|1)), rfb.Clip{Action: rfb.ClipRequest, HasText: true}},
		"peek":                      {message([]byte{6, 0, 0, 0}, int32(-4), uint32(1<<26)), rfb.Clip{Action: rfb.ClipPeek}},
		"noVNC's caps":              {message([]byte{6, 0, 0, 0}, int32(-8), uint32(0x1f000001), uint32(0)), rfb.Clip{Action: rfb.ClipCaps, Can: 0x1e << 24, HasText: true}},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := client(c.bytes).Next()
			if err != nil || !reflect.DeepEqual(ev.Clip, c.want) {
				t.Errorf("%+v, %v", ev.Clip, err)
			}
		})
	}
}

func TestClipboardMessagesAreWrittenAsTheyAreRead(t *testing.T) {
	for _, c := range []rfb.Clip{
		{HasText: true, Text: []byte("latin")},
		{Action: rfb.ClipCaps, Can: rfb.ClipNotify | rfb.ClipProvide, HasText: true},
		{Action: rfb.ClipNotify, HasText: true},
		{Action: rfb.ClipRequest, HasText: true},
		{Action: rfb.ClipProvide, HasText: true, Text: []byte("grüße")},
		{Action: rfb.ClipProvide, HasText: true, Text: bytes.Repeat([]byte("x"), 200_000)},
	} {
		s := rfb.NewServerStream(bytes.NewReader(rfb.AppendServerClip(nil, c)), screen, rfb.ServerLimits{Screen: screen, TextBytes: 1 << 20}, nil)
		if ev, err := s.Next(io.Discard); err != nil || !reflect.DeepEqual(ev.Clip, c) {
			t.Errorf("%+v, %v", ev.Clip, err)
		}
		body := rfb.AppendClientClip(nil, c)
		if c.Action != rfb.ClipProvide {
			continue
		}
		// Any zlib understands it.
		z, err := zlib.NewReader(bytes.NewReader(body[12:]))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil || int(binary.BigEndian.Uint32(plain)) != len(c.Text)+1 || !bytes.Equal(plain[4:len(plain)-1], c.Text) {
			t.Errorf("%v", err)
		}
	}
}
