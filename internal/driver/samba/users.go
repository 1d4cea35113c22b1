package samba

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Manager changes the users of this host's domains as the system, without any password of its own.
type Manager struct{ domains *Domains }

var (
	_ driver.Domain     = (*Domains)(nil)
	_ directory.Lister  = (*Domains)(nil)
	_ directory.Manager = (*Manager)(nil)
)

// Manager gives the users of the domains.
func (s *Domains) Manager() *Manager { return &Manager{s} }

// Lookup finds a user.
func (s *Domains) Lookup(ctx context.Context, id ident.DirectoryID, userName string) (directory.User, error) {
	return s.Manager().Lookup(ctx, id, userName)
}

// people are users: no computers, groups and contacts.
const people = "(objectCategory=person)(objectClass=user)"

// Lookup finds a user: a name that can be no user's is ErrNoUser.
func (m *Manager) Lookup(ctx context.Context, id ident.DirectoryID, userName string) (directory.User, error) {
	var out directory.User
	err := m.with(ctx, id, userName, func(d *domain, conn *ldap.Conn) error {
		found, err := d.user(conn, userName)
		if err != nil {
			return err
		}
		out, err = ad.User(found)
		return err
	})
	return out, err
}

// with runs fn on a directory's controller, if userName can be somebody's: ErrNoUser.
func (m *Manager) with(ctx context.Context, id ident.DirectoryID, userName string, fn func(*domain, *ldap.Conn) error) error {
	d, err := m.domains.serving(id)
	if err != nil {
		return err
	}
	if err := ad.CheckName(userName); err != nil {
		return fmt.Errorf("%w: %w", directory.ErrNoUser, err)
	}
	return d.ask(ctx, asking, maxAnswer, func(conn *ldap.Conn) error { return fn(d, conn) })
}

// user gives the one user of that name with all that ad.User reads: ErrNoUser.
func (d *domain) user(conn *ldap.Conn, userName string) (*ldap.Entry, error) {
	r, err := conn.Search(ldap.NewSearchRequest(ad.BaseDN(d.rec.Name), ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, 0, false,
		"(&"+people+"(sAMAccountName="+ldap.EscapeFilter(userName)+"))", ad.Attributes, nil))
	if err != nil {
		return nil, failed("look up", userName, err)
	}
	// A look-alike that the directory takes for the name is not that user.
	if len(r.Entries) != 1 || !strings.EqualFold(r.Entries[0].GetAttributeValue("sAMAccountName"), userName) {
		return nil, fmt.Errorf("samba: %q in %s: %w", userName, d.id, directory.ErrNoUser)
	}
	return r.Entries[0], nil
}

// failed is an error of the controller that has no word in the contract.
func failed(what, name string, err error) error {
	return fmt.Errorf("samba: %s %q: %w: %w", what, name, directory.ErrUnavailable, err)
}

// result is the number of a controller's answer, 0 when err is none.
func result(err error) uint16 {
	var e *ldap.Error
	if errors.As(err, &e) && e.ResultCode < ldap.ErrorNetwork {
		return e.ResultCode
	}
	return 0
}

// administrative are the groups whose members nobody outside may change: by their last number in the domain (MS-DTYP 2.4.2.4: domain, schema and
// enterprise administrators, domain controllers, policy owners) or whole (administrators, and the operators who can become some).
var administrative = struct {
	domain  []string
	builtin []string
}{
	[]string{"-512", "-516", "-518", "-519", "-520", "-521"},
	[]string{"S-1-5-32-544", "S-1-5-32-548", "S-1-5-32-549", "S-1-5-32-550", "S-1-5-32-551", "S-1-5-32-552"},
}

// firstOrdinary is the first number that an account may have which is not one of the directory's own (krbtgt, Guest, Administrator).
const firstOrdinary = 1000

