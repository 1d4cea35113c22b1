package display_test

import (
	"bytes"
	"cmp"
	"context"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/deskline"
	"carrel/internal/display"
	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"

	"github.com/coder/websocket"
)

// guest is what speaks for the session in a guest: one line of it at a time.
type guest struct {
	refuse error
	mute   bool

	mu    sync.Mutex
	conn  net.Conn
	heard []deskline.Message
}

func (g *guest) Session(_ context.Context, id ident.WorkspaceID) (net.Conn, error) {
	if g.refuse != nil || id != desktop {
		return nil, g.refuse
	}
	theirs, ours := net.Pipe()
	g.mu.Lock()
	g.conn = ours
	g.mu.Unlock()
	go func() { // Ends with the connection.
		for r := deskline.NewReader(ours); ; {
			line, err := r.Next()
			if err != nil {
				return
			}
			m, err := deskline.Parse(line)
			if err != nil {
				continue
			}
			g.mu.Lock()
			g.heard = append(g.heard, m)
			mute := g.mute
			g.mu.Unlock()
			switch {
			case mute:
			case m.Kind == deskline.Hello:
				g.says("hello 1\n")
			case m.Kind == deskline.Clip:
				g.says("taken\n")
			}
		}
	}()
	return theirs, nil
}

func (g *guest) says(lines string) {
	g.mu.Lock()
	conn := g.conn
	g.mu.Unlock()
	_, _ = conn.Write([]byte(lines)) // A session that has ended hears nothing.
}

// keyboards gives the keyboards that the guest was told of.
func (g *guest) keyboards() (all []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.heard {
		if m.Kind == deskline.Keyboard {
			all = append(all, string(m.Text))
		}
	}
	return all
}

func (g *guest) texts() (all []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.heard {
		if m.Kind == deskline.Clip {
			all = append(all, string(m.Text))
		}
	}
	return all
}

// told gives the states of the clipboard that the page was told.
func (p *page) told() (all []string) {
	for _, n := range p.notes {
		if n["type"] == "clipboard" {
			all = append(all, n["state"].(string))
		}
	}
	return all
}

func (p *page) clips(a rfb.ClipAction) (texts []string) {
	for _, c := range p.Clips {
		if c.Action == a {
			texts = append(texts, string(c.Text))
		}
	}
	return texts
}

func deskOffice(t *testing.T, policy display.Policy, g *guest) (*office, *page) {
	o := newOffice(t, policy)
	o.Sessions, o.Limits.Beat = g, 20*time.Millisecond
	return o, o.look(t, rfbtest.Encodings)
}

func send(t *testing.T, p *page, clips ...rfb.Clip) {
	t.Helper()
	for _, c := range clips {
		if err := p.Send(rfb.AppendClientClip(nil, c)); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	offer = rfb.Clip{Action: rfb.ClipNotify, HasText: true}
	ask   = rfb.Clip{Action: rfb.ClipRequest, HasText: true}
)

func provide(text string) rfb.Clip {
	return rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte(text)}
}

func TestATextGoesToTheSessionInTheGuestAndComesFromIt(t *testing.T) {
	g := &guest{}
	o, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth}, g)
	if p.notes[0]["confirms"] != true {
		t.Errorf("the page is not told to wait for a word: %v", p.notes[0])
	}
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"ready"}) })
	send(t, p, offer)
	p.until(t, func() bool { return len(p.clips(rfb.ClipRequest)) == 1 })
	send(t, p, provide("Grüße\r\nzwei ☕"))
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"ready", "taken"}) })
	if got := g.texts(); !slices.Equal(got, []string{"Grüße\nzwei ☕"}) {
		t.Errorf("the guest has %q", got)
	}
	send(t, p, rfb.Clip{HasText: true, Text: []byte("gr\xfcn")})
	p.until(t, func() bool { return len(g.texts()) == 2 && g.texts()[1] == "grün" })

	g.says(string(deskline.Append(nil, deskline.Message{Kind: deskline.Clip, Text: []byte("da ☕\nzwei")})))
	p.until(t, func() bool { return len(p.clips(rfb.ClipNotify)) == 1 })
	send(t, p, ask)
	p.until(t, func() bool { return slices.Equal(p.clips(rfb.ClipProvide), []string{"da ☕\r\nzwei"}) })
	if acts := o.acted(display.ActCopyFromDesktop); len(acts) != 1 || !acts[0].Allowed || acts[0].Bytes != len("da ☕\nzwei") {
		t.Errorf("%+v", acts)
	}
	if acts := o.acted(display.ActCopyToDesktop); len(acts) != 2 || !acts[0].Allowed || !acts[1].Allowed {
		t.Errorf("%+v", acts)
	}
	// The screen's own clipboard is another, and nothing of it is passed on.
	if err := p.Type("copy secret\n"); err != nil {
		t.Fatal(err)
	}
	o.typed(t, "copy secret")
	send(t, p, ask)
	p.until(t, func() bool { return len(p.clips(rfb.ClipProvide)) == 2 })
	if strings.Contains(strings.Join(p.clips(rfb.ClipProvide), ""), "secret") || len(p.clips(rfb.ClipNotify)) != 1 {
		t.Errorf("%+v", p.Clips)
	}
}

