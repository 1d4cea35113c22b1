package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keeperName is the name (argument 0) under which this binary is the keeper; it shows in ps.
const keeperName = "carrel-memory-keeper"

// KeeperLog is the keeper's standard error for as long as it lives, in its directory.
const KeeperLog = "keeper.log"

// KeeperUser is the user that a keeper started by root becomes. Nothing else may run as it: it could kill the keeper.
const KeeperUser = 64099

// KeeperMain does not return when the process was started as the keeper. Call it before anything else in main.
func KeeperMain() {
	if len(os.Args) == 0 || os.Args[0] != keeperName {
		return
	}
	if err := keep(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "carrel-memory-keeper: "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// keep is the keeper's life. args: the user it listens to. Descriptor 3 is the listening socket.
func keep(args []string) error {
	if len(args) != 1 {
		return errors.New("started by hand: it is started by carrel's host role")
	}
	uid, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	file := os.NewFile(3, "listener")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("no listening socket: %w", err)
	}
	l, ok := listener.(*net.UnixListener)
	if !ok {
		return errors.New("descriptor 3 is no Unix socket")
	}
	l.SetUnlinkOnClose(false)
	_ = file.Close()
	// A stop of the service or a closed terminal must not lose memory. SIGKILL remains, and then the host role puts everything again.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP)
	if err := harden(); err != nil {
		return err
	}
	return newServer(uint32(uid)).serve(l)
}

// harden gives up what the keeper does not need. What the kernel does not allow an unprivileged one is left out.
func harden() error {
	debug.SetGCPercent(50)
	// Undumpable also keeps others of the same user from tracing it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("become undumpable: %w", err)
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	// Last to be killed when memory runs out: killing it frees nothing while others hold the blocks.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0)
	var had [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &had[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if unix.Geteuid() == 0 {
		_, _, _ = syscall.AllThreadsSyscall(syscall.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0) // Dropped below but for one.
		// In a user namespace without that user the keeper stays who it is; it loses its capabilities below all the same.
		_ = syscall.Setgroups(nil)
		if syscall.Setresgid(KeeperUser, KeeperUser, KeeperUser) == nil {
			_ = syscall.Setresuid(KeeperUser, KeeperUser, KeeperUser)
		}
		// A change of user makes a process dumpable as fs.suid_dumpable says.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("become undumpable: %w", err)
		}
	}
	if err := dropCapabilities(had[0].Permitted & (1 << unix.CAP_IPC_LOCK)); err != nil {
		return err
	}
	// Only with no limit at all: under one, MCL_FUTURE would let later mappings fail.
	if lockable(1 << 46) {
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | mclOnFault)
	}
	return nil
}

const (
	mclOnFault   = 4 // MCL_ONFAULT
	mlockOnFault = 1 // MLOCK_ONFAULT
)

// lockable tells whether this process may lock that many bytes. Address space is asked for and locked without a page of it being taken.
func lockable(size int) bool {
	m, err := unix.Mmap(-1, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(m) }()
	return lockOnFault(m) == nil
}

// lockOnFault locks what is there and what will be, and takes no page for it. It tells whether locking all of it is allowed.
func lockOnFault(m []byte) error {
	_, _, e := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(m))), uintptr(len(m)), mlockOnFault)
	if e != 0 {
		return e
	}
	return nil
}

// dropCapabilities leaves every thread only what is kept (CAP_IPC_LOCK: it holds blocks in memory and does nothing else) and forbids to gain any by
// exec. With cgo Go has no such call (ENOTSUP): the binary is built without, only tests with the race detector are not.
func dropCapabilities(kept uint32) error {
	if _, _, e := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 && e != unix.ENOTSUP {
		return fmt.Errorf("no new privileges: %w", e)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	sets := [2]unix.CapUserData{{Permitted: kept, Effective: kept}}
	if _, _, e := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0); e != 0 && e != unix.ENOTSUP {
		return fmt.Errorf("drop capabilities: %w", e)
	}
	return nil
}

// startKeeper starts a keeper that listens on socket. It has a session of its own, so nothing that ends the host role ends it.
func startKeeper(ctx context.Context, dir *os.File, socket string) (*exec.Cmd, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer func() { _ = l.Close() }()
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	log, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d/"+KeeperLog, dir.Fd()), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	var started error
	// A network namespace of its own, where that is allowed: as root, or inside a user namespace of its own.
	for _, flags := range []uintptr{unix.CLONE_NEWNET, unix.CLONE_NEWUSER | unix.CLONE_NEWNET, 0} {
		if flags&unix.CLONE_NEWUSER != 0 && unix.Geteuid() == 0 {
			continue
		}
		attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}
		if flags&unix.CLONE_NEWUSER != 0 {
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		}
		// Not exec.CommandContext: the keeper outlives every context.
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{keeperName, strconv.Itoa(os.Geteuid())}, Env: []string{"GOTRACEBACK=none"}, Dir: "/",
			ExtraFiles: []*os.File{file}, Stderr: log, SysProcAttr: attr}
		if started = cmd.Start(); started == nil {
			return cmd, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("start the keeper: %w", started)
}

// patience is how long a keeper that exists may take to answer: it is never given up for a new one while it lives, because it has the memory.
const patience = 20 * time.Second
