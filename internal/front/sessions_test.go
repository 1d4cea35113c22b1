package front_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// expired is how each protocol says that temporary credentials are past their end.
var expired = refusal{words{400, "ExpiredTokenException"}, words{403, "ExpiredToken"}, words{400, "RequestExpired"}, words{403, "ExpiredTokenException"}}

const (
	everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	elsewhere  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	withFactor = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}]}`
)

// held are temporary credentials as a client holds them.
type held struct{ id, secret, token string }

// hold makes temporary credentials of a session.
func (h *house) hold(t *testing.T, s identity.Session) held {
	t.Helper()
	s = identitytest.Complete(s, time.Now())
	token, err := identitytest.Tokens(h.db, clock.System{}).Seal(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	c := held{string(s.KeyID), s.Secret.Reveal(), token}
	h.held = append(h.held, c)
	return c
}

// tells looks for the secrets and tokens of all temporary credentials in a text.
func (h *house) tells(text string) bool {
	return slices.ContainsFunc(h.held, func(c held) bool { return strings.Contains(text, c.secret) || strings.Contains(text, c.token) })
}

func (c held) signer(op *shape.Operation) *sigv4.Signer {
	return &sigv4.Signer{AccessKeyID: c.id, Secret: sigv4.Secret(c.secret), SessionToken: sigv4.Secret(c.token), Region: identitytest.Region, Service: op.Service.SigningName}
}

// role makes a role that may do everything, and changes it.
func (h *house) role(t *testing.T, name string, fn func(*state.Role)) ident.RoleID {
	t.Helper()
	id := identitytest.AddRole(t, h.db, name)
	h.update(t, func(tx *state.Tx) {
		old, _ := state.Get(tx, state.Roles, string(id))
		r := state.Clone(old)
		r.Inline = map[string]string{"Own": everything}
		if fn != nil {
			fn(r)
		}
		state.Put(tx, state.Roles, r)
	})
	return id
}

// dropRole deletes a role as service/iam does.
func (h *house) dropRole(t *testing.T, name string, id ident.RoleID) {
	t.Helper()
	h.update(t, func(tx *state.Tx) { state.Delete(tx, state.Roles, string(id)); tx.Release("role/" + name) })
}

// mighty is a user who may do everything.
func (h *house) mighty(t *testing.T) ident.UserID {
	t.Helper()
	h.changeUser(t, "mighty", func(u *state.User) { u.Inline = map[string]string{"Own": everything} })
	return identitytest.AddUser(t, h.db, "mighty")
}

// way is a column of credentials that hold makes, and that change makes a signer of, nil: as they are.
type way struct {
	name   string
	hold   func(*testing.T, *house) held
	change func(*testing.T, *house, *sigv4.Signer)
	want   func(*shape.Operation) words
}

func (w way) column() column {
	var c held
	return column{name: w.name, arrange: func(t *testing.T, h *house) { c = w.hold(t, h) }, prepare: func(t *testing.T, h *house, op *shape.Operation, req *call) {
		s := c.signer(op)
		if w.change != nil {
			w.change(t, h, s)
		}
		req.sign(t, s, time.Now())
	}, want: w.want}
}

// sessionColumns are the temporary credentials' part of the matrix: what they were given does not let them, or they are not good any more.
func sessionColumns() []column {
	columns := []column{}
	for _, w := range append(limitedSessions(), append(goneSessions(), mixedSessions()...)...) {
		columns = append(columns, w.column())
	}
	return columns
}

// limitedSessions are good credentials that may not.
func limitedSessions() []way {
	session := func(t *testing.T, h *house, name string, fn func(*state.Role), s identity.Session) held {
		s.RoleID, s.Name = h.role(t, name, fn), "ada"
		return h.hold(t, s)
	}
	return []way{
		{"SIG-8 a role's session whose session policy allows nothing of it", func(t *testing.T, h *house) held {
			return session(t, h, "r1", nil, identity.Session{Policy: elsewhere})
		}, nil, as(denied)},
		{"SIG-8 a role's session whose managed session policy is gone", func(t *testing.T, h *house) held {
			return session(t, h, "r2", nil, identity.Session{PolicyARNs: []string{"arn:aws:iam::123456789012:policy/Gone"}})
		}, nil, as(denied)},
		{"SIG-8 a session policy that allows everything, of a role that may nothing", func(t *testing.T, h *house) held {
			return session(t, h, "r3", func(r *state.Role) { r.Inline = nil }, identity.Session{Policy: everything})
		}, nil, as(denied)},
		{"a role's session whose role has a boundary without an allow", func(t *testing.T, h *house) held {
			boundary := h.managed(t, "RoleBounds", elsewhere)
			return session(t, h, "r4", func(r *state.Role) { r.Boundary = boundary }, identity.Session{})
		}, nil, as(denied)},
		{"SIG-8 a session from before its role's sessions were revoked", func(t *testing.T, h *house) held {
			// What the console's "Revoke active sessions" attaches (IAM User Guide).
			revoked := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{"DateLessThan":{"aws:TokenIssueTime":"` + time.Now().UTC().Format(time.RFC3339) + `"}}}]}`
			return session(t, h, "r5", func(r *state.Role) { r.Inline["AWSRevokeOlderSessions"] = revoked }, identity.Session{Issued: time.Now().UTC().Add(-time.Minute).Truncate(time.Second)})
		}, nil, as(denied)},
		{"an allow with a second factor, and a role's session without", func(t *testing.T, h *house) held {
			return session(t, h, "r6", func(r *state.Role) { r.Inline["Own"] = withFactor }, identity.Session{})
		}, nil, as(denied)},
		{"SIG-8 a federated user without a session policy", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.FederatedUser, UserID: h.mighty(t), Name: "bob"})
		}, nil, as(denied)},
		{"SIG-8 the root's federated user without a session policy", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.FederatedUser, Name: "bob"})
		}, nil, as(denied)},
		{"SIG-8 a federated user who may everything, at iam and sts", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.FederatedUser, UserID: h.mighty(t), Name: "bob", Policy: everything, MFA: time.Now()})
		}, nil, ofIAMAndSTS},
		{"SIG-8 GetSessionToken's credentials without a second factor at iam, and at sts", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.IAMUser, UserID: h.mighty(t)})
		}, nil, ofIAMAndSTS},
		{"SIG-8 the root's of GetSessionToken without a second factor at iam, and at sts", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.Root})
		}, nil, ofIAMAndSTS},
	}
}

