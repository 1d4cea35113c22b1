package authz_test

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/authz"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/policy"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// world is an account with an Authorizer, and whoever tests make in it.
type world struct {
	t  *testing.T
	db *state.DB
	a  *authz.Authorizer
	at authz.Circumstances
}

func newWorld(t *testing.T) *world {
	db := statetest.NewDB(t)
	return &world{
		t: t, db: db,
		a:  &authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition},
		at: authz.Circumstances{Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.7"), TLS: true, UserAgent: "aws-cli/2"},
	}
}

func (w *world) update(fn func(*state.Tx)) {
	w.t.Helper()
	if _, err := w.db.Update(w.t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// user makes a user with an inline policy "Own", or changes it; "" is none.
func (w *world) user(name, document string) identity.Principal {
	w.t.Helper()
	id := identitytest.AddUser(w.t, w.db, name)
	w.changeUser(name, func(u *state.User) {
		u.Inline = nil
		if document != "" {
			u.Inline = map[string]string{"Own": document}
		}
	})
	return identitytest.Principal(w.t, w.db, identitytest.AddKey(w.t, w.db, id))
}

func (w *world) changeUser(name string, fn func(*state.User)) {
	w.t.Helper()
	id := identitytest.AddUser(w.t, w.db, name)
	w.update(func(tx *state.Tx) {
		old, _ := state.Get(tx, state.Users, string(id))
		u := state.Clone(old)
		fn(u)
		state.Put(tx, state.Users, u)
	})
}

// managed makes a managed policy and gives its ARN.
func (w *world) managed(name, document string) string {
	w.t.Helper()
	w.update(func(tx *state.Tx) {
		state.Put(tx, state.Policies, &state.Policy{ID: ident.NewPolicyID(rand.Reader), Name: name, Path: "/", Default: "v1", Next: 2,
			Versions: []state.PolicyVersion{{ID: "v1", Document: document}}})
	})
	return arn.Of("aws", identitytest.Account, "policy", "/"+name).String()
}

// role makes a role that a trust policy trusts.
func (w *world) role(name, trust string, permissions state.Permissions) *state.Role {
	w.t.Helper()
	role := &state.Role{ID: ident.NewRoleID(rand.Reader), Name: name, Path: "/", Trust: trust, MaxSession: 3600, Permissions: permissions}
	w.update(func(tx *state.Tx) { state.Put(tx, state.Roles, state.Clone(role)) })
	return role
}

func (w *world) ask(p identity.Principal, op *shape.Operation, input any) *authz.Decision {
	w.t.Helper()
	if input == nil {
		input = op.NewInput()
	}
	return w.a.Decide(&authz.Ask{Principal: p, Op: op, Input: input, Circumstances: &w.at})
}

// allowed and denied check one decision; denied gives what AWS says after "is not authorized to perform: ".
func (w *world) allowed(p identity.Principal, op *shape.Operation, input any) {
	w.t.Helper()
	d := w.ask(p, op, input)
	defer d.Release()
	if !d.Allowed {
		w.t.Errorf("%s: %v", op.Name, d.Denial(context.Background()))
	}
}

func (w *world) denied(p identity.Principal, op *shape.Operation, input any, want string) {
	w.t.Helper()
	d := w.ask(p, op, input)
	defer d.Release()
	if d.Allowed {
		w.t.Errorf("%s is allowed", op.Name)
		return
	}
	text := d.Denial(context.Background()).Message
	if _, after, _ := strings.Cut(text, "is not authorized to perform: "); after != want {
		w.t.Errorf("%s:\n got %s\nwant %s", op.Name, after, want)
	}
}

// allow is a document with one statement that allows.
func allow(action, resource string, condition ...string) string {
	return document("Allow", action, resource, condition...)
}

func document(effect, action, resource string, condition ...string) string {
	s := `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Action":"` + action + `","Resource":"` + resource + `"`
	if len(condition) > 0 {
		s += `,"Condition":` + condition[0]
	}
	return s + `}]}`
}

// both joins the statements of two documents.
func both(a, b string) string {
	_, second, _ := strings.Cut(b, `"Statement":[`)
	return strings.TrimSuffix(a, "]}") + "," + second
}

func parse(t *testing.T, k policy.Kind, text string) *policy.Policy {
	t.Helper()
	d, err := policy.Parse(k, text)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Compile(d)
}
