package display

import (
	"encoding/binary"
	"slices"

	"carrel/internal/rfb"
)

// smallest is the smallest screen a browser may ask for. A phone held upright has 320 pixels.
var smallest = rfb.Size{Width: 160, Height: 160}

const (
	// wholeRate is how often a second the whole picture may be asked for, resizeRate another size, encodingsRate other encodings.
	wholeRate, resizeRate, encodingsRate = 2, 4, 4
)

// up is what only the reader of the browser uses.
type up struct {
	format            rfb.PixelFormat
	fixed             bool // the pixel format may no longer change: pictures of it are on their way
	offered           bool // continuous updates were offered
	input             bucket
	whole, size, list bucket
	texts, words      bucket
	out               []byte
}

// upward passes what the browser sends to the screen, after shaking hands with it.
func (s *session) upward() error {
	if _, err := rfb.Accept(&s.browser, rfb.ServerInit{Screen: s.stream.Screen(), Name: s.policy.Title}); err != nil {
		return s.fromBrowser(err)
	}
	close(s.greeted)
	s.browser.word = s.worded
	s.up = up{format: rfb.Little, input: bucket{rate: s.limits.InputRate}, whole: bucket{rate: wholeRate}, size: bucket{rate: resizeRate}, list: bucket{rate: encodingsRate}, texts: bucket{rate: deskRate}, words: bucket{rate: deskRate}}
	in := rfb.NewClientStream(&s.browser, s.stream.Screen, rfb.ClientLimits{TextBytes: s.policy.TextBytes}, nil)
	for {
		ev, err := in.Next()
		if err != nil {
			return s.fromBrowser(err)
		}
		// What comes faster waits here and so in the browser: a flood of keys neither fills memory nor drowns the guest (STR-2).
		if err := s.pause(&s.up.input); err != nil {
			return err
		}
		if err := s.client(ev); err != nil {
			return err
		}
	}
}

func (s *session) client(ev rfb.ClientEvent) error {
	switch ev.Type {
	case rfb.SetPixelFormat:
		return s.setFormat(ev.Format)
	case rfb.SetEncodings:
		return s.setEncodings(ev.Encodings)
	case rfb.UpdateRequest:
		s.up.fixed = true
		// Whole pictures cost the desktop most: one who asks for many gets changes.
		s.pace.want(ev.Incremental || !s.up.whole.allow(s.h.Clock.Now()))
		return s.ask()
	case rfb.EnableContinuousUpdates:
		return s.continuous(ev.Enable)
	case rfb.Fence:
		return s.fenced(ev)
	}
	if s.policy.ViewOnly {
		if ev.Type == rfb.SetDesktopSize {
			return s.resizeRefused(rfb.ResizeProhibited)
		}
		return nil
	}
	switch ev.Type {
	case rfb.KeyEvent:
		s.touched(ActKey)
		s.up.out = rfb.AppendKey(s.up.out[:0], ev.Key)
	case rfb.PointerEvent:
		s.touched(ActPointer)
		s.up.out = rfb.AppendPointer(s.up.out[:0], ev.Pointer)
	case rfb.SetDesktopSize:
		return s.resize(ev.Resize)
	case rfb.ClientCutText:
		return s.toDesktop(ev.Clip)
	default:
		return nil
	}
	return s.fromScreen(s.screen.say(s.up.out))
}

// setFormat takes the browser's pixel format, before the first picture only: afterwards nobody could tell which format the pictures on
// their way have.
func (s *session) setFormat(f rfb.PixelFormat) error {
	if f == s.up.format {
		return nil
	}
	if s.up.fixed {
		return s.fromBrowser(&rfb.Error{From: rfb.Client, Kind: rfb.ErrFormat, Detail: "changed after the first picture"})
	}
	s.up.format = f
	return s.fromScreen(s.screen.say(rfb.AppendSetPixelFormat(nil, f)))
}

// setEncodings offers the screen what the browser can take and this gateway can check, in the browser's order.
func (s *session) setEncodings(list []rfb.Encoding) error {
	if err := s.pause(&s.up.list); err != nil {
		return err
	}
	var offer []rfb.Encoding
	for _, e := range list {
		_, quality := e.Quality()
		_, compression := e.Compression()
		known := quality || compression || slices.Contains(passable, e) || e == rfb.PseudoExtendedClipboard && s.policy.Clipboard != ClipboardNone && s.desk == nil
		if known && !slices.Contains(offer, e) {
			offer = append(offer, e)
		}
	}
	s.stream.Expect(offer)
	if err := s.screen.say(rfb.AppendSetEncodings(nil, offer)); err != nil {
		return s.fromScreen(err)
	}
	if err := s.offerDesk(list); err != nil {
		return err
	}
	if !s.up.offered && slices.Contains(list, rfb.PseudoFence) && slices.Contains(list, rfb.PseudoContinuousUpdates) {
		s.up.offered = true
		return s.fromBrowser(s.browser.say(rfb.AppendEndOfContinuousUpdates(nil)))
	}
	return nil
}

// passable are the encodings passed between screen and browser.
var passable = []rfb.Encoding{rfb.Raw, rfb.CopyRect, rfb.Zlib, rfb.Tight, rfb.ZRLE, rfb.PseudoDesktopSize, rfb.PseudoCursor, rfb.PseudoExtendedKeys,
	rfb.PseudoLED, rfb.PseudoExtendedDesktopSize}

func (s *session) continuous(on bool) error {
	if !s.up.offered {
		return s.fromBrowser(&rfb.Error{From: rfb.Client, Kind: rfb.ErrMessage, Detail: "continuous updates were not offered"})
	}
	s.up.fixed = true
	s.pace.follow(on)
	if !on {
		return s.fromBrowser(s.browser.say(rfb.AppendEndOfContinuousUpdates(nil)))
	}
	return s.ask()
}

// fenced takes the answer to a fence, or answers one: everything is in order here, so an answer is always the truth.
func (s *session) fenced(ev rfb.ClientEvent) error {
	if ev.FenceFlags&rfb.FenceRequest != 0 {
		return s.fromBrowser(s.browser.say(rfb.AppendFence(nil, ev.FenceFlags&3, ev.Payload)))
	}
	if len(ev.Payload) == 8 {
		s.pace.landed(binary.BigEndian.Uint64(ev.Payload), s.h.Clock.Now())
	}
	return s.ask()
}

// resize asks the desktop for another size. Asking too often waits: the last size asked for is the one that counts.
func (s *session) resize(want rfb.Resize) error {
	z, most := want.Size, s.policy.Largest
	if z.Width < smallest.Width || z.Height < smallest.Height || z.Width > most.Width || z.Height > most.Height {
		s.act(ActResize, 0, false)
		return s.resizeRefused(rfb.ResizeInvalid)
	}
	if err := s.pause(&s.up.size); err != nil {
		return err
	}
	s.act(ActResize, 0, true)
	return s.fromScreen(s.screen.say(rfb.AppendSetDesktopSize(nil, want)))
}

func (s *session) resizeRefused(status int) error {
	b := rfb.AppendExtendedDesktopSize(rfb.AppendUpdate(nil, 1), rfb.ResizeByClient, status, rfb.Resize{Size: s.stream.Screen()})
	return s.fromBrowser(s.browser.say(b))
}
