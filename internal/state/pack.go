package state

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The packed form of a struct: a mask of its leaves that are not zero, then those, whatever structs they are in. It lives in this process
// only: nothing of it is stored, so it has no version and is not read from anybody else.

// maskBytes is how long the mask is.
func (c *codec) maskBytes() int { return (len(c.leaves) + 7) / 8 }

// pack appends m, which is c's.
func (c *codec) pack(b []byte, m memory, w *words) []byte {
	start := len(b)
	b = append(b, make([]byte, c.maskBytes())...)
	for i := range c.leaves {
		if f := &c.leaves[i]; !m.isZero(f) {
			b[start+i/8] |= 1 << (i % 8)
			b = f.pack(b, m, w)
		}
	}
	return b
}

// isZero tells whether a leaf is as it is in a new record. A list or map that is there and empty is not.
func (m memory) isZero(f *field) bool {
	switch f.kind {
	case textField:
		return *m.text(f) == ""
	case boolField:
		return !*m.bool(f)
	case intField:
		return *m.int(f) == 0
	case timeField:
		return *m.time(f) == time.Time{}
	case textsField:
		return *m.texts(f) == nil
	case mapField:
		return *m.pairs(f) == nil
	case structField:
	}
	panic("state: a struct is no leaf")
}

func (f *field) pack(b []byte, m memory, w *words) []byte {
	switch f.kind {
	case textField:
		return f.packText(b, *m.text(f), w)
	case intField:
		return binary.AppendVarint(b, int64(*m.int(f)))
	case timeField:
		return packTime(b, *m.time(f))
	case textsField:
		list := *m.texts(f)
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, text := range list {
			b = f.packText(b, text, w)
		}
	case mapField:
		pairs := *m.pairs(f)
		b = binary.AppendUvarint(b, uint64(len(pairs)))
		for key, value := range pairs {
			b = packText(packText(b, key), value)
		}
	case boolField, structField:
		// That a bool is there says that it is true. A struct is no leaf.
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

// How a time is packed.
const (
	// ownTime is time's own binary form, as a text.
	ownTime = iota
	// wholeTime is seconds since 1970 in secondBytes, so until 2106.
	wholeTime
	// fineTime is the same, and nanoseconds.
	fineTime

	secondBytes = 4
)

// packTime writes the times that records have, which are in UTC and of this age, in few bytes, and others in time's own form.
func packTime(b []byte, t time.Time) []byte {
	seconds, nanos := t.Unix(), t.Nanosecond()
	if t == time.Unix(seconds, int64(nanos)).UTC() && seconds >= 0 && seconds < 1<<(8*secondBytes) {
		if nanos == 0 {
			return binary.LittleEndian.AppendUint32(append(b, wholeTime), uint32(seconds))
		}
		return binary.AppendUvarint(binary.LittleEndian.AppendUint32(append(b, fineTime), uint32(seconds)), uint64(nanos))
	}
	own, err := t.MarshalBinary()
	if err != nil {
		panic("state: a time that came from JSON has no binary form: " + err.Error())
	}
	return packText(append(b, ownTime), string(own))
}

// unpack sets the fields of m, which is c's and zero, from what pack has written into row from i on. Texts are cut out of row, which is a
// string that never changes, and so is a list of one word out of all, for lists in records do not change either.
func (c *codec) unpack(m memory, row string, i int, all []string) {
	var mask uint64
	for n := range c.maskBytes() {
		mask |= uint64(row[i]) << (8 * n)
		i++
	}
	var u uint64
	for ; mask != 0; mask &= mask - 1 {
		f := &c.leaves[bits.TrailingZeros64(mask)]
		switch f.kind {
		case textField: // nearly all are, so this is unpackText written out
			if u, i = uintAt(row, i); f.common {
				*m.text(f) = all[u]
			} else {
				*m.text(f) = row[i : i+int(u)]
				i += int(u)
			}
		case boolField:
			*m.bool(f) = true
		case intField:
			u, i = uintAt(row, i)
			*m.int(f) = int(int64(u>>1) ^ -int64(u&1))
		case timeField:
			*m.time(f), i = timeAt(row, i)
		case textsField:
			*m.texts(f), i = f.unpackTexts(row, i, all)
		case mapField:
			*m.pairs(f), i = pairsAt(row, i)
		case structField:
			// It is no leaf.
		}
	}
}

func (f *field) unpackText(row string, i int, all []string) (string, int) {
	n, i := uintAt(row, i)
	if f.common {
		return all[n], i
	}
	end := i + int(n)
	return row[i:end], end
}

func (f *field) unpackTexts(row string, i int, all []string) ([]string, int) {
	n, i := uintAt(row, i)
	if n == 1 && f.common {
		word, i := uintAt(row, i)
		return all[word : word+1 : word+1], i
	}
	list := make([]string, n)
	for k := range list {
		list[k], i = f.unpackText(row, i, all)
	}
	return list, i
}

func pairsAt(row string, i int) (map[string]string, int) {
	n, i := uintAt(row, i)
	pairs := make(map[string]string, n)
	for range n {
		var key string
		key, i = textAt(row, i)
		pairs[key], i = textAt(row, i)
	}
	return pairs, i
}

// What is below reads what stands at i and tells where it ends.

// uintAt reads what binary.AppendUvarint has written. Most are small.
func uintAt(row string, i int) (uint64, int) {
	if b := row[i]; b < 0x80 {
		return uint64(b), i + 1
	}
	return largeAt(row, i)
}

func largeAt(row string, i int) (u uint64, behind int) {
	for shift := 0; ; shift += 7 {
		b := row[i]
		i++
		u |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return u, i
		}
	}
}

func textAt(row string, i int) (string, int) {
	n, i := uintAt(row, i)
	end := i + int(n)
	return row[i:end], end
}

func timeAt(row string, i int) (time.Time, int) {
	form := row[i]
	i++
	if form == ownTime {
		return ownTimeAt(row, i)
	}
	seconds, nanos := binary.LittleEndian.Uint32([]byte(row[i:i+secondBytes])), uint64(0)
	i += secondBytes
	if form == fineTime {
		nanos, i = uintAt(row, i)
	}
	return time.Unix(int64(seconds), int64(nanos)).UTC(), i
}

func ownTimeAt(row string, i int) (t time.Time, behind int) {
	own, i := textAt(row, i)
	if err := t.UnmarshalBinary([]byte(own)); err != nil {
		panic("state: a packed time cannot be read: " + err.Error())
	}
	return t, i
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
