// Package display holds the way of a desktop's screen to a person's browser: one WebSocket on which noVNC finds an RFB server, and behind
// it an RFB client of the machine's screen. Both ends are ended here, so that pace, input, clipboard and size are under a policy and
// neither a hostile guest nor a hostile browser reaches the other (STR-1, STR-2); a session's memory does not grow with either (STR-3).
//
// It refuses to know passwords and rules: who comes has a ticket (package ticket), and what they may is asked of Handler.Policy. It
// refuses to decode pictures, to log what anybody typed, copied or saw, and to go on with a session that has been cut.
//
// On the WebSocket (subprotocol Protocol) the browser first sends {"ticket":"..."} as text. The answer is {"type":"open",...} as text, or
// the WebSocket is closed with CloseCode and a Reason. From then on binary messages are RFB in any pieces, and text messages to the
// browser tell of the session ({"type":"latency","milliseconds":12}). Where "open" says "confirms", {"type":"clipboard","state":"ready"}, "taken"
// or "none" tell of the desktop's clipboard: that it is there, that the text which was sent last is on it, that there is none. The browser may send
// {"keyboard":"de"} as text: the layout of the person's keyboard.
package display

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/ticket"
)

// Protocol is the WebSocket subprotocol that a browser must ask for.
const Protocol = "carrel.display.v1"

// CloseCode is the WebSocket status with which sessions are closed; the reason beside it is a Reason.
const CloseCode = 4000

// Reason says why a session ended or did not begin. It is a short code; the page has the words.
type Reason string

// The reasons.
const (
	// ReasonRefused: the ticket was not good, or the policy says no. A stranger is told nothing more.
	ReasonRefused Reason = "refused"
	// ReasonNotRunning: the desktop is stopped, or there is none.
	ReasonNotRunning Reason = "not-running"
	// ReasonUnreachable: the desktop runs, its screen does not answer.
	ReasonUnreachable Reason = "unreachable"
	// ReasonDesktopEnded: the desktop closed its screen.
	ReasonDesktopEnded Reason = "desktop-ended"
	// ReasonProtocol: one side broke the protocol.
	ReasonProtocol Reason = "protocol"
	// ReasonLost: the browser went away or takes nothing any more.
	ReasonLost Reason = "lost"
	// ReasonTakenOver: the person opened the desktop in another window.
	ReasonTakenOver Reason = "taken-over"
	// ReasonBusy: somebody else looks at the desktop and does not let go.
	ReasonBusy Reason = "busy"

	// These are given by whoever cuts a session (Registry.Cut).
	ReasonSignedOut    Reason = "signed-out"
	ReasonStopping     Reason = "desktop-stopping"
	ReasonRuleChanged  Reason = "rule-changed"
	ReasonShuttingDown Reason = "shutting-down"
)

// Clipboard says which way text may be copied.
type Clipboard string

// The ways.
const (
	ClipboardNone        Clipboard = "none"
	ClipboardToDesktop   Clipboard = "to-desktop"
	ClipboardFromDesktop Clipboard = "from-desktop"
	ClipboardBoth        Clipboard = "both"
)

func (c Clipboard) toDesktop() bool   { return c == ClipboardToDesktop || c == ClipboardBoth }
func (c Clipboard) fromDesktop() bool { return c == ClipboardFromDesktop || c == ClipboardBoth }

// can are the actions with which a browser may use the desktop's clipboard: ask for its text, offer its own.
func (c Clipboard) can() (actions rfb.ClipAction) {
	if c.fromDesktop() {
		actions |= rfb.ClipRequest
	}
	if c.toDesktop() {
		actions |= rfb.ClipNotify | rfb.ClipProvide
	}
	return actions
}

// Policy is what one session may do. The zero value lets the person look at the screen, type and point, and copy nothing.
type Policy struct {
	// Title is what the browser shows as the desktop's name. What the guest calls itself is never shown.
	Title string
	// Clipboard: anything that is not one of its values is ClipboardNone. TextBytes is the longest text copied; 256 KiB when 0.
	Clipboard Clipboard
	TextBytes int
	// ViewOnly: no key, pointer, text or size reaches the desktop.
	ViewOnly bool
	// Shared lets other sessions go on; else they are taken over.
	Shared bool
	// Largest is the largest screen the browser may ask for; Limits.Screen when zero.
	Largest rfb.Size
	// Audit, when set, is told of each act that the policy is about. It is called on the session's own goroutines and must be quick.
	Audit func(Act)
}

