package sts

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

const (
	account = identitytest.Account
	adaID   = ident.UserID("AIDAJQABLZS4A3QDU576Q")
	adminID = ident.RoleID("AROADBQP57FF2AEXAMPLE")
	admin   = "arn:aws:iam::123456789012:role/ops/admin"
)

// manual is a clock that stands where the test sets it. What waits on it waits on the machine's.
type manual struct {
	mu  sync.Mutex
	now time.Time
}

func (m *manual) Now() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.now }
func (m *manual) After(d time.Duration) (<-chan time.Time, func()) {
	return clock.System{}.After(d)
}
func (m *manual) pass(d time.Duration) { m.mu.Lock(); defer m.mu.Unlock(); m.now = m.now.Add(d) }

// office is an account with a user ada in /ops/, a role admin in /ops/ whose sessions may last two hours, and a managed policy.
type office struct {
	*Service
	clk *manual
}

func newOffice(t testing.TB) *office {
	clk := &manual{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	db := statetest.OpenDB(t, memory.New(), clk)
	w := &office{clk: clk, Service: &Service{DB: db, Tokens: identitytest.Tokens(db, clk), Clock: clk, Rand: rand.Reader, AccountID: account, Partition: identitytest.Partition}}
	w.update(t, func(tx *state.Tx) {
		state.Put(tx, state.Users, &state.User{ID: adaID, Name: "ada", Path: "/ops/"})
		state.Put(tx, state.Roles, &state.Role{ID: adminID, Name: "admin", Path: "/ops/", MaxSession: 7200})
		state.Put(tx, state.Policies, &state.Policy{ID: "ANPAGJ4EXAMPLE4EXAMPL", Name: "read", Path: "/desks/", Default: "v1",
			Versions: []state.PolicyVersion{{ID: "v1", Document: `{"Version":"2012-10-17","Statement":[]}`}}})
	})
	return w
}

func (w *office) update(t testing.TB, fn func(*state.Tx)) {
	t.Helper()
	if _, err := w.DB.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func (w *office) root(t testing.TB) identity.Principal { return identitytest.Root(t, w.DB) }

func (w *office) ada(t testing.TB) identity.Principal {
	return identitytest.Principal(t, w.DB, identitytest.AddKey(t, w.DB, adaID))
}

// session is somebody with temporary credentials that say what s says.
func (w *office) session(t testing.TB, s identity.Session) identity.Principal {
	return identitytest.Session(t, w.DB, s)
}

// use signs with credentials that were issued, and gives who that is.
func (w *office) use(t testing.TB, c *sts.Credentials) (identity.Principal, error) {
	t.Helper()
	return identitytest.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}.Principal(t, w.DB, w.clk)
}

func (w *office) holder(t testing.TB, c *sts.Credentials) identity.Principal {
	t.Helper()
	p, err := w.use(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// assume is AssumeRole of the role admin as ada@desk, changed as change says.
func (w *office) assume(ctx context.Context, p identity.Principal, change func(*sts.AssumeRoleInput)) (*sts.AssumeRoleOutput, error) {
	in := &sts.AssumeRoleInput{RoleArn: shape.Ptr(admin), RoleSessionName: shape.Ptr("ada@desk")}
	if change != nil {
		change(in)
	}
	return w.AssumeRole(ctx, service.Call{Principal: p}, in)
}

// refusal checks an error: kind or code, and text.
func refusal(t testing.TB, err error, want *awserr.Error) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) || e.Kind != want.Kind || e.Code != want.Code || e.Message != want.Message {
		t.Errorf("got %v\nwant %v", err, want)
	}
}

func denied(text string) *awserr.Error  { return awserr.New(awserr.AccessDenied, "%s", text) }
func invalid(text string) *awserr.Error { return awserr.New(awserr.Validation, "%s", text) }
