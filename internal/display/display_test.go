package display_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carrel/internal/display"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"
)

// direct gives a viewer on the screen itself.
func direct(t *testing.T, s *sim.Sim, encodings ...rfb.Encoding) *rfbtest.Viewer {
	t.Helper()
	conn, err := s.Display().Connect(t.Context(), desktop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if encodings == nil {
		encodings = rfbtest.Encodings
	}
	v, err := rfbtest.Connect(conn, encodings)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// same reads from both until they show the same.
func same(t *testing.T, p *page, v *rfbtest.Viewer, updates int) {
	t.Helper()
	for v.Updates < updates {
		if _, err := v.Next(); err != nil {
			t.Fatal(err)
		}
	}
	p.until(t, func() bool { return bytes.Equal(p.Picture.Pix, v.Picture.Pix) })
}

func TestAPersonSeesTheScreenAndTypesOnIt(t *testing.T) {
	o := newOffice(t, display.Policy{Title: "Ada's desktop", Clipboard: display.ClipboardBoth})
	p := o.look(t, rfbtest.Encodings)
	if p.Name != "Ada's desktop" {
		t.Errorf("the browser is told the guest's own name: %q", p.Name)
	}
	if len(p.notes) != 1 || p.notes[0]["type"] != "open" || p.notes[0]["title"] != "Ada's desktop" || p.notes[0]["clipboard"] != "both" || p.notes[0]["viewOnly"] != false {
		t.Errorf("notes %v", p.notes)
	}
	same(t, p, direct(t, o.sim), 1)
	if !p.ExtendedKeys || !p.Continuous || p.Rectangles[rfb.Tight] == 0 || p.Rectangles[rfb.PseudoCursor] != 1 {
		t.Errorf("extended keys %v, continuous %v, rectangles %v", p.ExtendedKeys, p.Continuous, p.Rectangles)
	}
	before := bytes.Clone(p.Picture.Pix)
	if err := p.Type("echo hello"); err != nil {
		t.Fatal(err)
	}
	o.typed(t, "echo hello")
	same(t, p, direct(t, o.sim), 1)
	if bytes.Equal(before, p.Picture.Pix) {
		t.Error("typing changes nothing")
	}
	if err := p.Send(rfb.AppendPointer(nil, rfb.Pointer{X: 300, Y: 200, Buttons: 1})); err != nil {
		t.Fatal(err)
	}
	before = bytes.Clone(p.Picture.Pix)
	p.until(t, func() bool { return !bytes.Equal(before, p.Picture.Pix) })
	// A fence follows on a picture, and its answer is heard a moment later.
	p.until(t, func() bool { return p.Fences > 0 })
	live := o.Registry.List(display.Match{WorkspaceID: desktop})
	for end := time.Now().Add(30 * time.Second); len(live) == 1 && live[0].Latency <= 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		live = o.Registry.List(display.Match{WorkspaceID: desktop})
	}
	if len(live) != 1 || live[0].UserName != "ada" || live[0].LastInput.IsZero() || live[0].Updates < 2 || live[0].Bytes == 0 || live[0].Latency <= 0 ||
		live[0].Screen != (rfb.Size{Width: 1280, Height: 800}) {
		t.Errorf("%+v", live)
	}
}

func TestABrowserWithoutExtensionsAsksForEveryPicture(t *testing.T) {
	o := newOffice(t, display.Policy{})
	p := o.look(t, []rfb.Encoding{rfb.Raw})
	same(t, p, direct(t, o.sim, rfb.Raw), 1)
	if p.Continuous || p.Fences != 0 || p.Rectangles[rfb.Tight] != 0 || len(p.Clips) != 0 {
		t.Errorf("%+v", p.Viewer)
	}
	n := p.Updates
	if err := p.Type("x"); err != nil {
		t.Fatal(err)
	}
	p.until(t, func() bool { return p.Updates > n })
}

func TestResize(t *testing.T) {
	o := newOffice(t, display.Policy{Largest: rfb.Size{Width: 1920, Height: 1080}})
	p := o.look(t, rfbtest.Encodings)
	want := rfb.Size{Width: 900, Height: 700}
	if err := p.Send(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: want})); err != nil {
		t.Fatal(err)
	}
	p.until(t, func() bool { return p.Size() == want })
	if p.Why != rfb.ResizeByClient || p.Status != rfb.ResizeDone {
		t.Errorf("why %d, status %d", p.Why, p.Status)
	}
	same(t, p, direct(t, o.sim), 1)
	for _, z := range []rfb.Size{{Width: 1921, Height: 1080}, {Width: 65535, Height: 65535}, {Width: 0, Height: 0}, {Width: 100, Height: 800}} {
		p.Status = 0
		if err := p.Send(rfb.AppendSetDesktopSize(nil, rfb.Resize{Size: z})); err != nil {
			t.Fatal(err)
		}
		p.until(t, func() bool { return p.Status == rfb.ResizeInvalid })
	}
	if p.Size() != want {
		t.Errorf("screen is %v", p.Size())
	}
}

