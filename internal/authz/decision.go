package authz

import (
	"iter"
	"slices"

	"carrel/internal/api/shape"
	"carrel/internal/identity"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// Decision is allow or deny with all its reasons. It is used again after Release.
type Decision struct {
	Allowed bool
	// Resource is the ARN that was denied ("*" for an action without one); empty when allowed, or when nothing was looked at.
	Resource string
	// Reason is why it was denied, in the words that AWS's denials end in ("because no identity-based policy allows ..."), or why it is allowed
	// whatever policies say.
	Reason string
	// Checks are the pairs of an action and a resource that were asked for, in order; the last one is what denied.
	Checks []Check

	owner     *Authorizer
	principal identity.Principal
	op        *shape.Operation
	action    policy.Action
	snapshot  *state.Snapshot
	subject   *subject
	request   policy.Request
	set       policy.Set
	trace     policy.Trace
	// base is how many condition keys all checks have in common.
	base int
}

// Check is one pair of an action and a resource, and what the policies say to it.
type Check struct {
	Action, Resource string
	// Account owns the resource, empty for an action without one. Keys are the condition keys that this check has besides those of all:
	// the tags of the request's item and of the resource, by their folded names.
	Account string
	Keys    map[string][]string
	Verdict policy.Verdict
	// steps are where its steps stand in the trace. role is whose trust policy was asked.
	steps [2]int
	role  *state.Role
}

// Match is a statement that matched.
type Match struct {
	// Kind is the kind of policy in the words of AWS's denials ("identity-based policy").
	Kind string `json:"kind"`
	// Policy names the document as the policy simulator does ("user_ada_Own", an ARN), Sid and Statement the statement, counted from 1.
	Policy    string `json:"policy"`
	Sid       string `json:"sid,omitempty"`
	Statement int    `json:"statement"`
	Effect    string `json:"effect"`
}

// Release gives the Decision back: nothing of it may be used afterwards.
func (d *Decision) Release() {
	a := d.owner
	d.request.Rewind(0)
	d.request.SetResource("")
	d.trace.Reset()
	clear(d.Checks)
	*d = Decision{Checks: d.Checks[:0], request: d.request, trace: d.trace}
	a.pool.Put(d)
}

func (d *Decision) deny(resource, reason string) {
	d.Allowed, d.Resource, d.Reason = false, resource, reason
}

// Matches are the statements that matched in one check.
func (d *Decision) Matches(c *Check) []Match { return slices.Collect(d.matches(c)) }

func (d *Decision) matches(c *Check) iter.Seq[Match] {
	return func(yield func(Match) bool) {
		for _, s := range d.trace.Steps[c.steps[0]:c.steps[1]] {
			sources := d.sources(s.Kind, c)
			for _, id := range s.Matched {
				st, document, place := s.Policy.Statement(int(id))
				m := Match{Kind: s.Kind.String(), Statement: place + 1, Sid: st.Sid, Effect: st.Effect.String()}
				if document < len(sources) {
					m.Policy = sources[document].ID
				}
				if !yield(m) {
					return
				}
			}
		}
	}
}

// Key gives the values of a condition key that all checks had, none when it is missing.
func (d *Decision) Key(name string) []string { return d.request.Values(policy.NewKey(name)) }

// Question is the check that was denied, as it was asked, for whoever looks for what would have allowed it: the request, all policies, and the
// documents that a kind of policy was compiled from. Nil when nothing was asked, or all was allowed.
func (d *Decision) Question() (*policy.Request, *policy.Set, func(policy.Kind) []permissions.Source) {
	if d.Allowed || len(d.Checks) == 0 {
		return nil, nil, nil
	}
	last := &d.Checks[len(d.Checks)-1]
	return &d.request, &d.set, func(k policy.Kind) []permissions.Source { return d.sources(k, last) }
}

// sources are the documents that a kind of policy was compiled from.
func (d *Decision) sources(k policy.Kind, c *Check) []permissions.Source {
	switch k {
	case policy.Identity:
		return d.subject.identitySources
	case policy.Boundary:
		return d.subject.boundarySources
	case policy.Session:
		return d.subject.sessionSources
	case policy.Guardrail:
		return d.subject.guardrailSources
	case policy.Trust:
		if c.role != nil {
			return []permissions.Source{{Type: "resource", ID: "role_" + c.role.Name + "_trust", Text: c.role.Trust}}
		}
	}
	return nil
}
