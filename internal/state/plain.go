package state

import (
	"strconv"
	"strings"
	"time"
)

// plain reads the JSON that this version writes for the tables with a record a desktop: at a start they are most of what there is to
// decode. It knows a codec's fields in the order they are written and texts without escapes; anything else, damage included, makes it give
// up, and the value is left to the strict decoder and its errors. What it accepts, it reads as the strict decoder does.
type plain struct {
	rest   string
	failed bool
}

// plainly reads value into m, which is zero. false: m is to be thrown away.
func (c *codec) plainly(value string, m memory) bool {
	p := plain{rest: value}
	p.object(c, m)
	return !p.failed && p.rest == ""
}

// object takes an object with the fields of c.
func (p *plain) object(c *codec, m memory) {
	p.expect("{")
	p.members(c, m, true)
	p.expect("}")
}

// members takes the fields of c; first tells whether none has come before them in their object, and so does the result.
func (p *plain) members(c *codec, m memory, first bool) bool {
	for i := range c.fields {
		f := &c.fields[i]
		if f.inline {
			first = p.members(f.sub, m.inside(f), first)
			continue
		}
		rest, here := p.rest, true
		if !first {
			rest, here = strings.CutPrefix(rest, ",")
		}
		if here {
			rest, here = strings.CutPrefix(rest, f.name)
		}
		if here {
			p.rest, first = rest, false
			p.value(f, m)
		} else if !f.optional {
			p.failed = true
		}
		if p.failed {
			return first
		}
	}
	return first
}

func (p *plain) value(f *field, m memory) {
	switch f.kind {
	case textField:
		*m.text(f) = p.text()
	case boolField:
		*m.bool(f) = p.bool()
	case intField:
		*m.int(f) = p.int()
	case timeField:
		p.time(m.time(f))
	case textsField:
		*m.texts(f) = p.texts()
	case mapField:
		*m.pairs(f) = p.pairs()
	case structField:
		p.object(f.sub, m.inside(f))
	}
}

// expect takes literal text.
func (p *plain) expect(text string) {
	rest, ok := strings.CutPrefix(p.rest, text)
	if !ok {
		p.failed = true
		return
	}
	p.rest = rest
}

// sees takes literal text if it comes next.
func (p *plain) sees(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

// text takes a JSON string of printable ASCII without escapes.
func (p *plain) text() string {
	p.expect(`"`)
	for i := 0; i < len(p.rest) && !p.failed; i++ {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text
		case c < 0x20 || c > 0x7e || c == '\\':
			p.failed = true
		}
	}
	p.failed = true
	return ""
}

func (p *plain) bool() bool {
	if p.sees("true") {
		return true
	}
	p.expect("false")
	return false
}

// int takes a whole number as strconv writes it, of which every int has the room.
func (p *plain) int() int {
	end := 0
	for end < len(p.rest) && (p.rest[end] == '-' || p.rest[end] >= '0' && p.rest[end] <= '9') {
		end++
	}
	text := p.rest[:end]
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text {
		p.failed = true
	}
	p.rest = p.rest[end:]
	return n
}

// time takes a JSON string that is a time.
func (p *plain) time(t *time.Time) {
	if text := p.text(); !p.failed && t.UnmarshalText([]byte(text)) != nil {
		p.failed = true
	}
}

// texts takes an array of strings.
func (p *plain) texts() []string {
	p.expect("[")
	list := make([]string, 0, 1)
	for first := true; !p.failed && !p.sees("]"); first = false {
		if !first {
			p.expect(",")
		}
		list = append(list, p.text())
	}
	return list
}

// pairs takes an object of strings.
func (p *plain) pairs() map[string]string {
	p.expect("{")
	m := map[string]string{}
	for first := true; !p.failed && !p.sees("}"); first = false {
		if !first {
			p.expect(",")
		}
		key := p.text()
		p.expect(":")
		m[key] = p.text()
	}
	return m
}
