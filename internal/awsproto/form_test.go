package awsproto

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

func TestFormDecoderRefuses(t *testing.T) {
	for _, tt := range []struct{ name, form, text string }{
		{"SIG-10 a parameter twice", "Text=a&Text=b", "Duplicate parameter at 'Text'"},
		{"SIG-10 a parameter twice with the same value", "Text=a&Text=a", "Duplicate parameter at 'Text'"},
		{"SIG-10 a parameter twice in two encodings", "Text=a&%54ext=b", "Duplicate parameter at 'Text'"},
		{"SIG-10 an unknown parameter twice", "Other=a&Other=b", "Duplicate parameter at 'Other'"},
		{"SIG-10 a list element twice", "Texts.member.1=a&Texts.member.1=b", "Duplicate parameter"},
		{"SIG-10 a list element twice in two spellings", "Texts.member.1=a&Texts.member.01=b", "'01' is not an index"},
		{"index 0", "Texts.member.0=a", "'0' is not an index"},
		{"a negative index", "Texts.member.-1=a", "'-1' is not an index"},
		{"an index that would cost memory", "Texts.member.999999999=a", "'999999999' is not an index"},
		{"an index beyond int64", "Texts.member.99999999999999999999=a", "is not an index"},
		{"an index that is no number", "Texts.member.x=a", "'x' is not an index"},
		{"an empty index", "Texts.member.=a", "'' is not an index"},
		{"a value where a list is expected", "Texts=a", "Value where a list is expected at 'Texts'"},
		{"a value where a structure is expected", "Self=a", "Value where a structure is expected at 'Self'"},
		{"a bad escape in a value", "Text=%zz", "Invalid encoding of a value at 'Text'"},
		{"a cut escape in a value", "Text=%4", "Invalid encoding of a value at 'Text'"},
		{"a bad escape in a name", "%zz=a", "Invalid encoding of a parameter name"},
		{"SIG-10 invalid UTF-8 in a value", "Text=%FF", "Invalid encoding of a value at 'Text'"},
		{"SIG-10 raw invalid UTF-8 in a value", "Text=\xff", "Invalid encoding of a value at 'Text'"},
		{"SIG-10 invalid UTF-8 in a name", "%FF=a", "Invalid encoding of a parameter name"},
		{"an Integer that is none", "Small=a", "'a' can not be converted to an Integer at 'Small'"},
		{"an empty Integer", "Small=", "'' can not be converted to an Integer at 'Small'"},
		{"an Integer with a plus", "Small=%2B1", "can not be converted to an Integer at 'Small'"},
		{"an Integer with a space", "Small=1+", "can not be converted to an Integer at 'Small'"},
		{"an Integer with underscores", "Small=1_000", "can not be converted to an Integer at 'Small'"},
		{"an Integer overflow", "Small=2147483648", "Number out of range of an Integer at 'Small'"},
		{"a hexadecimal Long", "Big=0x10", "can not be converted to a Long at 'Big'"},
		{"an infinite Double", "Real=inf", "can not be converted to a Double at 'Real'"},
		{"SIG-10 1e400", "Real=1e400", "can not be converted to a Double at 'Real'"},
		{"a Boolean that is none", "Yes=1", "'1' is not true or false at 'Yes'"},
		{"a timestamp that is none", "When=yesterday", "Invalid timestamp at 'When'"},
		{"base64 that is none", "Data=%25", "Invalid base64 at 'Data'"},
		{"a map entry without a value", "Tags.entry.1.K=k", "Missing value at 'Tags.1.V'"},
		{"a map entry without a key", "Tags.entry.1.V=v", "Missing value at 'Tags.1.K'"},
		{"a map key twice", "Tags.entry.1.K=k&Tags.entry.1.V=1&Tags.entry.2.K=k&Tags.entry.2.V=2", "Duplicate key of a map at 'Tags.2'"},
		{"a bad element deep inside", "Selves.member.2.Nested.member.1.member.3=x", "can not be converted to an Integer at 'Selves.2.Nested.1.3'"},
		{"more parameters than any client sends", "a=1" + strings.Repeat("&a=1", maxParams), "Too many parameters"},
		{"nesting beyond the limit", strings.Repeat("Self.", maxDepth) + "Text=a", "Nested too deeply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := handCodec(t, shape.AWSQuery)
			got, err := c.Decode(s.Operations[0], formRequest(tt.form))
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if err.Kind != awserr.Serialization || !strings.Contains(err.Message, tt.text) {
				t.Errorf("got %v, want Serialization with %q", err, tt.text)
			}
		})
	}
}

