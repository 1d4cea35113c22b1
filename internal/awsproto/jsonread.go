package awsproto

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads one JSON document (RFC 8259) in a single pass. It holds the grammar; jsondecode.go holds what the values mean.
// The whole body is known to be valid UTF-8 before it starts.
type jsonReader struct {
	b     []byte
	i     int
	depth int
	left  int    // elements and unknown members still allowed
	buf   []byte // the last string that had escapes
}

// syntax is an error of the grammar at the current place.
func (r *jsonReader) syntax(what string) *docError {
	return malformed("Invalid JSON at offset %d: %s", r.i, what)
}

// peek skips white space and gives the next byte, 0 at the end (0 is never legal there, so callers need no second test).
func (r *jsonReader) peek() byte {
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return c
		}
	}
	return 0
}

// enter goes one level down; the document's depth bounds our recursion, so it is checked before anything is read.
func (r *jsonReader) enter() *docError {
	if r.depth++; r.depth > maxDepth {
		return r.syntax("nested too deeply")
	}
	r.i++
	return nil
}

func (r *jsonReader) leave() {
	r.depth--
	r.i++
}

// spend counts an element, entry or unknown member.
func (r *jsonReader) spend() *docError {
	if r.left--; r.left < 0 {
		return malformed("Too many elements")
	}
	return nil
}

// next moves to the next element of a list or object that ends with closing; first is true before the first one.
func (r *jsonReader) next(closing byte, first bool) (bool, *docError) {
	c := r.peek()
	if c == closing {
		r.leave()
		return false, nil
	}
	if first {
		return true, nil
	}
	if c != ',' {
		return false, r.syntax("expected a comma or the end of a list or structure")
	}
	r.i++
	if r.peek() == closing {
		return false, r.syntax("nothing after a comma")
	}
	return true, nil
}

// key reads a member's name and its colon. The bytes are valid until the next string is read.
func (r *jsonReader) key() ([]byte, *docError) {
	if r.peek() != '"' {
		return nil, r.syntax("expected a member name")
	}
	k, err := r.str()
	if err != nil {
		return nil, err
	}
	if r.peek() != ':' {
		return nil, r.syntax("expected a colon")
	}
	r.i++
	return k, nil
}

// str reads a string at its opening quote. The bytes are valid until the next string is read.
func (r *jsonReader) str() ([]byte, *docError) {
	start := r.i + 1
	for j := start; j < len(r.b); j++ {
		switch c := r.b[j]; {
		case c == '"':
			r.i = j + 1
			return r.b[start:j], nil
		case c == '\\':
			r.buf = append(r.buf[:0], r.b[start:j]...)
			r.i = j
			return r.escaped()
		case c < 0x20:
			r.i = j
			return nil, r.syntax("control character in a string")
		}
	}
	return nil, r.syntax("string without an end")
}

