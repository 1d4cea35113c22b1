package awsproto

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strconv"
	"unicode/utf8"

	"carrel/internal/api/shape"
)

// decodeJSON reads body, one JSON structure and nothing else, into v. Refused besides bad JSON: duplicate members, case variants
// of known members, invalid UTF-8, a byte order mark, trailing data, values of the wrong type, null in lists and maps.
func decodeJSON(p *plan, v reflect.Value, body []byte) *docError {
	if !utf8.Valid(body) {
		return malformed("Invalid UTF-8")
	}
	r := jsonReader{b: body, left: maxElements}
	if r.peek() != '{' {
		return r.syntax("expected a structure")
	}
	if err := r.structure(p, v); err != nil {
		return err
	}
	if r.peek(); r.i != len(body) {
		return r.syntax("data after the end")
	}
	return nil
}

func (r *jsonReader) structure(p *plan, v reflect.Value) *docError {
	if err := r.enter(); err != nil {
		return err
	}
	var seen [maxFields / 64]uint64
	var unknown keySet
	for first := true; ; first = false {
		more, err := r.next('}', first)
		if err != nil || !more {
			return err
		}
		key, err := r.key()
		if err != nil {
			return err
		}
		i, known := p.byName[string(key)]
		if !known {
			if err := r.unknown(p, key, &unknown); err != nil {
				return err
			}
			continue
		}
		if seen[i/64]&(1<<(i%64)) != 0 {
			return duplicate(key)
		}
		seen[i/64] |= 1 << (i % 64)
		if err := r.member(&p.fields[i], v.Field(i)); err != nil {
			return err.in(p.fields[i].name)
		}
	}
}

// unknown skips a member the model does not have, as AWS does, unless it differs from one of its members in case alone: another
// JSON reader on the way (Go's own is one) would take it for that member.
func (r *jsonReader) unknown(p *plan, key []byte, seen *keySet) *docError {
	var room [64]byte
	if i, ok := p.byFold[string(appendFold(room[:0], key))]; ok {
		return malformed("Unexpected field '%s', did you mean '%s'", shown(string(key)), p.fields[i].name)
	}
	if err := seen.add(r, key); err != nil {
		return err
	}
	return r.skip()
}

func (r *jsonReader) member(f *fieldPlan, v reflect.Value) *docError {
	if f.loc != shape.InBody {
		return malformed("Member does not belong into the body")
	}
	if r.peek() == 'n' {
		return r.word("null") // null is absent
	}
	if !f.ptr {
		return r.value(f.plan, v)
	}
	target := reflect.New(f.plan.typ)
	if err := r.value(f.plan, target.Elem()); err != nil {
		return err
	}
	v.Set(target)
	return nil
}

// value reads a value of p's kind into v, which is addressable and of p's type.
func (r *jsonReader) value(p *plan, v reflect.Value) *docError {
	c := r.peek()
	switch p.kind {
	case shape.Structure:
		if c == '{' {
			return r.structure(p, v)
		}
	case shape.List:
		if c == '[' {
			return r.list(p, v)
		}
	case shape.Map:
		if c == '{' {
			return r.mapping(p, v)
		}
	case shape.String, shape.Blob:
		if c == '"' {
			return r.text(p, v)
		}
	case shape.Boolean:
		if c == 't' || c == 'f' {
			v.SetBool(c == 't')
			return r.word(strconv.FormatBool(c == 't'))
		}
	case shape.Timestamp:
		if c == '"' && or(p.shape.TimeFormat, unixTimestamp) != unixTimestamp {
			return r.text(p, v)
		}
		fallthrough
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return r.numeric(p, v)
		}
	}
	return r.wrongType(p, c)
}

var kindNames = [...]string{"a Structure", "a List", "a Map", "a String", "a Boolean", "an Integer", "a Long", "a Float", "a Double", "a Timestamp", "a Blob"}

