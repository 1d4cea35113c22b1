package deskline

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestAMessageIsReadAsItWasWritten(t *testing.T) {
	long := bytes.Repeat([]byte("é"), MostText/2)
	all := []Message{{Kind: Hello}, {Kind: Clip, Text: []byte("größe\nzwei\ttabs")}, {Kind: Taken}, {Kind: Keyboard, Text: []byte("ch-fr")}, {Kind: Clip, Text: long}}
	var wire []byte
	for _, m := range all {
		wire = Append(wire, m)
	}
	r := NewReader(bytes.NewReader(wire))
	for i, want := range all {
		line, err := r.Next()
		if err != nil {
			t.Fatal(i, err)
		}
		got, err := Parse(line)
		if err != nil || got.Kind != want.Kind || !bytes.Equal(got.Text, want.Text) {
			t.Errorf("message %d is kind %d of %d bytes: %v", i, got.Kind, len(got.Text), err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
}

func TestWhatAGuestMayNotSayIsRefused(t *testing.T) {
	for name, line := range map[string]string{
		"nothing":             "",
		"an unknown word":     "exec rm",
		"a clip of nothing":   "clip ",
		"no base64":           "clip !!!!",
		"base64 that is cut":  "clip aGVsbG",
		"bytes of no UTF-8":   "clip /w==",
		"a zero byte":         "clip YQBi",
		"a text over the top": "clip " + strings.Repeat("YWFh", MostText/3+1),
		"an unknown keyboard": "keyboard de;reboot",
		"no keyboard":         "keyboard ",
		"a word in capitals":  "HELLO",
		"the end of a line":   "VsbG8gdGhlcmU=",
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := Parse([]byte(line)); !errors.Is(err, ErrLine) {
				t.Errorf("%v, %v", m.Kind, err)
			}
		})
	}
}

func TestALineThatIsTooLongIsDroppedAndTheNextIsRead(t *testing.T) {
	in := io.MultiReader(strings.NewReader("hello\n"), strings.NewReader(strings.Repeat("x", 3*mostLine)), strings.NewReader("\ntaken\nhalf a line"))
	r := NewReader(in)
	for _, want := range []string{"hello", "taken"} {
		if line, err := r.Next(); err != nil || string(line) != want {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if line, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("half a line is given as one: %q, %v", line, err)
	}
}

// What a guest says is understood the same when it is written again, and never more than a bounded text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"hello 1", "taken", "clip aGVsbG8=", "clip /w==", "clip", "keyboard de", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := NewReader(bytes.NewReader(slices.Concat(wire, []byte("\n"))))
		for {
			line, err := r.Next()
			if err != nil {
				return
			}
			m, err := Parse(line)
			if err != nil {
				continue
			}
			if len(m.Text) > MostText || (m.Kind == Clip || m.Kind == Keyboard) != (len(m.Text) > 0) {
				t.Fatalf("kind %d with %d bytes", m.Kind, len(m.Text))
			}
			again, err := Parse(bytes.TrimSuffix(Append(nil, m), []byte("\n")))
			if err != nil || again.Kind != m.Kind || !bytes.Equal(again.Text, m.Text) {
				t.Fatalf("%v becomes %v: %v", m, again, err)
			}
		}
	})
}
