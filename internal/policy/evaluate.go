package policy

import "math/bits"

// Decision is what a policy says.
type Decision uint8

// The decisions. The zero value denies.
const (
	ImplicitDeny Decision = iota
	ExplicitDeny
	Allowed
)

// String is the decision as the policy simulator names it.
func (d Decision) String() string { return [...]string{"implicitDeny", "explicitDeny", "allowed"}[d] }

// Result is what one policy says to a request.
type Result struct {
	Decision Decision
	// Grant tells of an Allowed by a policy that names principals how they were named.
	Grant Grant
	// Matched counts the statements that matched.
	Matched int
}

// element is a part of a statement that did not match; none when all did.
type element uint8

const (
	none element = iota
	elementPrincipal
	elementAction
	elementResource
	elementVariableInResource // a variable has no value
	elementCondition
	elementVariable // one of a condition has no value
)

// Evaluate decides a request and writes the ids of the statements that match into matched, in order, as far as there is room. It is given
// any policy, also nil, and any request, and does not allocate once the request has been used.
func (p *Policy) Evaluate(r *Request, matched []int32) Result {
	var res Result
	if p == nil {
		return res
	}
	for w, word := range p.index.candidates(r) {
		for ; word != 0; word &= word - 1 {
			id := w*64 + bits.TrailingZeros64(word)
			s := &p.statements[id]
			if failed, _ := s.test(r); failed != none {
				continue
			}
			if res.Matched < len(matched) {
				matched[res.Matched] = int32(id)
			}
			res.Matched++
			if s.effect == Deny {
				res.Decision = ExplicitDeny
			} else {
				res.allow(s.grant(&r.Principal))
			}
		}
	}
	return res
}

// allow takes an Allow in. A Deny that matched before it stays; grants of a denied request mean nothing and are not given.
func (res *Result) allow(g Grant) {
	if res.Decision != ExplicitDeny {
		res.Decision = Allowed
	}
	res.Grant = max(res.Grant, g)
}

// test gives the first element that does not match, and of Condition which one.
func (s *statement) test(r *Request) (element, int) {
	if s.principals != nil {
		if named := s.principals.grant(&r.Principal) != NoGrant; named == s.notPrincipal {
			return elementPrincipal, 0
		}
	}
	// A request without an action was never filled in: not even a star is for it.
	if r.Action.folded == "" || s.matchAction(r.Action.folded) == s.notAction {
		return elementAction, 0
	}
	if failed := s.testResource(r); failed != none {
		return failed, 0
	}
	for i := range s.conditions {
		switch s.conditions[i].test(r) {
		case fails:
			return elementCondition, i
		case unresolved:
			return elementVariable, i
		}
	}
	return none, 0
}

func (s *statement) matchAction(action string) bool {
	for i := range s.actions {
		if s.actions[i].match(action, nil) {
			return true
		}
	}
	return false
}

// testResource matches Resource or NotResource. A variable that has no value makes the statement not match, whichever it stands in and
// whatever else is listed beside it (reference 5.3).
func (s *statement) testResource(r *Request) element {
	found := s.anyResource
	for i := range s.resources {
		if s.resources[i].unresolved(r) != nil {
			return elementVariableInResource
		}
		found = found || r.isARN && s.resources[i].match(&r.arn, r)
	}
	if found == s.notResource {
		return elementResource
	}
	return none
}

// grant is how a statement that matches names its principal.
func (s *statement) grant(p *Principal) Grant {
	switch {
	case s.principals == nil:
		return NoGrant
	case s.notPrincipal:
		return RoleGrant
	}
	return s.principals.grant(p)
}
