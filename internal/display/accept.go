package display

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/ticket"

	"github.com/coder/websocket"
)

const (
	// ticketBytes bounds the first message, messageBytes every other: noVNC sends at most 10 KiB at once.
	ticketBytes  = 512
	messageBytes = 64 << 10
)

// waiting counts WebSockets without a ticket, of all handlers of the process.
var waiting atomic.Int64

// Serve opens a session on a request that asks for a WebSocket. It returns when the session has begun or was refused: what net/http holds
// for a request would be a third of what an idle session costs. Registry knows of the session from then on. from is where the request comes from, as the
// caller's listener, cookies and TLS saw it, never as a header says.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, from ticket.Binding) {
	if err := h.Registry.enter(); err != nil {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	left := h.Registry.serving.Done
	defer func() { left() }()
	// Browsers let any page open a WebSocket to anywhere, cookies included; the origin is what tells ours from others (SES-4). A request
	// without one does not come from a page.
	if !slices.Contains(h.Origins, r.Header.Get("Origin")) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return
	}
	if !offers(r, Protocol) {
		http.Error(w, "subprotocol "+Protocol+" is needed", http.StatusBadRequest)
		return
	}
	limits := h.limits()
	if waiting.Add(1) > int64(limits.Waiting) {
		waiting.Add(-1)
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	// Compression is off: pictures are compressed already, its memory would be ten times an idle session's, and it would let the length
	// of what is sent tell what is in it (CRIME).
	l := &line{}
	ws, err := websocket.Accept(&hijacker{w, l}, r, &websocket.AcceptOptions{Subprotocols: []string{Protocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		waiting.Add(-1)
		return // The library has answered.
	}
	ws.SetReadLimit(ticketBytes)
	ctx := context.WithoutCancel(r.Context())
	claims, err := h.spend(ctx, ws, from)
	waiting.Add(-1)
	if err != nil {
		h.refused(err, claims, from)
		_ = ws.Close(CloseCode, string(ReasonRefused)) // Whether it arrives is the browser's affair.
		return
	}
	ws.SetReadLimit(messageBytes)
	s := h.newSession(ctx, ws, claims)
	s.browser.line = l
	left = func() {} // The session does, when it has ended.
	go func() {
		defer h.Registry.serving.Done()
		why := s.serve()
		h.Log.Info("display session ended", "session", s.info.ID, "workspace", s.info.WorkspaceID, "user", s.info.UserSID, "reason", string(why))
	}()
}

func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(name) == protocol {
				return true
			}
		}
	}
	return false
}

// spend reads the first message and takes the ticket in it. It never stands in the URL, where logs and the history would keep it (SES-3).
func (h *Handler) spend(ctx context.Context, ws *websocket.Conn, from ticket.Binding) (ticket.Claims, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limits().TicketWait)
	defer cancel()
	kind, text, err := ws.Read(ctx)
	if err != nil {
		return ticket.Claims{}, errNoTicket
	}
	var first struct {
		Ticket string `json:"ticket"`
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if kind != websocket.MessageText || in.Decode(&first) != nil {
		return ticket.Claims{}, errNoTicket
	}
	return h.Tickets.Spend(first.Ticket, from)
}

var errNoTicket = errors.New("display: the first message is not a ticket")

// refused logs. A ticket that was presented twice, or from somewhere else, has been read by somebody.
func (h *Handler) refused(err error, c ticket.Claims, from ticket.Binding) {
	if errors.Is(err, ticket.ErrSpent) || errors.Is(err, ticket.ErrBinding) {
		h.Log.Warn("display ticket misused", "workspace", c.WorkspaceID, "user", c.UserSID, "issued", c.Binding.Address, "presented", from.Address, "error", err)
		return
	}
	h.Log.Info("display ticket refused", "presented", from.Address, "error", err)
}

func (h *Handler) limits() Limits {
	l, d := h.Limits, DefaultLimits()
	if l.Screen == (rfb.Size{}) {
		l.Screen = d.Screen
	}
	for _, v := range []struct {
		is  *time.Duration
		def time.Duration
	}{{&l.TicketWait, d.TicketWait}, {&l.OpenWait, d.OpenWait}, {&l.BrowserStall, d.BrowserStall}, {&l.ScreenStall, d.ScreenStall}, {&l.Beat, d.Beat}, {&l.Ping, d.Ping}} {
		if *v.is <= 0 {
			*v.is = v.def
		}
	}
	if l.InputRate <= 0 {
		l.InputRate = d.InputRate
	}
	if l.Waiting <= 0 {
		l.Waiting = d.Waiting
	}
	return l
}

