// Package gateway is the people's door: one TLS listener for the portal, health and the certificate authority's revocation list.
// A person's way is admission by registration code, login at their directory, a session, and a one-time ticket for one desktop, a
// file each.
//
// It refuses to answer the AWS API. What it serves without TLS is only what must be readable before TLS can be trusted: health, the
// revocation list (RFC 5280 section 4.2.1.13), and a redirect.
package gateway

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// Gateway is the people's door. Make one with its fields set; those up to Clock are needed always, the others unless Auth is nil:
// then there is no portal, only its pages.
type Gateway struct {
	// Ready tells what is not ready yet, nil when everything is.
	Ready func() error
	// CRL makes the revocation list as of a time (DER).
	CRL func(now time.Time) ([]byte, error)
	// Pages are the embedded web assets.
	Pages fs.FS
	Clock clock.Clock

	// Directories finds the registered directory with a registration code, given in upper case.
	Directories func(code string) (ident.DirectoryID, bool)
	// Auth checks passwords; Passwords changes those that must be, and may be nil.
	Auth      directory.Authenticator
	Passwords PasswordChanger
	Desktops  Desktops
	Tickets   *ticket.Office
	// Screen carries a desktop's screen over the request's WebSocket for whoever spends a ticket issued for the binding.
	Screen func(http.ResponseWriter, *http.Request, ticket.Binding)
	// Cut ends the live screens of a session; Live says whether it has any, and may be nil.
	Cut  func(session [sha256.Size]byte)
	Live func(session [sha256.Size]byte) bool
	// People says what has become of those who are signed in; nil: nobody is asked. They are asked every Recheck, and signed out when a
	// directory has been silent about them for Grace.
	People         directory.Lister
	Recheck, Grace time.Duration
	// Record keeps a decision about a sign-in, a desktop or the end of a session; nil: none is kept. What is allowed is done for a person only once
	// it is kept, and refused when Record fails. A decision without a User is a stranger's: so many may come that they are better counted.
	Record func(ctx context.Context, d Decision) error
	// Recordable says why nothing can be recorded now: then people are refused before anything is done. nil: it always can.
	Recordable func() error
	Random     io.Reader
	Log        *slog.Logger

	sessions sessions
	users    throttle
	places   throttle
}

// PasswordChanger changes a user's password for the user.
type PasswordChanger interface {
	// ChangePassword needs the old password: *directory.LoginError, directory.ErrWeakPassword, directory.ErrUnavailable.
	ChangePassword(ctx context.Context, id ident.DirectoryID, userName string, old, next directory.Password) error
}

// Handler serves the TLS side.
func (g *Gateway) Handler() http.Handler {
	g.users = throttle{limit: failuresOfUser, window: failureWindow, keys: throttleKeys}
	g.sessions.live = g.Live
	g.places = throttle{limit: failuresOfPlace, window: failureWindow, keys: throttleKeys}
	mux := http.NewServeMux()
	g.open(mux)
	if g.Auth != nil {
		g.portal(mux)
	}
	mux.Handle("GET /", newPages(g.Pages))
	return guarded(mux)
}

// portal is the table of the portal's calls.
func (g *Gateway) portal(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/session", g.login)
	mux.HandleFunc("DELETE /api/session", g.logout)
	mux.HandleFunc("GET /api/session", g.signedIn(func(w http.ResponseWriter, _ *http.Request, s *Session) { reply(w, http.StatusOK, g.whoami(s)) }))
	mux.HandleFunc("GET /api/desktops", g.signedIn(g.list))
	mux.HandleFunc("POST /api/desktops/{id}/start", g.deciding(StartDesktop, g.start))
	mux.HandleFunc("POST /api/desktops/{id}/restart", g.deciding(RestartDesktop, g.restart))
	mux.HandleFunc("POST /api/desktops/{id}/connect", g.deciding(Stream, g.connect))
	mux.HandleFunc("GET /api/screen", g.signedIn(func(w http.ResponseWriter, r *http.Request, s *Session) { g.Screen(w, r, binding(r, s)) }))
	mux.HandleFunc("GET /api/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "no-such-call", "There is no such call.")
	})
}

// guarded puts in front of everything what protects the pages from other sites: no request of theirs changes anything
// (Sec-Fetch-Site and Origin, besides the cookie's SameSite), no page of theirs frames ours, no script but our files runs (SES-4).
func guarded(next http.Handler) http.Handler {
	checked := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
		checked.ServeHTTP(w, r)
	})
}

// Plain serves the side without TLS: everything that is not open is redirected to the same address over TLS.
func (g *Gateway) Plain() http.Handler {
	mux := http.NewServeMux()
	g.open(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+r.URL.EscapedPath(), http.StatusPermanentRedirect)
	})
	return mux
}

func (g *Gateway) open(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /pki/ca.crl", func(w http.ResponseWriter, _ *http.Request) {
		crl, err := g.CRL(g.Clock.Now())
		if err != nil {
			text(w, http.StatusInternalServerError, "no revocation list\n")
			return
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		_, _ = w.Write(crl)
	})
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s))
}
