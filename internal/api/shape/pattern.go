package shape

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Pattern is a compiled pattern of a model. AWS's front ends run java.util.regex and match the whole value.
type Pattern struct {
	all, none []*regexp.Regexp
	// any holds alternatives of which one must match in all its parts; empty asks nothing.
	any [][]*regexp.Regexp
}

// Match tells whether the whole value fits. It runs in time linear in the value, whatever the pattern: RE2, no backtracking.
func (p *Pattern) Match(value string) bool {
	for _, re := range p.none {
		if re.MatchString(value) {
			return false
		}
	}
	if !matchAll(p.all, value) {
		return false
	}
	for _, parts := range p.any {
		if matchAll(parts, value) {
			return true
		}
	}
	return len(p.any) == 0
}

func matchAll(res []*regexp.Regexp, value string) bool {
	for _, re := range res {
		if !re.MatchString(value) {
			return false
		}
	}
	return true
}

// reading is a pattern with look-ahead, which RE2 has not, as a conjunction of plain Java patterns that says the same.
type reading struct {
	all, none []string
	any       [][]string
}

// readings spells out the model patterns that look ahead. The generator stops at a pattern it neither finds here nor can compile.
func readings(pattern string) (reading, bool) {
	const digit, upper, lower, special = `.*\d.*`, `.*[A-Z].*`, `.*[a-z].*`, `.*[^A-Za-z0-9\s].*`
	switch pattern {
	case `(?=^.{8,64}$)((?=.*\d)(?=.*[A-Z])(?=.*[a-z])|(?=.*\d)(?=.*[^A-Za-z0-9\s])(?=.*[a-z])|(?=.*[^A-Za-z0-9\s])(?=.*[A-Z])(?=.*[a-z])|(?=.*\d)(?=.*[A-Z])(?=.*[^A-Za-z0-9\s]))^.*`:
		// Three of the four classes of characters: ds passwords.
		return reading{all: []string{`.{8,64}`}, any: [][]string{
			{digit, upper, lower}, {digit, special, lower}, {special, upper, lower}, {digit, upper, special}}}, true
	case `^(?!.*\\|.*"|.*\/|.*\[|.*\]|.*:|.*;|.*\||.*=|.*,|.*\+|.*\*|.*\?|.*<|.*>|.*@).*$`:
		return reading{all: []string{`[^\\"/\[\]:;|=,+*?<>@]*`, `.*`}}, true
	case `^(?!D-|d-)([\da-zA-Z]+)([-]*[\da-zA-Z])*`:
		return reading{all: []string{`([\da-zA-Z]+)([-]*[\da-zA-Z])*`}, none: []string{`[Dd]-(.|[\r\n])*`}}, true
	case `^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`:
		return reading{all: []string{`[a-z0-9][a-z0-9-]{1,61}[a-z0-9]`}, none: []string{`.*--.*`}}, true
	}
	return reading{all: []string{pattern}}, false
}

// CompilePattern reads a pattern of a model. The error names the construct that has no equal here.
func CompilePattern(pattern string) (*Pattern, error) {
	r, _ := readings(pattern)
	p := new(Pattern)
	var err error
	if p.all, err = compileAll(r.all); err != nil {
		return nil, err
	}
	if p.none, err = compileAll(r.none); err != nil {
		return nil, err
	}
	for _, parts := range r.any {
		res, err := compileAll(parts)
		if err != nil {
			return nil, err
		}
		p.any = append(p.any, res)
	}
	return p, nil
}

func compileAll(patterns []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, p := range patterns {
		re, err := translate(p)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		compiled, err := regexp.Compile(`\A(?:` + re + `)\z`)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		out = append(out, compiled)
	}
	return out, nil
}

// translator rewrites java.util.regex into RE2. It knows what AWS's models use and refuses the rest.
type translator struct {
	in    string
	out   strings.Builder
	class bool
	// atom is where the last atom that a repetition can apply to begins in out.
	atom   int
	groups []int
}

func translate(java string) (string, error) {
	t := translator{in: java}
	for t.in != "" {
		if err := t.step(); err != nil {
			return "", err
		}
	}
	return t.out.String(), nil
}

// take consumes n bytes of the pattern.
func (t *translator) take(n int) string {
	s := t.in[:n]
	t.in = t.in[n:]
	return s
}