func TestViewOnlyLetsNothingThrough(t *testing.T) {
	o := newOffice(t, display.Policy{ViewOnly: true, Clipboard: display.ClipboardBoth})
	p := o.look(t, rfbtest.Encodings)
	same(t, p, direct(t, o.sim), 1)
	before := bytes.Clone(p.Picture.Pix)
	if err := p.Type("echo hello\n"); err != nil {
		t.Fatal(err)
	}
	b := rfb.AppendPointer(nil, rfb.Pointer{X: 300, Y: 200, Buttons: 1})
	b = rfb.AppendClientClip(b, rfb.Clip{HasText: true, Text: []byte("pasted")})
	b = rfb.AppendSetDesktopSize(b, rfb.Resize{Size: rfb.Size{Width: 800, Height: 600}})
	if err := p.Send(b); err != nil {
		t.Fatal(err)
	}
	// The answer to the last of them comes after all others were looked at.
	p.until(t, func() bool { return p.Status == rfb.ResizeProhibited })
	same(t, p, direct(t, o.sim), 1)
	if !bytes.Equal(before, p.Picture.Pix) || len(o.acts) != 0 || len(p.Clips) != 0 {
		t.Errorf("something came through: %v", o.acts)
	}
	if live := o.Registry.List(display.Match{}); len(live) != 1 || !live[0].ViewOnly || !live[0].LastInput.IsZero() {
		t.Errorf("%+v", live)
	}
}

func TestClipboardFollowsThePolicy(t *testing.T) {
	text := func(n int) rfb.Clip {
		return rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: bytes.Repeat([]byte("t"), n)}
	}
	for _, c := range []struct {
		way      display.Clipboard
		to, from bool
	}{{display.ClipboardNone, false, false}, {"", false, false}, {"everything", false, false}, {display.ClipboardToDesktop, true, false},
		{display.ClipboardFromDesktop, false, true}, {display.ClipboardBoth, true, true}} {
		t.Run(fmt.Sprintf("%q", c.way), func(t *testing.T) {
			o := newOffice(t, display.Policy{Clipboard: c.way, TextBytes: 100})
			p := o.look(t, rfbtest.Encodings)
			count := func(a rfb.ClipAction) int {
				return len(slices.Collect(func(yield func(rfb.Clip) bool) {
					for _, clip := range p.Clips {
						if clip.Action == a && !yield(clip) {
							return
						}
					}
				}))
			}
			// To the desktop: offered, provided, too long, and the old way.
			b := rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipNotify, HasText: true})
			b = rfb.AppendClientClip(b, text(101))
			b = rfb.AppendClientClip(b, text(99))
			b = rfb.AppendClientClip(b, rfb.Clip{HasText: true, Text: []byte("latin")})
			if err := p.Send(b); err != nil {
				t.Fatal(err)
			}
			// From the desktop: announced when it copies.
			if err := p.Type("copy secret\n"); err != nil {
				t.Fatal(err)
			}
			if err := p.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipRequest, HasText: true})); err != nil {
				t.Fatal(err)
			}
			p.until(t, func() bool { return len(o.acted(display.ActKey)) == 24 })
			if c.from {
				p.until(t, func() bool { return count(rfb.ClipProvide) == 1 && count(rfb.ClipNotify) > 0 })
				if !slices.ContainsFunc(p.Clips, func(c rfb.Clip) bool { return string(c.Text) == "secret" }) {
					t.Errorf("%+v", p.Clips)
				}
			} else {
				// What comes through anyway comes before the picture of the next key.
				n := p.Updates
				if err := p.Type("x"); err != nil {
					t.Fatal(err)
				}
				p.until(t, func() bool { return p.Updates > n+1 || len(o.acted(display.ActKey)) == 26 && p.Updates > n })
			}
			if c.to {
				p.until(t, func() bool { return count(rfb.ClipRequest) == 1 })
			}
			if (count(rfb.ClipNotify) > 0) != c.from || (count(rfb.ClipProvide) > 0) != c.from || (count(rfb.ClipRequest) > 0) != c.to || count(rfb.ClipPlain) > 0 {
				t.Errorf("%+v", p.Clips)
			}
			var passed []bool
			for _, a := range o.acted(display.ActCopyToDesktop) {
				passed = append(passed, a.Allowed)
			}
			if !slices.Equal(passed, []bool{false, c.to, c.to}) {
				t.Errorf("to the desktop: %v", passed)
			}
			if strings.Contains(o.log.String(), "secret") {
				t.Error("the log holds what was copied")
			}
		})
	}
}

