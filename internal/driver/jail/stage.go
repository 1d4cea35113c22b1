package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Main is to be called first in main and in TestMain, before anything is opened or started. It returns at once, unless this process is the
// second stage of a Start: then it becomes the program and never returns.
//
// The second stage is told by its argv[0], without further arguments and with an empty environment, and by a control socket on which
// the plan comes; whoever can call the binary by this name gains nothing by it, since it runs with the caller's own rights.
func Main() {
	if len(os.Args) == 0 || os.Args[0] != stageName {
		return
	}
	// Credentials, Landlock and seccomp belong to threads: everything happens on this one, and execution ends the others.
	runtime.LockOSThread()
	err := errors.New("called with arguments")
	if len(os.Args) == 1 {
		err = stage()
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", stageName, err)
	os.Exit(stageFailed)
}

// stageFailed is the exit code of a second stage that could not become the program.
const stageFailed = 125

// stage does everything in the one order in which it works. It returns only errors.
func stage() error {
	control, err := openControl()
	if err != nil {
		return err
	}
	fail := func(err error) error {
		_ = json.NewEncoder(control).Encode(report{Error: err.Error()})
		return err
	}
	var p plan
	if err := json.NewDecoder(io.LimitReader(control, 1<<20)).Decode(&p); err != nil {
		return fail(fmt.Errorf("read the plan: %w", err))
	}
	if err := placeFiles(p.Slots); err != nil {
		return fail(fmt.Errorf("place the descriptors: %w", err))
	}
	// Inherited by the program. RLIMIT_CORE alone does not stop a core_pattern that is a pipe or socket; with no page selected it gets none.
	if err := os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0); err != nil {
		return fail(fmt.Errorf("turn off core dumps: %w", err))
	}
	answer := report{}
	if err := buildRoot(&p, &answer); err != nil {
		return fail(err)
	}
	if err := limit(p); err != nil {
		return fail(err)
	}
	program, err := unix.Open(p.Program, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(fmt.Errorf("open the program inside: %w", err))
	}
	if err := dropCapabilities(); err != nil {
		return fail(err)
	}
	if answer.Landlock, err = restrictFiles(p); err != nil {
		return fail(fmt.Errorf("landlock: %w", err))
	}
	if p.DieWithParent {
		if err := dieWithParent(control); err != nil {
			return fail(err)
		}
	}
	return execute(p, program, control, answer)
}

// openControl moves the control socket out of the way of the passed files.
func openControl() (*os.File, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("is not process 1 of a namespace of its own")
	}
	const high = 1000 // Above all passed files; the limit of open files is lowered later.
	fd, err := unix.FcntlInt(controlFile, unix.F_DUPFD_CLOEXEC, high)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return nil, errors.New("control socket: is none")
	}
	return os.NewFile(uintptr(fd), "control"), nil
}

