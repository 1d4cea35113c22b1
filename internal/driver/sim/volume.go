package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// volume is what the journal keeps of a volume.
type volume struct {
	driver.Volume
	Report *driver.Erasure `json:",omitempty"`
}

func (v *volume) info() driver.Volume { return v.Volume }

// Volumes is the simulated driver.Volumes: no data, but keys that exist as files until they are destroyed.
type Volumes struct{ sim *Sim }

var _ driver.Volumes = (*Volumes)(nil)

// Create makes the volume and its key.
func (d *Volumes) Create(ctx context.Context, spec driver.VolumeSpec) (driver.Volume, error) {
	s := d.sim
	var out driver.Volume
	err := s.do(ctx, call{"volumes", "create", string(spec.ID), s.times.Volume}, func() error {
		if v, ok := s.volumes[spec.ID]; ok {
			if v.Erased {
				return driver.ErrOrder
			}
			out = v.Volume
			return nil
		}
		if spec.ID != driver.VolumeOf(spec.WorkspaceID, spec.Role) || spec.GiB <= 0 {
			return driver.Permanent("InvalidVolume", fmt.Errorf("volume %q of %d GiB", spec.ID, spec.GiB))
		}
		v := &volume{Volume: driver.Volume{ID: spec.ID, WorkspaceID: spec.WorkspaceID, Role: spec.Role, GiB: spec.GiB, KeyID: "sim-key-" + ident.Hex(s.random, 12)}}
		if err := s.save("volume", string(spec.ID), v); err != nil {
			return err
		}
		s.volumes[spec.ID] = v
		out = v.Volume
		return s.writeKey(spec.ID)
	})
	return out, err
}

// Erase destroys the key file and looks whether it is gone.
func (d *Volumes) Erase(ctx context.Context, id driver.VolumeID) (driver.Erasure, error) {
	s := d.sim
	var out driver.Erasure
	err := s.do(ctx, call{"volumes", "erase", string(id), s.times.Erase}, func() error {
		v, ok := s.volumes[id]
		if !ok {
			return driver.ErrNotFound
		}
		if v.Erased {
			out = *v.Report
			return nil
		}
		if m := s.machines[v.WorkspaceID]; m != nil && m.State == driver.MachineRunning {
			return driver.ErrOrder
		}
		if err := destroyFile(s.keyFile(id)); err != nil {
			return err
		}
		_, err := os.Stat(s.keyFile(id))
		report := &driver.Erasure{VolumeID: id, KeyID: v.KeyID, Method: "simulated", Verified: errors.Is(err, fs.ErrNotExist), At: s.now()}
		next := &volume{Volume: v.Volume, Report: report}
		next.Erased = true
		if err := s.save("volume", string(id), next); err != nil {
			return err
		}
		s.volumes[id] = next
		out = *report
		return nil
	})
	return out, err
}

// Release forgets an erased volume.
func (d *Volumes) Release(ctx context.Context, id driver.VolumeID) error {
	s := d.sim
	return s.do(ctx, call{"volumes", "release", string(id), 0}, func() error {
		v, ok := s.volumes[id]
		if !ok {
			return nil
		}
		if !v.Erased {
			return driver.ErrOrder
		}
		if err := s.save("volume", string(id), nil); err != nil {
			return err
		}
		delete(s.volumes, id)
		return nil
	})
}

// List gives all volumes.
func (d *Volumes) List(context.Context) ([]driver.Volume, error) {
	if err := d.sim.faults.strike("volumes", "list"); err != nil {
		return nil, err
	}
	return list(d.sim, d.sim.volumes, (*volume).info)
}
