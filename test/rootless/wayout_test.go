package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/hostapi"
	"carrel/internal/ident"
)

// segment makes a network namespace and runs commands of ip in it.
func segment(t *testing.T, commands ...string) *os.File {
	t.Helper()
	var ns *os.File
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with this goroutine.
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		errs <- err
	}()
	must(t, <-errs)
	t.Cleanup(func() { ns.Close() })
	for _, c := range commands {
		in(t, ns, func() error {
			out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ip %s: %w: %s", c, err, out)
			}
			return nil
		})
	}
	return ns
}

// in runs fn on a thread in a network namespace.
func in(t *testing.T, ns *os.File, fn func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = fn()
		}
		errs <- err
	}()
	must(t, <-errs)
}

// says listens on port 80 in a network namespace and says its name to whoever connects.
func says(t *testing.T, ns *os.File, name string) {
	t.Helper()
	var l net.Listener
	in(t, ns, func() (err error) { l, err = net.Listen("tcp4", ":80"); return err })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(name))
			_ = c.Close()
		}
	}()
}

// asThePerson connects to the host role's socket as the person: who connects is what a thread is at that moment.
func (h *house) asThePerson(context.Context) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid int) error {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
			return e
		}
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "host.sock")
	defer f.Close()
	if err := become(h.uid); err != nil {
		return nil, err
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(h.state, "host.sock")})
	if back := become(0); back != nil {
		panic(back) // Nobody else may go on as him.
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// plug gives a network namespace that is at the far end of a desktop's tap, as a guest would be.
func (h *house) plug(spec driver.NICSpec) *os.File {
	t := h.t
	t.Helper()
	vpc, err := os.Open(fmt.Sprintf("/proc/%d/root%s-host/net/netns/%s", h.the("carrel", "host").pid, h.state, spec.VPC))
	must(t, err)
	defer vpc.Close()
	desktop := segment(t, "link set lo up")
	var theirs, ours *os.File
	in(t, vpc, func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			if err == nil && l.Name != "lo" && l.Name != "up0" {
				theirs, err = tap(l.Name)
			}
		}
		return err
	})
	in(t, desktop, func() error { ours, err = tap("eth0"); return err })
	for _, c := range []string{"link set eth0 address " + spec.MAC, "link set eth0 up", "addr add " + spec.Address + "/24 dev eth0", "route add default via 10.0.1.1"} {
		in(t, desktop, func() error { return exec.Command("ip", strings.Fields(c)...).Run() })
	}
	var wires sync.WaitGroup
	for from, to := range map[*os.File]*os.File{theirs: ours, ours: theirs} {
		wires.Go(func() {
			b := make([]byte, 70000)
			for {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				_, _ = to.Write(b[:n])
			}
		})
	}
	t.Cleanup(func() {
		theirs.Close()
		ours.Close()
		wires.Wait()
	})
	return desktop
}

