package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// with wraps a statement's elements in a document of the new version.
func with(elements string) string {
	return `{"Version":"2012-10-17","Statement":[{` + elements + `}]}`
}

// TestRefusals: reference 5.2, IAM-2, SIG-10. at is where the refusal points: what stands there begins so.
func TestRefusals(t *testing.T) {
	const ok = `"Effect":"Allow","Action":"ds:*","Resource":"*"`
	const trust = `"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"`
	for _, c := range []struct {
		name   string
		kind   Kind
		text   string
		aws    string
		reason string
		at     string
	}{
		{"nothing at all", Identity, "", textSyntax, "ends too early", ""},
		{"a list", Identity, "[]", textSyntax, "a list, not an object", "[]"},
		{"the null of a shell mistake", Identity, "null", textSyntax, "null, not an object", "null"},
		{"a trust policy that is no JSON", Trust, "file://x.json", textTrustJSON, "not JSON", "file"},
		{"something after the document", Identity, `{"Statement":[{` + ok + `}]} x`, textSyntax, "follows the document", "x"},
		{"an element twice: the second would win elsewhere", Identity, with(ok + `,"Effect":"Deny"`), textSyntax, `duplicate element "Effect"`, `"Effect":"Deny"`},
		{"a statement list twice", Identity, `{"Statement":[],"Statement":[{` + ok + `}]}`, textSyntax, "duplicate element", `"Statement":[{`},
		{"a name escaped to look different twice", Identity, with(ok + `,"Eff\u0065ct":"Deny"`), textSyntax, `duplicate element "Effect"`, `"Eff\u`},
		{"an element in another case", Identity, with(ok + `,"condition":{}`), textSyntax, `unknown element "condition"`, `"condition"`},
		{"an unknown element", Identity, `{"Statements":[]}`, textSyntax, `unknown element "Statements"`, `"Statements"`},
		{"an unknown element of a trust policy", Trust, `{"Statement":[{` + trust + `,"Foo":1}]}`, "Unknown field Foo", "unknown element", `"Foo"`},
		{"an unknown version", Identity, `{"Version":"2012-10-18","Statement":[{` + ok + `}]}`, textSyntax, "neither 2008-10-17", `"2012-10-18"`},
		{"a version that is a number", Identity, `{"Version":2012,"Statement":[{` + ok + `}]}`, textSyntax, "a number stands where a string", "2012"},
		{"an id that is a list", Identity, `{"Id":["x"],"Statement":[{` + ok + `}]}`, textSyntax, "a list stands where a string", "["},
		{"no statements", Identity, `{"Version":"2012-10-17"}`, textSyntax, "Statement is missing", "{"},
		{"an empty list of statements", Identity, `{"Statement":[]}`, textSyntax, "list is empty", "[]"},
		{"a statement that is a string", Identity, `{"Statement":["Allow"]}`, textSyntax, "a string stands where a statement", `"Allow"`},
		{"effect in lower case", Identity, with(`"Effect":"allow","Action":"ds:*","Resource":"*"`), textLegacy, "written Allow or Deny", `"allow"`},
		{"deny in capitals", Identity, with(`"Effect":"DENY","Action":"ds:*","Resource":"*"`), textLegacy, "written Allow or Deny", `"DENY"`},
		{"effect of a trust policy in lower case", Trust, with(`"Effect":"allow","Principal":"*","Action":"sts:*"`), "Invalid effect: allow", "neither", `"allow"`},
		{"another effect", Identity, with(`"Effect":"Permit","Action":"ds:*","Resource":"*"`), textSyntax, "neither Allow nor Deny", `"Permit"`},
		{"no effect", Identity, with(`"Action":"ds:*","Resource":"*"`), textSyntax, "Effect is missing", `{"Action"`},
		{"no effect in a trust policy", Trust, with(`"Action":"sts:*","Principal":"*"`), "Missing required field Effect", "Effect is missing", `{"Action"`},
		{"action and its twin", Identity, with(ok + `,"NotAction":"iam:*"`), textSyntax, "Action and NotAction exclude", `"Action"`},
		{"resource and its twin", Identity, with(ok + `,"NotResource":"*"`), textSyntax, "exclude one another", `"Resource"`},
		{"no action", Identity, with(`"Effect":"Allow","Resource":"*"`), textNoActions, "no actions", `{"Effect"`},
		{"no action in a trust policy", Trust, with(`"Effect":"Allow","Principal":"*"`), "Missing required field Action", "no actions", `{"Effect"`},
		{"an empty list of actions", Identity, with(`"Effect":"Allow","Action":[],"Resource":"*"`), textNoActions, "no actions", `{"Effect"`},
		{"a number among actions", Identity, with(`"Effect":"Allow","Action":["ds:*",7],"Resource":"*"`), textSyntax, "a number stands", "7"},
		{"an action without a service", Identity, with(`"Effect":"Allow","Action":"Describe*","Resource":"*"`), textVendor, "a service, a colon", `"Describe*"`},
		{"an action with two colons", Identity, with(`"Effect":"Allow","Action":"ds:a:b","Resource":"*"`), textColons, "one colon", `"ds:a:b"`},
		{"a wildcard in the service", Identity, with(`"Effect":"Allow","Action":"work*:Describe","Resource":"*"`), "Vendor work* is not valid", "letters", `"work*`},
		{"a service of nothing", Identity, with(`"Effect":"Allow","Action":":Describe","Resource":"*"`), "Vendor  is not valid", "letters", `":Desc`},
		{"a look-alike of a service", Identity, with(`"Effect":"Allow","Action":"\u0456am:*","Resource":"*"`), "Vendor іam is not valid", "letters", `"\u0456am`},
		{"no resource", Identity, with(`"Effect":"Allow","Action":"ds:*"`), textNoResources, "no resources", `{"Effect"`},
		{"an empty list of resources", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":[]`), textNoResources, "no resources", `{"Effect"`},
		{"a resource that is a name", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"d-1"`), `Resource d-1 must be in ARN format or "*".`, "neither an ARN", `"d-1"`},
		{"a resource that is a URN", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"urn:a:b:c:d:e"`), `Resource urn:a:b:c:d:e must be in ARN format or "*".`, "neither an ARN", `"urn`},
		{"an unknown partition", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:azure:ds::1:x"`), `Partition "azure" is not valid for resource "arn:azure:ds::1:x".`, "partition", `"arn:azure`},
		{"an unknown partition of a short ARN", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:azure"`), `Partition "azure" is not valid for resource "arn:azure:*:*:*:*".`, "partition", `"arn:azure`},
		{"a wildcard in the service of an ARN", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:d?:eu-central-1:123456789012:x"`), "Resource vendor must be fully qualified and cannot contain regexes.", "no wildcards", `"arn:aws:d?`},
		{"a star instead of the service", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:*"`), "Resource vendor must be fully qualified and cannot contain regexes.", "no wildcards", `"arn:aws:*`},
		{"an ARN that ends before the service", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws"`), "Resource vendor must be fully qualified and cannot contain regexes.", "no wildcards", `"arn:aws`},
		{"an ARN without a service", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws::::x"`), textLegacy, "six components", `"arn:aws:`},
		{"an ARN that ends with the service", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds"`), textLegacy, "six components", `"arn:aws:ds`},
		{"an ARN that is too short", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:eu-central-1:d-1"`), textLegacy, "six components", `"arn:aws:ds`},
		{"a variable before the fifth colon", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:eu-central-1:${aws:PrincipalAccount}:x"`), textLegacy, "before the fifth colon", `"arn:aws:ds`},
		{"a variable in a short ARN", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:${aws:username}*"`), textLegacy, "before the fifth colon", `"arn:aws:ds`},
		{"a variable that does not end", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${aws:username"`), textSyntax, "closing brace", `"arn:aws:ds`},
		{"a variable without a key", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${}"`), textSyntax, "is no variable", `"arn:aws:ds`},
		{"a variable without a service", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${username}"`), textSyntax, "is no variable", `"arn:aws:ds`},
		{"a variable with space round its key", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${ aws:username}"`), textSyntax, "is no variable", `"arn:aws:ds`},
		{"a default without quotes", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${aws:username, x}"`), textSyntax, "single quotes", `"arn:aws:ds`},
		{"a default with one quote", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${aws:username, '}"`), textSyntax, "single quotes", `"arn:aws:ds`},
		{"a default that ends without its quote", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${aws:username, 'x}"`), textSyntax, "single quotes", `"arn:aws:ds`},
		{"a default with a quote in it", Identity, with(`"Effect":"Allow","Action":"ds:*","Resource":"arn:aws:ds:::a/${aws:username, 'x'y'}"`), textSyntax, "single quotes", `"arn:aws:ds`},
		{"a resource of IAM in a region", Identity, with(`"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam:eu-central-1:123456789012:user/ada"`), "IAM resource arn:aws:iam:eu-central-1:123456789012:user/ada cannot contain region information.", "IAM", `"arn:aws:iam`},
		{"a resource that IAM does not have", Identity, with(`"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:desk/1"`), `IAM resource path must either be "*" or start with user/, federated-user/`, "IAM", `"arn:aws:iam`},
		{"a pattern that IAM cannot have", Identity, with(`"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:desk*"`), `IAM resource path must either be "*"`, "IAM", `"arn:aws:iam`},
		{"a Sid with a space", Identity, with(`"Sid":"a b",` + ok), textSidForm, "neither a letter", `"a b"`},
		{"a Sid that is a number", Identity, with(`"Sid":1,` + ok), textSyntax, "a number stands", "1,"},
		{"a Sid twice", Identity, `{"Statement":[{"Sid":"a",` + ok + `},{"Sid":"a",` + ok + `}]}`, textSidTwice, "used before", `"a",` + ok + `}]}`},
		{"a principal in an identity policy", Identity, with(`"Principal":"*",` + ok), textNoPrincipals, "whom it is attached to", `"*"`},
		{"a principal in a boundary", Boundary, with(`"NotPrincipal":"*",` + ok), textNoPrincipals, "attached to", `"*"`},
		{"a principal in a session policy", Session, with(`"Principal":"*",` + ok), textNoPrincipals, "attached to", `"*"`},
		{"a principal in a guardrail", Guardrail, with(`"Principal":"*",` + ok), textNoPrincipals, "attached to", `"*"`},
		{"no principal in an endpoint's policy", Endpoint, with(ok), textSyntax, "Principal is missing", `{"Effect"`},
		{"no principal in a trust policy", Trust, with(`"Effect":"Allow","Action":"sts:*"`), "Missing required field Principal", "Principal is missing", `{"Effect"`},
		{"a principal and its twin", Resource, with(`"Principal":"*","NotPrincipal":"*",` + ok), textSyntax, "exclude one another", `"Principal"`},
		{"a principal that is no map", Resource, with(`"Principal":"123456789012",` + ok), textSyntax, "where an object", `"123456789012"`},
		{"an empty map of principals", Resource, with(`"Principal":{},` + ok), textSyntax, "no principal is named", "{}"},
		{"an empty list of principals", Resource, with(`"Principal":{"AWS":[]},` + ok), textSyntax, "list is empty", "[]"},
		{"a principal of an unknown kind", Resource, with(`"Principal":{"CanonicalUser":"79a5"},` + ok), textSyntax, "AWS, Service or Federated", `"Canon`},
		{"an account as a number", Resource, with(`"Principal":{"AWS":123456789012},` + ok), textSyntax, "a number stands", "123456789012"},
		{"an account of 13 digits that is trusted", Trust, with(`"Effect":"Allow","Principal":{"AWS":"1234567891011"},"Action":"sts:*"`), `Invalid principal in policy: "AWS":"1234567891011"`, "in full", `"1234567891011"`},
		{"a wildcard in a principal", Trust, with(`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/*"},"Action":"sts:*"`), `Invalid principal in policy: "AWS":"arn:aws:iam::123456789012:user/*"`, "wildcards", `"arn:aws:iam`},
		{"every service", Trust, with(`"Effect":"Allow","Principal":{"Service":"*"},"Action":"sts:*"`), `Invalid principal in policy: "Service":"*"`, "wildcards", `"*"`},
		{"a resource of a trust policy", Trust, with(trust + `,"Resource":"*"`), "Has prohibited field Resource", "its role", `"*"`},
		{"an action that is not of sts in a trust policy", Trust, with(`"Effect":"Allow","Principal":"*","Action":"iam:PassRole"`), textTrustActions, "no action of sts", `"iam:PassRole"`},
		{"every action in a trust policy", Trust, with(`"Effect":"Allow","Principal":"*","Action":"*"`), textTrustActions, "no action of sts", `"*"}`},
		{"a condition that is a list", Identity, with(ok + `,"Condition":[]`), textSyntax, "where an object", "[]"},
		{"an operator that is a list", Identity, with(ok + `,"Condition":{"Bool":["aws:x"]}`), textSyntax, "where an object", `["aws:x"]`},
		{"an unknown operator", Identity, with(ok + `,"Condition":{"StringMatches":{}}`), textSyntax, `unknown condition operator "StringMatches"`, `"StringMatches"`},
		{"an operator in another case", Identity, with(ok + `,"Condition":{"stringequals":{}}`), textSyntax, "unknown condition operator", `"stringequals"`},
		{"an unknown qualifier", Identity, with(ok + `,"Condition":{"ForSomeValues:StringLike":{}}`), textSyntax, "unknown condition operator", `"ForSome`},
		{"IfExists before the qualifier's colon", Identity, with(ok + `,"Condition":{"StringLike:IfExists":{}}`), textSyntax, "unknown condition operator", `"StringLike:`},
		{"NullIfExists", Identity, with(ok + `,"Condition":{"NullIfExists":{"aws:x":"true"}}`), textSyntax, "unknown condition operator", `"NullIf`},
		{"Null with a qualifier", Identity, with(ok + `,"Condition":{"ForAnyValue:Null":{"aws:x":"true"}}`), textSyntax, "unknown condition operator", `"ForAny`},
		{"an unknown operator of a trust policy", Trust, with(trust + `,"Condition":{"Like":{}}`), "Invalid Condition type : Like", "unknown condition operator", `"Like"`},
		{"a key without a service", Identity, with(ok + `,"Condition":{"Bool":{"SecureTransport":"true"}}`), textVendor, "no condition key", `"Secure`},
		{"a key of a broken service", Identity, with(ok + `,"Condition":{"Bool":{"a b:c":"true"}}`), textVendor, "no condition key", `"a b`},
		{"a key of no service", Identity, with(ok + `,"Condition":{"Bool":{":c":"true"}}`), textVendor, "no condition key", `":c"`},
		{"a key without a name", Identity, with(ok + `,"Condition":{"Bool":{"aws:":"true"}}`), textVendor, "no condition key", `"aws:"`},
		{"a key twice in different case", Identity, with(ok + `,"Condition":{"Bool":{"aws:SecureTransport":"true","AWS:securetransport":"false"}}`), textSyntax, "without case", `"AWS:`},
		{"no values", Identity, with(ok + `,"Condition":{"Bool":{"aws:x":[]}}`), textSyntax, "list is empty", "[]"},
		{"a null value", Identity, with(ok + `,"Condition":{"StringEquals":{"aws:x":null}}`), textSyntax, "null stands where a value", "null"},
		{"an object for a value", Identity, with(ok + `,"Condition":{"StringEquals":{"aws:x":[{}]}}`), textSyntax, "an object stands where a value", "{}"},
		{"a bad variable in a value", Identity, with(ok + `,"Condition":{"StringEquals":{"aws:x":"${"}}`), textLegacy, "closing brace", `"${"`},
		{"a bad variable in an ARN", Identity, with(ok + `,"Condition":{"ArnLike":{"aws:x":"arn:${"}}`), textLegacy, "closing brace", `"arn:${"`},
		{"a variable for a number", Identity, with(ok + `,"Condition":{"NumericEquals":{"aws:x":"${aws:y}"}}`), textLegacy, "no decimal number", `"${aws:y}"`},
		{"NaN", Identity, with(ok + `,"Condition":{"NumericEquals":{"aws:x":"NaN"}}`), textLegacy, "no decimal number", `"NaN"`},
		{"a hexadecimal number", Identity, with(ok + `,"Condition":{"NumericEquals":{"aws:x":"0x10"}}`), textLegacy, "no decimal number", `"0x10"`},
		{"no date", Identity, with(ok + `,"Condition":{"DateLessThan":{"aws:x":"tomorrow"}}`), textLegacy, "date", `"tomorrow"`},
		{"no boolean", Identity, with(ok + `,"Condition":{"Bool":{"aws:x":"yes"}}`), textLegacy, "neither true nor false", `"yes"`},
		{"no boolean for Null", Identity, with(ok + `,"Condition":{"Null":{"aws:x":"1"}}`), textLegacy, "neither true nor false", `"1"`},
		{"no base 64", Identity, with(ok + `,"Condition":{"BinaryEquals":{"aws:x":"QQ"}}`), textLegacy, "not in base 64", `"QQ"`},
		{"base 64 with bits left over", Identity, with(ok + `,"Condition":{"BinaryEquals":{"aws:x":"QR=="}}`), textLegacy, "not in base 64", `"QR=="`},
		{"no address", Identity, with(ok + `,"Condition":{"IpAddress":{"aws:x":"10.0.0.0/33"}}`), textLegacy, "range of addresses", `"10.0.0.0/33"`},
		{"no ARN", Identity, with(ok + `,"Condition":{"ArnLike":{"aws:x":"*"}}`), textLegacy, "six components", `"*"}}`},
		{"too long", Identity, `{"Id":"` + strings.Repeat("x", MaxLength) + `"}`, textSyntax, "longer than 131072", "{"},
		{"10,000 statements", Identity, `{"Statement":[` + strings.Repeat(`{`+ok+`},`, 9999) + `{` + ok + `}]}`, textSyntax, "longer than 131072", "{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := Parse(c.kind, c.text)
			var m *MalformedError
			if !errors.As(err, &m) || doc != nil {
				t.Fatalf("taken: %+v, %v", doc, err)
			}
			if !strings.HasPrefix(m.Text, c.aws) || !strings.Contains(m.Reason, c.reason) || !strings.HasPrefix(c.text[m.Offset:], c.at) || c.at == "" && m.Offset != len(c.text) {
				t.Errorf("%v at %.40q", err, c.text[m.Offset:])
			}
			if a := m.AWS(); a.Code != "MalformedPolicyDocument" || a.Message != m.Error() || !strings.Contains(a.Message, m.Reason) {
				t.Errorf("AWS answers %v", a)
			}
		})
	}
}

