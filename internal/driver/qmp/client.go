// Package qmp holds clients of the QEMU Machine Protocol (docs/interop/qmp-spec in QEMU) and of the QEMU guest agent. Both peers are taken for
// hostile: a guest that has broken out of QEMU speaks as QEMU, and the agent is the guest. So lines, nesting, events and waiting are bounded,
// and arguments are only ever encoded from values, never put together as text. It refuses to go on with a peer that was silent or broke the protocol.
package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What can go wrong with a connection; the text says more. A command that QEMU refused is an *Error instead.
var (
	// ErrSilent: the peer did not answer in time.
	ErrSilent = errors.New("qmp: no answer")
	// ErrProtocol: the peer sent what is not the protocol, or too much of it.
	ErrProtocol = errors.New("qmp: not the protocol")
	// ErrClosed: the connection cannot be used: it was closed, or silence or a breach of the protocol came before.
	ErrClosed = errors.New("qmp: connection unusable")
)

// Error is a peer's refusal of a command.
type Error struct {
	Command string
	// Class is "GenericError", "CommandNotFound", "DeviceNotFound", ...; Desc is for people.
	Class, Desc string
}

// Error quotes what the peer said: it may contain anything.
func (e *Error) Error() string {
	return "qmp: " + e.Command + ": " + strconv.Quote(e.Desc) + " (" + strconv.Quote(e.Class) + ")"
}

// IsClass reports whether err is a refusal of that class.
func IsClass(err error, class string) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == class
}

// Options of a Client; the zero value works.
type Options struct {
	// Timeout is for commands whose ctx has no deadline; 30 s when 0.
	Timeout time.Duration
	// Events are the names of the events to keep; nil keeps all.
	Events []string
}

const defaultTimeout = 30 * time.Second

// Client is a connection to QEMU's monitor. Its methods may be called concurrently.
type Client struct {
	conn    net.Conn
	timeout time.Duration
	events  queue

	writing chan struct{} // Held while a command is written.

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan<- message

	greeting chan Greeting
	once     sync.Once
	err      error         // Why; set before done is closed.
	done     chan struct{} // The connection is unusable.
	reader   sync.WaitGroup
}

// Greeting is what QEMU says first.
type Greeting struct {
	Major, Minor, Micro int
	Package             string
}

// Connect takes over a connection to a monitor, waits for the greeting and negotiates. On an error conn is closed.
func Connect(ctx context.Context, conn net.Conn, o Options) (*Client, Greeting, error) {
	c := newClient(conn, o)
	c.reader.Go(func() { c.read(bufio.NewReaderSize(conn, 32<<10), false) })
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	var g Greeting
	var err error
	select {
	case g = <-c.greeting:
		err = c.Execute(ctx, "qmp_capabilities", nil, nil)
	case <-c.done:
		err = c.broken()
	case <-ctx.Done():
		err = fmt.Errorf("%w: no greeting: %w", ErrSilent, ctx.Err())
	}
	if err != nil {
		c.fail(err)
		c.reader.Wait()
		return nil, Greeting{}, err
	}
	return c, g, nil
}

func newClient(conn net.Conn, o Options) *Client {
	c := &Client{conn: conn, timeout: o.Timeout, writing: make(chan struct{}, 1), pending: map[uint64]chan<- message{}, greeting: make(chan Greeting, 1), done: make(chan struct{})}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	c.events.init(o.Events)
	return c
}

// Close ends the connection and waits for its reader. Commands under way give ErrClosed.
func (c *Client) Close() error {
	c.fail(errors.New("closed by us"))
	c.reader.Wait()
	return nil
}

// Done is closed when the connection has become unusable; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection can be used.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.broken()
	default:
		return nil
	}
}

func (c *Client) broken() error { return fmt.Errorf("%w: %w", ErrClosed, c.err) }

func (c *Client) fail(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
		c.conn.Close()
	})
}

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// Execute has QEMU execute a command. arguments is a struct or map that encodes as a JSON object, or nil; result is where the answer is decoded
// to, or nil. files are passed with the command (getfd, add-fd), on a unix socket only.
//
// *Error: QEMU refused. When time runs out before the answer the error wraps ErrSilent and ctx's, and the connection is unusable from then on:
// QEMU may never speak again. A ctx that is cancelled says nothing about QEMU, only that the caller has gone away: the command is carried out,
// its answer is thrown away, and the connection stays if it comes in time. ErrClosed: it was unusable before, or became so now.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any, files ...*os.File) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	answer := make(chan message, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.mu.Unlock()
	line, err := encode(command, arguments, &id)
	if err != nil {
		return err
	}
	select {
	case c.writing <- struct{}{}:
	case <-c.done:
		return c.broken()
	case <-ctx.Done():
		return fmt.Errorf("qmp: %s: not sent: %w", command, ctx.Err())
	}
	c.mu.Lock()
	c.pending[id] = answer
	c.mu.Unlock()
	err = c.sendWhole(ctx, line, files)
	<-c.writing
	if err != nil {
		// Half a line may be out.
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: %s: %w", ErrSilent, command, context.DeadlineExceeded)
		}
		c.fail(err)
		return fmt.Errorf("qmp: %s: %w", command, errors.Join(err, c.broken()))
	}
	select {
	case m := <-answer:
		return m.into(command, result)
	case <-c.done:
		return fmt.Errorf("qmp: %s: %w", command, c.broken())
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			c.expect(ctx, id, command)
			return fmt.Errorf("qmp: %s: not waited for: %w", command, ctx.Err())
		}
		err := fmt.Errorf("%w: %s: %w", ErrSilent, command, ctx.Err())
		c.fail(err)
		return err
	}
}