// protected is ErrProtected for a user whom only the domain's own administrators change. Groups are followed by the directory itself
// (tokenGroups), nested ones and loops included.
func (d *domain) protected(conn *ldap.Conn, e *ldap.Entry) error {
	user, err := ad.User(e)
	if err != nil {
		return err
	}
	is := fmt.Errorf("samba: %q in %s: %w", user.Name, d.id, directory.ErrProtected)
	if builtin(user.SID) {
		return is
	}
	r, err := conn.Search(ldap.NewSearchRequest(e.DN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)",
		[]string{"objectClass", "tokenGroups"}, nil))
	if err != nil {
		return failed("read the groups of", user.Name, err)
	}
	if len(r.Entries) != 1 || len(r.Entries[0].GetRawAttributeValues("tokenGroups")) == 0 {
		return failed("read the groups of", user.Name, errors.New("the directory names none"))
	}
	if slices.ContainsFunc(r.Entries[0].GetAttributeValues("objectClass"), func(c string) bool { return strings.EqualFold(c, "computer") }) {
		return is
	}
	for _, raw := range r.Entries[0].GetRawAttributeValues("tokenGroups") {
		sid, err := ad.FormatSID(raw)
		if err != nil {
			return failed("read the groups of", user.Name, err)
		}
		if powerful(sid) {
			return is
		}
	}
	return nil
}

func powerful(sid string) bool {
	return slices.Contains(administrative.builtin, sid) || strings.HasPrefix(sid, "S-1-5-21-") &&
		slices.ContainsFunc(administrative.domain, func(end string) bool { return strings.HasSuffix(sid, end) })
}

// builtin says whether a SID is one of the directory's own accounts; what is no domain account's SID is, too.
func builtin(sid string) bool {
	rid := sid[strings.LastIndexByte(sid, '-')+1:]
	var n uint64
	_, err := fmt.Sscan(rid, &n)
	return !strings.HasPrefix(sid, "S-1-5-21-") || err != nil || n < firstOrdinary
}

// extra are the attributes that ds-data's OtherAttributes may set on a user: what describes a person. Whatever decides what they may do
// (flags, group membership, names that log in, delegation, SID history, keys) is not among them.
var extra = map[string]bool{
	"co": true, "c": true, "comment": true, "company": true, "countrycode": true, "department": true, "departmentnumber": true,
	"description": true, "displayname": true, "division": true, "employeeid": true, "employeenumber": true, "employeetype": true,
	"facsimiletelephonenumber": true, "homephone": true, "info": true, "initials": true, "ipphone": true, "l": true, "middlename": true, "mobile": true,
	"pager": true, "physicaldeliveryofficename": true, "postalcode": true, "postofficebox": true, "preferredlanguage": true, "st": true,
	"street": true, "streetaddress": true, "telephonenumber": true, "title": true, "wwwhomepage": true,
}

// maxValue bounds an attribute's value in characters, as the schema does for most.
const maxValue = 1024

// CreateUser makes a disabled user in CN=Users. PermanentError: a name or attribute that a user cannot have.
func (m *Manager) CreateUser(ctx context.Context, id ident.DirectoryID, user directory.NewUser) (directory.User, error) {
	if err := ad.CheckName(user.Name); err != nil {
		return directory.User{}, driver.Permanent("InvalidUserName", err)
	}
	values := map[string]string{"givenname": user.GivenName, "sn": user.Surname, "mail": user.Email,
		"displayname": strings.TrimSpace(user.GivenName + " " + user.Surname)}
	for name, value := range user.Attributes {
		if !extra[strings.ToLower(name)] {
			return directory.User{}, driver.Permanent("InvalidAttribute", fmt.Errorf("a user's attribute %q cannot be set", name))
		}
		values[strings.ToLower(name)] = value
	}
	if values["displayname"] == "" {
		values["displayname"] = user.Name
	}
	for name, value := range values {
		if !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxValue || strings.ContainsRune(value, 0) {
			return directory.User{}, driver.Permanent("InvalidAttribute", fmt.Errorf("the value of %s is not text of at most %d characters", name, maxValue))
		}
	}
	var out directory.User
	err := m.with(ctx, id, user.Name, func(d *domain, conn *ldap.Conn) error {
		add := ldap.NewAddRequest("CN="+ldap.EscapeDN(user.Name)+",CN=Users,"+ad.BaseDN(d.rec.Name), nil)
		add.Attribute("objectClass", []string{"user"})
		add.Attribute("sAMAccountName", []string{user.Name})
		add.Attribute("userPrincipalName", []string{user.Name + "@" + d.rec.Name})
		add.Attribute("userAccountControl", []string{"514"}) // an ordinary account, disabled (MS-ADTS 2.2.16)
		for name, value := range values {
			if value != "" {
				add.Attribute(name, []string{value})
			}
		}
		if err := conn.Add(add); err != nil {
			return refusedAdd(user.Name, err)
		}
		found, err := d.user(conn, user.Name)
		if err != nil {
			return err
		}
		out, err = ad.User(found)
		return err
	})
	return out, err
}

