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
	key    string // `,"name":`
	plan   *plan
	ptr    bool
}

// body lists the members of a structure that travel in the body, in their order.
func (p *plan) body() []bodyField {
	var all []bodyField
	for i := range p.fields {
		if f := &p.fields[i]; f.loc == shape.InBody {
			all = append(all, bodyField{offset: p.typ.Field(f.index).Offset, key: "," + strconv.Quote(f.name) + ":", plan: f.plan, ptr: f.ptr})
		}
	}
	return all
}

// jsonWriter appends JSON to buf. The first thing it cannot write is kept in err.
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
	w.structure(p, v.Addr().UnsafePointer())
}

// structure writes the members of the structure at that are present.
func (w *jsonWriter) structure(p *plan, at unsafe.Pointer) {
	start := len(w.buf)
	for i := range p.inBody {
		f := &p.inBody[i]
		value := unsafe.Add(at, f.offset)
		// A pointer, a slice or a map: of each, nil means that its first word is nil.
		first := *(*unsafe.Pointer)(value)
		if first == nil {
			continue
		}
		if f.ptr {
			value = first
		}
		w.buf = append(w.buf, f.key...)
		if f.plan.kind == shape.String {
			w.buf = appendJSONString(w.buf, *(*string)(value))
			continue
		}
		w.value(f.plan, value)
	}
	if len(w.buf) == start {
		w.buf = append(w.buf, '{')
	}
	w.buf[start] = '{' // in the place of the first comma
	w.buf = append(w.buf, '}')
}

// value writes what is at, which is of p's type.
func (w *jsonWriter) value(p *plan, at unsafe.Pointer) {
	switch p.kind {
	case shape.Structure:
		w.structure(p, at)
	case shape.List:
		w.list(p, at)
	case shape.Map:
		w.mapping(p, reflect.NewAt(p.typ, at).Elem())
	case shape.String:
		w.buf = appendJSONString(w.buf, *(*string)(at))
	case shape.Boolean:
		w.buf = strconv.AppendBool(w.buf, *(*bool)(at))
	case shape.Integer:
		w.buf = strconv.AppendInt(w.buf, int64(*(*int32)(at)), 10)
	case shape.Long:
		w.buf = strconv.AppendInt(w.buf, *(*int64)(at), 10)
	case shape.Float:
		w.float(float64(*(*float32)(at)), 32)
	case shape.Double:
		w.float(*(*float64)(at), 64)
	case shape.Timestamp:
		w.timestamp(p, *(*time.Time)(at))
	case shape.Blob:
		w.buf = append(w.buf, '"')
		w.buf = base64.StdEncoding.AppendEncode(w.buf, *(*[]byte)(at))
		w.buf = append(w.buf, '"')
	}
}

// list writes the slice at. A slice of any type has the header of a slice of bytes, whose length counts elements all the same.
func (w *jsonWriter) list(p *plan, at unsafe.Pointer) {
	w.buf = append(w.buf, '[')
	elements := *(*[]byte)(at)
	first := unsafe.Pointer(unsafe.SliceData(elements))
	for i := range len(elements) {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.value(p.elem, unsafe.Add(first, uintptr(i)*p.elemSize))
	}
	w.buf = append(w.buf, ']')
}

// mapping writes a map through reflect, which alone knows where a map keeps its values; each is copied to where it can be read.
func (w *jsonWriter) mapping(p *plan, v reflect.Value) {
	w.buf = append(w.buf, '{')
	value := reflect.New(p.elem.typ)
	for i, key := range sortedKeys(v) {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendJSONString(w.buf, key.String())
		w.buf = append(w.buf, ':')
		value.Elem().Set(v.MapIndex(key))
		w.value(p.elem, value.UnsafePointer())
	}
	w.buf = append(w.buf, '}')
}

func (w *jsonWriter) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.err = fmt.Errorf("JSON has no number %v", f)
	}
	w.buf = appendFloat(w.buf, f, bits)
}

func (w *jsonWriter) timestamp(p *plan, t time.Time) {
	format := or(p.shape.TimeFormat, unixTimestamp)
	if format == unixTimestamp {
		w.buf = appendTime(w.buf, t, format)
		return
	}
	w.buf = append(w.buf, '"')
	w.buf = appendTime(w.buf, t, format)
	w.buf = append(w.buf, '"')
}
