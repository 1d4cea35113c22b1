package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tick is the unit of /proc/PID/stat's times: USER_HZ, which Linux fixes at 100 for every architecture Go runs on but Alpha (time(7)).
const tick = 10 * time.Millisecond

// processTime is the user and system time so far of a process, its descendants, and the dead ones it has waited for.
func processTime(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	ticks, parent := map[int]int64{}, map[int]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended since
		}
		// The command's name, in parentheses, may hold anything; fields are counted after it (proc_pid_stat(5)).
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 15 {
			continue
		}
		parent[id], _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks[id] += n
		}
	}
	if _, ok := ticks[pid]; !ok {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var total int64
	for id := range ticks {
		if descends(id, pid, parent) {
			total += ticks[id]
		}
	}
	return time.Duration(total) * tick, nil
}

func descends(id, from int, parent map[int]int) bool {
	for range 100 { // a bound, because the table was not read at one moment
		if id == from {
			return true
		}
		if id <= 1 {
			return false
		}
		id = parent[id]
	}
	return false
}

// resident is a process's resident memory in KiB: all of it, and the part that no file backs.
func resident(pid int) (all, anonymous int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			all = n
		case "RssAnon":
			anonymous = n
		}
	}
	if all == 0 {
		return 0, 0, fmt.Errorf("process %d has no resident memory", pid)
	}
	return all, anonymous, nil
}

// process is a server that this program has started.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	output  locked
	ended   chan struct{}
}

// locked is a buffer that a process writes while others read it.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

// launch starts a server. It dies with this program even when this program is killed.
func launch(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is told by its output
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// Close asks the process to stop and makes it after a while.
func (p *process) Close() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		p.kill()
	}
	return nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// until tries again and again until ok has no error; it gives up when the process ends or after a minute.
func (p *process) until(ctx context.Context, ok func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended:\n%s", p.cmd.Path, trimmed(p.output.bytes()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after a minute: %w\n%s", p.cmd.Path, err, trimmed(p.output.bytes()))
		}
	}
}

// saw waits for a line of the process's output.
func (p *process) saw(ctx context.Context, text string) error {
	return p.until(ctx, func() error {
		if !bytes.Contains(p.output.bytes(), []byte(text)) {
			return errors.New("no " + strconv.Quote(text) + " yet")
		}
		return nil
	})
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer discard(l)
	return l.Addr().String(), nil
}
