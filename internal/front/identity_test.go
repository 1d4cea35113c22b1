package front

import (
	"encoding/json"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state/statetest"
)

func TestEveryKindOfPrincipalIsRecordedAsCloudTrailDoes(t *testing.T) {
	const account = "123456789012"
	issued := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	session := func(change func(*identity.Session)) *identity.Session {
		s := &identity.Session{Issued: issued, Expires: issued.Add(time.Hour)}
		if change != nil {
			change(s)
		}
		return s
	}
	const attributes = `"attributes":{"creationDate":"2026-11-23T08:00:00Z","mfaAuthenticated":"false"}`
	role := signer{kind: identity.AssumedRole, id: "AROA1:ada", arn: "arn:aws:sts::123456789012:assumed-role/admin/ada", account: account, key: "ASIA1", name: "ada",
		role: "AROA1", issuer: "arn:aws:iam::123456789012:role/ops/admin"}
	federated := signer{kind: identity.FederatedUser, id: account + ":ada", arn: "arn:aws:sts::123456789012:federated-user/ada", account: account, key: "ASIA1", name: "ada",
		issuer: "arn:aws:iam::123456789012:root", session: session(nil)}
	const roleHead = `{"type":"AssumedRole","principalId":"AROA1:ada","arn":"arn:aws:sts::123456789012:assumed-role/admin/ada","accountId":"123456789012",` +
		`"accessKeyId":"ASIA1","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA1","arn":"arn:aws:iam::123456789012:role/ops/admin",` +
		`"accountId":"123456789012","userName":"admin"},`
	const federatedHead = `{"type":"FederatedUser","principalId":"123456789012:ada","arn":"arn:aws:sts::123456789012:federated-user/ada",` +
		`"accountId":"123456789012","accessKeyId":"ASIA1","sessionContext":{"sessionIssuer":`
	with := func(s signer, change func(*signer)) signer { change(&s); return s }
	for _, c := range []struct {
		name string
		who  signer
		want string
	}{
		{"the root", signer{kind: identity.Root, id: account, arn: "arn:aws:iam::123456789012:root", account: account, key: "AKIA1"},
			`{"type":"Root","principalId":"123456789012","arn":"arn:aws:iam::123456789012:root","accountId":"123456789012","accessKeyId":"AKIA1"}`},
		{"a user", signer{kind: identity.IAMUser, id: "AIDA1", arn: "arn:aws:iam::123456789012:user/ops/ada", account: account, key: "AKIA1", name: "ada", user: "AIDA1"},
			`{"type":"IAMUser","principalId":"AIDA1","arn":"arn:aws:iam::123456789012:user/ops/ada","accountId":"123456789012","accessKeyId":"AKIA1","userName":"ada"}`},
		{"a user with GetSessionToken and a second factor", signer{kind: identity.IAMUser, id: "AIDA1", arn: "arn:aws:iam::123456789012:user/ada", account: account, key: "ASIA1",
			name: "ada", user: "AIDA1", session: session(func(s *identity.Session) { s.MFA = issued })},
			`{"type":"IAMUser","principalId":"AIDA1","arn":"arn:aws:iam::123456789012:user/ada","accountId":"123456789012","accessKeyId":"ASIA1","userName":"ada",` +
				`"sessionContext":{"attributes":{"creationDate":"2026-11-23T08:00:00Z","mfaAuthenticated":"true"}}}`},
		{"a role's session", with(role, func(s *signer) { s.session = session(nil) }), roleHead + attributes + `}}`},
		{"a role's session for somebody", with(role, func(s *signer) { s.session = session(func(s *identity.Session) { s.SourceIdentity = "grace" }) }),
			roleHead + attributes + `,"sourceIdentity":"grace"}}`},
		{"a role's session by an OpenID Connect provider", with(role, func(s *signer) {
			s.session = session(func(s *identity.Session) {
				s.Provider = "arn:aws:iam::123456789012:oidc-provider/idp.example.com"
				s.Claims = map[string][]string{"idp.example.com:sub": {"42"}, "idp.example.com:aud": {"app", "b"}, "idp.example.com:amr": {"authenticated"}, "x:sub": nil}
			})
		}), roleHead + `"webIdFederationData":{"federatedProvider":"arn:aws:iam::123456789012:oidc-provider/idp.example.com","attributes":` +
			`{"idp.example.com:aud":"app","idp.example.com:sub":"42"}},` + attributes + `}}`},
		{"a role's session by a SAML provider has no webIdFederationData", with(role, func(s *signer) {
			s.session = session(func(s *identity.Session) {
				s.Provider, s.Claims = "arn:aws:iam::123456789012:saml-provider/idp", map[string][]string{"saml:sub": {"ada"}}
			})
		}), roleHead + attributes + `}}`},
		{"a federated user of the root", federated,
			federatedHead + `{"type":"Root","principalId":"123456789012","arn":"arn:aws:iam::123456789012:root","accountId":"123456789012"},` + attributes + `}}`},
		{"a federated user of a user", with(federated, func(s *signer) { s.user, s.issuer = "AIDA2", "arn:aws:iam::123456789012:user/ops/grace" }),
			federatedHead + `{"type":"IAMUser","principalId":"AIDA2","arn":"arn:aws:iam::123456789012:user/ops/grace","accountId":"123456789012","userName":"grace"},` + attributes + `}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := written(t, c.who.identity()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// written is how a record says who called.
func written(t *testing.T, who audit.UserIdentity) string {
	t.Helper()
	var w struct{ UserIdentity json.RawMessage }
	if err := json.Unmarshal((&audit.Record{UserIdentity: who}).AppendJSON(nil), &w); err != nil {
		t.Fatal(err)
	}
	return string(w.UserIdentity)
}

func TestWhoComesWithAProvidersWordIsRecordedByIt(t *testing.T) {
	const oidc = "arn:aws:iam::123456789012:oidc-provider/IdP.example.com/a"
	a := &authz.Authorizer{DB: statetest.NewDB(t), Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}
	// vouched is a request that was denied: to say who came does not need a role.
	vouched := func(op *shape.Operation, provider string, keys map[string][]string) exchange {
		return exchange{op: op, decision: a.Assume(&authz.Assumption{Op: op, Provider: provider, Actions: []string{"sts:" + op.Name}, Keys: keys, Circumstances: &authz.Circumstances{}})}
	}
	for _, c := range []struct {
		name string
		x    exchange
		want string
	}{
		{"SAML", vouched(sts.AssumeRoleWithSAML.Operation, "arn:aws:iam::123456789012:saml-provider/corp", map[string][]string{"saml:namequalifier": {"q="}, "saml:sub": {"ada"}}),
			`{"type":"SAMLUser","principalId":"q=:ada","userName":"ada","identityProvider":"q="}`},
		{"OpenID Connect", vouched(sts.AssumeRoleWithWebIdentity.Operation, oidc, map[string][]string{"IdP.example.com/a:aud": {"app", "b"}, "IdP.example.com/a:sub": {"42"}}),
			`{"type":"WebIdentityUser","principalId":"` + oidc + `:app:42","userName":"42","identityProvider":"` + oidc + `"}`},
		{"what was not verified is not repeated", exchange{op: sts.AssumeRoleWithSAML.Operation}, `{"type":"SAMLUser"}`},
		{"nor of an OpenID Connect token", exchange{op: sts.AssumeRoleWithWebIdentity.Operation}, `{"type":"WebIdentityUser"}`},
		{"another operation is called by nobody known", exchange{op: sts.GetCallerIdentity.Operation}, `{"type":"Unknown"}`},
		{"and so is none", exchange{}, `{"type":"Unknown"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := written(t, userIdentity(&c.x)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAnswersAreRecordedOfChangesAndOfNewCredentials(t *testing.T) {
	for _, c := range []struct {
		op   *shape.Operation
		want bool
	}{
		{workspaces.CreateWorkspaces.Operation, true}, {workspaces.DescribeWorkspaces.Operation, false}, {iam.GetUser.Operation, false},
		{sts.AssumeRole.Operation, true}, {sts.GetSessionToken.Operation, true}, {sts.GetFederationToken.Operation, true}, {sts.GetCallerIdentity.Operation, false},
		{sts.DecodeAuthorizationMessage.Operation, false},
	} {
		t.Run(c.op.Name, func(t *testing.T) {
			if answered(c.op) != c.want {
				t.Errorf("answered = %t", !c.want)
			}
		})
	}
}
