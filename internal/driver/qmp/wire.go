package qmp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// maxLine bounds what a peer sends at once, in bytes. QEMU's longest answer, its schema, is a fifth of it.
	maxLine = 1 << 20
	// maxDepth bounds nesting: only chains of block nodes are deep.
	maxDepth = 64
	// maxName bounds a command's name.
	maxName = 64
)

// message is anything a peer sends.
type message struct {
	QMP    *greeting       `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *refusal        `json:"error"`
	ID     *uint64         `json:"id"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Time   stamp           `json:"timestamp"`
}

type greeting struct {
	Version struct {
		QEMU struct {
			Major, Minor, Micro int
		} `json:"qemu"`
		Package string `json:"package"`
	} `json:"version"`
}

func (g *greeting) plain() Greeting {
	v := g.Version
	return Greeting{Major: v.QEMU.Major, Minor: v.QEMU.Minor, Micro: v.QEMU.Micro, Package: v.Package}
}

type refusal struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

type stamp struct {
	Seconds      int64 `json:"seconds"`
	Microseconds int64 `json:"microseconds"`
}

func (s stamp) time() time.Time { return time.Unix(s.Seconds, s.Microseconds*1000).UTC() }

func (m *message) empty() bool {
	return m.QMP == nil && m.Return == nil && m.Error == nil && m.ID == nil && m.Event == ""
}

// into is an answer as Execute gives it.
func (m *message) into(command string, result any) error {
	if m.Error != nil {
		return &Error{Command: command, Class: m.Error.Class, Desc: m.Error.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("%w: answer to %s: %w", ErrProtocol, command, err)
	}
	return nil
}

// encode is a command as one line. VMM-4: names and paths come from people; as JSON values they cannot become anything else.
func encode(command string, arguments any, id *uint64) ([]byte, error) {
	if command == "" || len(command) > maxName || strings.Trim(command, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return nil, fmt.Errorf("qmp: %q is not the name of a command", command)
	}
	whole := struct {
		Execute   string          `json:"execute"`
		Arguments json.RawMessage `json:"arguments,omitempty"`
		ID        *uint64         `json:"id,omitempty"`
	}{Execute: command, ID: id}
	if arguments != nil {
		a, err := json.Marshal(arguments)
		if err != nil {
			return nil, fmt.Errorf("qmp: arguments of %s: %w", command, err)
		}
		if len(a) == 0 || a[0] != '{' {
			return nil, fmt.Errorf("qmp: arguments of %s: a %T is not an object", command, arguments)
		}
		whole.Arguments = a
	}
	line, err := json.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("qmp: %s: %w", command, err)
	}
	return append(line, '\n'), nil
}

// readLine reads up to a newline, at most maxLine bytes; the line is valid until the next read only when it was short, so it is copied by decoding.
func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(long)+len(part) > maxLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, maxLine)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, part...)
			continue
		case errors.Is(err, io.EOF):
			return nil, errors.New("the peer has hung up")
		case err != nil:
			return nil, err
		case long == nil:
			return part, nil
		}
		return append(long, part...), nil
	}
}

// decode reads one line. An empty one is an empty message.
func decode(line []byte) (message, error) {
	var m message
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return m, nil
	}
	if d := depth(line); d > maxDepth {
		return m, fmt.Errorf("%w: nested more than %d deep", ErrProtocol, maxDepth)
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if m.empty() {
		return m, fmt.Errorf("%w: an object without a known member", ErrProtocol)
	}
	return m, nil
}

// depth is how deep brackets nest outside of strings.
func depth(b []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