func (h *Handler) newSession(ctx context.Context, ws *websocket.Conn, c ticket.Claims) *session {
	s := &session{h: h, limits: h.limits(), ended: make(chan struct{}), greeted: make(chan struct{}), began: h.Clock.Now(),
		info: Info{ID: ident.Hex(h.Random, 16), UserSID: c.UserSID, UserName: c.UserName, Directory: c.Directory, WorkspaceID: c.WorkspaceID,
			Session: c.Binding.Session, Address: c.Binding.Address.Unmap(), Device: c.Binding.Device}}
	s.info.Began = s.began
	s.claims = c
	s.browser = browser{ws: ws, ctx: ctx, stall: s.limits.BrowserStall}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// open does what comes before the first picture: from here on the session can be cut, then the policy is asked, others on the same desktop
// make room, and the screen is connected.
func (s *session) open() error {
	if err := s.h.Registry.add(s); err != nil {
		return ending(ReasonShuttingDown)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.OpenWait)
	defer cancel()
	policy, err := s.h.Policy(ctx, s.claims)
	if err != nil {
		s.h.Log.Info("display session refused", "workspace", s.info.WorkspaceID, "user", s.info.UserSID, "error", err)
		return ending(ReasonRefused)
	}
	s.take(policy)
	if err := s.h.Registry.takeOver(ctx, s); err != nil {
		return ending(ReasonBusy)
	}
	conn, err := s.h.Screens.Connect(ctx, s.info.WorkspaceID)
	switch {
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrOrder):
		return ending(ReasonNotRunning)
	case err != nil:
		s.h.Log.Warn("display cannot reach the screen", "workspace", s.info.WorkspaceID, "error", err)
		return ending(ReasonUnreachable)
	}
	if !s.hold(&screen{Conn: conn, stall: s.limits.ScreenStall}) {
		return errors.Join(context.Cause(s.ctx), conn.Close())
	}
	_ = conn.SetDeadline(time.Now().Add(s.limits.OpenWait)) // One that cannot have deadlines fails at the first read.
	init, err := rfb.Connect(conn, true, s.limits.Screen)
	if err != nil {
		return s.fromScreen(err)
	}
	_ = conn.SetDeadline(time.Time{})
	s.stream = rfb.NewServerStream(conn, init.Screen, rfb.ServerLimits{Screen: s.limits.Screen, TextBytes: s.policy.TextBytes}, s.screen.before)
	s.live.Store(&live{s.policy.ViewOnly, s.stream})
	if err := s.screen.say(rfb.AppendSetPixelFormat(nil, rfb.Little)); err != nil {
		return s.fromScreen(err)
	}
	if err := s.openDesk(ctx); err != nil {
		return err
	}
	hello, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Title     string    `json:"title"`
		ViewOnly  bool      `json:"viewOnly"`
		Clipboard Clipboard `json:"clipboard"`
		Confirms  bool      `json:"confirms"`
	}{"open", s.policy.Title, s.policy.ViewOnly, s.policy.Clipboard, s.desk != nil && s.policy.Clipboard != ClipboardNone})
	if err != nil {
		return err
	}
	return s.fromBrowser(s.browser.note(hello))
}

// take makes a policy whole: what it does not say is not allowed.
func (s *session) take(p Policy) {
	if p.ViewOnly || p.Clipboard != ClipboardToDesktop && p.Clipboard != ClipboardFromDesktop && p.Clipboard != ClipboardBoth {
		p.Clipboard = ClipboardNone
	}
	if p.TextBytes <= 0 {
		p.TextBytes = 256 << 10
	}
	most := s.limits.Screen
	if p.Largest == (rfb.Size{}) {
		p.Largest = most
	}
	p.Largest = rfb.Size{Width: min(p.Largest.Width, most.Width), Height: min(p.Largest.Height, most.Height)}
	if p.Audit == nil {
		p.Audit = func(Act) {}
	}
	s.policy = p
	s.shared.Store(p.Shared)
}
