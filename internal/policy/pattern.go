package policy

import (
	"strings"
	"unicode/utf8"
	"unsafe"
)

// A pattern is text in which two bytes that no UTF-8 has stand for the wildcards, so that a literal star, the value of a variable and a
// wildcard can never be taken for one another (IAM-4: a user named "*").
const (
	anyText = 0xFF // "*": any characters, also none
	anyChar = 0xFE // "?": one character
)

var wildcards = strings.NewReplacer("*", string([]byte{anyText}), "?", string([]byte{anyChar}))

// pattern is a compiled value of a policy. Without parts it is text alone; otherwise its text is put together for each request.
type pattern struct {
	text  string
	wild  bool // text has wildcards
	parts []part
}

// part is a stretch of text or, when key has a name, a variable.
type part struct {
	text       string
	key        Key
	written    string // the key as the document has it
	def        string
	hasDefault bool
}

// match tells whether the whole of text matches. Variables must have been found resolvable before; what is missing reads as nothing.
func (p *pattern) match(text string, r *Request) bool {
	if p.parts == nil && !p.wild {
		return p.text == text
	}
	return glob(p.expanded(r), text)
}

// expanded is the text of a pattern without wildcards.
func (p *pattern) expanded(r *Request) string {
	if p.parts == nil {
		return p.text
	}
	return p.expand(r)
}

// expand puts the values of the variables in. The result lives until the next call with the same request.
func (p *pattern) expand(r *Request) string {
	b := r.scratch[:0]
	for i := range p.parts {
		b = append(b, p.parts[i].value(r)...)
	}
	r.scratch = b
	return unsafe.String(unsafe.SliceData(b), len(b)) // Copying would allocate, and nobody keeps it.
}

func (p *part) value(r *Request) string {
	if p.key.name == "" {
		return p.text
	}
	if v, ok := r.single(p.key); ok {
		return v
	}
	return p.def
}

// unresolved is the first variable that has neither a value nor a default (reference 5.3), nil when there is none.
func (p *pattern) unresolved(r *Request) *part {
	for i := range p.parts {
		if q := &p.parts[i]; q.key.name != "" && !q.hasDefault {
			if _, ok := r.single(q.key); !ok {
				return q
			}
		}
	}
	return nil
}

// parsePattern reads a policy's value. wild tells that * and ? are wildcards, vars that ${...} is a variable (Version 2012-10-17).
func parsePattern(text string, wild, vars bool) (pattern, string) {
	literal := func(s string) string {
		if wild {
			return wildcards.Replace(s)
		}
		return s
	}
	var p pattern
	var b strings.Builder
	for rest := text; ; {
		before, inside, found := strings.Cut(rest, "${")
		if !vars || !found {
			b.WriteString(literal(rest))
			break
		}
		b.WriteString(literal(before))
		name, after, closed := strings.Cut(inside, "}")
		if !closed {
			return p, "a variable without its closing brace"
		}
		rest = after
		if name == "*" || name == "?" || name == "$" {
			b.WriteString(name) // ${*} is the character itself.
			continue
		}
		v, reason := parseVariable(name)
		if reason != "" {
			return p, reason
		}
		p.parts = append(p.parts, part{text: b.String()}, v)
		b.Reset()
	}
	if p.parts != nil {
		p.parts = append(p.parts, part{text: b.String()})
		return p, ""
	}
	p.text = b.String()
	p.wild = strings.IndexByte(p.text, anyText) >= 0 || strings.IndexByte(p.text, anyChar) >= 0
	return p, ""
}