func TestFormDecoderAccepts(t *testing.T) {
	for _, tt := range []struct {
		name, form string
		want       everything
	}{
		{"nothing", "", everything{}},
		{"empty pairs", "&&Text=a&", everything{Text: shape.Ptr("a")}},
		{"a value with an equals sign", "Text=a=b", everything{Text: shape.Ptr("a=b")}},
		{"a name without an equals sign", "Text", everything{Text: shape.Ptr("")}},
		{"plus and %20 as spaces", "Text=a+b%20c", everything{Text: shape.Ptr("a b c")}},
		{"an empty list", "Texts=", everything{Texts: []string{}}},
		{"unknown parameters, ignored", "Other=1&Other.member.x=2&text=3&Text.1=4&X-Amz-Date=5", everything{}},
		{"another wrapper than member, ignored", "Texts.item.1=a", everything{}},
		{"gaps in a list, closed in order", "Texts.member.10=c&Texts.member.9=b&Texts.member.1=a", everything{Texts: []string{"a", "b", "c"}}},
		{"a prefix of another member's name", "Texts.member.1=a&Text=b&Text-x=c&Text%21=d", everything{Text: shape.Ptr("b"), Texts: []string{"a"}}},
		{"an empty list beside its elements", "Texts=&Texts.member.1=a", everything{Texts: []string{"a"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := handCodec(t, shape.AWSQuery)
			got, err := c.Decode(s.Operations[0], formRequest(tt.form))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, &tt.want) {
				t.Errorf("got %s\nwant %s", mustJSON(t, got), mustJSON(t, &tt.want))
			}
		})
	}
}

func TestEC2FormsFollowTheirNames(t *testing.T) {
	c := newCodec(t)
	got, err := c.Decode(ec2.DescribeVpcs.Operation, formRequest("Action=DescribeVpcs&Version=2016-11-15&Filter.1.Name=state&Filter.1.Value.2=b&Filter.1.Value.1=a&VpcId.1=vpc-1&DryRun=false"))
	want := &ec2.DescribeVpcsInput{Filters: []ec2.Filter{{Name: shape.Ptr("state"), Values: []string{"a", "b"}}}, VpcIds: []string{"vpc-1"}, DryRun: shape.Ptr(false)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, %v", mustJSON(t, got), err)
	}
}

