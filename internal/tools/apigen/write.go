package main

import (
	"fmt"
	"strings"
)

var kinds = map[string][2]string{ // the model's type: the Kind's name, the Go type of a value
	"structure": {"Structure", ""},
	"list":      {"List", ""},
	"map":       {"Map", ""},
	"string":    {"String", "string"},
	"boolean":   {"Boolean", "bool"},
	"integer":   {"Integer", "int32"},
	"long":      {"Long", "int64"},
	"float":     {"Float", "float32"},
	"double":    {"Double", "float64"},
	"timestamp": {"Timestamp", "time.Time"},
	"blob":      {"Blob", "[]byte"},
}

var locations = map[string]string{
	"": "", "querystring": "InQuery", "uri": "InURI", "header": "InHeader", "statusCode": "InStatus",
}

var protocols = map[string]string{"json": "AWSJSON", "query": "AWSQuery", "ec2": "EC2Query", "rest-json": "RESTJSON"}

func kindOf(modelType string) (string, error) {
	k, ok := kinds[modelType]
	if !ok {
		return "", fmt.Errorf("unknown type %q", modelType)
	}
	return k[0], nil
}

func (g *generator) writeDoc() {
	g.p("// Package %s holds the typed operations of the %s API, version %s: inputs, outputs, enums and their descriptors.\n//\n",
		g.pkg, g.m.meta("serviceFullName"), g.m.meta("apiVersion"))
	g.p("// It refuses any behaviour: codecs are awsproto's, checks of constraints package shape's, rules those of the service.\n")
	g.p("package %s\n", g.pkg)
}

// writeTypes prints a struct for each structure and a string type for each enum.
func (g *generator) writeTypes() {
	body := g.capture(func() {
		for _, op := range g.ops {
			o := g.m.Operations[op]
			g.writeStruct(op+"Input", "is the input of "+op, o.Input)
			g.writeStruct(op+"Output", "is the output of "+op, o.Output)
		}
		for _, name := range sortedKeys(g.types) {
			if s := g.m.Shapes[name]; len(s.Enum) > 0 {
				g.writeEnum(name)
			} else {
				g.writeStruct(g.types[name], "is the model's "+name, &ref{Shape: name})
			}
		}
	})
	g.p("package %s\n\n", g.pkg)
	if strings.Contains(body, "time.Time") {
		g.p("import \"time\"\n\n")
	}
	g.buf.WriteString(body)
}

// capture gives what write prints instead of printing it.
func (g *generator) capture(write func()) string {
	head := g.buf.Len()
	write()
	out := string(g.buf.Bytes()[head:])
	g.buf.Truncate(head)
	return out
}

func (g *generator) writeStruct(goName, what string, r *ref) {
	g.p("// %s %s.\ntype %s struct {", goName, what, goName)
	if r != nil {
		fields := names{}
		for i, m := range sortedKeys(g.m.Shapes[r.Shape].Members) {
			if i == 0 {
				g.p("\n")
			}
			g.p("%s %s\n", fields.take(exported(m)), g.member(g.m.Shapes[r.Shape].Members[m].Shape))
		}
	}
	g.p("}\n\n")
}

func (g *generator) writeEnum(name string) {
	goName := g.types[name]
	g.p("// %s is the model's %s.\ntype %s string\n\n// The values of %s.\nconst (\n", goName, name, goName, goName)
	for i, v := range g.m.Shapes[name].Enum {
		g.p("%s %s = %q\n", g.constants[name][i], goName, v)
	}
	g.p(")\n\n")
}

// member gives the Go type of a structure's member: pointers where nil has to mean absent.
func (g *generator) member(name string) string {
	switch g.m.Shapes[name].Type {
	case "list", "map", "blob":
		return g.value(name)
	}
	return "*" + g.value(name)
}

// value gives the Go type of an element.
func (g *generator) value(name string) string {
	s := g.m.Shapes[name]
	switch s.Type {
	case "list":
		return "[]" + g.value(s.Member.Shape)
	case "map":
		return "map[string]" + g.value(s.Value.Shape)
	}
	if t, ok := g.types[name]; ok {
		return t
	}
	return kinds[s.Type][1]
}