func TestRefusalsOfJSON(t *testing.T) {
	for _, c := range []struct{ text, reason string }{
		{`{"a"}`, "a colon"}, {`{a:1}`, "double quotes"}, {`{"a":1,}`, "double quotes"}, {`{"a":1 "b":2}`, "a comma or the end of the object"}, {`{"a":[1 2]}`, "a comma or the end of the list"},
		{`{"a":[1,]}`, "not JSON"}, {`{"a":`, "ends too early"}, {`{"a":tru}`, "not JSON"}, {`{"a":01}`, "begins with zero"}, {`{"a":-}`, "a digit"}, {`{"a":1.}`, "a digit"}, {`{"a":1e}`, "a digit"}, {`{"a":1e+}`, "a digit"},
		{`{"a":.5}`, "not JSON"}, {`{"a":+1}`, "not JSON"}, {`{"a":NaN}`, "not JSON"}, {`{"a":1e400,"a":0}`, "duplicate"}, {"{\"a\":\"\n\"}", "control character"}, {"{\"a\":\"\x00\"}", "control character"},
		{"{\"a\":\"\x1f\"}", "control character"}, {"{\"a\":\"\xff\"}", "not UTF-8"}, {"{\"a\":\"\xc3(\"}", "not UTF-8"}, {`{"a":"\x"}`, "unknown escape"}, {`{"a":"\u12"}`, "no character"}, {`{"a":"\u12G4"}`, "no character"}, {`{"a":"\ud800"}`, "no character"},
		{`{"a":"\ud800\u0041"}`, "no character"}, {`{"a":"\ud800\ue000"}`, "no character"}, {`{"a":"\ud800\u00"}`, "no character"}, {`{"a":"\udc00"}`, "no character"}, {`{"a":"\ud800\ud800"}`, "no character"}, {`{"a":"\udc00\udc00"}`, "no character"}, {`{"a":"\ud800\udbff"}`, "no character"}, {`{"a":"\u0041`, "within a string"}, {`{"a":"x`, "within a string"}, {`{"a":"x\`, "within a string"}, {`{"a`, "within a string"},
		{"\ufeff{}", "not JSON"}, {"\u00a0{}", "not JSON"}, {"//\n{}", "not JSON"}, {"{'a':1}", "double quotes"}, {"{\x00}", "double quotes"}, {strings.Repeat("[", 10000), "too deeply"}, {strings.Repeat(`{"a":`, 13) + "1", "too deeply"}, {strings.Repeat("[", 12) + "1", "too deeply"},
		{`{"a":"x","b":[true,false,null,"\u12`, "no character"}, {`{} {}`, "follows"}, {`{"a":1}}`, "follows"}, {`{"a":"\u`, "no character"},
	} {
		if n, f := readJSON(c.text); f == nil || !strings.Contains(f.reason, c.reason) {
			t.Errorf("%.60q: %+v %+v", c.text, n, f)
		}
	}
}

func TestJSONIsReadAsWritten(t *testing.T) {
	deep := strings.Repeat("[", 11) + "1" + strings.Repeat("]", 11)
	for text, want := range map[string]string{
		` { "a" : [ 1 , -2.50e+3 , 0 , -0.1E-7 ] } `: `1|-2.50e+3|0|-0.1E-7`,
		`["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é"]`:    "\"\\/\b\f\n\r\té😀é",
		`["\uD83D\uDE00\uFFFD\uDBFF\uDFFF"]`:         "😀\ufffd\U0010ffff",
		`["\u0000\ue000\ud7ff"]`:                     "\x00\ue000\ud7ff",
		"[\t\r\ntrue,false,null,{},[]]":              "true|false|null||",
		`["\ud800\udc00"]`:                           "\U00010000",
		"9":                                          "9",
		"90":                                         "90",
		"0":                                          "0",
		"1.5":                                        "1.5",
		"2e9":                                        "2e9",
		"[0.0, 9.9e-9]":                              "0.0|9.9e-9",
		deep:                                         "1",
	} {
		n, f := readJSON(text)
		if f != nil {
			t.Errorf("%q: %+v", text, f)
			continue
		}
		var got []string
		var walk func(n *node)
		walk = func(n *node) {
			for i := range n.members {
				walk(&n.members[i].value)
			}
			for i := range n.items {
				walk(&n.items[i])
			}
			if len(n.members)+len(n.items) == 0 {
				got = append(got, n.text)
			}
		}
		walk(&n)
		if strings.Join(got, "|") != want {
			t.Errorf("%q reads as %q", text, got)
		}
	}
}

// Where encoding/json and the reader both take a document they must read the same.
func TestTheReaderAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range []string{`{"a":[1,"x",{"b":null}],"c":true}`, `["\u00e9\ud83d\ude00"]`, `{"":{"":[]}}`, `"\/"`} {
		n, f := readJSON(text)
		var want any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil || f != nil {
			t.Fatal(err, f)
		}
		if got := plainJSON(&n); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, not %v", text, got, want)
		}
	}
}

