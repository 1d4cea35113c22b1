// Package drivertest is the conformance suite of the driver contracts: what every implementation, the simulated one included, must do.
//
// It refuses to look inside an implementation; everything is asked through the contracts.
package drivertest

import (
	"errors"
	"slices"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Set is one host's drivers with nothing in them. Images are the driver's own: Image is one it can make root volumes from.
type Set struct {
	Hypervisor driver.Hypervisor
	Volumes    driver.Volumes
	Fabric     driver.Fabric
	Display    driver.Display
	Domain     driver.Domain
	Image      ident.ImageID
	// Busy stands in for Hypervisor where one driver is tested alone (Volumes, Fabric): it uses the desktop's volumes or interface as a
	// running machine does, and gives what ends that.
	Busy func(t *testing.T, volumes []driver.VolumeID, nic ident.InterfaceID) (end func())
	// Reopen ends the process that holds the drivers, as a kill would, and gives the same host's drivers anew.
	Reopen func(*testing.T) Set
}

const (
	one   = ident.WorkspaceID("ws-000000001")
	two   = ident.WorkspaceID("ws-000000002")
	eni1  = ident.InterfaceID("eni-00000000000000001")
	eni2  = ident.InterfaceID("eni-00000000000000002")
	vpc   = ident.VPCID("vpc-0a1b2c3d4e5f60718")
	other = ident.VPCID("vpc-0a1b2c3d4e5f60719")
	corp  = ident.DirectoryID("d-90670a1b2c")
)

// Run runs the suite; fresh gives an empty host for each test.
func Run(t *testing.T, fresh func(*testing.T) Set) {
	t.Run("Volumes", func(t *testing.T) { volumes(t, fresh) })
	t.Run("Fabric", func(t *testing.T) { fabric(t, fresh) })
	t.Run("Hypervisor", func(t *testing.T) { hypervisor(t, fresh) })
	t.Run("Scrub", func(t *testing.T) { scrub(t, fresh) })
	t.Run("Domain", func(t *testing.T) { domain(t, fresh) })
}

// Volumes is Run for one driver alone; Hypervisor and Fabric may be nil if Busy is set.
func Volumes(t *testing.T, fresh func(*testing.T) Set) { volumes(t, fresh) }

// Fabric is Run for one driver alone; Hypervisor and Volumes may be nil if Busy is set.
func Fabric(t *testing.T, fresh func(*testing.T) Set) { fabric(t, fresh) }

// Domain is Run for one driver alone.
func Domain(t *testing.T, fresh func(*testing.T) Set) { domain(t, fresh) }

// occupy makes what a machine of id uses, and uses it, until the function it gives is called.
func (s Set) occupy(t *testing.T, id ident.WorkspaceID, nic driver.NICSpec) (end func()) {
	t.Helper()
	if s.Hypervisor != nil {
		s.build(t, id, nic)
		return func() { must(t, "stop")(s.Hypervisor.Stop(t.Context(), id)) }
	}
	var ids []driver.VolumeID
	if s.Volumes != nil {
		for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
			must(t, "create volume")(s.Volumes.Create(t.Context(), volumeSpec(id, role, s.Image)))
			ids = append(ids, driver.VolumeOf(id, role))
		}
	}
	if s.Fabric != nil {
		must(t, "attach")(s.Fabric.Attach(t.Context(), nic))
	}
	return s.Busy(t, ids, nic.InterfaceID)
}

func volumeSpec(id ident.WorkspaceID, role driver.VolumeRole, image ident.ImageID) driver.VolumeSpec {
	s := driver.VolumeSpec{ID: driver.VolumeOf(id, role), WorkspaceID: id, Role: role, GiB: 1}
	if role == driver.RootVolume {
		s.ImageID = image
	}
	return s
}

