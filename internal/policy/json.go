package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds nesting. The deepest policy nests six: document, statements, statement, condition, operator, values.
const maxDepth = 12

type nodeKind uint8

const (
	_ nodeKind = iota
	objectNode
	arrayNode
	stringNode
	numberNode
	boolNode
	nullNode
)

func (k nodeKind) String() string {
	return [...]string{"", "an object", "a list", "a string", "a number", "a boolean", "null"}[k]
}

// node is one JSON value with where it stands: byte offsets of its first byte and of the byte after its last.
type node struct {
	kind     nodeKind
	pos, end int
	text     string // The decoded string, or a number or boolean as it was written.
	members  []member
	items    []node
}

type member struct {
	name  string
	pos   int
	value node
}

// get is the member's value, nil when there is none.
func (n *node) get(name string) *node {
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i].value
		}
	}
	return nil
}

// reader reads JSON more strictly than encoding/json, which takes the last of several equal keys, matches keys in any case and mends bad
// UTF-8: two readers that disagree on what a policy says are a way round it (IAM-2, SIG-10).
type reader struct {
	text string
	at   int
}

// fault is what is wrong and where, in bytes.
type fault struct {
	at     int
	reason string
}

func readJSON(text string) (node, *fault) {
	r := reader{text: text}
	n, f := r.value(1)
	if f != nil {
		return n, f
	}
	r.space()
	if r.at != len(text) {
		return n, &fault{r.at, "something follows the document"}
	}
	return n, nil
}

func (r *reader) space() {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
}

// peek skips white space and gives the next byte, 0 at the end. A NUL in the text is no token either.
func (r *reader) peek() byte {
	r.space()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

func (r *reader) fail(reason string) *fault { return &fault{r.at, reason} }

func (r *reader) value(depth int) (node, *fault) {
	c := r.peek()
	n := node{pos: r.at}
	var f *fault
	switch {
	case depth > maxDepth:
		f = r.fail("nested too deeply")
	case c == '{':
		f = r.object(&n, depth)
	case c == '[':
		f = r.array(&n, depth)
	case c == '"':
		n.kind = stringNode
		n.text, f = r.string()
	case c == '-' || c >= '0' && c <= '9':
		n.kind = numberNode
		f = r.number()
		n.text = r.text[n.pos:r.at]
	default:
		f = r.word(&n)
	}
	n.end = r.at
	return n, f
}

func (r *reader) word(n *node) *fault {
	for _, w := range [...]struct {
		text string
		kind nodeKind
	}{{"true", boolNode}, {"false", boolNode}, {"null", nullNode}} {
		if strings.HasPrefix(r.text[r.at:], w.text) {
			r.at += len(w.text)
			n.kind, n.text = w.kind, w.text
			return nil
		}
	}
	if r.at == len(r.text) {
		return r.fail("the document ends too early")
	}
	return r.fail("this is not JSON")
}

func (r *reader) object(n *node, depth int) *fault {
	n.kind = objectNode
	r.at++
	if r.peek() == '}' {
		r.at++
		return nil
	}
	for {
		if r.peek() != '"' {
			return r.fail("a name in double quotes is missing here")
		}
		m := member{pos: r.at}
		var f *fault
		if m.name, f = r.string(); f != nil {
			return f
		}
		if n.get(m.name) != nil {
			return &fault{m.pos, "duplicate element " + strconv.Quote(m.name)}
		}
		if r.peek() != ':' {
			return r.fail("a colon is missing here")
		}
		r.at++
		if m.value, f = r.value(depth + 1); f != nil {
			return f
		}
		n.members = append(n.members, m)
		switch r.peek() {
		case ',':
			r.at++
		case '}':
			r.at++
			return nil
		default:
			return r.fail("a comma or the end of the object is missing here")
		}
	}
}

func (r *reader) array(n *node, depth int) *fault {
	n.kind = arrayNode
	r.at++
	if r.peek() == ']' {
		r.at++
		return nil
	}
	for {
		item, f := r.value(depth + 1)
		if f != nil {
			return f
		}
		n.items = append(n.items, item)
		switch r.peek() {
		case ',':
			r.at++
		case ']':
			r.at++
			return nil
		default:
			return r.fail("a comma or the end of the list is missing here")
		}
	}
}

// number checks RFC 8259's grammar and leaves the text as it is.
func (r *reader) number() *fault {
	if r.text[r.at] == '-' {
		r.at++
	}
	whole := r.at
	if !r.digits() {
		return r.fail("a digit is missing here")
	}
	if r.text[whole] == '0' && r.at > whole+1 {
		return &fault{whole, "a number begins with zero"}
	}
	if r.skip(".") && !r.digits() {
		return r.fail("a digit is missing here")
	}
	if r.skip("eE") {
		r.skip("+-")
		if !r.digits() {
			return r.fail("a digit is missing here")
		}
	}
	return nil
}

func (r *reader) skip(any string) bool {
	if r.at < len(r.text) && strings.IndexByte(any, r.text[r.at]) >= 0 {
		r.at++
		return true
	}
	return false
}

func (r *reader) digits() bool {
	from := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > from
}

func (r *reader) string() (string, *fault) {
	r.at++
	var b strings.Builder
	for r.at < len(r.text) {
		c := r.text[r.at]
		switch {
		case c == '"':
			r.at++
			return b.String(), nil
		case c == '\\':
			u, f := r.escape()
			if f != nil {
				return "", f
			}
			b.WriteRune(u)
		case c < ' ':
			return "", r.fail("a control character must be escaped")
		default:
			u, size := utf8.DecodeRuneInString(r.text[r.at:])
			if u == utf8.RuneError && size == 1 {
				return "", r.fail("this is not UTF-8")
			}
			b.WriteString(r.text[r.at : r.at+size])
			r.at += size
		}
	}
	return "", r.fail("the document ends within a string")
}

// escapes are the letters after a backslash and what they stand for.
var escapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (r *reader) escape() (rune, *fault) {
	start := r.at
	if len(r.text) < start+2 {
		return 0, r.fail("the document ends within a string")
	}
	r.at += 2
	c := r.text[start+1]
	if u, ok := escapes[c]; ok {
		return u, nil
	}
	if c != 'u' {
		return 0, &fault{start, "unknown escape"}
	}
	u, ok := r.hex()
	if high := u >= 0xD800 && u < 0xDC00; ok && high && strings.HasPrefix(r.text[r.at:], `\u`) {
		r.at += 2
		var low rune
		low, ok = r.hex()
		u = 0x10000 + (u-0xD800)<<10 + (low - 0xDC00)
		ok = ok && low >= 0xDC00 && low < 0xE000
	}
	if !ok || u >= 0xD800 && u < 0xE000 {
		return 0, &fault{start, "this escape is no character"}
	}
	return u, nil
}

func (r *reader) hex() (rune, bool) {
	if len(r.text) < r.at+4 {
		return 0, false
	}
	v, err := strconv.ParseUint(r.text[r.at:r.at+4], 16, 16)
	r.at += 4
	return rune(v), err == nil
}
