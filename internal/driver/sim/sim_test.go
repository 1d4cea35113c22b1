package sim_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/driver/drivertest"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
)

func open(t *testing.T, dir string) *sim.Sim {
	t.Helper()
	times := sim.Times{Start: time.Nanosecond} // not the default ones
	s, err := sim.Open(sim.Config{Dir: dir, Clock: clock.System{}, Random: rand.Reader, Times: times})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Set { return set(t, t.TempDir()) })
}

func set(t *testing.T, dir string) drivertest.Set {
	s := open(t, dir)
	return drivertest.Set{Hypervisor: s.Hypervisor(), Volumes: s.Volumes(), Fabric: s.Fabric(), Display: s.Display(), Domain: s.Domain(),
		Image: "wsi-0a1b2c3d4", Reopen: func(t *testing.T) drivertest.Set { return set(t, dir) }}
}

const desktop = ident.WorkspaceID("ws-000000001")

func start(t *testing.T, s *sim.Sim) driver.MachineSpec {
	t.Helper()
	ctx := t.Context()
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		if _, err := s.Volumes().Create(ctx, driver.VolumeSpec{ID: driver.VolumeOf(desktop, role), WorkspaceID: desktop, Role: role, GiB: 10}); err != nil {
			t.Fatal(err)
		}
	}
	nic := driver.NICSpec{InterfaceID: "eni-00000000000000001", WorkspaceID: desktop, VPC: "vpc-1", Address: "10.0.0.9", MAC: "02:00:00:00:00:01"}
	if _, err := s.Fabric().Attach(ctx, nic); err != nil {
		t.Fatal(err)
	}
	spec := driver.MachineSpec{WorkspaceID: desktop, Root: driver.VolumeOf(desktop, driver.RootVolume), User: driver.VolumeOf(desktop, driver.UserVolume), Interface: nic.InterfaceID}
	if _, err := s.Hypervisor().Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// holds tells whether any file of the simulated host contains the guest's mark.
