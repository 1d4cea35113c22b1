package sim_test

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"
)

func look(t *testing.T, s *sim.Sim, encodings []rfb.Encoding) (*rfbtest.Viewer, net.Conn) {
	t.Helper()
	conn, err := s.Display().Connect(t.Context(), desktop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	v, err := rfbtest.Connect(conn, encodings)
	if err != nil {
		t.Fatal(err)
	}
	return v, conn
}

// until reads until what is wanted is so.
func until(t *testing.T, v *rfbtest.Viewer, wanted func() bool) {
	t.Helper()
	for !wanted() {
		if _, err := v.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// updated waits for the next picture and gives it as bytes.
func updated(t *testing.T, v *rfbtest.Viewer) []byte {
	t.Helper()
	n := v.Updates
	until(t, v, func() bool { return v.Updates > n })
	return bytes.Clone(v.Picture.Pix)
}

func TestScreenShowsWhatIsTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		start(t, s)
		v, conn := look(t, s, rfbtest.Encodings)
		first := updated(t, v)
		if v.Size() != (rfb.Size{Width: 1280, Height: 800}) || !v.ExtendedKeys {
			t.Errorf("%v, extended keys %v", v.Size(), v.ExtendedKeys)
		}
		if err := v.Type("echo hello\n"); err != nil {
			t.Fatal(err)
		}
		typed := updated(t, v)
		for range 3 {
			if bytes.Equal(first, typed) {
				typed = updated(t, v)
			}
		}
		if path := os.Getenv("CARREL_SCREEN"); path != "" { // To look at it.
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(png.Encode(f, v.Picture), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		// The clock on the screen goes on by itself.
		if next := updated(t, v); bytes.Equal(next, typed) {
			t.Error("a second later nothing has changed")
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestScreenIsTheSameInEveryEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		start(t, s)
		tight, _ := look(t, s, []rfb.Encoding{rfb.Tight, rfb.Raw, rfb.PseudoCursor})
		raw, _ := look(t, s, []rfb.Encoding{rfb.Raw, rfb.PseudoCursor})
		if !bytes.Equal(updated(t, tight), updated(t, raw)) {
			t.Error("raw and tight pictures differ")
		}
		if tight.Rectangles[rfb.Raw] != 0 || raw.Rectangles[rfb.Tight] != 0 {
			t.Errorf("%v, %v", tight.Rectangles, raw.Rectangles)
		}
	})
}

func TestScreenIsResized(t *testing.T) {
	s := open(t, t.TempDir())
	start(t, s)
	v, _ := look(t, s, rfbtest.Encodings)
	other, _ := look(t, s, rfbtest.Encodings)
	updated(t, v)
	updated(t, other)
	for _, z := range []rfb.Size{{Width: 801, Height: 601}, {Width: 320, Height: 480}} {
		if err := v.Send(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: z, ID: 3})); err != nil {
			t.Fatal(err)
		}
		until(t, v, func() bool { return v.Size() == z })
		if v.Why != rfb.ResizeByClient || v.Status != rfb.ResizeDone {
			t.Errorf("why %d, status %d", v.Why, v.Status)
		}
		updated(t, v)
		until(t, other, func() bool { return other.Size() == z })
		if other.Why != rfb.ResizeByServer {
			t.Errorf("why %d", other.Why)
		}
	}
	if err := v.Send(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: rfb.Size{Width: 65535, Height: 65535}})); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return v.Status == rfb.ResizeInvalid })
}

func TestScreenCopiesAndPastes(t *testing.T) {
	s := open(t, t.TempDir())
	start(t, s)
	v, _ := look(t, s, rfbtest.Encodings)
	until(t, v, func() bool { return len(v.Clips) == 1 }) // What the desktop can do.
	if err := v.Type("copy some text\n"); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return len(v.Clips) == 2 })
	if v.Clips[1].Action != rfb.ClipNotify {
		t.Fatalf("%+v", v.Clips[1])
	}
	if err := v.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipRequest, HasText: true})); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return len(v.Clips) == 3 })
	if string(v.Clips[2].Text) != "some text" {
		t.Errorf("%+v", v.Clips[2])
	}
	if err := v.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipNotify, HasText: true})); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return len(v.Clips) == 4 && v.Clips[3].Action == rfb.ClipRequest })
	if err := v.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte("echo pasted\n")})); err != nil {
		t.Fatal(err)
	}
	control := rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 0xffe3})
	if err := v.Send(append(control, rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 'v'})...)); err != nil {
		t.Fatal(err)
	}
	if err := v.Send(rfb.AppendKey(nil, rfb.Key{Keysym: 0xffe3})); err != nil {
		t.Fatal(err)
	}
	if err := v.Type("copy done\n"); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return len(v.Clips) == 5 })
}

// onScreen tells whether a text is in any file of the simulated host.
func onScreen(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "screens", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err != nil || strings.Contains(string(data), text) {
			return true
		}
	}
	return false
}

func TestWhatIsOnTheScreenLivesWithTheMachine(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	spec := start(t, s)
	ctx := t.Context()
	write := func() *rfbtest.Viewer {
		v, _ := look(t, s, rfbtest.Encodings)
		if err := v.Type("copy 4711-marker\n"); err != nil {
			t.Fatal(err)
		}
		until(t, v, func() bool { return len(v.Clips) == 2 })
		return v
	}
	v := write()
	if _, err := s.Hypervisor().Stop(ctx, desktop); err != nil {
		t.Fatal(err)
	}
	if err := ended(v); err == nil {
		t.Error("a stopped machine still has viewers")
	}
	if _, err := s.Display().Connect(ctx, desktop); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("connect to a stopped machine: %v", err)
	}
	if !onScreen(t, dir, "4711-marker") {
		t.Error("a stopped machine has forgotten its screen")
	}
	// Also over a restart of the process.
	s = open(t, dir)
	if _, err := s.Hypervisor().Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	v, _ = look(t, s, rfbtest.Encodings)
	if err := v.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipRequest, HasText: true})); err != nil {
		t.Fatal(err)
	}
	until(t, v, func() bool { return len(v.Clips) == 2 })
	if string(v.Clips[1].Text) != "4711-marker" {
		t.Errorf("%+v", v.Clips[1])
	}
	if _, err := s.Hypervisor().Reboot(ctx, desktop, 1); err != nil {
		t.Fatal(err)
	}
	if onScreen(t, dir, "4711-marker") {
		t.Error("a rebooted machine remembers its screen")
	}
	v = write()
	if _, err := s.Hypervisor().Scrub(ctx, desktop); err != nil {
		t.Fatal(err)
	}
	if onScreen(t, dir, "4711-marker") {
		t.Error("what was typed is left after a scrub")
	}
	if err := ended(v); err == nil {
		t.Error("a scrubbed machine still has viewers")
	}
	if err := s.Hypervisor().Release(ctx, desktop); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Display().Connect(ctx, desktop); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("connect to a released machine: %v", err)
	}
}

// ended reads until the connection ends.
func ended(v *rfbtest.Viewer) error {
	for range 1000 {
		if _, err := v.Next(); err != nil {
			return err
		}
	}
	return nil
}

func TestScreenCanBeToldToFail(t *testing.T) {
	s := open(t, t.TempDir())
	start(t, s)
	if err := s.Faults().Fail("display", "connect", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Display().Connect(t.Context(), desktop); !errors.Is(err, driver.ErrUnavailable) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Display().Connect(ctx, desktop); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	look(t, s, rfbtest.Encodings)
}