// tap attaches to a network device of the thread's namespace.
func tap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func TestTheWayOutLeadsOutAndNotToTheMachine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("needs an outside, which only root can build")
		return
	}
	need(t, "ip", "pasta")
	// A machine with a public address on another interface than that of its default route, and somebody far away.
	world := segment(t, "link set lo up", "addr add 8.8.4.4/32 dev lo")
	machine := segment(t, "link set lo up", "link add wan0 type veth peer name isp0")
	in(t, machine, func() error {
		out, err := exec.Command("sh", "-c", fmt.Sprintf(`set -e; ip link set isp0 netns /proc/%d/fd/%d
			ip addr add 198.51.100.2/24 dev wan0; ip link set wan0 up; ip addr add 9.9.9.9/32 dev lo; ip route add default via 198.51.100.1`, os.Getpid(), world.Fd())).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	in(t, world, func() error {
		return errors.Join(exec.Command("ip", "addr", "add", "198.51.100.1/24", "dev", "isp0").Run(), exec.Command("ip", "link", "set", "isp0", "up").Run())
	})
	says(t, world, "world")
	says(t, machine, "machine")
	for _, to := range []string{"8.8.4.4:80", "9.9.9.9:80", "198.51.100.2:80", "198.51.100.1:80"} {
		in(t, machine, func() error {
			c, err := net.DialTimeout("tcp4", to, 5*time.Second)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}

	h := settle(t, somebody(t))
	h.network = machine
	must(t, os.WriteFile(h.conf, []byte("host:\n  accelerator: tcg\n  uplink: auto\nmetrics:\n  address: \"off\"\n"), 0o644))
	h.start()
	ctx := t.Context()
	// The socket is the person's: even root outside is nobody to it.
	if _, err := hostapi.NewClient(hostapi.Dial(filepath.Join(h.state, "host.sock"))).Fabric().List(ctx); err == nil {
		t.Error("the host role answers another user")
	}
	c := hostapi.NewClient(h.asThePerson)
	t.Cleanup(c.Close)
	spec := driver.NICSpec{InterfaceID: "eni-0000000000000001a", WorkspaceID: "ws-00000001a", VPC: "vpc-0123456789abcdef0", Subnet: "subnet-0000000000000000a", Address: "10.0.1.10",
		MAC: "02:00:00:00:00:10", SecurityGroups: []ident.SecurityGroupID{"sg-0000000000000000a"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}
	_, err := c.Fabric().Attach(ctx, spec)
	must(t, err)
	desktop := h.plug(spec)
	reach := func(to string, patience time.Duration) (said string, err error) {
		in(t, desktop, func() error {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp4", to, patience); err != nil {
				return nil
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			var b []byte
			if b, err = io.ReadAll(conn); err == nil && len(b) == 0 {
				err = io.ErrUnexpectedEOF
			}
			said = string(b)
			return nil
		})
		return said, err
	}
	out := func(what string) {
		t.Helper()
		last := error(nil)
		h.eventually(what, func() bool {
			var said string
			if said, last = reach("8.8.4.4:80", 2*time.Second); last == nil && said != "world" {
				t.Fatalf("%s: %q answers", what, said)
			}
			return last == nil
		})
	}
	out("the way out")
	for _, to := range []string{"9.9.9.9", "198.51.100.2", "198.51.100.1", "169.254.64.3", "169.254.64.2", "10.0.1.1"} {
		if said, err := reach(to+":80", time.Second); err == nil {
			t.Errorf("%s is reached: %q answers", to, said)
		}
	}
	out("the way out, after those that are closed")

	pasta := h.the("pasta")
	// Its own sandbox: a filter, and a root that is neither the machine's nor the host role's.
	if m := namespace(t, pasta.pid, "mnt"); pasta.uid != h.uid || pasta.status["Seccomp"] != "2" || pasta.status["NoNewPrivs"] != "1" ||
		m == namespace(t, os.Getpid(), "mnt") || m == namespace(t, h.the("carrel", "host").pid, "mnt") {
		t.Errorf("pasta is user %d in %s, seccomp %s, no new privileges %s", pasta.uid, m, pasta.status["Seccomp"], pasta.status["NoNewPrivs"])
	}
	must(t, syscall.Kill(pasta.pid, syscall.SIGKILL))
	h.eventually("another pasta", func() bool {
		for _, q := range processes(t) {
			if q.uid == h.uid && filepath.Base(q.args[0]) == "pasta" && q.pid != pasta.pid && q.status["State"][:1] != "Z" {
				return true
			}
		}
		return false
	})
	out("the way out after pasta was killed")
	h.stop()
	for _, q := range processes(t) {
		if q.uid == h.uid && filepath.Base(q.args[0]) == "pasta" {
			t.Errorf("pasta is left when carrel serve has ended")
		}
	}
}

func TestAWayOutThatCannotBeIsRefused(t *testing.T) {
	h := settle(t, somebody(t))
	for _, c := range []struct{ name, uplink, path, want string }{
		{"an interface of the machine", "eth0", os.Getenv("PATH"), "set it to auto"},
		{"pasta, which is not installed", "auto", "/nonexistent", "install the package passt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, os.WriteFile(h.conf, []byte("host:\n  uplink: "+c.uplink+"\n"), 0o644))
			// By env: what puts the command into its place needs a path of its own.
			out, err := h.command("env", "PATH="+c.path, h.binary, "serve", "--state", h.state, "--config", h.conf).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
