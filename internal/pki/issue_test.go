package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
)

func TestAnIssuedCertificateStandsForItsNamesAndNoOthers(t *testing.T) {
	a, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Issue([]string{"dc1.corp.example.com", "corp.example.com"}, []netip.Addr{netip.MustParseAddr("10.0.0.10")})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CertificatePEM())
	for name, good := range map[string]bool{"dc1.corp.example.com": true, "corp.example.com": true, "10.0.0.10": true, "dc2.corp.example.com": false, "10.0.0.11": false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
