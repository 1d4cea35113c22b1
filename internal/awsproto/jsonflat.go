package awsproto

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"carrel/internal/api/shape"
)

// This is the only file that reads memory by itself instead of through reflect: a page of 25 WorkSpaces holds some 500 values, and
// reflect takes more time for finding them than it takes to write them down.
//
// What makes it sound: planner.structure and holds have compared every shape with its Go type before a plan exists, offsets and sizes
// are reflect's own, and the first pointer comes from a value whose type Encode has compared with the plan's. Nothing here depends on
// a byte of a request. It only reads, and never keeps a pointer. Tests compare every answer with what reflection alone writes.

// bodyField is a member that travels in a JSON body.
type bodyField struct {
	offset uintptr
	key    string // `,"name":`, and the quote of a text
	text   bool
	plan   *plan
	ptr    bool
}

// body lists the members of a structure that travel in the body, in their order.
func (p *plan) body() []bodyField {
	var all []bodyField
	for i := range p.fields {
		f := &p.fields[i]
		if f.loc != shape.InBody {
			continue
		}
		body := bodyField{offset: p.typ.Field(f.index).Offset, key: "," + strconv.Quote(f.name) + ":", plan: f.plan, ptr: f.ptr}
		if f.plan.kind == shape.String {
			body.text, body.key = true, body.key+`"`
		}
		all = append(all, body)
	}
	return all
}

// jsonWriter appends JSON to buf. The first thing it cannot write is kept in err. Its methods take the bytes so far and give them back
// longer: they stay in registers that way, where a field would be stored and loaded again for every value.
type jsonWriter struct {
	buf []byte
	err error
}

// output writes an output structure; v is what outputValue gave for p.
func (w *jsonWriter) output(p *plan, v reflect.Value) {
	if !v.CanAddr() {
		// A nil output: nothing is present.
		w.buf = append(w.buf, '{', '}')
		return
	}
	w.buf = w.structure(w.buf, p, v.Addr().UnsafePointer())
}

// structure writes the members of the structure at that are present.
func (w *jsonWriter) structure(b []byte, p *plan, at unsafe.Pointer) []byte {
	start := len(b)
	for i := range p.inBody {
		f := &p.inBody[i]
		value := unsafe.Add(at, f.offset)
		// A pointer, a slice or a map: of each, nil means that its first word is nil.
		first := *(*unsafe.Pointer)(value)
		if first == nil {
			continue
		}
		if f.text { // always behind a pointer: planner.structure
			b = appendJSONRest(append(b, f.key...), *(*string)(first))
			continue
		}
		if f.ptr {
			value = first
		}
		b = w.value(append(b, f.key...), f.plan, value)
	}
	if len(b) == start {
		b = append(b, '{')
	}
	b[start] = '{' // in the place of the first comma
	return append(b, '}')
}

// value writes what is at, which is of p's type.
func (w *jsonWriter) value(b []byte, p *plan, at unsafe.Pointer) []byte {
	switch p.kind {
	case shape.Structure:
		return w.structure(b, p, at)
	case shape.List:
		return w.list(b, p, at)
	case shape.Map:
		return w.mapping(b, p, reflect.NewAt(p.typ, at).Elem())
	case shape.String:
		return appendJSONString(b, *(*string)(at))
	case shape.Boolean:
		return strconv.AppendBool(b, *(*bool)(at))
	case shape.Integer:
		return strconv.AppendInt(b, int64(*(*int32)(at)), 10)
	case shape.Long:
		return strconv.AppendInt(b, *(*int64)(at), 10)
	case shape.Float:
		return w.float(b, float64(*(*float32)(at)), 32)
	case shape.Double:
		return w.float(b, *(*float64)(at), 64)
	case shape.Timestamp:
		return appendTimestamp(b, p, *(*time.Time)(at))
	case shape.Blob:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, *(*[]byte)(at))
		return append(b, '"')
	}
	return b
}

// list writes the slice at. A slice of any type has the header of a slice of bytes, whose length counts elements all the same.
func (w *jsonWriter) list(b []byte, p *plan, at unsafe.Pointer) []byte {
	b = append(b, '[')
	elements := *(*[]byte)(at)
	first := unsafe.Pointer(unsafe.SliceData(elements))
	for i := range len(elements) {
		if i > 0 {
			b = append(b, ',')
		}
		b = w.value(b, p.elem, unsafe.Add(first, uintptr(i)*p.elemSize))
	}
	return append(b, ']')
}

// mapping writes a map through reflect, which alone knows where a map keeps its values; each is copied to where it can be read.
func (w *jsonWriter) mapping(b []byte, p *plan, v reflect.Value) []byte {
	b = append(b, '{')
	value := reflect.New(p.elem.typ)
	for i, key := range sortedKeys(v) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(b, key.String()), ':')
		value.Elem().Set(v.MapIndex(key))
		b = w.value(b, p.elem, value.UnsafePointer())
	}
	return append(b, '}')
}

func (w *jsonWriter) float(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.err = fmt.Errorf("JSON has no number %v", f)
	}
	return appendFloat(b, f, bits)
}

func appendTimestamp(b []byte, p *plan, t time.Time) []byte {
	format := or(p.shape.TimeFormat, unixTimestamp)
	if format == unixTimestamp {
		return appendTime(b, t, format)
	}
	return append(appendTime(append(b, '"'), t, format), '"')
}
