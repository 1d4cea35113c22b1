package desktop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/driver/qemu"
)

// The host role is gone from one moment to the next; the machines do not notice.
func TestANewHostRoleGoesOnWithTheMachinesOfTheOldOne(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	m, err := h.driver.Start(limited(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	for range 2 {
		h.leave(t)
		begin := time.Now()
		h.open(t, guestMemory)
		t.Logf("a host role with one machine opens in %s", time.Since(begin))
		now, err := h.driver.Inspect(t.Context(), desktop)
		if err != nil || now.State != driver.MachineRunning || now.Run != m.Run || now.MemoryBytes != guestMemory || !now.Since.Equal(m.Since) {
			t.Errorf("%+v, %v: was %+v", now, err, m)
		}
		if got := processOf(t, h); got != pid {
			t.Errorf("process %d, was %d", got, pid)
		}
		greeting(t, h)
		if err := h.driver.Ready(limited(t), desktop); err != nil {
			t.Error(err)
		}
	}
	if again, err := h.driver.Start(limited(t), spec); err != nil || again.Run != m.Run {
		t.Errorf("started again: %+v, %v", again, err)
	}
	if again, err := h.driver.Reboot(limited(t), desktop, 1); err != nil || again.Run != m.Run {
		t.Errorf("reboot: %+v, %v", again, err)
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	if again, err := h.driver.Start(limited(t), spec); err != nil || again.State != driver.MachineRunning || again.Run == m.Run {
		t.Errorf("resumed: %+v, %v", again, err)
	}
	greeting(t, h)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.ProcessBytes == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAMachineThatEndedWhileNobodyLookedIsScrubbedByTheNextHostRole(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if _, err := h.driver.Start(limited(t), h.build(t, bare)); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	h.leave(t)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.open(t, guestMemory)
	state(t, h, driver.MachineFailed)
	if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.MemoryBytes != guestMemory || !report.ProcessEnded {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAMachineThatDoesNotAnswerItsNewHostRoleIsScrubbed(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if _, err := h.driver.Start(limited(t), h.build(t, bare)); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	h.leave(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.open(t, guestMemory)
	state(t, h, driver.MachineFailed)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.ProcessBytes == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// Nobody is left who has the memory: the keeper and the machine were killed while no host role ran. That is never certified, and keeps nobody
// from their desktop.
func TestLostMemoryIsNeverCertifiedAndTheDesktopStartsAnew(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	pid := processOf(t, h)
	h.leave(t)
	for _, p := range []int{pid, keeperOf(t, h)} {
		if err := unix.Kill(p, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gone(t, p)
	}
	h.open(t, guestMemory)
	state(t, h, driver.MachineFailed)
	if report, err := h.driver.Scrub(limited(t), desktop); !errors.Is(err, driver.ErrUnclean) || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("%+v, %v", report, err)
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	if report, err := h.driver.Scrub(limited(t), desktop); err != nil || report.Clean() != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

// keeperOf finds the keeper of this host by where it writes its complaints.
func keeperOf(t *testing.T, h *host) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/fd/2")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, _ := os.Readlink(l); to == filepath.Join(h.dir, "memory", "keeper.log") {
			pid, err := strconv.Atoi(strings.Split(l, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("no keeper runs")
	return 0
}

// gone waits for the end of a process; a child of this one may stay as a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d has not ended", pid)
		}
	}
}

const roleVariable = "CARREL_DESKTOP_TEST_ROLE"

// beHost is a host role that is killed at a point: the directory, what it does, and the point.
func beHost(say []string) {
	dir, act, point := say[0], say[1], strings.ReplaceAll(say[2], "_", " ")
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "host role:", err)
			os.Exit(3)
		}
	}
	armed := false
	h := &host{dir: dir, images: blank{dir + "/blank.qcow2", new(atomic.Bool)}}
	h.log = &lines{}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	must(h.connect(ctx, guestMemory, func(p string) {
		if armed && p == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}))
	spec := machineSpec()
	do := func(act string) {
		var err error
		switch act {
		case "template":
			err = h.driver.MakeTemplate(ctx, bare, "STANDARD")
		case "start":
			_, err = h.driver.Start(ctx, spec)
		case "stop":
			_, err = h.driver.Stop(ctx, desktop)
		case "scrub":
			_, err = h.driver.Scrub(ctx, desktop)
		}
		must(err)
	}
	acts := strings.Split(act, ",")
	for _, a := range acts[:len(acts)-1] {
		do(a)
	}
	armed = true
	do(acts[len(acts)-1])
	must(errors.New("the point " + point + " was not reached"))
}

// FLT: the host role is killed at every step of start, resume, stop and scrub. The next one finds a machine that runs, is stopped, has failed clean, is
// scrubbed or was never made, and goes on from there; no memory is left at the end.
func TestTheHostRoleIsKilledAtEveryStepAndTheNextOneGoesOn(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	after := func(points []string, first string) []string { return points[slices.Index(points, first):] }
	for _, c := range []struct {
		act    string
		points []string
		// want is the state that the next host role finds; "" is none. From a point on it is another.
		want map[string]driver.MachineState
	}{
		{"start", qemu.Points.Start, map[string]driver.MachineState{"recorded": "", "running noted": driver.MachineRunning}},
		{"start,stop,start", after(qemu.Points.Resume, "held"), map[string]driver.MachineState{"held": driver.MachineStopped, "running noted": driver.MachineRunning}},
		{"start,stop", qemu.Points.Stop, map[string]driver.MachineState{"paused": driver.MachineRunning, "saved noted": driver.MachineStopped}},
		{"start,scrub", qemu.Points.Scrub, map[string]driver.MachineState{"begun": driver.MachineFailed, "scrubbed noted": driver.MachineScrubbed}},
	} {
		want := driver.MachineState("")
		for _, point := range c.points {
			if w, ok := c.want[point]; ok {
				want = w
			}
			if t.Failed() {
				return
			}
			t.Run(c.act+" "+point, func(t *testing.T) {
				h.leave(t)
				killed(t, h.dir, c.act, point)
				h.open(t, guestMemory)
				m, err := h.driver.Inspect(t.Context(), desktop)
				if want == "" && !errors.Is(err, driver.ErrNotFound) || want != "" && (err != nil || m.State != want) {
					t.Errorf("%+v, %v: want %q\n%s", m, err, want, h.log)
				}
				left, err := h.keeper.List(t.Context())
				if err != nil || len(left) > 0 != (want == driver.MachineRunning) {
					t.Errorf("memory of a machine that is %q: %+v, %v", want, left, err)
				}
				goOn(t, h, spec, want)
			})
		}
	}
}

// killed runs a host role that kills itself at a point.
func killed(t *testing.T, dir, act, point string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join([]string{dir, act, strings.ReplaceAll(point, " ", "_")}, " "))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the host role ended with %v: %s", err, out)
	}
}

// goOn uses the machine that a killed host role has left, and ends it.
func goOn(t *testing.T, h *host, spec driver.MachineSpec, found driver.MachineState) {
	t.Helper()
	if found != driver.MachineScrubbed && found != driver.MachineFailed {
		m, err := h.driver.Start(limited(t), spec)
		if err != nil || m.State != driver.MachineRunning {
			t.Fatalf("start: %+v, %v", m, err)
		}
		greeting(t, h)
	}
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := h.driver.Release(t.Context(), desktop); err != nil {
		t.Error(err)
	}
	if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
}
