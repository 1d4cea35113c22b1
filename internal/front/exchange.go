package front

import (
	"net/http"
	"net/netip"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/awsproto"
	"carrel/internal/identity"
)

// exchange is one request on its way through the chain. Steps fill it from the top down; what a step has not filled yet is zero.
type exchange struct {
	// req is the request as net/http read it; nothing in it but the body's bytes is trusted before authenticate.
	req     *http.Request
	started time.Time
	id      string
	peer    netip.Addr
	wire    awsproto.Request

	service   *shape.Service
	principal identity.Principal
	op        *shape.Operation
	input     any
	output    any

	// err ends the chain.
	err *awserr.Error
}
