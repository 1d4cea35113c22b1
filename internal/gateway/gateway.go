// Package gateway is the people's door: one TLS listener for the portal, health and the certificate authority's revocation list.
//
// It refuses to answer the AWS API. What it serves without TLS is only what must be readable before TLS can be trusted: health, the
// revocation list (RFC 5280 section 4.2.1.13), and a redirect.
package gateway

import (
	"io/fs"
	"net/http"
	"time"

	"carrel/internal/clock"
)

// Gateway is the people's door. All fields must be set.
type Gateway struct {
	// Ready tells what is not ready yet, nil when everything is.
	Ready func() error
	// CRL makes the revocation list as of a time (DER).
	CRL func(now time.Time) ([]byte, error)
	// Pages are the embedded web assets.
	Pages fs.FS
	Clock clock.Clock
}

// Handler serves the TLS side.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	g.open(mux)
	pages := http.FileServerFS(g.Pages)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// No script at all yet, so none is allowed; nothing may frame the page (SES-4).
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		pages.ServeHTTP(w, r)
	})
	return mux
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
