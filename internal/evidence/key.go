package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Signer signs evidence. A key in a file is one (PrivateKey); a hardware module can be another.
type Signer interface {
	// Public is the key that verifies what Sign makes. It never changes during a Signer's life.
	Public() ed25519.PublicKey
	// Sign gives the pure Ed25519 signature (RFC 8032) over message, 64 bytes. It is safe for concurrent use.
	Sign(message []byte) ([]byte, error)
}

// PrivateKey is an Ed25519 private key that never shows itself: printing, logging and JSON give "REDACTED".
// The zero value is not a key.
type PrivateKey struct{ key ed25519.PrivateKey }

const redacted = "REDACTED"

// GenerateKey makes a key from random, which must be crypto/rand.Reader outside tests.
func GenerateKey(random io.Reader) (PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return PrivateKey{}, fmt.Errorf("generate evidence key: %w", err)
	}
	return PrivateKey{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// ParsePrivateKey reads a PEM block "PRIVATE KEY" (PKCS #8, RFC 5958) with an Ed25519 key. Errors never quote the input.
func ParsePrivateKey(text []byte) (PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		return PrivateKey{}, errors.New("evidence key: want exactly one PEM block PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return PrivateKey{}, errors.New("evidence key: not a PKCS #8 private key")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return PrivateKey{}, fmt.Errorf("evidence key: want Ed25519, got %T", parsed)
	}
	return PrivateKey{key: key}, nil
}

// PEM is the key as PKCS #8 in PEM: the one way to get it out, for writing it to its file.
func (k PrivateKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return nil, errors.New("evidence key: cannot be encoded")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Public is the verifying key.
func (k PrivateKey) Public() ed25519.PublicKey {
	if len(k.key) != ed25519.PrivateKeySize {
		return nil
	}
	return k.key.Public().(ed25519.PublicKey)
}

// Sign is Signer's Sign.
func (k PrivateKey) Sign(message []byte) ([]byte, error) {
	if len(k.key) != ed25519.PrivateKeySize {
		return nil, errors.New("evidence key: zero value")
	}
	return ed25519.Sign(k.key, message), nil
}

// String is "REDACTED".
func (PrivateKey) String() string { return redacted }

// Format prints "REDACTED" for every verb, %#v and %x too.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText is "REDACTED".
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is "REDACTED".
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Fingerprint is the SHA-256 of the raw public key: the "key" of records.
func Fingerprint(pub ed25519.PublicKey) Hash { return sha256.Sum256(pub) }

// PublicPEM is a public key as SubjectPublicKeyInfo in PEM: the file a verifier is handed.
func PublicPEM(pub ed25519.PublicKey) ([]byte, error) {
	if len(pub) != ed25519.PublicKeySize {
		return nil, errors.New("evidence public key: want 32 bytes")
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("evidence public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublicKey reads PublicPEM's form.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) != 0 {
		return nil, errors.New("evidence public key: want exactly one PEM block PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("evidence public key: %w", err)
	}
	pub, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("evidence public key: want Ed25519, got %T", parsed)
	}
	return pub, nil
}
