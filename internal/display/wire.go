package display

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// queueBytes bounds what waits for the browser beside the picture that is being written. It is small answers only.
const queueBytes = 64 << 10

var errQueue = errors.New("display: the browser takes nothing")

// browser is the WebSocket as a stream of RFB in both directions. Reading is for one goroutine, writing for any.
type browser struct {
	ws   *websocket.Conn
	line *line
	// ctx is not ended by the end of the session: the library would drop the connection without a farewell.
	ctx     context.Context
	stall   time.Duration
	message io.Reader
	// word takes a text message, once there may be any.
	word func(text []byte) error

	// alive is when the browser last took or gave something, in nanoseconds.
	alive  atomic.Int64
	writer sync.Mutex // held while RFB is written
	mu     sync.Mutex
	queue  []byte
}

// Read gives what binary messages hold. A text message is for word.
func (b *browser) Read(p []byte) (int, error) {
	for {
		if b.message == nil {
			kind, r, err := b.ws.Reader(b.ctx)
			if err != nil {
				return 0, err
			}
			if kind != websocket.MessageBinary {
				if err := b.worded(r); err != nil {
					return 0, err
				}
				continue
			}
			b.message = r
		}
		n, err := b.message.Read(p)
		b.alive.Store(time.Now().UnixNano())
		if errors.Is(err, io.EOF) {
			b.message, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

var errText = errors.New("display: a text message that is not understood")

// wordBytes is the longest text message in a session.
const wordBytes = 256

func (b *browser) worded(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, wordBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > wordBytes, b.word == nil:
		return errText
	}
	b.alive.Store(time.Now().UnixNano())
	return b.word(text)
}

// Write sends a piece of RFB. During a session only whoever holds writer may call it.
func (b *browser) Write(p []byte) (int, error) {
	if err := b.line.send(websocket.MessageBinary, p, b.stall); err != nil {
		return 0, err
	}
	b.alive.Store(time.Now().UnixNano())
	return len(p), nil
}

// moved tells whether the browser has taken or given something since a time, or is taking something now.
func (b *browser) moved(since time.Time) bool {
	if !b.writer.TryLock() {
		return true
	}
	b.writer.Unlock()
	return b.alive.Load() > since.UnixNano()
}

// say sends whole RFB messages as soon as the picture being written, if any, is over. It does not wait for that.
func (b *browser) say(messages []byte) error {
	b.mu.Lock()
	if len(b.queue)+len(messages) > queueBytes {
		b.mu.Unlock()
		return errQueue
	}
	b.queue = append(b.queue, messages...)
	b.mu.Unlock()
	return b.flush()
}

// sayLarge is say for a message that may be longer than the queue: it waits for the picture being written.
func (b *browser) sayLarge(message []byte) error {
	b.writer.Lock()
	_, err := b.Write(message)
	b.writer.Unlock()
	return errors.Join(err, b.flush())
}

// flush writes the queue unless somebody else is about to.
func (b *browser) flush() error {
	for b.waiting() && b.writer.TryLock() {
		err := b.drain()
		b.writer.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *browser) waiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) > 0
}

// drain writes the queue. The caller holds writer.
func (b *browser) drain() error {
	b.mu.Lock()
	messages := b.queue
	b.queue = nil
	b.mu.Unlock()
	if len(messages) == 0 {
		return nil
	}
	_, err := b.Write(messages)
	return err
}

// note sends a text message, unless the browser is busy taking a picture.
func (b *browser) note(text []byte) error {
	if !b.writer.TryLock() {
		return nil
	}
	err := b.line.send(websocket.MessageText, text, b.stall)
	b.writer.Unlock()
	return errors.Join(err, b.flush())
}

// tell is note for what must not be left out: it waits for the picture being written.
func (b *browser) tell(text []byte) error {
	b.writer.Lock()
	err := b.line.send(websocket.MessageText, text, b.stall)
	b.writer.Unlock()
	return errors.Join(err, b.flush())
}

// picture is the sink of one server message: it takes the right to write with the first piece.
type picture struct {
	*browser
	// over ends the session: no further piece is written.
	over context.Context
	held bool
	// failed is the error of a write, which is the browser's and not the screen's.
	failed error
}

func (p *picture) Write(b []byte) (n int, err error) {
	if !p.held {
		p.writer.Lock()
		p.held = true
	}
	if err = p.over.Err(); err == nil {
		n, err = p.browser.Write(b)
	}
	p.failed = err
	return n, err
}

// done gives the right back.
func (p *picture) done() error {
	if !p.held {
		return nil
	}
	p.held = false
	err := p.drain()
	p.writer.Unlock()
	if err != nil {
		return err
	}
	return p.flush()
}

// screen is the connection to the machine: everything on it has a deadline, but for waiting for something to happen.
type screen struct {
	net.Conn
	stall time.Duration
	mu    sync.Mutex
}

// before sets the deadline of the next read.
func (s *screen) before(mid bool) {
	deadline := time.Time{}
	if mid {
		deadline = time.Now().Add(s.stall)
	}
	_ = s.SetReadDeadline(deadline) // A connection that cannot have one fails at the read.
}

// say writes whole messages.
func (s *screen) say(messages []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
		return err
	}
	_, err := s.Write(messages)
	return err
}
