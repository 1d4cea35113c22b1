package policy

import (
	"fmt"
	"strings"
	"testing"
)

var (
	everything = `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	nothing    = `{"Statement":{"Effect":"Allow","Action":"none:*","Resource":"*"}}`
	forbidden  = `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`
)

// named is a resource's policy that allows, or denies, whom it names.
func named(t *testing.T, kind Kind, effect, principal string) *Policy {
	t.Helper()
	resource := `,"Resource":"*"`
	if kind == Trust {
		resource = ""
	}
	return must(t, kind, `{"Statement":{"Effect":"`+effect+`","Action":"sts:*","Principal":`+principal+resource+`}}`)
}

// TestOrderOfEvaluation: reference 5.1, each row one path through its nine steps. caller is a place in callers.
func TestOrderOfEvaluation(t *testing.T) {
	const nobody, theRoot, user, stranger, session, federated, rootFederated, service, web = 0, 1, 2, 3, 4, 5, 6, 7, 8
	yes, no, deny := must(t, Identity, everything), must(t, Identity, nothing), must(t, Identity, forbidden)
	to := func(principal string) *Policy { return named(t, Resource, "Allow", principal) }
	trusts := func(principal string) *Policy { return named(t, Trust, "Allow", principal) }
	quote := func(arn string) string { return `{"AWS":"` + arn + `"}` }
	filter, shut, ban := named(t, Endpoint, "Allow", `"*"`), named(t, Endpoint, "Allow", `{"AWS":"999999999999"}`), named(t, Endpoint, "Deny", `"*"`)
	for _, c := range []struct {
		name   string
		caller int
		set    Set
		want   Verdict
	}{
		{"nothing at all", user, Set{}, Verdict{By: Identity}},
		{"identity allows", user, Set{Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"identity does not allow", user, Set{Identity: no}, Verdict{By: Identity}},
		{"identity denies", user, Set{Identity: deny}, Verdict{Decision: ExplicitDeny, By: Identity}},
		{"the root is allowed", theRoot, Set{}, Verdict{Decision: Allowed, By: Identity, Implicitly: true}},
		{"the root under a guardrail", theRoot, Set{Guardrails: []*Policy{no}}, Verdict{By: Guardrail}},
		{"the root through an endpoint", theRoot, Set{Endpoint: shut}, Verdict{By: Endpoint}},
		{"guardrails allow", user, Set{Guardrails: []*Policy{yes, yes}, Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"one of the guardrails does not", user, Set{Guardrails: []*Policy{yes, no, yes}, Identity: yes}, Verdict{By: Guardrail}},
		{"the first guardrail does not", user, Set{Guardrails: []*Policy{no, yes}, Identity: yes}, Verdict{By: Guardrail}},
		{"a guardrail denies", user, Set{Guardrails: []*Policy{yes, deny}, Identity: yes}, Verdict{Decision: ExplicitDeny, By: Guardrail}},
		{"a guardrail denies after one that does not allow", user, Set{Guardrails: []*Policy{no, deny, no}, Identity: yes}, Verdict{Decision: ExplicitDeny, By: Guardrail}},
		{"a guardrail denies before one that does not allow", user, Set{Guardrails: []*Policy{deny, no}, Identity: yes}, Verdict{Decision: ExplicitDeny, By: Guardrail}},
		{"guardrails are no concern of services", service, Set{Guardrails: []*Policy{deny}, Resource: to(`{"Service":"workspaces.amazonaws.com"}`)}, Verdict{Decision: Allowed, By: Resource}},
		{"boundary allows", user, Set{Identity: yes, Boundary: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"boundary does not", user, Set{Identity: yes, Boundary: no}, Verdict{By: Boundary}},
		{"boundary denies", user, Set{Identity: yes, Boundary: deny}, Verdict{Decision: ExplicitDeny, By: Boundary}},
		{"a boundary grants nothing", user, Set{Boundary: yes}, Verdict{By: Identity}},
		{"session without a policy", session, Set{Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"session policy allows", session, Set{Identity: yes, Session: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"session policy does not", session, Set{Identity: yes, Session: no}, Verdict{By: Session}},
		{"session policy denies", session, Set{Identity: yes, Session: deny}, Verdict{Decision: ExplicitDeny, By: Session}},
		{"a session policy grants nothing", session, Set{Session: yes}, Verdict{By: Identity}},
		{"federated user without a session policy", federated, Set{Identity: yes}, Verdict{By: Session}},
		{"federated user with one", federated, Set{Identity: yes, Session: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"federated user of a user who may not", federated, Set{Session: yes}, Verdict{By: Identity}},
		{"federated user of the root", rootFederated, Set{Session: yes}, Verdict{Decision: Allowed, By: Identity, Implicitly: true}},
		{"federated user of the root without a session policy", rootFederated, Set{}, Verdict{By: Session}},
		{"endpoint allows", user, Set{Identity: yes, Endpoint: filter}, Verdict{Decision: Allowed, By: Identity}},
		{"endpoint does not", user, Set{Identity: yes, Endpoint: shut}, Verdict{By: Endpoint}},
		{"endpoint denies", user, Set{Identity: yes, Endpoint: ban}, Verdict{Decision: ExplicitDeny, By: Endpoint}},
		{"an endpoint grants nothing", user, Set{Endpoint: filter}, Verdict{By: Identity}},
		{"the identity's refusal comes before the endpoint's", user, Set{Endpoint: shut}, Verdict{By: Identity}},
		{"resource names the user", user, Set{Resource: to(quote(ada)), Boundary: no}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the user, through an endpoint", user, Set{Resource: to(quote(ada)), Endpoint: shut}, Verdict{By: Endpoint}},
		{"resource names the user, under a guardrail", user, Set{Resource: to(quote(ada)), Guardrails: []*Policy{no}}, Verdict{By: Guardrail}},
		{"resource names the user, the boundary denies", user, Set{Resource: to(quote(ada)), Boundary: deny}, Verdict{Decision: ExplicitDeny, By: Boundary}},
		{"resource names the account", user, Set{Resource: to(quote(root))}, Verdict{By: Identity}},
		{"resource names the account, identity allows", user, Set{Resource: to(quote(root)), Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"resource names the account, identity allows, boundary does not", user, Set{Resource: to(quote(root)), Identity: yes, Boundary: no}, Verdict{By: Boundary}},
		{"resource names everybody", user, Set{Resource: to(`"*"`), Boundary: no}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the session", session, Set{Resource: to(quote(shift)), Boundary: no, Session: no}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the session, session policy denies", session, Set{Resource: to(quote(shift)), Session: deny}, Verdict{Decision: ExplicitDeny, By: Session}},
		{"resource names the role", session, Set{Resource: to(quote(desk))}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the role, boundary does not", session, Set{Resource: to(quote(desk)), Boundary: no}, Verdict{By: Boundary}},
		{"resource names the role, session policy does not", session, Set{Resource: to(quote(desk)), Session: no}, Verdict{By: Session}},
		{"resource names the role, both do", session, Set{Resource: to(quote(desk)), Boundary: yes, Session: yes}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the federated session", federated, Set{Resource: to(quote(guest))}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names the user behind it", federated, Set{Resource: to(quote(ada))}, Verdict{By: Session}},
		{"resource names the user behind it, session policy allows", federated, Set{Resource: to(quote(ada)), Session: yes}, Verdict{Decision: Allowed, By: Resource}},
		{"resource names another", user, Set{Resource: to(quote(desk)), Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"resource denies", user, Set{Resource: named(t, Resource, "Deny", quote(ada)), Identity: yes}, Verdict{Decision: ExplicitDeny, By: Resource}},
		{"resource denies the root", theRoot, Set{Resource: named(t, Resource, "Deny", `"*"`)}, Verdict{Decision: ExplicitDeny, By: Resource}},
		{"trust names the user", user, Set{Trust: true, Resource: trusts(quote(ada))}, Verdict{Decision: Allowed, By: Trust}},
		{"trust names nobody that asks", user, Set{Trust: true, Resource: trusts(quote(desk)), Identity: yes}, Verdict{By: Trust}},
		{"trust names nobody that asks, the root", theRoot, Set{Trust: true, Resource: trusts(quote(desk))}, Verdict{By: Trust}},
		{"trust names the account", user, Set{Trust: true, Resource: trusts(quote(root))}, Verdict{By: Identity}},
		{"trust names the account, identity allows", user, Set{Trust: true, Resource: trusts(quote(root)), Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"trust denies", user, Set{Trust: true, Resource: named(t, Trust, "Deny", `"*"`), Identity: yes}, Verdict{Decision: ExplicitDeny, By: Trust}},
		{"trust names a provider", web, Set{Trust: true, Resource: trusts(`{"Federated":"accounts.google.com"}`)}, Verdict{Decision: Allowed, By: Trust}},
		{"trust names another provider", web, Set{Trust: true, Resource: trusts(`{"Federated":"www.amazon.com"}`)}, Verdict{By: Trust}},
		{"a service is not named", service, Set{Identity: yes}, Verdict{By: Resource}},
		{"nobody is let in by an identity policy", nobody, Set{Identity: yes}, Verdict{By: Resource}},
		{"nobody is everybody", nobody, Set{Resource: to(`"*"`)}, Verdict{Decision: Allowed, By: Resource}},
		{"another account's resource, both allow", stranger, Set{ResourceAccount: "123456789012", Resource: to(`{"AWS":"999999999999"}`), Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"another account's resource, the caller's account does not", stranger, Set{ResourceAccount: "123456789012", Resource: to(`{"AWS":"arn:aws:iam::999999999999:user/eve"}`)}, Verdict{By: Identity}},
		{"another account's resource does not", stranger, Set{ResourceAccount: "123456789012", Resource: to(quote(root)), Identity: yes}, Verdict{By: Resource}},
		{"another account's resource without a policy", stranger, Set{ResourceAccount: "123456789012", Identity: yes}, Verdict{By: Resource}},
		{"another account's role, direct and with a boundary", stranger, Set{ResourceAccount: "123456789012", Trust: true, Resource: trusts(`{"AWS":"arn:aws:iam::999999999999:user/eve"}`), Identity: yes, Boundary: no}, Verdict{By: Boundary}},
		{"another account names a role", session, Set{ResourceAccount: "999999999999", Resource: to(quote(desk))}, Verdict{By: Identity}},
		{"another account names a role, identity allows", session, Set{ResourceAccount: "999999999999", Resource: to(quote(desk)), Identity: yes}, Verdict{Decision: Allowed, By: Identity}},
		{"the own account named is no other", user, Set{ResourceAccount: "123456789012", Resource: to(quote(ada))}, Verdict{Decision: Allowed, By: Resource}},
		{"a service and a resource of an account", service, Set{ResourceAccount: "123456789012", Resource: to(`{"Service":"workspaces.amazonaws.com"}`)}, Verdict{Decision: Allowed, By: Resource}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ask("sts:AssumeRole", "arn:aws:iam::123456789012:role/desk")
			r.Principal = callers[c.caller]
			if got := c.set.Decide(r, nil); got != c.want {
				t.Errorf("%+v, not %+v", got, c.want)
			}
			trace := &Trace{}
			if got := c.set.Decide(r, trace); got != c.want {
				t.Errorf("with a trace: %+v", got)
			}
			for _, step := range trace.Steps {
				if step.Policy == nil || len(step.Matched) != step.Result.Matched {
					t.Errorf("%+v", step)
				}
			}
		})
	}
}

// TestServiceLinkedRoles: reference 5.1 step 4.
func TestServiceLinkedRoles(t *testing.T) {
	r := ask("ds:x", "*")
	r.Principal = callers[4]
	set := &Set{Identity: must(t, Identity, everything), Guardrails: []*Policy{must(t, Identity, forbidden)}}
	if got := set.Decide(r, nil); got.Decision != ExplicitDeny {
		t.Errorf("%+v", got)
	}
	r.Principal.ServiceLinked = true
	if got := set.Decide(r, nil); got.Decision != Allowed {
		t.Errorf("%+v", got)
	}
}

// TestAnExplicitDenyIsToldOfTheFirstInOrder: which one AWS tells is not documented; ours does not change.
func TestAnExplicitDenyIsToldOfTheFirstInOrder(t *testing.T) {
	deny, denyAll := must(t, Identity, forbidden), named(t, Endpoint, "Deny", `"*"`)
	set := &Set{Guardrails: []*Policy{deny}, Resource: denyAll, Identity: deny, Boundary: deny, Session: deny, Endpoint: denyAll}
	r := ask("sts:AssumeRole", "*")
	for _, step := range []struct {
		by     Kind
		remove func()
	}{{Guardrail, func() { set.Guardrails = nil }}, {Resource, func() { set.Resource = nil }}, {Identity, func() { set.Identity = nil }}, {Boundary, func() { set.Boundary = nil }}, {Session, func() { set.Session = nil }}, {Endpoint, func() { set.Endpoint = nil }}} {
		if got := set.Decide(r, nil); got != (Verdict{Decision: ExplicitDeny, By: step.by}) {
			t.Errorf("%+v, not %v", got, step.by)
		}
		step.remove()
	}
}

// TestReasons: reference 5.7.
func TestReasons(t *testing.T) {
	var got []string
	for k := Identity; k <= Endpoint; k++ {
		got = append(got, Verdict{By: k}.Because("ds:X"), Verdict{Decision: ExplicitDeny, By: k}.Because("ds:X"))
	}
	got = append(got, Verdict{Decision: Allowed}.Because("ds:X"))
	want := `because no identity-based policy allows the ds:X action
with an explicit deny in an identity-based policy
because no permissions boundary allows the ds:X action
with an explicit deny in a permissions boundary
because no session policy allows the ds:X action
with an explicit deny in a session policy
because no service control policy allows the ds:X action
with an explicit deny in a service control policy
because no role trust policy allows the ds:X action
with an explicit deny in a role trust policy
because no resource-based policy allows the ds:X action
with an explicit deny in a resource-based policy
because no VPC endpoint policy allows the ds:X action
with an explicit deny in a VPC endpoint policy
`
	if strings.Join(got, "\n") != want {
		t.Error(strings.Join(got, "\n"))
	}
}

func TestATraceTellsWhatMatchedWhere(t *testing.T) {
	two := must(t, Identity, `{"Statement":[{"Effect":"Allow","Action":"none:*","Resource":"*"},{"Effect":"Allow","Action":"ds:*","Resource":"*"},{"Sid":"b","Effect":"Allow","Action":"*","Resource":"*"}]}`)
	set := &Set{Guardrails: []*Policy{two}, Identity: two, Boundary: must(t, Boundary, nothing)}
	trace := &Trace{}
	for range 2 {
		trace.Reset()
		set.Decide(ask("ds:x", "*"), trace)
		if len(trace.ids) != 4 {
			t.Errorf("room for %d ids is kept", len(trace.ids))
		}
		var got []string
		for _, s := range trace.Steps {
			got = append(got, fmt.Sprintf("%v %v %v", s.Kind, s.Result.Decision, s.Matched))
		}
		if want := "service control policy allowed [1 2];identity-based policy allowed [1 2];permissions boundary implicitDeny []"; strings.Join(got, ";") != want {
			t.Error(strings.Join(got, ";"))
		}
	}
}
