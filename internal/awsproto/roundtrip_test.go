package awsproto

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// The variants of values, the same on both sides: every member, required ones, every member with empty lists.
var variants = []string{"full", "required", "empty"}

// fromBotocore is a line of testdata/roundtrip.py.
type fromBotocore struct {
	Kind, Service, Op, Variant string
	Operations                 int
	Method, URL                string
	Headers                    map[string]string
	Body                       []byte
	ID                         int
	RequestID                  string `json:"request_id"`
	Value                      any
}

// sent is a reply handed to botocore, with the value it was made from.
type sent struct {
	op      *shape.Operation
	variant string
	value   any
}

// TestBotocoreAndWeUnderstandEachOther carries every operation of every service both ways through botocore: it serializes inputs
// that we decode, we encode outputs that it parses.
func TestBotocoreAndWeUnderstandEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("needs botocore")
	}
	c := newCodec(t)
	replies, out := encodeAll(t, c)
	errorsFrom := len(replies)
	replies = encodeErrors(t, replies, out)
	errorsSeen := 0
	cmd := exec.Command("python3", "testdata/roundtrip.py", "../tools/apigen/models")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = out, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("python3 with botocore is needed (apt install python3-botocore), or -short: %v\n%s", err, stderr.Bytes())
	}
	decoded, parsed, inModels := map[string]int{}, map[string]int{}, 0
	lines := bufio.NewScanner(&stdout)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		var line fromBotocore
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		switch line.Kind {
		case "service":
			inModels += line.Operations
		case "request":
			decoded[line.Service+" "+line.Op]++
			checkDecoded(t, c, line)
		case "parsed":
			r := replies[line.ID]
			parsed[r.op.Service.Name+" "+r.op.Name]++
			checkParsed(t, r, line)
		case "error":
			errorsSeen++
			if want := replies[line.ID].value; !reflect.DeepEqual(line.Value, want) || line.RequestID != "request-1" {
				t.Errorf("error %v: botocore sees %v of request %q", want, line.Value, line.RequestID)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, s := range allServices {
		total += len(s.Operations)
		for _, op := range s.Operations {
			if key := s.Name + " " + op.Name; decoded[key] != len(variants) || parsed[key] != len(variants) {
				t.Errorf("%s: %d requests, %d replies, want %d each", key, decoded[key], parsed[key], len(variants))
			}
		}
	}
	if len(decoded) != total || len(parsed) != total || inModels != total {
		t.Errorf("%d operations, but %d in the models, %d decoded, %d parsed", total, inModels, len(decoded), len(parsed))
	}
	if errorsSeen != len(replies)-errorsFrom || errorsSeen == 0 {
		t.Errorf("%d errors parsed, want %d", errorsSeen, len(replies)-errorsFrom)
	}
	t.Logf("%d errors; %d operations of %d services, %d variants, both ways", errorsSeen, total, len(allServices), len(variants))
}

func serviceNamed(name string) *shape.Service {
	for _, s := range allServices {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func checkDecoded(t *testing.T, c *Codec, line fromBotocore) {
	t.Helper()
	s := serviceNamed(line.Service)
	if s == nil {
		t.Fatalf("no service %s", line.Service)
	}
	u, err := url.Parse(line.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &Request{Method: line.Method, Path: u.EscapedPath(), RawQuery: u.RawQuery, Header: http.Header{}, Body: line.Body}
	for k, v := range line.Headers {
		r.Header.Set(k, v)
	}
	name := fmt.Sprintf("%s %s (%s)", line.Service, line.Op, line.Variant)
	op, refused := c.Route(s.SigningName, r)
	if refused != nil || op.Name != line.Op {
		t.Errorf("%s: routed to %v, %v", name, op, refused)
		return
	}
	in, refused := c.Decode(op, r)
	if refused != nil {
		t.Errorf("%s: %v\n%s", name, refused, line.Body)
		return
	}
	want := line.Value
	if s.Protocol == shape.AWSQuery || s.Protocol == shape.EC2Query {
		want = traceless(want, s.Protocol == shape.EC2Query)
	}
	if got := plain(canonical(op.Input, reflect.ValueOf(in).Elem())); !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v\n%s", name, got, want, line.Body)
	}
}

// traceless removes what a form cannot say: empty structures and maps and, in EC2's forms, empty lists.
func traceless(v any, ec2 bool) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			e = traceless(e, ec2)
			v[k] = e
			if m, ok := e.(map[string]any); ok && len(m) == 0 {
				delete(v, k)
			}
			if l, ok := e.([]any); ok && len(l) == 0 && ec2 {
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = traceless(v[i], ec2)
		}
	}
	return v
}

func checkParsed(t *testing.T, r sent, line fromBotocore) {
	t.Helper()
	name := fmt.Sprintf("%s %s (%s)", r.op.Service.Name, r.op.Name, r.variant)
	if line.RequestID != "request-1" {
		t.Errorf("%s: botocore sees request id %q", name, line.RequestID)
	}
	if want := plain(r.value); !reflect.DeepEqual(line.Value, want) {
		t.Errorf("%s:\n botocore %v\nwe wrote %v", name, line.Value, want)
	}
}

// encodeAll encodes every output in every variant, as JSON lines for botocore.
func encodeAll(t *testing.T, c *Codec) ([]sent, *bytes.Buffer) {
	t.Helper()
	var replies []sent
	out := new(bytes.Buffer)
	for _, s := range allServices {
		for _, op := range s.Operations {
			for _, variant := range variants {
				h := fnv.New64()
				h.Write([]byte(s.Name + "/" + op.Name + "/" + variant))
				m := &maker{rand: rand.New(rand.NewPCG(h.Sum64(), 1)), variant: variant, proto: s.Protocol, within: map[*shape.Shape]bool{}}
				output := op.NewOutput()
				v := reflect.ValueOf(output).Elem()
				if op.Output != nil {
					m.fill(op.Output, v)
				}
				resp, err := c.Encode(op, output, "request-1")
				if err != nil {
					t.Fatal(err)
				}
				writeReply(t, out, s, op.Name, len(replies), resp)
				replies = append(replies, sent{op, variant, canonical(op.Output, v)})
			}
		}
	}
	return replies, out
}

// encodeErrors adds every kind of error in every service, and every exception of every model.
func encodeErrors(t *testing.T, replies []sent, out *bytes.Buffer) []sent {
	t.Helper()
	for _, s := range allServices {
		var all []*awserr.Error
		for k := awserr.MissingAuthentication; k <= awserr.Unavailable; k++ {
			all = append(all, awserr.New(k, "said <of> \"it\""))
		}
		for code := range s.Exceptions {
			all = append(all, awserr.Model(code, "said <of> \"it\"").With("ResourceId", "ws-1"))
		}
		for _, e := range all {
			code := e.Code
			if code == "" {
				code = spell(e.Kind, s.Protocol).code
			}
			message := e.Message
			if s.Protocol == shape.EC2Query {
				code, message = ec2Words(e, code, message)
			}
			writeReply(t, out, s, "", len(replies), EncodeError(s, s.Protocol, e, "request-1"))
			replies = append(replies, sent{value: []any{code, message}})
		}
	}
	return replies
}

func writeReply(t *testing.T, out *bytes.Buffer, s *shape.Service, op string, id int, resp Response) {
	t.Helper()
	headers := map[string]string{}
	for k := range resp.Header {
		headers[k] = resp.Header.Get(k)
	}
	line := map[string]any{"service": s.Name, "op": op, "id": id, "status": resp.Status, "headers": headers, "body": resp.Body}
	if err := json.NewEncoder(out).Encode(line); err != nil {
		t.Fatal(err)
	}
}

// maker fills structs with deterministic values.
type maker struct {
	rand    *rand.Rand
	variant string
	proto   shape.Protocol
	within  map[*shape.Shape]bool
}

func (m *maker) fill(s *shape.Shape, v reflect.Value) {
	switch s.Kind {
	case shape.Structure:
		m.structure(s, v)
	case shape.List:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		if s.Elem.Kind == shape.Structure && m.within[s.Elem] {
			return
		}
		for range m.count(s) {
			e := reflect.New(v.Type().Elem()).Elem()
			m.fill(s.Elem, e)
			v.Set(reflect.Append(v, e))
		}
	case shape.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range m.count(s) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			m.fill(s.Key, k)
			m.fill(s.Elem, e)
			v.SetMapIndex(k, e)
		}
	default:
		m.scalar(s, v)
	}
}

