// Package directory is the contract between Carrel and the directories its people are in: looking users up and checking passwords.
//
// It refuses to know a directory's protocol (directory/ad) and what a user may reach (gateway, service).
package directory

import (
	"context"
	"errors"
	"time"

	"carrel/internal/ident"
)

// User is a person as the directory knows them.
type User struct {
	// Name is the sAMAccountName as the directory spells it.
	Name string
	// SID never changes and is never given twice.
	SID                string
	DisplayName        string
	GivenName, Surname string
	Email              string
	Enabled            bool
	// PasswordSet is when the password was last set, MustChange that it has to be changed at the next login, Expires when the account ends.
	// Zero: never, or the directory does not let it be read.
	PasswordSet time.Time `json:",omitzero"`
	MustChange  bool      `json:",omitzero"`
	Expires     time.Time `json:",omitzero"`
}

// The errors of a Lister.
var (
	// ErrNoUser: the directory answers that there is no such user.
	ErrNoUser = errors.New("directory: no such user")
	// ErrNoDirectory: no such directory is known to the Lister.
	ErrNoDirectory = errors.New("directory: no such directory")
	// ErrUnavailable: the directory does not answer; nothing is known about the user.
	ErrUnavailable = errors.New("directory: not available")
)

// Lister looks users up.
type Lister interface {
	// Lookup finds a user by name without regard to case: ErrNoUser, ErrNoDirectory, ErrUnavailable.
	Lookup(ctx context.Context, id ident.DirectoryID, userName string) (User, error)
}
