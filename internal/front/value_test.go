package front_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"carrel/internal/api/shape"
)

// candidates are texts of which one fits every required string of every model. A new operation with a string that none fits fails the
// matrix until one that does is added here.
var candidates = []string{
	"a", "abc", "ab-cd", "aB1!aB1!", "abcdefgh", "aB1!aB1!aB1!", "abcdefghijklmnopqrst", "abcdefghijklmnopqrstuvwxyzabcdef", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrst",
	"v1", "0", "123456", "123456789012", "true", "10.0.0.1", "10.0.0.1/32", "a.example.com", "example.com", "a@example.com", "https://example.com/", "us-east-1", "+12025550100",
	"d-0123456789", "ws-0a1b2c3d4", "wsb-0a1b2c3d4", "wsi-0a1b2c3d4", "wsipg-0a1b2c3d4", "wsca-0a1b2c3d4", "wspool-0a1b2c3d4", "wsapp-0a1b2c3d4", "wsbl-0a1b2c3d4", "wsub-0a1b2c3d4",
	"wscn-0a1b2c3d4", "wsmi-0a1b2c3d4", "amp-1234567890", "t-0123456789", "s-0123456789", "r-0123456789", "c-0123456789", "e-0123456789", "ls-0123456789",
	"vpc-0a1b2c3d4e5f60718", "vpc-01234567", "subnet-0a1b2c3d4e5f60718", "subnet-01234567", "sg-01234567", "ami-0a1b2c3d4e5f60718", "eni-0a1b2c3d4e5f60718",
	"arn:aws:iam::123456789012:user/abc", "arn:aws:iam::123456789012:role/abc", "arn:aws:iam::123456789012:policy/abc", "arn:aws:kms:us-east-1:123456789012:key/abc",
	"arn:aws:cloudtrail:us-east-1:123456789012:trail/abc", "arn:aws:sns:us-east-1:123456789012:abc", "arn:aws:s3:::abc", "arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/12345678-1234-1234-1234-123456789012",
	"arn:aws:workspaces:us-east-1:123456789012:workspace/ws-0a1b2c3d4", "arn:aws:workspaces:us-east-1:123456789012:workspaceapplication/wsa-0a1b2c3d4",
	"arn:aws:imagebuilder:us-east-1:123456789012:infrastructure-configuration/abc", "arn:aws:pca-connector-ad:us-east-1:123456789012:connector/12345678-1234-1234-1234-123456789012", "link-0123456789abcdef01234567", "wsa-0a1b2c3d4", "12345678-1234-1234-1234-123456789012", "S-1-5-21-1", "AKIAIOSFODNN7EXAMPLE", "SELECT 1", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
}

// text is the first candidate that fits s.
func text(t testing.TB, where string, s *shape.Shape) string {
	t.Helper()
	c := s.Check
	if c == nil {
		return "a"
	}
	if len(c.Enum) > 0 {
		return c.Enum[0]
	}
	fits := func(v string) bool {
		if n := int64(len(v)); c.HasMin && n < c.Min || c.HasMax && n > c.Max {
			return false
		}
		if c.Pattern == "" {
			return true
		}
		p, err := shape.CompilePattern(c.Pattern)
		return err == nil && p.Match(v)
	}
	for _, v := range candidates {
		if fits(v) {
			return v
		}
	}
	if long := strings.Repeat("a", int(c.Min)); fits(long) {
		return long
	}
	t.Errorf("%s: no candidate fits %s (%+v): add one", where, s.Name, *c)
	return ""
}

// member is one required member with its value: a string, a number, a []any, or a []member.
type member struct {
	field *shape.Field
	value any
}

// smallest is the smallest value that s allows; nested is false for an operation's whole input.
func smallest(t testing.TB, where string, s *shape.Shape, nested bool) any {
	t.Helper()
	least := int64(1)
	if s.Check != nil && s.Check.HasMin {
		least = max(least, s.Check.Min)
	}
	switch s.Kind {
	case shape.Structure:
		members := []member{}
		for i := range s.Fields {
			f := &s.Fields[i]
			if f.Required || s.Union && i == 0 {
				members = append(members, member{f, smallest(t, where+"."+f.Name, f.Of, true)})
			}
		}
		for i := range s.Fields {
			// A form cannot say that an empty structure is there.
			if f := &s.Fields[i]; len(members) == 0 && nested && f.Of.Kind > shape.Map {
				members = append(members, member{f, smallest(t, where+"."+f.Name, f.Of, true)})
			}
		}
		return members
	case shape.List:
		list := []any{}
		for range least {
			list = append(list, smallest(t, where+"[]", s.Elem, true))
		}
		return list
	case shape.Map:
		return map[string]any{text(t, where+" key", s.Key): smallest(t, where+"[]", s.Elem, true)}
	case shape.String:
		return text(t, where, s)
	case shape.Boolean:
		return false
	case shape.Timestamp:
		return int64(1_700_000_000)
	case shape.Blob:
		return "AAAA"
	}
	return least
}

