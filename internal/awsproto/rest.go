package awsproto

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"carrel/internal/api/shape"
)

// uriTemplate is the path of a restJson operation: literals and labels ("/users/{Name}/files/{Path+}").
type uriTemplate []uriSegment

type uriSegment struct {
	literal string
	label   string // member's wire name; empty: a literal
	greedy  bool   // takes all the rest of the path
	field   int
}

// parseURITemplate reads the model's requestUri. Fixed query parameters ("?x") are not spoken here.
func parseURITemplate(s string) (uriTemplate, error) {
	if !strings.HasPrefix(s, "/") || strings.Contains(s, "?") {
		return nil, fmt.Errorf("unsupported request URI %q", s)
	}
	var t uriTemplate
	parts := strings.Split(s[1:], "/")
	for i, part := range parts {
		name, isLabel := strings.CutPrefix(part, "{")
		if !isLabel {
			t = append(t, uriSegment{literal: part})
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, greedy := strings.CutSuffix(name, "+")
		if !closed || name == "" || greedy && i != len(parts)-1 {
			return nil, fmt.Errorf("unsupported request URI %q", s)
		}
		t = append(t, uriSegment{label: name, greedy: greedy})
	}
	return t, nil
}

// bind joins every label to its member.
func (t uriTemplate) bind(p *plan) error {
	for i := range t {
		if t[i].label == "" {
			continue
		}
		f, ok := p.byName[t[i].label]
		if !ok || p.fields[f].loc != shape.InURI {
			return fmt.Errorf("label {%s} has no member", t[i].label)
		}
		t[i].field = f
	}
	return nil
}

func (t uriTemplate) labels() int {
	n := 0
	for _, s := range t {
		if s.label != "" {
			n++
		}
	}
	return n
}

// parts splits path along the template; nil when it does not match. Labels are never empty.
func (t uriTemplate) parts(path string) []string {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	parts := strings.SplitN(path[1:], "/", len(t)+1)
	if len(t) > 0 && t[len(t)-1].greedy {
		parts = strings.SplitN(path[1:], "/", len(t))
	}
	if len(parts) != len(t) {
		return nil
	}
	for i, s := range t {
		if s.label == "" && parts[i] != s.literal || s.label != "" && parts[i] == "" {
			return nil
		}
	}
	return parts
}

func (t uriTemplate) matches(path string) bool { return t.parts(path) != nil }

// decodeREST gathers an input from path, query string, headers and JSON body. An empty body is an empty structure.
func decodeREST(oc *opCodec, v reflect.Value, r *Request) *docError {
	parts := oc.uri.parts(r.Path)
	if parts == nil {
		return malformed("The path is not the operation's")
	}
	for i, s := range oc.uri {
		if s.label == "" {
			continue
		}
		text, ok := unescape(parts[i], false)
		if !ok {
			return malformed("Invalid encoding of the path").in(s.label)
		}
		f := &oc.in.fields[s.field]
		if err := bindTexts(f, v.Field(f.index), []string{text}, iso8601); err != nil {
			return err.in(s.label)
		}
	}
	if err := bindQuery(oc.in, v, r.RawQuery); err != nil {
		return err
	}
	if err := bindHeaders(oc.in, v, r.Header); err != nil {
		return err
	}
	if len(r.Body) == 0 {
		return nil
	}
	return decodeJSON(oc.in, v, r.Body)
}

// bindQuery reads the members in the query string. One that is no list occurs at most once.
func bindQuery(p *plan, v reflect.Value, rawQuery string) *docError {
	params, err := parseForm(nil, rawQuery)
	if err != nil {
		return err
	}
	values := map[int][]string{}
	for _, q := range params {
		if i, ok := p.byName[q.name]; ok && p.fields[i].loc == shape.InQuery {
			values[i] = append(values[i], q.value)
		}
	}
	for i, texts := range values {
		if err := bindTexts(&p.fields[i], v.Field(i), texts, iso8601); err != nil {
			return err.in(p.fields[i].name)
		}
	}
	return nil
}

func bindHeaders(p *plan, v reflect.Value, h http.Header) *docError {
	for i := range p.fields {
		f := &p.fields[i]
		if f.loc != shape.InHeader {
			continue
		}
		texts := h.Values(f.name)
		if len(texts) == 0 {
			continue
		}
		if err := bindTexts(f, v.Field(i), texts, rfc822); err != nil {
			return err.in(f.name)
		}
	}
	return nil
}

// bindTexts reads the texts of one member: a list takes them all, anything else exactly one.
func bindTexts(f *fieldPlan, v reflect.Value, texts []string, timeFormat string) *docError {
	p := f.plan
	if p.kind == shape.List {
		if len(texts) > maxElements {
			return malformed("Too many elements")
		}
		v.Set(reflect.MakeSlice(p.typ, len(texts), len(texts)))
		for i, s := range texts {
			if err := setText(p.elem, v.Index(i), s, timeFormat); err != nil {
				return err.at(i)
			}
		}
		return nil
	}
	if len(texts) != 1 {
		return malformed("Duplicate parameter")
	}
	target := v
	if f.ptr {
		v.Set(reflect.New(p.typ))
		target = v.Elem()
	}
	return setText(p, target, texts[0], timeFormat)
}

func setText(p *plan, v reflect.Value, s, timeFormat string) *docError {
	if p.kind == shape.Timestamp {
		return setTime(p, v, s, timeFormat)
	}
	return setScalar(p, v, s)
}

// bindOutput puts the members that do not travel in the body into headers and status.
func bindOutput(p *plan, v reflect.Value, resp *Response) error {
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(i)
		if f.loc == shape.InBody || fv.IsNil() {
			continue
		}
		if f.ptr {
			fv = fv.Elem()
		}
		switch f.loc {
		case shape.InStatus:
			resp.Status = int(fv.Int())
		case shape.InHeader:
			text, err := headerText(f.plan, fv)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			resp.Header.Set(f.name, text)
		}
	}
	return nil
}

// headerText writes a scalar, or a list of scalars joined by commas. A value that would break out of its header is refused.
func headerText(p *plan, v reflect.Value) (string, error) {
	var text string
	switch p.kind {
	case shape.List:
		var all []string
		for i := range v.Len() {
			s, err := headerText(p.elem, v.Index(i))
			if err != nil {
				return "", err
			}
			all = append(all, s)
		}
		return strings.Join(all, ","), nil
	case shape.String:
		text = v.String()
	case shape.Boolean:
		text = strconv.FormatBool(v.Bool())
	case shape.Integer, shape.Long:
		text = strconv.FormatInt(v.Int(), 10)
	case shape.Float, shape.Double:
		text = strconv.FormatFloat(v.Float(), 'g', -1, p.typ.Bits())
	case shape.Timestamp:
		text = string(appendTime(nil, timeOf(v), or(p.shape.TimeFormat, rfc822)))
	case shape.Blob:
		text = base64.StdEncoding.EncodeToString(v.Bytes())
	default:
		return "", fmt.Errorf("%s cannot travel in a header", kindNames[p.kind])
	}
	if slices.ContainsFunc([]byte(text), func(c byte) bool { return c < 0x20 || c == 0x7f }) {
		return "", fmt.Errorf("control character in a header")
	}
	return text, nil
}
