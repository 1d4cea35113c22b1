// Package authz decides whether a principal may carry out an operation, and keeps the reasons.
//
// It denies by default. Identity policies cannot be attached yet, so an IAM user has none and is denied implicitly, as in AWS; the
// account's root is allowed implicitly (IAM User Guide, "Policy evaluation logic").
package authz

import (
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/identity"
)

// Decision is allow or deny with its reason.
type Decision struct {
	Allowed bool
	// Action is the IAM action ("workspaces:DescribeWorkspaces").
	Action string
	// Reason says why, in the words AWS's denials use after "because".
	Reason string
}

// Decide is the whole evaluation for one operation. A zero Principal panics: it was never authenticated.
func Decide(p identity.Principal, op *shape.Operation) Decision {
	d := Decision{Action: op.Service.SigningName + ":" + op.Name}
	switch {
	case p.Type() == identity.Root:
		d.Allowed, d.Reason = true, "the account's root user is allowed implicitly"
	case op.Service.Name == "sts" && op.Name == "GetCallerIdentity":
		// AWS answers this one whatever the policies say: it is how a client learns who it is.
		d.Allowed, d.Reason = true, "sts:GetCallerIdentity needs no permission"
	default:
		d.Reason = "no identity-based policy allows the " + d.Action + " action"
	}
	return d
}

// Denial is the error a denied caller gets, in AWS's words. The resource part is left out while operations have no resource mapping.
func (d Decision) Denial(p identity.Principal) *awserr.Error {
	return awserr.New(awserr.AccessDenied, "User: %s is not authorized to perform: %s because %s", p.ARN(), d.Action, d.Reason)
}
