package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"strings"

	"carrel/internal/api/shape"
)

// generator turns one model into Go. Names are settled when it is made; writing only prints.
type generator struct {
	serviceDef
	m *model
	// modelled is how many operations the full model has.
	modelled int
	buf      bytes.Buffer
	err      error
	ops      []string
	// types are the Go types of structures and enums by shape name; descriptors the variables of all shapes.
	types, descriptors map[string]string
	// constants are the names of an enum's constants, in the order of its values.
	constants map[string][]string
	// back holds the references that would close an initialisation cycle; they are set in init.
	back map[string]bool
}

func newGenerator(s serviceDef, m *model, modelled int) (*generator, error) {
	g := &generator{serviceDef: s, m: m, modelled: modelled, ops: sortedKeys(m.Operations)}
	if err := g.check(); err != nil {
		return nil, err
	}
	g.settle()
	g.findCycles()
	return g, nil
}

// exceptions names, by service and shape, the exception with which a service answers a value against the shape's constraints. Models do not say it;
// CloudTrail's documentation of LookupEvents does.
var exceptions = map[string]map[string]string{
	"cloudtrail": {
		"MaxResults": "InvalidMaxResultsException", "EventCategory": "InvalidEventCategoryException",
		"LookupAttributeKey": "InvalidLookupAttributesException", "LookupAttributeValue": "InvalidLookupAttributesException",
	},
}

// check refuses a model that cannot be carried over completely.
func (g *generator) check() error {
	var errs []error
	for _, name := range sortedKeys(g.m.Shapes) {
		s := g.m.Shapes[name]
		if _, err := kindOf(s.Type); err != nil {
			errs = append(errs, fmt.Errorf("shape %s: %w", name, err))
		}
		if s.Pattern != "" {
			if _, err := shape.CompilePattern(s.Pattern); err != nil {
				errs = append(errs, fmt.Errorf("shape %s: %w", name, err))
			}
		}
		for _, n := range sortedKeys(s.Members) {
			if _, ok := locations[s.Members[n].Location]; !ok {
				errs = append(errs, fmt.Errorf("shape %s: member %s is in unknown place %q", name, n, s.Members[n].Location))
			}
		}
	}
	for name, code := range exceptions[g.name] {
		if g.m.Shapes[name] == nil || g.m.Shapes[code] == nil {
			errs = append(errs, fmt.Errorf("exception %s of shape %s: the model has not both", code, name))
		}
	}
	if _, ok := protocols[g.m.meta("protocol")]; !ok {
		errs = append(errs, fmt.Errorf("unknown protocol %q", g.m.meta("protocol")))
	}
	return errors.Join(errs...)
}

// exported gives name with its first letter in upper case.
func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// names hands out identifiers of one scope; a taken one gets a number.
type names map[string]bool

func (n names) take(want string) string {
	got := want
	for i := 2; n[got]; i++ {
		got = fmt.Sprintf("%s%d", want, i)
	}
	n[got] = true
	return got
}

// settle settles the names of the package: operations, their inputs and outputs, structures and enums, constants.
func (g *generator) settle() {
	g.types, g.descriptors, g.constants = map[string]string{}, map[string]string{}, map[string][]string{}
	taken := names{"Service": true}
	for _, op := range g.ops {
		taken.take(op)
		taken.take(op + "Input")
		taken.take(op + "Output")
	}
	members := g.memberShapes()
	for _, name := range sortedKeys(g.m.Shapes) {
		s := g.m.Shapes[name]
		g.descriptors[name] = taken.take("sh" + exported(name))
		if s.Type == "structure" && members[name] || len(s.Enum) > 0 {
			g.types[name] = taken.take(exported(name))
		}
	}
	for _, name := range sortedKeys(g.types) {
		for _, v := range g.m.Shapes[name].Enum {
			g.constants[name] = append(g.constants[name], taken.take(g.types[name]+camel(v)))
		}
	}
}

// memberShapes are the shapes that stand in another shape an input or output holds. The tops of inputs and outputs get
// structs named after their operation, and exceptions travel as awserr.Error, so neither needs a struct of its own.
func (g *generator) memberShapes() map[string]bool {
	seen, members := map[string]bool{}, map[string]bool{}
	var walk func(name string)
	walk = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, r := range g.m.Shapes[name].refs() {
			members[r.shape] = true
			walk(r.shape)
		}
	}
	for _, op := range g.m.Operations {
		for _, top := range []*ref{op.Input, op.Output} {
			if top != nil {
				walk(top.Shape)
			}
		}
	}
	return members
}

// edge is a reference from one shape to another; at is the Go selector of the descriptor's field that holds it.
type edge struct{ at, shape string }

func (s *shapeDef) refs() []edge {
	var out []edge
	for i, name := range sortedKeys(s.Members) {
		out = append(out, edge{fmt.Sprintf("Fields[%d].Of", i), s.Members[name].Shape})
	}
	if s.Member != nil {
		out = append(out, edge{"Elem", s.Member.Shape})
	}
	if s.Key != nil && s.Value != nil {
		out = append(out, edge{"Key", s.Key.Shape}, edge{"Elem", s.Value.Shape})
	}
	return out
}

// findCycles marks the references that lead back to a shape still being walked.
func (g *generator) findCycles() {
	g.back = map[string]bool{}
	const walking, done = 1, 2
	state := map[string]int{}
	var walk func(name string)
	walk = func(name string) {
		state[name] = walking
		for _, e := range g.m.Shapes[name].refs() {
			switch state[e.shape] {
			case walking:
				g.back[name+"."+e.at] = true
			case 0:
				walk(e.shape)
			}
		}
		state[name] = done
	}
	for _, name := range sortedKeys(g.m.Shapes) {
		if state[name] == 0 {
			walk(name)
		}
	}
}

// camel makes the part of a constant's name that stands for its value: "AUTO_STOP" gives AutoStop, "t3.large" T3Large.
func camel(value string) string {
	parts := strings.FieldsFunc(value, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	var b strings.Builder
	for _, p := range parts {
		if p == strings.ToUpper(p) {
			p = strings.ToLower(p)
		}
		b.WriteString(exported(p))
	}
	if b.Len() == 0 {
		return "Empty"
	}
	return b.String()
}

// p prints to the file being written.
func (g *generator) p(format string, args ...any) { fmt.Fprintf(&g.buf, format, args...) }

// file runs write and formats what it printed.
func (g *generator) file(write func()) ([]byte, error) {
	g.buf.Reset()
	g.err = nil
	g.p("// Code generated by internal/tools/apigen from the %s service model. DO NOT EDIT.\n\n", g.serviceDef.name)
	write()
	if g.err != nil {
		return nil, g.err
	}
	return format.Source(g.buf.Bytes())
}
