package awsproto

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"carrel/internal/api/shape"
)

// jsonWriter appends JSON to buf. The first thing it cannot write is kept in err.
type jsonWriter struct {
	buf []byte
	err error
}

// structure writes the members of v that travel in the body and are present.
func (w *jsonWriter) structure(p *plan, v reflect.Value) {
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
		w.buf = append(w.buf, f.jsonKey...)
		if f.ptr {
			fv = fv.Elem()
		}
		w.value(f.plan, fv)
	}
	w.buf = append(w.buf, '}')
}

func (w *jsonWriter) value(p *plan, v reflect.Value) {
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

func (w *jsonWriter) mapping(p *plan, v reflect.Value) {
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

// sortedKeys makes answers the same from one call to the next.
func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch x, y := a.String(), b.String(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return keys
}

// timeOf reads a time.Time without copying it to the heap where v can be pointed at.
func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

// appendFloat writes a number as short as it reads back the same.
func appendFloat(b []byte, f float64, bits int) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits)
}

const hexDigits = "0123456789abcdef"

// appendJSONString writes s quoted. Only what RFC 8259 demands is escaped ("<" stays, these answers are never HTML), and bytes that
// are not UTF-8 become U+FFFD: a document we send is always valid.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[start:i]...)
				b = append(b, "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
