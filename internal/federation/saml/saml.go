// Package saml reads the metadata of SAML 2.0 identity providers and verifies their responses as AWS takes them (SAML 2.0 core and
// bindings; IAM User Guide, "Configure SAML assertions for the authentication response").
//
// It is pure: no clock, no record, no network. What it hands out was read from the bytes that a certificate of the provider has
// signed, and from nothing else. It refuses to know roles and policies: service/sts asks for those.
//
// # What a response must be
//
// The response is the client's, so every byte of it may be an attacker's. Wrapping attacks live on documents of which one part is
// verified and another is read; here the document must have one shape, which is checked before any signature is (document.go,
// signature.go): one Response, one Assertion as its child, signatures only as children of these two, each over its own parent by its
// ID, and all IDs different. Then goxmldsig verifies the signature and gives back a new tree, parsed from the canonical bytes whose
// digest was signed. Only that tree is read (response.go).
package saml

import (
	"crypto/rsa"
	"crypto/x509"
	"time"

	"carrel/internal/awserr"
)

// Metadata is what an identity provider says of itself.
type Metadata struct {
	// EntityID is its name, which its assertions carry as Issuer.
	EntityID string
	// ValidUntil is when the document ends to be valid; zero: it does not say.
	ValidUntil time.Time
	// Certificates are those that sign. Their own dates are not looked at, as AWS does not.
	Certificates []*x509.Certificate
}

// Expect is what a response is held to.
type Expect struct {
	Now time.Time
	// Audiences are the names of this service of which an assertion's audience must have one.
	Audiences []string
	// Recipients are the addresses of this service to one of which the assertion must be confirmed.
	Recipients []string
	// Keys decrypt an encrypted assertion; Encrypted tells that it must be encrypted.
	Keys      []*rsa.PrivateKey
	Encrypted bool
}

// Assertion is what an identity provider has said, and signed.
type Assertion struct {
	// ID is the assertion's own, unique with its issuer.
	ID     string
	Issuer string
	// Subject is the NameID, SubjectType its format: "persistent", or the whole URI where it is not one of SAML 2.0's.
	Subject, SubjectType string
	// Recipient is the address that the assertion was made for.
	Recipient string
	// Until is when the assertion is refused for its age alone.
	Until time.Time
	// SessionEnd is when the person's session with the provider ends; zero: it does not say.
	SessionEnd time.Time
	// Attributes are the values of its attributes by their names.
	Attributes map[string][]string
}

// The exceptions of AssumeRoleWithSAML, with AWS's codes, statuses and, where they are known, texts.

func invalid(format string, args ...any) *awserr.Error {
	return awserr.Model("InvalidIdentityToken", format, args...).WithStatus(400)
}

func expired(format string, args ...any) *awserr.Error {
	return awserr.Model("ExpiredTokenException", format, args...).WithStatus(400)
}

func rejected(format string, args ...any) *awserr.Error {
	return awserr.Model("IDPRejectedClaim", format, args...).WithStatus(403)
}

func badSignature(why error) *awserr.Error {
	return invalid("Response signature invalid").Because(why)
}
