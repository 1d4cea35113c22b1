package awsproto

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"carrel/internal/api/shape"
)

// decodeForm reads the parameters of an awsQuery or ec2Query request into v. Which of the two it is shows in the plan's names
// and in whether the operation's service flattens every list. Parameters the model does not have are ignored, as AWS does.
func decodeForm(p *plan, v reflect.Value, r *Request) *docError {
	f, err := formOf(r)
	if err != nil {
		return err
	}
	d := formDecoder{left: maxElements}
	return d.structure(p, v, branch{params: f})
}

type formDecoder struct {
	left  int
	depth int
}

// branch is the parameters below one dotted prefix of length cut (dot included): of "Filter.1.Name" below "Filter." the rest is
// "1.Name". scalar is the value of the prefix itself, where it has one.
type branch struct {
	params    form
	cut       int
	scalar    string
	hasScalar bool
}

// split takes the parameters of the first segment off b. more is false at the end.
func (b *branch) split() (segment string, sub branch, more bool) {
	if len(b.params) == 0 {
		return "", branch{}, false
	}
	rest := b.params[0].name[b.cut:]
	segment, _, _ = strings.Cut(rest, ".")
	sub.cut = b.cut + len(segment) + 1
	n := 0
	if len(rest) == len(segment) {
		sub.scalar, sub.hasScalar = b.params[0].value, true
		n = 1
	}
	first := n
	for n < len(b.params) {
		name := b.params[n].name
		if len(name) < sub.cut || name[sub.cut-1] != '.' || name[b.cut:sub.cut-1] != segment {
			break
		}
		n++
	}
	sub.params = b.params[first:n]
	b.params = b.params[n:]
	return segment, sub, true
}

func (d *formDecoder) structure(p *plan, v reflect.Value, b branch) *docError {
	if b.hasScalar && b.scalar != "" {
		return malformed("Value where a structure is expected")
	}
	if d.depth++; d.depth > maxDepth {
		return malformed("Nested too deeply")
	}
	defer func() { d.depth-- }()
	for {
		segment, sub, more := b.split()
		if !more {
			return nil
		}
		i, known := p.byName[segment]
		if !known {
			continue
		}
		if err := d.member(&p.fields[i], v.Field(i), sub); err != nil {
			return err.in(segment)
		}
	}
}

func (d *formDecoder) member(f *fieldPlan, v reflect.Value, b branch) *docError {
	switch f.plan.kind {
	case shape.List:
		return d.list(f, v, b)
	case shape.Map:
		return d.mapping(f, v, b)
	case shape.Structure:
	default:
		if !b.hasScalar {
			return nil // "Name.1" of a scalar Name is an unknown parameter
		}
	}
	if !f.ptr {
		return d.value(f.plan, v, b)
	}
	target := reflect.New(f.plan.typ)
	if err := d.value(f.plan, target.Elem(), b); err != nil {
		return err
	}
	v.Set(target)
	return nil
}

// value reads one value that is no list or map member: those need to know whether they are flat.
func (d *formDecoder) value(p *plan, v reflect.Value, b branch) *docError {
	switch p.kind {
	case shape.Structure:
		return d.structure(p, v, b)
	case shape.List, shape.Map:
		return d.member(&fieldPlan{plan: p, flat: p.shape.Flat}, v, b)
	}
	if !b.hasScalar {
		return malformed("Missing value")
	}
	return setScalar(p, v, b.scalar)
}

// list reads X.member.N, or X.N where flat. N need not be contiguous: elements come in the order of N, as with AWS.
func (d *formDecoder) list(f *fieldPlan, v reflect.Value, b branch) *docError {
	p := f.plan
	items, err := d.numbered(b, f.flat || p.flatLists, p.elemName)
	if err != nil || items == nil {
		return err
	}
	v.Set(reflect.MakeSlice(p.typ, len(items), len(items)))
	for i, item := range items {
		if err := d.value(p.elem, v.Index(i), item.branch); err != nil {
			return err.in(strconv.Itoa(item.n))
		}
	}
	return nil
}

