package awsproto

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

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
func appendJSONString(b []byte, s string) []byte { return appendJSONRest(append(b, '"'), s) }

// appendJSONRest is appendJSONString behind the first quote. It looks at eight bytes at a time and copies them in the same step, for nearly
// every string of an answer is an id or a name that is written as it is; the first eight that may need more are left to appendEscaped.
func appendJSONRest(b []byte, s string) []byte {
	n := len(b)
	b = slices.Grow(b, len(s)+1)[:n+len(s)+1]
	to := b[n:]
	if len(s) < 8 {
		for i := range len(s) {
			c := s[i]
			if c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
				return appendEscaped(b[:n], s)
			}
			to[i] = c
		}
		to[len(s)] = '"'
		return b
	}
	for i := 0; ; i += 8 {
		// The last eight overlap those before: looking twice is cheaper than looking at single bytes.
		i = min(i, len(s)-8)
		w := eight(s[i : i+8])
		if special(w) != 0 {
			return appendEscaped(b[:n], s)
		}
		binary.LittleEndian.PutUint64(to[i:i+8], w)
		if i+8 == len(s) {
			to[len(s)] = '"'
			return b
		}
	}
}

// appendEscaped is appendJSONRest for any s.
func appendEscaped(b []byte, s string) []byte {
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

// eight is the bytes of s, which has eight, the first lowest.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// special has the highest bit of a byte set when one of the eight in w is special: below 0x20, a quote or a backslash (taking away from the
// byte what makes it zero borrows from its highest bit), or not ASCII. A borrow can mark the byte above too, which is no harm.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	return (w | (w - 0x20*ones) | ((w ^ '"'*ones) - ones) | ((w ^ '\\'*ones) - ones)) & highs
}
