package identity_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"time"

	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/sigv4"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const (
	mismatched = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	expired    = "The security token included in the request is expired"
)

// lab is a bench on a clock of its own, with a user, a role and whoever holds temporary credentials.
type lab struct {
	bench
	clk    *manual
	tokens *identity.Tokens
	user   ident.UserID
	role   ident.RoleID
}

func newLab(t testing.TB) *lab {
	db, clk := statetest.NewDB(t), newManual()
	l := &lab{clk: clk, tokens: identitytest.Tokens(db, clk), user: identitytest.AddUser(t, db, "ada"), role: identitytest.AddRole(t, db, "admin")}
	l.bench = bench{db, identity.New(identity.Config{DB: db, Clock: clk, Tokens: l.tokens, Account: identitytest.Account, Region: "eu-central-1", Partition: "aws"})}
	return l
}

// held are temporary credentials as a client holds them.
type held struct {
	identity.Session
	token string
}

func (l *lab) hold(t testing.TB, s identity.Session) held {
	t.Helper()
	s = identitytest.Complete(s, l.clk.Now())
	return held{s, seal(t, l.tokens, s)}
}

// sign is a request signed with h at the lab's time, changed as change says.
func (l *lab) sign(t testing.TB, h held, change func(*sigv4.Signer)) *sigv4.Request {
	t.Helper()
	s := &sigv4.Signer{AccessKeyID: string(h.KeyID), Secret: sigv4.Secret(h.Secret.Reveal()), SessionToken: sigv4.Secret(h.token), Region: "eu-central-1", Service: "workspaces"}
	if change != nil {
		change(s)
	}
	req := &sigv4.Request{Method: "POST", Path: "/", Host: "localhost", Header: http.Header{}, Body: []byte("{}")}
	if err := s.Sign(req, l.clk.Now()); err != nil {
		t.Fatal(err)
	}
	return req
}

// long is the bearer of a long-term key, in the form of temporary credentials.
func long(key *state.AccessKey) held {
	return held{Session: identity.Session{KeyID: ident.SessionKeyID(key.ID), Secret: key.Secret}}
}

func TestWhoHoldsTemporaryCredentials(t *testing.T) {
	l := newLab(t)
	mfa := l.clk.Now()
	for _, c := range []struct {
		name                          string
		s                             identity.Session
		kind                          identity.Type
		arn, userID, called, issuedBy string
	}{
		{"a role", identity.Session{RoleID: l.role, Name: "ada@desk"}, identity.AssumedRole,
			"arn:aws:sts::123456789012:assumed-role/admin/ada@desk", string(l.role) + ":ada@desk", "ada@desk", "arn:aws:iam::123456789012:role/admin"},
		{"a federated user of a user", identity.Session{Type: identity.FederatedUser, UserID: l.user, Name: "bob"}, identity.FederatedUser,
			"arn:aws:sts::123456789012:federated-user/bob", "123456789012:bob", "bob", "arn:aws:iam::123456789012:user/ada"},
		{"a federated user of the root", identity.Session{Type: identity.FederatedUser, Name: "bob"}, identity.FederatedUser,
			"arn:aws:sts::123456789012:federated-user/bob", "123456789012:bob", "bob", "arn:aws:iam::123456789012:root"},
		{"a user", identity.Session{Type: identity.IAMUser, UserID: l.user, MFA: mfa}, identity.IAMUser,
			"arn:aws:iam::123456789012:user/ada", string(l.user), "ada", ""},
		{"the root", identity.Session{Type: identity.Root}, identity.Root, "arn:aws:iam::123456789012:root", "123456789012", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := l.hold(t, c.s)
			p := l.accepted(t, l.sign(t, h, nil))
			if p.Type() != c.kind || p.ARN() != c.arn || p.UserID() != c.userID || p.Name() != c.called || p.Issuer() != c.issuedBy {
				t.Errorf("%s %s %s %q %q", p.Type(), p.ARN(), p.UserID(), p.Name(), p.Issuer())
			}
			if p.AccountID() != identitytest.Account || p.AccessKeyID() != string(h.KeyID) || p.User() != c.s.UserID || p.Role() != c.s.RoleID {
				t.Errorf("%s %s %s %s", p.AccountID(), p.AccessKeyID(), p.User(), p.Role())
			}
			if s := p.Session(); s == nil || s.KeyID != h.KeyID || !s.MFA.Equal(c.s.MFA) || !s.Expires.Equal(h.Expires) {
				t.Errorf("%+v", s)
			}
			if l.accepted(t, l.sign(t, h, nil)) != p {
				t.Error("it was described again though nothing has changed")
			}
		})
	}
	t.Run("a user's own key has no session", func(t *testing.T) {
		if p := l.accepted(t, l.sign(t, long(identitytest.AddKey(t, l.db, l.user)), nil)); p.Session() != nil || p.Issuer() != "" || p.User() != l.user {
			t.Errorf("%+v", p)
		}
	})
	t.Run("two sessions of one role are two", func(t *testing.T) {
		a, b := l.hold(t, identity.Session{RoleID: l.role, Name: "a1"}), l.hold(t, identity.Session{RoleID: l.role, Name: "b2"})
		for range 2 {
			if l.accepted(t, l.sign(t, a, nil)).Name() != "a1" || l.accepted(t, l.sign(t, b, nil)).Name() != "b2" {
				t.Error("mixed up")
			}
		}
	})
	t.Run("a change of user or role shows at the next request", func(t *testing.T) {
		role, user := l.hold(t, identity.Session{RoleID: l.role, Name: "ada"}), l.hold(t, identity.Session{Type: identity.FederatedUser, UserID: l.user, Name: "bob"})
		l.accepted(t, l.sign(t, role, nil))
		l.accepted(t, l.sign(t, user, nil))
		l.update(t, func(tx *state.Tx) {
			r, _ := state.Get(tx, state.Roles, string(l.role))
			r = state.Clone(r)
			r.Path = "/ops/"
			state.Put(tx, state.Roles, r)
			u, _ := state.Get(tx, state.Users, string(l.user))
			u = state.Clone(u)
			u.Name = "lovelace"
			state.Put(tx, state.Users, u)
		})
		if p := l.accepted(t, l.sign(t, role, nil)); p.Issuer() != "arn:aws:iam::123456789012:role/ops/admin" {
			t.Error(p.Issuer())
		}
		if p := l.accepted(t, l.sign(t, user, nil)); p.Issuer() != "arn:aws:iam::123456789012:user/lovelace" {
			t.Error(p.Issuer())
		}
	})
}

