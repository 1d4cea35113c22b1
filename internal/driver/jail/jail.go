// Package jail holds the running of one helper program (QEMU, qemu-img, a domain controller) with nothing but what it is given: its own
// uid, namespaces, a read-only root of a few host paths, no capabilities, Landlock, a seccomp filter, limits, and descriptors passed one by
// one. It refuses to run anything as uid 0, to pass directories, and to start a program when a wall that this kernel has cannot be put up.
//
// A program is started in two stages. The caller's own executable is run again in new namespaces under another name (see Main); this second
// stage builds the root, gives up every privilege and becomes the program. All namespaces and mounts live in that child only, so whatever
// fails leaves nothing on the host. The program is process 1 of its namespace: when it dies, everything it started dies.
//
// Linux on x86-64 and arm64, 5.12 or later (mount_setattr). It works as root and, where unprivileged user namespaces are allowed, rootless;
// Probe says what this kernel gives, Process.Walls what a running program has.
package jail

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is what a program is given. What is not named here it does not have.
type Spec struct {
	// Name is what the program is for ("ws-f9abcdefg"): lower-case letters, digits and dashes, at most 64. Its control groups are called
	// by it, so two programs that run at once must not share one.
	Name string
	// Program is the absolute path of an ELF executable. It and its loader are always readable inside, and the only files that can be executed.
	Program string
	// Args come after argv[0], which is Program's last element. Env is the whole environment.
	Args []string
	Env  []string
	// UID and GID are what the program runs as, inside and (as root) on the host: one that nothing else on the host has. Never 0.
	// Rootless the host sees the caller's own; see Walls.OwnUID. GID may be that of a Device's group (kvm).
	UID, GID int
	// Files become the descriptors 3, 4, ... in this order; nil leaves a gap. A regular file may be opened again through /proc/self/fd
	// with the access it was opened with, if its mode lets UID. The caller closes its own copies. Directories are refused: they lead out of the jail.
	Files []*os.File
	// ReadOnly are host paths seen at the same place, not writable, without set-uid and devices. A symbolic link is copied as it is.
	ReadOnly []string
	// Writable are host directories seen at the same place and writable where UID may write.
	Writable []string
	// Devices are device nodes beside /dev/null, zero, random and urandom ("/dev/kvm").
	Devices []string
	// Scratch is the size in bytes of /tmp, which is memory and gone with the program; 0: there is no /tmp.
	Scratch int64
	// Proc gives a /proc that shows the program itself and nothing else: QEMU and qemu-img open descriptors by their name in it.
	Proc bool
	// NetworkNamespace is joined instead of an empty new one (Networks.Namespace). The caller closes it.
	NetworkNamespace *os.File
	Limits           Limits
	Allow            Allow
	// Kill are further system call numbers (unix.SYS_...) for which the program is killed.
	Kill []int
	// DieWithParent kills the program when the calling process dies. For short helpers; a machine must survive the restart of its host role.
	// The kernel means the calling thread: lock the goroutine to it (runtime.LockOSThread) until Wait has returned. Run does all that.
	DieWithParent bool
	// Stdout and Stderr get what the program says, at most Limits.Output of it; nil discards. Written from one goroutine each, and both
	// may be the same writer only if it may be written concurrently. A pipe that breaks when this process dies is no harm to process 1: SIGPIPE does not reach it.
	Stdout, Stderr io.Writer
}

// Allow are exceptions for programs that cannot do without; each is a wall less.
type Allow struct {
	// Exec: the program may execute what ReadOnly holds.
	Exec bool
	// Internet: sockets of IPv4 and IPv6 in NetworkNamespace.
	Internet bool
	// Netlink: route netlink sockets, which getifaddrs needs. They can change nothing without capabilities.
	Netlink bool
}

