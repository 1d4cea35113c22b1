package identity_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/sigv4"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const invalidToken = "The security token included in the request is invalid."

type bench struct {
	db *state.DB
	a  *identity.Authenticator
}

func newBench(t testing.TB) bench {
	db := statetest.NewDB(t)
	return bench{db, identity.New(identity.Config{DB: db, Clock: clock.System{}, Account: identitytest.Account, Region: "eu-central-1", Partition: "aws"})}
}

// sign is a request signed with key, for workspaces in eu-central-1 unless change says otherwise.
func sign(t testing.TB, key *state.AccessKey, change func(*sigv4.Signer)) *sigv4.Request {
	t.Helper()
	s := &sigv4.Signer{AccessKeyID: string(key.ID), Secret: sigv4.Secret(key.Secret.Reveal()), Region: "eu-central-1", Service: "workspaces"}
	if change != nil {
		change(s)
	}
	req := &sigv4.Request{Method: "POST", Path: "/", Host: "localhost", Header: http.Header{"X-Amz-Target": {"WorkspacesService.DescribeWorkspaces"}}, Body: []byte("{}")}
	if err := s.Sign(req, time.Now()); err != nil {
		t.Fatal(err)
	}
	return req
}

func (b bench) refused(t testing.TB, req *sigv4.Request, kind awserr.Kind, text string, services ...string) {
	t.Helper()
	got, err := b.a.Authenticate(t.Context(), req, services...)
	var e *awserr.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Message != text {
		t.Errorf("got %v, want %s: %s", err, kind, text)
	}
	if !got.Principal.IsZero() {
		t.Error("a refused request has a principal")
	}
}

func (b bench) accepted(t testing.TB, req *sigv4.Request) identity.Principal {
	t.Helper()
	got, err := b.a.Authenticate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return got.Principal
}

