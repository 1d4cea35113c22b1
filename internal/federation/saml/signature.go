package saml

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// The algorithms that a signature may name: with SHA-256 or better, over the one canonical form that does not depend on where the signed
// element stands. No HMAC: its key would be the provider's certificate, which everybody has.
const (
	exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	enveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
)

var (
	signatureMethods = map[string]bool{
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256": true, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384": true,
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512": true, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256": true,
		"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": true, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512": true,
	}
	digestMethods = map[string]bool{
		"http://www.w3.org/2001/04/xmlenc#sha256": true, "http://www.w3.org/2001/04/xmldsig-more#sha384": true, "http://www.w3.org/2001/04/xmlenc#sha512": true,
	}
)

// signatureOf is the signature of e itself, nil when it has none.
func signatureOf(e *etree.Element) *etree.Element { return only(e, nsSignature, "Signature") }

// checkSignature holds a signature, a child of signed, to the one form that is taken: one reference, to signed by its ID, and nothing in
// it that a library could take for something else.
func checkSignature(signed, signature *etree.Element) error {
	id, _ := attribute(signed, "ID")
	if !plainName.MatchString(id) {
		return errors.New("the signed element has no ID")
	}
	parts := signature.ChildElements()
	if len(parts) < 2 || len(parts) > 3 || !is(parts[0], nsSignature, "SignedInfo") || !is(parts[1], nsSignature, "SignatureValue") ||
		len(parts) == 3 && !is(parts[2], nsSignature, "KeyInfo") {
		return errors.New("the signature is not SignedInfo, SignatureValue, KeyInfo")
	}
	info := parts[0].ChildElements()
	if len(info) != 3 || !is(info[0], nsSignature, "CanonicalizationMethod") || !is(info[1], nsSignature, "SignatureMethod") || !is(info[2], nsSignature, "Reference") {
		return errors.New("SignedInfo is not two methods and one reference")
	}
	if !algorithm(info[0], exclusive) || len(info[0].ChildElements()) > 0 {
		return errors.New("the canonical form is not the exclusive one")
	}
	if method, _ := attribute(info[1], "Algorithm"); !signatureMethods[method] || len(info[1].ChildElements()) > 0 {
		return fmt.Errorf("signature method %.80q", method)
	}
	return checkReference(info[2], id)
}

func checkReference(ref *etree.Element, id string) error {
	if uri, ok := attribute(ref, "URI"); !ok || uri != "#"+id {
		return errors.New("the reference is not to the element around it")
	}
	parts := ref.ChildElements()
	if len(parts) != 3 || !is(parts[0], nsSignature, "Transforms") || !is(parts[1], nsSignature, "DigestMethod") || !is(parts[2], nsSignature, "DigestValue") {
		return errors.New("the reference is not transforms and a digest")
	}
	transforms := parts[0].ChildElements()
	if len(transforms) != 2 || !is(transforms[0], nsSignature, "Transform") || !is(transforms[1], nsSignature, "Transform") ||
		!algorithm(transforms[0], enveloped) || !algorithm(transforms[1], exclusive) || len(transforms[0].ChildElements()) > 0 {
		return errors.New("the transforms are not enveloped-signature and exclusive canonical form")
	}
	for _, c := range transforms[1].ChildElements() {
		if !is(c, exclusive, "InclusiveNamespaces") || len(transforms[1].ChildElements()) > 1 {
			return errors.New("the transform has unknown parameters")
		}
	}
	if method, _ := attribute(parts[1], "Algorithm"); !digestMethods[method] || len(parts[1].ChildElements()) > 0 {
		return fmt.Errorf("digest method %.80q", method)
	}
	if _, plain := text(parts[2]); !plain {
		return errors.New("the digest is not text")
	}
	return nil
}

func algorithm(e *etree.Element, want string) bool {
	got, _ := attribute(e, "Algorithm")
	return got == want
}

// verify gives signed as it was signed: a new tree, read from the canonical bytes that a signature with one of the provider's
// certificates is over.
func (m *Metadata) verify(signed *etree.Element) (*etree.Element, error) {
	signature := signatureOf(signed)
	if signature == nil {
		return nil, errors.New("not signed")
	}
	if err := checkSignature(signed, signature); err != nil {
		return nil, err
	}
	encoded, plain := text(signature.ChildElements()[1])
	value, err := decodeBase64(encoded)
	if err != nil || !plain {
		return nil, errors.New("the signature value is not base64")
	}
	// Alone, with the namespaces that it stood in: the library knows the element that it is given as the root.
	context, err := etreeutils.NSBuildParentContext(signed)
	if err != nil {
		return nil, err
	}
	alone, err := etreeutils.NSDetatch(context, signed)
	if err != nil {
		return nil, err
	}
	// Which certificate has signed is not the response's to say: each of the provider's is tried.
	signature = signatureOf(alone)
	if info := only(signature, nsSignature, "KeyInfo"); info != nil {
		signature.RemoveChild(info)
	}
	err = errors.New("no certificate that may sign")
	for _, cert := range m.Certificates {
		var verified *etree.Element
		if verified, err = verifyWith(cert, alone, value); err == nil {
			// Nothing is read that does not keep the rules as it was signed.
			return verified, new(reader).check(verified)
		}
	}
	return nil, err
}

// verifyWith tries one certificate. signed is not changed but for the spelling of its signature's value.
func verifyWith(cert *x509.Certificate, signed *etree.Element, value []byte) (*etree.Element, error) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return nil, errors.New("the certificate's key is too short")
		}
	case *ecdsa.PublicKey:
		// XML signatures write both numbers one after the other (RFC 6931 section 2.3.6), the library reads them in ASN.1.
		size := (key.Curve.Params().BitSize + 7) / 8
		if size < 32 || len(value) != 2*size {
			return nil, errors.New("not a signature of this curve")
		}
		var err error
		if value, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(value[:size]), new(big.Int).SetBytes(value[size:])}); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("the certificate's key does not sign")
	}
	signatureOf(signed).ChildElements()[1].SetText(base64.StdEncoding.EncodeToString(value))
	context := dsig.ValidationContext{
		CertificateStore: &dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{cert}}, IdAttribute: "ID",
		// The provider's record says which certificates count, their dates do not (AWS does the same).
		Clock: dsig.NewFakeClockAt(cert.NotBefore),
	}
	verified, err := context.Validate(signed)
	if err == nil && verified == nil {
		err = errors.New("nothing was signed")
	}
	return verified, err
}