func TestTemporaryCredentialsThatAreRefused(t *testing.T) {
	l := newLab(t)
	h := l.hold(t, identity.Session{RoleID: l.role, Name: "ada"})
	other := l.hold(t, identity.Session{RoleID: l.role, Name: "ada"})
	key := identitytest.AddKey(t, l.db, l.user)
	for _, c := range []struct {
		name   string
		who    held
		change func(*sigv4.Signer)
		kind   awserr.Kind
		text   string
	}{
		{"SIG-8 no token", h, func(s *sigv4.Signer) { s.SessionToken = "" }, awserr.UnknownKey, invalidToken},
		{"SIG-8 no token, and the key id of nobody", h, func(s *sigv4.Signer) { s.SessionToken, s.AccessKeyID = "", "ASIAIOSFODNN7EXAMPLE" }, awserr.UnknownKey, invalidToken},
		{"SIG-8 other's token", h, func(s *sigv4.Signer) { s.SessionToken = sigv4.Secret(other.token) }, awserr.UnknownKey, invalidToken},
		{"SIG-8 other's token and secret", h, func(s *sigv4.Signer) {
			s.SessionToken, s.Secret = sigv4.Secret(other.token), sigv4.Secret(other.Secret.Reveal())
		}, awserr.UnknownKey, invalidToken},
		{"SIG-8 what is not a token", h, func(s *sigv4.Signer) { s.SessionToken = "AQoDYXdzEJr" }, awserr.UnknownKey, invalidToken},
		{"SIG-8 ASIA with AKIA's secret", h, func(s *sigv4.Signer) { s.Secret = sigv4.Secret(key.Secret.Reveal()) }, awserr.BadSignature, mismatched},
		{"SIG-8 AKIA with a token", long(key), func(s *sigv4.Signer) { s.SessionToken = sigv4.Secret(h.token) }, awserr.UnknownKey, invalidToken},
		{"SIG-8 AKIA with the secret and token of ASIA", long(key), func(s *sigv4.Signer) {
			s.SessionToken, s.Secret = sigv4.Secret(h.token), sigv4.Secret(h.Secret.Reveal())
		}, awserr.UnknownKey, invalidToken},
		{"SIG-8 a wrong secret", h, func(s *sigv4.Signer) { s.Secret += "x" }, awserr.BadSignature, mismatched},
		{"SIG-8 the empty secret", h, func(s *sigv4.Signer) { s.Secret = "" }, awserr.BadSignature, mismatched},
	} {
		t.Run(c.name, func(t *testing.T) { l.refused(t, l.sign(t, c.who, c.change), c.kind, c.text, "workspaces") })
	}
	t.Run("SIG-8 each bit flipped", func(t *testing.T) {
		raw, _ := base64.StdEncoding.DecodeString(h.token)
		for i := range len(raw) * 8 {
			flipped := append([]byte(nil), raw...)
			flipped[i/8] ^= 1 << (i % 8)
			l.refused(t, l.sign(t, h, func(s *sigv4.Signer) { s.SessionToken = sigv4.Secret(base64.StdEncoding.EncodeToString(flipped)) }), awserr.UnknownKey, invalidToken)
		}
	})
	t.Run("SIG-4 a token that is sent and not signed", func(t *testing.T) {
		req := l.sign(t, h, func(s *sigv4.Signer) { s.SessionToken = "" })
		req.Header.Set("X-Amz-Security-Token", h.token)
		if _, err := l.a.Authenticate(t.Context(), req); err == nil {
			t.Error("it was accepted")
		}
	})
	t.Run("they are good all the while", func(t *testing.T) { l.accepted(t, l.sign(t, h, nil)) })
	t.Run("sessions that say what cannot be", func(t *testing.T) {
		for name, s := range map[string]identity.Session{
			"a kind that there is not": {Type: "Service"}, "a user's without a user": {Type: identity.IAMUser}, "a role's without a role": {Type: identity.AssumedRole},
		} {
			t.Run(name, func(t *testing.T) { l.refused(t, l.sign(t, l.hold(t, s), nil), awserr.UnknownKey, invalidToken) })
		}
	})
}

