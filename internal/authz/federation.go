package authz

import (
	"context"
	"slices"

	"carrel/internal/policy"
	"carrel/internal/state"
)

// Assumption is the question whether somebody whom an identity provider vouches for may assume a role. The caller has no credentials of this
// account yet, so only the role's trust policy has a say, and the endpoint's.
type Assumption struct {
	Role *state.Role
	// Provider is the ARN of the identity provider, which the trust policy names as Federated.
	Provider string
	// Actions are what is asked for: sts:AssumeRoleWithSAML, and sts:TagSession and sts:SetSourceIdentity where they are used.
	Actions []string
	// Keys are the condition keys that the provider's word has made ("saml:aud"), and those of the request ("sts:RoleSessionName").
	Keys          map[string][]string
	Circumstances *Circumstances
}

// MayAssume decides an Assumption: all actions must be allowed.
func (a *Authorizer) MayAssume(q *Assumption) bool {
	d := &Decision{}
	d.request.Principal = policy.Principal{Type: policy.Federated, Name: q.Provider}
	a.setCircumstances(d, q.Circumstances, a.Region)
	d.request.Set(keyProvider, q.Provider)
	for name, values := range q.Keys {
		d.request.SetAll(policy.NewKey(name), values)
	}
	for k, v := range q.Role.Tags {
		d.request.Set(policy.NewKey("aws:ResourceTag/"+k), v)
		d.request.Set(policy.NewKey("iam:ResourceTag/"+k), v)
	}
	d.request.Set(keyResourceAccount, a.Account)
	env := env{Authorizer: a}
	d.request.SetResource(assumedRole.arn(&env, q.Role.Path[1:]+q.Role.Name))
	snap := a.DB.Snapshot()
	role, ok := state.Get(snap, state.Roles, string(q.Role.ID))
	if !ok {
		return false
	}
	set := policy.Set{Resource: a.trustOf(snap, role), Trust: true}
	if e := q.Circumstances.Endpoint; e != nil {
		set.Endpoint = e.Policy
	}
	return len(q.Actions) > 0 && !slices.ContainsFunc(q.Actions, func(action string) bool {
		d.request.Action = policy.NewAction(action)
		return set.Decide(&d.request, nil).Decision != policy.Allowed
	})
}

// circumstancesKey is where the circumstances of a request travel with its context.
type circumstancesKey struct{}

// WithCircumstances lets c travel with ctx: an operation that nobody signs is decided by whoever verifies what vouches for the caller, behind the door.
func WithCircumstances(ctx context.Context, c *Circumstances) context.Context {
	return context.WithValue(ctx, circumstancesKey{}, c)
}

// CircumstancesOf are those that travel with ctx, nil when none do.
func CircumstancesOf(ctx context.Context) *Circumstances {
	c, _ := ctx.Value(circumstancesKey{}).(*Circumstances)
	return c
}
