package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/directory"
)

// book keeps decisions, or cannot.
type book struct {
	mu   sync.Mutex
	kept []Decision
	// full: nothing can be recorded any more, and that is known before. breaks: it is not known before.
	full, breaks bool
	// slow is how long it takes.
	slow time.Duration
}

var errFull = errors.New("no space left on device")

func (b *book) record(ctx context.Context, d Decision) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	time.Sleep(b.slow)
	if b.full || b.breaks {
		return errFull
	}
	b.kept = append(b.kept, d)
	return ctx.Err()
}

func (b *book) recordable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return errFull
	}
	return nil
}

// taken gives what was kept since the last time.
func (b *book) taken() []Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.kept
	b.kept = nil
	return out
}

// only is the one decision that was kept since the last time.
func (b *book) only(t *testing.T) Decision {
	t.Helper()
	all := b.taken()
	if len(all) != 1 {
		t.Fatalf("%d decisions are kept: %+v", len(all), all)
	}
	return all[0]
}

func TestEveryAllowedRequestIsRecordedOnceWithWhoWhatAndWhy(t *testing.T) {
	p := newPortal(t)
	agent := func(r *http.Request) { r.Header.Set("User-Agent", "Browser/1.0") }
	status, _, resp := p.call("POST", "/api/session", credentials("wsiad+abc123", "ada", "ada-Secret-1"), "", agent)
	d := p.book.only(t)
	if status != 200 || d.Name != SignIn || !d.Allowed || d.Check != CheckDirectory || d.User != "ada" || d.SID != "S-1-5-21-ada" || d.Directory != corp || d.Code != "" ||
		d.Address.String() != "192.0.2.7" || d.UserAgent != "Browser/1.0" || len(d.ID) != 36 || resp.Header.Get(requestIDHeader) != d.ID {
		t.Errorf("%d %+v", status, d)
	}
	for name, want := range map[string]string{"aws:sourceip": "192.0.2.7", "workspaces:userid": "ada", "carrel:directoryid": string(corp)} {
		if v := d.Keys[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q", name, v)
		}
	}
	ada, grace := resp.Cookies()[0].Value, p.login(t, "grace")
	p.book.taken()
	if status, _, _ := p.call("POST", "/api/desktops/ws-000000001/connect", "{}", ada); status != 200 {
		t.Fatal(status)
	}
	if d := p.book.only(t); d.Name != Stream || !d.Allowed || d.WorkSpace != "ws-000000001" || d.User != "ada" || d.SID == "" || d.Check != CheckState || d.Keys["carrel:desktopstate"][0] != "AVAILABLE" {
		t.Errorf("%+v", d)
	}
	if status, _, _ := p.call("POST", "/api/desktops/ws-000000002/start", "{}", grace); status != http.StatusAccepted {
		t.Fatal(status)
	}
	if d := p.book.only(t); d.Name != StartDesktop || !d.Allowed || d.WorkSpace != "ws-000000002" || d.User != "grace" {
		t.Errorf("%+v", d)
	}
	p.call("GET", "/api/desktops", "", ada)
	p.call("GET", "/api/session", "", ada)
	if all := p.book.taken(); len(all) != 0 {
		t.Errorf("looking is no decision: %+v", all)
	}
}

func TestEveryRefusalIsRecordedOnceAndItsIdIsInTheAnswer(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.people.reason["grace"] = directory.ReasonLocked
		ada := p.login(t, "ada")
		p.book.taken()
		for _, c := range []struct {
			path, body, cookie string
			name               string
			check              Check
			user               string
			status             int
		}{
			{"/api/session", credentials("WSIAD+NOBODY", "ada", "ada-Secret-1"), "", SignIn, CheckCode, "", 401},
			{"/api/session", credentials("WSIAD+ABC123", "ada", "guess"), "", SignIn, CheckDirectory, "", 401},
			{"/api/session", credentials("WSIAD+ABC123", "grace", "grace-Secret-1"), "", SignIn, CheckDirectory, "", 401},
			{"/api/desktops/ws-000000002/connect", "{}", ada, Stream, CheckOwner, "ada", 404},
			{"/api/desktops/hunter2/connect", "{}", ada, Stream, CheckOwner, "ada", 404},
			{"/api/desktops/ws-000000001/start", "{}", ada, StartDesktop, CheckState, "ada", 409},
			{"/api/desktops/ws-000000001/restart", "{}", ada, RestartDesktop, CheckSelfService, "ada", 403},
			{"/api/desktops/ws-000000001/connect", "{}", "", Stream, CheckSession, "", 401},
		} {
			status, out, resp := p.call("POST", c.path, c.body, c.cookie)
			e, _ := out["error"].(map[string]any)
			d := p.book.only(t)
			if status != c.status || d.Name != c.name || d.Allowed || d.Check != c.check || d.User != c.user || d.Code != e["code"] || d.Message != e["message"] ||
				d.ID != e["id"] || d.ID != resp.Header.Get(requestIDHeader) || !strings.HasPrefix(d.Reason, "because ") {
				t.Errorf("%s %s: %d %v %+v", c.path, c.body, status, out, d)
			}
			if strings.Contains(fmt.Sprintf("%+v", d), "hunter2") {
				t.Errorf("what was typed is in the record: %+v", d)
			}
		}
		p.people.down = true
		if status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "ada-Secret-1"), ""); status != 503 {
			t.Error(status)
		}
		if d := p.book.only(t); d.Check != CheckDirectory || d.Code != "directory-unavailable" || d.Directory != corp {
			t.Errorf("%+v", d)
		}
	})
}

