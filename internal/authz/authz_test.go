package authz_test

import (
	"strings"
	"testing"

	"carrel/internal/app"
	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state/statetest"
)

// TestWithoutPoliciesEveryOperationIsDenied holds for all operations of all models, and with them for those still to come.
func TestWithoutPoliciesEveryOperationIsDenied(t *testing.T) {
	db := statetest.NewDB(t)
	root, user := identitytest.Root(t, db), identitytest.User(t, db, "ada")
	n := 0
	for _, api := range app.APIs() {
		for _, op := range api.Operations {
			n++
			action := api.SigningName + ":" + op.Name
			if d := authz.Decide(root, op); !d.Allowed || d.Action != action || d.Reason == "" {
				t.Errorf("%s by the root: %+v", action, d)
			}
			d := authz.Decide(user, op)
			if open := action == "sts:GetCallerIdentity"; d.Allowed != open || d.Action != action || d.Reason == "" {
				t.Errorf("%s by a user without policies: %+v", action, d)
			}
			if d.Allowed {
				continue
			}
			err := d.Denial(user)
			want := "User: arn:aws:iam::" + identitytest.Account + ":user/ada is not authorized to perform: " + action + " because no identity-based policy allows the " + action + " action"
			if err.Kind != awserr.AccessDenied || err.Message != want {
				t.Errorf("%v\nwant %s", err, want)
			}
		}
	}
	if n < 400 {
		t.Errorf("only %d operations", n)
	}
}

func TestNobodyIsNotDecidedAbout(t *testing.T) {
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "without authentication") {
			t.Errorf("a principal that nobody verified: %v", p)
		}
	}()
	authz.Decide(identity.Principal{}, app.APIs()[0].Operations[0])
}