func holds(t *testing.T, dir string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(filepath.Join(dir, "memory"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || bytes.Contains(data, []byte("memory of "+string(desktop)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestMemory(t *testing.T) {
	t.Run("a running guest's memory holds something and a scrubbed one's does not", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		start(t, s)
		if !holds(t, dir) {
			t.Fatal("a running guest has no memory")
		}
		if _, err := s.Hypervisor().Scrub(t.Context(), desktop); err != nil {
			t.Fatal(err)
		}
		if holds(t, dir) {
			t.Error("memory is left after a scrub")
		}
	})
	t.Run("zeroing that does not stick is found by the read-back, and the machine stays", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		start(t, s)
		if err := s.Faults().Fail("hypervisor", "zero", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Hypervisor().Scrub(t.Context(), desktop); !errors.Is(err, driver.ErrUnclean) {
			t.Errorf("error %v", err)
		}
		if err := s.Hypervisor().Release(t.Context(), desktop); !errors.Is(err, driver.ErrOrder) {
			t.Errorf("release: %v", err)
		}
		if _, err := s.Hypervisor().Scrub(t.Context(), desktop); err != nil {
			t.Errorf("the next scrub: %v", err)
		}
	})
	t.Run("memory and key files that a kill left behind are destroyed at the next start", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		start(t, s)
		journal, err := os.ReadFile(filepath.Join(dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		// As if nothing of it had been written.
		if err := os.WriteFile(filepath.Join(dir, "journal"), nil, 0o600); err != nil || len(journal) == 0 {
			t.Fatal(err, len(journal))
		}
		open(t, dir)
		for _, d := range []string{"memory", "keys"} {
			if files, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(files) != 0 {
				t.Errorf("%s: %v, %v", d, files, err)
			}
		}
	})
}

func TestJournal(t *testing.T) {
	t.Run("cut off at any byte it gives what was there before the last call", func(t *testing.T) {
		dir := t.TempDir()
		start(t, open(t, dir))
		path := filepath.Join(dir, "journal")
		journal, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		last := bytes.LastIndexByte(journal[:len(journal)-1], '\n') + 1
		for cut := last; cut < len(journal); cut += 7 {
			if err := os.WriteFile(path, journal[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			machines, err := s.Hypervisor().List(t.Context())
			if err != nil || len(machines) != 0 {
				t.Fatalf("cut at %d: %v, %v", cut, machines, err)
			}
			if volumes, _ := s.Volumes().List(t.Context()); len(volumes) != 2 {
				t.Fatalf("cut at %d: volumes %v", cut, volumes)
			}
		}
	})
	t.Run("with a line that means nothing it is refused and left as it is", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal")
		for _, bad := range []string{"nonsense\n", `{"kind":"castle","id":"x","value":{}}` + "\n", `{"kind":"machine","id":"x","value":7}` + "\n"} {
			if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := sim.Open(sim.Config{Dir: dir, Clock: clock.System{}, Random: rand.Reader}); err == nil || !strings.Contains(err.Error(), "line 1") {
				t.Errorf("%q: %v", bad, err)
			}
			if data, _ := os.ReadFile(path); string(data) != bad {
				t.Errorf("it was changed to %q", data)
			}
		}
	})
	t.Run("grown by many calls it is written anew with what exists", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		spec := driver.NICSpec{InterfaceID: "eni-00000000000000001", WorkspaceID: desktop, VPC: "vpc-1", Address: "10.0.0.9", MAC: "02:00:00:00:00:01"}
		for range 20_500 {
			if _, err := s.Fabric().Attach(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "journal")); err != nil || info.Size() > 1<<20 {
			t.Errorf("%d bytes, %v", info.Size(), err)
		}
		if nics, err := open(t, dir).Fabric().List(t.Context()); err != nil || len(nics) != 1 {
			t.Errorf("%v, %v", nics, err)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Run("an unknown name is refused with the names there are", func(t *testing.T) {
		f := open(t, t.TempDir()).Faults()
		err := f.Fail("hypervisor", "explode", 1)
		if err == nil || !strings.Contains(err.Error(), "hypervisor scrub") || !strings.Contains(err.Error(), "display ready") {
			t.Errorf("error %v", err)
		}
		if err := f.Fail("hypervisor", "start", -1); err == nil {
			t.Error("-1 times is accepted")
		}
		if a := f.Active(); len(a) != 0 {
			t.Errorf("active %v", a)
		}
	})
	t.Run("a step told to fail twice fails twice, and nothing has happened", func(t *testing.T) {
		s := open(t, t.TempDir())
		if err := s.Faults().Fail("volumes", "create", 2); err != nil {
			t.Fatal(err)
		}
		spec := driver.VolumeSpec{ID: driver.VolumeOf(desktop, driver.UserVolume), WorkspaceID: desktop, Role: driver.UserVolume, GiB: 10}
		for range 2 {
			if _, err := s.Volumes().Create(t.Context(), spec); !errors.Is(err, driver.ErrUnavailable) || driver.AsPermanent(err) != nil {
				t.Errorf("error %v", err)
			}
		}
		if v, _ := s.Volumes().List(t.Context()); len(v) != 0 {
			t.Errorf("volumes %v", v)
		}
		if _, err := s.Volumes().Create(t.Context(), spec); err != nil {
			t.Error(err)
		}
	})
	t.Run("a lost answer leaves the effect", func(t *testing.T) {
		s := open(t, t.TempDir())
		if err := s.Faults().Fail("volumes", "create-answer", 1); err != nil {
			t.Fatal(err)
		}
		spec := driver.VolumeSpec{ID: driver.VolumeOf(desktop, driver.UserVolume), WorkspaceID: desktop, Role: driver.UserVolume, GiB: 10}
		if _, err := s.Volumes().Create(t.Context(), spec); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		if v, _ := s.Volumes().List(t.Context()); len(v) != 1 {
			t.Errorf("volumes %v", v)
		}
	})
	t.Run("0 times is for good until cleared", func(t *testing.T) {
		s := open(t, t.TempDir())
		if err := s.Faults().Fail("hypervisor", "place", 0); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := s.Hypervisor().Place(t.Context(), driver.MachineSpec{WorkspaceID: desktop}); driver.AsPermanent(err) == nil {
				t.Errorf("error %v", err)
			}
		}
		if a := s.Faults().Active(); len(a) != 1 || a[0] != (sim.Fault{Driver: "hypervisor", Step: "place"}) {
			t.Errorf("active %v", a)
		}
		s.Faults().Clear()
		if _, err := s.Hypervisor().Place(t.Context(), driver.MachineSpec{WorkspaceID: desktop}); err != nil {
			t.Error(err)
		}
	})
}

func TestTime(t *testing.T) {
	t.Run("work takes its time on the simulation's clock, a second call meanwhile is told that it is busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := &clock.Movable{}
			s, err := sim.Open(sim.Config{Dir: t.TempDir(), Clock: c, Random: rand.Reader, Times: sim.Times{Provision: 20 * time.Minute}})
			if err != nil {
				t.Fatal(err)
			}
			spec := driver.DomainSpec{DirectoryID: "d-90670a1b2c", Name: "corp.example.com", Controllers: []driver.DomainController{{Address: "10.0.0.5"}}}
			done := make(chan error, 1)
			go func() {
				_, err := s.Domain().Provision(t.Context(), spec)
				done <- err
			}()
			synctest.Wait()
			if _, err := s.Domain().Provision(t.Context(), spec); !errors.Is(err, driver.ErrBusy) {
				t.Errorf("second call: %v", err)
			}
			c.Advance(20 * time.Minute)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("work given up half way has had no effect", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, err := sim.Open(sim.Config{Dir: t.TempDir(), Clock: clock.System{}, Random: rand.Reader})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			spec := driver.DomainSpec{DirectoryID: "d-90670a1b2c", Name: "corp.example.com", Controllers: []driver.DomainController{{Address: "10.0.0.5"}}}
			if _, err := s.Domain().Provision(ctx, spec); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if l, _ := s.Domain().List(t.Context()); len(l) != 0 {
				t.Errorf("domains %v", l)
			}
		})
	})
}

func TestUsers(t *testing.T) {
	const corp = ident.DirectoryID("d-90670a1b2c")
	dir := t.TempDir()
	d := open(t, dir).Domain()
	if _, err := d.Lookup(t.Context(), corp, "ada"); !errors.Is(err, directory.ErrNoDirectory) {
		t.Errorf("before there is a directory: %v", err)
	}
	if _, err := d.AddUser(corp, "alan"); !errors.Is(err, directory.ErrNoDirectory) {
		t.Errorf("before there is a directory: %v", err)
	}
	spec := driver.DomainSpec{DirectoryID: corp, Name: "corp.example.com", Controllers: []driver.DomainController{{Address: "10.0.0.5"}}}
	if _, err := d.Provision(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for asked, spelled := range map[string]string{"ada": "ada", "ADA": "ada", "Grace": "grace"} {
		u, err := d.Lookup(t.Context(), corp, asked)
		if err != nil || u.Name != spelled || !u.Enabled || !strings.HasPrefix(u.SID, "S-1-5-21-") || u.Email != spelled+"@corp.example.com" {
			t.Errorf("%s: %+v, %v", asked, u, err)
		}
	}
	if _, err := d.Lookup(t.Context(), corp, "alan"); !errors.Is(err, directory.ErrNoUser) {
		t.Errorf("alan: %v", err)
	}
	first, err := d.AddUser(corp, "alan")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"Alan", "", "a/b", "a@b", " x", strings.Repeat("x", 64)} {
		if u, err := d.AddUser(corp, bad); err == nil {
			t.Errorf("%q was added as %+v", bad, u)
		}
	}
	d = open(t, dir).Domain()
	if u, err := d.Lookup(t.Context(), corp, "alan"); err != nil || u != first {
		t.Errorf("after a restart: %+v, %v", u, err)
	}
	if err := d.RemoveUser(corp, "ALAN"); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveUser(corp, "alan"); !errors.Is(err, directory.ErrNoUser) {
		t.Errorf("removed twice: %v", err)
	}
	again, err := d.AddUser(corp, "alan")
	if err != nil || again.SID == first.SID {
		t.Errorf("made again he has the same SID: %+v, %v", again, err)
	}
	if err := d.Remove(t.Context(), corp); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lookup(t.Context(), corp, "ada"); !errors.Is(err, directory.ErrNoDirectory) {
		t.Errorf("after removal: %v", err)
	}
}