func TestParametersMayStandInQueryStringOrBodyButNotInBoth(t *testing.T) {
	c := newCodec(t)
	op := iam.GetUser.Operation
	for _, r := range []*Request{
		{Method: "GET", Path: "/", RawQuery: "Action=GetUser&UserName=a", Header: http.Header{}},
		formRequest("Action=GetUser&UserName=a"),
	} {
		got, err := c.Decode(op, r)
		if err != nil || *got.(*iam.GetUserInput).UserName != "a" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	r := formRequest("UserName=a")
	r.RawQuery = "UserName=b"
	if got, err := c.Decode(op, r); err == nil {
		t.Errorf("SIG-10: both accepted as %+v", got)
	}
}

func TestXMLEncoderWrites(t *testing.T) {
	const query = `<DoResponse xmlns="urn:hand"><DoResult>%s</DoResult><ResponseMetadata><RequestId>r&lt;1</RequestId></ResponseMetadata></DoResponse>`
	const ec2XML = xmlDeclaration + `<DoResponse xmlns="urn:hand"><requestId>r&lt;1</requestId>%s</DoResponse>`
	full := fullEverything()
	for _, tt := range []struct {
		name       string
		out        everything
		query, ec2 string
	}{
		{"nothing for absent members", everything{}, "", ""},
		{"lists in their wrappers", everything{Texts: []string{"a", "b"}}, "<Texts><member>a</member><member>b</member></Texts>", "<Texts><item>a</item><item>b</item></Texts>"},
		{"empty lists", everything{Texts: []string{}}, "<Texts></Texts>", "<Texts></Texts>"},
		{"flat lists", everything{Flats: []string{"a", "b"}}, "<Flat>a</Flat><Flat>b</Flat>", "<Flats>a</Flats><Flats>b</Flats>"},
		{"maps in the order of their keys", everything{Tags: map[string]string{"b": "2", "a": "1"}},
			"<Tags><entry><K>a</K><V>1</V></entry><entry><K>b</K><V>2</V></entry></Tags>", "<Tags><entry><K>a</K><V>1</V></entry><entry><K>b</K><V>2</V></entry></Tags>"},
		{"flat maps", everything{FlatBy: map[string]int32{"a": 1}}, "<FlatBy><key>a</key><value>1</value></FlatBy>", "<FlatBy><key>a</key><value>1</value></FlatBy>"},
		{"times", everything{When: full.When}, "<When>2026-01-02T03:04:05Z</When>", "<When>2026-01-02T03:04:05.000Z</When>"},
		{"blobs", everything{Data: []byte{0, 255, 1}}, "<Data>AP8B</Data>", "<Data>AP8B</Data>"},
		{"escapes", everything{Text: shape.Ptr("<a b=\"c\">&'\r\n\t")}, "<Text>&lt;a b=&quot;c&quot;&gt;&amp;'&#xD;\n\t</Text>", "<Text>&lt;a b=&quot;c&quot;&gt;&amp;'&#xD;\n\t</Text>"},
		{"what XML cannot carry replaced", everything{Text: shape.Ptr("a\x00b\x1b\ufffec\xffd\uffff")},
			"<Text>a\ufffdb\ufffd\ufffdc\ufffdd\ufffd</Text>", "<Text>a\ufffdb\ufffd\ufffdc\ufffdd\ufffd</Text>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for proto, want := range map[shape.Protocol]string{shape.AWSQuery: fmt.Sprintf(query, tt.query), shape.EC2Query: fmt.Sprintf(ec2XML, tt.ec2)} {
				c, s := handCodec(t, proto)
				resp, err := c.Encode(s.Operations[0], &tt.out, "r<1")
				if err != nil || string(resp.Body) != want {
					t.Errorf("protocol %d: %v\n got %s\nwant %s", proto, err, resp.Body, want)
				}
			}
		})
	}
}

// FuzzQuery and FuzzEC2 compare us with net/url: what we accept it accepts, every top-level text we decode is its value, and no
// request makes more elements than it has parameters.
func FuzzQuery(f *testing.F) { fuzzForms(f, shape.AWSQuery) }

func FuzzEC2(f *testing.F) { fuzzForms(f, shape.EC2Query) }

func fuzzForms(f *testing.F, proto shape.Protocol) {
	c, s := handCodec(f, proto)
	for _, seed := range []string{everythingForm(proto), "Text=a&Text=b", "Texts.member.999999999=1", "Texts.1=a&Texts.3=b&Texts=", "Self.Self.Self.Text=%F0%9F%98%80", "a.b.c&.=.&..=x&Texts..1=a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		in, err := c.Decode(s.Operations[0], formRequest(body))
		if err != nil {
			if err.Kind != awserr.Serialization || len(err.Message) > 4000 {
				t.Fatalf("%v", err)
			}
			return
		}
		got := in.(*everything)
		if n := strings.Count(body, "&") + 1; len(got.Texts)+len(got.Flats)+len(got.Selves)+len(got.Nested)+len(got.Tags) > n {
			t.Fatalf("%d parameters became more elements: %+v", n, got)
		}
		// net/url refuses semicolons, which are text to us.
		want, urlErr := url.ParseQuery(strings.ReplaceAll(body, ";", "%3B"))
		if urlErr != nil {
			t.Fatalf("net/url refuses %q: %v", body, urlErr)
		}
		if texts := want["Text"]; got.Text != nil != (len(texts) == 1) || got.Text != nil && *got.Text != texts[0] {
			t.Fatalf("Text is %q, decoded %v", texts, got.Text)
		}
	})
}

func TestCompareNamesKeepsPrefixesTogether(t *testing.T) {
	want := []string{"A", "A.1", "A.1.x", "A.2", "A!", "A-b", "A-b.1", "AB", "B"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
