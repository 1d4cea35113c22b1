package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"carrel/internal/sigv4"
)

// answerTimeout bounds one request, so that a server that hangs ends the run with an error.
const answerTimeout = 60 * time.Second

// endpoint is a server under load.
type endpoint struct {
	name    string
	address string
	// tls is nil for plain HTTP (moto_server).
	tls    *tls.Config
	signer *sigv4.Signer
	pid    int
}

// call is one AWS JSON request and what a right answer contains.
type call struct {
	target string
	body   string
	want   string
}

// shot is a signed request as bytes on the wire.
type shot struct {
	wire []byte
	want []byte
}

// shots signs calls. Signing them before the measured time keeps the generator's own cost out of the machine's cores; each is a whole
// signature of its own, and the server has to verify every one.
func (e *endpoint) shots(calls []call) ([]shot, error) {
	out := make([]shot, len(calls))
	for i, c := range calls {
		h := http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {c.target}}
		req := &sigv4.Request{Method: http.MethodPost, Path: "/", Host: e.address, Header: h, Body: []byte(c.body)}
		if err := e.signer.Sign(req, time.Now()); err != nil {
			return nil, err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", e.address, len(c.body))
		if err := h.Write(&b); err != nil {
			return nil, err
		}
		b.WriteString("\r\n" + c.body)
		out[i] = shot{b.Bytes(), []byte(c.want)}
	}
	return out, nil
}

// conn is a connection that is kept as long as the server keeps it. It belongs to one goroutine.
type conn struct {
	to   *endpoint
	net  net.Conn
	r    *bufio.Reader
	body bytes.Buffer
}

func (c *conn) dial(ctx context.Context) error {
	d := &net.Dialer{Timeout: answerTimeout}
	n, err := d.DialContext(ctx, "tcp", c.to.address)
	if err != nil {
		return err
	}
	if c.to.tls != nil {
		t := tls.Client(n, c.to.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			discard(n)
			return err
		}
		n = t
	}
	c.net, c.r = n, bufio.NewReaderSize(n, 32<<10)
	return nil
}

// Close ends the connection.
func (c *conn) Close() error {
	if c.net == nil {
		return nil
	}
	n := c.net
	c.net = nil
	return n.Close()
}

// do sends one request and checks its answer, whose body is valid until the next do. A wrong answer is an error: fast nonsense is not a
// figure.
func (c *conn) do(ctx context.Context, s shot) ([]byte, error) {
	if c.net == nil {
		if err := c.dial(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.to.name, err)
		}
	}
	body, err := c.exchange(s)
	if err != nil {
		discard(c)
		return nil, fmt.Errorf("%s: %w", c.to.name, err)
	}
	return body, nil
}

func (c *conn) exchange(s shot) ([]byte, error) {
	if err := c.net.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.net.Write(s.wire); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	c.body.Reset()
	if _, err := c.body.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	discard(resp.Body)
	body := c.body.Bytes()
	if resp.Close {
		discard(c)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, s.want) {
		return nil, fmt.Errorf("answered %d without %q: %.300s", resp.StatusCode, s.want, body)
	}
	return body, nil
}

// once sends one call on a connection of its own.
func (e *endpoint) once(ctx context.Context, c call) ([]byte, error) {
	list, err := e.shots([]call{c})
	if err != nil {
		return nil, err
	}
	one := &conn{to: e}
	defer discard(one)
	return one.do(ctx, list[0])
}
