package totp

import (
	"bytes"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The vectors of RFC 6238, appendix B, for SHA-1; it prints 8 digits, of which the last 6 are the code of 6.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	seed := []byte("12345678901234567890")
	for second, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := Code(seed, Step(time.Unix(second, 0))); got != want[2:] {
			t.Errorf("at %d: %s, want %s", second, got, want[2:])
		}
	}
}

// The vectors of RFC 4226, appendix D.
func TestCodesAreThoseOfRFC4226(t *testing.T) {
	for i, want := range strings.Fields("755224 287082 359152 969429 338314 254676 287922 162583 399871 520489") {
		if got := Code([]byte("12345678901234567890"), int64(i)); got != want {
			t.Errorf("count %d: %s, want %s", i, got, want)
		}
	}
}

func TestStepsAreEquallyLong(t *testing.T) {
	for second, want := range map[int64]int64{0: 0, 29: 0, 30: 1, 59: 1, 60: 2, -1: -1, -30: -1, -31: -2} {
		if got := Step(time.Unix(second, 999)); got != want {
			t.Errorf("step of %d is %d, want %d", second, got, want)
		}
	}
}

func TestFindLooksOnlyInItsWindow(t *testing.T) {
	seed := []byte("12345678901234567890")
	for _, c := range []struct {
		name     string
		code     string
		from, to int64
		step     int64
		ok       bool
	}{
		{"the first of the window", Code(seed, 9), 9, 11, 9, true},
		{"the last of the window", Code(seed, 11), 9, 11, 11, true},
		{"before the window", Code(seed, 8), 9, 11, 0, false},
		{"after the window", Code(seed, 12), 9, 11, 0, false},
		{"an empty window", Code(seed, 9), 9, 8, 0, false},
		{"no code", "", 9, 11, 0, false},
		{"a code with a blank", Code(seed, 9) + " ", 9, 11, 0, false},
		{"a code that is cut", Code(seed, 9)[:5], 9, 11, 0, false},
		{"a code that is too long", "0" + Code(seed, 9), 9, 11, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if step, ok := Find(seed, c.code, c.from, c.to); step != c.step || ok != c.ok {
				t.Errorf("%d %v", step, ok)
			}
		})
	}
}

func TestAPairIsOfNeighboursInTheirOrder(t *testing.T) {
	seed := []byte("12345678901234567890")
	for _, c := range []struct {
		name          string
		first, second int64
		step          int64
		ok            bool
	}{
		{"neighbours", 10, 11, 10, true},
		{"the last that may begin", 12, 13, 12, true},
		{"the wrong way round", 11, 10, 0, false},
		{"the same twice", 10, 10, 0, false},
		{"one left out", 10, 12, 0, false},
		{"outside of the window", 13, 14, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if step, ok := FindPair(seed, [2]string{Code(seed, c.first), Code(seed, c.second)}, 8, 12); step != c.step || ok != c.ok {
				t.Errorf("%d %v", step, ok)
			}
		})
	}
}

func TestASeedIsReadBackAsItWasDrawn(t *testing.T) {
	text, err := NewSeed(rand.Reader)
	if err != nil || len(text) != 64 {
		t.Fatal(text, err)
	}
	raw, err := Seed(text)
	if err != nil || len(raw) != seedBytes {
		t.Error(raw, err)
	}
	if _, err := NewSeed(bytes.NewReader([]byte("short"))); err == nil {
		t.Error("a seed was drawn from too little")
	}
	for _, bad := range []string{"", "1", "abc", "A=======", text + "="} {
		if _, err := Seed(bad); err == nil || (bad != "" && strings.Contains(err.Error(), bad)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTheURIIsWhatAppsRead(t *testing.T) {
	text := URI("Carrel: Ö", "ada/1@123", "ABC")
	if want := "otpauth://totp/Carrel:%20%C3%96:ada%2F1@123?secret=ABC&issuer=Carrel:%20%C3%96"; text != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	u, err := url.Parse(text)
	if err != nil || u.Query().Get("secret") != "ABC" || u.Query().Get("issuer") != "Carrel: Ö" {
		t.Error(u, err)
	}
}
