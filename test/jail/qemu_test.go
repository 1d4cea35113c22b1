package jail

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
	"carrel/internal/driver/qmp"
	"carrel/internal/driver/volume"
)

// The sandbox of QEMU itself, as every machine gets it (VMM-2).
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// startQEMU starts QEMU in a jail with a monitor on descriptor 3 and files from 4, and gives a client of it.
func startQEMU(t *testing.T, name string, arguments []string, files ...*os.File) (*jail.Process, *qmp.Client) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "monitor"), os.NewFile(uintptr(fds[1]), "monitor")
	defer ours.Close()
	defer theirs.Close()
	program, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s := spec(program, name, append([]string{"-sandbox", sandbox, "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"}, arguments...)...)
	s.Files = append([]*os.File{theirs}, files...)
	s.ReadOnly, s.Proc, s.Stderr, s.Limits.Memory = jail.SystemLibraries(), true, &said, 1<<30
	p, err := jail.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	end := func() {
		_ = p.Kill()
		if exit, err := p.Wait(context.Background()); err != nil || t.Failed() {
			t.Logf("qemu: %s, %v: %s", exit, err, said.String())
		}
	}
	t.Cleanup(end)
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close() // Else its end would go unnoticed.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, greeting, err := qmp.Connect(ctx, conn, qmp.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if greeting.Major < 7 {
		t.Errorf("greeting %+v", greeting)
	}
	return p, c
}

