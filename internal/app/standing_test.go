package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/dsdata"
	"carrel/internal/api/shape"
	"carrel/internal/directory"
	"carrel/internal/gateway"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/ticket"
)

// portalOf is the portal of a house, and a registered directory with a user who has a password.
func portalOf(t *testing.T, h *house) (g *gateway.Gateway, d *state.Directory, password string) {
	t.Helper()
	l := &listeners{conf: h.conf}
	for _, door := range []*net.Listener{&l.api, &l.portal} {
		var err error
		if *door, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(l.close)
	g, err := h.portal(l)
	if err != nil {
		t.Fatal(err)
	}
	for rec := range state.All(h.db.Snapshot(), state.Directories) {
		if rec.Registration != nil && rec.Registration.State == "REGISTERED" {
			d = rec
		}
	}
	if d == nil {
		t.Fatal("no directory is registered")
	}
	b, err := os.ReadFile(filepath.Join(h.conf.State.Dir, passwordsDir, string(d.ID), "ada"))
	if err != nil {
		t.Fatal(err)
	}
	return g, d, strings.TrimSpace(string(b))
}

// browser makes requests of the portal with the session's cookie.
type browser struct {
	handler http.Handler
	cookie  *http.Cookie
}

func (b *browser) call(method, path string, in any) *http.Response {
	body, _ := json.Marshal(in)
	r := httptest.NewRequest(method, "https://desk.example.com"+path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w.Result()
}

func (b *browser) signedIn() bool {
	return b.call("GET", "/api/session", nil).StatusCode == http.StatusOK
}

func TestWhoIsDisabledIsSignedOut(t *testing.T) {
	h, stop := installation(t, filepath.Join(t.TempDir(), "state"), &domains{})
	defer stop()
	h.conf.Portal.Recheck = time.Second
	g, d, password := portalOf(t, h)
	b := &browser{handler: g.Handler()}
	login := func(password string) {
		t.Helper()
		b.cookie = nil
		resp := b.call("POST", "/api/session", map[string]string{"code": d.Registration.Code, "userName": "ada", "password": password})
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("login: %s", resp.Status)
		}
		if b.cookie = resp.Cookies()[0]; !b.signedIn() {
			t.Fatal("signed in and at once signed out")
		}
	}
	login(password)
	// By the API: at once, with nobody asking the directory.
	in := &dsdata.DisableUserInput{DirectoryId: shape.Ptr(string(d.ID)), SAMAccountName: shape.Ptr("ADA")}
	if _, err := h.handlers()[dsdata.DisableUser.Operation](t.Context(), service.Call{}, in); err != nil {
		t.Fatal(err)
	}
	if b.signedIn() {
		t.Error("disabled by the API and signed in still")
	}
	const next = "Another-Horse-8"
	users := h.sim.Domain()
	if _, err := users.Lookup(t.Context(), d.ID, "ada"); err != nil {
		t.Fatal(err)
	}
	// Behind Carrel's back: by asking.
	if err := users.SetPassword(t.Context(), d.ID, "ada", directory.NewPassword(next)); err != nil {
		t.Fatal(err)
	}
	login(next)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	if err := users.DisableUser(t.Context(), d.ID, "ada"); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(20 * time.Second); b.signedIn(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("disabled in the directory and signed in still")
		}
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A ticket may have been spent just before its session ended: then the screen, which the cut has not found, must not open.
func TestAScreenOfASessionThatHasEndedIsRefused(t *testing.T) {
	h, stop := installation(t, filepath.Join(t.TempDir(), "state"), &domains{})
	defer stop()
	g, _, _ := portalOf(t, h)
	if _, err := h.policyOf(g)(t.Context(), ticket.Claims{Binding: ticket.Binding{Session: [32]byte{1}}}); err != errSignedOut {
		t.Errorf("%v", err)
	}
}
