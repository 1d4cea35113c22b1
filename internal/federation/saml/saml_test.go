package saml_test

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"carrel/internal/awserr"
	"carrel/internal/federation/saml"
	"carrel/internal/federation/saml/samltest"
)

const (
	entity   = "https://idp.example.org/metadata"
	role     = "arn:aws:iam::123456789012:role/desk"
	provider = "arn:aws:iam::123456789012:saml-provider/Example"
	// doubtful is the text for what is not a response of the one shape.
	doubtful = "Your request included an invalid SAML response."
	unsigned = "Response signature invalid"
)

// nameQualifier is made with openssl.
const nameQualifier = "1uAJanUnBc2XeUkHURMht+xam2c="

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func expect() *saml.Expect {
	return &saml.Expect{Now: now, Audiences: []string{samltest.Recipient, samltest.Audience}, Recipients: []string{samltest.Recipient}}
}

func metadata(t testing.TB, p *samltest.IdP) *saml.Metadata {
	t.Helper()
	m, err := saml.ParseMetadata(p.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refused wants code and text, and that nothing is handed out.
func refused(t *testing.T, m *saml.Metadata, response, code, text string) {
	t.Helper()
	got, err := m.Verify(response, expect())
	if got != nil || err == nil {
		t.Fatalf("accepted: %+v", got)
	}
	status := map[string]int{"IDPRejectedClaim": 403}[code]
	if status == 0 {
		status = 400
	}
	if err.Code != code || err.Message != text || err.Status != status || err.Kind != awserr.Modelled {
		t.Errorf("refused with %d %v, want %s: %s", err.Status, err, code, text)
	}
}

func TestResponsesOfAProviderAreTaken(t *testing.T) {
	rsa, ec := samltest.New(t, entity), samltest.EC(t, entity)
	strongest := *rsa
	strongest.Hash = crypto.SHA512
	for _, c := range []struct {
		name    string
		idp     *samltest.IdP
		signing samltest.Signing
	}{
		{"the assertion signed with RSA", rsa, samltest.Assertion},
		{"the response signed with RSA", rsa, samltest.Response},
		{"both signed with RSA", rsa, samltest.Assertion | samltest.Response},
		{"both signed with SHA-512", &strongest, samltest.Assertion | samltest.Response},
		{"both signed with ECDSA", ec, samltest.Assertion | samltest.Response},
	} {
		t.Run(c.name, func(t *testing.T) {
			says := c.idp.Say(now, role, provider)
			says.SessionEnd = now.Add(2 * time.Hour)
			says.InResponseTo = "_of-the-client"
			a, err := metadata(t, c.idp).Verify(samltest.Encode(t, c.idp.Document(t, says, c.signing)), expect())
			if err != nil {
				t.Fatal(err)
			}
			if a.ID != says.ID || a.Issuer != entity || a.Subject != "ada" || a.SubjectType != "persistent" || a.Recipient != samltest.Recipient ||
				!a.SessionEnd.Equal(says.SessionEnd) || !a.Until.After(now.Add(5*time.Minute)) || !a.Allows(role, provider) {
				t.Errorf("%+v", a)
			}
		})
	}
	t.Run("a second certificate of the provider signs as well as the first, and KeyInfo is not asked", func(t *testing.T) {
		other := samltest.Other(t, entity)
		m := metadata(t, other)
		m.Certificates = append(m.Certificates, rsa.Cert)
		doc := rsa.Document(t, rsa.Say(now, role, provider), samltest.Assertion)
		doc.FindElement("//X509Certificate").SetText(base64.StdEncoding.EncodeToString(other.Cert.Raw))
		if _, err := m.Verify(samltest.Encode(t, doc), expect()); err != nil {
			t.Error(err)
		}
		info := doc.FindElement("//KeyInfo")
		info.Parent().RemoveChild(info)
		if _, err := m.Verify(samltest.Encode(t, doc), expect()); err != nil {
			t.Error(err)
		}
	})
}

// attack is a way to make a signed document say something else.
type attack struct {
	name       string
	signing    samltest.Signing
	change     func(t *testing.T, p *samltest.IdP, doc *etree.Document)
	code, text string
}

// evil is a copy of the assertion of doc that is of the administrator, without a signature.
func evil(doc *etree.Document) *etree.Element {
	e := doc.Root().FindElement("./Assertion").Copy()
	e.CreateAttr("ID", "_evil")
	e.FindElement("./Subject/NameID").SetText("admin")
	if s := e.FindElement("./Signature"); s != nil {
		e.RemoveChild(s)
	}
	return e
}

// evilResponse is a copy of the whole response of which the assertion is the administrator's.
func evilResponse(doc *etree.Document) *etree.Element {
	e := doc.Root().Copy()
	e.CreateAttr("ID", "_evil-response")
	if s := e.FindElement("./Signature"); s != nil {
		e.RemoveChild(s)
	}
	e.FindElement("./Assertion").CreateAttr("ID", "_evil")
	e.FindElement("./Assertion/Subject/NameID").SetText("admin")
	return e
}

func assertionOf(doc *etree.Document) *etree.Element { return doc.Root().FindElement("./Assertion") }

func signatureOf(e *etree.Element) *etree.Element { return e.FindElement("./Signature") }

// under puts child into a new element of any name under parent.
func under(parent *etree.Element, name string, child *etree.Element) {
	parent.CreateElement(name).AddChild(child)
}

// attacks are those of FED-1. The numbers of wrapping attacks are those by which "On Breaking SAML" (Somorovsky et al. 2012) and SAML Raider
// know them; the ninth is the encrypted assertion beside one in the open.
var attacks = []attack{
	{"XSW 1 the signed response inside the signature of a new one", samltest.Response, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := doc.Root().Copy(), evilResponse(doc)
		s := signatureOf(doc.Root()).Copy()
		good.RemoveChild(signatureOf(good))
		s.AddChild(good)
		bad.InsertChildAt(1, s)
		doc.SetRoot(bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 2 the signed response beside its signature in a new one", samltest.Response, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := doc.Root().Copy(), evilResponse(doc)
		s := signatureOf(doc.Root()).Copy()
		good.RemoveChild(signatureOf(good))
		bad.InsertChildAt(1, good)
		bad.InsertChildAt(2, s)
		doc.SetRoot(bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 3 a new assertion before the signed one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().InsertChildAt(assertionOf(doc).Index(), evil(doc))
	}, "InvalidIdentityToken", doubtful},
	{"XSW 4 the signed assertion inside a new one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		doc.Root().RemoveChild(good)
		bad.AddChild(good)
		doc.Root().AddChild(bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 5 the signature moved to a new assertion, the old one at the end", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		s := signatureOf(good)
		good.RemoveChild(s)
		bad.InsertChildAt(1, s)
		doc.Root().InsertChildAt(good.Index(), bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 6 the old assertion inside the signature of the new one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		s := signatureOf(good)
		good.RemoveChild(s)
		doc.Root().RemoveChild(good)
		s.AddChild(good)
		bad.InsertChildAt(1, s)
		doc.Root().AddChild(bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 7 a new assertion in Extensions", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		under(doc.Root(), "samlp:Extensions", evil(doc))
	}, "InvalidIdentityToken", doubtful},
	{"XSW 8 the old assertion in an Object of the signature of the new one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		s := signatureOf(good)
		good.RemoveChild(s)
		doc.Root().RemoveChild(good)
		under(s, "ds:Object", good)
		bad.InsertChildAt(1, s)
		doc.Root().AddChild(bad)
	}, "InvalidIdentityToken", doubtful},
	{"XSW 9 an encrypted assertion beside the signed one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().CreateElement("saml:EncryptedAssertion").CreateAttr("xmlns:saml", "urn:oasis:names:tc:SAML:2.0:assertion")
	}, "InvalidIdentityToken", doubtful},
	{"wrapping: the old assertion keeps its ID, so does the new one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		bad.CreateAttr("ID", good.SelectAttrValue("ID", ""))
		s := signatureOf(good).Copy()
		bad.InsertChildAt(1, s)
		good.Tag, good.Space = "x", "samlp"
		doc.Root().AddChild(bad)
	}, "InvalidIdentityToken", doubtful},
	{"wrapping: the ID twice, once as xml:id", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().FindElement("./Status").CreateAttr("xml:id", assertionOf(doc).SelectAttrValue("ID", ""))
	}, "InvalidIdentityToken", doubtful},
	{"wrapping: the signed assertion in another namespace, the new one in the right one", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		good, bad := assertionOf(doc), evil(doc)
		good.CreateAttr("xmlns:saml", "urn:other")
		doc.Root().InsertChildAt(good.Index(), bad)
	}, "InvalidIdentityToken", doubtful},
	{"two assertions, both signed", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		second := evil(doc)
		p.Sign(t, second)
		doc.Root().AddChild(second)
	}, "InvalidIdentityToken", doubtful},
	{"two assertions in a signed response", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().AddChild(evil(doc))
		p.Sign(t, doc.Root())
	}, "InvalidIdentityToken", doubtful},
	{"an unsigned response of which another part is signed", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		status := doc.Root().FindElement("./Status")
		status.CreateAttr("ID", "_status")
		status.CreateElement("Issuer")
		p.Sign(t, status)
	}, "InvalidIdentityToken", doubtful},
	{"the status' signature moved to the response", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		status := doc.Root().FindElement("./Status")
		status.CreateAttr("ID", "_status")
		status.CreateElement("Issuer")
		p.Sign(t, status)
		s := signatureOf(status)
		status.RemoveChild(s)
		doc.Root().InsertChildAt(doc.Root().FindElement("./Issuer").Index()+1, s)
	}, "InvalidIdentityToken", unsigned},
	{"nothing is signed", samltest.Nothing, func(*testing.T, *samltest.IdP, *etree.Document) {}, "InvalidIdentityToken", unsigned},
	{"a word is changed after signing", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//NameID").SetText("admin")
	}, "InvalidIdentityToken", unsigned},
	{"a word is changed in the assertion of a signed response", samltest.Response, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//NameID").SetText("admin")
	}, "InvalidIdentityToken", unsigned},
	{"the response's signature is wrong, the assertion's right", samltest.Assertion | samltest.Response, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().CreateAttr("Version", "2.1")
	}, "InvalidIdentityToken", unsigned},
	{"the response's signature is right, the assertion's wrong", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//NameID").SetText("admin")
		p.Sign(t, doc.Root())
	}, "InvalidIdentityToken", unsigned},
	{"another provider's key, with its certificate in KeyInfo", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		samltest.Other(t, entity).Sign(t, assertionOf(doc))
	}, "InvalidIdentityToken", unsigned},
	{"a comment splits the subject", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		name := doc.FindElement("//NameID")
		name.SetText("a")
		name.AddChild(etree.NewComment(""))
		name.AddChild(etree.NewText("da"))
	}, "InvalidIdentityToken", doubtful},
	{"a processing instruction splits the subject", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		name := doc.FindElement("//NameID")
		name.SetText("a")
		name.AddChild(etree.NewProcInst("x", "y"))
		name.AddChild(etree.NewText("da"))
	}, "InvalidIdentityToken", doubtful},
	{"a second reference", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		info := doc.FindElement("//SignedInfo")
		info.AddChild(info.FindElement("./Reference").Copy())
	}, "InvalidIdentityToken", unsigned},
	{"a second SignedInfo", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		info := doc.FindElement("//SignedInfo")
		info.Parent().InsertChildAt(0, info.Copy())
	}, "InvalidIdentityToken", unsigned},
	{"a second digest, by another name", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//Reference").CreateElement("DigestValue").SetText("eA==")
	}, "InvalidIdentityToken", unsigned},
	{"a digest with a comment", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//DigestValue").InsertChildAt(0, etree.NewComment("eA=="))
	}, "InvalidIdentityToken", doubtful},
	{"a reference to the whole document", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//Reference").CreateAttr("URI", "")
	}, "InvalidIdentityToken", unsigned},
	{"a reference elsewhere", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//Reference").CreateAttr("URI", "https://evil.example.org/")
	}, "InvalidIdentityToken", unsigned},
	{"transforms: XSLT", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//Transform").CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
	}, "InvalidIdentityToken", unsigned},
	{"transforms: XPath with a filter", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		x := doc.FindElement("//Transforms").CreateElement("ds:Transform")
		x.CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")
	}, "InvalidIdentityToken", unsigned},
	{"transforms: none", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		e := doc.FindElement("//Transforms")
		e.Parent().RemoveChild(e)
	}, "InvalidIdentityToken", unsigned},
	{"transforms: inclusive canonical form, rightly signed", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		p.SignAs(t, assertionOf(doc), dsig.MakeC14N11Canonicalizer())
	}, "InvalidIdentityToken", unsigned},
	{"transforms: canonical form with comments, rightly signed", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		p.SignAs(t, assertionOf(doc), dsig.MakeC14N10ExclusiveWithCommentsCanonicalizerWithPrefixList(""))
	}, "InvalidIdentityToken", unsigned},
	{"SHA-1, rightly signed", samltest.Nothing, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		weak := *p
		weak.Hash = crypto.SHA1
		weak.Sign(t, assertionOf(doc))
	}, "InvalidIdentityToken", unsigned},
	{"HMAC with the public key", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//SignatureMethod").CreateAttr("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
	}, "InvalidIdentityToken", unsigned},
	{"SHA-1 for the digest alone", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//DigestMethod").CreateAttr("Algorithm", "http://www.w3.org/2000/09/xmldsig#sha1")
	}, "InvalidIdentityToken", unsigned},
	{"an empty signature value", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//SignatureValue").SetText("")
	}, "InvalidIdentityToken", unsigned},
	{"the signature behind the assertion's subject", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		s := signatureOf(assertionOf(doc))
		assertionOf(doc).RemoveChild(s)
		assertionOf(doc).AddChild(s)
	}, "InvalidIdentityToken", doubtful},
	{"the provider itself says no", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.FindElement("//StatusCode").CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")
	}, "IDPRejectedClaim", "The identity provider did not authenticate the user."},
	{"parser differential: an attribute of a name with two colons", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		assertionOf(doc).Attr = append(assertionOf(doc).Attr, etree.Attr{Space: "x", Key: "y:z", Value: "1"})
	}, "InvalidIdentityToken", doubtful},
	{"parser differential: a prefix that nobody declares", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().CreateElement("none:x")
	}, "InvalidIdentityToken", doubtful},
	{"parser differential: the namespace of xml under another name", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().CreateAttr("xmlns:x", "http://www.w3.org/XML/1998/namespace")
	}, "InvalidIdentityToken", doubtful},
	{"parser differential: a prefix taken back", samltest.Assertion, func(t *testing.T, p *samltest.IdP, doc *etree.Document) {
		doc.Root().FindElement("./Status").CreateAttr("xmlns:samlp2", "")
	}, "InvalidIdentityToken", doubtful},
}

