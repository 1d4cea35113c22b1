package qmp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Agent is a connection to a guest's qemu-guest-agent, through its virtio port. The guest may be off, booting, restarting, or lie; nothing
// it answers is to be believed beyond the guest itself. Methods may be called concurrently; commands go one after the other.
type Agent struct {
	conn    net.Conn
	timeout time.Duration
	turn    chan struct{} // Held during a command.
	// In the holder's hands:
	r      *bufio.Reader
	synced bool
}

// NewAgent takes over a connection. It says nothing yet: the guest need not be up. timeout is for commands whose ctx has no deadline; 30 s when 0.
func NewAgent(conn net.Conn, timeout time.Duration) *Agent {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return &Agent{conn: conn, timeout: timeout, turn: make(chan struct{}, 1), r: bufio.NewReaderSize(conn, 32<<10)}
}

// Close closes the connection. A command under way gives ErrClosed.
func (a *Agent) Close() error { return a.conn.Close() }

// Execute has the agent execute a command; arguments and result as in Client.Execute.
//
// *Error: it refused. ErrSilent: no answer before ctx's end; unlike QEMU's monitor the connection can be used again, since the next command
// first makes sure that answers fit (guest-sync-delimited). ErrProtocol: the same. ErrClosed: QEMU has hung up.
func (a *Agent) Execute(ctx context.Context, command string, arguments, result any) error {
	line, err := encode(command, arguments, nil)
	if err != nil {
		return err
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("qmp: %s: not sent: %w", command, ctx.Err())
	}
	defer func() { <-a.turn }()
	stop, err := bound(ctx, a.conn.SetDeadline)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	defer stop()
	m, err := a.exchange(line)
	switch {
	case err == nil:
		return m.into(command, result)
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		err = fmt.Errorf("%w: %s: %w", ErrSilent, command, ctx.Err())
	case !errors.Is(err, ErrProtocol):
		err = fmt.Errorf("%w: %s: %w", ErrClosed, command, err)
	}
	// What comes next may be half a line, or the answer to this command.
	a.synced = false
	return err
}

func (a *Agent) exchange(line []byte) (message, error) {
	if !a.synced {
		if err := a.sync(); err != nil {
			return message{}, err
		}
		a.synced = true
	}
	if _, err := a.conn.Write(line); err != nil {
		return message{}, err
	}
	return a.answer()
}

// answer reads lines up to one that is an answer: the agent sends no events, but an empty line is no harm.
func (a *Agent) answer() (message, error) {
	for {
		line, err := readLine(a.r)
		if err != nil {
			return message{}, err
		}
		m, err := decode(line)
		if err != nil {
			return m, err
		}
		if m.empty() {
			continue
		}
		if m.Return == nil && m.Error == nil {
			return m, fmt.Errorf("%w: not an answer", ErrProtocol)
		}
		return m, nil
	}
}

// flush is a byte that no JSON text contains: the agent's parser starts anew at it, and its answer to guest-sync-delimited begins with it.
const flush = 0xff

// sync throws away whatever is left of earlier commands, on both sides, up to the agent's answer with our own random number.
func (a *Agent) sync() error {
	id, err := randomNumber()
	if err != nil {
		return err
	}
	line, err := encode("guest-sync-delimited", struct {
		ID uint64 `json:"id"`
	}{id}, nil)
	if err != nil {
		return err
	}
	// Written while reading: the agent may be stuck with an answer that nobody has taken yet, and reads nothing before that is gone.
	wrote := make(chan error, 1)
	go func() {
		_, err := a.conn.Write(append([]byte{flush}, line...))
		wrote <- err
	}()
	err = a.awaitSync(id)
	if err != nil {
		_ = a.conn.SetDeadline(time.Unix(1, 0)) // The next command sets its own.
	}
	return errors.Join(err, <-wrote)
}

// awaitSync reads up to the answer to the synchronisation with that number.
func (a *Agent) awaitSync(id uint64) error {
	// The guest decides how much it sends before the right answer; ctx bounds that, and memory stays what one line needs.
	for {
		if err := a.skip(); err != nil {
			return err
		}
		answer, err := readLine(a.r)
		if err != nil {
			return err
		}
		// More marks on one line: what counts comes after the last.
		answer = answer[bytes.LastIndexByte(answer, flush)+1:]
		m, err := decode(answer)
		var got uint64
		if err == nil && m.Return != nil && json.Unmarshal(m.Return, &got) == nil && got == id {
			return nil
		}
	}
}

// skip reads past the next flush byte.
func (a *Agent) skip() error {
	for {
		_, err := a.r.ReadSlice(flush)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return errors.New("the peer has hung up")
		default:
			return err
		}
	}
}

// randomNumber is one that JSON readers with floating point numbers keep.
func randomNumber() (uint64, error) {
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) & (1<<53 - 1), err
}

// Ping says whether the agent answers.
func (a *Agent) Ping(ctx context.Context) error { return a.Execute(ctx, "guest-ping", nil, nil) }

