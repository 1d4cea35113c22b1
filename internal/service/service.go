// Package service binds typed handlers to generated operations.
//
// It refuses to see HTTP or wire formats: a handler gets a verified caller and a validated input.
package service

import (
	"context"
	"fmt"
	"net/netip"

	"carrel/internal/api/shape"
	"carrel/internal/identity"
)

// Call is what a handler knows of the request besides its input.
type Call struct {
	Principal identity.Principal
	RequestID string
	// Source is the peer's address as the listener saw it.
	Source netip.Addr
	// Lend, which may be nil, takes what is to run once the output has been encoded. From then on nobody reads the output, and what it points
	// into may be used for another one.
	Lend func(giveBack func())
}

// Handler carries out one operation. input and output are pointers to the operation's generated structs.
type Handler func(ctx context.Context, call Call, input any) (output any, err error)

// Table says which operations are carried out, and by what.
type Table map[*shape.Operation]Handler

// Bind puts a typed handler into the table. It panics when the operation already has one: two handlers are a programming error.
func Bind[I, O any](t Table, op shape.Op[I, O], fn func(context.Context, Call, *I) (*O, error)) {
	if _, twice := t[op.Operation]; twice {
		panic(fmt.Sprintf("service: %s is bound twice", op.Name))
	}
	t[op.Operation] = func(ctx context.Context, call Call, input any) (any, error) {
		out, err := fn(ctx, call, input.(*I))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}
