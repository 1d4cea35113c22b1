package desktop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/memory"
)

func TestAMachineRunsInItsJailShowsItsScreenStopsResumesAndIsScrubbed(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := h.driver.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if m.State != driver.MachineRunning || m.MemoryBytes != guestMemory {
		t.Errorf("%+v", m)
	}
	again, err := h.driver.Start(ctx, spec)
	if err != nil || again.Run != m.Run {
		t.Errorf("started twice: %+v, %v", again, err)
	}
	jailed(t, h)
	if err := h.driver.Ready(ctx, desktop); err != nil {
		t.Error(err)
	}
	greeting(t, h)
	if _, err := h.volumes.Erase(ctx, spec.Root); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("a running machine's disk: %v", err)
	}
	if err := h.fabric.Detach(ctx, eni); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("a running machine's network: %v", err)
	}

	if m, err = h.driver.Stop(ctx, desktop); err != nil || m.State != driver.MachineStopped || m.MemoryBytes != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := h.driver.Connect(ctx, desktop); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("the screen of a stopped machine: %v", err)
	}
	before := again.Run
	if m, err = h.driver.Start(ctx, spec); err != nil || m.State != driver.MachineRunning || m.Run == before {
		t.Fatalf("resume: %+v, %v", m, err)
	}
	greeting(t, h)
	if _, err := os.Stat(filepath.Join(h.dir, "machines", string(desktop), "saved-memory")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("saved memory of a running machine: %v", err)
	}

	report, err := h.driver.Scrub(ctx, desktop)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Clean(); err != nil || report.MemoryBytes != guestMemory || report.ProcessBytes == 0 || report.Run != m.Run || report.WorkspaceID != desktop {
		t.Errorf("%+v, %v", report, err)
	}
	if twice, err := h.driver.Scrub(ctx, desktop); err != nil || !twice.Finished.Equal(report.Finished) {
		t.Errorf("%+v, %v", twice, err)
	}
	if _, err := h.driver.Start(ctx, spec); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("a scrubbed machine starts: %v", err)
	}
	for _, v := range []driver.VolumeID{spec.Root, spec.User} {
		if e, err := h.volumes.Erase(ctx, v); err != nil || !e.Verified {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if err := h.driver.Release(ctx, desktop); err != nil {
		t.Error(err)
	}
	if _, err := h.driver.Inspect(ctx, desktop); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if left, err := h.keeper.List(ctx); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
}

// jailed looks at the machine's process from outside (R7).
func jailed(t *testing.T, h *host) {
	t.Helper()
	pid := processOf(t, h)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal(err, tasks)
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // A thread that has ended.
		}
		status := string(b)
		for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(status, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
		if strings.Contains(status, "Uid:\t0\t") {
			t.Errorf("%s runs as root", path)
		}
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || bytes.Contains(cmdline, []byte(h.dir)) || bytes.Contains(cmdline, []byte("slirp")) || bytes.Contains(cmdline, []byte("type=user")) {
		t.Errorf("command line %q, %v", cmdline, err)
	}
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil || strings.Count(string(sockets), "\n") > 1 {
		t.Errorf("it listens or speaks on TCP: %s, %v", sockets, err)
	}
}

func processOf(t *testing.T, h *host) int {
	t.Helper()
	entries, err := h.keeper.List(t.Context())
	entries = slices.DeleteFunc(entries, func(e memory.Entry) bool { return e.Meta.Template })
	if err != nil || len(entries) != 1 || !entries[0].Alive {
		t.Fatalf("%+v, %v", entries, err)
	}
	return entries[0].Meta.PID
}

// greeting reads the first words of the screen.
func greeting(t *testing.T, h *host) {
	t.Helper()
	conn, err := h.driver.Connect(t.Context(), desktop)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "RFB 003.008\n" {
		t.Errorf("%q, %v", b, err)
	}
}