// expect sees to it that a command nobody waits for any more is answered in time all the same, or QEMU counts as silent.
func (c *Client) expect(ctx context.Context, id uint64, command string) {
	until, _ := ctx.Deadline()
	time.AfterFunc(time.Until(until), func() {
		c.mu.Lock()
		_, silent := c.pending[id]
		c.mu.Unlock()
		if silent {
			c.fail(fmt.Errorf("%w: %s: %w", ErrSilent, command, context.DeadlineExceeded))
		}
	})
}

// sendWhole writes a line within ctx's time, and all of it though ctx is cancelled meanwhile.
func (c *Client) sendWhole(ctx context.Context, line []byte, files []*os.File) error {
	until, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	return c.send(ctx, line, files)
}

// send writes a line, with files on its first byte.
func (c *Client) send(ctx context.Context, line []byte, files []*os.File) error {
	stop, err := bound(ctx, c.conn.SetWriteDeadline)
	if err != nil {
		return err
	}
	defer stop()
	if len(files) > 0 {
		sock, ok := c.conn.(*net.UnixConn)
		if !ok {
			return errors.New("files can only be passed on a unix socket")
		}
		n := 0
		err := descriptors(files, nil, func(fds []int) (err error) {
			n, _, err = sock.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
			return err
		})
		if err != nil {
			return err
		}
		line = line[n:]
	}
	if len(line) == 0 {
		return nil
	}
	_, err = c.conn.Write(line)
	return err
}

// descriptors calls use with the descriptors of files, which cannot be closed meanwhile.
func descriptors(files []*os.File, have []int, use func([]int) error) error {
	if len(files) == 0 {
		return use(have)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = descriptors(files[1:], append(have, int(fd)), use) })
	return errors.Join(err, inner)
}

// bound makes a connection's waiting end with ctx. stop takes that back.
func bound(ctx context.Context, set func(time.Time) error) (stop func(), err error) {
	if err := set(time.Time{}); err != nil {
		return nil, err
	}
	fired := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() { defer close(fired); _ = set(time.Unix(1, 0)) })
	return func() {
		if !cancel() {
			<-fired
		}
	}, nil
}

// read is the reader: it ends when the connection does. greeted: the greeting was read already.
func (c *Client) read(r *bufio.Reader, greeted bool) {
	for {
		line, err := readLine(r)
		if err != nil {
			c.fail(err)
			return
		}
		m, err := decode(line)
		if err == nil && m.empty() {
			continue
		}
		if err == nil && !greeted {
			if m.QMP == nil {
				err = fmt.Errorf("%w: no greeting", ErrProtocol)
			} else {
				greeted = true
				c.greeting <- m.QMP.plain()
				continue
			}
		}
		if err == nil {
			err = c.deliver(m, len(line))
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// deliver gives an answer to who waits for it, and an event to the queue. It never waits for anybody.
func (c *Client) deliver(m message, size int) error {
	switch {
	case m.Event != "":
		c.events.add(m, size)
		return nil
	case m.ID == nil && m.Error != nil:
		return fmt.Errorf("%w: refused as a whole: %q", ErrProtocol, m.Error.Desc)
	case m.ID == nil || m.Return == nil && m.Error == nil:
		return fmt.Errorf("%w: neither answer nor event", ErrProtocol)
	}
	c.mu.Lock()
	answer := c.pending[*m.ID]
	delete(c.pending, *m.ID)
	c.mu.Unlock()
	if answer == nil {
		return fmt.Errorf("%w: an answer to command %d, for which nobody waits", ErrProtocol, *m.ID)
	}
	answer <- m // Holds one, and is sent to once.
	return nil
}

// GetFD gives QEMU a file under a name, for commands that take one (migrate "fd:name", add_client).
func (c *Client) GetFD(ctx context.Context, name string, f *os.File) error {
	return c.Execute(ctx, "getfd", struct {
		Name string `json:"fdname"`
	}{name}, nil, f)
}

// AddFD puts a file into a set, which QEMU then opens as /dev/fdset/SET. opaque is a note that query-fdsets shows.
func (c *Client) AddFD(ctx context.Context, set int, opaque string, f *os.File) error {
	return c.Execute(ctx, "add-fd", struct {
		Set    int    `json:"fdset-id"`
		Opaque string `json:"opaque,omitempty"`
	}{set, opaque}, nil, f)
}
