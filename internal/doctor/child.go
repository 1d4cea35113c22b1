package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxOutput bounds what is kept of a child's output.
const maxOutput = 1 << 20

// errDeadline says that a child had to be killed because its time was up.
var errDeadline = errors.New("no answer before its deadline")

// errStuck says that a child did not even die of SIGKILL: it hangs in the kernel, and is left behind.
var errStuck = errors.New("no answer before its deadline, and SIGKILL does not end it (it hangs in the kernel)")

// child runs commands that may hang, in user space or in the kernel.
type child struct {
	deadline time.Duration            // for the answer
	grace    time.Duration            // for dying of SIGKILL
	kill     func(*os.Process) error  // nil: SIGKILL to the process group
	enough   func(output []byte) bool // ends the child before it ends itself; nil: never
}

// run starts the command and gives its output and errors together, at most 1 MiB, and why it failed, if it did. It returns within
// deadline and grace together, even if the process cannot be killed: it waits on a pidfd and not in wait4.
func (c child) run(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	pidfd := -1
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.PidFD = true, &pidfd
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if err := r.SetReadDeadline(time.Now().Add(c.deadline)); err != nil {
		return nil, errors.Join(err, c.end(cmd, pidfd))
	}
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	output, satisfied, err := c.read(r)
	if err == nil && !satisfied && exited(pidfd, c.grace) {
		return output, cmd.Wait() // returns at once: it has exited
	}
	switch ended := c.end(cmd, pidfd); {
	case ended != nil:
		return output, ended
	case satisfied:
		return output, nil
	case ctx.Err() != nil:
		return output, ctx.Err()
	default:
		return output, errDeadline
	}
}

// read collects output until its end (no error), until there is enough of it, or until the deadline (an error).
func (c child) read(r *os.File) (output []byte, satisfied bool, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		output = append(output, buf[:n]...)
		if c.enough != nil && c.enough(output) {
			return output, true, nil
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return output, false, err
		case err != nil: // io.EOF: all holders of the pipe are gone
			return output, false, nil
		case len(output) > maxOutput:
			return output[:maxOutput], false, errors.New("too much output")
		}
	}
}

// end kills the child and reaps it, unless it will not die.
func (c child) end(cmd *exec.Cmd, pidfd int) error {
	kill := c.kill
	if kill == nil {
		kill = func(p *os.Process) error { return unix.Kill(-p.Pid, unix.SIGKILL) }
	}
	_ = kill(cmd.Process) // fails only when there is nobody left to kill
	if !exited(pidfd, c.grace) {
		_ = cmd.Process.Release()
		return errStuck
	}
	_ = cmd.Wait() // "signal: killed" is what was asked for
	return nil
}

// exited waits for the process of a pidfd to end, for at most d. Without a pidfd (before Linux 5.4) there is no waiting that surely
// ends, so it says no.
func exited(pidfd int, d time.Duration) bool {
	if pidfd < 0 {
		return false
	}
	end := time.Now().Add(d)
	for {
		left := max(0, time.Until(end).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left))
		if errors.Is(err, unix.EINTR) && left > 0 {
			continue
		}
		return err == nil && n == 1
	}
}

// explain puts what a failed child said last beside its error.
func explain(output []byte, err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(output))
	if text == "" {
		return err
	}
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Errorf("%.300s", text)
	}
	return fmt.Errorf("%w; its last words: %.300q", err, text)
}
