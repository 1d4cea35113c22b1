package sts

import (
	"testing"

	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const account = identitytest.Account

func root(t *testing.T) identity.Principal { return identitytest.Root(t, statetest.NewDB(t)) }

func ada(t *testing.T) identity.Principal {
	const id = ident.UserID("AIDAJQABLZS4A3QDU576Q")
	db := statetest.NewDB(t)
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.Users, &state.User{ID: id, Name: "ada", Path: "/ops/"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return identitytest.Principal(t, db, identitytest.AddKey(t, db, id))
}
