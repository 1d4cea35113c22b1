package volume

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"carrel/internal/durable"
	"carrel/internal/ident"
)

// Wrapper keeps volumes' keys from being readable on disk. name is the customer's key that was asked for ("" for none), binding is
// authenticated with the key, so that one volume's wrapped key cannot be put in another's place.
type Wrapper interface {
	Wrap(name, binding string, key []byte) ([]byte, error)
	Unwrap(name, binding string, wrapped []byte) ([]byte, error)
}

// Master is a Wrapper with a key of this host: AES-256-GCM under a key derived for each customer key's name (HKDF, RFC 5869).
type Master struct {
	secret []byte
	random io.Reader
}

const masterBytes = 32

// OpenMaster reads the master key at path, or makes one there (mode 0600) when there is none. Who loses that file has lost every volume;
// who has it and the volumes has their contents.
func OpenMaster(path string, random io.Reader) (*Master, error) {
	secret, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret = make([]byte, masterBytes)
		if _, err := io.ReadFull(random, secret); err != nil {
			return nil, fmt.Errorf("volume: master key: %w", err)
		}
		if err := durable.WriteFile(path, secret, 0o600); err != nil {
			return nil, fmt.Errorf("volume: master key: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("volume: master key: %w", err)
	}
	if len(secret) != masterBytes {
		return nil, fmt.Errorf("volume: master key %s has %d bytes, not %d; restore it from a backup: a new one opens no volume", path, len(secret), masterBytes)
	}
	return &Master{secret, random}, nil
}

func (m *Master) seal(name string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, m.secret, nil, "carrel volume key wrap/"+name, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Wrap encrypts a key. A key is wrapped once or twice in its life, so random nonces are far from their limit.
func (m *Master) Wrap(name, binding string, key []byte) ([]byte, error) {
	aead, err := m.seal(name)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(m.random, nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, key, []byte(binding)), nil
}

// Unwrap decrypts what Wrap made, with the same name and binding only.
func (m *Master) Unwrap(name, binding string, wrapped []byte) ([]byte, error) {
	aead, err := m.seal(name)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < aead.NonceSize() {
		return nil, errors.New("volume: the wrapped key is too short")
	}
	key, err := aead.Open(nil, wrapped[:aead.NonceSize()], wrapped[aead.NonceSize():], []byte(binding))
	if err != nil {
		return nil, errors.New("volume: the wrapped key is damaged, another volume's, or wrapped by another master key")
	}
	return key, nil
}

// binding is what a volume's wrapped key belongs to.
func binding(r *record) string { return string(r.ID) + " " + r.KeyID }

// newKey gives a volume's key as the text that LUKS takes as a passphrase: 256 random bits. The text is full of entropy already, so
// the stretching that passphrases need is as little as there can be (luksRounds).
func newKey(random io.Reader) ([]byte, error) {
	raw := make([]byte, 32)
	defer clear(raw)
	if _, err := io.ReadFull(random, raw); err != nil {
		return nil, fmt.Errorf("volume: key: %w", err)
	}
	return hex.AppendEncode(nil, raw), nil
}

func newKeyID(random io.Reader) string { return "vk-" + ident.Hex(random, 16) }