func (b bench) update(t testing.TB, fn func(*state.Tx)) {
	t.Helper()
	if _, err := b.db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func (b bench) changeKey(t testing.TB, id ident.AccessKeyID, fn func(*state.AccessKey)) {
	t.Helper()
	b.update(t, func(tx *state.Tx) {
		old, _ := state.Get(tx, state.AccessKeys, string(id))
		key := state.Clone(old)
		fn(key)
		state.Put(tx, state.AccessKeys, key)
	})
}

func TestWhoSigned(t *testing.T) {
	b := newBench(t)
	ada := identitytest.AddUser(t, b.db, "ada")
	t.Run("a user", func(t *testing.T) {
		key := identitytest.AddKey(t, b.db, ada)
		got, err := b.a.Authenticate(t.Context(), sign(t, key, nil), "ds", "workspaces")
		if err != nil {
			t.Fatal(err)
		}
		p := got.Principal
		if got.Service != "workspaces" || p.Type() != identity.IAMUser || p.ARN() != "arn:aws:iam::123456789012:user/ada" || p.UserID() != string(ada) ||
			p.Name() != "ada" || p.AccountID() != "123456789012" || p.AccessKeyID() != string(key.ID) {
			t.Errorf("%+v is %s %s %s", got, p.Type(), p.ARN(), p.UserID())
		}
		if b.accepted(t, sign(t, key, nil)) != p {
			t.Error("an unchanged key was described again")
		}
	})
	t.Run("the root", func(t *testing.T) {
		p := b.accepted(t, sign(t, identitytest.AddKey(t, b.db, ""), nil))
		if p.Type() != identity.Root || p.ARN() != "arn:aws:iam::123456789012:root" || p.UserID() != "123456789012" || p.Name() != "" {
			t.Errorf("%s %s %s", p.Type(), p.ARN(), p.UserID())
		}
	})
	t.Run("a renamed user has the new name at the next request", func(t *testing.T) {
		key := identitytest.AddKey(t, b.db, ada)
		b.accepted(t, sign(t, key, nil))
		b.update(t, func(tx *state.Tx) {
			old, _ := state.Get(tx, state.Users, string(ada))
			user := state.Clone(old)
			user.Name = "lovelace"
			state.Put(tx, state.Users, user)
		})
		if p := b.accepted(t, sign(t, key, nil)); p.Name() != "lovelace" || p.ARN() != "arn:aws:iam::123456789012:user/lovelace" {
			t.Errorf("still %s", p.ARN())
		}
	})
	t.Run("principals for tests", func(t *testing.T) {
		if p := identitytest.Root(t, b.db); p.Type() != identity.Root {
			t.Error(p.ARN())
		}
		if p := identitytest.User(t, b.db, "grace"); p.Name() != "grace" || identitytest.User(t, b.db, "Grace").UserID() != p.UserID() {
			t.Error(p.ARN())
		}
	})
}

func TestKeyState(t *testing.T) {
	b := newBench(t)
	user := identitytest.AddUser(t, b.db, "ada")
	key := identitytest.AddKey(t, b.db, user)
	t.Run("SIG-9 a key just created signs at once", func(t *testing.T) { b.accepted(t, sign(t, key, nil)) })
	t.Run("SIG-9 an inactive key does not, and does again when active", func(t *testing.T) {
		b.changeKey(t, key.ID, func(k *state.AccessKey) { k.Active = false })
		b.refused(t, sign(t, key, nil), awserr.UnknownKey, invalidToken)
		b.changeKey(t, key.ID, func(k *state.AccessKey) { k.Active = true })
		b.accepted(t, sign(t, key, nil))
	})
	t.Run("SIG-9 a rotated secret: the old one is wrong at the next request, the new one right", func(t *testing.T) {
		fresh := state.Clone(key)
		fresh.Secret = identity.NewSecret(strings.NewReader(strings.Repeat("x", 30)))
		b.changeKey(t, key.ID, func(k *state.AccessKey) { k.Secret = fresh.Secret })
		_, err := b.a.Authenticate(t.Context(), sign(t, key, nil))
		if e := awserr.From(err); e == nil || e.Kind != awserr.BadSignature {
			t.Errorf("the old secret: %v", err)
		}
		b.accepted(t, sign(t, fresh, nil))
		b.changeKey(t, key.ID, func(k *state.AccessKey) { k.Secret = key.Secret })
	})
	t.Run("SIG-9 a deleted key is unknown, though its derived key was in use, and so is a captured request", func(t *testing.T) {
		captured := sign(t, key, nil)
		b.accepted(t, captured)
		b.update(t, func(tx *state.Tx) { state.Delete(tx, state.AccessKeys, string(key.ID)) })
		b.refused(t, captured, awserr.UnknownKey, invalidToken)
		b.refused(t, sign(t, key, nil), awserr.UnknownKey, invalidToken)
	})
	t.Run("SIG-9 a key without its user is unknown", func(t *testing.T) {
		orphan := identitytest.AddKey(t, b.db, user)
		b.accepted(t, sign(t, orphan, nil))
		b.update(t, func(tx *state.Tx) { state.Delete(tx, state.Users, string(user)) })
		b.refused(t, sign(t, orphan, nil), awserr.UnknownKey, invalidToken)
	})
	t.Run("SIG-9 a key without secret does not verify the empty one", func(t *testing.T) {
		empty := identitytest.AddKey(t, b.db, "")
		b.changeKey(t, empty.ID, func(k *state.AccessKey) { k.Secret = "" })
		empty.Secret = ""
		b.refused(t, sign(t, empty, nil), awserr.UnknownKey, invalidToken)
	})
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	key := identitytest.AddKey(t, b.db, "")
	const mismatched = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	for _, c := range []struct {
		name   string
		change func(*sigv4.Signer)
		kind   awserr.Kind
		text   string
	}{
		{"SIG-12 an unknown key", func(s *sigv4.Signer) { s.AccessKeyID = "AKIAIOSFODNN7EXAMPLE" }, awserr.UnknownKey, invalidToken},
		{"SIG-12 a wrong secret", func(s *sigv4.Signer) { s.Secret += "x" }, awserr.BadSignature, mismatched},
		{"SIG-12 an unknown key is not told from a known one by a wrong scope", func(s *sigv4.Signer) { s.AccessKeyID, s.Region = "AKIAIOSFODNN7EXAMPLE", "x" }, awserr.BadSignature, "Credential should be scoped to a valid Region, not 'x'."},
		{"SIG-12 the secret that stands in for an unknown key's opens nothing", func(s *sigv4.Signer) {
			s.AccessKeyID, s.Secret = "AKIAIOSFODNN7EXAMPLE", sigv4.Secret(strings.Repeat("0", 40))
		}, awserr.UnknownKey, invalidToken},
		{"SIG-8 a temporary key", func(s *sigv4.Signer) { s.AccessKeyID, s.SessionToken = "ASIAIOSFODNN7EXAMPLE", "t" }, awserr.UnknownKey, invalidToken},
		{"SIG-8 a session token with a long-term key", func(s *sigv4.Signer) { s.SessionToken = "t" }, awserr.UnknownKey, invalidToken},
		{"a key id with another table's name", func(s *sigv4.Signer) { s.AccessKeyID = "../user" }, awserr.IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."},
		{"SIG-3 another service than asked for", func(s *sigv4.Signer) { s.Service = "ds" }, awserr.BadSignature, "Credential should be scoped to correct service: 'workspaces'."},
		{"SIG-3 the global Region for a service without one", func(s *sigv4.Signer) { s.Region = "us-east-1" }, awserr.BadSignature, "Credential should be scoped to a valid Region, not 'us-east-1'."},
	} {
		t.Run(c.name, func(t *testing.T) { b.refused(t, sign(t, key, c.change), c.kind, c.text, "workspaces") })
	}
	t.Run("SIG-1 nothing signed", func(t *testing.T) {
		b.refused(t, &sigv4.Request{Method: "GET", Path: "/"}, awserr.MissingAuthentication, "Missing Authentication Token")
	})
	t.Run("a request that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.a.Authenticate(ctx, sign(t, key, nil)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("the scope's service is told though the signature is wrong", func(t *testing.T) {
		got, err := b.a.Authenticate(t.Context(), sign(t, key, func(s *sigv4.Signer) { s.Secret = "x" }))
		if err == nil || got.Service != "workspaces" {
			t.Errorf("%q, %v", got.Service, err)
		}
	})
}

func TestGlobalServices(t *testing.T) {
	b := newBench(t)
	key := identitytest.AddKey(t, b.db, "")
	for _, service := range []string{"iam", "sts"} {
		for _, region := range []string{"us-east-1", "eu-central-1"} {
			t.Run(service+" may be signed for in "+region, func(t *testing.T) {
				b.accepted(t, sign(t, key, func(s *sigv4.Signer) { s.Service, s.Region = service, region }))
			})
		}
		t.Run(service+" may not be signed for elsewhere", func(t *testing.T) {
			b.refused(t, sign(t, key, func(s *sigv4.Signer) { s.Service, s.Region = service, "us-west-2" }), awserr.BadSignature, "Credential should be scoped to a valid Region, not 'us-west-2'.")
		})
	}
	t.Run("a service that has no Region is refused", func(t *testing.T) {
		a := identity.New(identity.Config{DB: b.db, Clock: clock.System{}, Account: identitytest.Account, Region: "eu-central-1", Partition: "aws", RegionsOf: func(string) []string { return nil }})
		if _, err := a.Authenticate(t.Context(), sign(t, key, nil)); awserr.From(err) == nil || awserr.From(err).Kind != awserr.BadSignature {
			t.Error(err)
		}
	})
}

func TestTheZeroPrincipalIsNobody(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the zero Principal has an ARN")
		}
	}()
	_ = identity.Principal{}.ARN()
}

