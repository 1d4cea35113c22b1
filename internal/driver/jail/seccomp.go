package jail

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter names what is forbidden, not what is allowed: what QEMU and its libraries call differs by version and architecture, and a
// program that dies of a library update is no security. QEMU's own -sandbox adds to it. Two answers: what no honest program tries kills
// the process, so that an attempt is also seen; what libraries try and do without gets an error.

// Offsets in struct seccomp_data (linux/seccomp.h). Both architectures are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// killed: forbidden for everybody.
var killed = append([]int{
	// Other namespaces and other roots.
	unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT,
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	// Parts of the kernel with a history, and no use here.
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_VMSPLICE, unix.SYS_REMAP_FILE_PAGES, unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
	// The machine itself.
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SYSLOG, unix.SYS_ACCT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL,
}, killedHere...)

// refused: an error instead. ENOSYS where a library then takes an older way.
var refused = []struct {
	number int
	errno  unix.Errno
}{
	// clone3's flags are in memory, which a filter cannot see; the C library falls back to clone.
	{unix.SYS_CLONE3, unix.ENOSYS},
	{unix.SYS_IO_URING_SETUP, unix.ENOSYS}, {unix.SYS_IO_URING_ENTER, unix.ENOSYS}, {unix.SYS_IO_URING_REGISTER, unix.ENOSYS},
	{unix.SYS_KEYCTL, unix.ENOSYS}, {unix.SYS_ADD_KEY, unix.ENOSYS}, {unix.SYS_REQUEST_KEY, unix.ENOSYS},
	{unix.SYS_NAME_TO_HANDLE_AT, unix.EPERM}, {unix.SYS_MOVE_PAGES, unix.EPERM}, {unix.SYS_MIGRATE_PAGES, unix.EPERM},
	{unix.SYS_ADJTIMEX, unix.EPERM}, {unix.SYS_CLOCK_ADJTIME, unix.EPERM}, {unix.SYS_MQ_OPEN, unix.ENOSYS},
}

const (
	returnAllow = unix.SECCOMP_RET_ALLOW
	returnKill  = unix.SECCOMP_RET_KILL_PROCESS
)

func returnErrno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// Instructions of classic BPF (linux/filter.h).
func load(offset int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// jump compares the loaded word with k (BPF_JEQ, BPF_JGE, BPF_JSET) and goes on after yes or no further instructions.
func jump(compare uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | compare, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

// low and high are the halves of the n-th argument. Where the kernel takes an int only low may be compared: it does not look at high.
func low(n int) unix.SockFilter  { return load(offArgs + 8*n) }
func high(n int) unix.SockFilter { return load(offArgs + 8*n + 4) }

// program is a filter being written. Between its parts the loaded word is the number of the system call.
type program []unix.SockFilter

// on puts body, which must answer on every way through it, under one system call.
func (p *program) on(number int, body ...unix.SockFilter) {
	*p = append(*p, jump(unix.BPF_JEQ, uint32(number), 0, len(body)))
	*p = append(*p, body...)
}

// filter makes the whole program.
//
// Execution has to be possible once, for the program itself, and the filter must be in force before it. So the one call of execveat that
// passes carries a random password in its sixth argument, which the kernel does not look at; execution wipes the only copy of it,
// and a wrong guess of 64 bits is death.
func filter(password uint64, allow Allow, kill []int) []unix.SockFilter {
	var p program
	p = append(p, load(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), answer(returnKill), load(offNumber))
	if foreignNumbers != 0 {
		p = append(p, jump(unix.BPF_JGE, foreignNumbers, 0, 1), answer(returnKill))
	}
	if !allow.Exec {
		p.on(unix.SYS_EXECVE, answer(returnKill))
		p.on(unix.SYS_EXECVEAT, low(5), jump(unix.BPF_JEQ, uint32(password), 0, 3), high(5), jump(unix.BPF_JEQ, uint32(password>>32), 0, 1), answer(returnAllow), answer(returnKill))
	}
	for _, number := range slices.Concat(killed, kill) {
		p.on(number, answer(returnKill))
	}
	for _, r := range refused {
		p.on(r.number, answer(returnErrno(r.errno)))
	}
	const newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	p.on(unix.SYS_CLONE, low(0), jump(unix.BPF_JSET, newNamespace, 0, 1), answer(returnKill), answer(returnAllow))
	// Typing into somebody else's terminal: TIOCSTI, and what TIOCLINUX can paste.
	const tiocLinux = 0x541c
	p.on(unix.SYS_IOCTL, low(1), jump(unix.BPF_JEQ, unix.TIOCSTI, 1, 0), jump(unix.BPF_JEQ, tiocLinux, 0, 1), answer(returnKill), answer(returnAllow))
	// Asking for the present personality is harmless; changing it turns off address randomisation and more.
	p.on(unix.SYS_PERSONALITY, low(0), jump(unix.BPF_JEQ, 0xffffffff, 0, 1), answer(returnAllow), answer(returnKill))
	p.on(unix.SYS_SOCKET, families(allow)...)
	p.on(unix.SYS_SOCKETPAIR, families(Allow{})...)
	return append(p, answer(returnAllow))
}

// families is the body for socket: which address families there are. Libraries probe for the others, so they get the error of a kernel without them.
func families(allow Allow) []unix.SockFilter {
	no := answer(returnErrno(unix.EAFNOSUPPORT))
	yes := answer(returnAllow)
	body := []unix.SockFilter{low(0), jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1), yes}
	if allow.Internet {
		body = append(body, jump(unix.BPF_JEQ, unix.AF_INET, 0, 1), yes, jump(unix.BPF_JEQ, unix.AF_INET6, 0, 1), yes)
	}
	if allow.Netlink {
		body = append(body, jump(unix.BPF_JEQ, unix.AF_NETLINK, 0, 3), low(2), jump(unix.BPF_JEQ, unix.NETLINK_ROUTE, 0, 1), yes)
	}
	return append(body, no)
}

// installFilter puts the filter on this thread; it stays through execution and for everything started from there.
func installFilter(code []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}

func randomWord() (uint64, error) {
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}
