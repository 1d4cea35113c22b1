// Package hostapi carries the driver contracts from the control plane, which has no privilege, to the host role, which has: one HTTP
// request a call, and an upgraded connection for what is a stream (a screen, a connection into a VPC).
//
// It refuses to decide anything. The server answers whoever its listener lets in; who that is, is the listener's business (a Unix socket
// that checks its peer's user here, mutual TLS between machines). Each side treats what the other sends as bounded.
package hostapi

import (
	"errors"
	"fmt"

	"carrel/internal/directory"
	"carrel/internal/driver"
)

// prefix is the version: a client and a server of different versions do not understand each other by accident.
const prefix = "/host/1/"

// maxMessage bounds a request and an answer in bytes. The longest is a list of all objects of one host.
const maxMessage = 16 << 20

// upgrade names the stream that a connection becomes.
const upgrade = "carrel-stream"

// failure is an error on the wire.
type failure struct {
	// Kind is a name of kinds, "permanent", "login", or "" for an error without one.
	Kind string
	// Code is the PermanentError's code or the LoginError's reason.
	Code    string `json:",omitempty"`
	Message string
}

// noSpace is the kind of what a full file system makes fail; system calls' own words for it become that too.
const noSpace = "no-space"

// kinds are the errors of the contracts, which keep their identity on the way.
var kinds = map[string]error{
	"not-found":     driver.ErrNotFound,
	"busy":          driver.ErrBusy,
	"unavailable":   driver.ErrUnavailable,
	"order":         driver.ErrOrder,
	"unclean":       driver.ErrUnclean,
	noSpace:         driver.ErrNoSpace,
	"no-user":       directory.ErrNoUser,
	"no-directory":  directory.ErrNoDirectory,
	"dir-down":      directory.ErrUnavailable,
	"user-exists":   directory.ErrExists,
	"weak-password": directory.ErrWeakPassword,
	"protected":     directory.ErrProtected,
}

func encodeError(err error) *failure {
	if p := driver.AsPermanent(err); p != nil {
		return &failure{Kind: "permanent", Code: p.Code, Message: p.Err.Error()}
	}
	var login *directory.LoginError
	if errors.As(err, &login) {
		return &failure{Kind: "login", Code: string(login.Reason), Message: err.Error()}
	}
	if driver.OutOfSpace(err) {
		return &failure{Kind: noSpace, Message: err.Error()}
	}
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			return &failure{Kind: name, Message: err.Error()}
		}
	}
	return &failure{Message: err.Error()}
}

// remote is an error that another process has told of.
type remote struct {
	message string
	kind    error
}

func (e *remote) Error() string { return e.message }

// Unwrap gives the contract's error.
func (e *remote) Unwrap() error { return e.kind }

func decodeError(f *failure) error {
	switch f.Kind {
	case "":
		return errors.New(f.Message)
	case "permanent":
		return driver.Permanent(f.Code, errors.New(f.Message))
	case "login":
		return &directory.LoginError{Reason: directory.Reason(f.Code)}
	}
	kind, known := kinds[f.Kind]
	if !known {
		return fmt.Errorf("%w: the host answers with an error of an unknown kind %q: %s", driver.ErrUnavailable, f.Kind, f.Message)
	}
	return &remote{f.Message, kind}
}
