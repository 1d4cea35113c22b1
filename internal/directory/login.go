package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"carrel/internal/ident"
)

// Password is a password on its way through the process: it does not print, marshal or log itself.
type Password struct{ text string }

// NewPassword wraps a password as it came from its owner.
func NewPassword(text string) Password { return Password{text} }

// Reveal gives the password, to be handed to the directory and to nobody else.
func (p Password) Reveal() string { return p.text }

// Empty says whether there is none. A directory must never be asked about an empty one: LDAP takes a simple bind without a password
// for an anonymous one and says yes (RFC 4513 section 5.1.2).
func (p Password) Empty() bool { return p.text == "" }

// Format prints a placeholder, whatever the verb.
func (p Password) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[password]")) }

// LogValue logs a placeholder.
func (p Password) LogValue() slog.Value { return slog.StringValue("[password]") }

// MarshalText refuses: a password is never part of a document.
func (p Password) MarshalText() ([]byte, error) {
	return nil, errors.New("directory: a password is not to be written down")
}

// Reason says why a directory refused a login. The person is told only what the directory's own policy lets a stranger know:
// everything but ReasonMustChange, ReasonExpired looks like ReasonWrong from outside.
type Reason string

// The reasons of a refused login.
const (
	// ReasonWrong: no such user, or not this password. A directory that tells them apart must not be believed aloud.
	ReasonWrong    Reason = "wrong user name or password"
	ReasonDisabled Reason = "account disabled"
	ReasonLocked   Reason = "account locked"
	ReasonHours    Reason = "outside the account's logon hours"
	ReasonAccount  Reason = "account expired"
	// ReasonMustChange and ReasonExpired are given for the right password only.
	ReasonMustChange Reason = "password must be changed"
	ReasonExpired    Reason = "password expired"
)

// LoginError is a refused login.
type LoginError struct{ Reason Reason }

// Error gives the reason.
func (e *LoginError) Error() string { return "directory: login refused: " + string(e.Reason) }

// Authenticator checks people's passwords.
type Authenticator interface {
	// Authenticate checks a user's password. *LoginError: refused. ErrNoDirectory. ErrUnavailable: nothing is known; a caller must refuse,
	// and say that it is not the password. An empty password is refused (ReasonWrong) without asking the directory.
	Authenticate(ctx context.Context, id ident.DirectoryID, userName string, password Password) (User, error)
}

// NewUser is a user to be made.
type NewUser struct {
	// Name is the sAMAccountName.
	Name               string
	GivenName, Surname string
	Email              string
	Attributes         map[string]string
}

// The errors of a Manager besides those of a Lister.
var (
	// ErrExists: there is a user, group or computer of that name.
	ErrExists = errors.New("directory: name is taken")
	// ErrWeakPassword: the directory's password policy refuses it; wrapped with the directory's reason.
	ErrWeakPassword = errors.New("directory: password refused by the directory's policy")
	// ErrProtected: the user is an administrator of the domain or one of the directory's own accounts.
	ErrProtected = errors.New("directory: protected account")
)

// Manager changes the users of a directory that Carrel runs.
type Manager interface {
	Lister
	// CreateUser makes a user that cannot log in before SetPassword: disabled, as ds-data's CreateUser does. ErrExists.
	CreateUser(ctx context.Context, id ident.DirectoryID, user NewUser) (User, error)
	// SetPassword replaces a user's password without the old one, and enables the user. ErrNoUser, ErrWeakPassword, ErrProtected.
	SetPassword(ctx context.Context, id ident.DirectoryID, userName string, password Password) error
	// DisableUser keeps a user from logging in, until SetPassword. ErrNoUser, ErrProtected.
	DisableUser(ctx context.Context, id ident.DirectoryID, userName string) error
	// DeleteUser removes a user. ErrNoUser, ErrProtected.
	DeleteUser(ctx context.Context, id ident.DirectoryID, userName string) error
	// ListUsers gives users in order of name, beginning after the name after; next is "" at the end.
	ListUsers(ctx context.Context, id ident.DirectoryID, after string, limit int) (users []User, next string, err error)
}