// writeShapes prints the descriptors.
func (g *generator) writeShapes() {
	g.p("package %s\n\nimport \"carrel/internal/api/shape\"\n\nvar (\n", g.pkg)
	var late []string
	for _, name := range sortedKeys(g.m.Shapes) {
		g.writeShape(name)
		for _, e := range g.m.Shapes[name].refs() {
			if g.back[name+"."+e.at] {
				late = append(late, fmt.Sprintf("%s.%s = &%s\n", g.descriptors[name], e.at, g.descriptors[e.shape]))
			}
		}
	}
	g.p(")\n")
	if len(late) > 0 {
		g.p("\n// These references close cycles, which a variable's initialiser must not.\nfunc init() {\n%s}\n", strings.Join(late, ""))
	}
}

func (g *generator) writeShape(name string) {
	s := g.m.Shapes[name]
	g.p("%s = shape.Shape{Name: %q, Kind: shape.%s", g.descriptors[name], name, kinds[s.Type][0])
	if s.Type == "list" {
		g.reference(name, "Elem", s.Member)
		g.text("ElemName", s.Member.LocationName)
	}
	if s.Type == "map" {
		g.reference(name, "Key", s.Key)
		g.reference(name, "Elem", s.Value)
		g.text("KeyName", s.Key.LocationName)
		g.text("ValueName", s.Value.LocationName)
	}
	g.flag("Flat", s.Flattened)
	g.flag("Sensitive", s.Sensitive)
	g.flag("Union", s.Union)
	g.text("TimeFormat", s.TimestampFormat)
	g.writeCheck(name, s)
	if len(s.Members) > 0 {
		g.p(", Fields: []shape.Field{\n")
		for i, m := range sortedKeys(s.Members) {
			g.writeField(name, i, m)
		}
		g.p("}")
	}
	g.p("}\n")
}

// reference prints the pointer to another descriptor, unless init sets it.
func (g *generator) reference(name, at string, r *ref) {
	if !g.back[name+"."+at] {
		g.p(", %s: &%s", at[strings.LastIndex(at, ".")+1:], g.descriptors[r.Shape])
	}
}

func (g *generator) text(field, value string) {
	if value != "" {
		g.p(", %s: %q", field, value)
	}
}

func (g *generator) flag(field string, set bool) {
	if set {
		g.p(", %s: true", field)
	}
}

func (g *generator) writeCheck(name string, s *shapeDef) {
	min, hasMin, err1 := bound(s.Min)
	max, hasMax, err2 := bound(s.Max)
	for _, err := range []error{err1, err2} {
		if err != nil {
			g.err = err
		}
	}
	if !hasMin && !hasMax && s.Pattern == "" && len(s.Enum) == 0 {
		return
	}
	var parts []string
	if hasMin {
		parts = append(parts, fmt.Sprintf("Min: %d, HasMin: true", min))
	}
	if hasMax {
		parts = append(parts, fmt.Sprintf("Max: %d, HasMax: true", max))
	}
	if s.Pattern != "" {
		parts = append(parts, fmt.Sprintf("Pattern: %q", s.Pattern))
	}
	if len(s.Enum) > 0 {
		parts = append(parts, fmt.Sprintf("Enum: %#v", s.Enum))
	}
	if code := exceptions[g.name][name]; code != "" {
		parts = append(parts, fmt.Sprintf("Exception: %q", code))
	}
	g.p(", Check: &shape.Check{%s}", strings.Join(parts, ", "))
}

func (g *generator) writeField(name string, i int, m string) {
	s := g.m.Shapes[name]
	r := s.Members[m]
	g.p("{Name: %q", m)
	g.text("Wire", r.LocationName)
	g.text("Query", r.QueryName)
	g.reference(name, fmt.Sprintf("Fields[%d].Of", i), &r)
	for _, req := range s.Required {
		g.flag("Required", req == m)
	}
	if loc := locations[r.Location]; loc != "" {
		g.p(", Location: shape.%s", loc)
	}
	g.flag("Token", r.IdempotencyToken)
	g.flag("Flat", r.Flattened)
	g.p("},\n")
}
