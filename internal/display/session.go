package display

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"carrel/internal/rfb"
	"carrel/internal/ticket"
)

// grace is how long a picture that is being written may keep a cut session from its farewell.
const grace = time.Second

// session is one person looking at one desktop.
type session struct {
	h      *Handler
	limits Limits
	claims ticket.Claims
	policy Policy
	shared atomic.Bool
	// info does not change; what does is in the fields below (see snapshot).
	info  Info
	began time.Time
	// serial counts up from session to session; set by Registry.add.
	serial uint64

	ctx    context.Context
	cancel context.CancelCauseFunc
	// ended is closed when the screen has been let go, greeted when the browser's handshake is over.
	ended, greeted chan struct{}

	browser browser
	stream  *rfb.ServerStream
	pace    pacer

	mu     sync.Mutex
	screen *screen
	// desk is nil when the clipboard is the screen's own, or may not be used.
	desk *desk
	// live is set once the session has a screen and a policy.
	live atomic.Pointer[live]

	updates, bytes, input atomic.Int64

	up up
}

// live is what snapshot reads of an open session.
type live struct {
	viewOnly bool
	stream   *rfb.ServerStream
}

// ending is the reason of an end as an error.
type ending Reason

func (e ending) Error() string { return "display: " + string(e) }

// failure is an error of one of the two connections, and what it means for the session.
type failure struct {
	why Reason
	err error
}

func (f *failure) Error() string { return string(f.why) + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fromScreen and fromBrowser say whose error it is; a broken protocol is always that.
func (s *session) fromScreen(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &failure{ReasonUnreachable, err}
	}
	return classed(ReasonDesktopEnded, err)
}

func (s *session) fromBrowser(err error) error { return classed(ReasonLost, err) }

func classed(why Reason, err error) error {
	var f *failure
	var e *rfb.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return err
	case errors.As(err, &e), errors.Is(err, errText):
		why = ReasonProtocol
	}
	return &failure{why, err}
}

// reason is what an error means for the session.
func reason(err error) Reason {
	var e ending
	var f *failure
	switch {
	case errors.As(err, &e):
		return Reason(e)
	case errors.As(err, &f):
		return f.why
	}
	return ReasonUnreachable
}

// cut ends the session for a reason, unless it has ended already. When it returns nothing more is read from the screen, nothing reaches it,
// and no further piece of a picture is handed to the network.
func (s *session) cut(why Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel(ending(why))
	if s.screen != nil {
		_ = s.screen.Close()
	}
	s.desk.close()
}

// hold keeps the screen, so that cut closes it. It says no when the session is over.
func (s *session) hold(sc *screen) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.screen = sc
	return true
}

// serve is the whole life of a session. It gives the reason of its end.
func (s *session) serve() Reason {
	defer s.cancel(nil)
	err := s.open()
	if err != nil {
		s.cut(reason(err))
	}
	var up sync.WaitGroup
	if err == nil {
		if s.h.Connected != nil {
			s.h.Connected(s.snapshot())
		}
		err = s.relay(&up)
	}
	why := reason(context.Cause(s.ctx))
	s.report(why, err)
	s.h.Registry.remove(s)
	close(s.ended)
	if s.h.Disconnected != nil && s.stream != nil {
		info := s.snapshot()
		info.Ended = s.h.Clock.Now()
		s.h.Disconnected(info, why)
	}
	// The farewell waits some seconds for the browser's; also for the reader, which gets it.
	_ = s.browser.ws.Close(CloseCode, string(why))
	up.Wait()
	return why
}

// report logs an end that somebody should look at. Errors of package rfb hold numbers only (STR-4).
func (s *session) report(why Reason, err error) {
	if err != nil && why == ReasonProtocol {
		s.h.Log.Warn("display session broken", "session", s.info.ID, "workspace", s.info.WorkspaceID, "user", s.info.UserSID, "error", err)
	}
}

