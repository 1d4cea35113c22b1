package shape

import (
	"reflect"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// sentence is AWS's wording of one of the node's own constraints.
func (n *node) sentence(rule Rule) string {
	switch rule {
	case MaxLength:
		return "Member must have length less than or equal to " + strconv.FormatInt(n.check.Max, 10)
	case MinLength:
		return "Member must have length greater than or equal to " + strconv.FormatInt(n.check.Min, 10)
	case MaxValue:
		return "Member must have value less than or equal to " + strconv.FormatInt(n.check.Max, 10)
	case MinValue:
		return "Member must have value greater than or equal to " + strconv.FormatInt(n.check.Min, 10)
	case MatchPattern:
		return "Member must satisfy regular expression pattern: " + n.check.Pattern
	case MemberOfEnum:
		return "Member must satisfy enum value set: [" + strings.Join(n.check.Enum, ", ") + "]"
	}
	return "Member must not be null"
}

// sentences lists all constraints of a scalar, as AWS does for elements of lists and maps.
func (n *node) sentences() string {
	max, min := MaxLength, MinLength
	if k := n.shape.Kind; k != String && k != Blob {
		max, min = MaxValue, MinValue
	}
	var out []string
	for _, r := range []struct {
		has  bool
		rule Rule
	}{{n.check.HasMax, max}, {n.check.HasMin, min}, {n.pattern != nil, MatchPattern}, {n.enum != nil, MemberOfEnum}} {
		if r.has {
			out = append(out, n.sentence(r.rule))
		}
	}
	return strings.Join(out, ", ")
}

// shown is the value as a message shows it: with a leading space, or nothing at all when the shape is sensitive.
func shown(s *Shape, v reflect.Value) string {
	if s.secret() {
		return ""
	}
	if !v.IsValid() {
		return " null"
	}
	var b strings.Builder
	render(&b, s, v)
	return " '" + cut(b.String()) + "'"
}

// secret tells whether a value of s, or an element it would show, is sensitive.
func (s *Shape) secret() bool {
	switch {
	case s.Sensitive:
		return true
	case s.Kind == List:
		return s.Elem.secret()
	case s.Kind == Map:
		return s.Elem.secret() || s.Key.secret()
	}
	return false
}

// render writes a value in Java's form, "[a, b]" and "{k=v}". Structures show their name alone: what they hold is reported by
// its own path, and may be secret. It stops soon after the length that is shown.
func render(b *strings.Builder, s *Shape, v reflect.Value) {
	switch s.Kind {
	case Structure:
		b.WriteString(s.Name)
	case List:
		b.WriteByte('[')
		for i := range v.Len() {
			if b.Len() > 4*maxValueRunes {
				return
			}
			if i > 0 {
				b.WriteString(", ")
			}
			render(b, s.Elem, v.Index(i))
		}
		b.WriteByte(']')
	case Map:
		b.WriteByte('{')
		for i, k := range sortedMapKeys(v) {
			if b.Len() > 4*maxValueRunes {
				return
			}
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(k.String())
			b.WriteByte('=')
			render(b, s.Elem, v.MapIndex(k))
		}
		b.WriteByte('}')
	case String:
		b.WriteString(v.String())
	case Integer, Long:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case Float, Double:
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case Blob:
		b.WriteString("java.nio.HeapByteBuffer[pos=0 lim=" + strconv.Itoa(v.Len()) + " cap=" + strconv.Itoa(v.Len()) + "]")
	default:
		b.WriteString(s.Name)
	}
}

// cut shortens a value to what a message may echo, valid UTF-8 in any case.
func cut(s string) string {
	end, runes := 0, 0
	for end < len(s) && runes < maxValueRunes {
		_, n := utf8.DecodeRuneInString(s[end:])
		end += n
		runes++
	}
	out := strings.ToValidUTF8(s[:end], "\uFFFD")
	if end < len(s) {
		out += "..."
	}
	return out
}

// sortedMapKeys makes messages about maps the same every time.
func sortedMapKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	return keys
}
