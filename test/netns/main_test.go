// Package netns tests the fabric and the services inside it with packets: guests are programs at the far end of real taps.
//
// The tests run in a network and mount namespace of their own, so that nothing they make outlives them.
package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside says that this process is the one in the namespaces, and as whom: "root" or "rootless".
const inside = "CARREL_NETNS_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(inside) {
	case "":
		if os.Getuid() != 0 {
			fmt.Fprintln(os.Stderr, "test/netns: needs root, to make network namespaces")
			os.Exit(1)
		}
		if _, err := os.Stat("/dev/net/tun"); err != nil {
			fmt.Fprintln(os.Stderr, "test/netns: /dev/net/tun is missing: load the tun module")
			os.Exit(1)
		}
		os.Exit(again("root", os.Args, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}))
	case "unprivileged":
		// An ordinary user makes a user namespace in which he is root, as `unshare -Urnm` does.
		id := func(outer int) []syscall.SysProcIDMap {
			return []syscall.SysProcIDMap{{ContainerID: 0, HostID: outer, Size: 1}}
		}
		os.Exit(again("rootless", os.Args, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
			UidMappings: id(os.Getuid()), GidMappings: id(os.Getgid()), Pdeathsig: syscall.SIGKILL}))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "test/netns: make mounts private:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// again runs this program in other namespaces and gives its exit code.
func again(as string, args []string, attr *syscall.SysProcAttr) int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/netns:", err)
		return 1
	}
	cmd := &exec.Cmd{Path: self, Args: args, Env: append(os.Environ(), inside+"="+as), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr}
	if err := cmd.Run(); err != nil {
		if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() > 0 {
			return exit.ExitCode()
		}
		fmt.Fprintln(os.Stderr, "test/netns: run as", as, ":", err)
		return 3
	}
	return 0
}

const nobody = 65534

// TestTheSameWithoutRoot runs the packet tests as an ordinary user in a user namespace.
func TestTheSameWithoutRoot(t *testing.T) {
	if os.Getenv(inside) != "root" {
		t.Skip("is what the tests without root are started by")
	}
	if b, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && string(b) == "0\n" {
		t.Skip("the kernel has user namespaces switched off (user.max_user_namespaces = 0)")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/unprivileged_userns_clone"); err == nil && string(b) == "0\n" {
		t.Skip("the kernel lets no ordinary user make a user namespace (kernel.unprivileged_userns_clone = 0)")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); err == nil && string(b) == "1\n" {
		t.Skip("AppArmor lets no ordinary user use a user namespace (kernel.apparmor_restrict_unprivileged_userns = 1)")
	}
	// go test's own directories are root's alone.
	dir, err := os.MkdirTemp("/tmp", "carrel-netns-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	state := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(state, 0o700), os.Chown(state, nobody, nobody), copyFile("/proc/self/exe", filepath.Join(dir, "netns.test"))); err != nil {
		t.Fatal(err)
	}
	// Distributions let everybody open /dev/net/tun; where this one does not, the test has a device file of its own.
	tun := filepath.Join(dir, "tun")
	if err := errors.Join(unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "netns.test"), "-test.v="+fmt.Sprint(testing.Verbose()), "-test.timeout=2m", "-test.run", "^("+withoutRoot+")$")
	cmd.Dir = state
	cmd.Env = append(os.Environ(), inside+"=unprivileged", "TMPDIR="+state, "HOME="+state, tunVariable+"="+tun)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// withoutRoot are the tests that need nothing but a fabric.
const withoutRoot = "TestTheFabricConforms|TestTwoVPCs.*|TestNET1.*|TestVMM5.*|TestMany.*|TestGroup.*|TestDetach.*|TestAfterARestart.*|TestATap.*|TestServices.*|TestUplink.*"

const tunVariable = "CARREL_NETNS_TUN"

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
