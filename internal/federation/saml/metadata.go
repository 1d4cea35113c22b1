package saml

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"
)

// ParseMetadata reads a metadata document (SAML 2.0 metadata): one EntityDescriptor with an IDPSSODescriptor and at least one
// certificate that signs. Its own signature is not looked at: whoever may call IAM vouches for it. The error says what is wrong in words
// for the log; a service answers with its own.
func ParseMetadata(document string) (*Metadata, error) {
	root, err := reader{comments: true}.read([]byte(document))
	if err != nil {
		return nil, err
	}
	if !is(root, nsMetadata, "EntityDescriptor") {
		return nil, errors.New("the root is not an EntityDescriptor")
	}
	m := new(Metadata)
	if m.EntityID, _ = attribute(root, "entityID"); m.EntityID == "" || len(m.EntityID) > 1024 {
		return nil, errors.New("no entityID")
	}
	if until, ok := attribute(root, "validUntil"); ok {
		if m.ValidUntil, err = parseTime(until); err != nil {
			return nil, fmt.Errorf("validUntil: %w", err)
		}
	}
	roles := children(root, nsMetadata, "IDPSSODescriptor")
	if len(roles) == 0 {
		return nil, errors.New("no IDPSSODescriptor")
	}
	for _, role := range roles {
		if err := m.readKeys(role); err != nil {
			return nil, err
		}
	}
	if len(m.Certificates) == 0 {
		return nil, errors.New("no certificate that signs")
	}
	return m, nil
}

// readKeys takes the certificates of the key descriptors that are for signing, or for everything.
func (m *Metadata) readKeys(role *etree.Element) error {
	for _, key := range children(role, nsMetadata, "KeyDescriptor") {
		if use, ok := attribute(key, "use"); ok && use != "signing" {
			continue
		}
		for _, info := range children(key, nsSignature, "KeyInfo") {
			for _, data := range children(info, nsSignature, "X509Data") {
				for _, e := range children(data, nsSignature, "X509Certificate") {
					encoded, _ := text(e)
					der, err := decodeBase64(encoded)
					if err != nil {
						return fmt.Errorf("X509Certificate: %w", err)
					}
					cert, err := x509.ParseCertificate(der)
					if err != nil {
						return fmt.Errorf("X509Certificate: %w", err)
					}
					m.Certificates = append(m.Certificates, cert)
				}
			}
		}
	}
	return nil
}

// parseTime reads an xs:dateTime in UTC, as SAML demands it (core 1.3.3), or with an offset.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse("2006-01-02T15:04:05Z07:00", s); err == nil {
		return t.UTC(), nil
	}
	// Some leave out the zone. SAML knows UTC alone.
	t, err := time.Parse("2006-01-02T15:04:05", s)
	if err != nil {
		return time.Time{}, errors.New("not a time")
	}
	return t, nil
}

// decodeBase64 is of base64 with white space anywhere in it.
func decodeBase64(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
}
