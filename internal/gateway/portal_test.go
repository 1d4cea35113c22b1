package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/ticket"
)

const corp = ident.DirectoryID("d-90670a1b2c")

// passwordSet is when everybody's password was set.
var passwordSet = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// people is a directory in which every password is the user's name with "-Secret-1", and its person's desktops.
type people struct {
	mu      sync.Mutex
	asked   int
	down    bool
	reason  map[string]directory.Reason
	changed map[string]string
	started []ident.WorkspaceID
	cut     [][sha256.Size]byte
}

func (p *people) Authenticate(_ context.Context, id ident.DirectoryID, name string, pw directory.Password) (directory.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	// What a real directory takes.
	time.Sleep(13 * time.Millisecond)
	want := name + "-Secret-1"
	if next, ok := p.changed[name]; ok {
		want = next
	}
	switch {
	case p.down:
		return directory.User{}, fmt.Errorf("bind: %w", directory.ErrUnavailable)
	case id != corp || (name != "ada" && name != "grace") || pw.Reveal() != want:
		return directory.User{}, &directory.LoginError{Reason: directory.ReasonWrong}
	case p.reason[name] != "":
		return directory.User{}, &directory.LoginError{Reason: p.reason[name]}
	}
	return directory.User{Name: name, SID: "S-1-5-21-" + name, DisplayName: strings.ToUpper(name), Enabled: true, PasswordSet: passwordSet}, nil
}

func (p *people) ChangePassword(_ context.Context, _ ident.DirectoryID, name string, _, next directory.Password) error {
	if len(next.Reveal()) < 7 {
		return fmt.Errorf("change: %w", directory.ErrWeakPassword)
	}
	p.changed[name] = next.Reveal()
	delete(p.reason, name)
	return nil
}

// Each has one desktop: ada a running one, grace a stopped one.
func (p *people) List(_ context.Context, s *Session) ([]Desktop, error) {
	if s.User.Name == "ada" {
		return []Desktop{{ID: "ws-000000001", Name: "ada", State: "AVAILABLE", CanConnect: true, CanRestart: true}}, nil
	}
	return []Desktop{{ID: "ws-000000002", Name: "grace", State: "STOPPED", CanStart: true}}, nil
}

func (p *people) Get(ctx context.Context, s *Session, id ident.WorkspaceID) (Desktop, error) {
	all, _ := p.List(ctx, s)
	if all[0].ID != id {
		return Desktop{}, ErrNoDesktop
	}
	return all[0], nil
}

func (p *people) Start(ctx context.Context, s *Session, id ident.WorkspaceID) error {
	d, err := p.Get(ctx, s, id)
	switch {
	case err != nil:
		return err
	case !d.CanStart:
		return ErrNotNow
	}
	p.started = append(p.started, id)
	return nil
}
func (p *people) Restart(context.Context, *Session, ident.WorkspaceID) error { return ErrNotAllowed }

type portal struct {
	*Gateway
	people  *people
	book    *book
	handler http.Handler
	log     *strings.Builder
}

func newPortal(t *testing.T) *portal {
	t.Helper()
	p := &people{reason: map[string]directory.Reason{}, changed: map[string]string{}}
	g := newGateway(t, nil)
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	g.Directories = func(code string) (ident.DirectoryID, bool) { return corp, code == "WSIAD+ABC123" }
	g.Auth, g.Passwords, g.Desktops, g.Tickets, g.Random, g.Log = p, p, p, tickets, rand.Reader, slog.New(slog.NewTextHandler(log, nil))
	g.Cut = func(session [sha256.Size]byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cut = append(p.cut, session)
	}
	g.Screen = func(w http.ResponseWriter, r *http.Request, b ticket.Binding) {
		c, err := g.Tickets.Spend(r.URL.Query().Get("for-the-test"), b)
		if err != nil {
			fail(w, http.StatusForbidden, "ticket", err.Error())
			return
		}
		reply(w, http.StatusOK, c.WorkspaceID)
	}
	kept := &book{}
	g.Record, g.Recordable = kept.record, kept.recordable
	return &portal{Gateway: g, people: p, book: kept, handler: g.Handler(), log: log}
}

