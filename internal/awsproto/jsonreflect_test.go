package awsproto

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"carrel/internal/api/shape"
)

// reflectWriter says by reflection alone what jsonWriter must say: slower, and plainly right. Tests and benchmarks hold the two together.
type reflectWriter struct {
	buf []byte
	err error
}

// structure writes the members of v that travel in the body and are present.
func (w *reflectWriter) structure(p *plan, v reflect.Value) {
	w.buf = append(w.buf, '{')
	sep := false
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(i)
		if f.loc != shape.InBody || fv.IsNil() {
			continue
		}
		if sep {
			w.buf = append(w.buf, ',')
		}
		sep = true
		w.buf = append(w.buf, strconv.Quote(f.name)+":"...)
		if f.ptr {
			fv = fv.Elem()
		}
		w.value(f.plan, fv)
	}
	w.buf = append(w.buf, '}')
}

func (w *reflectWriter) value(p *plan, v reflect.Value) {
	switch p.kind {
	case shape.Structure:
		w.structure(p, v)
	case shape.List:
		w.buf = append(w.buf, '[')
		for i := range v.Len() {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.value(p.elem, v.Index(i))
		}
		w.buf = append(w.buf, ']')
	case shape.Map:
		w.mapping(p, v)
	case shape.String:
		w.buf = appendJSONString(w.buf, v.String())
	case shape.Boolean:
		w.buf = strconv.AppendBool(w.buf, v.Bool())
	case shape.Integer, shape.Long:
		w.buf = strconv.AppendInt(w.buf, v.Int(), 10)
	case shape.Float, shape.Double:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			w.err = fmt.Errorf("JSON has no number %v", f)
		}
		w.buf = appendFloat(w.buf, f, p.typ.Bits())
	case shape.Timestamp:
		w.timestamp(p, timeOf(v))
	case shape.Blob:
		w.buf = append(w.buf, '"')
		w.buf = base64.StdEncoding.AppendEncode(w.buf, v.Bytes())
		w.buf = append(w.buf, '"')
	}
}

func (w *reflectWriter) timestamp(p *plan, t time.Time) {
	format := or(p.shape.TimeFormat, unixTimestamp)
	if format == unixTimestamp {
		w.buf = appendTime(w.buf, t, format)
		return
	}
	w.buf = append(w.buf, '"')
	w.buf = appendTime(w.buf, t, format)
	w.buf = append(w.buf, '"')
}

func (w *reflectWriter) mapping(p *plan, v reflect.Value) {
	w.buf = append(w.buf, '{')
	for i, key := range sortedKeys(v) {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendJSONString(w.buf, key.String())
		w.buf = append(w.buf, ':')
		w.value(p.elem, v.MapIndex(key))
	}
	w.buf = append(w.buf, '}')
}