func (m *maker) structure(s *shape.Shape, v reflect.Value) {
	again := m.within[s]
	m.within[s] = true
	only := -1
	if s.Union {
		only = m.rand.IntN(len(s.Fields))
	}
	for i, f := range s.Fields {
		fv := v.Field(i)
		if only >= 0 && i != only || only < 0 && !f.Required && (again || m.variant == "required") {
			continue
		}
		if fv.Kind() == reflect.Pointer {
			fv.Set(reflect.New(fv.Type().Elem()))
			fv = fv.Elem()
		}
		m.fill(f.Of, fv)
	}
	m.within[s] = again
}

func (m *maker) count(s *shape.Shape) int {
	if m.variant == "empty" {
		return 0
	}
	return 1 + m.rand.IntN(3)
}

const letters = "abcXYZ019-_ .:/&<>\"'+%=;,#?@\\\n\r\t\u00e9\u6f22\U0001f600\u2028"

func (m *maker) scalar(s *shape.Shape, v reflect.Value) {
	switch s.Kind {
	case shape.String:
		if s.Check != nil && len(s.Check.Enum) > 0 {
			v.SetString(s.Check.Enum[m.rand.IntN(len(s.Check.Enum))])
			return
		}
		var b strings.Builder
		for range 1 + m.rand.IntN(24) {
			b.WriteRune([]rune(letters)[m.rand.IntN(len([]rune(letters)))])
		}
		v.SetString(b.String())
	case shape.Boolean:
		v.SetBool(m.rand.IntN(2) == 0)
	case shape.Integer:
		v.SetInt(int64(int32(m.rand.Uint32())))
	case shape.Long:
		v.SetInt(int64(m.rand.Uint64()))
	case shape.Float:
		v.SetFloat(float64(float32(m.rand.NormFloat64() * 1000)))
	case shape.Double:
		v.SetFloat(m.rand.NormFloat64() * 1e9)
	case shape.Timestamp:
		ms := m.rand.Int64N(4_000_000_000_000)
		if m.proto == shape.AWSQuery || s.TimeFormat != "" {
			ms -= ms % 1000
		}
		v.Set(reflect.ValueOf(time.UnixMilli(ms).UTC()))
	case shape.Blob:
		b := make([]byte, 1+m.rand.IntN(40))
		for i := range b {
			b[i] = byte(m.rand.Uint32())
		}
		v.SetBytes(b)
	}
}