// call makes a request as a page of the portal does.
func (p *portal) call(method, path, body, cookie string, change ...func(*http.Request)) (int, map[string]any, *http.Response) {
	r := httptest.NewRequest(method, "https://desk.example.com"+path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:4711"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "https://desk.example.com")
	if cookie != "" {
		r.Header.Set("Cookie", cookieName+"="+cookie)
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	resp := w.Result()
	var out map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out, resp
}

func credentials(code, name, password string) string {
	b, _ := json.Marshal(map[string]string{"code": code, "userName": name, "password": password})
	return string(b)
}

func (p *portal) login(t *testing.T, name string) (cookie string) {
	t.Helper()
	status, out, resp := p.call("POST", "/api/session", credentials("wsiad+abc123", name, name+"-Secret-1"), "")
	if status != http.StatusOK || len(resp.Cookies()) != 1 {
		t.Fatalf("%d %v", status, out)
	}
	return resp.Cookies()[0].Value
}

func code(out map[string]any) string {
	e, _ := out["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

// synced runs a test on a fake clock: refusals wait.
func synced(t *testing.T, fn func(t *testing.T, p *portal)) {
	synctest.Test(t, func(t *testing.T) { fn(t, newPortal(t)) })
}

func TestAPersonLogsInSeesTheirDesktopsAndGetsATicket(t *testing.T) {
	p := newPortal(t)
	status, out, resp := p.call("POST", "/api/session", credentials(" wsiad+abc123 ", "ada", "ada-Secret-1"), "")
	if status != 200 || out["displayName"] != "ADA" {
		t.Fatalf("%d %v", status, out)
	}
	c := resp.Cookies()[0]
	if c.Name != "__Host-carrel" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) < 40 {
		t.Errorf("SES-4: cookie %+v", c)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be stored")
	}
	status, out, _ = p.call("GET", "/api/desktops", "", c.Value)
	if list, _ := out["desktops"].([]any); status != 200 || len(list) != 1 {
		t.Errorf("%d %v", status, out)
	}
	status, out, _ = p.call("POST", "/api/desktops/ws-000000001/connect", "{}", c.Value)
	if status != 200 || len(out["ticket"].(string)) < 40 {
		t.Errorf("%d %v", status, out)
	}
	if strings.Contains(p.log.String(), out["ticket"].(string)) || strings.Contains(p.log.String(), c.Value) || strings.Contains(p.log.String(), "Secret-1") {
		t.Errorf("SES-3: a secret is in the log: %s", p.log)
	}
}

func TestNothingOfThePortalAnswersWithoutASession(t *testing.T) {
	p := newPortal(t)
	for _, c := range []string{"GET /api/session", "GET /api/desktops", "POST /api/desktops/ws-000000001/start", "POST /api/desktops/ws-000000001/restart",
		"POST /api/desktops/ws-000000001/connect", "GET /api/screen"} {
		method, path, _ := strings.Cut(c, " ")
		for name, cookie := range map[string]string{"none": "", "made up": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "long": strings.Repeat("A", 5000)} {
			if status, out, _ := p.call(method, path, "{}", cookie); status != http.StatusUnauthorized || code(out) != "signed-out" {
				t.Errorf("%s with cookie %s: %d %v", c, name, status, out)
			}
		}
	}
	if len(p.people.started) > 0 {
		t.Error("something was started")
	}
}

func TestNobodyReachesAnothersDesktop(t *testing.T) {
	p := newPortal(t)
	grace := p.login(t, "grace")
	for _, what := range []string{"start", "connect", "restart"} {
		status, out, _ := p.call("POST", "/api/desktops/ws-000000001/"+what, "{}", grace)
		if what == "restart" && status == http.StatusForbidden {
			continue
		}
		if status != http.StatusNotFound || code(out) != "no-desktop" {
			t.Errorf("%s: %d %v", what, status, out)
		}
	}
	if status, out, _ := p.call("POST", "/api/desktops/..%2f..%2fetc/connect", "{}", grace); status != http.StatusNotFound {
		t.Errorf("%d %v", status, out)
	}
	if status, out, _ := p.call("POST", "/api/desktops/ws-000000002/connect", "{}", grace); status != http.StatusConflict || code(out) != "not-now" {
		t.Errorf("a stopped one: %d %v", status, out)
	}
	if status, _, _ := p.call("POST", "/api/desktops/ws-000000002/start", "{}", grace); status != http.StatusAccepted || len(p.people.started) != 1 {
		t.Errorf("her own: %d", status)
	}
}

// ENU-1: who is refused learns nothing from the answer, its headers or its time.
func TestENU1EveryRefusedLoginLooksAndLastsTheSame(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.people.reason["grace"] = directory.ReasonLocked
		var seen []string
		for name, body := range map[string]string{
			"unknown code":   credentials("WSIAD+NOBODY", "ada", "ada-Secret-1"),
			"unknown user":   credentials("WSIAD+ABC123", "mallory", "ada-Secret-1"),
			"wrong password": credentials("WSIAD+ABC123", "ada", "guess"),
			"locked":         credentials("WSIAD+ABC123", "grace", "grace-Secret-1"),
		} {
			began := time.Now()
			status, out, resp := p.call("POST", "/api/session", body, "")
			resp.Header.Del("Date")
			// Each has an id of its own, and nothing else that is.
			e, _ := out["error"].(map[string]any)
			if id, _ := e["id"].(string); len(id) != 36 || resp.Header.Get(requestIDHeader) != id {
				t.Errorf("%s: id %q, %v", name, id, resp.Header)
			}
			delete(e, "id")
			resp.Header.Del(requestIDHeader)
			one := fmt.Sprint(status, out, resp.Header, time.Since(began))
			if seen = append(seen, one); one != seen[0] || status != http.StatusUnauthorized || time.Since(began) != answerGrid {
				t.Errorf("%s: %s, before it %s", name, one, seen[0])
			}
		}
	})
}

func TestAnEmptyPasswordNeverReachesTheDirectory(t *testing.T) {
	p := newPortal(t)
	for _, body := range []string{credentials("WSIAD+ABC123", "ada", ""), credentials("WSIAD+ABC123", "", "x"), credentials("", "ada", "x"), `{}`} {
		if status, out, _ := p.call("POST", "/api/session", body, ""); status != http.StatusBadRequest || code(out) != "incomplete" {
			t.Errorf("%s: %d %v", body, status, out)
		}
	}
	if p.people.asked != 0 {
		t.Errorf("DIR-1: the directory was asked %d times", p.people.asked)
	}
}

func TestGuessingIsThrottledByUserAndByPlaceWhoeverExists(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		for _, name := range []string{"ada", "nobody"} {
			for range failuresOfUser {
				if status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", name, "guess"), ""); status != http.StatusUnauthorized {
					t.Fatalf("%s: %d", name, status)
				}
			}
			asked := p.people.asked
			status, out, resp := p.call("POST", "/api/session", credentials("WSIAD+ABC123", strings.ToUpper(name), name+"-Secret-1"), "")
			if status != http.StatusTooManyRequests || code(out) != "too-many-attempts" || resp.Header.Get("Retry-After") == "" || p.people.asked != asked {
				t.Errorf("%s: %d %v", name, status, out)
			}
		}
		time.Sleep(failureWindow)
		p.login(t, "ada")
		for i := range failuresOfPlace {
			p.call("POST", "/api/session", credentials("WSIAD+ABC123", fmt.Sprint("user", i), "guess"), "")
		}
		if status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "grace", "grace-Secret-1"), ""); status != http.StatusTooManyRequests {
			t.Errorf("from the same place: %d", status)
		}
		if status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "grace", "grace-Secret-1"), "", func(r *http.Request) { r.RemoteAddr = "192.0.2.8:1" }); status != http.StatusOK {
			t.Errorf("from another: %d", status)
		}
		if status, _, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "grace", "grace-Secret-1"), "", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.9") }); status != http.StatusTooManyRequests {
			t.Errorf("IPG-3: a header changed the place: %d", status)
		}
	})
}

