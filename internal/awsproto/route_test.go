package awsproto

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

func TestRouteFindsTheOperation(t *testing.T) {
	c := newCodec(t)
	get := func(query string) *Request {
		return &Request{Method: "GET", Path: "/", RawQuery: query, Header: http.Header{}}
	}
	charset := jsonRequest("WorkspacesService.DescribeWorkspaces", `{}`)
	charset.Header.Set("Content-Type", "application/x-amz-json-1.1; charset=utf-8")
	for _, tt := range []struct {
		name, signing, want string
		r                   *Request
	}{
		{"by X-Amz-Target", "workspaces", "DescribeWorkspaces", jsonRequest("WorkspacesService.DescribeWorkspaces", `{}`)},
		{"by X-Amz-Target, charset given", "workspaces", "DescribeWorkspaces", charset},
		{"by a target prefix with dots", "cloudtrail", "LookupEvents", jsonRequest("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents", `{}`)},
		{"by Action in the body", "sts", "GetCallerIdentity", formRequest("Action=GetCallerIdentity&Version=2011-06-15")},
		{"by Action without Version", "sts", "GetCallerIdentity", formRequest("Action=GetCallerIdentity")},
		{"by Action in the query string", "sts", "GetCallerIdentity", get("Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=0")},
		{"by Action for EC2", "ec2", "DescribeVpcs", formRequest("Action=DescribeVpcs&Version=2016-11-15")},
		{"by path", "ds-data", "CreateUser", restRequest("/Users/CreateUser", "DirectoryId=d-1234567890", `{}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			op, err := c.Route(tt.signing, tt.r)
			if err != nil || op.Name != tt.want || op.Service.SigningName != tt.signing {
				t.Errorf("got %v, %v", op, err)
			}
		})
	}
}

func TestRouteRefuses(t *testing.T) {
	c := newCodec(t)
	const target = "WorkspacesService.DescribeWorkspaces"
	change := func(r *Request, f func(*Request)) *Request { f(r); return r }
	stsForm := func() *Request { return formRequest("Action=GetCallerIdentity&Version=2011-06-15") }
	for _, tt := range []struct {
		name, signing string
		r             *Request
		kind          awserr.Kind
	}{
		{"SIG-10 a service that is not served", "s3", jsonRequest(target, `{}`), awserr.UnknownOperation},
		{"SIG-10 a signing name in another case", "WorkSpaces", jsonRequest(target, `{}`), awserr.UnknownOperation},
		{"SIG-10 another service's target", "workspaces", jsonRequest("DirectoryService_20150416.DescribeDirectories", `{}`), awserr.UnknownOperation},
		{"SIG-10 another service's scope", "ds", jsonRequest(target, `{}`), awserr.UnknownOperation},
		{"SIG-10 a target in another case", "workspaces", jsonRequest("WorkspacesService.describeWorkspaces", `{}`), awserr.UnknownOperation},
		{"SIG-10 a prefix in another case", "workspaces", jsonRequest("workspacesservice.DescribeWorkspaces", `{}`), awserr.UnknownOperation},
		{"SIG-10 a target with a newline", "workspaces", jsonRequest(target+"\n", `{}`), awserr.UnknownOperation},
		{"SIG-10 a target with a space", "workspaces", jsonRequest(" "+target, `{}`), awserr.UnknownOperation},
		{"SIG-10 a target with a NUL", "workspaces", jsonRequest(target+"\x00", `{}`), awserr.UnknownOperation},
		{"SIG-10 a target with a namespace", "workspaces", jsonRequest("x#"+target, `{}`), awserr.UnknownOperation},
		{"SIG-10 a target without an operation", "workspaces", jsonRequest("WorkspacesService.", `{}`), awserr.UnknownOperation},
		{"SIG-10 a target without a prefix", "workspaces", jsonRequest("DescribeWorkspaces", `{}`), awserr.UnknownOperation},
		{"SIG-10 two targets in a list", "workspaces", jsonRequest(target+", "+target, `{}`), awserr.UnknownOperation},
		{"SIG-10 two targets", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.Header.Add("X-Amz-Target", target) }), awserr.UnknownOperation},
		{"SIG-10 no target", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.Header.Del("X-Amz-Target") }), awserr.UnknownOperation},
		{"SIG-10 a target and an Action in the query string", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.RawQuery = "Action=TerminateWorkspaces" }), awserr.UnknownOperation},
		{"SIG-10 a target and an action in lower case", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.RawQuery = "action=x" }), awserr.UnknownOperation},
		{"SIG-10 a target in header and query string", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.RawQuery = "X-Amz-Target=" + target }), awserr.UnknownOperation},
		{"SIG-10 a target in the query string alone, in another case", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) {
			r.Header.Del("X-Amz-Target")
			r.RawQuery = "x-amz-target=" + target
		}), awserr.UnknownOperation},
		{"a target by GET", "workspaces", change(jsonRequest(target, ``), func(r *Request) { r.Method = "GET" }), awserr.UnknownOperation},
		{"a target on another path", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.Path = "//" }), awserr.UnknownOperation},
		{"a target with a form's content type", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), awserr.UnknownOperation},
		{"a target with two content types", "workspaces", change(jsonRequest(target, `{}`), func(r *Request) { r.Header.Add("Content-Type", "application/x-amz-json-1.1") }), awserr.UnknownOperation},
		{"SIG-10 an Action and a target", "sts", change(stsForm(), func(r *Request) { r.Header.Set("X-Amz-Target", target) }), awserr.UnknownOperation},
		{"SIG-10 an Action and a target in the query string", "sts", change(stsForm(), func(r *Request) { r.RawQuery = "X-Amz-Target=" + target }), awserr.UnknownOperation},
		{"SIG-10 an Action and a target in the body", "sts", formRequest("Action=GetCallerIdentity&x-amz-target=a.b"), awserr.UnknownOperation},
		{"SIG-10 an Action in body and query string", "sts", change(stsForm(), func(r *Request) { r.RawQuery = "Action=GetCallerIdentity" }), awserr.Serialization},
		{"SIG-10 an Action twice", "sts", formRequest("Action=GetCallerIdentity&Action=AssumeRole"), awserr.Serialization},
		{"SIG-10 an Action twice in two encodings", "sts", formRequest("Action=GetCallerIdentity&%41ction=AssumeRole"), awserr.Serialization},
		{"SIG-10 an Action in another case", "sts", formRequest("Action=getCallerIdentity"), awserr.UnknownOperation},
		{"SIG-10 an Action with a newline", "sts", formRequest("Action=GetCallerIdentity%0A"), awserr.UnknownOperation},
		{"SIG-10 a lower-case action", "sts", formRequest("action=GetCallerIdentity"), awserr.UnknownOperation},
		{"SIG-10 another service's Action", "sts", formRequest("Action=DescribeVpcs"), awserr.UnknownOperation},
		{"no Action", "sts", formRequest("Version=2011-06-15"), awserr.UnknownOperation},
		{"another Version", "ec2", formRequest("Action=DescribeVpcs&Version=2014-10-01"), awserr.UnknownOperation},
		{"a form by PUT", "sts", change(stsForm(), func(r *Request) { r.Method = "PUT" }), awserr.UnknownOperation},
		{"a form on another path", "sts", change(stsForm(), func(r *Request) { r.Path = "/x" }), awserr.UnknownOperation},
		{"a form without a content type", "sts", change(stsForm(), func(r *Request) { r.Header.Del("Content-Type") }), awserr.Serialization},
		{"a form that calls itself JSON", "sts", change(stsForm(), func(r *Request) { r.Header.Set("Content-Type", "application/json") }), awserr.Serialization},
		{"a form in another charset", "sts", change(stsForm(), func(r *Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-16") }), awserr.Serialization},
		{"another path", "ds-data", restRequest("/Users/Create", "", `{}`), awserr.UnknownOperation},
		{"a path in another case", "ds-data", restRequest("/users/CreateUser", "", `{}`), awserr.UnknownOperation},
		{"SIG-10 a path in another encoding", "ds-data", restRequest("/Users/%43reateUser", "", `{}`), awserr.UnknownOperation},
		{"SIG-10 a path with two slashes", "ds-data", restRequest("//Users/CreateUser", "", `{}`), awserr.UnknownOperation},
		{"SIG-10 a path with dots", "ds-data", restRequest("/Users/x/../CreateUser", "", `{}`), awserr.UnknownOperation},
		{"a path with a slash at the end", "ds-data", restRequest("/Users/CreateUser/", "", `{}`), awserr.UnknownOperation},
		{"an empty path", "ds-data", restRequest("", "", `{}`), awserr.UnknownOperation},
		{"a path by another method", "ds-data", change(restRequest("/Users/CreateUser", "", `{}`), func(r *Request) { r.Method = "GET" }), awserr.UnknownOperation},
		{"SIG-10 a path and a target", "ds-data", change(restRequest("/Users/CreateUser", "", `{}`), func(r *Request) { r.Header.Set("X-Amz-Target", "x.CreateUser") }), awserr.UnknownOperation},
		{"SIG-10 a path and an Action", "ds-data", restRequest("/Users/CreateUser", "Action=DeleteUser", `{}`), awserr.UnknownOperation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			op, err := c.Route(tt.signing, tt.r)
			if err == nil {
				t.Fatalf("routed to %s", op.Name)
			}
			if err.Kind != tt.kind {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
		})
	}
}

func TestRESTMembersTravelInTheirPlaces(t *testing.T) {
	c, s := handCodec(t, shape.RESTJSON)
	op := s.Operation("Locate")
	request := func() *Request {
		return &Request{Method: "PUT", Path: "/in/a%2Fb%20c/rest/x/y%3F", RawQuery: "q=a+b&many=1&many=2&other=3", Body: []byte(`{"Body":"b"}`),
			Header: http.Header{"X-Head": {"h"}, "X-When": {"Fri, 02 Jan 2026 03:04:05 GMT"}}}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	full := located{Name: shape.Ptr("a/b c"), Rest: shape.Ptr("x/y?"), Query: shape.Ptr("a b"), Many: []int32{1, 2}, Head: shape.Ptr("h"), When: &at, Body: shape.Ptr("b")}
	if got, err := c.Decode(op, request()); err != nil || !reflect.DeepEqual(got, &full) {
		t.Errorf("got %s, %v", mustJSON(t, got), err)
	}
	if got, err := c.Route("hand", request()); err != nil || got != op {
		t.Errorf("routed to %v, %v", got, err)
	}
	for _, tt := range []struct {
		name, text string
		change     func(*Request)
	}{
		{"a query parameter twice", "Duplicate parameter at 'q'", func(r *Request) { r.RawQuery = "q=a&q=b" }},
		{"a header twice", "Duplicate parameter at 'x-head'", func(r *Request) { r.Header.Add("X-Head", "i") }},
		{"a wrong type in the query string", "can not be converted to an Integer at 'many.2.member'", func(r *Request) { r.RawQuery = "many=1&many=x" }},
		{"a timestamp that is none in a header", "Invalid timestamp at 'x-when'", func(r *Request) { r.Header.Set("X-When", "1767323045") }},
		{"bad encoding in the path", "Invalid encoding of the path at 'name'", func(r *Request) { r.Path = "/in/%ff/rest/x" }},
		{"bad encoding in the query string", "Invalid encoding of a value at 'q'", func(r *Request) { r.RawQuery = "q=%f" }},
		{"an empty label", "The path is not the operation's", func(r *Request) { r.Path = "/in//rest/x" }},
		{"SIG-10 a member of the query string in the body", "Member does not belong into the body at 'q'", func(r *Request) { r.Body = []byte(`{"q":"other"}`) }},
		{"bad JSON", "Invalid JSON", func(r *Request) { r.Body = []byte(`{`) }},
	} {
		t.Run("refused: "+tt.name, func(t *testing.T) {
			r := request()
			tt.change(r)
			if got, err := c.Decode(op, r); err == nil || err.Kind != awserr.Serialization || !strings.Contains(err.Message, tt.text) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("an empty body is an empty structure", func(t *testing.T) {
		r := request()
		r.Body = nil
		if got, err := c.Decode(op, r); err != nil || got.(*located).Body != nil {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("output", func(t *testing.T) {
		resp, err := c.Encode(op, &located{Head: shape.Ptr("h"), When: &at, Body: shape.Ptr("b"), Status: shape.Ptr(int32(201))}, "r")
		if err != nil || resp.Status != 201 || resp.Header.Get("X-Head") != "h" || resp.Header.Get("X-When") != "Fri, 02 Jan 2026 03:04:05 GMT" || string(resp.Body) != `{"Body":"b"}` {
			t.Errorf("got %+v %s, %v", resp, resp.Body, err)
		}
	})
	t.Run("output that would break out of its header", func(t *testing.T) {
		if resp, err := c.Encode(op, &located{Head: shape.Ptr("h\r\nSet-Cookie: x")}, "r"); err == nil || err.Status != 500 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
}

// FuzzRoute checks that whatever routes names its operation in exactly one way, spelt exactly as the model does.
func FuzzRoute(f *testing.F) {
	c := newCodec(f)
	f.Add("POST", "/", "", "WorkspacesService.DescribeWorkspaces", "application/x-amz-json-1.1", "{}")
	f.Add("POST", "/", "", "", "application/x-www-form-urlencoded", "Action=GetCallerIdentity&Version=2011-06-15")
	f.Add("GET", "/", "Action=DescribeVpcs", "", "", "")
	f.Add("POST", "/Users/CreateUser", "DirectoryId=d-1", "", "application/json", "{}")
	f.Fuzz(func(t *testing.T, method, path, query, target, contentType, body string) {
		r := &Request{Method: method, Path: path, RawQuery: query, Header: http.Header{}, Body: []byte(body)}
		if target != "" {
			r.Header["X-Amz-Target"] = []string{target}
		}
		if contentType != "" {
			r.Header["Content-Type"] = []string{contentType}
		}
		for _, s := range allServices {
			op, err := c.Route(s.SigningName, r)
			if (op == nil) == (err == nil) {
				t.Fatalf("%v and %v", op, err)
			}
			if err != nil {
				if err.Kind != awserr.UnknownOperation && err.Kind != awserr.Serialization {
					t.Fatalf("%v", err)
				}
				continue
			}
			if op.Service != s {
				t.Fatalf("%s reached %s", s.Name, op.Service.Name)
			}
			switch s.Protocol {
			case shape.AWSJSON:
				if target != s.TargetPrefix+"."+op.Name {
					t.Fatalf("%q reached %s", target, op.Name)
				}
			case shape.RESTJSON:
				if path != op.URI || target != "" {
					t.Fatalf("%q %q reached %s", path, target, op.Name)
				}
			default:
				if target != "" || !strings.Contains(query+body, "ction") {
					t.Fatalf("%q %q %q reached %s", target, query, body, op.Name)
				}
			}
			// Whatever routes also decodes or is refused in words; it never panics.
			if _, err := c.Decode(op, r); err != nil && err.Kind != awserr.Serialization {
				t.Fatalf("%v", err)
			}
		}
	})
}
