package jail

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// stageName is the argv[0] of the second stage. A person who calls the binary by this name gets a process without a control
	// socket, which ends at once.
	stageName = "carrel-jail"
	// controlFile is the second stage's descriptor for the plan and its report; the passed files follow it.
	controlFile = 3
)

// Capabilities of the second stage, in its own user namespace when there is one. None is left when the program runs.
var stageCapabilities = []uintptr{unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SYS_ADMIN}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// report is what the second stage answers: once when all walls are up, and again only if the program could not be executed.
type report struct {
	Error      string `json:",omitempty"`
	Landlock   int
	GroupsKept bool
}

// launch starts the second stage and sees it through to the execution of the program.
func launch(ctx context.Context, spec Spec, p plan) (*Process, error) {
	mine, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer mine.Close()
	defer theirs.Close()
	out, err := openOutputs(&spec, p.Limits)
	if err != nil {
		return nil, err
	}
	defer out.closeTheirs()
	files := []*os.File{out.null, out.stdout, out.stderr, theirs}
	for _, f := range spec.Files {
		if f != nil {
			files = append(files, f)
		}
	}
	p.OwnUID = ownIDs(p.UID, p.GID)
	proc, err := fork(files, &p, spec.NetworkNamespace)
	if err != nil {
		out.closeMine()
		return nil, err
	}
	proc.name, proc.out = spec.Name, out
	theirs.Close()
	out.closeTheirs()
	out.start()
	if err := proc.admit(ctx, mine, p); err != nil {
		kill := proc.Kill()
		_, wait := proc.Wait(context.WithoutCancel(ctx))
		return nil, errors.Join(err, kill, wait)
	}
	return proc, nil
}

// ownIDs: this process may become uid and gid, which are not its own.
func ownIDs(uid, gid int) bool {
	return os.Geteuid() == 0 && mapped("/proc/self/uid_map", uid) && mapped("/proc/self/gid_map", gid)
}

// mapped reports whether an id exists in this process's user namespace: root of a rootless host role has no id but its own.
func mapped(file string, id int) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		var first, parent, count uint64
		if n, _ := fmt.Sscan(line, &first, &parent, &count); n == 3 && uint64(id) >= first && uint64(id)-first < count {
			return true
		}
	}
	return false
}

// fork runs this executable again in new namespaces. In a user namespace of its own whenever the kernel gives one, as root too: then even
// the second stage never has a capability over anything of the host.
func fork(files []*os.File, p *plan, network *os.File) (*Process, error) {
	pidfd := -1
	attr := &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd, Cloneflags: namespaces, AmbientCaps: stageCapabilities}
	if p.UserNamespace = userNamespaces(); p.UserNamespace {
		uid, gid := p.UID, p.GID
		if !p.OwnUID {
			uid, gid = os.Geteuid(), os.Getegid()
		}
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: p.UID, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: p.GID, HostID: gid, Size: 1}}
		attr.GidMappingsEnableSetgroups = p.OwnUID
	} else if !p.OwnUID {
		return nil, errors.New("without root this needs unprivileged user namespaces, which this kernel does not allow (user.max_user_namespaces, kernel.unprivileged_userns_clone)")
	}
	start := func() (*os.Process, error) {
		// An environment of our own: nothing that steers the Go runtime comes in from outside.
		return os.StartProcess("/proc/self/exe", []string{stageName}, &os.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: files, Sys: attr})
	}
	if network != nil {
		attr.Cloneflags &^= unix.CLONE_NEWNET
		start = inNetwork(network, start)
	}
	child, err := start()
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			return nil, fmt.Errorf("new namespaces: %w (is user.max_user_namespaces 0, or a security module against it?)", err)
		}
		return nil, err
	}
	proc, err := newProcess(child, pidfd)
	if err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return nil, err
	}
	return proc, nil
}

// inNetwork lets start fork from a thread that is in another network namespace: a child is born into its parent's. It cannot join by
// itself, because in its user namespace it has no capability over a namespace of the host.
func inNetwork(network *os.File, start func() (*os.Process, error)) func() (*os.Process, error) {
	return func() (*os.Process, error) {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer home.Close()
		if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			return nil, fmt.Errorf("join the network namespace: %w", err)
		}
		child, err := start()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			// Cannot happen with an open descriptor of where we came from. Going on would run the host's code in somebody's network.
			panic(fmt.Sprintf("jail: cannot leave a network namespace: %v", back))
		}
		runtime.UnlockOSThread()
		return child, err
	}
}

// userNamespaces reports whether new user namespaces are allowed at all; a security module may still say no.
func userNamespaces() bool {
	for _, name := range []string{"/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"} {
		text, err := os.ReadFile(name)
		if err != nil {
			if name == "/proc/sys/user/max_user_namespaces" {
				return false // Built without.
			}
			continue // Only Debian's kernels have the second.
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || n == 0 && (os.Geteuid() != 0 || name == "/proc/sys/user/max_user_namespaces") {
			return false
		}
	}
	return true
}

// admit puts the stopped second stage into its control groups, hands it the plan, and waits until it has become the program: the control
// socket is closed by the execution, and by nothing else that is a success.
func (p *Process) admit(ctx context.Context, control *os.File, plan plan) error {
	stop := context.AfterFunc(ctx, func() { control.Close() })
	defer stop()
	p.groups = joinGroups(p.name, p.pid, plan.Limits)
	plan.DataLimit = plan.Limits.Memory > 0 && p.groups.memory == ""
	if err := json.NewEncoder(control).Encode(plan); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("second stage: %w", err))
	}
	answers := json.NewDecoder(bufio.NewReader(io.LimitReader(control, 1<<16)))
	var first, last report
	count := 0
	for ; ; count++ {
		var r report
		if err := answers.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("second stage: %w", err))
		}
		if count == 0 {
			first = r
		}
		last = r
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case count == 0:
		return errors.New("second stage: died without a word (does main call jail.Main first?)")
	case last.Error != "":
		return errors.New(last.Error)
	}
	p.walls = wallsOf(plan, first, p.groups)
	return nil
}

// socketpair gives both ends of the control connection; ours does not block, so that a deadline can end it.
func socketpair() (mine, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}
