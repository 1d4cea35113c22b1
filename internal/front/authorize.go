package front

import (
	"context"

	"carrel/internal/authz"
	"carrel/internal/awserr"
)

// authorize asks authz; a denial ends the chain before any handler sees the input.
func (d *Door) authorize(_ context.Context, x *exchange) *awserr.Error {
	if decision := authz.Decide(x.principal, x.op); !decision.Allowed {
		return decision.Denial(x.principal)
	}
	return nil
}
