package policy

import "strings"

// Set is every policy that applies to a request (reference 5.1). A nil policy is one that there is none of: no boundary limits nothing, no
// identity policy allows nothing.
type Set struct {
	// Guardrails must each allow. They do not apply to service-linked roles, nor to callers outside of any account.
	Guardrails []*Policy
	// Resource is the resource's own policy. Trust tells that it is a role's trust policy, without whose Allow nothing goes.
	Resource *Policy
	Trust    bool
	// ResourceAccount owns the resource; empty for the caller's own account.
	ResourceAccount string
	// Identity are the policies of the user with its groups', or of the role; for a federated session those of the user that made it.
	Identity *Policy
	Boundary *Policy
	Session  *Policy
	// Endpoint is the policy of the VPC endpoint that the request came through. It only filters.
	Endpoint *Policy
}

// Verdict is the decision of a Set and which policy made it.
type Verdict struct {
	Decision Decision
	// By is the kind of policy that denied, or that allowed.
	By Kind
	// Implicitly tells of an Allowed that no policy said: the account's root.
	Implicitly bool
}

// Trace keeps which statements matched, policy by policy. It is used again after Reset and then does not allocate.
type Trace struct {
	Steps []Step
	ids   []int32
}

// Step is one policy's part in a verdict.
type Step struct {
	Kind   Kind
	Policy *Policy
	Result Result
	// Matched are the ids of the statements that matched.
	Matched []int32
}

// Reset forgets the steps.
func (t *Trace) Reset() { t.Steps, t.ids = t.Steps[:0], t.ids[:0] }

// evaluate asks one policy and keeps the answer when somebody wants to know.
func (t *Trace) evaluate(k Kind, p *Policy, r *Request) Result {
	if t == nil || p == nil {
		return p.Evaluate(r, nil)
	}
	from := len(t.ids)
	for range p.statements {
		t.ids = append(t.ids, 0)
	}
	res := p.Evaluate(r, t.ids[from:])
	t.ids = t.ids[:from+res.Matched]
	t.Steps = append(t.Steps, Step{Kind: k, Policy: p, Result: res, Matched: t.ids[from : from+res.Matched : from+res.Matched]})
	return res
}

// results are what the policies of a Set say.
type results struct {
	guardrail                                       Result // the first that does not allow
	guarded                                         bool   // there is a guardrail that applies
	resource, identity, boundary, session, endpoint Result
}

// Decide evaluates the set. Every policy is asked, so that an explicit deny is found wherever it stands. t may be nil.
func (s *Set) Decide(r *Request, t *Trace) Verdict {
	if r.Action.folded == "" {
		return Verdict{By: Identity}
	}
	var res results
	if p := &r.Principal; p.inAccount() && !p.ServiceLinked {
		s.askGuardrails(r, t, &res)
	}
	res.resource = t.evaluate(s.resourceKind(), s.Resource, r)
	res.identity = t.evaluate(Identity, s.Identity, r)
	res.boundary = t.evaluate(Boundary, s.Boundary, r)
	res.session = t.evaluate(Session, s.Session, r)
	res.endpoint = t.evaluate(Endpoint, s.Endpoint, r)
	if v, denied := s.explicit(&res); denied {
		return v
	}
	if res.guarded && res.guardrail.Decision != Allowed {
		return Verdict{By: Guardrail}
	}
	v := s.grant(&r.Principal, &res)
	if v.Decision == Allowed && s.Endpoint != nil && res.endpoint.Decision != Allowed {
		return Verdict{By: Endpoint}
	}
	return v
}

func (s *Set) askGuardrails(r *Request, t *Trace, res *results) {
	for _, g := range s.Guardrails {
		said := t.evaluate(Guardrail, g, r)
		if !res.guarded || res.guardrail.Decision == Allowed || said.Decision == ExplicitDeny {
			res.guardrail = said
		}
		res.guarded = true
	}
}

// explicit finds an explicit deny. Which is told when there are several is not documented; the order of 5.1 is taken.
func (s *Set) explicit(res *results) (Verdict, bool) {
	for _, e := range [...]struct {
		by  Kind
		res Result
	}{{Guardrail, res.guardrail}, {s.resourceKind(), res.resource}, {Identity, res.identity}, {Boundary, res.boundary}, {Session, res.session}, {Endpoint, res.endpoint}} {
		if e.res.Decision == ExplicitDeny {
			return Verdict{Decision: ExplicitDeny, By: e.by}, true
		}
	}
	return Verdict{}, false
}

// grant looks for who allows, once nothing denies explicitly (steps 5 to 8).
func (s *Set) grant(p *Principal, res *results) Verdict {
	grant := res.resource.Grant
	crossing := s.ResourceAccount != "" && s.ResourceAccount != p.Account
	switch {
	case grant == NoGrant && (s.Trust || crossing || !p.inAccount()):
		return Verdict{By: s.resourceKind()}
	case grant == DirectGrant && !crossing, !p.inAccount():
		return Verdict{Decision: Allowed, By: s.resourceKind()}
	}
	v := Verdict{Decision: Allowed, By: Identity}
	switch {
	case grant == RoleGrant && !crossing:
		v.By = s.resourceKind()
	case p.rootPowers():
		v.Implicitly = true
	case res.identity.Decision != Allowed:
		return Verdict{By: Identity}
	}
	if s.Boundary != nil && res.boundary.Decision != Allowed {
		return Verdict{By: Boundary}
	}
	// A federated user has what its session policy and its maker's policies both allow: without a session policy that is nothing.
	if (s.Session != nil || p.Type == FederatedUser) && res.session.Decision != Allowed {
		return Verdict{By: Session}
	}
	return v
}

func (s *Set) resourceKind() Kind {
	if s.Trust {
		return Trust
	}
	return Resource
}

// inAccount tells whether p is an identity of an account, which identity policies apply to.
func (p *Principal) inAccount() bool {
	return p.Type == Root || p.Type == User || p.Type == RoleSession || p.Type == FederatedUser
}

// rootPowers tells whether p may do everything that no filter forbids: the root, or a session that it has made.
func (p *Principal) rootPowers() bool {
	return p.Type == Root || p.Type == FederatedUser && strings.HasSuffix(p.Issuer, ":root")
}

// Because is the end of AWS's denial, after "is not authorized to perform: ACTION on resource: ARN " (reference 5.7). It is empty for an Allowed.
func (v Verdict) Because(action string) string {
	switch v.Decision {
	case Allowed:
		return ""
	case ExplicitDeny:
		article := "a "
		if v.By == Identity {
			article = "an "
		}
		return "with an explicit deny in " + article + v.By.String()
	}
	return "because no " + v.By.String() + " allows the " + action + " action"
}
