package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"
)

// naiveVerify is the verifier one writes in an afternoon with the standard library: the peer of figure P4.
func naiveVerify(req *Request, now time.Time, secret string) error {
	auth := req.Header.Get("authorization")
	parts := strings.SplitN(auth, " ", 2)
	if len(parts) != 2 || parts[0] != "AWS4-HMAC-SHA256" {
		return errors.New("no signature")
	}
	fields := map[string]string{}
	for _, p := range strings.Split(parts[1], ",") {
		kv := strings.SplitN(strings.TrimSpace(p), "=", 2)
		if len(kv) != 2 {
			return errors.New("not a pair")
		}
		fields[kv[0]] = kv[1]
	}
	credential := strings.Split(fields["Credential"], "/")
	if len(credential) != 5 {
		return errors.New("bad credential")
	}
	stamp := req.Header.Get("x-amz-date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || now.Sub(at).Abs() > 5*time.Minute {
		return errors.New("bad date")
	}
	names := strings.Split(fields["SignedHeaders"], ";")
	sort.Strings(names)
	var headers []string
	for _, name := range names {
		value := strings.Join(req.Header[http.CanonicalHeaderKey(name)], ",")
		if name == "host" {
			value = req.Host
		}
		headers = append(headers, fmt.Sprintf("%s:%s\n", name, strings.Join(strings.Fields(value), " ")))
	}
	query, err := url.ParseQuery(req.RawQuery)
	if err != nil {
		return err
	}
	body := sha256.Sum256(req.Body)
	canonical := fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%s", req.Method, req.Path, strings.ReplaceAll(query.Encode(), "+", "%20"),
		strings.Join(headers, ""), strings.Join(names, ";"), hex.EncodeToString(body[:]))
	hash := sha256.Sum256([]byte(canonical))
	toSign := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", stamp, strings.Join(credential[1:], "/"), hex.EncodeToString(hash[:]))
	key := []byte("AWS4" + secret)
	for _, part := range append(credential[1:], toSign) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(fields["Signature"])) {
		return errors.New("wrong signature")
	}
	return nil
}

// BenchmarkP4 is figure P4: right <= 0.4 x naive and <= 2 allocations, wrong <= 1.0 x right. unknown is SIG-12's: what an unknown key
// costs must be what a wrong secret costs.
func BenchmarkP4(b *testing.B) {
	req := signed(b, plainRequest())
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Content-Length", "33")
	wrong := *req
	wrong.Header = req.Header.Clone()
	setSignature(func(s string) string { return string("10"[b2i(s[0] == '1')]) + s[1:] })(nil, &wrong)
	b.Run("naive", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := naiveVerify(req, testNow, string(testSecret)); err != nil {
				b.Fatal(err)
			}
		}
	})
	v, expect := &Verifier{}, testExpect()
	b.Run("right", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := parseAndVerify(v, req, expect, testSecret); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wrong", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := parseAndVerify(v, &wrong, expect, testSecret); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sig, err := v.Parse(req)
			if err == nil {
				err = sig.Check(expect)
			}
			if err != nil {
				b.Fatal(err)
			}
			if v.Unknown(req, &sig) == nil {
				b.Fatal("accepted")
			}
		}
	})
}

// TestAllocations holds P4's second half in every run: allocations do not depend on how busy the machine is.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	req := signed(t, plainRequest())
	wrong := *req
	wrong.Header = req.Header.Clone()
	setSignature(func(s string) string { return string("10"[b2i(s[0] == '1')]) + s[1:] })(t, &wrong)
	v, expect := &Verifier{}, testExpect()
	right := testing.AllocsPerRun(1000, func() {
		if err := parseAndVerify(v, req, expect, testSecret); err != nil {
			t.Fatal(err)
		}
	})
	if right > 2 {
		t.Errorf("P4: %v allocations, at most 2", right)
	}
	refusal := testing.AllocsPerRun(1000, func() {
		if err := parseAndVerify(v, &wrong, expect, testSecret); err == nil {
			t.Fatal("accepted")
		}
	})
	if refusal > right {
		t.Errorf("SIG-12: a wrong signature makes %v allocations, a right one %v", refusal, right)
	}
}
