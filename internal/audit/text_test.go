package audit

import (
	"bytes"
	"testing"
)

func TestPrintable(t *testing.T) {
	for length := range 26 {
		for place := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte{' '}, length)
				for _, others := range []byte{' ', '~', 'a'} {
					for i := range b {
						b[i] = others
					}
					b[place] = byte(c)
					if want := c >= ' ' && c <= '~'; printable(b) != want {
						t.Fatalf("printable(%q) = %t", b, !want)
					}
				}
			}
		}
	}
	for c := range 256 {
		want := c >= ' ' && c <= '~' && c != '"' && c != '\\'
		if plain[c] != want {
			t.Errorf("plain[%q] = %t", rune(c), plain[c])
		}
	}
}