// relay runs both directions until one ends or the session is cut, and gives the first error. The screen is let go when it returns; the
// reader of the browser may last until the farewell.
func (s *session) relay(reader *sync.WaitGroup) error {
	results := make(chan error, 3)
	var writers sync.WaitGroup
	writers.Go(func() { results <- s.down() })
	if s.desk != nil {
		writers.Go(s.hearDesk)
		if s.desk.conn != nil {
			writers.Go(s.speakDesk)
		}
	}
	reader.Go(func() { results <- s.upward() })
	err := s.watch(results, &writers)
	s.cut(reason(err))
	quiet := make(chan struct{})
	go func() {
		writers.Wait()
		close(quiet)
	}()
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case <-quiet:
	case <-late.C:
		// The browser takes nothing: there will be no farewell.
		_ = s.browser.ws.CloseNow()
		<-quiet
	}
	return err
}

// watch waits for the end. Meanwhile it asks the browser whether it is there, and tells it the latency.
func (s *session) watch(results chan error, writers *sync.WaitGroup) error {
	tick := time.NewTicker(s.limits.Beat)
	defer tick.Stop()
	asked, asking := time.Now(), false
	answered := make(chan error, 1)
	var told time.Duration
	for {
		select {
		case err := <-results:
			return err
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case err := <-answered:
			asking = false
			// On a slow line the ping follows a piece that takes its time: then it is the piece's own deadline that counts.
			if err != nil && !s.browser.moved(asked) {
				return s.fromBrowser(err)
			}
		case <-tick.C:
			if err := s.measure(&told); err != nil {
				return s.fromBrowser(err)
			}
			if s.desk.late(s.h.Clock.Now()) {
				writers.Go(func() { _ = s.clipboardIs(clipboardNone) }) // It waits for the picture; an error of the browser's is seen elsewhere.
			}
			if now := time.Now(); !asking && now.Sub(asked) >= s.limits.Ping {
				asked, asking = now, true
				writers.Go(func() { answered <- s.ping() })
			}
		}
		if s.late() {
			return &failure{ReasonLost, errors.New("no handshake")}
		}
	}
}

// late: the browser has not shaken hands in time.
func (s *session) late() bool {
	select {
	case <-s.greeted:
		return false
	default:
		return s.h.Clock.Now().Sub(s.began) > s.limits.OpenWait+s.limits.TicketWait
	}
}

func (s *session) ping() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.BrowserStall)
	defer cancel()
	return s.browser.ws.Ping(ctx)
}

// measure sends a fence when no picture has one on its way, and tells the page the latency when it has changed by more than a tenth.
func (s *session) measure(told *time.Duration) error {
	if serial, fence := s.pace.probe(s.h.Clock.Now()); fence {
		if err := s.fence(serial); err != nil {
			return err
		}
	}
	mean := s.pace.mean()
	if diff := (mean - *told).Abs(); mean == 0 || diff < time.Millisecond || diff < *told/10 {
		return nil
	}
	*told = mean
	text, err := json.Marshal(struct {
		Type         string  `json:"type"`
		Milliseconds float64 `json:"milliseconds"`
	}{"latency", float64(mean.Round(100*time.Microsecond)) / float64(time.Millisecond)})
	if err != nil {
		return err
	}
	return s.browser.note(text)
}

// fence sends a fence that the browser answers when it has worked off what came before.
func (s *session) fence(serial uint64) error {
	return s.browser.say(rfb.AppendFence(nil, rfb.FenceRequest|rfb.FenceBlockBefore, binary.BigEndian.AppendUint64(nil, serial)))
}

// ask asks the screen for the next picture if it is time.
func (s *session) ask() error {
	ask, incremental := s.pace.next()
	if !ask {
		return nil
	}
	return s.fromScreen(s.screen.say(rfb.AppendUpdateRequest(nil, incremental, s.stream.Screen())))
}

// snapshot gives what is known of the session now.
func (s *session) snapshot() Info {
	i := s.info
	i.Latency, i.Updates, i.Bytes, i.ViewOnly = s.pace.mean(), s.updates.Load(), s.bytes.Load(), false
	if at := s.input.Load(); at != 0 {
		i.LastInput = time.Unix(0, at).UTC()
	}
	if at := s.live.Load(); at != nil {
		i.ViewOnly, i.Screen = at.viewOnly, at.stream.Screen()
	}
	return i
}
