package state

import (
	"encoding/binary"
	"math/bits"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The packed form of a struct: a mask of the fields that are not zero, then those fields. It lives in this process only: nothing of it is
// stored, so it has no version and is not read from anybody else.

// pack appends v.
func (c *codec) pack(b []byte, v reflect.Value, w *words) []byte {
	var mask uint64
	for i := range c.fields {
		if f := &c.fields[i]; !f.inID && !v.Field(f.at).IsZero() {
			mask |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, mask)
	for ; mask != 0; mask &= mask - 1 {
		f := &c.fields[bits.TrailingZeros64(mask)]
		b = f.pack(b, v.Field(f.at), w)
	}
	return b
}

func (f *field) pack(b []byte, v reflect.Value, w *words) []byte {
	switch f.kind {
	case textField:
		return f.packText(b, v.String(), w)
	case intField:
		return binary.AppendVarint(b, v.Int())
	case timeField:
		return packTime(b, v.Interface().(time.Time))
	case textsField:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = f.packText(b, v.Index(i).String(), w)
		}
	case mapField:
		m := v.Interface().(map[string]string)
		b = binary.AppendUvarint(b, uint64(len(m)))
		for key, value := range m {
			b = packText(packText(b, key), value)
		}
	case structField:
		return f.sub.pack(b, v, w)
	case boolField:
		// That it is there says that it is true.
	}
	return b
}

func (f *field) packText(b []byte, text string, w *words) []byte {
	if f.common {
		return binary.AppendUvarint(b, w.number(text))
	}
	return packText(b, text)
}

func packText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// packTime writes seconds and nanoseconds of a time in UTC, which is what the records have, and another time in time's own form.
func packTime(b []byte, t time.Time) []byte {
	if t == time.Unix(t.Unix(), int64(t.Nanosecond())).UTC() {
		b = binary.AppendVarint(append(b, 0), t.Unix())
		return binary.AppendUvarint(b, uint64(t.Nanosecond()))
	}
	own, err := t.MarshalBinary()
	if err != nil {
		panic("state: a time that came from JSON has no binary form: " + err.Error())
	}
	return packText(append(b, 1), string(own))
}

// packed reads the packed form. Texts are cut out of it: it is a string that never changes.
type packed struct {
	rest  string
	words []string
}

// unpack sets the fields of v, which is zero.
func (c *codec) unpack(p *packed, v reflect.Value) {
	for mask := p.uint(); mask != 0; mask &= mask - 1 {
		f := &c.fields[bits.TrailingZeros64(mask)]
		f.unpack(p, v.Field(f.at))
	}
}

func (f *field) unpack(p *packed, v reflect.Value) {
	switch f.kind {
	case textField:
		v.SetString(f.text(p))
	case boolField:
		v.SetBool(true)
	case intField:
		u := p.uint()
		v.SetInt(int64(u>>1) ^ -int64(u&1))
	case timeField:
		p.time(v.Addr().Interface().(*time.Time))
	case textsField:
		n := int(p.uint())
		if n == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0)) // there, and empty
			return
		}
		v.Grow(n)
		v.SetLen(n)
		for i := range n {
			v.Index(i).SetString(f.text(p))
		}
	case mapField:
		n := p.uint()
		m := make(map[string]string, n)
		for range n {
			key := p.text()
			m[key] = p.text()
		}
		v.Set(reflect.ValueOf(m))
	case structField:
		f.sub.unpack(p, v)
	}
}

func (f *field) text(p *packed) string {
	if f.common {
		return p.words[p.uint()]
	}
	return p.text()
}

func (p *packed) byte() byte {
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

// uint reads what binary.AppendUvarint has written.
func (p *packed) uint() (u uint64) {
	if b := p.rest[0]; b < 0x80 { // most are small
		p.rest = p.rest[1:]
		return uint64(b)
	}
	for shift := 0; ; shift += 7 {
		b := p.byte()
		u |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return u
		}
	}
}

func (p *packed) text() string {
	n := p.uint()
	text := p.rest[:n]
	p.rest = p.rest[n:]
	return text
}

func (p *packed) time(t *time.Time) {
	if p.byte() == 0 {
		u := p.uint()
		*t = time.Unix(int64(u>>1)^-int64(u&1), int64(p.uint())).UTC()
		return
	}
	if err := t.UnmarshalBinary([]byte(p.text())); err != nil {
		panic("state: a packed time cannot be read: " + err.Error())
	}
}

// words numbers the texts that many records have in common. A word is never forgotten, so only texts of which there are few ever may be
// words: names of states and types, ids of things that outlive many records. Readers take no lock.
type words struct {
	mu      sync.RWMutex
	numbers map[string]uint64
	list    atomic.Pointer[[]string]
}

func newWords() *words {
	w := &words{numbers: map[string]uint64{}}
	w.list.Store(&[]string{})
	return w
}

func (w *words) number(text string) uint64 {
	w.mu.RLock()
	n, ok := w.numbers[text]
	w.mu.RUnlock()
	if ok {
		return n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.numbers[text]; ok {
		return n
	}
	text = strings.Clone(text)
	// A reader has the list as long as it was; what is appended behind its end it does not see.
	list := append(*w.list.Load(), text)
	n = uint64(len(list) - 1)
	w.numbers[text] = n
	w.list.Store(&list)
	return n
}