func TestAThrottledAttemptIsDecidedByTheAllowance(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		for range failuresOfUser {
			p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "guess"), "")
		}
		p.book.taken()
		status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "guess"), "")
		if d := p.book.only(t); status != 429 || d.Check != CheckAttempts || d.Allowed || d.User != "" {
			t.Errorf("%d %+v", status, d)
		}
	})
}

// SIG-13: a password typed where a name or code belongs is one, too.
func TestSIG13NoPasswordIsInARecordWhereverItWasTyped(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		const canary = "Canary-7f3a-Secret"
		p.people.reason["grace"] = directory.ReasonMustChange
		change := func(old, next string) string {
			b, _ := json.Marshal(map[string]string{"code": "WSIAD+ABC123", "userName": "grace", "password": old, "newPassword": next})
			return string(b)
		}
		for _, body := range []string{credentials(canary, "ada", "x"), credentials("WSIAD+ABC123", canary, "x"), credentials("WSIAD+ABC123", "ada", canary), credentials("WSIAD+ABC123", "grace", "grace-Secret-1"),
			change("grace-Secret-1", "Sec"), change("grace-Secret-1", canary)} {
			p.call("POST", "/api/session", body, "")
		}
		all := p.book.taken()
		if len(all) != 6 || !all[5].Allowed || all[5].Keys["carrel:passwordchanged"] == nil || all[4].Keys["carrel:passwordchanged"] != nil {
			t.Fatalf("%d: %+v", len(all), all)
		}
		// Who knew the right password is known, and it has to be changed.
		for _, d := range all[3:] {
			if d.User != "grace" {
				t.Errorf("%+v", d)
			}
		}
		text, err := json.Marshal(all)
		if err != nil || strings.Contains(strings.ToLower(string(text)), "canary") || strings.Contains(string(text), "Secret-1") || strings.Contains(strings.ToLower(p.log.String()), "canary") {
			t.Errorf("%s %v", text, err)
		}
	})
}

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known before: %t", known), func(t *testing.T) {
			p := newPortal(t)
			ada, grace := p.login(t, "ada"), p.login(t, "grace")
			p.book.full, p.book.breaks = known, !known
			asked := p.people.asked
			for _, c := range []struct{ path, body, cookie string }{
				{"/api/session", credentials("WSIAD+ABC123", "ada", "ada-Secret-1"), ""},
				{"/api/desktops/ws-000000001/connect", "{}", ada},
				{"/api/desktops/ws-000000002/start", "{}", grace},
			} {
				status, out, resp := p.call("POST", c.path, c.body, c.cookie)
				if status != http.StatusServiceUnavailable || code(out) != "unavailable" || len(resp.Cookies()) != 0 || out["ticket"] != nil {
					t.Errorf("%s: %d %v", c.path, status, out)
				}
			}
			if len(p.sessions.all) != 2 {
				t.Errorf("%d sessions", len(p.sessions.all))
			}
			if known && (len(p.people.started) > 0 || p.people.asked != asked) {
				t.Error("a desktop was started, or a password tried, unseen")
			}
			p.book.full, p.book.breaks = false, false
			p.login(t, "ada")
		})
	}
}

func TestARefusalThatCannotBeRecordedIsOneAll(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.book.breaks = true
		began := time.Now()
		status, out, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "guess"), "")
		if status != http.StatusUnauthorized || code(out) != "refused" || time.Since(began) != answerGrid {
			t.Errorf("%d %v after %s", status, out, time.Since(began))
		}
	})
}

// ENU-1: the time that a record takes is within the time that all refusals take.
func TestENU1ARecordMakesNoRefusalLater(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.book.slow = 90 * time.Millisecond
		for _, body := range []string{credentials("WSIAD+NOBODY", "ada", "x"), credentials("WSIAD+ABC123", "ada", "x"), credentials("WSIAD+ABC123", "mallory", "x")} {
			began := time.Now()
			if p.call("POST", "/api/session", body, ""); time.Since(began) != answerGrid {
				t.Errorf("%s: %s", body, time.Since(began))
			}
		}
	})
}

func TestWhoeverHangsUpIsRecorded(t *testing.T) {
	p := newPortal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "guess"), "", func(r *http.Request) { *r = *r.WithContext(ctx) })
	if d := p.book.only(t); d.Check != CheckDirectory || d.Allowed {
		t.Errorf("%+v", d)
	}
}

func TestTheEndOfASessionIsRecordedWithItsReason(t *testing.T) {
	looked(t, func(t *testing.T, p *portal, r *register) {
		want := func(name string, check Check, reason, user string) {
			t.Helper()
			if d := p.book.only(t); d.Name != name || d.Check != check || !strings.Contains(d.Reason, reason) || d.User != user || d.Allowed != (check == CheckPerson) || d.Code != "" || len(d.ID) != 36 {
				t.Errorf("%+v", d)
			}
		}
		login := func(name string) (cookie string) { cookie = p.login(t, name); p.book.taken(); return cookie }
		p.call("DELETE", "/api/session", "", login("ada"))
		want(SignOut, CheckPerson, "signed out", "ada")
		login("ada")
		p.EndSessionsOf(corp, "ada")
		want(SessionEnded, CheckDirectory, "disabled, deleted", "ada")
		login("grace")
		p.EndSessions(corp, "")
		want(SessionEnded, CheckDirectory, "taken away", "grace")
		login("ada")
		time.Sleep(idleLimit + time.Minute)
		want(SessionEnded, CheckSession, "time is over", "ada")
		login("ada")
		r.set(func() { delete(r.users, "ada") })
		time.Sleep(2 * every)
		want(SessionEnded, CheckDirectory, "no such user", "ada")
		login("grace")
		r.set(func() { r.err["grace"] = directory.ErrUnavailable })
		time.Sleep(grace + 3*every)
		want(SessionEnded, CheckDirectory, "does not answer", "grace")
	})
}