func TestNewSecret(t *testing.T) {
	a, b := identity.NewSecret(bytes.NewReader(make([]byte, 30))), identity.NewSecret(strings.NewReader(strings.Repeat("\xff", 30)))
	if a.Reveal() != strings.Repeat("A", 40) || b.Reveal() != strings.Repeat("/", 40) {
		t.Errorf("%s, %s", a.Reveal(), b.Reveal())
	}
	defer func() {
		if recover() == nil {
			t.Error("a secret was made without randomness")
		}
	}()
	identity.NewSecret(strings.NewReader("short"))
}

// BenchmarkAuthenticate shows SIG-12's times for the whole of Authenticate: known key, wrong secret, unknown key.
func BenchmarkAuthenticate(b *testing.B) {
	x := newBench(b)
	key := identitytest.AddKey(b, x.db, identitytest.AddUser(b, x.db, "ada"))
	for _, c := range []struct {
		name   string
		change func(*sigv4.Signer)
	}{
		{"right", nil},
		{"wrong", func(s *sigv4.Signer) { s.Secret = "x" }},
		{"unknown", func(s *sigv4.Signer) { s.AccessKeyID = "AKIAIOSFODNN7EXAMPLE" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			req := sign(b, key, c.change)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.a.Authenticate(b.Context(), req); (err == nil) != (c.change == nil) {
					b.Fatal(err)
				}
			}
		})
	}
}