// R18: a directory that does not answer lets nobody in and says that it is not the password.
func TestR18ADirectoryThatDoesNotAnswerLetsNobodyIn(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.people.down = true
		status, out, resp := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "ada", "ada-Secret-1"), "")
		if status != http.StatusServiceUnavailable || code(out) != "directory-unavailable" || len(resp.Cookies()) != 0 {
			t.Errorf("%d %v", status, out)
		}
	})
}

func TestAPasswordThatMustChangeIsChangedOnTheWayIn(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		p.people.reason["ada"] = directory.ReasonMustChange
		change := func(next string) (int, string) {
			b, _ := json.Marshal(map[string]string{"code": "WSIAD+ABC123", "userName": "ada", "password": "ada-Secret-1", "newPassword": next})
			status, out, _ := p.call("POST", "/api/session", string(b), "")
			return status, code(out)
		}
		if status, c := change(""); status != http.StatusForbidden || c != "password-change" {
			t.Errorf("%d %s", status, c)
		}
		if status, c := change("short"); status != http.StatusForbidden || c != "password-weak" {
			t.Errorf("%d %s", status, c)
		}
		if status, c := change("Analytical-Engine-1"); status != http.StatusOK {
			t.Errorf("%d %s", status, c)
		}
		// Only who knows the password learns that it must be changed.
		p.people.reason["grace"] = directory.ReasonMustChange
		if status, out, _ := p.call("POST", "/api/session", credentials("WSIAD+ABC123", "grace", "guess"), ""); status != http.StatusUnauthorized {
			t.Errorf("%d %v", status, out)
		}
	})
}