func refusedAdd(name string, err error) error {
	switch result(err) {
	case ldap.LDAPResultEntryAlreadyExists:
		return fmt.Errorf("samba: %q: %w", name, directory.ErrExists)
	case ldap.LDAPResultConstraintViolation:
		// Also somebody else's user principal name.
		if strings.Contains(strings.ToLower(err.Error()), "already in use") {
			return fmt.Errorf("samba: %q: %w", name, directory.ErrExists)
		}
		return driver.Permanent("InvalidAttribute", errors.New(ad.Text(err)))
	case ldap.LDAPResultInvalidAttributeSyntax, ldap.LDAPResultNamingViolation, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultUndefinedAttributeType, ldap.LDAPResultObjectClassViolation:
		return driver.Permanent("InvalidAttribute", errors.New(ad.Text(err)))
	}
	return failed("create", name, err)
}

// Flags of userAccountControl (MS-ADTS 2.2.16).
const (
	accountDisabled     = 0x2
	passwordNotRequired = 0x20
)

// SetPassword replaces a user's password, enables the user and ends a lockout.
func (m *Manager) SetPassword(ctx context.Context, id ident.DirectoryID, userName string, password directory.Password) error {
	if password.Empty() || strings.ContainsRune(password.Reveal(), 0) {
		return fmt.Errorf("samba: %w: it is empty or has a NUL in it", directory.ErrWeakPassword)
	}
	return m.change(ctx, id, userName, func(conn *ldap.Conn, user *ldap.Entry) error {
		flags, err := strconv.ParseInt(user.GetAttributeValue("userAccountControl"), 10, 64)
		if err != nil {
			return failed("read", userName, err)
		}
		// One change: a user is never enabled without the password.
		modify := ldap.NewModifyRequest(user.DN, nil)
		modify.Replace("unicodePwd", []string{ad.EncodePassword(password)})
		modify.Replace("userAccountControl", []string{strconv.FormatInt(flags&^(accountDisabled|passwordNotRequired), 10)})
		modify.Replace("lockoutTime", []string{"0"})
		return ad.PasswordError(conn.Modify(modify))
	})
}

// ChangePassword replaces a user's password when the old one is right, also an expired one. *directory.LoginError, ErrWeakPassword, ErrNoUser,
// ErrProtected.
func (m *Manager) ChangePassword(ctx context.Context, id ident.DirectoryID, userName string, old, new directory.Password) error {
	if old.Empty() {
		return &directory.LoginError{Reason: directory.ReasonWrong}
	}
	if new.Empty() || strings.ContainsRune(new.Reveal(), 0) {
		return fmt.Errorf("samba: %w: it is empty or has a NUL in it", directory.ErrWeakPassword)
	}
	return m.change(ctx, id, userName, func(conn *ldap.Conn, user *ldap.Entry) error {
		return ad.PasswordError(conn.Modify(ad.ChangeRequest(user.DN, old, new)))
	})
}

