package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// counting counts the writes of the connections it accepts.
type counting struct {
	net.Listener
	writes atomic.Int64
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, &l.writes}, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// serveBody answers every request with body, through ServeTLS, until the test ends. It gives a client's configuration, too.
func serveBody(t *testing.T, body []byte, limits Limits) (*counting, *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// httptest has a certificate.
	other := httptest.NewTLSServer(nil)
	defer other.Close()
	count := &counting{Listener: l}
	srv := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		writeWhole(w, r, body)
	}), limits, slog.New(slog.DiscardHandler))
	srv.TLSConfig = &tls.Config{Certificates: other.TLS.Certificates}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeTLS(ctx, count, srv) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conf := other.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.ServerName = "example.com"
	return count, conf
}

func TestAnAnswerLeavesInOnePiece(t *testing.T) {
	limits := Limits{Header: time.Minute, Body: time.Minute, Deadline: time.Minute, Idle: time.Minute}
	for _, size := range []int{0, 1, fitsBuffer, fitsBuffer + 1, 4 << 10, 15 << 10, maxHeld - 2<<10, maxHeld, 1 << 20} {
		body := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		count, conf := serveBody(t, body, limits)
		for _, h2 := range []bool{false, true} {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: h2}}
			for i := range 3 {
				before := count.writes.Load()
				resp, err := client.Post("https://"+count.Addr().String(), "text/plain", bytes.NewReader([]byte("question")))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.Equal(got, body) || resp.ProtoMajor == 2 != h2 {
					t.Fatalf("%d bytes: got %d over %s, %v", size, len(got), resp.Proto, err)
				}
				// The first request's writes are the handshake's too.
				if n := count.writes.Load() - before; !h2 && i > 0 && size <= 15<<10 && n != 1 {
					t.Errorf("%d bytes: the answer left in %d writes", size, n)
				}
			}
			client.CloseIdleConnections()
		}
	}
}

// SIG-11: holding an answer gives a client that does not read it no more time than it had.
func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	count, conf := serveBody(t, make([]byte, 32<<10), Limits{Header: time.Minute, Body: time.Second, Deadline: time.Second, Idle: time.Minute})
	c, err := tls.Dial("tcp", count.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	// Answers fill both kernels' buffers; then a write of the server fails, and with it the connection, and then one of ours.
	ask := []byte("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")
	if err := c.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for started := time.Now(); ; {
		if _, err := c.Write(bytes.Repeat(ask, 100)); err != nil {
			if took := time.Since(started); took > 20*time.Second {
				t.Errorf("cut off after %s", took)
			}
			return
		}
	}
}