// SetTime sets the guest's clock.
func (a *Agent) SetTime(ctx context.Context, t time.Time) error {
	return a.Execute(ctx, "guest-set-time", struct {
		Time int64 `json:"time"`
	}{t.UnixNano()}, nil)
}

// Freeze flushes and freezes the guest's file systems and says how many, by the guest's word.
func (a *Agent) Freeze(ctx context.Context) (int, error) {
	var n int
	err := a.Execute(ctx, "guest-fsfreeze-freeze", nil, &n)
	return n, err
}

// Thaw undoes Freeze.
func (a *Agent) Thaw(ctx context.Context) (int, error) {
	var n int
	err := a.Execute(ctx, "guest-fsfreeze-thaw", nil, &n)
	return n, err
}

// Command is a program to run in the guest.
type Command struct {
	Path string
	Args []string
	Env  []string
	// Input is its standard input. Secrets belong here: arguments can be read by everybody in the guest.
	Input []byte
}

// Outcome is how a Command ended, by the guest's word.
type Outcome struct {
	Code, Signal   int
	Stdout, Stderr []byte
	// Truncated: the agent has cut the output off.
	Truncated bool
}

// Run runs a program in the guest and waits for its end. Output of more than about 700 KiB is ErrProtocol. When ctx ends first, the program
// goes on in the guest.
func (a *Agent) Run(ctx context.Context, c Command) (Outcome, error) {
	var started struct {
		PID int64 `json:"pid"`
	}
	err := a.Execute(ctx, "guest-exec", struct {
		Path    string   `json:"path"`
		Args    []string `json:"arg,omitempty"`
		Env     []string `json:"env,omitempty"`
		Input   []byte   `json:"input-data,omitempty"`
		Capture bool     `json:"capture-output"`
	}{c.Path, c.Args, c.Env, c.Input, true}, &started)
	if err != nil {
		return Outcome{}, err
	}
	const first, longest = 10 * time.Millisecond, 160 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		var s struct {
			Exited bool   `json:"exited"`
			Code   int    `json:"exitcode"`
			Signal int    `json:"signal"`
			Out    []byte `json:"out-data"`
			Err    []byte `json:"err-data"`
			OutCut bool   `json:"out-truncated"`
			ErrCut bool   `json:"err-truncated"`
		}
		if err := a.Execute(ctx, "guest-exec-status", started, &s); err != nil {
			return Outcome{}, err
		}
		if s.Exited {
			return Outcome{Code: s.Code, Signal: s.Signal, Stdout: s.Out, Stderr: s.Err, Truncated: s.OutCut || s.ErrCut}, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Outcome{}, fmt.Errorf("%w: %s in the guest has not ended: %w", ErrSilent, c.Path, ctx.Err())
		}
	}
}

// chunk is how much of a file goes in one command, in bytes before base64.
const chunk = 48 << 10

type handle struct {
	Handle int64 `json:"handle"`
}

// WriteFile makes or replaces a file in the guest.
func (a *Agent) WriteFile(ctx context.Context, path string, data []byte) (err error) {
	h, err := a.open(ctx, path, "w")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Execute(ctx, "guest-file-close", h, nil)) }()
	for len(data) > 0 {
		part := data[:min(chunk, len(data))]
		var done struct {
			Count int `json:"count"`
		}
		err := a.Execute(ctx, "guest-file-write", struct {
			handle
			Data []byte `json:"buf-b64"`
		}{h, part}, &done)
		if err != nil {
			return err
		}
		if done.Count <= 0 || done.Count > len(part) {
			return fmt.Errorf("%w: wrote %d of %d bytes", ErrProtocol, done.Count, len(part))
		}
		data = data[done.Count:]
	}
	return a.Execute(ctx, "guest-file-flush", h, nil)
}

// ReadFile reads a file of the guest. More than most bytes: ErrProtocol.
func (a *Agent) ReadFile(ctx context.Context, path string, most int) (data []byte, err error) {
	h, err := a.open(ctx, path, "r")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Execute(ctx, "guest-file-close", h, nil)) }()
	for {
		var got struct {
			Data []byte `json:"buf-b64"`
			EOF  bool   `json:"eof"`
		}
		err := a.Execute(ctx, "guest-file-read", struct {
			handle
			Count int `json:"count"`
		}{h, chunk}, &got)
		switch {
		case err != nil:
			return nil, err
		case len(got.Data) > chunk || len(data)+len(got.Data) > most:
			return nil, fmt.Errorf("%w: %s in the guest has more than %d bytes", ErrProtocol, path, most)
		}
		data = append(data, got.Data...)
		if got.EOF {
			return data, nil
		}
		if len(got.Data) == 0 {
			return nil, fmt.Errorf("%w: %s in the guest does not end", ErrProtocol, path)
		}
	}
}

func (a *Agent) open(ctx context.Context, path, mode string) (handle, error) {
	var n int64
	err := a.Execute(ctx, "guest-file-open", struct {
		Path string `json:"path"`
		Mode string `json:"mode"`
	}{path, mode}, &n)
	return handle{n}, err
}