// placeFiles gives the passed files their numbers and marks every other descriptor to be closed at execution, whoever left it open.
func placeFiles(slots []bool) error {
	// They arrive without gaps, in order, behind the control socket. Park them above everything, then put each at its place.
	const park = 2000
	next := controlFile + 1
	var parked []int
	for _, given := range slots {
		if !given {
			parked = append(parked, -1)
			continue
		}
		fd, err := unix.FcntlInt(uintptr(next), unix.F_DUPFD_CLOEXEC, park)
		if err != nil {
			return fmt.Errorf("file %d: %w", next, err)
		}
		parked = append(parked, fd)
		next++
	}
	if err := unix.CloseRange(firstFile, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	for i, fd := range parked {
		if fd < 0 {
			continue
		}
		if err := unix.Dup3(fd, firstFile+i, 0); err != nil {
			return fmt.Errorf("file %d: %w", firstFile+i, err)
		}
		unix.Close(fd)
	}
	return nil
}

// become takes the program's ids and keeps the capabilities, which end later.
func become(p *plan, answer *report) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	// Raw calls: the library's versions would change all threads, and this one is what counts.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		if p.OwnUID {
			return fmt.Errorf("give up supplementary groups: %w", e)
		}
		// A user namespace made without privilege may not: groups can also take rights away.
		answer.GroupsKept = true
	}
	gid, uid := uintptr(p.GID), uintptr(p.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("become gid %d: %w", p.GID, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("become uid %d: %w", p.UID, e)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for _, c := range stageCapabilities {
		sets[c/32].Permitted |= 1 << (c % 32)
		sets[c/32].Effective |= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	return nil
}

// dropCapabilities empties all five sets for good and forbids every way to get any.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > unix.CAP_AUDIT_READ {
			break // Past the last this kernel has.
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureBits, 0, 0, 0); err != nil {
		return fmt.Errorf("lock the secure bits: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return nil
}

// secureBits (linux/securebits.h): uid 0 means nothing, capabilities are not kept across ids, ambient ones cannot be raised; all locked.
const secureBits = 1<<0 | 1<<1 | // NOROOT
	1<<2 | 1<<3 | // NO_SETUID_FIXUP
	1<<5 | // KEEP_CAPS locked at off
	1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE

// dieWithParent is set after the last change of ids, which would clear it. If the parent is gone already its end of the socket is closed.
func dieWithParent(control *os.File) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	fds := []unix.PollFd{{Fd: int32(control.Fd())}}
	if n, err := unix.Poll(fds, 0); err == nil && n == 1 && fds[0].Revents&unix.POLLHUP != 0 {
		return errors.New("the parent is gone")
	}
	return nil
}

// execute reports that the walls are up, raises the last one and becomes the program.
func execute(p plan, program int, control *os.File, answer report) error {
	// Nobody of the same uid may look into this process while it still knows the filter's password; execution resets this.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	password, err := randomWord()
	if err != nil {
		return err
	}
	code := filter(password, p.Allow, p.Kill)
	encoder := json.NewEncoder(control)
	if err := encoder.Encode(answer); err != nil {
		return err
	}
	argv, err := unixStrings(append([]string{filepath.Base(p.Program)}, p.Args...))
	if err != nil {
		return err
	}
	env, err := unixStrings(p.Env)
	if err != nil {
		return err
	}
	processes := unix.Rlimit{Cur: uint64(p.Limits.Processes), Max: uint64(p.Limits.Processes)}
	if err := lower(unix.RLIMIT_NPROC, processes); err != nil {
		return errors.Join(err, encoder.Encode(report{Error: err.Error()}))
	}
	if err := installFilter(code); err != nil {
		err = fmt.Errorf("seccomp: %w", err)
		return errors.Join(err, encoder.Encode(report{Error: err.Error()}))
	}
	if p.Dry {
		os.Exit(0)
	}
	empty := [1]byte{}
	_, _, e := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(program), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, uintptr(password))
	err = fmt.Errorf("execute: %w", e)
	return errors.Join(err, encoder.Encode(report{Error: err.Error()}))
}

// unixStrings is a NULL-terminated array of C strings.
func unixStrings(list []string) ([]*byte, error) {
	pointers := make([]*byte, 0, len(list)+1)
	for _, s := range list {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			return nil, err
		}
		pointers = append(pointers, b)
	}
	return append(pointers, nil), nil
}

// limit sets the resource limits, but for the number of processes, which the Go runtime still needs.
func limit(p plan) error {
	limits := map[int]uint64{
		// Not 0: to a core_pattern that is a pipe 0 means nothing, and 1 means "do not" (core(5)); to a file 1 byte is too little for any dump.
		unix.RLIMIT_CORE:   1,
		unix.RLIMIT_NOFILE: uint64(p.Limits.OpenFiles),
		// No real-time scheduling and no better niceness.
		unix.RLIMIT_RTPRIO:   0,
		unix.RLIMIT_NICE:     0,
		unix.RLIMIT_MSGQUEUE: 0,
	}
	if p.Limits.FileSize > 0 {
		limits[unix.RLIMIT_FSIZE] = uint64(p.Limits.FileSize)
	}
	if p.DataLimit {
		limits[unix.RLIMIT_DATA] = uint64(p.Limits.Memory)
	}
	for which, n := range limits {
		if err := lower(which, unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}

// lower sets a limit, or leaves what is lower still: raising needs a capability that even a host role may not have.
func lower(which int, to unix.Rlimit) error {
	var now unix.Rlimit
	if err := unix.Prlimit(0, which, nil, &now); err != nil {
		return fmt.Errorf("resource limit %d: %w", which, err)
	}
	to.Max = min(to.Max, now.Max)
	to.Cur = min(to.Cur, to.Max)
	if err := unix.Prlimit(0, which, &to, nil); err != nil {
		return fmt.Errorf("resource limit %d: %w", which, err)
	}
	return nil
}

// covered reports whether path lies in one of the directories.
func covered(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return path == d || len(path) > len(d) && path[:len(d)] == d && path[len(d)] == '/'
	})
}
