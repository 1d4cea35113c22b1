// Package front is the API door: it ends TLS, takes each request through one ordered chain, and answers it.
//
// It refuses to know what an operation does: handlers come from service, formats from awsproto, signatures from sigv4 and identity.
package front

import (
	"context"
	"io"
	"log/slog"
	"time"

	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/awsproto"
	"carrel/internal/clock"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/sigv4"
	"carrel/internal/throttle"
)

// Auditor keeps the record of every call.
type Auditor interface {
	// Health is the error of the last attempt to write, or nil.
	Health() error
	// Write keeps what rec says. durable: it returns once the record is on disk. Afterwards rec, and what its documents stand in, is used for
	// another record.
	Write(ctx context.Context, rec *audit.Record, durable bool) error
}

// Observer counts what the door does; metrics implements it.
type Observer interface {
	// Request is called once per request with the operation's service and name ("" when unknown), the error's code ("" for success)
	// and the time it took.
	Request(service, operation, code string, took time.Duration)
}

// Door is the API door. All fields but AuditFailure, Strangers and Throttle must be set.
type Door struct {
	// Codec knows the services: the credential scope chooses among them.
	Codec    *awsproto.Codec
	Handlers service.Table
	Auth     *identity.Authenticator
	Authz    *authz.Authorizer
	Audit    Auditor
	// AuditFailure says which calls must not happen while Audit cannot be written; empty: audit.Stop.
	AuditFailure audit.Failure
	// Strangers bounds the records of unauthenticated failures; nil: each is recorded. Whoever sets it runs it.
	Strangers *Strangers
	// Throttle bounds the calls of each principal; nil: nothing does.
	Throttle *throttle.Limiter
	Observer Observer
	Clock    clock.Clock
	Rand     io.Reader
	Log      *slog.Logger
	// AccountID and Region are the installation's.
	AccountID, Region string
	// MaxBody is the largest body in bytes; Deadline how long one request may take.
	MaxBody  int64
	Deadline time.Duration
}

// authenticate verifies the signature and learns the service from the credential scope. It is the only call of Authenticate. A request without any
// signature passes when it names one of the operations of sts that nobody signs (see unsigned); it has no principal.
func (d *Door) authenticate(ctx context.Context, x *exchange) *awserr.Error {
	signed := sigv4.Request{Method: x.wire.Method, Path: x.wire.Path, RawQuery: x.wire.RawQuery, Host: x.req.Host, Header: x.wire.Header, Body: x.wire.Body}
	who, err := d.Auth.Authenticate(ctx, &signed)
	// The scope's service is known as soon as the signature could be read, and shapes the error's format even when it does not verify.
	x.service = d.Codec.Service(who.Service)
	if err != nil {
		refused := awserr.From(err)
		if refused.Kind == awserr.MissingAuthentication {
			x.service = d.unsigned(x)
			if x.service != nil {
				return nil
			}
		}
		return refused
	}
	if x.service == nil {
		return awserr.New(awserr.BadSignature, "Credential should be scoped to correct service.")
	}
	x.principal = who.Principal
	// A presigned request's signature stands among its parameters; it is read by now, and no operation has such a member.
	x.wire.RawQuery = sigv4.WithoutSignature(x.wire.RawQuery)
	return nil
}
