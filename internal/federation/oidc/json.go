package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth is how deep a document may nest.
const maxDepth = 16

// object is a JSON object as readObject makes it: strings, json.Number, bool, nil, []any and object.
type object map[string]any

// readObject reads one JSON object. A member twice is refused at every level: which of the two counts would be the reader's choice, and
// readers differ. Members are found by their exact names, where encoding/json would take "Sub" for "sub".
func readObject(text []byte) (object, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	o, ok := v.(object)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something behind the JSON object")
	}
	return o, nil
}

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("too deep")
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			key, ok := name.(string)
			if !ok {
				return nil, errors.New("a member without a name")
			}
			if _, twice := o[key]; twice {
				return nil, fmt.Errorf("the member %.40q twice", key)
			}
			if o[key], err = readValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return token, nil
}

// text is a member that is a string, given and not empty.
func (o object) text(name string) (string, bool) {
	s, ok := o[name].(string)
	return s, ok && s != ""
}

// texts is a member that is a string or a list of strings; ok also when there is none.
func (o object) texts(name string) (list []string, ok bool) {
	switch v := o[name].(type) {
	case nil:
		_, given := o[name]
		return nil, !given
	case string:
		return []string{v}, true
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}
