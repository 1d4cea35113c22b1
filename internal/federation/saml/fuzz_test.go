package saml_test

import (
	"encoding/base64"
	"testing"

	"carrel/internal/federation/saml"
	"carrel/internal/federation/saml/samltest"
)

// FuzzResponse changes signed documents: whatever is accepted must say what was signed, word for word.
func FuzzResponse(f *testing.F) {
	p := samltest.New(f, entity)
	m := metadata(f, p)
	for _, signing := range []samltest.Signing{samltest.Nothing, samltest.Assertion, samltest.Response, samltest.Assertion | samltest.Response} {
		text, err := p.Document(f, p.Say(now, role, provider), signing).WriteToBytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text[:len(text)/2])
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := m.Verify(base64.StdEncoding.EncodeToString(text), expect())
		if (a == nil) == (err == nil) {
			t.Fatal("both or neither")
		}
		if a != nil && (a.Issuer != entity || a.Subject != "ada" || a.SubjectType != "persistent" || a.Recipient != samltest.Recipient || !a.Allows(role, provider) || len(a.Attributes) != 2) {
			t.Fatalf("accepted: %+v", a)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(samltest.New(f, entity).Metadata())
	f.Add(samltest.EC(f, entity).Metadata())
	f.Add(`<!DOCTYPE x><x/>`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := saml.ParseMetadata(text)
		if (m == nil) == (err == nil) {
			t.Fatal("both or neither")
		}
		if m != nil && (m.EntityID == "" || len(m.Certificates) == 0) {
			t.Fatalf("%+v", m)
		}
	})
}
