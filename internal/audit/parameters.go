package audit

import (
	"encoding/base64"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"carrel/internal/api/shape"
)

const (
	// hidden is CloudTrail's word for a value that is not shown.
	hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"
	// truncated stands for a value behind the limits below, and as a member of its own says that something was cut.
	truncated = "TRUNCATED"
	// maxDocument is CloudTrail's limit on requestParameters and responseElements, in bytes.
	maxDocument = 100 << 10
	// maxElements of a list or map, and maxValue bytes of one string, keep one padded member from hiding the others.
	maxElements = 256
	maxValue    = 4 << 10
)

// Parameters renders an operation's typed input (a pointer to its struct) as CloudTrail's requestParameters: members in the
// model's order with their first letter in lower case, absent ones left out, values that the model calls sensitive, or whose
// member's name says that they are secret, replaced by HIDDEN_DUE_TO_SECURITY_REASONS. Lists and maps are cut at 256 elements, strings at 4 KiB, the whole at 100 KiB: then a member
// "truncated" says so, and values behind the limit read TRUNCATED. Input without any member is null.
// A value that does not fit its descriptor is hidden too: better to show too little than a secret.
func Parameters(op *shape.Operation, input any) Document {
	var memory []byte
	return ParametersIn(&memory, op, input)
}

// ParametersIn is Parameters, written over memory, which grows when it must. The document is good until memory is written over again.
func ParametersIn(memory *[]byte, op *shape.Operation, input any) Document {
	if op == nil {
		return Document{}
	}
	return render(memory, op.Input, input)
}

// Elements renders an operation's typed output as CloudTrail's responseElements, like Parameters.
func Elements(op *shape.Operation, output any) Document {
	if op == nil {
		return Document{}
	}
	var memory []byte
	return render(&memory, op.Output, output)
}

func render(memory *[]byte, s *shape.Shape, value any) Document {
	if s == nil || value == nil || s.Kind != shape.Structure {
		return Document{}
	}
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return Document{}
		}
		v = v.Elem()
	}
	r := renderer{buf: slices.Grow((*memory)[:0], 512)}
	r.value(s, v)
	if r.cut && r.buf[len(r.buf)-1] == '}' {
		r.buf = append(r.buf[:len(r.buf)-1], `,"truncated":true}`...)
	}
	*memory = r.buf
	if string(r.buf) == "{}" {
		return Document{}
	}
	return Document{raw: r.buf}
}

// renderer walks a value along its descriptor. It keeps no compiled plans: names and kinds stand ready in the descriptor, and a
// walk over an input with every kind of member costs about a microsecond (BenchmarkParameters).
type renderer struct {
	buf []byte
	cut bool
}

func (r *renderer) value(s *shape.Shape, v reflect.Value) {
	if s == nil || s.Sensitive {
		r.word(hidden)
		return
	}
	if len(r.buf) > maxDocument {
		r.cut = true
		r.word(truncated)
		return
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !fits(s.Kind, v) {
		r.word(hidden)
		return
	}
	switch s.Kind {
	case shape.Structure:
		r.structure(s, v)
	case shape.List:
		r.list(s, v)
	case shape.Map:
		r.mapping(s, v)
	case shape.String:
		r.text(v.String())
	case shape.Boolean:
		r.buf = strconv.AppendBool(r.buf, v.Bool())
	case shape.Integer, shape.Long:
		r.buf = strconv.AppendInt(r.buf, v.Int(), 10)
	case shape.Float, shape.Double:
		r.float(v.Float())
	case shape.Timestamp:
		r.buf = append(r.buf, '"')
		r.buf = v.Interface().(time.Time).UTC().AppendFormat(r.buf, time.RFC3339)
		r.buf = append(r.buf, '"')
	case shape.Blob:
		r.blob(v.Bytes())
	}
}

// fits tells whether a Go value is what a descriptor of this kind describes.
func fits(k shape.Kind, v reflect.Value) bool {
	switch k {
	case shape.Structure:
		return v.Kind() == reflect.Struct
	case shape.List:
		return v.Kind() == reflect.Slice
	case shape.Map:
		return v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String
	case shape.String:
		return v.Kind() == reflect.String
	case shape.Boolean:
		return v.Kind() == reflect.Bool
	case shape.Integer, shape.Long:
		return v.CanInt()
	case shape.Float, shape.Double:
		return v.CanFloat()
	case shape.Timestamp:
		return v.Kind() == reflect.Struct && v.Type() == reflect.TypeFor[time.Time]()
	case shape.Blob:
		return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
	}
	return false
}

func (r *renderer) structure(s *shape.Shape, v reflect.Value) {
	if v.NumField() != len(s.Fields) {
		r.word(hidden)
		return
	}
	r.buf = append(r.buf, '{')
	first := true
	for i := range s.Fields {
		f := v.Field(i)
		switch f.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			if f.IsNil() {
				continue
			}
		}
		r.comma(&first)
		r.name(s.Fields[i].Name)
		if secrets[s.Fields[i].Name] {
			r.word(hidden)
			continue
		}
		r.value(s.Fields[i].Of, f)
	}
	r.buf = append(r.buf, '}')
}

// name writes a model's member name, which holds letters and digits only, with its first letter in lower case.
func (r *renderer) name(name string) {
	r.buf = append(r.buf, '"')
	if at := len(r.buf); name != "" {
		r.buf = append(r.buf, name...)
		if c := r.buf[at]; c >= 'A' && c <= 'Z' {
			r.buf[at] = c + 'a' - 'A'
		}
	}
	r.buf = append(r.buf, '"', ':')
}

func (r *renderer) list(s *shape.Shape, v reflect.Value) {
	r.buf = append(r.buf, '[')
	first := true
	for i := range v.Len() {
		if r.full(i) {
			break
		}
		r.comma(&first)
		r.value(s.Elem, v.Index(i))
	}
	r.buf = append(r.buf, ']')
}

func (r *renderer) mapping(s *shape.Shape, v reflect.Value) {
	if s.Key == nil || s.Key.Sensitive {
		r.word(hidden)
		return
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch {
		case a.String() < b.String():
			return -1
		case a.String() > b.String():
			return 1
		}
		return 0
	})
	r.buf = append(r.buf, '{')
	first := true
	for i, key := range keys {
		if r.full(i) {
			break
		}
		r.comma(&first)
		r.text(key.String())
		r.buf = append(r.buf, ':')
		r.value(s.Elem, v.MapIndex(key))
	}
	r.buf = append(r.buf, '}')
}

func (r *renderer) full(elements int) bool {
	if elements < maxElements && len(r.buf) <= maxDocument {
		return false
	}
	r.cut = true
	return true
}

func (r *renderer) comma(first *bool) {
	if !*first {
		r.buf = append(r.buf, ',')
	}
	*first = false
}

func (r *renderer) word(w string) {
	r.buf = append(r.buf, '"')
	r.buf = append(r.buf, w...)
	r.buf = append(r.buf, '"')
}

func (r *renderer) text(s string) {
	if len(s) > maxValue {
		r.cut = true
		s = cut(s, maxValue)
	}
	r.buf = text(r.buf, s)
}

func (r *renderer) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		r.word(strconv.FormatFloat(f, 'g', -1, 64))
		return
	}
	r.buf = strconv.AppendFloat(r.buf, f, 'g', -1, 64)
}

func (r *renderer) blob(data []byte) {
	if len(data) > maxValue {
		r.cut = true
		data = data[:maxValue]
	}
	r.buf = append(r.buf, '"')
	r.buf = base64.StdEncoding.AppendEncode(r.buf, data)
	r.buf = append(r.buf, '"')
}
