package app

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/analysis"
	"carrel/internal/audit"
	"carrel/internal/clock"
	"carrel/internal/front"
	"carrel/internal/gateway"
	"carrel/internal/state"
)

// kept finds the record of a decision by the id that the answer had, as carrel explain does.
func (h *house) kept(t *testing.T, resp *http.Response) (*audit.Record, *analysis.Recorded) {
	t.Helper()
	id := resp.Header.Get("X-Carrel-Request-Id")
	e, err := analysis.Find(h.conf.Audit.Dir, id)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := analysis.ReadDecision(e.Raw)
	if !ok || d.ID != id || e.Record.RequestID != id {
		t.Fatalf("%v %s", ok, e.Raw)
	}
	if err := h.audit.Health(); err != nil {
		t.Fatal(err)
	}
	return &e.Record, d
}

// settled waits until what was recorded without waiting for it is on disk.
func (h *house) settled(t *testing.T) {
	t.Helper()
	if _, err := h.audit.Reader().Lookup(t.Context(), audit.Query{Limit: 1}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatThePortalDecidesIsInTheAuditLogAndFoundByItsId(t *testing.T) {
	h, stop := installation(t, filepath.Join(t.TempDir(), "state"), &domains{})
	defer stop()
	g, d, password := portalOf(t, h)
	b := &browser{handler: g.Handler()}
	const canary = "Canary-7f3a-Secret"
	for _, typed := range []map[string]string{{"code": d.Registration.Code, "userName": "ada", "password": canary}, {"code": d.Registration.Code, "userName": canary, "password": "x"},
		{"code": canary, "userName": "ada", "password": password}} {
		resp := b.call("POST", "/api/session", typed)
		h.settled(t)
		rec, kept := h.kept(t, resp)
		if resp.StatusCode != http.StatusUnauthorized || rec.EventName != "SignIn" || rec.EventSource != "workspaces.amazonaws.com" || rec.ErrorCode != "AccessDeniedException" || rec.UserIdentity.Type != "Unknown" ||
			rec.ReadOnly || kept.Allowed || !strings.HasPrefix(kept.Reason, "because ") || kept.By == "" {
			t.Errorf("%s %+v %+v", resp.Status, rec, kept)
		}
	}
	resp := b.call("POST", "/api/session", map[string]string{"code": d.Registration.Code, "userName": "ada", "password": password})
	// It was on disk before the answer.
	rec, kept := h.kept(t, resp)
	if u := rec.UserIdentity; u.Type != "Directory" || u.UserName != "ada" || !strings.HasPrefix(u.PrincipalID, "S-1-5-") || u.AccountID != h.installation.AccountID || rec.ErrorCode != "" || !kept.Allowed ||
		kept.By != "the directory" || kept.Context["workspaces:userid"][0] != "ada" || rec.RequestParameters.String() != `{"directoryId":"`+string(d.ID)+`"}` {
		t.Errorf("%+v %+v", rec, kept)
	}
	b.cookie = resp.Cookies()[0]
	resp = b.call("POST", "/api/desktops/ws-000000009/connect", struct{}{})
	h.settled(t)
	rec, kept = h.kept(t, resp)
	if rec.EventName != "Stream" || rec.ErrorCode != "ResourceNotFoundException" || kept.Allowed || kept.By != "the desktop's owner" || !strings.Contains(rec.RequestParameters.String(), `"workspaceId":"ws-000000009"`) ||
		rec.UserIdentity.UserName != "ada" {
		t.Errorf("%+v %+v", rec, kept)
	}
	b.call("DELETE", "/api/session", nil)
	h.settled(t)
	found := false
	for e, err := range audit.Read(h.conf.Audit.Dir, audit.Filter{EventName: "SignOut"}) {
		if err != nil || e.Record.UserIdentity.UserName != "ada" || e.Record.ErrorCode != "" || e.Record.SourceIPAddress == "" {
			t.Errorf("%v %s", err, e.Raw)
		}
		found = true
	}
	if !found {
		t.Error("nobody has signed out")
	}
	for _, secret := range []string{canary, password, b.cookie.Value} {
		if err := filepath.WalkDir(h.conf.Audit.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(strings.ToLower(string(text)), strings.ToLower(secret)) {
				t.Errorf("SIG-13: %q is in %s", secret, path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDesktopsOfPeopleAreStartedRestartedAndConnectedToOnTheRecord(t *testing.T) {
	h := &house{installation: state.Installation{AccountID: "123456789012", Region: "eu-central-1"}}
	for _, name := range []string{gateway.StartDesktop, gateway.RestartDesktop, gateway.Stream, gateway.SessionEnded} {
		rec, err := h.decisionRecord(&gateway.Decision{ID: "1f0c2d3e-4a5b-4c6d-8e9f-001122334455", Name: name, At: time.Unix(1, 0), Allowed: true, Check: gateway.CheckState, Reason: "so", User: "ada",
			SID: "S-1-5-21-1", Directory: "d-90670a1b2c", WorkSpace: "ws-000000001", Keys: map[string][]string{"aws:sourceip": {"192.0.2.7"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.Check(); err != nil || !json.Valid(rec.AppendJSON(nil)) {
			t.Errorf("%v %s", err, rec.AppendJSON(nil))
		}
		if want := `{"id":"1f0c2d3e-4a5b-4c6d-8e9f-001122334455","allowed":true,"by":"the desktop's state","reason":"so","context":{"aws:sourceip":["192.0.2.7"]}}`; rec.Decision.String() != want {
			t.Error(rec.Decision.String())
		}
	}
}

func TestStrangersAtThePortalCannotFillTheLog(t *testing.T) {
	h, stop := installation(t, filepath.Join(t.TempDir(), "state"), &domains{})
	defer stop()
	from := gateway.Decision{ID: "1f0c2d3e-4a5b-4c6d-8e9f-001122334455", Name: gateway.SignIn, At: time.Now(), Check: gateway.CheckCode, Reason: "because", Code: "refused"}
	from.Address = netip.MustParseAddr("203.0.113.9")
	synctest.Test(t, func(t *testing.T) {
		h := &house{strangers: front.NewStrangers(clock.System{})}
		recorded := func(d gateway.Decision, times int) (n int) {
			for range times {
				if h.tells(&d) {
					n++
				}
			}
			return n
		}
		if n := recorded(from, 1000); n != 10 {
			t.Errorf("%d of 1000 unknown codes are recorded", n)
		}
		throttled := from
		throttled.Check = gateway.CheckAttempts
		time.Sleep(time.Hour)
		if n := recorded(throttled, 1000); n != 0 {
			t.Errorf("%d of 1000 throttled attempts are recorded", n)
		}
		known := from
		known.User = "ada"
		if n := recorded(known, 100); n != 100 {
			t.Errorf("%d of 100 refusals of somebody known are recorded", n)
		}
	})
	// Nothing is silently missing.
	for range 30 {
		if err := h.recordDecision(t.Context(), from); err != nil {
			t.Fatal(err)
		}
	}
	door := &front.Door{Audit: h.audit, Clock: clock.System{}, Rand: random, Log: h.log, Deadline: time.Minute}
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := h.strangers.Run(ctx, door); err != nil {
		t.Fatal(err)
	}
	h.settled(t)
	told := 0
	for e, err := range audit.Read(h.conf.Audit.Dir, audit.Filter{EventName: front.SummaryEvent}) {
		if err != nil || !strings.Contains(e.Record.ErrorMessage, "20 SignIn refused by the registration code") {
			t.Errorf("%v %s", err, e.Raw)
		}
		told++
	}
	if told != 1 {
		t.Errorf("%d summaries", told)
	}
}

// broken is an audit log whose directory is gone; the house writes to it from now on.
func (h *house) broken(t *testing.T, failure audit.Failure) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	w, err := audit.Open(audit.Config{Dir: dir, Evidence: h.evidence, Clock: clock.System{}, Failure: failure})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err == nil {
			t.Error("the audit log was not broken")
		}
	})
	h.audit, h.conf.Audit.OnFailure = w, string(failure)
}

func TestWhoSignsInWhileNothingCanBeRecordedIsRefusedUnlessTheOwnerWantsOtherwise(t *testing.T) {
	for failure, want := range map[audit.Failure]int{audit.Stop: http.StatusServiceUnavailable, audit.StopAll: http.StatusServiceUnavailable, audit.Continue: http.StatusOK} {
		t.Run(string(failure), func(t *testing.T) {
			h, stop := installation(t, filepath.Join(t.TempDir(), "state"), &domains{})
			defer stop()
			g, d, password := portalOf(t, h)
			h.broken(t, failure)
			b := &browser{handler: g.Handler()}
			// First it turns out, then it is known.
			for range 2 {
				resp := b.call("POST", "/api/session", map[string]string{"code": d.Registration.Code, "userName": "ada", "password": password})
				if resp.StatusCode != want || (len(resp.Cookies()) > 0) != (want == http.StatusOK) {
					t.Error(resp.Status)
				}
				if err := h.audit.Health(); err == nil || (h.recordable() == nil) != (failure == audit.Continue) {
					t.Errorf("%v, %v", err, h.recordable())
				}
			}
		})
	}
}