// Limits bound what a program takes from everybody else. Walls.Limits says which are in force and how.
type Limits struct {
	// CPU in thousandths of one processor; 0: no limit. Needs a cpu control group.
	CPU int
	// Memory in bytes, scratch included; 0: no limit. By a memory control group, or else as a limit of private writable memory per process.
	Memory int64
	// Processes and threads together, 64 when 0.
	Processes int
	// OpenFiles, 256 when 0.
	OpenFiles int
	// FileSize in bytes is how far a file can be written; 0: no limit.
	FileSize int64
	// Output in bytes is how much of Stdout and of Stderr is passed on at once, 1 MiB when 0; OutputPerSecond (bytes) is how fast the
	// allowance comes back, 0: never. What is over is read slowly and thrown away (VMM-6: a guest that floods its console).
	Output, OutputPerSecond int64
}

// SystemLibraries are those of the usual places of programs, libraries and their data that this host has: what a distribution's QEMU
// needs as ReadOnly.
func SystemLibraries() []string {
	var have []string
	for _, p := range []string{"/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/share", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache"} {
		if _, err := os.Lstat(p); err == nil {
			have = append(have, p)
		}
	}
	return have
}

// startTimeout bounds the second stage, which does nothing that waits for anybody.
const startTimeout = time.Minute

