package sigv4

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"carrel/internal/awserr"
)

const (
	testSecret Secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	mismatched string = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func testSigner() *Signer {
	return &Signer{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: testSecret, Region: "eu-central-1", Service: "workspaces"}
}

func testExpect() *Expect {
	return &Expect{Now: testNow, Regions: []string{"eu-central-1"}, Services: []string{"workspaces"}}
}

// plainRequest is what a client of a JSON service sends.
func plainRequest() *Request {
	return &Request{Method: "POST", Path: "/", Host: "workspaces.eu-central-1.amazonaws.com", Body: []byte(`{"WorkspaceIds":["ws-f9abcdefg"]}`), Header: http.Header{
		"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"WorkspacesService.DescribeWorkspaces"}, "User-Agent": {"aws-cli/2.31"}}}
}

func signed(t testing.TB, req *Request) *Request {
	t.Helper()
	if err := testSigner().Sign(req, testNow); err != nil {
		t.Fatal(err)
	}
	return req
}

// resigned signs req over the named headers alone, with the list as given: what an attacker with a key, or a careless client, can do.
func resigned(t testing.TB, req *Request, list string) *Request {
	t.Helper()
	s := testSigner()
	stamp := testNow.Format(stampLayout)
	if req.Header.Get("Date") == "" {
		req.Header.Set("X-Amz-Date", stamp)
	}
	canonical, err := s.canonical(req, strings.Split(list, ";"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.AccessKeyID+"/"+s.scope(stamp)+", SignedHeaders="+list+", Signature="+s.signature(stamp, canonical))
	return req
}

func edit(req *Request, name string, change func(string) string) {
	req.Header.Set(name, change(req.Header.Get(name)))
}

func replace(old, with string) func(*testing.T, *Request) {
	return func(t *testing.T, req *Request) {
		edit(req, "Authorization", func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q is not in %q", old, s)
			}
			return strings.Replace(s, old, with, 1)
		})
	}
}

func signatureOf(req *Request) string {
	_, s, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
	return s
}

func setSignature(change func(string) string) func(*testing.T, *Request) {
	return func(_ *testing.T, req *Request) {
		old := signatureOf(req)
		edit(req, "Authorization", func(s string) string { return strings.TrimSuffix(s, old) + change(old) })
	}
}

func set(name string, values ...string) func(*testing.T, *Request) {
	return func(_ *testing.T, req *Request) { req.Header[name] = values }
}

func again(list string, change func(*Request)) func(*testing.T, *Request) {
	return func(t *testing.T, req *Request) {
		if change != nil {
			change(req)
		}
		resigned(t, req, list)
	}
}

type attack struct {
	name   string
	change func(*testing.T, *Request)
	kind   awserr.Kind
	text   string // the whole text, or its beginning where it ends with "..."
}

func run(t *testing.T, attacks []attack) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			req := signed(t, plainRequest())
			a.change(t, req)
			err := parseAndVerify(&Verifier{}, req, testExpect(), testSecret)
			refused(t, err, a.kind, a.text)
			var e *awserr.Error
			if errors.As(err, &e) {
				carriesNoSecret(t, req, e)
			}
		})
	}
}

func refused(t *testing.T, err error, kind awserr.Kind, text string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %s", err, kind)
	}
	beginning, open := strings.CutSuffix(text, "...")
	if e.Kind != kind || e.Message != text && !(open && strings.HasPrefix(e.Message, beginning)) {
		t.Errorf("got %s: %s\nwant %s: %s", e.Kind, e.Message, kind, text)
	}
}

// carriesNoSecret is SIG-13 for every refusal of this file.
func carriesNoSecret(t *testing.T, req *Request, e *awserr.Error) {
	t.Helper()
	all := fmt.Sprintf("%s %s %+v", e.Message, e.Error(), e.Members)
	token := req.Header.Get("X-Amz-Security-Token")
	for _, s := range []string{string(testSecret), token, signatureOf(req), "content-type:application", string(req.Body)} {
		if len(s) > 8 && strings.Contains(all, s) {
			t.Errorf("SIG-13: the answer carries %q: %s", s, all)
		}
	}
}

func TestARightSignatureIsAccepted(t *testing.T) {
	req := signed(t, plainRequest())
	v := &Verifier{}
	sig, err := v.Parse(req)
	if err != nil {
		t.Fatal(err)
	}
	if sig.AccessKeyID != "AKIAIOSFODNN7EXAMPLE" || sig.Date != "20261123" || sig.Region != "eu-central-1" || sig.Service != "workspaces" ||
		!sig.Time.Equal(testNow) || sig.SignedHeaders != "content-type;host;x-amz-date;x-amz-target" || sig.SessionToken != "" || sig.Query || len(sig.Signature) != 64 {
		t.Errorf("parsed %#v", sig)
	}
	if err := v.Verify(req, &sig, testExpect(), testSecret); err != nil {
		t.Error(err)
	}
	t.Run("with parameters in another order and without spaces after the commas", func(t *testing.T) {
		edit(req, "Authorization", func(s string) string {
			p := strings.Split(strings.TrimPrefix(s, algorithm+" "), ", ")
			return algorithm + " " + p[2] + "," + p[0] + "," + p[1]
		})
		if err := parseAndVerify(v, req, testExpect(), testSecret); err != nil {
			t.Error(err)
		}
	})
}

