package front_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"carrel/internal/analysis"
	"carrel/internal/audit"
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
	asked := &authz.Assumption{Op: q.Operation, RoleARN: q.RoleARN, Provider: q.Provider, Actions: q.Actions, Keys: q.Keys}
	if q.Role != nil {
		asked.Role = q.Role.ID
	}
	return a.authz.MayAssume(ctx, asked)
}

// kept is what a record keeps of its decision.
func kept(t *testing.T, rec *audit.Record) *analysis.Recorded {
	t.Helper()
	d, ok := analysis.ReadDecision(rec.AppendJSON(nil))
	if !ok || d.ID != rec.RequestID {
		t.Fatalf("no decision in %s", rec.AppendJSON(nil))
	}
	return d
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
		if !values.Has("RoleArn") {
			values.Set("RoleArn", roleARN)
		}
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
		rec := h.audit.last(t)
		if rec.UserIdentity.Type != "WebIdentityUser" || rec.UserIdentity.PrincipalID != webARN+":desk:ada-of-desk" || strings.Contains(string(rec.AppendJSON(nil)), "eyJ") {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
		if d := kept(t, rec); !d.Allowed || d.By != "role trust policy" || len(d.Checks) != 1 || d.Checks[0].Resource != roleARN || d.Checks[0].Matched[0].Statement != 1 || d.Context[web.URL+":sub"][0] != "ada-of-desk" {
			t.Errorf("decided as %+v", d)
		}
		if text := whoami(t, got); !strings.Contains(text, "<Arn>arn:aws:sts::123456789012:assumed-role/desk/ada</Arn>") {
			t.Error(text)
		}
	})
	t.Run("an assertion becomes a session, once", func(t *testing.T) {
		got := ask(t, withSAML)
		rec := h.audit.last(t)
		if rec.UserIdentity.Type != "SAMLUser" || rec.UserIdentity.UserName != "ada" || strings.Contains(string(rec.AppendJSON(nil)), response[:100]) {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
		if d := kept(t, rec); !d.Allowed || d.Checks[0].Action != "sts:AssumeRoleWithSAML" || d.Checks[0].Matched[0].Statement != 2 || d.Context["saml:sub"][0] != "ada" {
			t.Errorf("decided as %+v", d)
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
		rec := h.audit.last(t)
		if rec.ErrorCode != "AccessDenied" || rec.UserIdentity.UserName != "bob-of-desk" || strings.Contains(got.text, "nearest") {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
		d := kept(t, rec)
		var nearest analysis.Suggestion
		if err := json.Unmarshal(d.Nearest, &nearest); err != nil || d.Allowed || d.Reason != "because no role trust policy allows the sts:AssumeRoleWithWebIdentity action" || len(d.Checks[0].Matched) != 0 {
			t.Fatalf("decided as %+v (%v)", d, err)
		}
		if c := nearest.Changes[0]; !nearest.Single || c.Do != analysis.Satisfy || c.Policy != "role_desk_trust" || c.Number != 1 || c.Key != web.URL+":sub" || c.Actual[0] != "bob-of-desk" {
			t.Errorf("nearest is %+v", nearest)
		}
	})
	t.Run("a role that does not exist is refused alike, and the record says so", func(t *testing.T) {
		got := ask(t, url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "RoleSessionName": {"ada"}, "WebIdentityToken": {web.Token(t, web.Says(time.Now()))}, "RoleArn": {roleARN + "2"}})
		if got.status != 403 || got.code != "AccessDenied" || !strings.Contains(got.text, "Not authorized to perform sts:AssumeRoleWithWebIdentity") {
			t.Errorf("%d %s", got.status, got.text)
		}
		if d := kept(t, h.audit.last(t)); d.Allowed || d.By != "role trust policy" || d.Checks[0].Resource != roleARN+"2" || d.Nearest != nil {
			t.Errorf("decided as %+v", d)
		}
	})
	t.Run("who signs it all the same is decided about by the token", func(t *testing.T) {
		op := operation(t, "sts", "AssumeRoleWithWebIdentity")
		for sub, status := range map[string]int{"ada-of-desk": 200, "bob-of-desk": 403} {
			says := web.Says(time.Now())
			says["sub"] = sub
			values := url.Values{"Action": {op.Name}, "Version": {"2011-06-15"}, "RoleArn": {roleARN}, "RoleSessionName": {"ada"}, "WebIdentityToken": {web.Token(t, says)}}
			c := &call{method: http.MethodPost, path: "/", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: []byte(values.Encode())}
			c.sign(t, signer(h.root, op), time.Now())
			if got := h.send(t, c.request()); got.status != status {
				t.Errorf("%s: %d %s", sub, got.status, got.text)
			}
			rec := h.audit.last(t)
			if d := kept(t, rec); rec.UserIdentity.Type != "Root" || d.Allowed != (status == 200) || len(d.Checks) != 1 || d.Context[web.URL+":sub"][0] != sub {
				t.Errorf("%s: decided as %+v", sub, d)
			}
		}
	})
	t.Run("an expired token is told as one, and nothing was decided", func(t *testing.T) {
		if got := webID(t, func(c oidctest.Claims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }); got.status != 400 || got.code != "ExpiredTokenException" {
			t.Errorf("%d %s", got.status, got.text)
		}
		if rec := h.audit.last(t); rec.Decision.String() != (audit.Document{}).String() || rec.UserIdentity.UserName != "" {
			t.Errorf("recorded as %s", rec.AppendJSON(nil))
		}
	})
}
