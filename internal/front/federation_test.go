package front_test

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"carrel/internal/authz"
	"carrel/internal/clock"
	"carrel/internal/federation/oidc"
	"carrel/internal/federation/oidc/oidctest"
	"carrel/internal/federation/saml/samltest"
	"carrel/internal/ident"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service/sts"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// asking has authz decide, as app does.
type asking struct{ authz *authz.Authorizer }

func (a asking) MayAssume(ctx context.Context, q *sts.TrustQuestion) error {
	if !a.authz.MayAssume(&authz.Assumption{Role: q.Role, Provider: q.Provider, Actions: []string{q.Action}, Keys: q.Keys, Circumstances: authz.CircumstancesOf(ctx)}) {
		return errors.New("denied")
	}
	return nil
}

// TestFederationThroughTheDoor goes the whole way: an unsigned request with a provider's word, credentials in the answer, a request signed with them.
func TestFederationThroughTheDoor(t *testing.T) {
	h := newHouse(t)
	web, corp := oidctest.New(t), samltest.New(t, "https://corp.example.org/metadata")
	const samlARN, roleARN = "arn:aws:iam::123456789012:saml-provider/Corp", "arn:aws:iam::123456789012:role/desk"
	webARN := "arn:aws:iam::123456789012:oidc-provider/" + web.URL
	if _, err := h.db.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.OIDCProviders, &state.OIDCProvider{URL: web.URL, ClientIDs: []string{"desk"}, Thumbprints: []string{web.Thumbprint()}})
		state.Put(tx, state.SAMLProviders, &state.SAMLProvider{Name: "Corp", Metadata: corp.Metadata()})
		state.Put(tx, state.Roles, &state.Role{ID: ident.NewRoleID(rand.Reader), Name: "desk", Path: "/", MaxSession: 3600, Trust: `{"Version":"2012-10-17","Statement":[` +
			`{"Effect":"Allow","Principal":{"Federated":"` + webARN + `"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"` + web.URL + `:sub":"ada-of-desk"}}},` +
			`{"Effect":"Allow","Principal":{"Federated":"` + samlARN + `"},"Action":"sts:AssumeRoleWithSAML","Condition":{"StringEquals":{"saml:sub":"ada"}}}]}`})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	audiences, recipients := sts.SignInNames("aws", identitytest.Region)
	sessions := &sts.Service{DB: h.db, Tokens: identitytest.Tokens(h.db, clock.System{}), Clock: clock.System{}, Rand: rand.Reader, AccountID: identitytest.Account, Partition: identitytest.Partition}
	for _, op := range operations() {
		if op.Service.Name == "sts" {
			delete(h.Handlers, op)
		}
	}
	sessions.Bind(h.Handlers)
	(&sts.Federation{Sessions: sessions, Audiences: audiences, Recipients: recipients, Trust: asking{h.Authz},
		WebIdentities: &oidc.Verifier{Fetcher: oidc.Fetcher{Dial: web.Dial}, Clock: clock.System{}}}).Bind(h.Handlers)

	ask := func(t *testing.T, values url.Values) answer {
		t.Helper()
		values.Set("Version", "2011-06-15")
		values.Set("RoleArn", roleARN)
		c := &call{method: http.MethodPost, path: "/", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: []byte(values.Encode())}
		return h.send(t, c.request())
	}
	// whoami signs a request with the credentials of an answer.
	whoami := func(t *testing.T, got answer) string {
		t.Helper()
		type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
		var read struct {
			SAML credentials `xml:"AssumeRoleWithSAMLResult>Credentials"`
			Web  credentials `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
		}
		if err := xml.Unmarshal([]byte(got.text), &read); err != nil || got.status != http.StatusOK {
			t.Fatalf("%d %v %s", got.status, err, got.text)
		}
		made := read.SAML
		if made.SessionToken == "" {
			made = read.Web
		}
		op := operation(t, "sts", "GetCallerIdentity")
		c := smallestCall(t, op)
		c.sign(t, &sigv4.Signer{AccessKeyID: made.AccessKeyId, Secret: sigv4.Secret(made.SecretAccessKey), SessionToken: sigv4.Secret(made.SessionToken), Region: identitytest.Region, Service: "sts"}, time.Now())
		return h.send(t, c.request()).text
	}
	webID := func(t *testing.T, change func(oidctest.Claims)) answer {
		t.Helper()
		says := web.Says(time.Now())
		change(says)
		return ask(t, url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "RoleSessionName": {"ada"}, "WebIdentityToken": {web.Token(t, says)}})
	}
	response := samltest.Encode(t, corp.Document(t, corp.Say(time.Now(), roleARN, samlARN), samltest.Response))
	withSAML := url.Values{"Action": {"AssumeRoleWithSAML"}, "PrincipalArn": {samlARN}, "SAMLAssertion": {response}}
	t.Run("a web identity becomes a session, and its record names it", func(t *testing.T) {
		got := webID(t, func(oidctest.Claims) {})
		if rec := h.audit.last(t); rec.UserIdentity.Type != "WebIdentityUser" || rec.UserIdentity.PrincipalID != webARN+":desk:ada-of-desk" || strings.Contains(string(rec.AppendJSON(nil)), "eyJ") {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
		if text := whoami(t, got); !strings.Contains(text, "<Arn>arn:aws:sts::123456789012:assumed-role/desk/ada</Arn>") {
			t.Error(text)
		}
	})
	t.Run("an assertion becomes a session, once", func(t *testing.T) {
		got := ask(t, withSAML)
		if rec := h.audit.last(t); rec.UserIdentity.Type != "SAMLUser" || rec.UserIdentity.UserName != "ada" || strings.Contains(string(rec.AppendJSON(nil)), response[:100]) {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
		if text := whoami(t, got); !strings.Contains(text, "<Arn>arn:aws:sts::123456789012:assumed-role/desk/ada@example.org</Arn>") {
			t.Error(text)
		}
		if got := ask(t, withSAML); got.status != 400 || got.code != "InvalidIdentityToken" {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
	t.Run("whom the role does not trust is refused", func(t *testing.T) {
		got := webID(t, func(c oidctest.Claims) { c["sub"] = "bob-of-desk" })
		if got.status != 403 || got.code != "AccessDenied" || !strings.Contains(got.text, "Not authorized to perform sts:AssumeRoleWithWebIdentity") {
			t.Errorf("%d %s", got.status, got.text)
		}
		if rec := h.audit.last(t); rec.ErrorCode != "AccessDenied" {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
	})
	t.Run("an expired token is told as one", func(t *testing.T) {
		if got := webID(t, func(c oidctest.Claims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }); got.status != 400 || got.code != "ExpiredTokenException" {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
}
