package display_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"carrel/internal/display"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// machine is a QEMU without a disk: its firmware shows a picture and waits for a key. It listens nowhere.
type machine struct {
	t       *testing.T
	monitor *qmp.Client
	viewers atomic.Int32
}

// pair makes two ends of a socket.
func pair(t *testing.T) (near net.Conn, far *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine := os.NewFile(uintptr(fds[0]), "near")
	near, err = net.FileConn(mine)
	if err := errors.Join(err, mine.Close()); err != nil {
		t.Fatal(err)
	}
	return near, os.NewFile(uintptr(fds[1]), "far")
}

// splash is a picture with every colour in it, as a BMP for SeaBIOS: such a picture is sent as JPEG when that is allowed.
func splash(t *testing.T, path string) {
	t.Helper()
	const w, h = 640, 480
	b := []byte("BM")
	for _, v := range []any{uint32(54 + w*h*3), uint32(0), uint32(54), uint32(40), int32(w), int32(h), uint16(1), uint16(24), [6]uint32{}} {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	for y := range h {
		for x := range w {
			b = append(b, byte(x*y/700), byte(x*255/w), byte(y*255/h))
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, vnc string) *machine {
	t.Helper()
	need(t, map[string]string{"qemu-system-x86_64": "qemu-system-x86"})
	picture := filepath.Join(t.TempDir(), "splash.bmp")
	splash(t, picture)
	near, far := pair(t)
	cmd := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg,tb-size=32", "-m", "64", "-device", "virtio-vga",
		"-vnc", vnc, "-boot", "menu=on,splash="+picture+",splash-time=60000", "-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control")
	cmd.ExtraFiles = []*os.File{far}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("qemu: %s", stderr.String())
		}
	})
	monitor, _, err := qmp.Connect(t.Context(), near, qmp.Options{})
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	t.Cleanup(func() { _ = monitor.Close() })
	return &machine{t: t, monitor: monitor}
}

// Connect gives QEMU one end of a new socket to show its screen on.
func (m *machine) Connect(ctx context.Context, _ ident.WorkspaceID) (net.Conn, error) {
	near, far := pair(m.t)
	defer func() { _ = far.Close() }()
	name := fmt.Sprintf("viewer%d", m.viewers.Add(1))
	if err := m.monitor.GetFD(ctx, name, far); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	if err := m.monitor.Execute(ctx, "add_client", map[string]any{"protocol": "vnc", "fdname": name, "skipauth": true}, nil); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	return near, nil
}

// browser is the binary half of a WebSocket.
type browser struct {
	ws   *websocket.Conn
	ctx  context.Context
	rest []byte
}

func (b *browser) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		kind, data, err := b.ws.Read(b.ctx)
		if err != nil {
			return 0, err
		}
		if kind == websocket.MessageBinary {
			b.rest = data
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *browser) Write(p []byte) (int, error) {
	return len(p), b.ws.Write(b.ctx, websocket.MessageBinary, p)
}