func plainJSON(n *node) any {
	switch n.kind {
	case objectNode:
		m := map[string]any{}
		for i := range n.members {
			m[n.members[i].name] = plainJSON(&n.members[i].value)
		}
		return m
	case arrayNode:
		l := []any{}
		for i := range n.items {
			l = append(l, plainJSON(&n.items[i]))
		}
		return l
	case stringNode:
		return n.text
	case boolNode:
		return n.text == "true"
	case numberNode:
		return json.Number(n.text)
	}
	return nil
}

// TestRefusalsAreLegible: what they quote is the client's.
func TestRefusalsAreLegible(t *testing.T) {
	for quoted, want := range map[string]string{
		`a\u0000b\n\ufffe\uffff`: "Resource a\ufffdb\ufffd\ufffd\ufffd must be", strings.Repeat("x", 4000): "Resource " + strings.Repeat("x", 391) + "...", strings.Repeat("é", 400): "Resource " + strings.Repeat("é", 195) + "...",
		strings.Repeat("x", 400-len(`Resource  must be in ARN format or "*".`)): `xx must be in ARN format or "*".`,
	} {
		_, err := Parse(Identity, with(`"Effect":"Allow","Action":"a:b","Resource":"`+quoted+`"`))
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
			t.Errorf("%.80q", err)
		}
	}
}

