// Package totp makes and checks the codes of virtual MFA devices: time-based one-time passwords of 6 digits, SHA-1, 30 seconds (RFC 6238, on
// RFC 4226), which is what every authenticator app takes.
//
// It refuses to read a clock and to remember which codes were used: that is factor's.
package totp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"time"
)

// Period is how long a code is shown.
const Period = 30 * time.Second

const (
	digits  = 6
	modulus = 1_000_000
	// seedBytes are as many as AWS's seeds have: 64 characters in base32.
	seedBytes = 40
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSeed draws a seed from r and gives it in base32, the form that is shown to people and kept.
func NewSeed(r io.Reader) (string, error) {
	raw := make([]byte, seedBytes)
	if _, err := io.ReadFull(r, raw); err != nil {
		return "", fmt.Errorf("draw a seed: %w", err)
	}
	return encoding.EncodeToString(raw), nil
}

// Seed reads a seed in base32, upper case and without padding.
func Seed(text string) ([]byte, error) {
	raw, err := encoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("a seed is not base32") // without the error, which quotes it
	}
	return raw, nil
}

// Step is the time step that t is in.
func Step(t time.Time) int64 {
	seconds, period := t.Unix(), int64(Period/time.Second)
	step := seconds / period
	if seconds%period < 0 {
		step-- // rounds down before 1970 too, so that steps are equally long
	}
	return step
}

// Code is the code of a step (RFC 4226, section 5.3).
func Code(seed []byte, step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	mac := hmac.New(sha1.New, seed)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	return fmt.Sprintf("%0*d", digits, (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%modulus)
}

// Find gives the step in [from, to] that code belongs to, the latest if it is the code of several. It takes equally long whether, and where, it
// finds one.
func Find(seed []byte, code string, from, to int64) (step int64, ok bool) {
	for at := from; at <= to; at++ {
		if same(Code(seed, at), code) {
			step, ok = at, true
		}
	}
	return step, ok
}

// FindPair gives the step in [from, to] that the first code belongs to, when the second belongs to the one after it; the latest if there are several.
func FindPair(seed []byte, pair [2]string, from, to int64) (step int64, ok bool) {
	for at := from; at <= to; at++ {
		one, two := same(Code(seed, at), pair[0]), same(Code(seed, at+1), pair[1])
		if one && two {
			step, ok = at, true
		}
	}
	return step, ok
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// URI is what an authenticator app reads from a QR code: "otpauth://totp/Carrel:ada@123456789012?secret=...&issuer=Carrel". issuer and account
// may be any text.
func URI(issuer, account, seed string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + account,
		RawPath:  "/" + url.PathEscape(issuer) + ":" + url.PathEscape(account),
		RawQuery: "secret=" + url.QueryEscape(seed) + "&issuer=" + url.PathEscape(issuer)}
	return u.String()
}
