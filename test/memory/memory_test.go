// Package memory_test scrubs the memory of a real QEMU.
package memory_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/memory"
)

const memoryMiB = 256

func TestMain(m *testing.M) {
	memory.KeeperMain()
	os.Exit(m.Run())
}

// emulator is a QEMU on a block, with a secret in its own heap.
type emulator struct {
	cmd *exec.Cmd
	qmp net.Conn
	in  *json.Decoder
}

// boot starts QEMU with the block as descriptor 3 and QMP as 4, and waits until the BIOS has written to memory.
func boot(t *testing.T, b *memory.Block, secret string) *emulator {
	t.Helper()
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal("qemu-system-x86_64 is missing: apt-get install qemu-system-x86")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "qmp"), os.NewFile(uintptr(pair[1]), "qmp")
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	t.Cleanup(func() { _ = conn.Close() })
	cmd := exec.Command(path, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,tb-size=32", "-cpu", "max", "-smp", "2",
		"-m", fmt.Sprint(memoryMiB), "-machine", "q35,memory-backend=ram,dump-guest-core=off", "-device", "VGA",
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=/proc/self/fd/3,share=on", memoryMiB),
		"-object", "secret,id=key0,data="+secret, "-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control")
	cmd.ExtraFiles = []*os.File{b.File(), theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	q := &emulator{cmd: cmd, qmp: conn, in: json.NewDecoder(conn)}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var hello json.RawMessage
	if err := q.in.Decode(&hello); err != nil {
		t.Fatal("QMP:", err)
	}
	q.do(t, `{"execute":"qmp_capabilities"}`)
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); bytes.Count(m[:1<<20], []byte{0}) == 1<<20; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the BIOS has written nothing")
		}
	}
	return q
}

// do sends a command and waits for its answer.
func (q *emulator) do(t *testing.T, command string) {
	t.Helper()
	if _, err := io.WriteString(q.qmp, command+"\n"); err != nil {
		t.Fatal("QMP:", err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  json.RawMessage
		}
		if err := q.in.Decode(&answer); err != nil {
			t.Fatal("QMP:", err)
		}
		if answer.Error != nil {
			t.Fatalf("QMP %s: %s", command, answer.Error)
		}
		if answer.Return != nil {
			return
		}
	}
}

// search counts text in everything that the process maps, the block aside.
func search(t *testing.T, pid int, text string) (n int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf := make([]byte, 4<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil || strings.Contains(line, "memfd:") || strings.Contains(line, "[v") || strings.Contains(line, " ---") {
			continue
		}
		for ; from < to; from += int64(len(buf)) - 4096 {
			got, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
			n += bytes.Count(buf[:got], []byte(text))
			if from+int64(len(buf)) >= to {
				break
			}
		}
	}
	return n
}

func connect(t *testing.T) *memory.Keeper {
	t.Helper()
	k, err := memory.Connect(context.Background(), filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Quit(context.Background()); err != nil {
			t.Error(err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// machine gives a running QEMU with a marker in guest memory and a secret in its heap, and a read-only view of the memory that outlives the scrub.
func machine(t *testing.T, k *memory.Keeper, marker string) (*emulator, []byte) {
	t.Helper()
	ctx := context.Background()
	b, err := memory.Allocate(memoryMiB<<20, memory.PagesSmall)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Put(ctx, "run-1", b, memory.Meta{WorkspaceID: "ws-abcdefgh1", Run: "run-1", Host: "host-1", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	q := boot(t, b, marker+"-in-the-heap")
	if err := k.SetProcess(ctx, "run-1", q.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := b.Populate(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for i := 2 << 20; i < len(m); i += 1 << 16 {
		copy(m[i:], marker)
	}
	view, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", b.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	w, err := unix.Mmap(int(view.Fd()), 0, len(m), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(w) })
	return q, w
}

func TestScrubOfARunningQEMULeavesNothing(t *testing.T) {
	k := connect(t)
	marker := fmt.Sprintf("MARKER-%d", time.Now().UnixNano())
	q, w := machine(t, k, marker)
	if n := bytes.Count(w, []byte(marker)); n < 4000 {
		t.Fatalf("control: the marker is %d times in guest memory", n)
	}
	if n := search(t, q.cmd.Process.Pid, marker); n == 0 {
		t.Fatal("control: the marker is not in QEMU's own memory")
	}
	r, err := k.Scrub(context.Background(), "run-1", memory.ScrubOptions{Rescan: true, Observe: func(point string) {
		if point == "process noted" { // Stopped and overwritten, and still there.
			if n := search(t, q.cmd.Process.Pid, marker); n != 0 {
				t.Errorf("the marker is %d times in QEMU after it was overwritten", n)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Clean(); err != nil {
		t.Error(err)
	}
	if r.ProcessEnded || r.ProcessBytes < 10<<20 || r.MemoryBytes != memoryMiB<<20 || r.Digest != memory.ZeroDigest(memoryMiB<<20) {
		t.Errorf("report %+v", r)
	}
	if n := len(w) - bytes.Count(w, []byte{0}); n != 0 {
		t.Errorf("%d bytes of guest memory are not zero", n)
	}
	t.Logf("%d MiB of QEMU and %d MiB of the guest in %s; not overwritten: %v", r.ProcessBytes>>20, r.MemoryBytes>>20, r.Finished.Sub(r.Started), r.ProcessSkipped)
}

func TestScrubAfterQEMUWasKilledSaysSo(t *testing.T) {
	k := connect(t)
	q, w := machine(t, k, "MARKER")
	if err := q.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = q.cmd.Wait()
	r, err := k.Scrub(context.Background(), "run-1", memory.ScrubOptions{})
	if err != nil || r.Clean() != nil || !r.ProcessEnded || r.ProcessBytes != 0 {
		t.Errorf("report %+v, %v: want an ended process", r, err)
	}
	if n := len(w) - bytes.Count(w, []byte{0}); n != 0 {
		t.Errorf("%d bytes of guest memory are not zero", n)
	}
}
