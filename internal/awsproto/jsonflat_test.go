package awsproto

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"carrel/internal/api/shape"
	"carrel/internal/api/workspaces"
)

// TestFlatPlansWriteWhatReflectionWrites holds the writer that reads memory by offsets against the one that asks reflect, on the inputs
// and outputs of every operation of every service, and on a shape with every kind of member.
func TestFlatPlansWriteWhatReflectionWrites(t *testing.T) {
	services, seeds := append([]*shape.Service{handMade(shape.AWSJSON)}, allServices...), uint64(20)
	if testing.Short() {
		seeds = 3
	}
	c, err := NewCodec(services...)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		for _, op := range s.Operations {
			for _, variant := range variants {
				for seed := range seeds {
					m := &maker{rand: rand.New(rand.NewPCG(seed, 7)), variant: variant, proto: s.Protocol, within: map[*shape.Shape]bool{}}
					compareWriters(t, m, c.ops[op].in, op.Input, op.NewInput())
					compareWriters(t, m, c.ops[op].out, op.Output, op.NewOutput())
				}
			}
		}
	}
}

func compareWriters(t *testing.T, m *maker, p *plan, s *shape.Shape, value any) {
	t.Helper()
	v := reflect.ValueOf(value).Elem()
	if s != nil {
		m.fill(s, v)
	}
	flat, reference := jsonWriter{buf: []byte("before")}, reflectWriter{buf: []byte("before")}
	flat.output(p, v)
	reference.structure(p, v)
	if string(flat.buf) != string(reference.buf) {
		t.Fatalf("%s: got\n%s\nreflection writes\n%s", v.Type(), flat.buf, reference.buf)
	}
}

func TestStringsAreEscapedWhereverTheSpecialCharacterStands(t *testing.T) {
	specials := []string{"\x00", "\x1f", " ", "!", "\"", "#", "[", "\\", "]", "\x7f", "\x80", "\xff", "é", "漢", "\U0001f600", "\u2028"}
	for length := range 27 {
		for at := range length + 1 {
			for _, special := range specials {
				s := strings.Repeat("a", at) + special + strings.Repeat("z", length-at)
				if got, want := string(appendJSONString(nil, s)), slowJSONString(s); got != want {
					t.Fatalf("%q: got %s, want %s", s, got, want)
				}
			}
		}
	}
}

// slowJSONString is appendJSONString one character at a time.
func slowJSONString(s string) string {
	b := []byte{'"'}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[r>>4], hexDigits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
		i += n
	}
	return string(append(b, '"'))
}

// The two below write the same page, with the offsets and with reflection.

func BenchmarkWritePageFlat(b *testing.B) {
	p, v := newCodec(b).ops[workspaces.DescribeWorkspaces.Operation].out, reflect.ValueOf(page()).Elem()
	w := jsonWriter{}
	b.ReportAllocs()
	for b.Loop() {
		w.buf = w.buf[:0]
		w.output(p, v)
	}
	b.SetBytes(int64(len(w.buf)))
}

func BenchmarkWritePageReflective(b *testing.B) {
	p, v := newCodec(b).ops[workspaces.DescribeWorkspaces.Operation].out, reflect.ValueOf(page()).Elem()
	w := reflectWriter{}
	b.ReportAllocs()
	for b.Loop() {
		w.buf = w.buf[:0]
		w.structure(p, v)
	}
	b.SetBytes(int64(len(w.buf)))
}
