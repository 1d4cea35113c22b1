// Package awserr holds the one error type that crosses Carrel's layers and the constructors for AWS's modelled exceptions.
//
// Anything else that reaches a door is answered as InternalFailure with the request id; it never reaches the client in words.
// The package refuses to know a wire protocol: how a Kind is spelt in awsJson1.1, awsQuery, ec2Query or restJson is awsproto's.
package awserr

import (
	"errors"
	"fmt"
)

// Kind tells errors that every service can answer, and that each protocol spells differently, from the modelled ones.
type Kind uint8

const (
	// Modelled is an exception of the service's own model: Code is the wire code.
	Modelled Kind = iota
	// MissingAuthentication: no signature at all.
	MissingAuthentication
	// IncompleteSignature: an Authorization header or query form that cannot be read.
	IncompleteSignature
	// UnknownKey: an access key that is unknown, inactive or deleted, or a session token that is not its own.
	UnknownKey
	// BadSignature: wrong signature, clock, scope.
	BadSignature
	// ExpiredToken: temporary credentials past their end.
	ExpiredToken
	// AccessDenied: a policy denial.
	AccessDenied
	// Validation: a constraint of the model is violated.
	Validation
	// Serialization: bytes that are not a document of the protocol, or a value of the wrong type.
	Serialization
	// UnknownOperation: no such operation in the service.
	UnknownOperation
	// NotImplemented: an operation that Carrel decodes and validates but does not carry out yet.
	NotImplemented
	// Throttled: over the rate limit.
	Throttled
	// Internal: a fault of ours.
	Internal
	// RequestTooLarge: a body over the limit.
	RequestTooLarge
	// Unavailable: the process is stopping or not yet ready.
	Unavailable
)

// Error is an answer to the client. Code is the wire code without a namespace (for Modelled, e.g. "ResourceNotFoundException");
// for other kinds Code is empty and the protocol chooses it.
type Error struct {
	Kind    Kind
	Code    string
	Message string
	// Status is the HTTP status; 0 lets the protocol choose (400 for client errors, 500 for Internal).
	Status int
	// Members are further members of the modelled exception ("ResourceId", "reason").
	Members map[string]string
	cause   error
}

// Error is for logs: kind or code, message and the cause.
func (e *Error) Error() string {
	code := e.Code
	if code == "" {
		code = kindNames[e.Kind]
	}
	s := code + ": " + e.Message
	if e.cause != nil {
		s += " (" + e.cause.Error() + ")"
	}
	return s
}

// Unwrap gives the cause, which is never shown to a client.
func (e *Error) Unwrap() error { return e.cause }

var kindNames = [...]string{"Modelled", "MissingAuthentication", "IncompleteSignature", "UnknownKey", "BadSignature", "ExpiredToken",
	"AccessDenied", "Validation", "Serialization", "UnknownOperation", "NotImplemented", "Throttled", "Internal", "RequestTooLarge", "Unavailable"}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", k)
}

// New makes an error of a common kind. The message is the text the client sees.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: sprintf(format, args)}
}

// Model makes a modelled exception by its wire code. Prefer the named constructors where one exists.
func Model(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: sprintf(format, args)}
}

func sprintf(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// With adds a member of the modelled exception.
func (e *Error) With(member, value string) *Error {
	if e.Members == nil {
		e.Members = map[string]string{}
	}
	e.Members[member] = value
	return e
}

// WithStatus sets the HTTP status.
func (e *Error) WithStatus(status int) *Error { e.Status = status; return e }

// Because keeps the cause for the log.
func (e *Error) Because(err error) *Error { e.cause = err; return e }

// Fault is an internal failure; err is logged, never shown.
func Fault(err error) *Error {
	return &Error{Kind: Internal, Message: "The request processing has failed because of an unknown error, exception or failure.", Status: 500, cause: err}
}

// Full is the answer to a change for which there is no room on the server's disk; err is logged, never shown.
func Full(err error) *Error {
	return New(Unavailable, "The server has no room left on its disk. Nothing was changed; changes are refused until there is room.").Because(err)
}

// From gives the *Error in err's chain, or a Fault around err. nil stays nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Fault(err)
}
