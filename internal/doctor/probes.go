package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/firewall"
)

// Probes are the questions that only a running kernel answers. Each gives nil when the thing works, or what was wrong.
type Probes struct {
	KVMVersion   func() (int, error)                                         // opens /dev/kvm and asks for its API version
	Guest        func(context.Context) error                                 // runs a small guest
	Boot         func(ctx context.Context, qemu, kernel string) error        // boots an ordinary kernel under KVM
	Namespaces   func(context.Context) error                                 // enters user, net, mount and pid namespaces
	Unprivileged func(context.Context) error                                 // enters a user namespace as an ordinary user
	Devices      func(context.Context) (map[string]string, error)            // makes network devices: what was wrong with each, or ""
	Memfd        func() error                                                // tries seals on memory
	Landlock     func() (int, error)                                         // asks for the ABI version
	Seccomp      func() error                                                // asks for the filter action KILL_PROCESS
	Writable     func(file string) error                                     // may this process write there?
	Lookup       func(program string) (string, error)                        // finds a program
	Version      func(ctx context.Context, file, arg string) (string, error) // runs it
	Disk         func(dir string) (string, uint64, error)                    // nearest existing directory, and bytes free there
	OpenFiles    func() (uint64, error)                                      // hard limit
	Firewall     func() ([]firewall.Obstacle, error)                         // what of the host's firewall drops forwarded packets
	Random       func() error                                                // asks for random bytes without waiting
}

// Names of probes that run in a child process, and of the network devices that one of them makes.
const (
	probeGuest        = "guest"
	probeNamespaces   = "namespaces"
	probeUnprivileged = "unprivileged"
	probeDevices      = "devices"

	deviceTap      = "tap"
	deviceVeth     = "veth"
	deviceVXLAN    = "vxlan"
	deviceBridge   = "bridge"
	deviceNftables = "nftables"
)

const (
	quickDeadline = 5 * time.Second  // a probe guest needs milliseconds, also on a loaded machine
	bootDeadline  = 20 * time.Second // an ordinary kernel needs two or three
	killGrace     = time.Second
	nobody        = 65534
)

// self is how this program runs itself again: its own executable (by a name that holds in other namespaces and after an upgrade)
// and the arguments in front of a probe's name.
type self []string

// ThisMachine gives the probes that try things for real. Some run in child processes of the same program, started with the arguments
// given and the probe's name behind them: they must lead to RunProbe.
func ThisMachine(arguments ...string) Probes {
	s := self(arguments)
	return Probes{
		KVMVersion:   kvmVersion,
		Guest:        s.guest,
		Boot:         boot,
		Namespaces:   s.namespaces,
		Unprivileged: s.unprivileged,
		Devices:      s.devices,
		Memfd:        memfd,
		Landlock:     landlockABI,
		Seccomp:      seccomp,
		Writable:     func(file string) error { return unix.Access(file, unix.W_OK) },
		Lookup:       lookup,
		Version:      version,
		Disk:         disk,
		OpenFiles:    openFiles,
		Firewall:     func() ([]firewall.Obstacle, error) { return firewall.Forwarding(nil) },
		Random:       random,
	}
}

// answer is what a probe's process writes. Error says why the thing does not work; a process that fails instead has crashed.
type answer struct {
	Error string            `json:"error,omitempty"`
	Found map[string]string `json:"found,omitempty"`
}