// canonical writes a typed value as testdata/roundtrip.py does.
func canonical(s *shape.Shape, v reflect.Value) any {
	if s == nil {
		return map[string]any{}
	}
	switch s.Kind {
	case shape.Structure:
		m := map[string]any{}
		for i, f := range s.Fields {
			fv := v.Field(i)
			if fv.IsNil() {
				continue
			}
			if fv.Kind() == reflect.Pointer {
				fv = fv.Elem()
			}
			m[f.Name] = canonical(f.Of, fv)
		}
		return m
	case shape.List:
		l := []any{}
		for i := range v.Len() {
			l = append(l, canonical(s.Elem, v.Index(i)))
		}
		return l
	case shape.Map:
		m := map[string]any{}
		for _, k := range v.MapKeys() {
			m[k.String()] = canonical(s.Elem, v.MapIndex(k))
		}
		return m
	case shape.Timestamp:
		return map[string]any{"$t": v.Interface().(time.Time).UnixMilli()}
	case shape.Blob:
		return map[string]any{"$b": base64.StdEncoding.EncodeToString(v.Bytes())}
	case shape.Float, shape.Double:
		return map[string]any{"$f": hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(v.Float())))}
	}
	return v.Interface()
}

// plain passes a canonical value through JSON, so that both sides' values have the same Go types.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		panic(err)
	}
	return out
}