// mapping reads X.entry.N.key and X.entry.N.value, or X.N.key where flat.
func (d *formDecoder) mapping(f *fieldPlan, v reflect.Value, b branch) *docError {
	p := f.plan
	items, err := d.numbered(b, f.flat, "entry")
	if err != nil || items == nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(p.typ, len(items)))
	for _, item := range items {
		key, elem := reflect.New(p.key.typ).Elem(), reflect.New(p.elem.typ).Elem()
		if err := d.entry(p, key, elem, item.branch); err != nil {
			return err.in(strconv.Itoa(item.n))
		}
		if v.MapIndex(key).IsValid() {
			return malformed("Duplicate key of a map").in(strconv.Itoa(item.n))
		}
		v.SetMapIndex(key, elem)
	}
	return nil
}

func (d *formDecoder) entry(p *plan, key, elem reflect.Value, b branch) *docError {
	var k, v branch
	for {
		segment, sub, more := b.split()
		if !more {
			break
		}
		switch segment {
		case p.keyName:
			k = sub
		case p.valueName:
			v = sub
		}
	}
	if err := d.value(p.key, key, k); err != nil {
		return err.in(p.keyName)
	}
	if err := d.value(p.elem, elem, v); err != nil {
		return err.in(p.valueName)
	}
	return nil
}

type numbered struct {
	n int
	branch
}

// numbered gives the branches X.<wrapper>.N, or X.N where flat, in the order of N; nil when the list is absent, empty when it is
// there and empty ("X="). Memory follows the count of parameters, never the size of N.
func (d *formDecoder) numbered(b branch, flat bool, wrapper string) ([]numbered, *docError) {
	if b.hasScalar && b.scalar != "" {
		return nil, malformed("Value where a list is expected")
	}
	var items []numbered
	if b.hasScalar {
		items = []numbered{}
	}
	if !flat {
		for {
			segment, sub, more := b.split()
			if !more {
				return items, nil
			}
			if segment == wrapper {
				b = sub
				break
			}
		}
	}
	for {
		segment, sub, more := b.split()
		if !more {
			break
		}
		n, ok := index(segment)
		if !ok {
			return nil, malformed("'%s' is not an index from 1 to %d", shown(segment), maxIndex)
		}
		if d.left--; d.left < 0 {
			return nil, malformed("Too many elements")
		}
		items = append(items, numbered{n, sub})
	}
	slices.SortFunc(items, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	return items, nil
}

// index reads a list index in its one canonical spelling: "01" beside "1" would be a hidden duplicate.
func index(s string) (int, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' || len(s) > 5 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= maxIndex
}

// setScalar reads the text of a scalar as it stands in a form, a query string, a header or a path.
func setScalar(p *plan, v reflect.Value, s string) *docError {
	switch p.kind {
	case shape.String:
		v.SetString(s)
	case shape.Boolean:
		if s != "true" && s != "false" {
			return malformed("'%s' is not true or false", shown(s))
		}
		v.SetBool(s == "true")
	case shape.Timestamp:
		return setTime(p, v, s, iso8601)
	case shape.Blob:
		return setBlob(v, []byte(s))
	case shape.Integer, shape.Long, shape.Float, shape.Double:
		if !isNumber(s) {
			return malformed("'%s' can not be converted to %s", shown(s), kindNames[p.kind])
		}
		return setNumber(p, v, s)
	default:
		return malformed("Value where %s is expected", kindNames[p.kind])
	}
	return nil
}

// isNumber keeps the notation to JSON's: strconv would take "0x10", "1_000", "+1" and "inf" too.
func isNumber(s string) bool {
	if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return false
	}
	r := jsonReader{b: []byte(s)}
	_, _, err := r.number()
	return err == nil && r.i == len(s)
}
