package jail

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// machine runs a filter as the kernel does. The kernel loads words as they are in memory, the VM in network order: so each is turned round.
func machine(t *testing.T, code []unix.SockFilter) func(arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(code))
	for i, c := range code {
		raw[i] = bpf.RawInstruction{Op: c.Code, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	instructions, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("an instruction is not known")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return func(arch, number uint32, args ...uint64) uint32 {
		data := binary.BigEndian.AppendUint32(nil, number)
		data = binary.BigEndian.AppendUint32(data, arch)
		data = append(data, make([]byte, 8)...)
		for i := range 6 {
			var v uint64
			if i < len(args) {
				v = args[i]
			}
			data = binary.BigEndian.AppendUint32(data, uint32(v))
			data = binary.BigEndian.AppendUint32(data, uint32(v>>32))
		}
		verdict, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(verdict)
	}
}

const password = 0x1122334455667788

func TestTheFilterAnswersEachCall(t *testing.T) {
	run := machine(t, filter(password, Allow{}, []int{unix.SYS_GETPID}))
	no := func(e unix.Errno) uint32 { return returnErrno(e) }
	for _, c := range []struct {
		name   string
		number int
		args   []uint64
		want   uint32
	}{
		{"read", unix.SYS_READ, nil, returnAllow},
		{"a further one", unix.SYS_GETPID, nil, returnKill},
		{"execve", unix.SYS_EXECVE, nil, returnKill},
		{"execveat with the password", unix.SYS_EXECVEAT, []uint64{5, 1, 2, 3, unix.AT_EMPTY_PATH, password}, returnAllow},
		{"execveat without", unix.SYS_EXECVEAT, []uint64{5, 1, 2, 3, unix.AT_EMPTY_PATH}, returnKill},
		{"execveat with half the password", unix.SYS_EXECVEAT, []uint64{5, 1, 2, 3, unix.AT_EMPTY_PATH, password & 0xffffffff}, returnKill},
		{"execveat with the other half", unix.SYS_EXECVEAT, []uint64{5, 1, 2, 3, unix.AT_EMPTY_PATH, password &^ 0xffffffff}, returnKill},
		{"mount", unix.SYS_MOUNT, nil, returnKill},
		{"ptrace", unix.SYS_PTRACE, nil, returnKill},
		{"unshare", unix.SYS_UNSHARE, nil, returnKill},
		{"clone3", unix.SYS_CLONE3, nil, no(unix.ENOSYS)},
		{"io_uring", unix.SYS_IO_URING_SETUP, nil, no(unix.ENOSYS)},
		{"clone of a thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID}, returnAllow},
		{"fork by clone", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, returnAllow},
		{"clone of a namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNET | uint64(unix.SIGCHLD)}, returnKill},
		{"clone of a user namespace, high bits set", unix.SYS_CLONE, []uint64{1<<40 | unix.CLONE_NEWUSER}, returnKill},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, returnKill},
		{"TIOCSTI with high bits", unix.SYS_IOCTL, []uint64{0, 1<<32 | unix.TIOCSTI}, returnKill},
		{"TIOCLINUX", unix.SYS_IOCTL, []uint64{0, 0x541c}, returnKill},
		{"another ioctl", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, returnAllow},
		{"asking for the personality", unix.SYS_PERSONALITY, []uint64{0xffffffff}, returnAllow},
		{"changing it", unix.SYS_PERSONALITY, []uint64{0x0040000}, returnKill},
		{"unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, returnAllow},
		{"internet socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, no(unix.EAFNOSUPPORT)},
		{"internet socket, high bits set", unix.SYS_SOCKET, []uint64{1<<32 | unix.AF_INET}, no(unix.EAFNOSUPPORT)},
		{"netlink socket", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, no(unix.EAFNOSUPPORT)},
		{"vsock", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, no(unix.EAFNOSUPPORT)},
		{"unix pair", unix.SYS_SOCKETPAIR, []uint64{unix.AF_UNIX}, returnAllow},
		{"other pair", unix.SYS_SOCKETPAIR, []uint64{unix.AF_TIPC}, no(unix.EAFNOSUPPORT)},
	} {
		if got := run(auditArch, uint32(c.number), c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	for _, number := range killed {
		if got := run(auditArch, uint32(number)); got != returnKill {
			t.Errorf("call %d: %#x", number, got)
		}
	}
}

func TestTheFilterKillsOtherArchitectures(t *testing.T) {
	run := machine(t, filter(password, Allow{}, nil))
	for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, 0} {
		if got := run(arch, unix.SYS_READ); arch != auditArch && got != returnKill {
			t.Errorf("architecture %#x: %#x", arch, got)
		}
	}
	if foreignNumbers != 0 {
		if got := run(auditArch, foreignNumbers|unix.SYS_READ); got != returnKill {
			t.Errorf("x32: %#x", got)
		}
	}
}

func TestWhatIsAllowedIsAllThatIsAllowed(t *testing.T) {
	run := machine(t, filter(password, Allow{Exec: true, Internet: true, Netlink: true}, nil))
	for _, c := range []struct {
		name   string
		number int
		args   []uint64
		allow  bool
	}{
		{"execve", unix.SYS_EXECVE, nil, true},
		{"execveat", unix.SYS_EXECVEAT, nil, true},
		{"IPv4", unix.SYS_SOCKET, []uint64{unix.AF_INET}, true},
		{"IPv6", unix.SYS_SOCKET, []uint64{unix.AF_INET6}, true},
		{"route netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, 0, unix.NETLINK_ROUTE}, true},
		{"netfilter netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, 0, unix.NETLINK_NETFILTER}, false},
		{"packet", unix.SYS_SOCKET, []uint64{unix.AF_PACKET}, false},
		{"mount", unix.SYS_MOUNT, nil, false},
	} {
		if got := run(auditArch, uint32(c.number), c.args...); (got == returnAllow) != c.allow {
			t.Errorf("%s: %#x", c.name, got)
		}
	}
}
