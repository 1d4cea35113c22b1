// Package identitytest gives tests verified principals, the only way there is: by signing a request with a key that stands in the
// DB and having it authenticated.
//
// It refuses to be imported outside tests.
package identitytest

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// The installation that the principals belong to.
const (
	Account   = "123456789012"
	Region    = "us-east-1"
	Partition = "aws"
)

// Root is the account's root. The DB, which must be running, gets a key for it.
func Root(t testing.TB, db *state.DB) identity.Principal {
	t.Helper()
	return Principal(t, db, AddKey(t, db, ""))
}

// User is the IAM user of that name, made with path "/" where there is none yet. The DB gets a key for them. The
// name is claimed as service/iam claims it.
func User(t testing.TB, db *state.DB, name string) identity.Principal {
	t.Helper()
	return Principal(t, db, AddKey(t, db, AddUser(t, db, name)))
}

// AddUser gives the id of the user of that name, made where there is none.
func AddUser(t testing.TB, db *state.DB, name string) ident.UserID {
	t.Helper()
	for user := range state.AllBy(db.Snapshot(), state.Users, state.UsersByName, strings.ToLower(name)) {
		return user.ID
	}
	user := &state.User{ID: ident.NewUserID(rand.Reader), Name: name, Path: "/"}
	update(t, db, func(tx *state.Tx) error {
		user.Created = tx.Now()
		state.Put(tx, state.Users, state.Clone(user))
		return tx.Claim("iam/user/"+strings.ToLower(name), string(user.ID))
	})
	return user.ID
}

// AddKey puts an active access key of the user into the DB; "" is the root.
func AddKey(t testing.TB, db *state.DB, user ident.UserID) *state.AccessKey {
	t.Helper()
	key := &state.AccessKey{ID: ident.NewAccessKeyID(rand.Reader), UserID: user, Secret: identity.NewSecret(rand.Reader), Active: true}
	update(t, db, func(tx *state.Tx) error {
		key.Created = tx.Now()
		state.Put(tx, state.AccessKeys, state.Clone(key))
		return nil
	})
	return key
}

// Principal is whom the key stands for.
func Principal(t testing.TB, db *state.DB, key *state.AccessKey) identity.Principal {
	t.Helper()
	req := &sigv4.Request{Method: "POST", Path: "/", Host: "sts.amazonaws.com", Header: http.Header{}}
	signer := &sigv4.Signer{AccessKeyID: string(key.ID), Secret: sigv4.Secret(key.Secret.Reveal()), Region: Region, Service: "sts"}
	if err := signer.Sign(req, clock.System{}.Now()); err != nil {
		t.Fatal(err)
	}
	a := identity.New(identity.Config{DB: db, Clock: clock.System{}, Account: Account, Region: Region, Partition: Partition})
	signed, err := a.Authenticate(t.Context(), req, "sts")
	if err != nil {
		t.Fatal(err)
	}
	return signed.Principal
}

func update(t testing.TB, db *state.DB, fn func(*state.Tx) error) {
	t.Helper()
	if _, err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
