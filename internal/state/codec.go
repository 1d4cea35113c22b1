package state

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// codec is what is known of a record type whose records are kept packed (pack.go) and read the short way (plain.go): its fields, in the
// order in which encoding/json writes them. It is made of the type by reflection, so that no field can be forgotten.
type codec struct {
	typ    reflect.Type
	fields []field
	// leaves are the fields that are packed, those of structs in it among them, with offsets from its own beginning.
	leaves []field
}

// field is one field of a struct.
type field struct {
	// offset is where it begins in the struct.
	offset uintptr
	kind   fieldKind
	// name is `"Name":` as JSON has it.
	name string
	// optional: JSON leaves it out when it is empty.
	optional bool
	// inline: an embedded struct, whose fields JSON writes among the others.
	inline bool
	// common: few different texts, kept once for all records (tag `state:"common"`).
	common bool
	// inID: the id that a record is stored under tells it, so it is not packed (tag `state:"id"`).
	inID bool
	// sub is the codec of a struct.
	sub *codec
}

type fieldKind uint8

const (
	textField fieldKind = iota
	boolField
	intField
	timeField
	textsField
	mapField
	structField
)

var (
	timeType            = reflect.TypeFor[time.Time]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// newCodec panics for a type that it does not fully understand: a field left out would be lost.
func newCodec(t reflect.Type) *codec {
	c := &codec{typ: t}
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name != "" || !sf.IsExported() {
			panic(fmt.Sprintf("state: %s.%s: a packed record has exported fields under their own names", t, sf.Name))
		}
		f := field{
			offset: sf.Offset, name: `"` + sf.Name + `":`, inline: sf.Anonymous, optional: strings.HasPrefix(options, "omit"),
			common: sf.Tag.Get("state") == "common", inID: sf.Tag.Get("state") == "id",
		}
		f.kind, f.sub = kindOf(sf.Type)
		c.fields = append(c.fields, f)
		c.leaves = append(c.leaves, f.leaves()...)
	}
	if len(c.leaves) > 64 {
		panic(fmt.Sprintf("state: %s has more fields than a mask of 64 bits", t))
	}
	return c
}

// leaves are what is packed of the field.
func (f field) leaves() []field {
	switch {
	case f.inID:
		return nil
	case f.kind != structField:
		return []field{f}
	}
	all := slices.Clone(f.sub.leaves)
	for i := range all {
		all[i].offset += f.offset
	}
	return all
}

func kindOf(t reflect.Type) (fieldKind, *codec) {
	if t == timeType {
		return timeField, nil
	}
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshalerType) || p.Implements(textUnmarshalerType) {
		panic(fmt.Sprintf("state: %s reads itself from JSON; a packed record cannot have it", t))
	}
	switch t.Kind() {
	case reflect.String:
		return textField, nil
	case reflect.Bool:
		return boolField, nil
	case reflect.Int:
		return intField, nil
	case reflect.Struct:
		return structField, newCodec(t)
	case reflect.Slice:
		if kind, _ := kindOf(t.Elem()); kind == textField {
			return textsField, nil
		}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() {
			return mapField, nil
		}
	}
	panic(fmt.Sprintf("state: a packed record cannot have a %s", t))
}
