package jail

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock: a second opinion about files, TCP, abstract sockets and signals that does not depend on mounts, ids or namespaces being right.

// Rights by what they are good for (landlock(7)).
const (
	readFile   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readTree   = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeFile  = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	useDevice  = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	runProgram = readFile | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// ownTree is all but executing and making devices.
	ownTree = readTree | writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	// onFile are the rights that mean something on what is not a directory.
	onFile = readFile | writeFile | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// handledFS are all rights over files of an ABI: those that no rule grants are denied.
func handledFS(abi int) uint64 {
	rights := uint64(1<<13 - 1)
	for _, later := range []struct {
		abi   int
		right uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi >= later.abi {
			rights |= later.right
		}
	}
	return rights
}

// rulesetFor is the strictest rule set of an ABI. attr's size tells the kernel which members it has.
func rulesetFor(abi int, allow Allow) (attr unix.LandlockRulesetAttr, size uintptr) {
	attr.Handled_access_fs = handledFS(abi)
	size = 8
	if abi >= 4 {
		size = 16
		if !allow.Internet {
			attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if abi >= 6 {
		size = 24
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr, size
}

// landlockABI is the version of this kernel; 0: it has none, or it is turned off.
func landlockABI() int {
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0
	}
	return int(abi)
}

// restrictFiles puts this thread, and so the program, under Landlock. It gives the ABI in force.
func restrictFiles(p plan) (int, error) {
	abi := landlockABI()
	if abi == 0 {
		return 0, nil
	}
	attr, size := rulesetFor(abi, p.Allow)
	set, err := createRuleset(&attr, size)
	if err != nil {
		return 0, err
	}
	defer unix.Close(set)
	if err := allowPaths(set, attr.Handled_access_fs, p); err != nil {
		return 0, err
	}
	for i, given := range p.Slots {
		if !given {
			continue
		}
		if err := allowOpened(set, attr.Handled_access_fs, firstFile+i); err != nil {
			return 0, err
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(set), 0, 0); e != 0 {
		return 0, fmt.Errorf("restrict: %w", e)
	}
	return abi, nil
}

// createRuleset asks for more than the ABI's known rights first: newer kernels can also refuse to look up the sockets of others.
func createRuleset(attr *unix.LandlockRulesetAttr, size uintptr) (int, error) {
	more := *attr
	more.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	for _, a := range []unix.LandlockRulesetAttr{more, *attr} {
		fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&a)), size, 0)
		if e == 0 {
			*attr = a
			return int(fd), nil
		}
		if !errors.Is(e, unix.EINVAL) {
			return -1, fmt.Errorf("create rule set: %w", e)
		}
	}
	return -1, errors.New("create rule set: refused")
}

func allowPaths(set int, handled uint64, p plan) error {
	type grant struct {
		path   string
		rights uint64
	}
	grants := []grant{{p.Program, runProgram}}
	if p.Loader != "" {
		grants = append(grants, grant{p.Loader, runProgram})
	}
	shared := uint64(readTree)
	if p.Allow.Exec {
		shared |= unix.LANDLOCK_ACCESS_FS_EXECUTE
	}
	for _, path := range p.ReadOnly {
		grants = append(grants, grant{path, shared})
	}
	for _, path := range p.Writable {
		grants = append(grants, grant{path, ownTree})
	}
	for _, path := range append(basicDevices, p.Devices...) {
		grants = append(grants, grant{path, useDevice})
	}
	if p.Scratch > 0 {
		grants = append(grants, grant{"/tmp", ownTree})
	}
	if p.Proc {
		grants = append(grants, grant{"/proc", readTree})
	}
	for _, g := range grants {
		fd, err := unix.Open(g.path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // A link that leads to nothing inside.
		} else if err != nil {
			return fmt.Errorf("%s: %w", g.path, err)
		}
		err = addRule(set, fd, g.rights&handled)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", g.path, err)
		}
	}
	return nil
}

// allowOpened lets a passed file be opened again with the access it already has: qemu-img has no other way to use a descriptor.
func allowOpened(set int, handled uint64, fd int) error {
	var rights uint64
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("file %d: %w", fd, err)
	}
	switch {
	case flags&unix.O_PATH != 0:
		return nil
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		rights = readFile
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		rights = writeFile
	default:
		rights = readFile | writeFile
	}
	err = addRule(set, fd, rights&handled)
	if errors.Is(err, unix.EBADFD) {
		return nil // Pipes, sockets and memfds are outside of Landlock.
	}
	if err != nil {
		return fmt.Errorf("file %d: %w", fd, err)
	}
	return nil
}

func addRule(set, fd int, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= onFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
		return e
	}
	return nil
}