// RunProbe is the child's side: it runs one probe and writes its answer, as JSON, to w. The arguments are those of ThisMachine, for
// the probe that needs a child of its own. It fails only when there is no such probe or w fails.
func RunProbe(ctx context.Context, name string, w io.Writer, arguments ...string) error {
	var a answer
	var err error
	switch name {
	case probeGuest:
		err = runGuest()
	case probeNamespaces:
		a.Found = namespaceLinks()
	case probeUnprivileged:
		err = self(arguments).enter(ctx, syscall.CLONE_NEWUSER, "user")
	case probeDevices:
		a.Found = makeDevices()
	default:
		return fmt.Errorf("there is no probe %q", name)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(w).Encode(a)
}

// run runs a probe in a child with the attributes given and gives what it found.
func (s self) run(ctx context.Context, name string, attr *syscall.SysProcAttr) (map[string]string, error) {
	cmd := exec.Command("/proc/self/exe", append(append([]string{}, s...), name)...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	out, err := child{deadline: quickDeadline, grace: killGrace}.run(ctx, cmd)
	if err != nil {
		return nil, explain(out, err)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, fmt.Errorf("the probe %s answered %.100q: %w", name, out, err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Found, nil
}

func (s self) guest(ctx context.Context) error {
	_, err := s.run(ctx, probeGuest, nil)
	return err
}

// isolated asks for new namespaces; as an ordinary user within a new user namespace, the only way there.
func isolated(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	if attr.Cloneflags&syscall.CLONE_NEWUSER != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// namespaceLinks names the namespaces that the process is in.
func namespaceLinks() map[string]string {
	links := map[string]string{}
	for _, kind := range []string{"user", "net", "mnt", "pid"} {
		links[kind], _ = os.Readlink("/proc/self/ns/" + kind) // "" is not a namespace: enter reports it
	}
	return links
}

// enter starts a child in a new namespace and makes sure that it is in one.
func (s self) enter(ctx context.Context, flag uintptr, kind string) error {
	there, err := s.run(ctx, probeNamespaces, isolated(flag))
	if err != nil {
		return fmt.Errorf("%s namespace: %w", kind, err)
	}
	if here := namespaceLinks(); there[kind] == "" || there[kind] == here[kind] {
		return fmt.Errorf("%s namespace: clone succeeded, but the child was in %q as before", kind, there[kind])
	}
	return nil
}

func (s self) namespaces(ctx context.Context) error {
	return errors.Join(s.enter(ctx, syscall.CLONE_NEWUSER, "user"), s.enter(ctx, syscall.CLONE_NEWNET, "net"),
		s.enter(ctx, syscall.CLONE_NEWNS, "mnt"), s.enter(ctx, syscall.CLONE_NEWPID, "pid"))
}

// unprivileged enters a user namespace as an ordinary user; root becomes nobody for it, because root may always.
func (s self) unprivileged(ctx context.Context) error {
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	_, err := s.run(ctx, probeUnprivileged, attr)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("not tested: an ordinary user may not run this program: %w", err)
	}
	return err
}

func (s self) devices(ctx context.Context) (map[string]string, error) {
	return s.run(ctx, probeDevices, isolated(syscall.CLONE_NEWNET))
}

// lookup finds a program also where an ordinary user's PATH does not lead: servers are in sbin.
func lookup(program string) (string, error) {
	file, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		file, err = exec.LookPath(filepath.Join(dir, program))
	}
	return file, err
}

func version(ctx context.Context, file, arg string) (string, error) {
	out, err := child{deadline: quickDeadline, grace: killGrace}.run(ctx, exec.Command(file, arg))
	return string(out), explain(out, err)
}

// disk measures the nearest directory above dir that exists.
func disk(dir string) (string, uint64, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", 0, err
	}
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return dir, st.Bavail * uint64(st.Bsize), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return "", 0, fmt.Errorf("measure %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

func openFiles() (uint64, error) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return limit.Max, err
}

func random() error {
	var b [32]byte
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err != nil {
		return fmt.Errorf("getrandom: %w", err)
	}
	return nil
}

// bootMarks are lines of an ordinary kernel that has timers, a scheduler and its first drivers: it has not merely begun to run.
var bootMarks = []string{"VFS: ", "Freeing unused kernel", "Run /init as init process"}

// boot boots a kernel without a disk until it comes to file systems, which is where it would end.
func boot(ctx context.Context, qemu, kernel string) error {
	cmd := exec.Command(qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-accel", "kvm", "-cpu", "host",
		"-m", "512", "-kernel", kernel, "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1")
	var said string
	c := child{deadline: bootDeadline, grace: killGrace, enough: func(output []byte) bool {
		said = string(output)
		return booted(said)
	}}
	out, err := c.run(ctx, cmd)
	switch {
	case booted(said):
		return nil
	case err == nil:
		return fmt.Errorf("%s ended without the output of a booting kernel: %.300q", filepath.Base(qemu), out)
	default:
		return fmt.Errorf("%s under KVM: %w", kernel, explain(out, err))
	}
}

func booted(serial string) bool {
	for _, mark := range bootMarks {
		if strings.Contains(serial, mark) {
			return true
		}
	}
	return false
}
