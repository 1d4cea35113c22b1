package identity_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// TestUses: who has signed last, by which key and for which service, here and at another node.
func TestUses(t *testing.T) {
	l := newLab(t)
	config := identity.UsesConfig{DB: l.db, Clock: l.clk, Log: slog.New(slog.DiscardHandler)}
	uses, other := identity.NewUses(config), identity.NewUses(config)
	auth := identity.New(identity.Config{DB: l.db, Clock: l.clk, Tokens: l.tokens, Uses: uses, Account: identitytest.Account, Region: "eu-central-1", Partition: "aws"})
	ask := func(req *sigv4.Request) error {
		_, err := auth.Authenticate(t.Context(), req)
		return err
	}
	with := func(key *state.AccessKey, secret, service string) *sigv4.Request {
		t.Helper()
		s := &sigv4.Signer{AccessKeyID: string(key.ID), Secret: sigv4.Secret(secret), Region: "eu-central-1", Service: service}
		req := &sigv4.Request{Method: "POST", Path: "/", Host: "localhost", Header: http.Header{}, Body: []byte("{}")}
		if err := s.Sign(req, l.clk.Now()); err != nil {
			t.Fatal(err)
		}
		return req
	}
	last := func(u *identity.Uses, id string, at time.Time, service string) {
		t.Helper()
		got, ok := u.Last(id)
		if ok != (service != "") || ok && (!got.At.Equal(at) || got.Service != service || got.Region != "eu-central-1" || got.ID != id) {
			t.Errorf("%s: %+v %t, want %s %s", id, got, ok, at, service)
		}
	}
	// written runs u until it has nothing left to write, as the end of a process does.
	written := func(u *identity.Uses) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := u.Run(ctx); err != nil {
			t.Error(err)
		}
	}
	key := identitytest.AddKey(t, l.db, l.user)
	secret := key.Secret.Reveal()
	if ask(with(key, "wrong", "workspaces")) == nil {
		t.Fatal("a wrong secret")
	}
	last(uses, string(key.ID), time.Time{}, "")
	if err := ask(with(key, secret, "workspaces")); err != nil {
		t.Fatal(err)
	}
	first := l.clk.Now()
	last(uses, string(key.ID), first, "workspaces")
	last(other, string(key.ID), time.Time{}, "")
	written(uses)
	last(other, string(key.ID), first, "workspaces")

	l.clk.pass(time.Hour)
	if err := ask(with(key, secret, "ds")); err != nil {
		t.Fatal(err)
	}
	second := l.clk.Now()
	last(uses, string(key.ID), second, "ds")
	last(other, string(key.ID), first, "workspaces")
	written(uses)
	last(other, string(key.ID), second, "ds")
	t.Run("nothing new, nothing written", func(t *testing.T) {
		before := l.db.Snapshot().Revision()
		written(uses)
		if l.db.Snapshot().Revision() != before {
			t.Error("written")
		}
	})
	t.Run("a role by its session, and nobody by GetSessionToken's", func(t *testing.T) {
		role := l.hold(t, identity.Session{Type: identity.AssumedRole, RoleID: l.role, Name: "ada"})
		own := l.hold(t, identity.Session{Type: identity.IAMUser, UserID: l.user})
		for _, h := range []held{role, own} {
			if err := ask(l.sign(t, h, nil)); err != nil {
				t.Fatal(err)
			}
		}
		last(uses, string(l.role), l.clk.Now(), "workspaces")
		last(uses, string(role.KeyID), time.Time{}, "")
		last(uses, string(own.KeyID), time.Time{}, "")
		last(uses, string(l.user), time.Time{}, "")
	})
	t.Run("what is newer stays, and what is gone is not written", func(t *testing.T) {
		gone := identitytest.AddKey(t, l.db, l.user)
		for _, k := range []*state.AccessKey{key, gone} {
			if err := ask(with(k, k.Secret.Reveal(), "workspaces")); err != nil {
				t.Fatal(err)
			}
		}
		newer := l.clk.Now().Add(time.Minute)
		if _, err := l.db.Update(t.Context(), func(tx *state.Tx) error {
			state.Delete(tx, state.AccessKeys, string(gone.ID))
			old, _ := state.Get(tx, state.Uses, string(key.ID))
			use := state.Clone(old)
			use.At, use.Service = newer, "iam"
			state.Put(tx, state.Uses, use)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		written(uses)
		last(other, string(key.ID), newer, "iam")
		last(uses, string(key.ID), newer, "iam")
		last(other, string(gone.ID), time.Time{}, "")
	})
}

// TestUsesAreWrittenLaterWhenTheStoreDoesNotTakeThem: a context that has ended stands for a store that does not answer.
func TestUsesAreWrittenLaterWhenTheStoreDoesNotTakeThem(t *testing.T) {
	l := newLab(t)
	uses := identity.NewUses(identity.UsesConfig{DB: l.db, Clock: l.clk, Log: slog.New(slog.DiscardHandler)})
	auth := identity.New(identity.Config{DB: l.db, Clock: l.clk, Tokens: l.tokens, Uses: uses, Account: identitytest.Account, Region: "eu-central-1", Partition: "aws"})
	if _, err := auth.Authenticate(t.Context(), l.sign(t, l.hold(t, identity.Session{Type: identity.AssumedRole, RoleID: l.role, Name: "ada"}), nil)); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	identity.WriteUses(ended, uses)
	if _, ok := state.Get(l.db.Snapshot(), state.Uses, string(l.role)); ok {
		t.Error("written")
	}
	if _, ok := uses.Last(string(l.role)); !ok {
		t.Error("forgotten")
	}
	identity.WriteUses(t.Context(), uses)
	if use, ok := state.Get(l.db.Snapshot(), state.Uses, string(l.role)); !ok || !use.At.Equal(l.clk.Now()) {
		t.Errorf("%+v %t", use, ok)
	}
}
