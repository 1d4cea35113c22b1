package jail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that runs, or ran, in a jail. Its methods may be called concurrently.
type Process struct {
	name    string
	pid     int
	started uint64
	pidfd   *os.File
	child   *os.Process // nil when adopted
	out     *outputs
	groups  groups
	walls   Walls

	once  sync.Once
	ended atomic.Bool
	exit  Exit
	err   error
}

// Exit is how a program ended.
type Exit struct {
	// Known is false for an adopted process: its new parent was told, not we. The rest is then empty.
	Known bool
	// Code is its exit code; Signal what killed it, 0 when nothing did.
	Code   int
	Signal syscall.Signal
	// Seccomp: it was killed for a system call that the filter (or its own) does not allow.
	Seccomp bool
	// Discarded counts the bytes of output that were over the limit.
	Discarded int64
}

func (e Exit) String() string {
	switch {
	case !e.Known:
		return "ended"
	case e.Seccomp:
		return "killed for a forbidden system call"
	case e.Signal != 0:
		return "killed: " + e.Signal.String()
	default:
		return "exit code " + strconv.Itoa(e.Code)
	}
}

// ExitError says that Run's program did not end well.
type ExitError struct {
	Name, Program string
	Exit          Exit
}

func (e *ExitError) Error() string { return fmt.Sprintf("jail %q: %s: %s", e.Name, e.Program, e.Exit) }

// Identity names a process across the restart of the host role; it can be stored as JSON. A pid alone would not do: it is used again.
type Identity struct {
	Name string
	PID  int
	// Started is the process's start in clock ticks after the boot BootID.
	Started uint64
	BootID  string
	// Groups are its control group directories, removed when it has ended.
	Groups []string
}

// ErrGone: the process of an Identity has ended.
var ErrGone = errors.New("jail: the process has ended")

func newProcess(child *os.Process, pidfd int) (*Process, error) {
	p := &Process{pid: child.Pid, child: child}
	if pidfd < 0 {
		return nil, errors.New("this kernel has no pidfds")
	}
	var err error
	if p.pidfd, err = pollable(pidfd); err != nil {
		return nil, err
	}
	if p.started, err = startTime(p.pid); err != nil {
		p.pidfd.Close()
		return nil, err
	}
	return p, nil
}

// pollable makes a pidfd a file that the runtime can wait for.
func pollable(pidfd int) (*os.File, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	return os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// Adopt finds a process again that an earlier host role has started. ErrGone: it has ended, and its control groups are removed.
func Adopt(id Identity) (*Process, error) {
	p := &Process{name: id.Name, pid: id.PID, started: id.Started, groups: groups{dirs: id.Groups}}
	gone := func() (*Process, error) {
		return nil, errors.Join(fmt.Errorf("%w: %s (pid %d)", ErrGone, id.Name, id.PID), p.groups.remove())
	}
	if id.PID <= 0 || id.BootID != bootID() {
		return gone()
	}
	pidfd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return gone()
	} else if err != nil {
		return nil, fmt.Errorf("jail %q: pid %d: %w", id.Name, id.PID, err)
	}
	if p.pidfd, err = pollable(pidfd); err != nil {
		return nil, err
	}
	// Checked after the pidfd is held: from here on the number cannot come to mean another process unnoticed.
	if started, err := startTime(id.PID); err != nil || started != id.Started || exited(pidfd) {
		p.pidfd.Close()
		return gone()
	}
	return p, nil
}

// PID is the program's process id as the host sees it. It may be used while Wait has not returned.
func (p *Process) PID() int { return p.pid }

// Identity is for Adopt.
func (p *Process) Identity() Identity {
	return Identity{Name: p.name, PID: p.pid, Started: p.started, BootID: bootID(), Groups: p.groups.dirs}
}

// Walls says what stands around the program; the zero value for an adopted one.
func (p *Process) Walls() Walls { return p.walls }

// PidFD is a descriptor of the process for poll and pidfd_send_signal; it belongs to the Process and is closed by Wait.
func (p *Process) PidFD() *os.File { return p.pidfd }

// Kill kills the program and everything it started. Ended already: success.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }

// Signal sends a signal (SIGSTOP freezes the program). Ended already: success. Being process 1, it does not get signals it has no handler
// for, except SIGKILL and SIGSTOP.
func (p *Process) Signal(sig syscall.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		var sent error
		err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		err = errors.Join(err, sent)
	}
	if err == nil || errors.Is(err, unix.ESRCH) || p.ended.Load() {
		return nil
	}
	return fmt.Errorf("jail %q: signal %s: %w", p.name, sig, err)
}

// Wait waits for the end of the program and of its output, removes its control groups and says how it ended. It may be called again.
// When ctx ends first the program lives on and the error is ctx's.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		late := make(chan struct{})
		stop := context.AfterFunc(ctx, func() { defer close(late); _ = p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
		err = raw.Read(func(fd uintptr) bool { return exited(int(fd)) })
		if !stop() {
			<-late
			_ = p.pidfd.SetReadDeadline(time.Time{}) // For the next caller.
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Somebody's ctx ended, perhaps not ours: then wait on.
		if ctx.Err() == nil {
			return p.Wait(ctx)
		}
		return Exit{}, ctx.Err()
	}
	if err != nil && !p.ended.Load() {
		return Exit{}, fmt.Errorf("jail %q: wait: %w", p.name, err)
	}
	p.once.Do(p.reap)
	return p.exit, p.err
}

func (p *Process) reap() {
	if p.child != nil {
		state, err := p.child.Wait()
		if err != nil {
			p.err = fmt.Errorf("jail %q: wait: %w", p.name, err)
		} else if status, ok := state.Sys().(syscall.WaitStatus); ok {
			p.exit = Exit{Known: true, Code: max(status.ExitStatus(), 0)}
			if status.Signaled() {
				p.exit.Signal, p.exit.Seccomp = status.Signal(), status.Signal() == unix.SIGSYS
			}
		}
	}
	if p.out != nil {
		p.exit.Discarded = p.out.wait()
	}
	p.err = errors.Join(p.err, p.groups.remove())
	p.ended.Store(true)
	p.pidfd.Close()
}

// exited reports whether the process of a pidfd has ended.
func exited(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// startTime is field 22 of /proc/PID/stat. The name in field 2 may contain anything, so the fields are counted from its last bracket.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("pid %d: cannot read its stat", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