// wrongType reports a value of another type than the model's, in the words of AWS's own front end; what is no value at all is a
// syntax error instead.
func (r *jsonReader) wrongType(p *plan, c byte) *docError {
	at := r.i
	if err := r.skip(); err != nil {
		return err
	}
	r.i = at
	switch {
	case c == '[':
		return malformed("Start of list found where not expected")
	case c == '{':
		return malformed("Start of structure or map found where not expected")
	case c == 'n':
		return malformed("Null value found where not expected")
	}
	token := "NUMBER_VALUE"
	switch c {
	case '"':
		token = "STRING_VALUE"
	case 't':
		token = "TRUE_VALUE"
	case 'f':
		token = "FALSE_VALUE"
	}
	return malformed("%s can not be converted to %s", token, kindNames[p.kind])
}

func (r *jsonReader) list(p *plan, v reflect.Value) *docError {
	if err := r.enter(); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(p.typ, 0, 0))
	for n := 0; ; n++ {
		more, err := r.next(']', n == 0)
		if err != nil || !more {
			return err
		}
		if err := r.spend(); err != nil {
			return err
		}
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		if err := r.value(p.elem, v.Index(n)); err != nil {
			return err.at(n)
		}
	}
}

func (r *jsonReader) mapping(p *plan, v reflect.Value) *docError {
	if err := r.enter(); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(p.typ))
	for first := true; ; first = false {
		more, err := r.next('}', first)
		if err != nil || !more {
			return err
		}
		if err := r.spend(); err != nil {
			return err
		}
		raw, err := r.key()
		if err != nil {
			return err
		}
		key := reflect.New(p.key.typ).Elem()
		key.SetString(string(raw))
		if v.MapIndex(key).IsValid() {
			return duplicate(raw)
		}
		elem := reflect.New(p.elem.typ).Elem()
		if err := r.value(p.elem, elem); err != nil {
			return err.in(shown(key.String()))
		}
		v.SetMapIndex(key, elem)
	}
}

// text reads a string into a String, a Blob (base64, RFC 4648 section 4) or a Timestamp whose model asks for text.
func (r *jsonReader) text(p *plan, v reflect.Value) *docError {
	s, err := r.str()
	if err != nil {
		return err
	}
	switch p.kind {
	case shape.String:
		v.SetString(string(s))
		return nil
	case shape.Timestamp:
		return setTime(p, v, string(s), "")
	}
	return setBlob(v, s)
}

func (r *jsonReader) numeric(p *plan, v reflect.Value) *docError {
	lit, whole, err := r.number()
	if err != nil {
		return err
	}
	if p.kind == shape.Timestamp {
		return setTime(p, v, string(lit), unixTimestamp)
	}
	if (p.kind == shape.Integer || p.kind == shape.Long) && !whole {
		return malformed("Number with a fraction or exponent can not be converted to %s", kindNames[p.kind])
	}
	return setNumber(p, v, string(lit))
}

// setNumber sets v to a number in decimal notation. ok literals only: a sign, digits, and for floats a fraction and an exponent.
func setNumber(p *plan, v reflect.Value, lit string) *docError {
	switch p.kind {
	case shape.Integer, shape.Long:
		n, err := strconv.ParseInt(lit, 10, p.typ.Bits())
		if err != nil {
			return malformed("Number out of range of %s", kindNames[p.kind])
		}
		v.SetInt(n)
	case shape.Float, shape.Double:
		f, err := strconv.ParseFloat(lit, p.typ.Bits())
		if err != nil {
			return malformed("Number out of range of %s", kindNames[p.kind])
		}
		v.SetFloat(f)
	default:
		return malformed("NUMBER_VALUE can not be converted to %s", kindNames[p.kind])
	}
	return nil
}

// setBlob decodes padded base64; line breaks, which the standard library would skip, are refused.
func setBlob(v reflect.Value, s []byte) *docError {
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(blob, s)
	if err != nil || bytes.ContainsAny(s, "\r\n") {
		return malformed("Invalid base64")
	}
	v.SetBytes(blob[:n])
	return nil
}
