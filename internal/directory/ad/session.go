package ad

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// errTooMuch ends a conversation with a server that sends without end.
var errTooMuch = errors.New("ad: the server sent more than any answer has")

// bounded is a connection that ends when the peer has sent more than left bytes.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Converse runs fn with LDAP on an open connection, which it closes: until deadline or ctx's end at the longest, and with what the peer may
// send bounded to most bytes.
func Converse(ctx context.Context, c net.Conn, deadline time.Time, most int, fn func(*ldap.Conn) error) error {
	if err := c.SetDeadline(deadline); err != nil {
		return errors.Join(err, c.Close())
	}
	conn := ldap.NewConn(&bounded{c, most}, false)
	conn.Start()
	defer conn.Close()
	// Whoever gives up waiting ends the exchange; the library's own calls take no context.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	return guard(conn, fn)
}

// guard runs fn and makes an error of a panic in it: the library takes answers apart that a hostile server has made, and one that it cannot
// take apart must not end the process that everybody's logins go through.
func guard(conn *ldap.Conn, fn func(*ldap.Conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the server's answer cannot be read: %v", p)
		}
	}()
	return fn(conn)
}

// each runs fn with one server after the other until one answers, whatever the answer: ErrUnavailable when none does.
// fn's error is an answer when it is a *directory.LoginError or an error of the contract other than ErrUnavailable.
func (c *Client) each(ctx context.Context, id ident.DirectoryID, s Settings, fn func(*ldap.Conn) error) error {
	var failures []error
	for _, server := range s.Servers {
		err := s.with(ctx, server, fn)
		var refused *directory.LoginError
		if err == nil || errors.As(err, &refused) || errors.Is(err, directory.ErrNoUser) || errors.Is(err, directory.ErrWeakPassword) {
			c.answered(id, server)
			return err
		}
		failures = append(failures, fmt.Errorf("%s: %w", server.Address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("directory %s: %w: %w", id, directory.ErrUnavailable, errors.Join(failures...))
}

// with runs fn on a new connection to one server.
func (s *Settings) with(ctx context.Context, server Server, fn func(*ldap.Conn) error) error {
	deadline := time.Now().Add(s.Timeout)
	raw, err := s.connect(ctx, server)
	if err != nil {
		return err
	}
	return Converse(ctx, raw, deadline, maxConversation, fn)
}

// connect opens TLS to a server and checks who it is.
func (s *Settings) connect(ctx context.Context, server Server) (net.Conn, error) {
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		return nil, fmt.Errorf("the server's address: %w", err)
	}
	name := server.Name
	if name == "" {
		if name = host; net.ParseIP(host) != nil {
			name = s.Domain
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.RootCAs) {
		return nil, errors.New("the directory's certificate authority cannot be read")
	}
	ctx, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	raw, err := s.Dial(ctx, "tcp", server.Address)
	if err != nil {
		return nil, err
	}
	// The bound is under TLS, so that it holds for the handshake too.
	conn := tls.Client(&bounded{raw, maxConversation}, &tls.Config{ServerName: name, RootCAs: pool, MinVersion: tls.VersionTLS12})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}