func TestPositions(t *testing.T) {
	text := "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\"Sid\": \"é\", \"Effect\": \"Allow\", \"Action\": \"ds:*\", \"Resource\": \"x\", \"Principal\": \"*\"}\n  ]\n}"
	_, err := Parse(Resource, text)
	if want := `Resource x must be in ARN format or "*". (line 4, column 67: neither an ARN nor a star)`; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	d, err := Parse(Resource, strings.Replace(text, `"x"`, `"*"`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if s := d.Statements[0]; s.Start.Line != 4 || s.Start.Column != 5 || s.End.Line != 4 || s.End.Column != 89 || s.End.Offset-s.Start.Offset != 85 {
		t.Errorf("%+v %+v", s.Start, s.End)
	}
	// A refusal that points back before what was read last.
	_, err = Parse(Identity, "{\"Statement\":[\n{\"Action\":\"ds:*\",\"Resource\":\"*\"}\n]}")
	if want := "Syntax errors in policy. (line 2, column 1: Effect is missing)"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// TestAccepted: what looks odd and is right.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		text string
	}{
		{"one statement without a list", Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`},
		{"numbers and booleans without quotes in conditions", Identity, with(`"Effect":"Allow","Action":"*:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"s3:max-keys":[10,1e1]},"Null":{"aws:x":false}}`)},
		{"no conditions in the blocks for them", Identity, with(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{}}`)},
		{"every letter and digit in a Sid, and in a service", Identity, with(`"Sid":"09AZaz","Effect":"Allow","Action":["09AZaz-.:x","a:b"],"Resource":"*","Condition":{"Bool":{"09AZaz-._/:x":"true"}}`)},
		{"as long as can be", Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}` + strings.Repeat(" ", MaxLength-60) + `}`},
		{"an empty Sid twice", Identity, `{"Id":"x y","Statement":[{"Sid":"","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"","Effect":"Deny","Action":"*","Resource":"*"}]}`},
		{"a sentence for the Sid of a resource's policy", Resource, with(`"Sid":"Ada's desks, all","Effect":"Allow","Action":"*","Resource":"*","Principal":"*"`)},
		{"a variable of the old version is text", Identity, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::x${","Condition":{"StringEquals":{"aws:x":"${"}}}]}`},
		{"a dollar that begins no variable", Identity, with(`"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::$x$","Condition":{"StringEquals":{"aws:x":"$"}}`)},
		{"stars for the rest of an ARN", Identity, with(`"Effect":"Allow","Action":"*","Resource":["arn:aws:ds:*","arn:aws-cn:ds:eu-*","arn:a?s:ds:a:b*","arn:*:ds:::","arn:aws:iam:*"]`)},
		{"resources of IAM", Identity, with(`"Effect":"Allow","Action":"*","Resource":["arn:aws:iam::123456789012:*","arn:aws:iam::*:root","arn:aws:iam::1:user*","arn:aws:iam::1:us?r/x","arn:aws:iam::1:${aws:PrincipalTag/kind}/x","arn:aws:iam::1:role/x*","arn:aws:iam::1:*/x"]`)},
		{"the example endpoint policy, of the old version and with an account of 13 digits", Endpoint, `{"Statement":[{"Action":"workspaces:*","Effect":"Allow","Resource":"arn:aws:workspaces:us-west-2:1234567891011:workspace/ws-f9abcdefg","Principal":{"AWS":["1234567891011"]}}]}`},
		{"principals of every form", Trust, with(`"Effect":"Allow","Action":["sts:AssumeRole","STS:TagSession"],"Principal":{"AWS":["*","123456789012","arn:aws:iam::123456789012:root","arn:aws:iam::123456789012:user/a/b","arn:aws:iam::123456789012:role/r","arn:aws:sts::123456789012:assumed-role/r/s","arn:aws:sts::123456789012:federated-user/f","AIDAEXAMPLEEXAMPLE01","AROAEXAMPLEEXAMPLE01"],"Service":["ec2.amazonaws.com"],"Federated":"arn:aws:iam::123456789012:saml-provider/okta"}`)},
		{"odd accounts in a resource's policy", Resource, with(`"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":{"AWS":["1","arn:aws:iam::1234567891011:root"]}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d, err := Parse(c.kind, c.text); err != nil {
				t.Error(err)
			} else if d.Kind != c.kind {
				t.Error(d.Kind)
			}
		})
	}
}

// TestCharactersThatAreNone: those beside the letters and digits.
func TestCharactersThatAreNone(t *testing.T) {
	for _, c := range []string{"/", ":", "@", "[", "`", "{", "-", ".", "_", "é"} {
		if _, err := Parse(Identity, with(`"Sid":"a`+c+`","Effect":"Allow","Action":"a:b","Resource":"*"`)); err == nil || !strings.Contains(err.Error(), textSidForm) {
			t.Errorf("a Sid with %s: %v", c, err)
		}
		if c == "-" || c == "." || c == ":" {
			continue
		}
		if _, err := Parse(Identity, with(`"Effect":"Allow","Action":"a`+c+`:b","Resource":"*"`)); err == nil || !strings.Contains(err.Error(), "Vendor") {
			t.Errorf("a service with %s: %v", c, err)
		}
	}
}

// TestPrincipalsThatAreNone: each beside one of the accepted forms.
func TestPrincipalsThatAreNone(t *testing.T) {
	for _, name := range []string{"", "ada", "12345678901", "AIDA", "AIDAexampleexample01", "ABCDEXAMPLEEXAMPLE01", "AIDA" + strings.Repeat("X", 11), "AIDA" + strings.Repeat("X", 125), "arn:aws:iam::123456789012:group/g", "arn:aws:iam::123456789012:root/x", "arn:aws:iam::123456789012:user", "arn:aws:iam::123456789012:user/",
		"arn:aws:iam::123456789012:role", "arn:aws:sts::123456789012:assumed-role/r", "arn:aws:sts::123456789012:assumed-role/r/", "arn:aws:sts::123456789012:assumed-role//s", "arn:aws:sts::123456789012:federated-user", "arn:aws:sts::123456789012:user/x", "arn:aws:iam:eu-central-1:123456789012:user/x",
		"arn:aws:iam::1234:user/x", "arn:aws:iam::x:user/x", "arn:aws:iam::123456789012:user/?", "arn:aws:iam::123456789012:federated-user/x"} {
		if _, err := Parse(Trust, with(`"Effect":"Allow","Action":"sts:*","Principal":{"AWS":"`+name+`"}`)); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"arn:aws:iam::x:user/x", "arn:aws:iam:::user/x"} {
		if _, err := Parse(Resource, with(`"Effect":"Allow","Action":"sts:*","Resource":"*","Principal":{"AWS":"`+name+`"}`)); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"AIDA" + strings.Repeat("X", 12), "AROA" + strings.Repeat("9", 124)} {
		if _, err := Parse(Trust, with(`"Effect":"Allow","Action":"sts:*","Principal":{"AWS":"`+name+`"}`)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Parse(Trust, with(`"Effect":"Allow","Action":"sts:*","Principal":{"Federated":""}`)); err == nil {
		t.Error("nobody is a provider")
	}
}

// TestPrintedDocumentsReadBackTheSame: parse, print, parse is identity.
func TestPrintedDocumentsReadBackTheSame(t *testing.T) {
	again := func(kind Kind, text string) {
		t.Helper()
		d, err := Parse(kind, text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		back, err := Parse(kind, d.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, d)
		}
		forget := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Start" || p.Last().String() == ".End" }, cmp.Ignore())
		if diff := cmp.Diff(d, back, forget); diff != "" || back.String() != d.String() {
			t.Fatalf("%s\n%s\n%s", diff, text, d)
		}
	}
	again(Identity, with(`"Sid":"x","Effect":"Deny","NotAction":["a:b","c:d"],"NotResource":"*","Condition":{"StringEquals":{"aws:x":["\"\\\n\u0000é",true,1.50],"aws:y":"a"},"Bool":{"aws:z":"true"},"Null":{}}`))
	again(Identity, `{"Id":"my \"id\"","Statement":{"Effect":"Allow","Action":"*","Resource":["*","arn:aws:ds:::x"]}}`)
	d := newDice(3, nil)
	for range 2000 {
		kind := d.kind()
		again(kind, encode(d.document(kind)))
	}
	want := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":["123456789012","*"],"Service":"ec2.amazonaws.com"},"Action":"sts:*","Condition":{"Bool":{"aws:x":"true","aws:y":["true","false"]},"Null":{"aws:z":"true"}}}]}`
	doc, err := Parse(Trust, want)
	if err != nil || doc.String() != want {
		t.Errorf("%v\n%s", err, doc)
	}
	star := `{"Version":"2008-10-17","Id":"i \u001f!","Statement":[{"Sid":"s t","Effect":"Deny","Principal":"*","NotAction":"a:b","NotResource":["arn:aws:ds:::x","*"]}]}`
	if doc, err = Parse(Endpoint, star); err != nil || doc.String() != star {
		t.Errorf("%v\n%s", err, doc)
	}
}

// TestManagedPoliciesOfWorkSpaces: what AWS ships is read, printed and compiled.
func TestManagedPoliciesOfWorkSpaces(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(Identity, string(text))
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if back, err := Parse(Identity, d.String()); err != nil || back.String() != d.String() {
			t.Errorf("%s: %v", f, err)
		}
		if err := ManagedQuota.Check("", string(text)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		r := &Request{Action: NewAction("workspaces:DescribeWorkspaces")}
		r.SetResource("arn:aws:workspaces:eu-central-1:123456789012:workspace/*")
		if got, want := Compile(d).Evaluate(r, nil).Decision, Allowed; filepath.Base(f) == "AmazonWorkSpacesAdmin.json" && got != want {
			t.Errorf("%s: %v", f, got)
		}
	}
}

// TestQuotas: reference 5.2, sizes do not count white space.
func TestQuotas(t *testing.T) {
	text := "{ \"Statement\":\t\"é" + strings.Repeat("x", 2048-17) + "\"}\r\n"
	if Size(text) != 2048 {
		t.Fatal(Size(text))
	}
	if err := TrustQuota.Check("role desk", text); err != nil {
		t.Error(err)
	}
	if err := TrustQuota.Check("role desk", text, "x"); err == nil || err.Code != "LimitExceeded" || err.Message != "Cannot exceed quota for ACLSizePerRole: 2048" {
		t.Error(err)
	}
	if err := InlineUserQuota.Check("user ada", text); err != nil {
		t.Error(err)
	}
	if err := InlineUserQuota.Check("user ada", text, "x"); err == nil || err.Message != "Maximum policy size of 2048 bytes exceeded for user ada" {
		t.Error(err)
	}
	if n, err := CheckPacked(text); n != 100 || err != nil {
		t.Error(n, err)
	}
	if n, err := CheckPacked(text, "x"); n != 101 || err == nil || err.Code != "PackedPolicyTooLarge" {
		t.Error(n, err)
	}
	if n, err := CheckPacked(); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := CheckPacked("x"); n != 1 || err != nil {
		t.Error(n, err)
	}
	for _, q := range []struct {
		Quota
		want int
	}{{ManagedQuota, 6144}, {TrustQuota, 2048}, {InlineUserQuota, 2048}, {InlineGroupQuota, 5120}, {InlineRoleQuota, 10240}, {SessionQuota, 2048}} {
		if q.Max != q.want {
			t.Error(q)
		}
	}
}

func TestContextKeys(t *testing.T) {
	d, err := Parse(Identity, with(`"Effect":"Allow","Action":"*","Resource":["arn:aws:ds:::${aws:username}/${*}","arn:aws:ds:::${AWS:UserName}"],"Condition":{"StringEquals":{"aws:RequestTag/b":"${aws:PrincipalTag/a, 'x'}"},"Bool":{"aws:SecureTransport":"true"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.ContextKeys(), []string{"aws:PrincipalTag/a", "aws:RequestTag/b", "aws:SecureTransport", "aws:username"}; !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
	if d, err = Parse(Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::${aws:username}"}}`); err != nil || len(d.ContextKeys()) != 0 {
		t.Error(err, d.ContextKeys())
	}
}

func TestKindsAndDecisionsHaveTheirNames(t *testing.T) {
	var got []string
	for k := Identity; k <= Endpoint; k++ {
		got = append(got, k.String())
	}
	got = append(got, Allow.String(), Deny.String(), ImplicitDeny.String(), ExplicitDeny.String(), Allowed.String(), NewKey("aws:UserName").String(), NewAction("a:B").String())
	want := "identity-based policy,permissions boundary,session policy,service control policy,role trust policy,resource-based policy,VPC endpoint policy,Allow,Deny,implicitDeny,explicitDeny,allowed,aws:username,a:B"
	if fmt.Sprint(strings.Join(got, ",")) != want {
		t.Error(got)
	}
}

// IAM-5: a principal that is written well and does not exist.
func TestAPrincipalThatDoesNotExistIsRefusedWithItsStatement(t *testing.T) {
	doc, err := Parse(Trust, "{\n \"Statement\": {\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::123456789012:user/ada\"},\"Action\":\"sts:AssumeRole\"}}")
	if err != nil {
		t.Fatal(err)
	}
	s := &doc.Statements[0]
	want := `Invalid principal in policy: "AWS":"arn:aws:iam::123456789012:user/ada" (line 2, column 15: no such user)`
	if got := s.InvalidPrincipal(s.Principals[0], "no such user").AWS().Message; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := s.InvalidPrincipal(PrincipalName{"AWS", strings.Repeat("\x01a", 9999)}, "no such user").Error(); len(got) > 1000 || strings.Contains(got, "\x01") {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
}