func TestFED1AttacksOnTheDocumentAreRefused(t *testing.T) {
	p := samltest.New(t, entity)
	m := metadata(t, p)
	for _, a := range attacks {
		t.Run("FED-1 "+a.name, func(t *testing.T) {
			doc := p.Document(t, p.Say(now, role, provider), a.signing)
			a.change(t, p, doc)
			refused(t, m, samltest.Encode(t, doc), a.code, a.text)
		})
	}
}

// bytesOf changes the bytes of a signed document.
func TestFED1AttacksOnTheBytesAreRefused(t *testing.T) {
	p := samltest.New(t, entity)
	m := metadata(t, p)
	doc := p.Document(t, p.Say(now, role, provider), samltest.Assertion)
	good, err := doc.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text string }{
		{"DTD", `<!DOCTYPE samlp:Response [<!ENTITY a "ada">]>` + good},
		{"XXE: an external entity in the subject", `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + strings.Replace(good, ">ada<", ">&x;<", 1)},
		{"XXE: an external DTD", `<!DOCTYPE r SYSTEM "https://evil.example.org/x.dtd">` + good},
		{"an entity nobody defined", strings.Replace(good, ">ada<", ">&ada;<", 1)},
		{"a directive within an element", strings.Replace(good, "<samlp:Status>", `<!ENTITY x "y"><samlp:Status>`, 1)},
		{"another encoding", `<?xml version="1.0" encoding="UTF-7"?>` + good},
		{"XML 1.1", `<?xml version="1.1"?>` + good},
		{"a second root", good + "<x/>"},
		{"text behind the root", good + "x"},
		{"a comment before the root", "<!-- -->" + good},
		{"an attribute twice", strings.Replace(good, `Version="2.0"`, `Version="2.0" Version="2.0"`, 1)},
		{"two IDs on the assertion", strings.Replace(good, `<saml:Assertion `, `<saml:Assertion ID="_x" `, 1)},
		{"NUL", strings.Replace(good, ">ada<", ">ada\x00<", 1)},
		{"not UTF-8", strings.Replace(good, ">ada<", ">ada\xff<", 1)},
		{"UTF-16", "\xff\xfe<\x00"},
		{"a document that does not end", good[:len(good)-12]},
		{"deep nesting", strings.Repeat("<x>", 10000) + strings.Repeat("</x>", 10000)},
		{"many elements", strings.Replace(good, "<samlp:Status>", strings.Repeat("<x/>", 2000)+"<samlp:Status>", 1)},
		{"not XML", "SAML"},
		{"nothing", ""},
	} {
		t.Run("FED-1 "+c.name, func(t *testing.T) {
			refused(t, m, base64.StdEncoding.EncodeToString([]byte(c.text)), "InvalidIdentityToken", doubtful)
		})
	}
	t.Run("FED-1 a billion laughs", func(t *testing.T) {
		text := `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">`
		for i := range 9 {
			text += fmt.Sprintf(`<!ENTITY %c "%s">`, 'b'+i, strings.Repeat(fmt.Sprintf("&%c;", 'a'+i), 10))
		}
		refused(t, m, base64.StdEncoding.EncodeToString([]byte(text+`]><r>&j;</r>`)), "InvalidIdentityToken", doubtful)
	})
	t.Run("not base64", func(t *testing.T) {
		refused(t, m, "<Response/>", "InvalidIdentityToken", "Invalid base64 SAMLResponse")
		refused(t, m, strings.Repeat("A", saml.MaxResponse+4), "InvalidIdentityToken", "Invalid base64 SAMLResponse")
	})
	t.Run("FED-1 CDATA is text like any other", func(t *testing.T) {
		if a, err := m.Verify(base64.StdEncoding.EncodeToString([]byte(strings.Replace(good, ">ada<", "><![CDATA[a]]>da<", 1))), expect()); err != nil || a.Subject != "ada" {
			t.Error(a, err)
		}
	})
}

