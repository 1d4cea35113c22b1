package main

import (
	"fmt"
	"strings"
)

// writeOps prints the operations and the service.
func (g *generator) writeOps() {
	g.p("package %s\n\nimport \"carrel/internal/api/shape\"\n\n// The operations, typed by input and output.\nvar (\n", g.pkg)
	for _, op := range g.ops {
		g.p("%s = shape.Op[%sInput, %sOutput]{Operation: &op%s}\n", op, op, op, op)
	}
	g.p(")\n\nvar (\n")
	for _, op := range g.ops {
		g.writeOp(op)
	}
	g.p(")\n\n")
	g.writeService()
}

func (g *generator) writeOp(name string) {
	o := g.m.Operations[name]
	g.p("op%s = shape.Operation{Name: %q", name, name)
	for _, top := range []struct {
		field string
		r     *ref
	}{{"Input", o.Input}, {"Output", o.Output}} {
		if top.r != nil {
			g.p(", %s: &%s", top.field, g.descriptors[top.r.Shape])
		}
	}
	g.p(", Method: %q, URI: %q", o.HTTP.Method, o.HTTP.RequestURI)
	if o.HTTP.ResponseCode != 0 && o.HTTP.ResponseCode != 200 {
		g.err = fmt.Errorf("operation %s answers %d: only 200 is carried over", name, o.HTTP.ResponseCode)
	}
	if o.Output != nil {
		g.text("ResultWrapper", o.Output.ResultWrapper)
	}
	var codes []string
	for _, e := range o.Errors {
		codes = append(codes, g.code(e.Shape))
	}
	if len(codes) > 0 {
		g.p(", Errors: %#v", codes)
	}
	g.flag("Unsigned", o.AuthType == "none")
	g.flag("ReadOnly", readOnly(name))
	g.p(",\nNewInput: func() any { return new(%sInput) }, NewOutput: func() any { return new(%sOutput) }}\n", name, name)
}

// readOnly tells operations that leave no trace in the account, which is CloudTrail's readOnly. CloudTrail also counts the
// handing out of temporary credentials among them.
func readOnly(name string) bool {
	for _, verb := range []string{"Describe", "Get", "List", "Lookup", "Search", "Simulate", "Verify", "AssumeRole", "AssumeRoot", "Decode"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

// code is the wire code of an exception.
func (g *generator) code(name string) string {
	if e := g.m.Shapes[name].Error; e != nil && e.Code != "" {
		return e.Code
	}
	return name
}

func (g *generator) writeService() {
	signing := g.m.meta("signingName")
	if signing == "" {
		signing = g.m.meta("endpointPrefix")
	}
	g.p("// Service describes the service.\nvar Service = &shape.Service{Name: %q, SigningName: %q, ID: %q, Protocol: shape.%s",
		g.serviceDef.name, signing, g.m.meta("serviceId"), protocols[g.m.meta("protocol")])
	g.text("TargetPrefix", g.m.meta("targetPrefix"))
	g.text("APIVersion", g.m.meta("apiVersion"))
	g.text("XMLNamespace", g.m.meta("xmlNamespace"))
	g.p(", Modelled: %d,\nOperations: []*shape.Operation{\n", g.modelled)
	for _, op := range g.ops {
		g.p("&op%s,\n", op)
	}
	g.p("},\n")
	g.writeExceptions()
	g.p("}\n\nfunc init() {\nfor _, op := range Service.Operations {\nop.Service = Service\n}\n}\n")
}

func (g *generator) writeExceptions() {
	byCode := map[string]string{}
	for _, name := range sortedKeys(g.m.Shapes) {
		if !g.m.Shapes[name].Exception {
			continue
		}
		code := g.code(name)
		if other, taken := byCode[code]; taken {
			g.err = fmt.Errorf("exceptions %s and %s share the code %s", other, name, code)
		}
		byCode[code] = name
	}
	g.p("Exceptions: map[string]shape.Exception{\n")
	for _, code := range sortedKeys(byCode) {
		s := g.m.Shapes[byCode[code]]
		g.p("%q: {Shape: &%s", code, g.descriptors[byCode[code]])
		if s.Error != nil && s.Error.HTTPStatusCode != 0 {
			g.p(", Status: %d", s.Error.HTTPStatusCode)
		}
		g.flag("Fault", s.Fault)
		g.p("},\n")
	}
	g.p("},\n")
}