func TestTemporaryCredentialsEnd(t *testing.T) {
	l := newLab(t)
	h := l.hold(t, identity.Session{RoleID: l.role, Name: "ada"})
	l.clk.pass(time.Hour - time.Second)
	t.Run("SIG-8 a second before the end they are good", func(t *testing.T) { l.accepted(t, l.sign(t, h, nil)) })
	l.clk.pass(time.Second)
	t.Run("SIG-8 at their end they are expired", func(t *testing.T) { l.refused(t, l.sign(t, h, nil), awserr.ExpiredToken, expired) })
	l.clk.pass(time.Second)
	t.Run("SIG-8 expired by 1 s", func(t *testing.T) { l.refused(t, l.sign(t, h, nil), awserr.ExpiredToken, expired) })
	t.Run("SIG-12 only who holds the secret learns that they are", func(t *testing.T) {
		l.refused(t, l.sign(t, h, func(s *sigv4.Signer) { s.Secret = "guessed" }), awserr.BadSignature, mismatched)
		l.refused(t, l.sign(t, h, func(s *sigv4.Signer) { s.AccessKeyID = "ASIAIOSFODNN7EXAMPLE" }), awserr.UnknownKey, invalidToken)
	})
	t.Run("when the key of their token is gone they are unknown", func(t *testing.T) {
		l.update(t, func(tx *state.Tx) {
			for _, key := range keys(l.db) {
				state.Delete(tx, state.TokenKeys, key.ID)
			}
		})
		l.refused(t, l.sign(t, h, nil), awserr.UnknownKey, invalidToken)
	})
}

func TestTemporaryCredentialsOfWhoIsGone(t *testing.T) {
	l := newLab(t)
	ofRole := l.hold(t, identity.Session{RoleID: l.role, Name: "ada"})
	ofUser := l.hold(t, identity.Session{Type: identity.IAMUser, UserID: l.user})
	federated := l.hold(t, identity.Session{Type: identity.FederatedUser, UserID: l.user, Name: "bob"})
	for _, h := range []held{ofRole, ofUser, federated} {
		l.accepted(t, l.sign(t, h, nil))
	}
	captured := l.sign(t, ofRole, nil)
	l.update(t, func(tx *state.Tx) { state.Delete(tx, state.Roles, string(l.role)) })
	t.Run("SIG-8 after the role's deletion, a captured request as well", func(t *testing.T) {
		l.refused(t, l.sign(t, ofRole, nil), awserr.UnknownKey, invalidToken)
		l.refused(t, captured, awserr.UnknownKey, invalidToken)
	})
	t.Run("SIG-8 a role made again under the same name is another", func(t *testing.T) {
		again := &state.Role{ID: "AROADBQP57FF2AEXAMPLE", Name: "admin", Path: "/", MaxSession: 3600}
		l.update(t, func(tx *state.Tx) { state.Put(tx, state.Roles, again) })
		l.refused(t, l.sign(t, ofRole, nil), awserr.UnknownKey, invalidToken)
		l.accepted(t, l.sign(t, l.hold(t, identity.Session{RoleID: again.ID, Name: "ada"}), nil))
	})
	l.update(t, func(tx *state.Tx) { state.Delete(tx, state.Users, string(l.user)) })
	t.Run("SIG-8 after the user's deletion", func(t *testing.T) { l.refused(t, l.sign(t, ofUser, nil), awserr.UnknownKey, invalidToken) })
	t.Run("SIG-8 after the deletion of the user who made a federated one", func(t *testing.T) {
		l.refused(t, l.sign(t, federated, nil), awserr.UnknownKey, invalidToken)
	})
}

