package desktop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// state waits until the machine is seen in a state: the end of a process is seen a moment after it.
func state(t *testing.T, h *host, want driver.MachineState) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		m, err := h.driver.Inspect(t.Context(), desktop)
		if err == nil && m.State == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v: want %s", m, err, want)
		}
	}
}

func TestAKilledMachineIsScrubbedBeforeItStartsAnew(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	first, err := h.driver.Start(limited(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(processOf(t, h), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	state(t, h, driver.MachineFailed)
	if _, err := h.driver.Reboot(limited(t), desktop, 1); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("reboot: %v", err)
	}
	if err := h.driver.Ready(limited(t), desktop); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("ready: %v", err)
	}
	second, err := h.driver.Start(limited(t), spec)
	if err != nil || second.Run == first.Run || second.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", second, err)
	}
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Run != second.Run || report.Clean() != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAKilledMachineCanBeScrubbedAndTheReportSaysThatItsProcessWasGone(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if _, err := h.driver.Start(limited(t), h.build(t, bare)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(processOf(t, h), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	state(t, h, driver.MachineFailed)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.ProcessBytes != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAHungMachineDoesNotKeepAnybodyAndIsScrubbedWhileItHangs(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if _, err := h.driver.Start(limited(t), h.build(t, bare)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(processOf(t, h), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := h.driver.Connect(short, desktop); err == nil {
		t.Error("a hung machine shows its screen")
	}
	state(t, h, driver.MachineFailed)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

// Only the thread that answers QMP stops; the guest's processor has its own, and goes on.
func TestAMachineWhoseMonitorIsSilentCountsAsFailedAndIsScrubbed(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	silence(t, processOf(t, h))
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := h.driver.Reboot(short, desktop, 1); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("reboot: %v", err)
	}
	state(t, h, driver.MachineFailed)
	if _, err := h.driver.Connect(limited(t), desktop); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("its screen: %v", err)
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	greeting(t, h)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.ProcessBytes == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// silence stops the first thread of a process, as its tracer.
func silence(t *testing.T, pid int) {
	t.Helper()
	stopped := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // The tracer is this thread, which ends with the goroutine.
		err := unix.PtraceSeize(pid)
		if err == nil {
			err = unix.PtraceInterrupt(pid)
		}
		if err == nil {
			_, err = unix.Wait4(pid, nil, unix.WALL, nil)
		}
		stopped <- err
		if err == nil {
			_, _ = unix.Wait4(pid, nil, unix.WALL, nil) // Until it is killed: a tracer is told first.
		}
	}()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestAMachineThatRefusesToStartLeavesNothingAndSaysWhy(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	image := h.images.(blank)
	if err := os.WriteFile(image.path, []byte("not a qcow2 file at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.driver.Start(limited(t), spec)
	if err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("%v", err)
	}
	if _, err := h.driver.Inspect(t.Context(), desktop); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
	if _, err := h.volumes.Erase(t.Context(), spec.Root); err != nil {
		t.Errorf("its disk is still held: %v", err)
	}
}

func TestAStoppedMachineOutlivesItsHostRoleAndResumes(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	h.leave(t)
	h.open(t, guestMemory)
	// The next QEMU may have another newest machine type; what was saved needs its own.
	model := modelOf(t, h)
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Errorf("%+v, %v", m, err)
	}
	if line := commandLine(t, h); !strings.Contains(line, "\x00-machine\x00"+model+",") {
		t.Errorf("a machine that was saved as %s goes on as %q", model, line)
	}
	greeting(t, h)
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || len(report.Keys) != 1 {
		t.Errorf("the report of a stopped machine: %+v, %v", report, err)
	}
}

func TestSavedMemoryThatIsDamagedNeverRuns(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, "machines", string(desktop), "saved-memory")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{"cut off": good[:len(good)-1], "changed": append(append([]byte(nil), good[:len(good)/2]...), append([]byte{good[len(good)/2] ^ 1}, good[len(good)/2+1:]...)...), "another file": []byte("nothing")} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.driver.Start(limited(t), spec); driver.AsPermanent(err) == nil || driver.AsPermanent(err).Code != "SavedMemoryDamaged" {
			t.Errorf("%s: %v", what, err)
		}
		if m, err := h.driver.Inspect(t.Context(), desktop); err != nil || m.State != driver.MachineStopped {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("%s: memory left: %+v, %v", what, left, err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("what was saved: %+v, %v", m, err)
	}
	greeting(t, h)
}

// machineRecord is what the driver remembers of the desktop.
func machineRecord(t *testing.T, h *host) (r struct {
	Model   string
	Process struct{ PID int }
}) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "machines", string(desktop), "machine.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func modelOf(t *testing.T, h *host) string {
	t.Helper()
	model := machineRecord(t, h).Model
	if !strings.HasPrefix(model, "pc-q35-") {
		t.Errorf("the machine's model is %q", model)
	}
	return model
}

// commandLine is that of the desktop's QEMU.
func commandLine(t *testing.T, h *host) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", machineRecord(t, h).Process.PID))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
