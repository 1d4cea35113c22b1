package policy

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: any bytes are refused with a place in them, or read as a document that prints, reads back and decides (IAM-2: evaluation is total).
func FuzzParse(f *testing.F) {
	d := newDice(31, nil)
	for range 20 {
		f.Add(uint8(d.intn(7)), encode(d.document(d.kind())))
	}
	f.Add(uint8(Endpoint), `{"Statement":[{"Action":"workspaces:*","Effect":"Allow","Resource":"*","Principal":{"AWS":["1234567891011"]}}]}`)
	f.Add(uint8(Identity), `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"a:\u0062","Resource":"arn:aws:ds:::${aws:x, 'y'}","Condition":{"NumericEquals":{"a:b":[1e3,"2"]}}}}`)
	requests := make([]*Request, 12)
	for i := range requests {
		requests[i] = d.world(i%3 == 0).request()
	}
	f.Fuzz(func(t *testing.T, k uint8, text string) {
		kind := Kind(k % 7)
		doc, err := Parse(kind, text)
		var m *MalformedError
		if err != nil {
			if !errors.As(err, &m) || m.Offset > len(text) || m.Line < 1 || m.Column < 1 || m.Text == "" || m.Reason == "" {
				t.Fatalf("%+v", err)
			}
			return
		}
		if !utf8.ValidString(text) || !json.Valid([]byte(text)) {
			t.Fatalf("%q is no JSON and was read", text)
		}
		back, err := Parse(kind, doc.String())
		if len(doc.String()) > MaxLength {
			return // Escapes may make it longer.
		}
		if err != nil || back.String() != doc.String() {
			t.Fatalf("%q prints as %q: %v", text, doc, err)
		}
		p, q := Compile(doc), Compile(back)
		for _, r := range requests {
			a, b := p.Evaluate(r, nil), q.Evaluate(r, nil)
			if a != b || len(p.Explain(r)) != p.Len() {
				t.Fatalf("%q: %+v and %+v", text, a, b)
			}
		}
		doc.ContextKeys()
	})
}

// FuzzReadJSON: the reader takes only what encoding/json takes as well, and reads the same (SIG-10).
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,"\u00e9",{"b":null}],"c":true}`, `["\ud83d\ude00"]`, `{"":{"":[]}}`, `[1e400]`, `{"a":1,"a":2}`, "[-0.0e-1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, fault := readJSON(text)
		if fault != nil {
			if fault.at < 0 || fault.at > len(text) {
				t.Fatalf("%+v", fault)
			}
			return
		}
		var want any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil || n.pos >= n.end || n.end > len(text) {
			t.Fatalf("%q: encoding/json says %v", text, err)
		}
		if got := plainJSON(&n); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %#v, encoding/json reads %#v", text, got, want)
		}
	})
}

// FuzzDecide holds the package to the literal evaluator on documents and requests that the fuzzer's bytes choose.
func FuzzDecide(f *testing.F) {
	for seed := range 10 {
		f.Add(uint64(seed), []byte{byte(seed), 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53})
	}
	f.Fuzz(func(t *testing.T, seed uint64, bytes []byte) {
		d := newDice(seed, bytes)
		kind := d.kind()
		doc := d.document(kind)
		p := Compile(parsed(t, kind, doc))
		for range 4 {
			w := d.world(kind == Trust)
			if _, wrong := compare(kind, doc, p, w, w.request()); wrong != "" {
				t.Fatal(wrong)
			}
			if wrong := explained(p, w); wrong != "" {
				t.Fatal(wrong)
			}
		}
	})
}

// FuzzWildcard holds the matcher to a table.
func FuzzWildcard(f *testing.F) {
	f.Add("*a?b*", "xaébyc")
	f.Add("*?*?", "é")
	f.Add("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern)*len(text) > 1<<20 {
			return
		}
		p, reason := parsePattern(pattern, true, false)
		if got, want := p.match(text, nil), like(wild(pattern), text); got != want || reason != "" {
			t.Fatalf("%q on %q: %v, not %v", pattern, text, got, want)
		}
	})
}