func TestFED1WhatAnAssertionIsFor(t *testing.T) {
	p := samltest.New(t, entity)
	m := metadata(t, p)
	const wrongAudience, wrongRecipient = "Response does not contain the required audience.", "Response does not contain the required recipient."
	for _, c := range []struct {
		name, code, text string
		change           func(*samltest.Says)
	}{
		{"Audience of somebody else", "InvalidIdentityToken", wrongAudience, func(s *samltest.Says) { s.Audience = "https://other.example.org" }},
		{"Audience that begins like ours", "InvalidIdentityToken", wrongAudience, func(s *samltest.Says) { s.Audience = samltest.Audience + ".evil" }},
		{"Audience: a second restriction that is not ours", "InvalidIdentityToken", wrongAudience, func(s *samltest.Says) {
			s.Extra = "<saml:AudienceRestriction><saml:Audience>x</saml:Audience></saml:AudienceRestriction>"
		}},
		{"a condition that nobody knows", "InvalidIdentityToken", doubtful, func(s *samltest.Says) { s.Extra = `<saml:Condition/>` }},
		{"Recipient of somebody else", "InvalidIdentityToken", wrongRecipient, func(s *samltest.Says) { s.Recipient = "https://other.example.org" }},
		{"Destination of somebody else", "InvalidIdentityToken", wrongRecipient, func(s *samltest.Says) { s.Destination = "https://other.example.org" }},
		{"Issuer of somebody else", "InvalidIdentityToken", "Issuer not present in specified provider", func(s *samltest.Says) { s.Issuer = "https://other.example.org" }},
		{"time: over in the clock's tolerance and a second", "ExpiredTokenException", "Response has expired", func(s *samltest.Says) { s.Until = now.Add(-61 * time.Second) }},
		{"time: not begun", "InvalidIdentityToken", "Response is not yet valid", func(s *samltest.Says) { s.From = now.Add(61 * time.Second) }},
		{"time: issued more than five minutes ago", "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance", func(s *samltest.Says) { s.Issued = now.Add(-6*time.Minute - time.Second) }},
		{"time: issued in the future", "InvalidIdentityToken", "Response was issued in the future", func(s *samltest.Says) { s.Issued = now.Add(61 * time.Second) }},
		{"time: the session with the provider is over", "ExpiredTokenException", "Response has expired", func(s *samltest.Says) { s.SessionEnd = now }},
		{"no subject", "InvalidIdentityToken", "Response does not contain a subject.", func(s *samltest.Says) { s.Subject = " " }},
	} {
		t.Run("FED-1 "+c.name, func(t *testing.T) {
			says := p.Say(now, role, provider)
			c.change(says)
			refused(t, m, samltest.Encode(t, p.Document(t, says, samltest.Assertion)), c.code, c.text)
		})
	}
	for _, c := range []struct {
		name, code, text string
		change           func(*etree.Document)
	}{
		{"InResponseTo that the confirmation does not repeat", "InvalidIdentityToken", doubtful, func(d *etree.Document) { d.Root().CreateAttr("InResponseTo", "_other") }},
		{"no audience at all", "InvalidIdentityToken", wrongAudience, func(d *etree.Document) {
			c := d.FindElement("//Conditions")
			c.RemoveChild(c.FindElement("./AudienceRestriction"))
		}},
		{"no conditions at all", "InvalidIdentityToken", wrongAudience, func(d *etree.Document) { c := d.FindElement("//Conditions"); c.Parent().RemoveChild(c) }},
		{"holder-of-key instead of bearer", "InvalidIdentityToken", "Response does not contain a bearer subject confirmation.", func(d *etree.Document) {
			d.FindElement("//SubjectConfirmation").CreateAttr("Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")
		}},
		{"a confirmation without an end", "InvalidIdentityToken", doubtful, func(d *etree.Document) { d.FindElement("//SubjectConfirmationData").RemoveAttr("NotOnOrAfter") }},
		{"a confirmation that has ended", "ExpiredTokenException", "Response has expired", func(d *etree.Document) {
			d.FindElement("//SubjectConfirmationData").CreateAttr("NotOnOrAfter", "2026-11-26T11:58:00Z")
		}},
		{"a time that is none", "InvalidIdentityToken", "Response is not yet valid", func(d *etree.Document) { d.FindElement("//Conditions").CreateAttr("NotBefore", "yesterday") }},
		{"two issuers", "InvalidIdentityToken", "Issuer not present in specified provider", func(d *etree.Document) {
			a := assertionOf(d)
			a.InsertChildAt(0, a.FindElement("./Issuer").Copy())
		}},
		{"no AuthnStatement", "InvalidIdentityToken", doubtful, func(d *etree.Document) { c := d.FindElement("//AuthnStatement"); c.Parent().RemoveChild(c) }},
		{"SAML 1.1", "InvalidIdentityToken", doubtful, func(d *etree.Document) { assertionOf(d).CreateAttr("Version", "1.1") }},
		{"an attribute's value that is a document", "InvalidIdentityToken", doubtful, func(d *etree.Document) { d.FindElement("//AttributeValue").CreateElement("saml:x") }},
	} {
		t.Run("FED-1 rightly signed: "+c.name, func(t *testing.T) {
			doc := samltest.Unsigned(t, p.Say(now, role, provider))
			c.change(doc)
			p.Sign(t, assertionOf(doc))
			refused(t, m, samltest.Encode(t, doc), c.code, c.text)
		})
	}
	t.Run("metadata that are no longer valid", func(t *testing.T) {
		old, err := saml.ParseMetadata(strings.Replace(p.Metadata(), "entityID", `validUntil="2026-11-26T12:00:00Z" entityID`, 1))
		if err != nil {
			t.Fatal(err)
		}
		refused(t, old, samltest.Encode(t, p.Document(t, p.Say(now, role, provider), samltest.Assertion)), "InvalidIdentityToken", "Provider metadata has expired")
	})
	t.Run("FED-1 golden SAML: a key that was taken out of the metadata signs nothing any more", func(t *testing.T) {
		stolen := p.Document(t, p.Say(now, role, provider), samltest.Assertion|samltest.Response)
		refused(t, metadata(t, samltest.Other(t, entity)), samltest.Encode(t, stolen), "InvalidIdentityToken", unsigned)
	})
}

