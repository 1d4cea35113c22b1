package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"carrel/internal/sigv4"
)

// commandFloor serves the floor of all figures: Go's HTTPS server over TLS 1.3 whose handler reads the body and does nothing else.
func commandFloor(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("floor", flag.ExitOnError)
	address := f.String("address", "127.0.0.1:0", "HOST:PORT")
	ca := f.String("ca", "", "file to write the certificate to")
	_ = f.Parse(args) // ExitOnError: it does not come back with an error
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	if err := os.WriteFile(*ca, text, 0o644); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a client that breaks off gets no answer anyway
			w.WriteHeader(http.StatusOK)
		}),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: answerTimeout,
	}
	context.AfterFunc(ctx, func() { discard(srv) })
	fmt.Println("floor: ready")
	if err := srv.ServeTLS(l, "", ""); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "floor"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// trust is a client's TLS configuration that trusts the authorities in a file and nobody else.
func trust(caFile string) (*tls.Config, error) {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "127.0.0.1"}, nil
}

// example signs for servers that check nothing.
func example() *sigv4.Signer {
	return &sigv4.Signer{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Region: "us-east-1", Service: "workspaces"}
}

// startFloor starts the floor as a process of its own.
func (b *bench) startFloor(ctx context.Context) (*process, *endpoint, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	ca := filepath.Join(b.dir, "floor.pem")
	p, err := launch(b.self, "floor", "-address", address, "-ca", ca)
	if err != nil {
		return nil, nil, err
	}
	if err := p.saw(ctx, "floor: ready"); err != nil {
		discard(p)
		return nil, nil, err
	}
	conf, err := trust(ca)
	if err != nil {
		discard(p)
		return nil, nil, err
	}
	return p, &endpoint{name: "floor", address: address, tls: conf, signer: example(), pid: p.pid()}, nil
}
