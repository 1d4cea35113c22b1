package front

import (
	"context"

	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/awsproto"
	"carrel/internal/service"
)

// handle calls the operation's handler. An operation that nobody bound answers a modelled error: nothing is ever pretended.
func (d *Door) handle(ctx context.Context, x *exchange) *awserr.Error {
	h, ok := d.Handlers[x.op]
	if !ok {
		return awsproto.Unimplemented(x.op)
	}
	if err := d.recordable(x.op); err != nil {
		return err
	}
	if x.op.Unsigned {
		// Nothing was decided yet: whoever verifies the provider's word asks authz, under these circumstances. Who has signed it all the same counts for nothing.
		later := &authz.Later{Circumstances: &x.circumstances}
		ctx = authz.WithLater(ctx, later)
		defer func() { x.decide(later.Decision) }()
	}
	out, err := h(ctx, service.Call{Principal: x.principal, RequestID: x.id, Source: x.peer, Lend: x.lend}, x.input)
	if err != nil {
		return awserr.From(err)
	}
	x.output = out
	return nil
}
