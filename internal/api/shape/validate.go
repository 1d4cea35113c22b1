package shape

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"carrel/internal/awserr"
)

// Rule is the kind of constraint that a value violates.
type Rule uint8

// The constraints of the service models.
const (
	Required Rule = iota
	MaxLength
	MinLength
	MaxValue
	MinValue
	MatchPattern
	MemberOfEnum
	OneOfUnion
	Elements // an element of a list of scalars
	MapKeys
	MapValues
)

// Violation is one constraint that one value violates.
type Violation struct {
	Rule Rule
	// Path is where the value stands, as AWS spells it: "workspaces.1.member.directoryId".
	Path string
	// Value is " null", " 'text'" (cut when long), or empty when it must not be shown.
	Value string
	// Constraint is the sentence about it: "Member must not be null".
	Constraint string
	// Exception is the service's own answer to it (Check.Exception), or empty.
	Exception string
}

// String is the violation as it stands in AWS's message.
func (v Violation) String() string {
	return "Value" + v.Value + " at '" + v.Path + "' failed to satisfy constraint: " + v.Constraint
}

// Violations are the first maxListed violations of an input, and the count of all.
type Violations struct {
	List  []Violation
	Total int
}

// The answer must not grow with the request: a caller decides how many wrong values it sends and how long they are.
const (
	maxListed     = 10
	maxValueRunes = 256
	// patternBytes is the longest value whose pattern is still run when it is too long anyway.
	patternBytes = 4096
)

// Message is AWS's wording for all of them, or "" for none.
func (v Violations) Message() string {
	if v.Total == 0 {
		return ""
	}
	var b strings.Builder
	noun := "errors"
	if v.Total == 1 {
		noun = "error"
	}
	fmt.Fprintf(&b, "%d validation %s detected: ", v.Total, noun)
	for i, one := range v.List {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(one.String())
	}
	return b.String()
}

// CheckInput validates the input of an operation and answers a Validation error in AWS's wording, the service's own exception when the first violation
// has one, or nil.
func CheckInput(op *Operation, input any) *awserr.Error {
	if v := Validate(op, input); v.Total > 0 {
		if code := v.List[0].Exception; code != "" {
			return awserr.Model(code, "%s", v.Message())
		}
		return awserr.New(awserr.Validation, "%s", v.Message())
	}
	return nil
}

// Validate checks an input, a pointer to the operation's input struct, against the constraints of the model: presence, length,
// range, pattern, enum, union. It panics when input is of another operation's type, which a bound handler cannot cause.
func Validate(op *Operation, input any) Violations {
	if op.Input == nil {
		return Violations{}
	}
	n := plans.of(op.Input)
	if n == nil {
		return Violations{}
	}
	c := checker{}
	c.structure(n, reflect.ValueOf(input).Elem())
	return c.found
}

// step is one step of a path: a member's name, or an element's position or key.
type step struct {
	name    string
	index   int // 1-based position of an element, 0 for other steps
	element bool
}

// checker walks one input. The path is only spelt out when something is wrong.
type checker struct {
	path  []step
	found Violations
}

func (c *checker) push(s step) { c.path = append(c.path, s) }
func (c *checker) pop()        { c.path = c.path[:len(c.path)-1] }

func (c *checker) spell() string {
	var b strings.Builder
	for i, s := range c.path {
		if i > 0 {
			b.WriteByte('.')
		}
		if s.index > 0 {
			b.WriteString(strconv.Itoa(s.index))
		} else {
			b.WriteString(s.name)
		}
		if s.element {
			b.WriteString(".member")
		}
	}
	return b.String()
}

// report adds a violation of s's constraint by v; v is invalid for an absent value.
func (c *checker) report(s *Shape, v reflect.Value, rule Rule, constraint string) {
	c.found.Total++
	if len(c.found.List) == maxListed {
		return
	}
	found := Violation{Rule: rule, Path: c.spell(), Value: shown(s, v), Constraint: constraint}
	if s.Check != nil && rule != Required {
		found.Exception = s.Check.Exception
	}
	c.found.List = append(c.found.List, found)
}

func (c *checker) value(n *node, v reflect.Value) {
	switch n.shape.Kind {
	case Structure:
		c.structure(n, v)
	case List:
		c.list(n, v)
	case Map:
		c.mapping(n, v)
	default:
		n.scalar(v, func(rule Rule) { c.report(n.shape, v, rule, n.sentence(rule)) })
	}
}

