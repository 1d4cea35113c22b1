package state

import (
	"bytes"
	"time"

	"carrel/internal/ident"
)

// plain reads the JSON that this version writes for the tables with several records a desktop: at a start they are most of what
// there is to decode. It knows fields in the order they are written and texts without escapes; anything else, damage
// included, makes it give up, and the value is left to the strict decoder and its errors.
type plain struct {
	rest   []byte
	failed bool
}

// expect takes literal text.
func (p *plain) expect(text string) {
	if p.failed || len(p.rest) < len(text) || string(p.rest[:len(text)]) != text {
		p.failed = true
		return
	}
	p.rest = p.rest[len(text):]
}

// text takes a JSON string of printable ASCII without escapes, after its opening quote, with the closing one.
func (p *plain) text() []byte {
	end := bytes.IndexByte(p.rest, '"')
	if p.failed || end < 0 {
		p.failed = true
		return nil
	}
	text := p.rest[:end]
	for _, c := range text {
		if c < 0x20 || c > 0x7e || c == '\\' {
			p.failed = true
			return nil
		}
	}
	p.rest = p.rest[end+1:]
	return text
}

// time takes a JSON string that is a time, after its opening quote.
func (p *plain) time(t *time.Time) {
	if text := p.text(); !p.failed && t.UnmarshalText(text) != nil {
		p.failed = true
	}
}

// optional takes a field that is left out when empty.
func (p *plain) optional(name string) string {
	if p.failed || !bytes.HasPrefix(p.rest, []byte(name)) {
		return ""
	}
	p.expect(name)
	return string(p.text())
}

// ended says whether everything was understood and nothing is left.
func (p *plain) ended() bool { return !p.failed && len(p.rest) == 0 }

func plainClaim(c *Claim, it Item) bool {
	p := plain{rest: it.Value}
	p.expect(`{"Created":"`)
	p.time(&c.Created)
	p.expect(`,"Owner":"`)
	c.Owner = string(p.text())
	p.expect(`}`)
	return p.ended()
}

func plainInterface(i *Interface, it Item) bool {
	p := plain{rest: it.Value}
	p.expect(`{"Created":"`)
	p.time(&i.Created)
	p.expect(`,"ID":"`)
	i.ID = ident.InterfaceID(p.text())
	p.expect(`,"SubnetID":"`)
	i.SubnetID = ident.SubnetID(p.text())
	p.expect(`,"Address":"`)
	i.Address = string(p.text())
	i.WorkspaceID = ident.WorkspaceID(p.optional(`,"WorkspaceID":"`))
	i.DirectoryID = ident.DirectoryID(p.optional(`,"DirectoryID":"`))
	p.expect(`}`)
	return p.ended()
}
