package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// maxPassword bounds a password in bytes. Windows takes 256 characters.
const maxPassword = 1024

// wrong is what everybody hears who is not known or not believed.
func wrong() error { return &directory.LoginError{Reason: directory.ReasonWrong} }

// Authenticate checks a user's password by a bind, and reads on the same connection who has logged in. For a name that can be no user's
// and a password that can be nobody's the directory is not asked; for everything else it is asked the same question, whether there is
// such a user or not, so that the time tells nothing (ENU-1).
func (c *Client) Authenticate(ctx context.Context, id ident.DirectoryID, userName string, password directory.Password) (directory.User, error) {
	s, err := c.settings(id)
	if err != nil {
		return directory.User{}, err
	}
	if CheckName(userName) != nil || !usable(password) {
		return directory.User{}, wrong()
	}
	var user directory.User
	err = c.each(ctx, id, s, func(conn *ldap.Conn) error {
		if err := bind(conn, s.bindName(userName), password); err != nil {
			return err
		}
		user, err = s.whoLoggedIn(conn, userName)
		return err
	})
	return user, err
}

// usable says whether a password can be anybody's. An empty one must never reach LDAP (RFC 4513 section 5.1.2), and what a directory
// makes of a NUL is its own affair: "right\x00anything" shall not be tried.
func usable(p directory.Password) bool {
	return !p.Empty() && len(p.Reveal()) <= maxPassword && !strings.ContainsRune(p.Reveal(), 0)
}

// bindName is the name that the directory can only take for the sAMAccountName: DOMAIN\name, which it resolves in no other way. A user
// principal name is tried against the attribute of that name first, which a user with some rights can set to another's, so it is
// used only when the short name of the domain is not known; whoLoggedIn catches what comes of it.
func (s *Settings) bindName(userName string) string {
	if s.NetBIOS != "" {
		return s.NetBIOS + `\` + userName
	}
	return userName + "@" + s.Domain
}

// bind is a simple bind: nil, *directory.LoginError, or an error that says nothing about the password.
func bind(conn *ldap.Conn, name string, password directory.Password) error {
	err := conn.Bind(name, password.Reveal())
	if err == nil {
		return nil
	}
	if e := answer(err); e != nil && e.ResultCode == ldap.LDAPResultInvalidCredentials {
		return &directory.LoginError{Reason: refusal(e.Err.Error())}
	}
	// A referral, "busy", "TLS is required": the directory has not said that the password is wrong.
	return fmt.Errorf("bind: %w", err)
}

// whoLoggedIn reads the entry of userName and checks that the connection is theirs: the root DSE's tokenGroups are the SIDs of whoever
// is bound (MS-ADTS 3.1.1.3.2), and a user's own SID is in nobody else's token. Without it a directory that resolves a bind name to
// another user than the search would let one in as the other.
func (s *Settings) whoLoggedIn(conn *ldap.Conn, userName string) (directory.User, error) {
	root, err := search(conn, "", "(objectClass=*)", []string{"tokenGroups"})
	if err != nil {
		return directory.User{}, fmt.Errorf("read who has logged in: %w", err)
	}
	user, _, err := s.find(conn, userName)
	if errors.Is(err, directory.ErrNoUser) {
		return directory.User{}, wrong()
	}
	if err != nil {
		return directory.User{}, err
	}
	var token []string
	for _, e := range root {
		for _, raw := range e.GetEqualFoldRawAttributeValues("tokenGroups") {
			sid, err := FormatSID(raw)
			if err != nil {
				return directory.User{}, fmt.Errorf("read who has logged in: %w", err)
			}
			token = append(token, sid)
		}
	}
	if len(token) == 0 {
		return directory.User{}, errors.New("the directory does not say who has logged in")
	}
	if !slices.Contains(token, user.SID) {
		return directory.User{}, wrong()
	}
	return user, nil
}

// find gives the one user of that sAMAccountName and their DN: ErrNoUser. Computers, groups and contacts are none.
func (s *Settings) find(conn *ldap.Conn, userName string) (directory.User, string, error) {
	filter := "(&(objectCategory=person)(objectClass=user)(sAMAccountName=" + ldap.EscapeFilter(userName) + "))"
	found, err := search(conn, s.BaseDN, filter, Attributes)
	if err != nil {
		return directory.User{}, "", fmt.Errorf("search for the user: %w", err)
	}
	if len(found) > 1 {
		return directory.User{}, "", fmt.Errorf("%d users are called %q", len(found), userName)
	}
	if len(found) == 0 {
		return directory.User{}, "", directory.ErrNoUser
	}
	user, err := User(found[0])
	if err != nil {
		return directory.User{}, "", err
	}
	// A directory finds "ada" when asked for a look-alike (full width, accents). Each would count failures of its own.
	if !strings.EqualFold(user.Name, userName) {
		return directory.User{}, "", directory.ErrNoUser
	}
	return user, found[0].DN, nil
}

// search reads the root DSE (base "") or everything under base. It never follows what a directory refers to: the library hands references
// over, and they are dropped here.
func search(conn *ldap.Conn, base, filter string, attributes []string) ([]*ldap.Entry, error) {
	const atMost = 2 // one more than there may be
	scope := ldap.ScopeWholeSubtree
	if base == "" {
		scope = ldap.ScopeBaseObject
	}
	r, err := conn.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, atMost, 0, false, filter, attributes, nil))
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// Lookup finds a user with the directory's service account. Without one nothing is known: ErrUnavailable.
func (c *Client) Lookup(ctx context.Context, id ident.DirectoryID, userName string) (directory.User, error) {
	s, err := c.settings(id)
	if err != nil {
		return directory.User{}, err
	}
	if err := CheckName(userName); err != nil {
		return directory.User{}, fmt.Errorf("%w: %w", directory.ErrNoUser, err)
	}
	var user directory.User
	err = c.each(ctx, id, s, func(conn *ldap.Conn) error {
		if err := s.bindService(conn); err != nil {
			return err
		}
		user, _, err = s.find(conn, userName)
		return err
	})
	return user, err
}

// bindService logs Carrel's own account in. That it is refused says nothing about the user.
func (s *Settings) bindService(conn *ldap.Conn) error {
	if s.Service == nil || s.Service.Name == "" || !usable(s.Service.Password) {
		return errors.New("the directory has given no service account")
	}
	err := bind(conn, s.Service.Name, s.Service.Password)
	var refused *directory.LoginError
	if errors.As(err, &refused) {
		return fmt.Errorf("the service account %q is refused: %s", s.Service.Name, refused.Reason)
	}
	return err
}
