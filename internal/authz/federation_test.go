package authz_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/sts"
	"carrel/internal/authz"
	"carrel/internal/policy"
	"carrel/internal/state"
)

const corp = "arn:aws:iam::123456789012:saml-provider/corp"

// assumption is one of the role staff by an assertion of corp.
func (w *world) assumption(role *state.Role) *authz.Assumption {
	return &authz.Assumption{Op: sts.AssumeRoleWithSAML.Operation, RoleARN: "arn:aws:iam::123456789012:role/" + role.Name, Role: role.ID, Provider: corp, Actions: []string{"sts:AssumeRoleWithSAML"},
		Keys: map[string][]string{"saml:aud": {"https://signin.aws.amazon.com/saml"}}, Circumstances: &w.at}
}

const staffTrust = `{"Version":"2012-10-17","Statement":[{"Sid":"Staff","Effect":"Allow","Principal":{"Federated":"` + corp + `"},"Action":"sts:AssumeRoleWithSAML",` +
	`"Condition":{"StringEquals":{"saml:aud":"https://signin.aws.amazon.com/saml","aws:FederatedProvider":"` + corp + `"}}}]}`

func TestWhomAnIdentityProviderVouchesFor(t *testing.T) {
	w := newWorld(t)
	role := w.role("staff", staffTrust, state.Permissions{})
	// ask gives what the caller is told, "" when it is allowed, and why.
	ask := func(change func(*authz.Assumption)) (text, reason string) {
		q := w.assumption(role)
		change(q)
		d := w.a.Assume(q)
		defer d.Release()
		if d.Allowed {
			return "", ""
		}
		return d.Denial(context.Background()).Message, d.Reason
	}
	if text, _ := ask(func(*authz.Assumption) {}); text != "" {
		t.Error(text)
	}
	const saml, noTrust = "Not authorized to perform sts:AssumeRoleWithSAML", "because no role trust policy allows the sts:AssumeRoleWithSAML action"
	closed := parse(t, policy.Endpoint, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"workspaces:*","Resource":"*"}}`)
	for name, c := range map[string]struct {
		change       func(*authz.Assumption)
		text, reason string
	}{
		"another provider": {func(q *authz.Assumption) { q.Provider += "2" }, saml, noTrust},
		"another audience": {func(q *authz.Assumption) { q.Keys = map[string][]string{"saml:aud": {"https://elsewhere.example"}} }, saml, noTrust},
		"no audience":      {func(q *authz.Assumption) { q.Keys = nil }, saml, noTrust},
		"tags, which are not named": {func(q *authz.Assumption) { q.Actions = append(q.Actions, "sts:TagSession") },
			"Not authorized to perform sts:TagSession", "because no role trust policy allows the sts:TagSession action"},
		"another operation": {func(q *authz.Assumption) { q.Actions = []string{"sts:AssumeRoleWithWebIdentity"} },
			"Not authorized to perform sts:AssumeRoleWithWebIdentity", "because no role trust policy allows the sts:AssumeRoleWithWebIdentity action"},
		"nothing":                    {func(q *authz.Assumption) { q.Actions = nil }, saml, "because no action was asked for"},
		"a role that does not exist": {func(q *authz.Assumption) { q.RoleARN, q.Role = q.RoleARN+"2", "" }, saml, noTrust},
		"a role of another account":  {func(q *authz.Assumption) { q.RoleARN = "arn:aws:iam::999999999999:role/staff" }, saml, noTrust},
		"a role that was not found":  {func(q *authz.Assumption) { q.Role = "" }, saml, noTrust},
		"a role made anew since":     {func(q *authz.Assumption) { q.Role = "AROAEXAMPLEEXAMPLE02" }, saml, noTrust},
		"an endpoint that does not let it": {func(q *authz.Assumption) {
			at := w.at
			at.Endpoint = &authz.Endpoint{ID: "vpce-1", VPC: "vpc-1", Policy: closed}
			q.Circumstances = &at
		}, saml, "because no VPC endpoint policy allows the sts:AssumeRoleWithSAML action"},
	} {
		if text, reason := ask(c.change); text != c.text || reason != c.reason {
			t.Errorf("%s: %q, %q", name, text, reason)
		}
	}
	w.update(func(tx *state.Tx) { state.Delete(tx, state.Roles, string(role.ID)) })
	if text, _ := ask(func(*authz.Assumption) {}); text != saml {
		t.Errorf("a role that was deleted: %q", text)
	}
}

func TestAssumptionsAreExplained(t *testing.T) {
	w := newWorld(t)
	role := w.role("staff", staffTrust, state.Permissions{})
	w.update(func(tx *state.Tx) {
		r := state.Clone(role)
		r.Tags = map[string]string{"team": "ops"}
		state.Put(tx, state.Roles, r)
	})
	explain := func(change func(*authz.Assumption)) (x authz.Explanation) {
		q := w.assumption(role)
		change(q)
		d := w.a.Assume(q)
		defer d.Release()
		if err := json.Unmarshal(d.AppendJSON(nil), &x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	x := explain(func(*authz.Assumption) {})
	if len(x.Checks) != 1 {
		t.Fatalf("%+v", x)
	}
	c := x.Checks[0]
	if !x.Allowed || x.By != "role trust policy" || x.Reason != "" || c.Action != "sts:AssumeRoleWithSAML" || c.Resource != "arn:aws:iam::123456789012:role/staff" || c.Decision != "allowed" || c.Account != "123456789012" ||
		!slices.Equal(c.Matched, []authz.Match{{Kind: "role trust policy", Policy: "role_staff_trust", Sid: "Staff", Statement: 1, Effect: "Allow"}}) {
		t.Errorf("%+v", x)
	}
	says(t, x.Context, map[string][]string{"saml:aud": {"https://signin.aws.amazon.com/saml"}, "aws:FederatedProvider": {corp}, "aws:SourceIp": {"192.0.2.7"}, "aws:SecureTransport": {"true"},
		"aws:RequestedRegion": {"us-east-1"}, "aws:PrincipalArn": nil, "aws:PrincipalType": nil})
	says(t, c.Context, map[string][]string{"aws:ResourceTag/team": {"ops"}, "iam:ResourceTag/team": {"ops"}})

	x = explain(func(q *authz.Assumption) { q.Actions = append(q.Actions, "sts:SetSourceIdentity") })
	if x.Allowed || x.By != "role trust policy" || len(x.Checks) != 2 || !slices.Equal([]string{x.Checks[0].Decision, x.Checks[1].Decision}, []string{"allowed", "implicitDeny"}) || len(x.Checks[1].Matched) != 0 {
		t.Errorf("%+v", x)
	}
}

func TestAnAssumptionIsDecidedUnderTheCircumstancesThatComeWithTheContext(t *testing.T) {
	w := newWorld(t)
	role := w.role("staff", staffTrust, state.Permissions{})
	q := w.assumption(role)
	if err := w.a.MayAssume(t.Context(), q); err == nil || !strings.Contains(err.Error(), "circumstances") {
		t.Errorf("without: %v", err)
	}
	l := &authz.Later{Circumstances: &w.at}
	ctx := authz.WithLater(t.Context(), l)
	if err := w.a.MayAssume(ctx, q); err != nil || l.Decision == nil || !l.Decision.Allowed {
		t.Errorf("%v, %+v", err, l.Decision)
	}
	other := *q
	other.Provider += "2"
	if err := w.a.MayAssume(ctx, &other); err == nil || l.Decision.Allowed || !slices.Equal(l.Decision.Key("aws:FederatedProvider"), []string{corp + "2"}) || l.Decision.Key("aws:username") != nil {
		t.Errorf("%v, %+v", err, l.Decision)
	}
	l.Decision.Release()
}
