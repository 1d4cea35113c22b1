package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// backChunk is how much is read at once from a file's end.
const backChunk = 256 << 10

// lastLines reads the lines of a file from the last to the first.
type lastLines struct {
	r io.ReaderAt
	// buf holds what is read and not given yet; it stands at offset at of the file.
	buf []byte
	at  int64
}

// linesBefore begins with the line that ends at end, behind its line feed.
func linesBefore(r io.ReaderAt, end int64) *lastLines { return &lastLines{r: r, at: end} }

// next gives a line without its line feed and where it starts, io.EOF before the first. The line is valid until the next call but one.
func (l *lastLines) next() (line []byte, start int64, err error) {
	for {
		if n := len(l.buf); n > 0 {
			i := bytes.LastIndexByte(l.buf[:n-1], '\n')
			if i >= 0 || l.at == 0 {
				line, start = l.buf[i+1:n-1], l.at+int64(i)+1
				l.buf = l.buf[:i+1]
				return line, start, nil
			}
		}
		if l.at == 0 {
			return nil, 0, io.EOF
		}
		if len(l.buf) > maxLine {
			return nil, 0, fmt.Errorf("line before byte %d: %w", l.at+int64(len(l.buf)), errLong)
		}
		if err := l.more(); err != nil {
			return nil, 0, err
		}
	}
}

// more reads the chunk before.
func (l *lastLines) more() error {
	n := min(l.at, backChunk)
	buf := make([]byte, int(n)+len(l.buf))
	if got, err := l.r.ReadAt(buf[:n], l.at-n); got < int(n) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	copy(buf[n:], l.buf)
	l.buf, l.at = buf, l.at-n
	return nil
}