func nicSpec(id ident.InterfaceID, ws ident.WorkspaceID, in ident.VPCID, address string) driver.NICSpec {
	return driver.NICSpec{InterfaceID: id, WorkspaceID: ws, VPC: in, Subnet: "subnet-0a1b2c3d4e5f60718", Address: address,
		MAC: "02:00:00:00:00:" + string(id[len(id)-2:]), SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"},
		VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.0.0/24"}
}

func machineSpec(id ident.WorkspaceID, nic ident.InterfaceID) driver.MachineSpec {
	return driver.MachineSpec{WorkspaceID: id, ComputerName: "WSAMZN-0000000" + string(id[len(id)-1:]), Compute: "STANDARD",
		Root: driver.VolumeOf(id, driver.RootVolume), User: driver.VolumeOf(id, driver.UserVolume), Interface: nic}
}

// build makes all that a machine needs, places it and starts it.
func (s Set) build(t *testing.T, id ident.WorkspaceID, nic driver.NICSpec) driver.MachineSpec {
	t.Helper()
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		must(t, "create volume")(s.Volumes.Create(t.Context(), volumeSpec(id, role, s.Image)))
	}
	must(t, "attach")(s.Fabric.Attach(t.Context(), nic))
	spec := machineSpec(id, nic.InterfaceID)
	host, err := s.Hypervisor.Place(t.Context(), spec)
	if err != nil || host == "" {
		t.Fatalf("place: %q, %v", host, err)
	}
	spec.Host = host
	must(t, "start")(s.Hypervisor.Start(t.Context(), spec))
	return spec
}

