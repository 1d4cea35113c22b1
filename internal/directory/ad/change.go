package ad

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// ChangePassword replaces a user's password by one that the directory's policy accepts; the old one must be right. A user whose password
// has expired or must be changed cannot bind, so it is done by the directory's service account, which needs no right to it: knowing
// the old password is the right. Without a service account it is done by the user themselves, and those users get their *LoginError.
// *directory.LoginError (ReasonWrong: no such user, or not this password), ErrWeakPassword with the directory's reason,
// ErrNoDirectory, ErrUnavailable.
func (c *Client) ChangePassword(ctx context.Context, id ident.DirectoryID, userName string, old, new directory.Password) error {
	s, err := c.settings(id)
	if err != nil {
		return err
	}
	if CheckName(userName) != nil || !usable(old) {
		return wrong()
	}
	if !usable(new) {
		return fmt.Errorf("%w: it is empty, too long or has a NUL in it", directory.ErrWeakPassword)
	}
	return c.each(ctx, id, s, func(conn *ldap.Conn) error {
		var dn string
		if s.Service != nil {
			err = s.bindService(conn)
		} else {
			err = bind(conn, s.bindName(userName), old)
		}
		if err == nil {
			_, dn, err = s.find(conn, userName)
		}
		if errors.Is(err, directory.ErrNoUser) {
			return wrong()
		}
		if err != nil {
			return err
		}
		return PasswordError(conn.Modify(ChangeRequest(dn, old, new)))
	})
}

// ChangeRequest is the change of a password by somebody who knows the old one (MS-ADTS 3.1.1.3.1.5.1): one value is taken away, another added.
func ChangeRequest(dn string, old, new directory.Password) *ldap.ModifyRequest {
	m := ldap.NewModifyRequest(dn, nil)
	m.Delete("unicodePwd", []string{EncodePassword(old)})
	m.Add("unicodePwd", []string{EncodePassword(new)})
	return m
}

// EncodePassword is a password as unicodePwd takes it: in quotes, UTF-16LE. Quotes inside it are not escaped; only the outer ones count.
func EncodePassword(p directory.Password) string {
	units := utf16.Encode([]rune(`"` + p.Reveal() + `"`))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}
