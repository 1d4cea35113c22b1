package sts

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/federation/oidc"
	"carrel/internal/federation/oidc/oidctest"
	"carrel/internal/federation/saml"
	"carrel/internal/federation/saml/samltest"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const (
	entity   = "https://idp.example.org/metadata"
	roleARN  = "arn:aws:iam::123456789012:role/team/desk"
	samlARN  = "arn:aws:iam::123456789012:saml-provider/Example"
	oidcARN  = "arn:aws:iam::123456789012:oidc-provider/idp.example.org/realms/desk"
	noSAML   = "Not authorized to perform sts:AssumeRoleWithSAML"
	noWebID  = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
	samlOnly = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + samlARN + `"},"Action":["sts:AssumeRoleWithSAML","sts:TagSession","sts:SetSourceIdentity"],"Condition":{"StringEquals":{"saml:aud":"` + samltest.Recipient + `"}}}]}`
	webOnly  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + oidcARN + `"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],"Condition":{"StringEquals":{"idp.example.org/realms/desk:aud":"desk","idp.example.org/realms/desk:sub":"ada-of-desk"}}}]}`
)

// trusting reads trust policies with the policy engine.
type trusting struct{}

func (trusting) MayAssume(_ context.Context, q *TrustQuestion) error {
	document := ""
	if q.Role != nil {
		document = q.Role.Trust
	}
	compiled, _ := policy.CompileStored(policy.Trust, document)
	r := &policy.Request{Principal: policy.Principal{Type: policy.Federated, Name: q.Provider}}
	r.SetResource(q.RoleARN)
	r.Set(policy.NewKey("aws:FederatedProvider"), q.Provider)
	for k, v := range q.Keys {
		r.SetAll(policy.NewKey(k), v)
	}
	set := policy.Set{Resource: compiled, Trust: true, ResourceAccount: identitytest.Account}
	for _, action := range q.Actions {
		r.Action = policy.NewAction(action)
		if set.Decide(r, nil).Decision != policy.Allowed {
			return awserr.New(awserr.AccessDenied, "Not authorized to perform %s", action)
		}
	}
	return nil
}

// world is an account with a role, a SAML and an OpenID Connect provider, and who carries out the operations.
type world struct {
	*Federation
	db     *state.DB
	clock  *clock.Movable
	idp    *samltest.IdP
	web    *oidctest.IdP
	tokens *identity.Tokens
	role   ident.RoleID
}

func newWorld(t *testing.T) *world {
	c := new(clock.Movable)
	w := &world{db: statetest.NewDB(t), clock: c, idp: samltest.New(t, entity), web: oidctest.New(t), role: ident.NewRoleID(rand.Reader)}
	audiences, recipients := SignInNames("aws", "eu-central-1")
	w.tokens = identitytest.Tokens(w.db, c)
	w.Federation = &Federation{Sessions: &Service{DB: w.db, Tokens: w.tokens, Clock: c, Rand: rand.Reader, AccountID: account, Partition: "aws"}, Audiences: audiences, Recipients: recipients, Trust: trusting{},
		WebIdentities: &oidc.Verifier{Fetcher: oidc.Fetcher{Dial: w.web.Dial, Roots: w.web.Roots(), Now: c.Now}, Clock: c}}
	w.update(t, func(tx *state.Tx) {
		state.Put(tx, state.Roles, &state.Role{ID: w.role, Name: "desk", Path: "/team/", Trust: samlOnly, MaxSession: 7200})
		state.Put(tx, state.SAMLProviders, &state.SAMLProvider{Name: "Example", UUID: "1", Metadata: w.idp.Metadata(), ValidUntil: c.Now().AddDate(100, 0, 0)})
		state.Put(tx, state.OIDCProviders, &state.OIDCProvider{URL: w.web.URL, ClientIDs: []string{"desk"}})
	})
	return w
}