func TestTheSessionsClipboardFollowsThePolicy(t *testing.T) {
	for _, c := range []struct {
		way      display.Clipboard
		to, from bool
	}{{display.ClipboardToDesktop, true, false}, {display.ClipboardFromDesktop, false, true}, {display.ClipboardBoth, true, true}} {
		t.Run(string(c.way), func(t *testing.T) {
			g := &guest{}
			o, p := deskOffice(t, display.Policy{Clipboard: c.way, TextBytes: 100}, g)
			p.until(t, func() bool { return len(p.told()) == 1 })
			acts := func(kind display.ActKind) (all []bool) {
				for _, a := range o.acted(kind) {
					all = append(all, a.Allowed)
				}
				return all
			}
			send(t, p, offer, provide(strings.Repeat("l", 101)), provide("short"))
			// No message need come of what is refused. What the guest says afterwards is the newest text there is, whatever the machine does beside.
			for end := time.Now().Add(30 * time.Second); len(acts(display.ActCopyToDesktop)) < 2 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if c.to {
				p.until(t, func() bool { return slices.Equal(g.texts(), []string{"short"}) && slices.Contains(p.told(), "taken") })
			}
			for _, text := range []string{strings.Repeat("l", 101), "kurz"} {
				g.says(string(deskline.Append(nil, deskline.Message{Kind: deskline.Clip, Text: []byte(text)})))
			}
			send(t, p, ask)
			if want := []bool{false, c.to}; !slices.Equal(acts(display.ActCopyToDesktop), want) {
				t.Errorf("to the desktop: %v", acts(display.ActCopyToDesktop))
			}
			if c.from {
				p.until(t, func() bool { return len(p.clips(rfb.ClipNotify)) == 1 })
				send(t, p, ask)
				p.until(t, func() bool { return slices.Contains(p.clips(rfb.ClipProvide), "kurz") })
			}
			// What comes through anyway is there by the time the whole picture is.
			n := p.Updates
			if err := p.Type("x"); err != nil {
				t.Fatal(err)
			}
			p.until(t, func() bool { return p.Updates > n })
			if (len(g.texts()) > 0) != c.to || (len(p.clips(rfb.ClipNotify)) > 0) != c.from || (len(p.clips(rfb.ClipRequest)) > 0) != c.to || slices.Contains(acts(display.ActCopyFromDesktop), true) != c.from {
				t.Errorf("the guest has %q, the page %+v", g.texts(), p.Clips)
			}
		})
	}
	t.Run("nobody is asked when nothing may be copied", func(t *testing.T) {
		g := &guest{}
		o, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth, ViewOnly: true}, g)
		same(t, p, direct(t, o.sim), 1)
		if g.conn != nil || p.notes[0]["confirms"] != false {
			t.Errorf("%v", p.notes)
		}
	})
}

func TestThePageIsToldWhenNobodyAnswersInTheGuest(t *testing.T) {
	t.Run("a machine without a port", func(t *testing.T) {
		o, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth}, &guest{refuse: driver.ErrUnavailable})
		p.until(t, func() bool { return slices.Equal(p.told(), []string{"none"}) })
		send(t, p, provide("lost"))
		p.until(t, func() bool { return slices.Equal(p.told(), []string{"none", "none"}) })
		if acts := o.acted(display.ActCopyToDesktop); len(acts) != 1 || acts[0].Allowed {
			t.Errorf("%+v", acts)
		}
	})
	t.Run("a machine that lets go of the connection", func(t *testing.T) {
		g := &guest{}
		_, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth}, g)
		p.until(t, func() bool { return len(p.told()) == 1 })
		_ = g.conn.Close()
		p.until(t, func() bool { return slices.Equal(p.told(), []string{"ready", "none"}) })
	})
}

// ahead is a clock that can be put forward.
type ahead struct {
	clock.System
	by atomic.Int64
}

func (a *ahead) Now() time.Time { return a.System.Now().Add(time.Duration(a.by.Load())) }

