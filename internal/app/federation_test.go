package app

import (
	"crypto/rand"
	"strings"
	"testing"

	"carrel/internal/api/sts"
	"carrel/internal/authz"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity/identitytest"
	svcsts "carrel/internal/service/sts"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// TestTrustPoliciesAreAskedUnderTheCircumstancesOfTheRequest: authz decides for sts, by all that the door knows.
func TestTrustPoliciesAreAskedUnderTheCircumstancesOfTheRequest(t *testing.T) {
	const provider = "arn:aws:iam::123456789012:saml-provider/Example"
	db := statetest.NewDB(t)
	role := &state.Role{ID: ident.NewRoleID(rand.Reader), Name: "desk", Path: "/", MaxSession: 3600,
		Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":"sts:AssumeRoleWithSAML","Condition":{"Bool":{"aws:SecureTransport":"true"},"StringEquals":{"saml:sub":"ada"}}}]}`}
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error { state.Put(tx, state.Roles, state.Clone(role)); return nil }); err != nil {
		t.Fatal(err)
	}
	decider := trust{&authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}}
	q := svcsts.TrustQuestion{Operation: sts.AssumeRoleWithSAML.Operation, Role: role, RoleARN: "arn:aws:iam::123456789012:role/desk", Provider: provider, Actions: []string{"sts:AssumeRoleWithSAML"}, Keys: map[string][]string{"saml:sub": {"ada"}}}
	at := &authz.Circumstances{Now: clock.System{}.Now(), TLS: true}
	later := &authz.Later{Circumstances: at}
	ctx := authz.WithLater(t.Context(), later)
	if err := decider.MayAssume(ctx, &q); err != nil || later.Decision == nil || !later.Decision.Allowed {
		t.Error(err, later.Decision)
	}
	t.Run("not without circumstances", func(t *testing.T) {
		if err := decider.MayAssume(t.Context(), &q); err == nil || !strings.Contains(err.Error(), "circumstances") {
			t.Error(err)
		}
	})
	t.Run("not under others", func(t *testing.T) {
		if decider.MayAssume(authz.WithLater(t.Context(), &authz.Later{Circumstances: &authz.Circumstances{Now: at.Now}}), &q) == nil {
			t.Error("allowed")
		}
	})
	t.Run("not for somebody else, nor for something else", func(t *testing.T) {
		other, more, none := q, q, q
		other.Keys, more.Actions, none.Role = map[string][]string{"saml:sub": {"bob"}}, append(q.Actions, "sts:TagSession"), nil
		if decider.MayAssume(ctx, &other) == nil || decider.MayAssume(ctx, &more) == nil || decider.MayAssume(ctx, &none) == nil {
			t.Error("allowed")
		}
	})
}
