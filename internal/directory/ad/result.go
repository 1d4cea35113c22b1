package ad

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
)

// reasons are the Windows error numbers that a refused bind carries in its text as "data 52e" (MS-ERREF 2.2), in lower-case hexadecimal.
// 525 (no such user) is not among them: it must look like a wrong password.
var reasons = map[string]directory.Reason{
	"52e": directory.ReasonWrong,
	"530": directory.ReasonHours,
	"531": directory.ReasonHours, // not from this workstation: the same kind of rule
	"532": directory.ReasonExpired,
	"533": directory.ReasonDisabled,
	"701": directory.ReasonAccount,
	"773": directory.ReasonMustChange,
	"775": directory.ReasonLocked,
}

// refusal gives the reason that a directory's text about a refused bind names; ReasonWrong when it names none that we know.
func refusal(text string) directory.Reason {
	if reason, known := reasons[dataCode(text)]; known {
		return reason
	}
	return directory.ReasonWrong
}

// dataCode finds the number in "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e, v1db1"; "" when
// there is none.
func dataCode(text string) string {
	_, rest, found := strings.Cut(text, ", data ")
	if !found {
		return ""
	}
	return strings.TrimLeft(strings.ToLower(hexadecimal(rest)), "0")
}

// windowsCode finds the number that begins "0000052D: Constraint violation - check_password_restrictions: ..."; "" when there is none.
func windowsCode(text string) string {
	code := hexadecimal(text)
	if len(code) != 8 || !strings.HasPrefix(text[8:], ":") {
		return ""
	}
	return strings.TrimLeft(strings.ToLower(code), "0")
}

func hexadecimal(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
	if end < 0 {
		end = len(s)
	}
	return s[:min(end, 8)]
}

// answer is a directory's own refusal; nil when err is something else (the network, the library).
func answer(err error) *ldap.Error {
	var e *ldap.Error
	// From 200 on are the library's own numbers: nothing that a directory said.
	if !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork {
		return nil
	}
	return e
}

// Text is what a directory said about a refusal, in one line and without its own jargon in front; err's own text if it said nothing.
func Text(err error) string {
	e := answer(err)
	if e == nil || e.Err == nil {
		return err.Error()
	}
	s := e.Err.Error()
	if windowsCode(s) != "" {
		s = strings.TrimSpace(s[9:])
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), maxText)], ""))
	return strings.TrimSpace(s)
}

// PasswordError turns the failure of writing unicodePwd into the contract's words: ErrWeakPassword with the directory's reason, a
// *LoginError when the old password is wrong or the account may not be used, ErrUnavailable for everything else.
func PasswordError(err error) error {
	if err == nil {
		return nil
	}
	e := answer(err)
	if e == nil {
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	code := windowsCode(e.Err.Error())
	switch {
	case code == "56": // ERROR_INVALID_PASSWORD
		return &directory.LoginError{Reason: directory.ReasonWrong}
	case code == "775": // ERROR_ACCOUNT_LOCKED_OUT
		return &directory.LoginError{Reason: directory.ReasonLocked}
	case code == "52d", e.ResultCode == ldap.LDAPResultConstraintViolation: // ERROR_PASSWORD_RESTRICTION
		return fmt.Errorf("%w: %s", directory.ErrWeakPassword, Text(err))
	}
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
}
