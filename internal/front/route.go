package front

import (
	"context"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// route finds the operation within the service that the credential scope names.
func (d *Door) route(_ context.Context, x *exchange) (err *awserr.Error) {
	x.op, err = d.Codec.Route(x.service.SigningName, &x.wire)
	return err
}

// decode makes the typed input out of the bytes and checks the model's constraints on it.
func (d *Door) decode(_ context.Context, x *exchange) (err *awserr.Error) {
	if x.input, err = d.Codec.Decode(x.op, &x.wire); err != nil {
		return err
	}
	return shape.CheckInput(x.op, x.input)
}
