// Package oidc verifies the tokens of OpenID Connect identity providers: it finds a provider's keys by discovery (OpenID Connect Discovery
// 1.0), keeps them for a while, and checks tokens with them (RFC 7515, 7517, 7518, 7519; OpenID Connect Core 1.0 section 3.1.3.7).
//
// It refuses to trust what a token says of itself: the provider is the one that the caller has a record of, the keys are the provider's,
// and each key verifies with its own kind of algorithm alone. It refuses to know roles and policies: service/sts asks for those.
package oidc

import (
	"carrel/internal/awserr"
)

// Provider is an identity provider as IAM knows it.
type Provider struct {
	// URL is the issuer without "https://".
	URL string
	// ClientIDs are the audiences that tokens may be for.
	ClientIDs []string
	// Thumbprints are SHA-1 hashes, in hexadecimal, of certificates that vouch for the provider's server where no root that is known does.
	Thumbprints []string
}

// The exceptions of AssumeRoleWithWebIdentity, with AWS's codes, statuses and, where they are known, texts.

func invalid(format string, args ...any) *awserr.Error {
	return awserr.Model("InvalidIdentityToken", format, args...).WithStatus(400)
}

func expired(format string, args ...any) *awserr.Error {
	return awserr.Model("ExpiredTokenException", format, args...).WithStatus(400)
}

func unreachable(why error) *awserr.Error {
	return awserr.Model("IDPCommunicationError", "The identity provider could not be reached. Try again later.").WithStatus(400).Because(why)
}

// noKey is AWS's answer, with its two spaces, to a provider that has no key for the token.
func noKey(why error) *awserr.Error {
	return invalid("Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements").Because(why)
}

func notJWT(why error) *awserr.Error {
	return invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)").Because(why)
}
