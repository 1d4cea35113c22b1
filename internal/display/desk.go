package display

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"carrel/internal/deskline"
	"carrel/internal/driver"
	"carrel/internal/rfb"
)

const (
	// deskPatience is how long whatever speaks for the session in the guest may take for an answer. Under emulation a guest is slow.
	deskPatience = 20 * time.Second
	// deskRate is how many texts a second may be copied to the desktop for long, and how many keyboards chosen.
	deskRate = 2
)

// The words with which the page is told of the desktop's clipboard.
const (
	clipboardReady = "ready"
	clipboardTaken = "taken"
	clipboardNone  = "none"
)

// desk is the way to the session in the guest, when the host has one: then the clipboard goes this way, and the screen's own is left alone. To the
// browser it looks like that of an RFB server. The layout of the person's keyboard goes this way too.
type desk struct {
	conn net.Conn
	// wake tells that there is something to be said.
	wake chan struct{}

	mu     sync.Mutex
	out    [deskline.Keyboard + 1][]byte // of each kind only the last line counts
	told   bool                          // the browser has been told that there is a clipboard
	asked  time.Time
	owes   deskline.Kind // what answers it
	latest []byte
	state  string
}

// openDesk goes to the session in the guest. That there is no way to it is told to the person, and is no reason for not seeing the screen.
func (s *session) openDesk(ctx context.Context) error {
	if s.h.Sessions == nil || s.policy.ViewOnly {
		return nil
	}
	d := &desk{wake: make(chan struct{}, 1)}
	conn, err := s.h.Sessions.Session(ctx, s.info.WorkspaceID)
	switch {
	case err == nil:
		d.conn = conn
		d.say(deskline.Message{Kind: deskline.Hello}, s.h.Clock.Now())
	case ctx.Err() != nil:
		return ending(ReasonUnreachable)
	case !errors.Is(err, driver.ErrUnavailable):
		s.h.Log.Warn("display cannot reach the session in the guest", "workspace", s.info.WorkspaceID, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return context.Cause(s.ctx)
	}
	s.desk = d
	return nil
}

// say leaves a message for the guest, whose answer is waited for from now on if there is one to it.
func (d *desk) say(m deskline.Message, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m.Kind {
	case deskline.Hello:
		d.asked, d.owes = now, deskline.Hello
	case deskline.Clip:
		d.asked, d.owes = now, deskline.Taken
	}
	d.out[m.Kind] = deskline.Append(nil, m)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// left takes what is to be said.
func (d *desk) left() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := bytes.Join(d.out[:], nil)
	clear(d.out[:])
	return lines
}

func (d *desk) close() {
	if d != nil && d.conn != nil {
		_ = d.conn.Close()
	}
}

// late tells whether the guest owes an answer for too long, once for each.
func (d *desk) late(now time.Time) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked.IsZero() || now.Sub(d.asked) < deskPatience {
		return false
	}
	d.asked = time.Time{}
	return true
}

