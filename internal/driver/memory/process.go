package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// errEnded: the process is gone, or its number is another's now. Nothing was done to anybody.
var errEnded = errors.New("the process has ended")

// process is a machine's process held by a descriptor, so that its number can never mean another.
type process struct {
	pid int
	fd  int
	dir string
}

// StartTime is when a process was started, in clock ticks since boot: field 22 of /proc/PID/stat. With the number it names a process for good.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, start, err := parseStat(b)
	return start, err
}

// parseStat reads state and start time. The name in parentheses is the process's own choice and may hold anything, so fields are counted from
// its last parenthesis.
func parseStat(b []byte) (state byte, start uint64, err error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, errors.New("stat of a process: no name in it")
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, errors.New("stat of a process: too short")
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}

// openProcess gives the process with that number and start time. errEnded: it is not there any more.
func openProcess(pid int, start uint64) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: the number is a thread's now.
		return nil, errEnded
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &process{pid: pid, fd: fd, dir: fmt.Sprintf("/proc/%d", pid)}
	// Only after the descriptor is open: what the number means now is what it meant then, or the start time differs.
	got, err := StartTime(pid)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && got != start:
		err = errEnded
	case err == nil && p.ended():
		err = errEnded
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// alive tells whether the process exists and has not ended.
func alive(pid int, start uint64) bool {
	p, err := openProcess(pid, start)
	if err != nil {
		return false
	}
	p.close()
	return true
}

func (p *process) close() { _ = unix.Close(p.fd) }

// ended: no thread of it is left, so its memory is unmapped. A zombie has ended.
func (p *process) ended() bool { return p.wait(0) }

// wait waits for the end, at most that long.
func (p *process) wait(d time.Duration) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(d.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0
	}
}

// freeze stops every thread. It returns when all of them are stopped, so nothing of the process runs until somebody continues it; no thread can
// be made by one that is stopped.
func (p *process) freeze(ctx context.Context) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := unix.PidfdSendSignal(p.fd, unix.SIGSTOP, nil, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return errEnded
			}
			return fmt.Errorf("stop process %d: %w", p.pid, err)
		}
		runs, err := p.running()
		if err != nil {
			return err
		}
		if runs == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop process %d: thread %s: %w", p.pid, runs, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// running names a thread that is not stopped, with its state; empty when all are.
func (p *process) running() (string, error) {
	if p.ended() {
		return "", errEnded
	}
	tasks, err := os.ReadDir(filepath.Join(p.dir, "task"))
	if errors.Is(err, os.ErrNotExist) {
		return "", errEnded
	}
	if err != nil {
		return "", fmt.Errorf("threads of process %d: %w", p.pid, err)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(filepath.Join(p.dir, "task", t.Name(), "stat"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // The thread has ended.
		}
		if err != nil {
			return "", fmt.Errorf("thread %s of process %d: %w", t.Name(), p.pid, err)
		}
		state, _, err := parseStat(b)
		if err != nil {
			return "", err
		}
		switch state {
		case 'T', 't', 'Z', 'X':
		default:
			return fmt.Sprintf("%s (%c)", t.Name(), state), nil
		}
	}
	// Read after the threads: had the process ended meanwhile and its number been given away, it would show here.
	if p.ended() {
		return "", errEnded
	}
	return "", nil
}

// kill ends the process and waits until nothing of it is left.
func (p *process) kill(ctx context.Context) error {
	if err := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	for !p.wait(50 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process %d was killed and has not ended: %w", p.pid, err)
		}
	}
	return nil
}
