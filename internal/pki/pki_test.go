package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const crlURL = "http://127.0.0.1:8444/pki/ca.crl"

func open(t *testing.T, dir string, now time.Time) *Authority {
	t.Helper()
	a, err := Open(Options{Dir: dir, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serve(t *testing.T, a *Authority, names ...string) *Server {
	t.Helper()
	s, err := a.Server(Subject{Names: names, CRL: crlURL})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serials(s *Server) string {
	var out []string
	for _, leaf := range *s.leaves.Load() {
		out = append(out, leaf.Leaf.SerialNumber.String())
	}
	return strings.Join(out, " ")
}

func TestTheAuthorityIsMadeOnceAndKept(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "pki"), time.Now()
	first := open(t, dir, now)
	again := open(t, dir, now.AddDate(9, 0, 0))
	if !first.Certificate().Equal(again.Certificate()) || !bytes.Equal(first.CertificatePEM(), again.CertificatePEM()) {
		t.Error("the second start has another authority")
	}
	c := first.Certificate()
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("key %T", c.PublicKey)
	}
	if got := c.NotAfter.Sub(now); got < 3650*24*time.Hour || got > 3654*24*time.Hour {
		t.Errorf("valid for %s", got)
	}
	if bytes.Contains(first.CertificatePEM(), []byte("PRIVATE")) {
		t.Error("the public PEM holds a key")
	}
	for _, path := range []string{dir, filepath.Join(dir, authorityFile)} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestADamagedFileIsAnErrorAndStaysAsItIs(t *testing.T) {
	now := time.Now()
	other := t.TempDir()
	serve(t, open(t, other, now), "localhost")
	foreign, err := os.ReadFile(filepath.Join(other, authorityFile))
	if err != nil {
		t.Fatal(err)
	}
	cut := func(data []byte, block string) []byte {
		i := bytes.Index(data, []byte("-----BEGIN "+block))
		j := bytes.Index(data, []byte("-----END "+block)) + len("-----END "+block+"-----\n")
		return append(slices.Clone(data[:i]), data[j:]...)
	}
	block := func(data []byte, name string) []byte {
		i := bytes.Index(data, []byte("-----BEGIN "+name))
		j := bytes.Index(data, []byte("-----END "+name)) + len("-----END "+name+"-----\n")
		return slices.Clone(data[i:j])
	}
	damages := map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"an empty file":                     {func([]byte) []byte { return nil }, "both"},
		"text that is no PEM":               {func([]byte) []byte { return []byte("hello\n") }, "not PEM"},
		"half of the file":                  {func(b []byte) []byte { return b[:len(b)/2] }, "damaged"},
		"a file without its key":            {func(b []byte) []byte { return cut(b, "PRIVATE KEY") }, "both"},
		"a file without its certificate":    {func(b []byte) []byte { return cut(b, "CERTIFICATE") }, "both"},
		"a key of another certificate":      {func(b []byte) []byte { return append(cut(b, "PRIVATE KEY"), block(foreign, "PRIVATE KEY")...) }, "does not belong"},
		"two certificates":                  {func(b []byte) []byte { return append(b, block(b, "CERTIFICATE")...) }, "only one"},
		"a block of another kind":           {func(b []byte) []byte { return append(b, "-----BEGIN X-----\nAAAA\n-----END X-----\n"...) }, "unexpected"},
		"a key that is no key":              {func(b []byte) []byte { return bytes.Replace(b, []byte("MIGH"), []byte("AAAA"), 1) }, "damaged"},
		"more bytes than a certificate has": {func(b []byte) []byte { return append(b, bytes.Repeat([]byte("\n"), maxFile)...) }, "larger"},
	}
	for name, d := range damages {
		for _, file := range []string{authorityFile, "server-ecdsa.pem"} {
			t.Run(name+" in "+file, func(t *testing.T) {
				dir := t.TempDir()
				serve(t, open(t, dir, now), "localhost")
				path := filepath.Join(dir, file)
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				broken := d.damage(data)
				if err := os.WriteFile(path, broken, 0o600); err != nil {
					t.Fatal(err)
				}
				a, err := Open(Options{Dir: dir})
				if file != authorityFile {
					if err != nil {
						t.Fatal(err)
					}
					_, err = a.Server(Subject{Names: []string{"localhost"}, CRL: crlURL})
				}
				if err == nil || !strings.Contains(err.Error(), d.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want the path and %q", err, d.want)
				}
				if after, _ := os.ReadFile(path); !bytes.Equal(after, broken) {
					t.Error("the damaged file was overwritten")
				}
			})
		}
	}
}

func TestTheAuthorityIsRefused(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	serve(t, open(t, dir, now), "localhost")
	path := filepath.Join(dir, authorityFile)
	t.Run("when others can read its key", func(t *testing.T) {
		defer os.Chmod(path, 0o600)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "0600") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("when it has expired", func(t *testing.T) {
		_, err := Open(Options{Dir: dir, Now: func() time.Time { return now.AddDate(11, 0, 0) }})
		if err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("when it is a leaf", func(t *testing.T) {
		leaf, _ := os.ReadFile(filepath.Join(dir, "server-ecdsa.pem"))
		bad := t.TempDir()
		if err := os.WriteFile(filepath.Join(bad, authorityFile), leaf, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: bad}); err == nil || !strings.Contains(err.Error(), "not a certificate authority") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("when no directory is given", func(t *testing.T) {
		if _, err := Open(Options{}); err == nil {
			t.Error("accepted")
		}
	})
}

func TestLeavesAreRenewed(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	before := serials(serve(t, open(t, dir, now), "localhost", "127.0.0.1", "LOCALHOST"))
	cases := []struct {
		name  string
		at    time.Time
		names []string
		same  bool
	}{
		{"not while they have 31 days", now.AddDate(0, 0, leafDays-31), []string{"127.0.0.1", "localhost"}, true},
		{"when they have 29 days", now.AddDate(0, 0, leafDays-29), []string{"localhost", "127.0.0.1"}, false},
		{"when a name is added", now.AddDate(0, 0, leafDays-29), []string{"localhost", "127.0.0.1", "carrel.example.com"}, false},
		{"when a name is removed", now.AddDate(0, 0, leafDays-29), []string{"localhost"}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			after := serials(serve(t, open(t, dir, c.at), c.names...))
			if (after == before) != c.same {
				t.Errorf("serials %s, before %s", after, before)
			}
			before = after
		})
	}
	t.Run("never beyond the authority's end", func(t *testing.T) {
		a := open(t, dir, now.AddDate(10, 0, -5))
		s := serve(t, a, "localhost")
		if !s.Expires().Equal(a.Certificate().NotAfter) {
			t.Errorf("ends %s, the authority %s", s.Expires(), a.Certificate().NotAfter)
		}
	})
	t.Run("when another authority signed them", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, authorityFile)); err != nil {
			t.Fatal(err)
		}
		if after := serials(serve(t, open(t, dir, now), "localhost")); after == before {
			t.Error("leaves of the old authority are served")
		}
	})
}

func TestBadNamesAreRefused(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	for _, names := range [][]string{nil, {""}, {"a b"}, {"host:8443"}, {"https://x"}, {"a\nb"}} {
		if _, err := a.Server(Subject{Names: names}); err == nil {
			t.Errorf("names %q accepted", names)
		}
	}
}

func TestTheRevocationList(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	s := serve(t, a, "localhost")
	now := time.Now()
	der, err := a.CRL(now)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(a.Certificate()); err != nil {
		t.Error(err)
	}
	if list.ThisUpdate.After(now) || list.NextUpdate.Before(now.AddDate(0, 0, 6)) || len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("from %s to %s", list.ThisUpdate, list.NextUpdate)
	}
	later, err := a.CRL(now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if l, _ := x509.ParseRevocationList(later); l.Number.Cmp(list.Number) <= 0 {
		t.Error("the number does not grow")
	}
	for _, leaf := range *s.leaves.Load() {
		if !slices.Equal(leaf.Leaf.CRLDistributionPoints, []string{crlURL}) {
			t.Errorf("distribution points %v", leaf.Leaf.CRLDistributionPoints)
		}
	}
}

func TestLeavesWorkAsServersOnly(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	s := serve(t, a, "localhost", "::1", "127.0.0.1")
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	for _, leaf := range *s.leaves.Load() {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
			t.Error("a door's certificate passes as a client's")
		}
		if leaf.Leaf.IsCA || leaf.Leaf.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("usage %v", leaf.Leaf.KeyUsage)
		}
	}
}

