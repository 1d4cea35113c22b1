package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"carrel/internal/awserr"
)

// Verifier verifies signatures. The zero value is ready; it must not be copied. All methods may be called concurrently.
type Verifier struct {
	// AllowQuery accepts the query form (presigned requests) too.
	AllowQuery bool
	// KeepPath signs paths as they come, without removing dot and empty segments: S3's way, and no other service's.
	KeepPath bool

	keys    keyCache
	scratch sync.Pool
}

// Expect is what a signature must be scoped to. An empty list expects nothing and so refuses everything.
type Expect struct {
	Now      time.Time
	Regions  []string
	Services []string
}

// Verify is Check and Match: the whole verification of what Parse gave for req.
func (v *Verifier) Verify(req *Request, sig *Signature, expect *Expect, secret Secret) error {
	if err := sig.Check(expect); err != nil {
		return err
	}
	return v.Match(req, sig, secret)
}

// Check holds scope and time against what is expected. Errors are BadSignature with AWS's texts. It needs no key, and so is asked
// before the key is looked up: its answer cannot tell whether a key exists.
func (s *Signature) Check(expect *Expect) error {
	if !slices.Contains(expect.Services, s.Service) {
		return bad("Credential should be scoped to correct service: '" + strings.Join(expect.Services, "', '") + "'.")
	}
	if !slices.Contains(expect.Regions, s.Region) {
		return bad("Credential should be scoped to a valid Region, not '" + shown(s.Region) + "'.")
	}
	if s.Date != s.stamp[:8] {
		return bad("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" + shown(s.Date) + "' != '" + s.stamp[:8] + "', from '" + s.stamp + "'.")
	}
	if limit := expect.Now.Add(skew); s.Time.After(limit) {
		return bad("Signature not yet current: " + s.stamp + " is still later than " + stampOf(limit) + " (" + stampOf(expect.Now) + " + 5 min.)")
	}
	life, words := skew, "5 min."
	if s.Query {
		life, words = s.Expires, strconv.FormatInt(int64(s.Expires/time.Second), 10)+" sec."
	}
	if limit := expect.Now.Add(-life); s.Time.Before(limit) {
		return bad("Signature expired: " + s.stamp + " is now earlier than " + stampOf(limit) + " (" + stampOf(expect.Now) + " - " + words + ")")
	}
	return nil
}

func stampOf(t time.Time) string { return t.UTC().Format(stampLayout) }

// Match tells whether the holder of secret made the signature over req: nil, or BadSignature. The answer to a wrong signature is
// made before anything is compared, so right and wrong cost the same, and a flood of wrong ones no more than one of right ones.
func (v *Verifier) Match(req *Request, sig *Signature, secret Secret) error {
	wrong := mismatch()
	if v.match(req, sig, sig.AccessKeyID, secret) {
		return nil
	}
	return wrong
}

// Unknown answers for an access key that nobody has: it does all that Match does, with a secret of its own, so that the time it
// takes does not tell unknown keys from known ones. Its error is always UnknownKey.
func (v *Verifier) Unknown(req *Request, sig *Signature) error {
	unknown := awserr.New(awserr.UnknownKey, "The security token included in the request is invalid.")
	// Under no key id: strangers must not be able to fill the cache.
	v.match(req, sig, "", "0000000000000000000000000000000000000000")
	return unknown
}

func (v *Verifier) match(req *Request, sig *Signature, keyID string, secret Secret) bool {
	w, _ := v.scratch.Get().(*scratch)
	if w == nil {
		w = &scratch{}
	}
	defer func() {
		if cap(w.buf) <= tooLarge && cap(w.query) <= tooLarge && cap(w.pairs) <= tooLarge/16 {
			v.scratch.Put(w)
		}
	}()
	if !w.canonicalRequest(req, sig, v.KeepPath) {
		return false
	}
	w.sum = sha256.Sum256(w.buf)
	b := append(w.buf[:0], algorithm...)
	b = append(b, '\n')
	b = append(b, sig.stamp...)
	b = append(b, '\n')
	b = append(b, sig.Date...)
	b = append(b, '/')
	b = append(b, sig.Region...)
	b = append(b, '/')
	b = append(b, sig.Service...)
	b = append(b, '/')
	b = append(b, terminator...)
	b = append(b, '\n')
	w.buf = hex.AppendEncode(b, w.sum[:])
	v.keys.get(scope{keyID, secret, sig.Date, sig.Region, sig.Service}).sum(w.buf, &w.sum)
	return subtle.ConstantTimeCompare(w.sum[:], sig.mac[:]) == 1
}
