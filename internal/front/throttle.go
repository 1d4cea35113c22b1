package front

import (
	"context"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/throttle"
)

// throttle refuses what comes faster than the configuration lets it. It stands where AWS has it: after authentication and routing, for
// a bucket belongs to a principal and an operation, and a stranger must not be able to empty another's; before decoding and
// authorization, for what is refused should cost little, and one who may do nothing is bounded as well.
func (d *Door) throttle(_ context.Context, x *exchange) *awserr.Error {
	if d.Throttle == nil || d.Throttle.Allow(throttle.Call{Principal: holder(x), Service: x.op.Service.Name, Operation: x.op.Name, ReadOnly: x.op.ReadOnly}) {
		return nil
	}
	if x.op.Service.Protocol == shape.EC2Query {
		return awserr.New(awserr.Throttled, "Request limit exceeded.")
	}
	return awserr.New(awserr.Throttled, "Rate exceeded")
}

// holder is whose bucket a call takes from. All sessions of a role share the role's, and federated users that of the user who made them:
// whoever can make sessions would otherwise make buckets. Calls that need no signature count for the network they come from.
func holder(x *exchange) string {
	p := x.principal
	switch {
	case p.IsZero():
		return network(x.peer).String()
	case p.Role() != "":
		return string(p.Role())
	case p.User() != "":
		return string(p.User())
	}
	return p.AccountID()
}
