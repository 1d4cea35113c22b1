// Package pki is Carrel's own certificate authority: it makes and keeps the CA, the certificates of the doors and the
// revocation list, and gives the TLS configuration that serves them.
//
// It refuses to overwrite a key it cannot read, to sign for anybody but the doors, and to know who connects: device
// certificates are trust's. Formats: RFC 5280 (certificates, CRL), RFC 7468 (PEM), RFC 5915/5958 (keys).
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityFile  = "authority.pem"
	authorityYears = 10
	// backdate forgives clients whose clocks are behind ours.
	backdate = time.Hour
	// revocationDays is how long clients may keep a revocation list.
	revocationDays = 7
)

// Authority is the installation's own CA: ECDSA P-256, valid for ten years, allowed to sign leaves only.
type Authority struct {
	dir  string
	now  func() time.Time
	cert *x509.Certificate
	key  crypto.Signer
}

// Options say where the authority lives. Dir is made with mode 0700 when it is missing. Now is the machine's time (nil:
// time.Now): certificates are read by clients that live in real time, also when a simulation has moved its clock.
type Options struct {
	Dir string
	Now func() time.Time
}

// Open reads the authority, or makes it when Dir has none. An authority that cannot be read, has expired, or whose key
// others can read is an error that says so; nothing is overwritten, because every client has been told to trust it.
func Open(o Options) (*Authority, error) {
	if o.Dir == "" {
		return nil, errors.New("pki: no directory given")
	}
	a := &Authority{dir: o.Dir, now: o.Now}
	if a.now == nil {
		a.now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("pki: make the directory: %w", err)
	}
	path := filepath.Join(o.Dir, authorityFile)
	p, err := readPair(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := a.create(path); err != nil {
			return nil, fmt.Errorf("pki: make the certificate authority: %w", err)
		}
		return a, nil
	case err != nil:
		return nil, fmt.Errorf("pki: read the certificate authority: %w", err)
	}
	a.cert, a.key = p.cert, p.key
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("pki: certificate authority %s: %w", path, err)
	}
	return a, nil
}

func (a *Authority) check() error {
	if !a.cert.IsCA || a.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("the certificate is not a certificate authority's")
	}
	if err := a.cert.CheckSignatureFrom(a.cert); err != nil {
		return fmt.Errorf("the certificate is not signed by its own key: %w", err)
	}
	if now := a.now(); now.After(a.cert.NotAfter) {
		return fmt.Errorf("it expired on %s; move the file away to have a new one made, and give its certificate to every client",
			a.cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

func (a *Authority) create(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial in the name tells two installations' authorities apart in a client's trust store.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Carrel CA %x", serial.Bytes()[:4]), Organization: []string{"Carrel"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if err := writePair(path, pair{cert: cert, key: key}); err != nil {
		return err
	}
	a.cert, a.key = cert, key
	return nil
}

// Certificate is the authority's certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// CertificatePEM is the authority's certificate for AWS_CA_BUNDLE. It holds no secret.
func (a *Authority) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: a.cert.Raw})
}

// CRL makes the revocation list (DER, RFC 5280 section 5) as of now, good for seven days. It is empty: a leaf that is
// replaced loses its key at the same moment. Its number grows with time, as clients expect of a newer list.
func (a *Authority) CRL(now time.Time) ([]byte, error) {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:     big.NewInt(now.Unix()),
		ThisUpdate: now.Add(-backdate),
		NextUpdate: now.AddDate(0, 0, revocationDays),
	}, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: make the revocation list: %w", err)
	}
	return der, nil
}

// newSerial makes a positive serial of 127 random bits (RFC 5280 allows 20 octets; CAs must use at least 64 random bits).
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and never shorter
	return new(big.Int).SetBytes(b[:]), nil
}
