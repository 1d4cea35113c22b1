package front_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
)

// policyColumns is the policies' part of the matrix: everybody here has a good key, and policies that look as if they might allow something.
func policyColumns() []column {
	own := func(name, document string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) {
			h.changeUser(t, name, func(u *state.User) { u.Inline = map[string]string{"Own": document} })
		}
	}
	all := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	with := func(statement string) string { return `{"Version":"2012-10-17","Statement":[` + statement + `]}` }
	users := []struct {
		name    string
		arrange func(*testing.T, *house)
	}{
		{"an explicit deny beside an allow of everything", own("u1", with(`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*"}`))},
		{"an allow of another service", own("u2", with(`{"Effect":"Allow","Action":["s3:*","lambda:*"],"Resource":"*"}`))},
		{"an allow on another account's resources", own("u3", with(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:*:*:999999999999:*"}`))},
		{"an allow from another address", own("u4", with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}}`))},
		{"an allow with a second factor, and none shown", own("u5", with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}`))},
		{"an allow through an endpoint, and none was used", own("u6", with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:SourceVpce":"vpce-*"}}}`))},
		{"an allow of an hour that is over", own("u7", with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}}`))},
		{"IAM-4 an allow with a variable that has no value", own("u8", with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:username":"${aws:PrincipalTag/name}"}}}`))},
		{"an allow of everything but everything", own("u9", with(`{"Effect":"Allow","NotAction":"*","Resource":"*"}`))},
		{"IAM-1 an allow in regular expressions", own("u10", with(`{"Effect":"Allow","Action":".*:.+","Resource":"*"}`))},
		{"IAM-2 a policy that cannot be read any more", own("u11", all[:len(all)-3])},
		{"a boundary without an allow", func(t *testing.T, h *house) {
			boundary := h.managed(t, "Bounds", with(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`))
			h.changeUser(t, "u12", func(u *state.User) { u.Inline, u.Boundary = map[string]string{"Own": all}, boundary })
		}},
		{"a boundary that is gone", func(t *testing.T, h *house) {
			h.changeUser(t, "u13", func(u *state.User) {
				u.Inline, u.Boundary = map[string]string{"Own": all}, "arn:aws:iam::123456789012:policy/Gone"
			})
		}},
		{"a group's deny beside an allow of one's own", func(t *testing.T, h *house) {
			group := &state.Group{ID: ident.NewGroupID(rand.Reader), Name: "stopped", Path: "/"}
			group.Attached = []string{"arn:aws:iam::aws:policy/AWSDenyAll"}
			group.Inline = map[string]string{"No": with(`{"Effect":"Deny","Action":"*","Resource":"*"}`)}
			h.update(t, func(tx *state.Tx) { state.Put(tx, state.Groups, group) })
			h.changeUser(t, "u14", func(u *state.User) { u.Inline, u.Groups = map[string]string{"Own": all}, []ident.GroupID{group.ID} })
		}},
		{"a guardrail without an allow", func(t *testing.T, h *house) {
			h.changeUser(t, "u15", func(u *state.User) { u.Inline = map[string]string{"Own": all} })
			h.update(t, func(tx *state.Tx) {
				state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"only": with(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}})
			})
			t.Cleanup(func() { h.update(t, func(tx *state.Tx) { state.Delete(tx, state.Accounts, "this") }) })
		}},
	}
	columns := make([]column, 0, len(users))
	for i, u := range users {
		name := fmt.Sprint("u", i+1)
		var key *state.AccessKey
		columns = append(columns, column{name: u.name, arrange: func(t *testing.T, h *house) {
			u.arrange(t, h)
			key = identitytest.AddKey(t, h.db, identitytest.AddUser(t, h.db, name))
		}, prepare: func(t *testing.T, _ *house, op *shape.Operation, c *call) {
			c.sign(t, signer(key, op), time.Now())
		}, want: as(denied)})
	}
	return append(columns, column{name: "SIG-9 a key of a user who was deleted", arrange: func(t *testing.T, h *house) {
		id := identitytest.AddUser(t, h.db, "gone")
		h.gone = identitytest.AddKey(t, h.db, id)
		h.update(t, func(tx *state.Tx) { state.Delete(tx, state.Users, string(id)) })
	}, prepare: func(t *testing.T, h *house, op *shape.Operation, c *call) {
		c.sign(t, signer(h.gone, op), time.Now())
	}, want: as(unknown)})
}

func (h *house) update(t *testing.T, fn func(*state.Tx)) {
	t.Helper()
	if _, err := h.db.Update(context.WithoutCancel(t.Context()), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

// changeUser makes a user where there is none, and changes it.
func (h *house) changeUser(t *testing.T, name string, fn func(*state.User)) {
	t.Helper()
	id := identitytest.AddUser(t, h.db, name)
	h.update(t, func(tx *state.Tx) {
		old, _ := state.Get(tx, state.Users, string(id))
		u := state.Clone(old)
		fn(u)
		state.Put(tx, state.Users, u)
	})
}

// managed makes a managed policy and gives its ARN.
func (h *house) managed(t *testing.T, name, document string) string {
	t.Helper()
	h.update(t, func(tx *state.Tx) {
		state.Put(tx, state.Policies, &state.Policy{ID: ident.NewPolicyID(rand.Reader), Name: name, Path: "/", Default: "v1",
			Versions: []state.PolicyVersion{{ID: "v1", Document: document}}})
	})
	return "arn:aws:iam::123456789012:policy/" + name
}
