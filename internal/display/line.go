package display

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// headBytes is the longest head of a frame (RFC 6455 section 5.2). A frame of pieceBytes, head included, fills whole TLS records.
	headBytes   = 10
	recordBytes = 16 << 10
	// controlBytes holds the longest control frame, so that the library writes each at once; heldBytes is how many of them may wait.
	controlBytes, heldBytes = 256, 2048
	// readBytes is read ahead from a browser, which sends little.
	readBytes = 512
	// controlStall is how long a control frame may take, as the library has it.
	controlStall = 5 * time.Second
)

// line is the connection beneath the WebSocket. The library reads from it and writes its control frames through it; the frames that hold
// something are written here, in as few records and system calls as there can be, without a timer each.
type line struct {
	net.Conn
	// first is what had come behind the request.
	first []byte

	writer sync.Mutex // held while a frame is written
	mu     sync.Mutex
	// held are control frames that came while another frame was being written; they follow it.
	held []byte
	// closed: the farewell is on its way or waits, and nothing may follow it.
	closed bool
}

var records = sync.Pool{New: func() any { return new([recordBytes]byte) }}

var errControls = errors.New("display: too many control frames wait")

// hijacker gives the library a line instead of the connection, and small buffers instead of net/http's, which last as long as a session.
type hijacker struct {
	http.ResponseWriter
	line *line
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.line.Conn = conn
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Peek(n) // They are there.
		h.line.first = append([]byte(nil), b...)
	}
	return h.line, bufio.NewReadWriter(bufio.NewReaderSize(h.line, readBytes), bufio.NewWriterSize(h.line, controlBytes)), nil
}

func (l *line) Read(p []byte) (int, error) {
	if len(l.first) == 0 {
		return l.Conn.Read(p)
	}
	n := copy(p, l.first)
	if l.first = l.first[n:]; len(l.first) == 0 {
		l.first = nil
	}
	return n, nil
}

// Write takes a control frame from the library. It does not wait for a frame that is being written: the library would take the line down.
func (l *line) Write(frame []byte) (int, error) {
	l.mu.Lock()
	if len(l.held)+len(frame) > heldBytes {
		l.mu.Unlock()
		return 0, errControls
	}
	l.held = append(l.held, frame...)
	l.closed = l.closed || frame[0]&0x0f == closeFrame
	l.mu.Unlock()
	return len(frame), l.flush()
}

const closeFrame = 8

// flush writes the control frames that wait, unless somebody else is about to.
func (l *line) flush() error {
	for l.waiting() && l.writer.TryLock() {
		err := l.drain()
		l.writer.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *line) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held) > 0
}

// drain writes what waits. The caller holds writer.
func (l *line) drain() error {
	l.mu.Lock()
	frames := l.held
	l.held = nil
	l.mu.Unlock()
	if len(frames) == 0 {
		return nil
	}
	if err := l.SetWriteDeadline(time.Now().Add(controlStall)); err != nil {
		return err
	}
	_, err := l.Conn.Write(frames)
	return err
}

// send writes a message in one frame. It waits for the frame that is being written.
func (l *line) send(kind websocket.MessageType, p []byte, stall time.Duration) error {
	l.writer.Lock()
	err := l.frame(kind, p, stall)
	if err == nil {
		err = l.drain()
	}
	l.writer.Unlock()
	return errors.Join(err, l.flush())
}

// frame writes a frame. The caller holds writer.
func (l *line) frame(kind websocket.MessageType, p []byte, stall time.Duration) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	if err := l.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	record := records.Get().(*[recordBytes]byte)
	head := appendHead(record[:0], kind, len(p))
	if tcp, ok := l.Conn.(*net.TCPConn); ok && len(p) > recordBytes-headBytes {
		_, err := (&net.Buffers{head, p}).WriteTo(tcp)
		records.Put(record)
		return err
	}
	n := copy(record[len(head):], p)
	_, err := l.Conn.Write(record[:len(head)+n])
	clear(record[:len(head)+n]) // The next one to have it is another session.
	records.Put(record)
	if err == nil && n < len(p) {
		_, err = l.Conn.Write(p[n:])
	}
	return err
}

// appendHead is the head of an unmasked frame that is a whole message.
func appendHead(b []byte, kind websocket.MessageType, n int) []byte {
	b = append(b, 0x80|byte(kind)) // The library's message types are the protocol's.
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}