// parseVariable reads what stands in the braces: a key, and perhaps a default: aws:PrincipalTag/team, 'everyone'.
func parseVariable(s string) (part, string) {
	name, def, hasDefault := strings.Cut(s, ",")
	if !validKey(name) {
		return part{}, "${" + s + "} is no variable: a condition key is missing"
	}
	v := part{key: NewKey(name), written: name, hasDefault: hasDefault}
	if !hasDefault {
		return v, ""
	}
	def = strings.TrimLeft(def, " ")
	if len(def) < 2 || def[0] != '\'' || def[len(def)-1] != '\'' || strings.Contains(def[1:len(def)-1], "'") {
		return part{}, "${" + s + "}: the default of a variable stands in single quotes"
	}
	v.def = def[1 : len(def)-1]
	return v, ""
}

// glob matches a pattern in time linear in the text for each stretch between stars: a stretch is looked for once, at its first place,
// because an earlier end leaves more for what follows. Nothing is tried twice, so *a*a*a*b costs what its letters cost (IAM-1).
func glob(p, s string) bool {
	star := strings.IndexByte(p, anyText)
	if star < 0 {
		n, ok := head(p, s)
		return ok && n == len(s)
	}
	n, ok := head(p[:star], s)
	if !ok {
		return false
	}
	for s, p = s[n:], p[star+1:]; ; p = p[star+1:] {
		if star = strings.IndexByte(p, anyText); star < 0 {
			return tail(p, s)
		}
		end := find(p[:star], s)
		if end < 0 {
			return false
		}
		s = s[end:]
	}
}

// head matches a stretch without stars at the beginning of s and gives how much it took.
func head(p, s string) (int, bool) {
	if strings.IndexByte(p, anyChar) < 0 {
		return len(p), strings.HasPrefix(s, p)
	}
	at := 0
	for i := range len(p) {
		switch {
		case at == len(s):
			return 0, false
		case p[i] == anyChar:
			_, size := utf8.DecodeRuneInString(s[at:])
			at += size
		case p[i] == s[at]:
			at++
		default:
			return 0, false
		}
	}
	return at, true
}

// tail matches a stretch without stars at the end of s.
func tail(p, s string) bool {
	if strings.IndexByte(p, anyChar) < 0 {
		return strings.HasSuffix(s, p)
	}
	for i := len(p) - 1; i >= 0; i-- {
		switch {
		case s == "":
			return false
		case p[i] == anyChar:
			_, size := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-size]
		case p[i] == s[len(s)-1]:
			s = s[:len(s)-1]
		default:
			return false
		}
	}
	return true
}

// find gives where the first match of a stretch without stars ends in s, -1 when there is none.
func find(p, s string) int {
	if strings.IndexByte(p, anyChar) < 0 {
		i := strings.Index(s, p)
		if i < 0 {
			return -1
		}
		return i + len(p)
	}
	return shiftAnd(p, s)
}

// shiftAnd is find for a stretch with question marks: one bit for each byte of p tells whether p up to there matches what was just read
// (Baeza-Yates and Gonnet), so no text makes it slow. A question mark takes the first byte of a character and stays for its others.
func shiftAnd(p, s string) int {
	words := (len(p) + 63) / 64
	var few [258]uint64
	table := few[:]
	if words > 1 {
		table = make([]uint64, 258*words) // A stretch of more than 64 bytes with a question mark in it is too rare to keep room for.
	}
	state, marks := table[256*words:257*words], table[257*words:]
	for i := range len(p) {
		if p[i] == anyChar {
			marks[i/64] |= 1 << (i % 64)
		} else {
			table[int(p[i])*words+i/64] |= 1 << (i % 64)
		}
	}
	for at := range len(s) {
		within := !utf8.RuneStart(s[at])
		carry := uint64(1)
		for w := range state {
			was := state[w]
			now := (was<<1 | carry) & table[int(s[at])*words+w]
			if within {
				now |= was & marks[w]
			} else {
				now |= (was<<1 | carry) & marks[w]
			}
			state[w], carry = now, was>>63
		}
		if state[words-1]>>((len(p)-1)%64)&1 != 0 {
			end := at + 1
			for end < len(s) && !utf8.RuneStart(s[end]) {
				end++ // The rest of the character that the last question mark stands for.
			}
			return end
		}
	}
	return -1
}
