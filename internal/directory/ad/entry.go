package ad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
)

// Attributes are what User reads.
var Attributes = []string{"sAMAccountName", "objectSid", "displayName", "mail", "userAccountControl", "pwdLastSet", "accountExpires"}

// accountDisabled is ADS_UF_ACCOUNTDISABLE of userAccountControl (MS-ADTS 2.2.16).
const accountDisabled = 0x2

// maxText bounds a text of the directory in bytes: it is shown on pages and kept in records.
const maxText = 512

// User reads an entry that was asked for with Attributes. An entry without a name or a SID is an error.
func User(e *ldap.Entry) (directory.User, error) {
	u := directory.User{Name: text(e, "sAMAccountName"), DisplayName: text(e, "displayName"), Email: text(e, "mail")}
	if u.Name == "" {
		return directory.User{}, errors.New("the directory gave a user without a name")
	}
	var err error
	if u.SID, err = FormatSID(e.GetEqualFoldRawAttributeValue("objectSid")); err != nil {
		return directory.User{}, fmt.Errorf("user %q: %w", u.Name, err)
	}
	control, err := strconv.ParseInt(e.GetEqualFoldAttributeValue("userAccountControl"), 10, 64)
	// Who may not read the flags sees none of them: such a user counts as disabled.
	u.Enabled = err == nil && control&accountDisabled == 0
	if set := e.GetEqualFoldAttributeValue("pwdLastSet"); set != "" {
		u.PasswordSet = fileTime(set)
		u.MustChange = set == "0"
	}
	u.Expires = fileTime(e.GetEqualFoldAttributeValue("accountExpires"))
	return u, nil
}

// fileTime reads a time in 100 ns since 1601 (MS-DTYP 2.3.3). Zero for what is none, and for 0 and the largest number, which mean never.
func fileTime(s string) time.Time {
	const toUnix = 11_644_473_600 // seconds from 1601 to 1970
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n == math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(n/1e7-toUnix, n%1e7*100).UTC()
}

func text(e *ldap.Entry, name string) string {
	v := e.GetEqualFoldAttributeValue(name)
	return strings.ToValidUTF8(v[:min(len(v), maxText)], "")
}

// FormatSID writes a security identifier (MS-DTYP 2.4.2.2) as text (2.4.2.1): "S-1-5-21-1004336348-1177238915-682003330-512".
func FormatSID(b []byte) (string, error) {
	if len(b) < 8 || b[0] != 1 || b[1] > 15 || len(b) != 8+4*int(b[1]) {
		return "", fmt.Errorf("%d bytes are no security identifier", len(b))
	}
	var authority uint64
	for _, octet := range b[2:8] {
		authority = authority<<8 | uint64(octet)
	}
	s := "S-1-"
	if authority < 1<<32 {
		s += strconv.FormatUint(authority, 10)
	} else {
		s += fmt.Sprintf("0x%012X", authority)
	}
	for rest := b[8:]; len(rest) > 0; rest = rest[4:] {
		s += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(rest)), 10)
	}
	return s, nil
}
