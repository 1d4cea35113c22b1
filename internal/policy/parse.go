package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads a document and holds it to the rules of its kind. The error is a *MalformedError.
func Parse(kind Kind, text string) (*Document, error) {
	p := parser{text: text, doc: &Document{Kind: kind}, where: Position{Line: 1, Column: 1}}
	p.document()
	if p.err != nil {
		return nil, p.err
	}
	return p.doc, nil
}

// parser checks a document from its first element to its last and keeps the first thing that is wrong.
type parser struct {
	text  string
	doc   *Document
	err   *MalformedError
	where Position // of the last place that was asked for: most are asked for in rising order
}

// refuse keeps a refusal, unless there is one.
func (p *parser) refuse(at int, text, reason string) {
	if p.err == nil {
		p.err = &MalformedError{Text: legible(text), Reason: legible(reason), Position: p.place(at)}
	}
}

// place finds the line and column of an offset.
func (p *parser) place(at int) Position {
	if at < p.where.Offset {
		p.where = Position{Line: 1, Column: 1}
	}
	w := &p.where
	for ; w.Offset < at; w.Offset++ {
		switch c := p.text[w.Offset]; {
		case c == '\n':
			w.Line, w.Column = w.Line+1, 1
		case utf8.RuneStart(c):
			w.Column++
		}
	}
	return *w
}

// syntax refuses with the text that the kind's reader has for broken documents; of trust policies the reader says what is broken.
func (p *parser) syntax(at int, trust, reason string) {
	text := textSyntax
	if p.doc.Kind == Trust {
		text = trust
	}
	p.refuse(at, text, reason)
}

func (p *parser) document() {
	if len(p.text) > MaxLength {
		p.refuse(0, textSyntax, "longer than "+strconv.Itoa(MaxLength)+" bytes")
		return
	}
	root, f := readJSON(p.text)
	switch {
	case f != nil:
		p.syntax(f.at, textTrustJSON, f.reason)
	case root.kind != objectNode:
		p.syntax(root.pos, textTrustJSON, "the document is "+root.kind.String()+", not an object")
	default:
		p.elements(&root)
	}
}

func (p *parser) elements(root *node) {
	for i := range root.members {
		switch m := &root.members[i]; m.name {
		case "Version":
			p.doc.Version = p.str(&m.value)
			if v := p.doc.Version; p.err == nil && v != Version2008 && v != Version2012 {
				p.syntax(m.value.pos, "The policy must contain a valid version string", "the version is neither 2008-10-17 nor 2012-10-17")
			}
		case "Id":
			p.doc.ID = p.str(&m.value)
		case "Statement":
		default:
			p.syntax(m.pos, "Unknown field "+m.name, "unknown element "+strconv.Quote(m.name))
		}
	}
	statements := root.get("Statement")
	if statements == nil {
		p.syntax(root.pos, "Missing required field Statement", "Statement is missing")
		return
	}
	for _, n := range p.list(statements) {
		p.statement(n)
	}
}

// str takes a string.
func (p *parser) str(n *node) string {
	if n.kind != stringNode {
		p.syntax(n.pos, textTrustJSON, n.kind.String()+" stands where a string is needed")
	}
	return n.text
}

// list takes one value or a list of at least one.
func (p *parser) list(n *node) []*node {
	if n.kind != arrayNode {
		return []*node{n}
	}
	if len(n.items) == 0 {
		p.syntax(n.pos, "Missing required field", "the list is empty")
	}
	all := make([]*node, len(n.items))
	for i := range n.items {
		all[i] = &n.items[i]
	}
	return all
}

// strs takes a string or a list of strings, and calls check with each.
func (p *parser) strs(n *node, check func(at int, s string)) []string {
	var all []string
	for _, item := range p.list(n) {
		s := p.str(item)
		if p.err != nil {
			return all
		}
		check(item.pos, s)
		all = append(all, s)
	}
	return all
}

// statementElements are the elements a statement can have, each with the one that excludes it.
var statementElements = map[string]string{"Sid": "", "Effect": "", "Principal": "NotPrincipal", "NotPrincipal": "Principal", "Action": "NotAction", "NotAction": "Action",
	"Resource": "NotResource", "NotResource": "Resource", "Condition": ""}

func (p *parser) statement(n *node) {
	if n.kind != objectNode {
		p.syntax(n.pos, textTrustJSON, n.kind.String()+" stands where a statement is needed")
		return
	}
	for i := range n.members {
		m := &n.members[i]
		switch other, known := statementElements[m.name]; {
		case !known:
			p.syntax(m.pos, "Unknown field "+m.name, "unknown element "+strconv.Quote(m.name))
		case other != "" && n.get(other) != nil:
			p.syntax(m.pos, "Statement has both "+m.name+" and "+other, m.name+" and "+other+" exclude one another")
		}
	}
	s := Statement{Start: p.place(n.pos), End: p.place(n.end)}
	p.sid(n, &s)
	p.effect(n, &s)
	p.principals(n, &s)
	p.actions(n, &s)
	p.resources(n, &s)
	p.conditions(n, &s)
	p.doc.Statements = append(p.doc.Statements, s)
}

