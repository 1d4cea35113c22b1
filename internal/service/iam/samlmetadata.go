package iam

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	// metadataDepth is how deep elements may be in each other: an identity provider's certificates are 6 deep.
	metadataDepth = 64
)

// metadata is what is asked of a SAML metadata document when it is stored.
type metadata struct {
	entityID     string
	validUntil   time.Time // zero: it does not say
	certificates int       // that sign
	role         bool      // there is an IDPSSODescriptor
}

// certificatePath are the elements that a certificate of an identity provider stands in.
var certificatePath = []xml.Name{{Space: nsMetadata, Local: "EntityDescriptor"}, {Space: nsMetadata, Local: "IDPSSODescriptor"}, {Space: nsMetadata, Local: "KeyDescriptor"},
	{Space: nsSignature, Local: "KeyInfo"}, {Space: nsSignature, Local: "X509Data"}, {Space: nsSignature, Local: "X509Certificate"}}

// readMetadata reads a metadata document (SAML 2.0 metadata): one EntityDescriptor with an IDPSSODescriptor and a certificate that signs. Document
// type declarations are refused, and with them entities. The error is for the log: the client is told that the document is no good.
func readMetadata(document string) (*metadata, error) {
	d := xml.NewDecoder(strings.NewReader(document))
	m := &metadata{}
	var path []xml.Name
	var text strings.Builder
	signing, roots := false, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return m, m.complete()
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("a document type declaration")
		case xml.StartElement:
			if path = append(path, t.Name); len(path) > metadataDepth {
				return nil, errors.New("elements are too deep in each other")
			}
			if len(path) == 1 {
				if roots++; roots > 1 || t.Name != certificatePath[0] {
					return nil, errors.New("the root is not one EntityDescriptor")
				}
				if err := m.entity(t.Attr); err != nil {
					return nil, err
				}
			}
			m.role = m.role || slices.Equal(path, certificatePath[:2])
			if slices.Equal(path, certificatePath[:3]) {
				use, given := attribute(t.Attr, "use")
				signing = !given || use == "signing"
			}
			text.Reset()
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			if signing && slices.Equal(path, certificatePath) {
				if err := certificate(text.String()); err != nil {
					return nil, err
				}
				m.certificates++
			}
			path = path[:len(path)-1]
		}
	}
}

func (m *metadata) entity(attrs []xml.Attr) error {
	m.entityID, _ = attribute(attrs, "entityID")
	until, given := attribute(attrs, "validUntil")
	if !given {
		return nil
	}
	t, err := time.Parse(time.RFC3339, until)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", until) // SAML knows UTC alone, and some leave it out
	}
	if err != nil {
		return fmt.Errorf("validUntil: %w", err)
	}
	m.validUntil = t.UTC()
	return nil
}

func (m *metadata) complete() error {
	const longest = 1024 // SAML 2.0 metadata, entityIDType
	switch {
	case m.entityID == "" || len(m.entityID) > longest:
		return errors.New("no entityID")
	case !m.role:
		return errors.New("no IDPSSODescriptor")
	case m.certificates == 0:
		return errors.New("no certificate that signs")
	}
	return nil
}

func attribute(attrs []xml.Attr, name string) (string, bool) {
	for _, a := range attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

func certificate(text string) error {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return fmt.Errorf("X509Certificate: %w", err)
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("X509Certificate: %w", err)
	}
	return nil
}
