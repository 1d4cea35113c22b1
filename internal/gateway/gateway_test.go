package gateway

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"carrel/internal/clock"
	"carrel/internal/pki"
)

func newGateway(t *testing.T, ready error) *Gateway {
	t.Helper()
	authority, err := pki.Open(pki.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return &Gateway{Ready: func() error { return ready }, CRL: authority.CRL, Clock: clock.System{}, Pages: fstest.MapFS{"index.html": {Data: []byte("<h1>Carrel</h1>")}}}
}

func ask(h http.Handler, method, target string) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Result()
}

func TestHealthAndReadinessAreOnBothSides(t *testing.T) {
	well, ill := newGateway(t, nil), newGateway(t, errors.New("audit: disk full"))
	for _, c := range []struct {
		name   string
		h      http.Handler
		path   string
		status int
		text   string
	}{
		{"TLS health", well.Handler(), "/healthz", 200, "ok\n"},
		{"plain health", well.Plain(), "/healthz", 200, "ok\n"},
		{"TLS ready", well.Handler(), "/readyz", 200, "ready\n"},
		{"alive though not ready", ill.Handler(), "/healthz", 200, "ok\n"},
		{"not ready, with the reason", ill.Plain(), "/readyz", 503, "not ready: audit: disk full\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ask(c.h, "GET", c.path)
			body, _ := io.ReadAll(r.Body)
			if r.StatusCode != c.status || string(body) != c.text || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %q %v", r.StatusCode, body, r.Header)
			}
		})
	}
}

func TestRevocationListIsOneThatClientsRead(t *testing.T) {
	authority, err := pki.Open(pki.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, nil)
	g.CRL = authority.CRL
	for _, h := range []http.Handler{g.Handler(), g.Plain()} {
		r := ask(h, "GET", "/pki/ca.crl")
		der, _ := io.ReadAll(r.Body)
		list, err := x509.ParseRevocationList(der)
		if err != nil || r.Header.Get("Content-Type") != "application/pkix-crl" {
			t.Fatal(err, r.Header)
		}
		if err := list.CheckSignatureFrom(authority.Certificate()); err != nil {
			t.Error(err)
		}
		if now := time.Now(); now.Before(list.ThisUpdate) || now.After(list.NextUpdate) {
			t.Errorf("good from %v to %v", list.ThisUpdate, list.NextUpdate)
		}
	}
	g.CRL = func(time.Time) ([]byte, error) { return nil, errors.New("the key is at /secret/path") }
	r := ask(g.Handler(), "GET", "/pki/ca.crl")
	if body, _ := io.ReadAll(r.Body); r.StatusCode != 500 || strings.Contains(string(body), "secret") {
		t.Errorf("%d %s", r.StatusCode, body)
	}
}

func TestPlainSideRedirectsAndServesNothingElse(t *testing.T) {
	g := newGateway(t, nil)
	r := ask(g.Plain(), "GET", "http://desk.example.com:8444/a%20b/c")
	if r.StatusCode != http.StatusPermanentRedirect || r.Header.Get("Location") != "https://desk.example.com:8444/a%20b/c" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r := ask(g.Plain(), "POST", "http://desk.example.com/"); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST: %d", r.StatusCode)
	}
}

func TestPagesCannotBeFramedOrScripted(t *testing.T) {
	r := ask(newGateway(t, nil).Handler(), "GET", "/")
	policy := r.Header.Get("Content-Security-Policy")
	if r.StatusCode != 200 || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script-src 'self';") ||
		r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("SES-4: %d %v", r.StatusCode, r.Header)
	}
	if r.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("SES-3: other sites are told where their visitors come from: %v", r.Header)
	}
	for _, path := range []string{"/../gateway.go", "/%2e%2e/gateway.go", "/nothing"} {
		r := ask(newGateway(t, nil).Handler(), "GET", path)
		if r.StatusCode == 200 {
			t.Errorf("%s is served", path)
		}
	}
}

// certificate is any certificate: the split does not look at it.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// split runs a Split with a server on each half; stop ends it and waits.
func split(t *testing.T, firstByte time.Duration) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSplit(l, firstByte)
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	secure := &http.Server{Handler: says("TLS"), TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}}
	plain := &http.Server{Handler: says("plain")}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- s.Run(ctx) }()
	go func() { _ = secure.ServeTLS(s.TLS(), "", ""); ended <- nil }()
	go func() { _ = plain.Serve(s.Plain()); ended <- nil }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		_ = secure.Close()
		_ = plain.Close()
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestSplitTellsTLSFromPlainByTheFirstByte(t *testing.T) {
	addr, _ := split(t, time.Minute)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for scheme, want := range map[string]string{"https": "TLS", "http": "plain"} {
		r, err := c.Get(scheme + "://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(body) != want {
			t.Errorf("%s was answered by %s", scheme, body)
		}
	}
}

func TestSplitTakesAFirstByteThatComesAlone(t *testing.T) {
	addr, _ := split(t, time.Minute)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, piece := range []string{"G", "ET / HTTP/1.1\r\n", "Host: x\r\n\r\n"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != "plain" {
		t.Errorf("%q", body)
	}
}

func TestSplitClosesSilentConnections(t *testing.T) {
	addr, _ := split(t, 50*time.Millisecond)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("SIG-11: a silent connection: %v", err)
	}
}

func TestSplitStopsAtOnceThoughClientsAreSilent(t *testing.T) {
	addr, stop := split(t, time.Hour)
	for range 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// It would take an hour, and the test's own limit, otherwise.
	stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}