// speakDesk writes to the guest what is left for it: one that takes nothing holds up nobody's keys.
func (s *session) speakDesk() {
	for {
		select {
		case <-s.desk.wake:
			if s.desk.conn.SetWriteDeadline(time.Now().Add(s.limits.ScreenStall)) != nil {
				return
			}
			if _, err := s.desk.conn.Write(s.desk.left()); err != nil {
				s.desk.close() // Half a line may be on its way; hearDesk tells the browser.
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// hearDesk takes what the guest says until the connection ends. What it says wrong is nobody's affair.
func (s *session) hearDesk() {
	select {
	case <-s.greeted:
	case <-s.ctx.Done():
		return
	}
	if s.desk.conn != nil {
		extras := bucket{rate: downRate}
		for r := deskline.NewReader(s.desk.conn); ; {
			line, err := r.Next()
			if err != nil {
				break
			}
			m, err := deskline.Parse(line)
			if err != nil || !extras.allow(s.h.Clock.Now()) {
				continue
			}
			if err := s.heard(m); err != nil {
				return // The browser's; whoever reads it sees it too.
			}
		}
	}
	_ = s.clipboardIs(clipboardNone) // The same.
}

func (s *session) heard(m deskline.Message) error {
	switch m.Kind {
	case deskline.Hello:
		return s.clipboardIs(clipboardReady)
	case deskline.Taken:
		return s.clipboardIs(clipboardTaken)
	}
	if !s.policy.Clipboard.fromDesktop() {
		return nil
	}
	if len(m.Text) > s.policy.TextBytes {
		s.act(ActCopyFromDesktop, len(m.Text), false)
		return nil
	}
	d := s.desk
	d.mu.Lock()
	d.latest = bytes.Clone(m.Text)
	told := d.told
	d.mu.Unlock()
	if !told {
		return nil
	}
	return s.browser.sayLarge(rfb.AppendServerClip(nil, rfb.Clip{Action: rfb.ClipNotify, HasText: true}))
}

// clipboardIs tells the page how the desktop's clipboard is: whether there is one for it, and that what it has sent is there.
func (s *session) clipboardIs(state string) error {
	d := s.desk
	d.mu.Lock()
	if state != clipboardReady || d.owes == deskline.Hello {
		d.asked = time.Time{}
	}
	same := d.state == state && state != clipboardTaken
	d.state = state
	d.mu.Unlock()
	if same {
		return nil
	}
	text, err := json.Marshal(struct {
		Type  string `json:"type"`
		State string `json:"state"`
	}{"clipboard", state})
	if err != nil {
		return err
	}
	return s.browser.tell(text)
}

// offerDesk tells the browser, once it says that it knows how, what it may do with the desktop's clipboard.
func (s *session) offerDesk(list []rfb.Encoding) error {
	d := s.desk
	if d == nil || s.policy.Clipboard == ClipboardNone || !slices.Contains(list, rfb.PseudoExtendedClipboard) {
		return nil
	}
	d.mu.Lock()
	told := d.told
	d.told = true
	d.mu.Unlock()
	if told {
		return nil
	}
	return s.fromBrowser(s.browser.say(rfb.AppendServerClip(nil, rfb.Clip{Action: rfb.ClipCaps, HasText: true, Can: s.policy.Clipboard.can()})))
}

// toDesk takes a clipboard message of the browser.
func (s *session) toDesk(c rfb.Clip) error {
	d := s.desk
	switch c.Action {
	case rfb.ClipNotify:
		if !s.policy.Clipboard.toDesktop() {
			return nil
		}
		return s.fromBrowser(s.browser.say(rfb.AppendServerClip(nil, rfb.Clip{Action: rfb.ClipRequest, HasText: true})))
	case rfb.ClipRequest:
		d.mu.Lock()
		text := d.latest
		d.mu.Unlock()
		if len(text) == 0 || !s.policy.Clipboard.fromDesktop() {
			return nil
		}
		s.act(ActCopyFromDesktop, len(text), true)
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		return s.fromBrowser(s.browser.sayLarge(rfb.AppendServerClip(nil, rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: text})))
	case rfb.ClipPlain, rfb.ClipProvide:
		return s.copyToDesk(c)
	}
	return nil
}

func (s *session) copyToDesk(c rfb.Clip) error {
	text := c.Text
	if c.Action == rfb.ClipPlain {
		text = fromLatin(text)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	d := s.desk
	d.mu.Lock()
	there := d.conn != nil && d.state != clipboardNone
	d.mu.Unlock()
	pass := s.policy.Clipboard.toDesktop() && c.HasText && !c.TooLong && len(text) > 0 && len(text) <= min(s.policy.TextBytes, deskline.MostText) &&
		bytes.IndexByte(text, 0) < 0
	s.act(ActCopyToDesktop, len(c.Text), pass && there)
	if !pass {
		return nil
	}
	if !there {
		// The page may have been told already; it asks again, so it is told again.
		d.mu.Lock()
		d.state = ""
		d.mu.Unlock()
		return s.fromBrowser(s.clipboardIs(clipboardNone))
	}
	if err := s.pause(&s.up.texts); err != nil {
		return err
	}
	d.say(deskline.Message{Kind: deskline.Clip, Text: text}, s.h.Clock.Now())
	return nil
}

// worded takes a text message of the browser: {"keyboard":"de"} names the layout of the keyboard before the person. Keys go by where they are, so
// that it is the desktop that has to know.
func (s *session) worded(text []byte) error {
	var word struct {
		Keyboard string `json:"keyboard"`
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if in.Decode(&word) != nil || !slices.Contains(deskline.Keyboards, word.Keyboard) {
		return errText
	}
	if err := s.pause(&s.up.words); err != nil {
		return err
	}
	if s.desk != nil && s.desk.conn != nil {
		s.desk.say(deskline.Message{Kind: deskline.Keyboard, Text: []byte(word.Keyboard)}, s.h.Clock.Now())
	}
	return nil
}

// fromLatin is a text of the old clipboard message, whose bytes are characters, as UTF-8.
func fromLatin(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}