func TestWhatTemporaryCredentialsMayNeverCall(t *testing.T) {
	db := statetest.NewDB(t)
	user, role := identitytest.AddUser(t, db, "ada"), identitytest.AddRole(t, db, "admin")
	mfa := time.Now()
	own := identitytest.User(t, db, "ada")
	session := identitytest.Session(t, db, identity.Session{Type: identity.IAMUser, UserID: user})
	withMFA := identitytest.Session(t, db, identity.Session{Type: identity.IAMUser, UserID: user, MFA: mfa})
	root := identitytest.Session(t, db, identity.Session{Type: identity.Root})
	federated := identitytest.Session(t, db, identity.Session{Type: identity.FederatedUser, UserID: user, Name: "bob", MFA: mfa})
	assumed := identitytest.Session(t, db, identity.Session{RoleID: role, Name: "ada"})
	for _, c := range []struct {
		service, operation string
		// who may not
		own, session, withMFA, root, federated, assumed bool
	}{
		{"iam", "GetUser", false, true, false, true, true, false},
		{"iam", "CreateAccessKey", false, true, false, true, true, false},
		{"sts", "GetCallerIdentity", false, false, false, false, false, false},
		{"sts", "AssumeRole", false, false, false, false, true, false},
		{"sts", "DecodeAuthorizationMessage", false, true, true, true, true, false},
		{"sts", "GetAccessKeyInfo", false, true, true, true, true, false},
		{"sts", "AnOperationOfTomorrow", false, true, true, true, true, false},
		{"sts", "GetSessionToken", false, false, false, false, false, false},
		{"workspaces", "DescribeWorkspaces", false, false, false, false, false, false},
		{"ec2", "DescribeVpcs", false, false, false, false, false, false},
	} {
		for name, v := range map[string]struct {
			p    identity.Principal
			want bool
		}{
			"a user's own key": {own, c.own}, "GetSessionToken": {session, c.session}, "GetSessionToken with a second factor": {withMFA, c.withMFA},
			"GetSessionToken of the root": {root, c.root}, "GetFederationToken": {federated, c.federated}, "AssumeRole": {assumed, c.assumed},
		} {
			t.Run(c.service+":"+c.operation+" with credentials of "+name, func(t *testing.T) {
				if got := identity.ForbiddenForSession(v.p, c.service, c.operation); got != v.want {
					t.Errorf("forbidden: %t", got)
				}
			})
		}
	}
	t.Run("nobody is not told anything", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("the zero Principal was answered for")
			}
		}()
		identity.ForbiddenForSession(identity.Principal{}, "iam", "GetUser")
	})
}

// BenchmarkAuthenticateSession shows SIG-12's times with temporary credentials: a good token from memory, one that has to be opened, a wrong one.
func BenchmarkAuthenticateSession(b *testing.B) {
	l := newLab(b)
	h := l.hold(b, identity.Session{RoleID: l.role, Name: "ada"})
	var fresh []*sigv4.Request
	for range 5000 {
		fresh = append(fresh, l.sign(b, l.hold(b, identity.Session{RoleID: l.role, Name: "ada"}), nil))
	}
	for _, c := range []struct {
		name string
		req  func(i int) *sigv4.Request
		ok   bool
	}{
		{"known", always(l.sign(b, h, nil)), true},
		{"opened", func(i int) *sigv4.Request { return fresh[i%len(fresh)] }, true},
		{"wrong secret", always(l.sign(b, h, func(s *sigv4.Signer) { s.Secret = "x" })), false},
		{"wrong token", always(l.sign(b, h, func(s *sigv4.Signer) { s.SessionToken = s.SessionToken[:40] + "++++" + s.SessionToken[44:] })), false},
		{"no token", always(l.sign(b, h, func(s *sigv4.Signer) { s.SessionToken = "" })), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := l.a.Authenticate(b.Context(), c.req(i)); (err == nil) != c.ok {
					b.Fatal(err)
				}
			}
		})
	}
}

func always(req *sigv4.Request) func(int) *sigv4.Request {
	return func(int) *sigv4.Request { return req }
}

func TestTheStoreSaysWhyNoTokenIsMade(t *testing.T) {
	l := newLab(t)
	s := full(l.clk.Now())
	if _, err := identity.NewTokens(identity.TokensConfig{DB: l.db, Clock: l.clk, Rand: errorReader{}}).Seal(t.Context(), &s); !errors.Is(err, errNoise) {
		t.Error(err)
	}
}

var errNoise = errors.New("no noise")

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errNoise }
