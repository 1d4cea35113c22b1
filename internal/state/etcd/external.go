package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"carrel/internal/config"
)

// ExternalConfig says where an etcd cluster is and who we are to it.
type ExternalConfig struct {
	// Endpoints are URLs of its members: https, or http of a loopback address.
	Endpoints []string
	// CAFile holds the PEM certificates its members are trusted by; CertFile and KeyFile are ours to it, both or neither.
	CAFile, CertFile, KeyFile string
	// Prefix of all keys, so that installations can share a cluster; "carrel" if empty.
	Prefix string
	// Logger gets what the client has to say; slog's default if nil.
	Logger *slog.Logger
}

const (
	defaultPrefix = "carrel"
	dialTimeout   = 5 * time.Second
	// A connection that is silent for so long is probed, and given up without an answer: a member behind a firewall that
	// swallows packets must not stop the watch without anybody noticing.
	keepAlive        = 5 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// External connects to a cluster and returns once it has answered; ctx bounds that. Every connection that leaves
// the machine is TLS 1.2 or later with the member's certificate verified: records hold secrets.
func External(ctx context.Context, cfg ExternalConfig) (*Store, error) {
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Prefix == "" {
		cfg.Prefix = defaultPrefix
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, TLS: tlsConfig, DialTimeout: dialTimeout,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		MaxCallSendMsgSize: maxRequestBytes,
		Logger:             newZap(cfg.Logger, nil),
	})
	if err != nil {
		return nil, fmt.Errorf("state/etcd: %w", err)
	}
	s := newStore(client, cfg.Prefix)
	s.shut = func() error { return closeClient(client) }
	if _, err := client.Get(ctx, s.prefix, clientv3.WithCountOnly(), clientv3.WithPrefix()); err != nil {
		return nil, errors.Join(fmt.Errorf("state/etcd: cluster %v: %w", cfg.Endpoints, failure(ctx, err)), s.Close())
	}
	return s, nil
}

func (cfg ExternalConfig) tls() (*tls.Config, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("state/etcd: no endpoints")
	}
	for _, e := range cfg.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && config.Loopback(u.Hostname())) {
			return nil, fmt.Errorf("state/etcd: endpoint %q: must be https://HOST:PORT, or http:// of a loopback address", e)
		}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("state/etcd: CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("state/etcd: CA file %s holds no certificate", cfg.CAFile)
		}
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("state/etcd: a client certificate needs both its certificate and its key file")
	}
	if cfg.CertFile != "" {
		// Read now, to be told of mistakes, and again for every connection, so that a renewed certificate is taken up.
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("state/etcd: client certificate: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}