// ofIAMAndSTS wants a denial by iam and sts, and nothing elsewhere; GetFederationToken refuses sessions in its handler, in words of its own.
func ofIAMAndSTS(op *shape.Operation) words {
	if s := op.Service.Name; s != "iam" && s != "sts" || op.Name == "GetFederationToken" {
		return words{}
	}
	return denied.in(op.Service.Protocol)
}

// goneSessions are credentials that were good once.
func goneSessions() []way {
	return []way{
		{"SIG-8 a role's session whose role was deleted", func(t *testing.T, h *house) held {
			id := h.role(t, "gone", nil)
			defer h.dropRole(t, "gone", id)
			return h.hold(t, identity.Session{RoleID: id, Name: "ada"})
		}, nil, as(unknown)},
		{"SIG-8 a role's session whose role was made again under its name", func(t *testing.T, h *house) held {
			id := h.role(t, "again", nil)
			c := h.hold(t, identity.Session{RoleID: id, Name: "ada"})
			h.dropRole(t, "again", id)
			if h.role(t, "again", nil) == id {
				t.Fatal("the same id")
			}
			return c
		}, nil, as(unknown)},
		{"SIG-8 GetSessionToken's credentials of a user who was deleted", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.IAMUser, UserID: h.deleted(t, "left"), MFA: time.Now()})
		}, nil, as(unknown)},
		{"SIG-8 a federated user whose maker was deleted", func(t *testing.T, h *house) held {
			return h.hold(t, identity.Session{Type: identity.FederatedUser, UserID: h.deleted(t, "maker"), Name: "bob", Policy: everything})
		}, nil, as(unknown)},
		{"SIG-8 a role's session that has ended", func(t *testing.T, h *house) held {
			now := time.Now().UTC().Truncate(time.Second)
			return h.hold(t, identity.Session{RoleID: h.role(t, "ended", nil), Name: "ada", Issued: now.Add(-time.Hour), Expires: now.Add(-time.Second)})
		}, nil, as(expired)},
	}
}