// view opens a session at url without a browser.
func view(t *testing.T, url string, encodings []rfb.Encoding) *rfbtest.Viewer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	client := http.DefaultTransport.(*http.Transport).Clone()
	client.TLSClientConfig.InsecureSkipVerify = true // The test's own server.
	t.Cleanup(client.CloseIdleConnections)
	res, err := (&http.Client{Transport: client}).Post(url+"/ticket", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Ticket string }
	if err := errors.Join(json.NewDecoder(res.Body).Decode(&got), res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	ws, _, err := websocket.Dial(ctx, strings.Replace(url, "https:", "wss:", 1)+"/display", &websocket.DialOptions{HTTPClient: &http.Client{Transport: client},
		HTTPHeader: http.Header{"Origin": {url}}, Subprotocols: []string{display.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"ticket":"`+got.Ticket+`"}`)); err != nil {
		t.Fatal(err)
	}
	v, err := rfbtest.Connect(&browser{ws: ws, ctx: ctx}, encodings)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func until(t *testing.T, v *rfbtest.Viewer, so func() bool) {
	t.Helper()
	for !so() {
		if _, err := v.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// splashed tells whether the firmware's picture is on the screen: its corners have the colours of splash, give or take what JPEG loses.
func splashed(m *image.RGBA) bool {
	near := func(x, y int, r, g, b uint8) bool {
		c := m.RGBAAt(x, y)
		diff := func(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }
		return diff(c.R, r) < 16 && diff(c.G, g) < 16 && diff(c.B, b) < 16
	}
	return m.Rect.Dx() == 640 && m.Rect.Dy() == 480 && near(2, 477, 0, 1, 1) && near(637, 477, 1, 253, 2) && near(2, 2, 254, 1, 1)
}

func TestQEMUsScreenComesThroughTheRelay(t *testing.T) {
	for name, c := range map[string]struct {
		vnc       string
		encodings []rfb.Encoding
		kind      string
	}{
		"lossless as noVNC asks": {"none", rfbtest.Encodings, "basic"},
		"lossy as noVNC asks":    {"none,lossy=on", rfbtest.Encodings, "gradient"},
		// Left to itself QEMU sends JPEG only of what changes often.
		"JPEG as noVNC asks":        {"none,lossy=on,non-adaptive=on", rfbtest.Encodings, "jpeg"},
		"without any extension":     {"none", []rfb.Encoding{rfb.Raw}, ""},
		"tight without compression": {"none", []rfb.Encoding{rfb.Tight, rfb.PseudoCompress0, rfb.PseudoDesktopSize, rfb.Raw}, "basic"},
	} {
		t.Run(name, func(t *testing.T) {
			m := start(t, c.vnc)
			url := serve(t, m, display.Policy{Title: "QEMU", Clipboard: display.ClipboardBoth})
			// The size changes while the machine starts: without DesktopSize nobody can follow that.
			if c.encodings[0] == rfb.Raw {
				first := view(t, url, []rfb.Encoding{rfb.Raw, rfb.PseudoDesktopSize})
				until(t, first, func() bool { return splashed(first.Picture) })
			}
			v := view(t, url, c.encodings)
			until(t, v, func() bool { return splashed(v.Picture) })
			t.Logf("rectangles %v, tight kinds %v, fences %d", v.Rectangles, v.Kinds, v.Fences)
			if c.kind != "" && v.Kinds[c.kind] == 0 {
				t.Errorf("no %s rectangles", c.kind)
			}
			if len(c.encodings) > 5 {
				// A fence follows on a picture.
				until(t, v, func() bool { return v.Fences > 0 })
				if !v.ExtendedKeys || !v.Continuous {
					t.Errorf("extended keys %v, continuous %v", v.ExtendedKeys, v.Continuous)
				}
			}
			// Escape, by its place, opens the firmware's menu.
			press := rfb.Key{Down: true, Keysym: 0xff1b, Scancode: 1}
			release := press
			release.Down = false
			if !v.ExtendedKeys {
				press.Scancode, release.Scancode = 0, 0
			}
			if err := v.Send(rfb.AppendKey(rfb.AppendKey(nil, press), release)); err != nil {
				t.Fatal(err)
			}
			if v.Size() == (rfb.Size{Width: 640, Height: 480}) && c.encodings[0] != rfb.Raw {
				until(t, v, func() bool { return !splashed(v.Picture) })
			}
			if len(c.encodings) > 5 {
				if err := v.Send(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: rfb.Size{Width: 1024, Height: 700}, ID: v.ScreenID})); err != nil {
					t.Fatal(err)
				}
				// QEMU tells the guest; whether it follows is up to it (a firmware does not).
				until(t, v, func() bool { return v.Why == rfb.ResizeByClient && v.Status == rfb.ResizeForwarded })
			}
		})
	}
}
