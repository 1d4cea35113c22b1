package saml_test

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"carrel/internal/federation/saml"
	"carrel/internal/federation/saml/samltest"
)

// seal puts the assertion of doc, as it is, into an EncryptedAssertion (XML encryption 1.1).
func seal(t *testing.T, doc *etree.Document, key *rsa.PublicKey, change func(string) string) {
	t.Helper()
	assertion := assertionOf(doc)
	inner := etree.NewDocument()
	inner.SetRoot(assertion.Copy())
	plain, err := inner.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	secret, iv := make([]byte, 32), make([]byte, 12)
	_, _ = rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha1.New()
	method := `<xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"/>`
	if change == nil { // Both forms of OAEP are made: this one where nothing is changed.
		digest = sha256.New()
		method = `<xenc:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#rsa-oaep"><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><xenc11:MGF xmlns:xenc11="http://www.w3.org/2009/xmlenc11#" Algorithm="http://www.w3.org/2009/xmlenc11#mgf1sha256"/></xenc:EncryptionMethod>`
	}
	wrapped, err := rsa.EncryptOAEP(digest, rand.Reader, key, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Type="http://www.w3.org/2001/04/xmlenc#Element">
<xenc:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#aes256-gcm"/>
<ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><xenc:EncryptedKey>%s<xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo>
<xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>`,
		method, base64.StdEncoding.EncodeToString(wrapped), base64.StdEncoding.EncodeToString(append(iv, gcm.Seal(nil, iv, plain, nil)...)))
	if change != nil {
		text = change(text)
	}
	sealed := etree.NewDocument()
	if err := sealed.ReadFromString(text); err != nil {
		t.Fatal(err)
	}
	doc.Root().InsertChildAt(assertion.Index(), sealed.Root())
	doc.Root().RemoveChild(assertion)
}

func TestEncryptedAssertions(t *testing.T) {
	p := samltest.New(t, entity)
	m := metadata(t, p)
	ours, others := samltest.New(t, "").Key.(*rsa.PrivateKey), samltest.Other(t, "").Key.(*rsa.PrivateKey)
	x := expect()
	x.Keys, x.Encrypted = []*rsa.PrivateKey{others, ours}, true
	build := func(t *testing.T, signing samltest.Signing, change func(string) string) *etree.Document {
		doc := p.Document(t, p.Say(now, role, provider), signing&samltest.Assertion)
		seal(t, doc, &ours.PublicKey, change)
		if signing&samltest.Response != 0 {
			p.Sign(t, doc.Root())
		}
		return doc
	}
	same := func(s string) string { return s }
	for _, c := range []struct {
		name    string
		signing samltest.Signing
		change  func(string) string
	}{
		{"signed within, SHA-256", samltest.Assertion, nil},
		{"signed within, SHA-1 in OAEP", samltest.Assertion, same},
		{"signed around it", samltest.Response, same},
		{"signed within and around it", samltest.Assertion | samltest.Response, nil},
	} {
		t.Run(c.name+" is read", func(t *testing.T) {
			if a, err := m.Verify(samltest.Encode(t, build(t, c.signing, c.change)), x); err != nil || a.Subject != "ada" {
				t.Error(a, err)
			}
		})
	}
	const sealed = "The assertion could not be decrypted."
	for _, c := range []struct {
		name    string
		signing samltest.Signing
		change  func(string) string
		text    string
	}{
		{"FED-1 encrypted but not signed", samltest.Nothing, same, unsigned},
		{"a cipher without authentication", samltest.Assertion, func(s string) string {
			return strings.Replace(s, "2009/xmlenc11#aes256-gcm", "2001/04/xmlenc#aes256-cbc", 1)
		}, sealed},
		{"PKCS #1 v1.5", samltest.Assertion, func(s string) string { return strings.Replace(s, "#rsa-oaep-mgf1p", "#rsa-1_5", 1) }, sealed},
		{"a key of another length", samltest.Assertion, func(s string) string { return strings.Replace(s, "#aes256-gcm", "#aes128-gcm", 1) }, sealed},
		{"a changed ciphertext", samltest.Assertion, func(s string) string {
			return strings.Replace(s, "</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>", "AAAA</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>", 1)
		}, sealed},
		{"no ciphertext", samltest.Assertion, func(s string) string { return strings.ReplaceAll(s, "xenc:CipherValue", "xenc:Other") }, sealed},
		{"no EncryptedData", samltest.Assertion, func(s string) string { return strings.ReplaceAll(s, "xenc:EncryptedData", "xenc:Other") }, sealed},
		{"no key", samltest.Assertion, func(s string) string { return strings.ReplaceAll(s, "xenc:EncryptedKey", "xenc:Other") }, sealed},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			if a, err := m.Verify(samltest.Encode(t, build(t, c.signing, c.change)), x); a != nil || err == nil || err.Code != "InvalidIdentityToken" || err.Message != c.text {
				t.Error(a, err)
			}
		})
	}
	t.Run("FED-1 an encrypted assertion that holds two", func(t *testing.T) {
		doc := p.Document(t, p.Say(now, role, provider), samltest.Assertion)
		under(assertionOf(doc), "saml:Advice", evil(doc))
		seal(t, doc, &ours.PublicKey, nil)
		if _, err := m.Verify(samltest.Encode(t, doc), x); err == nil || err.Message != sealed {
			t.Error(err)
		}
	})
	t.Run("in the open though it must be encrypted", func(t *testing.T) {
		if _, err := m.Verify(samltest.Encode(t, p.Document(t, p.Say(now, role, provider), samltest.Assertion)), x); err == nil || err.Message != "The assertion must be encrypted." {
			t.Error(err)
		}
	})
	t.Run("without a key of ours", func(t *testing.T) {
		refused(t, m, samltest.Encode(t, build(t, samltest.Assertion, nil)), "InvalidIdentityToken", sealed)
	})
}

func TestParseKey(t *testing.T) {
	key := samltest.New(t, "").Key.(*rsa.PrivateKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(samltest.EC(t, "").Key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for _, good := range []string{text("PRIVATE KEY", pkcs8), text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))} {
		if got, err := saml.ParseKey(good); err != nil || !got.Equal(crypto.PrivateKey(key)) {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "PRIVATE KEY", text("PRIVATE KEY", ec), text("PRIVATE KEY", pkcs8[:40])} {
		if _, err := saml.ParseKey(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
