// Package identitytest gives tests verified principals, the only way there is: by signing a request with a key that stands in the
// DB and having it authenticated.
//
// It refuses to be imported outside tests.
package identitytest

import (
	"cmp"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

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
		return tx.Claim("user/"+strings.ToLower(name), string(user.ID))
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

// AddRole gives the id of the role of that name, made with path "/" and without a trust policy where there is none. The name is claimed as
// service/iam claims it.
func AddRole(t testing.TB, db *state.DB, name string) ident.RoleID {
	t.Helper()
	for role := range state.AllBy(db.Snapshot(), state.Roles, state.RolesByName, strings.ToLower(name)) {
		return role.ID
	}
	role := &state.Role{ID: ident.NewRoleID(rand.Reader), Name: name, Path: "/", MaxSession: 3600}
	update(t, db, func(tx *state.Tx) error {
		role.Created = tx.Now()
		state.Put(tx, state.Roles, state.Clone(role))
		return tx.Claim("role/"+strings.ToLower(name), string(role.ID))
	})
	return role.ID
}

// Principal is whom the key stands for.
func Principal(t testing.TB, db *state.DB, key *state.AccessKey) identity.Principal {
	t.Helper()
	return Credentials{string(key.ID), key.Secret.Reveal(), ""}.must(t, db)
}

// Session is whom temporary credentials stand for that say what s says. What s leaves out is filled in: key and secret, an hour that begins now, and
// the Type, AssumedRole where there is a role and FederatedUser where there is none. Whom it speaks of is in the DB.
func Session(t testing.TB, db *state.DB, s identity.Session) identity.Principal {
	t.Helper()
	s = Complete(s, clock.System{}.Now())
	token, err := Tokens(db, clock.System{}).Seal(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{string(s.KeyID), s.Secret.Reveal(), token}.must(t, db)
}

// Complete fills in what s leaves out, as Session does, with an hour that begins at now.
func Complete(s identity.Session, now time.Time) identity.Session {
	s.KeyID = cmp.Or(s.KeyID, ident.NewSessionKeyOf(rand.Reader, Account))
	s.Secret = cmp.Or(s.Secret, identity.NewSecret(rand.Reader))
	if s.Issued.IsZero() {
		s.Issued = now.UTC().Truncate(time.Second)
	}
	if s.Expires.IsZero() {
		s.Expires = s.Issued.Add(time.Hour)
	}
	if s.Type == "" {
		s.Type = identity.FederatedUser
		if s.RoleID != "" {
			s.Type = identity.AssumedRole
		}
	}
	return s
}

// Tokens seals and opens with the keys of the DB.
func Tokens(db *state.DB, clk clock.Clock) *identity.Tokens {
	return identity.NewTokens(identity.TokensConfig{DB: db, Clock: clk, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
}

// Credentials are what a client signs with. SessionToken is empty for a long-term key.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// Principal is whom the credentials stand for by a clock, or why a request that is signed with them is refused.
func (c Credentials) Principal(t testing.TB, db *state.DB, clk clock.Clock) (identity.Principal, error) {
	t.Helper()
	signer := &sigv4.Signer{AccessKeyID: c.AccessKeyID, Secret: sigv4.Secret(c.SecretAccessKey), SessionToken: sigv4.Secret(c.SessionToken), Region: Region, Service: "sts"}
	req := &sigv4.Request{Method: "POST", Path: "/", Host: "sts.amazonaws.com", Header: http.Header{}}
	if err := signer.Sign(req, clk.Now()); err != nil {
		t.Fatal(err)
	}
	a := identity.New(identity.Config{DB: db, Clock: clk, Account: Account, Region: Region, Partition: Partition})
	signed, err := a.Authenticate(t.Context(), req, "sts")
	return signed.Principal, err
}

func (c Credentials) must(t testing.TB, db *state.DB) identity.Principal {
	t.Helper()
	p, err := c.Principal(t, db, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func update(t testing.TB, db *state.DB, fn func(*state.Tx) error) {
	t.Helper()
	if _, err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
