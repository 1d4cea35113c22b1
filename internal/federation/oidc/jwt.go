package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// MaxToken is the longest token (clientTokenType).
const MaxToken = 20000

// method is an algorithm (RFC 7518 section 3.1, RFC 8037). There is no "none" and no HMAC here, so neither can be asked for.
type method struct {
	hash crypto.Hash
	// verify tells whether signature is public's over message, which it is not when public is of another kind.
	verify func(public crypto.PublicKey, hash crypto.Hash, message, signature []byte) bool
}

var methods = map[string]method{
	"RS256": {crypto.SHA256, verifyPKCS1}, "RS384": {crypto.SHA384, verifyPKCS1}, "RS512": {crypto.SHA512, verifyPKCS1},
	"PS256": {crypto.SHA256, verifyPSS}, "PS384": {crypto.SHA384, verifyPSS}, "PS512": {crypto.SHA512, verifyPSS},
	"ES256": {crypto.SHA256, verifyECDSA(256)}, "ES384": {crypto.SHA384, verifyECDSA(384)}, "ES512": {crypto.SHA512, verifyECDSA(521)},
	"EdDSA": {0, verifyEd25519},
}

func digest(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func verifyPKCS1(public crypto.PublicKey, hash crypto.Hash, message, signature []byte) bool {
	key, ok := public.(*rsa.PublicKey)
	return ok && rsa.VerifyPKCS1v15(key, hash, digest(hash, message), signature) == nil
}

func verifyPSS(public crypto.PublicKey, hash crypto.Hash, message, signature []byte) bool {
	key, ok := public.(*rsa.PublicKey)
	return ok && rsa.VerifyPSS(key, hash, digest(hash, message), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

// verifyECDSA is of the curve of that many bits alone: ES256 with a key on P-384 is nothing.
func verifyECDSA(bits int) func(crypto.PublicKey, crypto.Hash, []byte, []byte) bool {
	return func(public crypto.PublicKey, hash crypto.Hash, message, signature []byte) bool {
		key, ok := public.(*ecdsa.PublicKey)
		size := (bits + 7) / 8
		if !ok || key.Curve.Params().BitSize != bits || len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(key, digest(hash, message), r, s)
	}
}

func verifyEd25519(public crypto.PublicKey, _ crypto.Hash, message, signature []byte) bool {
	key, ok := public.(ed25519.PublicKey)
	return ok && ed25519.Verify(key, message, signature)
}

// token is a token read, not yet verified.
type token struct {
	algorithm, keyID string
	claims           object
	signed           []byte
	signature        []byte
}

// readToken takes a compact JWS apart (RFC 7515 section 7.1). Nothing in it is believed yet.
func readToken(text string) (*token, error) {
	if len(text) > MaxToken {
		return nil, errors.New("too long")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("not three parts")
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, errors.New("a part that is not base64url")
		}
	}
	header, err := readObject(raw[0])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	t := &token{signed: []byte(parts[0] + "." + parts[1]), signature: raw[2]}
	t.algorithm, _ = header.text("alg")
	if _, known := methods[t.algorithm]; !known {
		return nil, fmt.Errorf("algorithm %.20q", t.algorithm)
	}
	// Extensions that must be understood: none is (RFC 7515 section 4.1.11). b64 among them would change what is signed.
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, given := header[name]; given {
			return nil, fmt.Errorf("the header has %s", name)
		}
	}
	if id, given := header["kid"]; given {
		s, ok := id.(string)
		if !ok || s == "" {
			return nil, errors.New("kid is not a text")
		}
		t.keyID = s
	}
	// jwk, jku, x5c and x5u are the token's own word on who has signed it: they are not looked at.
	if t.claims, err = readObject(raw[1]); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return t, nil
}

// fits tells the keys that the token may be signed with: of the id that it names, for its algorithm.
func (t *token) fits(k *key) bool {
	return (t.keyID == "" || t.keyID == k.id) && (k.algorithm == "" || k.algorithm == t.algorithm)
}

// signedBy tells whether one of keys has signed it. found: there was a key to try.
func (t *token) signedBy(keys []key) (signed, found bool) {
	m := methods[t.algorithm]
	for i := range keys {
		if !t.fits(&keys[i]) {
			continue
		}
		found = true
		if m.verify(keys[i].public, m.hash, t.signed, t.signature) {
			return true, true
		}
	}
	return false, found
}
