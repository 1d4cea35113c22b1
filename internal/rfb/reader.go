package rfb

import (
	"errors"
	"io"
	"sync"
)

// blockBytes is the largest piece handed to a sink and what a busy stream holds; an idle one holds idleBytes. With the head of a WebSocket
// frame before it a piece fills four TLS records and does not begin a fifth.
const (
	blockBytes = 64<<10 - 16
	idleBytes  = 64
)

var blocks = sync.Pool{New: func() any { return new([blockBytes]byte) }}

// reader parses a stream and hands what it has passed over to a sink in large pieces, out of the buffer it was read into: picture
// data is copied once from socket to socket. Between messages it gives its buffer back, so that an idle session costs next to nothing.
type reader struct {
	src io.Reader
	// before is called before every read from src; mid: a message has begun and its rest is due.
	before func(mid bool)
	sink   io.Writer // nil: what is passed over is dropped
	block  *[blockBytes]byte
	idle   [idleBytes]byte
	buf    []byte
	// buf[start:pos] is passed over and not handed on yet, buf[pos:end] not looked at.
	start, pos, end int
	passed          int64
}

func newReader(src io.Reader, before func(mid bool)) *reader {
	if before == nil {
		before = func(bool) {}
	}
	r := &reader{src: src, before: before}
	r.buf = r.idle[:]
	return r
}

// await waits for the first byte of a message. io.EOF: the stream ended between messages.
func (r *reader) await() error {
	if r.start = r.pos; r.pos < r.end {
		return nil
	}
	r.start, r.pos, r.end = 0, 0, 0
	r.release()
	return r.read(false)
}

// release gives the large buffer back. Nothing may be left in it.
func (r *reader) release() {
	if r.block != nil {
		blocks.Put(r.block)
		r.block = nil
	}
	r.buf = r.idle[:]
}

// read adds what src has to buf, which must have room.
func (r *reader) read(mid bool) error {
	for range 100 {
		r.before(mid)
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil
		case errors.Is(err, io.EOF) && mid:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// emit hands on what was passed over.
func (r *reader) emit() error {
	b := r.buf[r.start:r.pos]
	r.start = r.pos
	if len(b) == 0 || r.sink == nil {
		return nil
	}
	_, err := r.sink.Write(b)
	return err
}

// fill reads more of a message that has begun.
func (r *reader) fill() error {
	switch {
	case r.block == nil:
		r.block = blocks.Get().(*[blockBytes]byte)
		n := copy(r.block[:], r.buf[r.start:r.end])
		r.buf, r.pos, r.start, r.end = r.block[:], r.pos-r.start, 0, n
	case r.end == len(r.buf):
		if err := r.emit(); err != nil {
			return err
		}
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start, r.pos = 0, 0
	}
	return r.read(true)
}

// take passes over n bytes (at most 4096) and gives them; they are valid until the next call.
func (r *reader) take(n int) ([]byte, error) {
	for r.end-r.pos < n {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	b := r.buf[r.pos : r.pos+n]
	r.pos += n
	r.passed += int64(n)
	return b, nil
}

// skip passes over n bytes of any number.
func (r *reader) skip(n int) error {
	r.passed += int64(n)
	for {
		step := min(n, r.end-r.pos)
		r.pos += step
		if n -= step; n == 0 {
			return nil
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}
