package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// targets are what a hostile program is told of the host: more than a real one could find out.
type targets struct {
	// Dir holds another machine's disk and memory, and a socket, all open to everybody.
	Dir      string
	Abstract string
	Port     int
	// Victim is a process outside, of the jailed program's own uid; VictimAddress something in its memory.
	Victim        int
	VictimAddress uint64
	// Handle is a file handle of a file of the host, on the file system that /usr is on.
	HandleType int32
	Handle     []byte
	Segment    int
	// Scratch is where the program may write.
	Scratch string
}

const (
	succeeded = "SUCCEEDED"
	refused   = "refused"
)

// act is one hostile thing to do. nil: it worked.
type act struct {
	name string
	// spare: not to be tried outside of the jail by root, because there it would work, and harm this machine.
	spare bool
	do    func(t targets) error
}

// perform does one act in a process of its own and prints how it went.
func perform(name, text string) error {
	var t targets
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	runtime.LockOSThread()
	for _, a := range acts {
		if a.name == name {
			if err := a.do(t); err != nil {
				fmt.Printf("%s: %v", refused, err)
			} else {
				fmt.Print(succeeded)
			}
			return nil
		}
	}
	return errors.New("no such act")
}

// call is a system call as it is.
func call(number uintptr, a ...uintptr) error {
	_, err := callResult(number, a...)
	return err
}

func callResult(number uintptr, a ...uintptr) (uintptr, error) {
	var v [6]uintptr
	copy(v[:], a)
	r, _, e := unix.Syscall6(number, v[0], v[1], v[2], v[3], v[4], v[5])
	if e != 0 {
		return 0, e
	}
	return r, nil
}

// gate turns the errors that come after the permission was given into success: nothing here is worth doing for real.
func gate(err error, passed ...error) error {
	for _, p := range passed {
		if errors.Is(err, p) {
			return nil
		}
	}
	return err
}

func text(s string) uintptr {
	b, _ := unix.BytePtrFromString(s)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(b))
}

var kept []any // So that nothing is freed while the kernel reads it.

func pointer[T any](v *T) uintptr {
	kept = append(kept, v)
	return uintptr(unsafe.Pointer(v))
}

func opening(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func socket(domain, kind, protocol int) error {
	fd, err := unix.Socket(domain, kind, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// spawn makes a child with a raw clone; the child waits for a signal that never comes, or leaves.
func spawn(flags uintptr, stay bool) (int, error) {
	pid, _, e := unix.RawSyscall(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0)
	if e != 0 {
		return 0, e
	}
	if pid == 0 {
		if stay {
			// Not for ever: a control outside of the jail must not leave it behind.
			limit := unix.Timespec{Sec: 5}
			unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&limit)), 0, 0)
		}
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return int(pid), nil
}

// run tries to execute a program: a success replaces this process by one that prints the word.
func run1(path string, argv ...string) error {
	return unix.Exec(path, argv, []string{"PATH=/bin:/usr/bin"})
}

func raise(which int, to uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(which, &now); err != nil {
		return err
	}
	if now.Max >= to {
		return nil
	}
	return unix.Setrlimit(which, &unix.Rlimit{Cur: to, Max: to})
}

// fillScratch writes n MiB.
func fillScratch(t targets, n int) error {
	f, err := os.Create(filepath.Join(t.Scratch, "fill"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	for range n {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	return nil
}

func inodes(t targets) error {
	dir, err := os.MkdirTemp(t.Scratch, "names")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range 20000 {
		if err := os.Symlink("x", filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

func memoryBomb(targets) error {
	b, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return nil
}

// many makes children or threads until it may not.
func many(n int, one func() error) error {
	for range n {
		if err := one(); err != nil {
			return err
		}
	}
	return nil
}

// inherited looks for descriptors that were not given: the tests give 0 to 3.
func inherited(also func(fd int) error) error {
	for fd := 4; fd < 2000; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR || kind == unix.S_IFSOCK {
			if err := also(fd); err == nil {
				return nil
			}
		}
	}
	return errors.New("none")
}

// memoryExec executes what was written to memory, past every file system.
func memoryExec(targets) error {
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("#!/bin/busybox echo\nSUCCEEDED\n")); err != nil {
		return err
	}
	argv := []uintptr{text("x"), 0}
	return call(unix.SYS_EXECVEAT, uintptr(fd), text(""), pointer(&argv[0]), 0, unix.AT_EMPTY_PATH)
}

func ownProgram(t targets) error {
	name := filepath.Join(t.Scratch, "program")
	defer os.Remove(name)
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		return err
	}
	return run1(name, "echo", succeeded)
}

// capabilities asks for all of them.
func capabilities(targets) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	sets := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
	return unix.Capset(&header, &sets[0])
}

func stolenDescriptor(t targets) error {
	fd, err := unix.PidfdOpen(t.Victim, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, 1, 0)
	return err
}

func ownDescriptor(targets) error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, 1, 0)
	return err
}

func byHandle(t targets) error {
	mount, err := unix.Open("/usr/lib", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	fd, err := unix.OpenByHandleAt(mount, unix.NewFileHandle(t.HandleType, t.Handle), unix.O_RDONLY)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func escapeChroot(t targets) error {
	dir, err := os.MkdirTemp(t.Scratch, "root")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	for range 20 {
		_ = unix.Chdir("..")
	}
	return unix.Chroot(".")
}

func readVictim(t targets) error {
	b := make([]byte, 8)
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: uintptr(t.VictimAddress), Len: 8}}
	_, err := unix.ProcessVMReadv(t.Victim, local, remote, 0)
	return err
}

func interfaceRequest(request uintptr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, _ := unix.NewIfreq("lo")
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	kept = append(kept, ifr)
	return call(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(ifr)))
}

func addRoute() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func keyring(targets) error {
	_, err := unix.AddKey("user", "carrel", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

func perf(targets) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: unix.PERF_ATTR_SIZE_VER0, Bits: unix.PerfBitExcludeKernel}
	_, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
	return err
}

func realtime(targets) error {
	priority := int32(10)
	return call(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, pointer(&priority))
}