func (w *world) update(t *testing.T, fn func(*state.Tx)) {
	t.Helper()
	if _, err := w.db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func (w *world) changeRole(t *testing.T, fn func(*state.Role)) {
	t.Helper()
	w.update(t, func(tx *state.Tx) {
		old, _ := state.Get(tx, state.Roles, string(w.role))
		role := state.Clone(old)
		fn(role)
		state.Put(tx, state.Roles, role)
	})
}

func (w *world) call() service.Call {
	return service.Call{RequestID: "r"}
}

func attr(name string, values ...string) samltest.Attr {
	return samltest.Attr{Name: samltest.Attribute + name, Values: values}
}

// response is a fresh one of the provider, with these attributes besides the role and the session's name.
func (w *world) response(t *testing.T, attributes ...samltest.Attr) string {
	t.Helper()
	says := w.idp.Say(w.clock.Now(), roleARN, samlARN)
	says.Attributes = append(says.Attributes, attributes...)
	return samltest.Encode(t, w.idp.Document(t, says, samltest.Assertion))
}

func (w *world) saml(t *testing.T, response string, change ...func(*sts.AssumeRoleWithSAMLInput)) (*sts.AssumeRoleWithSAMLOutput, error) {
	t.Helper()
	in := &sts.AssumeRoleWithSAMLInput{RoleArn: shape.Ptr(roleARN), PrincipalArn: shape.Ptr(samlARN), SAMLAssertion: shape.Ptr(response)}
	for _, fn := range change {
		fn(in)
	}
	return w.AssumeRoleWithSAML(t.Context(), w.call(), in)
}

func (w *world) webID(t *testing.T, token string, change ...func(*sts.AssumeRoleWithWebIdentityInput)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: shape.Ptr(roleARN), RoleSessionName: shape.Ptr("ada"), WebIdentityToken: shape.Ptr(token)}
	for _, fn := range change {
		fn(in)
	}
	return w.AssumeRoleWithWebIdentity(t.Context(), w.call(), in)
}

// opened is what the session token says, once the credentials have signed a request.
func (w *world) opened(t *testing.T, c *sts.Credentials) *identity.Session {
	t.Helper()
	p, err := identitytest.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}.Principal(t, w.db, w.clock)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Session(); !s.Expires.Equal(*c.Expiration) || p.Role() != w.role || p.Type() != identity.AssumedRole {
		t.Errorf("%s %s %v", p.Type(), p.ARN(), *c.Expiration)
	}
	return p.Session()
}

// refused wants a refusal in these words.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) {
		t.Fatalf("not refused: %v", err)
	}
	if got := codeOf(e); got != code || e.Message != text {
		t.Errorf("refused with %s: %s, want %s: %s (%v)", got, e.Message, code, text, err)
	}
}

func codeOf(e *awserr.Error) string {
	if e.Kind == awserr.Modelled {
		return e.Code
	}
	return e.Kind.String()
}

func TestAssumeRoleWithSAML(t *testing.T) {
	w := newWorld(t)
	out, err := w.saml(t, w.response(t, attr("PrincipalTag:team", "engines"), attr("TransitiveTagKeys", "team"), attr("SourceIdentity", "ada.l")), func(in *sts.AssumeRoleWithSAMLInput) { in.DurationSeconds = shape.Ptr(int32(7200)) })
	if err != nil {
		t.Fatal(err)
	}
	qualifier := saml.NameQualifier(entity, account, "Example")
	if *out.Subject != "ada" || *out.SubjectType != "persistent" || *out.Issuer != entity || *out.Audience != samltest.Recipient || *out.NameQualifier != qualifier || *out.SourceIdentity != "ada.l" || *out.PackedPolicySize != 1 {
		t.Errorf("%+v", out)
	}
	if *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/desk/ada@example.org" || *out.AssumedRoleUser.AssumedRoleId != string(w.role)+":ada@example.org" {
		t.Errorf("%+v", out.AssumedRoleUser)
	}
	s := w.opened(t, out.Credentials)
	if s == nil || s.Type != identity.AssumedRole || s.RoleID != w.role || s.Name != "ada@example.org" || s.SourceIdentity != "ada.l" || s.Provider != samlARN || s.Expires.Sub(s.Issued) != 2*time.Hour || s.Chained || s.UserID != "" ||
		!maps.Equal(s.Tags, map[string]string{"team": "engines"}) || !slices.Equal(s.Transitive, []string{"team"}) || string(s.KeyID) != *out.Credentials.AccessKeyId || s.Secret.Reveal() != *out.Credentials.SecretAccessKey || !s.Expires.Equal(*out.Credentials.Expiration) {
		t.Errorf("%+v", s)
	}
	if s.Claims["saml:sub"][0] != "ada" || s.Claims["saml:doc"][0] != account+"/Example" || s.Claims["saml:namequalifier"][0] != qualifier {
		t.Errorf("%v", s.Claims)
	}
}

