package desktop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qemu"
	"carrel/internal/driver/volume"
	"carrel/internal/ident"
)

func TestMain(m *testing.M) {
	jail.Main()
	memory.KeeperMain()
	os.Exit(m.Run())
}

const (
	desktop = ident.WorkspaceID("ws-000000001")
	eni     = ident.InterfaceID("eni-00000000000000001")
	vpc     = ident.VPCID("vpc-0a1b2c3d4e5f60718")
	bare    = ident.ImageID("wsi-000000001")
)

// need fails the test when a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests need root: namespaces, taps and machines of their own users")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: run test/need", p)
		}
	}
}

// blank is a host with one image: an empty disk that the BIOS finds nothing on. A machine of it runs firmware, which is all that its
// memory, its jail and its screen need.
type blank struct{ path string }

func (b blank) OpenImage(_ context.Context, id ident.ImageID) (*driver.OpenImage, error) {
	if id != bare {
		return nil, driver.ErrNotFound
	}
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	return &driver.OpenImage{ID: id, Digest: "blank", Disk: f, VirtualBytes: 1 << 20, Firmware: driver.FirmwareBIOS, MinMemoryMiB: 32}, nil
}

// host is everything that a host role has but Samba.
type host struct {
	dir     string
	images  driver.ImageOpener
	keeper  *memory.Keeper
	volumes *volume.Volumes
	fabric  *linuxnet.Fabric
	driver  *qemu.Driver
	log     *bytes.Buffer
}

const guestMemory = 64 << 20

func newHost(t *testing.T, images driver.ImageOpener, size int64) *host {
	t.Helper()
	need(t, "qemu-system-x86_64", "qemu-img")
	// Unix sockets have short names.
	dir, err := os.MkdirTemp("", "carrel-desktop-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{dir: dir, images: images, log: &bytes.Buffer{}}
	if images == nil {
		disk := filepath.Join(dir, "blank.qcow2")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		h.images = blank{disk}
	}
	h.open(t, size)
	t.Cleanup(func() {
		h.end(t)
		_ = os.RemoveAll(dir)
	})
	return h
}

func (h *host) open(t *testing.T, size int64) {
	t.Helper()
	ctx := t.Context()
	var err error
	if h.keeper, err = memory.Connect(ctx, filepath.Join(h.dir, "memory")); err != nil {
		t.Fatal(err)
	}
	keys, err := volume.OpenMaster(filepath.Join(h.dir, "master"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h.volumes, err = volume.Open(volume.Config{Dir: filepath.Join(h.dir, "volumes"), Images: h.images, Keys: keys, Tool: volume.QemuImg{}, Clock: clock.System{}, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if h.fabric, err = linuxnet.Open(linuxnet.Config{Dir: filepath.Join(h.dir, "net")}); err != nil {
		t.Fatal(err)
	}
	h.driver, err = qemu.Open(ctx, qemu.Config{
		Dir: filepath.Join(h.dir, "machines"), Host: "test-host", Keeper: h.keeper, Volumes: h.volumes, Images: h.images, Taps: h.fabric, Keys: keys,
		Clock: clock.System{}, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(h.log, nil)), Accel: qemu.TCG,
		Size: func(string) (qemu.Size, bool) { return qemu.Size{Processors: 1, Memory: size}, true }, Memory: 4 << 30, FirstUID: 64100, UIDs: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// end scrubs whatever is left and takes the network away.
func (h *host) end(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	machines, err := h.driver.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, m := range machines {
		if _, err := h.driver.Scrub(ctx, m.WorkspaceID); err != nil {
			t.Error(err)
		}
	}
	nics, err := h.fabric.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, n := range nics {
		if err := h.fabric.Detach(ctx, n.InterfaceID); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(h.keeper.Quit(ctx), h.keeper.Close()); err != nil {
		t.Error(err)
	}
}

// build makes what a machine needs and gives its spec.
func (h *host) build(t *testing.T, image ident.ImageID) driver.MachineSpec {
	t.Helper()
	for _, s := range []driver.VolumeSpec{
		{ID: driver.VolumeOf(desktop, driver.RootVolume), WorkspaceID: desktop, Role: driver.RootVolume, GiB: 4, ImageID: image},
		{ID: driver.VolumeOf(desktop, driver.UserVolume), WorkspaceID: desktop, Role: driver.UserVolume, GiB: 1},
	} {
		if _, err := h.volumes.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.fabric.Attach(t.Context(), driver.NICSpec{InterfaceID: eni, WorkspaceID: desktop, VPC: vpc, Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1.10", MAC: "02:00:00:00:00:01",
		SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}); err != nil {
		t.Fatal(err)
	}
	return driver.MachineSpec{WorkspaceID: desktop, Host: "test-host", ComputerName: "WSAMZN-00000001", UserName: "ada", Compute: "STANDARD",
		Root: driver.VolumeOf(desktop, driver.RootVolume), User: driver.VolumeOf(desktop, driver.UserVolume), Interface: eni}
}

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
