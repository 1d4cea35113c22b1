package desktop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// newSmallHost is a host on a file system of its own, of that many bytes.
func newSmallHost(t *testing.T, bytes int) *host {
	t.Helper()
	need(t, "qemu-system-x86_64", "qemu-img")
	dir, err := os.MkdirTemp("", "carrel-desktop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	h := &host{dir: dir, log: &lines{}}
	disk := filepath.Join(dir, "blank.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.images = blank{disk, new(atomic.Bool)}
	h.open(t, guestMemory)
	t.Cleanup(func() { h.end(t) })
	return h
}

// fill leaves that many bytes, and gives what makes space again.
func (h *host) fill(t *testing.T, left int) (free func()) {
	t.Helper()
	path := filepath.Join(h.dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if info, err := f.Stat(); err != nil || f.Truncate(info.Size()-int64(left)) != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// FLT: disk full.
func TestAFullDiskCostsNobodyTheirMachineOrItsMemory(t *testing.T) {
	h := newSmallHost(t, 64<<20)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	// At once, and in the middle of the saving.
	for _, left := range []int{0, 128 << 10} {
		free := h.fill(t, left)
		if m, err := h.driver.Stop(limited(t), desktop); !driver.OutOfSpace(err) {
			t.Fatalf("stopped with %d bytes left: %+v, %v", left, m, err)
		}
		state(t, h, driver.MachineRunning)
		if now := processOf(t, h); now != pid {
			t.Errorf("process %d was %d", now, pid)
		}
		if _, err := os.Stat(filepath.Join(h.dir, "machines", string(desktop), "saved-memory")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("half of the memory is there: %v", err)
		}
		if err := h.driver.Ready(limited(t), desktop); err != nil {
			t.Error(err)
		}
		greeting(t, h)
		free()
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	free := h.fill(t, 0)
	if m, err := h.driver.Start(limited(t), spec); !driver.OutOfSpace(err) {
		t.Errorf("started: %+v, %v", m, err)
	}
	state(t, h, driver.MachineStopped)
	if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
	free()
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Errorf("%+v, %v", m, err)
	}
	greeting(t, h)
}

func TestATemplateThatFindsNoSpaceLeavesNothing(t *testing.T) {
	h := newSmallHost(t, 64<<20)
	for _, left := range []int{0, 16 << 10, 128 << 10} {
		free := h.fill(t, left)
		if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); !driver.OutOfSpace(err) {
			t.Errorf("with %d bytes left: %v", left, err)
		}
		if dirs, err := filepath.Glob(filepath.Join(h.dir, "machines", "templates", "*")); err != nil || len(dirs) != 0 {
			t.Errorf("with %d bytes left there is %v, %v", left, dirs, err)
		}
		if held, err := h.keeper.List(t.Context()); err != nil || len(held) != 0 {
			t.Errorf("memory left: %+v, %v", held, err)
		}
		free()
	}
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// writer is a boot sector that writes its disk full, from the second MiB on: INT 13h, function 43h, 64 sectors of the firmware's own code at a time.
var writer = append([]byte{
	0xfa,       // cli
	0x31, 0xc0, // xor ax, ax
	0x8e, 0xd8, // mov ds, ax
	0x8e, 0xc0, // mov es, ax
	0x8e, 0xd0, // mov ss, ax
	0xbc, 0x00, 0x7c, // mov sp, 7c00h
	0xfb,             // sti
	0xbe, 0x20, 0x7c, // mov si, 7c20h
	0xb8, 0x00, 0x43, // mov ax, 4300h
	0xcd, 0x13, // int 13h
	0x66, 0x83, 0x06, 0x28, 0x7c, 0x40, // add dword [7c28h], 64
	0xeb, 0xf0, // jmp to mov si
	0, 0, 0,
	// The packet at 7c20h: its size, 64 sectors, from f000:0000, to sector 2048.
	0x10, 0, 64, 0, 0, 0, 0x00, 0xf0, 0, 8, 0, 0, 0, 0, 0, 0,
}, append(make([]byte, 510-48), 0x55, 0xaa)...)

// FLT: disk full under a guest that writes. It stands still, which its person sees, and loses nothing; with space it goes on by itself.
func TestAGuestThatFindsNoSpaceWaitsForIt(t *testing.T) {
	h := newSmallHost(t, 64<<20)
	raw := filepath.Join(h.dir, "writer")
	if err := os.WriteFile(raw, append(writer, make([]byte, 1<<20-512)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, h.images.(blank).path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	spec := h.build(t, bare)
	free := h.fill(t, 8<<20)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	eventually(t, "the guest waits", func() bool { return strings.Contains(h.log.String(), "waits for space") })
	state(t, h, driver.MachineRunning)
	greeting(t, h)
	stood := used(t, h)
	// A new host role finds it waiting, and lets it wait.
	h.leave(t)
	h.open(t, guestMemory)
	state(t, h, driver.MachineRunning)
	free()
	eventually(t, "the guest writes on", func() bool { return used(t, h) > stood+(4<<20) })
	if now := processOf(t, h); now != pid {
		t.Errorf("process %d was %d", now, pid)
	}
	if report, err := h.driver.Scrub(limited(t), desktop); err != nil || report.Clean() != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

// used is how much of the file system the root disk has.
func used(t *testing.T, h *host) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(h.dir, "volumes", string(desktop), "root", "disk.qcow2"), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// The control plane is killed, or a browser closed, in the middle of a call: the caller goes away, and nobody's machine with it.
func TestACallerThatGoesAwayCostsNobodyTheirMachine(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		stop := time.AfterFunc(time.Duration(i)*25*time.Microsecond, cancel)
		if conn, err := h.driver.Connect(ctx, desktop); err == nil {
			_ = conn.Close()
		}
		stop.Stop()
		cancel()
	}
	state(t, h, driver.MachineRunning)
	greeting(t, h)
	h.leave(t)
	ctx, cancel := context.WithCancel(t.Context())
	if err := h.connect(t.Context(), guestMemory, func(point string) {
		if point == "paused" {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if m, err := h.driver.Stop(ctx, desktop); !errors.Is(err, context.Canceled) {
		t.Fatalf("%+v, %v", m, err)
	}
	state(t, h, driver.MachineRunning)
	greeting(t, h)
	if now := processOf(t, h); now != pid {
		t.Errorf("process %d was %d", now, pid)
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Errorf("%+v, %v", m, err)
	}
	greeting(t, h)
}
