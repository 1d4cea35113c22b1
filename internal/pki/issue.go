package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
)

// Issue makes a key (ECDSA P-256) and the certificate of a server that is not this process and stands for these names and addresses. Both are
// PEM, the key as PKCS#8; nothing of it is kept. It ends when the server's own certificates would, with no revocation list named: whoever asks renews.
func (a *Authority) Issue(names []string, addresses []netip.Addr) (certificate, key []byte, err error) {
	s := &Server{authority: a, dns: names}
	for _, ip := range addresses {
		s.ips = append(s.ips, ip.AsSlice())
	}
	p, err := s.issue(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	if err != nil {
		return nil, nil, fmt.Errorf("pki: issue: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: issue: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