func TestSES3ATicketIsTakenOnceAndOnlyFromItsPlace(t *testing.T) {
	o := newOffice(t, display.Policy{})
	present := func(t *testing.T, token string) *page {
		p, _, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		p.present(t, token)
		return p
	}
	t.Run("replayed", func(t *testing.T) {
		token := o.ticket(t, ada())
		present(t, token).connect(t, rfbtest.Encodings)
		if why := present(t, token).end(t); why != display.ReasonRefused {
			t.Errorf("%q", why)
		}
		if !strings.Contains(o.log.String(), "display ticket misused") {
			t.Error("nobody is told")
		}
		if strings.Contains(o.log.String(), token) {
			t.Error("the log holds the ticket")
		}
	})
	t.Run("from another address", func(t *testing.T) {
		o.mu.Lock()
		o.from.Address = netip.MustParseAddr("203.0.113.66")
		o.mu.Unlock()
		defer func() {
			o.mu.Lock()
			o.from = ada().Binding
			o.mu.Unlock()
		}()
		if why := present(t, o.ticket(t, ada())).end(t); why != display.ReasonRefused {
			t.Errorf("%q", why)
		}
	})
	for name, first := range map[string]string{
		"guessed":          `{"ticket":"` + strings.Repeat("A", 43) + `"}`,
		"absent":           `{}`,
		"not JSON":         "RFB 003.008\n",
		"with more in it":  `{"ticket":"x","workspace":"ws-000000002"}`,
		"longer than that": `{"ticket":"` + strings.Repeat("A", 10_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.ws.Write(p.ctx, 1, []byte(first)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Read(make([]byte, 1)); err == nil || len(p.notes) > 0 {
				t.Errorf("%v, %v", p.notes, err)
			}
		})
	}
	t.Run("in the URL", func(t *testing.T) {
		token := o.ticket(t, ada())
		o.url += "/?ticket=" + token
		p, _, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.ws.Write(p.ctx, 1, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if why := p.end(t); why != display.ReasonRefused {
			t.Errorf("%q", why)
		}
	})
}

func TestSES4AForeignPageIsRefused(t *testing.T) {
	o := newOffice(t, display.Policy{})
	for _, foreign := range []string{"", "null", "https://evil.example.com", "http://desk.example.com", "https://desk.example.com:8443", "https://desk.example.com.evil.com",
		"https://DESK.example.com", "https://desk.example.com/"} {
		header := http.Header{}
		if foreign != "" {
			header.Set("Origin", foreign)
		}
		if _, res, err := o.dial(t, header, display.Protocol); err == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %v", foreign, err)
		}
	}
	if _, res, err := o.dial(t, http.Header{"Origin": {origin}}, "binary"); err == nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("another subprotocol: %v", err)
	}
	res, err := http.Get(o.url)
	if err != nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("no WebSocket: %v", err)
	}
	_ = res.Body.Close()
	p, res, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol)
	if err != nil || res.Header.Get("Sec-WebSocket-Extensions") != "" || p.ws.Subprotocol() != display.Protocol {
		t.Errorf("compression is on, or the subprotocol is not ours: %v, %v", res.Header, err)
	}
}

func TestASessionThatCannotBegin(t *testing.T) {
	t.Run("by policy", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		o.refuse = errors.New("address not allowed")
		if why := o.open(t, ada()).end(t); why != display.ReasonRefused {
			t.Errorf("%q", why)
		}
		if len(o.changes) != 0 || len(o.Registry.List(display.Match{})) != 0 {
			t.Errorf("%v", o.changes)
		}
	})
	t.Run("of a desktop that is stopped", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		if _, err := o.sim.Hypervisor().Stop(t.Context(), desktop); err != nil {
			t.Fatal(err)
		}
		if why := o.open(t, ada()).end(t); why != display.ReasonNotRunning {
			t.Errorf("%q", why)
		}
	})
	t.Run("of a desktop that there is not", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		c := ada()
		c.WorkspaceID = "ws-000000002"
		if why := o.open(t, c).end(t); why != display.ReasonNotRunning {
			t.Errorf("%q", why)
		}
	})
	t.Run("because the host does not answer", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		if err := o.sim.Faults().Fail("display", "connect", 1); err != nil {
			t.Fatal(err)
		}
		if why := o.open(t, ada()).end(t); why != display.ReasonUnreachable {
			t.Errorf("%q", why)
		}
	})
}

