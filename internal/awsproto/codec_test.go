package awsproto

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
)

// allServices are the services of the generated packages.
var allServices = []*shape.Service{workspaces.Service, ds.Service, dsdata.Service, sts.Service, iam.Service, ec2.Service, cloudtrail.Service}

func newCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec(allServices...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func jsonRequest(target, body string) *Request {
	return &Request{Method: "POST", Path: "/", Body: []byte(body), Header: http.Header{
		"X-Amz-Target": {target}, "Content-Type": {"application/x-amz-json-1.1"}}}
}

func formRequest(body string) *Request {
	return &Request{Method: "POST", Path: "/", Body: []byte(body), Header: http.Header{
		"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}}
}

func restRequest(path, query, body string) *Request {
	return &Request{Method: "POST", Path: path, RawQuery: query, Body: []byte(body), Header: http.Header{
		"Content-Type": {"application/json"}}}
}

// everything is a structure with a member of every kind, for what the generated models do not use.
type everything struct {
	Text   *string
	Yes    *bool
	Small  *int32
	Big    *int64
	Single *float32
	Real   *float64
	When   *time.Time
	IsoTs  *time.Time
	Data   []byte
	Texts  []string
	Flats  []string
	Nested [][]int32
	Tags   map[string]string
	FlatBy map[string]int32
	Deep   map[string][]string
	Self   *everything
	Selves []everything
	Blobs  [][]byte
	Times  []time.Time
}

func everythingShape() *shape.Shape {
	str, num, list := &shape.Shape{Kind: shape.String}, &shape.Shape{Kind: shape.Integer}, func(e *shape.Shape) *shape.Shape {
		return &shape.Shape{Kind: shape.List, Elem: e}
	}
	self := &shape.Shape{Name: "Everything", Kind: shape.Structure}
	self.Fields = []shape.Field{
		{Name: "Text", Of: str},
		{Name: "Yes", Of: &shape.Shape{Kind: shape.Boolean}},
		{Name: "Small", Of: num},
		{Name: "Big", Of: &shape.Shape{Kind: shape.Long}},
		{Name: "Single", Of: &shape.Shape{Kind: shape.Float}},
		{Name: "Real", Of: &shape.Shape{Kind: shape.Double}},
		{Name: "When", Of: &shape.Shape{Kind: shape.Timestamp}},
		{Name: "IsoTs", Of: &shape.Shape{Kind: shape.Timestamp, TimeFormat: "iso8601"}},
		{Name: "Data", Of: &shape.Shape{Kind: shape.Blob}},
		{Name: "Texts", Of: list(str)},
		{Name: "Flats", Of: &shape.Shape{Kind: shape.List, Elem: str, ElemName: "Flat", Flat: true}},
		{Name: "Nested", Of: list(list(num))},
		{Name: "Tags", Of: &shape.Shape{Kind: shape.Map, Key: str, Elem: str, KeyName: "K", ValueName: "V"}},
		{Name: "FlatBy", Of: &shape.Shape{Kind: shape.Map, Key: str, Elem: num}, Flat: true},
		{Name: "Deep", Of: &shape.Shape{Kind: shape.Map, Key: str, Elem: list(str)}},
		{Name: "Self", Of: self},
		{Name: "Selves", Of: list(self)},
		{Name: "Blobs", Of: list(&shape.Shape{Kind: shape.Blob})},
		{Name: "Times", Of: list(&shape.Shape{Kind: shape.Timestamp})},
	}
	return self
}

// located is an input and output with a member in every place of a restJson request.
type located struct {
	Name   *string
	Rest   *string
	Query  *string
	Many   []int32
	Head   *string
	When   *time.Time
	Body   *string
	Status *int32
}

func locatedShape() *shape.Shape {
	str := &shape.Shape{Kind: shape.String}
	return &shape.Shape{Name: "Located", Kind: shape.Structure, Fields: []shape.Field{
		{Name: "Name", Wire: "name", Of: str, Location: shape.InURI},
		{Name: "Rest", Of: str, Location: shape.InURI},
		{Name: "Query", Wire: "q", Of: str, Location: shape.InQuery},
		{Name: "Many", Wire: "many", Of: &shape.Shape{Kind: shape.List, Elem: &shape.Shape{Kind: shape.Integer}}, Location: shape.InQuery},
		{Name: "Head", Wire: "x-head", Of: str, Location: shape.InHeader},
		{Name: "When", Wire: "x-when", Of: &shape.Shape{Kind: shape.Timestamp}, Location: shape.InHeader},
		{Name: "Body", Of: str},
		{Name: "Status", Of: &shape.Shape{Kind: shape.Integer}, Location: shape.InStatus},
	}}
}

// handMade is a service of one operation, Do, over everything; in restJson there is a second one, Locate.
func handMade(proto shape.Protocol) *shape.Service {
	s := &shape.Service{Name: "hand", SigningName: "hand", Protocol: proto, TargetPrefix: "Hand", APIVersion: "2026-01-01", XMLNamespace: "urn:hand"}
	fresh := func() any { return new(everything) }
	op := &shape.Operation{Service: s, Name: "Do", Input: everythingShape(), Output: everythingShape(), NewInput: fresh, NewOutput: fresh, Method: "POST", URI: "/do"}
	s.Operations = []*shape.Operation{op}
	switch proto {
	case shape.AWSQuery:
		op.ResultWrapper = "DoResult"
	case shape.RESTJSON:
		place := func() any { return new(located) }
		s.Operations = append(s.Operations, &shape.Operation{Service: s, Name: "Locate", Input: locatedShape(), Output: locatedShape(),
			NewInput: place, NewOutput: place, Method: "PUT", URI: "/in/{name}/rest/{Rest+}"})
	}
	return s
}

func handCodec(t testing.TB, proto shape.Protocol) (*Codec, *shape.Service) {
	t.Helper()
	s := handMade(proto)
	c, err := NewCodec(s)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestNewCodecRefusesDescriptorsThatDoNotFitTheirStructs(t *testing.T) {
	type two struct{ A, B *string }
	type swapped struct{ B, A *string }
	type plain struct {
		A string
		B *string
	}
	str := &shape.Shape{Kind: shape.String}
	in := &shape.Shape{Name: "Two", Kind: shape.Structure, Fields: []shape.Field{{Name: "a", Of: str}, {Name: "b", Of: str}}}
	service := func(fresh func() any, in *shape.Shape) *shape.Service {
		s := &shape.Service{Name: "x", SigningName: "x"}
		s.Operations = []*shape.Operation{{Service: s, Name: "Op", Input: in, NewInput: fresh, NewOutput: func() any { return &struct{}{} }}}
		return s
	}
	if _, err := NewCodec(service(func() any { return new(two) }, in)); err != nil {
		t.Fatalf("a fitting struct is refused: %v", err)
	}
	for name, s := range map[string]*shape.Service{
		"fields in another order":       service(func() any { return new(swapped) }, in),
		"a member without a pointer":    service(func() any { return new(plain) }, in),
		"a constructor of a non-struct": service(func() any { return new(string) }, in),
		"a member more than fields":     service(func() any { return &struct{ A *string }{} }, in),
		"a kind the type cannot hold": service(func() any { return &struct{ A *int32 }{} }, &shape.Shape{Kind: shape.Structure,
			Fields: []shape.Field{{Name: "A", Of: str}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewCodec(s); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("two services of one signing name", func(t *testing.T) {
		if _, err := NewCodec(sts.Service, sts.Service); err == nil {
			t.Error("accepted")
		}
	})
}

func TestEncodeRefusesAnOutputOfAnotherOperation(t *testing.T) {
	c := newCodec(t)
	op := workspaces.Service.Operation("DescribeWorkspaces")
	if _, err := c.Encode(op, new(everything), "r"); err == nil || err.Status != 500 {
		t.Errorf("got %v, want a fault", err)
	}
	if _, err := c.Encode(handMade(shape.AWSJSON).Operations[0], new(everything), "r"); err == nil || err.Status != 500 {
		t.Errorf("foreign operation: got %v, want a fault", err)
	}
}

func TestEncodeOfNothingIsAnEmptyAnswer(t *testing.T) {
	c := newCodec(t)
	for op, want := range map[*shape.Operation]string{
		workspaces.Service.Operation("DescribeWorkspaces"): `{}`,
		dsdata.Service.Operation("DeleteUser"):             `{}`,
		iam.Service.Operation("DeleteUser"): `<DeleteUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">` +
			`<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></DeleteUserResponse>`,
		ec2.Service.Operation("DeleteVpc"): xmlDeclaration + `<DeleteVpcResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15">` +
			`<requestId>r-1</requestId><return>true</return></DeleteVpcResponse>`,
	} {
		resp, err := c.Encode(op, nil, "r-1")
		if err != nil {
			t.Fatal(err)
		}
		if string(resp.Body) != want || resp.Status != 200 || resp.Header.Get("x-amzn-RequestId") != "r-1" {
			t.Errorf("%s: got %d %v\n%s\nwant\n%s", op.Name, resp.Status, resp.Header, resp.Body, want)
		}
	}
}

// fullEverything has a value in every member, with whole seconds so that all protocols carry it.
func fullEverything() *everything {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &everything{
		Text: shape.Ptr("a<b>&\"'\u00e9\n\r\t\U0001f600\u2028"), Yes: shape.Ptr(true), Small: shape.Ptr(int32(-7)), Big: shape.Ptr(int64(1) << 62),
		Single: shape.Ptr(float32(1.5)), Real: shape.Ptr(1e-9), When: &at, IsoTs: &at, Data: []byte{0, 255, 1}, Texts: []string{"x", ""}, Flats: []string{"f", "g"},
		Nested: [][]int32{{1, 2}, {3}}, Tags: map[string]string{"k": "v", "K": ""}, FlatBy: map[string]int32{"one": 1},
		Deep: map[string][]string{"d": {"e"}}, Self: &everything{Small: shape.Ptr(int32(0))}, Selves: []everything{{Text: shape.Ptr("")}, {Yes: shape.Ptr(false)}},
		Blobs: [][]byte{{1}}, Times: []time.Time{at},
	}
}

func TestEveryKindSurvivesItsOwnProtocol(t *testing.T) {
	t.Run("awsJson", func(t *testing.T) {
		c, s := handCodec(t, shape.AWSJSON)
		resp, err := c.Encode(s.Operations[0], fullEverything(), "r")
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Decode(s.Operations[0], jsonRequest("Hand.Do", string(resp.Body)))
		if err != nil || !reflect.DeepEqual(got, fullEverything()) {
			t.Errorf("%v\n%s", err, resp.Body)
		}
	})
	for _, proto := range []shape.Protocol{shape.AWSQuery, shape.EC2Query} {
		t.Run(fmt.Sprintf("forms of protocol %d", proto), func(t *testing.T) {
			c, s := handCodec(t, proto)
			got, err := c.Decode(s.Operations[0], formRequest(everythingForm(proto)))
			if err != nil || !reflect.DeepEqual(got, fullEverything()) {
				t.Errorf("%v\n got %+v\nwant %+v", err, got, fullEverything())
			}
		})
	}
}

// everythingForm is fullEverything as a client writes it.
func everythingForm(proto shape.Protocol) string {
	member, flat := ".member", "Flat"
	if proto == shape.EC2Query {
		member, flat = "", "Flats"
	}
	return strings.NewReplacer("@", member, "!", flat).Replace("Action=Do&Version=2026-01-01&Text=a%3Cb%3E%26%22%27%C3%A9%0A%0D%09%F0%9F%98%80%E2%80%A8&Yes=true&Small=-7&Big=4611686018427387904" +
		"&Single=1.5&Real=1e-09&When=2026-01-02T03:04:05Z&IsoTs=2026-01-02T04:04:05.000%2B01:00&Data=AP8B&Texts@.1=x&Texts@.2=&!.1=f&!.2=g" +
		"&Nested@.1@.1=1&Nested@.1@.2=2&Nested@.2@.1=3&Tags.entry.1.K=k&Tags.entry.1.V=v&Tags.entry.2.K=K&Tags.entry.2.V=&FlatBy.1.key=one&FlatBy.1.value=1" +
		"&Deep.entry.1.key=d&Deep.entry.1.value@.1=e&Self.Small=0&Selves@.1.Text=&Selves@.2.Yes=false&Blobs@.1=AQ==&Times@.1=2026-01-02T03:04:05Z")
}
