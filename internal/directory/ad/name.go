package ad

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the length of a user's sAMAccountName in characters (MS-SAMR 3.1.1.8.4).
const maxName = 20

// CheckName says what makes a name no user's sAMAccountName (MS-SAMR 3.1.1.6, MS-ADTS 3.1.1.5.2.2); nil: it can be one. What it lets
// through has nothing in it that a filter, a DN, a user principal name or DOMAIN\name gives a meaning to, so that what is asked about
// is what was typed. Escaping follows nevertheless.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a user name is needed")
	case !utf8.ValidString(name):
		return errors.New("the user name is not text (UTF-8)")
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Errorf("the user name is longer than %d characters", maxName)
	case strings.HasSuffix(name, "."):
		// "ada." and "ada" would be two names here and one in the directory's DNS and NetBIOS forms.
		return errors.New("a user name cannot end in a dot")
	case strings.Trim(name, " ") != name:
		// Directories drop outer spaces: two spellings of one user would be counted apart by whoever counts failures.
		return errors.New("a user name cannot begin or end with a space")
	}
	for _, r := range name {
		// unicode.IsPrint leaves out controls, NUL, format characters that do not show (U+200B, U+202E) and spaces other than U+0020.
		if !unicode.IsPrint(r) || r == utf8.RuneError || strings.ContainsRune(`"/\[]:;|=,+*?<>@`, r) {
			return fmt.Errorf("the user name has the character %q, which it cannot have", r)
		}
	}
	return nil
}