func (p *parser) sid(n *node, s *Statement) {
	sid := n.get("Sid")
	if sid == nil {
		return
	}
	s.Sid = p.str(sid)
	for i := range s.Sid {
		// Policies that belong to a resource may use other characters: services write readable sentences there.
		if !alphanumeric(s.Sid[i]) && !p.doc.Kind.namesPrincipals() {
			p.refuse(sid.pos, textSidForm, "the Sid has a character that is neither a letter nor a digit")
		}
	}
	for i := range p.doc.Statements {
		if s.Sid != "" && p.doc.Statements[i].Sid == s.Sid {
			p.refuse(sid.pos, textSidTwice, "this Sid has been used before")
		}
	}
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func (p *parser) effect(n *node, s *Statement) {
	e := n.get("Effect")
	if e == nil {
		p.syntax(n.pos, "Missing required field Effect", "Effect is missing")
		return
	}
	switch text := p.str(e); {
	case text == "Allow":
		s.Effect = Allow
	case text == "Deny": // The zero value: what has not said Allow denies.
	case p.doc.Kind != Trust && (strings.EqualFold(text, "Allow") || strings.EqualFold(text, "Deny")):
		p.refuse(e.pos, textLegacy, "Effect is written Allow or Deny")
	default:
		p.syntax(e.pos, "Invalid effect: "+text, "Effect is neither Allow nor Deny")
	}
}

// either gives the element or its Not twin, and whether it is the twin.
func either(n *node, name string) (*node, bool) {
	if twin := n.get("Not" + name); twin != nil {
		return twin, true
	}
	return n.get(name), false
}

func (p *parser) actions(n *node, s *Statement) {
	var a *node
	if a, s.NotAction = either(n, "Action"); a == nil || a.kind == arrayNode && len(a.items) == 0 {
		text := textNoActions
		if p.doc.Kind == Trust {
			text = "Missing required field Action"
		}
		p.refuse(n.pos, text, "the statement has no actions")
		return
	}
	s.Actions = p.strs(a, func(at int, action string) {
		service, _, colon := strings.Cut(action, ":")
		switch {
		case action == "*" && p.doc.Kind != Trust:
		case !colon && action != "*":
			p.refuse(at, textVendor, "an action is a service, a colon and a name")
		case strings.Count(action, ":") > 1:
			p.refuse(at, textColons, "an action has one colon")
		case service != "*" && !validVendor(service):
			p.refuse(at, "Vendor "+service+" is not valid", "a service is letters, digits, dots and hyphens")
		case p.doc.Kind == Trust && !strings.EqualFold(service, "sts"):
			p.refuse(at, textTrustActions, "no action of sts")
		}
	})
}

func validVendor(s string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return s != ""
}

func (p *parser) resources(n *node, s *Statement) {
	var res *node
	res, s.NotResource = either(n, "Resource")
	if p.doc.Kind == Trust {
		if res != nil {
			p.refuse(res.pos, "Has prohibited field Resource", "the resource of a trust policy is its role")
		}
		return
	}
	if res == nil || res.kind == arrayNode && len(res.items) == 0 {
		p.refuse(n.pos, textNoResources, "the statement has no resources")
		return
	}
	s.Resources = p.strs(res, func(at int, text string) {
		if _, refusal, reason := parseResource(text, p.doc.variables()); refusal != "" {
			p.refuse(at, refusal, reason)
		}
	})
}

func (p *parser) conditions(n *node, s *Statement) {
	block := n.get("Condition")
	if block == nil {
		return
	}
	for _, op := range p.object(block) {
		name, known := parseOperator(op.name)
		if !known {
			p.syntax(op.pos, "Invalid Condition type : "+op.name, "unknown condition operator "+strconv.Quote(op.name))
			return
		}
		seen := map[string]bool{}
		for _, key := range p.object(&op.value) {
			folded := fold(key.name)
			if !validKey(key.name) {
				p.refuse(key.pos, textVendor, strconv.Quote(key.name)+" is no condition key")
			} else if seen[folded] {
				p.syntax(key.pos, "Duplicate condition key "+key.name, "duplicate condition key "+strconv.Quote(key.name)+": keys are compared without case")
			}
			seen[folded] = true
			s.Conditions = append(s.Conditions, p.condition(op.name, name, key))
		}
	}
}

func (p *parser) condition(written string, name operatorName, m member) Condition {
	c := Condition{Operator: written, Key: m.name}
	for _, v := range p.list(&m.value) {
		if v.kind != stringNode && v.kind != numberNode && v.kind != boolNode {
			p.syntax(v.pos, textTrustJSON, v.kind.String()+" stands where a value is needed")
			return c
		}
		trial := condition{operatorName: name}
		if reason := trial.add(v.text, p.doc.variables()); reason != "" {
			p.refuse(v.pos, textLegacy, reason)
		}
		c.Values = append(c.Values, v.text)
	}
	return c
}

// object gives the members of an object.
func (p *parser) object(n *node) []member {
	if n.kind != objectNode {
		p.syntax(n.pos, textTrustJSON, n.kind.String()+" stands where an object is needed")
	}
	return n.members
}

// validKey accepts a condition key: a service and a name ("aws:username", "saml:aud", "graph.facebook.com:id", "accounts.google.com:aud").
func validKey(s string) bool {
	service, name, found := strings.Cut(s, ":")
	return found && name != "" && strings.TrimSpace(s) == s && validKeyService(service)
}

func validKeyService(s string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && strings.IndexByte("-._/", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
