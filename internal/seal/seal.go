// Package seal keeps small secrets unreadable where records are stored, logged by the store and backed up: AES-256-GCM under a key that is in a file
// beside the records and never among them.
//
// It refuses to be a vault. What is sealed is a secret on its way, which whoever needs it opens once; volumes' keys have the host's master key.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"carrel/internal/durable"
)

const keyBytes = 32

// ErrSeal is what errors about a sealed text are, by errors.Is: it was sealed with another key or for something else, or it was changed.
var ErrSeal = errors.New("seal: it cannot be opened with this key")

// Key seals and opens.
type Key struct{ aead cipher.AEAD }

// Open reads the key at path, or makes one there (mode 0600) when there is none. A new key opens nothing that an earlier one has sealed.
func Open(path string, random io.Reader) (*Key, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw = make([]byte, keyBytes)
		if _, err = io.ReadFull(random, raw); err == nil {
			err = durable.WriteFile(path, raw, 0o600)
		}
	}
	defer clear(raw)
	if err != nil {
		return nil, fmt.Errorf("seal: key: %w", err)
	}
	if len(raw) != keyBytes {
		return nil, fmt.Errorf("seal: key %s has %d bytes, not %d: remove it, and make again the directories that are being made", path, len(raw), keyBytes)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("seal: key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: key: %w", err)
	}
	return &Key{aead}, nil
}

// Seal gives a text that only Unseal with the same key and binding opens: what is sealed for one record cannot be put into another.
func (k *Key) Seal(secret, binding string) string {
	return base64.RawStdEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(secret), []byte(binding)))
}

// Unseal opens what Seal made: ErrSeal.
func (k *Key) Unseal(sealed, binding string) (string, error) {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return "", ErrSeal
	}
	secret, err := k.aead.Open(nil, nil, raw, []byte(binding))
	if err != nil {
		return "", ErrSeal
	}
	return string(secret), nil
}
