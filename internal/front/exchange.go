package front

import (
	"net/http"
	"net/netip"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/authz"
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
	// circumstances and decision are authorize's; decision is nil before it. What an identity provider's word is the credential for is decided in handle.
	circumstances authz.Circumstances
	decision      *authz.Decision
	output        any
	// lent is what to run when the output has been encoded (service.Call.Lend).
	lent []func()
	// length is the answer's Content-Length.
	length [1]string

	// err ends the chain.
	err *awserr.Error
}

// decide takes in what was decided, in place of what was before; nil: nothing was.
func (x *exchange) decide(d *authz.Decision) {
	if d == nil {
		return
	}
	if x.decision != nil {
		x.decision.Release()
	}
	x.decision = d
}

// lend is a handler's service.Call.Lend.
func (x *exchange) lend(giveBack func()) { x.lent = append(x.lent, giveBack) }

// giveBack ends the output: nobody reads it any more.
func (x *exchange) giveBack() {
	x.output = nil
	for _, fn := range x.lent {
		fn()
	}
	x.lent = nil
}