// must ends the test at an error.
func must(t *testing.T, what string) func(any, error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// want checks the kind of an error; nil wants success.
func want(t *testing.T, what string, err, kind error) {
	t.Helper()
	if kind == nil && err != nil || !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func wantPermanent(t *testing.T, what string, err error) {
	t.Helper()
	if p := driver.AsPermanent(err); p == nil || p.Code == "" {
		t.Errorf("%s: %v, want a PermanentError with a code", what, err)
	}
}

func volumes(t *testing.T, fresh func(*testing.T) Set) {
	root := driver.VolumeOf(one, driver.RootVolume)
	t.Run("a volume made twice is one volume with the same key", func(t *testing.T) {
		s := fresh(t)
		first, err := s.Volumes.Create(t.Context(), volumeSpec(one, driver.RootVolume, s.Image))
		want(t, "create", err, nil)
		again, err := s.Volumes.Create(t.Context(), volumeSpec(one, driver.RootVolume, s.Image))
		want(t, "create again", err, nil)
		list, err := s.Volumes.List(t.Context())
		want(t, "list", err, nil)
		if first != again || first.KeyID == "" || len(list) != 1 || list[0] != first || first.WorkspaceID != one {
			t.Errorf("%+v, %+v, %+v", first, again, list)
		}
	})
	t.Run("every volume has a key of its own", func(t *testing.T) {
		s := fresh(t)
		keys := map[string]bool{}
		for _, id := range []ident.WorkspaceID{one, two} {
			for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
				v, err := s.Volumes.Create(t.Context(), volumeSpec(id, role, s.Image))
				want(t, "create", err, nil)
				keys[v.KeyID] = true
			}
		}
		if len(keys) != 4 {
			t.Errorf("keys %v", keys)
		}
	})
	t.Run("a volume is erased, then released, and both may be asked for again", func(t *testing.T) {
		s := fresh(t)
		v, err := s.Volumes.Create(t.Context(), volumeSpec(one, driver.RootVolume, s.Image))
		want(t, "create", err, nil)
		want(t, "release before erase", s.Volumes.Release(t.Context(), root), driver.ErrOrder)
		first, err := s.Volumes.Erase(t.Context(), root)
		want(t, "erase", err, nil)
		if !first.Verified || first.KeyID != v.KeyID || first.VolumeID != root || first.At.IsZero() {
			t.Errorf("erasure %+v", first)
		}
		s = s.Reopen(t)
		again, err := s.Volumes.Erase(t.Context(), root)
		want(t, "erase again", err, nil)
		if !again.At.Equal(first.At) || again.KeyID != first.KeyID {
			t.Errorf("another report: %+v after %+v", again, first)
		}
		_, err = s.Volumes.Create(t.Context(), volumeSpec(one, driver.RootVolume, s.Image))
		want(t, "create over an erased volume", err, driver.ErrOrder)
		want(t, "release", s.Volumes.Release(t.Context(), root), nil)
		want(t, "release again", s.Volumes.Release(t.Context(), root), nil)
		_, err = s.Volumes.Erase(t.Context(), root)
		want(t, "erase a released volume", err, driver.ErrNotFound)
	})
	t.Run("a running machine's volume cannot be erased", func(t *testing.T) {
		s := fresh(t)
		end := s.occupy(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		_, err := s.Volumes.Erase(t.Context(), root)
		want(t, "erase", err, driver.ErrOrder)
		end()
	})
	t.Run("a size that cannot be is refused for good", func(t *testing.T) {
		s := fresh(t)
		spec := volumeSpec(one, driver.RootVolume, s.Image)
		spec.GiB = 0
		_, err := s.Volumes.Create(t.Context(), spec)
		wantPermanent(t, "create", err)
	})
}

func fabric(t *testing.T, fresh func(*testing.T) Set) {
	t.Run("an interface attached again gets its new security groups", func(t *testing.T) {
		s := fresh(t)
		spec := nicSpec(eni1, one, vpc, "10.0.0.10")
		must(t, "attach")(s.Fabric.Attach(t.Context(), spec))
		spec.SecurityGroups = []ident.SecurityGroupID{"sg-00000000000000001", "sg-00000000000000002"}
		must(t, "attach again")(s.Fabric.Attach(t.Context(), spec))
		list, err := s.Reopen(t).Fabric.List(t.Context())
		want(t, "list", err, nil)
		if len(list) != 1 || !slices.Equal(list[0].SecurityGroups, spec.SecurityGroups) || list[0].WorkspaceID != one || list[0].MAC != spec.MAC {
			t.Errorf("list %+v", list)
		}
	})
	t.Run("an address can be had once in a VPC and again in another", func(t *testing.T) {
		s := fresh(t)
		must(t, "attach")(s.Fabric.Attach(t.Context(), nicSpec(eni1, one, vpc, "10.0.0.10")))
		_, err := s.Fabric.Attach(t.Context(), nicSpec(eni2, two, vpc, "10.0.0.10"))
		wantPermanent(t, "attach a taken address", err)
		must(t, "attach elsewhere")(s.Fabric.Attach(t.Context(), nicSpec(eni2, two, other, "10.0.0.10")))
	})
	t.Run("an interface cannot change its address or its desktop", func(t *testing.T) {
		s := fresh(t)
		must(t, "attach")(s.Fabric.Attach(t.Context(), nicSpec(eni1, one, vpc, "10.0.0.10")))
		_, err := s.Fabric.Attach(t.Context(), nicSpec(eni1, one, vpc, "10.0.0.11"))
		wantPermanent(t, "another address", err)
		_, err = s.Fabric.Attach(t.Context(), nicSpec(eni1, two, vpc, "10.0.0.10"))
		wantPermanent(t, "another desktop", err)
	})
	t.Run("what a running machine uses stays; detaching twice is success", func(t *testing.T) {
		s := fresh(t)
		end := s.occupy(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		want(t, "detach", s.Fabric.Detach(t.Context(), eni1), driver.ErrOrder)
		end()
		want(t, "detach", s.Fabric.Detach(t.Context(), eni1), nil)
		want(t, "detach again", s.Fabric.Detach(t.Context(), eni1), nil)
	})
}

func hypervisor(t *testing.T, fresh func(*testing.T) Set) {
	t.Run("a machine without its volumes or interface does not start", func(t *testing.T) {
		s := fresh(t)
		_, err := s.Hypervisor.Start(t.Context(), machineSpec(one, eni1))
		want(t, "start", err, driver.ErrNotFound)
	})
	t.Run("what was never there is not found", func(t *testing.T) {
		s := fresh(t)
		_, err := s.Hypervisor.Inspect(t.Context(), one)
		want(t, "inspect", err, driver.ErrNotFound)
		_, err = s.Hypervisor.Stop(t.Context(), one)
		want(t, "stop", err, driver.ErrNotFound)
		_, err = s.Hypervisor.Reboot(t.Context(), one, 1)
		want(t, "reboot", err, driver.ErrNotFound)
		_, err = s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub", err, driver.ErrNotFound)
		want(t, "ready", s.Display.Ready(t.Context(), one), driver.ErrNotFound)
		want(t, "release", s.Hypervisor.Release(t.Context(), one), nil)
	})
	t.Run("started twice it is one run, which outlives the process", func(t *testing.T) {
		s := fresh(t)
		spec := s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		want(t, "ready", s.Display.Ready(t.Context(), one), nil)
		m, err := s.Hypervisor.Inspect(t.Context(), one)
		want(t, "inspect", err, nil)
		s = s.Reopen(t)
		again, err := s.Hypervisor.Start(t.Context(), spec)
		want(t, "start again", err, nil)
		if m.State != driver.MachineRunning || m.MemoryBytes <= 0 || m.Run == "" || m.Run != again.Run || m.Host != spec.Host {
			t.Errorf("%+v, then %+v", m, again)
		}
	})
	t.Run("stopped it holds no memory, and starts again as a new run", func(t *testing.T) {
		s := fresh(t)
		spec := s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		before, err := s.Hypervisor.Inspect(t.Context(), one)
		want(t, "inspect", err, nil)
		m, err := s.Hypervisor.Stop(t.Context(), one)
		want(t, "stop", err, nil)
		if m.State != driver.MachineStopped || m.MemoryBytes != 0 {
			t.Errorf("stopped: %+v", m)
		}
		s = s.Reopen(t)
		must(t, "stop again")(s.Hypervisor.Stop(t.Context(), one))
		want(t, "ready", s.Display.Ready(t.Context(), one), driver.ErrOrder)
		_, err = s.Hypervisor.Reboot(t.Context(), one, 1)
		want(t, "reboot a stopped machine", err, driver.ErrOrder)
		m, err = s.Hypervisor.Start(t.Context(), spec)
		want(t, "start", err, nil)
		if m.State != driver.MachineRunning || m.Run == before.Run {
			t.Errorf("started again: %+v after %+v", m, before)
		}
	})
	t.Run("asked twice for the same reboot it reboots once", func(t *testing.T) {
		s := fresh(t)
		s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		m, err := s.Hypervisor.Reboot(t.Context(), one, 1)
		want(t, "reboot", err, nil)
		again, err := s.Hypervisor.Reboot(t.Context(), one, 1)
		want(t, "reboot again", err, nil)
		if m.Reboots != 1 || again.Reboots != 1 || !again.Since.Equal(m.Since) {
			t.Errorf("%+v, then %+v", m, again)
		}
	})
	t.Run("all machines are listed in order", func(t *testing.T) {
		s := fresh(t)
		s.build(t, two, nicSpec(eni2, two, vpc, "10.0.0.11"))
		s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		list, err := s.Hypervisor.List(t.Context())
		want(t, "list", err, nil)
		if len(list) != 2 || list[0].WorkspaceID != one || list[1].WorkspaceID != two {
			t.Errorf("list %+v", list)
		}
	})
}

func domain(t *testing.T, fresh func(*testing.T) Set) {
	spec := driver.DomainSpec{DirectoryID: corp, Type: "SimpleAD", Name: "corp.example.com", ShortName: "CORP", VPC: vpc,
		Controllers: []driver.DomainController{{Subnet: "subnet-0a1b2c3d4e5f6071a", Address: "10.0.1.5"}, {Subnet: "subnet-0a1b2c3d4e5f6071b", Address: "10.0.2.5"}}}
	t.Run("a domain made twice is one that answers, and outlives the process", func(t *testing.T) {
		s := fresh(t)
		must(t, "provision")(s.Domain.Provision(t.Context(), spec))
		s = s.Reopen(t)
		must(t, "provision again")(s.Domain.Provision(t.Context(), spec))
		info, err := s.Domain.Inspect(t.Context(), corp)
		want(t, "inspect", err, nil)
		list, err := s.Domain.List(t.Context())
		want(t, "list", err, nil)
		if info.Stage != driver.DomainActive || !slices.Equal(info.DNSAddresses, []string{"10.0.1.5", "10.0.2.5"}) || len(list) != 1 {
			t.Errorf("%+v, list %+v", info, list)
		}
	})
	t.Run("a removed domain is gone and may be removed again", func(t *testing.T) {
		s := fresh(t)
		must(t, "provision")(s.Domain.Provision(t.Context(), spec))
		want(t, "remove", s.Domain.Remove(t.Context(), corp), nil)
		want(t, "remove again", s.Domain.Remove(t.Context(), corp), nil)
		_, err := s.Domain.Inspect(t.Context(), corp)
		want(t, "inspect", err, driver.ErrNotFound)
	})
	t.Run("a domain without a name is refused for good", func(t *testing.T) {
		s := fresh(t)
		nameless := spec
		nameless.Name = ""
		_, err := s.Domain.Provision(t.Context(), nameless)
		wantPermanent(t, "provision", err)
	})
}
