package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"carrel/internal/durable"
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
	// maxFile bounds what is read: a certificate and a key are a few KiB.
	maxFile = 64 << 10
)

// pair is a certificate with its key. Both live in one file, so that a crash cannot leave one without the other.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// readPair reads a file of one PRIVATE KEY and one CERTIFICATE block. fs.ErrNotExist when there is none; any other
// error says what is wrong with the file.
func readPair(path string) (pair, error) {
	f, err := os.Open(path)
	if err != nil {
		return pair{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return pair{}, err
	}
	if !info.Mode().IsRegular() {
		return pair{}, fmt.Errorf("%s is not a regular file", path)
	}
	// Whoever reads the key can pose as every door.
	if info.Mode().Perm()&0o077 != 0 {
		return pair{}, fmt.Errorf("%s holds a private key and others may read or write it (mode %04o); set it to 0600", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return pair{}, err
	}
	if len(data) > maxFile {
		return pair{}, fmt.Errorf("%s is larger than any key and certificate", path)
	}
	p, err := parsePair(data)
	if err != nil {
		return pair{}, fmt.Errorf("%s is damaged: %w; restore it from a backup, or move it away to have a new one made", path, err)
	}
	return p, nil
}

func parsePair(data []byte) (pair, error) {
	var p pair
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return pair{}, errors.New("it holds something that is not PEM")
			}
			break
		}
		data = rest
		switch block.Type {
		case certificateBlock:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil || p.cert != nil {
				return pair{}, errors.Join(errors.New("its certificate cannot be read or is not the only one"), err)
			}
			p.cert = cert
		case keyBlock:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			signer, ok := key.(crypto.Signer)
			if err != nil || !ok || p.key != nil {
				// The parser's error is left out: it could quote key material.
				return pair{}, errors.New("its private key cannot be read or is not the only one")
			}
			p.key = signer
		default:
			return pair{}, fmt.Errorf("unexpected PEM block %q", block.Type)
		}
	}
	if p.cert == nil || p.key == nil {
		return pair{}, errors.New("it does not hold both a certificate and a private key")
	}
	public, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.cert.PublicKey) {
		return pair{}, errors.New("its private key does not belong to its certificate")
	}
	return p, nil
}

func writePair(path string, p pair) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: p.cert.Raw})...)
	return durable.WriteFile(path, data, 0o600)
}