func TestASessionEndsWithItsReason(t *testing.T) {
	for name, m := range map[string]display.Match{
		"by user":      {UserSID: ada().UserSID},
		"by directory": {Directory: ada().Directory},
		"by desktop":   {WorkspaceID: desktop},
		"by session":   {Session: ada().Binding.Session},
		"by address":   {Only: func(i display.Info) bool { return i.Address == netip.MustParseAddr("127.0.0.1") }},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, display.Policy{})
			p := o.look(t, rfbtest.Encodings)
			p.until(t, func() bool { return p.Updates > 0 })
			if n := o.Registry.Cut(m, display.ReasonRuleChanged); n != 1 {
				t.Fatalf("%d cut", n)
			}
			if why := p.end(t); why != display.ReasonRuleChanged {
				t.Errorf("%q", why)
			}
			if err := o.Registry.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := o.changed(); !slices.Equal(got, []string{"connected ada", "disconnected ada rule-changed"}) {
				t.Errorf("%v", got)
			}
		})
	}
	t.Run("leaving others alone", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, rfbtest.Encodings)
		for _, m := range []display.Match{{UserSID: "S-1-5-21-9"}, {WorkspaceID: "ws-000000002"}, {Session: [32]byte{1}}, {ID: "x"}, {Directory: "d-1"},
			{UserSID: ada().UserSID, WorkspaceID: "ws-000000002"}, {Only: func(display.Info) bool { return false }}} {
			if n := o.Registry.Cut(m, display.ReasonSignedOut); n != 0 {
				t.Errorf("%+v cuts %d", m, n)
			}
		}
		p.until(t, func() bool { return p.Updates > 0 })
	})
	t.Run("when the desktop stops", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, rfbtest.Encodings)
		p.until(t, func() bool { return p.Updates > 0 })
		if _, err := o.sim.Hypervisor().Stop(t.Context(), desktop); err != nil {
			t.Fatal(err)
		}
		if why := p.end(t); why != display.ReasonDesktopEnded {
			t.Errorf("%q", why)
		}
	})
	t.Run("when the process ends, and none begins after", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, rfbtest.Encodings)
		done := make(chan error, 1)
		go func() { done <- o.Registry.Shutdown(context.Background()) }()
		if why := p.end(t); why != display.ReasonShuttingDown {
			t.Errorf("%q", why)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, res, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol); err == nil || res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("when the browser goes without a word", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		p := o.look(t, rfbtest.Encodings)
		p.until(t, func() bool { return p.Updates > 0 })
		_ = p.ws.CloseNow()
		if err := waitFor(t, func() bool { return len(o.changed()) == 2 }); err != nil {
			t.Fatal(err)
		}
		if got := o.changed(); got[1] != "disconnected ada lost" {
			t.Errorf("%v", got)
		}
	})
}

// waitFor looks again and again until something is so, for half a minute.
func waitFor(t testing.TB, so func() bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func TestTwoBrowsersOnOneDesktop(t *testing.T) {
	t.Run("the second takes over, the first is told", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		first := o.look(t, rfbtest.Encodings)
		first.until(t, func() bool { return first.Updates > 0 })
		second := o.look(t, rfbtest.Encodings)
		if why := first.end(t); why != display.ReasonTakenOver {
			t.Errorf("%q", why)
		}
		second.until(t, func() bool { return second.Updates > 0 })
		if live := o.Registry.List(display.Match{}); len(live) != 1 {
			t.Errorf("%+v", live)
		}
	})
	t.Run("of many at once one stays", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		var over atomic.Int32
		var readers sync.WaitGroup
		for range 8 {
			p := o.open(t, ada())
			readers.Go(func() {
				for {
					if _, err := p.Read(make([]byte, 4096)); err != nil {
						over.Add(1)
						return
					}
				}
			})
		}
		if err := waitFor(t, func() bool { return over.Load() == 7 && len(o.Registry.List(display.Match{})) == 1 }); err != nil {
			t.Errorf("%d are over, %d are left", over.Load(), len(o.Registry.List(display.Match{})))
		}
		if n := o.Registry.Cut(display.Match{}, display.ReasonSignedOut); n != 1 {
			t.Errorf("%d stayed", n)
		}
		readers.Wait()
	})
	t.Run("shared, both go on", func(t *testing.T) {
		o := newOffice(t, display.Policy{Shared: true})
		first, second := o.look(t, rfbtest.Encodings), o.look(t, rfbtest.Encodings)
		if err := first.Type("x"); err != nil {
			t.Fatal(err)
		}
		o.typed(t, `"Line":"x"`)
		v := direct(t, o.sim)
		same(t, first, v, 1)
		same(t, second, v, 1)
	})
	t.Run("on another desktop it is left alone", func(t *testing.T) {
		o := newOffice(t, display.Policy{})
		boot(t, o.sim, "ws-000000002")
		first := o.look(t, rfbtest.Encodings)
		c := ada()
		c.WorkspaceID = ident.WorkspaceID("ws-000000002")
		other := o.open(t, c)
		other.connect(t, rfbtest.Encodings)
		other.until(t, func() bool { return other.Updates > 0 })
		first.until(t, func() bool { return first.Updates > 0 })
		if live := o.Registry.List(display.Match{}); len(live) != 2 {
			t.Errorf("%+v", live)
		}
	})
}
