package jail

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func proc(t targets, file string) string { return "/proc/" + strconv.Itoa(t.Victim) + "/" + file }

// acts are what VMM-5 has a broken-out guest do: everything that would lead from its own QEMU to another desktop, the host or its network.
var acts = []act{
	// Files of the host and of other machines, at places the attacker knows.
	{"read /etc/shadow", false, func(targets) error { return opening("/etc/shadow", unix.O_RDONLY) }},
	{"read the host's /etc/passwd", false, func(targets) error { return opening("/etc/passwd", unix.O_RDONLY) }},
	{"list the host's root", false, func(targets) error { _, err := os.ReadDir("/"); return err }},
	{"read another machine's disk", false, func(t targets) error { return opening(t.Dir+"/disk", unix.O_RDONLY) }},
	{"write another machine's disk", false, func(t targets) error { return opening(t.Dir+"/disk", unix.O_WRONLY) }},
	{"read another machine's memory file", false, func(t targets) error { return opening(t.Dir+"/memory", unix.O_RDWR) }},
	{"lead out of the root with ..", false, func(t targets) error { return opening("/usr/lib/../../../.."+t.Dir+"/disk", unix.O_RDONLY) }},
	{"read a file by its handle", false, byHandle},
	{"make a handle of a file", false, func(targets) error { _, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/usr/lib", 0); return err }},
	{"find a descriptor left open", false, func(targets) error { return inherited(func(int) error { return nil }) }},
	{"lead out of the root from a descriptor left open", false, func(targets) error {
		return inherited(func(fd int) error { _, err := unix.Openat(fd, "../../../../etc/passwd", unix.O_RDONLY, 0); return err })
	}},
	{"write to the root", false, func(targets) error { return os.WriteFile("/carrel-drill", nil, 0o600) }},
	{"write below /usr", true, func(targets) error { return os.WriteFile("/usr/lib/carrel-drill", nil, 0o600) }},
	{"open the running program for writing", true, func(targets) error { return opening("/proc/self/exe", unix.O_WRONLY) }},
	{"make the root writable", false, func(targets) error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
	{"make a device node of the host's disk", false, func(t targets) error {
		name := filepath.Join(t.Scratch, "node")
		defer os.Remove(name)
		return unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0)))
	}},
	// Devices.
	{"open /dev/kvm", false, func(targets) error { return opening("/dev/kvm", unix.O_RDWR) }},
	{"open /dev/mem", false, func(targets) error { return opening("/dev/mem", unix.O_RDONLY) }},
	{"open /dev/net/tun", false, func(targets) error { return opening("/dev/net/tun", unix.O_RDWR) }},
	{"open /dev/kmsg", false, func(targets) error { return opening("/dev/kmsg", unix.O_RDONLY) }},
	{"open the host's disk", false, func(targets) error { return opening("/dev/vda", unix.O_RDONLY) }},
	{"open /dev/fuse", false, func(targets) error { return opening("/dev/fuse", unix.O_RDWR) }},
	{"make a terminal", false, func(targets) error { return opening("/dev/ptmx", unix.O_RDWR) }},
	{"open shared memory of others", false, func(targets) error { return opening("/dev/shm", unix.O_RDONLY) }},
	{"type into an inherited terminal (TIOCSTI)", false, func(targets) error { c := byte('x'); return call(unix.SYS_IOCTL, 3, unix.TIOCSTI, pointer(&c)) }},
	{"type into an inherited terminal, high bits set", false, func(targets) error {
		c := byte('x')
		return call(unix.SYS_IOCTL, 3, unix.TIOCSTI|1<<40, pointer(&c))
	}},
	{"paste into an inherited console (TIOCLINUX)", true, func(targets) error { c := byte(3); return call(unix.SYS_IOCTL, 3, 0x541c, pointer(&c)) }},
	// Sockets.
	{"connect to a unix socket at a known path", false, func(t targets) error { return dial("unix", t.Dir+"/socket") }},
	{"connect to an abstract unix socket", false, func(t targets) error { return dial("unix", "@"+t.Abstract) }},
	{"connect to the host's loopback", false, func(t targets) error { return dial("tcp", "127.0.0.1:"+strconv.Itoa(t.Port)) }},
	{"connect to instance metadata", false, func(targets) error { return dial("tcp", "169.254.169.254:80") }},
	{"send UDP", false, func(t targets) error { return dial("udp", "127.0.0.1:"+strconv.Itoa(t.Port)) }},
	{"listen on TCP", false, func(targets) error { return socket(unix.AF_INET6, unix.SOCK_STREAM, 0) }},
	{"make a raw socket", false, func(targets) error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }},
	{"make a packet socket", false, func(targets) error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0x300) }},
	{"make a kernel crypto socket", false, func(targets) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) }},
	{"make a vsock socket", false, func(targets) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }},
	{"make a netlink socket", false, func(targets) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) }},
	{"make a uevent socket", false, func(targets) error {
		return socket(unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_KOBJECT_UEVENT)
	}},
	{"add a route", false, func(targets) error { return addRoute() }},
	{"take the loopback interface up", false, func(targets) error { return interfaceRequest(unix.SIOCSIFFLAGS) }},
	{"read interfaces", false, func(targets) error { return interfaceRequest(unix.SIOCGIFFLAGS) }},
	// Other processes.
	{"trace a process outside", false, func(t targets) error { return unix.PtraceSeize(t.Victim) }},
	{"be traced", false, func(targets) error { return call(unix.SYS_PTRACE, unix.PTRACE_TRACEME) }},
	{"signal a process outside", false, func(t targets) error { return unix.Kill(t.Victim, 0) }},
	{"read a process's memory", false, readVictim},
	{"open a process's memory", false, func(t targets) error { return opening(proc(t, "mem"), unix.O_RDONLY) }},
	{"read a process's environment", false, func(t targets) error { _, err := os.ReadFile(proc(t, "environ")); return err }},
	{"enter a process's root", false, func(t targets) error { return opening(proc(t, "root/etc/passwd"), unix.O_RDONLY) }},
	{"enter process 1's root", false, func(targets) error { return opening("/proc/1/root/etc/passwd", unix.O_RDONLY) }},
	{"take a process's descriptor", false, stolenDescriptor},
	{"take one's own descriptor", false, ownDescriptor},
	{"compare with a process", false, func(t targets) error { return call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(t.Victim), 0, 0, 0) }},
	{"advise a process's memory", false, func(targets) error { return call(unix.SYS_PROCESS_MADVISE, ^uintptr(0)) }},
	{"move a process's pages", false, func(t targets) error { return call(unix.SYS_MOVE_PAGES, uintptr(t.Victim), 0, 0, 0, 0, 0) }},
	{"see a process's scheduling", false, func(t targets) error { _, err := unix.SchedGetAttr(t.Victim, 0); return err }},
	{"list the host's processes", false, func(t targets) error { return opening(proc(t, "status"), unix.O_RDONLY) }},
	{"attach shared memory by its number", false, func(t targets) error { return call(unix.SYS_SHMAT, uintptr(t.Segment), 0, unix.SHM_RDONLY) }},
	// Namespaces and mounts.
	{"mount a file system", false, func(t targets) error { return unix.Mount("none", t.Scratch, "tmpfs", 0, "") }},
	{"mount with the new calls", false, func(targets) error { _, err := unix.Fsopen("tmpfs", 0); return err }},
	{"take a mount (open_tree)", false, func(targets) error {
		_, err := unix.OpenTree(unix.AT_FDCWD, "/usr/lib", unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE)
		return err
	}},
	{"change a mount (mount_setattr)", false, func(targets) error {
		return unix.MountSetattr(unix.AT_FDCWD, "/usr/lib", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	}},
	{"unmount", true, func(targets) error { return unix.Unmount("/proc", unix.MNT_DETACH) }},
	{"change the root (pivot_root)", true, func(targets) error { return unix.PivotRoot("/", "/") }},
	{"change the root (chroot)", false, func(targets) error { return unix.Chroot("/") }},
	{"escape from a chroot", false, escapeChroot},
	{"make a mount namespace", false, func(targets) error { return unix.Unshare(unix.CLONE_NEWNS) }},
	{"make a user namespace by clone", false, func(targets) error { _, err := spawn(unix.CLONE_NEWUSER, false); return err }},
	{"make a network namespace by clone", false, func(targets) error {
		_, err := spawn(unix.CLONE_NEWUSER|unix.CLONE_NEWNET, false)
		return err
	}},
	{"make a user namespace by clone3", false, func(targets) error {
		args := [11]uint64{unix.CLONE_NEWUSER, 0, 0, 0, uint64(unix.SIGCHLD)}
		pid, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args[0])), 64, 0)
		if e == 0 && pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if e != 0 {
			return e
		}
		return nil
	}},
	{"join a namespace", false, func(targets) error {
		fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
		if err != nil {
			fd = -1
		}
		return unix.Setns(fd, unix.CLONE_NEWUTS)
	}},
	// Parts of the kernel.
	{"use the keyring", false, keyring},
	{"read a key", false, func(targets) error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 1) }},
	{"load BPF", false, func(targets) error {
		attr := struct{ kind, key, value, entries uint32 }{2, 4, 4, 1} // An array map.
		return call(unix.SYS_BPF, 0, pointer(&attr), unsafe.Sizeof(attr))
	}},
	{"count events (perf)", false, perf},
	{"handle page faults (userfaultfd)", false, func(targets) error { return call(unix.SYS_USERFAULTFD, 1) }},
	{"use io_uring", false, func(targets) error { var p [120]byte; return call(unix.SYS_IO_URING_SETUP, 4, pointer(&p[0])) }},
	{"watch the host's files (fanotify)", false, func(targets) error { return call(unix.SYS_FANOTIFY_INIT, 0x200, 0) }},
	{"map pages into a pipe (vmsplice)", false, func(targets) error {
		var fds [2]int
		if err := unix.Pipe(fds[:]); err != nil {
			return err
		}
		b := make([]byte, 1)
		iov := unix.Iovec{Base: &b[0], Len: 1}
		return call(unix.SYS_VMSPLICE, uintptr(fds[1]), pointer(&iov), 1)
	}},
	{"use system calls of another ABI", false, func(targets) error { return gate(call(0x40000000|unix.SYS_GETPID), unix.ENOSYS) }},
	{"change the personality", false, func(targets) error { return call(unix.SYS_PERSONALITY, 0x0040000|0x0400000) }},
	{"read the kernel's log", false, func(targets) error { b := make([]byte, 16); _, err := unix.Klogctl(3, b); return err }},
	{"read the kernel's symbols", false, func(targets) error { return opening("/proc/kallsyms", unix.O_RDONLY) }},
	{"read the kernel's command line", false, func(targets) error { return opening("/proc/cmdline", unix.O_RDONLY) }},
	{"change a kernel setting", true, func(targets) error { return opening("/proc/sys/kernel/core_pattern", unix.O_WRONLY) }},
	{"press the magic key", true, func(targets) error { return opening("/proc/sysrq-trigger", unix.O_WRONLY) }},
	{"read /sys", false, func(targets) error { _, err := os.ReadDir("/sys/class/net"); return err }},
	{"load a module", true, func(targets) error { return gate(call(unix.SYS_INIT_MODULE, text("x"), 1, text("")), unix.ENOEXEC) }},
	{"load a module from a file", true, func(targets) error { return gate(call(unix.SYS_FINIT_MODULE, 3, text(""), 0), unix.ENOEXEC) }},
	{"load a kernel", true, func(targets) error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }},
	// "Ctrl-Alt-Del does nothing": the same permission as to reboot.
	{"reboot", true, func(targets) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
	{"change the host name", false, func(targets) error { return unix.Sethostname([]byte("drill")) }},
	{"set the clock", true, func(targets) error {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
		return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
	}},
	{"tune the clock", true, func(targets) error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 10000})
		return err
	}},
	{"add swap", false, func(targets) error { return gate(call(unix.SYS_SWAPON, text("/no/such/file"), 0), unix.ENOENT) }},
	{"remove swap", false, func(targets) error { return gate(call(unix.SYS_SWAPOFF, text("/no/such/file")), unix.ENOENT) }},
	{"change quotas", false, func(targets) error {
		return gate(call(unix.SYS_QUOTACTL, 0x80000200, text("/no/such/file"), 0, 0), unix.ENOENT)
	}},
	{"keep process accounts", true, func(targets) error { return gate(call(unix.SYS_ACCT, text("/no/such/file")), unix.ENOENT) }},
	{"hang up the terminal", true, func(targets) error { return call(unix.SYS_VHANGUP) }},
	// Other programs.
	{"execute a shell", false, func(targets) error { return run1("/bin/sh", "sh", "-c", "echo "+succeeded) }},
	{"execute a set-uid program", false, func(targets) error { return run1("/usr/bin/passwd", "passwd", "--help") }},
	{"execute memory", false, memoryExec},
	{"execute an own file", false, ownProgram},
	{"execute itself again", false, func(t targets) error { return run1("/proc/self/exe", "program", "fds") }},
	{"run a command", false, func(targets) error {
		out, err := runCommand("/bin/busybox", "echo", succeeded)
		if err == nil && !strings.Contains(out, succeeded) {
			return os.ErrInvalid
		}
		return err
	}},
	// Privileges.
	{"become root", false, func(targets) error { return call(unix.SYS_SETUID, 0) }},
	{"take groups", false, func(targets) error { g := uint32(0); return call(unix.SYS_SETGROUPS, 1, pointer(&g)) }},
	{"take capabilities", false, capabilities},
	{"take an ambient capability", false, func(targets) error {
		return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
	}},
	{"allow new privileges again", false, func(targets) error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) }},
	{"change file owners", false, func(t targets) error {
		name := filepath.Join(t.Scratch, "owned")
		defer os.Remove(name)
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return err
		}
		return os.Chown(name, 0, 0)
	}},
	// More than one's share.
	{"fork bomb", false, func(targets) error { return many(300, func() error { _, err := spawn(0, true); return err }) }},
	{"fill the disk", false, func(t targets) error { return fillScratch(t, 32) }},
	{"fill the disk with names", false, inodes},
	{"memory bomb", false, memoryBomb},
	{"open files without end", false, func(targets) error { return many(400, func() error { _, err := unix.Eventfd(0, 0); return err }) }},
	{"raise the limit of open files", false, func(targets) error { return raise(unix.RLIMIT_NOFILE, 300) }},
	{"raise the limit of processes", false, func(targets) error { return raise(unix.RLIMIT_NPROC, 100) }},
	{"turn core dumps on", false, func(targets) error { return raise(unix.RLIMIT_CORE, 1<<30) }},
	{"run in real time", false, realtime},
	{"be nicer to oneself", false, func(targets) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }},
	{"take disk time in real time", false, func(targets) error { return call(unix.SYS_IOPRIO_SET, 1, 0, 1<<13) }},
	{"make a message queue", false, func(targets) error {
		defer call(unix.SYS_MQ_UNLINK, text("carrel-drill"))
		return call(unix.SYS_MQ_OPEN, text("carrel-drill"), unix.O_CREAT|unix.O_RDWR, 0o600, 0)
	}},
}
