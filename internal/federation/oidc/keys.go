package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Limits of a key set.
const (
	maxKeys    = 100
	minRSABits = 2048
	maxRSABits = 8192
)

// key is a public key that verifies.
type key struct {
	id string
	// algorithm is the one it is for, where the set says; else any of its kind.
	algorithm string
	public    crypto.PublicKey
}

// readKeys reads a key set (RFC 7517). Keys that do not verify, or are of a kind that is not taken, are left out; a key that contradicts
// itself makes the set wrong.
func readKeys(text []byte) ([]key, error) {
	set, err := readObject(text)
	if err != nil {
		return nil, err
	}
	list, ok := set["keys"].([]any)
	if !ok || len(list) > maxKeys {
		return nil, errors.New("no keys, or too many")
	}
	var keys []key
	for _, e := range list {
		o, ok := e.(object)
		if !ok {
			return nil, errors.New("a key that is no object")
		}
		k, use, err := readKey(o)
		if err != nil {
			return nil, err
		}
		if use {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func readKey(o object) (k key, use bool, err error) {
	if u, given := o.text("use"); given && u != "sig" {
		return key{}, false, nil
	}
	operations, ok := o.texts("key_ops")
	if !ok {
		return key{}, false, errors.New("key_ops is no list")
	}
	if operations != nil && !slices.Contains(operations, "verify") {
		return key{}, false, nil
	}
	k.id, _ = o.text("kid")
	k.algorithm, _ = o.text("alg")
	kind, _ := o.text("kty")
	switch kind {
	case "RSA":
		k.public, err = readRSA(o)
	case "EC":
		k.public, err = readEC(o)
	case "OKP":
		if curve, _ := o.text("crv"); curve != "Ed25519" {
			return key{}, false, nil
		}
		k.public, err = readEd25519(o)
	default: // Above all "oct": a secret, which nobody publishes, and which an HMAC would take.
		return key{}, false, nil
	}
	return k, k.public != nil, err
}

func readRSA(o object) (crypto.PublicKey, error) {
	n, err := number(o, "n")
	if err != nil {
		return nil, err
	}
	e, err := number(o, "e")
	if err != nil {
		return nil, err
	}
	if !e.IsInt64() || e.Int64() > 1<<31-1 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil, errors.New("e is no exponent")
	}
	if bits := n.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func readEC(o object) (crypto.PublicKey, error) {
	name, _ := o.text("crv")
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[name]
	if curve == nil {
		return nil, nil
	}
	size := (curve.Params().BitSize + 7) / 8
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		b, err := base64Member(o, name)
		if err != nil {
			return nil, err
		}
		if len(b) != size { // RFC 7518 section 6.2.1.2
			return nil, fmt.Errorf("%s is not of the curve's length", name)
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

func readEd25519(o object) (crypto.PublicKey, error) {
	b, err := base64Member(o, "x")
	if err == nil && len(b) != ed25519.PublicKeySize {
		err = errors.New("x is not of the curve's length")
	}
	return ed25519.PublicKey(b), err
}

func number(o object, name string) (*big.Int, error) {
	b, err := base64Member(o, name)
	return new(big.Int).SetBytes(b), err
}

func base64Member(o object, name string) ([]byte, error) {
	s, ok := o.text(name)
	if !ok {
		return nil, fmt.Errorf("no %s", name)
	}
	// Some pad, which RFC 7515 does not.
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}
