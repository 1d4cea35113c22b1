package samba

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	certificateFile = "cert.pem"
	keyFile         = "key.pem"
	authorityFile   = "ca.pem"
	// renewBefore is the rest of a certificate's life at which it is replaced.
	renewBefore = 21 * 24 * time.Hour
	// renewEvery is how often a running controller's certificate is looked at. Samba reads it at its start only.
	renewEvery = time.Hour
)

// names are what the controller's certificate stands for: itself and the domain, which is what clients that know only the domain ask for.
func (d *domain) names() []string { return []string{d.rec.Host + "." + d.rec.Name, d.rec.Name} }

// certified says whether the controller's certificate is the authority's, stands for its names and addresses, and lasts.
func (d *domain) certified(now time.Time) bool {
	dir := filepath.Join(d.dir, tlsDir)
	b, err := os.ReadFile(filepath.Join(dir, certificateFile))
	if err != nil {
		return false
	}
	authority, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil || !bytes.Equal(authority, d.all.cfg.Certificates.CertificatePEM()) {
		return false
	}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err != nil {
		return false
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || now.Before(c.NotBefore) || now.Add(renewBefore).After(c.NotAfter) && c.NotAfter.Sub(c.NotBefore) > 2*renewBefore || now.After(c.NotAfter) {
		return false
	}
	ours := append(d.names(), texts(d.rec.Addresses)...)
	return !slices.ContainsFunc(ours, func(n string) bool { return c.VerifyHostname(n) != nil })
}

// certify gives the controller a certificate that lasts. The key's owner must be the controller itself, or Samba refuses it.
func (d *domain) certify() error {
	if d.certified(time.Now()) {
		return nil
	}
	issuer := d.all.cfg.Certificates
	certificate, key, err := issuer.Issue(d.names(), d.rec.Addresses)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", d.rec.Name, err)
	}
	defer clear(key)
	dir := filepath.Join(d.dir, tlsDir)
	// The certificate is last: without it, or with an old one, all three are made again.
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, certificateFile)),
		writeFile(filepath.Join(dir, keyFile), key, 0o600, d.rec.UID),
		writeFile(filepath.Join(dir, authorityFile), issuer.CertificatePEM(), 0o644, 0),
		writeFile(filepath.Join(dir, certificateFile), certificate, 0o644, 0)); err != nil {
		return fmt.Errorf("certificate of %s: %w", d.rec.Name, err)
	}
	return nil
}
