package desktop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

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
	if os.Getenv(roleVariable) != "" {
		beHost(strings.Split(os.Getenv(roleVariable), " "))
	}
	os.Exit(m.Run())
}

const (
	desktop = ident.WorkspaceID("ws-000000001")
	eni     = ident.InterfaceID("eni-00000000000000001")
	vpc     = ident.VPCID("vpc-0a1b2c3d4e5f60718")
	bare    = ident.ImageID("wsi-000000001")
)

// need fails the test when a program is missing.
func need(t testing.TB, programs ...string) {
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
type blank struct {
	path string
	// changed: its content is another now.
	changed *atomic.Bool
}

func (b blank) OpenImage(_ context.Context, id ident.ImageID) (*driver.OpenImage, error) {
	if id != bare {
		return nil, driver.ErrNotFound
	}
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	digest := "blank"
	if b.changed.Load() {
		digest = "another blank"
	}
	return &driver.OpenImage{ID: id, Digest: digest, Disk: f, VirtualBytes: 1 << 20, Firmware: driver.FirmwareBIOS, MinMemoryMiB: 32}, nil
}

// host is everything that a host role has but Samba.
type host struct {
	dir     string
	images  driver.ImageOpener
	keeper  *memory.Keeper
	volumes *volume.Volumes
	fabric  *linuxnet.Fabric
	driver  *qemu.Driver
	log     *lines
	// memory is what the host gives out, in bytes; 4 GiB when 0.
	memory int64
	// noTemplates as in qemu.Config.
	noTemplates bool
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const guestMemory = 64 << 20

func newHost(t testing.TB, images driver.ImageOpener, size int64) *host {
	t.Helper()
	need(t, "qemu-system-x86_64", "qemu-img")
	// Unix sockets have short names.
	dir, err := os.MkdirTemp("", "carrel-desktop-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{dir: dir, images: images, log: &lines{}}
	if images == nil {
		disk := filepath.Join(dir, "blank.qcow2")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		h.images = blank{disk, new(atomic.Bool)}
	}
	h.open(t, size)
	t.Cleanup(func() {
		h.end(t)
		_ = os.RemoveAll(dir)
	})
	return h
}

func (h *host) open(t testing.TB, size int64) {
	t.Helper()
	if err := h.connect(t.Context(), size, nil); err != nil {
		t.Fatal(err)
	}
}

// connect makes this process the host role; observe as in qemu.Config.
func (h *host) connect(ctx context.Context, size int64, observe func(string)) error {
	var err error
	if h.keeper, err = memory.Connect(ctx, filepath.Join(h.dir, "memory")); err != nil {
		return err
	}
	keys, err := volume.OpenMaster(filepath.Join(h.dir, "master"), rand.Reader)
	if err != nil {
		return err
	}
	h.volumes, err = volume.Open(volume.Config{Dir: filepath.Join(h.dir, "volumes"), Images: h.images, Keys: keys, Tool: volume.QemuImg{}, Clock: clock.System{}, Random: rand.Reader})
	if err != nil {
		return err
	}
	if h.fabric, err = linuxnet.Open(linuxnet.Config{Dir: filepath.Join(h.dir, "net")}); err != nil {
		return err
	}
	give := h.memory
	if give == 0 {
		give = 4 << 30
	}
	h.driver, err = qemu.Open(ctx, qemu.Config{
		Dir: filepath.Join(h.dir, "machines"), Host: "test-host", Keeper: h.keeper, Volumes: h.volumes, Images: h.images, Taps: h.fabric, Keys: keys,
		Clock: clock.System{}, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(h.log, nil)), Accel: qemu.TCG,
		Size: func(string) (qemu.Size, bool) { return qemu.Size{Processors: 1, Memory: size}, true }, Memory: give, FirstUID: 64100, UIDs: 100,
		Observe: observe, NoTemplates: h.noTemplates,
	})
	return err
}

// leave ends this process's being the host role, as its end would.
func (h *host) leave(t testing.TB) {
	t.Helper()
	if err := errors.Join(h.driver.Close(), h.fabric.Close(), h.keeper.Close()); err != nil {
		t.Fatal(err)
	}
}

// end scrubs whatever is left and takes the network away.
func (h *host) end(t testing.TB) {
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
	if err := errors.Join(h.driver.RetireTemplates(ctx), h.fabric.RemoveNetwork(ctx, vpc), h.fabric.Close(), h.driver.Close(), h.keeper.Quit(ctx), h.keeper.Close()); err != nil {
		t.Error(err)
	}
}

// build makes what a machine needs and gives its spec.
func (h *host) build(t testing.TB, image ident.ImageID) driver.MachineSpec {
	t.Helper()
	return h.buildAs(t, desktop, eni, image)
}

// buildAs makes what another desktop's machine needs. The last digit of its id is in its address.
func (h *host) buildAs(t testing.TB, id ident.WorkspaceID, nic ident.InterfaceID, image ident.ImageID) driver.MachineSpec {
	t.Helper()
	var g errgroup.Group
	for _, s := range []driver.VolumeSpec{
		{ID: driver.VolumeOf(id, driver.RootVolume), WorkspaceID: id, Role: driver.RootVolume, GiB: 6, ImageID: image},
		{ID: driver.VolumeOf(id, driver.UserVolume), WorkspaceID: id, Role: driver.UserVolume, GiB: 1},
	} {
		g.Go(func() error {
			_, err := h.volumes.Create(t.Context(), s)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	digit := string(id[len(id)-1])
	if _, err := h.fabric.Attach(t.Context(), driver.NICSpec{InterfaceID: nic, WorkspaceID: id, VPC: vpc, Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1.1" + digit, MAC: "02:00:00:00:00:0" + digit,
		SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}); err != nil {
		t.Fatal(err)
	}
	return specOf(id, nic)
}

func machineSpec() driver.MachineSpec { return specOf(desktop, eni) }

func specOf(id ident.WorkspaceID, nic ident.InterfaceID) driver.MachineSpec {
	return driver.MachineSpec{WorkspaceID: id, Host: "test-host", ComputerName: "WSAMZN-0000000" + string(id[len(id)-1]), UserName: "ada", Compute: "STANDARD",
		Root: driver.VolumeOf(id, driver.RootVolume), User: driver.VolumeOf(id, driver.UserVolume), Interface: nic}
}
