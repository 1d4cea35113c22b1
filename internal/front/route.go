package front

import (
	"context"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// route finds the operation within the service that the credential scope names.
func (d *Door) route(_ context.Context, x *exchange) (err *awserr.Error) {
	x.op, err = d.Codec.Route(x.service.SigningName, &x.wire)
	return err
}

// unsigned is sts when a request that nobody has signed, and that so has no scope to name a service, asks for one of the operations that the model
// has unsigned: there the token within is the credential. nil for everything else, whether it exists or not.
func (d *Door) unsigned(x *exchange) *shape.Service {
	sts := d.Codec.Service("sts")
	if sts == nil || strings.Contains(strings.ToLower(x.wire.RawQuery), "x-amz-") {
		// Something of a signature in the query string that was not taken for one is no lack of a signature.
		return nil
	}
	if op, err := d.Codec.Route(sts.SigningName, &x.wire); err != nil || !op.Unsigned {
		return nil
	}
	return sts
}

// decode makes the typed input out of the bytes and checks the model's constraints on it.
func (d *Door) decode(_ context.Context, x *exchange) (err *awserr.Error) {
	if x.input, err = d.Codec.Decode(x.op, &x.wire); err != nil {
		return err
	}
	return shape.CheckInput(x.op, x.input)
}
