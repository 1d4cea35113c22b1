package front_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRequestsThatAreEncodedAnew: canonicalisation takes several spellings for one, so each of them must be read as the same request by
// what comes after, or not at all (SIG-6).
func TestRequestsThatAreEncodedAnew(t *testing.T) {
	h := newHouse(t)
	query := func(old, with string) func(*call) {
		return func(c *call) { c.query = strings.Replace(c.query, old, with, 1) }
	}
	path := func(p string) func(*call) { return func(c *call) { c.path = p } }
	for _, c := range []struct {
		name, service, operation string
		change                   func(*call)
		code                     string // empty: served as what it was signed as
	}{
		{"SIG-6 a letter of the query escaped", "iam", "CreateUser", query("Action=", "%41ction="), ""},
		{"SIG-6 a letter of a value escaped", "iam", "CreateUser", query("UserName=a", "UserName=%61"), ""},
		{"SIG-6 escapes in lower case", "iam", "CreateUser", query("%2B", "%2b"), ""},
		{"SIG-6 the query in another order", "iam", "CreateUser", func(c *call) {
			pairs := strings.Split(c.query, "&")
			slices.Reverse(pairs)
			c.query = strings.Join(pairs, "&")
		}, ""},
		{"SIG-6 empty pairs in the query", "iam", "CreateUser", func(c *call) { c.query = "&&" + c.query + "&" }, ""},
		{"SIG-6 a plus sign for its escape is a space", "iam", "CreateUser", query("%2B", "+"), "SignatureDoesNotMatch"},
		{"SIG-6 an escape escaped again", "iam", "CreateUser", query("%2B", "%252B"), "SignatureDoesNotMatch"},
		{"SIG-6 a NUL at the end of a value", "iam", "CreateUser", func(c *call) { c.query += "%00" }, "SignatureDoesNotMatch"},
		{"SIG-6 a bad escape", "iam", "CreateUser", func(c *call) { c.query += "&%zz" }, "SignatureDoesNotMatch"},
		{"SIG-6 a semicolon for an ampersand", "iam", "CreateUser", query("&", ";"), "SignatureDoesNotMatch"},
		{"SIG-6 a letter of the path escaped", "ds-data", "CreateUser", path("/Users/%43reateUser"), "InvalidSignatureException"},
		{"SIG-6 the slash of the path escaped", "ds-data", "CreateUser", path("/Users%2FCreateUser"), "InvalidSignatureException"},
		{"SIG-6 a second slash signs as one and is no operation's", "ds-data", "CreateUser", path("//Users/CreateUser"), "UnknownOperationException"},
		{"SIG-6 nor are dot segments", "ds-data", "CreateUser", path("/Users/x/../CreateUser"), "UnknownOperationException"},
		{"SIG-6 another path", "ds-data", "CreateUser", path("/Users/DeleteUser"), "InvalidSignatureException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			op := operation(t, c.service, c.operation)
			call := smallestCall(t, op)
			if isForm(op) {
				call.method, call.body = http.MethodGet, nil
				call.header.Del("Content-Type")
				call.query = url.Values{"Action": {c.operation}, "UserName": {"ada+lovelace"}}.Encode()
			}
			call.sign(t, signer(h.root, op), time.Now())
			before := h.db.Snapshot().Revision()
			c.change(call)
			got := h.send(t, call.request())
			if got.code != c.code || (h.db.Snapshot().Revision() != before) != (c.code == "") {
				t.Errorf("%d %s, want %q", got.status, got.text, c.code)
			}
			if rec := string(h.audit.last(t).AppendJSON(nil)); c.code == "" && (!strings.Contains(rec, `"ada+lovelace"`) || !strings.Contains(rec, `"eventName":"CreateUser"`)) {
				t.Errorf("read as %s", rec)
			}
		})
	}
}

// TestARNsOfNULAndLookAlikes: IAM's model has no pattern for ARNs, so such names reach the handler, as what they are: not cut at the NUL,
// not taken for the letter they look like. What is not UTF-8 does not get so far.
func TestARNsOfNULAndLookAlikes(t *testing.T) {
	h := newHouse(t)
	op := operation(t, "iam", "GetPolicy")
	for name, c := range map[string]struct{ arn, code, recorded string }{
		"a NUL at the end":         {"arn:aws:iam::123456789012:policy/abc\x00", "", `policy/abc\u0000"`},
		"a NUL within":             {"arn:aws:iam::123456789012:policy/\x00abc", "", `policy/\u0000abc"`},
		"a Cyrillic letter":        {"arn:aws:iam::123456789012:policy/\u0430bc", "", "policy/\u0430bc\""},
		"a surrogate":              {"arn:aws:iam::123456789012:policy/\xed\xa0\x80", "MalformedQueryString", `"requestParameters":null`},
		"a byte that is not UTF-8": {"arn:aws:iam::123456789012:policy/\xe0", "MalformedQueryString", `"requestParameters":null`},
	} {
		t.Run(name, func(t *testing.T) {
			call := smallestCall(t, op)
			call.body = []byte(url.Values{"Action": {"GetPolicy"}, "PolicyArn": {c.arn}}.Encode())
			call.sign(t, signer(h.root, op), time.Now())
			got := h.send(t, call.request())
			if rec := string(h.audit.last(t).AppendJSON(nil)); got.code != c.code || !strings.Contains(rec, c.recorded) {
				t.Errorf("%d %s, want %q; recorded as %s", got.status, got.text, c.code, rec)
			}
		})
	}
}