func TestAGuestThatDoesNotAnswerHasNoClipboardUntilItDoes(t *testing.T) {
	g, now := &guest{mute: true}, &ahead{}
	o := newOffice(t, display.Policy{Clipboard: display.ClipboardBoth})
	o.Sessions, o.Limits.Beat, o.Clock = g, 20*time.Millisecond, now
	p := o.look(t, rfbtest.Encodings)
	same(t, p, direct(t, o.sim), 1)
	if len(p.told()) != 0 {
		t.Errorf("%v before anything is known", p.told())
	}
	now.by.Store(int64(25 * time.Second))
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"none"}) })
	g.says("hello 1\n")
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"none", "ready"}) })
	// It has answered, and then takes nothing.
	send(t, p, provide("lost"))
	p.until(t, func() bool { return slices.Equal(g.texts(), []string{"lost"}) })
	now.by.Store(int64(50 * time.Second))
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"none", "ready", "none"}) })
}

// STR-1: a guest that says what it likes breaks nothing and is heard when it makes sense again.
func TestAHostileGuestsLinesAreDropped(t *testing.T) {
	g := &guest{mute: true}
	_, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth}, g)
	for _, bad := range []string{"\n\n", "exec\n", "clip\n", "clip /w==\n", "clip YQBi\n", "clip !\n", "\x00\xff\n", strings.Repeat("x", 1<<20) + "\n"} {
		g.says(bad)
	}
	g.says("hello 1\n")
	p.until(t, func() bool { return slices.Equal(p.told(), []string{"ready"}) })
	for range 500 {
		g.says(string(deskline.Append(nil, deskline.Message{Kind: deskline.Clip, Text: bytes.Repeat([]byte("f"), 1000)})))
	}
	p.until(t, func() bool { return len(p.clips(rfb.ClipNotify)) > 0 })
	n := p.Updates
	if err := p.Type("x"); err != nil {
		t.Fatal(err)
	}
	p.until(t, func() bool { return p.Updates > n })
	if got := len(p.clips(rfb.ClipNotify)); got > 100 {
		t.Errorf("%d of 500 texts in a moment are announced", got)
	}
}

func (p *page) words(t *testing.T, text string) {
	t.Helper()
	if err := p.ws.Write(p.ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestTheDesktopIsToldWhichKeyboardThePersonHas(t *testing.T) {
	for _, way := range []display.Clipboard{display.ClipboardNone, display.ClipboardBoth} {
		t.Run("copying "+string(way), func(t *testing.T) {
			g := &guest{}
			_, p := deskOffice(t, display.Policy{Clipboard: way}, g)
			p.until(t, func() bool { return slices.Equal(p.told(), []string{"ready"}) })
			p.words(t, `{"keyboard":"de"}`)
			p.until(t, func() bool { return slices.Equal(g.keyboards(), []string{"de"}) })
			p.words(t, `{"keyboard":"default"}`)
			p.until(t, func() bool { return slices.Equal(g.keyboards(), []string{"de", "default"}) })
			if way != display.ClipboardNone {
				return
			}
			// The clipboard stays shut, whichever way it is tried.
			send(t, p, offer, provide("in"), ask)
			g.says(string(deskline.Append(nil, deskline.Message{Kind: deskline.Clip, Text: []byte("out")})))
			p.words(t, `{"keyboard":"fr"}`)
			p.until(t, func() bool { return len(g.keyboards()) == 3 })
			if len(g.texts()) != 0 || len(p.Clips) != 0 {
				t.Errorf("%q, %+v", g.texts(), p.Clips)
			}
		})
	}
	t.Run("not by one who only looks", func(t *testing.T) {
		g := &guest{}
		o, p := deskOffice(t, display.Policy{ViewOnly: true}, g)
		p.words(t, `{"keyboard":"de"}`)
		same(t, p, direct(t, o.sim), 1)
		if g.conn != nil {
			t.Errorf("%q", g.keyboards())
		}
	})
	// STR-2: what a page says beside it ends the session.
	for name, text := range map[string]string{
		"no keyboard": `{"keyboard":""}`, "an unknown one": `{"keyboard":"de;reboot"}`, "another word": `{"volume":11}`, "no JSON": "keyboard de",
		"a long word": `{"keyboard":"` + strings.Repeat("d", 300) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := &guest{}
			_, p := deskOffice(t, display.Policy{Clipboard: display.ClipboardBoth}, g)
			p.words(t, text)
			if why := p.end(t); why != display.ReasonProtocol || len(g.keyboards()) != 0 {
				t.Errorf("%s, %q", why, g.keyboards())
			}
		})
	}
}

// What the page offers is what may be said.
func TestThePageOffersTheKeyboardsThereAre(t *testing.T) {
	page, err := os.ReadFile("../webui/static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := bytes.Cut(page, []byte(`<select id="keyboard">`))
	list, _, _ = bytes.Cut(list, []byte("</select>"))
	offered := []string{}
	for _, m := range regexp.MustCompile(`value="([^"]*)"`).FindAllSubmatch(list, -1) {
		offered = append(offered, cmp.Or(string(m[1]), "default"))
	}
	if !slices.Equal(offered, deskline.Keyboards) {
		t.Errorf("offered are %q, there are %q", offered, deskline.Keyboards)
	}
}