// escaped reads on in a string after its first backslash, into r.buf.
func (r *jsonReader) escaped() ([]byte, *docError) {
	for r.i < len(r.b) {
		c := r.b[r.i]
		switch {
		case c == '"':
			r.i++
			return r.buf, nil
		case c < 0x20:
			return nil, r.syntax("control character in a string")
		case c != '\\':
			r.buf = append(r.buf, c)
			r.i++
		default:
			if err := r.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, r.syntax("string without an end")
}

func (r *jsonReader) escape() *docError {
	if r.i+1 >= len(r.b) {
		return r.syntax("string without an end")
	}
	switch c := r.b[r.i+1]; c {
	case '"', '\\', '/':
		r.buf = append(r.buf, c)
	case 'b':
		r.buf = append(r.buf, '\b')
	case 'f':
		r.buf = append(r.buf, '\f')
	case 'n':
		r.buf = append(r.buf, '\n')
	case 'r':
		r.buf = append(r.buf, '\r')
	case 't':
		r.buf = append(r.buf, '\t')
	case 'u':
		return r.unicode()
	default:
		return r.syntax("unknown escape in a string")
	}
	r.i += 2
	return nil
}

// unicode reads \uXXXX or a pair of them. A lone surrogate is refused: readers differ in what they make of it.
func (r *jsonReader) unicode() *docError {
	hi, ok := r.hex4(r.i)
	if !ok {
		return r.syntax("bad \\u escape")
	}
	if !utf16.IsSurrogate(hi) {
		r.buf = utf8.AppendRune(r.buf, hi)
		r.i += 6
		return nil
	}
	lo, ok := r.hex4(r.i + 6)
	c := utf16.DecodeRune(hi, lo)
	if !ok || c == utf8.RuneError {
		return r.syntax("lone surrogate")
	}
	r.buf = utf8.AppendRune(r.buf, c)
	r.i += 12
	return nil
}

// hex4 reads the four digits of the \u escape that starts at i.
func (r *jsonReader) hex4(i int) (rune, bool) {
	if i+6 > len(r.b) || r.b[i] != '\\' || r.b[i+1] != 'u' {
		return 0, false
	}
	var v rune
	for _, c := range r.b[i+2 : i+6] {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			v = v<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// number reads a number's literal; whole is true when it has neither fraction nor exponent. A number no double can hold (1e400)
// is refused wherever it stands.
func (r *jsonReader) number() (lit []byte, whole bool, err *docError) {
	start := r.i
	if r.b[r.i] == '-' {
		r.i++
	}
	if r.i < len(r.b) && r.b[r.i] == '0' {
		r.i++
	} else if !r.digits() {
		return nil, false, r.syntax("bad number")
	}
	whole = true
	if r.i < len(r.b) && r.b[r.i] == '.' {
		r.i++
		whole = false
		if !r.digits() {
			return nil, false, r.syntax("bad number")
		}
	}
	if r.i < len(r.b) && (r.b[r.i] == 'e' || r.b[r.i] == 'E') {
		r.i++
		whole = false
		if r.i < len(r.b) && (r.b[r.i] == '+' || r.b[r.i] == '-') {
			r.i++
		}
		if !r.digits() {
			return nil, false, r.syntax("bad number")
		}
	}
	lit = r.b[start:r.i]
	if !whole || len(lit) > 19 {
		if _, e := strconv.ParseFloat(string(lit), 64); e != nil {
			return nil, false, malformed("Number out of range")
		}
	}
	return lit, whole, nil
}

// digits skips digits and tells whether there was one.
func (r *jsonReader) digits() bool {
	start := r.i
	for r.i < len(r.b) && '0' <= r.b[r.i] && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i > start
}

// word reads one of true, false, null at its first letter.
func (r *jsonReader) word(w string) *docError {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		return r.syntax("unexpected character")
	}
	r.i += len(w)
	return nil
}

// skip reads a value nobody asked for, as strictly as one somebody did: a document has one meaning for every reader or none.
func (r *jsonReader) skip() *docError {
	switch c := r.peek(); {
	case c == '{':
		return r.skipObject()
	case c == '[':
		return r.skipList()
	case c == '"':
		_, err := r.str()
		return err
	case c == '-' || '0' <= c && c <= '9':
		_, _, err := r.number()
		return err
	case c == 't':
		return r.word("true")
	case c == 'f':
		return r.word("false")
	case c == 'n':
		return r.word("null")
	}
	return r.syntax("expected a value")
}

func (r *jsonReader) skipList() *docError {
	if err := r.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := r.next(']', first)
		if err != nil || !more {
			return err
		}
		if err := r.spend(); err != nil {
			return err
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
}

func (r *jsonReader) skipObject() *docError {
	if err := r.enter(); err != nil {
		return err
	}
	var seen keySet
	for first := true; ; first = false {
		more, err := r.next('}', first)
		if err != nil || !more {
			return err
		}
		k, err := r.key()
		if err != nil {
			return err
		}
		if err := seen.add(r, k); err != nil {
			return err
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
}

// keySet remembers the unknown keys of one object, to refuse the second of a name.
type keySet map[string]struct{}

func (s *keySet) add(r *jsonReader, key []byte) *docError {
	if err := r.spend(); err != nil {
		return err
	}
	if _, twice := (*s)[string(key)]; twice {
		return duplicate(key)
	}
	if *s == nil {
		*s = keySet{}
	}
	(*s)[string(key)] = struct{}{}
	return nil
}

// duplicate is the refusal of a second member of one name (SIG-10: authorise by the first, act on the last).
func duplicate(key []byte) *docError {
	return malformed("Duplicate member name").in(shown(string(key)))
}

// shown shortens a name that a client made up, so that an error stays short.
func shown(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + "..."
}
