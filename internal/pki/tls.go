package pki

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// ServerTLS is the configuration of every door: TLS 1.2 and 1.3, ECDHE with AEAD only, the hybrid post-quantum groups first.
// floor is tls.VersionTLS12 or tls.VersionTLS13; a lower one is refused, 0 means TLS 1.2. Each call gives a new value that
// the caller may change.
func (s *Server) ServerTLS(floor uint16) (*tls.Config, error) {
	switch floor {
	case 0:
		floor = tls.VersionTLS12
	case tls.VersionTLS12, tls.VersionTLS13:
	default:
		return nil, fmt.Errorf("pki: the TLS floor may be TLS 1.2 or TLS 1.3, not %s", tls.VersionName(floor))
	}
	return &tls.Config{
		MinVersion: floor,
		// Go's default would add the CBC suites to TLS 1.2, which every scanner complains about.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384},
		NextProtos:       []string{"h2", "http/1.1"},
		// Go hints a ticket lifetime of 7 days, longer than a scanner lets pass (RFC 5077 advises 24 hours), and tickets in TLS 1.2
		// end forward secrecy for as long as their key lives.
		SessionTicketsDisabled: true,
		// Asked for every connection, so that a renewed certificate is served without a restart.
		GetCertificate: s.certificate,
	}, nil
}

// certificate chooses the first leaf that the client can verify. The name in the hello is the client's claim and does not
// choose: there is one subject, and a client that asked for another name shall see the mismatch rather than a broken handshake.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaves := *s.leaves.Load()
	if len(leaves) == 0 {
		return nil, errors.New("pki: no certificate")
	}
	nameless := *hello
	nameless.ServerName = ""
	for i := range leaves {
		if nameless.SupportsCertificate(&leaves[i]) == nil {
			return &leaves[i], nil
		}
	}
	return &leaves[0], nil
}