// handshake connects a client to the server over the loopback interface (a net.Pipe blocks both ends on their alerts).
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		s, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer s.Close()
		done <- tls.Server(s, server).HandshakeContext(t.Context())
	}()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(c, client)
	err = conn.HandshakeContext(t.Context())
	state := conn.ConnectionState()
	c.Close()
	return state, errors.Join(err, <-done)
}

func TestServerTLS(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	s := serve(t, a, "localhost")
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	at12 := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
		change(c)
		return c
	}
	cases := []struct {
		name   string
		floor  uint16
		client *tls.Config
		check  func(tls.ConnectionState) bool // nil: refused
	}{
		{"a modern client gets TLS 1.3 with the hybrid group and the ECDSA certificate", 0,
			&tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}, CurvePreferences: []tls.CurveID{tls.X25519, tls.X25519MLKEM768}},
			func(c tls.ConnectionState) bool {
				_, ec := c.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
				return c.Version == tls.VersionTLS13 && c.CurveID == tls.X25519MLKEM768 && ec && c.NegotiatedProtocol == "h2"
			}},
		{"a client without post-quantum groups gets X25519", 0,
			&tls.Config{RootCAs: roots, ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}},
			func(c tls.ConnectionState) bool { return c.CurveID == tls.X25519 }},
		{"a client that knows only RSA gets the RSA certificate", 0,
			at12(func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} }),
			func(c tls.ConnectionState) bool {
				key, ok := c.PeerCertificates[0].PublicKey.(*rsa.PublicKey)
				return ok && key.N.BitLen() == 2048
			}},
		{"no session ticket is given", 0, at12(func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) }),
			func(c tls.ConnectionState) bool { return !c.DidResume }},
		{"TLS 1.1 is refused", 0, &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil},
		{"RSA key exchange is refused", 0, at12(func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256} }), nil},
		{"CBC suites are refused", 0, at12(func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		}), nil},
		{"TLS 1.2 is refused above the floor", tls.VersionTLS13, at12(func(*tls.Config) {}), nil},
		{"a name the certificate does not have is the client's to refuse", 0, &tls.Config{RootCAs: roots, ServerName: "evil.example.com"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			server, err := s.ServerTLS(c.floor)
			if err != nil {
				t.Fatal(err)
			}
			if !server.SessionTicketsDisabled {
				t.Error("session tickets are on")
			}
			state, err := handshake(t, server, c.client)
			if c.check == nil {
				if err == nil {
					t.Errorf("accepted: %s", tls.VersionName(state.Version))
				}
				return
			}
			if err != nil || !c.check(state) {
				t.Errorf("%s %s %s: %v", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.CurveID, err)
			}
		})
	}
	for _, floor := range []uint16{tls.VersionTLS10, tls.VersionTLS11, 0x0305, 1} {
		if _, err := s.ServerTLS(floor); err == nil {
			t.Errorf("floor %#x accepted", floor)
		}
	}
}

