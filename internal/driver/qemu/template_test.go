package qemu

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// A machine from a template has no network card and no user volume until its state is loaded; then it gets them in the very places where a machine
// from its disk has them.
func TestAMachineFromATemplateGetsItsCardAndVolumeLater(t *testing.T) {
	devices := func(late bool) (first, then map[string]map[string]any) {
		h := machineOf(t)
		h.late, h.incoming = late, late
		c := h.build()
		first, then = map[string]map[string]any{}, map[string]map[string]any{}
		for i, a := range c.args {
			if a != "-device" {
				continue
			}
			var d map[string]any
			if err := json.Unmarshal([]byte(c.args[i+1]), &d); err != nil {
				t.Fatal(err)
			}
			id, _ := d["id"].(string)
			if name, port := d["name"].(string); port { // Ports have no id.
				id = name
			}
			first[id] = d
		}
		for _, call := range c.calls {
			b, err := json.Marshal(call.arguments)
			if err != nil || call.name == "" {
				t.Fatal(call, err)
			}
			var d map[string]any
			if err := json.Unmarshal(b, &d); err != nil {
				t.Fatal(err)
			}
			if call.name == "device_add" {
				then[d["id"].(string)] = d
			}
		}
		if line := strings.Join(c.args, " "); late && (strings.Contains(line, "user-disk") || strings.Contains(line, "user-key") || strings.Contains(line, "02:00:00:00:00:01")) {
			t.Errorf("something of a person is there before the state: %s", line)
		}
		if len(c.files) != 13 {
			t.Errorf("%d files: all are passed at the start", len(c.files))
		}
		return first, then
	}
	cold, none := devices(false)
	first, then := devices(true)
	if len(none) != 0 || len(then) != 2 || len(first)+len(then) != len(cold) {
		t.Errorf("%d devices, %d later; without a template %d and %d", len(first), len(then), len(cold), len(none))
	}
	for id, d := range cold {
		now := first[id]
		if id == "user-disk" || id == "nic" {
			now = then[id]
		}
		if now == nil || now["bus"] != d["bus"] || now["addr"] != d["addr"] || now["driver"] != d["driver"] {
			t.Errorf("%s is %v with a template, %v without", id, now, d)
		}
	}
}

func TestTwoDevicesNeverHaveOnePlace(t *testing.T) {
	c := machineOf(t).build()
	seen := map[string]string{}
	for i, a := range c.args {
		if a != "-device" {
			continue
		}
		var d struct{ ID, Bus, Addr string }
		if err := json.Unmarshal([]byte(c.args[i+1]), &d); err != nil {
			t.Fatal(err)
		}
		if d.Addr == "" {
			continue // vmgenid is no PCI device, the agent's port hangs on another.
		}
		if other := seen[d.Bus+d.Addr]; other != "" {
			t.Errorf("%s and %s are both at %s %s", other, d.ID, d.Bus, d.Addr)
		}
		seen[d.Bus+d.Addr] = d.ID
	}
	if len(seen) != 10 {
		t.Errorf("places %v", seen)
	}
}

func TestATemplateFitsOnlyMachinesOfItsKind(t *testing.T) {
	size := Size{Processors: 1, Memory: 64 << 20}
	r := templateRecord{State: templateReady, Digest: "d1", Size: size, Accel: TCG, Hardware: hardwareVersion}
	if !r.fits("d1", size, TCG) {
		t.Error("it does not fit its own")
	}
	for name, other := range map[string]bool{
		"another image": r.fits("d2", size, TCG), "another size": r.fits("d1", Size{Processors: 2, Memory: 64 << 20}, TCG), "another processor": r.fits("d1", size, KVM),
	} {
		if other {
			t.Errorf("it fits %s", name)
		}
	}
	for _, change := range []func(*templateRecord){func(r *templateRecord) { r.State = templateRetired }, func(r *templateRecord) { r.State = templateMaking }, func(r *templateRecord) { r.Hardware++ }} {
		other := r
		change(&other)
		if other.fits("d1", size, TCG) {
			t.Errorf("%+v fits", other)
		}
	}
}

func TestALayerIsOpenedByATemplatesNameOnly(t *testing.T) {
	d := &Driver{cfg: Config{Dir: t.TempDir()}}
	if err := os.WriteFile(filepath.Join(d.cfg.Dir, layerFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "..", "../..", "template-/../..", "ws-000000001", "template-0000000000000001"} {
		f, err := d.openLayer(id)
		if driver.AsPermanent(err) == nil {
			t.Errorf("layer %q: %v, %v", id, f, err)
		}
	}
}

func TestALayerHasItsImagesSizeAndNothingElse(t *testing.T) {
	for _, bytes := range []int64{1 << 20, 512 << 20, 512<<20 + 512, 8 << 30, 2000 << 30} {
		f, err := newLayer(filepath.Join(t.TempDir(), "layer"), bytes)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4<<16)
		_, err = f.ReadAt(b, 0)
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		be := binary.BigEndian
		if string(b[:8]) != "QFI\xfb\x00\x00\x00\x03" || int64(be.Uint64(b[24:])) != bytes || be.Uint64(b[8:]) != 0 {
			t.Errorf("header % x", b[:32])
		}
		// One entry of the first table is for 512 MiB.
		if entries := int64(be.Uint32(b[36:])); entries*512<<20 < bytes || (entries-1)*512<<20 >= bytes {
			t.Errorf("%d entries for %d bytes", entries, bytes)
		}
	}
	for _, bytes := range []int64{0, -1, 100, 1 << 50} {
		if _, err := newLayer(filepath.Join(t.TempDir(), "layer"), bytes); err == nil {
			t.Errorf("%d bytes", bytes)
		}
	}
}

// A user id is given once, also to two that ask at once.
func TestNoTwoMachinesAreGivenOneUser(t *testing.T) {
	d := &Driver{cfg: config(t), machines: map[ident.WorkspaceID]*machine{}}
	d.cfg.Memory, d.cfg.UIDs = 1<<40, 20
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			m := &machine{record: record{MemoryBytes: 1 << 20}}
			m.Spec.WorkspaceID = ident.WorkspaceID(fmt.Sprintf("ws-%09d", i))
			if err := d.claim(m); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, m := range d.machines {
		if seen[m.UID] {
			t.Errorf("user %d twice", m.UID)
		}
		seen[m.UID] = true
	}
	if _, err := d.claimTemplate(1); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("one more: %v", err)
	}
	d.unclaim(&machine{record: record{Spec: driver.MachineSpec{WorkspaceID: "ws-000000003"}}})
	if uid, err := d.claimTemplate(1); err != nil || uid == 0 {
		t.Errorf("%d, %v", uid, err)
	}
	if err := d.claim(&machine{record: record{Spec: driver.MachineSpec{WorkspaceID: "ws-000000099"}}}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("the template's user was given away: %v", err)
	}
	d.cfg.Memory = 19<<20 + 1
	if err := d.room(1); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("memory is given twice: %v", err)
	}
}