// Act is something that happened in a session, for whoever keeps records. It never holds what was typed or copied.
type Act struct {
	Kind ActKind
	At   time.Time
	// Bytes is the length of a copied text.
	Bytes int
	// Allowed: it went through.
	Allowed bool
}

// ActKind is what an Act is.
type ActKind string

// The kinds of acts.
const (
	ActKey             ActKind = "key"
	ActPointer         ActKind = "pointer"
	ActResize          ActKind = "resize"
	ActCopyToDesktop   ActKind = "copy-to-desktop"
	ActCopyFromDesktop ActKind = "copy-from-desktop"
)

// Limits bound one session. The zero value is DefaultLimits.
type Limits struct {
	// Screen is the largest screen a desktop may have.
	Screen rfb.Size
	// TicketWait is how long a WebSocket may be open without a ticket, OpenWait how long the screen may take to answer.
	TicketWait, OpenWait time.Duration
	// BrowserStall is how long one piece (up to 64 KiB) may take to be taken by the browser, ScreenStall how long the screen may stop
	// within a message or take nothing.
	BrowserStall, ScreenStall time.Duration
	// Beat is how often a session looks after itself: measures the latency of an idle browser, sees whether a ping is due.
	Beat time.Duration
	// Ping is how often the browser is asked whether it is there; it has BrowserStall to answer.
	Ping time.Duration
	// InputRate is how many keys, pointer moves and clipboard messages a second are passed on for long; ten times that at once. Faster
	// ones wait.
	InputRate int
	// Waiting is how many WebSockets may be open without a ticket.
	Waiting int
}

// DefaultLimits are what people never notice.
func DefaultLimits() Limits {
	return Limits{Screen: rfb.Size{Width: 7680, Height: 4320}, TicketWait: 10 * time.Second, OpenWait: 15 * time.Second,
		BrowserStall: time.Minute, ScreenStall: 20 * time.Second, Beat: 2 * time.Second, Ping: 15 * time.Second, InputRate: 250, Waiting: 1000}
}

// Handler opens sessions. All fields but the callbacks and Limits must be set, and none changed after the first call.
type Handler struct {
	Tickets *ticket.Office
	Screens driver.Screens
	// Sessions, when set, is the way of the clipboard; else it is the screens' own.
	Sessions driver.Sessions
	Registry *Registry
	// Policy decides what a session may, and whether it may at all: it must look at the state of now (is the user still enabled, the
	// desktop still theirs, the address still allowed), because it is asked after the session can be cut: what changes before is seen by
	// it, what changes after cuts. An error refuses.
	Policy func(ctx context.Context, c ticket.Claims) (Policy, error)
	// Origins are the origins of pages that may open sessions, exactly as browsers send them ("https://desk.example.com").
	Origins []string
	Clock   clock.Clock
	// Random names sessions; crypto/rand.Reader outside tests.
	Random io.Reader
	Log    *slog.Logger
	Limits Limits
	// Connected and Disconnected, when set, are told when a person has the screen and when they no longer do.
	Connected    func(Info)
	Disconnected func(Info, Reason)
}

// Info is what is known of a session.
type Info struct {
	// ID names the session: 16 hexadecimal digits.
	ID          string
	UserSID     string
	UserName    string
	Directory   ident.DirectoryID
	WorkspaceID ident.WorkspaceID
	// Session is the hash of the portal session it was opened from.
	Session [32]byte
	Address netip.Addr
	Device  string
	// Began is when the ticket was spent. Ended is zero while it lasts.
	Began, Ended time.Time
	// LastInput is when a key or pointer last reached the desktop; zero: never.
	LastInput time.Time
	ViewOnly  bool
	// Latency is the time from here to the browser and back, its work on the last picture included; 0: not known yet.
	Latency time.Duration
	// Updates and Bytes are what the browser was sent of pictures.
	Updates, Bytes int64
	Screen         rfb.Size
}
