package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	leafDays = 90
	// renewBefore is the rest of a leaf's life at which it is replaced.
	renewBefore = 30 * 24 * time.Hour
	// renewEvery is how often Run looks.
	renewEvery = 12 * time.Hour
)

// leafKinds are the leaves of a server. ECDSA comes first: it is smaller and faster, and RSA is for clients that know nothing else.
var leafKinds = [...]struct {
	file string
	make func() (crypto.Signer, error)
}{
	{"server-ecdsa.pem", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
	{"server-rsa.pem", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
}

// Subject is what a server's certificates stand for.
type Subject struct {
	// Names are DNS names ("carrel.example.com", "*.carrel.example.com") and IP addresses as text. At least one.
	Names []string
	// CRL is the URL of the revocation list, "http://carrel.example.com:8444/pki/ca.crl"; plain HTTP, because a client would
	// need the list to check the very connection that brings it (RFC 5280 section 8).
	CRL string
}

// Server keeps the doors' certificates, one ECDSA P-256 and one RSA-2048, and renews them. Safe for concurrent use.
type Server struct {
	authority *Authority
	dns       []string
	ips       []net.IP
	crl       string
	renewing  sync.Mutex
	leaves    atomic.Pointer[[]tls.Certificate]
}

// Server reads the doors' certificates from the authority's directory, and makes those that are missing, that stand for other
// names, that another authority signed, or that end in less than 30 days. A file that cannot be read is an error and stays as it is.
func (a *Authority) Server(s Subject) (*Server, error) {
	srv := &Server{authority: a, crl: s.CRL}
	for _, name := range s.Names {
		if ip, err := netip.ParseAddr(name); err == nil {
			srv.ips = append(srv.ips, net.IP(ip.Unmap().WithZone("").AsSlice()))
			continue
		}
		if name == "" || strings.ContainsAny(name, " \t\r\n/:") {
			return nil, fmt.Errorf("pki: %q is neither a DNS name nor an IP address", name)
		}
		srv.dns = append(srv.dns, strings.ToLower(name))
	}
	if len(srv.dns)+len(srv.ips) == 0 {
		return nil, errors.New("pki: a server certificate needs at least one name")
	}
	slices.Sort(srv.dns)
	srv.dns = slices.Compact(srv.dns)
	slices.SortFunc(srv.ips, func(x, y net.IP) int { return strings.Compare(string(x), string(y)) })
	srv.ips = slices.CompactFunc(srv.ips, net.IP.Equal)
	if err := srv.Renew(); err != nil {
		return nil, err
	}
	return srv, nil
}

// Renew replaces the certificates that need it; running connections keep theirs. Nothing is served from a half-made set.
func (s *Server) Renew() error {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	leaves := make([]tls.Certificate, 0, len(leafKinds))
	for _, kind := range leafKinds {
		path := filepath.Join(s.authority.dir, kind.file)
		p, err := readPair(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pki: read the server certificate: %w", err)
		}
		if err != nil || s.stale(p.cert) {
			if p, err = s.issue(kind.make); err != nil {
				return fmt.Errorf("pki: make a server certificate: %w", err)
			}
			if err := writePair(path, p); err != nil {
				return fmt.Errorf("pki: keep a server certificate: %w", err)
			}
		}
		leaves = append(leaves, tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key, Leaf: p.cert})
	}
	s.leaves.Store(&leaves)
	return nil
}

// Run renews until ctx ends and gives ctx's error. A renewal that fails is given to report and tried again at the next look.
func (s *Server) Run(ctx context.Context, report func(error)) error {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := s.Renew(); err != nil {
				report(err)
			}
		}
	}
}

// Expires is the end of the certificate that ends first.
func (s *Server) Expires() time.Time {
	var first time.Time
	for _, leaf := range *s.leaves.Load() {
		if first.IsZero() || leaf.Leaf.NotAfter.Before(first) {
			first = leaf.Leaf.NotAfter
		}
	}
	return first
}

func (s *Server) stale(cert *x509.Certificate) bool {
	points := []string{}
	if s.crl != "" {
		points = append(points, s.crl)
	}
	return cert.CheckSignatureFrom(s.authority.cert) != nil ||
		cert.NotAfter.Sub(s.authority.now()) < renewBefore && cert.NotAfter.Before(s.authority.cert.NotAfter) ||
		!slices.Equal(cert.DNSNames, s.dns) ||
		!slices.EqualFunc(cert.IPAddresses, s.ips, net.IP.Equal) ||
		!slices.Equal(cert.CRLDistributionPoints, points)
}

func (s *Server) issue(makeKey func() (crypto.Signer, error)) (pair, error) {
	key, err := makeKey()
	if err != nil {
		return pair{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return pair{}, err
	}
	now := s.authority.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.commonName(), Organization: []string{"Carrel"}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.AddDate(0, 0, leafDays),
		// Only signatures: without keyEncipherment no key exchange without forward secrecy can use the RSA key.
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              s.dns,
		IPAddresses:           s.ips,
	}
	if template.NotAfter.After(s.authority.cert.NotAfter) {
		template.NotAfter = s.authority.cert.NotAfter
	}
	if s.crl != "" {
		template.CRLDistributionPoints = []string{s.crl}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.authority.cert, key.Public(), s.authority.key)
	if err != nil {
		return pair{}, fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("read back: %w", err)
	}
	return pair{cert: cert, key: key}, nil
}

// commonName is for people only: clients read the alternative names. It may have 64 characters (RFC 5280 appendix A).
func (s *Server) commonName() string {
	name := "Carrel"
	if len(s.dns) > 0 {
		name = s.dns[0]
	} else if len(s.ips) > 0 {
		name = s.ips[0].String()
	}
	return name[:min(len(name), 64)]
}