// plain is v as encoding/json writes it.
func plain(v any) any {
	switch v := v.(type) {
	case []member:
		m := map[string]any{}
		for _, x := range v {
			m[wire(x.field)] = plain(x.value)
		}
		return m
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, plain(e))
		}
		return out
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = plain(e)
		}
		return m
	}
	return v
}

func wire(f *shape.Field) string {
	if f.Wire != "" {
		return f.Wire
	}
	return f.Name
}

// form writes v below prefix as the query protocols do.
func form(out url.Values, ec2 bool, prefix string, s *shape.Shape, flat bool, v any) {
	below := func(name string) string {
		if prefix == "" {
			return name
		}
		return prefix + "." + name
	}
	switch v := v.(type) {
	case []member:
		for _, x := range v {
			name := wire(x.field)
			if ec2 {
				if name = x.field.Query; name == "" {
					name = wire(x.field)
					name = strings.ToUpper(name[:1]) + name[1:]
				}
			}
			form(out, ec2, below(name), x.field.Of, x.field.Flat, x.value)
		}
	case []any:
		if !ec2 && !flat && !s.Flat {
			element := s.ElemName
			if element == "" {
				element = "member"
			}
			prefix = below(element)
		}
		for i, e := range v {
			form(out, ec2, prefix+"."+strconv.Itoa(i+1), s.Elem, false, e)
		}
	case int64:
		if s.Kind == shape.Timestamp {
			out.Set(prefix, "2026-01-01T00:00:00Z")
			return
		}
		out.Set(prefix, strconv.FormatInt(v, 10))
	case bool:
		out.Set(prefix, strconv.FormatBool(v))
	case string:
		out.Set(prefix, v)
	}
}

// smallestCall is the smallest valid request of an operation, unsigned.
func smallestCall(t testing.TB, op *shape.Operation) *call {
	t.Helper()
	have, ok := smallestCalls.Load(op)
	if !ok {
		have, _ = smallestCalls.LoadOrStore(op, makeSmallestCall(t, op))
	}
	c := *have.(*call)
	c.header, c.body = c.header.Clone(), slices.Clone(c.body)
	return &c
}

// smallestCalls are those made before: the matrix asks for each many times.
var smallestCalls sync.Map

func makeSmallestCall(t testing.TB, op *shape.Operation) *call {
	t.Helper()
	members := []member{}
	if op.Input != nil {
		members = smallest(t, op.Service.Name+" "+op.Name, op.Input, false).([]member)
	}
	c := &call{method: op.Method, path: op.URI, header: http.Header{}}
	switch op.Service.Protocol {
	case shape.AWSQuery, shape.EC2Query:
		values := url.Values{"Action": {op.Name}, "Version": {op.Service.APIVersion}}
		form(values, op.Service.Protocol == shape.EC2Query, "", op.Input, false, members)
		c.method, c.path, c.body = http.MethodPost, "/", []byte(values.Encode())
		c.header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		return c
	case shape.RESTJSON:
		query, inBody := url.Values{}, []member{}
		for _, m := range members {
			switch m.field.Location {
			case shape.InQuery:
				query.Set(wire(m.field), m.value.(string))
			case shape.InBody:
				inBody = append(inBody, m)
			default:
				t.Fatalf("%s: %s travels in a place this test does not know", op.Name, m.field.Name)
			}
		}
		c.query, members = query.Encode(), inBody
		c.header.Set("Content-Type", "application/json")
	default:
		c.header.Set("Content-Type", "application/x-amz-json-1.1")
		c.header.Set("X-Amz-Target", op.Service.TargetPrefix+"."+op.Name)
	}
	body, err := json.Marshal(plain(members))
	if err != nil {
		t.Fatal(err)
	}
	c.body = body
	return c
}
