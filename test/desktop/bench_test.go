package desktop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qemu"
	"carrel/internal/driver/volume"
	"carrel/internal/ident"
)

// copies are volumes that are all copies of one disk, because making a disk takes longer than all that is measured here.
type copies struct {
	dir, disk string
	key       []byte
	image     driver.ImageOpener
}

func (c *copies) OpenVolume(ctx context.Context, id driver.VolumeID) (*driver.OpenVolume, error) {
	path := filepath.Join(c.dir, hex.EncodeToString([]byte(id)))
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		b, err := os.ReadFile(c.disk)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	o := &driver.OpenVolume{ID: id, GiB: 1, File: f, Passphrase: append([]byte(nil), c.key...)}
	if filepath.Base(string(id)) == string(driver.RootVolume) {
		image, err := c.image.OpenImage(ctx, bare)
		if err != nil {
			return nil, err
		}
		o.ImageID, o.Backing = bare, []*os.File{image.Disk}
	}
	return o, nil
}

// P13, second half: a new host role takes over fifty machines that run. Nothing of it stops them.
func BenchmarkAHostRoleTakesOverFiftyMachines(b *testing.B) {
	const many, size = 50, 32 << 20
	h := newHost(b, nil, size)
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		b.Fatal(err)
	}
	v := &copies{dir: b.TempDir(), disk: filepath.Join(h.dir, "disk.qcow2"), key: hex.AppendEncode(nil, key), image: h.images}
	f, err := os.OpenFile(v.disk, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(volume.QemuImg{}.Format(b.Context(), f, 1<<30, v.key), f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	machines := func() {
		keys, err := volume.OpenMaster(filepath.Join(h.dir, "master"), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		h.driver, err = qemu.Open(b.Context(), qemu.Config{
			Dir: filepath.Join(h.dir, "many"), Host: "test-host", Keeper: h.keeper, Volumes: v, Images: h.images, Taps: h.fabric, Keys: keys,
			Clock: clock.System{}, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(h.log, nil)), Accel: qemu.TCG,
			Size: func(string) (qemu.Size, bool) { return qemu.Size{Processors: 1, Memory: size}, true }, Memory: 8 << 30, FirstUID: 64100, UIDs: 100,
		})
		if err != nil {
			b.Fatal(err)
		}
		took = time.Since(began)
	}
	machines()
	for i := range many {
		id, nic := ident.WorkspaceID(fmt.Sprintf("ws-%09d", i)), ident.InterfaceID(fmt.Sprintf("eni-%017d", i))
		if _, err := h.fabric.Attach(b.Context(), driver.NICSpec{InterfaceID: nic, WorkspaceID: id, VPC: vpc, Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1." + strconv.Itoa(10+i),
			MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}); err != nil {
			b.Fatal(err)
		}
		spec := specOf(id, nic)
		if _, err := h.driver.Start(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		if err := errors.Join(h.driver.Close(), h.keeper.Close()); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if h.keeper, err = memory.Connect(b.Context(), filepath.Join(h.dir, "memory")); err != nil {
			b.Fatal(err)
		}
		keeper := time.Since(began)
		b.StartTimer()
		machines()
		b.StopTimer()
		all, err := h.driver.List(b.Context())
		if err != nil || len(all) != many {
			b.Fatalf("%d machines, %v", len(all), err)
		}
		for _, m := range all {
			if m.State != driver.MachineRunning {
				b.Fatalf("%+v: %s", m, h.log)
			}
		}
		b.ReportMetric((keeper+took).Seconds()*1000, "ms/50-machines")
		b.ReportMetric(keeper.Seconds()*1000, "ms/keeper")
		b.StartTimer()
	}
}