func TestWhatAssertionsGrant(t *testing.T) {
	p := samltest.New(t, entity)
	m := metadata(t, p)
	verify := func(t *testing.T, attributes ...samltest.Attr) *saml.Assertion {
		t.Helper()
		says := p.Say(now, role, provider)
		says.Attributes = attributes
		a, err := m.Verify(samltest.Encode(t, p.Document(t, says, samltest.Assertion)), expect())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	attr := func(name string, values ...string) samltest.Attr {
		return samltest.Attr{Name: samltest.Attribute + name, Values: values}
	}
	name := attr("RoleSessionName", "ada")
	t.Run("everything", func(t *testing.T) {
		g, err := verify(t, name, attr("SessionDuration", "7200"), attr("SourceIdentity", "ada.l"), attr("PrincipalTag:team", "engines"), attr("PrincipalTag:empty", ""), attr("TransitiveTagKeys", "team")).Grant()
		if err != nil {
			t.Fatal(err)
		}
		if g.SessionName != "ada" || g.Duration != 2*time.Hour || g.SourceIdentity != "ada.l" || !maps.Equal(g.Tags, map[string]string{"team": "engines", "empty": ""}) || !slices.Equal(g.Transitive, []string{"team"}) {
			t.Errorf("%+v", g)
		}
	})
	var many []samltest.Attr
	for i := range 51 {
		many = append(many, attr(fmt.Sprintf("PrincipalTag:t%d", i), "x"))
	}
	const mustMatch = "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}"
	for _, c := range []struct {
		name       string
		attributes []samltest.Attr
		text       string
	}{
		{"no session name", nil, "RoleSessionName is required in AuthnResponse"},
		{"a session name with a slash", []samltest.Attr{attr("RoleSessionName", "a/b")}, mustMatch},
		{"a session name of one letter", []samltest.Attr{attr("RoleSessionName", "a")}, mustMatch},
		{"two session names", []samltest.Attr{attr("RoleSessionName", "ada", "bob")}, mustMatch},
		{"two session names in two attributes", []samltest.Attr{name, attr("RoleSessionName", "bob")}, mustMatch},
		{"a source identity of AWS", []samltest.Attr{name, attr("SourceIdentity", "aws:ada")}, `Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`},
		{"a duration over twelve hours", []samltest.Attr{name, attr("SessionDuration", "43201")}, "SessionDuration in AuthnResponse must be an integer between 900 and 43200"},
		{"a duration in words", []samltest.Attr{name, attr("SessionDuration", "long")}, "SessionDuration in AuthnResponse must be an integer between 900 and 43200"},
		{"a tag of AWS", []samltest.Attr{name, attr("PrincipalTag:AWS:x", "y")}, `The session tag "AWS:x" in AuthnResponse is not valid`},
		{"a tag with two values", []samltest.Attr{name, attr("PrincipalTag:x", "y", "z")}, `The session tag "x" in AuthnResponse is not valid`},
		{"a tag without a key", []samltest.Attr{name, attr("PrincipalTag:", "y")}, `The session tag "" in AuthnResponse is not valid`},
		{"a tag with a long value", []samltest.Attr{name, attr("PrincipalTag:x", strings.Repeat("y", 257))}, `The session tag "x" in AuthnResponse is not valid`},
		{"tags that differ in case", []samltest.Attr{name, attr("PrincipalTag:x", "y"), attr("PrincipalTag:X", "y")}, "Duplicate tag keys found in AuthnResponse. Please note that Tag keys are case insensitive."},
		{"51 tags", append(many, name), "AuthnResponse has more than 50 session tags"},
		{"a transitive key that is no tag", []samltest.Attr{name, attr("TransitiveTagKeys", "x")}, "The specified transitive tag key must be included in the requested tags."},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			if _, err := verify(t, c.attributes...).Grant(); err == nil || err.Code != "InvalidIdentityToken" || err.Message != c.text {
				t.Errorf("%v, want %s", err, c.text)
			}
		})
	}
	t.Run("the pair of role and provider may stand in either order, and is compared whole", func(t *testing.T) {
		a := verify(t, attr("Role", "arn:aws:iam::123456789012:role/x,"+provider, " "+provider+" , "+role+" "))
		if !a.Allows(role, provider) || a.Allows(role, "arn:aws:iam::123456789012:saml-provider/Other") || a.Allows("arn:aws:iam::123456789012:role/other", provider) || a.Allows(role, role) {
			t.Error(a.Attributes)
		}
	})
	t.Run("a subject is taken as it is: white space tells people apart", func(t *testing.T) {
		says := p.Say(now, role, provider)
		says.Subject = "ada "
		if a, err := m.Verify(samltest.Encode(t, p.Document(t, says, samltest.Assertion)), expect()); err != nil || a.Subject != "ada " {
			t.Error(a, err)
		}
	})
	t.Run("claims", func(t *testing.T) {
		a := verify(t, samltest.Attr{Name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", Values: []string{"staff", "member"}}, samltest.Attr{Name: "urn:oid:0.9.2342.19200300.100.1.3", Values: []string{"a@example.org", "b@example.org"}},
			samltest.Attr{Name: "urn:oid:2.5.4.3", Values: []string{"Ada"}})
		want := map[string][]string{
			"saml:aud": {samltest.Recipient}, "saml:iss": {entity}, "saml:sub": {"ada"}, "saml:sub_type": {"persistent"}, "saml:doc": {"123456789012/Example"},
			"saml:namequalifier": {saml.NameQualifier(entity, "123456789012", "Example")}, "saml:edupersonaffiliation": {"staff", "member"}, "saml:cn": {"Ada"}, "saml:commonName": {"Ada"},
		}
		if got := a.Claims("123456789012", "Example"); !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%v", got)
		}
	})
	t.Run("the name qualifier is AWS's", func(t *testing.T) {
		// printf 'https://example.com/saml123456789012/MySAMLIdP' | openssl sha1 -binary | base64
		if got := saml.NameQualifier("https://example.com/saml", "123456789012", "MySAMLIdP"); got != nameQualifier {
			t.Error(got)
		}
	})
}
