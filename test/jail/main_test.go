// Package jail holds the tests of internal/driver/jail that need a kernel's walls to be built for real: what a jailed program is seen to be
// from the host, and what it can do from the inside when it is hostile (VMM-5). They need root; what a user without it gets is tested by
// dropping to one. They leave nothing behind.
package jail

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
)

// The test binary is also everything that is jailed, and everybody who jails: modes are what it does when called with one.
var modes = map[string]func(arguments []string) error{
	"idle":  idle,
	"fds":   listDescriptors,
	"flood": flood,
	"act":   func(a []string) error { return perform(a[0], a[1]) },
	"host":  hostRole,
	"drill": drillRole,
	"probe": probeRole,
}

func TestMain(m *testing.M) {
	jail.Main()
	if len(os.Args) > 1 && modes[os.Args[1]] != nil {
		if err := modes[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("test/jail: needs root")
		return 1
	}
	for program, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "busybox": "busybox-static"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("test/jail: %s is missing: apt-get install %s\n", program, pkg)
			return 1
		}
	}
	if self, err := elf.Open("/proc/self/exe"); err != nil || slices.ContainsFunc(self.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		fmt.Println("test/jail: the test program must be static, since it is what is jailed: CGO_ENABLED=0")
		return 1
	}
	before := leftovers()
	code := m.Run()
	if after := leftovers(); after != before {
		fmt.Printf("test/jail: left behind:\nbefore:\n%s\nafter:\n%s\n", before, after)
		return 1
	}
	return code
}

// leftovers are the mounts of this namespace and the control groups made for these tests.
func leftovers() string {
	all, _ := os.ReadFile("/proc/self/mounts")
	var mounts strings.Builder
	for line := range strings.Lines(string(all)) {
		// Those of other suites and builds on the same machine come and go meanwhile.
		if !slices.ContainsFunc([]string{"/carrel-desktop-", "/carrel-house-", "/carrel-netns", "/carrel-domain", "/mmdebstrap."}, func(s string) bool { return strings.Contains(line, s) }) {
			mounts.WriteString(line)
		}
	}
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/carrel-t-*", "/sys/fs/cgroup/*/*/carrel-t-*", "/sys/fs/cgroup/*/*/*/carrel-t-*", "/sys/fs/cgroup/carrel-t-*"} {
		found, _ := filepath.Glob(pattern)
		groups = append(groups, found...)
	}
	return mounts.String() + strings.Join(groups, "\n")
}

const (
	// jailedUID is what jailed programs run as, and userUID who jails without root.
	jailedUID = 64117
	userUID   = 64118
)

// idle keeps some threads until it is killed; it says when it has them.
func idle([]string) error {
	for range 4 {
		go func() {
			var r, w = 0, 0
			fds := make([]int, 2)
			if unix.Pipe(fds) == nil {
				r, w = fds[0], fds[1]
			}
			_ = w
			b := make([]byte, 1)
			_, _ = unix.Read(r, b) // A blocking call of its own: a thread of its own.
		}()
	}
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// listDescriptors prints which are open, without opening any.
func listDescriptors([]string) error {
	var open []int
	for fd := range 70000 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = append(open, fd)
		}
	}
	fmt.Print(open)
	return nil
}

func flood([]string) error {
	b := []byte(strings.Repeat("0123456789abcde\n", 4096))
	for range 64 {
		if _, err := os.Stdout.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// testBinary is a copy of this program that every user may execute.
func testBinary(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	name := filepath.Join(dir, "program")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// openDir is a directory that every user may enter: t.TempDir is not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "carrel-jail-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spec is a jail for a mode of the test binary.
func spec(program, name string, mode ...string) jail.Spec {
	return jail.Spec{Name: "t-" + name, Program: program, Args: mode, UID: jailedUID, GID: jailedUID, Env: []string{"GOMAXPROCS=2"}}
}

func fromJSON[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}
