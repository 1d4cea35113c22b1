package front

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. A client that is slow, half open or floods loses its connection, not the door (SIG-11).
type Limits struct {
	// Header and Body bound the time to send a request's headers and all of it, Deadline the time to carry it out, Idle the time a
	// connection may stay without one.
	Header, Body, Deadline, Idle time.Duration
}

const (
	// maxHeader is the largest request line and headers together, in bytes.
	maxHeader  = 64 << 10
	maxStreams = 128
	// MaxConnections open at once; more wait in the kernel's queue.
	MaxConnections = 4096
)

// ServeTLS answers HTTPS on l with srv, whose TLSConfig is set, until ctx ends, then finishes running requests for at most Grace.
func ServeTLS(ctx context.Context, l net.Listener, srv *http.Server) error {
	// crypto/tls begins a connection with records the size of a packet, for browsers that draw what has come so far. Our clients need the
	// whole answer, and each record costs a system call.
	srv.TLSConfig.DynamicRecordSizingDisabled = true
	return Run(ctx, srv, func() error { return srv.ServeTLS(limit(l, MaxConnections), "", "") })
}

// ServePlain is ServeTLS without TLS, for a door that tells its callers by something else.
func ServePlain(ctx context.Context, l net.Listener, srv *http.Server) error {
	return Run(ctx, srv, func() error { return srv.Serve(limit(l, MaxConnections)) })
}

// NewServer is an http.Server with Carrel's limits, for any of its listeners. logger gets net/http's own complaints (handshakes that
// failed) at debug level: they are the clients'.
func NewServer(handler http.Handler, l Limits, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ConnContext:       withConn,
		ReadHeaderTimeout: l.Header,
		ReadTimeout:       l.Body,
		WriteTimeout:      l.Body + l.Deadline,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 30 * time.Second},
		ErrorLog:          log.New(&debugLog{logger}, "", 0),
	}
}

// Grace is how long running requests may take to finish when the process stops.
const Grace = 5 * time.Second

// Run calls serve and stops srv when ctx ends. It returns nil after an orderly stop.
func Run(ctx context.Context, srv *http.Server, serve func() error) error {
	done := make(chan error, 1)
	go func() { done <- serve() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), Grace)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		// Whoever still talks after the grace is cut off.
		_ = srv.Close()
	}
	if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type debugLog struct{ log *slog.Logger }

func (w *debugLog) Write(p []byte) (int, error) {
	w.log.Debug("http server", "message", string(p))
	return len(p), nil
}