func (t *translator) step() error {
	if t.in[0] == '\\' {
		return t.escape()
	}
	if t.class {
		return t.inClass()
	}
	switch c := t.in[0]; c {
	case '[':
		t.atom, t.class = t.out.Len(), true
		t.out.WriteString(t.take(1))
		// A leading ^ negates; nothing else may be swallowed here, RE2 reads "[]" as Java does not.
		if strings.HasPrefix(t.in, "^") {
			t.out.WriteString(t.take(1))
		}
		if strings.HasPrefix(t.in, "]") {
			return fmt.Errorf("a class begins with ]")
		}
	case '(':
		if strings.HasPrefix(t.in, "(?") && !strings.HasPrefix(t.in, "(?:") {
			return fmt.Errorf("group %.4q is not translated", t.in)
		}
		t.groups = append(t.groups, t.out.Len())
		t.out.WriteString(t.take(1))
		if strings.HasPrefix(t.in, "?:") {
			t.out.WriteString(t.take(2))
		}
	case ')':
		if len(t.groups) == 0 {
			return fmt.Errorf("unpaired )")
		}
		t.atom, t.groups = t.groups[len(t.groups)-1], t.groups[:len(t.groups)-1]
		t.out.WriteString(t.take(1))
	case '*', '+', '?', '{':
		return t.repeat()
	case '.':
		t.atom = t.out.Len()
		t.take(1)
		t.out.WriteString(`[^\n\r\x{85}\x{2028}\x{2029}]`) // Java's line terminators
	default:
		_, n := utf8.DecodeRuneInString(t.in)
		t.atom = t.out.Len()
		t.out.WriteString(t.take(n))
	}
	return nil
}

func (t *translator) inClass() error {
	switch {
	case t.in[0] == '[' || strings.HasPrefix(t.in, "&&"):
		return fmt.Errorf("unions and intersections of classes are not translated")
	case t.in[0] == ']':
		t.class = false
	}
	t.out.WriteString(t.take(1))
	return nil
}

// repeat copies a repetition. RE2 counts to 1000: longer ones are split into two.
func (t *translator) repeat() error {
	n := 1
	if t.in[0] == '{' {
		end := strings.IndexByte(t.in, '}')
		if end < 0 {
			return fmt.Errorf("{ without }")
		}
		n = end + 1
	}
	count := t.take(n)
	if strings.HasPrefix(t.in, "+") {
		return fmt.Errorf("possessive repetition is not translated")
	}
	var min, max int
	if got, _ := fmt.Sscanf(count, "{%d,%d}", &min, &max); got < 2 || max <= 1000 {
		t.out.WriteString(count)
		return nil
	}
	if min > 1000 || max > 2000 {
		return fmt.Errorf("repetition %s is not translated", count)
	}
	atom := t.out.String()[t.atom:]
	fmt.Fprintf(&t.out, "{%d,1000}%s{0,%d}", min, atom, max-1000)
	return nil
}

// property gives what Java's \p{name} stands for, as the content of a class.
func property(name string) (string, bool) {
	switch name {
	case "L", "Z", "N", "M", "P", "S", "Lu", "Ll", "Nd":
		return `\p{` + name + `}`, true
	case "LD": // Character.isLetterOrDigit
		return `\p{L}\p{Nd}`, true
	case "Punct": // ASCII alone without UNICODE_CHARACTER_CLASS
		return "!-/:-@\\[-`{-~", true
	}
	return "", false
}

func (t *translator) escape() error {
	if len(t.in) < 2 {
		return fmt.Errorf("trailing \\")
	}
	if !t.class {
		t.atom = t.out.Len()
	}
	switch c := t.in[1]; c {
	case 'u':
		if len(t.in) < 6 || strings.Trim(t.in[2:6], "0123456789abcdefABCDEF") != "" {
			return fmt.Errorf(`\u without four digits`)
		}
		t.out.WriteString(`\x{` + t.take(6)[2:] + `}`)
	case 'x':
		if len(t.in) < 4 {
			return fmt.Errorf(`\x without two digits`)
		}
		t.out.WriteString(t.take(4))
	case 'p':
		end := strings.IndexByte(t.in, '}')
		if end < 3 || t.in[2] != '{' {
			return fmt.Errorf(`\p without a name in braces`)
		}
		set, ok := property(t.take(end + 1)[3:end])
		if !ok {
			return fmt.Errorf(`unknown \p class`)
		}
		t.set(set)
	case 's', 'S': // Java's \s holds the vertical tab, RE2's does not
		t.take(2)
		if c == 'S' {
			if t.class {
				return fmt.Errorf(`\S in a class is not translated`)
			}
			t.out.WriteString(`[^\t\n\x0B\f\r ]`)
			return nil
		}
		t.set(`\t\n\x0B\f\r `)
	default:
		if strings.IndexByte("wWdDtnrf", c) < 0 && (c >= utf8.RuneSelf || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return fmt.Errorf(`escape %q is not translated`, t.in[:2])
		}
		t.out.WriteString(t.take(2))
	}
	return nil
}

// set writes the content of a class, in brackets when not already inside a class.
func (t *translator) set(content string) {
	if t.class {
		t.out.WriteString(content)
		return
	}
	t.out.WriteString("[" + content + "]")
}
