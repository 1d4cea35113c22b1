package display

import (
	"errors"
	"time"

	"carrel/internal/rfb"
)

// downRate is how many bells and clipboard messages a second a desktop may send on for long.
const downRate = 5

// down passes what the screen sends to the browser.
func (s *session) down() error {
	select {
	case <-s.greeted:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	extras := bucket{rate: downRate}
	for {
		out := picture{browser: &s.browser, over: s.ctx}
		ev, err := s.stream.Next(&out)
		if err := errors.Join(out.failed, out.done()); err != nil {
			return s.fromBrowser(err)
		}
		if err != nil {
			return s.fromScreen(err)
		}
		if ev.Type == rfb.FramebufferUpdate {
			err = s.drawn(ev)
		} else if extras.allow(s.h.Clock.Now()) {
			// More than the rate are dropped: a guest that rings all the time must not fill the line.
			err = s.extra(ev)
		}
		if err != nil {
			return err
		}
	}
}

// drawn notes an update that the browser has been sent, and asks for the next one if the browser keeps up.
func (s *session) drawn(ev rfb.ServerEvent) error {
	s.bytes.Add(ev.Bytes)
	if !ev.Pixels {
		return nil
	}
	s.updates.Add(1)
	if serial, fence := s.pace.drawn(s.h.Clock.Now()); fence {
		if err := s.fence(serial); err != nil {
			return s.fromBrowser(err)
		}
	}
	return s.ask()
}

func (s *session) extra(ev rfb.ServerEvent) error {
	switch ev.Type {
	case rfb.Bell:
		return s.fromBrowser(s.browser.say([]byte{rfb.Bell}))
	case rfb.ServerCutText:
		if s.desk == nil {
			return s.fromDesktop(ev.Clip)
		}
	}
	return nil
}

// act tells whoever keeps records.
func (s *session) act(kind ActKind, bytes int, allowed bool) {
	s.policy.Audit(Act{Kind: kind, At: s.h.Clock.Now(), Bytes: bytes, Allowed: allowed})
}

// fromDesktop passes a clipboard message of the guest on, as far as the policy goes. Every message is made anew: only text, and only what
// was understood, comes through.
func (s *session) fromDesktop(c rfb.Clip) error {
	out, in := s.policy.Clipboard.fromDesktop(), s.policy.Clipboard.toDesktop()
	switch c.Action {
	case rfb.ClipCaps:
		// What the browser may do with the desktop's clipboard: ask for its text, offer its own.
		c.Can = s.policy.Clipboard.can()
		return s.fromBrowser(s.browser.say(rfb.AppendServerClip(nil, c)))
	case rfb.ClipNotify:
		if !out {
			return nil
		}
	case rfb.ClipRequest:
		if !in {
			return nil
		}
	case rfb.ClipPlain, rfb.ClipProvide:
		pass := out && !c.TooLong && c.HasText
		s.act(ActCopyFromDesktop, len(c.Text), pass)
		if !pass {
			return nil
		}
	default:
		return nil // A guest has no reason to peek.
	}
	return s.fromBrowser(s.browser.sayLarge(rfb.AppendServerClip(nil, c)))
}

// toDesktop is the same in the other direction.
func (s *session) toDesktop(c rfb.Clip) error {
	if s.desk != nil {
		return s.toDesk(c)
	}
	out, in := s.policy.Clipboard.fromDesktop(), s.policy.Clipboard.toDesktop()
	switch c.Action {
	case rfb.ClipNotify:
		if !in {
			return nil
		}
	case rfb.ClipRequest:
		if !out {
			return nil
		}
	case rfb.ClipPlain, rfb.ClipProvide:
		pass := in && !c.TooLong && c.HasText
		s.act(ActCopyToDesktop, len(c.Text), pass)
		if !pass {
			return nil
		}
	default:
		return nil // Capabilities: what the browser can do was said by its encodings.
	}
	return s.fromScreen(s.screen.say(rfb.AppendClientClip(nil, c)))
}

// touched notes input that goes through.
func (s *session) touched(kind ActKind) {
	now := s.h.Clock.Now()
	s.input.Store(now.UnixNano())
	s.policy.Audit(Act{Kind: kind, At: now, Allowed: true})
}

// pause waits as long as a bucket says, or until the session is over.
func (s *session) pause(b *bucket) error {
	wait := b.take(s.h.Clock.Now())
	if wait <= 0 {
		return nil
	}
	fired, stop := s.h.Clock.After(min(wait, time.Second))
	defer stop()
	select {
	case <-fired:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