// Start starts a program and returns once it is executing with every wall up. ctx is for the start only: when it ends the start fails
// and nothing runs; afterwards the program lives until it ends or Kill. Wait must be called in the end. Errors name what is wrong with spec,
// or the step that this kernel refused.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	p, err := spec.plan()
	if err != nil {
		return nil, fmt.Errorf("jail %q: %w", spec.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	proc, err := launch(ctx, spec, p)
	if err != nil {
		return nil, fmt.Errorf("jail %q: start %s: %w", spec.Name, spec.Program, err)
	}
	return proc, nil
}

// Run starts a program, waits for it and says how it ended: nil for exit code 0, else an *ExitError. When ctx ends it is killed, and the
// error wraps ctx's.
func Run(ctx context.Context, spec Spec) error {
	spec.DieWithParent = true
	// The kernel takes the end of the thread that forked for the end of the parent, and threads end when a goroutine that is locked to one
	// does. So this one is kept from everybody else until the program has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := Start(ctx, spec)
	if err != nil {
		return err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		kill := p.Kill()
		_, wait := p.Wait(context.WithoutCancel(ctx))
		return fmt.Errorf("jail %q: %s: %w", spec.Name, spec.Program, errors.Join(err, kill, wait))
	}
	if exit.Code != 0 || exit.Signal != 0 {
		return &ExitError{Name: spec.Name, Program: spec.Program, Exit: exit}
	}
	return nil
}

// plan is what the second stage is told, through a socket that only it has.
type plan struct {
	Program, Loader string
	Args, Env       []string
	UID, GID        int
	// OwnUID: UID and GID are ids of their own on the host, and the groups can be given up.
	OwnUID        bool
	UserNamespace bool
	// Slots says for each descriptor from 3 whether one is passed.
	Slots                       []bool
	ReadOnly, Writable, Devices []string
	Scratch                     int64
	Proc                        bool
	Limits                      Limits
	// DataLimit: there is no memory control group, so Limits.Memory is a resource limit.
	DataLimit     bool
	Allow         Allow
	Kill          []int
	DieWithParent bool
	// Dry: stop before the program would be executed.
	Dry bool
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// plan checks the spec; every fault is named.
func (s *Spec) plan() (plan, error) {
	p := plan{Args: s.Args, Env: s.Env, UID: s.UID, GID: s.GID, Scratch: s.Scratch, Proc: s.Proc, Limits: s.Limits, Allow: s.Allow, Kill: s.Kill, DieWithParent: s.DieWithParent}
	if !nameForm.MatchString(s.Name) {
		return p, errors.New("name is not 1 to 64 lower-case letters, digits and dashes")
	}
	if s.UID <= 0 || s.GID <= 0 || s.UID >= overflowID || s.GID >= overflowID {
		return p, fmt.Errorf("uid %d, gid %d: each must be from 1 to %d", s.UID, s.GID, overflowID-1)
	}
	for _, text := range slices.Concat(s.Args, s.Env) {
		if strings.ContainsRune(text, 0) {
			return p, errors.New("an argument or environment variable contains NUL")
		}
	}
	if err := s.Limits.check(s.Scratch); err != nil {
		return p, err
	}
	p.Limits.defaults()
	var err error
	if p.Program, p.Loader, err = executable(s.Program); err != nil {
		return p, err
	}
	if p.ReadOnly, err = hostPaths("ReadOnly", s.ReadOnly, 0); err != nil {
		return p, err
	}
	if p.Writable, err = hostPaths("Writable", s.Writable, os.ModeDir); err != nil {
		return p, err
	}
	if p.Devices, err = hostPaths("Devices", s.Devices, os.ModeDevice); err != nil {
		return p, err
	}
	p.Slots, err = slots(s.Files)
	return p, err
}

// overflowID is what the kernel shows for ids that a user namespace does not have; nobody may be it on purpose. Ids above it are in use for containers.
const overflowID = 65534

func (l *Limits) check(scratch int64) error {
	if l.CPU < 0 || l.Memory < 0 || l.Processes < 0 || l.OpenFiles < 0 || l.FileSize < 0 || l.Output < 0 || l.OutputPerSecond < 0 || scratch < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

func (l *Limits) defaults() {
	if l.Processes == 0 {
		l.Processes = 64
	}
	if l.OpenFiles == 0 {
		l.OpenFiles = 256
	}
	if l.Output == 0 {
		l.Output = 1 << 20
	}
}

// executable resolves a program to the file itself and finds the loader its ELF header asks for, under the name in it ("" for a static one).
func executable(program string) (path, loader string, err error) {
	if !filepath.IsAbs(program) {
		return "", "", fmt.Errorf("program %q is not an absolute path", program)
	}
	if path, err = filepath.EvalSymlinks(program); err != nil {
		return "", "", fmt.Errorf("program: %w", err)
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", "", fmt.Errorf("program %s is not an ELF executable: %w", path, err)
	}
	defer f.Close()
	for _, s := range f.Progs {
		if s.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, min(s.Filesz, unix.PathMax))
		if _, err := s.ReadAt(b, 0); err != nil {
			return "", "", fmt.Errorf("program %s: %w", path, err)
		}
		loader = strings.TrimRight(string(b), "\x00")
		if _, err := os.Stat(loader); err != nil {
			return "", "", fmt.Errorf("program %s: its loader: %w", path, err)
		}
	}
	return path, loader, nil
}

// hostPaths checks that paths are clean, there, and of the kind, and sorts them so that what lies within another comes after it.
func hostPaths(field string, paths []string, kind os.FileMode) ([]string, error) {
	paths = slices.Compact(slices.Sorted(slices.Values(paths)))
	for _, p := range paths {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" {
			return nil, fmt.Errorf("%s: %q is not a clean absolute path below /", field, p)
		}
		stat := os.Stat
		if kind == 0 {
			stat = os.Lstat
		}
		info, err := stat(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		if info.Mode()&kind != kind {
			return nil, fmt.Errorf("%s: %s has the wrong kind (%s)", field, p, info.Mode())
		}
	}
	return paths, nil
}

// slots refuses directories: with one, openat leads out of any root.
func slots(files []*os.File) ([]bool, error) {
	s := make([]bool, len(files))
	for i, f := range files {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+firstFile, err)
		}
		if info.IsDir() {
			return nil, fmt.Errorf("file %d (%s) is a directory", i+firstFile, f.Name())
		}
		s[i] = true
	}
	return s, nil
}

// firstFile is the descriptor of the first of Spec.Files.
const firstFile = 3