func (c *checker) structure(n *node, v reflect.Value) {
	for i := range n.fields {
		f := &n.fields[i]
		fv := v.Field(f.index)
		if fv.IsNil() {
			if f.required {
				c.push(step{name: f.name})
				c.report(n.shape.Fields[f.index].Of, reflect.Value{}, Required, "Member must not be null")
				c.pop()
			}
			continue
		}
		if f.node == nil {
			continue
		}
		if fv.Kind() == reflect.Pointer {
			fv = fv.Elem()
		}
		c.push(step{name: f.name})
		c.value(f.node, fv)
		c.pop()
	}
	if n.shape.Union {
		c.union(n, v)
	}
}

// union wants exactly one member. AWS's front ends differ in how they say so; the words are Carrel's.
func (c *checker) union(n *node, v reflect.Value) {
	set := 0
	var members []string
	for i := range n.shape.Fields {
		members = append(members, n.shape.Fields[i].Name)
		if !v.Field(i).IsNil() {
			set++
		}
	}
	if set != 1 {
		c.report(n.shape, v, OneOfUnion, "Member must have exactly one of the members set: ["+strings.Join(members, ", ")+"]")
	}
}

func (c *checker) list(n *node, v reflect.Value) {
	n.size(v.Len(), func(rule Rule) { c.report(n.shape, v, rule, n.sentence(rule)) })
	if n.elem == nil {
		return
	}
	if n.elem.shape.Kind.scalar() {
		// AWS reports a list of scalars once, with every constraint of its elements.
		for i := range v.Len() {
			if n.elem.violated(v.Index(i)) {
				c.report(n.shape, v, Elements, "Member must satisfy constraint: ["+n.elem.sentences()+"]")
				return
			}
		}
		return
	}
	for i := range v.Len() {
		c.push(step{index: i + 1, element: true})
		c.value(n.elem, v.Index(i))
		c.pop()
	}
}

func (c *checker) mapping(n *node, v reflect.Value) {
	n.size(v.Len(), func(rule Rule) { c.report(n.shape, v, rule, n.sentence(rule)) })
	keys := sortedMapKeys(v)
	if n.key != nil {
		for _, k := range keys {
			if n.key.violated(k) {
				c.report(n.shape, v, MapKeys, "Map keys must satisfy constraint: ["+n.key.sentences()+"]")
				break
			}
		}
	}
	if n.elem == nil {
		return
	}
	for _, k := range keys {
		if n.elem.shape.Kind.scalar() {
			if n.elem.violated(v.MapIndex(k)) {
				c.report(n.shape, v, MapValues, "Map value must satisfy constraint: ["+n.elem.sentences()+"]")
				return
			}
			continue
		}
		c.push(step{name: cut(k.String()), element: true})
		c.value(n.elem, v.MapIndex(k))
		c.pop()
	}
}

func (k Kind) scalar() bool { return k != Structure && k != List && k != Map }

// violated tells whether a scalar violates anything.
func (n *node) violated(v reflect.Value) bool {
	bad := false
	n.scalar(v, func(Rule) { bad = true })
	return bad
}

// scalar checks a value that is neither structure, list nor map.
func (n *node) scalar(v reflect.Value, report func(Rule)) {
	switch n.shape.Kind {
	case String:
		n.text(v.String(), report)
	case Blob:
		n.size(v.Len(), report)
	case Integer, Long:
		n.bounds(v.Int() > n.check.Max, v.Int() < n.check.Min, value, report)
	case Float, Double:
		n.bounds(v.Float() > float64(n.check.Max), v.Float() < float64(n.check.Min), value, report)
	}
}

func (n *node) text(s string, report func(Rule)) {
	tooLong := false
	if n.check.HasMax || n.check.HasMin {
		count := int64(utf8.RuneCountInString(s))
		tooLong = n.check.HasMax && count > n.check.Max
		n.bounds(tooLong, count < n.check.Min, length, report)
	}
	if n.pattern != nil && !(tooLong && len(s) > patternBytes) && !n.pattern.Match(s) {
		report(MatchPattern)
	}
	if n.enum != nil {
		if _, ok := n.enum[s]; !ok {
			report(MemberOfEnum)
		}
	}
}

func (n *node) size(count int, report func(Rule)) {
	if n.check != nil {
		n.bounds(int64(count) > n.check.Max, int64(count) < n.check.Min, length, report)
	}
}

// limits are the two rules that a value's bounds can break.
type limits struct{ max, min Rule }

var (
	value  = limits{MaxValue, MinValue}
	length = limits{MaxLength, MinLength}
)

func (n *node) bounds(above, below bool, l limits, report func(Rule)) {
	if n.check.HasMax && above {
		report(l.max)
	}
	if n.check.HasMin && below {
		report(l.min)
	}
}
