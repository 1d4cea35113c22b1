package policy

import (
	"slices"
	"strings"
)

// String writes the document in one form: without white space, elements in the guide's order, a single value without its list. Parse reads
// it back as the same document.
func (d *Document) String() string {
	b := []byte{'{'}
	if d.Version != "" {
		b = appendMember(b, "Version", d.Version)
	}
	if d.ID != "" {
		b = appendMember(b, "Id", d.ID)
	}
	b = append(b, `"Statement":[`...)
	for i := range d.Statements {
		if i > 0 {
			b = append(b, ',')
		}
		b = d.Statements[i].append(b)
	}
	return string(append(b, "]}"...))
}

func (s *Statement) append(b []byte) []byte {
	b = append(b, '{')
	if s.Sid != "" {
		b = appendMember(b, "Sid", s.Sid)
	}
	b = appendMember(b, "Effect", s.Effect.String())
	if s.Principals != nil {
		b = appendName(b, "Principal", s.NotPrincipal)
		b = append(appendPrincipals(b, s.Principals), ',')
	}
	b = appendName(b, "Action", s.NotAction)
	b = appendValues(b, s.Actions)
	if s.Resources != nil {
		b = appendName(append(b, ','), "Resource", s.NotResource)
		b = appendValues(b, s.Resources)
	}
	if s.Conditions != nil {
		b = append(b, `,"Condition":`...)
		b = appendConditions(b, s.Conditions)
	}
	return append(b, '}')
}

// appendMember writes a member and the comma after it.
func appendMember(b []byte, name, value string) []byte {
	b = appendName(b, name, false)
	return append(appendString(b, value), ',')
}

func appendName(b []byte, name string, twin bool) []byte {
	if twin {
		name = "Not" + name
	}
	return append(appendString(b, name), ':')
}

func appendValues(b []byte, values []string) []byte {
	if len(values) == 1 {
		return appendString(b, values[0])
	}
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, v)
	}
	return append(b, ']')
}

func appendPrincipals(b []byte, names []PrincipalName) []byte {
	if names[0].Type == "*" {
		return append(b, `"*"`...)
	}
	b = append(b, '{')
	for i := 0; i < len(names); {
		kind := names[i].Type
		var values []string
		for ; i < len(names) && names[i].Type == kind; i++ {
			values = append(values, names[i].Value)
		}
		b = appendValues(appendName(b, kind, false), values)
		b = append(b, ',')
	}
	b[len(b)-1] = '}'
	return b
}

func appendConditions(b []byte, conditions []Condition) []byte {
	b = append(b, '{')
	for i := 0; i < len(conditions); {
		operator := conditions[i].Operator
		b = append(appendName(b, operator, false), '{')
		for ; i < len(conditions) && conditions[i].Operator == operator; i++ {
			b = appendValues(appendName(b, conditions[i].Key, false), conditions[i].Values)
			b = append(b, ',')
		}
		b[len(b)-1] = '}'
		b = append(b, ',')
	}
	b[len(b)-1] = '}'
	return b
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// ContextKeys are the condition keys that the document asks for, in conditions and variables, each once and sorted, as it writes them
// (GetContextKeysForCustomPolicy).
func (d *Document) ContextKeys() []string {
	var keys []string
	variables := func(text string) {
		p, _ := parsePattern(text, false, d.variables())
		for i := range p.parts {
			if p.parts[i].written != "" {
				keys = append(keys, p.parts[i].written)
			}
		}
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		for _, text := range s.Resources {
			variables(text)
		}
		for _, c := range s.Conditions {
			keys = append(keys, c.Key)
			for _, text := range c.Values {
				variables(text) // Values of operators without variables have no ${: Parse has seen to it.
			}
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(fold(a), fold(b)) })
	return slices.CompactFunc(keys, func(a, b string) bool { return fold(a) == fold(b) })
}
