package sim

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

var (
	_ directory.Manager       = (*Domain)(nil)
	_ directory.Authenticator = (*Domain)(nil)
)

// password is what is kept of one: PBKDF2-HMAC-SHA-256 (RFC 8018).
type password struct{ Salt, Hash []byte }

const rounds = 20_000

func (p password) matches(text string) bool {
	hash, err := pbkdf2.Key(sha256.New, text, p.Salt, rounds, sha256.Size)
	return err == nil && subtle.ConstantTimeCompare(hash, p.Hash) == 1
}

// CreateUser makes a disabled user without a password.
func (d *Domain) CreateUser(_ context.Context, id ident.DirectoryID, user directory.NewUser) (directory.User, error) {
	var out directory.User
	err := d.change(id, "create-user", func(next *domain) error {
		if !userName.MatchString(user.Name) {
			return fmt.Errorf("%q cannot be a user name", user.Name)
		}
		if next.find(user.Name) >= 0 {
			return fmt.Errorf("create user %s in %s: %w", user.Name, id, directory.ErrExists)
		}
		name := strings.TrimSpace(user.GivenName + " " + user.Surname)
		out = next.add(directory.User{Name: user.Name, DisplayName: cmp.Or(name, user.Name), GivenName: user.GivenName, Surname: user.Surname, Email: user.Email})
		return nil
	})
	return out, err
}

// SetPassword replaces a user's password and enables the user. The simulated policy is that of a new Active Directory domain: seven
// characters, three of four classes.
func (d *Domain) SetPassword(_ context.Context, id ident.DirectoryID, name string, p directory.Password) error {
	return d.change(id, "set-password", func(next *domain) error {
		at := next.find(name)
		if at < 0 {
			return fmt.Errorf("set the password of %q in %s: %w", name, id, directory.ErrNoUser)
		}
		if err := strong(p.Reveal()); err != nil {
			return fmt.Errorf("set the password of %q in %s: %w", name, id, err)
		}
		salt := make([]byte, 16)
		if _, err := io.ReadFull(d.sim.random, salt); err != nil {
			return err
		}
		hash, err := pbkdf2.Key(sha256.New, p.Reveal(), salt, rounds, sha256.Size)
		if err != nil {
			return err
		}
		if next.Passwords == nil {
			next.Passwords = map[string]password{}
		}
		next.Passwords[next.Users[at].SID] = password{salt, hash}
		next.Users[at].Enabled = true
		next.Users[at].PasswordSet = d.sim.now()
		return nil
	})
}

// DisableUser keeps a user from logging in.
func (d *Domain) DisableUser(_ context.Context, id ident.DirectoryID, name string) error {
	return d.change(id, "disable-user", func(next *domain) error {
		at := next.find(name)
		if at < 0 {
			return fmt.Errorf("disable %q in %s: %w", name, id, directory.ErrNoUser)
		}
		next.Users[at].Enabled = false
		return nil
	})
}

func strong(text string) error {
	classes := map[string]bool{}
	for _, c := range text {
		switch {
		case unicode.IsUpper(c):
			classes["upper"] = true
		case unicode.IsLower(c):
			classes["lower"] = true
		case unicode.IsDigit(c):
			classes["digit"] = true
		default:
			classes["other"] = true
		}
	}
	if len([]rune(text)) < 7 || len(classes) < 3 {
		return fmt.Errorf("%w: it needs seven characters of three kinds (upper case, lower case, digits, others)", directory.ErrWeakPassword)
	}
	return nil
}

// DeleteUser removes a user.
func (d *Domain) DeleteUser(_ context.Context, id ident.DirectoryID, name string) error {
	if err := d.sim.faults.strike("domain", "delete-user"); err != nil {
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	return d.RemoveUser(id, name)
}

// ListUsers gives users in order of name.
func (d *Domain) ListUsers(_ context.Context, id ident.DirectoryID, after string, limit int) ([]directory.User, string, error) {
	s := d.sim
	if err := s.faults.strike("domain", "list-users"); err != nil {
		return nil, "", fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.domains[id]
	if !ok {
		return nil, "", fmt.Errorf("list users of %s: %w", id, directory.ErrNoDirectory)
	}
	all := slices.SortedFunc(slices.Values(have.Users), func(a, b directory.User) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	all = slices.DeleteFunc(all, func(u directory.User) bool { return strings.ToLower(u.Name) <= strings.ToLower(after) && after != "" })
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], all[limit-1].Name, nil
}

// Authenticate checks a password. An unknown user costs what a known one does.
func (d *Domain) Authenticate(_ context.Context, id ident.DirectoryID, name string, p directory.Password) (directory.User, error) {
	refuse := func(r directory.Reason) (directory.User, error) {
		return directory.User{}, &directory.LoginError{Reason: r}
	}
	if p.Empty() {
		return refuse(directory.ReasonWrong)
	}
	s := d.sim
	if err := s.faults.strike("domain", "authenticate"); err != nil {
		return directory.User{}, fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	s.mu.Lock()
	have, ok := s.domains[id]
	s.mu.Unlock()
	if !ok {
		return directory.User{}, fmt.Errorf("authenticate in %s: %w", id, directory.ErrNoDirectory)
	}
	var user directory.User
	var kept password
	if at := have.find(name); at >= 0 {
		user = have.Users[at]
		kept = have.Passwords[user.SID]
	}
	switch right := kept.matches(p.Reveal()); {
	case !right:
		return refuse(directory.ReasonWrong)
	case !user.Enabled:
		return refuse(directory.ReasonDisabled)
	}
	return user, nil
}

// change makes a change to a domain and keeps it, or leaves all as it was.
func (d *Domain) change(id ident.DirectoryID, step string, fn func(next *domain) error) error {
	s := d.sim
	if err := s.faults.strike("domain", step); err != nil {
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.domains[id]
	if !ok {
		return fmt.Errorf("simulated domain %s: %w", id, directory.ErrNoDirectory)
	}
	next := have.clone()
	if err := fn(next); err != nil {
		return err
	}
	if err := s.save("domain", string(id), next); err != nil {
		return err
	}
	s.domains[id] = next
	return nil
}