// DisableUser keeps a user from logging in.
func (m *Manager) DisableUser(ctx context.Context, id ident.DirectoryID, userName string) error {
	return m.change(ctx, id, userName, func(conn *ldap.Conn, user *ldap.Entry) error {
		flags, err := strconv.ParseInt(user.GetAttributeValue("userAccountControl"), 10, 64)
		if err != nil {
			return failed("read", userName, err)
		}
		modify := ldap.NewModifyRequest(user.DN, nil)
		modify.Replace("userAccountControl", []string{strconv.FormatInt(flags|accountDisabled, 10)})
		if err := conn.Modify(modify); err != nil {
			return failed("disable", userName, err)
		}
		return nil
	})
}

// DeleteUser removes a user.
func (m *Manager) DeleteUser(ctx context.Context, id ident.DirectoryID, userName string) error {
	return m.change(ctx, id, userName, func(conn *ldap.Conn, user *ldap.Entry) error {
		switch err := conn.Del(ldap.NewDelRequest(user.DN, nil)); {
		case err == nil:
			return nil
		case result(err) == ldap.LDAPResultNoSuchObject:
			return fmt.Errorf("samba: %q: %w", userName, directory.ErrNoUser)
		default:
			return failed("delete", userName, err)
		}
	})
}

// change runs fn with the entry of a user who may be changed.
func (m *Manager) change(ctx context.Context, id ident.DirectoryID, userName string, fn func(*ldap.Conn, *ldap.Entry) error) error {
	return m.with(ctx, id, userName, func(d *domain, conn *ldap.Conn) error {
		found, err := d.user(conn, userName)
		if err != nil {
			return err
		}
		if err := d.protected(conn, found); err != nil {
			return err
		}
		return fn(conn, found)
	})
}

const (
	pageSize = 500
	// maxUsers bounds one ListUsers.
	maxUsers = 1000
)

// ListUsers gives users in order of name without regard to case. The directory knows no order that it would begin in the middle of: all users
// are read each time, page by page, and the wanted ones kept.
func (m *Manager) ListUsers(ctx context.Context, id ident.DirectoryID, after string, limit int) (users []directory.User, next string, err error) {
	if limit <= 0 || limit > maxUsers {
		limit = maxUsers
	}
	d, err := m.domains.serving(id)
	if err != nil {
		return nil, "", err
	}
	err = d.ask(ctx, listing, maxList, func(conn *ldap.Conn) error {
		paging := ldap.NewControlPaging(pageSize)
		for begin := time.Now(); time.Since(begin) < listing; {
			r, err := conn.Search(ldap.NewSearchRequest(ad.BaseDN(d.rec.Name), ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
				"(&"+people+")", ad.Attributes, []ldap.Control{paging}))
			if err != nil {
				return failed("list the users of", string(id), err)
			}
			if users, err = firstAfter(users, r.Entries, after, limit+1); err != nil {
				return err
			}
			answer, more := ldap.FindControl(r.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
			if !more || len(answer.Cookie) == 0 {
				return nil
			}
			paging.SetCookie(answer.Cookie)
		}
		return failed("list the users of", string(id), errors.New("it takes too long"))
	})
	if err != nil {
		return nil, "", err
	}
	if len(users) > limit {
		users = users[:limit]
		next = users[limit-1].Name
	}
	return users, next, nil
}

// firstAfter gives the first n in order of those that were kept and the new ones, all after a name.
func firstAfter(kept []directory.User, entries []*ldap.Entry, after string, n int) ([]directory.User, error) {
	for _, e := range entries {
		u, err := ad.User(e)
		if err != nil {
			return nil, failed("read", e.DN, err)
		}
		if after == "" || byName(u.Name, after) > 0 {
			kept = append(kept, u)
		}
	}
	slices.SortFunc(kept, func(a, b directory.User) int { return byName(a.Name, b.Name) })
	return kept[:min(len(kept), n)], nil
}

func byName(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }
