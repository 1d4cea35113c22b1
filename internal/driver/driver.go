// Package driver is the contract between Carrel's decisions and the only code that touches the kernel, QEMU and Samba:
// Hypervisor, Volumes, Fabric, Display and Domain, with the plain structs they speak.
//
// It refuses to know records and their states: a driver is told what to ensure, by id, and answers what exists. Every
// method may be called again after any failure or crash, at any time, with the same arguments: what is already so is
// success. An object lives in its driver until the caller releases it; no driver forgets one by itself, because a
// forgotten machine is memory that nobody scrubs.
package driver

import (
	"errors"
	"fmt"
	"syscall"
)

// The errors of all drivers; every method's comment says which of them it gives. Anything else, and ErrUnavailable, means that the effect may or
// may not have happened: ask again.
var (
	// ErrNotFound: the driver has never had the object, or has released it.
	ErrNotFound = errors.New("driver: no such object")
	// ErrBusy: another call on the same object is running; nothing was done.
	ErrBusy = errors.New("driver: object is busy")
	// ErrUnavailable: the driver or what it drives does not answer; the effect may or may not have happened.
	ErrUnavailable = errors.New("driver: not available")
	// ErrOrder: the object is not in a state that allows the call (release before scrub); nothing was done.
	ErrOrder = errors.New("driver: not allowed in this state")
	// ErrUnclean: a scrub read something other than zero back. The object stays; nothing may be released or certified.
	ErrUnclean = errors.New("driver: memory is not clean")
	// ErrNoSpace: the host's file system is full. What was begun is taken back; asking again helps once somebody has made space.
	ErrNoSpace = errors.New("driver: the host has no disk space left")
)

// OutOfSpace tells whether err comes of a full file system, whoever found it full: Carrel, another program, or another process.
func OutOfSpace(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// CodeImageUnusable is the PermanentError's code of an image that is missing, damaged, or another than a volume lies on. It is the one that goes
// away without any WorkSpace's being changed: when somebody mends the image.
const CodeImageUnusable = "ImageUnusable"

// PermanentError says that asking again cannot help: the request itself, or the machine it is made of, must change.
type PermanentError struct {
	// Code is a short name for API clients ("ImageUnusable"), without spaces.
	Code string
	Err  error
}

// Permanent wraps err as one that asking again does not mend. code is a short name without spaces.
func Permanent(code string, err error) error { return &PermanentError{Code: code, Err: err} }

// Error gives the code and what was wrapped.
func (e *PermanentError) Error() string { return fmt.Sprintf("%s: %v", e.Code, e.Err) }

// Unwrap gives what was wrapped.
func (e *PermanentError) Unwrap() error { return e.Err }

// AsPermanent gives the PermanentError in err's chain, nil when there is none.
func AsPermanent(err error) *PermanentError {
	var p *PermanentError
	if errors.As(err, &p) {
		return p
	}
	return nil
}
