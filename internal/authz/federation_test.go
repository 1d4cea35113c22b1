package authz_test

import (
	"testing"

	"carrel/internal/authz"
	"carrel/internal/policy"
	"carrel/internal/state"
)

func TestWhomAnIdentityProviderVouchesFor(t *testing.T) {
	w := newWorld(t)
	const provider = "arn:aws:iam::123456789012:saml-provider/corp"
	role := w.role("staff", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"`+provider+`"},"Action":"sts:AssumeRoleWithSAML","Condition":{"StringEquals":{"saml:aud":"https://signin.aws.amazon.com/saml"}}}]}`, state.Permissions{})
	ask := func(change func(*authz.Assumption)) bool {
		q := &authz.Assumption{Role: role, Provider: provider, Actions: []string{"sts:AssumeRoleWithSAML"},
			Keys: map[string][]string{"saml:aud": {"https://signin.aws.amazon.com/saml"}}, Circumstances: &w.at}
		change(q)
		return w.a.MayAssume(q)
	}
	if !ask(func(*authz.Assumption) {}) {
		t.Error("refused")
	}
	closed := parse(t, policy.Endpoint, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"workspaces:*","Resource":"*"}}`)
	for name, change := range map[string]func(*authz.Assumption){
		"another provider":          func(q *authz.Assumption) { q.Provider += "2" },
		"another audience":          func(q *authz.Assumption) { q.Keys = map[string][]string{"saml:aud": {"https://elsewhere.example"}} },
		"no audience":               func(q *authz.Assumption) { q.Keys = nil },
		"tags, which are not named": func(q *authz.Assumption) { q.Actions = append(q.Actions, "sts:TagSession") },
		"another operation":         func(q *authz.Assumption) { q.Actions = []string{"sts:AssumeRoleWithWebIdentity"} },
		"nothing":                   func(q *authz.Assumption) { q.Actions = nil },
		"an endpoint that does not let it": func(q *authz.Assumption) {
			at := w.at
			at.Endpoint = &authz.Endpoint{ID: "vpce-1", VPC: "vpc-1", Policy: closed}
			q.Circumstances = &at
		},
	} {
		if ask(change) {
			t.Errorf("%s is let in", name)
		}
	}
	w.update(func(tx *state.Tx) { state.Delete(tx, state.Roles, string(role.ID)) })
	if ask(func(*authz.Assumption) {}) {
		t.Error("a role that was deleted")
	}
}
