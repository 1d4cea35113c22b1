// Package deskline is the small language that a desktop's session and its host speak over a port of the machine: lines of a word and what belongs to it.
// A "hello" is answered by "hello 1", "clip BASE64" is a text that was copied, "taken" says that the last such text is on the session's
// clipboard now, and "keyboard NAME" is what the person has before them.
//
// It refuses to believe a guest: a line has a length, a text is UTF-8 without zero bytes, and what is not understood is an error that says nothing of
// its contents.
package deskline

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

// MostText is the longest text in bytes, and mostLine the longest line.
const (
	MostText = 256 << 10
	mostLine = len(clip) + 1 + (MostText+2)/3*4
)

// Kind is what a line is about.
type Kind int

// The kinds of lines.
const (
	// Hello asks whether somebody listens, and says that one does.
	Hello Kind = iota
	// Clip is a text that was copied on the side that sends it.
	Clip
	// Taken answers a Clip that is on the session's clipboard.
	Taken
	// Keyboard is the layout of the person's keyboard, one of Keyboards.
	Keyboard
)

// Keyboards are the names of layouts: XKB's, with its variant after a hyphen. The first is what the desktop is set to.
var Keyboards = []string{"default", "us", "us-intl", "gb", "ca", "latam", "br", "de", "at", "ch", "ch-fr", "fr", "be", "nl", "es", "pt", "it", "dk", "no", "se", "fi", "pl", "cz",
	"hu", "tr", "jp"}

const (
	clip     = "clip"
	keyboard = "keyboard"
)

// ErrLine is a line that is not one of ours.
var ErrLine = errors.New("deskline: a line that is not understood")

// Message is one line.
type Message struct {
	Kind Kind
	Text []byte
}

// Parse reads a line without its end.
func Parse(line []byte) (Message, error) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	switch string(word) {
	case "hello":
		return Message{Kind: Hello}, nil
	case "taken":
		return Message{Kind: Taken}, nil
	case clip:
		text, err := base64.StdEncoding.AppendDecode(nil, rest)
		if err != nil || len(text) == 0 || len(text) > MostText || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			return Message{}, ErrLine
		}
		return Message{Kind: Clip, Text: text}, nil
	case keyboard:
		if !slices.Contains(Keyboards, string(rest)) {
			return Message{}, ErrLine
		}
		return Message{Kind: Keyboard, Text: bytes.Clone(rest)}, nil
	}
	return Message{}, ErrLine
}

// Append writes a message with its end.
func Append(b []byte, m Message) []byte {
	switch m.Kind {
	case Clip:
		b = base64.StdEncoding.AppendEncode(append(b, clip+" "...), m.Text)
	case Taken:
		b = append(b, "taken"...)
	case Keyboard:
		b = append(append(b, keyboard+" "...), m.Text...)
	default:
		b = append(b, "hello"...)
	}
	return append(b, '\n')
}

// Reader reads lines. Memory grows with what has come, up to the longest line; longer ones are dropped.
type Reader struct {
	in   *bufio.Reader
	line []byte
}

// NewReader reads lines from r.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, 4096)} }

// Next gives the next line without its end. It is good until the next call.
func (r *Reader) Next() ([]byte, error) {
	r.line = nil
	for long := false; ; {
		piece, err := r.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		whole := err == nil
		if whole {
			piece = piece[:len(piece)-1]
		}
		switch {
		case long || len(r.line)+len(piece) > mostLine:
			r.line, long = nil, true
		case whole && len(r.line) == 0:
			return piece, nil
		default:
			r.line = append(r.line, piece...)
		}
		if !whole {
			continue
		}
		if !long {
			return r.line, nil
		}
		long = false
	}
}
