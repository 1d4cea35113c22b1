package awsproto

import (
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"carrel/internal/api/shape"
)

// A plan joins a descriptor to the Go type that holds its values, with every name the protocol needs already resolved. Plans are
// built once by NewCodec, shared, and never changed afterwards. Recursive shapes give cyclic plans.
type plan struct {
	shape *shape.Shape
	kind  shape.Kind
	typ   reflect.Type // never a pointer
	// fields of a Structure; byName finds one by the name it is read under, byFold by that name folded as encoding/json folds.
	fields         []fieldPlan
	byName, byFold map[string]int
	// inBody are those of fields that a JSON body carries; elemSize is what one element of a List takes in memory (jsonflat.go).
	inBody    []bodyField
	elemSize  uintptr
	elem, key *plan
	// elemName is the element around list members, entryName around map entries, both as read and written.
	elemName, keyName, valueName string
	// flatLists: this protocol (ec2Query) puts no wrapper around the list elements of a request.
	flatLists bool
}

type fieldPlan struct {
	index int
	plan  *plan
	// name is what the member is called on the wire of a request, out in an XML reply.
	name, out string
	loc       shape.Location
	flat      bool
	ptr       bool
}

type planKey struct {
	shape *shape.Shape
	typ   reflect.Type
}

type planner struct {
	proto shape.Protocol
	memo  map[planKey]*plan
}

var timeType = reflect.TypeFor[time.Time]()

// top plans an operation's input or output; a nil shape stands for the empty structure.
func (b *planner) top(s *shape.Shape, zero any) (*plan, error) {
	t := reflect.TypeOf(zero)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("constructor gives %v, want a pointer to a struct", t)
	}
	if s == nil {
		s = &shape.Shape{Kind: shape.Structure}
	}
	return b.plan(s, t.Elem())
}

