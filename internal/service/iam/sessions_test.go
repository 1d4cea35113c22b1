package iam

import (
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

func TestCallersThatAreNoUsersMustGiveAName(t *testing.T) {
	w := open(t)
	ada := w.user("ada")
	key := w.key(ada)
	db := statetest.NewDB(t)
	if _, err := db.Update(w.ctx, func(tx *state.Tx) error { state.Put(tx, state.Users, state.Clone(ada)); return nil }); err != nil {
		t.Fatal(err)
	}
	call := func(s identity.Session) service.Call {
		return service.Call{Principal: identitytest.Session(t, db, s)}
	}
	// Both have the user's name; it is not their own.
	role := call(identity.Session{RoleID: identitytest.AddRole(t, db, "admin"), Name: "ada"})
	federated := call(identity.Session{Type: identity.FederatedUser, UserID: ada.ID, Name: "ada"})
	own := call(identity.Session{Type: identity.IAMUser, UserID: ada.ID, MFA: time.Now()})
	status := iam.StatusTypeInactive
	for name, do := range map[string]func(service.Call, *string) error{
		"GetUser": func(c service.Call, user *string) error {
			_, err := w.GetUser(w.ctx, c, &iam.GetUserInput{UserName: user})
			return err
		},
		"ListAccessKeys": func(c service.Call, user *string) error {
			_, err := w.ListAccessKeys(w.ctx, c, &iam.ListAccessKeysInput{UserName: user})
			return err
		},
		"CreateAccessKey": func(c service.Call, user *string) error {
			out, err := w.CreateAccessKey(w.ctx, c, &iam.CreateAccessKeyInput{UserName: user})
			if err == nil {
				_, err = w.DeleteAccessKey(w.ctx, c, &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: out.AccessKey.AccessKeyId})
			}
			return err
		},
		"UpdateAccessKey": func(c service.Call, user *string) error {
			_, err := w.UpdateAccessKey(w.ctx, c, &iam.UpdateAccessKeyInput{UserName: user, AccessKeyId: &key, Status: &status})
			return err
		},
		"ListMFADevices": func(c service.Call, user *string) error {
			_, err := w.ListMFADevices(w.ctx, c, &iam.ListMFADevicesInput{UserName: user})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			const text = "Must specify userName when calling with non-User credentials"
			refused(t, do(role, nil), "ValidationError", text)
			refused(t, do(federated, nil), "ValidationError", text)
			if err := do(role, &ada.Name); err != nil {
				t.Errorf("with a name: %v", err)
			}
			if err := do(own, nil); err != nil {
				t.Errorf("with the user's own credentials of GetSessionToken: %v", err)
			}
		})
	}
	t.Run("DeleteAccessKey", func(t *testing.T) {
		_, err := w.DeleteAccessKey(w.ctx, role, &iam.DeleteAccessKeyInput{AccessKeyId: &key})
		refused(t, err, "ValidationError", "Must specify userName when calling with non-User credentials")
	})
}