func TestVMM2QEMURunsInTheJailWithItsOwnSandboxAndAnswers(t *testing.T) {
	for _, machine := range [][]string{
		{"-machine", "none"},
		{"-machine", "q35,dump-guest-core=off", "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "max", "-smp", "2", "-m", "64M", "-S"},
	} {
		t.Run(machine[1], func(t *testing.T) {
			p, c := startQEMU(t, "qemu", machine)
			var s struct{ Status string }
			if err := c.Execute(t.Context(), "query-status", nil, &s); err != nil || s.Status == "" {
				t.Fatalf("%+v, %v", s, err)
			}
			threads := status(t, p.PID())
			for _, fields := range threads {
				if fields["Seccomp"] != "2" || fields["Seccomp_filters"] != "2" || fields["CapEff"] != "0000000000000000" || fields["NoNewPrivs"] != "1" {
					t.Errorf("thread %s: %v", fields["Pid"], fields)
				}
			}
			t.Logf("%d threads, status %s, walls %+v", len(threads), s.Status, p.Walls())
			// QEMU may be gone before its answer to this is read.
			if err := c.Execute(t.Context(), "quit", nil, nil); err != nil && !errors.Is(err, qmp.ErrClosed) {
				t.Error(err)
			}
			if exit, err := p.Wait(t.Context()); err != nil || exit.Code != 0 || exit.Signal != 0 {
				t.Errorf("%s, %v", exit, err)
			}
		})
	}
}

func TestQEMUUsesMemoryAndADiskByDescriptorAndNothingElse(t *testing.T) {
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	defer memory.Close()
	if err := memory.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	_, c := startQEMU(t, "qemu-files", []string{"-accel", "tcg,tb-size=32", "-m", "64M", "-S",
		"-object", "memory-backend-file,id=ram,size=64M,mem-path=/proc/self/fd/4,share=on", "-machine", "q35,memory-backend=ram"}, memory)
	if err := c.AddFD(t.Context(), 1, "disk", disk); err != nil {
		t.Fatal(err)
	}
	type file struct {
		Driver   string `json:"driver"`
		Node     string `json:"node-name"`
		Filename string `json:"filename"`
		Locking  string `json:"locking"`
	}
	if err := c.Execute(t.Context(), "blockdev-add", file{"file", "disk", "/dev/fdset/1", "off"}, nil); err != nil {
		t.Error(err)
	}
	// VMM-5: a monitor in wrong hands opens nothing of the host.
	if err := c.Execute(t.Context(), "blockdev-add", file{"file", "stolen", "/etc/shadow", "off"}, nil); !qmp.IsClass(err, "GenericError") {
		t.Errorf("/etc/shadow: %v", err)
	}
	// VMM-4: a name is a name, whatever is in it.
	for _, name := range []string{"a,driver=raw", "a\"b", "a\nb", "/dev/fdset/1,x", `{"execute":"quit"}`} {
		if err := c.Execute(t.Context(), "blockdev-add", file{"file", "other", name, "off"}, nil); !qmp.IsClass(err, "GenericError") {
			t.Errorf("%q: %v", name, err)
		}
	}
	var nodes []struct {
		Node string `json:"node-name"`
	}
	if err := c.Execute(t.Context(), "query-named-block-nodes", nil, &nodes); err != nil || len(nodes) != 1 || nodes[0].Node != "disk" {
		t.Errorf("nodes %v, %v", nodes, err)
	}
}

func TestVMM2AMigrationThatExecutesIsTheEndOfQEMU(t *testing.T) {
	p, c := startQEMU(t, "qemu-exec", []string{"-machine", "q35", "-accel", "tcg,tb-size=32", "-m", "64M", "-S"})
	type uri struct {
		URI string `json:"uri"`
	}
	err := c.Execute(t.Context(), "migrate", uri{"exec:echo"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if exit, waited := p.Wait(ctx); waited != nil || !exit.Seccomp {
		t.Errorf("migrate: %v; %s, %v", err, exit, waited)
	}
}

// qemuImg runs qemu-img in a jail on a file given open as descriptor 3.
func qemuImg(t *testing.T, disk *os.File, arguments ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := spec(program, "qemu-img", arguments...)
	s.Files, s.ReadOnly, s.Proc, s.Stdout = []*os.File{disk}, jail.SystemLibraries(), true, &out
	s.Limits = jail.Limits{Memory: 512 << 20, FileSize: 1 << 30}
	err = jail.Run(t.Context(), s)
	return out.String(), err
}

func TestVMM3QemuImgWorksOnADescriptorAndReachesNoOtherFile(t *testing.T) {
	dir := openDir(t)
	name := filepath.Join(dir, "disk")
	disk, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	// It is opened again through /proc, so the mode must let the jail's uid.
	if err := disk.Chown(jailedUID, jailedUID); err != nil {
		t.Fatal(err)
	}
	if out, err := qemuImg(t, disk, "create", "-q", "-f", "qcow2", "/proc/self/fd/3", "16M"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, err := qemuImg(t, disk, "info", "--output=json", "-f", "qcow2", "/proc/self/fd/3")
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if info := fromJSON[map[string]any](t, []byte(out)); info["virtual-size"] != float64(16<<20) {
		t.Errorf("%v", info)
	}
	// The same file without the right to write is not written, though its mode would let.
	reader, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if out, err := qemuImg(t, reader, "resize", "-f", "qcow2", "/proc/self/fd/3", "32M"); err == nil {
		t.Errorf("written through a descriptor for reading: %s", out)
	}
	// A backing file of the host (CVE-2024-4467's kind): refused, whatever the image says.
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("secret", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := exec.Command("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, b)
	}
	if out, err := qemuImg(t, disk, "map", "--output=json", "-f", "qcow2", "/proc/self/fd/3"); err == nil {
		t.Errorf("the backing file was opened: %s", out)
	}
}

func BenchmarkStart(b *testing.B) {
	s := spec("/bin/busybox", "bench-"+strconv.Itoa(os.Getpid()), "true")
	for b.Loop() {
		if err := jail.Run(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDisksAreFormattedByAToolInTheJail(t *testing.T) {
	tool := &jail.Tool{Name: "t-tool", UID: jailedUID, GID: jailedUID, Limits: jail.Limits{Memory: 512 << 20}}
	img := volume.QemuImg{Run: tool.Run}
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	key := []byte("0123456789abcdef0123456789abcdef")
	if err := img.Format(t.Context(), disk, 16<<20, key); err != nil {
		t.Fatal(err)
	}
	if err := img.Try(t.Context(), disk, key); err != nil {
		t.Errorf("the key does not open it: %v", err)
	}
	if err := img.Try(t.Context(), disk, []byte("another")); !errors.Is(err, volume.ErrRefused) {
		t.Errorf("another key: %v", err)
	}
	if err := img.Kill(t.Context(), disk, key); err != nil {
		t.Error(err)
	}
	if err := img.Try(t.Context(), disk, key); !errors.Is(err, volume.ErrRefused) {
		t.Errorf("the killed key: %v", err)
	}
	info, err := disk.Stat()
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the disk was not given back: %+v, %v", info.Sys(), err)
	}
	var e *jail.ExitError
	if out, err := tool.Run(t.Context(), "qemu-img", []string{"info", "/etc/passwd"}, nil); !errors.As(err, &e) || !strings.Contains(string(out), "No such file") {
		t.Errorf("%v %s", err, out)
	}
}
