package front

import (
	"context"

	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/identity"
)

// authorize asks authz; a denial ends the chain before any handler sees the input. The decision stays with the exchange until it is recorded.
func (d *Door) authorize(ctx context.Context, x *exchange) *awserr.Error {
	x.circumstances = authz.Circumstances{Now: x.started, Source: x.peer, TLS: x.req.TLS != nil, UserAgent: x.req.UserAgent(), Referer: x.req.Referer()}
	if x.principal.IsZero() {
		// Only an operation whose token is its credential is carried out without a signature.
		if x.op.Unsigned {
			return nil
		}
		return awserr.New(awserr.MissingAuthentication, "Missing Authentication Token")
	}
	if identity.ForbiddenForSession(x.principal, x.service.Name, x.op.Name) {
		return awserr.New(awserr.AccessDenied, "User: %s is not authorized to perform: %s:%s with these temporary credentials", x.principal.ARN(), x.service.SigningName, x.op.Name)
	}
	x.decision = d.Authz.Decide(&authz.Ask{Principal: x.principal, Op: x.op, Input: x.input, Circumstances: &x.circumstances})
	if !x.decision.Allowed {
		return x.decision.Denial(ctx)
	}
	return nil
}
