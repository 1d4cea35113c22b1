package awsproto

import (
	"encoding/base64"
	"reflect"
	"strconv"
	"unicode/utf8"

	"carrel/internal/api/shape"
)

// appendQueryResponse writes <OpResponse><OpResult>members</OpResult><ResponseMetadata>...; an operation without output has no result.
func appendQueryResponse(b []byte, oc *opCodec, v reflect.Value, requestID string) []byte {
	root := oc.op.Name + "Response"
	w := xmlWriter{buf: b, timeFormat: iso8601}
	w.root(root, oc.op.Service.XMLNamespace)
	if oc.op.ResultWrapper != "" {
		w.open(oc.op.ResultWrapper)
	}
	w.members(oc.out, v)
	if oc.op.ResultWrapper != "" {
		w.close(oc.op.ResultWrapper)
	}
	w.open("ResponseMetadata")
	w.element("RequestId", requestID)
	w.close("ResponseMetadata")
	w.close(root)
	return w.buf
}

// appendEC2Response writes <OpResponse><requestId>...</requestId>members; an operation without output answers <return>true</return>.
func appendEC2Response(b []byte, oc *opCodec, v reflect.Value, requestID string) []byte {
	root := oc.op.Name + "Response"
	w := xmlWriter{buf: append(b, xmlDeclaration...), timeFormat: isoMillis}
	w.root(root, oc.op.Service.XMLNamespace)
	w.element("requestId", requestID)
	if oc.op.Output == nil {
		w.element("return", "true")
	}
	w.members(oc.out, v)
	w.close(root)
	return w.buf
}

const xmlDeclaration = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// xmlWriter appends XML to buf. Names come from models, so they need no escaping; every text is escaped.
type xmlWriter struct {
	buf        []byte
	timeFormat string
}

func (w *xmlWriter) root(name, namespace string) {
	w.buf = append(w.buf, '<')
	w.buf = append(w.buf, name...)
	if namespace != "" {
		w.buf = append(w.buf, ` xmlns="`...)
		w.buf = appendXMLText(w.buf, namespace)
		w.buf = append(w.buf, '"')
	}
	w.buf = append(w.buf, '>')
}

func (w *xmlWriter) open(name string) {
	w.buf = append(w.buf, '<')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '>')
}

func (w *xmlWriter) close(name string) {
	w.buf = append(w.buf, '<', '/')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '>')
}

func (w *xmlWriter) element(name, text string) {
	w.open(name)
	w.buf = appendXMLText(w.buf, text)
	w.close(name)
}

func (w *xmlWriter) members(p *plan, v reflect.Value) {
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(i)
		if fv.IsNil() {
			continue
		}
		if f.ptr {
			fv = fv.Elem()
		}
		switch {
		case f.flat && f.plan.kind == shape.List:
			w.list(f.plan, fv, f.out)
		case f.flat && f.plan.kind == shape.Map:
			w.entries(f.plan, fv, f.out)
		default:
			w.value(f.plan, fv, f.out)
		}
	}
}

// value writes v inside an element called name.
func (w *xmlWriter) value(p *plan, v reflect.Value, name string) {
	w.open(name)
	switch p.kind {
	case shape.Structure:
		w.members(p, v)
	case shape.List:
		w.list(p, v, p.elemName)
	case shape.Map:
		w.entries(p, v, "entry")
	case shape.String:
		w.buf = appendXMLText(w.buf, v.String())
	case shape.Boolean:
		w.buf = strconv.AppendBool(w.buf, v.Bool())
	case shape.Integer, shape.Long:
		w.buf = strconv.AppendInt(w.buf, v.Int(), 10)
	case shape.Float, shape.Double:
		w.buf = appendFloat(w.buf, v.Float(), p.typ.Bits())
	case shape.Timestamp:
		w.buf = appendTime(w.buf, timeOf(v), or(p.shape.TimeFormat, w.timeFormat))
	case shape.Blob:
		w.buf = base64.StdEncoding.AppendEncode(w.buf, v.Bytes())
	}
	w.close(name)
}

func (w *xmlWriter) list(p *plan, v reflect.Value, name string) {
	for i := range v.Len() {
		w.value(p.elem, v.Index(i), name)
	}
}

func (w *xmlWriter) entries(p *plan, v reflect.Value, name string) {
	for _, key := range sortedKeys(v) {
		w.open(name)
		w.element(p.keyName, key.String())
		w.value(p.elem, v.MapIndex(key), p.valueName)
		w.close(name)
	}
}

// appendXMLText writes s as character data that is also fit for an attribute. Characters XML 1.0 cannot carry even escaped
// (section 2.2) and bytes that are not UTF-8 become U+FFFD; a carriage return is escaped because parsers turn a bare one into a newline.
func appendXMLText(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c, n := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(s[i:])
		}
		var instead string
		switch {
		case c == '<':
			instead = "&lt;"
		case c == '>':
			instead = "&gt;"
		case c == '&':
			instead = "&amp;"
		case c == '"':
			instead = "&quot;"
		case c == '\r':
			instead = "&#xD;"
		case c < 0x20 && c != '\t' && c != '\n', c == 0xfffe, c == 0xffff, c == utf8.RuneError && n == 1:
			instead = "\ufffd"
		}
		if instead != "" {
			b = append(b, s[start:i]...)
			b = append(b, instead...)
			start = i + n
		}
		i += n
	}
	return append(b, s[start:]...)
}