func (b *planner) plan(s *shape.Shape, t reflect.Type) (*plan, error) {
	key := planKey{s, t}
	if p := b.memo[key]; p != nil {
		return p, nil
	}
	if !holds(s.Kind, t) {
		return nil, fmt.Errorf("shape %s: %s cannot hold it", s.Name, t)
	}
	p := &plan{shape: s, kind: s.Kind, typ: t, flatLists: b.proto == shape.EC2Query}
	b.memo[key] = p
	var err error
	switch s.Kind {
	case shape.Structure:
		err = b.structure(p)
	case shape.List:
		p.elemName, p.elemSize = b.listElement(s), t.Elem().Size()
		p.elem, err = b.plan(s.Elem, t.Elem())
	case shape.Map:
		p.keyName, p.valueName = or(s.KeyName, "key"), or(s.ValueName, "value")
		if p.key, err = b.plan(s.Key, t.Key()); err == nil {
			p.elem, err = b.plan(s.Elem, t.Elem())
		}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (b *planner) listElement(s *shape.Shape) string {
	if s.ElemName == "" && b.proto == shape.EC2Query {
		return "item"
	}
	return or(s.ElemName, "member")
}

func (b *planner) structure(p *plan) error {
	n := len(p.shape.Fields)
	if p.typ.NumField() != n || n > maxFields {
		return fmt.Errorf("shape %s: %d members, %d fields in %s", p.shape.Name, n, p.typ.NumField(), p.typ)
	}
	p.fields = make([]fieldPlan, n)
	p.byName, p.byFold = make(map[string]int, n), make(map[string]int, n)
	for i := range p.shape.Fields {
		f := &p.shape.Fields[i]
		gf := p.typ.Field(i)
		if gf.Name != upperFirst(f.Name) {
			return fmt.Errorf("shape %s: member %d is %s, field is %s", p.shape.Name, i, f.Name, gf.Name)
		}
		t := gf.Type
		ptr := t.Kind() == reflect.Pointer
		if ptr {
			t = t.Elem()
		}
		if list := f.Of.Kind == shape.List || f.Of.Kind == shape.Map || f.Of.Kind == shape.Blob; list == ptr {
			return fmt.Errorf("shape %s: member %s has type %s", p.shape.Name, f.Name, gf.Type)
		}
		sub, err := b.plan(f.Of, t)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		fp := b.names(f)
		fp.index, fp.plan, fp.ptr = i, sub, ptr
		if _, twice := p.byName[fp.name]; twice {
			return fmt.Errorf("shape %s: two members called %s", p.shape.Name, fp.name)
		}
		p.fields[i] = fp
		p.byName[fp.name] = i
		p.byFold[string(appendFold(nil, []byte(fp.name)))] = i
	}
	p.inBody = p.body()
	return nil
}

// names resolves what a member is called in each direction (Smithy's awsQuery, ec2Query and awsJson protocol documents).
func (b *planner) names(f *shape.Field) fieldPlan {
	fp := fieldPlan{loc: f.Location, flat: f.Flat || f.Of.Flat}
	fp.name = or(f.Wire, f.Name)
	fp.out = fp.name
	switch b.proto {
	case shape.AWSQuery:
		// A flattened list takes the name of its member where that has one.
		if fp.flat && f.Of.Kind == shape.List && f.Of.ElemName != "" {
			fp.name, fp.out = f.Of.ElemName, f.Of.ElemName
		}
	case shape.EC2Query:
		fp.name = f.Name
		if f.Wire != "" {
			fp.name = upperFirst(f.Wire)
		}
		fp.name = or(f.Query, fp.name)
	}
	return fp
}

// holds tells whether values of kind k live in Go type t, as the comment of shape.Kind says.
func holds(k shape.Kind, t reflect.Type) bool {
	switch k {
	case shape.Structure:
		return t.Kind() == reflect.Struct && t != timeType
	case shape.List:
		return t.Kind() == reflect.Slice
	case shape.Map:
		return t.Kind() == reflect.Map && t.Key().Kind() == reflect.String
	case shape.String:
		return t.Kind() == reflect.String
	case shape.Boolean:
		return t.Kind() == reflect.Bool
	case shape.Integer:
		return t.Kind() == reflect.Int32
	case shape.Long:
		return t.Kind() == reflect.Int64
	case shape.Float:
		return t.Kind() == reflect.Float32
	case shape.Double:
		return t.Kind() == reflect.Float64
	case shape.Timestamp:
		return t == timeType
	case shape.Blob:
		return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	}
	return false
}

func or(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}

func upperFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 || !unicode.IsLower(r) {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// appendFold appends key in the one spelling that all its case variants share, by Unicode simple folding: the same equivalence
// encoding/json uses to match names, so what that reader would confuse is what we refuse ("workspaceıds" is not, "WORKSPACEIDS" is).
func appendFold(dst, key []byte) []byte {
	for i := 0; i < len(key); {
		c := key[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(key[i:])
		i += n
		// SimpleFold walks the orbit of r; ASCII members of an orbit (k for the Kelvin sign) have to meet the branch above.
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		dst = utf8.AppendRune(dst, least)
	}
	return dst
}

// docError says what is wrong with a document and where. Path segments are pushed while the readers return, innermost first, so
// that a good document pays nothing for them.
type docError struct {
	what string
	path []string
}

func malformed(format string, args ...any) *docError {
	return &docError{what: fmt.Sprintf(format, args...)}
}

// in notes that the error lies inside the member or element called segment.
func (e *docError) in(segment string) *docError {
	e.path = append(e.path, segment)
	return e
}

// at notes that the error lies inside the i'th element (from 0) of a list.
func (e *docError) at(i int) *docError { return e.in(strconv.Itoa(i+1) + ".member") }

// text is what the client sees: "NUMBER_VALUE can not be converted to a String at 'Workspaces.1.member.UserName'".
func (e *docError) text() string {
	if len(e.path) == 0 {
		return e.what
	}
	s := e.what + " at '"
	for i := len(e.path) - 1; i >= 0; i-- {
		s += e.path[i]
		if i > 0 {
			s += "."
		}
	}
	return s + "'"
}
