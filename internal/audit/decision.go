package audit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxDecision is the most bytes that the document of a decision may have.
const MaxDecision = 32 << 10

// DecisionDocument makes the document of a decision out of the JSON object that authz writes. It is refused when it is not one valid object, does not
// stand on one line, or has more than MaxDecision bytes: the caller then says less. Statement ids, tags and resource names stand in it, which clients
// choose: characters that could end a line or reorder what is shown are escaped, what is not UTF-8 becomes U+FFFD.
func DecisionDocument(object []byte) (Document, error) {
	if len(object) > MaxDecision {
		return Document{}, fmt.Errorf("decision document: %d bytes, at most %d", len(object), MaxDecision)
	}
	if len(object) == 0 || object[0] != '{' || !json.Valid(object) {
		return Document{}, errors.New("decision document: not a JSON object")
	}
	b := make([]byte, 0, len(object))
	for i := 0; i < len(object); {
		c := object[i]
		switch {
		case c < ' ':
			// Valid JSON has controls between its tokens only.
			return Document{}, errors.New("decision document: white space other than blanks")
		case c < utf8.RuneSelf:
			if i++; c == 0x7f {
				b = escapeByte(b, c)
			} else {
				b = append(b, c)
			}
			continue
		}
		// Other characters stand within strings only.
		r, size := utf8.DecodeRune(object[i:])
		if (r != utf8.RuneError || size > 1) && unicode.IsPrint(r) {
			b = append(b, object[i:i+size]...)
		} else {
			b = escapeRune(b, r)
		}
		i += size
	}
	if len(b) > MaxDecision {
		return Document{}, fmt.Errorf("decision document: %d bytes when escaped, at most %d", len(b), MaxDecision)
	}
	return Document{raw: b}, nil
}

// WrittenDecision is DecisionDocument for text that this program has itself put together member by member, as it does for every request: in
// printable ASCII there is nothing to escape, and what was written as JSON is not parsed once more.
func WrittenDecision(object []byte) (Document, error) {
	if n := len(object); n < 2 || n > MaxDecision || object[0] != '{' || object[n-1] != '}' {
		return DecisionDocument(object)
	}
	if !printable(object) {
		return DecisionDocument(object)
	}
	return Document{raw: object}, nil
}

// printable tells whether b is printable ASCII and nothing else, eight bytes at a time.
func printable(b []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		// A byte below the blank borrows, one behind the tilde carries or has the high bit. Neither happens beside it where no byte is such a one.
		if w := binary.LittleEndian.Uint64(b); (w|(w-' '*each)|(w+each))&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
