// Package ident holds the typed identifiers of Carrel's resources: how each is written, checked and made.
//
// It refuses to know what an identifier stands for; two ids of different kinds never compare.
package ident

import (
	"fmt"
	"io"
	"strings"
)

const (
	base36 = "0123456789abcdefghijklmnopqrstuvwxyz"
	hex16  = "0123456789abcdef"
	base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// fill fills b from r. It panics when r fails: an id that is not random is a security fault, and crypto/rand never fails.
func fill(r io.Reader, b []byte) {
	if _, err := io.ReadFull(r, b); err != nil {
		panic(fmt.Sprintf("ident: no randomness: %v", err))
	}
}

// draw makes n characters of the alphabet from r without bias.
func draw(r io.Reader, alphabet string, n int) string {
	limit := byte(256 - 256%len(alphabet) - 1)
	out := make([]byte, 0, n)
	var buf [32]byte
	for len(out) < n {
		fill(r, buf[:])
		for _, b := range buf {
			if b <= limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// size is how many characters may follow an id's prefix.
type size struct{ min, max int }

// check tells whether s is prefix followed by characters of the alphabet.
func check(s, prefix, alphabet string, n size) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) < n.min || len(rest) > n.max {
		return false
	}
	for i := range len(rest) {
		if strings.IndexByte(alphabet, rest[i]) < 0 {
			return false
		}
	}
	return true
}

// Digits makes n decimal digits, the first not zero (an account id: "914230417712").
func Digits(r io.Reader, n int) string {
	return draw(r, "123456789", 1) + draw(r, "0123456789", n-1)
}

// Hex makes n lower-case hexadecimal characters.
func Hex(r io.Reader, n int) string { return draw(r, hex16, n) }

// UUID makes a random UUID (RFC 9562, version 4): "0b5b4b1e-7c1e-4f0e-9a63-0f6f6b7b1f5c".
func UUID(r io.Reader) string {
	var buf [32]byte
	fill(r, buf[:])
	var id [36]byte
	at := 0
	for i, b := range buf {
		switch i {
		case 8, 12, 16, 20:
			id[at] = '-'
			at++
		}
		switch b &= 15; i {
		case 12:
			b = 4
		case 16:
			b = 8 + b&3
		}
		id[at] = hex16[b]
		at++
	}
	return string(id[:])
}
