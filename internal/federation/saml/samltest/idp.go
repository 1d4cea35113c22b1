// Package samltest is a SAML identity provider for tests: it has a key, describes itself in metadata, and signs what it is told to say.
//
// It refuses to be imported outside tests.
package samltest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// Names that AWS is known by.
const (
	Audience  = "urn:amazon:webservices"
	Recipient = "https://signin.aws.amazon.com/saml"
	Attribute = "https://aws.amazon.com/SAML/Attributes/"
)

// IdP is an identity provider.
type IdP struct {
	EntityID string
	Key      crypto.Signer
	Cert     *x509.Certificate
	// Hash is what it signs with.
	Hash crypto.Hash
}

// keys are made once for all tests of a package: RSA takes its time.
var keys = [2]func() *rsa.PrivateKey{sync.OnceValue(newRSA), sync.OnceValue(newRSA)}

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// New makes a provider with an RSA key.
func New(t testing.TB, entityID string) *IdP { return With(t, entityID, keys[0]()) }

// Other makes a provider of the same name with another key.
func Other(t testing.TB, entityID string) *IdP { return With(t, entityID, keys[1]()) }

// EC makes a provider with a key on P-256.
func EC(t testing.TB, entityID string) *IdP {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return With(t, entityID, key)
}

// With makes a provider with that key. Its certificate ended long ago, which AWS does not look at.
func With(t testing.TB, entityID string, key crypto.Signer) *IdP {
	t.Helper()
	from := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: entityID}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &IdP{EntityID: entityID, Key: key, Cert: cert, Hash: crypto.SHA256}
}

// Metadata is its metadata document.
func (p *IdP) Metadata() string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<!-- made by hand -->
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="%s">
  <md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>
      %s
    </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example.org/sso"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>`, p.EntityID, base64.StdEncoding.EncodeToString(p.Cert.Raw))
}

// Attr is an attribute with its values.
type Attr struct {
	Name   string
	Values []string
}

// Says is what a provider is told to say.
type Says struct {
	ResponseID, ID      string
	Issuer              string
	Issued              time.Time
	Subject, Format     string
	Audience, Recipient string
	Destination         string
	InResponseTo        string
	Status              string
	// From and Until bound the assertion, SessionEnd the session with the provider.
	From, Until, SessionEnd time.Time
	Attributes              []Attr
	// Extra stands in Conditions, as it is.
	Extra string
}

// Say is what the provider says of ada, who may take role at provider.
func (p *IdP) Say(now time.Time, role, provider string) *Says {
	return &Says{
		ResponseID: "_" + random(), ID: "_" + random(), Issuer: p.EntityID, Issued: now, Subject: "ada", Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
		Audience: Audience, Recipient: Recipient, Destination: Recipient, Status: "urn:oasis:names:tc:SAML:2.0:status:Success",
		From: now.Add(-time.Minute), Until: now.Add(5 * time.Minute),
		Attributes: []Attr{{Attribute + "Role", []string{role + "," + provider}}, {Attribute + "RoleSessionName", []string{"ada@example.org"}}},
	}
}

func random() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return fmt.Sprintf("%x", b)
}

var response = template.Must(template.New("").Funcs(template.FuncMap{
	"at": func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") },
}).Parse(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="{{.ResponseID}}" Version="2.0" IssueInstant="{{at .Issued}}"{{with .Destination}} Destination="{{.}}"{{end}}{{with .InResponseTo}} InResponseTo="{{.}}"{{end}}>
<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">{{.Issuer}}</saml:Issuer>
<samlp:Status><samlp:StatusCode Value="{{.Status}}"/></samlp:Status>
<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ID="{{.ID}}" Version="2.0" IssueInstant="{{at .Issued}}">
<saml:Issuer>{{.Issuer}}</saml:Issuer>
<saml:Subject><saml:NameID Format="{{.Format}}">{{.Subject}}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData Recipient="{{.Recipient}}" NotOnOrAfter="{{at .Until}}"{{with .InResponseTo}} InResponseTo="{{.}}"{{end}}/></saml:SubjectConfirmation></saml:Subject>
<saml:Conditions NotBefore="{{at .From}}" NotOnOrAfter="{{at .Until}}"><saml:AudienceRestriction><saml:Audience>{{.Audience}}</saml:Audience></saml:AudienceRestriction>{{.Extra}}</saml:Conditions>
<saml:AuthnStatement AuthnInstant="{{at .Issued}}"{{if not .SessionEnd.IsZero}} SessionNotOnOrAfter="{{at .SessionEnd}}"{{end}}><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>
<saml:AttributeStatement>{{range .Attributes}}<saml:Attribute Name="{{.Name}}">{{range .Values}}<saml:AttributeValue xsi:type="xs:string">{{.}}</saml:AttributeValue>{{end}}</saml:Attribute>{{end}}</saml:AttributeStatement>
</saml:Assertion>
</samlp:Response>`))

// Signing is which elements are signed.
type Signing int

// The elements, to be added.
const (
	Nothing   Signing = 0
	Assertion Signing = 1
	Response  Signing = 2
)

// Document is what it says, signed.
func (p *IdP) Document(t testing.TB, says *Says, signing Signing) *etree.Document {
	t.Helper()
	doc := Unsigned(t, says)
	if signing&Assertion != 0 {
		p.Sign(t, doc.Root().FindElement("./Assertion"))
	}
	if signing&Response != 0 {
		p.Sign(t, doc.Root())
	}
	return doc
}

// Unsigned is the document without any signature.
func Unsigned(t testing.TB, says *Says) *etree.Document {
	t.Helper()
	var b bytes.Buffer
	if err := response.Execute(&b, says); err != nil {
		t.Fatal(err)
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Sign puts a signature over e behind its Issuer.
func (p *IdP) Sign(t testing.TB, e *etree.Element) {
	t.Helper()
	p.SignAs(t, e, dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList(""))
}

// SignAs is Sign with another canonical form.
func (p *IdP) SignAs(t testing.TB, e *etree.Element, canonical dsig.Canonicalizer) {
	t.Helper()
	context, err := dsig.NewSigningContext(p.Key, [][]byte{p.Cert.Raw})
	if err != nil {
		t.Fatal(err)
	}
	context.Hash, context.Canonicalizer = p.Hash, canonical
	parents, err := etreeutils.NSBuildParentContext(e)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := etreeutils.NSDetatch(parents, e)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := context.ConstructSignature(alone, true)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := p.Key.Public().(*ecdsa.PublicKey); ok {
		value := signature.FindElement("./SignatureValue")
		value.SetText(plainECDSA(t, value.Text(), (key.Curve.Params().BitSize+7)/8))
	}
	e.InsertChildAt(e.FindElement("./Issuer").Index()+1, signature)
}

// plainECDSA writes both numbers one after the other, as XML signatures do.
func plainECDSA(t testing.TB, encoded string, size int) string {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var numbers struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &numbers); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 2*size)
	numbers.R.FillBytes(raw[:size])
	numbers.S.FillBytes(raw[size:])
	return base64.StdEncoding.EncodeToString(raw)
}

// Encode is a document as it is sent.
func Encode(t testing.TB, doc *etree.Document) string {
	t.Helper()
	text, err := doc.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}