func TestOneSignatureExactly(t *testing.T) {
	run(t, []attack{
		{"SIG-1 nothing signed", func(_ *testing.T, r *Request) { r.Header.Del("Authorization") }, awserr.MissingAuthentication, "Missing Authentication Token"},
		{"SIG-1 an empty Authorization header", set("Authorization", ""), awserr.MissingAuthentication, "Missing Authentication Token"},
		{"SIG-1 header and query both signed", func(t *testing.T, r *Request) {
			q := plainRequest()
			if err := testSigner().Presign(q, testNow, time.Minute); err != nil {
				t.Fatal(err)
			}
			r.RawQuery = q.RawQuery
		}, awserr.IncompleteSignature, "Only one auth mechanism allowed..."},
		{"SIG-1 one escaped query parameter in another case beside the header", func(_ *testing.T, r *Request) { r.RawQuery = "a=b&x%2Damz-SIGNATURE=0" }, awserr.IncompleteSignature, "Only one auth mechanism allowed..."},
		{"SIG-1 the query form where it is not allowed", func(t *testing.T, r *Request) {
			*r = *plainRequest()
			if err := testSigner().Presign(r, testNow, time.Minute); err != nil {
				t.Fatal(err)
			}
		}, awserr.MissingAuthentication, "Missing Authentication Token"},
		{"SIG-1 two Authorization headers", func(_ *testing.T, r *Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, awserr.IncompleteSignature, "Authorization header must be sent once."},
		{"SIG-1 two X-Amz-Date", func(_ *testing.T, r *Request) { r.Header.Add("X-Amz-Date", r.Header.Get("X-Amz-Date")) }, awserr.IncompleteSignature, "The 'X-Amz-Date' header must be sent once."},
		{"SIG-1 two X-Amz-Target, both signed", again("content-type;host;x-amz-date;x-amz-target", func(r *Request) {
			r.Header.Add("X-Amz-Target", "WorkspacesService.TerminateWorkspaces")
		}), awserr.IncompleteSignature, "The 'X-Amz-Target' header must be sent once."},
		{"SIG-1 two X-Amz-Security-Token, both signed", again("content-type;host;x-amz-date;x-amz-security-token;x-amz-target", func(r *Request) {
			r.Header["X-Amz-Security-Token"] = []string{"token-number-one", "token-number-two"}
		}), awserr.IncompleteSignature, "The 'X-Amz-Security-Token' header must be sent once."},
		{"SIG-1 a Host header beside another host", set("Host", "elsewhere"), awserr.IncompleteSignature, "The 'Host' header must be sent once."},
		{"SIG-1 two equal Host headers", func(_ *testing.T, r *Request) { r.Header["Host"] = []string{r.Host, r.Host} }, awserr.IncompleteSignature, "The 'Host' header must be sent once."},
		{"SIG-1 a header under a second spelling of its name", set("x-amz-target", "WorkspacesService.TerminateWorkspaces"), awserr.IncompleteSignature, "A header's name is not in canonical form."},
	})
}

func TestSignatureAndAlgorithmForm(t *testing.T) {
	const unsupported = "Unsupported AWS 'algorithm'. (Hashed with SHA-256 and encoded with Base64) Authorization=..."
	run(t, []attack{
		{"SIG-2 one character short", setSignature(func(s string) string { return s[:63] }), awserr.BadSignature, mismatched},
		{"SIG-2 one character long", setSignature(func(s string) string { return s + "0" }), awserr.BadSignature, mismatched},
		{"SIG-2 upper case", setSignature(strings.ToUpper), awserr.BadSignature, mismatched},
		{"SIG-2 not hexadecimal", setSignature(func(s string) string { return "g" + s[1:] }), awserr.BadSignature, mismatched},
		{"SIG-2 one digit changed", setSignature(func(s string) string { return string("10"[b2i(s[0] == '1')]) + s[1:] }), awserr.BadSignature, mismatched},
		{"SIG-2 with NUL", setSignature(func(s string) string { return s[:63] + "\x00" }), awserr.BadSignature, mismatched},
		{"SIG-2 empty", setSignature(func(string) string { return "" }), awserr.IncompleteSignature, "Authorization header requires 'Signature' parameter. (Hashed with SHA-256 and encoded with Base64) Authorization=..."},
		{"SIG-2 nothing but the algorithm and two words", set("Authorization", "AWS4-HMAC-SHA256 Credential=, Signature="), awserr.IncompleteSignature, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. (Hashed with SHA-256 and encoded with Base64) Authorization=..."},
		{"SIG-2 a parameter without equal-sign", set("Authorization", "AWS4-HMAC-SHA256 Credential"), awserr.IncompleteSignature, "Invalid key=value pair (missing equal-sign) in Authorization header. ..."},
		{"SIG-2 the Signature twice", func(_ *testing.T, r *Request) {
			edit(r, "Authorization", func(s string) string { return s + ", Signature=" + signatureOf(r) })
		}, awserr.IncompleteSignature, "Authorization header has an unknown or a repeated parameter. ..."},
		{"SIG-2 an empty Signature before the right one", replace("SignedHeaders=", "Signature=, SignedHeaders="), awserr.IncompleteSignature, "Authorization header has an unknown or a repeated parameter. ..."},
		{"SIG-2 a comma at the end", func(_ *testing.T, r *Request) { edit(r, "Authorization", func(s string) string { return s + "," }) }, awserr.IncompleteSignature, "Invalid key=value pair (missing equal-sign)..."},
		{"SIG-2 algorithm AWS, version 2", set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg="), awserr.IncompleteSignature, unsupported},
		{"SIG-2 SigV4A", replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), awserr.IncompleteSignature, unsupported},
		{"SIG-2 algorithm in lower case", replace("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), awserr.IncompleteSignature, unsupported},
		{"SIG-2 a tab after the algorithm", replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256\t"), awserr.IncompleteSignature, unsupported},
		{"SIG-2 two spaces after the algorithm", replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256  "), awserr.IncompleteSignature, "Authorization header has an unknown or a repeated parameter. ..."},
		{"SIG-2 two spaces after a comma", replace(", S", ",  S"), awserr.IncompleteSignature, "Authorization header has an unknown or a repeated parameter. ..."},
		{"SIG-2 a password sent as Basic", set("Authorization", "Basic "+string(testSecret)), awserr.IncompleteSignature, unsupported},
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestScopeAndClock(t *testing.T) {
	const elements = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
	date := func(s string) string {
		return "Date must be in ISO-8601 'basic format'. Got '" + s + "'. See http://en.wikipedia.org/wiki/ISO_8601"
	}
	run(t, []attack{
		{"SIG-3 another day in the scope", replace("/20261123/", "/20261122/"), awserr.BadSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261122' != '20261123', from '20261123T120000Z'."},
		{"SIG-3 another region", replace("/eu-central-1/", "/us-east-1/"), awserr.BadSignature, "Credential should be scoped to a valid Region, not 'us-east-1'."},
		{"SIG-3 another service", replace("/workspaces/", "/ds/"), awserr.BadSignature, "Credential should be scoped to correct service: 'workspaces'."},
		{"SIG-3 another terminator", replace("/aws4_request", "/aws4_requesT"), awserr.BadSignature, "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4_requesT'."},
		{"SIG-3 an extra slash at the end", replace("/aws4_request", "/aws4_request/"), awserr.IncompleteSignature, elements},
		{"SIG-3 an extra slash within", replace("/workspaces/", "//workspaces/"), awserr.IncompleteSignature, elements},
		{"SIG-3 an empty key id", replace("AKIAIOSFODNN7EXAMPLE/", "/"), awserr.IncompleteSignature, elements},
		{"SIG-3 an empty region", replace("/eu-central-1/", "//"), awserr.IncompleteSignature, elements},
		{"SIG-3 an empty day", replace("/20261123/", "//"), awserr.IncompleteSignature, elements},
		{"SIG-3 an empty service", replace("/workspaces/", "//"), awserr.IncompleteSignature, elements},
		{"SIG-3 an empty terminator", replace("/aws4_request", "/"), awserr.IncompleteSignature, elements},
		{"SIG-3 four parts", replace("/workspaces/", "/"), awserr.IncompleteSignature, elements},
		{"SIG-3 no date at all", func(_ *testing.T, r *Request) { r.Header.Del("X-Amz-Date") }, awserr.IncompleteSignature, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. (Hashed..."},
		{"SIG-3 a month of one digit", set("X-Amz-Date", "2026923T120000Z"), awserr.IncompleteSignature, date("2026923T120000Z")},
		{"SIG-3 a leap second", set("X-Amz-Date", "20261123T115960Z"), awserr.IncompleteSignature, date("20261123T115960Z")},
		{"SIG-3 the 30th of February", set("X-Amz-Date", "20260230T120000Z"), awserr.IncompleteSignature, date("20260230T120000Z")},
		{"SIG-3 the extended format", set("X-Amz-Date", "2026-11-23T12:00:00Z"), awserr.IncompleteSignature, date("2026-11-23T12:00:00Z")},
		{"SIG-3 a sign among the digits", set("X-Amz-Date", "20261123T12+100Z"), awserr.IncompleteSignature, date("20261123T12+100Z")},
		{"SIG-3 control characters are not repeated", set("X-Amz-Date", "2026\r\n"), awserr.IncompleteSignature, date("...")},
	})
	for _, c := range []struct {
		name  string
		stamp time.Time
		text  string
	}{
		{"SIG-3 clock -301 s", testNow.Add(-301 * time.Second), "Signature expired: 20261123T115459Z is now earlier than 20261123T115500Z (20261123T120000Z - 5 min.)"},
		{"SIG-3 clock -300 s", testNow.Add(-300 * time.Second), ""},
		{"SIG-3 clock -299 s", testNow.Add(-299 * time.Second), ""},
		{"SIG-3 clock +299 s", testNow.Add(299 * time.Second), ""},
		{"SIG-3 clock +300 s", testNow.Add(300 * time.Second), ""},
		{"SIG-3 clock +301 s", testNow.Add(301 * time.Second), "Signature not yet current: 20261123T120501Z is still later than 20261123T120500Z (20261123T120000Z + 5 min.)"},
		{"SIG-3 year 0", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "Signature expired: 00000101T000000Z is now earlier than..."},
		{"SIG-3 year 9999", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "Signature not yet current: 99991231T235959Z is still later than..."},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := plainRequest()
			if err := testSigner().Sign(req, c.stamp); err != nil {
				t.Fatal(err)
			}
			err := parseAndVerify(&Verifier{}, req, testExpect(), testSecret)
			if c.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, awserr.BadSignature, c.text)
		})
	}
}

func TestDateHeader(t *testing.T) {
	for _, c := range []struct {
		name, date, stamp, list string
		kind                    awserr.Kind
		text                    string
	}{
		{"SIG-3 a signed Date stands in for X-Amz-Date", "Mon, 23 Nov 2026 12:00:00 GMT", "", "content-type;date;host;x-amz-target", 0, ""},
		{"SIG-3 so it does as botocore writes it", "Mon, 23 Nov 2026 12:00:00 -0000", "", "content-type;date;host;x-amz-target", 0, ""},
		{"SIG-3 with X-Amz-Date, Date says nothing", "Mon, 23 Nov 2020 12:00:00 GMT", "20261123T120000Z", "content-type;host;x-amz-date;x-amz-target", 0, ""},
		{"SIG-4 an unsigned Date is no date", "Mon, 23 Nov 2026 12:00:00 GMT", "", "content-type;host;x-amz-target", awserr.BadSignature, "'Date' must be a 'SignedHeader' in the AWS Authorization."},
		{"SIG-3 an old Date has expired", "Mon, 23 Nov 2026 11:00:00 GMT", "", "content-type;date;host;x-amz-target", awserr.BadSignature, "Signature expired: 20261123T110000Z..."},
		{"SIG-3 a Date that is none", "yesterday", "", "content-type;date;host;x-amz-target", awserr.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got 'yesterday'. See http://en.wikipedia.org/wiki/ISO_8601"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := plainRequest()
			req.Header.Set("Date", c.date)
			if c.stamp != "" {
				req.Header.Set("X-Amz-Date", c.stamp)
			}
			err := parseAndVerify(&Verifier{}, resigned(t, req, c.list), testExpect(), testSecret)
			if c.text != "" {
				refused(t, err, c.kind, c.text)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSignedHeaders(t *testing.T) {
	must := func(name string) string {
		return "'" + name + "' must be a 'SignedHeader' in the AWS Authorization."
	}
	token := func(r *Request) { r.Header.Set("X-Amz-Security-Token", "a-session-token-of-some-length") }
	run(t, []attack{
		{"SIG-4 no host", again("content-type;x-amz-date;x-amz-target", nil), awserr.BadSignature, must("Host' or ':authority")},
		{"SIG-4 no date", again("content-type;host;x-amz-target", nil), awserr.BadSignature, must("X-Amz-Date")},
		{"SIG-4 target sent but unsigned", again("content-type;host;x-amz-date", nil), awserr.BadSignature, must("X-Amz-Target")},
		{"SIG-4 target added after signing", func(t *testing.T, r *Request) {
			target := r.Header.Get("X-Amz-Target")
			r.Header.Del("X-Amz-Target")
			resigned(t, r, "content-type;host;x-amz-date")
			r.Header.Set("X-Amz-Target", target)
		}, awserr.BadSignature, must("X-Amz-Target")},
		{"SIG-4 token sent but unsigned", again("content-type;host;x-amz-date;x-amz-target", token), awserr.BadSignature, must("X-Amz-Security-Token")},
		{"SIG-4 content-type sent but unsigned", again("host;x-amz-date;x-amz-target", nil), awserr.BadSignature, must("Content-Type")},
		{"SIG-4 unsorted", again("host;content-type;x-amz-date;x-amz-target", nil), awserr.BadSignature, mismatched},
		{"SIG-4 a name twice", again("content-type;content-type;host;x-amz-date;x-amz-target", nil), awserr.BadSignature, mismatched},
		{"SIG-4 a name in upper case", again("Content-Type;host;x-amz-date;x-amz-target", nil), awserr.BadSignature, mismatched},
		{"SIG-4 an empty name", again(";content-type;host;x-amz-date;x-amz-target", nil), awserr.BadSignature, mismatched},
		{"SIG-4 a name that is no token", again("a b;content-type;host;x-amz-date;x-amz-target", nil), awserr.BadSignature, mismatched},
		{"SIG-4 a header that was not sent", again("content-type;host;x-amz-date;x-amz-target;x-missing", nil), awserr.BadSignature, mismatched},
		{"SIG-4 a signed header taken away", func(_ *testing.T, r *Request) { r.Header.Del("X-Amz-Target") }, awserr.BadSignature, mismatched},
		{"SIG-4 a signed header changed", set("X-Amz-Target", "WorkspacesService.TerminateWorkspaces"), awserr.BadSignature, mismatched},
		{"SIG-4 another host", func(_ *testing.T, r *Request) { r.Host = "ds.eu-central-1.amazonaws.com" }, awserr.BadSignature, mismatched},
	})
	t.Run("SIG-4 other headers may stay unsigned", func(t *testing.T) {
		req := signed(t, plainRequest())
		req.Header.Set("X-Amzn-Trace-Id", "Root=1")
		req.Header.Set("Accept-Encoding", "identity")
		if err := parseAndVerify(&Verifier{}, req, testExpect(), testSecret); err != nil {
			t.Error(err)
		}
	})
}

func TestBody(t *testing.T) {
	hashed := func(value func(*Request) string) func(*testing.T, *Request) {
		return again("content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target", func(r *Request) { r.Header.Set("X-Amz-Content-Sha256", value(r)) })
	}
	is := func(s string) func(*Request) string { return func(*Request) string { return s } }
	run(t, []attack{
		{"SIG-5 one bit of the body changed", func(_ *testing.T, r *Request) { r.Body[3] ^= 1 }, awserr.BadSignature, mismatched},
		{"SIG-5 the body cut off", func(_ *testing.T, r *Request) { r.Body = r.Body[:10] }, awserr.BadSignature, mismatched},
		{"SIG-5 the body gone", func(_ *testing.T, r *Request) { r.Body = nil }, awserr.BadSignature, mismatched},
		{"SIG-5 x-amz-content-sha256 of another body", hashed(is(hexHash([]byte("another")))), awserr.BadSignature, mismatched},
		{"SIG-5 x-amz-content-sha256 in upper case", hashed(func(r *Request) string { return strings.ToUpper(hexHash(r.Body)) }), awserr.BadSignature, mismatched},
		{"SIG-5 UNSIGNED-PAYLOAD", hashed(is("UNSIGNED-PAYLOAD")), awserr.BadSignature, mismatched},
		{"SIG-5 STREAMING-AWS4-HMAC-SHA256-PAYLOAD", hashed(is("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")), awserr.BadSignature, mismatched},
		{"SIG-5 STREAMING-UNSIGNED-PAYLOAD-TRAILER", hashed(is("STREAMING-UNSIGNED-PAYLOAD-TRAILER")), awserr.BadSignature, mismatched},
		{"SIG-5 a signature over the text UNSIGNED-PAYLOAD in place of the hash", func(t *testing.T, r *Request) {
			s, stamp := testSigner(), testNow.Format(stampLayout)
			list := "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target"
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			canonical, err := s.canonical(r, strings.Split(list, ";"))
			if err != nil {
				t.Fatal(err)
			}
			canonical = strings.TrimSuffix(canonical, hexHash(r.Body)) + "UNSIGNED-PAYLOAD"
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.AccessKeyID+"/"+s.scope(stamp)+", SignedHeaders="+list+", Signature="+s.signature(stamp, canonical))
		}, awserr.BadSignature, mismatched},
		{"SIG-5 a gzip body whose signature is over what is inside", func(_ *testing.T, r *Request) { r.Body = zipped(r.Body) }, awserr.BadSignature, mismatched},
	})
	t.Run("SIG-5 a true x-amz-content-sha256 and a gzip body signed as sent are accepted", func(t *testing.T) {
		req := plainRequest()
		req.Body = zipped(req.Body)
		s := testSigner()
		s.HashHeader = true
		if err := s.Sign(req, testNow); err != nil {
			t.Fatal(err)
		}
		if err := parseAndVerify(&Verifier{}, req, testExpect(), testSecret); err != nil {
			t.Error(err)
		}
	})
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

func TestCanonicalForm(t *testing.T) {
	for _, c := range []struct{ name, path, want string }{
		{"SIG-6 slashes fold", "//a//b///", "/a/b/"},
		{"SIG-6 dot segments go", "/./a/./b/.", "/a/b"},
		{"SIG-6 nothing is above the root", "/../../a/..", "/"},
		{"SIG-6 an escaped slash is no slash", "/a%2Fb", "/a%252Fb"},
		{"SIG-6 nor is it the same in the other case", "/a%2fb", "/a%252fb"},
		{"SIG-6 escaped dots are no dot segment", "/a/%2e%2e/b", "/a/%252e%252e/b"},
		{"SIG-6 an escaped NUL", "/a%00", "/a%2500"},
		{"SIG-6 a plus sign", "/a+b", "/a%2Bb"},
		{"SIG-6 an escaped space", "/a%20b", "/a%2520b"},
		{"SIG-6 UTF-8", "/\u1234", "/%E1%88%B4"},
		{"SIG-6 a bad escape", "/%zz%", "/%25zz%25"},
		{"SIG-6 no path", "", "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendPath(nil, c.path, false)); got != c.want {
				t.Errorf("%q gives %q, want %q", c.path, got, c.want)
			}
			if got := (&Signer{}).canonicalPath(c.path); got != c.want {
				t.Errorf("Signer: %q gives %q, want %q", c.path, got, c.want)
			}
		})
	}
	for _, c := range []struct{ name, query, want string }{
		{"SIG-6 sorted by name, then value", "b=2&a=2&a=1&a-1=0", "a=1&a=2&a-1=0&b=2"},
		{"SIG-6 a repeated key keeps both", "a=1&a=1", "a=1&a=1"},
		{"SIG-6 a key without value", "a&b=", "a=&b="},
		{"SIG-6 one spelling of escapes", "%61=%2f%7e&b=%2F~", "a=%2F~&b=%2F~"},
		{"SIG-6 plus is a space, as for those who read it", "a=b+c&d=%2B", "a=b%20c&d=%2B"},
		{"SIG-6 UTF-8 and NUL", "\u1234=%00", "%E1%88%B4=%00"},
		{"SIG-6 a second equal-sign is value", "a=b=c", "a=b%3Dc"},
		{"SIG-6 semicolons part nothing", "a=1;b=2", "a=1%3Bb%3D2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w scratch
			got, ok := w.appendQuery(nil, c.query, false)
			if !ok || string(got) != c.want {
				t.Errorf("%q gives %q, want %q", c.query, got, c.want)
			}
			if got, err := canonicalQuery(c.query); err != nil || got != c.want {
				t.Errorf("Signer: %q gives %q, %v, want %q", c.query, got, err, c.want)
			}
		})
	}
	for _, c := range []struct{ name, value, want string }{
		{"SIG-6 spaces at the ends and runs within", "  a   b  ", "a b"},
		{"SIG-6 tabs", "\ta\t\tb\t", "a b"},
		{"SIG-6 a folded header", "a\r\n  b", "a b"},
		{"SIG-6 quotes protect nothing", `"a   b"`, `"a b"`},
		{"SIG-6 other bytes stay", "\xe9\u00a0\x00x", "\xe9\u00a0\x00x"},
		{"SIG-6 nothing but spaces", " \t ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendTrimmed(nil, c.value)); got != c.want {
				t.Errorf("%q gives %q, want %q", c.value, got, c.want)
			}
		})
	}
	run(t, []attack{
		{"SIG-6 a bad escape in the query", func(_ *testing.T, r *Request) { r.RawQuery = "a=%zz" }, awserr.BadSignature, mismatched},
		{"SIG-6 half an escape in the query", func(_ *testing.T, r *Request) { r.RawQuery = "a=%2" }, awserr.BadSignature, mismatched},
		{"SIG-6 a path added after signing", func(_ *testing.T, r *Request) { r.Path = "/a" }, awserr.BadSignature, mismatched},
		{"SIG-6 a query added after signing", func(_ *testing.T, r *Request) { r.RawQuery = "a=b" }, awserr.BadSignature, mismatched},
		{"SIG-6 another method", func(_ *testing.T, r *Request) { r.Method = "PUT" }, awserr.BadSignature, mismatched},
	})
}

func TestQueryForm(t *testing.T) {
	again := func(expires string) func(*Request) {
		return func(r *Request) {
			r.RawQuery = strings.Replace(r.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires="+expires, 1)
		}
	}
	const bounds = "X-Amz-Expires must be a number of seconds between 1 and 604800. Re-examine the query-string parameters."
	const twice = "A query-string parameter is given twice. Re-examine the query-string parameters."
	for _, c := range []struct {
		name   string
		now    time.Time
		change func(*Request)
		kind   awserr.Kind
		text   string
	}{
		{"SIG-7 a fresh one is accepted", testNow, func(*Request) {}, 0, ""},
		{"SIG-7 so it is at its last second", testNow.Add(time.Minute), func(*Request) {}, 0, ""},
		{"SIG-7 a second later it is not", testNow.Add(61 * time.Second), func(*Request) {}, awserr.BadSignature, "Signature expired: 20261123T120000Z is now earlier than 20261123T120001Z (20261123T120101Z - 60 sec.)"},
		{"SIG-7 five minutes before its time it is accepted, for clocks differ", testNow.Add(-300 * time.Second), func(*Request) {}, 0, ""},
		{"SIG-7 a second earlier it is not", testNow.Add(-301 * time.Second), func(*Request) {}, awserr.BadSignature, "Signature not yet current: 20261123T120000Z is still later than 20261123T115959Z (20261123T115459Z + 5 min.)"},
		{"SIG-7 Expires 0", testNow, again("0"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires -1", testNow, again("-1"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires 604801", testNow, again("604801"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires 1e20", testNow, again("1e20"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires 604800, added after signing", testNow, again("604800"), awserr.BadSignature, mismatched},
		{"SIG-7 Expires of twenty digits", testNow, again("100000000000000000000"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires in hexadecimal", testNow, again("0x3c"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires with a sign", testNow, again("%2B60"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires with zeros", testNow, again("0000060"), awserr.IncompleteSignature, bounds},
		{"SIG-7 Expires made longer", testNow, again("61"), awserr.BadSignature, mismatched},
		{"SIG-7 Expires absent", testNow, func(r *Request) { r.RawQuery = strings.Replace(r.RawQuery, "&X-Amz-Expires=60", "", 1) }, awserr.IncompleteSignature, "AWS query-string parameters must include 'X-Amz-Expires'. Re-examine the query-string parameters."},
		{"SIG-7 a parameter twice", testNow, func(r *Request) { r.RawQuery += "&X-Amz-Expires=60" }, awserr.IncompleteSignature, twice},
		{"SIG-7 a parameter in a second case (CVE-2022-2385)", testNow, func(r *Request) { r.RawQuery += "&x-amz-expires=60" }, awserr.IncompleteSignature, twice},
		{"SIG-7 any other parameter in a second case", testNow, func(r *Request) { r.RawQuery += "&action=a&Action=b" }, awserr.IncompleteSignature, twice},
		{"SIG-7 a parameter in the wrong case", testNow, func(r *Request) {
			r.RawQuery = strings.Replace(r.RawQuery, "X-Amz-Credential", "X-amz-Credential", 1)
		}, awserr.IncompleteSignature, "Query-string parameter 'X-Amz-Credential' is case-sensitive. Re-examine the query-string parameters."},
		{"SIG-7 signed for GET, moved to POST", testNow, func(r *Request) { r.Method = "POST" }, awserr.BadSignature, mismatched},
		{"SIG-7 a target header added", testNow, func(r *Request) { r.Header.Set("X-Amz-Target", "A.B") }, awserr.BadSignature, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization."},
		{"SIG-7 a token as parameter and as header", testNow, func(r *Request) {
			r.RawQuery += "&X-Amz-Security-Token=t"
			r.Header.Set("X-Amz-Security-Token", "t")
		}, awserr.BadSignature, "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization."},
		{"SIG-7 a date as header beside it", testNow, func(r *Request) { r.Header.Set("X-Amz-Date", "20261123T120000Z") }, awserr.BadSignature, "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization."},
		{"SIG-5 a hash in the query in another case", testNow, func(r *Request) { r.RawQuery += "&X-Amz-Content-SHA256=" + hexHash(nil) }, awserr.IncompleteSignature, "Query-string parameter 'X-Amz-Content-Sha256' is case-sensitive. Re-examine the query-string parameters."},
		{"SIG-2 a signature of one character too few", testNow, func(r *Request) { r.RawQuery = r.RawQuery[:len(r.RawQuery)-1] }, awserr.BadSignature, mismatched},
		{"SIG-2 a signature in upper case", testNow, func(r *Request) {
			head, signature, _ := strings.Cut(r.RawQuery, "X-Amz-Signature=")
			r.RawQuery = head + "X-Amz-Signature=" + strings.ToUpper(signature)
		}, awserr.BadSignature, mismatched},
		{"SIG-3 another region", testNow, func(r *Request) { r.RawQuery = strings.Replace(r.RawQuery, "eu-central-1", "us-east-1", 1) }, awserr.BadSignature, "Credential should be scoped to a valid Region, not 'us-east-1'."},
		{"SIG-7 another algorithm", testNow, func(r *Request) { r.RawQuery = strings.Replace(r.RawQuery, "HMAC", "NULL", 1) }, awserr.IncompleteSignature, "Unsupported AWS 'algorithm'. Re-examine the query-string parameters."},
		{"SIG-7 a bad escape", testNow, func(r *Request) { r.RawQuery += "&a=%zz" }, awserr.BadSignature, mismatched},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := &Request{Method: "GET", Path: "/", RawQuery: "Action=GetCallerIdentity", Host: "sts.amazonaws.com", Header: http.Header{}}
			if err := testSigner().Presign(req, testNow, time.Minute); err != nil {
				t.Fatal(err)
			}
			c.change(req)
			expect := testExpect()
			expect.Now = c.now
			err := parseAndVerify(&Verifier{AllowQuery: true}, req, expect, testSecret)
			if c.text != "" {
				refused(t, err, c.kind, c.text)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSignedInTheQuery is what may stand in a signed query: a true hash, a token, a long life.
func TestSignedInTheQuery(t *testing.T) {
	presigned := func(query string, expires time.Duration, token Secret) *Request {
		req := &Request{Method: "POST", Path: "/", RawQuery: query, Host: "sts.amazonaws.com", Header: http.Header{}, Body: []byte("{}")}
		s := testSigner()
		s.SessionToken = token
		if err := s.Presign(req, testNow, expires); err != nil {
			t.Fatal(err)
		}
		return req
	}
	v := &Verifier{AllowQuery: true}
	for _, c := range []struct {
		name  string
		req   *Request
		right bool
	}{
		{"SIG-5 a true hash of the body", presigned("X-Amz-Content-Sha256="+hexHash([]byte("{}")), time.Minute, ""), true},
		{"SIG-5 the hash of another body, well signed", presigned("X-Amz-Content-Sha256="+hexHash(nil), time.Minute, ""), false},
		{"SIG-5 UNSIGNED-PAYLOAD, well signed", presigned("X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", time.Minute, ""), false},
		{"SIG-7 Expires 1", presigned("", time.Second, ""), true},
		{"SIG-7 Expires 604800", presigned("", 604800*time.Second, ""), true},
		{"SIG-7 Expires 604801, well signed", presigned("", 604801*time.Second, ""), false},
		{"SIG-7 Expires 0, well signed", presigned("", 0, ""), false},
		{"SIG-7 a session token", presigned("", time.Minute, "FwoG+/="), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := parseAndVerify(v, c.req, testExpect(), testSecret); (err == nil) != c.right {
				t.Errorf("right = %v: %v", c.right, err)
			}
		})
	}
	t.Run("the token is read from the query", func(t *testing.T) {
		if sig, err := v.Parse(presigned("", time.Minute, "FwoG+/=")); err != nil || string(sig.SessionToken) != "FwoG+/=" {
			t.Errorf("%q, %v", string(sig.SessionToken), err)
		}
	})
	t.Run("without the signature the query is what it was", func(t *testing.T) {
		for query, want := range map[string]string{
			"": "", "Action=A&Name=a%20b&&x": "Action=A&Name=a%20b&&x", "X-Amz-Content-Sha256=" + hexHash([]byte("{}")) + "&Action=A": "Action=A", "X-Amz-Target=A.B": "X-Amz-Target=A.B",
		} {
			if got := WithoutSignature(presigned(query, time.Minute, "t").RawQuery); got != want {
				t.Errorf("%q becomes %q", query, got)
			}
		}
		for _, query := range []string{"Action=A&%zz=1", "a=b"} {
			if got := WithoutSignature(query); got != query {
				t.Errorf("%q becomes %q", query, got)
			}
		}
		if got := WithoutSignature("X%2DAmz%2DSignature=0&%zz&a"); got != "%zz&a" {
			t.Errorf("escaped names: %q", got)
		}
	})
}

func TestDerivedKeys(t *testing.T) {
	v := &Verifier{}
	req := signed(t, plainRequest())
	sig, err := v.Parse(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("SIG-9 a rotated secret is in force at the next request", func(t *testing.T) {
		for _, step := range []struct {
			secret Secret
			right  bool
		}{{testSecret, true}, {"another", false}, {testSecret, true}, {"", false}} {
			if err := v.Match(req, &sig, step.secret); (err == nil) != step.right {
				t.Errorf("right = %v: %v", step.right, err)
			}
		}
	})
	t.Run("SIG-9 another day, Region, service or key id has another derived key", func(t *testing.T) {
		v := &Verifier{}
		base := scope{"AKIA1", "s", "20261123", "eu-central-1", "workspaces"}
		seen := map[*signingKey]bool{v.keys.get(base): true}
		for _, s := range []scope{
			{"AKIA1", "s", "20261124", "eu-central-1", "workspaces"}, {"AKIA1", "s", "20261123", "us-east-1", "workspaces"},
			{"AKIA1", "s", "20261123", "eu-central-1", "ds"}, {"AKIA1", "t", "20261123", "eu-central-1", "workspaces"}, {"AKIA2", "s", "20261123", "eu-central-1", "workspaces"},
		} {
			k := v.keys.get(s)
			if seen[k] || s.keyID == base.keyID && string(k.key) == string(v.keys.get(base).key) {
				t.Errorf("%v shares a key", s)
			}
			seen[k] = true
		}
		if !seen[v.keys.get(base)] {
			t.Error("derived again")
		}
	})
	t.Run("SIG-9 the cache stays bounded and right through many keys", func(t *testing.T) {
		for i := range 5 * generation {
			s := scope{keyID: fmt.Sprintf("AKIA%d", i), secret: "s", date: "20261123"}
			if first, again := v.keys.get(s), v.keys.get(s); first != again {
				t.Fatal("derived twice")
			}
		}
		if n := len(v.keys.young) + len(v.keys.old); n > 2*generation {
			t.Errorf("%d keys kept", n)
		}
		if err := v.Match(req, &sig, testSecret); err != nil {
			t.Error(err)
		}
	})
	t.Run("SIG-12 strangers' key ids do not fill the cache", func(t *testing.T) {
		v := &Verifier{}
		for i := range 10 {
			sig := sig
			sig.AccessKeyID = fmt.Sprintf("AKIA%d", i)
			refused(t, v.Unknown(req, &sig), awserr.UnknownKey, "The security token included in the request is invalid.")
		}
		if len(v.keys.young) != 1 {
			t.Errorf("%d keys kept", len(v.keys.young))
		}
	})
}

func TestNothingIsExpectedByDefault(t *testing.T) {
	req := signed(t, plainRequest())
	if err := parseAndVerify(&Verifier{}, req, &Expect{Now: testNow}, testSecret); err == nil {
		t.Error("a scope was accepted that nobody expects")
	}
	if err := parseAndVerify(&Verifier{}, req, &Expect{Now: testNow, Services: []string{"workspaces"}}, testSecret); err == nil {
		t.Error("a Region was accepted that nobody expects")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	req := plainRequest()
	s := testSigner()
	s.SessionToken = "FwoGZXIvYXdzEXAMPLETOKEN"
	if err := s.Sign(req, testNow); err != nil {
		t.Fatal(err)
	}
	sig, err := (&Verifier{}).Parse(req)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "signature", sig, "token", sig.SessionToken, "secret", s.Secret)
	all := log.String() + fmt.Sprintf("%v %+v %#v %s %v %#v", sig, sig, sig, s.Secret, *s, *s)
	for _, secret := range []string{string(s.Secret), string(s.SessionToken), sig.Signature} {
		if strings.Contains(all, secret) {
			t.Errorf("SIG-13: %q is printed: %s", secret, all)
		}
	}
}
