package rfb_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"carrel/internal/rfb"
)

// talk is a peer whose words are known beforehand.
type talk struct {
	io.Reader
	bytes.Buffer
}

func (t *talk) Read(p []byte) (int, error) { return t.Reader.Read(p) }

// What QEMU 7.2 says to a viewer on a passed socket with skipauth.
var qemu = message("RFB 003.008\n", []byte{1, 1}, uint32(0), uint16(640), uint16(480),
	[]byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0}, uint32(4), "QEMU")

func TestGoldenHandshakeWithAServer(t *testing.T) {
	p := &talk{Reader: bytes.NewReader(qemu)}
	init, err := rfb.Connect(p, true, limits.Screen)
	if err != nil || init != (rfb.ServerInit{Screen: screen, Name: "QEMU"}) {
		t.Fatalf("%+v, %v", init, err)
	}
	if got := p.String(); got != "RFB 003.008\n\x01\x01" {
		t.Errorf("said %q", got)
	}
}

func TestGoldenHandshakeWithAClient(t *testing.T) {
	p := &talk{Reader: bytes.NewReader(message("RFB 003.008\n", []byte{1, 1}))}
	shared, err := rfb.Accept(p, rfb.ServerInit{Screen: screen, Name: "EC2-ADA01"})
	if err != nil || !shared {
		t.Fatal(shared, err)
	}
	want := message("RFB 003.008\n", []byte{1, 1}, uint32(0), uint16(640), uint16(480),
		[]byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0}, uint32(9), "EC2-ADA01")
	if got := p.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}

func TestSTR1AServersHandshakeIsRefused(t *testing.T) {
	head := "RFB 003.008\n"
	init := func(w, h uint16, n uint32) []byte {
		return message(head, []byte{1, 1}, uint32(0), w, h, make([]byte, 16), n)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"another version":        {[]byte("RFB 003.003\n"), rfb.ErrVersion},
		"another protocol":       {[]byte("SSH-2.0-Open"), rfb.ErrVersion},
		"authentication wanted":  {message(head, []byte{2, 2, 19}), rfb.ErrSecurity},
		"a refusal":              {message(head, []byte{0}, uint32(3), "bye"), rfb.ErrSecurity},
		"a refusal of 4 GiB":     {message(head, []byte{0}, uint32(0xffffffff)), rfb.ErrLength},
		"a failed result":        {message(head, []byte{1, 1}, uint32(1), uint32(3), "bye"), rfb.ErrSecurity},
		"an endless name":        {init(640, 480, 0xffffffff), rfb.ErrLength},
		"a name of 1025 bytes":   {init(640, 480, 1025), rfb.ErrLength},
		"a screen of 65535":      {init(65535, 65535, 0), rfb.ErrBounds},
		"a screen without width": {init(0, 480, 0), rfb.ErrBounds},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rfb.Connect(&talk{Reader: bytes.NewReader(c.bytes)}, true, limits.Screen)
			if e := (*rfb.Error)(nil); !errors.As(err, &e) || e.From != rfb.Server || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	for n := range qemu {
		if _, err := rfb.Connect(&talk{Reader: bytes.NewReader(qemu[:n])}, true, limits.Screen); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestSTR2AClientsHandshakeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  error
	}{
		"another version":             {"RFB 003.003\n", rfb.ErrVersion},
		"HTTP":                        {"GET / HTTP/1.1\r\n", rfb.ErrVersion},
		"a security type not offered": {"RFB 003.008\n\x02", rfb.ErrSecurity},
	} {
		_, err := rfb.Accept(&talk{Reader: bytes.NewReader([]byte(c.bytes))}, rfb.ServerInit{Screen: screen})
		if e := (*rfb.Error)(nil); !errors.As(err, &e) || e.From != rfb.Client || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzConnect(f *testing.F) {
	f.Add(qemu)
	f.Add(message("RFB 003.008\n", []byte{0}, uint32(3), "bye"))
	f.Fuzz(func(t *testing.T, b []byte) {
		init, err := rfb.Connect(&talk{Reader: bytes.NewReader(b)}, false, limits.Screen)
		if err == nil && (len(init.Name) > 1024 || init.Screen.Width < 1 || init.Screen.Width > limits.Screen.Width) {
			t.Fatalf("%+v", init)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add(message("RFB 003.008\n", []byte{1, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := rfb.Accept(&talk{Reader: bytes.NewReader(b)}, rfb.ServerInit{Screen: screen}); err == nil && string(b[:12]) != "RFB 003.008\n" {
			t.Fatalf("%q", b)
		}
	})
}
