package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"

	"carrel/internal/awserr"
	"carrel/internal/ident"
)

// step is one link of the chain. It fills the exchange, or ends the chain with an error.
type step struct {
	name string
	do   func(*Door, context.Context, *exchange) *awserr.Error
}

// chain is the way of an API request, in order. Nothing runs before it and every operation goes through all of it.
//
// Authentication stands before the operation is even looked up: an unsigned request learns nothing, not even which operations exist.
var chain = []step{
	{"read", (*Door).read},
	{"authenticate", (*Door).authenticate},
	{"route", (*Door).route},
	{"throttle", (*Door).throttle},
	{"decode", (*Door).decode},
	{"authorize", (*Door).authorize},
	{"handle", (*Door).handle},
}

// ServeHTTP takes one request through the chain, records it and answers it.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{req: r, started: d.Clock.Now(), id: ident.UUID(d.Rand), peer: peerOf(r)}
	ctx := newPatience(r.Context(), d.Deadline)
	defer ctx.end()
	for _, s := range chain {
		if x.err = d.run(ctx, s, x); x.err != nil {
			break
		}
	}
	d.reply(ctx, w, x)
}

// run keeps a panic of one step from ending the process: it is a fault of ours, logged with its stack, and the client gets InternalFailure.
func (d *Door) run(ctx context.Context, s step, x *exchange) (err *awserr.Error) {
	defer func() {
		if p := recover(); p != nil {
			d.Log.Error("panic in the API door", "request", x.id, "step", s.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = awserr.Fault(errors.New("panic: see the log"))
		}
	}()
	return s.do(d, ctx, x)
}

// peerOf is the address of the connection's other end. No header is asked: whoever sends a request controls its headers (IPG-3).
func peerOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
