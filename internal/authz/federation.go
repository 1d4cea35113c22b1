package authz

import (
	"context"
	"errors"
	"maps"
	"slices"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/policy"
)

// Assumption is the question whether somebody whom an identity provider vouches for may assume a role. The caller has no credentials of this
// account yet, so only the role's trust policy has a say, and the endpoint's.
type Assumption struct {
	// Op is the operation that is called.
	Op *shape.Operation
	// RoleARN is the role's ARN as it is asked for. Role is the role that would be assumed, empty when there is none of that name: one that was
	// made anew since it was found is another one.
	RoleARN string
	Role    ident.RoleID
	// Provider is the ARN of the identity provider, which the trust policy names as Federated.
	Provider string
	// Actions are what is asked for: sts:AssumeRoleWithSAML, and sts:TagSession and sts:SetSourceIdentity where they are used.
	Actions []string
	// Keys are the condition keys that the provider's word has made ("saml:aud"), and those of the request ("sts:RoleSessionName"), all but
	// aws:FederatedProvider.
	Keys          map[string][]string
	Circumstances *Circumstances
}

// Assume decides an Assumption: all actions must be allowed. The Decision is the caller's until Release.
func (a *Authorizer) Assume(q *Assumption) *Decision {
	d := a.take()
	d.op, d.action, d.snapshot, d.subject = q.Op, actionOf(q.Op), a.DB.Snapshot(), &subject{}
	d.request.Principal = policy.Principal{Type: policy.Federated, Name: q.Provider}
	d.set = policy.Set{}
	if e := q.Circumstances.Endpoint; e != nil {
		d.set.Endpoint = e.Policy
	}
	d.request.Set(keyProvider, q.Provider)
	for _, name := range slices.Sorted(maps.Keys(q.Keys)) {
		d.request.SetAll(policy.NewKey(name), q.Keys[name])
	}
	a.setCircumstances(d, q.Circumstances, a.Region)
	d.base = d.request.Mark()
	if len(q.Actions) == 0 {
		d.deny("", "because no action was asked for")
		return d
	}
	role := assumedRole.named(&env{Authorizer: a, snapshot: d.snapshot, op: q.Op}, q.RoleARN)
	if role.role == nil || role.role.ID != q.Role {
		role = target{arn: role.arn, account: role.account, trust: trustsNobody}
	}
	d.Allowed = true
	for _, action := range q.Actions {
		if !a.check(d, policy.NewAction(action), role) {
			break
		}
	}
	return d
}

// MayAssume decides an Assumption under the circumstances that come with ctx from the door, and gives the door the decision. Nil: it is allowed.
// Without circumstances nothing is.
func (a *Authorizer) MayAssume(ctx context.Context, q *Assumption) error {
	l := LaterOf(ctx)
	if l == nil {
		return errors.New("the circumstances of the request are not known")
	}
	asked := *q
	asked.Circumstances = l.Circumstances
	d := a.Assume(&asked)
	if l.Decision != nil {
		l.Decision.Release()
	}
	l.Decision = d
	if !d.Allowed {
		return d.Denial(ctx)
	}
	return nil
}

// Later is how an operation that nobody signs is decided: whoever verifies what vouches for the caller asks, behind the door (MayAssume). It travels
// with the request's context.
type Later struct {
	Circumstances *Circumstances
	// Decision is what was decided then, the door's to record and to release; nil before, or when nobody asked.
	Decision *Decision
}

// laterKey is where a Later travels.
type laterKey struct{}

// WithLater lets l travel with ctx.
func WithLater(ctx context.Context, l *Later) context.Context {
	return context.WithValue(ctx, laterKey{}, l)
}

// LaterOf is the one that travels with ctx, nil when none does.
func LaterOf(ctx context.Context) *Later {
	l, _ := ctx.Value(laterKey{}).(*Later)
	return l
}

// notVouchedFor is AWS's text for somebody whom a role does not trust, and for a role that does not exist: no names, and no reasons.
func (d *Decision) notVouchedFor(action string) *awserr.Error {
	return awserr.New(awserr.AccessDenied, "Not authorized to perform %s", action).Because(errors.New(d.Reason))
}