// SES-4: other sites can neither post nor read.
func TestSES4OtherSitesCannotUseTheSession(t *testing.T) {
	p := newPortal(t)
	ada := p.login(t, "ada")
	for name, change := range map[string]func(*http.Request){
		"another site's fetch":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a sister site's fetch": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"an old browser's fetch": func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "https://evil.example.com")
		},
		"a form": func(r *http.Request) {
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		},
	} {
		if status, out, _ := p.call("POST", "/api/desktops/ws-000000001/connect", "{}", ada, change); status != http.StatusForbidden {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
	if status, _, _ := p.call("POST", "/api/session", "code=1", "", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }); status != http.StatusUnsupportedMediaType {
		t.Errorf("a form as login: %d", status)
	}
	// A cookie planted beside the real one is nobody's session.
	if status, _, _ := p.call("GET", "/api/session", "", ada, func(r *http.Request) { r.Header.Add("Cookie", cookieName+"=planted") }); status != http.StatusUnauthorized {
		t.Errorf("two cookies: %d", status)
	}
}

// SES-3: whoever has put a session of theirs, or a made-up one, into another's browser gets nothing of what that person does.
func TestSES3ALoginMakesASessionOfItsOwnWhateverTheBrowserHad(t *testing.T) {
	p := newPortal(t)
	mallory := p.login(t, "grace")
	for what, planted := range map[string]string{"another's session": mallory, "a made-up one": strings.Repeat("A", 43)} {
		status, out, resp := p.call("POST", "/api/session", credentials("wsiad+abc123", "ada", "ada-Secret-1"), planted)
		if status != http.StatusOK || len(resp.Cookies()) != 1 {
			t.Fatalf("%s: %d %v", what, status, out)
		}
		if resp.Cookies()[0].Value == planted {
			t.Errorf("%s is ada's now", what)
		}
		if status, out, _ := p.call("GET", "/api/session", "", planted); status == http.StatusOK && out["userName"] != "grace" {
			t.Errorf("%s sees %v", what, out)
		}
		if _, out, _ := p.call("GET", "/api/session", "", resp.Cookies()[0].Value); out["userName"] != "ada" {
			t.Errorf("%s: ada's new session is %v", what, out)
		}
	}
}

