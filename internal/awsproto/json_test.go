package awsproto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/workspaces"
	"carrel/internal/awserr"
)

func TestJSONDecoderRefuses(t *testing.T) {
	c, s := handCodec(t, shape.AWSJSON)
	deep := func(n int) string { return strings.Repeat(`{"Self":`, n) + `{}` + strings.Repeat(`}`, n) }
	for _, tt := range []struct{ name, body, text string }{
		{"an empty body", ``, "Invalid JSON at offset 0"},
		{"white space only", " \n", "Invalid JSON"},
		{"null for the document", `null`, "expected a structure"},
		{"a list for the document", `[]`, "expected a structure"},
		{"SIG-10 trailing data", `{} x`, "data after the end"},
		{"SIG-10 a second document", `{}{}`, "data after the end"},
		{"SIG-10 a NUL after the end", "{}\x00", "data after the end"},
		{"SIG-10 a byte order mark", "\ufeff{}", "expected a structure"},
		{"SIG-10 invalid UTF-8 in a value", "{\"Text\":\"\xff\"}", "Invalid UTF-8"},
		{"SIG-10 an overlong encoding", "{\"Text\":\"\xc0\xaf\"}", "Invalid UTF-8"},
		{"SIG-10 an encoded surrogate", "{\"Text\":\"\xed\xa0\x80\"}", "Invalid UTF-8"},
		{"SIG-10 a duplicate member", `{"Text":"a","Text":"b"}`, "Duplicate member name at 'Text'"},
		{"SIG-10 a duplicate member behind null", `{"Text":null,"Text":"b"}`, "Duplicate member name at 'Text'"},
		{"SIG-10 a duplicate member spelt with an escape", `{"Text":"a","\u0054ext":"b"}`, "Duplicate member name at 'Text'"},
		{"SIG-10 a duplicate member one level down", `{"Self":{"Yes":true,"Yes":true}}`, "Duplicate member name at 'Self.Yes'"},
		{"SIG-10 a duplicate unknown member", `{"Other":1,"Other":2}`, "Duplicate member name at 'Other'"},
		{"SIG-10 a duplicate inside an unknown member", `{"Other":{"a":[{"b":1,"b":2}]}}`, "Duplicate member name at 'b'"},
		{"SIG-10 a duplicate key of a map", `{"Tags":{"k":"1","k":"2"}}`, "Duplicate member name at 'Tags.k'"},
		{"SIG-10 a case variant of a member", `{"text":"a"}`, "Unexpected field 'text', did you mean 'Text'"},
		{"SIG-10 a case variant beside the member", `{"Text":"a","TEXT":"b"}`, "Unexpected field 'TEXT'"},
		{"SIG-10 a case variant by Unicode folding", `{"Textſ":[]}`, "Unexpected field 'Textſ', did you mean 'Texts'"},
		{"SIG-10 a case variant by Unicode folding one level down", `{"Self":{"Selveſ":[]}}`, "Unexpected field 'Selveſ', did you mean 'Selves' at 'Self'"},
		{"SIG-10 depth 10,000 in a known member", deep(10000), "nested too deeply"},
		{"SIG-10 depth 10,000 in an unknown member", `{"Other":` + strings.Repeat("[", 10000), "nested too deeply"},
		{"SIG-10 depth 65", deep(64), "nested too deeply"},
		{"SIG-10 1e400", `{"Real":1e400}`, "Number out of range at 'Real'"},
		{"SIG-10 1e400 in an unknown member", `{"Other":1e400}`, "Number out of range"},
		{"SIG-10 400 digits in an unknown member", `{"Other":` + strings.Repeat("9", 400) + `}`, "Number out of range"},
		{"a float32 overflow", `{"Single":1e39}`, "Number out of range of a Float at 'Single'"},
		{"an Integer overflow", `{"Small":2147483648}`, "Number out of range of an Integer at 'Small'"},
		{"an Integer underflow", `{"Small":-2147483649}`, "Number out of range of an Integer at 'Small'"},
		{"a Long overflow", `{"Big":9223372036854775808}`, "Number out of range of a Long at 'Big'"},
		{"a fraction for an Integer", `{"Small":1.0}`, "fraction or exponent can not be converted to an Integer at 'Small'"},
		{"an exponent for a Long", `{"Big":1e3}`, "fraction or exponent can not be converted to a Long at 'Big'"},
		{"a leading zero", `{"Small":01}`, "Invalid JSON"},
		{"a leading plus", `{"Small":+1}`, "Invalid JSON"},
		{"a bare minus", `{"Small":-}`, "bad number"},
		{"a number without digits after the point", `{"Real":1.}`, "bad number"},
		{"a number without digits in its exponent", `{"Real":1e}`, "bad number"},
		{"NaN", `{"Real":NaN}`, "Invalid JSON"},
		{"hexadecimal", `{"Small":0x1}`, "Invalid JSON"},
		{"a number for a String", `{"Text":1}`, "NUMBER_VALUE can not be converted to a String at 'Text'"},
		{"a boolean for a String", `{"Text":true}`, "TRUE_VALUE can not be converted to a String at 'Text'"},
		{"a list for a String", `{"Text":["a"]}`, "Start of list found where not expected at 'Text'"},
		{"a structure for a String", `{"Text":{"a":1}}`, "Start of structure or map found where not expected at 'Text'"},
		{"a string for an Integer", `{"Small":"1"}`, "STRING_VALUE can not be converted to an Integer at 'Small'"},
		{"a string for a Boolean", `{"Yes":"true"}`, "STRING_VALUE can not be converted to a Boolean at 'Yes'"},
		{"a number for a Boolean", `{"Yes":1}`, "NUMBER_VALUE can not be converted to a Boolean at 'Yes'"},
		{"a boolean for a Double", `{"Real":false}`, "FALSE_VALUE can not be converted to a Double at 'Real'"},
		{"a string for a list", `{"Texts":"a"}`, "STRING_VALUE can not be converted to a List at 'Texts'"},
		{"a structure for a list", `{"Texts":{}}`, "Start of structure or map found where not expected at 'Texts'"},
		{"a list for a map", `{"Tags":[]}`, "Start of list found where not expected at 'Tags'"},
		{"a wrong type deep inside", `{"Selves":[{},{"Nested":[[1],[2,"x"]]}]}`, "STRING_VALUE can not be converted to an Integer at 'Selves.2.member.Nested.2.member.2.member'"},
		{"null in a list", `{"Texts":["a",null]}`, "Null value found where not expected at 'Texts.2.member'"},
		{"null in a map", `{"Tags":{"k":null}}`, "Null value found where not expected at 'Tags.k'"},
		{"a wrong type in a map", `{"Tags":{"k":1}}`, "NUMBER_VALUE can not be converted to a String at 'Tags.k'"},
		{"a lone high surrogate", `{"Text":"\ud83d"}`, "lone surrogate"},
		{"a lone low surrogate", `{"Text":"\ude00"}`, "lone surrogate"},
		{"two high surrogates", `{"Text":"\ud83d\ud83d"}`, "lone surrogate"},
		{"a lone surrogate in a member name", `{"\ud800":1}`, "lone surrogate"},
		{"a raw control character in a string", "{\"Text\":\"a\nb\"}", "control character"},
		{"a raw control character behind an escape", "{\"Text\":\"\\na\x01\"}", "control character"},
		{"an unknown escape", `{"Text":"\x"}`, "unknown escape"},
		{"a short unicode escape", `{"Text":"\u12"}`, "bad \\u escape"},
		{"a string without an end", `{"Text":"a`, "string without an end"},
		{"an escape without an end", `{"Text":"a\`, "string without an end"},
		{"single quotes", `{'Text':"a"}`, "expected a member name"},
		{"a bare member name", `{Text:"a"}`, "expected a member name"},
		{"a comma at the end of a structure", `{"Text":"a",}`, "nothing after a comma"},
		{"a comma at the end of a list", `{"Texts":["a",]}`, "nothing after a comma"},
		{"two commas", `{"Texts":["a",,"b"]}`, "expected a value"},
		{"no comma", `{"Texts":["a" "b"]}`, "expected a comma"},
		{"no colon", `{"Text" "a"}`, "expected a colon"},
		{"a comment", `{/*x*/}`, "expected a member name"},
		{"a structure without an end", `{"Text":"a"`, "expected a comma"},
		{"a word that is none", `{"Yes":tru}`, "unexpected character"},
		{"a longer word", `{"Yes":truely}`, "expected a comma"},
		{"base64 that is none", `{"Data":"%"}`, "Invalid base64 at 'Data'"},
		{"base64 without padding", `{"Data":"AQ"}`, "Invalid base64 at 'Data'"},
		{"base64 with a line break", `{"Data":"AQ==\n"}`, "Invalid base64 at 'Data'"},
		{"base64 with bits left over", `{"Data":"AR=="}`, "Invalid base64 at 'Data'"},
		{"a string for an epoch timestamp", `{"When":"2026-01-02T03:04:05Z"}`, "STRING_VALUE can not be converted to a Timestamp at 'When'"},
		{"a timestamp beyond the year 9999", `{"When":253402300800}`, "Invalid timestamp at 'When'"},
		{"a timestamp beyond int64", `{"When":99999999999999999999}`, "Invalid timestamp at 'When'"},
		{"an ISO timestamp without a zone", `{"IsoTs":"2026-01-02T03:04:05"}`, "Invalid timestamp at 'IsoTs'"},
		{"more list elements than any client sends", `{"Selves":[{}` + strings.Repeat(`,{}`, maxElements) + `]}`, "Too many elements"},
		{"more unknown elements than any client sends", `{"Other":[0` + strings.Repeat(`,0`, maxElements) + `]}`, "Too many elements"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Decode(s.Operations[0], jsonRequest("Hand.Do", tt.body))
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if err.Kind != awserr.Serialization || !strings.Contains(err.Message, tt.text) {
				t.Errorf("got %v, want Serialization with %q", err, tt.text)
			}
		})
	}
}

func TestJSONDecoderAccepts(t *testing.T) {
	c, s := handCodec(t, shape.AWSJSON)
	at := func(ns int64) *time.Time { v := time.Unix(0, ns).UTC(); return &v }
	for _, tt := range []struct {
		name, body string
		want       everything
	}{
		{"an empty structure", ` { } `, everything{}},
		{"null as absent", `{"Text":null,"Texts":null,"Self":null}`, everything{}},
		{"an empty list as present", `{"Texts":[],"Tags":{},"Data":""}`, everything{Texts: []string{}, Tags: map[string]string{}, Data: []byte{}}},
		{"unknown members of every kind", `{"A":1,"B":[{},null,"x",true,-0.5e-3],"C":{"text":1}}`, everything{}},
		{"escapes", `{"Text":"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"}`, everything{Text: shape.Ptr("\"\\/\b\f\n\r\tA\U0001f600")}},
		{"an escaped member name", `{"\u0054ext":"a"}`, everything{Text: shape.Ptr("a")}},
		{"map keys that differ in case", `{"Tags":{"k":"1","K":"2"}}`, everything{Tags: map[string]string{"k": "1", "K": "2"}}},
		{"the limits of integers", `{"Small":-2147483648,"Big":9223372036854775807}`, everything{Small: shape.Ptr(int32(math.MinInt32)), Big: shape.Ptr(int64(math.MaxInt64))}},
		{"minus zero", `{"Small":-0}`, everything{Small: shape.Ptr(int32(0))}},
		{"an integer for a float", `{"Real":3,"Single":1E2}`, everything{Real: shape.Ptr(3.0), Single: shape.Ptr(float32(100))}},
		{"a timestamp with a fraction", `{"When":1767323045.123456789}`, everything{When: at(1767323045123456789)}},
		{"a timestamp before 1970", `{"When":-1.5}`, everything{When: at(-1500000000)}},
		{"a timestamp just before 1970", `{"When":-0.25}`, everything{When: at(-250000000)}},
		{"a timestamp with an exponent", `{"When":1.767323045123E9}`, everything{When: at(1767323045123000000)}},
		{"an ISO timestamp where the model says so", `{"IsoTs":"2026-01-02T04:04:05.5+01:00"}`, everything{IsoTs: at(1767323045500000000)}},
		{"depth 64", strings.Repeat(`{"X":`, 63) + `{}` + strings.Repeat(`}`, 63), everything{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Decode(s.Operations[0], jsonRequest("Hand.Do", tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, &tt.want) {
				t.Errorf("got %s\nwant %s", mustJSON(t, got), mustJSON(t, &tt.want))
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestJSONEncoderWrites(t *testing.T) {
	c, s := handCodec(t, shape.AWSJSON)
	at := func(ms int64) *time.Time { v := time.UnixMilli(ms); return &v }
	for _, tt := range []struct {
		name string
		out  everything
		want string
	}{
		{"nothing for absent members", everything{}, `{}`},
		{"empty lists and maps", everything{Texts: []string{}, Tags: map[string]string{}, Data: []byte{}}, `{"Data":"","Texts":[],"Tags":{}}`},
		{"HTML as it is and control characters escaped", everything{Text: shape.Ptr("<&>\"\\\n\r\t\x00\x1f\x7f\u2028")}, `{"Text":"<&>\"\\\n\r\t\u0000\u001f` + "\x7f\u2028\"}"},
		{"invalid UTF-8 replaced", everything{Text: shape.Ptr("a\xffb\xc3")}, `{"Text":"a` + "\ufffdb\ufffd" + `"}`},
		{"epoch seconds", everything{When: at(1767323045000)}, `{"When":1767323045}`},
		{"epoch milliseconds", everything{When: at(1767323045007)}, `{"When":1767323045.007}`},
		{"a time before 1970", everything{When: at(-1500)}, `{"When":-1.500}`},
		{"an ISO time where the model says so", everything{IsoTs: at(1767323045000)}, `{"IsoTs":"2026-01-02T03:04:05Z"}`},
		{"maps in the order of their keys", everything{Tags: map[string]string{"b": "2", "a": "1"}}, `{"Tags":{"a":"1","b":"2"}}`},
		{"floats short", everything{Real: shape.Ptr(0.1), Single: shape.Ptr(float32(0.1))}, `{"Single":0.1,"Real":0.1}`},
		{"big floats with an exponent", everything{Real: shape.Ptr(1e300)}, `{"Real":1e+300}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := c.Encode(s.Operations[0], &tt.out, "r")
			if err != nil || string(resp.Body) != tt.want {
				t.Errorf("got %s, %v\nwant %s", resp.Body, err, tt.want)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
				t.Errorf("content type %q", got)
			}
		})
	}
	t.Run("no number that JSON lacks", func(t *testing.T) {
		if resp, err := c.Encode(s.Operations[0], &everything{Real: shape.Ptr(math.NaN())}, "r"); err == nil || err.Status != 500 {
			t.Errorf("got %s, %v", resp.Body, err)
		}
	})
}

// FuzzJSON compares us with encoding/json: what we accept, it accepts, and both see the same values.
func FuzzJSON(f *testing.F) {
	hand, s := handCodec(f, shape.AWSJSON)
	real := newCodec(f)
	for _, seed := range []string{`{}`, `{"Workspaces":[{"DirectoryId":"d-1234567890","UserName":"a","BundleId":"wsb-1","Tags":[{"Key":"k","Value":"v"}]}]}`,
		`{"Text":"\ud83d\ude00","Yes":true,"Small":-1,"Big":1,"Single":1.5,"Real":1e-9,"When":1.5,"Data":"AQ==","Texts":["a"],"Nested":[[1]],"Tags":{"k":"v"},"Self":{"Other":[null]}}`,
		`{"Text":1}`, `{"a":{"b":[1,2,{"c":null}]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range []struct {
			codec *Codec
			op    *shape.Operation
		}{{hand, s.Operations[0]}, {real, workspaces.Service.Operation("CreateWorkspaces")}} {
			in, err := c.codec.Decode(c.op, &Request{Body: body})
			if err != nil {
				if err.Kind != awserr.Serialization || len(err.Message) > 4000 {
					t.Fatalf("%v", err)
				}
				continue
			}
			d := json.NewDecoder(bytes.NewReader(body))
			d.UseNumber()
			var reference any
			if err := d.Decode(&reference); err != nil {
				t.Fatalf("encoding/json refuses %q: %v", body, err)
			}
			same(t, c.op.Input, reflect.ValueOf(in).Elem(), reference)
		}
	})
}

// same compares a typed value with encoding/json's reading of it.
func same(t *testing.T, s *shape.Shape, v reflect.Value, ref any) {
	t.Helper()
	switch s.Kind {
	case shape.Structure:
		m := ref.(map[string]any)
		for i, f := range s.Fields {
			e, present := m[f.Name]
			fv := v.Field(i)
			if present = present && e != nil; present == fv.IsNil() {
				t.Fatalf("%s: present %v, decoded %v", f.Name, present, fv)
			}
			if !present {
				continue
			}
			if fv.Kind() == reflect.Pointer {
				fv = fv.Elem()
			}
			same(t, f.Of, fv, e)
		}
	case shape.List:
		l := ref.([]any)
		if len(l) != v.Len() {
			t.Fatalf("%d elements, decoded %d", len(l), v.Len())
		}
		for i := range l {
			same(t, s.Elem, v.Index(i), l[i])
		}
	case shape.Map:
		m := ref.(map[string]any)
		if len(m) != v.Len() {
			t.Fatalf("%d entries, decoded %d", len(m), v.Len())
		}
		for _, k := range v.MapKeys() {
			same(t, s.Elem, v.MapIndex(k), m[k.String()])
		}
	default:
		if !sameScalar(s, v, ref) {
			t.Fatalf("%v, decoded %v", ref, v)
		}
	}
}

func sameScalar(s *shape.Shape, v reflect.Value, ref any) bool {
	switch s.Kind {
	case shape.String:
		return v.String() == ref.(string)
	case shape.Boolean:
		return v.Bool() == ref.(bool)
	case shape.Integer, shape.Long:
		n, err := ref.(json.Number).Int64()
		return err == nil && n == v.Int()
	case shape.Float:
		f, err := strconv.ParseFloat(string(ref.(json.Number)), 32)
		return err == nil && f == v.Float()
	case shape.Double:
		f, err := ref.(json.Number).Float64()
		return err == nil && f == v.Float()
	case shape.Timestamp:
		if text, ok := ref.(string); ok {
			want, err := time.Parse(time.RFC3339, text)
			return err == nil && want.Equal(v.Interface().(time.Time))
		}
		f, err := ref.(json.Number).Float64()
		at := v.Interface().(time.Time)
		return err == nil && math.Abs(f-(float64(at.Unix())+float64(at.Nanosecond())/1e9)) < 0.002
	case shape.Blob:
		want, err := base64.StdEncoding.DecodeString(ref.(string))
		return err == nil && bytes.Equal(want, v.Bytes())
	}
	return false
}

// page is a page of 25 WorkSpaces as DescribeWorkspaces answers it.
func page() *workspaces.DescribeWorkspacesOutput {
	out := &workspaces.DescribeWorkspacesOutput{NextToken: shape.Ptr("eyJ2IjoxfQ==")}
	for i := range 25 {
		id := strconv.Itoa(100000000 + i)
		out.Workspaces = append(out.Workspaces, workspaces.Workspace{
			BundleId: shape.Ptr("wsb-8vbljg4r6"), ComputerName: shape.Ptr("IP-C0A8" + id), DirectoryId: shape.Ptr("d-9067552532"), IpAddress: shape.Ptr("10.0.1.25"),
			ModificationStates: []workspaces.ModificationState{}, RootVolumeEncryptionEnabled: shape.Ptr(true), State: shape.Ptr(workspaces.WorkspaceState("AVAILABLE")),
			SubnetId: shape.Ptr("subnet-0a1b2c3d4e5f60718"), UserName: shape.Ptr("user" + id), UserVolumeEncryptionEnabled: shape.Ptr(true),
			VolumeEncryptionKey: shape.Ptr("arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"), WorkspaceId: shape.Ptr("ws-" + id),
			WorkspaceProperties: &workspaces.WorkspaceProperties{ComputeTypeName: shape.Ptr(workspaces.Compute("VALUE")), RootVolumeSizeGib: shape.Ptr(int32(80)),
				RunningMode: shape.Ptr(workspaces.RunningMode("AUTO_STOP")), RunningModeAutoStopTimeoutInMinutes: shape.Ptr(int32(60)), UserVolumeSizeGib: shape.Ptr(int32(10)),
				Protocols: []workspaces.Protocol{"WSP"}},
		})
	}
	return out
}

func BenchmarkEncodeDescribeWorkspaces25(b *testing.B) {
	c := newCodec(b)
	op := workspaces.DescribeWorkspaces.Operation
	out := page()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := c.Encode(op, out, "request-1")
		if err != nil {
			b.Fatal(err)
		}
		resp.Release()
	}
}

func BenchmarkDecodeDescribeWorkspaces25(b *testing.B) {
	c := newCodec(b)
	op := workspaces.DescribeWorkspaces.Operation
	ids := make([]string, 25)
	for i := range ids {
		ids[i] = `"ws-` + strconv.Itoa(100000000+i) + `"`
	}
	r := jsonRequest("WorkspacesService.DescribeWorkspaces", `{"WorkspaceIds":[`+strings.Join(ids, ",")+`]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(op, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCreateWorkspaces25(b *testing.B) {
	c := newCodec(b)
	item := `{"DirectoryId":"d-9067552532","UserName":"someone","BundleId":"wsb-8vbljg4r6","VolumeEncryptionKey":"alias/aws/workspaces","UserVolumeEncryptionEnabled":true,` +
		`"RootVolumeEncryptionEnabled":true,"WorkspaceProperties":{"RunningMode":"AUTO_STOP","RunningModeAutoStopTimeoutInMinutes":60,"RootVolumeSizeGib":80,"UserVolumeSizeGib":10},"Tags":[{"Key":"k","Value":"v"}]}`
	r := jsonRequest("WorkspacesService.CreateWorkspaces", `{"Workspaces":[`+item+strings.Repeat(","+item, 24)+`]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(workspaces.CreateWorkspaces.Operation, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRouteDescribeWorkspaces(b *testing.B) {
	c := newCodec(b)
	r := jsonRequest("WorkspacesService.DescribeWorkspaces", `{}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Route("workspaces", r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewCodec(b *testing.B) {
	for b.Loop() {
		newCodec(b)
	}
}
