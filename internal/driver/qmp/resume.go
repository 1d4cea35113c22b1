package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// maxStale bounds what a monitor may have left to be read before it answers its new client, in bytes.
const maxStale = 16 << 20

// Resume takes over a connection to a monitor whose client has ended in the middle of anything: of a command that it wrote, of an answer that
// it read. What the monitor still has to say to that client is read away, and the capabilities that it negotiated stay. Events that come before the
// first answer are lost. On an error conn is closed.
//
// ErrSilent: no answer in time. ErrProtocol: too much came before it.
func Resume(ctx context.Context, conn net.Conn, o Options) (*Client, Greeting, error) {
	c := newClient(conn, o)
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	g, r, err := c.resume(ctx)
	if err != nil {
		c.fail(err)
		return nil, Greeting{}, err
	}
	c.reader.Go(func() { c.read(r, true) })
	return c, g, nil
}

func (c *Client) resume(ctx context.Context) (g Greeting, r *bufio.Reader, err error) {
	// Commands are numbered from a random number on: an answer to the old client's, which counted from another, is not taken for one of ours.
	if c.last, err = randomNumber(); err != nil {
		return g, nil, err
	}
	line, err := encode("query-version", nil, &c.last)
	if err != nil {
		return g, nil, err
	}
	stop, err := bound(ctx, c.conn.SetDeadline)
	if err != nil {
		return g, nil, err
	}
	// Written while reading: the monitor may be stuck with an answer that nobody has taken. The byte is a lexical error (qmp-spec, "Forcing the JSON
	// parser into known-good state"), which ends whatever half command came before.
	wrote := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(append([]byte{flush}, line...))
		wrote <- err
	}()
	r = bufio.NewReaderSize(c.conn, 32<<10)
	g, err = awaitVersion(r, c.last)
	if err != nil {
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
	err = errors.Join(err, <-wrote)
	stop()
	if err == nil {
		return g, r, c.conn.SetDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = fmt.Errorf("%w: to its new client: %w", ErrSilent, ctx.Err())
	}
	return g, nil, err
}

// awaitVersion reads up to the answer with that id: half lines, answers to others, errors of the parser and events come first.
func awaitVersion(r *bufio.Reader, id uint64) (g Greeting, err error) {
	for stale := 0; stale <= maxStale; {
		line, err := readLine(r)
		if err != nil {
			return g, err
		}
		stale += len(line)
		m, err := decode(line)
		if err != nil || m.ID == nil || *m.ID != id {
			continue
		}
		var v greeting
		if m.Error == nil && m.Return != nil && json.Unmarshal(m.Return, &v.Version) == nil {
			return v.plain(), nil
		}
		return g, fmt.Errorf("%w: no version", ErrProtocol)
	}
	return g, fmt.Errorf("%w: more than %d bytes before the first answer", ErrProtocol, maxStale)
}