func TestARenewedCertificateIsServedWithoutARestart(t *testing.T) {
	now := time.Now()
	a := open(t, t.TempDir(), now)
	a.now = func() time.Time { return now }
	s := serve(t, a, "localhost")
	config, err := s.ServerTLS(0)
	if err != nil {
		t.Fatal(err)
	}
	seen := func() string {
		state, err := handshake(t, config, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := seen()
	now = now.AddDate(0, 0, 61)
	if err := s.Renew(); err != nil {
		t.Fatal(err)
	}
	if seen() == first {
		t.Error("the old certificate is still served")
	}
}

func TestRunRenewsAndReports(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, a, "localhost")
		first := serials(s)
		ctx, stop := context.WithCancel(t.Context())
		done, reports := make(chan error, 1), 0
		go func() { done <- s.Run(ctx, func(error) { reports++ }) }()
		time.Sleep(61 * 24 * time.Hour)
		synctest.Wait()
		if serials(s) == first {
			t.Error("not renewed after 61 days")
		}
		if err := os.WriteFile(filepath.Join(dir, "server-rsa.pem"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(renewEvery)
		synctest.Wait()
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) || reports != 1 {
			t.Errorf("ended with %v after %d reports", err, reports)
		}
	})
}

func FuzzParsePair(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parsePair(data); err == nil && (p.cert == nil || p.key == nil) {
			t.Error("half a pair accepted")
		}
	})
}