func TestFED1AnAssertionIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	response := w.response(t)
	if _, err := w.saml(t, response); err != nil {
		t.Fatal(err)
	}
	t.Run("FED-1 replay", func(t *testing.T) {
		_, err := w.saml(t, response)
		refused(t, err, "InvalidIdentityToken", "The SAML assertion has already been used.")
	})
	t.Run("FED-1 replay on another node, for another role, in another response", func(t *testing.T) {
		other := &Federation{Sessions: w.Sessions, Audiences: w.Audiences, Recipients: w.Recipients, Trust: trusting{}, WebIdentities: w.WebIdentities}
		says := w.idp.Say(w.clock.Now(), roleARN, samlARN)
		doc := w.idp.Document(t, says, samltest.Assertion)
		in := func() *sts.AssumeRoleWithSAMLInput {
			return &sts.AssumeRoleWithSAMLInput{RoleArn: shape.Ptr(roleARN), PrincipalArn: shape.Ptr(samlARN), SAMLAssertion: shape.Ptr(samltest.Encode(t, doc))}
		}
		if _, err := w.AssumeRoleWithSAML(t.Context(), w.call(), in()); err != nil {
			t.Fatal(err)
		}
		doc.Root().CreateAttr("ID", "_another")
		if _, err := other.AssumeRoleWithSAML(t.Context(), w.call(), in()); awserr.From(err).Message != "The SAML assertion has already been used." {
			t.Error(err)
		}
	})
	t.Run("FED-1 replay: of many at once, one succeeds", func(t *testing.T) {
		response := w.response(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		taken := 0
		for range 16 {
			all.Go(func() {
				in := &sts.AssumeRoleWithSAMLInput{RoleArn: shape.Ptr(roleARN), PrincipalArn: shape.Ptr(samlARN), SAMLAssertion: shape.Ptr(response)}
				if _, err := w.AssumeRoleWithSAML(t.Context(), service.Call{}, in); err == nil {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if taken != 1 {
			t.Errorf("%d succeeded", taken)
		}
	})
	t.Run("a refused one is not spent", func(t *testing.T) {
		response := w.response(t)
		if _, err := w.saml(t, response, func(in *sts.AssumeRoleWithSAMLInput) { in.DurationSeconds = shape.Ptr(int32(43200)) }); err == nil {
			t.Fatal("accepted")
		}
		if _, err := w.saml(t, response); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is too old to be used again is cleared away, and still refused", func(t *testing.T) {
		old := w.response(t)
		if _, err := w.saml(t, old); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(11 * time.Minute)
		if _, err := w.saml(t, w.response(t)); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range state.All(w.db.Snapshot(), state.SpentOnes) {
			n++
		}
		if n != 1 {
			t.Errorf("%d are kept", n)
		}
		if _, err := w.saml(t, old); awserr.From(err).Code != "ExpiredTokenException" {
			t.Error(err)
		}
	})
}

func TestAssumeRoleWithSAMLRefuses(t *testing.T) {
	w := newWorld(t)
	type input = *sts.AssumeRoleWithSAMLInput
	const other = "SAML Assertion doesn't contain the requested Role and Metadata in the attributes"
	forRole := func(t *testing.T, role, provider string) string {
		return samltest.Encode(t, w.idp.Document(t, w.idp.Say(w.clock.Now(), role, provider), samltest.Assertion))
	}
	for _, c := range []struct {
		name       string
		response   func(*testing.T) string
		change     func(input)
		code, text string
	}{
		{"an unsigned response", func(t *testing.T) string {
			return samltest.Encode(t, samltest.Unsigned(t, w.idp.Say(w.clock.Now(), roleARN, samlARN)))
		}, nil, "InvalidIdentityToken", "Response signature invalid"},
		{"FED-1 another provider's assertion", func(t *testing.T) string {
			p := samltest.Other(t, entity)
			return samltest.Encode(t, p.Document(t, p.Say(w.clock.Now(), roleARN, samlARN), samltest.Assertion))
		}, nil, "InvalidIdentityToken", "Response signature invalid"},
		{"a provider that is not there", nil, func(in input) {
			in.PrincipalArn = shape.Ptr("arn:aws:iam::123456789012:saml-provider/Other")
		}, "InvalidIdentityToken", "Specified provider doesn't exist"},
		{"a provider of another account", nil, func(in input) {
			in.PrincipalArn = shape.Ptr("arn:aws:iam::210987654321:saml-provider/Example")
		}, "InvalidIdentityToken", "Specified provider doesn't exist"},
		{"a provider that is a user", nil, func(in input) { in.PrincipalArn = shape.Ptr("arn:aws:iam::123456789012:user/Example") }, "Validation", "Request ARN is invalid"},
		{"a provider that is no ARN", nil, func(in input) { in.PrincipalArn = shape.Ptr("Example-of-no-use-at-all") }, "Validation", "Request ARN is invalid"},
		{"a role that the assertion does not name", nil, func(in input) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/admin") }, "InvalidIdentityToken", other},
		{"a role that is not there", func(t *testing.T) string { return forRole(t, "arn:aws:iam::123456789012:role/desk", samlARN) }, func(in input) {
			in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/desk")
		}, "AccessDenied", noSAML},
		{"a role that is a user", func(t *testing.T) string { return forRole(t, "arn:aws:iam::123456789012:user/desk", samlARN) }, func(in input) {
			in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:user/desk")
		}, "Validation", "Request ARN is invalid"},
		{"longer than the role's sessions", nil, func(in input) { in.DurationSeconds = shape.Ptr(int32(7201)) }, "Validation", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"a session policy that is none", nil, func(in input) { in.Policy = shape.Ptr("{}") }, "MalformedPolicyDocument", ""},
		{"a managed policy that is not there", nil, func(in input) {
			in.PolicyArns = []sts.PolicyDescriptorType{{Arn: shape.Ptr("arn:aws:iam::123456789012:policy/none")}}
		}, "Validation", "The managed policy arn:aws:iam::123456789012:policy/none does not exist or is not attachable."},
		{"eleven managed policies", nil, func(in input) { in.PolicyArns = make([]sts.PolicyDescriptorType, 11) }, "Validation", "1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to 10"},
		{"no session name", func(t *testing.T) string {
			says := w.idp.Say(w.clock.Now(), roleARN, samlARN)
			says.Attributes = says.Attributes[:1]
			return samltest.Encode(t, w.idp.Document(t, says, samltest.Assertion))
		}, nil, "InvalidIdentityToken", "RoleSessionName is required in AuthnResponse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := w.response(t)
			if c.response != nil {
				response = c.response(t)
			}
			change := c.change
			if change == nil {
				change = func(input) {}
			}
			_, err := w.saml(t, response, change)
			text := c.text
			if text == "" && err != nil {
				text = awserr.From(err).Message
			}
			refused(t, err, c.code, text)
		})
	}
	t.Run("in the open though the record wants it encrypted, or with a key of ours that is none", func(t *testing.T) {
		change := func(fn func(*state.SAMLProvider)) {
			w.update(t, func(tx *state.Tx) {
				old, _ := state.Get(tx, state.SAMLProviders, "Example")
				p := state.Clone(old)
				fn(p)
				state.Put(tx, state.SAMLProviders, p)
			})
		}
		change(func(p *state.SAMLProvider) { p.Encryption = "Required" })
		_, err := w.saml(t, w.response(t))
		refused(t, err, "InvalidIdentityToken", "The assertion must be encrypted.")
		change(func(p *state.SAMLProvider) { p.Encryption, p.Keys = "", []state.SAMLPrivateKey{{ID: "k", PEM: "x"}} })
		if _, err := w.saml(t, w.response(t)); awserr.From(err).Kind != awserr.Internal {
			t.Error(err)
		}
		change(func(p *state.SAMLProvider) { p.Keys = nil })
	})
	t.Run("metadata whose record is no longer valid", func(t *testing.T) {
		response := w.response(t)
		w.update(t, func(tx *state.Tx) {
			old, _ := state.Get(tx, state.SAMLProviders, "Example")
			p := state.Clone(old)
			p.ValidUntil = w.clock.Now()
			state.Put(tx, state.SAMLProviders, p)
		})
		_, err := w.saml(t, response)
		refused(t, err, "InvalidIdentityToken", "Provider metadata has expired")
	})
	t.Run("FED-1 golden SAML: the metadata of now count, not those read before", func(t *testing.T) {
		response := w.response(t)
		w.update(t, func(tx *state.Tx) {
			old, _ := state.Get(tx, state.SAMLProviders, "Example")
			p := state.Clone(old)
			p.Metadata, p.ValidUntil = samltest.Other(t, entity).Metadata(), w.clock.Now().AddDate(1, 0, 0)
			state.Put(tx, state.SAMLProviders, p)
		})
		_, err := w.saml(t, response)
		refused(t, err, "InvalidIdentityToken", "Response signature invalid")
		w.update(t, func(tx *state.Tx) { state.Delete(tx, state.SAMLProviders, "Example") })
		_, err = w.saml(t, response)
		refused(t, err, "InvalidIdentityToken", "Specified provider doesn't exist")
	})
	for range state.All(w.db.Snapshot(), state.SpentOnes) {
		t.Error("a refused assertion was spent")
	}
}

func TestTrustPoliciesDecideOnAssertions(t *testing.T) {
	trust := func(actions, condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + samlARN + `"},"Action":[` + actions + `],"Condition":{` + condition + `}}]}`
	}
	const assume = `"sts:AssumeRoleWithSAML"`
	for _, c := range []struct {
		name, trust string
		attributes  []samltest.Attr
		// text is the denial's, empty when it is allowed.
		text string
	}{
		{"nobody is trusted", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:*"}]}`, nil, noSAML},
		{"another provider is trusted", strings.ReplaceAll(samlOnly, "saml-provider/Example", "saml-provider/Other"), nil, noSAML},
		{"the other operation is trusted", trust(`"sts:AssumeRoleWithWebIdentity"`, ``), nil, noSAML},
		{"the account is trusted, which is not federated", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:*"}]}`, nil, noSAML},
		{"a trust policy that cannot be read denies", `{`, nil, noSAML},
		{"another audience is trusted", trust(assume, `"StringEquals":{"saml:aud":"https://other"}`), nil, noSAML},
		{"this subject of this provider", trust(assume, `"StringEquals":{"saml:sub":"ada","saml:sub_type":"persistent","saml:iss":"`+entity+`","saml:doc":"123456789012/Example"}`), nil, ""},
		{"another subject", trust(assume, `"StringEquals":{"saml:sub":"bob"}`), nil, noSAML},
		{"affiliation", trust(assume, `"ForAnyValue:StringEquals":{"saml:edupersonaffiliation":"staff"}`), []samltest.Attr{{Name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", Values: []string{"member", "staff"}}}, ""},
		{"another affiliation", trust(assume, `"ForAnyValue:StringEquals":{"saml:edupersonaffiliation":"staff"}`), []samltest.Attr{{Name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", Values: []string{"member"}}}, noSAML},
		{"the session's name", trust(assume, `"StringLike":{"sts:RoleSessionName":"ada@*"}`), nil, ""},
		{"the provider by its key", trust(assume, `"StringEquals":{"aws:FederatedProvider":"`+samlARN+`"}`), nil, ""},
		{"tags that are not allowed", trust(assume, ``), []samltest.Attr{attr("PrincipalTag:team", "engines")}, "Not authorized to perform sts:TagSession"},
		{"tags of these keys", trust(assume+`,"sts:TagSession"`, `"ForAllValues:StringEquals":{"aws:TagKeys":["team"]},"StringEquals":{"aws:RequestTag/team":"engines"}`), []samltest.Attr{attr("PrincipalTag:team", "engines")}, ""},
		{"tags of other keys", trust(assume+`,"sts:TagSession"`, `"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}`), []samltest.Attr{attr("PrincipalTag:admin", "yes")}, noSAML},
		{"transitive tags", trust(assume+`,"sts:TagSession"`, `"ForAllValues:StringEquals":{"sts:TransitiveTagKeys":["other"]}`), []samltest.Attr{attr("PrincipalTag:team", "x"), attr("TransitiveTagKeys", "team")}, noSAML},
		{"a source identity that is not allowed", trust(assume, ``), []samltest.Attr{attr("SourceIdentity", "ada")}, "Not authorized to perform sts:SetSourceIdentity"},
		{"a source identity of this form", trust(assume+`,"sts:SetSourceIdentity"`, `"StringLike":{"sts:SourceIdentity":"ad?"}`), []samltest.Attr{attr("SourceIdentity", "ada")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.changeRole(t, func(r *state.Role) { r.Trust = c.trust })
			_, err := w.saml(t, w.response(t, c.attributes...))
			if c.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, "AccessDenied", c.text)
		})
	}
}

func TestHowLongSessionsOfAssertionsLast(t *testing.T) {
	for _, c := range []struct {
		name       string
		seconds    int32
		end        time.Duration
		attributes []samltest.Attr
		want       time.Duration
	}{
		{"an hour when nothing is said", 0, 0, nil, time.Hour},
		{"as long as is asked for", 900, 0, nil, 15 * time.Minute},
		{"no longer than SessionDuration", 7200, 0, []samltest.Attr{attr("SessionDuration", "1800")}, 30 * time.Minute},
		{"SessionDuration does not make it longer", 0, 0, []samltest.Attr{attr("SessionDuration", "7200")}, time.Hour},
		{"no longer than SessionNotOnOrAfter", 7200, 20 * time.Minute, []samltest.Attr{attr("SessionDuration", "3600")}, 20 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			says := w.idp.Say(w.clock.Now(), roleARN, samlARN)
			says.Attributes = append(says.Attributes, c.attributes...)
			if c.end != 0 {
				says.SessionEnd = w.clock.Now().Add(c.end)
			}
			out, err := w.saml(t, samltest.Encode(t, w.idp.Document(t, says, samltest.Assertion)), func(in *sts.AssumeRoleWithSAMLInput) {
				if c.seconds != 0 {
					in.DurationSeconds = shape.Ptr(c.seconds)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if s := w.opened(t, out.Credentials); s.Expires.Sub(s.Issued) > c.want || s.Expires.Sub(s.Issued) < c.want-5*time.Second {
				t.Errorf("%s, want %s", s.Expires.Sub(s.Issued), c.want)
			}
		})
	}
}

func TestSessionPoliciesOfAssertions(t *testing.T) {
	w := newWorld(t)
	const managed = "arn:aws:iam::aws:policy/AdministratorAccess"
	out, err := w.saml(t, w.response(t), func(in *sts.AssumeRoleWithSAMLInput) {
		in.Policy = shape.Ptr(`{ "Statement": { "Effect": "Allow", "Action": "workspaces:Describe*", "Resource": "*" } }`)
		in.PolicyArns = []sts.PolicyDescriptorType{{Arn: shape.Ptr(managed)}}
	})
	if err != nil {
		t.Fatal(err)
	}
	s := w.opened(t, out.Credentials)
	if _, err := policy.Parse(policy.Session, s.Policy); err != nil || !slices.Equal(s.PolicyARNs, []string{managed}) || *out.PackedPolicySize < 1 || *out.PackedPolicySize > 100 {
		t.Errorf("%q %v %d %v", s.Policy, s.PolicyARNs, *out.PackedPolicySize, err)
	}
	_, err = w.saml(t, w.response(t), func(in *sts.AssumeRoleWithSAMLInput) {
		in.Policy = shape.Ptr(`{"Statement":{"Effect":"Allow","Action":"workspaces:` + strings.Repeat("x", 2100) + `","Resource":"*"}}`)
	})
	if e := awserr.From(err); e == nil || e.Code != "PackedPolicyTooLarge" {
		t.Error(err)
	}
}

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	w := newWorld(t)
	w.changeRole(t, func(r *state.Role) { r.Trust = webOnly })
	says := w.web.Says(w.clock.Now())
	says["https://aws.amazon.com/source_identity"] = "ada.l"
	says["https://aws.amazon.com/tags"] = map[string]any{"principal_tags": map[string]any{"team": []string{"engines"}}, "transitive_tag_keys": []string{"team"}}
	token := w.web.Token(t, says)
	out, err := w.webID(t, token)
	if err != nil {
		t.Fatal(err)
	}
	if *out.SubjectFromWebIdentityToken != "ada-of-desk" || *out.Provider != oidcARN || *out.Audience != "desk" || *out.SourceIdentity != "ada.l" || *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/desk/ada" {
		t.Errorf("%+v", out)
	}
	s := w.opened(t, out.Credentials)
	if s.RoleID != w.role || s.Name != "ada" || s.Provider != oidcARN || s.Expires.Sub(s.Issued) != time.Hour || !maps.Equal(s.Tags, map[string]string{"team": "engines"}) || !slices.Equal(s.Transitive, []string{"team"}) ||
		!slices.Equal(s.Claims[w.web.URL+":sub"], []string{"ada-of-desk"}) || !slices.Equal(s.Claims[w.web.URL+":aud"], []string{"desk"}) {
		t.Errorf("%+v", s)
	}
	t.Run("a token may be used again until it ends", func(t *testing.T) {
		if _, err := w.webID(t, token); err != nil {
			t.Error(err)
		}
		w.clock.Advance(2 * time.Hour)
		_, err := w.webID(t, token)
		if e := awserr.From(err); e == nil || e.Code != "ExpiredTokenException" {
			t.Error(err)
		}
	})
}

func TestAssumeRoleWithWebIdentityRefuses(t *testing.T) {
	type input = *sts.AssumeRoleWithWebIdentityInput
	nothing := func(input) {}
	for _, c := range []struct {
		name       string
		claims     map[string]any
		change     func(input)
		world      func(*testing.T, *world)
		code, text string
	}{
		{"FED-1 issuer mix-up: a provider that is not there", map[string]any{"iss": "https://other.example.org"}, nothing, nil, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://other.example.org"},
		{"FED-1 an issuer without https", map[string]any{"iss": "idp.example.org/realms/desk"}, nothing, nil, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for idp.example.org/realms/desk"},
		{"FED-1 another audience", map[string]any{"aud": "other"}, nothing, nil, "InvalidIdentityToken", "Incorrect token audience"},
		{"a subject that the role does not trust", map[string]any{"sub": "bob-of-desk"}, nothing, nil, "AccessDenied", noWebID},
		{"a role that is not there", nil, func(in input) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/none") }, nil, "AccessDenied", noWebID},
		{"a role of another account", nil, func(in input) { in.RoleArn = shape.Ptr("arn:aws:iam::210987654321:role/team/desk") }, nil, "AccessDenied", noWebID},
		{"a role that trusts assertions", nil, nothing, func(t *testing.T, w *world) { w.changeRole(t, func(r *state.Role) { r.Trust = samlOnly }) }, "AccessDenied", noWebID},
		{"a role that is no ARN", nil, func(in input) { in.RoleArn = shape.Ptr("desk-desk-desk-desk-desk") }, nil, "Validation", "Request ARN is invalid"},
		{"longer than the role's sessions", nil, func(in input) { in.DurationSeconds = shape.Ptr(int32(7201)) }, nil, "Validation", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"a provider of OAuth 2.0", nil, func(in input) { in.ProviderId = shape.Ptr("graph.facebook.com") }, nil, "Validation", "The provider graph.facebook.com is not supported: a token names its OpenID Connect provider itself."},
		{"no token", nil, func(in input) { in.WebIdentityToken = shape.Ptr("abcd") }, nil, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"},
		{"a provider that was deleted", nil, nothing, func(t *testing.T, w *world) {
			w.update(t, func(tx *state.Tx) { state.Delete(tx, state.OIDCProviders, w.web.URL) })
		}, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://idp.example.org/realms/desk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.changeRole(t, func(r *state.Role) { r.Trust = webOnly })
			if c.world != nil {
				c.world(t, w)
			}
			says := w.web.Says(w.clock.Now())
			maps.Copy(says, c.claims)
			_, err := w.webID(t, w.web.Token(t, says), c.change)
			refused(t, err, c.code, c.text)
		})
	}
	t.Run("what was changed while the provider was asked counts", func(t *testing.T) {
		w := newWorld(t)
		w.changeRole(t, func(r *state.Role) { r.Trust = webOnly })
		w.WebIdentities = meanwhile{w.WebIdentities, func() {
			w.update(t, func(tx *state.Tx) { state.Delete(tx, state.OIDCProviders, w.web.URL) })
		}}
		_, err := w.webID(t, w.web.Token(t, w.web.Says(w.clock.Now())))
		refused(t, err, "Unavailable", "The identity provider was changed meanwhile. Try again.")
	})
}

// meanwhile does something while a token is verified.
type meanwhile struct {
	WebIdentities
	do func()
}

func (m meanwhile) Verify(ctx context.Context, p *oidc.Provider, token string) (*oidc.Identity, *awserr.Error) {
	id, err := m.WebIdentities.Verify(ctx, p, token)
	m.do()
	return id, err
}

func TestSignInNames(t *testing.T) {
	audiences, recipients := SignInNames("aws", "eu-central-1", "https://desk.example.org/saml")
	if !slices.Equal(recipients, []string{"https://signin.aws.amazon.com/saml", "https://eu-central-1.signin.aws.amazon.com/saml", "https://desk.example.org/saml"}) || !slices.Equal(audiences, append([]string{"urn:amazon:webservices"}, recipients...)) {
		t.Error(audiences, recipients)
	}
	if audiences, recipients := SignInNames("aws-cn", "cn-north-1"); audiences[0] != "urn:amazon:webservices:cn-north-1" || recipients[0] != "https://signin.amazonaws.cn/saml" {
		t.Error(audiences, recipients)
	}
}

func TestFederationBindsBothOperations(t *testing.T) {
	table := service.Table{}
	new(Federation).Bind(table)
	if len(table) != 2 || table[sts.AssumeRoleWithSAML.Operation] == nil || table[sts.AssumeRoleWithWebIdentity.Operation] == nil {
		t.Errorf("%d operations", len(table))
	}
}
