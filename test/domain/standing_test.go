package domain

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// nothing are the desktops of people who have none.
type nothing struct{ gateway.Desktops }

// door is a portal of the corp directory whose people are asked about every second.
type door struct {
	handler http.Handler
	cut     chan [sha256.Size]byte
}

func (s *scene) door(t *testing.T) *door {
	t.Helper()
	d := &door{cut: make(chan [sha256.Size]byte, 10)}
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader})
	must(t, err)
	g := &gateway.Gateway{Ready: func() error { return nil }, CRL: func(time.Time) ([]byte, error) { return nil, errors.New("none") }, Pages: fstest.MapFS{}, Clock: clock.System{},
		Directories: func(code string) (ident.DirectoryID, bool) { return corp, code == "CORP-1" }, Auth: s.people, Desktops: nothing{}, Tickets: tickets, Random: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Cut: func(session [sha256.Size]byte) { d.cut <- session }, People: s.users, Recheck: time.Second, Grace: time.Minute}
	d.handler = g.Handler()
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); wait.Wait() })
	return d
}

// login signs somebody in and gives the session.
func (d *door) login(t *testing.T, name string) [sha256.Size]byte {
	t.Helper()
	r := httptest.NewRequest("POST", "https://desk.example.com/api/session", strings.NewReader(fmt.Sprintf(`{"code":"CORP-1","userName":%q,"password":%q}`, name, password)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("login of %s: %d %s", name, w.Code, w.Body)
	}
	return sha256.Sum256([]byte(w.Result().Cookies()[0].Value))
}

// standing changes people in the directory, behind Carrel's back, and waits for their screens to be cut.
func (s *scene) standing(t *testing.T) {
	ldb := func(lines string) error {
		cmd := exec.Command("ldbmodify", "-H", filepath.Join(s.dir, "d", string(corp), "state/private/sam.ldb.d/DC=CORP,DC=EXAMPLE,DC=TEST.ldb"))
		cmd.Stdin = strings.NewReader(lines)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	dn := func(name string) string { return "CN=" + name + ",CN=Users,DC=corp,DC=example,DC=test" }
	d := s.door(t)
	s.user(t, "stays")
	stays := d.login(t, "stays")
	for name, change := range map[string]func(name string) error{
		"off": func(name string) error {
			return ldb("dn: " + dn(name) + "\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n")
		},
		"gone": func(name string) error {
			return s.system(corp, func(conn *ldap.Conn) error { return conn.Del(ldap.NewDelRequest(dn(name), nil)) })
		},
		"forced":  func(name string) error { return s.set(name, "pwdLastSet", "0") },
		"expires": func(name string) error { return s.set(name, "accountExpires", "130000000000000000") },
		"another": func(name string) error { return s.users.SetPassword(t.Context(), corp, name, pw("Another-Horse-8")) },
		"barred":  func(name string) error { return s.users.DisableUser(t.Context(), corp, name) },
	} {
		made := s.user(t, name)
		before, err := s.users.Lookup(t.Context(), corp, name)
		if err != nil || !before.Enabled || before.SID != made.SID || time.Since(before.PasswordSet) > time.Minute || before.MustChange || !before.Expires.IsZero() {
			t.Fatalf("%s: %+v, %v", name, before, err)
		}
		session := d.login(t, name)
		begin := time.Now()
		must(t, change(name))
		select {
		case cut := <-d.cut:
			if cut == stays || cut != session {
				t.Errorf("%s: the session of somebody else was cut", name)
			}
			t.Logf("%s: cut %s after the change", name, time.Since(begin).Round(time.Millisecond))
		case <-time.After(30 * time.Second):
			t.Errorf("%s: never cut", name)
		}
	}
	if u, err := s.users.Lookup(t.Context(), corp, "off"); err != nil || u.Enabled {
		t.Errorf("disabled: %+v, %v", u, err)
	}
	want(t, s.users.DisableUser(t.Context(), corp, "Administrator"), directory.ErrProtected)
	want(t, s.users.DisableUser(t.Context(), corp, "nobody-here"), directory.ErrNoUser)
	select {
	case <-d.cut:
		t.Error("somebody was cut of whom nothing has changed")
	default:
	}
}