// deleted is a user who may do everything and was deleted.
func (h *house) deleted(t *testing.T, name string) ident.UserID {
	t.Helper()
	h.changeUser(t, name, func(u *state.User) { u.Inline = map[string]string{"Own": everything} })
	id := identitytest.AddUser(t, h.db, name)
	h.update(t, func(tx *state.Tx) { state.Delete(tx, state.Users, string(id)) })
	return id
}

// mixedSessions are good credentials whose parts are mixed up.
func mixedSessions() []way {
	good := func(t *testing.T, h *house) held {
		h.other = h.hold(t, identity.Session{RoleID: h.role(t, "good", nil), Name: "bob"})
		return h.hold(t, identity.Session{RoleID: h.role(t, "good", nil), Name: "ada"})
	}
	return []way{
		{"SIG-8 another session's token", good, func(_ *testing.T, h *house, s *sigv4.Signer) { s.SessionToken = sigv4.Secret(h.other.token) }, as(unknown)},
		{"SIG-8 another session's token and secret", good, func(_ *testing.T, h *house, s *sigv4.Signer) {
			s.SessionToken, s.Secret = sigv4.Secret(h.other.token), sigv4.Secret(h.other.secret)
		}, as(unknown)},
		{"SIG-8 another session's secret", good, func(_ *testing.T, h *house, s *sigv4.Signer) { s.Secret = sigv4.Secret(h.other.secret) }, as(wrong)},
		{"SIG-8 a token of which one letter was changed", good, func(_ *testing.T, _ *house, s *sigv4.Signer) {
			token := []byte(s.SessionToken)
			if at := len(token) / 2; token[at] == 'A' {
				token[at] = 'B'
			} else {
				token[at] = 'A'
			}
			s.SessionToken = sigv4.Secret(token)
		}, as(unknown)},
		{"SIG-8 a token that is none", good, func(_ *testing.T, _ *house, s *sigv4.Signer) { s.SessionToken = "FwoGZXIvYXdzEXAMPLE" }, as(unknown)},
		{"SIG-8 an ASIA key without its token", good, func(_ *testing.T, _ *house, s *sigv4.Signer) { s.SessionToken = "" }, as(unknown)},
		{"SIG-8 an AKIA key with a token", good, func(_ *testing.T, h *house, s *sigv4.Signer) {
			s.AccessKeyID, s.Secret = string(h.root.ID), sigv4.Secret(h.root.Secret.Reveal())
		}, as(unknown)},
		{"SIG-8 an AKIA key with the secret and token of ASIA", good, func(_ *testing.T, h *house, s *sigv4.Signer) { s.AccessKeyID = string(h.root.ID) }, as(unknown)},
	}
}

// TestGoodSessionsAreServed is the control of the columns with temporary credentials: as they are, and before anything was taken from them, they may.
func TestGoodSessionsAreServed(t *testing.T) {
	h := newHouse(t)
	now := time.Now()
	for name, c := range map[string]held{
		"a role's session":                 h.hold(t, identity.Session{RoleID: h.role(t, "good", nil), Name: "ada", Policy: everything}),
		"a user's with a second factor":    h.hold(t, identity.Session{Type: identity.IAMUser, UserID: h.mighty(t), MFA: now}),
		"the root's with a second factor":  h.hold(t, identity.Session{Type: identity.Root, MFA: now}),
		"a federated user's":               h.hold(t, identity.Session{Type: identity.FederatedUser, UserID: h.mighty(t), Name: "bob", Policy: everything}),
		"a user's without one":             h.hold(t, identity.Session{Type: identity.IAMUser, UserID: h.mighty(t)}),
		"a role's session with its factor": h.hold(t, identity.Session{RoleID: h.role(t, "safe", func(r *state.Role) { r.Inline["Own"] = withFactor }), Name: "ada", MFA: now}),
	} {
		for _, op := range operations() {
			if s := op.Service.Name; op.Name == "AssumeRole" || (s == "iam" || s == "sts") && !strings.HasPrefix(name, "a role") {
				continue
			}
			req := smallestCall(t, op)
			req.sign(t, c.signer(op), time.Now())
			if got := h.send(t, req.request()); got.status != 200 {
				t.Errorf("%s: %s %s: %d %s", name, op.Service.Name, op.Name, got.status, got.text)
			}
		}
	}
	secretFree(t, h)
}
