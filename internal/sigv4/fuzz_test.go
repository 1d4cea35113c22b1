package sigv4

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzParse feeds a signed request with one piece exchanged, and its pieces as they are: no panic, and whatever is accepted is what
// Signer, which shares no code with Verifier, signs with the same headers.
func FuzzParse(f *testing.F) {
	good := signed(f, plainRequest())
	auth := good.Header.Get("Authorization")
	f.Add("POST", "/", "", auth, "20261123T120000Z", "X-Amz-Target", "WorkspacesService.DescribeWorkspaces", good.Body, true)
	f.Add("GET", "/a/../b%20", "a=b&c", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=00", "20261123T120000Z", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", []byte{}, false)
	f.Add("GET", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20261123%2Feu-central-1%2Fworkspaces%2Faws4_request&X-Amz-Date=20261123T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "", "", "A", "b", []byte{}, false)
	f.Fuzz(func(t *testing.T, method, path, query, authorization, date, name, value string, body []byte, sign bool) {
		req := &Request{Method: method, Path: path, RawQuery: query, Host: "h", Header: http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}, "Content-Type": {"x"}}, Body: body}
		req.Header[name] = append(req.Header[name], value)
		if sign {
			if err := testSigner().Sign(req, testNow); err != nil {
				return
			}
		}
		v := &Verifier{AllowQuery: true}
		sig, err := v.Parse(req)
		if err != nil || v.Verify(req, &sig, testExpect(), testSecret) != nil {
			return
		}
		bare := *req
		if sig.Query {
			var kept []string
			for p := range strings.SplitSeq(req.RawQuery, "&") {
				if !strings.HasPrefix(p, "X-Amz-Signature=") {
					kept = append(kept, p)
				}
			}
			bare.RawQuery = strings.Join(kept, "&")
		}
		s := testSigner()
		canonical, err := s.canonical(&bare, strings.Split(sig.SignedHeaders, ";"))
		if err != nil || s.signature(sig.stamp, canonical) != sig.Signature {
			t.Errorf("accepted, but Signer signs otherwise: %v", err)
		}
	})
}

// FuzzCanonicalQuery holds the verifier's canonical query against the signer's: equal or both refused, and a fixed point.
func FuzzCanonicalQuery(f *testing.F) {
	for _, s := range []string{"", "a=b", "b&a=%2f+%7E&a", "&&=", "%zz", "a=1&a-1=2&\u1234=\x00", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		var w scratch
		got, ok := w.appendQuery(nil, query, false)
		want, err := canonicalQuery(query)
		if ok != (err == nil) || ok && string(got) != want {
			t.Fatalf("%q: %q %v, Signer %q %v", query, got, ok, want, err)
		}
		if ok {
			if again, ok := w.appendQuery(nil, want, false); !ok || string(again) != want {
				t.Errorf("%q becomes %q", want, again)
			}
		}
	})
}
