package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test program be its own child, as carrel is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "probe" {
		os.Exit(asChild(os.Args[2]))
	}
	os.Exit(m.Run())
}

func asChild(name string) int {
	switch name {
	case "hang":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("hanging now")
		hang()
	case "hang quietly": // output closed, process there
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		os.Stdout.Close()
		os.Stderr.Close()
		hang()
	case "flood":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	}
	if err := RunProbe(context.Background(), name, os.Stdout, "probe"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hang stays in a system call until the process is killed.
func hang() {
	for {
		_, _ = unix.Poll(nil, -1)
	}
}

func childCommand(name string) *exec.Cmd { return exec.Command("/proc/self/exe", "probe", name) }

func TestChildrenThatHang(t *testing.T) {
	t.Run("a child that ignores signals is killed at its deadline", func(t *testing.T) {
		cmd := childCommand("hang")
		out, err := child{deadline: 2 * time.Second, grace: 5 * time.Second}.run(context.Background(), cmd)
		if !errors.Is(err, errDeadline) || string(out) != "hanging now\n" {
			t.Fatalf("got %q, %v", out, err)
		}
		if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("its end was %v", cmd.ProcessState)
		}
	})
	t.Run("a child that closes its output and stays is killed", func(t *testing.T) {
		cmd := childCommand("hang quietly")
		if _, err := (child{deadline: 10 * time.Second, grace: 500 * time.Millisecond}).run(context.Background(), cmd); err == nil {
			t.Fatal("no error")
		}
		if cmd.ProcessState == nil {
			t.Error("it was not reaped")
		}
	})
	t.Run("a child that cannot be killed is left behind", func(t *testing.T) {
		cmd := childCommand("hang")
		var pid int
		begin := time.Now()
		immortal := func(p *os.Process) error { pid = p.Pid; return nil } // as a process in an uninterruptible ioctl takes SIGKILL
		_, err := child{deadline: 500 * time.Millisecond, grace: 100 * time.Millisecond, kill: immortal}.run(context.Background(), cmd)
		if !errors.Is(err, errStuck) || time.Since(begin) > 10*time.Second || pid <= 1 {
			t.Fatalf("got %v after %s", err, time.Since(begin))
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Errorf("it was not there any more: %v", err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a cancelled context ends a child", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		c := child{deadline: time.Minute, grace: 5 * time.Second, enough: func(out []byte) bool { cancel(); return false }}
		if _, err := c.run(ctx, childCommand("hang")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a child that floods is cut off", func(t *testing.T) {
		out, err := child{deadline: time.Minute, grace: 5 * time.Second}.run(context.Background(), childCommand("flood"))
		if err == nil || len(out) != maxOutput {
			t.Errorf("got %d bytes, %v", len(out), err)
		}
	})
	t.Run("a child's own failure is told in its words", func(t *testing.T) {
		out, err := child{deadline: time.Minute, grace: 5 * time.Second}.run(context.Background(), childCommand("nonsense"))
		if got := explain(out, err); got == nil || got.Error() != `there is no probe "nonsense"` {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a program that is not there is an error", func(t *testing.T) {
		if _, err := (child{deadline: time.Second}).run(context.Background(), exec.Command("/nonexistent")); err == nil {
			t.Error("no error")
		}
	})
}

// script writes a program that stands in for QEMU: it behaves on its standard output as the real one does.
func script(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBootingAnOrdinaryKernel(t *testing.T) {
	short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, tc := range []struct {
		name, body, want string
	}{
		{"passes when it comes to file systems, and does not wait for its end", `echo "[0.0] Linux version 6.1"; echo "[0.9] VFS: Disk quotas dquot_6.6.0"; exec sleep 100`, ""},
		{"fails when QEMU gives up", `echo "Could not access KVM kernel module" >&2; exit 1`, "Could not access KVM kernel module"},
		{"fails when it ends without a word", `exit 0`, "ended without the output of a booting kernel"},
		{"fails when it only begins and then hangs", `echo "[0.0] Linux version 6.1"; exec sleep 100`, "Linux version 6.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := boot(short, script(t, tc.body), "/boot/vmlinuz-6.1")
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("asks QEMU for KVM alone and that kernel", func(t *testing.T) {
		err := boot(context.Background(), script(t, `echo "$@"; exit 1`), "/boot/vmlinuz-6.1")
		if err == nil || !strings.Contains(err.Error(), "-accel kvm -cpu host") || !strings.Contains(err.Error(), "-kernel /boot/vmlinuz-6.1") || !strings.Contains(err.Error(), "-nodefaults") {
			t.Errorf("got %v", err)
		}
	})
}

// oracle says whether a command of the distribution succeeds at the same thing.
func oracle(t *testing.T, name string, args ...string) bool {
	t.Helper()
	file, err := lookup(name)
	if err != nil {
		t.Fatalf("this test compares with %s: apt install util-linux iproute2", name)
	}
	out, err := exec.Command(file, args...).CombinedOutput()
	t.Logf("%s %v: %v %s", name, args, err, out)
	return err == nil
}

func TestNamespacesAgreeWithUnshare(t *testing.T) {
	ctx := context.Background()
	s := self{"probe"}
	asUser := []string{}
	if os.Geteuid() != 0 {
		asUser = []string{"--user", "--map-root-user"}
	}
	for kind, flags := range map[string]struct {
		clone uintptr
		args  []string
	}{
		"user": {syscall.CLONE_NEWUSER, []string{"--user", "--map-root-user"}},
		"net":  {syscall.CLONE_NEWNET, append(asUser, "--net")},
		"mnt":  {syscall.CLONE_NEWNS, append(asUser, "--mount")},
		"pid":  {syscall.CLONE_NEWPID, append(asUser, "--pid", "--fork")},
	} {
		t.Run(kind, func(t *testing.T) {
			err := s.enter(ctx, flags.clone, kind)
			if want := oracle(t, "unshare", append(flags.args, "true")...); (err == nil) != want {
				t.Errorf("got %v, unshare %v", err, want)
			}
		})
	}
	t.Run("a child in the same namespace is noticed", func(t *testing.T) {
		flag := uintptr(syscall.CLONE_NEWUTS) // another namespace than the one asked about
		if err := s.enter(ctx, flag, "net"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("an ordinary user", func(t *testing.T) {
		err := s.unprivileged(ctx)
		args := []string{"--user", "true"}
		want := false
		if os.Geteuid() == 0 {
			want = oracle(t, "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", "unshare"}, args...)...)
		} else {
			want = oracle(t, "unshare", args...)
		}
		if (err == nil) != want {
			t.Errorf("got %v, unshare %v", err, want)
		}
	})
}

func TestNetworkDevicesAgreeWithIP(t *testing.T) {
	came, err := self{"probe"}.devices(context.Background())
	args := []string{"--net"}
	if os.Geteuid() != 0 {
		args = []string{"--user", "--map-root-user", "--net"}
	}
	if possible := oracle(t, "unshare", append(args, "true")...); possible != (err == nil) {
		t.Fatalf("got %v, unshare %v", err, possible)
	} else if !possible {
		return
	}
	if len(came) != 5 {
		t.Errorf("got %v", came)
	}
	if problem, tried := came[deviceNftables]; !tried || problem != "" && !strings.HasPrefix(problem, "make an nftables table: ") {
		t.Errorf("nftables: %q", problem)
	}
	for key, add := range map[string]string{
		deviceTap:    "tuntap add d0 mode tap",
		deviceVeth:   "link add d0 type veth",
		deviceBridge: "link add d0 type bridge",
		deviceVXLAN:  "link add d0 type vxlan id 1 dstport 4789",
	} {
		if want := oracle(t, "unshare", append(append(args, "ip"), strings.Fields(add)...)...); (came[key] == "") != want {
			t.Errorf("%s: got %q, ip %v", key, came[key], want)
		}
	}
}

func TestNetlinkRefusals(t *testing.T) {
	t.Run("a kind of device that no kernel has is refused", func(t *testing.T) {
		if err := makeLink("carrelnone", nil); err == nil {
			t.Error("no error")
		}
	})
	refusal := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint16(refusal[4:], unix.NLMSG_ERROR)
	eperm := int32(unix.EPERM)
	binary.NativeEndian.PutUint32(refusal[unix.SizeofNlMsghdr:], uint32(-eperm))
	for name, tc := range map[string]struct {
		answer []byte
		want   func(error) bool
	}{
		"an error number is that error":           {refusal, func(err error) bool { return errors.Is(err, unix.EPERM) }},
		"a short answer is no acknowledgement":    {refusal[:unix.SizeofNlMsghdr], func(err error) bool { return err != nil }},
		"another message is no acknowledgement":   {make([]byte, 64), func(err error) bool { return err != nil }},
		"error number zero is an acknowledgement": {append(append([]byte{}, refusal[:unix.SizeofNlMsghdr]...), 0, 0, 0, 0), func(err error) bool { return err == nil }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := acknowledged(tc.answer); !tc.want(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func release(t *testing.T) (major, minor int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major, minor
}

func TestConfinementOnThisKernel(t *testing.T) {
	major, minor := release(t)
	since := func(a, b int) bool { return major > a || major == a && minor >= b }
	t.Run("seals hold from Linux 6.3 on", func(t *testing.T) {
		if err := memfd(); (err == nil) != since(6, 3) {
			t.Errorf("got %v on %d.%d", err, major, minor)
		}
	})
	t.Run("unsealed memory is not called sealed", func(t *testing.T) {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "test")
		defer f.Close()
		if err := f.Truncate(int64(os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
		if err := refused(f, "F_SEAL_WRITE"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("Landlock tells a version or why not", func(t *testing.T) {
		if abi, err := landlockABI(); (abi > 0) == (err != nil) || err == nil && !since(5, 13) {
			t.Errorf("got %d, %v", abi, err)
		}
	})
	t.Run("seccomp agrees with the kernel's list of actions", func(t *testing.T) {
		list, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
		if want := err == nil && strings.Contains(string(list), "kill_process"); (seccomp() == nil) != want {
			t.Errorf("got %v, list %q, %v", seccomp(), list, err)
		}
	})
}

func TestRoomOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	t.Run("a directory that is not there yet is measured where it would be", func(t *testing.T) {
		if at, free, err := disk(filepath.Join(dir, "a", "b")); at != dir || free == 0 || err != nil {
			t.Errorf("got %s, %d, %v", at, free, err)
		}
	})
	t.Run("a file in the way is an error", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := disk(filepath.Join(dir, "file", "state")); err == nil {
			t.Error("no error")
		}
	})
	t.Run("open files agree with the kernel", func(t *testing.T) {
		n, err := openFiles()
		limits, readErr := os.ReadFile("/proc/self/limits")
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		want := ""
		for line := range strings.Lines(string(limits)) {
			if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
				want = strings.Fields(rest)[1]
			}
		}
		if got := strconv.FormatUint(n, 10); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("randomness is there", func(t *testing.T) {
		if err := random(); err != nil {
			t.Error(err)
		}
	})
}

func TestExaminingThisMachineEndsAndIsConsistent(t *testing.T) {
	begin := time.Now()
	r := Examine(context.Background(), Options{StateDir: t.TempDir(), Probes: ThisMachine("probe")})
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	flags := strings.Contains(string(cpuinfo), " vmx ") || strings.Contains(string(cpuinfo), " svm ")
	guest := find(t, r, "probe guest").Status == OK
	if r.KVM && (!flags || !guest) {
		t.Errorf("KVM is called usable with flags %v and guest %v", flags, guest)
	}
	if _, err := kvmVersion(); err != nil && r.KVM {
		t.Errorf("KVM is called usable though %v", err)
	}
	for _, c := range r.Checks {
		if c.Status != OK && c.Remedy == "" {
			t.Errorf("no remedy: %+v", c)
		}
		t.Logf("%-7s %s: %s", c.Status, c.Name, c.Detail)
	}
}
