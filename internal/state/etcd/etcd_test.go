package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// quiet keeps what the server says about its own ending out of the test's output.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, cfg EmbeddedConfig) (*Store, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg.Logger = quiet()
	return Embedded(ctx, cfg)
}

func mustOpen(t testing.TB, cfg EmbeddedConfig) *Store {
	t.Helper()
	s, err := open(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustPut(t testing.TB, s state.Store, id, value string) state.Revision {
	t.Helper()
	rev, err := s.Transact(t.Context(), state.Txn{Puts: []state.Write{{Key: state.Key{Table: "a", ID: id}, Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestEmbedded(t *testing.T) {
	statetest.Run(t, func(t *testing.T) state.Store {
		s, err := open(t, EmbeddedConfig{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestExternal(t *testing.T) {
	cfg := cluster(t)
	n := 0
	statetest.Run(t, func(t *testing.T) state.Store {
		n++
		cfg.Prefix = fmt.Sprintf("/installation/%d", n)
		s, err := External(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestExternalRefuses(t *testing.T) {
	good := cluster(t)
	stranger := certificates(t, t.TempDir())
	for _, c := range []struct {
		name string
		cfg  ExternalConfig
		says string
	}{
		{"no endpoints", ExternalConfig{}, "no endpoints"},
		{"an endpoint without TLS", ExternalConfig{Endpoints: []string{"http://127.0.0.1:2379", "http://10.0.0.1:2379"}}, "must be https"},
		{"a name without TLS", ExternalConfig{Endpoints: []string{"http://etcd:2379"}}, "must be https"},
		{"a loopback address without TLS, where nobody is", ExternalConfig{Endpoints: []string{"http://127.0.0.1:1"}}, "unavailable"},
		{"a CA file that is not there", ExternalConfig{Endpoints: good.Endpoints, CAFile: "/nonexistent"}, "CA file"},
		{"a CA file without certificates", ExternalConfig{Endpoints: good.Endpoints, CAFile: good.KeyFile}, "holds no certificate"},
		{"a certificate without its key", ExternalConfig{Endpoints: good.Endpoints, CAFile: good.CAFile, CertFile: good.CertFile}, "both"},
		{"a server of an unknown CA", ExternalConfig{Endpoints: good.Endpoints, CAFile: stranger.CAFile, CertFile: good.CertFile, KeyFile: good.KeyFile}, "unavailable"},
		{"a client the server does not know", ExternalConfig{Endpoints: good.Endpoints, CAFile: good.CAFile, CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, "unavailable"},
		{"a client without a certificate", ExternalConfig{Endpoints: good.Endpoints, CAFile: good.CAFile}, "unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			c.cfg.Logger = quiet()
			s, err := External(ctx, c.cfg)
			if err == nil {
				mustClose(t, s)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("External: %v, want something with %q", err, c.says)
			}
		})
	}
}

// cluster is an etcd server with mutual TLS on loopback, for the length of the test.
func cluster(t *testing.T) ExternalConfig {
	t.Helper()
	certs := certificates(t, t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "https", Host: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := embed.NewConfig()
	c.Name, c.Dir = "external", t.TempDir()
	c.InitialCluster = "external=http://localhost:2380"
	c.ListenPeerUrls = nil
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	c.ClientTLSInfo = transport.TLSInfo{CertFile: certs.CertFile, KeyFile: certs.KeyFile, TrustedCAFile: certs.CAFile, ClientCertAuth: true}
	c.MaxTxnOps = maxTxnOps
	c.TickMs, c.ElectionMs = 20, 200
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZap(quiet(), nil))
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	return ExternalConfig{Endpoints: []string{u.String()}, CAFile: certs.CAFile, CertFile: certs.CertFile, KeyFile: certs.KeyFile, Logger: quiet()}
}

// certificates makes a CA and one certificate of it that is good for server and client.
func certificates(t *testing.T, dir string) ExternalConfig {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "carrel"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return ExternalConfig{
		CAFile: write("ca.pem", "CERTIFICATE", caDER), CertFile: write("cert.pem", "CERTIFICATE", leafDER), KeyFile: write("key.pem", "PRIVATE KEY", keyDER),
	}
}

func TestEmbeddedListensNowhere(t *testing.T) {
	s := mustOpen(t, EmbeddedConfig{Dir: t.TempDir()})
	mustPut(t, s, "1", "x")
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/unix"} {
		inodes := map[string]bool{}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		for _, fd := range fds {
			if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
				if inode, ok := strings.CutPrefix(link, "socket:["); ok {
					inodes[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
		table, err := os.ReadFile(file)
		if err != nil {
			t.Skip("no /proc")
		}
		for line := range strings.Lines(string(table)) {
			for _, field := range strings.Fields(line) {
				if inodes[field] {
					t.Errorf("%s: a socket of this process: %s", file, line)
				}
			}
		}
	}
}

func TestReopenedStoreHasEverything(t *testing.T) {
	dir := t.TempDir()
	var last state.Revision
	for start := range 3 {
		s, err := open(t, EmbeddedConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		items, rev, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(items) != start || start > 0 && rev != last {
			t.Fatalf("start %d: %d items as of %d, want %d as of %d", start, len(items), rev, start, last)
		}
		last = mustPut(t, s, fmt.Sprint(start), "x")
		mustClose(t, s)
	}
}

func TestAnOrderlyEndLeavesNoLogToReadAgain(t *testing.T) {
	dir := t.TempDir()
	s, err := open(t, EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "1", "x")
	mustClose(t, s)
	if found, err := filepath.Glob(filepath.Join(dir, "member", "snap", "*.snap")); err != nil || len(found) != 1 {
		t.Errorf("snapshots: %v, %v", found, err)
	}
}

func TestPagesGivenBackAreReadAgain(t *testing.T) {
	s, err := open(t, EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	const n = 100
	for i := range n {
		mustPut(t, s, fmt.Sprint(i), strings.Repeat("x", 1000))
		if err := s.pages(); err != nil {
			t.Fatal(err)
		}
	}
	if items, _, err := s.List(t.Context()); err != nil || len(items) != n {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func TestFullStoreRefusesWrites(t *testing.T) {
	t.Run("beyond its quota, until a restart has dropped the history", func(t *testing.T) {
		dir := t.TempDir()
		s := mustOpen(t, EmbeddedConfig{Dir: dir, Quota: 4 << 20})
		value := strings.Repeat("x", 256<<10)
		var err error
		for i := 0; err == nil && i < 100; i++ {
			_, err = s.Transact(t.Context(), state.Txn{Puts: []state.Write{{Key: state.Key{Table: "a", ID: "1"}, Value: []byte(value)}}})
		}
		if !errors.Is(err, state.ErrFull) {
			t.Fatalf("Transact: %v, want ErrFull", err)
		}
		if _, _, err := s.List(t.Context()); err != nil {
			t.Errorf("List of a full store: %v", err)
		}
		mustClose(t, s)
		s = mustOpen(t, EmbeddedConfig{Dir: dir, Quota: 4 << 20})
		mustPut(t, s, "2", "there is room again")
	})
	t.Run("when the file system has less than the reserve left", func(t *testing.T) {
		s := mustOpen(t, EmbeddedConfig{Dir: t.TempDir(), Reserve: 1 << 60})
		txn := state.Txn{Puts: []state.Write{{Key: state.Key{Table: "a", ID: "1"}, Value: []byte("x")}}}
		if _, err := s.Transact(t.Context(), txn); !errors.Is(err, state.ErrFull) {
			t.Errorf("Transact: %v, want ErrFull", err)
		}
		if _, err := s.Transact(t.Context(), state.Txn{Deletes: []state.Key{{Table: "a", ID: "1"}}}); err != nil {
			t.Errorf("a deletion: %v", err)
		}
	})
}

func TestWatchFromBeforeTheCompactionSaysSo(t *testing.T) {
	s := mustOpen(t, EmbeddedConfig{Dir: t.TempDir()})
	first := mustPut(t, s, "1", "x")
	last := mustPut(t, s, "1", "y")
	if _, err := s.client.Compact(t.Context(), int64(last)); err != nil {
		t.Fatal(err)
	}
	if err := s.Watch(t.Context(), first-1, func(state.Event) {}); !errors.Is(err, state.ErrCompacted) {
		t.Errorf("Watch: %v, want ErrCompacted", err)
	}
}

func TestFailedServerIsUnavailable(t *testing.T) {
	s := mustOpen(t, EmbeddedConfig{Dir: t.TempDir()})
	mustPut(t, s, "1", "x")
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(t.Context(), 0, func(state.Event) {}) }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		newZap(quiet(), func(err error) { s.end(err) }).Fatal("the disk refuses")
		t.Error("the goroutine goes on after a fatal error")
	}()
	<-done
	<-s.Failed()
	if err := <-ended; !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Watch: %v, want ErrUnavailable", err)
	}
	if _, err := s.Transact(t.Context(), state.Txn{}); !errors.Is(err, state.ErrUnavailable) || !strings.Contains(err.Error(), "the disk refuses") {
		t.Errorf("Transact: %v, want ErrUnavailable with the reason", err)
	}
}
