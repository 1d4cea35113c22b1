package oidc

import (
	"context"
	"crypto/sha1" // Thumbprints are AWS's.
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of one fetch.
const (
	fetchTime = 5 * time.Second
	maxFetch  = 256 << 10
)

// errThumbprint is a server that neither a root nor a thumbprint vouches for.
var errThumbprint = errors.New("oidc: the server's certificate is not trusted and no thumbprint matches")

// Fetcher gets documents of providers over TLS. Its zero value dials directly and trusts the system's roots.
type Fetcher struct {
	// Dial makes connections; nil: the operating system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are trusted; nil: the system's.
	Roots *x509.CertPool
	// Proxy is as http.Transport's; nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// Now tells whether certificates are valid; nil: time.Now.
	Now func() time.Time
}

// client makes a client for one server of a provider. No redirect is followed: where the keys are is the discovery document's to say, and that document is
// where the issuer's name puts it.
func (f *Fetcher) client(p *Provider, host string) *http.Client {
	return &http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			DialContext: f.Dial, Proxy: f.Proxy, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout: fetchTime, ResponseHeaderTimeout: fetchTime,
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12,
				// Not less than usual but more: VerifyConnection does what is skipped here, and then asks the thumbprints.
				InsecureSkipVerify: true,
				VerifyConnection: func(state tls.ConnectionState) error {
					return f.verify(state.PeerCertificates, host, p.Thumbprints)
				},
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the provider redirects") },
	}
}

// verify believes a server whose certificate leads to a trusted root, or else to a certificate that it sends itself and that a thumbprint names
// (IAM User Guide, "Obtain the thumbprint for an OpenID Connect identity provider"). The name and the dates must be right either way.
func (f *Fetcher) verify(certs []*x509.Certificate, host string, thumbprints []string) error {
	if len(certs) == 0 || host == "" {
		return errThumbprint
	}
	options := x509.VerifyOptions{Roots: f.Roots, DNSName: host, Intermediates: x509.NewCertPool()}
	if f.Now != nil {
		options.CurrentTime = f.Now()
	}
	for _, c := range certs[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(options)
	if err == nil {
		return nil
	}
	for _, c := range certs {
		sum := sha1.Sum(c.Raw)
		if !slices.ContainsFunc(thumbprints, func(t string) bool { return strings.EqualFold(t, hex.EncodeToString(sum[:])) }) {
			continue
		}
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(c)
		if _, err = certs[0].Verify(options); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", errThumbprint, err)
}

// get fetches a JSON document, and tells how long it may be kept by its own word; zero: it says nothing.
func (f *Fetcher) get(ctx context.Context, p *Provider, address string) (body []byte, keep time.Duration, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, 0, fmt.Errorf("%.200q is not an address that is fetched", address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	client := f.client(p, u.Hostname())
	defer client.CloseIdleConnections()
	answer, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answers %s", u.Redacted(), answer.Status)
	}
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err == nil && kind == "text/html" {
		return nil, 0, fmt.Errorf("%s answers a page", u.Redacted())
	}
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxFetch+1))
	if err == nil && len(body) > maxFetch {
		err = fmt.Errorf("%s answers more than %d bytes", u.Redacted(), maxFetch)
	}
	return body, maxAge(answer.Header.Get("Cache-Control")), err
}

// maxAge reads max-age of a Cache-Control header.
func maxAge(header string) time.Duration {
	for _, directive := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if strings.EqualFold(name, "max-age") {
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return 0
}

// fetchKeys finds a provider's keys: its discovery document under its name, which must bear that name, and the key set that this names.
func (f *Fetcher) fetchKeys(ctx context.Context, p *Provider) ([]key, time.Duration, error) {
	issuer := "https://" + p.URL
	text, _, err := f.get(ctx, p, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, 0, err
	}
	document, err := readObject(text)
	if err != nil {
		return nil, 0, malformed(fmt.Errorf("discovery: %w", err))
	}
	// Another's document under this name would bring another's keys (OpenID Connect Discovery section 4.3: exactly the same).
	if name, _ := document.text("issuer"); name != issuer {
		return nil, 0, malformed(fmt.Errorf("discovery of %s is of the issuer %.200q", issuer, name))
	}
	address, _ := document.text("jwks_uri")
	text, keep, err := f.get(ctx, p, address)
	if err != nil {
		return nil, 0, err
	}
	keys, err := readKeys(text)
	if err != nil {
		return nil, 0, malformed(fmt.Errorf("keys: %w", err))
	}
	return keys, keep, nil
}

// malformedError is an answer of the provider that was received and is wrong.
type malformedError struct{ error }

func malformed(err error) error { return malformedError{err} }