func TestASessionEndsByLogoutIdlenessAndAge(t *testing.T) {
	synced(t, func(t *testing.T, p *portal) {
		alive := func(cookie string) bool {
			status, _, _ := p.call("GET", "/api/session", "", cookie)
			return status == http.StatusOK
		}
		ada := p.login(t, "ada")
		_, out, _ := p.call("POST", "/api/desktops/ws-000000001/connect", "{}", ada)
		token := out["ticket"].(string)
		if status, out, resp := p.call("DELETE", "/api/session", "", ada); status != 200 || resp.Cookies()[0].MaxAge >= 0 {
			t.Errorf("%d %v", status, out)
		}
		if alive(ada) || len(p.people.cut) != 1 {
			t.Error("alive after logout, or its screens are not cut")
		}
		if _, err := p.Tickets.Spend(token, ticket.Binding{}); err == nil {
			t.Error("SES-3: a ticket outlives its session")
		}
		idle := p.login(t, "ada")
		time.Sleep(idleLimit + time.Second)
		if alive(idle) {
			t.Error("alive after an idle hour")
		}
		old := p.login(t, "ada")
		for range 15 {
			time.Sleep(50 * time.Minute)
			alive(old)
		}
		if alive(old) {
			t.Error("alive after more than 12 hours")
		}
		other := p.login(t, "grace")
		if n := p.EndSessions(corp, "S-1-5-21-grace"); n != 1 || alive(other) {
			t.Errorf("%d ended", n)
		}
	})
}

func TestTheTicketIsBoundToSessionAndAddress(t *testing.T) {
	p := newPortal(t)
	ada, grace := p.login(t, "ada"), p.login(t, "grace")
	issue := func() string {
		_, out, _ := p.call("POST", "/api/desktops/ws-000000001/connect", "{}", ada)
		return out["ticket"].(string)
	}
	use := func(token, cookie string, change ...func(*http.Request)) int {
		status, _, _ := p.call("GET", "/api/screen?for-the-test="+token, "", cookie, change...)
		return status
	}
	if status := use(issue(), grace); status != http.StatusForbidden {
		t.Errorf("another's session: %d", status)
	}
	if status := use(issue(), ada, func(r *http.Request) { r.RemoteAddr = "192.0.2.99:1" }); status != http.StatusForbidden {
		t.Errorf("another address: %d", status)
	}
	token := issue()
	if status := use(token, ada); status != http.StatusOK {
		t.Errorf("its own: %d", status)
	}
	if status := use(token, ada); status != http.StatusForbidden {
		t.Errorf("twice: %d", status)
	}
}

func TestOneUsersSessionsAreBounded(t *testing.T) {
	p := newPortal(t)
	first := p.login(t, "ada")
	for range maxOfUser {
		p.login(t, "ada")
	}
	if status, _, _ := p.call("GET", "/api/session", "", first); status != http.StatusUnauthorized || len(p.sessions.all) != maxOfUser {
		t.Errorf("%d, %d sessions", status, len(p.sessions.all))
	}
}

func TestTheThrottleKeepsNoMoreThanItMay(t *testing.T) {
	th := throttle{limit: 2, window: time.Minute, keys: 100}
	now := time.Unix(1000, 0)
	for i := range 10_000 {
		th.failed(fmt.Sprint(i), now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(th.known) > 100 {
		t.Errorf("%d keys", len(th.known))
	}
}

func FuzzLogin(f *testing.F) {
	f.Add(credentials("WSIAD+ABC123", "ada", "x"))
	f.Add(`{"code":"a","code":"b"}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/api/session", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if in, ok := read[loginRequest](w, r); !ok && w.Code < 400 || ok && len(in.Code)+len(in.Password) > maxBody {
			t.Errorf("%d", w.Code)
		}
	})
}
